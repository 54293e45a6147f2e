// SPDX-License-Identifier: Apache-2.0
// Heap allocations through operator new, counted per thread: how the bench proves that a steady state makes
// none. Counting is one increment; memory management stays the C library's. Absent (always 0) under
// sanitizers, which bring their own.
#pragma once

#include <cstdint>

namespace perilune::cli {
[[nodiscard]] std::uint64_t thread_allocations() noexcept;
[[nodiscard]] bool allocations_are_counted() noexcept;
}  // namespace perilune::cli
