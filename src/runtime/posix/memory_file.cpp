// SPDX-License-Identifier: Apache-2.0
#include "runtime/posix/memory_file.hpp"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <utility>

#include "base/copy.hpp"
#include "base/mapping.hpp"
#include "runtime/posix/guarded_copy.hpp"
#include "runtime/posix/open_block_file.hpp"

namespace perilune::runtime::posix {
namespace {

[[nodiscard]] std::size_t total_bytes(std::span<const iovec> parts) noexcept {
  std::size_t total = 0;
  for (const iovec& part : parts) total += part.iov_len;
  return total;
}

[[nodiscard]] bool all_zero(const std::uint8_t* p, std::size_t bytes) noexcept {
  return bytes == 0 || (p[0] == 0 && std::memcmp(p, p + 1, bytes - 1) == 0);
}

}  // namespace

// The mapping of one file, and a bit for each of its pages: it is there. Any thread.
class MappedPages {
 public:
  [[nodiscard]] static std::shared_ptr<MappedPages> of(int fd, const OpenedBlockFile& opened);

  MappedPages(int fd, const OpenedBlockFile& opened)
      : file_(Mapping::of_file(fd, opened.properties.size_bytes,
                               opened.properties.read_only ? PROT_READ : PROT_READ | PROT_WRITE)),
        bits_(Mapping::of_zeroes((file_.bytes() / page_bytes / bits_per_word + 1) * sizeof(Word))),
        writable_(!opened.properties.read_only) {
    if (!good()) return;
    (void)::madvise(file_.begin(), file_.bytes(), MADV_DONTDUMP);
    if (!opened.sparse) std::memset(bits_.begin(), 0xff, bits_.bytes());
  }
  [[nodiscard]] bool good() const noexcept { return file_.good() && bits_.good(); }
  [[nodiscard]] bool writable() const noexcept { return writable_; }

  [[nodiscard]] bool has(std::uint64_t offset, std::size_t bytes) const noexcept {
    if (offset > file_.bytes() || bytes > file_.bytes() - offset) return false;
    for (std::uint64_t page = offset / page_bytes; page * page_bytes < offset + bytes; ++page) {
      if ((word(page).load(std::memory_order_relaxed) & bit(page)) == 0) return false;
    }
    return true;
  }
  // Within the file.
  void note_written(std::uint64_t offset, std::size_t bytes) noexcept {
    for (std::uint64_t page = offset / page_bytes; page * page_bytes < end_of(offset, bytes); ++page)
      word(page).fetch_or(bit(page), std::memory_order_relaxed);
  }
  // What holds anything but zeroes is no hole.
  void note_read(std::uint64_t offset, std::span<const iovec> to, std::size_t bytes) noexcept {
    for (const iovec& part : to) {
      const auto* at = static_cast<const std::uint8_t*>(part.iov_base);
      for (std::size_t left = std::min(part.iov_len, bytes); left > 0;) {
        const std::size_t piece = std::min<std::size_t>(left, page_bytes - offset % page_bytes);
        if (!all_zero(at, piece)) note_written(offset, piece);
        at += piece;
        offset += piece;
        left -= piece;
        bytes -= piece;
      }
    }
  }
  void forget(std::uint64_t offset, std::uint64_t bytes) noexcept {
    for (std::uint64_t page = offset / page_bytes; page * page_bytes < end_of(offset, bytes); ++page)
      word(page).fetch_and(~bit(page), std::memory_order_relaxed);
  }

  // True: copied. False: pages are missing after all. has() was true.
  [[nodiscard]] bool copy_out(std::uint64_t offset, std::span<const iovec> to) const noexcept {
    return guarded(file_.all(), [&] {
      const std::uint8_t* from = file_.begin() + offset;
      for (const iovec& part : to) {
        std::memcpy(part.iov_base, from, part.iov_len);
        from += part.iov_len;
      }
    });
  }
  [[nodiscard]] bool copy_in(std::uint64_t offset, std::span<const iovec> from) noexcept {
    return guarded(file_.all(), [&] {
      std::uint8_t* to = file_.begin() + offset;
      for (const iovec& part : from) {
        copy_past_caches(to, static_cast<const std::uint8_t*>(part.iov_base), part.iov_len);
        to += part.iov_len;
      }
    });
  }

 private:
  using Word = std::atomic<std::uint64_t>;
  static constexpr std::uint64_t page_bytes = 4096;  // or a part of a larger one
  static constexpr std::uint64_t bits_per_word = 64;

  [[nodiscard]] Word& word(std::uint64_t page) const noexcept {
    return reinterpret_cast<Word*>(bits_.begin())[page / bits_per_word];
  }
  [[nodiscard]] static std::uint64_t bit(std::uint64_t page) noexcept {
    return std::uint64_t{1} << page % bits_per_word;
  }
  [[nodiscard]] std::uint64_t end_of(std::uint64_t offset, std::uint64_t bytes) const noexcept {
    return offset >= file_.bytes() ? 0 : offset + std::min<std::uint64_t>(bytes, file_.bytes() - offset);
  }

  Mapping file_;
  Mapping bits_;
  bool writable_;
};

std::shared_ptr<MappedPages> MappedPages::of(int fd, const OpenedBlockFile& opened) {
  static std::mutex mutex;
  static std::map<std::pair<dev_t, ino_t>, std::weak_ptr<MappedPages>> known;
  struct stat info {};
  if (opened.properties.size_bytes == 0 || ::fstat(fd, &info) != 0) return nullptr;
  const std::scoped_lock lock(mutex);
  std::erase_if(known, [](const auto& entry) { return entry.second.expired(); });
  auto& entry = known[{info.st_dev, info.st_ino}];
  auto pages = entry.lock();
  if (pages && pages->file_.bytes() == opened.properties.size_bytes &&
      pages->writable_ != opened.properties.read_only) {
    return pages;
  }
  catch_faults();
  pages = std::make_shared<MappedPages>(fd, opened);
  if (!pages->good()) return nullptr;
  entry = pages;
  return pages;
}

MemoryFile::MemoryFile(int fd, const OpenedBlockFile& opened)
    : fd_(fd), pages_(MappedPages::of(fd, opened)) {}

MemoryFile::~MemoryFile() = default;

int MemoryFile::read(ByteOffset offset, std::span<const iovec> to) noexcept {
  if (pages_) {
    const std::size_t total = total_bytes(to);
    if (pages_->has(offset.value(), total)) {
      if (pages_->copy_out(offset.value(), to)) return static_cast<int>(total);
      pages_->forget(offset.value(), total);
    }
  }
  const ssize_t n = ::preadv(fd_, to.data(), static_cast<int>(to.size()), static_cast<off_t>(offset.value()));
  if (n < 0) return -errno;
  if (pages_) pages_->note_read(offset.value(), to, static_cast<std::size_t>(n));
  return static_cast<int>(n);
}

int MemoryFile::write(ByteOffset offset, std::span<const iovec> from) noexcept {
  if (pages_) {
    const std::size_t total = total_bytes(from);
    if (pages_->writable() && pages_->has(offset.value(), total)) {
      if (pages_->copy_in(offset.value(), from)) return static_cast<int>(total);
      pages_->forget(offset.value(), total);
    }
  }
  const ssize_t n =
      ::pwritev(fd_, from.data(), static_cast<int>(from.size()), static_cast<off_t>(offset.value()));
  if (n < 0) return -errno;
  if (pages_) pages_->note_written(offset.value(), static_cast<std::size_t>(n));
  return static_cast<int>(n);
}

bool MemoryFile::read_whole(ByteOffset offset, MutableBytes to) noexcept {
  const iovec one{to.data(), to.size()};
  return read(offset, {&one, 1}) == static_cast<int>(to.size());
}

bool MemoryFile::write_whole(ByteOffset offset, Bytes from) noexcept {
  const iovec one{const_cast<std::uint8_t*>(from.data()), from.size()};
  return write(offset, {&one, 1}) == static_cast<int>(from.size());
}

void MemoryFile::forget(ByteOffset offset, ByteCount length) noexcept {
  if (pages_) pages_->forget(offset.value(), length.value());
}

}  // namespace perilune::runtime::posix
