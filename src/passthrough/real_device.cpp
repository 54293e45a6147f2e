// SPDX-License-Identifier: Apache-2.0
#include "passthrough/real_device.hpp"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <system_error>

#include "base/assert.hpp"
#include "passthrough/delivery.hpp"
#include "runtime/posix/thread.hpp"

namespace perilune::passthrough {

class RealDevice::Port final : public scsi::PassthroughPort {
 public:
  Port(RealDevice& device, runtime::posix::UniqueFd bell) : device_(device), bell_(std::move(bell)) {}
  ~Port() override { PERILUNE_ASSERT(outstanding_ == 0); }

  [[nodiscard]] bool watch(runtime::Loop& loop) {
    watch_ = loop.watch_readable(bell_.get(), Delegate<void()>::to<&Port::on_bell>(*this));
    return watch_ != nullptr;
  }

  [[nodiscard]] const scsi::PassthroughFacts& facts() const noexcept override { return device_.facts(); }

  void submit(scsi::PassthroughCommand& command) override {
    ++outstanding_;
    command.port = this;
    device_.submit(command);
  }

  void reset(scsi::PassthroughReset& reset) override {
    ++outstanding_;
    reset.port = this;
    device_.submit(reset);
  }

  // Any thread.
  void ended(scsi::PassthroughCommand& command) { tell(ended_, command); }
  void ended(scsi::PassthroughReset& reset) { tell(ended_resets_, reset); }

 private:
  template <class Ended>
  void tell(IntrusiveList<Ended>& list, Ended& ended) {
    // Under the lock to the end: once the loop has what has ended, this port may go.
    const std::lock_guard lock(mutex_);
    const bool ring = ended_.empty() && ended_resets_.empty();
    list.push_back(ended);
    const std::uint64_t one = 1;
    if (ring) PERILUNE_ASSERT(::write(bell_.get(), &one, sizeof one) == sizeof one);
  }

  void on_bell() {
    std::uint64_t rings = 0;
    if (::read(bell_.get(), &rings, sizeof rings) != sizeof rings) return;
    IntrusiveList<scsi::PassthroughCommand> ended;
    IntrusiveList<scsi::PassthroughReset> ended_resets;
    {
      const std::lock_guard lock(mutex_);
      ended.splice_back(ended_);
      ended_resets.splice_back(ended_resets_);
    }
    tell_all(ended);
    tell_all(ended_resets);
  }

  template <class Ended>
  void tell_all(IntrusiveList<Ended>& list) {
    while (!list.empty()) {
      Ended& ended = list.pop_front();
      --outstanding_;
      ended.done(ended);
    }
  }

  RealDevice& device_;
  runtime::posix::UniqueFd bell_;
  std::unique_ptr<runtime::FdWatch> watch_;
  std::size_t outstanding_ = 0;
  std::mutex mutex_;  // of what follows
  IntrusiveList<scsi::PassthroughCommand> ended_;
  IntrusiveList<scsi::PassthroughReset> ended_resets_;
};

Result<std::shared_ptr<RealDevice>> RealDevice::create(RealDeviceSpec spec) {
  if (spec.threads == 0 || spec.threads > max_threads)
    return fail(Errc::invalid_argument, "1 to 16 threads for a SCSI device");
  std::shared_ptr<RealDevice> device(new RealDevice(std::move(spec)));
  if (Status status = device->start_threads(); !status) return tl::unexpected(status.error());
  return device;
}

Status RealDevice::start_threads() {
  try {
    for (unsigned i = 0; i < spec_.threads; ++i)
      threads_.push_back(runtime::posix::start_without_signals([this] { run(); }));
    threads_.push_back(runtime::posix::start_without_signals([this] { run_resets(); }));
  } catch (const std::system_error& error) {
    return fail(Errc::limit, std::string("no thread for a SCSI device: ") + error.what(),
                error.code().value());
  }
  return {};
}

RealDevice::~RealDevice() {
  {
    const std::lock_guard lock(mutex_);
    ending_ = true;
  }
  wake_.notify_all();
  wake_resets_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

Result<std::unique_ptr<scsi::PassthroughPort>> RealDevice::open_port(runtime::Loop& loop) {
  runtime::posix::UniqueFd bell(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!bell) return fail_errno(errno, "eventfd");
  auto port = std::make_unique<Port>(*this, std::move(bell));
  if (!port->watch(loop)) return fail(Errc::unsupported, "this loop cannot wait for a SCSI device");
  return port;
}

void RealDevice::submit(scsi::PassthroughCommand& command) {
  {
    const std::lock_guard lock(mutex_);
    if (waiting_count_ < max_waiting_commands) {
      waiting_.push_back(command);
      ++waiting_count_;
      wake_.notify_one();
      return;
    }
  }
  command.delivery = scsi::PassthroughCommand::Delivery::queue_full;
  static_cast<Port*>(command.port)->ended(command);
}

void RealDevice::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return ending_ || !waiting_.empty(); });
    if (waiting_.empty()) return;
    scsi::PassthroughCommand& command = waiting_.pop_front();
    --waiting_count_;
    lock.unlock();
    carry_out(command);
    static_cast<Port*>(command.port)->ended(command);
    lock.lock();
  }
}

void RealDevice::submit(scsi::PassthroughReset& reset) {
  const std::lock_guard lock(mutex_);
  waiting_resets_.push_back(reset);
  wake_resets_.notify_one();
}

void RealDevice::run_resets() {
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_resets_.wait(lock, [this] { return ending_ || !waiting_resets_.empty(); });
    if (waiting_resets_.empty()) return;
    scsi::PassthroughReset& reset = waiting_resets_.pop_front();
    lock.unlock();
    reset.succeeded = spec_.node->reset() == 0;
    static_cast<Port*>(reset.port)->ended(reset);
    lock.lock();
  }
}

void RealDevice::carry_out(scsi::PassthroughCommand& command) {
  if (command.direction == Direction::in) {
    // The memory was another command's. Where an adapter says that data came and none did, this is what is
    // sent.
    std::size_t left = command.bytes;
    for (const iovec& piece : command.data) {
      std::memset(piece.iov_base, 0, std::min(piece.iov_len, left));
      left -= std::min(piece.iov_len, left);
    }
  }
  const Bytes cdb(command.cdb.data(), command.cdb_length);
  const SgRequest request{.cdb = cdb,
                          .direction = command.direction,
                          .bytes = command.bytes,
                          .data = command.data,
                          .timeout = timeout_of(spec_.facts.type, cdb),
                          .sense = command.sense};
  judge(spec_.node->execute(request), command);
}

}  // namespace perilune::passthrough
