// SPDX-License-Identifier: Apache-2.0
// The command's end of the control socket. Blocking; one thread.
#pragma once

#include <functional>
#include <string>

#include "base/result.hpp"
#include "control/files.hpp"
#include "control/frame.hpp"

namespace perilune::control {

// What the daemon answered: a result, or one of its error numbers.
struct Reply {
  int code = 0;         // IscsiError; 0 is success
  std::string message;  // for code != 0
  Json result;
};

class ControlClient {
 public:
  // Fails with not_found or connection (os_errno tells) when no daemon listens.
  [[nodiscard]] static Result<ControlClient> connect(const std::string& path);

  // Fails with connection or protocol when the daemon does not keep to it.
  [[nodiscard]] Status send(const std::string& op, const Json& args);
  using Progress = std::function<void(const Json&)>;
  [[nodiscard]] Result<Reply> wait(const Progress& progress = {});

 private:
  explicit ControlClient(Fd fd) : fd_(std::move(fd)) {}
  Fd fd_;
  FrameReader reader_{max_answer_bytes};
};

}  // namespace perilune::control
