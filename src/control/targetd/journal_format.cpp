// SPDX-License-Identifier: Apache-2.0
#include "control/targetd/journal_format.hpp"

#include <charconv>
#include <optional>
#include <utility>

#include "base/assert.hpp"
#include "config/target/codec.hpp"
#include "crypto/crc32c.hpp"

namespace perilune::control::targetd {

using config::target::Json;

namespace {

constexpr std::size_t crc_digits = 8;
constexpr std::size_t changes_in_a_record = 256;  // of a snapshot

}  // namespace

std::string record_line(const Json& json) {
  const std::string text = config::target::write_json(json, -1);
  const std::uint32_t crc = crypto::crc32c(crypto::crc32c_start, as_bytes(text));
  static constexpr char digits[] = "0123456789abcdef";
  std::string line;
  for (int shift = 28; shift >= 0; shift -= 4) line += digits[(crc >> shift) & 0xf];
  return line + ' ' + text + '\n';
}

std::optional<std::string_view> checked_text(std::string_view line) {
  if (line.size() < crc_digits + 1 || line[crc_digits] != ' ') return std::nullopt;
  std::uint32_t crc = 0;
  const auto [at, error] = std::from_chars(line.data(), line.data() + crc_digits, crc, 16);
  if (error != std::errc{} || at != line.data() + crc_digits) return std::nullopt;
  const std::string_view text = line.substr(crc_digits + 1);
  if (crypto::crc32c(crypto::crc32c_start, as_bytes(text)) != crc) return std::nullopt;
  return text;
}

namespace {

// Takes whole, intact records from the front.
class RecordReader {
 public:
  explicit RecordReader(std::string_view text) : all_(text), rest_(text) {}

  [[nodiscard]] bool at_end() const noexcept { return rest_.empty(); }
  [[nodiscard]] std::size_t good_bytes() const noexcept { return all_.size() - rest_.size(); }
  [[nodiscard]] std::size_t line() const noexcept { return line_; }

  // nullopt: the next line is not whole or not intact, or there is none.
  std::optional<Result<Json>> next() {
    const auto end = rest_.find('\n');
    if (end == std::string_view::npos) return std::nullopt;
    const auto text = checked_text(rest_.substr(0, end));
    if (!text) return std::nullopt;
    rest_.remove_prefix(end + 1);
    ++line_;
    return config::target::parse_json(*text);
  }
  // Is there an intact record anywhere behind? Not only at the beginning of a line: the end of the line
  // before may be what is damaged.
  [[nodiscard]] bool intact_record_follows() const {
    constexpr std::string_view mark = " {";  // between the CRC and the JSON
    for (auto at = rest_.find(mark); at != std::string_view::npos; at = rest_.find(mark, at + 1)) {
      if (at < crc_digits) continue;
      const auto end = rest_.find('\n', at);
      if (end == std::string_view::npos) return false;
      if (checked_text(rest_.substr(at - crc_digits, end - at + crc_digits))) return true;
    }
    return false;
  }

 private:
  std::string_view all_;
  std::string_view rest_;
  std::size_t line_ = 0;  // of the last record taken
};

tl::unexpected<Error> damaged(const RecordReader& reader, std::string_view why) {
  return fail(Errc::invalid_argument,
              "is damaged at line " + std::to_string(reader.line() + 1) + ": " + std::string(why));
}

// Members of our own records. Errors name the member.
Result<std::uint64_t> member_number(const Json& json, const char* name) {
  const auto at = json.is_object() ? json.find(name) : json.end();
  if (!json.is_object() || at == json.end() || !at->is_number_unsigned()) {
    return fail(Errc::invalid_argument, std::string(name) + " is missing");
  }
  return at->get<std::uint64_t>();
}
bool has_text(const Json& json, const char* name, std::string_view text) {
  if (!json.is_object()) return false;
  const auto at = json.find(name);
  return at != json.end() && at->is_string() && at->get_ref<const std::string&>() == text;
}

// The first record: checks kind and format, gives the number it begins with.
Result<std::uint64_t> read_header(RecordReader& reader, std::string_view kind, const char* number) {
  const auto record = reader.next();
  if (!record || !*record || !has_text(**record, "perilune", kind)) {
    return fail(Errc::invalid_argument, "does not begin as a " + std::string(kind) + " of Perilune");
  }
  const auto format = member_number(**record, "format");
  if (!format || *format == 0) return fail(Errc::invalid_argument, "has no format number");
  if (*format > static_cast<std::uint64_t>(state_format)) {
    return fail(Errc::unsupported, "is of format " + std::to_string(*format) +
                                       ", written by a later version; this one reads " +
                                       std::to_string(state_format) + ". Run the later version");
  }
  return member_number(**record, number);
}

Result<config::target::Changes> read_changes(const Json& record) {
  const auto at = record.is_object() ? record.find("changes") : record.end();
  if (!record.is_object() || at == record.end() || !at->is_array())
    return fail(Errc::invalid_argument, "changes are missing");
  config::target::Changes changes;
  for (const Json& element : *at) {
    auto change = config::target::change_from_json(element);
    if (!change) return tl::unexpected<Error>(std::move(change.error()));
    changes.push_back(std::move(*change));
  }
  return changes;
}

// Makes the changes of a record. Those of a file need no inverse.
Status apply_record(const Json& record, config::target::Configuration& configuration) {
  const auto changes = read_changes(record);
  if (!changes) return tl::unexpected<Error>(changes.error());
  for (const auto& change : *changes) {
    if (auto done = configuration.apply(change); !done) return tl::unexpected<Error>(std::move(done.error()));
  }
  return {};
}

Json changes_json(std::span<const config::target::Change> changes) {
  Json list = Json::array();
  for (const auto& change : changes) list.push_back(config::target::change_to_json(change));
  return list;
}

}  // namespace

std::string journal_header(std::uint64_t after) {
  return record_line({{"perilune", "journal"}, {"format", state_format}, {"after", after}});
}

std::string journal_record(std::uint64_t sequence, const Transaction& transaction) {
  return record_line({{"sequence", sequence},
                      {"time_ms", transaction.time_ms},
                      {"who", transaction.who},
                      {"changes", changes_json(transaction.changes)}});
}

std::string snapshot_text(std::uint64_t sequence, const config::target::Configuration& configuration) {
  std::string text =
      record_line({{"perilune", "snapshot"}, {"format", state_format}, {"sequence", sequence}});
  const auto changes = config::target::diff({}, configuration);
  std::span<const config::target::Change> rest(changes);
  while (!rest.empty()) {
    const auto part = rest.first(std::min(changes_in_a_record, rest.size()));
    text += record_line({{"changes", changes_json(part)}});
    rest = rest.subspan(part.size());
  }
  return text + record_line({{"end", changes.size()}});
}

Result<Snapshot> read_snapshot(std::string_view text) {
  RecordReader reader(text);
  const auto sequence = read_header(reader, "snapshot", "sequence");
  if (!sequence) return tl::unexpected<Error>(sequence.error());
  Snapshot snapshot;
  snapshot.sequence = *sequence;
  while (const auto record = reader.next()) {
    if (!*record) return damaged(reader, record->error().message);
    if (const auto count = member_number(**record, "end")) {
      if (!reader.at_end() || *count != snapshot.configuration.objects())
        return damaged(reader, "it ends in the wrong place");
      return snapshot;
    }
    if (auto done = apply_record(**record, snapshot.configuration); !done)
      return damaged(reader, done.error().message);
  }
  return damaged(reader, "a record is not intact");
}

Result<Replay> replay_journal(std::string_view text, std::uint64_t sequence,
                              config::target::Configuration& configuration) {
  RecordReader reader(text);
  const auto after = read_header(reader, "journal", "after");
  if (!after) return tl::unexpected<Error>(after.error());
  if (*after > sequence) {
    return fail(Errc::invalid_argument, "continues after transaction " + std::to_string(*after) +
                                            ", but the snapshot ends at " + std::to_string(sequence) +
                                            "; put the newer snapshot back");
  }
  Replay replay{sequence, 0, reader.good_bytes()};
  for (std::uint64_t expected = *after + 1;; ++expected) {
    const auto record = reader.next();
    if (!record) break;
    if (!*record) return damaged(reader, record->error().message);
    const auto number = member_number(**record, "sequence");
    if (!number || *number != expected)
      return damaged(reader, "transaction " + std::to_string(expected) + " is missing");
    replay.good_bytes = reader.good_bytes();
    if (expected <= sequence) continue;  // the snapshot has it
    if (auto done = apply_record(**record, configuration); !done)
      return damaged(reader, done.error().message);
    replay.sequence = expected;
    ++replay.replayed;
  }
  if (reader.intact_record_follows()) return damaged(reader, "a record is not intact, but later ones are");
  return replay;
}

}  // namespace perilune::control::targetd
