// SPDX-License-Identifier: Apache-2.0
// The targets and logical units of a shard: how they come, and go, while it serves.
#include <algorithm>

#include "target/connection.hpp"
#include "target/server.hpp"
#include "target/session.hpp"
#include "target/shard.hpp"

namespace perilune::target {
namespace {

std::uint64_t milliseconds(void* loop) {
  const auto now = static_cast<runtime::Loop*>(loop)->now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
}

// The memory of a unit that lends it.
struct Lent {
  const std::uint8_t* begin = nullptr;
  std::size_t bytes = 0;
};
Lent lent_by(block::Channel& channel) {
  const block::Geometry& geometry = channel.geometry();
  if (!geometry.lends_memory) return {};
  return {channel.lend(Lba(0), geometry.blocks, false), geometry.blocks.value() * geometry.block_size_bytes};
}

// UnitSpec::keep_access_states for the device of one loop.
class AccessStates final : public scsi::AccessStateStore {
 public:
  AccessStates(runtime::Loop& loop, decltype(UnitSpec::keep_access_states) keep)
      : loop_(loop), keep_(std::move(keep)) {}
  void keep(std::vector<scsi::PortGroup> groups, const std::string& initiator,
            std::function<void(bool)> done) override {
    keep_(loop_, std::move(groups), initiator, std::move(done));
  }

 private:
  runtime::Loop& loop_;
  const decltype(UnitSpec::keep_access_states) keep_;
};

}  // namespace

void Shard::make_target(std::uint32_t target, const std::string& name,
                        std::shared_ptr<const TargetAccess> access, std::vector<scsi::TargetPort> ports) {
  auto node = std::make_unique<TargetNode>(name, target, loop);
  if (server_.shard_count() > 1) node->link = std::make_unique<DeviceLink>(server_, number_, target);
  node->device = std::make_unique<scsi::Device>(name, node->link.get());
  node->access = std::move(access);
  node->device->set_ports(std::move(ports));
  nodes_[target] = std::move(node);
}

void Shard::start_target(std::uint32_t target, const scsi::RodTokenKey& token_key) {
  TargetNode& started = node(target);
  started.device->set_clock(Delegate<std::uint64_t()>::raw(&loop, milliseconds));
  started.device->set_token_key(token_key);
  started.device->set_later(Delegate<void()>::to<&TargetNode::ask_for_turn>(started));
}

void Shard::drop_target(std::uint32_t target) { nodes_.erase(target); }

void Shard::set_target_ports(std::uint32_t target, std::vector<scsi::TargetPort> ports) {
  if (TargetNode* there = find_node(target)) there->device->set_ports(std::move(ports));
}

Status Shard::open_record(TargetNode& target, const UnitSpec& unit, scsi::UnitConfig& config) {
  const auto& records = server_.config().records;
  if (records == nullptr || unit.record.empty()) return {};
  std::unique_ptr<UnitRecord> record;
  if (unit.record_is_read) {
    record = UnitRecord::known(*records, loop, unit.record, log);
  } else {
    auto opened = UnitRecord::open(*records, loop, unit.record, log, config.durable);
    if (!opened) return tl::unexpected(opened.error());
    record = std::move(*opened);
  }
  config.store = record.get();
  target.records.push_back({unit.lun, std::move(record)});
  return {};
}

Status Shard::open_device(TargetNode& target, const UnitSpec& unit, scsi::UnitConfig config) {
  if (unit.device != nullptr) {
    auto port = unit.device->open_port(loop);
    if (!port) return tl::unexpected(port.error());
    target.ports.push_back({unit.lun, std::move(*port)});
    const auto added = target.device->add_unit(unit.lun, std::move(config), *target.ports.back().owned);
    return added ? Status() : tl::unexpected(added.error());
  }
  auto channel = unit.backstore->open_channel(loop);
  if (!channel) return tl::unexpected(channel.error());
  target.channels.push_back({unit.lun, unit.backstore, std::move(*channel)});
  const auto added = target.device->add_unit(unit.lun, std::move(config), *target.channels.back().channel);
  return added ? Status() : tl::unexpected(added.error());
}

Status Shard::open_unit(std::uint32_t target, const UnitSpec& unit, std::span<const PortalGroup> groups) {
  TargetNode& there = node(target);
  if (there.device->unit(unit.lun) != nullptr)
    return fail(Errc::already_exists, "logical unit number in use");
  scsi::UnitConfig config = unit.config;
  config.space = unit.space;
  if (!knows_all(config.port_groups, groups)) config.port_groups = port_groups_of(groups);
  if (unit.keep_access_states) {
    auto states = std::make_unique<AccessStates>(loop, unit.keep_access_states);
    config.access_states = states.get();
    there.access_states.push_back({unit.lun, std::move(states)});
  }
  Status status = open_record(there, unit, config);
  if (status) status = open_device(there, unit, std::move(config));
  if (!status) close_unit(target, unit.lun);
  return status;
}

bool Shard::unit_idle(std::uint32_t target, std::uint16_t lun) {
  TargetNode* const there = find_node(target);
  if (there == nullptr) return true;
  scsi::LogicalUnit* const unit = there->device->unit(lun);
  if (unit != nullptr && unit->medium().running()) unit->medium().stop();
  return there->device->unit_idle(lun);
}

bool Shard::take_out_unit(std::uint32_t target, std::uint16_t lun) {
  TargetNode* const there = find_node(target);
  if (there == nullptr || there->device->unit(lun) == nullptr) return true;
  return there->device->remove_unit(lun).has_value();
}

bool Shard::memory_is_idle(std::uint32_t target, std::uint16_t lun) {
  TargetNode* const there = find_node(target);
  if (there == nullptr) return true;
  bool idle = true;
  for (const TargetNode::OpenChannel& open : there->channels) {
    if (open.lun != lun || open.channel == nullptr) continue;
    const Lent lent = lent_by(*open.channel);
    if (lent.begin == nullptr) continue;
    connections_.for_each([&](Connection& connection) {
      idle = idle &&
             (connection.engine() == nullptr || !connection.engine()->tx().refers_to(lent.begin, lent.bytes));
    });
  }
  return idle;
}

void Shard::close_unit(std::uint32_t target, std::uint16_t lun) {
  TargetNode* const there = find_node(target);
  if (there == nullptr) return;
  std::erase_if(there->channels, [lun](const auto& open) { return open.lun == lun; });
  std::erase_if(there->ports, [lun](const auto& open) { return open.lun == lun; });
  std::erase_if(there->records, [lun](const auto& open) { return open.lun == lun; });
  std::erase_if(there->access_states, [lun](const auto& open) { return open.lun == lun; });
}

std::size_t Shard::sessions_of(std::uint32_t target) noexcept {
  std::size_t count = 0;
  sessions_.for_each(
      [&](Session& session) { count += session.node() != nullptr && session.node()->index == target; });
  return count;
}

void Shard::list_sessions(std::vector<SessionView>& views) {
  sessions_.for_each([&](Session& session) {
    if (session.node() == nullptr || session.ending()) return;
    SessionView& view = views.emplace_back();
    view.target = session.node()->index;
    view.portal_group_tag = session.portal_group_tag();
    view.initiator_name = session.initiator_name();
    view.initiator_alias = session.initiator_alias();
    view.isid = session.isid();
    view.tsih = session.tsih();
    view.user = session.user();
    view.params = session.engine().params();
    for (Connection* connection : session.connections()) {
      view.connections.push_back({connection->engine()->cid(), connection->peer(), connection->leaving(),
                                  connection->engine()->params()});
    }
  });
}

}  // namespace perilune::target
