// SPDX-License-Identifier: Apache-2.0
// MODE SENSE, MODE SELECT (SPC-4 6.9 to 6.12, pages in SPC-4 7.5 and SBC-3 6.4) and START STOP UNIT
// (SBC-3 5.25).
#include <algorithm>
#include <array>
#include <optional>

#include "base/assert.hpp"
#include "scsi/device.hpp"
#include "scsi/handlers.hpp"
#include "scsi/operation.hpp"
#include "scsi/reservation_handlers.hpp"
#include "scsi/transfer.hpp"

namespace perilune::scsi {
namespace {

using Buffer = std::vector<std::uint8_t>;
using State = ModeValues;

enum Step : std::uint8_t { begin = 0, flushing = 1 };

constexpr std::uint8_t wce_bit = 0x04;      // Caching, byte 2
constexpr std::uint8_t d_sense_bit = 0x04;  // Control, byte 2
constexpr std::uint8_t swp_bit = 0x08;      // Control, byte 4
constexpr std::uint8_t tas_bit = 0x40;      // Control, byte 5
constexpr std::uint8_t ato_bit = 0x80;      // Control, byte 5
constexpr std::uint8_t atmpe_bit = 0x20;    // Control, byte 5
constexpr std::size_t max_page_bytes = 112;

struct PageBytes {
  std::array<std::uint8_t, max_page_bytes> bytes{};
  std::size_t size = 0;
};

struct ModePage {
  std::uint8_t code;
  std::uint8_t subpage;
  PageBytes (*values)(const LogicalUnit&, const State&);
  PageBytes (*changeable)(const LogicalUnit&);  // the bits that MODE SELECT may set
  void (*apply)(State&, Bytes page);
  enum class Where : std::uint8_t { everywhere, protected_disks, metered_disks };
  Where where = Where::everywhere;  // on others there is no such page
};

bool has(const LogicalUnit& unit, const ModePage& page) noexcept {
  switch (page.where) {
    case ModePage::Where::everywhere: return true;
    case ModePage::Where::protected_disks: return unit.keeps_protection();
    case ModePage::Where::metered_disks: return unit.space() != nullptr;
  }
  return false;
}

PageBytes page_0(std::uint8_t code, std::size_t size) {
  PageBytes page;
  page.size = size;
  page.bytes[0] = code;
  page.bytes[1] = static_cast<std::uint8_t>(size - 2);
  return page;
}

// Read-Write Error Recovery (SBC-4 6.5.10): there is nothing to recover here, but the page says whether
// thresholds are told of.
constexpr std::uint8_t lbpere_bit = 0x80;  // byte 7

PageBytes recovery_values(const LogicalUnit&, const State& state) {
  PageBytes page = page_0(0x01, 12);
  if (state.thresholds.reported) page.bytes[7] = lbpere_bit;
  return page;
}
PageBytes recovery_mask(const LogicalUnit&) {
  PageBytes page = page_0(0x01, 12);
  page.bytes[7] = lbpere_bit;
  return page;
}
void recovery_apply(State& state, Bytes page) { state.thresholds.reported = (page[7] & lbpere_bit) != 0; }

PageBytes caching_values(const LogicalUnit&, const State& state) {
  PageBytes page = page_0(0x08, 20);
  if (state.wce) page.bytes[2] |= wce_bit;
  return page;
}
PageBytes caching_mask(const LogicalUnit& unit) {
  PageBytes page = page_0(0x08, 20);
  if (unit.may_enable_write_cache()) page.bytes[2] = wce_bit;
  return page;
}
void caching_apply(State& state, Bytes page) { state.wce = (page[2] & wce_bit) != 0; }

PageBytes control_values(const LogicalUnit& unit, const State& state) {
  PageBytes page = page_0(0x0a, 12);
  if (state.d_sense) page.bytes[2] |= d_sense_bit;
  page.bytes[3] = 0x10;  // unrestricted reordering; QERR 0
  if (state.swp) page.bytes[4] |= swp_bit;
  page.bytes[4] |=
      static_cast<std::uint8_t>(static_cast<unsigned>(unit.rules().interlock) << 4);  // UA_INTLCK_CTRL
  if (state.tas) page.bytes[5] |= tas_bit;
  if (state.ato) page.bytes[5] |= ato_bit;
  if (state.atmpe) page.bytes[5] |= atmpe_bit;
  page.bytes[8] = page.bytes[9] = 0xff;  // BUSY TIMEOUT PERIOD: unlimited
  return page;
}
PageBytes control_mask(const LogicalUnit& unit) {
  PageBytes page = page_0(0x0a, 12);
  page.bytes[2] = d_sense_bit;
  page.bytes[4] = swp_bit;
  page.bytes[5] = tas_bit;
  if (unit.keeps_protection()) page.bytes[5] |= ato_bit | atmpe_bit;
  return page;
}
void control_apply(State& state, Bytes page) {
  state.d_sense = (page[2] & d_sense_bit) != 0;
  state.swp = (page[4] & swp_bit) != 0;
  state.tas = (page[5] & tas_bit) != 0;
  state.ato = (page[5] & ato_bit) != 0;
  state.atmpe = (page[5] & atmpe_bit) != 0;
}

PageBytes control_extension() {
  PageBytes page;
  page.size = 32;
  page.bytes[0] = 0x40 | 0x0a;  // SPF
  page.bytes[1] = 0x01;
  page.bytes[3] = 28;
  return page;
}
PageBytes control_extension_values(const LogicalUnit&, const State&) {
  PageBytes page = control_extension();
  page.bytes[4] = 0x02;                     // SCSIP: the timestamp is what SET TIMESTAMP says
  page.bytes[6] = limits::max_sense_bytes;  // MAXIMUM SENSE DATA LENGTH
  return page;
}
PageBytes control_extension_mask(const LogicalUnit&) { return control_extension(); }

// Application Tag (SBC-3 6.4.3): descriptors of 24 bytes behind 16.
constexpr std::size_t tags_at = 16;
constexpr std::size_t tag_bytes = 24;
constexpr std::uint8_t last_bit = 0x80;
static_assert(tags_at + tag_bytes * ApplicationTags{}.size() == max_page_bytes);

PageBytes application_tag_page() {
  PageBytes page;
  page.size = max_page_bytes;
  page.bytes[0] = 0x40 | 0x0a;  // SPF
  page.bytes[1] = 0x02;
  store_be16(&page.bytes[2], static_cast<std::uint16_t>(page.size - 4));
  return page;
}
PageBytes application_tag_values(const LogicalUnit&, const State& state) {
  PageBytes page = application_tag_page();
  std::uint8_t* at = &page.bytes[tags_at];
  for (const ApplicationTagRange& range : state.application_tags) {
    if (range.last) at[0] = last_bit;
    store_be16(at + 6, range.tag);
    store_be64(at + 8, range.lba);
    store_be64(at + 16, range.blocks);
    at += tag_bytes;
  }
  return page;
}
PageBytes application_tag_mask(const LogicalUnit&) {
  PageBytes page = application_tag_page();
  for (std::size_t at = tags_at; at < page.size; at += tag_bytes) {
    page.bytes[at] = last_bit;
    std::fill_n(&page.bytes[at + 6], 18, std::uint8_t{0xff});
  }
  return page;
}
void application_tag_apply(State& state, Bytes page) {
  const std::uint8_t* at = &page[tags_at];
  for (ApplicationTagRange& range : state.application_tags) {
    range = {.last = (at[0] & last_bit) != 0,
             .tag = load_be16(at + 6),
             .lba = load_be64(at + 8),
             .blocks = load_be64(at + 16)};
    at += tag_bytes;
  }
}

PageBytes exceptions_values(const LogicalUnit&, const State&) {
  PageBytes page = page_0(0x1c, 12);
  page.bytes[2] = 0x08;  // DEXCPT: no informational exceptions are reported
  return page;
}
PageBytes exceptions_mask(const LogicalUnit&) { return page_0(0x1c, 12); }

// Logical Block Provisioning (SBC-4 6.5.9): descriptors of 8 bytes behind 16. What a threshold is of stands,
// the rest can be set.
constexpr std::size_t thresholds_at = 16;
constexpr std::size_t threshold_bytes = 8;
constexpr std::size_t provisioning_bytes = thresholds_at + threshold_bytes * threshold_resources.size();
constexpr std::uint8_t single_initiator_bit = 0x01;  // SITUA, byte 4
constexpr std::uint8_t enabled_bit = 0x80;
constexpr std::uint8_t armed_increasing = 0x01;  // THRESHOLD ARMING; decreasing is 0, and THRESHOLD TYPE is
                                                 // 0: threshold sets
static_assert(information_of(soft_threshold_of(0)) == thresholds_at &&
              information_of(soft_threshold_of(3)) == thresholds_at + 3 * threshold_bytes);

PageBytes provisioning_page() {
  PageBytes page;
  page.size = provisioning_bytes;
  page.bytes[0] = 0x40 | 0x1c;  // SPF
  page.bytes[1] = 0x02;
  store_be16(&page.bytes[2], static_cast<std::uint16_t>(page.size - 4));
  return page;
}
PageBytes provisioning_values(const LogicalUnit&, const State& state) {
  PageBytes page = provisioning_page();
  if (state.thresholds.single_initiator) page.bytes[4] = single_initiator_bit;
  for (std::size_t i = 0; i < threshold_resources.size(); ++i) {
    std::uint8_t* at = &page.bytes[thresholds_at + i * threshold_bytes];
    if (threshold_resources[i] == ThresholdResource::used) at[0] = armed_increasing;
    if (state.thresholds.list[i].enabled) at[0] |= enabled_bit;
    at[1] = static_cast<std::uint8_t>(threshold_resources[i]);
    store_be32(at + 4, state.thresholds.list[i].count);
  }
  return page;
}
PageBytes provisioning_mask(const LogicalUnit&) {
  PageBytes page = provisioning_page();
  page.bytes[4] = single_initiator_bit;
  for (std::size_t at = thresholds_at; at < page.size; at += threshold_bytes) {
    page.bytes[at] = enabled_bit;
    store_be32(&page.bytes[at + 4], 0xffff'ffffu);
  }
  return page;
}
void provisioning_apply(State& state, Bytes page) {
  state.thresholds.single_initiator = (page[4] & single_initiator_bit) != 0;
  const std::uint8_t* at = &page[thresholds_at];
  for (Threshold& threshold : state.thresholds.list) {
    threshold = {.enabled = (at[0] & enabled_bit) != 0, .count = load_be32(at + 4)};
    at += threshold_bytes;
  }
}

void apply_nothing(State&, Bytes) {}

constexpr ModePage pages[] = {
    // ascending
    {0x01, 0x00, recovery_values, recovery_mask, recovery_apply, ModePage::Where::metered_disks},
    {0x08, 0x00, caching_values, caching_mask, caching_apply},
    {0x0a, 0x00, control_values, control_mask, control_apply},
    {0x0a, 0x01, control_extension_values, control_extension_mask, apply_nothing},
    {0x0a, 0x02, application_tag_values, application_tag_mask, application_tag_apply,
     ModePage::Where::protected_disks},
    {0x1c, 0x00, exceptions_values, exceptions_mask, apply_nothing},
    {0x1c, 0x02, provisioning_values, provisioning_mask, provisioning_apply, ModePage::Where::metered_disks},
};

// ---- MODE SENSE

struct SenseRequest {
  bool ten = false;
  std::uint8_t control = 0;  // PC
  std::uint8_t code = 0;
  std::uint8_t subpage = 0;
  bool block_descriptor = true;
  bool long_lba = false;
};

void append_block_descriptor(Buffer& out, const block::Geometry& geometry, bool long_lba) {
  const std::uint64_t blocks = geometry.blocks.value();
  const std::size_t at = out.size();
  if (long_lba) {
    out.resize(at + 16);
    store_be64(&out[at], blocks);
    store_be32(&out[at + 12], geometry.block_size_bytes);
  } else {
    out.resize(at + 8);
    store_be32(&out[at], static_cast<std::uint32_t>(std::min<std::uint64_t>(blocks, 0xffff'ffffu)));
    store_be24(&out[at + 5], geometry.block_size_bytes);
  }
}

enum PageControl : std::uint8_t { current = 0, changeable = 1, defaults = 2, saved = 3 };

ModeValues values_of(const LogicalUnit& unit, std::uint8_t control) {
  if (control == defaults) return unit.default_modes();
  if (control == saved) return unit.durable().modes.value_or(unit.default_modes());
  return unit.modes();
}

// PS: a page that can be changed can be saved, where there is something to save it in.
void mark_savable(PageBytes& content, const ModePage& page, const LogicalUnit& unit) {
  const PageBytes mask = page.changeable(unit);
  const std::size_t prefix = page.subpage != 0 ? 4 : 2;
  const bool any = std::any_of(mask.bytes.begin() + static_cast<std::ptrdiff_t>(prefix), mask.bytes.end(),
                               [](std::uint8_t b) { return b != 0; });
  if (any && unit.persists()) content.bytes[0] |= 0x80;
}

// False: no such page.
bool append_pages(Buffer& out, const LogicalUnit& unit, const SenseRequest& request) {
  bool found = false;
  for (const ModePage& page : pages) {
    if (request.code != 0x3f && request.code != page.code) continue;
    if ((request.subpage != 0xff && request.subpage != page.subpage) || !has(unit, page)) continue;
    found = true;
    PageBytes content = request.control == changeable ? page.changeable(unit)
                                                      : page.values(unit, values_of(unit, request.control));
    mark_savable(content, page, unit);
    out.insert(out.end(), content.bytes.begin(),
               content.bytes.begin() + static_cast<std::ptrdiff_t>(content.size));
  }
  return found;
}

Progress mode_sense(Command& command, const SenseRequest& request, std::size_t allocation) {
  Task& task = command.task;
  const LogicalUnit& unit = command.unit;
  if (request.control == saved && !unit.persists()) {
    fail_command(task, SenseKey::illegal_request, asc::saving_parameters_not_supported);
    return Progress::over;
  }
  if (request.code == 0x3f && request.subpage != 0 && request.subpage != 0xff) {
    invalid_field_in_cdb(task, 3, std::uint8_t{7});
    return Progress::over;
  }
  Buffer& out = task.parameter_data;
  const std::size_t header = request.ten ? 8 : 4;
  out.assign(header, 0);
  if (request.block_descriptor) append_block_descriptor(out, unit.geometry(), request.long_lba);
  const std::size_t descriptor_bytes = out.size() - header;
  if (!append_pages(out, unit, request)) {
    const bool known = std::any_of(std::begin(pages), std::end(pages),
                                   [&](const ModePage& page) { return page.code == request.code; });
    invalid_field_in_cdb(task, known ? 3 : 2, known ? std::uint8_t{7} : std::uint8_t{5});
    return Progress::over;
  }
  const bool protects = unit.write_protected() || task.nexus->read_only_at(task.lun);
  const auto device_specific = static_cast<std::uint8_t>(
      (protects ? 0x80 : 0) | (unit.rules().force_unit_access ? 0x10 : 0));  // WP, DPOFUA
  if (request.ten) {
    store_be16(&out[0], static_cast<std::uint16_t>(out.size() - 2));
    out[3] = device_specific;
    out[4] = request.long_lba && request.block_descriptor ? 0x01 : 0x00;
    store_be16(&out[6], static_cast<std::uint16_t>(descriptor_bytes));
  } else {
    // as much as can be asked for
    out[0] = static_cast<std::uint8_t>(std::min<std::size_t>(out.size() - 1, 255));
    out[2] = device_specific;
    out[3] = static_cast<std::uint8_t>(descriptor_bytes);
  }
  return reply(task, allocation);
}

}  // namespace

Progress run_mode_sense_6(Command& command) {
  const auto& cdb = command.task.cdb;
  return mode_sense(command,
                    {.ten = false,
                     .control = static_cast<std::uint8_t>(cdb[2] >> 6),
                     .code = static_cast<std::uint8_t>(cdb[2] & 0x3f),
                     .subpage = cdb[3],
                     .block_descriptor = (cdb[1] & 0x08) == 0},
                    cdb[4]);
}

Progress run_mode_sense_10(Command& command) {
  const auto& cdb = command.task.cdb;
  return mode_sense(command,
                    {.ten = true,
                     .control = static_cast<std::uint8_t>(cdb[2] >> 6),
                     .code = static_cast<std::uint8_t>(cdb[2] & 0x3f),
                     .subpage = cdb[3],
                     .block_descriptor = (cdb[1] & 0x08) == 0,
                     .long_lba = (cdb[1] & 0x10) != 0},
                    load_be16(cdb.data() + 7));
}

// ---- MODE SELECT

bool admit_mode_select(Command& command) {
  Task& task = command.task;
  if ((task.cdb[1] & 0x01) != 0 && !command.unit.persists()) {  // SP
    invalid_field_in_cdb(task, 1, std::uint8_t{0});
    return false;
  }
  const std::uint32_t list_bytes = task.cdb[0] == 0x55 ? load_be16(task.cdb.data() + 7) : task.cdb[4];
  if ((task.cdb[1] & 0x10) == 0 && list_bytes != 0) {  // PF: vendor-specific lists are not known here
    invalid_field_in_cdb(task, 1, std::uint8_t{4});
    return false;
  }
  task.data_transfer_length = list_bytes;
  task.need.data_out_bytes = std::min(list_bytes, task.expected_data_out_bytes);
  return true;
}

namespace {

// The parameter list of MODE SELECT. Nothing changes until all of it was found good.
class SelectList {
 public:
  SelectList(Command& command, Bytes list) noexcept : command_(command), list_(list) {}

  // The state that the list asks for; nullopt: the command has ended with the sense for it.
  std::optional<State> parse() {
    State wanted = command_.unit.modes();
    if (!header()) return std::nullopt;
    while (at_ < list_.size()) {
      if (!page(wanted)) return std::nullopt;
    }
    return wanted;
  }

 private:
  bool too_short() {
    fail_command(command_.task, SenseKey::illegal_request, asc::parameter_list_length_error);
    return false;
  }
  bool wrong(std::size_t byte, std::optional<std::uint8_t> bit = std::nullopt) {
    invalid_field_in_parameters(command_.task, static_cast<std::uint16_t>(byte), bit);
    return false;
  }

  bool header() {
    const bool ten = command_.task.cdb[0] == 0x55;
    const std::size_t header_bytes = ten ? 8 : 4;
    if (list_.size() < header_bytes) return too_short();
    const std::size_t medium_type = ten ? 2 : 1;
    if (list_[medium_type] != 0) return wrong(medium_type);
    const bool long_lba = ten && (list_[4] & 0x01) != 0;
    const std::size_t descriptor_bytes = ten ? load_be16(&list_[6]) : list_[3];
    if (descriptor_bytes != 0 && descriptor_bytes != (long_lba ? 16u : 8u)) return wrong(ten ? 6 : 3);
    if (list_.size() - header_bytes < descriptor_bytes) return too_short();
    at_ = header_bytes + descriptor_bytes;
    return descriptor_bytes == 0 || block_descriptor(header_bytes, long_lba);
  }

  // The format of the medium does not change: what is there now, or the values that mean "as it is".
  bool block_descriptor(std::size_t at, bool long_lba) {
    const block::Geometry& geometry = command_.unit.geometry();
    const std::uint64_t all = long_lba ? ~std::uint64_t{0} : 0xffff'ffffu;
    const std::uint64_t blocks = long_lba ? load_be64(&list_[at]) : load_be32(&list_[at]);
    if (blocks != 0 && blocks != all && blocks != geometry.blocks.value()) return wrong(at);
    const std::size_t length_at = at + (long_lba ? 12 : 5);
    const std::uint32_t length = long_lba ? load_be32(&list_[length_at]) : load_be24(&list_[length_at]);
    return length == geometry.block_size_bytes || wrong(length_at);
  }

  bool page(State& wanted) {
    const bool sub_format = (list_[at_] & 0x40) != 0;
    const std::size_t prefix = sub_format ? 4 : 2;
    if (list_.size() - at_ < prefix) return too_short();
    const std::uint8_t code = list_[at_] & 0x3f;
    const std::uint8_t subpage = sub_format ? list_[at_ + 1] : 0;
    const std::size_t length = prefix + (sub_format ? load_be16(&list_[at_ + 2]) : list_[at_ + 1]);
    const auto* found = std::find_if(std::begin(pages), std::end(pages), [&](const ModePage& candidate) {
      return candidate.code == code && candidate.subpage == subpage &&
             (candidate.subpage != 0) == sub_format && has(command_.unit, candidate);
    });
    if (found == std::end(pages)) return wrong(at_, std::uint8_t{5});
    const PageBytes mask = found->changeable(command_.unit);
    if (length != mask.size) return wrong(at_ + prefix - 1);
    if (list_.size() - at_ < length) return too_short();
    const PageBytes current = found->values(command_.unit, command_.unit.modes());
    for (std::size_t i = prefix; i < length; ++i) {
      const auto changed = static_cast<std::uint8_t>((list_[at_ + i] ^ current.bytes[i]) & ~mask.bytes[i]);
      if (changed != 0) return wrong(at_ + i);
    }
    found->apply(wanted, list_.subspan(at_, length));
    at_ += length;
    return true;
  }

  Command& command_;
  Bytes list_;
  std::size_t at_ = 0;
};

std::optional<State> parse_select(Command& command) {
  Buffer list(command.task.need.data_out_bytes);
  const std::size_t there = gather(command.task.data, 0, list);
  PERILUNE_ASSERT(there == list.size());
  if (list.size() < command.task.data_transfer_length) {
    fail_command(command.task, SenseKey::illegal_request, asc::parameter_list_length_error);
    return std::nullopt;
  }
  return SelectList(command, list).parse();
}

}  // namespace

Progress run_mode_select(Command& command) {
  Task& task = command.task;
  if (task.step == changing_step) return end_change(command);
  const bool save = (task.cdb[1] & 0x01) != 0;
  if (task.data_transfer_length == 0 && !save) return good(task);
  if (task.step == flushing && operation_failed(command)) return Progress::over;
  const ModeValues before = command.unit.modes();
  const auto wanted = task.data_transfer_length != 0 ? parse_select(command) : std::optional(before);
  if (!wanted) return Progress::over;
  if (before.wce && !wanted->wce && task.step == begin) {  // what is in the cache becomes durable before WCE
                                                           // is 0
    if (command.unit.state().flush_failed) {
      fail_command(task, SenseKey::medium_error, asc::write_error);
      return Progress::over;
    }
    task.step = flushing;
    return prepare_flush(command);
  }
  UnitChange change;
  change.modes = wanted;
  if (save) {
    change.durable = command.unit.durable();
    change.durable->modes = wanted;
  }
  if (before != *wanted) change.for_others = UnitAttention::mode_parameters_changed;
  return begin_change(command, std::move(change));
}

// ---- START STOP UNIT: IMMED, NO_FLUSH and START, LOEJ where the medium can be taken out; no power
// conditions. And PREVENT ALLOW MEDIUM REMOVAL, whose word lasts until the nexus takes it back or is lost, or
// the unit is reset (SPC-4).

Progress run_prevent_allow(Command& command) {
  command.unit.prevent_removal(*command.task.nexus, (command.task.cdb[4] & 0x01) != 0);
  return good(command.task);
}

bool admit_start_stop(Command& command) {
  const bool stops = (command.task.cdb[4] & 0x05) == 0;
  if (!stops || !command.unit.state().flush_failed) return true;
  fail_command(command.task, SenseKey::medium_error, asc::write_error);
  return false;
}

Progress run_start_stop(Command& command) {
  Task& task = command.task;
  const bool start = (task.cdb[4] & 0x01) != 0;
  const bool no_flush = (task.cdb[4] & 0x04) != 0;
  const bool move_tray = (task.cdb[4] & 0x02) != 0;
  LogicalUnit& unit = command.unit;
  const bool moves = move_tray && !(start && unit.medium_present());  // shut, it stays shut
  if (moves && unit.removal_prevented()) {
    fail_command(task, SenseKey::illegal_request, asc::medium_removal_prevented);
    return Progress::over;
  }
  if (!start && !no_flush && unit.medium_present() && task.step == begin) {
    task.step = flushing;
    return prepare_flush(command);
  }
  if (task.step == flushing && operation_failed(command)) return Progress::over;
  if (start && !unit.medium_present() && (!move_tray || unit.state().tray_is_held)) {
    fail_command(task, SenseKey::not_ready, asc::medium_not_present);
    return Progress::over;
  }
  if (move_tray && start != unit.medium_present()) {
    if (start) unit.close_tray(task.nexus);
    else unit.open_tray();
  }
  if (start && unit.state().stopped) ++unit.count().starts;
  unit.state().stopped = !start && unit.type() == DeviceType::disk;  // a disc begins to turn when it is read
  return good(task);
}

}  // namespace perilune::scsi
