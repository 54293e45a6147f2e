// SPDX-License-Identifier: Apache-2.0
// The states of one storage object's ALUA groups that initiators have set by SET TARGET PORT GROUPS. The
// command ends when a record has them, which waits for nobody but the disk; the configuration follows by a
// transaction of the control thread, and then the record loses it again, before anything later comes into the
// configuration: what a record still has when the daemon starts is newer than all that the configuration has,
// and is made in it then.
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
    std::map<std::uint16_t, std::uint64_t> numbers;  // of the command that set each
    std::string initiator;
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
  // The thread of `loop`: the configuration has what kept() was. `done` is called from a later turn, when the
  // record does not have it any more; what has been set since stays in it.
  void taken_up(runtime::Loop& loop, const Kept& kept, std::function<void(Status)> done);

  // What a record has; none: nothing. Blocks. io: it is damaged, or of a later format.
  [[nodiscard]] static Result<States> read(runtime::RecordWriter& records, const std::string& record);

 private:
  struct Set {
    scsi::AccessState state;
    std::uint64_t number;  // of the command
    bool taken_up = false;
  };
  using SetStates = std::map<std::uint16_t, Set>;

  void saved(const SetStates& groups, const std::string& initiator, bool durable);
  [[nodiscard]] static std::vector<std::uint8_t> encode(const SetStates& states);

  runtime::RecordWriter& records_;
  const std::string record_;
  const std::function<void()> heard_;
  mutable std::mutex mutex_;  // of what follows; and puts are made in the order of their numbers
  SetStates written_;         // what the record has, or will have soon
  SetStates kept_;            // the last that was durable; loops may tell of their puts in another order
  std::string initiator_;     // of the last command that was
  std::uint64_t last_ = 0;
};

}  // namespace perilune::control::serving
