// SPDX-License-Identifier: Apache-2.0
#include "scsi/transfer.hpp"

#include <algorithm>
#include <cstring>

namespace perilune::scsi {
std::uint64_t total_bytes(std::span<const iovec> pieces) noexcept {
  std::uint64_t total = 0;
  for (const iovec& piece : pieces) total += piece.iov_len;
  return total;
}

std::size_t gather(std::span<const iovec> from, std::uint64_t offset, MutableBytes out) noexcept {
  return Cursor(from, offset).copy_out(out);
}

std::uint64_t slice(std::span<const iovec> from, std::uint64_t offset, std::uint64_t length,
                    std::uint32_t unit_bytes, std::span<iovec> out, std::size_t& used) noexcept {
  Cursor cursor(from, offset);
  std::uint64_t named = 0;
  used = 0;
  while (named < length && used < out.size()) {
    const MutableBytes run = cursor.run();
    if (run.empty()) break;
    const auto step = static_cast<std::size_t>(std::min<std::uint64_t>(run.size(), length - named));
    out[used++] = {run.data(), step};
    named += step;
    cursor.advance(step);
  }
  // Give back what is no whole unit.
  std::uint64_t excess = named % unit_bytes;
  named -= excess;
  while (excess != 0) {
    iovec& last = out[used - 1];
    const auto step = std::min<std::uint64_t>(excess, last.iov_len);
    last.iov_len -= static_cast<std::size_t>(step);
    excess -= step;
    if (last.iov_len == 0) --used;
  }
  return named;
}

std::optional<std::uint64_t> first_difference(std::span<const iovec> a, std::uint64_t a_offset,
                                              std::span<const iovec> b, std::uint64_t b_offset,
                                              std::uint64_t length) noexcept {
  Cursor x(a, a_offset);
  Cursor y(b, b_offset);
  std::uint64_t done = 0;
  while (done < length) {
    const Bytes left = x.run();
    const Bytes right = y.run();
    if (left.empty() || right.empty()) return done;
    const auto step = static_cast<std::size_t>(
        std::min<std::uint64_t>(std::min(left.size(), right.size()), length - done));
    if (std::memcmp(left.data(), right.data(), step) != 0) {
      const auto at =
          std::mismatch(left.begin(), left.begin() + static_cast<std::ptrdiff_t>(step), right.begin());
      return done + static_cast<std::uint64_t>(at.first - left.begin());
    }
    done += step;
    x.advance(step);
    y.advance(step);
  }
  return std::nullopt;
}

void replicate(std::span<const iovec> from, std::uint32_t pattern_bytes, std::span<const iovec> to,
               std::uint64_t length) noexcept {
  Cursor target(to, 0);
  std::uint64_t done = 0;
  while (done < length) {
    Cursor source(from, done % pattern_bytes);
    const MutableBytes out = target.run();
    const Bytes in = source.run();
    if (out.empty() || in.empty()) return;
    const std::uint64_t left_of_pattern = pattern_bytes - done % pattern_bytes;
    const auto step = static_cast<std::size_t>(
        std::min({static_cast<std::uint64_t>(out.size()), static_cast<std::uint64_t>(in.size()),
                  length - done, left_of_pattern}));
    std::memmove(out.data(), in.data(), step);
    done += step;
    target.advance(step);
  }
}

void merge_or(std::span<const iovec> from, std::uint64_t offset, std::span<const iovec> into,
              std::uint64_t length) noexcept {
  Cursor source(from, offset);
  Cursor target(into, 0);
  std::uint64_t done = 0;
  while (done < length) {
    const Bytes in = source.run();
    const MutableBytes out = target.run();
    if (in.empty() || out.empty()) return;
    const auto step = static_cast<std::size_t>(
        std::min<std::uint64_t>(std::min(in.size(), out.size()), length - done));
    for (std::size_t i = 0; i < step; ++i) out[i] |= in[i];
    done += step;
    source.advance(step);
    target.advance(step);
  }
}

bool all_zero(std::span<const iovec> pieces, std::uint64_t length) noexcept {
  Cursor cursor(pieces, 0);
  std::uint64_t done = 0;
  while (done < length) {
    const Bytes run = cursor.run();
    if (run.empty()) return true;
    const auto step = static_cast<std::size_t>(std::min<std::uint64_t>(run.size(), length - done));
    if (std::any_of(run.begin(), run.begin() + static_cast<std::ptrdiff_t>(step),
                    [](std::uint8_t b) { return b != 0; })) {
      return false;
    }
    done += step;
    cursor.advance(step);
  }
  return true;
}

}  // namespace perilune::scsi
