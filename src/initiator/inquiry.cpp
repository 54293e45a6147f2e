// SPDX-License-Identifier: Apache-2.0
#include "initiator/inquiry.hpp"

#include <algorithm>

namespace perilune::initiator {

namespace {

// Capacities beyond this many bytes cannot be addressed by offsets of a file.
constexpr std::uint64_t max_capacity_bytes = std::uint64_t{1} << 62;

std::string hex(Bytes bytes) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string out;
  for (std::uint8_t b : bytes) {
    out += digits[b >> 4];
    out += digits[b & 0xf];
  }
  return out;
}

bool set_capacity(UnitInfo& info, std::uint64_t last_lba, std::uint32_t block_bytes) {
  if (last_lba == ~std::uint64_t{0}) return false;
  if (block_bytes < 512 || block_bytes > 65536 || (block_bytes & (block_bytes - 1)) != 0) return false;
  const std::uint64_t blocks = last_lba + 1;
  if (blocks > max_capacity_bytes / block_bytes) return false;
  info.geometry.block_size_bytes = block_bytes;
  info.geometry.physical_block_size_bytes = block_bytes;
  info.geometry.blocks = BlockCount(blocks);
  return true;
}

// `header`: bytes before the block descriptors; parameter: the device-specific byte.
void parse_mode(Bytes data, std::size_t header, std::uint8_t parameter, std::size_t descriptors,
                UnitInfo& info) {
  info.geometry.read_only = (parameter & 0x80) != 0;
  info.dpo_fua = (parameter & 0x10) != 0;
  info.geometry.fua = true;  // natively, or by a flush that LogicalUnit adds
  const std::size_t page = header + descriptors;
  if (page + 3 <= data.size() && (data[page] & 0x3f) == 0x08)
    info.geometry.write_cache = (data[page + 2] & 0x04) != 0;
}

}  // namespace

std::string printable(Bytes text) {
  std::string out;
  for (std::uint8_t c : text) out += c >= 0x20 && c < 0x7f ? static_cast<char>(c) : c == 0 ? ' ' : '_';
  const auto first = out.find_first_not_of(' ');
  if (first == std::string::npos) return {};
  return out.substr(first, out.find_last_not_of(' ') - first + 1);
}

bool parse_inquiry(Bytes data, UnitInfo& info) {
  if (data.size() < 36) return false;
  info.inquiry.assign(data.begin(), data.begin() + static_cast<std::ptrdiff_t>(
                                                       std::min<std::size_t>(data.size(), 5u + data[4])));
  info.peripheral_qualifier = data[0] >> 5;
  info.peripheral_type = data[0] & 0x1f;
  info.removable = (data[1] & 0x80) != 0;
  info.version = data[2];
  info.vendor = printable(data.subspan(8, 8));
  info.product = printable(data.subspan(16, 16));
  info.revision = printable(data.subspan(32, 4));
  return true;
}

std::size_t vpd_end(Bytes page, std::uint8_t code) {
  if (page.size() < 4 || page[1] != code) return 0;
  return std::min<std::size_t>(page.size(), 4u + load_be16(page.data() + 2));
}

std::vector<std::uint8_t>& page_of(UnitInfo& info, std::uint8_t code) {
  switch (code) {
    case 0x80: return info.vpd80;
    case 0x83: return info.vpd83;
    case 0xb0: return info.vpd_b0;
    case 0xb1: return info.vpd_b1;
    default: return info.vpd_b2;
  }
}

std::string wwid_of(Bytes page) {
  std::string best;
  int best_rank = 0;
  const std::size_t end = vpd_end(page, 0x83);
  for (std::size_t at = 4; at + 4 <= end;) {
    const std::size_t length = page[at + 3];
    if (at + 4 + length > end) break;
    const Bytes id = page.subspan(at + 4, length);
    const unsigned type = page[at + 1] & 0xf;
    if (((page[at + 1] >> 4) & 3) == 0 && length != 0) {
      int rank = 0;
      std::string text;
      if (type == 3) {
        rank = (id[0] >> 4) == 6 ? 5 : 3;
        text = "naa." + hex(id);
      } else if (type == 2) {
        rank = 4;
        text = "eui." + hex(id);
      } else if (type == 1) {
        rank = 2;
        text = "t10." + printable(id);
      } else if (type == 0) {
        rank = 1;
        text = "vendor." + hex(id);
      }
      if (rank > best_rank) {
        best_rank = rank;
        best = std::move(text);
      }
    }
    at += 4 + length;
  }
  return best;
}

void parse_vpd(UnitInfo& info) {
  if (info.vpd80.size() > 4) info.serial = printable(Bytes(info.vpd80).subspan(4));
  info.wwid = wwid_of(info.vpd83);
  const Bytes limits = info.vpd_b0;
  block::Geometry& geometry = info.geometry;
  if (limits.size() >= 16) {
    geometry.max_transfer_blocks = load_be32(limits.data() + 8);
    info.optimal_transfer_blocks = load_be32(limits.data() + 12);
  }
  if (limits.size() >= 32) {
    info.unmap_max_blocks = load_be32(limits.data() + 20);
    info.unmap_max_descriptors = load_be32(limits.data() + 24);
    geometry.unmap_granularity_blocks = std::max<std::uint32_t>(1, load_be32(limits.data() + 28));
  }
  if (limits.size() >= 44) info.write_same_max_blocks = load_be64(limits.data() + 36);
  if (info.vpd_b1.size() >= 6) geometry.rotational = load_be16(info.vpd_b1.data() + 4) >= 0x0401;
  if (info.vpd_b2.size() >= 6) {
    info.unmap = (info.vpd_b2[5] & 0x80) != 0;
    info.write_same_unmap = (info.vpd_b2[5] & 0x40) != 0;
  }
}

bool parse_capacity16(Bytes data, UnitInfo& info) {
  if (data.size() < 12 || !set_capacity(info, load_be64(data.data()), load_be32(data.data() + 8)))
    return false;
  if (data.size() >= 16) {
    const unsigned exponent = data[13] & 0xf;
    if (exponent <= 7) info.geometry.physical_block_size_bytes = info.geometry.block_size_bytes << exponent;
    info.thin = (data[14] & 0x80) != 0;
    info.geometry.thin = info.thin && (info.unmap || info.write_same_unmap);
    info.geometry.unmap_zeroes = info.thin && (data[14] & 0x40) != 0;
  }
  return true;
}

bool parse_capacity10(Bytes data, UnitInfo& info) {
  if (data.size() < 8) return false;
  const std::uint32_t last = load_be32(data.data());
  return last != 0xffffffff && set_capacity(info, last, load_be32(data.data() + 4));
}

void parse_mode6(Bytes data, UnitInfo& info) {
  if (data.size() >= 4) parse_mode(data, 4, data[2], data[3], info);
}

void parse_mode10(Bytes data, UnitInfo& info) {
  if (data.size() >= 8) parse_mode(data, 8, data[3], load_be16(data.data() + 6), info);
}

// SAM-5 4.7: peripheral device, flat space and extended flat space addressing.
std::uint64_t lun_number(std::uint64_t lun) noexcept {
  const unsigned method = static_cast<unsigned>(lun >> 62);
  if ((lun & 0x0000ffffffffffff) == 0) {
    if (method == 0 && (lun >> 56) == 0) return (lun >> 48) & 0xff;
    if (method == 1) return (lun >> 48) & 0x3fff;
  }
  if ((lun >> 56) == 0xd2 && (lun & 0xffffffff) == 0) return (lun >> 32) & 0xffffff;
  return lun;
}

std::uint64_t lun_bytes(std::uint64_t number) noexcept {
  if (number < 256) return number << 48;
  if (number < 16384) return (0x4000 | number) << 48;
  return (std::uint64_t{0xd2} << 56) | ((number & 0xffffff) << 32);
}

const char* peripheral_type_name(std::uint8_t type) noexcept {
  switch (type) {
    case 0x00: return "DIRECT_ACCESS";
    case 0x01: return "SEQUENTIAL_ACCESS";
    case 0x02: return "PRINTER";
    case 0x03: return "PROCESSOR";
    case 0x04: return "WRITE_ONCE";
    case 0x05: return "MMC";
    case 0x06: return "SCANNER";
    case 0x07: return "OPTICAL_MEMORY";
    case 0x08: return "MEDIA_CHANGER";
    case 0x09: return "COMMUNICATIONS";
    case 0x0c: return "STORAGE_ARRAY_CONTROLLER";
    case 0x0d: return "ENCLOSURE_SERVICES";
    case 0x0e: return "SIMPLIFIED_DIRECT_ACCESS";
    case 0x0f: return "OPTICAL_CARD_READER";
    case 0x11: return "OBJECT_BASED_STORAGE";
    case 0x14: return "ZONED_BLOCK";
    case 0x1e: return "WELL_KNOWN_LUN";
    case 0x1f: return "UNKNOWN";
    default: return "RESERVED";
  }
}

}  // namespace perilune::initiator
