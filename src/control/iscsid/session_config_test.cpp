// SPDX-License-Identifier: Apache-2.0
#include "control/iscsid/session_config.hpp"

#include <gtest/gtest.h>

#include "config/portal.hpp"
#include "control/iscsi_error.hpp"

namespace perilune::control {
namespace {

using config::Record;
using config::RecordKind;

const runtime::Endpoint portal = runtime::Endpoint::parse("192.0.2.1:3260", 3260).value();

Record node() {
  Record record(RecordKind::node);
  config::NodeKey{"iqn.2026-05.org.moon:disk", "192.0.2.1", 3260, 3, "default"}.put_into(record);
  return record;
}

TEST(SessionConfigOf, TakesEveryParameterFromTheRecord) {
  Record record = node();
  for (const auto& [name, value] : std::initializer_list<std::pair<const char*, const char*>>{
           {"node.session.iscsi.InitialR2T", "Yes"},
           {"node.session.iscsi.ImmediateData", "No"},
           {"node.session.iscsi.FirstBurstLength", "8192"},
           {"node.session.iscsi.MaxBurstLength", "4096"},
           {"node.conn[0].iscsi.MaxRecvDataSegmentLength", "65536"},
           {"node.conn[0].iscsi.HeaderDigest", "CRC32C"},
           {"node.conn[0].iscsi.DataDigest", "None,CRC32C"},
           {"node.session.iscsi.ERL", "2"},
           {"node.session.iscsi.MaxConnections", "40"},
           {"node.session.iscsi.DefaultTime2Retain", "30"},
           {"node.session.cmds_max", "64"},
           {"node.session.timeo.replacement_timeout", "-1"},
           {"node.conn[0].timeo.noop_out_interval", "0"},
           {"node.conn[0].timeo.login_timeout", "7"}}) {
    ASSERT_TRUE(record.set(name, value)) << name;
  }
  const auto config = session_config_of(record, "iqn.2026-11.io.perilune:one", "alias", portal, 0);
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->initiator_name, "iqn.2026-11.io.perilune:one");
  EXPECT_EQ(config->initiator_alias, "alias");
  EXPECT_EQ(config->target_name, "iqn.2026-05.org.moon:disk");
  EXPECT_EQ(config->portal, portal);
  EXPECT_EQ(config->portal_group_tag, 3);
  EXPECT_TRUE(config->initial_r2t);
  EXPECT_FALSE(config->immediate_data);
  EXPECT_EQ(config->max_burst_length, 4096U);
  EXPECT_EQ(config->first_burst_length, 4096U);  // RFC 7143 13.14
  EXPECT_EQ(config->max_recv_data_segment_length, 65536U);
  EXPECT_EQ(config->header_digest, initiator::DigestPreference::crc32c);
  EXPECT_EQ(config->data_digest, initiator::DigestPreference::none_or_crc32c);
  EXPECT_EQ(config->error_recovery_level, 2U);
  EXPECT_EQ(config->max_connections, 16U);
  EXPECT_EQ(config->default_time2retain, 30U);
  EXPECT_EQ(config->commands_max, 64U);
  EXPECT_EQ(config->replacement_timeout.count(), -1);
  EXPECT_EQ(config->noop_interval.count(), 0);
  EXPECT_EQ(config->login_timeout.count(), 7);
  EXPECT_FALSE(config->chap);
}

TEST(SessionConfigOf, AnInterfaceMayHaveItsOwnInitiatorName) {
  Record record = node();
  ASSERT_TRUE(record.set("iface.initiatorname", "iqn.2026-05.org.moon:other"));
  EXPECT_EQ(session_config_of(record, "iqn.x", "", portal, 0)->initiator_name, "iqn.2026-05.org.moon:other");
}

TEST(SessionConfigOf, TheIsidIsStableAndDiffersPerInstance) {
  const auto first = session_config_of(node(), "iqn.x", "", portal, 0);
  EXPECT_EQ(first->isid, session_config_of(node(), "iqn.x", "", portal, 0)->isid);
  EXPECT_NE(first->isid, session_config_of(node(), "iqn.x", "", portal, 1)->isid);
}

TEST(SessionConfigOf, ChapNeedsANameAndAPassword) {
  Record record = node();
  ASSERT_TRUE(record.set("node.session.auth.authmethod", "CHAP"));
  EXPECT_EQ(session_config_of(record, "iqn.x", "", portal, 0).error().code, Errc::invalid_argument);
  ASSERT_TRUE(record.set("node.session.auth.username", "moon"));
  ASSERT_TRUE(record.set("node.session.auth.password", "twelve or more"));
  ASSERT_TRUE(record.set("node.session.auth.chap_algs", "SHA3-256,SHA1,MD5"));
  auto config = session_config_of(record, "iqn.x", "", portal, 0);
  ASSERT_TRUE(config->chap);
  EXPECT_EQ(config->chap->user, "moon");
  EXPECT_EQ(config->chap->algorithms, (std::vector<std::uint8_t>{8, 6, 5}));
  EXPECT_TRUE(config->chap->mutual_secret.empty());
  // A name and a password are used without authmethod too, as the original does.
  ASSERT_TRUE(record.set("node.session.auth.authmethod", "None"));
  ASSERT_TRUE(record.set("node.session.auth.username_in", "sun"));
  ASSERT_TRUE(record.set("node.session.auth.password_in", "another twelve"));
  config = session_config_of(record, "iqn.x", "", portal, 0);
  ASSERT_TRUE(config->chap);
  EXPECT_EQ(config->chap->mutual_user, "sun");
  EXPECT_EQ(config->chap->mutual_secret.size(), 14U);
}

initiator::LoginFailure failure(Errc code, int status_class = 0, int detail = 0) {
  return {Error{code, "words", 0}, static_cast<std::uint8_t>(status_class),
          static_cast<std::uint8_t>(detail)};
}

TEST(LoginExitCode, IsTheOneScriptsBranchOn) {
  EXPECT_EQ(login_exit_code(failure(Errc::connection)), 8);
  EXPECT_EQ(login_exit_code(failure(Errc::timed_out)), 8);
  EXPECT_EQ(login_exit_code(failure(Errc::authentication, 2, 1)), 24);
  EXPECT_EQ(login_exit_code(failure(Errc::authorization, 2, 2)), 24);
  EXPECT_EQ(login_exit_code(failure(Errc::not_found, 2, 3)), 19);
  EXPECT_EQ(login_exit_code(failure(Errc::authentication)), 19);  // the target failed to prove itself
  EXPECT_EQ(login_exit_code(failure(Errc::protocol)), 19);
}

TEST(LoginRetry, OnlyWhatMayGetBetterIsTriedAgain) {
  EXPECT_TRUE(is_retryable(failure(Errc::connection)));
  EXPECT_TRUE(is_retryable(failure(Errc::protocol, 3, 1)));  // service unavailable
  EXPECT_FALSE(is_retryable(failure(Errc::authentication, 2, 1)));
  EXPECT_FALSE(is_retryable(failure(Errc::authentication)));
  EXPECT_FALSE(is_retryable(failure(Errc::protocol)));
}

}  // namespace
}  // namespace perilune::control
