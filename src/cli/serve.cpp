// SPDX-License-Identifier: Apache-2.0
// `perilune serve`: a target from the command line, without configuration files.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>

#include "base/recovery_limits.hpp"
#include "block/atomic_journal.hpp"
#include "block/file_record_store.hpp"
#include "block/open_backstore.hpp"
#include "cli/command_line.hpp"
#include "cli/host_addresses.hpp"
#include "cli/loop_options.hpp"
#include "cli/loop_signals.hpp"
#include "cli/loop_threads.hpp"
#include "cli/serve_media.hpp"
#include "cli/serve_portals.hpp"
#include "cli/serve_reload.hpp"
#include "cli/stderr_log.hpp"
#include "cli/verbs.hpp"
#include "control/privilege/confine.hpp"
#include "crypto/hash.hpp"
#include "iscsi/names/names.hpp"
#include "passthrough/open_device.hpp"
#include "target/record_thread.hpp"
#include "target/server.hpp"

namespace perilune::cli {

namespace {

struct ServeOptions {
  std::vector<std::string> portals = {"127.0.0.1:3260"};
  std::string target;
  std::string alias;
  bool read_only = false;
  bool thick = false;
  bool encrypt = false;
  bool removable = false;
  bool unrestricted = false;
  std::optional<unsigned> protection;  // the type; 0: there is room, and none yet
  bool verbose = false;
  bool unfiltered = false;
  bool quiet = false;
  std::uint32_t block_size = 512;
  std::uint32_t physical_block_size = 0;
  std::uint32_t threads = 1;
  std::uint16_t max_connections = limits::default_session_connections;
  std::uint16_t error_recovery_level = 0;
  runtime::Polling polling = runtime::Polling::adaptive;
  runtime::Runtime loop_kind = runtime::Runtime::automatic;
  std::uint32_t login_timeout_s = static_cast<std::uint32_t>(limits::login_timeout.count());
  std::uint32_t logout_timeout_s = 3;
  std::string chap_user, chap_secret_file, mutual_user, mutual_secret_file;
  std::string discovery_user, discovery_secret_file, discovery_mutual_user, discovery_mutual_secret_file;
  std::vector<std::string> redirects, permanent_redirects;  // [PORTAL=]ADDRESS
  std::string state_folder;
  std::string port_groups_file;
  std::vector<std::string> backings;
};

// Exit codes: 1 something failed while running or starting, 2 wrong usage.
int complain(const Error& error) {
  fmt::print(stderr, "perilune serve: {}\n", error.message);
  return error.code == Errc::invalid_argument ? 2 : 1;
}

std::string read_small_file(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The secret is the file's first line. A file that others may read is refused: it is no secret any more.
Result<crypto::Secret> read_secret(const std::string& path) {
  std::error_code error;
  const auto status = std::filesystem::status(path, error);
  if (error) return fail(Errc::not_found, fmt::format("{}: {}", path, error.message()));
  using std::filesystem::perms;
  if ((status.permissions() &
       (perms::group_read | perms::others_read | perms::group_write | perms::others_write)) != perms::none) {
    return fail(Errc::permission, fmt::format("{}: others may read this secret; chmod 600 it", path));
  }
  std::ifstream file(path);
  std::string line;
  if (!std::getline(file, line))
    return fail(Errc::invalid_argument, fmt::format("{}: empty or unreadable", path));
  if (!line.empty() && line.back() == '\r') line.pop_back();
  crypto::Secret secret(line);
  crypto::wipe({reinterpret_cast<std::uint8_t*>(line.data()), line.size()});
  return secret;
}

Result<target::AuthSpec> read_auth(std::string_view option, const std::string& user,
                                   const std::string& secret_file, const std::string& mutual_user,
                                   const std::string& mutual_secret_file) {
  target::AuthSpec auth;
  if (user.empty() != secret_file.empty()) {
    return fail(Errc::invalid_argument, fmt::format("--{0}-user and --{0}-secret-file go together", option));
  }
  if (mutual_user.empty() != mutual_secret_file.empty()) {
    return fail(Errc::invalid_argument,
                fmt::format("--mutual-{0}-user and --mutual-{0}-secret-file go together", option));
  }
  if (user.empty()) {
    if (!mutual_user.empty())
      return fail(Errc::invalid_argument, fmt::format("--mutual-{0}-user needs --{0}-user too", option));
    return auth;
  }
  auto secret = read_secret(secret_file);
  if (!secret) return tl::unexpected(secret.error());
  iscsi::ChapCredentials account{user, std::move(*secret)};
  if (Status status = iscsi::check_chap(account); !status) return tl::unexpected(status.error());
  if (!mutual_user.empty()) {
    auto mutual = read_secret(mutual_secret_file);
    if (!mutual) return tl::unexpected(mutual.error());
    auth.target_account = iscsi::ChapCredentials{mutual_user, std::move(*mutual)};
    if (Status status = iscsi::check_chap(account, *auth.target_account); !status)
      return tl::unexpected(status.error());
  }
  auth.accounts.push_back(std::move(account));
  return auth;
}

Result<scsi::UnitIdentity> identity_of(const std::string& backing) {
  const std::string machine = read_small_file("/etc/machine-id");
  auto digest =
      crypto::hash(crypto::HashAlgorithm::sha256,
                   {as_bytes(machine), as_bytes(std::string_view("\0unit\0", 6)), as_bytes(backing)});
  if (!digest) return tl::unexpected(digest.error());
  return scsi::UnitIdentity::from_id(load_be64(digest->data.data()) >> 4);
}

Result<std::string> target_name(const ServeOptions& options, const std::string& first_identity) {
  if (!options.target.empty()) {
    auto name = iscsi::normalize_name(options.target);
    if (!name) return fail(Errc::invalid_argument, fmt::format("--target: {}", name.error().message));
    return name;
  }
  char host[256] = {};
  if (::gethostname(host, sizeof host - 1) != 0) host[0] = '\0';
  const std::string machine = read_small_file("/etc/machine-id");
  return iscsi::default_name(host, as_bytes(machine), first_identity);
}

constexpr std::string_view disc_prefix = "cd:";
constexpr std::string_view device_prefix = "pscsi:";

// pscsi:PATH is that SCSI device itself.
Result<target::UnitSpec> open_real_device(const ServeOptions& options, std::string_view path) {
  auto device = passthrough::open_device(
      std::string(path), {.read_only = options.read_only, .unrestricted = options.unrestricted});
  if (!device) return tl::unexpected(device.error());
  target::UnitSpec unit;
  unit.config.read_only = options.read_only;
  unit.device = std::move(*device);
  return unit;
}

const std::string& identity_text(const target::UnitSpec& unit) {
  return unit.device != nullptr ? unit.device->identity() : unit.backstore->identity();
}

std::string describe(const target::UnitSpec& unit) {
  return unit.device != nullptr ? unit.device->describe() : unit.backstore->describe();
}

// How the file behind a BACKING is opened.
block::BackstoreOptions how_to_open(const ServeOptions& options, bool disc) {
  if (disc) return {.block_size_bytes = 2048, .read_only = true};
  return {.block_size_bytes = options.block_size,
          .protection_bytes = options.protection ? 8u : 0u,
          .physical_block_bytes = options.physical_block_size,
          .read_only = options.read_only,
          .thick = options.thick,
          .encrypted = options.encrypt,
          .key_folder = options.state_folder};
}

bool is_path(std::string_view backing) {
  return !backing.starts_with("ram:") && !backing.starts_with("null:");
}

// What one BACKING becomes: cd:PATH a drive with that disc in it, pscsi:PATH a real device, everything else a
// disk.
Result<target::UnitSpec> open_unit(const ServeOptions& options, std::string_view text,
                                   const std::shared_ptr<block::AtomicJournal>& journal) {
  target::UnitSpec unit;
  if (text.starts_with(device_prefix)) {
    auto real = open_real_device(options, text.substr(device_prefix.size()));
    if (!real) return tl::unexpected(real.error());
    auto named = identity_of(identity_text(*real));
    if (!named) return tl::unexpected(named.error());
    real->config.identity = std::move(*named);
    return real;
  }
  const bool disc = text.starts_with(disc_prefix);
  block::BackstoreOptions how = how_to_open(options, disc);
  if (disc) {
    text.remove_prefix(disc_prefix.size());
    unit.config.type = scsi::DeviceType::cd_dvd;
    unit.config.identity.product = "VIRTUAL-CDROM";
  } else {
    unit.config.protection_type = static_cast<scsi::ProtectionType>(options.protection.value_or(0));
    unit.config.removable = options.removable;
    if (!options.removable)
      how.atomic_journal = journal;  // what a unit offers does not change with its medium
  }
  unit.config.read_only = how.read_only;
  auto backstore = block::open_backstore(text, how);
  if (!backstore) return tl::unexpected(backstore.error());
  unit.backstore = std::move(*backstore);
  auto identity = identity_of(unit.backstore->identity());
  if (!identity) return tl::unexpected(identity.error());
  identity->product = unit.config.identity.product;
  unit.config.identity = std::move(*identity);
  return unit;
}

// What the operator can change the medium of: a drive, and a removable disk that is a file.
Result<std::optional<MediumFile>> open_medium_file(const ServeOptions& options, const target::UnitSpec& unit,
                                                   std::string_view text) {
  const bool disc = text.starts_with(disc_prefix);
  if (disc) text.remove_prefix(disc_prefix.size());
  if (unit.backstore == nullptr || !(disc || options.removable) || !is_path(text))
    return std::optional<MediumFile>();
  auto file = MediumFile::open(unit.lun, std::string(text), how_to_open(options, disc));
  if (!file) return tl::unexpected(file.error());
  return std::optional(std::move(*file));
}

// Where the units keep reservations and saved pages. Made where it is missing, so that it need not be thought
// of before.
Result<std::shared_ptr<runtime::RecordWriter>> open_state(const std::string& folder) {
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return fail_errno(errno, folder);
  auto store = block::FileRecordStore::open(folder);
  if (!store) return tl::unexpected(store.error());
  return std::make_shared<target::RecordThread>(std::move(*store));
}

// The name of a unit's record; empty for one that is another at every start (ram:, null:), or is never
// written to (cd:), and so has nothing to keep.
Result<std::string> record_name(const std::string& backing, const scsi::UnitIdentity& identity,
                                const std::vector<target::UnitSpec>& others) {
  if (backing.starts_with("ram:") || backing.starts_with("null:") || backing.starts_with(disc_prefix))
    return std::string();
  std::string name = "unit-" + identity.serial;
  for (const target::UnitSpec& other : others) {
    if (other.record == name)
      return fail(Errc::invalid_argument, fmt::format("--state: {} is served twice", backing));
  }
  return name;
}

struct Configured {
  target::ServerConfig server;
  std::optional<PortGroupsOption> port_groups;
  std::vector<MediumFile> media;
};

Result<Configured> make_config(const ServeOptions& options) {
  Configured result;
  target::ServerConfig& config = result.server;
  auto portals = read_portals(options.portals);
  if (!portals) return tl::unexpected(portals.error());
  config.portals = portals->endpoints;
  for (const bool permanent : {false, true}) {
    const std::string_view option = permanent ? "--redirect-permanently" : "--redirect";
    for (const std::string& text : permanent ? options.permanent_redirects : options.redirects) {
      auto rule = read_redirect(option, text, permanent, *portals);
      if (!rule) return tl::unexpected(rule.error());
      config.redirects.push_back(std::move(*rule));
    }
  }
  config.host_addresses = host_addresses();
  config.params.first_burst_length = 262144;
  config.params.max_burst_length = 1048576;
  config.params.default_time2retain =
      options.error_recovery_level == 2 ? limits::default_time2retain_s : std::uint16_t{0};
  config.params.max_connections = options.max_connections;
  config.params.error_recovery_level = static_cast<std::uint8_t>(options.error_recovery_level);
  config.params.protocol_level = 2;
  config.params.task_reporting = {iscsi::TaskReporting::rfc3720, iscsi::TaskReporting::response_fence,
                                  iscsi::TaskReporting::fast_abort};
  config.login_timeout = std::chrono::seconds(options.login_timeout_s);
  config.logout_timeout = std::chrono::seconds(options.logout_timeout_s);

  target::TargetSpec spec;
  spec.alias = options.alias;
  spec.portal_groups = portals->groups;
  if (!options.port_groups_file.empty()) {
    auto groups = PortGroupsOption::open(options.port_groups_file, spec.portal_groups);
    if (!groups)
      return fail(groups.error().code, fmt::format("--port-groups: {}", groups.error().message),
                  groups.error().os_errno);
    result.port_groups = std::move(*groups);
  }
  auto auth = read_auth("chap", options.chap_user, options.chap_secret_file, options.mutual_user,
                        options.mutual_secret_file);
  if (!auth) return tl::unexpected(auth.error());
  spec.auth = std::move(*auth);
  auto discovery = read_auth("discovery-chap", options.discovery_user, options.discovery_secret_file,
                             options.discovery_mutual_user, options.discovery_mutual_secret_file);
  if (!discovery) return tl::unexpected(discovery.error());
  config.discovery_auth = std::move(*discovery);

  if (!options.state_folder.empty()) {
    auto records = open_state(options.state_folder);
    if (!records) {
      return fail(Errc::io, fmt::format("--state: {}", records.error().message), records.error().os_errno);
    }
    config.records = std::move(*records);
    auto journal = block::AtomicJournal::open(options.state_folder);
    if (!journal)
      return fail(journal.error().code, fmt::format("--state: {}", journal.error().message),
                  journal.error().os_errno);
    config.atomic_journal = std::move(*journal);
  }
  config.space_watch = std::make_shared<target::SpaceWatch>();
  std::string first_identity;
  for (const std::string& text : options.backings) {
    auto unit = open_unit(options, text, config.atomic_journal);
    if (!unit) return tl::unexpected(unit.error());
    unit->lun = static_cast<std::uint16_t>(spec.units.size());
    if (result.port_groups) unit->config.port_groups = result.port_groups->initial();
    if (config.records != nullptr) {
      auto record = record_name(text, unit->config.identity, spec.units);
      if (!record) return tl::unexpected(record.error());
      unit->record = std::move(*record);
    }
    if (first_identity.empty()) first_identity = text.rfind("ram:", 0) == 0 ? text : identity_text(*unit);
    auto medium = open_medium_file(options, *unit, text);
    if (!medium) return tl::unexpected(medium.error());
    if (*medium) result.media.push_back(std::move(**medium));
    if (unit->backstore != nullptr && !unit->config.read_only)
      unit->space = config.space_watch->watch(unit->backstore);
    spec.units.push_back(std::move(*unit));
  }
  auto name = target_name(options, first_identity);
  if (!name) return tl::unexpected(name.error());
  spec.name = std::move(*name);
  config.targets.push_back(std::move(spec));
  return result;
}

void announce(const ServeOptions& options, const target::Server& server, const std::string& name) {
  for (runtime::Endpoint portal : server.bound_portals()) {
    if (portal.is_wildcard()) {
      portal.address = {};
      if (portal.is_ipv6) portal.address[15] = 1;
      else portal.address = {127, 0, 0, 1};
    }
    for (std::size_t lun = 0; lun < options.backings.size(); ++lun) {
      fmt::print("iscsi://{}/{}/{}\n", portal.to_string(), name, lun);
    }
  }
  fmt::print("ready\n");
  std::fflush(stdout);
}

int serve(const ServeOptions& options) {
  auto config = make_config(options);
  if (!config) return complain(config.error());
  const std::string name = config->server.targets.front().name;
  StderrLog log(options.verbose ? EventLog::Level::debug
                : options.quiet ? EventLog::Level::error
                                : EventLog::Level::info);
  for (const target::UnitSpec& unit : config->server.targets.front().units) {
    log.event(EventLog::Level::info, "unit", fmt::format("lun={} {}", unit.lun, describe(unit)));
  }
  runtime::LoopOptions loop_options;
  loop_options.polling = options.polling;
  loop_options.notice = [&log](std::string_view line) {
    log.event(EventLog::Level::warning, "reactor", line);
  };
  auto loops = LoopThreads::create(options.threads, options.loop_kind, loop_options);
  if (!loops) return complain(loops.error());
  auto server = target::Server::create((*loops)->all(), std::move(config->server), log);
  if (!server) return complain(server.error());

  int exit_code = 0;
  const auto stop = [&] {
    (*server)->stop([&](Status status) {
      if (!status) exit_code = complain(status.error());
      (*loops)->stop();
    });
  };
  Reload reload(**server, 0, (*loops)->first(), config->port_groups ? &*config->port_groups : nullptr,
                std::move(config->media), log);
  LoopSignals signals{SIGTERM, SIGINT, SIGHUP};
  // A hang-up that comes from the kernel is that of the terminal, and stops; one that somebody sends asks to
  // read again what may have changed.
  const Status watched = signals.watch((*loops)->first(), [&](const signalfd_siginfo& signal) {
    const bool told = signal.ssi_signo == SIGHUP && signal.ssi_code != SI_KERNEL;
    if (told) reload.look();
    else stop();
  });
  if (!watched) return complain(watched.error());
  control::privilege::confine_server(!options.unfiltered, log);
  if (Status status = (*server)->start(); !status) return complain(status.error());
  announce(options, **server, name);
  (*loops)->run();
  return exit_code;
}

}  // namespace

int run_serve(int argc, char** argv) {
  ServeOptions options;
  CLI::App app(
      "Serve disks as an iSCSI target until SIGTERM.\n"
      "BACKING is a file or block device, ram:SIZE or null:SIZE (SIZE with K, M, G, T), cd:PATH for a CD or "
      "DVD drive\n"
      "with that image in it, or pscsi:PATH for a SCSI device that gets the commands itself (/dev/sgN, "
      "/dev/sdX,\n"
      "/dev/bsg/H:C:T:L); they become LUN 0, 1, ...",
      "perilune serve");
  app.add_option("BACKING", options.backings, "what to serve")->required();
  app.add_option("--portal", options.portals,
                 "ADDRESS:PORT[,TAG]: where to listen, and in which portal group (1 to 65535; default 1); "
                 "again for more; "
                 "port 0 picks a free one")
      ->allow_extra_args(false)
      ->capture_default_str();
  app.add_option(
      "--port-groups", options.port_groups_file,
      "file with the access states of the portal groups (ALUA), read again at SIGHUP; a line each: TAG "
      "optimized|nonoptimized|standby|unavailable|offline|transitioning [preferred], or explicit yes|no");
  app.add_option("--target", options.target,
                 "iSCSI name of the target; default: derived from this machine and the first BACKING");
  app.add_option("--alias", options.alias, "a name for people");
  app.add_flag("--read-only", options.read_only, "refuse writes");
  app.add_flag("--thick", options.thick,
               "allocate all space at the start and never give any back (default: thin)");
  app.add_option("--protection", options.protection,
                 "room for protection information, formatted as type 1, 2 or 3 (0: none until FORMAT UNIT)")
      ->check(CLI::Range(0, 3));
  app.add_flag("--removable", options.removable, "disks whose medium initiators may lock, eject and load");
  app.add_flag(
      "--unrestricted", options.unrestricted,
      "pscsi: devices get commands too that can ruin them or take them away for hours (see the manual page)");
  app.add_option("--block-size", options.block_size, "logical block size in bytes")
      ->check(CLI::IsMember({512, 4096}))
      ->capture_default_str();
  app.add_option("--physical-block-size", options.physical_block_size,
                 "physical block size that disks tell of, in bytes; default: what the backing has")
      ->check(CLI::IsMember({512, 1024, 2048, 4096, 8192, 16384, 32768, 65536}));
  app.add_option("--threads", options.threads, "threads that serve sessions, each session on one of them")
      ->check(CLI::Range(1, int{target::max_shards}))->capture_default_str();
  app.add_option("--state", options.state_folder,
                 "folder for what disks keep over restarts: reservations with APTPL, saved mode pages, "
                 "identifying information; "
                 "files are written to atomically (WRITE ATOMIC) through a journal in it");
  app.add_flag("--encrypt", options.encrypt,
               "keep what is stored encrypted (AES-256-XTS), from an empty disk on; its key is in the folder "
               "of --state")
      ->needs("--state")
      ->excludes("--removable");
  app.add_option("--max-connections", options.max_connections, "connections that one session may have")
      ->check(CLI::Range(1, int{limits::max_session_connections}))->capture_default_str();
  app.add_option("--error-recovery-level", options.error_recovery_level,
                 "the most an initiator may have: 1: lost or damaged data and status are sent again; "
                 "2: tasks outlive their connection for 20 s")
      ->check(CLI::Range(0, 2))->capture_default_str();
  app.add_option("--login-timeout", options.login_timeout_s, "seconds a connection may take to log in")
      ->check(CLI::Range(1, 300))->capture_default_str();
  app.add_option("--logout-timeout", options.logout_timeout_s,
                 "seconds that initiators get to log out when the server ends; 0: none")
      ->check(CLI::Range(0, 3600))
      ->capture_default_str();
  app.add_option("--redirect", options.redirects,
                 "[PORTAL=]ADDRESS: send logins (through PORTAL) to ADDRESS for now, again for more")
      ->allow_extra_args(false);
  app.add_option("--redirect-permanently", options.permanent_redirects, "the same for good")
      ->allow_extra_args(false);
  app.add_option("--chap-user", options.chap_user, "initiators log in with this name (CHAP)");
  app.add_option("--chap-secret-file", options.chap_secret_file,
                 "file (mode 0600) whose first line is the secret, 12 to 255 bytes");
  app.add_option("--mutual-chap-user", options.mutual_user, "the name by which the target proves itself");
  app.add_option("--mutual-chap-secret-file", options.mutual_secret_file, "and its secret");
  app.add_option("--discovery-chap-user", options.discovery_user, "the same for discovery sessions");
  app.add_option("--discovery-chap-secret-file", options.discovery_secret_file);
  app.add_option("--mutual-discovery-chap-user", options.discovery_mutual_user);
  app.add_option("--mutual-discovery-chap-secret-file", options.discovery_mutual_secret_file);
  add_polling_option(app, options.polling,
                     "never: sleep until there is work; adaptive: spin for a moment while requests "
                     "keep coming; always: never sleep");
  add_runtime_option(app, options.loop_kind);
  app.add_flag("--no-seccomp", options.unfiltered, "do not have the kernel filter system calls");
  app.add_flag("-v,--verbose", options.verbose, "log more");
  app.add_flag("-q,--quiet", options.quiet, "log errors only");
  if (const auto code = parse_arguments(app, argc, argv, 2)) return *code;
  return serve(options);
}

}  // namespace perilune::cli
