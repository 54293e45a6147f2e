// SPDX-License-Identifier: Apache-2.0
#include "control/iscsid/session_config.hpp"

#include <algorithm>
#include <chrono>
#include <system_error>

#include "base/limits.hpp"
#include "control/iscsi_error.hpp"
#include "initiator/session.hpp"

namespace perilune::control {
namespace {

using config::Record;
using initiator::ChapCredentials;
using initiator::DigestPreference;
using initiator::SessionConfig;

std::vector<std::uint8_t> algorithms_of(std::string_view list) {
  std::vector<std::uint8_t> ids;
  while (!list.empty()) {
    const auto comma = list.find(',');
    const std::string_view word = list.substr(0, comma);
    if (word == "MD5") ids.push_back(5);
    if (word == "SHA1") ids.push_back(6);
    if (word == "SHA256") ids.push_back(7);
    if (word == "SHA3-256") ids.push_back(8);
    list = comma == std::string_view::npos ? std::string_view() : list.substr(comma + 1);
  }
  return ids;
}

DigestPreference digest_of(const std::string& text) {
  if (text == "CRC32C") return DigestPreference::crc32c;
  if (text == "CRC32C,None") return DigestPreference::crc32c_or_none;
  if (text == "None,CRC32C") return DigestPreference::none_or_crc32c;
  return DigestPreference::none;
}

// `prefix` is "node.session.auth." or "discovery.sendtargets.auth.". A name and a password without authmethod
// = CHAP are used all the same: so the original does, and so old records work.
Status add_credentials(SessionConfig& config, const Record& record, const std::string& prefix) {
  const std::string& user = record.get(prefix + "username");
  const std::string& password = record.get(prefix + "password");
  const bool asked = record.get(prefix + "authmethod") == "CHAP";
  const bool given = !user.empty() && !password.empty();
  if (asked && !given)
    return fail(Errc::invalid_argument, "CHAP is asked for without a user name and a password");
  if (!given) return {};
  ChapCredentials chap;
  chap.user = user;
  chap.secret = crypto::Secret(password);
  const std::string& user_in = record.get(prefix + "username_in");
  const std::string& password_in = record.get(prefix + "password_in");
  if (!password_in.empty()) {
    chap.mutual_user = user_in;
    chap.mutual_secret = crypto::Secret(password_in);
  }
  chap.algorithms = algorithms_of(record.get("node.session.auth.chap_algs"));
  config.chap = std::move(chap);
  return {};
}

template <class T>
T number(const Record& record, std::string_view name) {
  return static_cast<T>(record.get_int(name));
}
std::chrono::seconds seconds(const Record& record, std::string_view name) {
  return std::chrono::seconds(record.get_int(name));
}

void add_parameters(SessionConfig& config, const Record& node) {
  config.initial_r2t = node.get_yes("node.session.iscsi.InitialR2T");
  config.immediate_data = node.get_yes("node.session.iscsi.ImmediateData");
  config.first_burst_length = number<std::uint32_t>(node, "node.session.iscsi.FirstBurstLength");
  config.max_burst_length = number<std::uint32_t>(node, "node.session.iscsi.MaxBurstLength");
  // RFC 7143 13.14: never more than MaxBurstLength.
  if (config.first_burst_length > config.max_burst_length)
    config.first_burst_length = config.max_burst_length;
  config.max_recv_data_segment_length =
      number<std::uint32_t>(node, "node.conn[0].iscsi.MaxRecvDataSegmentLength");
  config.max_outstanding_r2t = number<std::uint32_t>(node, "node.session.iscsi.MaxOutstandingR2T");
  config.default_time2wait = number<std::uint16_t>(node, "node.session.iscsi.DefaultTime2Wait");
  config.default_time2retain = number<std::uint16_t>(node, "node.session.iscsi.DefaultTime2Retain");
  config.error_recovery_level = number<std::uint8_t>(node, "node.session.iscsi.ERL");
  config.max_connections = static_cast<std::uint16_t>(std::min<std::int64_t>(
      node.get_int("node.session.iscsi.MaxConnections"), limits::max_session_connections));
  config.header_digest = digest_of(node.get("node.conn[0].iscsi.HeaderDigest"));
  config.data_digest = digest_of(node.get("node.conn[0].iscsi.DataDigest"));
  config.commands_max = number<std::uint32_t>(node, "node.session.cmds_max");
  config.login_timeout = seconds(node, "node.conn[0].timeo.login_timeout");
  config.logout_timeout = seconds(node, "node.conn[0].timeo.logout_timeout");
  config.noop_interval = seconds(node, "node.conn[0].timeo.noop_out_interval");
  config.noop_timeout = seconds(node, "node.conn[0].timeo.noop_out_timeout");
  config.replacement_timeout = seconds(node, "node.session.timeo.replacement_timeout");
  config.abort_timeout = seconds(node, "node.session.err_timeo.abort_timeout");
  config.lu_reset_timeout = seconds(node, "node.session.err_timeo.lu_reset_timeout");
}

}  // namespace

Result<SessionConfig> session_config_of(const Record& node, const std::string& initiator_name,
                                        const std::string& initiator_alias, const runtime::Endpoint& portal,
                                        unsigned instance) {
  SessionConfig config;
  const std::string& own_name = node.get("iface.initiatorname");
  config.initiator_name = own_name.empty() ? initiator_name : own_name;
  config.initiator_alias = initiator_alias;
  config.target_name = node.get("node.name");
  config.portal = portal;
  const auto tag = node.get_int("node.tpgt");
  if (tag >= 0) config.portal_group_tag = static_cast<std::uint16_t>(tag);
  std::string interface = node.get("iface.iscsi_ifacename");
  if (instance != 0) interface += "#" + std::to_string(instance);
  config.isid = initiator::stable_isid(config.initiator_name, interface, config.target_name);
  add_parameters(config, node);
  if (auto done = add_credentials(config, node, "node.session.auth."); !done)
    return tl::unexpected(done.error());
  return config;
}

Result<SessionConfig> discovery_config_of(const Record& send_targets, const std::string& initiator_name,
                                          const std::string& initiator_alias,
                                          const runtime::Endpoint& portal) {
  SessionConfig config;
  config.initiator_name = initiator_name;
  config.initiator_alias = initiator_alias;
  config.portal = portal;
  config.login_timeout = seconds(send_targets, "discovery.sendtargets.timeo.login_timeout");
  config.max_recv_data_segment_length =
      number<std::uint32_t>(send_targets, "discovery.sendtargets.iscsi.MaxRecvDataSegmentLength");
  if (auto done = add_credentials(config, send_targets, "discovery.sendtargets.auth."); !done) {
    return tl::unexpected(done.error());
  }
  return config;
}

bool is_retryable(const initiator::LoginFailure& failure) noexcept {
  if (failure.status_class != 0) return failure.status_class == 3;
  switch (failure.error.code) {
    case Errc::connection:
    case Errc::timed_out:
    case Errc::io: return true;
    default: return false;
  }
}

int login_exit_code(const initiator::LoginFailure& failure) noexcept {
  // RFC 7143 11.13.5: 0201 authentication, 0202 authorization.
  if (failure.status_class == 2 && (failure.status_detail == 1 || failure.status_detail == 2)) {
    return iscsi_err_login_auth_failed;
  }
  if (failure.status_class == 2) return iscsi_err_fatal_login;
  if (is_retryable(failure)) return iscsi_err_trans_timeout;
  if (failure.error.code == Errc::no_memory) return iscsi_err_nomem;
  if (failure.error.code == Errc::invalid_argument) return iscsi_err_inval;
  return iscsi_err_fatal_login;
}

std::string connection_words(const Error& error) {
  return error.os_errno != 0 ? std::generic_category().message(error.os_errno) : error.message;
}

}  // namespace perilune::control
