// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>

#include "runtime/record_store.hpp"
#include "runtime/sim/world.hpp"

namespace perilune::sim {

// Records of a simulated host. A put that answered is durable. A put that fails (fail_per_million) has left
// either the old or the new value, as a failed rename or directory sync does.
class SimRecordStore final : public runtime::RecordStore {
 public:
  explicit SimRecordStore(World& world) noexcept : world_(world) {}
  [[nodiscard]] Result<std::vector<std::uint8_t>> get(std::string_view name) override;
  [[nodiscard]] Status put(std::string_view name, Bytes value) override;
  [[nodiscard]] Status remove(std::string_view name) override;
  void set_fail_per_million(std::uint32_t n) noexcept { fail_per_million_ = n; }

 private:
  World& world_;
  std::uint32_t fail_per_million_ = 0;
  std::map<std::string, std::vector<std::uint8_t>, std::less<>> records_;
};

}  // namespace perilune::sim
