// SPDX-License-Identifier: Apache-2.0
#include "runtime/posix/forked_helper.hpp"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

namespace perilune::runtime::posix {
namespace {

constexpr int place_of_socket = 3;

void take_place(int socket, const char* name) {
  const int null = ::open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3; ++fd) static_cast<void>(::dup2(null, fd));
  static_cast<void>(::dup2(socket, place_of_socket));
  static_cast<void>(::close_range(place_of_socket + 1, ~0u, 0));
  static_cast<void>(::setsid());
  static_cast<void>(::chdir("/"));
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1, SIGUSR2})
    std::signal(signal, SIG_IGN);
  sigset_t none;
  sigemptyset(&none);
  static_cast<void>(::sigprocmask(SIG_SETMASK, &none, nullptr));
  static_cast<void>(::prctl(PR_SET_NAME, name));
}

}  // namespace

Result<ForkedHelper> fork_helper(const char* name, const std::function<void(int socket)>& serve) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
    return fail_errno(errno, "socketpair");
  UniqueFd ours(pair[0]), theirs(pair[1]);
  if (::fcntl(ours.get(), F_SETFL, O_NONBLOCK) != 0) return fail_errno(errno, "fcntl");
  const pid_t child = ::fork();
  if (child < 0) return fail_errno(errno, "fork");
  if (child == 0) {
    take_place(theirs.get(), name);
    serve(place_of_socket);
    ::_exit(0);
  }
  return ForkedHelper{std::move(ours), child};
}

}  // namespace perilune::runtime::posix
