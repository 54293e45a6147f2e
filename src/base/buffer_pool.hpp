// SPDX-License-Identifier: Apache-2.0
// The payload memory of one shard: one region of equal pages, registered with the reactor as a fixed buffer.
//
// Two kinds of demand (DESIGN: back-pressure that cannot deadlock):
//  - Reservations are promises. A session reserves FirstBurstLength for every command it lets the initiator
//  send;
//    pages taken against a reservation always exist.
//  - Everything else waits in one FIFO and is granted whole: a waiter never holds a part of what it asked
//  for, and
//    what it was granted is returned without waiting for anything else, so the first waiter always gets its
//    turn.
//
// One thread (the shard's). Sizes in pages of page_size_bytes.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/bytes.hpp"
#include "base/delegate.hpp"
#include "base/intrusive_list.hpp"
#include "base/mapping.hpp"
#include "base/result.hpp"

namespace perilune {

class BufferPool {
 public:
  static constexpr std::size_t page_size_bytes = 16384;

  // A demand that may have to wait. The owner embeds it; destroying or unlinking it withdraws the demand.
  struct Waiter : ListNode<Waiter> {
    std::uint32_t pages = 0;
    Delegate<void()> ready;  // called from release(); the callee takes its pages with take_shared() at once
  };

  // `pages` pages, page aligned, touched lazily. Fails with no_memory.
  [[nodiscard]] static Result<std::unique_ptr<BufferPool>> create(std::uint32_t pages);
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;

  [[nodiscard]] static constexpr std::uint32_t pages_for(std::uint64_t bytes) noexcept {
    return static_cast<std::uint32_t>((bytes + page_size_bytes - 1) / page_size_bytes);
  }

  // Reservations. try_reserve keeps `min_shared_pages` (set once at start) out of the reach of reservations,
  // so that solicited work can always proceed.
  [[nodiscard]] bool try_reserve(std::uint32_t pages) noexcept;
  void unreserve(std::uint32_t pages) noexcept;
  void set_min_shared(std::uint32_t pages) noexcept { min_shared_ = pages; }

  // Pages under a reservation the caller holds: always succeeds. The pages stay charged to the reservation
  // until release_reserved. out.size() is the number of pages.
  void take_reserved(std::span<std::uint8_t*> out) noexcept;
  void release_reserved(std::span<std::uint8_t* const> pages) noexcept;

  // Pages from the shared part; false when they are not free now or others wait already (then wait()).
  [[nodiscard]] bool take_shared(std::span<std::uint8_t*> out) noexcept;
  void release_shared(std::span<std::uint8_t* const> pages) noexcept;
  void wait(Waiter& waiter, std::uint32_t pages) noexcept;

  [[nodiscard]] std::uint32_t total_pages() const noexcept { return total_; }
  [[nodiscard]] std::uint32_t free_pages() const noexcept { return static_cast<std::uint32_t>(free_.size()); }
  [[nodiscard]] std::uint32_t reserved_pages() const noexcept { return reserved_; }
  [[nodiscard]] MutableBytes region() const noexcept { return region_.all(); }
  [[nodiscard]] bool contains(const std::uint8_t* p) const noexcept {
    return p >= region_.begin() && p < region_.begin() + region_.bytes();
  }

 private:
  BufferPool(Mapping region, std::uint32_t pages);
  void grant_waiters() noexcept;
  [[nodiscard]] std::uint32_t shared_free() const noexcept;

  Mapping region_;
  std::uint32_t total_;
  std::uint32_t reserved_ = 0;        // promised
  std::uint32_t reserved_taken_ = 0;  // of those, in use
  std::uint32_t min_shared_ = 0;
  std::vector<std::uint8_t*> free_;   // LIFO: the warmest page first
  IntrusiveList<Waiter> waiters_;
  bool granting_ = false;
};

}  // namespace perilune
