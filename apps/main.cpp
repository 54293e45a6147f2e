// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <exception>

#include "cli/verbs.hpp"

int main(int argc, char** argv) {
  try {
    return perilune::cli::dispatch(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "perilune: %s\n", error.what());
    return 1;
  }
}
