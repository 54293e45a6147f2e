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
  const std::lock_guard lock(states->mutex_);
  const std::uint64_t number = ++states->last_;
  SetStates wanted;
  for (const scsi::PortGroup& group : groups) wanted[group.id] = {group.state, number};
  for (const auto& [id, set] : wanted) states->written_[id] = set;
  states->records_.put(
      loop, states->record_, encode(states->written_),
      [states, wanted = std::move(wanted), initiator, done = std::move(done)](const Status& status) {
        states->saved(wanted, initiator, status.has_value());
        done(status.has_value());
      });
}

void AccessStates::saved(const SetStates& groups, const std::string& initiator, bool durable) {
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [id, set] : groups) {
      const auto last = kept_.find(id);
      const auto written = written_.find(id);
      if (durable) {
        if (last == kept_.end() || last->second.number < set.number) kept_[id] = set;
      } else if (written != written_.end() && written->second.number == set.number) {
        // The record is the old or the new one; the next has again what is known to count.
        if (last == kept_.end() || last->second.taken_up)
          written_.erase(written);
        else
          written->second = last->second;
      }
    }
    if (!durable) return;
    initiator_ = initiator;
  }
  heard_();
}

AccessStates::Kept AccessStates::kept() const {
  const std::lock_guard lock(mutex_);
  Kept kept{{}, {}, initiator_};
  for (const auto& [id, set] : kept_) {
    if (set.taken_up) continue;
    kept.states[id] = set.state;
    kept.numbers[id] = set.number;
  }
  return kept;
}

void AccessStates::taken_up(runtime::Loop& loop, const Kept& kept, std::function<void(Status)> done) {
  const std::lock_guard lock(mutex_);
  for (const auto& [id, number] : kept.numbers) {
    if (Set& last = kept_.at(id); last.number == number) last.taken_up = true;
    const auto written = written_.find(id);
    if (written != written_.end() && written->second.number == number) written_.erase(written);
  }
  records_.put(loop, record_, encode(written_), std::move(done));
}

std::vector<std::uint8_t> AccessStates::encode(const SetStates& states) {
  if (states.empty()) return {};
  Json groups = Json::object();
  for (const auto& [id, set] : states) groups[std::to_string(id)] = static_cast<unsigned>(set.state);
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
