// SPDX-License-Identifier: Apache-2.0
#include "runtime/posix/system_random.hpp"

#include <string.h>
#include <sys/random.h>
#include <sys/types.h>

#include <algorithm>
#include <cerrno>

#include "base/assert.hpp"

namespace perilune::runtime::posix {

void SystemRandom::fill(MutableBytes out) {
  auto draw = [](std::uint8_t* to, std::size_t bytes) {
    while (bytes > 0) {
      const ssize_t n = ::getrandom(to, bytes, 0);
      if (n < 0 && errno == EINTR) continue;
      PERILUNE_ASSERT(n > 0);  // getrandom cannot fail otherwise on any kernel that we run on
      to += n;
      bytes -= static_cast<std::size_t>(n);
    }
  };
  if (out.size() > sizeof batch_ / 2) return draw(out.data(), out.size());
  if (used_ + out.size() > sizeof batch_) {
    draw(batch_, sizeof batch_);
    used_ = 0;
  }
  std::copy_n(batch_ + used_, out.size(), out.begin());
  ::explicit_bzero(batch_ + used_, out.size());
  used_ += out.size();
}

}  // namespace perilune::runtime::posix
