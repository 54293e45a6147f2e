// SPDX-License-Identifier: Apache-2.0
// The files of a target's state, as text. A record is a line: the CRC32C of its JSON in eight hexadecimal
// digits, a blank, the JSON. The first record says what the file is and its format; records of the journal
// follow with consecutive numbers, those of a snapshot end with one that counts them. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "config/target/configuration.hpp"
#include "config/target/json_text.hpp"

namespace perilune::control::targetd {

inline constexpr int state_format = 1;  // the first; a later one is refused, an older one will be read here

// What one command did.
struct Transaction {
  std::int64_t time_ms = 0;  // since 1970, UTC
  std::string who;           // the user and the command, for people
  config::target::Changes changes;
};

// One line: with its end, and read without it; nullopt: its CRC is not that of its text.
[[nodiscard]] std::string record_line(const config::target::Json& json);
[[nodiscard]] std::optional<std::string_view> checked_text(std::string_view line);

// ---- writing

[[nodiscard]] std::string journal_header(
    std::uint64_t after);  // of a journal whose first record is after + 1
[[nodiscard]] std::string journal_record(std::uint64_t sequence, const Transaction& transaction);
[[nodiscard]] std::string snapshot_text(std::uint64_t sequence,
                                        const config::target::Configuration& configuration);

// ---- reading

struct Snapshot {
  std::uint64_t sequence = 0;  // of the last transaction that it has
  config::target::Configuration configuration;
};
// Fails with invalid_argument for anything but a whole snapshot: it is never written in place. unsupported:
// of a later format.
[[nodiscard]] Result<Snapshot> read_snapshot(std::string_view text);

struct Replay {
  std::uint64_t sequence = 0;  // of the last transaction, after which `configuration` stands
  std::size_t replayed = 0;
  std::size_t good_bytes = 0;  // the whole records; what is behind was cut in the middle of being written
};
// Makes the transactions after `sequence` in `configuration`. What cannot be read at the end, with nothing
// after it that can, is a record that a loss of power tore: its command was never answered. Anything else
// that is wrong fails with invalid_argument and says where; the configuration is then undefined.
[[nodiscard]] Result<Replay> replay_journal(std::string_view text, std::uint64_t sequence,
                                            config::target::Configuration& configuration);

}  // namespace perilune::control::targetd
