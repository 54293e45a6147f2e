// SPDX-License-Identifier: Apache-2.0
// What goes over the wire between the ceiling's requester and responder: as many bytes as iSCSI moves for the
// same I/O, and no protocol. A request is a header of 48 bytes and `in_bytes` of payload, its answer a header
// and `out_bytes`: a read has no payload in, a write none out. With digests each header is followed by 4
// bytes of CRC32C, and so is each payload that is not empty; the magic of the first request of a connection
// says whether it has them. Answers come in the order of the requests, from a file in any order. Both ends
// run on one machine: fields are in its byte order.
#pragma once

#include <cstdint>

namespace ceiling {

struct Header {
  std::uint32_t magic = 0;
  std::uint32_t in_bytes = 0;
  std::uint32_t out_bytes = 0;
  std::uint32_t tag = 0;       // of the request, repeated in the answer
  std::uint64_t offset = 0;    // on the disk, in bytes
  std::uint8_t padding[24] = {};
};
static_assert(sizeof(Header) == 48, "as long as an iSCSI basic header segment");

inline constexpr std::uint32_t header_magic = 0x6365696c;
inline constexpr std::uint32_t header_magic_with_digests = 0x6365696d;
inline constexpr std::uint32_t digest_bytes = 4;
inline constexpr std::uint32_t max_payload_bytes = 4u << 20;

// A login as the bench's rate of logins needs it: one exchange of text, then a logout without payload.
inline constexpr std::uint32_t login_request_bytes = 400;
inline constexpr std::uint32_t login_answer_bytes = 400;

}  // namespace ceiling
