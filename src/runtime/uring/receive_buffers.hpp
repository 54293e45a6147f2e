// SPDX-License-Identifier: Apache-2.0
// The provided-buffer ring that one-shot receives select from, so that an idle connection holds no buffer.
//
// The kernel takes buffers in the order they were offered. If all of them were offered, a busy connection
// would walk through megabytes of cold memory; so only a few are, and more are added when a receive finds
// none (ENOBUFS). Internal to this folder; the loop's thread.
#pragma once

#include <liburing.h>

#include <cstddef>
#include <cstdint>
#include <memory>

#include "base/bytes.hpp"
#include "base/mapping.hpp"
#include "base/result.hpp"

namespace perilune::runtime::uring {

class ReceiveBuffers {
 public:
  static constexpr std::uint16_t group = 0;

  // `count` (a power of two) buffers of `bytes` each.
  [[nodiscard]] static Result<std::unique_ptr<ReceiveBuffers>> create(io_uring& ring, unsigned count,
                                                                      std::size_t bytes);
  ReceiveBuffers(const ReceiveBuffers&) = delete;
  ReceiveBuffers& operator=(const ReceiveBuffers&) = delete;

  [[nodiscard]] Bytes filled(std::uint16_t id, std::size_t bytes) const noexcept {
    return {memory_.begin() + std::size_t{id} * buffer_bytes_, bytes};
  }
  void give_back(std::uint16_t id) noexcept;
  // Offers as many again as are offered now, up to all.
  void grow() noexcept;
  [[nodiscard]] unsigned offered() const noexcept { return offered_; }

 private:
  ReceiveBuffers() = default;
  Mapping ring_memory_, memory_;
  io_uring_buf_ring* ring_ = nullptr;
  std::size_t buffer_bytes_ = 0;
  unsigned count_ = 0;
  unsigned offered_ = 0;
};

}  // namespace perilune::runtime::uring
