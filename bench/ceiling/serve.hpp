// SPDX-License-Identifier: Apache-2.0
// The two engines of the responder. Each serves the listener on the calling thread until the process is
// ended.
#pragma once

namespace ceiling {

struct Disk;

enum class Waiting { sleep, spin };

[[noreturn]] void serve_epoll(int listener, Disk& disk, Waiting waiting);
[[noreturn]] void serve_uring(int listener, Disk& disk, Waiting waiting);

}  // namespace ceiling
