// SPDX-License-Identifier: Apache-2.0
#include "iscsi/pdu/decoder.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "iscsi/pdu/tx_queue.hpp"

namespace perilune::iscsi {
namespace {

std::vector<std::uint8_t> nop_out_with(std::string_view data) {
  std::vector<std::uint8_t> pdu(48 + (data.size() + 3) / 4 * 4, 0);
  pdu[0] = 0x40;
  pdu[1] = 0x80;
  pdu[6] = static_cast<std::uint8_t>(data.size() >> 8);
  pdu[7] = static_cast<std::uint8_t>(data.size());
  std::copy(data.begin(), data.end(), pdu.begin() + 48);
  return pdu;
}

TEST(PduDecoder, FindsTheSamePduAtEveryByteBorder) {
  std::vector<std::uint8_t> stream = nop_out_with("hello");
  for (const std::uint8_t byte : nop_out_with("")) stream.push_back(byte);
  for (std::size_t cut = 0; cut <= stream.size(); ++cut) {
    PduDecoder decoder(8192);
    std::vector<std::string> seen;
    const Bytes all(stream);
    for (Bytes part : {all.first(cut), all.subspan(cut)}) {
      for (bool more = true; more;) {
        switch (decoder.next(part)) {
          case PduDecoder::Event::need_more: more = false; break;
          case PduDecoder::Event::header: decoder.collect(); break;
          case PduDecoder::Event::pdu: seen.emplace_back(as_text(decoder.data())); break;
          case PduDecoder::Event::error: FAIL();
        }
      }
      EXPECT_TRUE(part.empty());
    }
    EXPECT_EQ(seen, (std::vector<std::string>{"hello", ""})) << "cut at " << cut;
  }
}

TEST(PduDecoder, RefusesALongDataSegmentBeforeAnyMemoryIsNamed) {
  std::vector<std::uint8_t> pdu(48, 0);
  pdu[5] = pdu[6] = pdu[7] = 0xff;
  PduDecoder decoder(8192);
  Bytes input(pdu);
  EXPECT_EQ(decoder.next(input), PduDecoder::Event::error);
  EXPECT_EQ(decoder.fault(), PduDecoder::Fault::data_segment_too_long);
  EXPECT_EQ(decoder.next(input), PduDecoder::Event::error);
}

TEST(PduDecoder, DeliversIntoScatteredMemoryAfterASkipAndDropsWhatHasNoRoom) {
  const std::vector<std::uint8_t> pdu = nop_out_with("abcdefgh");
  char a[3] = {'.', '.', '.'};
  char b[4] = {'.', '.', '.', '.'};
  const iovec memory[] = {{a, 3}, {b, 4}};
  PduDecoder decoder(8192);
  Bytes input(pdu);
  ASSERT_EQ(decoder.next(input), PduDecoder::Event::header);
  decoder.deliver_into(memory, 2);
  ASSERT_EQ(decoder.next(input), PduDecoder::Event::pdu);
  EXPECT_EQ(std::string(a, 3), "..a");
  EXPECT_EQ(std::string(b, 4), "bcde");
}

TEST(PduDecoder, DeliversToAFinalDestinationByteForByte) {
  const std::string text(5000, 'q');
  const std::vector<std::uint8_t> pdu = nop_out_with(text);
  std::string a(1500, '.'), b(3500, '.');
  const iovec memory[] = {{a.data(), a.size()}, {b.data(), b.size()}};
  PduDecoder decoder(8192);
  Bytes input(pdu);
  ASSERT_EQ(decoder.next(input), PduDecoder::Event::header);
  decoder.deliver_into(memory, 0, PduDecoder::Destination::final);
  ASSERT_EQ(decoder.next(input), PduDecoder::Event::pdu);
  EXPECT_EQ(a + b, text);
}

TEST(PduDecoder, NothingIsReceivedDirectlyToAFinalDestination) {
  const std::vector<std::uint8_t> pdu = nop_out_with(std::string(5000, 'q'));
  std::string memory(5000, '.');
  const iovec iov[] = {{memory.data(), memory.size()}};
  for (const auto destination : {PduDecoder::Destination::passing, PduDecoder::Destination::final}) {
    PduDecoder decoder(8192);
    Bytes input = Bytes(pdu).first(100);
    ASSERT_EQ(decoder.next(input), PduDecoder::Event::header);
    decoder.deliver_into(iov, 0, destination);
    ASSERT_EQ(decoder.next(input), PduDecoder::Event::need_more);
    EXPECT_EQ(decoder.missing_bytes(), destination == PduDecoder::Destination::final ? 0U : 4948U);
  }
}

TEST(PduDecoder, DirectReceivingContinuesWhereTheStreamStopped) {
  const std::vector<std::uint8_t> pdu = nop_out_with("abcdefgh");
  char memory[8] = {};
  const iovec iov[] = {{memory, 8}};
  PduDecoder decoder(8192);
  Bytes input = Bytes(pdu).first(50);  // the header and "ab"
  ASSERT_EQ(decoder.next(input), PduDecoder::Event::header);
  decoder.deliver_into(iov);
  ASSERT_EQ(decoder.next(input), PduDecoder::Event::need_more);
  ASSERT_EQ(decoder.missing_bytes(), 6u);
  iovec direct[4];
  ASSERT_EQ(decoder.direct(direct), 1u);
  ASSERT_EQ(direct[0].iov_len, 6u);
  std::memcpy(direct[0].iov_base, "cdefgh", 6);
  decoder.commit_direct(6);
  Bytes rest;
  EXPECT_EQ(decoder.next(rest), PduDecoder::Event::pdu);
  EXPECT_EQ(std::string(memory, 8), "abcdefgh");
}

class Loopback : public testing::TestWithParam<bool> {};

// Everything the queue sends, the decoder understands, also when the send takes a few bytes at a time.
TEST_P(Loopback, QueueAndDecoderAgreeOnDigestsAndPadding) {
  TxChunkPool chunks;
  TxQueue queue(chunks);
  queue.set_digests(GetParam(), GetParam());
  std::uint8_t bhs[48] = {0x20, 0x80};
  std::vector<std::uint8_t> big(20001, 0x5a);
  const iovec memory[] = {{big.data(), 10000}, {big.data() + 10000, 10001}};
  struct Owner {
    int released = 0;
    void on_released() { ++released; }
  } owner;
  TxHold hold(Delegate<void()>::to<&Owner::on_released>(owner));
  hold.retain();
  queue.push(bhs, as_bytes("x"));
  queue.push(bhs, memory, 1, 19999, &hold);
  queue.push(bhs);
  hold.release();
  std::vector<std::uint8_t> wire;
  while (!queue.empty()) {
    iovec out[3];
    const std::size_t n = queue.gather(out);
    ASSERT_GT(n, 0u);
    const std::size_t take = std::min<std::size_t>(out[0].iov_len, 7001);
    const auto* p = static_cast<const std::uint8_t*>(out[0].iov_base);
    wire.insert(wire.end(), p, p + take);
    queue.sent(take);
  }
  EXPECT_EQ(owner.released, 1);
  EXPECT_EQ(queue.own_bytes(), 0u);
  PduDecoder decoder(262144);
  decoder.set_digests(GetParam(), GetParam());
  Bytes input(wire);
  std::vector<std::size_t> lengths;
  for (bool more = true; more;) {
    switch (decoder.next(input)) {
      case PduDecoder::Event::need_more: more = false; break;
      case PduDecoder::Event::header: decoder.collect(); break;
      case PduDecoder::Event::pdu:
        EXPECT_TRUE(decoder.data_digest_ok());
        lengths.push_back(decoder.data().size());
        break;
      case PduDecoder::Event::error: FAIL();
    }
  }
  EXPECT_EQ(lengths, (std::vector<std::size_t>{1, 19999, 0}));
}
INSTANTIATE_TEST_SUITE_P(Digests, Loopback, testing::Bool());

TEST(PduDecoder, SeesOneFlippedBitOfHeaderAndOfData) {
  TxChunkPool chunks;
  TxQueue queue(chunks);
  queue.set_digests(true, true);
  std::uint8_t bhs[48] = {0x20, 0x80};
  queue.push(bhs, as_bytes("payload"));
  iovec out[4];
  ASSERT_EQ(queue.gather(out), 1u);
  const auto* p = static_cast<const std::uint8_t*>(out[0].iov_base);
  const std::vector<std::uint8_t> wire(p, p + out[0].iov_len);
  ASSERT_EQ(wire.size(), 48u + 4 + 8 + 4);
  for (std::size_t bit = 0; bit < wire.size() * 8; ++bit) {
    std::vector<std::uint8_t> bad = wire;
    bad[bit / 8] = static_cast<std::uint8_t>(bad[bit / 8] ^ (1u << (bit % 8)));
    PduDecoder decoder(8192);
    decoder.set_digests(true, true);
    Bytes input(bad);
    const auto first = decoder.next(input);
    const bool in_header = bit / 8 < 52;
    if (in_header && (bit / 8) != 4) {
      EXPECT_EQ(first, PduDecoder::Event::error) << "bit " << bit;
    } else if (!in_header) {
      ASSERT_EQ(first, PduDecoder::Event::header);
      decoder.collect();
      ASSERT_EQ(decoder.next(input), PduDecoder::Event::pdu);
      EXPECT_FALSE(decoder.data_digest_ok()) << "bit " << bit;
    } else {
      EXPECT_NE(first, PduDecoder::Event::header) << "bit " << bit;  // TotalAHSLength: more header, or a bad
                                                                     // digest
    }
  }
}

}  // namespace
}  // namespace perilune::iscsi
