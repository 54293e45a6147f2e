// SPDX-License-Identifier: Apache-2.0
#include "control/privilege/helper_process.hpp"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/openat2.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include "control/privilege/capabilities.hpp"
#include "control/privilege/system_call_filter.hpp"
#include "runtime/posix/descriptor_message.hpp"

namespace perilune::control::privilege {

using runtime::posix::receive_with_descriptors;
using runtime::posix::send_with_descriptors;
using runtime::posix::UniqueFd;

namespace {

constexpr unsigned sg_major = 21;  // Linux: Documentation/admin-guide/devices.txt

tl::unexpected<Error> refuse(const char* why) { return fail(Errc::permission, why); }

UniqueFd open_below(int folder, const std::string& path, int flags, std::uint64_t resolve) {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC);
  how.mode = (flags & O_CREAT) != 0 ? 0600 : 0;
  how.resolve = resolve | RESOLVE_NO_MAGICLINKS;
  return UniqueFd(static_cast<int>(::syscall(__NR_openat2, folder, path.c_str(), &how, sizeof how)));
}

// The administrator names the roots, so links on the way to them are theirs.
UniqueFd open_root(const std::string& root) { return open_below(AT_FDCWD, root, O_PATH | O_DIRECTORY, 0); }

constexpr std::uint64_t within = RESOLVE_BENEATH;
constexpr std::uint64_t without_links = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS;

// Everybody's right to say that it is no program: what cron, a shell or the loader would run is executable or
// hidden.
Status is_disk_file(const struct stat& info) {
  if (!S_ISREG(info.st_mode)) return refuse("is not a regular file");
  if ((info.st_mode & (S_IXUSR | S_IXGRP | S_IXOTH | S_ISUID | S_ISGID)) != 0) return refuse("is executable");
  if (info.st_nlink != 1) return refuse("has more than one name");
  return {};
}

bool takes_scsi_commands(dev_t device) {
  if (major(device) == sg_major) return true;
  const std::string link =
      "/sys/dev/char/" + std::to_string(major(device)) + ":" + std::to_string(minor(device)) + "/subsystem";
  std::array<char, 256> target{};
  const ssize_t length = ::readlinkat(AT_FDCWD, link.c_str(), target.data(), target.size());
  if (length <= 0) return false;
  return std::string_view(target.data(), static_cast<std::size_t>(length)).ends_with("/bsg");
}

Status is_served(const Place& place, const struct stat& info) {
  if (!place.is_device) return is_disk_file(info);
  if (S_ISBLK(info.st_mode)) return {};
  if (S_ISCHR(info.st_mode) && takes_scsi_commands(info.st_rdev)) return {};
  return refuse("is neither a block device nor one that takes SCSI commands");
}

// The same open file, by the kernel's own name for it: what was examined is what is opened.
Result<UniqueFd> open_again(int fd, int flags) {
  const std::string name = "/proc/self/fd/" + std::to_string(fd);
  UniqueFd again(::openat(AT_FDCWD, name.c_str(), (flags & ~O_NOFOLLOW) | O_CLOEXEC | O_NOCTTY));
  if (!again) return fail_errno(errno, "");
  return again;
}

Result<UniqueFd> do_open(const Place& place, int flags) {
  const UniqueFd root = open_root(place.root);
  if (!root) return fail_errno(errno, "");
  // O_PATH: to open some devices does something.
  const UniqueFd found =
      open_below(root.get(), place.below, O_PATH, place.is_device ? within : without_links);
  if (!found) {
    if (errno == ELOOP || errno == EXDEV)
      return refuse("leads over a symbolic link, which the root helper does not follow");
    return fail_errno(errno, "");
  }
  struct stat info {};
  if (::fstat(found.get(), &info) != 0) return fail_errno(errno, "");
  if (Status status = is_served(place, info); !status) return tl::unexpected(status.error());
  // A block device that is written to is claimed, so that nobody writes to what is mounted.
  const bool claim = S_ISBLK(info.st_mode) && (flags & O_ACCMODE) != O_RDONLY;
  return open_again(found.get(), claim ? flags | O_EXCL : flags);
}

Result<UniqueFd> do_reopen(int carried, int flags) {
  struct stat info {};
  const int has = ::fcntl(carried, F_GETFL);
  if (has < 0 || ::fstat(carried, &info) != 0) return fail_errno(errno, "");
  if ((has & O_PATH) != 0 || (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode)))
    return refuse("is no open disk");
  if ((has & O_ACCMODE) != O_RDWR && (flags & O_ACCMODE) != (has & O_ACCMODE))
    return refuse("would get more rights than it has");
  return open_again(carried, flags);
}

Result<UniqueFd> do_create(const Place& place, const HelperPolicy& policy) {
  if (place.is_device) return refuse("is in the folder of devices");
  const UniqueFd root = open_root(place.root);
  if (!root) return fail_errno(errno, "");
  UniqueFd made = open_below(root.get(), place.below, O_RDWR | O_CREAT | O_EXCL, without_links);
  if (!made) return fail_errno(errno, "");
  if (::fchown(made.get(), policy.uid, policy.gid) != 0) return fail_errno(errno, "");
  return made;
}

Status do_remove(const Place& place, const HelperPolicy& policy) {
  if (place.is_device) return refuse("is in the folder of devices");
  const UniqueFd root = open_root(place.root);
  if (!root) return fail_errno(errno, "");
  const auto slash = place.below.rfind('/');
  const std::string name = slash == std::string::npos ? place.below : place.below.substr(slash + 1);
  const std::string folder = slash == std::string::npos ? "." : place.below.substr(0, slash);
  const UniqueFd parent = open_below(root.get(), folder, O_PATH | O_DIRECTORY, without_links);
  if (!parent) return fail_errno(errno, "");
  struct stat info {};
  if (::fstatat(parent.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0) return fail_errno(errno, "");
  if (Status status = is_disk_file(info); !status) return status;
  if (info.st_uid != policy.uid) return refuse("belongs to another user");
  if (::unlinkat(parent.get(), name.c_str(), 0) != 0) return fail_errno(errno, "");
  return {};
}

Status do_bind(const Request& request, int carried) {
  int domain = 0, protocol = 0;
  socklen_t length = sizeof domain;
  if (::getsockopt(carried, SOL_SOCKET, SO_DOMAIN, &domain, &length) != 0) return refuse("is no socket");
  length = sizeof protocol;
  if (::getsockopt(carried, SOL_SOCKET, SO_PROTOCOL, &protocol, &length) != 0) return refuse("is no socket");
  if (domain != request.address.ss_family || protocol != IPPROTO_TCP)
    return refuse("is no TCP socket of this family");
  sockaddr_storage address = request.address;
  if (::bind(carried, reinterpret_cast<const sockaddr*>(&address), request.address_bytes) != 0)
    return fail_errno(errno, "");
  return {};
}

Result<UniqueFd> nothing_or(const Status& status) {
  if (!status) return tl::unexpected(status.error());
  return UniqueFd();
}

void answer(int socket, const Request& request, std::size_t bytes, std::vector<UniqueFd>& carried,
            const HelperPolicy& policy) {
  Reply reply;
  reply.number = bytes >= sizeof request.number ? request.number : 0;
  Result<UniqueFd> outcome = nothing_or(check(request, bytes, carried.size()));
  if (outcome) outcome = perform(request, carried.empty() ? -1 : carried.front().get(), policy);
  if (!outcome) {
    reply.failed = 1;
    reply.code = outcome.error().code;
    reply.os_errno = outcome.error().os_errno;
    put(reply.message, outcome.error().message);
  }
  const int answered = outcome && *outcome ? outcome->get() : -1;
  if (!send_with_descriptors(socket, &reply, sizeof reply, {&answered, answered < 0 ? 0U : 1U})) ::_exit(0);
}

// In the order in which each still may do the next.
void confine() {
  constexpr int kept[] = {CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_CHOWN, CAP_NET_BIND_SERVICE};
  if (!keep_capabilities(kept)) ::_exit(1);
  static_cast<void>(::prctl(PR_SET_DUMPABLE, 0));
  static_cast<void>(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
  static_cast<void>(filter_system_calls(Confined::helper));  // where the kernel cannot, the rest holds
}

}  // namespace

Result<UniqueFd> perform(const Request& request, int carried, const HelperPolicy& policy) {
  if (request.kind == Request::Kind::reopen) return do_reopen(carried, request.flags);
  if (request.kind == Request::Kind::bind) return nothing_or(do_bind(request, carried));
  const bool reads = request.kind == Request::Kind::open && (request.flags & O_ACCMODE) == O_RDONLY;
  if (const auto secret = place_of(request.path.data(), policy.secrets); secret && reads)
    return do_open(*secret, request.flags);
  const auto place = place_of(request.path.data(), policy.roots);
  if (!place) return tl::unexpected(place.error());
  if (request.kind == Request::Kind::create) return do_create(*place, policy);
  if (request.kind == Request::Kind::remove) return nothing_or(do_remove(*place, policy));
  return do_open(*place, request.flags);
}

void run_helper(int socket, const HelperPolicy& policy) {
  static_cast<void>(::umask(077));
  confine();
  static Request request;
  for (;;) {
    std::vector<UniqueFd> carried;
    request = Request{};
    const ssize_t bytes = receive_with_descriptors(socket, &request, sizeof request, carried);
    if (bytes == -EINTR) continue;
    if (bytes <= 0) ::_exit(0);  // the server has gone
    answer(socket, request, static_cast<std::size_t>(bytes), carried, policy);
  }
}

}  // namespace perilune::control::privilege
