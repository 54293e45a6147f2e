// SPDX-License-Identifier: Apache-2.0
// The initiator's session against a hostile target: whatever comes, no byte lands outside the memory of the command it is for,
// every command ends exactly once, Data-Out never leaves what the command holds, and queues stay bounded.
#include <array>
#include <memory>
#include <optional>

#include "fuzz_input.hpp"
#include "iscsi/session/initiator_session.hpp"

namespace {

using namespace perilune;
using namespace perilune::iscsi;
using fuzz::Input;
using fuzz::require;

constexpr std::size_t command_count = 6;

struct Command : InitiatorCommand {
  std::vector<std::uint8_t> memory;
  std::array<iovec, 2> iov{};
  bool open = false;
};

class Harness {
 public:
  explicit Harness(Input& input) : input_(input) {
    const std::uint8_t flags = input_.byte();
    InitiatorSessionParameters session;
    session.initial_r2t = (flags & 1) != 0;
    session.immediate_data = (flags & 2) != 0;
    session.data_pdu_in_order = (flags & 4) == 0;
    session.data_sequence_in_order = (flags & 8) == 0;
    session.first_burst_bytes = 512 + input_.number(2);
    session.max_burst_bytes = session.first_burst_bytes + input_.number(2);
    session.max_outstanding_r2t = 1 + input_.byte() % 16u;
    InitiatorConnectionParameters connection;
    connection.exp_stat_sn = StatSn(stat_sn_);
    connection.max_recv_data_segment_bytes = 65536;
    connection.max_send_data_segment_bytes = 512 + input_.number(2);
    connection.data_digest = (flags & 16) != 0;
    const CmdSn cmd_sn((flags & 32) != 0 ? 0xfffffffd : 1);
    session_.open(session, cmd_sn, cmd_sn, cmd_sn.plus(flags >> 6));
    connection_.emplace(session_, pool_, connection);
  }

  ~Harness() {
    session_.close();
    connection_.reset();
    reap();
    for (const Command& c : commands_) require(!c.open);
    session_.completed_tasks().clear();
  }

  void run() {
    while (!input_.empty() && alive_) {
      switch (input_.byte() % 10) {
        case 0: case 1: submit(); break;
        case 2: manage(); break;
        case 3: (void)session_.ping(); break;
        case 4: (void)session_.text(as_bytes("SendTargets=All")); break;
        case 5: (void)session_.logout(LogoutReason::close_session); break;
        case 6: send(); break;
        case 7: raw(); break;
        default: crafted(); break;
      }
      reap();
      (void)session_.take_events();
      require(connection_->tx().queued_bytes() < (64u << 20));
    }
  }

 private:
  void submit() {
    Command& c = commands_[input_.byte() % command_count];
    if (c.open) return;
    const std::uint8_t way = input_.byte();
    const std::size_t bytes = way % 3 == 0 ? 0 : input_.number(2) + (way & 0x80 ? 65536u : 0u);
    c.direction = way % 3 == 0   ? InitiatorCommand::Direction::none
                  : way % 3 == 1 ? InitiatorCommand::Direction::in
                                 : InitiatorCommand::Direction::out;
    c.memory.assign(bytes, 0);
    c.memory.shrink_to_fit();
    const std::size_t cut = bytes / 3;
    c.iov = {iovec{c.memory.data(), cut}, iovec{c.memory.data() + cut, bytes - cut}};
    c.data = bytes != 0 ? std::span<const iovec>(c.iov) : std::span<const iovec>();
    c.open = session_.submit(c);
  }

  void manage() {
    InitiatorTask& task = tasks_[input_.byte() % tasks_.size()];
    if (task_open_[static_cast<std::size_t>(&task - tasks_.data())]) return;
    const std::uint8_t what = input_.byte();
    Command& c = commands_[what % command_count];
    task.function = (what & 0x80) != 0 ? TmfFunction::logical_unit_reset : TmfFunction::abort_task;
    if (task.function == TmfFunction::abort_task) {
      bool sent = false;
      session_.for_each_sent([&](InitiatorCommand& live) { sent = sent || &live == &c; });
      if (!sent) return;
      task.command = &c;
    }
    task_open_[static_cast<std::size_t>(&task - tasks_.data())] = session_.manage(task);
  }

  void send() {
    connection_->fill();
    std::array<iovec, 16> iov;
    const std::size_t n = connection_->tx().gather(iov);
    std::uint64_t bytes = 0;
    std::uint8_t sum = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const auto* p = static_cast<const std::uint8_t*>(iov[i].iov_base);
      for (std::size_t k = 0; k < iov[i].iov_len; k += 64) sum = static_cast<std::uint8_t>(sum + p[k]);
      bytes += iov[i].iov_len;
    }
    sink_ = sum;
    connection_->tx().sent(n == 0 ? 0 : bytes - (bytes > 1 ? input_.byte() % 2u : 0));
  }

  void raw() {
    const auto bytes = input_.exactly(input_.number(2) % 512);
    alive_ = connection_->receive(bytes);
  }

  // A PDU whose numbers are nearly right, so that what lies behind the first checks is reached.
  void crafted() {
    static constexpr std::uint8_t opcodes[] = {0x25, 0x25, 0x21, 0x31, 0x31, 0x20, 0x22, 0x24, 0x26, 0x32, 0x3f};
    auto bhs = input_.exactly(16);
    bhs.resize(48);
    bhs[0] = opcodes[bhs[0] % sizeof opcodes];
    bhs[4] = 0;
    const std::size_t length = input_.number(2) % 1500;
    store_be24(bhs.data() + 5, static_cast<std::uint32_t>(length));
    // A live command's tag may not be known from outside: slot and generation are both small.
    store_be32(bhs.data() + 16, bhs[8] == 0xff ? reserved_tag : ((bhs[9] & 0x0fu) << 16) | (bhs[10] % 24u));
    store_be32(bhs.data() + 20, bhs[11] % 4 == 0 ? reserved_tag : bhs[11]);
    store_be32(bhs.data() + 24, connection_->exp_stat_sn().value() + (bhs[12] == 0xee ? 1 : 0));
    store_be32(bhs.data() + 28, session_.next_cmd_sn().value());
    store_be32(bhs.data() + 32, session_.next_cmd_sn().value() + bhs[13] % 8);
    store_be32(bhs.data() + 36, bhs[14] % 4);
    store_be32(bhs.data() + 40, input_.number(2));
    store_be32(bhs.data() + 44, input_.number(3));
    auto data = input_.exactly((length + 3) / 4 * 4);
    bhs.insert(bhs.end(), data.begin(), data.end());
    alive_ = connection_->receive(bhs);
  }

  void reap() {
    while (!session_.completed().empty()) {
      auto& c = static_cast<Command&>(session_.completed().pop_front());
      require(c.open);
      require(c.outcome != InitiatorOutcome::none);
      require(c.transferred_bytes <= c.memory.size());
      require(c.sense_length <= c.sense.size());
      c.open = false;
      std::vector<std::uint8_t>().swap(c.memory);   // using it from now on is an error the sanitizer sees
    }
    while (!session_.completed_tasks().empty()) {
      task_open_[static_cast<std::size_t>(&session_.completed_tasks().pop_front() - tasks_.data())] = false;
    }
  }

  Input& input_;
  TxChunkPool pool_;
  std::array<Command, command_count> commands_;
  std::array<InitiatorTask, 3> tasks_;
  std::array<bool, 3> task_open_{};
  InitiatorSession session_{InitiatorLimits{.commands = 4, .pending_commands = 4, .text_bytes = 4096}};
  std::optional<InitiatorConnection> connection_;
  std::uint32_t stat_sn_ = 7;
  bool alive_ = true;
  volatile std::uint8_t sink_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  Harness harness(input);
  harness.run();
  return 0;
}
