// SPDX-License-Identifier: Apache-2.0
// The keys of the initiator's text records, one row each. Parsing, printing, updating, masking and validation
// all derive from these rows; the order of the rows is the order of `iscsiadm -o show`.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.hpp"

namespace perilune::config {

// The version that stands in "# BEGIN RECORD": the format of open-iscsi that we read and write.
inline constexpr std::string_view record_format_version = "2.1.8";

enum class FieldKind : std::uint8_t {
  text,         // anything printable; may be empty
  integer,      // decimal within [min, max]
  choice,       // one word of `choices`
  word_list,    // comma separated words of `choices`, no repetition, at least one
};

enum FieldFlags : std::uint8_t {
  plain = 0,
  secret = 1,  // shown as ******** unless asked for
  key = 2,     // part of what finds the record: cannot be updated
};

struct FieldSpec {
  std::string_view name;
  std::string_view default_value;
  FieldKind kind = FieldKind::text;
  std::string_view choices = {};  // separated by '|'
  std::int64_t min = 0;
  std::int64_t max = 0;
  std::uint8_t flags = plain;
};

enum class RecordKind : std::uint8_t { node, send_targets, iface };

[[nodiscard]] std::span<const FieldSpec> fields(RecordKind kind) noexcept;
// Index into fields(kind), or -1.
[[nodiscard]] int find_field(RecordKind kind, std::string_view name) noexcept;
// invalid_argument with a message that names the field and never a secret value.
[[nodiscard]] Status check_value(const FieldSpec& field, std::string_view value);

}  // namespace perilune::config
