// SPDX-License-Identifier: Apache-2.0
#include "cli/iscsiadm/daemon.hpp"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <thread>

#include <fmt/format.h>

#include "control/iscsi_error.hpp"

extern char** environ;

namespace perilune::cli::iscsiadm {
namespace {

constexpr std::chrono::milliseconds start_timeout{10000};
constexpr std::chrono::milliseconds start_poll{50};

class SocketCall final : public PendingCall {
 public:
  explicit SocketCall(Result<control::ControlClient> client) : client_(std::move(client)) {}
  control::Reply wait(const Progress& progress) override {
    if (!client_) return {control::iscsi_err_iscsid_notconn, client_.error().message, {}};
    auto reply = client_->wait(progress);
    if (!reply) return {control::iscsi_err_iscsid_comm, reply.error().message, {}};
    return std::move(*reply);
  }

 private:
  Result<control::ControlClient> client_;
};

class DeadCall final : public PendingCall {
 public:
  explicit DeadCall(std::string why) : why_(std::move(why)) {}
  control::Reply wait(const Progress&) override { return {control::iscsi_err_iscsid_comm, why_, {}}; }

 private:
  std::string why_;
};

// A unit of ours that is installed where systemd runs: then starting iscsid is its business.
bool systemd_manages() {
  if (::access("/run/systemd/system", F_OK) != 0) return false;
  for (const char* folder :
       {"/etc/systemd/system/", "/run/systemd/system/", "/usr/lib/systemd/system/", "/lib/systemd/system/"}) {
    for (const char* unit : {"perilune-iscsid.socket", "perilune-iscsid.service"}) {
      if (::access((std::string(folder) + unit).c_str(), F_OK) == 0) return true;
    }
  }
  return false;
}

}  // namespace

SocketDaemon::SocketDaemon(std::string socket_path, std::string config_root, Console& console)
    : socket_path_(std::move(socket_path)), config_root_(std::move(config_root)), console_(console) {}

bool SocketDaemon::may_start() const {
  const char* forbidden = std::getenv("PERILUNE_NO_AUTOSTART");
  if (forbidden != nullptr && *forbidden != '\0') return false;
  const bool own_socket = std::getenv("PERILUNE_SOCKET") != nullptr;
  return own_socket || !systemd_manages();
}

// `perilune iscsid` goes to the background by itself and returns when it listens.
void SocketDaemon::start_daemon() {
  std::string program = "perilune", verb = "iscsid", config = "--config", socket = "--socket";
  std::string config_value = config_root_, socket_value = socket_path_;
  char* arguments[] = {program.data(), verb.data(),         config.data(), config_value.data(),
                       socket.data(),  socket_value.data(), nullptr};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
  pid_t pid = -1;
  const int failed = ::posix_spawn(&pid, "/proc/self/exe", &actions, nullptr, arguments, environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failed != 0) return;
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
}

bool SocketDaemon::reach(Start start) {
  auto client = control::ControlClient::connect(socket_path_);
  if (client) return true;
  int os_errno = client.error().os_errno;
  if (start == Start::no) return false;
  const bool absent = os_errno == ENOENT || os_errno == ECONNREFUSED;
  if (absent && may_start()) {
    start_daemon();
    // It may have lost the race against another one that is just starting.
    const auto end = std::chrono::steady_clock::now() + start_timeout;
    for (;;) {
      client = control::ControlClient::connect(socket_path_);
      if (client) return true;
      os_errno = client.error().os_errno;
      if (::access((socket_path_ + ".lock").c_str(), F_OK) != 0 || std::chrono::steady_clock::now() >= end)
        break;
      std::this_thread::sleep_for(start_poll);
    }
  }
  console_.err(fmt::format("can not connect to iSCSI daemon ({})!", os_errno == 0 ? EINVAL : os_errno));
  return false;
}

std::unique_ptr<PendingCall> SocketDaemon::begin(const std::string& op, const control::Json& args) {
  auto client = control::ControlClient::connect(socket_path_);
  if (client) {
    if (const auto sent = client->send(op, args); !sent)
      return std::make_unique<DeadCall>(sent.error().message);
  }
  return std::make_unique<SocketCall>(std::move(client));
}

}  // namespace perilune::cli::iscsiadm
