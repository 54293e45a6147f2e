// SPDX-License-Identifier: Apache-2.0
// The host's side of FUSE and loop: mount, then a loop device on the file.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "attach/fuse_disk.hpp"
#include "attach/host_driver.hpp"
#include "attach/loop_device.hpp"
#include "attach/mounts.hpp"

namespace perilune::attach {

using runtime::posix::UniqueFd;

namespace {

std::string file_of(const HelperRequest& request) {
  return std::string(request.mount_point.data()) + "/" + FuseDisk::file_name;
}

class FuseHost final : public HostDriver {
 public:
  Status prepare(const HelperRequest& request, HelperReply&, std::vector<UniqueFd>& hand_over) override {
    UniqueFd fuse(::open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK));
    if (!fuse.valid()) return fail_errno(errno, "/dev/fuse");
    if (::mkdir(request.mount_point.data(), 0700) != 0) return fail_errno(errno, request.mount_point.data());
    char options[160];
    std::snprintf(options, sizeof options, "fd=%d,rootmode=%o,user_id=%u,group_id=%u,max_read=%u", fuse.get(),
                  static_cast<unsigned>(S_IFDIR), ::geteuid(), ::getegid(), max_fuse_transfer_bytes);
    unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME;
    if (request.device.read_only) flags |= MS_RDONLY;
    const std::string type(fuse_type);
    if (::mount("perilune", request.mount_point.data(), type.c_str(), flags, options) != 0) {
      const int error = errno;
      ::rmdir(request.mount_point.data());
      return fail_errno(error, "mount of a FUSE file system");
    }
    hand_over.push_back(std::move(fuse));
    return {};
  }

  Status bind(const HelperRequest& request, HelperReply& reply) override {
    LoopSettings settings;
    settings.block_size_bytes = request.device.block_size_bytes;
    settings.read_only = request.device.read_only;
    settings.scan_partitions = request.device.scan_partitions;
    settings.direct_io = request.device.direct_io;
    settings.rotational = request.device.rotational;
    settings.label = request.label.data();
    auto bound = bind_loop(file_of(request), settings);
    if (!bound) return tl::unexpected(bound.error());
    reply.number = bound->number;
    reply.direct_io = bound->direct_io;
    return {};
  }

  bool owns(const HelperRequest& request) override {
    if (request.number < 0 || !loop_is_bound(request.number)) return false;
    return loop_backing_file(request.number) == file_of(request) ||
           loop_label(request.number) == request.label.data();
  }

  Status release(const HelperRequest& request, ReleaseMode mode) override {
    return release_loop(request.number, mode);
  }

  void remove(const HelperRequest& request) override {
    if (::umount2(request.mount_point.data(), UMOUNT_NOFOLLOW) != 0 && errno == EBUSY) {
      static_cast<void>(::umount2(request.mount_point.data(), MNT_DETACH | UMOUNT_NOFOLLOW));
    }
    ::rmdir(request.mount_point.data());
  }

  std::string disk_name(int number) const override { return loop_name(number); }
};

}  // namespace

HostDriver& fuse_host() {
  static FuseHost host;
  return host;
}

}  // namespace perilune::attach
