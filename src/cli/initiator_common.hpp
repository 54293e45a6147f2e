// SPDX-License-Identifier: Apache-2.0
// What the verbs that talk to a target by URL share: from URL to session, and from errors to exit codes.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "initiator/sync.hpp"
#include "initiator/url.hpp"

namespace perilune::cli {

// Exit codes, the numbers that iscsiadm uses for the same things.
enum class ToolExit : int {
  ok = 0,
  failed = 1,
  connection = 4,   // refused, reset, no route
  usage = 7,
  timed_out = 8,
  not_found = 21,   // no such host, target or unit
  authentication = 24,
};

struct ToolError {
  ToolExit code = ToolExit::failed;
  std::string message;
};

// "perilune ls: message" on stderr; the exit code.
int report(std::string_view verb, const ToolError& error);

[[nodiscard]] ToolError tool_error(const Error& error);
[[nodiscard]] ToolError tool_error(const initiator::LoginFailure& failure);

// A session configuration for the URL, but the portal. `initiator_name` empty: the default name of this
// machine.
[[nodiscard]] initiator::SessionConfig session_config(const initiator::Url& url,
                                                      const std::string& initiator_name);

// A loop on a thread of its own; which runtime drives it makes no difference to a tool.
[[nodiscard]] tl::expected<std::unique_ptr<initiator::LoopThread>, ToolError> start_loop_thread();

// Logs in at the first address of the URL's host that answers.
[[nodiscard]] tl::expected<std::unique_ptr<initiator::SyncSession>, ToolError> open_session(
    initiator::LoopThread& thread, const initiator::Url& url, const initiator::SessionConfig& config);

inline constexpr std::string_view url_help =
    "URL: "
    "iscsi://[USER[%PASSWORD]@]HOST[:PORT][/TARGET[/LUN]][?header_digest=crc32c&data_digest=crc32c&auth=md5\n"
    "     &target_user=U&target_password=P&connections=N&error_recovery_level=N]; secrets also from "
    "LIBISCSI_CHAP_USERNAME, LIBISCSI_CHAP_PASSWORD,\n"
    "     LIBISCSI_CHAP_TARGET_USERNAME, LIBISCSI_CHAP_TARGET_PASSWORD.\n"
    "Exit codes: 0 done, 1 failed, 4 no connection, 7 wrong arguments, 8 timed out, 21 not found, 24 login "
    "refused.";

}  // namespace perilune::cli
