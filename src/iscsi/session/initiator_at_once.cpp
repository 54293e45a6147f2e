// SPDX-License-Identifier: Apache-2.0
// InitiatorConnection::take_at_once: the fast path of the answers that a busy session is made of, where they
// lie whole in what was received: a Data-In with all the data and GOOD status, and a SCSI Response that says
// GOOD and nothing else. It serves only what every rule of the slow path lets pass, and takes nothing before
// that is certain, so that whatever it declines takes the slow path from its first byte. How the bytes were
// cut into receives must never show: initiator_at_once_test.cpp compares.
#include <cstring>

#include "crypto/crc32c.hpp"
#include "iscsi/session/initiator_session.hpp"

namespace perilune::iscsi {
namespace {

// Byte 1 of a Data-In (RFC 7143 11.7.1): final, with status, no residual; and of a SCSI Response (11.4.1): no
// residual.
constexpr std::uint8_t final_with_status = 0x81;
constexpr std::uint8_t no_residual = 0x80;

void scatter(std::span<const iovec> memory, const std::uint8_t* from) noexcept {
  for (const iovec& v : memory) {
    std::memcpy(v.iov_base, from, v.iov_len);
    from += v.iov_len;
  }
}

}  // namespace

bool InitiatorConnection::take_at_once(Bytes& input) {
  if (input.size() < bhs_bytes) return false;
  const std::uint8_t* const bhs = input.data();
  const bool reads = bhs[0] == static_cast<std::uint8_t>(Opcode::data_in);
  if (!reads && bhs[0] != static_cast<std::uint8_t>(Opcode::scsi_response)) return false;
  // Response (of a SCSI Response), status and TotalAHSLength are zero.
  if (bhs[1] != (reads ? final_with_status : no_residual) || bhs[2] != 0 || bhs[3] != 0 || bhs[4] != 0)
    return false;
  const std::uint32_t length = data_segment_length(bhs);
  const std::size_t header = bhs_bytes + (parameters_.header_digest ? digest_bytes : 0);
  const std::size_t covered = pad4(length);
  const std::size_t size = header + covered + (parameters_.data_digest && length != 0 ? digest_bytes : 0);
  if (length > parameters_.max_recv_data_segment_bytes || input.size() < size) return false;

  InitiatorSession::Slot* const slot = session_.find(initiator_task_tag(bhs));
  if (slot == nullptr || slot->kind != InitiatorSession::Kind::command) return false;
  InitiatorCommand& command = *slot->command;
  if (command.connection_ != this || command.open_bursts_ != 0) return false;
  if (reads) {  // DataSN and Buffer Offset: the first and only one
    if (command.direction != InitiatorCommand::Direction::in || length == 0 || length != command.length_ ||
        command.next_data_sn_ != DataSn() || load_be32(bhs + 36) != 0 || load_be32(bhs + 40) != 0) {
      return false;
    }
  } else if (command.direction != InitiatorCommand::Direction::out || length != 0) {
    return false;
  }
  if (StatSn(load_be32(bhs + 24)) != next_stat_sn_) return false;
  if (parameters_.header_digest && crypto::crc32c_bhs(bhs) != crypto::load_digest(bhs + bhs_bytes))
    return false;
  const std::uint8_t* const data = bhs + header;
  if (parameters_.data_digest && length != 0 &&
      crypto::crc32c(crypto::crc32c_start, {data, covered}) != crypto::load_digest(data + covered)) {
    return false;
  }

  input = input.subspan(size);
  session_.update_window(CmdSn(load_be32(bhs + 28)), CmdSn(load_be32(bhs + 32)));
  exp_stat_sn_ = ++next_stat_sn_;
  status_asks_ = 0;
  if (reads) {
    scatter(command.data, data);
    ++session_.counters_.data_ins;
  } else {
    ++session_.counters_.scsi_responses;
  }
  session_.finish_at_once(*slot, command);
  return true;
}

// finish() of a command that moved all its data, with status GOOD, at recovery level 0.
void InitiatorSession::finish_at_once(Slot& slot, InitiatorCommand& command) {
  --command.connection_->commands_;
  command.connection_ = nullptr;
  free_command_slots_.push_back(static_cast<std::uint16_t>(&slot - slots_.data()));
  slot.kind = Kind::free;
  slot.command = nullptr;
  IntrusiveList<InitiatorCommand>::remove(command);
  --outstanding_;
  command.itt_ = reserved_tag;
  command.outcome = InitiatorOutcome::status;
  command.status = 0;
  command.transferred_bytes = command.length_;
  command.state_ = InitiatorCommand::State::finishing;
  command.hold_.release();  // the one taken when it was sent
}

}  // namespace perilune::iscsi
