// SPDX-License-Identifier: Apache-2.0
#include "cli/iscsiadm/test_support.hpp"

namespace perilune::cli::iscsiadm {
namespace {

using IscsiadmOptions = ModeTest;

TEST_F(IscsiadmOptions, RefusesInTheWordsAndWithTheCodeOfTheOriginal) {
  struct Case {
    std::vector<std::string> arguments;
    std::string err;
  };
  const Case cases[] = {
      {{}, "Try `iscsiadm --help' for more information.\n"},
      {{"-m", "nosuch"}, "iscsiadm: mode -1 is not yet supported\n"},
      {{"-m", "node", "--nosuch"},
       "iscsiadm: unrecognized option '--nosuch'\niscsiadm: node mode: option '-?' is not "
       "allowed/supported\n"},
      {{"-m", "node", "-o", "nosuch"}, "iscsiadm: can not recognize operation: 'nosuch'\n"},
      {{"-m", "session", "-o", "nosuch"}, "iscsiadm: can not recognize operation: 'nosuch'\n"},
      {{"-m", "session", "-i"},
       "iscsiadm: option requires an argument -- 'i'\niscsiadm: session mode: option '-?' is not "
       "allowed/supported\n"},
      {{"-m", "session", "-T", "x"}, "iscsiadm: session mode: option '-T' is not allowed/supported\n"},
      {{"-m", "node", "-D"}, "iscsiadm: node mode: option '-D' is not allowed/supported\n"},
      {{"-m", "node", "-p", "a:b:"}, "iscsiadm: No records found\n"},  // a strange IPv6 address, but one
  };
  for (const Case& c : cases) {
    const Outcome outcome = run(c.arguments);
    EXPECT_EQ(outcome.err, c.err);
    EXPECT_EQ(outcome.out, "");
    EXPECT_EQ(outcome.code, c.err.find("No records") == std::string::npos ? 7 : 21);
  }
}

TEST_F(IscsiadmOptions, HelpAndVersionSucceed) {
  EXPECT_EQ(run({"--version"}).out, "iscsiadm version 2.1.8\n");
  EXPECT_EQ(run({"--help"}).code, 0);
  EXPECT_EQ(run({"-m", "node", "-V"}).code, 0);
}

TEST_F(IscsiadmOptions, ReadsEveryFormOfAnOption) {
  RecordingConsole console;
  std::vector<std::string> words = {"iscsiadm", "--mode=node", "--targetname", "iqn.x",  "-p192.0.2.1:3261",
                                    "-I",       "a",           "-I",           "b",      "-n",
                                    "k1",       "-v",          "v1",           "-n",     "k2",
                                    "-v",       "v2",          "-o",           "update", "-S"};
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  int code = -1;
  const auto options = parse_options(static_cast<int>(words.size()), argv.data(), console, code);
  ASSERT_TRUE(options) << console.stderr_text;
  EXPECT_EQ(options->mode, Mode::node);
  EXPECT_EQ(options->target, "iqn.x");
  EXPECT_EQ(options->portal->port, 3261);
  EXPECT_EQ(options->ifaces, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(options->names, (std::vector<std::string>{"k1", "k2"}));
  EXPECT_EQ(options->values, (std::vector<std::string>{"v1", "v2"}));
  EXPECT_EQ(options->op, static_cast<unsigned>(op_update));
  EXPECT_TRUE(options->show_secrets);
}

TEST_F(IscsiadmOptions, ASessionIsNamedByNumberOrBySysfsPath) {
  set_sessions({session(3, disk_node)});
  EXPECT_EQ(run({"-m", "session", "-r", "3", "-P", "0"}).code, 0);
  EXPECT_EQ(run({"-m", "session", "-r", "/sys/class/iscsi_session/session3", "-P", "0"}).code, 0);
  EXPECT_EQ(run({"-m", "session", "-r", "three"}).code, 7);
}

}  // namespace
}  // namespace perilune::cli::iscsiadm
