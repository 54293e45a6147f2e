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
#include "base/sanitizer.hpp"

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

}  // namespace
}  // namespace perilune::attach
