// SPDX-License-Identifier: Apache-2.0
// FuseDisk: what the kernel asks beside I/O (<linux/fuse.h>, protocol 7). A root directory with one file.
#include <fcntl.h>
#include <linux/fuse.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "attach/fuse_disk.hpp"

namespace perilune::attach {

namespace {

constexpr std::uint64_t root_node = FUSE_ROOT_ID;
constexpr std::uint64_t disk_node = 2;
constexpr std::uint64_t forever_seconds = 1u << 30;  // nothing here ever changes

template <class T>
Bytes bytes_of(const T& value) noexcept {
  return {reinterpret_cast<const std::uint8_t*>(&value), sizeof value};
}

fuse_attr attributes(std::uint64_t node, std::uint64_t size_bytes, bool read_only) noexcept {
  fuse_attr attr{};
  attr.ino = node;
  attr.blksize = 4096;
  attr.nlink = node == root_node ? 2 : 1;
  attr.mode = node == root_node ? S_IFDIR | 0700u : S_IFREG | (read_only ? 0400u : 0600u);
  if (node == disk_node) {
    attr.size = size_bytes;
    attr.blocks = size_bytes / 512;
  }
  return attr;
}

// One entry of a directory listing, padded to eight bytes.
std::size_t put_entry(std::uint8_t* to, std::uint64_t node, std::uint64_t next, std::uint32_t type,
                      const char* name) {
  fuse_dirent entry{};
  entry.ino = node;
  entry.off = next;
  entry.type = type;
  entry.namelen = static_cast<std::uint32_t>(std::strlen(name));
  std::memcpy(to, &entry, FUSE_NAME_OFFSET);
  std::memcpy(to + FUSE_NAME_OFFSET, name, entry.namelen);
  return FUSE_DIRENT_ALIGN(FUSE_NAME_OFFSET + entry.namelen);
}

}  // namespace

void FuseDisk::dispatch_control(const fuse_in_header& header, Bytes arguments) {
  switch (header.opcode) {
    case FUSE_INIT:
      return answer_init(header, arguments);
    case FUSE_LOOKUP:
      return answer_lookup(header, arguments);
    case FUSE_GETATTR:
      return answer_getattr(header);
    case FUSE_OPEN:
      return answer_open(header, arguments);
    case FUSE_READDIR:
      return answer_directory(header, arguments);
    case FUSE_STATFS:
      return answer_statfs(header);
    case FUSE_OPENDIR: {
      const fuse_open_out out{};
      return reply(header.unique, 0, bytes_of(out));
    }
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
      return;  // these want no answer
    case FUSE_FLUSH:
    case FUSE_RELEASE:
    case FUSE_RELEASEDIR:
    case FUSE_FSYNCDIR:
    case FUSE_ACCESS:
    case FUSE_DESTROY:
      return reply(header.unique, 0);
    case FUSE_SETATTR:
    case FUSE_MKNOD:
    case FUSE_MKDIR:
    case FUSE_UNLINK:
    case FUSE_RMDIR:
    case FUSE_RENAME:
    case FUSE_RENAME2:
    case FUSE_LINK:
    case FUSE_SYMLINK:
    case FUSE_CREATE:
      return reply(header.unique, EPERM);
    default:
      return reply(header.unique, ENOSYS);
  }
}

void FuseDisk::answer_init(const fuse_in_header& header, Bytes arguments) {
  fuse_init_in in{};
  if (arguments.size() < 16) return reply(header.unique, EPROTO);
  std::memcpy(&in, arguments.data(), std::min(arguments.size(), sizeof in));
  constexpr std::uint32_t oldest_minor = 28;  // FUSE_MAX_PAGES, Linux 4.20
  if (in.major < 7 || (in.major == 7 && in.minor < oldest_minor)) return reply(header.unique, EPROTO);
  fuse_init_out out{};
  out.major = FUSE_KERNEL_VERSION;
  out.minor = FUSE_KERNEL_MINOR_VERSION;
  out.max_readahead = in.max_readahead;
  out.flags = in.flags & (FUSE_ASYNC_READ | FUSE_BIG_WRITES | FUSE_ASYNC_DIO | FUSE_MAX_PAGES);
  out.max_background = max_fuse_background;
  out.congestion_threshold = max_fuse_background;
  out.max_write = max_fuse_transfer_bytes;
  out.max_pages = max_fuse_transfer_bytes / 4096;
  out.time_gran = 1;
  reply(header.unique, 0, bytes_of(out));
}

void FuseDisk::answer_lookup(const fuse_in_header& header, Bytes arguments) {
  const std::string_view name = as_text(arguments).substr(0, as_text(arguments).find('\0'));
  fuse_entry_out out{};
  out.entry_valid = out.attr_valid = forever_seconds;
  if (header.nodeid == root_node && name == file_name) {
    out.nodeid = disk_node;
    out.attr = attributes(disk_node, disk_.size_bytes(), disk_.read_only());
    return reply(header.unique, 0, bytes_of(out));
  }
  reply(header.unique, ENOENT);
}

void FuseDisk::answer_getattr(const fuse_in_header& header) {
  if (header.nodeid != root_node && header.nodeid != disk_node) return reply(header.unique, ENOENT);
  fuse_attr_out out{};
  out.attr_valid = forever_seconds;
  out.attr = attributes(header.nodeid, disk_.size_bytes(), disk_.read_only());
  reply(header.unique, 0, bytes_of(out));
}

void FuseDisk::answer_open(const fuse_in_header& header, Bytes arguments) {
  fuse_open_in in;
  if (arguments.size() < sizeof in) return reply(header.unique, EINVAL);
  std::memcpy(&in, arguments.data(), sizeof in);
  if (header.nodeid != disk_node) return reply(header.unique, EISDIR);
  if (disk_.read_only() && (in.flags & O_ACCMODE) != O_RDONLY) return reply(header.unique, EROFS);
  fuse_open_out out{};
  // No page cache here: the block device above has its own, and a flush must find nothing left behind.
  out.open_flags = FOPEN_DIRECT_IO | FOPEN_PARALLEL_DIRECT_WRITES | FOPEN_NOFLUSH;
  reply(header.unique, 0, bytes_of(out));
}

void FuseDisk::answer_directory(const fuse_in_header& header, Bytes arguments) {
  fuse_read_in in;
  if (arguments.size() < sizeof in) return reply(header.unique, EINVAL);
  std::memcpy(&in, arguments.data(), sizeof in);
  alignas(8) std::uint8_t listing[128] = {};
  std::size_t used = 0;
  if (in.offset == 0) {
    used += put_entry(listing + used, root_node, 1, S_IFDIR >> 12, ".");
    used += put_entry(listing + used, root_node, 2, S_IFDIR >> 12, "..");
    used += put_entry(listing + used, disk_node, 3, S_IFREG >> 12, file_name);
    if (used > in.size) return reply(header.unique, EINVAL);
  }
  reply(header.unique, 0, {listing, used});
}

void FuseDisk::answer_statfs(const fuse_in_header& header) {
  fuse_statfs_out out{};
  out.st.bsize = out.st.frsize =
      disk_.granularity_bytes();  // the loop device takes it as its discard granularity
  out.st.blocks = disk_.size_bytes() / disk_.granularity_bytes();
  out.st.files = 1;
  out.st.namelen = 255;
  reply(header.unique, 0, bytes_of(out));
}

void FuseDisk::reply(std::uint64_t unique, int error, Bytes payload) {
  fuse_out_header out{};
  out.len = static_cast<std::uint32_t>(sizeof out + payload.size());
  out.error = -error;
  out.unique = unique;
  const iovec iov[2] = {{&out, sizeof out}, {const_cast<std::uint8_t*>(payload.data()), payload.size()}};
  write_reply({iov, payload.empty() ? 1u : 2u});
}

// An answer that the kernel no longer wants (the request was aborted, the mount is gone) is no error.
void FuseDisk::write_reply(std::span<const iovec> iov) {
  if (!fd_.valid()) return;
  while (::writev(fd_.get(), iov.data(), static_cast<int>(iov.size())) < 0 && errno == EINTR) {
  }
}

}  // namespace perilune::attach
