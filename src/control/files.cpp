// SPDX-License-Identifier: Apache-2.0
#include "control/files.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <memory>

namespace perilune::control {
namespace {

constexpr std::string_view temporary_prefix = ".tmp-";

Status write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, "cannot write");
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return {};
}

std::string temporary_name() {
  static std::atomic<unsigned> next{0};
  return std::string(temporary_prefix) + std::to_string(::getpid()) + "-" + std::to_string(next.fetch_add(1));
}

}  // namespace

Result<Fd> open_folder(int parent, const std::string& name, bool create) {
  if (create && ::mkdirat(parent, name.c_str(), 0700) != 0 && errno != EEXIST) {
    return fail_errno(errno, "cannot make folder " + name);
  }
  const int fd = ::openat(parent, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return fail_errno(errno, "cannot open folder " + name);
  return Fd(fd);
}

Result<std::vector<Entry>> list_folder(int folder) {
  const int fd = ::openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return fail_errno(errno, "cannot list folder");
  DIR* stream = ::fdopendir(fd);
  if (stream == nullptr) {
    ::close(fd);
    return fail_errno(errno, "cannot list folder");
  }
  std::vector<Entry> entries;
  while (const dirent* entry = ::readdir(stream)) {
    const std::string_view name = entry->d_name;
    if (name == "." || name == ".." || name.starts_with(temporary_prefix)) continue;
    struct stat status {};
    if (::fstatat(folder, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) != 0) continue;  // gone meanwhile
    entries.push_back({std::string(name), S_ISDIR(status.st_mode), S_ISLNK(status.st_mode)});
  }
  ::closedir(stream);
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) { return a.name < b.name; });
  return entries;
}

Result<std::string> read_file(int folder, const std::string& name, std::size_t max_bytes) {
  // O_NONBLOCK: a FIFO in the place of a file must not hang us.
  const Fd file(::openat(folder, name.c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) return fail_errno(errno, "cannot open " + name);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return fail_errno(errno, "cannot examine " + name);
  if (!S_ISREG(status.st_mode)) return fail(Errc::invalid_argument, name + " is not a regular file");
  std::string text;
  char buffer[4096];
  for (;;) {
    const ssize_t n = ::read(file.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, "cannot read " + name);
    if (n == 0) return text;
    if (text.size() + static_cast<std::size_t>(n) > max_bytes)
      return fail(Errc::limit, name + " is too long");
    text.append(buffer, static_cast<std::size_t>(n));
  }
}

Status write_file(int folder, const std::string& name, std::string_view text, mode_t mode) {
  const std::string temporary = temporary_name();
  ::unlinkat(folder, temporary.c_str(), 0);  // left by a dead process with our number
  Fd file(::openat(folder, temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode));
  if (!file.valid()) return fail_errno(errno, "cannot write " + name);
  Status done = write_all(file.get(), text);
  if (done && ::fchmod(file.get(), mode) != 0) done = fail_errno(errno, "cannot set the mode of " + name);
  if (done && ::fsync(file.get()) != 0) done = fail_errno(errno, "cannot sync " + name);
  if (done && ::renameat(folder, temporary.c_str(), folder, name.c_str()) != 0) {
    done = fail_errno(errno, "cannot write " + name);
  }
  if (!done) {
    ::unlinkat(folder, temporary.c_str(), 0);
    return done;
  }
  if (::fsync(folder) != 0) return fail_errno(errno, "cannot sync the folder of " + name);
  return {};
}

Status remove_file(int folder, const std::string& name) {
  if (::unlinkat(folder, name.c_str(), 0) != 0 && errno != ENOENT)
    return fail_errno(errno, "cannot remove " + name);
  return {};
}

Status remove_folder_if_empty(int parent, const std::string& name) {
  if (::unlinkat(parent, name.c_str(), AT_REMOVEDIR) == 0) return {};
  if (errno == ENOENT || errno == ENOTEMPTY || errno == EEXIST) return {};
  return fail_errno(errno, "cannot remove folder " + name);
}

}  // namespace perilune::control
