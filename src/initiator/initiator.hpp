// SPDX-License-Identifier: Apache-2.0
// The public library of the initiator: discovery, sessions that live through cut connections, logical units
// as block channels. Asynchronous, one Loop's thread; see initiator/sync.hpp for the blocking face that tools
// use.
//
// A Session is the I_T nexus as the user sees it. Its connections may die and be replaced (same ISID, after
// login and a check of VPD 83); commands are held meanwhile for replacement_timeout and the safe kinds (READ,
// WRITE, UNMAP, WRITE SAME, SYNCHRONIZE CACHE) are replayed; anything else fails upward (DESIGN 1.15). At
// recovery level 2 a lost connection is recovered within its session instead, and every command goes on where
// it was.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/delegate.hpp"
#include "base/intrusive_list.hpp"
#include "base/result.hpp"
#include "block/backstore.hpp"
#include "crypto/secret.hpp"
#include "iscsi/session/initiator_command.hpp"
#include "runtime/loop.hpp"

namespace perilune::initiator {

struct ChapCredentials {
  std::string user;
  crypto::Secret secret;
  std::string mutual_user;       // empty: one-way
  crypto::Secret mutual_secret;
  std::vector<std::uint8_t> algorithms;  // CHAP_A ids in order of preference; empty: 8, 6, 5, 7
                                         // (iscsi::offered_chap_algorithms)
  [[nodiscard]] ChapCredentials clone() const;
};

// What a URL offers as DefaultTime2Retain with recovery level 2, without which no connection can be
// recovered.
inline constexpr std::uint16_t recovery_time2retain_s = 20;

enum class DigestPreference : std::uint8_t { none, crc32c, crc32c_or_none, none_or_crc32c };

// Finds the addresses of a host name without blocking; `done` is called once, from a later turn of the loop.
// It outlives the session that asks (initiator/resolver.hpp has one).
using NameResolver = std::function<void(const std::string& host, std::uint16_t port,
                                        std::function<void(Result<std::vector<runtime::Endpoint>>)> done)>;

// Everything about a session but its secrets; may be copied.
struct SessionSettings {
  std::string initiator_name;
  std::string initiator_alias;
  std::string target_name;             // empty: discovery session
  runtime::Endpoint portal;
  std::uint16_t portal_group_tag = 1;
  std::array<std::uint8_t, 6> isid{};  // stable for (interface, target): persistent reservations depend on
                                       // it; zero: stable_isid() of the names

  // What we offer (RFC 7143 13); what is agreed is in SessionInfo.
  bool initial_r2t = false;
  bool immediate_data = true;
  std::uint32_t first_burst_length = 262144;
  std::uint32_t max_burst_length = 16776192;
  std::uint32_t max_recv_data_segment_length = 262144;
  std::uint32_t max_outstanding_r2t = 1;
  std::uint16_t default_time2wait = 2;
  std::uint16_t default_time2retain = 0;
  std::uint8_t error_recovery_level = 0;  // 2 recovers connections only where Time2Retain is agreed above 0
  std::uint16_t max_connections = 1;      // that the session makes, when the target agrees
  DigestPreference header_digest = DigestPreference::none;
  DigestPreference data_digest = DigestPreference::none;

  std::uint32_t commands_max = 128;    // outstanding in the session
  std::chrono::seconds login_timeout{15};
  std::chrono::seconds logout_timeout{15};
  std::chrono::seconds noop_interval{5};           // 0: no pings
  std::chrono::seconds noop_timeout{5};
  std::chrono::seconds replacement_timeout{120};   // < 0: hold for ever, 0: fail at once
  std::chrono::seconds abort_timeout{15};
  std::chrono::seconds lu_reset_timeout{30};
  std::chrono::seconds command_timeout{30};        // then ABORT TASK, LUN RESET, connection drop
  runtime::SocketOptions socket;
  NameResolver resolve;  // for host names in redirects; without one such a redirect is not followed
};

struct SessionConfig : SessionSettings {
  std::optional<ChapCredentials> chap;
  [[nodiscard]] SessionConfig clone() const;  // secrets are copied only when somebody asks for it
};

enum class SessionState : std::uint8_t { free, logging_in, logged_in, reconnecting, logging_out, failed };

struct ConnectionInfo {
  std::uint16_t cid = 0;
  runtime::Endpoint local, portal;
};

// What was agreed and counted; a snapshot.
struct SessionInfo {
  SessionState state = SessionState::free;
  std::uint16_t tsih = 0;
  std::uint16_t portal_group_tag = 0;
  std::string target_alias;
  bool header_digest = false, data_digest = false, initial_r2t = true, immediate_data = true;
  std::uint32_t first_burst_length = 65536, max_burst_length = 262144;
  std::uint32_t max_recv_data_segment_length = 8192, max_xmit_data_segment_length = 8192;
  std::uint32_t max_outstanding_r2t = 1;
  std::uint8_t error_recovery_level = 0;
  std::uint16_t max_connections = 1;  // agreed
  std::uint16_t default_time2wait = 2, default_time2retain = 0;
  runtime::Endpoint local, current_portal;  // of the leading connection
  std::vector<ConnectionInfo> connections;  // that are logged in now
  std::uint64_t reconnects = 0;             // of the session, with all that is held for it
  std::uint64_t recovered_connections = 0;  // at recovery level 2, within it
};

// Why a login failed for good; iscsiadm's exit codes derive from it.
struct LoginFailure {
  Error error;                       // connection, timed_out, authentication, authorization, protocol …
  std::uint8_t status_class = 0;     // RFC 7143 11.13.5, when the target answered
  std::uint8_t status_detail = 0;
};

// One SCSI command. Embedded by its owner, alive until done. The base holds what goes over the wire and what
// came back:
//   request: lun (eight LUN bytes, big-endian), cdb, direction, attribute, data (stays put until done; under
//   4 GiB) outcome: status (SAM-5 status byte), sense and sense_length, transferred_bytes (what really moved)
struct ScsiRequest : iscsi::InitiatorCommand, ListNode<ScsiRequest> {
  std::chrono::milliseconds timeout{0};       // 0: SessionConfig::command_timeout
  bool replay_safe = false;                   // may be sent again after a reconnect
  Delegate<void(ScsiRequest&)> done;

  // Set when no SCSI status came: connection (session failed), cancelled, timed_out, protocol, limit,
  // invalid_argument.
  std::optional<Errc> error_code;

 private:
  friend class SessionImpl;
  runtime::Instant deadline_{};
  std::uint8_t replays_ = 0;
  bool timed_out_ = false;
  bool cancelled_ = false;
  bool internal_ = false;  // of the session itself: passes the hold of a reconnect
};

class SessionObserver {
 public:
  virtual ~SessionObserver() = default;
  virtual void on_logged_in() = 0;                       // the first time; LUN scan may begin
  virtual void on_state(SessionState from, SessionState to) = 0;
  virtual void on_failed(const LoginFailure& failure) = 0;  // first login refused, or the session is given up
  virtual void on_logged_out() = 0;     // after logout(), also when the target did not answer it
  virtual void on_units_changed() = 0;  // REPORTED LUNS DATA HAS CHANGED, capacity change: rescan
};

struct TargetPortal {
  std::string address;  // as the target said it: numeric or a host name, IPv6 without brackets
  std::uint16_t port = 3260;
  std::uint16_t portal_group_tag = 1;
};
struct DiscoveredTarget {
  std::string name;
  std::vector<TargetPortal> portals;
};

}  // namespace perilune::initiator
