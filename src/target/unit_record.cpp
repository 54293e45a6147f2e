// SPDX-License-Identifier: Apache-2.0
#include "target/unit_record.hpp"

#include <fmt/format.h>

#include <utility>

namespace perilune::target {

Result<std::unique_ptr<UnitRecord>> UnitRecord::open(runtime::RecordWriter& records, runtime::Loop& loop,
                                                     std::string name, EventLog& log,
                                                     scsi::DurableState& state) {
  if (Status status = read(records, name, state); !status) return tl::unexpected(status.error());
  return known(records, loop, std::move(name), log);
}

std::unique_ptr<UnitRecord> UnitRecord::known(runtime::RecordWriter& records, runtime::Loop& loop,
                                              std::string name, EventLog& log) {
  return std::unique_ptr<UnitRecord>(new UnitRecord(records, loop, std::move(name), log));
}

Status UnitRecord::read(runtime::RecordWriter& records, const std::string& name, scsi::DurableState& state) {
  const auto bytes = records.get(name);
  if (!bytes && bytes.error().code == Errc::not_found) return {};
  if (!bytes) return tl::unexpected(bytes.error());
  auto decoded = scsi::decode_durable_state(*bytes);
  if (!decoded) {
    return fail(
        Errc::io,
        fmt::format("the record {} of reservations and saved pages is not usable: {}. Put back a good one, "
                    "or remove it to start without",
                    name, decoded.error().message));
  }
  state = std::move(*decoded);
  return {};
}

void UnitRecord::save(std::vector<std::uint8_t> record, std::function<void(bool)> done) {
  records_.put(loop_, name_, std::move(record), [this, done = std::move(done)](const Status& status) {
    if (!status) {
      log_.event(EventLog::Level::error, "record_not_saved",
                 fmt::format("record={} {}", name_, status.error().message));
    }
    done(status.has_value());
  });
}

}  // namespace perilune::target
