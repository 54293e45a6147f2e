// SPDX-License-Identifier: Apache-2.0
// TEST UNIT READY, REQUEST SENSE, READ CAPACITY, REPORT LUNS, REPORT SUPPORTED *, READ DEFECT DATA.
#include <algorithm>
#include <bit>

#include "scsi/device.hpp"
#include "scsi/handlers.hpp"

namespace perilune::scsi {

Progress run_test_unit_ready(Command& command) { return good(command.task); }

Progress run_request_sense(Command& command) {  // SPC-4 6.39: a pending unit attention is told, and with it
                                                // over
  Task& task = command.task;
  Sense sense;
  if (const auto attention = command.device.take_attention(task)) {
    sense = sense_of(*attention);
  } else if (const auto why = inaccessible(command.unit, task)) {
    sense.key = SenseKey::not_ready;
    sense.additional = *why;
  } else if (const auto condition = command.unit.medium().condition()) {
    sense = *condition;
  } else if (const auto unready = not_ready(command.unit)) {
    sense.key = SenseKey::not_ready;
    sense.additional = *unready;
  }
  task.parameter_data.resize(32);
  task.parameter_data.resize(encode_sense(sense, (task.cdb[1] & 0x01) != 0, task.parameter_data));
  return reply(task, task.cdb[4]);
}

Progress run_report_luns(Command& command) {
  command.device.report_luns(command.task);
  return Progress::over;
}

Progress run_read_capacity_10(Command& command) {
  Task& task = command.task;
  const block::Geometry& geometry = command.unit.geometry();
  const std::uint64_t last = geometry.blocks.value() - 1;
  task.parameter_data.assign(8, 0);
  store_be32(task.parameter_data.data(),
             static_cast<std::uint32_t>(std::min<std::uint64_t>(last, 0xffff'ffffu)));
  store_be32(task.parameter_data.data() + 4, geometry.block_size_bytes);
  return reply(task, 8);
}

std::uint8_t physical_exponent(const block::Geometry& geometry) noexcept {
  const std::uint32_t ratio = std::max(geometry.physical_block_size_bytes / geometry.block_size_bytes, 1u);
  return static_cast<std::uint8_t>(std::bit_width(ratio) - 1) & 0x0f;
}

Progress run_read_capacity_16(Command& command) {
  Task& task = command.task;
  const block::Geometry& geometry = command.unit.geometry();
  auto& out = task.parameter_data;
  out.assign(32, 0);
  store_be64(out.data(), geometry.blocks.value() - 1);
  store_be32(out.data() + 8, geometry.block_size_bytes);
  if (const ProtectionType type = command.unit.protection_type(); type != ProtectionType::none) {
    // P_TYPE, PROT_EN; P_I_EXPONENT is 0
    out[12] = static_cast<std::uint8_t>((static_cast<unsigned>(type) - 1) << 1 | 0x01);
  }
  out[13] = physical_exponent(geometry);
  if (command.unit.thin()) out[14] = command.unit.unmapped_reads_zeroes() ? 0xc0 : 0x80;  // LBPME, LBPRZ
  return reply(task, load_be32(task.cdb.data() + 10));
}

// No defects: the header alone, with the lists and the format that were asked for (SBC-3 5.17).
Progress run_read_defect_data_10(Command& command) {
  Task& task = command.task;
  task.parameter_data.assign(4, 0);
  task.parameter_data[1] = task.cdb[2] & 0x1f;
  return reply(task, load_be16(task.cdb.data() + 7));
}

Progress run_read_defect_data_12(Command& command) {
  Task& task = command.task;
  task.parameter_data.assign(8, 0);
  task.parameter_data[1] = task.cdb[1] & 0x1f;
  return reply(task, load_be32(task.cdb.data() + 6));
}

// ---- REPORT SUPPORTED OPERATION CODES (SPC-4 6.35)

namespace {

using Buffer = std::vector<std::uint8_t>;

constexpr std::size_t timeouts_bytes = 12;

void append_timeouts(Buffer& out, const CommandRow& row) {
  const std::size_t at = out.size();
  out.resize(at + timeouts_bytes);
  store_be16(&out[at], 0x000a);
  store_be32(&out[at + 8], row.timeout_s);  // recommended; the nominal time is not told
}

void report_all(Buffer& out, const LogicalUnit& unit, bool timeouts) {
  out.assign(4, 0);
  for (const CommandRow& row : command_rows(unit.command_set())) {
    if (!available(row, unit)) continue;
    const std::size_t at = out.size();
    out.resize(at + 8);
    out[at] = row.opcode;
    store_be16(&out[at + 2], row.has_service_action ? row.service_action : 0);
    out[at + 5] = static_cast<std::uint8_t>((timeouts ? 0x02 : 0) | (row.has_service_action ? 0x01 : 0));
    store_be16(&out[at + 6], row.cdb_length);
    if (timeouts) append_timeouts(out, row);
  }
  store_be32(out.data(), static_cast<std::uint32_t>(out.size() - 4));
}

void report_one(Buffer& out, const CommandRow* row, const LogicalUnit& unit, bool timeouts) {
  out.assign(4, 0);
  if (row == nullptr || !available(*row, unit)) {
    out[1] = 0x01;  // not supported
    return;
  }
  out[1] = static_cast<std::uint8_t>((timeouts ? 0x80 : 0) | 0x03);  // as the standard says
  store_be16(&out[2], row->cdb_length);
  for (std::size_t i = 0; i < row->cdb_length; ++i) out.push_back(usage_of(*row, unit, i));
  if (timeouts) append_timeouts(out, *row);
}

bool has_service_actions(CommandSet set, std::uint8_t opcode) noexcept {
  for (const CommandRow& row : command_rows(set)) {
    if (row.opcode == opcode) return row.has_service_action;
  }
  return false;
}

}  // namespace

Progress run_report_supported_operation_codes(Command& command) {
  Task& task = command.task;
  const bool timeouts = (task.cdb[2] & 0x80) != 0;
  const std::uint8_t options = task.cdb[2] & 0x07;
  const std::uint8_t opcode = task.cdb[3];
  const std::uint16_t service_action = load_be16(task.cdb.data() + 4);
  const CommandSet set = command.unit.command_set();
  const bool with_actions = has_service_actions(set, opcode);
  bool known = false;
  const CommandRow* row = find_row(set, opcode, service_action, known);
  // 1: a code without service actions; 2: one with; 3: either, and one without has only service action 0.
  if (options > 3 || (options == 1 && with_actions) || (options == 2 && known && !with_actions)) {
    invalid_field_in_cdb(task, 2, std::uint8_t{2});
    return Progress::over;
  }
  if (options == 3 && !with_actions && service_action != 0) row = nullptr;
  if (options == 0) {
    report_all(task.parameter_data, command.unit, timeouts);
  } else {
    report_one(task.parameter_data, row, command.unit, timeouts);
  }
  return reply(task, load_be32(task.cdb.data() + 6));
}

Progress run_report_supported_task_management(Command& command) {  // SPC-4 6.36
  Task& task = command.task;
  const bool extended = (task.cdb[2] & 0x80) != 0;
  task.parameter_data.assign(extended ? 16 : 4, 0);
  task.parameter_data[0] = 0x80 | 0x40 | 0x10 | 0x08 | 0x02;  // ATS, ATSS, CTSS, LURS, TRS
  if (task.nexus->sam5_functions()) {
    task.parameter_data[0] |= 0x04;         // QTS
    task.parameter_data[1] = 0x04 | 0x02 | 0x01;  // QAES, QTSS, ITNRS
  }
  if (extended) task.parameter_data[3] = 12;
  return reply(task, load_be32(task.cdb.data() + 6));
}

}  // namespace perilune::scsi
