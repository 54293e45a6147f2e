// SPDX-License-Identifier: Apache-2.0
#include "config/record_fields.hpp"

#include <array>
#include <charconv>
#include <cstddef>
#include <limits>
#include <string>

namespace perilune::config {
namespace {

constexpr std::int64_t int_max = std::numeric_limits<std::int32_t>::max();
constexpr std::size_t max_value_bytes = 255;
constexpr std::string_view yes_no = "Yes|No";
constexpr std::string_view chap_words = "MD5|SHA1|SHA256|SHA3-256";
constexpr std::string_view digest_words = "CRC32C|None";

constexpr FieldSpec text(std::string_view name, std::string_view value = "", std::uint8_t flags = plain) {
  return {.name = name, .default_value = value, .flags = flags};
}
constexpr FieldSpec number(std::string_view name, std::string_view value, std::int64_t min = 0,
                           std::int64_t max = int_max, std::uint8_t flags = plain) {
  return {.name = name,
          .default_value = value,
          .kind = FieldKind::integer,
          .min = min,
          .max = max,
          .flags = flags};
}
constexpr FieldSpec choice(std::string_view name, std::string_view value, std::string_view words,
                           std::uint8_t flags = plain) {
  return {.name = name, .default_value = value, .kind = FieldKind::choice, .choices = words, .flags = flags};
}
constexpr FieldSpec list(std::string_view name, std::string_view value, std::string_view words) {
  return {.name = name, .default_value = value, .kind = FieldKind::word_list, .choices = words};
}

constexpr auto node_head = std::to_array<FieldSpec>({
    text("node.name", "", key),
    number("node.tpgt", "-1", -1, 65535, key),
    choice("node.startup", "manual", "manual|automatic|onboot"),
    choice("node.leading_login", "No", yes_no),
});

// The hardware settings are stored and shown, as the original does for software interfaces too.
constexpr auto iface_rows = std::to_array<FieldSpec>({
    text("iface.iscsi_ifacename", "default", key),
    text("iface.net_ifacename"),
    text("iface.ipaddress"),
    number("iface.prefix_len", "0", 0, 128),
    text("iface.hwaddress"),
    text("iface.transport_name", "tcp"),
    text("iface.initiatorname"),
    text("iface.state"),
    number("iface.vlan_id", "0", 0, 4095),
    number("iface.vlan_priority", "0", 0, 7),
    text("iface.vlan_state"),
    number("iface.iface_num", "0"),
    number("iface.mtu", "0", 0, 65535),
    number("iface.port", "0", 0, 65535),
    text("iface.bootproto"),
    text("iface.subnet_mask"),
    text("iface.gateway"),
    text("iface.dhcp_alt_client_id_state"),
    text("iface.dhcp_alt_client_id"),
    text("iface.dhcp_dns"),
    text("iface.dhcp_learn_iqn"),
    text("iface.dhcp_req_vendor_id_state"),
    text("iface.dhcp_vendor_id_state"),
    text("iface.dhcp_vendor_id"),
    text("iface.dhcp_slp_da"),
    text("iface.fragmentation"),
    text("iface.gratuitous_arp"),
    text("iface.incoming_forwarding"),
    text("iface.tos_state"),
    number("iface.tos", "0", 0, 255),
    number("iface.ttl", "0", 0, 255),
    text("iface.delayed_ack"),
    text("iface.tcp_nagle"),
    text("iface.tcp_wsf_state"),
    number("iface.tcp_wsf", "0", 0, 255),
    number("iface.tcp_timer_scale", "0", 0, 255),
    text("iface.tcp_timestamp"),
    text("iface.redirect"),
    number("iface.def_task_mgmt_timeout", "0", 0, 65535),
    text("iface.header_digest"),
    text("iface.data_digest"),
    text("iface.immediate_data"),
    text("iface.initial_r2t"),
    text("iface.data_seq_inorder"),
    text("iface.data_pdu_inorder"),
    number("iface.erl", "0", 0, 2),
    number("iface.max_receive_data_len", "0"),
    number("iface.first_burst_len", "0"),
    number("iface.max_outstanding_r2t", "0", 0, 65535),
    number("iface.max_burst_len", "0"),
    text("iface.chap_auth"),
    text("iface.bidi_chap"),
    text("iface.strict_login_compliance"),
    text("iface.discovery_auth"),
    text("iface.discovery_logout"),
});

constexpr auto node_tail = std::to_array<FieldSpec>({
    text("node.discovery_address", "", key),
    number("node.discovery_port", "0", 0, 65535, key),
    choice("node.discovery_type", "static", "send_targets|isns|offload_send_targets|slp|static|fw", key),
    number("node.session.initial_cmdsn", "0"),
    number("node.session.initial_login_retry_max", "8"),
    number("node.session.xmit_thread_priority", "-20", -20, 20),
    number("node.session.cmds_max", "128", 2, 2048),
    number("node.session.queue_depth", "32", 1, 1024),
    number("node.session.nr_sessions", "1", 1, 65535),
    choice("node.session.auth.authmethod", "None", "None|CHAP"),
    text("node.session.auth.username"),
    text("node.session.auth.password", "", secret),
    text("node.session.auth.username_in"),
    text("node.session.auth.password_in", "", secret),
    list("node.session.auth.chap_algs", "MD5", chap_words),
    number("node.session.timeo.replacement_timeout", "120", -1),
    number("node.session.err_timeo.abort_timeout", "15"),
    number("node.session.err_timeo.lu_reset_timeout", "30"),
    number("node.session.err_timeo.tgt_reset_timeout", "30"),
    number("node.session.err_timeo.host_reset_timeout", "60"),
    choice("node.session.iscsi.FastAbort", "Yes", yes_no),
    choice("node.session.iscsi.InitialR2T", "No", yes_no),
    choice("node.session.iscsi.ImmediateData", "Yes", yes_no),
    number("node.session.iscsi.FirstBurstLength", "262144", 512, 16777215),
    number("node.session.iscsi.MaxBurstLength", "16776192", 512, 16777215),
    number("node.session.iscsi.DefaultTime2Retain", "0", 0, 3600),
    number("node.session.iscsi.DefaultTime2Wait", "2", 0, 3600),
    number("node.session.iscsi.MaxConnections", "1", 1, 65535),
    number("node.session.iscsi.MaxOutstandingR2T", "1", 1, 65535),
    number("node.session.iscsi.ERL", "0", 0, 2),
    choice("node.session.scan", "auto", "auto|manual"),
    number("node.session.reopen_max", "0"),
    text("node.conn[0].address", "", key),
    number("node.conn[0].port", "3260", 1, 65535, key),
    choice("node.conn[0].startup", "manual", "manual|automatic|onboot"),
    number("node.conn[0].tcp.window_size", "524288"),
    number("node.conn[0].tcp.type_of_service", "0", 0, 255),
    number("node.conn[0].timeo.logout_timeout", "15"),
    number("node.conn[0].timeo.login_timeout", "15"),
    number("node.conn[0].timeo.auth_timeout", "45"),
    number("node.conn[0].timeo.noop_out_interval", "5"),
    number("node.conn[0].timeo.noop_out_timeout", "5"),
    number("node.conn[0].iscsi.MaxXmitDataSegmentLength", "0", 0, 16777215),
    number("node.conn[0].iscsi.MaxRecvDataSegmentLength", "262144", 512, 16777215),
    list("node.conn[0].iscsi.HeaderDigest", "None", digest_words),
    list("node.conn[0].iscsi.DataDigest", "None", digest_words),
    choice("node.conn[0].iscsi.IFMarker", "No", yes_no),
    choice("node.conn[0].iscsi.OFMarker", "No", yes_no),
});

// chap_algs stands here under the node's name: so the original writes it.
constexpr auto send_targets_rows = std::to_array<FieldSpec>({
    choice("discovery.startup", "manual", "manual|automatic|onboot"),
    choice("discovery.type", "sendtargets", "sendtargets", key),
    text("discovery.sendtargets.address", "", key),
    number("discovery.sendtargets.port", "3260", 1, 65535, key),
    choice("discovery.sendtargets.auth.authmethod", "None", "None|CHAP"),
    text("discovery.sendtargets.auth.username"),
    text("discovery.sendtargets.auth.password", "", secret),
    text("discovery.sendtargets.auth.username_in"),
    text("discovery.sendtargets.auth.password_in", "", secret),
    list("node.session.auth.chap_algs", "MD5", chap_words),
    number("discovery.sendtargets.timeo.login_timeout", "15"),
    choice("discovery.sendtargets.use_discoveryd", "No", yes_no),
    number("discovery.sendtargets.discoveryd_poll_inval", "30"),
    number("discovery.sendtargets.reopen_max", "5"),
    number("discovery.sendtargets.timeo.auth_timeout", "45"),
    number("discovery.sendtargets.timeo.active_timeout", "30"),
    number("discovery.sendtargets.iscsi.MaxRecvDataSegmentLength", "32768", 512, 16777215),
});

template <std::size_t... Sizes>
constexpr auto concat(const std::array<FieldSpec, Sizes>&... parts) {
  std::array<FieldSpec, (Sizes + ...)> all{};
  std::size_t n = 0;
  const auto append = [&](const auto& part) {
    for (const FieldSpec& row : part) all[n++] = row;
  };
  (append(parts), ...);
  return all;
}
constexpr auto node_rows = concat(node_head, iface_rows, node_tail);

bool is_choice(std::string_view words, std::string_view value) {
  while (!value.empty()) {
    const auto bar = words.find('|');
    if (words.substr(0, bar) == value) return true;
    if (bar == std::string_view::npos) return false;
    words.remove_prefix(bar + 1);
  }
  return false;
}

bool is_word_list(std::string_view words, std::string_view value) {
  if (value.empty()) return false;
  std::array<std::string_view, 8> seen;
  std::size_t n = 0;
  for (;;) {
    const auto comma = value.find(',');
    const std::string_view word = value.substr(0, comma);
    if (n == seen.size() || !is_choice(words, word)) return false;
    for (std::size_t i = 0; i < n; ++i) {
      if (seen[i] == word) return false;
    }
    seen[n++] = word;
    if (comma == std::string_view::npos) return true;
    value.remove_prefix(comma + 1);
  }
}

bool is_integer(const FieldSpec& field, std::string_view value) {
  std::int64_t parsed = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), parsed);
  return error == std::errc() && end == value.data() + value.size() && parsed >= field.min &&
         parsed <= field.max;
}

bool is_printable(std::string_view value) {
  if (value.size() > max_value_bytes) return false;
  for (const char c : value) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) return false;
  }
  return true;
}

}  // namespace

std::span<const FieldSpec> fields(RecordKind kind) noexcept {
  switch (kind) {
    case RecordKind::node: return node_rows;
    case RecordKind::send_targets: return send_targets_rows;
    case RecordKind::iface: return iface_rows;
  }
  return {};
}

int find_field(RecordKind kind, std::string_view name) noexcept {
  const auto rows = fields(kind);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (rows[i].name == name) return static_cast<int>(i);
  }
  return -1;
}

Status check_value(const FieldSpec& field, std::string_view value) {
  bool good = is_printable(value);
  switch (field.kind) {
    case FieldKind::text: break;
    case FieldKind::integer: good = good && is_integer(field, value); break;
    case FieldKind::choice: good = good && is_choice(field.choices, value); break;
    case FieldKind::word_list: good = good && is_word_list(field.choices, value); break;
  }
  if (good) return {};
  const bool showable = (field.flags & secret) == 0 && is_printable(value);
  return fail(Errc::invalid_argument, "unknown value format '" + std::string(showable ? value : "...") +
                                          "' for parameter name '" + std::string(field.name) + "'");
}

}  // namespace perilune::config
