// SPDX-License-Identifier: Apache-2.0
#include "control/privilege/hand_over.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>

#include "runtime/posix/unique_fd.hpp"

namespace perilune::control::privilege {

using runtime::posix::UniqueFd;

namespace {

constexpr int max_depth = 4;

bool may_change_hands(const struct stat& info) {
  if (info.st_uid != 0) return false;
  return S_ISDIR(info.st_mode) || ((S_ISREG(info.st_mode) || S_ISSOCK(info.st_mode)) && info.st_nlink == 1);
}

// `fd` is an O_PATH descriptor: what was examined is what changes hands.
Status give(int fd, uid_t uid, gid_t gid, const std::string& name) {
  struct stat info {};
  if (::fstat(fd, &info) != 0) return fail_errno(errno, name);
  if (!may_change_hands(info)) return {};
  if (::fchownat(fd, "", uid, gid, AT_EMPTY_PATH) != 0) return fail_errno(errno, name);
  return {};
}

Status give_below(int folder, uid_t uid, gid_t gid, const std::string& name, int depth) {
  const int listed = ::openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (listed < 0) return fail_errno(errno, name);
  DIR* const stream = ::fdopendir(listed);
  if (stream == nullptr) {
    ::close(listed);
    return fail_errno(errno, name);
  }
  Status status;
  while (const dirent* const entry = status ? ::readdir(stream) : nullptr) {
    const std::string_view child = entry->d_name;
    if (child == "." || child == "..") continue;
    const std::string child_name = name + "/" + entry->d_name;
    const UniqueFd fd(::openat(folder, entry->d_name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!fd) continue;  // gone meanwhile
    const UniqueFd below(
        depth > 0 ? ::openat(folder, entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC) : -1);
    if (below) status = give_below(below.get(), uid, gid, child_name, depth - 1);
    if (status) status = give(fd.get(), uid, gid, child_name);
  }
  ::closedir(stream);
  return status;
}

}  // namespace

Status hand_over_folder(const std::string& path, uid_t uid, gid_t gid) {
  const UniqueFd folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!folder) return fail_errno(errno, path);
  // From the leaves: as long as a folder is root's, nobody changes what is in it.
  if (Status status = give_below(folder.get(), uid, gid, path, max_depth - 1); !status) return status;
  struct stat info {};
  if (::fstat(folder.get(), &info) != 0) return fail_errno(errno, path);
  if (info.st_uid == 0 && ::fchown(folder.get(), uid, gid) != 0) return fail_errno(errno, path);
  return {};
}

Status hand_over_file(const std::string& path, uid_t uid, gid_t gid) {
  const UniqueFd fd(::open(path.c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  if (!fd) return errno == ENOENT ? Status() : fail_errno(errno, path);
  return give(fd.get(), uid, gid, path);
}

Status share_folder(const std::string& path, gid_t gid) {
  const UniqueFd folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!folder) return fail_errno(errno, path);
  struct stat info {};
  if (::fstat(folder.get(), &info) != 0) return fail_errno(errno, path);
  if (info.st_uid != 0 || (info.st_mode & S_IWOTH) != 0) return {};
  if (::fchown(folder.get(), static_cast<uid_t>(-1), gid) != 0 ||
      ::fchmod(folder.get(), (info.st_mode & 07777) | S_ISVTX | S_IRWXG) != 0) {
    return fail_errno(errno, path);
  }
  return {};
}

}  // namespace perilune::control::privilege
