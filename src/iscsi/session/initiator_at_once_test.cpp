// SPDX-License-Identifier: Apache-2.0
// The fast path of an answer (initiator_at_once.cpp) against the slow one: the same bytes, whole or in
// receives so small that no PDU is ever there at once, must end the same commands in the same way.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <memory>
#include <random>
#include <vector>

#include "crypto/crc32c.hpp"
#include "iscsi/session/initiator_session.hpp"

namespace perilune::iscsi {
namespace {

using Buffer = std::vector<std::uint8_t>;
using Direction = InitiatorCommand::Direction;

constexpr std::uint32_t first_stat_sn = 0xfffffffe;  // wraps on the way
constexpr std::uint32_t first_itt = 0x00010000;      // slot 0, first generation
constexpr std::size_t commands = 6;
constexpr std::uint32_t bytes_of_each = 514;  // no multiple of four: it is padded

struct Command : InitiatorCommand {
  Buffer memory = Buffer(bytes_of_each);
  std::array<iovec, 2> iov{};
  Command(Direction way, bool in_two) {
    direction = way;
    iov = {iovec{memory.data(), in_two ? 100U : bytes_of_each},
           iovec{memory.data() + 100, bytes_of_each - 100}};
    if (way != Direction::none) data = std::span<const iovec>(iov).first(in_two ? 2 : 1);
  }
};

struct Digests {
  bool header = false, data = false;
};

// What one session makes of a stream of answers to the same six commands.
class Side {
 public:
  Side(std::uint32_t seed, Digests digests) {
    std::mt19937 random(seed);
    InitiatorSessionParameters parameters;
    parameters.initial_r2t = false;
    session_.open(parameters, CmdSn(1), CmdSn(1), CmdSn(commands));
    InitiatorConnectionParameters of_connection;
    of_connection.exp_stat_sn = StatSn(first_stat_sn);
    of_connection.max_recv_data_segment_bytes = 1024;
    of_connection.header_digest = digests.header;
    of_connection.data_digest = digests.data;
    connection_ = std::make_unique<InitiatorConnection>(session_, pool_, of_connection);
    for (std::size_t i = 0; i < commands; ++i) {
      const auto kind = random() % 8;
      const Direction way = kind < 4 ? Direction::in : kind < 7 ? Direction::out : Direction::none;
      all_.push_back(std::make_unique<Command>(way, random() % 4 == 0));
      EXPECT_TRUE(session_.submit(*all_.back()));
    }
    send();
  }
  ~Side() {
    session_.close();
    connection_.reset();
    session_.completed().clear();
  }

  [[nodiscard]] Direction way(std::size_t i) const { return all_[i]->direction; }

  void receive(const Buffer& stream, std::size_t piece) {
    for (std::size_t at = 0; at < stream.size() && good_; at += piece) {
      good_ = connection_->receive(Bytes(stream).subspan(at, std::min(piece, stream.size() - at)));
    }
  }

  // Everything that can be told from outside.
  [[nodiscard]] std::vector<std::uint64_t> account() {
    std::vector<std::uint64_t> out{good_,
                                   static_cast<std::uint64_t>(connection_->fault()),
                                   connection_->exp_stat_sn().value(),
                                   session_.outstanding(),
                                   session_.max_cmd_sn().value(),
                                   connection_->outstanding()};
    const InitiatorCounters& c = session_.counters();
    out.insert(out.end(), {c.data_ins, c.scsi_responses, c.digest_errors, c.malformed_sense});
    while (!session_.completed().empty()) {
      auto& command = static_cast<Command&>(session_.completed().pop_front());
      const auto at =
          std::find_if(all_.begin(), all_.end(), [&](const auto& each) { return each.get() == &command; });
      out.insert(out.end(), {static_cast<std::uint64_t>(at - all_.begin()),
                             static_cast<std::uint64_t>(command.outcome), command.status,
                             command.sense_length, command.transferred_bytes, command.residual_overflow});
      ++ended;
    }
    for (const auto& command : all_) out.insert(out.end(), command->memory.begin(), command->memory.end());
    return out;
  }
  std::size_t ended = 0;

 private:
  void send() {
    std::array<iovec, 64> iov;
    for (connection_->fill(); const std::size_t n = connection_->tx().gather(iov); connection_->fill()) {
      std::uint64_t bytes = 0;
      for (std::size_t i = 0; i < n; ++i) bytes += iov[i].iov_len;
      connection_->tx().sent(bytes);
    }
  }

  TxChunkPool pool_;
  InitiatorSession session_{InitiatorLimits{.commands = commands, .pending_commands = 16, .text_bytes = 64}};
  std::unique_ptr<InitiatorConnection> connection_;
  std::vector<std::unique_ptr<Command>> all_;
  bool good_ = true;
};

// A PDU with its digests, by RFC 7143 11.2.
void append(Buffer& stream, const std::array<std::uint8_t, 48>& bhs, const Buffer& data, Digests digests,
            bool spoil) {
  stream.insert(stream.end(), bhs.begin(), bhs.end());
  std::array<std::uint8_t, 4> digest{};
  if (digests.header) {
    crypto::store_digest(digest.data(), crypto::crc32c(crypto::crc32c_start, bhs));
    stream.insert(stream.end(), digest.begin(), digest.end());
  }
  Buffer padded = data;
  padded.resize(pad4(static_cast<std::uint32_t>(data.size())));
  stream.insert(stream.end(), padded.begin(), padded.end());
  if (!digests.data || data.empty()) return;
  crypto::store_digest(digest.data(), crypto::crc32c(crypto::crc32c_start, padded));
  if (spoil) digest[0] ^= 1;
  stream.insert(stream.end(), digest.begin(), digest.end());
}

// Answers to all six in some order; one field in a few of the headers is not what it should be.
Buffer answers(const Side& side, std::mt19937& random, Digests digests, unsigned wrong_of_16) {
  std::array<std::size_t, commands> order{};
  for (std::size_t i = 0; i < commands; ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), random);
  Buffer stream;
  std::uint32_t stat_sn = first_stat_sn;
  std::uint32_t exp_cmd_sn = commands + 1;
  for (const std::size_t i : order) {
    const bool reads = side.way(i) == Direction::in && random() % 8 != 0;
    Buffer data(reads ? bytes_of_each : 0);
    for (auto& byte : data) byte = static_cast<std::uint8_t>(random());
    std::array<std::uint8_t, 48> bhs{};
    bhs[0] = reads ? 0x25 : 0x21;
    bhs[1] = reads ? 0x81 : 0x80;
    store_be32(bhs.data() + 16, first_itt + static_cast<std::uint32_t>(i));
    store_be32(bhs.data() + 24, stat_sn++);
    store_be32(bhs.data() + 28, exp_cmd_sn);
    store_be32(bhs.data() + 32, exp_cmd_sn + 5 + static_cast<std::uint32_t>(random() % 3));
    const bool wrong = random() % 16 < wrong_of_16;
    if (wrong && random() % 4 == 0 && !data.empty())
      data.resize(1 + random() % bytes_of_each);  // less, or cut at a wrong place
    store_be24(bhs.data() + 5, static_cast<std::uint32_t>(data.size()));
    const bool spoil = wrong && random() % 4 == 0;
    if (wrong && random() % 2 == 0) {
      constexpr std::array<std::size_t, 16> fields{0, 1, 1, 1, 2, 3, 3, 16, 17, 19, 27, 31, 35, 39, 43, 47};
      bhs[fields[random() % fields.size()]] ^= static_cast<std::uint8_t>(1U << (random() % 8));
    }
    append(stream, bhs, data, digests, spoil);
  }
  return stream;
}

void compare(unsigned wrong_of_16, Digests digests, std::uint32_t rounds, std::size_t& ended) {
  for (std::uint32_t seed = 0; seed < rounds; ++seed) {
    std::mt19937 random(seed);
    Side whole(seed, digests);
    Side cut(seed, digests);
    const Buffer stream = answers(whole, random, digests, wrong_of_16);
    whole.receive(stream, stream.size());
    cut.receive(stream, 1 + seed % 40);  // less than a header
    ASSERT_EQ(whole.account(), cut.account()) << "seed " << seed;
    ended += whole.ended;
  }
}

TEST(InitiatorAtOnce, AnswersEndTheirCommandsHoweverTheyAreCut) {
  std::size_t ended = 0;
  for (const Digests digests : {Digests{}, Digests{true, true}, Digests{true, false}, Digests{false, true}}) {
    compare(0, digests, 100, ended);
  }
  EXPECT_GT(ended, 400 * commands / 2);
}

TEST(InitiatorAtOnce, WrongAnswersAreTreatedTheSameHoweverTheyAreCut) {
  std::size_t ended = 0;
  for (const Digests digests : {Digests{}, Digests{true, true}, Digests{true, false}, Digests{false, true}}) {
    compare(6, digests, 500, ended);
  }
  EXPECT_GT(ended, 0U);
}

}  // namespace
}  // namespace perilune::iscsi
