// SPDX-License-Identifier: Apache-2.0
// The server of one ublk queue (Documentation/block/ublk.rst): a command is outstanding on each tag; it ends
// when the kernel has a request, which a descriptor in shared memory tells; the answer goes back with the
// next command. A write's bytes are in the tag's buffer when the command ends, a read's are taken from there.
//
//   READ → read, WRITE → write, FLUSH → flush, DISCARD → discard, WRITE_ZEROES → zero; FUA as it is.
//
// Needs a loop that takes device commands (LoopOptions::device_commands), and is served on its thread. The
// buffers are memory that is touched as requests grow: queue_depth * max_request_bytes at most. No memory is
// allocated per request.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "attach/disk.hpp"
#include "attach/front_end.hpp"
#include "attach/ublk_abi.hpp"
#include "base/mapping.hpp"
#include "runtime/loop.hpp"
#include "runtime/posix/unique_fd.hpp"

namespace perilune::attach {

class UblkDisk final : public FrontEnd {
 public:
  // no_memory. `disk` outlives the UblkDisk.
  [[nodiscard]] static Result<std::unique_ptr<UblkDisk>> create(runtime::Loop& loop, Disk& disk);
  ~UblkDisk() override;

  // One descriptor: /dev/ublkcN. The device can be started once this has returned and the loop turns.
  [[nodiscard]] Status serve(std::vector<runtime::posix::UniqueFd> descriptors) override;
  void stop(Delegate<void()> drained) override;

  // The same with the descriptors of the queue in memory of the caller's: for tests.
  [[nodiscard]] Status serve_queue(int fd, const ublksrv_io_desc* descriptors);

 private:
  struct Tag : DiskRequest {
    UblkDisk* server = nullptr;
    std::uint16_t number = 0;
    bool outstanding = false;  // with the kernel
    std::array<std::uint8_t*, 1> buffer{};
    runtime::DeviceCommand command;

    void on_command(int result);
    void on_done(int error);
  };

  UblkDisk(runtime::Loop& loop, Disk& disk, Mapping buffers);
  void begin(Tag& tag);
  [[nodiscard]] bool hand_over(Tag& tag, std::uint32_t operation, std::int32_t result);
  void check_drained();
  void end_if_drained();

  runtime::Loop& loop_;
  Disk& disk_;
  Mapping buffers_;
  std::vector<Tag> tags_;
  runtime::posix::UniqueFd fd_;
  int queue_fd_ = -1;
  Mapping descriptor_memory_;  // the kernel's, and read-only
  const ublksrv_io_desc* descriptors_ = nullptr;
  std::uint32_t outstanding_ = 0;  // commands with the kernel
  std::uint32_t in_flight_ = 0;    // requests with the disk
  bool stopping_ = false;
  Delegate<void()> drained_;
  runtime::TurnHook drained_hook_;
};

}  // namespace perilune::attach
