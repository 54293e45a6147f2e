// SPDX-License-Identifier: Apache-2.0
// Session: one I_T nexus to one target portal group, kept alive through cut connections, with one of them or
// several.
//
// Thread: everything, the constructor and the destructor too, runs on the loop's thread; callbacks come from
// the loop, never from inside the call that caused them, except done of a request that submit() refuses at
// once (see there). Life: start() once; then exactly one of on_failed (first login refused, or given up) or
// on_logged_out ends it. The destructor may be called at any time when no request is outstanding, also from
// on_failed and on_logged_out; the connection closes itself afterwards, so the loop must turn once more
// before it is destroyed.
//
//   Session session(loop, config, observer);
//   session.start();                    // observer.on_logged_in()
//   request.cdb = ...; request.done = ...;
//   session.submit(request);            // request.done(request)
//   session.logout();                   // observer.on_logged_out()
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "initiator/initiator.hpp"

namespace perilune::initiator {

// Counters under open-iscsi's names (iscsiadm -m session -s). Octets include headers, digests and padding.
struct SessionStatistics {
  std::uint64_t txdata_octets = 0, rxdata_octets = 0;
  std::uint64_t noptx_pdus = 0, scsicmd_pdus = 0, tmfcmd_pdus = 0, login_pdus = 0, text_pdus = 0;
  std::uint64_t dataout_pdus = 0, logout_pdus = 0, snack_pdus = 0;
  std::uint64_t noprx_pdus = 0, scsirsp_pdus = 0, tmfrsp_pdus = 0, textrsp_pdus = 0, datain_pdus = 0;
  std::uint64_t logoutrsp_pdus = 0, r2t_pdus = 0, async_pdus = 0, rjt_pdus = 0;
  std::uint64_t digest_err = 0, timeout_err = 0;
  // Beyond open-iscsi
  std::uint64_t connection_failures = 0, reconnects = 0, replayed_commands = 0, aborted_commands = 0;
  std::uint64_t recovered_connections = 0, reassigned_commands = 0, retransmitted_commands = 0;
};

// One task management function; the base has function, lun and the target's response. Embedded by its owner,
// alive until done. (For ABORT TASK see Session::abort().)
struct TaskManagement : iscsi::InitiatorTask {
  Delegate<void(TaskManagement&)> done;
  std::optional<Errc> error_code;  // set when no response came: connection, timed_out, protocol (rejected),
                                   // limit

 private:
  friend class SessionImpl;
  runtime::Instant deadline_{};
};

class SessionImpl;

class Session {
 public:
  Session(runtime::Loop& loop, SessionConfig config, SessionObserver& observer);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void start();
  // Ends with request.done, always, always from a later point of the loop. While the session reconnects,
  // requests wait. In the states free, failed and after logout() they end with error_code connection.
  // Allocates nothing once warm.
  void submit(ScsiRequest& request);
  // ABORT TASK (or withdraws it when it was not sent yet). The request ends with error_code cancelled, or
  // with its status when that came first; when the target does not answer, the ladder LUN RESET, reconnect
  // follows.
  void abort(ScsiRequest& request);
  void manage(TaskManagement& function);
  // Refuses new requests, waits for outstanding ones, logs out, closes. Also gives up a reconnect.
  // Idempotent.
  void logout();
  // Drops the first connection that is there as if the network had cut it (tests, administration): it is
  // recovered, or reconnect follows.
  void drop_connection();
  // How many connections the session shall have: 1 to what was agreed. More are logged in; those that go
  // finish their commands and are logged out, while the others carry on. Holds until the session is made
  // anew.
  void set_connections(std::uint16_t count);
  // The loop is dead and will call nothing any more (a crash in the simulator): lets go of everything at
  // once, also of requests that are outstanding; none of them is called. Only the destructor may follow.
  void abandon();

  [[nodiscard]] SessionInfo info() const;
  [[nodiscard]] const SessionConfig& config() const noexcept;
  [[nodiscard]] SessionStatistics statistics() const;
  [[nodiscard]] runtime::Loop& loop() const noexcept;
  // Requests that may be outstanding at once without waiting for each other (commands_max, or what the
  // target's window allows).
  [[nodiscard]] std::uint32_t queue_depth() const noexcept;

  // SendTargets on this session (RFC 7143 appendix C): the text keys of the answer, NUL separated, at most
  // max_send_targets_bytes. `value` is "All", a target name, or empty (this session's target).
  using TextAnswer = std::function<void(Result<std::vector<std::uint8_t>>)>;
  void send_targets(const std::string& value, TextAnswer answer);

  // The identity that must not change over a reconnect: a LogicalUnit registers what VPD 83 said; the session
  // reads the page again after each new login, before anything is replayed, and gives the unit up when it
  // differs.
  void watch_identity(std::uint64_t lun, std::vector<std::uint8_t> vpd83_page);

 private:
  std::unique_ptr<SessionImpl> impl_;
};

inline constexpr std::uint32_t max_send_targets_bytes = 4u << 20;

// An ISID of RFC 7143's "random" format (type 2: 80h), the same at every start for the same three names:
// persistent reservations hold on to it.
[[nodiscard]] std::array<std::uint8_t, 6> stable_isid(std::string_view initiator_name,
                                                      std::string_view interface_name,
                                                      std::string_view target_name) noexcept;

}  // namespace perilune::initiator
