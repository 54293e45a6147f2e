// SPDX-License-Identifier: Apache-2.0
// A regular file or a block device as a disk.
//
// Opened O_DIRECT when the file system asks for no coarser alignment than the logical block size (so that no
// write of ours is ever a read-modify-write), through the page cache otherwise. Locked as long as the
// backstore lives: a writer excludes everybody, readers exclude writers; a block device that is written to is
// claimed as mount does.
#pragma once

#include <memory>
#include <string>

#include "block/atomic_journal.hpp"
#include "block/backends/file_channel.hpp"
#include "block/backstore.hpp"
#include "block/disk_key.hpp"
#include "block/open_backstore.hpp"
#include "runtime/posix/open_block_file.hpp"

namespace perilune::block {

class FileBackstore final : public Backstore {
 public:
  // Bytes after the last whole block are not served; describe() says so. Errors as open_backstore().
  [[nodiscard]] static Result<std::unique_ptr<Backstore>> open(const std::string& path,
                                                               const BackstoreOptions& options);

  [[nodiscard]] const Geometry& geometry() const override { return geometry_; }
  [[nodiscard]] const std::string& identity() const override { return identity_; }
  [[nodiscard]] std::string describe() const override;
  [[nodiscard]] Result<std::unique_ptr<Channel>> open_channel(runtime::Loop& loop) override;
  [[nodiscard]] Result<BlockCount> look_at_size() override;
  void set_blocks(Channel& channel, BlockCount blocks) override;
  // Of a file: its allocated blocks, and what its file system has for those without privilege. Of a device
  // nobody can tell.
  [[nodiscard]] std::optional<SpaceLevel> measure_space() override;

 private:
  FileBackstore() = default;
  [[nodiscard]] Status lock(const std::string& path);
  [[nodiscard]] Status allocate_all(const std::string& path, std::uint64_t size_bytes);
  [[nodiscard]] std::string path_for_channels() const;
  [[nodiscard]] Status take_journal(const BackstoreOptions& options);
  [[nodiscard]] Status take_key(const BackstoreOptions& options);
  [[nodiscard]] Status holds_nothing() const;
  [[nodiscard]] Result<std::unique_ptr<Channel>> open_plain_channel(runtime::Loop& loop);

  runtime::posix::OpenedBlockFile file_;  // holds the lock; the channels open the same file again, each on
                                          // its loop
  std::string identity_;
  Geometry geometry_;
  bool locked_ = false;
  bool thick_ = false;
  std::shared_ptr<AtomicJournal> journal_;  // nullptr: no write is atomic
  std::uint64_t atomic_disk_ = 0;
  std::shared_ptr<DiskKey> key_;  // nullptr: nothing is encrypted
  std::shared_ptr<FlushHealth> health_ = std::make_shared<FlushHealth>();
};

}  // namespace perilune::block
