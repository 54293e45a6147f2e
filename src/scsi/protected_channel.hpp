// SPDX-License-Identifier: Apache-2.0
// Protection information (SBC-3 4.22) over a channel that has room for it.
//
// The channel below has blocks of 520 or 4104 bytes (Geometry::protection_bytes = 8). This one has blocks of
// 512 or 4096, and does with the other eight what BlockOp::protection asks for: makes them, checks them, or
// moves them along. So whoever knows nothing of protection information (copies, COMPARE AND WRITE, SANITIZE
// …) is served as well.
//
// What is stored is the complement of what is on the wire. So a block that was never written, or is
// deallocated, whose bytes the store has as zeroes, has FFFFFFFF_FFFFFFFFh: what the standard asks for, and
// nothing is checked. One block is one run of bytes of the store, data and protection information together,
// so an interrupted write of a block touches no other block.
//
// Data and protection information of a block are of one write only while no two operations on a block
// overlap: the command table of a protected disk sees to that (SerialClass::exclusive). For src/scsi alone.
// One thread (the shard's).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "base/block_op.hpp"
#include "base/intrusive_list.hpp"
#include "scsi/protection.hpp"
#include "scsi/transfer.hpp"

namespace perilune::scsi {

class ProtectedChannel final : public block::Channel {
 public:
  // Both are borrowed. `rules` are asked for every operation, and change only while there is none.
  ProtectedChannel(block::Channel& below, const ProtectionRules& rules);
  ~ProtectedChannel() override;

  [[nodiscard]] const block::Geometry& geometry() const override { return geometry_; }
  [[nodiscard]] bool submit(block::BlockOp& op) override;

  // The geometry of the channel below has changed.
  void refresh_geometry();

 private:
  // One operation on its way. Those of hidden protection information go through a buffer, slice by slice.
  struct Lane : ListNode<Lane> {
    ProtectedChannel* channel = nullptr;
    block::BlockOp* outer = nullptr;
    block::BlockOp op;
    std::uint64_t position = 0;  // blocks done
    std::unique_ptr<std::uint8_t[]> buffer;
    iovec piece{};
  };
  static constexpr std::size_t max_lanes = 32;            // the operations over them wait in turn
  static constexpr std::size_t buffer_bytes = 64 * 4104;  // of each lane that needs one, kept from then on

  [[nodiscard]] Lane* take_lane();
  [[nodiscard]] bool start(Lane& lane, block::BlockOp& op);
  [[nodiscard]] bool go_on(Lane& lane);
  [[nodiscard]] bool prepare(Lane& lane);
  [[nodiscard]] bool prepare_carried(Lane& lane);
  void prepare_slice(Lane& lane);
  [[nodiscard]] bool ended(Lane& lane);
  [[nodiscard]] bool read_ended(Lane& lane);
  void fill_slice(Lane& lane);
  void release(Lane& lane);
  void start_waiting();
  static void completed(void* context, block::BlockOp& op);

  block::Channel& below_;
  const ProtectionRules& rules_;
  block::Geometry geometry_;
  std::array<std::unique_ptr<Lane>, max_lanes> lanes_;
  std::size_t lanes_made_ = 0;
  IntrusiveList<Lane> free_;
  IntrusiveList<block::BlockOp> waiting_;
};

}  // namespace perilune::scsi
