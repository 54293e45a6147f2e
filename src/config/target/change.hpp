// SPDX-License-Identifier: Apache-2.0
// The smallest step from one configuration to the next: one object is added, gets another value, or goes.
// Values only.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "config/target/objects.hpp"

namespace perilune::config::target {

enum class Action : std::uint8_t { add, set, remove };

template <class Object>
struct ChangeOf {
  Action action = Action::add;
  typename Object::Key key;
  Object value;  // the whole own value; default-constructed for remove
  friend bool operator==(const ChangeOf&, const ChangeOf&) = default;
};

// The order of the alternatives is the order in which objects are added: each after what it stands on.
using Change = std::variant<ChangeOf<Foreign>, ChangeOf<Discovery>, ChangeOf<StorageObject>,
                            ChangeOf<AluaGroup>, ChangeOf<Target>, ChangeOf<PortalGroup>, ChangeOf<Portal>,
                            ChangeOf<Lun>, ChangeOf<NodeAcl>, ChangeOf<MappedLun>>;
using Changes = std::vector<Change>;

template <class Object>
[[nodiscard]] Change add(typename Object::Key key, Object value) {
  return ChangeOf<Object>{Action::add, std::move(key), std::move(value)};
}
template <class Object>
[[nodiscard]] Change set(typename Object::Key key, Object value) {
  return ChangeOf<Object>{Action::set, std::move(key), std::move(value)};
}
template <class Object>
[[nodiscard]] Change remove(typename Object::Key key) {
  return ChangeOf<Object>{Action::remove, std::move(key), {}};
}

// "add /iscsi/iqn.2026-11.io.perilune:a/tpg1/luns/lun0": for the log and for plans. Never a secret.
[[nodiscard]] std::string describe(const Change& change);

}  // namespace perilune::config::target
