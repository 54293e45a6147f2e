// SPDX-License-Identifier: Apache-2.0
#include "cli/allocation_counter.hpp"

#include <cstddef>
#include <cstdlib>
#include <new>

#include "base/sanitizer.hpp"

namespace perilune::cli {
namespace {
thread_local std::uint64_t count = 0;
}
std::uint64_t thread_allocations() noexcept { return count; }
#if PERILUNE_SANITIZED
bool allocations_are_counted() noexcept { return false; }
#else
bool allocations_are_counted() noexcept { return true; }

namespace {
void* counted(std::size_t bytes, std::size_t alignment) noexcept {
  ++count;
  if (bytes == 0) bytes = 1;
  if (alignment <= alignof(std::max_align_t)) return std::malloc(bytes);
  return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}
}  // namespace
#endif
}  // namespace perilune::cli

#if !PERILUNE_SANITIZED
namespace {
void* or_throw(void* memory) {
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
}  // namespace

// The replaceable forms; the array and nothrow forms of the library call these or are given here.
void* operator new(std::size_t n) { return or_throw(perilune::cli::counted(n, 0)); }
void* operator new[](std::size_t n) { return or_throw(perilune::cli::counted(n, 0)); }
void* operator new(std::size_t n, std::align_val_t a) {
  return or_throw(perilune::cli::counted(n, static_cast<std::size_t>(a)));
}
void* operator new[](std::size_t n, std::align_val_t a) {
  return or_throw(perilune::cli::counted(n, static_cast<std::size_t>(a)));
}
void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return perilune::cli::counted(n, 0); }
void* operator new[](std::size_t n, const std::nothrow_t&) noexcept { return perilune::cli::counted(n, 0); }
void operator delete(void* p) noexcept { std::free(p); }
void operator delete[](void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t) noexcept { std::free(p); }
void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { std::free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
#endif
