// SPDX-License-Identifier: Apache-2.0
// A text record (node, discovery or iface) as a value: every key of its kind has a value, keys of other
// versions are kept. Values are always valid for their field. No I/O; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "config/record_fields.hpp"

namespace perilune::config {

inline constexpr std::size_t max_record_bytes = 65536;
inline constexpr std::size_t max_unknown_keys = 64;

enum class Secrets : std::uint8_t { masked, shown };

class Record {
 public:
  explicit Record(RecordKind kind);  // all defaults

  [[nodiscard]] RecordKind kind() const noexcept { return kind_; }
  // Precondition: the key belongs to this kind (our own mistake otherwise).
  [[nodiscard]] const std::string& get(std::string_view name) const;
  [[nodiscard]] std::int64_t get_int(std::string_view name) const;
  [[nodiscard]] bool get_yes(std::string_view name) const { return get(name) == "Yes"; }
  // not_found for a key this kind does not have, invalid_argument for a value out of the field's range.
  [[nodiscard]] Status set(std::string_view name, std::string_view value);
  // set() for people: refuses the keys that find the record. Messages are those of the original.
  [[nodiscard]] Status update(std::string_view name, std::string_view value);
  // Takes the value of every key that both kinds have (an iface into a node; node defaults).
  void adopt(const Record& other);

  // Keys that the table does not know, kept in order.
  [[nodiscard]] const std::vector<std::pair<std::string, std::string>>& unknown() const noexcept {
    return unknown_;
  }
  // False when there are too many already.
  bool keep_unknown(std::string_view name, std::string_view value);

  // "# BEGIN RECORD" to "# END RECORD". show: every key, empty ones as <empty>, secrets masked. store: the
  // file, where empty values are left out and secrets stand in clear.
  [[nodiscard]] std::string show(Secrets secrets) const;
  [[nodiscard]] std::string store() const;

  friend bool operator==(const Record&, const Record&) = default;

 private:
  RecordKind kind_;
  std::vector<std::string> values_;  // one per row of fields(kind_)
  std::vector<std::pair<std::string, std::string>> unknown_;
};

struct ParsedRecord {
  Record record;
  std::vector<std::string> warnings;  // bad values (the default stands), unknown keys (kept); never a secret
};

// A record file. Fails with limit (too long) or invalid_argument (bytes that no text has).
[[nodiscard]] Result<ParsedRecord> parse_record(RecordKind kind, std::string_view text);

// One `name = value` line of a record or of iscsid.conf; an empty name for blank lines and comments. Fails
// with invalid_argument when the line is neither.
struct KeyValue {
  std::string_view name;
  std::string_view value;
};
[[nodiscard]] Result<KeyValue> parse_key_value(std::string_view line);

}  // namespace perilune::config
