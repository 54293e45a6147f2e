// SPDX-License-Identifier: Apache-2.0
#include "target/registry.hpp"

#include <algorithm>

#include "base/limits.hpp"
#include "target/connection.hpp"
#include "target/server.hpp"

namespace perilune::target {
namespace {

void refuse(Connection& connection, iscsi::LoginStatus status) {
  iscsi::SessionDecision decision;
  decision.status = status;
  connection.session_decided(decision, nullptr);
}

}  // namespace

// RFC 7143 6.3.5: the same name and ISID on the same portal group is the same I_T nexus: the old session
// goes, with everything that its commands still do, before the new one begins.
void Registry::decide(Connection& connection, const iscsi::SessionQuery& query) {
  if (stopping_) return refuse(connection, iscsi::LoginStatus::service_unavailable);
  if (query.tsih != 0) return join(connection, query);
  if (records_.size() >= limits::max_sessions)
    return refuse(connection, iscsi::LoginStatus::out_of_resources);
  const auto old = std::find_if(records_.begin(), records_.end(), [&](const auto& entry) {
    const SessionRecord& record = entry.second;
    return record.type == iscsi::SessionType::normal && query.session_type == iscsi::SessionType::normal &&
           record.initiator_name == query.initiator_name && record.isid == query.isid &&
           record.target_name == query.target_name &&
           record.portal_group_tag == query.target_portal_group_tag;
  });
  if (old == records_.end()) return open(connection, query);
  waiting_.push_back({&connection, old->first});
  end(old->first, old->second);
}

// Whether it may join is for the session's shard to say.
void Registry::join(Connection& connection, const iscsi::SessionQuery& query) {
  const auto record = records_.find(query.tsih);
  if (record == records_.end()) return refuse(connection, iscsi::LoginStatus::session_does_not_exist);
  server_.place(connection, record->second.shard, 0);
}

void Registry::open(Connection& connection, const iscsi::SessionQuery& query) {
  const bool normal = query.session_type == iscsi::SessionType::normal;
  SessionRecord record;
  record.type = query.session_type;
  record.initiator_name = query.initiator_name;
  record.target_name = query.target_name;
  record.isid = query.isid;
  record.portal_group_tag = query.target_portal_group_tag;
  record.shard = normal ? least_loaded() : 0;  // a discovery session does no I/O and has come to its end soon
  record.departing = record.shard != 0;
  if (normal) ++sessions_on_[record.shard];
  const std::uint16_t tsih = allocate_tsih();
  const std::uint32_t shard = record.shard;
  records_.emplace(tsih, std::move(record));
  server_.place(connection, shard, tsih);
}

void Registry::end(std::uint16_t tsih, SessionRecord& record) {
  if (record.ending) return;
  record.ending = true;
  if (!record.departing) server_.end_session(record.shard, tsih, "session reinstated");
}

void Registry::departed(std::uint16_t tsih) {
  SessionRecord& record = records_.at(tsih);
  record.departing = false;
  if (record.ending) server_.end_session(record.shard, tsih, "session reinstated");
}

std::optional<std::uint32_t> Registry::shard_of(std::uint16_t tsih) const {
  const auto record = records_.find(tsih);
  if (record == records_.end() || record->second.departing) return std::nullopt;
  return record->second.shard;
}

std::uint32_t Registry::least_loaded() const noexcept {
  return static_cast<std::uint32_t>(std::min_element(sessions_on_.begin(), sessions_on_.end()) -
                                    sessions_on_.begin());
}

std::uint16_t Registry::allocate_tsih() {
  do ++last_tsih_;
  while (last_tsih_ == 0 || records_.contains(last_tsih_));
  return last_tsih_;
}

void Registry::withdraw(const Connection& connection) {
  std::erase_if(waiting_, [&](const Waiting& waiting) { return waiting.connection == &connection; });
}

// Logins that waited for this session to go.
std::vector<Connection*> Registry::take_waiting(std::uint16_t tsih) {
  std::vector<Connection*> ready;
  std::erase_if(waiting_, [&](const Waiting& waiting) {
    if (waiting.for_end_of != tsih) return false;
    ready.push_back(waiting.connection);
    return true;
  });
  return ready;
}

void Registry::session_gone(std::uint16_t tsih) {
  const auto record = records_.find(tsih);
  if (record == records_.end()) return;
  if (record->second.type == iscsi::SessionType::normal) --sessions_on_[record->second.shard];
  records_.erase(record);
  // Of several only one can go on at a time: each asks anew.
  for (Connection* connection : take_waiting(tsih)) {
    if (!connection->closing()) decide(*connection, connection->login().session_query());
  }
}

}  // namespace perilune::target
