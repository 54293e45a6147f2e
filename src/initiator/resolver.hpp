// SPDX-License-Identifier: Apache-2.0
// Names to addresses beside the loop: getaddrinfo blocks, so it runs on a thread of its own.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "runtime/loop.hpp"

namespace perilune::initiator {

class Resolver {
 public:
  explicit Resolver(runtime::Loop& loop);
  ~Resolver();  // answers that come later are dropped
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

  // `done` is called once, from a later turn of the loop. A numeric address needs no thread. At most 64 names
  // are looked up at once (limit).
  using Done = std::function<void(Result<std::vector<runtime::Endpoint>>)>;
  void resolve(const std::string& host, std::uint16_t port, Done done);

 private:
  struct Shared;
  runtime::Loop& loop_;
  std::shared_ptr<Shared> shared_;
};

}  // namespace perilune::initiator
