// SPDX-License-Identifier: Apache-2.0
// The target's side of login (RFC 7143 section 6.3, 11.12, 11.13; CHAP 12.1.3) as a pure state machine: no
// I/O, clock or random inside. One object per connection; one thread; every call returns at once.
//
// Feed every PDU that arrives before login is over; each gives exactly one step:
//
//   TargetLogin login(config, RandomFill::to<&Random::fill>(random));
//   auto step = login.receive(decoder.bhs(), data);
//   while (true) switch (step) {
//     case Step::ask_target:                       // who is it, whom does it want: may be answered later
//       step = login.answer_target(look_up(login.target_query()));      break;
//     case Step::ask_session:                      // authenticated and negotiated: new, join or reinstate?
//       step = login.answer_session(registry.admit(login.session_query()));   break;   // after the old one
//       is gone
//     case Step::respond:           send(login.response());             return;  // wait for the next Login
//     Request case Step::complete:          send(login.response());  start(login.result());  return; case
//     Step::respond_and_close: send(login.response()); close();    return;  // login.failure() says why case
//     Step::close:             close();                            return;  // likewise; nothing is sent
//   }
//
// Nothing the peer sends can fail an assertion; calling answer_*() when it was not asked for is our own
// mistake and does. The caller keeps the time limit (limits::login_timeout) and the number of half-open
// logins.
//
// Policy that is fixed here: InitiatorName and TargetName are compared in normal form; a session is never
// looked for before the initiator has authenticated; an unknown user, a wrong password and a missing answer
// all end alike (0201).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "iscsi/login/chap.hpp"
#include "iscsi/login/login_pdu.hpp"
#include "iscsi/params/params.hpp"

namespace perilune::iscsi {

struct TargetLoginConfig {
  StatSn initial_stat_sn{1};
  std::uint32_t command_window = limits::default_command_window;  // MaxCmdSN of the responses
};

// Asked once, after the first request: by names only, before any authentication.
struct TargetQuery {
  SessionType session_type = SessionType::normal;
  std::string initiator_name;   // normal form
  std::string initiator_alias;  // as sent, control characters replaced
  std::string target_name;      // normal form; empty in a discovery session
  Isid isid{};
  std::uint16_t tsih = 0;  // not zero: wants to join or reinstate a connection
  std::uint16_t cid = 0;
};

// What answers a TargetQuery.
struct TargetDecision {
  // success, or the status to refuse with. A target that does not know the initiator answers
  // authorization_failure. target_moved_*: also redirect_address.
  LoginStatus status = LoginStatus::success;
  std::string redirect_address;  // "host[:port][,tag]", IPv6 in brackets: TargetAddress of a redirect

  std::uint16_t target_portal_group_tag = 1;
  std::string target_alias;

  // Authentication. allow_none and no accounts: None. Accounts and not allow_none: CHAP is required. Both: as
  // the initiator prefers. Neither: nobody gets in (0201).
  bool allow_none = true;
  std::vector<ChapCredentials> accounts;           // who may log in
  std::optional<ChapCredentials> target_account;   // how we prove ourselves when the initiator asks (mutual)
  std::vector<ChapAlgorithm> algorithms = all_chap_algorithms();

  WantedParams params;
};

// Asked once, when everything is agreed and only the final response is missing.
struct SessionQuery {
  SessionType session_type = SessionType::normal;
  std::string initiator_name;
  std::string target_name;
  std::string user;  // authenticated CHAP_N; empty with AuthMethod None
  Isid isid{};
  std::uint16_t tsih = 0;  // zero: a new session, which reinstates the one with the same name, ISID and
                           // portal group
  std::uint16_t cid = 0;
  CmdSn cmd_sn;            // of this request
  std::uint16_t target_portal_group_tag = 1;  // as TargetDecision has it
};

struct SessionDecision {
  // success, session_does_not_exist, too_many_connections, cannot_include_in_session, out_of_resources, …
  LoginStatus status = LoginStatus::success;
  std::uint16_t tsih = 0;  // of the session (new or joined); not zero when status is success
  // Joining an existing session: its numbers. Otherwise the machine counts from the login's CmdSN.
  std::optional<CmdSn> exp_cmd_sn;
  std::optional<CmdSn> max_cmd_sn;
};

struct TargetLoginResult {
  SessionType session_type = SessionType::normal;
  std::string initiator_name;
  std::string initiator_alias;
  std::string target_name;
  std::string user;  // empty with AuthMethod None
  Isid isid{};
  std::uint16_t requested_tsih = 0;
  std::uint16_t tsih = 0;
  std::uint16_t cid = 0;
  std::uint16_t target_portal_group_tag = 1;
  SessionParams session;
  ConnectionParams connection;
  StatSn next_stat_sn;  // of the first response after login
  StatSn exp_stat_sn;   // of the first request: of the connection that this one replaces (RFC 7143 11.12.9)
  CmdSn exp_cmd_sn;
};

struct TargetLoginFailure {
  LoginStatus status = LoginStatus::initiator_error;  // what was answered (when anything was)
  std::string reason;  // one line for the log; holds no secret and no control character
};

class TargetLogin {
 public:
  enum class Step : std::uint8_t { respond, ask_target, ask_session, complete, respond_and_close, close };

  TargetLogin(const TargetLoginConfig& config, RandomFill random);
  ~TargetLogin();
  TargetLogin(TargetLogin&&) noexcept;
  TargetLogin& operator=(TargetLogin&&) noexcept;

  // One whole PDU: its header (48 bytes) and data segment without padding (at most what we declared: 8192
  // during login). Must not be called while a question is open or after complete or a close.
  [[nodiscard]] Step receive(const std::uint8_t* bhs, Bytes data);

  [[nodiscard]] const TargetQuery& target_query() const;
  [[nodiscard]] Step answer_target(TargetDecision decision);
  [[nodiscard]] const SessionQuery& session_query() const;
  [[nodiscard]] Step answer_session(const SessionDecision& decision);

  // Ends the login from our side (shutting down, out of resources): gives respond_and_close, or close before
  // any request.
  [[nodiscard]] Step abandon(LoginStatus status, std::string reason);

  [[nodiscard]] const LoginPdu& response() const;
  [[nodiscard]] const TargetLoginResult& result() const;
  [[nodiscard]] const TargetLoginFailure& failure() const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace perilune::iscsi
