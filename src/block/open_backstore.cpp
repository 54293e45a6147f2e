// SPDX-License-Identifier: Apache-2.0
#include "block/open_backstore.hpp"

#include <fmt/format.h>

#include <bit>
#include <charconv>
#include <limits>
#include <string>

#include "block/backends/file.hpp"
#include "block/backends/null.hpp"
#include "block/backends/ram.hpp"

namespace perilune::block {
namespace {

unsigned shift_of(char suffix) {
  switch (suffix) {
    case 'k': case 'K': return 10;
    case 'm': case 'M': return 20;
    case 'g': case 'G': return 30;
    case 't': case 'T': return 40;
    default: return 0;
  }
}

}  // namespace

Result<std::uint64_t> parse_size(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const std::string_view rest(end, static_cast<std::size_t>(text.data() + text.size() - end));
  const unsigned shift = rest.empty() ? 0 : shift_of(rest.front());
  const bool understood = error == std::errc{} && (rest.empty() || (rest.size() == 1 && shift != 0));
  if (!understood || value > (std::numeric_limits<std::uint64_t>::max() >> shift)) {
    return fail(Errc::invalid_argument,
                fmt::format("'{}' is not a size: bytes, or a number with K, M, G or T", text));
  }
  return value << shift;
}

std::string format_size(std::uint64_t bytes) {
  constexpr std::string_view units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
  std::size_t unit = 0;
  auto value = static_cast<double>(bytes);
  while (value >= 1024 && unit + 1 < std::size(units)) {
    value /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, units[unit]);
}

Result<std::unique_ptr<Backstore>> open_backstore(std::string_view spec, const BackstoreOptions& options) {
  if (options.block_size_bytes != 512 && options.block_size_bytes != 2048 &&
      options.block_size_bytes != 4096) {
    return fail(Errc::invalid_argument,
                fmt::format("block size {}: only 512, 2048 and 4096 are possible", options.block_size_bytes));
  }
  const std::uint32_t physical = options.physical_block_bytes;
  if (physical != 0 &&
      (!std::has_single_bit(physical) || physical < options.block_size_bytes || physical > 65536)) {
    return fail(Errc::invalid_argument,
                fmt::format("physical block size {}: a power of two from {} to 65536 is possible", physical,
                            options.block_size_bytes));
  }
  const bool ram = spec.starts_with("ram:");
  const bool null = spec.starts_with("null:");
  if (!ram && !null) return FileBackstore::open(std::string(spec), options);
  if (options.encrypted) {
    return fail(
        Errc::unsupported,
        fmt::format("{}: what is kept nowhere is not encrypted; files and block devices can be", spec));
  }
  const auto size = parse_size(spec.substr(spec.find(':') + 1));
  if (!size) return fail(size.error().code, fmt::format("{}: {}", spec, size.error().message));
  if (*size == 0 || *size % options.block_size_bytes != 0) {
    return fail(Errc::invalid_argument,
                fmt::format("{}: the size must be a multiple of the block size ({} bytes), and not zero",
                            spec, options.block_size_bytes));
  }
  if (ram) return RamBackstore::create(*size, options);
  return NullBackstore::create(*size, options);
}

}  // namespace perilune::block
