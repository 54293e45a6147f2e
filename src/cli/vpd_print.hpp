// SPDX-License-Identifier: Apache-2.0
// INQUIRY data and VPD pages as text, one "Name:value" per line as iscsi-inq prints them. Bytes from a target
// are not trusted: a page that is cut short prints as far as it goes.
#pragma once

#include <string>

#include "base/bytes.hpp"

namespace perilune::cli {

[[nodiscard]] std::string format_inquiry(Bytes data);
[[nodiscard]] std::string format_vpd(Bytes page);  // by its own page code; an unknown one as hexadecimal
                                                   // lines

}  // namespace perilune::cli
