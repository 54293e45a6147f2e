// SPDX-License-Identifier: Apache-2.0
// Third-party copies under test: a target with three disks, and parameter lists put together from the bytes
// of SPC-4.
#pragma once

#include <numeric>
#include <string_view>

#include "scsi/test_support.hpp"

namespace perilune::scsi::test {

using Data = std::vector<std::uint8_t>;

inline constexpr std::uint64_t naa_zero = 0x3000'0000'0000'00a0;  // unit 0: 2048 blocks of 512
inline constexpr std::uint64_t naa_one = 0x3000'0000'0000'00a1;   // unit 1: the same
inline constexpr std::uint64_t naa_two = 0x3000'0000'0000'00a2;   // unit 2: 256 blocks of 4096

struct CopyRig {
  explicit CopyRig(std::vector<LunMapping> map = {{0, 0}, {1, 1}, {2, 2}})
      : zero(FakeChannel::disk()),
        one(FakeChannel::disk()),
        two(FakeChannel::disk(256, 4096)),
        device("iqn.x") {
    add(0, zero, naa_zero);
    add(1, one, naa_one);
    add(2, two, naa_two);
    for (std::size_t i = 0; i < zero.memory.size(); ++i)
      zero.memory[i] = static_cast<std::uint8_t>(1 + i / 512 + i % 251);
    a.emplace(device, Rig::names("a"), std::move(map));
    b.emplace(device, Rig::names("b"));
    settle();
  }
  LogicalUnit& unit(std::uint16_t number) { return *device.unit(number); }
  void settle() {
    for (Nexus* nexus : {&*a, &*b}) {
      for (std::uint16_t lun = 0; lun < 3; ++lun) {
        while ((Io(device, *nexus, {0, 0, 0, 0, 0, 0}, {}, 0, lun).run().sense() >> 16) == 6) {
        }
      }
    }
  }
  Io io(Data cdb, std::uint16_t lun = 0, Data out = {}, std::uint32_t expected_in = 0) {
    return Io(device, *a, std::move(cdb), std::move(out), expected_in, lun);
  }
  Io copy(const Data& list, std::uint16_t lun = 0) { return io(extended_copy(list.size()), lun, list); }

  static Data extended_copy(std::size_t bytes, std::uint8_t service_action = 0) {
    Data cdb{0x83, service_action, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    store_be32(&cdb[10], static_cast<std::uint32_t>(bytes));
    return cdb;
  }

  FakeChannel zero, one, two;
  Device device;
  std::optional<Nexus> a, b;

 private:
  void add(std::uint16_t number, FakeChannel& channel, std::uint64_t naa) {
    UnitIdentity identity;
    identity.naa_id = naa;
    identity.serial = "disk-" + std::to_string(number);
    PERILUNE_ASSERT(device.add_unit(number, {.identity = identity}, channel).has_value());
  }
};

// Identification CSCD descriptor of a disk (SPC-4 6.4.5.2).
inline Data cscd(std::uint64_t naa, std::uint32_t block_bytes = 512, bool pad = false) {
  Data out{0xe4, 0, 0, 0, 0x01, 0x03, 0, 8};
  out.resize(32);
  store_be64(&out[8], naa);
  out[28] = pad ? 0x04 : 0;
  store_be24(&out[29], block_bytes);
  return out;
}

// Segment descriptor, block device to block device (SPC-4 6.4.6.2).
inline Data segment(std::uint16_t from, std::uint64_t from_lba, std::uint16_t to, std::uint64_t to_lba,
                    std::uint16_t blocks, std::uint8_t dc_cat = 0) {
  Data out{0x02, dc_cat, 0, 0x18, 0, 0, 0, 0, 0, 0};
  out.resize(28);
  store_be16(&out[4], from);
  store_be16(&out[6], to);
  store_be16(&out[10], blocks);
  store_be64(&out[12], from_lba);
  store_be64(&out[20], to_lba);
  return out;
}

inline Data join(const std::vector<Data>& parts) {
  Data out;
  for (const Data& part : parts) out.insert(out.end(), part.begin(), part.end());
  return out;
}

// EXTENDED COPY(LID1) parameter list.
inline Data lid1(const std::vector<Data>& cscds, const std::vector<Data>& segments,
                 std::uint8_t identifier = 1, std::uint8_t usage = 0) {
  Data out(16);
  out[0] = identifier;
  out[1] = static_cast<std::uint8_t>(usage << 3);
  const Data first = join(cscds);
  const Data second = join(segments);
  store_be16(&out[2], static_cast<std::uint16_t>(first.size()));
  store_be32(&out[8], static_cast<std::uint32_t>(second.size()));
  return join({out, first, second});
}

// EXTENDED COPY(LID4) parameter list.
inline Data lid4(const std::vector<Data>& cscds, const std::vector<Data>& segments,
                 std::uint32_t identifier = 1) {
  Data out(48);
  out[0] = 0x01;
  out[3] = 0x20;
  out[16] = 0xff;
  store_be32(&out[20], identifier);
  const Data first = join(cscds);
  const Data second = join(segments);
  store_be16(&out[42], static_cast<std::uint16_t>(first.size()));
  store_be16(&out[44], static_cast<std::uint16_t>(second.size()));
  return join({out, first, second});
}

inline Data bytes_of(const FakeChannel& channel, std::size_t block, std::size_t blocks,
                     std::size_t block_bytes = 512) {
  const auto begin = channel.memory.begin() + static_cast<std::ptrdiff_t>(block * block_bytes);
  return {begin, begin + static_cast<std::ptrdiff_t>(blocks * block_bytes)};
}

inline Data sense_bytes(const Io& io) {
  return {io.task.sense.begin(), io.task.sense.begin() + io.task.sense_length};
}

// Two disks and one segment of `blocks` blocks from the start of unit 0 to block 100 of unit 1.
inline Data zero_to_one(std::uint16_t blocks = 8, std::uint8_t identifier = 1) {
  return lid1({cscd(naa_zero), cscd(naa_one)}, {segment(0, 0, 1, 100, blocks)}, identifier);
}

}  // namespace perilune::scsi::test
