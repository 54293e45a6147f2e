// SPDX-License-Identifier: Apache-2.0
// Small files below a folder that is trusted, by names that may not be: every step is taken relative to a descriptor
// and never follows a symbolic link. Control path: it blocks.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <sys/stat.h>

#include "base/result.hpp"

namespace perilune::control {

// Owns a descriptor.
class Fd {
 public:
  Fd() noexcept = default;
  explicit Fd(int fd) noexcept : fd_(fd) {}
  ~Fd() { reset(); }
  Fd(Fd&& other) noexcept : fd_(other.release()) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) {
      reset();
      fd_ = other.release();
    }
    return *this;
  }
  [[nodiscard]] int get() const noexcept { return fd_; }
  [[nodiscard]] bool valid() const noexcept { return fd_ >= 0; }
  int release() noexcept {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }
  void reset() noexcept;

 private:
  int fd_ = -1;
};

struct Entry {
  std::string name;
  bool is_folder = false;
  bool is_link = false;
};

// Opens a folder below `parent`; create makes it (0700) when it is not there. not_found when it is not there.
[[nodiscard]] Result<Fd> open_folder(int parent, const std::string& name, bool create);
// Sorted by name, without "." and ".." and without temporary files.
[[nodiscard]] Result<std::vector<Entry>> list_folder(int folder);
// A regular file of at most max_bytes.
[[nodiscard]] Result<std::string> read_file(int folder, const std::string& name, std::size_t max_bytes);
// Temporary file, fsync, rename, fsync of the folder.
[[nodiscard]] Status write_file(int folder, const std::string& name, std::string_view text, mode_t mode = 0600);
// Success when it was not there.
[[nodiscard]] Status remove_file(int folder, const std::string& name);
// Success when it was not there or is not empty.
[[nodiscard]] Status remove_folder_if_empty(int parent, const std::string& name);

}  // namespace perilune::control
