// SPDX-License-Identifier: Apache-2.0
// For the login tests: PDUs written byte by byte where RFC 7143 11.12 and 11.13 put the fields, not by our
// encoder.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.hpp"
#include "iscsi/login/chap.hpp"
#include "iscsi/text/text.hpp"

namespace perilune::iscsi::test {

using Bhs = std::array<std::uint8_t, 48>;

// The stage byte (byte 1): T 0x80, C 0x40, CSG << 2, NSG.
inline constexpr std::uint8_t security = 0x00, security_to_operational = 0x81, security_to_full = 0x83;
inline constexpr std::uint8_t operational = 0x04, operational_to_full = 0x87;
inline constexpr std::uint8_t more = 0x40;

inline Bhs login_request(std::uint8_t stages, std::size_t data_length) {
  Bhs bhs{};
  bhs[0] = 0x43;
  bhs[1] = stages;
  bhs[6] = static_cast<std::uint8_t>(data_length >> 8);
  bhs[7] = static_cast<std::uint8_t>(data_length);
  const std::uint8_t isid[6] = {0x80, 0x12, 0x34, 0x56, 0x78, 0x9a};
  std::memcpy(bhs.data() + 8, isid, 6);
  bhs[19] = 0x07;                      // ITT 7
  bhs[21] = 0x01;                      // CID 1
  bhs[27] = 0x64;                      // CmdSN 100
  return bhs;
}

// "A=1|B=2" with NUL for each bar and at the end.
inline std::string text(std::string_view bars) {
  std::string out(bars);
  if (out.empty()) return out;
  for (char& c : out) {
    if (c == '|') c = '\0';
  }
  out += '\0';
  return out;
}

// The value of the key in a response's text; "<absent>" when it is not there, "<twice>" when it is there
// twice.
inline std::string value_in(std::string_view data, std::string_view key) {
  const auto keys = parse_text(as_bytes(data));
  if (!keys) return "<broken text>";
  std::string found = "<absent>";
  for (const auto& pair : *keys) {
    if (pair.key != key) continue;
    if (found != "<absent>") return "<twice>";
    found = std::string(pair.value);
  }
  return found;
}

// A random source that counts: 0x01, 0x02, … so that challenges are known and differ.
struct CountingRandom {
  std::uint8_t next = 1;
  void fill(MutableBytes out) {
    for (auto& byte : out) byte = next++;
  }
  RandomFill source() { return RandomFill::to<&CountingRandom::fill>(*this); }
};

inline ChapCredentials credentials(std::string name, std::string_view secret) {
  return {std::move(name), crypto::Secret(secret)};
}

}  // namespace perilune::iscsi::test
