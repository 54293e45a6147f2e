// SPDX-License-Identifier: Apache-2.0
#include "iscsi/pdu/tx_queue.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <random>
#include <string_view>
#include <vector>

#include "base/sanitizer.hpp"

namespace perilune::iscsi {
namespace {

using Data = std::vector<std::uint8_t>;

// A disk in memory, what is read from it, and what a peer has received. Whatever may change the disk does so
// as soon as it may.
struct Rig {
  struct Read {
    explicit Read(Rig& rig)
        : owner(&rig),
          memory{Data(4096), Data(10000), Data(12), Data(40000)},
          hold(Delegate<void()>::to<&Read::over>(*this)) {
      for (Data& page : memory) iov.push_back({page.data(), page.size()});
    }
    void over() { owner->write(); }
    Rig* owner;
    std::vector<Data> memory;
    std::vector<iovec> iov;
    TxHold hold;
  };

  explicit Rig(std::uint32_t seed) : random(seed) {}
  std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>(random() % n); }

  void write() {
    if (writes) std::fill_n(disk.begin() + below(50000), 1 + below(9000), static_cast<std::uint8_t>(++value));
  }
  void read(std::uint32_t at, std::uint32_t skip, std::uint32_t length) {
    Read& read = *reads.emplace_back(std::make_unique<Read>(*this));
    std::uint8_t* const bhs = queue.header_place();
    std::fill_n(bhs, 48, std::uint8_t{0});
    bhs[0] = 0x25;
    read.hold.retain();
    queue.push_late(bhs, disk.data() + at, read.iov, skip, length, read.hold);
    read.hold.release();
    lengths.push_back(length);
  }
  void read_soon(std::uint32_t at, std::uint32_t length) {
    std::uint8_t* const bhs = queue.header_place(length);
    std::fill_n(bhs, 48, std::uint8_t{0});
    bhs[0] = 0x25;
    queue.push_soon(bhs, disk.data() + at, length);
    lengths.push_back(length);
  }
  void answer(std::uint32_t length) {
    Data bhs(48);
    queue.push(bhs.data(), Data(length, 7));
    lengths.push_back(length);
  }
  std::uint64_t receive(std::size_t pieces, std::uint64_t most) {
    std::uint64_t taken = 0;
    for (std::size_t i = 0; i < pieces; ++i) {
      const auto n = static_cast<std::size_t>(std::min<std::uint64_t>(iov[i].iov_len, most - taken));
      const auto* const from = static_cast<const std::uint8_t*>(iov[i].iov_base);
      wire.insert(wire.end(), from, from + n);
      taken += n;
    }
    return taken;
  }
  void send_now(std::uint64_t most) {
    const std::size_t pieces = queue.gather_for_now(iov);
    queue.sent_now(receive(pieces, most));
    write();
  }
  // The kernel copies at some moment between the two.
  void send(std::uint64_t most) {
    const std::size_t pieces = queue.gather(iov);
    EXPECT_EQ(pieces == 0, queue.empty());
    write();
    const std::uint64_t taken = receive(pieces, most);
    write();
    queue.sent(taken);
  }
  // The data of every PDU that has come, whose digests are right.
  std::vector<Data> received() {
    std::vector<Data> all;
    PduDecoder decoder(1 << 20);
    decoder.set_digests(header_digest, true);
    Bytes input(wire);
    for (;;) {
      switch (decoder.next(input)) {
        case PduDecoder::Event::need_more: return all;
        case PduDecoder::Event::header: decoder.collect(); break;
        case PduDecoder::Event::error: ADD_FAILURE() << "PDU " << all.size(); return all;
        case PduDecoder::Event::pdu:
          EXPECT_TRUE(decoder.data_digest_ok()) << "PDU " << all.size();
          all.emplace_back(decoder.data().begin(), decoder.data().end());
      }
    }
  }

  std::mt19937 random;
  bool header_digest = false;
  bool writes = true;
  unsigned value = 0;
  Data disk = Data(60000, 0xdd);
  std::vector<std::unique_ptr<Read>> reads;
  std::vector<std::size_t> lengths;
  TxChunkPool chunks;
  TxQueue queue{chunks};
  std::array<iovec, 12> iov{};
  Data wire;
};

TEST(TxQueue, ASendThatIsOverAtOnceTakesDataFromWhereItLies) {
  Rig rig(1);
  rig.queue.set_digests(false, true);
  rig.read(100, 0, 20000);
  EXPECT_TRUE(rig.queue.has_late());
  const std::size_t pieces = rig.queue.gather_for_now(rig.iov);
  ASSERT_EQ(pieces, 6U) << "header, one piece for each of four pages, trailer";
  EXPECT_EQ(rig.iov[1].iov_base, rig.disk.data() + 100);
  rig.queue.sent_now(rig.receive(pieces, 1 << 20));
  EXPECT_TRUE(rig.queue.empty());
  EXPECT_FALSE(rig.queue.has_late());
  EXPECT_EQ(rig.received(), std::vector<Data>{Data(20000, 0xdd)});
}

TEST(TxQueue, WhatOneSendLeavesIsCopiedAndTheRestIsNot) {
  Rig rig(1);
  rig.writes = false;
  rig.queue.set_digests(false, true);
  rig.read(0, 0, 20000);
  rig.read(30000, 0, 20000);
  EXPECT_EQ(rig.queue.gather_for_now(rig.iov), 11U) << "trailer and header are one piece";
  rig.queue.sent_now(rig.receive(11, 1000));
  EXPECT_TRUE(rig.queue.has_late());
  EXPECT_EQ(rig.queue.gather(rig.iov), 5U) << "up to the second read";
  EXPECT_EQ(rig.iov[0].iov_base, rig.reads[0]->memory[0].data() + (1000 - 48));
  rig.queue.sent(rig.receive(5, 1 << 20));
  EXPECT_EQ(rig.queue.gather_for_now(rig.iov), 5U);
  EXPECT_EQ(rig.iov[0].iov_base, rig.disk.data() + 30000);
  rig.queue.sent_now(rig.receive(5, 1 << 20));
  EXPECT_EQ(rig.received(), std::vector<Data>(2, Data(20000, 0xdd)));
}

TEST(TxQueue, WhatIsCopiedSoonIsThatOfTheMomentWhenItIs) {
  for (const char* const by : {"copy_pending", "the next", "a send", "a send that is over at once"}) {
    Rig rig(1);
    rig.writes = false;
    rig.queue.set_digests(false, true);
    rig.read_soon(0, 4096);
    rig.answer(10);
    std::fill_n(rig.disk.begin(), 4096, std::uint8_t{1});
    if (by == std::string_view("copy_pending"))
      rig.queue.copy_pending();
    else if (by == std::string_view("the next"))
      rig.read_soon(8192, 4096);
    else if (by == std::string_view("a send"))
      rig.send(0);
    else
      rig.send_now(0);
    std::fill_n(rig.disk.begin(), 4096, std::uint8_t{2});
    rig.send(1 << 20);
    const std::vector<Data> received = rig.received();
    ASSERT_GE(received.size(), 2U) << by;
    EXPECT_EQ(received[0], Data(4096, 1)) << by;
    EXPECT_EQ(received[1], Data(10, 7)) << by;
  }
}

TEST(TxQueue, WhatIsDroppedIsNotCopiedAnyMore) {
  Rig rig(1);
  rig.queue.set_digests(false, true);
  rig.read_soon(0, 4096);
  rig.queue.clear();
  const auto another = rig.chunks.take();  // the memory that the copy had been meant for
  std::fill_n(another.get(), TxChunkPool::chunk_bytes, std::uint8_t{0});
  rig.queue.copy_pending();
  EXPECT_EQ(std::count(another.get(), another.get() + TxChunkPool::chunk_bytes, 0), TxChunkPool::chunk_bytes);
  EXPECT_TRUE(rig.queue.empty());
}

TEST(TxQueue, DigestsAreRightWhateverChangesAndHoweverLittleIsTaken) {
  for (std::uint32_t seed = 0; seed < (PERILUNE_SANITIZED ? 300u : 3000u); ++seed) {
    Rig rig(seed);
    rig.header_digest = seed % 2 == 0;
    rig.queue.set_digests(rig.header_digest, true);
    for (int step = 0; step < 60; ++step) {
      const std::uint64_t most = rig.below(3) == 0 ? rig.below(100) : rig.below(60000);
      switch (rig.below(6)) {
        case 0: rig.read(rig.below(10000), rig.below(4200), 1 + rig.below(49000)); break;
        case 1: rig.answer(rig.below(300)); break;
        case 2: rig.send_now(most); break;
        case 3: rig.read_soon(rig.below(10000), 1 + rig.below(16384)); break;
        case 4: rig.queue.copy_pending(); break;
        default: rig.send(most); break;
      }
    }
    while (!rig.queue.empty()) rig.below(2) == 0 ? rig.send(1 << 20) : rig.send_now(1 << 20);
    const std::vector<Data> received = rig.received();
    ASSERT_EQ(received.size(), rig.lengths.size()) << "seed " << seed;
    for (std::size_t i = 0; i < received.size(); ++i)
      ASSERT_EQ(received[i].size(), rig.lengths[i]) << "seed " << seed;
    ASSERT_TRUE(
        std::none_of(rig.reads.begin(), rig.reads.end(), [](const auto& read) { return read->hold.held(); }));
    if (HasFailure()) FAIL() << "seed " << seed;
  }
}

TEST(TxQueue, WithoutWritesEveryByteIsThatOfTheDisk) {
  for (std::uint32_t seed = 0; seed < 300; ++seed) {
    Rig rig(seed);
    rig.queue.set_digests(false, true);
    rig.writes = false;
    for (std::size_t i = 0; i < rig.disk.size(); ++i)
      rig.disk[i] = static_cast<std::uint8_t>(i * 31 + i / 256);
    std::vector<Data> wanted;
    for (int i = 0; i < 20; ++i) {
      const std::uint32_t at = rig.below(10000);
      const std::uint32_t length = 1 + rig.below(49000);
      rig.read(at, rig.below(4200), length);
      wanted.emplace_back(rig.disk.begin() + at, rig.disk.begin() + at + length);
      const std::uint32_t shorter = std::min(length, TxQueue::max_placed_bytes);
      rig.read_soon(at, shorter);
      wanted.emplace_back(rig.disk.begin() + at, rig.disk.begin() + at + shorter);
      rig.below(2) == 0 ? rig.send(rig.below(60000)) : rig.send_now(rig.below(60000));
    }
    while (!rig.queue.empty()) rig.below(2) == 0 ? rig.send(1 << 20) : rig.send_now(1 << 20);
    ASSERT_EQ(rig.received(), wanted) << "seed " << seed;
  }
}

}  // namespace
}  // namespace perilune::iscsi
