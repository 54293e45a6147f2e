// SPDX-License-Identifier: Apache-2.0
// Copies between the caches and blocks that are not in them: those of a disk that lives in memory.
#pragma once

#include <cstddef>
#include <cstdint>

namespace perilune {

// memcpy, but the destination does not pass through the caches where the processor can store past them
// (x86-64: non-temporal stores). An ordinary store to a cold line fetches it first; a block of 4 KiB on a
// random place of a large disk is 64 of them. This thread sees what is written at once. Others do after a
// settle_copies() of this thread that happens before their look: such stores obey no order of their own. Any
// thread.
void copy_past_caches(std::uint8_t* to, const std::uint8_t* from, std::size_t bytes) noexcept;

// What this thread has copied so far comes before whatever it stores from now on. Waits for memory, so once
// for many copies.
inline void settle_copies() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_sfence();
#endif
}

// Memory that is copied in a moment begins to come into the caches. Only its first lines: fetching on from
// there is what the processor does by itself, but not before it has missed them. Never faults. Any thread.
inline void begin_fetch(const void* memory) noexcept {
  __builtin_prefetch(memory);
  __builtin_prefetch(static_cast<const char*>(memory) + 64);
}

}  // namespace perilune
