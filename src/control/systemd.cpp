// SPDX-License-Identifier: Apache-2.0
#include "control/systemd.hpp"

#include <fcntl.h>
#include <sys/socket.h>
#include <systemd/sd-daemon.h>

#include <cerrno>
#include <utility>

namespace perilune::control::systemd {
namespace {

// How often the token starts in the time that the manager grants: one that is late does not end the service.
constexpr int rounds_in_limit = 4;

void tell(std::string state, std::string_view status) {
  state += "STATUS=";
  for (const char c : status) state += c == '\n' ? ' ' : c;  // a line is an assignment
  ::sd_notify(0, state.c_str());
}

}  // namespace

void tell_status(std::string_view status) { tell("", status); }
void tell_ready(std::string_view status) { tell("READY=1\n", status); }
void tell_reloading(std::string_view status) { tell("RELOADING=1\n", status); }
void tell_stopping(std::string_view status) { tell("STOPPING=1\n", status); }
void tell_alive() { ::sd_notify(0, "WATCHDOG=1"); }

std::optional<std::chrono::microseconds> watchdog_limit() {
  std::uint64_t limit_us = 0;
  if (::sd_watchdog_enabled(0, &limit_us) <= 0) return std::nullopt;
  return std::chrono::microseconds(limit_us);
}

Result<Fd> take_activated_socket(const std::string& path) {
  const int count = ::sd_listen_fds(0);
  if (count < 0)
    return fail(Errc::invalid_argument, "LISTEN_FDS is not what a service manager writes", -count);
  for (int fd = SD_LISTEN_FDS_START; fd < SD_LISTEN_FDS_START + count; ++fd) {
    if (::sd_is_socket_unix(fd, SOCK_STREAM, 1, path.c_str(), 0) <= 0) continue;
    const int flags = ::fcntl(fd, F_GETFL);
    if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
      return fail_errno(errno, "cannot use the socket " + path);
    return Fd(fd);
  }
  if (count != 0) return fail(Errc::invalid_argument, "the service manager listens, but not on " + path);
  return Fd();
}

Watchdog::Watchdog(std::vector<runtime::Loop*> loops, std::chrono::microseconds limit,
                   std::function<void()> alive)
    : loops_(std::move(loops)),
      pause_(limit / rounds_in_limit),
      alive_(std::move(alive)),
      timer_(loops_.front()->timers(), Delegate<void()>::to<&Watchdog::send_round>(*this)) {}

void Watchdog::start() {
  loops_.front()->post([this] { came_round(); });
}

void Watchdog::send_round() { pass_to(1); }

void Watchdog::pass_to(std::size_t index) {
  if (index == loops_.size()) return loops_.front()->post([this] { came_round(); });
  loops_[index]->post([this, index] { pass_to(index + 1); });
}

void Watchdog::came_round() {
  alive_();
  timer_.arm(loops_.front()->now() + pause_);
}

}  // namespace perilune::control::systemd
