// SPDX-License-Identifier: Apache-2.0
// Where iscsiadm speaks. Tests record it.
#pragma once

#include <string_view>

namespace perilune::cli::iscsiadm {

class Console {
 public:
  virtual ~Console() = default;
  virtual void out(std::string_view text) = 0;   // as it is; shown at once
  virtual void err(std::string_view line) = 0;   // one line, "iscsiadm: " put before it
  virtual void raw_err(std::string_view line) = 0;  // one line without that
};

// stdout and stderr.
class StdConsole final : public Console {
 public:
  void out(std::string_view text) override;
  void err(std::string_view line) override;
  void raw_err(std::string_view line) override;
};

}  // namespace perilune::cli::iscsiadm
