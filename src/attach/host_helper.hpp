// SPDX-License-Identifier: Apache-2.0
// The process that does for an attachment what its reactor must never do: mount, open the served file, loop
// ioctls and the partition scan, umount. It has a fixed set of requests, one at a time, and hands the
// descriptor of /dev/fuse over, so that it may become the privileged one of the two.
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
#include <string_view>

#include "attach/unique_fd.hpp"
#include "base/delegate.hpp"
#include "base/result.hpp"
#include "runtime/loop.hpp"

namespace perilune::attach {

struct HelperRequest {
  enum class Kind : std::uint32_t {
    mount,  // make the folders, write the record, mount; answers with the descriptor
    bind,   // loop device on the mounted file
    write_record,
    detach,  // free the loop device, umount, remove folder and record
    undo,    // the same after a start that failed, by force, with what there is
  };
  Kind kind = Kind::mount;
  std::int32_t loop_number = -1;
  std::uint32_t block_size_bytes = 512;
  std::uint32_t max_read_bytes = 0;
  bool read_only = false;
  bool scan_partitions = false;
  bool direct_io = false;
  bool rotational = false;
  bool force = false;
  std::array<char, 64> label{};
  std::array<char, 512> mount_point{};
  std::array<char, 512> record_path{};
  std::array<char, 8192> record{};
};

struct HelperReply {
  std::uint32_t failed = 0;
  Errc code = Errc::internal;
  std::int32_t os_errno = 0;
  std::int32_t loop_number = -1;
  bool direct_io = false;
  std::array<char, 1024> message{};
};

class HostHelper {
 public:
  struct Answer {
    Status status;
    int loop_number = -1;
    bool direct_io = false;
    UniqueFd fd;
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
  HostHelper(UniqueFd socket, pid_t pid, Answered answered)
      : socket_(std::move(socket)), pid_(pid), answered_(answered) {}
  void on_readable();

  UniqueFd socket_;
  pid_t pid_;
  Answered answered_;
  std::unique_ptr<runtime::FdWatch> watch_;
  bool outstanding_ = false;
};

}  // namespace perilune::attach
