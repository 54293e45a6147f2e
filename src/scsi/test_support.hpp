// SPDX-License-Identifier: Apache-2.0
// What the tests and the fuzzer of scsi/ drive the device with: a disk in memory whose completions can be
// held back and made to fail, and a transport that does what task.hpp asks for.
#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
#include <initializer_list>
#include <memory>
#include <vector>

#include "base/assert.hpp"
#include "scsi/device.hpp"

namespace perilune::scsi::test {

// Calls of the global operator new since the start of the program (allocation_count_test.cpp).
[[nodiscard]] std::size_t allocation_count();

class FakeChannel : public block::Channel {
 public:
  // `disk`: memory that several channels share, each the way of one shard to it.
  explicit FakeChannel(block::Geometry geometry, std::vector<std::uint8_t>* disk = nullptr)
      : memory(disk != nullptr ? *disk : own_memory_), geometry_(geometry) {
    memory.resize(geometry.blocks.value() * geometry.block_size_bytes);
  }
  ~FakeChannel() override { PERILUNE_ASSERT(held_.empty()); }

  static block::Geometry disk(std::uint64_t blocks = 2048, std::uint32_t block_size = 512) {
    block::Geometry geometry;
    geometry.block_size_bytes = block_size;
    geometry.blocks = BlockCount(blocks);
    geometry.thin = geometry.unmap_zeroes = true;
    geometry.max_atomic_blocks = 64;
    return geometry;
  }

  [[nodiscard]] const block::Geometry& geometry() const override { return geometry_; }
  block::Geometry& geometry() { return geometry_; }

  bool submit(block::BlockOp& op) override {
    kinds.push_back(op.kind);
    fuas.push_back(op.fua);
    if (on_submit) on_submit(op);
    if (hold) {
      held_.push_back(&op);
      return false;
    }
    perform(op);
    return true;
  }
  std::uint8_t* lend(Lba lba, BlockCount blocks, bool) noexcept override {
    return geometry_.lends_memory ? at(lba, blocks) : nullptr;
  }

  bool read_at_once(Lba lba, BlockCount blocks, std::uint8_t* to) override {
    if (!geometry_.reads_at_once || misses) return false;
    std::memcpy(to, at(lba, blocks), blocks.value() * geometry_.block_size_bytes);
    return true;
  }
  bool write_at_once(Lba lba, BlockCount blocks, const std::uint8_t* from) override {
    if (!geometry_.writes_at_once || misses) return false;
    std::memcpy(at(lba, blocks), from, blocks.value() * geometry_.block_size_bytes);
    return true;
  }

  [[nodiscard]] std::size_t held() const { return held_.size(); }
  void release_one(std::size_t index = 0) {
    block::BlockOp* op = held_[index];
    held_.erase(held_.begin() + static_cast<std::ptrdiff_t>(index));
    perform(*op);
    op->done(*op);
  }
  void release_all() {
    while (!held_.empty()) release_one();
  }

  std::vector<std::uint8_t>& memory;
  std::function<void(const block::BlockOp&)> on_submit;
  std::vector<block::OpKind> kinds;  // of every operation submitted
  std::vector<bool> fuas;
  bool hold = false;
  bool misses = false;  // nothing can be moved at once
  std::uint64_t blocks_per_query = ~std::uint64_t{0};
  std::vector<block::OpStatus> fail_next;  // outcomes of the next operations, first first

 private:
  std::uint8_t* at(Lba lba, BlockCount blocks) {
    PERILUNE_ASSERT(lba.value() + blocks.value() <= geometry_.blocks.value());
    return memory.data() + lba.value() * geometry_.block_size_bytes;
  }
  void perform(block::BlockOp& op) {
    if (!fail_next.empty()) {
      op.status = fail_next.front();
      fail_next.erase(fail_next.begin());
      if (op.status != block::OpStatus::ok) return;
    }
    if (op.kind == block::OpKind::flush) return;
    if (op.kind == block::OpKind::change_key) {
      if (geometry_.encrypted)
        std::for_each(memory.begin(), memory.end(), [](std::uint8_t& b) { b ^= 0x5a; });
      else op.status = block::OpStatus::unsupported;
      return;
    }
    const std::uint64_t start = op.lba.value() * geometry_.block_size_bytes;
    const std::uint64_t bytes = op.blocks.value() * geometry_.block_size_bytes;
    PERILUNE_ASSERT(op.blocks.value() != 0 && start + bytes <= memory.size());
    if (op.kind == block::OpKind::query) return query(op);
    if (op.kind == block::OpKind::unmap || op.kind == block::OpKind::write_zeroes) {
      std::memset(memory.data() + start, 0, bytes);
      return;
    }
    PERILUNE_ASSERT(op.data.size() <= 65);
    std::uint64_t at = start;
    for (const iovec& piece : op.data) {
      if (op.kind == block::OpKind::read) std::memcpy(piece.iov_base, memory.data() + at, piece.iov_len);
      else std::memcpy(memory.data() + at, piece.iov_base, piece.iov_len);
      at += piece.iov_len;
    }
    PERILUNE_ASSERT(at == start + bytes);
  }

  // Mapped is what has a byte that is not zero.
  void query(block::BlockOp& op) const {
    const auto block_of = [this](std::uint64_t lba) {
      return std::any_of(memory.begin() + static_cast<std::ptrdiff_t>(lba * geometry_.block_size_bytes),
                         memory.begin() + static_cast<std::ptrdiff_t>((lba + 1) * geometry_.block_size_bytes),
                         [](std::uint8_t b) { return b != 0; });
    };
    op.mapped = block_of(op.lba.value());
    std::uint64_t alike = 1;
    const std::uint64_t most = std::min(op.blocks.value(), blocks_per_query);
    while (alike < most && block_of(op.lba.value() + alike) == op.mapped) ++alike;
    op.alike = BlockCount(alike);
  }

  std::vector<std::uint8_t> own_memory_;
  block::Geometry geometry_;
  std::deque<block::BlockOp*> held_;
};

// Of a thin disk's backing, as the test says.
class FakeMeter final : public block::SpaceMeter {
 public:
  void set(std::uint64_t used_bytes, std::uint64_t available_bytes) {
    settle();
    publish({used_bytes, available_bytes});
  }
  void on_measured(std::function<void()>) override {}
  int asked = 0;

 protected:
  void ask() noexcept override { ++asked; }
};

// One command with its memory. `piece_bytes` cuts the memory into pieces, each its own allocation, so that a
// sanitizer sees every step outside.
class Io {
 public:
  Io(Device& device, Nexus& nexus, std::vector<std::uint8_t> cdb, std::vector<std::uint8_t> out = {},
     std::uint32_t expected_in = 0, std::uint16_t lun = 0)
      : device_(device), out_(std::move(out)) {
    task.nexus = &nexus;
    task.lun = static_cast<std::uint64_t>(lun) << 48;
    task.tag = next_tag()++;
    std::copy_n(cdb.begin(), std::min(cdb.size(), task.cdb.size()), task.cdb.begin());
    task.cdb_length = static_cast<std::uint8_t>(std::clamp<std::size_t>(cdb.size(), 16, task.cdb.size()));
    task.expected_data_out_bytes = static_cast<std::uint32_t>(out_.size());
    task.expected_data_in_bytes = expected_in;
    task.done = Delegate<void(Task&)>::to<&Io::on_done>(*this);
  }
  ~Io() { PERILUNE_ASSERT(task.phase == Task::Phase::outside); }

  Io& admit() {
    device_.admit(task);
    ended = task.finished();
    return *this;
  }
  Io& provide() {
    PERILUNE_ASSERT(task.need.data_out_bytes <= task.expected_data_out_bytes);
    data_ = cut(task.need.data_out_bytes + task.need.data_in_bytes, data_memory_);
    scratch_ = cut(task.need.scratch_bytes, scratch_memory_);
    std::size_t at = 0;
    for (const iovec& piece : data_) {
      if (task.need.data_out_bytes != 0) std::memcpy(piece.iov_base, out_.data() + at, piece.iov_len);
      at += piece.iov_len;
    }
    task.data = data_;
    task.scratch = scratch_;
    return *this;
  }
  Io& execute() {
    provide();
    if (device_.execute(task)) {
      PERILUNE_ASSERT(done_calls == 0);
      ended = true;
    }
    return *this;
  }
  Io& run() {
    admit();
    if (!ended) execute();
    return *this;
  }

  // Data-in as the initiator gets it.
  [[nodiscard]] std::vector<std::uint8_t> data_in() const {
    std::vector<std::uint8_t> all;
    if (!task.parameter_data.empty()) {
      all.assign(task.parameter_data.begin(), task.parameter_data.begin() + task.data_in_length);
    } else {
      for (const iovec& piece : data_) {
        const auto* p = static_cast<const std::uint8_t*>(piece.iov_base);
        all.insert(all.end(), p, p + piece.iov_len);
      }
      all.resize(task.data_in_length);
    }
    if (all.size() > task.expected_data_in_bytes) all.resize(task.expected_data_in_bytes);
    return all;
  }
  [[nodiscard]] ScsiStatus status() const { return task.status; }
  // sense key, ASC, ASCQ as one number: 0x052400; 0 when there is no sense.
  [[nodiscard]] std::uint32_t sense() const {
    if (task.sense_length == 0) return 0;
    const auto& s = task.sense;
    return (s[0] & 0x7f) == 0x72 ? static_cast<std::uint32_t>(s[1] << 16 | s[2] << 8 | s[3])
                                 : static_cast<std::uint32_t>((s[2] & 0xf) << 16 | s[12] << 8 | s[13]);
  }

  Task task;
  bool ended = false;
  int done_calls = 0;
  std::size_t piece_bytes = 16384;

 private:
  static std::uint64_t& next_tag() {
    thread_local std::uint64_t tag = 1;
    return tag;
  }
  void on_done(Task&) {
    ++done_calls;
    ended = true;
  }
  std::vector<iovec> cut(std::size_t bytes, std::vector<std::unique_ptr<std::uint8_t[]>>& memory) const {
    std::vector<iovec> pieces;
    memory.clear();
    while (bytes != 0) {
      const std::size_t step = std::min(bytes, piece_bytes);
      memory.push_back(std::make_unique<std::uint8_t[]>(step));
      pieces.push_back({memory.back().get(), step});
      bytes -= step;
    }
    return pieces;
  }

  Device& device_;
  std::vector<std::uint8_t> out_;
  std::vector<std::unique_ptr<std::uint8_t[]>> data_memory_;
  std::vector<std::unique_ptr<std::uint8_t[]>> scratch_memory_;
  std::vector<iovec> data_;
  std::vector<iovec> scratch_;
};

// One target with one disk as LUN 0 and two nexuses whose unit attentions have been told.
struct Rig {
  explicit Rig(block::Geometry geometry = FakeChannel::disk(), bool fresh = false,
               block::SpaceMeter* meter = nullptr)
      : channel(geometry),
        device("iqn.2026-11.io.perilune:disk"),
        unit(**device.add_unit(0, config(meter), channel)),
        a(device, names("a")),
        b(device, names("b")) {
    device.set_clock(Delegate<std::uint64_t()>::to<&Rig::clock>(*this));
    device.set_token_key({0x1a, 0xb2});
    if (!fresh) settle();
  }
  std::uint64_t clock() { return clock_ms; }
  // The device asks for later turns from here on; go_on() is one.
  void put_off() { device.set_later(Delegate<void()>::to<&Rig::on_later>(*this)); }
  void on_later() { ++later_asked; }
  bool go_on() {
    if (later_asked == 0) return false;
    later_asked = 0;
    device.go_on();
    return true;
  }
  static UnitConfig config(block::SpaceMeter* meter = nullptr) {  // a unit that serves every row of the table
    return {.identity = UnitIdentity::from_id(0x123456789abcdef),
            .read_only = false,
            .removable = true,
            .port_groups = PortGroups({PortGroup{}}, true),
            .space = meter};
  }
  static NexusNames names(const char* who) {
    return {.initiator_port = std::string("iqn.2026-11.example:") + who + ",i,0x400001370000",
            .target_port = "iqn.2026-11.io.perilune:disk,t,0x0001"};
  }
  void settle() {
    for (Nexus* nexus : {&a, &b}) {
      while (Io(device, *nexus, {0, 0, 0, 0, 0, 0}).run().status() != ScsiStatus::good) {
      }
    }
  }
  // The same while the unit is not ready.
  void settle_attentions() {
    for (Nexus* nexus : {&a, &b}) {
      while (Io(device, *nexus, {0, 0, 0, 0, 0, 0}).run().sense() >> 16 == 6) {
      }
    }
  }
  Io io(std::vector<std::uint8_t> cdb, std::vector<std::uint8_t> out = {}, std::uint32_t expected_in = 0) {
    return Io(device, a, std::move(cdb), std::move(out), expected_in);
  }

  std::uint64_t clock_ms = 1'000'000;
  int later_asked = 0;
  FakeChannel channel;
  Device device;
  LogicalUnit& unit;
  Nexus a;
  Nexus b;
};

inline std::vector<std::uint8_t> bytes(std::size_t count, std::uint8_t value) {
  return std::vector<std::uint8_t>(count, value);
}

}  // namespace perilune::scsi::test
