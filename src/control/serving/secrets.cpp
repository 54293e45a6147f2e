// SPDX-License-Identifier: Apache-2.0
#include "control/serving/secrets.hpp"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "config/target/configuration.hpp"

namespace perilune::control::serving {

using config::target::max_chap_bytes;
using config::target::Password;
using runtime::posix::HostAccess;

namespace {

Status is_safe(const struct stat& info) {
  if (info.st_uid != 0 && info.st_uid != ::geteuid())
    return fail(Errc::permission, "belongs to another user than root and the daemon's; chown it");
  if ((info.st_mode & (S_IRWXG | S_IRWXO)) != 0)
    return fail(Errc::permission, "may be opened by others than its owner; chmod it to 0600");
  return {};
}

Result<crypto::Secret> read_secret(const std::string& path, bool any_rights, HostAccess* access) {
  const auto refuse = [&](Errc code, const std::string& why) { return fail(code, path + " " + why); };
  const auto fd = runtime::posix::open_path(access, path, O_RDONLY | O_NONBLOCK);
  if (!fd) return tl::unexpected(fd.error());
  struct stat info {};
  if (::fstat(fd->get(), &info) != 0) return fail_errno(errno, path);
  if (!S_ISREG(info.st_mode)) return refuse(Errc::invalid_argument, "is no regular file");
  if (const Status safe = any_rights ? Status() : is_safe(info); !safe)
    return refuse(safe.error().code, safe.error().message);
  std::array<char, max_chap_bytes + 2> buffer{};  // a newline, and one byte that is too much
  std::size_t size = 0;
  while (size < buffer.size()) {
    const ssize_t n = ::read(fd->get(), &buffer[size], buffer.size() - size);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return fail_errno(errno, path);
    if (n == 0) break;
    size += static_cast<std::size_t>(n);
  }
  std::string_view text(buffer.data(), size);
  if (text.ends_with('\n')) text.remove_suffix(1);
  crypto::Secret secret(text);
  crypto::wipe({reinterpret_cast<std::uint8_t*>(buffer.data()), buffer.size()});
  if (secret.empty()) return refuse(Errc::invalid_argument, "is empty; a secret is 1 to 255 bytes");
  if (secret.size() > max_chap_bytes) return refuse(Errc::limit, "is too long; a secret is 1 to 255 bytes");
  return secret;
}

}  // namespace

Result<bool> Secrets::read(const Password& password) {
  const std::string_view reference = password.reference();
  if (reference.empty()) return false;
  const bool credential = reference.starts_with(Password::credential_mark);
  if (credential && credentials_.empty()) {
    return fail(Errc::not_found,
                password.reference() +
                    ": the service manager has given no credentials (LoadCredential= in the unit)");
  }
  const std::string path =
      credential ? credentials_ + "/" + std::string(reference.substr(Password::credential_mark.size()))
                 : std::string(reference.substr(Password::file_mark.size()));
  auto secret = read_secret(path, credential, access_);
  if (!secret) return tl::unexpected(secret.error());
  crypto::Secret& known = known_[password.reference()];
  const bool other = !known.equals(*secret);
  known = std::move(*secret);
  return other;
}

std::string_view Secrets::of(const Password& password) const {
  if (password.reference().empty()) return password.reveal();
  const auto known = known_.find(password.reference());
  return known == known_.end() ? std::string_view{} : as_text(known->second.reveal());
}

}  // namespace perilune::control::serving
