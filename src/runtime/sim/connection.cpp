// SPDX-License-Identifier: Apache-2.0
#include "runtime/sim/connection.hpp"

#include <algorithm>
#include <cerrno>

#include "runtime/sim/sim_host.hpp"
#include "runtime/sim/sim_stream.hpp"

namespace perilune::sim {

namespace {
constexpr Duration first_retry = std::chrono::milliseconds(200);  // Linux: TCP_RTO_MIN
constexpr Duration last_retry = std::chrono::seconds(3);
}  // namespace

Connection::Connection(Network& network, std::uint64_t id, const Place& client, const Place& server)
    : network_(network), world_(network.world()), id_(id), prng_(world_.prng().fork()) {
  sides_[0].place = client;
  sides_[1].place = server;
  make_pipe(pipes_[0]);
  make_pipe(pipes_[1]);
}

void Connection::make_pipe(Pipe& pipe) {
  static constexpr std::size_t segment_limits[] = {1448, 8948, 65536, 65536, 65536, 200};
  const NetworkOptions& options = world_.options().network;
  pipe.send_limit = std::size_t{4096} << prng_.below(9);
  pipe.window = std::size_t{4096} << prng_.below(9);
  pipe.segment_limit = segment_limits[prng_.below(std::size(segment_limits))];
  const std::uint64_t span = options.bandwidth_max_bytes_per_s - options.bandwidth_min_bytes_per_s;
  // Low bandwidths matter as much as high ones: choose the magnitude first.
  pipe.bandwidth_bytes_per_s = options.bandwidth_min_bytes_per_s + prng_.below((span >> prng_.below(10)) + 1);
  pipe.retry = first_retry;
}

void Connection::attach(int side, SimStream* stream, SimLoop& loop) noexcept {
  sides_[side].stream = stream;
  sides_[side].place.loop = &loop;
}

void Connection::set_options(int side, const runtime::SocketOptions& options) {
  sides_[side].user_timeout = options.user_timeout.count() > 0
                                  ? Duration(options.user_timeout)
                                  : world_.options().network.default_user_timeout;
  if (options.send_buffer_bytes > 0) {
    pipes_[side].send_limit =
        std::max<std::size_t>(2048, static_cast<std::size_t>(options.send_buffer_bytes));
  }
  if (options.receive_buffer_bytes > 0) {
    pipes_[1 - side].window =
        std::max<std::size_t>(2048, static_cast<std::size_t>(options.receive_buffer_bytes));
  }
}

std::size_t Connection::send_space(int side) const noexcept {
  const Pipe& pipe = pipes_[side];
  const std::size_t used = pipe.unsent.size() + pipe.flight_bytes;
  return used >= pipe.send_limit ? 0 : pipe.send_limit - used;
}

void Connection::read(int side, MutableBytes out) {
  pipes_[1 - side].arrived.take(out);
  pump(1 - side);  // the window has opened
}

void Connection::write(int side, Bytes bytes) { pipes_[side].unsent.append(bytes); }

bool Connection::reachable(int from) const {
  const SimHost& target = *sides_[1 - from].place.host;
  return target.powered() && !network_.is_cut(*sides_[from].place.host, target);
}

// Cuts what waits into segments and puts them on the line as far as the peer's window allows.
void Connection::pump(int side) {
  Pipe& pipe = pipes_[side];
  while (!pipe.unsent.empty()) {
    const std::size_t used = pipe.flight_bytes + pipe.arrived.size();
    if (used >= pipe.window) break;
    std::size_t size = std::min({pipe.unsent.size(), pipe.window - used, pipe.segment_limit});
    if (prng_.chance(1, 6)) size = prng_.below(size) + 1;
    put_on_line(side, size, false);
  }
  if (pipe.fin_queued && !pipe.fin_sent && pipe.unsent.empty()) {
    pipe.fin_sent = true;
    put_on_line(side, 0, true);
  }
  schedule_delivery(side);
}

void Connection::put_on_line(int side, std::size_t size, bool fin) {
  Pipe& pipe = pipes_[side];
  const auto wire_ns = static_cast<Duration::rep>(size * 1'000'000'000ULL / pipe.bandwidth_bytes_per_s);
  pipe.line_free = std::max(pipe.line_free, world_.now()) + Duration(wire_ns);
  const Duration latency = network_.latency(*sides_[0].place.host, *sides_[1].place.host, prng_);
  pipe.last_arrival = std::max(pipe.last_arrival, pipe.line_free + latency);
  pipe.flight_bytes += size;
  pipe.flight.push_back(Segment{pipe.unsent.take(size), fin, world_.now(), pipe.last_arrival});
}

void Connection::schedule_delivery(int side) {
  Pipe& pipe = pipes_[side];
  if (pipe.delivery_scheduled || pipe.flight.empty()) return;
  pipe.delivery_scheduled = true;
  const Duration delay = std::max(pipe.flight.front().arrival - world_.now(), Duration::zero());
  world_.at(delay, Event::network_deliver, id_ * 2 + static_cast<std::uint64_t>(side),
            [self = shared_from_this(), side] { self->deliver(side); });
}

void Connection::deliver(int side) {
  Pipe& pipe = pipes_[side];
  pipe.delivery_scheduled = false;
  if (pipe.flight.empty()) return;  // reset meanwhile
  if (!reachable(side)) {
    retry_later(side);
    return;
  }
  pipe.retry = first_retry;
  Segment segment = std::move(pipe.flight.front());
  pipe.flight.pop_front();
  pipe.flight_bytes -= segment.bytes.size();
  arrive(side, std::move(segment));
  if (prng_.per_million(world_.options().network.reset_per_million_segments)) reset();
  pump(side);
  if (sides_[side].stream != nullptr) sides_[side].stream->wake_send();
}

void Connection::arrive(int side, Segment segment) {
  Side& reader = sides_[1 - side];
  if (reader.closed || reader.error != 0) {
    // Nobody reads any more. A bare FIN for a socket that its owner closed is the ordinary end.
    if (!segment.bytes.empty() || reader.place.loop->dead()) send_reset(1 - side);
    return;
  }
  Pipe& pipe = pipes_[side];
  damage(pipe, segment);
  world_.note(Event::network_deliver, hash_bytes(segment.bytes));
  pipe.arrived.append(segment.bytes);
  if (segment.fin) pipe.fin_arrived = true;
  wake(1 - side);
}

// What TCP's checksum did not notice.
void Connection::damage(Pipe& pipe, Segment& segment) {
  const NetworkOptions& options = world_.options().network;
  const bool spared = pipe.arrived_bytes < options.flip_after_bytes;
  pipe.arrived_bytes += segment.bytes.size();
  if (spared || segment.bytes.empty() || !prng_.per_million(options.flip_per_million_segments)) return;
  segment.bytes[prng_.below(segment.bytes.size())] ^= static_cast<std::uint8_t>(1U << prng_.below(8));
}

// Nothing comes through: retransmit later, until the sender's patience ends.
void Connection::retry_later(int side) {
  Pipe& pipe = pipes_[side];
  if (world_.now() - pipe.flight.front().sent > sides_[side].user_timeout) {
    fail_side(side, -ETIMEDOUT);
    return;
  }
  pipe.delivery_scheduled = true;
  const Duration delay = pipe.retry + Duration(static_cast<Duration::rep>(prng_.below(1'000'000)));
  pipe.retry = std::min(pipe.retry * 2, last_retry);
  world_.at(delay, Event::network_retry, id_ * 2 + static_cast<std::uint64_t>(side),
            [self = shared_from_this(), side] { self->deliver(side); });
}

void Connection::shutdown_send(int side) {
  if (sides_[side].error != 0 || pipes_[side].fin_queued) return;
  pipes_[side].fin_queued = true;
  pump(side);
}

void Connection::close(int side) {
  Side& s = sides_[side];
  if (s.closed) return;
  s.closed = true;
  const bool unread = readable(side) != 0;
  pipes_[1 - side].arrived.clear();
  pump(1 - side);
  if (s.error != 0) return;
  if (unread) {  // RFC 1122 4.2.2.13: closing with data unread resets
    drop_outgoing(side);
    send_reset(side);
  } else {
    shutdown_send(side);
  }
}

void Connection::reset() {
  world_.note(Event::network_reset, id_);
  fail_side(0, -ECONNRESET);
  fail_side(1, -ECONNRESET);
}

void Connection::host_gone(int side, bool power) {
  Side& s = sides_[side];
  const bool was_open = !s.closed;
  s.closed = true;
  if (s.stream != nullptr) s.stream->sever();
  s.stream = nullptr;
  pipes_[1 - side].arrived.clear();
  if (power) {
    drop_outgoing(side);
    const Duration wait = world_.options().network.keepalive_time;
    world_.at(wait + wait / 4, Event::network_reset, id_,
              [self = shared_from_this(), side] { self->fail_side(1 - side, -ETIMEDOUT); });
  } else if (was_open && s.error == 0) {
    // The kernel closes for the dead process: orderly, or by reset when something was unread or by ill luck.
    if (prng_.coin()) {
      shutdown_send(side);
    } else {
      drop_outgoing(side);
      send_reset(side);
    }
  }
}

void Connection::drop_outgoing(int side) {
  Pipe& pipe = pipes_[side];
  pipe.unsent.clear();
  pipe.flight.clear();
  pipe.flight_bytes = 0;
  pipe.fin_queued = pipe.fin_sent = true;
}

void Connection::fail_side(int side, int error) {
  Side& s = sides_[side];
  if (s.error != 0) return;
  s.error = error;
  drop_outgoing(side);
  // What had arrived before the reset may or may not still be read.
  if (prng_.coin()) pipes_[1 - side].arrived.clear();
  wake(side);
}

void Connection::send_reset(int from) {
  const Duration delay = network_.latency(*sides_[0].place.host, *sides_[1].place.host, prng_);
  world_.at(delay, Event::network_reset, id_ * 2 + static_cast<std::uint64_t>(from),
            [self = shared_from_this(), from] {
              // A reset that a cut link swallows is not repeated: the next segment provokes another.
              if (self->reachable(from)) self->fail_side(1 - from, -ECONNRESET);
            });
}

void Connection::wake(int side) {
  if (sides_[side].stream == nullptr) return;
  sides_[side].stream->wake_receive();
  sides_[side].stream->wake_send();
}

}  // namespace perilune::sim
