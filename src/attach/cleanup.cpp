// SPDX-License-Identifier: Apache-2.0
#include "attach/cleanup.hpp"

#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <set>

#include "attach/fuse_disk.hpp"
#include "attach/loop_device.hpp"
#include "attach/nbd_netlink.hpp"
#include "attach/state_file.hpp"
#include "attach/ublk_control.hpp"
#include "runtime/posix/unique_fd.hpp"

namespace perilune::attach {

using runtime::posix::UniqueFd;

namespace {

constexpr int probe_patience_ms = 3000;
constexpr std::string_view deleted_suffix = " (deleted)";

class Cleaner {
 public:
  Cleaner(const std::string& run_dir, const CleanupLog& log) : run_dir_(run_dir), log_(log) {}

  Result<CleanupReport> run() {
    if (auto found = find_dead(); !found) return tl::unexpected(found.error());
    for (const int number : all_loops()) {
      if (is_leftover(number)) remove_loop(number);
    }
    for (const int number : all_nbds()) {
      if (is_leftover_nbd(number)) remove_nbd(number);
    }
    remove_ublk_devices();
    for (const std::string& mount_point : dead_mounts_) remove_mount(mount_point);
    for (const AttachRecord& record : dead_records_) remove_record(record);
    remove_stray_folders();
    return report_;
  }

 private:
  Status find_dead() {
    for (AttachRecord& record : read_records(run_dir_)) {
      if (is_alive(record)) {
        living_ids_.insert(record.id);
        living_mounts_.insert(record.mount_point);
      } else {
        dead_places_.insert(record.mount_point);
        dead_records_.push_back(std::move(record));
      }
    }
    auto mounts = read_mounts();
    if (!mounts) return tl::unexpected(mounts.error());
    for (const Mount& mount : *mounts) {
      if (mount.type != fuse_type || living_mounts_.contains(mount.mount_point)) continue;
      if (!dead_places_.contains(mount.mount_point) && probe_mount(mount.mount_point) != ServerState::dead) {
        living_mounts_.insert(mount.mount_point);
        continue;
      }
      dead_mounts_.push_back(mount.mount_point);
      dead_places_.insert(mount.mount_point);
    }
    return {};
  }

  // The file tells; when its mount is gone already, the label does.
  [[nodiscard]] bool is_leftover(int number) const {
    std::string file = loop_backing_file(number);
    if (file.ends_with(deleted_suffix)) file.resize(file.size() - deleted_suffix.size());
    const std::string tail = std::string("/") + FuseDisk::file_name;
    if (!file.ends_with(tail)) return false;
    const std::string place = file.substr(0, file.size() - tail.size());
    if (!place.empty()) return dead_places_.contains(place);
    const auto label = loop_label(number);
    return label && label->starts_with(device_label_prefix) &&
           !living_ids_.contains(label->substr(device_label_prefix.size()));
  }

  // Records of other folders have living servers, too.
  [[nodiscard]] static bool is_leftover_nbd(int number) {
    const std::string label = nbd_identifier(number);
    return label.starts_with(device_label_prefix) &&
           !is_alive(std::string_view(label).substr(device_label_prefix.size()));
  }

  void remove_nbd(int number) {
    const std::string device = "/dev/" + nbd_name(number), label = nbd_identifier(number);
    if (auto uses = uses_of_disk(nbd_name(number))) {
      for (const Use& use : *uses) remove_use(use);
    }
    if (const auto done = nbd_disconnect(number); !done) return failed(device + ": " + done.error().message);
    if (!wait_patiently([&] { return nbd_identifier(number) != label; })) {
      return failed(device + ": still held open, goes away with its last user");
    }
    remove_partition_nodes(nbd_name(number));
    removed("detached " + device);
  }

  // The kernel takes a dead server's block device away; its file systems and its queue stay.
  void remove_ublk_devices() {
    if (all_ublk_devices().empty()) return unmount_lost_disks();
    auto control = UblkControl::open();
    if (!control) return;
    for (const int number : all_ublk_devices()) {
      const std::uint64_t owner = control->owner_of(number);
      const bool dead =
          std::any_of(dead_records_.begin(), dead_records_.end(), [&](const AttachRecord& record) {
            return label_number(std::string(device_label_prefix) + record.id) == owner;
          });
      if (!dead) continue;
      const std::string device = "/dev/" + ublk_name(number);
      static_cast<void>(control->stop(number));
      unmount_lost_disks();
      if (const auto done = control->remove(number); !done)
        failed(device + ": " + done.error().message);
      else
        removed("detached " + device);
    }
    unmount_lost_disks();
  }

  // File systems on a device of a dead record that is no more.
  void unmount_lost_disks() {
    auto mounts = read_mounts();
    if (!mounts) return;
    std::reverse(mounts->begin(), mounts->end());
    for (const AttachRecord& record : dead_records_) {
      struct stat st {};
      const std::string name =
          record.device.substr(std::min(record.device.size(), std::string_view("/dev/").size()));
      if (record.driver != "ublk" || name.empty() || ::stat(("/sys/block/" + name).c_str(), &st) == 0)
        continue;
      for (const Mount& mount : *mounts) {
        if (mount.source != record.device && !mount.source.starts_with(record.device + "p")) continue;
        remove_use({Use::Kind::mount, mount.source, mount.mount_point});
      }
    }
  }

  void remove_loop(int number) {
    if (auto uses = uses_of_disk(loop_name(number))) {
      for (const Use& use : *uses) remove_use(use);
    }
    const std::string file = loop_backing_file(number);
    const auto released = release_loop(number, ReleaseMode::force);
    if (released && !loop_serves(number, file)) {
      removed("detached " + loop_device(number));
    } else {
      failed(loop_device(number) + ": " +
             (released ? "still held open, goes away with its last user" : released.error().message));
    }
  }

  void remove_use(const Use& use) {
    if (use.kind != Use::Kind::mount) return failed(use.describe() + ", left");
    if (::umount2(use.what.c_str(), UMOUNT_NOFOLLOW) == 0) {
      removed("unmounted " + use.what + " (file system on " + use.device + ")");
    } else if (::umount2(use.what.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) {
      removed("unmounted " + use.what + " lazily (file system on " + use.device + ", still in use)");
    } else if (errno != EINVAL && errno != ENOENT) {  // those two: somebody else was faster
      failed("umount " + use.what + ": " + std::strerror(errno));
    }
  }

  void remove_mount(const std::string& mount_point) {
    if (::umount2(mount_point.c_str(), UMOUNT_NOFOLLOW) == 0 ||
        ::umount2(mount_point.c_str(), MNT_DETACH | UMOUNT_NOFOLLOW) == 0) {
      removed("unmounted " + mount_point + " (its server is gone)");
    } else if (errno != EINVAL && errno != ENOENT) {
      failed("umount " + mount_point + ": " + std::strerror(errno));
    }
    if (mount_point.starts_with(run_dir_ + "/")) ::rmdir(mount_point.c_str());
  }

  void remove_record(const AttachRecord& record) {
    if (record.mount_point.starts_with(run_dir_ + "/")) ::rmdir(record.mount_point.c_str());
    if (::unlink(record.path.c_str()) == 0) {
      removed("removed " + record.path + " (" + record.name + ", process " + std::to_string(record.pid) +
              " is gone)");
    } else if (errno != ENOENT) {
      failed("unlink " + record.path + ": " + std::strerror(errno));
    }
  }

  // A record is written before its folder is made, so a folder without one belongs to nobody.
  void remove_stray_folders() {
    DIR* dir = ::opendir(run_dir_.c_str());
    if (dir == nullptr) return;
    while (const dirent* entry = ::readdir(dir)) {
      const std::string name = entry->d_name, path = run_dir_ + "/" + name;
      if (name[0] == '.' || living_ids_.contains(name) || living_mounts_.contains(path)) continue;
      struct stat st {};
      if (::lstat(path.c_str(), &st) != 0 || !S_ISDIR(st.st_mode) ||
          ::access((path + ".json").c_str(), F_OK) == 0)
        continue;
      if (::rmdir(path.c_str()) == 0) removed("removed " + path);
    }
    ::closedir(dir);
  }

  void removed(const std::string& line) {
    ++report_.removed;
    log_(line);
  }
  void failed(const std::string& line) {
    ++report_.failed;
    log_(line);
  }

  const std::string& run_dir_;
  const CleanupLog& log_;
  CleanupReport report_;
  std::set<std::string> living_ids_, living_mounts_;
  std::set<std::string> dead_places_;  // mount points, whether or not they still are
  std::vector<std::string> dead_mounts_;
  std::vector<AttachRecord> dead_records_;
};

}  // namespace

ServerState probe_mount(const std::string& mount_point) {
  const pid_t child = ::fork();
  if (child < 0) return ServerState::unknown;
  if (child == 0) {
    struct statfs st {};
    ::_exit(::statfs(mount_point.c_str(), &st) == 0 ? 0 : errno);
  }
  const UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
  pollfd waiting{pidfd.get(), POLLIN, 0};
  if (::poll(&waiting, 1, probe_patience_ms) != 1) {
    ::kill(child, SIGKILL);  // it waits for an answer, and ends when that comes or the server dies
    return ServerState::unknown;
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (!WIFEXITED(status)) return ServerState::unknown;
  if (WEXITSTATUS(status) == 0) return ServerState::alive;
  return WEXITSTATUS(status) == ENOTCONN ? ServerState::dead : ServerState::unknown;
}

Result<CleanupReport> clean_up(const std::string& run_dir, const CleanupLog& log) {
  return Cleaner(run_dir, log).run();
}

}  // namespace perilune::attach
