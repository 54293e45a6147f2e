// SPDX-License-Identifier: Apache-2.0
// Bytes in iovecs: gather, compare, fill. Offsets and lengths are the caller's responsibility to keep inside;
// what would pass the end is clipped. For src/scsi alone.
#pragma once

#include <sys/uio.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>

#include "base/bytes.hpp"

namespace perilune::scsi {

// Walks iovecs byte run by byte run.
class Cursor {
 public:
  Cursor(std::span<const iovec> pieces, std::uint64_t offset) noexcept : pieces_(pieces) { advance(offset); }

  [[nodiscard]] MutableBytes run() noexcept {
    skip_empty();
    if (index_ == pieces_.size()) return {};
    return {static_cast<std::uint8_t*>(pieces_[index_].iov_base) + within_,
            pieces_[index_].iov_len - within_};
  }
  void advance(std::uint64_t bytes) noexcept {
    while (bytes != 0 && index_ < pieces_.size()) {
      const std::uint64_t step = std::min<std::uint64_t>(bytes, pieces_[index_].iov_len - within_);
      within_ += static_cast<std::size_t>(step);
      bytes -= step;
      skip_empty();
    }
  }
  // The next bytes; the cursor stands behind them afterwards. Returns how many there were.
  std::size_t copy_out(MutableBytes out) noexcept {
    std::size_t done = 0;
    for (MutableBytes from = run(); done < out.size() && !from.empty(); from = run()) {
      const std::size_t step = std::min(from.size(), out.size() - done);
      std::memcpy(out.data() + done, from.data(), step);
      done += step;
      advance(step);
    }
    return done;
  }
  void copy_in(Bytes in) noexcept {
    for (MutableBytes to = run(); !in.empty() && !to.empty(); to = run()) {
      const std::size_t step = std::min(to.size(), in.size());
      std::memcpy(to.data(), in.data(), step);
      in = in.subspan(step);
      advance(step);
    }
  }

 private:
  void skip_empty() noexcept {
    while (index_ < pieces_.size() && within_ == pieces_[index_].iov_len) {
      ++index_;
      within_ = 0;
    }
  }
  std::span<const iovec> pieces_;
  std::size_t index_ = 0;
  std::size_t within_ = 0;
};

[[nodiscard]] std::uint64_t total_bytes(std::span<const iovec> pieces) noexcept;

// Copies out.size() bytes from `offset`; returns how many there were.
std::size_t gather(std::span<const iovec> from, std::uint64_t offset, MutableBytes out) noexcept;

// Names [offset, offset + length) of `from` in `out`, as far as out has room, in multiples of `unit_bytes`.
// Returns the bytes named; `used` the number of pieces.
std::uint64_t slice(std::span<const iovec> from, std::uint64_t offset, std::uint64_t length,
                    std::uint32_t unit_bytes, std::span<iovec> out, std::size_t& used) noexcept;

// Position of the first byte, counted from the start of the run, in which they differ.
[[nodiscard]] std::optional<std::uint64_t> first_difference(std::span<const iovec> a, std::uint64_t a_offset,
                                                            std::span<const iovec> b, std::uint64_t b_offset,
                                                            std::uint64_t length) noexcept;

// The first `length` bytes of `to` become copies of the first `pattern_bytes` of `from`, over and over.
void replicate(std::span<const iovec> from, std::uint32_t pattern_bytes, std::span<const iovec> to,
               std::uint64_t length) noexcept;

// The first `length` bytes of `into` become their OR with those of `from` at `offset`.
void merge_or(std::span<const iovec> from, std::uint64_t offset, std::span<const iovec> into,
              std::uint64_t length) noexcept;

[[nodiscard]] bool all_zero(std::span<const iovec> pieces, std::uint64_t length) noexcept;

}  // namespace perilune::scsi
