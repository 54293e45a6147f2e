// SPDX-License-Identifier: Apache-2.0
// Sessions of targetcli, line by line, against a daemon in memory: a line that is refused changes nothing and
// says so in one line, one that is not is one transaction; what was made survives a restart and a file;
// nobody sees a secret.
//
// Parser: src/cli/targetcli/command_line.cpp src/cli/targetcli/interpreter.cpp
//
// Parser: src/cli/targetcli/completion.cpp src/cli/targetcli/node.cpp
#include <cstdint>
#include <string_view>

#include "cli/targetcli/command_line.hpp"
#include "cli/targetcli/interpreter.hpp"
#include "memory_daemon.hpp"

namespace {

using namespace perilune;
using namespace perilune::fuzz;

// Words that are quoted are those words again.
void quoting(std::string_view line) {
  const auto words = cli::targetcli::split_words(line);
  if (!words) return;
  for (const auto& word : *words) {
    const auto again = cli::targetcli::split_words(cli::targetcli::quote_word(word.text));
    require(again.has_value() && again->size() == 1 && again->front().text == word.text);
  }
}

class Typing {
 public:
  explicit Typing(std::uint8_t how) {
    (void)ask({"hello"});
    session_ = {{"width", 132}, {"directory", "/srv"}, {"json", (how & 1) != 0}, {"dry_run", (how & 2) != 0}};
  }

  void line(const std::string& text) {
    quoting(text);
    const auto before = daemon_.picture();
    const auto answer = ask({"line", text});
    judge_json(answer, before);
    for (const std::string_view option : {" password=", " mutual_password="}) {
      const auto secret = given_secret(text, option);
      if (secret.empty()) continue;
      require(answer.err.find(secret) == std::string::npos && answer.out.find(secret) == std::string::npos);
      for (const auto& past : daemon_.history()) require(past.who.find(secret) == std::string::npos);
    }
    if (session_.value("dry_run", false)) require(daemon_.sequence() == before.sequence);
  }
  void complete(const std::string& text) {
    const auto before = daemon_.picture();
    const auto answer = ask({"complete", text});
    const auto found = targetd::Json::parse(answer.out);
    require(found.at("start").get<std::size_t>() <= text.size());
    shows_no_secret(answer.out);
    daemon_.is_as_before(before);
  }
  void end() { daemon_.survives(); }

 private:
  targetd::FrontEndAnswer ask(std::vector<std::string> arguments) {
    targetd::FrontEndRequest request;
    request.front_end = "targetcli";
    request.arguments = std::move(arguments);
    request.session = session_;
    request.who = "root (pid 42)";
    auto answer = cli::targetcli::answer_front_end(request, daemon_);
    session_ = answer.session;
    return answer;
  }
  // With JSON the refusal is the output.
  void judge_json(targetd::FrontEndAnswer answer, const MemoryDaemon::Picture& before) {
    if (session_.value("json", false) && answer.exit_code != 0 && answer.err.empty()) {
      const auto error = targetd::Json::parse(answer.out).at("error");
      answer.err = error.at("message").get<std::string>() + error.value("hint", "") + "\n";
    }
    judge(answer, daemon_, before);
  }

  MemoryDaemon daemon_;
  targetd::Json session_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  if (!is_typed(text)) return 0;
  Typing typing(data[0]);
  for (int lines = 0; !text.empty() && lines < 64; ++lines) {
    const auto end = std::min(text.find('\n'), text.size());
    const std::string line(text.substr(0, end));
    if (line.ends_with('\t'))
      typing.complete(line.substr(0, line.size() - 1));
    else
      typing.line(line);
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  typing.end();
  return 0;
}
