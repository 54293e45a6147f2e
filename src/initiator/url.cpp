// SPDX-License-Identifier: Apache-2.0
#include "initiator/url.hpp"

#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <utility>

#include "base/limits.hpp"
#include "iscsi/names/names.hpp"

namespace perilune::initiator {

namespace {

constexpr std::string_view scheme = "iscsi://";

std::string percent_decode(std::string_view text) {
  const auto digit = [](char c) -> int {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
  };
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && digit(text[i + 1]) >= 0 && digit(text[i + 2]) >= 0) {
      out += static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2]));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

struct Secrets {
  std::string user, password, target_user, target_password;
};

// user[%password]@ as libiscsi has it: the first % parts the two, so neither is percent-decoded.
void parse_user(std::string_view text, Secrets& secrets) {
  const auto percent = text.find('%');
  secrets.user = std::string(text.substr(0, percent));
  if (percent != std::string_view::npos) secrets.password = std::string(text.substr(percent + 1));
}

Status parse_host(std::string_view text, Url& url) {
  std::string_view host = text;
  std::string_view port;
  if (text.starts_with('[')) {
    const auto close = text.find(']');
    if (close == std::string_view::npos) return fail(Errc::invalid_argument, "URL: '[' without ']'");
    host = text.substr(1, close - 1);
    const auto rest = text.substr(close + 1);
    if (!rest.empty() && rest.front() != ':') return fail(Errc::invalid_argument, "URL: text after ']'");
    if (!rest.empty()) port = rest.substr(1);
  } else if (const auto colon = text.rfind(':'); colon != std::string_view::npos) {
    host = text.substr(0, colon);
    port = text.substr(colon + 1);
    if (port.empty()) return fail(Errc::invalid_argument, "URL: ':' without a port");
  }
  if (host.empty()) return fail(Errc::invalid_argument, "URL: no host");
  if (!port.empty()) {
    const auto [end, error] = std::from_chars(port.data(), port.data() + port.size(), url.port);
    if (error != std::errc() || end != port.data() + port.size() || url.port == 0) {
      return fail(Errc::invalid_argument, "URL: the port is no number from 1 to 65535");
    }
  }
  url.host = std::string(host);
  return {};
}

Result<DigestPreference> parse_digest(std::string_view value) {
  if (value == "none") return DigestPreference::none;
  if (value == "crc32c") return DigestPreference::crc32c;
  return fail(Errc::invalid_argument, "URL: a digest is none or crc32c");
}

Result<std::vector<std::uint8_t>> parse_auth(std::string_view value) {
  if (value == "md5") return std::vector<std::uint8_t>{5};
  if (value == "sha1") return std::vector<std::uint8_t>{6};
  if (value == "sha-256") return std::vector<std::uint8_t>{7};
  if (value == "sha3-256") return std::vector<std::uint8_t>{8};
  return fail(Errc::invalid_argument, "URL: auth is one of md5, sha1, sha-256, sha3-256");
}

std::optional<std::uint16_t> parse_small(std::string_view value, std::uint16_t least, std::uint16_t most) {
  std::uint16_t number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  if (error != std::errc() || end != value.data() + value.size() || number < least || number > most)
    return std::nullopt;
  return number;
}

Status parse_option(std::string_view option, Url& url, Secrets& secrets,
                    std::vector<std::uint8_t>& algorithms) {
  const auto equals = option.find('=');
  const std::string_view key = option.substr(0, equals);
  const std::string_view value =
      equals == std::string_view::npos ? std::string_view() : option.substr(equals + 1);
  if (key == "header_digest" || key == "data_digest") {
    auto digest = parse_digest(value);
    if (!digest) return tl::unexpected<Error>(digest.error());
    (key == "header_digest" ? url.header_digest : url.data_digest) = *digest;
  } else if (key == "auth") {
    auto auth = parse_auth(value);
    if (!auth) return tl::unexpected<Error>(auth.error());
    algorithms = std::move(*auth);
  } else if (key == "connections" || key == "error_recovery_level") {
    const bool level = key == "error_recovery_level";
    const auto number = parse_small(value, level ? 0 : 1, level ? 2 : limits::max_session_connections);
    if (!number) {
      return fail(Errc::invalid_argument, level ? "URL: error_recovery_level is 0, 1 or 2"
                                                : "URL: connections is a number from 1 to 16");
    }
    if (level) url.error_recovery_level = static_cast<std::uint8_t>(*number);
    else url.connections = *number;
  } else if (key == "target_user") {
    secrets.target_user = percent_decode(value);
  } else if (key == "target_password") {
    secrets.target_password = percent_decode(value);
  }
  return {};  // others (force_usn, iser) mean nothing here
}

Status parse_path(std::string_view path, Url& url) {
  if (path.empty()) return {};
  const auto slash = path.find('/');
  auto name = iscsi::normalize_name(percent_decode(path.substr(0, slash)));
  if (!name) return fail(Errc::invalid_argument, "URL: " + name.error().message);
  url.target = std::move(*name);
  if (slash == std::string_view::npos || slash + 1 == path.size()) return {};
  const std::string_view lun = path.substr(slash + 1);
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(lun.data(), lun.data() + lun.size(), number);
  if (error != std::errc() || end != lun.data() + lun.size() || number > 0xffffff) {
    return fail(Errc::invalid_argument, "URL: the LUN is no number");
  }
  url.lun = number;
  return {};
}

void complete_from(const Environment& environment, Secrets& secrets) {
  const auto take = [&](const char* name, std::string& into) {
    const char* value = into.empty() ? environment(name) : nullptr;
    if (value != nullptr) into = value;
  };
  take("LIBISCSI_CHAP_USERNAME", secrets.user);
  take("LIBISCSI_CHAP_PASSWORD", secrets.password);
  take("LIBISCSI_CHAP_TARGET_USERNAME", secrets.target_user);
  take("LIBISCSI_CHAP_TARGET_PASSWORD", secrets.target_password);
}

}  // namespace

Result<Url> parse_url(std::string_view text, const Environment& environment) {
  if (!text.starts_with(scheme)) return fail(Errc::invalid_argument, "URL: it does not begin with iscsi://");
  text.remove_prefix(scheme.size());
  Url url;
  Secrets secrets;
  std::vector<std::uint8_t> algorithms;
  if (const auto mark = text.find('?'); mark != std::string_view::npos) {
    std::string_view options = text.substr(mark + 1);
    text = text.substr(0, mark);
    while (!options.empty()) {
      const auto end = options.find('&');
      if (auto good = parse_option(options.substr(0, end), url, secrets, algorithms); !good) {
        return tl::unexpected<Error>(good.error());
      }
      options = end == std::string_view::npos ? std::string_view() : options.substr(end + 1);
    }
  }
  // A password may hold '/' and '@': the last '@' before the target's name ends it.
  const auto name_at = std::min({text.find("/iqn."), text.find("/eui."), text.find("/naa.")});
  if (const auto at = text.substr(0, name_at).rfind('@'); at != std::string_view::npos) {
    parse_user(text.substr(0, at), secrets);
    text.remove_prefix(at + 1);
  }
  const auto slash = text.find('/');
  if (auto good = parse_host(text.substr(0, slash), url); !good) return tl::unexpected<Error>(good.error());
  if (slash != std::string_view::npos) {
    if (auto good = parse_path(text.substr(slash + 1), url); !good)
      return tl::unexpected<Error>(good.error());
  }
  complete_from(environment, secrets);
  if (!secrets.user.empty()) {
    ChapCredentials chap;
    chap.user = secrets.user;
    chap.secret = crypto::Secret(secrets.password);
    chap.mutual_user = secrets.target_user;
    if (!secrets.target_user.empty()) chap.mutual_secret = crypto::Secret(secrets.target_password);
    chap.algorithms = std::move(algorithms);
    url.chap = std::move(chap);
  }
  crypto::wipe({reinterpret_cast<std::uint8_t*>(secrets.password.data()), secrets.password.size()});
  crypto::wipe(
      {reinterpret_cast<std::uint8_t*>(secrets.target_password.data()), secrets.target_password.size()});
  return url;
}

Result<Url> parse_url(std::string_view text) {
  return parse_url(text, [](const char* name) { return std::getenv(name); });
}

void Url::apply_to(SessionConfig& config) const {
  config.target_name = target;
  config.header_digest = header_digest;
  config.data_digest = data_digest;
  config.max_connections = connections;
  config.error_recovery_level = error_recovery_level;
  if (error_recovery_level == 2) config.default_time2retain = recovery_time2retain_s;
  config.chap.reset();
  if (chap) config.chap = chap->clone();
}

ChapCredentials ChapCredentials::clone() const {
  return ChapCredentials{user, secret.clone(), mutual_user, mutual_secret.clone(), algorithms};
}

SessionConfig SessionConfig::clone() const {
  SessionConfig copy;
  static_cast<SessionSettings&>(copy) = *this;
  if (chap) copy.chap = chap->clone();
  return copy;
}

Result<std::vector<runtime::Endpoint>> resolve(const std::string& host, std::uint16_t port) {
  const bool bare_v6 = host.find(':') != std::string::npos;
  if (auto numeric = runtime::Endpoint::parse(bare_v6 ? "[" + host + "]" : host, port))
    return std::vector{*numeric};
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  const int error = ::getaddrinfo(host.c_str(), nullptr, &hints, &list);
  if (error != 0) return fail(Errc::not_found, host + ": " + ::gai_strerror(error));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(list, &::freeaddrinfo);
  std::vector<runtime::Endpoint> out;
  for (const addrinfo* a = list; a != nullptr; a = a->ai_next) {
    char text[NI_MAXHOST];
    if (::getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof text, nullptr, 0, NI_NUMERICHOST) != 0)
      continue;
    const std::string address = a->ai_family == AF_INET6 ? "[" + std::string(text) + "]" : std::string(text);
    if (auto endpoint = runtime::Endpoint::parse(address, port)) out.push_back(*endpoint);
  }
  if (out.empty()) return fail(Errc::not_found, host + ": no address");
  return out;
}

std::string default_initiator_name() {
  if (const char* name = std::getenv("PERILUNE_INITIATOR_NAME"); name != nullptr && *name != '\0')
    return name;
  std::string line;
  for (std::ifstream file("/etc/iscsi/initiatorname.iscsi"); std::getline(file, line);) {
    if (line.starts_with("InitiatorName=")) {
      if (auto name = iscsi::normalize_name(std::string_view(line).substr(14))) return *name;
    }
  }
  std::string machine_id;
  std::ifstream("/etc/machine-id") >> machine_id;
  char host[256] = "host";
  (void)::gethostname(host, sizeof host - 1);
  auto name = iscsi::default_name(host, as_bytes(machine_id), "initiator");
  return name ? *name : "iqn.2026-11.io.perilune:initiator";
}

}  // namespace perilune::initiator
