// SPDX-License-Identifier: Apache-2.0
#include "passthrough/open_device.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <scsi/sg.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>

#include "base/limits.hpp"
#include "passthrough/probe.hpp"
#include "passthrough/sysfs.hpp"

namespace perilune::passthrough {
namespace {

using runtime::posix::UniqueFd;

constexpr std::uint32_t memory_page_bytes = 4096;   // a segment may be as small as one
constexpr std::uint32_t segments_of_unknown = 128;  // SG_MAX_SEGMENTS of the kernel: what every adapter takes
constexpr std::uint32_t least_transfer_bytes = 4096;

tl::unexpected<Error> explain(const std::string& path, int error) {
  switch (error) {
    case ENOENT:
      return fail(Errc::not_found, path + ": no such device", error);
    case EACCES:
    case EPERM:
      return fail(
          Errc::permission,
          fmt::format("{}: {} (SCSI commands need root, or CAP_SYS_RAWIO)", path, std::strerror(error)),
          error);
    case EBUSY:
      return fail(Errc::busy, path + ": in use (mounted, or claimed by another program)", error);
    case ENXIO:
    case ENODEV:
      return fail(Errc::not_found, path + ": the device is gone", error);
    default:
      return fail_errno(error, path);
  }
}

// Checks by /sys what this is, before it is opened: to open some nodes does something (a tape rewinds at the
// close).
Result<NodeInfo> look_at(const std::string& path) {
  struct stat node {};
  if (::stat(path.c_str(), &node) != 0) return explain(path, errno);
  if (!S_ISBLK(node.st_mode) && !S_ISCHR(node.st_mode)) {
    return fail(Errc::invalid_argument, path + ": is no device (to serve a file, leave out pscsi:)");
  }
  NodeInfo info = read_node_info("/sys", node);
  if (info.kind == NodeKind::partition) {
    return fail(Errc::invalid_argument, path + ": is a partition; SCSI commands go to a whole device");
  }
  if (info.kind == NodeKind::other) {
    const std::string hint =
        info.generic_node.empty() ? std::string() : "; its node for them is " + info.generic_node;
    return fail(Errc::unsupported, fmt::format("{}: takes no SCSI commands{}", path, hint));
  }
  return info;
}

Result<UniqueFd> open_node(const std::string& path, const OpenOptions& options) {
  const int flags = O_NONBLOCK | O_CLOEXEC;  // a drive without a medium is a device too
  auto fd = runtime::posix::open_path(options.access, path, flags | (options.read_only ? O_RDONLY : O_RDWR));
  if (!fd && !options.read_only && (fd.error().os_errno == EROFS || fd.error().os_errno == ENOMEDIUM))
    fd = runtime::posix::open_path(options.access, path, flags | O_RDONLY);
  if (!fd) return fd.error().os_errno != 0 ? explain(path, fd.error().os_errno) : std::move(fd);
  int version = 0;
  if (::ioctl(fd->get(), SG_GET_VERSION_NUM, &version) != 0 || version < 30000) {
    return fail(Errc::unsupported, path + ": takes no SCSI commands");
  }
  return fd;
}

// Of a node that is no block device, which nothing else keeps others from serving too. (udev locks block
// devices for a moment.)
Status lock(const std::string& path, int fd, const NodeInfo& info) {
  if (info.kind == NodeKind::block || ::flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK) return {};
  return fail(Errc::busy, path + ": locked: it is served already, or in use by another program", EWOULDBLOCK);
}

// Nobody else writes to the blocks behind our back: as exclusive as a mount.
Result<std::vector<UniqueFd>> claim(const std::string& path, const NodeInfo& info,
                                    const OpenOptions& options) {
  std::vector<UniqueFd> claims;
  for (const std::string& name : info.block_names) {
    auto fd = runtime::posix::open_path(options.access, "/dev/" + name, O_RDONLY | O_EXCL | O_NONBLOCK);
    const int error = fd ? 0 : fd.error().os_errno;
    if (error == EBUSY) {
      return fail(
          Errc::busy,
          fmt::format("{}: in use (its disk {} is mounted, or claimed by another program)", path, name),
          EBUSY);
    }
    if (!fd && error == 0) return tl::unexpected(fd.error());
    if (!fd && error != ENOMEDIUM && error != ENOENT) return explain("/dev/" + name, error);
    if (fd) claims.push_back(std::move(*fd));
  }
  return claims;
}

// The node that lets every command through to a process without CAP_SYS_RAWIO.
Result<std::string> node_for_all_commands(const std::string& path, const NodeInfo& info) {
  if (info.kind == NodeKind::generic) return path;
  if (!info.generic_node.empty()) return info.generic_node;
  return fail(Errc::permission, path +
                                    ": has no /dev/sgN (modprobe sg), and without CAP_SYS_RAWIO the kernel "
                                    "lets only some commands through to it");
}

// What fits through: the adapter's limit in bytes, and that in pieces of memory where these are pages of
// ours. The sg driver copies into larger pieces of its own.
std::uint32_t transfer_limit(int fd, const NodeInfo& info) {
  std::uint64_t most = limits::max_transfer_bytes;
  if (info.max_bytes) most = std::min(most, *info.max_bytes);
  if (info.kind == NodeKind::generic) {
    int bytes = 0;  // of this driver alone: others answer in sectors
    if (::ioctl(fd, BLKSECTGET, &bytes) == 0 && bytes > 0)
      most = std::min(most, static_cast<std::uint64_t>(bytes));
  } else {
    most = std::min(most, std::uint64_t{info.max_segments.value_or(segments_of_unknown)} * memory_page_bytes);
  }
  if (info.kind == NodeKind::bsg) {
    int bytes = limits::max_transfer_bytes;
    if (::ioctl(fd, SG_SET_RESERVED_SIZE, &bytes) == 0 && ::ioctl(fd, SG_GET_RESERVED_SIZE, &bytes) == 0 &&
        bytes > 0) {
      most = std::min(most, static_cast<std::uint64_t>(bytes));
    }
  }
  return std::max(static_cast<std::uint32_t>(most), least_transfer_bytes);
}

// A tape, and a changer's arm, do one thing after the other, in the order in which they are told.
unsigned threads_for(std::uint8_t type, const NodeInfo& info) {
  if (type == 0x01 || type == 0x08) return 1;
  return std::clamp(info.queue_depth.value_or(1), 1u, max_threads);
}

const char* type_name(std::uint8_t type) {
  switch (type) {
    case 0x00:
      return "disk";
    case 0x01:
      return "tape";
    case 0x03:
      return "processor";
    case 0x05:
      return "CD or DVD drive";
    case 0x07:
      return "optical disk";
    case 0x08:
      return "medium changer";
    case 0x0d:
      return "enclosure";
    case 0x14:
      return "zoned disk";
    default:
      return "device";
  }
}

std::string canonical(const std::string& path) {
  char buffer[PATH_MAX];
  return ::realpath(path.c_str(), buffer) != nullptr ? buffer : path;
}

}  // namespace

Result<std::shared_ptr<RealDevice>> open_device(const std::string& path, const OpenOptions& options) {
  auto info = look_at(path);
  if (!info) return tl::unexpected(info.error());
  if (options.access != nullptr && info->kind != NodeKind::generic) {
    const auto node = node_for_all_commands(path, *info);
    if (!node) return tl::unexpected(node.error());
    return open_device(*node, options);
  }
  auto fd = open_node(path, options);
  if (!fd) return tl::unexpected(fd.error());
  auto claims = claim(path, *info, options);
  if (!claims) return tl::unexpected(claims.error());
  if (Status status = lock(path, fd->get(), *info); !status) return tl::unexpected(status.error());

  const std::uint32_t limit = transfer_limit(fd->get(), *info);
  if (info->kind == NodeKind::generic) {
    int several = 1;  // commands at once on one descriptor
    if (::ioctl(fd->get(), SG_SET_COMMAND_Q, &several) != 0) return fail_errno(errno, path);
  }
  RealDeviceSpec spec;
  if (info->kind == NodeKind::bsg) {
    UniqueFd for_resets;
    if (!info->generic_node.empty())
      for_resets.reset(::open(info->generic_node.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    spec.node = make_bsg_node(std::move(*fd), std::move(for_resets));
  } else {
    spec.node = make_sg_node(std::move(*fd));
  }
  auto probed = probe(*spec.node);
  if (!probed) return fail(probed.error().code, fmt::format("{}: {}", path, probed.error().message));
  spec.facts = std::move(probed->facts);
  spec.facts.max_transfer_bytes = limit;
  spec.facts.unrestricted = options.unrestricted;
  spec.threads = threads_for(spec.facts.type, *info);
  spec.identity = probed->designators.empty() ? "scsi:" + canonical(path) : "scsi" + probed->designators;
  spec.description =
      fmt::format("SCSI {} {}, {}, {} at once, transfers up to {} KiB{}", type_name(spec.facts.type), path,
                  probed->product, spec.threads, limit / 1024, options.unrestricted ? ", unrestricted" : "");
  spec.claims = std::move(*claims);
  return RealDevice::create(std::move(spec));
}

}  // namespace perilune::passthrough
