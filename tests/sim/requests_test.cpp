// SPDX-License-Identifier: Apache-2.0
// What a target may ask of an initiator (RFC 7143 11.9.1), through the whole target, with its timers: a
// logout (event 1), parameter negotiation (4), and the announcement that a connection is dropped (2). Ours
// follows; one that does not is told and dropped.
#include <gtest/gtest.h>

#include "sim/machines.hpp"
#include "sim/pdu_client.hpp"
#include "sim/workload.hpp"

namespace perilune::sim {
namespace {

using namespace std::chrono_literals;
using namespace perilune::iscsi;

constexpr std::uint64_t blocks = 1024;

class TargetRequests : public ::testing::Test {
 protected:
  void make(std::uint8_t level, std::uint16_t connections, std::uint32_t shards = 1, std::uint64_t seed = 1) {
    world = std::make_unique<World>(seed);
    SimHost& host = world->add_host("target", {"10.0.0.1"});
    DiskOptions disk;
    disk.size_bytes = blocks * 512;
    host.add_disk("/disk", disk);
    pairing.recovery_level = level;
    pairing.connections = connections;
    pairing.time2wait = 1;
    pairing.time2retain = level == 2 ? 20 : 0;
    pairing.spare_buffer_pages = 1024;
    target = std::make_unique<TargetMachine>(
        *world, host, ScenarioOptions{}, [this](target::ServerConfig& config) { pairing.apply(config); },
        shards);
    target->start();
    ASSERT_EQ(target->problem(), "");
  }
  // Ours, with a load that tolerates nothing.
  void log_in() {
    machine = std::make_unique<InitiatorMachine>(*world, world->add_host("initiator", {"10.0.1.1"}),
                                                 ScenarioOptions{}, pairing.session());
    machine->start();
    ASSERT_TRUE(world->run_until([&] { return machine->unit() != nullptr; }, 60s));
    ASSERT_TRUE(world->run_until([&] { return info().connections.size() == pairing.connections; }, 60s));
    WorkloadShape shape;
    shape.blocks = blocks;
    shape.total = 3000;
    history = std::make_unique<BlockHistory>(7, 512, BlockCount(blocks));
    workload = std::make_unique<Workload>(*world, *history, shape);
    workload->use(*machine->unit());
    ASSERT_TRUE(world->run_until([&] { return workload->ended() > 100; }, 60s));
  }
  void TearDown() override {
    machine.reset();
    workload.reset();
    target.reset();
  }
  [[nodiscard]] initiator::SessionInfo info() { return machine->session()->info(); }
  // On the loop that owns the server.
  void ask(const std::function<bool(target::Server&)>& work) {
    bool known = false, done = false;
    target->server().shard().loop.post([&] {
      known = work(target->server());
      done = true;
    });
    ASSERT_TRUE(world->run_until([&] { return done; }, 1s));
    EXPECT_TRUE(known);
  }
  void nothing_is_lost() {
    ASSERT_TRUE(world->run_until([&] { return workload->over() || !workload->problem().empty(); }, 600s));
    EXPECT_EQ(workload->problem(), "");
    EXPECT_EQ(workload->failures(), 0U);
  }

  Pairing pairing;
  std::unique_ptr<World> world;
  std::unique_ptr<TargetMachine> target;
  std::unique_ptr<BlockHistory> history;
  std::unique_ptr<Workload> workload;
  std::unique_ptr<InitiatorMachine> machine;
};

TEST_F(TargetRequests, OursLogsOutWhenItIsAskedToAndComesAgain) {
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    SCOPED_TRACE(seed);
    make(0, 2, 2, seed);
    log_in();
    const std::uint16_t before = info().tsih;
    ask([&](target::Server& server) { return server.request_logout(before, 10s); });
    ASSERT_TRUE(
        world->run_until([&] { return info().reconnects == 1 && info().connections.size() == 2; }, 9s));
    EXPECT_EQ(machine->session()->statistics().logout_pdus, 1U);
    EXPECT_EQ(machine->session()->statistics().logoutrsp_pdus, 1U);
    ask([&](target::Server& server) { return !server.request_logout(before, 10s); });
    nothing_is_lost();
    world->run_for(60s);
    EXPECT_EQ(info().reconnects, 1U) << "asked once";
    TearDown();
  }
}

TEST_F(TargetRequests, OursNegotiatesByANewLogin) {
  make(0, 1);
  log_in();
  ask([&](target::Server& server) { return server.request_negotiation(info().tsih, 10s); });
  ASSERT_TRUE(world->run_until([&] { return info().reconnects == 1; }, 9s));
  nothing_is_lost();
}

TEST_F(TargetRequests, ADroppedConnectionIsReplacedAfterTime2Wait) {
  make(0, 1);
  log_in();
  const Instant began = world->now();
  ask([&](target::Server& server) { return server.drop_connection(info().tsih, 0); });
  ASSERT_TRUE(world->run_until([&] { return info().reconnects == 1; }, 9s));
  EXPECT_GE(world->now() - began, 1s);
  EXPECT_GE(machine->session()->statistics().async_pdus, 1U);
  nothing_is_lost();
}

TEST_F(TargetRequests, ADroppedConnectionOfLevel2IsRecovered) {
  make(2, 3);
  log_in();
  for (std::uint16_t cid = 0; cid < 3; ++cid) {
    ask([&](target::Server& server) { return server.drop_connection(info().tsih, cid); });
    ASSERT_TRUE(world->run_until(
        [&] { return info().recovered_connections == cid + 1U && info().connections.size() == 3; }, 30s));
  }
  EXPECT_EQ(info().reconnects, 0U);
  nothing_is_lost();
}

// An initiator that does nothing but what a test says.
class Stubborn final : public PduClient::Observer {
 public:
  explicit Stubborn(World& world)
      : world_(world),
        host_(world.add_host("stubborn", {"10.0.1.2"})),
        client_(host_.add_loop(), *runtime::Endpoint::parse("10.0.0.1:3260", 0), config(), *this) {}
  ~Stubborn() override { host_.crash(Crash::process); }
  static InitiatorLoginConfig config() {
    InitiatorLoginConfig login;
    login.initiator_name = "iqn.2026-11.io.perilune:stubborn";
    login.target_name = target_name;
    login.isid = {0x80, 0, 0, 0, 0, 9};
    login.cid = 3;
    return login;
  }
  void on_login(PduClient&) override {
    exp_stat_sn = client_.login().exp_stat_sn;
    cmd_sn = client_.login().next_cmd_sn;
    tsih = client_.login().tsih;
  }
  void on_pdu(PduClient&, const std::uint8_t* bhs, Bytes) override {
    const bool ping = opcode(bhs) == Opcode::nop_in;
    if (!ping) ++exp_stat_sn;
    if (ping) return answer_ping(bhs);
    if (opcode(bhs) == Opcode::text_response) ++text_responses;
    if (opcode(bhs) != Opcode::async_message) return;
    told.push_back({world_.now(), {bhs, bhs + bhs_bytes}});
    if (answers_by_text) text();
  }
  void on_end(PduClient&) override { ended = world_.now(); }
  void answer_ping(const std::uint8_t* bhs) {
    pinged.push_back(world_.now());
    if (pinged.size() > answers_pings) return;
    NopOut pdu;
    pdu.immediate = true;
    pdu.target_transfer_tag = load_be32(bhs + 20);
    pdu.cmd_sn = cmd_sn;
    pdu.exp_stat_sn = exp_stat_sn;
    client_.send(pdu);
  }
  void text() {
    TextRequest pdu;
    pdu.immediate = true;
    pdu.initiator_task_tag = 77;
    pdu.cmd_sn = cmd_sn;
    pdu.exp_stat_sn = exp_stat_sn;
    client_.send(pdu);
  }

  struct Told {
    Instant when;
    std::vector<std::uint8_t> bhs;
    [[nodiscard]] int event() const { return bhs[36]; }
    [[nodiscard]] int parameter(int number) const {
      return load_be16(&bhs[36 + 2 * static_cast<std::size_t>(number)]);
    }
  };
  std::vector<Told> told;
  std::uint16_t tsih = 0;
  CmdSn cmd_sn;
  StatSn exp_stat_sn;
  int text_responses = 0;
  bool answers_by_text = false;
  std::vector<Instant> pinged;
  std::size_t answers_pings = ~std::size_t{0};  // so many, and no more
  std::optional<Instant> ended;

 private:
  World& world_;
  SimHost& host_;
  PduClient client_;
};

TEST_F(TargetRequests, WhoDoesNotLogOutInTimeIsToldThatItsConnectionIsDropped) {
  make(0, 1);
  Stubborn client(*world);
  ASSERT_TRUE(world->run_until([&] { return client.tsih != 0; }, 60s));
  const Instant began = world->now();
  ask([&](target::Server& server) { return server.request_logout(client.tsih, 5s); });
  ASSERT_TRUE(world->run_until([&] { return client.ended.has_value(); }, 60s));
  ASSERT_EQ(client.told.size(), 2U);
  EXPECT_EQ(client.told[0].event(), 1);
  EXPECT_EQ(client.told[0].parameter(3), 5);
  EXPECT_EQ(client.told[1].event(), 2);
  EXPECT_EQ(client.told[1].parameter(1), 3) << "CID";
  EXPECT_EQ(client.told[1].parameter(2), 2) << "Time2Wait: the larger of both";
  EXPECT_EQ(client.told[1].parameter(3), 0) << "nothing is retained at level 0";
  EXPECT_GE(client.told[1].when - began, 5s);
  EXPECT_LE(*client.ended - began, 7s);
}

TEST_F(TargetRequests, WhoDoesNotNegotiateIsAskedThreeTimesAndLeftAlone) {
  make(0, 1);
  Stubborn client(*world);
  ASSERT_TRUE(world->run_until([&] { return client.tsih != 0; }, 60s));
  ask([&](target::Server& server) { return server.request_negotiation(client.tsih, 5s); });
  world->run_for(60s);
  ASSERT_EQ(client.told.size(), 3U);
  for (const auto& told : client.told) {
    EXPECT_EQ(told.event(), 4);
    EXPECT_EQ(told.parameter(3), 5);
  }
  EXPECT_GE(client.told[1].when - client.told[0].when, 4900ms);
  EXPECT_FALSE(client.ended);
}

TEST_F(TargetRequests, ATextRequestIsAllThatIsAskedFor) {
  make(0, 1);
  Stubborn client(*world);
  client.answers_by_text = true;
  ASSERT_TRUE(world->run_until([&] { return client.tsih != 0; }, 60s));
  ask([&](target::Server& server) { return server.request_negotiation(client.tsih, 5s); });
  world->run_for(60s);
  EXPECT_EQ(client.told.size(), 1U);
  EXPECT_EQ(client.text_responses, 1);
  EXPECT_FALSE(client.ended);
}

// RFC 7143 11.19: 15 seconds of silence, a ping, and 30 more.
TEST_F(TargetRequests, WhoNoLongerAnswersPingsIsDropped) {
  make(0, 1);
  Stubborn client(*world);
  client.answers_pings = 2;
  ASSERT_TRUE(world->run_until([&] { return client.ended.has_value(); }, 300s));
  ASSERT_EQ(client.pinged.size(), 3U);
  EXPECT_GE(client.pinged[2] - client.pinged[1], 44s) << "looked at after 30 seconds, and 15 of silence";
  EXPECT_LE(client.pinged[2] - client.pinged[1], 46s);
  EXPECT_GE(*client.ended - client.pinged[2], 29s);
  EXPECT_LE(*client.ended - client.pinged[2], 32s);
  ASSERT_TRUE(world->run_until([&] { return target->server().session_count() == 0; }, 10s));
}

TEST_F(TargetRequests, WhoHasNeverAnsweredOneIsLeftToTcp) {
  make(0, 1);
  Stubborn client(*world);
  client.answers_pings = 0;
  world->run_for(300s);
  EXPECT_EQ(client.pinged.size(), 1U) << "it is asked once";
  EXPECT_FALSE(client.ended);
}

TEST_F(TargetRequests, NothingIsAskedOfASessionThatIsNotThere) {
  make(0, 1);
  ask([&](target::Server& server) {
    return !server.request_logout(77, 5s) && !server.request_negotiation(77, 5s) &&
           !server.drop_connection(77, 0);
  });
}

}  // namespace
}  // namespace perilune::sim
