// SPDX-License-Identifier: Apache-2.0
#include "control/server.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "control/files.hpp"
#include "control/iscsi_error.hpp"
#include "control/systemd.hpp"

namespace perilune::control {
namespace {

constexpr std::size_t max_pending_output_bytes = max_answer_bytes + 1024 * 1024;
// A client that has begun a request finishes it soon, or makes room for another.
constexpr std::chrono::seconds request_timeout{10};
constexpr std::chrono::milliseconds goodbye_timeout{1000};

using Clock = std::chrono::steady_clock;

void ring(int event_fd) {
  const std::uint64_t one = 1;
  while (::write(event_fd, &one, sizeof one) < 0 && errno == EINTR) {
  }
}

// What the control thread and the answering threads share of a connection.
struct Outbox {
  explicit Outbox(std::shared_ptr<Fd> bell_fd) : bell(std::move(bell_fd)) {}
  void put(const Json& message, bool last) {
    {
      const std::lock_guard<std::mutex> hold(mutex);
      if (closed || answered) return;
      answered = last;
      bytes += encode_frame(message);
      if (bytes.size() > max_pending_output_bytes) overflow = true;
    }
    ring(bell->get());
  }

  std::mutex mutex;
  std::string bytes;
  bool answered = false;  // of the request at hand
  bool closed = false;
  bool overflow = false;
  std::shared_ptr<Fd> bell;
};

class SocketExchange final : public Exchange {
 public:
  explicit SocketExchange(std::shared_ptr<Outbox> outbox) : outbox_(std::move(outbox)) {}
  // A request that nobody answered must not leave its client waiting.
  ~SocketExchange() override { fail(iscsi_err_internal, "the request was dropped"); }
  void progress(const Json& line) override {
    if (!done_.load()) outbox_->put({{"progress", line}}, false);
  }
  void finish(const Json& result) override {
    if (!done_.exchange(true)) outbox_->put({{"result", result}}, true);
  }
  void fail(int code, const std::string& message) override {
    if (!done_.exchange(true)) outbox_->put({{"error", {{"code", code}, {"message", message}}}}, true);
  }
  [[nodiscard]] bool gone() const override {
    const std::lock_guard<std::mutex> hold(outbox_->mutex);
    return outbox_->closed || outbox_->overflow;
  }

 private:
  std::shared_ptr<Outbox> outbox_;
  std::atomic<bool> done_{false};
};

struct Connection {
  Fd fd;
  FrameReader reader{max_request_bytes};
  std::shared_ptr<Outbox> outbox;
  ucred peer{};
  bool busy = false;       // a request is being worked on
  bool ending = false;     // close when the output is sent
  Clock::time_point last_byte;
};

bool peer_is_allowed(int fd, ucred& peer) {
  socklen_t size = sizeof peer;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  return peer.uid == 0 || peer.uid == ::geteuid();
}

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return fail(Errc::invalid_argument, "the socket path is empty or longer than 107 bytes");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

Status make_folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos || slash == 0) return {};
  const std::string folder = path.substr(0, slash);
  if (::mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST)
    return fail_errno(errno, "cannot make folder " + folder);
  return {};
}

Result<Fd> listen_at(const std::string& path, const sockaddr_un& address) {
  ::unlink(path.c_str());
  Fd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!listener.valid()) return fail_errno(errno, "cannot make a socket");
  const mode_t old_mask = ::umask(0177);
  const int bound = ::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  const int bind_errno = errno;
  ::umask(old_mask);
  if (bound != 0) return fail_errno(bind_errno, "cannot bind " + path);
  if (::listen(listener.get(), 64) != 0) return fail_errno(errno, "cannot listen on " + path);
  return listener;
}

}  // namespace

class ControlServer::Impl {
 public:
  // own_path: of a socket that is to be removed in the end; empty for one that a service manager keeps.
  Impl(std::string own_path, Fd lock, Fd listener, std::shared_ptr<Fd> bell, Handler handler)
      : own_path_(std::move(own_path)),
        lock_(std::move(lock)),
        listener_(std::move(listener)),
        bell_(std::move(bell)),
        handler_(std::move(handler)),
        thread_([this] { run(); }) {}

  ~Impl() {
    stopping_.store(true);
    ring(bell_->get());
    thread_.join();
    if (!own_path_.empty()) ::unlink(own_path_.c_str());
  }

 private:
  void run() {
    std::optional<Clock::time_point> end;
    for (;;) {
      if (stopping_.load()) {
        if (!end) end = Clock::now() + goodbye_timeout;
        listener_.reset();
        if (all_sent() || Clock::now() >= *end) return;
      }
      wait_once(end ? 20 : 1000);
      drop_finished();
    }
  }

  void wait_once(int timeout_ms) {
    std::vector<pollfd> fds;
    fds.push_back({bell_->get(), POLLIN, 0});
    // A full house waits in the kernel's queue.
    const bool accepting = listener_.valid() && connections_.size() < max_connections;
    fds.push_back({accepting ? listener_.get() : -1, POLLIN, 0});
    for (const auto& connection : connections_) fds.push_back({connection->fd.get(), wanted(*connection), 0});
    if (::poll(fds.data(), fds.size(), timeout_ms) < 0) return;
    if (fds[0].revents != 0) {
      std::uint64_t count = 0;
      [[maybe_unused]] const ssize_t n = ::read(bell_->get(), &count, sizeof count);
    }
    for (std::size_t i = 2; i < fds.size(); ++i) {
      Connection& connection = *connections_[i - 2];
      if ((fds[i].revents & (POLLIN | POLLHUP | POLLERR)) != 0) receive(connection);
    }
    for (const auto& connection : connections_) send(*connection);
    if ((fds[1].revents & POLLIN) != 0) accept_one();
  }

  static short wanted(Connection& connection) {
    const std::lock_guard<std::mutex> hold(connection.outbox->mutex);
    return static_cast<short>(POLLIN | (connection.outbox->bytes.empty() ? 0 : POLLOUT));
  }

  bool all_sent() {
    return std::all_of(connections_.begin(), connections_.end(), [](const auto& connection) {
      const std::lock_guard<std::mutex> hold(connection->outbox->mutex);
      return connection->outbox->bytes.empty();
    });
  }

  void accept_one() {
    Fd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!fd.valid()) return;
    auto connection = std::make_unique<Connection>();
    connection->outbox = std::make_shared<Outbox>(bell_);
    connection->last_byte = Clock::now();
    if (!peer_is_allowed(fd.get(), connection->peer)) {
      connection->outbox->put(
          {{"error", {{"code", iscsi_err_access}, {"message", "only root may use this socket"}}}}, true);
      connection->ending = true;
    }
    connection->fd = std::move(fd);
    connections_.push_back(std::move(connection));
  }

  void receive(Connection& connection) {
    char buffer[16384];
    const ssize_t n = ::recv(connection.fd.get(), buffer, sizeof buffer, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) return connection.fd.reset();
    if (connection.ending) return;  // what a client says after its end is not read
    connection.last_byte = Clock::now();
    connection.reader.append({buffer, static_cast<std::size_t>(n)});
    if (connection.busy) {
      // One request at a time: nothing may follow before the answer.
      return refuse(connection, "a request came before the answer to the last one");
    }
    take_request(connection);
    if (incomplete_bytes() > max_incomplete_bytes)
      refuse(connection, "too many requests are being sent at once; send this one again");
  }

  [[nodiscard]] std::size_t incomplete_bytes() const {
    std::size_t sum = 0;
    for (const auto& connection : connections_) {
      if (!connection->ending) sum += connection->reader.bytes();
    }
    return sum;
  }

  void take_request(Connection& connection) {
    auto message = connection.reader.next();
    if (!message) return refuse(connection, message.error().message);
    if (!*message) return;
    auto request = request_of(std::move(**message));
    if (!request) return refuse(connection, request.error().message);
    request->uid = connection.peer.uid;
    request->pid = connection.peer.pid;
    connection.busy = true;
    {
      const std::lock_guard<std::mutex> hold(connection.outbox->mutex);
      connection.outbox->answered = false;
    }
    handler_(std::move(*request), std::make_shared<SocketExchange>(connection.outbox));
  }

  static void refuse(Connection& connection, const std::string& why) {
    connection.outbox->put({{"error", {{"code", iscsi_err_invalid_mgmt_req}, {"message", why}}}}, true);
    connection.ending = true;
  }

  void send(Connection& connection) {
    if (!connection.fd.valid()) return;
    const std::lock_guard<std::mutex> hold(connection.outbox->mutex);
    Outbox& outbox = *connection.outbox;
    if (outbox.overflow) return connection.fd.reset();
    if (!outbox.bytes.empty()) {
      const ssize_t n = ::send(connection.fd.get(), outbox.bytes.data(), outbox.bytes.size(), MSG_NOSIGNAL);
      if (n < 0 && errno != EAGAIN && errno != EINTR) return connection.fd.reset();
      if (n > 0) outbox.bytes.erase(0, static_cast<std::size_t>(n));
    }
    if (!outbox.bytes.empty()) return;
    if (outbox.answered) connection.busy = false;
    if (connection.ending) connection.fd.reset();
  }

  void drop_finished() {
    const auto now = Clock::now();
    std::erase_if(connections_, [&](const std::unique_ptr<Connection>& connection) {
      const bool late = !connection->busy && now - connection->last_byte > request_timeout;
      if (connection->fd.valid() && !late) return false;
      const std::lock_guard<std::mutex> hold(connection->outbox->mutex);
      connection->outbox->closed = true;
      return true;
    });
  }

  std::string own_path_;
  Fd lock_;
  Fd listener_;
  std::shared_ptr<Fd> bell_;
  Handler handler_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::atomic<bool> stopping_{false};
  std::thread thread_;  // last: everything above is there when it starts
};

std::string ControlServer::default_path(const std::string& daemon) {
  std::string own = "PERILUNE_" + daemon + "_SOCKET";
  std::transform(own.begin(), own.end(), own.begin(),
                 [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  for (const char* const name : {own.c_str(), "PERILUNE_SOCKET"}) {
    const char* const given = std::getenv(name);
    if (given != nullptr && *given != '\0') return given;
  }
  return "/run/perilune/" + daemon + ".sock";
}

Result<std::unique_ptr<ControlServer>> ControlServer::start(const std::string& path, Handler handler) {
  const auto address = address_of(path);
  if (!address) return tl::unexpected(address.error());
  if (const auto made = make_folder_of(path); !made) return tl::unexpected(made.error());
  // The lock tells a socket in use from one that a dead daemon left.
  Fd lock(::open((path + ".lock").c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!lock.valid()) return fail_errno(errno, "cannot open " + path + ".lock");
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return fail(Errc::busy, "another daemon listens on " + path, EADDRINUSE);
  }
  auto activated = systemd::take_activated_socket(path);
  if (!activated) return tl::unexpected(activated.error());
  const bool own = !activated->valid();
  auto listener = own ? listen_at(path, *address) : std::move(activated);
  if (!listener) return tl::unexpected(listener.error());
  auto bell = std::make_shared<Fd>(::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
  if (!bell->valid()) return fail_errno(errno, "cannot make an eventfd");
  auto impl = std::make_unique<Impl>(own ? path : std::string(), std::move(lock), std::move(*listener),
                                     std::move(bell), std::move(handler));
  return std::unique_ptr<ControlServer>(new ControlServer(std::move(impl)));
}

ControlServer::ControlServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ControlServer::~ControlServer() = default;

}  // namespace perilune::control
