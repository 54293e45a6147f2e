// SPDX-License-Identifier: Apache-2.0
#include "control/serving/files_of_host.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <linux/fs.h>
#include <pwd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "control/files.hpp"
#include "control/targetd/gzip.hpp"

namespace perilune::control::serving {

using targetd::FileProbe;

using runtime::posix::open_path;
using runtime::posix::UniqueFd;

namespace {

void probe_device(int fd, FileProbe& probe) {
  (void)::ioctl(fd, BLKGETSIZE64, &probe.size_bytes);
  int block_size = 512;
  if (::ioctl(fd, BLKSSZGET, &block_size) == 0) probe.block_size = static_cast<std::uint32_t>(block_size);
}

// O_EXCL on a block device: claimed as mount claims it.
bool is_claimed(const std::string& path, HostAccess* access) {
  const auto claim = open_path(access, path, O_RDONLY | O_EXCL | O_NONBLOCK);
  return !claim && claim.error().os_errno == EBUSY;
}

// Where we may not ourselves, an open by `access` is the only answer that counts. One that finds it claimed
// may.
bool may_open(const std::string& path, int mode, int flags, HostAccess* access) {
  if (::access(path.c_str(), mode) == 0) return true;
  if (access == nullptr) return false;
  const auto opened = access->open(path, flags | O_NONBLOCK);
  return opened || opened.error().os_errno == EBUSY;
}

}  // namespace

FileProbe probe_file(const std::string& path, HostAccess* access) {
  FileProbe probe;
  struct stat info {};
  UniqueFd fd;
  if (::stat(path.c_str(), &info) != 0) {
    if (errno != EACCES || access == nullptr) return probe;
    auto opened = access->open(path, O_RDONLY | O_NONBLOCK);
    if (!opened || ::fstat(opened->get(), &info) != 0) return probe;
    fd = std::move(*opened);
  }
  if (S_ISREG(info.st_mode)) {
    probe.kind = FileProbe::Kind::regular;
    probe.size_bytes = static_cast<std::uint64_t>(info.st_size);
  } else if (S_ISBLK(info.st_mode)) {
    probe.kind = FileProbe::Kind::block;
    if (!fd) {
      if (auto opened = open_path(access, path, O_RDONLY | O_NONBLOCK)) fd = std::move(*opened);
    }
    if (fd) probe_device(fd.get(), probe);
    if (is_claimed(path, access)) probe.used_by = "in use (mounted, or claimed by another program)";
  } else {
    probe.kind = S_ISDIR(info.st_mode) ? FileProbe::Kind::folder : FileProbe::Kind::other;
  }
  const bool is_disk = probe.kind == FileProbe::Kind::regular || probe.kind == FileProbe::Kind::block;
  HostAccess* const asked = is_disk ? access : nullptr;
  probe.readable = may_open(path, R_OK, O_RDONLY, asked);
  probe.writable = may_open(path, W_OK, O_RDWR, asked);
  return probe;
}

namespace {

Result<UniqueFd> create_file(const std::string& path, HostAccess* access) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (fd) return fd;
  const int error = errno;
  if (error == EACCES && access != nullptr) return access->create(path);
  return fail_errno(error, "cannot create " + path);
}

}  // namespace

Status create_disk_file(const std::string& path, std::uint64_t size_bytes, bool sparse, HostAccess* access) {
  const auto fd = create_file(path, access);
  if (!fd) {
    if (fd.error().os_errno == EEXIST) return fail(Errc::already_exists, path + " is there already", EEXIST);
    return tl::unexpected(fd.error());
  }
  int error = ::ftruncate(fd->get(), static_cast<off_t>(size_bytes)) == 0 ? 0 : errno;
  if (error == 0 && !sparse && size_bytes != 0)
    error = ::posix_fallocate(fd->get(), 0, static_cast<off_t>(size_bytes));
  if (error == 0) return {};
  (void)remove_disk_file(path, access);
  return fail_errno(error, "cannot give " + path + " its size");
}

Status remove_disk_file(const std::string& path, HostAccess* access) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0) {
    if (errno == EACCES && access != nullptr) return access->remove(path);
    return fail_errno(errno, path);
  }
  if (!S_ISREG(info.st_mode)) return fail(Errc::invalid_argument, path + " is no regular file");
  if (::unlink(path.c_str()) == 0) return {};
  if (errno == EACCES && access != nullptr) return access->remove(path);
  return fail_errno(errno, "cannot remove " + path);
}

Result<std::string> read_text_file(const std::string& path, std::size_t max_bytes, HostAccess* access) {
  const auto fd = open_path(access, path, O_RDONLY | O_NONBLOCK);
  if (!fd) return tl::unexpected(fd.error());
  struct stat info {};
  if (::fstat(fd->get(), &info) != 0) return fail_errno(errno, path);
  if (!S_ISREG(info.st_mode)) return fail(Errc::invalid_argument, path + " is no regular file");
  std::string text;
  char buffer[65536];
  for (;;) {
    const ssize_t n = ::read(fd->get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, path);
    if (n == 0) break;
    text.append(buffer, static_cast<std::size_t>(n));
    if (text.size() > max_bytes) return fail(Errc::limit, path + " is longer than it may be");
  }
  if (!text.starts_with("\x1f\x8b")) return text;
  auto plain = targetd::gunzip(text, max_bytes);
  if (!plain) return fail(plain.error().code, path + ": " + plain.error().message);
  return plain;
}

Status write_text_file(const std::string& path, std::string_view text) {
  const auto slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  const std::string name = path.substr(slash == std::string::npos ? 0 : slash + 1);
  if (name.empty()) return fail(Errc::invalid_argument, path + " is no file");
  const Fd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return fail_errno(errno, "cannot write " + path);
  const Status written = write_file(fd.get(), name, text);
  if (written) return written;
  if (written.error().os_errno != 0) return fail_errno(written.error().os_errno, "cannot write " + path);
  return fail(written.error().code, "cannot write " + path + ": " + written.error().message);
}

std::vector<std::string> addresses_of_host() {
  std::vector<std::string> addresses;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return addresses;
  for (const ifaddrs* each = list; each != nullptr; each = each->ifa_next) {
    if (each->ifa_addr == nullptr) continue;
    const int family = each->ifa_addr->sa_family;
    char text[INET6_ADDRSTRLEN] = "";
    if (family == AF_INET) {
      ::inet_ntop(family, &reinterpret_cast<const sockaddr_in*>(each->ifa_addr)->sin_addr, text, sizeof text);
    } else if (family == AF_INET6) {
      ::inet_ntop(family, &reinterpret_cast<const sockaddr_in6*>(each->ifa_addr)->sin6_addr, text,
                  sizeof text);
    }
    if (*text != '\0') addresses.emplace_back(text);
  }
  ::freeifaddrs(list);
  std::sort(addresses.begin(), addresses.end());
  addresses.erase(std::unique(addresses.begin(), addresses.end()), addresses.end());
  return addresses;
}

std::string name_of_user(std::uint32_t uid) {
  passwd entry{};
  passwd* found = nullptr;
  char buffer[4096];
  if (::getpwuid_r(uid, &entry, buffer, sizeof buffer, &found) == 0 && found != nullptr)
    return found->pw_name;
  return std::to_string(uid);
}

}  // namespace perilune::control::serving
