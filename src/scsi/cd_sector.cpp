// SPDX-License-Identifier: Apache-2.0
#include "scsi/cd_sector.hpp"

#include <algorithm>
#include <array>

namespace perilune::scsi {
namespace {

using Sector = std::span<std::uint8_t, cd_sector_bytes>;

constexpr std::uint8_t bcd(std::uint32_t number) noexcept {
  return static_cast<std::uint8_t>(number / 10 << 4 | number % 10);
}

// ---- EDC (ECMA-130 14.3): (x^16 + x^15 + x^2 + 1)(x^16 + x^2 + x + 1), the least significant bit of a byte
// first

constexpr std::uint32_t edc_polynomial = 0xd8018001;  // the first power on the left

constexpr auto edc_table = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t byte = 0; byte < table.size(); ++byte) {
    std::uint32_t rest = byte;
    for (int bit = 0; bit < 8; ++bit) rest = (rest >> 1) ^ ((rest & 1) != 0 ? edc_polynomial : 0);
    table[byte] = rest;
  }
  return table;
}();

void add_edc(Sector sector) noexcept {
  std::uint32_t rest = 0;
  for (std::size_t i = 0; i < cd_sector::edc; ++i) rest = (rest >> 8) ^ edc_table[(rest ^ sector[i]) & 0xff];
  for (std::size_t i = 0; i < 4; ++i) sector[cd_sector::edc + i] = static_cast<std::uint8_t>(rest >> 8 * i);
}

// ---- ECC (ECMA-130 annex A): Reed-Solomon codes with two parity bytes over GF(2^8) with x^8 + x^4 + x^3 +
// x^2 + 1. Of a code word v of n bytes, the parity last, both the sum of v(i) and the sum of a^(n-1-i) v(i)
// are zero.

constexpr std::uint8_t times_a(std::uint8_t value) noexcept {
  return static_cast<std::uint8_t>((value << 1) ^ ((value & 0x80) != 0 ? 0x1d : 0));
}

constexpr auto divided_by_a_plus_1 = [] {
  std::array<std::uint8_t, 256> table{};
  for (unsigned value = 0; value < table.size(); ++value) {
    const auto v = static_cast<std::uint8_t>(value);
    table[times_a(v) ^ v] = v;
  }
  return table;
}();

// The bytes behind the synchronisation are two arrays of bytes with even and with odd numbers, each coded
// alone. Code word `word` of one of them begins at byte `first`, has `count` bytes, each `step` bytes behind
// the last one, counted around `bytes` bytes; its parity is at `parity` and `distance` bytes further on.
struct Code {
  std::size_t first, count, step, bytes, parity, distance;
};

void add_parity(std::span<std::uint8_t> coded, const Code& code) noexcept {
  std::uint8_t sum = 0;
  std::uint8_t weighted = 0;
  std::size_t at = code.first;
  for (std::size_t i = 0; i < code.count; ++i) {
    sum ^= coded[at];
    weighted = times_a(weighted) ^ coded[at];
    at += code.step;
    if (at >= code.bytes) at -= code.bytes;
  }
  weighted = times_a(times_a(weighted));
  const std::uint8_t first = divided_by_a_plus_1[sum ^ weighted];
  coded[code.parity] = first;
  coded[code.parity + code.distance] = sum ^ first;
}

void add_ecc(Sector sector) noexcept {
  const std::span<std::uint8_t> coded = sector.subspan(cd_sector::header);
  constexpr std::size_t p = cd_sector::p_parity - cd_sector::header,
                        q = cd_sector::q_parity - cd_sector::header;
  for (std::size_t column = 0; column < 86; ++column) add_parity(coded, {column, 24, 86, p, p + column, 86});
  for (std::size_t i = 0; i < 52; ++i) add_parity(coded, {i / 2 * 86 + i % 2, 43, 88, q, q + i, 52});
}

}  // namespace

void make_cd_sector(std::uint32_t lba, std::span<const std::uint8_t, cd_user_bytes> data,
                    Sector sector) noexcept {
  std::fill(sector.begin() + 1, sector.begin() + 11, std::uint8_t{0xff});
  sector[0] = sector[11] = 0;
  const std::uint32_t address = lba + 150;
  sector[cd_sector::header] = bcd(address / (60 * 75));
  sector[cd_sector::header + 1] = bcd(address / 75 % 60);
  sector[cd_sector::header + 2] = bcd(address % 75);
  sector[cd_sector::header + 3] = 1;  // mode
  std::copy(data.begin(), data.end(), sector.begin() + cd_sector::user);
  add_edc(sector);
  std::fill(sector.begin() + cd_sector::reserved, sector.begin() + cd_sector::p_parity, std::uint8_t{0});
  add_ecc(sector);
}

}  // namespace perilune::scsi
