// SPDX-License-Identifier: Apache-2.0
// What one connection has to send: PDUs appended in order, gathered into one scatter list per send. Headers,
// small payloads, padding and digests are laid side by side in chunks, so that a batch of small PDUs is one
// iovec; large payloads are referenced where they lie and held until they have been sent. Both roles; pure;
// one thread. No allocation once the chunk pool is warm.
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/bytes.hpp"
#include "base/delegate.hpp"
#include "iscsi/pdu/decoder.hpp"

namespace perilune::iscsi {

// Keeps referenced memory alive: `released` is called when the last reference has left the queue. The owner
// retains it once while it queues, so that it cannot be released half way.
class TxHold {
 public:
  explicit TxHold(Delegate<void()> released) noexcept : released_(released) {}
  TxHold(const TxHold&) = delete;
  TxHold& operator=(const TxHold&) = delete;
  void retain() noexcept { ++count_; }
  void release() {
    if (--count_ == 0) released_();
  }
  [[nodiscard]] bool held() const noexcept { return count_ != 0; }

 private:
  Delegate<void()> released_;
  std::uint32_t count_ = 0;
};

// Chunks of all connections of a shard.
class TxChunkPool {
 public:
  static constexpr std::size_t chunk_bytes = 65536;
  explicit TxChunkPool(std::size_t keep = 256) : keep_(keep) { free_.reserve(keep); }
  // Makes chunks until there have been `count` of them, at most as many as are kept.
  void provide(std::size_t count);
  [[nodiscard]] std::unique_ptr<std::uint8_t[]> take();
  void give_back(std::unique_ptr<std::uint8_t[]> chunk) noexcept;

 private:
  std::size_t keep_;
  std::size_t made_ = 0;  // chunks in the world: free or in a queue
  std::vector<std::unique_ptr<std::uint8_t[]>> free_;
};

class TxQueue {
 public:
  // Payloads up to this are copied beside their header; larger ones are referenced: an iovec more costs less
  // than a copy from cold memory (docs/performance/tried.md).
  static constexpr std::uint32_t copy_limit_bytes = 2048;
  // For one send that is over at once. With less, what each one costs shows (docs/performance/tried.md).
  static constexpr std::size_t max_bytes_for_now = 1048576;

  explicit TxQueue(TxChunkPool& pool) : pool_(pool) {}
  ~TxQueue() { clear(); }
  TxQueue(const TxQueue&) = delete;
  TxQueue& operator=(const TxQueue&) = delete;

  void set_digests(bool header, bool data) noexcept {
    header_digest_ = header;
    data_digest_ = data;
  }

  // Room for this many pieces and chunks, so that growth does not fall into the steady state.
  void reserve(std::size_t pieces, std::size_t chunks) {
    pieces_.reserve(pieces);
    chunks_.reserve(chunks);
    free_chunks_.reserve(chunks);
  }

  // Where the BHS of the next PDU may be encoded, 48 bytes, to be pushed from there: encoding it elsewhere
  // costs a copy that has to wait for its stores. Valid until the next push.
  [[nodiscard]] std::uint8_t* header_place() { return room(bhs_bytes + digest_bytes); }
  // The same for a PDU whose data (up to max_placed_bytes) is made behind its header, at data_place(), to be
  // pushed by push_placed().
  static constexpr std::uint32_t max_placed_bytes = 16384;
  [[nodiscard]] std::uint8_t* header_place(std::uint32_t length) {
    return room(bhs_bytes + digest_bytes + length + trailer_bytes);
  }
  [[nodiscard]] std::uint8_t* data_place(std::uint8_t* header) const noexcept {
    return header + bhs_bytes + (header_digest_ ? digest_bytes : 0);
  }
  // Appends a PDU. `bhs` is a complete 48-byte BHS but for TotalAHSLength and DataSegmentLength, which are
  // set here.
  void push(const std::uint8_t* bhs) { push(bhs, Bytes{}); }
  // With a data segment that is copied (any length up to a chunk's; longer ones are split over chunks).
  void push(const std::uint8_t* bhs, Bytes data);
  // With the data that is at data_place(bhs).
  void push_placed(const std::uint8_t* bhs, std::uint32_t length);
  // With a copy of the data (1 to max_placed_bytes bytes) at `source`, made by the next push_soon(), send or
  // copy_pending(), and not before: meanwhile it can come from cold memory. Until then it has to be there.
  void push_soon(const std::uint8_t* bhs, const std::uint8_t* source, std::uint32_t length);
  void copy_pending() noexcept {
    if (soon_.length != 0) copy_soon();
  }
  // With a data segment of `length` bytes found in `memory` after `skip` bytes: copied when small, else
  // referenced and held. With a data digest on, large payloads are referenced too: the caller guarantees that
  // they do not change.
  void push(const std::uint8_t* bhs, std::span<const iovec> memory, std::uint64_t skip, std::uint32_t length,
            TxHold* hold);
  // The same, but the data is at `source` yet, which may change: it is copied into `memory` (at `skip`) and
  // summed in one pass, and sent from there.
  void push_copied(const std::uint8_t* bhs, const std::uint8_t* source, std::span<const iovec> memory,
                   std::uint64_t skip, std::uint32_t length, TxHold& hold);
  // The same for data that nobody changes but this thread, which can be spared the copy: a send that is over
  // when it returns takes it from `source`, summed at that moment. What such a send does not finish, and what
  // goes by another one, is copied. Needs a data digest.
  void push_late(const std::uint8_t* bhs, const std::uint8_t* source, std::span<const iovec> memory,
                 std::uint64_t skip, std::uint32_t length, TxHold& hold);

  [[nodiscard]] bool empty() const noexcept { return first_ == pieces_.size(); }
  [[nodiscard]] std::uint64_t queued_bytes() const noexcept { return queued_bytes_; }
  // Memory of its own that the queue holds: what a peer that does not read makes grow.
  [[nodiscard]] std::uint64_t own_bytes() const noexcept {
    return (chunks_.size() - free_chunks_.size()) * TxChunkPool::chunk_bytes;
  }

  // Something of what is to be sent, or is being sent, lies there. Control path: it looks at every piece.
  [[nodiscard]] bool refers_to(const std::uint8_t* memory, std::size_t bytes) const noexcept;

  // The front of the queue as at most out.size() iovecs. What it names stays put until sent(). Returns the
  // count, at least 1 unless the queue is empty.
  [[nodiscard]] std::size_t gather(std::span<iovec> out) noexcept;
  // The send that gather() prepared took this many bytes (0 or more).
  void sent(std::uint64_t bytes);

  // There is something that a send that is over at once can take from where it lies.
  [[nodiscard]] bool has_late() const noexcept { return first_late_ != late_.size(); }
  // Likewise for such a send; it stays put until sent_now(), which comes before anything else.
  [[nodiscard]] std::size_t gather_for_now(std::span<iovec> out) noexcept;
  void sent_now(std::uint64_t bytes);
  // Drops everything and lets go of all holds. Precondition: no send is in progress.
  void clear();

 private:
  struct Piece {
    std::uint8_t* at = nullptr;
    std::size_t bytes = 0;
    std::uint32_t chunk = no_chunk;  // index into chunks_, or
    TxHold* hold = nullptr;          // referenced memory
  };
  // A PDU with data that is where it may change, and a trailer without the digest.
  struct Late {
    std::uint64_t first;   // its first piece of data, of all pieces there have been; one for each in `memory`
    std::uint64_t behind;  // the piece after its last one
    std::uint64_t summed;  // the piece after the last one that is in `crc`
    std::uint32_t crc;
    std::uint32_t length;
    std::span<const iovec> memory;
    std::uint64_t skip;
    std::uint8_t* trailer;
  };
  // A PDU whose data is not beside its header yet.
  struct Soon {
    const std::uint8_t* source = nullptr;
    std::uint8_t* to = nullptr;
    std::uint8_t* trailer = nullptr;
    std::uint32_t length = 0;  // 0: none
  };
  struct Chunk {
    std::unique_ptr<std::uint8_t[]> memory;
    std::uint32_t pieces = 0;
  };
  static constexpr std::uint32_t no_chunk = 0xffffffffU;
  static constexpr std::size_t trailer_bytes = 3 + digest_bytes;  // at most

  // Contiguous, in the current chunk or a new one.
  std::uint8_t* room(std::size_t bytes) {
    if (current_ == no_chunk || current_used_ + bytes > TxChunkPool::chunk_bytes) begin_chunk(bytes);
    return current_memory_ + current_used_;
  }
  void begin_chunk(std::size_t bytes);
  template <class T>
  static void append(std::vector<T>& queue, std::size_t& first, const T& value);
  void add_piece(const Piece& piece) { append(pieces_, first_, piece); }
  void refer_to(std::uint8_t* at, std::size_t bytes, TxHold& hold);
  void append_chunk_bytes(std::uint8_t* at, std::size_t bytes);
  std::uint8_t* put_header(const std::uint8_t* bhs, std::uint32_t data_length, std::size_t inline_bytes);
  [[nodiscard]] bool has_trailer(std::uint32_t data_length) const noexcept {
    return data_digest_ || data_length % 4 != 0;
  }
  void put_placed(std::uint8_t* data, std::uint32_t length);
  std::uint8_t* put_trailer(std::uint32_t data_length, std::uint32_t crc);
  [[nodiscard]] Piece& piece(std::uint64_t number) noexcept {
    return pieces_[first_ + static_cast<std::size_t>(number - popped_)];
  }
  // The number of the piece that is added next.
  [[nodiscard]] std::uint64_t next_piece() const noexcept { return popped_ + (pieces_.size() - first_); }
  void copy_soon() noexcept;
  void sum(Late& late, const Piece& piece) noexcept;
  void copy_pieces(Late& late, std::uint64_t begin, std::uint64_t end) noexcept;
  void pop_front_piece();
  void rest_when_empty();

  TxChunkPool& pool_;
  bool header_digest_ = false;
  bool data_digest_ = false;
  std::vector<Piece> pieces_;      // [first_, size) is the queue; what was sent makes room before it grows
  std::size_t first_ = 0;
  std::uint64_t popped_ = 0;       // pieces that have left: the number of the front one
  std::size_t in_flight_ = 0;      // pieces of the send in progress: not to be extended
  std::vector<Late> late_;         // [first_late_, size) in the order of their pieces; room as with pieces_
  std::size_t first_late_ = 0;
  Soon soon_;
  std::vector<Chunk> chunks_;
  std::vector<std::uint32_t> free_chunks_;
  std::uint32_t current_ = no_chunk;
  std::uint8_t* current_memory_ = nullptr;
  std::size_t current_used_ = 0;
  std::uint64_t queued_bytes_ = 0;
};

}  // namespace perilune::iscsi
