// SPDX-License-Identifier: Apache-2.0
// `perilune iscsid`: the process around control::InitiatorDaemon. What it needs from disk is read before the
// loop runs, because the loop serves disks and must never wait for one.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include "cli/background.hpp"
#include "cli/command_line.hpp"
#include "cli/loop_signals.hpp"
#include "cli/verbs.hpp"
#include "control/iscsid/initiator_daemon.hpp"
#include "control/record_db.hpp"
#include "control/server.hpp"
#include "control/systemd.hpp"
#include "runtime/native/native_loop.hpp"

namespace perilune::cli {
namespace {

namespace systemd = control::systemd;

// How long the end may take before what is left is given up.
constexpr std::chrono::seconds shut_down_limit{30};

struct IscsidOptions {
  std::string config_root = control::RecordDb::default_root();
  std::string socket_path = control::ControlServer::default_path();
  std::string pid_file;
  std::string log_file;
  bool foreground = false;
  bool no_pid_file = false;
};

void log_line(std::string_view text) {
  // The journal has its own clock.
  if (std::getenv("JOURNAL_STREAM") != nullptr) {
    fmt::print(stderr, "iscsid: {}\n", text);
    return;
  }
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  char stamp[32] = "";
  if (::gmtime_r(&now, &parts) != nullptr) std::strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%SZ", &parts);
  fmt::print(stderr, "{} iscsid: {}\n", stamp, text);
}

int complain(const Error& error) {
  fmt::print(stderr, "iscsid: {}\n", error.message);
  return 1;
}

// What the daemon takes from disk.
struct Startup {
  control::DaemonOptions options;
  std::vector<config::Record> automatic;
};

Result<Startup> load(const std::string& root) {
  const control::RecordDb db(root);
  const auto conf = db.load_conf();
  if (!conf) return tl::unexpected(conf.error());
  for (const std::string& warning : conf->warnings) log_line("iscsid.conf: " + warning);
  auto name = db.load_or_create_initiator_name();
  if (!name) return tl::unexpected(name.error());
  Startup startup;
  startup.options.initiator_name = name->name;
  startup.options.initiator_alias = name->alias;
  startup.options.safe_logout = conf->safe_logout;
  const auto keys = db.list_nodes();
  if (!keys) return tl::unexpected(keys.error());
  for (const config::NodeKey& key : *keys) {
    auto node = db.read_node(key);
    if (!node) log_line(fmt::format("cannot read the record of {}: {}", key.target, node.error().message));
    else if (node->get("node.startup") == "automatic") startup.automatic.push_back(std::move(*node));
  }
  return startup;
}

class Process {
 public:
  Process(const IscsidOptions& options, StartReport& report) : options_(options), report_(report) {}

  int run(Startup startup) {
    LoopSignals signals{SIGTERM, SIGINT};
    std::signal(SIGHUP, SIG_IGN);
    runtime::LoopOptions loop_options;
    loop_options.device_commands = true;  // ublk
    loop_options.notice = [](std::string_view line) { log_line(line); };
    auto loop = runtime::make_native_loop(runtime::Runtime::automatic, loop_options);
    if (!loop) return refuse(loop.error());
    loop_ = loop->get();
    runtime::Timer limit(loop_->timers(), Delegate<void()>::to<&Process::give_up>(*this));
    limit_ = &limit;
    std::optional<systemd::Watchdog> watchdog;
    if (const auto silence = systemd::watchdog_limit())
      watchdog.emplace(std::vector<runtime::Loop*>{loop_}, *silence);
    int code = 0;
    {
      control::InitiatorDaemon daemon(*loop_, startup.options, log_line, [this] { begin_end("a request"); });
      daemon_ = &daemon;
      auto server = control::ControlServer::start(options_.socket_path, daemon.handler());
      if (!server) return refuse(server.error());
      if (const auto written = write_pid_file(); !written) return refuse(written.error());
      const Status watched = signals.watch(*loop_, [this](const signalfd_siginfo& signal) {
        begin_end(signal.ssi_signo == SIGINT ? "SIGINT" : "SIGTERM");
      });
      if (!watched) return refuse(watched.error());
      log_line(fmt::format("ready on {} as {}", options_.socket_path, startup.options.initiator_name));
      systemd::tell_ready(fmt::format("Initiator {}; control socket {}", startup.options.initiator_name,
                                      options_.socket_path));
      if (watchdog) watchdog->start();
      report_.ready();
      for (const config::Record& node : startup.automatic) daemon.login_in_background(node);
      loop_->run();
      signals.end();
      server->reset();
      if (!daemon.idle()) {
        // Sessions are left that do not end: their objects must not be taken apart while the kernel works on
        // them.
        log_line("ending with sessions that do not end");
        remove_pid_file();
        ::_exit(1);
      }
    }
    remove_pid_file();
    log_line("ended");
    return code;
  }

 private:
  int refuse(const Error& error) {
    report_.failed(error);
    return complain(error);
  }

  void begin_end(std::string_view why) {
    if (ending_) return give_up();  // asked twice: now
    ending_ = true;
    log_line(fmt::format("ending ({})", why));
    systemd::tell_stopping("Logging out");
    limit_->arm(loop_->now() + shut_down_limit);
    daemon_->shut_down([this] { loop_->stop(); });
  }

  void give_up() { loop_->stop(); }

  Status write_pid_file() {
    if (options_.no_pid_file) return {};
    const control::Fd folder(
        ::open(folder_of(options_.pid_file).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!folder.valid()) return fail_errno(errno, "cannot open folder " + folder_of(options_.pid_file));
    const std::string name = options_.pid_file.substr(options_.pid_file.rfind('/') + 1);
    return control::write_file(folder.get(), name, fmt::format("{}\n", ::getpid()), 0644);
  }
  void remove_pid_file() {
    if (!options_.no_pid_file) ::unlink(options_.pid_file.c_str());
  }

  const IscsidOptions& options_;
  StartReport& report_;
  runtime::ThreadLoop* loop_ = nullptr;
  control::InitiatorDaemon* daemon_ = nullptr;
  runtime::Timer* limit_ = nullptr;
  bool ending_ = false;
};

int run(const IscsidOptions& options) {
  auto startup = load(options.config_root);
  if (!startup) return complain(startup.error());
  int report_fd = -1;
  if (!options.foreground) {
    ::mkdir(folder_of(options.socket_path).c_str(), 0755);
    if (const auto code = go_to_background("iscsid", options.log_file, report_fd)) return *code;
  }
  StartReport report(report_fd);
  Process process(options, report);
  return process.run(std::move(*startup));
}

}  // namespace

int run_iscsid(int argc, char** argv) {
  CLI::App app{
      "The initiator daemon: holds the sessions of iscsiadm and serves their disks as block devices.",
      argv[0]};
  IscsidOptions options;
  app.add_option("-c,--config", options.config_root, "folder of the records (PERILUNE_CONFIG)")
      ->capture_default_str();
  app.add_option("-s,--socket", options.socket_path, "control socket (PERILUNE_SOCKET)")
      ->capture_default_str();
  app.add_flag("-f,--foreground", options.foreground, "stay in the foreground, log to stderr");
  app.add_option("-p,--pid", options.pid_file, "pid file (default: iscsid.pid beside the socket)");
  app.add_flag("-n,--no-pid-file", options.no_pid_file, "write no pid file");
  app.add_option("-l,--log", options.log_file,
                 "log of a daemon in the background (default: iscsid.log beside the socket)");
  bool version = false;
  app.add_flag("-v,--version", version, "show the version");
  if (const auto code = parse_arguments(app, argc, argv, 2)) return *code;
  if (version) return run_version(argc, argv);
  if (options.pid_file.empty()) options.pid_file = folder_of(options.socket_path) + "/iscsid.pid";
  if (options.log_file.empty()) options.log_file = folder_of(options.socket_path) + "/iscsid.log";
  return run(options);
}

}  // namespace perilune::cli
