// SPDX-License-Identifier: Apache-2.0
// NbdDisk against requests written by hand from the NBD protocol, over socket pairs, on every runtime. No
// privileges needed.
#include "attach/nbd_disk.hpp"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <numeric>
#include <optional>
#include <random>

#include "attach/attach_test_support.hpp"
#include "runtime/native/native_test_support.hpp"

namespace perilune::attach {

using runtime::posix::UniqueFd;
namespace {

using block::OpKind;
using runtime::name_of_runtime;
using runtime::Runtime;
using testing::RecordingDisk;
using Entry = RecordingDisk::Entry;

constexpr std::uint16_t read_command = 0, write_command = 1, disconnect_command = 2, flush_command = 3,
                        trim_command = 4, zero_command = 6;
constexpr std::uint16_t fua_flag = 1, no_hole_flag = 2;
constexpr std::uint64_t cookie = 0x0102030405060708;

using Octets = std::vector<std::uint8_t>;

void put(Octets& to, std::uint64_t value, int bytes) {
  for (int shift = (bytes - 1) * 8; shift >= 0; shift -= 8)
    to.push_back(static_cast<std::uint8_t>(value >> shift));
}

Octets request(std::uint16_t command, std::uint64_t offset, std::uint32_t length, std::uint16_t flags = 0,
               std::uint64_t with_cookie = cookie) {
  Octets bytes;
  put(bytes, 0x25609513, 4);
  put(bytes, flags, 2);
  put(bytes, command, 2);
  put(bytes, with_cookie, 8);
  put(bytes, offset, 8);
  put(bytes, length, 4);
  return bytes;
}

Octets reply(std::uint32_t error, std::uint64_t with_cookie = cookie) {
  Octets bytes;
  put(bytes, 0x67446698, 4);
  put(bytes, error, 4);
  put(bytes, with_cookie, 8);
  return bytes;
}

Octets operator+(Octets a, const Octets& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Octets pattern(std::size_t size, std::uint8_t first) {
  Octets bytes(size);
  for (std::size_t i = 0; i < size; ++i) bytes[i] = static_cast<std::uint8_t>(first + i + i / 4096);
  return bytes;
}

class NbdDiskTest : public runtime::LoopTest {
 public:
  void on_drained() { drained_ = true; }

 protected:
  void serve(RecordingDisk& disk, bool read_only = false, std::size_t connections = 1,
             std::uint32_t pool_pages = 512) {
    auto unit = Disk::create(disk, read_only);
    ASSERT_TRUE(unit);
    unit_ = std::move(*unit);
    auto made = NbdDisk::create(*loop, *unit_, pool_pages);
    ASSERT_TRUE(made);
    server_ = std::move(*made);
    std::vector<UniqueFd> theirs;
    for (std::size_t i = 0; i < connections; ++i) {
      int pair[2];
      ASSERT_EQ(0, ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
      kernel_.emplace_back(pair[0]);
      theirs.emplace_back(pair[1]);
    }
    ASSERT_TRUE(server_->serve(std::move(theirs)));
  }
  void TearDown() override {
    if (server_ == nullptr) return;
    if (!stopping_) stop();
    EXPECT_TRUE(eventually([&] { return drained_; }));
    server_.reset();
  }
  void stop() {
    stopping_ = true;
    server_->stop(Delegate<void()>::to<&NbdDiskTest::on_drained>(*this));
  }

  // What is ready happens, within a millisecond.
  void turn() {
    runtime::Timer end(loop->timers(), Delegate<void()>::to<&NbdDiskTest::end_turn>(*this));
    end.arm(loop->now() + std::chrono::milliseconds(1));
    loop->run();
  }
  void end_turn() { loop->stop(); }
  bool eventually(const std::function<bool()>& condition) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!condition()) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      turn();
    }
    return true;
  }
  // Sends while the server reads.
  void send(const Octets& bytes, std::size_t connection = 0) {
    std::size_t sent = 0;
    EXPECT_TRUE(eventually([&] {
      const ssize_t n = ::send(kernel_[connection].get(), bytes.data() + sent, bytes.size() - sent,
                               MSG_DONTWAIT | MSG_NOSIGNAL);
      if (n > 0) sent += static_cast<std::size_t>(n);
      return sent == bytes.size();
    }));
  }
  Octets receive(std::size_t size, std::size_t connection = 0) {
    Octets bytes(size);
    std::size_t received = 0;
    EXPECT_TRUE(eventually([&] {
      const ssize_t n =
          ::recv(kernel_[connection].get(), bytes.data() + received, size - received, MSG_DONTWAIT);
      if (n > 0) received += static_cast<std::size_t>(n);
      return received == size || n == 0;
    }));
    bytes.resize(received);
    return bytes;
  }
  bool is_closed(std::size_t connection = 0) {
    std::uint8_t byte = 0;
    return eventually([&] {
      const ssize_t n = ::recv(kernel_[connection].get(), &byte, 1, MSG_DONTWAIT);
      return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
    });
  }

  std::vector<UniqueFd> kernel_;
  std::unique_ptr<Disk> unit_;
  std::unique_ptr<NbdDisk> server_;
  bool stopping_ = false, drained_ = false;
};
PERILUNE_EVERY_RUNTIME(NbdDiskTest);

TEST_P(NbdDiskTest, AReadIsAnsweredWithItsCookieAndTheBytes) {
  RecordingDisk disk(256);
  std::iota(disk.bytes().begin(), disk.bytes().end(), std::uint8_t{0});
  serve(disk);
  send(request(read_command, 1024, 4096));
  const Octets stored(disk.bytes().begin() + 1024, disk.bytes().begin() + 5120);
  EXPECT_EQ(reply(0) + stored, receive(16 + 4096));
  EXPECT_EQ(1u, unit_->statistics().reads);
}

TEST_P(NbdDiskTest, AWriteIsStoredBeforeItsReply) {
  RecordingDisk disk(4096);
  serve(disk);
  for (const std::size_t size : {std::size_t{512}, std::size_t{4096}, std::size_t{20480},
                                 std::size_t{300 * 1024}, std::size_t{1 << 20}}) {
    const Octets data = pattern(size, static_cast<std::uint8_t>(size / 512));
    send(request(write_command, 4096, static_cast<std::uint32_t>(size)) + data);
    EXPECT_EQ(reply(0), receive(16));
    EXPECT_TRUE(std::equal(data.begin(), data.end(), disk.bytes().begin() + 4096));
  }
}

TEST_P(NbdDiskTest, RequestsMayArriveInAnyPieces) {
  RecordingDisk disk(256);
  serve(disk);
  const Octets data = pattern(2048, 9);
  const Octets all = request(write_command, 0, 2048, 0, 1) + data + request(read_command, 0, 2048, 0, 2);
  for (std::size_t at = 0; at < all.size(); at += 13) {
    send({all.begin() + static_cast<std::ptrdiff_t>(at),
          all.begin() + static_cast<std::ptrdiff_t>(std::min(at + 13, all.size()))});
    turn();
  }
  EXPECT_EQ(reply(0, 1), receive(16));
  EXPECT_EQ(reply(0, 2) + data, receive(16 + 2048));
}

TEST_P(NbdDiskTest, ABatchOfRequestsIsAnsweredAsAWhole) {
  RecordingDisk disk(4096);
  std::iota(disk.bytes().begin(), disk.bytes().end(), std::uint8_t{0});
  serve(disk);
  Octets batch;
  for (std::uint64_t i = 0; i < 128; ++i) batch = batch + request(read_command, i * 16384, 16384, 0, i);
  send(batch);
  for (std::uint64_t i = 0; i < 128; ++i) {
    ASSERT_EQ(reply(0, i), receive(16));
    const auto from = disk.bytes().begin() + static_cast<std::ptrdiff_t>(i * 16384);
    ASSERT_EQ(Octets(from, from + 16384), receive(16384));
  }
}

TEST_P(NbdDiskTest, AFlushIsAnsweredWhenItHasEnded) {
  RecordingDisk disk(256);
  serve(disk);
  disk.hold(OpKind::flush);
  send(request(flush_command, 0, 0));
  ASSERT_TRUE(eventually([&] { return disk.held() == 1; }));
  send(request(read_command, 0, 512, 0, 7));
  EXPECT_EQ(reply(0, 7), receive(16)) << "others go on meanwhile";
  receive(512);
  disk.release_all();
  EXPECT_EQ(reply(0), receive(16));
}

TEST_P(NbdDiskTest, ForceUnitAccessReachesTheUnit) {
  RecordingDisk disk(256);
  serve(disk);
  send(request(write_command, 0, 512) + pattern(512, 1));
  receive(16);
  EXPECT_EQ(0u, disk.fua_operations());
  send(request(write_command, 0, 512, fua_flag) + pattern(512, 1));
  receive(16);
  EXPECT_EQ(1u, disk.fua_operations());
  send(request(zero_command, 0, 512, fua_flag));
  receive(16);
  EXPECT_EQ(2u, disk.fua_operations());
}

TEST_P(NbdDiskTest, ATrimDeallocatesWholeGranulesAndNothingElse) {
  RecordingDisk disk(256);  // granules of 8 blocks
  std::fill(disk.bytes().begin(), disk.bytes().end(), std::uint8_t{0xff});
  serve(disk);
  send(request(trim_command, 4096 - 512, 8192 + 1024));
  EXPECT_EQ(reply(0), receive(16));
  EXPECT_EQ((std::vector<Entry>{{OpKind::unmap, 8, 16, false}, {OpKind::unmap, 8, 16, true}}), disk.record());
  disk.forget();
  send(request(trim_command, 512, 1024));
  EXPECT_EQ(reply(0), receive(16)) << "a hint that fits no granule is done";
  EXPECT_TRUE(disk.record().empty());
}

TEST_P(NbdDiskTest, ZeroesAreWrittenWithOrWithoutHoles) {
  RecordingDisk disk(256);
  std::fill(disk.bytes().begin(), disk.bytes().end(), std::uint8_t{0xff});
  serve(disk);
  send(request(zero_command, 512, 1024, no_hole_flag));
  EXPECT_EQ(reply(0), receive(16));
  EXPECT_EQ((std::vector<Entry>{{OpKind::write_zeroes, 1, 2, false}, {OpKind::write_zeroes, 1, 2, true}}),
            disk.record());
  EXPECT_FALSE(disk.last_may_unmap());
  send(request(zero_command, 512, 1024));
  EXPECT_EQ(reply(0), receive(16));
  EXPECT_TRUE(disk.last_may_unmap());
  EXPECT_EQ(0xff, disk.bytes()[511]);
  EXPECT_EQ(0, disk.bytes()[512]);
}

TEST_P(NbdDiskTest, ErrorsOfTheUnitAreThoseOfTheProtocol) {
  RecordingDisk disk(256);
  serve(disk);
  disk.fail_next(OpKind::read, block::OpStatus::read_error);
  send(request(read_command, 0, 512));
  EXPECT_EQ(reply(5), receive(16));
  disk.fail_next(OpKind::write, block::OpStatus::no_space);
  send(request(write_command, 0, 512) + pattern(512, 1));
  EXPECT_EQ(reply(28), receive(16));
  EXPECT_EQ(2u, unit_->statistics().errors);
}

TEST_P(NbdDiskTest, WrongRequestsAreRefusedAndTheirDataPassedOver) {
  RecordingDisk disk(256);
  serve(disk);
  const struct {
    std::uint16_t command;
    std::uint64_t offset;
    std::uint32_t length;
  } wrong[] = {
      {read_command, 256 * 512, 512},   // beyond the end
      {read_command, 255 * 512, 1024},  // over it
      {read_command, 0xFFFFFFFFFFFFFE00, 512},
      {read_command, 256, 512},  // inside a block
      {read_command, 0, 513},
      {read_command, 0, 0},
      {read_command, 0, 0xFFFFFE00},  // more than any memory
      {write_command, 255 * 512, 1024},
      {write_command, 0, (1 << 20) + 512},
      {trim_command, 0, 0xFFFFFE00},
      {zero_command, 3, 512},
  };
  for (const auto& each : wrong) {
    Octets message = request(each.command, each.offset, each.length);
    if (each.command == write_command) message = message + pattern(each.length, 3);
    send(message);
    EXPECT_EQ(reply(22), receive(16));
  }
  EXPECT_TRUE(disk.record().empty());
  send(request(write_command, 0, 512) + pattern(512, 1));
  EXPECT_EQ(reply(0), receive(16));
}

TEST_P(NbdDiskTest, AReadOnlyDiskRefusesChanges) {
  RecordingDisk disk(256);
  serve(disk, true);
  send(request(write_command, 0, 4096) + pattern(4096, 3) + request(zero_command, 0, 512, 0, 2) +
       request(trim_command, 0, 512, 0, 3) + request(read_command, 0, 512, 0, 4));
  EXPECT_EQ(reply(1) + reply(1, 2) + reply(1, 3) + reply(0, 4), receive(64));
  EXPECT_EQ(1u, disk.count(OpKind::read));
  EXPECT_EQ(0u, disk.count(OpKind::write));
}

TEST_P(NbdDiskTest, BrokenFramingEndsTheConnectionAndNothingElse) {
  RecordingDisk disk(256);
  serve(disk, false, 5);
  Octets wrong_magic = request(read_command, 0, 512);
  wrong_magic[0] ^= 1;
  send(wrong_magic, 0);
  EXPECT_TRUE(is_closed(0));
  send(request(5, 0, 512), 1);
  EXPECT_TRUE(is_closed(1));
  send(request(disconnect_command, 0, 0), 2);
  EXPECT_TRUE(is_closed(2));
  const Octets half = request(write_command, 0, 4096) + pattern(1000, 1);
  send(half, 3);
  ASSERT_EQ(0, ::shutdown(kernel_[3].get(), SHUT_WR));
  EXPECT_TRUE(is_closed(3));
  EXPECT_EQ(0u, disk.count(OpKind::write));
  send(request(read_command, 0, 512), 4);
  EXPECT_EQ(reply(0), receive(16, 4));
  EXPECT_EQ(1u, server_->open_connections());
}

TEST_P(NbdDiskTest, MoreRequestsThanAQueueHoldsEndTheConnection) {
  RecordingDisk disk(4096);
  serve(disk);
  disk.hold(OpKind::read);
  Octets batch;
  for (std::uint64_t i = 0; i < 257; ++i) batch = batch + request(read_command, 0, 512, 0, i);
  send(batch);
  EXPECT_TRUE(is_closed());
  EXPECT_EQ(256u, disk.held());
  disk.release_all();
}

TEST_P(NbdDiskTest, RequestsWaitForMemoryAndAllAreServed) {
  RecordingDisk disk(4096);
  serve(disk, false, 2, 1);  // the least it works with
  Octets reads, writes;
  for (std::uint64_t i = 0; i < 8; ++i) {
    reads = reads + request(read_command, i * 131072, 131072, 0, i);
    writes = writes + request(write_command, 1048576, 131072, 0, i) + pattern(131072, 1);
  }
  disk.hold_all();
  send(reads, 0);
  ASSERT_TRUE(eventually([&] { return disk.held() == 8; }));
  std::thread writer([&] {
    EXPECT_EQ(static_cast<ssize_t>(writes.size()),
              ::send(kernel_[1].get(), writes.data(), writes.size(), MSG_NOSIGNAL));
  });
  EXPECT_TRUE(eventually([&] { return disk.held() == 16; }));
  disk.release_all();
  writer.join();
  EXPECT_EQ(8u * (16 + 131072), receive(8 * (16 + 131072), 0).size());
  EXPECT_EQ(8u * 16, receive(8 * 16, 1).size());
}

TEST_P(NbdDiskTest, NoiseNeverHarmsTheServer) {
  RecordingDisk disk(4096);
  serve(disk, false, 8);
  std::mt19937 random(20261128);
  for (std::size_t connection = 0; connection < 8; ++connection) {
    Octets noise;
    for (int i = 0; i < 40; ++i) {
      // Right in front, anything behind: gets further than pure noise.
      Octets each =
          request(static_cast<std::uint16_t>(random() % 7), random() % 4096 * 512,
                  static_cast<std::uint32_t>(random() % 64 * 512), static_cast<std::uint16_t>(random() % 4));
      if (random() % 8 == 0) each[random() % each.size()] ^= static_cast<std::uint8_t>(1 + random() % 255);
      noise = noise + each;
    }
    // The server may close in the middle of it, and answers that nobody reads fill the socket.
    static_cast<void>(
        ::send(kernel_[connection].get(), noise.data(), noise.size(), MSG_DONTWAIT | MSG_NOSIGNAL));
    for (int i = 0; i < 8; ++i) turn();
  }
  EXPECT_EQ(0u, unit_->statistics().in_flight);
}

TEST_P(NbdDiskTest, StopWaitsForWhatIsOutstanding) {
  RecordingDisk disk(256);
  serve(disk);
  disk.hold_all();
  send(request(write_command, 0, 512) + pattern(512, 1));
  ASSERT_TRUE(eventually([&] { return disk.held() == 1; }));
  stop();
  for (int i = 0; i < 8; ++i) turn();
  EXPECT_FALSE(drained_);
  EXPECT_TRUE(is_closed());
  disk.release_all();
  EXPECT_TRUE(eventually([&] { return drained_; }));
}

TEST(NbdFlags, SayWhatTheUnitDoes) {
  RecordingDisk disk(256);
  const auto flags_of = [&](bool read_only) {
    return nbd_transmission_flags(**Disk::create(disk, read_only));
  };
  EXPECT_EQ(0x16d, flags_of(false));  // flags, flush, FUA, trim, write zeroes, multi-conn
  EXPECT_EQ(0x10f, flags_of(true));   // read-only
  disk.geometry_for_change().thin = false;
  disk.geometry_for_change().fua = false;
  disk.geometry_for_change().rotational = true;
  EXPECT_EQ(0x155, flags_of(false));
  disk.geometry_for_change().write_cache = false;
  EXPECT_EQ(0x151, flags_of(false));
}

}  // namespace
}  // namespace perilune::attach
