// SPDX-License-Identifier: Apache-2.0
#include "iscsi/login/initiator_login.hpp"

#include <gtest/gtest.h>

#include "iscsi/login/login_test_support.hpp"
#include "iscsi/login/target_login.hpp"
#include "iscsi/text/values.hpp"

namespace perilune::iscsi {
namespace {

using test::Bhs;
using Step = InitiatorLogin::Step;

constexpr std::uint8_t to_operational = 0x81, in_operational_stage = 0x04, to_full_feature = 0x87;

InitiatorLoginConfig base_config() {
  InitiatorLoginConfig config;
  config.initiator_name = "iqn.1993-08.org.debian:01:abc";
  config.target_name = "iqn.2026-11.io.perilune:disk";
  config.isid = {0x80, 0x12, 0x34, 0x56, 0x78, 0x9a};
  config.cid = 1;
  config.initiator_task_tag = 7;
  config.cmd_sn = CmdSn(100);
  return config;
}

// A Login Response written by hand (RFC 7143 11.13).
Bhs response(std::uint8_t stages, std::size_t data_length, unsigned status = 0, std::uint16_t tsih = 0) {
  Bhs bhs{};
  bhs[0] = 0x23;
  bhs[1] = stages;
  bhs[6] = static_cast<std::uint8_t>(data_length >> 8);
  bhs[7] = static_cast<std::uint8_t>(data_length);
  bhs[14] = static_cast<std::uint8_t>(tsih >> 8);
  bhs[15] = static_cast<std::uint8_t>(tsih);
  bhs[19] = 7;
  bhs[27] = 9;     // StatSN
  bhs[31] = 100;   // ExpCmdSN
  bhs[35] = 163;   // MaxCmdSN
  bhs[36] = static_cast<std::uint8_t>(status >> 8);
  bhs[37] = static_cast<std::uint8_t>(status);
  return bhs;
}

class InitiatorLoginTest : public ::testing::Test {
 protected:
  void begin(InitiatorLoginConfig config) {
    login.emplace(std::move(config), random.source());
    step = login->start();
  }
  Step answer(std::uint8_t stages, std::string_view bars, unsigned status = 0, std::uint16_t tsih = 0) {
    const std::string data = test::text(bars);
    const Bhs bhs = response(stages, data.size(), status, tsih);
    step = login->receive(bhs.data(), as_bytes(data));
    return step;
  }
  std::string said(std::string_view key) const { return test::value_in(login->request().text, key); }
  void reach_operational() {
    begin(base_config());
    ASSERT_EQ(step, Step::send);
  }
  test::CountingRandom random;
  std::optional<InitiatorLogin> login;
  Step step = Step::failed;
};

TEST_F(InitiatorLoginTest, WritesTheFirstRequestAsTheRfcDrawsIt) {
  begin(base_config());
  ASSERT_EQ(step, Step::send);
  const auto& bhs = login->request().bhs;
  EXPECT_EQ(bhs[0], 0x43);
  EXPECT_EQ(bhs[1], 0x87);  // nothing to prove: the operational stage first
  EXPECT_EQ(bhs[2], 0);
  EXPECT_EQ(bhs[3], 0);
  EXPECT_EQ(load_be24(bhs.data() + 5), login->request().text.size());
  EXPECT_EQ(bhs[8], 0x80);
  EXPECT_EQ(bhs[13], 0x9a);
  EXPECT_EQ(load_be16(bhs.data() + 14), 0);
  EXPECT_EQ(load_be32(bhs.data() + 16), 7u);
  EXPECT_EQ(load_be16(bhs.data() + 20), 1);
  EXPECT_EQ(load_be32(bhs.data() + 24), 100u);
  EXPECT_TRUE(
      login->request().text.starts_with(test::text("InitiatorName=iqn.1993-08.org.debian:01:abc|TargetName="
                                                   "iqn.2026-11.io.perilune:disk|SessionType=Normal")));
  EXPECT_EQ(said("AuthMethod"), "<absent>");
}

TEST_F(InitiatorLoginTest, CompletesAndTellsWhatWasAgreed) {
  reach_operational();
  EXPECT_EQ(said("InitialR2T"), "No");
  EXPECT_EQ(said("HeaderDigest"), "None,CRC32C");
  EXPECT_EQ(said("MaxRecvDataSegmentLength"), "262144");
  EXPECT_EQ(said("iSCSIProtocolLevel"), "<absent>");
  ASSERT_EQ(
      answer(to_full_feature,
             "HeaderDigest=CRC32C|DataDigest=None|InitialR2T=Yes|ImmediateData=Yes|MaxBurstLength=262144|"
             "FirstBurstLength=8192|MaxRecvDataSegmentLength=65536|MaxOutstandingR2T=1|DefaultTime2Wait=3|"
             "DefaultTime2Retain=0|ErrorRecoveryLevel=0|MaxConnections=1|DataPDUInOrder=Yes|"
             "DataSequenceInOrder=Yes|TargetAlias=disk|TargetPortalGroupTag=1",
             0, 5),
      Step::complete);
  const auto& result = login->result();
  EXPECT_EQ(result.tsih, 5);
  EXPECT_EQ(result.target_alias, "disk");
  EXPECT_EQ(result.target_portal_group_tag, 1);
  EXPECT_TRUE(result.connection.header_digest);
  EXPECT_FALSE(result.connection.data_digest);
  EXPECT_EQ(result.connection.max_xmit_data_segment_length, 65536u);
  EXPECT_EQ(result.connection.max_recv_data_segment_length, 262144u);
  EXPECT_TRUE(result.session.initial_r2t);
  EXPECT_EQ(result.session.first_burst_length, 8192u);
  EXPECT_EQ(result.session.default_time2wait, 3);
  EXPECT_EQ(result.next_cmd_sn, CmdSn(100));
  EXPECT_EQ(result.max_cmd_sn, CmdSn(163));
  EXPECT_EQ(result.exp_stat_sn, StatSn(10));
  EXPECT_FALSE(result.chap);
}

TEST_F(InitiatorLoginTest, AnswersWhatTheTargetOffers) {
  reach_operational();
  ASSERT_EQ(answer(in_operational_stage, "HeaderDigest=None|IFMarker=Yes|OFMarkInt=1~2|X-com.example.k=1"),
            Step::send);
  EXPECT_EQ(said("IFMarker"), "No");
  EXPECT_EQ(said("OFMarkInt"), "Reject");
  EXPECT_EQ(said("X-com.example.k"), "NotUnderstood");
  EXPECT_EQ(said("HeaderDigest"), "<absent>");
}

TEST_F(InitiatorLoginTest, JoinsContinuedResponses) {
  reach_operational();
  ASSERT_EQ(answer(0x44, ""), Step::send);
  EXPECT_TRUE(login->request().text.empty());
  const std::string whole = test::text("HeaderDigest=None|DataDigest=None");
  Bhs bhs = response(0x44, 10);
  ASSERT_EQ(login->receive(bhs.data(), as_bytes(whole.substr(0, 10))), Step::send);
  bhs = response(to_full_feature, whole.size() - 10, 0, 1);
  ASSERT_EQ(login->receive(bhs.data(), as_bytes(whole.substr(10))), Step::complete);
}

TEST_F(InitiatorLoginTest, RejectedAndUnknownKeysKeepTheirDefaults) {
  reach_operational();
  ASSERT_EQ(answer(to_full_feature,
                   "InitialR2T=NotUnderstood|MaxBurstLength=Reject|FirstBurstLength=Irrelevant", 0, 1),
            Step::complete);
  EXPECT_TRUE(login->result().session.initial_r2t);
  EXPECT_EQ(login->result().session.max_burst_length, 262144u);
  EXPECT_EQ(login->result().session.first_burst_length, 65536u);
}

TEST_F(InitiatorLoginTest, ReportsARedirect) {
  begin(base_config());
  ASSERT_EQ(answer(0x00, "TargetAddress=[2001:db8::1]:3261,2", 0x0101), Step::failed);
  EXPECT_EQ(login->failure().status, LoginStatus::target_moved_temporarily);
  EXPECT_EQ(login->failure().redirect_address, "[2001:db8::1]:3261,2");
  EXPECT_EQ(login->failure().error.code, Errc::connection);
  begin(base_config());
  ASSERT_EQ(answer(0x00, "TargetAddress=bad address", 0x0102), Step::failed);
  EXPECT_EQ(login->failure().redirect_address, "");
  EXPECT_EQ(login->failure().error.code, Errc::protocol);
}

TEST_F(InitiatorLoginTest, ReportsEveryStatus) {
  const std::pair<unsigned, Errc> table[] = {
      {0x0200, Errc::protocol},       {0x0201, Errc::authentication}, {0x0202, Errc::authorization},
      {0x0203, Errc::not_found},      {0x0204, Errc::not_found},      {0x0205, Errc::unsupported},
      {0x0206, Errc::limit},          {0x0207, Errc::protocol},       {0x020a, Errc::not_found},
      {0x0300, Errc::busy},           {0x0301, Errc::busy},           {0x0302, Errc::busy},
      {0x02ff, Errc::protocol},       {0x0399, Errc::busy},           {0x7777, Errc::protocol},
  };
  for (const auto& [status, code] : table) {
    begin(base_config());
    ASSERT_EQ(answer(0x00, "", status), Step::failed) << status;
    ASSERT_TRUE(login->failure().status.has_value());
    EXPECT_EQ(static_cast<unsigned>(*login->failure().status), status);
    EXPECT_EQ(login->failure().error.code, code) << status;
  }
}

// LIO's answer to who skips the security stage and should not.
TEST_F(InitiatorLoginTest, WithoutCredentialsARefusalSaysThatTheyAreMissing) {
  begin(base_config());
  ASSERT_EQ(answer(in_operational_stage, "", 0x0201), Step::failed);
  EXPECT_EQ(login->failure().error.code, Errc::authentication);
}

TEST_F(InitiatorLoginTest, RefusesBadConfigurations) {
  const auto check = [&](auto change) {
    InitiatorLoginConfig config = base_config();
    change(config);
    begin(std::move(config));
    EXPECT_EQ(step, Step::failed);
    EXPECT_EQ(login->failure().error.code, Errc::invalid_argument);
  };
  check([](auto& c) { c.initiator_name = "bob"; });
  check([](auto& c) { c.target_name = ""; });
  check([](auto& c) { c.account = test::credentials("alice", "short-pass1"); });
  check([](auto& c) { c.account = test::credentials("alice", std::string(256, 'x')); });
  check([](auto& c) { c.account = test::credentials("", "long-enough-secret"); });
  check([](auto& c) { c.require_chap = true; });
  check([](auto& c) { c.target_account = test::credentials("t", "long-enough-secret"); });
  check([](auto& c) {
    c.account = test::credentials("alice", "long-enough-secret");
    c.target_account = test::credentials("t", "long-enough-secret");
  });
  check([](auto& c) { c.params.max_burst_length = 100; });
}

struct HostileAnswer {
  const char* what;
  std::uint8_t stages;
  std::string bars;
  std::uint16_t tsih;
};

TEST_F(InitiatorLoginTest, RefusesHostileAnswersInTheOperationalStage) {
  const HostileAnswer table[] = {
      {"T and C", 0xc7, "", 1},
      {"wrong stage", 0x81, "", 1},
      {"moves elsewhere", 0x85, "", 1},
      {"TSIH zero", 0x87, "", 0},
      {"burst larger than offered", 0x87, "MaxBurstLength=16777215", 1},
      {"burst below its range", 0x87, "MaxBurstLength=511", 1},
      {"burst beyond 64 bits", 0x87, "MaxBurstLength=99999999999999999999", 1},
      {"not a number", 0x87, "MaxBurstLength=1e9", 1},
      {"OR result impossible", 0x87, "DataPDUInOrder=No", 1},
      {"time below offered", 0x87, "DefaultTime2Wait=0", 1},
      {"digest that nobody offered", 0x87, "HeaderDigest=CRC64", 1},
      {"digest list", 0x87, "HeaderDigest=None,CRC32C", 1},
      {"answered twice", 0x87, "InitialR2T=Yes|InitialR2T=Yes", 1},
      {"security key late", 0x87, "CHAP_A=5", 1},
      {"initiator's key", 0x87, "InitiatorName=iqn.2026-11.io.x:y", 1},
      {"answer to nothing", 0x87, "X-what=Reject", 1},
      {"no equals sign", 0x87, "what", 1},
      {"bad portal group tag", 0x87, "TargetPortalGroupTag=65536", 1},
  };
  for (const auto& item : table) {
    reach_operational();
    ASSERT_EQ(answer(item.stages, item.bars, 0, item.tsih), Step::failed) << item.what;
    EXPECT_EQ(login->failure().error.code, Errc::protocol) << item.what;
    EXPECT_FALSE(login->failure().status.has_value()) << item.what;
  }
}

TEST_F(InitiatorLoginTest, RefusesOtherPdusAndWrongTags) {
  begin(base_config());
  Bhs bhs = response(0, 0);
  bhs[0] = 0x3f;
  EXPECT_EQ(login->receive(bhs.data(), {}), Step::failed);
  begin(base_config());
  bhs = response(0, 0);
  bhs[19] = 8;
  EXPECT_EQ(login->receive(bhs.data(), {}), Step::failed);
  begin(base_config());
  bhs = response(0, 0);
  bhs[3] = 1;  // Version-active
  EXPECT_EQ(login->receive(bhs.data(), {}), Step::failed);
  EXPECT_EQ(login->failure().error.code, Errc::unsupported);
}

TEST_F(InitiatorLoginTest, EndlessTargetsAreBounded) {
  begin(base_config());
  int rounds = 0;
  while (step == Step::send && ++rounds < 1000) answer(0x44, "");
  EXPECT_LE(rounds, 66);
  EXPECT_EQ(login->failure().error.code, Errc::limit);
  reach_operational();
  rounds = 0;
  while (step == Step::send && ++rounds < 1000) answer(in_operational_stage, "");
  EXPECT_LE(rounds, 40);
  EXPECT_EQ(login->failure().error.code, Errc::limit);
}

// --- CHAP ---

InitiatorLoginConfig chap_config(bool mutual) {
  InitiatorLoginConfig config = base_config();
  config.account = test::credentials("alice", "alice-secret-1");
  if (mutual) config.target_account = test::credentials("the-target", "target-secret-9");
  return config;
}

TEST_F(InitiatorLoginTest, OffersChapAndAnswersTheChallenge) {
  begin(chap_config(false));
  EXPECT_EQ(said("AuthMethod"), "CHAP,None");
  ASSERT_EQ(answer(0x00, "AuthMethod=CHAP"), Step::send);
  EXPECT_EQ(said("CHAP_A"), "8,6,5,7");
  EXPECT_EQ(login->request().bhs[1], 0x00);
  ASSERT_EQ(answer(0x00, "CHAP_A=5|CHAP_I=17|CHAP_C=0x0102030405060708090a0b0c0d0e0f10"), Step::send);
  EXPECT_EQ(login->request().bhs[1], 0x81);
  EXPECT_EQ(said("CHAP_N"), "alice");
  EXPECT_EQ(said("CHAP_R"), "0x2fc1b62db858c39f6b3f8816cb67c031");
  EXPECT_EQ(said("CHAP_C"), "<absent>");
  ASSERT_EQ(answer(to_operational, ""), Step::send);
  ASSERT_EQ(answer(to_full_feature, "", 0, 1), Step::complete);
  EXPECT_TRUE(login->result().chap);
  EXPECT_FALSE(login->result().mutual_chap);
}

TEST_F(InitiatorLoginTest, MutualChapOffersNothingElse) {
  begin(chap_config(true));
  EXPECT_EQ(said("AuthMethod"), "CHAP");
  EXPECT_EQ(login->request().bhs[1], 0x00);
}

TEST_F(InitiatorLoginTest, RefusesHostileChap) {
  struct Item {
    const char* what;
    std::vector<std::pair<std::uint8_t, std::string>> answers;
    Errc code;
  };
  const std::string challenge = "CHAP_A=5|CHAP_I=17|CHAP_C=0x0102030405060708090a0b0c0d0e0fff";
  const std::pair<std::uint8_t, std::string> method = {0x00, "AuthMethod=CHAP"};
  const Item table[] = {
      {"downgrade to None", {{0x00, "AuthMethod=None"}}, Errc::authentication},
      {"skips authentication", {{0x81, ""}}, Errc::protocol},
      {"another method", {{0x00, "AuthMethod=KRB5"}}, Errc::authentication},
      {"rejects all", {{0x00, "AuthMethod=Reject"}}, Errc::authentication},
      {"method twice", {{0x00, "AuthMethod=CHAP|AuthMethod=CHAP"}}, Errc::protocol},
      {"no algorithm", {method, {0x00, "CHAP_I=1|CHAP_C=0x11"}}, Errc::protocol},
      {"algorithm not offered", {method, {0x00, "CHAP_A=9|CHAP_I=1|CHAP_C=0x11"}}, Errc::protocol},
      {"algorithm refused", {method, {0x00, "CHAP_A=Reject"}}, Errc::authentication},
      {"no challenge", {method, {0x00, "CHAP_A=5|CHAP_I=1"}}, Errc::protocol},
      {"empty challenge", {method, {0x00, "CHAP_A=5|CHAP_I=1|CHAP_C=0x"}}, Errc::protocol},
      {"endless challenge",
       {method, {0x00, "CHAP_A=5|CHAP_I=1|CHAP_C=0x" + std::string(2050, 'a')}},
       Errc::protocol},
      {"id over 255", {method, {0x00, "CHAP_A=5|CHAP_I=256|CHAP_C=0x11"}}, Errc::protocol},
      {"our coming challenge",
       {method, {0x00, "CHAP_A=5|CHAP_I=1|CHAP_C=0x0102030405060708090a0b0c0d0e0f10"}},
       Errc::authentication},
      {"no proof", {method, {0x00, challenge}, {0x81, ""}}, Errc::authentication},
      {"wrong proof",
       {method, {0x00, challenge}, {0x81, "CHAP_N=the-target|CHAP_R=0x00112233445566778899aabbccddeeff"}},
       Errc::authentication},
      {"moves on before the proof", {method, {0x00, challenge}, {0x00, ""}}, Errc::authentication},
  };
  for (const auto& item : table) {
    random.next = 1;
    begin(chap_config(true));
    for (const auto& [stages, bars] : item.answers) {
      ASSERT_EQ(step, Step::send) << item.what;
      answer(stages, bars);
    }
    ASSERT_EQ(step, Step::failed) << item.what;
    EXPECT_EQ(login->failure().error.code, item.code) << item.what;
  }
}

// --- both roles against each other ---

struct Pairing {
  bool chap, mutual;
  std::string initiator_secret = "alice-secret-1", target_secret = "target-secret-9";
  std::vector<ChapAlgorithm> algorithms = all_chap_algorithms();
};

InitiatorLogin run_pair(const Pairing& pairing, TargetLogin& target, test::CountingRandom& random,
                        Step& step) {
  InitiatorLoginConfig config = base_config();
  if (pairing.chap) config.account = test::credentials("alice", pairing.initiator_secret);
  if (pairing.mutual) config.target_account = test::credentials("the-target", pairing.target_secret);
  config.algorithms = pairing.algorithms;
  InitiatorLogin initiator(std::move(config), random.source());
  step = initiator.start();
  while (step == Step::send) {
    auto at = target.receive(initiator.request().bhs.data(), initiator.request().data());
    if (at == TargetLogin::Step::ask_target) {
      TargetDecision decision;
      decision.allow_none = !pairing.chap;
      if (pairing.chap) decision.accounts.push_back(test::credentials("alice", "alice-secret-1"));
      decision.target_account = test::credentials("the-target", "target-secret-9");
      at = target.answer_target(std::move(decision));
    }
    if (at == TargetLogin::Step::ask_session) at = target.answer_session({LoginStatus::success, 77, {}, {}});
    step = initiator.receive(target.response().bhs.data(), target.response().data());
  }
  return initiator;
}

TEST(Login, BothRolesAgreeOnTheSameParameters) {
  for (const auto algorithm : all_chap_algorithms()) {
    for (const bool mutual : {false, true}) {
      test::CountingRandom random;
      TargetLogin target(TargetLoginConfig{}, random.source());
      Step step;
      const auto initiator =
          run_pair({true, mutual, "alice-secret-1", "target-secret-9", {algorithm}}, target, random, step);
      ASSERT_EQ(step, Step::complete) << initiator.failure().error.message;
      EXPECT_EQ(initiator.result().session, target.result().session);
      EXPECT_EQ(initiator.result().connection, target.result().connection);
      EXPECT_EQ(initiator.result().exp_stat_sn, target.result().next_stat_sn);
      EXPECT_EQ(initiator.result().tsih, 77);
      EXPECT_EQ(initiator.result().mutual_chap, mutual);
      EXPECT_EQ(target.result().user, "alice");
    }
  }
}

TEST(Login, WrongSecretsFailOnTheRightSide) {
  test::CountingRandom random;
  Step step;
  TargetLogin first(TargetLoginConfig{}, random.source());
  const auto refused = run_pair({true, false, "another-secret-1"}, first, random, step);
  ASSERT_EQ(step, Step::failed);
  EXPECT_EQ(refused.failure().status, LoginStatus::authentication_failure);
  TargetLogin second(TargetLoginConfig{}, random.source());
  const auto doubted =
      run_pair({true, true, "alice-secret-1", "another-target-secret"}, second, random, step);
  ASSERT_EQ(step, Step::failed);
  EXPECT_FALSE(doubted.failure().status.has_value());
  EXPECT_EQ(doubted.failure().error.code, Errc::authentication);
}

}  // namespace
}  // namespace perilune::iscsi
