// SPDX-License-Identifier: Apache-2.0
#include "base/copy.hpp"

#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace perilune {
namespace {

constexpr std::size_t line_bytes = 64;
constexpr std::size_t worth_it_bytes = 1024;  // below, the ends cost more than the lines gain

#if defined(__x86_64__)

// Whole lines, `to` on a line. One store a line where AVX-512 is; four with what every x86-64 has.
__attribute__((target("avx512f"))) void stream_lines_512(std::uint8_t* to, const std::uint8_t* from,
                                                         std::size_t lines) noexcept {
  for (; lines > 0; --lines, to += line_bytes, from += line_bytes) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(to), _mm512_loadu_si512(from));
  }
}

void stream_lines_128(std::uint8_t* to, const std::uint8_t* from, std::size_t lines) noexcept {
  for (; lines > 0; --lines, to += line_bytes, from += line_bytes) {
    for (std::size_t i = 0; i < line_bytes; i += 16) {
      _mm_stream_si128(reinterpret_cast<__m128i*>(to + i),
                       _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i)));
    }
  }
}

using StreamLines = void (*)(std::uint8_t*, const std::uint8_t*, std::size_t) noexcept;
// The portable one until this library's static initialisation, which is merely slower.
StreamLines stream_lines = stream_lines_128;
const bool stream_lines_chosen = [] {
  if (__builtin_cpu_supports("avx512f") != 0) stream_lines = stream_lines_512;
  return true;
}();

#endif

}  // namespace

void copy_past_caches(std::uint8_t* to, const std::uint8_t* from, std::size_t bytes) noexcept {
#if defined(__x86_64__)
  if (bytes >= worth_it_bytes) {
    const std::size_t head = (line_bytes - reinterpret_cast<std::uintptr_t>(to) % line_bytes) % line_bytes;
    std::memcpy(to, from, head);
    to += head;
    from += head;
    bytes -= head;
    stream_lines(to, from, bytes / line_bytes);
    to += bytes / line_bytes * line_bytes;
    from += bytes / line_bytes * line_bytes;
    bytes %= line_bytes;
  }
#endif
  std::memcpy(to, from, bytes);
}

}  // namespace perilune
