// SPDX-License-Identifier: Apache-2.0
// iscsid.conf: the defaults of new records and the settings of the daemon. And initiatorname.iscsi. No I/O;
// any thread.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.hpp"
#include "config/record.hpp"

namespace perilune::config {

inline constexpr std::size_t max_conf_bytes = 1048576;

struct IscsidConf {
  Record node{RecordKind::node};                     // what a new node record starts from
  Record send_targets{RecordKind::send_targets};     // what a new discovery record starts from
  std::string startup;                               // iscsid.startup (kept; autostart is our own)
  bool safe_logout = false;                          // iscsid.safe_logout: refuse to log out under a mount
  std::vector<std::pair<std::string, std::string>> other;  // keys we do not know, in order
  std::vector<std::string> warnings;                 // never a secret
};

// Fails only for text that is too long or is none; a bad line is a warning and the default stands.
[[nodiscard]] Result<IscsidConf> parse_iscsid_conf(std::string_view text);

struct InitiatorName {
  std::string name;   // iqn., eui. or naa. name
  std::string alias;  // optional
};

// not_found when no InitiatorName= line is there, invalid_argument when the name is none.
[[nodiscard]] Result<InitiatorName> parse_initiator_name(std::string_view text);
[[nodiscard]] std::string format_initiator_name(const InitiatorName& name);

// Conservative: what may be a component of a path and a field of our outputs. RFC 7143 4.2.7: at most 223
// bytes.
[[nodiscard]] bool is_safe_target_name(std::string_view name) noexcept;
// As above, and one of the three formats (iqn.YYYY-MM.reversed.domain[:anything], eui. + 16 hex, naa. + 16 or
// 32 hex).
[[nodiscard]] bool is_iscsi_name(std::string_view name) noexcept;
// A file name without surprises: no '/', no control bytes, no comma, not "." or "..", at most 64 bytes.
[[nodiscard]] bool is_safe_iface_name(std::string_view name) noexcept;

}  // namespace perilune::config
