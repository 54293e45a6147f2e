// SPDX-License-Identifier: Apache-2.0
#include "runtime/uring/ring.hpp"

#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

namespace perilune::runtime::uring {
namespace {

constexpr unsigned max_registered_files = 4096;

constexpr std::uint8_t operations_used[] = {
    IORING_OP_READV,  IORING_OP_WRITEV,     IORING_OP_READ,      IORING_OP_WRITE,        IORING_OP_READ_FIXED,
    IORING_OP_FSYNC,  IORING_OP_WRITE_FIXED, IORING_OP_FALLOCATE, IORING_OP_RECV,         IORING_OP_RECVMSG,
    IORING_OP_SEND,   IORING_OP_SENDMSG,    IORING_OP_ACCEPT,    IORING_OP_CONNECT,      IORING_OP_POLL_ADD,
    IORING_OP_ASYNC_CANCEL,
};

constexpr std::uint8_t registrations_used[] = {
    IORING_REGISTER_FILES_UPDATE, IORING_REGISTER_BUFFERS,      IORING_REGISTER_RING_FDS,
    IORING_UNREGISTER_RING_FDS,   IORING_REGISTER_ENABLE_RINGS,
};

void say(const UringOptions& options, const std::string& line) {
  if (options.notice) options.notice(line);
}

}  // namespace

Result<std::unique_ptr<Ring>> Ring::create(const UringOptions& options) {
  std::unique_ptr<Ring> ring(new Ring);
  if (auto status = ring->set_up(options); !status) return tl::unexpected(status.error());
  return ring;
}

Status Ring::set_up(const UringOptions& options) {
  constexpr unsigned common = IORING_SETUP_R_DISABLED | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
  constexpr unsigned attempts[] = {
      common | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
          IORING_SETUP_TASKRUN_FLAG,
      common | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
      common,
  };
  int error = 0;
  for (const unsigned flags : attempts) {
    io_uring_params params{};
    params.flags = flags;
    params.cq_entries = options.entries * 4;
    error = -io_uring_queue_init_params(options.entries, &ring_, &params);
    if (error == 0) {
      if (flags != attempts[0])
        say(options, "io_uring: this kernel has no deferred task work; running without it");
      break;
    }
    if (error != EINVAL) break;
  }
  if (error == ENOSYS || error == EPERM || error == EACCES || error == EINVAL) {
    return fail(Errc::unsupported, std::string("io_uring cannot be used here: ") + std::strerror(error),
                error);
  }
  if (error != 0) return fail_errno(error, "io_uring_setup");
  made_ = true;
  constexpr unsigned needed =
      IORING_FEAT_EXT_ARG | IORING_FEAT_NODROP | IORING_FEAT_FAST_POLL | IORING_FEAT_SUBMIT_STABLE;
  if ((ring_.features & needed) != needed)
    return fail(Errc::unsupported, "io_uring of this kernel is too old");

  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  const auto slots = static_cast<unsigned>(std::min<rlim_t>(files.rlim_cur, max_registered_files));
  if (io_uring_register_files_sparse(&ring_, slots) == 0) {
    for (unsigned i = slots; i > 0; --i) free_slots_.push_back(static_cast<int>(i - 1));
  } else {
    say(options, "io_uring: files cannot be registered; using plain descriptors");
  }
  if (options.restrict_operations) restrict_operations(options);
  return {};
}

void Ring::restrict_operations(const UringOptions& options) {
  std::vector<io_uring_restriction> rules;
  const auto allow = [&rules](std::uint8_t op) {
    io_uring_restriction rule{};
    rule.opcode = IORING_RESTRICTION_SQE_OP;
    rule.sqe_op = op;
    rules.push_back(rule);
  };
  for (const std::uint8_t op : operations_used) allow(op);
  if (options.device_commands) allow(IORING_OP_URING_CMD);
  for (const std::uint8_t op : registrations_used) {
    io_uring_restriction rule{};
    rule.opcode = IORING_RESTRICTION_REGISTER_OP;
    rule.register_op = op;
    rules.push_back(rule);
  }
  io_uring_restriction flags{};
  flags.opcode = IORING_RESTRICTION_SQE_FLAGS_ALLOWED;
  flags.sqe_flags = IOSQE_FIXED_FILE | IOSQE_BUFFER_SELECT;
  rules.push_back(flags);
  const long result = ::syscall(__NR_io_uring_register, ring_.ring_fd, IORING_REGISTER_RESTRICTIONS,
                                rules.data(), static_cast<unsigned>(rules.size()));
  if (result != 0)
    say(options, std::string("io_uring: operations cannot be restricted: ") + std::strerror(errno));
}

Ring::~Ring() {
  if (made_) io_uring_queue_exit(&ring_);
}

Status Ring::enable() {
  // By the raw call: liburing 2.3 declares the wrapper, but its shared library does not export it.
  if (::syscall(__NR_io_uring_register, ring_.ring_fd, IORING_REGISTER_ENABLE_RINGS, nullptr, 0) != 0) {
    return fail_errno(errno, "io_uring: enable");
  }
  enabled_ = true;
  return {};
}

void Ring::register_with_thread() noexcept {
  thread_registered_ = io_uring_register_ring_fd(&ring_) == 1;  // saves a little per call; failure changes
                                                                // nothing
}

void Ring::unregister_from_thread() noexcept {
  if (thread_registered_) (void)io_uring_unregister_ring_fd(&ring_);
  thread_registered_ = false;
}

io_uring_sqe& Ring::entry(Kind kind, const void* object) {
  io_uring_sqe* sqe = backlog_.empty() ? io_uring_get_sqe(&ring_) : nullptr;
  if (sqe == nullptr && enabled_) {
    (void)submit();
    if (backlog_.empty()) sqe = io_uring_get_sqe(&ring_);
  }
  if (sqe == nullptr) sqe = &backlog_.emplace_back();
  sqe->user_data = user_data(kind, object);
  return *sqe;
}

void Ring::cancel(Kind kind, const void* object) {
  io_uring_sqe& sqe = entry(Kind::ignored, nullptr);
  io_uring_prep_cancel64(&sqe, user_data(kind, object), 0);
}

void Ring::refill_from_backlog() {
  if (backlog_.empty()) [[likely]] return;
  std::size_t moved = 0;
  while (moved < backlog_.size()) {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    if (sqe == nullptr) break;
    *sqe = backlog_[moved++];
  }
  backlog_.erase(backlog_.begin(), backlog_.begin() + static_cast<std::ptrdiff_t>(moved));
}

int Ring::submit() {
  refill_from_backlog();
  ++enters_;
  const int result = io_uring_submit_and_get_events(&ring_);
  return result < 0 ? result : 0;
}

void Ring::hand_over() {
  refill_from_backlog();
  ++enters_;
  (void)io_uring_submit(&ring_);  // what it does not take now stays prepared
}

int Ring::submit_and_wait(std::optional<Duration> timeout) {
  refill_from_backlog();
  if (!backlog_.empty()) return submit();
  ++enters_;
  io_uring_cqe* cqe = nullptr;
  __kernel_timespec ts{};
  if (timeout) {
    const auto ns = std::max<std::int64_t>(timeout->count(), 0);
    ts.tv_sec = ns / 1'000'000'000;
    ts.tv_nsec = ns % 1'000'000'000;
  }
  const int result = io_uring_submit_and_wait_timeout(&ring_, &cqe, 1, timeout ? &ts : nullptr, nullptr);
  return result < 0 ? result : 0;
}

bool Ring::something_ready() const noexcept {
  return io_uring_cq_ready(&ring_) != 0 ||
         (IO_URING_READ_ONCE(*ring_.sq.kflags) & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

io_uring_cqe Ring::take_completion() noexcept {
  const unsigned head = *ring_.cq.khead;
  const io_uring_cqe* slot = &ring_.cq.cqes[head & ring_.cq.ring_mask];
  io_uring_cqe cqe{};
  cqe.user_data = slot->user_data;
  cqe.res = slot->res;
  cqe.flags = slot->flags;
  io_uring_cq_advance(&ring_, 1);
  return cqe;
}

int Ring::take_slot(int fd) noexcept {
  if (free_slots_.empty()) return -1;
  const int slot = free_slots_.back();
  if (io_uring_register_files_update(&ring_, static_cast<unsigned>(slot), &fd, 1) != 1) return -1;
  free_slots_.pop_back();
  return slot;
}

void Ring::drop_slot(int slot) noexcept {
  if (slot < 0) return;
  const int none = -1;
  if (io_uring_register_files_update(&ring_, static_cast<unsigned>(slot), &none, 1) == 1)
    free_slots_.push_back(slot);
}

int Ring::register_region(MutableBytes region) {
  std::vector<iovec> chunks;
  for (std::size_t at = 0; at < region.size(); at += fixed_chunk_bytes) {
    chunks.push_back({region.data() + at, std::min(fixed_chunk_bytes, region.size() - at)});
  }
  return io_uring_register_buffers(&ring_, chunks.data(), static_cast<unsigned>(chunks.size()));
}

}  // namespace perilune::runtime::uring
