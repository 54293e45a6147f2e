// SPDX-License-Identifier: Apache-2.0
#include "passthrough/delivery.hpp"

#include <algorithm>
#include <cerrno>

namespace perilune::passthrough {
namespace {

using Delivery = scsi::PassthroughCommand::Delivery;

// include/scsi/scsi_status.h of the kernel.
enum : std::uint16_t {
  did_ok = 0x00,
  did_no_connect = 0x01,
  did_bus_busy = 0x02,
  did_time_out = 0x03,
  did_bad_target = 0x04,
  did_abort = 0x05,
  did_parity = 0x06,
  did_reset = 0x08,
  did_soft_error = 0x0b,
  did_imm_retry = 0x0c,
  did_requeue = 0x0d,
  did_transport_disrupted = 0x0e,
  did_transport_failfast = 0x0f,
  did_nexus_failure = 0x11,
  did_transport_marginal = 0x14,
};
constexpr std::uint16_t driver_timeout = 0x06;
constexpr std::uint16_t driver_reason = 0x0f;
constexpr std::uint8_t check_condition = 0x02;

Delivery of_errno(int os_errno) noexcept {
  switch (os_errno) {
    case ENODEV:
    case ENXIO:
      return Delivery::unreachable;
    case EAGAIN:
    case EBUSY:
    case EDOM:  // the sg driver: too many at once on this descriptor
    case EINTR:
    case ENOMEM:
      return Delivery::busy;
    case ETIMEDOUT:
      return Delivery::timed_out;
    default:
      return Delivery::failed;
  }
}

Delivery of_host(std::uint16_t host_status) noexcept {
  switch (host_status) {
    case did_ok:
      return Delivery::answered;
    case did_no_connect:
    case did_bad_target:
    case did_transport_failfast:
    case did_transport_marginal:
      return Delivery::unreachable;
    case did_bus_busy:
    case did_soft_error:
    case did_imm_retry:
    case did_requeue:
    case did_transport_disrupted:
      return Delivery::busy;
    case did_time_out:
      return Delivery::timed_out;
    case did_abort:
    case did_reset:
      return Delivery::aborted;
    case did_parity:
      return Delivery::damaged;
    case did_nexus_failure:
      return Delivery::conflict;
    default:
      return Delivery::failed;
  }
}

}  // namespace

void judge(const SgResult& result, scsi::PassthroughCommand& command) noexcept {
  command.status = 0;
  command.sense_length = 0;
  command.transferred_bytes = 0;
  if (result.os_errno != 0) {
    command.delivery = of_errno(result.os_errno);
    return;
  }
  command.delivery = of_host(result.host_status);
  const auto status = static_cast<std::uint8_t>(result.status & 0x7e);
  // Sense data is the device's word, whatever the adapter thinks of how the command ended.
  const bool has_sense = status == check_condition && result.sense_bytes != 0;
  if (has_sense) command.delivery = Delivery::answered;
  if (command.delivery == Delivery::answered && !has_sense &&
      (result.driver_status & driver_reason) == driver_timeout) {
    command.delivery = Delivery::timed_out;
  }
  if (command.delivery != Delivery::answered) return;
  command.status = status;
  command.sense_length =
      static_cast<std::uint8_t>(std::min<std::size_t>(result.sense_bytes, command.sense.size()));
  const std::int64_t bytes = command.bytes;
  // A negative residual: more was there than was asked for. One that is larger than the transfer: nothing
  // came.
  command.transferred_bytes =
      static_cast<std::uint32_t>(bytes - std::clamp<std::int64_t>(result.residual, 0, bytes));
}

std::chrono::milliseconds timeout_of(std::uint8_t peripheral_device_type, Bytes cdb) noexcept {
  using namespace std::chrono_literals;
  const std::uint8_t opcode = cdb.empty() ? std::uint8_t{0} : cdb[0];
  switch (peripheral_device_type) {
    case 0x01:  // tape: positions, erases, loads
      switch (opcode) {
        case 0x01:
        case 0x04:
        case 0x11:
        case 0x13:
        case 0x19:
        case 0x1b:
        case 0x2b:
        case 0x91:
        case 0x92:
          return 14'000s;
        default:
          return 900s;
      }
    case 0x08:
      return opcode == 0x07 || opcode == 0x37 ? 3600s : 900s;  // changer: INITIALIZE ELEMENT STATUS
    default:
      break;
  }
  switch (opcode) {
    case 0x04:  // FORMAT UNIT
    case 0x48:  // SANITIZE
    case 0xa1:
      return 24h;  // BLANK
    case 0x1d:
      return 7200s;  // SEND DIAGNOSTIC: self-tests
    case 0x1b:       // START STOP UNIT
    case 0x2f:       // VERIFY, SYNCHRONIZE CACHE, WRITE SAME, UNMAP, WRITE BUFFER, CLOSE TRACK SESSION
    case 0x35:
    case 0x3b:
    case 0x41:
    case 0x42:
    case 0x5b:
    case 0x8f:
    case 0x91:
    case 0x93:
    case 0xaf:
      return 300s;
    default:
      return 60s;
  }
}

}  // namespace perilune::passthrough
