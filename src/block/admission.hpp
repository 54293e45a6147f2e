// SPDX-License-Identifier: Apache-2.0
// What every channel checks before it touches an operation.
#pragma once

#include <optional>

#include "base/block_op.hpp"

namespace perilune::block {

// How the operation ends without any work being done, or nothing when it is to be carried out. Resets the
// outcome.
[[nodiscard]] inline std::optional<OpStatus> refuse_or_skip(const Geometry& geometry, BlockOp& op) noexcept {
  op.status = OpStatus::ok;
  op.os_errno = 0;
  if (op.kind == OpKind::flush) return std::nullopt;
  if (op.kind == OpKind::change_key) return OpStatus::unsupported;  // nothing is encrypted here
  if (op.kind != OpKind::read && op.kind != OpKind::query && geometry.read_only)
    return OpStatus::write_protected;
  const std::uint64_t total = geometry.blocks.value();
  if (op.lba.value() > total || op.blocks.value() > total - op.lba.value()) return OpStatus::out_of_range;
  if (op.blocks.value() == 0) return OpStatus::ok;
  return std::nullopt;
}

[[nodiscard]] inline std::uint64_t byte_offset(const Geometry& geometry, const BlockOp& op) noexcept {
  return op.lba.value() * geometry.block_size_bytes;
}
[[nodiscard]] inline std::uint64_t byte_length(const Geometry& geometry, const BlockOp& op) noexcept {
  return op.blocks.value() * geometry.block_size_bytes;
}

}  // namespace perilune::block
