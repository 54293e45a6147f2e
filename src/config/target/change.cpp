// SPDX-License-Identifier: Apache-2.0
#include "config/target/change.hpp"

namespace perilune::config::target {

std::string describe(const Change& change) {
  return std::visit(
      [](const auto& step) {
        const char* const verb = step.action == Action::add   ? "add "
                                 : step.action == Action::set ? "set "
                                                              : "remove ";
        return verb + path_of(step.key);
      },
      change);
}

}  // namespace perilune::config::target
