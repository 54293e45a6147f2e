// SPDX-License-Identifier: Apache-2.0
#include "initiator/resolver.hpp"

#include <mutex>
#include <thread>

#include "initiator/url.hpp"

namespace perilune::initiator {
namespace {
constexpr int max_lookups = 64;
}

struct Resolver::Shared {
  std::mutex mutex;
  runtime::Loop* loop = nullptr;  // null once the resolver is gone
  int running = 0;
};

Resolver::Resolver(runtime::Loop& loop) : loop_(loop), shared_(std::make_shared<Shared>()) {
  shared_->loop = &loop;
}

Resolver::~Resolver() {
  const std::lock_guard<std::mutex> hold(shared_->mutex);
  shared_->loop = nullptr;
}

void Resolver::resolve(const std::string& host, std::uint16_t port, Done done) {
  using Answer = Result<std::vector<runtime::Endpoint>>;
  const auto give = [this, &done](Answer answer) {
    loop_.post([done = std::move(done), answer = std::move(answer)] { done(answer); });
  };
  const bool v6 = host.find(':') != std::string::npos;
  if (auto numeric = runtime::Endpoint::parse(v6 ? "[" + host + "]" : host, port)) {
    return give(std::vector<runtime::Endpoint>{*numeric});
  }
  {
    const std::lock_guard<std::mutex> hold(shared_->mutex);
    if (shared_->running >= max_lookups)
      return give(perilune::fail(Errc::limit, "too many names are being looked up"));
    ++shared_->running;
  }
  std::thread([shared = shared_, host, port, done = std::move(done)] {
    auto answer = initiator::resolve(host, port);
    const std::lock_guard<std::mutex> hold(shared->mutex);
    --shared->running;
    if (shared->loop != nullptr) shared->loop->post([done, answer = std::move(answer)] { done(answer); });
  }).detach();
}

}  // namespace perilune::initiator
