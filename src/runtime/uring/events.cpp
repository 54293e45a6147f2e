// SPDX-License-Identifier: Apache-2.0
// Accepting, connecting and watching: Loop's listen(), connect() and watch_readable().
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstddef>
#include <cstring>
#include <optional>
#include <string>

#include "runtime/posix/detached_socket.hpp"
#include "runtime/posix/sockets.hpp"
#include "runtime/uring/event.hpp"
#include "runtime/uring/reactor.hpp"
#include "runtime/uring/stream.hpp"

namespace perilune::runtime::uring {

using posix::local_endpoint;
using posix::peer_endpoint;

namespace {

constexpr Duration accept_pause = std::chrono::milliseconds(100);

class Acceptor final : public Event {
 public:
  Acceptor(Reactor& reactor, posix::UniqueFd fd, AcceptHandler& handler)
      : Event(reactor.ring()),
        reactor_(reactor),
        fd_(std::move(fd)),
        handler_(handler),
        pause_(reactor.timers(), Delegate<void()>::to<&Acceptor::start>(*this)),
        local_(local_endpoint(fd_.get())) {
    reactor.keep(*this);
  }
  void start() {
    io_uring_sqe& sqe = arm();
    io_uring_prep_multishot_accept(&sqe, fd_.get(), nullptr, nullptr, SOCK_CLOEXEC);
  }
  [[nodiscard]] const Endpoint& local() const noexcept { return local_; }

 private:
  void on_event(int result, unsigned flags) override {
    if (result >= 0) accept(posix::UniqueFd(result));
    if (abandoned() || (flags & IORING_CQE_F_MORE) != 0) return;
    // Ended. Out of descriptors or memory: wait until somebody has closed some; what came waits in the
    // backlog.
    const bool exhausted = result == -EMFILE || result == -ENFILE || result == -ENOBUFS || result == -ENOMEM;
    const bool transient = result >= 0 || result == -ECONNABORTED || result == -EINTR || result == -EAGAIN;
    if (exhausted) reactor_.notice("accept: out of file descriptors or memory; pausing");
    if (transient) start();
    else pause_.arm(reactor_.now() + accept_pause);
  }
  void accept(posix::UniqueFd fd) {
    if (abandoned()) return;
    const Endpoint local = local_.is_wildcard() ? local_endpoint(fd.get()) : local_;
    const Endpoint peer = peer_endpoint(fd.get());
    handler_.on_accepted(std::make_unique<UringStream>(reactor_, std::move(fd), local, peer));
  }
  void on_abandoned() override {
    pause_.cancel();
    // The port is free at once, although the accept in the kernel still holds the socket for a moment.
    ::shutdown(fd_.get(), SHUT_RDWR);
  }

  Reactor& reactor_;
  posix::UniqueFd fd_;
  AcceptHandler& handler_;
  Timer pause_;
  Endpoint local_;
};

class UringListener final : public Listener {
 public:
  explicit UringListener(EventPtr<Acceptor> acceptor) : acceptor_(std::move(acceptor)) {}
  [[nodiscard]] const Endpoint& local() const override { return acceptor_->local(); }

 private:
  EventPtr<Acceptor> acceptor_;
};

class Connector final : public Event, public Deferred {
 public:
  Connector(Reactor& reactor, const Endpoint& peer, ConnectHandler& handler)
      : Event(reactor.ring()),
        reactor_(reactor),
        peer_(peer),
        address_(posix::to_socket_address(peer)),
        handler_(handler) {
    reactor.keep(*this);
  }
  void start(const SocketOptions& options) {
    auto fd = posix::make_caller(peer_, options, posix::Waiting::blocking);
    if (!fd) return fail_later(std::move(fd.error()));
    fd_ = std::move(*fd);
    io_uring_sqe& sqe = arm();
    io_uring_prep_connect(&sqe, fd_.get(), address_.get(), address_.length);
  }

 private:
  void fail_later(Error error) {
    error_ = std::move(error);
    reactor_.defer(*this);
  }
  void on_turn() override {
    handler_.on_connected(tl::unexpected(std::move(*error_)));
  }  // may destroy this object
  void on_event(int result, unsigned) override {
    if (abandoned()) return;
    if (result < 0) {
      handler_.on_connected(fail_errno(-result, "connect to " + peer_.to_string()));
      return;
    }
    const Endpoint local = local_endpoint(fd_.get());
    handler_.on_connected(std::make_unique<UringStream>(reactor_, std::move(fd_), local, peer_));
  }
  void on_abandoned() override { ListNode<Deferred>::unlink(); }

  Reactor& reactor_;
  Endpoint peer_;
  posix::SocketAddress address_;
  ConnectHandler& handler_;
  posix::UniqueFd fd_;
  std::optional<Error> error_;
};

class UringConnecting final : public Connecting {
 public:
  explicit UringConnecting(EventPtr<Connector> connector) : connector_(std::move(connector)) {}

 private:
  EventPtr<Connector> connector_;
};

class Watcher final : public Event {
 public:
  Watcher(Reactor& reactor, int fd, Delegate<void()> ready) : Event(reactor.ring()), fd_(fd), ready_(ready) {
    reactor.keep(*this);
  }
  void start() {
    // One-shot and armed again after each callback: that is what makes it level-triggered.
    io_uring_sqe& sqe = arm();
    io_uring_prep_poll_add(&sqe, fd_, POLLIN);
  }

 private:
  void on_event(int result, unsigned) override {
    if (abandoned()) return;
    ready_();
    // A negative result (a bad descriptor) would repeat for ever: the callback has been told once.
    if (!abandoned() && result >= 0) start();
  }
  int fd_;
  Delegate<void()> ready_;
};

class UringWatch final : public FdWatch {
 public:
  explicit UringWatch(EventPtr<Watcher> watcher) : watcher_(std::move(watcher)) {}

 private:
  EventPtr<Watcher> watcher_;
};

}  // namespace

Result<std::unique_ptr<Listener>> Reactor::listen(const Endpoint& local, const SocketOptions& options,
                                                  AcceptHandler& handler) {
  auto fd = posix::make_listener(local, options, posix::Waiting::blocking, options_.access);
  if (!fd) return tl::unexpected(std::move(fd.error()));
  EventPtr<Acceptor> acceptor(new Acceptor(*this, std::move(*fd), handler));
  acceptor->start();
  return std::make_unique<UringListener>(std::move(acceptor));
}

std::unique_ptr<Connecting> Reactor::connect(const Endpoint& peer, const SocketOptions& options,
                                             ConnectHandler& handler) {
  EventPtr<Connector> connector(new Connector(*this, peer, handler));
  connector->start(options);
  return std::make_unique<UringConnecting>(std::move(connector));
}

std::unique_ptr<Stream> Reactor::adopt(std::unique_ptr<DetachedStream> detached) {
  auto& from = static_cast<posix::DetachedSocket&>(*detached);  // the contract: of a loop of the same kind
  return std::make_unique<UringStream>(*this, std::move(from.fd), from.local, from.peer);
}

std::unique_ptr<Stream> Reactor::adopt_socket(int fd) {
  posix::set_waiting(fd, posix::Waiting::blocking);
  return std::make_unique<UringStream>(*this, posix::UniqueFd(fd), Endpoint(), Endpoint());
}

bool Reactor::submit(DeviceCommand& command) {
  if (!options_.device_commands) return false;
  io_uring_sqe& sqe = ring_->entry(Kind::command, &command);
  io_uring_prep_rw(IORING_OP_URING_CMD, &sqe, command.fd, nullptr, 0, 0);
  sqe.cmd_op = command.operation;
  std::memcpy(reinterpret_cast<std::uint8_t*>(&sqe) + offsetof(io_uring_sqe, cmd), command.argument.data(),
              command.argument.size());
  trace_prepared("URING_CMD", sqe.user_data);
  return true;
}

void Reactor::cancel(DeviceCommand& command) { ring_->cancel(Kind::command, &command); }

std::unique_ptr<FdWatch> Reactor::watch_readable(int fd, Delegate<void()> ready) {
  EventPtr<Watcher> watcher(new Watcher(*this, fd, ready));
  watcher->start();
  return std::make_unique<UringWatch>(std::move(watcher));
}

}  // namespace perilune::runtime::uring
