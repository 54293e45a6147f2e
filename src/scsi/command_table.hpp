// SPDX-License-Identifier: Apache-2.0
// SCSI is data (DESIGN 1.8): one constexpr row per operation code and service action. Dispatch, INVALID FIELD
// IN CDB with its pointer, what is allowed in which state, serialization and REPORT SUPPORTED OPERATION CODES
// all come from here. Sources: SPC-4 clause 6, SBC-3 clause 5.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "base/bytes.hpp"
#include "base/limits.hpp"
#include "scsi/device_type.hpp"
#include "scsi/reservations.hpp"

namespace perilune::scsi {

class Device;
class LogicalUnit;
struct Task;

// How commands of the same unit that are in progress at once stand to each other.
enum class SerialClass : std::uint8_t {
  none,       // touches no data: waits for nobody
  read,
  write,
  range,      // several operations over one range: not beside another write to a block of it
  exclusive,  // atomic over its range: not beside anything that touches a block of it
  whole,      // not beside any command that touches data
};

// Flags of a row: in which states of the unit the command is served.
namespace allow {
inline constexpr std::uint32_t unit_attention = 0x0001;  // served although a unit attention is pending, and
                                                         // leaves it
inline constexpr std::uint32_t stopped = 0x0002;    // after START STOP UNIT with START = 0, and without a
                                                    // medium
inline constexpr std::uint32_t read_only = 0x0004;  // does not change the medium
inline constexpr std::uint32_t no_unit = 0x0008;    // answered at a LUN where no unit is, and at the W-LUN
inline constexpr std::uint32_t write_exclusive = 0x0010;   // under another's Write Exclusive reservation
                                                           // (SPC-4 table 66)
inline constexpr std::uint32_t exclusive_access = 0x0020;  // under another's Exclusive Access reservation
inline constexpr std::uint32_t reserved = 0x40000;         // after another's RESERVE (SPC-2 table 10)
inline constexpr std::uint32_t standby = 0x0040;           // in target port group state standby
inline constexpr std::uint32_t unavailable = 0x0080;       // in unavailable, offline and transitioning
}  // namespace allow

// Needs of a row.
namespace needs {
inline constexpr std::uint32_t thin = 0x0100;             // exists only on a thinly provisioned unit
inline constexpr std::uint32_t explicit_access = 0x0200;  // only where initiators may set access states
inline constexpr std::uint32_t clock = 0x0800;            // exists only on a device that was given one
inline constexpr std::uint32_t tokens = 0x8000;           // only on a device that has a key for them
inline constexpr std::uint32_t atomic = 0x0400;        // exists only on a channel that does not tear writes
inline constexpr std::uint32_t removable = 0x10000;    // exists only where the medium can be taken out
inline constexpr std::uint32_t store = 0x20000;        // exists only on a unit that can keep what it is told
inline constexpr std::uint32_t encryption = 0x100000;  // exists only where what is stored is encrypted
inline constexpr std::uint32_t type_2 = 0x80000;       // exists only on a medium formatted with protection
                                                       // information of type 2
}

// What the log pages count of a row.
namespace counts {
inline constexpr std::uint32_t read = 0x1000;
inline constexpr std::uint32_t write = 0x2000;
inline constexpr std::uint32_t verify = 0x4000;
}  // namespace counts

struct Command {
  Device& device;
  LogicalUnit& unit;
  Task& task;
};

enum class Progress : std::uint8_t {
  over,    // status and sense are set
  submit,  // task.op is prepared: submit it, and call again when it has ended
  waits,   // a copy waits for an operation that it submitted itself, or for a claim: called again after it
};

// CDB usage data: the bits that are evaluated; byte 0 is the operation code.
using Usage = std::array<std::uint8_t, limits::max_cdb_bytes>;

struct CommandRow {
  std::uint8_t opcode = 0;
  bool has_service_action = false;
  std::uint16_t service_action = 0;
  std::uint8_t cdb_length = 0;
  Usage usage{};
  SerialClass serial = SerialClass::none;
  std::uint32_t flags = 0;
  std::uint16_t timeout_s = 0;  // RECOMMENDED COMMAND TIMEOUT

  // Checks fields and range, sets task.need, lba and blocks, or fails: then returns false. nullptr: nothing
  // to check and no data to move; when nothing is in its way, the command runs inside admit().
  bool (*admit)(Command&) = nullptr;
  // Once all data-out is there, before serialization: for ranges that stand in the parameter list. As admit.
  bool (*prepare)(Command&) = nullptr;
  // Called first with task.step == 0, and again after each operation.
  Progress (*run)(Command&) = nullptr;

  [[nodiscard]] constexpr bool allows(std::uint32_t flag) const noexcept { return (flags & flag) != 0; }
};

// ---- rows of tables: the opcode, and where there is one the service action, are those of the usage data

// A command that touches no data of the medium.
constexpr CommandRow control(std::uint8_t cdb_length, Usage usage, std::uint32_t flags,
                             Progress (*run)(Command&)) {
  return {.opcode = usage[0],
          .cdb_length = cdb_length,
          .usage = usage,
          .flags = flags,
          .timeout_s = 10,
          .run = run};
}
constexpr CommandRow service(std::uint8_t cdb_length, Usage usage, std::uint32_t flags,
                             Progress (*run)(Command&)) {
  CommandRow row = control(cdb_length, usage, flags, run);
  row.has_service_action = true;
  row.service_action = usage[1] & 0x1f;
  return row;
}

[[nodiscard]] std::span<const CommandRow> command_rows(CommandSet set) noexcept;

// Of a CDB of 32 bytes in bytes 8 and 9, else in byte 1, where the command has one.
[[nodiscard]] inline std::uint16_t service_action_of(
    std::span<const std::uint8_t, limits::max_cdb_bytes> cdb) noexcept {
  return cdb[0] == 0x7f ? load_be16(cdb.data() + 8) : cdb[1] & 0x1f;
}

// The row for this CDB on any unit with these commands; nullptr: none. opcode_known tells whether other
// service actions are served.
[[nodiscard]] const CommandRow* find_row(CommandSet set, std::uint8_t opcode, std::uint16_t service_action,
                                         bool& opcode_known) noexcept;

// Whether this unit serves the row.
[[nodiscard]] bool available(const CommandRow& row, const LogicalUnit& unit) noexcept;
// The bits that this unit evaluates in byte `index`.
[[nodiscard]] std::uint8_t usage_of(const CommandRow& row, const LogicalUnit& unit,
                                    std::size_t index) noexcept;
// Whether a nexus with this access under the reservations of others may send the command.
[[nodiscard]] bool permits(ReservationAccess access, const CommandRow& row, const Task& task) noexcept;
// False when a bit is set that this unit does not evaluate; then the command has ended with the pointer to
// it.
[[nodiscard]] bool check_cdb(const CommandRow& row, const LogicalUnit& unit, Task& task) noexcept;

}  // namespace perilune::scsi
