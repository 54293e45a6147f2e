// SPDX-License-Identifier: Apache-2.0
#include "runtime/posix/open_block_file.hpp"

#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>

#include <cerrno>
#include <fstream>
#include <string>

#include "runtime/posix/direct_alignment.hpp"

namespace perilune::runtime::posix {
namespace {

std::uint64_t queue_attribute(dev_t device, const char* name) {
  const std::string node =
      "/sys/dev/block/" + std::to_string(major(device)) + ":" + std::to_string(minor(device));
  for (const char* folder : {"/queue/", "/../queue/"}) {  // the second is a partition's disk
    std::ifstream in(node + folder + name);
    std::uint64_t value = 0;
    if (in >> value) return value;
  }
  return 0;
}

bool device_writes_through(dev_t device) {
  std::ifstream in("/sys/dev/block/" + std::to_string(major(device)) + ":" + std::to_string(minor(device)) +
                   "/queue/write_cache");
  std::string mode;
  return std::getline(in, mode) && mode == "write through";
}

Status describe_device(int fd, const struct stat& info, FileProperties& out) {
  unsigned physical = 512;
  if (::ioctl(fd, BLKGETSIZE64, &out.size_bytes) != 0) return fail_errno(errno, "size of the block device");
  if (::ioctl(fd, BLKPBSZGET, &physical) == 0) out.physical_block_bytes = physical;
  out.is_block_device = true;
  out.rotational = queue_attribute(info.st_rdev, "rotational") != 0;
  out.device_writes_through = device_writes_through(info.st_rdev);
  // Without write-zeroes a punched range is not sure to read as zeroes.
  if (queue_attribute(info.st_rdev, "discard_max_bytes") > 0 &&
      queue_attribute(info.st_rdev, "write_zeroes_max_bytes") > 0) {
    out.discard_granularity_bytes =
        static_cast<std::uint32_t>(queue_attribute(info.st_rdev, "discard_granularity"));
  }
  return {};
}

void describe_regular(int fd, const struct stat& info, FileProperties& out) {
  out.size_bytes = static_cast<std::uint64_t>(info.st_size);
  out.physical_block_bytes = static_cast<std::uint32_t>(info.st_blksize);
  out.rotational = queue_attribute(info.st_dev, "rotational") != 0;
  // Beyond the end there is nothing that a hole could take away: a question, not a change.
  const off_t beyond = ((info.st_size >> 20) + 1) << 20;
  const bool punches =
      !out.read_only && ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, beyond, 4096) == 0;
  if (punches) out.discard_granularity_bytes = static_cast<std::uint32_t>(info.st_blksize);
}

void go_direct(int fd, FileProperties& out) {
  DirectAlignment alignment = direct_alignment(fd);
  if (!alignment.known) {
    int logical = 4096;
    if (out.is_block_device) (void)::ioctl(fd, BLKSSZGET, &logical);
    alignment.memory_bytes = 4096;
    alignment.offset_bytes = static_cast<std::uint32_t>(logical);
  }
  if (alignment.memory_bytes == 0 || alignment.offset_bytes == 0) return;
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_DIRECT) != 0) return;
  out.direct = true;
  out.memory_alignment_bytes = alignment.memory_bytes;
  out.offset_alignment_bytes = alignment.offset_bytes;
}

}  // namespace

Result<OpenedBlockFile> open_block_file(const std::string& path, const OpenOptions& options, bool exclusive,
                                        HostAccess* access) {
  OpenedBlockFile out;
  const int mode = options.read_only ? O_RDONLY : O_RDWR;
  // O_NONBLOCK until it is known what this is: opening a FIFO would wait for somebody to come.
  auto opened = open_path(access, path, mode | O_NONBLOCK);
  if (!opened) return tl::unexpected(opened.error());
  out.fd = std::move(*opened);
  struct stat info{};
  if (::fstat(out.fd.get(), &info) != 0) return fail_errno(errno, path);
  if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode)) {
    return fail(Errc::invalid_argument, path + ": neither a regular file nor a block device");
  }
  if (S_ISBLK(info.st_mode) && exclusive) {
    // The claim belongs to the open itself; without O_CREAT the flag means nothing for other kinds of file.
    // The helper has claimed it for the first open already.
    out.fd.reset();
    auto claimed = open_path(access, path, mode | O_EXCL);
    if (!claimed) return tl::unexpected(claimed.error());
    out.fd = std::move(*claimed);
  }
  const int flags = ::fcntl(out.fd.get(), F_GETFL);
  if (flags < 0 || ::fcntl(out.fd.get(), F_SETFL, flags & ~O_NONBLOCK) != 0) return fail_errno(errno, path);
  out.properties.read_only = options.read_only;
  if (S_ISBLK(info.st_mode)) {
    if (auto status = describe_device(out.fd.get(), info, out.properties); !status)
      return tl::unexpected(status.error());
  } else {
    describe_regular(out.fd.get(), info, out.properties);
    out.sparse = info.st_blocks * 512 < info.st_size;
    struct statfs fs{};
    out.in_memory =
        ::fstatfs(out.fd.get(), &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
  }
  if (options.prefer_direct && !out.in_memory) go_direct(out.fd.get(), out.properties);
  out.properties.reads_at_once = !out.properties.direct;
  out.properties.writes_at_once = out.in_memory && !options.read_only;
  if (!options.read_only && !out.in_memory) {
    const std::string same = "/proc/self/fd/" + std::to_string(out.fd.get());
    auto durable = open_path(access, same, O_RDWR | (out.properties.direct ? O_DIRECT : 0));
    if (!durable)
      return fail(durable.error().code, path + ": " + durable.error().message, durable.error().os_errno);
    out.durable_fd = std::move(*durable);
  }
  return out;
}

}  // namespace perilune::runtime::posix
