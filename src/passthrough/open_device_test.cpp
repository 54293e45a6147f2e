// SPDX-License-Identifier: Apache-2.0
// What is found out about a device before it is served: by questions to a device that the test plays, and in
// a /sys of its own.
#include "passthrough/open_device.hpp"

#include <gtest/gtest.h>
#include <sys/sysmacros.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>

#include "base/temporary_folder_test.hpp"
#include "passthrough/probe.hpp"
#include "passthrough/sysfs.hpp"

namespace perilune::passthrough {
namespace {

namespace fs = std::filesystem;

// Answers each command by its CDB.
class AnsweringNode final : public SgNode {
 public:
  int reset() override { return 0; }
  SgResult execute(const SgRequest& request) override {
    asked.emplace_back(request.cdb.begin(), request.cdb.end());
    if (os_errno != 0) return {.os_errno = os_errno};
    if (request.cdb[0] == 0x00 && attentions > 0) {
      --attentions;
      return with_sense(request, {0x72, 6, 0x29, 0, 0, 0, 0, 0});
    }
    const std::uint16_t key = request.cdb[0] == 0x12 && request.cdb[1] == 1
                                  ? static_cast<std::uint16_t>(0x1200 | request.cdb[2])
                                  : request.cdb[0];
    const auto found = replies.find(key);
    if (found == replies.end())
      return with_sense(request, {0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0, 0, 0});
    const std::size_t bytes = std::min<std::size_t>(found->second.size(), request.bytes);
    if (bytes != 0) std::memcpy(request.data[0].iov_base, found->second.data(), bytes);
    return {.residual = static_cast<std::int64_t>(request.bytes) - static_cast<std::int64_t>(bytes)};
  }
  static SgResult with_sense(const SgRequest& request, const std::vector<std::uint8_t>& sense) {
    std::copy(sense.begin(), sense.end(), request.sense.begin());
    return {.status = 2, .sense_bytes = static_cast<std::uint32_t>(sense.size()), .residual = request.bytes};
  }

  std::map<std::uint16_t, std::vector<std::uint8_t>> replies;
  std::vector<std::vector<std::uint8_t>> asked;
  int attentions = 0;
  int os_errno = 0;
};

std::vector<std::uint8_t> inquiry_of(std::uint8_t type) {
  std::vector<std::uint8_t> data(36, ' ');
  data[0] = type;
  std::memcpy(&data[8], "VENDOR  PRODUCT         R1\x01 ", 28);
  return data;
}

TEST(Probe, DiskTellsWhatItIs) {
  AnsweringNode node;
  node.attentions = 2;
  node.replies[0x12] = inquiry_of(0x00);
  node.replies[0x00] = {};
  node.replies[0x25] = {0, 0, 0xff, 0xff, 0, 0, 0x10, 0};
  node.replies[0x1283] = {0,    0x83, 0, 20, 0x61, 0x93, 0, 4, 9, 9, 9, 9,
                          0x01, 0x03, 0, 8,  0x50, 1,    2, 3, 4, 5, 6, 7};
  const auto probed = probe(node);
  ASSERT_TRUE(probed) << probed.error().message;
  EXPECT_EQ(probed->facts.type, 0);
  EXPECT_EQ(probed->facts.block_bytes, 4096u);
  EXPECT_EQ(probed->facts.inquiry.size(), 36u);
  EXPECT_EQ(probed->product, "VENDOR PRODUCT R1");
  EXPECT_EQ(probed->designators, ":010300085001020304050607");
  EXPECT_EQ(node.attentions, 0);
}

TEST(Probe, DeviceWithoutDesignatorsIsNamedByItsSerialNumber) {
  AnsweringNode node;
  node.replies[0x12] = inquiry_of(0x01);
  node.replies[0x00] = {};
  node.replies[0x1283] = {0, 0x83, 0xff, 0xff, 0x01, 0x03, 0, 200, 1};  // a designator that passes the end
  node.replies[0x1280] = {1, 0x80, 0, 2, 'A', 'B'};
  const auto probed = probe(node);
  ASSERT_TRUE(probed);
  EXPECT_EQ(probed->designators, ":4142");
  EXPECT_EQ(probed->facts.block_bytes, 0u);
  for (const auto& cdb : node.asked) EXPECT_NE(cdb[0], 0x25) << "a tape has no capacity to be asked for";
}

TEST(Probe, EndlessUnitAttentionsDoNotHoldItUp) {
  AnsweringNode node;
  node.attentions = 1'000'000;
  node.replies[0x12] = inquiry_of(0x05);
  ASSERT_TRUE(probe(node));
  EXPECT_LT(node.asked.size(), 20u);
}

TEST(Probe, WhatIsNoLogicalUnitIsRefused) {
  AnsweringNode silent;
  silent.os_errno = ENXIO;
  EXPECT_EQ(probe(silent).error().code, Errc::io);
  AnsweringNode refusing;
  EXPECT_EQ(probe(refusing).error().code, Errc::unsupported);
  AnsweringNode brief;
  brief.replies[0x12] = {0, 0, 5, 2, 0};
  EXPECT_EQ(probe(brief).error().code, Errc::unsupported);
  AnsweringNode empty;
  empty.replies[0x12] = inquiry_of(0x7f);
  EXPECT_EQ(probe(empty).error().code, Errc::unsupported);
}

class Sysfs : public ::testing::Test {
 protected:
  void put(const std::string& name, const std::string& text) const {
    fs::create_directories((root / name).parent_path());
    std::ofstream(root / name) << text << '\n';
  }
  void link(const std::string& name, const std::string& to) const {
    fs::create_directories((root / name).parent_path());
    fs::create_directory_symlink(to, root / name);
  }
  void a_disk() const {
    put("scsi/0:0:0:0/queue_depth", "64");
    put("scsi/0:0:0:0/block/sda/queue/max_hw_sectors_kb", "512");
    put("scsi/0:0:0:0/block/sda/queue/max_segments", "128");
    fs::create_directories(root / "scsi/0:0:0:0/scsi_generic/sg3");
  }
  [[nodiscard]] NodeInfo read(mode_t kind, unsigned number_major, unsigned number_minor) const {
    struct stat node {};
    node.st_mode = kind;
    node.st_rdev = makedev(number_major, number_minor);
    return read_node_info(root.string(), node);
  }
  TemporaryFolder folder;
  fs::path root = folder.path();
};

TEST_F(Sysfs, GenericNodeLeadsToItsDisk) {
  a_disk();
  link("dev/char/21:3/device", (root / "scsi/0:0:0:0").string());
  link("dev/char/21:3/subsystem", "/sys/class/scsi_generic");
  const NodeInfo info = read(S_IFCHR, 21, 3);
  EXPECT_EQ(info.kind, NodeKind::generic);
  EXPECT_EQ(info.block_names, (std::vector<std::string>{"sda"}));
  EXPECT_EQ(info.generic_node, "/dev/sg3");
  EXPECT_EQ(info.queue_depth, 64u);
  EXPECT_EQ(info.max_bytes, 524288u);
  EXPECT_EQ(info.max_segments, 128u);
}

TEST_F(Sysfs, PartitionIsTold) {
  a_disk();
  link("dev/block/8:0/device", (root / "scsi/0:0:0:0").string());
  put("dev/block/8:1/partition", "1");
  EXPECT_EQ(read(S_IFBLK, 8, 0).kind, NodeKind::block);
  EXPECT_EQ(read(S_IFBLK, 8, 1).kind, NodeKind::partition);
}

TEST_F(Sysfs, TapesOwnNodeIsAnotherAndLeadsToTheGenericOne) {
  fs::create_directories(root / "scsi/1:0:0:0/scsi_generic/sg5");
  put("scsi/1:0:0:0/queue_depth", "no number");
  link("dev/char/9:0/device", (root / "scsi/1:0:0:0").string());
  link("dev/char/9:0/subsystem", "/sys/class/scsi_tape");
  const NodeInfo info = read(S_IFCHR, 9, 0);
  EXPECT_EQ(info.kind, NodeKind::other);
  EXPECT_EQ(info.generic_node, "/dev/sg5");
  EXPECT_EQ(info.queue_depth, std::nullopt);
  EXPECT_EQ(info.max_bytes, std::nullopt);
}

TEST_F(Sysfs, BsgNodeAndWhatIsUnknown) {
  link("dev/char/250:0/subsystem", "/sys/class/bsg");
  EXPECT_EQ(read(S_IFCHR, 250, 0).kind, NodeKind::bsg);
  EXPECT_EQ(read(S_IFCHR, 1, 3).kind, NodeKind::other);
}

Error why_not(const std::string& path) {
  const auto opened = open_device(path, {});
  return opened ? Error{} : opened.error();
}

TEST(OpenDevice, SaysWhatIsWrongWithAPath) {
  EXPECT_EQ(why_not("/dev/perilune-none").code, Errc::not_found);
  const Error folder = why_not("/tmp");
  EXPECT_EQ(folder.code, Errc::invalid_argument);
  EXPECT_NE(folder.message.find("is no device"), std::string::npos);
  const Error null = why_not("/dev/null");
  EXPECT_EQ(null.code, Errc::unsupported);
  EXPECT_EQ(null.message, "/dev/null: takes no SCSI commands");
}

}  // namespace
}  // namespace perilune::passthrough
