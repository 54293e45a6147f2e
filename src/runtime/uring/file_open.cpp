// SPDX-License-Identifier: Apache-2.0
#include "runtime/uring/file_open.hpp"

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

#include "runtime/uring/file.hpp"

namespace perilune::runtime::uring {
namespace {

std::uint64_t queue_attribute(dev_t device, const char* name) {
  const std::string node = "/sys/dev/block/" + std::to_string(major(device)) + ":" + std::to_string(minor(device));
  for (const char* folder : {"/queue/", "/../queue/"}) {  // the second is a partition's disk
    std::ifstream in(node + folder + name);
    std::uint64_t value = 0;
    if (in >> value) return value;
  }
  return 0;
}

Status describe_device(int fd, const struct stat& info, FileProperties& out) {
  unsigned physical = 512;
  if (::ioctl(fd, BLKGETSIZE64, &out.size_bytes) != 0) return fail_errno(errno, "size of the block device");
  if (::ioctl(fd, BLKPBSZGET, &physical) == 0) out.physical_block_bytes = physical;
  out.is_block_device = true;
  // Without write-zeroes a punched range is not sure to read as zeroes.
  if (queue_attribute(info.st_rdev, "discard_max_bytes") > 0 && queue_attribute(info.st_rdev, "write_zeroes_max_bytes") > 0) {
    out.discard_granularity_bytes = static_cast<std::uint32_t>(queue_attribute(info.st_rdev, "discard_granularity"));
  }
  return {};
}

void describe_regular(int fd, const struct stat& info, FileProperties& out) {
  out.size_bytes = static_cast<std::uint64_t>(info.st_size);
  out.physical_block_bytes = static_cast<std::uint32_t>(info.st_blksize);
  // Beyond the end there is nothing that a hole could take away: a question, not a change.
  const off_t beyond = ((info.st_size >> 20) + 1) << 20;
  const bool punches = !out.read_only && ::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, beyond, 4096) == 0;
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

Result<std::unique_ptr<BlockFile>> UringFile::open(Reactor& reactor, const std::string& path, const OpenOptions& options) {
  // O_NONBLOCK until it is known what this is: opening a FIFO would wait for somebody to come.
  UniqueFd fd(::open(path.c_str(), (options.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK));
  if (!fd) return fail_errno(errno, path);
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return fail_errno(errno, path);
  if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode)) {
    return fail(Errc::invalid_argument, path + ": neither a regular file nor a block device");
  }
  const int flags = ::fcntl(fd.get(), F_GETFL);
  if (flags < 0 || ::fcntl(fd.get(), F_SETFL, flags & ~O_NONBLOCK) != 0) return fail_errno(errno, path);
  FileProperties properties;
  properties.read_only = options.read_only;
  if (S_ISBLK(info.st_mode)) {
    if (auto status = describe_device(fd.get(), info, properties); !status) return tl::unexpected(status.error());
  } else {
    describe_regular(fd.get(), info, properties);
  }
  struct statfs fs{};
  const bool in_memory = S_ISREG(info.st_mode) && ::fstatfs(fd.get(), &fs) == 0 &&
                         (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
  if (options.prefer_direct && !in_memory) go_direct(fd.get(), properties);
  return std::unique_ptr<BlockFile>(new UringFile(reactor, std::move(fd), properties, in_memory));
}

Result<std::unique_ptr<BlockFile>> Reactor::open_file(const std::string& path, const OpenOptions& options) {
  return UringFile::open(*this, path, options);
}

}  // namespace perilune::runtime::uring
