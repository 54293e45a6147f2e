// SPDX-License-Identifier: Apache-2.0
// A CHAP secret as part of a configuration that is copied and compared as a value. Copies share one
// crypto::Secret, so that there is one place to wipe. It cannot be printed. Any thread.
#pragma once

#include <cstddef>
#include <iosfwd>
#include <memory>
#include <string_view>

#include "crypto/secret.hpp"

namespace perilune::config::target {

class Password {
 public:
  Password() noexcept = default;
  explicit Password(std::string_view text)
      : secret_(text.empty() ? nullptr : std::make_shared<const crypto::Secret>(text)) {}

  [[nodiscard]] bool empty() const noexcept { return secret_ == nullptr; }
  [[nodiscard]] std::size_t size() const noexcept { return secret_ ? secret_->size() : 0; }
  // For a digest or a 0600 file and nothing else. Valid while any copy lives.
  [[nodiscard]] std::string_view reveal() const noexcept {
    return secret_ ? as_text(secret_->reveal()) : std::string_view{};
  }

  friend bool operator==(const Password& a, const Password& b) noexcept {
    return a.secret_ == b.secret_ || crypto::constant_time_equal(as_bytes(a.reveal()), as_bytes(b.reveal()));
  }

 private:
  std::shared_ptr<const crypto::Secret> secret_;
};

std::ostream& operator<<(std::ostream&, const Password&) = delete;

}  // namespace perilune::config::target
