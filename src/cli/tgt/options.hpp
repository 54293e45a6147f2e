// SPDX-License-Identifier: Apache-2.0
// The options of tgtadm. Pure; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace perilune::cli::tgt {

// What a command says and how it ends, as tgtadm: "tgtadm: LINE" on standard error, and the exit code.
struct Failure {
  std::string message;
  std::string hint;    // shown behind it in parentheses: what to do
  int exit_code = 22;  // EINVAL
};

enum class Mode : std::uint8_t { system, target, logical_unit, portal, session, connection, account, lld };

struct Options {
  Mode mode = Mode::target;
  std::string operation;
  std::map<std::string, std::string, std::less<>> values;  // by the long name, without its dashes

  [[nodiscard]] const std::string* find(std::string_view name) const {
    const auto at = values.find(name);
    return at == values.end() ? nullptr : &at->second;
  }
  [[nodiscard]] bool has(std::string_view name) const { return find(name) != nullptr; }
};

struct OptionsOrFailure {
  Options options;
  std::optional<Failure> failure;
};
// Long options may be shortened as long as they are unique ("--param"); values follow behind '=' or as the
// next word, those of short options also in the same word.
[[nodiscard]] OptionsOrFailure parse_options(std::span<const std::string> words);

[[nodiscard]] std::string_view tgtadm_usage() noexcept;

}  // namespace perilune::cli::tgt
