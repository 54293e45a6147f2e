// SPDX-License-Identifier: Apache-2.0
// Atomic writes over files that are cut off at every operation and within each, and over files that fail.
#include "block/atomic_journal.hpp"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>

#include "block/atomic_lanes.hpp"
#include "block/block_test.hpp"
#include "block/recording_file_test.hpp"
#include "crypto/crc32c.hpp"

namespace perilune::block {
namespace {

constexpr std::uint64_t disk_number = 77;
constexpr std::uint64_t first_block = 3, blocks = 8, block_bytes = 512;
constexpr std::size_t range_at = first_block * block_bytes, range_bytes = blocks * block_bytes;

class ImageMedium final : public AtomicMedium {
 public:
  explicit ImageMedium(Image& bytes) : bytes_(bytes) {}
  [[nodiscard]] Status read(ByteOffset offset, MutableBytes out) override {
    std::fill(out.begin(), out.end(), std::uint8_t{0});
    if (offset.value() >= bytes_.size()) return {};
    const std::size_t there = std::min<std::size_t>(out.size(), bytes_.size() - offset.value());
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(offset.value()), there, out.begin());
    return {};
  }
  [[nodiscard]] Status write_durably(ByteOffset offset, Bytes data) override {
    std::copy(data.begin(), data.end(), bytes_.begin() + static_cast<std::ptrdiff_t>(offset.value()));
    return {};
  }
  [[nodiscard]] std::uint64_t size_bytes() const override { return bytes_.size(); }

 private:
  Image& bytes_;
};

std::shared_ptr<AtomicJournal> journal_of(Image& bytes) {
  auto made = AtomicJournal::create("/journal", std::make_unique<ImageMedium>(bytes), false);
  PERILUNE_ASSERT(made.has_value());
  return *made;
}

// A disk and its journal, and what has been written to either.
class AtomicWrites : public ::testing::Test {
 protected:
  AtomicWrites() : disk(64 * block_bytes, 0xaa), journal(16384, 0) {
    auto of_disk = std::make_unique<RecordingFile>(disk, writes, false, disk.size());
    auto of_journal = std::make_unique<RecordingFile>(journal, writes, true, atomic_journal_bytes);
    disk_file = of_disk.get();
    journal_file = of_journal.get();
    auto lanes = std::make_shared<AtomicLanes>(journal_of(journal), std::move(of_journal),
                                               std::vector<std::uint32_t>{0});
    Geometry geometry = file_geometry(of_disk->properties(), block_bytes);
    geometry.max_atomic_blocks = max_atomic_blocks(block_bytes, 0);
    channel = make_file_channel(std::move(of_disk), geometry, health, std::move(lanes), disk_number);
  }

  OpStatus write(std::uint8_t fill, bool atomic = true) {
    Image data(range_bytes, fill);
    const iovec pieces[] = {{data.data(), 100}, {data.data() + 100, data.size() - 100}};
    BlockOp op;
    op.kind = OpKind::write;
    op.lba = Lba(first_block);
    op.blocks = BlockCount(blocks);
    op.data = pieces;
    op.atomic = atomic;
    op.fua = !atomic;
    EXPECT_TRUE(channel->submit(op));
    return op.status;
  }
  [[nodiscard]] static bool all(const Image& image, std::uint8_t value) {
    return std::all_of(image.begin() + range_at, image.begin() + range_at + range_bytes,
                       [&](std::uint8_t b) { return b == value; });
  }
  // What a start finds, after a crash that left this.
  static void start(Image& of_disk, Image& of_journal) {
    ImageMedium medium(of_disk);
    ASSERT_TRUE(journal_of(of_journal)->recover(disk_number, medium));
  }

  Image disk, journal;
  std::vector<Write> writes;
  RecordingFile* disk_file = nullptr;
  RecordingFile* journal_file = nullptr;
  std::shared_ptr<FlushHealth> health = std::make_shared<FlushHealth>();
  std::unique_ptr<Channel> channel;
};

// Which writes never reach the medium, though it says so.
using Lie = std::function<bool(const Write&)>;

struct Cuts {
  std::uint64_t tried = 0, old_blocks = 0, new_blocks = 0, torn = 0;
};

// Every state in which a loss of power may leave the two: the writes before one whole, of that one a
// beginning, or all but a beginning, and none after it. What was not durable is there or is not.
Cuts cut_everywhere(const Image& disk_before, const Image& journal_before, const std::vector<Write>& writes,
                    const Lie& lies) {
  Cuts cuts;
  const auto apply = [&](Image& disk, Image& journal, const Write& write, std::size_t from, std::size_t to) {
    if (lies && lies(write)) return;
    Image& image = write.of_journal ? journal : disk;
    std::copy(write.data.begin() + static_cast<std::ptrdiff_t>(from),
              write.data.begin() + static_cast<std::ptrdiff_t>(to),
              image.begin() + static_cast<std::ptrdiff_t>(write.offset + from));
  };
  const auto judge = [&](Image disk, Image journal) {
    ImageMedium medium(disk);
    ++cuts.tried;
    EXPECT_TRUE(journal_of(journal)->recover(disk_number, medium));
    const auto range = Bytes(disk).subspan(range_at, range_bytes);
    const auto is = [&](std::uint8_t value) {
      return std::all_of(range.begin(), range.end(), [&](auto b) { return b == value; });
    };
    ++(is(0xaa) ? cuts.old_blocks : is(0xbb) ? cuts.new_blocks : cuts.torn);
    // The neighbours are never touched.
    EXPECT_TRUE(std::all_of(disk.begin(), disk.begin() + range_at, [](auto b) { return b == 0xaa; }));
    EXPECT_TRUE(
        std::all_of(disk.begin() + range_at + range_bytes, disk.end(), [](auto b) { return b == 0xaa; }));
  };
  Image disk = disk_before, journal = journal_before;
  for (const Write& write : writes) {
    for (std::size_t cut = 0; cut <= write.data.size(); cut += cut < 64 ? 1 : 61) {
      for (const bool beginning : {true, false}) {
        Image cut_disk = disk, cut_journal = journal;
        apply(cut_disk, cut_journal, write, beginning ? 0 : cut, beginning ? cut : write.data.size());
        judge(std::move(cut_disk), std::move(cut_journal));
      }
    }
    apply(disk, journal, write, 0, write.data.size());
  }
  judge(disk, journal);
  return cuts;
}

TEST_F(AtomicWrites, AreThereWhollyOrNotAtAllWhereverThePowerGoes) {
  const Image disk_before = disk, journal_before = journal;
  ASSERT_EQ(write(0xbb), OpStatus::ok);
  ASSERT_EQ(writes.size(), 3u);  // the entry, the blocks, the entry taken back
  for (const Write& each : writes) EXPECT_TRUE(each.durable);
  const Cuts cuts = cut_everywhere(disk_before, journal_before, writes, {});
  EXPECT_EQ(cuts.torn, 0u);
  EXPECT_GT(cuts.old_blocks, 200u);
  EXPECT_GT(cuts.new_blocks, 200u);
}

TEST_F(AtomicWrites, AreThereWhollyOrNotAtAllWhereASlotWasUsedBefore) {
  ASSERT_EQ(write(0xcc), OpStatus::ok);
  ASSERT_EQ(write(0xaa, false), OpStatus::ok);
  writes.clear();
  const Image disk_before = disk, journal_before = journal;
  ASSERT_EQ(write(0xbb), OpStatus::ok);
  EXPECT_EQ(cut_everywhere(disk_before, journal_before, writes, {}).torn, 0u);
}

// The test can fail: without what the journal holds, blocks are torn.
TEST_F(AtomicWrites, AreTornByAJournalThatForgets) {
  const Image disk_before = disk, journal_before = journal;
  ASSERT_EQ(write(0xbb), OpStatus::ok);
  EXPECT_GT(
      cut_everywhere(disk_before, journal_before, writes, [](const Write& w) { return w.of_journal; }).torn,
      100u);
}

// A write that has ended is never written again: what came after it stays, also when that was no atomic
// write.
TEST_F(AtomicWrites, AreNotRepeatedOverWhatCameLater) {
  ASSERT_EQ(write(0xbb), OpStatus::ok);
  ASSERT_EQ(write(0xdd, false), OpStatus::ok);
  start(disk, journal);
  EXPECT_TRUE(all(disk, 0xdd));
}

// The test can fail: an entry that is not taken back destroys what came later.
TEST_F(AtomicWrites, AreRepeatedWhereTheEntryIsNotTakenBack) {
  ASSERT_EQ(write(0xbb), OpStatus::ok);
  const Write entry = writes.front();
  ASSERT_EQ(write(0xdd, false), OpStatus::ok);
  std::copy(entry.data.begin(), entry.data.end(), journal.begin());
  start(disk, journal);
  EXPECT_TRUE(all(disk, 0xbb));
}

TEST_F(AtomicWrites, FailWithNothingChangedWhereTheJournalFails) {
  for (const auto& [error, status] :
       {std::pair{ENOSPC, OpStatus::no_space}, std::pair{EIO, OpStatus::write_error}}) {
    journal_file->fail = [e = error](const Write& w) { return w.data.size() > atomic_header_bytes ? e : 0; };
    EXPECT_EQ(write(0xbb), status);
    EXPECT_TRUE(all(disk, 0xaa));
    start(disk, journal);  // what had been written of the entry is taken back
    EXPECT_TRUE(all(disk, 0xaa));
  }
}

TEST_F(AtomicWrites, FailWithTheOldBlocksRestored) {
  bool failed = false;
  disk_file->fail = [&](const Write&) { return std::exchange(failed, true) ? 0 : EIO; };
  EXPECT_EQ(write(0xbb), OpStatus::write_error);
  EXPECT_TRUE(all(disk, 0xaa));
  EXPECT_EQ(health->failed_errno, 0);
  start(disk, journal);
  EXPECT_TRUE(all(disk, 0xaa));
}

TEST_F(AtomicWrites, LookForSpaceBeforeAnythingChanges) {
  disk_file->holes = true;
  disk_file->fail = [](const Write&) { return ENOSPC; };
  EXPECT_EQ(write(0xbb), OpStatus::no_space);
  ASSERT_EQ(writes.size(), 1u);
  EXPECT_FALSE(writes[0].of_journal);
  EXPECT_EQ(writes[0].data, Image(range_bytes, 0xaa));  // the blocks as they are
  disk_file->fail = {};
  EXPECT_EQ(write(0xbb), OpStatus::ok);
}

// An entry that may still be there could be written over what comes later: nothing durable is promised any
// more.
TEST_F(AtomicWrites, EndAllPromisesWhereTheEntryCannotBeTakenBack) {
  journal_file->fail = [](const Write& w) { return w.data.size() == atomic_header_bytes ? EIO : 0; };
  EXPECT_EQ(write(0xbb), OpStatus::write_error);
  EXPECT_EQ(health->failed_errno, EIO);
  EXPECT_EQ(write(0xdd, false), OpStatus::write_error);
}

TEST_F(AtomicWrites, OfAnotherDiskAreLeftAlone) {
  const Image before = journal;
  ASSERT_EQ(write(0xbb), OpStatus::ok);
  Image left = before;
  std::copy(writes.front().data.begin(), writes.front().data.end(), left.begin());
  Image other(disk.size(), 0xaa);
  ImageMedium medium(other);
  const auto with_entry = journal_of(left);
  ASSERT_TRUE(with_entry->recover(disk_number + 1, medium));
  EXPECT_TRUE(all(other, 0xaa));
  EXPECT_EQ(left[0], 'P');  // it waits for its disk
  ASSERT_TRUE(with_entry->recover(disk_number, medium));
  EXPECT_TRUE(all(other, 0xbb));
  EXPECT_EQ(left[0], 0);
}

TEST(AtomicHeader, IsKnownByItsSum) {
  const AtomicEntry entry{
      .disk = 1, .generation = 2, .offset = ByteOffset(512), .length_bytes = 1024, .payload_crc = 5};
  AtomicHeader header;
  encode_atomic_header(entry, header);
  const auto decoded = decode_atomic_header(header);
  ASSERT_TRUE(decoded);
  EXPECT_EQ(decoded->offset, ByteOffset(512));
  EXPECT_EQ(decoded->length_bytes, 1024u);
  for (std::size_t bit = 0; bit < 52 * 8; ++bit) {
    AtomicHeader damaged = header;
    damaged[bit / 8] ^= static_cast<std::uint8_t>(1u << (bit % 8));
    EXPECT_FALSE(decode_atomic_header(damaged)) << bit;
  }
  AtomicEntry long_one = entry;
  long_one.length_bytes = atomic_payload_bytes + 1;
  encode_atomic_header(long_one, header);
  EXPECT_FALSE(decode_atomic_header(header));
}

// ---- files of the system

class AtomicFileTest : public BlockTest {
 protected:
  BackstoreOptions with_journal() {
    auto opened = AtomicJournal::open(folder.path());
    EXPECT_TRUE(opened) << opened.error().message;
    journal = *opened;
    BackstoreOptions options;
    options.atomic_journal = journal;
    return options;
  }
  OpStatus write_atomically(std::uint64_t lba, Buffer& buffer) {
    BlockOp op;
    op.kind = OpKind::write;
    op.lba = Lba(lba);
    op.blocks = BlockCount(buffer.size() / channel->geometry().block_size_bytes);
    const iovec iov{buffer.data(), buffer.size()};
    op.data = {&iov, 1};
    op.atomic = true;
    return run(op);
  }
  std::shared_ptr<AtomicJournal> journal;
};

TEST_F(AtomicFileTest, WritesLandAndNothingIsLeftInTheJournal) {
  const std::string path = folder.file("disk", 1 << 20);
  open(path, with_journal());
  EXPECT_EQ(channel->geometry().max_atomic_blocks, 2048u);
  Buffer out(512 * 512, 0x5a), in(512 * 512);
  ASSERT_EQ(write_atomically(100, out), OpStatus::ok);
  Buffer odd(512, 0x33, 7);  // memory that O_DIRECT does not take
  ASSERT_EQ(write_atomically(0, odd), OpStatus::ok);
  ASSERT_EQ(read(100, in), OpStatus::ok);
  EXPECT_TRUE(in.all(0x5a));
  channel.reset();
  store.reset();
  open(path, with_journal());
  Buffer zero(512 * 512, 0);
  ASSERT_EQ(write(100, zero), OpStatus::ok);
  channel.reset();
  store.reset();
  open(path, with_journal());
  ASSERT_EQ(read(100, in), OpStatus::ok);
  EXPECT_TRUE(in.all(0));
}

TEST_F(AtomicFileTest, WhatWasLeftIsWrittenBeforeTheDiskIsServed) {
  const std::string path = folder.file("disk", 1 << 20);
  struct stat info {};
  ASSERT_EQ(::stat(path.c_str(), &info), 0);
  (void)with_journal();  // makes the file
  const Image payload(1024, 0x77);
  const AtomicEntry entry{.disk = atomic_disk_number(path, info.st_ino),
                          .generation = 9,
                          .offset = ByteOffset(4 * 512),
                          .length_bytes = 1024,
                          .payload_crc = crypto::crc32c(crypto::crc32c_start, payload)};
  AtomicHeader header;
  encode_atomic_header(entry, header);
  const auto medium =
      make_file_medium(::open((folder.path() + "/atomic-journal").c_str(), O_RDWR | O_CLOEXEC), "journal",
                       atomic_journal_bytes);
  ASSERT_TRUE(medium->write_durably(ByteOffset(atomic_slot_bytes + atomic_header_bytes), payload));
  ASSERT_TRUE(medium->write_durably(ByteOffset(atomic_slot_bytes), header));
  open(path, with_journal());
  Buffer in(1024), before(512);
  ASSERT_EQ(read(4, in), OpStatus::ok);
  EXPECT_TRUE(in.all(0x77));
  ASSERT_EQ(read(3, before), OpStatus::ok);
  EXPECT_TRUE(before.all(0));
}

TEST_F(AtomicFileTest, IsNotOfferedWithoutAJournalOrForReadingOnly) {
  const std::string path = folder.file("disk", 1 << 20);
  open(path);
  EXPECT_EQ(channel->geometry().max_atomic_blocks, 0u);
  Buffer out(512, 1);
  EXPECT_EQ(write_atomically(0, out), OpStatus::unsupported);
  BackstoreOptions options = with_journal();
  options.read_only = true;
  open(path, options);
  EXPECT_EQ(channel->geometry().max_atomic_blocks, 0u);
}

}  // namespace
}  // namespace perilune::block
