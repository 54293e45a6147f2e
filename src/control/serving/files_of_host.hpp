// SPDX-License-Identifier: Apache-2.0
// What the target daemon does with files of the host for an administrator. All of it blocks; any thread.
// `access`: who opens, makes and removes what this process may not, or nullptr.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "control/targetd/administration.hpp"
#include "runtime/posix/host_access.hpp"

namespace perilune::control::serving {

using runtime::posix::HostAccess;

[[nodiscard]] targetd::FileProbe probe_file(const std::string& path, HostAccess* access = nullptr);
[[nodiscard]] Status create_disk_file(const std::string& path, std::uint64_t size_bytes, bool sparse,
                                      HostAccess* access = nullptr);
// A regular file, and nothing else.
[[nodiscard]] Status remove_disk_file(const std::string& path, HostAccess* access = nullptr);
// The text of a regular file, unpacked when it is gzip. limit: longer than max_bytes.
[[nodiscard]] Result<std::string> read_text_file(const std::string& path, std::size_t max_bytes,
                                                 HostAccess* access = nullptr);
// Puts `text` in the place of a file (0600), whole or not at all.
[[nodiscard]] Status write_text_file(const std::string& path, std::string_view text);
[[nodiscard]] std::vector<std::string> addresses_of_host();
// "root", or the number where it has no name.
[[nodiscard]] std::string name_of_user(std::uint32_t uid);

}  // namespace perilune::control::serving
