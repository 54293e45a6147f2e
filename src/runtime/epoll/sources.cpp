// SPDX-License-Identifier: Apache-2.0
// Accepting, connecting and watching: Loop's listen(), connect() and watch_readable().
#include <fcntl.h>
#include <sys/socket.h>

#include <cerrno>
#include <optional>
#include <string>

#include "runtime/epoll/reactor.hpp"
#include "runtime/epoll/stream.hpp"
#include "runtime/posix/detached_socket.hpp"
#include "runtime/posix/sockets.hpp"

namespace perilune::runtime::epoll {
namespace {

using posix::local_endpoint;
using posix::peer_endpoint;

constexpr Duration accept_pause = std::chrono::milliseconds(100);
constexpr int accepts_per_turn = 64;

// Tells a function that calls back whether its object has lived through the callback.
class Lifeline {
 public:
  ~Lifeline() {
    if (gone_ != nullptr) *gone_ = true;
  }
  // False when the object of this lifeline died in `call`.
  template <class Call>
  [[nodiscard]] bool survives(Call call) {
    bool gone = false;
    gone_ = &gone;
    call();
    if (!gone) gone_ = nullptr;
    return !gone;
  }

 private:
  bool* gone_ = nullptr;
};

class EpollListener final : public Listener, public Source {
 public:
  EpollListener(Reactor& reactor, posix::UniqueFd fd, AcceptHandler& handler)
      : reactor_(reactor),
        fd_(std::move(fd)),
        handler_(handler),
        pause_(reactor.timers(), Delegate<void()>::to<&EpollListener::go_on>(*this)),
        local_(local_endpoint(fd_.get())) {}
  ~EpollListener() override {
    if (watched_) reactor_.poller().remove(fd_.get(), token_);
  }
  [[nodiscard]] Status start() {
    const int result = reactor_.poller().add(fd_.get(), EPOLLIN, *this, token_);
    if (result != 0) return fail_errno(-result, "epoll: listen");
    watched_ = true;
    return {};
  }
  [[nodiscard]] const Endpoint& local() const override { return local_; }

  void on_ready(std::uint32_t) override {
    reactor_.note_useful();
    for (int i = 0; i < accepts_per_turn; ++i) {  // level-triggered: what is left comes in the next turn
      posix::UniqueFd fd(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (!fd) return stop_accepting(errno);
      const Endpoint local = local_.is_wildcard() ? local_endpoint(fd.get()) : local_;
      auto stream = std::make_unique<EpollStream>(reactor_, std::move(fd), local, peer_endpoint(fd.get()));
      if (!life_.survives([&] { handler_.on_accepted(std::move(stream)); })) return;
    }
  }

 private:
  void stop_accepting(int error) {
    if (error == EAGAIN || error == EWOULDBLOCK || error == EINTR || error == ECONNABORTED) return;
    // Out of descriptors or memory: wait until somebody has closed some; what came waits in the backlog.
    const bool exhausted = error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
    if (exhausted) reactor_.notice("accept: out of file descriptors or memory; pausing");
    reactor_.poller().modify(fd_.get(), 0, token_);
    pause_.arm(reactor_.now() + accept_pause);
  }
  void go_on() { reactor_.poller().modify(fd_.get(), EPOLLIN, token_); }

  Reactor& reactor_;
  posix::UniqueFd fd_;
  AcceptHandler& handler_;
  Timer pause_;
  Endpoint local_;
  Poller::Token token_ = 0;
  bool watched_ = false;
  Lifeline life_;
};

class EpollConnecting final : public Connecting, public Source {
 public:
  EpollConnecting(Reactor& reactor, const Endpoint& peer, ConnectHandler& handler)
      : reactor_(reactor),
        peer_(peer),
        handler_(handler),
        end_(Delegate<void()>::to<&EpollConnecting::finish>(*this)) {}
  ~EpollConnecting() override { unwatch(); }

  void start(const SocketOptions& options) {
    auto fd = posix::make_caller(peer_, options, posix::Waiting::non_blocking);
    if (!fd) {
      error_ = std::move(fd.error());
      return reactor_.defer(end_);
    }
    fd_ = std::move(*fd);
    posix::SocketAddress address = posix::to_socket_address(peer_);
    // A connection to this machine may be there at once; the handler hears of it from a later turn all the
    // same.
    if (::connect(fd_.get(), address.get(), address.length) == 0) return reactor_.defer(end_);
    if (errno != EINPROGRESS) return fail_later(errno);
    const int result = reactor_.poller().add(fd_.get(), EPOLLOUT, *this, token_);
    if (result != 0) return fail_later(-result);
    watched_ = true;
  }

  void on_ready(std::uint32_t) override {
    int error = 0;
    socklen_t length = sizeof error;
    if (::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &length) != 0) error = errno;
    unwatch();
    if (error != 0) error_ = connect_error(error);
    reactor_.note_useful();
    finish();
  }

 private:
  [[nodiscard]] Error connect_error(int error) const {
    return fail_errno(error, "connect to " + peer_.to_string()).value();
  }
  void fail_later(int error) {
    error_ = connect_error(error);
    reactor_.defer(end_);
  }
  void unwatch() noexcept {
    if (std::exchange(watched_, false)) reactor_.poller().remove(fd_.get(), token_);
  }
  void finish() {  // the handler may destroy this object
    if (error_) return handler_.on_connected(tl::unexpected(std::move(*error_)));
    const Endpoint local = local_endpoint(fd_.get());
    handler_.on_connected(std::make_unique<EpollStream>(reactor_, std::move(fd_), local, peer_));
  }

  Reactor& reactor_;
  Endpoint peer_;
  ConnectHandler& handler_;
  TurnHook end_;
  posix::UniqueFd fd_;
  Poller::Token token_ = 0;
  bool watched_ = false;
  std::optional<Error> error_;
};

class EpollWatch final : public FdWatch, public Source {
 public:
  EpollWatch(Reactor& reactor, Delegate<void()> ready)
      : reactor_(reactor), ready_(ready), every_turn_(Delegate<void()>::to<&EpollWatch::on_turn>(*this)) {}
  ~EpollWatch() override {
    if (watched_) reactor_.poller().remove(fd_, token_);
  }

  void start(int fd) {
    fd_ = fd;
    int result = reactor_.poller().add(fd_, EPOLLIN, *this, token_);
    if (result ==
        -EEXIST) {  // epoll knows a descriptor once; a second watch gets a name of its own for the same file
      second_name_.reset(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
      fd_ = second_name_.get();
      result = fd_ >= 0 ? reactor_.poller().add(fd_, EPOLLIN, *this, token_) : -errno;
    }
    watched_ = result == 0;
    always_ready_ = result == -EPERM;  // a regular file: never anything to wait for
    if (!watched_) reactor_.defer(every_turn_);
  }

  void on_ready(std::uint32_t) override {
    reactor_.note_useful();
    ready_();  // may destroy this object
  }

 private:
  // A descriptor that cannot be watched has told its error once; one that is always ready tells it in every
  // turn.
  void on_turn() {
    if (life_.survives([this] { ready_(); }) && always_ready_) reactor_.defer(every_turn_);
  }

  Reactor& reactor_;
  Delegate<void()> ready_;
  TurnHook every_turn_;
  posix::UniqueFd second_name_;
  int fd_ = -1;
  Poller::Token token_ = 0;
  bool watched_ = false;
  bool always_ready_ = false;
  Lifeline life_;
};

}  // namespace

Result<std::unique_ptr<Listener>> Reactor::listen(const Endpoint& local, const SocketOptions& options,
                                                  AcceptHandler& handler) {
  auto fd = posix::make_listener(local, options, posix::Waiting::non_blocking, options_.access);
  if (!fd) return tl::unexpected(std::move(fd.error()));
  auto listener = std::make_unique<EpollListener>(*this, std::move(*fd), handler);
  if (auto status = listener->start(); !status) return tl::unexpected(std::move(status.error()));
  return listener;
}

std::unique_ptr<Connecting> Reactor::connect(const Endpoint& peer, const SocketOptions& options,
                                             ConnectHandler& handler) {
  auto connecting = std::make_unique<EpollConnecting>(*this, peer, handler);
  connecting->start(options);
  return connecting;
}

std::unique_ptr<Stream> Reactor::adopt(std::unique_ptr<DetachedStream> detached) {
  auto& from = static_cast<posix::DetachedSocket&>(*detached);  // the contract: of a loop of the same kind
  return std::make_unique<EpollStream>(*this, std::move(from.fd), from.local, from.peer);
}

std::unique_ptr<Stream> Reactor::adopt_socket(int fd) {
  posix::set_waiting(fd, posix::Waiting::non_blocking);
  return std::make_unique<EpollStream>(*this, posix::UniqueFd(fd), Endpoint(), Endpoint());
}

std::unique_ptr<FdWatch> Reactor::watch_readable(int fd, Delegate<void()> ready) {
  auto watch = std::make_unique<EpollWatch>(*this, ready);
  watch->start(fd);
  return watch;
}

}  // namespace perilune::runtime::epoll
