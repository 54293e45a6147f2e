// SPDX-License-Identifier: Apache-2.0
#include "runtime/sim/sim_block_file.hpp"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

namespace perilune::sim {

using runtime::FileOp;

SimBlockFile::SimBlockFile(SimLoop& loop, SimDisk& disk, const runtime::OpenOptions& options)
    : loop_(loop), disk_(disk), prng_(loop.world().prng().fork()) {
  const DiskOptions& d = disk.options();
  properties_.size_bytes = d.size_bytes;
  properties_.direct = options.prefer_direct && d.can_direct;
  properties_.memory_alignment_bytes = properties_.direct ? d.memory_alignment_bytes : 1;
  properties_.offset_alignment_bytes = properties_.direct ? d.offset_alignment_bytes : 1;
  properties_.discard_granularity_bytes = d.discard_granularity_bytes;
  properties_.physical_block_bytes = d.physical_block_bytes;
  properties_.is_block_device = d.is_block_device;
  properties_.read_only = options.read_only;
  properties_.reads_at_once = !properties_.direct;
  properties_.writes_at_once = !properties_.direct && !options.read_only;
  loop_.add_file(*this);
}

SimBlockFile::~SimBlockFile() {
  PERILUNE_ASSERT(pending_.empty() || loop_.dead());  // the contract: nothing outstanding
  loop_.remove_file(*this);
}

int SimBlockFile::check(ByteOffset offset, std::uint64_t length, bool writes) const {
  if (loop_.dead()) return -ECANCELED;
  if (loop_.ghost()) return -EIO;
  if (writes && properties_.read_only) return -EBADF;
  const std::uint32_t alignment = properties_.offset_alignment_bytes;
  if (offset.value() % alignment != 0 || length % alignment != 0) return -EINVAL;
  if (!writes) return 0;
  if (offset.value() > properties_.size_bytes || length > properties_.size_bytes - offset.value())
    return -ENOSPC;
  return 0;
}

int SimBlockFile::check_memory(std::span<const iovec> iov) const {
  PERILUNE_ASSERT(iov.size() <= 64);
  for (const iovec& part : iov) {
    if (std::bit_cast<std::uintptr_t>(part.iov_base) % properties_.memory_alignment_bytes != 0)
      return -EINVAL;
    if (part.iov_len % properties_.offset_alignment_bytes != 0) return -EINVAL;
  }
  return 0;
}

namespace {
std::uint64_t total_length(std::span<const iovec> iov) {
  std::uint64_t total = 0;
  for (const iovec& part : iov) total += part.iov_len;
  return total;
}
}  // namespace

bool SimBlockFile::read(FileOp& op, ByteOffset offset, std::span<const iovec> iov, int& result) {
  auto p = std::make_shared<Pending>(*this, op, Kind::read);
  p->offset = offset.value();
  p->length = total_length(iov);
  p->iov.assign(iov.begin(), iov.end());
  result = check(offset, p->length, false);
  if (result == 0) result = check_memory(iov);
  return result != 0 || submit(std::move(p), result);
}

bool SimBlockFile::write(FileOp& op, ByteOffset offset, std::span<const iovec> iov, bool durable,
                         int& result) {
  auto p = std::make_shared<Pending>(*this, op, Kind::write);
  p->offset = offset.value();
  p->length = total_length(iov);
  p->iov.assign(iov.begin(), iov.end());
  p->durable = durable;
  result = check(offset, p->length, true);
  if (result == 0) result = check_memory(iov);
  return result != 0 || submit(std::move(p), result);
}

// Half of them: the rest of the page cache is cold.
bool SimBlockFile::whole_at_once(Kind kind, ByteOffset offset, iovec memory) {
  if (prng_.coin() || check(offset, memory.iov_len, kind == Kind::write) != 0) return false;
  FileOp op;
  Pending p(*this, op, kind);
  p.offset = offset.value();
  p.length = memory.iov_len;
  p.iov = {memory};
  p.id = next_id_++;
  loop_.world().note(Event::disk_submit, summary(p));
  apply(p);
  return p.result >= 0 && static_cast<std::uint64_t>(p.result) == p.length;
}

bool SimBlockFile::read_at_once(ByteOffset offset, MutableBytes to) {
  return properties_.reads_at_once && whole_at_once(Kind::read, offset, {to.data(), to.size()});
}

bool SimBlockFile::write_at_once(ByteOffset offset, Bytes from) {
  return properties_.writes_at_once &&
         whole_at_once(Kind::write, offset, {const_cast<std::uint8_t*>(from.data()), from.size()});
}

bool SimBlockFile::sync(FileOp& op, int& result) {
  auto p = std::make_shared<Pending>(*this, op, Kind::sync);
  p->mark = disk_.mark();  // what is applied by now; later writes are not covered
  result = check(ByteOffset(0), 0, false);
  return result != 0 || submit(std::move(p), result);
}

bool SimBlockFile::punch(FileOp& op, ByteOffset offset, ByteCount length, int& result) {
  auto p = std::make_shared<Pending>(*this, op, Kind::punch);
  p->offset = offset.value();
  p->length = length.value();
  result = check(offset, p->length, true);
  if (result == 0 && properties_.discard_granularity_bytes == 0) result = -EOPNOTSUPP;
  return result != 0 || submit(std::move(p), result);
}

bool SimBlockFile::zero(FileOp& op, ByteOffset offset, ByteCount length, int& result) {
  auto p = std::make_shared<Pending>(*this, op, Kind::zero);
  p->offset = offset.value();
  p->length = length.value();
  result = check(offset, p->length, true);
  return result != 0 || submit(std::move(p), result);
}

bool SimBlockFile::extent(FileOp& op, ByteOffset offset, ByteCount length, int& result) {
  auto p = std::make_shared<Pending>(*this, op, Kind::extent);
  p->offset = offset.value();
  p->length = length.value();
  result = check(offset, p->length, false);
  return result != 0 || submit(std::move(p), result);
}

std::uint64_t SimBlockFile::summary(const Pending& p) const {
  return (p.id << 32) ^ (p.offset << 12) ^ (p.length << 4) ^ static_cast<std::uint64_t>(p.kind);
}

Duration SimBlockFile::delay(Kind kind) {
  const DiskOptions& d = disk_.options();
  auto ns =
      d.latency_min.count() +
      static_cast<Duration::rep>(prng_.below(static_cast<std::uint64_t>(d.latency_mean.count()) * 2 + 1));
  if (kind == Kind::sync) ns *= 5;
  if (prng_.chance(1, 200)) ns *= static_cast<Duration::rep>(prng_.between(10, 100));
  return Duration(ns);
}

// Pending: at some moment the operation takes effect, at a later one its owner hears of it.
bool SimBlockFile::submit(std::shared_ptr<Pending> pending, int& result) {
  World& world = loop_.world();
  pending->id = next_id_++;
  world.note(Event::disk_submit, summary(*pending));
  if (prng_.per_million(disk_.options().at_once_per_million)) {
    apply(*pending);
    result = pending->result;
    return true;
  }
  pending_.emplace(pending->id, pending);
  const Duration until_applied = delay(pending->kind);
  const Duration until_heard = Duration(static_cast<Duration::rep>(prng_.below(100'000)));
  const std::uint64_t detail = summary(*pending);
  world.at(until_applied, Event::disk_apply, detail, [p = std::move(pending), &loop = loop_, until_heard] {
    if (loop.dead() || loop.ghost()) return;  // the file may be gone; crash() has decided about the operation
    p->file.apply(*p);
    loop.world().at(until_heard, Event::disk_complete, static_cast<std::uint32_t>(p->result), [p, &loop] {
      if (!loop.dead() && !loop.ghost()) loop.make_ready(p->ready);
    });
  });
  return false;
}

void SimBlockFile::apply(Pending& p) {
  p.applied = true;
  switch (p.kind) {
    case Kind::read:
      apply_read(p);
      break;
    case Kind::write:
      apply_write(p);
      break;
    case Kind::sync:
      apply_sync(p);
      break;
    case Kind::punch:
    case Kind::zero:
      apply_zero(p);
      break;
    case Kind::extent:
      p.op.extent = disk_.extent(ByteOffset(p.offset), ByteCount(p.length));
      p.result = 0;
      break;
  }
}

void SimBlockFile::apply_read(Pending& p) {
  if (prng_.per_million(disk_.faults().read_error_per_million)) {
    p.result = -EIO;
    return;
  }
  const std::uint64_t size = properties_.size_bytes;
  std::uint64_t left = p.offset >= size ? 0 : std::min(p.length, size - p.offset);
  left = maybe_shorten(left);
  p.result = static_cast<int>(left);
  std::uint64_t at = p.offset;
  for (const iovec& part : p.iov) {
    const std::uint64_t n = std::min<std::uint64_t>(left, part.iov_len);
    if (n == 0) break;
    disk_.read(ByteOffset(at), MutableBytes(static_cast<std::uint8_t*>(part.iov_base), n));
    at += n;
    left -= n;
  }
}

std::vector<std::uint8_t> SimBlockFile::gather(const Pending& p) const {
  std::vector<std::uint8_t> data;
  data.reserve(p.length);
  for (const iovec& part : p.iov) {
    const auto* bytes = static_cast<const std::uint8_t*>(part.iov_base);
    data.insert(data.end(), bytes, bytes + part.iov_len);
  }
  return data;
}

void SimBlockFile::apply_write(Pending& p) {
  const DiskFaults& faults = disk_.faults();
  std::vector<std::uint8_t> data = gather(p);
  if (prng_.per_million(faults.write_error_per_million)) {
    disk_.write_torn(ByteOffset(p.offset), data);
    p.result = -EIO;
    return;
  }
  if (prng_.per_million(faults.no_space_per_million)) {
    p.result = -ENOSPC;
    return;
  }
  data.resize(maybe_shorten(data.size()));
  disk_.write(ByteOffset(p.offset), data);
  loop_.world().note(Event::disk_apply, hash_bytes(data));
  if (p.durable && !faults.ignore_durable_write)
    disk_.make_durable(ByteOffset(p.offset), ByteCount(data.size()));
  p.result = static_cast<int>(data.size());
}

std::uint64_t SimBlockFile::maybe_shorten(std::uint64_t length) {
  const std::uint64_t sectors = length / SimDisk::sector_bytes;
  if (sectors < 2 || !prng_.per_million(disk_.options().short_per_million)) return length;
  return prng_.between(1, sectors - 1) * SimDisk::sector_bytes;
}

void SimBlockFile::apply_sync(Pending& p) {
  p.result = 0;
  if (prng_.per_million(disk_.faults().sync_error_per_million)) {
    disk_.fail_sync(p.mark);
    p.result = -EIO;
  } else if (!disk_.faults().ignore_sync) {
    disk_.make_durable(p.mark);
  }
}

void SimBlockFile::apply_zero(Pending& p) {
  if (prng_.per_million(disk_.faults().write_error_per_million)) {
    p.result = -EIO;
  } else if (p.kind == Kind::zero && prng_.per_million(disk_.faults().no_space_per_million)) {
    p.result = -ENOSPC;
  } else {
    disk_.zero(ByteOffset(p.offset), ByteCount(p.length));
    p.result = 0;
  }
}

void SimBlockFile::complete(Pending& p) {
  const auto it = pending_.find(p.id);
  const std::shared_ptr<Pending> keep = std::move(it->second);
  pending_.erase(it);
  keep->op.done(keep->op, keep->result);  // may destroy *this
}

void SimBlockFile::crash() {
  for (auto& [id, p] : pending_) {
    p->result = -EIO;
    loop_.make_ready(p->ready);  // heard of only if the loop goes on as a ghost
    if (p->applied) continue;
    p->applied = true;
    if (prng_.coin()) continue;
    if (p->kind == Kind::write) {
      const std::vector<std::uint8_t> data = gather(*p);
      if (prng_.coin())
        disk_.write(ByteOffset(p->offset), data);
      else
        disk_.write_torn(ByteOffset(p->offset), data);
    } else if (p->kind == Kind::punch || p->kind == Kind::zero) {
      disk_.zero(ByteOffset(p->offset), ByteCount(p->length));
    }
  }
}

}  // namespace perilune::sim
