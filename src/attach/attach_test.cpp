// SPDX-License-Identifier: Apache-2.0
// Attachments on the real kernel: FUSE, loop devices, file systems. Needs root, /dev/fuse and
// /dev/loop-control.
#include "attach/attach.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <condition_variable>
#include <cstdlib>
#include <future>
#include <numeric>
#include <optional>

#include "attach/attach_test_support.hpp"
#include "attach/cleanup.hpp"
#include "attach/loop_device.hpp"
#include "attach/mounts.hpp"
#include "attach/state_file.hpp"
#include "runtime/posix/unique_fd.hpp"

namespace perilune::attach {

using runtime::posix::UniqueFd;
namespace {

using block::OpKind;
using testing::PollLoop;
using testing::RecordingDisk;
using Entry = RecordingDisk::Entry;

constexpr std::uint64_t mebibyte = 1 << 20;

// Why this machine cannot attach; empty when it can.
std::string missing_prerequisite() {
  if (::geteuid() != 0) return "needs root";
  if (::access("/dev/fuse", R_OK | W_OK) != 0) return "needs /dev/fuse";
  if (::access("/dev/loop-control", R_OK | W_OK) != 0) return "needs /dev/loop-control";
  return {};
}

bool has_command(const std::string& name) {
  return std::system(("command -v " + name + " >/dev/null 2>&1").c_str()) == 0;
}
int shell(const std::string& command) {
  const int status = std::system((command + " >/dev/null 2>&1").c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

// Waits for a condition that another thread or process brings about; a minute is for ever.
bool eventually(const std::function<bool()>& condition) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
  while (!condition()) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

// Memory that O_DIRECT accepts.
class AlignedBuffer {
 public:
  explicit AlignedBuffer(std::size_t size)
      : size_(size),
        bytes_(static_cast<std::uint8_t*>(std::aligned_alloc(4096, (size + 4095) & ~std::size_t{4095}))) {
    std::memset(bytes_, 0, size);
  }
  ~AlignedBuffer() { std::free(bytes_); }
  AlignedBuffer(const AlignedBuffer&) = delete;
  AlignedBuffer& operator=(const AlignedBuffer&) = delete;
  void fill(std::uint8_t first) {
    for (std::size_t i = 0; i < size_; ++i) bytes_[i] = static_cast<std::uint8_t>(first + i * 7 + i / 4096);
  }
  std::uint8_t* data() { return bytes_; }
  std::size_t size() const { return size_; }
  bool operator==(const AlignedBuffer& other) const {
    return size_ == other.size_ && std::memcmp(bytes_, other.bytes_, size_) == 0;
  }

 private:
  std::size_t size_;
  std::uint8_t* bytes_;
};

std::string make_run_dir() {
  char path[] = "/tmp/perilune-attach-test.XXXXXX";
  return ::mkdtemp(path) != nullptr ? path : std::string();
}

// An attachment whose loop runs on a thread of its own; every call of the test is made elsewhere, as the
// host's are.
class Served {
 public:
  explicit Served(RecordingDisk& disk, AttachOptions options) : disk_(disk) {
    // Shared: set_value() may still be at work when the waiter goes on.
    const auto ready = std::make_shared<std::promise<Result<std::string>>>();
    auto answer = ready->get_future();
    thread_ = std::thread([this] { loop_.run(); });
    on_loop([&] {
      attachment_ = Attachment::start(loop_, disk_, std::move(options), [ready](Result<std::string> device) {
        ready->set_value(std::move(device));
      });
    });
    device_ = answer.get();
  }
  ~Served() {
    if (device_ && !detached_) {
      on_loop([this] { disk_.release_all(); });
      static_cast<void>(detach(DetachMode::force));
    }
    on_loop([this] { attachment_.reset(); });
    loop_.stop();
    thread_.join();
  }

  Status detach(DetachMode mode) {
    const auto done = std::make_shared<std::promise<Status>>();
    auto answer = done->get_future();
    on_loop(
        [&] { attachment_->detach(mode, [done](Status status) { done->set_value(std::move(status)); }); });
    Status status = answer.get();
    detached_ = detached_ || status.has_value();
    return status;
  }
  void on_loop(const std::function<void()>& work) {
    const auto done = std::make_shared<std::promise<void>>();
    loop_.post([done, &work] {
      work();
      done->set_value();
    });
    done->get_future().get();
  }
  const Result<std::string>& device() const { return device_; }
  const std::string& path() const { return *device_; }
  std::string name() const { return path().substr(5); }
  Attachment& attachment() { return *attachment_; }

 private:
  RecordingDisk& disk_;
  PollLoop loop_;
  std::thread thread_;
  std::unique_ptr<Attachment> attachment_;
  Result<std::string> device_ = fail(Errc::internal, "not started");
  bool detached_ = false;
};

// Whether the loop device still serves this attachment; by now the number may be another test's.
bool is_bound_to(int number, const AttachRecord& record) {
  return loop_label(number) == std::string(device_label_prefix) + record.id;
}

class AttachTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string reason = missing_prerequisite(); !reason.empty()) GTEST_SKIP() << reason;
    run_dir_ = make_run_dir();
    ASSERT_FALSE(run_dir_.empty());
  }
  void TearDown() override {
    if (run_dir_.empty()) return;
    served_.reset();
    static_cast<void>(clean_up(run_dir_, [](const std::string&) {}));
    ::rmdir(mount_point().c_str());
    EXPECT_EQ(0, ::rmdir(run_dir_.c_str())) << "something was left in " << run_dir_;
  }
  // Lives as long as the test, so longer than what serves it.
  RecordingDisk& make_disk(std::uint64_t blocks, std::uint32_t block_size = 512) {
    return disks_.emplace_back(blocks, block_size);
  }
  AttachOptions options() const {
    AttachOptions made;
    made.name = "ram:test";
    made.driver = Driver::fuse;
    made.run_dir = run_dir_;
    return made;
  }
  void attach(RecordingDisk& disk) { attach(disk, options()); }
  void attach(RecordingDisk& disk, AttachOptions with) {
    served_ = std::make_unique<Served>(disk, std::move(with));
    ASSERT_TRUE(served_->device()) << served_->device().error().message;
  }
  std::string mount_point() const { return run_dir_ + ".mnt"; }
  UniqueFd open_device(int flags) const {
    return UniqueFd(::open(served_->path().c_str(), flags | O_CLOEXEC));
  }
  std::string queue(const std::string& name) const {
    return read_small_file("/sys/block/" + served_->name() + "/queue/" + name);
  }

  std::string run_dir_;
  std::list<RecordingDisk> disks_;
  std::unique_ptr<Served> served_;
};

TEST_F(AttachTest, DeviceHasTheSizeAndTheLimitsOfTheUnit) {
  RecordingDisk& disk = make_disk(16 * mebibyte / 512);
  attach(disk);
  const UniqueFd fd = open_device(O_RDONLY);
  ASSERT_TRUE(fd.valid());
  std::uint64_t size = 0;
  ASSERT_EQ(0, ::ioctl(fd.get(), BLKGETSIZE64, &size));
  EXPECT_EQ(16 * mebibyte, size);
  EXPECT_EQ("512", queue("logical_block_size"));
  EXPECT_EQ("4096", queue("discard_granularity"));
  EXPECT_NE("0", queue("discard_max_bytes"));
  EXPECT_EQ("1024", queue("max_sectors_kb"));
  EXPECT_EQ("write back", queue("write_cache"));
}

TEST_F(AttachTest, BlocksOf4096BytesBecomeTheLogicalBlockSize) {
  RecordingDisk& disk = make_disk(16 * mebibyte / 4096, 4096);
  attach(disk);
  EXPECT_EQ("4096", queue("logical_block_size"));
  const UniqueFd fd = open_device(O_RDWR | O_DIRECT);
  AlignedBuffer out(mebibyte), in(mebibyte);
  out.fill(3);
  ASSERT_EQ(static_cast<ssize_t>(mebibyte), ::pwrite(fd.get(), out.data(), mebibyte, 8192));
  ASSERT_EQ(static_cast<ssize_t>(mebibyte), ::pread(fd.get(), in.data(), mebibyte, 8192));
  EXPECT_EQ(out, in);
  EXPECT_EQ(0, std::memcmp(out.data(), disk.bytes().data() + 8192, mebibyte));
}

// A buffer that begins inside a page makes the kernel split the request inside a block.
TEST_F(AttachTest, BuffersThatBeginInsideAPageAreWrittenRight) {
  RecordingDisk& disk = make_disk(16 * mebibyte / 4096, 4096);
  attach(disk);
  const UniqueFd fd = open_device(O_RDWR | O_DIRECT);
  AlignedBuffer out(5 * mebibyte), in(5 * mebibyte);
  out.fill(11);
  constexpr std::size_t length = 4 * mebibyte;
  ASSERT_EQ(static_cast<ssize_t>(length), ::pwrite(fd.get(), out.data() + 512, length, 4096));
  EXPECT_EQ(0, std::memcmp(out.data() + 512, disk.bytes().data() + 4096, length));
  ASSERT_EQ(static_cast<ssize_t>(length), ::pread(fd.get(), in.data() + 512, length, 4096));
  EXPECT_EQ(0, std::memcmp(out.data() + 512, in.data() + 512, length));
}

TEST_F(AttachTest, WrittenBytesAreReadBackInEverySize) {
  RecordingDisk& disk = make_disk(16 * mebibyte / 512);
  attach(disk);
  const UniqueFd fd = open_device(O_RDWR | O_DIRECT);
  ASSERT_TRUE(fd.valid());
  for (const std::size_t size : {std::size_t{512}, std::size_t{4096}, std::size_t{66048},
                                 std::size_t{mebibyte}, std::size_t{3 * mebibyte}}) {
    AlignedBuffer out(size), in(size);
    out.fill(static_cast<std::uint8_t>(size / 512));
    ASSERT_EQ(static_cast<ssize_t>(size), ::pwrite(fd.get(), out.data(), size, 512 * 9));
    ASSERT_EQ(static_cast<ssize_t>(size), ::pread(fd.get(), in.data(), size, 512 * 9));
    EXPECT_EQ(out, in);
    EXPECT_EQ(0, std::memcmp(out.data(), disk.bytes().data() + 512 * 9, size));
  }
}

TEST_F(AttachTest, FsyncReturnsAfterTheFlushHasEnded) {
  RecordingDisk& disk = make_disk(16 * mebibyte / 512);
  attach(disk);
  const UniqueFd fd = open_device(O_RDWR | O_DIRECT);
  AlignedBuffer out(4096);
  ASSERT_EQ(4096, ::pwrite(fd.get(), out.data(), 4096, 0));
  served_->on_loop([&] {
    disk.forget();
    disk.hold(OpKind::flush);
  });
  std::atomic<bool> returned{false};
  std::thread caller([&] {
    EXPECT_EQ(0, ::fsync(fd.get()));
    returned = true;
  });
  EXPECT_TRUE(eventually([&] { return disk.held() == 1; }));
  EXPECT_FALSE(returned);
  served_->on_loop([&] { disk.release_all(); });
  caller.join();
  EXPECT_EQ(1u, disk.count(OpKind::flush));
}

// The loop device has no FUA: a durable write (O_DSYNC, as a journal's commit block) is WRITE, then FSYNC.
TEST_F(AttachTest, ADurableWriteIsAWriteThenAFlushBeforeItReturns) {
  RecordingDisk& disk = make_disk(16 * mebibyte / 512);
  attach(disk);
  const UniqueFd fd = open_device(O_RDWR | O_DIRECT | O_DSYNC);
  served_->on_loop([&] { disk.forget(); });
  AlignedBuffer out(4096);
  ASSERT_EQ(4096, ::pwrite(fd.get(), out.data(), 4096, 65536));
  auto record = disk.record();
  ASSERT_GE(record.size(), 4u);
  EXPECT_TRUE(record.back().ended);
  record.resize(4);  // O_DSYNC may add a flush of its own
  EXPECT_EQ((std::vector<Entry>{{OpKind::write, 128, 8, false},
                                {OpKind::write, 128, 8, true},
                                {OpKind::flush, 0, 0, false},
                                {OpKind::flush, 0, 0, true}}),
            record);
}

TEST_F(AttachTest, DiscardReachesTheUnitAsUnmap) {
  RecordingDisk& disk = make_disk(16 * mebibyte / 512);
  std::fill(disk.bytes().begin(), disk.bytes().end(), std::uint8_t{0xff});
  attach(disk);
  const UniqueFd fd = open_device(O_RDWR);
  served_->on_loop([&] { disk.forget(); });
  std::uint64_t range[2] = {mebibyte, 2 * mebibyte};
  ASSERT_EQ(0, ::ioctl(fd.get(), BLKDISCARD, range));
  EXPECT_EQ((std::vector<Entry>{{OpKind::unmap, 2048, 4096, false}, {OpKind::unmap, 2048, 4096, true}}),
            disk.record());
  EXPECT_EQ(0xff, disk.bytes()[mebibyte - 1]);
  EXPECT_EQ(0, disk.bytes()[mebibyte]);
  EXPECT_EQ(0xff, disk.bytes()[3 * mebibyte]);
}

TEST_F(AttachTest, ZeroOutReachesTheUnitAsWriteZeroes) {
  RecordingDisk& disk = make_disk(16 * mebibyte / 512);
  std::fill(disk.bytes().begin(), disk.bytes().end(), std::uint8_t{0xff});
  attach(disk);
  const UniqueFd fd = open_device(O_RDWR);
  served_->on_loop([&] { disk.forget(); });
  std::uint64_t range[2] = {mebibyte, mebibyte};
  ASSERT_EQ(0, ::ioctl(fd.get(), BLKZEROOUT, range));
  EXPECT_EQ((std::vector<Entry>{{OpKind::write_zeroes, 2048, 2048, false},
                                {OpKind::write_zeroes, 2048, 2048, true}}),
            disk.record());
  EXPECT_EQ(0, disk.bytes()[mebibyte]);
}

TEST_F(AttachTest, ReadErrorsReachTheReader) {
  RecordingDisk& disk = make_disk(16 * mebibyte / 512);
  attach(disk);
  const UniqueFd fd = open_device(O_RDONLY | O_DIRECT);
  AlignedBuffer in(4096);
  served_->on_loop([&] { disk.fail_next(OpKind::read, block::OpStatus::read_error); });
  EXPECT_EQ(-1, ::pread(fd.get(), in.data(), 4096, 0));
  EXPECT_EQ(EIO, errno);
  EXPECT_EQ(4096, ::pread(fd.get(), in.data(), 4096, 0));
}

TEST_F(AttachTest, IoIsHeldWhileTheChannelHoldsItAndGoesOn) {
  RecordingDisk& disk = make_disk(16 * mebibyte / 512);
  attach(disk);
  const UniqueFd fd = open_device(O_RDWR | O_DIRECT);
  served_->on_loop([&] { disk.hold_all(); });
  std::vector<std::thread> writers;
  std::atomic<unsigned> ended{0};
  for (int i = 0; i < 8; ++i) {
    writers.emplace_back([&, i] {
      AlignedBuffer out(65536);
      out.fill(static_cast<std::uint8_t>(i));
      EXPECT_EQ(65536, ::pwrite(fd.get(), out.data(), 65536, i * 65536));
      ++ended;
    });
  }
  EXPECT_TRUE(eventually([&] { return disk.held() == 8; })) << "all of them are in flight at once";
  EXPECT_EQ(0u, ended);
  served_->on_loop([&] { disk.release_all(); });
  for (std::thread& writer : writers) writer.join();
  EXPECT_EQ(8u, disk.count(OpKind::write));
}

TEST_F(AttachTest, ReadOnlyDeviceRefusesWrites) {
  RecordingDisk& disk = make_disk(16 * mebibyte / 512);
  AttachOptions with = options();
  with.read_only = true;
  attach(disk, with);
  EXPECT_EQ("1", read_small_file("/sys/block/" + served_->name() + "/ro"));
  const UniqueFd fd = open_device(O_RDWR);  // root may open it, on some kernels
  AlignedBuffer block(4096);
  EXPECT_LT(::pwrite(fd.get(), block.data(), 4096, 0), 0);
  const UniqueFd reader = open_device(O_RDONLY);
  EXPECT_EQ(4096, ::pread(reader.get(), block.data(), 4096, 0));
  EXPECT_EQ(0u, disk.count(OpKind::write));
}

TEST_F(AttachTest, FileSystemLivesOnThePartitionOfTheDevice) {
  if (!has_command("mkfs.ext4") || !has_command("parted") || !has_command("partx")) {
    GTEST_SKIP() << "needs e2fsprogs, parted and util-linux";
  }
  RecordingDisk& disk = make_disk(64 * mebibyte / 512);
  attach(disk);
  ASSERT_EQ(0, shell("parted -s " + served_->path() + " mklabel gpt mkpart data 1MiB 100%"));
  const std::string partition = served_->path() + "p1";
  ASSERT_TRUE(eventually([&] { return ::access(partition.c_str(), F_OK) == 0; }));
  ASSERT_EQ(0, shell("mkfs.ext4 -q -F " + partition));
  ASSERT_EQ(0, ::mkdir(mount_point().c_str(), 0700));
  ASSERT_EQ(0, ::mount(partition.c_str(), mount_point().c_str(), "ext4", 0, "discard"));
  ASSERT_EQ(0,
            shell("cp -a /usr/share/common-licenses " + mount_point() + "/tree && sync -f " + mount_point()));
  const auto busy = served_->detach(DetachMode::refuse_if_used);
  ASSERT_FALSE(busy);
  EXPECT_EQ(Errc::busy, busy.error().code);
  EXPECT_EQ(partition + " is mounted on " + mount_point(), busy.error().message);
  ASSERT_EQ(0, ::umount(mount_point().c_str()));
  EXPECT_TRUE(served_->detach(DetachMode::refuse_if_used));
  EXPECT_GT(disk.count(OpKind::flush), 0u);
  EXPECT_NE(0, ::access(partition.c_str(), F_OK));

  attach(disk);  // another attachment of the same disk finds its partition and its files
  ASSERT_TRUE(eventually([&] { return ::access((served_->path() + "p1").c_str(), F_OK) == 0; }));
  ASSERT_EQ(0, ::mount((served_->path() + "p1").c_str(), mount_point().c_str(), "ext4", MS_RDONLY, nullptr));
  EXPECT_EQ(0, shell("diff -r /usr/share/common-licenses " + mount_point() + "/tree"));
  ASSERT_EQ(0, ::umount(mount_point().c_str()));
}

TEST_F(AttachTest, DetachLeavesNothing) {
  RecordingDisk& disk = make_disk(16 * mebibyte / 512);
  attach(disk);
  const int number = *parse_loop_device(served_->path());
  const auto records = read_records(run_dir_);
  ASSERT_EQ(1u, records.size());
  EXPECT_EQ(served_->path(), records[0].device);
  EXPECT_EQ("ram:test", records[0].name);
  EXPECT_TRUE(is_alive(records[0]));
  struct stat st {};
  ASSERT_EQ(0, ::stat(records[0].path.c_str(), &st));
  EXPECT_EQ(0600u, st.st_mode & 0777u);
  ASSERT_TRUE(served_->detach(DetachMode::refuse_if_used));
  EXPECT_FALSE(is_bound_to(number, records[0]));
  EXPECT_TRUE(read_records(run_dir_).empty());
  const auto mounts = read_mounts();
  ASSERT_TRUE(mounts);
  for (const Mount& mount : *mounts)
    EXPECT_FALSE(mount.mount_point.starts_with(run_dir_)) << mount.mount_point;
}

TEST_F(AttachTest, DirtyPagesOfTheDeviceReachTheUnitBeforeItIsDetached) {
  RecordingDisk& disk = make_disk(16 * mebibyte / 512);
  attach(disk);
  {
    const UniqueFd fd = open_device(O_RDWR);
    AlignedBuffer out(65536);
    out.fill(77);
    ASSERT_EQ(65536, ::pwrite(fd.get(), out.data(), 65536, 0));
  }
  ASSERT_TRUE(served_->detach(DetachMode::refuse_if_used));
  AlignedBuffer expected(65536);
  expected.fill(77);
  EXPECT_EQ(0, std::memcmp(expected.data(), disk.bytes().data(), 65536));
  EXPECT_EQ(OpKind::flush, disk.record().back().kind);
}

TEST_F(AttachTest, RefusedDetachIsToldInTheRecordAndTheDeviceWorksOn) {
  RecordingDisk& disk = make_disk(64 * mebibyte / 512);
  attach(disk);
  const UniqueFd claim = open_device(O_RDWR | O_EXCL);
  ASSERT_TRUE(claim.valid());
  EXPECT_FALSE(served_->detach(DetachMode::refuse_if_used));
  EXPECT_EQ(AttachState::ready, served_->attachment().state());
  const auto records = read_records(run_dir_);
  ASSERT_EQ(1u, records.size());
  EXPECT_EQ(1u, records[0].refusals);
  EXPECT_NE(std::string::npos, records[0].refusal.find("in use")) << records[0].refusal;
  AlignedBuffer in(4096);
  EXPECT_EQ(4096, ::pread(claim.get(), in.data(), 4096, 0));
}

TEST_F(AttachTest, ForcedDetachUnmounts) {
  if (!has_command("mkfs.ext4")) GTEST_SKIP() << "needs e2fsprogs";
  RecordingDisk& disk = make_disk(64 * mebibyte / 512);
  attach(disk);
  ASSERT_EQ(0, shell("mkfs.ext4 -q -F " + served_->path()));
  ASSERT_EQ(0, ::mkdir(mount_point().c_str(), 0700));
  ASSERT_EQ(0, ::mount(served_->path().c_str(), mount_point().c_str(), "ext4", 0, nullptr));
  EXPECT_TRUE(served_->detach(DetachMode::force));
  EXPECT_NE(0, ::umount(mount_point().c_str()));
}

TEST_F(AttachTest, AFailedStartSaysWhyAndLeavesNothing) {
  RecordingDisk& odd = make_disk(1024, 520);
  Served refused(odd, options());
  ASSERT_FALSE(refused.device());
  EXPECT_EQ(Errc::unsupported, refused.device().error().code);
  EXPECT_EQ(AttachState::failed, refused.attachment().state());
  RecordingDisk& disk = make_disk(1024);
  AttachOptions nowhere = options();
  nowhere.run_dir = "/proc/nowhere";
  Served failed(disk, nowhere);
  ASSERT_FALSE(failed.device());
  EXPECT_NE(std::string::npos, failed.device().error().message.find("/proc/nowhere"));
  EXPECT_TRUE(read_records(run_dir_).empty());
}

// --- a killed server

// A process that serves a disk until it is killed.
class Victim {
 public:
  explicit Victim(const std::string& run_dir) {
    int pair[2];
    EXPECT_EQ(0, ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair));
    ours_ = UniqueFd(pair[0]);
    const UniqueFd theirs(pair[1]);
    pid_ = ::fork();
    if (pid_ == 0) serve(run_dir, theirs.get());
    device_ = receive();
  }
  ~Victim() {
    if (pid_ > 0) kill();
  }
  // Holds everything that comes from now on; returns when it holds something.
  void hold_and_wait() {
    EXPECT_EQ(1, ::send(ours_.get(), "h", 1, 0));
    EXPECT_EQ("holding", receive());
  }
  void kill() {
    ::kill(pid_, SIGKILL);
    int status = 0;
    EXPECT_EQ(pid_, ::waitpid(pid_, &status, 0));
    EXPECT_TRUE(WIFSIGNALED(status));
    pid_ = -1;
  }
  const std::string& device() const { return device_; }

 private:
  [[noreturn]] static void serve(const std::string& run_dir, int socket) {
    RecordingDisk disk(64 * mebibyte / 512);
    AttachOptions with;
    with.name = "ram:victim";
    with.run_dir = run_dir;
    Served served(disk, with);
    const std::string answer = served.device() ? *served.device() : served.device().error().message;
    static_cast<void>(::send(socket, answer.data(), answer.size(), 0));
    char command = 0;
    if (::recv(socket, &command, 1, 0) == 1) {
      served.on_loop([&] { disk.hold_all(); });
      static_cast<void>(eventually([&] { return disk.held() > 0; }));
      static_cast<void>(::send(socket, "holding", 7, 0));
    }
    for (;;) ::pause();
  }
  std::string receive() const {
    char answer[512];
    const ssize_t n = ::recv(ours_.get(), answer, sizeof answer, 0);
    return {answer, n > 0 ? static_cast<std::size_t>(n) : 0};
  }

  UniqueFd ours_;
  pid_t pid_ = -1;
  std::string device_;
};

TEST_F(AttachTest, KilledServerUnderAMountedFileSystemIsCleanedUp) {
  if (!has_command("mkfs.ext4")) GTEST_SKIP() << "needs e2fsprogs";
  Victim victim(run_dir_);
  ASSERT_TRUE(victim.device().starts_with("/dev/loop")) << victim.device();
  const int number = *parse_loop_device(victim.device());
  const auto records = read_records(run_dir_);
  ASSERT_EQ(1u, records.size());
  ASSERT_TRUE(is_bound_to(number, records[0]));
  ASSERT_EQ(0, shell("mkfs.ext4 -q -F -E lazy_itable_init=0 " + victim.device()));
  ASSERT_EQ(0, ::mkdir(mount_point().c_str(), 0700));
  ASSERT_EQ(0, ::mount(victim.device().c_str(), mount_point().c_str(), "ext4", 0, nullptr));
  // A writer that is in the kernel, waiting for a server that holds its writes, when it dies.
  std::thread writer(
      [this] { shell("dd if=/dev/zero of=" + mount_point() + "/file bs=1M count=16 conv=fsync"); });
  victim.hold_and_wait();
  victim.kill();
  writer.join();

  std::vector<std::string> lines;
  const auto report = clean_up(run_dir_, [&](const std::string& line) { lines.push_back(line); });
  ASSERT_TRUE(report) << report.error().message;
  EXPECT_EQ(0u, report->failed);
  ASSERT_EQ(4u, lines.size()) << ::testing::PrintToString(lines);
  EXPECT_EQ("unmounted " + mount_point() + " (file system on " + victim.device() + ")", lines[0]);
  EXPECT_EQ("detached " + victim.device(), lines[1]);
  EXPECT_TRUE(lines[2].starts_with("unmounted " + run_dir_ + "/")) << lines[2];
  EXPECT_TRUE(lines[3].starts_with("removed " + run_dir_ + "/")) << lines[3];
  EXPECT_FALSE(is_bound_to(number, records[0]));
  lines.clear();
  const auto again = clean_up(run_dir_, [&](const std::string& line) { lines.push_back(line); });
  ASSERT_TRUE(again);
  EXPECT_EQ(0u, again->removed) << ::testing::PrintToString(lines);
}

TEST_F(AttachTest, LeftoversWithoutARecordAreFound) {
  Victim victim(run_dir_);
  ASSERT_TRUE(victim.device().starts_with("/dev/loop")) << victim.device();
  const int number = *parse_loop_device(victim.device());
  const auto records = read_records(run_dir_);
  ASSERT_EQ(1u, records.size());
  ASSERT_EQ(0, ::unlink(records[0].path.c_str()));
  victim.kill();
  const auto report = clean_up(run_dir_, [](const std::string&) {});
  ASSERT_TRUE(report);
  EXPECT_EQ(0u, report->failed);
  EXPECT_FALSE(is_bound_to(number, records[0]));
}

// Somebody has unmounted the FUSE mount of a dead server already: only the label tells whose the loop device
// was.
TEST_F(AttachTest, LoopDeviceWhoseMountIsGoneIsFoundByItsLabel) {
  Victim victim(run_dir_);
  ASSERT_TRUE(victim.device().starts_with("/dev/loop")) << victim.device();
  const int number = *parse_loop_device(victim.device());
  const auto records = read_records(run_dir_);
  ASSERT_EQ(1u, records.size());
  victim.kill();
  ASSERT_EQ(0, ::umount2(records[0].mount_point.c_str(), MNT_DETACH));
  ASSERT_EQ(0, ::unlink(records[0].path.c_str()));
  const auto report = clean_up(run_dir_, [](const std::string&) {});
  ASSERT_TRUE(report);
  EXPECT_FALSE(is_bound_to(number, records[0]));
}

TEST_F(AttachTest, CleanUpLeavesTheLivingAlone) {
  RecordingDisk& disk = make_disk(16 * mebibyte / 512);
  attach(disk);
  const auto report = clean_up(run_dir_, [](const std::string&) {});
  ASSERT_TRUE(report);
  EXPECT_EQ(0u, report->removed);
  const UniqueFd fd = open_device(O_RDONLY | O_DIRECT);
  AlignedBuffer in(4096);
  EXPECT_EQ(4096, ::pread(fd.get(), in.data(), 4096, 0));
  // Nor when its record is lost: the mount answers.
  const auto records = read_records(run_dir_);
  ASSERT_EQ(1u, records.size());
  const std::string kept = encode(records[0]);
  ASSERT_EQ(0, ::unlink(records[0].path.c_str()));
  const auto second = clean_up(run_dir_, [](const std::string&) {});
  ASSERT_TRUE(second);
  EXPECT_EQ(0u, second->removed);
  EXPECT_EQ(4096, ::pread(fd.get(), in.data(), 4096, 4096));
  ASSERT_TRUE(write_record_text(records[0].path, kept));
}

}  // namespace
}  // namespace perilune::attach
