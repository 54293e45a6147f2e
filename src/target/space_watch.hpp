// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <list>
#include <memory>
#include <mutex>
#include <thread>

#include "block/backstore.hpp"

namespace perilune::target {

// Measures what thin backstores use of their backing, on a thread of its own: it asks file systems, which may
// take their time. A store is measured again when its meter was told that something has moved, and then not
// before a pause is over since the last time (longer where measuring takes long). While nobody writes, nobody
// wakes up.
class SpaceWatch {
 public:
  explicit SpaceWatch(std::chrono::milliseconds pause = std::chrono::milliseconds(100));
  // Waits for a measurement in progress. Nobody uses a meter any more.
  ~SpaceWatch();
  SpaceWatch(const SpaceWatch&) = delete;
  SpaceWatch& operator=(const SpaceWatch&) = delete;

  // Measures at once, on the caller's thread (any that may block). nullptr where nobody can tell what the
  // store uses. The meter lives as long as this; the store need not, and is not measured any more when it is
  // gone.
  [[nodiscard]] block::SpaceMeter* watch(const std::shared_ptr<block::Backstore>& store);
  // Nobody uses the meter any more: it goes. Waits for a measurement in progress.
  void forget(const block::SpaceMeter& meter);

 private:
  class Meter;

  void ask(Meter& meter) noexcept;
  void run();
  [[nodiscard]] Meter* next_asked();

  const std::chrono::milliseconds pause_;
  std::mutex mutex_;  // of what follows
  std::condition_variable wake_;
  std::condition_variable measured_;
  const Meter* measuring_ = nullptr;
  std::list<std::unique_ptr<Meter>> meters_;
  bool ending_ = false;
  std::thread thread_;  // last: it uses the others. Begins with the first meter
};

}  // namespace perilune::target
