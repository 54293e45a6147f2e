// SPDX-License-Identifier: Apache-2.0
#include "ceiling/responder.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

#include "base/copy.hpp"
#include "ceiling/tcp.hpp"
#include "crypto/crc32c.hpp"

namespace ceiling {

using perilune::Bytes;
using perilune::crypto::crc32c;
using perilune::crypto::crc32c_bhs;
using perilune::crypto::crc32c_start;
using perilune::crypto::load_digest;
using perilune::crypto::store_digest;

namespace {
std::vector<std::uint8_t*> free_stagings;
}  // namespace

void GiveBackStaging::operator()(std::uint8_t* staging) const noexcept { free_stagings.push_back(staging); }

Staging take_staging() {
  static std::vector<perilune::Mapping> all;
  if (free_stagings.empty()) {
    constexpr std::size_t count = 8;
    perilune::Mapping& more = all.emplace_back(perilune::Mapping::of_huge_pages(count * staging_bytes));
    if (!more.good()) die("mmap");
    free_stagings.reserve(all.size() * count);  // so that giving back allocates nothing
    for (std::size_t i = 0; i < count; ++i) free_stagings.push_back(more.begin() + i * staging_bytes);
  }
  Staging staging(free_stagings.back());
  free_stagings.pop_back();
  return staging;
}

Disk::Disk(std::size_t size)
    : bytes(size), memory(perilune::Mapping::of_huge_pages(std::max<std::size_t>(size, max_payload_bytes))) {
  if (!memory.good()) die("mmap");
  std::memset(memory.begin(), 0x5a, memory.bytes());  // so that no measured I/O meets a page for the first
                                                      // time
}

std::uint8_t* Responder::at_offset() noexcept {
  return disk_.memory.begin() + (disk_.stores() ? request_.offset : 0);
}

std::size_t Responder::destination(std::array<iovec, 2>& iov) noexcept {
  std::size_t count = 0;
  direct_ = 0;
  const std::size_t missing = stage_ == Stage::payload ? request_.in_bytes - payload_done_ : 0;
  if (disk_.stores() && !digests_ && missing >= direct_threshold_bytes) {
    iov[count++] = {at_offset() + payload_done_, missing};
    direct_ = missing;
  }
  iov[count++] = {staging_.get(), direct_ != 0 ? staging_beside_direct_bytes : staging_bytes};
  return count;
}

bool Responder::received(std::size_t n) noexcept {
  const std::size_t direct = std::min(n, direct_);
  if (direct != 0) {
    payload_done_ += direct;
    if (payload_done_ == request_.in_bytes) stage_ = Stage::answer;
  }
  unread_ = {staging_.get(), n - direct};
  return process();
}

// True when `bytes` in all have come to `to`.
bool Responder::take(std::uint8_t* to, std::size_t bytes) noexcept {
  const std::size_t n = std::min(bytes - have_, unread_.size());
  std::memcpy(to + have_, unread_.data(), n);
  unread_ = unread_.subspan(n);
  have_ += n;
  if (have_ < bytes) return false;
  have_ = 0;
  return true;
}

bool Responder::take_header() noexcept {
  if (first_) {
    if (!take(taken_.data(), sizeof(Header))) return false;
    std::memcpy(&request_, taken_.data(), sizeof request_);
    first_ = false;
    digests_ = request_.magic == header_magic_with_digests;
    have_ = sizeof(Header);
  }
  return take(taken_.data(), sizeof(Header) + (digests_ ? digest_bytes : 0));
}

bool Responder::begin_request() noexcept {
  std::memcpy(&request_, taken_.data(), sizeof request_);
  if (digests_ && load_digest(taken_.data() + sizeof(Header)) != crc32c_bhs(taken_.data())) return false;
  const std::uint64_t longest = std::max(request_.in_bytes, request_.out_bytes);
  if (request_.magic != (digests_ ? header_magic_with_digests : header_magic) || longest > max_payload_bytes)
    return false;
  if (disk_.stores() && (request_.offset > disk_.bytes || longest > disk_.bytes - request_.offset))
    return false;
  payload_done_ = 0;
  crc_ = crc32c_start;
  stage_ = request_.in_bytes != 0 ? Stage::payload : Stage::answer;
  return true;
}

void Responder::take_payload(std::span<const std::uint8_t> bytes) noexcept {
  if (digests_) crc_ = crc32c(crc_, Bytes(bytes.data(), bytes.size()));
  if (disk_.stores()) perilune::copy_past_caches(at_offset() + payload_done_, bytes.data(), bytes.size());
  payload_done_ += bytes.size();
}

bool Responder::process() noexcept {
  for (;;) {
    switch (stage_) {
      case Stage::header:
        if (unread_.empty() || !take_header()) return true;
        if (!begin_request()) return false;
        break;
      case Stage::payload: {
        if (unread_.empty()) return true;
        const std::size_t n = std::min(unread_.size(), request_.in_bytes - payload_done_);
        take_payload(unread_.first(n));
        unread_ = unread_.subspan(n);
        if (payload_done_ == request_.in_bytes) stage_ = digests_ ? Stage::digest : Stage::answer;
        break;
      }
      case Stage::digest:
        if (unread_.empty() || !take(taken_.data(), digest_bytes)) return true;
        if (load_digest(taken_.data()) != crc_) return false;
        stage_ = Stage::answer;
        break;
      case Stage::answer:
        if (filling().full()) return true;
        push_answer();
        stage_ = Stage::header;
        break;
    }
  }
}

void Responder::push_answer() noexcept {
  Batch& batch = filling();
  Answer& answer = batch.answers[batch.count++];
  std::uint8_t* const head = answer.header;
  std::memcpy(head, &request_, sizeof request_);
  if (digests_) store_digest(answer.header_digest, crc32c_bhs(head));
  batch.iov[batch.iovs++] = {head, sizeof(Header) + (digests_ ? digest_bytes : 0)};
  if (request_.out_bytes == 0) return;
  std::uint8_t* payload = at_offset();
  if (disk_.stores() && request_.out_bytes <= (digests_ ? copy_limit_with_digests_bytes : copy_limit_bytes)) {
    if (!batch.copies.good()) {
      batch.copies = perilune::Mapping::of_huge_pages(max_answers * copy_limit_with_digests_bytes);
      if (!batch.copies.good()) die("mmap");
    }
    std::uint8_t* const copy = batch.copies.begin() + (batch.count - 1) * copy_limit_with_digests_bytes;
    std::memcpy(copy, payload, request_.out_bytes);
    payload = copy;
  }
  batch.iov[batch.iovs++] = {payload, request_.out_bytes};
  if (!digests_) return;
  store_digest(answer.payload_digest, crc32c(crc32c_start, Bytes(payload, request_.out_bytes)));
  batch.iov[batch.iovs++] = {answer.payload_digest, digest_bytes};
}

bool Responder::next_answers() noexcept {
  if (!sending().left().empty()) return true;
  if (filling().count == 0) return false;
  perilune::settle_copies();
  sending().clear();
  filling_ = 1 - filling_;
  return true;
}

bool Responder::sent(std::size_t n) noexcept {
  Batch& batch = sending();
  while (n > 0) {
    iovec& first = batch.iov[batch.gone];
    if (n < first.iov_len) {
      first.iov_base = static_cast<std::uint8_t*>(first.iov_base) + n;
      first.iov_len -= n;
      return true;
    }
    n -= first.iov_len;
    ++batch.gone;
  }
  return process();  // what found no room
}

}  // namespace ceiling
