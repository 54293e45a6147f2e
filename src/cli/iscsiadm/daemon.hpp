// SPDX-License-Identifier: Apache-2.0
// iscsid as iscsiadm sees it. An interface, so that the modes are tested without one.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "cli/iscsiadm/console.hpp"
#include "control/client.hpp"

namespace perilune::cli::iscsiadm {

class PendingCall {
 public:
  virtual ~PendingCall() = default;
  using Progress = std::function<void(const control::Json&)>;
  // The answer; a daemon that went away is code 18 or 20. Once.
  virtual control::Reply wait(const Progress& progress) = 0;
};

class Daemon {
 public:
  virtual ~Daemon() = default;
  // Whether a daemon listens. start: start one when none does (unless that is forbidden).
  enum class Start : bool { no, yes };
  virtual bool reach(Start start) = 0;
  // A request on its way; never null. Does not start a daemon: reach() first.
  virtual std::unique_ptr<PendingCall> begin(const std::string& op, const control::Json& args) = 0;

  control::Reply call(const std::string& op, const control::Json& args,
                      const PendingCall::Progress& progress = {}) {
    return begin(op, args)->wait(progress);
  }
};

class SocketDaemon final : public Daemon {
 public:
  SocketDaemon(std::string socket_path, std::string config_root, Console& console);
  bool reach(Start start) override;
  std::unique_ptr<PendingCall> begin(const std::string& op, const control::Json& args) override;

 private:
  [[nodiscard]] bool may_start() const;
  void start_daemon();
  std::string socket_path_;
  std::string config_root_;
  Console& console_;
};

}  // namespace perilune::cli::iscsiadm
