// SPDX-License-Identifier: Apache-2.0
// `perilune attach` and `perilune detach`: a block device of this host without daemon and records. attach
// leaves a server process behind that serves one device; detach asks it, by SIGTERM, to end it (SIGUSR1: by
// force), and reads a refusal in its record (attach/state_file.hpp).
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>

#include "attach/attach.hpp"
#include "attach/cleanup.hpp"
#include "attach/mounts.hpp"
#include "attach/state_file.hpp"
#include "cli/attach_source.hpp"
#include "cli/command_line.hpp"
#include "cli/loop_signals.hpp"
#include "cli/stderr_log.hpp"
#include "cli/verbs.hpp"
#include "runtime/native/native_loop.hpp"
#include "runtime/posix/unique_fd.hpp"

namespace perilune::cli {

namespace {

using attach::Attachment;
using attach::AttachRecord;
using runtime::posix::UniqueFd;

struct AttachArguments {
  std::string what;
  bool read_only = false;
  bool foreground = false;
  attach::Driver driver = attach::Driver::automatic;
  std::uint32_t queues = attach::AttachOptions().nbd_connections;
  std::string run_dir = attach::AttachOptions().run_dir;
};

// A server without a terminal tells the system's log.
class SystemLog final : public EventLog {
 public:
  SystemLog() { ::openlog("perilune-attach", LOG_PID, LOG_DAEMON); }
  void event(Level level, std::string_view name, std::string_view fields) override {
    const int priority = level == Level::error ? LOG_ERR : level == Level::warning ? LOG_WARNING : LOG_INFO;
    ::syslog(priority, "%.*s %.*s", static_cast<int>(name.size()), name.data(),
             static_cast<int>(fields.size()), fields.data());
  }
};

// --- the server of one device

class AttachServer {
 public:
  // Told once: how the start ended. After success the server goes on.
  using Started = std::function<void(const tl::expected<std::string, ToolError>& device)>;

  AttachServer(runtime::Loop& loop, std::unique_ptr<AttachSource> source, const AttachArguments& arguments,
               EventLog& log, Started started)
      : loop_(loop),
        source_(std::move(source)),
        arguments_(arguments),
        log_(log),
        started_(std::move(started)) {}

  void start() {
    source_->open([this](tl::expected<block::Channel*, ToolError> channel) {
      if (!channel) return end_start(tl::unexpected<ToolError>(channel.error()));
      attach_to(**channel);
    });
  }
  void detach_when_possible(attach::DetachMode mode) {
    if (attachment_ && attachment_->state() == attach::AttachState::ready) {
      detach(mode);
    } else if (!attachment_ || attachment_->state() != attach::AttachState::detached) {
      wanted_ = mode;
    }
  }
  [[nodiscard]] int exit_code() const { return exit_code_; }

 private:
  void attach_to(block::Channel& channel) {
    attach::AttachOptions options;
    options.name = source_->name();
    options.target = source_->target();
    options.lun = source_->lun();
    options.driver = arguments_.driver;
    options.nbd_connections = arguments_.queues;
    options.read_only = arguments_.read_only;
    options.run_dir = arguments_.run_dir;
    attachment_ = Attachment::start(loop_, channel, std::move(options), [this](Result<std::string> device) {
      if (device) return end_start(std::move(*device));
      failure_ = tool_error(device.error());
      close();
    });
  }

  void end_start(const tl::expected<std::string, ToolError>& device) {
    started_(device);
    if (!device) {
      exit_code_ = static_cast<int>(device.error().code);
      return loop_.stop();
    }
    log_.event(EventLog::Level::info, "attached",
               fmt::format("device={} driver={} name={}", *device, attach::to_string(attachment_->driver()),
                           source_->name()));
    if (wanted_) detach(*std::exchange(wanted_, std::nullopt));
  }

  void detach(attach::DetachMode mode) {
    attachment_->detach(mode, [this](Status status) {
      if (status) {
        log_.event(EventLog::Level::info, "detached", fmt::format("device={}", attachment_->device()));
        return close();
      }
      log_.event(EventLog::Level::warning, "detach_refused", status.error().message);
      if (wanted_ == attach::DetachMode::force) detach(*std::exchange(wanted_, std::nullopt));
      wanted_.reset();
    });
  }

  void close() {
    source_->close([this] {
      attachment_.reset();
      if (failure_) return end_start(tl::unexpected<ToolError>(*failure_));
      loop_.stop();
    });
  }

  runtime::Loop& loop_;
  std::unique_ptr<AttachSource> source_;
  const AttachArguments& arguments_;
  EventLog& log_;
  Started started_;
  std::unique_ptr<Attachment> attachment_;
  std::optional<ToolError> failure_;
  std::optional<attach::DetachMode> wanted_;
  int exit_code_ = 0;
};

// The same unit twice would be two caches over one disk; the target would end the first session, too.
std::optional<ToolError> attached_already(const AttachSource& source, const std::string& run_dir) {
  if (source.target().empty()) return std::nullopt;  // a backing locks itself
  for (const AttachRecord& record : attach::read_records(run_dir)) {
    if (record.target != source.target() || record.lun != source.lun() || !attach::is_alive(record)) continue;
    return ToolError{ToolExit::failed,
                     fmt::format("{} is attached already: {} (process {})", source.name(),
                                 record.device.empty() ? "starting" : record.device, record.pid)};
  }
  return std::nullopt;
}

int serve_device(const AttachArguments& arguments, EventLog& log, const AttachServer::Started& started) {
  const auto refuse = [&](const ToolError& error) {
    started(tl::unexpected<ToolError>(error));
    return static_cast<int>(error.code);
  };
  LoopSignals signals{SIGTERM, SIGINT, SIGHUP, SIGUSR1};

  runtime::LoopOptions loop_options;
  loop_options.device_commands = true;
  loop_options.notice = [&log](std::string_view line) {
    log.event(EventLog::Level::warning, "reactor", line);
  };
  auto loop = runtime::make_native_loop(runtime::Runtime::automatic, loop_options);
  if (!loop) return refuse(tool_error(loop.error()));
  auto source = make_attach_source(arguments.what, arguments.read_only, **loop, log);
  if (!source) return refuse(source.error());
  if (const auto error = attached_already(**source, arguments.run_dir)) return refuse(*error);
  AttachServer server(**loop, std::move(*source), arguments, log, started);
  const Status watched = signals.watch(**loop, [&server](const signalfd_siginfo& signal) {
    server.detach_when_possible(signal.ssi_signo == SIGUSR1 ? attach::DetachMode::force
                                                            : attach::DetachMode::refuse_if_used);
  });
  if (!watched) return refuse(tool_error(watched.error()));
  server.start();
  (*loop)->run();
  signals.end();
  return server.exit_code();
}

// --- attach: into the background

void leave_terminal() {
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (int fd = 0; fd < 3; ++fd) static_cast<void>(::dup2(null.get(), fd));
}

// The child: reports "CODE TEXT" through the pipe, then goes on without a terminal.
[[noreturn]] void background_server(const AttachArguments& arguments, int report_fd) {
  ::setsid();
  constexpr int report_at = 3;
  if (report_fd != report_at) static_cast<void>(::dup2(report_fd, report_at));
  static_cast<void>(::fcntl(report_at, F_SETFD, FD_CLOEXEC));
  static_cast<void>(::close_range(report_at + 1, ~0u, 0));
  UniqueFd report(report_at);
  SystemLog log;
  const int code = serve_device(arguments, log, [&](const tl::expected<std::string, ToolError>& device) {
    const std::string text =
        device ? "0 " + *device
               : fmt::format("{} {}", static_cast<int>(device.error().code), device.error().message);
    static_cast<void>(!::write(report.get(), text.data(), text.size()));
    report.reset();
    if (!device) return;
    leave_terminal();
    static_cast<void>(::chdir("/"));
  });
  ::_exit(code);
}

std::string read_all(int fd) {
  std::string text;
  char buffer[1024];
  for (;;) {
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return text;
    text.append(buffer, static_cast<std::size_t>(n));
  }
}

// The device answers a read: whoever looks at it next finds it working.
bool is_readable(const std::string& device) {
  const UniqueFd fd(::open(device.c_str(), O_RDONLY | O_CLOEXEC));
  char block[512];
  return fd.valid() && ::pread(fd.get(), block, sizeof block, 0) > 0;
}

int attach_in_background(const AttachArguments& arguments) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return report("attach", tool_error(fail_errno(errno, "pipe").value()));
  UniqueFd ours(ends[0]), theirs(ends[1]);
  const pid_t server = ::fork();
  if (server < 0) return report("attach", tool_error(fail_errno(errno, "fork").value()));
  if (server == 0) background_server(arguments, theirs.get());
  theirs.reset();
  const std::string answer = read_all(ours.get());
  const std::size_t space = answer.find(' ');
  if (space == std::string::npos)
    return report("attach", {ToolExit::failed, "the server process died while it started"});
  const std::string text = answer.substr(space + 1);
  if (const int code = std::atoi(answer.c_str()); code != 0) {
    while (::waitpid(server, nullptr, 0) < 0 && errno == EINTR) {
    }
    return report("attach", {static_cast<ToolExit>(code), text});
  }
  if (!is_readable(text)) {
    return report("attach", {ToolExit::failed, text + " is attached, but its first block cannot be read"});
  }
  fmt::print("{}\n", text);
  return 0;
}

int attach_in_foreground(const AttachArguments& arguments) {
  StderrLog log;
  return serve_device(arguments, log, [](const tl::expected<std::string, ToolError>& device) {
    if (!device) {
      report("attach", device.error());
      return;
    }
    fmt::print("{}\n", *device);
    std::fflush(stdout);
  });
}

// --- detach

std::optional<AttachRecord> find_record(const std::string& run_dir, const std::string& what) {
  const std::string device = what.starts_with("/") ? what : "/dev/" + what;
  std::string name = what;
  if (auto known = attach_name(what)) name = *known;
  std::optional<AttachRecord> found;
  for (AttachRecord& record : attach::read_records(run_dir)) {
    const bool matches = record.device == device || record.name == name;
    if (matches && (!found || attach::is_alive(record))) found = std::move(record);
  }
  return found;
}

// Its server may have ended it meanwhile: then there is no record any more.
std::optional<AttachRecord> read_again(const std::string& run_dir, const AttachRecord& record) {
  for (AttachRecord& now : attach::read_records(run_dir)) {
    if (now.id == record.id) return std::move(now);
  }
  return std::nullopt;
}

int refuse_used(const AttachRecord& record, const std::vector<attach::Use>& uses) {
  for (const attach::Use& use : uses) fmt::print(stderr, "perilune detach: {}\n", use.describe());
  fmt::print(stderr, "perilune detach: {} stays attached; unmount first, or use --force\n", record.device);
  return static_cast<int>(ToolExit::failed);
}

int wait_for_end(const std::string& run_dir, const AttachRecord& record, int process,
                 unsigned timeout_seconds) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(timeout_seconds);
  for (;;) {
    pollfd waiting{process, POLLIN, 0};
    const bool ended = ::poll(&waiting, 1, 100) == 1;
    const auto now = read_again(run_dir, record);
    if (ended && !now) return 0;
    if (ended)
      return report("detach",
                    {ToolExit::failed,
                     "the server ended without detaching; perilune detach --cleanup takes the rest away"});
    if (now && now->refusals > record.refusals) {
      return report("detach", {ToolExit::failed, now->refusal + "; " + record.device + " stays attached"});
    }
    if (std::chrono::steady_clock::now() > deadline) {
      return report("detach",
                    {ToolExit::timed_out,
                     record.device + " is still being detached: its last writes wait for the target"});
    }
  }
}

int detach_one(const std::string& run_dir, const std::string& what, bool force, unsigned timeout_seconds) {
  const auto record = find_record(run_dir, what);
  if (!record) return report("detach", {ToolExit::not_found, what + " is not attached"});
  if (record->owner != attach::AttachOptions().owner) {
    return report("detach",
                  {ToolExit::failed, fmt::format("{} belongs to {} (process {}): log its session out there",
                                                 record->device, record->owner, record->pid)});
  }
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, record->pid, 0)));
  if (!process.valid() || !attach::is_alive(*record)) {
    return report(
        "detach",
        {ToolExit::failed,
         fmt::format("the server of {} is gone; perilune detach --cleanup takes the rest away", what)});
  }
  if (!record->device.empty() && !force) {
    const auto uses = attach::uses_of_disk(record->device.substr(std::string_view("/dev/").size()));
    if (uses && !uses->empty()) return refuse_used(*record, *uses);
  }
  if (::syscall(SYS_pidfd_send_signal, process.get(), force ? SIGUSR1 : SIGTERM, nullptr, 0) != 0) {
    return report("detach",
                  {ToolExit::failed, fmt::format("process {}: {}", record->pid, std::strerror(errno))});
  }
  return wait_for_end(run_dir, *record, process.get(), timeout_seconds);
}

int clean_up(const std::string& run_dir) {
  const auto report_of = attach::clean_up(run_dir, [](const std::string& line) { fmt::print("{}\n", line); });
  if (!report_of) return report("detach", tool_error(report_of.error()));
  if (report_of->removed == 0 && report_of->failed == 0) fmt::print("nothing to clean up\n");
  return report_of->failed == 0 ? 0 : static_cast<int>(ToolExit::failed);
}

}  // namespace

int run_attach(int argc, char** argv) {
  AttachArguments arguments;
  CLI::App app("Make a disk a block device of this host and print its name. It stays until perilune detach.",
               "perilune attach");
  app.add_option("WHAT", arguments.what, "iscsi:// URL of a unit, a file or block device, or ram:SIZE")
      ->required();
  app.add_flag("--read-only", arguments.read_only, "refuse writes");
  std::string driver = "auto";
  app.add_option("--driver", driver, "auto, ublk, nbd or fuse: by which driver of the kernel")
      ->capture_default_str();
  app.add_option("--queues", arguments.queues, "nbd: connections to the kernel, each a queue of the device")
      ->check(CLI::Range(1, 8))
      ->capture_default_str();
  app.add_flag("--foreground", arguments.foreground, "stay in the foreground until SIGTERM or SIGINT");
  app.add_option("--run-dir", arguments.run_dir, "where mount points and records are")->capture_default_str();
  app.footer(std::string(url_help));
  if (const auto code = parse_arguments(app, argc, argv, static_cast<int>(ToolExit::usage))) return *code;
  const auto parsed = attach::parse_driver(driver);
  if (!parsed) return report("attach", {ToolExit::usage, parsed.error().message});
  arguments.driver = *parsed;
  return arguments.foreground ? attach_in_foreground(arguments) : attach_in_background(arguments);
}

int run_detach(int argc, char** argv) {
  std::string what;
  std::string run_dir = attach::AttachOptions().run_dir;
  bool force = false, cleanup = false;
  unsigned timeout_seconds = 120;
  CLI::App app("Take away a block device that perilune attach made; returns when it is gone.",
               "perilune detach");
  auto* target = app.add_option("WHAT", what, "the device (/dev/ublkb0), or what was attached");
  app.add_flag("--force", force, "unmount file systems on it first");
  auto* clean =
      app.add_flag("--cleanup", cleanup, "remove what killed servers left, one line for each thing");
  app.add_option("--timeout", timeout_seconds, "seconds to wait for the last writes")->capture_default_str();
  app.add_option("--run-dir", run_dir, "where mount points and records are")->capture_default_str();
  clean->excludes(target);
  if (const auto code = parse_arguments(app, argc, argv, static_cast<int>(ToolExit::usage))) return *code;
  if (cleanup) return clean_up(run_dir);
  if (what.empty()) return report("detach", {ToolExit::usage, "which device? (or --cleanup)"});
  return detach_one(run_dir, what, force, timeout_seconds);
}

}  // namespace perilune::cli
