// SPDX-License-Identifier: Apache-2.0
// Byte spans and big-endian loads and stores (iSCSI and SCSI are big-endian throughout).
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace perilune {

using Bytes = std::span<const std::uint8_t>;
using MutableBytes = std::span<std::uint8_t>;

namespace detail {
template <std::unsigned_integral T>
constexpr T byteswap(T value) noexcept {
  if constexpr (sizeof(T) == 2) return __builtin_bswap16(value);
  else if constexpr (sizeof(T) == 4) return __builtin_bswap32(value);
  else return __builtin_bswap64(value);
}
template <std::unsigned_integral T>
inline T load_be(const std::uint8_t* p) noexcept {
  T value;
  std::memcpy(&value, p, sizeof value);
  return std::endian::native == std::endian::little ? byteswap(value) : value;
}
template <std::unsigned_integral T>
inline void store_be(std::uint8_t* p, T value) noexcept {
  if (std::endian::native == std::endian::little) value = byteswap(value);
  std::memcpy(p, &value, sizeof value);
}
}  // namespace detail

// The caller guarantees that p has as many bytes as the name says (24 bits: three).
inline std::uint16_t load_be16(const std::uint8_t* p) noexcept { return detail::load_be<std::uint16_t>(p); }
inline std::uint32_t load_be32(const std::uint8_t* p) noexcept { return detail::load_be<std::uint32_t>(p); }
inline std::uint64_t load_be64(const std::uint8_t* p) noexcept { return detail::load_be<std::uint64_t>(p); }
inline std::uint32_t load_be24(const std::uint8_t* p) noexcept {
  return (std::uint32_t{p[0]} << 16) | (std::uint32_t{p[1]} << 8) | p[2];
}
inline void store_be16(std::uint8_t* p, std::uint16_t v) noexcept { detail::store_be(p, v); }
inline void store_be32(std::uint8_t* p, std::uint32_t v) noexcept { detail::store_be(p, v); }
inline void store_be64(std::uint8_t* p, std::uint64_t v) noexcept { detail::store_be(p, v); }
inline void store_be24(std::uint8_t* p, std::uint32_t v) noexcept {
  p[0] = static_cast<std::uint8_t>(v >> 16);
  p[1] = static_cast<std::uint8_t>(v >> 8);
  p[2] = static_cast<std::uint8_t>(v);
}

inline Bytes as_bytes(std::string_view text) noexcept {
  return {reinterpret_cast<const std::uint8_t*>(text.data()), text.size()};
}
inline std::string_view as_text(Bytes bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace perilune
