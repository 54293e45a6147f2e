// SPDX-License-Identifier: Apache-2.0
#include "iscsi/text/text.hpp"

#include <algorithm>

#include "base/assert.hpp"
#include "iscsi/text/values.hpp"

namespace perilune::iscsi {
namespace {

bool is_graphic(char c) noexcept { return c > 0x20 && c < 0x7f; }

Result<KeyValue> parse_pair(std::string_view pair) {
  const std::size_t equals = pair.find('=');
  if (equals == std::string_view::npos) return fail(Errc::protocol, "text pair without '='");
  const std::string_view key = pair.substr(0, equals);
  if (key.empty()) return fail(Errc::protocol, "text pair with an empty key");
  if (key.size() > max_key_bytes) return fail(Errc::protocol, "text key longer than 63 bytes");
  if (!std::all_of(key.begin(), key.end(), is_graphic))
    return fail(Errc::protocol, "text key with a bad character");
  return KeyValue{key, pair.substr(equals + 1)};
}

}  // namespace

Result<std::vector<KeyValue>> parse_text(Bytes text, std::size_t max_keys) {
  std::vector<KeyValue> pairs;
  std::string_view rest = as_text(text);
  if (!rest.empty() && rest.back() != '\0') return fail(Errc::protocol, "text does not end in NUL");
  while (!rest.empty()) {
    const std::size_t end = rest.find('\0');  // there is one: the last byte
    const std::string_view pair = rest.substr(0, end);
    rest.remove_prefix(end + 1);
    if (pair.empty()) continue;
    if (pairs.size() == max_keys) return fail(Errc::limit, "text with too many keys");
    auto parsed = parse_pair(pair);
    if (!parsed) return tl::unexpected<Error>(std::move(parsed.error()));
    pairs.push_back(*parsed);
  }
  return pairs;
}

void TextWriter::add(std::string_view key, std::string_view value) {
  PERILUNE_ASSERT(!key.empty() && value.find('\0') == std::string_view::npos);
  text_.append(key).append(1, '=').append(value).append(1, '\0');
}

void TextWriter::add(std::string_view key, std::uint64_t number) {
  add(key, std::string_view(std::to_string(number)));
}

void TextWriter::add_hex(std::string_view key, Bytes binary) {
  add(key, std::string_view(hex_binary(binary)));
}

Status TextJoiner::add(Bytes data) {
  if (pdus_ >= max_pdus_) return fail(Errc::limit, "text over too many PDUs");
  if (data.size() > max_total_ - text_.size()) return fail(Errc::limit, "text too long");
  ++pdus_;
  text_.insert(text_.end(), data.begin(), data.end());
  return {};
}

std::string_view TextSplitter::next(std::size_t limit_bytes) noexcept {
  PERILUNE_ASSERT(limit_bytes > 0);
  const std::string_view piece = std::string_view(text_).substr(std::min(offset_, text_.size()), limit_bytes);
  offset_ += piece.size();
  return piece;
}

}  // namespace perilune::iscsi
