// SPDX-License-Identifier: Apache-2.0
#include "scsi/transport_id.hpp"

#include <gtest/gtest.h>

namespace perilune::scsi {
namespace {

// FORMAT CODE and protocol, reserved, ADDITIONAL LENGTH, and the name with zeroes up to it.
std::vector<std::uint8_t> id(std::uint8_t first, std::string_view name, std::size_t additional) {
  std::vector<std::uint8_t> bytes(4 + additional);
  bytes[0] = first;
  store_be16(&bytes[2], static_cast<std::uint16_t>(additional));
  std::copy(name.begin(), name.end(), bytes.begin() + 4);
  return bytes;
}

constexpr std::string_view port = "iqn.1999-01.x:a,i,0x80123456789a";

TEST(TransportId, NamesAnInitiatorPort) {
  auto bytes = id(0x45, port, 36);
  bytes.push_back(0xaa);  // the next one
  const auto parsed = parse_transport_id(bytes, 5);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->name, port);
  EXPECT_FALSE(parsed->is_device);
  EXPECT_EQ(parsed->bytes, 40u);
}

TEST(TransportId, NamesAnInitiatorDevice) {
  const auto parsed = parse_transport_id(id(0x05, "iqn.1999-01.x:a", 20), 5);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->name, "iqn.1999-01.x:a");
  EXPECT_TRUE(parsed->is_device);
  EXPECT_EQ(parsed->bytes, 24u);
}

TEST(TransportId, UpperCaseIsTheSameName) {
  const auto parsed = parse_transport_id(id(0x45, "IQN.1999-01.X:A,I,0X80123456789A", 36), 5);
  ASSERT_TRUE(parsed);
  EXPECT_EQ(parsed->name, port);
}

TEST(TransportId, TellsTheFirstWrongByte) {
  const auto wrong = [](const std::vector<std::uint8_t>& bytes) {
    const auto parsed = parse_transport_id(bytes, 5);
    return parsed ? -1 : static_cast<int>(parsed.error());
  };
  EXPECT_EQ(wrong({}), 0);
  EXPECT_EQ(wrong(std::vector<std::uint8_t>(23, 0x45)), 0);
  for (const std::uint8_t first : std::initializer_list<std::uint8_t>{0x85, 0xc5, 0x55, 0x65, 0x40, 0x46})
    EXPECT_EQ(wrong(id(first, port, 36)), 0) << int{first};
  auto reserved = id(0x45, port, 36);
  reserved[1] = 1;
  EXPECT_EQ(wrong(reserved), 1);
  auto length = id(0x45, port, 36);
  for (const std::uint8_t additional : std::initializer_list<std::uint8_t>{0, 16, 19, 37, 40, 255}) {
    length[3] = additional;
    EXPECT_EQ(wrong(length), 2) << int{additional};
  }
  EXPECT_EQ(wrong(id(0x45, port, 32)), 4) << "no NUL";
  EXPECT_EQ(wrong(id(0x45, "", 20)), 4);
  EXPECT_EQ(wrong(id(0x05, "", 20)), 4);
  EXPECT_EQ(wrong(id(0x05, "iqn.x y", 20)), 4);
  EXPECT_EQ(wrong(id(0x05, port, 36)), 4) << "a port is no device";
  for (const char* name :
       {"iqn.x", "iqn.x,i,0x8012345678", "iqn.x,i,0x80123456789g", "iqn.x,t,0x80123456789a",
        ",i,0x80123456789a", "iqn.x,i,0x80123456789a0", "iqn.x,i,0x80123456789a,i,0x80123456789a"}) {
    EXPECT_EQ(wrong(id(0x45, name, 64)), 4) << name;
  }
  EXPECT_EQ(wrong(id(0x05, std::string(224, 'a'), 228)), 4);
}

TEST(TransportId, OtherProtocolsHaveNone) { EXPECT_FALSE(parse_transport_id(id(0x46, port, 36), 6)); }

TEST(TransportId, IsPaddedToWordsAndToItsLeastLength) {
  std::vector<std::uint8_t> out{0xff};
  append_transport_id(out, 5, port);  // 32 bytes: a NUL makes 33
  ASSERT_EQ(out.size(), 1 + 4 + 36u);
  EXPECT_EQ(std::vector<std::uint8_t>(out.begin() + 1, out.end()), id(0x45, port, 36));
  out.clear();
  append_transport_id(out, 5, "x,i,0x000000000001");
  EXPECT_EQ(out, id(0x45, "x,i,0x000000000001", 20));
}

TEST(TransportId, PortsBelongToOneDevice) {
  EXPECT_TRUE(is_port_of_device(port, "iqn.1999-01.x:a"));
  EXPECT_FALSE(is_port_of_device(port, "iqn.1999-01.x"));
  EXPECT_FALSE(is_port_of_device("iqn.1999-01.x:ab,i,0x80123456789a", "iqn.1999-01.x:a"));
}

}  // namespace
}  // namespace perilune::scsi
