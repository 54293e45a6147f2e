// SPDX-License-Identifier: Apache-2.0
// The threads of a device and the way of their completions to the loops, with a kernel that the test plays.
#include "passthrough/real_device.hpp"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstring>
#include <functional>

#include "runtime/native/native_loop.hpp"

namespace perilune::passthrough {
namespace {

using Delivery = scsi::PassthroughCommand::Delivery;

class FakeNode final : public SgNode {
 public:
  SgResult execute(const SgRequest& request) override {
    {
      std::unique_lock lock(mutex);
      ++inside;
      most_inside = std::max(most_inside, inside);
      order.push_back(request.cdb[0]);
      changed.notify_all();
      changed.wait(lock, [this] { return open; });
      --inside;
    }
    return work ? work(request) : SgResult{};
  }
  int reset() override {
    const std::lock_guard lock(mutex);
    ++resets;
    open = true;  // what the device has ends by it
    changed.notify_all();
    return reset_errno;
  }
  void open_gate(bool wide) {
    const std::lock_guard lock(mutex);
    open = wide;
    changed.notify_all();
  }
  void wait_for_inside(unsigned count) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return inside == count; });
  }

  std::function<SgResult(const SgRequest&)> work;
  std::mutex mutex;
  std::condition_variable changed;
  bool open = true;
  unsigned inside = 0;
  unsigned most_inside = 0;
  std::vector<std::uint8_t> order;
  int resets = 0;
  int reset_errno = 0;
};

// One command with its memory.
struct Sent {
  explicit Sent(std::uint8_t opcode, Direction direction = Direction::none, std::size_t bytes = 0)
      : memory(bytes, 0xee) {
    command.cdb[0] = opcode;
    command.cdb_length = 6;
    command.direction = direction;
    command.bytes = static_cast<std::uint32_t>(bytes);
    piece = {memory.data(), memory.size()};
    command.data = {&piece, 1};
    command.done = Delegate<void(scsi::PassthroughCommand&)>::to<&Sent::on_done>(*this);
  }
  void on_done(scsi::PassthroughCommand&) {
    ++done;
    thread = std::this_thread::get_id();
    if (then) then();
  }
  scsi::PassthroughCommand command;
  std::vector<std::uint8_t> memory;
  iovec piece{};
  int done = 0;
  std::thread::id thread;
  std::function<void()> then;
};

class RealDeviceTest : public ::testing::Test {
 protected:
  void SetUp() override { loop = make_loop(); }
  void TearDown() override {
    port.reset();
    device.reset();
    loop.reset();
  }
  static std::unique_ptr<runtime::ThreadLoop> make_loop() {
    auto made = runtime::make_native_loop(runtime::Runtime::automatic, {});
    EXPECT_TRUE(made) << made.error().message;
    return std::move(*made);
  }
  void open(unsigned threads) {
    auto fake = std::make_unique<FakeNode>();
    node = fake.get();
    RealDeviceSpec spec;
    spec.node = std::move(fake);
    spec.threads = threads;
    auto made = RealDevice::create(std::move(spec));
    ASSERT_TRUE(made) << made.error().message;
    device = std::move(*made);
    auto opened = device->open_port(*loop);
    ASSERT_TRUE(opened) << opened.error().message;
    port = std::move(*opened);
  }
  // Runs the loop until every one of them has ended.
  void finish(std::initializer_list<Sent*> all) {
    std::size_t left = all.size();
    for (Sent* each : all) {
      each->then = [&] {
        if (--left == 0) loop->stop();
      };
    }
    loop->run();
    EXPECT_EQ(left, 0u);
  }

  std::unique_ptr<runtime::ThreadLoop> loop;
  FakeNode* node = nullptr;
  std::shared_ptr<RealDevice> device;
  std::unique_ptr<scsi::PassthroughPort> port;
};

TEST_F(RealDeviceTest, CommandEndsOnTheLoopThatSentIt) {
  open(2);
  std::thread::id carried_by;
  node->work = [&](const SgRequest& request) {
    carried_by = std::this_thread::get_id();
    EXPECT_EQ(request.cdb.size(), 6u);
    std::memset(request.data[0].iov_base, 0x5a, 256);
    return SgResult{.residual = 256};
  };
  Sent sent(0x08, Direction::in, 512);
  port->submit(sent.command);
  EXPECT_EQ(sent.done, 0) << "never from inside submit()";
  finish({&sent});
  EXPECT_EQ(sent.done, 1);
  EXPECT_EQ(sent.thread, std::this_thread::get_id());
  EXPECT_NE(carried_by, std::this_thread::get_id());
  EXPECT_EQ(sent.command.transferred_bytes, 256u);
  EXPECT_EQ(sent.memory[255], 0x5a);
  EXPECT_EQ(sent.memory[256], 0x00) << "what the memory held before belongs to somebody else";
}

TEST_F(RealDeviceTest, DataOutIsLeftAlone) {
  open(1);
  std::uint8_t seen = 0;
  node->work = [&](const SgRequest& request) {
    seen = *static_cast<std::uint8_t*>(request.data[0].iov_base);
    return SgResult{};
  };
  Sent sent(0x0a, Direction::out, 512);
  port->submit(sent.command);
  finish({&sent});
  EXPECT_EQ(seen, 0xee);
}

TEST_F(RealDeviceTest, SenseIsWrittenIntoTheCommand) {
  open(1);
  node->work = [](const SgRequest& request) {
    request.sense[0] = 0x70;
    request.sense[2] = 3;
    return SgResult{.status = 2, .sense_bytes = 18};
  };
  Sent sent(0x08);
  port->submit(sent.command);
  finish({&sent});
  EXPECT_EQ(sent.command.status, 2);
  EXPECT_EQ(sent.command.sense_length, 18);
  EXPECT_EQ(sent.command.sense[2], 3);
}

TEST_F(RealDeviceTest, AsManyCommandsAtOnceAsThereAreThreads) {
  open(3);
  node->open_gate(false);
  std::array<Sent, 5> sent{Sent(1), Sent(2), Sent(3), Sent(4), Sent(5)};
  for (Sent& each : sent) port->submit(each.command);
  node->wait_for_inside(3);
  node->open_gate(true);
  finish({&sent[0], &sent[1], &sent[2], &sent[3], &sent[4]});
  EXPECT_EQ(node->most_inside, 3u);
}

TEST_F(RealDeviceTest, OneThreadKeepsTheOrder) {
  open(1);
  node->open_gate(false);
  Sent a(1), b(2), c(3);
  for (Sent* each : {&a, &b, &c}) port->submit(each->command);
  node->open_gate(true);
  finish({&a, &b, &c});
  EXPECT_EQ(node->order, (std::vector<std::uint8_t>{1, 2, 3}));
}

TEST_F(RealDeviceTest, QueueIsBounded) {
  open(1);
  node->open_gate(false);
  Sent first(1);
  port->submit(first.command);
  node->wait_for_inside(1);
  std::vector<std::unique_ptr<Sent>> waiting;
  for (std::size_t i = 0; i < max_waiting_commands; ++i) {
    waiting.push_back(std::make_unique<Sent>(std::uint8_t{2}));
    port->submit(waiting.back()->command);
  }
  Sent too_many(3);
  port->submit(too_many.command);
  finish({&too_many});
  EXPECT_EQ(too_many.command.delivery, Delivery::queue_full);
  node->open_gate(true);
  std::size_t left = waiting.size() + 1;
  const auto one_over = [&] {
    if (--left == 0) loop->stop();
  };
  first.then = one_over;
  for (const auto& each : waiting) each->then = one_over;
  loop->run();
  EXPECT_EQ(left, 0u);
  EXPECT_EQ(waiting.back()->command.delivery, Delivery::answered);
}

TEST_F(RealDeviceTest, EveryLoopGetsItsOwnCompletions) {
  open(4);
  auto other_loop = make_loop();
  auto other_port = device->open_port(*other_loop);
  ASSERT_TRUE(other_port);
  static constexpr int rounds = 200;
  std::thread::id other_thread;
  const auto drive = [](runtime::ThreadLoop& on, scsi::PassthroughPort& through) {
    int wrong = 0;
    Sent sent(0x28, Direction::in, 64);
    const auto here = std::this_thread::get_id();
    sent.then = [&] {
      if (sent.thread != here) ++wrong;
      if (sent.done == rounds)
        on.stop();
      else
        through.submit(sent.command);
    };
    through.submit(sent.command);
    on.run();
    EXPECT_EQ(wrong, 0);
    EXPECT_EQ(sent.done, rounds);
  };
  std::thread beside([&] { drive(*other_loop, **other_port); });
  drive(*loop, *port);
  beside.join();
  other_port->reset();
}

TEST(RealDevice, NumberOfThreadsHasALimit) {
  for (const unsigned threads : {0u, max_threads + 1}) {
    RealDeviceSpec spec;
    spec.node = std::make_unique<FakeNode>();
    spec.threads = threads;
    const auto made = RealDevice::create(std::move(spec));
    ASSERT_FALSE(made);
    EXPECT_EQ(made.error().code, Errc::invalid_argument);
  }
}

// Every thread waits for a device that does not answer: the reset comes through all the same, and ends the
// commands.
TEST_F(RealDeviceTest, ResetDoesNotWaitForTheCommands) {
  open(2);
  node->open_gate(false);
  Sent a(0x28), b(0x28);
  port->submit(a.command);
  port->submit(b.command);
  node->wait_for_inside(2);
  int left = 3;
  const auto one_ended = [&] {
    if (--left == 0) loop->stop();
  };
  struct Reset {
    void on_done(scsi::PassthroughReset&) { then(); }
    std::function<void()> then;
  } heard{one_ended};
  a.then = b.then = one_ended;
  scsi::PassthroughReset reset;
  reset.done = Delegate<void(scsi::PassthroughReset&)>::to<&Reset::on_done>(heard);
  port->reset(reset);
  loop->run();
  EXPECT_EQ(left, 0);
  EXPECT_EQ(node->resets, 1);
  EXPECT_TRUE(reset.succeeded);
}

TEST_F(RealDeviceTest, ResetThatTheKernelRefusesIsToldOf) {
  open(1);
  node->reset_errno = EACCES;
  struct Reset {
    void on_done(scsi::PassthroughReset&) { loop.stop(); }
    runtime::ThreadLoop& loop;
  } heard{*loop};
  scsi::PassthroughReset reset;
  reset.succeeded = true;
  reset.done = Delegate<void(scsi::PassthroughReset&)>::to<&Reset::on_done>(heard);
  port->reset(reset);
  loop->run();
  EXPECT_FALSE(reset.succeeded);
}

}  // namespace
}  // namespace perilune::passthrough
