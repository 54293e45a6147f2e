// SPDX-License-Identifier: Apache-2.0
// From records to what the initiator library takes, and from its failures to the numbers of iscsiadm. Pure.
#pragma once

#include <string>

#include "base/result.hpp"
#include "config/record.hpp"
#include "initiator/initiator.hpp"

namespace perilune::control {

// `portal` is the record's address, resolved. `instance` tells sessions with the same three names apart (0
// for the first): it changes the ISID. invalid_argument when the record asks for CHAP without a name and a
// password.
[[nodiscard]] Result<initiator::SessionConfig> session_config_of(const config::Record& node,
                                                                 const std::string& initiator_name,
                                                                 const std::string& initiator_alias,
                                                                 const runtime::Endpoint& portal,
                                                                 unsigned instance);

[[nodiscard]] Result<initiator::SessionConfig> discovery_config_of(const config::Record& send_targets,
                                                                   const std::string& initiator_name,
                                                                   const std::string& initiator_alias,
                                                                   const runtime::Endpoint& portal);

// Trying again may help: the network, or a target that says it is not ready (status class 3).
[[nodiscard]] bool is_retryable(const initiator::LoginFailure& failure) noexcept;
// 24 for credentials that the target refused, 8 when it could not be reached, 19 for everything else that is
// final.
[[nodiscard]] int login_exit_code(const initiator::LoginFailure& failure) noexcept;
// "Connection refused", "timed out", or the error's own words.
[[nodiscard]] std::string connection_words(const Error& error);

}  // namespace perilune::control
