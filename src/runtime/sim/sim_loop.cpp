// SPDX-License-Identifier: Apache-2.0
#include "runtime/sim/sim_loop.hpp"

#include <algorithm>

#include "runtime/sim/network.hpp"
#include "runtime/sim/sim_block_file.hpp"
#include "runtime/sim/sim_host.hpp"
#include "runtime/sim/sim_stream.hpp"

namespace perilune::sim {

SimLoop::SimLoop(SimHost& host, std::uint64_t id)
    : host_(host), world_(host.world()), id_(id), prng_(world_.prng().fork()), random_(prng_.fork()) {
  world_.live_loops_.push_back(this);
}

SimLoop::~SimLoop() = default;

void SimLoop::schedule(runtime::TurnHook& hook) {
  if (dead_ || hook.linked()) return;
  hooks_.push_back(hook);
  request_turn();
}

void SimLoop::post(std::function<void()> work) {
  if (dead_) return;
  posted_.push_back(std::move(work));
  request_turn();
}

void SimLoop::make_ready(Ready& ready) {
  if (dead_ || ready.linked()) return;
  ready_.push_back(ready);
  request_turn();
}

std::optional<Instant> SimLoop::idle_deadline() const noexcept {
  if (turn_requested_ || !running()) return std::nullopt;
  return timers_.next_deadline();
}

void SimLoop::request_turn() {
  if (turn_requested_ || !running()) return;
  turn_requested_ = true;
  const LoopOptions& options = world_.options().loop;
  // At least one microsecond, so that virtual time moves on under a loop that keeps itself busy.
  auto delay = Duration(1000 + static_cast<Duration::rep>(prng_.below(
                                   static_cast<std::uint64_t>(options.max_turn_delay.count()) + 1)));
  if (prng_.per_million(options.stall_per_million_turns)) {
    delay += Duration(
        static_cast<Duration::rep>(prng_.below(static_cast<std::uint64_t>(options.max_stall.count()) + 1)));
  }
  world_.at(delay, Event::turn, id_, [this] { turn(); });
}

void SimLoop::turn() {
  turn_requested_ = false;
  if (!running()) return;
  const bool timers_first = prng_.coin();
  if (timers_first) timers_.fire(now());
  run_posted();
  run_ready();
  if (!timers_first && !dead_) timers_.fire(now());
  run_hooks();
  if (!ready_.empty() || !posted_.empty()) request_turn();
}

void SimLoop::run_posted() {
  std::vector<std::function<void()>> batch;
  batch.swap(posted_);
  for (auto& work : batch) {
    if (dead_) return;
    work();
  }
}

// Completions of one turn reach their owners in any order: every pick is among the first few that wait.
void SimLoop::run_ready() {
  constexpr std::size_t reach = 8;
  batch_.splice_back(ready_);
  while (!dead_ && !batch_.empty()) {
    Ready* choices[reach];
    std::size_t count = 0;
    (void)batch_.find([&](Ready& r) {
      choices[count++] = &r;
      return count == reach;
    });
    Ready& chosen = *choices[prng_.below(count)];
    chosen.unlink();
    chosen();
  }
}

void SimLoop::run_hooks() {
  while (!dead_ && !hooks_.empty()) hooks_.pop_front()();
}

void SimLoop::die() noexcept {
  dead_ = true;
  ready_.clear();
  batch_.clear();
  hooks_.clear();
  posted_.clear();
  std::erase(world_.live_loops_, this);
}

void SimLoop::add_file(SimBlockFile& file) { files_.push_back(&file); }
void SimLoop::remove_file(SimBlockFile& file) noexcept { std::erase(files_, &file); }

Result<std::unique_ptr<runtime::Listener>> SimLoop::listen(const runtime::Endpoint& local,
                                                           const runtime::SocketOptions& options,
                                                           runtime::AcceptHandler& handler) {
  if (dead_ || ghost_) return fail(Errc::cancelled, "the simulated host has crashed");
  auto listener = world_.network().listen(*this, local, options, handler);
  if (!listener) return tl::unexpected(listener.error());
  return std::unique_ptr<runtime::Listener>(std::move(*listener));
}

std::unique_ptr<runtime::Connecting> SimLoop::connect(const runtime::Endpoint& peer,
                                                      const runtime::SocketOptions& options,
                                                      runtime::ConnectHandler& handler) {
  return world_.network().connect(*this, peer, options, handler);
}

std::unique_ptr<runtime::Stream> SimLoop::adopt(std::unique_ptr<runtime::DetachedStream> detached) {
  return static_cast<SimDetachedStream&>(*detached).attach_to(*this);
}

Result<std::unique_ptr<runtime::BlockFile>> SimLoop::open_file(const std::string& path,
                                                               const runtime::OpenOptions& options) {
  if (dead_ || ghost_) return fail(Errc::cancelled, "the simulated host has crashed");
  SimDisk* disk = host_.find_disk(path);
  if (disk == nullptr) return fail(Errc::not_found, path + ": No such file or directory", ENOENT);
  return std::unique_ptr<runtime::BlockFile>(std::make_unique<SimBlockFile>(*this, *disk, options));
}

}  // namespace perilune::sim
