// SPDX-License-Identifier: Apache-2.0
#include "initiator/logical_unit.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/assert.hpp"
#include "initiator/sense.hpp"

namespace perilune::initiator {

namespace {

using block::BlockOp;
using block::OpKind;
using block::OpStatus;

constexpr std::uint32_t default_transfer_bytes = 4u << 20;  // of one command when the unit names no limit
constexpr std::uint32_t default_write_same_blocks = 0x7fffff;
constexpr std::uint8_t max_attention_retries = 16;
constexpr std::uint8_t max_busy_retries = 200;
constexpr std::chrono::milliseconds busy_wait{25};
constexpr std::size_t max_part_iovecs = 66;

constexpr std::uint8_t status_good = 0x00, status_check_condition = 0x02, status_condition_met = 0x04,
                       status_busy = 0x08, status_reservation_conflict = 0x18, status_task_set_full = 0x28;

// What a BlockOp needs while it is here, in its backend_space.
struct OpState {
  std::uint64_t issued_blocks = 0;
  std::uint32_t open_parts = 0;
  bool issued_all = false;
  bool sync_after = false;   // FUA on a unit without the bit
};
static_assert(sizeof(OpState) <= sizeof(BlockOp::backend_space));
OpState& state_of(BlockOp& op) { return *reinterpret_cast<OpState*>(op.backend_space); }

}  // namespace

class LogicalUnit::Impl {
 public:
  Impl(Session& session, UnitInfo info, std::uint32_t queue_depth);
  ~Impl() { PERILUNE_ASSERT(busy_parts_ == 0 && waiting_.empty()); }

  bool submit(BlockOp& op);

  Session& session_;
  UnitInfo info_;
  std::string identity_;
  std::function<void()> changed_;

 private:
  // One command of an operation.
  struct Part : ListNode<Part> {
    Part() : request() {}
    ScsiRequest request;
    Impl* unit = nullptr;
    BlockOp* op = nullptr;
    std::uint32_t expected_bytes = 0;
    std::uint8_t attention_retries = 0, busy_retries = 0;
    std::array<iovec, max_part_iovecs> iov{};
    std::array<std::uint8_t, 24> parameters{};
    void done(ScsiRequest&) { unit->part_done(*this); }
  };

  [[nodiscard]] bool check(BlockOp& op) const;
  void pump();
  void send_next(BlockOp& op);
  void issue(Part& part, BlockOp& op);
  std::uint64_t fill_rw(Part& part, const BlockOp& op, std::uint64_t lba, std::uint64_t left);
  std::uint64_t fill_unmap(Part& part, std::uint64_t lba, std::uint64_t left);
  std::uint64_t fill_write_same(Part& part, std::uint64_t lba, std::uint64_t left, bool unmap);
  void fill_sync(Part& part);
  bool slice(Part& part, const BlockOp& op, std::uint64_t skip, std::uint64_t bytes);
  void part_done(Part& part);
  bool retry(Part& part, const SenseCode& sense);
  void settle(Part& part, const SenseCode& sense);
  void resend();
  void finish_part(Part& part);

  std::vector<std::unique_ptr<Part>> parts_;
  std::vector<Part*> free_parts_;
  IntrusiveList<Part> delayed_;
  IntrusiveList<BlockOp> waiting_;
  std::size_t busy_parts_ = 0;
  std::uint32_t transfer_blocks_ = 0;
  std::vector<std::uint8_t> zero_block_;
  runtime::Timer busy_timer_;
  bool no_write_same_ = false, no_unmap_ = false, no_sync_ = false;
};

LogicalUnit::Impl::Impl(Session& session, UnitInfo info, std::uint32_t queue_depth)
    : session_(session),
      info_(std::move(info)),
      zero_block_(info_.geometry.block_size_bytes, 0),
      busy_timer_(session.loop().timers(), Delegate<void()>::to<&Impl::resend>(*this)) {
  PERILUNE_ASSERT(info_.ready && queue_depth > 0);
  identity_ = !info_.wwid.empty()
                  ? info_.wwid
                  : session.config().target_name + " lun " + std::to_string(lun_number(info_.lun));
  transfer_blocks_ = std::max<std::uint32_t>(1, default_transfer_bytes / info_.geometry.block_size_bytes);
  if (info_.geometry.max_transfer_blocks != 0)
    transfer_blocks_ = std::min(transfer_blocks_, info_.geometry.max_transfer_blocks);
  for (std::uint32_t i = 0; i < queue_depth; ++i) {
    auto& part = *parts_.emplace_back(std::make_unique<Part>());
    part.unit = this;
    part.request.lun = info_.lun;
    part.request.replay_safe = true;
    part.request.done = Delegate<void(ScsiRequest&)>::to<&Part::done>(part);
    free_parts_.push_back(&part);
  }
  if (!info_.vpd83.empty()) session_.watch_identity(info_.lun, info_.vpd83);
}

bool LogicalUnit::Impl::check(BlockOp& op) const {
  op.status = OpStatus::ok;
  op.os_errno = 0;
  if (op.kind == OpKind::flush) return true;
  const std::uint64_t total = info_.geometry.blocks.value();
  if (op.lba.value() > total || op.blocks.value() > total - op.lba.value()) {
    op.status = OpStatus::out_of_range;
    return false;
  }
  if (op.kind != OpKind::read && op.kind != OpKind::query && info_.geometry.read_only) {
    op.status = OpStatus::write_protected;
    return false;
  }
  if (op.kind == OpKind::query || op.kind == OpKind::change_key ||
      (op.kind == OpKind::unmap && !(info_.unmap && !no_unmap_) && !info_.write_same_unmap) ||
      (op.kind == OpKind::write_zeroes && no_write_same_)) {
    op.status = OpStatus::unsupported;
    return false;
  }
  if (op.kind == OpKind::read || op.kind == OpKind::write) {
    std::uint64_t bytes = 0;
    for (const iovec& v : op.data) bytes += v.iov_len;
    PERILUNE_ASSERT(bytes == op.blocks.value() * info_.geometry.block_size_bytes);
  }
  return true;
}

bool LogicalUnit::Impl::submit(BlockOp& op) {
  if (!check(op)) return true;
  if (op.kind == OpKind::flush && no_sync_) return true;  // it has no cache and no command for one
  OpState& state = *new (op.backend_space) OpState;
  state.sync_after = op.fua && op.kind != OpKind::read && op.kind != OpKind::flush &&
                     info_.geometry.write_cache && !(op.kind == OpKind::write && info_.dpo_fua);
  if (op.kind != OpKind::flush && op.blocks.value() == 0) {
    if (!state.sync_after) return true;
    state.issued_all = true;  // only the flush is left
  }
  if (waiting_.empty() && !free_parts_.empty()) {
    send_next(op);
    if (state.issued_all) return false;
  }
  waiting_.push_back(op);
  pump();
  return false;
}

void LogicalUnit::Impl::pump() {
  while (!waiting_.empty() && !free_parts_.empty()) {
    BlockOp& op = waiting_.front();
    send_next(op);
    if (state_of(op).issued_all) IntrusiveList<BlockOp>::remove(op);
  }
}

// The next command of the operation, by a part that is free.
void LogicalUnit::Impl::send_next(BlockOp& op) {
  Part& part = *free_parts_.back();
  free_parts_.pop_back();
  ++busy_parts_;
  issue(part, op);
  session_.submit(part.request);
}

// Prepares the next command of the operation.
void LogicalUnit::Impl::issue(Part& part, BlockOp& op) {
  OpState& state = state_of(op);
  part.op = &op;
  part.attention_retries = part.busy_retries = 0;
  ++state.open_parts;
  if (op.kind == OpKind::flush || state.issued_all) {
    fill_sync(part);
    state.issued_all = true;
    state.sync_after = false;
    return;
  }
  const std::uint64_t lba = op.lba.value() + state.issued_blocks;
  const std::uint64_t left = op.blocks.value() - state.issued_blocks;
  std::uint64_t taken = 0;
  if (op.kind == OpKind::read || op.kind == OpKind::write) {
    taken = fill_rw(part, op, lba, left);
  } else if (op.kind == OpKind::unmap && info_.unmap && !no_unmap_) {
    taken = fill_unmap(part, lba, left);
  } else {
    taken = fill_write_same(part, lba, left,
                            op.kind == OpKind::unmap || (op.may_unmap && info_.write_same_unmap));
  }
  state.issued_blocks += taken;
  state.issued_all = state.issued_blocks == op.blocks.value();
}

// The part's iovecs: `bytes` of the operation's data after `skip`. False when it would need too many.
bool LogicalUnit::Impl::slice(Part& part, const BlockOp& op, std::uint64_t skip, std::uint64_t bytes) {
  std::size_t count = 0;
  for (const iovec& v : op.data) {
    if (bytes == 0) break;
    if (skip >= v.iov_len) {
      skip -= v.iov_len;
      continue;
    }
    if (count == part.iov.size()) return false;
    const std::size_t n = static_cast<std::size_t>(std::min<std::uint64_t>(bytes, v.iov_len - skip));
    part.iov[count++] = {static_cast<std::uint8_t*>(v.iov_base) + skip, n};
    bytes -= n;
    skip = 0;
  }
  part.request.data = std::span<const iovec>(part.iov).first(count);
  return true;
}

std::uint64_t LogicalUnit::Impl::fill_rw(Part& part, const BlockOp& op, std::uint64_t lba,
                                         std::uint64_t left) {
  const std::uint32_t block = info_.geometry.block_size_bytes;
  const std::uint32_t blocks = static_cast<std::uint32_t>(std::min<std::uint64_t>(left, transfer_blocks_));
  const bool is_write = op.kind == OpKind::write;
  const bool fits = slice(part, op, (lba - op.lba.value()) * block, std::uint64_t{blocks} * block);
  PERILUNE_ASSERT(fits);  // BlockOp: at most 65 iovecs
  part.expected_bytes = blocks * block;
  ScsiRequest& request = part.request;
  request.direction = is_write ? ScsiRequest::Direction::out : ScsiRequest::Direction::in;
  request.cdb = {};
  const std::uint8_t flags = is_write && op.fua && info_.dpo_fua ? 0x08 : 0x00;
  if (lba <= 0xffffffff && blocks <= 0xffff) {
    request.cdb[0] = is_write ? 0x2a : 0x28;
    request.cdb[1] = flags;
    store_be32(request.cdb.data() + 2, static_cast<std::uint32_t>(lba));
    store_be16(request.cdb.data() + 7, static_cast<std::uint16_t>(blocks));
  } else {
    request.cdb[0] = is_write ? 0x8a : 0x88;
    request.cdb[1] = flags;
    store_be64(request.cdb.data() + 2, lba);
    store_be32(request.cdb.data() + 10, blocks);
  }
  return blocks;
}

std::uint64_t LogicalUnit::Impl::fill_unmap(Part& part, std::uint64_t lba, std::uint64_t left) {
  const std::uint64_t limit = info_.unmap_max_blocks != 0 ? info_.unmap_max_blocks : 0xffffffff;
  const std::uint32_t blocks = static_cast<std::uint32_t>(std::min(left, limit));
  part.parameters = {};
  store_be16(part.parameters.data(), 22);
  store_be16(part.parameters.data() + 2, 16);
  store_be64(part.parameters.data() + 8, lba);
  store_be32(part.parameters.data() + 16, blocks);
  part.iov[0] = {part.parameters.data(), part.parameters.size()};
  part.request.data = std::span<const iovec>(part.iov).first(1);
  part.request.direction = ScsiRequest::Direction::out;
  part.request.cdb = {0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0};
  part.expected_bytes = 24;
  return blocks;
}

std::uint64_t LogicalUnit::Impl::fill_write_same(Part& part, std::uint64_t lba, std::uint64_t left,
                                                 bool unmap) {
  const std::uint64_t limit = info_.write_same_max_blocks != 0
                                  ? std::min<std::uint64_t>(info_.write_same_max_blocks, 0xffffffff)
                                  : default_write_same_blocks;
  const std::uint32_t blocks = static_cast<std::uint32_t>(std::min(left, limit));
  part.iov[0] = {zero_block_.data(), zero_block_.size()};
  part.request.data = std::span<const iovec>(part.iov).first(1);
  part.request.direction = ScsiRequest::Direction::out;
  part.request.cdb = {0x93, static_cast<std::uint8_t>(unmap ? 0x08 : 0x00)};
  store_be64(part.request.cdb.data() + 2, lba);
  store_be32(part.request.cdb.data() + 10, blocks);
  part.expected_bytes = static_cast<std::uint32_t>(zero_block_.size());
  return blocks;
}

void LogicalUnit::Impl::fill_sync(Part& part) {
  part.request.data = {};
  part.request.direction = ScsiRequest::Direction::none;
  part.request.cdb = {0x35};  // SYNCHRONIZE CACHE(10), from block 0 to the end
  part.expected_bytes = 0;
}

void LogicalUnit::Impl::part_done(Part& part) {
  const ScsiRequest& request = part.request;
  if (!request.error_code && request.status == status_good &&
      request.transferred_bytes == part.expected_bytes) {
    finish_part(part);
    return;
  }
  SenseCode sense;
  if (!request.error_code && request.status == status_check_condition) {
    sense = decode_sense(Bytes(request.sense.data(), request.sense_length));
    if (sense.key == sense_key::unit_attention && (sense.asc == 0x2a || sense.asc == 0x3f) && changed_)
      changed_();
  }
  if (!request.error_code && retry(part, sense)) return;
  settle(part, sense);
  finish_part(part);
}

// Bounded; true: it will be sent again.
bool LogicalUnit::Impl::retry(Part& part, const SenseCode& sense) {
  const std::uint8_t status = part.request.status;
  if (sense.key == sense_key::unit_attention || sense.key == sense_key::aborted_command) {
    if (++part.attention_retries > max_attention_retries) return false;
    session_.submit(part.request);
    return true;
  }
  const bool wait = status == status_busy || status == status_task_set_full ||
                    (sense.key == sense_key::not_ready && sense.code() == 0x0401);
  if (!wait || ++part.busy_retries > max_busy_retries) return false;
  delayed_.push_back(part);
  if (!busy_timer_.armed()) busy_timer_.arm(session_.loop().now() + busy_wait);
  return true;
}

void LogicalUnit::Impl::resend() {
  IntrusiveList<Part> now;
  now.splice_back(delayed_);
  while (!now.empty()) session_.submit(now.pop_front().request);
}

// What the outcome of a command means for its operation; the first failure counts.
void LogicalUnit::Impl::settle(Part& part, const SenseCode& sense) {
  BlockOp& op = *part.op;
  const ScsiRequest& request = part.request;
  const OpStatus broken = op.kind == OpKind::read ? OpStatus::read_error : OpStatus::write_error;
  OpStatus outcome = broken;
  int os_errno = EIO;
  if (request.error_code) {
    outcome = *request.error_code == Errc::timed_out || *request.error_code == Errc::protocol
                  ? broken
                  : OpStatus::not_ready;
    if (*request.error_code == Errc::timed_out) os_errno = ETIMEDOUT;
  } else if (request.status == status_good || request.status == status_condition_met ||
             (request.status == status_check_condition && sense.key == sense_key::recovered)) {
    // Good, but it must have moved all of it.
    if (request.transferred_bytes == part.expected_bytes) return;
  } else if (request.status == status_reservation_conflict) {
    os_errno = EBADE;
  } else if (sense.key == sense_key::illegal_request) {
    if (sense.code() == 0x2100) outcome = OpStatus::out_of_range;
    if (sense.code() == 0x2000 || sense.code() == 0x2400 || sense.code() == 0x2600) {
      const std::uint8_t opcode = request.cdb[0];
      if (opcode == 0x35 && !info_.geometry.write_cache) {  // nothing to flush, and no command for it
        no_sync_ = true;
        return;
      }
      if (opcode == 0x93) no_write_same_ = true;
      if (opcode == 0x42) no_unmap_ = true;
      outcome = OpStatus::unsupported;
    }
    if (sense.asc == 0x25) outcome = OpStatus::not_ready;
  } else if (sense.key == sense_key::data_protect) {
    outcome = sense.code() == 0x2707 ? OpStatus::no_space : OpStatus::write_protected;
  } else if (sense.key == sense_key::not_ready) {
    outcome = OpStatus::not_ready;
  }
  if (op.status == OpStatus::ok) {
    op.status = outcome;
    op.os_errno = os_errno;
  }
}

void LogicalUnit::Impl::finish_part(Part& part) {
  BlockOp& op = *part.op;
  part.op = nullptr;
  free_parts_.push_back(&part);
  --busy_parts_;
  OpState& state = state_of(op);
  --state.open_parts;
  if (op.status != OpStatus::ok && !state.issued_all) {  // no point in the rest
    IntrusiveList<BlockOp>::remove(op);
    state.issued_all = true;
  }
  if (state.open_parts == 0 && state.issued_all) {
    if (state.sync_after && op.status == OpStatus::ok) {
      waiting_.push_front(op);
    } else {
      op.done(op);
    }
  }
  pump();
}

LogicalUnit::LogicalUnit(Session& session, UnitInfo info, std::uint32_t queue_depth)
    : impl_(std::make_unique<Impl>(session, std::move(info), queue_depth)) {}
LogicalUnit::~LogicalUnit() = default;

const block::Geometry& LogicalUnit::geometry() const { return impl_->info_.geometry; }
bool LogicalUnit::submit(BlockOp& op) { return impl_->submit(op); }
const UnitInfo& LogicalUnit::info() const noexcept { return impl_->info_; }
Session& LogicalUnit::session() noexcept { return impl_->session_; }
const std::string& LogicalUnit::identity() const noexcept { return impl_->identity_; }
void LogicalUnit::on_changed(std::function<void()> changed) { impl_->changed_ = std::move(changed); }

}  // namespace perilune::initiator
