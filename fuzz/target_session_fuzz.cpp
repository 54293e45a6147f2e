// SPDX-License-Identifier: Apache-2.0
// The target's session against a hostile initiator behind its login: whatever comes, no byte lands outside
// the memory of the command it is for, every command object returns exactly once, the window never goes back,
// and nothing is answered twice. One to four connections, which come and go, at every recovery level.
#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "crypto/crc32c.hpp"
#include "fuzz_input.hpp"
#include "iscsi/session/target_connection.hpp"

namespace {

using namespace perilune;
using namespace perilune::iscsi;
using fuzz::Input;
using fuzz::require;

struct Command : TargetCommand {
  std::vector<std::uint8_t> memory;
  std::array<iovec, 2> iov{};
  bool live = false;
  bool waiting = false;   // the host owes an answer
  bool wants_data = false;
  bool aborting = false;
  bool retained = false;  // its data is kept
  bool reported = false;  // its abort was answered
};

class Host : public TargetHost {
 public:
  explicit Host(Input& input) : input_(input) {}
  ~Host() override { require(live_ == 0 && reservations_ == 0 && waits_.empty()); }

  TargetCommand* acquire_command(TargetSession&) override {
    if (live_ >= 300) return nullptr;
    commands_.push_back(std::make_unique<Command>());
    commands_.back()->live = true;
    ++live_;
    return commands_.back().get();
  }
  void release_command(TargetCommand& base) override {
    auto& command = static_cast<Command&>(base);
    require(command.live && !command.waiting && !command.retained);
    command.live = false;
    --live_;
    std::fill(command.memory.begin(), command.memory.end(), std::uint8_t{0});
    command.memory = {};  // a late write is a use after free
  }
  void prepare_unsolicited(TargetCommand& base, std::uint32_t bytes) override {
    if (input_.byte() % 4 == 0) return;
    provide(static_cast<Command&>(base), bytes);
  }
  void on_command(TargetCommand& base) override {
    auto& command = static_cast<Command&>(base);
    require(command.live);
    command.waiting = true;
    if (command.expects_unsolicited() && command.data().empty() && input_.byte() % 4 != 0) {
      provide(command, std::min<std::uint32_t>(command.pdu.expected_data_transfer_length, 70000));
    }
    if (input_.byte() % 3 == 0) return;  // later
    decide(command);
  }
  void decide(Command& command) {
    if (!command.waiting || command.wants_data || command.aborting) return;
    if (command.pdu.write && input_.byte() % 4 != 0) {
      const std::uint32_t wanted = input_.number(3) % 200000;
      const std::size_t had = command.memory.size();
      if (had < wanted && had != 0) return finish(command);  // the memory cannot move under the decoder
      if (had == 0) provide(command, std::max<std::uint32_t>(wanted, 1));
      command.wants_data = true;
      command.session->begin_data_out(command, command.data(), wanted);
      return;
    }
    finish(command);
  }
  void finish(Command& command) {
    command.waiting = false;
    const std::uint8_t kind = input_.byte();
    command.fenced = kind >= 0xe0;
    static const std::array<std::uint8_t, 18> sense = {0x70, 0, 5};
    if (kind % 4 == 0) {
      command.session->complete(command, 2, sense, {}, 0, 0);
    } else {
      answer_.assign(input_.number(2), 0x11);
      // Kept until release: longer ones are referenced by the queue.
      if (command.memory.empty() && !command.expects_unsolicited()) command.memory = answer_;
      command.iov[1] = {command.memory.data(), command.memory.size()};
      const auto bytes = static_cast<std::uint32_t>(command.memory.size());
      command.session->complete(command, 0, {}, {&command.iov[1], 1}, bytes, input_.number(3));
    }
  }
  void on_data_out(TargetCommand& base) override {
    auto& command = static_cast<Command&>(base);
    require(command.wants_data && command.waiting && !command.aborting);
    command.wants_data = false;
    if (input_.byte() % 3 != 0) finish(command);
  }
  void on_data_lost(TargetCommand& base) override {
    auto& command = static_cast<Command&>(base);
    require(command.waiting);
    command.wants_data = command.waiting = false;
    static const std::array<std::uint8_t, 18> sense = {0x70, 0, 0x0b};
    command.session->complete(command, 2, sense, {}, 0, 0);
  }
  void on_data_retained(TargetCommand& base) override {
    auto& command = static_cast<Command&>(base);
    require(command.live && !command.retained);
    command.retained = true;
    if (input_.byte() % 8 == 0) command.session->forget_data(command);
  }
  void on_data_forgotten(TargetCommand& base) override {
    auto& command = static_cast<Command&>(base);
    require(command.live && command.retained);
    command.retained = false;
  }
  void on_recovery_wait(TargetSession&, std::uint32_t lost) override {
    if (std::find(waits_.begin(), waits_.end(), lost) == waits_.end()) waits_.push_back(lost);
  }
  void on_recovery_over(TargetSession&, std::uint32_t lost) override {
    require(std::erase(waits_, lost) == 1);
  }
  void on_task_management(TaskManagement& request) override {
    managed_.push_back(&request);
    if (request.referenced != nullptr) request.session->request_abort(*request.referenced);
  }
  void on_data_wait(TargetSession&) override {}
  void abort(TargetCommand& base) override {
    auto& command = static_cast<Command&>(base);
    require(command.live && !command.aborting);
    command.aborting = true;
    command.wants_data = false;
    if (input_.byte() % 2 == 0) end_abort(command);
  }
  void end_abort(Command& command) {
    command.aborting = command.waiting = false;
    const std::uint8_t why = input_.byte();  // somebody else's function, perhaps
    if (why % 3 == 0) command.session->announce_end(command);
    // Once: as the target's driver does it, a second end is for good.
    if (why % 2 == 0 && !std::exchange(command.reported, true)) command.session->abort_reported(command);
    else command.session->abort_finished(command);
  }
  void on_text(TargetConnection& connection, const TextRequest& request, Bytes) override {
    TextResponse response;
    response.initiator_task_tag = request.initiator_task_tag;
    connection.send_text_response(response, as_bytes("TargetName=x"));
  }
  void on_logged_out(TargetConnection&) override {}
  void close_connection(TargetConnection& connection) override { to_close.push_back(&connection); }
  void on_orphans_ended(TargetSession& session) override { require(session.orphans() == 0); }
  void on_ping_answered(TargetConnection&) override {}
  void on_output(TargetConnection&) override {}
  bool reserve_slot(TargetSession&) override {
    return input_.byte() % 5 != 0 ? (++reservations_, true) : false;
  }
  void release_slot(TargetSession&) override { --reservations_; }
  void on_session_idle(TargetSession&) override {}

  std::vector<TargetConnection*> to_close;

  // Time passes, or memory is short.
  void lose_patience(TargetSession& session) {
    if (!waits_.empty() && input_.byte() % 4 == 0) {
      session.expire(waits_[input_.byte() % waits_.size()]);
      return;
    }
    session.request_acknowledgements();
    for (const auto& command : commands_) {
      if (command->live && command->retained) return session.forget_data(*command);
    }
  }
  // Moves something on: an answer that was owed, an abort, a task management function.
  void step() {
    const std::size_t n = commands_.size();
    for (std::size_t i = 0, start = input_.byte(); i < n; ++i) {
      Command& command = *commands_[(start + i) % n];
      if (!command.live) continue;
      if (command.aborting) return end_abort(command);
      if (command.waiting && !command.wants_data)
        return command.data().empty() ? decide(command) : finish(command);
    }
    if (!managed_.empty()) end_management();
  }
  void end_everything() {
    for (std::size_t i = 0; i < commands_.size(); ++i) {
      if (commands_[i]->live && commands_[i]->aborting) end_abort(*commands_[i]);
    }
    while (!managed_.empty()) end_management();
  }

 private:
  void end_management() {
    TaskManagement* request = managed_.back();
    managed_.pop_back();
    request->session->finish_task_management(*request, TmfResponse::function_complete);
  }
  void provide(Command& command, std::uint32_t bytes) {
    command.memory.assign(bytes, 0);
    command.iov[0] = {command.memory.data(), command.memory.size()};
    command.session->provide_memory(command, {command.iov.data(), 1});
  }
  Input& input_;
  std::vector<std::unique_ptr<Command>> commands_;
  std::vector<TaskManagement*> managed_;
  std::vector<std::uint32_t> waits_;  // lost connections
  std::vector<std::uint8_t> answer_;
  int live_ = 0;
  int reservations_ = 0;
};

// A PDU that is likely to be understood: an opcode, flags, small tags, a CmdSN near the window.
std::vector<std::uint8_t> make_pdu(Input& input, const TargetSession& session, bool digest) {
  static constexpr std::array<std::uint8_t, 11> opcodes = {0x01, 0x41, 0x05, 0x05, 0x00, 0x40, 0x02, 0x42, 0x04, 0x06, 0x10};
  std::vector<std::uint8_t> pdu(48, 0);
  const std::uint8_t choice = input.byte();
  pdu[0] = choice < 240 ? opcodes[choice % opcodes.size()] : input.byte();
  pdu[1] = input.byte();
  const std::uint32_t length = input.byte() % 4 == 0 ? input.number(2) % 3000 : 0;
  store_be24(&pdu[5], length);
  pdu[19] = input.byte() % 8;                                                        // ITT
  // EDTL, TTT, referenced tag
  store_be32(&pdu[20], input.byte() % 3 == 0 ? 0xffffffffU : input.number(1) % 70);
  if ((pdu[0] & 0x3f) == 1) store_be32(&pdu[20], input.number(2));
  store_be32(&pdu[24], session.exp_cmd_sn().value() + input.byte() % 4);
  store_be32(&pdu[28], 1 + input.byte() % 16);  // ExpStatSN
  if ((pdu[0] & 0x3f) == 2)
    store_be32(&pdu[32], session.exp_cmd_sn().value() + input.byte() % 4);  // RefCmdSN
  if ((pdu[0] & 0x3f) == 6) store_be16(&pdu[20], input.byte() % 5);                                  // CID
  if ((pdu[0] & 0x3f) == 2 && input.byte() % 4 == 0) pdu[1] = 0x88;  // TASK REASSIGN
  store_be32(&pdu[36], input.byte() % 3);
  store_be32(&pdu[40], input.byte() % 2 == 0 ? 0 : input.number(2));
  if (pdu[0] == 0x10)
    store_be32(&pdu[40], input.byte() % 8), store_be32(&pdu[44], input.byte() % 4);  // BegRun, RunLength
  pdu.resize(48 + (length + 3) / 4 * 4, 0x77);
  if (digest && length != 0 && input.byte() % 8 != 0) {
    const std::uint32_t crc = crypto::crc32c(crypto::crc32c_start, Bytes(pdu).subspan(48));
    pdu.resize(pdu.size() + 4);
    crypto::store_digest(&pdu[pdu.size() - 4], crc);
  }
  return pdu;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input({data, size});
  Host host(input);
  SessionParams params;
  const std::uint8_t flags = input.byte();
  params.initial_r2t = (flags & 1) != 0;
  params.immediate_data = (flags & 2) != 0;
  params.first_burst_length = 512 + input.number(2);
  params.max_burst_length = params.first_burst_length + input.number(2);
  params.max_outstanding_r2t = static_cast<std::uint16_t>(1 + input.byte() % 16);
  ConnectionParams connection_params;
  connection_params.max_recv_data_segment_length = 8192;
  connection_params.max_xmit_data_segment_length = 512 + input.number(2);
  params.max_connections = static_cast<std::uint16_t>(1 + input.byte() % 4);
  connection_params.data_digest = (flags & 4) != 0;
  params.error_recovery_level = (flags & 8) == 0 ? 0 : (flags & 16) == 0 ? 1 : 2;
  params.protocol_level = (flags & 32) != 0 ? 2 : 1;
  params.task_reporting = static_cast<TaskReporting>((flags >> 6) % 3);
  TargetSession session(host, params, CmdSn(input.number(4)), 32);
  TxChunkPool chunks;
  std::array<std::unique_ptr<TargetConnection>, 4> connections;
  std::array<std::vector<std::uint8_t>, 4> rest;  // of a PDU that others may overtake
  const auto join = [&](std::size_t cid) {
    connections[cid] = std::make_unique<TargetConnection>(session, connection_params,
                                                          static_cast<std::uint16_t>(cid), StatSn(1), chunks);
    session.connection_reinstated(static_cast<std::uint16_t>(cid), StatSn(input.byte() % 16));
  };
  const auto drop = [&](std::size_t cid) {
    std::erase(host.to_close, connections[cid].get());
    rest[cid].clear();
    connections[cid]->tx().clear();
    connections[cid].reset();
  };
  for (std::size_t i = 0; i < params.max_connections; ++i) join(i);
  CmdSn max = session.max_cmd_sn();
  for (int i = 0; i < 500 && !input.empty(); ++i) {
    const std::size_t cid = input.byte() % params.max_connections;
    if (connections[cid] == nullptr) {
      const bool alone =
          std::all_of(connections.begin(), connections.end(), [](const auto& c) { return !c; });
      if (session.shutting_down() || (alone && !session.waits_for_recovery())) break;
      join(cid);
    }
    TargetConnection& connection = *connections[cid];
    bool alive = connection.feed(std::exchange(rest[cid], {}));
    if (alive) switch (input.byte() % 8) {
      case 0:
        switch (input.byte() % 8) {
          case 0: host.lose_patience(session); break;
          case 1: session.end_data_waits(); break;
          default: host.step(); break;
        }
        break;
      case 1: alive = connection.feed(input.take(input.byte())); break;
      case 2: alive = input.byte() % 8 != 0; break;  // the network fails
      default: {
        const std::vector<std::uint8_t> pdu = make_pdu(input, session, connection_params.data_digest);
        const std::size_t cut = input.byte() % 3 == 0 ? input.number(2) % (pdu.size() + 1) : pdu.size();
        alive = connection.feed(Bytes(pdu).first(cut));
        const Bytes later = Bytes(pdu).subspan(cut);
        if (alive && input.byte() % 2 == 0) rest[cid].assign(later.begin(), later.end());
        else if (alive) alive = connection.feed(later);
      }
    }
    require(!session.max_cmd_sn().before(max));
    max = session.max_cmd_sn();
    if (input.byte() % 2 == 0) {
      std::array<iovec, 8> out;
      const std::size_t n = connection.tx().gather(out);
      std::uint64_t bytes = 0;
      for (std::size_t k = 0; k < n; ++k) bytes += out[k].iov_len;
      connection.tx().sent(bytes == 0 ? 0 : input.number(2) % (bytes + 1));
    }
    if (!alive || connection.draining()) drop(cid);
    while (!host.to_close.empty()) drop(host.to_close.back()->cid());
  }
  for (std::size_t i = 0; i < connections.size(); ++i) {
    if (connections[i] != nullptr) drop(i);
  }
  session.shut_down();
  host.end_everything();
  require(session.idle() && session.orphans() == 0);
  return 0;
}
