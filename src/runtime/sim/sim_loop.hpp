// SPDX-License-Identifier: Apache-2.0
// A runtime::Loop of a simulated host: one thread of a simulated process.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "runtime/loop.hpp"
#include "runtime/sim/prng.hpp"
#include "runtime/sim/world.hpp"

namespace perilune::sim {

class SimBlockFile;

// A callback that is due. Embedded by a stream, a file operation …; withdrawn when that dies.
class Ready : public ListNode<Ready> {
 public:
  explicit Ready(Delegate<void()> run) noexcept : run_(run) {}
  void operator()() const { run_(); }

 private:
  Delegate<void()> run_;
};

class SimRandom final : public runtime::Random {
 public:
  explicit SimRandom(Prng prng) noexcept : prng_(prng) {}
  void fill(MutableBytes out) override { prng_.fill(out); }

 private:
  Prng prng_;
};

// Made by SimHost::add_loop and owned by the host until the world ends, so that what lived on a crashed loop
// can be destroyed afterwards: after a crash no callback is ever made again, every call does nothing or fails
// with `cancelled`, and streams and files may be destroyed at any moment.
class SimLoop final : public runtime::Loop {
 public:
  SimLoop(SimHost& host, std::uint64_t id);
  ~SimLoop() override;

  [[nodiscard]] Instant now() const override { return world_.now(); }
  [[nodiscard]] runtime::TimerQueue& timers() override { return timers_; }
  [[nodiscard]] runtime::Random& random() override { return random_; }
  void schedule(runtime::TurnHook& hook) override;
  void post(std::function<void()> work) override;
  void stop() override { stopped_ = true; }
  [[nodiscard]] Result<std::unique_ptr<runtime::Listener>> listen(const runtime::Endpoint& local,
                                                                  const runtime::SocketOptions& options,
                                                                  runtime::AcceptHandler& handler) override;
  [[nodiscard]] std::unique_ptr<runtime::Connecting> connect(const runtime::Endpoint& peer,
                                                             const runtime::SocketOptions& options,
                                                             runtime::ConnectHandler& handler) override;
  [[nodiscard]] std::unique_ptr<runtime::Stream> adopt(
      std::unique_ptr<runtime::DetachedStream> detached) override;
  [[nodiscard]] Result<std::unique_ptr<runtime::BlockFile>> open_file(
      const std::string& path, const runtime::OpenOptions& options) override;
  void register_buffers(BufferPool& pool) override { (void)pool; }

  // For the other parts of the world.
  [[nodiscard]] World& world() noexcept { return world_; }
  [[nodiscard]] SimHost& host() noexcept { return host_; }
  [[nodiscard]] bool dead() const noexcept { return dead_; }
  // Dead to the world, but winding down (Aftermath::wind_down).
  [[nodiscard]] bool ghost() const noexcept { return ghost_; }
  [[nodiscard]] bool stopped() const noexcept { return stopped_; }
  [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
  void make_ready(Ready& ready);
  void request_turn();
  // The next timer's deadline when no turn is on its way.
  [[nodiscard]] std::optional<Instant> idle_deadline() const noexcept;
  void add_file(SimBlockFile& file);
  void remove_file(SimBlockFile& file) noexcept;
  [[nodiscard]] const std::vector<SimBlockFile*>& files() const noexcept { return files_; }
  // Called by SimHost::crash. die() also by the owner of a ghost, once its objects have ended.
  void die() noexcept;
  void haunt() noexcept { ghost_ = true; }

 private:
  [[nodiscard]] bool running() const noexcept { return !dead_ && !stopped_; }
  void turn();
  void run_posted();
  void run_ready();
  void run_hooks();

  SimHost& host_;
  World& world_;
  std::uint64_t id_;
  Prng prng_;
  SimRandom random_;
  runtime::TimerQueue timers_;
  IntrusiveList<Ready> ready_;
  IntrusiveList<Ready> batch_;
  IntrusiveList<runtime::TurnHook> hooks_;
  std::vector<std::function<void()>> posted_;
  std::vector<SimBlockFile*> files_;
  bool turn_requested_ = false;
  bool dead_ = false;
  bool ghost_ = false;
  bool stopped_ = false;
};

}  // namespace perilune::sim
