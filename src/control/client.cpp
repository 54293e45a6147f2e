// SPDX-License-Identifier: Apache-2.0
#include "control/client.hpp"

#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "control/iscsi_error.hpp"

namespace perilune::control {

Result<ControlClient> ControlClient::connect(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return fail(Errc::invalid_argument, "the socket path is empty or longer than 107 bytes");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return fail_errno(errno, "cannot make a socket");
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    return fail_errno(errno, "cannot connect to " + path);
  }
  return ControlClient(std::move(fd));
}

Status ControlClient::send(const std::string& op, const Json& args) {
  const std::string frame = encode_frame({{"version", protocol_version}, {"op", op}, {"args", args}});
  std::string_view rest = frame;
  while (!rest.empty()) {
    const ssize_t n = ::send(fd_.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, "cannot talk to the daemon");
    rest.remove_prefix(static_cast<std::size_t>(n));
  }
  return {};
}

Result<Reply> ControlClient::wait(const Progress& progress) {
  for (;;) {
    auto message = reader_.next();
    if (!message) return tl::unexpected(message.error());
    if (*message) {
      const Json& json = **message;
      if (const auto line = json.find("progress"); line != json.end()) {
        if (progress) progress(*line);
        continue;
      }
      if (const auto error = json.find("error"); error != json.end()) {
        const auto code = static_cast<int>(number_of(*error, "code", iscsi_err_internal));
        return Reply{code == 0 ? static_cast<int>(iscsi_err_internal) : code, text_of(*error, "message"), {}};
      }
      if (const auto result = json.find("result"); result != json.end()) return Reply{0, {}, *result};
      return fail(Errc::protocol, "the daemon's answer is not understood");
    }
    char buffer[65536];
    const ssize_t n = ::recv(fd_.get(), buffer, sizeof buffer, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, "cannot hear the daemon");
    if (n == 0) return fail(Errc::connection, "the daemon closed the connection");
    reader_.append({buffer, static_cast<std::size_t>(n)});
  }
}

}  // namespace perilune::control
