// SPDX-License-Identifier: Apache-2.0
// From the words of a command line to a backstore.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "block/backstore.hpp"
#include "runtime/posix/host_access.hpp"

namespace perilune::block {

class AtomicJournal;

struct BackstoreOptions {
  std::uint32_t block_size_bytes = 512;  // 512, 2048 (a disc) or 4096
  // Room for protection information behind every block (8: there is; 0): a file then has that much fewer
  // blocks.
  std::uint32_t protection_bytes = 0;
  // The physical block that is told of, where that is larger than what the backing says (0: never): what
  // writes should be aligned to. A power of two, not less than block_size_bytes.
  std::uint32_t physical_block_bytes = 0;
  bool read_only = false;
  bool direct = true;                    // O_DIRECT where the file allows it
  // All of the space is allocated from the beginning and stays so: nothing is deallocated, and no write can
  // find the backing full. A device is what it is: then this only says that nothing is deallocated.
  bool thick = false;
  // Where writes that must not be torn are kept until they are in their places; nullptr: a file has none of
  // them. Memory needs none.
  std::shared_ptr<AtomicJournal> atomic_journal = nullptr;
  // What is stored is encrypted (block/filters/encryption.hpp), under a key in the key folder that is made
  // for a disk that holds nothing. Of files and devices.
  bool encrypted = false;
  // Where the keys of disks are (block/disk_key.hpp); empty: nowhere. A disk that has one there is not opened
  // without.
  std::string key_folder = {};
  runtime::posix::HostAccess* access = nullptr;  // who opens what this process may not

  [[nodiscard]] std::uint32_t stored_block_bytes() const noexcept {
    return block_size_bytes + protection_bytes;
  }
  [[nodiscard]] std::uint32_t physical_block_over(std::uint32_t of_backing) const noexcept {
    return of_backing > physical_block_bytes ? of_backing : physical_block_bytes;
  }
};

// `spec`: a path (regular file or block device) | ram:SIZE | null:SIZE, SIZE in bytes or with K, M, G, T
// (powers of 1024). Control path: blocks for a moment. Fails with one line that a person can act on:
// invalid_argument (empty, a directory, a bad size), not_found, permission, busy (served already, mounted),
// io, no_memory; thick: no_space, unsupported too.
[[nodiscard]] Result<std::unique_ptr<Backstore>> open_backstore(std::string_view spec,
                                                                const BackstoreOptions& options);

// "512", "64K", "1G" to bytes. Fails with invalid_argument, also when it does not fit.
[[nodiscard]] Result<std::uint64_t> parse_size(std::string_view text);
// 1073741824 to "1.0 GiB".
[[nodiscard]] std::string format_size(std::uint64_t bytes);

}  // namespace perilune::block
