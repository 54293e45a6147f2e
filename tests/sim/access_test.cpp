// SPDX-License-Identifier: Apache-2.0
// Who may use a target, through the whole of it with two shards (target/access.hpp): who is refused, which
// LUNs each sees, and what a change of that does to those who are logged in and at work.
#include <gtest/gtest.h>

#include "block/open_backstore.hpp"
#include "sim/one_by_one.hpp"
#include "sim/writer.hpp"

namespace perilune::sim {
namespace {

using namespace std::chrono_literals;
using Luns = std::vector<scsi::LunMapping>;

constexpr std::uint64_t blocks = 1024;
constexpr const char* alice = "iqn.2026-11.io.perilune:alice";
constexpr const char* bob = "iqn.2026-11.io.perilune:bob";

target::NodeAcl acl(const char* name, Luns luns) { return {name, std::move(luns), std::nullopt}; }

class TargetAccess : public ::testing::Test {
 protected:
  // Unit 0 is the disk of the machine, unit 1 is in memory.
  void make(target::AccessSpec access) {
    SimHost& host = world.add_host("target", {"10.0.0.1"});
    DiskOptions disk;
    disk.size_bytes = blocks * 512;
    host.add_disk("/disk", disk);
    pairing.spare_buffer_pages = 1024;
    target = std::make_unique<TargetMachine>(
        world, host, ScenarioOptions{},
        [this,
         shared = std::make_shared<target::AccessSpec>(std::move(access))](target::ServerConfig& config) {
          pairing.apply(config);
          auto memory = block::open_backstore("ram:1M", {});
          ASSERT_TRUE(memory);
          target::UnitSpec unit;
          unit.lun = 1;
          unit.config.identity = scsi::UnitIdentity::from_id(43);
          unit.backstore = std::move(*memory);
          config.targets.front().units.push_back(std::move(unit));
          config.targets.front().access = std::move(*shared);
        },
        2);
    target->start();
    ASSERT_EQ(target->problem(), "");
  }
  void TearDown() override {
    writer.reset();
    target.reset();
  }
  void change(target::AccessSpec access, const std::string& refusal = {}) {
    bool done = false;
    target->server().shard().loop.post([&] {
      const Status status = target->server().set_access(0, std::move(access));
      EXPECT_EQ(status ? "" : status.error().message, refusal);
      done = true;
    });
    ASSERT_TRUE(world.run_until([&] { return done; }, 1s));
  }
  // The first thing that each unit says.
  static void greet(Client& client, std::initializer_list<std::uint8_t> luns) {
    for (const std::uint8_t lun : luns) EXPECT_EQ(client.run(test_unit_ready, lun), 0x062900u) << int{lun};
  }
  static std::vector<int> luns_of(Client& client) {
    EXPECT_EQ(client.run(report_luns, 0, 256), 0u);
    std::vector<int> luns;
    for (std::size_t at = 8; at + 8 <= client.data.size(); at += 8) luns.push_back(client.data[at + 1]);
    return luns;
  }

  World world{1};
  Pairing pairing;
  std::unique_ptr<TargetMachine> target;
  std::unique_ptr<Writer> writer;
};

TEST_F(TargetAccess, StrangersAreRefusedAndEachSeesItsOwnLuns) {
  target::AccessSpec access;
  access.demo_mode = false;
  access.acls.push_back(acl(alice, {{.lun = 0, .unit = 1}, {.lun = 4, .unit = 0, .read_only = true}}));
  access.acls.push_back(acl(bob, {{.lun = 2, .unit = 1}}));
  access.acls.back().auth.emplace().accounts.push_back({chap_user, crypto::Secret(chap_secret)});
  make(std::move(access));
  EXPECT_EQ(Client(world, "iqn.2026-11.io.perilune:carol", 1).status(), 0x0202);
  EXPECT_EQ(Client(world, bob, 2).status(), 0x0201) << "its ACL asks for CHAP";
  EXPECT_EQ(Client(world, bob, 3, chap_user, "not the secret at all").status(), 0x0201);

  Client a(world, alice, 4), b(world, bob, 5, chap_user, chap_secret);
  ASSERT_TRUE(a.logged_in());
  ASSERT_TRUE(b.logged_in());
  EXPECT_EQ(luns_of(a), (std::vector<int>{0, 4}));
  EXPECT_EQ(luns_of(b), (std::vector<int>{2}));
  greet(a, {0, 4});
  greet(b, {2});
  EXPECT_EQ(a.run(test_unit_ready, 1), 0x052500u) << "the unit's own number is not its LUN here";
  EXPECT_EQ(a.run(write_10, 0, 0, std::vector<std::uint8_t>(512, 0x5a)), 0u);
  EXPECT_EQ(a.run(write_10, 4, 0, std::vector<std::uint8_t>(512, 0x5a)), 0x072700u);
  EXPECT_EQ(a.run(read_10, 4, 512), 0u);
  EXPECT_EQ(b.run(read_10, 2, 512), 0u);
  EXPECT_EQ(b.data, std::vector<std::uint8_t>(512, 0x5a)) << "one unit";
}

TEST_F(TargetAccess, AChangeReachesThoseItConcernsWhileTheOthersWork) {
  const std::string own = pairing.session().initiator_name;
  target::AccessSpec at_first;  // demo mode, and the machine sees its disk alone
  at_first.acls.push_back(acl(own.c_str(), {{.lun = 0, .unit = 0}}));
  make(std::move(at_first));
  writer = std::make_unique<Writer>(world, pairing.session(), blocks, 3000);

  Client a(world, alice, 1), b(world, bob, 2), again(world, alice, 3);  // on both shards
  for (Client* client : {&a, &b, &again}) {
    ASSERT_TRUE(client->logged_in());
    EXPECT_EQ(luns_of(*client), (std::vector<int>{0, 1}));
    greet(*client, {0, 1});
  }
  const auto spec = [&](std::vector<target::NodeAcl> others) {
    target::AccessSpec access;
    access.demo_mode = false;
    access.acls = std::move(others);
    access.acls.push_back(acl(own.c_str(), {{.lun = 0, .unit = 0}}));
    return access;
  };
  const std::uint64_t before = writer->ended();
  std::vector<target::NodeAcl> alone;
  alone.push_back(acl(alice, {{.lun = 1, .unit = 1, .read_only = true}}));
  change(spec(std::move(alone)));
  ASSERT_TRUE(world.run_until([&] { return b.over(); }, 5s)) << "its right is gone";
  for (Client* client : {&a, &again}) {
    EXPECT_EQ(client->run(test_unit_ready, 1), 0x063f0eu);
    EXPECT_EQ(client->run(test_unit_ready, 0), 0x052500u);
    EXPECT_EQ(client->run(write_10, 1, 0, std::vector<std::uint8_t>(512)), 0x072700u);
    EXPECT_EQ(client->run(read_10, 1, 512), 0u);
    EXPECT_EQ(luns_of(*client), (std::vector<int>{1}));
  }
  EXPECT_EQ(Client(world, bob, 4).status(), 0x0202);

  std::vector<target::NodeAcl> twice;
  twice.push_back(acl(alice, {}));
  twice.push_back(acl(alice, {}));
  change(spec(std::move(twice)), std::string(alice) + " has an ACL already");
  EXPECT_EQ(a.run(read_10, 1, 512), 0u) << "nothing has changed";
  change(spec({}));
  ASSERT_TRUE(world.run_until([&] { return a.over() && again.over(); }, 5s));
  EXPECT_EQ(Client(world, alice, 5).status(), 0x0202);

  writer->expect_undisturbed();
  EXPECT_GT(writer->ended(), before);
}

}  // namespace
}  // namespace perilune::sim
