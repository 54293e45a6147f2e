// SPDX-License-Identifier: Apache-2.0
#include "block/backends/file_channel.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/assert.hpp"
#include "block/admission.hpp"
#include "block/atomic_lanes.hpp"

namespace perilune::block {
namespace {

constexpr std::size_t max_iovecs = 65;
constexpr std::size_t bounce_alignment = 4096;

enum class Stage : std::uint64_t { transfer, deallocate, zero, flush, extent };

// BlockOp::backend_space, by index.
enum : std::size_t { owner = 0, stage_of = 1, bytes_done = 2, bounce_memory = 3 };

OpStatus status_of(OpKind kind, int os_errno) {
  switch (os_errno) {
    case ENOSPC:
    case EDQUOT: return OpStatus::no_space;
    case EROFS:
    case EPERM: return OpStatus::write_protected;
    case ENODEV:
    case ENXIO: return OpStatus::not_ready;
    case EOPNOTSUPP: return OpStatus::unsupported;
    default:
      return kind == OpKind::read || kind == OpKind::query ? OpStatus::read_error : OpStatus::write_error;
  }
}

class FileChannel final : public Channel {
 public:
  FileChannel(std::unique_ptr<runtime::BlockFile> file, const Geometry& geometry,
              std::shared_ptr<FlushHealth> health, std::shared_ptr<AtomicLanes> lanes = nullptr,
              std::uint64_t disk = 0)
      : file_(std::move(file)),
        geometry_(geometry),
        health_(std::move(health)),
        lanes_(std::move(lanes)),
        atomic_disk_{.channel = *this, .health = health_, .number = disk} {}
  ~FileChannel() override { PERILUNE_ASSERT(waiting_.empty() && bounce_bytes_ == 0 && !syncing_); }

  [[nodiscard]] const Geometry& geometry() const override { return geometry_; }
  [[nodiscard]] bool submit(BlockOp& op) override;
  [[nodiscard]] bool read_at_once(Lba lba, BlockCount blocks, std::uint8_t* to) override {
    return file_->read_at_once(offset_of(lba), {to, bytes_of(blocks)});
  }
  [[nodiscard]] bool write_at_once(Lba lba, BlockCount blocks, const std::uint8_t* from) override {
    return file_->write_at_once(offset_of(lba), {from, bytes_of(blocks)});
  }
  void set_blocks(BlockCount blocks) noexcept {
    PERILUNE_ASSERT(blocks >= geometry_.blocks);  // of what is under way, nothing lies behind the end
    geometry_.blocks = blocks;
  }

 private:
  [[nodiscard]] ByteOffset offset_of(Lba lba) const noexcept {
    return ByteOffset(lba.value() * geometry_.block_size_bytes);
  }
  [[nodiscard]] std::size_t bytes_of(BlockCount blocks) const noexcept {
    return static_cast<std::size_t>(blocks.value()) * geometry_.block_size_bytes;
  }
  [[nodiscard]] bool start(BlockOp& op);
  [[nodiscard]] bool go_on(BlockOp& op);
  [[nodiscard]] bool issue(BlockOp& op, int& result);
  [[nodiscard]] bool issue_transfer(BlockOp& op, int& result);
  [[nodiscard]] bool step(BlockOp& op, int result);
  [[nodiscard]] bool step_transfer(BlockOp& op, int result);
  [[nodiscard]] bool end_query(BlockOp& op);
  [[nodiscard]] bool next_stage_after_change(BlockOp& op);
  [[nodiscard]] bool end(BlockOp& op, OpStatus status, int os_errno = 0);
  [[nodiscard]] bool misaligned(const BlockOp& op) const;
  [[nodiscard]] bool take_bounce(BlockOp& op);
  void return_bounce(BlockOp& op);
  void start_waiting();
  [[nodiscard]] bool issue_sync(BlockOp& op, int& result);
  void sync_ended(BlockOp& first, int result);
  static void completed(void* context, runtime::FileOp& file_op, int result);
  [[nodiscard]] static std::uint8_t* bounce(const BlockOp& op) {
    return reinterpret_cast<std::uint8_t*>(op.backend_space[bounce_memory]);
  }
  static void set_stage(BlockOp& op, Stage stage) {
    op.backend_space[stage_of] = static_cast<std::uint64_t>(stage);
  }

  std::unique_ptr<runtime::BlockFile> file_;
  Geometry geometry_;
  std::shared_ptr<FlushHealth> health_;
  std::shared_ptr<AtomicLanes> lanes_;  // nullptr: no write is atomic
  AtomicDisk atomic_disk_;
  std::size_t bounce_bytes_ = 0;
  IntrusiveList<BlockOp> waiting_;  // for bounce memory
  // One sync at a time: the system tells of a lost write once per descriptor, so of two syncs under way one
  // could report success for data that the other was told is gone. Who comes meanwhile shares the next.
  bool syncing_ = false;
  IntrusiveList<BlockOp> shares_sync_;  // the one under way
  IntrusiveList<BlockOp> wants_sync_;   // the one after it
};

bool FileChannel::submit(BlockOp& op) {
  const auto ended = refuse_or_skip(geometry_, op);
  if (ended) return end(op, *ended);
  const bool changes = op.kind != OpKind::read && op.kind != OpKind::query;
  const bool atomic = op.atomic && op.kind == OpKind::write;
  const bool durable = op.kind == OpKind::flush || (changes && (op.fua || atomic));
  if (durable) {
    if (const int failed = health_->failed_errno.load(std::memory_order_relaxed); failed != 0) {
      return end(op, OpStatus::write_error, failed);
    }
  }
  if (atomic)
    return lanes_ != nullptr ? lanes_->submit(atomic_disk_, op) : end(op, OpStatus::unsupported, EOPNOTSUPP);
  op.backend_space[owner] = reinterpret_cast<std::uint64_t>(this);
  op.backend_space[bytes_done] = 0;
  op.backend_space[bounce_memory] = 0;
  op.file_op.done = Delegate<void(runtime::FileOp&, int)>::raw(&op, completed);
  switch (op.kind) {
    case OpKind::read:
    case OpKind::write:
      set_stage(op, Stage::transfer);
      break;
    case OpKind::flush:
      set_stage(op, Stage::flush);
      break;
    case OpKind::unmap:
      if (!geometry_.thin) return end(op, OpStatus::unsupported, EOPNOTSUPP);
      set_stage(op, Stage::deallocate);
      break;
    case OpKind::write_zeroes:
      set_stage(op,
                op.may_unmap && geometry_.thin && geometry_.unmap_zeroes ? Stage::deallocate : Stage::zero);
      break;
    case OpKind::query:
      if (!geometry_.thin) {  // all is allocated, whether it was written or not
        op.mapped = true;
        op.alike = op.blocks;
        return end(op, OpStatus::ok);
      }
      set_stage(op, Stage::extent);
      break;
    case OpKind::change_key:
      break;  // refused above
  }
  return start(op);
}

bool FileChannel::start(BlockOp& op) {
  if (static_cast<Stage>(op.backend_space[stage_of]) == Stage::transfer && misaligned(op) &&
      (!waiting_.empty() || !take_bounce(op))) {
    waiting_.push_back(op);  // somebody holds bounce memory, and starts this one when it comes back
    return false;
  }
  if (!go_on(op)) return false;
  return_bounce(op);
  return true;
}

// True when the operation has ended.
bool FileChannel::go_on(BlockOp& op) {
  for (;;) {
    int result = 0;
    if (!issue(op, result)) return false;
    if (step(op, result)) return true;
  }
}

bool FileChannel::issue(BlockOp& op, int& result) {
  const ByteOffset offset(byte_offset(geometry_, op));
  const ByteCount length(byte_length(geometry_, op));
  switch (static_cast<Stage>(op.backend_space[stage_of])) {
    case Stage::transfer: return issue_transfer(op, result);
    case Stage::deallocate: return file_->punch(op.file_op, offset, length, result);
    case Stage::zero: return file_->zero(op.file_op, offset, length, result);
    case Stage::flush: return issue_sync(op, result);
    case Stage::extent: return file_->extent(op.file_op, offset, length, result);
  }
  return true;
}

bool FileChannel::issue_sync(BlockOp& op, int& result) {
  if (syncing_) {
    wants_sync_.push_back(op);
    return false;
  }
  if (const int failed = health_->failed_errno.load(std::memory_order_relaxed); failed != 0) {
    result = -failed;
    return true;
  }
  syncing_ = true;
  do {
    if (!file_->sync(op.file_op, result)) return false;
  } while (result == -EINTR);
  syncing_ = false;
  return true;
}

// The sync that `first` waited for is over, for those too who share it; the next one begins before anybody
// hears of it.
void FileChannel::sync_ended(BlockOp& first, int result) {
  IntrusiveList<BlockOp> ended;
  for (BlockOp* leader = &first;;) {
    shares_sync_.push_front(*leader);
    while (!shares_sync_.empty()) {
      BlockOp& op = shares_sync_.pop_front();
      (void)step(op, result);
      ended.push_back(op);
    }
    if (wants_sync_.empty()) break;
    leader = &wants_sync_.pop_front();
    shares_sync_.splice_back(wants_sync_);
    if (!issue_sync(*leader, result)) break;
  }
  while (!ended.empty()) {
    BlockOp& op = ended.pop_front();
    op.done(op);  // may destroy what it likes
  }
}

bool FileChannel::issue_transfer(BlockOp& op, int& result) {
  const std::uint64_t done = op.backend_space[bytes_done];
  std::array<iovec, max_iovecs> rest;
  std::span<const iovec> iov = op.data;
  if (bounce(op) != nullptr) {
    rest[0] = {bounce(op) + done, byte_length(geometry_, op) - done};
    iov = {rest.data(), 1};
  } else if (done > 0) {
    std::size_t count = 0;
    std::uint64_t skip = done;
    for (const iovec& part : op.data) {
      const std::uint64_t skipped = std::min<std::uint64_t>(skip, part.iov_len);
      skip -= skipped;
      if (skipped == part.iov_len) continue;
      rest[count++] = {static_cast<std::uint8_t*>(part.iov_base) + skipped, part.iov_len - skipped};
    }
    iov = {rest.data(), count};
  }
  const ByteOffset offset(byte_offset(geometry_, op) + done);
  if (op.kind == OpKind::read) return file_->read(op.file_op, offset, iov, result);
  return file_->write(op.file_op, offset, iov, op.fua, result);
}

// What the end of one file operation means. True when the operation has ended.
bool FileChannel::step(BlockOp& op, int result) {
  if (result == -EINTR) return false;
  const auto stage = static_cast<Stage>(op.backend_space[stage_of]);
  if (stage == Stage::transfer) return step_transfer(op, result);
  if (stage == Stage::flush && result < 0) {
    health_->failed_errno.store(-result, std::memory_order_relaxed);
    return end(op, OpStatus::write_error, -result);
  }
  if (result < 0) return end(op, status_of(op.kind, -result), -result);
  // A sync through another descriptor has failed meanwhile: of the two, only that one may have been told what
  // both lost.
  if (const int failed = health_->failed_errno.load(std::memory_order_relaxed);
      stage == Stage::flush && failed != 0) {
    return end(op, OpStatus::write_error, failed);
  }
  if (stage == Stage::extent) return end_query(op);
  if (stage == Stage::flush || !op.fua) return end(op, OpStatus::ok);
  set_stage(op, Stage::flush);
  return false;
}

// A block that the end of a hole cuts through is mapped.
bool FileChannel::end_query(BlockOp& op) {
  const std::uint64_t block = geometry_.block_size_bytes;
  const runtime::FileExtent& extent = op.file_op.extent;
  op.mapped = extent.allocated || extent.length_bytes < block;
  const std::uint64_t known =
      extent.allocated ? (extent.length_bytes + block - 1) / block : extent.length_bytes / block;
  op.alike = BlockCount(std::clamp<std::uint64_t>(known, 1, op.blocks.value()));
  return end(op, OpStatus::ok);
}

bool FileChannel::step_transfer(BlockOp& op, int result) {
  const std::uint64_t total = byte_length(geometry_, op);
  // Nothing moved, within the geometry: the file has been cut short behind our back.
  if (result == 0) result = -EIO;
  if (result < 0) return end(op, status_of(op.kind, -result), -result);
  std::uint64_t done = std::min(total, op.backend_space[bytes_done] + static_cast<std::uint64_t>(result));
  if (done < total) {
    // O_DIRECT goes on only from an aligned offset: what lies before it is moved once more.
    done -= done % file_->properties().offset_alignment_bytes;
    if (done <= op.backend_space[bytes_done]) return end(op, status_of(op.kind, EIO), EIO);
    op.backend_space[bytes_done] = done;
    return false;
  }
  if (op.kind == OpKind::read && bounce(op) != nullptr) {
    const std::uint8_t* from = bounce(op);
    for (const iovec& part : op.data) {
      std::memcpy(part.iov_base, from, part.iov_len);
      from += part.iov_len;
    }
  }
  return end(op, OpStatus::ok);
}

bool FileChannel::end(BlockOp& op, OpStatus status, int os_errno) {
  op.status = status;
  op.os_errno = os_errno;
  return true;
}

void FileChannel::completed(void* context, runtime::FileOp&, int result) {
  BlockOp& op = *static_cast<BlockOp*>(context);
  auto* const self = reinterpret_cast<FileChannel*>(op.backend_space[owner]);
  if (static_cast<Stage>(op.backend_space[stage_of]) == Stage::flush) {
    self->syncing_ = false;
    if (result == -EINTR && !self->issue_sync(op, result)) return;
    self->sync_ended(op, result);
    return;
  }
  if (!self->step(op, result) && !self->go_on(op)) return;
  self->return_bounce(op);
  self->start_waiting();  // first: `done` may destroy what it likes
  op.done(op);
}

// --- memory that O_DIRECT does not take ---

bool FileChannel::misaligned(const BlockOp& op) const {
  const std::uint32_t alignment = file_->properties().memory_alignment_bytes;
  if (alignment <= 1) return false;
  std::uint64_t bits = 0;
  for (const iovec& part : op.data) bits |= reinterpret_cast<std::uint64_t>(part.iov_base) | part.iov_len;
  return (bits & (alignment - 1)) != 0;
}

bool FileChannel::take_bounce(BlockOp& op) {
  const std::uint64_t bytes = byte_length(geometry_, op);
  const std::size_t rounded = (bytes + bounce_alignment - 1) / bounce_alignment * bounce_alignment;
  // One operation always fits, however large: otherwise it would wait for ever.
  if (bounce_bytes_ > 0 && bounce_bytes_ + rounded > bounce_limit_bytes) return false;
  auto* memory = static_cast<std::uint8_t*>(std::aligned_alloc(bounce_alignment, rounded));
  PERILUNE_ASSERT(memory != nullptr);
  bounce_bytes_ += rounded;
  op.backend_space[bounce_memory] = reinterpret_cast<std::uint64_t>(memory);
  if (op.kind == OpKind::write) {
    std::uint8_t* to = memory;
    for (const iovec& part : op.data) {
      std::memcpy(to, part.iov_base, part.iov_len);
      to += part.iov_len;
    }
  }
  return true;
}

void FileChannel::return_bounce(BlockOp& op) {
  if (bounce(op) == nullptr) return;
  const std::uint64_t bytes = byte_length(geometry_, op);
  std::free(bounce(op));
  op.backend_space[bounce_memory] = 0;
  bounce_bytes_ -= (bytes + bounce_alignment - 1) / bounce_alignment * bounce_alignment;
}

// In the order in which they came.
void FileChannel::start_waiting() {
  while (!waiting_.empty() && take_bounce(waiting_.front())) {
    BlockOp& op = waiting_.pop_front();
    if (!go_on(op)) continue;
    return_bounce(op);
    op.done(op);
  }
}

}  // namespace

Geometry file_geometry(const runtime::FileProperties& properties, std::uint32_t block_size_bytes) {
  Geometry g;
  g.block_size_bytes = block_size_bytes;
  const std::uint32_t physical =
      std::bit_floor(std::clamp<std::uint32_t>(properties.physical_block_bytes, 512, 65536));
  g.physical_block_size_bytes = std::max(block_size_bytes, physical);
  g.blocks = BlockCount(properties.size_bytes / block_size_bytes);
  // A disk's own cache is volatile unless it says otherwise; the page cache always is.
  g.write_cache = !(properties.is_block_device && properties.direct && properties.device_writes_through);
  g.thin = properties.discard_granularity_bytes > 0;
  g.unmap_zeroes = g.thin;
  g.read_only = properties.read_only;
  g.rotational = properties.rotational;
  g.unmap_granularity_blocks = std::max<std::uint32_t>(
      1, (properties.discard_granularity_bytes + block_size_bytes - 1) / block_size_bytes);
  g.memory_alignment_bytes = properties.memory_alignment_bytes;
  g.reads_at_once = properties.reads_at_once;
  g.writes_at_once = properties.writes_at_once;
  return g;
}

std::unique_ptr<Channel> make_file_channel(std::unique_ptr<runtime::BlockFile> file, const Geometry& geometry,
                                           std::shared_ptr<FlushHealth> health) {
  return std::make_unique<FileChannel>(std::move(file), geometry, std::move(health));
}

std::unique_ptr<Channel> make_file_channel(std::unique_ptr<runtime::BlockFile> file, const Geometry& geometry,
                                           std::shared_ptr<FlushHealth> health,
                                           std::shared_ptr<AtomicLanes> lanes, std::uint64_t disk) {
  return std::make_unique<FileChannel>(std::move(file), geometry, std::move(health), std::move(lanes), disk);
}

void set_file_channel_blocks(Channel& channel, BlockCount blocks) {
  static_cast<FileChannel&>(channel).set_blocks(blocks);
}

}  // namespace perilune::block
