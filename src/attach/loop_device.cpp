// SPDX-License-Identifier: Apache-2.0
#include "attach/loop_device.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "attach/mounts.hpp"
#include "runtime/posix/unique_fd.hpp"

namespace perilune::attach {

using runtime::posix::UniqueFd;

namespace {

constexpr int max_bind_attempts = 64;  // others take free devices too

Result<UniqueFd> open_loop(int number, int flags) {
  const std::string path = loop_device(number);
  UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC));
  if (!fd.valid() && errno == ENOENT) {
    make_node(loop_name(number));
    fd = UniqueFd(::open(path.c_str(), flags | O_CLOEXEC));
  }
  if (!fd.valid()) return fail_errno(errno, path);
  return fd;
}

loop_config make_config(int file, const LoopSettings& settings) {
  loop_config config{};
  config.fd = static_cast<__u32>(file);
  config.block_size = settings.block_size_bytes;
  if (settings.read_only) config.info.lo_flags |= LO_FLAGS_READ_ONLY;
  if (settings.scan_partitions) config.info.lo_flags |= LO_FLAGS_PARTSCAN;
  if (settings.direct_io) config.info.lo_flags |= LO_FLAGS_DIRECT_IO;
  std::strncpy(reinterpret_cast<char*>(config.info.lo_file_name), settings.label.c_str(), LO_NAME_SIZE - 1);
  return config;
}

// A loop device that was only set to go with its last user stays after all.
void keep_bound(int fd) {
  loop_info64 info{};
  if (::ioctl(fd, LOOP_GET_STATUS64, &info) != 0) return;
  info.lo_flags &= ~static_cast<__u32>(LO_FLAGS_AUTOCLEAR);
  static_cast<void>(::ioctl(fd, LOOP_SET_STATUS64, &info));
}

// Ends when the device no longer serves `file`: the number may belong to somebody else the next moment.
Status wait_until_free(int number, const std::string& file, ReleaseMode mode) {
  const bool free = wait_patiently([&] { return !loop_serves(number, file); });
  if (!free && mode != ReleaseMode::force) {  // by force, its last user will take it along
    if (auto fd = open_loop(number, O_RDONLY)) keep_bound(fd->get());
    return fail(Errc::busy, loop_device(number) + " is held open by another process", EBUSY);
  }
  if (!loop_is_bound(number)) remove_partition_nodes(loop_name(number));
  return {};
}

}  // namespace

std::string loop_name(int number) { return "loop" + std::to_string(number); }
std::string loop_device(int number) { return "/dev/" + loop_name(number); }

std::optional<int> parse_loop_device(std::string_view text) {
  if (text.starts_with("/dev/")) text.remove_prefix(5);
  if (!text.starts_with("loop")) return std::nullopt;
  text.remove_prefix(4);
  int number = -1;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
  if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size() || number < 0) return std::nullopt;
  return number;
}

std::vector<int> all_loops() {
  std::vector<int> numbers;
  DIR* dir = ::opendir("/sys/block");
  if (dir == nullptr) return numbers;
  while (const dirent* entry = ::readdir(dir)) {
    if (const auto number = parse_loop_device(entry->d_name)) numbers.push_back(*number);
  }
  ::closedir(dir);
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

bool loop_is_bound(int number) {
  struct stat st {};
  return ::stat(("/sys/block/" + loop_name(number) + "/loop").c_str(), &st) == 0;
}

std::string loop_backing_file(int number) {
  return read_small_file("/sys/block/" + loop_name(number) + "/loop/backing_file");
}

bool loop_serves(int number, const std::string& file) {
  return loop_is_bound(number) && loop_backing_file(number) == file;
}

std::optional<std::string> loop_label(int number) {
  auto fd = open_loop(number, O_RDONLY);
  loop_info64 info{};
  if (!fd || ::ioctl(fd->get(), LOOP_GET_STATUS64, &info) != 0) return std::nullopt;
  info.lo_file_name[LO_NAME_SIZE - 1] = 0;
  return std::string(reinterpret_cast<const char*>(info.lo_file_name));
}

Result<BoundLoop> bind_loop(const std::string& file, const LoopSettings& settings) {
  const int access = settings.read_only ? O_RDONLY : O_RDWR;
  const UniqueFd backing(::open(file.c_str(), access | O_CLOEXEC));
  if (!backing.valid()) return fail_errno(errno, file);
  const UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
  if (!control.valid()) return fail_errno(errno, "/dev/loop-control");
  const loop_config config = make_config(backing.get(), settings);
  for (int attempt = 0; attempt < max_bind_attempts; ++attempt) {
    const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
    if (number < 0) return fail_errno(errno, "no free loop device");
    auto fd = open_loop(number, access);
    if (!fd) return tl::unexpected(fd.error());
    if (::ioctl(fd->get(), LOOP_CONFIGURE, &config) != 0) {
      if (errno == EBUSY) continue;  // somebody else took it in between
      return fail_errno(errno, "LOOP_CONFIGURE " + loop_device(number));
    }
    set_queue(loop_name(number), {settings.rotational, false});
    if (settings.scan_partitions) {
      find_partitions(loop_name(number));
    }
    return BoundLoop{number, read_small_file("/sys/block/" + loop_name(number) + "/loop/dio") == "1"};
  }
  return fail(Errc::busy, "no free loop device: others take them as fast as we ask", EBUSY);
}

Status release_loop(int number, ReleaseMode mode) {
  const std::string file = loop_backing_file(number);
  if (!loop_is_bound(number)) return wait_until_free(number, file, mode);
  {
    const bool read_only = read_small_file("/sys/block/" + loop_name(number) + "/ro") == "1";
    const int access = read_only ? O_RDONLY : O_RDWR;
    auto fd = open_loop(number, access | (mode == ReleaseMode::exclusive ? O_EXCL : 0));
    if (!fd && mode == ReleaseMode::force) fd = open_loop(number, O_RDONLY);
    if (!fd) {
      if (fd.error().os_errno != EBUSY) return tl::unexpected(fd.error());
      return fail(Errc::busy, loop_device(number) + " is in use (mounted elsewhere?)", EBUSY);
    }
    if (::fsync(fd->get()) != 0 && mode == ReleaseMode::exclusive) {
      return fail_errno(errno, "the last flush of " + loop_device(number));
    }
    if (::ioctl(fd->get(), LOOP_CLR_FD, 0) != 0 && errno != ENXIO) return fail_errno(errno, "LOOP_CLR_FD");
  }
  return wait_until_free(number, file, mode);
}

}  // namespace perilune::attach
