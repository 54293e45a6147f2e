// SPDX-License-Identifier: Apache-2.0
#include "attach/mounts.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>

#include "runtime/posix/unique_fd.hpp"

namespace perilune::attach {

using runtime::posix::UniqueFd;

namespace {

Result<std::string> read_file(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return fail_errno(errno, path);
  std::string text;
  char buffer[8192];
  for (;;) {
    const ssize_t n = ::read(fd.get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, path);
    if (n == 0) return text;
    text.append(buffer, static_cast<std::size_t>(n));
  }
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const std::size_t end = std::min(text.find(separator), text.size());
    if (end != 0) parts.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

// mountinfo writes space, tab, newline and backslash as \ooo.
std::string unescape(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned value = 0;
    if (text[i] == '\\' && i + 3 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 4, value, 8).ptr == text.data() + i + 4) {
      plain.push_back(static_cast<char>(value));
      i += 3;
    } else {
      plain.push_back(text[i]);
    }
  }
  return plain;
}

bool parse_device(std::string_view text, unsigned& major, unsigned& minor) {
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos) return false;
  const char* end = text.data() + text.size();
  return std::from_chars(text.data(), text.data() + colon, major).ec == std::errc{} &&
         std::from_chars(text.data() + colon + 1, end, minor).ec == std::errc{};
}

std::vector<std::string> entries_of(const std::string& folder) {
  std::vector<std::string> names;
  DIR* dir = ::opendir(folder.c_str());
  if (dir == nullptr) return names;
  while (const dirent* entry = ::readdir(dir)) {
    if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
  }
  ::closedir(dir);
  std::sort(names.begin(), names.end());
  return names;
}

}  // namespace

std::string read_small_file(const std::string& path) {
  auto text = read_file(path);
  if (!text) return {};
  while (!text->empty() && text->back() == '\n') text->pop_back();
  return *text;
}

std::vector<Mount> parse_mountinfo(std::string_view text) {
  std::vector<Mount> mounts;
  for (const std::string_view line : split(text, '\n')) {
    const auto fields = split(line, ' ');
    const auto dash = std::find(fields.begin(), fields.end(), "-");
    Mount mount;
    if (fields.size() < 6 || fields.end() - dash < 3 || !parse_device(fields[2], mount.major, mount.minor))
      continue;
    mount.mount_point = unescape(fields[4]);
    mount.type = std::string(dash[1]);
    mount.source = unescape(dash[2]);
    mounts.push_back(std::move(mount));
  }
  return mounts;
}

Result<std::vector<Mount>> read_mounts() {
  auto text = read_file("/proc/self/mountinfo");
  if (!text) return tl::unexpected(text.error());
  return parse_mountinfo(*text);
}

std::vector<std::string> all_disks() { return entries_of("/sys/block"); }

std::vector<std::string> disk_and_partitions(const std::string& disk) {
  std::vector<std::string> names{disk};
  for (const std::string& entry : entries_of("/sys/block/" + disk)) {
    if (entry.starts_with(disk + "p")) names.push_back(entry);
  }
  return names;
}

std::string Use::describe() const {
  switch (kind) {
    case Kind::mount:
      return device + " is mounted on " + what;
    case Kind::swap:
      return device + " is a swap area in use";
    case Kind::holder:
      break;
  }
  return device + " is used by " + what;
}

Result<std::vector<Use>> uses_of_disk(const std::string& disk) {
  auto mounts = read_mounts();
  if (!mounts) return tl::unexpected(mounts.error());
  std::reverse(mounts->begin(), mounts->end());
  const std::string swaps = read_small_file("/proc/swaps");
  std::vector<Use> uses;
  const auto names = disk_and_partitions(disk);
  const auto device_of = [&](const Mount& mount) -> std::string {
    for (const std::string& name : names) {
      const std::string device = "/dev/" + name;
      unsigned major = 0, minor = 0;
      const bool known = parse_device(read_small_file("/sys/class/block/" + name + "/dev"), major, minor);
      // btrfs and its like have an anonymous st_dev: there the source tells.
      if ((known && mount.major == major && mount.minor == minor) || mount.source == device) return device;
    }
    return {};
  };
  for (const Mount& mount : *mounts) {
    if (std::string device = device_of(mount); !device.empty()) {
      uses.push_back({Use::Kind::mount, std::move(device), mount.mount_point});
    }
  }
  for (const std::string& name : names) {
    const std::string device = "/dev/" + name;
    for (const std::string_view line : split(swaps, '\n')) {
      if (line.starts_with(device + " ") || line.starts_with(device + "\t"))
        uses.push_back({Use::Kind::swap, device, "swap"});
    }
    for (const std::string& holder : entries_of("/sys/class/block/" + name + "/holders")) {
      uses.push_back({Use::Kind::holder, device, holder});
    }
  }
  return uses;
}

}  // namespace perilune::attach
