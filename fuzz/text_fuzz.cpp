// SPDX-License-Identifier: Apache-2.0
// Key=value text, value forms, names and addresses: whatever comes in, what goes out holds its own rules.
#include <string>

#include "fuzz_input.hpp"
#include "iscsi/login/text_exchange.hpp"
#include "iscsi/names/names.hpp"
#include "iscsi/text/text.hpp"
#include "iscsi/text/values.hpp"

namespace {

using namespace perilune;
using namespace perilune::iscsi;
using fuzz::Input;
using fuzz::require;

void check_pairs(Bytes text) {
  const auto pairs = parse_text(text);
  if (!pairs) return;
  require(pairs->size() <= limits::max_text_keys);
  TextWriter writer;
  for (const KeyValue& pair : *pairs) {
    require(!pair.key.empty() && pair.key.size() <= max_key_bytes);
    require(pair.value.find('\0') == std::string_view::npos);
    writer.add(pair.key, pair.value);
  }
  const std::string written = writer.take();
  const auto again = parse_text(as_bytes(written));
  require(again.has_value() && *again == *pairs);
}

void check_cutting(Bytes text, std::size_t piece) {
  TextSplitter splitter{std::string(as_text(text))};
  TextJoiner joiner;
  while (!splitter.done()) {
    const std::string_view part = splitter.next(piece);
    require(!part.empty() && part.size() <= piece);
    if (!joiner.add(as_bytes(part))) return;   // over a limit
  }
  require(std::equal(text.begin(), text.end(), joiner.text().begin(), joiner.text().end()));
}

void check_values(std::string_view text) {
  if (const auto range = parse_range(text)) require(range->low <= range->high);
  (void)parse_number(text);
  (void)parse_boolean(text);
  if (const auto items = parse_list(text, 8)) require(items->size() <= 8);
  if (const auto binary = parse_binary(text, 64)) {
    require(binary->size() <= 64 && !binary->empty());
    require(parse_binary(hex_binary(*binary), 64) == binary);
    require(parse_binary(base64_binary(*binary), 64) == binary);
  }
  for (const char c : printable(text, 40)) require(c != '\n' && c != '\x7f');
}

void check_names(std::string_view text) {
  if (const auto name = normalize_name(text)) {
    require(name->size() <= limits::max_iscsi_name_bytes);
    const auto again = normalize_name(*name);
    require(again.has_value() && *again == *name);
  }
  (void)parse_target_address(text);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  const std::size_t piece = 1 + input.byte();
  const std::vector<std::uint8_t> own(input.rest().begin(), input.rest().end());
  check_pairs(own);
  check_cutting(own, piece);
  check_values(as_text(own));
  check_names(as_text(own));
  if (const auto targets = parse_send_targets_answer(own, 16, 4)) {
    require(targets->size() <= 16);
    for (const auto& target : *targets) require(target.addresses.size() <= 4);
  }
  return 0;
}
