// SPDX-License-Identifier: Apache-2.0
#include "passthrough/sg_node.hpp"

#include <linux/bsg.h>
#include <scsi/sg.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <vector>

#include "base/assert.hpp"
#include "base/limits.hpp"

namespace perilune::passthrough {
namespace {

constexpr std::size_t max_pieces = 128;
constexpr int no_escalate = 0x100;  // SG_SCSI_RESET_NO_ESCALATE; sg.h of the C library lacks it
constexpr unsigned in_order =
    0x10;  // SG_FLAG_Q_AT_TAIL: behind the commands that wait already; sg.h of the C library lacks it

int reset_device(int fd) noexcept {
  int what = SG_SCSI_RESET_DEVICE | no_escalate;
  return ::ioctl(fd, SG_SCSI_RESET, &what) == 0 ? 0 : errno;
}

unsigned milliseconds_of(const SgRequest& request) noexcept {
  return static_cast<unsigned>(request.timeout.count());
}

class Version3 final : public SgNode {
 public:
  explicit Version3(runtime::posix::UniqueFd fd) : fd_(std::move(fd)) {}

  SgResult execute(const SgRequest& request) override {
    std::array<iovec, max_pieces> pieces;
    const std::size_t count = trimmed(request, pieces);
    sg_io_hdr_t header{};
    header.interface_id = 'S';
    header.dxfer_direction = direction_of(request.direction);
    header.cmdp = const_cast<std::uint8_t*>(request.cdb.data());  // the kernel only reads it
    header.cmd_len = static_cast<unsigned char>(request.cdb.size());
    header.sbp = request.sense.data();
    header.mx_sb_len = static_cast<unsigned char>(std::min<std::size_t>(request.sense.size(), 255));
    header.timeout = milliseconds_of(request);
    header.flags = in_order;
    if (request.direction != Direction::none) {
      header.dxfer_len = request.bytes;
      header.iovec_count = count > 1 ? static_cast<unsigned short>(count) : static_cast<unsigned short>(0);
      header.dxferp = count > 1 ? static_cast<void*>(pieces.data()) : pieces[0].iov_base;
    }
    if (::ioctl(fd_.get(), SG_IO, &header) != 0) return {.os_errno = errno};
    return {.status = header.status,
            .host_status = header.host_status,
            .driver_status = header.driver_status,
            .sense_bytes = header.sb_len_wr,
            .residual = header.resid};
  }

  int reset() override { return reset_device(fd_.get()); }

 private:
  static int direction_of(Direction direction) noexcept {
    switch (direction) {
      case Direction::out:
        return SG_DXFER_TO_DEV;
      case Direction::in:
        return SG_DXFER_FROM_DEV;
      case Direction::none:
        break;
    }
    return SG_DXFER_NONE;
  }

  // Exactly `bytes` of the data: the kernel takes no more pieces than that fills.
  static std::size_t trimmed(const SgRequest& request, std::array<iovec, max_pieces>& out) noexcept {
    std::size_t count = 0;
    std::size_t left = request.bytes;
    for (const iovec& piece : request.data) {
      if (left == 0 || count == out.size()) break;
      out[count] = {piece.iov_base, std::min(piece.iov_len, left)};
      left -= out[count++].iov_len;
    }
    PERILUNE_ASSERT(left == 0);
    return count;
  }

  runtime::posix::UniqueFd fd_;
};
static_assert(sizeof(sg_iovec_t) == sizeof(iovec) &&
              offsetof(sg_iovec_t, iov_len) == offsetof(iovec, iov_len));
static_assert(limits::max_transfer_bytes / 16384 <= max_pieces);

class Version4 final : public SgNode {
 public:
  Version4(runtime::posix::UniqueFd fd, runtime::posix::UniqueFd reset_fd)
      : fd_(std::move(fd)), reset_fd_(std::move(reset_fd)) {}

  SgResult execute(const SgRequest& request) override {
    thread_local std::vector<std::uint8_t> flat;  // grows to the largest command that this thread has carried
    if (flat.size() < request.bytes) flat.resize(request.bytes);
    if (request.direction == Direction::out) copy(request, flat, true);
    sg_io_v4 header{};
    header.guard = 'Q';
    header.request = address(request.cdb.data());
    header.request_len = static_cast<std::uint32_t>(request.cdb.size());
    header.response = address(request.sense.data());
    header.max_response_len = static_cast<std::uint32_t>(request.sense.size());
    header.timeout = milliseconds_of(request);
    if (request.direction == Direction::out) {
      header.dout_xfer_len = request.bytes;
      header.dout_xferp = address(flat.data());
    } else if (request.direction == Direction::in) {
      std::fill_n(flat.begin(), request.bytes, std::uint8_t{0});
      header.din_xfer_len = request.bytes;
      header.din_xferp = address(flat.data());
    }
    if (::ioctl(fd_.get(), SG_IO, &header) != 0) return {.os_errno = errno};
    if (request.direction == Direction::in) copy(request, flat, false);
    return {.status = static_cast<std::uint8_t>(header.device_status),
            .host_status = static_cast<std::uint16_t>(header.transport_status),
            .driver_status = static_cast<std::uint16_t>(header.driver_status),
            .sense_bytes = header.response_len,
            .residual = request.direction == Direction::out ? header.dout_resid : header.din_resid};
  }

  int reset() override { return reset_fd_ ? reset_device(reset_fd_.get()) : ENOTTY; }

 private:
  static std::uint64_t address(const void* pointer) noexcept {
    return reinterpret_cast<std::uintptr_t>(pointer);
  }

  static void copy(const SgRequest& request, std::vector<std::uint8_t>& flat, bool into_flat) noexcept {
    std::size_t at = 0;
    for (const iovec& piece : request.data) {
      const std::size_t step = std::min<std::size_t>(piece.iov_len, request.bytes - at);
      if (step == 0) break;
      if (into_flat)
        std::memcpy(flat.data() + at, piece.iov_base, step);
      else
        std::memcpy(piece.iov_base, flat.data() + at, step);
      at += step;
    }
  }

  runtime::posix::UniqueFd fd_;
  runtime::posix::UniqueFd reset_fd_;
};

}  // namespace

std::unique_ptr<SgNode> make_sg_node(runtime::posix::UniqueFd fd) {
  return std::make_unique<Version3>(std::move(fd));
}
std::unique_ptr<SgNode> make_bsg_node(runtime::posix::UniqueFd fd, runtime::posix::UniqueFd reset_fd) {
  return std::make_unique<Version4>(std::move(fd), std::move(reset_fd));
}

}  // namespace perilune::passthrough
