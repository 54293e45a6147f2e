// SPDX-License-Identifier: Apache-2.0
// For tests only: a target whose every answer a test can replace, in the simulated world. It logs in anybody,
// and by default answers every command with GOOD, every ping and every logout.
#pragma once

#include <cstring>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "iscsi/pdu/decoder.hpp"
#include "iscsi/pdu/pdus.hpp"
#include "runtime/loop.hpp"

namespace perilune::initiator {

class FakeTarget final : runtime::AcceptHandler {
 public:
  class Connection final : runtime::StreamHandler {
   public:
    Connection(FakeTarget& target, std::unique_ptr<runtime::Stream> stream)
        : target_(target), stream_(std::move(stream)) {
      stream_->set_handler(*this);
      stream_->receive();
    }
    // Sends a header with StatSN and the window filled in (status: StatSN is used up), and data.
    void send(std::vector<std::uint8_t> bhs, std::vector<std::uint8_t> data = {}, bool status = true) {
      bhs.resize(48);
      store_be24(bhs.data() + 5, static_cast<std::uint32_t>(data.size()));
      store_be32(bhs.data() + 24, stat_sn);
      store_be32(bhs.data() + 28, exp_cmd_sn);
      store_be32(bhs.data() + 32, exp_cmd_sn + 63);
      if (status) ++stat_sn;
      while (data.size() % 4 != 0) data.push_back(0);
      out_.insert(out_.end(), bhs.begin(), bhs.end());
      out_.insert(out_.end(), data.begin(), data.end());
      flush();
    }
    void good(const std::uint8_t* command) {
      std::vector<std::uint8_t> bhs(48);
      bhs[0] = 0x21;
      bhs[1] = 0x80;
      std::memcpy(&bhs[16], command + 16, 4);
      send(bhs);
    }
    // Status in the last Data-In.
    void data_in(const std::uint8_t* command, std::vector<std::uint8_t> data) {
      const std::uint32_t expected = load_be32(command + 20);
      std::vector<std::uint8_t> bhs(48);
      bhs[0] = 0x25;
      bhs[1] = data.size() < expected ? 0x83 : 0x81;
      if (data.size() > expected) data.resize(expected);
      std::memcpy(&bhs[16], command + 16, 4);
      store_be32(&bhs[20], 0xffffffff);
      store_be32(&bhs[44], expected - static_cast<std::uint32_t>(data.size()));
      send(bhs, data);
    }
    void check_condition(const std::uint8_t* command, std::uint8_t key, std::uint8_t asc, std::uint8_t ascq) {
      std::vector<std::uint8_t> bhs(48), data(20);
      bhs[0] = 0x21;
      bhs[1] = 0x80;
      bhs[3] = 2;
      std::memcpy(&bhs[16], command + 16, 4);
      data[1] = 18;
      data[2] = 0x70;
      data[4] = key;
      data[9] = 10;
      data[14] = asc;
      data[15] = ascq;
      send(bhs, data);
    }
    void close() { stream_->close(); }
    [[nodiscard]] bool gone() const noexcept { return gone_; }

    std::uint32_t stat_sn = 1, exp_cmd_sn = 1;

   private:
    void on_received(int result, Bytes data) override {
      if (result <= 0) {
        stream_->close();
        return;
      }
      for (bool more = true; more;) {
        switch (decoder_.next(data)) {
          case iscsi::PduDecoder::Event::header: decoder_.collect(); break;
          case iscsi::PduDecoder::Event::pdu: target_.take(*this, decoder_.bhs(), decoder_.data()); break;
          default: more = false;
        }
      }
      stream_->receive();
    }
    void on_sent(int result) override {
      sending_ = false;
      if (result < 0) return;
      going_.erase(going_.begin(), going_.begin() + result);
      flush();
    }
    void on_closed() override { gone_ = true; }
    void flush() {
      if (sending_ || gone_) return;
      going_.insert(going_.end(), out_.begin(), out_.end());
      out_.clear();
      if (going_.empty()) return;
      sending_ = true;
      iov_ = {going_.data(), going_.size()};
      stream_->send({&iov_, 1});
    }

    FakeTarget& target_;
    std::unique_ptr<runtime::Stream> stream_;
    iscsi::PduDecoder decoder_{1u << 24};
    std::vector<std::uint8_t> out_, going_;
    iovec iov_{};
    bool sending_ = false, gone_ = false;
  };

  using Handler = std::function<bool(Connection&, const std::uint8_t* bhs, Bytes data)>;

  FakeTarget(runtime::Loop& loop, const runtime::Endpoint& portal) {
    listener_ = std::move(*loop.listen(portal, {}, *this));
  }

  // Looked at first; true: it has answered, or means not to.
  Handler handler;
  std::vector<std::unique_ptr<Connection>> connections;
  std::vector<std::vector<std::uint8_t>> logins;  // their headers
  std::uint32_t commands = 0, tasks = 0, pings = 0, logouts = 0;
  std::vector<std::uint8_t> vpd83;
  // What it agrees to.
  int max_connections = 1, time2retain = 0;
  std::uint8_t recovery_level = 0;

 private:
  void on_accepted(std::unique_ptr<runtime::Stream> stream) override {
    connections.push_back(std::make_unique<Connection>(*this, std::move(stream)));
  }

  void take(Connection& connection, const std::uint8_t* bhs, Bytes data) {
    const auto op = iscsi::opcode(bhs);
    if (op != iscsi::Opcode::data_out && !iscsi::immediate(bhs))
      connection.exp_cmd_sn = load_be32(bhs + 24) + 1;
    if (op == iscsi::Opcode::scsi_command) ++commands;
    if (op == iscsi::Opcode::task_management_request) ++tasks;
    if (op == iscsi::Opcode::nop_out && load_be32(bhs + 16) != 0xffffffff) ++pings;
    if (op == iscsi::Opcode::logout_request) ++logouts;
    if (op == iscsi::Opcode::login_request) logins.emplace_back(bhs, bhs + 48);
    if (handler && handler(connection, bhs, data)) return;
    std::vector<std::uint8_t> answer(48);
    std::memcpy(&answer[16], bhs + 16, 4);
    answer[1] = 0x80;
    switch (op) {
      case iscsi::Opcode::login_request: login(connection, bhs); break;
      case iscsi::Opcode::scsi_command: command(connection, bhs); break;
      case iscsi::Opcode::nop_out:
        if (load_be32(bhs + 16) == 0xffffffff) break;
        answer[0] = 0x20;
        store_be32(&answer[20], 0xffffffff);
        connection.send(answer);
        break;
      case iscsi::Opcode::task_management_request:
        answer[0] = 0x22;
        connection.send(answer);
        break;
      case iscsi::Opcode::logout_request:
        answer[0] = 0x26;
        connection.send(answer);
        break;
      default: break;
    }
  }

  // Agrees to go where the initiator wants to go, with values of its own.
  void login(Connection& connection, const std::uint8_t* bhs) {
    std::vector<std::uint8_t> answer(48);
    answer[0] = 0x23;
    answer[1] = bhs[1];
    std::memcpy(&answer[8], bhs + 8, 8);
    std::memcpy(&answer[16], bhs + 16, 4);
    connection.exp_cmd_sn = load_be32(bhs + 24);
    const unsigned csg = (bhs[1] >> 2) & 3;
    if ((bhs[1] & 0x80) != 0 && (bhs[1] & 3) == 3) store_be16(&answer[14], 1);
    std::string text = csg == 0 ? "AuthMethod=None" : "InitialR2T=No";
    text += '\0';
    if (csg == 1 && load_be16(bhs + 14) != 0) {  // another connection: nothing of the session is negotiated
      text = std::string("HeaderDigest=None\0DataDigest=None\0MaxRecvDataSegmentLength=65536\0", 65);
    } else if (csg == 1) {
      text += "MaxConnections=" + std::to_string(max_connections) + '\0';
      text += "ErrorRecoveryLevel=" + std::to_string(recovery_level) + '\0';
      text += "DefaultTime2Retain=" + std::to_string(time2retain) + '\0';
      for (const char* pair :
           {"ImmediateData=Yes", "MaxBurstLength=262144", "FirstBurstLength=65536", "MaxOutstandingR2T=1",
            "DefaultTime2Wait=2", "HeaderDigest=None", "DataDigest=None", "DataPDUInOrder=Yes",
            "DataSequenceInOrder=Yes", "MaxRecvDataSegmentLength=65536"}) {
        text += pair;
        text += '\0';
      }
    }
    if (!portal_group_sent_.contains(&connection)) {
      portal_group_sent_.insert(&connection);
      text += "TargetPortalGroupTag=1";
      text += '\0';
    }
    connection.send(answer, std::vector<std::uint8_t>(text.begin(), text.end()));
  }

  void command(Connection& connection, const std::uint8_t* bhs) {
    if (bhs[32] == 0x12 && bhs[33] == 1 && bhs[34] == 0x83) {
      connection.data_in(bhs, vpd83);
    } else if ((bhs[1] & 0x40) != 0) {
      connection.data_in(bhs, std::vector<std::uint8_t>(load_be32(bhs + 20), 0xa5));
    } else {
      connection.good(bhs);
    }
  }

  std::unique_ptr<runtime::Listener> listener_;
  std::set<Connection*> portal_group_sent_;
};

}  // namespace perilune::initiator
