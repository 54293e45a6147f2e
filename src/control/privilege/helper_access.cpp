// SPDX-License-Identifier: Apache-2.0
#include "control/privilege/helper_access.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <string_view>
#include <utility>

#include "runtime/posix/descriptor_message.hpp"
#include "runtime/posix/forked_helper.hpp"

namespace perilune::control::privilege {

using runtime::posix::receive_with_descriptors;
using runtime::posix::send_with_descriptors;
using runtime::posix::UniqueFd;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;

namespace {

constexpr milliseconds patience_for_paths{30'000};
constexpr milliseconds patience_of_loops{5'000};
constexpr std::string_view own_descriptor = "/proc/self/fd/";

tl::unexpected<Error> too_late(const std::string& name) {
  return fail(Errc::timed_out, name + ": the root helper has not answered in time");
}

tl::unexpected<Error> gone(const std::string& name) {
  return fail(Errc::io,
              name + ": the root helper has ended; what needs it waits for a restart of the daemon");
}

// What the helper says of a path is a reason alone, or an errno.
tl::unexpected<Error> error_of(Reply& reply, const std::string& name) {
  reply.message.back() = 0;
  if (reply.os_errno != 0) return fail_errno(reply.os_errno, name);
  return fail(reply.code, name + " " + reply.message.data());
}

}  // namespace

Result<std::unique_ptr<HelperAccess>> HelperAccess::start(const HelperPolicy& policy) {
  auto helper =
      runtime::posix::fork_helper("perilune-root", [&policy](int socket) { run_helper(socket, policy); });
  if (!helper) return tl::unexpected(helper.error());
  return std::unique_ptr<HelperAccess>(new HelperAccess(std::move(helper->socket), helper->pid));
}

HelperAccess::~HelperAccess() {
  socket_.reset();
  // One that waits for a disk ends when that has answered; an idle one at once.
  for (int tries = 0; tries < 100; ++tries) {
    if (::waitpid(pid_, nullptr, WNOHANG) != 0) return;
    ::poll(nullptr, 0, 1);
  }
}

Result<UniqueFd> HelperAccess::ask(Request& request, int carried, milliseconds patience,
                                   const std::string& name) {
  const auto deadline = Clock::now() + patience;
  {
    std::unique_lock lock(mutex_);
    if (!turn_.wait_until(lock, deadline, [this] { return !busy_; })) return too_late(name);
    busy_ = true;
  }
  auto answer = exchange(request, carried, deadline, name);
  {
    const std::lock_guard lock(mutex_);
    busy_ = false;
  }
  turn_.notify_one();
  return answer;
}

Result<UniqueFd> HelperAccess::exchange(Request& request, int carried, Clock::time_point deadline,
                                        const std::string& name) {
  request.number = ++last_number_;
  if (!send_with_descriptors(socket_.get(), &request, sizeof request, {&carried, carried < 0 ? 0U : 1U}))
    return gone(name);
  for (;;) {
    const auto left = std::chrono::ceil<milliseconds>(deadline - Clock::now());
    pollfd waiting{socket_.get(), POLLIN, 0};
    const int ready = ::poll(&waiting, 1, static_cast<int>(std::max<std::int64_t>(left.count(), 0)));
    if (ready < 0 && errno == EINTR) continue;
    if (ready <= 0) return too_late(name);
    Reply reply;
    std::vector<UniqueFd> received;
    const ssize_t bytes = receive_with_descriptors(socket_.get(), &reply, sizeof reply, received);
    if (bytes == -EINTR || bytes == -EAGAIN) continue;
    if (bytes != static_cast<ssize_t>(sizeof reply)) return gone(name);
    if (reply.number != request.number)
      continue;  // of one that was not waited for; its descriptor closes here
    if (reply.failed != 0) return error_of(reply, name);
    return received.empty() ? UniqueFd() : std::move(received.front());
  }
}

Result<UniqueFd> HelperAccess::ask_about(Request::Kind kind, const std::string& path, int flags) {
  Request request;
  request.kind = kind;
  request.flags = flags;
  if (path.size() >= request.path.size()) return fail_errno(ENAMETOOLONG, path);
  put(request.path, path);
  auto answer = ask(request, -1, patience_for_paths, path);
  const bool wants = kind != Request::Kind::remove;
  if (answer && wants && !*answer)
    return fail(Errc::internal, path + ": the root helper has answered without a descriptor");
  return answer;
}

Result<UniqueFd> HelperAccess::open(const std::string& path, int flags) {
  if (!path.starts_with(own_descriptor)) return ask_about(Request::Kind::open, path, flags);
  int fd = -1;
  const char* const end = path.data() + path.size();
  if (std::from_chars(path.data() + own_descriptor.size(), end, fd).ptr != end || fd < 0)
    return fail_errno(EBADF, path);
  Request request;
  request.kind = Request::Kind::reopen;
  request.flags = flags;
  auto answer = ask(request, fd, patience_of_loops, path);
  if (answer && !*answer)
    return fail(Errc::internal, path + ": the root helper has answered without a descriptor");
  return answer;
}

Result<UniqueFd> HelperAccess::create(const std::string& path) {
  return ask_about(Request::Kind::create, path, 0);
}

Status HelperAccess::remove(const std::string& path) {
  const auto answer = ask_about(Request::Kind::remove, path, 0);
  return answer ? Status() : tl::unexpected(answer.error());
}

Status HelperAccess::bind(int socket, const sockaddr* address, socklen_t length) {
  Request request;
  request.kind = Request::Kind::bind;
  if (length > sizeof request.address) return fail_errno(EINVAL, "bind");
  request.address_bytes = length;
  std::memcpy(&request.address, address, length);
  const auto answer = ask(request, socket, patience_of_loops, "listen");
  return answer ? Status() : tl::unexpected(answer.error());
}

}  // namespace perilune::control::privilege
