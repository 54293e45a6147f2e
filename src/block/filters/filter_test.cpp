// SPDX-License-Identifier: Apache-2.0
#include "block/block_test.hpp"
#include "block/filters/delay.hpp"
#include "block/filters/fault.hpp"
#include "block/filters/statistics.hpp"

namespace perilune::block {
namespace {

class FilterTest : public BlockTest {
 protected:
  template <class F, class... Args>
  F& stack(Args&&... args) {
    auto filter = std::make_unique<F>(std::move(channel), std::forward<Args>(args)...);
    F& out = *filter;
    channel = std::move(filter);
    return out;
  }
  static Fault fault(OpKind kind, Fault::What what = Fault::What::fail,
                     OpStatus status = OpStatus::read_error) {
    Fault f;
    f.what = what;
    f.kind = kind;
    f.status = status;
    return f;
  }
};

TEST_F(FilterTest, FaultStrikesItsRangeItsKindAndItsTurn) {
  open("ram:1M");
  auto& faults = stack<FaultFilter>();
  Fault f = fault(OpKind::read);
  f.first_lba = Lba(10);
  f.blocks = BlockCount(2);
  f.skip = 1;
  f.times = 1;
  faults.add(f);
  Buffer block(512), three(3 * 512);
  EXPECT_EQ(write(10, block), OpStatus::ok);
  EXPECT_EQ(read(9, block), OpStatus::ok);
  EXPECT_EQ(read(12, block), OpStatus::ok);
  EXPECT_EQ(read(11, block), OpStatus::ok);  // the one that is skipped
  EXPECT_EQ(read(8, three), OpStatus::read_error);
  EXPECT_EQ(last_errno, EIO);
  EXPECT_EQ(read(10, block), OpStatus::ok);  // struck once
  EXPECT_EQ(faults.struck(), 1U);
}

TEST_F(FilterTest, FailedAfterwardsMeansCarriedOut) {
  open("ram:1M");
  auto& faults = stack<FaultFilter>();
  faults.add(fault(OpKind::write, Fault::What::fail_after, OpStatus::write_error));
  Buffer block(512, 1);
  EXPECT_EQ(write(0, block), OpStatus::write_error);
  faults.clear();
  Buffer in(512);
  EXPECT_EQ(read(0, in), OpStatus::ok);
  EXPECT_TRUE(in.all(1));
}

TEST_F(FilterTest, ASwallowedFlushNeverReachesTheDisk) {
  open(folder.file("disk", 1 << 20));
  auto& faults = stack<FaultFilter>();
  faults.add(fault(OpKind::flush, Fault::What::swallow));
  EXPECT_EQ(flush(), OpStatus::ok);
  EXPECT_TRUE(trace.empty());
  faults.clear();
  EXPECT_EQ(flush(), OpStatus::ok);
  EXPECT_EQ(trace.size(), 1U);
}

TEST_F(FilterTest, DelayHoldsOperationsInOrderAndStacksWithOthers) {
  open("ram:1M");
  auto& inner = stack<StatisticsFilter>(*loop);
  stack<DelayFilter>(*loop, std::chrono::milliseconds(3));
  auto& outer = stack<StatisticsFilter>(*loop);
  stack<FaultFilter>();
  Buffer block(512, 1);
  EXPECT_EQ(write(0, block), OpStatus::ok);
  EXPECT_FALSE(ended_at_once);
  EXPECT_EQ(read(0, block), OpStatus::ok);
  EXPECT_EQ(read(9999999, block), OpStatus::out_of_range);
  EXPECT_EQ(flush(), OpStatus::ok);
  EXPECT_EQ(outer.of(OpKind::read).operations, 2U);
  EXPECT_EQ(outer.of(OpKind::read).errors, 1U);
  EXPECT_EQ(outer.of(OpKind::read).blocks, 1U);
  EXPECT_EQ(outer.of(OpKind::write).blocks, 1U);
  EXPECT_EQ(outer.of(OpKind::flush).operations, 1U);
  EXPECT_GE(outer.of(OpKind::write).total_ns, 3'000'000U);
  EXPECT_LT(inner.of(OpKind::write).total_ns, outer.of(OpKind::write).total_ns);
  EXPECT_EQ(outer.in_flight(), 0U);
  EXPECT_FALSE(channel->geometry().lends_memory);
  EXPECT_EQ(channel->lend(Lba(0), BlockCount(1), false), nullptr);
  std::vector<std::uint8_t> memory(512);
  EXPECT_FALSE(channel->read_at_once(Lba(0), BlockCount(1), memory.data()));
  EXPECT_FALSE(channel->write_at_once(Lba(0), BlockCount(1), memory.data()));
}

TEST_F(FilterTest, FiltersOverAPendingBackendRestoreTheCallersCallback) {
  open(folder.file("disk", 1 << 20));
  auto& statistics = stack<StatisticsFilter>(*loop);
  stack<FaultFilter>();
  Buffer block(4096, 6);
  EXPECT_EQ(write(0, block), OpStatus::ok);
  EXPECT_FALSE(ended_at_once);
  EXPECT_EQ(statistics.of(OpKind::write).blocks, 8U);
  Buffer in(4096);
  EXPECT_EQ(read(0, in), OpStatus::ok);
  EXPECT_TRUE(in.all(6));
}

}  // namespace
}  // namespace perilune::block
