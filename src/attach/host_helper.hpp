// SPDX-License-Identifier: Apache-2.0
// The process that does for an attachment what its reactor must never do: mount, open the served file, loop
// ioctls, netlink and ublk's control commands, the partition scan, umount. It has a fixed set of requests,
// one at a time, and hands over the descriptors that the server needs, so that it may become the privileged
// one of the two.
//
// Why a process and not a thread: a thread that waits in the kernel for an answer of its own process keeps
// the process's descriptor table alive when that is killed, /dev/fuse with it, and so waits for ever. This
// process holds none of our descriptors. It ends when the other end of its socket is closed; signals of a
// terminal do not reach it.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "attach/attach.hpp"
#include "base/delegate.hpp"
#include "base/result.hpp"
#include "runtime/loop.hpp"
#include "runtime/posix/unique_fd.hpp"

namespace perilune::attach {

struct HelperRequest {
  enum class Kind : std::uint32_t {
    prepare,  // write the record, make what the server needs; answers with its descriptors and the driver
    bind,     // the block device appears
    write_record,
    detach,  // take the block device from the host
    undo,    // the same after a start that failed, by force, with what there is
    remove,  // what is left when nobody serves any more, and the record
  };
  struct Device {
    std::uint64_t size_bytes = 0;
    std::uint32_t block_size_bytes = 512;
    std::uint32_t physical_block_size_bytes = 512;
    std::uint32_t discard_granularity_bytes = 0;  // 0: no discards
    std::uint32_t connections = 1;                // NBD
    std::uint16_t nbd_flags = 0;
    bool read_only = false;
    bool write_cache = false;
    bool fua = false;
    bool rotational = false;
    bool scan_partitions = false;
    bool direct_io = false;
  };
  Kind kind = Kind::prepare;
  Driver driver = Driver::fuse;  // automatic for prepare alone: the first of those that work
  bool device_commands = false;  // prepare: the server's loop could serve ublk
  bool force = false;
  std::int32_t number = -1;  // of the device
  std::int32_t server = 0;   // process
  Device device;
  std::array<char, 64> label{};
  std::array<char, 512> mount_point{};
  std::array<char, 512> record_path{};
  std::array<char, 8192> record{};
};

struct HelperReply {
  std::uint32_t failed = 0;
  Errc code = Errc::internal;
  std::int32_t os_errno = 0;
  std::int32_t number = -1;
  Driver driver = Driver::fuse;
  bool direct_io = false;
  std::array<char, 64> device{};  // "/dev/loop0", by bind
  std::array<char, 1024> message{};
};

class HostHelper {
 public:
  struct Answer {
    Status status;
    int number = -1;
    Driver driver = Driver::fuse;
    bool direct_io = false;
    std::string device;
    std::vector<runtime::posix::UniqueFd> descriptors;
  };
  // Called on the loop's thread, once per request. When the helper dies, the outstanding request ends with an
  // error.
  using Answered = Delegate<void(Answer&)>;

  // Forks; loop's thread.
  [[nodiscard]] static Result<std::unique_ptr<HostHelper>> start(runtime::Loop& loop, Answered answered);
  ~HostHelper();  // the helper ends by itself, when what it does has ended
  HostHelper(const HostHelper&) = delete;
  HostHelper& operator=(const HostHelper&) = delete;

  // Precondition: no request is outstanding, and not gone().
  void send(const HelperRequest& request);

  // It died (somebody killed it): a new one must be started.
  [[nodiscard]] bool gone() const noexcept { return watch_ == nullptr; }

  // Copies text with a terminating NUL; false when it does not fit.
  template <std::size_t N>
  [[nodiscard]] static bool put(std::array<char, N>& to, std::string_view text) noexcept {
    if (text.size() >= N) return false;
    to.fill(0);
    text.copy(to.data(), text.size());
    return true;
  }

 private:
  HostHelper(runtime::posix::UniqueFd socket, pid_t pid, Answered answered)
      : socket_(std::move(socket)), pid_(pid), answered_(answered) {}
  void on_readable();

  runtime::posix::UniqueFd socket_;
  pid_t pid_;
  Answered answered_;
  std::unique_ptr<runtime::FdWatch> watch_;
  bool outstanding_ = false;
};

}  // namespace perilune::attach
