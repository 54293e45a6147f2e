// SPDX-License-Identifier: Apache-2.0
// The bytes on the control socket: frames of a 4-byte big-endian length and that many bytes of JSON (UTF-8).
//   request   {"version": 1, "op": "login", "args": {...}}
//   answer    any number of {"progress": {...}}, then {"result": ...} or {"error": {"code": 24, "message":
//   "..."}}
// One request is outstanding on a connection; the next follows its answer. Pure; any thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "control/messages.hpp"

namespace perilune::control {

inline constexpr int protocol_version = 1;
inline constexpr std::uint32_t max_request_bytes = 8 * 1024 * 1024;  // some 20,000 changes in one transaction
// Of the requests of all connections that have not come whole yet.
inline constexpr std::size_t max_incomplete_bytes = 16 * 1024 * 1024;
inline constexpr std::uint32_t max_answer_bytes = 16 * 1024 * 1024;
inline constexpr std::size_t max_connections = 64;

[[nodiscard]] std::string encode_frame(const Json& message);

// Cuts frames out of a stream of bytes. After an Error the stream cannot be used any more.
class FrameReader {
 public:
  explicit FrameReader(std::uint32_t max_frame_bytes) : max_frame_bytes_(max_frame_bytes) {}
  void append(std::string_view bytes) { buffer_ += bytes; }
  // nullopt: not complete yet. Fails with limit (the announced length), protocol (not JSON, or nested deeper
  // or of more values than config/target/json_text.hpp allows: what is copied and written by recursion has a
  // bounded depth).
  [[nodiscard]] Result<std::optional<Json>> next();
  [[nodiscard]] bool empty() const noexcept { return buffer_.empty(); }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return buffer_.size();
  }  // that have not become a message

 private:
  std::uint32_t max_frame_bytes_;
  std::string buffer_;
};

// What a client asks for.
struct Request {
  std::string op;
  Json args;  // an object
  std::uint32_t uid = 0;  // of the peer
  std::int32_t pid = 0;
};
// From a message; whose it is stays open. Fails with protocol.
[[nodiscard]] Result<Request> request_of(Json message);

}  // namespace perilune::control
