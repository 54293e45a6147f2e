// SPDX-License-Identifier: Apache-2.0
// A folder of small files that must survive a loss of power, as the few operations of which that depends:
// what is written is durable after sync() of the file, what is created or renamed after sync_folder(). An
// interface, so that a test can fail and cut each of them. Control path: all of it blocks. One thread at a
// time.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"
#include "control/files.hpp"

namespace perilune::control::targetd {

class StateFolder {
 public:
  virtual ~StateFolder() = default;
  // not_found when there is none; limit when it is longer than max_bytes.
  [[nodiscard]] virtual Result<std::string> read(const std::string& name, std::size_t max_bytes) = 0;
  // Creates the file (0600), or empties it first.
  [[nodiscard]] virtual Status write(const std::string& name, std::string_view text) = 0;
  [[nodiscard]] virtual Status append(const std::string& name, std::string_view text) = 0;
  [[nodiscard]] virtual Status truncate(const std::string& name, std::size_t size) = 0;
  [[nodiscard]] virtual Status sync(const std::string& name) = 0;
  [[nodiscard]] virtual Status rename(const std::string& from, const std::string& to) = 0;
  [[nodiscard]] virtual Status remove(const std::string& name) = 0;   // success when there is none
  [[nodiscard]] virtual Result<std::vector<std::string>> list() = 0;  // names of files, sorted
  [[nodiscard]] virtual Status sync_folder() = 0;
};

// Puts `text` in the place of a file: after a loss of power at any point the file is the old or the new one,
// whole. Durable when it returns. When it fails before the rename the old file stands; `renamed` (may be
// null) tells whether it got past it.
[[nodiscard]] Status replace_file(StateFolder& folder, const std::string& name, std::string_view text,
                                  bool* renamed = nullptr);

// A folder on disk (0700, made when it is not there), held by an exclusive lock on its file `lock` for as
// long as this lives.
class LockedFolder : public StateFolder {
 public:
  // busy, with the number of the process that has it, when somebody else holds the lock.
  [[nodiscard]] static Result<std::unique_ptr<LockedFolder>> open(const std::string& path);

  [[nodiscard]] Result<std::string> read(const std::string& name, std::size_t max_bytes) override;
  [[nodiscard]] Status write(const std::string& name, std::string_view text) override;
  [[nodiscard]] Status append(const std::string& name, std::string_view text) override;
  [[nodiscard]] Status truncate(const std::string& name, std::size_t size) override;
  [[nodiscard]] Status sync(const std::string& name) override;
  [[nodiscard]] Status rename(const std::string& from, const std::string& to) override;
  [[nodiscard]] Status remove(const std::string& name) override;
  [[nodiscard]] Result<std::vector<std::string>> list() override;
  [[nodiscard]] Status sync_folder() override;

 private:
  LockedFolder(std::string path, Fd folder, Fd lock)
      : path_(std::move(path)), folder_(std::move(folder)), lock_(std::move(lock)) {}
  [[nodiscard]] Result<Fd> open_file(const std::string& name, int flags) const;
  [[nodiscard]] std::string path_of(const std::string& name) const { return path_ + "/" + name; }

  std::string path_;
  Fd folder_;
  Fd lock_;
};

}  // namespace perilune::control::targetd
