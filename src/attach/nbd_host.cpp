// SPDX-License-Identifier: Apache-2.0
// The host's side of NBD: socket pairs, whose one ends the kernel's client gets.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "attach/host_driver.hpp"
#include "attach/mounts.hpp"
#include "attach/nbd_netlink.hpp"

namespace perilune::attach {

using runtime::posix::UniqueFd;

namespace {

// What fits between client and server, so that neither waits for the other in the middle of a request.
constexpr int socket_buffer_bytes = 2 << 20;

void widen(int socket) {
  for (const int option : {SO_SNDBUFFORCE, SO_RCVBUFFORCE}) {
    static_cast<void>(
        ::setsockopt(socket, SOL_SOCKET, option, &socket_buffer_bytes, sizeof socket_buffer_bytes));
  }
}

class NbdHost final : public HostDriver {
 public:
  Status prepare(const HelperRequest& request, HelperReply&, std::vector<UniqueFd>& hand_over) override {
    load_module("nbd");
    if (::access("/sys/module/nbd", F_OK) != 0) {
      return fail(Errc::unsupported, "this kernel has no NBD client (nbd.ko)");
    }
    kernels_ends_.clear();
    for (std::uint32_t i = 0; i < request.device.connections; ++i) {
      int pair[2];
      if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return fail_errno(errno, "socketpair");
      kernels_ends_.emplace_back(pair[0]);
      hand_over.emplace_back(pair[1]);
      widen(pair[0]);
      widen(pair[1]);
    }
    return {};
  }

  Status bind(const HelperRequest& request, HelperReply& reply) override {
    NbdSettings settings;
    settings.size_bytes = request.device.size_bytes;
    settings.block_size_bytes = request.device.block_size_bytes;
    settings.server_flags = request.device.nbd_flags;
    settings.identifier = request.label.data();
    std::vector<int> sockets;
    for (const UniqueFd& fd : kernels_ends_) sockets.push_back(fd.get());
    const auto number = nbd_connect(settings, sockets);
    kernels_ends_.clear();  // the client has its own references
    if (!number) return tl::unexpected(number.error());
    reply.number = *number;
    const std::string name = nbd_name(*number);
    make_node(name);
    set_queue(name, {request.device.rotational, !request.device.rotational});
    if (!request.device.scan_partitions) return {};
    // The kernel looks for partitions when the device is opened for the first time.
    static_cast<void>(UniqueFd(::open(("/dev/" + name).c_str(), O_RDONLY | O_CLOEXEC)));
    find_partitions(name);
    return {};
  }

  bool owns(const HelperRequest& request) override { return find(request) >= 0; }

  Status release(const HelperRequest& request, ReleaseMode mode) override {
    const int number = find(request);
    const std::string name = nbd_name(number);
    {
      auto claimed = claim_device(name, mode);
      if (!claimed && mode == ReleaseMode::exclusive) return tl::unexpected(claimed.error());
      if (auto done = nbd_disconnect(number); !done) return done;
    }
    static_cast<void>(wait_patiently([&] { return !owns(request); }));  // its last user takes it along
    if (!owns(request)) remove_partition_nodes(name);
    return {};
  }

  void remove(const HelperRequest&) override { kernels_ends_.clear(); }

  std::string disk_name(int number) const override { return nbd_name(number); }

 private:
  // Of the device with our label; a helper that died in bind() has not told its number. -1: none.
  static int find(const HelperRequest& request) {
    if (request.number >= 0)
      return nbd_identifier(request.number) == request.label.data() ? request.number : -1;
    for (const int number : all_nbds()) {
      if (nbd_identifier(number) == request.label.data()) return number;
    }
    return -1;
  }

  std::vector<UniqueFd> kernels_ends_;  // between prepare() and bind()
};

}  // namespace

HostDriver& nbd_host() {
  static NbdHost host;
  return host;
}

}  // namespace perilune::attach
