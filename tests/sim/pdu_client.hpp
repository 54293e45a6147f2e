// SPDX-License-Identifier: Apache-2.0
// An initiator that says what a scenario tells it, PDU by PDU, on one connection of the simulated world: for
// what our own initiator does not do (recovery levels above 0, an initiator that does not acknowledge). It
// has no opinion on what comes.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "iscsi/login/initiator_login.hpp"
#include "iscsi/pdu/decoder.hpp"
#include "iscsi/pdu/tx_queue.hpp"
#include "runtime/sim/sim_host.hpp"

namespace perilune::sim {

class PduClient final : public runtime::StreamHandler, public runtime::ConnectHandler {
 public:
  class Observer {
   public:
    virtual ~Observer() = default;
    virtual void on_login(PduClient& client) = 0;  // login() has its result
    virtual void on_pdu(PduClient& client, const std::uint8_t* bhs, Bytes data) = 0;
    virtual void on_end(PduClient& client) = 0;  // refused, closed or reset; once
  };

  PduClient(SimLoop& loop, const runtime::Endpoint& portal, iscsi::InitiatorLoginConfig login,
            Observer& observer);
  // The loop runs no more, or the connection has ended.
  ~PduClient() override = default;

  [[nodiscard]] const iscsi::InitiatorLoginResult& login() const { return login_.result(); }
  [[nodiscard]] const iscsi::InitiatorLoginFailure& login_failure() const {
    return login_.failure();
  }  // it was refused
  [[nodiscard]] bool logged_in() const noexcept { return full_feature_ && !over_; }
  [[nodiscard]] bool over() const noexcept { return over_; }                           // on_end() was called
  [[nodiscard]] bool at_rest() const noexcept { return over_ && stream_ == nullptr; }  // may be destroyed
  template <class P>
  void send(const P& pdu, Bytes data = {}) {
    std::uint8_t bhs[iscsi::bhs_bytes];
    pdu.encode(bhs);
    push(bhs, data);
  }
  void drop();

  // runtime
  void on_connected(Result<std::unique_ptr<runtime::Stream>> stream) override;
  void on_received(int result, Bytes data) override;
  void on_sent(int result) override;
  void on_closed() override;

 private:
  void push(const std::uint8_t* bhs, Bytes data);
  void flush();
  void step(iscsi::InitiatorLogin::Step step);
  void end();

  SimLoop& loop_;
  Observer& observer_;
  iscsi::InitiatorLogin login_;
  iscsi::PduDecoder decoder_;
  std::unique_ptr<runtime::Connecting> connecting_;
  std::unique_ptr<runtime::Stream> stream_;
  std::vector<std::uint8_t> queue_, sending_;
  iovec iov_{};  // of sending_
  bool full_feature_ = false;
  bool over_ = false;
};

}  // namespace perilune::sim
