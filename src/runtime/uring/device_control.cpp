// SPDX-License-Identifier: Apache-2.0
#include "runtime/uring/device_control.hpp"

#include <fcntl.h>
#include <liburing.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstring>

#include "base/assert.hpp"
#include "runtime/posix/unique_fd.hpp"

namespace perilune::runtime::uring {
namespace {

class RingControl final : public DeviceControl {
 public:
  explicit RingControl(posix::UniqueFd fd) noexcept : fd_(std::move(fd)) {}
  ~RingControl() override {
    if (made_) io_uring_queue_exit(&ring_);
  }

  Status set_up() {
    io_uring_params params{};
    params.flags = IORING_SETUP_SQE128 | IORING_SETUP_R_DISABLED;
    if (const int error = -io_uring_queue_init_params(2, &ring_, &params); error != 0) {
      return fail(Errc::unsupported, std::string("no ring for device commands: ") + std::strerror(error),
                  error);
    }
    made_ = true;
    io_uring_restriction rule{};
    rule.opcode = IORING_RESTRICTION_SQE_OP;
    rule.sqe_op = IORING_OP_URING_CMD;
    if (register_with(IORING_REGISTER_RESTRICTIONS, &rule, 1) != 0 ||
        register_with(IORING_REGISTER_ENABLE_RINGS, nullptr, 0) != 0) {
      return fail_errno(errno, "io_uring: a ring for device commands alone");
    }
    return {};
  }

  int run(std::uint32_t operation, std::span<const std::uint8_t> argument) override {
    PERILUNE_ASSERT(argument.size() <= max_argument_bytes);
    io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
    PERILUNE_ASSERT(sqe != nullptr);
    auto* const bytes = reinterpret_cast<std::uint8_t*>(sqe);
    std::memset(bytes, 0, 2 * sizeof(io_uring_sqe));
    sqe->opcode = IORING_OP_URING_CMD;
    sqe->fd = fd_.get();
    sqe->cmd_op = operation;
    std::memcpy(bytes + offsetof(io_uring_sqe, cmd), argument.data(), argument.size());
    int result = io_uring_submit_and_wait(&ring_, 1);
    io_uring_cqe* cqe = nullptr;
    // A signal may end the wait, never the command.
    while (result >= 0 || result == -EINTR) {
      result = io_uring_wait_cqe(&ring_, &cqe);
      if (result == 0) break;
    }
    if (cqe == nullptr) return result;
    result = cqe->res;
    io_uring_cqe_seen(&ring_, cqe);
    return result;
  }

 private:
  // By the raw call: liburing 2.3 declares these wrappers, but its shared library does not export them all.
  int register_with(unsigned operation, const void* argument, unsigned count) const noexcept {
    return static_cast<int>(::syscall(__NR_io_uring_register, ring_.ring_fd, operation, argument, count));
  }

  posix::UniqueFd fd_;
  io_uring ring_{};
  bool made_ = false;
};

}  // namespace

Result<std::unique_ptr<DeviceControl>> DeviceControl::open(const std::string& path) {
  posix::UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd) return fail_errno(errno, path);
  auto control = std::make_unique<RingControl>(std::move(fd));
  if (auto made = control->set_up(); !made) return tl::unexpected(made.error());
  return control;
}

}  // namespace perilune::runtime::uring
