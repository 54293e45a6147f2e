// SPDX-License-Identifier: Apache-2.0
// PERSISTENT RESERVE IN and OUT, RESERVE and RELEASE at the device: the bytes, what conflicts, what waits for
// what.
#include <gtest/gtest.h>

#include "scsi/command_table.hpp"
#include "scsi/test_support.hpp"

namespace perilune::scsi {
namespace {

using namespace test;
using enum ScsiStatus;

constexpr std::uint8_t we = 1, ea = 3, we_ro = 5, ea_ro = 6, we_ar = 7;
enum Action : std::uint8_t {
  register_key,
  reserve,
  release,
  clear,
  preempt,
  preempt_and_abort,
  register_and_ignore,
  register_and_move
};

// Answers when it is told to.
class HeldStore final : public UnitStore {
 public:
  void save(std::vector<std::uint8_t> record, std::function<void(bool)> done) override {
    records.push_back(std::move(record));
    done_ = std::move(done);
  }
  [[nodiscard]] bool waits() const { return static_cast<bool>(done_); }
  void answer(bool durable) {
    auto done = std::move(done_);
    done_ = nullptr;
    done(durable);
  }
  [[nodiscard]] DurableState last() const { return *decode_durable_state(records.back()); }
  std::vector<std::vector<std::uint8_t>> records;

 private:
  std::function<void(bool)> done_;
};

std::vector<std::uint8_t> out_cdb(Action action, std::uint8_t type = 0, std::uint32_t length = 24) {
  std::vector<std::uint8_t> cdb{0x5f, action, type, 0, 0, 0, 0, 0, 0, 0};
  store_be32(&cdb[5], length);
  return cdb;
}
std::vector<std::uint8_t> out_list(std::uint64_t key, std::uint64_t action_key, std::uint8_t flags = 0) {
  std::vector<std::uint8_t> list(24);
  store_be64(&list[0], key);
  store_be64(&list[8], action_key);
  list[20] = flags;
  return list;
}
void append_port(std::vector<std::uint8_t>& list, std::string_view name, std::uint8_t format = 0x45) {
  const std::size_t additional = std::max<std::size_t>(20, (name.size() + 4) / 4 * 4);
  const std::size_t at = list.size();
  list.resize(at + 4 + additional);
  list[at] = format;
  list[at + 3] = static_cast<std::uint8_t>(additional);
  std::copy(name.begin(), name.end(), list.begin() + static_cast<std::ptrdiff_t>(at + 4));
}
// REGISTER with SPEC_I_PT; the length of the TransportIDs is right.
std::vector<std::uint8_t> with_ports(std::vector<std::uint8_t> list,
                                     std::initializer_list<std::string_view> ports) {
  list[20] |= 0x08;
  list.resize(28);
  for (const std::string_view port : ports) append_port(list, port);
  store_be32(&list[24], static_cast<std::uint32_t>(list.size() - 28));
  return list;
}

struct ReservationRig : Rig {
  ReservationRig() = default;
  explicit ReservationRig(block::Geometry geometry) : Rig(geometry) {}

  ScsiStatus out(Nexus& nexus, Action action, std::uint64_t key, std::uint64_t action_key = 0,
                 std::uint8_t type = 0, std::uint8_t flags = 0) {
    Io io(device, nexus, out_cdb(action, type), out_list(key, action_key, flags));
    io.run();
    sense = io.sense();
    return io.status();
  }
  ScsiStatus send(Nexus& nexus, std::vector<std::uint8_t> cdb, std::vector<std::uint8_t> data = {}) {
    Io io(device, nexus, std::move(cdb), std::move(data), 4096);
    io.run();
    sense = io.sense();
    field = io.task.sense_length >= 18 ? load_be16(&io.task.sense[16]) : 0xffff;
    return io.status();
  }
  std::vector<std::uint8_t> in(Nexus& nexus, std::uint8_t action, std::uint16_t length = 1024) {
    Io io(device, nexus,
          {0x5e, action, 0, 0, 0, 0, 0, static_cast<std::uint8_t>(length >> 8),
           static_cast<std::uint8_t>(length), 0},
          {}, 4096);
    EXPECT_EQ(io.run().status(), good);
    return io.data_in();
  }
  std::uint32_t attention(Nexus& nexus) {
    return send(nexus, {0, 0, 0, 0, 0, 0}) == check_condition ? sense : 0;
  }
  std::uint32_t sense = 0;
  std::uint16_t field = 0;
};

const std::vector<std::uint8_t> write_block = {0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0};
const std::vector<std::uint8_t> read_block = {0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0};

// ---- the bytes

TEST(PersistentReserveIn, ReadKeys) {
  ReservationRig rig;
  EXPECT_EQ(rig.in(rig.a, 0), (std::vector<std::uint8_t>{0, 0, 0, 0, 0, 0, 0, 0}));
  rig.out(rig.a, register_key, 0, 0x0102030405060708);
  rig.out(rig.b, register_key, 0, 0xf);
  EXPECT_EQ(rig.in(rig.b, 0), (std::vector<std::uint8_t>{0, 0, 0, 2, 0, 0, 0, 16, 1, 2, 3, 4,
                                                         5, 6, 7, 8, 0, 0, 0, 0,  0, 0, 0, 0xf}));
  EXPECT_EQ(rig.in(rig.b, 0, 9), (std::vector<std::uint8_t>{0, 0, 0, 2, 0, 0, 0, 16, 1}))
      << "cut, and the length stays";
}

TEST(PersistentReserveIn, ReadReservation) {
  ReservationRig rig;
  rig.out(rig.a, register_key, 0, 5);
  EXPECT_EQ(rig.in(rig.a, 1), (std::vector<std::uint8_t>{0, 0, 0, 1, 0, 0, 0, 0}));
  EXPECT_EQ(rig.out(rig.a, reserve, 5, 0, ea_ro), good);
  EXPECT_EQ(rig.in(rig.b, 1), (std::vector<std::uint8_t>{0, 0, 0, 1, 0, 0, 0, 16, 0, 0, 0, 0,
                                                         0, 0, 0, 5, 0, 0, 0, 0,  0, 6, 0, 0}));
  EXPECT_EQ(rig.out(rig.a, preempt, 5, 5, we_ar), good);
  EXPECT_EQ(rig.in(rig.b, 1), (std::vector<std::uint8_t>{0, 0, 0, 2, 0, 0, 0, 16, 0, 0, 0, 0,
                                                         0, 0, 0, 0, 0, 0, 0, 0,  0, 7, 0, 0}));
}

TEST(PersistentReserveIn, ReportCapabilities) {
  ReservationRig rig;
  EXPECT_EQ(rig.in(rig.a, 2), (std::vector<std::uint8_t>{0, 8, 0x1c, 0xb0, 0xea, 0x01, 0, 0}));
}

TEST(PersistentReserveIn, ReadFullStatus) {
  ReservationRig rig;
  rig.out(rig.a, register_key, 0, 5);
  rig.out(rig.b, register_key, 0, 6, 0, 0x04);  // ALL_TG_PT
  rig.out(rig.a, reserve, 5, 0, we);
  std::vector<std::uint8_t> expected{0, 0, 0, 2, 0,    0,    0, 0, 0, 0, 0, 0, 0, 0, 0, 5,
                                     0, 0, 0, 0, 0x01, 0x01, 0, 0, 0, 0, 0, 1, 0, 0, 0, 44};
  append_port(expected, "iqn.2026-11.example:a,i,0x400001370000");
  const std::vector<std::uint8_t> second{0,    0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0,
                                         0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 44};
  expected.insert(expected.end(), second.begin(), second.end());
  append_port(expected, "iqn.2026-11.example:b,i,0x400001370000");
  expected[7] = static_cast<std::uint8_t>(expected.size() - 8);
  EXPECT_EQ(rig.in(rig.b, 3), expected);
}

TEST(PersistentReserveOut, TheListIsOf24Bytes) {
  ReservationRig rig;
  for (const std::uint32_t length : {0u, 8u, 23u, 25u, 28u, 65537u, 0xffffffffu}) {
    EXPECT_EQ(rig.send(rig.a, out_cdb(register_key, 0, length), bytes(std::min(length, 64u), 0)),
              check_condition);
    EXPECT_EQ(rig.sense, 0x051a00u) << length;
  }
  EXPECT_EQ(rig.send(rig.a, out_cdb(register_key), bytes(16, 0)), check_condition)
      << "less came than the CDB says";
  EXPECT_EQ(rig.sense, 0x051a00u);
}

TEST(PersistentReserveOut, ReservedFieldsAreNamed) {
  ReservationRig rig;
  auto list = out_list(0, 5);
  for (const auto& [byte, value] :
       std::vector<std::pair<int, int>>{{20, 0x80}, {20, 0x10}, {20, 0x02}, {21, 0x01}}) {
    auto bad = list;
    bad[static_cast<std::size_t>(byte)] = static_cast<std::uint8_t>(value);
    EXPECT_EQ(rig.send(rig.a, out_cdb(register_key), bad), check_condition);
    EXPECT_EQ(rig.sense, 0x052600u);
    EXPECT_EQ(rig.field, byte);
  }
  list[16] = list[19] = list[22] = list[23] = 0xff;  // obsolete
  EXPECT_EQ(rig.send(rig.a, out_cdb(register_key), list), good);
}

TEST(PersistentReserveOut, ServiceActionsBeyondTheLastAreInvalid) {
  ReservationRig rig;
  for (std::uint8_t action = 8; action < 32; ++action) {
    EXPECT_EQ(rig.send(rig.a, out_cdb(static_cast<Action>(action)), out_list(0, 5)), check_condition);
    EXPECT_EQ(rig.sense, 0x052400u);
    EXPECT_EQ(rig.field, 1);
    if (action < 16) continue;
    EXPECT_EQ(rig.send(rig.a, {0x5e, action, 0, 0, 0, 0, 0, 0, 255, 0}), check_condition);
    EXPECT_EQ(rig.sense, 0x052400u);
  }
}

TEST(PersistentReserveOut, ScopeAndTypeMatterToReserveAndAreIgnoredByRegister) {
  ReservationRig rig;
  EXPECT_EQ(rig.out(rig.a, register_key, 0, 5, 0xff), good);
  for (const int type : {0x11, 0x02, 0x00, 0x09}) {
    EXPECT_EQ(rig.send(rig.a, out_cdb(reserve, static_cast<std::uint8_t>(type)), out_list(5, 0)),
              check_condition);
    EXPECT_EQ(rig.sense, 0x052400u);
    EXPECT_EQ(rig.field, 2);
  }
}

TEST(PersistentReserveOut, InvalidReleaseHasItsOwnSense) {
  ReservationRig rig;
  rig.out(rig.a, register_key, 0, 5);
  rig.out(rig.a, reserve, 5, 0, we);
  EXPECT_EQ(rig.out(rig.a, release, 5, 0, ea), check_condition);
  EXPECT_EQ(rig.sense, 0x052604u);
}

TEST(PersistentReserveOut, AptplIsRefusedWhereNothingIsKept) {
  ReservationRig rig;
  EXPECT_EQ(rig.send(rig.a, out_cdb(register_key), out_list(0, 5, 0x01)), check_condition);
  EXPECT_EQ(rig.sense, 0x052600u);
  EXPECT_EQ(rig.field, 20);
  EXPECT_TRUE(rig.unit.reservations().registrations.empty());
}

TEST(PersistentReserveOut, SpecifiedPortsAreRegistered) {
  ReservationRig rig;
  const auto list = with_ports(out_list(0, 5),
                               {"iqn.2026-11.example:b,i,0x400001370000", "iqn.elsewhere,i,0x000000000001"});
  EXPECT_EQ(rig.send(rig.a, out_cdb(register_key, 0, static_cast<std::uint32_t>(list.size())), list), good);
  EXPECT_EQ(rig.unit.reservations().registrations.size(), 3u);
  EXPECT_EQ(rig.out(rig.b, reserve, 5, 0, we), good);
}

TEST(PersistentReserveOut, ADeviceNameStandsForItsKnownPorts) {
  ReservationRig rig;
  Nexus second(rig.device, {.initiator_port = "iqn.2026-11.example:b,i,0x400001370001", .target_port = "t"});
  auto list = with_ports(out_list(0, 5), {});
  append_port(list, "iqn.2026-11.example:b", 0x05);
  list[27] = static_cast<std::uint8_t>(list.size() - 28);
  EXPECT_EQ(rig.send(rig.a, out_cdb(register_key, 0, static_cast<std::uint32_t>(list.size())), list), good);
  EXPECT_EQ(rig.unit.reservations().registrations.size(), 3u);
  auto unknown = with_ports(out_list(0, 5), {});
  append_port(unknown, "iqn.nobody", 0x05);
  unknown[27] = static_cast<std::uint8_t>(unknown.size() - 28);
  EXPECT_EQ(rig.send(second, {0, 0, 0, 0, 0, 0}), check_condition);  // its first attention
  EXPECT_EQ(rig.send(second, out_cdb(register_key, 0, static_cast<std::uint32_t>(unknown.size())), unknown),
            check_condition);
  EXPECT_EQ(rig.sense, 0x052600u);
  EXPECT_EQ(rig.field, 28);
}

TEST(PersistentReserveOut, MalformedPortsAreNamedAndRegisterNobody) {
  ReservationRig rig;
  const auto good_list = with_ports(out_list(0, 5), {"iqn.x,i,0x000000000001", "iqn.y,i,0x000000000002"});
  const std::size_t second = 28 + 4 + 24;
  const auto refused = [&](std::vector<std::uint8_t> list, std::uint32_t wanted, int byte) {
    EXPECT_EQ(rig.send(rig.a, out_cdb(register_key, 0, static_cast<std::uint32_t>(list.size())), list),
              check_condition);
    EXPECT_EQ(rig.sense, wanted);
    if (byte >= 0) {
      EXPECT_EQ(rig.field, byte);
    }
    EXPECT_TRUE(rig.unit.reservations().registrations.empty());
  };
  auto list = good_list;
  list[second] = 0x46;  // SAS
  refused(list, 0x052600, static_cast<int>(second));
  list = good_list;
  list[second + 3] = 28;  // beyond the end
  refused(list, 0x052600, static_cast<int>(second + 2));
  list = good_list;
  list[27] = static_cast<std::uint8_t>(list[27] + 4);  // more than there is
  refused(list, 0x052600, 24);
  list = good_list;
  list[27] = static_cast<std::uint8_t>(list[27] - 4);
  refused(list, 0x051a00, -1);
  list.resize(26);
  refused(list, 0x051a00, -1);
  list = good_list;
  EXPECT_EQ(rig.send(rig.a, out_cdb(register_and_ignore, 0, static_cast<std::uint32_t>(list.size())), list),
            check_condition);
  EXPECT_EQ(rig.sense, 0x052600u);
  EXPECT_EQ(rig.field, 20) << "SPEC_I_PT is for REGISTER";
}

std::vector<std::uint8_t> move_list(std::string_view port, std::uint8_t flags = 0,
                                    std::uint16_t target_port = 1) {
  auto list = out_list(5, 8);
  list[17] = flags;
  store_be16(&list[18], target_port);
  append_port(list, port);
  list[23] = static_cast<std::uint8_t>(list.size() - 24);
  return list;
}

TEST(PersistentReserveOut, MovesTheReservation) {
  ReservationRig rig;
  rig.out(rig.a, register_key, 0, 5);
  rig.out(rig.a, reserve, 5, 0, ea);
  auto list = move_list("iqn.2026-11.example:b,i,0x400001370000", 0x02);
  EXPECT_EQ(rig.send(rig.a, out_cdb(register_and_move, 0xff, static_cast<std::uint32_t>(list.size())), list),
            good);
  EXPECT_EQ(rig.send(rig.a, read_block), reservation_conflict);
  EXPECT_EQ(rig.send(rig.b, read_block), good);
  EXPECT_EQ(rig.out(rig.b, release, 8, 0, ea), good);
}

TEST(PersistentReserveOut, MalformedMovesAreNamed) {
  ReservationRig rig;
  rig.out(rig.a, register_key, 0, 5);
  rig.out(rig.a, reserve, 5, 0, ea);
  const auto list = move_list("iqn.x,i,0x000000000001");
  const auto refused = [&](std::size_t at, std::uint8_t value, std::uint32_t wanted, int byte) {
    auto bad = list;
    bad[at] = value;
    EXPECT_EQ(rig.send(rig.a, out_cdb(register_and_move, 0, static_cast<std::uint32_t>(bad.size())), bad),
              check_condition);
    EXPECT_EQ(rig.sense, wanted) << at;
    if (byte >= 0) {
      EXPECT_EQ(rig.field, byte) << at;
    }
  };
  refused(16, 1, 0x052600, 16);
  refused(17, 0x04, 0x052600, 17);
  refused(17, 0x01, 0x052600, 17);  // APTPL
  refused(19, 2, 0x052600, 18);
  refused(23, 20, 0x052600, 20);
  refused(23, 26, 0x052600, 20);
  refused(23, 32, 0x051a00, -1);
  refused(24, 0x44, 0x052600, 24);
  refused(27, 20, 0x052600, -1);
  EXPECT_EQ(rig.send(rig.a, out_cdb(register_and_move), out_list(5, 8)), check_condition) << "no TransportID";
}

// ---- what conflicts

TEST(ReservationConflict, FollowsTheTablesOfTheStandards) {
  // SPC-4 table 66, SBC-3 table 13; RESERVE: SPC-2 table 10. Allowed for a nexus that is not registered under
  // another's Write Exclusive, Exclusive Access, RESERVE.
  struct Row {
    std::uint8_t opcode;
    int service_action;
    bool we, ea, reserved;
  };
  const Row rows[] = {
      {0x00, -1, true, true, false},     {0x03, -1, true, true, true},      {0x12, -1, true, true, true},
      {0x4c, -1, false, false, false},   {0x4d, -1, true, true, true},      {0x15, -1, false, false, false},
      {0x55, -1, false, false, false},   {0x1a, -1, true, false, false},    {0x5a, -1, true, false, false},
      {0xa0, -1, true, true, true},      {0xa3, 0x0a, true, true, false},   {0xa3, 0x0c, true, false, false},
      {0xa3, 0x0d, true, false, false},  {0xa3, 0x0f, true, true, false},   {0xa4, 0x0a, false, false, false},
      {0x25, -1, true, true, false},     {0x9e, 0x10, true, true, false},   {0x9e, 0x12, true, false, false},
      {0x37, -1, true, false, false},    {0xb7, -1, true, false, false},    {0x08, -1, true, false, false},
      {0x28, -1, true, false, false},    {0xa8, -1, true, false, false},    {0x88, -1, true, false, false},
      {0x0a, -1, false, false, false},   {0x2a, -1, false, false, false},   {0xaa, -1, false, false, false},
      {0x8a, -1, false, false, false},   {0x2e, -1, false, false, false},   {0xae, -1, false, false, false},
      {0x8e, -1, false, false, false},   {0x2f, -1, true, false, false},    {0xaf, -1, true, false, false},
      {0x8f, -1, true, false, false},    {0x34, -1, true, false, false},    {0x90, -1, true, false, false},
      {0x35, -1, false, false, false},   {0x91, -1, false, false, false},   {0x41, -1, false, false, false},
      {0x93, -1, false, false, false},   {0x42, -1, false, false, false},   {0x8b, -1, false, false, false},
      {0x9c, -1, false, false, false},   {0x89, -1, false, false, false},   {0x83, 0x00, false, false, false},
      {0x83, 0x01, false, false, false}, {0x83, 0x1c, false, false, false}, {0x84, 0x00, true, false, false},
      {0x84, 0x03, true, false, false},  {0x1b, -1, false, false, false},
  };
  for (const Row& row : rows) {
    bool known = false;
    const CommandRow* found =
        find_row(CommandSet::disk, row.opcode,
                 static_cast<std::uint16_t>(row.service_action < 0 ? 0 : row.service_action), known);
    ASSERT_NE(found, nullptr) << std::hex << int{row.opcode};
    Task task;
    task.cdb[0] = row.opcode;
    EXPECT_TRUE(permits(ReservationAccess::all, *found, task));
    EXPECT_EQ(permits(ReservationAccess::write_exclusive, *found, task), row.we)
        << std::hex << int{row.opcode} << " " << row.service_action;
    EXPECT_EQ(permits(ReservationAccess::exclusive_access, *found, task), row.ea)
        << std::hex << int{row.opcode} << " " << row.service_action;
    EXPECT_EQ(permits(ReservationAccess::reserved, *found, task), row.reserved)
        << std::hex << int{row.opcode} << " " << row.service_action;
  }
}

TEST(ReservationConflict, ToStartAUnitIsAllowedAndToStopItIsNot) {
  ReservationRig rig;
  rig.out(rig.a, register_key, 0, 5);
  rig.out(rig.a, reserve, 5, 0, ea);
  EXPECT_EQ(rig.send(rig.b, {0x1b, 0, 0, 0, 0x01, 0}), good);
  EXPECT_EQ(rig.send(rig.b, {0x1b, 0, 0, 0, 0x00, 0}), reservation_conflict);
}

TEST(ReservationConflict, MovesNoDataAndHasNoSense) {
  ReservationRig rig;
  rig.out(rig.a, register_key, 0, 5);
  rig.out(rig.a, reserve, 5, 0, we);
  Io io(rig.device, rig.b, write_block, bytes(512, 1));
  io.run();
  EXPECT_EQ(io.status(), reservation_conflict);
  EXPECT_EQ(io.task.sense_length, 0);
  EXPECT_EQ(io.task.need.data_out_bytes, 0u);
  EXPECT_EQ(io.task.data_transfer_length, 0u);
  EXPECT_EQ(rig.send(rig.b, read_block), good);
}

TEST(ReservationConflict, RegistrationOpensTheTypesThatAdmitRegistrants) {
  ReservationRig rig;
  rig.out(rig.a, register_key, 0, 5);
  rig.out(rig.a, reserve, 5, 0, ea_ro);
  EXPECT_EQ(rig.send(rig.b, write_block, bytes(512, 1)), reservation_conflict);
  EXPECT_EQ(rig.out(rig.b, register_key, 0, 6), good);
  EXPECT_EQ(rig.send(rig.b, write_block, bytes(512, 1)), good);
}

TEST(ReservationConflict, UnitAttentionsComeFirst) {
  ReservationRig rig;
  rig.out(rig.a, register_key, 0, 5);
  rig.out(rig.b, register_key, 0, 6);
  rig.out(rig.a, reserve, 5, 0, we);
  rig.out(rig.a, preempt, 5, 6);
  EXPECT_EQ(rig.send(rig.b, write_block, bytes(512, 1)), check_condition);
  EXPECT_EQ(rig.sense, 0x062a05u);
  EXPECT_EQ(rig.send(rig.b, write_block, bytes(512, 1)), reservation_conflict);
}

TEST(Reservation, ItsUnitAttentions) {
  ReservationRig rig;
  rig.out(rig.a, register_key, 0, 5);
  rig.out(rig.b, register_key, 0, 6);
  rig.out(rig.a, reserve, 5, 0, we_ro);
  rig.out(rig.a, release, 5, 0, we_ro);
  EXPECT_EQ(rig.attention(rig.b), 0x062a04u);
  rig.out(rig.b, preempt, 6, 5);
  EXPECT_EQ(rig.attention(rig.a), 0x062a05u);
  rig.out(rig.a, register_key, 0, 5);
  rig.out(rig.b, clear, 6);
  EXPECT_EQ(rig.attention(rig.a), 0x062a03u);
  EXPECT_EQ(rig.attention(rig.a), 0u);
  EXPECT_EQ(rig.attention(rig.b), 0u);
}

// ---- sessions and resets

TEST(Reservation, OutlivesItsSessionAndResets) {
  ReservationRig rig;
  {
    Nexus lost(rig.device, Rig::names("lost"));
    EXPECT_NE(rig.attention(lost), 0u);
    EXPECT_EQ(rig.out(lost, register_key, 0, 5), good);
    EXPECT_EQ(rig.out(lost, reserve, 5, 0, ea), good);
  }
  TaskManagement reset;
  reset.function = TmFunction::lun_reset;
  reset.nexus = &rig.a;
  EXPECT_TRUE(rig.device.manage(reset));
  rig.settle();
  EXPECT_EQ(rig.send(rig.a, read_block), reservation_conflict);
  Nexus back(rig.device, Rig::names("lost"));
  EXPECT_EQ(rig.attention(back), 0x062907u);
  EXPECT_EQ(rig.send(back, read_block), good);
  EXPECT_EQ(rig.out(back, release, 5, 0, ea), good);
}

TEST(Reserve6And10, EndWithTheNexusAndWithResets) {
  ReservationRig rig;
  for (const TmFunction function :
       {TmFunction::lun_reset, TmFunction::target_warm_reset, TmFunction::target_cold_reset}) {
    EXPECT_EQ(rig.send(rig.a, {0x16, 0, 0, 0, 0, 0}), good);
    EXPECT_EQ(rig.send(rig.b, {0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0}), reservation_conflict);
    EXPECT_EQ(rig.send(rig.b, {0, 0, 0, 0, 0, 0}), reservation_conflict);
    TaskManagement reset;
    reset.function = function;
    reset.nexus = &rig.b;
    EXPECT_TRUE(rig.device.manage(reset));
    rig.settle();
  }
  {
    Nexus lost(rig.device, Rig::names("lost"));
    EXPECT_NE(rig.attention(lost), 0u);
    EXPECT_EQ(rig.send(lost, {0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0}), good);
    EXPECT_EQ(rig.send(rig.a, read_block), reservation_conflict);
  }
  EXPECT_EQ(rig.send(rig.a, read_block), good);
  EXPECT_EQ(rig.send(rig.a, {0x16, 0, 0, 0, 0, 0}), good);
  TaskManagement loss;
  loss.function = TmFunction::i_t_nexus_reset;
  loss.nexus = &rig.a;
  EXPECT_TRUE(rig.device.manage(loss));
  EXPECT_EQ(rig.send(rig.b, read_block), good);
}

TEST(Reserve6And10, ReleaseOfAnotherNexusIsGoodAndReleasesNothing) {
  ReservationRig rig;
  EXPECT_EQ(rig.send(rig.a, {0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0}), good);
  EXPECT_EQ(rig.send(rig.b, {0x17, 0, 0, 0, 0, 0}), good);
  EXPECT_EQ(rig.send(rig.b, read_block), reservation_conflict);
  EXPECT_EQ(rig.send(rig.a, {0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0}), good);
  EXPECT_EQ(rig.send(rig.b, read_block), good);
}

TEST(Reserve6And10, ThirdPartyAndExtentsAreRefused) {
  ReservationRig rig;
  for (const std::uint8_t opcode : std::initializer_list<std::uint8_t>{0x16, 0x17}) {
    for (const std::uint8_t bits : std::initializer_list<std::uint8_t>{0x10, 0x02, 0x01}) {
      EXPECT_EQ(rig.send(rig.a, {opcode, bits, 0, 0, 0, 0}), check_condition);
      EXPECT_EQ(rig.sense, 0x052400u);
      EXPECT_EQ(rig.field, 1);
    }
  }
  for (const std::uint8_t opcode : std::initializer_list<std::uint8_t>{0x56, 0x57}) {
    EXPECT_EQ(rig.send(rig.a, {opcode, 0x10, 0, 7, 0, 0, 0, 0, 0, 0}), check_condition);  // 3RDPTY
    EXPECT_EQ(rig.field, 1);
    EXPECT_EQ(rig.send(rig.a, {opcode, 0, 0, 0, 0, 0, 0, 0, 8, 0}), check_condition);
    EXPECT_EQ(rig.field, 8);
  }
}

TEST(Reserve6And10, PersistentReserveConflictsMeanwhile) {
  ReservationRig rig;
  EXPECT_EQ(rig.send(rig.a, {0x16, 0, 0, 0, 0, 0}), good);
  EXPECT_EQ(rig.out(rig.a, register_key, 0, 5), reservation_conflict);
  EXPECT_EQ(rig.send(rig.b, {0x5e, 0, 0, 0, 0, 0, 0, 1, 0, 0}), reservation_conflict);
  EXPECT_EQ(rig.send(rig.a, {0x17, 0, 0, 0, 0, 0}), good);
  EXPECT_EQ(rig.out(rig.a, register_key, 0, 5), good);
  EXPECT_EQ(rig.send(rig.a, {0x16, 0, 0, 0, 0, 0}), reservation_conflict);
}

// ---- fencing

TEST(Fencing, APreemptWaitsForTheWritesThatHaveStarted) {
  ReservationRig rig;
  rig.out(rig.a, register_key, 0, 5);
  rig.out(rig.b, register_key, 0, 6);
  rig.out(rig.a, reserve, 5, 0, we_ro);
  rig.channel.hold = true;
  Io write(rig.device, rig.b, write_block, bytes(512, 1));
  write.run();
  Io fence(rig.device, rig.a, out_cdb(preempt), out_list(5, 6));
  fence.run();
  EXPECT_FALSE(fence.ended);
  rig.channel.release_all();
  EXPECT_EQ(write.status(), good);
  EXPECT_TRUE(fence.ended);
  EXPECT_EQ(fence.status(), good);
}

TEST(Fencing, AReserveWaitsForTheWritesThatHaveStarted) {
  ReservationRig rig;
  rig.channel.hold = true;
  Io write(rig.device, rig.b, write_block, bytes(512, 1));
  write.run();
  Io reserve_6(rig.device, rig.a, {0x16, 0, 0, 0, 0, 0});
  reserve_6.run();
  EXPECT_FALSE(reserve_6.ended);
  rig.channel.release_all();
  EXPECT_TRUE(reserve_6.ended);
  EXPECT_EQ(reserve_6.status(), good);
}

TEST(Fencing, AWriteThatWasAdmittedBeforeThePreemptIsAskedAgain) {
  auto geometry = FakeChannel::disk();
  geometry.lends_memory = true;
  ReservationRig rig(geometry);
  rig.out(rig.a, register_key, 0, 5);
  rig.out(rig.b, register_key, 0, 6);
  rig.out(rig.a, reserve, 5, 0, we_ro);
  Io write(rig.device, rig.b, write_block, bytes(512, 1));
  write.admit();  // its data is still on the way
  ASSERT_FALSE(write.ended);
  EXPECT_EQ(rig.out(rig.a, preempt, 5, 6), good);
  EXPECT_TRUE(rig.device.lend(write.task).empty());
  write.execute();
  EXPECT_EQ(write.status(), reservation_conflict);
  EXPECT_EQ(rig.channel.memory[0], 0);
}

TEST(Fencing, AWriteThatWaitedBehindThePreemptIsAskedAgain) {
  ReservationRig rig;
  rig.out(rig.a, register_key, 0, 5);
  rig.out(rig.b, register_key, 0, 6);
  rig.out(rig.a, reserve, 5, 0, we_ro);
  rig.channel.hold = true;
  Io first(rig.device, rig.b, write_block, bytes(512, 1));
  first.run();
  Io fence(rig.device, rig.a, out_cdb(preempt), out_list(5, 6));
  fence.run();
  Io second(rig.device, rig.b, write_block, bytes(512, 2));
  second.run();
  EXPECT_FALSE(second.ended);
  rig.channel.release_all();
  EXPECT_EQ(fence.status(), good);
  EXPECT_EQ(second.status(), reservation_conflict);
  EXPECT_EQ(rig.channel.memory[0], 1);
}

TEST(Fencing, APreemptWaitsForAWriteIntoLentMemory) {
  auto geometry = FakeChannel::disk();
  geometry.lends_memory = true;
  ReservationRig rig(geometry);
  rig.out(rig.a, register_key, 0, 5);
  rig.out(rig.b, register_key, 0, 6);
  rig.out(rig.a, reserve, 5, 0, we_ro);
  Io write(rig.device, rig.b, write_block, bytes(512, 1));
  write.admit();
  ASSERT_FALSE(rig.device.lend(write.task).empty());
  Io fence(rig.device, rig.a, out_cdb(preempt), out_list(5, 6));
  fence.run();
  EXPECT_FALSE(fence.ended);
  EXPECT_TRUE(rig.device.execute(write.task));
  write.ended = true;
  EXPECT_EQ(write.status(), good);
  EXPECT_TRUE(fence.ended);
}

TEST(Fencing, APreemptAndAbortEndsAWriteIntoLentMemoryFirst) {
  auto geometry = FakeChannel::disk();
  geometry.lends_memory = true;
  ReservationRig rig(geometry);
  rig.out(rig.a, register_key, 0, 5);
  rig.out(rig.b, register_key, 0, 6);
  rig.out(rig.a, reserve, 5, 0, we_ro);
  Io write(rig.device, rig.b, write_block, bytes(512, 1));
  struct Transport {
    Task* cancelled = nullptr;
    void on_cancelled(Task& task) { cancelled = &task; }
  } transport;
  write.task.cancelled = Delegate<void(Task&)>::to<&Transport::on_cancelled>(transport);
  write.admit();
  ASSERT_FALSE(rig.device.lend(write.task).empty());
  Io fence(rig.device, rig.a, out_cdb(preempt_and_abort), out_list(5, 6));
  fence.run();
  EXPECT_EQ(transport.cancelled, &write.task) << "asked to stop, though it never sends the rest";
  EXPECT_FALSE(fence.ended) << "the transport may still write to the memory";
  rig.device.abort(write.task);
  EXPECT_TRUE(fence.ended);
  EXPECT_EQ(fence.status(), good);
  EXPECT_EQ(rig.attention(rig.b), 0x062f00u);
  EXPECT_EQ(rig.attention(rig.b), 0x062a05u);
}

TEST(Fencing, APreemptAndAbortEndsWhatRunsAndWhatWaits) {
  ReservationRig rig;
  rig.out(rig.a, register_key, 0, 5);
  rig.out(rig.b, register_key, 0, 6);
  rig.channel.hold = true;
  Io own(rig.device, rig.a, write_block, bytes(512, 3));
  own.run();
  Io running(rig.device, rig.b, write_block, bytes(512, 1));
  running.run();
  Io cache(rig.device, rig.b,
           {0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0});  // stands in nobody's way, and is waited for all the same
  cache.run();
  Io admitted(rig.device, rig.b, write_block, bytes(512, 2));
  admitted.admit();
  Io fence(rig.device, rig.a, out_cdb(preempt_and_abort), out_list(5, 6));
  fence.run();
  EXPECT_TRUE(admitted.task.aborted);
  EXPECT_TRUE(running.task.aborted);
  rig.channel.release_one();
  EXPECT_EQ(own.status(), good) << "of another nexus: it goes on";
  rig.channel.release_one();
  EXPECT_FALSE(fence.ended);
  rig.channel.release_one();
  EXPECT_TRUE(fence.ended);
  EXPECT_EQ(fence.status(), good);
  EXPECT_TRUE(cache.task.aborted);
}

TEST(Fencing, APreemptAndAbortThatIsRefusedEndsNothing) {
  ReservationRig rig;
  rig.out(rig.a, register_key, 0, 5);
  rig.out(rig.b, register_key, 0, 6);
  Io write(rig.device, rig.b, write_block, bytes(512, 1));
  write.admit();
  EXPECT_EQ(rig.out(rig.a, preempt_and_abort, 4, 6), reservation_conflict);
  EXPECT_EQ(rig.out(rig.a, preempt_and_abort, 5, 0), check_condition);
  EXPECT_FALSE(write.task.aborted);
  EXPECT_EQ(write.execute().status(), good);
}

// ---- over a loss of power

struct StoredRig {
  explicit StoredRig(DurableState durable = {}) : channel(FakeChannel::disk()), device("iqn.x") {
    UnitConfig config = Rig::config();
    config.store = &store;
    config.durable = std::move(durable);
    unit = *device.add_unit(0, std::move(config), channel);
    a.emplace(device, Rig::names("a"));
    b.emplace(device, Rig::names("b"));
    for (Nexus* nexus : {&*a, &*b}) Io(device, *nexus, {0, 0, 0, 0, 0, 0}).run();
  }
  Io out(Nexus& nexus, Action action, std::uint64_t key, std::uint64_t action_key, std::uint8_t type = 0,
         std::uint8_t flags = 0) {
    return Io(device, nexus, out_cdb(action, type), out_list(key, action_key, flags));
  }
  HeldStore store;
  FakeChannel channel;
  Device device;
  LogicalUnit* unit = nullptr;
  std::optional<Nexus> a, b;
};

TEST(Aptpl, IsDurableBeforeGood) {
  StoredRig rig;
  Io io = rig.out(*rig.a, register_key, 0, 5, 0, 0x01);
  io.run();
  EXPECT_FALSE(io.ended);
  EXPECT_TRUE(rig.unit->reservations().registrations.empty()) << "nobody sees what is not durable";
  Io write(rig.device, *rig.b, write_block, bytes(512, 1));
  write.run();
  EXPECT_FALSE(write.ended) << "it comes after";
  rig.store.answer(true);
  EXPECT_TRUE(io.ended);
  EXPECT_EQ(io.status(), good);
  EXPECT_TRUE(write.ended);
  EXPECT_EQ(rig.store.last().reservations.registrations, rig.unit->reservations().registrations);
  EXPECT_TRUE(rig.store.last().reservations.aptpl);
}

TEST(Aptpl, EveryChangeIsDurableWhileItIsActive) {
  StoredRig rig;
  const auto done = [&](Nexus& nexus, Action action, std::uint64_t key, std::uint64_t action_key,
                        std::uint8_t type, std::uint8_t flags) {
    Io io = rig.out(nexus, action, key, action_key, type, flags);
    io.run();
    EXPECT_TRUE(rig.store.waits()) << int{action};
    rig.store.answer(true);
    EXPECT_EQ(io.status(), good);
    EXPECT_EQ(rig.store.last().reservations, surviving(rig.unit->reservations()));
  };
  done(*rig.a, register_key, 0, 5, 0, 1);
  done(*rig.b, register_key, 0, 6, 0, 1);
  done(*rig.a, reserve, 5, 0, we, 0);
  done(*rig.b, preempt, 6, 5, ea, 0);
  done(*rig.b, release, 6, 0, ea, 0);
  done(*rig.b, clear, 6, 0, 0, 0);
}

TEST(Aptpl, EndsDurablyToo) {
  StoredRig rig;
  Io first = rig.out(*rig.a, register_key, 0, 5, 0, 1);
  first.run();
  rig.store.answer(true);
  Io second = rig.out(*rig.a, register_key, 5, 6, 0, 0);
  second.run();
  EXPECT_FALSE(second.ended);
  rig.store.answer(true);
  EXPECT_EQ(rig.store.last(), DurableState{});
  Io third = rig.out(*rig.a, reserve, 6, 0, we);
  third.run();
  EXPECT_TRUE(third.ended) << "nothing to keep";
}

TEST(Aptpl, AStoreThatFailsChangesNothing) {
  StoredRig rig;
  Io io = rig.out(*rig.a, register_key, 0, 5, 0, 1);
  io.run();
  rig.store.answer(false);
  EXPECT_EQ(io.status(), check_condition);
  EXPECT_EQ(io.sense(), 0x044400u);
  EXPECT_TRUE(rig.unit->reservations().registrations.empty());
  // The store may have the new record for all that: the next change writes, though it would not need to.
  Io next = rig.out(*rig.a, register_key, 0, 5, 0, 0);
  next.run();
  EXPECT_FALSE(next.ended);
  rig.store.answer(true);
  EXPECT_EQ(next.status(), good);
  EXPECT_EQ(rig.store.last(), DurableState{});
}

TEST(Aptpl, WhatIsDurableCountsEvenWhenTheCommandWasAborted) {
  StoredRig rig;
  Io io = rig.out(*rig.a, register_key, 0, 5, 0, 1);
  io.run();
  struct Ending {
    bool over = false;
    void on_done(TaskManagement&) { over = true; }
  } ending;
  TaskManagement reset;
  reset.function = TmFunction::lun_reset;
  reset.nexus = &*rig.b;
  reset.done = Delegate<void(TaskManagement&)>::to<&Ending::on_done>(ending);
  EXPECT_FALSE(rig.device.manage(reset));
  rig.store.answer(true);
  EXPECT_TRUE(ending.over);
  EXPECT_TRUE(io.task.aborted);
  EXPECT_EQ(rig.unit->reservations().registrations.size(), 1u);
}

TEST(Aptpl, AUnitBeginsWithWhatItsRecordSays) {
  DurableState durable;
  durable.reservations.aptpl = true;
  durable.reservations.registrations = {{{Rig::names("a").initiator_port, 1}, 5, false}};
  durable.reservations.persistent =
      PersistentReservation{ReservationType::exclusive_access, {Rig::names("a").initiator_port, 1}};
  StoredRig rig(durable);
  EXPECT_EQ(Io(rig.device, *rig.b, read_block, {}, 512).run().status(), reservation_conflict);
  EXPECT_EQ(Io(rig.device, *rig.a, read_block, {}, 512).run().status(), good);
  Io capabilities(rig.device, *rig.b, {0x5e, 2, 0, 0, 0, 0, 0, 0, 255, 0}, {}, 255);
  capabilities.run();
  EXPECT_EQ(capabilities.data_in()[2], 0x1d);  // PTPL_C
  EXPECT_EQ(capabilities.data_in()[3], 0xb1);  // PTPL_A
}

// A crash before the record is written, between the record and the answer, and after the answer, at every
// command of a history drawn from a seed: the next life has the registrations from before or after the
// command, and after GOOD those from after.
TEST(Aptpl, ACrashAtAnyMomentLeavesTheStateBeforeOrAfter) {
  enum class Moment : std::uint8_t { before_the_record, before_the_answer, after_the_answer };
  std::uint32_t random = 12345;
  const auto draw = [&random](std::uint32_t below) {
    random = random * 1664525u + 1013904223u;
    return (random >> 16) % below;
  };
  std::vector<std::uint8_t> record = encode_durable_state({});
  int changed = 0;
  for (int life = 0; life < 2000; ++life) {
    StoredRig rig(*decode_durable_state(record));
    const Reservations before = rig.unit->reservations();
    ASSERT_EQ(before, surviving(before)) << "a life begins with what survives";
    Nexus& nexus = draw(2) == 0 ? *rig.a : *rig.b;
    const Registration* own = before.find(nexus.names().initiator_port, 1);
    const auto action = static_cast<Action>(draw(7));
    constexpr std::uint8_t types[] = {1, 3, 5, 6, 7, 8};
    Io io = rig.out(nexus, action, own != nullptr ? own->key : 0, draw(4), types[draw(6)],
                    draw(8) == 0 ? 0 : 0x01);
    io.run();
    const auto moment = static_cast<Moment>(draw(3));
    if (!rig.store.waits()) {
      ASSERT_TRUE(io.ended);
      EXPECT_EQ(surviving(rig.unit->reservations()), before) << "changed without a record";
      continue;
    }
    ++changed;
    ASSERT_FALSE(io.ended);
    const std::vector<std::uint8_t> written = rig.store.records.back();
    if (moment != Moment::before_the_record) record = written;
    EXPECT_EQ(rig.unit->reservations(), before);
    rig.store.answer(true);  // whoever died before does not see it
    EXPECT_EQ(io.status(), good);
    EXPECT_EQ(decode_durable_state(written)->reservations, surviving(rig.unit->reservations()));
  }
  EXPECT_GT(changed, 300);
}

}  // namespace
}  // namespace perilune::scsi
