// SPDX-License-Identifier: Apache-2.0
// INQUIRY (SPC-4 6.6) and the vital product data pages (SPC-4 7.8, SBC-3 6.5).
#include <algorithm>
#include <array>
#include <bit>
#include <string_view>

#include "scsi/copy_handlers.hpp"
#include "scsi/device.hpp"
#include "scsi/handlers.hpp"
#include "scsi/lun.hpp"

namespace perilune::scsi {
namespace {

constexpr std::string_view vendor = "PERILUNE";  // eight characters
constexpr std::size_t max_serial_bytes = 64;
constexpr std::size_t max_name_bytes = 236;      // of a name string designator, padding not counted

using Buffer = std::vector<std::uint8_t>;

bool printable(char c) noexcept { return c >= 0x20 && c <= 0x7e; }

// Left-aligned ASCII, filled with spaces (SPC-4 4.3.1).
void put_text(std::uint8_t* out, std::size_t width, std::string_view text) {
  for (std::size_t i = 0; i < width; ++i) {
    out[i] = i < text.size() && printable(text[i]) ? static_cast<std::uint8_t>(text[i]) : std::uint8_t{' '};
  }
}

void append(Buffer& out, std::string_view text) { out.insert(out.end(), text.begin(), text.end()); }

std::string_view serial_of(const LogicalUnit& unit) noexcept {
  return std::string_view(unit.identity().serial).substr(0, max_serial_bytes);
}

void standard_data(Buffer& out, std::uint8_t peripheral, std::string_view product, std::string_view revision,
                   std::uint8_t protocol, DeviceType type = DeviceType::disk) {
  out.assign(96, 0);
  out[0] = peripheral;
  out[2] = 0x06;         // SPC-4
  out[3] = 0x10 | 0x02;  // HISUP, response data format 2
  out[4] = static_cast<std::uint8_t>(out.size() - 5);
  out[7] = 0x02;  // CMDQUE
  put_text(&out[8], 8, vendor);
  put_text(&out[16], 16, product);
  put_text(&out[32], 4, revision);
  std::size_t at = 58;  // version descriptors (SPC-4 table 141)
  for (const std::uint16_t version : {std::uint16_t{0x00a0} /* SAM-5 */, std::uint16_t{0x0460} /* SPC-4 */,
                                      type == DeviceType::cd_dvd ? std::uint16_t{0x04e0} /* MMC-6 */
                                                                 : std::uint16_t{0x04c0} /* SBC-3 */}) {
    store_be16(&out[at], version);
    at += 2;
  }
  if (protocol == 5) store_be16(&out[at], 0x0960);  // iSCSI
}

// ---- designators of VPD 83h (SPC-4 7.8.5)

enum : std::uint8_t { code_binary = 1, code_ascii = 2, code_utf8 = 3 };
enum : std::uint8_t { of_unit = 0x00, of_port = 0x10, of_device = 0x20 };
enum : std::uint8_t {
  type_t10 = 1,
  type_naa = 3,
  type_relative_port = 4,
  type_port_group = 5,
  type_name = 8
};

// Appends the header; the caller appends `length` bytes. A protocol identifier goes with ports and devices
// alone.
void designator(Buffer& out, std::uint8_t code_set, std::uint8_t association, std::uint8_t type,
                std::uint8_t length, std::uint8_t protocol) {
  const bool of_protocol = association != of_unit;
  out.push_back(static_cast<std::uint8_t>((of_protocol ? protocol << 4 : 0) | code_set));
  out.push_back(static_cast<std::uint8_t>((of_protocol ? 0x80 : 0) | association | type));
  out.push_back(0);
  out.push_back(length);
}

void name_designator(Buffer& out, std::uint8_t association, std::string_view name, std::uint8_t protocol) {
  if (name.empty() || name.size() > max_name_bytes) return;
  const std::size_t padded = (name.size() + 1 + 3) / 4 * 4;  // at least one NUL, a multiple of four
  designator(out, code_utf8, association, type_name, static_cast<std::uint8_t>(padded), protocol);
  append(out, name);
  out.resize(out.size() + padded - name.size());
}

void put_number(Buffer& out, std::uint16_t number) {
  out.insert(out.end(), {0, 0, static_cast<std::uint8_t>(number >> 8), static_cast<std::uint8_t>(number)});
}

// SPC-4 7.8.5 and 8: the well known unit has no name of its own.
void well_known_page(Device& device, Task& task) {
  const NexusNames& names = task.nexus->names();
  Buffer& out = task.parameter_data;
  out.assign({0x1e, task.cdb[2], 0, 0});
  if (task.cdb[2] == 0x00) {
    out.insert(out.end(), {0x00, 0x83});
  } else {
    designator(out, code_binary, of_port, type_relative_port, 4, names.protocol_identifier);
    put_number(out, names.relative_target_port);
    name_designator(out, of_port, names.target_port, names.protocol_identifier);
    name_designator(out, of_device, device.name(), names.protocol_identifier);
  }
  store_be16(&out[2], static_cast<std::uint16_t>(out.size() - 4));
  reply(task, load_be16(task.cdb.data() + 3));
}

struct Naa {
  std::array<std::uint8_t, 16> bytes{};
  std::size_t size = 8;
};
Naa naa_of(const LogicalUnit& unit) noexcept {
  if (unit.identity().naa6) return {*unit.identity().naa6, 16};
  Naa naa;
  store_be64(naa.bytes.data(), naa_designator(unit));
  return naa;
}

void device_identification(Buffer& out, const Command& command) {
  const NexusNames& names = command.task.nexus->names();
  const std::uint8_t protocol = names.protocol_identifier;
  const Naa naa = naa_of(command.unit);
  designator(out, code_binary, of_unit, type_naa, static_cast<std::uint8_t>(naa.size), protocol);
  out.insert(out.end(), naa.bytes.begin(), naa.bytes.begin() + static_cast<std::ptrdiff_t>(naa.size));

  const std::string_view serial = serial_of(command.unit);
  designator(out, code_ascii, of_unit, type_t10, static_cast<std::uint8_t>(vendor.size() + serial.size()),
             protocol);
  append(out, vendor);
  append(out, serial);

  designator(out, code_binary, of_port, type_relative_port, 4, protocol);
  put_number(out, names.relative_target_port);
  if (const PortGroup* group = command.unit.port_groups().of_port(names.relative_target_port)) {
    designator(out, code_binary, of_port, type_port_group, 4, protocol);
    put_number(out, group->id);
  }
  name_designator(out, of_port, names.target_port, protocol);
  name_designator(out, of_device, command.device.name(), protocol);
}

void extended_inquiry(Buffer& out, const Command& command) {
  out.resize(64);
  if (command.unit.keeps_protection()) out[4] = 0x38 | 0x07;  // SPT: types 1, 2, 3; GRD_CHK, APP_CHK, REF_CHK
  out[5] = 0x07;                                              // HEADSUP, ORDSUP, SIMPSUP
  out[6] = command.unit.may_enable_write_cache() ? 0x01 : 0x00; // V_SUP
  if (command.unit.type() == DeviceType::disk) out[8] = 0x10;  // R_SUP
}

// The port that is asked through: with one target port per target portal group, others are not this nexus's
// to know of.
void scsi_port(Buffer& out, std::uint16_t relative_identifier, std::string_view name, std::uint8_t protocol) {
  const std::size_t at = out.size();
  out.resize(at + 12);  // no initiator port identifiers
  store_be16(&out[at + 2], relative_identifier);
  name_designator(out, of_port, name, protocol);
  store_be16(&out[at + 10], static_cast<std::uint16_t>(out.size() - at - 12));
}

// SPC-4 7.8.13.
void scsi_ports(Buffer& out, const Command& command) {
  const NexusNames& names = command.task.nexus->names();
  const auto& ports = command.device.ports();
  if (ports.empty()) scsi_port(out, names.relative_target_port, names.target_port, names.protocol_identifier);
  for (const TargetPort& port : ports)
    scsi_port(out, port.relative_identifier, port.name, names.protocol_identifier);
}

// One policy for every page and subpage: shared by all target ports and nexuses (SPC-4 7.8.7).
void mode_page_policy(Buffer& out, const Command&) { out.insert(out.end(), {0x3f, 0xff, 0x00, 0x00}); }

void block_limits(Buffer& out, const Command& command) {
  const block::Geometry& geometry = command.unit.geometry();
  const std::uint32_t physical = std::max(geometry.physical_block_size_bytes / geometry.block_size_bytes, 1u);
  const std::uint32_t most = advertised::max_transfer_blocks(command.unit);
  const std::uint32_t best = advertised::optimal_transfer_blocks(command.unit);
  const UnitRules& rules = command.unit.rules();
  out.resize(64);
  store_be16(&out[6], static_cast<std::uint16_t>(std::min(physical, 0xffffu)));
  store_be32(&out[8], most);
  store_be32(&out[12], best >= physical ? best / physical * physical : best);
  if (command.unit.type() != DeviceType::disk) return;
  if (rules.compare_and_write) out[5] = advertised::max_compare_and_write_blocks(command.unit);
  if (command.unit.thin()) {
    const bool unmap = rules.unmap;  // without the command its limits are 0 (SBC-3 6.6.4)
    store_be32(&out[20], unmap ? advertised::max_unmap_blocks(command.unit) : 0);
    store_be32(&out[24], unmap ? advertised::max_unmap_descriptors(command.unit) : 0);
    const std::uint32_t granularity = rules.unmap_granularity_blocks != 0 ? rules.unmap_granularity_blocks
                                                                          : geometry.unmap_granularity_blocks;
    store_be32(&out[28], std::max(granularity, 1u));
    store_be32(&out[32], 0x8000'0000u | rules.unmap_alignment_blocks);  // UGAVALID
  }
  store_be64(&out[36], advertised::max_write_same_blocks(command.unit));
  if (const std::uint32_t atomic = advertised::max_atomic_blocks(command.unit); atomic != 0) {
    store_be32(&out[44], atomic);
    store_be32(&out[48], 1);  // ATOMIC ALIGNMENT
    store_be32(&out[52], 1);  // ATOMIC TRANSFER LENGTH GRANULARITY; no boundaries
  }
}

// SBC-4 6.6.5: no streams; the limits of WRITE SCATTERED.
void block_limits_extension(Buffer& out, const Command& command) {
  const std::uint32_t most = advertised::max_transfer_blocks(command.unit);
  out.resize(32);
  store_be32(&out[16], most);
  store_be16(&out[22], advertised::max_scattered_descriptors);
  store_be32(&out[24], most);
}

void device_characteristics(Buffer& out, const Command& command) {
  out.resize(64);
  store_be16(&out[4], command.unit.rules().rotational.value_or(command.unit.geometry().rotational)
                          ? 0x0000
                          : 0x0001);  // not reported; non-rotating
  out[7] = 0x40;  // WABEREQ 01b: after BLOCK ERASE reads end well
  if (command.unit.geometry().encrypted) out[7] |= 0x10;  // WACEREQ 01b: after CRYPTOGRAPHIC ERASE too
}

void block_provisioning(Buffer& out, const Command& command) {
  const LogicalUnit& unit = command.unit;
  out.resize(8);
  if (!unit.thin()) return;
  if (unit.space() != nullptr) out[4] = threshold_exponent(unit.geometry());
  if (unit.rules().unmap) out[5] |= 0x80;                      // LBPU
  if (unit.rules().unmap_by_write_same) out[5] |= 0x40 | 0x20;  // LBPWS, LBPWS10
  if (unit.unmapped_reads_zeroes()) out[5] |= 0x04;            // LBPRZ
  if (can_anchor(command.unit)) out[5] |= 0x02;  // ANC_SUP
  out[6] = 0x02;                                 // thin
}

// SBC-3 6.6.6: USER DATA SEGMENT SIZE 0: REPORT REFERRALS tells the segments.
void referrals(Buffer& out, const Command&) { out.resize(16); }

void supported_pages(Buffer& out, const Command&);
void unit_serial_number(Buffer& out, const Command& command) { append(out, serial_of(command.unit)); }

struct VpdPage {
  std::uint8_t code;
  void (*build)(Buffer&, const Command&);  // appends to the four bytes of the header
  bool of_disks_alone = false;
  bool of_copies = false;
};
// B0h is a page of disks, and MMC has none; but initiators that read discs (QEMU) look there for the longest
// command.
constexpr VpdPage pages[] = {
    {0x00, supported_pages},
    {0x80, unit_serial_number},
    {0x83, device_identification},
    {0x86, extended_inquiry},
    {0x87, mode_page_policy},
    {0x88, scsi_ports},
    {0x8f, third_party_copy_page, true, true},
    {0xb0, block_limits},
    {0xb1, device_characteristics, true},
    {0xb2, block_provisioning, true},
    {0xb3, referrals, true},
    {0xb7, block_limits_extension, true},
};

bool belongs(const VpdPage& page, const LogicalUnit& unit) noexcept {
  if (page.of_copies && !unit.rules().third_party_copy) return false;
  return !page.of_disks_alone || unit.type() == DeviceType::disk;
}

void supported_pages(Buffer& out, const Command& command) {
  for (const VpdPage& page : pages) {
    if (belongs(page, command.unit)) out.push_back(page.code);
  }
}

}  // namespace

std::uint64_t naa_designator(const LogicalUnit& unit) noexcept {  // NAA 3h: locally assigned
  return 0x3000'0000'0000'0000u | (unit.identity().naa_id & 0x0fff'ffff'ffff'ffffu);
}

void append_own_ports(std::vector<std::uint8_t>& out, const Command& command) {
  const NexusNames& names = command.task.nexus->names();
  designator(out, code_binary, of_port, type_relative_port, 4, names.protocol_identifier);
  put_number(out, names.relative_target_port);
  name_designator(out, of_port, names.target_port, names.protocol_identifier);
  name_designator(out, of_device, command.device.name(), names.protocol_identifier);
}

void append_scsi_ports(std::vector<std::uint8_t>& out, const Command& command) { scsi_ports(out, command); }

bool designates(const LogicalUnit& unit, std::uint8_t code_set, std::uint8_t type, Bytes wanted) noexcept {
  if (unit.forwarder() != nullptr) return false;  // no copy reaches a real device
  if (code_set == code_binary && type == type_naa) {
    const Naa naa = naa_of(unit);
    return std::equal(wanted.begin(), wanted.end(), naa.bytes.begin(),
                      naa.bytes.begin() + static_cast<std::ptrdiff_t>(naa.size));
  }
  if (code_set != code_ascii || type != type_t10) return false;
  const std::string_view text = as_text(wanted);
  return text.starts_with(vendor) && text.substr(vendor.size()) == serial_of(unit);
}

Progress run_inquiry(Command& command) {
  Task& task = command.task;
  const std::uint16_t allocation = load_be16(task.cdb.data() + 3);
  Buffer& out = task.parameter_data;
  if ((task.cdb[1] & 0x01) == 0) {
    if (task.cdb[2] != 0) {
      invalid_field_in_cdb(task, 2, std::uint8_t{7});
      return Progress::over;
    }
    const LogicalUnit& unit = command.unit;
    standard_data(out, static_cast<std::uint8_t>(unit.type()), unit.identity().product,
                  unit.identity().revision, task.nexus->names().protocol_identifier, unit.type());
    if (unit.removable()) out[1] = 0x80;                                                  // RMB
    out[5] = unit.port_groups().by_command() ? 0x30 : 0x10;                               // TPGS
    if (unit.type() == DeviceType::disk && unit.rules().third_party_copy) out[5] |= 0x08;  // 3PC
    if (unit.keeps_protection()) out[5] |= 0x01;                                          // PROTECT
    return reply(task, allocation);
  }
  const auto* page = std::find_if(std::begin(pages), std::end(pages),
                                  [&](const VpdPage& candidate) {
    return candidate.code == task.cdb[2] && belongs(candidate, command.unit);
  });
  if (page == std::end(pages)) {
    invalid_field_in_cdb(task, 2, std::uint8_t{7});
    return Progress::over;
  }
  out.assign(4, 0);
  page->build(out, command);
  out[0] = static_cast<std::uint8_t>(command.unit.type());
  out[1] = page->code;
  store_be16(&out[2], static_cast<std::uint16_t>(out.size() - 4));
  return reply(task, allocation);
}

void answer_without_unit(Device& device, Task& task, bool well_known) {
  switch (task.cdb[0]) {
    case 0x12:  // INQUIRY: no unit here, PERIPHERAL QUALIFIER 3 and type 1Fh (SPC-4 6.6.2); or the W-LUN,
                // type 1Eh
      if ((task.cdb[1] & 0x01) != 0 || task.cdb[2] != 0) {
        const bool vpd = (task.cdb[1] & 0x01) != 0;
        if (well_known && vpd && (task.cdb[2] == 0x00 || task.cdb[2] == 0x83))
          return well_known_page(device, task);
        if (well_known && vpd) return invalid_field_in_cdb(task, 2, std::uint8_t{7});
        return invalid_field_in_cdb(task, vpd ? 1 : 2, vpd ? std::uint8_t{0} : std::uint8_t{7});
      }
      standard_data(task.parameter_data, well_known ? 0x1e : 0x7f, well_known ? "REPORT LUNS" : "", "0001",
                    task.nexus->names().protocol_identifier);
      reply(task, load_be16(task.cdb.data() + 3));
      return;
    case 0xa0: device.report_luns(task); return;
    case 0x03: {  // REQUEST SENSE: the sense is the data
      Sense sense;
      if (!well_known) {
        sense.key = SenseKey::illegal_request;
        sense.additional = asc::logical_unit_not_supported;
      }
      task.parameter_data.resize(32);
      task.parameter_data.resize(encode_sense(sense, (task.cdb[1] & 0x01) != 0, task.parameter_data));
      reply(task, task.cdb[4]);
      return;
    }
    default: good(task); return;
  }
}

}  // namespace perilune::scsi
