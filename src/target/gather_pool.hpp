// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <memory>
#include <vector>

namespace perilune::target {

// The scatter lists of sends in progress: an idle connection holds none. Makes a list only when more sends
// than ever before are in progress at once. One thread.
class GatherPool {
 public:
  using List = std::array<iovec, 128>;
  [[nodiscard]] std::unique_ptr<List> take() {
    if (free_.empty()) {
      free_.reserve(++made_);
      return std::make_unique<List>();
    }
    auto list = std::move(free_.back());
    free_.pop_back();
    return list;
  }
  void give_back(std::unique_ptr<List> list) noexcept {
    free_.push_back(std::move(list));
  }  // into room that is reserved

 private:
  std::vector<std::unique_ptr<List>> free_;
  std::size_t made_ = 0;
};

}  // namespace perilune::target
