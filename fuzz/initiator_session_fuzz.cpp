// SPDX-License-Identifier: Apache-2.0
// The initiator's session against a hostile target, at every recovery level, with two connections that are
// lost and recovered at level 2: whatever comes, no byte lands outside the memory of the command it is for,
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
    connection_parameters_.exp_stat_sn = StatSn(7);
    connection_parameters_.max_recv_data_segment_bytes = 65536;
    connection_parameters_.max_send_data_segment_bytes = 512 + input_.number(2);
    connection_parameters_.data_digest = (flags & 16) != 0;
    const std::uint8_t more = input_.byte();
    session.error_recovery_level = more % 3;
    level_ = more % 3;
    const CmdSn cmd_sn((flags & 32) != 0 ? 0xfffffffd : 1);
    session_.open(session, cmd_sn, cmd_sn, cmd_sn.plus(flags >> 6));
    connect();
    if ((more & 0x80) != 0) connect();
  }

  ~Harness() {
    session_.close();
    connections_[0].reset();
    connections_[1].reset();
    reap();
    for (const Command& c : commands_) require(!c.open);
    session_.completed_tasks().clear();
  }

  void run() {
    while (!input_.empty() && alive_) {
      switch (input_.byte() % 12) {
        case 0: case 1: submit(); break;
        case 2: manage(); break;
        case 3: (void)session_.ping(); break;
        case 4: (void)session_.text(as_bytes("SendTargets=All")); break;
        case 5: (void)session_.logout(LogoutReason::close_session); break;
        case 6: send(); break;
        case 7: raw(); break;
        case 8: lose(); break;
        case 9: recover(); break;
        default: crafted(); break;
      }
      reap();
      (void)session_.take_events();
      for (auto& connection : connections_)
        require(!connection || connection->tx().queued_bytes() < (64u << 20));
    }
  }

 private:
  void connect() {
    std::size_t index = connections_[0] ? 1 : 0;
    connection_parameters_.cid = static_cast<std::uint16_t>(index);
    connections_[index].emplace(session_, pool_, connection_parameters_);
  }
  // One that is there; the input chooses.
  InitiatorConnection& connection() {
    const std::size_t index = connections_[1] && (!connections_[0] || input_.byte() % 2 == 1) ? 1 : 0;
    return *connections_[index];
  }
  void receive(std::span<const std::uint8_t> bytes) {
    InitiatorConnection& by = connection();
    if (by.receive(bytes)) return;
    if (level_ < 2) alive_ = false;
    else lose(by.cid());
  }
  void lose() {
    if (level_ == 2) lose(connection().cid());
  }
  void lose(std::size_t index) {
    session_.lose(*connections_[index]);
    connections_[index].reset();
    if (!connections_[0] && !connections_[1]) connect();
  }
  void recover() {
    if (level_ != 2) return;
    const std::size_t cid = input_.byte() % 2;
    session_.recover(static_cast<std::uint16_t>(cid));
    if (!connections_[cid] && (input_.byte() & 1) != 0) connect();
    for (auto& connection : connections_) {
      if (connection && !connection->ask_again()) {
        lose(connection->cid());
        return;
      }
    }
  }

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
      session_.for_each_sent(
          [&](InitiatorCommand& live) { sent = sent || (&live == &c && !session_.is_suspended(live)); });
      if (!sent) return;
      task.command = &c;
    }
    task_open_[static_cast<std::size_t>(&task - tasks_.data())] = session_.manage(task);
  }

  void send() {
    InitiatorConnection& by = connection();
    by.fill();
    std::array<iovec, 16> iov;
    const std::size_t n = by.tx().gather(iov);
    std::uint64_t bytes = 0;
    std::uint8_t sum = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const auto* p = static_cast<const std::uint8_t*>(iov[i].iov_base);
      for (std::size_t k = 0; k < iov[i].iov_len; k += 64) sum = static_cast<std::uint8_t>(sum + p[k]);
      bytes += iov[i].iov_len;
    }
    sink_ = sum;
    by.tx().sent(n == 0 ? 0 : bytes - (bytes > 1 ? input_.byte() % 2u : 0));
  }

  void raw() {
    const auto bytes = input_.exactly(input_.number(2) % 512);
    receive(bytes);
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
    store_be32(bhs.data() + 16, bhs[8] == 0xff ? reserved_tag : ((bhs[9] & 0x0fu) << 16) | (bhs[10] % 32u));
    store_be32(bhs.data() + 20, bhs[11] % 4 == 0 ? reserved_tag : bhs[11]);
    store_be32(bhs.data() + 24, (connections_[0] ? connections_[0] : connections_[1])->exp_stat_sn().value() +
                                    (bhs[12] > 0xe0 ? bhs[12] - 0xe0u : 0));
    store_be32(bhs.data() + 28, session_.next_cmd_sn().value());
    store_be32(bhs.data() + 32, session_.next_cmd_sn().value() + bhs[13] % 8);
    store_be32(bhs.data() + 36, bhs[14] % 4);
    store_be32(bhs.data() + 40, input_.number(2));
    store_be32(bhs.data() + 44, input_.number(3));
    auto data = input_.exactly((length + 3) / 4 * 4);
    bhs.insert(bhs.end(), data.begin(), data.end());
    receive(bhs);
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
  InitiatorConnectionParameters connection_parameters_;
  std::array<std::optional<InitiatorConnection>, 2> connections_;
  std::uint8_t level_ = 0;
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
