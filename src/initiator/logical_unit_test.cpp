// SPDX-License-Identifier: Apache-2.0
// A logical unit as a block channel: which commands it sends, and what it makes of their outcomes. Virtual
// time, scripted target.
#include "initiator/logical_unit.hpp"

#include <gtest/gtest.h>

#include <cerrno>
#include <deque>
#include <optional>

#include "initiator/fake_target.hpp"
#include "runtime/sim/sim_host.hpp"

namespace perilune::initiator {
namespace {

using namespace std::chrono_literals;
using block::BlockOp;
using block::OpKind;
using block::OpStatus;
using Bytes8 = std::vector<std::uint8_t>;

constexpr std::uint8_t read10 = 0x28, write10 = 0x2a, sync10 = 0x35, unmap_code = 0x42, read16 = 0x88,
                       write_same16 = 0x93;

struct Op : BlockOp {
  std::vector<std::uint8_t> memory;
  std::vector<iovec> iov;
  bool over = false;
  Op(OpKind what, std::uint64_t at, std::uint64_t count, std::size_t bytes = 0) : memory(bytes) {
    kind = what;
    lba = Lba(at);
    blocks = BlockCount(count);
    // Two pieces of odd sizes.
    if (bytes != 0) iov = {{memory.data(), bytes / 3}, {memory.data() + bytes / 3, bytes - bytes / 3}};
    data = iov;
    done = Delegate<void(BlockOp&)>::raw(
        this, [](void* context, BlockOp&) { static_cast<Op*>(context)->over = true; });
  }
};

class LogicalUnitTest : public testing::Test, public SessionObserver {
 protected:
  LogicalUnitTest()
      : world_(1, calm()),
        target_host_(world_.add_host("target", {"10.0.0.1"})),
        client_host_(world_.add_host("client", {"10.0.0.2"})),
        target_(target_host_.add_loop(), *runtime::Endpoint::parse("10.0.0.1", 3260)),
        loop_(client_host_.add_loop()) {
    info_.ready = true;
    info_.geometry.block_size_bytes = 512;
    info_.geometry.blocks = BlockCount(1 << 20);
    info_.dpo_fua = true;
    info_.unmap = true;
    info_.write_same_unmap = true;
    target_.handler = [this](FakeTarget::Connection& connection, const std::uint8_t* bhs, Bytes) {
      if (iscsi::opcode(bhs) != iscsi::Opcode::scsi_command) return false;
      cdbs_.emplace_back(bhs + 32, bhs + 48);
      if (script_.empty()) return false;
      auto step = script_.front();
      script_.pop_front();
      return step(connection, bhs);
    };
  }
  void SetUp() override {
    SessionConfig config;
    config.initiator_name = "iqn.2026-11.io.perilune:test";
    config.target_name = "iqn.2026-11.io.perilune:fake";
    config.portal = *runtime::Endpoint::parse("10.0.0.1", 3260);
    session_.emplace(loop_, std::move(config), *this);
    session_->start();
    ASSERT_TRUE(world_.run_until([&] { return logged_in_; }, 10s));
  }
  void TearDown() override {
    session_->logout();
    EXPECT_TRUE(world_.run_until([&] { return logged_out_; }, 100s));
    unit_.reset();
    session_.reset();
    world_.run_for(1s);
  }
  static sim::WorldOptions calm() {
    sim::WorldOptions options;
    options.buggify = false;
    return options;
  }

  OpStatus run(Op& op, runtime::Duration limit = 60s) {
    if (!unit_) unit_.emplace(*session_, info_, 4);
    if (unit_->submit(op)) return op.status;
    EXPECT_FALSE(op.over);
    EXPECT_TRUE(world_.run_until([&] { return op.over; }, limit));
    return op.status;
  }
  using Step = std::function<bool(FakeTarget::Connection&, const std::uint8_t*)>;
  static Step sense(std::uint8_t key, std::uint8_t asc, std::uint8_t ascq) {
    return [=](FakeTarget::Connection& connection, const std::uint8_t* bhs) {
      connection.check_condition(bhs, key, asc, ascq);
      return true;
    };
  }
  static Step status(std::uint8_t code) {
    return [=](FakeTarget::Connection& connection, const std::uint8_t* bhs) {
      std::vector<std::uint8_t> answer(48);
      answer[0] = 0x21;
      answer[1] = 0x80;
      answer[3] = code;
      std::memcpy(&answer[16], bhs + 16, 4);
      connection.send(answer);
      return true;
    };
  }

  void on_logged_in() override { logged_in_ = true; }
  void on_state(SessionState, SessionState) override {}
  void on_failed(const LoginFailure&) override {}
  void on_logged_out() override { logged_out_ = true; }
  void on_units_changed() override {}

  sim::World world_;
  sim::SimHost& target_host_;
  sim::SimHost& client_host_;
  FakeTarget target_;
  sim::SimLoop& loop_;
  UnitInfo info_;
  std::optional<Session> session_;
  std::optional<LogicalUnit> unit_;
  std::deque<Step> script_;
  std::vector<Bytes8> cdbs_;
  bool logged_in_ = false, logged_out_ = false;
};

TEST_F(LogicalUnitTest, SmallReadIsRead10) {
  Op read(OpKind::read, 0x1234, 2, 1024);
  EXPECT_EQ(run(read), OpStatus::ok);
  ASSERT_EQ(cdbs_.size(), 1u);
  EXPECT_EQ(cdbs_[0], (Bytes8{read10, 0, 0, 0, 0x12, 0x34, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0}));
  EXPECT_EQ(read.memory, std::vector<std::uint8_t>(1024, 0xa5));
}

TEST_F(LogicalUnitTest, BlocksBeyond32BitsNeedRead16) {
  info_.geometry.blocks = BlockCount(std::uint64_t{1} << 40);
  Op read(OpKind::read, 0x123456789a, 1, 512);
  EXPECT_EQ(run(read), OpStatus::ok);
  EXPECT_EQ(cdbs_[0], (Bytes8{read16, 0, 0, 0, 0, 0x12, 0x34, 0x56, 0x78, 0x9a, 0, 0, 0, 1, 0, 0}));
}

TEST_F(LogicalUnitTest, SplitsAtTheUnitsTransferLimitAndGathersThePieces) {
  info_.geometry.max_transfer_blocks = 3;
  Op read(OpKind::read, 10, 8, 4096);
  EXPECT_EQ(run(read), OpStatus::ok);
  ASSERT_EQ(cdbs_.size(), 3u);
  EXPECT_EQ(cdbs_[0][5], 10);
  EXPECT_EQ(cdbs_[1][5], 13);
  EXPECT_EQ(cdbs_[2][5], 16);
  EXPECT_EQ(cdbs_[2][8], 2);
  EXPECT_EQ(read.memory, std::vector<std::uint8_t>(4096, 0xa5));
}

TEST_F(LogicalUnitTest, MoreOperationsThanItsDepthWaitAndAllEnd) {
  std::vector<std::unique_ptr<Op>> ops;
  unit_.emplace(*session_, info_, 2);
  for (int i = 0; i < 50; ++i) {
    ops.push_back(std::make_unique<Op>(OpKind::read, static_cast<std::uint64_t>(i), 1, 512));
    ASSERT_FALSE(unit_->submit(*ops.back()));
  }
  EXPECT_TRUE(world_.run_until(
      [&] { return std::all_of(ops.begin(), ops.end(), [](auto& op) { return op->over; }); }, 10s));
}

TEST_F(LogicalUnitTest, OutOfRangeNeverReachesTheTarget) {
  const std::uint64_t end = info_.geometry.blocks.value();
  Op one(OpKind::read, end, 1, 512), wrap(OpKind::unmap, ~std::uint64_t{0}, 2);
  EXPECT_EQ(run(one), OpStatus::out_of_range);
  EXPECT_EQ(run(wrap), OpStatus::out_of_range);
  EXPECT_TRUE(cdbs_.empty());
}

TEST_F(LogicalUnitTest, FuaIsTheBitWhereTheUnitHasIt) {
  Op write(OpKind::write, 1, 1, 512);
  write.fua = true;
  EXPECT_EQ(run(write), OpStatus::ok);
  ASSERT_EQ(cdbs_.size(), 1u);
  EXPECT_EQ(cdbs_[0][0], write10);
  EXPECT_EQ(cdbs_[0][1], 0x08);
}

TEST_F(LogicalUnitTest, FuaIsAFlushWhereTheUnitHasNoBit) {
  info_.dpo_fua = false;
  Op write(OpKind::write, 1, 1, 512);
  write.fua = true;
  EXPECT_EQ(run(write), OpStatus::ok);
  ASSERT_EQ(cdbs_.size(), 2u);
  EXPECT_EQ(cdbs_[0][1], 0x00);
  EXPECT_EQ(cdbs_[1][0], sync10);
}

TEST_F(LogicalUnitTest, AFailedFlushFailsTheDurableWrite) {
  info_.dpo_fua = false;
  script_ = {[](auto&, auto*) { return false; }, sense(3, 0x0c, 0)};
  Op write(OpKind::write, 1, 1, 512);
  write.fua = true;
  EXPECT_EQ(run(write), OpStatus::write_error);
}

TEST_F(LogicalUnitTest, FlushIsSynchronizeCache) {
  Op flush(OpKind::flush, 0, 0);
  EXPECT_EQ(run(flush), OpStatus::ok);
  ASSERT_EQ(cdbs_.size(), 1u);
  EXPECT_EQ(cdbs_[0], (Bytes8{sync10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}));
}

TEST_F(LogicalUnitTest, AUnitWithACacheThatCannotBeFlushedIsAnError) {
  script_ = {sense(5, 0x20, 0)};
  Op flush(OpKind::flush, 0, 0);
  EXPECT_EQ(run(flush), OpStatus::unsupported);
}

TEST_F(LogicalUnitTest, AUnitWithoutCacheNeedsNoFlushCommand) {
  info_.geometry.write_cache = false;
  script_ = {sense(5, 0x20, 0)};
  Op flush(OpKind::flush, 0, 0), again(OpKind::flush, 0, 0);
  EXPECT_EQ(run(flush), OpStatus::ok);
  EXPECT_EQ(run(again), OpStatus::ok);
  EXPECT_EQ(cdbs_.size(), 1u);
}

TEST_F(LogicalUnitTest, UnmapSendsOneDescriptorPerCommand) {
  info_.unmap_max_blocks = 100;
  Op unmap(OpKind::unmap, 7, 150);
  EXPECT_EQ(run(unmap), OpStatus::ok);
  ASSERT_EQ(cdbs_.size(), 2u);
  EXPECT_EQ(cdbs_[0], (Bytes8{unmap_code, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0}));
}

TEST_F(LogicalUnitTest, WriteZeroesIsWriteSame) {
  Op zero(OpKind::write_zeroes, 7, 1000), discard(OpKind::write_zeroes, 7, 1000);
  discard.may_unmap = true;
  EXPECT_EQ(run(zero), OpStatus::ok);
  EXPECT_EQ(run(discard), OpStatus::ok);
  EXPECT_EQ(cdbs_[0], (Bytes8{write_same16, 0x00, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0x03, 0xe8, 0, 0}));
  EXPECT_EQ(cdbs_[1][1], 0x08);
}

TEST_F(LogicalUnitTest, WhatTheUnitDoesNotKnowIsAskedOnce) {
  script_ = {sense(5, 0x20, 0)};
  Op zero(OpKind::write_zeroes, 7, 1000), again(OpKind::write_zeroes, 7, 1000);
  EXPECT_EQ(run(zero), OpStatus::unsupported);
  EXPECT_EQ(run(again), OpStatus::unsupported);
  EXPECT_EQ(cdbs_.size(), 1u);
}

TEST_F(LogicalUnitTest, UnitAttentionsAreRetriedAndChangesAreTold) {
  int changes = 0;
  unit_.emplace(*session_, info_, 4);
  unit_->on_changed([&] { ++changes; });
  script_ = {sense(6, 0x29, 0), sense(6, 0x2a, 0x09), sense(6, 0x3f, 0x0e)};
  Op read(OpKind::read, 0, 1, 512);
  EXPECT_EQ(run(read), OpStatus::ok);
  EXPECT_EQ(cdbs_.size(), 4u);
  EXPECT_EQ(changes, 2);
}

TEST_F(LogicalUnitTest, EndlessUnitAttentionsEnd) {
  for (int i = 0; i < 100; ++i) script_.push_back(sense(6, 0x29, 0));
  Op read(OpKind::read, 0, 1, 512);
  EXPECT_EQ(run(read), OpStatus::read_error);
  EXPECT_LT(cdbs_.size(), 20u);
  script_.clear();
}

TEST_F(LogicalUnitTest, BusyAndTaskSetFullAreTriedAgainAfterAWhile) {
  script_ = {status(0x08), status(0x28), sense(2, 0x04, 0x01)};
  Op read(OpKind::read, 0, 1, 512);
  EXPECT_EQ(run(read), OpStatus::ok);
  EXPECT_EQ(cdbs_.size(), 4u);
}

TEST_F(LogicalUnitTest, SenseBecomesTheOutcomeThatItMeans) {
  struct Case {
    OpKind kind;
    Step step;
    OpStatus outcome;
  };
  const Case cases[] = {
      {OpKind::read, sense(3, 0x11, 0), OpStatus::read_error},
      {OpKind::write, sense(3, 0x0c, 0), OpStatus::write_error},
      {OpKind::write, sense(7, 0x27, 0), OpStatus::write_protected},
      {OpKind::write, sense(7, 0x27, 7), OpStatus::no_space},
      {OpKind::read, sense(5, 0x21, 0), OpStatus::out_of_range},
      {OpKind::read, sense(5, 0x25, 0), OpStatus::not_ready},
      {OpKind::read, sense(2, 0x3a, 0), OpStatus::not_ready},
      {OpKind::read, sense(1, 0x17, 0), OpStatus::read_error},
      {OpKind::read, status(0x18), OpStatus::read_error},
      {OpKind::read, sense(4, 0x44, 0), OpStatus::read_error},
  };
  for (const Case& c : cases) {
    script_ = {c.step};
    Op op(c.kind, 0, 1, 512);
    EXPECT_EQ(run(op), c.outcome) << &c - cases;
  }
}

TEST_F(LogicalUnitTest, AGoodStatusWithTooLittleDataIsAnError) {
  script_ = {[](FakeTarget::Connection& connection, const std::uint8_t* bhs) {
    connection.data_in(bhs, std::vector<std::uint8_t>(100));
    return true;
  }};
  Op read(OpKind::read, 0, 1, 512);
  EXPECT_EQ(run(read), OpStatus::read_error);
}

TEST_F(LogicalUnitTest, OneFailedPartFailsTheOperationAndStopsTheRest) {
  info_.geometry.max_transfer_blocks = 1;
  unit_.emplace(*session_, info_, 1);
  script_ = {[](auto&, auto*) { return false; }, sense(3, 0x11, 0)};
  Op read(OpKind::read, 0, 8, 4096);
  EXPECT_EQ(run(read), OpStatus::read_error);
  EXPECT_EQ(cdbs_.size(), 2u);
}

TEST_F(LogicalUnitTest, ASessionThatIsGoneIsNotReady) {
  Op read(OpKind::read, 0, 1, 512);
  unit_.emplace(*session_, info_, 1);
  session_->logout();
  EXPECT_EQ(run(read), OpStatus::not_ready);
}

}  // namespace
}  // namespace perilune::initiator
