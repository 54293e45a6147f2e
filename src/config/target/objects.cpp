// SPDX-License-Identifier: Apache-2.0
#include "config/target/objects.hpp"

#include "config/portal.hpp"

namespace perilune::config::target {

std::string path_of(const ForeignKey& key) { return key.place + " " + key.name; }
std::string path_of(const DiscoveryKey&) { return "/iscsi discovery_auth"; }
std::string path_of(const StorageKey& key) {
  return "/backstores/" + std::string(to_string(key.plugin)) + "/" + key.name;
}
std::string path_of(const AluaGroupKey& key) { return path_of(key.parent) + "/alua/" + key.name; }
std::string path_of(const TargetKey& key) { return "/iscsi/" + key.wwn; }
std::string path_of(const PortalGroupKey& key) {
  return path_of(key.parent) + "/tpg" + std::to_string(key.tag);
}
std::string path_of(const PortalKey& key) {
  return path_of(key.parent) + "/portals/" + format_host_port(key.address, key.port);
}
std::string path_of(const LunKey& key) {
  return path_of(key.parent) + "/luns/lun" + std::to_string(key.index);
}
std::string path_of(const NodeAclKey& key) { return path_of(key.parent) + "/acls/" + key.initiator; }
std::string path_of(const MappedLunKey& key) {
  return path_of(key.parent) + "/mapped_lun" + std::to_string(key.index);
}

std::string lio_naa(std::string_view unit_serial) {
  constexpr std::size_t digits = 25;
  std::string naa = "6001405";
  const std::size_t whole = naa.size() + digits;
  for (const char c : unit_serial) {
    if (naa.size() == whole) break;
    const char lower = c >= 'A' && c <= 'F' ? static_cast<char>(c | 0x20) : c;
    if ((lower >= '0' && lower <= '9') || (lower >= 'a' && lower <= 'f')) naa += lower;
  }
  naa.resize(whole, '0');
  return naa;
}

}  // namespace perilune::config::target
