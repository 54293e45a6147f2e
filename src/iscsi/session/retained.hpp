// SPDX-License-Identifier: Apache-2.0
// What the target keeps above recovery level 0 until the initiator acknowledges it: a PDU with a status, and
// with it the read's data (RFC 7143 4.2.2.2, 7.1.4). One thread.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <list>
#include <vector>

#include "iscsi/session/target_command.hpp"

namespace perilune::iscsi {

struct RetainedStatus {
  std::array<std::uint8_t, bhs_bytes> bhs{};  // as it was sent
  std::vector<std::uint8_t> data;             // its data segment
  TargetCommand* command = nullptr;           // whose Data-In may be asked for again; a reference is held
  std::uint32_t data_in_count = 0;            // ExpDataSN: what was sent before it
  bool data_forgotten = false;                // there was Data-In, but its memory was given to others
  bool sent = false;                          // false: made when there was no connection to send it on

  [[nodiscard]] bool answers_command() const noexcept { return opcode(bhs.data()) == Opcode::scsi_response; }
  [[nodiscard]] Itt itt() const noexcept { return initiator_task_tag(bhs.data()); }
  [[nodiscard]] std::uint64_t own_bytes() const noexcept { return sizeof(RetainedStatus) + data.size(); }
};

// What a connection that has failed leaves behind at recovery level 2: its tasks (TargetCommand::suspended())
// and the answers of others that it has not acknowledged. They wait to be reassigned (RFC 7143 7.2.2).
struct LostConnection {
  std::uint32_t id = 0;  // names it to the host
  std::uint16_t cid = 0;
  bool removed =
      false;  // logged out for recovery, by a Logout or by a login with its CID: its tasks may be reassigned
  StatSn acknowledged;  // what the initiator had acknowledged, and
  StatSn next_stat_sn;  // what would have been sent next
  std::uint32_t tasks = 0;
  std::list<RetainedStatus> answers;  // of commands only
};

}  // namespace perilune::iscsi
