// SPDX-License-Identifier: Apache-2.0
// URLs as libiscsi spells them:
//   iscsi://[user[%password]@]host[:port][/target-iqn[/lun]][?auth=md5&target_user=U&target_password=P&header_digest=crc32c
//   &data_digest=crc32c&connections=N&error_recovery_level=N]
// The last two are ours: connections of the session (1 to 16), and ErrorRecoveryLevel (0 to 2).
// Secrets that the URL does not hold come from LIBISCSI_CHAP_USERNAME, _PASSWORD, _TARGET_USERNAME,
// _TARGET_PASSWORD.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "initiator/initiator.hpp"

namespace perilune::initiator {

struct Url {
  std::string host;                  // numeric or a name; IPv6 without brackets
  std::uint16_t port = 3260;
  std::string target;                // empty in a portal URL
  std::optional<std::uint64_t> lun;  // the number, not the eight bytes
  std::optional<ChapCredentials> chap;
  DigestPreference header_digest = DigestPreference::none, data_digest = DigestPreference::none;
  std::uint16_t connections = 1;
  std::uint8_t error_recovery_level = 0;

  // What the URL says, in a configuration: everything but the portal (resolve()) and the initiator's name.
  void apply_to(SessionConfig& config) const;
};

using Environment = std::function<const char*(const char* name)>;  // as getenv

// Fails with invalid_argument; the message never holds a secret.
[[nodiscard]] Result<Url> parse_url(std::string_view text, const Environment& environment);
[[nodiscard]] Result<Url> parse_url(std::string_view text);  // with getenv

// Numeric addresses at once, names by getaddrinfo: blocks, never on a loop's thread. not_found when there is
// none.
[[nodiscard]] Result<std::vector<runtime::Endpoint>> resolve(const std::string& host, std::uint16_t port);

// PERILUNE_INITIATOR_NAME, else InitiatorName= of /etc/iscsi/initiatorname.iscsi when it can be read, else
// one that derives from /etc/machine-id and stays the same.
[[nodiscard]] std::string default_initiator_name();

}  // namespace perilune::initiator
