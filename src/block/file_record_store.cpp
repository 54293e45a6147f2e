// SPDX-License-Identifier: Apache-2.0
#include "block/file_record_store.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace perilune::block {
namespace {

using runtime::posix::UniqueFd;

// Records never begin with a dot, so this is never one.
constexpr const char* temporary_name = ".new";

Status write_all(int fd, Bytes value) {
  while (!value.empty()) {
    const ssize_t n = ::write(fd, value.data(), value.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return fail_errno(n == 0 ? EIO : errno, "write");
    value = value.subspan(static_cast<std::size_t>(n));
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<FileRecordStore>> FileRecordStore::open(const std::string& folder) {
  UniqueFd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return fail_errno(errno, folder);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return fail(Errc::busy, folder + ": in use by another process");
    return fail_errno(errno, folder);
  }
  if (::unlinkat(fd.get(), temporary_name, 0) != 0 && errno != ENOENT) return fail_errno(errno, folder);
  return std::unique_ptr<FileRecordStore>(new FileRecordStore(folder, std::move(fd)));
}

std::string FileRecordStore::where(std::string_view name) const { return folder_ + "/" + std::string(name); }

Status FileRecordStore::check_name(std::string_view name) const {
  const bool good = !name.empty() && name.size() <= max_name_bytes && name.front() != '.' &&
                    std::all_of(name.begin(), name.end(), [](char c) {
                      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                             c == '.' || c == '_' || c == '-' || c == ':';
                    });
  if (!good) return fail(Errc::invalid_argument, "record store: a name that cannot be a file");
  return {};
}

Result<std::vector<std::uint8_t>> FileRecordStore::get(std::string_view name) {
  if (auto status = check_name(name); !status) return tl::unexpected(status.error());
  UniqueFd fd(::openat(fd_.get(), std::string(name).c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
  if (!fd) return fail_errno(errno, where(name));
  struct stat info{};
  if (::fstat(fd.get(), &info) != 0) return fail_errno(errno, where(name));
  if (!S_ISREG(info.st_mode)) return fail(Errc::io, where(name) + ": not a regular file");
  if (info.st_size < 0 || static_cast<std::uint64_t>(info.st_size) > max_record_bytes) {
    return fail(Errc::limit, where(name) + ": larger than a record may be");
  }
  std::vector<std::uint8_t> out(static_cast<std::size_t>(info.st_size));
  std::size_t done = 0;
  while (done < out.size()) {
    const ssize_t n = ::read(fd.get(), out.data() + done, out.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, where(name));
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  out.resize(done);
  return out;
}

Status FileRecordStore::write_temporary(Bytes value) const {
  UniqueFd fd(
      ::openat(fd_.get(), temporary_name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd) return fail_errno(errno, where(temporary_name));
  if (auto status = write_all(fd.get(), value); !status) return status;
  if (::fsync(fd.get()) != 0) return fail_errno(errno, where(temporary_name));
  return {};
}

Status FileRecordStore::sync_folder() const {
  if (::fsync(fd_.get()) != 0) return fail_errno(errno, folder_);
  return {};
}

Status FileRecordStore::put(std::string_view name, Bytes value) {
  if (auto status = check_name(name); !status) return status;
  if (value.size() > max_record_bytes)
    return fail(Errc::limit, where(name) + ": larger than a record may be");
  if (auto status = write_temporary(value); !status) {
    (void)::unlinkat(fd_.get(), temporary_name, 0);
    return status;
  }
  if (::renameat(fd_.get(), temporary_name, fd_.get(), std::string(name).c_str()) != 0) {
    const int error = errno;
    (void)::unlinkat(fd_.get(), temporary_name, 0);
    return fail_errno(error, where(name));
  }
  return sync_folder();
}

Status FileRecordStore::remove(std::string_view name) {
  if (auto status = check_name(name); !status) return status;
  if (::unlinkat(fd_.get(), std::string(name).c_str(), 0) != 0 && errno != ENOENT)
    return fail_errno(errno, where(name));
  return sync_folder();
}

}  // namespace perilune::block
