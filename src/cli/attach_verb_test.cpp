// SPDX-License-Identifier: Apache-2.0
// perilune attach and perilune detach, as a person calls them. Needs root, /dev/fuse and /dev/loop-control.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "attach/loop_device.hpp"
#include "attach/state_file.hpp"
#include "cli/verbs.hpp"
#include "runtime/posix/unique_fd.hpp"

namespace perilune::cli {
namespace {

struct Outcome {
  int code = -1;
  std::string out, err;
};

class AttachVerb : public ::testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root";
    if (::access("/dev/fuse", R_OK | W_OK) != 0) GTEST_SKIP() << "needs /dev/fuse";
    if (::access("/dev/loop-control", R_OK | W_OK) != 0) GTEST_SKIP() << "needs /dev/loop-control";
    char path[] = "/tmp/perilune-attach-verb.XXXXXX";
    ASSERT_NE(nullptr, ::mkdtemp(path));
    run_dir_ = path;
  }
  void TearDown() override {
    if (run_dir_.empty()) return;
    for (const auto& record : attach::read_records(run_dir_)) {
      if (attach::is_alive(record)) call(run_detach, {"detach", record.device, "--force"});
    }
    call(run_detach, {"detach", "--cleanup"});
    EXPECT_EQ(0, ::rmdir(run_dir_.c_str())) << "something was left in " << run_dir_;
  }

  Outcome call(int (*verb)(int, char**), std::vector<std::string> words) const {
    words.insert(words.end(), {"--run-dir", run_dir_});
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    Outcome run;
    run.code = verb(static_cast<int>(words.size()), argv.data());
    std::fflush(stdout);
    run.out = ::testing::internal::GetCapturedStdout();
    run.err = ::testing::internal::GetCapturedStderr();
    return run;
  }
  std::string attach_disk(const std::string& what) const {
    const Outcome run = call(run_attach, {"attach", "--driver", "fuse", what});
    EXPECT_EQ(0, run.code) << run.err;
    EXPECT_TRUE(run.out.ends_with("\n"));
    return run.out.substr(0, run.out.find('\n'));
  }

  std::string run_dir_;
};

TEST_F(AttachVerb, PrintsTheDeviceAndDetachTakesItAway) {
  const std::string device = attach_disk("ram:16M");
  const auto number = attach::parse_loop_device(device);
  ASSERT_TRUE(number) << device;
  EXPECT_TRUE(attach::loop_is_bound(*number));
  const std::string file = attach::loop_backing_file(*number);
  const Outcome run = call(run_detach, {"detach", device});
  EXPECT_EQ(0, run.code) << run.err;
  EXPECT_FALSE(attach::loop_serves(*number, file));
  const Outcome again = call(run_detach, {"detach", device});
  EXPECT_EQ(21, again.code);
  EXPECT_EQ("perilune detach: " + device + " is not attached\n", again.err);
}

TEST_F(AttachVerb, WhatWasWrittenIsInTheFileAfterDetach) {
  const std::string file = run_dir_ + ".img";
  {
    const runtime::posix::UniqueFd fd(::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    ASSERT_EQ(0, ::ftruncate(fd.get(), 16 << 20));
  }
  const std::string device = attach_disk(file);
  {
    const runtime::posix::UniqueFd fd(::open(device.c_str(), O_RDWR | O_CLOEXEC));
    ASSERT_EQ(5, ::pwrite(fd.get(), "moon.", 5, 1 << 20));
  }
  EXPECT_EQ(0, call(run_detach, {"detach", file}).code);
  const runtime::posix::UniqueFd fd(::open(file.c_str(), O_RDONLY | O_CLOEXEC));
  char text[6] = {};
  EXPECT_EQ(5, ::pread(fd.get(), text, 5, 1 << 20));
  EXPECT_STREQ("moon.", text);
  ::unlink(file.c_str());
}

TEST_F(AttachVerb, TheRecordNamesTheDriver) {
  const std::string device = attach_disk("ram:16M");
  const auto records = attach::read_records(run_dir_);
  ASSERT_EQ(1u, records.size());
  EXPECT_EQ(device, records[0].device);
  EXPECT_EQ("fuse", records[0].driver);
}

TEST_F(AttachVerb, AnUnknownDriverIsAUsageError) {
  const Outcome run = call(run_attach, {"attach", "--driver", "scsi", "ram:16M"});
  EXPECT_EQ(7, run.code);
  EXPECT_EQ("perilune attach: drivers are auto, fuse, nbd and ublk\n", run.err);
}

TEST_F(AttachVerb, ADriverThatIsNotHereIsNotReplacedByAnother) {
  if (::access("/dev/ublk-control", F_OK) == 0) GTEST_SKIP() << "ublk is here";
  const Outcome run = call(run_attach, {"attach", "--driver", "ublk", "ram:16M"});
  EXPECT_EQ(1, run.code);
  EXPECT_EQ("perilune attach: no ublk here: /dev/ublk-control: No such file or directory\n", run.err);
}

TEST_F(AttachVerb, AClaimedDeviceStaysAndTheReasonIsTold) {
  const std::string device = attach_disk("ram:16M");
  runtime::posix::UniqueFd claim(::open(device.c_str(), O_RDWR | O_EXCL | O_CLOEXEC));
  ASSERT_TRUE(claim.valid());
  const Outcome refused = call(run_detach, {"detach", device});
  EXPECT_EQ(1, refused.code);
  EXPECT_NE(std::string::npos, refused.err.find("stays attached")) << refused.err;
  claim.reset();
  EXPECT_EQ(0, call(run_detach, {"detach", device}).code);
}

TEST_F(AttachVerb, WhatCannotBeAttachedIsToldInOneLine) {
  const Outcome missing = call(run_attach, {"attach", run_dir_ + "/nothing"});
  EXPECT_EQ(21, missing.code);
  EXPECT_EQ(1, std::count(missing.err.begin(), missing.err.end(), '\n')) << missing.err;
  EXPECT_EQ(7, call(run_attach, {"attach", "ram:none"}).code);
  EXPECT_EQ(7, call(run_attach, {"attach", "iscsi://127.0.0.1/"}).code);
  const Outcome refused =
      call(run_attach, {"attach", "iscsi://user%secret@127.0.0.1:1/iqn.2026-11.io.perilune:x/0"});
  EXPECT_EQ(4, refused.code) << refused.err;
  EXPECT_EQ(std::string::npos, refused.err.find("secret"));
  EXPECT_TRUE(attach::read_records(run_dir_).empty());
}

TEST_F(AttachVerb, CleanupTellsWhatAKilledServerLeft) {
  EXPECT_EQ("nothing to clean up\n", call(run_detach, {"detach", "--cleanup"}).out);
  const std::string device = attach_disk("ram:16M");
  const auto records = attach::read_records(run_dir_);
  ASSERT_EQ(1u, records.size());
  ASSERT_EQ(0, ::kill(records[0].pid, SIGKILL));
  while (attach::is_alive(records[0])) ::usleep(1000);
  const Outcome gone = call(run_detach, {"detach", device});
  EXPECT_EQ(1, gone.code);
  EXPECT_NE(std::string::npos, gone.err.find("--cleanup")) << gone.err;
  const Outcome run = call(run_detach, {"detach", "--cleanup"});
  EXPECT_EQ(0, run.code);
  EXPECT_EQ(0u, run.out.find("detached " + device + "\n")) << run.out;
  EXPECT_EQ(3, std::count(run.out.begin(), run.out.end(), '\n')) << run.out;
}

}  // namespace
}  // namespace perilune::cli
