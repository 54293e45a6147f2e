// SPDX-License-Identifier: Apache-2.0
// Which system calls a process of ours may still make, enforced by the kernel (seccomp). Not what its rings
// do, which the kernel does not filter: those are restricted when they are made, so io_uring_setup() is not
// on the list of a server (runtime/uring/ring.cpp).
//
// A call that is not on the list fails with EPERM, and the server goes on: a library that was upgraded and
// now asks for something new must not end the sessions of everybody. Calls that no library makes but that a
// break-in needs (a new program, another process's memory, mounts, kernel modules...) kill the process:
// docs/decisions/0021.
//
// The filter is a program of our own rather than libseccomp's: it is one table, and needs no library in the
// guests and containers that we run in.
#pragma once

#include <linux/filter.h>

#include <vector>

#include "base/result.hpp"

namespace perilune::control::privilege {

// server: after its rings and its first threads have been made. helper: the root helper, which opens and
// binds.
enum class Confined : std::uint8_t { server, helper };

// The classic BPF program, for x86-64 and aarch64 (whichever this is built for).
[[nodiscard]] std::vector<sock_filter> filter_program(Confined who);

// For every thread of the process, and for ever; sets no_new_privs too. Fails with unsupported where the
// kernel has no filters, or where a sanitizer is built in, which makes calls of its own (LeakSanitizer traces
// its own process).
[[nodiscard]] Status filter_system_calls(Confined who);

}  // namespace perilune::control::privilege
