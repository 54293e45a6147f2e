// SPDX-License-Identifier: Apache-2.0
#include "runtime/endpoint.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace perilune::runtime {

namespace {

template <class T>
bool parse_number(std::string_view text, T& out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc{} && end == text.data() + text.size() && !text.empty();
}

tl::unexpected<Error> bad(std::string_view text) {
  return fail(Errc::invalid_argument,
              "not an address: '" + std::string(text) + "' (expected ADDR[:PORT] or [IPV6]:PORT)");
}

}  // namespace

Result<Endpoint> Endpoint::parse(std::string_view text, std::uint16_t default_port) {
  Endpoint endpoint;
  endpoint.port = default_port;
  std::string_view host = text;
  std::string_view port;
  bool bracketed = false;
  if (!text.empty() && text.front() == '[') {
    const auto close = text.find(']');
    if (close == std::string_view::npos) return bad(text);
    bracketed = true;
    host = text.substr(1, close - 1);
    const std::string_view rest = text.substr(close + 1);
    if (!rest.empty()) {
      if (rest.front() != ':') return bad(text);
      port = rest.substr(1);
      if (port.empty()) return bad(text);
    }
  } else if (std::count(text.begin(), text.end(), ':') == 1) {
    const auto colon = text.find(':');
    host = text.substr(0, colon);
    port = text.substr(colon + 1);
    if (port.empty()) return bad(text);
  }
  if (!port.empty() && !parse_number(port, endpoint.port)) return bad(text);
  endpoint.is_ipv6 = bracketed || host.find(':') != std::string_view::npos;
  if (const auto zone = host.find('%'); zone != std::string_view::npos) {
    if (!endpoint.is_ipv6 || !parse_number(host.substr(zone + 1), endpoint.scope_id)) return bad(text);
    host = host.substr(0, zone);
  }
  const std::string address(host);
  if (inet_pton(endpoint.is_ipv6 ? AF_INET6 : AF_INET, address.c_str(), endpoint.address.data()) != 1)
    return bad(text);
  return endpoint;
}

std::string Endpoint::address_string() const {
  char text[INET6_ADDRSTRLEN] = {};
  inet_ntop(is_ipv6 ? AF_INET6 : AF_INET, address.data(), text, sizeof text);
  return text;
}

std::string Endpoint::to_string() const {
  const std::string host = is_ipv6 ? "[" + address_string() + "]" : address_string();
  return host + ":" + std::to_string(port);
}

bool Endpoint::is_wildcard() const noexcept {
  return std::all_of(address.begin(), address.end(), [](std::uint8_t b) { return b == 0; });
}

bool Endpoint::is_loopback() const noexcept {
  if (!is_ipv6) return address[0] == 127;
  return std::all_of(address.begin(), address.end() - 1, [](std::uint8_t b) { return b == 0; }) &&
         address[15] == 1;
}

bool Endpoint::is_link_local() const noexcept {
  if (!is_ipv6) return address[0] == 169 && address[1] == 254;
  return address[0] == 0xfe && (address[1] & 0xc0) == 0x80;
}

}  // namespace perilune::runtime
