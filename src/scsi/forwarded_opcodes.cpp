// SPDX-License-Identifier: Apache-2.0
// REPORT SUPPORTED OPERATION CODES (SPC-4 6.35) of a real device: its own list, without what is refused here,
// and with what is answered here.
#include <algorithm>

#include "scsi/device.hpp"
#include "scsi/forwarding.hpp"
#include "scsi/handlers.hpp"
#include "scsi/transfer.hpp"

namespace perilune::scsi {
namespace {

constexpr std::uint32_t list_bytes = 16384;  // of the device's list: some 800 commands
constexpr std::size_t descriptor_bytes = 8;
constexpr std::size_t timeouts_bytes = 12;

enum class Served : std::uint8_t { here, by_device, not_at_all };

Served who_serves(const LogicalUnit& unit, std::uint8_t opcode, std::uint16_t service_action) noexcept {
  bool known = false;
  const CommandRow* row = find_row(unit.command_set(), opcode, service_action, known);
  if (row == nullptr) return Served::not_at_all;
  if (row->usage[0] == opcode && row->opcode == opcode && opcode != 0)
    return available(*row, unit) ? Served::here : Served::not_at_all;
  const bool restricted = row->admit == admit_restricted && !unit.forwarder()->facts().unrestricted;
  return restricted ? Served::not_at_all : Served::by_device;
}

void append_ours(std::vector<std::uint8_t>& list, const LogicalUnit& unit, bool timeouts) {
  for (const CommandRow& row : command_rows(unit.command_set())) {
    if (!available(row, unit)) continue;
    const std::size_t at = list.size();
    list.resize(at + descriptor_bytes + (timeouts ? timeouts_bytes : 0));
    list[at] = row.opcode;
    store_be16(&list[at + 2], row.service_action);
    list[at + 5] = static_cast<std::uint8_t>((timeouts ? 0x02 : 0) | (row.has_service_action ? 0x01 : 0));
    store_be16(&list[at + 6], row.cdb_length);
    if (!timeouts) continue;
    store_be16(&list[at + descriptor_bytes], 0x000a);
    store_be32(&list[at + descriptor_bytes + 8], row.timeout_s);
  }
}

void answer_list(Command& command, const PassthroughCommand& done) {
  if (done.delivery != PassthroughCommand::Delivery::answered) return;
  Task& task = command.task;
  std::vector<std::uint8_t> from(std::min(done.transferred_bytes, list_bytes));
  from.resize(gather(task.scratch, 0, from));
  task.parameter_data = merge_supported_operation_codes(from, command.unit, (task.cdb[2] & 0x80) != 0);
  reply(task, load_be32(task.cdb.data() + 6));
}

}  // namespace

std::vector<std::uint8_t> merge_supported_operation_codes(Bytes from, const LogicalUnit& unit,
                                                          bool timeouts) {
  std::vector<std::uint8_t> list(4, 0);
  const std::size_t end = from.size() < 4 ? 0
                                          : static_cast<std::size_t>(std::min<std::uint64_t>(
                                                from.size(), std::uint64_t{load_be32(from.data())} + 4));
  for (std::size_t at = 4; at + descriptor_bytes <= end;) {
    const std::size_t bytes = descriptor_bytes + ((from[at + 5] & 0x02) != 0 ? timeouts_bytes : 0);
    if (bytes > end - at) break;
    const Bytes descriptor = from.subspan(at, bytes);
    if (who_serves(unit, descriptor[0], load_be16(&descriptor[2])) == Served::by_device) {
      list.insert(list.end(), descriptor.begin(), descriptor.end());
    }
    at += bytes;
  }
  append_ours(list, unit, timeouts);
  store_be32(list.data(), static_cast<std::uint32_t>(list.size() - 4));
  return list;
}

bool admit_forwarded_opcodes(Command& command) {
  Task& task = command.task;
  if ((task.cdb[2] & 0x07) == 0) {
    task.need.scratch_bytes = std::min(list_bytes, command.unit.forwarder()->facts().max_transfer_bytes);
    return true;
  }
  switch (who_serves(command.unit, task.cdb[3], load_be16(task.cdb.data() + 4))) {
    case Served::by_device:
      return admit_forwarded(command);
    case Served::here:
      (void)run_report_supported_operation_codes(command);
      break;
    case Served::not_at_all:
      task.parameter_data.assign({0, 0x01, 0, 0});
      reply(task, load_be32(task.cdb.data() + 6));
      break;
  }
  return false;
}

Progress run_forwarded_opcodes(Command& command) {
  const Task& task = command.task;
  Forwarder& forwarder = *command.unit.forwarder();
  if (task.need.scratch_bytes == 0) {
    forwarder.forward(command);
    return Progress::waits;
  }
  std::uint8_t cdb[12] = {0xa3, 0x0c, static_cast<std::uint8_t>(task.cdb[2] & 0x80)};
  store_be32(cdb + 6, task.need.scratch_bytes);
  forwarder.read_instead(command, cdb, answer_list);
  return Progress::waits;
}

}  // namespace perilune::scsi
