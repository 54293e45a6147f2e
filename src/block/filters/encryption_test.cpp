// SPDX-License-Identifier: Apache-2.0
// Encrypted disks: what lies in the file, what reads of it give, and the change of the key, cut off at every
// byte of what it writes.
#include "block/filters/encryption.hpp"

#include <algorithm>
#include <cerrno>

#include "block/block_test.hpp"
#include "block/recording_file_test.hpp"

namespace perilune::block {
namespace {

constexpr std::uint64_t mib = 1 << 20;

Image slurp(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  Image out(std::filesystem::file_size(path));
  EXPECT_EQ(::read(fd, out.data(), out.size()), static_cast<ssize_t>(out.size()));
  ::close(fd);
  return out;
}

void spill(const std::string& path, Bytes bytes) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  EXPECT_EQ(::write(fd, bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  ::close(fd);
}

bool contains(const Image& image, Bytes part) {
  return std::search(image.begin(), image.end(), part.begin(), part.end()) != image.end();
}

class Encrypted : public BlockTest {
 protected:
  [[nodiscard]] BackstoreOptions options() const {
    BackstoreOptions how;
    how.encrypted = true;
    how.key_folder = folder.path();
    return how;
  }
  void open_disk(std::uint32_t protection_bytes = 0) {
    if (path.empty()) path = folder.file("disk", mib);
    BackstoreOptions how = options();
    how.protection_bytes = protection_bytes;
    open(path, how);
  }
  [[nodiscard]] std::string key_path() const {
    return DiskKey::path_of(folder.path(), std::filesystem::canonical(path).string());
  }
  // The only key in the file.
  [[nodiscard]] crypto::Secret key() const {
    const Image file = slurp(key_path());
    auto first = decode_key_slot(Bytes(file).first(key_slot_bytes)),
         second = decode_key_slot(Bytes(file).subspan(key_slot_bytes));
    EXPECT_NE(first.has_value(), second.has_value());
    return (first ? first : second)->key.clone();
  }
  Error refusal(const BackstoreOptions& how) {
    auto made = open_backstore(path, how);
    EXPECT_FALSE(made);
    return made ? Error{} : made.error();
  }
  OpStatus change_key() { return range(OpKind::change_key, 0, 0); }

  std::string path;
};

TEST_F(Encrypted, EachBlockIsADataUnitUnderTheKeyOfTheFile) {
  open_disk();
  EXPECT_TRUE(channel->geometry().encrypted);
  EXPECT_FALSE(channel->geometry().lends_memory);
  EXPECT_FALSE(channel->geometry().reads_at_once || channel->geometry().writes_at_once);
  Buffer out(4096, 0x5a), in(4096);
  ASSERT_EQ(write(16, out), OpStatus::ok);
  EXPECT_TRUE(out.all(0x5a));  // the caller's memory is left alone
  ASSERT_EQ(read(16, in), OpStatus::ok);
  EXPECT_TRUE(in.all(0x5a));
  ASSERT_EQ(flush(), OpStatus::ok);
  const Image stored = slurp(path);
  auto xts = crypto::Xts::create(key().reveal());
  ASSERT_TRUE(xts);
  Image block(512, 0x5a);
  for (std::uint64_t lba = 16; lba < 24; ++lba) {
    Image expected(512);
    (*xts)->encrypt(lba, block, expected.data());
    EXPECT_TRUE(
        std::equal(expected.begin(), expected.end(), stored.begin() + static_cast<std::ptrdiff_t>(lba * 512)))
        << lba;
  }
  EXPECT_TRUE(std::all_of(stored.begin(), stored.begin() + 16 * 512, [](auto b) { return b == 0; }));
  struct stat info {};
  ASSERT_EQ(::stat(key_path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777, 0600u);
  open_disk();
  ASSERT_EQ(read(16, in), OpStatus::ok);
  EXPECT_TRUE(in.all(0x5a));
}

// Also those whose protection information lies in another piece of memory.
TEST_F(Encrypted, BlocksThatPiecesCutAreTheSame) {
  for (const std::uint32_t protection : {0u, 8u}) {
    path = folder.file("disk-" + std::to_string(protection), mib);
    open_disk(protection);
    const std::size_t block = 512 + protection, total = 7 * block;
    ASSERT_EQ(channel->geometry().block_size_bytes, block);
    Image data(total), back(total);
    for (std::size_t i = 0; i < total; ++i) data[i] = static_cast<std::uint8_t>(i * 7 + i / 256);
    const std::size_t cuts[] = {0,    1, 100, 512, 513, block + 9, 3 * block, 3 * block + 511, 5 * block - 1,
                                total};
    for (const OpKind kind : {OpKind::write, OpKind::read}) {
      std::vector<iovec> pieces;
      for (std::size_t i = 0; i + 1 < std::size(cuts); ++i)
        pieces.push_back({(kind == OpKind::write ? data : back).data() + cuts[i], cuts[i + 1] - cuts[i]});
      BlockOp op;
      op.kind = kind;
      op.lba = Lba(5);
      op.blocks = BlockCount(7);
      op.data = pieces;
      ASSERT_EQ(run(op), OpStatus::ok);
      EXPECT_EQ(op.data.data(), pieces.data());
    }
    EXPECT_EQ(back, data);
    const Image stored = slurp(path);
    EXPECT_FALSE(contains(stored, Bytes(data).first(64)));
    auto xts = crypto::Xts::create(key().reveal());
    Image third(block);
    (*xts)->decrypt(7, Bytes(stored).subspan(7 * block, block), third.data());
    EXPECT_TRUE(
        std::equal(third.begin(), third.end(), data.begin() + static_cast<std::ptrdiff_t>(2 * block)));
  }
}

TEST_F(Encrypted, WhatIsDeallocatedReadsAsZeroes) {
  open_disk();
  Buffer in(8192, 1), out(8192, 0x77);
  ASSERT_EQ(read(64, in), OpStatus::ok);
  EXPECT_TRUE(in.all(0));
  for (const OpKind kind : {OpKind::unmap, OpKind::write_zeroes}) {
    if (kind == OpKind::unmap && !channel->geometry().thin) continue;
    ASSERT_EQ(write(64, out), OpStatus::ok);
    ASSERT_EQ(range(kind, 64, 16), OpStatus::ok);
    ASSERT_EQ(read(64, in), OpStatus::ok);
    EXPECT_TRUE(in.all(0));
  }
  // Zeroes that are written are encrypted as anything else.
  Buffer zeroes(8192, 0);
  ASSERT_EQ(write(64, zeroes), OpStatus::ok);
  ASSERT_EQ(read(64, in), OpStatus::ok);
  EXPECT_TRUE(in.all(0));
  const Image stored = slurp(path);
  EXPECT_NE(Image(stored.begin() + 64 * 512, stored.begin() + 65 * 512), Image(512));
}

TEST_F(Encrypted, AnotherKeyMakesWhatIsStoredUnreadable) {
  open_disk();
  auto second = store->open_channel(*loop);
  ASSERT_TRUE(second);
  Buffer out(4096, 0x5a), in(4096);
  ASSERT_EQ(write(16, out), OpStatus::ok);
  const crypto::Secret old = key();
  const Image stored = slurp(path);
  ASSERT_EQ(change_key(), OpStatus::ok);
  EXPECT_EQ(slurp(path), stored);
  EXPECT_FALSE(key().equals(old));
  EXPECT_FALSE(contains(slurp(key_path()), old.reveal()));
  for (int opened = 0; opened < 3; ++opened) {  // by this channel, by another of the store, and after a
                                                // restart
    if (opened == 1) std::swap(channel, *second);
    if (opened == 2) {
      second->reset();
      open_disk();
    }
    ASSERT_EQ(read(16, in), OpStatus::ok);
    EXPECT_LT(std::count(in.data(), in.data() + in.size(), 0x5a), 200) << opened;
    ASSERT_EQ(read(0, in), OpStatus::ok);
    EXPECT_TRUE(in.all(0));
  }
  ASSERT_EQ(write(16, out), OpStatus::ok);
  ASSERT_EQ(read(16, in), OpStatus::ok);
  EXPECT_TRUE(in.all(0x5a));
}

TEST_F(Encrypted, WritesThatFindNoMemoryWaitTheirTurn) {
  path = folder.file("disk", 64 * mib);
  open_disk();
  static constexpr std::size_t count = 40;
  std::vector<std::unique_ptr<Buffer>> data;
  std::vector<BlockOp> ops(count);
  std::vector<iovec> pieces(count);
  struct End {
    runtime::Loop& loop;
    std::size_t left;
    void on_done(BlockOp& op) {
      EXPECT_EQ(op.status, OpStatus::ok);
      if (--left == 0) loop.stop();
    }
  } end{*loop, count};
  for (std::size_t i = 0; i < count; ++i) {
    data.push_back(std::make_unique<Buffer>(mib, static_cast<std::uint8_t>(i + 1)));
    pieces[i] = {data[i]->data(), mib};
    ops[i].kind = OpKind::write;
    ops[i].lba = Lba(i * mib / 512);
    ops[i].blocks = BlockCount(mib / 512);
    ops[i].data = {&pieces[i], 1};
    ops[i].done = Delegate<void(BlockOp&)>::to<&End::on_done>(end);
  }
  for (BlockOp& op : ops) {
    if (channel->submit(op)) end.on_done(op);
  }
  if (end.left != 0) loop->run();
  Buffer in(mib);
  for (std::size_t i = 0; i < count; ++i) {
    ASSERT_EQ(read(i * mib / 512, in), OpStatus::ok);
    EXPECT_TRUE(in.all(static_cast<std::uint8_t>(i + 1))) << i;
  }
}

TEST_F(Encrypted, ADiskThatGrowsIsEncryptedThere) {
  open_disk();
  ASSERT_EQ(::truncate(path.c_str(), 2 * mib), 0);
  store->set_blocks(*channel, BlockCount(2 * mib / 512));
  Buffer out(512, 0x5a), in(512);
  ASSERT_EQ(write(4095, out), OpStatus::ok);
  ASSERT_EQ(read(4095, in), OpStatus::ok);
  EXPECT_TRUE(in.all(0x5a));
  EXPECT_FALSE(contains(slurp(path), Image(16, 0x5a)));
}

// ---- what is refused

TEST_F(Encrypted, ADiskThatHoldsDataDoesNotBecomeOne) {
  path = folder.file("disk", mib);
  spill(path, Image(1, 1));
  EXPECT_NE(refusal(options()).message.find("holds data"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(key_path()));
  BackstoreOptions without = options();
  without.key_folder.clear();
  EXPECT_EQ(refusal(without).code, Errc::invalid_argument);
}

TEST_F(Encrypted, ADiskIsNotServedWithoutItsKey) {
  open_disk();
  Buffer out(512, 0x5a);
  ASSERT_EQ(write(0, out), OpStatus::ok);
  channel.reset();
  store.reset();
  BackstoreOptions plain = options();
  plain.encrypted = false;
  EXPECT_NE(refusal(plain).message.find(key_path()), std::string::npos);
  ASSERT_EQ(::chmod(key_path().c_str(), 0640), 0);
  EXPECT_EQ(refusal(options()).code, Errc::permission);
  ASSERT_EQ(::chmod(key_path().c_str(), 0600), 0);
  Image file = slurp(key_path());
  file[40] ^= 1;  // of the key
  spill(key_path(), file);
  EXPECT_NE(refusal(options()).message.find("holds data"), std::string::npos);
  file[40] ^= 1;
  spill(key_path(), file);
  open_disk();
  Buffer in(512);
  ASSERT_EQ(read(0, in), OpStatus::ok);
  EXPECT_TRUE(in.all(0x5a));
}

TEST_F(Encrypted, MemoryIsNot) {
  path = "ram:1M";
  EXPECT_EQ(refusal(options()).code, Errc::unsupported);
  open("ram:1M");
  EXPECT_EQ(change_key(), OpStatus::unsupported);
  open(folder.file("plain", mib));
  EXPECT_EQ(change_key(), OpStatus::unsupported);
}

TEST_F(Encrypted, ReadOnlyKeepsItsKey) {
  open_disk();
  BackstoreOptions how = options();
  how.read_only = true;
  channel.reset();
  store.reset();
  open(path, how);
  EXPECT_EQ(change_key(), OpStatus::write_protected);
}

// ---- the change of the key, and failures

// A disk in memory, its key in a file of which every write is noted.
class KeyChange : public BlockTest {
 protected:
  static constexpr std::uint64_t disk = 77;

  void SetUp() override {
    BlockTest::SetUp();
    open("ram:1M");
    Image first(crypto::Xts::key_bytes);
    for (std::size_t i = 0; i < first.size(); ++i) first[i] = static_cast<std::uint8_t>(i);
    encode_key_slot({.disk = disk, .number = 1, .key = crypto::Secret(Bytes(first))},
                    MutableBytes(file).first(key_slot_bytes));
    auto read_key = DiskKey::read("/key", disk, file);
    ASSERT_TRUE(read_key);
    disk_key = *read_key;
    auto recording = std::make_unique<RecordingFile>(file, writes, false, key_file_bytes);
    key_file = recording.get();
    auto made = EncryptionFilter::create(std::move(channel), disk_key, std::move(recording), loop->random());
    ASSERT_TRUE(made);
    channel = std::move(*made);
    ASSERT_EQ(write(0, data), OpStatus::ok);
  }
  OpStatus change_key() { return range(OpKind::change_key, 0, 0); }
  [[nodiscard]] bool readable() {
    Buffer in(512);
    return read(0, in) == OpStatus::ok && in.all(0x5a);
  }
  // Numbers of the keys in the slots; 0: none.
  [[nodiscard]] static std::pair<std::uint64_t, std::uint64_t> numbers(const Image& image) {
    const auto of = [&](std::size_t slot) {
      const auto found = decode_key_slot(Bytes(image).subspan(slot * key_slot_bytes, key_slot_bytes));
      return found ? found->number : 0;
    };
    return {of(0), of(1)};
  }

  Image file = Image(key_file_bytes);
  std::vector<Write> writes;
  std::shared_ptr<DiskKey> disk_key;
  RecordingFile* key_file = nullptr;
  Buffer data{512, 0x5a};
};

struct KeyCuts {
  std::uint64_t old_key = 0, new_key = 0, lost = 0, both = 0;
};

// What a start finds where the power went within any of the writes: of that one a beginning, or all but a
// beginning.
KeyCuts cut_everywhere(const Image& before, const std::vector<Write>& writes, std::uint64_t old_number) {
  KeyCuts cuts;
  const auto judge = [&](const Image& image) {
    const auto key = DiskKey::read("/key", 77, image);
    if (!key) ++cuts.lost;
    else ++((*key)->number() == old_number ? cuts.old_key : cuts.new_key);
    if (key && (*key)->old_key_is_left()) ++cuts.both;
  };
  Image image = before;
  for (const Write& write : writes) {
    const auto at = static_cast<std::ptrdiff_t>(write.offset);
    for (std::size_t cut = 0; cut <= write.data.size(); cut += cut < 128 ? 1 : 61) {
      for (const bool beginning : {true, false}) {
        Image torn = image;
        const std::size_t from = beginning ? 0 : cut, to = beginning ? cut : write.data.size();
        std::copy(write.data.begin() + static_cast<std::ptrdiff_t>(from),
                  write.data.begin() + static_cast<std::ptrdiff_t>(to),
                  torn.begin() + at + static_cast<std::ptrdiff_t>(from));
        judge(torn);
      }
    }
    std::copy(write.data.begin(), write.data.end(), image.begin() + at);
  }
  return cuts;
}

TEST_F(KeyChange, LeavesTheOldKeyOrTheNewOneWhereverThePowerGoes) {
  for (std::uint64_t number = 1; number < 4; ++number) {  // from either slot
    const Image before = file;
    const crypto::Secret old = disk_key->key();
    writes.clear();
    ASSERT_EQ(change_key(), OpStatus::ok);
    ASSERT_EQ(writes.size(), 2u);  // the new key, and over the old one
    for (const Write& each : writes) EXPECT_TRUE(each.durable);
    const KeyCuts cuts = cut_everywhere(before, writes, number);
    EXPECT_EQ(cuts.lost, 0u);
    EXPECT_GT(cuts.old_key, 100u);
    EXPECT_GT(cuts.new_key, 100u);
    EXPECT_GT(cuts.both, 0u);
    EXPECT_EQ(disk_key->number(), number + 1);
    EXPECT_FALSE(contains(file, old.reveal()));
    EXPECT_FALSE(contains(file, old.reveal().first(16)));
    EXPECT_TRUE(contains(file, disk_key->key().reveal()));
  }
  EXPECT_FALSE(readable());
}

// The test can fail: where the old key is overwritten first, there is a moment without any.
TEST_F(KeyChange, LosesTheKeyWhereTheOldOneGoesFirst) {
  const Image before = file;
  ASSERT_EQ(change_key(), OpStatus::ok);
  std::swap(writes[0], writes[1]);
  EXPECT_GT(cut_everywhere(before, writes, 1).lost, 100u);
}

TEST_F(KeyChange, ThatCannotBeWrittenLeavesTheOldKey) {
  key_file->fail = [failed = false](const Write&) mutable { return std::exchange(failed, true) ? 0 : EIO; };
  EXPECT_EQ(change_key(), OpStatus::write_error);
  EXPECT_EQ(last_errno, EIO);
  EXPECT_TRUE(readable());
  EXPECT_EQ(numbers(file), std::pair(std::uint64_t{1}, std::uint64_t{0}));
  EXPECT_EQ(writes.size(), 2u);  // what may have been written is taken back
  key_file->fail = {};
  EXPECT_EQ(change_key(), OpStatus::ok);
  EXPECT_FALSE(readable());
}

// What counts after a restart is unknown: whatever were written now might be unreadable then.
TEST_F(KeyChange, ThatCannotBeTakenBackEndsTheUseOfTheDisk) {
  key_file->fail = [](const Write&) { return EIO; };
  EXPECT_EQ(change_key(), OpStatus::write_error);
  Buffer in(512);
  EXPECT_EQ(read(0, in), OpStatus::read_error);
  EXPECT_EQ(write(0, data), OpStatus::write_error);
  EXPECT_EQ(flush(), OpStatus::write_error);
  key_file->fail = {};
  EXPECT_EQ(change_key(), OpStatus::ok);
  EXPECT_EQ(numbers(file), std::pair(std::uint64_t{0}, std::uint64_t{3}));  // no number comes twice
  EXPECT_EQ(write(0, data), OpStatus::ok);
  EXPECT_TRUE(readable());
}

TEST_F(KeyChange, ThatLeavesTheOldKeyHasFailedAndTheNextOneOverwritesIt) {
  const crypto::Secret old = disk_key->key();
  key_file->fail = [count = 0](const Write&) mutable { return count++ == 1 ? EIO : 0; };
  EXPECT_EQ(change_key(), OpStatus::write_error);
  EXPECT_FALSE(readable());
  key_file->fail = {};
  EXPECT_EQ(change_key(), OpStatus::ok);
  EXPECT_FALSE(contains(file, old.reveal().first(16)));
  EXPECT_EQ(numbers(file), std::pair(std::uint64_t{3}, std::uint64_t{0}));
}

TEST_F(KeyChange, ThatWasInterruptedIsCompletedWhenTheDiskIsOpened) {
  const std::string path = folder.file("disk", mib);
  BackstoreOptions how;
  how.encrypted = true;
  how.key_folder = folder.path();
  open(path, how);
  ASSERT_EQ(write(0, data), OpStatus::ok);
  channel.reset();
  store.reset();
  const std::string key_path = DiskKey::path_of(folder.path(), std::filesystem::canonical(path).string());
  Image both = slurp(key_path);
  auto first = decode_key_slot(Bytes(both).first(key_slot_bytes));
  ASSERT_TRUE(first);
  const crypto::Secret old = first->key.clone();
  Image next(crypto::Xts::key_bytes);
  for (std::size_t i = 0; i < next.size(); ++i) next[i] = static_cast<std::uint8_t>(i);
  encode_key_slot({.disk = first->disk, .number = 2, .key = crypto::Secret(Bytes(next))},
                  MutableBytes(both).subspan(key_slot_bytes));
  spill(key_path, both);
  open(path, how);
  EXPECT_FALSE(readable());
  EXPECT_EQ(numbers(slurp(key_path)), std::pair(std::uint64_t{0}, std::uint64_t{2}));
  EXPECT_FALSE(contains(slurp(key_path), old.reveal().first(16)));
}

// A key is for one disk alone: the file of another is no key.
TEST_F(KeyChange, IsOfOneDisk) {
  EXPECT_EQ(DiskKey::read("/key", disk + 1, file).error().code, Errc::not_found);
  for (std::size_t bit = 0; bit < 100 * 8; ++bit) {
    Image damaged = file;
    damaged[bit / 8] ^= static_cast<std::uint8_t>(1u << (bit % 8));
    EXPECT_FALSE(DiskKey::read("/key", disk, damaged)) << bit;
  }
}

}  // namespace
}  // namespace perilune::block
