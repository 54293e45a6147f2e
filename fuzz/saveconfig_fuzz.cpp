// SPDX-License-Identifier: Apache-2.0
// saveconfig.json, the changes of the journal, journals and snapshots: no text crashes their readers, and
// what was read is written and read back the same.
//
// Parser: src/config/target/json_text.cpp src/config/target/codec.cpp
//
// Parser: src/config/target/saveconfig.cpp src/config/target/text_rules.cpp
//
// Parser: src/control/targetd/journal_format.cpp
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string_view>
#include <variant>

#include "config/target/codec.hpp"
#include "config/target/saveconfig.hpp"
#include "control/targetd/journal_format.hpp"
#include "crypto/crc32c.hpp"
#include "fuzz_input.hpp"

namespace {

using namespace perilune;
using namespace perilune::config::target;

void saveconfig(std::string_view text) {
  const auto loaded = read_saveconfig(text);
  if (!loaded) return;
  const std::string written = write_saveconfig(loaded->configuration);
  const auto again = read_saveconfig(written);
  fuzz::require(again.has_value());
  fuzz::require(write_saveconfig(again->configuration) == written);
}

// Changes, one on each line: those that apply are undone again.
void changes(std::string_view text) {
  Configuration configuration;
  Changes inverses;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    const auto json = parse_json(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    if (!json) continue;
    const auto read = change_from_json(*json);
    if (!read || std::holds_alternative<ChangeOf<Foreign>>(*read)) continue;  // those come from files alone
    const auto again = change_from_json(change_to_json(*read));
    fuzz::require(again.has_value() && *again == *read);
    auto inverse = configuration.apply(*read);
    if (inverse) inverses.insert(inverses.begin(), std::move(*inverse));
  }
  const auto loaded = read_saveconfig(write_saveconfig(configuration));
  fuzz::require(loaded.has_value() && loaded->configuration == configuration);
  fuzz::require(apply_all(configuration, inverses).has_value() && configuration == Configuration{});
}

// Lines with their CRCs, as somebody would write them who means it.
std::string with_sums(std::string_view text) {
  std::string records;
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    char sum[9];
    std::snprintf(sum, sizeof sum, "%08x", crypto::crc32c(crypto::crc32c_start, as_bytes(line)));
    records.append(sum).append(" ").append(line).append("\n");
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return records;
}

void journal(std::string_view text) {
  Configuration configuration;
  const auto replay = control::targetd::replay_journal(text, 0, configuration);
  if (!replay) return fuzz::require(!replay.error().message.empty());
  fuzz::require(replay->good_bytes <= text.size() && replay->replayed == replay->sequence);
  // The whole records alone are the same, and end where they end.
  Configuration again;
  const auto whole = control::targetd::replay_journal(text.substr(0, replay->good_bytes), 0, again);
  fuzz::require(whole.has_value() && again == configuration && whole->good_bytes == replay->good_bytes);
}

void snapshot(std::string_view text) {
  const auto read = control::targetd::read_snapshot(text);
  if (!read) return;
  const auto again =
      control::targetd::read_snapshot(control::targetd::snapshot_text(read->sequence, read->configuration));
  fuzz::require(again.has_value() && again->configuration == read->configuration &&
                again->sequence == read->sequence);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 8) {
    case 1:
      changes(text);
      break;
    case 2:
      journal(text);
      break;
    case 3:
      journal(with_sums(text));
      break;
    case 4:
      snapshot(text);
      break;
    case 5:
      snapshot(with_sums(text));
      break;
    default:
      saveconfig(text);
      break;
  }
  return 0;
}
