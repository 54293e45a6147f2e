// SPDX-License-Identifier: Apache-2.0
// The attributes and parameters of a target's objects under the names, limits and defaults that LIO gives
// them: one row each. The numbers are those of the kernel's target_core_configfs.c and iscsi_target_tpg.c and
// of RFC 7143 13. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace perilune::config::target {

// What LIO calls a backstore plugin. A null device is a ramdisk with `nullio`, as there.
enum class Plugin : std::uint8_t { block, fileio, pscsi, ramdisk };

[[nodiscard]] std::string_view to_string(Plugin plugin) noexcept;
[[nodiscard]] std::optional<Plugin> parse_plugin(std::string_view text) noexcept;

enum class FieldKind : std::uint8_t {
  number,  // decimal, min to max
  choice,  // one of `choices`, separated by spaces
  text,    // printable, at most max bytes
  marker,  // Reject, or LOW~HIGH (IFMarkInt, OFMarkInt: obsolete, kept)
};

struct Field {
  std::string_view name;
  FieldKind kind = FieldKind::number;
  std::int64_t min = 0;
  std::int64_t max = 1;
  std::string_view choices;
  std::string_view
      initial;  // the default; empty in a number or choice: what the device says, known only where it is open
  bool or_zero = false;  // a number that may be 0 as well
};

// Rows sorted by name.
struct FieldTable {
  std::span<const Field> rows;
  std::string_view word;  // "attribute", "parameter": what a message calls a row
  bool written_as_text;   // in saveconfig.json: parameters are strings there, attributes numbers

  [[nodiscard]] const Field* find(std::string_view name) const noexcept;
};

[[nodiscard]] const FieldTable& storage_attributes(Plugin plugin) noexcept;
[[nodiscard]] const FieldTable& target_parameters() noexcept;
[[nodiscard]] const FieldTable& group_attributes() noexcept;  // of a target portal group
[[nodiscard]] const FieldTable& group_parameters() noexcept;  // its negotiation keys
[[nodiscard]] const FieldTable& acl_attributes() noexcept;
[[nodiscard]] const FieldTable& alua_parameters() noexcept;  // of an ALUA target port group

// The value in its canonical form (numbers without leading zeroes). Fails with invalid_argument, naming what
// is legal.
[[nodiscard]] Result<std::string> canonical_value(const Field& field, std::string_view value);

// Values of the rows of a table: only what differs from the default is held.
class Settings {
 public:
  struct Entry {
    std::string_view name;  // of the row: static
    std::string value;
    friend bool operator==(const Entry&, const Entry&) = default;
  };

  // not_found for a name without a row, invalid_argument for a value that the row does not allow.
  [[nodiscard]] Status set(const FieldTable& table, std::string_view name, std::string_view value);
  // nullopt when there is no such row, or when its value is the device's.
  [[nodiscard]] std::optional<std::string_view> get(const FieldTable& table,
                                                    std::string_view name) const noexcept;
  // Of a number whose default is known; asserts that `name` is such a row.
  [[nodiscard]] std::int64_t number(const FieldTable& table, std::string_view name) const;
  // Sorted by name.
  [[nodiscard]] const std::vector<Entry>& changed() const noexcept { return entries_; }

  friend bool operator==(const Settings&, const Settings&) = default;

 private:
  std::vector<Entry> entries_;
};

}  // namespace perilune::config::target
