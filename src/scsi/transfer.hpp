// SPDX-License-Identifier: Apache-2.0
// Bytes in iovecs: gather, compare, fill. Offsets and lengths are the caller's responsibility to keep inside; what
// would pass the end is clipped. For src/scsi alone.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <optional>
#include <span>

#include "base/bytes.hpp"

namespace perilune::scsi {

[[nodiscard]] std::uint64_t total_bytes(std::span<const iovec> pieces) noexcept;

// Copies out.size() bytes from `offset`; returns how many there were.
std::size_t gather(std::span<const iovec> from, std::uint64_t offset, MutableBytes out) noexcept;

// Names [offset, offset + length) of `from` in `out`, as far as out has room, in multiples of `unit_bytes`. Returns the
// bytes named; `used` the number of pieces.
std::uint64_t slice(std::span<const iovec> from, std::uint64_t offset, std::uint64_t length, std::uint32_t unit_bytes,
                    std::span<iovec> out, std::size_t& used) noexcept;

// Position of the first byte, counted from the start of the run, in which they differ.
[[nodiscard]] std::optional<std::uint64_t> first_difference(std::span<const iovec> a, std::uint64_t a_offset,
                                                            std::span<const iovec> b, std::uint64_t b_offset,
                                                            std::uint64_t length) noexcept;

// The first `length` bytes of `to` become copies of the first `pattern_bytes` of `from`, over and over.
void replicate(std::span<const iovec> from, std::uint32_t pattern_bytes, std::span<const iovec> to,
               std::uint64_t length) noexcept;

// The first `length` bytes of `into` become their OR with those of `from` at `offset`.
void merge_or(std::span<const iovec> from, std::uint64_t offset, std::span<const iovec> into, std::uint64_t length) noexcept;

[[nodiscard]] bool all_zero(std::span<const iovec> pieces, std::uint64_t length) noexcept;

}  // namespace perilune::scsi
