// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>

#include "runtime/record_store.hpp"
#include "runtime/record_writer.hpp"

namespace perilune::target {

// A RecordWriter with a thread of its own, which waits for the store. The thread runs as long as this object:
// the destructor carries out what was asked for before.
class RecordThread final : public runtime::RecordWriter {
 public:
  explicit RecordThread(std::unique_ptr<runtime::RecordStore> store);
  ~RecordThread() override;
  RecordThread(const RecordThread&) = delete;
  RecordThread& operator=(const RecordThread&) = delete;

  [[nodiscard]] Result<std::vector<std::uint8_t>> get(std::string_view name) override;
  void put(runtime::Loop& loop, std::string name, std::vector<std::uint8_t> value,
           std::function<void(Status)> done) override;

 private:
  struct Put {
    runtime::Loop* loop = nullptr;
    std::string name;
    std::vector<std::uint8_t> value;
    std::function<void(Status)> done;
  };
  void run();

  std::unique_ptr<runtime::RecordStore> store_;
  std::mutex store_mutex_;
  std::mutex mutex_;  // of what follows
  std::condition_variable wake_;
  std::deque<Put> puts_;  // at most one of each unit (scsi::UnitStore)
  bool ending_ = false;
  std::thread thread_;  // last: it uses the others
};

}  // namespace perilune::target
