// SPDX-License-Identifier: Apache-2.0
#include "control/serving/serving.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "passthrough/open_device.hpp"
#include "target/unit_record.hpp"

namespace perilune::control::serving {

using namespace config::target;

namespace {

// A unit goes, or changes, when what is in progress on it has ended; a device that never answers must not
// keep the administrator.
constexpr std::chrono::milliseconds removal_patience = std::chrono::seconds(10);

// How long a port that is in use is waited for at the start, and how often it is tried.
constexpr std::chrono::milliseconds port_patience = std::chrono::seconds(5);
constexpr std::chrono::milliseconds look_again(50);

tl::unexpected<Error> named(const std::string& object, const Error& error) {
  const bool tells = error.message.starts_with(object);
  return fail(error.code, tells ? error.message : object + ": " + error.message, error.os_errno);
}

}  // namespace

Serving::~Serving() = default;

// ---- waiting for the server

template <class Answer>
Result<Answer> Serving::ask(std::function<void(std::function<void(Result<Answer>)>)> work,
                            std::chrono::milliseconds within) const {
  struct Waiting {
    std::mutex mutex;
    std::condition_variable wake;
    std::optional<Result<Answer>> answer;
  };
  const auto waiting = std::make_shared<Waiting>();
  loop_.post([waiting, work = std::move(work)] {
    work([waiting](Result<Answer> answer) {
      const std::lock_guard lock(waiting->mutex);
      waiting->answer.emplace(std::move(answer));
      waiting->wake.notify_one();
    });
  });
  std::unique_lock lock(waiting->mutex);
  if (!waiting->wake.wait_for(lock, within, [&] { return waiting->answer.has_value(); })) {
    return fail(Errc::timed_out, "the server has not answered in time");
  }
  return std::move(*waiting->answer);
}

Status Serving::call(std::function<void(target::Server::Done)> work, std::chrono::milliseconds within) const {
  return ask<void>(std::move(work), within);
}

void Serving::run(std::function<void()> work) const {
  (void)call([work = std::move(work)](const target::Server::Done& done) {
    work();
    done({});
  });
}

// ---- what changes touch

void Serving::collect_all(const Configuration& configuration, const Changes& changes) {
  for (const Change& each : changes) {
    std::visit([&](const auto& change) { collect(configuration, change); }, each);
  }
}

template <class Changed>
void Serving::collect(const Configuration& configuration, const Changed& change) {
  using Key = std::decay_t<decltype(change.key)>;
  if constexpr (std::is_same_v<Key, DiscoveryKey>) {
    work_.discovery = true;
  } else if constexpr (std::is_same_v<Key, StorageKey>) {
    work_.objects.insert(change.key);
  } else if constexpr (std::is_same_v<Key, AluaGroupKey>) {
    for (const LunKey& lun : configuration.luns_of(change.key.parent))
      work_.units.insert({lun.parent.parent, change.key.parent});
  } else if constexpr (std::is_same_v<Key, TargetKey>) {
    work_.targets.insert(change.key);
  } else if constexpr (std::is_same_v<Key, PortalGroupKey>) {
    work_.groups.insert(change.key);
  } else if constexpr (std::is_same_v<Key, PortalKey>) {
    work_.groups.insert(change.key.parent);
    if (change.action == Action::add) ++work_.portals[{change.key.address, change.key.port}];
  } else if constexpr (std::is_same_v<Key, LunKey>) {
    work_.groups.insert(change.key.parent);
    if (change.action != Action::remove) work_.units.insert({change.key.parent.parent, change.value.object});
  } else if constexpr (std::is_same_v<Key, NodeAclKey>) {
    work_.groups.insert(change.key.parent);
  } else if constexpr (std::is_same_v<Key, MappedLunKey>) {
    work_.groups.insert(change.key.parent.parent);
  }
}

bool Serving::wanted(const Configuration& configuration, const UnitKey& key) {
  const auto luns = configuration.luns_of(key.second);
  return std::any_of(luns.begin(), luns.end(),
                     [&](const LunKey& lun) { return lun.parent.parent == key.first; });
}

Status Serving::judge(Status status) {
  if (status || !work_.lenient) return status;
  log_.event(EventLog::Level::error, "not_served", fmt::format("reason=\"{}\"", status.error().message));
  return {};
}

// ---- what can fail

Status Serving::prepare(const Configuration& configuration, const Changes& changes, const Changes& inverses,
                        bool lenient) {
  work_ = Work{};
  work_.lenient = lenient;
  // The inverses have the values of before, and add what was removed.
  collect_all(configuration, inverses);
  for (auto& [endpoint, users] : work_.portals) users = -users;
  collect_all(configuration, changes);
  if (lenient) run([this] { server_.hold_connections(); });
  Status status = prepare_secrets(changes);
  if (status) status = prepare_portals();
  if (status) status = prepare_objects(configuration);
  if (status) status = prepare_targets(configuration);
  if (status) status = prepare_units(configuration);
  if (!status) undo();
  return status;
}

void Serving::undo() {
  const auto steps = std::exchange(work_.undo, {});  // what a step would undo by is of no interest any more
  for (auto step = steps.rbegin(); step != steps.rend(); ++step) (*step)();
  work_ = Work{};
}

Status Serving::bind(const Endpoint& endpoint, bool address_may_come_later) {
  const auto where = runtime::Endpoint::parse(
      endpoint.first.find(':') == std::string::npos ? endpoint.first : "[" + endpoint.first + "]",
      endpoint.second);
  if (!where) return tl::unexpected(where.error());
  const auto number = ask<std::uint32_t>([this, where = *where, address_may_come_later](const auto& done) {
    done(server_.add_portal(where, address_may_come_later));
  });
  if (!number) return tl::unexpected(number.error());
  portals_[endpoint].number = *number;
  unbound_.erase(endpoint);
  return {};
}

// A daemon that was killed a moment ago may still hold its ports: the kernel lets go of a ring's sockets some
// time after the process has ended. And an interface may get its address after the daemon has started.
Status Serving::bind_at_start(const Endpoint& endpoint) {
  const auto began = std::chrono::steady_clock::now();
  for (;;) {
    Status status = bind(endpoint, true);
    if (status || status.error().os_errno != EADDRINUSE) return status;
    if (std::chrono::steady_clock::now() - began > port_patience) return status;
    std::this_thread::sleep_for(look_again);
  }
}

Status Serving::prepare_secrets(const Changes& changes) {
  const auto read = [this](const auto& key, const Password& password) -> Status {
    const auto done = secrets_.read(password);
    return done ? Status() : judge(named(path_of(key), done.error()));
  };
  for (const Change& each : changes) {
    Status status = std::visit(
        [&](const auto& change) -> Status {
          if constexpr (requires { change.value.chap; }) {
            if (change.action == Action::remove) return {};
            Status theirs = read(change.key, change.value.chap.password);
            return theirs ? read(change.key, change.value.chap.mutual_password) : theirs;
          } else {
            return {};
          }
        },
        each);
    if (!status) return status;
  }
  return {};
}

void Serving::read_secrets_again(const Configuration& configuration) {
  const auto each_chap = [&](const auto& visit) {
    for (const auto& [key, value] : configuration.all<Discovery>()) visit(key, value.chap);
    for (const auto& [key, value] : configuration.all<PortalGroup>()) visit(key, value.chap);
    for (const auto& [key, value] : configuration.all<NodeAcl>()) visit(key, value.chap);
  };
  std::map<std::string, Password> references;
  each_chap([&](const auto&, const Chap& chap) {
    for (const Password& password : {chap.password, chap.mutual_password}) {
      if (!password.reference().empty()) references.emplace(password.reference(), password);
    }
  });
  std::set<std::string> changed;
  for (const auto& [reference, password] : references) {
    const auto other = secrets_.read(password);
    if (!other)
      log_.event(EventLog::Level::error, "secret_not_read",
                 fmt::format("reason=\"{}\"", other.error().message));
    else if (*other)
      changed.insert(reference);
  }
  if (changed.empty()) return;
  work_ = Work{};
  each_chap([&](const auto& key, const Chap& chap) {
    if (!changed.contains(chap.password.reference()) && !changed.contains(chap.mutual_password.reference()))
      return;
    using Key = std::decay_t<decltype(key)>;
    if constexpr (std::is_same_v<Key, DiscoveryKey>) work_.discovery = true;
    if constexpr (std::is_same_v<Key, PortalGroupKey>) work_.groups.insert(key);
    if constexpr (std::is_same_v<Key, NodeAclKey>) work_.groups.insert(key.parent);
  });
  finish(configuration);
  log_.event(EventLog::Level::info, "secrets_changed", fmt::format("count={}", changed.size()));
}

// What nobody listens on any more goes first: a portal of one address may come in the place of one of all
// addresses.
Status Serving::prepare_portals() {
  for (const bool binds : {false, true}) {
    for (const auto& [endpoint, change] : work_.portals) {
      const auto there = portals_.find(endpoint);
      const bool bound = there != portals_.end();
      const std::int64_t before = bound ? there->second.users : 0;
      const std::int64_t after = before + change;
      if (change == 0 || (after > before) != binds) continue;
      if (after == 0) {
        run([this, number = there->second.number] { server_.remove_portal(number); });
        portals_.erase(there);
        unbound_.erase(endpoint);
        work_.undo.push_back([this, endpoint = endpoint, before] {
          if (Status status = bind(endpoint); !status) {
            log_.event(EventLog::Level::error, "portal_lost",
                       fmt::format("reason=\"{}\"", status.error().message));
          }
          portals_[endpoint].users = static_cast<std::uint32_t>(before);
        });
        continue;
      }
      if (!bound) {
        Status status = work_.lenient ? bind_at_start(endpoint) : bind(endpoint);
        if (!status && !work_.lenient) return status;
        (void)judge(status);
        if (!status) {
          portals_[endpoint].number = target::no_portal;
          unbound_.insert(endpoint);
        }
      }
      portals_[endpoint].users = static_cast<std::uint32_t>(after);
      work_.undo.push_back([this, endpoint = endpoint, before] {
        Portal& portal = portals_[endpoint];
        portal.users = static_cast<std::uint32_t>(before);
        if (before != 0) return;
        run([this, number = portal.number] { server_.remove_portal(number); });
        portals_.erase(endpoint);
      });
    }
  }
  return {};
}

Status Serving::prepare_objects(const Configuration& configuration) {
  for (const StorageKey& key : work_.objects) {
    const StorageObject* const value = configuration.find<StorageObject>(key);
    if (value == nullptr) continue;  // goes at the end
    const Status prepared = prepare_object(configuration, key, *value);
    if (!prepared && work_.lenient) missing_[key] = prepared.error().message;
    if (Status status = judge(prepared); !status) return named(path_of(key), status.error());
  }
  return {};
}

// ---- what was missing

std::vector<std::string> Serving::look_for_missing(const Configuration& configuration) {
  std::vector<std::string> found;
  look_for_backings(configuration, found);
  look_for_portals(configuration, found);
  return found;
}

void Serving::look_for_backings(const Configuration& configuration, std::vector<std::string>& found) {
  for (auto each = missing_.begin(); each != missing_.end();) {
    const StorageKey& key = each->first;
    const StorageObject* const value = configuration.find<StorageObject>(key);
    if (value == nullptr || healthy(key)) {  // removed, or put in order by an administrator
      each = missing_.erase(each);
      continue;
    }
    auto object = open(key, *value);
    if (!object) {
      if (std::exchange(each->second, object.error().message) != object.error().message) {
        log_.event(EventLog::Level::error, "not_served",
                   fmt::format("object={} reason=\"{}\"", path_of(key), object.error().message));
      }
      ++each;
      continue;
    }
    objects_[key] = std::move(*object);
    serve_again(configuration, key);
    found.push_back(path_of(key));
    each = missing_.erase(each);
  }
}

// The units of the object come into being, and where they belong they are seen.
void Serving::serve_again(const Configuration& configuration, const StorageKey& key) {
  work_ = Work{};
  work_.lenient = true;
  for (const LunKey& lun : configuration.luns_of(key)) {
    work_.units.insert({lun.parent.parent, key});
    work_.groups.insert(lun.parent);
  }
  (void)prepare_units(configuration);  // lenient: what fails is a line in the log
  work_.lenient = false;
  finish(configuration);
}

void Serving::look_for_portals(const Configuration& configuration, std::vector<std::string>& found) {
  for (const Endpoint& endpoint : std::set<Endpoint>(unbound_)) {
    if (!bind(endpoint, true)) continue;
    for (const auto& [key, value] : configuration.all<config::target::Portal>()) {
      if (key.address != endpoint.first || key.port != endpoint.second) continue;
      finish_group(configuration, key.parent);
      found.push_back(path_of(key));
    }
  }
}

// What stands on an object that becomes another one goes first: hidden, then ended, as one that is removed.
// The one that comes in its place is another logical unit, and initiators find it so.
void Serving::take_out_units_of(const Configuration& configuration, const StorageKey& key) {
  std::vector<UnitKey> standing;
  for (const TargetKey& target : objects_.at(key).users) standing.emplace_back(target, key);
  std::set<PortalGroupKey> groups;
  for (const UnitKey& unit : standing) {
    for (const auto& [group, value] : configuration.below<PortalGroup>(unit.first)) groups.insert(group);
    for (const PortalGroupKey& group : work_.groups) {
      if (group.parent == unit.first) groups.insert(group);
    }
  }
  hidden_.insert(key);
  for (const PortalGroupKey& group : groups) finish_group(configuration, group);
  hidden_.erase(key);
  work_.groups.insert(groups.begin(), groups.end());
  stale_.insert(groups.begin(), groups.end());
  for (const UnitKey& unit : standing) {
    remove_unit(unit);
    work_.units.insert(unit);
    work_.undo.push_back([this, &configuration, unit] {
      if (!healthy(unit.second) || !targets_.contains(unit.first)) return;
      if (Status status = prepare_unit(configuration, unit); !status) {
        log_.event(EventLog::Level::error, "not_served",
                   fmt::format("reason=\"{}\"", status.error().message));
      }
    });
  }
}

void Serving::republish(const Configuration& configuration) {
  for (const PortalGroupKey& group : std::exchange(stale_, {})) finish_group(configuration, group);
}

Status Serving::prepare_object(const Configuration& configuration, const StorageKey& key,
                               const StorageObject& value) {
  const auto there = objects_.find(key);
  if (there != objects_.end()) {
    Object& object = there->second;
    if (is_same_backing(object.value, value, key.plugin)) {
      work_.undo.push_back([this, key, before = object.value] { objects_.at(key).value = before; });
      object.value = value;
      return {};
    }
    take_out_units_of(configuration, key);
    // The new one may be the same file, which is locked as long as the old one is open.
    const StorageObject before = object.value;
    close(object);
    objects_.erase(there);
    work_.undo.push_back([this, key, before] {
      if (auto again = open(key, before)) {
        objects_[key] = std::move(*again);
      } else {
        missing_[key] = again.error().message;
      }
    });
  }
  auto object = open(key, value);
  if (!object) return tl::unexpected(object.error());
  objects_[key] = std::move(*object);
  work_.undo.push_back([this, key] {
    close(objects_.at(key));
    objects_.erase(key);
  });
  return {};
}

Result<Serving::Object> Serving::open(const StorageKey& key, const StorageObject& value) {
  Object object;
  object.value = value;
  if (key.plugin == Plugin::pscsi) {
    auto device = passthrough::open_device(
        value.dev, {.read_only = value.readonly, .unrestricted = false, .access = access_});
    if (!device) return tl::unexpected(device.error());
    object.device = std::move(*device);
    return object;
  }
  block::BackstoreOptions options = backing_options(key, value);
  options.atomic_journal = server_.config().atomic_journal;
  options.access = access_;
  auto store = block::open_backstore(backing_of(key, value), options);
  if (!store) return tl::unexpected(store.error());
  object.store = std::move(*store);
  const block::Geometry& geometry = object.store->geometry();
  object.size_bytes = geometry.blocks.value() * (geometry.block_size_bytes - geometry.protection_bytes);
  const auto& watch = server_.config().space_watch;
  if (watch != nullptr && !geometry.read_only) object.meter = watch->watch(object.store);
  const std::string record = access_states_record(key, value);
  if (const auto& records = server_.config().records; records != nullptr && !record.empty() && heard_)
    object.access_states = std::make_shared<AccessStates>(*records, record, [this, key] { heard_(key); });
  return object;
}

void Serving::close(Object& object) {
  if (object.meter != nullptr && !object.lingers) server_.config().space_watch->forget(*object.meter);
  object.meter = nullptr;
  object.store.reset();
  object.device.reset();
}

Status Serving::prepare_targets(const Configuration& configuration) {
  for (const TargetKey& key : work_.targets) {
    if (configuration.find<config::target::Target>(key) == nullptr || targets_.contains(key)) continue;
    const auto made = ask<std::uint32_t>([this, name = key.wwn](const auto& done) {
      target::TargetSpec spec;
      spec.name = name;
      spec.portal_groups.clear();
      server_.add_target(std::move(spec), done);
    });
    if (!made) return named(path_of(key), made.error());
    const std::uint32_t number = *made;
    targets_[key].number = number;
    target_names_[number] = key;
    work_.undo.push_back([this, key, number] {
      (void)call(
          [this, number](target::Server::Done done) { server_.remove_target(number, std::move(done)); });
      targets_.erase(key);
      target_names_.erase(number);
    });
  }
  return {};
}

Status Serving::prepare_units(const Configuration& configuration) {
  for (const UnitKey& key : work_.units) {
    if (units_.contains(key) || !wanted(configuration, key)) continue;
    if (!work_.lenient && !healthy(key.second)) {
      return fail(Errc::busy, path_of(key.second) + " is not served: its backing could not be opened");
    }
    if (!healthy(key.second)) continue;
    if (Status status = judge(prepare_unit(configuration, key)); !status)
      return named(path_of(key.second), status.error());
  }
  return {};
}

Result<target::UnitSpec> Serving::spec_of(const Configuration& configuration, const UnitKey& key,
                                          const Object& object, std::uint16_t number) {
  if (const auto damaged = damaged_records_.find(key.second); damaged != damaged_records_.end())
    return tl::unexpected(damaged->second);
  target::UnitSpec spec;
  spec.lun = number;
  spec.config.identity = identity_of(key.second, object.value);
  spec.config.read_only = object.value.readonly;
  spec.config.rules = unit_rules_of(key.second, object.value);
  if (object.device == nullptr)
    spec.config.port_groups = port_groups_of(configuration, key.first, key.second);
  spec.backstore = object.store;
  spec.device = object.device;
  spec.space = object.meter;
  if (object.access_states != nullptr) {
    spec.keep_access_states = [states = object.access_states](
                                  runtime::Loop& loop, std::vector<scsi::PortGroup> groups,
                                  const std::string& initiator, std::function<void(bool)> done) {
      AccessStates::keep(states, loop, groups, initiator, std::move(done));
    };
  }
  const auto& records = server_.config().records;
  if (records != nullptr && object.store != nullptr && key.second.plugin != Plugin::ramdisk &&
      !object.value.readonly) {
    // One target exports what is written to, so the name is of one unit.
    spec.record = "unit-" + spec.config.identity.serial;
    if (Status status = target::UnitRecord::read(*records, spec.record, spec.config.durable); !status) {
      return tl::unexpected(status.error());
    }
    spec.record_is_read = true;
  }
  return spec;
}

Status Serving::prepare_unit(const Configuration& configuration, const UnitKey& key) {
  Object& object = objects_.at(key.second);
  // Two targets would be two logical units, whose reservations do not know of each other, over one set of
  // blocks.
  if (!object.users.empty() && !object.value.readonly) {
    return fail(
        Errc::unsupported,
        path_of(key.second) +
            " is exported by another target already; export it through several portal groups of one target");
  }
  Target& target = targets_.at(key.first);
  std::uint16_t number = target.last_unit;
  do ++number;
  while (std::any_of(units_.lower_bound({key.first, {}}), units_.end(), [&](const auto& unit) {
    return unit.first.first == key.first && unit.second.number == number;
  }));
  auto spec = spec_of(configuration, key, object, number);
  if (!spec) return tl::unexpected(spec.error());
  const scsi::PortGroups groups = spec->config.port_groups;
  const std::uint32_t target_number = target.number;
  const auto shared = std::make_shared<target::UnitSpec>(std::move(*spec));
  const Status status = call([this, target_number, shared](target::Server::Done done) {
    server_.add_unit(target_number, std::move(*shared), std::move(done));
  });
  if (!status) return status;
  target.last_unit = number;
  units_[key] = {number, groups};
  object.users.insert(key.first);
  work_.undo.push_back([this, key] { remove_unit(key); });
  return {};
}

// ---- what cannot

void Serving::finish(const Configuration& configuration) {
  if (work_.discovery) {
    const auto auth = std::make_shared<target::AuthSpec>(discovery_auth_of(configuration, secret_of_));
    run([this, auth] { server_.set_discovery_auth(std::move(*auth)); });
  }
  for (const PortalGroupKey& key : work_.groups) finish_group(configuration, key);
  for (const UnitKey& key : work_.units) finish_unit(configuration, key);
  for (const StorageKey& key : work_.objects) finish_object(key);
  for (const TargetKey& key : work_.targets) {
    const auto gone = targets_.find(key);
    if (gone == targets_.end() || configuration.find<config::target::Target>(key) != nullptr) continue;
    const std::uint32_t number = gone->second.number;
    const Status status =
        call([this, number](target::Server::Done done) { server_.remove_target(number, std::move(done)); },
             removal_patience);
    if (!status) log_.event(EventLog::Level::warning, "slow_removal", fmt::format("target={}", key.wwn));
    targets_.erase(gone);
    target_names_.erase(number);
  }
  for (const StorageKey& key : work_.objects) {
    const auto gone = objects_.find(key);
    if (gone == objects_.end() || configuration.find<StorageObject>(key) != nullptr) continue;
    close(gone->second);
    objects_.erase(gone);
  }
  stale_.clear();
  if (work_.lenient) run([this] { server_.admit_connections(); });
  work_ = Work{};
}

void Serving::finish_group(const Configuration& configuration, const PortalGroupKey& key) {
  const auto target = targets_.find(key.parent);
  if (target == targets_.end()) return;
  const std::uint32_t number = target->second.number;
  if (configuration.find<PortalGroup>(key) == nullptr) {
    paused_.erase(key);
    run([this, number, tag = key.tag] { (void)server_.remove_group(number, tag); });
    return;
  }
  target::GroupRules rules = rules_of(
      configuration, key,
      [&](const LunKey&, const Lun& lun) -> std::optional<std::uint16_t> {
        if (hidden_.contains(lun.object)) return std::nullopt;
        const auto unit = units_.find({key.parent, lun.object});
        return unit == units_.end() ? std::nullopt : std::optional(unit->second.number);
      },
      secret_of_, server_.config().params);
  rules.admits = !paused_.contains(key);
  target::PortalGroup group{.tag = key.tag, .portals = {}};
  for (const auto& [portal, value] : configuration.below<config::target::Portal>(key)) {
    const auto bound = portals_.find({portal.address, portal.port});
    if (bound != portals_.end() && bound->second.number != target::no_portal)
      group.portals.push_back(bound->second.number);
  }
  if (group.portals.empty()) group.portals.push_back(target::no_portal);
  const auto said = std::make_shared<target::GroupRules>(std::move(rules));
  const Status status = call([this, number, group, said](const target::Server::Done& done) {
    done(server_.set_group(number, group, std::move(*said)));
  });
  if (!status) {
    log_.event(EventLog::Level::error, "group_refused",
               fmt::format("group={} reason=\"{}\"", path_of(key), status.error().message));
  }
}

// The units that stand on it do what its attributes say now.
void Serving::finish_object(const StorageKey& key) {
  const auto object = objects_.find(key);
  if (object == objects_.end() || object->second.users.empty() || object->second.store == nullptr) return;
  const scsi::UnitRules rules = unit_rules_of(key, object->second.value);
  for (const TargetKey& user : object->second.users) {
    const std::uint32_t target = targets_.at(user).number;
    const std::uint16_t unit = units_.at({user, key}).number;
    const Status status =
        call([this, target, unit, rules](
                 target::Server::Done done) { server_.set_unit_rules(target, unit, rules, std::move(done)); },
             removal_patience);
    if (!status) log_slow_change({user, key}, status.error());
  }
}

void Serving::finish_unit(const Configuration& configuration, const UnitKey& key) {
  const auto unit = units_.find(key);
  if (unit == units_.end()) return;
  if (!wanted(configuration, key)) return remove_unit(key);
  if (objects_.at(key.second).device != nullptr) return;
  scsi::PortGroups now = port_groups_of(configuration, key.first, key.second);
  if (now == unit->second.port_groups) return;
  const std::uint32_t target = targets_.at(key.first).number;
  const Status status = call(
      [this, target, number = unit->second.number, before = unit->second.port_groups,
       now](target::Server::Done done) {
        server_.change_port_groups(
            target, number,
            [before, now](scsi::PortGroups& groups) { change_port_groups(before, now, groups); },
            std::move(done));
      },
      removal_patience);
  if (!status) log_slow_change(key, status.error());
  unit->second.port_groups = std::move(now);
}

void Serving::log_slow_change(const UnitKey& key, const Error& error) const {
  log_.event(
      EventLog::Level::warning, "slow_change",
      fmt::format("target={} object={} reason=\"{}\"", key.first.wwn, path_of(key.second), error.message));
}

void Serving::remove_unit(const UnitKey& key) {
  const auto unit = units_.find(key);
  const std::uint32_t target = targets_.at(key.first).number;
  const std::uint16_t number = unit->second.number;
  const Status status =
      call([this, target,
            number](target::Server::Done done) { server_.remove_unit(target, number, std::move(done)); },
           removal_patience);
  if (!status) {
    log_.event(EventLog::Level::warning, "slow_removal",
               fmt::format("target={} object={} reason=\"{}\"", key.first.wwn, path_of(key.second),
                           status.error().message));
    objects_.at(key.second).lingers = true;
  }
  objects_.at(key.second).users.erase(key.first);
  units_.erase(unit);
}

// ---- states of ALUA groups that initiators have set

AccessStates::Kept Serving::access_states_of(const StorageKey& key) const {
  const auto object = objects_.find(key);
  if (object == objects_.end() || object->second.access_states == nullptr) return {};
  return object->second.access_states->kept();
}

Status Serving::access_states_taken_up(const StorageKey& key, const AccessStates::Kept& kept) {
  const auto object = objects_.find(key);
  if (object == objects_.end() || object->second.access_states == nullptr) return {};
  return call([states = object->second.access_states, loop = &loop_, kept](const target::Server::Done& done) {
    states->taken_up(*loop, kept, done);
  });
}

Serving::LeftAccessStates Serving::left_access_states(const Configuration& configuration) {
  LeftAccessStates left;
  const auto& records = server_.config().records;
  if (records == nullptr) return left;
  for (const auto& [key, object] : configuration.all<StorageObject>()) {
    const std::string record = access_states_record(key, object);
    if (record.empty()) continue;
    const auto states = AccessStates::read(*records, record);
    if (!states) damaged_records_.emplace(key, states.error());
    if (!states || states->empty()) continue;
    left.records.push_back(record);
    for (Change& change : changes_for_access_states(configuration, key, *states))
      left.changes.push_back(std::move(change));
  }
  return left;
}

Status Serving::empty_records(const std::vector<std::string>& records) {
  for (const std::string& record : records) {
    const Status status = call([this, &record](const target::Server::Done& done) {
      server_.config().records->put(loop_, record, {}, done);
    });
    if (!status) return named("the record " + record, status.error());
  }
  return {};
}

// ---- questions

bool Serving::healthy(const StorageKey& key) const {
  const auto object = objects_.find(key);
  return object != objects_.end() && (object->second.store != nullptr || object->second.device != nullptr);
}

block::Backstore* Serving::backstore(const StorageKey& key) const {
  const auto object = objects_.find(key);
  return object == objects_.end() ? nullptr : object->second.store.get();
}

std::uint64_t Serving::size_of(const StorageKey& key) const {
  const auto object = objects_.find(key);
  return object == objects_.end() ? 0 : object->second.size_bytes;
}

Status Serving::resize(const Configuration& configuration, const StorageKey& key) {
  const auto object = objects_.find(key);
  if (object == objects_.end()) return fail(Errc::not_found, path_of(key) + " is not served");
  if (object->second.store == nullptr) return {};
  const auto blocks = object->second.store->look_at_size();
  if (!blocks) return named(path_of(key), blocks.error());
  std::set<TargetKey> targets;
  for (const LunKey& lun : configuration.luns_of(key)) targets.insert(lun.parent.parent);
  for (const TargetKey& target : targets) {
    const auto unit = units_.find({target, key});
    if (unit == units_.end()) continue;
    const Status status = call(
        [this, server_target = targets_.at(target).number, number = unit->second.number, blocks = *blocks](
            const target::Server::Done& done) { done(server_.resize_unit(server_target, number, blocks)); });
    if (!status) return named(path_of(key), status.error());
  }
  const block::Geometry& geometry = object->second.store->geometry();
  object->second.size_bytes = std::max(
      object->second.size_bytes, blocks->value() * (geometry.block_size_bytes - geometry.protection_bytes));
  return {};
}

std::vector<std::pair<PortalGroupKey, target::SessionView>> Serving::sessions() const {
  auto views = ask<std::vector<target::SessionView>>([this](const auto& done) {
    server_.list_sessions([done](std::vector<target::SessionView> found) { done(std::move(found)); });
  });
  std::vector<std::pair<PortalGroupKey, target::SessionView>> result;
  if (!views) return result;
  for (target::SessionView& view : *views) {
    const auto name = target_names_.find(view.target);
    if (name == target_names_.end()) continue;
    const PortalGroupKey group{name->second, view.portal_group_tag};
    result.emplace_back(group, std::move(view));
  }
  return result;
}

Result<target::Server::IoCounters> Serving::io_counters(const TargetKey& target,
                                                        const StorageKey& object) const {
  const auto unit = units_.find({target, object});
  if (unit == units_.end()) return fail(Errc::not_found, path_of(object) + " is not served");
  return ask<target::Server::IoCounters>(
      [this, number = targets_.at(target).number, lun = unit->second.number](const auto& done) {
        done(server_.io_counters(number, lun));
      });
}

void Serving::set_admits(const Configuration& configuration, const PortalGroupKey& key, bool admits) {
  if (admits)
    paused_.erase(key);
  else
    paused_.insert(key);
  finish_group(configuration, key);
}

void Serving::request_logouts(const PortalGroupKey& key, std::uint32_t seconds) {
  const std::uint32_t number = targets_.at(key.parent).number;
  run([this, number, tag = key.tag, seconds] {
    server_.request_logouts(number, tag, std::chrono::seconds(seconds));
  });
}

Status Serving::drop_connection(std::uint16_t tsih, std::uint16_t cid) {
  return call([this, tsih, cid](const target::Server::Done& done) {
    done(server_.drop_connection(tsih, cid) ? Status{} : fail(Errc::not_found, "there is no such session"));
  });
}

}  // namespace perilune::control::serving
