// SPDX-License-Identifier: Apache-2.0
// UblkDisk against a queue that the test plays: descriptors and commands as the kernel's documentation has
// them. No privileges, and no ublk, needed.
#include "attach/ublk_disk.hpp"

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <map>
#include <optional>

#include "attach/attach_test_support.hpp"

namespace perilune::attach {
namespace {

using block::OpKind;
using testing::RecordingDisk;
using Entry = RecordingDisk::Entry;

constexpr std::uint32_t fetch_operation = 0xC0107520, commit_operation = 0xC0107521;
constexpr std::uint32_t read_op = 0, write_op = 1, flush_op = 2, discard_op = 3, zero_op = 5;
constexpr std::uint32_t fua_flag = 1u << 13, no_unmap_flag = 1u << 15;

// A loop whose device commands are the test's to answer.
class KernelLoop final : public testing::PollLoop {
 public:
  bool submit(runtime::DeviceCommand& command) override {
    if (refuse) return false;
    std::uint16_t tag = 0;
    std::memcpy(&tag, command.argument.data() + 2, sizeof tag);
    EXPECT_FALSE(commands.contains(tag)) << "one command for each tag";
    commands[tag] = &command;
    return true;
  }
  void cancel(runtime::DeviceCommand& command) override {
    for (const auto& [tag, known] : commands) {
      if (known == &command) post([this, t = tag] { end(t, -ENODEV); });
    }
  }
  void end(std::uint16_t tag, int result) {
    runtime::DeviceCommand* const command = commands.at(tag);
    commands.erase(tag);
    command->done(result);
  }
  std::map<std::uint16_t, runtime::DeviceCommand*> commands;
  bool refuse = false;
};

class UblkDiskTest : public ::testing::Test {
 public:
  void on_drained() { drained_ = true; }

 protected:
  void serve(RecordingDisk& disk, bool read_only = false) {
    auto unit = Disk::create(disk, read_only);
    ASSERT_TRUE(unit);
    unit_ = std::move(*unit);
    auto made = UblkDisk::create(loop_, *unit_);
    ASSERT_TRUE(made);
    server_ = std::move(*made);
    ASSERT_TRUE(server_->serve_queue(7, descriptors_.data()));
  }
  void TearDown() override {
    if (server_ == nullptr) return;
    if (!stopping_) stop();
    for (int i = 0; i < 100 && !drained_; ++i) loop_.turn();
    EXPECT_TRUE(drained_);
  }
  void stop() {
    stopping_ = true;
    server_->stop(Delegate<void()>::to<&UblkDiskTest::on_drained>(*this));
  }

  // The kernel has a request on this tag.
  void ask(std::uint16_t tag, std::uint32_t operation, std::uint64_t sector, std::uint32_t sectors) {
    descriptors_[tag].op_flags = operation;
    descriptors_[tag].start_sector = sector;
    descriptors_[tag].nr_sectors = sectors;
    loop_.end(tag, 0);
  }
  // What came back for the tag, if it did.
  std::optional<std::int32_t> answer(std::uint16_t tag) {
    if (!loop_.commands.contains(tag)) return std::nullopt;
    const runtime::DeviceCommand& command = *loop_.commands.at(tag);
    EXPECT_EQ(commit_operation, command.operation);
    std::int32_t result = 0;
    std::memcpy(&result, command.argument.data() + 4, sizeof result);
    return result;
  }
  std::uint8_t* buffer(std::uint16_t tag) {
    std::uint64_t address = 0;
    std::memcpy(&address, loop_.commands.at(tag)->argument.data() + 8, sizeof address);
    return reinterpret_cast<std::uint8_t*>(address);
  }

  KernelLoop loop_;
  std::array<ublksrv_io_desc, 128> descriptors_{};
  std::unique_ptr<Disk> unit_;
  std::unique_ptr<UblkDisk> server_;
  bool stopping_ = false, drained_ = false;
};

TEST_F(UblkDiskTest, FetchesOnEveryTagWithABufferOfItsOwn) {
  RecordingDisk disk(256);
  serve(disk);
  ASSERT_EQ(128u, loop_.commands.size());
  for (std::uint16_t tag = 0; tag < 128; ++tag) {
    const runtime::DeviceCommand& command = *loop_.commands.at(tag);
    EXPECT_EQ(7, command.fd);
    EXPECT_EQ(fetch_operation, command.operation);
    EXPECT_EQ(0, command.argument[0] | command.argument[1]) << "queue 0";
    EXPECT_EQ(buffer(0) + tag * std::size_t{524288}, buffer(tag));
  }
}

TEST_F(UblkDiskTest, BytesOfReadsAndWritesAreInTheTagsBuffer) {
  RecordingDisk disk(4096);
  serve(disk);
  std::memset(buffer(5), 0x5a, 524288);
  ask(5, write_op, 8, 1024);
  EXPECT_EQ(524288, answer(5));
  EXPECT_EQ(0x5a, disk.bytes()[4096]);
  EXPECT_EQ(0x5a, disk.bytes()[4096 + 524287]);
  EXPECT_EQ(0, disk.bytes()[4096 + 524288]);
  ask(9, read_op, 9, 8);
  EXPECT_EQ(4096, answer(9));
  EXPECT_EQ(0x5a, buffer(9)[0]);
  EXPECT_EQ(0x5a, buffer(9)[4095]);
  EXPECT_EQ(1u, unit_->statistics().reads);
  EXPECT_EQ(1u, unit_->statistics().writes);
}

TEST_F(UblkDiskTest, AnswersComeInTheOrderOfTheUnit) {
  RecordingDisk disk(256);
  serve(disk);
  disk.hold(OpKind::flush);
  ask(1, flush_op, 0, 0);
  ask(2, read_op, 0, 1);
  EXPECT_FALSE(answer(1));
  EXPECT_EQ(512, answer(2));
  disk.release_all();
  EXPECT_EQ(0, answer(1));
}

TEST_F(UblkDiskTest, FlagsReachTheUnit) {
  RecordingDisk disk(256);
  serve(disk);
  ask(1, write_op, 0, 8);
  EXPECT_EQ(0u, disk.fua_operations());
  ask(1, write_op | fua_flag, 0, 8);
  EXPECT_EQ(1u, disk.fua_operations());
  disk.forget();
  ask(1, zero_op, 8, 16);
  EXPECT_TRUE(disk.last_may_unmap());
  ask(1, zero_op | no_unmap_flag, 8, 16);
  EXPECT_FALSE(disk.last_may_unmap());
  ask(1, discard_op, 8, 20);
  EXPECT_EQ((Entry{OpKind::unmap, 8, 16, true}), disk.record().back());
  EXPECT_EQ(0, answer(1));
}

TEST_F(UblkDiskTest, ErrorsAreNegative) {
  RecordingDisk disk(256);
  serve(disk);
  disk.fail_next(OpKind::read, block::OpStatus::read_error);
  ask(0, read_op, 0, 8);
  EXPECT_EQ(-EIO, answer(0));
  ask(0, read_op, 255, 2);
  EXPECT_EQ(-EINVAL, answer(0));
  ask(0, read_op, 0xFFFFFFFFFFFFFFFF, 2);
  EXPECT_EQ(-EINVAL, answer(0));
  ask(0, write_op, 0, 1025);
  EXPECT_EQ(-EINVAL, answer(0)) << "more than the buffer";
  ask(0, 4, 0, 8);
  EXPECT_EQ(-EOPNOTSUPP, answer(0));
}

TEST_F(UblkDiskTest, AReadOnlyDiskRefusesChanges) {
  RecordingDisk disk(256);
  serve(disk, true);
  for (const std::uint32_t operation : {write_op, discard_op, zero_op}) {
    ask(0, operation, 0, 8);
    EXPECT_EQ(-EROFS, answer(0));
  }
  EXPECT_TRUE(disk.record().empty());
}

TEST_F(UblkDiskTest, TheEndOfTheDeviceEndsTheQueue) {
  RecordingDisk disk(256);
  serve(disk);
  for (std::uint16_t tag = 0; tag < 128; ++tag) loop_.end(tag, -ENODEV);
  EXPECT_TRUE(loop_.commands.empty()) << "nothing is fetched again";
  stop();
  EXPECT_FALSE(drained_) << "from a later turn";
  loop_.turn();
  EXPECT_TRUE(drained_);
}

TEST_F(UblkDiskTest, StopTakesCommandsBackAndWaitsForTheUnit) {
  RecordingDisk disk(256);
  serve(disk);
  disk.hold_all();
  ask(3, write_op, 0, 8);
  stop();
  for (int i = 0; i < 4; ++i) loop_.turn();
  EXPECT_TRUE(loop_.commands.empty());
  EXPECT_FALSE(drained_);
  disk.release_all();
  loop_.turn();
  EXPECT_TRUE(drained_);
  EXPECT_TRUE(loop_.commands.empty()) << "what ends after stop() is not told";
}

TEST_F(UblkDiskTest, ALoopWithoutDeviceCommandsIsRefused) {
  RecordingDisk disk(256);
  const auto unit = Disk::create(disk, false);
  loop_.refuse = true;
  auto made = UblkDisk::create(loop_, **unit);
  ASSERT_TRUE(made);
  const auto served = (*made)->serve_queue(7, descriptors_.data());
  ASSERT_FALSE(served);
  EXPECT_EQ(Errc::unsupported, served.error().code);
}

}  // namespace
}  // namespace perilune::attach
