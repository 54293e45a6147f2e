// SPDX-License-Identifier: Apache-2.0
// A folder of a test's own, which goes with all that is in it.
#pragma once

#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>

#include <gtest/gtest.h>

namespace perilune {

class TemporaryFolder {
 public:
  explicit TemporaryFolder(std::filesystem::path parent = std::filesystem::temp_directory_path()) {
    std::string pattern = (parent / "perilune-test-XXXXXX").string();
    EXPECT_NE(::mkdtemp(pattern.data()), nullptr) << pattern;
    path_ = pattern;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  [[nodiscard]] std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  [[nodiscard]] std::string path() const { return path_.string(); }
  // A new file of so many bytes, which it does not take up; its path.
  [[nodiscard]] std::string file(const std::string& name, std::uint64_t bytes) const {
    const std::string path = *this / name;
    const int fd = ::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    EXPECT_GE(fd, 0);
    EXPECT_EQ(::ftruncate(fd, static_cast<off_t>(bytes)), 0);
    ::close(fd);
    return path;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace perilune
