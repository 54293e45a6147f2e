// SPDX-License-Identifier: Apache-2.0
#include "runtime/sim/sim_record_store.hpp"

#include <cerrno>

namespace perilune::sim {

Result<std::vector<std::uint8_t>> SimRecordStore::get(std::string_view name) {
  const auto it = records_.find(name);
  if (it == records_.end()) return fail(Errc::not_found, "no record " + std::string(name), ENOENT);
  return it->second;
}

Status SimRecordStore::put(std::string_view name, Bytes value) {
  world_.note(Event::record, hash_bytes(as_bytes(name)) ^ hash_bytes(value));
  const bool failed = world_.prng().per_million(fail_per_million_);
  if (!failed || world_.prng().coin()) records_[std::string(name)].assign(value.begin(), value.end());
  if (failed) return fail_errno(EIO, "record " + std::string(name));
  return {};
}

Status SimRecordStore::remove(std::string_view name) {
  world_.note(Event::record, hash_bytes(as_bytes(name)));
  const auto it = records_.find(name);
  if (it == records_.end()) return fail(Errc::not_found, "no record " + std::string(name), ENOENT);
  records_.erase(it);
  return {};
}

}  // namespace perilune::sim
