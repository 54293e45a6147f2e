// SPDX-License-Identifier: Apache-2.0
// The CHAP secrets that are kept outside of the configuration (config/target/password.hpp), as they were read
// last. The control thread's, and blocks.
//
// A file is a regular one of root's or the daemon's own user, which nobody else may open, and holds the
// secret: 1 to 255 bytes, of which one newline at the end is none. A credential is the same in the service
// manager's folder, whose rights are its business.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "config/target/password.hpp"
#include "runtime/posix/host_access.hpp"

namespace perilune::control::serving {

class Secrets {
 public:
  // `access`: who opens what this process may not, or nullptr. `credentials`: the folder; empty: there is
  // none.
  Secrets(runtime::posix::HostAccess* access, std::string credentials)
      : access_(access), credentials_(std::move(credentials)) {}

  // Of a reference: reads it, also where it was read before. Whether of() has another answer now. When it
  // fails it has the same; the error is one line that names the file.
  [[nodiscard]] Result<bool> read(const config::target::Password& password);
  // The secret, valid until the next read(). Empty: it has never been read, or there is none.
  [[nodiscard]] std::string_view of(const config::target::Password& password) const;

 private:
  runtime::posix::HostAccess* const access_;
  const std::string credentials_;
  std::map<std::string, crypto::Secret, std::less<>> known_;  // by reference
};

}  // namespace perilune::control::serving
