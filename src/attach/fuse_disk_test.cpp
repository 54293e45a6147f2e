// SPDX-License-Identifier: Apache-2.0
// FuseDisk against requests written by hand from <linux/fuse.h>, over a socket pair: no privileges needed.
#include "attach/fuse_disk.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fuse.h>
#include <sys/socket.h>

#include <numeric>

#include "attach/attach_test_support.hpp"

namespace perilune::attach {

using runtime::posix::UniqueFd;
namespace {

using block::OpKind;
using testing::PollLoop;
using testing::RecordingDisk;
using Entry = RecordingDisk::Entry;

struct Answer {
  fuse_out_header header{};
  std::vector<std::uint8_t> payload;
};

class FuseDiskTest : public ::testing::Test {
 public:
  void on_drained() { drained_ = true; }

 protected:
  // Lives as long as the test, so longer than what serves it.
  RecordingDisk& make_disk(std::uint64_t blocks, std::uint32_t block_size = 512) {
    return disks_.emplace_back(blocks, block_size);
  }
  void serve(RecordingDisk& disk, bool read_only = false, std::uint32_t pool_pages = 512) {
    int pair[2];
    ASSERT_EQ(0, ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair));
    kernel_ = UniqueFd(pair[0]);
    auto unit = Disk::create(disk, read_only);
    ASSERT_TRUE(unit) << unit.error().message;
    unit_ = std::move(*unit);
    auto made = FuseDisk::create(loop_, *unit_, pool_pages);
    ASSERT_TRUE(made) << made.error().message;
    server_ = std::move(*made);
    std::vector<UniqueFd> descriptors;
    descriptors.emplace_back(pair[1]);
    ASSERT_TRUE(server_->serve(std::move(descriptors)));
  }
  void TearDown() override {
    if (server_ == nullptr) return;
    server_->stop(Delegate<void()>::to<&FuseDiskTest::on_drained>(*this));
    for (int i = 0; i < 100 && !drained_; ++i) loop_.turn();
    EXPECT_TRUE(drained_);
  }

  template <class T>
  std::uint64_t send(std::uint32_t opcode, const T& arguments, std::uint64_t node = 2,
                     std::span<const std::uint8_t> data = {}) {
    return send_bytes(opcode, {reinterpret_cast<const std::uint8_t*>(&arguments), sizeof arguments}, node,
                      data);
  }
  std::uint64_t send_bytes(std::uint32_t opcode, Bytes arguments, std::uint64_t node = 2,
                           std::span<const std::uint8_t> data = {}) {
    fuse_in_header header{};
    header.len = static_cast<std::uint32_t>(sizeof header + arguments.size() + data.size());
    header.opcode = opcode;
    header.unique = ++unique_;
    header.nodeid = node;
    std::vector<std::uint8_t> message(sizeof header);
    std::memcpy(message.data(), &header, sizeof header);
    message.insert(message.end(), arguments.begin(), arguments.end());
    message.insert(message.end(), data.begin(), data.end());
    EXPECT_EQ(static_cast<ssize_t>(message.size()), ::send(kernel_.get(), message.data(), message.size(), 0));
    return header.unique;
  }
  std::uint64_t send_read(std::uint64_t offset, std::uint32_t size) {
    fuse_read_in in{};
    in.offset = offset;
    in.size = size;
    return send(FUSE_READ, in);
  }
  std::uint64_t send_write(std::uint64_t offset, std::span<const std::uint8_t> data) {
    fuse_write_in in{};
    in.offset = offset;
    in.size = static_cast<std::uint32_t>(data.size());
    return send(FUSE_WRITE, in, 2, data);
  }
  std::uint64_t send_fallocate(std::uint64_t offset, std::uint64_t length, std::uint32_t mode) {
    fuse_fallocate_in in{};
    in.offset = offset;
    in.length = length;
    in.mode = mode;
    return send(FUSE_FALLOCATE, in);
  }

  // The next answer, if there is one after the loop has done what it can.
  std::optional<Answer> receive() {
    for (int i = 0; i < 4; ++i) loop_.turn();
    std::vector<std::uint8_t> message(2 << 20);
    const ssize_t n = ::recv(kernel_.get(), message.data(), message.size(), 0);
    if (n < static_cast<ssize_t>(sizeof(fuse_out_header))) return std::nullopt;
    Answer answer;
    std::memcpy(&answer.header, message.data(), sizeof answer.header);
    EXPECT_EQ(static_cast<std::uint32_t>(n), answer.header.len);
    answer.payload.assign(message.begin() + sizeof answer.header, message.begin() + n);
    return answer;
  }
  int error_of(std::uint64_t unique) {
    const auto answer = receive();
    if (!answer) return -1;
    EXPECT_EQ(unique, answer->header.unique);
    return -answer->header.error;
  }

  static std::vector<std::uint8_t> pattern(std::size_t size, std::uint8_t first) {
    std::vector<std::uint8_t> bytes(size);
    std::iota(bytes.begin(), bytes.end(), first);
    return bytes;
  }

  PollLoop loop_;
  std::list<RecordingDisk> disks_;
  UniqueFd kernel_;
  std::unique_ptr<Disk> unit_;
  std::unique_ptr<FuseDisk> server_;
  std::uint64_t unique_ = 100;
  bool drained_ = false;
};

TEST_F(FuseDiskTest, InitAgreesOnMegabyteTransfersAndDeepQueues) {
  RecordingDisk& disk = make_disk(64);
  serve(disk);
  fuse_init_in in{};
  in.major = 7;
  in.minor = 45;
  in.max_readahead = 131072;
  in.flags = ~0u;
  send(FUSE_INIT, in, 0);
  const auto answer = receive();
  ASSERT_TRUE(answer);
  fuse_init_out out;
  ASSERT_EQ(sizeof out, answer->payload.size());
  std::memcpy(&out, answer->payload.data(), sizeof out);
  EXPECT_EQ(7u, out.major);
  EXPECT_EQ(1048576u, out.max_write);
  EXPECT_EQ(256, out.max_pages);
  EXPECT_EQ(128, out.max_background);
  EXPECT_TRUE(out.flags & FUSE_ASYNC_DIO);
  EXPECT_TRUE(out.flags & FUSE_MAX_PAGES);
}

TEST_F(FuseDiskTest, InitOfAKernelTooOldIsRefused) {
  RecordingDisk& disk = make_disk(64);
  serve(disk);
  fuse_init_in in{};
  in.major = 7;
  in.minor = 12;
  EXPECT_EQ(EPROTO, error_of(send(FUSE_INIT, in, 0)));
}

TEST_F(FuseDiskTest, TheDirectoryHoldsTheDiskAndNothingElse) {
  RecordingDisk& disk = make_disk(2048);
  serve(disk);
  send_bytes(FUSE_LOOKUP, as_bytes(std::string_view("disk\0", 5)), 1);
  const auto answer = receive();
  ASSERT_TRUE(answer);
  fuse_entry_out out;
  ASSERT_EQ(sizeof out, answer->payload.size());
  std::memcpy(&out, answer->payload.data(), sizeof out);
  EXPECT_EQ(2u, out.nodeid);
  EXPECT_EQ(1048576u, out.attr.size);
  EXPECT_EQ(ENOENT, error_of(send_bytes(FUSE_LOOKUP, as_bytes(std::string_view("other\0", 6)), 1)));
  EXPECT_EQ(ENOENT, error_of(send_bytes(FUSE_LOOKUP, as_bytes(std::string_view("disk\0", 5)), 2)));
}

TEST_F(FuseDiskTest, LookupOfALongNameIsReadWhole) {
  RecordingDisk& disk = make_disk(64);
  serve(disk);
  std::string name(255, 'n');
  name.push_back('\0');
  EXPECT_EQ(ENOENT, error_of(send_bytes(FUSE_LOOKUP, as_bytes(name), 1)));
}

TEST_F(FuseDiskTest, StatfsBlockSizeIsTheDiscardGranularity) {
  RecordingDisk& disk = make_disk(2048);
  disk.geometry_for_change().unmap_granularity_blocks = 128;
  serve(disk);
  send_bytes(FUSE_STATFS, {}, 1);
  const auto answer = receive();
  ASSERT_TRUE(answer);
  fuse_statfs_out out;
  ASSERT_EQ(sizeof out, answer->payload.size());
  std::memcpy(&out, answer->payload.data(), sizeof out);
  EXPECT_EQ(65536u, out.st.bsize);
}

TEST_F(FuseDiskTest, WrittenBytesAreReadBack) {
  RecordingDisk& disk = make_disk(2048);
  serve(disk);
  const auto data = pattern(40960, 7);
  const auto unique = send_write(8192, data);
  const auto written = receive();
  ASSERT_TRUE(written);
  EXPECT_EQ(unique, written->header.unique);
  fuse_write_out out;
  ASSERT_EQ(sizeof out, written->payload.size());
  std::memcpy(&out, written->payload.data(), sizeof out);
  EXPECT_EQ(40960u, out.size);
  EXPECT_TRUE(std::equal(data.begin(), data.end(), disk.bytes().begin() + 8192));
  send_read(8192, 40960);
  const auto read = receive();
  ASSERT_TRUE(read);
  EXPECT_EQ(data, read->payload);
  EXPECT_EQ((std::vector<Entry>{{OpKind::write, 16, 80, false},
                                {OpKind::write, 16, 80, true},
                                {OpKind::read, 16, 80, false},
                                {OpKind::read, 16, 80, true}}),
            disk.record());
}

TEST_F(FuseDiskTest, ReadsEndAtTheEndOfTheDisk) {
  RecordingDisk& disk = make_disk(8);
  serve(disk);
  send_read(3584, 4096);
  const auto last = receive();
  ASSERT_TRUE(last);
  EXPECT_EQ(512u, last->payload.size());
  send_read(4096, 4096);
  const auto beyond = receive();
  ASSERT_TRUE(beyond);
  EXPECT_EQ(0, beyond->header.error);
  EXPECT_TRUE(beyond->payload.empty());
}

TEST_F(FuseDiskTest, WritesBeyondTheEndAreRefusedAndTouchNothing) {
  RecordingDisk& disk = make_disk(8);
  serve(disk);
  const auto data = pattern(1024, 1);
  EXPECT_EQ(EFBIG, error_of(send_write(3584, data)));
  EXPECT_EQ(EFBIG, error_of(send_write(~std::uint64_t{0} - 511, data)));
  EXPECT_TRUE(disk.record().empty());
}

TEST_F(FuseDiskTest, LargerThanTheChannelTakesIsSplit) {
  RecordingDisk& disk = make_disk(2048);
  disk.geometry_for_change().max_transfer_blocks = 64;
  serve(disk);
  const auto data = pattern(81920, 9);
  EXPECT_EQ(0, error_of(send_write(512, data)));
  EXPECT_TRUE(std::equal(data.begin(), data.end(), disk.bytes().begin() + 512));
  disk.forget();
  send_read(512, 81920);
  const auto read = receive();
  ASSERT_TRUE(read);
  EXPECT_EQ(data, read->payload);
  EXPECT_EQ(3u, disk.count(OpKind::read));
}

TEST_F(FuseDiskTest, FsyncIsAnsweredAfterTheFlushHasEnded) {
  RecordingDisk& disk = make_disk(64);
  serve(disk);
  for (const std::uint32_t datasync : {0u, 1u}) {
    disk.forget();
    disk.hold(OpKind::flush);
    fuse_fsync_in in{};
    in.fsync_flags = datasync;
    const auto unique = send(FUSE_FSYNC, in);
    EXPECT_FALSE(receive()) << "answered before the flush ended";
    EXPECT_EQ(1u, disk.held());
    disk.release_all();
    EXPECT_EQ(0, error_of(unique));
    EXPECT_EQ((std::vector<Entry>{{OpKind::flush, 0, 0, false}, {OpKind::flush, 0, 0, true}}), disk.record());
  }
}

TEST_F(FuseDiskTest, AFailedFlushIsNeverReportedAsDone) {
  RecordingDisk& disk = make_disk(64);
  serve(disk);
  disk.fail_next(OpKind::flush, block::OpStatus::write_error);
  EXPECT_EQ(EIO, error_of(send(FUSE_FSYNC, fuse_fsync_in{})));
  EXPECT_EQ(0, error_of(send(FUSE_FSYNC, fuse_fsync_in{})));
}

TEST_F(FuseDiskTest, PunchHoleUnmapsWholeGranulesAndZeroesTheEdges) {
  RecordingDisk& disk = make_disk(64);  // granules of 8 blocks
  std::fill(disk.bytes().begin(), disk.bytes().end(), std::uint8_t{0xff});
  serve(disk);
  EXPECT_EQ(0, error_of(send_fallocate(2048, 18432, 0x3)));  // blocks 4 .. 39
  EXPECT_EQ((std::vector<Entry>{{OpKind::write_zeroes, 4, 4, false},
                                {OpKind::write_zeroes, 4, 4, true},
                                {OpKind::unmap, 8, 32, false},
                                {OpKind::unmap, 8, 32, true}}),
            disk.record());
  disk.forget();
  EXPECT_EQ(0, error_of(send_fallocate(20480, 512, 0x3)));
  EXPECT_EQ((std::vector<Entry>{{OpKind::write_zeroes, 40, 1, false}, {OpKind::write_zeroes, 40, 1, true}}),
            disk.record());
}

// The loop device sends the same punch hole for a discard and for a write-zeroes.
TEST_F(FuseDiskTest, PunchHoleWritesZeroesWhereUnmappingDoesNot) {
  RecordingDisk& disk = make_disk(64);
  disk.geometry_for_change().unmap_zeroes = false;
  serve(disk);
  EXPECT_EQ(0, error_of(send_fallocate(0, 8192, 0x3)));
  EXPECT_EQ(0u, disk.count(OpKind::unmap));
  EXPECT_EQ(1u, disk.count(OpKind::write_zeroes));
}

TEST_F(FuseDiskTest, ZeroRangeIsWriteZeroes) {
  RecordingDisk& disk = make_disk(64);
  serve(disk);
  EXPECT_EQ(0, error_of(send_fallocate(4096, 8192, 0x11)));
  EXPECT_EQ((std::vector<Entry>{{OpKind::write_zeroes, 8, 16, false}, {OpKind::write_zeroes, 8, 16, true}}),
            disk.record());
  EXPECT_EQ(EOPNOTSUPP, error_of(send_fallocate(0, 4096, 0)));
  EXPECT_EQ(EINVAL, error_of(send_fallocate(100, 4096, 0x11)));
  EXPECT_EQ(EINVAL, error_of(send_fallocate(0, 65536, 0x3)));
}

TEST_F(FuseDiskTest, UnsupportedByTheChannelLetsTheKernelFallBack) {
  RecordingDisk& disk = make_disk(64);
  serve(disk);
  disk.fail_next(OpKind::write_zeroes, block::OpStatus::unsupported);
  EXPECT_EQ(EOPNOTSUPP, error_of(send_fallocate(0, 4096, 0x11)));
}

TEST_F(FuseDiskTest, ReadOnlyRefusesEveryChange) {
  RecordingDisk& disk = make_disk(64);
  serve(disk, true);
  fuse_open_in open{};
  open.flags = O_RDWR;
  EXPECT_EQ(EROFS, error_of(send(FUSE_OPEN, open)));
  EXPECT_EQ(EROFS, error_of(send_write(0, pattern(512, 0))));
  EXPECT_EQ(EROFS, error_of(send_fallocate(0, 4096, 0x3)));
  open.flags = O_RDONLY;
  EXPECT_EQ(0, error_of(send(FUSE_OPEN, open)));
  EXPECT_TRUE(disk.record().empty());
}

TEST_F(FuseDiskTest, UnalignedWriteKeepsTheBytesAroundIt) {
  RecordingDisk& disk = make_disk(64, 4096);
  std::fill(disk.bytes().begin(), disk.bytes().end(), std::uint8_t{0xee});
  serve(disk);
  const auto data = pattern(9000, 3);
  EXPECT_EQ(0, error_of(send_write(3584, data)));  // end of block 0, blocks 1 and 2, start of block 3
  EXPECT_EQ(0xee, disk.bytes()[3583]);
  EXPECT_TRUE(std::equal(data.begin(), data.end(), disk.bytes().begin() + 3584));
  EXPECT_EQ(0xee, disk.bytes()[3584 + 9000]);
  EXPECT_EQ(1u, unit_->statistics().unaligned_writes);
  send_read(3584, 9000);
  const auto read = receive();
  ASSERT_TRUE(read);
  EXPECT_EQ(data, read->payload);
}

// Two halves of one block in flight at once: each must see what the other wrote.
TEST_F(FuseDiskTest, PartialWritesOfOneBlockDoNotLoseEachOther) {
  RecordingDisk& disk = make_disk(64, 4096);
  serve(disk);
  disk.hold_all();
  const auto first = pattern(512, 1), second = pattern(3584, 99);
  send_write(0, first);
  send_write(512, second);
  EXPECT_FALSE(receive());
  EXPECT_EQ(1u, disk.held()) << "the second must not read the block before the first has written it";
  disk.release_all();
  ASSERT_TRUE(receive());
  ASSERT_TRUE(receive());
  EXPECT_TRUE(std::equal(first.begin(), first.end(), disk.bytes().begin()));
  EXPECT_TRUE(std::equal(second.begin(), second.end(), disk.bytes().begin() + 512));
}

TEST_F(FuseDiskTest, AnAlignedWriteWaitsForThePartialWriteOfItsBlockOnly) {
  RecordingDisk& disk = make_disk(64, 4096);
  serve(disk);
  disk.hold(OpKind::read);
  const auto part = pattern(512, 1), whole = pattern(4096, 50);
  send_write(0, part);
  send_write(0, whole);
  const auto elsewhere = send_write(8192, whole);
  EXPECT_EQ(0, error_of(elsewhere));
  EXPECT_FALSE(receive());
  disk.release_all();
  ASSERT_TRUE(receive());
  ASSERT_TRUE(receive());
  EXPECT_TRUE(std::equal(whole.begin(), whole.end(), disk.bytes().begin()));
}

TEST_F(FuseDiskTest, APartialWriteWaitsForTheWriteInFlight) {
  RecordingDisk& disk = make_disk(64, 4096);
  serve(disk);
  disk.hold(OpKind::write);
  const auto whole = pattern(4096, 50), part = pattern(512, 1);
  send_write(0, whole);
  send_write(512, part);
  EXPECT_FALSE(receive());
  EXPECT_EQ(0u, disk.count(OpKind::read));
  disk.release_all();
  ASSERT_TRUE(receive());
  ASSERT_TRUE(receive());
  EXPECT_TRUE(std::equal(part.begin(), part.end(), disk.bytes().begin() + 512));
  EXPECT_EQ(whole[0], disk.bytes()[0]);
  EXPECT_EQ(whole[1024], disk.bytes()[1024]);
}

TEST_F(FuseDiskTest, ErrorsOfTheChannelReachTheCaller) {
  RecordingDisk& disk = make_disk(64);
  serve(disk);
  disk.fail_next(OpKind::read, block::OpStatus::read_error);
  EXPECT_EQ(EIO, error_of(send_read(0, 512)));
  disk.fail_next(OpKind::write, block::OpStatus::no_space);
  EXPECT_EQ(ENOSPC, error_of(send_write(0, pattern(512, 0))));
  EXPECT_EQ(2u, unit_->statistics().errors);
}

TEST_F(FuseDiskTest, ASmallPoolMakesRequestsWaitAndLosesNone) {
  RecordingDisk& disk = make_disk(4096);
  serve(disk, false, 1);  // the least it works with: 195 pages, 64 of them ready for the next request
  disk.hold_all();
  const auto data = pattern(65536, 5);
  constexpr unsigned writes = 32;  // take all but three of the other pages
  for (unsigned i = 0; i < writes; ++i) {
    send_write(std::uint64_t{i} * 65536, data);
    loop_.turn();
  }
  EXPECT_EQ(writes, disk.held());
  send_read(0, 65536);  // waits for pages
  send_write(0, data);  // received; what replaces its pages is not there
  send_read(0, 512);    // stays with the kernel
  for (int i = 0; i < 4; ++i) loop_.turn();
  EXPECT_EQ(writes + 1, disk.held());
  disk.stop_holding();
  unsigned answered = 0;
  while (disk.held() != 0) {
    disk.release_one();
    while (receive()) ++answered;
  }
  EXPECT_EQ(writes + 3, answered);
  EXPECT_EQ(0u, unit_->statistics().in_flight);
}

TEST_F(FuseDiskTest, ControlRequestsPassOperationsThatAreHeld) {
  RecordingDisk& disk = make_disk(64);
  serve(disk);
  disk.hold_all();
  send_read(0, 512);
  EXPECT_FALSE(receive());
  EXPECT_EQ(0, error_of(send_bytes(FUSE_GETATTR, {}, 1)));
  EXPECT_EQ(EPERM, error_of(send_bytes(FUSE_UNLINK, as_bytes(std::string_view("disk\0", 5)), 1)));
  EXPECT_EQ(ENOSYS, error_of(send_bytes(FUSE_GETXATTR, {})));
  disk.release_all();
  EXPECT_TRUE(receive());
}

TEST_F(FuseDiskTest, TruncatedArgumentsAreAnsweredNotRead) {
  RecordingDisk& disk = make_disk(64);
  serve(disk);
  for (const std::uint32_t opcode : {FUSE_READ, FUSE_WRITE, FUSE_FALLOCATE, FUSE_OPEN, FUSE_READDIR}) {
    EXPECT_EQ(EINVAL, error_of(send_bytes(opcode, as_bytes("abcd"))));
  }
  EXPECT_EQ(EPROTO, error_of(send_bytes(FUSE_INIT, as_bytes("abcd"), 0)));
}

TEST_F(FuseDiskTest, StopWaitsForWhatIsOutstanding) {
  RecordingDisk& disk = make_disk(64);
  serve(disk);
  disk.hold_all();
  send_write(0, pattern(512, 1));
  EXPECT_FALSE(receive());
  server_->stop(Delegate<void()>::to<&FuseDiskTest::on_drained>(*this));
  for (int i = 0; i < 4; ++i) loop_.turn();
  EXPECT_FALSE(drained_);
  disk.release_all();
  for (int i = 0; i < 4; ++i) loop_.turn();
  EXPECT_TRUE(drained_);
  server_.reset();
}

TEST(Disk, RefusesGeometriesThatNoBlockDeviceHas) {
  for (const std::uint32_t block_size : {520u, 256u, 8192u}) {
    RecordingDisk disk(64, block_size);
    const auto made = Disk::create(disk, false);
    ASSERT_FALSE(made);
    EXPECT_EQ(Errc::unsupported, made.error().code);
  }
  RecordingDisk empty(0);
  EXPECT_FALSE(Disk::create(empty, false));
}

}  // namespace
}  // namespace perilune::attach
