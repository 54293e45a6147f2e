// SPDX-License-Identifier: Apache-2.0
// The medium of a unit of `perilune serve` that the operator can change: whatever file is at its path. It is
// looked at again at SIGHUP.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "base/result.hpp"
#include "block/open_backstore.hpp"

namespace perilune::cli {

// Which file it is. Of one that is only read, what is in it counts too (size, time of the last change): an
// image that is written anew in its place is another disc. Initiators write to the others, so of those it
// does not.
struct FileIdentity {
  std::uint64_t device = 0, inode = 0;
  std::uint64_t size_bytes = 0;
  std::int64_t changed_s = 0, changed_ns = 0;
  friend bool operator==(const FileIdentity&, const FileIdentity&) = default;
};

class MediumFile {
 public:
  // Looks at the file for the first time; fails as look() does. May block.
  [[nodiscard]] static Result<MediumFile> open(std::uint16_t lun, std::string path,
                                               const block::BackstoreOptions& how);

  struct Seen {
    std::optional<FileIdentity> identity;          // nothing: there is no such file
    std::shared_ptr<block::Backstore> medium;      // of that; nullptr: there is none
  };
  // Another medium than in_place() has named, open; or nothing: it is the same. Fails with what stat(2) and
  // open_backstore() say. May block; any thread, while none calls in_place().
  [[nodiscard]] Result<std::optional<Seen>> look() const;
  // This is what the unit has now.
  void in_place(const std::optional<FileIdentity>& identity) { identity_ = identity; }

  [[nodiscard]] std::uint16_t lun() const noexcept { return lun_; }
  [[nodiscard]] const std::string& path() const noexcept { return path_; }

 private:
  MediumFile(std::uint16_t lun, std::string path, const block::BackstoreOptions& how)
      : lun_(lun), path_(std::move(path)), how_(how) {}
  [[nodiscard]] Result<std::optional<FileIdentity>> identify() const;

  std::uint16_t lun_;
  std::string path_;
  block::BackstoreOptions how_;
  std::optional<FileIdentity> identity_;
};

}  // namespace perilune::cli
