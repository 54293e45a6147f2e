// SPDX-License-Identifier: Apache-2.0
#include "control/iscsi_error.hpp"

#include <array>
#include <cstddef>

namespace perilune::control {

std::string_view iscsi_error_text(int code) noexcept {
  static constexpr std::array<std::string_view, 34> texts = {
      "no error",
      "unknown error",
      "session not found",
      "no available memory",
      "encountered connection failure",
      "encountered iSCSI login failure",
      "encountered iSCSI database failure",
      "invalid parameter",
      "connection timed out",
      "internal error",
      "encountered iSCSI logout failure",
      "iSCSI PDU timed out",
      "iSCSI driver not found. Please make sure it is loaded, and retry the operation",
      "daemon access denied",
      "iSCSI driver does not support requested capability.",
      "session exists",
      "Unknown request",
      "encountered iSNS failure",
      "could not communicate to iscsid",
      "encountered non-retryable iSCSI login failure",
      "could not connect to iscsid",
      "no objects found",
      "sysfs lookup failed",
      "host not found",
      "iSCSI login failed due to authorization failure",
      "iSNS query failed",
      "iSNS registration failed",
      "operation not supported",
      "device or resource in use",
      "Operation failed, but retry may succeed",
      "unknown discovery type",
      "child process terminated",
      "target likely not connected",
      "request timed out",
  };
  if (code < 0 || static_cast<std::size_t>(code) >= texts.size()) return "unknown error";
  return texts[static_cast<std::size_t>(code)];
}

}  // namespace perilune::control
