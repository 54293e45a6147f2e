// SPDX-License-Identifier: Apache-2.0
#include "cli/host_addresses.hpp"

#include <ifaddrs.h>
#include <netinet/in.h>

#include <cstring>

namespace perilune::cli {

std::vector<runtime::Endpoint> host_addresses() {
  std::vector<runtime::Endpoint> result;
  ifaddrs* list = nullptr;
  if (::getifaddrs(&list) != 0) return result;
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr) continue;
    runtime::Endpoint endpoint;
    if (entry->ifa_addr->sa_family == AF_INET) {
      std::memcpy(endpoint.address.data(), &reinterpret_cast<const sockaddr_in*>(entry->ifa_addr)->sin_addr,
                  4);
    } else if (entry->ifa_addr->sa_family == AF_INET6) {
      endpoint.is_ipv6 = true;
      std::memcpy(endpoint.address.data(), &reinterpret_cast<const sockaddr_in6*>(entry->ifa_addr)->sin6_addr,
                  16);
    } else {
      continue;
    }
    result.push_back(endpoint);
  }
  ::freeifaddrs(list);
  return result;
}

}  // namespace perilune::cli
