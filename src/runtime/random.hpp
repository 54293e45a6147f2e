// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "base/bytes.hpp"

namespace perilune::runtime {

// Production: the system's CSPRNG (getrandom). Simulator: seeded.
class Random {
 public:
  virtual ~Random() = default;
  virtual void fill(MutableBytes out) = 0;
};

}  // namespace perilune::runtime
