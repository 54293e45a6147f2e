// SPDX-License-Identifier: Apache-2.0
#include "iscsi/pdu/decoder.hpp"

#include <algorithm>

#include "base/assert.hpp"
#include "base/copy.hpp"
#include "crypto/crc32c.hpp"

namespace perilune::iscsi {

namespace {

constexpr std::size_t padding(std::uint32_t data_length) { return (4 - data_length % 4) % 4; }

}  // namespace

void PduDecoder::begin_pdu() noexcept {
  state_ = State::header;
  sink_ = Sink::discard;
  filled_ = 0;
  header_total_ = bhs_bytes;
  ahs_length_ = 0;
  data_length_ = 0;
  collected_ = {};
  data_digest_ok_ = true;
}

PduDecoder::Event PduDecoder::next(Bytes& input) {
  for (;;) {
    switch (state_) {
      case State::finished:
        begin_pdu();
        break;
      case State::header: {
        const Event event = header_step(input);
        if (event != Event::pdu) return event;
        break;
      }
      case State::data:
        if (!data_step(input)) return Event::need_more;
        state_ = State::trailer;
        break;
      case State::trailer:
        if (!trailer_step(input)) return Event::need_more;
        state_ = State::finished;
        return Event::pdu;
      case State::broken:
        return Event::error;
    }
  }
}

PduDecoder::Event PduDecoder::header_step(Bytes& input) {
  while (filled_ < header_total_) {
    if (input.empty()) return Event::need_more;
    const std::size_t n = std::min(input.size(), header_total_ - filled_);
    std::memcpy(header_.data() + filled_, input.data(), n);
    input = input.subspan(n);
    filled_ += n;
    if (filled_ == bhs_bytes && header_total_ == bhs_bytes) {
      ahs_length_ = std::size_t{header_[4]} * 4;
      header_total_ = bhs_bytes + ahs_length_ + (header_digest_ ? digest_bytes : 0);
    }
  }
  return header_complete();
}

std::uint32_t PduDecoder::header_crc() const noexcept {
  if (ahs_length_ == 0) return crypto::crc32c_bhs(header_.data());  // nearly always
  return crypto::crc32c(crypto::crc32c_start, {header_.data(), bhs_bytes + ahs_length_});
}

PduDecoder::Event PduDecoder::header_complete() {
  const std::size_t covered = bhs_bytes + ahs_length_;
  if (header_digest_ && header_crc() != crypto::load_digest(header_.data() + covered)) {
    fault_ = Fault::header_digest;
    state_ = State::broken;
    return Event::error;
  }
  data_length_ = load_be24(header_.data() + 5);
  if (data_length_ > max_data_segment_) {
    fault_ = Fault::data_segment_too_long;
    state_ = State::broken;
    return Event::error;
  }
  data_seen_ = 0;
  crc_ = 0;
  trailer_seen_ = 0;
  trailer_total_ = data_length_ == 0 ? 0 : padding(data_length_) + (data_digest_ ? digest_bytes : 0);
  state_ = State::data;
  return Event::header;
}

void PduDecoder::deliver_into(std::span<const iovec> memory, std::uint64_t skip_bytes,
                              Destination destination) noexcept {
  destination_ = destination;
  sink_ = Sink::deliver;
  memory_ = memory;
  memory_index_ = 0;
  while (memory_index_ < memory_.size() && skip_bytes >= memory_[memory_index_].iov_len) {
    skip_bytes -= memory_[memory_index_++].iov_len;
  }
  memory_offset_ = static_cast<std::size_t>(skip_bytes);
}

void PduDecoder::scatter(const std::uint8_t* from, std::size_t bytes) noexcept {
  while (bytes > 0 && memory_index_ < memory_.size()) {
    const iovec& v = memory_[memory_index_];
    const std::size_t n = std::min(bytes, v.iov_len - memory_offset_);
    std::uint8_t* const to = static_cast<std::uint8_t*>(v.iov_base) + memory_offset_;
    if (destination_ == Destination::final) copy_past_caches(to, from, n);
    else std::memcpy(to, from, n);
    from += n;
    bytes -= n;
    memory_offset_ += n;
    if (memory_offset_ == v.iov_len) {
      ++memory_index_;
      memory_offset_ = 0;
    }
  }
}

bool PduDecoder::data_step(Bytes& input) {
  const std::size_t missing = data_length_ - data_seen_;
  if (missing == 0) return true;
  const std::size_t n = std::min(input.size(), missing);
  const Bytes part = input.first(n);
  if (data_digest_) crc_ = crypto::crc32c(crc_, part);
  switch (sink_) {
    case Sink::deliver:
      scatter(part.data(), n);
      break;
    case Sink::collect:
      if (n == data_length_) {
        collected_ = part;  // whole in the input: no copy
      } else {
        if (data_seen_ == 0) own_.clear();
        own_.insert(own_.end(), part.begin(), part.end());
        collected_ = own_;
      }
      break;
    case Sink::discard:
      break;
  }
  input = input.subspan(n);
  data_seen_ += static_cast<std::uint32_t>(n);
  return data_seen_ == data_length_;
}

bool PduDecoder::trailer_step(Bytes& input) {
  if (trailer_seen_ < trailer_total_) {
    const std::size_t n = std::min(input.size(), trailer_total_ - trailer_seen_);
    // A view of the input must outlive the wait for the trailer.
    if (n < trailer_total_ - trailer_seen_ && sink_ == Sink::collect && !collected_.empty() &&
        collected_.data() != own_.data()) {
      own_.assign(collected_.begin(), collected_.end());
      collected_ = own_;
    }
    if (n == 0) return false;
    std::memcpy(trailer_.data() + trailer_seen_, input.data(), n);
    input = input.subspan(n);
    trailer_seen_ += n;
    if (trailer_seen_ < trailer_total_) return false;
  }
  if (data_digest_ && data_length_ != 0) {
    const std::size_t pad = padding(data_length_);
    crc_ = crypto::crc32c(crc_, {trailer_.data(), pad});
    data_digest_ok_ = crc_ == crypto::load_digest(trailer_.data() + pad);
  }
  return true;
}

std::uint32_t PduDecoder::missing_bytes() const noexcept {
  if (state_ != State::data || sink_ != Sink::deliver || destination_ == Destination::final) return 0;
  const std::uint32_t missing = data_length_ - data_seen_;
  std::uint64_t room = 0;
  for (std::size_t i = memory_index_; i < memory_.size() && room < missing + memory_offset_; ++i)
    room += memory_[i].iov_len;
  return room >= missing + memory_offset_ ? missing : 0;
}

std::size_t PduDecoder::direct(std::span<iovec> out) const noexcept {
  std::size_t left = missing_bytes();
  std::size_t index = memory_index_;
  std::size_t offset = memory_offset_;
  std::size_t count = 0;
  while (left > 0 && count < out.size()) {
    const iovec& v = memory_[index++];
    const std::size_t n = std::min(left, v.iov_len - offset);
    out[count++] = {static_cast<std::uint8_t*>(v.iov_base) + offset, n};
    left -= n;
    offset = 0;
  }
  return count;
}

void PduDecoder::commit_direct(std::uint32_t bytes) noexcept {
  PERILUNE_ASSERT(bytes <= missing_bytes());
  data_seen_ += bytes;
  std::size_t left = bytes;
  while (left > 0) {
    const iovec& v = memory_[memory_index_];
    const std::size_t n = std::min(left, v.iov_len - memory_offset_);
    if (data_digest_)
      crc_ = crypto::crc32c(crc_, {static_cast<std::uint8_t*>(v.iov_base) + memory_offset_, n});
    left -= n;
    memory_offset_ += n;
    if (memory_offset_ == v.iov_len) {
      ++memory_index_;
      memory_offset_ = 0;
    }
  }
}

}  // namespace perilune::iscsi
