// SPDX-License-Identifier: Apache-2.0
#include "cli/targetcli/call.hpp"

#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "base/assert.hpp"
#include "iscsi/names/names.hpp"

namespace perilune::cli::targetcli {
namespace {

class SystemChance final : public Chance {
 public:
  std::string unit_serial() override {
    std::string digits = hex(32);
    digits[12] = '4';
    digits[16] = "89ab"[value_of(digits[16]) & 3U];
    for (const std::size_t at : {20U, 16U, 12U, 8U}) digits.insert(at, 1, '-');
    return digits;
  }
  std::string hex(std::size_t digits) override {
    std::string bytes((digits + 1) / 2, '\0');
    PERILUNE_ASSERT(bytes.size() <= 256);  // so much getrandom() gives whole
    PERILUNE_ASSERT(::getrandom(bytes.data(), bytes.size(), 0) == static_cast<ssize_t>(bytes.size()));
    std::string text;
    for (const char byte : bytes) {
      const auto value = static_cast<unsigned char>(byte);
      text += "0123456789abcdef"[value >> 4U];
      text += "0123456789abcdef"[value & 15U];
    }
    text.resize(digits);
    return text;
  }
  std::string host_name() override {
    char name[256] = {};
    if (::gethostname(name, sizeof name - 1) != 0) return "localhost";
    std::string text(name);
    return text.substr(0, text.find('.'));
  }

 private:
  static unsigned value_of(char digit) {
    return static_cast<unsigned>(digit <= '9' ? digit - '0' : digit - 'a' + 10);
  }
};

std::uint64_t factor_of(std::string_view unit) {
  if (!unit.empty() && (unit.back() == 'B' || unit.back() == 'b')) unit.remove_suffix(1);
  if (unit.empty()) return 1;
  if (unit.size() != 1) return 0;
  switch (unit.front() | 0x20) {
    case 'k':
      return 1ULL << 10;
    case 'm':
      return 1ULL << 20;
    case 'g':
      return 1ULL << 30;
    case 't':
      return 1ULL << 40;
    default:
      return 0;
  }
}

std::string in_lower_case(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c | 0x20);
  }
  return out;
}

}  // namespace

Chance& system_chance() noexcept {
  static SystemChance chance;
  return chance;
}

std::optional<std::uint64_t> parse_size(std::string_view text) {
  std::uint64_t number = 0;
  const auto [at, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{}) return std::nullopt;
  const std::uint64_t factor = factor_of(text.substr(static_cast<std::size_t>(at - text.data())));
  if (factor == 0 || number > INT64_MAX / factor) return std::nullopt;
  return number * factor;
}

std::optional<bool> parse_boolean(std::string_view text) {
  const std::string small = in_lower_case(text);
  for (const std::string_view yes : {"true", "1", "yes", "enable"}) {
    if (small == yes) return true;
  }
  for (const std::string_view no : {"false", "0", "no", "disable"}) {
    if (small == no) return false;
  }
  return std::nullopt;
}

tl::expected<std::string, Refusal> node_name(std::string_view text) {
  const auto normal = iscsi::normalize_name(text);
  if (!normal)
    return refuse("WWN not valid as: iqn, naa, eui",
                  "'" + std::string(text.substr(0, 224)) + "': " + normal.error().message);
  return *normal;
}

tl::expected<bool, Refusal> Call::boolean(std::string_view name, bool otherwise) const {
  const std::string* const text = arguments.find(name);
  if (text == nullptr) return otherwise;
  const auto value = parse_boolean(*text);
  if (value) return *value;
  return refuse("Parameter " + std::string(name) + ": '" + *text + "' is neither true nor false");
}

tl::expected<Call::Done, Refusal> Call::commit(const model::Changes& changes) {
  if (session.dry_run) {
    if (const auto legal = administration.check(changes); !legal) return refuse(legal.error());
    if (changes.empty()) say("Nothing would change.");
    for (const model::Change& change : changes) say("Would " + model::describe(change));
    return Done::shown;
  }
  const auto number = administration.commit(who, changes);
  if (!number) return refuse(number.error());
  return Done::made;
}

Outcome Call::commit_and_say(const model::Changes& changes, const std::vector<std::string>& lines) {
  const auto done = commit(changes);
  if (!done) return tl::unexpected<Refusal>(done.error());
  if (*done == Done::made) {
    for (const std::string& line : lines) say(line);
  }
  return {};
}

void Call::enter(const std::string& path) {
  if (session.dry_run || !session.flag("auto_cd_after_create")) return;
  say("Entering new node " + path);
  session.go(path);
}

}  // namespace perilune::cli::targetcli
