// SPDX-License-Identifier: Apache-2.0
#include "block/atomic_journal.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/assert.hpp"
#include "block/atomic_lanes.hpp"
#include "crypto/crc32c.hpp"
#include "crypto/hash.hpp"
#include "runtime/posix/unique_fd.hpp"

namespace perilune::block {
namespace {

using runtime::posix::UniqueFd;

constexpr std::string_view magic = "PERILUNE ATOMIC1";
constexpr std::size_t header_fields_bytes = 48;  // then its own sum
constexpr const char* file_name = "atomic-journal";

class FileMedium final : public AtomicMedium {
 public:
  FileMedium(int fd, std::string name, std::uint64_t size_bytes)
      : fd_(fd), name_(std::move(name)), size_bytes_(size_bytes) {}
  [[nodiscard]] Status read(ByteOffset offset, MutableBytes out) override {
    std::size_t done = 0;
    while (done < out.size()) {
      const ssize_t n =
          ::pread(fd_.get(), out.data() + done, out.size() - done, static_cast<off_t>(offset.value() + done));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return fail_errno(errno, name_);
      if (n == 0) break;
      done += static_cast<std::size_t>(n);
    }
    std::fill(out.begin() + static_cast<std::ptrdiff_t>(done), out.end(), std::uint8_t{0});
    return {};
  }
  [[nodiscard]] Status write_durably(ByteOffset offset, Bytes data) override {
    std::size_t done = 0;
    while (done < data.size()) {
      const ssize_t n = ::pwrite(fd_.get(), data.data() + done, data.size() - done,
                                 static_cast<off_t>(offset.value() + done));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) return fail_errno(n == 0 ? EIO : errno, name_);
      done += static_cast<std::size_t>(n);
    }
    if (::fdatasync(fd_.get()) != 0) return fail_errno(errno, name_);
    return {};
  }
  [[nodiscard]] std::uint64_t size_bytes() const override { return size_bytes_; }

 private:
  UniqueFd fd_;
  std::string name_;
  std::uint64_t size_bytes_;
};

ByteOffset place_of(std::uint32_t slot) noexcept { return ByteOffset(slot * atomic_slot_bytes); }

}  // namespace

std::uint64_t atomic_disk_number(const std::string& identity, std::uint64_t inode) {
  std::array<std::uint8_t, 8> number{};
  store_be64(number.data(), inode);
  const auto digest = crypto::hash(crypto::HashAlgorithm::sha256,
                                   {as_bytes(std::string_view("atomic")), number, as_bytes(identity)});
  PERILUNE_ASSERT(digest.has_value());  // SHA-256 is always there
  return load_be64(digest->data.data());
}

void encode_atomic_header(const AtomicEntry& entry, AtomicHeader& out) noexcept {
  out.fill(0);
  std::copy(magic.begin(), magic.end(), out.begin());
  store_be64(&out[16], entry.disk);
  store_be64(&out[24], entry.generation);
  store_be64(&out[32], entry.offset.value());
  store_be32(&out[40], entry.length_bytes);
  store_be32(&out[44], entry.payload_crc);
  store_be32(&out[header_fields_bytes],
             crypto::crc32c(crypto::crc32c_start, {out.data(), header_fields_bytes}));
}

std::optional<AtomicEntry> decode_atomic_header(const AtomicHeader& header) noexcept {
  if (!std::equal(magic.begin(), magic.end(), header.begin())) return std::nullopt;
  if (load_be32(&header[header_fields_bytes]) !=
      crypto::crc32c(crypto::crc32c_start, {header.data(), header_fields_bytes})) {
    return std::nullopt;
  }
  AtomicEntry entry;
  entry.disk = load_be64(&header[16]);
  entry.generation = load_be64(&header[24]);
  entry.offset = ByteOffset(load_be64(&header[32]));
  entry.length_bytes = load_be32(&header[40]);
  entry.payload_crc = load_be32(&header[44]);
  if (entry.length_bytes == 0 || entry.length_bytes > atomic_payload_bytes) return std::nullopt;
  return entry;
}

AtomicJournal::AtomicJournal(std::string path, std::unique_ptr<AtomicMedium> medium, bool in_memory)
    : path_(std::move(path)), in_memory_(in_memory), medium_(std::move(medium)) {}

Result<std::shared_ptr<AtomicJournal>> AtomicJournal::create(std::string path,
                                                             std::unique_ptr<AtomicMedium> medium,
                                                             bool in_memory) {
  std::shared_ptr<AtomicJournal> self(new AtomicJournal(std::move(path), std::move(medium), in_memory));
  self->self_ = self;
  if (Status status = self->look_at_all(); !status) return tl::unexpected(status.error());
  return self;
}

Result<std::shared_ptr<AtomicJournal>> AtomicJournal::open(const std::string& folder) {
  const std::string path = folder + "/" + file_name;
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!fd) return fail_errno(errno, path);
  struct stat info {};
  if (::fstat(fd.get(), &info) != 0) return fail_errno(errno, path);
  if (!S_ISREG(info.st_mode)) return fail(Errc::invalid_argument, path + ": not a regular file");
  if (static_cast<std::uint64_t>(info.st_size) < atomic_journal_bytes) {
    // The name and the length are durable before anything relies on them.
    UniqueFd directory(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!directory || ::ftruncate(fd.get(), static_cast<off_t>(atomic_journal_bytes)) != 0 ||
        ::fsync(fd.get()) != 0 || ::fsync(directory.get()) != 0) {
      return fail_errno(errno, path);
    }
  }
  struct statfs fs {};
  const bool in_memory =
      ::fstatfs(fd.get(), &fs) == 0 && (fs.f_type == TMPFS_MAGIC || fs.f_type == RAMFS_MAGIC);
  return create(path, make_file_medium(fd.release(), path, atomic_journal_bytes), in_memory);
}

Status AtomicJournal::look_at_all() {
  AtomicHeader header;
  std::uint64_t newest = 0;
  for (std::uint32_t slot = 0; slot < atomic_slots; ++slot) {
    if (Status status = medium_->read(place_of(slot), header); !status) return status;
    const auto entry = decode_atomic_header(header);
    if (!entry) continue;
    left_.emplace(slot, *entry);
    newest = std::max(newest, entry->generation);
  }
  generation_ = newest + 1;
  return {};
}

Status AtomicJournal::recover(std::uint64_t disk, AtomicMedium& medium) {
  const std::lock_guard lock(mutex_);
  for (auto it = left_.begin(); it != left_.end();) {
    if (it->second.disk != disk) {
      ++it;
      continue;
    }
    if (Status status = recover_slot(it->first, it->second, medium); !status) return status;
    it = left_.erase(it);
  }
  return {};
}

// An entry whose payload is not whole was cut short while it was written: nothing has been written in place
// then.
Status AtomicJournal::recover_slot(std::uint32_t slot, const AtomicEntry& entry, AtomicMedium& medium) {
  std::vector<std::uint8_t> payload(entry.length_bytes);
  if (Status status = medium_->read(ByteOffset(place_of(slot).value() + atomic_header_bytes), payload);
      !status)
    return status;
  const bool whole = crypto::crc32c(crypto::crc32c_start, payload) == entry.payload_crc;
  const std::uint64_t size = medium.size_bytes();
  const bool fits = entry.offset.value() <= size && entry.length_bytes <= size - entry.offset.value();
  if (whole && fits) {
    if (Status status = medium.write_durably(entry.offset, payload); !status) return status;
  }
  const AtomicHeader nothing{};
  return medium_->write_durably(place_of(slot), nothing);
}

Result<std::shared_ptr<AtomicLanes>> AtomicJournal::lanes(runtime::Loop& loop) {
  const std::lock_guard lock(mutex_);
  if (auto there = lanes_[&loop].lock()) return there;
  std::erase_if(lanes_, [](const auto& each) { return each.second.expired(); });
  auto file = loop.open_file(path_, {.read_only = false, .prefer_direct = false});
  if (!file) return tl::unexpected(file.error());
  std::vector<std::uint32_t> slots = take_slots(AtomicLanes::max_lanes);
  if (slots.empty()) {
    return fail(
        Errc::busy,
        fmt::format(
            "{}: every slot holds a write to a disk that is not open. Serve those disks once, or remove "
            "the file if they are gone",
            path_));
  }
  auto made = std::make_shared<AtomicLanes>(self_.lock(), std::move(*file), std::move(slots));
  lanes_[&loop] = made;
  return made;
}

std::vector<std::uint32_t> AtomicJournal::take_slots(std::size_t wanted) {
  std::vector<std::uint32_t> slots;
  for (std::uint32_t slot = 0; slot < atomic_slots && slots.size() < wanted; ++slot) {
    if (taken_[slot] || left_.contains(slot)) continue;
    taken_[slot] = true;
    slots.push_back(slot);
  }
  return slots;
}

void AtomicJournal::give_back(const std::vector<std::uint32_t>& slots) {
  const std::lock_guard lock(mutex_);
  for (const std::uint32_t slot : slots) taken_[slot] = false;
}

std::unique_ptr<AtomicMedium> make_file_medium(int fd, std::string name, std::uint64_t size_bytes) {
  return std::make_unique<FileMedium>(fd, std::move(name), size_bytes);
}

}  // namespace perilune::block
