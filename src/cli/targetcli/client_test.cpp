// SPDX-License-Identifier: Apache-2.0
#include "cli/targetcli/client.hpp"

#include <sys/stat.h>

#include <deque>
#include <fstream>

#include <gtest/gtest.h>

#include "base/temporary_folder_test.hpp"
#include "cli/targetcli/fake_administration_test.hpp"

namespace perilune::cli::targetcli {
namespace {

class Typed final : public LineSource {
 public:
  explicit Typed(std::deque<std::string> lines) : lines_(std::move(lines)) {}
  std::optional<std::string> next(const std::string& prompt) override {
    prompts.push_back(prompt);
    if (lines_.empty()) return std::nullopt;
    std::string line = lines_.front();
    lines_.pop_front();
    return line;
  }
  void set_completion(Complete how) override { complete = std::move(how); }
  std::vector<std::string> prompts;
  Complete complete;

 private:
  std::deque<std::string> lines_;
};

class Kept final : public SessionFile {
 public:
  Json load() override { return session; }
  void save(const Json& now) override {
    session = now;
    ++saves;
  }
  Json session = Json::object();
  int saves = 0;
};

class TargetcliClient : public testing::Test {
 protected:
  int run(std::vector<std::string> words, std::deque<std::string> lines = {}) {
    out.clear();
    err.clear();
    typed = std::make_unique<Typed>(std::move(lines));
    const Ask ask = [this](const std::vector<std::string>& arguments,
                           const Json& session) -> Result<targetd::FrontEndAnswer> {
      if (!daemon_runs) return fail(Errc::connection, "the target daemon does not answer");
      targetd::FrontEndRequest request;
      request.who = "root (pid 1)";
      request.arguments = arguments;
      request.session = session;
      return answer_front_end(request, daemon);
    };
    client = std::make_unique<Client>(ask,
                                      Console{[this](std::string_view text) { out += text; },
                                              [this](std::string_view text) { err += text; }},
                                      kept, Json{{"width", 132}, {"directory", "/home/me"}});
    options.words = std::move(words);
    return client->run(options, *typed);
  }

  test::FakeAdministration daemon;
  bool daemon_runs = true;
  ClientOptions options;
  Kept kept;
  std::unique_ptr<Typed> typed;
  std::unique_ptr<Client> client;
  std::string out, err;
};

TEST_F(TargetcliClient, CarriesOutOneCommand) {
  EXPECT_EQ(run({"/backstores/ramdisk", "create", "name=a b", "size=1M"}), 1);  // a name has no blank
  EXPECT_EQ(run({"/backstores/ramdisk", "create", "r", "1M"}), 0);
  EXPECT_EQ(out, "Created ramdisk r with size 1M.\n");
  EXPECT_EQ(run({"/backstores/ramdisk create s 1M"}), 0);  // the line in one word
  EXPECT_EQ(out, "Created ramdisk s with size 1M.\n");
  EXPECT_EQ(run({"nosuch"}), 1);
  EXPECT_EQ(out, "");
  EXPECT_EQ(err, "Command not found nosuch (`help` lists the commands of /)\n");
}

TEST_F(TargetcliClient, IsAShellOverItsInput) {
  EXPECT_EQ(run({}, {"cd /iscsi", "nosuch", "pwd", "exit"}), 0);
  EXPECT_EQ(typed->prompts, (std::vector<std::string>{"/> ", "/iscsi> ", "/iscsi> ", "/iscsi> "}));
  EXPECT_EQ(
      out,
      "targetcli shell version 2.1.53\nPerilune: for help on commands, type 'help'.\n\n"
      "Command not found nosuch (`help` lists the commands of /iscsi)\n/iscsi\n"
      "Global pref auto_save_on_exit=true\nConfiguration saved to /etc/rtslib-fb-target/saveconfig.json\n");
  EXPECT_EQ(err, "");
}

TEST_F(TargetcliClient, TheEndOfTheInputIsAnExit) {
  EXPECT_EQ(run({}, {"pwd"}), 0);
  EXPECT_TRUE(
      out.ends_with("/\nexit\nGlobal pref auto_save_on_exit=true\nConfiguration saved to "
                    "/etc/rtslib-fb-target/saveconfig.json\n"))
      << out;
}

TEST_F(TargetcliClient, KeepsPreferencesAndBookmarks) {
  EXPECT_EQ(run({}, {"set global auto_save_on_exit=false", "cd /iscsi", "bookmarks add here", "exit"}), 0);
  EXPECT_EQ(kept.saves, 2);  // not for each cd
  EXPECT_EQ(run({"@here", "pwd"}), 0);
  EXPECT_EQ(out, "/iscsi\n");
  EXPECT_EQ(run({"pwd"}), 0);
  EXPECT_EQ(out, "/\n");  // where a shell was left is no matter of the next
  EXPECT_EQ(kept.saves, 2);
}

TEST_F(TargetcliClient, AsksTheDaemonForCompletions) {
  EXPECT_EQ(run({}, {"cd /iscsi", "exit"}), 0);
  const Completion completion = typed->complete("cre");
  EXPECT_EQ(completion.start, 0U);
  EXPECT_EQ(completion.words, (std::vector<Candidate>{{"create", "command"}}));
}

TEST_F(TargetcliClient, CompletesWordsForOtherShells) {
  EXPECT_EQ(run({"/backstores/ramdisk", "create", "r", "1M"}), 0);
  options.complete = "/backstores/ramdisk/r inf";
  EXPECT_EQ(run({}), 0);
  EXPECT_EQ(out, "info\tcommand\n");
  options.complete = "/backstores/ram";
  EXPECT_EQ(run({}), 0);
  EXPECT_EQ(out, "/backstores/ramdisk/\tpath\n");
  options.complete = "ls \xff";
  EXPECT_EQ(run({}), 0);
  EXPECT_EQ(out, "");
  daemon_runs = false;
  options.complete = "/backstores/ram";
  EXPECT_EQ(run({}), 0);  // somebody pressed a key: no word is no error
  EXPECT_EQ(out + err, "");
}

TEST_F(TargetcliClient, WhatIsNotUtf8IsNotSent) {
  EXPECT_EQ(run({"/backstores/ramdisk create a\xff 1M"}), 1);
  EXPECT_EQ(err, "targetcli: the line is not UTF-8; nothing was done\n");
  EXPECT_EQ(run({}, {"/backstores/ramdisk create a\xff 1M", "exit"}), 0);
  EXPECT_TRUE(daemon.past.empty());
}

TEST_F(TargetcliClient, SaysThatThereIsNoDaemon) {
  daemon_runs = false;
  EXPECT_EQ(run({"ls"}), 1);
  EXPECT_EQ(err, "targetcli: the target daemon does not answer\n");
  EXPECT_EQ(run({}, {"ls"}), 1);
}

TEST(TargetcliWords, KeepValuesTogether) {
  EXPECT_EQ(line_of_words({"/x", "set", "parameter", "TargetAlias=my disk", "k="}),
            "/x set parameter TargetAlias=\"my disk\" k=");
  EXPECT_EQ(line_of_words({"/x create y"}), "/x create y");
}

TEST(TargetcliSessionFile, IsOfOneUserAlone) {
  const TemporaryFolder folder;
  HomeSessionFile file(folder / "home");
  EXPECT_EQ(file.load(), Json::object());
  file.save({{"bookmarks", Json::array()}});
  EXPECT_EQ(file.load(), (Json{{"bookmarks", Json::array()}}));
  struct stat status {};
  ASSERT_EQ(::stat((folder / "home/perilune.json").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
  std::ofstream(folder / "home/perilune.json") << "{ damaged";
  EXPECT_EQ(file.load(), Json::object());
}

}  // namespace
}  // namespace perilune::cli::targetcli
