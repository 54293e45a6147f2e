// SPDX-License-Identifier: Apache-2.0
// A block device of the host over any block::Channel, by one of three drivers of the kernel: ublk
// (/dev/ublkbN), its NBD client (/dev/nbdN), or a FUSE file that we serve and a loop device on it
// (/dev/loopN; DESIGN section 7). The device lives while the Attachment lives; a channel that keeps an
// operation pending (an initiator that is reconnecting) simply keeps the host's I/O pending.
//
// Thread: everything here, callbacks included, belongs to the loop's thread. That thread serves the device,
// so it makes no call that could wait for it: opening the device, ioctls, partition scans, mount and umount
// run in a helper process that holds no descriptor of our side, so that a kill -9 of this process always
// releases whoever waits for the device. Needs CAP_SYS_ADMIN, and what the driver needs: /dev/ublk-control
// and a loop made with LoopOptions::device_commands; nbd.ko; /dev/fuse and /dev/loop-control.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "base/block_op.hpp"
#include "base/result.hpp"
#include "runtime/loop.hpp"

namespace perilune::attach {

// automatic: the first of ublk, nbd, fuse that this machine has.
enum class Driver : std::uint8_t { automatic, fuse, nbd, ublk };
[[nodiscard]] std::string_view to_string(Driver driver) noexcept;  // "auto", "fuse", "nbd", "ublk"
[[nodiscard]] Result<Driver> parse_driver(std::string_view text);  // invalid_argument

struct AttachOptions {
  std::string name;  // what people call it, without secrets: iscsi://127.0.0.1/IQN/0, ram:64M, /srv/disk.img
  std::string target;  // IQN; empty for a local backing
  std::uint64_t lun = 0;
  std::string owner = "attach";  // who serves it and must be asked to end it: "attach" or "iscsid"
  Driver driver = Driver::automatic;
  bool read_only = false;  // in addition to what the channel's geometry says
  bool scan_partitions = true;
  bool direct_io =
      true;  // let the loop device bypass the page cache of the FUSE file, where the kernel allows
  std::uint32_t nbd_connections = 1;             // queues of an NBD device, at most 8
  std::string run_dir = "/run/perilune/attach";  // mount points and state files (0700)
  std::uint32_t pool_pages = 4096;  // payload memory, pages of BufferPool::page_size_bytes, touched as needed
};

enum class AttachState : std::uint8_t { starting, ready, detaching, detached, failed };
[[nodiscard]] std::string_view to_string(AttachState state) noexcept;

enum class DetachMode : std::uint8_t {
  refuse_if_used,  // busy when a file system, swap area, or mapped device uses the device; it stays attached
  force,           // unmounts what is mounted (lazily when it must), goes on when the last flush fails
};

struct AttachStatistics {
  std::uint64_t reads = 0;
  std::uint64_t writes = 0;
  std::uint64_t flushes = 0;
  std::uint64_t unmaps = 0;
  std::uint64_t write_zeroes = 0;
  std::uint64_t unaligned_writes = 0;  // those that needed read-modify-write
  std::uint64_t errors = 0;            // answered with an error
  std::uint32_t in_flight = 0;
};

class Attachment {
 public:
  using ReadyCallback = std::function<void(Result<std::string> device)>;  // "/dev/loop0"
  using DetachCallback = std::function<void(Status)>;

  // Never null. `ready` is called exactly once, from a later turn; after an Error nothing is left on the
  // host, the state is failed and the Attachment may be destroyed (also from inside the callback). `channel`
  // outlives the Attachment.
  [[nodiscard]] static std::unique_ptr<Attachment> start(runtime::Loop& loop, block::Channel& channel,
                                                         AttachOptions options, ReadyCallback ready);

  virtual ~Attachment() = default;  // precondition: state() is detached or failed

  // Flushes, takes the device away, unmounts. `done` is called exactly once, from a later turn. On an Error
  // (busy, io) the state is ready again and the device works on. Precondition: state() is ready.
  virtual void detach(DetachMode mode, DetachCallback done) = 0;

  [[nodiscard]] virtual AttachState state() const = 0;
  [[nodiscard]] virtual const std::string& device() const = 0;      // empty until ready
  [[nodiscard]] virtual Driver driver() const = 0;                  // automatic until it is known
  [[nodiscard]] virtual const std::string& state_file() const = 0;  // path
  [[nodiscard]] virtual bool direct_io() const = 0;                 // what the kernel granted
  [[nodiscard]] virtual AttachStatistics statistics() const = 0;
};

}  // namespace perilune::attach
