// SPDX-License-Identifier: Apache-2.0
// Which of the runtimes that run on this system drives a loop: io_uring where a ring can be made, epoll
// elsewhere.
#pragma once

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "runtime/thread_loop.hpp"

namespace perilune::runtime {

// automatic: what the environment variable PERILUNE_RUNTIME says (auto, uring, epoll), and when it says
// nothing or auto, io_uring with epoll where a ring cannot be made.
enum class Runtime : std::uint8_t { automatic, uring, epoll };

// "auto", "uring", "epoll". Fails with invalid_argument.
[[nodiscard]] Result<Runtime> parse_runtime(std::string_view name);

// A loop of that kind; falling back to epoll is one line to options.notice, which says why. Any thread. Fails
// with unsupported (uring was asked for and cannot be had), invalid_argument (PERILUNE_RUNTIME), no_memory,
// limit, io.
[[nodiscard]] Result<std::unique_ptr<ThreadLoop>> make_native_loop(Runtime runtime,
                                                                   const LoopOptions& options);
// So many, all of one kind, so that streams can go from one to another.
[[nodiscard]] Result<std::vector<std::unique_ptr<ThreadLoop>>> make_native_loops(Runtime runtime,
                                                                                 std::size_t count,
                                                                                 const LoopOptions& options);

}  // namespace perilune::runtime
