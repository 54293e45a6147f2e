// SPDX-License-Identifier: Apache-2.0
// The Response Fence (RFC 7143 4.2.2.3.3, 4.2.3) through the whole target: sessions of several connections,
// each with a TaskReporting by the seed, abort their tasks and each other's by functions on any connection,
// while answers wait unacknowledged on the others, connections go and come back, and data that was asked for
// comes late or never.
//
// What an initiator may rely on, and what is judged: after the answer to a function that ends many tasks no
// status of a task that it covers comes any more, on whichever connection; a message that all tasks are
// terminated comes with FastAbort only; and every function is answered.
#include <algorithm>
#include <map>
#include <memory>
#include <vector>

#include "sim/machines.hpp"
#include "sim/pdu_client.hpp"
#include "sim/scenarios.hpp"

namespace perilune::sim {

namespace {

using namespace std::chrono_literals;
using namespace perilune::iscsi;

constexpr std::uint32_t commands_each = 150;
constexpr std::uint32_t blocks_each = 256;
constexpr std::uint32_t blocks_of_one = 8;
constexpr std::uint8_t task_aborted = 0x40;

class FencedSession final : public PduClient::Observer {
 public:
  FencedSession(World& world, std::uint64_t number)
      : prng_(world.prng().fork()),
        host_(world.add_host("fenced" + std::to_string(number), {"10.0.1." + std::to_string(number + 1)})),
        loop_(host_.add_loop()),
        timer_(loop_.timers(), Delegate<void()>::to<&FencedSession::act>(*this)),
        number_(number),
        reporting_(static_cast<TaskReporting>(prng_.below(3))),
        ways_(prng_.between(2, 4)) {
    connect(0);
  }
  ~FencedSession() override { host_.crash(Crash::process); }

  void on_login(PduClient& client) override {
    Way& way = way_of(client);
    way.exp_stat_sn = client.login().exp_stat_sn;
    if (tsih_ == 0) {
      if (client.login().session.task_reporting != reporting_) fail("another TaskReporting was agreed on");
      cmd_sn_ = client.login().next_cmd_sn;
      max_cmd_sn_ = client.login().max_cmd_sn;
      tsih_ = client.login().tsih;
      for (std::uint64_t i = 1; i < ways_.size(); ++i) connect(i);
    }
    if (!timer_.armed()) pace();
  }

  void on_pdu(PduClient& client, const std::uint8_t* bhs, Bytes) override {
    Way& way = way_of(client);
    const CmdSn max(load_be32(bhs + 32));
    if (max.after(max_cmd_sn_)) max_cmd_sn_ = max;
    const Opcode op = opcode(bhs);
    const bool ping = op == Opcode::nop_in && initiator_task_tag(bhs) == reserved_tag;
    const bool data =
        op == Opcode::ready_to_transfer || (op == Opcode::data_in && !DataIn::decode(bhs).has_status);
    if (!ping && !data) {
      if (StatSn(load_be32(bhs + 24)) != way.exp_stat_sn) fail("StatSN out of order");
      ++way.exp_stat_sn;
    }
    switch (op) {
      case Opcode::nop_in:
        if (ping) way.pings.push_back(load_be32(bhs + 20));  // answered at some time
        break;
      case Opcode::data_in:
        if (!data) answered(initiator_task_tag(bhs), 0);
        break;
      case Opcode::scsi_response:
        answered(initiator_task_tag(bhs), bhs[3]);
        break;
      case Opcode::ready_to_transfer:
        if (const auto task = tasks_.find(initiator_task_tag(bhs));
            task != tasks_.end() && !prng_.chance(1, 30))
          way.wanted.push_back(ReadyToTransfer::decode(bhs));
        break;
      case Opcode::task_management_response:
        function_answered(initiator_task_tag(bhs), bhs[2]);
        break;
      case Opcode::async_message:
        told(AsyncMessage::decode(bhs));
        break;
      default:
        fail("an unexpected PDU");
    }
  }

  void on_end(PduClient& client) override {
    Way& way = way_of(client);
    way.pings.clear();
    way.wanted.clear();
    if (leaving_) return;
    if (!way.dropped) fail("its connection has ended by itself");
    way.dropped = false;
    const auto number = static_cast<std::uint64_t>(&way - ways_.data());
    loop_.post([this, number] {
      fill_holes(number);
      connect(number);
    });
  }

  // The last function covers whatever nobody has answered: what the others' functions have ended, and what
  // went with a connection.
  [[nodiscard]] bool over() const noexcept {
    return sent_ == commands_each && last_function_sent_ && functions_.empty();
  }
  void logout() {
    leaving_ = true;
    timer_.cancel();
    Way* way = any_way();
    if (way == nullptr) return;
    LogoutRequest pdu;
    pdu.immediate = true;
    pdu.cmd_sn = cmd_sn_;
    pdu.exp_stat_sn = way->exp_stat_sn;
    way->client->send(pdu);
  }
  void count(FencesResult& result) const {
    result.answered += answered_;
    result.ended += ended_;
    result.functions += functions_answered_;
    result.messages += messages_;
  }
  [[nodiscard]] const std::string& problem() const noexcept { return problem_; }

 private:
  struct Way {
    std::unique_ptr<PduClient> client;
    StatSn exp_stat_sn;
    std::vector<Ttt> pings;  // not answered yet
    std::vector<ReadyToTransfer> wanted;
    bool dropped = false;
  };
  struct Task {
    CmdSn cmd_sn;
    std::size_t way = 0;
    bool ended = false;  // a function that covers it was answered
  };
  struct Function {
    TmfFunction function = TmfFunction::abort_task_set;
    CmdSn cmd_sn;
    std::size_t way = 0;
  };

  void fail(const std::string& what) {
    if (problem_.empty() && !leaving_) problem_ = "session " + std::to_string(number_) + ": " + what;
  }
  Way& way_of(const PduClient& client) {
    return *std::find_if(ways_.begin(), ways_.end(),
                         [&](const Way& way) { return way.client.get() == &client; });
  }
  [[nodiscard]] std::size_t ways_up() const {
    return static_cast<std::size_t>(std::count_if(ways_.begin(), ways_.end(), up));
  }
  static bool up(const Way& way) { return way.client != nullptr && way.client->logged_in(); }
  Way* any_way() {
    std::vector<Way*> all;
    for (Way& way : ways_) {
      if (up(way)) all.push_back(&way);
    }
    return all.empty() ? nullptr : all[prng_.below(all.size())];
  }

  void connect(std::uint64_t number) {
    InitiatorLoginConfig login;
    login.initiator_name = "iqn.2026-11.io.perilune:fenced" + std::to_string(number_);
    login.target_name = target_name;
    login.isid = {0x80, 0, 0, 0, 2, static_cast<std::uint8_t>(number_)};
    login.tsih = tsih_;
    login.cid = static_cast<std::uint16_t>(number);
    login.cmd_sn = tsih_ == 0 ? CmdSn(1) : cmd_sn_;
    login.params.max_connections = static_cast<std::uint16_t>(ways_.size());
    login.params.initial_r2t = true;
    login.params.immediate_data = false;
    login.params.max_burst_length = 2048;
    login.params.first_burst_length = 512;
    login.params.task_reporting = {reporting_};
    Way& way = ways_[number];
    if (way.client != nullptr) old_.push_back(std::move(way.client));
    way.client = std::make_unique<PduClient>(loop_, *runtime::Endpoint::parse("10.0.0.1:3260", 0),
                                             std::move(login), *this);
  }

  // Numbers that a connection took along are used up by other commands (RFC 7143 7.2.1); those that the
  // target has seen it ignores.
  void fill_holes(std::uint64_t number) {
    Way* way = any_way();
    if (way == nullptr) return;
    std::vector<CmdSn> holes;
    std::erase_if(tasks_, [&](const auto& entry) {
      if (entry.second.way != number) return false;
      if (!entry.second.ended) holes.push_back(entry.second.cmd_sn);
      return true;
    });
    std::erase_if(functions_, [&](const auto& entry) { return entry.second.way == number; });
    for (CmdSn hole : holes) {
      ScsiCommand pdu;
      pdu.initiator_task_tag = filler_tag++;
      pdu.cmd_sn = hole;
      pdu.exp_stat_sn = way->exp_stat_sn;
      way->client->send(pdu);
    }
    if (last_function_sent_ && functions_.empty()) last_function_sent_ = false;  // it went too: once more
  }

  void pace() { timer_.arm(loop_.now() + std::chrono::microseconds(prng_.between(50, 4000))); }
  void act() {
    if (leaving_) return;
    pace();
    Way* way = any_way();
    if (way == nullptr) return;
    switch (prng_.below(16)) {
      case 0:
        if (functions_.size() < 4) send_function(*way);
        break;
      case 1:
        if (ways_up() > 1 && prng_.chance(1, 4)) {
          way->dropped = true;
          way->client->drop();
        }
        break;
      case 2:
      case 3:
      case 4:
        acknowledge(*way);
        break;
      case 5:
      case 6:
      case 7:
        give_data(*way);
        break;
      default:
        send_command(*way);
    }
  }

  void send_command(Way& way) {
    if (sent_ == commands_each) {
      if (!last_function_sent_ && !cmd_sn_.after(max_cmd_sn_.plus(1))) {
        last_function_sent_ = true;
        send_function(way);
      }
      return;
    }
    if (cmd_sn_.after(max_cmd_sn_)) return;
    ScsiCommand pdu;
    pdu.initiator_task_tag = sent_++;
    pdu.cmd_sn = cmd_sn_;
    pdu.exp_stat_sn = way.exp_stat_sn;
    const auto lba =
        static_cast<std::uint32_t>(number_ * blocks_each + prng_.below(blocks_each - blocks_of_one));
    switch (prng_.below(3)) {
      case 0:
        break;  // TEST UNIT READY
      case 1:
        pdu.read = true;
        pdu.cdb[0] = 0x28;
        break;
      default:
        pdu.write = true;
        pdu.cdb[0] = 0x2a;
    }
    if (pdu.read || pdu.write) {
      pdu.expected_data_transfer_length = blocks_of_one * 512;
      store_be32(&pdu.cdb[2], lba);
      store_be16(&pdu.cdb[7], blocks_of_one);
    }
    tasks_[pdu.initiator_task_tag] = {cmd_sn_, static_cast<std::size_t>(&way - ways_.data()), false};
    ++cmd_sn_;
    way.client->send(pdu);
  }
  void send_function(Way& way) {
    static constexpr TmfFunction all[] = {TmfFunction::abort_task_set, TmfFunction::clear_task_set,
                                          TmfFunction::logical_unit_reset, TmfFunction::target_warm_reset};
    TaskManagementRequest pdu;
    pdu.immediate = true;
    pdu.function = all[prng_.below(std::size(all))];
    pdu.initiator_task_tag = function_tag + functions_sent_++;
    pdu.cmd_sn = cmd_sn_;
    pdu.exp_stat_sn = way.exp_stat_sn;
    functions_[pdu.initiator_task_tag] = {pdu.function, cmd_sn_,
                                          static_cast<std::size_t>(&way - ways_.data())};
    way.client->send(pdu);
  }
  void acknowledge(Way& way) {
    for (Ttt ttt : std::exchange(way.pings, {})) {
      NopOut pdu;
      pdu.immediate = true;
      pdu.target_transfer_tag = ttt;
      pdu.cmd_sn = cmd_sn_;
      pdu.exp_stat_sn = way.exp_stat_sn;
      way.client->send(pdu);
    }
  }
  void give_data(Way& way) {
    static constexpr std::array<std::uint8_t, 2048> data{};
    for (const ReadyToTransfer& r2t : std::exchange(way.wanted, {})) {
      DataOut pdu;
      pdu.final = true;
      pdu.initiator_task_tag = r2t.initiator_task_tag;
      pdu.target_transfer_tag = r2t.target_transfer_tag;
      pdu.exp_stat_sn = way.exp_stat_sn;
      pdu.buffer_offset = r2t.buffer_offset;
      way.client->send(pdu, Bytes(data).first(r2t.desired_data_transfer_length));
    }
  }

  void answered(Itt itt, std::uint8_t status) {
    if (itt >= filler_tag_first) return;
    const auto task = tasks_.find(itt);
    if (task == tasks_.end()) return fail("a status of a task that has had one");
    if (task->second.ended)
      return fail("a status has passed the fence of a function that had ended its task");
    if (status == task_aborted) fail("TASK ABORTED, and TAS is 0");
    ++answered_;
    tasks_.erase(task);
  }
  void function_answered(Itt itt, std::uint8_t response) {
    const auto function = functions_.find(itt);
    if (function == functions_.end()) return fail("an answer to no function");
    if (response != 0) fail("a function is answered with " + std::to_string(response));
    ++functions_answered_;
    for (auto& [tag, task] : tasks_) {
      if (!task.cmd_sn.before(function->second.cmd_sn) || task.ended) continue;
      task.ended = true;
      ++ended_;
    }
    functions_.erase(function);
  }
  void told(const AsyncMessage& message) {
    if (message.async_event != AsyncEvent::all_tasks_terminated) return fail("an unexpected message");
    if (reporting_ != TaskReporting::fast_abort)
      fail("tasks are said to be terminated, and FastAbort was not agreed on");
    ++messages_;
  }

  static constexpr Itt function_tag = 0x20000, filler_tag_first = 0x40000;
  Itt filler_tag = filler_tag_first;
  Prng prng_;
  SimHost& host_;
  SimLoop& loop_;
  runtime::Timer timer_;
  std::uint64_t number_;
  TaskReporting reporting_;
  std::uint16_t tsih_ = 0;
  std::vector<Way> ways_;
  std::vector<std::unique_ptr<PduClient>> old_;
  CmdSn cmd_sn_, max_cmd_sn_;
  std::map<Itt, Task> tasks_;
  std::map<Itt, Function> functions_;
  std::uint32_t sent_ = 0, functions_sent_ = 0;
  std::uint64_t answered_ = 0, ended_ = 0, functions_answered_ = 0, messages_ = 0;
  bool last_function_sent_ = false;
  bool leaving_ = false;
  std::string problem_;
};

std::string live(World& world, TargetMachine& target, std::vector<std::unique_ptr<FencedSession>>& all) {
  std::string problem;
  const auto failed = [&] {
    if (problem.empty()) problem = target.problem();
    for (auto& one : all) {
      if (problem.empty()) problem = one->problem();
    }
    return !problem.empty();
  };
  const auto all_over = [&] {
    return failed() || std::all_of(all.begin(), all.end(), [](const auto& one) { return one->over(); });
  };
  if (!world.run_until(all_over, 3600s)) return "a function is never answered, or the window never opens";
  if (!problem.empty()) return problem;
  for (auto& one : all) one->logout();
  if (!world.run_until([&] { return target.pool_is_whole(); }, 600s))
    return "a session, or its memory, is never given back";
  return {};
}

}  // namespace

FencesResult run_fences_counted(std::uint64_t seed, const ScenarioOptions& options) {
  WorldOptions world_options;
  world_options.trace_sink = options.trace_sink;
  World world(seed, world_options);
  Prng prng = world.prng().fork();
  const std::uint64_t sessions = prng.between(1, 3);
  const auto shards = static_cast<std::uint32_t>(prng.between(1, 2));
  SimHost& host = world.add_host("target", {"10.0.0.1"});
  DiskOptions disk;
  disk.size_bytes = sessions * blocks_each * 512;
  host.add_disk("/disk", disk);
  TargetMachine target(
      world, host, options,
      [](target::ServerConfig& config) {
        Pairing pairing;
        pairing.spare_buffer_pages = 256;
        pairing.apply(config);
        config.params.max_connections = 4;
        config.params.task_reporting = {TaskReporting::rfc3720, TaskReporting::response_fence,
                                        TaskReporting::fast_abort};
      },
      shards);
  target.start();
  FencesResult result;
  {
    std::vector<std::unique_ptr<FencedSession>> all;
    for (std::uint64_t i = 0; i < sessions; ++i) all.push_back(std::make_unique<FencedSession>(world, i));
    result.problem = live(world, target, all);
    for (const auto& one : all) one->count(result);
  }
  result.trace_hash = world.trace_hash();
  result.events = world.event_count();
  return result;
}

ScenarioResult run_fences(std::uint64_t seed, const ScenarioOptions& options) {
  return run_fences_counted(seed, options);
}

}  // namespace perilune::sim
