// SPDX-License-Identifier: Apache-2.0
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <thread>

#include "runtime/native/native_test_support.hpp"

namespace perilune::runtime {
namespace {

class NativeStreamTest : public StreamPair<LoopTest> {};
PERILUNE_EVERY_RUNTIME(NativeStreamTest);

TEST_P(NativeStreamTest, CarriesBytesBothWaysAndKnowsItsEndpoints) {
  connect_pair();
  EXPECT_EQ(client().stream().peer(), listener->local());
  EXPECT_EQ(client().stream().local(), server().stream().peer());
  EXPECT_EQ(server().stream().local(), listener->local());
  server().stream().receive();
  client().send("ping");
  run_until([&] { return server().receives == 1 && client().sends == 1; });
  EXPECT_EQ(server().received, "ping");
  EXPECT_EQ(client().last_sent, 4);
  client().stream().receive();
  server().send("pong!");
  run_until([&] { return client().receives == 1; });
  EXPECT_EQ(client().received, "pong!");
  EXPECT_TRUE(notices.empty()) << notices.front();
}

TEST_P(NativeStreamTest, WhatIsHandedOverIsOnItsWayBeforeTheTurnEnds) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()), 0);
  End end(*loop);
  end.take(loop->adopt_socket(ends[0]));
  std::string seen;
  loop->post([&] {
    end.send("early");
    loop->hand_over();
    std::array<char, 16> buffer{};
    const ssize_t n = ::recv(ends[1], buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (n > 0) seen.assign(buffer.data(), static_cast<std::size_t>(n));
    EXPECT_EQ(end.sends, 0) << "callbacks come from later turns";
  });
  run_until([&] { return end.sends == 1; });
  EXPECT_EQ(seen, "early");
  EXPECT_EQ(end.last_sent, 5);
  end.stream().close();
  run_until([&] { return end.closes == 1; });
  ::close(ends[1]);
}

TEST_P(NativeStreamTest, EndOfFileAfterShutdownLeavesTheOtherDirectionOpen) {
  connect_pair();
  server().keep_receiving = true;
  server().stream().receive();
  client().send("last words");
  client().stream().shutdown_send();  // after the send that is still under way
  run_until([&] { return server().last_result == 0; });
  EXPECT_EQ(server().received, "last words");
  client().stream().receive();
  server().send("heard");
  run_until([&] { return client().receives == 1; });
  EXPECT_EQ(client().received, "heard");
}

TEST_P(NativeStreamTest, GoesToAnotherLoopWithWhatCameMeanwhile) {
  connect_pair();
  // Enough operations that a ring has registered the descriptor, which leaves it.
  server().keep_receiving = true;
  server().stream().receive();
  for (int i = 0; i < 40; ++i) {
    client().send("x");
    run_until([&, wanted = i + 1] {
      return server().received.size() == static_cast<std::size_t>(wanted) && client().sends == wanted;
    });
  }
  server().keep_receiving = false;
  client().send("y");
  run_until([&] { return server().received.size() == 41; });
  auto detached = server().release();
  client().send("while nobody has it");
  run_until([&] { return client().sends == 42; });

  auto made = make_native_loop(GetParam(), {});
  ASSERT_TRUE(made) << made.error().message;
  ThreadLoop& other = **made;
  End adopted(other);
  adopted.take(other.adopt(std::move(detached)));
  EXPECT_EQ(adopted.stream().peer(), client().stream().local());
  EXPECT_EQ(adopted.stream().local(), client().stream().peer());
  adopted.stream().receive();
  std::thread thread([&] {
    while (adopted.receives == 0) other.run();
    adopted.send("thank you");
    while (adopted.sends == 0) other.run();
    adopted.stream().close();
    while (adopted.open()) other.run();
  });
  client().stream().receive();
  run_until([&] { return client().receives == 1; });
  thread.join();
  EXPECT_EQ(adopted.received, "while nobody has it");
  EXPECT_EQ(client().received, "thank you");
}

TEST_P(NativeStreamTest, IsClosedWhenNobodyAdoptsIt) {
  connect_pair();
  client().stream().receive();
  server().release().reset();
  run_until([&] { return client().receives == 1; });
  EXPECT_EQ(client().last_result, 0);
}

TEST_P(NativeStreamTest, CloseCancelsWhatIsOutstandingAndReportsOnceFromALaterTurn) {
  connect_pair();
  client().stream().receive();
  std::string big(64 << 20, 'x');  // more than the socket buffers hold: the send stays outstanding
  client().send(std::move(big));
  turn();
  ASSERT_EQ(client().sends, 0);
  client().stream().close();
  client().stream().close();
  EXPECT_EQ(client().closes, 0);
  run_until([&] { return client().closes > 0; });
  EXPECT_EQ(client().last_result, -ECANCELED);
  EXPECT_EQ(client().last_sent, -ECANCELED);
  EXPECT_EQ(client().receives, 1);
  EXPECT_EQ(client().sends, 1);
  turn();
  EXPECT_EQ(client().closes, 1);
}

TEST_P(NativeStreamTest, CloseWithoutOperationsReportsFromALaterTurn) {
  connect_pair();
  client().stream().close();
  EXPECT_EQ(client().closes, 0);
  run_until([&] { return client().closes == 1; });
}

TEST_P(NativeStreamTest, CloseFromInsideACallback) {
  connect_pair();
  server().on_data = [&](int, Bytes) { server().stream().close(); };
  server().stream().receive();
  client().send("x");
  run_until([&] { return server().closes == 1; });
  EXPECT_EQ(server().receives, 1);
}

TEST_P(NativeStreamTest, PeerThatClosesIsEndOfFile) {
  connect_pair();
  server().stream().receive();
  client().stream().close();
  run_until([&] { return server().receives == 1; });
  EXPECT_EQ(server().last_result, 0);
}

TEST_P(NativeStreamTest, WaitAllEndsOnlyWithEveryByteInEveryVector) {
  connect_pair();
  std::string a(3, '-'), b(5, '-'), c(4, '-');
  const iovec iov[] = {{a.data(), a.size()}, {b.data(), b.size()}, {c.data(), c.size()}};
  server().stream().receive_into(iov, true);
  client().send("abcde");
  run_until([&] { return client().sends == 1; });
  EXPECT_EQ(server().receives, 0);
  client().send("fghijkl");
  run_until([&] { return server().receives == 1; });
  EXPECT_EQ(server().last_result, 12);
  EXPECT_EQ(a + b + c, "abcdefghijkl");
  EXPECT_EQ(server().received, "");  // it lies in the caller's memory
}

TEST_P(NativeStreamTest, WaitAllIntoOneVectorEndsEarlyWithTheStream) {
  connect_pair();
  std::string a(10, '-');
  const iovec iov{a.data(), a.size()};
  server().stream().receive_into({&iov, 1}, true);
  client().send("abc");
  client().stream().shutdown_send();
  run_until([&] { return server().receives == 1; });
  EXPECT_EQ(server().last_result, 3);
  EXPECT_EQ(a, "abc-------");
}

TEST_P(NativeStreamTest, GathersManyVectorsIntoOneSend) {
  connect_pair();
  std::vector<std::string> parts;
  std::string all;
  for (int i = 0; i < 1000; ++i) {
    parts.push_back(std::to_string(i) + ",");
    all += parts.back();
  }
  std::vector<iovec> iov;
  for (auto& part : parts) iov.push_back({part.data(), part.size()});
  server().keep_receiving = true;
  server().stream().receive();
  client().stream().send(iov);
  run_until([&] { return client().sends == 1 && server().received.size() == all.size(); });
  EXPECT_EQ(client().last_sent, static_cast<int>(all.size()));
  EXPECT_EQ(server().received, all);
}

TEST_P(NativeStreamTest, LargeSendIsWaitedForInOnePiece) {
  connect_pair();
  std::string big(32 << 20, '\0');
  for (std::size_t i = 0; i < big.size(); ++i) big[i] = static_cast<char>(i * 2654435761U >> 24);
  const std::string copy = big;
  server().keep_receiving = true;
  server().stream().receive();
  client().send(std::move(big));
  run_until([&] { return server().received.size() == copy.size() && client().sends == 1; });
  EXPECT_EQ(client().last_sent, static_cast<int>(copy.size()));
  EXPECT_TRUE(server().received == copy);
}

TEST_P(NativeStreamTest, SendsAtOnceWhatThereIsRoomFor) {
  connect_pair();
  const std::string bytes(1 << 20, 'n');
  const iovec iov{const_cast<char*>(bytes.data()), bytes.size()};
  std::size_t taken = 0;
  for (;;) {
    const int now = client().stream().send_now({&iov, 1});
    ASSERT_GE(now, 0);
    if (now == 0) break;
    taken += static_cast<std::size_t>(now);
  }
  ASSERT_GT(taken, 0U);
  client().send("behind");  // waits for room
  server().keep_receiving = true;
  server().stream().receive();
  run_until([&] { return client().sends == 1 && server().received.size() == taken + 6; });
  EXPECT_EQ(client().last_sent, 6);
  EXPECT_EQ(server().received, std::string(taken, 'n') + "behind");
}

TEST_P(NativeStreamTest, SendingAtOnceToWhoIsGoneIsAnError) {
  connect_pair();
  server().stream().close();
  run_until([&] { return server().closes == 1; });
  const iovec iov{const_cast<char*>("x"), 1};
  int result = 0;
  for (int i = 0; i < 5000 && result >= 0; ++i) {  // the answer to the first says so
    result = client().stream().send_now({&iov, 1});
    if (result >= 0) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_TRUE(result == -EPIPE || result == -ECONNRESET) << result;
}

TEST_P(NativeStreamTest, EchoOfManyStreamsOverSmallReceiveBuffers) {
  LoopOptions options;
  options.receive_buffer_bytes = 4096;
  make(options);
  if (!loop) return;
  listen();
  accepting->then = [](End& end) {
    end.on_data = [&end](int result, Bytes data) {
      if (result > 0) end.send(std::string(as_text(data)));
    };
    end.on_send_done = [&end](int) { end.stream().receive(); };
    end.stream().receive();
  };
  constexpr std::size_t streams = 100;
  constexpr int rounds = 20;
  std::vector<std::unique_ptr<Calling>> callers;
  std::vector<std::unique_ptr<Connecting>> attempts;
  std::size_t finished = 0;
  for (std::size_t i = 0; i < streams; ++i) {
    auto caller = std::make_unique<Calling>(*loop);
    Calling* c = caller.get();
    const std::string word = "stream " + std::to_string(i) + ";";
    c->then = [c, word] {
      c->end.stream().receive();
      c->end.send(word);
    };
    c->end.on_data = [c, word, &finished](int result, Bytes) {
      ASSERT_GT(result, 0);
      if (c->end.received.size() == word.size() * rounds) ++finished;
      c->end.stream().receive();
      if (c->end.received.size() < word.size() * rounds) c->end.send(word);
    };
    attempts.push_back(loop->connect(listener->local(), {}, *c));
    callers.push_back(std::move(caller));
  }
  run_until([&] { return finished == streams; });
  for (std::size_t i = 0; i < streams; ++i) {
    std::string expected;
    for (int r = 0; r < rounds; ++r) expected += "stream " + std::to_string(i) + ";";
    EXPECT_EQ(callers[i]->end.received, expected);
    callers[i]->end.on_data = nullptr;
    callers[i]->end.stream().close();
  }
  for (auto& end : accepting->accepted) {
    end->on_data = nullptr;
    end->on_send_done = nullptr;
  }
  run_until([&] {
    for (auto& caller : callers) {
      if (caller->end.open()) return false;
    }
    return true;
  });
}

TEST_P(NativeStreamTest, RefusedConnectionIsAnErrorWithTheAddress) {
  listen();
  const Endpoint gone = listener->local();
  listener.reset();
  turn();
  calling = std::make_unique<Calling>(*loop);
  connecting = loop->connect(gone, {}, *calling);
  EXPECT_EQ(calling->calls, 0);
  run_until([&] { return calling->calls == 1; });
  EXPECT_EQ(calling->error.code, Errc::connection);
  EXPECT_NE(calling->error.message.find(gone.to_string()), std::string::npos);
}

TEST_P(NativeStreamTest, AbandonedConnectionAttemptCallsNobody) {
  listen();
  call();
  connecting.reset();
  turn();
  turn();
  EXPECT_EQ(calling->calls, 0);
}

TEST_P(NativeStreamTest, BindAddressThatIsNotOursIsAnErrorFromALaterTurn) {
  listen();
  SocketOptions options;
  options.bind_address = *Endpoint::parse("192.0.2.1", 0);
  call(options);
  EXPECT_EQ(calling->calls, 0);
  run_until([&] { return calling->calls == 1; });
  EXPECT_EQ(calling->error.os_errno, EADDRNOTAVAIL);
}

TEST_P(NativeStreamTest, BindAddressIsTheLocalAddress) {
  SocketOptions options;
  options.bind_address = *Endpoint::parse("127.0.0.9", 0);
  connect_pair(options);
  EXPECT_EQ(server().stream().peer().address_string(), "127.0.0.9");
}

TEST_P(NativeStreamTest, BusyPortIsBusyAndAFreedPortIsFree) {
  listen();
  Accepting second(*loop);
  const Endpoint where = listener->local();
  auto busy = loop->listen(where, {}, second);
  ASSERT_FALSE(busy);
  EXPECT_EQ(busy.error().code, Errc::busy);
  listener.reset();
  auto free = loop->listen(where, {}, second);
  EXPECT_TRUE(free) << free.error().message;
}

TEST_P(NativeStreamTest, ListensOnIpv6AndFillsWildcardLocalAddresses) {
  accepting = std::make_unique<Accepting>(*loop);
  auto made = loop->listen(*Endpoint::parse("[::]:0", 0), {}, *accepting);
  if (!made) GTEST_SKIP() << made.error().message;
  listener = std::move(*made);
  calling = std::make_unique<Calling>(*loop);
  connecting = loop->connect(*Endpoint::parse("::1", listener->local().port), {}, *calling);
  run_until([&] { return calling->calls == 1 && (accepting->accepted.size() == 1 || !client().open()); });
  if (!client().open()) GTEST_SKIP() << calling->error.message;
  EXPECT_EQ(server().stream().local().address_string(), "::1");
}

TEST_P(NativeStreamTest, UnknownCongestionControlIsIgnored) {
  SocketOptions options;
  options.congestion_control = "no-such-algorithm";
  connect_pair(options);
  EXPECT_TRUE(client().open());
}

TEST_P(NativeStreamTest, ListenerOutOfDescriptorsPausesAndGoesOn) {
  connect_pair();  // once in the ordinary way: a sanitizer needs descriptors where it meets a type for the
                   // first time
  close_all();
  listen();
  rlimit old{};
  ::getrlimit(RLIMIT_NOFILE, &old);
  const int highest = ::dup(0);
  ASSERT_GE(highest, 0);
  call();  // the client has its descriptor; the server's would be `highest` after the close below, but for
           // the limit
  ::close(highest);
  rlimit low = old;
  low.rlim_cur = static_cast<rlim_t>(highest);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &low), 0);
  run_until([&] { return !notices.empty() || accepting->accepted.size() == 1; });
  ::setrlimit(RLIMIT_NOFILE, &old);
  EXPECT_EQ(accepting->accepted.size(), 0U);
  run_until([&] { return accepting->accepted.size() == 1; });
}

TEST_P(NativeStreamTest, ListenerMayBeDestroyedInItsOwnCallback) {
  listen();
  accepting->then = [&](End&) { listener.reset(); };
  call();
  run_until([&] { return calling->calls == 1 && accepting->accepted.size() == 1; });
  EXPECT_EQ(listener, nullptr);
}

}  // namespace
}  // namespace perilune::runtime
