// SPDX-License-Identifier: Apache-2.0
// Small files below a folder that is trusted, by names that may not be: every step is taken relative to a
// descriptor and never follows a symbolic link. Control path: it blocks.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <sys/stat.h>

#include "base/result.hpp"
#include "runtime/posix/unique_fd.hpp"

namespace perilune::control {

using Fd = runtime::posix::UniqueFd;

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
[[nodiscard]] Status write_file(int folder, const std::string& name, std::string_view text,
                                mode_t mode = 0600);
// Success when it was not there.
[[nodiscard]] Status remove_file(int folder, const std::string& name);
// Success when it was not there or is not empty.
[[nodiscard]] Status remove_folder_if_empty(int parent, const std::string& name);

}  // namespace perilune::control
