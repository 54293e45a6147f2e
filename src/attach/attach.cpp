// SPDX-License-Identifier: Apache-2.0
// The order of things: helper -> mount -> serve -> bind -> record -> ready; and back.
#include "attach/attach.hpp"

#include <sys/prctl.h>
#include <unistd.h>

#include <atomic>
#include <utility>
#include <vector>

#include "attach/disk.hpp"
#include "attach/fuse_disk.hpp"
#include "attach/host_helper.hpp"
#include "attach/loop_device.hpp"
#include "attach/state_file.hpp"
#include "base/assert.hpp"

namespace perilune::attach {

namespace {

constexpr std::size_t max_record_bytes = 4096;  // leaves room for a refusal
constexpr std::size_t max_refusal_bytes = 512;
constexpr std::size_t max_path_bytes = 400;

// Unlike that of any process before, so that nothing a killed one left stands in the way.
std::string new_id(pid_t pid, std::uint64_t start_time) {
  static std::atomic<unsigned> sequence{0};
  return std::to_string(pid) + "-" + std::to_string(start_time) + "-" + std::to_string(sequence.fetch_add(1));
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
  [[nodiscard]] const std::string& state_file() const override { return record_.path; }
  [[nodiscard]] bool direct_io() const override { return direct_io_; }
  [[nodiscard]] AttachStatistics statistics() const override {
    return disk_ ? disk_->statistics() : AttachStatistics{};
  }

 private:
  enum class Step : std::uint8_t { none, mount, bind, record, detach, record_refusal, undo, drain };

  void begin();
  [[nodiscard]] Status open_helper();
  void request(Step step, HelperRequest::Kind kind, bool force = false);
  void on_answer(HostHelper::Answer& answer);
  void on_mounted(HostHelper::Answer& answer);
  void on_bound(const HostHelper::Answer& answer);
  void on_detach_answer(const HostHelper::Answer& answer);
  void give_up(Error error);
  void drain();
  void on_drained();
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
  int loop_number_ = -1;
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
  auto front_end = FuseDisk::create(loop_, *disk_, options_.pool_pages);
  if (!front_end) return give_up(front_end.error());
  front_end_ = std::move(*front_end);
  if (encode(record_).size() > max_record_bytes || record_.path.size() > max_path_bytes) {
    return give_up({Errc::invalid_argument, "the name or the folder of an attachment is too long"});
  }
  declare_io_flusher();
  request(Step::mount, HelperRequest::Kind::mount);
}

Status HostAttachment::open_helper() {
  auto helper = HostHelper::start(loop_, HostHelper::Answered::to<&HostAttachment::on_answer>(*this));
  if (!helper) return tl::unexpected(helper.error());
  helper_ = std::move(*helper);
  return {};
}

void HostAttachment::request(Step step, HelperRequest::Kind kind, bool force) {
  step_ = step;
  const block::Geometry& geometry = channel_.geometry();
  auto message = std::make_unique<HelperRequest>();
  message->kind = kind;
  message->loop_number = loop_number_;
  message->block_size_bytes = geometry.block_size_bytes;
  message->max_read_bytes = max_fuse_transfer_bytes;
  message->read_only = record_.read_only;
  message->scan_partitions = options_.scan_partitions;
  message->direct_io = options_.direct_io;
  message->rotational = geometry.rotational;
  message->force = force;
  const bool fits = HostHelper::put(message->label, loop_label_prefix + record_.id) &&
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
    case Step::mount:
      return on_mounted(answer);
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
    case Step::none:
    case Step::drain:
      return;
  }
}

void HostAttachment::on_mounted(HostHelper::Answer& answer) {
  if (!answer.status) return give_up(answer.status.error());
  std::vector<UniqueFd> descriptors;
  descriptors.push_back(std::move(answer.fd));
  if (auto served = front_end_->serve(std::move(descriptors)); !served) return give_up(served.error());
  request(Step::bind, HelperRequest::Kind::bind);
}

void HostAttachment::on_bound(const HostHelper::Answer& answer) {
  if (!answer.status) return give_up(answer.status.error());
  loop_number_ = answer.loop_number;
  direct_io_ = answer.direct_io;
  record_.device = loop_device(loop_number_);
  request(Step::record, HelperRequest::Kind::write_record);
}

// A start that failed: takes back what was done, then says why.
void HostAttachment::give_up(Error error) {
  const bool nothing_done = helper_ == nullptr;
  outcome_ = tl::unexpected(std::move(error));
  record_.device.clear();
  if (nothing_done) return drain();
  request(Step::undo, HelperRequest::Kind::undo);
}

void HostAttachment::drain() {
  helper_.reset();
  step_ = Step::drain;
  if (front_end_ == nullptr) return on_drained();
  front_end_->stop(Delegate<void()>::to<&HostAttachment::on_drained>(*this));
}

void HostAttachment::on_drained() {
  step_ = Step::none;
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

std::unique_ptr<Attachment> Attachment::start(runtime::Loop& loop, block::Channel& channel,
                                              AttachOptions options, ReadyCallback ready) {
  return std::make_unique<HostAttachment>(loop, channel, std::move(options), std::move(ready));
}

}  // namespace perilune::attach
