// SPDX-License-Identifier: Apache-2.0
// The order of things: helper -> prepare -> serve -> bind -> record -> ready; and back: detach -> stop
// serving -> remove.
#include "attach/attach.hpp"

#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <utility>
#include <vector>

#include "attach/disk.hpp"
#include "attach/fuse_disk.hpp"
#include "attach/host_helper.hpp"
#include "attach/nbd_disk.hpp"
#include "attach/state_file.hpp"
#include "attach/ublk_disk.hpp"
#include "base/assert.hpp"

namespace perilune::attach {

namespace {

constexpr std::size_t max_record_bytes = 4096;  // leaves room for a refusal
constexpr std::size_t max_refusal_bytes = 512;
constexpr std::size_t max_path_bytes = 400;

std::string new_id(pid_t pid, std::uint64_t start_time) {
  static std::atomic<unsigned> sequence{0};
  return make_record_id(pid, start_time, sequence.fetch_add(1));
}

// This thread completes the kernel's writeback: while it allocates, the kernel must not wait for that same
// writeback.
void declare_io_flusher() {
#ifdef PR_SET_IO_FLUSHER
  static_cast<void>(::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0));
#endif
}

class HostAttachment final : public Attachment {
 public:
  HostAttachment(runtime::Loop& loop, block::Channel& channel, AttachOptions options, ReadyCallback ready)
      : loop_(loop),
        channel_(channel),
        options_(std::move(options)),
        ready_(std::move(ready)),
        start_hook_(Delegate<void()>::to<&HostAttachment::begin>(*this)) {
    record_.pid = ::getpid();
    record_.start_time = process_start_time(record_.pid);
    record_.id = new_id(record_.pid, record_.start_time);
    record_.owner = options_.owner;
    record_.name = options_.name;
    record_.target = options_.target;
    record_.lun = options_.lun;
    record_.read_only = options_.read_only || channel_.geometry().read_only;
    record_.driver = to_string(options_.driver);
    record_.mount_point = options_.run_dir + "/" + record_.id;
    record_.path = record_.mount_point + ".json";
    loop_.schedule(start_hook_);
  }
  ~HostAttachment() override {
    PERILUNE_ASSERT(state_ == AttachState::detached || state_ == AttachState::failed);
  }

  void detach(DetachMode mode, DetachCallback done) override;
  [[nodiscard]] AttachState state() const override { return state_; }
  [[nodiscard]] const std::string& device() const override { return record_.device; }
  [[nodiscard]] Driver driver() const override { return driver_; }
  [[nodiscard]] const std::string& state_file() const override { return record_.path; }
  [[nodiscard]] bool direct_io() const override { return direct_io_; }
  [[nodiscard]] AttachStatistics statistics() const override {
    return disk_ ? disk_->statistics() : AttachStatistics{};
  }

 private:
  enum class Step : std::uint8_t { none, prepare, bind, record, detach, record_refusal, undo, drain, remove };

  void begin();
  [[nodiscard]] Status open_helper();
  void request(Step step, HelperRequest::Kind kind, bool force = false);
  void on_answer(HostHelper::Answer& answer);
  void on_prepared(HostHelper::Answer& answer);
  [[nodiscard]] Status make_front_end();
  template <class Made>
  [[nodiscard]] Status take(Made made);
  void describe(HelperRequest::Device& device) const;
  void on_bound(const HostHelper::Answer& answer);
  void on_detach_answer(const HostHelper::Answer& answer);
  void give_up(Error error);
  void drain();
  void on_drained();
  void end();
  void end_detach(Status status);

  runtime::Loop& loop_;
  block::Channel& channel_;
  const AttachOptions options_;
  ReadyCallback ready_;
  DetachCallback detached_;
  AttachRecord record_;
  AttachState state_ = AttachState::starting;
  Step step_ = Step::none;
  Status outcome_;  // what give_up or detach will tell, after the cleaning
  Driver driver_ = Driver::automatic;
  int number_ = -1;  // of the device
  bool direct_io_ = false;
  std::unique_ptr<Disk> disk_;
  std::unique_ptr<FrontEnd> front_end_;
  std::unique_ptr<HostHelper> helper_;
  runtime::TurnHook start_hook_;
};

void HostAttachment::begin() {
  auto disk = Disk::create(channel_, record_.read_only);
  if (!disk) return give_up(disk.error());
  disk_ = std::move(*disk);
  if (encode(record_).size() > max_record_bytes || record_.path.size() > max_path_bytes) {
    return give_up({Errc::invalid_argument, "the name or the folder of an attachment is too long"});
  }
  declare_io_flusher();
  driver_ = options_.driver;
  request(Step::prepare, HelperRequest::Kind::prepare);
}

Status HostAttachment::open_helper() {
  auto helper = HostHelper::start(loop_, HostHelper::Answered::to<&HostAttachment::on_answer>(*this));
  if (!helper) return tl::unexpected(helper.error());
  helper_ = std::move(*helper);
  return {};
}

void HostAttachment::request(Step step, HelperRequest::Kind kind, bool force) {
  step_ = step;
  auto message = std::make_unique<HelperRequest>();
  message->kind = kind;
  message->driver = driver_;
  message->device_commands = loop_.takes_device_commands();
  message->number = number_;
  message->server = record_.pid;
  message->force = force;
  if (disk_) describe(message->device);
  const bool fits = HostHelper::put(message->label, std::string(device_label_prefix) + record_.id) &&
                    HostHelper::put(message->mount_point, record_.mount_point) &&
                    HostHelper::put(message->record_path, record_.path) &&
                    HostHelper::put(message->record, encode(record_));
  PERILUNE_ASSERT(fits);  // begin() has checked
  if (helper_ == nullptr || helper_->gone()) {
    if (auto opened = open_helper(); !opened) {
      loop_.post([this, error = opened.error()] {
        HostHelper::Answer answer;
        answer.status = tl::unexpected(error);
        on_answer(answer);
      });
      return;
    }
  }
  helper_->send(*message);
}

void HostAttachment::on_answer(HostHelper::Answer& answer) {
  switch (std::exchange(step_, Step::none)) {
    case Step::prepare:
      return on_prepared(answer);
    case Step::bind:
      return on_bound(answer);
    case Step::record: {
      if (!answer.status) return give_up(answer.status.error());
      helper_.reset();  // another one will come for the detach: nothing idles, and nothing keeps copies of
                        // our memory
      state_ = AttachState::ready;
      return std::exchange(ready_, nullptr)(record_.device);
    }
    case Step::detach:
      return on_detach_answer(answer);
    case Step::record_refusal:
      return end_detach(std::exchange(outcome_, Status{}));
    case Step::undo:
      return drain();
    case Step::remove:
      return end();
    case Step::none:
    case Step::drain:
      return;
  }
}

void HostAttachment::describe(HelperRequest::Device& device) const {
  const block::Geometry& geometry = channel_.geometry();
  device.size_bytes = disk_->size_bytes();
  device.block_size_bytes = disk_->block_size();
  device.physical_block_size_bytes = geometry.physical_block_size_bytes;
  device.discard_granularity_bytes = geometry.thin ? disk_->granularity_bytes() : 0;
  device.connections = std::clamp(options_.nbd_connections, 1u, max_nbd_connections);
  device.nbd_flags = nbd_transmission_flags(*disk_);
  device.read_only = record_.read_only;
  device.write_cache = geometry.write_cache;
  device.fua = geometry.fua;
  device.rotational = geometry.rotational;
  device.scan_partitions = options_.scan_partitions;
  device.direct_io = options_.direct_io;
}

void HostAttachment::on_prepared(HostHelper::Answer& answer) {
  if (!answer.status) return give_up(answer.status.error());
  driver_ = answer.driver;
  number_ = answer.number;
  record_.driver = to_string(driver_);
  if (auto made = make_front_end(); !made) return give_up(made.error());
  if (auto served = front_end_->serve(std::move(answer.descriptors)); !served) return give_up(served.error());
  request(Step::bind, HelperRequest::Kind::bind);
}

template <class Made>
Status HostAttachment::take(Made made) {
  if (!made) return tl::unexpected(made.error());
  front_end_ = std::move(*made);
  return {};
}

Status HostAttachment::make_front_end() {
  switch (driver_) {
    case Driver::ublk:
      return take(UblkDisk::create(loop_, *disk_));
    case Driver::nbd:
      return take(NbdDisk::create(loop_, *disk_, options_.pool_pages));
    case Driver::automatic:
    case Driver::fuse:
      break;
  }
  return take(FuseDisk::create(loop_, *disk_, options_.pool_pages));
}

void HostAttachment::on_bound(const HostHelper::Answer& answer) {
  if (!answer.status) return give_up(answer.status.error());
  number_ = answer.number;
  direct_io_ = answer.direct_io;
  record_.device = answer.device;
  request(Step::record, HelperRequest::Kind::write_record);
}

// A start that failed: takes back what was done, then says why.
void HostAttachment::give_up(Error error) {
  outcome_ = tl::unexpected(std::move(error));
  record_.device.clear();
  if (helper_ == nullptr) return end();  // nothing was done
  request(Step::undo, HelperRequest::Kind::undo);
}

void HostAttachment::drain() {
  step_ = Step::drain;
  if (front_end_ == nullptr) return on_drained();
  front_end_->stop(Delegate<void()>::to<&HostAttachment::on_drained>(*this));
}

void HostAttachment::on_drained() { request(Step::remove, HelperRequest::Kind::remove); }

void HostAttachment::end() {
  step_ = Step::none;
  helper_.reset();
  if (ready_) {
    state_ = AttachState::failed;
    return std::exchange(ready_, nullptr)(tl::unexpected(outcome_.error()));
  }
  state_ = AttachState::detached;
  std::exchange(detached_, nullptr)(std::exchange(outcome_, Status{}));
}

void HostAttachment::detach(DetachMode mode, DetachCallback done) {
  PERILUNE_ASSERT(state_ == AttachState::ready);
  state_ = AttachState::detaching;
  detached_ = std::move(done);
  request(Step::detach, HelperRequest::Kind::detach, mode == DetachMode::force);
}

void HostAttachment::on_detach_answer(const HostHelper::Answer& answer) {
  if (answer.status) return drain();
  outcome_ = answer.status;
  record_.refusal = answer.status.error().message.substr(0, max_refusal_bytes);
  ++record_.refusals;  // whoever asked by a signal reads it there
  request(Step::record_refusal, HelperRequest::Kind::write_record);
}

// Refused: the device goes on.
void HostAttachment::end_detach(Status status) {
  helper_.reset();
  state_ = AttachState::ready;
  std::exchange(detached_, nullptr)(std::move(status));
}

}  // namespace

std::string_view to_string(AttachState state) noexcept {
  switch (state) {
    case AttachState::starting:
      return "starting";
    case AttachState::ready:
      return "ready";
    case AttachState::detaching:
      return "detaching";
    case AttachState::detached:
      return "detached";
    case AttachState::failed:
      return "failed";
  }
  return "unknown";
}

std::string_view to_string(Driver driver) noexcept {
  switch (driver) {
    case Driver::automatic:
      return "auto";
    case Driver::fuse:
      return "fuse";
    case Driver::nbd:
      return "nbd";
    case Driver::ublk:
      return "ublk";
  }
  return "unknown";
}

Result<Driver> parse_driver(std::string_view text) {
  for (const Driver driver : {Driver::automatic, Driver::fuse, Driver::nbd, Driver::ublk}) {
    if (to_string(driver) == text) return driver;
  }
  return fail(Errc::invalid_argument, "drivers are auto, fuse, nbd and ublk");
}

std::unique_ptr<Attachment> Attachment::start(runtime::Loop& loop, block::Channel& channel,
                                              AttachOptions options, ReadyCallback ready) {
  return std::make_unique<HostAttachment>(loop, channel, std::move(options), std::move(ready));
}

}  // namespace perilune::attach
