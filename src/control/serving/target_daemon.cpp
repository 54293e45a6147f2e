// SPDX-License-Identifier: Apache-2.0
#include "control/serving/target_daemon.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <ctime>

#include "config/target/codec.hpp"
#include "config/target/json_text.hpp"
#include "config/target/saveconfig.hpp"
#include "control/serving/files_of_host.hpp"
#include "control/targetd/protocol.hpp"
#include "control/targetd/requests.hpp"

namespace perilune::control::serving {

using namespace config::target;
using targetd::SessionInfo;

namespace {

constexpr std::size_t max_jobs = 1024;
constexpr std::size_t max_subscribers = 32;

// How often a backing that could not be opened is tried again.
constexpr std::chrono::seconds first_look{1};
constexpr std::chrono::seconds longest_look{30};

std::int64_t now_ms() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
}

std::chrono::local_seconds local_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::localtime_r(&now, &parts);
  return std::chrono::local_seconds(std::chrono::seconds(now + parts.tm_gmtoff));
}

std::map<std::string, std::string, std::less<>> parameters_of(const target::SessionView& view) {
  const auto yes_no = [](bool value) { return std::string(value ? "Yes" : "No"); };
  const iscsi::SessionParams& session = view.params;
  std::map<std::string, std::string, std::less<>> all{
      {"DataPDUInOrder", yes_no(session.data_pdu_in_order)},
      {"DataSequenceInOrder", yes_no(session.data_sequence_in_order)},
      {"DefaultTime2Retain", std::to_string(session.default_time2retain)},
      {"DefaultTime2Wait", std::to_string(session.default_time2wait)},
      {"ErrorRecoveryLevel", std::to_string(session.error_recovery_level)},
      {"FirstBurstLength", std::to_string(session.first_burst_length)},
      {"ImmediateData", yes_no(session.immediate_data)},
      {"InitialR2T", yes_no(session.initial_r2t)},
      {"MaxBurstLength", std::to_string(session.max_burst_length)},
      {"MaxConnections", std::to_string(session.max_connections)},
      {"MaxOutstandingR2T", std::to_string(session.max_outstanding_r2t)},
      {"iSCSIProtocolLevel", std::to_string(session.protocol_level)},
  };
  if (view.connections.empty()) return all;
  const iscsi::ConnectionParams& connection = view.connections.front().params;
  const auto digest = [](bool used) { return std::string(used ? "CRC32C" : "None"); };
  all["HeaderDigest"] = digest(connection.header_digest);
  all["DataDigest"] = digest(connection.data_digest);
  all["MaxRecvDataSegmentLength"] = std::to_string(connection.max_recv_data_segment_length);
  all["MaxXmitDataSegmentLength"] = std::to_string(connection.max_xmit_data_segment_length);
  return all;
}

SessionInfo info_of(const PortalGroupKey& group, const target::SessionView& view) {
  SessionInfo info;
  info.group = group;
  info.initiator = view.initiator_name;
  info.alias = view.initiator_alias;
  for (const std::uint8_t byte : view.isid) info.isid += fmt::format("{:02x}", byte);
  info.tsih = view.tsih;
  info.chap_user = view.user;
  info.parameters = parameters_of(view);
  info.state = view.connections.empty() ? "FAILED" : "LOGGED_IN";
  for (const target::ConnectionView& connection : view.connections) {
    info.connections.push_back({connection.cid, connection.peer.address_string(), connection.peer.port,
                                connection.logging_out ? "IN_LOGOUT" : "LOGGED_IN"});
  }
  return info;
}

}  // namespace

TargetDaemon::TargetDaemon(TargetDaemonOptions options, target::Server& server, runtime::Loop& loop,
                           EventLog& log, EventTap& tap)
    : options_(std::move(options)),
      log_(log),
      tap_(tap),
      serving_(server, loop, log, options_.access, options_.credentials_folder) {
  tap_.on_session([this](const std::string& event, const std::string& fields) {
    post([this, event, fields] { tell(targetd::session_event(event, fields)); });
  });
  serving_.on_access_states(
      [this](const StorageKey& key) { post([this, key] { (void)take_up_access_states(key); }); });
}

TargetDaemon::~TargetDaemon() = default;

// ---- the control thread

Status TargetDaemon::run(const std::function<void()>& ready) {
  if (Status status = load(); !status) return status;
  // Requests wait in the queue, which is there before the socket and goes after it.
  auto server =
      ControlServer::start(options_.socket_path, [this](Request request, std::shared_ptr<Exchange> exchange) {
        post([this, request = std::move(request), exchange] {
          if (request.op == "subscribe")
            subscribe(exchange);
          else
            answer(request, *exchange);
        });
      });
  if (!server) return tl::unexpected(server.error());
  ready();
  work();
  subscribers_.clear();
  return {};
}

void TargetDaemon::post(std::function<void()> job) {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_ || jobs_.size() >= max_jobs) return;  // an Exchange that is let go of answers by itself
    jobs_.push_back(std::move(job));
  }
  wake_.notify_one();
}

void TargetDaemon::work() {
  for (;;) {
    std::function<void()> job;
    {
      std::unique_lock lock(mutex_);
      const auto due = [this] { return stopping_ || !jobs_.empty(); };
      if (next_look_ == std::chrono::steady_clock::time_point::max()) {
        wake_.wait(lock, due);
      } else if (!wake_.wait_until(lock, next_look_, due)) {
        lock.unlock();
        look_for_missing();
        continue;
      }
      if (stopping_) {
        jobs_.clear();
        return;
      }
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
    watch_for_missing();
  }
}

// A job may have left something missing, or put it in order.
void TargetDaemon::watch_for_missing() {
  const bool waits = next_look_ != std::chrono::steady_clock::time_point::max();
  if (waits == serving_.misses_something()) return;
  look_interval_ = first_look;
  next_look_ = waits ? std::chrono::steady_clock::time_point::max()
                     : std::chrono::steady_clock::now() + look_interval_;
}

void TargetDaemon::look_for_missing() {
  for (const std::string& path : serving_.look_for_missing(configuration())) {
    log_.event(EventLog::Level::info, "served_again", fmt::format("object={}", path));
    tell({{"event", "served_again"}, {"object", path}});
  }
  look_interval_ = std::min(2 * look_interval_, longest_look);
  next_look_ = serving_.misses_something() ? std::chrono::steady_clock::now() + look_interval_
                                           : std::chrono::steady_clock::time_point::max();
}

void TargetDaemon::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
}

void TargetDaemon::reload(std::function<void()> done) {
  post([this, done = std::move(done)] {
    look_again();
    if (done) done();
  });
}

Status TargetDaemon::load() {
  auto folder = targetd::LockedFolder::open(options_.state_folder);
  if (!folder) return tl::unexpected(folder.error());
  folder_ = std::move(*folder);
  auto store = targetd::StateStore::open(*folder_);
  if (!store)
    return fail(store.error().code, options_.state_folder + ": " + store.error().message,
                store.error().os_errno);
  store_.emplace(std::move(*store));
  if (store_->torn_bytes() != 0) {
    log_.event(EventLog::Level::warning, "journal_torn",
               fmt::format("bytes={} kept in journal.torn", store_->torn_bytes()));
  }
  // What initiators had set before the daemon ended, and its journal does not have.
  const auto left = serving_.left_access_states(configuration());
  if (!left.changes.empty()) {
    const auto made = store_->commit({now_ms(), "SET TARGET PORT GROUPS", left.changes},
                                     [](const Changes&) { return Status(); });
    if (!made) return tl::unexpected(made.error());
  }
  if (Status status = serving_.empty_records(left.records); !status) return status;
  if (Status status = serving_.prepare(configuration(), diff({}, configuration()), {}, true); !status)
    return status;
  serving_.finish(configuration());
  log_.event(EventLog::Level::info, "loaded",
             fmt::format("sequence={} objects={}", sequence(), configuration().objects()));
  watch_for_missing();
  return {};
}

// ---- changes

Status TargetDaemon::take_up_access_states(const StorageKey& key) {
  const AccessStates::Kept kept = serving_.access_states_of(key);
  if (kept.states.empty()) return {};  // taken up with others
  const auto made = commit_now(kept.initiator + ": SET TARGET PORT GROUPS",
                               changes_for_access_states(configuration(), key, kept.states));
  const Status status = made ? serving_.access_states_taken_up(key, kept) : tl::unexpected(made.error());
  if (!status) {
    log_.event(EventLog::Level::error, "access_states_not_in_journal",
               fmt::format("object={} reason=\"{}\"", path_of(key), status.error().message));
  }
  return status;
}

// What initiators have set before comes before it in the journal too, and is in no record any more that would
// come after it at the next start.
Result<std::uint64_t> TargetDaemon::commit(const std::string& who, const Changes& changes) {
  std::set<StorageKey> objects;
  for (const Change& each : changes) {
    if (const auto* const group = std::get_if<ChangeOf<AluaGroup>>(&each)) objects.insert(group->key.parent);
    if (const auto* const object = std::get_if<ChangeOf<StorageObject>>(&each)) objects.insert(object->key);
  }
  for (const StorageKey& key : objects) {
    if (Status status = take_up_access_states(key); !status) return tl::unexpected(status.error());
  }
  return commit_now(who, changes);
}

Result<std::uint64_t> TargetDaemon::commit_now(const std::string& who, const Changes& changes) {
  if (changes.empty()) return sequence();
  targetd::Transaction transaction{now_ms(), who, changes};
  bool prepared = false;
  auto inverses = store_->commit(transaction, [&](const Changes& back) {
    Status status = serving_.prepare(configuration(), changes, back);
    prepared = status.has_value();
    return status;
  });
  if (!inverses) {
    if (prepared) serving_.undo();
    serving_.republish(configuration());
    return tl::unexpected(inverses.error());
  }
  serving_.finish(configuration());
  history_.push_back(
      {sequence(), transaction.time_ms, who, std::move(transaction.changes), std::move(*inverses)});
  if (history_.size() > targetd::max_history) history_.pop_front();
  log_.event(EventLog::Level::info, "transaction",
             fmt::format("sequence={} changes={} who=\"{}\"", sequence(), changes.size(), who));
  tell(targetd::transaction_event(history_.back()));
  if (store_->wants_compaction()) {
    if (Status status = store_->compact(); !status) {
      log_.event(EventLog::Level::warning, "not_compacted",
                 fmt::format("reason=\"{}\"", status.error().message));
    }
  }
  return sequence();
}

Status TargetDaemon::check(const Changes& changes) {
  // Made and undone in memory: nobody else looks at it meanwhile.
  return store_->check(changes);
}

// ---- questions

Result<std::vector<SessionInfo>> TargetDaemon::sessions() const {
  std::vector<SessionInfo> infos;
  for (const auto& [group, view] : serving_.sessions()) infos.push_back(info_of(group, view));
  return infos;
}

Result<std::vector<SessionInfo>> TargetDaemon::sessions_of(const PortalGroupKey& group) const {
  if (Status status = known(group); !status) return tl::unexpected(status.error());
  auto infos = sessions();
  std::erase_if(*infos, [&](const SessionInfo& info) { return info.group != group; });
  return infos;
}

Status TargetDaemon::known(const PortalGroupKey& group) const {
  if (configuration().find<PortalGroup>(group) != nullptr) return {};
  return fail(Errc::not_found, "there is no " + path_of(group));
}

Result<targetd::IoCounters> TargetDaemon::io_counters(const LunKey& key) const {
  const Lun* const lun = configuration().find<Lun>(key);
  if (lun == nullptr) return fail(Errc::not_found, "there is no " + path_of(key));
  const auto counted = serving_.io_counters(key.parent.parent, lun->object);
  if (!counted) return tl::unexpected(counted.error());
  return targetd::IoCounters{counted->reads, counted->read_bytes, counted->writes, counted->write_bytes,
                             counted->errors};
}

Result<std::uint64_t> TargetDaemon::size_of(const StorageKey& key) const {
  const StorageObject* const object = configuration().find<StorageObject>(key);
  if (object == nullptr) return fail(Errc::not_found, "there is no " + path_of(key));
  const std::uint64_t served = serving_.size_of(key);
  return served != 0 ? served : object->size_bytes;
}

void TargetDaemon::look_again() {
  serving_.read_secrets_again(configuration());
  if (serving_.misses_something()) look_for_missing();
  for (const auto& [key, object] : configuration().all<StorageObject>()) {
    if (!serving_.healthy(key)) continue;
    if (Status status = serving_.resize(configuration(), key); !status) {
      log_.event(EventLog::Level::error, "resize_refused",
                 fmt::format("reason=\"{}\"", status.error().message));
    }
  }
}

// ---- files

targetd::FileProbe TargetDaemon::probe(const std::string& path) const {
  targetd::FileProbe probe = probe_file(path, options_.access);
  if (const auto object = configuration().by_dev(path)) probe.used_by = "in use by " + path_of(*object);
  return probe;
}

Status TargetDaemon::create_file(const std::string& path, std::uint64_t size_bytes, bool sparse) {
  return create_disk_file(path, size_bytes, sparse, options_.access);
}

Status TargetDaemon::remove_file(const std::string& path) {
  if (const auto object = configuration().by_dev(path))
    return fail(Errc::busy, path + " is in use by " + path_of(*object));
  return remove_disk_file(path, options_.access);
}

Result<targetd::Saved> TargetDaemon::save(const targetd::SaveOptions& options) {
  targetd::Saved saved;
  saved.path = options.path.empty() ? default_save_path() : options.path;
  if (saved.path != default_save_path()) {
    if (Status status = write_text_file(saved.path, write_saveconfig(configuration())); !status)
      return tl::unexpected(status.error());
    return saved;
  }
  auto folder = targetd::LockedFolder::open(options_.config_folder);
  if (!folder) return tl::unexpected(folder.error());
  const std::string backup_folder = options_.config_folder + "/backup";
  auto backups = targetd::LockedFolder::open(backup_folder);
  if (!backups) return tl::unexpected(backups.error());
  targetd::ExportOptions how;
  how.overwrite_with_nothing = options.overwrite_with_nothing;
  how.max_backups = options.max_backups;
  const auto exported = targetd::export_saveconfig(**folder, **backups, configuration(), local_now(), how);
  if (!exported) return tl::unexpected(exported.error());
  saved.backed_up = exported->backed_up;
  if (saved.backed_up) saved.backup_path = backup_folder + "/" + exported->backup;
  return saved;
}

bool TargetDaemon::is_saved() const {
  const auto text = read_text_file(default_save_path(), max_json_bytes);
  return text && *text == write_saveconfig(configuration());
}

Result<std::string> TargetDaemon::read_file(const std::string& path, std::size_t max_bytes) const {
  return read_text_file(path, max_bytes, options_.access);
}

std::vector<std::string> TargetDaemon::host_addresses() const { return addresses_of_host(); }

// ---- who may come, for the time being

Status TargetDaemon::pause(const PortalGroupKey& group) {
  if (Status status = known(group); !status) return status;
  serving_.set_admits(configuration(), group, false);
  return {};
}

Status TargetDaemon::drain(const PortalGroupKey& group, std::uint32_t seconds) {
  if (Status status = pause(group); !status) return status;
  serving_.request_logouts(group, seconds);
  return {};
}

Status TargetDaemon::resume(const PortalGroupKey& group) {
  if (Status status = known(group); !status) return status;
  serving_.set_admits(configuration(), group, true);
  return {};
}

// ---- the socket

void TargetDaemon::answer(const Request& request, Exchange& exchange) {
  const std::string who = fmt::format("{} (pid {})", name_of_user(request.uid), request.pid);
  auto result = targetd::carry_out(request, who, *this, options_.front_ends);
  if (result)
    exchange.finish(*result);
  else
    exchange.fail(targetd::error_number(result.error().code), result.error().message);
}

void TargetDaemon::subscribe(std::shared_ptr<Exchange> exchange) {
  subscribers_.remove_if([](const auto& each) { return each->gone(); });
  if (subscribers_.size() >= max_subscribers) {
    return exchange->fail(targetd::error_number(Errc::limit),
                          fmt::format("{} subscribers are listening already", max_subscribers));
  }
  exchange->progress({{"event", "subscribed"}, {"sequence", sequence()}});
  subscribers_.push_back(std::move(exchange));
}

void TargetDaemon::tell(const Json& event) {
  subscribers_.remove_if([](const auto& each) { return each->gone(); });
  for (const auto& each : subscribers_) each->progress(event);
}

}  // namespace perilune::control::serving
