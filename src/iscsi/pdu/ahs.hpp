// SPDX-License-Identifier: Apache-2.0
// Additional Header Segments (RFC 7143 11.2.2). Pure; no allocation.
#pragma once

#include <cstdint>
#include <optional>

#include "base/bytes.hpp"
#include "base/result.hpp"

namespace perilune::iscsi {

enum class AhsType : std::uint8_t { extended_cdb = 1, bidirectional_read_length = 2 };

// What the AHS of one SCSI Command say. The extended CDB borrows from the bytes that were parsed.
struct AhsList {
  // Bytes 16 and up of the CDB (RFC 7143 11.2.2.3): the CDB is the BHS's 16 bytes followed by these.
  std::optional<Bytes> extended_cdb;
  // Expected Bidirectional Read Data Length in bytes (RFC 7143 11.2.2.4).
  std::optional<std::uint32_t> bidirectional_read_length;
};

// `ahs` is exactly the TotalAHSLength bytes that follow the BHS. Errc::protocol when an AHS has length zero,
// an unknown type, overruns the total, has a wrong length for its type, comes twice, or when the extended CDB
// passes limits::max_extended_cdb_bytes in all. The caller then sends Reject (invalid PDU field).
[[nodiscard]] Result<AhsList> parse_ahs(Bytes ahs);

// Encoders for the initiator: bytes written, padded to four. `out` has at least 4 + pad4(cdb_tail.size())
// bytes (tail not longer than 244), or 8 bytes.
std::size_t encode_extended_cdb_ahs(Bytes cdb_tail, std::uint8_t* out);
std::size_t encode_bidirectional_read_length_ahs(std::uint32_t length_bytes, std::uint8_t* out);

}  // namespace perilune::iscsi
