// SPDX-License-Identifier: Apache-2.0
#include "runtime/posix/mailbox.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>

#include "base/assert.hpp"

namespace perilune::runtime::posix {

Status Mailbox::open(int flags) {
  doorbell_.reset(::eventfd(0, EFD_CLOEXEC | flags));
  if (!doorbell_) return fail_errno(errno, "eventfd");
  return {};
}

void Mailbox::post(std::function<void()> work) {
  bool first = false;
  {
    const std::lock_guard lock(mutex_);
    first = posted_.empty();
    posted_.push_back(std::move(work));
    any_posted_.store(true, std::memory_order_release);
  }
  if (first) ring();
}

void Mailbox::stop() {
  stopping_.store(true);
  ring();
}

void Mailbox::ring() const noexcept {
  if (thread_.load(std::memory_order_relaxed) == std::this_thread::get_id()) return;  // looks before it waits
  const std::uint64_t one = 1;
  (void)!::write(doorbell_.get(), &one, sizeof one);
}

void Mailbox::bind() {
  const auto self = std::this_thread::get_id();
  if (thread_.load() == std::thread::id{}) thread_.store(self);
  PERILUNE_ASSERT(thread_.load() == self);
}

void Mailbox::run() {
  if (!any_posted_.load(std::memory_order_acquire)) return;
  std::vector<std::function<void()>> batch;
  {
    const std::lock_guard lock(mutex_);
    batch.swap(posted_);
    any_posted_.store(false, std::memory_order_release);
  }
  for (auto& work : batch) work();
}

}  // namespace perilune::runtime::posix
