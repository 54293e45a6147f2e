// SPDX-License-Identifier: Apache-2.0
// Block devices, by loop devices over temporary files. Needs root; skipped without.
#include <linux/loop.h>
#include <sys/ioctl.h>

#include <algorithm>

#include "block/block_test.hpp"
#include "block/disk_key.hpp"

namespace perilune::block {
namespace {

// A loop device over `path`, gone with this object.
class LoopDevice {
 public:
  LoopDevice(const std::string& path, std::uint32_t block_size) {
    const int control = ::open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    const int file = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
    // Others may take the free one first.
    for (int attempt = 0; attempt < 20 && control >= 0 && file >= 0 && fd_ < 0; ++attempt) {
      const int number = ::ioctl(control, LOOP_CTL_GET_FREE);
      if (number < 0) break;
      path_ = "/dev/loop" + std::to_string(number);
      fd_ = ::open(path_.c_str(), O_RDWR | O_CLOEXEC);
      loop_config config{};
      config.fd = static_cast<__u32>(file);
      config.block_size = block_size;
      config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
      if (fd_ >= 0 && ::ioctl(fd_, LOOP_CONFIGURE, &config) != 0) {
        ::close(fd_);
        fd_ = -1;
      }
    }
    ::close(control);
    ::close(file);
  }
  ~LoopDevice() {
    if (fd_ >= 0) ::close(fd_);  // LO_FLAGS_AUTOCLEAR: the last close detaches it
  }
  [[nodiscard]] bool ready() const { return fd_ >= 0; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  int fd_ = -1;
  std::string path_;
};

class BlockDevice : public BlockTest, public ::testing::WithParamInterface<std::uint32_t> {};

TEST_P(BlockDevice, IsServedLikeAFile) {
  const std::uint32_t device_block = GetParam();
  const LoopDevice device(folder.file("disk", 8 << 20), device_block);
  if (!device.ready()) GTEST_SKIP() << "no loop device to be had (not root?)";
  open(device.path());
  const Geometry& g = channel->geometry();
  EXPECT_EQ(g.blocks.value(), (8U << 20) / 512);
  EXPECT_EQ(store->identity(), device.path());
  EXPECT_TRUE(store->describe().starts_with("block device " + device.path())) << store->describe();
  // 512-byte blocks on a device that takes only 4096: through the page cache, so that neighbours are never
  // lost.
  EXPECT_EQ(store->describe().find("O_DIRECT") != std::string::npos, device_block == 512)
      << store->describe();
  Buffer all(65536, 0x11), one(512, 0x22), in(65536);
  ASSERT_EQ(write(0, all), OpStatus::ok);
  EXPECT_EQ(write(9, one, true), OpStatus::ok);
  EXPECT_EQ(flush(), OpStatus::ok);
  ASSERT_EQ(read(0, in), OpStatus::ok);
  for (std::size_t i = 0; i < in.size(); ++i) ASSERT_EQ(in.data()[i], i / 512 == 9 ? 0x22 : 0x11) << i;
  EXPECT_EQ(range(OpKind::write_zeroes, 16, 16), OpStatus::ok);
  if (g.thin) {
    EXPECT_EQ(range(OpKind::unmap, 64, 8), OpStatus::ok);
    ASSERT_EQ(read(64, one), OpStatus::ok);
    EXPECT_TRUE(one.all(0));
  }
  ASSERT_EQ(read(16, one), OpStatus::ok);
  EXPECT_TRUE(one.all(0));
  ASSERT_EQ(read(32, one), OpStatus::ok);
  EXPECT_TRUE(one.all(0x11));
  auto second = open_backstore(device.path(), {});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Errc::busy);
  channel.reset();
  store.reset();
  loop.reset();  // whoever holds the device open keeps it attached
}

// A name below /dev/mapper, as it does not change from boot to boot.
class StableName {
 public:
  explicit StableName(const std::string& device)
      : made_folder_(std::filesystem::create_directory("/dev/mapper", error_)) {
    std::filesystem::create_symlink(device, path_, error_);
  }
  ~StableName() {
    std::filesystem::remove(path_, error_);
    if (made_folder_) std::filesystem::remove("/dev/mapper", error_);  // an empty one
  }
  [[nodiscard]] bool ready() const { return !error_; }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::error_code error_;
  bool made_folder_;
  std::string path_ = "/dev/mapper/perilune-test-" + std::to_string(::getpid());
};

TEST_P(BlockDevice, IsEncryptedUnderAKeyThatGoesByAStableName) {
  const std::string file = folder.file("disk", 8 << 20);
  const LoopDevice device(file, GetParam());
  if (!device.ready()) GTEST_SKIP() << "no loop device to be had (not root?)";
  const StableName name(device.path());
  if (!name.ready()) GTEST_SKIP() << "no name to be had in /dev/mapper";
  BackstoreOptions how;
  how.encrypted = true;
  how.key_folder = folder.path();
  const auto unstable = open_backstore(device.path(), how);
  ASSERT_FALSE(unstable);
  EXPECT_NE(unstable.error().message.find("/dev/disk/by-id"), std::string::npos) << unstable.error().message;
  open(name.path(), how);
  Buffer out(4096, 0x5a), in(4096);
  ASSERT_EQ(write(16, out, true), OpStatus::ok);
  ASSERT_EQ(read(16, in), OpStatus::ok);
  EXPECT_TRUE(in.all(0x5a));
  ASSERT_EQ(range(OpKind::change_key, 0, 0), OpStatus::ok);
  ASSERT_EQ(read(16, in), OpStatus::ok);
  EXPECT_LT(std::count(in.data(), in.data() + in.size(), 0x5a), 200);
  channel.reset();
  store.reset();
  open(name.path(), how);
  ASSERT_EQ(write(0, out, true), OpStatus::ok);
  channel.reset();
  store.reset();
  std::filesystem::remove(DiskKey::path_of(folder.path(), name.path()));
  const auto lost = open_backstore(name.path(), how);
  ASSERT_FALSE(lost);
  EXPECT_NE(lost.error().message.find("holds data"), std::string::npos) << lost.error().message;
  loop.reset();  // whoever holds the device open keeps it attached
}

INSTANTIATE_TEST_SUITE_P(LogicalBlock, BlockDevice, ::testing::Values(512U, 4096U));

}  // namespace
}  // namespace perilune::block
