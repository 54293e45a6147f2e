// SPDX-License-Identifier: Apache-2.0
#include "runtime/sim/block_history.hpp"

#include <gtest/gtest.h>

namespace perilune::sim {
namespace {

constexpr std::uint32_t block = 512;

class BlockHistoryTest : public ::testing::Test {
 protected:
  std::vector<std::uint8_t> write(std::uint64_t lba, bool durable) {
    std::vector<std::uint8_t> data(block);
    history.end_write(history.begin_write(Lba(lba), data), Outcome::acknowledged, durable);
    return data;
  }
  bool legal(std::uint64_t lba, const std::vector<std::uint8_t>& data) {
    return history.check(Lba(lba), data).empty();
  }
  void flush() { history.end_flush(history.begin_flush(), true); }

  BlockHistory history{1, block, BlockCount(100)};
  std::vector<std::uint8_t> zeroes = std::vector<std::uint8_t>(block);
};

TEST_F(BlockHistoryTest, AFreshBlockIsZero) {
  EXPECT_TRUE(legal(3, zeroes));
  std::vector<std::uint8_t> other(block, 1);
  EXPECT_FALSE(legal(3, other));
}

TEST_F(BlockHistoryTest, AReadMustSeeTheLastAcknowledgedWrite) {
  const auto first = write(5, false);
  const auto second = write(5, false);
  EXPECT_TRUE(legal(5, second));
  EXPECT_FALSE(legal(5, first));
  EXPECT_FALSE(legal(5, zeroes));
}

TEST_F(BlockHistoryTest, ContentOfAnotherBlockOrATornBlockIsAViolation) {
  const auto at5 = write(5, false);
  const auto at6 = write(6, false);
  EXPECT_FALSE(legal(6, at5));
  auto torn = at6;
  std::copy(at5.begin() + 256, at5.end(), torn.begin() + 256);
  EXPECT_FALSE(legal(6, torn));
}

TEST_F(BlockHistoryTest, DuringAWriteEitherVersionMayBeSeen) {
  const auto first = write(5, false);
  std::vector<std::uint8_t> second(block);
  const auto open = history.begin_write(Lba(5), second);
  EXPECT_TRUE(legal(5, first));
  EXPECT_TRUE(legal(5, second));
  EXPECT_TRUE(legal(5, first));
  history.end_write(open, Outcome::acknowledged, false);
  EXPECT_TRUE(legal(5, second));
  EXPECT_FALSE(legal(5, first));
}

TEST_F(BlockHistoryTest, AReadThatBeganBeforeTheAcknowledgementMaySeeTheOldVersion) {
  const auto first = write(5, false);
  std::vector<std::uint8_t> second(block);
  const auto open = history.begin_write(Lba(5), second);
  const auto read = history.begin_read(Lba(5), BlockCount(1));
  history.end_write(open, Outcome::acknowledged, false);
  EXPECT_EQ(history.end_read(read, first), "");
}

TEST_F(BlockHistoryTest, ConcurrentWritesEndInEitherOrder) {
  std::vector<std::uint8_t> a(block);
  std::vector<std::uint8_t> b(block);
  const auto open_a = history.begin_write(Lba(5), a);
  const auto open_b = history.begin_write(Lba(5), b);
  history.end_write(open_a, Outcome::acknowledged, false);
  history.end_write(open_b, Outcome::acknowledged, false);
  EXPECT_TRUE(legal(5, a));
  EXPECT_TRUE(legal(5, b));
  EXPECT_FALSE(legal(5, zeroes));
}

TEST_F(BlockHistoryTest, APowerLossMayTakeWhatWasNotFlushed) {
  const auto durable = write(5, true);
  const auto later = write(5, false);
  history.power_lost();
  EXPECT_FALSE(legal(5, zeroes));
  EXPECT_TRUE(legal(5, later));  // it survived: from now on it stays
  EXPECT_FALSE(legal(5, durable));
}

TEST_F(BlockHistoryTest, APowerLossThatTookAWriteStaysSettled) {
  const auto durable = write(5, true);
  const auto later = write(5, false);
  history.power_lost();
  EXPECT_TRUE(legal(5, durable));
  EXPECT_FALSE(legal(5, later));
}

TEST_F(BlockHistoryTest, AFlushedWriteMustSurvive) {
  const auto first = write(5, false);
  const auto second = write(5, false);
  flush();
  const auto third = write(5, false);
  history.power_lost();
  EXPECT_FALSE(legal(5, zeroes));
  EXPECT_FALSE(legal(5, first));
  EXPECT_TRUE(legal(5, second));
  EXPECT_FALSE(legal(5, third));
}

TEST_F(BlockHistoryTest, AFlushDoesNotCoverWhatWasAcknowledgedAfterItBegan) {
  const auto first = write(5, true);
  const auto open = history.begin_flush();
  (void)write(5, false);
  history.end_flush(open, true);
  history.power_lost();
  EXPECT_TRUE(legal(5, first));
}

TEST_F(BlockHistoryTest, AFailedFlushPromisesNothing) {
  (void)write(5, false);
  history.end_flush(history.begin_flush(), false);
  history.power_lost();
  EXPECT_TRUE(legal(5, zeroes));
}

TEST_F(BlockHistoryTest, AFailedWriteMayTakeEffectUntilItIsSettled) {
  const auto first = write(5, false);
  std::vector<std::uint8_t> second(block);
  history.end_write(history.begin_write(Lba(5), second), Outcome::failed, false);
  EXPECT_TRUE(legal(5, first));
  EXPECT_TRUE(legal(5, second));
  EXPECT_TRUE(legal(5, first));
  history.settle_failed();
  EXPECT_TRUE(legal(5, second));
  EXPECT_FALSE(legal(5, first));
}

TEST_F(BlockHistoryTest, AnAnswerOlderThanThePowerLossProvesNothing) {
  const auto first = write(5, true);
  std::vector<std::uint8_t> second(block);
  const auto open = history.begin_write(Lba(5), second);
  history.power_lost();
  history.end_write(open, Outcome::acknowledged, false);
  EXPECT_TRUE(legal(5, first));
  EXPECT_FALSE(legal(5, second));  // settled by the read before
}

TEST_F(BlockHistoryTest, AReadThatOverlapsAWriteSettlesNothing) {
  const auto first = write(5, true);
  std::vector<std::uint8_t> second(block);
  const auto open = history.begin_write(Lba(5), second);
  history.power_lost();
  const auto read = history.begin_read(Lba(5), BlockCount(1));
  history.end_write(open, Outcome::acknowledged, false);  // replayed on the restarted target
  EXPECT_EQ(history.end_read(read, first), "");           // served before the replay
  EXPECT_TRUE(legal(5, second));
  EXPECT_FALSE(legal(5, first));
}

TEST_F(BlockHistoryTest, NoFlushVouchesForADistrustedCache) {
  const auto first = write(5, true);
  const auto second = write(5, false);
  history.distrust_cache();
  flush();
  EXPECT_TRUE(legal(5, second));
  EXPECT_FALSE(legal(5, first));
  history.power_lost();
  EXPECT_TRUE(legal(5, first));
}

TEST_F(BlockHistoryTest, AReadThatBeganBeforeABlockWasSettledMayHaveSeenTheOldVersion) {
  const auto first = write(5, true);
  (void)write(6, false);
  history.power_lost();
  const auto slow = history.begin_read(Lba(5), BlockCount(1));
  std::vector<std::uint8_t> second(block);
  const auto open = history.begin_write(Lba(5), second);
  history.power_lost();
  history.end_write(open, Outcome::acknowledged, true);
  EXPECT_TRUE(legal(5, second));
  EXPECT_EQ(history.end_read(slow, first), "");
  EXPECT_FALSE(legal(5, first));
}

TEST_F(BlockHistoryTest, ZeroingIsAVersionToo) {
  const auto first = write(5, true);
  const auto zeroing = history.begin_zero(Lba(4), BlockCount(3));
  EXPECT_TRUE(legal(5, first));
  history.end_write(zeroing, Outcome::acknowledged, true);
  EXPECT_TRUE(legal(5, zeroes));
  EXPECT_FALSE(legal(5, first));
}

TEST_F(BlockHistoryTest, ManyVersionsKeepTheRules) {
  std::vector<std::uint8_t> last;
  for (int i = 0; i < 500; ++i) last = write(7, i % 50 == 0);
  EXPECT_TRUE(legal(7, last));
  flush();
  history.power_lost();
  EXPECT_TRUE(legal(7, last));
  EXPECT_FALSE(legal(7, zeroes));
}

TEST_F(BlockHistoryTest, AnAnswerFromBeforeThePowerLossSettlesNothing) {
  const auto lost = write(5, false);
  const auto read = history.begin_read(Lba(5), BlockCount(1));
  history.power_lost();
  EXPECT_EQ("", history.end_read(read, lost));  // it was on its way already
  EXPECT_TRUE(legal(5, zeroes));
  EXPECT_FALSE(legal(5, lost));
}

TEST_F(BlockHistoryTest, ZeroesAreTakenForThoseThatMayYetBeLost) {
  const auto data = write(5, false);
  const auto zero = history.begin_zero(Lba(5), BlockCount(1));
  history.power_lost();
  history.end_write(zero, Outcome::acknowledged, false);  // replayed, or done before the loss
  EXPECT_TRUE(legal(5, zeroes));
  history.power_lost();  // takes the zeroes, and leaves what the first loss had left below them
  EXPECT_TRUE(legal(5, data));
  EXPECT_FALSE(legal(5, zeroes));
}

}  // namespace
}  // namespace perilune::sim
