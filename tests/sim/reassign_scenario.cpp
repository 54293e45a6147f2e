// SPDX-License-Identifier: Apache-2.0
// Recovery level 2 through the whole target: initiators whose connection fails again and again come back with
// the same CID, have their tasks reassigned and read what they wrote; one that does not come back loses its
// session when its time is over.
#include <algorithm>
#include <map>

#include "sim/machines.hpp"
#include "sim/pdu_client.hpp"
#include "sim/scenarios.hpp"

namespace perilune::sim {

namespace {

using namespace std::chrono_literals;
using namespace perilune::iscsi;

constexpr std::uint64_t initiators = 4;
constexpr std::uint32_t commands_each = 40;  // writes, then reads of the same blocks
constexpr std::uint32_t blocks_of_one = 64;
constexpr std::uint32_t bytes_of_one = blocks_of_one * 512;
constexpr std::uint32_t ping_tag = 0x10000, reassign_tag = 0x20000;

class Returner final : public PduClient::Observer {
 public:
  Returner(World& world, std::uint64_t number, bool returns)
      : prng_(world.prng().fork()),
        host_(world.add_host("returner" + std::to_string(number), {"10.0.1." + std::to_string(number + 1)})),
        loop_(host_.add_loop()),
        failure_(loop_.timers(), Delegate<void()>::to<&Returner::fail_connection>(*this)),
        number_(number),
        returns_(returns) {
    connect();
  }
  ~Returner() override { host_.crash(Crash::process); }

  void on_login(PduClient& client) override {
    if (tsih_ == 0 && client.login().session.error_recovery_level != 2) fail("level 2 was not agreed");
    exp_stat_sn_ = client.login().exp_stat_sn;
    if (tsih_ != 0 && tsih_ != client.login().tsih) fail("another session");
    tsih_ = client.login().tsih;
    // The answer tells what of our commands the target has.
    NopOut ping;
    ping.immediate = true;
    ping.initiator_task_tag = ping_tag;
    ping.cmd_sn = cmd_sn_;
    ping.exp_stat_sn = exp_stat_sn_;
    client.send(ping);
    failure_.arm(loop_.now() + std::chrono::microseconds(prng_.between(1000, 400000)));
  }

  void on_pdu(PduClient& client, const std::uint8_t* bhs, Bytes data) override {
    const CmdSn max(load_be32(bhs + 32));
    if (max.after(max_cmd_sn_)) max_cmd_sn_ = max;
    const Opcode op = opcode(bhs);
    if (op != Opcode::data_in && op != Opcode::ready_to_transfer) {
      if (StatSn(load_be32(bhs + 24)) != exp_stat_sn_) fail("StatSN out of order");
      if (op != Opcode::nop_in || iscsi::initiator_task_tag(bhs) != reserved_tag) ++exp_stat_sn_;
    }
    switch (op) {
      case Opcode::nop_in:
        if (iscsi::initiator_task_tag(bhs) == ping_tag) recover(client, CmdSn(load_be32(bhs + 28)));
        break;
      case Opcode::data_in:
        on_data(bhs, data);
        break;
      case Opcode::ready_to_transfer:
        answer_r2t(client, bhs);
        break;
      case Opcode::scsi_response:
        on_status(bhs);
        break;
      case Opcode::task_management_response:
        if (bhs[2] != 0) fail("a reassignment is refused with " + std::to_string(bhs[2]));
        break;
      default:
        fail("an unexpected PDU");
    }
    if (ready_) send_more(client);
  }

  void on_end(PduClient&) override {
    ready_ = false;
    failure_.cancel();
    if (leaving_ || (gone_ && !returns_)) return;
    if (!gone_) fail("its connection has ended by itself");
    gone_ = false;
    loop_.post([this] { connect(); });
  }

  void logout() {
    leaving_ = true;
    failure_.cancel();
    LogoutRequest pdu;
    pdu.immediate = true;
    pdu.cmd_sn = cmd_sn_;
    pdu.exp_stat_sn = exp_stat_sn_;
    if (clients_.back()->logged_in()) clients_.back()->send(pdu);
  }
  [[nodiscard]] bool over() const noexcept { return next_ == 2 * commands_each && open_.empty() && ready_; }
  [[nodiscard]] bool lost() const noexcept { return gone_; }
  [[nodiscard]] const std::string& problem() const noexcept { return problem_; }
  [[nodiscard]] std::uint32_t failures() const noexcept { return failures_; }
  [[nodiscard]] std::uint32_t reassigned() const noexcept { return reassigned_; }

 private:
  struct Task {
    ScsiCommand pdu;
    std::vector<std::uint8_t> data;
    std::uint32_t next_data_sn = 0;
  };

  void fail(const std::string& what) {
    if (problem_.empty() && !leaving_) problem_ = "initiator " + std::to_string(number_) + ": " + what;
  }
  void connect() {
    InitiatorLoginConfig login;
    login.initiator_name = "iqn.2026-11.io.perilune:returner" + std::to_string(number_);
    login.target_name = target_name;
    login.isid = {0x80, 0, 0, 0, 1, static_cast<std::uint8_t>(number_)};
    login.tsih = tsih_;
    login.cid = 5;
    login.cmd_sn = cmd_sn_;
    login.exp_stat_sn = exp_stat_sn_;
    login.params.error_recovery_level = 2;
    login.params.default_time2wait = 0;
    login.params.default_time2retain = 20;
    clients_.push_back(std::make_unique<PduClient>(loop_, *runtime::Endpoint::parse("10.0.0.1:3260", 0),
                                                   std::move(login), *this));
  }
  void fail_connection() {
    if (over() || leaving_) return;
    ++failures_;
    gone_ = true;
    clients_.back()->drop();
  }

  // What the target has is reassigned; what it has not is sent again under its number.
  void recover(PduClient& client, CmdSn exp_cmd_sn) {
    for (auto& [itt, task] : open_) {
      if (!task.pdu.cmd_sn.before(exp_cmd_sn)) {
        send_command(client, task);
        continue;
      }
      TaskManagementRequest pdu;
      pdu.immediate = true;
      pdu.function = TmfFunction::task_reassign;
      pdu.initiator_task_tag = reassign_tag + itt;
      pdu.referenced_task_tag = itt;
      pdu.cmd_sn = cmd_sn_;
      pdu.exp_stat_sn = exp_stat_sn_;
      if (task.pdu.read) pdu.exp_data_sn = DataSn(task.next_data_sn);
      client.send(pdu);
      ++reassigned_;
    }
    ready_ = true;
  }

  [[nodiscard]] std::uint8_t byte_at(std::uint32_t index, std::uint32_t offset) const {
    return static_cast<std::uint8_t>(number_ * 31 + index * 7 + offset / 13);
  }
  void send_more(PduClient& client) {
    // Reads begin when every write is over.
    while (next_ < 2 * commands_each && !cmd_sn_.after(max_cmd_sn_) &&
           (next_ != commands_each || open_.empty())) {
      const std::uint32_t index = next_ % commands_each;
      Task& task = open_[next_];
      ScsiCommand& pdu = task.pdu;
      pdu.initiator_task_tag = next_++;
      pdu.cmd_sn = cmd_sn_;
      ++cmd_sn_;
      pdu.write = pdu.initiator_task_tag < commands_each;
      pdu.read = !pdu.write;
      pdu.expected_data_transfer_length = bytes_of_one;
      pdu.cdb[0] = pdu.write ? 0x2a : 0x28;
      const auto lba = static_cast<std::uint32_t>((number_ * commands_each + index) * blocks_of_one);
      store_be32(&pdu.cdb[2], lba);
      store_be16(&pdu.cdb[7], blocks_of_one);
      task.data.resize(bytes_of_one);
      for (std::uint32_t i = 0; pdu.write && i < bytes_of_one; ++i) task.data[i] = byte_at(index, i);
      send_command(client, task);
    }
  }
  void send_command(PduClient& client, Task& task) const {
    task.pdu.exp_stat_sn = exp_stat_sn_;
    client.send(task.pdu);
  }
  void answer_r2t(PduClient& client, const std::uint8_t* bhs) {
    const auto task = open_.find(iscsi::initiator_task_tag(bhs));
    if (task == open_.end()) return fail("an R2T of a task that is over");
    const std::uint32_t end = load_be32(bhs + 40) + load_be32(bhs + 44);
    DataOut pdu;
    pdu.initiator_task_tag = task->first;
    pdu.target_transfer_tag = load_be32(bhs + 20);
    pdu.exp_stat_sn = exp_stat_sn_;
    std::uint32_t sn = 0;
    for (std::uint32_t offset = load_be32(bhs + 40); offset < end; offset += 4096) {
      pdu.data_sn = DataSn(sn++);
      pdu.buffer_offset = offset;
      const std::uint32_t part = std::min<std::uint32_t>(4096, end - offset);
      pdu.final = offset + part == end;
      client.send(pdu, Bytes(task->second.data).subspan(offset, part));
    }
  }
  void on_data(const std::uint8_t* bhs, Bytes data) {
    const auto task = open_.find(iscsi::initiator_task_tag(bhs));
    if (task == open_.end() || load_be32(bhs + 36) != task->second.next_data_sn)
      return fail("DataSN out of order");
    const std::uint32_t offset = load_be32(bhs + 40);
    if (offset + data.size() > bytes_of_one) return fail("data outside of the command");
    std::copy(data.begin(), data.end(), task->second.data.begin() + offset);
    ++task->second.next_data_sn;
  }
  void on_status(const std::uint8_t* bhs) {
    const auto task = open_.find(iscsi::initiator_task_tag(bhs));
    if (task == open_.end()) return fail("a status twice");
    if (bhs[3] == 2 && task->first == 0) {  // the unit attention of the new session: once more
      task->second.pdu.cmd_sn = cmd_sn_;
      ++cmd_sn_;
      return send_command(*clients_.back(), task->second);
    }
    if (bhs[3] != 0) fail("a command fails with status " + std::to_string(bhs[3]));
    const std::uint32_t index = task->first % commands_each;
    for (std::uint32_t i = 0; task->second.pdu.read && i < bytes_of_one; ++i) {
      if (task->second.data[i] != byte_at(index, i)) return fail("wrong data was read");
    }
    open_.erase(task);
  }

  Prng prng_;
  SimHost& host_;
  SimLoop& loop_;
  runtime::Timer failure_;
  std::uint64_t number_;
  bool returns_;
  bool gone_ = false;   // we have dropped the connection
  bool ready_ = false;  // recovered: commands may be sent
  bool leaving_ = false;
  std::uint16_t tsih_ = 0;
  CmdSn cmd_sn_{100};
  CmdSn max_cmd_sn_{99};
  StatSn exp_stat_sn_;
  std::uint32_t next_ = 0;  // index of the next command, which is its tag
  std::map<Itt, Task> open_;
  std::uint32_t failures_ = 0, reassigned_ = 0;
  std::string problem_;
  std::vector<std::unique_ptr<PduClient>> clients_;  // the last one talks
};

std::string run_all(World& world, std::vector<std::unique_ptr<Returner>>& all, TargetMachine& target) {
  std::string problem;
  const auto failed = [&] {
    if (problem.empty()) problem = target.problem();
    for (auto& one : all) {
      if (problem.empty()) problem = one->problem();
    }
    return !problem.empty();
  };
  // The last one goes when its connection first fails.
  const auto all_over = [&] {
    return failed() ||
           (std::all_of(all.begin(), all.end() - 1, [](const auto& one) { return one->over(); }) &&
            (all.back()->lost() || all.back()->over()));
  };
  if (!world.run_until(all_over, 3600s)) return "a command is never answered";
  if (!problem.empty()) return problem;
  for (auto& one : all) one->logout();
  const auto began = world.now();
  if (!world.run_until([&] { return target.pool_is_whole(); }, 600s))
    return "a session, or its memory, is never given back";
  if (world.now() - began > 25s) return "a lost session waits for longer than Time2Retain";
  return {};
}

}  // namespace

ReassignResult run_reassign_counted(std::uint64_t seed, const ScenarioOptions& options) {
  WorldOptions world_options;
  world_options.trace_sink = options.trace_sink;
  World world(seed, world_options);
  Pairing pairing;
  pairing.spare_buffer_pages = 256;

  SimHost& host = world.add_host("target", {"10.0.0.1"});
  DiskOptions disk;
  disk.size_bytes = initiators * commands_each * bytes_of_one;
  host.add_disk("/disk", disk);
  TargetMachine target(world, host, options, [&](target::ServerConfig& config) {
    pairing.apply(config);
    config.params.error_recovery_level = 2;
    config.params.default_time2wait = 0;
    config.params.default_time2retain = 20;
  });
  target.start();
  std::vector<std::unique_ptr<Returner>> all;
  for (std::uint64_t i = 0; i < initiators; ++i) {
    all.push_back(std::make_unique<Returner>(world, i, i + 1 != initiators));
  }
  ReassignResult result;
  result.problem = run_all(world, all, target);
  for (const auto& one : all) result.reassigned += one->reassigned();
  result.trace_hash = world.trace_hash();
  result.events = world.event_count();
  return result;
}

ScenarioResult run_reassign(std::uint64_t seed, const ScenarioOptions& options) {
  return run_reassign_counted(seed, options);
}

}  // namespace perilune::sim
