// SPDX-License-Identifier: Apache-2.0
// A disk that keeps nothing: reads give zeroes, writes are thrown away. For measuring everything else.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "block/backstore.hpp"
#include "block/open_backstore.hpp"

namespace perilune::block {

class NullBackstore final : public Backstore {
 public:
  [[nodiscard]] static Result<std::unique_ptr<Backstore>> create(std::uint64_t size_bytes,
                                                                 const BackstoreOptions& options);

  [[nodiscard]] const Geometry& geometry() const override { return geometry_; }
  [[nodiscard]] const std::string& identity() const override { return identity_; }
  [[nodiscard]] std::string describe() const override;
  [[nodiscard]] Result<std::unique_ptr<Channel>> open_channel(runtime::Loop& loop) override;

 private:
  NullBackstore() = default;
  Geometry geometry_;
  std::string identity_;
};

}  // namespace perilune::block
