// SPDX-License-Identifier: Apache-2.0
// The target daemon: the configuration and its journal, the server that serves it, and the socket by which
// both are administered (docs/control-protocol.md). It lives on the control thread, which calls run();
// whatever else calls it, is said where.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>

#include "control/server.hpp"
#include "control/serving/event_tap.hpp"
#include "control/serving/serving.hpp"
#include "control/targetd/administration.hpp"
#include "control/targetd/state_store.hpp"

namespace perilune::control::serving {

struct TargetDaemonOptions {
  std::string config_folder;  // of saveconfig.json and its backups
  std::string state_folder;   // of the snapshot and the journal
  std::string socket_path;
  std::string version;
  targetd::FrontEnds front_ends;
  std::string credentials_folder;                // of the service manager; empty: none
  runtime::posix::HostAccess* access = nullptr;  // who opens what this process may not; outlives the daemon
};

class TargetDaemon final : public targetd::Administration {
 public:
  // The server, whose first loop another thread runs until run() has returned, outlives this; so do the log
  // and the tap, which is the server's log.
  TargetDaemon(TargetDaemonOptions options, target::Server& server, runtime::Loop& loop, EventLog& log,
               EventTap& tap);
  ~TargetDaemon() override;

  // Loads the state, serves it, opens the socket, calls `ready`, and carries out one request after the other
  // until stop(). Fails when the state cannot be read or the socket cannot be had. Control thread.
  [[nodiscard]] Status run(const std::function<void()>& ready);
  // Any thread: run() returns when the request at hand has been answered.
  void stop();
  // Any thread: reads secrets that are kept outside and looks at the sizes of all backings again, soon, and
  // serves what has grown; then calls `done` on the control thread, unless the daemon ends before.
  void reload(std::function<void()> done = {});

  // --- Administration: control thread ---
  [[nodiscard]] const config::target::Configuration& configuration() const override {
    return store_->configuration();
  }
  [[nodiscard]] std::uint64_t sequence() const override { return store_->sequence(); }
  [[nodiscard]] Result<std::uint64_t> commit(const std::string& who,
                                             const config::target::Changes& changes) override;
  [[nodiscard]] Status check(const config::target::Changes& changes) override;
  [[nodiscard]] std::vector<targetd::PastTransaction> history() const override {
    return {history_.begin(), history_.end()};
  }
  [[nodiscard]] Result<std::vector<targetd::SessionInfo>> sessions() const override;
  [[nodiscard]] Result<std::vector<targetd::SessionInfo>> sessions_of(
      const config::target::PortalGroupKey& group) const override;
  [[nodiscard]] Result<targetd::IoCounters> io_counters(const config::target::LunKey& lun) const override;
  [[nodiscard]] Result<std::uint64_t> size_of(const config::target::StorageKey& key) const override;
  [[nodiscard]] bool healthy(const config::target::StorageKey& key) const override {
    return serving_.healthy(key);
  }
  [[nodiscard]] Status resize(const config::target::StorageKey& key) override {
    return serving_.resize(configuration(), key);
  }
  void look_again() override;
  [[nodiscard]] targetd::FileProbe probe(const std::string& path) const override;
  [[nodiscard]] Status create_file(const std::string& path, std::uint64_t size_bytes, bool sparse) override;
  [[nodiscard]] Status remove_file(const std::string& path) override;
  [[nodiscard]] Result<targetd::Saved> save(const targetd::SaveOptions& options) override;
  [[nodiscard]] bool is_saved() const override;
  [[nodiscard]] std::string default_save_path() const override {
    return options_.config_folder + "/saveconfig.json";
  }
  [[nodiscard]] Result<std::string> read_file(const std::string& path, std::size_t max_bytes) const override;
  [[nodiscard]] std::vector<std::string> host_addresses() const override;
  [[nodiscard]] Status pause(const config::target::PortalGroupKey& group) override;
  [[nodiscard]] Status drain(const config::target::PortalGroupKey& group, std::uint32_t seconds) override;
  [[nodiscard]] Status resume(const config::target::PortalGroupKey& group) override;
  [[nodiscard]] Status drop_connection(std::uint16_t tsih, std::uint16_t cid) override {
    return serving_.drop_connection(tsih, cid);
  }
  [[nodiscard]] std::string version() const override { return options_.version; }

 private:
  [[nodiscard]] Status load();
  [[nodiscard]] Result<std::uint64_t> commit_now(const std::string& who,
                                                 const config::target::Changes& changes);
  // The configuration gets what initiators have set of the object's ALUA groups.
  Status take_up_access_states(const config::target::StorageKey& key);
  void post(std::function<void()> job);
  void work();
  // What is missing is looked for after a second, then less and less often.
  void look_for_missing();
  void watch_for_missing();
  void answer(const Request& request, Exchange& exchange);
  void subscribe(std::shared_ptr<Exchange> exchange);
  void tell(const Json& event);
  [[nodiscard]] Status known(const config::target::PortalGroupKey& group) const;

  TargetDaemonOptions options_;
  EventLog& log_;
  EventTap& tap_;
  std::unique_ptr<targetd::LockedFolder> folder_;
  std::optional<targetd::StateStore> store_;
  Serving serving_;
  std::deque<targetd::PastTransaction> history_;
  std::list<std::shared_ptr<Exchange>> subscribers_;
  std::chrono::steady_clock::time_point next_look_ = std::chrono::steady_clock::time_point::max();
  std::chrono::seconds look_interval_{1};

  std::mutex mutex_;  // of what follows
  std::condition_variable wake_;
  std::deque<std::function<void()>> jobs_;
  bool stopping_ = false;
};

}  // namespace perilune::control::serving
