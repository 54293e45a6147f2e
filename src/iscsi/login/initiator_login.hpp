// SPDX-License-Identifier: Apache-2.0
// The initiator's side of login (RFC 7143 section 6.3, 11.12, 11.13; CHAP 12.1.3) as a pure state machine: no
// I/O, clock or random inside. One object per connection attempt; one thread.
//
//   InitiatorLogin login(std::move(config), RandomFill::to<&Random::fill>(random));
//   auto step = login.start();
//   while (step == Step::send) {
//     send(login.request());
//     step = login.receive(bhs, data);   // the next PDU that arrives
//   }
//   if (step == Step::complete) use(login.result()); else report(login.failure());   // close on failure
//
// Everything a hostile target can send ends in failure(), in bounded memory and a bounded number of
// exchanges.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "iscsi/login/chap.hpp"
#include "iscsi/login/login_pdu.hpp"
#include "iscsi/params/params.hpp"

namespace perilune::iscsi {

struct InitiatorLoginConfig {
  SessionType session_type = SessionType::normal;
  std::string initiator_name;
  std::string initiator_alias;  // empty: not sent
  std::string target_name;      // may be empty in a discovery session only
  Isid isid{};
  std::uint16_t tsih = 0;  // not zero: another connection of that session, or the reinstatement of one
  std::uint16_t cid = 0;
  Itt initiator_task_tag = 0;
  CmdSn cmd_sn{1};
  StatSn exp_stat_sn{0};

  // No credentials: the login starts with the operational stage. With them CHAP is offered first, and None as
  // well unless the target has to prove itself (target_account) or require_chap is set.
  std::optional<ChapCredentials> account;         // how we prove ourselves
  std::optional<ChapCredentials> target_account;  // mutual: what the target must prove to know; needs
                                                  // `account`
  bool require_chap = false;
  std::vector<ChapAlgorithm> algorithms = offered_chap_algorithms();  // offered, in this order

  WantedParams params;
};

struct InitiatorLoginResult {
  std::uint16_t tsih = 0;
  std::string target_name;   // as logged in to
  std::string target_alias;  // control characters replaced; may be empty
  std::optional<std::uint16_t> target_portal_group_tag;
  bool chap = false;         // we authenticated with CHAP
  bool mutual_chap = false;  // the target did too
  SessionParams session;
  ConnectionParams connection;
  CmdSn next_cmd_sn;   // of the first command
  CmdSn max_cmd_sn;    // of the last response, and
  StatSn exp_stat_sn;  // what the next PDU should carry
};

struct InitiatorLoginFailure {
  // What the target said, when it was the target that refused (also classes and details no enumerator names).
  std::optional<LoginStatus> status;
  // Class 1: the first TargetAddress, as sent ("host[:port][,tag]", checked for form). The caller decides
  // whether to go there.
  std::string redirect_address;
  // protocol (the target broke the rules), authentication, authorization, not_found, connection (class 1),
  // busy (class 3), unsupported, limit; invalid_argument for our own configuration.
  Error error;
};

class InitiatorLogin {
 public:
  enum class Step : std::uint8_t { send, complete, failed };

  // The configuration is checked by start(): names, CHAP secrets (12 to 255 bytes, not the same both ways),
  // ranges.
  InitiatorLogin(InitiatorLoginConfig config, RandomFill random);
  ~InitiatorLogin();
  InitiatorLogin(InitiatorLogin&&) noexcept;
  InitiatorLogin& operator=(InitiatorLogin&&) noexcept;

  [[nodiscard]] Step start();
  // One whole PDU: its header (48 bytes) and data segment without padding.
  [[nodiscard]] Step receive(const std::uint8_t* bhs, Bytes data);

  [[nodiscard]] const LoginPdu& request() const;
  [[nodiscard]] const InitiatorLoginResult& result() const;
  [[nodiscard]] const InitiatorLoginFailure& failure() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace perilune::iscsi
