// SPDX-License-Identifier: Apache-2.0
// Several shards under test, in one thread: devices with the same disks, and links whose messages the test
// delivers. What one shard sends another arrives in order; which two come next is the test's choice.
#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "scsi/test_support.hpp"

namespace perilune::scsi::test {

class ShardRig {
 public:
  explicit ShardRig(std::uint32_t shards = 2, std::uint16_t units = 1,
                    block::Geometry geometry = FakeChannel::disk(), block::SpaceMeter* space = nullptr)
      : disks(units), meter(space), ways_(shards * shards) {
    for (std::uint32_t i = 0; i < shards; ++i) links_.push_back(std::make_unique<Link>(*this, i, shards));
    for (std::uint32_t i = 0; i < shards; ++i)
      shards_.push_back(std::make_unique<Shard>(*this, i, units, geometry));
    deliver_all();
  }

  [[nodiscard]] std::uint32_t count() const { return static_cast<std::uint32_t>(shards_.size()); }
  Device& device(std::uint32_t shard) { return shards_[shard]->device; }
  LogicalUnit& unit(std::uint32_t shard, std::uint16_t number = 0) { return *device(shard).unit(number); }
  FakeChannel& channel(std::uint32_t shard, std::uint16_t number = 0) {
    return *shards_[shard]->channels[number];
  }
  Nexus& nexus(std::uint32_t shard) { return *shards_[shard]->nexus; }
  std::uint64_t& clock_ms(std::uint32_t shard) { return shards_[shard]->clock_ms; }
  void set_clock(std::uint32_t shard) { shards_[shard]->set_clock(); }

  Io io(std::uint32_t shard, std::vector<std::uint8_t> cdb, std::vector<std::uint8_t> out = {},
        std::uint32_t expected_in = 0, std::uint16_t lun = 0) {
    return Io(device(shard), nexus(shard), std::move(cdb), std::move(out), expected_in, lun);
  }
  // The sense of a TEST UNIT READY of this shard's nexus: a unit attention that is pending, or 0.
  std::uint32_t attention(std::uint32_t shard, std::uint16_t lun = 0) {
    return io(shard, {0, 0, 0, 0, 0, 0}, {}, 0, lun).run().sense();
  }
  void take_attentions() {
    for (std::uint32_t shard = 0; shard < count(); ++shard) {
      for (std::uint16_t lun = 0; lun < disks.size(); ++lun) {
        while (attention(shard, lun) >> 16 == 6) {
        }
      }
    }
  }
  // A session ends, and the initiator logs in again at some shard.
  void end_nexus(std::uint32_t shard) { shards_[shard]->nexus.reset(); }
  void begin_nexus(std::uint32_t shard, const char* who) {
    shards_[shard]->nexus.emplace(device(shard), Rig::names(who));
  }

  // ---- messages

  [[nodiscard]] std::size_t waiting(std::uint32_t from, std::uint32_t to) const {
    return ways_[from * count() + to].size();
  }
  [[nodiscard]] std::size_t waiting() const {
    std::size_t all = 0;
    for (const auto& way : ways_) all += way.size();
    return all;
  }
  void deliver(std::uint32_t from, std::uint32_t to) {
    auto& way = ways_[from * count() + to];
    const auto work = std::move(way.front());
    way.pop_front();
    work(device(to));
  }
  // The first message of the `choice`-th way that has one.
  void deliver_some(std::size_t choice) {
    std::vector<std::size_t> full;
    for (std::size_t i = 0; i < ways_.size(); ++i) {
      if (!ways_[i].empty()) full.push_back(i);
    }
    const std::size_t way = full[choice % full.size()];
    deliver(static_cast<std::uint32_t>(way / count()), static_cast<std::uint32_t>(way % count()));
  }
  void deliver_all() {
    while (waiting() != 0) deliver_some(0);
  }
  // At most so many, from every way in turn. False: there were fewer.
  bool deliver_up_to(std::size_t messages) {
    for (std::size_t i = 0; i < messages; ++i) {
      if (waiting() == 0) return false;
      deliver_some(i);
    }
    return true;
  }
  void release_all() {
    for (const auto& shard : shards_) {
      for (const auto& channel : shard->channels) channel->release_all();
    }
  }
  void hold(bool held) {
    for (const auto& shard : shards_) {
      for (const auto& channel : shard->channels) channel->hold = held;
    }
  }
  // Until nothing moves any more.
  void settle() {
    std::size_t held = 0;
    do {
      deliver_all();
      release_all();
      held = waiting();
    } while (held != 0);
  }

  std::vector<std::vector<std::uint8_t>> disks;
  block::SpaceMeter* meter;  // of unit 0

 private:
  struct Link : ShardLink {
    Link(ShardRig& owner, std::uint32_t me, std::uint32_t all) : rig(owner), shard(me), count(all) {}
    [[nodiscard]] std::uint32_t self() const noexcept override { return shard; }
    [[nodiscard]] std::uint32_t shards() const noexcept override { return count; }
    void send(std::uint32_t to, std::function<void(Device&)> work) override {
      rig.ways_[shard * count + to].push_back(std::move(work));
    }
    ShardRig& rig;
    std::uint32_t shard;
    std::uint32_t count;
  };
  struct Shard {
    Shard(ShardRig& rig, std::uint32_t self, std::uint16_t units, const block::Geometry& geometry)
        : device("iqn.2026-11.io.perilune:disk", rig.links_[self].get()) {
      set_clock();
      device.set_token_key({0x1a, 0xb2});
      for (std::uint16_t i = 0; i < units; ++i) {
        channels.push_back(std::make_unique<FakeChannel>(geometry, &rig.disks[i]));
        UnitConfig config = Rig::config();
        if (i == 0) config.space = rig.meter;
        config.identity = UnitIdentity::from_id(0xa0 + std::uint64_t{i});
        if (geometry.protection_bytes != 0) config.protection_type = ProtectionType::type_1;
        PERILUNE_ASSERT(device.add_unit(i, std::move(config), *channels[i]).has_value());
      }
      const std::string who = "shard" + std::to_string(self);
      nexus.emplace(device, Rig::names(who.c_str()));
    }
    void set_clock() { device.set_clock(Delegate<std::uint64_t()>::to<&Shard::clock>(*this)); }
    std::uint64_t clock() { return clock_ms; }
    std::uint64_t clock_ms = 1'000'000;
    std::vector<std::unique_ptr<FakeChannel>> channels;
    Device device;
    std::optional<Nexus> nexus;
  };

  std::vector<std::deque<std::function<void(Device&)>>> ways_;  // from * count + to
  std::vector<std::unique_ptr<Link>> links_;
  std::vector<std::unique_ptr<Shard>> shards_;
};

}  // namespace perilune::scsi::test
