// SPDX-License-Identifier: Apache-2.0
// One session of the daemon from login to logout, with the block devices of its units.
//
// Thread: the loop's. Owned by shared_ptr, because what it starts answers later.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "attach/attach.hpp"
#include "config/record.hpp"
#include "control/messages.hpp"
#include "initiator/logical_unit.hpp"
#include "initiator/session.hpp"
#include "runtime/loop.hpp"
#include "runtime/timer.hpp"

namespace perilune::control {

using Log = std::function<void(std::string_view line)>;

// code is an IscsiError; the words are for the log and for people.
using Done = std::function<void(int code, const std::string& message)>;

struct SessionContext {
  runtime::Loop& loop;
  const Log& log;
  std::string initiator_name;
  std::string initiator_alias;
  std::string attach_run_dir;
  bool attach_devices = true;  // false in tests that have no /dev/fuse
  initiator::NameResolver resolve = {};
};

class ManagedSession final : public std::enable_shared_from_this<ManagedSession>,
                             public initiator::SessionObserver {
 public:
  // `ended` is called once, when nothing of it is left: the owner drops it then.
  ManagedSession(const SessionContext& context, std::uint32_t sid, unsigned instance, config::Record node,
                 runtime::Endpoint portal, std::function<void(std::uint32_t sid)> ended);
  ~ManagedSession() override;

  // Tries as often as the record says. After success the units are scanned and attached before `done` is
  // called.
  void login(Done done);
  // Also told the outcome of a first login that is still under way. Precondition: logging_in().
  void join_login(Done done) { joined_.push_back(std::move(done)); }
  // Detaches the devices, logs out. refuse_if_used: busy (28) when a device is in use, and everything stays.
  // polite_then_force tries the first, then does it anyhow.
  enum class Leave : std::uint8_t { refuse_if_used, force, polite_then_force };
  void logout(Leave how, Done done);
  void rescan(Done done);

  [[nodiscard]] SessionView view() const;
  [[nodiscard]] std::uint32_t sid() const noexcept { return sid_; }
  [[nodiscard]] unsigned instance() const noexcept { return instance_; }
  [[nodiscard]] const config::Record& node() const noexcept { return node_; }
  [[nodiscard]] bool leaving() const noexcept { return phase_ == Phase::leaving; }
  [[nodiscard]] bool online() const noexcept { return phase_ == Phase::online; }
  [[nodiscard]] bool logging_in() const noexcept { return phase_ == Phase::logging_in; }
  [[nodiscard]] bool was_online() const noexcept { return was_online_; }

 private:
  enum class Phase : std::uint8_t { logging_in, online, leaving, gone };
  struct Unit {
    initiator::UnitInfo info;
    std::unique_ptr<initiator::LogicalUnit> channel;
    std::unique_ptr<attach::Attachment> attachment;  // after channel: goes first
    bool detach_asked = false;
    bool forced = false;
  };

  void on_logged_in() override;
  void on_state(initiator::SessionState from, initiator::SessionState to) override;
  void on_failed(const initiator::LoginFailure& failure) override;
  void on_logged_out() override;
  void on_units_changed() override;

  void attempt();
  void first_login_failed(const initiator::LoginFailure& failure);
  void scan();
  void scanned(Result<std::vector<initiator::UnitInfo>> units);
  void attach_unit(initiator::UnitInfo info);
  void settled_check();
  void settle_timeout();
  void finish_settling(int code, const std::string& message);
  void advance_leave();
  void detach_unit(Unit& unit);
  void detached(std::uint64_t lun, const Status& status);
  void stay(int code, const std::string& message);
  void finish(int code, const std::string& message);
  void answer_login(int code, const std::string& message);
  void say(std::string_view text) const;
  void later(void (ManagedSession::*what)());
  [[nodiscard]] bool healthy() const;

  const SessionContext& context_;
  std::uint32_t sid_;
  unsigned instance_;
  config::Record node_;
  runtime::Endpoint portal_;
  std::function<void(std::uint32_t)> ended_;

  Phase phase_ = Phase::logging_in;
  std::int64_t attempts_left_ = 1;
  bool session_ended_ = false;   // failed for good, or logged out
  bool logout_sent_ = false;
  bool scanning_ = false;
  bool scan_again_ = false;
  Leave leave_ = Leave::force;
  bool was_online_ = false;
  Done login_done_, logout_done_;
  std::vector<Done> joined_;
  std::vector<Done> rescan_done_;
  std::string failure_;          // why it failed for good
  std::unique_ptr<initiator::Session> session_;
  std::unique_ptr<initiator::Scan> scan_;            // after session_: goes first
  std::vector<std::unique_ptr<Unit>> units_;         // after session_: go first
  runtime::Timer retry_timer_;
  runtime::Timer settle_timer_;
};

}  // namespace perilune::control
