// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>
#include <vector>

#include "base/assert.hpp"
#include "base/bytes.hpp"

namespace perilune::sim {

// Bytes in, bytes out, in order.
class ByteQueue {
 public:
  [[nodiscard]] std::size_t size() const noexcept { return bytes_.size() - head_; }
  [[nodiscard]] bool empty() const noexcept { return size() == 0; }
  void append(Bytes bytes) { bytes_.insert(bytes_.end(), bytes.begin(), bytes.end()); }
  // out.size() <= size().
  void take(MutableBytes out) {
    PERILUNE_ASSERT(out.size() <= size());
    if (!out.empty()) std::memcpy(out.data(), bytes_.data() + head_, out.size());
    head_ += out.size();
    if (head_ > 65536 && head_ * 2 > bytes_.size()) {
      bytes_.erase(bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(head_));
      head_ = 0;
    }
    if (empty()) clear();
  }
  [[nodiscard]] std::vector<std::uint8_t> take(std::size_t n) {
    std::vector<std::uint8_t> out(n);
    take(MutableBytes(out));
    return out;
  }
  void clear() noexcept {
    bytes_.clear();
    head_ = 0;
  }

 private:
  std::vector<std::uint8_t> bytes_;
  std::size_t head_ = 0;
};

}  // namespace perilune::sim
