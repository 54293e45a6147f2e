// SPDX-License-Identifier: Apache-2.0
// Writes of a file or a device that a loss of power does not tear (WRITE ATOMIC, SBC-4 4.29): a double-write
// journal.
//
// What is to be written is first written to a slot of the journal, with a header that says where it belongs
// and a sum over both, and is durable there; then it is written in its place, and is durable there; then the
// header is taken back, durably. Only then has the write ended. So at any moment the disk has the old blocks,
// or the journal has all of the new ones, or the disk has them; and an entry that is still there belongs to a
// write that had not ended, so that nobody has written over it since. Before a disk is opened, the entries
// that are left of it are written in their places.
//
// One journal serves all disks of a process. Slots are taken by the loops that write
// (block/atomic_lanes.hpp).
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/bytes.hpp"
#include "base/limits.hpp"
#include "base/result.hpp"
#include "base/units.hpp"
#include "runtime/loop.hpp"

namespace perilune::block {

class AtomicLanes;

// What one slot says: so many bytes belong at `offset` of the disk with this number.
struct AtomicEntry {
  std::uint64_t disk = 0;  // atomic_disk_number()
  std::uint64_t generation = 0;
  ByteOffset offset;
  std::uint32_t length_bytes = 0;
  std::uint32_t payload_crc = 0;  // CRC32C
};

inline constexpr std::uint32_t atomic_header_bytes = 4096;
// As long as a transfer may be: 2048 blocks of 512 bytes, or 256 of 4096, each with 8 bytes of protection
// information.
inline constexpr std::uint32_t atomic_payload_bytes = limits::max_transfer_bytes / 512 * 520;
inline constexpr std::uint64_t atomic_slot_bytes = atomic_header_bytes + atomic_payload_bytes;
inline constexpr std::uint32_t atomic_slots = 192;
inline constexpr std::uint64_t atomic_journal_bytes = atomic_slots * atomic_slot_bytes;

// The most blocks that one write may have, on a disk whose blocks are so long where they are stored.
[[nodiscard]] constexpr std::uint32_t max_atomic_blocks(std::uint32_t block_bytes,
                                                        std::uint32_t protection_bytes) noexcept {
  return limits::max_transfer_bytes / (block_bytes - protection_bytes);
}

// A disk in the eyes of the journal: the same file at the same place. A number that does not change over
// restarts; `inode` 0: it has none that does not.
[[nodiscard]] std::uint64_t atomic_disk_number(const std::string& identity, std::uint64_t inode);

using AtomicHeader = std::array<std::uint8_t, atomic_header_bytes>;
void encode_atomic_header(const AtomicEntry& entry, AtomicHeader& out) noexcept;
// nullopt: no entry stands here, or one that was not written whole.
[[nodiscard]] std::optional<AtomicEntry> decode_atomic_header(const AtomicHeader& header) noexcept;

// What a journal or a disk lies in, before anything is served from it. Calls block.
class AtomicMedium {
 public:
  virtual ~AtomicMedium() = default;
  [[nodiscard]] virtual Status read(ByteOffset offset, MutableBytes out) = 0;  // behind the end: zeroes
  [[nodiscard]] virtual Status write_durably(ByteOffset offset, Bytes data) = 0;
  [[nodiscard]] virtual std::uint64_t size_bytes() const = 0;
};

class AtomicJournal {
 public:
  // `path`: the journal as loops open it; `medium`: the same. Reads what is in it. Control path.
  [[nodiscard]] static Result<std::shared_ptr<AtomicJournal>> create(std::string path,
                                                                     std::unique_ptr<AtomicMedium> medium,
                                                                     bool in_memory);
  // A file in the folder, made where it is missing. The caller sees to it that no other process uses the
  // folder.
  [[nodiscard]] static Result<std::shared_ptr<AtomicJournal>> open(const std::string& folder);

  // Writes what is left of writes to this disk. Before the disk is opened for anything else, and not while it
  // is open. Blocks; any thread. Where it fails, the disk must not be served: a write of it may be torn.
  [[nodiscard]] Status recover(std::uint64_t disk, AtomicMedium& medium);

  // What channels on `loop` write through; the same for all of them. Fails when no slot is left: all belong
  // to disks that have not been opened since they were in the middle of a write.
  [[nodiscard]] Result<std::shared_ptr<AtomicLanes>> lanes(runtime::Loop& loop);

  // The file system goes with the power (tmpfs): good for disks that do too.
  [[nodiscard]] bool in_memory() const noexcept { return in_memory_; }

  // For AtomicLanes.
  [[nodiscard]] std::uint64_t next_generation() noexcept {
    return generation_.fetch_add(1, std::memory_order_relaxed);
  }
  void give_back(const std::vector<std::uint32_t>& slots);

 private:
  AtomicJournal(std::string path, std::unique_ptr<AtomicMedium> medium, bool in_memory);
  [[nodiscard]] Status look_at_all();
  [[nodiscard]] Status recover_slot(std::uint32_t slot, const AtomicEntry& entry, AtomicMedium& medium);
  [[nodiscard]] std::vector<std::uint32_t> take_slots(std::size_t wanted);

  const std::string path_;
  const bool in_memory_;
  std::atomic<std::uint64_t> generation_{1};
  std::mutex mutex_;  // of all below
  std::unique_ptr<AtomicMedium> medium_;
  std::map<std::uint32_t, AtomicEntry> left_;  // by slot
  std::array<bool, atomic_slots> taken_{};
  std::map<runtime::Loop*, std::weak_ptr<AtomicLanes>> lanes_;
  std::weak_ptr<AtomicJournal> self_;
};

// A file or device, through its page cache. `fd` is open for reading and writing, without O_DIRECT, and the
// medium's then.
[[nodiscard]] std::unique_ptr<AtomicMedium> make_file_medium(int fd, std::string name,
                                                             std::uint64_t size_bytes);

}  // namespace perilune::block
