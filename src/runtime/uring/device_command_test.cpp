// SPDX-License-Identifier: Apache-2.0
// Commands of character devices. /dev/null takes any, and answers 0 (Linux 6.1).
#include <fcntl.h>

#include <cerrno>
#include <optional>

#include "runtime/loop_test_support.hpp"
#include "runtime/posix/unique_fd.hpp"
#include "runtime/uring/device_control.hpp"
#include "runtime/uring/uring_loop.hpp"

namespace perilune::runtime::uring {
namespace {

class DeviceCommandTest : public ::testing::Test, protected LoopUser {
 public:
  void ended(int result) {
    result_ = result;
    loop->stop();
  }

 protected:
  void make(bool device_commands) {
    UringOptions options;
    options.device_commands = device_commands;
    take_loop(std::move(options), UringLoop::create);
    command_.done = Delegate<void(int)>::to<&DeviceCommandTest::ended>(*this);
  }
  int answer_of(const char* path) {
    const posix::UniqueFd device(::open(path, O_RDWR | O_CLOEXEC));
    command_.fd = device.get();
    EXPECT_TRUE(loop->submit(command_));
    run_until([this] { return result_.has_value(); });
    return result_.value_or(1);
  }
  DeviceCommand command_;
  std::optional<int> result_;
};

TEST_F(DeviceCommandTest, TheAnswerComesFromALaterTurn) {
  make(true);
  if (!loop) return;
  const int answer = answer_of("/dev/null");
  if (answer == -EOPNOTSUPP) GTEST_SKIP() << "this kernel's /dev/null takes no commands";
  EXPECT_EQ(0, answer);
}

TEST_F(DeviceCommandTest, ADeviceThatTakesNoneSaysSo) {
  make(true);
  if (!loop) return;
  EXPECT_EQ(-EOPNOTSUPP, answer_of("/dev/full"));
}

TEST_F(DeviceCommandTest, ALoopMadeWithoutThemRefuses) {
  make(false);
  if (!loop) return;
  EXPECT_FALSE(loop->submit(command_));
}

TEST(DeviceControl, RunsOneCommandAfterTheOther) {
  auto control = DeviceControl::open("/dev/null");
  if (!control && control.error().code == Errc::unsupported) GTEST_SKIP() << control.error().message;
  ASSERT_TRUE(control) << control.error().message;
  const std::array<std::uint8_t, 32> argument{};
  const int first = (*control)->run(1, argument);
  if (first == -EOPNOTSUPP) GTEST_SKIP() << "this kernel's /dev/null takes no commands";
  for (int i = 0; i < 5; ++i) EXPECT_EQ(0, (*control)->run(1, argument));
}

TEST(DeviceControl, AMissingDeviceIsAnError) {
  EXPECT_EQ(ENOENT, DeviceControl::open("/dev/there-is-no-such-device").error().os_errno);
}

}  // namespace
}  // namespace perilune::runtime::uring
