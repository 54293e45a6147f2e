// SPDX-License-Identifier: Apache-2.0
// A CHAP secret as part of a configuration that is copied and compared as a value: the secret itself, or
// where it is kept. Copies share one crypto::Secret, so that there is one place to wipe. It cannot be
// printed; where it is kept can. Any thread.
//
// A reference is "@file:/ABSOLUTE/PATH" or "@credential:NAME", of a file in the service manager's folder of
// credentials. Administrators type it in the place of a secret; in files it has a key of its own, so that no
// secret of a saveconfig.json is ever taken for one.
#pragma once

#include <cstddef>
#include <iosfwd>
#include <memory>
#include <string>
#include <string_view>

#include "crypto/secret.hpp"

namespace perilune::config::target {

class Password {
 public:
  Password() noexcept = default;
  explicit Password(std::string_view text)
      : secret_(text.empty() ? nullptr : std::make_shared<const crypto::Secret>(text)) {}

  // What somebody has typed: a reference where it has the form of one.
  [[nodiscard]] static Password typed(std::string_view text) {
    if (!text.starts_with(file_mark) && !text.starts_with(credential_mark)) return Password(text);
    Password password;
    password.reference_ = text;
    return password;
  }
  static constexpr std::string_view file_mark = "@file:";
  static constexpr std::string_view credential_mark = "@credential:";

  [[nodiscard]] bool empty() const noexcept { return secret_ == nullptr && reference_.empty(); }
  // Empty: it is the secret itself.
  [[nodiscard]] const std::string& reference() const noexcept { return reference_; }
  // Of the secret, nothing where it is kept elsewhere.
  [[nodiscard]] std::size_t size() const noexcept { return secret_ ? secret_->size() : 0; }
  // For a digest or a 0600 file and nothing else. Valid while any copy lives.
  [[nodiscard]] std::string_view reveal() const noexcept {
    return secret_ ? as_text(secret_->reveal()) : std::string_view{};
  }

  friend bool operator==(const Password& a, const Password& b) noexcept {
    if (a.reference_ != b.reference_) return false;
    return a.secret_ == b.secret_ || crypto::constant_time_equal(as_bytes(a.reveal()), as_bytes(b.reveal()));
  }

 private:
  std::shared_ptr<const crypto::Secret> secret_;
  std::string reference_;
};

std::ostream& operator<<(std::ostream&, const Password&) = delete;

}  // namespace perilune::config::target
