// SPDX-License-Identifier: Apache-2.0
#include "runtime/uring/receive_buffers.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <string>

namespace perilune::runtime::uring {
namespace {

constexpr unsigned first_offer = 4;

}  // namespace

Result<std::unique_ptr<ReceiveBuffers>> ReceiveBuffers::create(io_uring& ring, unsigned count,
                                                               std::size_t bytes) {
  if (count == 0 || count > 32768 || (count & (count - 1)) != 0 || bytes == 0 ||
      bytes > (std::size_t{1} << 30)) {
    return fail(Errc::invalid_argument, "receive buffers: the number must be a power of two, at most 32768");
  }
  std::unique_ptr<ReceiveBuffers> self(new ReceiveBuffers);
  self->count_ = count;
  self->buffer_bytes_ = bytes;
  self->ring_memory_ = Mapping::of_zeroes(count * sizeof(io_uring_buf));
  self->memory_ = Mapping::of_huge_pages(count * bytes);
  if (!self->ring_memory_.good() || !self->memory_.good()) return fail_errno(ENOMEM, "receive buffers");
  // Those that are always in use are in a huge page; of the others a storm of logins touches a small one
  // each.
  const MutableBytes others = self->memory_.all().subspan(std::min(huge_page_bytes, count * bytes));
  if (!others.empty()) (void)::madvise(others.data(), others.size(), MADV_NOHUGEPAGE);
  self->ring_ = reinterpret_cast<io_uring_buf_ring*>(self->ring_memory_.begin());
  io_uring_buf_reg reg{};
  reg.ring_addr = reinterpret_cast<std::uint64_t>(self->ring_);
  reg.ring_entries = count;
  reg.bgid = group;
  const int result = io_uring_register_buf_ring(&ring, &reg, 0);
  if (result == -EINVAL)
    return fail(Errc::unsupported, "io_uring of this kernel has no provided-buffer rings", EINVAL);
  if (result != 0) return fail_errno(-result, "io_uring: register receive buffers");
  io_uring_buf_ring_init(self->ring_);
  while (self->offered_ < std::min(first_offer, count))
    self->give_back(static_cast<std::uint16_t>(self->offered_++));
  return self;
}

void ReceiveBuffers::give_back(std::uint16_t id) noexcept {
  // Not io_uring_buf_ring_add(): the flexible array of that struct overlays the tail, which C++ compilers
  // read differently from C ones; the slot address is plain.
  auto* slots = reinterpret_cast<io_uring_buf*>(ring_);
  const auto tail = static_cast<unsigned short>(ring_->tail);
  io_uring_buf& slot = slots[tail & (count_ - 1)];
  slot.addr = reinterpret_cast<std::uint64_t>(memory_.begin() + std::size_t{id} * buffer_bytes_);
  slot.len = static_cast<std::uint32_t>(buffer_bytes_);
  slot.bid = id;
  __atomic_store_n(&ring_->tail, static_cast<unsigned short>(tail + 1), __ATOMIC_RELEASE);
}

void ReceiveBuffers::grow() noexcept {
  const unsigned target = std::min(count_, offered_ * 2);
  while (offered_ < target) give_back(static_cast<std::uint16_t>(offered_++));
}

}  // namespace perilune::runtime::uring
