// SPDX-License-Identifier: Apache-2.0
// The commands of a logical unit that is a real device (passthrough.hpp): which of them go to it, and what is
// made of its answers. For src/scsi alone. One thread (the shard's).
//
// Such a unit is one more logical unit of the Device: its task set, its reservations, its unit attentions and
// its task management are those of every unit. Only the commands are the device's own, but for these:
//   answered here     REPORT LUNS, PERSISTENT RESERVE IN and OUT, RESERVE and RELEASE. The device sees one
//   nexus, this host: a
//                     reservation that it kept would let every initiator act as its holder.
//   changed           INQUIRY: ports and port groups are ours, no third-party copy, no longer transfers than
//   fit through here. never forwarded   third-party copies (they would reach units that this initiator may
//   not see), port groups, access controls. restricted        what can ruin the device or take it away for
//   hours: PassthroughFacts::unrestricted.
#pragma once

#include <cstdint>
#include <deque>
#include <list>
#include <optional>
#include <vector>

#include "base/bytes.hpp"
#include "scsi/command_table.hpp"
#include "scsi/passthrough.hpp"
#include "scsi/unit_attention.hpp"

namespace perilune::scsi {

struct TaskManagement;

// Bytes of the CDB by its operation code (SPC-4 4.2.5.1); 0 when that does not tell, or fewer came.
[[nodiscard]] std::uint8_t forwarded_cdb_length(const Task& task) noexcept;

[[nodiscard]] CommandSet forwarded_command_set(std::uint8_t peripheral_device_type) noexcept;

// The rows of commands that are forwarded, one function for each set; as find_row().
[[nodiscard]] const CommandRow* find_forwarded_disk_row(std::uint8_t opcode, std::uint16_t service_action,
                                                        bool& opcode_known) noexcept;
[[nodiscard]] const CommandRow* find_forwarded_cd_dvd_row(std::uint8_t opcode, std::uint16_t service_action,
                                                          bool& opcode_known) noexcept;
[[nodiscard]] const CommandRow* find_forwarded_other_row(std::uint8_t opcode, std::uint16_t service_action,
                                                         bool& opcode_known) noexcept;

// Handlers.
bool admit_forwarded(Command&);
bool admit_restricted(Command&);
Progress run_forwarded(Command&);
bool admit_forwarded_inquiry(Command&);
Progress run_forwarded_inquiry(Command&);
bool admit_forwarded_request_sense(Command&);
Progress run_forwarded_request_sense(Command&);
bool admit_forwarded_opcodes(Command&);
Progress run_forwarded_opcodes(Command&);

// The commands of one unit that are with its device. Their memory is kept for the next ones.
class Forwarder {
 public:
  // What to make of an answer of the device to a command that it served (delivery answered, status GOOD).
  using Answer = void (*)(Command&, const PassthroughCommand&);

  // `port`: outlives the unit.
  explicit Forwarder(PassthroughPort& port) : port_(port) {}
  ~Forwarder();  // precondition: nothing outstanding

  [[nodiscard]] const PassthroughFacts& facts() const noexcept { return port_.facts(); }
  // Sends the task's CDB with task.data. The task ends when the device has answered.
  void forward(Command& command, Answer answer = nullptr);
  // The device is reset too; the request of this device does not end before (SAM-5 7.7).
  void reset(Device& device, TaskManagement& request);
  [[nodiscard]] bool resetting() const noexcept { return !resets_.empty(); }
  // Sends a CDB of ours in the place of the task's, which reads into task.scratch.
  void read_instead(Command& command, Bytes cdb, Answer answer);

 private:
  struct Slot {
    PassthroughCommand command;
    Task* task = nullptr;
    Forwarder* owner = nullptr;
    Answer answer = nullptr;
  };

  struct Reset {
    PassthroughReset reset;
    Device* device = nullptr;
    TaskManagement* request = nullptr;
    Forwarder* owner = nullptr;
  };

  [[nodiscard]] Slot& take(Task& task, Answer answer);
  void submit(Slot& slot);
  static void ended(void* context, PassthroughCommand& command);
  static void reset_ended(void* context, PassthroughReset& reset);

  PassthroughPort& port_;
  std::deque<Slot> slots_;
  std::vector<Slot*> free_;
  std::list<Reset> resets_;
};

// What others have to learn of the answer that one nexus got: a unit attention of the device, which it
// reports to us once, or a change that a command of this nexus has made.
[[nodiscard]] std::optional<UnitAttention> attention_of_sense(Bytes sense) noexcept;
[[nodiscard]] std::optional<UnitAttention> attention_after(const PassthroughCommand& command) noexcept;

// Standard INQUIRY data as initiators get it: no port groups, no third-party copy (SPC-4 6.6.2).
void adjust_inquiry_data(MutableBytes data) noexcept;
// VPD pages, of which `page` is what came from the device, header and all: true lengths, whatever the header
// claims.
void adjust_supported_pages(std::vector<std::uint8_t>& page);
void adjust_block_limits(std::vector<std::uint8_t>& page, const PassthroughFacts& facts) noexcept;
// The designators of the logical unit stay; those of target ports and target device are ours, in `own`.
[[nodiscard]] std::vector<std::uint8_t> merge_device_identification(Bytes page, Bytes own);

// REPORT SUPPORTED OPERATION CODES, all of them: `from` is the device's list, of true length whatever its
// header claims.
[[nodiscard]] std::vector<std::uint8_t> merge_supported_operation_codes(Bytes from, const LogicalUnit& unit,
                                                                        bool timeouts);

}  // namespace perilune::scsi
