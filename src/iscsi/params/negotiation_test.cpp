// SPDX-License-Identifier: Apache-2.0
#include "iscsi/params/negotiation.hpp"

#include <gtest/gtest.h>

#include <cstddef>

namespace perilune::iscsi {
namespace {

std::string nul(std::string_view bars) {
  std::string out(bars);
  for (char& c : out) {
    if (c == '|') c = '\0';
  }
  return out + '\0';
}

std::string with_bars(std::string text) {
  for (char& c : text) {
    if (c == '\0') c = '|';
  }
  return text;
}

// What a target with `wanted` answers to the offers.
std::string answers(std::string_view bars, const WantedParams& wanted = {}, Negotiation* used = nullptr) {
  Negotiation fresh(Role::target, SessionType::normal, true, wanted);
  Negotiation& negotiation = used != nullptr ? *used : fresh;
  const std::string text = nul(bars);
  TextWriter out;
  const auto ok = negotiation.receive(*parse_text(as_bytes(text)), in_operational, out);
  return ok ? with_bars(out.take()) : "error";
}

TEST(Negotiation, ResultFunctionsAreThoseOfTheRfc) {
  WantedParams yes;  // ours: Yes where the key is a boolean
  yes.initial_r2t = yes.immediate_data = yes.data_pdu_in_order = yes.data_sequence_in_order = true;
  WantedParams no = yes;
  no.initial_r2t = no.immediate_data = no.data_pdu_in_order = no.data_sequence_in_order = false;
  const struct {
    const char* offer;
    const char* with_yes;
    const char* with_no;
  } table[] = {
      {"InitialR2T=Yes", "Yes", "Yes"},          {"InitialR2T=No", "Yes", "No"},
      {"ImmediateData=Yes", "Yes", "No"},        {"ImmediateData=No", "No", "No"},
      {"DataPDUInOrder=No", "Yes", "No"},        {"DataPDUInOrder=Yes", "Yes", "Yes"},
      {"DataSequenceInOrder=No", "Yes", "No"},   {"DataSequenceInOrder=Yes", "Yes", "Yes"},
  };
  for (const auto& item : table) {
    const std::string key = std::string(item.offer).substr(0, std::string(item.offer).find('=') + 1);
    EXPECT_EQ(answers(item.offer, yes), key + item.with_yes + "|") << item.offer;
    EXPECT_EQ(answers(item.offer, no), key + item.with_no + "|") << item.offer;
  }
  WantedParams numbers;
  numbers.max_burst_length = 65536;
  numbers.first_burst_length = 32768;
  numbers.max_outstanding_r2t = 4;
  numbers.default_time2wait = 10;
  numbers.default_time2retain = 10;
  EXPECT_EQ(answers("MaxBurstLength=0x20000", numbers), "MaxBurstLength=65536|");
  EXPECT_EQ(answers("MaxBurstLength=512", numbers), "MaxBurstLength=512|");
  EXPECT_EQ(answers("FirstBurstLength=65536", numbers), "FirstBurstLength=32768|");
  EXPECT_EQ(answers("MaxOutstandingR2T=65535", numbers), "MaxOutstandingR2T=4|");
  EXPECT_EQ(answers("DefaultTime2Wait=0", numbers), "DefaultTime2Wait=10|");
  EXPECT_EQ(answers("DefaultTime2Wait=3600", numbers), "DefaultTime2Wait=3600|");
  EXPECT_EQ(answers("DefaultTime2Retain=3600", numbers), "DefaultTime2Retain=10|");
  EXPECT_EQ(answers("ErrorRecoveryLevel=2", numbers), "ErrorRecoveryLevel=0|");
  EXPECT_EQ(answers("MaxConnections=65535", numbers), "MaxConnections=1|");
  EXPECT_EQ(answers("iSCSIProtocolLevel=2", numbers), "iSCSIProtocolLevel=1|");
  EXPECT_EQ(answers("TaskReporting=FastAbort,ResponseFence,RFC3720", numbers), "TaskReporting=RFC3720|");
}

TEST(Negotiation, DigestsFollowTheOfferersOrder) {
  EXPECT_EQ(answers("HeaderDigest=CRC32C,None"), "HeaderDigest=CRC32C|");
  EXPECT_EQ(answers("DataDigest=None,CRC32C"), "DataDigest=None|");
  WantedParams strict;
  strict.header_digest = {Digest::crc32c};
  EXPECT_EQ(answers("HeaderDigest=None,CRC32C", strict), "HeaderDigest=CRC32C|");
  EXPECT_EQ(answers("HeaderDigest=None", strict), "HeaderDigest=Reject|");
  EXPECT_EQ(answers("HeaderDigest=SHA-9,X,None"), "HeaderDigest=None|");
}

TEST(Negotiation, OffersOutOfRangeAreRejectedAndChangeNothing) {
  for (const char* offer :
       {"MaxBurstLength=511", "MaxBurstLength=0x1000000", "MaxBurstLength=-1", "MaxBurstLength=1e9", "MaxBurstLength=",
        "MaxBurstLength=12ab", "FirstBurstLength=0", "MaxOutstandingR2T=0", "MaxOutstandingR2T=65536",
        "MaxConnections=0", "DefaultTime2Wait=3601", "ErrorRecoveryLevel=3", "iSCSIProtocolLevel=32",
        "InitialR2T=yes", "InitialR2T=", "ImmediateData=1", "HeaderDigest=", "HeaderDigest=,None",
        "TaskReporting=None", "MaxRecvDataSegmentLength=511", "MaxRecvDataSegmentLength=0x1000000",
        "MaxRecvDataSegmentLength=-8192", "MaxRecvDataSegmentLength=8192x"}) {
    Negotiation negotiation(Role::target, SessionType::normal, true, {});
    const std::string key = std::string(offer).substr(0, std::string(offer).find('=') + 1);
    EXPECT_EQ(answers(offer, {}, &negotiation), key + "Reject|") << offer;
    EXPECT_EQ(negotiation.session(), SessionParams()) << offer;
    EXPECT_EQ(negotiation.connection(), ConnectionParams()) << offer;
  }
}

TEST(Negotiation, ListsOfManyItemsAreRefused) {
  std::string list = "HeaderDigest=x";
  for (int i = 0; i < 63; ++i) list += ",x";
  EXPECT_EQ(answers(list), "HeaderDigest=Reject|");
  EXPECT_EQ(answers(list + ",None"), "HeaderDigest=Reject|");
}

TEST(Negotiation, FirstBurstNeverExceedsMaxBurst) {
  EXPECT_EQ(answers("FirstBurstLength=65536|MaxBurstLength=8192"), "FirstBurstLength=8192|MaxBurstLength=8192|");
  EXPECT_EQ(answers("MaxBurstLength=8192|FirstBurstLength=65536"), "MaxBurstLength=8192|FirstBurstLength=8192|");
  Negotiation negotiation(Role::target, SessionType::normal, true, {});
  EXPECT_EQ(answers("MaxBurstLength=512", {}, &negotiation), "MaxBurstLength=512|");
  EXPECT_EQ(negotiation.session().first_burst_length, 512u);
  TextWriter out;
  EXPECT_TRUE(negotiation.offer_missing(out));
  EXPECT_NE(with_bars(out.take()).find("FirstBurstLength=512|"), std::string::npos);
}

TEST(Negotiation, ObsoleteAndUnknownKeysAreAnswered) {
  EXPECT_EQ(answers("IFMarker=Yes|OFMarker=No|IFMarkInt=1~8|OFMarkInt=2048"),
            "IFMarker=No|OFMarker=No|IFMarkInt=Reject|OFMarkInt=Reject|");
  EXPECT_EQ(answers("X-com.example.what=ever|maxburstlength=1"),
            "X-com.example.what=NotUnderstood|maxburstlength=NotUnderstood|");
  EXPECT_EQ(answers("X#NodeArchitecture=Linux"), "");
}

TEST(Negotiation, DeclaredLengthNeedsNoAnswer) {
  Negotiation negotiation(Role::target, SessionType::normal, true, {});
  EXPECT_EQ(answers("MaxRecvDataSegmentLength=16777215", {}, &negotiation), "");
  EXPECT_EQ(negotiation.connection().max_xmit_data_segment_length, 16777215u);
  EXPECT_EQ(negotiation.connection().max_recv_data_segment_length, 8192u);  // not declared yet
  TextWriter out;
  negotiation.declare(out);
  EXPECT_EQ(with_bars(out.take()), "MaxRecvDataSegmentLength=262144|");
  negotiation.declare(out);
  EXPECT_TRUE(out.empty());
  EXPECT_EQ(negotiation.connection().max_recv_data_segment_length, 262144u);
  // The initiator may say that it did not like our declaration.
  EXPECT_EQ(answers("MaxRecvDataSegmentLength=Reject", {}, &negotiation), "");
}

TEST(Negotiation, ProtocolBreakersEndIt) {
  for (const char* bad :
       {"MaxBurstLength=512|MaxBurstLength=512", "MaxBurstLength=Reject", "MaxBurstLength=NotUnderstood",
        "MaxBurstLength=Irrelevant", "X-new=NotUnderstood", "TargetAlias=x", "TargetPortalGroupTag=1", "AuthMethod=None",
        "SendTargets=All", "MaxRecvDataSegmentLength=Reject", "InitiatorName=a|InitiatorName=b"}) {
    EXPECT_EQ(answers(bad), "error") << bad;
  }
}

TEST(Negotiation, DiscoveryOffersOnlyWhatDiscoveryKnows) {
  Negotiation negotiation(Role::initiator, SessionType::discovery, true, {});
  TextWriter out;
  negotiation.offer_all(out);
  EXPECT_EQ(with_bars(out.take()),
            "HeaderDigest=None,CRC32C|DataDigest=None,CRC32C|MaxRecvDataSegmentLength=262144|DefaultTime2Wait=2|"
            "DefaultTime2Retain=0|ErrorRecoveryLevel=0|");
}

TEST(Negotiation, YoungKeysAreOfferedOnlyWhenWanted) {
  WantedParams wanted;
  wanted.protocol_level = 2;
  wanted.task_reporting = {TaskReporting::fast_abort, TaskReporting::rfc3720};
  Negotiation negotiation(Role::initiator, SessionType::normal, true, wanted);
  TextWriter out;
  negotiation.offer_all(out);
  const std::string text = with_bars(out.take());
  EXPECT_NE(text.find("iSCSIProtocolLevel=2|"), std::string::npos);
  EXPECT_NE(text.find("TaskReporting=FastAbort,RFC3720|"), std::string::npos);
}

TEST(Negotiation, WantedValuesAreChecked) {
  EXPECT_TRUE(check_wanted({}).has_value());
  const auto bad = [](auto change) {
    WantedParams wanted;
    change(wanted);
    const auto ok = check_wanted(wanted);
    return !ok && ok.error().code == Errc::invalid_argument;
  };
  EXPECT_TRUE(bad([](auto& w) { w.max_burst_length = 511; }));
  EXPECT_TRUE(bad([](auto& w) { w.max_burst_length = 1u << 24; }));
  EXPECT_TRUE(bad([](auto& w) { w.first_burst_length = w.max_burst_length + 1; }));
  EXPECT_TRUE(bad([](auto& w) { w.max_outstanding_r2t = 0; }));
  EXPECT_TRUE(bad([](auto& w) { w.error_recovery_level = 3; }));
  EXPECT_TRUE(bad([](auto& w) { w.header_digest.clear(); }));
  EXPECT_TRUE(bad([](auto& w) { w.max_recv_data_segment_length = 0; }));
}

}  // namespace
}  // namespace perilune::iscsi
