// SPDX-License-Identifier: Apache-2.0
// TransportIDs of iSCSI initiator ports (SPC-4 7.6.4.6) as PERSISTENT RESERVE IN and OUT carry them. To the
// rest of scsi/ a port is its name, as plain bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <tl/expected.hpp>

#include "base/bytes.hpp"

namespace perilune::scsi {

inline constexpr std::size_t min_transport_id_bytes = 24;

struct TransportId {
  std::string name;  // normal form: lower case
  bool is_device =
      false;  // format 00b: `name` is of an initiator device; its ports are `name` + ",i,0x" + ISID
  std::size_t bytes = 0;  // that it takes
};

// The TransportID that `list` begins with, for nexuses of this protocol. Malformed: the place of the first
// wrong byte.
[[nodiscard]] tl::expected<TransportId, std::size_t> parse_transport_id(Bytes list,
                                                                        std::uint8_t protocol_identifier);

// Format 01b, padded with zeroes to a multiple of four.
void append_transport_id(std::vector<std::uint8_t>& out, std::uint8_t protocol_identifier,
                         std::string_view initiator_port);

// Whether the port is one of this initiator device.
[[nodiscard]] bool is_port_of_device(std::string_view initiator_port, std::string_view device) noexcept;

}  // namespace perilune::scsi
