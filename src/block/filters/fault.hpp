// SPDX-License-Identifier: Apache-2.0
// Breaks operations on purpose: for tests and the simulator, and for people who want to see what their system
// does.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "block/filters/filter.hpp"

namespace perilune::block {

struct Fault {
  enum class What : std::uint8_t {
    fail,         // not carried out, ends with `status`
    fail_after,   // carried out, and ends with `status` all the same
    swallow,      // not carried out, ends well: a disk that lies
  };
  What what = What::fail;
  OpKind kind = OpKind::read;
  Lba first_lba;                      // operations that touch [first_lba, first_lba + blocks); flush: always
  BlockCount blocks{UINT64_MAX};
  OpStatus status = OpStatus::read_error;
  int os_errno = 5;                   // EIO
  std::uint64_t skip = 0;             // matching operations that pass first
  std::uint64_t times = UINT64_MAX;   // how often it strikes
};

class FaultFilter final : public Filter {
 public:
  explicit FaultFilter(std::unique_ptr<Channel> inner) : Filter(std::move(inner)) {}
  // On the channel's thread. The first fault that matches an operation decides.
  void add(const Fault& fault) { faults_.push_back(fault); }
  void clear() { faults_.clear(); }
  [[nodiscard]] std::uint64_t struck() const noexcept { return struck_; }

 private:
  [[nodiscard]] bool begin(BlockOp& op) override;
  void ended(BlockOp& op) override;
  [[nodiscard]] Fault* choose(const BlockOp& op);

  std::vector<Fault> faults_;
  std::uint64_t struck_ = 0;
};

}  // namespace perilune::block
