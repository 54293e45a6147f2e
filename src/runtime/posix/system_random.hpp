// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>

#include "runtime/random.hpp"

namespace perilune::runtime::posix {

// getrandom in small batches; bytes handed out are wiped from the batch. One thread.
class SystemRandom final : public Random {
 public:
  void fill(MutableBytes out) override;

 private:
  std::uint8_t batch_[256] = {};
  std::size_t used_ = sizeof batch_;
};

}  // namespace perilune::runtime::posix
