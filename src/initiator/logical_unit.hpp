// SPDX-License-Identifier: Apache-2.0
// What a session finds behind it: the scan (REPORT LUNS, INQUIRY, VPD, READ CAPACITY, MODE SENSE) and a
// logical unit as a block::Channel. One loop's thread; the session outlives both.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "block/backstore.hpp"
#include "initiator/session.hpp"

namespace perilune::initiator {

inline constexpr std::size_t max_scanned_units = 1024;

// What one logical unit said about itself. Strings are trimmed and made printable.
struct UnitInfo {
  std::uint64_t lun = 0;          // eight LUN bytes, big-endian
  std::uint8_t peripheral_qualifier = 0, peripheral_type = 0;
  std::uint8_t version = 0;
  bool removable = false, thin = false;
  std::string vendor, product, revision, serial;
  std::vector<std::uint8_t> inquiry, vpd80, vpd83, vpd_b0, vpd_b1, vpd_b2;  // raw pages, empty when refused
  std::string wwid;  // from the best designator of VPD 83: "naa.6001405...", "eui....", "t10....", or empty
  bool ready = false;             // a direct access unit that answered TEST UNIT READY and READ CAPACITY
  block::Geometry geometry;       // valid when ready
  bool dpo_fua = false, write_same_unmap = false, unmap = false, write_same = false;
  std::uint32_t optimal_transfer_blocks = 0, unmap_max_blocks = 0, unmap_max_descriptors = 0;
  std::uint64_t write_same_max_blocks = 0;
};

// The number that people use: peripheral and flat addressing (SAM-5 4.7) decoded; others as the eight bytes.
[[nodiscard]] std::uint64_t lun_number(std::uint64_t lun) noexcept;
// The eight bytes for a number: peripheral device below 256, flat space below 16384, extended flat beyond.
[[nodiscard]] std::uint64_t lun_bytes(std::uint64_t number) noexcept;
[[nodiscard]] const char* peripheral_type_name(std::uint8_t type) noexcept;  // "DIRECT_ACCESS" …

// Scans once. done is called from the loop, once; destroying the scan before that is allowed only when the
// session has no request of it outstanding (that is, after done).
class Scan {
 public:
  using Done = std::function<void(Result<std::vector<UnitInfo>>)>;
  Scan(Session& session, Done done);
  ~Scan();
  void start();                        // every unit that REPORT LUNS names
  void start_one(std::uint64_t lun);   // this one only; fails with not_found when it is not there

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// A direct access unit as blocks. READ/WRITE 10 or 16, FUA by bit, flush as SYNCHRONIZE CACHE, unmap,
// write_zeroes as WRITE SAME(16); larger operations are split; unit attentions, BUSY and TASK SET FULL are
// retried (bounded). Operations beyond the limit wait in a FIFO. After warm-up nothing is allocated per
// operation.
class LogicalUnit final : public block::Channel {
 public:
  // Precondition: info.ready.
  LogicalUnit(Session& session, UnitInfo info, std::uint32_t queue_depth = 128);
  ~LogicalUnit() override;

  [[nodiscard]] const block::Geometry& geometry() const override;
  [[nodiscard]] bool submit(block::BlockOp& op) override;

  [[nodiscard]] const UnitInfo& info() const noexcept;
  [[nodiscard]] Session& session() noexcept;
  // Stable text that names the stored bytes: the WWID, else target name and LUN.
  [[nodiscard]] const std::string& identity() const noexcept;
  // Set: called from the loop when the target reports a change of capacity or of parameters (unit attention
  // 2A/xx, 3F/xx).
  void on_changed(std::function<void()> changed);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace perilune::initiator
