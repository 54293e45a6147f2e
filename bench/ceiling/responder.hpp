// SPDX-License-Identifier: Apache-2.0
// One connection of the minimal responder, without its socket: bytes in, answers to gather out. Answers of a
// batch of requests leave together; while they are being sent, the next batch collects. Nothing is allocated
// after the constructor.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/mapping.hpp"
#include "ceiling/wire.hpp"

namespace ceiling {

// What is served, for the life of the process. As `socket only` every payload is the same warm memory and
// what is written is forgotten: the limit of the sockets. Otherwise payloads come from and go to their
// offsets, as on a RAM disk.
struct Disk {
  explicit Disk(std::size_t bytes);  // 0: socket only
  [[nodiscard]] bool stores() const noexcept { return bytes != 0; }
  std::size_t bytes;
  perilune::Mapping memory;
};

// What a connection receives into, of huge pages as the product's buffers are. One thread.
struct GiveBackStaging {
  void operator()(std::uint8_t* staging) const noexcept;
};
using Staging = std::unique_ptr<std::uint8_t, GiveBackStaging>;
inline constexpr std::size_t staging_bytes = 256 * 1024;
[[nodiscard]] Staging take_staging();
// The rest of a payload that is at least so long is received straight to its place, and only so much behind
// it into the staging, for headers: what follows them has its own place, too.
inline constexpr std::size_t direct_threshold_bytes = 16384, staging_beside_direct_bytes = 8192;

class Responder {
 public:
  explicit Responder(Disk& disk) : disk_(disk) {}

  // May more be received? Not while answers would find no room.
  [[nodiscard]] bool wants_bytes() const noexcept { return unread_.empty() && !filling().full(); }
  // Where the next bytes go: the rest of a large payload straight to its place, then the staging. Returns 1
  // or 2.
  [[nodiscard]] std::size_t destination(std::array<iovec, 2>& iov) noexcept;
  // So many bytes were received into destination(). False: the peer breaks the rules, or a digest is wrong.
  [[nodiscard]] bool received(std::size_t n) noexcept;

  // Answers to send, at most 1024 iovecs, until sent() has been told of every byte of them. False: none.
  [[nodiscard]] bool next_answers() noexcept;
  [[nodiscard]] std::span<iovec> answers() noexcept { return sending().left(); }
  // So many bytes of answers() are gone. False: the peer broke the rules in what was still unread.
  [[nodiscard]] bool sent(std::size_t n) noexcept;

 private:
  // From a disk, payloads up to this are copied beside their header.
  static constexpr std::size_t copy_limit_bytes = 2048, copy_limit_with_digests_bytes = 8192;
  static constexpr std::size_t max_answers = 340;  // of three iovecs each

  struct Answer {
    std::uint8_t header[sizeof(Header)];
    std::uint8_t header_digest[digest_bytes];
    std::uint8_t payload_digest[digest_bytes];
  };
  struct Batch {
    std::unique_ptr<Answer[]> answers = std::make_unique_for_overwrite<Answer[]>(max_answers);
    perilune::Mapping copies;  // of small payloads, one place for each answer; none until one is needed
    std::unique_ptr<iovec[]> iov = std::make_unique_for_overwrite<iovec[]>(3 * max_answers);
    std::size_t count = 0, iovs = 0, gone = 0;  // gone: iovecs that are sent
    [[nodiscard]] bool full() const noexcept { return count == max_answers; }
    [[nodiscard]] std::span<iovec> left() noexcept { return {iov.get() + gone, iovs - gone}; }
    void clear() noexcept { count = iovs = gone = 0; }
  };
  enum class Stage { header, payload, digest, answer };

  [[nodiscard]] bool process() noexcept;
  [[nodiscard]] bool take(std::uint8_t* to, std::size_t bytes) noexcept;
  [[nodiscard]] bool take_header() noexcept;
  [[nodiscard]] bool begin_request() noexcept;
  void take_payload(std::span<const std::uint8_t> bytes) noexcept;
  void push_answer() noexcept;
  [[nodiscard]] std::uint8_t* at_offset() noexcept;
  [[nodiscard]] Batch& filling() noexcept { return batches_[filling_]; }
  [[nodiscard]] const Batch& filling() const noexcept { return batches_[filling_]; }
  [[nodiscard]] Batch& sending() noexcept { return batches_[1 - filling_]; }

  Disk& disk_;
  bool first_ = true;  // no header has been seen: whether there are digests is open
  bool digests_ = false;
  Staging staging_ = take_staging();
  std::span<const std::uint8_t> unread_;  // of the staging
  std::size_t direct_ = 0;                // bytes of the last destination() that precede the staging
  Stage stage_ = Stage::header;
  std::size_t have_ = 0;  // of the header or the digest that is being taken
  std::array<std::uint8_t, sizeof(Header) + digest_bytes> taken_{};
  Header request_;
  std::size_t payload_done_ = 0;
  std::uint32_t crc_ = 0;
  std::array<Batch, 2> batches_;
  std::size_t filling_ = 0;
};

}  // namespace ceiling
