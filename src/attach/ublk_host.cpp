// SPDX-License-Identifier: Apache-2.0
// The host's side of ublk.
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>

#include "attach/host_driver.hpp"
#include "attach/ublk_control.hpp"

namespace perilune::attach {

using runtime::posix::UniqueFd;

namespace {

class UblkHost final : public HostDriver {
 public:
  Status prepare(const HelperRequest& request, HelperReply& reply,
                 std::vector<UniqueFd>& hand_over) override {
    load_module("ublk_drv");
    auto control = UblkControl::open();
    if (!control) return tl::unexpected(control.error());
    const HelperRequest::Device& device = request.device;
    UblkSettings settings;
    settings.size_bytes = device.size_bytes;
    settings.block_size_bytes = device.block_size_bytes;
    settings.physical_block_size_bytes = device.physical_block_size_bytes;
    settings.discard_granularity_bytes = device.discard_granularity_bytes;
    settings.read_only = device.read_only;
    settings.write_cache = device.write_cache;
    settings.fua = device.fua;
    settings.rotational = device.rotational;
    settings.label = request.label.data();
    const auto number = control->add(settings);
    if (!number) return tl::unexpected(number.error());
    auto queue = UblkControl::open_queue(*number);
    if (!queue) {
      static_cast<void>(control->remove(*number));
      return tl::unexpected(queue.error());
    }
    reply.number = *number;
    hand_over.push_back(std::move(*queue));
    return {};
  }

  Status bind(const HelperRequest& request, HelperReply& reply) override {
    auto control = UblkControl::open();
    if (!control) return tl::unexpected(control.error());
    if (auto started = start(*control, request); !started) return started;
    reply.number = request.number;
    const std::string name = ublk_name(request.number);
    make_node(name);
    set_queue(name, {request.device.rotational, !request.device.rotational});
    if (request.device.scan_partitions) find_partitions(name);
    return {};
  }

  bool owns(const HelperRequest& request) override {
    if (request.number < 0) return false;
    auto control = UblkControl::open();
    return control && control->owner_of(request.number) == label_number(request.label.data());
  }

  Status release(const HelperRequest& request, ReleaseMode mode) override {
    auto control = UblkControl::open();
    if (!control) return tl::unexpected(control.error());
    const std::string name = ublk_name(request.number);
    // Claimed until it is gone: nobody comes in between. A device that never started has no node.
    auto claimed = claim_device(name, mode);
    if (!claimed && mode == ReleaseMode::exclusive) return tl::unexpected(claimed.error());
    if (auto stopped = control->stop(request.number); !stopped) return stopped;
    remove_partition_nodes(name);
    return {};
  }

  void remove(const HelperRequest& request) override {
    if (!owns(request)) return;
    if (auto control = UblkControl::open()) static_cast<void>(control->remove(request.number));
  }

  std::string disk_name(int number) const override { return ublk_name(number); }

 private:
  // A start waits for its server without end, and keeps the device from being deleted: it goes with the
  // server.
  static Status start(UblkControl& control, const HelperRequest& request) {
    static_cast<void>(::prctl(PR_SET_PDEATHSIG, SIGKILL));
    if (::getppid() != request.server) return fail(Errc::internal, "the server has gone");
    auto started = control.start(request.number, request.server);
    static_cast<void>(::prctl(PR_SET_PDEATHSIG, 0));
    return started;
  }
};

}  // namespace

HostDriver& ublk_host() {
  static UblkHost host;
  return host;
}

}  // namespace perilune::attach
