// SPDX-License-Identifier: Apache-2.0
// The epoll descriptor and the table of what it watches. Internal to this folder; the loop's thread.
//
// An event names a place in the table and the generation of its tenant, so that an event which was taken from
// the kernel before its source went away reaches nobody.
#pragma once

#include <sys/epoll.h>

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/result.hpp"
#include "runtime/posix/unique_fd.hpp"
#include "runtime/time.hpp"

namespace perilune::runtime::epoll {

// Told when its descriptor is ready: EPOLLIN, EPOLLOUT, ... as epoll reports them. May withdraw itself
// meanwhile.
class Source {
 public:
  virtual void on_ready(std::uint32_t events) = 0;

 protected:
  ~Source() = default;
};

class Poller {
 public:
  using Token = std::uint64_t;

  [[nodiscard]] Status open();

  // 0 (then `token` names the registration) or -errno of epoll_ctl.
  [[nodiscard]] int add(int fd, std::uint32_t events, Source& source, Token& token);
  void modify(int fd, std::uint32_t events, Token token) noexcept;
  // No event reaches the source after this.
  void remove(int fd, Token token) noexcept;
  // The same for a descriptor that is closed next, which takes it out of the kernel's set.
  void forget(Token token) noexcept;

  // Collects events, waiting for `timeout` at most (nullopt: for ever). How many there are.
  unsigned wait(std::optional<Duration> timeout);
  // Hands out what wait() collected. How many there were.
  unsigned dispatch();

 private:
  struct Place {
    Source* tenant = nullptr;
    std::uint32_t generation = 0;
  };
  [[nodiscard]] int wait_precisely(std::optional<Duration> timeout) noexcept;
  [[nodiscard]] int wait_coarsely(std::optional<Duration> timeout) noexcept;

  posix::UniqueFd fd_;
  std::vector<Place> places_;
  std::vector<std::uint32_t> vacant_;
  std::array<epoll_event, 256> events_{};
  unsigned collected_ = 0;
  bool precise_ = true;  // epoll_pwait2 works here
};

}  // namespace perilune::runtime::epoll
