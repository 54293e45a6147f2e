// SPDX-License-Identifier: Apache-2.0
// Greedy readers of recovery level 1 on the smallest legal buffer pool, one of which acknowledges nothing:
// what is kept for them keeps nobody from finishing, and what was acknowledged late is refused rather than
// wrong.
#include <algorithm>

#include "sim/machines.hpp"
#include "sim/pdu_client.hpp"
#include "sim/scenarios.hpp"

namespace perilune::sim {

namespace {

using namespace std::chrono_literals;
using namespace perilune::iscsi;

constexpr std::uint64_t readers = 6;
constexpr std::uint32_t commands_each = 10;
constexpr std::uint32_t largest_blocks = 2048;  // a megabyte: the largest command, half of the shared pool
constexpr std::uint64_t disk_blocks = 4096;

class Reader final : public PduClient::Observer {
 public:
  Reader(World& world, std::uint64_t number, bool acknowledges)
      : prng_(world.prng().fork()),
        host_(world.add_host("reader" + std::to_string(number), {"10.0.1." + std::to_string(number + 1)})),
        acknowledges_(acknowledges),
        client_(host_.add_loop(), *runtime::Endpoint::parse("10.0.0.1:3260", 0), config(number), *this) {}
  ~Reader() override { host_.crash(Crash::process); }

  static InitiatorLoginConfig config(std::uint64_t number) {
    InitiatorLoginConfig login;
    login.initiator_name = "iqn.2026-11.io.perilune:reader" + std::to_string(number);
    login.target_name = target_name;
    login.isid = {0x80, 0, 0, 0, 0, static_cast<std::uint8_t>(number)};
    login.params.error_recovery_level = 1;
    return login;
  }

  void on_login(PduClient&) override {
    if (client_.login().session.error_recovery_level != 1) fail("level 1 was not agreed");
    cmd_sn_ = client_.login().next_cmd_sn;
    max_cmd_sn_ = client_.login().max_cmd_sn;
    next_stat_sn_ = exp_stat_sn_ = client_.login().exp_stat_sn;
    command(0);  // TEST UNIT READY: takes the unit attention
  }
  void on_pdu(PduClient&, const std::uint8_t* bhs, Bytes) override {
    if (CmdSn(load_be32(bhs + 32)).after(max_cmd_sn_)) max_cmd_sn_ = CmdSn(load_be32(bhs + 32));
    switch (opcode(bhs)) {
      case Opcode::data_in:
        break;
      case Opcode::ready_to_transfer:
        answer_r2t(bhs);
        break;
      case Opcode::scsi_response:
        answered(bhs);
        break;
      case Opcode::nop_in:
        pinged(bhs);
        break;
      case Opcode::reject:
        took_stat_sn(bhs);
        ++refused_;
        break;
      default:
        fail("an unexpected PDU");
    }
    send_more();
  }
  void on_end(PduClient&) override { fail("its connection has ended"); }

  void logout() {
    LogoutRequest pdu;
    pdu.immediate = true;
    pdu.cmd_sn = cmd_sn_;
    pdu.exp_stat_sn = next_stat_sn_;
    leaving_ = true;
    client_.send(pdu);
  }
  [[nodiscard]] bool over() const noexcept { return answered_ == commands_each + 1; }
  [[nodiscard]] const std::string& problem() const noexcept { return problem_; }
  [[nodiscard]] std::uint32_t refused() const noexcept { return refused_; }
  [[nodiscard]] std::uint32_t pings() const noexcept { return pings_; }
  // Asks for the data of the first read.
  void snack_first() {
    SnackRequest pdu;
    pdu.initiator_task_tag = 1;
    pdu.exp_stat_sn = exp_stat_sn_;
    pdu.run_length = 1;
    client_.send(pdu);
  }

 private:
  void fail(const std::string& what) {
    if (problem_.empty() && !leaving_) problem_ = what;
  }
  void took_stat_sn(const std::uint8_t* bhs) {
    const StatSn sn(load_be32(bhs + 24));
    if (sn != next_stat_sn_) fail("StatSN out of order");
    next_stat_sn_ = sn.plus(1);
    if (acknowledges_) exp_stat_sn_ = next_stat_sn_;
  }
  void answered(const std::uint8_t* bhs) {
    took_stat_sn(bhs);
    if (answered_ != 0 && bhs[3] != 0) fail("a read fails");
    ++answered_;
  }
  void pinged(const std::uint8_t* bhs) {
    if (iscsi::initiator_task_tag(bhs) != reserved_tag) return;
    ++pings_;
    NopOut answer;
    answer.immediate = true;
    answer.target_transfer_tag = load_be32(bhs + 20);
    answer.cmd_sn = cmd_sn_;
    answer.exp_stat_sn = exp_stat_sn_;
    client_.send(answer);
  }
  void send_more() {
    if (answered_ == 0) return;
    while (sent_ < commands_each + 1 && !cmd_sn_.after(max_cmd_sn_)) {
      // Those who acknowledge begin with VERIFYs, which need their data and memory to compare with: more than
      // is left beside what is kept for the one who does not.
      if (acknowledges_ && sent_ <= commands_each / 2)
        verify();
      else
        command(largest_blocks);
    }
  }
  // The disk is all zeroes.
  void verify() {
    ScsiCommand pdu;
    pdu.initiator_task_tag = sent_++;
    pdu.write = true;
    pdu.expected_data_transfer_length = largest_blocks * 512;
    pdu.cmd_sn = cmd_sn_;
    pdu.exp_stat_sn = exp_stat_sn_;
    pdu.cdb[0] = 0x2f;  // VERIFY (10)
    pdu.cdb[1] = 0x02;  // BYTCHK 01b
    store_be16(&pdu.cdb[7], static_cast<std::uint16_t>(largest_blocks));
    ++cmd_sn_;
    client_.send(pdu);
  }
  void answer_r2t(const std::uint8_t* bhs) {
    const std::uint32_t begin = load_be32(bhs + 40), end = begin + load_be32(bhs + 44);
    const std::uint32_t most = client_.login().connection.max_xmit_data_segment_length;
    const std::vector<std::uint8_t> zeroes(most);
    DataOut pdu;
    pdu.initiator_task_tag = iscsi::initiator_task_tag(bhs);
    pdu.target_transfer_tag = load_be32(bhs + 20);
    pdu.exp_stat_sn = exp_stat_sn_;
    std::uint32_t sn = 0;
    for (std::uint32_t offset = begin; offset < end; offset += most) {
      const std::uint32_t part = std::min(most, end - offset);
      pdu.data_sn = DataSn(sn++);
      pdu.buffer_offset = offset;
      pdu.final = offset + part == end;
      client_.send(pdu, Bytes(zeroes).first(part));
    }
  }
  void command(std::uint32_t blocks) {
    ScsiCommand pdu;
    pdu.initiator_task_tag = sent_++;
    pdu.read = blocks != 0;
    pdu.expected_data_transfer_length = blocks * 512;
    pdu.cmd_sn = cmd_sn_;
    pdu.exp_stat_sn = exp_stat_sn_;
    if (blocks != 0) {
      pdu.cdb[0] = 0x28;  // READ (10)
      store_be32(&pdu.cdb[2], static_cast<std::uint32_t>(prng_.between(0, disk_blocks - blocks)));
      store_be16(&pdu.cdb[7], static_cast<std::uint16_t>(blocks));
    }
    ++cmd_sn_;
    client_.send(pdu);
  }

  Prng prng_;
  SimHost& host_;
  bool acknowledges_;
  bool leaving_ = false;
  CmdSn cmd_sn_, max_cmd_sn_;
  StatSn exp_stat_sn_, next_stat_sn_;
  std::uint32_t sent_ = 0, answered_ = 0, refused_ = 0, pings_ = 0;
  std::string problem_;
  PduClient client_;
};

std::string run_all(World& world, std::vector<std::unique_ptr<Reader>>& all, TargetMachine& target) {
  std::string problem;
  const auto failed = [&] {
    if (problem.empty()) problem = target.problem();
    for (auto& reader : all) {
      if (problem.empty()) problem = reader->problem();
    }
    return !problem.empty();
  };
  std::uint32_t least_free = target.free_pages();
  const auto all_over = [&] {
    least_free = std::min(least_free, target.free_pages());
    return failed() || std::all_of(all.begin(), all.end(), [](const auto& reader) { return reader->over(); });
  };
  if (!world.run_until(all_over, 600s)) return "a reader starves";
  if (!problem.empty()) return problem;
  if (least_free > BufferPool::pages_for(largest_blocks * 512))
    return "the pool was never short: this run proves nothing";
  // The first did not acknowledge, and has lost what was kept for it.
  all[0]->snack_first();
  if (!world.run_until([&] { return failed() || all[0]->refused() != 0; }, 60s))
    return "a SNACK is not answered";
  const bool asked =
      std::any_of(all.begin(), all.end(), [](const auto& reader) { return reader->pings() != 0; });
  if (!asked) return "nobody was asked to acknowledge";
  if (!problem.empty()) return problem;
  for (auto& reader : all) reader->logout();
  if (!world.run_until([&] { return target.pool_is_whole(); }, 600s)) return "payload memory is not returned";
  return {};
}

}  // namespace

ScenarioResult run_retention(std::uint64_t seed, const ScenarioOptions& options) {
  WorldOptions world_options;
  world_options.trace_sink = options.trace_sink;
  World world(seed, world_options);
  Prng prng = world.prng().fork();
  Pairing pairing;
  pairing.target_segment_length = static_cast<std::uint32_t>(prng.between(1, 32)) * 8192;
  pairing.commands_max = 128;

  SimHost& host = world.add_host("target", {"10.0.0.1"});
  DiskOptions disk;
  disk.size_bytes = disk_blocks * 512;
  host.add_disk("/disk", disk);
  TargetMachine target(world, host, options, [&](target::ServerConfig& config) {
    pairing.apply(config);
    config.params.error_recovery_level = 1;
  });
  target.start();
  std::vector<std::unique_ptr<Reader>> all;
  for (std::uint64_t i = 0; i < readers; ++i) all.push_back(std::make_unique<Reader>(world, i, i != 0));
  ScenarioResult result;
  result.problem = run_all(world, all, target);
  result.trace_hash = world.trace_hash();
  result.events = world.event_count();
  return result;
}

}  // namespace perilune::sim
