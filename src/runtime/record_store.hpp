// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>
#include <vector>

#include "base/bytes.hpp"
#include "base/result.hpp"

namespace perilune::runtime {

// Small named records that survive power loss: saved mode pages, APTPL. A put is durable when it returns
// (temporary file, fsync, rename, fsync of the folder). Control path: it blocks.
class RecordStore {
 public:
  virtual ~RecordStore() = default;
  // not_found when absent
  [[nodiscard]] virtual Result<std::vector<std::uint8_t>> get(std::string_view name) = 0;
  [[nodiscard]] virtual Status put(std::string_view name, Bytes value) = 0;
  [[nodiscard]] virtual Status remove(std::string_view name) = 0;
};

}  // namespace perilune::runtime
