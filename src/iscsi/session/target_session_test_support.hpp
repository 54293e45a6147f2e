// SPDX-License-Identifier: Apache-2.0
// What the tests of the target's session engine share: a host that records, and PDUs to and from bytes.
#pragma once

#include <gtest/gtest.h>

#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "iscsi/session/target_connection.hpp"

namespace perilune::iscsi {

struct Pdu {
  std::vector<std::uint8_t> bhs;
  std::vector<std::uint8_t> data;
  [[nodiscard]] Opcode op() const { return opcode(bhs.data()); }
};

// Keeps commands until the test decides; hands out plain memory.
class RecordingHost : public TargetHost {
 public:
  struct Item : TargetCommand {
    std::vector<std::uint8_t> memory;
    iovec iov{};
  };
  TargetCommand* acquire_command(TargetSession&) override {
    ++live;
    items.push_back(std::make_unique<Item>());
    return items.back().get();
  }
  void release_command(TargetCommand&) override {
    --live;
    if (auto then = std::exchange(on_release, nullptr)) then();
  }
  void prepare_unsolicited(TargetCommand& command, std::uint32_t bytes) override {
    if (refuse_memory) return;
    provide(command, bytes);
  }
  void provide(TargetCommand& command, std::size_t bytes) {
    auto& item = static_cast<Item&>(command);
    item.memory.resize(bytes);
    item.iov = {item.memory.data(), item.memory.size()};
    command.session->provide_memory(command, {&item.iov, 1});
  }
  void on_command(TargetCommand& command) override {
    commands.push_back(&command);
    if (command.pdu.write && auto_write) {
      auto& item = static_cast<Item&>(command);
      if (item.memory.size() < command.pdu.expected_data_transfer_length) {
        item.memory.resize(command.pdu.expected_data_transfer_length);
        item.iov = {item.memory.data(), item.memory.size()};
      }
      command.session->begin_data_out(command, {&item.iov, 1}, command.pdu.expected_data_transfer_length);
    }
  }
  void on_data_out(TargetCommand& command) override { written.push_back(&command); }
  void on_data_retained(TargetCommand& command) override { retained.push_back(&command); }
  void on_data_forgotten(TargetCommand& command) override { std::erase(retained, &command); }
  void on_recovery_wait(TargetSession&, std::uint32_t lost) override { waits.push_back(lost); }
  void on_recovery_over(TargetSession&, std::uint32_t lost) override { std::erase(waits, lost); }
  void on_data_lost(TargetCommand& command) override {
    command.session->complete(command, 0x02, as_bytes("\x70"), {}, 0, 0);
  }
  void on_task_management(TaskManagement& request) override {
    managed.push_back(&request);
    if (request.referenced != nullptr) request.session->request_abort(*request.referenced);
  }
  void on_data_wait(TargetSession&) override { ++data_waits; }
  void abort(TargetCommand& command) override {
    aborted.push_back(&command);
    if (!hold_aborts) command.session->abort_finished(command);
  }
  void on_text(TargetConnection&, const TextRequest&, Bytes data) override {
    texts.emplace_back(as_text(data));
  }
  void on_logged_out(TargetConnection&) override { ++logouts; }
  void close_connection(TargetConnection& connection) override { to_close.push_back(&connection); }
  void on_orphans_ended(TargetSession&) override { ++orphans_ended; }
  void on_ping_answered(TargetConnection&) override { ++pings; }
  void on_output(TargetConnection&) override {}
  bool reserve_slot(TargetSession&) override {
    return reservations < reservations_max ? (++reservations, true) : false;
  }
  void release_slot(TargetSession&) override { --reservations; }
  void on_session_idle(TargetSession&) override { ++idle; }

  std::function<void()> on_release;  // once: its memory goes to somebody who waited for it
  std::deque<std::unique_ptr<Item>> items;
  std::vector<TargetCommand*> commands, written, aborted;
  std::vector<TargetCommand*> retained;  // whose data is kept
  std::vector<std::uint32_t> waits;      // lost connections whose time runs; one twice: it began anew
  std::vector<TaskManagement*> managed;
  std::vector<TargetConnection*> to_close;
  std::vector<std::string> texts;
  int data_waits = 0;
  int live = 0, logouts = 0, orphans_ended = 0, pings = 0, idle = 0, reservations = 0,
      reservations_max = 1000;
  bool auto_write = true, hold_aborts = false, refuse_memory = false;
};

// A PDU through a queue of our own, so that digests and padding are right.
template <class P>
std::vector<std::uint8_t> to_wire(const P& pdu, Bytes data = {}, bool data_digest = false) {
  std::uint8_t bhs[bhs_bytes];
  pdu.encode(bhs);
  TxChunkPool pool;
  TxQueue queue(pool);
  queue.set_digests(false, data_digest);
  queue.push(bhs, data);
  iovec out[4];
  const std::size_t n = queue.gather(out);
  std::vector<std::uint8_t> wire;
  for (std::size_t i = 0; i < n; ++i) {
    const auto* p = static_cast<const std::uint8_t*>(out[i].iov_base);
    wire.insert(wire.end(), p, p + out[i].iov_len);
  }
  return wire;
}

// Everything that the target has to say on this connection since the last call.
inline std::vector<Pdu> take_output(TargetConnection& connection, bool data_digest = false) {
  std::vector<std::uint8_t> wire;
  while (!connection.tx().empty()) {
    iovec out[16];
    const std::size_t n = connection.tx().gather(out);
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < n; ++i) {
      const auto* p = static_cast<const std::uint8_t*>(out[i].iov_base);
      wire.insert(wire.end(), p, p + out[i].iov_len);
      bytes += out[i].iov_len;
    }
    connection.tx().sent(bytes);
  }
  PduDecoder decoder(262144);
  decoder.set_digests(false, data_digest);
  std::vector<Pdu> pdus;
  Bytes input(wire);
  for (;;) {
    switch (decoder.next(input)) {
      case PduDecoder::Event::need_more:
        EXPECT_TRUE(decoder.idle());
        return pdus;
      case PduDecoder::Event::header: decoder.collect(); break;
      case PduDecoder::Event::pdu:
        pdus.push_back(
            {{decoder.bhs(), decoder.bhs() + bhs_bytes}, {decoder.data().begin(), decoder.data().end()}});
        break;
      case PduDecoder::Event::error: ADD_FAILURE(); return pdus;
    }
  }
}

}  // namespace perilune::iscsi
