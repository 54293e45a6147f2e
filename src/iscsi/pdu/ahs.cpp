// SPDX-License-Identifier: Apache-2.0
#include "iscsi/pdu/ahs.hpp"

#include <cstring>

#include "base/assert.hpp"
#include "base/limits.hpp"

namespace perilune::iscsi {
namespace {

// AHSLength (2 bytes), AHSType (1 byte), then AHSLength bytes of AHS-Specific (the first of them stands in
// the header word), then padding to a word.
constexpr std::size_t ahs_header_bytes = 3;
constexpr std::size_t bhs_cdb_bytes = 16;

constexpr std::size_t pad_to_word(std::size_t n) noexcept { return (n + 3) & ~std::size_t{3}; }

Status read_one(std::uint8_t type, Bytes specific, AhsList& out) {
  switch (static_cast<AhsType>(type & 0x3f)) {
    case AhsType::extended_cdb: {
      // AHS-Specific is one reserved byte and the CDB bytes from 16 on: AHSLength = CDBLength - 15.
      if (out.extended_cdb) return fail(Errc::protocol, "two extended CDB AHS");
      const Bytes tail = specific.subspan(1);
      if (tail.empty()) return fail(Errc::protocol, "extended CDB AHS without bytes");
      if (bhs_cdb_bytes + tail.size() > limits::max_extended_cdb_bytes) {
        return fail(Errc::protocol, "extended CDB longer than 260 bytes");
      }
      out.extended_cdb = tail;
      return {};
    }
    case AhsType::bidirectional_read_length:
      if (out.bidirectional_read_length) return fail(Errc::protocol, "two bidirectional read length AHS");
      if (specific.size() != 5) return fail(Errc::protocol, "bidirectional read length AHS of wrong length");
      out.bidirectional_read_length = load_be32(specific.data() + 1);
      return {};
  }
  return fail(Errc::protocol, "unknown AHS type");
}

}  // namespace

Result<AhsList> parse_ahs(Bytes ahs) {
  AhsList list;
  if (ahs.size() > limits::max_ahs_bytes || ahs.size() % 4 != 0) {
    return fail(Errc::protocol, "AHS total length is not a number of words");
  }
  while (!ahs.empty()) {
    // The size is a multiple of four here, so the three header bytes are there.
    const std::size_t length = load_be16(ahs.data());
    if (length == 0) return fail(Errc::protocol, "AHS of length zero");
    const std::size_t whole = pad_to_word(ahs_header_bytes + length);
    if (whole > ahs.size()) return fail(Errc::protocol, "AHS overruns TotalAHSLength");
    if (auto read = read_one(ahs[2], ahs.subspan(ahs_header_bytes, length), list); !read) {
      return tl::unexpected<Error>(std::move(read.error()));
    }
    ahs = ahs.subspan(whole);
  }
  return list;
}

std::size_t encode_extended_cdb_ahs(Bytes cdb_tail, std::uint8_t* out) {
  PERILUNE_ASSERT(!cdb_tail.empty() && bhs_cdb_bytes + cdb_tail.size() <= limits::max_extended_cdb_bytes);
  const std::size_t length = cdb_tail.size() + 1;
  const std::size_t whole = pad_to_word(ahs_header_bytes + length);
  std::memset(out, 0, whole);
  store_be16(out, static_cast<std::uint16_t>(length));
  out[2] = static_cast<std::uint8_t>(AhsType::extended_cdb);
  std::memcpy(out + 4, cdb_tail.data(), cdb_tail.size());
  return whole;
}

std::size_t encode_bidirectional_read_length_ahs(std::uint32_t length_bytes, std::uint8_t* out) {
  store_be16(out, 5);
  out[2] = static_cast<std::uint8_t>(AhsType::bidirectional_read_length);
  out[3] = 0;
  store_be32(out + 4, length_bytes);
  return 8;
}

}  // namespace perilune::iscsi
