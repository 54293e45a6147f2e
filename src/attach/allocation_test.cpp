// SPDX-License-Identifier: Apache-2.0
// No request costs an allocation: counted over every kind of request, after a warm-up.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fuse.h>
#include <sys/socket.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "attach/attach_test_support.hpp"
#include "attach/fuse_disk.hpp"
#include "attach/nbd_disk.hpp"
#include "attach/ublk_disk.hpp"
#include "base/sanitizer.hpp"
#include "runtime/native/native_loop.hpp"

namespace {
std::atomic<std::uint64_t> allocations{0};
}

#if !PERILUNE_SANITIZED
// The counter sees every allocation of this test program.
[[gnu::noinline]] void* operator new(std::size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  void* memory = std::malloc(size);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
#endif

namespace perilune::attach {

using runtime::posix::UniqueFd;
namespace {

struct Message {
  std::array<std::uint8_t, 16384> bytes{};
  std::size_t size = 0;

  template <class T>
  static Message make(std::uint32_t opcode, const T& arguments, std::size_t data_bytes) {
    Message message;
    fuse_in_header header{};
    message.size = sizeof header + sizeof arguments + data_bytes;
    header.len = static_cast<std::uint32_t>(message.size);
    header.opcode = opcode;
    header.unique = 7;
    header.nodeid = 2;
    std::memcpy(message.bytes.data(), &header, sizeof header);
    std::memcpy(message.bytes.data() + sizeof header, &arguments, sizeof arguments);
    return message;
  }
};

void on_drained(void* flag) { *static_cast<bool*>(flag) = true; }

TEST(FuseDiskAllocation, NoRequestAllocates) {
  if (PERILUNE_SANITIZED) GTEST_SKIP() << "a sanitizer's allocator cannot be counted";
  testing::PollLoop loop;
  testing::RecordingDisk disk(1024, 4096);
  int pair[2];
  ASSERT_EQ(0, ::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair));
  const UniqueFd kernel(pair[0]);
  const auto unit = Disk::create(disk, false);
  ASSERT_TRUE(unit);
  auto made = FuseDisk::create(loop, **unit, 512);
  ASSERT_TRUE(made);
  std::vector<UniqueFd> descriptors;
  descriptors.emplace_back(pair[1]);
  ASSERT_TRUE((*made)->serve(std::move(descriptors)));

  fuse_read_in read{};
  read.offset = 8192;
  read.size = 8192;
  fuse_write_in write{};
  write.size = 8192;
  fuse_write_in unaligned{};
  unaligned.offset = 512;
  unaligned.size = 8192;
  fuse_fallocate_in discard{};
  discard.length = 8192;
  discard.mode = 3;
  const Message messages[] = {Message::make(FUSE_READ, read, 0), Message::make(FUSE_WRITE, write, 8192),
                              Message::make(FUSE_WRITE, unaligned, 8192),
                              Message::make(FUSE_FSYNC, fuse_fsync_in{}, 0),
                              Message::make(FUSE_FALLOCATE, discard, 0)};
  static std::array<std::uint8_t, 16384> answer;
  const auto rounds = [&](int count) {
    unsigned answered = 0;
    for (int i = 0; i < count; ++i) {
      for (const Message& message : messages) {
        if (::send(kernel.get(), message.bytes.data(), message.size, 0) != static_cast<ssize_t>(message.size))
          return 0u;
        loop.turn();
        if (::recv(kernel.get(), answer.data(), answer.size(), 0) > 0) ++answered;
      }
    }
    return answered;
  };
  ASSERT_EQ(5u * 10, rounds(10));
  const std::uint64_t before = allocations.load();
  const unsigned answered = rounds(2000);
  const std::uint64_t after = allocations.load();
  EXPECT_EQ(5u * 2000, answered);
  EXPECT_EQ(before, after);

  bool drained = false;
  (*made)->stop(Delegate<void()>::raw(&drained, on_drained));
  for (int i = 0; i < 10 && !drained; ++i) loop.turn();
  EXPECT_TRUE(drained);
}

class EndOfTurn {
 public:
  explicit EndOfTurn(runtime::ThreadLoop& loop)
      : loop_(loop), timer_(loop.timers(), Delegate<void()>::to<&EndOfTurn::end>(*this)) {}
  void turn() {
    timer_.arm(loop_.now() + std::chrono::microseconds(200));
    loop_.run();
  }

 private:
  void end() { loop_.stop(); }
  runtime::ThreadLoop& loop_;
  runtime::Timer timer_;
};

TEST(NbdDiskAllocation, NoRequestAllocates) {
  if (PERILUNE_SANITIZED) GTEST_SKIP() << "a sanitizer's allocator cannot be counted";
  auto loop = runtime::make_native_loop(runtime::Runtime::automatic, {});
  ASSERT_TRUE(loop);
  testing::RecordingDisk disk(1024, 4096);
  int pair[2];
  ASSERT_EQ(0, ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
  const UniqueFd kernel(pair[0]);
  const auto unit = Disk::create(disk, false);
  ASSERT_TRUE(unit);
  auto made = NbdDisk::create(**loop, **unit, 512);
  ASSERT_TRUE(made);
  std::vector<UniqueFd> descriptors;
  descriptors.emplace_back(pair[1]);
  ASSERT_TRUE((*made)->serve(std::move(descriptors)));

  struct Step {
    std::array<std::uint8_t, 28 + 32768> message{};
    std::size_t size = 28, answer = 16;
  };
  static std::array<Step, 5> steps;
  const auto fill = [](Step& step, std::uint8_t command, std::uint32_t length, std::size_t data,
                       std::size_t answer) {
    store_be32(step.message.data(), 0x25609513);
    step.message[7] = command;
    store_be32(step.message.data() + 24, length);
    step.size = 28 + data;
    step.answer = 16 + answer;
  };
  fill(steps[0], 0, 8192, 0, 8192);
  fill(steps[1], 1, 8192, 8192, 0);
  fill(steps[2], 1, 32768, 32768, 0);
  fill(steps[3], 3, 0, 0, 0);
  fill(steps[4], 6, 8192, 0, 0);
  EndOfTurn clock(**loop);
  static std::array<std::uint8_t, 65536> answer;
  const auto rounds = [&](int count) {
    unsigned answered = 0;
    for (int i = 0; i < count; ++i) {
      for (const Step& step : steps) {
        if (::send(kernel.get(), step.message.data(), step.size, 0) != static_cast<ssize_t>(step.size))
          return 0u;
        std::size_t got = 0;
        for (int turns = 0; got < step.answer && turns < 10000; ++turns) {
          clock.turn();
          const ssize_t n = ::recv(kernel.get(), answer.data(), answer.size(), MSG_DONTWAIT);
          if (n > 0) got += static_cast<std::size_t>(n);
        }
        if (got == step.answer) ++answered;
      }
    }
    return answered;
  };
  ASSERT_EQ(5u * 50, rounds(50));
  const std::uint64_t before = allocations.load();
  const unsigned answered = rounds(200);
  const std::uint64_t after = allocations.load();
  EXPECT_EQ(5u * 200, answered);
  EXPECT_EQ(before, after);

  bool drained = false;
  (*made)->stop(Delegate<void()>::raw(&drained, on_drained));
  for (int i = 0; i < 1000 && !drained; ++i) clock.turn();
  EXPECT_TRUE(drained);
}

// The kernel's side of a queue: keeps the command of each tag.
class Queue final : public testing::PollLoop {
 public:
  bool submit(runtime::DeviceCommand& command) override {
    commands[command.argument[2]] = &command;
    return true;
  }
  std::array<runtime::DeviceCommand*, 128> commands{};
};

TEST(UblkDiskAllocation, NoRequestAllocates) {
  if (PERILUNE_SANITIZED) GTEST_SKIP() << "a sanitizer's allocator cannot be counted";
  Queue loop;
  testing::RecordingDisk disk(1024, 4096);
  const auto unit = Disk::create(disk, false);
  ASSERT_TRUE(unit);
  auto made = UblkDisk::create(loop, **unit);
  ASSERT_TRUE(made);
  static std::array<ublksrv_io_desc, 128> descriptors;
  ASSERT_TRUE((*made)->serve_queue(0, descriptors.data()));
  const auto rounds = [&](int count) {
    for (int i = 0; i < count; ++i) {
      for (const std::uint32_t operation : {0u, 1u, 2u, 3u, 5u}) {
        descriptors[3] = {operation, operation == 2 ? 0u : 64u, 0, 0};
        std::exchange(loop.commands[3], nullptr)->done(0);
        if (loop.commands[3] == nullptr || (loop.commands[3]->argument[7] & 0x80) != 0) return false;
      }
    }
    return true;
  };
  ASSERT_TRUE(rounds(10));
  const std::uint64_t before = allocations.load();
  EXPECT_TRUE(rounds(2000));
  EXPECT_EQ(before, allocations.load());
  for (runtime::DeviceCommand* command : loop.commands) command->done(-ENODEV);
  bool drained = false;
  (*made)->stop(Delegate<void()>::raw(&drained, on_drained));
  for (int i = 0; i < 10 && !drained; ++i) loop.turn();
  EXPECT_TRUE(drained);
}

}  // namespace
}  // namespace perilune::attach
