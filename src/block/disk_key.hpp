// SPDX-License-Identifier: Apache-2.0
// The key of an encrypted disk, and the file in the state folder that keeps it (mode 0600).
//
// The file has two slots. A new key is written, durably, to the slot that does not hold the present one, with
// a higher number; then the present one is overwritten, durably. So after a crash at any moment the file
// holds the old key or the new one, or both: then the newer one counts, and the old one is overwritten before
// the disk is opened. What was encrypted under a key that is gone can be read by nobody. That the bytes of
// the old key are gone is as true as the storage below overwrites what is overwritten: keep the state folder
// on no file system that makes snapshots of it.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "crypto/secret.hpp"

namespace perilune::block {

inline constexpr std::uint32_t key_slot_bytes = 4096;
inline constexpr std::uint32_t key_slots = 2;
inline constexpr std::uint64_t key_file_bytes = std::uint64_t{key_slots} * key_slot_bytes;

struct KeySlot {
  std::uint64_t disk = 0;    // number of the disk that it is for
  std::uint64_t number = 0;  // of the key: 1 and up
  crypto::Secret key;        // crypto::Xts::key_bytes
};

// `out` has key_slot_bytes.
void encode_key_slot(const KeySlot& slot, MutableBytes out) noexcept;
// nullopt: no key stands here, or one that was not written whole.
[[nodiscard]] std::optional<KeySlot> decode_key_slot(Bytes slot);

// Shared by the channels of a disk, on any threads.
class DiskKey {
 public:
  // The file of the disk with this identity (Backstore::identity()).
  [[nodiscard]] static std::string path_of(const std::string& folder, const std::string& identity);
  [[nodiscard]] static bool exists(const std::string& folder, const std::string& identity);
  // Opens that file. Where it holds no key yet, `blank` is asked whether the disk holds nothing, and the
  // first key is made and is durable; what `blank` fails with, this fails with. Blocks. Other errors:
  // permission (others may read the key), io.
  [[nodiscard]] static Result<std::shared_ptr<DiskKey>> open(const std::string& folder,
                                                             const std::string& identity,
                                                             const std::function<Status()>& blank);
  // What the bytes of such a file say; fails with not_found when there is no key of this disk in them.
  [[nodiscard]] static Result<std::shared_ptr<DiskKey>> read(std::string path, std::uint64_t disk,
                                                             Bytes file);

  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] std::uint64_t disk() const noexcept { return disk_; }
  // Of the present key; changes with it. 0: it is not known any more which key counts, and the disk is not to
  // be used.
  [[nodiscard]] std::uint64_t number() const noexcept { return number_.load(std::memory_order_acquire); }
  [[nodiscard]] crypto::Secret key() const;
  [[nodiscard]] std::uint32_t slot() const;  // where it stands
  // A change was interrupted: the old key stands in the other slot, still.
  [[nodiscard]] bool old_key_is_left() const noexcept { return old_key_is_left_; }

  // A change, by one channel at a time (false: another is at it); the new key has a number that none had
  // before. The channel writes the file; adopt() when the new key, in the other slot, is durable; lose() when
  // it is unknown what the file says.
  [[nodiscard]] bool begin_change(std::uint64_t& next_number);
  void end_change();
  void adopt(KeySlot slot);
  void lose() noexcept { number_.store(0, std::memory_order_release); }

 private:
  DiskKey(std::string path, KeySlot slot, std::uint32_t index, bool old_key_is_left);

  const std::string path_;
  const std::uint64_t disk_;
  const bool old_key_is_left_;
  std::atomic<std::uint64_t> number_;
  mutable std::mutex mutex_;  // of all below
  crypto::Secret key_;
  std::uint32_t slot_;
  std::uint64_t last_number_;  // that any key had, or may have in the file
  bool changing_ = false;
};

}  // namespace perilune::block
