// SPDX-License-Identifier: Apache-2.0
#include "control/serving/access_states.hpp"

#include <charconv>
#include <utility>

#include "config/target/json_text.hpp"
#include "control/targetd/journal_format.hpp"

namespace perilune::control::serving {
namespace {

using config::target::Json;

constexpr int format = 1;

Error unusable(const std::string& record, const std::string& why) {
  return {Errc::io,
          "the record " + record + " of the states of ALUA groups is not usable: " + why +
              ". Put back a good one, or remove it to start without",
          0};
}

bool is_state(unsigned value) { return value <= 3 || value == 0xe || value == 0xf; }

}  // namespace

void AccessStates::keep(const std::shared_ptr<AccessStates>& states, runtime::Loop& loop,
                        const std::vector<scsi::PortGroup>& groups, const std::string& initiator,
                        std::function<void(bool)> done) {
  States wanted;
  for (const scsi::PortGroup& group : groups) wanted[group.id] = group.state;
  const std::lock_guard lock(states->mutex_);
  const std::uint64_t number = ++states->last_;
  for (const auto& [id, state] : wanted) states->written_[id] = state;
  states->records_.put(
      loop, states->record_, encode(states->written_),
      [states, wanted = std::move(wanted), initiator, number, done = std::move(done)](const Status& status) {
        states->saved(wanted, initiator, number, status.has_value());
        done(status.has_value());
      });
}

void AccessStates::saved(const States& groups, const std::string& initiator, std::uint64_t number,
                         bool durable) {
  {
    const std::lock_guard lock(mutex_);
    if (!durable) {
      // The record is the old or the new one; the next has again what is known to count.
      if (number == last_) written_ = kept_.states;
      return;
    }
    for (const auto& [id, state] : groups) kept_.states[id] = state;
    kept_.initiator = initiator;
    kept_.number = number;
  }
  heard_();
}

AccessStates::Kept AccessStates::kept() const {
  const std::lock_guard lock(mutex_);
  return kept_;
}

void AccessStates::taken_up(runtime::Loop& loop, std::uint64_t number) {
  const std::lock_guard lock(mutex_);
  if (number != last_) return;
  written_.clear();
  kept_.states.clear();
  records_.put(loop, record_, {},
               [](const Status&) {});  // where that fails, a start finds what the journal has too
}

std::vector<std::uint8_t> AccessStates::encode(const States& states) {
  Json groups = Json::object();
  for (const auto& [id, state] : states) groups[std::to_string(id)] = static_cast<unsigned>(state);
  const std::string line =
      targetd::record_line({{"format", format}, {"alua_access_states", std::move(groups)}});
  return {line.begin(), line.end()};
}

Result<AccessStates::States> AccessStates::read(runtime::RecordWriter& records, const std::string& record) {
  const auto bytes = records.get(record);
  if (!bytes && bytes.error().code == Errc::not_found) return States{};
  if (!bytes) return tl::unexpected(bytes.error());
  if (bytes->empty()) return States{};
  const auto text = targetd::checked_text(as_text(*bytes).substr(0, bytes->size() - 1));
  if (!text || bytes->back() != '\n') return tl::unexpected(unusable(record, "its checksum is wrong"));
  const auto json = config::target::parse_json(*text);
  if (!json || !json->is_object() || json->value("format", 0) != format ||
      !json->contains("alua_access_states") || !(*json)["alua_access_states"].is_object()) {
    return tl::unexpected(unusable(record, "it is of another format"));
  }
  States states;
  for (const auto& [name, state] : (*json)["alua_access_states"].items()) {
    std::uint16_t id = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), id);
    const bool number = error == std::errc{} && end == name.data() + name.size();
    if (!number || !state.is_number_unsigned() || !is_state(state.get<unsigned>()))
      return tl::unexpected(unusable(record, "it makes no sense"));
    states[id] = static_cast<scsi::AccessState>(state.get<unsigned>());
  }
  return states;
}

}  // namespace perilune::control::serving
