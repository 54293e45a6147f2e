// SPDX-License-Identifier: Apache-2.0
#include "control/privilege/helper_protocol.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>

#include <algorithm>
#include <cstring>

namespace perilune::control::privilege {
namespace {

constexpr std::uint16_t first_free_port = 1024;
// Nothing that creates, truncates, appends or makes a file of no name.
constexpr int flags_allowed =
    O_ACCMODE | O_CLOEXEC | O_NONBLOCK | O_EXCL | O_DIRECT | O_NOFOLLOW | O_DSYNC | O_SYNC | O_LARGEFILE;

Status wrong(const char* what) { return fail(Errc::invalid_argument, what); }

Status check_address(const Request& request) {
  std::uint16_t port = 0;
  if (request.address.ss_family == AF_INET && request.address_bytes == sizeof(sockaddr_in)) {
    sockaddr_in in{};
    std::memcpy(&in, &request.address, sizeof in);
    port = ntohs(in.sin_port);
  } else if (request.address.ss_family == AF_INET6 && request.address_bytes == sizeof(sockaddr_in6)) {
    sockaddr_in6 in6{};
    std::memcpy(&in6, &request.address, sizeof in6);
    port = ntohs(in6.sin6_port);
  } else {
    return wrong("not an address");
  }
  if (port == 0 || port >= first_free_port) return wrong("not a port below 1024");
  return {};
}

bool has_access_mode(int flags) {
  const int mode = flags & O_ACCMODE;
  return mode == O_RDONLY || mode == O_RDWR;
}

Status check_path(const Request& request) {
  const auto end = std::find(request.path.begin(), request.path.end(), '\0');
  if (end == request.path.end()) return wrong("the path has no end");
  if (request.path.front() != '/') return wrong("the path is not absolute");
  return {};
}

}  // namespace

const Roots& default_roots() {
  static const Roots roots = {"/dev",
                              "/home",
                              "/iscsi_disks",
                              "/media",
                              "/mnt",
                              "/root",
                              "/srv",
                              "/tmp",
                              "/var/lib/iscsi_disks",
                              "/var/lib/libvirt/images",
                              "/var/lib/perilune",
                              "/var/tmp"};
  return roots;
}

Result<Place> place_of(std::string_view path, const Roots& roots) {
  for (const std::string& root : roots) {
    if (!path.starts_with(root) || path.size() <= root.size() + 1 || path[root.size()] != '/') continue;
    const std::string_view below = path.substr(root.size() + 1);
    for (std::size_t at = 0; at <= below.size();) {
      const std::size_t end = std::min(below.find('/', at), below.size());
      if (end == at || below[at] == '.') {
        return fail(Errc::permission,
                    "has a part that is empty or begins with a dot: the root helper opens no such path");
      }
      at = end + 1;
    }
    return Place{root, std::string(below), root == device_root};
  }
  return fail(Errc::permission,
              "is not below a folder in which the root helper opens files (--backing-folder)");
}

Status check(const Request& request, std::size_t bytes, std::size_t descriptors) {
  if (bytes != sizeof(Request)) return wrong("not a request");
  const bool carries = request.kind == Request::Kind::reopen || request.kind == Request::Kind::bind;
  if (descriptors != (carries ? 1u : 0u)) return wrong("another number of descriptors than its kind has");
  switch (request.kind) {
    case Request::Kind::open:
    case Request::Kind::reopen:
      if ((request.flags & ~flags_allowed) != 0 || !has_access_mode(request.flags))
        return wrong("flags that are not for the helper");
      return request.kind == Request::Kind::open ? check_path(request) : Status();
    case Request::Kind::create:
    case Request::Kind::remove:
      return check_path(request);
    case Request::Kind::bind:
      return check_address(request);
  }
  return wrong("no such kind of request");
}

}  // namespace perilune::control::privilege
