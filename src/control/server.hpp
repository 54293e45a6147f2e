// SPDX-License-Identifier: Apache-2.0
// The daemon's end of the control socket: a thread of its own that accepts, checks who is there, cuts
// requests and sends answers. It never waits for the daemon's loop, nor the loop for it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/result.hpp"
#include "control/frame.hpp"

namespace perilune::control {

// The answering side of one request. Any thread; keep it until finish() or fail(), which count once. What is
// said to a client that has gone is dropped.
class Exchange {
 public:
  virtual ~Exchange() = default;
  virtual void progress(const Json& line) = 0;
  virtual void finish(const Json& result) = 0;
  virtual void fail(int code, const std::string& message) = 0;
  // The client does not listen any more: it has gone, or has not read what was said.
  [[nodiscard]] virtual bool gone() const = 0;
};

class ControlServer {
 public:
  // Called on the control thread; hands the work on (Loop::post) and returns at once.
  using Handler = std::function<void(Request, std::shared_ptr<Exchange>)>;

  // PERILUNE_DAEMON_SOCKET (as PERILUNE_TARGETD_SOCKET), else PERILUNE_SOCKET, else
  // /run/perilune/DAEMON.sock.
  [[nodiscard]] static std::string default_path(const std::string& daemon = "iscsid");

  // Binds `path` with mode 0600, replacing a socket that nobody listens on (busy when somebody does). Peers
  // must be root or our own user. The folder is made when it is not there. Where a service manager holds a
  // socket at `path` for us, that one is used instead, and stays when we end.
  [[nodiscard]] static Result<std::unique_ptr<ControlServer>> start(const std::string& path, Handler handler);
  ~ControlServer();  // sends what is still to be said (for at most a second), closes, removes its own socket
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

 private:
  class Impl;
  explicit ControlServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace perilune::control
