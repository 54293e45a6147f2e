// SPDX-License-Identifier: Apache-2.0
#include "config/record.hpp"

#include <charconv>

#include "base/assert.hpp"

namespace perilune::config {
namespace {

constexpr std::string_view blanks = " \t\r";

std::string_view trim(std::string_view text) {
  const auto first = text.find_first_not_of(blanks);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

std::string header() { return "# BEGIN RECORD " + std::string(record_format_version) + "\n"; }

void append_line(std::string& out, std::string_view name, std::string_view value) {
  out += name;
  out += " = ";
  out += value;
  out += '\n';
}

bool is_text(std::string_view text) {
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\n' && c != '\t' && c != '\r') || byte == 0x7f) return false;
  }
  return true;
}

}  // namespace

Record::Record(RecordKind kind) : kind_(kind) {
  const auto rows = fields(kind);
  values_.reserve(rows.size());
  for (const FieldSpec& row : rows) values_.emplace_back(row.default_value);
}

const std::string& Record::get(std::string_view name) const {
  const int index = find_field(kind_, name);
  PERILUNE_ASSERT(index >= 0);
  return values_[static_cast<std::size_t>(index)];
}

std::int64_t Record::get_int(std::string_view name) const {
  const std::string& text = get(name);
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  PERILUNE_ASSERT(error == std::errc());
  return value;
}

Status Record::set(std::string_view name, std::string_view value) {
  const int index = find_field(kind_, name);
  if (index < 0) return fail(Errc::not_found, "no such parameter: " + std::string(name));
  const auto at = static_cast<std::size_t>(index);
  if (auto good = check_value(fields(kind_)[at], value); !good) return good;
  values_[at] = value;
  return {};
}

Status Record::update(std::string_view name, std::string_view value) {
  const int index = find_field(kind_, name);
  if (index < 0) {
    return fail(Errc::invalid_argument, "Cannot modify " + std::string(name) + ". Invalid param name.");
  }
  if ((fields(kind_)[static_cast<std::size_t>(index)].flags & key) != 0) {
    return fail(Errc::invalid_argument, "Cannot modify " + std::string(name) +
                                            ". It is used to look up the record and cannot be changed.");
  }
  return set(name, value);
}

void Record::adopt(const Record& other) {
  const auto theirs = fields(other.kind_);
  for (std::size_t i = 0; i < theirs.size(); ++i) {
    const int mine = find_field(kind_, theirs[i].name);
    if (mine >= 0) values_[static_cast<std::size_t>(mine)] = other.values_[i];
  }
}

bool Record::keep_unknown(std::string_view name, std::string_view value) {
  for (auto& [known, old] : unknown_) {
    if (known == name) {
      old = value;
      return true;
    }
  }
  if (unknown_.size() == max_unknown_keys) return false;
  unknown_.emplace_back(name, value);
  return true;
}

std::string Record::show(Secrets secrets) const {
  std::string out = header();
  const auto rows = fields(kind_);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::string_view value = values_[i];
    if (value.empty()) value = "<empty>";
    else if (secrets == Secrets::masked && (rows[i].flags & secret) != 0) value = "********";
    append_line(out, rows[i].name, value);
  }
  return out + "# END RECORD\n";
}

std::string Record::store() const {
  std::string out = header();
  const auto rows = fields(kind_);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    // Leaving a line out means the default: only where that is empty too.
    if (!values_[i].empty() || !rows[i].default_value.empty()) append_line(out, rows[i].name, values_[i]);
  }
  for (const auto& [name, value] : unknown_) append_line(out, name, value);
  return out + "# END RECORD\n";
}

Result<KeyValue> parse_key_value(std::string_view line) {
  line = trim(line);
  if (line.empty() || line.front() == '#') return KeyValue{};
  const auto equals = line.find('=');
  const std::string_view name = trim(line.substr(0, equals));
  if (equals == std::string_view::npos || name.empty() ||
      name.find_first_of(blanks) != std::string_view::npos) {
    return fail(Errc::invalid_argument, "neither a comment nor `name = value`");
  }
  return KeyValue{name, trim(line.substr(equals + 1))};
}

Result<ParsedRecord> parse_record(RecordKind kind, std::string_view text) {
  if (text.size() > max_record_bytes) return fail(Errc::limit, "the record is longer than 64 KiB");
  if (!is_text(text)) return fail(Errc::invalid_argument, "the record holds bytes that are not text");
  ParsedRecord parsed{Record(kind), {}};
  std::size_t line_number = 0;
  while (!text.empty()) {
    const auto end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    const std::string where = "line " + std::to_string(++line_number) + ": ";
    const auto pair = parse_key_value(line);
    if (!pair) {
      parsed.warnings.push_back(where + pair.error().message);
    } else if (!pair->name.empty()) {
      const auto done = parsed.record.set(pair->name, pair->value);
      if (done) continue;
      if (done.error().code != Errc::not_found) {
        parsed.warnings.push_back(where + done.error().message);
      } else if (parsed.record.keep_unknown(pair->name, pair->value)) {
        parsed.warnings.push_back(where + "unknown key " + std::string(pair->name) + " (kept)");
      } else {
        parsed.warnings.push_back(where + "too many unknown keys; this one is dropped");
      }
    }
  }
  return parsed;
}

}  // namespace perilune::config
