// SPDX-License-Identifier: Apache-2.0
// perilune bench: how fast a remote disk is. One thread drives as many sessions as asked on one loop; during
// the measurement nothing is allocated and nothing is printed. Logins per second are measured in
// bench_logins.cpp.
#include <fmt/format.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <array>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/latency_histogram.hpp"
#include "base/mapping.hpp"
#include "base/processor_time.hpp"
#include "cli/allocation_counter.hpp"
#include "cli/bench_logins.hpp"
#include "cli/command_line.hpp"
#include "cli/initiator_common.hpp"
#include "cli/loop_options.hpp"
#include "cli/verbs.hpp"
#include "runtime/native/native_loop.hpp"

namespace perilune::cli {

namespace {

using namespace initiator;
using block::BlockOp;
using block::OpKind;
using block::OpStatus;
using runtime::Instant;

struct Options {
  std::string url, initiator_name, rw = "randread", block_text = "4k", size_text, header_digest, data_digest;
  runtime::Polling polling = runtime::Polling::adaptive;
  runtime::Runtime loop_kind = runtime::Runtime::automatic;
  unsigned depth = 32, sessions = 1, luns = 1;
  double seconds = 5, warm_up = 0.5;
  pid_t server = 0;        // a process of this machine whose processor time is told too; 0: none
  bool json = false, verify = false;
  bool probe = false;    // one more session at depth 1, whose latencies are told apart
  bool logins = false;   // measure logins, not I/O
  bool idle = false;     // log in, hold the sessions, log out
  std::uint64_t block_bytes = 4096, size_bytes = 0;
  [[nodiscard]] bool writes() const { return rw == "randwrite" || rw == "write"; }
  [[nodiscard]] bool random() const { return rw == "randread" || rw == "randwrite"; }
};

std::uint64_t mix(std::uint64_t x) noexcept {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

// What --verify writes at a byte offset of the disk (a multiple of 8).
void fill_pattern(std::uint8_t* to, std::uint64_t offset, std::uint64_t bytes) noexcept {
  for (std::uint64_t i = 0; i < bytes; i += 8) {
    const std::uint64_t word = mix(offset + i + 0x9e3779b97f4a7c15);
    std::memcpy(to + i, &word, 8);
  }
}
bool matches_pattern(const std::uint8_t* from, std::uint64_t offset, std::uint64_t bytes) noexcept {
  for (std::uint64_t i = 0; i < bytes; i += 8) {
    const std::uint64_t word = mix(offset + i + 0x9e3779b97f4a7c15);
    if (std::memcmp(from + i, &word, 8) != 0) return false;
  }
  return true;
}

// Of this thread.
double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

class Bench;

// One session and its operations.
class Worker final : public SessionObserver {
 public:
  // `number`: which part of the disk it takes; a probe has depth 1 and takes the first.
  Worker(Bench& bench, SessionConfig config, unsigned number, bool probe);
  void start() { session_.start(); }
  void begin();       // the measured work
  void prefill();     // writes the pattern over this worker's part
  void log_out() { session_.logout(); }

  void on_logged_in() override;
  void on_state(SessionState, SessionState to) override;
  void on_failed(const LoginFailure& failure) override;
  void on_logged_out() override;
  void on_units_changed() override {}

  [[nodiscard]] const UnitInfo& unit_info() const { return unit_->info(); }

 private:
  struct Slot {
    BlockOp op;
    iovec iov{};
    Worker* worker = nullptr;
    Instant begun{};
    bool checking = false;   // reading back what was written
    void done(BlockOp&) { worker->on_done(*this); }
  };
  void on_done(Slot& slot);
  void next(Slot& slot, Instant now);
  void submit(Slot& slot);
  [[nodiscard]] std::uint64_t choose() noexcept;
  void prefill_next(Slot& slot);
  void idle();

  Bench& bench_;
  unsigned number_;
  bool probe_;
  unsigned depth_;
  bool writes_, random_places_;  // asked for every operation
  Session session_;
  std::optional<Scan> scan_;
  std::optional<LogicalUnit> unit_;
  std::vector<std::unique_ptr<Slot>> slots_;
  Mapping memory_;
  std::uint64_t first_ = 0, count_ = 0, position_ = 0;  // in units of the bench's block
  std::uint64_t blocks_ = 0;  // of the disk in one of them
  std::uint64_t random_;
  unsigned active_ = 0;
  bool prefilling_ = false;
};

class Bench {
 public:
  enum class Phase { logging_in, idle, prefill, warm_up, measure, drain, done };

  Bench(runtime::ThreadLoop& loop, const Options& options)
      : options_(options),
        loop_(loop),
        timer_(loop.timers(), Delegate<void()>::to<&Bench::on_timer>(*this)) {}

  int run(const SessionConfig& config, std::uint64_t first_lun);

  void worker_ready();
  void worker_idle();
  void worker_logged_out();
  void failed(ToolError error);

  const Options& options_;
  runtime::ThreadLoop& loop_;
  std::uint64_t first_lun_ = 0;  // a number
  Phase phase_ = Phase::logging_in;
  LatencyHistogram latency_, probe_latency_;
  std::uint64_t ios_ = 0, ios_all_ = 0, probe_ios_ = 0;  // all: with those before and after the measurement
  std::optional<ToolError> error_;

 private:
  void on_timer();
  void begin_idle();
  void begin_measured();
  void log_out();
  [[nodiscard]] std::optional<double> server_cpu_seconds() const;
  void print() const;

  static constexpr std::size_t logins_at_once = 64;  // targets limit how many connections may be logging in
  std::vector<std::unique_ptr<Worker>> workers_;
  std::size_t started_ = 0, ready_ = 0, idle_ = 0, logged_out_ = 0;
  runtime::Timer timer_;
  std::chrono::steady_clock::time_point from_{}, to_{};
  double cpu_from_ = 0, cpu_to_ = 0;
  std::optional<double> server_cpu_from_, server_cpu_to_;
  std::uint64_t allocations_from_ = 0, allocations_to_ = 0;
};

Worker::Worker(Bench& bench, SessionConfig config, unsigned number, bool probe)
    : bench_(bench), number_(number), probe_(probe), depth_(probe ? 1 : bench.options_.depth),
      writes_(bench.options_.writes()), random_places_(bench.options_.random()),
      session_(bench.loop_, std::move(config), *this), random_(mix(number + (probe ? 0x10000 : 1)) | 1) {}

void Worker::on_logged_in() {
  scan_.emplace(session_, [this](Result<std::vector<UnitInfo>> units) {
    if (!units) return bench_.failed(tool_error(units.error()));
    UnitInfo info = std::move(units->front());
    const Options& options = bench_.options_;
    if (!info.ready) return bench_.failed({ToolExit::failed, "the unit is no disk, or not ready"});
    if (options.block_bytes % info.geometry.block_size_bytes != 0) {
      return bench_.failed({ToolExit::usage, "--bs is no multiple of the disk's block size"});
    }
    std::uint64_t bytes = info.geometry.blocks.value() * info.geometry.block_size_bytes;
    if (options.size_bytes != 0) bytes = std::min(bytes, options.size_bytes);
    count_ = bytes / options.block_bytes;
    const bool parts = !options.random() || options.verify;
    if (count_ < (parts ? options.sessions : 1))
      return bench_.failed({ToolExit::failed, "the disk is too small"});
    // Random work goes everywhere, sequential work (and the pattern) into parts of its own.
    const std::uint64_t part = count_ / options.sessions;
    first_ = parts ? part * number_ : 0;
    if (parts) count_ = part;
    blocks_ = options.block_bytes / info.geometry.block_size_bytes;
    unit_.emplace(session_, std::move(info), depth_);
    if (options.idle) return bench_.worker_ready();  // it holds no memory
    memory_ = Mapping::of_huge_pages(std::size_t{depth_} * options.block_bytes);
    if (!memory_.good()) return bench_.failed({ToolExit::failed, "no memory for the blocks"});
    for (unsigned i = 0; i < depth_; ++i) {
      auto& slot = *slots_.emplace_back(std::make_unique<Slot>());
      slot.worker = this;
      slot.iov = {memory_.begin() + std::size_t{i} * options.block_bytes, options.block_bytes};
      fill_pattern(static_cast<std::uint8_t*>(slot.iov.iov_base), i, options.block_bytes);
      slot.op.data = {&slot.iov, 1};
      slot.op.done = Delegate<void(BlockOp&)>::to<&Slot::done>(slot);
    }
    bench_.worker_ready();
  });
  scan_->start_one(lun_bytes(bench_.first_lun_ + number_ % bench_.options_.luns));
}

void Worker::on_state(SessionState, SessionState to) {
  if (to == SessionState::reconnecting)
    bench_.failed({ToolExit::connection, "the connection was lost during the bench"});
}
void Worker::on_failed(const LoginFailure& failure) { bench_.failed(tool_error(failure)); }
void Worker::on_logged_out() { bench_.worker_logged_out(); }

void Worker::begin() {
  active_ = static_cast<unsigned>(slots_.size());
  prefilling_ = false;
  position_ = 0;
  // What is written need not differ, so it is one block, as that of the ceiling's requester is.
  if (writes_ && !bench_.options_.verify)
    for (auto& slot : slots_) slot->iov.iov_base = memory_.begin();
  for (auto& slot : slots_) next(*slot, bench_.loop_.now());
}

void Worker::prefill() {
  prefilling_ = true;
  position_ = 0;
  active_ = static_cast<unsigned>(slots_.size());
  for (auto& slot : slots_) prefill_next(*slot);
}

void Worker::idle() {
  if (--active_ == 0) bench_.worker_idle();
}

void Worker::prefill_next(Slot& slot) {
  if (position_ >= count_ || bench_.error_) return idle();
  const std::uint64_t at = first_ + position_++;
  slot.op.kind = OpKind::write;
  slot.op.lba = Lba(at * blocks_);
  slot.op.blocks = BlockCount(blocks_);
  fill_pattern(static_cast<std::uint8_t*>(slot.iov.iov_base), at * bench_.options_.block_bytes,
               bench_.options_.block_bytes);
  submit(slot);
}

std::uint64_t Worker::choose() noexcept {
  if (!random_places_) {
    const std::uint64_t at = position_;
    position_ = position_ + 1 == count_ ? 0 : position_ + 1;
    return first_ + at;
  }
  random_ ^= random_ << 13;
  random_ ^= random_ >> 7;
  random_ ^= random_ << 17;
  return first_ + static_cast<std::uint64_t>((static_cast<unsigned __int128>(random_) * count_) >> 64);
}

void Worker::next(Slot& slot, Instant now) {
  if (bench_.phase_ == Bench::Phase::drain || bench_.error_) return idle();
  const Options& options = bench_.options_;
  const std::uint64_t at = choose();
  slot.op.kind = writes_ ? OpKind::write : OpKind::read;
  slot.op.lba = Lba(at * blocks_);
  slot.op.blocks = BlockCount(blocks_);
  if (options.verify && writes_) {
    fill_pattern(static_cast<std::uint8_t*>(slot.iov.iov_base), at * options.block_bytes,
                 options.block_bytes);
  }
  slot.begun = now;
  submit(slot);
}

void Worker::submit(Slot& slot) {
  if (unit_->submit(slot.op)) on_done(slot);  // only an operation that is refused ends at once
}

void Worker::on_done(Slot& slot) {
  if (slot.op.status != OpStatus::ok) {
    bench_.failed({ToolExit::failed, fmt::format("an operation failed (status {}, errno {})",
                                                 static_cast<int>(slot.op.status), slot.op.os_errno)});
    return idle();
  }
  if (prefilling_) return prefill_next(slot);
  const Options& options = bench_.options_;
  const Instant now = bench_.loop_.now();  // of the turn, for all that it brings
  ++bench_.ios_all_;
  if (!slot.checking && bench_.phase_ == Bench::Phase::measure) {
    (probe_ ? bench_.probe_latency_ : bench_.latency_)
        .add(static_cast<std::uint64_t>((now - slot.begun).count()));
    ++(probe_ ? bench_.probe_ios_ : bench_.ios_);
  }
  if (options.verify) {
    auto* memory = static_cast<std::uint8_t*>(slot.iov.iov_base);
    if (slot.op.kind == OpKind::write) {
      slot.checking = true;
      slot.op.kind = OpKind::read;
      std::memset(memory, 0, options.block_bytes);
      return submit(slot);
    }
    const std::uint64_t at = slot.op.lba.value() * unit_->geometry().block_size_bytes;
    if (!matches_pattern(memory, at, options.block_bytes)) {
      bench_.failed({ToolExit::failed, fmt::format("verify: wrong data at byte {}", at)});
      return idle();
    }
    slot.checking = false;
  }
  next(slot, now);
}

void Bench::failed(ToolError error) {
  if (error_) return;
  error_ = std::move(error);
  loop_.stop();
}

void Bench::worker_ready() {
  if (started_ < workers_.size()) workers_[started_++]->start();
  if (++ready_ < workers_.size()) return;
  if (options_.idle) {
    begin_idle();
  } else if (options_.verify && !options_.writes()) {
    phase_ = Phase::prefill;
    for (auto& worker : workers_) worker->prefill();
  } else {
    begin_measured();
  }
}

// Whoever measures the target meanwhile waits for this line.
void Bench::begin_idle() {
  phase_ = Phase::idle;
  fmt::print("ready\n");
  std::fflush(stdout);
  timer_.arm(loop_.now() +
             std::chrono::duration_cast<runtime::Duration>(std::chrono::duration<double>(options_.seconds)));
}

void Bench::log_out() {
  phase_ = Phase::done;
  for (auto& worker : workers_) worker->log_out();
}

void Bench::begin_measured() {
  idle_ = 0;
  phase_ = Phase::warm_up;
  for (auto& worker : workers_) worker->begin();
  timer_.arm(loop_.now() +
             std::chrono::duration_cast<runtime::Duration>(std::chrono::duration<double>(options_.warm_up)));
}

void Bench::on_timer() {
  if (phase_ == Phase::idle) {
    log_out();
  } else if (phase_ == Phase::warm_up) {
    phase_ = Phase::measure;
    if (options_.server != 0) server_cpu_from_ = processor_seconds(options_.server);
    cpu_from_ = cpu_seconds();
    timer_.arm(loop_.now() + std::chrono::duration_cast<runtime::Duration>(
                                 std::chrono::duration<double>(options_.seconds)));
    from_ = std::chrono::steady_clock::now();
    allocations_from_ = thread_allocations();
  } else if (phase_ == Phase::measure) {
    to_ = std::chrono::steady_clock::now();
    allocations_to_ = thread_allocations();
    cpu_to_ = cpu_seconds();
    if (options_.server != 0) server_cpu_to_ = processor_seconds(options_.server);
    phase_ = Phase::drain;
  }
}

void Bench::worker_idle() {
  if (error_ || ++idle_ < workers_.size()) return;
  if (phase_ == Phase::prefill) {
    begin_measured();
    return;
  }
  log_out();
}

void Bench::worker_logged_out() {
  if (++logged_out_ == workers_.size()) loop_.stop();
}

int Bench::run(const SessionConfig& config, std::uint64_t first_lun) {
  first_lun_ = first_lun;
  const unsigned all = options_.sessions + (options_.probe ? 1 : 0);
  for (unsigned i = 0; i < all; ++i) {
    const bool probe = i == options_.sessions;
    SessionConfig own = config.clone();
    own.isid = stable_isid(own.initiator_name, "bench" + std::to_string(i), own.target_name);
    own.commands_max = options_.depth + 8;
    workers_.push_back(std::make_unique<Worker>(*this, std::move(own), probe ? 0 : i, probe));
  }
  while (started_ < workers_.size() && started_ < logins_at_once) workers_[started_++]->start();
  loop_.run();
  if (error_) {
    const int code = report("bench", *error_);
    std::fflush(nullptr);
    std::_Exit(code);  // operations are still in the kernel's hands; the process ends here
  }
  workers_.clear();
  if (!options_.idle) print();
  return 0;
}

std::string quantiles_json(const LatencyHistogram& latency) {
  return fmt::format("{{\"p50\":{:.2f},\"p99\":{:.2f},\"p999\":{:.2f}}}", latency.quantile_us(0.5),
                     latency.quantile_us(0.99), latency.quantile_us(0.999));
}
std::string quantiles_text(const LatencyHistogram& latency) {
  return fmt::format("p50 {:.1f} us, p99 {:.1f} us, p99.9 {:.1f} us", latency.quantile_us(0.5),
                     latency.quantile_us(0.99), latency.quantile_us(0.999));
}

// That of --cpu-of during the measurement.
std::optional<double> Bench::server_cpu_seconds() const {
  if (!server_cpu_from_ || !server_cpu_to_) return std::nullopt;
  return *server_cpu_to_ - *server_cpu_from_;
}

void Bench::print() const {
  const double seconds = std::chrono::duration<double>(to_ - from_).count();
  const double iops = static_cast<double>(ios_) / seconds;
  const double mib = iops * static_cast<double>(options_.block_bytes) / (1024.0 * 1024.0);
  const std::uint64_t allocations = allocations_to_ - allocations_from_;
  if (options_.json) {
    fmt::print(
        "{{\"iops\":{:.1f},\"mib_per_s\":{:.2f},\"lat_us\":{},\"ios\":{},\"ios_all\":{},\"cpu_s\":{:.4f},"
        "\"allocations\":{}",
        iops, mib, quantiles_json(latency_), ios_, ios_all_, cpu_to_ - cpu_from_, allocations);
    if (const auto server = server_cpu_seconds()) fmt::print(",\"server_cpu_s\":{:.6f}", *server);
    if (options_.probe)
      fmt::print(",\"probe\":{{\"ios\":{},\"lat_us\":{}}}", probe_ios_, quantiles_json(probe_latency_));
    fmt::print("}}\n");
    return;
  }
  fmt::print("{} {} x depth {} x {} session(s), {:.1f} s\n", options_.rw, options_.block_text, options_.depth,
             options_.sessions, seconds);
  fmt::print("  {:.0f} IOPS, {:.1f} MiB/s\n", iops, mib);
  fmt::print("  latency {}\n", quantiles_text(latency_));
  if (options_.probe) fmt::print("  of the probe at depth 1: {}\n", quantiles_text(probe_latency_));
  fmt::print("  client: {:.2f} us of CPU per operation",
             ios_ == 0 ? 0.0 : (cpu_to_ - cpu_from_) * 1e6 / static_cast<double>(ios_));
  if (allocations_are_counted()) fmt::print(", {} heap allocations", allocations);
  fmt::print("\n");
  if (const auto server = server_cpu_seconds()) {
    fmt::print("  process {}: {:.2f} us of CPU per operation\n", options_.server,
               ios_ == 0 ? 0.0 : *server * 1e6 / static_cast<double>(ios_));
  }
}

int run_logins(runtime::ThreadLoop& loop, const SessionConfig& config, const Options& options) {
  const double cpu_before = cpu_seconds();
  const auto rate = measure_logins(loop, config, options.sessions, options.warm_up, options.seconds);
  if (!rate) {
    const int code = report("bench", rate.error());
    std::fflush(nullptr);
    std::_Exit(code);  // sessions are still in the kernel's hands; the process ends here
  }
  const double per_second = static_cast<double>(rate->logins) / rate->seconds;
  if (options.json) {
    fmt::print(
        "{{\"logins_per_s\":{:.1f},\"logins\":{},\"logins_all\":{},\"lat_us\":{},\"cpu_s_all\":{:.4f}}}\n",
        per_second, rate->logins, rate->logins_all, quantiles_json(rate->latency),
        cpu_seconds() - cpu_before);
  } else {
    fmt::print("{:.0f} logins/s, {} at a time; {}\n", per_second, options.sessions,
               quantiles_text(rate->latency));
  }
  return 0;
}

// "4k", "64K", "1m", "512"; 0 when it is none.
std::uint64_t parse_bytes(const std::string& text) {
  char* end = nullptr;
  const unsigned long long number = std::strtoull(text.c_str(), &end, 10);
  unsigned shift = 0;
  switch (*end) {
    case '\0': break;
    case 'k': case 'K': shift = 10; ++end; break;
    case 'm': case 'M': shift = 20; ++end; break;
    case 'g': case 'G': shift = 30; ++end; break;
    default: return 0;
  }
  return *end == '\0' && text[0] != '-' && number < (1ull << 32) ? number << shift : 0;
}

std::optional<ToolError> check(Options& options) {
  if (options.rw != "randread" && options.rw != "randwrite" && options.rw != "read" &&
      options.rw != "write") {
    return ToolError{ToolExit::usage, "--rw is one of randread, randwrite, read, write"};
  }
  options.block_bytes = parse_bytes(options.block_text);
  if (options.block_bytes < 512 || options.block_bytes > (64u << 20) || options.block_bytes % 512 != 0) {
    return ToolError{ToolExit::usage, "--bs is a multiple of 512 up to 64m"};
  }
  if (!options.size_text.empty() && (options.size_bytes = parse_bytes(options.size_text)) == 0) {
    return ToolError{ToolExit::usage, "--size is a number of bytes (512, 64k, 1g)"};
  }
  if (options.depth < 1 || options.depth > 4096 || options.sessions < 1 || options.sessions > 1024) {
    return ToolError{ToolExit::usage, "--depth is 1 to 4096, --sessions 1 to 1024"};
  }
  if (options.server != 0 && !processor_seconds(options.server)) {
    return ToolError{ToolExit::usage, fmt::format("--cpu-of: there is no process {}", options.server)};
  }
  if (!(options.seconds > 0 && options.seconds < 1e6) || !(options.warm_up >= 0 && options.warm_up < 1e6)) {
    return ToolError{ToolExit::usage, "--seconds and --warm-up are positive"};
  }
  return std::nullopt;
}

bool set_digest(const std::string& text, DigestPreference& preference) {
  if (text.empty()) return true;
  if (text != "crc32c" && text != "none") return false;
  preference = text == "crc32c" ? DigestPreference::crc32c : DigestPreference::none;
  return true;
}

}  // namespace

int run_bench(int argc, char** argv) {
  CLI::App app("Measures reads or writes of a remote disk. Writes destroy what is on it.", argv[0]);
  Options options;
  app.add_option("URL", options.url, "iscsi://HOST[:PORT]/TARGET/LUN")->required();
  app.add_option("--rw", options.rw, "randread, randwrite, read or write")->capture_default_str();
  app.add_option("--bs", options.block_text, "bytes per operation")->capture_default_str();
  app.add_option("--depth", options.depth, "operations outstanding per session")->capture_default_str();
  app.add_option("--sessions", options.sessions, "sessions, all on one thread")->capture_default_str();
  app.add_option("--luns", options.luns, "units, from the URL's on, that the sessions take in turn")
      ->check(CLI::Range(1, 16384))
      ->capture_default_str();
  app.add_option("--seconds", options.seconds, "length of the measurement")->capture_default_str();
  app.add_option("--warm-up", options.warm_up, "seconds before it")->capture_default_str();
  app.add_option("--size", options.size_text, "use only this much of the disk");
  app.add_option("--header-digest", options.header_digest, "crc32c or none");
  app.add_option("--data-digest", options.data_digest, "crc32c or none");
  app.add_option("-i,--initiator-name", options.initiator_name, "the name to log in with");
  app.add_flag("--verify", options.verify, "write a pattern and compare what is read (not for measuring)");
  app.add_flag("--json", options.json, "one line of JSON");
  add_polling_option(app, options.polling, "how the client waits for answers");
  app.add_flag("--probe", options.probe, "one more session at depth 1, whose latencies are told apart");
  auto* cpu_of =
      app.add_option("--cpu-of", options.server,
                     "tell the processor time of this process too (a target on this machine)")
          ->option_text("PID")
          ->check(CLI::PositiveNumber);
  auto* logins = app.add_flag("--logins", options.logins,
                              "log in and out, --sessions at a time, instead of reading and writing");
  app.add_flag("--idle", options.idle, "log in, print `ready`, hold the sessions for --seconds, log out")
      ->excludes(logins)
      ->excludes(cpu_of);
  logins->excludes(cpu_of);
  app.footer(std::string(url_help));
  if (const auto code = parse_arguments(app, argc, argv, static_cast<int>(ToolExit::usage))) return *code;
  if (auto error = check(options)) return report("bench", *error);
  auto url = parse_url(options.url);
  if (!url) return report("bench", tool_error(url.error()));
  if (url->target.empty() || !url->lun)
    return report("bench", {ToolExit::usage, "the URL names no target and LUN"});
  SessionConfig config = session_config(*url, options.initiator_name);
  if (!set_digest(options.header_digest, config.header_digest) ||
      !set_digest(options.data_digest, config.data_digest)) {
    return report("bench", {ToolExit::usage, "a digest is crc32c or none"});
  }
  auto endpoints = resolve(url->host, url->port);
  if (!endpoints) return report("bench", tool_error(endpoints.error()));
  config.portal = endpoints->front();
  runtime::LoopOptions loop_options;
  loop_options.notice = [](std::string_view line) { fmt::print(stderr, "perilune bench: {}\n", line); };
  loop_options.polling = options.polling;
  auto loop = runtime::make_native_loop(options.loop_kind, loop_options);
  if (!loop) return report("bench", tool_error(loop.error()));
  if (options.logins) return run_logins(**loop, config, options);
  Bench bench(**loop, options);
  return bench.run(config, *url->lun);
}

}  // namespace perilune::cli
