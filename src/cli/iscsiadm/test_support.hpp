// SPDX-License-Identifier: Apache-2.0
// For the tests of the modes: a console that remembers, a daemon that answers from a table, a database of its
// own.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/temporary_folder_test.hpp"
#include "cli/iscsiadm/modes.hpp"
#include "control/iscsi_error.hpp"

namespace perilune::cli::iscsiadm {

class RecordingConsole final : public Console {
 public:
  void out(std::string_view text) override { stdout_text += text; }
  void err(std::string_view line) override { stderr_text += "iscsiadm: " + std::string(line) + "\n"; }
  void raw_err(std::string_view line) override { stderr_text += std::string(line) + "\n"; }
  std::string stdout_text, stderr_text;
};

class FakeDaemon final : public Daemon {
 public:
  using Answer =
      std::function<control::Reply(const control::Json& args, const PendingCall::Progress& progress)>;
  bool reach(Start start) override {
    if (start == Start::yes) ++starts;
    return listening;
  }
  std::unique_ptr<PendingCall> begin(const std::string& op, const control::Json& args) override {
    class Call final : public PendingCall {
     public:
      Call(Answer answer, control::Json args) : answer_(std::move(answer)), args_(std::move(args)) {}
      control::Reply wait(const Progress& progress) override { return answer_(args_, progress); }

     private:
      Answer answer_;
      control::Json args_;
    };
    requests.emplace_back(op, args);
    const auto at = answers.find(op);
    EXPECT_TRUE(at != answers.end()) << "nobody answers " << op;
    return std::make_unique<Call>(at->second, args);
  }
  bool listening = true;
  int starts = 0;
  std::map<std::string, Answer> answers;
  std::vector<std::pair<std::string, control::Json>> requests;
};

struct Outcome {
  int code = 0;
  std::string out, err;
};

class ModeTest : public ::testing::Test {
 protected:
  ModeTest() { set_sessions({}); }

  // iscsiadm ARGUMENTS...
  Outcome run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "iscsiadm");
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    RecordingConsole console;
    Context context{console, db_, daemon_};
    int code = 0;
    ::testing::internal::CaptureStderr();  // getopt speaks there
    const auto options = parse_options(static_cast<int>(arguments.size()), argv.data(), console, code);
    const std::string getopt_text = ::testing::internal::GetCapturedStderr();
    if (options) code = run_mode(context, *options);
    return {code, console.stdout_text, getopt_text + console.stderr_text};
  }

  void set_sessions(const std::vector<control::SessionView>& sessions) {
    control::Json list = control::Json::array();
    for (const auto& session : sessions) list.push_back(control::session_to_json(session));
    daemon_.answers["sessions"] = [list](const auto&, const auto&) { return control::Reply{0, {}, list}; };
  }
  void answer(const std::string& op, int code, control::Json result = control::Json::object()) {
    daemon_.answers[op] = [=](const auto&, const auto&) { return control::Reply{code, {}, result}; };
  }
  // A portal that shows these targets.
  void find(const std::vector<control::FoundTarget>& targets) {
    answer("discover", 0, control::targets_to_json(targets));
  }
  void add_node(const config::NodeKey& key) {
    config::Record record(config::RecordKind::node);
    key.put_into(record);
    ASSERT_TRUE(db_.write_node(record));
  }
  static control::SessionView session(std::uint32_t sid, const config::NodeKey& key) {
    control::SessionView view;
    view.sid = sid;
    key.put_into(view.node);
    view.tpgt = key.tpgt;
    view.current_address = key.address;
    view.current_port = key.port;
    view.initiator_name = "iqn.2026-11.io.perilune:one";
    view.local_address = "192.0.2.99";
    view.connection_state = "LOGGED IN";
    view.session_state = "LOGGED_IN";
    view.internal_state = "NO CHANGE";
    view.max_recv_data_segment_length = 262144;
    view.max_xmit_data_segment_length = 8192;
    view.first_burst_length = 65536;
    view.max_burst_length = 262144;
    view.immediate_data = true;
    view.initial_r2t = true;
    view.devices = {{0, "", "", ""}, {1, "loop4", "running", "disk"}};
    return view;
  }

  TemporaryFolder folder_;
  control::RecordDb db_{folder_.path()};
  FakeDaemon daemon_;
};

inline const config::NodeKey disk_node{"iqn.2026-05.org.moon:disk", "192.0.2.1", 3260, 1, "default"};
inline const config::NodeKey tape_node{"iqn.2026-05.org.moon:tape", "192.0.2.1", 3260, 1, "default"};

}  // namespace perilune::cli::iscsiadm
