// SPDX-License-Identifier: Apache-2.0
// What an SG_IO call has said, judged; and how long a command may take. Pure.
#pragma once

#include <chrono>

#include "passthrough/sg_node.hpp"

namespace perilune::passthrough {

// Sets the outcome of a command whose sense, if any, the call has put into command.sense.
void judge(const SgResult& result, scsi::PassthroughCommand& command) noexcept;

// After this the kernel aborts the command and resets what it must. Initiators have patience of their own,
// and mostly less; this is for the device, and so of the kind that Linux's own drivers have for its type.
[[nodiscard]] std::chrono::milliseconds timeout_of(std::uint8_t peripheral_device_type, Bytes cdb) noexcept;

}  // namespace perilune::passthrough
