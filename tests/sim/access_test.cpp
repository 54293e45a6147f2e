// SPDX-License-Identifier: Apache-2.0
// Who may use a target, through the whole of it with two shards (target/access.hpp): who is refused, which LUNs each sees, and what
// a change of that does to those who are logged in and at work.
#include <gtest/gtest.h>

#include "block/open_backstore.hpp"
#include "sim/machines.hpp"
#include "sim/pdu_client.hpp"
#include "sim/workload.hpp"

namespace perilune::sim {
namespace {

using namespace std::chrono_literals;
using namespace perilune::iscsi;
using Luns = std::vector<scsi::LunMapping>;

constexpr std::uint64_t blocks = 1024;
constexpr const char* alice = "iqn.2026-11.io.perilune:alice";
constexpr const char* bob = "iqn.2026-11.io.perilune:bob";

// An initiator that sends one command after the other.
class Client final : public PduClient::Observer {
 public:
  Client(World& world, const char* name, std::uint8_t isid, const char* user = nullptr, const char* secret = nullptr)
      : world_(world),
        host_(world.add_host(name + std::to_string(isid), {"10.0.2." + std::to_string(isid)})),
        client_(host_.add_loop(), *runtime::Endpoint::parse("10.0.0.1:3260", 0), config(name, isid, user, secret), *this) {
    world_.run_until([this] { return client_.logged_in() || over_; }, 60s);
  }
  ~Client() override { host_.crash(Crash::process); }
  [[nodiscard]] bool logged_in() const { return client_.logged_in(); }
  [[nodiscard]] bool over() const { return over_; }
  [[nodiscard]] std::uint16_t status() const { return status_; }  // of the login: class and detail

  // The status, and the sense as key, ASC, ASCQ.
  std::uint32_t run(std::vector<std::uint8_t> cdb, std::uint8_t lun, std::uint32_t in = 0, std::vector<std::uint8_t> out = {}) {
    ScsiCommand command;
    command.read = in != 0;
    command.write = !out.empty();
    command.lun = std::uint64_t{lun} << 48;
    command.initiator_task_tag = ++tag_;
    command.expected_data_transfer_length = in != 0 ? in : static_cast<std::uint32_t>(out.size());
    command.cmd_sn = cmd_sn_;
    command.exp_stat_sn = exp_stat_sn_;
    ++cmd_sn_;
    cdb.resize(16);
    std::copy(cdb.begin(), cdb.end(), command.cdb.begin());
    data.clear();
    ended_ = false;
    client_.send(command, out);
    world_.run_until([this] { return ended_ || over_; }, 60s);
    return over_ ? ~0u : outcome_;
  }

  void on_login(PduClient&) override {
    exp_stat_sn_ = client_.login().exp_stat_sn;
    cmd_sn_ = client_.login().next_cmd_sn;
  }
  void on_pdu(PduClient&, const std::uint8_t* bhs, Bytes payload) override {
    const bool data_in = opcode(bhs) == Opcode::data_in;
    if (data_in) data.insert(data.end(), payload.begin(), payload.end());
    if (data_in ? (bhs[1] & 1) == 0 : opcode(bhs) != Opcode::scsi_response) return;  // a ping is left unanswered: no test lasts so long
    ++exp_stat_sn_;
    outcome_ = bhs[3];
    if (!data_in && payload.size() > 2 + 13) {
      outcome_ = static_cast<std::uint32_t>((payload[2 + 2] & 0xf) << 16 | payload[2 + 12] << 8 | payload[2 + 13]);
    }
    ended_ = true;
  }
  void on_end(PduClient& client) override {
    over_ = true;
    if (exp_stat_sn_ == StatSn()) status_ = static_cast<std::uint16_t>(client.login_failure().status.value_or(LoginStatus::success));
  }

  std::vector<std::uint8_t> data;

 private:
  static InitiatorLoginConfig config(const char* name, std::uint8_t isid, const char* user, const char* secret) {
    InitiatorLoginConfig login;
    login.initiator_name = name;
    login.target_name = target_name;
    login.isid = {0x80, 0, 0, 0, 0, isid};
    if (user != nullptr) login.account = ChapCredentials{user, crypto::Secret(secret)};
    return login;
  }
  World& world_;
  SimHost& host_;
  PduClient client_;
  StatSn exp_stat_sn_;
  CmdSn cmd_sn_;
  std::uint32_t tag_ = 0;
  std::uint32_t outcome_ = 0;
  std::uint16_t status_ = 0;
  bool ended_ = false;
  bool over_ = false;
};

const std::vector<std::uint8_t> test_unit_ready(6), report_luns{0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0};
const std::vector<std::uint8_t> read_10{0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}, write_10{0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0};

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
        [this, shared = std::make_shared<target::AccessSpec>(std::move(access))](target::ServerConfig& config) {
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
    machine.reset();
    workload.reset();
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
  std::unique_ptr<BlockHistory> history;
  std::unique_ptr<Workload> workload;
  std::unique_ptr<InitiatorMachine> machine;
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
  machine = std::make_unique<InitiatorMachine>(world, world.add_host("initiator", {"10.0.1.1"}), ScenarioOptions{}, pairing.session());
  machine->start();
  ASSERT_TRUE(world.run_until([&] { return machine->unit() != nullptr; }, 60s));
  WorkloadShape shape;
  shape.blocks = blocks;
  shape.total = 3000;
  history = std::make_unique<BlockHistory>(7, 512, BlockCount(blocks));
  workload = std::make_unique<Workload>(world, *history, shape);
  workload->use(*machine->unit());

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
  const std::uint64_t before = workload->ended();
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

  ASSERT_TRUE(world.run_until([&] { return workload->over() || !workload->problem().empty(); }, 600s));
  EXPECT_EQ(workload->problem(), "");
  EXPECT_EQ(workload->failures(), 0U);
  EXPECT_GT(workload->ended(), before);
  EXPECT_EQ(machine->session()->info().reconnects, 0U);
}

}  // namespace
}  // namespace perilune::sim
