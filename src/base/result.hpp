// SPDX-License-Identifier: Apache-2.0
// Errors as values. Exceptions never cross a folder border (docs/ARCHITECTURE.md).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include <tl/expected.hpp>

namespace perilune {

enum class Errc : std::uint8_t {
  invalid_argument,
  not_found,
  already_exists,
  busy,
  permission,
  io,             // the operating system said no; os_errno tells
  no_memory,
  no_space,
  limit,          // a named limit would be passed
  timed_out,
  cancelled,
  connection,     // refused, reset, closed by the peer
  protocol,       // the peer broke the protocol
  authentication, // wrong or missing credentials
  authorization,  // known, but not allowed
  unsupported,
  internal,
};

[[nodiscard]] std::string_view to_string(Errc code) noexcept;

struct [[nodiscard]] Error {
  Errc code = Errc::internal;
  std::string message;  // one line, for people; never a secret
  int os_errno = 0;     // 0 when no system call was involved
};

template <class T>
using Result = tl::expected<T, Error>;

using Status = Result<void>;

[[nodiscard]] inline tl::unexpected<Error> fail(Errc code, std::string message, int os_errno = 0) {
  return tl::unexpected<Error>(Error{code, std::move(message), os_errno});
}

// An Error from errno: "<what>: <strerror>".
[[nodiscard]] tl::unexpected<Error> fail_errno(int os_errno, std::string_view what);

}  // namespace perilune
