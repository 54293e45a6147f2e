// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "base/event_log.hpp"
#include "runtime/loop.hpp"
#include "runtime/record_writer.hpp"
#include "scsi/unit_change.hpp"

namespace perilune::target {

// The record of one logical unit, for the device of one loop. One thread (the loop's).
class UnitRecord final : public scsi::UnitStore {
 public:
  // Reads what there is into `state`; a record that is not there yet is an empty one. Fails, naming the
  // record, where it cannot be read, is damaged, or was written by another version: the unit must not come up
  // without what it promised.
  [[nodiscard]] static Result<std::unique_ptr<UnitRecord>> open(runtime::RecordWriter& records,
                                                                runtime::Loop& loop, std::string name,
                                                                EventLog& log, scsi::DurableState& state);
  // The same in two steps: what there is (it blocks; any thread, while nobody writes the record), and the
  // record of a unit that knows.
  [[nodiscard]] static Status read(runtime::RecordWriter& records, const std::string& name,
                                   scsi::DurableState& state);
  [[nodiscard]] static std::unique_ptr<UnitRecord> known(runtime::RecordWriter& records, runtime::Loop& loop,
                                                         std::string name, EventLog& log);

  void save(std::vector<std::uint8_t> record, std::function<void(bool)> done) override;

 private:
  UnitRecord(runtime::RecordWriter& records, runtime::Loop& loop, std::string name, EventLog& log)
      : records_(records), loop_(loop), name_(std::move(name)), log_(log) {}

  runtime::RecordWriter& records_;
  runtime::Loop& loop_;
  std::string name_;
  EventLog& log_;
};

}  // namespace perilune::target
