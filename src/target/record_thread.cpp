// SPDX-License-Identifier: Apache-2.0
#include "target/record_thread.hpp"

#include <utility>

#include "runtime/loop.hpp"
#include "runtime/posix/thread.hpp"

namespace perilune::target {

RecordThread::RecordThread(std::unique_ptr<runtime::RecordStore> store)
    : store_(std::move(store)), thread_(runtime::posix::start_without_signals([this] { run(); })) {}

RecordThread::~RecordThread() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_.notify_one();
  thread_.join();
}

Result<std::vector<std::uint8_t>> RecordThread::get(std::string_view name) {
  const std::lock_guard lock(store_mutex_);
  return store_->get(name);
}

void RecordThread::put(runtime::Loop& loop, std::string name, std::vector<std::uint8_t> value,
                       std::function<void(Status)> done) {
  {
    const std::lock_guard lock(mutex_);
    puts_.push_back({&loop, std::move(name), std::move(value), std::move(done)});
  }
  wake_.notify_one();
}

void RecordThread::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return ending_ || !puts_.empty(); });
    if (puts_.empty()) return;
    Put put = std::move(puts_.front());
    puts_.pop_front();
    lock.unlock();
    Status status;
    {
      const std::lock_guard store_lock(store_mutex_);
      status = store_->put(put.name, put.value);
    }
    put.loop->post([done = std::move(put.done), status = std::move(status)] { done(status); });
    lock.lock();
  }
}

}  // namespace perilune::target
