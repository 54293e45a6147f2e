// SPDX-License-Identifier: Apache-2.0
// The command lines of tgt-admin and tgtimg, which their clients read (tgtadm's is the daemon's:
// options.hpp). Pure.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace perilune::cli::tgt {

struct AdminOptions {
  std::string action;
  std::string selector = "ALL";
  std::string conf = "/etc/tgt/targets.conf";
  bool force = false, pretend = false, help = false;
};

// One line that names the option that is wrong.
[[nodiscard]] Result<AdminOptions> parse_admin(const std::vector<std::string>& words);

struct ImageOptions {
  std::map<std::string, std::string, std::less<>> values;
  [[nodiscard]] std::string get(std::string_view name) const {
    const auto at = values.find(name);
    return at == values.end() ? std::string() : at->second;
  }
};

[[nodiscard]] Result<ImageOptions> parse_image(const std::vector<std::string>& words);

}  // namespace perilune::cli::tgt
