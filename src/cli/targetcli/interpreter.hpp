// SPDX-License-Identifier: Apache-2.0
// targetcli's command lines, carried out against the daemon. Runs inside the daemon on its control thread;
// keeps nothing between the lines (the session does). One line is one transaction.
#pragma once

#include <string>
#include <string_view>

#include "cli/targetcli/call.hpp"

namespace perilune::cli::targetcli {

struct Answer {
  std::string out;  // lines with their ends; JSON where the session wants it
  // One line without its end, empty when all went well. `hint` is the part that the original does not have.
  std::string error;
  std::string hint;
  int exit_code = 0;
};

class Interpreter {
 public:
  // `who` begins what the journal says about changes. All of it outlives this.
  Interpreter(targetd::Administration& administration, Chance& chance, std::string who)
      : administration_(administration), chance_(chance), who_(std::move(who)) {}

  [[nodiscard]] Answer run(std::string_view line, Session& session);

 private:
  [[nodiscard]] Outcome carry_out(std::string_view line, Call& call);

  targetd::Administration& administration_;
  Chance& chance_;
  std::string who_;
};

// The path that a word means: relative to where the session is, or a bookmark.
[[nodiscard]] tl::expected<std::string, Refusal> resolve(const Session& session, std::string_view word);
// And what it leads to.
[[nodiscard]] tl::expected<Node, Refusal> node_at(const Call& call, std::string_view word);

// What a client asks (FrontEndRequest::arguments): {"line", LINE} carries out a line, {"complete", LINE} with
// the bytes before the cursor gives {"start": byte, "words": [{"text", "help"}...]}, {"hello"} the text that
// the shell begins with. Every answer's session has "prompt".
[[nodiscard]] targetd::FrontEndAnswer answer_front_end(const targetd::FrontEndRequest& request,
                                                       targetd::Administration& administration);

}  // namespace perilune::cli::targetcli
