// SPDX-License-Identifier: Apache-2.0
// One simulated TCP connection: two sides, two pipes. Shared by its streams and by the events under way.
#pragma once

#include <deque>
#include <memory>

#include "runtime/sim/byte_queue.hpp"
#include "runtime/sim/network.hpp"
#include "runtime/stream.hpp"

namespace perilune::sim {

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  struct Place {
    SimLoop* loop = nullptr;
    SimHost* host = nullptr;
    runtime::Endpoint local;
  };

  Connection(Network& network, std::uint64_t id, const Place& client, const Place& server);

  // Sides are 0 (who connected) and 1 (who accepted).
  [[nodiscard]] std::uint64_t id() const noexcept { return id_; }
  [[nodiscard]] const Place& place(int side) const noexcept { return sides_[side].place; }
  void set_options(int side, const runtime::SocketOptions& options);
  void attach(int side, SimStream* stream, SimLoop& loop) noexcept;
  void detach(int side) noexcept { sides_[side].stream = nullptr; }
  [[nodiscard]] SimStream* stream(int side) const noexcept { return sides_[side].stream; }

  // 0, or the -errno with which this side's operations end.
  [[nodiscard]] int error(int side) const noexcept { return sides_[side].error; }
  [[nodiscard]] bool end_of_stream(int side) const noexcept { return pipes_[1 - side].fin_arrived; }
  [[nodiscard]] bool send_shut(int side) const noexcept { return pipes_[side].fin_queued; }
  [[nodiscard]] std::size_t readable(int side) const noexcept { return pipes_[1 - side].arrived.size(); }
  [[nodiscard]] std::size_t send_space(int side) const noexcept;
  void read(int side, MutableBytes out);
  void write(int side, Bytes bytes);
  void flush(int side) { pump(side); }  // after one or more write()s

  void shutdown_send(int side);
  void close(int side);  // by the application
  // Both sides fail with -ECONNRESET now, as a middle box does it.
  void reset();
  // This side's machine or process is gone. power: nobody tells the peer.
  void host_gone(int side, bool power);

 private:
  struct Segment {
    std::vector<std::uint8_t> bytes;
    bool fin = false;
    Instant sent;
    Instant arrival;
  };
  struct Pipe {  // written by side i, read by side 1 - i
    ByteQueue unsent;
    std::deque<Segment> flight;
    std::size_t flight_bytes = 0;
    ByteQueue arrived;
    std::size_t send_limit = 0;
    std::size_t window = 0;
    std::size_t segment_limit = 0;
    std::uint64_t bandwidth_bytes_per_s = 0;
    std::uint64_t arrived_bytes = 0;
    Instant line_free{};
    Instant last_arrival{};
    Duration retry{};
    bool delivery_scheduled = false;
    bool fin_queued = false;
    bool fin_sent = false;
    bool fin_arrived = false;
  };
  struct Side {
    Place place;
    SimStream* stream = nullptr;
    Duration user_timeout{};
    int error = 0;
    bool closed = false;  // the application has closed it, or its process is gone
  };

  void make_pipe(Pipe& pipe);
  void pump(int side);
  void put_on_line(int side, std::size_t size, bool fin);
  void schedule_delivery(int side);
  void deliver(int side);
  void arrive(int side, Segment segment);
  void damage(Pipe& pipe, Segment& segment);
  void retry_later(int side);
  void fail_side(int side, int error);
  void send_reset(int from);
  void drop_outgoing(int side);
  void wake(int side);
  [[nodiscard]] bool reachable(int from) const;

  Network& network_;
  World& world_;
  std::uint64_t id_;
  Prng prng_;
  Side sides_[2];
  Pipe pipes_[2];
};

}  // namespace perilune::sim
