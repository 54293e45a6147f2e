// SPDX-License-Identifier: Apache-2.0
// What a target server is asked to serve, as values.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "block/atomic_journal.hpp"
#include "block/backstore.hpp"
#include "iscsi/login/chap.hpp"
#include "iscsi/params/params.hpp"
#include "passthrough/real_device.hpp"
#include "runtime/endpoint.hpp"
#include "runtime/record_writer.hpp"
#include "runtime/stream.hpp"
#include "scsi/logical_unit.hpp"
#include "target/access.hpp"
#include "target/portal_groups.hpp"
#include "target/redirect.hpp"
#include "target/space_watch.hpp"

namespace perilune::target {

struct UnitSpec {
  std::uint16_t lun = 0;
  // Its target ports are the tags of the target's portal groups. Where config.port_groups does not know them
  // all, each gets a group of its own, of the number of its tag.
  scsi::UnitConfig config;
  std::shared_ptr<block::Backstore> backstore;
  block::SpaceMeter* space = nullptr;  // of the backstore, by ServerConfig::space_watch; nullptr: nobody
                                       // tells what it uses
  std::shared_ptr<passthrough::RealDevice> device;  // in the place of a backstore: commands are forwarded to
                                                    // it
  std::string record;  // its name in ServerConfig::records, of no other unit; empty: the unit keeps nothing
  bool record_is_read = false;  // config.durable is what that record holds; otherwise it is read when the
                                // unit is opened
  // What AccessStateStore::keep() is to do, with the loop that `done` is called on; any shard's thread.
  // Empty: nobody remembers.
  std::function<void(runtime::Loop& loop, std::vector<scsi::PortGroup> groups, const std::string& initiator,
                     std::function<void(bool)> done)>
      keep_access_states;
};

// What one portal group says of itself, in the place of what its target says of all.
struct GroupRules {
  AuthSpec auth;
  AccessSpec access;
  std::optional<iscsi::WantedParams> params = std::nullopt;  // nullopt: the server's. FirstBurstLength: at
                                                             // most the server's
  std::string alias;
  bool open = true;    // false: it is as if the group were not there, but that a login hears of it (0301h);
                       // sessions in it end
  bool admits = true;  // false: no login (0301h); sessions go on
  // Discovery tells everybody of it, not only those who may come in; and while it is closed too.
  bool told_to_all = false;
  bool told_when_closed = false;
  std::optional<std::chrono::seconds> login_timeout = std::nullopt;  // nullopt: the server's
};

struct TargetSpec {
  std::string name;   // IQN, EUI or NAA, normal form
  std::string alias;
  std::vector<PortalGroup> portal_groups = {PortalGroup{}};
  AuthSpec auth;
  AccessSpec access;
  std::vector<UnitSpec> units;
  std::map<std::uint16_t, GroupRules> rules = {};  // by tag, of groups that do not follow the target's alias,
                                                   // auth and access
};

inline constexpr std::uint32_t max_shards = 64;  // threads of a server

struct ServerConfig {
  std::vector<runtime::Endpoint> portals;
  // Addresses of this host that a wildcard portal answers on, for SendTargets; the address asked for is
  // always listed.
  std::vector<runtime::Endpoint> host_addresses;
  std::shared_ptr<SpaceWatch> space_watch;  // outlives the targets; may be nullptr
  std::vector<TargetSpec> targets;
  std::vector<RedirectRule> redirects;
  AuthSpec discovery_auth;
  iscsi::WantedParams params;  // max_connections: at most limits::max_session_connections
  runtime::SocketOptions socket;
  std::shared_ptr<runtime::RecordWriter> records;        // for APTPL, saved mode pages …; may be nullptr
  std::shared_ptr<block::AtomicJournal> atomic_journal;  // for whoever opens backstores of this server; may
                                                         // be nullptr
  std::uint32_t command_window = limits::default_command_window;
  // Of BufferPool::page_size_bytes: 256 MiB, which are memory only where they have been used. The shards divide
  // them; none has fewer than smallest_buffer_pool_pages().
  std::uint32_t buffer_pages = 16384;
  // FirstBurstLength becomes smaller the more sessions there are, so that each can be promised the data of so
  // many commands; with the same for all, a few sessions would take what keeps the windows of the others open.
  // 0: it stays what it is.
  std::uint32_t promised_commands = 32;
  std::chrono::seconds login_timeout = limits::login_timeout;
  std::chrono::seconds ping_interval{15};  // of silence, then NOP-In; 0: never
  std::chrono::seconds ping_timeout{30};
  std::chrono::seconds logout_timeout{3};  // at shut-down, for initiators to log out by themselves; 0: they
                                           // are not asked
  std::chrono::seconds drain_timeout{10};  // after that, for commands in progress
};

// The smallest buffer pool a shard can work with: the largest command with its private memory, beside one
// command's unsolicited data.
[[nodiscard]] std::uint32_t smallest_buffer_pool_pages(const ServerConfig& config);
// The most that FirstBurstLength may be, in bytes, for the last of so many sessions: a power of two.
[[nodiscard]] std::uint32_t affordable_first_burst(const ServerConfig& config, std::uint32_t sessions);

}  // namespace perilune::target
