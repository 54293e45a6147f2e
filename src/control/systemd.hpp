// SPDX-License-Identifier: Apache-2.0
// What a daemon and the service manager that started it tell each other: sd_notify(3), sd_listen_fds(3) and
// sd_watchdog_enabled(3). Started by anything else, a daemon tells nobody, is passed no socket and is not
// watched.
#pragma once

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "control/files.hpp"
#include "runtime/loop.hpp"

namespace perilune::control::systemd {

// Each with the one line that `systemctl status` shows. Any thread; one datagram; who does not listen is no
// error.
void tell_status(std::string_view status);
void tell_ready(std::string_view status);      // also at the end of a reload
void tell_reloading(std::string_view status);  // the manager then waits for tell_ready()
void tell_stopping(std::string_view status);
// The keep-alive that a watched service owes.
void tell_alive();

// Whether this process was started by a manager that was told to watch it, and how long it may be silent.
[[nodiscard]] std::optional<std::chrono::microseconds> watchdog_limit();

// The listening stream socket at `path` that the manager holds for us (a .socket unit); an invalid Fd when it
// holds none. Fails with invalid_argument when it passed sockets, but not this one: then clients of theirs
// would wait for nobody. Once: the descriptor is the caller's.
[[nodiscard]] Result<Fd> take_activated_socket(const std::string& path);

// Keeps the service alive while every loop makes progress: a token goes from loop to loop, four times in
// `limit`, and only where it has come round is the manager told. A loop that is stuck keeps the token, and
// nobody else can speak for it. Made before the loops run and destroyed when none runs any more, before they
// are.
class Watchdog {
 public:
  Watchdog(std::vector<runtime::Loop*> loops, std::chrono::microseconds limit,
           std::function<void()> alive = tell_alive);

  // Any thread, once. From then on `alive` is called on the first loop's thread.
  void start();

 private:
  void send_round();
  void pass_to(std::size_t index);
  void came_round();

  std::vector<runtime::Loop*> loops_;
  std::chrono::microseconds pause_;
  std::function<void()> alive_;
  runtime::Timer timer_;  // of the first loop
};

}  // namespace perilune::control::systemd
