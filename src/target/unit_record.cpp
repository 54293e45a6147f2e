// SPDX-License-Identifier: Apache-2.0
#include "target/unit_record.hpp"

#include <fmt/format.h>

#include <utility>

namespace perilune::target {

Result<std::unique_ptr<UnitRecord>> UnitRecord::open(runtime::RecordWriter& records, runtime::Loop& loop,
                                                     std::string name, EventLog& log,
                                                     scsi::DurableState& state) {
  std::unique_ptr<UnitRecord> self(new UnitRecord(records, loop, std::move(name), log));
  const auto bytes = records.get(self->name_);
  if (!bytes && bytes.error().code == Errc::not_found) return self;
  if (!bytes) return tl::unexpected(bytes.error());
  auto decoded = scsi::decode_durable_state(*bytes);
  if (!decoded) {
    return fail(
        Errc::io,
        fmt::format("the record {} of reservations and saved pages is not usable: {}. Put back a good one, "
                    "or remove it to start without",
                    self->name_, decoded.error().message));
  }
  state = std::move(*decoded);
  return self;
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
