// SPDX-License-Identifier: Apache-2.0
// Which commands go to a real device, and under what conditions. Of a command that is not named here nothing
// is known: it goes there, but not while another initiator holds a reservation, and not to a unit that is
// served read-only. Sources: SPC-4 table 66 and clause 6, SBC-3 table 13 and clause 5, SSC-3 clause 5, SMC-3
// clause 6, MMC-6 clause 6.
#include "scsi/forwarding.hpp"
#include "scsi/handlers.hpp"

namespace perilune::scsi {
namespace {

using enum SerialClass;

constexpr CommandRow row(std::uint32_t flags, SerialClass serial = write,
                         bool (*admit)(Command&) = admit_forwarded,
                         Progress (*run)(Command&) = run_forwarded) {
  CommandRow result{.cdb_length = limits::max_cdb_bytes,
                    .serial = serial,
                    .flags = flags,
                    .timeout_s = 60,
                    .admit = admit,
                    .run = run};
  result.usage.fill(0xff);  // every bit is the device's to judge
  return result;
}

constexpr std::uint32_t always = allow::read_only | allow::write_exclusive | allow::exclusive_access |
                                 allow::reserved | allow::unit_attention | allow::stopped | allow::standby |
                                 allow::unavailable;

// Changing, and of unknown effect.
constexpr CommandRow any_row = row(0);
// Those that change how the device behaves, not what it stores.
constexpr CommandRow setting_row = row(allow::read_only);
constexpr CommandRow reading_row = row(allow::read_only | allow::write_exclusive);
constexpr CommandRow telling_row = row(allow::read_only | allow::write_exclusive | allow::exclusive_access);
constexpr CommandRow log_row =
    row(allow::read_only | allow::write_exclusive | allow::exclusive_access | allow::reserved);
constexpr CommandRow restricted_row = row(0, write, admit_restricted);
constexpr CommandRow inquiry_row = row(always, none, admit_forwarded_inquiry, run_forwarded_inquiry);
constexpr CommandRow opcodes_row =
    row(allow::read_only | allow::write_exclusive, write, admit_forwarded_opcodes, run_forwarded_opcodes);
constexpr CommandRow request_sense_row =
    row(always, none, admit_forwarded_request_sense, run_forwarded_request_sense);

// MAINTENANCE IN and OUT: what is about ports and tasks is not the device's to say here.
const CommandRow* maintenance(std::uint8_t opcode, std::uint16_t service_action) noexcept {
  if (opcode == 0xa3) {
    switch (service_action) {
      case 0x0a:  // REPORT TARGET PORT GROUPS
      case 0x0b:  // REPORT ALIASES
      case 0x0d:
        return nullptr;  // REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS
      case 0x0c:
        return &opcodes_row;  // REPORT SUPPORTED OPERATION CODES
      default:
        return &telling_row;
    }
  }
  // SET IDENTIFYING INFORMATION, SET TIMESTAMP
  return service_action == 0x06 || service_action == 0x0f ? &any_row : nullptr;
}

// What is the same for every type of device. False in `decided`: it is not.
const CommandRow* common(std::uint8_t opcode, bool& decided) noexcept {
  decided = true;
  switch (opcode) {
    case 0x00:
      return &telling_row;
    case 0x03:
      return &request_sense_row;
    case 0x12:
      return &inquiry_row;
    case 0x1a:  // MODE SENSE
    case 0x5a:
      return &telling_row;
    case 0x4d:
      return &log_row;  // LOG SENSE
    case 0x15:          // MODE SELECT
    case 0x55:
    case 0x4c:  // LOG SELECT
    case 0x1b:  // START STOP UNIT, LOAD UNLOAD
    case 0x1c:  // RECEIVE DIAGNOSTIC RESULTS
    case 0x1d:  // SEND DIAGNOSTIC
    case 0x1e:  // PREVENT ALLOW MEDIUM REMOVAL
    case 0x3c:
      return &setting_row;  // READ BUFFER
    case 0x3b:              // WRITE BUFFER: microcode
    case 0x40:              // CHANGE DEFINITION
    case 0xa2:              // SECURITY PROTOCOL IN, OUT
    case 0xb5:
      return &restricted_row;
    case 0x5e:  // PERSISTENT RESERVE IN, OUT: service actions that are not served here
    case 0x5f:
    case 0x18:  // COPY
    case 0x39:  // COMPARE
    case 0x3a:  // COPY AND VERIFY
    case 0x83:  // third-party copies
    case 0x84:
    case 0x86:  // ACCESS CONTROL IN, OUT
    case 0x87:
      return nullptr;
    default:
      break;
  }
  if (opcode >= 0xc0) return &restricted_row;           // the vendor's own
  if (opcode >= 0x60 && opcode < 0x7f) return nullptr;  // of no length that is known
  decided = false;
  return nullptr;
}

const CommandRow* of_disks(std::uint8_t opcode, std::uint16_t service_action) noexcept {
  switch (opcode) {
    case 0x25:
      return &telling_row;  // READ CAPACITY (10)
    case 0x9e:
      return service_action == 0x10 ? &telling_row : service_action == 0x12 ? &reading_row : &any_row;
    case 0x08:  // READ
    case 0x28:
    case 0x88:
    case 0xa8:
    case 0x2f:  // VERIFY
    case 0x8f:
    case 0xaf:
    case 0x34:  // PRE-FETCH
    case 0x90:
    case 0x37:  // READ DEFECT DATA
    case 0xb7:
    case 0x95:
      return &reading_row;  // REPORT ZONES
    case 0x7f:
      return service_action == 0x09 || service_action == 0x0a || service_action == 0x12 ? &reading_row
                                                                                        : &any_row;
    case 0x01:  // REZERO UNIT
    case 0x0b:  // SEEK
    case 0x2b:
    case 0x35:  // SYNCHRONIZE CACHE
    case 0x91:
      return &setting_row;
    case 0x04:  // FORMAT UNIT
    case 0x48:  // SANITIZE
    case 0x85:  // ATA PASS-THROUGH, which can be any of these
    case 0xa1:
    case 0x02:  // vendors' own
    case 0x05:
    case 0x06:
    case 0x09:
    case 0x0c:
    case 0x0d:
    case 0x0e:
    case 0x0f:
    case 0x13:
    case 0x14:
    case 0x19:
      return &restricted_row;
    default:
      return &any_row;
  }
}

const CommandRow* of_discs(std::uint8_t opcode) noexcept {
  switch (opcode) {
    case 0x25:  // READ CAPACITY
    case 0x43:  // READ TOC/PMA/ATIP
    case 0x46:  // GET CONFIGURATION
    case 0x51:  // READ DISC INFORMATION
    case 0x52:  // READ TRACK INFORMATION
    case 0xad:  // READ DISC STRUCTURE
    case 0xbd:  // MECHANISM STATUS
    case 0x23:
      return &telling_row;  // READ FORMAT CAPACITIES
    case 0x28:              // READ
    case 0xa8:
    case 0x2f:  // VERIFY
    case 0xb9:  // READ CD MSF
    case 0xbe:
      return &reading_row;  // READ CD
    case 0x2b:              // SEEK
    case 0x35:              // SYNCHRONIZE CACHE
    case 0x4a:              // GET EVENT STATUS NOTIFICATION
    case 0x45:              // PLAY AUDIO
    case 0x47:
    case 0x4b:  // PAUSE/RESUME
    case 0xa3:  // SEND KEY
    case 0xa4:  // REPORT KEY
    case 0xac:  // GET PERFORMANCE
    case 0xb6:  // SET STREAMING
    case 0xbb:
      return &setting_row;  // SET CD SPEED
    default:
      return &any_row;
  }
}

// Tapes, changers, enclosures and whatever else there is. A tape that is read moves: not under another's
// reservation.
const CommandRow* of_others(std::uint8_t opcode) noexcept {
  switch (opcode) {
    case 0x01:  // REWIND
    case 0x05:  // READ BLOCK LIMITS
    case 0x08:  // READ
    case 0x0f:  // READ REVERSE
    case 0x11:  // SPACE
    case 0x13:  // VERIFY
    case 0x2b:  // LOCATE
    case 0x34:  // READ POSITION
    case 0x44:  // REPORT DENSITY SUPPORT
    case 0x8c:  // READ ATTRIBUTE
    case 0x88:  // READ (16)
    case 0x92:  // LOCATE (16)
    case 0xb8:
      return &setting_row;  // READ ELEMENT STATUS
    default:
      return &any_row;
  }
}

}  // namespace

CommandSet forwarded_command_set(std::uint8_t peripheral_device_type) noexcept {
  switch (peripheral_device_type) {
    case 0x00:  // direct access
    case 0x07:  // optical memory
    case 0x0e:  // simplified direct access
    case 0x14:
      return CommandSet::forwarded_disk;  // host managed zones
    case 0x05:
      return CommandSet::forwarded_cd_dvd;
    default:
      return CommandSet::forwarded_other;
  }
}

const CommandRow* find_forwarded_disk_row(std::uint8_t opcode, std::uint16_t service_action,
                                          bool& opcode_known) noexcept {
  opcode_known = opcode == 0xa3 || opcode == 0xa4;
  if (opcode_known) return maintenance(opcode, service_action);
  bool decided = false;
  const CommandRow* found = common(opcode, decided);
  return decided ? found : of_disks(opcode, service_action);
}

const CommandRow* find_forwarded_cd_dvd_row(std::uint8_t opcode, std::uint16_t, bool& opcode_known) noexcept {
  opcode_known = false;
  bool decided = false;
  const CommandRow* found = common(opcode, decided);
  return decided ? found : of_discs(opcode);
}

const CommandRow* find_forwarded_other_row(std::uint8_t opcode, std::uint16_t service_action,
                                           bool& opcode_known) noexcept {
  opcode_known = opcode == 0xa3 || opcode == 0xa4;
  if (opcode_known) return maintenance(opcode, service_action);
  bool decided = false;
  const CommandRow* found = common(opcode, decided);
  return decided ? found : of_others(opcode);
}

}  // namespace perilune::scsi
