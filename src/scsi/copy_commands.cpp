// SPDX-License-Identifier: Apache-2.0
// EXTENDED COPY, LID1 and LID4 (SPC-4 6.4, 6.5, 5.17): one segment after the other, each in slices through
// the command's scratch memory. While a segment is copied the command holds a claim on its blocks at the
// source and at the destination; between segments it holds nothing. Its own task stands in the task set of
// the unit that got the command; a reset of another unit ends the copy with COPY ABORTED.
#include <algorithm>

#include "base/assert.hpp"
#include "scsi/copy_access.hpp"
#include "scsi/copy_handlers.hpp"
#include "scsi/copy_list.hpp"
#include "scsi/copy_sense.hpp"
#include "scsi/device.hpp"
#include "scsi/handlers.hpp"
#include "scsi/transfer.hpp"

namespace perilune::scsi {
namespace {

using Stage = CopyOperation::Stage;

constexpr std::uint8_t service_action_lid4 = 0x01;
constexpr std::uint16_t this_unit = 0xffff;             // CSCD DESCRIPTOR ID: the unit that got the command
constexpr std::uint32_t largest_block_bytes = 4096;     // of any unit (Device::add_unit)

// Places in a segment descriptor, for segment pointers.
constexpr std::uint16_t source_id_byte = 4;
constexpr std::uint16_t destination_id_byte = 6;
constexpr std::uint16_t count_byte = 10;
constexpr std::uint16_t source_lba_byte = 12;
constexpr std::uint16_t destination_lba_byte = 20;

bool abort_copy(Task& task, AdditionalSense additional,
                std::optional<std::uint16_t> byte = std::nullopt) noexcept {
  std::optional<FieldPointer> pointer;
  if (byte) pointer = FieldPointer{.in_cdb = false, .byte = *byte, .in_segment = true};
  copy_aborted(task, additional, task.copy->segment, pointer);
  return false;
}

// A failure of one party that stands in the task already.
bool party_failed(Task& task, CopyParty party) noexcept {
  third_party_failed(task, task.copy->segment, party);
  return false;
}

// ---- opening a segment

struct Party {
  LogicalUnit* unit = nullptr;
  bool pad = false;
};

// The unit that a CSCD DESCRIPTOR ID names. Only units that this nexus sees can be named.
bool resolve(Command& command, std::uint16_t id, std::uint16_t id_byte, Party& party) noexcept {
  Task& task = command.task;
  const CopyOperation& operation = *task.copy;
  if (id == this_unit) {
    party.unit = &command.unit;
    return true;
  }
  if (id >= operation.cscds) return abort_copy(task, asc::unreachable_copy_target, id_byte);
  const CopyCscd cscd = copy_cscd_at(task, operation, id);
  if (cscd.null_device) return abort_copy(task, asc::unreachable_copy_target, id_byte);
  if (cscd.association == 0) {
    party.unit = task.nexus->find_unit([&](const LogicalUnit& unit) {
      return designates(unit, cscd.code_set, cscd.designator_type, cscd.designator());
    });
  }
  if (party.unit == nullptr) return abort_copy(task, asc::copy_target_not_reachable, id_byte);
  if (cscd.peripheral_type != 0) return abort_copy(task, asc::incorrect_copy_target_type, id_byte);
  if (cscd.block_bytes != 0 && cscd.block_bytes != party.unit->geometry().block_size_bytes) {
    const auto at = static_cast<std::uint16_t>(operation.cscd_offset + id * copy_limits::cscd_bytes + 29);
    copy_aborted(task, asc::none, operation.segment, FieldPointer{.in_cdb = false, .byte = at});
    return false;
  }
  party.pad = cscd.pad;
  return true;
}

// How much is read and how much is written, where blocks of the two parties have different lengths (SPC-4
// table 30 of 6.4.6.1: PAD and CAT). What CAT would keep for the next segment can only be thrown away, after
// the last one.
bool measure(Task& task, const CopySegment& segment, const Party& source, const Party& destination) noexcept {
  CopyOperation& operation = *task.copy;
  const std::uint64_t from = source.unit->geometry().block_size_bytes;
  const std::uint64_t to = destination.unit->geometry().block_size_bytes;
  const std::uint64_t bytes = segment.blocks * (segment.counts_destination ? to : from);
  if (bytes > copy_limits::max_segment_length) return abort_copy(task, asc::none, count_byte);
  operation.read_bytes = (bytes + from - 1) / from * from;
  operation.write_bytes = bytes / to * to;
  if (operation.read_bytes == operation.write_bytes) return true;
  const bool last = operation.segment + 1 == operation.segments;
  const bool keep = segment.concatenate || (!source.pad && destination.pad && segment.counts_destination);
  if (keep) return last || abort_copy(task, asc::unexpected_inexact_segment);
  if (!source.pad && !destination.pad) return abort_copy(task, asc::unexpected_inexact_segment);
  if (destination.pad && !segment.counts_destination) operation.write_bytes += to;
  return true;
}

bool inside(const LogicalUnit& unit, std::uint64_t lba, std::uint64_t bytes) noexcept {
  const std::uint64_t capacity = unit.geometry().blocks.value();
  return lba <= capacity && bytes / unit.geometry().block_size_bytes <= capacity - lba;
}

bool check_ranges(Task& task) noexcept {
  const CopyOperation& operation = *task.copy;
  if (operation.source != nullptr && !inside(*operation.source, operation.source_lba, operation.read_bytes)) {
    return abort_copy(task, asc::none, source_lba_byte);
  }
  if (!inside(*operation.destination, operation.destination_lba, operation.write_bytes)) {
    return abort_copy(task, asc::none, destination_lba_byte);
  }
  return true;
}

// On one unit, a destination that begins inside the source is written from its end, so that the result is
// what a copy through unlimited memory would give.
bool overlaps_forward(const CopyOperation& operation) noexcept {
  if (operation.source != operation.destination) return false;
  const std::uint64_t blocks = operation.read_bytes / operation.source->geometry().block_size_bytes;
  return operation.destination_lba > operation.source_lba &&
         operation.destination_lba - operation.source_lba < blocks;
}

bool open_segment(Command& command) noexcept {
  Task& task = command.task;
  CopyOperation& operation = *task.copy;
  const CopySegment segment = copy_segment_at(task, operation, operation.segment);
  Party source;
  Party destination;
  if (!resolve(command, segment.source, source_id_byte, source) ||
      !resolve(command, segment.destination, destination_id_byte, destination) ||
      !measure(task, segment, source, destination)) {
    return false;
  }
  operation.source = source.unit;
  operation.destination = destination.unit;
  operation.source_lba = segment.source_lba;
  operation.destination_lba = segment.destination_lba;
  operation.slices_done = 0;
  operation.backwards = overlaps_forward(operation);
  return check_ranges(task);
}

// ---- opening a piece of WRITE USING TOKEN: what is alike on both sides, one run of blocks each

// Where block `index` of the ranges lies, and how many follow it in its range.
RodRange locate(const RodRanges& ranges, std::uint64_t index) noexcept {
  for (std::uint16_t i = 0; i < ranges.count; ++i) {
    const RodRange& range = ranges.list[i];
    if (index < range.blocks) return {range.lba + index, range.blocks - index};
    index -= range.blocks;
  }
  return {};
}

bool open_piece(Command& command) noexcept {
  Task& task = command.task;
  CopyOperation& operation = *task.copy;
  const std::uint64_t to_block = command.unit.geometry().block_size_bytes;
  const RodRange to = locate(operation.to, operation.bytes_written / to_block);
  std::uint64_t bytes = std::min<std::uint64_t>(to.blocks * to_block, copy_limits::max_segment_length);
  operation.destination = &command.unit;
  operation.destination_lba = to.lba;
  operation.source = nullptr;
  operation.slices_done = 0;
  operation.backwards = false;
  if (operation.token != 0) {
    operation.source = task.nexus->find_unit([&](const LogicalUnit& unit) {
      return unit.number() == operation.source_number && unit.identity().naa_id == operation.source_id;
    });
    if (operation.source == nullptr) return abort_copy(task, asc::copy_target_not_reachable);
    const std::uint64_t from_block = operation.source->geometry().block_size_bytes;
    const std::uint64_t at = operation.offset_bytes + operation.bytes_written;
    const RodRange from = locate(operation.from, at / from_block);
    bytes = std::min(bytes, from.blocks * from_block);
    bytes -= bytes % std::max(from_block, to_block);
    if (at % from_block != 0 || bytes == 0) return abort_copy(task, asc::unexpected_inexact_segment);
    operation.source_lba = from.lba;
  }
  operation.read_bytes = operation.source == nullptr ? 0 : bytes;
  operation.write_bytes = bytes;
  operation.backwards = overlaps_forward(operation);
  return check_ranges(task);
}

bool is_done(const CopyOperation& operation, const LogicalUnit& unit) noexcept {
  if (!operation.by_token) return operation.segment == operation.segments;
  return operation.bytes_written == operation.to.blocks * unit.geometry().block_size_bytes;
}

void prepare_claims(CopyOperation& operation) noexcept {
  RangeClaim& source = operation.claims[0];
  source.unit = operation.source;
  source.lba = operation.source_lba;
  source.blocks = 0;
  source.writes = false;
  if (source.unit != nullptr) source.blocks = operation.read_bytes / source.unit->geometry().block_size_bytes;
  RangeClaim& destination = operation.claims[1];
  destination.unit = operation.destination;
  destination.lba = operation.destination_lba;
  destination.blocks = operation.write_bytes / operation.destination->geometry().block_size_bytes;
  destination.writes = true;
}

// SANITIZE or FORMAT UNIT is at work on the unit, or has failed.
bool medium_is_ready(Task& task, const LogicalUnit& unit) noexcept {
  const auto refusal = unit.medium().refusal_of_data();
  if (refusal) check_condition(task, *refusal);
  return !refusal;
}

// The unit would refuse a READ, or a WRITE, with what this leaves in the task.
bool party_is_ready(Task& task, LogicalUnit& unit, bool writes) noexcept {
  if (!copy_may_access(task, unit, writes)) {
    task.status = ScsiStatus::reservation_conflict;
    task.sense_length = 0;
    return false;
  }
  if (unit.port_groups().restricted() && !check_access(*task.row, unit, task)) return false;
  if (const auto why =
          unit.was_for_another_medium(task) ? std::optional(asc::medium_not_present) : not_ready(unit)) {
    fail_command(task, SenseKey::not_ready, *why);
    return false;
  }
  if (!medium_is_ready(task, unit)) return false;
  if (!writes) return true;
  const bool may_write = task.nexus->may_write_to(unit);
  if (unit.write_protected() || !may_write) {
    const bool hard = unit.geometry().read_only || !unit.state().swp || !may_write;
    fail_command(task, SenseKey::data_protect, hard ? asc::write_protected : asc::software_write_protected);
    return false;
  }
  if (unit.state().flush_failed && wants_durable(unit, false)) {
    fail_command(task, SenseKey::medium_error, asc::write_error);
    return false;
  }
  return true;
}

// Before the claims: what may take hours is not waited for.
bool media_are_ready(Task& task) noexcept {
  const CopyOperation& operation = *task.copy;
  const bool reads = operation.source != nullptr;
  if (reads && !medium_is_ready(task, *operation.source)) return party_failed(task, CopyParty::source);
  if (!medium_is_ready(task, *operation.destination)) return party_failed(task, CopyParty::destination);
  return true;
}

// Once the claims are held: what may have changed while they were waited for, and what other commands can
// change.
bool check_parties(Task& task) noexcept {
  const CopyOperation& operation = *task.copy;
  const bool reads = operation.source != nullptr;
  if (reads && !party_is_ready(task, *operation.source, false)) return party_failed(task, CopyParty::source);
  if (!party_is_ready(task, *operation.destination, true)) return party_failed(task, CopyParty::destination);
  return check_ranges(task);
}

// ---- moving the data

// Bytes of one slice: as much scratch memory as the pieces of one block operation can name.
std::uint64_t slice_capacity(Task& task) noexcept {
  std::size_t used = 0;
  const std::uint64_t bytes =
      slice(task.scratch, 0, copy_limits::scratch_bytes, largest_block_bytes, task.pieces, used);
  PERILUNE_ASSERT(bytes != 0);  // the transport gave less than task.need, or pieces of a few bytes each
  return bytes;
}

struct Slice {
  std::uint64_t offset = 0;       // in the segment, bytes
  std::uint64_t read_bytes = 0;
  std::uint64_t write_bytes = 0;
};

std::uint64_t slices(const CopyOperation& operation, std::uint64_t capacity) noexcept {
  return (std::max(operation.read_bytes, operation.write_bytes) + capacity - 1) / capacity;
}

Slice current_slice(Task& task) noexcept {
  const CopyOperation& operation = *task.copy;
  const std::uint64_t capacity = slice_capacity(task);
  const std::uint64_t index =
      operation.backwards ? slices(operation, capacity) - 1 - operation.slices_done : operation.slices_done;
  const auto part = [&](std::uint64_t total, std::uint64_t offset) {
    return offset < total ? std::min(capacity, total - offset) : 0;
  };
  Slice current{.offset = index * capacity};
  current.read_bytes = part(operation.read_bytes, current.offset);
  current.write_bytes = part(operation.write_bytes, current.offset);
  return current;
}

void clear(std::span<const iovec> pieces, std::uint64_t begin, std::uint64_t end) noexcept {
  if (begin >= end) return;
  std::uint64_t at = 0;
  for (const iovec& piece : pieces) {
    const std::uint64_t from = std::clamp(begin, at, at + piece.iov_len);
    const std::uint64_t to = std::clamp(end, at, at + piece.iov_len);
    std::fill_n(static_cast<std::uint8_t*>(piece.iov_base) + (from - at), to - from, std::uint8_t{0});
    at += piece.iov_len;
  }
}

void prepare_data(Task& task, const LogicalUnit& unit, block::OpKind kind, std::uint64_t lba,
                  std::uint64_t bytes) noexcept {
  std::size_t used = 0;
  const std::uint32_t block = unit.geometry().block_size_bytes;
  const std::uint64_t named = slice(task.scratch, 0, bytes, block, task.pieces, used);
  PERILUNE_ASSERT(named == bytes);
  task.op.kind = kind;
  task.op.may_unmap = false;
  task.op.fua = kind == block::OpKind::write && wants_durable(unit, false) && unit.geometry().fua;
  task.op.lba = Lba(lba);
  task.op.blocks = BlockCount(bytes / block);
  task.op.data = {task.pieces.data(), used};
}

void prepare_read(Task& task) noexcept {
  const CopyOperation& operation = *task.copy;
  const Slice current = current_slice(task);
  const std::uint64_t lba =
      operation.source_lba + current.offset / operation.source->geometry().block_size_bytes;
  prepare_data(task, *operation.source, block::OpKind::read, lba, current.read_bytes);
}

void prepare_write(Task& task) noexcept {
  const CopyOperation& operation = *task.copy;
  const Slice current = current_slice(task);
  const std::uint64_t lba =
      operation.destination_lba + current.offset / operation.destination->geometry().block_size_bytes;
  prepare_data(task, *operation.destination, block::OpKind::write, lba, current.write_bytes);
}

// Zeroes, and the destination can hold them without space.
bool stays_thin(Task& task, const Slice& current) noexcept {
  const block::Geometry& geometry = task.copy->destination->geometry();
  return geometry.thin && geometry.unmap_zeroes && all_zero(task.scratch, current.write_bytes);
}

void slice_written(Task& task) noexcept {
  CopyOperation& operation = *task.copy;
  operation.bytes_written += current_slice(task).write_bytes;
  ++operation.slices_done;
}

bool write_slice(Task& task) noexcept;

// The next operation of the segment; false: there is none left.
bool next_operation(Task& task) noexcept {
  CopyOperation& operation = *task.copy;
  if (operation.slices_done < slices(operation, slice_capacity(task))) {
    if (operation.source == nullptr) return write_slice(task);
    operation.stage = Stage::reading;
    prepare_read(task);
    return true;
  }
  const LogicalUnit& unit = *operation.destination;
  if (operation.stage == Stage::flushing || operation.write_bytes == 0 || !wants_durable(unit, false) ||
      unit.geometry().fua) {
    return false;
  }
  operation.stage = Stage::flushing;
  task.op.kind = block::OpKind::flush;
  task.op.fua = task.op.may_unmap = false;
  task.op.lba = Lba(0);
  task.op.blocks = BlockCount(0);
  task.op.data = {};
  return true;
}

// What was read goes to the destination, unless nothing of it does.
bool write_slice(Task& task) noexcept {
  CopyOperation& operation = *task.copy;
  const Slice current = current_slice(task);
  clear(task.scratch, current.read_bytes, current.write_bytes);  // PAD
  if (current.write_bytes == 0) {
    slice_written(task);
    return next_operation(task);
  }
  prepare_write(task);
  operation.stage = Stage::writing;
  if (stays_thin(task, current)) {
    operation.stage = Stage::erasing;
    task.op.kind = block::OpKind::write_zeroes;
    task.op.may_unmap = true;
    task.op.data = {};
  }
  return true;
}

enum class Step : std::uint8_t { submit, segment_done, failed };

// The operation in task.op has ended.
Step operation_ended(Command& command) noexcept {
  Task& task = command.task;
  CopyOperation& operation = *task.copy;
  ++operation.operations;
  const bool read = operation.stage == Stage::reading;
  if (operation.stage == Stage::erasing && task.op.status == block::OpStatus::unsupported) {
    prepare_write(task);
    operation.stage = Stage::writing;
    return Step::submit;
  }
  Command at_party{command.device, read ? *operation.source : *operation.destination, task};
  if (operation_failed(at_party)) {
    (void)party_failed(task, read ? CopyParty::source : CopyParty::destination);
    return Step::failed;
  }
  bool more = false;
  if (read) {
    more = write_slice(task);
  } else {
    if (operation.stage != Stage::flushing) slice_written(task);
    more = next_operation(task);
  }
  return more ? Step::submit : Step::segment_done;
}

Progress interrupted(Task& task) noexcept {
  CopyOperation& operation = *task.copy;
  if (operation.interruption == CopyOperation::Interruption::unit_was_reset) {
    fail_command(task, SenseKey::unit_attention, additional_sense(UnitAttention::device_reset));
    const bool at_source = operation.source == operation.interrupted_unit;
    (void)party_failed(task, at_source ? CopyParty::source : CopyParty::destination);
  } else {
    (void)abort_copy(task, asc::none);
  }
  return Progress::over;
}

// Opens segments until one has something to copy and has its claims. submit: task.op is prepared.
Progress begin_segment(Command& command) noexcept {
  Task& task = command.task;
  CopyOperation& operation = *task.copy;
  for (;;) {
    if (operation.stage == Stage::next_segment) {
      if (is_done(operation, command.unit)) return good(task);
      const bool open = operation.by_token ? open_piece(command) : open_segment(command);
      if (!open || !media_are_ready(task)) return Progress::over;
      if (operation.read_bytes == 0 && operation.write_bytes == 0) {
        ++operation.segment;
        continue;
      }
      operation.stage = Stage::claiming;
      prepare_claims(operation);
      if (!command.device.claim(task)) return Progress::waits;
    }
    if (!check_parties(task)) return Progress::over;
    const bool something = next_operation(task);
    PERILUNE_ASSERT(something);  // there is something to read
    return Progress::submit;
  }
}

}  // namespace

bool admit_extended_copy(Command& command) {
  Task& task = command.task;
  const std::uint32_t list_bytes = load_be32(task.cdb.data() + 10);
  if (list_bytes > limits::max_parameter_bytes) {
    fail_command(task, SenseKey::illegal_request, asc::parameter_list_length_error);
    return false;
  }
  task.data_transfer_length = list_bytes;
  task.need.data_out_bytes = std::min(list_bytes, task.expected_data_out_bytes);
  if (task.need.data_out_bytes != 0) task.need.scratch_bytes = copy_limits::scratch_bytes;
  return true;
}

CopyOperation* begin_copy_operation(Command& command, std::uint32_t list_identifier, bool remembered) {
  Task& task = command.task;
  NexusCopies& copies = task.nexus->copies();
  CopyOperation* operation = remembered ? copies.find(command.unit.number(), list_identifier) : nullptr;
  if (operation != nullptr && operation->state == CopyOperation::State::running) {
    fail_command(task, SenseKey::illegal_request, asc::operation_in_progress);
    return nullptr;
  }
  if (operation == nullptr) operation = copies.place();
  if (operation == nullptr) {  // MAXIMUM CONCURRENT COPIES
    task.status = ScsiStatus::task_set_full;
    task.data_transfer_length = 0;
    return nullptr;
  }
  command.device.begin_copy(task, *operation);
  operation->remembered = remembered;
  operation->list_identifier = list_identifier;
  return operation;
}

bool prepare_extended_copy(Command& command) {
  Task& task = command.task;
  if (task.data_transfer_length == 0) return true;  // nothing to do, and no error
  const auto list = read_copy_list(task, (task.cdb[1] & 0x1f) == service_action_lid4);
  if (!list) return false;
  CopyOperation* operation = begin_copy_operation(command, list->list_identifier, list->remembered);
  if (operation == nullptr) return false;
  operation->cscds = list->cscds;
  operation->segments = list->segments;
  operation->cscd_offset = list->cscd_offset;
  operation->segment_offset = list->segment_offset;
  return true;
}

Progress run_extended_copy(Command& command) {
  Task& task = command.task;
  if (task.copy == nullptr) return good(task);
  CopyOperation& operation = *task.copy;
  for (;;) {
    if (task.aborted) return Progress::over;  // by whom the end of the last segment let go on
    if (operation.interruption != CopyOperation::Interruption::none) return interrupted(task);
    if (operation.stage == Stage::next_segment || operation.stage == Stage::claiming) {
      const Progress progress = begin_segment(command);
      if (progress != Progress::submit) return progress;
    } else {
      const Step step = operation_ended(command);
      if (step == Step::failed) return Progress::over;
      if (step == Step::segment_done) {
        ++operation.segment;
        operation.stage = Stage::next_segment;
        command.device.release_claims(task);
        continue;
      }
    }
    LogicalUnit& unit = operation.stage == Stage::reading ? *operation.source : *operation.destination;
    if (!command.device.submit(unit, task)) return Progress::waits;
  }
}

}  // namespace perilune::scsi
