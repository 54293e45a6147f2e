// SPDX-License-Identifier: Apache-2.0
// Recovery of connections against a model: an initiator of a few hundred lines with several connections to
// one session, whose connections fail at any byte, as a seed says. Whatever fails, every command is carried
// out exactly once, its data is right, and its status comes exactly once (RFC 7143 4.2.2, 7.2.1, 7.2.2). Some
// answers are fenced: they keep their place among those of all connections (RFC 7143 4.2.2.3.3).
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <set>

#include "iscsi/session/target_session_test_support.hpp"

namespace perilune::iscsi {
namespace {

std::uint8_t byte_of(Itt command, std::uint32_t offset) {
  return static_cast<std::uint8_t>(command * 37 + offset * 11 + offset / 256);
}

// Carries commands out at once or later; counts how often.
class ModelHost final : public RecordingHost {
 public:
  explicit ModelHost(std::mt19937& random) : random_(random) {}
  void prepare_unsolicited(TargetCommand& command, std::uint32_t bytes) override {
    static_cast<Item&>(command).memory.reserve(
        command.pdu.expected_data_transfer_length);  // it must not move
    RecordingHost::prepare_unsolicited(command, bytes);
  }
  void on_command(TargetCommand& command) override {
    auto& item = static_cast<Item&>(command);
    const std::uint32_t bytes = command.pdu.expected_data_transfer_length;
    if (command.pdu.read) {
      if (random_() % 2 == 0)
        carry_out(command);
      else
        pending.push_back(&command);
      return;
    }
    item.memory.resize(bytes);
    item.iov = {item.memory.data(), item.memory.size()};
    command.session->begin_data_out(command, {&item.iov, 1}, bytes);
  }
  void on_data_out(TargetCommand& command) override {
    if (random_() % 2 == 0)
      carry_out(command);
    else
      pending.push_back(&command);
  }
  void abort(TargetCommand& command) override {
    std::erase(pending, &command);
    RecordingHost::abort(command);
  }
  void carry_out(TargetCommand& command) {
    auto& item = static_cast<Item&>(command);
    const Itt itt = command.pdu.initiator_task_tag;
    const std::uint32_t bytes = command.pdu.expected_data_transfer_length;
    ++carried_out[itt];
    ended.push_back(itt);
    command.fenced = fenced(itt);
    if (command.pdu.read) {
      item.memory.resize(bytes);
      item.iov = {item.memory.data(), item.memory.size()};
      for (std::uint32_t i = 0; i < bytes; ++i) item.memory[i] = byte_of(itt, i);
    } else {
      for (std::uint32_t i = 0; i < bytes; ++i) wrong = wrong || item.memory[i] != byte_of(itt, i);
    }
    command.session->complete(command, 0, {}, {&item.iov, 1}, command.pdu.read ? bytes : 0, bytes);
  }
  [[nodiscard]] static bool fenced(Itt itt) noexcept { return itt % 7 == 3; }
  std::vector<TargetCommand*> pending;
  std::map<Itt, int> carried_out;
  std::vector<Itt> ended;  // in the order in which they were answered
  bool wrong = false;

 private:
  std::mt19937& random_;
};

class Model {
 public:
  explicit Model(std::uint32_t seed) : random_(seed), host_(random_) {
    params_.max_connections = 4;
    params_.error_recovery_level = 2;
    params_.default_time2retain = 20;
    params_.initial_r2t = chance(2);
    params_.immediate_data = chance(2);
    params_.first_burst_length = 1024;
    params_.max_burst_length = 2048;
    params_.max_outstanding_r2t = static_cast<std::uint16_t>(1 + below(3));
    session_ = std::make_unique<TargetSession>(host_, params_, cmd_sn_, 16);
    max_cmd_sn_ = session_->max_cmd_sn();
    for (std::uint16_t cid = 0; cid < 3; ++cid) join(cid);
  }

  void run() {
    constexpr Itt commands = 60;
    for (int step = 0; step < 4000 && !testing::Test::HasFailure(); ++step) {
      if (next_itt_ < commands && chance(4)) issue();
      if (chance(3)) complete_one();
      if (next_itt_ < commands && chance(60)) fail_one();
      move_bytes();
      if (next_itt_ == commands && done()) break;
    }
    for (int step = 0; step < 4000 && !done() && !testing::Test::HasFailure(); ++step) {
      complete_one();
      move_bytes();
    }
    EXPECT_TRUE(done()) << "a command never ends";
    EXPECT_FALSE(host_.wrong) << "wrong data was written";
    for (const auto& [itt, task] : tasks_) EXPECT_EQ(host_.carried_out[itt], 1) << "command " << itt;
    links_.clear();
    session_->shut_down();
    EXPECT_TRUE(session_->idle());
    session_.reset();
    EXPECT_EQ(host_.live, 0);
  }
  [[nodiscard]] int failures() const noexcept { return failures_; }
  [[nodiscard]] std::uint64_t reassigned() const noexcept { return reassigned_; }
  [[nodiscard]] std::uint64_t pings() const noexcept { return pings_; }

 private:
  struct Task {
    ScsiCommand pdu;
    std::uint16_t cid = 0;  // its allegiance as we see it
    std::vector<std::uint8_t> data;
    std::uint32_t next_data_sn = 0;
    std::uint32_t received = 0;
    bool done = false;
    bool failed_over = false;  // its connection failed before we had its status
  };
  struct Link {
    std::unique_ptr<TargetConnection> target;
    std::vector<std::uint8_t> to_target, to_us;
    PduDecoder decoder{65536};
    StatSn exp_stat_sn;
  };

  std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>(random_() % n); }
  bool chance(std::uint32_t one_in) { return below(one_in) == 0; }

  void join(std::uint16_t cid) {
    ConnectionParams params;
    params.max_recv_data_segment_length = 1024;
    params.max_xmit_data_segment_length = 512 * (1 + below(3));
    links_.erase(cid);
    Link& link = links_[cid];
    link.exp_stat_sn = StatSn(chance(2) ? 0xfffffffe : below(1000000));
    link.target = std::make_unique<TargetConnection>(*session_, params, cid, link.exp_stat_sn, chunks_);
  }

  template <class P>
  void send(std::uint16_t cid, P pdu, Bytes data = {}) {
    pdu.exp_stat_sn = links_.at(cid).exp_stat_sn;
    const auto wire = to_wire(pdu, data);
    auto& queue = links_.at(cid).to_target;
    queue.insert(queue.end(), wire.begin(), wire.end());
  }
  std::uint16_t any_link() {
    auto it = links_.begin();
    std::advance(it, below(static_cast<std::uint32_t>(links_.size())));
    return it->first;
  }

  void issue() {
    if (cmd_sn_.after(max_cmd_sn_)) return;
    const Itt itt = next_itt_++;
    Task& task = tasks_[itt];
    task.cid = any_link();
    ScsiCommand& pdu = task.pdu;
    pdu.initiator_task_tag = itt;
    pdu.cmd_sn = cmd_sn_;
    ++cmd_sn_;
    pdu.read = chance(2);
    pdu.write = !pdu.read;
    pdu.expected_data_transfer_length = 4 * (1 + below(1500));
    task.data.resize(pdu.expected_data_transfer_length);
    if (pdu.write) {
      for (std::uint32_t i = 0; i < task.data.size(); ++i) task.data[i] = byte_of(itt, i);
    }
    send_command(task);
  }
  void send_command(Task& task) {
    ScsiCommand pdu = task.pdu;
    if (!pdu.write) return send(task.cid, pdu);
    const std::uint32_t burst = std::min(pdu.expected_data_transfer_length, params_.first_burst_length);
    const std::uint32_t with_it = params_.immediate_data ? below(burst + 1) : 0;
    const bool more = !params_.initial_r2t && with_it < burst && chance(2);
    pdu.final = !more;
    send(task.cid, pdu, Bytes(task.data).first(with_it));
    if (more) send_data(task, reserved_tag, with_it, burst);
  }
  void send_data(const Task& task, Ttt ttt, std::uint32_t begin, std::uint32_t end) {
    DataOut pdu;
    pdu.initiator_task_tag = task.pdu.initiator_task_tag;
    pdu.target_transfer_tag = ttt;
    for (std::uint32_t sn = 0; begin < end; ++sn) {
      const std::uint32_t part = std::min(end - begin, 1 + below(1024));
      pdu.data_sn = DataSn(sn);
      pdu.buffer_offset = begin;
      pdu.final = begin + part == end;
      send(task.cid, pdu, Bytes(task.data).subspan(begin, part));
      begin += part;
    }
  }

  void complete_one() {
    if (host_.pending.empty()) return;
    TargetCommand* command = host_.pending[below(static_cast<std::uint32_t>(host_.pending.size()))];
    std::erase(host_.pending, command);
    host_.carry_out(*command);
  }

  // The network carries some bytes of one connection, either way.
  void move_bytes() {
    const std::uint16_t cid = any_link();
    Link& link = links_.at(cid);
    if (chance(2)) {
      const std::size_t part = below(static_cast<std::uint32_t>(link.to_target.size()) + 1);
      const std::vector<std::uint8_t> bytes(link.to_target.begin(),
                                            link.to_target.begin() + static_cast<std::ptrdiff_t>(part));
      link.to_target.erase(link.to_target.begin(),
                           link.to_target.begin() + static_cast<std::ptrdiff_t>(part));
      EXPECT_TRUE(link.target->feed(bytes)) << link.target->drop_reason();
    } else {
      std::array<iovec, 8> out;
      const std::size_t n = link.target->tx().gather(out);
      std::size_t bytes = 0;
      for (std::size_t i = 0; i < n; ++i) {
        const auto* at = static_cast<const std::uint8_t*>(out[i].iov_base);
        link.to_us.insert(link.to_us.end(), at, at + out[i].iov_len);
        bytes += out[i].iov_len;
      }
      link.target->tx().sent(bytes);
      const std::size_t part = below(static_cast<std::uint32_t>(link.to_us.size()) + 1);
      const std::vector<std::uint8_t> arrived(link.to_us.begin(),
                                              link.to_us.begin() + static_cast<std::ptrdiff_t>(part));
      link.to_us.erase(link.to_us.begin(), link.to_us.begin() + static_cast<std::ptrdiff_t>(part));
      receive(cid, arrived);
    }
    close_named();
  }
  void receive(std::uint16_t cid, Bytes bytes) {
    Link& link = links_.at(cid);
    for (;;) {
      switch (link.decoder.next(bytes)) {
        case PduDecoder::Event::need_more:
          return;
        case PduDecoder::Event::header:
          link.decoder.collect();
          break;
        case PduDecoder::Event::pdu:
          on_pdu(cid, link);
          break;
        case PduDecoder::Event::error:
          FAIL();
      }
    }
  }

  void on_pdu(std::uint16_t cid, Link& link) {
    const std::uint8_t* bhs = link.decoder.bhs();
    const CmdSn max(load_be32(bhs + 32));
    if (max.after(max_cmd_sn_)) max_cmd_sn_ = max;
    const Opcode op = opcode(bhs);
    const bool counts = op != Opcode::data_in && op != Opcode::ready_to_transfer &&
                        !(op == Opcode::nop_in && initiator_task_tag(bhs) == reserved_tag);
    if (counts) {
      EXPECT_EQ(load_be32(bhs + 24), link.exp_stat_sn.value()) << "StatSN of connection " << cid;
      ++link.exp_stat_sn;
    }
    switch (op) {
      case Opcode::data_in:
        return on_data(cid, bhs, link.decoder.data());
      case Opcode::ready_to_transfer:
        return on_r2t(cid, bhs);
      case Opcode::scsi_response:
        return on_status(cid, bhs);
      case Opcode::task_management_response:
        return on_reassigned(bhs);
      case Opcode::logout_response:
        return on_logged_out(cid, bhs);
      case Opcode::nop_in:
        return answer_ping(cid, bhs);
      case Opcode::reject:  // one Logout at a time and connection
        EXPECT_EQ(bhs[2], 0x0c);
        return ask_logout(
            static_cast<std::uint16_t>(initiator_task_tag(link.decoder.data().data()) - 0x10000));
      default:
        ADD_FAILURE() << "opcode " << int(bhs[0]);
    }
  }
  void answer_ping(std::uint16_t cid, const std::uint8_t* bhs) {
    NopOut pdu;
    pdu.immediate = true;
    pdu.initiator_task_tag = reserved_tag;
    pdu.target_transfer_tag = load_be32(bhs + 20);
    pdu.cmd_sn = cmd_sn_;
    send(cid, pdu);
    ++pings_;
  }
  // What has an answer before this one and stands on the other side of a fence has come, unless it may have
  // been sent on a connection that failed.
  void check_fence(Itt itt) {
    for (const Itt other : host_.ended) {
      if (other == itt) return;
      const Task& earlier = tasks_.at(other);
      if (!ModelHost::fenced(other) && !ModelHost::fenced(itt)) continue;
      EXPECT_TRUE(earlier.done || earlier.failed_over)
          << "the answer of " << itt << " overtook that of " << other;
    }
  }
  Task& task_of(std::uint16_t cid, const std::uint8_t* bhs) {
    Task& task = tasks_.at(initiator_task_tag(bhs));
    EXPECT_EQ(task.cid, cid) << "of a task that is allegiant to another connection";
    EXPECT_FALSE(task.done) << "of a task that is over";
    return task;
  }
  void on_data(std::uint16_t cid, const std::uint8_t* bhs, Bytes data) {
    Task& task = task_of(cid, bhs);
    EXPECT_EQ(load_be32(bhs + 36), task.next_data_sn) << "DataSN";
    const std::uint32_t offset = load_be32(bhs + 40);
    EXPECT_EQ(offset, task.received);
    ASSERT_LE(offset + data.size(), task.data.size());
    std::copy(data.begin(), data.end(), task.data.begin() + offset);
    ++task.next_data_sn;
    task.received = offset + static_cast<std::uint32_t>(data.size());
  }
  void on_r2t(std::uint16_t cid, const std::uint8_t* bhs) {
    const Task& task = task_of(cid, bhs);
    const std::uint32_t begin = load_be32(bhs + 40);
    send_data(task, load_be32(bhs + 20), begin, begin + load_be32(bhs + 44));
  }
  void on_status(std::uint16_t cid, const std::uint8_t* bhs) {
    Task& task = task_of(cid, bhs);
    task.done = true;
    check_fence(task.pdu.initiator_task_tag);
    EXPECT_EQ(bhs[3], 0);
    if (!task.pdu.read) return;
    EXPECT_EQ(load_be32(bhs + 36), task.next_data_sn) << "ExpDataSN";
    EXPECT_EQ(task.received, task.data.size());
    for (std::uint32_t i = 0; i < task.data.size(); ++i) {
      ASSERT_EQ(task.data[i], byte_of(task.pdu.initiator_task_tag, i)) << "wrong data was read";
    }
  }
  [[nodiscard]] bool done() const {
    return std::all_of(tasks_.begin(), tasks_.end(), [](const auto& entry) { return entry.second.done; });
  }

  // ---- failure and recovery

  void fail_one() {
    const std::uint16_t cid = any_link();
    Link& link = links_.at(cid);
    ++failures_;
    // What was under way may have arrived in part.
    const std::size_t part = below(static_cast<std::uint32_t>(link.to_target.size()) + 1);
    EXPECT_TRUE(link.target->feed(Bytes(link.to_target).first(part)));
    close_named();
    receive(cid, Bytes(link.to_us).first(below(static_cast<std::uint32_t>(link.to_us.size()) + 1)));
    for (auto& [itt, task] : tasks_) task.failed_over |= task.cid == cid && !task.done;
    const StatSn exp_stat_sn = link.exp_stat_sn;
    const bool explicitly = links_.size() > 1 && chance(2);
    if (explicitly && chance(2)) {  // we alone know that it is broken
      broken_.insert({cid, std::move(links_.at(cid).target)});
      links_.erase(cid);
      ask_logout(cid);
      return;
    }
    link.target->tx().clear();
    links_.erase(cid);
    if (explicitly) return ask_logout(cid);
    join(cid);
    session_->connection_reinstated(cid, exp_stat_sn);
    recover(cid, cid, session_->exp_cmd_sn());  // of the Login Response
  }
  void ask_logout(std::uint16_t cid) {
    LogoutRequest pdu;
    pdu.immediate = true;
    pdu.reason = LogoutReason::remove_connection_for_recovery;
    pdu.cid = cid;
    pdu.initiator_task_tag = 0x10000 + cid;
    pdu.cmd_sn = cmd_sn_;
    const std::uint16_t on = any_link();
    send(on, pdu);
    logouts_[cid] = on;
  }
  void on_logged_out(std::uint16_t on, const std::uint8_t* bhs) {
    const auto cid = static_cast<std::uint16_t>(initiator_task_tag(bhs) - 0x10000);
    EXPECT_TRUE(bhs[2] == 0 || (bhs[2] == 1 && asked_again_.contains(cid))) << "connection " << cid;
    logouts_.erase(cid);
    recover(cid, on, CmdSn(load_be32(bhs + 28)));
    if (links_.size() < 3) join(next_cid_++);
  }
  // The target closes what a Logout on another connection named.
  void close_named() {
    while (!host_.to_close.empty()) {
      TargetConnection* named = host_.to_close.back();
      host_.to_close.pop_back();
      named->tx().clear();
      std::erase_if(broken_, [&](const auto& entry) { return entry.second.get() == named; });
    }
  }
  // RFC 7143 7.2.1, 7.2.2: what the target has is reassigned, what it has not is sent again under its number.
  void recover(std::uint16_t lost, std::uint16_t on, CmdSn exp_cmd_sn) {
    // A Logout that was asked on it is asked again elsewhere.
    std::vector<std::uint16_t> again;
    for (const auto& [cid, asked_on] : logouts_) {
      if (asked_on == lost) again.push_back(cid);
    }
    for (auto& [itt, task] : tasks_) {
      if (task.done || task.cid != lost) continue;
      task.cid = on;
      if (task.pdu.cmd_sn.before(exp_cmd_sn))
        reassign(task);
      else
        send_command(task);
    }
    for (const std::uint16_t cid : again) {
      asked_again_.insert(cid);
      ask_logout(cid);
    }
  }
  void reassign(Task& task) {
    TaskManagementRequest pdu;
    pdu.immediate = true;
    pdu.function = TmfFunction::task_reassign;
    pdu.initiator_task_tag = 0x20000 + task.pdu.initiator_task_tag;
    pdu.referenced_task_tag = task.pdu.initiator_task_tag;
    pdu.cmd_sn = cmd_sn_;
    if (task.pdu.read) pdu.exp_data_sn = DataSn(task.next_data_sn);
    send(task.cid, pdu);
    ++reassigned_;
  }
  static void on_reassigned(const std::uint8_t* bhs) {
    EXPECT_EQ(bhs[2], 0) << "reassigning command " << initiator_task_tag(bhs) - 0x20000;
  }

  std::mt19937 random_;
  ModelHost host_;
  SessionParams params_;
  TxChunkPool chunks_;
  std::unique_ptr<TargetSession> session_;
  std::map<std::uint16_t, Link> links_;
  std::map<std::uint16_t, std::unique_ptr<TargetConnection>> broken_;  // that the target takes for alive
  std::map<std::uint16_t, std::uint16_t> logouts_;                     // asked for this one, on that one
  std::set<std::uint16_t> asked_again_;  // whose first Logout may have been heard
  std::map<Itt, Task> tasks_;
  Itt next_itt_ = 0;
  std::uint16_t next_cid_ = 20;
  CmdSn cmd_sn_{0xfffffff0};
  CmdSn max_cmd_sn_;
  int failures_ = 0;
  std::uint64_t reassigned_ = 0;
  std::uint64_t pings_ = 0;
};

TEST(TargetReassignModel, EveryCommandIsCarriedOutOnceAndAnsweredOnce) {
  int failures = 0;
  std::uint64_t reassigned = 0;
  std::uint64_t pings = 0;
  for (std::uint32_t seed = 1; seed <= 300 && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    Model model(seed);
    model.run();
    failures += model.failures();
    reassigned += model.reassigned();
    pings += model.pings();
  }
  EXPECT_GT(failures, 300);
  EXPECT_GT(reassigned, 300u) << "this proves nothing";
  EXPECT_GT(pings, 300u) << "no fence had to wait";
}

}  // namespace
}  // namespace perilune::iscsi
