// SPDX-License-Identifier: Apache-2.0
#include "cli/targetcli/client.hpp"

#include <fcntl.h>

#include <algorithm>
#include <cstdlib>

#include "cli/targetcli/command_line.hpp"
#include "config/target/json_text.hpp"
#include "control/files.hpp"

namespace perilune::cli::targetcli {
namespace {

constexpr const char* file_name = "perilune.json";
constexpr std::size_t max_session_bytes = 1U << 20;

std::string text_in(const Json& json, const char* name) {
  const auto at = json.find(name);
  return at != json.end() && at->is_string() ? at->get<std::string>() : std::string();
}
bool flag_in(const Json& json, const char* name) {
  const auto at = json.find(name);
  return at != json.end() && at->is_boolean() && at->get<bool>();
}

// What is not UTF-8 would reach the daemon as something else.
bool is_utf8(const std::string& line) {
  try {
    (void)Json(line).dump();
    return true;
  } catch (const Json::exception&) {
    return false;
  }
}
constexpr std::string_view not_utf8 = "targetcli: the line is not UTF-8; nothing was done\n";

// Where one was last is told by every line; it is not worth a file.
Json what_is_kept(const Json& session) {
  Json kept = Json::object();
  if (const auto at = session.find("preferences"); at != session.end()) kept["preferences"] = *at;
  const auto bookmarks = session.find("bookmarks");
  if (bookmarks == session.end() || !bookmarks->is_array()) return kept;
  kept["bookmarks"] = Json::array();
  for (const Json& pair : *bookmarks) {
    if (!pair.is_array() || pair.empty() || pair[0] != "last") kept["bookmarks"].push_back(pair);
  }
  return kept;
}

Completion completion_from(const std::string& text) {
  Completion completion;
  const Json json = Json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("start") || !json["start"].is_number_unsigned()) return completion;
  completion.start = json["start"].get<std::size_t>();
  const auto words = json.find("words");
  if (words == json.end() || !words->is_array()) return completion;
  for (const Json& word : *words) {
    if (word.is_object()) completion.words.push_back({text_in(word, "text"), text_in(word, "help")});
  }
  return completion;
}

}  // namespace

Client::Client(Ask ask, Console console, SessionFile& file, Json session)
    : ask_(std::move(ask)), console_(std::move(console)), file_(file), session_(std::move(session)) {
  kept_ = what_is_kept(file_.load());
  session_.update(kept_);
}

int Client::run(const ClientOptions& options, LineSource& lines) {
  session_["json"] = options.json;
  session_["dry_run"] = options.dry_run;
  if (options.complete) return print_completions(*options.complete);
  if (options.words.empty()) return run_shell(lines);
  return run_once(line_of_words(options.words));
}

int Client::run_once(const std::string& line) {
  if (!is_utf8(line)) {
    console_.err(not_utf8);
    return 1;
  }
  const auto answer = ask_({"line", line}, session_);
  if (!answer) {
    console_.err("targetcli: " + answer.error().message + "\n");
    return 1;
  }
  console_.out(answer->out);
  console_.err(answer->err);
  keep(answer->session);
  return answer->exit_code;
}

int Client::print_completions(const std::string& before_cursor) {
  const Completion completion = complete(before_cursor);
  const std::size_t word = before_cursor.find_last_of(" \t") + 1;  // 0 where there is none
  const std::size_t start = std::min(completion.start, before_cursor.size());
  const std::string kept = start > word ? before_cursor.substr(word, start - word) : std::string();
  for (const Candidate& candidate : completion.words)
    console_.out(kept + candidate.text + "\t" + candidate.help + "\n");
  return 0;
}

int Client::run_line(const std::string& line) {
  if (!is_utf8(line)) {
    console_.out(not_utf8);
    return 1;
  }
  const auto answer = ask_({"line", line}, session_);
  if (!answer) {
    console_.out("targetcli: " + answer.error().message + "\n");
    return 1;
  }
  console_.out(answer->out + answer->err);
  session_ = answer->session;
  keep(session_);
  return answer->exit_code;
}

int Client::run_shell(LineSource& lines) {
  const auto hello = ask_({"hello"}, session_);
  if (!hello) {
    console_.err("targetcli: " + hello.error().message + "\n");
    return 1;
  }
  console_.out(hello->out);
  session_ = hello->session;
  lines.set_completion([this](std::string_view before_cursor) { return complete(before_cursor); });
  int last = 0;
  while (!flag_in(session_, "quit")) {
    const auto line = lines.next(prompt());
    // The end of the input is an exit, too.
    if (!line) console_.out("exit\n");
    last = run_line(line.value_or("exit"));
    if (!line) break;
  }
  // As the original: what a line of the shell did is no matter of the exit code, but for the last, `exit`.
  return last;
}

Completion Client::complete(std::string_view before_cursor) {
  if (!is_utf8(std::string(before_cursor))) return {};
  const auto answer = ask_({"complete", std::string(before_cursor)}, session_);
  return answer ? completion_from(answer->out) : Completion{};
}

std::string Client::prompt() const {
  const std::string prompt = text_in(session_, "prompt");
  return prompt.empty() ? "/> " : prompt;
}

void Client::keep(const Json& session) {
  Json now = what_is_kept(session);
  if (now == kept_) return;
  file_.save(now);
  kept_ = std::move(now);
}

std::string line_of_words(const std::vector<std::string>& words) {
  std::string line;
  for (const std::string& word : words) {
    if (!line.empty()) line += ' ';
    const bool named = !name_in(word).empty();
    line += named ? quote_word(word) : word;
  }
  return line;
}

std::string home_folder() {
  if (const char* const own = std::getenv("TARGETCLI_HOME"); own != nullptr && *own != '\0') return own;
  const char* const home = std::getenv("HOME");
  return home == nullptr || *home == '\0' ? std::string() : std::string(home) + "/.targetcli";
}

Json HomeSessionFile::load() {
  const auto folder = folder_.empty() ? Result<control::Fd>(fail(Errc::not_found, "no home"))
                                      : control::open_folder(AT_FDCWD, folder_, false);
  if (!folder) return Json::object();
  const auto text = control::read_file(folder->get(), file_name, max_session_bytes);
  if (!text) return Json::object();
  auto json = config::target::parse_json(*text);
  return json && json->is_object() ? std::move(*json) : Json::object();
}

// A preference that cannot be kept is no reason to fail a command.
void HomeSessionFile::save(const Json& session) {
  if (folder_.empty()) return;
  const auto folder = control::open_folder(AT_FDCWD, folder_, true);
  if (folder)
    (void)control::write_file(folder->get(), file_name, config::target::write_json(session, 2) + "\n");
}

}  // namespace perilune::cli::targetcli
