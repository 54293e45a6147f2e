// SPDX-License-Identifier: Apache-2.0
// Targets, portal groups, portals and logical units that come and go while the target serves (Server,
// server_changes.cpp), with two shards and somebody who writes all the while.
#include <gtest/gtest.h>

#include "block/open_backstore.hpp"
#include "sim/one_by_one.hpp"
#include "sim/writer.hpp"

namespace perilune::sim {
namespace {

using namespace std::chrono_literals;

constexpr std::uint64_t blocks = 1024;
constexpr const char* alice = "iqn.2026-11.io.perilune:alice";
constexpr const char* bob = "iqn.2026-11.io.perilune:bob";
constexpr const char* other_target = "iqn.2026-11.io.perilune:other";
constexpr std::uint32_t not_there = 0x052500u, luns_changed = 0x063f0eu, power_on = 0x062900u,
                        access_states_changed = 0x062a06u;
const std::vector<std::uint8_t> block(512, 0x5a);

target::UnitSpec memory(std::uint16_t number, const char* spec = "ram:1M") {
  target::UnitSpec unit;
  unit.lun = number;
  unit.config.identity = scsi::UnitIdentity::from_id(100u + number);
  unit.backstore = block::open_backstore(spec, {}).value();
  return unit;
}

class LiveChanges : public ::testing::TestWithParam<std::uint32_t> {
 protected:
  void SetUp() override {
    SimHost& host = world.add_host("target", {"10.0.0.1"});
    DiskOptions disk;
    disk.size_bytes = blocks * 512;
    host.add_disk("/disk", disk);
    pairing.spare_buffer_pages = 1024;
    target = std::make_unique<TargetMachine>(
        world, host, ScenarioOptions{},
        [this](target::ServerConfig& config) {
          pairing.apply(config);
          config.targets.front().access = access({});
        },
        GetParam());
    target->start();
    ASSERT_EQ(target->problem(), "");
    writer = std::make_unique<Writer>(world, pairing.session(), blocks, 1500);
  }
  void TearDown() override {
    writer->expect_undisturbed();
    writer.reset();
    target.reset();
  }
  // The machine sees its disk; alice what is given.
  target::AccessSpec access(std::vector<scsi::LunMapping> of_alice) {
    target::AccessSpec spec;
    spec.demo_mode = false;
    spec.acls.push_back({pairing.session().initiator_name, {{.lun = 0, .unit = 0}}, std::nullopt});
    spec.acls.push_back({alice, std::move(of_alice), std::nullopt});
    return spec;
  }
  target::Server& server() { return target->server(); }
  // On the thread of the server; the outcome, when it comes in time.
  std::string now(const std::function<void(target::Server::Done)>& work) {
    std::optional<Status> outcome;
    server().shard().loop.post([&] { work([&](Status status) { outcome = std::move(status); }); });
    if (!world.run_until([&] { return outcome.has_value(); }, 5s)) return "not done";
    return *outcome ? "" : outcome->error().message;
  }
  std::string set_access(target::AccessSpec spec) {
    return now([&](const target::Server::Done& done) { done(server().set_access(0, std::move(spec))); });
  }
  std::string add_unit(std::uint32_t number, target::UnitSpec unit) {
    return now(
        [&](target::Server::Done done) { server().add_unit(number, std::move(unit), std::move(done)); });
  }
  std::string remove_unit(std::uint16_t lun) {
    return now([&](target::Server::Done done) { server().remove_unit(0, lun, std::move(done)); });
  }
  std::uint32_t add_target(const char* name) {
    target::TargetSpec spec;
    spec.name = name;
    spec.portal_groups = {{.tag = 1, .portals = {target::no_portal}}};
    std::uint32_t number = ~0u;
    EXPECT_EQ(now([&](const target::Server::Done& done) {
                server().add_target(std::move(spec), [&number, done](Result<std::uint32_t> made) {
                  if (made) number = *made;
                  done(made ? Status() : tl::unexpected(made.error()));
                });
              }),
              "");
    return number;
  }
  std::string set_group(std::uint32_t number, target::PortalGroup group, target::GroupRules rules) {
    return now([&](const target::Server::Done& done) {
      done(server().set_group(number, std::move(group), std::move(rules)));
    });
  }

  World world{1};
  Pairing pairing;
  std::unique_ptr<TargetMachine> target;
  std::unique_ptr<Writer> writer;
};
INSTANTIATE_TEST_SUITE_P(Shards, LiveChanges, ::testing::Values(1u, 2u));

TEST_P(LiveChanges, AUnitComesAndGoesAndTellsThoseWhoSeeIt) {
  ASSERT_EQ(set_access(access({{.lun = 0, .unit = 0}})), "");
  Client a(world, alice, 1), b(world, alice, 2);  // where there are two shards, on both
  for (Client* client : {&a, &b}) {
    ASSERT_TRUE(client->logged_in());
    EXPECT_EQ(client->run(test_unit_ready, 0), power_on);
  }
  for (std::uint16_t unit = 1; unit <= 4; ++unit) {
    ASSERT_EQ(add_unit(0, memory(unit)), "");
    for (Client* client : {&a, &b})
      EXPECT_EQ(client->run(test_unit_ready, 0), 0u) << "it does not see the unit";
    ASSERT_EQ(set_access(access({{.lun = 0, .unit = 0}, {.lun = 9, .unit = unit}})), "");
    for (Client* client : {&a, &b}) {
      EXPECT_EQ(client->run(test_unit_ready, 0), luns_changed);
      EXPECT_EQ(client->run(test_unit_ready, 9), power_on);
      EXPECT_EQ(client->run(test_unit_ready, 9), luns_changed);
    }
    EXPECT_EQ(a.run(write_10, 9, 0, block), 0u);
    EXPECT_EQ(b.run(read_10, 9, 512), 0u);
    EXPECT_EQ(b.data, block);
    EXPECT_NE(remove_unit(unit), "") << "somebody sees it";
    EXPECT_EQ(a.run(read_10, 9, 512), 0u);
    ASSERT_EQ(set_access(access({{.lun = 0, .unit = 0}})), "");
    ASSERT_EQ(remove_unit(unit), "");
    for (Client* client : {&a, &b}) {
      EXPECT_EQ(client->run(test_unit_ready, 9), not_there);
      EXPECT_EQ(client->run(test_unit_ready, 0), luns_changed);
      EXPECT_EQ(client->run(test_unit_ready, 0), 0u);
    }
    EXPECT_NE(remove_unit(unit), "") << "it is gone";
  }
}

// Everybody has been told when the operator is.
TEST_P(LiveChanges, AccessStatesAreInForceOnEveryShardWhenItIsDone) {
  ASSERT_EQ(set_access(access({{.lun = 0, .unit = 0}})), "");
  Client a(world, alice, 1), b(world, alice, 2);  // where there are two shards, on both
  for (Client* client : {&a, &b}) {
    ASSERT_TRUE(client->logged_in());
    EXPECT_EQ(client->run(test_unit_ready, 0), power_on);
  }
  for (const auto state : {scsi::AccessState::active_non_optimized, scsi::AccessState::active_optimized}) {
    ASSERT_EQ(now([&](target::Server::Done done) {
                server().change_port_groups(
                    0, 0,
                    [state](scsi::PortGroups& groups) {
                      (void)groups.set_state(groups.all().front().id, state, scsi::PortGroup::Cause::implicit);
                    },
                    [this, state, done](const Status& status) {
                      for (std::uint32_t i = 0; i < server().shard_count(); ++i) {
                        const auto& unit = *server().shard(i).find_node(0)->device->unit(0);
                        EXPECT_EQ(unit.port_groups().all().front().state, state) << "shard " << i;
                      }
                      done(status);
                    });
              }),
              "");
    for (Client* client : {&a, &b}) {
      EXPECT_EQ(client->run(test_unit_ready, 0), access_states_changed);
      EXPECT_EQ(client->run(test_unit_ready, 0), 0u);
    }
  }
  EXPECT_NE(now([&](target::Server::Done done) {
              server().change_port_groups(0, 99, [](scsi::PortGroups&) {}, std::move(done));
            }),
            "");
}

TEST_P(LiveChanges, AUnitGoesWhenWhatIsInProgressOnItHasEnded) {
  ASSERT_EQ(add_unit(0, memory(1)), "");
  ASSERT_EQ(set_access(access({{.lun = 0, .unit = 0}, {.lun = 1, .unit = 1}})), "");
  Client a(world, alice, 1), b(world, alice, 2);
  for (Client* client : {&a, &b}) {
    ASSERT_TRUE(client->logged_in());
    EXPECT_EQ(client->run(test_unit_ready, 0), power_on);
    EXPECT_EQ(client->run(test_unit_ready, 1), power_on);
  }
  b.hang(write_10, 1);
  (void)b.run(test_unit_ready, 0);  // behind it
  EXPECT_EQ(a.run(read_10, 1, 512), 0u);
  ASSERT_EQ(set_access(access({{.lun = 0, .unit = 0}})), "");
  bool gone = false;
  server().shard().loop.post(
      [&] { server().remove_unit(0, 1, [&](const Status& status) { gone = status.has_value(); }); });
  EXPECT_FALSE(world.run_until([&] { return gone; }, 3s)) << "a write is in progress";
  EXPECT_EQ(a.run(read_10, 1, 512), not_there) << "nothing new begins";
  EXPECT_EQ(add_unit(0, memory(1)), std::string(target_name) + " has a logical unit 1 already");
  b.drop();
  EXPECT_TRUE(world.run_until([&] { return gone; }, 5s));
  EXPECT_EQ(add_unit(0, memory(1)), "");
}

TEST_P(LiveChanges, AUnitThatCannotBeOpenedLeavesNothingBehind) {
  EXPECT_NE(add_unit(0,
                     [] {
                       target::UnitSpec unit = memory(3);
                       unit.config.protection_type =
                           scsi::ProtectionType::type_1;  // for which there is no room
                       return unit;
                     }()),
            "");
  EXPECT_EQ(add_unit(0, memory(3)), "");
}

TEST_P(LiveChanges, WhoComesBeforeAllTargetsAreThereWaitsForThem) {
  runtime::Loop& loop = server().shard().loop;
  struct Start {
    target::Server& server;
    void over() { server.admit_connections(); }
  } start{server()};
  runtime::Timer timer(loop.timers(), Delegate<void()>::to<&Start::over>(start));
  server().hold_connections();
  const runtime::Instant began = loop.now();
  timer.arm(began + 2s);
  Client early(world, alice, 1);
  EXPECT_TRUE(early.logged_in());
  EXPECT_GE(loop.now() - began, 2s);
  server().hold_connections();
  server().admit_connections();
  EXPECT_TRUE(Client(world, alice, 2).logged_in());
}

TEST_P(LiveChanges, TargetsGroupsAndPortalsComeAndGo) {
  EXPECT_EQ(Client(world, bob, 1, nullptr, nullptr, other_target).status(), 0x0203);
  const std::uint32_t other = add_target(other_target);
  ASSERT_EQ(add_unit(other, memory(0)), "");
  EXPECT_EQ(Client(world, bob, 2, nullptr, nullptr, other_target).status(), 0x0203) << "no portal yet";
  std::uint32_t portal = 0;
  const auto listen = [&](const char* where) {
    return now([&](const target::Server::Done& done) {
      auto bound = server().add_portal(*runtime::Endpoint::parse(where, 0));
      if (bound) portal = *bound;
      done(bound ? Status() : tl::unexpected(bound.error()));
    });
  };
  ASSERT_EQ(listen("10.0.0.1:3261"), "");
  EXPECT_NE(listen("10.0.0.1:3261"), "") << "taken";
  const auto rules = [](bool open, bool admits) {
    target::GroupRules made;
    made.access.demo_luns.emplace({scsi::LunMapping{.lun = 7, .unit = 0, .read_only = true}});
    made.open = open;
    made.admits = admits;
    return made;
  };
  ASSERT_EQ(set_group(other, {.tag = 1, .portals = {portal}}, rules(true, true)), "");
  const auto log_in = [&](std::uint8_t isid) {
    return std::make_unique<Client>(world, bob, isid, nullptr, nullptr, other_target, "10.0.0.1:3261");
  };
  auto b = log_in(3);
  ASSERT_TRUE(b->logged_in());
  EXPECT_EQ(b->run(test_unit_ready, 7), power_on);
  EXPECT_EQ(b->run(write_10, 7, 0, block), 0x072700u);
  EXPECT_EQ(b->run(test_unit_ready, 0), not_there);

  ASSERT_EQ(set_group(other, {.tag = 1, .portals = {portal}}, rules(true, false)), "");
  EXPECT_EQ(log_in(4)->status(), 0x0301) << "paused";
  EXPECT_EQ(b->run(read_10, 7, 512), 0u) << "who is there goes on";
  ASSERT_EQ(set_group(other, {.tag = 1, .portals = {portal}}, rules(false, true)), "");
  ASSERT_TRUE(world.run_until([&] { return b->over(); }, 5s));
  EXPECT_EQ(log_in(5)->status(), 0x0301) << "closed";
  ASSERT_EQ(set_group(other, {.tag = 1, .portals = {portal}}, rules(true, true)), "");
  b = log_in(6);
  ASSERT_TRUE(b->logged_in());

  EXPECT_EQ(now([&](target::Server::Done done) { server().remove_target(other, std::move(done)); }), "");
  ASSERT_TRUE(world.run_until([&] { return b->over(); }, 1s));
  EXPECT_EQ(log_in(7)->status(), 0x0203);
  EXPECT_NE(add_target(other_target), other) << "its name may be used again";
  EXPECT_EQ(now([&](const target::Server::Done& done) {
              server().remove_portal(portal);
              done({});
            }),
            "");
  EXPECT_FALSE(log_in(8)->logged_in());
  ASSERT_EQ(listen("10.0.0.1:3261"), "");
}

}  // namespace
}  // namespace perilune::sim
