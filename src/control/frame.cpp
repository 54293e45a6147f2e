// SPDX-License-Identifier: Apache-2.0
#include "control/frame.hpp"

#include "base/bytes.hpp"
#include "config/target/json_text.hpp"

namespace perilune::control {
namespace {
constexpr std::size_t header_bytes = 4;
}

std::string encode_frame(const Json& message) {
  // Names from the wire may hold bytes that are not UTF-8: replaced, not thrown over.
  const std::string body = message.dump(-1, ' ', false, Json::error_handler_t::replace);
  std::string frame(header_bytes, '\0');
  store_be32(reinterpret_cast<std::uint8_t*>(frame.data()), static_cast<std::uint32_t>(body.size()));
  return frame + body;
}

Result<std::optional<Json>> FrameReader::next() {
  if (buffer_.size() < header_bytes) return std::optional<Json>();
  const std::uint32_t length = load_be32(reinterpret_cast<const std::uint8_t*>(buffer_.data()));
  if (length > max_frame_bytes_) return fail(Errc::limit, "a message is longer than it may be");
  if (buffer_.size() - header_bytes < length) return std::optional<Json>();
  auto message = config::target::parse_json(std::string_view(buffer_).substr(header_bytes, length));
  buffer_.erase(0, header_bytes + length);
  if (!message) return fail(Errc::protocol, "a message " + message.error().message);
  if (!message->is_object()) return fail(Errc::protocol, "a message is not a JSON object");
  return std::optional<Json>(std::move(*message));
}

Result<Request> request_of(Json message) {
  if (number_of(message, "version") != protocol_version)
    return fail(Errc::protocol, "the protocol version is not 1");
  Request request{text_of(message, "op"), Json::object()};
  const auto args = message.find("args");
  if (args != message.end()) request.args = std::move(*args);
  if (request.op.empty() || !request.args.is_object())
    return fail(Errc::protocol, "a request has op and args");
  return request;
}

}  // namespace perilune::control
