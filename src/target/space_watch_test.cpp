// SPDX-License-Identifier: Apache-2.0
#include "target/space_watch.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <future>

namespace perilune::target {
namespace {

using namespace std::chrono_literals;

class Store final : public block::Backstore {
 public:
  [[nodiscard]] const block::Geometry& geometry() const override { return geometry_; }
  [[nodiscard]] const std::string& identity() const override { return identity_; }
  [[nodiscard]] std::string describe() const override { return identity_; }
  [[nodiscard]] Result<std::unique_ptr<block::Channel>> open_channel(runtime::Loop&) override {
    return fail(Errc::unsupported, "");
  }
  [[nodiscard]] std::optional<block::SpaceLevel> measure_space() override {
    ++measured;
    if (blocks) entered.set_value(), may_go.get_future().wait();
    if (unknown) return std::nullopt;
    return block::SpaceLevel{used.load(), 1000};
  }
  std::atomic<int> measured{0};
  std::atomic<std::uint64_t> used{5};
  std::atomic<bool> unknown{false};
  std::atomic<bool> blocks{false};
  std::promise<void> entered, may_go;

 private:
  block::Geometry geometry_;
  std::string identity_ = "store";
};

// Counts what it is told, and lets the test wait for the next time.
struct Heard {
  void operator()() {
    const std::lock_guard lock(mutex);
    ++times;
    changed.notify_all();
  }
  void wait_for(int wanted) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return times >= wanted; });
  }
  std::mutex mutex;
  std::condition_variable changed;
  int times = 0;
};

TEST(SpaceWatch, MeasuresWhenItBeginsAndWhenSomethingHasMoved) {
  const auto store = std::make_shared<Store>();
  SpaceWatch watch(0ms);
  block::SpaceMeter* const meter = watch.watch(store);
  ASSERT_NE(meter, nullptr);
  EXPECT_EQ(meter->level(), (block::SpaceLevel{5, 1000}));
  EXPECT_EQ(store->measured, 1);
  Heard heard;
  meter->on_measured([&] { heard(); });
  store->used = 7;
  meter->moved();
  heard.wait_for(1);
  EXPECT_EQ(meter->level().used_bytes, 7u);
  EXPECT_EQ(store->measured, 2) << "and not again, for nothing has moved since";
  meter->moved();
  heard.wait_for(2);
  meter->on_measured({});
}

TEST(SpaceWatch, AStoreThatIsGoneIsNotMeasuredAndNotKept) {
  auto store = std::make_shared<Store>();
  const std::weak_ptr<Store> seen = store;
  SpaceWatch watch(0ms);
  block::SpaceMeter* const meter = watch.watch(store);
  const auto other = std::make_shared<Store>();
  block::SpaceMeter* const of_other = watch.watch(other);
  Heard heard, heard_of_other;
  meter->on_measured([&] { heard(); });
  of_other->on_measured([&] { heard_of_other(); });
  store.reset();
  EXPECT_TRUE(seen.expired());
  meter->moved();
  of_other->moved();
  heard_of_other.wait_for(1);
  meter->on_measured({});
  of_other->on_measured({});
  EXPECT_EQ(heard.times, 0);
  EXPECT_EQ(meter->level().used_bytes, 5u);
}

TEST(SpaceWatch, WhatMovesDuringAMeasurementIsMeasuredAfterIt) {
  const auto store = std::make_shared<Store>();
  SpaceWatch watch(0ms);
  block::SpaceMeter* const meter = watch.watch(store);
  Heard heard;
  meter->on_measured([&] { heard(); });
  store->blocks = true;
  meter->moved();
  store->entered.get_future().wait();
  store->blocks = false;
  meter->moved();
  meter->moved();
  store->may_go.set_value();
  heard.wait_for(2);
  EXPECT_EQ(store->measured, 3);
  meter->on_measured({});
}

TEST(SpaceWatch, AStoreThatCannotTellHasNoMeter) {
  const auto store = std::make_shared<Store>();
  store->unknown = true;
  SpaceWatch watch;
  EXPECT_EQ(watch.watch(store), nullptr);
}

TEST(SpaceWatch, WhereItCannotTellAnyMoreTheLevelStays) {
  const auto store = std::make_shared<Store>();
  const auto other = std::make_shared<Store>();
  SpaceWatch watch(0ms);
  block::SpaceMeter* const meter = watch.watch(store);
  block::SpaceMeter* const second = watch.watch(other);
  Heard heard;
  second->on_measured([&] { heard(); });
  store->unknown = true;
  meter->moved();
  second->moved();
  heard.wait_for(1);
  while (store->measured < 2) std::this_thread::yield();
  EXPECT_EQ(meter->level().used_bytes, 5u);
  second->on_measured({});
}

TEST(SpaceWatch, EndsWhileAPauseIsNotOver) {
  const auto store = std::make_shared<Store>();
  SpaceWatch watch(1h);
  block::SpaceMeter* const meter = watch.watch(store);
  Heard heard;
  meter->on_measured([&] { heard(); });
  meter->moved();
  heard.wait_for(1);
  meter->moved();  // in an hour
}

}  // namespace
}  // namespace perilune::target
