// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>

#include "runtime/posix/unique_fd.hpp"
#include "runtime/stream.hpp"

namespace perilune::runtime::posix {

// What the loops that run on this system hand from one to another of their kind.
struct DetachedSocket final : DetachedStream {
  DetachedSocket(UniqueFd descriptor, const Endpoint& local_end, const Endpoint& peer_end) noexcept
      : fd(std::move(descriptor)), local(local_end), peer(peer_end) {}
  UniqueFd fd;
  Endpoint local;
  Endpoint peer;
};

}  // namespace perilune::runtime::posix
