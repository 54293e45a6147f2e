// SPDX-License-Identifier: Apache-2.0
// What an attachment leaves on disk while it lives, so that others find it and what a killed process left can
// be taken away: RUN_DIR/ID.json, 0600, replaced by rename. Holds no secret.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace perilune::attach {

// What a device is called towards the kernel: this and the id of its record.
inline constexpr std::string_view device_label_prefix = "perilune:";

struct AttachRecord {
  std::string id;
  pid_t pid = 0;
  std::uint64_t start_time = 0;  // of the process, clock ticks since boot (proc(5) stat field 22)
  std::string owner;             // AttachOptions::owner
  std::string name;
  std::string target;
  std::uint64_t lun = 0;
  bool read_only = false;
  std::string mount_point;
  std::string driver;          // "fuse", "nbd", "ublk"; "auto" until it is known
  std::string device;          // empty until there is one
  std::string refusal;         // why the last request to detach was refused
  std::uint64_t refusals = 0;  // how many there were

  std::string path;  // where it was read from
};

[[nodiscard]] std::string encode(const AttachRecord& record);
[[nodiscard]] Result<AttachRecord> decode(std::string_view text);

// Every record in the folder; files that are not understood are left out. An absent folder holds none.
[[nodiscard]] std::vector<AttachRecord> read_records(const std::string& run_dir);
// Atomic and durable; makes the folder (0700). Blocks.
[[nodiscard]] Status write_record_text(const std::string& path, std::string_view text);

// 0 when there is no such process.
[[nodiscard]] std::uint64_t process_start_time(pid_t pid);
[[nodiscard]] bool is_alive(const AttachRecord& record);
// "PID-START_TIME-N": unlike that of any process before, so that nothing a killed one left stands in the way.
[[nodiscard]] std::string make_record_id(pid_t pid, std::uint64_t start_time, unsigned number);
// Whether the process of such an id lives; true for what is none.
[[nodiscard]] bool is_alive(std::string_view record_id);

}  // namespace perilune::attach
