// SPDX-License-Identifier: Apache-2.0
#include "target/address_range.hpp"

#include <gtest/gtest.h>

#include <string>

namespace perilune::target {
namespace {

runtime::Endpoint from(const std::string& text) { return runtime::Endpoint::parse(text, 3260).value(); }
AddressRange range(std::string_view text) { return AddressRange::parse(text).value(); }

TEST(AddressRange, AnAddressIsItself) {
  EXPECT_TRUE(range("192.0.2.7").contains(from("192.0.2.7")));
  EXPECT_FALSE(range("192.0.2.7").contains(from("192.0.2.8")));
  EXPECT_TRUE(range("2001:db8::7").contains(from("[2001:db8::7]:1")));
  EXPECT_FALSE(range("2001:db8::7").contains(from("192.0.2.7")));
}

TEST(AddressRange, ANetworkIsAllThatHaveItsPrefix) {
  const AddressRange network = range("192.0.2.128/25");
  EXPECT_TRUE(network.contains(from("192.0.2.129")));
  EXPECT_TRUE(network.contains(from("192.0.2.255")));
  EXPECT_FALSE(network.contains(from("192.0.2.127")));
  EXPECT_TRUE(range("0.0.0.0/0").contains(from("203.0.113.1")));
  EXPECT_TRUE(range("2001:db8::/33").contains(from("[2001:db8:7fff::1]:1")));
  EXPECT_FALSE(range("2001:db8::/33").contains(from("[2001:db8:8000::1]:1")));
}

TEST(AddressRange, AnIpv4AddressOverIpv6IsTheIpv4Address) {
  EXPECT_TRUE(range("192.0.2.0/24").contains(from("[::ffff:192.0.2.9]:1")));
  EXPECT_FALSE(range("192.0.3.0/24").contains(from("[::ffff:192.0.2.9]:1")));
}

TEST(AddressRange, WhatIsNoneIsRefused) {
  for (const char* text : {"", "host", "192.0.2.0/33", "192.0.2.0/", "192.0.2.0/x", "192.0.2.0/-1",
                           "2001:db8::/129", "/8", "192.0.2.0/24/1"})
    EXPECT_FALSE(AddressRange::parse(text).has_value()) << text;
}

}  // namespace
}  // namespace perilune::target
