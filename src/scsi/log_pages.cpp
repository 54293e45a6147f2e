// SPDX-License-Identifier: Apache-2.0
// LOG SENSE and LOG SELECT (SPC-4 6.7, 6.6) and the pages (SPC-4 7.3). Nothing is saved, and no parameter has
// a threshold of its own.
#include <algorithm>
#include <iterator>

#include "scsi/handlers.hpp"

namespace perilune::scsi {
namespace {

using Buffer = std::vector<std::uint8_t>;

// Control byte of a parameter: TSD (nothing is saved), and its format.
constexpr std::uint8_t counter = 0x20;
constexpr std::uint8_t list = 0x23;

// Appends parameters whose code is not below `from`.
class Parameters {
 public:
  Parameters(Buffer& out, std::uint16_t from) noexcept : out_(out), from_(from) {}

  // Nullptr: not asked for. Else `length` zeroed bytes.
  std::uint8_t* add(std::uint16_t code, std::uint8_t control, std::uint8_t length) {
    last_ = std::max(last_, code);
    if (code < from_) return nullptr;
    const std::size_t at = out_.size();
    out_.resize(at + 4 + length);
    store_be16(&out_[at], code);
    out_[at + 2] = control;
    out_[at + 3] = length;
    return out_.data() + at + 4;
  }
  void number(std::uint16_t code, std::uint64_t value) {
    if (std::uint8_t* p = add(code, counter, 8)) store_be64(p, value);
  }
  [[nodiscard]] std::uint16_t last() const noexcept { return last_; }

 private:
  Buffer& out_;
  std::uint16_t from_;
  std::uint16_t last_ = 0;
};

struct Shown {
  const UnitCounters& counted;
  const LogicalUnit& unit;
  [[nodiscard]] std::uint32_t block_size_bytes() const noexcept { return unit.geometry().block_size_bytes; }
};

// Total errors corrected, total bytes processed, total uncorrected errors.
void error_counters(Parameters& out, std::uint64_t blocks, std::uint64_t errors,
                    std::uint32_t block_size_bytes) {
  out.number(0x0003, 0);
  out.number(0x0005, blocks * block_size_bytes);
  out.number(0x0006, errors);
}
void write_errors(Parameters& out, const Shown& unit) {
  error_counters(out, unit.counted.blocks_written, unit.counted.write_errors, unit.block_size_bytes());
}
void read_errors(Parameters& out, const Shown& unit) {
  error_counters(out, unit.counted.blocks_read, unit.counted.read_errors, unit.block_size_bytes());
}
void verify_errors(Parameters& out, const Shown& unit) {
  error_counters(out, unit.counted.blocks_verified, unit.counted.verify_errors, unit.block_size_bytes());
}

// Logical Block Provisioning (SBC-4 6.4.5). What is used is this unit's; what is available, others use too.
void provisioning(Parameters& out, const Shown& shown) {
  constexpr std::uint8_t dedicated = 0x01, shared = 0x02;  // SCOPE
  const block::Geometry& geometry = shown.unit.geometry();
  const SpaceInBlocks space = in_blocks(shown.unit.space()->level(), geometry);
  const std::uint8_t exponent = threshold_exponent(geometry);
  if (std::uint8_t* p = out.add(static_cast<std::uint16_t>(ThresholdResource::available), list, 8)) {
    store_be32(p, available_sets(space, exponent));
    p[4] = shared;
  }
  if (std::uint8_t* p = out.add(static_cast<std::uint16_t>(ThresholdResource::used), list, 8)) {
    store_be32(p, used_sets(space, exponent));
    p[4] = dedicated;
  }
  shown.unit.space_moved();  // who asks again learns what it is now
}

// There is nothing to measure, and no limit to hold to: FFh for both.
void temperature(Parameters& out, const Shown&) {
  for (const std::uint16_t code : {std::uint16_t{0x0000}, std::uint16_t{0x0001}}) {
    if (std::uint8_t* p = out.add(code, list, 2)) p[1] = 0xff;
  }
}

void start_stop_cycles(Parameters& out, const Shown& unit) {
  if (std::uint8_t* p = out.add(0x0004, list, 4)) {  // accumulated start-stop cycles
    store_be32(p, static_cast<std::uint32_t>(std::min<std::uint64_t>(unit.counted.starts, 0xffff'ffffu)));
  }
}

// No command's time is taken, so the processing intervals stay 0.
void general_statistics(Parameters& out, const Shown& unit) {
  std::uint8_t* p = out.add(0x0001, list, 64);
  if (p == nullptr) return;
  store_be64(p, unit.counted.reads);
  store_be64(p + 8, unit.counted.writes);
  store_be64(p + 16, unit.counted.blocks_written);
  store_be64(p + 24, unit.counted.blocks_read);
}

struct LogPage {
  std::uint8_t code;
  void (*append)(Parameters&, const Shown&);
  std::size_t zero;  // its place in LogZero; counting_log_pages: it counts nothing
  bool of_metered_disks = false;  // on others there is no such page
};
constexpr LogPage pages[] = {  // ascending
    {0x02, write_errors, 0},       {0x03, read_errors, 1},       {0x05, verify_errors, 2},
    {0x0c, provisioning, counting_log_pages, true},
    {0x0d, temperature, counting_log_pages}, {0x0e, start_stop_cycles, 3}, {0x19, general_statistics, 4},
};
static_assert(counting_log_pages == 5);

bool has(const LogicalUnit& unit, const LogPage& page) noexcept {
  return !page.of_metered_disks || unit.space() != nullptr;
}

const LogPage* find_page(const LogicalUnit& unit, std::uint8_t code) noexcept {
  const auto* page = std::find_if(std::begin(pages), std::end(pages),
                                  [&](const LogPage& p) { return p.code == code && has(unit, p); });
  return page == std::end(pages) ? nullptr : page;
}

void supported_pages(Buffer& out, const LogicalUnit& unit, bool with_subpages) {
  out.assign(4, 0);
  if (with_subpages) {
    out[0] = 0x40;  // SPF
    out[1] = 0xff;
    out.insert(out.end(), {0x00, 0x00, 0x00, 0xff});
  } else {
    out.push_back(0x00);
  }
  for (const LogPage& page : pages) {
    if (!has(unit, page)) continue;
    out.push_back(page.code);
    if (with_subpages) out.push_back(0x00);
  }
}

Progress refuse(Task& task, std::uint16_t byte, std::uint8_t bit) {
  invalid_field_in_cdb(task, byte, bit);
  return Progress::over;
}

}  // namespace

Progress run_log_sense(Command& command) {
  Task& task = command.task;
  const std::uint8_t control = task.cdb[2] >> 6;
  const std::uint8_t code = task.cdb[2] & 0x3f;
  const std::uint8_t subpage = task.cdb[3];
  const std::uint16_t from = load_be16(task.cdb.data() + 5);
  const std::uint16_t allocation = load_be16(task.cdb.data() + 7);
  Buffer& out = task.parameter_data;
  const LogPage* page = find_page(command.unit, code);
  if (page == nullptr && code != 0x00) return refuse(task, 2, 5);
  if (subpage != 0 && (code != 0x00 || subpage != 0xff)) return refuse(task, 3, 7);
  if (page == nullptr) {
    if (from != 0) return refuse(task, 5, 7);
    supported_pages(out, command.unit, subpage == 0xff);
  } else {
    if ((control & 0x01) == 0) return refuse(task, 2, 7);  // thresholds
    const bool defaults = control == 3 || page->zero == counting_log_pages;
    const UnitCounters counted =
        defaults ? UnitCounters{} : command.unit.counters_of_all() - command.unit.log_zero()[page->zero];
    out.assign(4, 0);
    out[0] = static_cast<std::uint8_t>(0x80 | page->code);  // DS: not saved
    Parameters parameters(out, from);
    page->append(parameters, {counted, command.unit});
    if (from > parameters.last()) return refuse(task, 5, 7);
  }
  store_be16(&out[2], static_cast<std::uint16_t>(out.size() - 4));
  return reply(task, allocation);
}

// Without a parameter list: counters back to zero (PCR, or PC = 11b), of one page or, for 00h, of all.
Progress run_log_select(Command& command) {
  Task& task = command.task;
  const bool reset = (task.cdb[1] & 0x02) != 0 || task.cdb[2] >> 6 == 3;
  const std::uint8_t code = task.cdb[2] & 0x3f;
  const LogPage* page = find_page(command.unit, code);
  if (page == nullptr && code != 0x00) return refuse(task, 2, 5);
  if (task.cdb[3] != 0) return refuse(task, 3, 7);
  if (!reset) return good(task);
  const UnitCounters now = command.unit.counters_of_all();
  for (const LogPage& each : pages) {
    if ((page == nullptr || page == &each) && each.zero != counting_log_pages)
      command.unit.log_zero()[each.zero] = now;
  }
  command.unit.raise_for_others(task.nexus, UnitAttention::log_parameters_changed);
  return good(task);
}

}  // namespace perilune::scsi
