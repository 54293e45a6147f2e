// SPDX-License-Identifier: Apache-2.0
// The command line of iscsiadm: getopt_long semantics, the options each mode allows, and the words of
// refusal.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/iscsiadm/console.hpp"
#include "config/portal.hpp"

namespace perilune::cli::iscsiadm {

enum class Mode : std::uint8_t { none, unknown, discovery, discoverydb, node, session, iface, fw, host };

// Bits: discovery takes several.
enum Op : unsigned {
  op_none = 0,
  op_new = 1,
  op_delete = 2,
  op_update = 4,
  op_show = 8,
  op_nonpersistent = 16,
  op_apply = 32,
  op_applyall = 64,
  op_login = 128,
  op_logout = 256,
};

enum class DiscoveryType : std::uint8_t { none, unknown, send_targets, isns, slp, fw };

struct Options {
  Mode mode = Mode::none;
  unsigned op = op_none;
  DiscoveryType type = DiscoveryType::none;
  std::optional<config::Portal> portal;
  std::string target;
  std::vector<std::string> ifaces;
  std::vector<std::string> names;                                  // -n
  std::vector<std::string> values;                                 // -v
  std::optional<std::uint32_t> sid;
  int print_level = -1;                                            // -1: not given
  int debug_level = 0;
  bool discover = false, login = false, logout = false, rescan = false, stats = false;
  bool no_wait = false, show_secrets = false;
  std::string login_all, logout_all;  // all, manual, automatic, onboot; empty: not given
  std::optional<int> kill_priority;                                // -k
  std::string host;                                                // -H
  std::string submode;                                             // -C
  bool help = false, version = false;
};

// nullopt and the exit code in `exit_code` when the command line ends here (help, version, a mistake). argv
// is permuted as getopt does. Resets getopt's state: may be called again.
[[nodiscard]] std::optional<Options> parse_options(int argc, char** argv, Console& console, int& exit_code);

[[nodiscard]] const char* usage_text() noexcept;

}  // namespace perilune::cli::iscsiadm
