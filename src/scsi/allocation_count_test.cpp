// SPDX-License-Identifier: Apache-2.0
// The global allocation counter of the test program. A file of its own: where the compiler sees both an
// expression `new` and this `delete`, it warns of a mismatch that is none.
#include <cstdlib>
#include <new>

#include "base/sanitizer.hpp"
#include "scsi/test_support.hpp"

namespace {
std::size_t allocations = 0;  // one thread
}

#if !PERILUNE_SANITIZED
void* operator new(std::size_t size) {
  ++allocations;
  if (void* p = std::malloc(size == 0 ? 1 : size)) return p;
  throw std::bad_alloc();
}
void operator delete(void* p) noexcept { std::free(p); }
void operator delete(void* p, std::size_t) noexcept { std::free(p); }
#endif

namespace perilune::scsi::test {
std::size_t allocation_count() { return allocations; }
}  // namespace perilune::scsi::test
