// SPDX-License-Identifier: Apache-2.0
// The states of one storage object's ALUA groups that initiators have set by SET TARGET PORT GROUPS. The
// command ends when a record has them, which waits for nobody but the disk; the configuration follows by a
// transaction of the control thread, and then the record is empty again. What a record still has when the
// daemon starts is made in the configuration then.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "runtime/record_writer.hpp"
#include "scsi/port_groups.hpp"

namespace perilune::control::serving {

class AccessStates {
 public:
  using States = std::map<std::uint16_t, scsi::AccessState>;  // by the number of the group

  // What the configuration does not have yet, and who set the last of it.
  struct Kept {
    States states;
    std::string initiator;
    std::uint64_t number = 0;  // of the command that set the last
  };

  // `heard`: kept() is another; called on the thread of a loop. The records outlive this.
  AccessStates(runtime::RecordWriter& records, std::string record, std::function<void()> heard)
      : records_(records), record_(std::move(record)), heard_(std::move(heard)) {}

  // The thread of `loop`, which calls `done` from a later turn: true when they are durable. `states` lives as
  // long as that takes.
  static void keep(const std::shared_ptr<AccessStates>& states, runtime::Loop& loop,
                   const std::vector<scsi::PortGroup>& groups, const std::string& initiator,
                   std::function<void(bool)> done);

  // Any thread. Durable, and not yet taken up.
  [[nodiscard]] Kept kept() const;
  // The thread of `loop`: the configuration has what kept() was, of this number. Where more has been set
  // since, nothing happens.
  void taken_up(runtime::Loop& loop, std::uint64_t number);

  // What a record has; none: nothing. Blocks. io: it is damaged, or of a later format.
  [[nodiscard]] static Result<States> read(runtime::RecordWriter& records, const std::string& record);

 private:
  void saved(const States& groups, const std::string& initiator, std::uint64_t number, bool durable);
  [[nodiscard]] static std::vector<std::uint8_t> encode(const States& states);

  runtime::RecordWriter& records_;
  const std::string record_;
  const std::function<void()> heard_;
  mutable std::mutex mutex_;  // of what follows; and puts are made in the order of their numbers
  States written_;            // what the record has, or will have soon
  Kept kept_;
  std::uint64_t last_ = 0;
};

}  // namespace perilune::control::serving
