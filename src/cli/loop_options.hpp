// SPDX-License-Identifier: Apache-2.0
// --polling and --runtime of the verbs that run a loop of their own.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "runtime/native/native_loop.hpp"

namespace perilune::cli {

// `polling` keeps its value when the option is not given, and outlives the parsing.
inline void add_polling_option(CLI::App& app, runtime::Polling& polling, const std::string& description) {
  using runtime::Polling;
  app.add_option_function<std::string>(
         "--polling",
         [&polling](const std::string& text) {
           polling = text == "never"    ? Polling::never
                     : text == "always" ? Polling::always
                                        : Polling::adaptive;
         },
         description)
      ->check(CLI::IsMember({"never", "adaptive", "always"}))
      ->default_str("adaptive");
}

// The same for `kind`.
inline void add_runtime_option(CLI::App& app, runtime::Runtime& kind) {
  app.add_option_function<std::string>(
         "--runtime",
         [&kind](const std::string& text) { kind = runtime::parse_runtime(text).value_or(kind); },
         "how the kernel is asked: uring, epoll, or auto: PERILUNE_RUNTIME, else io_uring, and epoll where "
         "that cannot be had")
      ->check(CLI::IsMember({"auto", "uring", "epoll"}))
      ->default_str("auto");
}

}  // namespace perilune::cli
