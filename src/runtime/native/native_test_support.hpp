// SPDX-License-Identifier: Apache-2.0
// Tests that run once for every runtime of this system: the contracts of runtime/ are one and the same.
#pragma once

#include <string>

#include "runtime/loop_test_support.hpp"
#include "runtime/native/native_loop.hpp"

namespace perilune::runtime {

class LoopTest : public ::testing::TestWithParam<Runtime>, protected LoopUser {
 protected:
  void SetUp() override { make({}); }
  void make(LoopOptions options) {
    take_loop(std::move(options), [](const LoopOptions& o) { return make_native_loop(GetParam(), o); });
  }
};

inline std::string name_of_runtime(const ::testing::TestParamInfo<Runtime>& info) {
  return info.param == Runtime::uring ? "Uring" : "Epoll";
}

#define PERILUNE_EVERY_RUNTIME(Fixture) \
  INSTANTIATE_TEST_SUITE_P(Every, Fixture, ::testing::Values(Runtime::uring, Runtime::epoll), name_of_runtime)

}  // namespace perilune::runtime
