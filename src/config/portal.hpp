// SPDX-License-Identifier: Apache-2.0
// A portal as people and records write it, and the key that finds a node record. No I/O; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "config/record.hpp"

namespace perilune::config {

inline constexpr std::uint16_t iscsi_port = 3260;
inline constexpr int tpgt_unknown = -1;

struct Portal {
  std::string host;  // numeric, or a host name; IPv6 without brackets
  std::uint16_t port = iscsi_port;
  bool port_given = false;
  int tpgt = tpgt_unknown;

  // HOST[:PORT][,TPGT]; an IPv6 address with a port needs brackets. Fails with invalid_argument.
  [[nodiscard]] static Result<Portal> parse(std::string_view text);
};

// "192.0.2.1:3260", "[2001:db8::1]:3260"
[[nodiscard]] std::string format_host_port(std::string_view host, std::uint16_t port);
// "192.0.2.1:3260,1". An unknown tag prints as 4294967295: so the original prints it.
[[nodiscard]] std::string format_portal(std::string_view host, std::uint16_t port, int tpgt);

struct NodeKey {
  std::string target;
  std::string address;
  std::uint16_t port = iscsi_port;
  int tpgt = tpgt_unknown;
  std::string iface = "default";

  [[nodiscard]] static NodeKey of(const Record& node);
  void put_into(Record& node) const;  // asserts that the parts are valid
  // Every part is fit to be a component of a path.
  [[nodiscard]] Status validate() const;
  friend auto operator<=>(const NodeKey&, const NodeKey&) = default;
};

struct DiscoveryKey {
  std::string address;
  std::uint16_t port = iscsi_port;
  [[nodiscard]] static DiscoveryKey of(const Record& send_targets);
  [[nodiscard]] Status validate() const;
  friend auto operator<=>(const DiscoveryKey&, const DiscoveryKey&) = default;
};

}  // namespace perilune::config
