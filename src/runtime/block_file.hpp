// SPDX-License-Identifier: Apache-2.0
// A regular file or block device as completions, many outstanding at once. One loop's thread.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>
#include <string>

#include "base/bytes.hpp"
#include "base/delegate.hpp"
#include "base/file_op.hpp"
#include "base/intrusive_list.hpp"
#include "base/result.hpp"
#include "base/units.hpp"

namespace perilune::runtime {

struct FileProperties {
  std::uint64_t size_bytes = 0;
  std::uint32_t memory_alignment_bytes = 1;   // of buffers; > 1 when opened O_DIRECT
  std::uint32_t offset_alignment_bytes = 1;   // of offsets and lengths; > 1 when opened O_DIRECT
  std::uint32_t discard_granularity_bytes = 0; // 0: discard is not possible
  std::uint32_t physical_block_bytes = 512;
  bool is_block_device = false;
  bool direct = false;
  bool read_only = false;
  bool rotational = false;
  bool device_writes_through = false;         // a block device without a volatile write cache
  bool reads_at_once = false;                 // read_at_once() may succeed (a page cache)
  bool writes_at_once = false;                // write_at_once() may (tmpfs)
};

class BlockFile {
 public:
  virtual ~BlockFile() = default;  // precondition: nothing outstanding
  [[nodiscard]] virtual const FileProperties& properties() const = 0;

  // Each returns false when the operation is pending (op.done will be called from a later point of the loop),
  // true when it ended at once: then `result` holds the outcome and op.done is NOT called. iovecs are copied
  // or consumed by the call; the memory they name stays put until the end. At most 65 iovecs (BlockOp).
  [[nodiscard]] virtual bool read(FileOp& op, ByteOffset offset, std::span<const iovec> iov, int& result) = 0;
  // durable: the data (and what is needed to find it again) is on stable media before the operation ends
  // (RWF_DSYNC).
  [[nodiscard]] virtual bool write(FileOp& op, ByteOffset offset, std::span<const iovec> iov, bool durable,
                                   int& result) = 0;
  // The same for who wants it now or not at all: true when all of it is there, or written, when it returns.
  // False: it would have had to wait, or went wrong, or nobody can tell; of a write any part may be done. Ask
  // with an operation then.
  [[nodiscard]] virtual bool read_at_once(ByteOffset offset, MutableBytes to) {
    (void)offset;
    (void)to;
    return false;
  }
  [[nodiscard]] virtual bool write_at_once(ByteOffset offset, Bytes from) {
    (void)offset;
    (void)from;
    return false;
  }
  // Everything that ended before this call is on stable media when it ends (fdatasync).
  [[nodiscard]] virtual bool sync(FileOp& op, int& result) = 0;
  // Deallocates; reads give zeroes afterwards (FALLOC_FL_PUNCH_HOLE, BLKDISCARD with zeroing guarantees
  // only).
  [[nodiscard]] virtual bool punch(FileOp& op, ByteOffset offset, ByteCount length, int& result) = 0;
  // Reads give zeroes afterwards, space stays allocated where the file system can (FALLOC_FL_ZERO_RANGE).
  [[nodiscard]] virtual bool zero(FileOp& op, ByteOffset offset, ByteCount length, int& result) = 0;
  // Whether `offset` lies in a hole, and how far that reaches within the range, in op.extent (SEEK_DATA,
  // SEEK_HOLE). Space that is reserved and was never written counts as a hole. A file that cannot tell says
  // that all is allocated.
  [[nodiscard]] virtual bool extent(FileOp& op, ByteOffset offset, ByteCount length, int& result) {
    (void)offset;
    op.extent = {.allocated = true, .length_bytes = length.value()};
    result = 0;
    return true;
  }
};

struct OpenOptions {
  bool read_only = false;
  bool prefer_direct = true;  // O_DIRECT where the file system allows it
};

}  // namespace perilune::runtime
