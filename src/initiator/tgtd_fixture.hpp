// SPDX-License-Identifier: Apache-2.0
// For tests only: a private instance of Debian's tgtd with one target and one disk file. Skips when it is not
// installed.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <vector>

#include "initiator/initiator.hpp"

namespace perilune::initiator {

class Tgtd {
 public:
  static constexpr const char* target = "iqn.2001-04.com.example:disk";

  Tgtd();   // not started when available() is false
  ~Tgtd();
  [[nodiscard]] static bool available();
  void start();
  void stop();  // kill -9
  // tgtadm with these arguments; false when it fails.
  bool admin(std::vector<std::string> arguments);
  [[nodiscard]] SessionConfig config() const;
  [[nodiscard]] runtime::Endpoint portal() const;

 private:
  int control_ = 0;
  std::uint16_t port_ = 0;
  int pid_ = -1;
  std::string disk_;
};

}  // namespace perilune::initiator
