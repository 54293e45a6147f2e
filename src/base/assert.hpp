// SPDX-License-Identifier: Apache-2.0
// Assertions guard against our own mistakes, never against what a peer sent. They stay on in release builds.
#pragma once

namespace perilune {
[[noreturn]] void assertion_failed(const char* expression, const char* file, int line) noexcept;
}

#define PERILUNE_ASSERT(expression)                                                     \
  (static_cast<bool>(expression) ? static_cast<void>(0)                                 \
                                 : ::perilune::assertion_failed(#expression, __FILE__, __LINE__))
