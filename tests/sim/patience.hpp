// SPDX-License-Identifier: Apache-2.0
// What scenarios with initiators of ours share: waiting that ends with the first problem, and first logins
// that are tried again.
#pragma once

#include <algorithm>
#include <functional>
#include <string>
#include <utility>

#include "sim/machines.hpp"

namespace perilune::sim {

class Patience {
 public:
  // `failed` looks at whatever may have found a problem, and leaves it in `problem`; `limit`: virtual time
  // for anything that must happen. All of them outlive this.
  Patience(World& world, std::string& problem, std::function<bool()> failed, Duration limit)
      : world_(world), problem_(problem), failed_(std::move(failed)), limit_(limit) {}

  // False: there is a problem.
  bool wait(const char* what, const std::function<bool()>& predicate) {
    if (!problem_.empty()) return false;
    const bool reached = world_.run_until([&] { return failed_() || predicate(); }, limit_);
    if (!reached && problem_.empty()) problem_ = std::string("nothing moves: ") + what;
    return problem_.empty();
  }
  template <class Clients, class Predicate>
  bool wait_for_all(const char* what, Clients& clients, Predicate predicate) {
    return wait(what, [&] {
      return std::all_of(clients.begin(), clients.end(), [&](auto& client) { return predicate(*client); });
    });
  }
  // The machine's unit. A first login, or a scan, that the network breaks is tried again, as a person would.
  // nullptr: a problem.
  block::Channel* bring_up(InitiatorMachine& machine) {
    for (int attempt = 0; attempt < 20 && problem_.empty(); ++attempt) {
      const auto known = [&] { return machine.unit() != nullptr || !machine.problem().empty(); };
      if (!world_.run_until(known, limit_)) break;
      if (machine.unit() != nullptr) return machine.unit();
      machine.crash();
      machine.start();
    }
    if (!failed_()) problem_ = "the unit does not come up";
    return nullptr;
  }

 private:
  World& world_;
  std::string& problem_;
  std::function<bool()> failed_;
  Duration limit_;
};

}  // namespace perilune::sim
