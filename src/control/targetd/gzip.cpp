// SPDX-License-Identifier: Apache-2.0
#include "control/targetd/gzip.hpp"

#include <isa-l/igzip_lib.h>

#include <array>
#include <cstdint>
#include <memory>

namespace perilune::control::targetd {
namespace {

// ISA-L takes pointers to what it does not write through without const.
std::uint8_t* input(std::string_view text) {
  return const_cast<std::uint8_t*>(reinterpret_cast<const std::uint8_t*>(text.data()));
}

}  // namespace

Result<std::string> gzip(std::string_view text) {
  if (text.size() > UINT32_MAX / 2) return fail(Errc::limit, "too long for a backup");
  isal_zstream stream{};
  isal_deflate_stateless_init(&stream);
  stream.gzip_flag = IGZIP_GZIP;
  stream.end_of_stream = 1;
  stream.next_in = input(text);
  stream.avail_in = static_cast<std::uint32_t>(text.size());
  // Stored blocks of at most 65535 bytes are the worst case; beside them the gzip header and trailer.
  std::string out(text.size() + 5 * (text.size() / 65535 + 2) + 64, '\0');
  stream.next_out = reinterpret_cast<std::uint8_t*>(out.data());
  stream.avail_out = static_cast<std::uint32_t>(out.size());
  if (isal_deflate_stateless(&stream) != COMP_OK) return fail(Errc::internal, "cannot compress");
  out.resize(stream.total_out);
  return out;
}

Result<std::string> gunzip(std::string_view compressed, std::size_t max_bytes) {
  if (compressed.size() > UINT32_MAX / 2) return fail(Errc::limit, "too long");
  const auto state = std::make_unique<inflate_state>();
  isal_inflate_init(state.get());
  state->crc_flag = ISAL_GZIP;
  state->next_in = input(compressed);
  state->avail_in = static_cast<std::uint32_t>(compressed.size());
  std::string out;
  std::array<std::uint8_t, 65536> part;
  do {
    state->next_out = part.data();
    state->avail_out = part.size();
    if (isal_inflate(state.get()) != ISAL_DECOMP_OK)
      return fail(Errc::invalid_argument, "is not an intact gzip file");
    const std::size_t got = part.size() - state->avail_out;
    if (out.size() + got > max_bytes) return fail(Errc::limit, "is too long");
    out.append(reinterpret_cast<const char*>(part.data()), got);
    if (got == 0 && state->block_state != ISAL_BLOCK_FINISH)
      return fail(Errc::invalid_argument, "is cut off");
  } while (state->block_state != ISAL_BLOCK_FINISH);
  return out;
}

}  // namespace perilune::control::targetd
