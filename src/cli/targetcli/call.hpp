// SPDX-License-Identifier: Apache-2.0
// One command at its node, being carried out: what was typed, what it may use, what it says. Lives for one
// line, on the daemon's control thread.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/targetcli/node.hpp"
#include "cli/targetcli/session.hpp"
#include "control/targetd/administration.hpp"

namespace perilune::cli::targetcli {

namespace model = config::target;
namespace targetd = control::targetd;

// Why a command did nothing. `message` is one line; where it is one of the original's, which scripts know,
// what is to be done stands in the hint, and both are shown as "message (hint)".
struct Refusal {
  std::string message;
  std::string hint;
};
using Outcome = tl::expected<void, Refusal>;
[[nodiscard]] inline tl::unexpected<Refusal> refuse(std::string message, std::string hint = {}) {
  return tl::unexpected<Refusal>(Refusal{std::move(message), std::move(hint)});
}
[[nodiscard]] inline tl::unexpected<Refusal> refuse(const Error& error) { return refuse(error.message); }

// Where names and numbers that nobody chose come from.
class Chance {
 public:
  virtual ~Chance() = default;
  [[nodiscard]] virtual std::string unit_serial() = 0;            // a random UUID (RFC 9562 5.4)
  [[nodiscard]] virtual std::string hex(std::size_t digits) = 0;  // random
  [[nodiscard]] virtual std::string host_name() = 0;
};
// The kernel's random numbers and the name of this machine.
[[nodiscard]] Chance& system_chance() noexcept;

// The arguments of a command, by the names of its parameters.
struct Arguments {
  std::map<std::string, std::string, std::less<>> by_name;
  std::vector<std::string> values;                            // for commands that take any number
  std::vector<std::pair<std::string, std::string>> settings;  // name=value of `set`

  [[nodiscard]] const std::string* find(std::string_view name) const {
    const auto at = by_name.find(name);
    return at == by_name.end() ? nullptr : &at->second;
  }
  // A required parameter: it is there.
  [[nodiscard]] const std::string& at(std::string_view name) const { return by_name.find(name)->second; }
};

class Call {
 public:
  Call(targetd::Administration& administration_, Session& session_, Chance& chance_, std::string who_)
      : administration(administration_), session(session_), chance(chance_), who(std::move(who_)) {}

  targetd::Administration& administration;
  Session& session;
  Chance& chance;
  std::string who;  // the user and the command, for the journal
  Node node;
  Arguments arguments;
  std::string out;  // what was said so far, lines with their ends
  Json data;        // the answer as JSON, from commands that have one; otherwise null

  [[nodiscard]] const model::Configuration& configuration() const { return administration.configuration(); }
  void say(std::string_view line) { out.append(line).append("\n"); }
  // true, false, 1, 0, yes, no, in any case; absent: `otherwise`.
  [[nodiscard]] tl::expected<bool, Refusal> boolean(std::string_view name, bool otherwise) const;

  // Makes the changes, or in a dry run says what they would be. `done` tells which.
  enum class Done : std::uint8_t { made, shown };
  [[nodiscard]] tl::expected<Done, Refusal> commit(const model::Changes& changes);
  // commit(), and on success these lines (nothing but the plan in a dry run).
  [[nodiscard]] Outcome commit_and_say(const model::Changes& changes, const std::vector<std::string>& lines);
  // After a `create`: goes to the new node where the preference says so.
  void enter(const std::string& path);
};

// ---- sizes

// "64M", "1048576", "1GB": bytes, by powers of 1024. nullopt when it is no size.
[[nodiscard]] std::optional<std::uint64_t> parse_size(std::string_view text);
[[nodiscard]] std::optional<bool> parse_boolean(std::string_view text);

// The name of a node as LIO takes it, in normal form. Fails with the original's words.
[[nodiscard]] tl::expected<std::string, Refusal> node_name(std::string_view text);

// What somebody sees of a secret: whether there is one, and where it is kept.
inline constexpr std::string_view masked_secret = "********";
[[nodiscard]] inline std::string shown(const model::Password& password) {
  if (!password.reference().empty()) return password.reference();
  return std::string(password.empty() ? "" : masked_secret);
}

}  // namespace perilune::cli::targetcli
