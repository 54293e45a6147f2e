// SPDX-License-Identifier: Apache-2.0
// key=value text (RFC 7143 6.1, 6.2): taking it apart, writing it, cutting it into PDUs and joining PDUs.
// Pure. Nothing here trusts its input; every size is bounded by base/limits.hpp or an argument.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/limits.hpp"
#include "base/result.hpp"

namespace perilune::iscsi {

inline constexpr std::size_t max_key_bytes = 63;            // RFC 7143 6.1: key-name
inline constexpr std::size_t max_simple_value_bytes = 255;  // RFC 7143 6.1: unless a key says otherwise

// The constants that may stand in place of a value (RFC 7143 6.2)
inline constexpr std::string_view value_none = "None";
inline constexpr std::string_view value_reject = "Reject";
inline constexpr std::string_view value_irrelevant = "Irrelevant";
inline constexpr std::string_view value_not_understood = "NotUnderstood";

struct KeyValue {
  std::string_view key;
  std::string_view value;
  bool operator==(const KeyValue&) const = default;
};

// All pairs, in order, borrowing from `text`. Duplicates are left to the caller (SendTargets answers repeat
// keys). Errc::protocol: the text does not end in NUL, a pair without '=', an empty key, a key over 63 bytes
// or with a character that is no graphic ASCII. Errc::limit: over max_keys pairs. Additional NULs between
// pairs are fine.
[[nodiscard]] Result<std::vector<KeyValue>> parse_text(Bytes text,
                                                       std::size_t max_keys = limits::max_text_keys);

// Builds the text of one negotiation step.
class TextWriter {
 public:
  void add(std::string_view key, std::string_view value);
  void add(std::string_view key, std::uint64_t number);
  void add_hex(std::string_view key, Bytes binary);  // 0x…
  [[nodiscard]] bool empty() const noexcept { return text_.empty(); }
  [[nodiscard]] const std::string& text() const noexcept { return text_; }
  [[nodiscard]] std::string take() noexcept { return std::exchange(text_, {}); }

 private:
  std::string text_;
};

// Joins the data segments of PDUs with the C bit. Pairs may be cut anywhere, also inside a key.
class TextJoiner {
 public:
  explicit TextJoiner(std::size_t max_total_bytes = limits::max_text_total_bytes,
                      std::size_t max_pdus = limits::max_text_pdus_per_exchange)
      : max_total_(max_total_bytes), max_pdus_(max_pdus) {}

  // Errc::limit when the total or the number of PDUs would pass its limit. Memory is used only after that
  // check.
  [[nodiscard]] Status add(Bytes data);
  [[nodiscard]] Bytes text() const noexcept { return text_; }
  [[nodiscard]] bool empty() const noexcept { return text_.empty(); }
  void clear() noexcept {
    text_.clear();
    pdus_ = 0;
  }

 private:
  std::size_t max_total_;
  std::size_t max_pdus_;
  std::size_t pdus_ = 0;
  std::vector<std::uint8_t> text_;
};

// Cuts a text into data segments of at most `limit` bytes; all but the last go with the C bit.
class TextSplitter {
 public:
  TextSplitter() = default;
  explicit TextSplitter(std::string text) : text_(std::move(text)) {}
  [[nodiscard]] bool done() const noexcept { return offset_ >= text_.size(); }
  // The next piece (valid until this is assigned to); after it done() tells whether more follow.
  [[nodiscard]] std::string_view next(std::size_t limit_bytes) noexcept;

 private:
  std::string text_;
  std::size_t offset_ = 0;
};

}  // namespace perilune::iscsi
