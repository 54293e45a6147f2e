// SPDX-License-Identifier: Apache-2.0
#include "attach/state_file.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>

#include <nlohmann/json.hpp>

#include "attach/mounts.hpp"
#include "runtime/posix/unique_fd.hpp"

namespace perilune::attach {

using runtime::posix::UniqueFd;

namespace {

constexpr std::size_t max_record_bytes = 65536;

// mkdir -p, what is made is for its owner only.
Status make_folders(const std::string& path) {
  for (std::size_t end = path.find('/', 1);; end = path.find('/', end + 1)) {
    const std::string part = path.substr(0, end);
    if (::mkdir(part.c_str(), end == std::string::npos ? 0700 : 0755) != 0 && errno != EEXIST)
      return fail_errno(errno, part);
    if (end == std::string::npos) return {};
  }
}

}  // namespace

std::string encode(const AttachRecord& record) {
  const nlohmann::json json = {
      {"version", 1},
      {"id", record.id},
      {"pid", record.pid},
      {"start_time", record.start_time},
      {"owner", record.owner},
      {"name", record.name},
      {"target", record.target},
      {"lun", record.lun},
      {"read_only", record.read_only},
      {"mount_point", record.mount_point},
      {"driver", record.driver},
      {"device", record.device},
      {"refusal", record.refusal},
      {"refusals", record.refusals},
  };
  return json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

Result<AttachRecord> decode(std::string_view text) {
  const nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  if (!json.is_object()) return fail(Errc::invalid_argument, "not a record of an attachment");
  try {
    AttachRecord record;
    record.id = json.at("id").get<std::string>();
    record.pid = json.at("pid").get<pid_t>();
    record.start_time = json.at("start_time").get<std::uint64_t>();
    record.owner = json.at("owner").get<std::string>();
    record.name = json.at("name").get<std::string>();
    record.target = json.at("target").get<std::string>();
    record.lun = json.at("lun").get<std::uint64_t>();
    record.read_only = json.at("read_only").get<bool>();
    record.mount_point = json.at("mount_point").get<std::string>();
    record.driver = json.value("driver", std::string("fuse"));  // what the first version made
    record.device = json.at("device").get<std::string>();
    record.refusal = json.at("refusal").get<std::string>();
    record.refusals = json.at("refusals").get<std::uint64_t>();
    return record;
  } catch (const nlohmann::json::exception&) {
    return fail(Errc::invalid_argument, "a record of an attachment that lacks a field");
  }
}

std::vector<AttachRecord> read_records(const std::string& run_dir) {
  std::vector<AttachRecord> records;
  DIR* dir = ::opendir(run_dir.c_str());
  if (dir == nullptr) return records;
  while (const dirent* entry = ::readdir(dir)) {
    const std::string name = entry->d_name;
    if (!name.ends_with(".json")) continue;
    const std::string path = run_dir + "/" + name;
    struct stat st {};
    if (::lstat(path.c_str(), &st) != 0 || !S_ISREG(st.st_mode) ||
        st.st_size > static_cast<off_t>(max_record_bytes))
      continue;
    if (auto record = decode(read_small_file(path))) {
      record->path = path;
      records.push_back(std::move(*record));
    }
  }
  ::closedir(dir);
  std::sort(records.begin(), records.end(), [](const auto& a, const auto& b) { return a.path < b.path; });
  return records;
}

Status write_record_text(const std::string& path, std::string_view text) {
  const std::string folder = path.substr(0, path.rfind('/'));
  if (auto made = make_folders(folder); !made) return made;
  const std::string draft = path + ".new";
  {
    const UniqueFd fd(::open(draft.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd.valid()) return fail_errno(errno, draft);
    for (std::string_view rest = text; !rest.empty();) {
      const ssize_t n = ::write(fd.get(), rest.data(), rest.size());
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return fail_errno(errno, draft);
      rest.remove_prefix(static_cast<std::size_t>(n));
    }
    if (::fsync(fd.get()) != 0) return fail_errno(errno, draft);
  }
  if (::rename(draft.c_str(), path.c_str()) != 0) return fail_errno(errno, path);
  const UniqueFd parent(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (parent.valid()) static_cast<void>(::fsync(parent.get()));
  return {};
}

std::uint64_t process_start_time(pid_t pid) {
  const std::string stat = read_small_file("/proc/" + std::to_string(pid) + "/stat");
  std::size_t at = stat.rfind(')');  // the name before it may hold anything
  if (at == std::string::npos || stat.size() < at + 3) return 0;
  const char state = stat[at + 2];
  if (state == 'Z' || state == 'X') return 0;  // dead, not yet collected
  for (int field = 2; field < 22; ++field) {
    at = stat.find(' ', at + 1);
    if (at == std::string::npos) return 0;
  }
  std::uint64_t ticks = 0;
  std::from_chars(stat.data() + at + 1, stat.data() + stat.size(), ticks);
  return ticks;
}

std::string make_record_id(pid_t pid, std::uint64_t start_time, unsigned number) {
  return std::to_string(pid) + "-" + std::to_string(start_time) + "-" + std::to_string(number);
}

bool is_alive(std::string_view record_id) {
  const char* const end = record_id.data() + record_id.size();
  pid_t pid = 0;
  const auto first = std::from_chars(record_id.data(), end, pid);
  if (first.ec != std::errc{} || first.ptr == end || *first.ptr != '-') return true;
  std::uint64_t start_time = 0;
  if (std::from_chars(first.ptr + 1, end, start_time).ec != std::errc{}) return true;
  return process_start_time(pid) == start_time;
}

bool is_alive(const AttachRecord& record) {
  return record.pid > 0 && record.start_time != 0 && process_start_time(record.pid) == record.start_time;
}

}  // namespace perilune::attach
