// SPDX-License-Identifier: Apache-2.0
// The vocabulary of block devices: BlockOp, Geometry, Channel. Names of namespace block, kept in base/ so
// that the pure scsi/ folder can embed and submit operations without knowing backstores (block/backstore.hpp
// adds those).
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <span>

#include "base/delegate.hpp"
#include "base/file_op.hpp"
#include "base/intrusive_list.hpp"
#include "base/units.hpp"

namespace perilune::block {

enum class OpKind : std::uint8_t {
  read,
  write,
  flush,         // every write that ended before this is on stable media when it ends; lba and blocks unused
  unmap,         // deallocate; reads give zeroes afterwards when Geometry::unmap_zeroes
  write_zeroes,  // reads give zeroes afterwards; may deallocate when `may_unmap`
  query,  // what is known of lba, in `mapped`, and over how many of the blocks the same is, in `alike` (at
          // least one)
  change_key,  // Geometry::encrypted: nobody can read any more what is stored, once it has ended; reads give
               // anything. lba and blocks unused; nothing else is under way on the disk, on any channel.
               // Where it fails, that may be so or not
};

enum class OpStatus : std::uint8_t {
  ok,
  read_error,   // medium error: the data cannot be read
  write_error,  // medium error: the data may be old, new or mixed
  no_space,     // the backing file system is full; nothing else is wrong
  write_protected,
  not_ready,  // the device is gone, or the initiator's session is down for good
  out_of_range,
  unsupported,
  aborted,  // cancelled before it began
  // What the protection information of a block says is not what it should say; BlockOp::failed_lba tells of
  // which one.
  guard_failed,
  application_tag_failed,
  reference_tag_failed,
};

// What becomes of the protection information of the blocks (SBC-3 4.22), where a channel keeps any. Others do
// not look at it.
struct Protection {
  enum class Kind : std::uint8_t {
    hidden,   // `data` is user data alone: a write makes the protection information, a read checks it
    blank,    // the same; but a write or write_zeroes leaves none (FFFFFFFF_FFFFFFFFh), so that nothing is
              // checked later
    carried,  // `data` has that of each block, 8 bytes, right behind the block
  };
  static constexpr std::uint8_t guard = 1, application_tag = 2, reference_tag = 4;
  Kind kind = Kind::hidden;
  std::uint8_t unchecked = 0;  // of these three; the others are checked as far as it is known what they
                               // should be
  // The command told what it expects (the CDBs of 32 bytes): the application tag in the bits of the mask, and
  // the reference tag of a block, which is reference_delta more than the low 32 bits of its LBA.
  bool expected = false;
  std::uint16_t expected_tag = 0;
  std::uint16_t expected_mask = 0;
  std::uint32_t reference_delta = 0;
};

// One operation. Embedded in its owner's task, alive until it ends. A Channel never allocates for it.
// While it is pending, its list node belongs to the channel that holds it.
struct BlockOp : ListNode<BlockOp> {
  OpKind kind = OpKind::read;
  bool fua = false;        // write, unmap, write_zeroes: on stable media before the end
  bool may_unmap = false;  // write_zeroes
  bool atomic = false;     // write: whole or not at all, whatever fails; at most Geometry::max_atomic_blocks
  Lba lba;
  BlockCount blocks;
  std::span<const iovec> data;  // read and write: exactly blocks * block_size bytes, at most 64 + 1 iovecs;
                                // stays put
  Delegate<void(BlockOp&)> done;

  Protection protection;
  Lba failed_lba;  // see OpStatus

  bool mapped = true;  // query: false when the block is known to be deallocated, and so reads as zeroes if
                       // unmap_zeroes
  BlockCount alike;

  OpStatus status = OpStatus::ok;
  int os_errno = 0;  // when a system call failed

  runtime::FileOp file_op;           // for the backend at the bottom
  std::uint64_t backend_space[6] = {};
  std::uint64_t filter_space[12] = {};  // three words for each of four filters
};

// True facts only: what is advertised on the wire is derived from this.
struct Geometry {
  std::uint32_t block_size_bytes = 512;            // logical
  // Of each block the last so many bytes (8) are room for protection information, which is scsi's to fill and
  // to check (scsi/protected_channel.hpp): then blocks are of 520 or 4104 bytes here.
  std::uint32_t protection_bytes = 0;
  std::uint32_t physical_block_size_bytes = 4096;
  BlockCount blocks;
  bool write_cache = true;          // a write that ended may be lost by power failure until flush or FUA
  bool fua = true;                  // honoured natively, or by a flush that the channel adds
  bool thin = false;                // unmap deallocates
  bool unmap_zeroes = false;        // unmapped blocks read as zeroes (LBPRZ)
  bool read_only = false;
  bool rotational = false;
  std::uint32_t unmap_granularity_blocks = 1;
  std::uint32_t max_transfer_blocks = 0;           // 0: no own limit
  std::uint32_t memory_alignment_bytes = 1;        // what Channel wants of iovecs to avoid a copy
  bool lends_memory = false;                       // lend() works (RAM)
  bool reads_at_once = false;                      // read_at_once() may succeed (a file in the page cache)
  bool writes_at_once = false;                     // write_at_once() may (a file on tmpfs)
  bool in_memory = false;                          // the blocks are gone with the process
  bool encrypted = false;                          // what is stored; change_key works
  // A write of so many blocks by one operation that is `atomic` is there as a whole or not at all, whatever
  // fails (0: not promised).
  std::uint32_t max_atomic_blocks = 0;
};

class Channel {
 public:
  virtual ~Channel() = default;  // precondition: nothing outstanding
  [[nodiscard]] virtual const Geometry& geometry() const = 0;
  // True: ended, op.status tells, op.done is NOT called. False: pending, op.done will be called from a later
  // point of the loop, on this thread. Never recurses into the caller.
  [[nodiscard]] virtual bool submit(BlockOp& op) = 0;
  // The memory in which these blocks live, contiguous, or nullptr. The caller may read it, or, when
  // for_write, fill it instead of submitting a write. Valid while the channel lives.
  [[nodiscard]] virtual std::uint8_t* lend(Lba lba, BlockCount blocks, bool for_write) noexcept {
    (void)lba; (void)blocks; (void)for_write;
    return nullptr;
  }
  // What submit() would do, for who wants it now or not at all: true when all of these blocks are in `to`, or
  // written from `from`, as a write that is not durable is. False: submit() it, which also finds out why; of
  // a write any part may be done. Blocks lie within the geometry. Memory of any alignment.
  [[nodiscard]] virtual bool read_at_once(Lba lba, BlockCount blocks, std::uint8_t* to) {
    (void)lba;
    (void)blocks;
    (void)to;
    return false;
  }
  [[nodiscard]] virtual bool write_at_once(Lba lba, BlockCount blocks, const std::uint8_t* from) {
    (void)lba;
    (void)blocks;
    (void)from;
    return false;
  }
};

}  // namespace perilune::block
