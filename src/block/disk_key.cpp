// SPDX-License-Identifier: Apache-2.0
#include "block/disk_key.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>
#include <vector>

#include "base/assert.hpp"
#include "crypto/crc32c.hpp"
#include "crypto/hash.hpp"
#include "crypto/xts.hpp"
#include "runtime/posix/unique_fd.hpp"

namespace perilune::block {
namespace {

using runtime::posix::UniqueFd;

constexpr std::array<std::uint8_t, 16> magic{'P', 'e', 'r', 'i', 'l', 'u', 'n', 'e', ' ', 'k', 'e', 'y', ' ', '1', '\n', 0};
enum : std::size_t { disk_at = 16, number_at = 24, key_at = 32, sum_at = key_at + crypto::Xts::key_bytes };

// Bytes of a file that holds keys.
class Contents {
 public:
  Contents() : bytes_(key_file_bytes) {}
  ~Contents() { crypto::wipe(bytes_); }
  Contents(const Contents&) = delete;
  Contents& operator=(const Contents&) = delete;
  [[nodiscard]] MutableBytes all() noexcept { return bytes_; }
  [[nodiscard]] MutableBytes slot(std::uint32_t index) noexcept {
    return all().subspan(index * key_slot_bytes, key_slot_bytes);
  }

 private:
  std::vector<std::uint8_t> bytes_;
};

std::uint64_t number_of_disk(const std::string& identity) {
  const auto digest =
      crypto::hash(crypto::HashAlgorithm::sha256, {as_bytes(std::string_view("disk")), as_bytes(identity)});
  PERILUNE_ASSERT(digest.has_value());
  return load_be64(digest->data.data());
}

Status read_all(int fd, MutableBytes out, const std::string& path) {
  std::fill(out.begin(), out.end(), std::uint8_t{0});
  for (std::size_t done = 0; done < out.size();) {
    const ssize_t n = ::pread(fd, out.data() + done, out.size() - done, static_cast<off_t>(done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, path);
    if (n == 0) break;
    done += static_cast<std::size_t>(n);
  }
  return {};
}

Status write_durably(int fd, Bytes data, std::size_t offset, const std::string& path) {
  for (std::size_t done = 0; done < data.size();) {
    const ssize_t n = ::pwrite(fd, data.data() + done, data.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return fail_errno(n == 0 ? EIO : errno, path);
    done += static_cast<std::size_t>(n);
  }
  if (::fsync(fd) != 0) return fail_errno(errno, path);
  return {};
}

// The first key of a disk. Its name is durable too.
Status make_first_key(int fd, const std::string& folder, const std::string& path, std::uint64_t disk,
                      Contents& contents) {
  std::array<std::uint8_t, crypto::Xts::key_bytes> key{};
  const ssize_t n = ::getrandom(key.data(), key.size(), 0);  // whole below 256 bytes
  PERILUNE_ASSERT(n == static_cast<ssize_t>(key.size()));
  std::fill(contents.all().begin(), contents.all().end(), std::uint8_t{0});
  encode_key_slot({.disk = disk, .number = 1, .key = crypto::Secret(key)}, contents.slot(0));
  crypto::wipe(key);
  if (Status status = write_durably(fd, contents.all(), 0, path); !status) return status;
  UniqueFd directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory || ::fsync(directory.get()) != 0) return fail_errno(errno, folder);
  return {};
}

}  // namespace

void encode_key_slot(const KeySlot& slot, MutableBytes out) noexcept {
  PERILUNE_ASSERT(out.size() == key_slot_bytes && slot.key.size() == crypto::Xts::key_bytes &&
                  slot.number != 0);
  std::fill(out.begin(), out.end(), std::uint8_t{0});
  std::copy(magic.begin(), magic.end(), out.begin());
  store_be64(&out[disk_at], slot.disk);
  store_be64(&out[number_at], slot.number);
  const Bytes key = slot.key.reveal();
  std::copy(key.begin(), key.end(), out.begin() + key_at);
  store_be32(&out[sum_at], crypto::crc32c(crypto::crc32c_start, out.first(sum_at)));
}

std::optional<KeySlot> decode_key_slot(Bytes slot) {
  PERILUNE_ASSERT(slot.size() == key_slot_bytes);
  if (!std::equal(magic.begin(), magic.end(), slot.begin())) return std::nullopt;
  if (load_be32(&slot[sum_at]) != crypto::crc32c(crypto::crc32c_start, slot.first(sum_at)))
    return std::nullopt;
  KeySlot out{.disk = load_be64(&slot[disk_at]),
              .number = load_be64(&slot[number_at]),
              .key = crypto::Secret(slot.subspan(key_at, crypto::Xts::key_bytes))};
  if (out.number == 0) return std::nullopt;
  return out;
}

DiskKey::DiskKey(std::string path, KeySlot slot, std::uint32_t index, bool old_key_is_left)
    : path_(std::move(path)),
      disk_(slot.disk),
      old_key_is_left_(old_key_is_left),
      number_(slot.number),
      key_(std::move(slot.key)),
      slot_(index),
      last_number_(slot.number) {}

std::string DiskKey::path_of(const std::string& folder, const std::string& identity) {
  return fmt::format("{}/disk-key-{:016x}", folder, number_of_disk(identity));
}

bool DiskKey::exists(const std::string& folder, const std::string& identity) {
  return ::access(path_of(folder, identity).c_str(), F_OK) == 0;
}

Result<std::shared_ptr<DiskKey>> DiskKey::read(std::string path, std::uint64_t disk, Bytes file) {
  PERILUNE_ASSERT(file.size() == key_file_bytes);
  std::optional<KeySlot> newest;
  std::uint32_t index = 0, found = 0;
  for (std::uint32_t i = 0; i < key_slots; ++i) {
    auto slot = decode_key_slot(file.subspan(i * key_slot_bytes, key_slot_bytes));
    if (!slot || slot->disk != disk) continue;
    ++found;
    if (newest && newest->number > slot->number) continue;
    newest = std::move(slot);
    index = i;
  }
  if (!newest) return fail(Errc::not_found, path + ": holds no key of this disk");
  return std::shared_ptr<DiskKey>(new DiskKey(std::move(path), std::move(*newest), index, found > 1));
}

Result<std::shared_ptr<DiskKey>> DiskKey::open(const std::string& folder, const std::string& identity,
                                               const std::function<Status()>& blank) {
  const std::string path = path_of(folder, identity);
  const bool existed = exists(folder, identity);
  if (!existed) {
    if (Status status = blank(); !status) return tl::unexpected(status.error());
  }
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd) return fail_errno(errno, path);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return fail_errno(errno, path);
  if (!S_ISREG(info.st_mode)) return fail(Errc::invalid_argument, path + ": not a regular file");
  if ((info.st_mode & (S_IRWXG | S_IRWXO)) != 0)
    return fail(Errc::permission, path + ": others may read this key; chmod 600 it");
  Contents contents;
  if (Status status = read_all(fd.get(), contents.all(), path); !status)
    return tl::unexpected(status.error());
  const std::uint64_t disk = number_of_disk(identity);
  auto self = read(path, disk, contents.all());
  if (!self) {  // the making of the first one was interrupted; then nothing has been written under it
    if (Status status = existed ? blank() : Status(); !status) return tl::unexpected(status.error());
    if (Status status = make_first_key(fd.get(), folder, path, disk, contents); !status)
      return tl::unexpected(status.error());
    self = read(path, disk, contents.all());
  } else if ((*self)->old_key_is_left()) {
    const std::uint32_t other = 1 - (*self)->slot();
    std::fill(contents.slot(other).begin(), contents.slot(other).end(), std::uint8_t{0});
    if (Status status =
            write_durably(fd.get(), contents.slot(other), std::size_t{other} * key_slot_bytes, path);
        !status)
      return tl::unexpected(status.error());
  }
  return self;
}

crypto::Secret DiskKey::key() const {
  const std::lock_guard lock(mutex_);
  return key_.clone();
}

std::uint32_t DiskKey::slot() const {
  const std::lock_guard lock(mutex_);
  return slot_;
}

bool DiskKey::begin_change(std::uint64_t& next_number) {
  const std::lock_guard lock(mutex_);
  if (std::exchange(changing_, true)) return false;
  next_number = ++last_number_;
  return true;
}

void DiskKey::end_change() {
  const std::lock_guard lock(mutex_);
  changing_ = false;
}

void DiskKey::adopt(KeySlot slot) {
  const std::lock_guard lock(mutex_);
  key_ = std::move(slot.key);
  slot_ = 1 - slot_;
  number_.store(slot.number, std::memory_order_release);
}

}  // namespace perilune::block
