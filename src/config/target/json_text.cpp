// SPDX-License-Identifier: Apache-2.0
#include "config/target/json_text.hpp"

#include <algorithm>

namespace perilune::config::target {
namespace {

// Depth and number of values from the brackets and commas outside strings. What is not JSON is found by the
// parser.
Status check_shape(std::string_view text) {
  std::size_t depth = 0;
  std::size_t values = 1;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
      continue;
    }
    if (c == '"') in_string = true;
    if (c == ',' || c == '[' || c == '{') ++values;
    if (c == '[' || c == '{') ++depth;
    if ((c == ']' || c == '}') && depth > 0) --depth;
    if (depth > max_json_depth)
      return fail(Errc::limit, "is nested deeper than " + std::to_string(max_json_depth));
    if (values > max_json_values)
      return fail(Errc::limit, "has more than " + std::to_string(max_json_values) + " values");
  }
  return {};
}

std::string position(std::string_view text, std::size_t byte) {
  const std::string_view before = text.substr(0, std::min(byte == 0 ? 0 : byte - 1, text.size()));
  const auto line = std::count(before.begin(), before.end(), '\n') + 1;
  const auto newline = before.rfind('\n');
  const std::size_t column = newline == std::string_view::npos ? before.size() + 1 : before.size() - newline;
  return "line " + std::to_string(line) + " column " + std::to_string(column);
}

}  // namespace

Result<Json> parse_json(std::string_view text) {
  if (text.size() > max_json_bytes) {
    return fail(Errc::limit, "is longer than " + std::to_string(max_json_bytes >> 20) + " MiB");
  }
  if (auto shape = check_shape(text); !shape) return tl::unexpected<Error>(std::move(shape.error()));
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    return fail(Errc::invalid_argument, "is not valid JSON at " + position(text, error.byte));
  } catch (const Json::exception&) {  // a number beyond all range
    return fail(Errc::invalid_argument, "is not valid JSON");
  }
}

std::string write_json(const Json& json, int indent) {
  return json.dump(indent, ' ', true, Json::error_handler_t::replace);
}

}  // namespace perilune::config::target
