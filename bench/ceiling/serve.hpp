// SPDX-License-Identifier: Apache-2.0
// The engines of the responder: two for a disk in memory, one for a file. Each serves the listener on the
// calling thread until the process is ended.
#pragma once

namespace ceiling {

struct Disk;

enum class Waiting { sleep, spin };

[[noreturn]] void serve_epoll(int listener, Disk& disk, Waiting waiting);
[[noreturn]] void serve_uring(int listener, Disk& disk, Waiting waiting);
// `path` past the page cache, by io_uring; without digests, and at most `file_depth` requests of at most
// `file_block_bytes` at a time.
inline constexpr unsigned file_depth = 512, file_block_bytes = 256 * 1024;
[[noreturn]] void serve_file(int listener, const char* path, Waiting waiting);

}  // namespace ceiling
