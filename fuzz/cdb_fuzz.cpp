// SPDX-License-Identifier: Apache-2.0
// SCSI commands and task management at a device with one small disk, over a channel that ends operations at
// once or later: every command ends exactly once, no transfer leaves the disk or the memory that was given,
// sense data is whole.
#include <sys/uio.h>

#include <array>
#include <cstring>
#include <functional>
#include <list>
#include <memory>
#include <vector>

#include "fuzz_input.hpp"
#include "scsi/device.hpp"

namespace {

using namespace perilune;
using fuzz::Input;
using fuzz::require;

constexpr std::uint32_t room = 8;  // for protection information, behind the blocks of LUN 1
constexpr std::uint64_t disk_blocks = 512;

// A disk in memory that checks what it is asked for.
class MemoryChannel final : public block::Channel {
 public:
  explicit MemoryChannel(std::uint32_t protection_bytes = 0, std::uint32_t user_bytes = 512)
      : block_size(user_bytes + protection_bytes), bytes_(block_size * disk_blocks) {
    geometry_.block_size_bytes = block_size;
    geometry_.protection_bytes = protection_bytes;
    geometry_.blocks = BlockCount{disk_blocks};
    geometry_.thin = geometry_.unmap_zeroes = geometry_.encrypted = true;
    geometry_.max_atomic_blocks = 16;
  }
  [[nodiscard]] const block::Geometry& geometry() const override { return geometry_; }
  [[nodiscard]] bool submit(block::BlockOp& op) override {
    carry_out(op);
    if (!later) return true;
    pending_.push_back(&op);
    return false;
  }
  bool finish_one() {
    if (pending_.empty()) return false;
    block::BlockOp* op = pending_.front();
    pending_.pop_front();
    op->done(*op);
    return true;
  }

  bool later = false;
  bool failing = false;

 private:
  void carry_out(block::BlockOp& op) {
    op.status = failing ? block::OpStatus::write_error : block::OpStatus::ok;
    if (op.kind == block::OpKind::flush || op.kind == block::OpKind::change_key) return;
    const std::uint64_t lba = op.lba.value(), blocks = op.blocks.value();
    require(lba <= disk_blocks && blocks <= disk_blocks - lba);
    if (op.kind == block::OpKind::query) {
      require(blocks != 0);
      op.mapped = lba % 3 != 0;
      op.alike = BlockCount{1 + lba % blocks};
      return;
    }
    std::uint8_t* at = bytes_.data() + lba * block_size;
    std::uint64_t left = blocks * block_size;
    if (op.kind == block::OpKind::read || op.kind == block::OpKind::write) {
      require(op.data.size() <= 65);
      for (const iovec& piece : op.data) {
        require(piece.iov_len <= left);
        if (op.kind == block::OpKind::read) std::memcpy(piece.iov_base, at, piece.iov_len);
        else std::memcpy(at, piece.iov_base, piece.iov_len);
        at += piece.iov_len;
        left -= piece.iov_len;
      }
      require(left == 0);
    } else {
      std::memset(at, 0, left);
    }
  }

  const std::uint32_t block_size;
  block::Geometry geometry_;
  std::vector<std::uint8_t> bytes_;
  std::list<block::BlockOp*> pending_;
};

// A real device that answers with whatever its bytes make of the CDB: any delivery, status, sense and
// residual.
class HostilePort final : public scsi::PassthroughPort {
 public:
  HostilePort() {
    facts_.block_bytes = 512;
    facts_.inquiry.assign(36, 0x18);
    facts_.unrestricted = true;
  }
  [[nodiscard]] const scsi::PassthroughFacts& facts() const noexcept override { return facts_; }
  void submit(scsi::PassthroughCommand& command) override {
    require(command.cdb_length >= 6 && command.cdb_length <= limits::max_cdb_bytes);
    require(command.bytes <= facts_.max_transfer_bytes);
    require((command.bytes == 0) == (command.direction == scsi::PassthroughCommand::Direction::none));
    std::size_t room_for_data = 0;
    for (const iovec& piece : command.data) room_for_data += piece.iov_len;
    require(room_for_data >= command.bytes);
    for (const std::uint8_t byte : command.cdb) mix(byte);
    waiting_.push_back(&command);
  }
  void reset(scsi::PassthroughReset& reset) override { resets_.push_back(&reset); }
  bool finish_one() {
    if (!resets_.empty()) {
      scsi::PassthroughReset& reset = *resets_.front();
      resets_.pop_front();
      reset.succeeded = mix(11) % 2 == 0;
      reset.done(reset);
      return true;
    }
    if (waiting_.empty()) return false;
    scsi::PassthroughCommand& command = *waiting_.front();
    waiting_.pop_front();
    if (command.direction == scsi::PassthroughCommand::Direction::in) fill(command);
    command.delivery = static_cast<scsi::PassthroughCommand::Delivery>(mix(1) % 4 == 0 ? mix(2) % 9 : 0);
    command.status = mix(3) % 2 == 0 ? 0 : static_cast<std::uint8_t>(mix(4) & 0x7e);
    command.sense_length = static_cast<std::uint8_t>(mix(5) % (command.sense.size() + 1));
    for (std::uint8_t& byte : command.sense) byte = static_cast<std::uint8_t>(mix(6));
    if (mix(7) % 2 == 0) command.sense[0] = 0x70 | (mix(8) & 3);
    command.transferred_bytes = static_cast<std::uint32_t>(mix(9) % (std::uint64_t{command.bytes} + 1));
    command.done(command);
    return true;
  }

 private:
  std::uint64_t mix(std::uint8_t byte) noexcept { return (state_ = (state_ ^ byte) * 0x100000001b3u) >> 16; }
  void fill(scsi::PassthroughCommand& command) noexcept {
    for (const iovec& piece : command.data) {
      auto* at = static_cast<std::uint8_t*>(piece.iov_base);
      for (std::size_t i = 0; i < piece.iov_len && i < 64; ++i) at[i] = static_cast<std::uint8_t>(mix(10));
    }
  }

  scsi::PassthroughFacts facts_;
  std::list<scsi::PassthroughCommand*> waiting_;
  std::list<scsi::PassthroughReset*> resets_;
  std::uint64_t state_ = 0xcbf29ce484222325u;
};

// Keeps nothing, and answers later.
class LateStore final : public scsi::UnitStore {
 public:
  void save(std::vector<std::uint8_t> record, std::function<void(bool)> done) override {
    require(scsi::decode_durable_state(record).has_value());
    require(!done_);
    done_ = std::move(done);
  }
  bool finish_one() {
    if (!done_) return false;
    auto done = std::move(done_);
    done_ = nullptr;
    done(!failing);
    return true;
  }
  bool failing = false;

 private:
  std::function<void(bool)> done_;
};

struct Command {
  scsi::Task task;
  std::vector<std::uint8_t> data, scratch;
  std::array<iovec, 2> pieces{};
  iovec scratch_piece{};
  int ended = 0;
  bool cancelled = false;

  void on_done(scsi::Task&) {
    ++ended;
    require(task.sense_length == 0 || task.sense_length >= 8);
    require(!task.parameter_data.empty() || task.data_in_length <= task.need.data_in_bytes);
  }
  void on_cancelled(scsi::Task&) { cancelled = true; }
};

struct Ending {
  bool over = false;
  void on_done(scsi::TaskManagement&) { over = true; }
};

class World {
 public:
  World() {
    require(device_.add_unit(0, {.identity = scsi::UnitIdentity::from_id(7), .store = &store_}, channel_)
                .has_value());
    require(device_
                .add_unit(1, {.identity = scsi::UnitIdentity::from_id(8), .store = &protected_store_},
                          protected_channel_)
                .has_value());
    require(device_.add_unit(2, {.identity = scsi::UnitIdentity::from_id(9)}, port_).has_value());
    require(device_
                .add_unit(3,
                          {.identity = scsi::UnitIdentity::from_id(10),
                           .read_only = true,
                           .type = scsi::DeviceType::cd_dvd},
                          disc_)
                .has_value());
    nexus_.emplace_back(
        std::make_unique<scsi::Nexus>(device_, scsi::NexusNames{"iqn.a,i,0x400000000001", "iqn.t,t,0x0001"}));
    nexus_.emplace_back(
        std::make_unique<scsi::Nexus>(device_, scsi::NexusNames{"iqn.b,i,0x400000000002", "iqn.t,t,0x0001"}));
  }
  ~World() {
    while (finish_one()) {}
    for (auto& nexus : nexus_) {
      scsi::TaskManagement reset;
      reset.function = scsi::TmFunction::i_t_nexus_reset;
      reset.nexus = nexus.get();
      manage(reset);
    }
    for (const auto& command : commands_) require(command->ended <= 1);
    commands_.clear();
    nexus_.clear();
  }

  void step(Input& input) {
    const std::uint8_t what = input.byte();
    channel_.later = protected_channel_.later = disc_.later = (what & 1) != 0;
    channel_.failing = protected_channel_.failing = disc_.failing = (what & 2) != 0;
    store_.failing = protected_store_.failing = channel_.failing;
    if ((what & 4) != 0) finish_one();
    if ((what & 0xf0) == 0xf0) task_management(input);
    else command(input, *nexus_[(what >> 3) & 1]);
    while (commands_.size() > 64) settle_oldest();
  }

 private:
  bool finish_one() {
    return store_.finish_one() || protected_store_.finish_one() || channel_.finish_one() ||
           protected_channel_.finish_one() || disc_.finish_one() || port_.finish_one();
  }

  void command(Input& input, scsi::Nexus& nexus) {
    auto& command = *commands_.emplace_back(std::make_unique<Command>());
    scsi::Task& task = command.task;
    task.nexus = &nexus;
    const std::uint8_t form = input.byte();
    task.lun = (form & 0x80) != 0 ? std::uint64_t{input.number(2)} << 48 : 0;
    task.tag = ++tag_;
    task.attribute = static_cast<scsi::TaskAttribute>(form % 4);
    const Bytes cdb = input.take(16);
    std::copy(cdb.begin(), cdb.end(), task.cdb.begin());
    if (task.cdb[0] == 0x7f) {
      const Bytes tail = input.take(16);
      std::copy(tail.begin(), tail.end(), task.cdb.begin() + 16);
      task.cdb_length = static_cast<std::uint8_t>(16 + tail.size());
    }
    if ((form & 0x10) != 0) task.expected_data_out_bytes = input.number(3);
    if ((form & 0x20) != 0) task.expected_data_in_bytes = input.number(3);
    task.done = Delegate<void(scsi::Task&)>::to<&Command::on_done>(command);
    task.cancelled = Delegate<void(scsi::Task&)>::to<&Command::on_cancelled>(command);
    device_.admit(task);
    if (task.finished()) return ended(command);
    require(task.need.data_out_bytes <= task.expected_data_out_bytes);
    require(task.need.data_out_bytes <= limits::max_transfer_bytes &&
            task.need.data_in_bytes <= limits::max_transfer_bytes);
    if ((form & 0x40) != 0) return;   // its data never comes: only an abort ends it
    const std::size_t bytes = std::max(task.need.data_out_bytes, task.need.data_in_bytes);
    command.data.assign(bytes, 0);
    const Bytes given = input.take(std::min<std::size_t>(bytes, input.byte()));
    std::copy(given.begin(), given.end(), command.data.begin());
    command.scratch.assign(task.need.scratch_bytes, 0);
    const std::size_t first = bytes / 3;
    command.pieces = {iovec{command.data.data(), first}, iovec{command.data.data() + first, bytes - first}};
    command.scratch_piece = {command.scratch.data(), command.scratch.size()};
    task.data = command.pieces;
    task.scratch = {&command.scratch_piece, 1};
    if (device_.execute(task)) {
      require(command.ended == 0);
      ended(command);
    }
  }

  static void ended(const Command& command) {
    const scsi::Task& task = command.task;
    require(task.over);
    require((task.status == scsi::ScsiStatus::check_condition) == (task.sense_length > 0));
    require(task.sense_length == 0 ||
            (task.sense_length >= 8 && task.sense_length <= limits::max_sense_bytes));
    if (!task.parameter_data.empty()) require(task.data_in_length <= task.parameter_data.size());
    else require(task.data_in_length <= task.need.data_in_bytes);
  }

  void task_management(Input& input) {
    scsi::TaskManagement request;
    const std::uint8_t form = input.byte();
    request.function = static_cast<scsi::TmFunction>(form % 10);
    request.nexus = nexus_[(form >> 4) & 1].get();
    request.tag = tag_ - input.byte() % 8;
    request.lun = (form & 0x80) != 0 ? std::uint64_t{input.number(2)} << 48 : 0;
    manage(request);
  }

  // Runs it to its end: completes what is pending, and gives back what was cancelled.
  void manage(scsi::TaskManagement& request) {
    Ending ending;
    request.done = Delegate<void(scsi::TaskManagement&)>::to<&Ending::on_done>(ending);
    if (device_.manage(request)) ending.over = true;
    for (int round = 0; !ending.over; ++round) {
      require(round < 10000);
      give_back_cancelled();
      finish_one();
    }
    give_back_cancelled();
  }

  void give_back_cancelled() {
    for (auto& command : commands_) {
      if (!command->cancelled) continue;
      command->cancelled = false;
      device_.abort(command->task);
    }
  }

  void settle_oldest() {
    device_.abort(commands_.front()->task);
    give_back_cancelled();
    while (finish_one()) {}
    require(commands_.front()->ended <= 1);
    commands_.pop_front();
  }

  MemoryChannel channel_;
  MemoryChannel protected_channel_{room};
  MemoryChannel disc_{0, 2048};
  HostilePort port_;
  LateStore store_;
  LateStore protected_store_;
  scsi::Device device_{"iqn.2026-11.io.perilune:fuzz"};
  std::vector<std::unique_ptr<scsi::Nexus>> nexus_;
  std::list<std::unique_ptr<Command>> commands_;
  std::uint64_t tag_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  World world;
  while (!input.empty()) world.step(input);
  return 0;
}
