// SPDX-License-Identifier: Apache-2.0
// RecordStore on a folder: one file per record, mode 0600. A put is a temporary file, fsync, rename, fsync of
// the folder: after a crash a record is the old one or the new one. Nothing is ever followed through a
// symbolic link.
#pragma once

#include <memory>
#include <string>

#include "runtime/posix/unique_fd.hpp"
#include "runtime/record_store.hpp"

namespace perilune::block {

class FileRecordStore final : public runtime::RecordStore {
 public:
  static constexpr std::size_t max_record_bytes = 16 << 20;
  static constexpr std::size_t max_name_bytes = 200;

  // The folder exists and is not a symbolic link itself. Removes what an interrupted put left behind. One
  // store per folder at a time (a lock that ends with the process): fails with busy.
  [[nodiscard]] static Result<std::unique_ptr<FileRecordStore>> open(const std::string& folder);

  // Names: letters, digits, '.', '_', '-', ':', not beginning with '.'. Others fail with invalid_argument.
  [[nodiscard]] Result<std::vector<std::uint8_t>> get(std::string_view name) override;
  [[nodiscard]] Status put(std::string_view name, Bytes value) override;
  [[nodiscard]] Status remove(std::string_view name) override;  // of a record that is not there: ok

 private:
  FileRecordStore(std::string folder, runtime::posix::UniqueFd fd)
      : folder_(std::move(folder)), fd_(std::move(fd)) {}
  [[nodiscard]] Status check_name(std::string_view name) const;
  [[nodiscard]] Status write_temporary(Bytes value) const;
  [[nodiscard]] Status sync_folder() const;
  [[nodiscard]] std::string where(std::string_view name) const;

  std::string folder_;
  runtime::posix::UniqueFd fd_;
};

}  // namespace perilune::block
