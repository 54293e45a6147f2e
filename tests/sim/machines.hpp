// SPDX-License-Identifier: Apache-2.0
// A target and an initiator as machines of the simulated world: they start, crash and start again.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/event_log.hpp"
#include "block/backends/file_channel.hpp"
#include "block/backstore.hpp"
#include "initiator/logical_unit.hpp"
#include "initiator/session.hpp"
#include "runtime/sim/scenario.hpp"
#include "runtime/sim/sim_host.hpp"
#include "target/server.hpp"

namespace perilune::sim {

inline constexpr const char* target_name = "iqn.2026-11.io.perilune:simulated";
inline constexpr const char* chap_user = "someone";
inline constexpr const char* chap_secret = "a secret of the simulation";

// What a machine logs: into the trace, and to whoever listens.
class SimLog final : public EventLog {
 public:
  SimLog(World& world, std::string who, const ScenarioOptions& options)
      : world_(world), who_(std::move(who)), narrate_(options.narrate) {}
  void event(Level level, std::string_view name, std::string_view fields) override;
  void say(const std::string& text);

 private:
  World& world_;
  std::string who_;
  std::function<void(Instant, const std::string&)> narrate_;
};

// A simulated disk as a backstore: the file channel of production over a SimBlockFile.
class SimBackstore final : public block::Backstore {
 public:
  // With `protection_bytes` its blocks have room for protection information, and it is not opened O_DIRECT.
  [[nodiscard]] static Result<std::shared_ptr<block::Backstore>> open(runtime::Loop& loop,
                                                                      const std::string& path,
                                                                      std::uint32_t protection_bytes = 0);
  [[nodiscard]] const block::Geometry& geometry() const override { return geometry_; }
  [[nodiscard]] const std::string& identity() const override { return path_; }
  [[nodiscard]] std::string describe() const override { return "simulated disk " + path_; }
  [[nodiscard]] Result<std::unique_ptr<block::Channel>> open_channel(runtime::Loop& loop) override;

 private:
  [[nodiscard]] static runtime::OpenOptions how(std::uint32_t protection_bytes) {
    return {.read_only = false, .prefer_direct = protection_bytes == 0};
  }
  std::string path_;
  block::Geometry geometry_;
  std::shared_ptr<block::FlushHealth> health_ = std::make_shared<block::FlushHealth>();
};

class TargetMachine {
 public:
  using Configure = std::function<void(target::ServerConfig&)>;

  TargetMachine(World& world, SimHost& host, const ScenarioOptions& options, Configure configure,
                std::uint32_t shards = 1);
  ~TargetMachine();
  // The disk is formatted so, from the next start on.
  void protect(scsi::ProtectionType type) noexcept { protection_type_ = type; }
  void start();
  void crash(Crash kind);
  void stop();  // orderly; stopped() tells when it is over
  // Every session has ended and all payload memory is back where it belongs.
  [[nodiscard]] bool pool_is_whole() const;
  [[nodiscard]] std::uint32_t free_pages() const;  // of the shard that has the fewest
  [[nodiscard]] bool running() const noexcept { return server_ != nullptr; }
  [[nodiscard]] bool stopped() const noexcept { return stopped_; }
  [[nodiscard]] SimHost& host() noexcept { return host_; }
  [[nodiscard]] target::Server& server() noexcept { return *server_; }
  [[nodiscard]] const std::string& problem() const noexcept { return problem_; }
  // A server cannot be destroyed with commands in its hands: a crashed one is stopped as a ghost.
  [[nodiscard]] bool ghosts_at_rest();

 private:
  struct Ghost {
    std::unique_ptr<target::Server> server;
    std::vector<SimLoop*> loops;
    bool stopped = false;
  };
  World& world_;
  SimHost& host_;
  SimLog log_;
  Configure configure_;
  std::uint32_t shards_;
  scsi::ProtectionType protection_type_ = scsi::ProtectionType::none;
  std::vector<SimLoop*> loops_;  // one per shard
  std::unique_ptr<target::Server> server_;
  std::vector<std::unique_ptr<Ghost>> ghosts_;
  bool stopped_ = false;
  std::string problem_;
};

// One process of an initiator: a session, its scan, its unit.
class InitiatorProcess final : public initiator::SessionObserver {
 public:
  InitiatorProcess(SimLoop& loop, SimLog& log, const initiator::SessionConfig& config);
  [[nodiscard]] SimLoop& loop() noexcept { return loop_; }
  [[nodiscard]] initiator::Session& session() noexcept { return session_; }
  [[nodiscard]] block::Channel* unit() noexcept { return unit_.get(); }
  [[nodiscard]] bool logged_out() const noexcept { return logged_out_; }
  [[nodiscard]] bool failed() const noexcept { return failed_; }
  // Nothing of the session is left to come.
  [[nodiscard]] bool ended() const noexcept { return logged_out_ || failed_; }
  [[nodiscard]] const std::string& problem() const noexcept { return problem_; }

 private:
  void on_logged_in() override;
  void on_state(initiator::SessionState from, initiator::SessionState to) override;
  void on_failed(const initiator::LoginFailure& failure) override;
  void on_logged_out() override { logged_out_ = true; }
  void on_units_changed() override {}
  void scanned(Result<std::vector<initiator::UnitInfo>> units);

  SimLoop& loop_;
  SimLog& log_;
  initiator::Session session_;
  std::unique_ptr<initiator::Scan> scan_;
  std::unique_ptr<initiator::LogicalUnit> unit_;
  bool logged_out_ = false;
  bool failed_ = false;
  std::string problem_;
};

class InitiatorMachine {
 public:
  InitiatorMachine(World& world, SimHost& host, const ScenarioOptions& options,
                   initiator::SessionConfig config);
  ~InitiatorMachine();
  void start();
  void crash();
  void logout();
  void drop_connection();
  [[nodiscard]] initiator::Session* session() noexcept { return process_ ? &process_->session() : nullptr; }
  [[nodiscard]] SimLoop* loop() noexcept { return process_ ? &process_->loop() : nullptr; }
  [[nodiscard]] block::Channel* unit() noexcept { return process_ ? process_->unit() : nullptr; }
  [[nodiscard]] bool logged_out() const noexcept { return process_ && process_->logged_out(); }
  // The first login has failed.
  [[nodiscard]] bool failed() const noexcept { return process_ && process_->failed(); }
  [[nodiscard]] const std::string& problem() const noexcept { return process_ ? process_->problem() : none_; }
  [[nodiscard]] bool ghosts_at_rest();

 private:
  World& world_;
  SimHost& host_;
  SimLog log_;
  initiator::SessionConfig config_;
  std::unique_ptr<InitiatorProcess> process_;
  std::vector<std::unique_ptr<InitiatorProcess>> ghosts_;
  std::string none_;
};

// The configuration of a target with one unit on /disk, and of an initiator for it. What may vary is drawn
// from `prng`.
struct Pairing {
  bool chap = false;
  bool header_digest = false;
  bool data_digest = false;
  bool initial_r2t = false;
  bool immediate_data = true;
  std::uint32_t first_burst_length = 65536;
  std::uint32_t max_burst_length = 262144;
  std::uint32_t initiator_segment_length = 262144;
  std::uint32_t target_segment_length = 262144;
  std::uint32_t max_outstanding_r2t = 1;
  std::uint32_t command_window = 128;
  std::uint32_t commands_max = 128;
  std::uint32_t spare_buffer_pages = 0;  // beyond the smallest legal pool
  std::uint8_t recovery_level = 0;
  std::uint16_t connections = 1;
  std::uint16_t time2wait = 2, time2retain = 0;

  [[nodiscard]] static Pairing draw(Prng& prng);
  [[nodiscard]] std::string describe() const;
  void apply(target::ServerConfig& config) const;
  [[nodiscard]] initiator::SessionConfig session() const;
};

}  // namespace perilune::sim
