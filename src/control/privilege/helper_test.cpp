// SPDX-License-Identifier: Apache-2.0
// The root helper, asked properly and otherwise. As root where the test runs as root; what needs root is
// skipped elsewhere.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "base/temporary_folder_test.hpp"
#include "control/privilege/helper_access.hpp"
#include "control/privilege/helper_process.hpp"
#include "control/privilege/helper_protocol.hpp"
#include "runtime/posix/descriptor_message.hpp"
#include "runtime/posix/forked_helper.hpp"

namespace perilune::control::privilege {
namespace {

namespace fs = std::filesystem;
using runtime::posix::UniqueFd;

Request request_for(Request::Kind kind, std::string_view path, int flags = O_RDWR) {
  Request request;
  request.kind = kind;
  request.flags = flags;
  put(request.path, path);
  return request;
}

Request bind_request(std::uint16_t port) {
  sockaddr_in in{};
  in.sin_family = AF_INET;
  in.sin_port = htons(port);
  in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  Request request;
  request.kind = Request::Kind::bind;
  request.address_bytes = sizeof in;
  std::memcpy(&request.address, &in, sizeof in);
  return request;
}

// --- what can be said without a look at the host

TEST(HelperProtocol, PathsBelowARootAreTaken) {
  const Roots roots = {"/dev", "/srv/disks"};
  const auto file = place_of("/srv/disks/a/b.img", roots);
  ASSERT_TRUE(file);
  EXPECT_EQ(file->root, "/srv/disks");
  EXPECT_EQ(file->below, "a/b.img");
  EXPECT_FALSE(file->is_device);
  const auto device = place_of("/dev/disk/by-id/x", roots);
  ASSERT_TRUE(device);
  EXPECT_TRUE(device->is_device);
}

TEST(HelperProtocol, OtherPathsAreRefused) {
  const Roots roots = {"/dev", "/srv/disks"};
  for (const char* path : {"", "relative", "/", "/srv", "/srv/disks", "/srv/disks/", "/srv/disks2/a",
                           "/etc/shadow", "/srv/disks/../../etc/shadow", "/srv/disks//a", "/srv/disks/a/",
                           "/srv/disks/.ssh/key", "/srv/disks/a/./b", "//srv/disks/a"}) {
    const auto place = place_of(path, roots);
    ASSERT_FALSE(place) << path;
    EXPECT_EQ(place.error().code, Errc::permission) << path;
  }
}

TEST(HelperProtocol, ARequestIsWhatItsKindSays) {
  EXPECT_TRUE(check(request_for(Request::Kind::open, "/srv/a"), sizeof(Request), 0));
  EXPECT_TRUE(check(request_for(Request::Kind::open, "/srv/a", O_RDONLY | O_NONBLOCK | O_DIRECT | O_EXCL),
                    sizeof(Request), 0));
  EXPECT_FALSE(check(request_for(Request::Kind::open, "/srv/a"), sizeof(Request) - 1, 0));
  EXPECT_FALSE(check(request_for(Request::Kind::open, "/srv/a"), sizeof(Request) + 1, 0));
  EXPECT_FALSE(check(request_for(Request::Kind::open, "/srv/a"), sizeof(Request), 1));
  EXPECT_FALSE(check(request_for(Request::Kind::open, "srv/a"), sizeof(Request), 0));
  for (const int flags :
       {O_RDWR | O_CREAT, O_RDWR | O_TRUNC, O_WRONLY, O_RDWR | O_APPEND, O_RDWR | O_TMPFILE, O_PATH, -1}) {
    EXPECT_FALSE(check(request_for(Request::Kind::open, "/srv/a", flags), sizeof(Request), 0)) << flags;
  }
  EXPECT_FALSE(check(request_for(Request::Kind{0}, "/srv/a"), sizeof(Request), 0));
  EXPECT_FALSE(check(request_for(Request::Kind{6}, "/srv/a"), sizeof(Request), 0));
  EXPECT_FALSE(check(request_for(Request::Kind::reopen, ""), sizeof(Request), 0));
  EXPECT_TRUE(check(request_for(Request::Kind::reopen, ""), sizeof(Request), 1));
  Request endless;
  endless.path.fill('/');
  EXPECT_FALSE(check(endless, sizeof(Request), 0));
}

TEST(HelperProtocol, OnlyLowPortsAreBound) {
  EXPECT_TRUE(check(bind_request(860), sizeof(Request), 1));
  EXPECT_FALSE(check(bind_request(860), sizeof(Request), 0));
  EXPECT_FALSE(check(bind_request(0), sizeof(Request), 1));
  EXPECT_FALSE(check(bind_request(1024), sizeof(Request), 1));
  Request other = bind_request(860);
  other.address.ss_family = AF_UNIX;
  EXPECT_FALSE(check(other, sizeof(Request), 1));
  other = bind_request(860);
  other.address_bytes = 0xffffffff;
  EXPECT_FALSE(check(other, sizeof(Request), 1));
}

// --- what it does with files

class HelperFiles : public testing::Test {
 protected:
  void SetUp() override {
    policy_.roots = {folder_.path(), "/dev"};
    policy_.uid = ::getuid();
    policy_.gid = ::getgid();
  }

  std::string make(const std::string& name, mode_t mode = 0600) {
    const std::string path = folder_ / name;
    std::ofstream(path) << "disk";
    EXPECT_EQ(::chmod(path.c_str(), mode), 0);
    return path;
  }
  Result<UniqueFd> open(const std::string& path, int flags = O_RDWR) {
    return perform(request_for(Request::Kind::open, path, flags), -1, policy_);
  }

  TemporaryFolder folder_;
  HelperPolicy policy_;
};

TEST_F(HelperFiles, OpensARegularFile) {
  const auto fd = open(make("disk"));
  ASSERT_TRUE(fd) << fd.error().message;
  EXPECT_EQ(::pwrite(fd->get(), "x", 1, 0), 1);
  EXPECT_NE(::fcntl(fd->get(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST_F(HelperFiles, WhatIsNoDiskIsRefused) {
  make("program", 0755);
  make("twice");
  ASSERT_EQ(::link((folder_ / "twice").c_str(), (folder_ / "second").c_str()), 0);
  ASSERT_EQ(::symlink((folder_ / "twice").c_str(), (folder_ / "link").c_str()), 0);
  ASSERT_EQ(::symlink("/etc", (folder_ / "etc").c_str()), 0);
  ASSERT_EQ(::mkfifo((folder_ / "fifo").c_str(), 0600), 0);
  for (const char* name : {"program", "twice", "second", "link", "etc/passwd", "fifo", ""}) {
    const auto fd = open(folder_ / name, O_RDONLY);
    ASSERT_FALSE(fd) << name;
    EXPECT_EQ(fd.error().code, Errc::permission) << name << ": " << fd.error().message;
  }
  const auto missing = open(folder_ / "missing");
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().os_errno, ENOENT);
}

TEST_F(HelperFiles, SecretsAreReadAndNothingElse) {
  policy_.secrets = {folder_.path()};
  policy_.roots = {"/dev"};
  const std::string path = make("secret", 0400);
  EXPECT_TRUE(open(path, O_RDONLY | O_NONBLOCK));
  EXPECT_FALSE(open(path, O_RDWR));
  EXPECT_FALSE(open(folder_.path(), O_RDONLY));
  EXPECT_FALSE(perform(request_for(Request::Kind::create, folder_ / "made"), -1, policy_));
  EXPECT_FALSE(perform(request_for(Request::Kind::remove, path), -1, policy_));
  EXPECT_TRUE(fs::exists(path));
}

TEST_F(HelperFiles, OfDevicesOnlyDisksAreOpened) {
  for (const char* path :
       {"/dev/null", "/dev/mem", "/dev/kmsg", "/dev/tty", "/dev/stdin", "/dev/fd/0", "/dev/shm/x"}) {
    EXPECT_FALSE(open(path, O_RDONLY)) << path;
  }
}

TEST_F(HelperFiles, AnotherOpenHasNoMoreRights) {
  const std::string path = make("disk");
  const UniqueFd reader(::open(path.c_str(), O_RDONLY)), writer(::open(path.c_str(), O_RDWR)),
      name(::open(path.c_str(), O_PATH));
  const auto reopen = [&](const UniqueFd& fd, int flags) {
    return perform(request_for(Request::Kind::reopen, "", flags), fd.get(), policy_).has_value();
  };
  EXPECT_TRUE(reopen(reader, O_RDONLY));
  EXPECT_FALSE(reopen(reader, O_RDWR));
  EXPECT_TRUE(reopen(writer, O_RDWR));
  EXPECT_TRUE(reopen(writer, O_RDONLY));
  EXPECT_FALSE(reopen(name, O_RDONLY));
  const UniqueFd null(::open("/dev/null", O_RDWR));
  EXPECT_FALSE(reopen(null, O_RDWR));
}

TEST_F(HelperFiles, MakesAndRemovesTheServersOwn) {
  const std::string path = folder_ / "made";
  {
    const auto fd = perform(request_for(Request::Kind::create, path), -1, policy_);
    ASSERT_TRUE(fd) << fd.error().message;
  }
  struct stat info {};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  const auto again = perform(request_for(Request::Kind::create, path), -1, policy_);
  ASSERT_FALSE(again);
  EXPECT_EQ(again.error().os_errno, EEXIST);
  HelperPolicy of_another = policy_;
  of_another.uid = policy_.uid + 1;
  EXPECT_FALSE(perform(request_for(Request::Kind::remove, path), -1, of_another));
  EXPECT_TRUE(perform(request_for(Request::Kind::remove, path), -1, policy_));
  EXPECT_FALSE(fs::exists(path));
  EXPECT_FALSE(perform(request_for(Request::Kind::create, "/dev/made"), -1, policy_));
}

TEST_F(HelperFiles, BindsTcpSocketsOnly) {
  const UniqueFd datagrams(::socket(AF_INET, SOCK_DGRAM, 0)), six(::socket(AF_INET6, SOCK_STREAM, 0)),
      file(::open("/dev/null", O_RDWR));
  EXPECT_FALSE(perform(bind_request(860), datagrams.get(), policy_));
  EXPECT_FALSE(perform(bind_request(860), six.get(), policy_));
  EXPECT_FALSE(perform(bind_request(860), file.get(), policy_));
}

// --- the process

class HelperProcess : public HelperFiles {
 protected:
  void SetUp() override {
    HelperFiles::SetUp();
    if (::geteuid() != 0) GTEST_SKIP() << "a root helper needs root";
  }
};

TEST_F(HelperProcess, OpensForItsServerAndEndsWithIt) {
  const std::string path = make("disk");
  auto helper = HelperAccess::start(policy_);
  ASSERT_TRUE(helper);
  const auto fd = (*helper)->open(path, O_RDWR);
  ASSERT_TRUE(fd) << fd.error().message;
  const auto again = (*helper)->open("/proc/self/fd/" + std::to_string(fd->get()), O_RDWR);
  ASSERT_TRUE(again) << again.error().message;
  const auto refused = (*helper)->open("/etc/shadow", O_RDONLY);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("/etc/shadow is not below"), std::string::npos)
      << refused.error().message;
  const auto missing = (*helper)->open(folder_ / "missing", O_RDWR);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, Errc::not_found);
  const pid_t pid = (*helper)->pid();
  helper->reset();
  EXPECT_NE(::kill(pid, 0), 0);
}

TEST_F(HelperProcess, OneThatHasBeenKilledIsAnError) {
  auto helper = HelperAccess::start(policy_);
  ASSERT_TRUE(helper);
  ASSERT_EQ(::kill((*helper)->pid(), SIGKILL), 0);
  for (int i = 0; i < 2; ++i) {
    const auto fd = (*helper)->open(make("disk"), O_RDWR);
    ASSERT_FALSE(fd);
    EXPECT_NE(fd.error().message.find("root helper has ended"), std::string::npos) << fd.error().message;
  }
}

// Whatever comes is answered, and leaves no descriptor behind.
TEST_F(HelperProcess, OutlivesNonsense) {
  auto helper =
      runtime::posix::fork_helper("perilune-test", [&](int socket) { run_helper(socket, policy_); });
  ASSERT_TRUE(helper);
  const int ours = helper->socket.get();
  const std::string path = make("disk");
  std::mt19937 random(20260101);
  std::vector<std::uint8_t> bytes(2 * sizeof(Request));
  const auto exchange = [&](const void* message, std::size_t length, int fd, Reply& reply) {
    EXPECT_TRUE(runtime::posix::send_with_descriptors(ours, message, length, {&fd, fd < 0 ? 0U : 1U}));
    std::vector<UniqueFd> received;
    pollfd waiting{ours, POLLIN, 0};
    EXPECT_EQ(::poll(&waiting, 1, 30'000), 1);
    return runtime::posix::receive_with_descriptors(ours, &reply, sizeof reply, received) ==
           static_cast<ssize_t>(sizeof reply);
  };
  const UniqueFd carried(::open("/dev/null", O_RDONLY));
  Reply reply;
  for (int round = 0; round < 2000; ++round) {
    Request request =
        request_for(static_cast<Request::Kind>(random() % 8), path, static_cast<int>(random() % 4));
    std::memcpy(bytes.data(), &request, sizeof request);
    for (unsigned flips = random() % 8; flips > 0; --flips)
      bytes[random() % (round % 2 == 0 ? sizeof request : 32)] = static_cast<std::uint8_t>(random());
    const std::size_t length = round % 3 == 0 ? 1 + random() % bytes.size() : sizeof request;
    ASSERT_TRUE(exchange(bytes.data(), length, random() % 3 == 0 ? carried.get() : -1, reply)) << round;
  }
  make("disk");                  // somebody may have had it removed
  for (int i = 0; i < 2; ++i) {  // and still does its work
    Request request = request_for(Request::Kind::open, path);
    request.number = 4711;
    ASSERT_TRUE(exchange(&request, sizeof request, -1, reply));
    EXPECT_EQ(reply.number, 4711u);
    EXPECT_EQ(reply.failed, 0u);
  }
  // It closes its copy of what it gave away after it has answered: once the next answer is there, that has
  // happened.
  const Request refused = request_for(Request::Kind::open, "not/absolute");
  ASSERT_TRUE(exchange(&refused, sizeof refused, -1, reply));
  EXPECT_NE(reply.failed, 0u);
  std::error_code error;  // where this test may not look
  const fs::directory_iterator files("/proc/" + std::to_string(helper->pid) + "/fd", error);
  if (!error) {
    EXPECT_EQ(std::distance(begin(files), end(files)), 4);  // three times /dev/null, and the socket
  }
  helper->socket.reset();
  int status = 0;
  ASSERT_EQ(::waitpid(helper->pid, &status, 0), helper->pid);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace perilune::control::privilege
