// SPDX-License-Identifier: Apache-2.0
// What the target keeps above recovery level 0 until the initiator acknowledges it: a PDU with a status, and
// with it the read's data (RFC 7143 4.2.2.2, 7.1.4). One thread.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <vector>

#include "iscsi/session/target_command.hpp"

namespace perilune::iscsi {

struct RetainedStatus {
  std::array<std::uint8_t, bhs_bytes> bhs{};  // as it was sent
  std::vector<std::uint8_t> data;             // its data segment
  TargetCommand* command = nullptr;           // whose Data-In may be asked for again; a reference is held
  std::uint32_t data_in_count = 0;            // ExpDataSN: what was sent before it
  bool data_forgotten = false;                // there was Data-In, but its memory was given to others

  [[nodiscard]] bool answers_command() const noexcept { return opcode(bhs.data()) == Opcode::scsi_response; }
  [[nodiscard]] Itt itt() const noexcept { return initiator_task_tag(bhs.data()); }
  [[nodiscard]] std::uint64_t own_bytes() const noexcept { return sizeof(RetainedStatus) + data.size(); }
};

}  // namespace perilune::iscsi
