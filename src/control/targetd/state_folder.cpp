// SPDX-License-Identifier: Apache-2.0
#include "control/targetd/state_folder.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace perilune::control::targetd {
namespace {

constexpr const char* lock_name = "lock";

Status write_all(int fd, std::string_view text, const std::string& path) {
  while (!text.empty()) {
    const ssize_t n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, "cannot write " + path);
    text.remove_prefix(static_cast<std::size_t>(n));
  }
  return {};
}

// The process number that the holder of the lock wrote, for a message.
std::string holder_of(int lock) {
  char text[32] = {};
  const ssize_t n = ::pread(lock, text, sizeof text - 1, 0);
  std::string pid;
  for (ssize_t i = 0; i < n && text[i] >= '0' && text[i] <= '9'; ++i) pid += text[i];
  return pid.empty() ? std::string() : " (process " + pid + ")";
}

Status take_lock(int lock, const std::string& path) {
  if (::flock(lock, LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) return fail_errno(errno, "cannot lock " + path);
    return fail(Errc::busy,
                path + " is in use by another server" + holder_of(lock) + "; stop that one first");
  }
  const std::string pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(lock, 0) != 0) return fail_errno(errno, "cannot write the lock of " + path);
  return write_all(lock, pid, path + "/" + lock_name);
}

}  // namespace

Status replace_file(StateFolder& folder, const std::string& name, std::string_view text, bool* renamed) {
  const std::string fresh = name + ".new";
  if (renamed != nullptr) *renamed = false;
  if (auto done = folder.write(fresh, text); !done) return done;
  if (auto done = folder.sync(fresh); !done) return done;
  if (auto done = folder.rename(fresh, name); !done) return done;
  if (renamed != nullptr) *renamed = true;
  return folder.sync_folder();
}

Result<std::unique_ptr<LockedFolder>> LockedFolder::open(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return fail_errno(errno, "cannot make " + path);
  Fd folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid()) return fail_errno(errno, "cannot open " + path);
  Fd lock(::openat(folder.get(), lock_name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!lock.valid()) return fail_errno(errno, "cannot open " + path + "/" + lock_name);
  if (auto locked = take_lock(lock.get(), path); !locked)
    return tl::unexpected<Error>(std::move(locked.error()));
  return std::unique_ptr<LockedFolder>(new LockedFolder(path, std::move(folder), std::move(lock)));
}

Result<Fd> LockedFolder::open_file(const std::string& name, int flags) const {
  Fd file(::openat(folder_.get(), name.c_str(), flags | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!file.valid()) return fail_errno(errno, "cannot open " + path_of(name));
  return file;
}

Result<std::string> LockedFolder::read(const std::string& name, std::size_t max_bytes) {
  auto text = read_file(folder_.get(), name, max_bytes);
  // Only an absent file is not found, not a socket or a device in its place.
  if (!text && text.error().code == Errc::not_found && text.error().os_errno != ENOENT)
    text.error().code = Errc::io;
  return text;
}

Status LockedFolder::write(const std::string& name, std::string_view text) {
  // A file of the same name may have another mode, or be a link: begin anew.
  if (auto gone = remove(name); !gone) return gone;
  const auto file = open_file(name, O_WRONLY | O_CREAT | O_EXCL);
  if (!file) return tl::unexpected<Error>(file.error());
  return write_all(file->get(), text, path_of(name));
}

Status LockedFolder::append(const std::string& name, std::string_view text) {
  const auto file = open_file(name, O_WRONLY | O_APPEND);
  if (!file) return tl::unexpected<Error>(file.error());
  return write_all(file->get(), text, path_of(name));
}

Status LockedFolder::truncate(const std::string& name, std::size_t size) {
  const auto file = open_file(name, O_WRONLY);
  if (!file) return tl::unexpected<Error>(file.error());
  if (::ftruncate(file->get(), static_cast<off_t>(size)) != 0)
    return fail_errno(errno, "cannot shorten " + path_of(name));
  return {};
}

Status LockedFolder::sync(const std::string& name) {
  const auto file = open_file(name, O_WRONLY);
  if (!file) return tl::unexpected<Error>(file.error());
  if (::fsync(file->get()) != 0) return fail_errno(errno, "cannot sync " + path_of(name));
  return {};
}

Status LockedFolder::rename(const std::string& from, const std::string& to) {
  if (::renameat(folder_.get(), from.c_str(), folder_.get(), to.c_str()) != 0) {
    return fail_errno(errno, "cannot rename " + path_of(from));
  }
  return {};
}

Status LockedFolder::remove(const std::string& name) { return remove_file(folder_.get(), name); }

Result<std::vector<std::string>> LockedFolder::list() {
  auto entries = list_folder(folder_.get());
  if (!entries) return tl::unexpected<Error>(std::move(entries.error()));
  std::vector<std::string> names;
  for (Entry& entry : *entries) {
    if (!entry.is_folder && !entry.is_link) names.push_back(std::move(entry.name));
  }
  return names;
}

Status LockedFolder::sync_folder() {
  if (::fsync(folder_.get()) != 0) return fail_errno(errno, "cannot sync " + path_);
  return {};
}

}  // namespace perilune::control::targetd
