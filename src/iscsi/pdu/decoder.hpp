// SPDX-License-Identifier: Apache-2.0
// From a byte stream to PDUs (RFC 7143 11.1, 11.2), both roles. Pull model: the caller feeds what it
// received, hears of each header before its data, and names the memory for the data, so that a payload is
// written once, where it belongs.
//
//   while (true) switch (decoder.next(input)) {
//     case Event::need_more: return receive_more();       // input is empty
//     case Event::header:    decoder.deliver_into(...);   // or collect(), or discard(); default is discard()
//                            break;
//     case Event::pdu:       handle(decoder.bhs(), decoder.data());
//                            break;
//     case Event::error:     drop_connection(decoder.fault());
//   }
//
// A payload of which much is missing can be received straight into its memory: see missing_bytes() and
// direct(). Lengths are checked against the limits before any memory is asked for. Pure; no allocation after
// construction except by collect(), bounded by the limit.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "base/bytes.hpp"
#include "base/limits.hpp"
#include "iscsi/pdu/constants.hpp"

namespace perilune::iscsi {

class PduDecoder {
 public:
  enum class Event : std::uint8_t { need_more, header, pdu, error };
  enum class Fault : std::uint8_t { none, data_segment_too_long, header_digest };

  explicit PduDecoder(std::uint32_t max_data_segment_bytes) : max_data_segment_(max_data_segment_bytes) {}

  // Take effect with the next PDU; called between PDUs (at login's end).
  void set_max_data_segment(std::uint32_t bytes) noexcept { max_data_segment_ = bytes; }
  void set_digests(bool header, bool data) noexcept {
    header_digest_ = header;
    data_digest_ = data;
  }

  // Consumes from the front of `input`. After `error` the stream cannot be continued.
  [[nodiscard]] Event next(Bytes& input);

  // Valid from Event::header to the end of Event::pdu's handling.
  [[nodiscard]] const std::uint8_t* bhs() const noexcept { return header_.data(); }
  [[nodiscard]] Bytes ahs() const noexcept { return {header_.data() + bhs_bytes, ahs_length_}; }
  [[nodiscard]] std::uint32_t data_length() const noexcept { return data_length_; }

  // At Event::header, for PDUs with data. `memory` (the array and what it names) stays put until Event::pdu;
  // its first `skip_bytes` are passed over; data for which there is no room is dropped. A final destination
  // is not read again soon: its bytes need not pass through the caches, nor are they received there directly:
  // the kernel's copy would load what it overwrites.
  enum class Destination : std::uint8_t { passing, final };
  void deliver_into(std::span<const iovec> memory, std::uint64_t skip_bytes = 0,
                    Destination destination = Destination::passing) noexcept;
  void collect() noexcept { sink_ = Sink::collect; }
  void discard() noexcept { sink_ = Sink::discard; }

  // At Event::pdu: the data when it was collected (valid until the next call of next()), and whether it was
  // whole.
  [[nodiscard]] Bytes data() const noexcept { return collected_; }
  // Lets go of the memory of deliver_into() when its owner must have it back before the PDU is complete.
  void abandon_memory() noexcept {
    if (sink_ == Sink::deliver) sink_ = Sink::discard;
  }
  [[nodiscard]] bool data_digest_ok() const noexcept { return data_digest_ok_; }

  // Direct receiving. How many bytes of the current data segment are still missing, when all of them go to
  // the caller's memory and that is not final (0 otherwise); where they go; and that `bytes` of them (at most
  // missing_bytes()) have arrived there.
  [[nodiscard]] std::uint32_t missing_bytes() const noexcept;
  [[nodiscard]] std::size_t direct(std::span<iovec> out) const noexcept;
  void commit_direct(std::uint32_t bytes) noexcept;

  [[nodiscard]] Fault fault() const noexcept { return fault_; }
  // True between PDUs: nothing of a PDU has been consumed yet.
  [[nodiscard]] bool idle() const noexcept {
    return state_ == State::finished || (state_ == State::header && filled_ == 0);
  }

 private:
  enum class State : std::uint8_t { header, data, trailer, finished, broken };
  enum class Sink : std::uint8_t { discard, collect, deliver };

  Event header_step(Bytes& input);
  [[nodiscard]] std::uint32_t header_crc() const noexcept;
  Event header_complete();
  bool data_step(Bytes& input);
  bool trailer_step(Bytes& input);
  void scatter(const std::uint8_t* from, std::size_t bytes) noexcept;
  void begin_pdu() noexcept;

  std::uint32_t max_data_segment_;
  bool header_digest_ = false;
  bool data_digest_ = false;
  bool data_digest_ok_ = true;
  State state_ = State::header;
  Sink sink_ = Sink::discard;
  Destination destination_ = Destination::passing;
  Fault fault_ = Fault::none;

  std::array<std::uint8_t, bhs_bytes + limits::max_ahs_bytes + digest_bytes> header_{};
  std::size_t filled_ = 0;
  std::size_t header_total_ = bhs_bytes;
  std::size_t ahs_length_ = 0;

  std::uint32_t data_length_ = 0;
  std::uint32_t data_seen_ = 0;
  std::uint32_t crc_ = 0;
  std::array<std::uint8_t, 3 + digest_bytes> trailer_{};  // padding, then the data digest
  std::size_t trailer_seen_ = 0;
  std::size_t trailer_total_ = 0;

  std::span<const iovec> memory_;
  std::size_t memory_index_ = 0;
  std::size_t memory_offset_ = 0;
  std::vector<std::uint8_t> own_;
  Bytes collected_;
};

}  // namespace perilune::iscsi
