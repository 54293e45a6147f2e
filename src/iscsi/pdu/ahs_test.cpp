// SPDX-License-Identifier: Apache-2.0
#include "iscsi/pdu/ahs.hpp"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "base/limits.hpp"

namespace perilune::iscsi {
namespace {

using Raw = std::vector<std::uint8_t>;

TEST(Ahs, NoneIsFine) {
  const auto list = parse_ahs({});
  ASSERT_TRUE(list.has_value());
  EXPECT_FALSE(list->extended_cdb.has_value());
  EXPECT_FALSE(list->bidirectional_read_length.has_value());
}

// RFC 7143 11.2.2.3: AHSLength is CDBLength - 15, so 17 for a 32-byte CDB.
TEST(Ahs, ReadsAThirtyTwoByteCdbAndAReadLength) {
  Raw raw = {0x00, 0x11, 0x01, 0x00};
  for (std::uint8_t i = 0; i < 16; ++i) raw.push_back(static_cast<std::uint8_t>(0xc0 + i));
  raw.insert(raw.end(), {0x00, 0x05, 0x02, 0x00, 0x00, 0x01, 0x02, 0x03});
  const auto list = parse_ahs(raw);
  ASSERT_TRUE(list.has_value());
  ASSERT_TRUE(list->extended_cdb.has_value());
  ASSERT_EQ(list->extended_cdb->size(), 16u);
  EXPECT_EQ((*list->extended_cdb)[0], 0xc0);
  EXPECT_EQ((*list->extended_cdb)[15], 0xcf);
  EXPECT_EQ(list->bidirectional_read_length, 0x00010203u);
}

TEST(Ahs, AcceptsPaddingAfterAnOddCdb) {
  const Raw raw = {0x00, 0x02, 0x01, 0x00, 0xaa, 0x00, 0x00, 0x00};
  const auto list = parse_ahs(raw);
  ASSERT_TRUE(list.has_value());
  ASSERT_EQ(list->extended_cdb->size(), 1u);
}

struct BadAhs {
  const char* what;
  Raw bytes;
};

TEST(Ahs, RefusesWhatIsNotAnAhs) {
  Raw too_long(1020, 0x00);  // one extended CDB that fills TotalAHSLength 255
  too_long[0] = 0x03;
  too_long[1] = 0xf9;  // 1017
  too_long[2] = 0x01;
  const std::array bad = {
      BadAhs{"not words", {0x00, 0x01, 0x01}},
      BadAhs{"length zero", {0x00, 0x00, 0x01, 0x00}},
      BadAhs{"all zero", Raw(1020, 0)},
      BadAhs{"overruns", {0x00, 0x06, 0x01, 0x00, 0x01, 0x02, 0x03, 0x04}},
      BadAhs{"overruns by far", {0xff, 0xff, 0x01, 0x00}},
      BadAhs{"unknown type", {0x00, 0x01, 0x03, 0x00}},
      BadAhs{"type zero", {0x00, 0x01, 0x00, 0x00}},
      BadAhs{"CDB without bytes", {0x00, 0x01, 0x01, 0x00}},
      BadAhs{"two CDBs", {0x00, 0x02, 0x01, 0x00, 0xaa, 0, 0, 0, 0x00, 0x02, 0x01, 0x00, 0xaa, 0, 0, 0}},
      BadAhs{"read length too short", {0x00, 0x04, 0x02, 0x00, 1, 2, 3, 0}},
      BadAhs{"read length too long", {0x00, 0x06, 0x02, 0x00, 1, 2, 3, 4, 5, 0, 0, 0}},
      BadAhs{"two read lengths", {0, 5, 2, 0, 1, 2, 3, 4, 0, 5, 2, 0, 1, 2, 3, 4}},
      BadAhs{"CDB over 260 bytes", too_long},
      BadAhs{"more than 255 words", Raw(1024, 1)},
  };
  for (const auto& item : bad) {
    const auto list = parse_ahs(item.bytes);
    ASSERT_FALSE(list.has_value()) << item.what;
    EXPECT_EQ(list.error().code, Errc::protocol) << item.what;
  }
}

TEST(Ahs, EncodesAsTheRfcDrawsIt) {
  std::array<std::uint8_t, 12> out;
  out.fill(0xee);
  const std::array<std::uint8_t, 5> tail = {1, 2, 3, 4, 5};
  EXPECT_EQ(encode_extended_cdb_ahs(tail, out.data()), 12u);
  EXPECT_EQ(out, (std::array<std::uint8_t, 12>{0x00, 0x06, 0x01, 0x00, 1, 2, 3, 4, 5, 0, 0, 0}));
  std::array<std::uint8_t, 8> length;
  EXPECT_EQ(encode_bidirectional_read_length_ahs(0x01020304, length.data()), 8u);
  EXPECT_EQ(length, (std::array<std::uint8_t, 8>{0x00, 0x05, 0x02, 0x00, 1, 2, 3, 4}));
}

}  // namespace
}  // namespace perilune::iscsi
