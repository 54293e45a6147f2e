// SPDX-License-Identifier: Apache-2.0
// The fast path of a command (target_at_once.cpp) against the slow one: the same bytes, whole or cut into
// receives so small that no command is ever there at once, must get the same answers.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "crypto/crc32c.hpp"
#include "iscsi/session/target_session_test_support.hpp"

namespace perilune::iscsi {
namespace {

// A disk in memory of 512-byte blocks by READ and WRITE (10); READ (12) is refused, like what lies beyond its
// end. The other way of the same: every command that comes as an object is answered by the same rules.
class DiskHost : public RecordingHost {
 public:
  static constexpr std::size_t blocks = 64;
  MutableBytes place(const std::uint8_t* cdb, std::uint32_t bytes, bool writes) {
    if (cdb[0] != (writes ? 0x2a : 0x28)) return {};
    const std::uint64_t lba = load_be32(cdb + 2);
    const std::uint64_t count = load_be16(cdb + 7);
    if (count == 0 || lba + count > blocks || count * 512 != bytes) return {};
    return {disk.data() + lba * 512, bytes};
  }
  // Lends its memory, or is like a page cache, which now and then has not all of the bytes.
  enum class Way { lends, copies };
  AtOnce transfer_at_once(TargetSession&, const WholeTransfer& transfer) override {
    const MutableBytes memory =
        declines ? MutableBytes{} : place(transfer.cdb, transfer.bytes, transfer.writes);
    if (memory.empty()) return {};
    if (way == Way::copies && !transfer.writes) return {nullptr, AtOnce::Outcome::copies};
    if (way == Way::copies && !copy(memory.data(), transfer.data, transfer.bytes)) return {};
    ++at_once;
    if (way == Way::copies) return {nullptr, AtOnce::Outcome::written};
    return {memory.data(), AtOnce::Outcome::lent};
  }
  bool read_at_once(TargetSession&, const WholeTransfer& transfer, std::uint8_t* to) override {
    if (!copy(to, place(transfer.cdb, transfer.bytes, false).data(), transfer.bytes)) return false;
    ++at_once;
    return true;
  }
  bool copy(std::uint8_t* to, const std::uint8_t* from, std::size_t bytes) {
    const bool whole = ++copied <= 0 || copied % 7 != 0;
    std::copy_n(from, whole ? bytes : bytes / 2, to);
    return whole;
  }
  void on_command(TargetCommand& command) override {
    ++slow_path;
    RecordingHost::on_command(command);
    if (!command.pdu.write) finish(command);
  }
  void on_data_out(TargetCommand& command) override { finish(command); }
  void finish(TargetCommand& base) {
    auto& item = static_cast<Item&>(base);
    const std::uint32_t bytes = item.pdu.expected_data_transfer_length;
    const MutableBytes memory = place(item.pdu.cdb.data(), bytes, item.pdu.write);
    if (memory.empty()) {
      item.session->complete(item, 0x02, as_bytes("\x70"), {}, 0, 0);
    } else if (item.pdu.write) {
      std::copy_n(item.memory.begin(), bytes, memory.begin());
      item.session->complete(item, 0, {}, {}, 0, bytes);
    } else {
      item.memory.assign(memory.begin(), memory.end());
      item.iov = {item.memory.data(), item.memory.size()};
      item.session->complete(item, 0, {}, {&item.iov, 1}, bytes, bytes);
    }
  }

  std::vector<std::uint8_t> disk = std::vector<std::uint8_t>(blocks * 512);
  Way way = Way::lends;
  int at_once = 0, slow_path = 0, copied = 0;
  bool declines = false;
};

struct Side {
  Side(const SessionParams& session_params, ConnectionParams connection_params)
      : session(host, session_params, CmdSn(1), 32) {
    connection_params.max_recv_data_segment_length = 4096;
    for (std::size_t i = 0; i < host.disk.size(); ++i) host.disk[i] = static_cast<std::uint8_t>(i * 7 >> 3);
    connection =
        std::make_unique<TargetConnection>(session, connection_params, std::uint16_t{0}, StatSn(1), chunks);
  }
  ~Side() {
    connection.reset();
    session.shut_down();
    EXPECT_EQ(host.live, 0);
  }
  std::vector<std::uint8_t> output() {
    std::vector<std::uint8_t> wire;
    TxQueue& tx = connection->tx();
    while (!tx.empty()) {
      iovec out[16];
      const std::size_t n = tx.gather(out);
      std::size_t bytes = 0;
      for (std::size_t i = 0; i < n; ++i) {
        const auto* p = static_cast<const std::uint8_t*>(out[i].iov_base);
        wire.insert(wire.end(), p, p + out[i].iov_len);
        bytes += out[i].iov_len;
      }
      tx.sent(bytes);
    }
    return wire;
  }

  DiskHost host;
  TxChunkPool chunks;
  TargetSession session;
  std::unique_ptr<TargetConnection> connection;
};

class AtOnceTest : public testing::TestWithParam<std::tuple<bool, bool, int, DiskHost::Way>> {
};  // digests of header and data; connections

TEST_P(AtOnceTest, HowTheBytesWereCutNeverShows) {
  const auto [header_digest, data_digest, connections, way] = GetParam();
  std::mt19937 random(7143);
  const auto pick = [&](std::uint32_t below) { return static_cast<std::uint32_t>(random() % below); };
  int at_once = 0;
  int slow_path = 0;
  int drops = 0;
  for (int round = 0; round < 300; ++round) {
    SessionParams session_params;
    session_params.immediate_data = pick(8) != 0;
    session_params.initial_r2t = pick(2) == 0;
    session_params.first_burst_length = pick(4) == 0 ? 1024 : 8192;
    session_params.max_burst_length = pick(4) == 0 ? 1024 : 8192;
    session_params.max_connections = static_cast<std::uint16_t>(connections);
    ConnectionParams connection_params;
    connection_params.header_digest = header_digest;
    connection_params.data_digest = data_digest;
    connection_params.max_xmit_data_segment_length = pick(4) == 0 ? 512 : 8192;
    Side whole(session_params, connection_params);
    whole.host.way = way;
    Side cut(session_params, connection_params);
    TxChunkPool chunks;
    TxQueue queue(chunks);
    queue.set_digests(header_digest, data_digest);
    CmdSn next(1);
    StatSn heard(1);
    bool alive = true;
    for (int burst = 0; burst < 6 && alive; ++burst) {
      const std::uint32_t commands = 1 + pick(12);
      for (std::uint32_t i = 0; i < commands; ++i) {
        ScsiCommand pdu;
        pdu.write = pick(2) == 0;
        pdu.read = !pdu.write;
        pdu.attribute = static_cast<TaskAttribute>(pick(20) == 0 ? pick(5) : pick(2));
        pdu.immediate = pick(40) == 0;
        pdu.final = pick(60) != 0;
        pdu.initiator_task_tag = pick(50) == 0 ? 3 : static_cast<Itt>(1000 * round + 20 * burst) + i;
        pdu.cmd_sn = pick(60) == 0 ? next.plus(1 + pick(40)) : next;
        pdu.exp_stat_sn = heard;
        const std::uint32_t blocks = 1 + pick(4);
        const std::uint32_t bytes = blocks * 512;
        pdu.expected_data_transfer_length = pick(20) == 0 ? pick(5000) : bytes;
        pdu.cdb[0] = pdu.write ? 0x2a : pick(20) == 0 ? 0xa8 : 0x28;
        store_be32(&pdu.cdb[2], pick(70));
        store_be16(&pdu.cdb[7], static_cast<std::uint16_t>(blocks));
        std::vector<std::uint8_t> data;
        if (pdu.write && session_params.immediate_data)
          data.assign(pick(10) == 0 ? bytes / 2 : bytes, static_cast<std::uint8_t>(pick(256)));
        if (!pdu.immediate && pdu.cmd_sn == next) ++next;
        std::uint8_t bhs[bhs_bytes];
        pdu.encode(bhs);
        queue.push(bhs, data);
        if (pick(30) != 0) continue;
        NopOut ping;
        ping.initiator_task_tag = 0x7000 + i;
        ping.cmd_sn = next;
        ++next;
        ping.encode(bhs);
        queue.push(bhs);
      }
      std::vector<std::uint8_t> wire;
      while (!queue.empty()) {
        iovec out[64];
        const std::size_t n = queue.gather(out);
        std::size_t bytes = 0;
        for (std::size_t i = 0; i < n; ++i) {
          const auto* p = static_cast<const std::uint8_t*>(out[i].iov_base);
          wire.insert(wire.end(), p, p + out[i].iov_len);
          bytes += out[i].iov_len;
        }
        queue.sent(bytes);
      }
      if ((header_digest || data_digest) && pick(10) == 0)
        wire[pick(static_cast<std::uint32_t>(wire.size()))] ^= 0x10;
      alive = whole.connection->feed(wire);
      bool alive_too = true;
      for (std::size_t at = 0; at < wire.size() && alive_too;) {
        const std::size_t n = std::min<std::size_t>(1 + pick(47), wire.size() - at);  // never a whole header
        alive_too = cut.connection->feed(Bytes(wire).subspan(at, n));
        at += n;
      }
      ASSERT_EQ(alive, alive_too) << round << ": " << whole.connection->drop_reason() << " / "
                                  << cut.connection->drop_reason();
      ASSERT_EQ(whole.connection->drop_reason(), cut.connection->drop_reason());
      ASSERT_EQ(whole.output(), cut.output()) << round << " " << burst;
      ASSERT_EQ(whole.host.disk, cut.host.disk) << round << " " << burst;
      heard = StatSn(pick(3) == 0 ? heard.value() : heard.value() + commands);
    }
    const TargetSessionStats& a = whole.session.stats();
    const TargetSessionStats& b = cut.session.stats();
    ASSERT_EQ(a.commands, b.commands);
    ASSERT_EQ(a.bytes_read, b.bytes_read);
    ASSERT_EQ(a.bytes_written, b.bytes_written);
    ASSERT_EQ(a.data_in_pdus, b.data_in_pdus);
    ASSERT_EQ(a.ignored, b.ignored);
    ASSERT_EQ(a.rejects, b.rejects);
    ASSERT_EQ(whole.session.max_cmd_sn(), cut.session.max_cmd_sn()) << "the window grows alike";
    ASSERT_EQ(cut.host.at_once, 0);
    at_once += whole.host.at_once;
    slow_path += whole.host.slow_path;
    drops += alive ? 0 : 1;
  }
  EXPECT_GT(at_once, 2000);
  EXPECT_GT(slow_path, 500);
  EXPECT_GT(drops, 5);
}

INSTANTIATE_TEST_SUITE_P(Sessions, AtOnceTest,
                         testing::Combine(testing::Bool(), testing::Bool(), testing::Values(1, 2),
                                          testing::Values(DiskHost::Way::lends, DiskHost::Way::copies)));

TEST(AtOnce, WhatTheHostDeclinesComesAsACommand) {
  Side side({}, {});
  side.host.declines = true;
  ScsiCommand pdu;
  pdu.read = true;
  pdu.expected_data_transfer_length = 512;
  pdu.cmd_sn = CmdSn(1);
  pdu.cdb = {0x28, 0, 0, 0, 0, 1, 0, 0, 1};
  ASSERT_TRUE(side.connection->feed(to_wire(pdu)));
  EXPECT_EQ(side.host.slow_path, 1);
  EXPECT_EQ(side.output().size(), bhs_bytes + 512);
}

TEST(AtOnce, UnderADigestAReadHasItsDataWhenTheInputIsTaken) {
  ConnectionParams params;
  params.data_digest = true;
  Side side({}, params);
  ScsiCommand pdu;
  pdu.read = true;
  pdu.expected_data_transfer_length = 512;
  pdu.cmd_sn = CmdSn(1);
  pdu.cdb[0] = 0x28;
  pdu.cdb[8] = 1;
  std::uint8_t bhs[bhs_bytes];
  pdu.encode(bhs);
  const std::vector<std::uint8_t> before(side.host.disk.begin(), side.host.disk.begin() + 512);
  ASSERT_TRUE(side.connection->feed(bhs));
  ASSERT_EQ(side.host.at_once, 1);
  std::fill_n(side.host.disk.begin(), 512, std::uint8_t{0xee});
  const std::vector<std::uint8_t> wire = side.output();
  ASSERT_EQ(wire.size(), bhs_bytes + 512 + 4U);
  EXPECT_TRUE(std::equal(before.begin(), before.end(), wire.begin() + bhs_bytes));
}

// A logout of one connection of two waits for the end of a task; meanwhile nothing new is served there.
TEST(AtOnce, NothingIsServedBehindALogout) {
  SessionParams session_params;
  session_params.max_connections = 2;
  session_params.immediate_data = false;
  Side side(session_params, {});
  TargetConnection other(side.session, {}, std::uint16_t{1}, StatSn(1), side.chunks);
  side.host.hold_aborts = true;
  ScsiCommand pdu;
  pdu.write = true;
  pdu.initiator_task_tag = 1;
  pdu.expected_data_transfer_length = 512;
  pdu.cmd_sn = CmdSn(1);
  pdu.cdb = {0x2a, 0, 0, 0, 0, 1, 0, 0, 1};
  ASSERT_TRUE(side.connection->feed(to_wire(pdu)));  // waits for the data that it has asked for
  LogoutRequest logout;
  logout.immediate = true;
  logout.reason = LogoutReason::close_connection;
  logout.initiator_task_tag = 2;
  logout.cmd_sn = CmdSn(2);
  ASSERT_TRUE(side.connection->feed(to_wire(logout)));
  (void)side.output();
  pdu.write = false;
  pdu.read = true;
  pdu.initiator_task_tag = 3;
  pdu.cmd_sn = CmdSn(2);
  pdu.cdb[0] = 0x28;
  ASSERT_TRUE(side.connection->feed(to_wire(pdu)));
  EXPECT_EQ(side.host.at_once, 0);
  const auto answer = side.output();
  ASSERT_GE(answer.size(), bhs_bytes);
  EXPECT_EQ(opcode(answer.data()), Opcode::reject);
  ASSERT_EQ(side.host.aborted.size(), 1u);
  side.session.abort_finished(*side.host.aborted[0]);
}

TEST(AtOnce, NothingIsServedOnceTheLogoutIsAnswered) {
  Side side({}, {});
  LogoutRequest logout;
  logout.immediate = true;
  logout.reason = LogoutReason::close_session;
  logout.initiator_task_tag = 2;
  logout.cmd_sn = CmdSn(1);
  std::vector<std::uint8_t> wire = to_wire(logout);
  ScsiCommand pdu;
  pdu.read = true;
  pdu.initiator_task_tag = 3;
  pdu.expected_data_transfer_length = 512;
  pdu.cmd_sn = CmdSn(1);
  pdu.cdb = {0x28, 0, 0, 0, 0, 1, 0, 0, 1};
  const std::vector<std::uint8_t> read = to_wire(pdu);
  wire.insert(wire.end(), read.begin(), read.end());
  ASSERT_TRUE(side.connection->feed(wire));
  EXPECT_EQ(side.host.at_once, 0);
  EXPECT_EQ(side.output().size(), std::size_t{bhs_bytes});
}

// An initiator that asks for more than it reads: what waits for it as a copy is bounded, the rest waits for
// memory as ever.
void fill_with_copies(bool data_digest, DiskHost::Way way) {
  ConnectionParams params;
  params.data_digest = data_digest;
  params.max_xmit_data_segment_length = 65536;
  Side side({}, params);
  side.host.way = way;
  side.host.copied = -1000;  // all is there
  for (std::uint32_t i = 1; i < 400; ++i) {
    ScsiCommand pdu;
    pdu.read = true;
    pdu.initiator_task_tag = i;
    pdu.expected_data_transfer_length = 16384;
    pdu.cmd_sn = CmdSn(i);
    pdu.cdb = {0x28, 0, 0, 0, 0, 1, 0, 0, 32};
    ASSERT_TRUE(side.connection->feed(to_wire(pdu)));
    if (side.host.slow_path != 0) break;
  }
  EXPECT_EQ(side.host.slow_path, 1);
  EXPECT_LE(side.connection->tx().own_bytes(), 1048576u + 2 * TxChunkPool::chunk_bytes);
}
TEST(AtOnce, CopiesThatNobodyReadsAreBounded) {
  fill_with_copies(true, DiskHost::Way::lends);
  fill_with_copies(false, DiskHost::Way::copies);
}
TEST(AtOnce, LongReadsOfADiskThatLendsNothingTakeTheSlowPath) {
  ConnectionParams params;
  params.max_xmit_data_segment_length = 65536;
  Side side({}, params);
  side.host.way = DiskHost::Way::copies;
  ScsiCommand pdu;
  pdu.read = true;
  pdu.expected_data_transfer_length = 33 * 512;
  pdu.cmd_sn = CmdSn(1);
  pdu.cdb = {0x28, 0, 0, 0, 0, 1, 0, 0, 33};
  ASSERT_TRUE(side.connection->feed(to_wire(pdu)));
  EXPECT_EQ(side.host.at_once, 0);
  EXPECT_EQ(side.host.slow_path, 1);
}

}  // namespace
}  // namespace perilune::iscsi
