// SPDX-License-Identifier: Apache-2.0
// The requester: keeps `depth` requests outstanding on each of `sessions` connections, on one thread with
// epoll, and measures as `perilune bench` does. Prints one line of JSON with the same names.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "ceiling/serve.hpp"

namespace ceiling {

struct AskOptions {
  std::uint16_t port = 0;
  bool writes = false, random = true, digests = false;
  bool logins = false;         // connect, one exchange of text, log out, again; nothing else
  bool probe = false;          // one more connection at depth 1, whose latencies are told apart
  Waiting waiting = Waiting::sleep;
  std::uint32_t block_bytes = 4096;
  std::uint64_t disk_bytes = std::uint64_t{1} << 30;
  unsigned depth = 32, sessions = 1;
  double seconds = 1, warm_up = 0.3;
  std::uint64_t ios = 0;       // instead of seconds: end after so many
  pid_t server = 0;            // a process of this machine whose processor time is told too; 0: none
};

// The exit code: 0, or 1 when an answer was not the one that was due.
int ask(const AskOptions& options);

}  // namespace ceiling
