// SPDX-License-Identifier: Apache-2.0
// How many sessions wait, without any connection, for their initiators to come back (recovery level 2):
// bounded for a shard and for each initiator name, so that one that comes and goes cannot fill the table. One
// thread (the shard's).
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "base/recovery_limits.hpp"

namespace perilune::target {

class WaitingSessions {
 public:
  // False: too many wait; this one does not.
  [[nodiscard]] bool admit(std::string_view initiator_name) {
    const auto own = std::count(names_.begin(), names_.end(), initiator_name);
    if (names_.size() >= limits::max_waiting_sessions) return false;
    if (static_cast<std::size_t>(own) >= limits::max_waiting_sessions_of_initiator) return false;
    names_.emplace_back(initiator_name);
    return true;
  }
  // Undoes one admit().
  void leave(std::string_view initiator_name) {
    const auto found = std::find(names_.begin(), names_.end(), initiator_name);
    if (found != names_.end()) names_.erase(found);
  }
  [[nodiscard]] std::size_t size() const noexcept { return names_.size(); }

 private:
  std::vector<std::string> names_;
};

}  // namespace perilune::target
