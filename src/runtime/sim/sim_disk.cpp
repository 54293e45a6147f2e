// SPDX-License-Identifier: Apache-2.0
#include "runtime/sim/sim_disk.hpp"

#include <algorithm>
#include <cstring>

namespace perilune::sim {

namespace {

// Visits [offset, offset + length) in pieces that do not cross a multiple of `unit`.
template <class Visit>
void for_each_unit(std::uint64_t offset, std::uint64_t length, std::uint64_t unit, Visit visit) {
  while (length > 0) {
    const std::uint64_t n = std::min(length, unit - offset % unit);
    visit(offset, n);
    offset += n;
    length -= n;
  }
}

}  // namespace

SimDisk::SimDisk(World& world, const DiskOptions& options)
    : world_(world), options_(options), prng_(world.prng().fork()) {
  PERILUNE_ASSERT(options.size_bytes % sector_bytes == 0);
}

SimDisk::Page& SimDisk::page(std::uint64_t offset) {
  auto& slot = pages_[offset / page_bytes];
  if (slot == nullptr) slot = std::make_unique<Page>();
  return *slot;
}

const SimDisk::Page* SimDisk::find_page(std::uint64_t offset) const {
  const auto it = pages_.find(offset / page_bytes);
  return it == pages_.end() ? nullptr : it->second.get();
}

void SimDisk::read(ByteOffset offset, MutableBytes out) const {
  for_each_unit(offset.value(), out.size(), page_bytes, [&](std::uint64_t at, std::uint64_t n) {
    std::uint8_t* to = out.data() + (at - offset.value());
    if (const Page* p = find_page(at))
      std::memcpy(to, p->current + at % page_bytes, n);
    else
      std::memset(to, 0, n);
  });
}

runtime::FileExtent SimDisk::extent(ByteOffset offset, ByteCount length) const {
  const auto has_data = [this](std::uint64_t at) {
    const Page* p = find_page(at);
    return p != nullptr &&
           std::any_of(std::begin(p->current), std::end(p->current), [](std::uint8_t b) { return b != 0; });
  };
  runtime::FileExtent out{.allocated = has_data(offset.value()), .length_bytes = 0};
  while (out.length_bytes < length.value()) {
    const std::uint64_t at = offset.value() + out.length_bytes;
    if (has_data(at) != out.allocated) break;
    out.length_bytes += std::min(length.value() - out.length_bytes, page_bytes - at % page_bytes);
  }
  return out;
}

void SimDisk::read_durable(ByteOffset offset, MutableBytes out) const {
  for_each_unit(offset.value(), out.size(), page_bytes, [&](std::uint64_t at, std::uint64_t n) {
    std::uint8_t* to = out.data() + (at - offset.value());
    if (const Page* p = find_page(at))
      std::memcpy(to, p->durable + at % page_bytes, n);
    else
      std::memset(to, 0, n);
  });
}

void SimDisk::apply(std::uint64_t offset, std::uint64_t length, const std::uint8_t* data) {
  PERILUNE_ASSERT(offset <= options_.size_bytes && length <= options_.size_bytes - offset);
  for_each_unit(offset, length, page_bytes, [&](std::uint64_t at, std::uint64_t n) {
    std::uint8_t* to = page(at).current + at % page_bytes;
    if (data != nullptr)
      std::memcpy(to, data + (at - offset), n);
    else
      std::memset(to, 0, n);
  });
  Operation op{++sequence_, offset, length, {}};
  if (data != nullptr) op.data.assign(data, data + length);
  log_.push_back(std::move(op));
  maybe_write_back();
}

void SimDisk::write(ByteOffset offset, Bytes data) {
  if (!data.empty()) apply(offset.value(), data.size(), data.data());
}

void SimDisk::zero(ByteOffset offset, ByteCount length) {
  if (length.value() != 0) apply(offset.value(), length.value(), nullptr);
}

void SimDisk::write_torn(ByteOffset offset, Bytes data) {
  for_each_unit(offset.value(), data.size(), sector_bytes, [&](std::uint64_t at, std::uint64_t n) {
    if (prng_.coin()) apply(at, n, data.data() + (at - offset.value()));
  });
}

void SimDisk::maybe_write_back() {
  constexpr std::size_t most = 4096;
  if (log_.size() >= most)
    make_durable(log_[most / 2].sequence);
  else if (options_.writeback && prng_.chance(1, 64))
    make_durable(log_[prng_.below(log_.size())].sequence);
}

void SimDisk::persist_piece(const Operation& op, std::uint64_t offset, std::uint64_t length) {
  Page& p = page(offset);
  std::uint64_t& newest = p.durable_sequence[offset % page_bytes / sector_bytes];
  if (newest > op.sequence) return;
  newest = op.sequence;
  std::uint8_t* to = p.durable + offset % page_bytes;
  if (op.data.empty())
    std::memset(to, 0, length);
  else
    std::memcpy(to, op.data.data() + (offset - op.offset), length);
}

void SimDisk::persist(const Operation& op) {
  for_each_unit(op.offset, op.length, sector_bytes,
                [&](std::uint64_t at, std::uint64_t n) { persist_piece(op, at, n); });
}

void SimDisk::make_durable(std::uint64_t mark) {
  while (!log_.empty() && log_.front().sequence <= mark) {
    persist(log_.front());
    log_.pop_front();
  }
}

void SimDisk::make_durable(ByteOffset offset, ByteCount length) {
  const std::uint64_t first = offset.value() / sector_bytes * sector_bytes;
  const std::uint64_t end = offset.value() + length.value();
  for (std::uint64_t at = first; at < end; at += sector_bytes) {
    Page& p = page(at);
    const std::uint64_t in_page = at % page_bytes;
    std::memcpy(p.durable + in_page, p.current + in_page, sector_bytes);
    p.durable_sequence[in_page / sector_bytes] = sequence_;
  }
}

void SimDisk::fail_sync(std::uint64_t mark) {
  while (!log_.empty() && log_.front().sequence <= mark) {
    if (prng_.coin()) persist(log_.front());
    log_.pop_front();
  }
}

// mode 0: nothing survives, 1: everything, 2: whole operations by coin, 3: sectors by coin.
void SimDisk::survive(const Operation& op, std::uint64_t mode) {
  const bool whole = mode == 1 || (mode == 2 && prng_.coin());
  std::uint64_t kept = 0;
  std::uint64_t dropped = 0;
  for_each_unit(op.offset, op.length, sector_bytes, [&](std::uint64_t at, std::uint64_t n) {
    const bool keep = mode == 3 ? prng_.coin() : whole;
    if (keep) persist_piece(op, at, n);
    ++(keep ? kept : dropped);
  });
  if (kept == 0)
    ++lost_;
  else if (dropped != 0)
    ++torn_;
}

void SimDisk::lose_power() {
  const std::uint64_t mode = prng_.below(4);
  world_.note(Event::disk_crash, (mode << 32) | log_.size());
  for (const Operation& op : log_) survive(op, mode);
  log_.clear();
  for (auto& [number, p] : pages_) std::memcpy(p->current, p->durable, page_bytes);
}

}  // namespace perilune::sim
