// SPDX-License-Identifier: Apache-2.0
#include "sim/machines.hpp"

#include <algorithm>

namespace perilune::sim {

using namespace std::chrono_literals;
using runtime::Endpoint;

void SimLog::event(Level, std::string_view name, std::string_view fields) {
  say(std::string(name) + " " + std::string(fields));
}

void SimLog::say(const std::string& text) {
  world_.note(Event::user, hash_bytes(as_bytes(who_)) ^ hash_bytes(as_bytes(text)));
  if (narrate_) narrate_(world_.now(), who_ + ": " + text);
}

Result<std::shared_ptr<block::Backstore>> SimBackstore::open(runtime::Loop& loop, const std::string& path,
                                                             std::uint32_t protection_bytes) {
  auto file = loop.open_file(path, how(protection_bytes));
  if (!file) return tl::unexpected(file.error());
  auto store = std::make_shared<SimBackstore>();
  store->path_ = path;
  store->geometry_ = block::file_geometry((*file)->properties(), 512 + protection_bytes);
  store->geometry_.protection_bytes = protection_bytes;
  return std::shared_ptr<block::Backstore>(std::move(store));
}

Result<std::unique_ptr<block::Channel>> SimBackstore::open_channel(runtime::Loop& loop) {
  auto file = loop.open_file(path_, how(geometry_.protection_bytes));
  if (!file) return tl::unexpected(file.error());
  return block::make_file_channel(std::move(*file), geometry_, health_);
}

TargetMachine::TargetMachine(World& world, SimHost& host, const ScenarioOptions& options, Configure configure,
                             std::uint32_t shards)
    : world_(world),
      host_(host),
      log_(world, host.name(), options),
      configure_(std::move(configure)),
      shards_(shards) {}

TargetMachine::~TargetMachine() {
  crash(Crash::process);
  const bool at_rest = world_.run_until([this] { return ghosts_at_rest(); }, 3600s);
  PERILUNE_ASSERT(at_rest);
}

bool TargetMachine::ghosts_at_rest() {
  std::erase_if(ghosts_, [](const std::unique_ptr<Ghost>& ghost) {
    if (!ghost->stopped) return false;
    ghost->server.reset();
    for (SimLoop* loop : ghost->loops) loop->die();
    return true;
  });
  return ghosts_.empty();
}

void TargetMachine::start() {
  loops_.clear();
  for (std::uint32_t i = 0; i < shards_; ++i) loops_.push_back(&host_.add_loop());
  target::ServerConfig config;
  config.portals = {*Endpoint::parse("10.0.0.1:3260", 0)};
  target::TargetSpec spec;
  spec.name = target_name;
  const bool protects = protection_type_ != scsi::ProtectionType::none;
  auto store = SimBackstore::open(*loops_.front(), "/disk", protects ? scsi::protection_field_bytes : 0);
  if (!store) {
    problem_ = store.error().message;
    return;
  }
  target::UnitSpec unit;
  unit.config.identity = scsi::UnitIdentity::from_id(42);
  unit.config.protection_type = protection_type_;
  unit.backstore = std::move(*store);
  spec.units.push_back(std::move(unit));
  config.targets.push_back(std::move(spec));
  configure_(config);
  const std::vector<runtime::Loop*> loops(loops_.begin(), loops_.end());
  auto server = target::Server::create(loops, std::move(config), log_);
  if (!server) {
    problem_ = "the target does not start: " + server.error().message;
    return;
  }
  server_ = std::move(*server);
  if (const auto started = server_->start(); !started) {
    problem_ = "the target does not bind: " + started.error().message;
  }
  log_.say("started");
}

void TargetMachine::crash(Crash kind) {
  (void)ghosts_at_rest();
  host_.crash(kind, Aftermath::wind_down);
  if (server_ && stopped_) {
    server_.reset();
    for (SimLoop* loop : loops_) loop->die();
  } else if (server_) {
    ghosts_.push_back(std::make_unique<Ghost>());
    Ghost& ghost = *ghosts_.back();
    ghost.server = std::move(server_);
    ghost.loops = loops_;
    loops_.front()->post([&ghost] { ghost.server->stop([&ghost](Status) { ghost.stopped = true; }); });
  }
  log_.say(kind == Crash::power ? "lost power" : "was killed");
}

bool TargetMachine::pool_is_whole() const {
  bool whole = server_->session_count() == 0;
  for (std::uint32_t i = 0; i < server_->shard_count(); ++i) {
    const BufferPool& pool = *server_->shard(i).pool;
    whole = whole && pool.free_pages() == pool.total_pages() && pool.reserved_pages() == 0;
  }
  return whole;
}

std::uint32_t TargetMachine::free_pages() const {
  std::uint32_t least = server_->shard().pool->free_pages();
  for (std::uint32_t i = 1; i < server_->shard_count(); ++i)
    least = std::min(least, server_->shard(i).pool->free_pages());
  return least;
}

void TargetMachine::stop() {
  loops_.front()->post([this] {
    server_->stop([this](Status status) {
      stopped_ = true;
      if (!status) problem_ = "the target stopped with: " + status.error().message;
    });
  });
}

InitiatorProcess::InitiatorProcess(SimLoop& loop, SimLog& log, const initiator::SessionConfig& config)
    : loop_(loop), log_(log), session_(loop, config.clone(), *this) {
  session_.start();
}

void InitiatorProcess::on_logged_in() {
  scan_ = std::make_unique<initiator::Scan>(session_, [this](auto units) { scanned(std::move(units)); });
  scan_->start();
}

void InitiatorProcess::scanned(Result<std::vector<initiator::UnitInfo>> units) {
  if (!units) {
    problem_ = "the scan failed: " + units.error().message;
  } else if (units->size() != 1 || !units->front().ready) {
    problem_ = "the scan found " + std::to_string(units->size()) + " units, or one that is not ready";
  } else {
    unit_ = std::make_unique<initiator::LogicalUnit>(session_, std::move(units->front()), 128);
    log_.say("unit ready");
  }
}

void InitiatorProcess::on_state(initiator::SessionState from, initiator::SessionState to) {
  static constexpr const char* names[] = {"free",         "logging_in",  "logged_in",
                                          "reconnecting", "logging_out", "failed"};
  log_.say(std::string(names[static_cast<int>(from)]) + " -> " + names[static_cast<int>(to)]);
}

void InitiatorProcess::on_failed(const initiator::LoginFailure& failure) {
  failed_ = true;
  problem_ = "the session failed: " + failure.error.message + " (status " +
             std::to_string(failure.status_class) + "/" + std::to_string(failure.status_detail) + ")";
}

InitiatorMachine::InitiatorMachine(World& world, SimHost& host, const ScenarioOptions& options,
                                   initiator::SessionConfig config)
    : world_(world), host_(host), log_(world, host.name(), options), config_(std::move(config)) {}

InitiatorMachine::~InitiatorMachine() {
  if (process_) crash();
  const bool at_rest = world_.run_until([this] { return ghosts_at_rest(); }, 3600s);
  PERILUNE_ASSERT(at_rest);
}

bool InitiatorMachine::ghosts_at_rest() {
  std::erase_if(ghosts_, [](std::unique_ptr<InitiatorProcess>& ghost) {
    if (!ghost->ended()) return false;
    SimLoop& loop = ghost->loop();
    ghost.reset();
    loop.die();
    return true;
  });
  return ghosts_.empty();
}

void InitiatorMachine::start() {
  process_ = std::make_unique<InitiatorProcess>(host_.add_loop(), log_, config_);
}

void InitiatorMachine::crash() {
  (void)ghosts_at_rest();
  log_.say("is killed");
  host_.crash(Crash::process, Aftermath::wind_down);
  if (!process_->ended()) process_->loop().post([process = process_.get()] { process->session().logout(); });
  ghosts_.push_back(std::move(process_));
}

void InitiatorMachine::logout() {
  process_->loop().post([process = process_.get()] { process->session().logout(); });
}

void InitiatorMachine::drop_connection() {
  process_->loop().post([process = process_.get()] { process->session().drop_connection(); });
}

Pairing Pairing::draw(Prng& prng) {
  static constexpr std::uint32_t lengths[] = {512, 1024, 4096, 8192, 65536, 262144};
  const auto pick = [&] { return lengths[prng.below(std::size(lengths))]; };
  Pairing p;
  p.chap = prng.chance(1, 4);
  p.header_digest = prng.chance(1, 4);
  p.data_digest = prng.chance(1, 4);
  p.initial_r2t = prng.chance(1, 3);
  p.immediate_data = !prng.chance(1, 3);
  p.first_burst_length = pick();
  p.max_burst_length = std::max(p.first_burst_length, pick());
  p.initiator_segment_length = pick();
  p.target_segment_length = pick();
  p.max_outstanding_r2t = static_cast<std::uint32_t>(prng.between(1, 8));
  p.command_window = static_cast<std::uint32_t>(prng.between(2, 64));
  p.commands_max = static_cast<std::uint32_t>(prng.between(1, 128));
  p.spare_buffer_pages = prng.coin() ? 0 : static_cast<std::uint32_t>(prng.below(512));
  return p;
}

std::string Pairing::describe() const {
  return "pairing chap=" + std::to_string(chap) + " digests=" + std::to_string(header_digest) +
         std::to_string(data_digest) + " initial_r2t=" + std::to_string(initial_r2t) +
         " immediate=" + std::to_string(immediate_data) +
         " first_burst=" + std::to_string(first_burst_length) +
         " max_burst=" + std::to_string(max_burst_length) +
         " segments=" + std::to_string(initiator_segment_length) + "/" +
         std::to_string(target_segment_length) + " r2t=" + std::to_string(max_outstanding_r2t) +
         " window=" + std::to_string(command_window) + " commands=" + std::to_string(commands_max) +
         " spare_pages=" + std::to_string(spare_buffer_pages) + " level=" + std::to_string(recovery_level) +
         " connections=" + std::to_string(connections) + " time2wait=" + std::to_string(time2wait) +
         " time2retain=" + std::to_string(time2retain);
}

void Pairing::apply(target::ServerConfig& config) const {
  config.params.first_burst_length = first_burst_length;
  config.params.max_burst_length = max_burst_length;
  config.params.max_recv_data_segment_length = target_segment_length;
  config.params.initial_r2t = initial_r2t;
  config.params.immediate_data = immediate_data;
  config.params.max_outstanding_r2t = static_cast<std::uint16_t>(max_outstanding_r2t);
  config.params.error_recovery_level = recovery_level;
  config.params.max_connections = connections;
  config.params.default_time2wait = time2wait;
  config.params.default_time2retain = time2retain;
  config.command_window = command_window;
  config.buffer_pages = target::smallest_buffer_pool_pages(config) + spare_buffer_pages;
  config.promised_commands = 0;  // bursts as long as they can be, in little memory
  if (chap) {
    auto& auth = config.targets.front().auth;
    auth.accounts.push_back({chap_user, crypto::Secret(std::string_view(chap_secret))});
  }
}

initiator::SessionConfig Pairing::session() const {
  initiator::SessionConfig config;
  config.initiator_name = "iqn.2026-11.io.perilune:initiator";
  config.target_name = target_name;
  config.portal = *Endpoint::parse("10.0.0.1:3260", 0);
  config.isid = initiator::stable_isid(config.initiator_name, "default", target_name);
  config.initial_r2t = initial_r2t;
  config.immediate_data = immediate_data;
  config.first_burst_length = first_burst_length;
  config.max_burst_length = max_burst_length;
  config.max_recv_data_segment_length = initiator_segment_length;
  config.max_outstanding_r2t = max_outstanding_r2t;
  config.commands_max = commands_max;
  config.error_recovery_level = recovery_level;
  config.max_connections = connections;
  config.default_time2wait = time2wait;
  config.default_time2retain = time2retain;
  using initiator::DigestPreference;
  config.header_digest = header_digest ? DigestPreference::crc32c : DigestPreference::none;
  config.data_digest = data_digest ? DigestPreference::crc32c : DigestPreference::none;
  // Held for ever: what the world breaks, it also mends.
  config.replacement_timeout = -1s;
  config.command_timeout = 3600s;
  if (chap) {
    initiator::ChapCredentials credentials;
    credentials.user = chap_user;
    credentials.secret = crypto::Secret(std::string_view(chap_secret));
    config.chap = std::move(credentials);
  }
  return config;
}

}  // namespace perilune::sim
