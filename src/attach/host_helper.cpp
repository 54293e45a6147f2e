// SPDX-License-Identifier: Apache-2.0
#include "attach/host_helper.hpp"

#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "attach/host_driver.hpp"
#include "attach/mounts.hpp"
#include "attach/nbd_disk.hpp"
#include "attach/state_file.hpp"
#include "base/assert.hpp"
#include "runtime/posix/descriptor_message.hpp"
#include "runtime/posix/forked_helper.hpp"

namespace perilune::attach {

using runtime::posix::receive_with_descriptors;
using runtime::posix::send_with_descriptors;
using runtime::posix::UniqueFd;

static_assert(runtime::posix::max_message_descriptors >= max_nbd_connections);

namespace {

// --- what the helper process does, request by request

// Which drivers are tried, and in which order: docs/performance/attach.md has the measurements.
std::vector<Driver> candidates(const HelperRequest& request) {
  if (request.driver != Driver::automatic) return {request.driver};
  std::vector<Driver> drivers;
  if (request.device_commands) drivers.push_back(Driver::ublk);
  drivers.push_back(Driver::nbd);
  drivers.push_back(Driver::fuse);
  return drivers;
}

Status do_prepare(const HelperRequest& request, HelperReply& reply, std::vector<UniqueFd>& hand_over) {
  if (auto written = write_record_text(request.record_path.data(), request.record.data()); !written)
    return written;
  Status outcome;
  for (const Driver driver : candidates(request)) {
    hand_over.clear();
    reply.driver = driver;
    outcome = host_driver(driver).prepare(request, reply, hand_over);
    if (outcome) return outcome;
  }
  return outcome;  // of the last one, which is the only one or FUSE
}

Status do_bind(const HelperRequest& request, HelperReply& reply) {
  HostDriver& driver = host_driver(request.driver);
  if (auto bound = driver.bind(request, reply); !bound) return bound;
  static_cast<void>(HostHelper::put(reply.device, "/dev/" + driver.disk_name(reply.number)));
  return {};
}

Status unmount_users(const std::string& disk, bool force) {
  auto uses = uses_of_disk(disk);
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

Status do_detach(const HelperRequest& request) {
  HostDriver& driver = host_driver(request.driver);
  if (!driver.owns(request)) return {};
  if (auto unused = unmount_users(driver.disk_name(request.number), request.force); !unused) return unused;
  return driver.release(request, request.force ? ReleaseMode::force : ReleaseMode::exclusive);
}

Status do_undo(const HelperRequest& request) {
  HostDriver& driver = host_driver(request.driver);
  if (driver.owns(request)) static_cast<void>(driver.release(request, ReleaseMode::force));
  return {};
}

Status do_remove(const HelperRequest& request) {
  if (request.driver != Driver::automatic) host_driver(request.driver).remove(request);
  ::unlink(request.record_path.data());
  return {};
}

void report(HelperReply& reply, const Error& error) {
  reply.failed = 1;
  reply.code = error.code;
  reply.os_errno = error.os_errno;
  const std::string_view message = std::string_view(error.message).substr(0, reply.message.size() - 1);
  static_cast<void>(HostHelper::put(reply.message, message));
}

Status perform(const HelperRequest& request, HelperReply& reply, std::vector<UniqueFd>& hand_over) {
  switch (request.kind) {
    case HelperRequest::Kind::prepare:
      return do_prepare(request, reply, hand_over);
    case HelperRequest::Kind::bind:
      return do_bind(request, reply);
    case HelperRequest::Kind::write_record:
      return write_record_text(request.record_path.data(), request.record.data());
    case HelperRequest::Kind::detach:
      return do_detach(request);
    case HelperRequest::Kind::undo:
      return do_undo(request);
    case HelperRequest::Kind::remove:
      return do_remove(request);
  }
  return {};
}

[[noreturn]] void helper_main(int socket) {
  static HelperRequest request;
  for (;;) {
    const ssize_t n = ::recv(socket, &request, sizeof request, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n != static_cast<ssize_t>(sizeof request)) ::_exit(0);  // our server has gone
    HelperReply reply;
    std::vector<UniqueFd> hand_over;
    if (auto done = perform(request, reply, hand_over); !done) {
      hand_over.clear();
      report(reply, done.error());
    }
    std::vector<int> handed;
    for (const UniqueFd& each : hand_over) handed.push_back(each.get());
    if (!send_with_descriptors(socket, &reply, sizeof reply, handed)) ::_exit(0);
  }
}

}  // namespace

HostDriver& host_driver(Driver driver) {
  switch (driver) {
    case Driver::nbd:
      return nbd_host();
    case Driver::ublk:
      return ublk_host();
    case Driver::automatic:
    case Driver::fuse:
      break;
  }
  return fuse_host();
}

void load_module(const char* name) {
  if (::access((std::string("/sys/module/") + name).c_str(), F_OK) == 0) return;
  for (const char* program : {"/sbin/modprobe", "/usr/sbin/modprobe"}) {
    if (::access(program, X_OK) != 0) continue;
    const char* const words[] = {program, "-q", name, nullptr};
    static_cast<void>(run_program(words));
    return;
  }
}

Result<std::unique_ptr<HostHelper>> HostHelper::start(runtime::Loop& loop, Answered answered) {
  auto forked = runtime::posix::fork_helper("perilune-host", helper_main);
  if (!forked) return tl::unexpected(forked.error());
  std::unique_ptr<HostHelper> helper(new HostHelper(std::move(forked->socket), forked->pid, answered));
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
  const ssize_t n = receive_with_descriptors(socket_.get(), &reply, sizeof reply, answer.descriptors);
  if (n == -EAGAIN || n == -EINTR) return;
  if (n != static_cast<ssize_t>(sizeof reply)) {
    watch_.reset();
    if (!outstanding_) return;
    answer.status = fail(Errc::internal, "the helper process for block devices has gone");
  } else if (reply.failed != 0) {
    reply.message.back() = 0;
    answer.status = fail(reply.code, reply.message.data(), reply.os_errno);
  }
  answer.number = reply.number;
  answer.driver = reply.driver;
  answer.direct_io = reply.direct_io;
  reply.device.back() = 0;
  answer.device = reply.device.data();
  outstanding_ = false;
  answered_(answer);  // may destroy this
}

}  // namespace perilune::attach
