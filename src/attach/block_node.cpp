// SPDX-License-Identifier: Apache-2.0
#include "attach/block_node.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <optional>

#include "attach/mounts.hpp"

namespace perilune::attach {

using runtime::posix::UniqueFd;

namespace {

constexpr auto release_patience = std::chrono::seconds(10);
constexpr unsigned wanted_request_kb = 1024;

std::optional<dev_t> device_number(const std::string& name, std::string_view sysfs_class) {
  const std::string text = read_small_file("/sys/class/" + std::string(sysfs_class) + "/" + name + "/dev");
  unsigned major = 0, minor = 0;
  if (std::sscanf(text.c_str(), "%u:%u", &major, &minor) != 2) return std::nullopt;
  return makedev(major, minor);
}

void write_setting(const std::string& path, std::string_view value) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  if (fd.valid()) static_cast<void>(!::write(fd.get(), value.data(), value.size()));
}

// A process that has the device or a partition open, by what its descriptors are called: nothing that waits
// for a device is asked. 0 when there is none but us.
pid_t opener_of(const std::string& name) {
  const std::string device = "/dev/" + name, partition = device + "p";
  DIR* processes = ::opendir("/proc");
  if (processes == nullptr) return 0;
  pid_t found = 0;
  while (const dirent* process = ::readdir(processes)) {
    const pid_t pid = std::atoi(process->d_name);
    if (pid <= 0 || pid == ::getpid()) continue;
    const std::string folder = "/proc/" + std::to_string(pid) + "/fd/";
    DIR* descriptors = ::opendir(folder.c_str());
    if (descriptors == nullptr) continue;
    while (const dirent* entry = ::readdir(descriptors)) {
      char target[64];
      const ssize_t n = ::readlink((folder + entry->d_name).c_str(), target, sizeof target);
      const std::string_view text(target, n > 0 ? static_cast<std::size_t>(n) : 0);
      if (text == device || text.starts_with(partition)) found = pid;
    }
    ::closedir(descriptors);
    if (found != 0) break;
  }
  ::closedir(processes);
  return found;
}

}  // namespace

bool detail::pause_until(std::int64_t& deadline_ns) {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  if (deadline_ns == 0) {
    deadline_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(now + release_patience).count();
  }
  if (now >= std::chrono::nanoseconds(deadline_ns)) return false;
  const timespec tick{0, 20'000'000};
  ::nanosleep(&tick, nullptr);
  return true;
}

bool run_program(const char* const* words) {
  char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
  char* environment[] = {path, nullptr};
  pid_t child = -1;
  // The kernel only reads them (POSIX keeps the historical type).
  char* const* arguments = const_cast<char* const*>(words);
  if (::posix_spawn(&child, words[0], nullptr, nullptr, arguments, environment) != 0) return false;
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return false;
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void make_node(const std::string& name, std::string_view sysfs_class) {
  const std::string path = "/dev/" + name;
  const mode_t type = sysfs_class == "block" ? S_IFBLK : S_IFCHR;
  struct stat st {};
  const auto number = device_number(name, sysfs_class);
  if (!number) return;
  if (::stat(path.c_str(), &st) == 0) {
    if ((st.st_mode & S_IFMT) == type && st.st_rdev == *number) return;
    ::unlink(path.c_str());  // left over from an earlier device
  }
  static_cast<void>(::mknod(path.c_str(), type | 0600, *number));
}

void find_partitions(const std::string& name) {
  // Kernels built without partition parsers find none by themselves; util-linux reads the table and tells the
  // kernel. Without that program the partitions stay unknown, as on any other disk of such a machine.
  if (disk_and_partitions(name).size() <= 1) {
    const std::string device = "/dev/" + name;
    for (const char* program : {"/usr/bin/partx", "/bin/partx", "/usr/sbin/partx"}) {
      if (::access(program, X_OK) != 0) continue;
      const char* const words[] = {program, "--add", device.c_str(), nullptr};
      static_cast<void>(run_program(words));
      break;
    }
  }
  for (const std::string& each : disk_and_partitions(name)) make_node(each);
}

void remove_partition_nodes(const std::string& name) {
  const std::string prefix = name + "p";
  DIR* dir = ::opendir("/dev");
  if (dir == nullptr) return;
  while (const dirent* entry = ::readdir(dir)) {
    const std::string node = entry->d_name;
    struct stat st {};
    const std::string path = "/dev/" + node;
    if (node.starts_with(prefix) && !device_number(node, "block") && ::lstat(path.c_str(), &st) == 0 &&
        S_ISBLK(st.st_mode)) {
      ::unlink(path.c_str());
    }
  }
  ::closedir(dir);
}

void set_queue(const std::string& name, const QueueSettings& settings) {
  const std::string queue = "/sys/block/" + name + "/queue/";
  const std::string possible = read_small_file(queue + "max_hw_sectors_kb");
  unsigned hardware_kb = 0;
  std::from_chars(possible.data(), possible.data() + possible.size(), hardware_kb);
  if (hardware_kb != 0)
    write_setting(queue + "max_sectors_kb", std::to_string(std::min(hardware_kb, wanted_request_kb)));
  write_setting(queue + "rotational", settings.rotational ? "1" : "0");
  if (settings.no_scheduler) write_setting(queue + "scheduler", "none");
}

Result<UniqueFd> claim_device(const std::string& name, ReleaseMode mode) {
  const std::string device = "/dev/" + name;
  const bool exclusive = mode == ReleaseMode::exclusive;
  // To read, which is enough to flush: udev looks at a device again when somebody closes it who could have
  // written, and would find it without a server.
  UniqueFd fd(::open(device.c_str(), O_RDONLY | O_CLOEXEC | (exclusive ? O_EXCL : 0)));
  if (!fd.valid()) {
    if (errno == EBUSY) return fail(Errc::busy, device + " is in use (mounted elsewhere?)", EBUSY);
    return fail_errno(errno, device);
  }
  if (exclusive && !wait_patiently([&] { return opener_of(name) == 0; })) {
    return fail(Errc::busy, device + " is held open by another process", EBUSY);
  }
  if (::fsync(fd.get()) != 0 && exclusive) return fail_errno(errno, "the last flush of " + device);
  return fd;
}

}  // namespace perilune::attach
