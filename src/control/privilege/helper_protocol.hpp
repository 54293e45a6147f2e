// SPDX-License-Identifier: Apache-2.0
// What passes between a server without privileges and its root helper, over a socket pair of whole messages
// (SOCK_SEQPACKET) that was made before the fork: nobody else can come to hold an end of it.
//
//   server -> helper   one Request, and one descriptor where `kind` has one
//   helper -> server   one Reply with the same number, and the descriptor that was asked for
//
// Both are plain memory of one size: both ends are the same program. One request at a time is the rule, but
// the helper does not rely on it; nor on anything else that the server says, which may have been taken over.
#pragma once

#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace perilune::control::privilege {

struct Request {
  enum class Kind : std::uint32_t {
    open = 1,  // `path` with `flags`: answers with a descriptor
    reopen,  // the file of the descriptor that comes with it, with `flags` that give no more rights: another
             // descriptor
    create,  // `path`, which is not there yet: a regular file of mode 0600 that belongs to the server
    remove,  // `path`, a regular file that belongs to the server
    bind,    // the TCP socket that comes with it to `address`, whose port is below 1024
  };
  std::uint32_t number = 0;  // of this request
  Kind kind = Kind::open;
  std::int32_t flags = 0;           // of open(); open and reopen
  std::uint32_t address_bytes = 0;  // bind
  std::array<char, 4096> path{};    // with a terminating NUL; open, create, remove
  sockaddr_storage address{};
};

struct Reply {
  std::uint32_t number = 0;
  std::uint32_t failed = 0;
  Errc code = Errc::internal;
  std::int32_t os_errno = 0;
  std::array<char, 4352> message{};  // with a terminating NUL
};

// Where the helper opens files. `/dev` is the folder of devices, and has no files for it; every other one has
// files, and no devices.
using Roots = std::vector<std::string>;
inline constexpr std::string_view device_root = "/dev";
[[nodiscard]] const Roots& default_roots();

// Where the daemon's secrets are (control/serving/secrets.hpp), which the helper opens for reading alone: it
// makes and removes nothing there, and serves nothing from there.
inline constexpr std::string_view secret_root = "/etc/perilune/secrets";

// A path below one of the roots.
struct Place {
  std::string root;
  std::string below;  // without a leading slash; never empty
  bool is_device = false;
};
// Fails with permission: not absolute, below no root, or with a component that is empty or begins with a dot
// (which are "..", and what people's programs keep in their homes: keys, start-up scripts).
[[nodiscard]] Result<Place> place_of(std::string_view path, const Roots& roots);

// All that can be said about a request without a look at the host. `bytes` is the length of the message,
// `descriptors` how many came with it. Fails with invalid_argument.
[[nodiscard]] Status check(const Request& request, std::size_t bytes, std::size_t descriptors);

// Copies text with a terminating NUL; what does not fit is cut off.
template <std::size_t N>
void put(std::array<char, N>& to, std::string_view text) noexcept {
  to.fill(0);
  text.substr(0, N - 1).copy(to.data(), N - 1);
}

}  // namespace perilune::control::privilege
