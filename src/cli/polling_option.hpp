// SPDX-License-Identifier: Apache-2.0
// --polling of the verbs that run a loop of their own.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

#include "runtime/uring/uring_loop.hpp"

namespace perilune::cli {

// `polling` keeps its value when the option is not given, and outlives the parsing.
inline void add_polling_option(CLI::App& app, runtime::Polling& polling, const std::string& description) {
  using runtime::Polling;
  app.add_option_function<std::string>(
         "--polling",
         [&polling](const std::string& text) {
           polling = text == "never" ? Polling::never : text == "always" ? Polling::always : Polling::adaptive;
         },
         description)
      ->check(CLI::IsMember({"never", "adaptive", "always"}))
      ->default_str("adaptive");
}

}  // namespace perilune::cli
