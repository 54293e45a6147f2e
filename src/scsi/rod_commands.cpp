// SPDX-License-Identifier: Apache-2.0
// POPULATE TOKEN, WRITE USING TOKEN (SBC-3 5.8, 5.46) and RECEIVE ROD TOKEN INFORMATION (SPC-4 6.24,
// SBC-3 5.22). A token is made at once. Writing by it is a copy like EXTENDED COPY's, piece by piece with
// claims, and with IMMED too the status comes after it. Who brings a token must see the unit that it was made
// for, and be allowed to read it, like who names it in an EXTENDED COPY.
#include <algorithm>
#include <array>

#include "scsi/copy_handlers.hpp"
#include "scsi/copy_operation.hpp"
#include "scsi/copy_sense.hpp"
#include "scsi/device.hpp"
#include "scsi/handlers.hpp"
#include "scsi/rod_handlers.hpp"
#include "scsi/rod_tokens.hpp"
#include "scsi/shards.hpp"
#include "scsi/transfer.hpp"

namespace perilune::scsi {
namespace {

using Buffer = std::vector<std::uint8_t>;
using State = CopyOperation::State;

constexpr std::uint32_t range_bytes = 16;
constexpr std::uint8_t populate_action = 0x10;
constexpr std::uint8_t write_action = 0x11;

// Places in the parameter lists.
constexpr std::uint32_t populate_ranges_at =
    14;  // BLOCK DEVICE RANGE DESCRIPTOR LENGTH; the descriptors follow
constexpr std::uint32_t offset_at = 8;
constexpr std::uint32_t token_at = 16;
constexpr std::uint32_t write_ranges_at = 534;

constexpr std::uint8_t rtv_bit = 0x02;
constexpr std::uint8_t delete_token_bit = 0x02;
constexpr std::uint8_t immed_bit = 0x01;
constexpr std::uint32_t rod_type_any = 0x0080ffff;

bool wrong(Task& task, std::uint32_t byte, std::optional<std::uint8_t> bit = std::nullopt) noexcept {
  invalid_field_in_parameters(task, static_cast<std::uint16_t>(byte), bit);
  return false;
}

bool too_short(Task& task, std::uint64_t bytes) noexcept {
  if (task.need.data_out_bytes >= bytes) return false;
  fail_command(task, SenseKey::illegal_request, asc::parameter_list_length_error);
  return true;
}

bool overlap(const RodRange& a, const RodRange& b) noexcept {
  return a.blocks != 0 && b.blocks != 0 && a.lba < b.lba + b.blocks && b.lba < a.lba + a.blocks;
}

// Block device range descriptors (SBC-3 table 75): inside the unit, no block twice.
bool read_ranges(Command& command, std::uint32_t length_at, RodRanges& out) noexcept {
  Task& task = command.task;
  std::array<std::uint8_t, range_bytes> bytes{};
  gather(task.data, length_at, {bytes.data(), 2});
  const std::uint32_t length = load_be16(bytes.data());
  const std::uint32_t first = length_at + 2;
  if (length < range_bytes || length % range_bytes != 0) return wrong(task, length_at);
  if (too_short(task, std::uint64_t{first} + length)) return false;
  if (length / range_bytes > rod_limits::max_ranges) {
    fail_command(task, SenseKey::illegal_request, asc::too_many_segment_descriptors);
    return false;
  }
  JoinedRanges joined;
  const std::uint64_t most = rod_limits::max_bytes / command.unit.geometry().block_size_bytes;
  for (std::uint32_t at = first; at < first + length; at += range_bytes) {
    gather(task.data, at, bytes);
    const RodRange range{load_be64(bytes.data()), load_be32(bytes.data() + 8)};
    if (!joined.add(command, range.lba, range.blocks, most, at + 8)) return false;
    for (std::uint16_t i = 0; i < out.count; ++i) {
      if (overlap(out.list[i], range)) return wrong(task, at);
    }
    out.list[out.count++] = range;
  }
  out.blocks = joined.total();
  return true;
}

// The first bytes of a list of at least `least` bytes by its own account (which leaves out its first two).
bool check_head(Task& task, std::uint32_t least, std::uint8_t known_bits) noexcept {
  if (too_short(task, least)) return false;
  std::array<std::uint8_t, 3> head{};
  gather(task.data, 0, head);
  if (load_be16(head.data()) + 2u < least) return wrong(task, 0);
  return (head[2] & ~known_bits) == 0 || wrong(task, 2);
}

std::uint8_t options_of_list(const Task& task) noexcept {
  std::array<std::uint8_t, 1> byte{};
  gather(task.data, 2, byte);
  return byte[0];
}

std::uint32_t list_identifier(const Task& task) noexcept { return load_be32(task.cdb.data() + 6); }

}  // namespace

bool admit_token_command(Command& command) {
  Task& task = command.task;
  const std::uint32_t list_bytes = load_be32(task.cdb.data() + 10);
  if (list_bytes > limits::max_parameter_bytes) {
    fail_command(task, SenseKey::illegal_request, asc::parameter_list_length_error);
    return false;
  }
  task.data_transfer_length = list_bytes;
  task.need.data_out_bytes = std::min(list_bytes, task.expected_data_out_bytes);
  const bool writes = (task.cdb[1] & 0x1f) == write_action;
  if (writes && task.need.data_out_bytes != 0) task.need.scratch_bytes = copy_limits::scratch_bytes;
  return true;
}

// ---- POPULATE TOKEN

bool prepare_populate_token(Command& command) {
  Task& task = command.task;
  if (task.data_transfer_length == 0) return true;  // nothing to do, and no error
  if (!check_head(task, populate_ranges_at + 2 + range_bytes, rtv_bit | immed_bit)) return false;
  std::array<std::uint8_t, 12> head{};
  gather(task.data, 0, head);
  if (load_be32(head.data() + 4) > rod_limits::max_inactivity_s) return wrong(task, 4);
  const std::uint32_t type = load_be32(head.data() + 8);
  const bool asked = (head[2] & rtv_bit) != 0;
  if (asked && type != rod_type_access_upon_reference && type != rod_type_any) return wrong(task, 8);
  RodRanges ranges;
  if (!read_ranges(command, populate_ranges_at, ranges)) return false;
  CopyOperation* operation = begin_copy_operation(command, list_identifier(task), true);
  if (operation == nullptr) return false;
  operation->from = ranges;
  operation->inactivity_s = load_be32(head.data() + 4);
  if (operation->inactivity_s == 0) operation->inactivity_s = rod_limits::default_inactivity_s;
  return true;
}

Progress run_populate_token(Command& command) {
  Task& task = command.task;
  if (task.copy == nullptr) return good(task);
  CopyOperation& operation = *task.copy;
  const RodTokens::Made made = command.device.tokens()->make(
      task.nexus, command.unit, operation.from, operation.inactivity_s, command.device.uptime_ms());
  operation.token = made.token.identifier;
  operation.bytes_written = operation.from.blocks * command.unit.geometry().block_size_bytes;
  if (Shards* shards = command.device.shards()) shards->tell_token_made(task, made.token, made.in_place_of);
  return good(task);
}

// ---- WRITE USING TOKEN

namespace {

// What the token in the list stands for becomes the source of the operation.
bool find_source(Command& command, CopyOperation& operation) {
  Task& task = command.task;
  RodTokenBytes brought{};
  gather(task.data, token_at, brought);
  if (RodTokens::stands_for_zeroes(brought)) return true;
  RodTokens::Found found = command.device.tokens()->use(brought, command.device.uptime_ms());
  if (found.token != nullptr) {
    const RodToken& token = *found.token;
    const LogicalUnit* unit = task.nexus->find_unit([&](const LogicalUnit& candidate) {
      return candidate.number() == token.unit_number && candidate.identity().naa_id == token.unit_id;
    });
    if (unit != nullptr) {
      if (Shards* shards = command.device.shards()) shards->tell_token_used(token.identifier, token.used_ms);
      operation.token = token.identifier;
      operation.source_number = token.unit_number;
      operation.source_id = token.unit_id;
      operation.from = token.ranges;
      operation.from_bytes = token.ranges.blocks * unit->geometry().block_size_bytes;
      return true;
    }
    found.why = asc::token_unknown;  // to those who do not see its unit
  }
  check_condition(task, {.key = SenseKey::illegal_request,
                         .additional = found.why,
                         .information = std::nullopt,
                         .field = FieldPointer{.in_cdb = false, .byte = token_at}});
  return false;
}

// Where in the token's data the copy begins (OFFSET INTO ROD, in blocks of the destination), and that there
// is enough of it.
bool find_offset(Command& command, CopyOperation& operation, std::uint64_t wanted_bytes) noexcept {
  Task& task = command.task;
  if (operation.token == 0) return true;  // zeroes have no end
  std::array<std::uint8_t, 8> bytes{};
  gather(task.data, offset_at, bytes);
  const std::uint64_t block = command.unit.geometry().block_size_bytes;
  const std::uint64_t offset = load_be64(bytes.data());
  if (offset > operation.from_bytes / block || wanted_bytes > operation.from_bytes - offset * block) {
    return wrong(task, offset_at);
  }
  operation.offset_bytes = offset * block;
  return true;
}

}  // namespace

bool prepare_write_using_token(Command& command) {
  Task& task = command.task;
  if (task.data_transfer_length == 0) return true;
  if (!check_head(task, write_ranges_at + 2 + range_bytes, delete_token_bit | immed_bit)) return false;
  CopyOperation asked;
  if (!read_ranges(command, write_ranges_at, asked.to) || !find_source(command, asked) ||
      !find_offset(command, asked, asked.to.blocks * command.unit.geometry().block_size_bytes)) {
    return false;
  }
  CopyOperation* operation = begin_copy_operation(command, list_identifier(task), true);
  if (operation == nullptr) return false;
  operation->by_token = true;
  operation->token = asked.token;
  operation->source_number = asked.source_number;
  operation->source_id = asked.source_id;
  operation->from = asked.from;
  operation->to = asked.to;
  operation->from_bytes = asked.from_bytes;
  operation->offset_bytes = asked.offset_bytes;
  return true;
}

Progress run_write_using_token(Command& command) {
  Task& task = command.task;
  const Progress progress = run_extended_copy(command);
  const bool done = progress == Progress::over && !task.aborted && task.status == ScsiStatus::good;
  if (done && task.copy != nullptr && (options_of_list(task) & delete_token_bit) != 0) {
    command.device.tokens()->remove(task.copy->token);
    if (Shards* shards = command.device.shards()) shards->tell_token_deleted(task, task.copy->token);
  }
  return progress;
}

// ---- RECEIVE ROD TOKEN INFORMATION

namespace {

std::uint8_t operation_status(const CopyOperation& operation) noexcept {
  if (operation.state == State::running) return 0x11;  // in the foreground
  if (operation.ended_by_abort) return 0x60;
  return operation.status == ScsiStatus::good ? 0x01 : 0x02;
}

// The token of a POPULATE TOKEN that ended well, unless it is over already.
void append_token(Buffer& out, const Command& command, const CopyOperation& operation) {
  const std::size_t at = out.size();
  out.resize(at + 4);
  if (operation.service_action != populate_action || operation.token == 0) return;
  const RodTokens& tokens = *command.device.tokens();
  const RodToken* token = tokens.find(operation.token, command.device.uptime_ms());
  if (token == nullptr) return;
  store_be32(&out[at], 2 + rod_token_bytes);
  out.resize(out.size() + 2);
  const RodTokenBytes bytes = tokens.bytes_of(*token, command.unit, command.device.name());
  out.insert(out.end(), bytes.begin(), bytes.end());
}

}  // namespace

Progress run_receive_rod_token_information(Command& command) {
  Task& task = command.task;
  CopyOperation* operation = task.nexus->copies().find(command.unit.number(), load_be32(task.cdb.data() + 2));
  if (operation == nullptr ||
      (operation->service_action != populate_action && operation->service_action != write_action)) {
    invalid_field_in_cdb(task, 2, std::uint8_t{7});
    return Progress::over;
  }
  const bool finished = operation->state == State::finished;
  Buffer& out = task.parameter_data;
  out.assign(32, 0);
  out[4] = operation->service_action;
  out[5] = operation_status(*operation);
  store_be16(&out[6], operation->operations);
  store_be32(&out[8], 0xffff'ffffu);  // ESTIMATED STATUS UPDATE DELAY: not told
  if (finished) {
    out[12] = static_cast<std::uint8_t>(operation->status);
    out[13] = out[14] = operation->sense_length;
  }
  out[15] = 0xf1;  // TRANSFER COUNT UNITS: logical blocks
  store_be64(&out[16], operation->bytes_written / command.unit.geometry().block_size_bytes);
  store_be16(&out[24], operation->segment);  // SEGMENTS PROCESSED: runs of blocks
  if (finished)
    out.insert(out.end(), operation->sense.begin(), operation->sense.begin() + operation->sense_length);
  append_token(out, command, *operation);
  store_be32(&out[0], static_cast<std::uint32_t>(out.size() - 4));
  const std::uint32_t allocation = load_be32(task.cdb.data() + 10);
  if (finished && out.size() <= allocation) operation->state = State::unused;  // told, and forgotten
  return reply(task, allocation);
}

// ---- REPORT ALL ROD TOKENS (SPC-4 6.31): of each that this unit's copy manager has made, for whomever, the
// management token, which is its header and body. Whoever sees it cannot use it: what proves a token is
// behind them.

Progress run_report_all_rod_tokens(Command& command) {
  Task& task = command.task;
  Buffer& out = task.parameter_data;
  out.assign(8, 0);
  const std::uint32_t allocation = load_be32(task.cdb.data() + 10);
  std::uint32_t count = 0;
  command.device.tokens()->for_each_alive(
      command.unit, command.device.uptime_ms(), [&](const RodToken& token) {
        ++count;
        if (out.size() >= allocation) return;  // it is only counted
        const RodTokenBytes bytes =
            command.device.tokens()->bytes_of(token, command.unit, command.device.name());
        out.insert(out.end(), bytes.begin(), bytes.begin() + rod_management_token_bytes);
      });
  store_be32(out.data(), 4 + count * rod_management_token_bytes);
  return reply(task, allocation);
}

// ---- VPD page 8Fh

namespace {

std::uint8_t* append_zeroes(Buffer& out, std::size_t bytes) {
  out.resize(out.size() + bytes);
  return out.data() + out.size() - bytes;
}

void rod_type_descriptor(Buffer& out, std::uint32_t type, std::uint8_t tokens, std::uint16_t preference) {
  std::uint8_t* p = append_zeroes(out, 64);
  store_be32(p, type);
  p[4] = tokens;  // TOKEN_IN 02h, TOKEN_OUT 01h
  store_be16(p + 6, preference);
}

}  // namespace

void rod_limits_descriptor(Buffer& out, const Command& command) {
  if (command.device.tokens() == nullptr) return;
  const std::uint64_t block = command.unit.geometry().block_size_bytes;
  std::uint8_t* p = append_zeroes(out, 36);
  store_be16(p + 2, 32);
  store_be16(p + 10, rod_limits::max_ranges);
  store_be32(p + 12, rod_limits::max_inactivity_s);
  store_be32(p + 16, rod_limits::default_inactivity_s);
  store_be64(p + 20, rod_limits::max_bytes / block);
  store_be64(p + 28, rod_limits::optimal_bytes / block);
}

void rod_type_descriptors(Buffer& out, const Command& command) {
  if (command.device.tokens() == nullptr) return;
  std::uint8_t* p = append_zeroes(out, 96);  // ROD token features
  store_be16(p, 0x0106);
  store_be16(p + 2, 92);
  store_be32(p + 20, rod_limits::max_lifetime_s);
  store_be32(p + 24, rod_limits::max_inactivity_s);
  store_be16(p + 46, 48);
  std::uint8_t* blocks = p + 48;  // of block devices
  store_be16(blocks + 2, 44);
  store_be16(blocks + 6, 1);
  store_be64(blocks + 8, rod_limits::max_bytes);
  store_be64(blocks + 16, rod_limits::optimal_bytes);
  store_be64(blocks + 24, rod_limits::optimal_bytes);
  store_be64(blocks + 32, rod_limits::optimal_bytes);

  p = append_zeroes(out, 8);  // supported ROD tokens and ROD types
  store_be16(p, 0x0108);
  store_be16(p + 2, 4 + 2 * 64);
  store_be16(p + 6, 2 * 64);
  rod_type_descriptor(out, rod_type_access_upon_reference, 0x03, 1);
  rod_type_descriptor(out, rod_type_zero, 0x02, 0);
}

}  // namespace perilune::scsi
