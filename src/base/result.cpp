// SPDX-License-Identifier: Apache-2.0
#include "base/result.hpp"

#include <cerrno>
#include <system_error>

namespace perilune {

std::string_view to_string(Errc code) noexcept {
  switch (code) {
    case Errc::invalid_argument: return "invalid argument";
    case Errc::not_found: return "not found";
    case Errc::already_exists: return "already exists";
    case Errc::busy: return "busy";
    case Errc::permission: return "permission denied";
    case Errc::io: return "input/output error";
    case Errc::no_memory: return "out of memory";
    case Errc::no_space: return "no space";
    case Errc::limit: return "limit reached";
    case Errc::timed_out: return "timed out";
    case Errc::cancelled: return "cancelled";
    case Errc::connection: return "connection failed";
    case Errc::protocol: return "protocol error";
    case Errc::authentication: return "authentication failed";
    case Errc::authorization: return "not authorized";
    case Errc::unsupported: return "not supported";
    case Errc::internal: return "internal error";
  }
  return "unknown error";
}

namespace {

Errc errc_from_errno(int os_errno) {
  switch (os_errno) {
    case ENOENT: case ENODEV: case ENXIO: return Errc::not_found;
    case EEXIST: return Errc::already_exists;
    case EBUSY: case EADDRINUSE: return Errc::busy;
    case EACCES: case EPERM: case EROFS: return Errc::permission;
    case ENOMEM: return Errc::no_memory;
    case ENOSPC: case EDQUOT: return Errc::no_space;
    case ETIMEDOUT: return Errc::timed_out;
    case ECANCELED: return Errc::cancelled;
    case ECONNREFUSED: case ECONNRESET: case EPIPE: case EHOSTUNREACH: case ENETUNREACH:
    case ECONNABORTED: case ENOTCONN: return Errc::connection;
    case EINVAL: return Errc::invalid_argument;
    case EOPNOTSUPP: case ENOSYS: return Errc::unsupported;
    default: return Errc::io;
  }
}

}  // namespace

tl::unexpected<Error> fail_errno(int os_errno, std::string_view what) {
  std::string message(what);
  message += ": ";
  message += std::generic_category().message(os_errno);
  return fail(errc_from_errno(os_errno), std::move(message), os_errno);
}

}  // namespace perilune
