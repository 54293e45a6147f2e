// SPDX-License-Identifier: Apache-2.0
#include "config/portal.hpp"

#include <algorithm>
#include <charconv>

#include "base/assert.hpp"
#include "config/iscsid_conf.hpp"

namespace perilune::config {
namespace {

constexpr std::size_t max_host_bytes = 253;

template <class T>
bool parse_number(std::string_view text, T min, T max, T& out) {
  T value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < min || value > max) return false;
  out = value;
  return true;
}

bool is_host(std::string_view host) {
  if (host.empty() || host.size() > max_host_bytes || host.front() == '.' || host.front() == '-')
    return false;
  return std::all_of(host.begin(), host.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
           c == '-' || c == ':' || c == '_' || c == '%';
  });
}

Status set_or_fail(bool good, std::string_view what) {
  if (good) return {};
  return fail(Errc::invalid_argument, std::string(what));
}

}  // namespace

Result<Portal> Portal::parse(std::string_view text) {
  Portal portal;
  const auto bad = [&](std::string_view why) {
    return fail(Errc::invalid_argument,
                "invalid portal '" + std::string(text.substr(0, 300)) + "': " + std::string(why));
  };
  std::string_view rest = text;
  if (const auto comma = rest.find(','); comma != std::string_view::npos) {
    if (!parse_number(rest.substr(comma + 1), -1, 65535, portal.tpgt)) return bad("bad portal group tag");
    rest = rest.substr(0, comma);
  }
  std::string_view port;
  if (rest.starts_with('[')) {
    const auto close = rest.find(']');
    if (close == std::string_view::npos) return bad("missing ]");
    port = rest.substr(close + 1);
    portal.host = rest.substr(1, close - 1);
    if (!port.empty() && port.front() != ':') return bad("expected : after ]");
  } else if (std::count(rest.begin(), rest.end(), ':') == 1) {
    port = rest.substr(rest.find(':'));
    portal.host = rest.substr(0, rest.find(':'));
  } else {
    portal.host = rest;
  }
  if (!is_host(portal.host)) return bad("bad address");
  if (!port.empty()) {
    unsigned value = 0;
    if (!parse_number(port.substr(1), 1U, 65535U, value)) return bad("bad port");
    portal.port = static_cast<std::uint16_t>(value);
    portal.port_given = true;
  }
  return portal;
}

std::string format_host_port(std::string_view host, std::uint16_t port) {
  const bool v6 = host.find(':') != std::string_view::npos;
  std::string out = v6 ? "[" : "";
  out += host;
  out += v6 ? "]:" : ":";
  return out + std::to_string(port);
}

std::string format_portal(std::string_view host, std::uint16_t port, int tpgt) {
  return format_host_port(host, port) + "," + std::to_string(static_cast<std::uint32_t>(tpgt));
}

NodeKey NodeKey::of(const Record& node) {
  return NodeKey{
      .target = node.get("node.name"),
      .address = node.get("node.conn[0].address"),
      .port = static_cast<std::uint16_t>(node.get_int("node.conn[0].port")),
      .tpgt = static_cast<int>(node.get_int("node.tpgt")),
      .iface = node.get("iface.iscsi_ifacename"),
  };
}

void NodeKey::put_into(Record& node) const {
  const bool good = node.set("node.name", target) && node.set("node.conn[0].address", address) &&
                    node.set("node.conn[0].port", std::to_string(port)) &&
                    node.set("node.tpgt", std::to_string(tpgt)) && node.set("iface.iscsi_ifacename", iface);
  PERILUNE_ASSERT(good);
}

Status NodeKey::validate() const {
  if (!is_safe_target_name(target)) return fail(Errc::invalid_argument, "the target name is not valid");
  if (!is_host(address)) return fail(Errc::invalid_argument, "the portal address is not valid");
  if (!is_safe_iface_name(iface)) return fail(Errc::invalid_argument, "the interface name is not valid");
  return set_or_fail(port != 0 && tpgt >= -1 && tpgt <= 65535, "the port or portal group tag is not valid");
}

DiscoveryKey DiscoveryKey::of(const Record& send_targets) {
  return {send_targets.get("discovery.sendtargets.address"),
          static_cast<std::uint16_t>(send_targets.get_int("discovery.sendtargets.port"))};
}

Status DiscoveryKey::validate() const {
  return set_or_fail(is_host(address) && port != 0, "the discovery address is not valid");
}

}  // namespace perilune::config
