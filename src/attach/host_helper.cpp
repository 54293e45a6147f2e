// SPDX-License-Identifier: Apache-2.0
#include "attach/host_helper.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "attach/fuse_disk.hpp"
#include "attach/loop_device.hpp"
#include "attach/mounts.hpp"
#include "attach/state_file.hpp"
#include "base/assert.hpp"

namespace perilune::attach {

namespace {

// --- what the helper process does, request by request

Result<UniqueFd> do_mount(const HelperRequest& request) {
  if (auto written = write_record_text(request.record_path.data(), request.record.data()); !written) {
    return tl::unexpected(written.error());
  }
  if (::mkdir(request.mount_point.data(), 0700) != 0) return fail_errno(errno, request.mount_point.data());
  UniqueFd fuse(::open("/dev/fuse", O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!fuse.valid()) return fail_errno(errno, "/dev/fuse");
  char options[160];
  std::snprintf(options, sizeof options, "fd=%d,rootmode=%o,user_id=%u,group_id=%u,max_read=%u", fuse.get(),
                static_cast<unsigned>(S_IFDIR), ::geteuid(), ::getegid(), request.max_read_bytes);
  unsigned long flags = MS_NOSUID | MS_NODEV | MS_NOEXEC | MS_NOATIME;
  if (request.read_only) flags |= MS_RDONLY;
  const std::string type(fuse_type);
  if (::mount("perilune", request.mount_point.data(), type.c_str(), flags, options) != 0) {
    return fail_errno(errno, "mount of a FUSE file system");
  }
  return fuse;
}

Result<BoundLoop> do_bind(const HelperRequest& request) {
  LoopSettings settings;
  settings.block_size_bytes = request.block_size_bytes;
  settings.read_only = request.read_only;
  settings.scan_partitions = request.scan_partitions;
  settings.direct_io = request.direct_io;
  settings.rotational = request.rotational;
  settings.label = request.label.data();
  return bind_loop(std::string(request.mount_point.data()) + "/" + FuseDisk::file_name, settings);
}

Status unmount_users(int loop_number, bool force) {
  auto uses = uses_of_disk(loop_name(loop_number));
  if (!uses) return tl::unexpected(uses.error());
  std::string refusal;
  for (const Use& use : *uses) {
    if (force && use.kind == Use::Kind::mount) {
      if (::umount2(use.what.c_str(), 0) == 0 || ::umount2(use.what.c_str(), MNT_DETACH) == 0) continue;
    }
    refusal += (refusal.empty() ? "" : ", ") + use.describe();
  }
  if (!refusal.empty()) return fail(Errc::busy, refusal, EBUSY);
  return {};
}

// Somebody may have taken the loop device away from us (losetup -d) and given its number to another file.
bool owns_loop(const HelperRequest& request) {
  if (request.loop_number < 0 || !loop_is_bound(request.loop_number)) return false;
  const std::string file = std::string(request.mount_point.data()) + "/" + FuseDisk::file_name;
  return loop_backing_file(request.loop_number) == file ||
         loop_label(request.loop_number) == request.label.data();
}

void remove_mount(const HelperRequest& request) {
  if (::umount2(request.mount_point.data(), UMOUNT_NOFOLLOW) != 0 && errno == EBUSY) {
    static_cast<void>(::umount2(request.mount_point.data(), MNT_DETACH | UMOUNT_NOFOLLOW));
  }
  ::rmdir(request.mount_point.data());
  ::unlink(request.record_path.data());
}

Status do_detach(const HelperRequest& request) {
  if (owns_loop(request)) {
    if (auto unused = unmount_users(request.loop_number, request.force); !unused) return unused;
    const ReleaseMode mode = request.force ? ReleaseMode::force : ReleaseMode::exclusive;
    if (auto released = release_loop(request.loop_number, mode); !released) return released;
  }
  remove_mount(request);
  return {};
}

Status do_undo(const HelperRequest& request) {
  if (owns_loop(request)) static_cast<void>(release_loop(request.loop_number, ReleaseMode::force));
  remove_mount(request);
  return {};
}

void report(HelperReply& reply, const Error& error) {
  reply.failed = 1;
  reply.code = error.code;
  reply.os_errno = error.os_errno;
  const std::string_view message = std::string_view(error.message).substr(0, reply.message.size() - 1);
  static_cast<void>(HostHelper::put(reply.message, message));
}

UniqueFd serve(const HelperRequest& request, HelperReply& reply) {
  Status status;
  switch (request.kind) {
    case HelperRequest::Kind::mount: {
      auto fuse = do_mount(request);
      if (fuse) return std::move(*fuse);
      report(reply, fuse.error());
      return {};
    }
    case HelperRequest::Kind::bind: {
      auto bound = do_bind(request);
      if (bound) {
        reply.loop_number = bound->number;
        reply.direct_io = bound->direct_io;
      } else {
        report(reply, bound.error());
      }
      return {};
    }
    case HelperRequest::Kind::write_record:
      status = write_record_text(request.record_path.data(), request.record.data());
      break;
    case HelperRequest::Kind::detach:
      status = do_detach(request);
      break;
    case HelperRequest::Kind::undo:
      status = do_undo(request);
      break;
  }
  if (!status) report(reply, status.error());
  return {};
}

// --- messages; a descriptor may travel with a reply

bool send_reply(int socket, HelperReply& reply, int fd) {
  iovec iov{&reply, sizeof reply};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  if (fd >= 0) {
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof fd);
    std::memcpy(CMSG_DATA(header), &fd, sizeof fd);
  }
  return ::sendmsg(socket, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(sizeof reply);
}

ssize_t receive_reply(int socket, HelperReply& reply, UniqueFd& fd) {
  iovec iov{&reply, sizeof reply};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  msghdr message{};
  message.msg_iov = &iov;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  const ssize_t n = ::recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (n < 0) return -errno;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
      int received = -1;
      std::memcpy(&received, CMSG_DATA(header), sizeof received);
      fd = UniqueFd(received);
    }
  }
  return n;
}

[[noreturn]] void helper_main(int inherited_socket) {
  // Memory after fork() of a program with threads: glibc makes malloc usable in the child; nothing else that
  // takes locks is used here.
  const int null = ::open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3; ++fd) static_cast<void>(::dup2(null, fd));
  const int socket = 3;
  static_cast<void>(::dup2(inherited_socket, socket));
  static_cast<void>(::close_range(4, ~0u, 0));
  ::setsid();
  static_cast<void>(::chdir("/"));
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1, SIGUSR2})
    ::signal(signal, SIG_IGN);
  sigset_t none;
  sigemptyset(&none);
  static_cast<void>(::sigprocmask(SIG_SETMASK, &none, nullptr));
  static_cast<void>(::prctl(PR_SET_NAME, "perilune-host"));
  static HelperRequest request;
  for (;;) {
    const ssize_t n = ::recv(socket, &request, sizeof request, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n != static_cast<ssize_t>(sizeof request)) ::_exit(0);  // our server has gone
    HelperReply reply;
    const UniqueFd fd = serve(request, reply);
    if (!send_reply(socket, reply, fd.get())) ::_exit(0);
  }
}

}  // namespace

Result<std::unique_ptr<HostHelper>> HostHelper::start(runtime::Loop& loop, Answered answered) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
    return fail_errno(errno, "socketpair");
  UniqueFd ours(pair[0]), theirs(pair[1]);
  const pid_t child = ::fork();
  if (child < 0) return fail_errno(errno, "fork");
  if (child == 0) helper_main(theirs.get());
  std::unique_ptr<HostHelper> helper(new HostHelper(std::move(ours), child, answered));
  helper->watch_ =
      loop.watch_readable(helper->socket_.get(), Delegate<void()>::to<&HostHelper::on_readable>(*helper));
  if (helper->watch_ == nullptr) return fail(Errc::unsupported, "this event loop cannot watch descriptors");
  return helper;
}

HostHelper::~HostHelper() {
  watch_.reset();
  socket_.reset();
  // One that is at work may be waiting for our own device: it ends later, by itself. An idle one ends at
  // once.
  if (outstanding_) return;
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

void HostHelper::send(const HelperRequest& request) {
  PERILUNE_ASSERT(!outstanding_);
  outstanding_ = true;
  // One small message on an empty socket: never waits. When the helper has gone, the end of file answers.
  static_cast<void>(::send(socket_.get(), &request, sizeof request, MSG_NOSIGNAL | MSG_DONTWAIT));
}

void HostHelper::on_readable() {
  HelperReply reply;
  Answer answer;
  const ssize_t n = receive_reply(socket_.get(), reply, answer.fd);
  if (n == -EAGAIN || n == -EINTR) return;
  if (n != static_cast<ssize_t>(sizeof reply)) {
    watch_.reset();
    if (!outstanding_) return;
    answer.status = fail(Errc::internal, "the helper process for mounts and loop devices has gone");
  } else if (reply.failed != 0) {
    reply.message.back() = 0;
    answer.status = fail(reply.code, reply.message.data(), reply.os_errno);
  }
  answer.loop_number = reply.loop_number;
  answer.direct_io = reply.direct_io;
  outstanding_ = false;
  answered_(answer);  // may destroy this
}

}  // namespace perilune::attach
