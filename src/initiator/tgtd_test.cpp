// SPDX-License-Identifier: Apache-2.0
// Against a real target that we did not write: discovery, login, CHAP both ways, digests, I/O, a target that
// dies.
#include <fcntl.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <netinet/in.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <numeric>
#include <thread>

#include "initiator/sync.hpp"
#include "runtime/native/native_loop.hpp"
#include "initiator/tgtd_fixture.hpp"

extern char** environ;

namespace perilune::initiator {

namespace {

int spawn(std::vector<std::string> arguments) {
  std::vector<char*> argv;
  for (auto& a : arguments) argv.push_back(a.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  pid_t pid = -1;
  const int error = posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  return error == 0 ? pid : -1;
}

bool run_to_end(std::vector<std::string> arguments) {
  const int pid = spawn(std::move(arguments));
  int status = 0;
  return pid > 0 && ::waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

std::uint16_t free_port() {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t length = sizeof address;
  ::bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address);
  ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  ::close(fd);
  return ntohs(address.sin_port);
}

std::vector<std::uint8_t> pattern(std::size_t bytes, std::uint32_t seed) {
  std::vector<std::uint8_t> out(bytes);
  for (auto& b : out) b = static_cast<std::uint8_t>((seed = seed * 1664525 + 1013904223) >> 24);
  return out;
}

}  // namespace

bool Tgtd::available() { return ::geteuid() == 0 && std::filesystem::exists("/usr/sbin/tgtd"); }

Tgtd::Tgtd() {
  if (!available()) return;
  control_ = 1000 + static_cast<int>(::getpid() % 20000);
  port_ = free_port();
  disk_ = testing::TempDir() + "perilune_tgtd_" + std::to_string(::getpid()) + ".img";
  const int fd = ::open(disk_.c_str(), O_CREAT | O_RDWR, 0600);
  EXPECT_EQ(::ftruncate(fd, 64 << 20), 0);
  ::close(fd);
  start();
}

Tgtd::~Tgtd() {
  stop();
  if (!disk_.empty()) std::filesystem::remove(disk_);
}

bool Tgtd::admin(std::vector<std::string> arguments) {
  std::vector<std::string> all = {"tgtadm", "-C", std::to_string(control_)};
  all.insert(all.end(), arguments.begin(), arguments.end());
  return run_to_end(std::move(all));
}

void Tgtd::start() {
  pid_ = spawn(
      {"tgtd", "-f", "-C", std::to_string(control_), "--iscsi", "portal=127.0.0.1:" + std::to_string(port_)});
  ASSERT_GT(pid_, 0);
  for (int i = 0; i < 400 && !admin({"--op", "show", "--mode", "sys"}); ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(25));
  }
  ASSERT_TRUE(admin({"--lld", "iscsi", "--op", "new", "--mode", "target", "--tid", "1", "-T", target}));
  ASSERT_TRUE(admin({"--lld", "iscsi", "--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b", disk_}));
  ASSERT_TRUE(admin({"--lld", "iscsi", "--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL"}));
}

void Tgtd::stop() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  int status = 0;
  ::waitpid(pid_, &status, 0);
  pid_ = -1;
  std::error_code ignored;
  std::filesystem::remove("/var/run/tgtd/socket." + std::to_string(control_), ignored);
  std::filesystem::remove("/var/run/tgtd/socket." + std::to_string(control_) + ".lock", ignored);
}

runtime::Endpoint Tgtd::portal() const { return *runtime::Endpoint::parse("127.0.0.1", port_); }

SessionConfig Tgtd::config() const {
  SessionConfig config;
  config.initiator_name = "iqn.2026-11.io.perilune:test";
  config.target_name = target;
  config.portal = portal();
  return config;
}

namespace {

class TgtdTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!Tgtd::available()) GTEST_SKIP() << "tgtd is not installed, or not root";
    tgtd_ = std::make_unique<Tgtd>();
    auto loop = runtime::make_native_loop(runtime::Runtime::automatic, {});
    ASSERT_TRUE(loop) << loop.error().message;
    thread_ = LoopThread::start(std::move(*loop));
  }
  void TearDown() override {
    thread_.reset();
    tgtd_.reset();
  }

  // Writes and reads back at several sizes, then through plain SCSI.
  void verify_io(SyncSession& session) {
    auto info = session.scan_one(lun_bytes(1));
    ASSERT_TRUE(info) << info.error().message;
    ASSERT_TRUE(info->ready);
    EXPECT_EQ(info->geometry.blocks.value() * info->geometry.block_size_bytes, 64u << 20);
    SyncUnit unit(*thread_, session, *info);
    std::uint32_t seed = 7;
    for (std::size_t bytes : {std::size_t{512}, std::size_t{4096}, std::size_t{65536}, std::size_t{262144},
                              std::size_t{1} << 20, std::size_t{9} << 20}) {
      const auto data = pattern(bytes, ++seed);
      auto written = unit.write(Lba(2048), data, bytes == 4096);
      ASSERT_TRUE(written) << written.error().message << " at " << bytes;
      std::vector<std::uint8_t> back(bytes);
      auto read = unit.read(Lba(2048), back);
      ASSERT_TRUE(read) << read.error().message << " at " << bytes;
      ASSERT_EQ(back, data) << bytes;
    }
    EXPECT_TRUE(unit.flush());
    EXPECT_FALSE(unit.read(Lba(info->geometry.blocks.value()), std::span(scratch_)));
  }

  std::unique_ptr<Tgtd> tgtd_;
  std::unique_ptr<LoopThread> thread_;
  std::array<std::uint8_t, 512> scratch_{};
};

TEST_F(TgtdTest, DiscoversTheTargetAndItsPortal) {
  LoginFailure failure;
  auto found = discover(*thread_, tgtd_->config(), &failure);
  ASSERT_TRUE(found) << found.error().message;
  ASSERT_EQ(found->size(), 1u);
  EXPECT_EQ((*found)[0].name, Tgtd::target);
  ASSERT_EQ((*found)[0].portals.size(), 1u);
  EXPECT_EQ((*found)[0].portals[0].address, "127.0.0.1");
  EXPECT_EQ((*found)[0].portals[0].port, tgtd_->portal().port);
}

TEST_F(TgtdTest, ScansUnitsAndMovesData) {
  auto session = SyncSession::open(*thread_, tgtd_->config());
  ASSERT_TRUE(session) << session.error().message;
  auto units = (*session)->scan();
  ASSERT_TRUE(units) << units.error().message;
  ASSERT_EQ(units->size(), 2u);
  EXPECT_EQ((*units)[0].peripheral_type, 0x0c);
  EXPECT_EQ((*units)[1].vendor, "IET");
  EXPECT_FALSE((*units)[1].wwid.empty());
  verify_io(**session);
  const auto statistics = (*session)->statistics();
  EXPECT_GT(statistics.scsicmd_pdus, 10u);
  EXPECT_GT(statistics.r2t_pdus, 0u);
  EXPECT_GT(statistics.rxdata_octets, 10u << 20);
}

TEST_F(TgtdTest, MovesDataWithBothDigests) {
  for (const char* key : {"HeaderDigest", "DataDigest"}) {
    ASSERT_TRUE(tgtd_->admin({"--lld", "iscsi", "--op", "update", "--mode", "target", "--tid", "1", "-n", key, "-v", "CRC32C"}));
  }
  auto config = tgtd_->config();
  config.header_digest = config.data_digest = DigestPreference::crc32c;
  auto session = SyncSession::open(*thread_, std::move(config));
  ASSERT_TRUE(session) << session.error().message;
  EXPECT_TRUE((*session)->info().header_digest);
  EXPECT_TRUE((*session)->info().data_digest);
  verify_io(**session);
}

TEST_F(TgtdTest, MovesDataWhenEverythingIsSolicited) {
  auto config = tgtd_->config();
  config.initial_r2t = true;
  config.immediate_data = false;
  config.max_outstanding_r2t = 8;
  auto session = SyncSession::open(*thread_, std::move(config));
  ASSERT_TRUE(session) << session.error().message;
  EXPECT_TRUE((*session)->info().initial_r2t);
  verify_io(**session);
}

TEST_F(TgtdTest, AuthenticatesByChapBothWays) {
  ASSERT_TRUE(tgtd_->admin({"--lld", "iscsi", "--op", "new", "--mode", "account", "--user", "alice",
                            "--password", "alicesecret1"}));
  ASSERT_TRUE(tgtd_->admin({"--lld", "iscsi", "--op", "new", "--mode", "account", "--user", "target",
                            "--password", "targetsecret"}));
  ASSERT_TRUE(
      tgtd_->admin({"--lld", "iscsi", "--op", "bind", "--mode", "account", "--tid", "1", "--user", "alice"}));
  ASSERT_TRUE(tgtd_->admin({"--lld", "iscsi", "--op", "bind", "--mode", "account", "--tid", "1", "--user", "target", "--outgoing"}));

  LoginFailure failure;
  EXPECT_FALSE(SyncSession::open(*thread_, tgtd_->config(), &failure));
  EXPECT_EQ(failure.status_class, 2);

  auto config = tgtd_->config();
  config.chap.emplace();
  config.chap->user = "alice";
  config.chap->secret = crypto::Secret("wrongsecret12");
  EXPECT_FALSE(SyncSession::open(*thread_, config.clone(), &failure));
  EXPECT_EQ(failure.error.code, Errc::authentication) << failure.error.message;

  config.chap->secret = crypto::Secret("alicesecret1");
  {
    auto session = SyncSession::open(*thread_, config.clone(), &failure);
    ASSERT_TRUE(session) << failure.error.message;
    verify_io(**session);
  }
  config.chap->mutual_user = "target";
  config.chap->mutual_secret = crypto::Secret("nottargetsecret");
  EXPECT_FALSE(SyncSession::open(*thread_, config.clone(), &failure));
  config.chap->mutual_secret = crypto::Secret("targetsecret");
  auto session = SyncSession::open(*thread_, config.clone(), &failure);
  ASSERT_TRUE(session) << failure.error.message;
  verify_io(**session);
}

TEST_F(TgtdTest, RefusedConnectionAndUnknownTargetAreErrors) {
  LoginFailure failure;
  auto config = tgtd_->config();
  config.target_name = "iqn.2001-04.com.example:nothing";
  EXPECT_FALSE(SyncSession::open(*thread_, config.clone(), &failure));
  EXPECT_EQ(failure.status_class, 2);
  EXPECT_EQ(failure.status_detail, 3);
  tgtd_->stop();
  EXPECT_FALSE(SyncSession::open(*thread_, tgtd_->config(), &failure));
  EXPECT_EQ(failure.error.code, Errc::connection);
}

TEST_F(TgtdTest, HoldsAndReplaysWritesWhileTheTargetRestarts) {
  auto config = tgtd_->config();
  config.default_time2wait = 0;
  auto session = SyncSession::open(*thread_, std::move(config));
  ASSERT_TRUE(session) << session.error().message;
  auto info = (*session)->scan_one(lun_bytes(1));
  ASSERT_TRUE(info);
  SyncUnit unit(*thread_, **session, *info);

  std::atomic<bool> stop = false;
  std::atomic<std::uint32_t> rounds = 0;
  std::string failed;
  std::thread writer([&] {
    std::vector<std::uint8_t> back(65536);
    for (std::uint32_t i = 0; !stop; ++i) {
      const auto data = pattern(65536, i);
      if (auto written = unit.write(Lba((i % 64) * 128), data); !written) failed = written.error().message;
      if (auto read = unit.read(Lba((i % 64) * 128), back); !read) failed = read.error().message;
      if (back != data) failed = "read back something else";
      if (!failed.empty()) return;
      ++rounds;
    }
  });
  const auto wait_for = [&](std::uint32_t more) {
    const std::uint32_t from = rounds;
    for (int i = 0; i < 2000 && rounds < from + more && failed.empty(); ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    EXPECT_GE(rounds, from + more);
  };
  for (int restarts = 0; restarts < 2; ++restarts) {
    wait_for(20);
    tgtd_->stop();
    tgtd_->start();
  }
  wait_for(20);
  stop = true;
  writer.join();
  EXPECT_EQ(failed, "");
  EXPECT_GE((*session)->info().reconnects, 2u);
}

}  // namespace
}  // namespace perilune::initiator
