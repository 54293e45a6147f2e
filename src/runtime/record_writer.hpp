// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.hpp"

namespace perilune::runtime {

class Loop;

// Records of a store (record_store.hpp), put without holding up a loop while they become durable. Shared by
// the loops of a process.
class RecordWriter {
 public:
  virtual ~RecordWriter() = default;
  // Blocks: for the time before the loops run. not_found when there is none.
  [[nodiscard]] virtual Result<std::vector<std::uint8_t>> get(std::string_view name) = 0;
  // On the thread of `loop`. `done` is called there from a later turn: the record is durable, or it failed
  // and is the old or the new one. Puts happen in the order of the calls. The loop outlives its puts.
  virtual void put(Loop& loop, std::string name, std::vector<std::uint8_t> value,
                   std::function<void(Status)> done) = 0;
};

}  // namespace perilune::runtime
