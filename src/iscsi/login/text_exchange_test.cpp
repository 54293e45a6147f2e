// SPDX-License-Identifier: Apache-2.0
#include "iscsi/login/text_exchange.hpp"

#include <gtest/gtest.h>

namespace perilune::iscsi {
namespace {

std::string nul(std::string_view bars) {
  std::string out(bars);
  for (char& c : out) {
    if (c == '|') c = '\0';
  }
  return out;
}

constexpr Ttt our_tag = 0x55;

TextRequest request(bool final = true, bool continues = false, Ttt ttt = reserved_tag) {
  TextRequest r;
  r.final = final;
  r.continues = continues;
  r.initiator_task_tag = 9;
  r.target_transfer_tag = ttt;
  return r;
}

const std::vector<SendTargetsRecord> two_targets = {
    {"iqn.2026-11.io.perilune:a", {"192.0.2.1:3260,1", "[2001:db8::1]:3260,1"}},
    {"iqn.2026-11.io.perilune:b", {"192.0.2.1:3260,2"}},
};
const std::string two_targets_text = nul(
    "TargetName=iqn.2026-11.io.perilune:a|TargetAddress=192.0.2.1:3260,1|TargetAddress=[2001:db8::1]:3260,1|"
    "TargetName=iqn.2026-11.io.perilune:b|TargetAddress=192.0.2.1:3260,2|");

TEST(TargetText, AnswersSendTargetsAll) {
  TargetText text(SessionType::discovery, 8192, our_tag);
  ASSERT_EQ(text.receive(request(), as_bytes(nul("SendTargets=All|"))), TargetText::Step::ask_targets);
  EXPECT_EQ(text.send_targets(), "All");
  ASSERT_EQ(text.answer_targets(two_targets), TargetText::Step::respond);
  EXPECT_EQ(as_text(text.data()), two_targets_text);
  EXPECT_TRUE(text.response().final);
  EXPECT_FALSE(text.response().continues);
  EXPECT_EQ(text.response().target_transfer_tag, reserved_tag);
  EXPECT_EQ(text.response().initiator_task_tag, 9u);
  EXPECT_EQ(text.response().data_segment_length, two_targets_text.size());
}

TEST(TargetText, CutsALongAnswerAndTheInitiatorJoinsIt) {
  std::vector<SendTargetsRecord> many;
  for (int i = 0; i < 500; ++i)
    many.push_back({"iqn.2026-11.io.perilune:disk" + std::to_string(i), {"192.0.2.1:3260,1"}});
  TargetText target(SessionType::discovery, 512, our_tag);
  InitiatorText initiator("All", 9, 1 << 20);
  int rounds = 0;
  auto step = InitiatorText::Step::send;
  while (step == InitiatorText::Step::send) {
    auto at = target.receive(initiator.request(), initiator.data());
    if (at == TargetText::Step::ask_targets) at = target.answer_targets(many);
    ASSERT_EQ(at, TargetText::Step::respond);
    EXPECT_LE(target.data().size(), 512u);
    step = initiator.receive(target.response(), target.data());
    ++rounds;
  }
  ASSERT_EQ(step, InitiatorText::Step::complete);
  EXPECT_GT(rounds, 50);
  const auto found = parse_send_targets_answer(initiator.answer(), 1000, 8);
  ASSERT_TRUE(found.has_value());
  ASSERT_EQ(found->size(), 500u);
  EXPECT_EQ(found->back().target_name, "iqn.2026-11.io.perilune:disk499");
}

TEST(TargetText, AllBelongsToDiscoverySessionsAndNothingToNormalOnes) {
  TargetText normal(SessionType::normal, 8192, our_tag);
  ASSERT_EQ(normal.receive(request(), as_bytes(nul("SendTargets=All|"))), TargetText::Step::respond);
  EXPECT_EQ(as_text(normal.data()), nul("SendTargets=Reject|"));
  ASSERT_EQ(normal.receive(request(), as_bytes(nul("SendTargets=|"))), TargetText::Step::ask_targets);
  EXPECT_EQ(normal.send_targets(), "");
  TargetText discovery(SessionType::discovery, 8192, our_tag);
  ASSERT_EQ(discovery.receive(request(), as_bytes(nul("SendTargets=|"))), TargetText::Step::respond);
  EXPECT_EQ(as_text(discovery.data()), nul("SendTargets=Reject|"));
  ASSERT_EQ(discovery.receive(request(), as_bytes(nul("SendTargets=IQN.2026-11.io.perilune:A|"))),
            TargetText::Step::ask_targets);
  EXPECT_EQ(discovery.send_targets(), "iqn.2026-11.io.perilune:a");
  ASSERT_EQ(discovery.answer_targets({}), TargetText::Step::respond);
  EXPECT_TRUE(discovery.data().empty());
  EXPECT_TRUE(discovery.response().final);
}

TEST(TargetText, AnswersOtherKeys) {
  TargetText text(SessionType::normal, 8192, our_tag);
  ASSERT_EQ(
      text.receive(request(),
                   as_bytes(nul("X-a=1|MaxRecvDataSegmentLength=65536|InitiatorAlias=x|InitialR2T=No|"))),
      TargetText::Step::respond);
  EXPECT_EQ(as_text(text.data()), nul("X-a=NotUnderstood|InitialR2T=Reject|"));
  EXPECT_EQ(text.declared_max_xmit(), 65536u);
}

TEST(TargetText, JoinsRequestsAndWaitsForF) {
  TargetText text(SessionType::discovery, 8192, our_tag);
  ASSERT_EQ(text.receive(request(false, true), as_bytes("SendTar")), TargetText::Step::respond);
  EXPECT_FALSE(text.response().final);
  EXPECT_EQ(text.response().target_transfer_tag, our_tag);
  EXPECT_TRUE(text.data().empty());
  ASSERT_EQ(text.receive(request(false, false, our_tag), as_bytes(nul("gets=All|"))),
            TargetText::Step::ask_targets);
  ASSERT_EQ(text.answer_targets(two_targets), TargetText::Step::respond);
  EXPECT_FALSE(text.response().final);  // the initiator has not finished
  EXPECT_EQ(as_text(text.data()), two_targets_text);
  ASSERT_EQ(text.receive(request(true, false, our_tag), {}), TargetText::Step::respond);
  EXPECT_TRUE(text.response().final);
  EXPECT_EQ(text.response().target_transfer_tag, reserved_tag);
}

TEST(TargetText, RejectsWhatBreaksTheRules) {
  TargetText text(SessionType::discovery, 8192, our_tag);
  EXPECT_EQ(text.receive(request(true, true), {}), TargetText::Step::reject);                     // F and C
  EXPECT_EQ(text.receive(request(true, false, our_tag), {}), TargetText::Step::reject);  // nothing open
  EXPECT_EQ(text.receive(request(), as_bytes("SendTargets=All")), TargetText::Step::reject);      // no NUL
  EXPECT_EQ(text.receive(request(), as_bytes(nul("SendTargets=All|SendTargets=All|"))),
            TargetText::Step::reject);
  ASSERT_EQ(text.receive(request(false, true), {}), TargetText::Step::respond);       // C without data
  EXPECT_EQ(text.receive(request(true, false, 0x56), {}), TargetText::Step::reject);  // another tag
  ASSERT_EQ(text.receive(request(false, true), {}), TargetText::Step::respond);
  auto other_task = request(true, false, our_tag);
  other_task.initiator_task_tag = 10;
  EXPECT_EQ(text.receive(other_task, {}), TargetText::Step::reject);
  EXPECT_EQ(text.receive(request(), {}), TargetText::Step::respond);  // empty, and over
  EXPECT_TRUE(text.response().final);
}

TEST(TargetText, EndlessContinuationIsBounded) {
  TargetText text(SessionType::discovery, 8192, our_tag);
  auto step = text.receive(request(false, true), {});
  int rounds = 0;
  while (step == TargetText::Step::respond && ++rounds < 1000)
    step = text.receive(request(false, true, our_tag), {});
  EXPECT_EQ(step, TargetText::Step::reject);
  EXPECT_LE(rounds, 65);
}

TextResponse response(bool final, bool continues, Ttt ttt) {
  TextResponse r;
  r.final = final;
  r.continues = continues;
  r.initiator_task_tag = 9;
  r.target_transfer_tag = ttt;
  return r;
}

TEST(InitiatorText, BoundsTheAnswer) {
  InitiatorText by_size("All", 9, 100000);
  auto step = InitiatorText::Step::send;
  std::size_t bytes = 0;
  const std::string piece(8192, 'x');
  while (step == InitiatorText::Step::send) {
    step = by_size.receive(response(false, true, 3), as_bytes(piece));
    bytes += piece.size();
  }
  EXPECT_EQ(by_size.error().code, Errc::limit);
  EXPECT_LE(bytes, 100000u + 8192u);
  InitiatorText by_count("All", 9, 100000);
  step = InitiatorText::Step::send;
  int rounds = 0;
  while (step == InitiatorText::Step::send && ++rounds < 100000)
    step = by_count.receive(response(false, true, 3), {});
  EXPECT_EQ(by_count.error().code, Errc::limit);
  EXPECT_LE(rounds, 200);
}

TEST(InitiatorText, RefusesBrokenResponses) {
  InitiatorText a("All", 9, 1000), b("All", 9, 1000), c("All", 9, 1000);
  EXPECT_EQ(a.receive(response(true, true, 3), {}), InitiatorText::Step::failed);
  EXPECT_EQ(b.receive(response(false, true, reserved_tag), {}), InitiatorText::Step::failed);
  auto other = response(true, false, reserved_tag);
  other.initiator_task_tag = 8;
  EXPECT_EQ(c.receive(other, {}), InitiatorText::Step::failed);
}

TEST(SendTargets, AnswerIsTakenApart) {
  const auto found = parse_send_targets_answer(as_bytes(two_targets_text), 10, 10);
  ASSERT_TRUE(found.has_value());
  ASSERT_EQ(found->size(), 2u);
  EXPECT_EQ((*found)[0].target_name, "iqn.2026-11.io.perilune:a");
  ASSERT_EQ((*found)[0].addresses.size(), 2u);
  EXPECT_EQ((*found)[0].addresses[1].host, "2001:db8::1");
  EXPECT_EQ((*found)[0].addresses[1].port, 3260);
  EXPECT_EQ((*found)[1].addresses[0].target_portal_group_tag, 2);
  EXPECT_TRUE(parse_send_targets_answer({}, 10, 10)->empty());
}

TEST(SendTargets, HostileAnswersAreRefused) {
  for (const char* bad :
       {"TargetAddress=192.0.2.1:3260,1|", "TargetName=bob|", "TargetName=iqn.2026-11.io.x:a|TargetAddress=|",
        "TargetName=iqn.2026-11.io.x:a", "TargetName=iqn.2026-11.io.x:../../etc|"}) {
    EXPECT_FALSE(parse_send_targets_answer(as_bytes(nul(bad)), 10, 10).has_value()) << bad;
  }
  std::string many;
  for (int i = 0; i < 11; ++i) many += nul("TargetName=iqn.2026-11.io.x:a|");
  EXPECT_EQ(parse_send_targets_answer(as_bytes(many), 10, 10).error().code, Errc::limit);
  many = nul("TargetName=iqn.2026-11.io.x:a|");
  for (int i = 0; i < 11; ++i) many += nul("TargetAddress=192.0.2.1|");
  EXPECT_EQ(parse_send_targets_answer(as_bytes(many), 10, 10).error().code, Errc::limit);
}

TEST(TargetAddress, TakesTheFormsOfTheRfc) {
  const struct {
    const char* text;
    const char* host;
    std::uint16_t port;
    int tag;
  } table[] = {
      {"10.0.0.1:5003,1", "10.0.0.1", 5003, 1},
      {"[1080:0:0:0:8:800:200C:417A],12", "1080:0:0:0:8:800:200C:417A", 3260, 12},
      {"[fe80::1%eth0]:3261", "fe80::1%eth0", 3261, -1},
      {"computingcenter.example.com,23", "computingcenter.example.com", 3260, 23},
      {"storage", "storage", 3260, -1},
  };
  for (const auto& item : table) {
    const auto address = parse_target_address(item.text);
    ASSERT_TRUE(address.has_value()) << item.text;
    EXPECT_EQ(address->host, item.host);
    EXPECT_EQ(address->port, item.port);
    EXPECT_EQ(address->target_portal_group_tag ? *address->target_portal_group_tag : -1, item.tag);
  }
  for (const char* bad : {"", ",1", ":3260", "host:", "host:0", "host:65536", "host:3260x", "host,", "host,65536",
                          "host,1,2", "[::1", "[]:3260", "[::1]x", "[host]:1", "ho st", "host/..", "a:b:c", "h:-1"}) {
    EXPECT_FALSE(parse_target_address(bad).has_value()) << bad;
  }
}

}  // namespace
}  // namespace perilune::iscsi
