// SPDX-License-Identifier: Apache-2.0
// What the answers of a scan mean (SPC-4 6.6, 7.8; SBC-3 5.15, 5.16, 6.5). Pure; no length that a target says
// is believed.
#pragma once

#include <string>
#include <vector>

#include "initiator/logical_unit.hpp"

namespace perilune::initiator {

[[nodiscard]] bool parse_inquiry(Bytes data, UnitInfo& info);      // false: too short
[[nodiscard]] std::size_t vpd_end(Bytes page, std::uint8_t code);  // bytes of the page that are there; 0 when
                                                                   // it is another page
[[nodiscard]] std::vector<std::uint8_t>& page_of(UnitInfo& info, std::uint8_t code);
void parse_vpd(UnitInfo& info);                                        // from the raw pages
[[nodiscard]] bool parse_capacity16(Bytes data, UnitInfo& info);       // false: no usable capacity
[[nodiscard]] bool parse_capacity10(Bytes data, UnitInfo& info);
void parse_mode6(Bytes data, UnitInfo& info);                          // caching page, WP, DPOFUA
void parse_mode10(Bytes data, UnitInfo& info);
[[nodiscard]] std::string wwid_of(Bytes vpd83_page);
// ASCII, trimmed; anything that is not printable becomes '_'.
[[nodiscard]] std::string printable(Bytes text);

}  // namespace perilune::initiator
