// SPDX-License-Identifier: Apache-2.0
// A TCP connection as completions. At most one receive and one send are outstanding. Every method and
// callback runs on the loop's thread; a callback is never made from inside the call that started the
// operation.
#pragma once

#include <sys/uio.h>

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/bytes.hpp"
#include "base/result.hpp"
#include "runtime/endpoint.hpp"

namespace perilune::runtime {

class StreamHandler {
 public:
  virtual ~StreamHandler() = default;
  // A receive ended. result > 0: that many bytes; for receive() they are `data`, valid only during this call;
  // for receive_into() they are in the caller's memory and `data` is empty. 0: the peer closed its side. < 0:
  // -errno.
  virtual void on_received(int result, Bytes data) = 0;
  // A send ended: bytes taken (may be fewer than given: send the rest again) or -errno.
  virtual void on_sent(int result) = 0;
  // After close(): nothing is outstanding any more, the stream may be destroyed (also from inside this call).
  virtual void on_closed() = 0;
};

// A connection on its way from one loop to another: what Stream::release() gave up and Loop::adopt() takes.
// Any thread, one at a time. Destroying it closes the connection.
class DetachedStream {
 public:
  virtual ~DetachedStream() = default;
};

class Stream {
 public:
  virtual ~Stream() = default;  // precondition: on_closed() was called, or release()
  virtual void set_handler(StreamHandler& handler) = 0;
  // Receive into a buffer that the loop chooses when data is there, so that an idle connection holds none.
  virtual void receive() = 0;
  // Receive into the caller's memory (at most 64 iovecs, copied by the call; the memory stays put until the
  // callback). wait_all: complete only when every byte has come, or the stream ended.
  virtual void receive_into(std::span<const iovec> iov, bool wait_all) = 0;
  // The iovec array and the memory stay put until on_sent(). At most 1024 iovecs.
  virtual void send(std::span<const iovec> iov) = 0;
  // Sends what there is room for this moment, without a callback: bytes taken (0: none) or -errno. When it
  // returns nobody looks at the memory any more. Precondition: no send is outstanding.
  [[nodiscard]] virtual int send_now(std::span<const iovec> iov) = 0;
  // Ends both directions; outstanding operations complete with -ECANCELED, then on_closed() comes exactly
  // once, always from a later turn of the loop. Calling it again does nothing.
  virtual void close() = 0;
  // No more sending: the peer sees end of file after what was sent. Receiving goes on.
  virtual void shutdown_send() = 0;
  // Gives the connection up for a loop of the same kind. Precondition: nothing is outstanding, neither
  // close() nor shutdown_send() was called, no callback of this stream is on the stack. No callback comes any
  // more; the stream is good for nothing but to be destroyed.
  [[nodiscard]] virtual std::unique_ptr<DetachedStream> release() = 0;
  [[nodiscard]] virtual const Endpoint& local() const = 0;
  [[nodiscard]] virtual const Endpoint& peer() const = 0;
};

struct SocketOptions {
  std::string congestion_control = "cubic";  // TCP_CONGESTION; empty: the system's; one that is not there is
                                             // ignored
  bool no_delay = true;
  int send_buffer_bytes = 0;                 // 0: the system's
  int receive_buffer_bytes = 0;
  std::chrono::milliseconds user_timeout{0}; // TCP_USER_TIMEOUT; 0: the system's
  bool keepalive = true;
  std::optional<Endpoint> bind_address;      // connect only: the local address (port 0: any)
  bool address_may_come_later = false;       // listen only: this machine need not have the address yet
                                             // (IP_FREEBIND)
};

class AcceptHandler {
 public:
  virtual ~AcceptHandler() = default;
  virtual void on_accepted(std::unique_ptr<Stream> stream) = 0;
};

// Accepts until destroyed. Running out of descriptors pauses it for a while instead of spinning.
class Listener {
 public:
  virtual ~Listener() = default;
  [[nodiscard]] virtual const Endpoint& local() const = 0;  // with the port that was chosen
};

class ConnectHandler {
 public:
  virtual ~ConnectHandler() = default;
  virtual void on_connected(Result<std::unique_ptr<Stream>> stream) = 0;
};

// An attempt to connect; destroying it abandons the attempt (no callback will come).
class Connecting {
 public:
  virtual ~Connecting() = default;
};

}  // namespace perilune::runtime
