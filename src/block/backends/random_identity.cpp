// SPDX-License-Identifier: Apache-2.0
#include "block/backends/random_identity.hpp"

#include <fmt/format.h>
#include <sys/random.h>

#include <cstdint>

#include "base/assert.hpp"

namespace perilune::block {

std::string random_identity(std::string_view kind) {
  std::uint64_t words[2] = {};
  const ssize_t n = ::getrandom(words, sizeof words, 0);  // whole below 256 bytes
  PERILUNE_ASSERT(n == static_cast<ssize_t>(sizeof words));
  return fmt::format("{}:{:016x}{:016x}", kind, words[0], words[1]);
}

}  // namespace perilune::block
