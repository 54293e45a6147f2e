// SPDX-License-Identifier: Apache-2.0
#include "cli/background.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

namespace perilune::cli {
namespace {

int complain(const std::string& name, const std::string& message) {
  fmt::print(stderr, "{}: {}\n", name, message);
  return 1;
}

// Whoever started this may have closed its own; other files would come to stand in their places.
void fill_standard_places() {
  control::Fd place;
  do {
    (void)place.release();
    place = control::Fd(::open("/dev/null", O_RDWR | O_CLOEXEC));
  } while (place.valid() && place.get() <= STDERR_FILENO);
}

void redirect_to(int log) {
  const control::Fd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (null.valid()) ::dup2(null.get(), STDIN_FILENO);
  ::dup2(log, STDOUT_FILENO);
  ::dup2(log, STDERR_FILENO);
}

int wait_for_report(const std::string& name, int pipe) {
  std::string text;
  char buffer[512];
  for (;;) {
    const ssize_t n = ::read(pipe, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    text.append(buffer, static_cast<std::size_t>(n));
  }
  if (text == "+") return 0;
  return complain(name, text.empty() ? "it ended before it was ready" : text.substr(1));
}

}  // namespace

void StartReport::send(const std::string& text) {
  if (!fd_.valid()) return;
  [[maybe_unused]] const ssize_t n = ::write(fd_.get(), text.data(), text.size());
  fd_.reset();
}

std::optional<int> go_to_background(const std::string& name, const std::string& log_file, int& report_fd) {
  fill_standard_places();
  const control::Fd log(
      ::open(log_file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600));
  if (!log.valid()) return complain(name, fail_errno(errno, "cannot open " + log_file).value().message);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    return complain(name, fail_errno(errno, "cannot make a pipe").value().message);
  control::Fd from(ends[0]), to(ends[1]);
  const pid_t pid = ::fork();
  if (pid < 0) return complain(name, fail_errno(errno, "cannot fork").value().message);
  if (pid == 0) {
    ::setsid();
    redirect_to(log.get());
    report_fd = to.release();
    return std::nullopt;
  }
  to.reset();
  return wait_for_report(name, from.get());
}

std::string folder_of(const std::string& path) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace perilune::cli
