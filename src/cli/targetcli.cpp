// SPDX-License-Identifier: Apache-2.0
#include "cli/targetcli/client.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include <fmt/format.h>

#include "cli/front_end_client.hpp"
#include "cli/targetcli/command_line.hpp"
#include "cli/verbs.hpp"
#include "config/target/tree.hpp"
#include "control/server.hpp"

namespace perilune::cli {
namespace {

using namespace targetcli;

struct Command {
  ClientOptions client;
  std::string socket_path;
  bool help = false;
  bool version = false;
};

// Options stand before the command; what is no option of ours belongs to the command.
bool parse(int argc, char** argv, Command& command) {
  int at = 1;
  for (; at < argc; ++at) {
    const std::string_view word = argv[at];
    if (word == "--help" || word == "-h")
      command.help = true;
    else if (word == "--version")
      command.version = true;
    else if (word == "--json")
      command.client.json = true;
    else if (word == "--dry-run")
      command.client.dry_run = true;
    else if (word == "--disable-daemon")
      continue;  // the original's: its daemon is another one
    else if (word == "--complete" && at + 1 < argc)
      command.client.complete = argv[++at];
    else if (word == "--socket" && at + 1 < argc)
      command.socket_path = argv[++at];
    else
      break;
  }
  if (at < argc && std::string_view(argv[at]).starts_with("--")) {
    fmt::print(stderr, "targetcli: there is no option {}; `targetcli --help` lists them\n", argv[at]);
    return false;
  }
  command.client.words.assign(argv + at, argv + argc);
  return true;
}

void print_usage() {
  fmt::print(
      "Usage: targetcli [OPTION...] [[PATH] COMMAND [VALUE...] [NAME=VALUE...]]\n\n"
      "The shell of the target daemon (perilune targetd), used as LIO's targetcli. With a command it carries "
      "that\n"
      "out; without one it reads lines from the terminal or from standard input. `targetcli / help` lists "
      "commands.\n\n"
      "  --json            answers as JSON\n"
      "  --dry-run         say what a command would change, and change nothing\n"
      "  --socket PATH     the daemon's socket (default: $PERILUNE_TARGETD_SOCKET, or "
      "/run/perilune/targetd.sock)\n"
      "  --complete LINE   what the last word of such a line could become, for completion in other shells\n"
      "  --disable-daemon  no effect: all commands go to the daemon\n"
      "  --version         show the version\n"
      "  --help            show this page\n\n"
      "Preferences and bookmarks: ~/.targetcli/perilune.json (or $TARGETCLI_HOME). Exit code: 0, or 1 when a "
      "command\n"
      "was refused; then nothing was changed.\n");
}

std::string working_folder() {
  char path[4096];
  return ::getcwd(path, sizeof path) == nullptr ? std::string() : std::string(path);
}

Json session_of_terminal() {
  std::size_t width = config::target::tree_width;
  const bool terminal = ::isatty(STDOUT_FILENO) != 0;
  winsize size{};
  if (terminal && ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col >= 20) width = size.ws_col;
  const char* const no_colour = std::getenv("NO_COLOR");
  return {{"width", width}, {"colour", terminal && no_colour == nullptr}, {"directory", working_folder()}};
}

// Asks the daemon's interpreter, prints, gives the exit code.
int run_client(const Command& command, std::string_view history) {
  const Ask ask = [&](const std::vector<std::string>& arguments, const Json& session) {
    return ask_target_daemon(command.socket_path, {"targetcli", arguments, std::nullopt, session});
  };
  const Console console{[](std::string_view text) {
                          std::fwrite(text.data(), 1, text.size(), stdout);
                          std::fflush(stdout);
                        },
                        [](std::string_view text) { std::fwrite(text.data(), 1, text.size(), stderr); }};
  const std::string home = home_folder();
  HomeSessionFile file(home);
  Client client(ask, console, file, session_of_terminal());
  const auto lines = open_line_source(home.empty() ? std::string() : home + "/" + std::string(history));
  return client.run(command.client, *lines);
}

}  // namespace

int run_targetcli(int argc, char** argv) {
  Command command;
  command.socket_path = control::ControlServer::default_path("targetd");
  if (!parse(argc, argv, command)) return 1;
  if (command.version) {
    fmt::print("targetcli version {}\n", PERILUNE_VERSION);
    return 0;
  }
  const bool asks_for_help = command.client.words.size() == 1 && command.client.words.front() == "help";
  if (command.help || asks_for_help) {
    print_usage();
    return 0;
  }
  return run_client(command, "perilune-history");
}

int run_targetctl(int argc, char** argv) {
  const std::string_view action = argc > 1 ? argv[1] : "";
  const std::string file = argc > 2 ? quote_word(argv[2]) : std::string();
  std::string line;
  if (action == "save") line = "/ saveconfig " + file;
  if (action == "restore")
    line = "/ restoreconfig " + (file.empty() ? "" : file + " ") + "clear_existing=true";
  if (action == "clear" && argc == 2) line = "/ clearconfig confirm=true";
  if (line.empty() || argc > 3) {
    const bool help = action == "--help" || action == "-h";
    fmt::print(help ? stdout : stderr,
               "syntax: targetctl save [FILE]\n        targetctl restore [FILE]\n        targetctl clear\n"
               "The file, if none is given, is the target daemon's saveconfig.json.\n");
    return help ? 0 : 1;
  }
  Command command;
  command.socket_path = control::ControlServer::default_path("targetd");
  command.client.words = {line};
  return run_client(command, "");
}

}  // namespace perilune::cli
