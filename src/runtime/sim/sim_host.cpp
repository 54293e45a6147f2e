// SPDX-License-Identifier: Apache-2.0
#include "runtime/sim/sim_host.hpp"

#include "runtime/sim/network.hpp"
#include "runtime/sim/sim_block_file.hpp"

namespace perilune::sim {

SimHost::SimHost(World& world, std::uint32_t id, std::string name,
                 std::initializer_list<std::string_view> addresses)
    : world_(world), id_(id), name_(std::move(name)), records_(world) {
  for (const auto text : addresses) {
    auto endpoint = runtime::Endpoint::parse(text, 0);
    PERILUNE_ASSERT(endpoint.has_value());
    addresses_.push_back(*endpoint);
  }
}

SimHost::~SimHost() = default;

SimLoop& SimHost::add_loop() {
  powered_ = true;
  const std::uint64_t id = (std::uint64_t{id_} << 32) | loops_.size();
  world_.note(Event::restart, id);
  loops_.push_back(std::make_unique<SimLoop>(*this, id));
  return *loops_.back();
}

SimDisk& SimHost::add_disk(const std::string& path, const DiskOptions& options) {
  auto& slot = disks_[path];
  PERILUNE_ASSERT(slot == nullptr);
  slot = std::make_unique<SimDisk>(world_, options);
  return *slot;
}

SimDisk* SimHost::find_disk(const std::string& path) noexcept {
  const auto it = disks_.find(path);
  return it == disks_.end() ? nullptr : it->second.get();
}

bool SimHost::has_address(const runtime::Endpoint& endpoint) const noexcept {
  for (const auto& own : addresses_) {
    if (own.is_ipv6 == endpoint.is_ipv6 && own.address == endpoint.address) return true;
  }
  return false;
}

std::uint16_t SimHost::next_port() noexcept {
  if (port_ == 60999) port_ = 32768;
  return port_++;
}

void SimHost::crash(Crash kind, Aftermath aftermath) {
  world_.note(Event::crash, (std::uint64_t{id_} << 8) | static_cast<std::uint64_t>(kind));
  for (auto& loop : loops_) {
    if (loop->dead() || loop->ghost()) continue;
    for (SimBlockFile* file : loop->files()) file->crash();
    if (aftermath == Aftermath::frozen)
      loop->die();
    else
      loop->haunt();
  }
  world_.network().host_crashed(*this, kind == Crash::power);
  if (kind == Crash::process) return;
  powered_ = false;
  for (auto& [path, disk] : disks_) disk->lose_power();
}

}  // namespace perilune::sim
