// SPDX-License-Identifier: Apache-2.0
// Puts changes of the configuration into force on a server that runs. The daemon's control thread, which
// waits for the server; the server's loops never wait for it.
//
//   prepare(): everything that can fail, and that no initiator notices: backings are opened, portals bound,
//   targets and units made that nobody sees yet. (But where an object becomes another one under its LUNs, the
//   units that stand on it go first.)
//
//   Then either finish(), when the transaction is durable: portal groups say what they say now, and what is
//   not served any more goes, when what is in progress on it has ended; or undo(), and republish().
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "base/event_log.hpp"
#include "config/target/configuration.hpp"
#include "control/serving/access_states.hpp"
#include "control/serving/mapping.hpp"
#include "control/serving/secrets.hpp"
#include "passthrough/real_device.hpp"
#include "runtime/loop.hpp"
#include "runtime/posix/host_access.hpp"
#include "target/server.hpp"

namespace perilune::control::serving {

class Serving {
 public:
  // The server, its first loop (which another thread runs, until this is gone) and the log outlive this; so
  // does `access`, which opens what this process may not (nullptr: nobody does). `credentials`: the service
  // manager's folder.
  Serving(target::Server& server, runtime::Loop& loop, EventLog& log, runtime::posix::HostAccess* access,
          std::string credentials)
      : server_(server), loop_(loop), log_(log), access_(access), secrets_(access, std::move(credentials)) {}
  ~Serving();
  Serving(const Serving&) = delete;
  Serving& operator=(const Serving&) = delete;

  // Initiators have set states of the object's ALUA groups, which the configuration does not have yet. Called
  // on a loop's thread; before anything is prepared.
  void on_access_states(std::function<void(config::target::StorageKey)> heard) { heard_ = std::move(heard); }
  // What they are; and that the configuration has them, which the record that had them is to lose before
  // anything else is committed.
  [[nodiscard]] AccessStates::Kept access_states_of(const config::target::StorageKey& key) const;
  [[nodiscard]] Status access_states_taken_up(const config::target::StorageKey& key,
                                              const AccessStates::Kept& kept);
  // Of the time before a start: the changes that make them in its configuration, and the records that have
  // them, which are to be emptied when it is durable and before anything is served. A damaged record keeps
  // its object from being served, and says why.
  struct LeftAccessStates {
    config::target::Changes changes;
    std::vector<std::string> records;
  };
  [[nodiscard]] LeftAccessStates left_access_states(const config::target::Configuration& configuration);
  [[nodiscard]] Status empty_records(const std::vector<std::string>& records);

  // `changes` have been made in `configuration`, and `inverses` would undo them. The error names the object;
  // then everything is as it was before. `lenient`: at the start: what cannot be opened or bound is a line in
  // the log and is not served.
  [[nodiscard]] Status prepare(const config::target::Configuration& configuration,
                               const config::target::Changes& changes,
                               const config::target::Changes& inverses, bool lenient = false);
  void finish(const config::target::Configuration& configuration);
  void undo();
  // After a failure, of prepare() or later, when `configuration` is as it was before.
  void republish(const config::target::Configuration& configuration);

  // Backings that could not be opened and portals that could not be bound, at the start or when an undo
  // wanted them back: tries again, and serves what is there now; initiators find the units as new ones.
  // Returns the paths of what has come. What has not is said in the log once, and again when the reason is
  // another.
  [[nodiscard]] std::vector<std::string> look_for_missing(const config::target::Configuration& configuration);
  [[nodiscard]] bool misses_something() const noexcept { return !missing_.empty() || !unbound_.empty(); }

  // Reads the secrets that are kept outside; another one is in force for logins from now on. What cannot be
  // read is a line in the log, and stays what it was.
  void read_secrets_again(const config::target::Configuration& configuration);

  // nullptr: it could not be opened.
  [[nodiscard]] block::Backstore* backstore(const config::target::StorageKey& key) const;
  [[nodiscard]] bool healthy(const config::target::StorageKey& key) const;
  [[nodiscard]] std::uint64_t size_of(const config::target::StorageKey& key) const;  // bytes; 0: not known
  // Serves what the backing has become, if that is more.
  [[nodiscard]] Status resize(const config::target::Configuration& configuration,
                              const config::target::StorageKey& key);

  [[nodiscard]] std::vector<std::pair<config::target::PortalGroupKey, target::SessionView>> sessions() const;
  // Of the unit that the target has over the object; not_found: it serves none.
  [[nodiscard]] Result<target::Server::IoCounters> io_counters(
      const config::target::TargetKey& target, const config::target::StorageKey& object) const;
  void set_admits(const config::target::Configuration& configuration,
                  const config::target::PortalGroupKey& key, bool admits);
  void request_logouts(const config::target::PortalGroupKey& key, std::uint32_t seconds);
  [[nodiscard]] Status drop_connection(std::uint16_t tsih, std::uint16_t cid);  // not_found: no such session

 private:
  struct Object {  // a storage object
    config::target::StorageObject value;
    std::shared_ptr<block::Backstore> store;
    std::shared_ptr<passthrough::RealDevice> device;
    block::SpaceMeter* meter = nullptr;
    std::uint64_t size_bytes = 0;
    std::set<config::target::TargetKey> users;    // that have a unit over it
    bool lingers = false;                         // one of them is still on its way out
    std::shared_ptr<AccessStates> access_states;  // nullptr: nothing keeps them
  };
  struct Target {
    std::uint32_t number = 0;
    std::uint16_t last_unit = 0;
  };
  struct Unit {
    std::uint16_t number = 0;
    scsi::PortGroups port_groups;
  };
  using UnitKey = std::pair<config::target::TargetKey, config::target::StorageKey>;
  using Endpoint = std::pair<std::string, std::uint16_t>;
  struct Portal {
    std::uint32_t number = 0;
    std::uint32_t users = 0;
  };
  // What the changes at hand touch, and what undoes what has been prepared for them.
  struct Work {
    std::set<config::target::StorageKey> objects;
    std::set<config::target::TargetKey> targets;
    std::set<config::target::PortalGroupKey> groups;
    std::set<UnitKey> units;
    std::map<Endpoint, int> portals;
    bool discovery = false;
    bool lenient = false;
    std::vector<std::function<void()>> undo;
  };

  template <class Change>
  void collect(const config::target::Configuration& configuration, const Change& change);
  void collect_all(const config::target::Configuration& configuration,
                   const config::target::Changes& changes);
  [[nodiscard]] Status prepare_secrets(const config::target::Changes& changes);
  [[nodiscard]] Status prepare_portals();
  [[nodiscard]] Status bind(const Endpoint& endpoint, bool address_may_come_later = false);
  [[nodiscard]] Status bind_at_start(const Endpoint& endpoint);
  [[nodiscard]] Status prepare_objects(const config::target::Configuration& configuration);
  [[nodiscard]] Status prepare_object(const config::target::Configuration& configuration,
                                      const config::target::StorageKey& key,
                                      const config::target::StorageObject& value);
  void serve_again(const config::target::Configuration& configuration, const config::target::StorageKey& key);
  void look_for_backings(const config::target::Configuration& configuration, std::vector<std::string>& found);
  void look_for_portals(const config::target::Configuration& configuration, std::vector<std::string>& found);
  void take_out_units_of(const config::target::Configuration& configuration,
                         const config::target::StorageKey& key);
  [[nodiscard]] Result<Object> open(const config::target::StorageKey& key,
                                    const config::target::StorageObject& value);
  [[nodiscard]] Status prepare_targets(const config::target::Configuration& configuration);
  [[nodiscard]] Status prepare_units(const config::target::Configuration& configuration);
  [[nodiscard]] Status prepare_unit(const config::target::Configuration& configuration, const UnitKey& key);
  [[nodiscard]] Result<target::UnitSpec> spec_of(const config::target::Configuration& configuration,
                                                 const UnitKey& key, const Object& object,
                                                 std::uint16_t number);
  // With `lenient`, a failure is a line in the log.
  [[nodiscard]] Status judge(Status status);
  void finish_group(const config::target::Configuration& configuration,
                    const config::target::PortalGroupKey& key);
  void finish_unit(const config::target::Configuration& configuration, const UnitKey& key);
  void log_slow_change(const UnitKey& key, const Error& error) const;
  void finish_object(const config::target::StorageKey& key);
  void remove_unit(const UnitKey& key);
  void close(Object& object);
  [[nodiscard]] static bool wanted(const config::target::Configuration& configuration, const UnitKey& key);

  // Does `work` on the server's thread and waits for what it is answered by. When nothing has come in time,
  // `work` and its answer may still be on their way: they own what they use, and borrow nothing of the
  // caller's.
  template <class Answer>
  [[nodiscard]] Result<Answer> ask(std::function<void(std::function<void(Result<Answer>)>)> work,
                                   std::chrono::milliseconds within = patience) const;
  [[nodiscard]] Status call(std::function<void(target::Server::Done)> work,
                            std::chrono::milliseconds within = patience) const;
  void run(std::function<void()> work) const;  // the same for what is over when it returns
  static constexpr std::chrono::milliseconds patience =
      std::chrono::hours(1);  // nothing is known to take so long

  target::Server& server_;
  runtime::Loop& loop_;
  EventLog& log_;
  runtime::posix::HostAccess* const access_;
  Secrets secrets_;
  const SecretOf secret_of_ = [this](const config::target::Password& password) {
    return secrets_.of(password);
  };
  std::function<void(config::target::StorageKey)> heard_;
  std::map<config::target::StorageKey, Error> damaged_records_;  // of states of ALUA groups
  std::map<config::target::StorageKey, Object> objects_;
  std::map<config::target::TargetKey, Target> targets_;
  std::map<std::uint32_t, config::target::TargetKey> target_names_;  // by number
  std::map<UnitKey, Unit> units_;
  std::map<Endpoint, Portal> portals_;
  std::map<config::target::StorageKey, std::string> missing_;  // and why
  std::set<Endpoint> unbound_;
  std::set<config::target::PortalGroupKey> paused_;
  std::set<config::target::StorageKey> hidden_;  // whose units are on their way out
  std::set<config::target::PortalGroupKey>
      stale_;  // that say something else than the configuration of before
  Work work_;
};

}  // namespace perilune::control::serving
