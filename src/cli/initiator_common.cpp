// SPDX-License-Identifier: Apache-2.0
#include "cli/initiator_common.hpp"

#include <fmt/format.h>

#include <cstdio>
#include <utility>

#include "iscsi/pdu/constants.hpp"
#include "runtime/native/native_loop.hpp"

namespace perilune::cli {

using namespace initiator;

int report(std::string_view verb, const ToolError& error) {
  fmt::print(stderr, "perilune {}: {}\n", verb, error.message);
  return static_cast<int>(error.code);
}

ToolError tool_error(const Error& error) {
  ToolExit code = ToolExit::failed;
  switch (error.code) {
    case Errc::connection: code = ToolExit::connection; break;
    case Errc::timed_out: code = ToolExit::timed_out; break;
    case Errc::not_found: code = ToolExit::not_found; break;
    case Errc::authentication:
    case Errc::authorization: code = ToolExit::authentication; break;
    case Errc::invalid_argument: code = ToolExit::usage; break;
    default: break;
  }
  return {code, error.message};
}

ToolError tool_error(const LoginFailure& failure) {
  ToolError out = tool_error(failure.error);
  if (failure.status_class == 2) {
    out.code = failure.status_detail == 3 || failure.status_detail == 4 ? ToolExit::not_found
                                                                        : ToolExit::authentication;
    if (failure.status_detail == 0 || failure.status_detail > 4) out.code = ToolExit::failed;
  }
  return out;
}

SessionConfig session_config(const Url& url, const std::string& initiator_name) {
  SessionConfig config;
  config.initiator_name = initiator_name.empty() ? default_initiator_name() : initiator_name;
  url.apply_to(config);
  config.replacement_timeout = std::chrono::seconds(0);  // a tool tells at once
  return config;
}

tl::expected<std::unique_ptr<LoopThread>, ToolError> start_loop_thread() {
  auto loop = runtime::make_native_loop(runtime::Runtime::automatic, {});
  if (!loop) return tl::unexpected<ToolError>(tool_error(loop.error()));
  return LoopThread::start(std::move(*loop));
}

tl::expected<std::unique_ptr<SyncSession>, ToolError> open_session(LoopThread& thread, const Url& url,
                                                                   const SessionConfig& config) {
  auto endpoints = resolve(url.host, url.port);
  if (!endpoints) return tl::unexpected<ToolError>(tool_error(endpoints.error()));
  ToolError last{ToolExit::connection, "no address"};
  for (const runtime::Endpoint& endpoint : *endpoints) {
    SessionConfig attempt = config.clone();
    attempt.portal = endpoint;
    LoginFailure failure;
    auto session = SyncSession::open(thread, std::move(attempt), &failure);
    if (session) return std::move(*session);
    last = tool_error(failure);
    last.message = endpoint.to_string() + ": " + last.message;
    if (failure.status_class != 0) break;  // it answered
  }
  return tl::unexpected<ToolError>(std::move(last));
}

}  // namespace perilune::cli
