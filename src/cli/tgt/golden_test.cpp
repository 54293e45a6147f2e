// SPDX-License-Identifier: Apache-2.0
// Sessions with the original tgtadm, tgt-admin and tgt-setup-lun (tests/compat/tgt, whose README tells what
// is not as there), typed again here: each answer byte for byte. Each file begins with a daemon that has
// nothing.
#include <fstream>
#include <regex>
#include <sstream>

#include <gtest/gtest.h>

#include "cli/targetcli/fake_administration_test.hpp"
#include "cli/tgt/client_options.hpp"
#include "cli/tgt/tgtadm.hpp"
#include "config/target/saveconfig.hpp"
#include "config/target/targets_conf.hpp"

namespace perilune::cli::tgt {
namespace {

using targetcli::test::FakeAdministration;
using Kind = targetd::FileProbe::Kind;

struct Step {
  std::string line;      // a command, or what happens outside, after an '@'
  std::string text;      // of a file
  std::string expected;  // standard output, then standard error
  int exit_code = 0;
};

std::vector<Step> read_steps(const std::string& name) {
  std::ifstream file(std::string(PERILUNE_TGT_COMPAT_FOLDER) + "/" + name);
  EXPECT_TRUE(file.is_open()) << name;
  std::vector<Step> steps;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("@ "))
      steps.push_back({line, "", "", 0});
    else if (line.starts_with("$ "))
      steps.push_back({line.substr(2), "", "", 0});
    else if (line.starts_with("[exit "))
      steps.back().exit_code = std::stoi(line.substr(6));
    else if (line.starts_with("| "))
      steps.back().text += line.substr(2) + "\n";
    else
      steps.back().expected += line + "\n";
  }
  return steps;
}

// What is not compared: the identifiers of disks, and the hint in parentheses behind an error.
std::string comparable(const std::string& text) {
  static const std::regex id("(Type: disk\n +SCSI ID: )[^\n]*");
  static const std::regex serial("(Type: disk\n[^\n]*\n +SCSI SN: )(beaf[0-9]+|[0-9a-f-]{36})\n");
  static const std::regex hint("((^|\n)(tgtadm|tgt-admin|Error): [^\n]*?) \\([^\n]*\\)\n");
  const std::string without_ids = std::regex_replace(std::regex_replace(text, id, "$1ID"), serial, "$1SN\n");
  return std::regex_replace(without_ids, hint, "$1\n");
}

class ConfOfOneFile final : public model::ConfWorld {
 public:
  Result<std::vector<model::ConfFile>> include(const std::string&) override {
    return std::vector<model::ConfFile>{};
  }
  bool is_block_device(const std::string&) override { return false; }
};

class TgtGolden : public testing::TestWithParam<const char*> {
 protected:
  TgtGolden() {
    daemon_.add_file("/srv/a.img", Kind::regular, 64U << 20);
    daemon_.add_file("/srv/b.img", Kind::regular, 32U << 20);
    daemon_.add_file("/srv/c.img", Kind::regular, 16U << 20);
    daemon_.add_file("/srv/d.img", Kind::regular, 8U << 20);
  }

  void happen(const Step& step) {
    if (step.line.starts_with("@ file ")) {
      daemon_.texts[step.line.substr(7)] = step.text;
      return;
    }
    ASSERT_TRUE(step.line.starts_with("@ session ")) << step.line;
    targetd::SessionInfo session{{{step.line.substr(10)}, 1},
                                 "iqn.1993-08.org.debian:01:labvm",
                                 "labvm",
                                 "00023d000001",
                                 1,
                                 "LOGGED_IN",
                                 "",
                                 {{0, "127.0.0.1", 40000, "LOGGED_IN"}}};
    daemon_.open_sessions = {session};
  }

  targetd::FrontEndAnswer run(const std::string& line) {
    targetd::FrontEndRequest request;
    request.who = "root (pid 7)";
    std::istringstream words(line);
    std::string program;
    words >> program;
    for (std::string word; words >> word;) request.arguments.push_back(word);
    auto answer = program == "tgtadm"      ? answer_tgtadm(request, daemon_)
                  : program == "tgt-admin" ? run_admin(request)
                                           : run_setup_lun(request);
    // The sessions of a target end with it.
    std::erase_if(daemon_.open_sessions, [this](const targetd::SessionInfo& session) {
      return daemon_.own.find<model::PortalGroup>(session.group) == nullptr;
    });
    return answer;
  }

  // As their clients do (cli/tgt.cpp).
  targetd::FrontEndAnswer run_setup_lun(targetd::FrontEndRequest request) {
    request.arguments.insert(request.arguments.begin(), {"-H", "box"});
    return answer_tgt_setup_lun(request, daemon_);
  }
  targetd::FrontEndAnswer run_admin(targetd::FrontEndRequest request) {
    const auto options = parse_admin(request.arguments);
    if (!options) return {"", "tgt-admin: " + options.error().message + "\n", 1, {}};
    if (options->action == "show") {
      request.arguments = {"--op", "show", "--mode", "target"};
      return answer_tgtadm(request, daemon_);
    }
    request.arguments = {options->action, options->selector};
    if (options->force) request.arguments.push_back("force");
    if (options->action == "execute" || options->action == "update") {
      ConfOfOneFile world;
      const auto file = model::read_targets_conf({options->conf, daemon_.texts.at(options->conf)}, world,
                                                 {{"0.0.0.0", std::uint16_t{3260}}});
      EXPECT_TRUE(file.has_value()) << file.error().message;
      if (file) request.input = model::write_saveconfig(file->configuration);
    }
    return answer_tgt_admin(request, daemon_);
  }

  FakeAdministration daemon_;
};

TEST_P(TgtGolden, AnswersAsTheOriginal) {
  const auto steps = read_steps(GetParam());
  EXPECT_FALSE(steps.empty());
  for (const Step& step : steps) {
    if (step.line.starts_with('@')) {
      happen(step);
      continue;
    }
    const auto answer = run(step.line);
    EXPECT_EQ(comparable(answer.out + answer.err), comparable(step.expected))
        << GetParam() << ": " << step.line;
    EXPECT_EQ(answer.exit_code, step.exit_code) << GetParam() << ": " << step.line;
  }
}

INSTANTIATE_TEST_SUITE_P(Transcripts, TgtGolden,
                         testing::Values("00-empty.txt", "10-tutorial.txt", "11-force.txt", "20-accounts.txt",
                                         "30-initiators.txt", "40-logical-units.txt", "50-targets.txt",
                                         "60-portals.txt", "70-targets-conf.txt", "80-setup-lun.txt"));

}  // namespace
}  // namespace perilune::cli::tgt
