// SPDX-License-Identifier: Apache-2.0
#include "base/buffer_pool.hpp"

#include <cerrno>
#include <utility>

#include "base/assert.hpp"

namespace perilune {

Result<std::unique_ptr<BufferPool>> BufferPool::create(std::uint32_t pages) {
  Mapping region = Mapping::of_huge_pages(std::size_t{pages} * page_size_bytes);
  if (!region.good()) return fail_errno(errno, "mapping the payload pool");
  return std::unique_ptr<BufferPool>(new BufferPool(std::move(region), pages));
}

BufferPool::BufferPool(Mapping region, std::uint32_t pages) : region_(std::move(region)), total_(pages) {
  free_.reserve(pages);
  for (std::uint32_t i = pages; i-- > 0;) free_.push_back(region_.begin() + std::size_t{i} * page_size_bytes);
}

bool BufferPool::try_reserve(std::uint32_t pages) noexcept {
  const std::uint64_t after = std::uint64_t{reserved_} + pages + min_shared_;
  if (after > total_ || pages > shared_free()) return false;
  reserved_ += pages;
  return true;
}

void BufferPool::unreserve(std::uint32_t pages) noexcept {
  PERILUNE_ASSERT(pages <= reserved_ - reserved_taken_);
  reserved_ -= pages;
  grant_waiters();
}

std::uint32_t BufferPool::shared_free() const noexcept {
  const std::uint32_t promised = reserved_ - reserved_taken_;
  return static_cast<std::uint32_t>(free_.size()) - promised;
}

void BufferPool::take_reserved(std::span<std::uint8_t*> out) noexcept {
  PERILUNE_ASSERT(reserved_taken_ + out.size() <= reserved_);
  for (std::uint8_t*& page : out) {
    page = free_.back();
    free_.pop_back();
  }
  reserved_taken_ += static_cast<std::uint32_t>(out.size());
}

void BufferPool::release_reserved(std::span<std::uint8_t* const> pages) noexcept {
  PERILUNE_ASSERT(pages.size() <= reserved_taken_);
  for (std::uint8_t* page : pages) free_.push_back(page);
  reserved_taken_ -= static_cast<std::uint32_t>(pages.size());
}

bool BufferPool::take_shared(std::span<std::uint8_t*> out) noexcept {
  if ((!waiters_.empty() && !granting_) || out.size() > shared_free()) return false;
  for (std::uint8_t*& page : out) {
    page = free_.back();
    free_.pop_back();
  }
  return true;
}

void BufferPool::release_shared(std::span<std::uint8_t* const> pages) noexcept {
  for (std::uint8_t* page : pages) free_.push_back(page);
  grant_waiters();
}

void BufferPool::wait(Waiter& waiter, std::uint32_t pages) noexcept {
  PERILUNE_ASSERT(pages <= total_);
  waiter.pages = pages;
  waiters_.push_back(waiter);
}

void BufferPool::grant_waiters() noexcept {
  if (granting_) return;
  granting_ = true;
  while (!waiters_.empty() && waiters_.front().pages <= shared_free()) waiters_.pop_front().ready();
  granting_ = false;
}

}  // namespace perilune
