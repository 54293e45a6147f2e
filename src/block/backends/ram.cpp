// SPDX-License-Identifier: Apache-2.0
#include "block/backends/ram.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <thread>
#include <vector>

#include "base/copy.hpp"
#include "block/admission.hpp"
#include "block/backends/random_identity.hpp"

namespace perilune::block {
namespace {

constexpr std::size_t page_bytes = 4096;
constexpr std::size_t pages_per_query = 4096;

// Gives whole pages back to the system and clears the rest. What lies in between reads as zeroes.
void make_zero(std::uint8_t* begin, std::uint64_t length) {
  const auto from = reinterpret_cast<std::uintptr_t>(begin);
  const std::uintptr_t to = from + length;
  const std::uintptr_t first_page = (from + page_bytes - 1) & ~(page_bytes - 1);
  const std::uintptr_t end_page = to & ~(page_bytes - 1);
  if (first_page < end_page &&
      ::madvise(reinterpret_cast<void*>(first_page), end_page - first_page, MADV_DONTNEED) == 0) {
    std::memset(begin, 0, first_page - from);
    std::memset(reinterpret_cast<void*>(end_page), 0, to - end_page);
    return;
  }
  std::memset(begin, 0, length);
}

// Swapped out, or present and mapped by us alone (Documentation/admin-guide/mm/pagemap.rst): what was only
// read has the page of zeroes that all share. No other process has our pages, see MADV_DONTFORK.
bool has_page(std::uint64_t entry) noexcept {
  constexpr std::uint64_t present = std::uint64_t{1} << 63, swapped = std::uint64_t{1} << 62,
                          exclusive = std::uint64_t{1} << 56;
  return (entry & swapped) != 0 || (entry & (present | exclusive)) == (present | exclusive);
}

// What the system could still give to anybody: unused memory, what caches would give back, swap.
std::optional<std::uint64_t> available_memory() {
  std::ifstream in("/proc/meminfo");
  std::uint64_t kibibytes = 0;
  int found = 0;
  std::string name, unit;
  for (std::uint64_t value = 0; in >> name >> value; std::getline(in, unit)) {
    if (name != "MemAvailable:" && name != "SwapFree:") continue;
    kibibytes += value;
    ++found;
  }
  if (found != 2) return std::nullopt;
  return kibibytes * 1024;
}

class RamChannel final : public Channel {
 public:
  RamChannel(const Geometry& geometry, std::uint8_t* memory, int pagemap) noexcept
      : geometry_(geometry), memory_(memory), pagemap_(pagemap) {}
  [[nodiscard]] const Geometry& geometry() const override { return geometry_; }

  [[nodiscard]] bool submit(BlockOp& op) override {
    const auto ended = refuse_or_skip(geometry_, op);
    if (ended) {
      op.status = *ended;
      return true;
    }
    std::uint8_t* at = memory_ + byte_offset(geometry_, op);
    switch (op.kind) {
      case OpKind::read:
        for (const iovec& part : op.data) {
          std::memcpy(part.iov_base, at, part.iov_len);
          at += part.iov_len;
        }
        break;
      case OpKind::write:
        for (const iovec& part : op.data) {
          copy_past_caches(at, static_cast<const std::uint8_t*>(part.iov_base), part.iov_len);
          at += part.iov_len;
        }
        break;
      case OpKind::unmap:
      case OpKind::write_zeroes:
        if (geometry_.thin) make_zero(at, byte_length(geometry_, op));
        else std::memset(at, 0, byte_length(geometry_, op));
        break;
      case OpKind::flush:
        break;
      case OpKind::query:
        query(op);
        break;
      case OpKind::change_key:  // refused above
        break;
    }
    return true;
  }

  [[nodiscard]] std::uint8_t* lend(Lba lba, BlockCount blocks, bool for_write) noexcept override {
    const std::uint64_t total = geometry_.blocks.value();
    if (lba.value() > total || blocks.value() > total - lba.value() || (for_write && geometry_.read_only))
      return nullptr;
    return memory_ + lba.value() * geometry_.block_size_bytes;
  }

 private:
  // Looks at no more pages than one read of the map tells of: the answer may end before the range does.
  void query(BlockOp& op) const {
    if (!geometry_.thin) {
      op.mapped = true;
      op.alike = op.blocks;
      return;
    }
    const auto from = reinterpret_cast<std::uintptr_t>(memory_) + byte_offset(geometry_, op);
    const std::uintptr_t to = from + byte_length(geometry_, op);
    const std::uintptr_t first_page = from / page_bytes;
    const std::size_t wanted = std::min<std::size_t>((to - 1) / page_bytes - first_page + 1, pages_per_query);
    std::array<std::uint64_t, pages_per_query> entries;
    const ssize_t bytes = ::pread(pagemap_, entries.data(), wanted * sizeof entries[0],
                                  static_cast<off_t>(first_page * sizeof entries[0]));
    if (bytes < static_cast<ssize_t>(sizeof entries[0])) {  // nobody tells: then nothing may be called
                                                            // deallocated
      op.mapped = true;
      op.alike = op.blocks;
      return;
    }
    const std::size_t known = static_cast<std::size_t>(bytes) / sizeof entries[0];
    op.mapped = has_page(entries[0]);
    std::size_t alike = 1;
    while (alike < known && has_page(entries[alike]) == op.mapped) ++alike;
    const std::uintptr_t end = std::min(to, (first_page + alike) * page_bytes);
    // Blocks cross pages where they have room for protection information: one that is in part there is
    // mapped.
    const std::uint64_t block = geometry_.block_size_bytes;
    const std::uint64_t whole = (end - from) / block;
    if (!op.mapped && whole == 0) op.mapped = true;
    op.alike = BlockCount(std::clamp<std::uint64_t>(op.mapped ? (end - from + block - 1) / block : whole, 1,
                                                    op.blocks.value()));
  }

  const Geometry& geometry_;
  std::uint8_t* memory_;
  int pagemap_;
};

}  // namespace

Result<std::unique_ptr<Backstore>> RamBackstore::create(std::uint64_t user_bytes,
                                                        const BackstoreOptions& options) {
  const std::uint64_t blocks = user_bytes / options.block_size_bytes;
  const std::uint64_t size_bytes = blocks * options.stored_block_bytes();
  std::unique_ptr<RamBackstore> self(new RamBackstore);
  self->memory_ = Mapping::of_huge_pages(size_bytes, options.thick ? 0 : MAP_NORESERVE);
  if (!self->memory_.good()) return fail_errno(errno, "ram:" + format_size(size_bytes));
  std::uint8_t* const memory = self->memory_.begin();
  self->pagemap_ = runtime::posix::UniqueFd(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  (void)::madvise(memory, size_bytes, MADV_DONTDUMP);
  (void)::madvise(memory, size_bytes, MADV_DONTFORK);
  self->identity_ = random_identity("ram");
  Geometry& g = self->geometry_;
  g.block_size_bytes = options.stored_block_bytes();
  g.protection_bytes = options.protection_bytes;
  g.physical_block_size_bytes = options.physical_block_over(page_bytes);
  g.blocks = BlockCount(blocks);
  g.write_cache = false;  // a write that ended is on the medium, such as it is
  g.thin = g.unmap_zeroes = !options.thick;
  g.read_only = options.read_only;
  g.unmap_granularity_blocks =
      static_cast<std::uint32_t>((page_bytes + g.block_size_bytes - 1) / g.block_size_bytes);
  g.lends_memory = g.in_memory = true;
  g.max_atomic_blocks = UINT32_MAX;  // what could tear a copy takes the whole disk away
  if (options.thick) {
    if (Status status = self->allocate_all(); !status) return tl::unexpected(status.error());
  }
  return self;
}

Status RamBackstore::allocate_all() {
  constexpr int populate_write = 23;  // MADV_POPULATE_WRITE, Linux 5.14
  if (::madvise(memory_.begin(), memory_.bytes(), populate_write) == 0) return {};
  if (errno != EINVAL)
    return fail(Errc::no_memory, "ram:" + format_size(memory_.bytes()) + ": not so much memory is free",
                errno);
  for (std::size_t at = 0; at < memory_.bytes(); at += page_bytes) memory_.begin()[at] = 0;
  return {};
}

std::optional<SpaceLevel> RamBackstore::measure_space() {
  constexpr std::size_t entries_per_read = 8192;  // who serves may have no other core than ours
  if (!geometry_.thin || !pagemap_) return std::nullopt;
  const auto first = reinterpret_cast<std::uintptr_t>(memory_.begin()) / page_bytes;
  const std::size_t pages = (memory_.bytes() + page_bytes - 1) / page_bytes;
  std::vector<std::uint64_t> entries(std::min(pages, entries_per_read));
  std::uint64_t there = 0;
  for (std::size_t at = 0; at < pages;) {
    const std::size_t wanted = std::min(entries.size(), pages - at);
    const ssize_t bytes = ::pread(pagemap_.get(), entries.data(), wanted * sizeof entries[0],
                                  static_cast<off_t>((first + at) * sizeof entries[0]));
    if (bytes < static_cast<ssize_t>(sizeof entries[0])) return std::nullopt;
    const std::size_t known = static_cast<std::size_t>(bytes) / sizeof entries[0];
    there += static_cast<std::uint64_t>(
        std::count_if(entries.begin(), entries.begin() + static_cast<std::ptrdiff_t>(known), has_page));
    at += known;
    std::this_thread::yield();
  }
  const auto available = available_memory();
  if (!available) return std::nullopt;
  return SpaceLevel{there * page_bytes, *available};
}

std::string RamBackstore::describe() const {
  return fmt::format("memory, {}{}{}{}", format_size(memory_.bytes()), geometry_.thin ? "" : ", thick",
                     geometry_.protection_bytes == 0 ? "" : ", with protection information",
                     geometry_.read_only ? ", read-only" : "");
}

Result<std::unique_ptr<Channel>> RamBackstore::open_channel(runtime::Loop&) {
  return std::make_unique<RamChannel>(geometry_, memory_.begin(), pagemap_.get());
}

}  // namespace perilune::block
