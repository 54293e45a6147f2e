// SPDX-License-Identifier: Apache-2.0
#include "runtime/sim/network.hpp"

#include <gtest/gtest.h>

#include <cerrno>

#include "runtime/sim/connection.hpp"
#include "runtime/sim/sim_host.hpp"
#include "runtime/sim/sim_stream.hpp"
#include "runtime/sim/world.hpp"

namespace perilune::sim {
namespace {

using namespace std::chrono_literals;
using runtime::Endpoint;

// One end of a connection that records what it is told. It keeps no operation going by itself.
class Peer : public runtime::StreamHandler {
 public:
  explicit Peer(std::unique_ptr<runtime::Stream> s) : stream(std::move(s)) { stream->set_handler(*this); }
  void on_received(int result, Bytes data) override {
    received.push_back(result);
    in.insert(in.end(), data.begin(), data.end());
    if (result > 0 && keep_receiving) stream->receive();
  }
  void on_sent(int result) override {
    sent.push_back(result);
    if (result <= 0) return;
    offset += static_cast<std::size_t>(result);
    if (offset < out.size()) send_rest();
  }
  void on_closed() override {
    ++closed;
    stream.reset();
  }
  void send_rest() {
    part = {out.data() + offset, out.size() - offset};
    stream->send({&part, 1});
  }

  std::unique_ptr<runtime::Stream> stream;
  std::vector<std::uint8_t> in;
  std::vector<std::uint8_t> out;
  std::size_t offset = 0;
  iovec part{};
  std::vector<int> received;
  std::vector<int> sent;
  bool keep_receiving = false;
  int closed = 0;
};

class SimNetwork : public ::testing::Test, public runtime::AcceptHandler, public runtime::ConnectHandler {
 protected:
  void make(std::uint64_t seed, WorldOptions options = {}) {
    drop();
    world = std::make_unique<World>(seed, options);
    a = &world->add_host("a", {"10.0.0.1"});
    b = &world->add_host("b", {"10.0.0.2", "fd00::2"});
    loop_a = &a->add_loop();
    loop_b = &b->add_loop();
  }
  void drop() {
    if (world == nullptr) return;
    a->crash(Crash::process);
    b->crash(Crash::process);
    connecting.reset();
    listener.reset();
    client.reset();
    server.reset();
    error.reset();
    world.reset();
  }
  void TearDown() override { drop(); }
  void on_accepted(std::unique_ptr<runtime::Stream> stream) override {
    server = std::make_unique<Peer>(std::move(stream));
  }
  void on_connected(Result<std::unique_ptr<runtime::Stream>> stream) override {
    connecting.reset();
    if (stream)
      client = std::make_unique<Peer>(std::move(*stream));
    else
      error = stream.error();
  }
  void listen(const char* where = "10.0.0.2:3260") {
    auto result = loop_b->listen(*Endpoint::parse(where, 0), {}, *this);
    ASSERT_TRUE(result);
    listener = std::move(*result);
  }
  void connect(const char* where = "10.0.0.2:3260", runtime::SocketOptions options = {}) {
    connecting = loop_a->connect(*Endpoint::parse(where, 0), options, *this);
  }
  void establish(runtime::SocketOptions options = {}) {
    listen();
    connect("10.0.0.2:3260", options);
    ASSERT_TRUE(world->run_until([&] { return client && server; }, 60s));
  }
  static std::vector<std::uint8_t> pattern(std::size_t n) {
    std::vector<std::uint8_t> bytes(n);
    Prng(n).fill(bytes);
    return bytes;
  }

  std::unique_ptr<World> world;
  SimHost* a = nullptr;
  SimHost* b = nullptr;
  SimLoop* loop_a = nullptr;
  SimLoop* loop_b = nullptr;
  std::unique_ptr<runtime::Listener> listener;
  std::unique_ptr<runtime::Connecting> connecting;
  std::unique_ptr<Peer> client;
  std::unique_ptr<Peer> server;
  std::optional<Error> error;
};

TEST_F(SimNetwork, CarriesBytesInOrderWhateverTheirCutting) {
  bool short_send = false;
  bool many_receives = false;
  for (std::uint64_t seed = 1; seed <= 30; ++seed) {
    make(seed);
    ASSERT_NO_FATAL_FAILURE(establish());
    EXPECT_EQ(client->stream->peer().to_string(), "10.0.0.2:3260");
    EXPECT_EQ(server->stream->peer(), client->stream->local());
    client->out = pattern(300'000);
    server->keep_receiving = true;
    server->stream->receive();
    client->send_rest();
    ASSERT_TRUE(world->run_until([&] { return server->in.size() == 300'000; }, 600s)) << "seed " << seed;
    EXPECT_EQ(server->in, client->out);
    short_send |= client->sent.size() > 1;
    many_receives |= server->received.size() > 5;
  }
  EXPECT_TRUE(short_send);
  EXPECT_TRUE(many_receives);
}

TEST_F(SimNetwork, WaitAllEndsOnlyWhenEveryByteHasCome) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    make(seed);
    ASSERT_NO_FATAL_FAILURE(establish());
    client->out = pattern(100'000);
    std::vector<std::uint8_t> first(30'000);
    std::vector<std::uint8_t> second(70'000);
    const iovec into[] = {{first.data(), first.size()}, {second.data(), second.size()}};
    server->stream->receive_into(into, true);
    client->send_rest();
    ASSERT_TRUE(world->run_until([&] { return !server->received.empty(); }, 600s));
    EXPECT_EQ(server->received, (std::vector<int>{100'000}));
    EXPECT_TRUE(std::equal(first.begin(), first.end(), client->out.begin()));
    EXPECT_TRUE(std::equal(second.begin(), second.end(), client->out.begin() + 30'000));
  }
}

TEST_F(SimNetwork, WithoutWaitAllADirectedReceiveMayBeShort) {
  bool was_short = false;
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    make(seed);
    ASSERT_NO_FATAL_FAILURE(establish());
    client->out = pattern(20'000);
    std::vector<std::uint8_t> memory(20'000);
    const iovec into{memory.data(), memory.size()};
    server->stream->receive_into({&into, 1}, false);
    client->send_rest();
    ASSERT_TRUE(world->run_until([&] { return !server->received.empty(); }, 600s));
    const int n = server->received[0];
    ASSERT_GT(n, 0);
    EXPECT_TRUE(std::equal(memory.begin(), memory.begin() + n, client->out.begin()));
    was_short |= n < 20'000;
  }
  EXPECT_TRUE(was_short);
}

TEST_F(SimNetwork, WaitAllEndsShortWhenTheStreamEnds) {
  make(3);
  ASSERT_NO_FATAL_FAILURE(establish());
  client->out = pattern(100);
  client->send_rest();
  ASSERT_TRUE(world->run_until([&] { return client->offset == 100; }, 60s));
  client->stream->shutdown_send();
  std::vector<std::uint8_t> memory(500);
  const iovec into{memory.data(), memory.size()};
  server->stream->receive_into({&into, 1}, true);
  ASSERT_TRUE(world->run_until([&] { return !server->received.empty(); }, 60s));
  EXPECT_EQ(server->received[0], 100);
  server->stream->receive();
  ASSERT_TRUE(world->run_until([&] { return server->received.size() == 2; }, 60s));
  EXPECT_EQ(server->received[1], 0);
}

TEST_F(SimNetwork, AfterAHalfCloseTheOtherDirectionGoesOn) {
  make(4);
  ASSERT_NO_FATAL_FAILURE(establish());
  client->stream->shutdown_send();
  server->stream->receive();
  ASSERT_TRUE(world->run_until([&] { return !server->received.empty(); }, 60s));
  EXPECT_EQ(server->received[0], 0);
  server->out = pattern(5000);
  server->send_rest();
  client->keep_receiving = true;
  client->stream->receive();
  ASSERT_TRUE(world->run_until([&] { return client->in.size() == 5000; }, 60s));
  EXPECT_EQ(client->in, server->out);
  client->out = pattern(10);
  client->send_rest();
  ASSERT_TRUE(world->run_until([&] { return !client->sent.empty(); }, 60s));
  EXPECT_EQ(client->sent[0], -EPIPE);
}

TEST_F(SimNetwork, ASenderWaitsForAReaderThatDoesNotRead) {
  make(5);
  ASSERT_NO_FATAL_FAILURE(establish());
  client->out = pattern(8'000'000);
  client->send_rest();
  world->run_for(100s);
  EXPECT_LT(client->offset, 4'000'000u);  // at most a send buffer and a window
  const std::size_t stuck = client->offset;
  server->keep_receiving = true;
  server->stream->receive();
  ASSERT_TRUE(world->run_until([&] { return client->offset > stuck; }, 100s));
}

TEST_F(SimNetwork, CloseCancelsWhatIsOutstandingThenReportsOnceFromALaterTurn) {
  make(6);
  ASSERT_NO_FATAL_FAILURE(establish());
  client->stream->receive();
  server->out = {};
  client->out = pattern(30'000'000);  // more than the buffers take: a send is outstanding at the end
  client->send_rest();
  world->run_for(50s);
  const std::size_t sends = client->sent.size();
  client->stream->close();
  client->stream->close();
  EXPECT_EQ(client->closed, 0);
  EXPECT_TRUE(client->received.empty());
  ASSERT_TRUE(world->run_until([&] { return client->closed > 0; }, 1s));
  EXPECT_EQ(client->received, (std::vector<int>{-ECANCELED}));
  ASSERT_EQ(client->sent.size(), sends + 1);
  EXPECT_EQ(client->sent.back(), -ECANCELED);
  world->run_for(10s);
  EXPECT_EQ(client->closed, 1);
}

TEST_F(SimNetwork, CloseOfAnIdleStreamReportsFromALaterTurn) {
  make(6);
  ASSERT_NO_FATAL_FAILURE(establish());
  server->stream->receive();
  client->stream->close();
  EXPECT_EQ(client->closed, 0);
  ASSERT_TRUE(world->run_until([&] { return client->closed == 1 && !server->received.empty(); }, 60s));
  EXPECT_EQ(server->received[0], 0);
  EXPECT_TRUE(client->received.empty());
}

TEST_F(SimNetwork, ClosingWithUnreadDataResetsThePeer) {
  make(7);
  ASSERT_NO_FATAL_FAILURE(establish());
  client->out = pattern(100);
  client->send_rest();
  world->run_for(10s);
  client->stream->receive();
  server->stream->close();
  ASSERT_TRUE(world->run_until([&] { return !client->received.empty(); }, 60s));
  EXPECT_EQ(client->received[0], -ECONNRESET);
}

TEST_F(SimNetwork, AResetEndsBothSides) {
  make(8);
  ASSERT_NO_FATAL_FAILURE(establish());
  client->stream->receive();
  server->stream->receive();
  EXPECT_EQ(world->network().reset_connections(*a, *b), 1u);
  ASSERT_TRUE(world->run_until([&] { return !client->received.empty() && !server->received.empty(); }, 60s));
  EXPECT_EQ(client->received[0], -ECONNRESET);
  EXPECT_EQ(server->received[0], -ECONNRESET);
  server->out = pattern(10);
  server->send_rest();
  ASSERT_TRUE(world->run_until([&] { return !server->sent.empty(); }, 60s));
  EXPECT_EQ(server->sent[0], -ECONNRESET);
}

TEST_F(SimNetwork, ACutLinkSwallowsEverythingAndThenRetransmits) {
  make(9);
  ASSERT_NO_FATAL_FAILURE(establish());
  server->stream->receive();
  world->network().cut(*a, *b, 5s);
  client->out = pattern(100);
  client->send_rest();
  world->run_for(4900ms);
  EXPECT_TRUE(server->received.empty());
  server->keep_receiving = true;
  ASSERT_TRUE(world->run_until([&] { return server->in.size() == 100; }, 30s));
  EXPECT_EQ(server->in, client->out);
}

TEST_F(SimNetwork, ACutLinkTimesTheSenderOut) {
  make(9);
  runtime::SocketOptions options;
  options.user_timeout = 10s;
  ASSERT_NO_FATAL_FAILURE(establish(options));
  client->stream->receive();
  world->network().cut(*a, *b);
  const Instant start = world->now();
  client->out = pattern(100);
  client->send_rest();
  ASSERT_TRUE(world->run_until([&] { return !client->received.empty(); }, 60s));
  EXPECT_EQ(client->received[0], -ETIMEDOUT);
  EXPECT_GE(world->now() - start, 10s);
  EXPECT_LT(world->now() - start, 20s);
}

TEST_F(SimNetwork, ConnectingToNobodyIsRefusedAndToACutHostTimesOut) {
  make(10);
  connect("10.0.0.2:9");
  ASSERT_TRUE(world->run_until([&] { return error.has_value(); }, 60s));
  EXPECT_EQ(error->code, Errc::connection);
  EXPECT_EQ(error->os_errno, ECONNREFUSED);
  error.reset();
  listen();
  world->network().cut(*a, *b);
  connect();
  const Instant start = world->now();
  ASSERT_TRUE(world->run_until([&] { return error.has_value(); }, 300s));
  EXPECT_EQ(error->code, Errc::timed_out);
  EXPECT_GT(world->now() - start, 60s);
}

TEST_F(SimNetwork, ConnectingSucceedsWhenTheLinkHealsInTime) {
  make(10);
  listen();
  world->network().cut(*a, *b, 10s);
  connect();
  ASSERT_TRUE(world->run_until([&] { return client && server; }, 60s));
}

TEST_F(SimNetwork, AnAbandonedAttemptIsNeverHeardOf) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    make(seed);
    listen();
    connect();
    world->run_for(Duration(static_cast<Duration::rep>(seed) * 100'000));
    connecting.reset();
    const bool was_connected = client != nullptr;
    world->run_for(10s);
    EXPECT_EQ(client != nullptr, was_connected);
    if (server && !was_connected) {
      server->stream->receive();
      ASSERT_TRUE(world->run_until([&] { return !server->received.empty(); }, 60s));
      EXPECT_LE(server->received[0], 0);
    }
  }
}

TEST_F(SimNetwork, ListeningKnowsItsAddresses) {
  make(11);
  listen("0.0.0.0:3260");
  const auto twice = loop_b->listen(*Endpoint::parse("10.0.0.2:3260", 0), {}, *this);
  ASSERT_FALSE(twice);
  EXPECT_EQ(twice.error().code, Errc::busy);
  const auto foreign = loop_b->listen(*Endpoint::parse("10.9.9.9:3260", 0), {}, *this);
  EXPECT_FALSE(foreign);
  const auto chosen = loop_b->listen(*Endpoint::parse("[fd00::2]:0", 0), {}, *this);
  ASSERT_TRUE(chosen);
  EXPECT_NE((*chosen)->local().port, 0);
  connect();
  ASSERT_TRUE(world->run_until([&] { return client && server; }, 60s));
}

TEST_F(SimNetwork, AKilledProcessEndsItsConnectionsAndRefusesNewOnes) {
  make(12);
  ASSERT_NO_FATAL_FAILURE(establish());
  client->keep_receiving = true;
  client->stream->receive();
  b->crash(Crash::process);
  listener.reset();
  server.reset();
  ASSERT_TRUE(world->run_until([&] { return !client->received.empty(); }, 60s));
  EXPECT_LE(client->received.back(), 0);
  connect();
  ASSERT_TRUE(world->run_until([&] { return error.has_value(); }, 60s));
  EXPECT_EQ(error->os_errno, ECONNREFUSED);
  error.reset();
  loop_b = &b->add_loop();
  listen();
  connect();
  ASSERT_TRUE(world->run_until([&] { return server != nullptr; }, 60s));
}

TEST_F(SimNetwork, AHostWithoutPowerIsSilentUntilItIsBack) {
  make(13);
  ASSERT_NO_FATAL_FAILURE(establish());
  client->stream->receive();
  b->crash(Crash::power);
  listener.reset();
  server.reset();
  client->out = pattern(10);
  client->send_rest();
  world->run_for(5s);
  EXPECT_TRUE(client->received.empty());
  loop_b = &b->add_loop();
  ASSERT_TRUE(world->run_until([&] { return !client->received.empty(); }, 60s));
  EXPECT_EQ(client->received[0], -ECONNRESET);  // the restarted machine knows nothing of the connection
}

TEST_F(SimNetwork, AnIdleConnectionToADeadHostIsFoundByKeepalive) {
  make(13);
  ASSERT_NO_FATAL_FAILURE(establish());
  client->stream->receive();
  b->crash(Crash::power);
  listener.reset();
  server.reset();
  ASSERT_TRUE(world->run_until([&] { return !client->received.empty(); }, 100s));
  EXPECT_EQ(client->received[0], -ETIMEDOUT);
}

TEST_F(SimNetwork, AGhostEndsInOrderAndIsNotHeardOutside) {
  make(14);
  ASSERT_NO_FATAL_FAILURE(establish());
  server->stream->receive();
  client->keep_receiving = true;
  client->stream->receive();
  b->crash(Crash::process, Aftermath::wind_down);
  EXPECT_TRUE(loop_b->ghost());
  ASSERT_TRUE(world->run_until([&] { return !server->received.empty(); }, 60s));
  EXPECT_EQ(server->received[0], -ECONNRESET);
  server->out = pattern(100);
  server->send_rest();
  ASSERT_TRUE(world->run_until([&] { return !server->sent.empty(); }, 60s));
  EXPECT_EQ(server->sent[0], -ECONNRESET);
  EXPECT_FALSE(loop_b->listen(*Endpoint::parse("10.0.0.2:99", 0), {}, *this));
  server->stream->close();
  ASSERT_TRUE(world->run_until([&] { return server->closed == 1; }, 60s));
  world->run_for(10s);
  EXPECT_TRUE(client->in.empty());
  ASSERT_FALSE(client->received.empty());
  EXPECT_LE(client->received.back(), 0);
  loop_b->die();
}

TEST_F(SimNetwork, AStreamGoesToAnotherLoopOfItsHostWithWhatCameMeanwhile) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    make(seed);
    SimLoop& other = b->add_loop();
    establish();
    client->out = pattern(30000);
    loop_a->post([&] { client->send_rest(); });
    std::unique_ptr<runtime::DetachedStream> detached;
    loop_b->post([&] {
      detached = server->stream->release();
      server->stream.reset();
    });
    ASSERT_TRUE(world->run_until([&] { return detached != nullptr; }, 1s));
    world->run_for(1s);  // bytes come while nobody has the stream
    std::unique_ptr<Peer> adopted;
    other.post([&] {
      adopted = std::make_unique<Peer>(other.adopt(std::move(detached)));
      adopted->keep_receiving = true;
      adopted->stream->receive();
    });
    ASSERT_TRUE(world->run_until([&] { return adopted && adopted->in.size() == client->out.size(); }, 60s))
        << seed;
    EXPECT_EQ(adopted->in, client->out);
    EXPECT_EQ(adopted->stream->peer(), client->stream->local());
    loop_b->stop();  // the loop that it came from has no part in it any more
    adopted->out = pattern(20000);
    client->keep_receiving = true;
    other.post([&] { adopted->send_rest(); });
    loop_a->post([&] { client->stream->receive(); });
    ASSERT_TRUE(world->run_until([&] { return client->in.size() == adopted->out.size(); }, 60s)) << seed;
    b->crash(Crash::process);
    adopted.reset();
  }
}

TEST_F(SimNetwork, AStreamThatNobodyAdoptsIsClosed) {
  make(7);
  establish();
  client->keep_receiving = true;
  loop_a->post([&] { client->stream->receive(); });
  loop_b->post([&] {
    const auto detached = server->stream->release();
    server->stream.reset();
  });
  ASSERT_TRUE(world->run_until([&] { return !client->received.empty(); }, 60s));
  EXPECT_EQ(client->received.back(), 0);
}

TEST_F(SimNetwork, AStreamThatIsAdoptedAfterTheCrashOfItsHostIsReset) {
  make(8);
  SimLoop& other = b->add_loop();
  establish();
  std::unique_ptr<runtime::DetachedStream> detached;
  loop_b->post([&] {
    detached = server->stream->release();
    server->stream.reset();
  });
  ASSERT_TRUE(world->run_until([&] { return detached != nullptr; }, 1s));
  b->crash(Crash::process, Aftermath::wind_down);
  std::unique_ptr<Peer> adopted;
  other.post([&] {
    adopted = std::make_unique<Peer>(other.adopt(std::move(detached)));
    adopted->stream->receive();
  });
  ASSERT_TRUE(world->run_until([&] { return adopted && !adopted->received.empty(); }, 60s));
  EXPECT_EQ(adopted->received.front(), -ECONNRESET);
  other.post([&] { adopted->stream->close(); });
  ASSERT_TRUE(world->run_until([&] { return adopted->closed == 1; }, 60s));
}

TEST_F(SimNetwork, ASeedRepeatsItself) {
  const auto hash = [this](std::uint64_t seed) {
    WorldOptions options;
    options.network.reset_per_million_segments = 2000;
    make(seed, options);
    establish();
    client->out = pattern(200'000);
    client->send_rest();
    server->keep_receiving = true;
    server->stream->receive();
    world->run_for(30s);
    return world->trace_hash();
  };
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    const auto first = hash(seed);
    EXPECT_EQ(first, hash(seed));
    EXPECT_NE(first, hash(seed + 1000));
  }
}

}  // namespace
}  // namespace perilune::sim
