// SPDX-License-Identifier: Apache-2.0
#include "block/backends/file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "block/filters/encryption.hpp"

namespace perilune::block {
namespace {

// The names below these folders are the stable ones; what they point to (dm-3, sdb) changes from boot to
// boot.
bool stable_device_name(const std::string& path) {
  return path.starts_with("/dev/mapper/") || path.starts_with("/dev/disk/");
}

std::string canonical(const std::string& path) {
  if (stable_device_name(path)) return path;
  char buffer[PATH_MAX];
  return ::realpath(path.c_str(), buffer) != nullptr ? buffer : path;
}

tl::unexpected<Error> explain(const std::string& path, const Error& error, bool read_only) {
  switch (error.os_errno) {
    case ENOENT:
      return fail(Errc::not_found,
                  path.starts_with("/dev/")
                      ? path + ": no such device"
                      : fmt::format("{}: no such file (create one with: truncate -s 1G {})", path, path),
                  ENOENT);
    case EISDIR:
      return fail(Errc::invalid_argument, path + ": is a directory", EISDIR);
    case EACCES:
    case EROFS:
      return fail(Errc::permission,
                  fmt::format("{}: {}{}", path, std::strerror(error.os_errno),
                              read_only ? "" : " (it is opened for writing; read-only may be possible)"),
                  error.os_errno);
    case EBUSY:
      return fail(Errc::busy, path + ": in use (mounted, or claimed by another program)", EBUSY);
    default:
      return tl::unexpected<Error>(error);
  }
}

}  // namespace

Result<std::unique_ptr<Backstore>> FileBackstore::open(const std::string& path,
                                                       const BackstoreOptions& options) {
  struct stat info{};
  if (::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode)) {
    return fail(Errc::invalid_argument, path + ": is a directory");
  }
  runtime::OpenOptions how{options.read_only, options.direct};
  auto opened = runtime::posix::open_block_file(path, how, !options.read_only, options.access);
  if (!opened) return explain(path, opened.error(), options.read_only);
  if (options.protection_bytes != 0 && opened->properties.is_block_device) {
    return fail(Errc::unsupported,
                path + ": protection information is kept in files and in memory, not on a block device");
  }
  if (opened->properties.size_bytes < options.stored_block_bytes()) {
    return fail(
        Errc::invalid_argument,
        opened->properties.size_bytes == 0
            ? fmt::format("{}: is empty (give it a size with: truncate -s 1G {})", path, path)
            : fmt::format("{}: holds less than one block of {} bytes", path, options.stored_block_bytes()));
  }
  std::unique_ptr<FileBackstore> self(new FileBackstore);
  self->file_ = std::move(*opened);
  if (auto status = self->lock(path); !status) return tl::unexpected(status.error());
  auto& properties = self->file_.properties;
  if (options.stored_block_bytes() % properties.offset_alignment_bytes != 0) {
    properties.direct = false;
    properties.memory_alignment_bytes = properties.offset_alignment_bytes = 1;
  }
  self->identity_ = canonical(path);
  self->geometry_ = file_geometry(properties, options.stored_block_bytes());
  self->geometry_.protection_bytes = options.protection_bytes;
  self->geometry_.physical_block_size_bytes =
      options.physical_block_over(self->geometry_.physical_block_size_bytes);
  if (Status status = self->take_key(options); !status) return tl::unexpected(status.error());
  self->thick_ = options.thick;
  if (options.thick) {
    if (Status status = self->allocate_all(path, properties.size_bytes); !status)
      return tl::unexpected(status.error());
    self->file_.sparse = false;
    self->geometry_.thin = self->geometry_.unmap_zeroes = false;
  }
  if (Status status = self->take_journal(options); !status) return tl::unexpected(status.error());
  return self;
}

// A journal that goes with the power is of no use to a disk that does not.
Status FileBackstore::take_journal(const BackstoreOptions& options) {
  const auto& p = file_.properties;
  if (options.atomic_journal == nullptr || p.read_only ||
      (options.atomic_journal->in_memory() && !file_.in_memory))
    return {};
  struct stat info{};
  if (::fstat(file_.fd.get(), &info) != 0) return fail_errno(errno, identity_);
  atomic_disk_ = atomic_disk_number(identity_, p.is_block_device ? 0 : info.st_ino);
  auto fd = runtime::posix::open_path(options.access, path_for_channels(), O_RDWR);  // through the page cache
  if (!fd)
    return fail(fd.error().code, fmt::format("{}: {}", identity_, fd.error().message), fd.error().os_errno);
  const auto medium = make_file_medium(fd->release(), identity_, p.size_bytes);
  if (Status status = options.atomic_journal->recover(atomic_disk_, *medium); !status) return status;
  journal_ = options.atomic_journal;
  geometry_.max_atomic_blocks = max_atomic_blocks(geometry_.block_size_bytes, geometry_.protection_bytes);
  return {};
}

Status FileBackstore::take_key(const BackstoreOptions& options) {
  if (!options.encrypted) {
    if (options.key_folder.empty() || !DiskKey::exists(options.key_folder, identity_)) return {};
    return fail(Errc::invalid_argument,
                fmt::format("{}: is encrypted, for there is a key of it: serve it encrypted, or, if it has "
                            "been made anew, remove {}",
                            identity_, DiskKey::path_of(options.key_folder, identity_)));
  }
  if (options.key_folder.empty())
    return fail(Errc::invalid_argument,
                identity_ + ": to be encrypted it needs a state folder, which keeps its key");
  // The key goes by the name, and two devices may change theirs from boot to boot.
  if (file_.properties.is_block_device && !stable_device_name(identity_)) {
    return fail(Errc::invalid_argument, identity_ +
                                            ": to be encrypted a device is named by what stays the same: "
                                            "/dev/disk/by-id/..., /dev/mapper/...");
  }
  auto key = DiskKey::open(options.key_folder, identity_, [this] { return holds_nothing(); });
  if (!key) return tl::unexpected(key.error());
  key_ = std::move(*key);
  geometry_.encrypted = true;
  return {};
}

// A disk is encrypted from its first block on, or not at all. Of a device its ends are looked at.
Status FileBackstore::holds_nothing() const {
  const auto holds_data = [this] {
    return fail(
        Errc::invalid_argument,
        fmt::format(
            "{}: holds data, and there is no key of it: only an empty disk can become an encrypted one ({})",
            identity_,
            file_.properties.is_block_device ? "blkdiscard --zeroout makes one of a device"
                                             : "truncate -s SIZE makes one where no file is"));
  };
  if (!file_.properties.is_block_device) {
    if (::lseek(file_.fd.get(), 0, SEEK_DATA) >= 0) return holds_data();
    return errno == ENXIO ? Status() : fail_errno(errno, identity_);
  }
  constexpr std::size_t looked_at_bytes = 1 << 20, alignment = 4096;
  const std::unique_ptr<std::uint8_t, decltype(&std::free)> memory(
      static_cast<std::uint8_t*>(std::aligned_alloc(alignment, looked_at_bytes)), std::free);
  const std::uint64_t size = file_.properties.size_bytes;
  for (const std::uint64_t at :
       {std::uint64_t{0}, size > looked_at_bytes ? (size - looked_at_bytes) / alignment * alignment : 0}) {
    const ssize_t n = ::pread(file_.fd.get(), memory.get(), looked_at_bytes, static_cast<off_t>(at));
    if (n < 0) return fail_errno(errno, identity_);
    if (std::any_of(memory.get(), memory.get() + n, [](std::uint8_t byte) { return byte != 0; }))
      return holds_data();
  }
  return {};
}

Status FileBackstore::lock(const std::string& path) {
  struct flock whole{};
  whole.l_type = file_.properties.read_only ? F_RDLCK : F_WRLCK;
  whole.l_whence = SEEK_SET;
  locked_ = ::fcntl(file_.fd.get(), F_OFD_SETLK, &whole) == 0;
  if (!locked_ && (errno == EAGAIN || errno == EACCES)) {
    return fail(Errc::busy, path + ": locked: it is served already, or in use by another program", errno);
  }
  return {};  // a file system without locks: describe() says so
}

Status FileBackstore::allocate_all(const std::string& path, std::uint64_t size_bytes) {
  if (file_.properties.is_block_device || file_.properties.read_only) return {};
  const auto bytes = static_cast<off_t>(size_bytes);
  int result = 0;
  do {
    result = ::fallocate(file_.fd.get(), FALLOC_FL_KEEP_SIZE, 0, bytes);
  } while (result != 0 && errno == EINTR);
  if (result == 0) return {};
  if (errno == EOPNOTSUPP) {
    return fail(Errc::unsupported,
                path + ": this file system cannot allocate space in advance, so the disk can only be thin",
                errno);
  }
  const Errc code = errno == ENOSPC || errno == EDQUOT ? Errc::no_space : Errc::io;
  return fail(code, fmt::format("{}: allocating {}: {}", path, format_size(size_bytes), std::strerror(errno)),
              errno);
}

Result<BlockCount> FileBackstore::look_at_size() {
  std::uint64_t size_bytes = 0;
  if (file_.properties.is_block_device) {
    if (::ioctl(file_.fd.get(), BLKGETSIZE64, &size_bytes) != 0) return fail_errno(errno, identity_);
  } else {
    struct stat info{};
    if (::fstat(file_.fd.get(), &info) != 0) return fail_errno(errno, identity_);
    size_bytes = static_cast<std::uint64_t>(info.st_size);
  }
  if (thick_) {
    if (Status status = allocate_all(identity_, size_bytes); !status) return tl::unexpected(status.error());
  }
  return BlockCount(size_bytes / geometry_.block_size_bytes);
}

std::string FileBackstore::path_for_channels() const {
  // Through the descriptor it is the same file for certain, whatever has been renamed since.
  std::string own = fmt::format("/proc/self/fd/{}", file_.fd.get());
  return ::access(own.c_str(), F_OK) == 0 ? own : identity_;
}

std::string FileBackstore::describe() const {
  const auto& p = file_.properties;
  const std::uint64_t tail = p.size_bytes % geometry_.block_size_bytes;
  return fmt::format(
      "{} {}, {}{}{}{}{}{}{}{}{}", p.is_block_device ? "block device" : "file", identity_,
      format_size(p.size_bytes), p.direct ? ", O_DIRECT" : ", page cache", file_.sparse ? ", sparse" : "",
      thick_ ? ", thick" : "", key_ != nullptr ? ", encrypted" : "",
      geometry_.protection_bytes == 0 ? "" : ", with protection information",
      p.read_only ? ", read-only" : "", locked_ ? "" : ", not locked (the file system has no locks)",
      tail == 0 ? "" : fmt::format(", the last {} bytes are not served (less than a block)", tail));
}

void FileBackstore::set_blocks(Channel& channel, BlockCount blocks) {
  if (key_ == nullptr) return set_file_channel_blocks(channel, blocks);
  auto& encryption = static_cast<EncryptionFilter&>(channel);
  set_file_channel_blocks(encryption.inner(), blocks);
  encryption.set_blocks(blocks);
}

Result<std::unique_ptr<Channel>> FileBackstore::open_channel(runtime::Loop& loop) {
  auto plain = open_plain_channel(loop);
  if (!plain || key_ == nullptr) return plain;
  auto file = loop.open_file(key_->path(), {.read_only = false, .prefer_direct = false});
  if (!file)
    return fail(file.error().code, fmt::format("{}: {}", key_->path(), file.error().message),
                file.error().os_errno);
  auto encrypted = EncryptionFilter::create(std::move(*plain), key_, std::move(*file), loop.random());
  if (!encrypted) return tl::unexpected(encrypted.error());
  return std::unique_ptr<Channel>(std::move(*encrypted));
}

Result<std::unique_ptr<Channel>> FileBackstore::open_plain_channel(runtime::Loop& loop) {
  auto file = loop.open_file(path_for_channels(), {file_.properties.read_only, file_.properties.direct});
  if (!file)
    return fail(file.error().code, fmt::format("{}: {}", identity_, file.error().message),
                file.error().os_errno);
  if (journal_ == nullptr) return make_file_channel(std::move(*file), geometry_, health_);
  auto lanes = journal_->lanes(loop);
  if (!lanes) return tl::unexpected(lanes.error());
  return make_file_channel(std::move(*file), geometry_, health_, std::move(*lanes), atomic_disk_);
}

std::optional<SpaceLevel> FileBackstore::measure_space() {
  constexpr std::uint64_t stat_block_bytes = 512;
  if (!geometry_.thin || file_.properties.is_block_device) return std::nullopt;
  struct stat info{};
  struct statvfs system{};
  if (::fstat(file_.fd.get(), &info) != 0 || ::fstatvfs(file_.fd.get(), &system) != 0) return std::nullopt;
  return SpaceLevel{static_cast<std::uint64_t>(info.st_blocks) * stat_block_bytes,
                    std::uint64_t{system.f_bavail} * system.f_frsize};
}

}  // namespace perilune::block
