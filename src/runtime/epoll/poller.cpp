// SPDX-License-Identifier: Apache-2.0
#include "runtime/epoll/poller.hpp"

#include <algorithm>
#include <cerrno>
#include <climits>

#include "base/assert.hpp"

namespace perilune::runtime::epoll {
namespace {

[[nodiscard]] std::uint32_t place_of(Poller::Token token) noexcept {
  return static_cast<std::uint32_t>(token >> 32);
}
[[nodiscard]] std::uint32_t generation_of(Poller::Token token) noexcept {
  return static_cast<std::uint32_t>(token);
}
[[nodiscard]] Poller::Token token_of(std::uint32_t place, std::uint32_t generation) noexcept {
  return (std::uint64_t{place} << 32) | generation;
}

}  // namespace

Status Poller::open() {
  fd_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!fd_) return fail_errno(errno, "epoll_create1");
  return {};
}

int Poller::add(int fd, std::uint32_t events, Source& source, Token& token) {
  if (vacant_.empty()) {
    vacant_.push_back(static_cast<std::uint32_t>(places_.size()));
    places_.emplace_back();
  }
  const std::uint32_t place = vacant_.back();
  token = token_of(place, places_[place].generation);
  epoll_event event{};
  event.events = events;
  event.data.u64 = token;
  if (::epoll_ctl(fd_.get(), EPOLL_CTL_ADD, fd, &event) != 0) return -errno;
  vacant_.pop_back();
  places_[place].tenant = &source;
  return 0;
}

void Poller::modify(int fd, std::uint32_t events, Token token) noexcept {
  epoll_event event{};
  event.events = events;
  event.data.u64 = token;
  const int result = ::epoll_ctl(fd_.get(), EPOLL_CTL_MOD, fd, &event);
  PERILUNE_ASSERT(result == 0);  // it is registered, and nothing is allocated
}

void Poller::remove(int fd, Token token) noexcept {
  epoll_event event{};
  (void)::epoll_ctl(fd_.get(), EPOLL_CTL_DEL, fd, &event);
  forget(token);
}

void Poller::forget(Token token) noexcept {
  Place& place = places_[place_of(token)];
  PERILUNE_ASSERT(place.tenant != nullptr && place.generation == generation_of(token));
  place.tenant = nullptr;
  ++place.generation;
  vacant_.push_back(place_of(token));
}

int Poller::wait_precisely(std::optional<Duration> timeout) noexcept {
  timespec ts{};
  if (timeout) {
    const auto ns = std::max<std::int64_t>(timeout->count(), 0);
    ts.tv_sec = ns / 1'000'000'000;
    ts.tv_nsec = ns % 1'000'000'000;
  }
  return ::epoll_pwait2(fd_.get(), events_.data(), static_cast<int>(events_.size()), timeout ? &ts : nullptr,
                        nullptr);
}

// By whole milliseconds, rounded up: a timer never fires early.
int Poller::wait_coarsely(std::optional<Duration> timeout) noexcept {
  int ms = -1;
  if (timeout) {
    const auto ns = std::max<std::int64_t>(timeout->count(), 0);
    ms = static_cast<int>(std::min<std::int64_t>((ns + 999'999) / 1'000'000, INT_MAX));
  }
  return ::epoll_wait(fd_.get(), events_.data(), static_cast<int>(events_.size()), ms);
}

unsigned Poller::wait(std::optional<Duration> timeout) {
  const bool at_once = timeout && timeout->count() <= 0;
  int count = precise_ && !at_once ? wait_precisely(timeout) : wait_coarsely(timeout);
  // Kernel 5.11 has the call; a filter that allows only what it knows answers EPERM.
  if (count < 0 && precise_ && !at_once && (errno == ENOSYS || errno == EPERM)) {
    precise_ = false;
    count = wait_coarsely(timeout);
  }
  PERILUNE_ASSERT(count >= 0 || errno == EINTR);
  collected_ = count > 0 ? static_cast<unsigned>(count) : 0;
  return collected_;
}

unsigned Poller::dispatch() {
  const unsigned count = collected_;
  for (unsigned i = 0; i < count; ++i) {
    const epoll_event event = events_[i];
    const Place& place = places_[place_of(event.data.u64)];
    if (place.tenant != nullptr && place.generation == generation_of(event.data.u64))
      place.tenant->on_ready(event.events);
  }
  collected_ = 0;
  return count;
}

}  // namespace perilune::runtime::epoll
