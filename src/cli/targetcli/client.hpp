// SPDX-License-Identifier: Apache-2.0
// The shell that people type into: reads lines, sends them with the session to the daemon, prints the
// answers. It understands nothing of what it sends. One thread; blocks.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/targetcli/completion.hpp"
#include "control/targetd/administration.hpp"

namespace perilune::cli::targetcli {

// Asks the daemon's front end `targetcli`.
using Ask = std::function<Result<targetd::FrontEndAnswer>(const std::vector<std::string>& arguments,
                                                          const Json& session)>;

// Where lines come from.
class LineSource {
 public:
  using Complete = std::function<Completion(std::string_view before_cursor)>;
  virtual ~LineSource() = default;
  // Shows the prompt; nullopt at the end of the input.
  [[nodiscard]] virtual std::optional<std::string> next(const std::string& prompt) = 0;
  virtual void set_completion(Complete) {}
};

struct Console {
  std::function<void(std::string_view)> out;
  std::function<void(std::string_view)> err;
};

// What a session keeps from one run to the next: preferences and bookmarks.
class SessionFile {
 public:
  virtual ~SessionFile() = default;
  [[nodiscard]] virtual Json load() = 0;  // an empty object when there is none
  virtual void save(const Json& session) = 0;
};

struct ClientOptions {
  bool json = false;
  bool dry_run = false;
  std::optional<std::string> complete;  // what stands before a cursor: prints what its last word could become
  std::vector<std::string> words;  // one command and its arguments; empty: the shell
};

class Client {
 public:
  // `session`: what the terminal is like (width, colour, directory). All of it outlives this.
  Client(Ask ask, Console console, SessionFile& file, Json session);

  // The exit code of targetcli.
  [[nodiscard]] int run(const ClientOptions& options, LineSource& lines);

 private:
  [[nodiscard]] int run_once(const std::string& line);
  // A line each: the whole word, and what it is behind a tab. For the completion of a shell of the system.
  [[nodiscard]] int print_completions(const std::string& before_cursor);
  [[nodiscard]] int run_shell(LineSource& lines);
  // One line of the shell; its errors are part of the output. Gives the exit code.
  [[nodiscard]] int run_line(const std::string& line);
  [[nodiscard]] Completion complete(std::string_view before_cursor);
  [[nodiscard]] std::string prompt() const;
  void keep(const Json& session);

  Ask ask_;
  Console console_;
  SessionFile& file_;
  Json session_;
  Json kept_;  // what the file has
};

// The words of a command line as one line of the shell. As the original joins them with blanks, so that a
// line in one word is a line; the value of a name=value is quoted where it has to be.
[[nodiscard]] std::string line_of_words(const std::vector<std::string>& words);

// ~/.targetcli/perilune.json (0600): the original's own files there are left alone.
class HomeSessionFile final : public SessionFile {
 public:
  explicit HomeSessionFile(std::string folder) : folder_(std::move(folder)) {}
  Json load() override;
  void save(const Json& session) override;

 private:
  std::string folder_;
};
// TARGETCLI_HOME, or .targetcli in HOME; empty when there is neither.
[[nodiscard]] std::string home_folder();

// A terminal with editing, history and completion where libedit is there and standard input is a terminal;
// otherwise plain lines of standard input, with prompts, as the original. `history`: a file, may be empty.
[[nodiscard]] std::unique_ptr<LineSource> open_line_source(const std::string& history);

}  // namespace perilune::cli::targetcli
