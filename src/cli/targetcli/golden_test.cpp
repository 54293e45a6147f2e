// SPDX-License-Identifier: Apache-2.0
// Sessions with the original targetcli (tests/compat/targetcli, whose README tells what is not as there),
// typed again here: each answer byte for byte. The files belong together: each begins where the one before
// ended.
#include <fstream>
#include <regex>

#include <gtest/gtest.h>

#include "cli/targetcli/fake_administration_test.hpp"

namespace perilune::cli::targetcli {
namespace {

struct Step {
  std::string prompt;  // empty: one command for itself; otherwise a line in the shell
  std::string line;    // or what happens outside, after an '@'
  std::string expected;
  int exit_code = 0;
};

std::vector<Step> read_steps(const std::string& name) {
  std::ifstream file(std::string(PERILUNE_COMPAT_FOLDER) + "/" + name);
  EXPECT_TRUE(file.is_open()) << name;
  std::vector<Step> steps;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("@ ")) {
      steps.push_back({"", line, "", 0});
    } else if (line.starts_with("$ [")) {
      const auto end = line.find(']');
      steps.push_back({line.substr(3, end - 3), line.substr(end + 2), "", 0});
    } else if (line.starts_with("$ ")) {
      steps.push_back({"", line.substr(2), "", 0});
    } else if (line.starts_with("[exit ")) {
      steps.back().exit_code = line[6] - '0';
    } else if (!line.starts_with('#')) {
      steps.back().expected += line + "\n";
    }
  }
  return steps;
}

// ---- what is not compared: everything in one place

// Numbers that nobody chose.
std::string without_chance(const std::string& text) {
  static const std::regex serial("wwn: [0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}");
  static const std::regex alias("alias: [0-9a-f]{10}");
  return std::regex_replace(std::regex_replace(text, serial, "wwn: SERIAL"), alias, "alias: ALIAS");
}

// Help is in our own words: of a list the commands, of a page the syntax and the defaults.
std::string of_help(const std::string& text) {
  std::istringstream lines(text);
  std::string kept, before, heading;
  for (std::string line; std::getline(lines, line); heading = before, before = line) {
    if (line.starts_with("  - ") || heading == "SYNTAX" || heading == "DEFAULT VALUES") kept += line + "\n";
  }
  return kept.empty() ? text : kept;
}

// So are the descriptions below the names of parameters.
std::string of_group(const std::string& text) {
  std::istringstream lines(text);
  std::string kept;
  int since_name = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.find('=') != std::string::npos && line.front() != '=') since_name = 0;
    if (since_name < 2) kept += line + "\n";
    ++since_name;
  }
  return kept;
}

std::string comparable(const std::string& line, const std::string& text) {
  static const std::regex help("(^|.* )help( .*)?$");
  if (std::regex_match(line, help)) return of_help(text);
  if (text.find(" CONFIG GROUP\n===") != std::string::npos) return of_group(text);
  return without_chance(text);
}

// ---- the machine on which it was recorded

const model::PortalGroupKey group{{"iqn.2026-01.lab.ref:one"}, 1};

void prepare(test::FakeAdministration& daemon) {
  using Kind = test::FileProbe::Kind;
  daemon.add_file("/var/lio", Kind::folder, 0);
  daemon.add_file("/dev/ram0", Kind::block, 64ULL << 20);
  daemon.add_file("/dev/sda", Kind::block, 16ULL << 20);
  daemon.add_file("/dev/vda", Kind::block, 1ULL << 30, "mounted on /");
}

void happen(const std::string& what, test::FakeAdministration& daemon) {
  daemon.open_sessions.clear();
  if (what == "@ bad file") daemon.texts["/tmp/bad.json"] = "{ x";
  if (!what.starts_with("@ session ")) return;
  targetd::SessionInfo session{
      group, "iqn.1993-08.org.debian:01:labvm", "labvm", "00023d000001", 0, "LOGGED_IN", "labuser", {}};
  session.tsih = static_cast<std::uint16_t>(std::stoi(what.substr(10)));
  session.connections.push_back({0, "127.0.0.1", 40000, "LOGGED_IN"});
  daemon.open_sessions.push_back(session);
}

const std::vector<std::string> files{"00-empty.txt",
                                     "01-help-root.txt",
                                     "02-help-paths.txt",
                                     "10-backstores.txt",
                                     "11-backstore-attributes.txt",
                                     "20-iscsi-target.txt",
                                     "21-iscsi-luns-acls-portals.txt",
                                     "30-sessions.txt",
                                     "40-interactive.txt",
                                     "50-saveconfig.txt",
                                     "70-deletes.txt"};

class TargetcliGolden : public testing::TestWithParam<std::size_t> {
 protected:
  void play(const std::string& name, bool compare) {
    for (const Step& step : read_steps(name)) {
      if (step.line.starts_with('@')) {
        happen(step.line, shell_.daemon);
        continue;
      }
      if (step.prompt.empty()) shell_.session = {};
      if (compare && !step.prompt.empty()) {
        EXPECT_EQ(prompt_of(shell_.session.path, shell_.session.number("prompt_length")), step.prompt + "> ")
            << step.line;
      }
      const Answer answer = shell_.run(step.line);
      if (!compare) continue;
      const std::string shown = answer.out + (answer.error.empty() ? "" : answer.error + "\n");
      EXPECT_EQ(comparable(step.line, shown), comparable(step.line, step.expected))
          << name << ": " << step.line;
      EXPECT_EQ(answer.exit_code, step.exit_code) << name << ": " << step.line;
    }
  }
  test::Shell shell_;
};

TEST_P(TargetcliGolden, AnswersAsTheOriginal) {
  prepare(shell_.daemon);
  for (std::size_t i = 0; i <= GetParam(); ++i) play(files[i], i == GetParam());
}

INSTANTIATE_TEST_SUITE_P(Transcripts, TargetcliGolden, testing::Range(std::size_t{0}, files.size()));

}  // namespace
}  // namespace perilune::cli::targetcli
