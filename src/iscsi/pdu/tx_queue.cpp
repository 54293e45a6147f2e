// SPDX-License-Identifier: Apache-2.0
#include "iscsi/pdu/tx_queue.hpp"

#include <algorithm>
#include <functional>

#include "base/assert.hpp"
#include "base/copy.hpp"
#include "crypto/crc32c.hpp"

namespace perilune::iscsi {

namespace {

constexpr std::size_t padding(std::uint32_t data_length) { return (4 - data_length % 4) % 4; }

// Behind the padding at `trailer`, which is in it; `crc`: of the data.
void store_data_digest(std::uint8_t* trailer, std::uint32_t data_length, std::uint32_t crc) noexcept {
  const std::size_t pad = padding(data_length);
  crypto::store_digest(trailer + pad, crypto::crc32c(crc, {trailer, pad}));
}

// Walks `length` bytes of `memory` after `skip`, calling visit(pointer, bytes).
template <class Visit>
void walk(std::span<const iovec> memory, std::uint64_t skip, std::uint64_t length, Visit visit) {
  for (const iovec& v : memory) {
    if (length == 0) return;
    if (skip >= v.iov_len) {
      skip -= v.iov_len;
      continue;
    }
    const std::size_t n = static_cast<std::size_t>(std::min<std::uint64_t>(length, v.iov_len - skip));
    visit(static_cast<std::uint8_t*>(v.iov_base) + skip, n);
    length -= n;
    skip = 0;
  }
  PERILUNE_ASSERT(length == 0);
}

}  // namespace

void TxChunkPool::provide(std::size_t count) {
  while (made_ < count && free_.size() < keep_) {
    free_.push_back(std::make_unique_for_overwrite<std::uint8_t[]>(chunk_bytes));
    ++made_;
  }
}

std::unique_ptr<std::uint8_t[]> TxChunkPool::take() {
  if (free_.empty()) provide(made_ + 1);
  auto chunk = std::move(free_.back());
  free_.pop_back();
  return chunk;
}

void TxChunkPool::give_back(std::unique_ptr<std::uint8_t[]> chunk) noexcept {
  if (free_.size() < keep_) free_.push_back(std::move(chunk));
  else --made_;
}

void TxQueue::begin_chunk(std::size_t bytes) {
  PERILUNE_ASSERT(bytes <= TxChunkPool::chunk_bytes);
  current_used_ = 0;
  if (current_ != no_chunk && chunks_[current_].pieces == 0)
    return;  // everything in it has been sent: again from its start
  if (free_chunks_.empty()) {
    chunks_.emplace_back();
    free_chunks_.push_back(static_cast<std::uint32_t>(chunks_.size() - 1));
  }
  current_ = free_chunks_.back();
  free_chunks_.pop_back();
  chunks_[current_].memory = pool_.take();
  chunks_[current_].pieces = 0;
  current_memory_ = chunks_[current_].memory.get();
}

// A queue that never runs empty still stays within twice its longest backlog.
template <class T>
void TxQueue::append(std::vector<T>& queue, std::size_t& first, const T& value) {
  if (queue.size() == queue.capacity() && first != 0 && first >= queue.size() / 2) {
    queue.erase(queue.begin(), queue.begin() + static_cast<std::ptrdiff_t>(first));
    first = 0;
  }
  queue.push_back(value);
}

void TxQueue::append_chunk_bytes(std::uint8_t* at, std::size_t bytes) {
  current_used_ += bytes;
  queued_bytes_ += bytes;
  if (pieces_.size() > first_ + in_flight_) {
    Piece& last = pieces_.back();
    if (last.chunk == current_ && last.at + last.bytes == at) {
      last.bytes += bytes;
      return;
    }
  }
  ++chunks_[current_].pieces;
  add_piece({at, bytes, current_, nullptr});
}

std::uint8_t* TxQueue::put_header(const std::uint8_t* bhs, std::uint32_t data_length,
                                  std::size_t inline_bytes) {
  const std::size_t header = bhs_bytes + (header_digest_ ? digest_bytes : 0);
  std::uint8_t* at = room(header + inline_bytes);
  if (at != bhs) std::memcpy(at, bhs, bhs_bytes);
  at[4] = 0;
  store_be24(at + 5, data_length);
  if (header_digest_) crypto::store_digest(at + bhs_bytes, crypto::crc32c_bhs(at));
  append_chunk_bytes(at, header);
  return at + header;
}

// Returns where it is.
std::uint8_t* TxQueue::put_trailer(std::uint32_t data_length, std::uint32_t crc) {
  const std::size_t pad = padding(data_length);
  const std::size_t trailer = pad + (data_digest_ ? digest_bytes : 0);
  std::uint8_t* at = room(trailer);
  std::memset(at, 0, pad);
  if (data_digest_) store_data_digest(at, data_length, crc);
  append_chunk_bytes(at, trailer);
  return at;
}

void TxQueue::push(const std::uint8_t* bhs, Bytes data) {
  const iovec memory{const_cast<std::uint8_t*>(data.data()), data.size()};
  const std::uint32_t length = static_cast<std::uint32_t>(data.size());
  constexpr std::uint32_t piece = 32768;
  if (length <= piece) {
    push(bhs, {&memory, 1}, 0, length, nullptr);
    return;
  }
  put_header(bhs, length, 0);
  std::uint32_t crc = data_digest_ ? crypto::crc32c(0, data) : 0;
  for (std::uint32_t done = 0; done < length;) {
    const std::uint32_t n = std::min(piece, length - done);
    std::uint8_t* at = room(n);
    std::memcpy(at, data.data() + done, n);
    append_chunk_bytes(at, n);
    done += n;
  }
  if (has_trailer(length)) put_trailer(length, crc);
}

void TxQueue::push(const std::uint8_t* bhs, std::span<const iovec> memory, std::uint64_t skip,
                   std::uint32_t length, TxHold* hold) {
  if (length == 0) {
    put_header(bhs, 0, 0);
    return;
  }
  if (hold == nullptr || length <= copy_limit_bytes) {
    std::uint8_t* at = put_header(bhs, length, length + trailer_bytes);
    std::uint8_t* to = at;
    walk(memory, skip, length, [&](std::uint8_t* from, std::size_t n) {
      std::memcpy(to, from, n);
      to += n;
    });
    put_placed(at, length);
    return;
  }
  put_header(bhs, length, 0);
  std::uint32_t crc = 0;
  walk(memory, skip, length, [&](std::uint8_t* from, std::size_t n) {
    if (data_digest_) crc = crypto::crc32c(crc, {from, n});
    refer_to(from, n, *hold);
  });
  if (has_trailer(length)) put_trailer(length, crc);
}

// Data of a PDU that stands behind its header; the digest covers this copy, which can no longer change.
void TxQueue::put_placed(std::uint8_t* data, std::uint32_t length) {
  const std::uint32_t crc = data_digest_ ? crypto::crc32c(0, {data, length}) : 0;
  append_chunk_bytes(data, length);
  if (has_trailer(length)) put_trailer(length, crc);
}

void TxQueue::push_placed(const std::uint8_t* bhs, std::uint32_t length) {
  put_placed(put_header(bhs, length, length + trailer_bytes), length);
}

void TxQueue::push_soon(const std::uint8_t* bhs, const std::uint8_t* source, std::uint32_t length) {
  std::uint8_t* const to = put_header(bhs, length, length + trailer_bytes);
  append_chunk_bytes(to, length);
  std::uint8_t* const trailer = has_trailer(length) ? put_trailer(length, 0) : nullptr;
  begin_fetch(source);
  copy_pending();
  soon_ = {source, to, trailer, length};
}

void TxQueue::copy_soon() noexcept {
  std::memcpy(soon_.to, soon_.source, soon_.length);
  if (data_digest_) {
    store_data_digest(soon_.trailer, soon_.length, crypto::crc32c(0, {soon_.to, soon_.length}));
  }
  soon_.length = 0;
}

void TxQueue::push_copied(const std::uint8_t* bhs, const std::uint8_t* source, std::span<const iovec> memory,
                          std::uint64_t skip, std::uint32_t length, TxHold& hold) {
  constexpr std::size_t step = 4096;  // still in the first cache when it is summed
  put_header(bhs, length, 0);
  std::uint32_t crc = 0;
  walk(memory, skip, length, [&](std::uint8_t* to, std::size_t n) {
    for (std::size_t done = 0; done < n; done += step) {
      const std::size_t part = std::min(step, n - done);
      std::memcpy(to + done, source, part);
      if (data_digest_) crc = crypto::crc32c(crc, {to + done, part});
      source += part;
    }
    refer_to(to, n, hold);
  });
  if (has_trailer(length)) put_trailer(length, crc);
}

void TxQueue::push_late(const std::uint8_t* bhs, const std::uint8_t* source, std::span<const iovec> memory,
                        std::uint64_t skip, std::uint32_t length, TxHold& hold) {
  PERILUNE_ASSERT(data_digest_);
  put_header(bhs, length, 0);
  const std::uint64_t first = next_piece();
  Late late{first, first, first, 0, length, memory, skip, nullptr};
  walk(memory, skip, length, [&](const std::uint8_t*, std::size_t n) {
    refer_to(const_cast<std::uint8_t*>(source), n, hold);
    source += n;
  });
  late.behind = next_piece();
  late.trailer = put_trailer(length, 0);
  append(late_, first_late_, late);
}

void TxQueue::refer_to(std::uint8_t* at, std::size_t bytes, TxHold& hold) {
  hold.retain();
  queued_bytes_ += bytes;
  add_piece({at, bytes, no_chunk, &hold});
}

// Up to where the data of a late PDU may change. Where that is the front, it is copied.
std::size_t TxQueue::gather(std::span<iovec> out) noexcept {
  copy_pending();
  if (has_late() && late_[first_late_].summed == popped_) {
    copy_pieces(late_[first_late_], popped_, late_[first_late_].behind);
    ++first_late_;
  }
  const std::uint64_t end = has_late() ? late_[first_late_].summed : next_piece();
  const std::size_t count = std::min<std::size_t>(out.size(), static_cast<std::size_t>(end - popped_));
  for (std::size_t i = 0; i < count; ++i) {
    const Piece& piece = pieces_[first_ + i];
    out[i] = {piece.at, piece.bytes};
  }
  in_flight_ = count;
  return count;
}

std::size_t TxQueue::gather_for_now(std::span<iovec> out) noexcept {
  copy_pending();
  std::size_t count = 0;
  std::size_t bytes = 0;
  std::size_t late = first_late_;
  const std::size_t most = std::min(out.size(), pieces_.size() - first_);
  for (; count < most && bytes < max_bytes_for_now; ++count) {
    const Piece& piece = pieces_[first_ + count];
    const std::uint64_t number = popped_ + count;
    if (late != late_.size() && number == late_[late].behind) ++late;
    if (late != late_.size() && number == late_[late].summed) sum(late_[late], piece);
    out[count] = {piece.at, piece.bytes};
    bytes += piece.bytes;
  }
  in_flight_ = count;
  return count;
}

// The next piece of it that is not in its sum.
void TxQueue::sum(Late& late, const Piece& piece) noexcept {
  late.crc = crypto::crc32c(late.crc, {piece.at, piece.bytes});
  if (++late.summed != late.behind) return;
  store_data_digest(late.trailer, late.length, late.crc);
}

// To where nobody changes them.
void TxQueue::copy_pieces(Late& late, std::uint64_t begin, std::uint64_t end) noexcept {
  std::uint64_t number = late.first;
  walk(late.memory, late.skip, late.length, [&](std::uint8_t* to, std::size_t n) {
    if (number >= begin && number < end) {
      Piece& rest = piece(number);
      to += n - rest.bytes;
      std::memcpy(to, rest.at, rest.bytes);
      rest.at = to;
      if (number == late.summed) sum(late, rest);
    }
    ++number;
  });
}

void TxQueue::pop_front_piece() {
  const Piece piece = pieces_[first_++];
  ++popped_;
  if (piece.hold != nullptr) {
    piece.hold->release();
  } else if (--chunks_[piece.chunk].pieces == 0) {
    if (piece.chunk == current_) {
      current_used_ = 0;
    } else {
      pool_.give_back(std::move(chunks_[piece.chunk].memory));
      free_chunks_.push_back(piece.chunk);
    }
  }
}

void TxQueue::sent(std::uint64_t bytes) {
  in_flight_ = 0;
  queued_bytes_ -= bytes;
  while (bytes > 0) {
    Piece& piece = pieces_[first_];
    if (bytes < piece.bytes) {
      piece.at += bytes;
      piece.bytes -= static_cast<std::size_t>(bytes);
      break;
    }
    bytes -= piece.bytes;
    pop_front_piece();
  }
  rest_when_empty();
}

// What is summed and has not gone cannot stay where it may change: of a PDU that has begun it is copied, the
// others are summed again. That comes before the holds, whose owners may go on with a write.
void TxQueue::sent_now(std::uint64_t bytes) {
  std::uint64_t end = popped_;  // the piece that is not sent whole
  for (std::uint64_t left = bytes; left != 0 && left >= piece(end).bytes; ++end) left -= piece(end).bytes;
  for (std::size_t i = first_late_; i < late_.size() && late_[i].summed != late_[i].first; ++i) {
    Late& late = late_[i];
    if (late.first <= end) {
      copy_pieces(late, end, late.summed);
    } else {
      late.summed = late.first;
      late.crc = 0;
    }
  }
  while (has_late() && late_[first_late_].summed == late_[first_late_].behind) ++first_late_;
  sent(bytes);
}

// An idle connection keeps no chunk.
void TxQueue::rest_when_empty() {
  if (first_ != pieces_.size()) return;
  pieces_.clear();
  first_ = 0;
  late_.clear();
  first_late_ = 0;
  if (current_ != no_chunk) {
    pool_.give_back(std::move(chunks_[current_].memory));
    free_chunks_.push_back(current_);
    current_ = no_chunk;
  }
}

bool TxQueue::refers_to(const std::uint8_t* memory, std::size_t bytes) const noexcept {
  return std::any_of(pieces_.begin() + static_cast<std::ptrdiff_t>(first_), pieces_.end(),
                     [&](const Piece& piece) {
                       return std::less_equal<const std::uint8_t*>()(memory, piece.at) &&
                              std::less<const std::uint8_t*>()(piece.at, memory + bytes);
                     });
}

void TxQueue::clear() {
  in_flight_ = 0;
  soon_.length = 0;
  while (first_ < pieces_.size()) pop_front_piece();
  queued_bytes_ = 0;
  rest_when_empty();
}

}  // namespace perilune::iscsi
