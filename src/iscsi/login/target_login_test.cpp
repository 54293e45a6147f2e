// SPDX-License-Identifier: Apache-2.0
#include "iscsi/login/target_login.hpp"

#include <gtest/gtest.h>

#include "iscsi/login/login_test_support.hpp"
#include "iscsi/text/values.hpp"

namespace perilune::iscsi {
namespace {

using test::Bhs;
using test::more;
using test::operational;
using test::operational_to_full;
using test::security;
using test::security_to_full;
using test::security_to_operational;
using Step = TargetLogin::Step;

const std::string names =
    "InitiatorName=iqn.1993-08.org.debian:01:abc|TargetName=iqn.2026-11.io.perilune:disk";

class TargetLoginTest : public ::testing::Test {
 protected:
  Step send(std::uint8_t stages, std::string_view bars) { return send_raw(stages, test::text(bars)); }
  Step send_raw(std::uint8_t stages, const std::string& data) {
    Bhs bhs = test::login_request(stages, data.size());
    return send_pdu(bhs, data);
  }
  // Answers the questions as the decisions below say.
  Step send_pdu(const Bhs& bhs, const std::string& data) {
    Step step = login.receive(bhs.data(), as_bytes(data));
    while (true) {
      if (step == Step::ask_target) {
        ++target_questions;
        step = login.answer_target(make_decision());
      } else if (step == Step::ask_session) {
        ++session_questions;
        step = login.answer_session(session_decision);
      } else {
        return step;
      }
    }
  }
  TargetDecision make_decision() const {
    TargetDecision decision;
    decision.status = target_status;
    decision.redirect_address = "192.0.2.9:3261,2";
    decision.target_portal_group_tag = 3;
    decision.target_alias = alias;
    decision.allow_none = allow_none;
    if (chap) decision.accounts.push_back(test::credentials("alice", "alice-secret-1"));
    if (chap) decision.accounts.push_back(test::credentials("bob", "bob-secret-number-2"));
    if (mutual) decision.target_account = test::credentials("the-target", target_secret);
    decision.algorithms = algorithms;
    decision.params = params;
    return decision;
  }
  std::string reply(std::string_view key) const { return test::value_in(login.response().text, key); }
  unsigned response_byte(std::size_t i) const { return login.response().bhs[i]; }
  unsigned status() const { return response_byte(36) << 8 | response_byte(37); }

  // Drives CHAP up to the challenge; returns the challenge bytes.
  std::vector<std::uint8_t> reach_challenge(std::string_view algorithm = "5") {
    EXPECT_EQ(send(security_to_operational, names + "|AuthMethod=CHAP,None"), Step::respond);
    EXPECT_EQ(reply("AuthMethod"), "CHAP");
    EXPECT_EQ(response_byte(1), 0x00u);
    EXPECT_EQ(send(security, "CHAP_A=" + std::string(algorithm)), Step::respond);
    EXPECT_EQ(reply("CHAP_A"), algorithm);
    return parse_binary(reply("CHAP_C"), 1024).value_or(std::vector<std::uint8_t>{});
  }
  std::string answer(ChapAlgorithm algorithm, std::string_view secret, Bytes challenge) const {
    const auto id = static_cast<std::uint8_t>(*parse_number(reply("CHAP_I")));
    return hex_binary(chap_response(algorithm, id, crypto::Secret(secret), challenge)->bytes());
  }

  test::CountingRandom random;
  TargetLogin login{TargetLoginConfig{StatSn(50), 32}, random.source()};
  LoginStatus target_status = LoginStatus::success;
  SessionDecision session_decision{LoginStatus::success, 0x1234, {}, {}};
  bool allow_none = true, chap = false, mutual = false;
  std::string target_secret = "target-secret-9";
  std::string alias;
  std::vector<ChapAlgorithm> algorithms = all_chap_algorithms();
  WantedParams params;
  int target_questions = 0, session_questions = 0;
};

TEST_F(TargetLoginTest, LogsInWithoutAuthentication) {
  alias = "a disk";
  ASSERT_EQ(send(security_to_operational, names + "|SessionType=Normal|AuthMethod=None|InitiatorAlias=box"),
            Step::respond);
  EXPECT_EQ(response_byte(0), 0x23u);
  EXPECT_EQ(response_byte(1), 0x81u);
  EXPECT_EQ(status(), 0u);
  EXPECT_EQ(load_be32(login.response().bhs.data() + 16), 7u);
  EXPECT_EQ(load_be32(login.response().bhs.data() + 24), 50u);        // StatSN
  EXPECT_EQ(load_be32(login.response().bhs.data() + 28), 100u);       // ExpCmdSN
  EXPECT_EQ(load_be32(login.response().bhs.data() + 32), 131u);       // MaxCmdSN: 32 commands
  EXPECT_EQ(reply("AuthMethod"), "None");
  EXPECT_EQ(reply("TargetPortalGroupTag"), "3");
  EXPECT_EQ(reply("TargetAlias"), "a disk");

  ASSERT_EQ(
      send(operational_to_full,
           "HeaderDigest=None|DataDigest=CRC32C,None|InitialR2T=No|ImmediateData=Yes|MaxBurstLength=16776192|"
           "FirstBurstLength=262144|MaxRecvDataSegmentLength=131072|MaxOutstandingR2T=4|ErrorRecoveryLevel=2|"
           "DefaultTime2Wait=5|DefaultTime2Retain=0|MaxConnections=4"),
      Step::complete);
  EXPECT_EQ(response_byte(1), 0x87u);
  EXPECT_EQ(load_be16(login.response().bhs.data() + 14), 0x1234u);
  EXPECT_EQ(load_be32(login.response().bhs.data() + 24), 51u);
  EXPECT_EQ(reply("HeaderDigest"), "None");
  EXPECT_EQ(reply("DataDigest"), "CRC32C");
  EXPECT_EQ(reply("InitialR2T"), "No");
  EXPECT_EQ(reply("MaxBurstLength"), "1048576");
  EXPECT_EQ(reply("FirstBurstLength"), "65536");
  EXPECT_EQ(reply("MaxRecvDataSegmentLength"), "262144");
  EXPECT_EQ(reply("DefaultTime2Wait"), "5");
  EXPECT_EQ(reply("MaxConnections"), "1");
  const auto& result = login.result();
  EXPECT_EQ(result.initiator_name, "iqn.1993-08.org.debian:01:abc");
  EXPECT_EQ(result.initiator_alias, "box");
  EXPECT_EQ(result.target_name, "iqn.2026-11.io.perilune:disk");
  EXPECT_EQ(result.user, "");
  EXPECT_EQ(result.isid, (Isid{0x80, 0x12, 0x34, 0x56, 0x78, 0x9a}));
  EXPECT_EQ(result.tsih, 0x1234);
  EXPECT_EQ(result.cid, 1);
  EXPECT_EQ(result.next_stat_sn, StatSn(52));
  EXPECT_EQ(result.exp_cmd_sn, CmdSn(100));
  EXPECT_FALSE(result.connection.header_digest);
  EXPECT_TRUE(result.connection.data_digest);
  EXPECT_EQ(result.connection.max_xmit_data_segment_length, 131072u);
  EXPECT_EQ(result.connection.max_recv_data_segment_length, 262144u);
  EXPECT_FALSE(result.session.initial_r2t);
  EXPECT_EQ(result.session.max_outstanding_r2t, 4);
  EXPECT_EQ(result.session.default_time2retain, 0);
  EXPECT_EQ(target_questions, 1);
  EXPECT_EQ(session_questions, 1);
}

TEST_F(TargetLoginTest, StartsInTheOperationalStage) {
  ASSERT_EQ(send(operational_to_full, names + "|HeaderDigest=CRC32C"), Step::complete);
  EXPECT_EQ(reply("TargetPortalGroupTag"), "3");
  EXPECT_EQ(reply("HeaderDigest"), "CRC32C");
  EXPECT_TRUE(login.result().connection.header_digest);
}

TEST_F(TargetLoginTest, GoesStraightFromSecurityToFullFeature) {
  ASSERT_EQ(send(security_to_full, names), Step::complete);
  EXPECT_EQ(response_byte(1), 0x83u);
  EXPECT_EQ(login.result().connection.max_recv_data_segment_length, 8192u);  // nothing was declared
}

TEST_F(TargetLoginTest, DiscoverySessionNeedsNoTargetName) {
  ASSERT_EQ(send(security_to_operational,
                 "InitiatorName=iqn.1993-08.org.debian:01:abc|SessionType=Discovery|AuthMethod=None"),
            Step::respond);
  EXPECT_EQ(reply("TargetPortalGroupTag"), "<absent>");
  ASSERT_EQ(send(operational_to_full, "MaxBurstLength=512|DefaultTime2Wait=0|MaxRecvDataSegmentLength=32768"),
            Step::complete);
  EXPECT_EQ(reply("MaxBurstLength"), "Irrelevant");
  EXPECT_EQ(reply("DefaultTime2Wait"), "2");
  EXPECT_EQ(login.result().session_type, SessionType::discovery);
  EXPECT_EQ(login.result().session.max_burst_length, 262144u);
}

TEST_F(TargetLoginTest, NamesAreComparedInLowerCase) {
  ASSERT_EQ(send(security_to_full,
                 "InitiatorName=IQN.1993-08.ORG.debian:01:ABC|TargetName=iqn.2026-11.io.PERILUNE:d"),
            Step::complete);
  EXPECT_EQ(login.result().initiator_name, "iqn.1993-08.org.debian:01:abc");
  EXPECT_EQ(login.result().target_name, "iqn.2026-11.io.perilune:d");
}

TEST_F(TargetLoginTest, JoinsTextOverContinuedRequests) {
  const std::string whole = test::text(names + "|AuthMethod=None");
  for (std::size_t cut = 1; cut + 1 < whole.size(); cut += 7) {
    TargetLogin fresh{TargetLoginConfig{}, random.source()};
    login = std::move(fresh);
    ASSERT_EQ(send_raw(more, whole.substr(0, cut)), Step::respond);
    EXPECT_EQ(response_byte(1), 0x00u);
    EXPECT_TRUE(login.response().text.empty());
    ASSERT_EQ(send_raw(security_to_operational, whole.substr(cut)), Step::respond) << cut;
    EXPECT_EQ(reply("AuthMethod"), "None");
  }
}

TEST_F(TargetLoginTest, CutsALongAnswerIntoContinuedResponses) {
  std::string many = "X-k0=1";
  for (int i = 1; i < 200; ++i)
    many += "|X-key-with-quite-a-long-name-so-that-it-takes-room-" + std::to_string(i) + "=1";
  ASSERT_EQ(send(security_to_operational, names + "|AuthMethod=None"), Step::respond);
  ASSERT_EQ(send_raw(operational | more, test::text(many).substr(0, 8000)), Step::respond);
  ASSERT_EQ(send_raw(operational_to_full, test::text(many).substr(8000)), Step::respond);
  EXPECT_EQ(response_byte(1), 0x44u);  // C, CSG 1
  std::string answer = login.response().text;
  EXPECT_EQ(answer.size(), 8192u);
  ASSERT_EQ(send(operational_to_full, ""), Step::complete);
  answer += login.response().text;
  EXPECT_EQ(test::value_in(answer, "X-k0"), "NotUnderstood");
  EXPECT_EQ(test::value_in(answer, "X-key-with-quite-a-long-name-so-that-it-takes-room-199"),
            "NotUnderstood");
}

TEST_F(TargetLoginTest, RefusesTextWhileItsAnswerIsFetched) {
  std::string many = "X-k0=1";
  for (int i = 1; i < 200; ++i)
    many += "|X-key-with-quite-a-long-name-so-that-it-takes-room-" + std::to_string(i) + "=1";
  ASSERT_EQ(send_raw(operational, test::text(names + "|" + many)), Step::respond);
  ASSERT_EQ(send(operational, "X-more=1"), Step::respond_and_close);
  EXPECT_EQ(status(), 0x0200u);
}

TEST_F(TargetLoginTest, SessionMayRepeatItsNamesButNotChangeThem) {
  ASSERT_EQ(send(security_to_operational, names + "|AuthMethod=None"), Step::respond);
  ASSERT_EQ(send(operational_to_full, names + "|InitialR2T=Yes"), Step::complete);
}

TEST_F(TargetLoginTest, RejectsSecondInitiatorName) {
  ASSERT_EQ(send(security_to_operational, names + "|AuthMethod=None"), Step::respond);
  ASSERT_EQ(send(operational_to_full, "InitiatorName=iqn.1993-08.org.debian:01:other"),
            Step::respond_and_close);
  EXPECT_EQ(status(), 0x0200u);
  EXPECT_EQ(session_questions, 0);
}

TEST_F(TargetLoginTest, OffersWhatTheInitiatorLeftOut) {
  params.max_burst_length = 65536;
  params.first_burst_length = 16384;
  ASSERT_EQ(send(operational_to_full, names + "|ImmediateData=Yes"), Step::respond);
  EXPECT_EQ(response_byte(1), 0x04u);  // not yet
  EXPECT_EQ(reply("MaxBurstLength"), "65536");
  EXPECT_EQ(reply("FirstBurstLength"), "16384");
  ASSERT_EQ(send(operational_to_full, "MaxBurstLength=32768|FirstBurstLength=8192"), Step::complete);
  EXPECT_EQ(login.result().session.max_burst_length, 32768u);
  EXPECT_EQ(login.result().session.first_burst_length, 8192u);
}

TEST_F(TargetLoginTest, JoiningConnectionCarriesTheSessionsNumbers) {
  session_decision.exp_cmd_sn = CmdSn(500);
  session_decision.max_cmd_sn = CmdSn(600);
  const std::string data = test::text(names);
  Bhs bhs = test::login_request(operational_to_full, data.size());
  bhs[14] = 0x12;
  bhs[15] = 0x34;
  ASSERT_EQ(send_pdu(bhs, data), Step::complete);
  EXPECT_EQ(login.session_query().tsih, 0x1234);
  EXPECT_EQ(load_be32(login.response().bhs.data() + 28), 500u);
  EXPECT_EQ(load_be32(login.response().bhs.data() + 32), 600u);
  EXPECT_EQ(login.result().exp_cmd_sn, CmdSn(500));
}

TEST_F(TargetLoginTest, AJoiningConnectionOpensNoWindowBeforeItsSessionIsKnown) {
  const std::string data = test::text(names);
  Bhs bhs = test::login_request(security_to_operational, data.size());
  bhs[15] = 0x09;
  store_be32(bhs.data() + 24, 300);
  ASSERT_EQ(send_pdu(bhs, data), Step::respond);
  EXPECT_EQ(load_be32(login.response().bhs.data() + 28), 300u);
  EXPECT_EQ(load_be32(login.response().bhs.data() + 32), 299u) << "MaxCmdSN: closed";
}

TEST_F(TargetLoginTest, LeadingOnlyKeysAreRejectedOnAJoiningConnection) {
  const std::string data = test::text(names + "|MaxBurstLength=512|DataDigest=CRC32C");
  Bhs bhs = test::login_request(operational_to_full, data.size());
  bhs[15] = 0x09;
  ASSERT_EQ(send_pdu(bhs, data), Step::complete);
  EXPECT_EQ(reply("MaxBurstLength"), "Reject");
  EXPECT_EQ(reply("DataDigest"), "CRC32C");
}

TEST_F(TargetLoginTest, TellsWhereTheTargetMoved) {
  target_status = LoginStatus::target_moved_temporarily;
  ASSERT_EQ(send(security_to_operational, names), Step::respond_and_close);
  EXPECT_EQ(status(), 0x0101u);
  EXPECT_EQ(reply("TargetAddress"), "192.0.2.9:3261,2");
}

TEST_F(TargetLoginTest, PassesTheDecisionsStatusOn) {
  for (const LoginStatus given : {LoginStatus::not_found, LoginStatus::authorization_failure,
                                  LoginStatus::target_removed, LoginStatus::service_unavailable}) {
    login = TargetLogin{TargetLoginConfig{}, random.source()};
    target_status = given;
    ASSERT_EQ(send(security_to_operational, names), Step::respond_and_close);
    EXPECT_EQ(status(), static_cast<unsigned>(given));
    EXPECT_EQ(login.failure().status, given);
  }
  target_status = LoginStatus::success;
  for (const LoginStatus given : {LoginStatus::session_does_not_exist, LoginStatus::too_many_connections,
                                  LoginStatus::cannot_include_in_session, LoginStatus::out_of_resources}) {
    login = TargetLogin{TargetLoginConfig{}, random.source()};
    session_decision.status = given;
    ASSERT_EQ(send(security_to_full, names), Step::respond_and_close);
    EXPECT_EQ(status(), static_cast<unsigned>(given));
  }
}

TEST_F(TargetLoginTest, CanBeAbandoned) {
  ASSERT_EQ(login.abandon(LoginStatus::out_of_resources, "full"), Step::close);
  login = TargetLogin{TargetLoginConfig{}, random.source()};
  ASSERT_EQ(send(security, names), Step::respond);
  ASSERT_EQ(login.abandon(LoginStatus::service_unavailable, "shutting down"), Step::respond_and_close);
  EXPECT_EQ(status(), 0x0301u);
}

// One request that ends the login, as the first PDU.
struct HostileFirst {
  const char* what;
  std::uint8_t stages;
  std::string bars;
  unsigned status;
};

TEST_F(TargetLoginTest, RefusesHostileFirstRequests) {
  const std::string long_name = "InitiatorName=iqn.2026-11.io.x:" + std::string(207, 'a');
  const HostileFirst table[] = {
      {"T and C", 0xc1, names, 0x0200},
      {"reserved CSG", 0x08, names, 0x0200},
      {"CSG full feature", 0x0c, names, 0x0200},
      {"NSG equal to CSG", 0x80, names, 0x0200},
      {"NSG reserved", 0x82, names, 0x0200},
      {"NSG before CSG", 0x84, names, 0x0200},
      {"operational to reserved", 0x86, names, 0x0200},
      {"no InitiatorName", 0x81, "TargetName=iqn.2026-11.io.perilune:disk", 0x0207},
      {"no TargetName", 0x81, "InitiatorName=iqn.1993-08.org.debian:01:abc|SessionType=Normal", 0x0207},
      {"nothing at all", 0x81, "", 0x0207},
      {"unknown session type", 0x81, names + "|SessionType=Weird", 0x0209},
      {"name over 223 bytes", 0x81, long_name, 0x0200},
      {"name that is none", 0x81, "InitiatorName=bob", 0x0200},
      {"name in percent signs", 0x81, "InitiatorName=iqn.2026-11.io.x:%6e%n", 0x0200},
      {"name beyond ASCII", 0x81, "InitiatorName=iqn.2026-11.io.x:\xc3\xa9", 0x0200},
      {"two InitiatorNames", 0x81, names + "|InitiatorName=iqn.1993-08.org.debian:02", 0x0200},
      {"key without =", 0x81, names + "|NoEquals", 0x0200},
      {"empty key", 0x81, names + "|=x", 0x0200},
      {"key of 64 bytes", 0x81, names + "|" + std::string(64, 'K') + "=1", 0x0200},
      {"key with a space", 0x81, names + "|a b=1", 0x0200},
      {"operational key in security stage", 0x81, names + "|InitialR2T=Yes", 0x0200},
      {"security key in operational stage", 0x87, names + "|AuthMethod=None", 0x0200},
      {"target's key", 0x81, names + "|TargetPortalGroupTag=1", 0x0200},
      {"SendTargets during login", 0x81, names + "|SendTargets=All", 0x0200},
      {"answer to nothing", 0x87, names + "|InitialR2T=NotUnderstood", 0x0200},
      {"answer to an unknown key", 0x87, names + "|X-foo=NotUnderstood", 0x0200},
      {"Irrelevant to nothing", 0x87, names + "|MaxBurstLength=Irrelevant", 0x0200},
      {"duplicate key", 0x87, names + "|InitialR2T=Yes|InitialR2T=Yes", 0x0200},
      {"duplicate declaration", 0x87, names + "|MaxRecvDataSegmentLength=512|MaxRecvDataSegmentLength=512",
       0x0200},
      {"alias over 255 bytes", 0x81, names + "|InitiatorAlias=" + std::string(256, 'a'), 0x0200},
      {"AuthMethod no list", 0x81, names + "|AuthMethod=,", 0x0200},
      {"AuthMethod unknown", 0x81, names + "|AuthMethod=KRB5,SPKM1", 0x0201},
      {"CHAP out of the blue", 0x81, names + "|CHAP_A=5", 0x0200},
  };
  for (const auto& item : table) {
    login = TargetLogin{TargetLoginConfig{}, random.source()};
    ASSERT_EQ(send(item.stages, item.bars), Step::respond_and_close) << item.what;
    EXPECT_EQ(status(), item.status) << item.what;
    EXPECT_TRUE(login.response().text.empty()) << item.what;
    EXPECT_FALSE(login.failure().reason.empty()) << item.what;
  }
  EXPECT_EQ(session_questions, 0);
}

TEST_F(TargetLoginTest, RefusesTextWithoutNulAndUnknownVersions) {
  ASSERT_EQ(send_raw(security_to_operational, "InitiatorName=iqn.1993-08.org.debian:01:abc"),
            Step::respond_and_close);
  EXPECT_EQ(status(), 0x0200u);
  login = TargetLogin{TargetLoginConfig{}, random.source()};
  Bhs bhs = test::login_request(security_to_operational, 0);
  bhs[2] = 5;
  bhs[3] = 1;  // VersionMin
  ASSERT_EQ(send_pdu(bhs, ""), Step::respond_and_close);
  EXPECT_EQ(status(), 0x0205u);
  EXPECT_EQ(response_byte(2), 0u);
  EXPECT_EQ(response_byte(3), 0u);
  login = TargetLogin{TargetLoginConfig{}, random.source()};
  bhs = test::login_request(security_to_operational, 0);
  bhs[4] = 255;  // TotalAHSLength
  ASSERT_EQ(send_pdu(bhs, ""), Step::respond_and_close);
}

TEST_F(TargetLoginTest, OnlyNulsAreNoKeys) {
  ASSERT_EQ(send_raw(security_to_operational, std::string(40, '\0')), Step::respond_and_close);
  EXPECT_EQ(status(), 0x0207u);
}

TEST_F(TargetLoginTest, FirstPduMustBeALogin) {
  Bhs bhs{};
  bhs[0] = 0x41;  // SCSI Command
  EXPECT_EQ(send_pdu(bhs, ""), Step::close);
  EXPECT_EQ(login.failure().status, LoginStatus::invalid_during_login);
}

TEST_F(TargetLoginTest, OtherRequestsDuringLoginAre020b) {
  for (const unsigned code : {0x00u, 0x01u, 0x02u, 0x04u, 0x05u, 0x06u, 0x10u, 0x1cu, 0x20u, 0x23u, 0x3fu}) {
    login = TargetLogin{TargetLoginConfig{}, random.source()};
    ASSERT_EQ(send(security, names), Step::respond);
    Bhs bhs{};
    bhs[0] = static_cast<std::uint8_t>(0x40 | code);
    ASSERT_EQ(send_pdu(bhs, ""), Step::respond_and_close) << code;
    EXPECT_EQ(status(), 0x020bu) << code;
  }
}

TEST_F(TargetLoginTest, IdentityMustNotChangeDuringLogin) {
  for (const std::size_t byte : {std::size_t{8}, std::size_t{13}, std::size_t{15}, std::size_t{21}}) {
    login = TargetLogin{TargetLoginConfig{}, random.source()};
    ASSERT_EQ(send(security, names), Step::respond);
    Bhs bhs = test::login_request(security_to_full, 0);
    bhs[byte] ^= 0x40;
    ASSERT_EQ(send_pdu(bhs, ""), Step::respond_and_close) << byte;
    EXPECT_EQ(status(), 0x0200u) << byte;
  }
}

TEST_F(TargetLoginTest, StageMustNotGoBack) {
  ASSERT_EQ(send(security_to_operational, names), Step::respond);
  ASSERT_EQ(send(security_to_operational, "AuthMethod=None"), Step::respond_and_close);
  EXPECT_EQ(status(), 0x0200u);
}

TEST_F(TargetLoginTest, KeysAreNotRenegotiated) {
  ASSERT_EQ(send(operational, names + "|MaxBurstLength=65536"), Step::respond);
  ASSERT_EQ(send(operational_to_full, "MaxBurstLength=512"), Step::respond_and_close);
  EXPECT_EQ(status(), 0x0200u);
}

TEST_F(TargetLoginTest, EndlessContinuationIsBounded) {
  Step step = Step::respond;
  int requests = 0;
  while (step == Step::respond && requests < 1000) {
    step = send(more, "");
    ++requests;
  }
  EXPECT_EQ(step, Step::respond_and_close);
  EXPECT_LE(requests, 65);
}

TEST_F(TargetLoginTest, TextOverAllPdusIsCapped) {
  Step step = Step::respond;
  std::size_t bytes = 0;
  while (step == Step::respond && bytes < (1u << 20)) {
    step = send_raw(more, std::string(8192, 'x'));
    bytes += 8192;
  }
  EXPECT_EQ(step, Step::respond_and_close);
  EXPECT_LE(bytes, limits::max_text_total_bytes + 8192u);
}

TEST_F(TargetLoginTest, EndlessLoginIsBounded) {
  ASSERT_EQ(send(security, names), Step::respond);
  Step step = Step::respond;
  int requests = 0;
  while (step == Step::respond && requests < 1000) {
    step = send(security, "");
    ++requests;
  }
  EXPECT_EQ(step, Step::respond_and_close);
  EXPECT_LE(requests, 40);
}

// --- CHAP ---

TEST_F(TargetLoginTest, ChapWithEachAlgorithm) {
  chap = true;
  allow_none = false;
  for (const auto& [number, algorithm, bytes] :
       {std::tuple{"5", ChapAlgorithm::md5, 16u}, std::tuple{"6", ChapAlgorithm::sha1, 20u},
        std::tuple{"7", ChapAlgorithm::sha256, 32u}, std::tuple{"8", ChapAlgorithm::sha3_256, 32u}}) {
    login = TargetLogin{TargetLoginConfig{}, random.source()};
    const auto challenge = reach_challenge(number);
    ASSERT_EQ(challenge.size(), bytes);
    ASSERT_EQ(send(security_to_full, "CHAP_N=alice|CHAP_R=" + answer(algorithm, "alice-secret-1", challenge)),
              Step::complete);
    EXPECT_EQ(login.result().user, "alice");
  }
}

// The response calculated by hand (md5sum): id 0x11, secret "alice-secret-1", challenge 01 … 10.
TEST_F(TargetLoginTest, ChapResponseIsMd5OfIdSecretChallenge) {
  chap = true;
  const auto challenge = reach_challenge();
  EXPECT_EQ(hex_binary(challenge), "0x0102030405060708090a0b0c0d0e0f10");
  EXPECT_EQ(reply("CHAP_I"), "17");
  ASSERT_EQ(send(security_to_full, "CHAP_N=alice|CHAP_R=0x2fc1b62db858c39f6b3f8816cb67c031"), Step::complete);
}

TEST_F(TargetLoginTest, ChapAcceptsBase64AndUpperCaseHex) {
  chap = true;
  auto challenge = reach_challenge();
  const auto hex = answer(ChapAlgorithm::md5, "alice-secret-1", challenge);
  ASSERT_EQ(send(security_to_full, "CHAP_N=alice|CHAP_R=" + base64_binary(*parse_binary(hex, 32))),
            Step::complete);
  login = TargetLogin{TargetLoginConfig{}, random.source()};
  challenge = reach_challenge();
  std::string upper = answer(ChapAlgorithm::md5, "bob-secret-number-2", challenge);
  for (char& c : upper) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  ASSERT_EQ(send(security_to_full, "CHAP_N=bob|CHAP_R=" + upper), Step::complete);
  EXPECT_EQ(login.result().user, "bob");
}

TEST_F(TargetLoginTest, ChapTakesTheFirstAlgorithmOfTheInitiatorThatIsAllowed) {
  chap = true;
  algorithms = {ChapAlgorithm::md5, ChapAlgorithm::sha256};
  ASSERT_EQ(send(security, names + "|AuthMethod=CHAP"), Step::respond);
  ASSERT_EQ(send(security, "CHAP_A=8,99,0x7,5"), Step::respond);
  EXPECT_EQ(reply("CHAP_A"), "7");
}

TEST_F(TargetLoginTest, MutualChapProvesTheTarget) {
  chap = mutual = true;
  const auto challenge = reach_challenge();
  const std::string mine = "0x00112233445566778899aabbccddeeff";
  ASSERT_EQ(send(security_to_operational,
                 "CHAP_N=alice|CHAP_R=" + answer(ChapAlgorithm::md5, "alice-secret-1", challenge) +
                     "|CHAP_I=200|CHAP_C=" + mine),
            Step::respond);
  EXPECT_EQ(response_byte(1), 0x81u);
  EXPECT_EQ(reply("CHAP_N"), "the-target");
  const auto expected = chap_response(
      ChapAlgorithm::md5, 200, crypto::Secret(std::string_view("target-secret-9")), *parse_binary(mine, 16));
  EXPECT_EQ(reply("CHAP_R"), hex_binary(expected->bytes()));
}

TEST_F(TargetLoginTest, AuthenticationCannotBeSkipped) {
  chap = true;
  allow_none = false;
  for (const auto& [stages, bars] :
       {std::pair{security_to_full, names}, std::pair{security_to_operational, names},
        std::pair{operational_to_full, names}, std::pair{operational, names},
        std::pair{security_to_full, names + "|AuthMethod=None"}}) {
    login = TargetLogin{TargetLoginConfig{}, random.source()};
    ASSERT_EQ(send(stages, bars), Step::respond_and_close) << bars;
    EXPECT_EQ(status(), 0x0201u) << bars;
  }
  // Half way through is not through.
  login = TargetLogin{TargetLoginConfig{}, random.source()};
  reach_challenge();
  ASSERT_EQ(send(security_to_full, ""), Step::respond_and_close);
  EXPECT_EQ(status(), 0x0201u);
  login = TargetLogin{TargetLoginConfig{}, random.source()};
  reach_challenge();
  ASSERT_EQ(send(operational_to_full, ""), Step::respond_and_close);
  EXPECT_EQ(session_questions, 0);
}

TEST_F(TargetLoginTest, NobodyGetsInWithoutAnyAcceptableMethod) {
  allow_none = false;
  ASSERT_EQ(send(security_to_full, names + "|AuthMethod=CHAP,None"), Step::respond_and_close);
  EXPECT_EQ(status(), 0x0201u);
}

TEST_F(TargetLoginTest, UnknownUserAndWrongPasswordLookAlike) {
  chap = true;
  auto challenge = reach_challenge();
  ASSERT_EQ(send(security_to_full,
                 "CHAP_N=mallory|CHAP_R=" + answer(ChapAlgorithm::md5, "whatever-secret", challenge)),
            Step::respond_and_close);
  const LoginPdu unknown_user = login.response();
  login = TargetLogin{TargetLoginConfig{StatSn(50), 32}, random.source()};
  challenge = reach_challenge();
  ASSERT_EQ(send(security_to_full,
                 "CHAP_N=alice|CHAP_R=" + answer(ChapAlgorithm::md5, "whatever-secret", challenge)),
            Step::respond_and_close);
  EXPECT_EQ(login.response().bhs, unknown_user.bhs);
  EXPECT_EQ(login.response().text, unknown_user.text);
  EXPECT_EQ(status(), 0x0201u);
}

TEST_F(TargetLoginTest, RefusesHostileChap) {
  chap = mutual = true;
  struct Item {
    const char* what;
    std::string bars;  // @R: the right response, @C: our challenge
    unsigned status;
  };
  const Item table[] = {
      {"no CHAP_N", "CHAP_R=@R", 0x0201},
      {"no CHAP_R", "CHAP_N=alice", 0x0201},
      {"empty CHAP_N", "CHAP_N=|CHAP_R=@R", 0x0201},
      {"empty CHAP_R", "CHAP_N=alice|CHAP_R=", 0x0201},
      {"0x only", "CHAP_N=alice|CHAP_R=0x", 0x0201},
      {"odd hex", "CHAP_N=alice|CHAP_R=@R0", 0x0201},
      {"bad hex", "CHAP_N=alice|CHAP_R=0xzz", 0x0201},
      {"bad base64", "CHAP_N=alice|CHAP_R=0b!!!!", 0x0201},
      {"no prefix", "CHAP_N=alice|CHAP_R=1234", 0x0201},
      {"too long", "CHAP_N=alice|CHAP_R=@R@R", 0x0201},
      {"right and more", "CHAP_N=alice|CHAP_R=@R00", 0x0201},
      {"another user's name", "CHAP_N=bob|CHAP_R=@R", 0x0201},
      {"CHAP_N twice", "CHAP_N=alice|CHAP_N=alice|CHAP_R=@R", 0x0200},
      {"reflection", "CHAP_N=alice|CHAP_R=@R|CHAP_I=5|CHAP_C=@C", 0x0201},
      {"CHAP_I missing", "CHAP_N=alice|CHAP_R=@R|CHAP_C=0x11", 0x0201},
      {"CHAP_C missing", "CHAP_N=alice|CHAP_R=@R|CHAP_I=1", 0x0201},
      {"CHAP_I too large", "CHAP_N=alice|CHAP_R=@R|CHAP_I=256|CHAP_C=0x11", 0x0201},
      {"CHAP_I negative", "CHAP_N=alice|CHAP_R=@R|CHAP_I=-1|CHAP_C=0x11", 0x0201},
      {"CHAP_C empty", "CHAP_N=alice|CHAP_R=@R|CHAP_I=1|CHAP_C=0x", 0x0201},
      {"CHAP_C over 1024 bytes", "CHAP_N=alice|CHAP_R=@R|CHAP_I=1|CHAP_C=0x" + std::string(2050, 'a'),
       0x0201},
      {"started again", "AuthMethod=CHAP", 0x0200},
      {"algorithm again", "CHAP_A=5", 0x0200},
  };
  for (const auto& item : table) {
    login = TargetLogin{TargetLoginConfig{}, random.source()};
    const auto challenge = reach_challenge();
    const std::string right = answer(ChapAlgorithm::md5, "alice-secret-1", challenge);
    std::string bars = item.bars;
    for (std::size_t at; (at = bars.find("@R")) != std::string::npos;) bars.replace(at, 2, right);
    for (std::size_t at; (at = bars.find("@C")) != std::string::npos;)
      bars.replace(at, 2, hex_binary(challenge));
    ASSERT_EQ(send(security_to_full, bars), Step::respond_and_close) << item.what;
    EXPECT_EQ(status(), item.status) << item.what;
  }
  EXPECT_EQ(session_questions, 0);
}

TEST_F(TargetLoginTest, RefusesBadChapAlgorithmLists) {
  chap = true;
  algorithms = {ChapAlgorithm::sha256};
  for (const char* list :
       {"CHAP_A=5", "CHAP_A=", "CHAP_A=7x", "CHAP_A=,7", "X-none=1", "CHAP_A=4294967303"}) {
    login = TargetLogin{TargetLoginConfig{}, random.source()};
    ASSERT_EQ(send(security, names + "|AuthMethod=CHAP"), Step::respond);
    ASSERT_EQ(send(security, list), Step::respond_and_close) << list;
    EXPECT_EQ(status(), 0x0201u) << list;
  }
}

TEST_F(TargetLoginTest, ChallengesAreFresh) {
  chap = true;
  const auto first = reach_challenge();
  login = TargetLogin{TargetLoginConfig{}, random.source()};
  EXPECT_NE(reach_challenge(), first);
}

TEST_F(TargetLoginTest, MutualIsRefusedWhereNotConfiguredOrWithASharedSecret) {
  chap = true;
  auto challenge = reach_challenge();
  ASSERT_EQ(send(security_to_full,
                 "CHAP_N=alice|CHAP_R=" + answer(ChapAlgorithm::md5, "alice-secret-1", challenge) +
                     "|CHAP_I=1|CHAP_C=0x0011"),
            Step::respond_and_close);
  EXPECT_EQ(status(), 0x0201u);
  mutual = true;
  target_secret = "alice-secret-1";
  login = TargetLogin{TargetLoginConfig{}, random.source()};
  challenge = reach_challenge();
  ASSERT_EQ(send(security_to_full,
                 "CHAP_N=alice|CHAP_R=" + answer(ChapAlgorithm::md5, "alice-secret-1", challenge) +
                     "|CHAP_I=1|CHAP_C=0x0011"),
            Step::respond_and_close);
  EXPECT_EQ(status(), 0x0201u);
}

}  // namespace
}  // namespace perilune::iscsi
