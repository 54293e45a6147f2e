// SPDX-License-Identifier: Apache-2.0
// A disk in memory: anonymous pages that come when they are written, go when they are unmapped (thick: are
// there from the beginning and stay), and are lent for in-place writes. Everything ends at once. Any number
// of channels, on any threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/mapping.hpp"
#include "block/backstore.hpp"
#include "block/open_backstore.hpp"
#include "runtime/posix/unique_fd.hpp"

namespace perilune::block {

class RamBackstore final : public Backstore {
 public:
  // Fails with no_memory when the address space cannot be had, or, for a thick disk, the memory.
  [[nodiscard]] static Result<std::unique_ptr<Backstore>> create(std::uint64_t user_bytes,
                                                                 const BackstoreOptions& options);

  [[nodiscard]] const Geometry& geometry() const override { return geometry_; }
  [[nodiscard]] const std::string& identity() const override { return identity_; }
  [[nodiscard]] std::string describe() const override;
  [[nodiscard]] Result<std::unique_ptr<Channel>> open_channel(runtime::Loop& loop) override;
  // The pages that there are, and the memory that the system has for more of them, swap included.
  [[nodiscard]] std::optional<SpaceLevel> measure_space() override;

 private:
  RamBackstore() = default;
  [[nodiscard]] Status allocate_all();
  Mapping memory_;
  runtime::posix::UniqueFd pagemap_;  // what the system has pages for; shared by the channels
  Geometry geometry_;
  std::string identity_;
};

}  // namespace perilune::block
