// SPDX-License-Identifier: Apache-2.0
// INQUIRY, vital product data, capacity and sense against bytes written by hand from SPC-4 and SBC-3.
#include <gtest/gtest.h>

#include <string_view>

#include "scsi/sense.hpp"
#include "scsi/test_support.hpp"

namespace perilune::scsi::test {
namespace {

using Data = std::vector<std::uint8_t>;

Data vpd(std::uint8_t page, std::uint16_t allocation = 1024) {
  return {0x12, 0x01, page, static_cast<std::uint8_t>(allocation >> 8), static_cast<std::uint8_t>(allocation),
          0};
}
void append(Data& out, std::string_view text) { out.insert(out.end(), text.begin(), text.end()); }

TEST(Inquiry, StandardData) {
  Rig rig;
  Data expected{0x00, 0x80, 0x06, 0x12, 91, 0x38, 0, 0x02};  // RMB; TPGS: by the operator and by command; 3PC
  append(expected, "PERILUNEVIRTUAL-DISK    0001");
  expected.resize(58);
  for (const std::uint8_t byte : Data{0x00, 0xa0, 0x04, 0x60, 0x04, 0xc0, 0x09, 0x60})
    expected.push_back(byte);
  expected.resize(96);
  EXPECT_EQ(rig.io({0x12, 0, 0, 1, 4, 0}, {}, 260).run().data_in(), expected);
  for (const std::uint8_t allocation : Data{0, 1, 3, 4, 5, 36}) {
    Io io = rig.io({0x12, 0, 0, 0, allocation, 0}, {}, 260);
    EXPECT_EQ(io.run().data_in(), Data(expected.begin(), expected.begin() + allocation));
    EXPECT_EQ(io.task.data_transfer_length, allocation);
  }
}

TEST(Inquiry, PageCodeWithoutEvpdAndUnknownPages) {
  Rig rig;
  for (int page = 1; page < 256; ++page) {
    Io io = rig.io({0x12, 0, static_cast<std::uint8_t>(page), 0, 96, 0}, {}, 96);
    ASSERT_EQ(io.run().sense(), 0x052400u);
    ASSERT_EQ(load_be16(&io.task.sense[16]), 2);
  }
  EXPECT_EQ(rig.io(vpd(0x84), {}, 255).run().sense(), 0x052400u);
  EXPECT_EQ(rig.io({0x12, 0x02, 0, 0, 96, 0}, {}, 96).run().sense(), 0x052400u);  // CMDDT
}

TEST(Inquiry, EveryPageThatIsListedIsThere) {
  Rig rig;
  const Data list = rig.io(vpd(0x00), {}, 1024).run().data_in();
  EXPECT_EQ(list, (Data{0, 0, 0, 12, 0x00, 0x80, 0x83, 0x86, 0x87, 0x88, 0x8f, 0xb0, 0xb1, 0xb2, 0xb3, 0xb7}));
  for (std::size_t i = 4; i < list.size(); ++i) {
    const Data page = rig.io(vpd(list[i]), {}, 1024).run().data_in();
    EXPECT_EQ(page[1], list[i]);
    EXPECT_EQ(load_be16(&page[2]), page.size() - 4);
    const Data cut = rig.io(vpd(list[i], 6), {}, 1024).run().data_in();
    EXPECT_EQ(cut, Data(page.begin(), page.begin() + 6));
  }
}

TEST(Inquiry, DeviceIdentification) {
  Rig rig;
  Data expected{0x00, 0x83, 0, 0};
  for (const std::uint8_t byte : Data{0x01, 0x03, 0, 8, 0x31, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef}) {
    expected.push_back(byte);
  }
  for (const std::uint8_t byte : Data{0x02, 0x01, 0, 23}) expected.push_back(byte);
  append(expected, "PERILUNE123456789abcdef");
  for (const std::uint8_t byte : Data{0x51, 0x94, 0, 4, 0, 0, 0, 1, 0x51, 0x95, 0, 4, 0, 0, 0, 1}) {
    expected.push_back(byte);
  }
  for (const std::uint8_t byte : Data{0x53, 0x98, 0, 40}) expected.push_back(byte);
  append(expected, "iqn.2026-11.io.perilune:disk,t,0x0001");  // 37 and three NUL
  expected.resize(expected.size() + 3);
  for (const std::uint8_t byte : Data{0x53, 0xa8, 0, 32}) expected.push_back(byte);
  append(expected, "iqn.2026-11.io.perilune:disk");  // 28 and four NUL
  expected.resize(expected.size() + 4);
  store_be16(&expected[2], static_cast<std::uint16_t>(expected.size() - 4));
  EXPECT_EQ(rig.io(vpd(0x83), {}, 1024).run().data_in(), expected);
}

TEST(Inquiry, SerialNumber) {
  Rig rig;
  Data expected{0x00, 0x80, 0, 15};
  append(expected, "123456789abcdef");
  EXPECT_EQ(rig.io(vpd(0x80), {}, 255).run().data_in(), expected);
}

TEST(Inquiry, BlockLimitsSayWhatTheCommandsHoldTo) {
  Rig rig;
  Data expected(64);
  const Data head{0x00, 0xb0, 0, 0x3c, 0x00, 255, 0, 8, 0, 0, 0x08, 0, 0, 0, 0x08, 0, 0, 0, 0, 0,
                  0, 0x10, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0};
  std::copy(head.begin(), head.end(), expected.begin());
  expected[47] = 64;  // MAXIMUM ATOMIC TRANSFER LENGTH, alignment, granularity
  expected[51] = expected[55] = 1;
  EXPECT_EQ(rig.io(vpd(0xb0), {}, 255).run().data_in(), expected);

  auto big = FakeChannel::disk(64, 4096);
  big.thin = false;
  Rig other(big);
  const Data page = other.io(vpd(0xb0), {}, 255).run().data_in();
  EXPECT_EQ(page[5], 128);
  EXPECT_EQ(load_be16(&page[6]), 1);
  EXPECT_EQ(load_be32(&page[8]), 256u);
  EXPECT_EQ(load_be32(&page[20]), 0u);
  EXPECT_EQ(load_be32(&page[24]), 0u);
}

TEST(Inquiry, ChannelsThatTearWritesAdvertiseNoAtomicOnes) {
  auto torn = FakeChannel::disk();
  torn.max_atomic_blocks = 0;
  Rig rig(torn);
  const Data page = rig.io(vpd(0xb0), {}, 255).run().data_in();
  EXPECT_EQ(Data(page.begin() + 44, page.end()), Data(20));
  auto whole = FakeChannel::disk();
  whole.max_atomic_blocks = UINT32_MAX;
  Rig other(whole);
  EXPECT_EQ(load_be32(&other.io(vpd(0xb0), {}, 255).run().data_in()[44]), 2048u);  // no more than a transfer
}

TEST(Inquiry, ModePagesAreSharedByAll) {
  Rig rig;
  EXPECT_EQ(rig.io(vpd(0x87), {}, 255).run().data_in(), (Data{0x00, 0x87, 0, 4, 0x3f, 0xff, 0x00, 0x00}));
}

TEST(Inquiry, BlockLimitsExtensionHasTheLimitsOfScatteredWrites) {
  Rig rig;
  const Data expected{0x00, 0xb7, 0, 0x1c, 0, 0, 0, 0,    0, 0, 0, 0, 0, 0, 0, 0,
                      0,    0,    8, 0,    0, 0, 1, 0,    0, 0, 8, 0, 0, 0, 0, 0};
  EXPECT_EQ(rig.io(vpd(0xb7), {}, 255).run().data_in(), expected);
}

TEST(Inquiry, CharacteristicsProvisioningAndExtendedData) {
  Rig rig;
  EXPECT_EQ(rig.io(vpd(0xb1), {}, 255).run().data_in()[5], 1);  // non-rotating
  EXPECT_EQ(rig.io(vpd(0xb2), {}, 255).run().data_in(), (Data{0, 0xb2, 0, 4, 0, 0xe6, 0x02, 0}));
  const Data extended = rig.io(vpd(0x86), {}, 255).run().data_in();
  EXPECT_EQ(extended.size(), 64u);
  EXPECT_EQ(extended[5], 0x07);
  EXPECT_EQ(extended[6], 0x01);
  auto thick = FakeChannel::disk();
  thick.thin = false;
  thick.rotational = true;
  Rig other(thick);
  EXPECT_EQ(other.io(vpd(0xb2), {}, 255).run().data_in(), (Data{0, 0xb2, 0, 4, 0, 0, 0, 0}));
  EXPECT_EQ(other.io(vpd(0xb1), {}, 255).run().data_in()[5], 0);
}

TEST(Capacity, TenAndSixteenBytes) {
  Rig rig;
  EXPECT_EQ(rig.io({0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}, {}, 8).run().data_in(), (Data{0, 0, 0x07, 0xff, 0, 0, 2, 0}));
  Data cdb{0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0};
  Data expected{0, 0, 0, 0, 0, 0, 0x07, 0xff, 0, 0, 2, 0, 0, 0x03, 0xc0, 0};
  expected.resize(32);
  EXPECT_EQ(rig.io(cdb, {}, 32).run().data_in(), expected);
  cdb[13] = 12;
  EXPECT_EQ(rig.io(cdb, {}, 32).run().data_in(), Data(expected.begin(), expected.begin() + 12));
}

TEST(Capacity, TenBytesSaturateOnALargeDisk) {
  struct Huge : block::Channel {
    block::Geometry facts;
    [[nodiscard]] const block::Geometry& geometry() const override { return facts; }
    bool submit(block::BlockOp&) override { return true; }
  } huge;
  huge.facts.blocks = BlockCount(std::uint64_t{1} << 40);
  Device device("iqn.x");
  ASSERT_TRUE(device.add_unit(0, {}, huge));
  Nexus nexus(device, Rig::names("a"));
  (void)Io(device, nexus, {0, 0, 0, 0, 0, 0}).run();
  EXPECT_EQ(Io(device, nexus, {0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}, {}, 8).run().data_in(),
            (Data{0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0}));
}

TEST(DefectData, IsEmptyInTheFormatAskedFor) {
  Rig rig;
  EXPECT_EQ(rig.io({0x37, 0, 0x1d, 0, 0, 0, 0, 0, 32, 0}, {}, 32).run().data_in(), (Data{0, 0x1d, 0, 0}));
  EXPECT_EQ(rig.io({0xb7, 0x1d, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0}, {}, 32).run().data_in(),
            (Data{0, 0x1d, 0, 0, 0, 0, 0, 0}));
}

TEST(Timestamp, CountsFromTheStartOfTheDevice) {
  Rig rig;
  const Data cdb{0xa3, 0x0f, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0};
  EXPECT_EQ(rig.io(cdb, {}, 64).run().data_in(), (Data{0, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
  rig.clock_ms += 0x0102'0304'0506;
  EXPECT_EQ(rig.io(cdb, {}, 64).run().data_in(), (Data{0, 10, 0, 0, 1, 2, 3, 4, 5, 6, 0, 0}));
}

TEST(Timestamp, WithoutAClockThereIsNone) {
  FakeChannel channel(FakeChannel::disk());
  Device device("iqn.x");
  ASSERT_TRUE(device.add_unit(0, {}, channel));
  Nexus nexus(device, Rig::names("a"));
  (void)Io(device, nexus, {0, 0, 0, 0, 0, 0}).run();
  EXPECT_EQ(Io(device, nexus, {0xa3, 0x0f, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0}, {}, 64).run().status(),
            ScsiStatus::check_condition);
}

TEST(SenseData, FixedFormat) {
  std::array<std::uint8_t, 32> out{};
  const Sense sense{.key = SenseKey::medium_error,
                    .additional = asc::unrecovered_read_error,
                    .information = 0x12345678,
                    .field = std::nullopt};
  ASSERT_EQ(encode_sense(sense, false, out), 18u);
  EXPECT_EQ(Data(out.begin(), out.begin() + 18),
            (Data{0xf0, 0, 3, 0x12, 0x34, 0x56, 0x78, 10, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0}));
  const Sense wide{.key = SenseKey::medium_error,
                   .additional = asc::write_error,
                   .information = 0x1'0000'0000,
                   .field = std::nullopt};
  encode_sense(wide, false, out);
  EXPECT_EQ(out[0], 0x70);  // does not fit: not VALID
  EXPECT_EQ(load_be32(&out[3]), 0u);
}

TEST(SenseData, DescriptorFormat) {
  std::array<std::uint8_t, 32> out{};
  const Sense sense{.key = SenseKey::illegal_request, .additional = asc::lba_out_of_range,
                    .information = 0x1'0000'0000,
                    .field = FieldPointer{.in_cdb = true, .byte = 2, .bit = 7}};
  ASSERT_EQ(encode_sense(sense, true, out), 28u);
  EXPECT_EQ(Data(out.begin(), out.begin() + 28),
            (Data{0x72, 5, 0x21, 0, 0, 0, 0, 20, 0x00, 0x0a, 0x80, 0, 0, 0, 0, 1, 0, 0, 0, 0,
                  0x02, 0x06, 0, 0, 0xcf, 0, 2, 0}));
}

TEST(Inquiry, ScsiPortsNamesEveryPortOfTheDevice) {
  Rig rig;
  rig.device.set_ports({{1, "iqn.a,t,0x0001"}, {0x1234, "iqn.a,t,0x1234"}});
  const Data page = rig.io({0x12, 1, 0x88, 0, 255, 0}, {}, 255).run().data_in();
  Data expected{0, 0x88, 0, 64};
  for (const std::string name : {"iqn.a,t,0x0001", "iqn.a,t,0x1234"}) {
    const bool first = name.back() == '1';
    const Data head{0, 0, static_cast<std::uint8_t>(first ? 0 : 0x12), static_cast<std::uint8_t>(first ? 1 : 0x34), 0, 0, 0, 0, 0, 0, 0,
                    20, 0x53, 0x98, 0, 16};
    expected.insert(expected.end(), head.begin(), head.end());
    expected.insert(expected.end(), name.begin(), name.end());
    expected.insert(expected.end(), 2, 0);
  }
  EXPECT_EQ(page, expected);
}

TEST(Inquiry, ScsiPortsNamesThePortThatIsAskedThrough) {
  Rig rig;
  const Data page = rig.io({0x12, 1, 0x88, 0, 255, 0}, {}, 255).run().data_in();
  const std::string name = "iqn.2026-11.io.perilune:disk,t,0x0001";  // 37 characters, 40 with what fills them
                                                                     // up
  Data expected{0, 0x88, 0, 56, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 44, 0x53, 0x98, 0, 40};
  expected.insert(expected.end(), name.begin(), name.end());
  expected.resize(60);
  EXPECT_EQ(page, expected);
}

}  // namespace
}  // namespace perilune::scsi::test
