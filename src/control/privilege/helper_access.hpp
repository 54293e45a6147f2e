// SPDX-License-Identifier: Apache-2.0
// The server's end of the root helper (helper_protocol.hpp).
#pragma once

#include <sys/types.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>

#include "control/privilege/helper_process.hpp"
#include "runtime/posix/host_access.hpp"

namespace perilune::control::privilege {

class HelperAccess final : public runtime::posix::HostAccess {
 public:
  // Forks; the process has one thread, and root's rights.
  [[nodiscard]] static Result<std::unique_ptr<HelperAccess>> start(const HelperPolicy& policy);
  ~HelperAccess() override;  // the helper ends by itself
  HelperAccess(const HelperAccess&) = delete;
  HelperAccess& operator=(const HelperAccess&) = delete;

  // A path may lead to a disk that does not answer: waited for longer than a loop may wait, on which
  // descriptors are reopened and ports are bound.
  [[nodiscard]] Result<runtime::posix::UniqueFd> open(const std::string& path, int flags) override;
  [[nodiscard]] Result<runtime::posix::UniqueFd> create(const std::string& path) override;
  [[nodiscard]] Status remove(const std::string& path) override;
  [[nodiscard]] Status bind(int socket, const sockaddr* address, socklen_t length) override;

  [[nodiscard]] pid_t pid() const noexcept { return pid_; }

 private:
  HelperAccess(runtime::posix::UniqueFd socket, pid_t pid) : socket_(std::move(socket)), pid_(pid) {}
  // `name` is who an error is about.
  [[nodiscard]] Result<runtime::posix::UniqueFd> ask(Request& request, int carried,
                                                     std::chrono::milliseconds patience,
                                                     const std::string& name);
  // While busy_ is this caller's.
  [[nodiscard]] Result<runtime::posix::UniqueFd> exchange(Request& request, int carried,
                                                          std::chrono::steady_clock::time_point deadline,
                                                          const std::string& name);
  [[nodiscard]] Result<runtime::posix::UniqueFd> ask_about(Request::Kind kind, const std::string& path,
                                                           int flags);

  std::mutex mutex_;
  std::condition_variable turn_;
  bool busy_ = false;  // one request at a time: who has set it has the socket and the number
  runtime::posix::UniqueFd socket_;
  std::uint32_t last_number_ = 0;
  pid_t pid_;
};

}  // namespace perilune::control::privilege
