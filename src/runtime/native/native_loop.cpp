// SPDX-License-Identifier: Apache-2.0
#include "runtime/native/native_loop.hpp"

#include <cstdlib>
#include <string>

#include "runtime/epoll/epoll_loop.hpp"
#include "runtime/uring/uring_loop.hpp"

namespace perilune::runtime {
namespace {

constexpr const char* variable = "PERILUNE_RUNTIME";

Result<Runtime> from_environment() {
  const char* const value = std::getenv(variable);
  if (value == nullptr || *value == '\0') return Runtime::automatic;
  auto parsed = parse_runtime(value);
  if (!parsed) return fail(Errc::invalid_argument, std::string(variable) + ": " + parsed.error().message);
  return parsed;
}

using Loops = std::vector<std::unique_ptr<ThreadLoop>>;

template <class Kind, class Options>
Result<Loops> make(std::size_t count, const LoopOptions& options) {
  Options more;
  static_cast<LoopOptions&>(more) = options;
  Loops loops;
  for (std::size_t i = 0; i < count; ++i) {
    auto loop = Kind::create(more);
    if (!loop) return tl::unexpected(std::move(loop.error()));
    loops.push_back(std::move(*loop));
  }
  return loops;
}

}  // namespace

Result<Runtime> parse_runtime(std::string_view name) {
  if (name == "auto") return Runtime::automatic;
  if (name == "uring") return Runtime::uring;
  if (name == "epoll") return Runtime::epoll;
  return fail(Errc::invalid_argument, "\"" + std::string(name) + "\" is none of auto, uring, epoll");
}

Result<Loops> make_native_loops(Runtime runtime, std::size_t count, const LoopOptions& options) {
  if (runtime == Runtime::automatic) {
    auto wanted = from_environment();
    if (!wanted) return tl::unexpected(std::move(wanted.error()));
    runtime = *wanted;
  }
  if (runtime == Runtime::epoll) return make<EpollLoop, EpollOptions>(count, options);
  auto loops = make<UringLoop, UringOptions>(count, options);
  // Whatever it is that a ring lacks here (the call, the right to it, locked memory), epoll does without.
  if (loops || runtime == Runtime::uring) return loops;
  if (options.notice) options.notice(loops.error().message + "; using epoll instead");
  return make<EpollLoop, EpollOptions>(count, options);
}

Result<std::unique_ptr<ThreadLoop>> make_native_loop(Runtime runtime, const LoopOptions& options) {
  auto loops = make_native_loops(runtime, 1, options);
  if (!loops) return tl::unexpected(std::move(loops.error()));
  return std::move(loops->front());
}

}  // namespace perilune::runtime
