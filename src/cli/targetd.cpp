// SPDX-License-Identifier: Apache-2.0
// `perilune targetd`: the process around control::serving::TargetDaemon. The loops of the server run on this
// thread and its like, the daemon on a thread of its own, which may wait for a disk.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <thread>

#include "block/file_record_store.hpp"
#include "cli/background.hpp"
#include "cli/command_line.hpp"
#include "cli/host_addresses.hpp"
#include "cli/loop_options.hpp"
#include "cli/loop_signals.hpp"
#include "cli/loop_threads.hpp"
#include "cli/stderr_log.hpp"
#include "cli/targetd.hpp"
#include "cli/verbs.hpp"
#include "control/privilege/confine.hpp"
#include "control/privilege/privileges.hpp"
#include "control/serving/target_daemon.hpp"
#include "control/systemd.hpp"
#include "runtime/posix/thread.hpp"
#include "target/record_thread.hpp"
#include "target/server.hpp"

namespace perilune::cli {
namespace {

namespace systemd = control::systemd;
using control::privilege::Privileges;

// LIO's folder, whose file and backups an administrator looks for there.
constexpr const char* default_config_folder = "/etc/target";
constexpr const char* default_state_folder = "/var/lib/perilune/target";
// How long the end may take before what is left is given up.
constexpr std::chrono::seconds shut_down_limit{30};

// Where systemd has put the credentials of the unit.
std::string credentials_folder() {
  const char* const folder = std::getenv("CREDENTIALS_DIRECTORY");
  return folder == nullptr ? "" : folder;
}

struct TargetdOptions {
  std::string config_folder;
  std::string state_folder;
  std::string socket_path = control::ControlServer::default_path("targetd");
  std::string log_file;
  bool foreground = false;
  bool verbose = false;
  bool unfiltered = false;
  bool keep_privileges = false;
  std::string user;
  std::vector<std::string> backing_folders;
  std::uint32_t threads = 1;
  std::uint32_t buffer_mib = 256;
  runtime::Polling polling = runtime::Polling::adaptive;
  runtime::Runtime loop_kind = runtime::Runtime::automatic;
};

int complain(const Error& error) {
  fmt::print(stderr, "targetd: {}\n", error.message);
  return 1;
}

// LIO's targetcli leaves the folder that it saves to with mode 0600: root without capabilities cannot enter
// it, nor the user that the daemon has handed it to.
Status let_owner_enter(const std::string& path) {
  const control::Fd folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat info{};
  if (!folder) return {};  // a link: whose folder that is, is not ours to say
  if (::fstat(folder.get(), &info) != 0) return fail_errno(errno, path);
  if ((info.st_mode & S_IRWXU) == S_IRWXU) return {};
  if (::fchmod(folder.get(), (info.st_mode & 07777) | S_IRWXU) != 0 && errno != EPERM)
    return fail_errno(errno, path);
  return {};  // EPERM: it is another's, and only who is in need of it will tell
}

// Its owner's alone; folders on the way to it that are missing are everybody's to pass through, whatever the
// mask: the daemon may become another user.
Status make_folder(const std::string& path) {
  for (std::size_t slash = path.find('/', 1);; slash = path.find('/', slash + 1)) {
    const std::string part = path.substr(0, slash);
    const bool last = slash == std::string::npos;
    if (::mkdir(part.c_str(), 0700) == 0) {
      if (!last && ::chmod(part.c_str(), 0755) != 0) return fail_errno(errno, part);
    } else if (errno != EEXIST) {
      return fail_errno(errno, part);
    }
    if (last) return let_owner_enter(path);
  }
}

Result<target::ServerConfig> server_config(const TargetdOptions& options) {
  target::ServerConfig config;
  config.host_addresses = host_addresses();
  config.params.first_burst_length = 262144;
  config.params.max_burst_length = 1048576;
  config.params.max_connections = limits::default_session_connections;
  config.params.protocol_level = 2;
  config.params.task_reporting = {iscsi::TaskReporting::rfc3720, iscsi::TaskReporting::response_fence,
                                  iscsi::TaskReporting::fast_abort};
  config.buffer_pages = static_cast<std::uint32_t>(std::uint64_t{options.buffer_mib} * 1024 * 1024 /
                                                   BufferPool::page_size_bytes);
  config.space_watch = std::make_shared<target::SpaceWatch>();
  const std::string units = options.state_folder + "/units";  // reservations and saved pages
  if (Status status = make_folder(units); !status) return tl::unexpected(status.error());
  auto store = block::FileRecordStore::open(units);
  if (!store) return tl::unexpected(store.error());
  config.records = std::make_shared<target::RecordThread>(std::move(*store));
  auto journal = block::AtomicJournal::open(units);  // the store has locked the folder
  if (!journal) return tl::unexpected(journal.error());
  config.atomic_journal = std::move(*journal);
  return config;
}

class Process {
 public:
  Process(const TargetdOptions& options, const Privileges& privileges, StartReport& report)
      : options_(options),
        privileges_(privileges),
        report_(report),
        log_(options.verbose ? EventLog::Level::debug : EventLog::Level::info),
        tap_(log_),
        serving_("Serving; control socket " + options.socket_path) {}

  int run() {
    LoopSignals signals{SIGTERM, SIGINT, SIGHUP};
    runtime::LoopOptions loop_options;
    loop_options.polling = options_.polling;
    loop_options.access = privileges_.access();
    loop_options.notice = [this](std::string_view line) {
      log_.event(EventLog::Level::warning, "reactor", line);
    };
    privileges_.tell(log_);
    auto loops = LoopThreads::create(options_.threads, options_.loop_kind, loop_options);
    if (!loops) return refuse(loops.error());
    auto config = server_config(options_);
    if (!config) return refuse(config.error());
    auto server = target::Server::create((*loops)->all(), std::move(*config), tap_);
    if (!server) return refuse(server.error());
    control::privilege::confine_server(!options_.unfiltered, log_);
    if (Status status = (*server)->start(); !status) return refuse(status.error());
    control::serving::TargetDaemon daemon({.config_folder = options_.config_folder,
                                           .state_folder = options_.state_folder,
                                           .socket_path = options_.socket_path,
                                           .version = PERILUNE_VERSION,
                                           .front_ends = target_front_ends(),
                                           .credentials_folder = credentials_folder(),
                                           .access = privileges_.access()},
                                          **server, (*loops)->first(), log_, tap_);
    runtime::Loop& first = (*loops)->first();
    runtime::Timer limit(first.timers(), Delegate<void()>::to<&Process::give_up>(*this));
    loops_ = loops->get();
    const Status watched = signals.watch(first, [&](const signalfd_siginfo& signal) {
      if (signal.ssi_signo == SIGHUP) {
        systemd::tell_reloading("Looking at the sizes of all backings, and reading secrets again");
        return daemon.reload([&] { systemd::tell_ready(serving_); });
      }
      systemd::tell_stopping("Initiators are asked to log out");
      limit.arm(first.now() + shut_down_limit);
      daemon.stop();
    });
    if (!watched) return refuse(watched.error());
    std::optional<systemd::Watchdog> watchdog;
    if (const auto silence = systemd::watchdog_limit()) watchdog.emplace((*loops)->all(), *silence);
    std::thread control = runtime::posix::start_without_signals([&] {
      const Status status = daemon.run([&] {
        log_.event(EventLog::Level::info, "ready", fmt::format("socket={}", options_.socket_path));
        systemd::tell_ready(serving_);
        if (watchdog) watchdog->start();
        report_.ready();
      });
      if (!status) exit_code_ = refuse(status.error());
      first.post([&] {
        (*server)->stop([&](const Status& flushed) {
          if (!flushed) exit_code_ = complain(flushed.error());
          loops_->stop();
        });
      });
    });
    loops_->run();
    control.join();
    signals.end();
    log_.event(EventLog::Level::info, "ended", "");
    return exit_code_;
  }

 private:
  int refuse(const Error& error) {
    report_.failed(error);
    return complain(error);
  }
  // Commands are left that do not end: nothing may be taken apart under them.
  void give_up() {
    log_.event(EventLog::Level::error, "given_up", "commands are in progress that do not end");
    ::_exit(1);
  }

  const TargetdOptions& options_;
  const Privileges& privileges_;
  StartReport& report_;
  StderrLog log_;
  control::serving::EventTap tap_;
  const std::string serving_;  // what the service manager shows
  LoopThreads* loops_ = nullptr;
  int exit_code_ = 0;
};

// What root's daemon gives up, and to whom. `--backing-folder` takes the place of the helper's own list, but
// for the devices.
Result<Privileges> give_up_privileges(const TargetdOptions& options) {
  control::privilege::PrivilegeOptions how;
  how.keep = options.keep_privileges;
  how.user = options.user;
  how.credentials = credentials_folder();
  how.own_folders = {options.config_folder, options.state_folder};
  how.shared_folder = folder_of(options.socket_path);
  how.shared_files = {options.socket_path, options.socket_path + ".lock"};
  if (!options.backing_folders.empty()) how.roots = {std::string(control::privilege::device_root)};
  for (std::string folder : options.backing_folders) {
    while (folder.ends_with('/')) folder.pop_back();
    if (!folder.starts_with('/'))
      return fail(Errc::invalid_argument, "--backing-folder: an absolute path below / is needed");
    how.roots.push_back(std::move(folder));
  }
  return Privileges::give_up(how);
}

int run(TargetdOptions options) {
  const char* given = std::getenv("PERILUNE_CONFIG");
  const bool own_folder = !options.config_folder.empty() || (given != nullptr && *given != '\0');
  if (options.config_folder.empty()) options.config_folder = own_folder ? given : default_config_folder;
  if (options.state_folder.empty())
    options.state_folder = own_folder ? options.config_folder + "/state" : default_state_folder;
  if (options.log_file.empty()) options.log_file = folder_of(options.socket_path) + "/targetd.log";
  for (const std::string& folder :
       {options.config_folder, options.state_folder, folder_of(options.socket_path)}) {
    if (Status status = make_folder(folder); !status) return complain(status.error());
  }
  int report_fd = -1;
  if (!options.foreground) {
    if (const auto code = go_to_background("targetd", options.log_file, report_fd)) return *code;
  }
  StartReport report(report_fd);
  const auto privileges = give_up_privileges(options);
  if (!privileges) {
    report.failed(privileges.error());
    return complain(privileges.error());
  }
  Process process(options, *privileges, report);
  return process.run();
}

}  // namespace

int run_targetd(int argc, char** argv) {
  CLI::App app{"The target daemon: serves the disks that targetcli and tgtadm configure, until SIGTERM.",
               argv[0]};
  TargetdOptions options;
  app.add_option("-c,--config", options.config_folder,
                 fmt::format("folder of saveconfig.json and its backups (PERILUNE_CONFIG; default: {})",
                             default_config_folder));
  app.add_option("--state", options.state_folder,
                 fmt::format("folder of the journal, of reservations and saved pages (default: {}; "
                             "CONFIG/state where CONFIG is given)",
                             default_state_folder));
  app.add_option("-s,--socket", options.socket_path, "control socket (PERILUNE_SOCKET)")
      ->capture_default_str();
  app.add_flag("-f,--foreground", options.foreground, "stay in the foreground, log to stderr");
  app.add_option("-l,--log", options.log_file,
                 "log of a daemon in the background (default: targetd.log beside the socket)");
  app.add_option("--threads", options.threads, "threads that serve sessions, each session on one of them")
      ->check(CLI::Range(1, int{target::max_shards}))
      ->capture_default_str();
  app.add_option("--buffers", options.buffer_mib, "MiB of memory for data under way")
      ->check(CLI::Range(16, 65536))
      ->capture_default_str();
  add_polling_option(app, options.polling,
                     "never: sleep until there is work; adaptive: spin for a moment while requests "
                     "keep coming; always: never sleep");
  add_runtime_option(app, options.loop_kind);
  app.add_option("--user", options.user, "become this user; what only root may do a small helper does");
  app.add_option("--backing-folder", options.backing_folders,
                 "the helper opens files below this folder, and not below /srv, /mnt, /home and the like; "
                 "again for more")
      ->allow_extra_args(false);
  app.add_flag("--keep-privileges", options.keep_privileges, "keep all rights that it is started with");
  app.add_flag("--no-seccomp", options.unfiltered, "do not have the kernel filter system calls");
  app.add_flag("--verbose", options.verbose, "log more");
  bool version = false;
  app.add_flag("-v,--version", version, "show the version");
  if (const auto code = parse_arguments(app, argc, argv, 2)) return *code;
  if (version) return run_version(argc, argv);
  return run(std::move(options));
}

}  // namespace perilune::cli
