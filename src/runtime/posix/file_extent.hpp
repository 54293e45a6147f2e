// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "base/file_op.hpp"

namespace perilune::runtime::posix {

// BlockFile::extent() by lseek: SEEK_DATA, SEEK_HOLE. 0 or -errno. Moves the descriptor's position, which
// nobody of ours uses. Any thread.
[[nodiscard]] int find_extent(int fd, std::uint64_t begin, std::uint64_t length, FileExtent& out) noexcept;

}  // namespace perilune::runtime::posix
