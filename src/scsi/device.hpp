// SPDX-License-Identifier: Apache-2.0
// A SCSI target device on one shard: its logical units, its I_T nexuses, its task sets, and the router that
// takes every command from a transport (SAM-5). Pure: no I/O, clock or log; the only way out is
// block::Channel.
//
//   scsi::Device device("iqn.2026-11.io.perilune:disk");
//   auto unit = device.add_unit(0, {.identity = scsi::UnitIdentity::from_id(id)}, *channel);
//   scsi::Nexus nexus(device, {.initiator_port = "iqn.x,i,0x400001370000", .target_port = "iqn.y,t,0x0001"});
//   task.nexus = &nexus; task.lun = ...; task.cdb = ...;
//   device.admit(task);
//   if (!task.finished()) { ... task.data, task.scratch ...; if (!device.execute(task)) return; /* done comes
//   */ }
//
// Callbacks (done, cancelled, TaskManagement::done) come from inside calls to this class, for whatever task
// may move on, from a Channel's completions, or, where there are several shards, from messages of theirs.
// They may call back into the device. One thread (the shard's).
//
// Several shards that serve the same units have a Device each, with the same units under the same numbers,
// joined by a ShardLink. Every rule here holds over all of them then: what commands conflict with, task
// management, unit attentions, what MODE SELECT and its like change. A nexus lives on one shard with all its
// tasks. A unit is added to the device of each shard before a nexus of any sends it commands, and the loops
// run until tasks() is 0 on all shards.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/at_once.hpp"
#include "base/block_op.hpp"
#include "base/bytes.hpp"
#include "base/delegate.hpp"
#include "base/intrusive_list.hpp"
#include "base/result.hpp"
#include "scsi/logical_unit.hpp"
#include "scsi/nexus.hpp"
#include "scsi/passthrough.hpp"
#include "scsi/rod_tokens.hpp"
#include "scsi/shard_link.hpp"
#include "scsi/task.hpp"

namespace perilune::scsi {

class Shards;

struct TargetPort {
  std::uint16_t relative_identifier = 1;  // 1..
  std::string name;                       // SCSI name string
};

enum class TmFunction : std::uint8_t {  // SAM-5 7
  abort_task,                           // nexus, lun, tag
  abort_task_set,                       // nexus, lun: every task of this nexus on the unit
  clear_task_set,                       // lun: every task of every nexus on the unit; others get 2F/00
  lun_reset,          // lun: the same, and mode pages return to their defaults; every nexus gets 29/03
  target_warm_reset,  // lun_reset of every unit; every nexus gets 29/02
  target_cold_reset,  // the same with 29/00; the transport then drops its connections (RFC 7143 11.5.1)
  i_t_nexus_reset,  // nexus: every task of this nexus on every unit; the nexus gets 29/07. Also how a session
                    // ends
  query_task,       // nexus, lun, tag: answers succeeded when it is in the task set, complete when not
  query_task_set,   // nexus, lun
  query_asynchronous_event,  // nexus, lun: answers succeeded when a unit attention is pending, and tells
                             // which; it stays
  clear_aca,                 // refused: no ACA
};

enum class TmResponse : std::uint8_t {
  function_complete,
  function_succeeded,  // QUERY *: there is such a task
  function_rejected,   // a real device could not be reset (RFC 7143 11.6.1); what concerns our task set is
                       // done all the same
  not_supported,
  incorrect_lun,
  task_does_not_exist,  // ABORT TASK of a tag that the device does not hold
};

// A task management request, owned by the transport until it is over.
struct TaskManagement : ListNode<TaskManagement> {
  TmFunction function = TmFunction::abort_task;
  Nexus* nexus = nullptr;
  std::uint64_t lun = 0;
  std::uint64_t tag = 0;
  Delegate<void(TaskManagement&)> done;

  TmResponse response = TmResponse::function_complete;
  // QUERY ASYNCHRONOUS EVENT that succeeded: UADE DEPTH and sense key, ASC, ASCQ, 24 bits (SAM-5 7.10).
  // Otherwise 0.
  std::uint32_t additional_information = 0;

  // For src/scsi alone.
  LogicalUnit* unit = nullptr;
  std::uint64_t sequence = 0;
  std::uint32_t affected = 0;
};

class Device {
 public:
  static constexpr std::uint64_t work_per_turn_bytes = 2097152;  // see set_later()
  static constexpr std::uint16_t max_lun = 65535;  // above 16383 by extended flat space addressing (lun.hpp)

  // `name`: SCSI target device name (iSCSI: the IQN); VPD 83. `link`: to the devices of the other shards that
  // serve the same units (shard_link.hpp); borrowed, outlives the device. nullptr: there are none.
  explicit Device(std::string name, ShardLink* link = nullptr);
  ~Device();  // precondition: no nexus left
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  // Control path. The channel is borrowed and outlives the unit. Nexuses that see it learn by 3F/0E.
  // Fails with already_exists, invalid_argument (block size, capacity).
  [[nodiscard]] Result<LogicalUnit*> add_unit(std::uint16_t number, UnitConfig config,
                                              block::Channel& channel);
  // A real device, reached through `port`, which outlives the unit. Fails with already_exists.
  [[nodiscard]] Result<LogicalUnit*> add_unit(std::uint16_t number, UnitConfig config, PassthroughPort& port);
  // Fails with not_found, or busy while a task is in its task set (reset it first). Of several shards, all
  // are idle before the first removes it, and no nexus sees it any more.
  [[nodiscard]] Status remove_unit(std::uint16_t number);
  // Nothing is in progress on the unit here, or it is not there.
  [[nodiscard]] bool unit_idle(std::uint16_t number) const noexcept;
  [[nodiscard]] LogicalUnit* unit(std::uint16_t number) noexcept;
  // Whether a unit of this type can serve such a medium; fails with invalid_argument and the reason.
  [[nodiscard]] static Status check_medium(const block::Geometry& geometry, DeviceType type);
  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  // All target ports of the device, for VPD 88h; without this call it tells of the one that is asked through.
  void set_ports(std::vector<TargetPort> ports) { ports_ = std::move(ports); }
  [[nodiscard]] const std::vector<TargetPort>& ports() const noexcept { return ports_; }
  // The meter of a unit (UnitConfig::space) has been read anew: nexuses may have to learn of a threshold. On
  // one shard, any.
  void space_measured(std::uint16_t unit);
  [[nodiscard]] Shards* shards() const noexcept {
    return shards_.get();
  }  // for src/scsi alone; nullptr: no other shard serves these units

  // Milliseconds on any scale that only grows, the same for all shards. REPORT TIMESTAMP counts from this
  // call (of several shards: from the first); without it there is no such command.
  void set_clock(Delegate<std::uint64_t()> milliseconds);
  [[nodiscard]] bool has_clock() const noexcept { return static_cast<bool>(clock_); }
  [[nodiscard]] std::uint64_t uptime_ms() const { return clock_() - clock_start_ms_; }

  // With a key, which nobody else knows, and a clock there are ROD tokens (POPULATE TOKEN, WRITE USING
  // TOKEN). Of several shards, all have the same key.
  void set_token_key(const RodTokenKey& key);
  [[nodiscard]] RodTokens* tokens() const noexcept { return tokens_.get(); }

  // What ends at once, over memory, could go on for long: a command of many operations, an operation on a
  // whole medium. With this the device asks, when it has moved work_per_turn_bytes in such work, for go_on()
  // to be called from a later turn of the loop. Without it nothing is put off.
  void set_later(Delegate<void()> request) noexcept { later_ = request; }
  void go_on();

  // SANITIZE and FORMAT UNIT outlive their commands. Before the channels go, an operation in progress has to
  // end: it does so soon after stop_background_work(), as failed, while the loop runs.
  [[nodiscard]] bool background_work() const noexcept;
  void stop_background_work() noexcept;

  // The life of a task: see task.hpp. A task that is not over after admit() is in the unit's task set until
  // it is over.
  void admit(Task& task);

  // Between admit() and execute(): when the command is a plain READ or WRITE of full length and nothing
  // stands in its way, the memory of the channel itself, of exactly need.data_in_bytes or
  // need.data_out_bytes. The transport fills it (WRITE) or sends from it (READ), leaves task.data alone, and
  // then calls execute(), which only completes the command. Until then the range is guarded against COMPARE
  // AND WRITE and its like, so execute() a READ after its last byte was handed to the socket when that
  // matters. Empty: use task.data.
  [[nodiscard]] MutableBytes lend(Task& task);

  // Instead of a task: when the whole life of one would be admit(), lend() and execute() in one go and end
  // with GOOD and no residual, the memory of the channel itself, of exactly `bytes`. The command then is
  // over, and counted; the transport moves the bytes and answers GOOD before it returns to its loop. The same
  // of a channel that lends nothing but can move the bytes this moment. Declined: a task finds out why.
  [[nodiscard]] AtOnce transfer_at_once(Nexus& nexus, const WholeTransfer& transfer);
  // After AtOnce::Outcome::copies, before anything else: the read, into `to`. False: a task is needed after
  // all.
  [[nodiscard]] bool read_at_once(Nexus& nexus, const WholeTransfer& transfer, std::uint8_t* to);

  // True: over now, `done` is not called. False: `done` is called later.
  [[nodiscard]] bool execute(Task& task);

  // The transport ends a command without a response (connection lost, ABORT TASK that it resolved itself).
  //  - Admitted, not executed: the task leaves the device now and is the transport's again; no callback
  //  comes. Call it
  //    only when nothing can write to lent memory any more.
  //  - Executed and not over: it is marked. `done` comes exactly once, with task.aborted: at once, from
  //  inside this
  //    call, when the command was waiting for others; otherwise when its block operation has really ended.
  //  - Over, or never admitted: nothing happens.
  // Task management does the same to the tasks it takes: those not executed get `cancelled`, whereupon the
  // transport stops the data transfer and calls abort() (inside the callback or later, and the task
  // management function waits for it); a task without a `cancelled` delegate is taken out at once. Executed
  // ones get `done` with task.aborted. A task with task.aborted gets no response; with task.report_aborted it
  // gets the status TASK ABORTED, without sense data.
  void abort(Task& task);
  // The transport is about to answer TASK SET FULL: it has no memory for the command, which it has aborted. A
  // unit attention may be due for that (UA_INTLCK_CTRL).
  static void no_room(const Task& task);

  // True: over now, request.response is set and request.done is not called. False: request.done is called
  // when every affected task is over. The request stays put until then.
  [[nodiscard]] bool manage(TaskManagement& request);

  [[nodiscard]] std::uint32_t tasks() const noexcept { return tasks_; }

  // For src/scsi alone: command handlers that need the nexus or the map.
  void report_luns(Task& task);
  [[nodiscard]] std::optional<UnitAttention> take_attention(Task& task);
  [[nodiscard]] bool has_attention(const Task& task) const noexcept;

  // For src/scsi alone: real devices (forwarding.cpp).
  void forwarded_ended(Task& task);
  void forwarded_reset_ended(TaskManagement& request, bool succeeded);
  // On every nexus of every shard but this one.
  void raise_everywhere(LogicalUnit& unit, const Nexus* but, UnitAttention attention);

  // For src/scsi alone: third-party copies (copy_claims.cpp).
  void begin_copy(Task& task, CopyOperation& operation);  // task.copy, until the task leaves
  // Submits task.op to a unit that need not be the task's own. True: ended; false: the handler is called
  // again.
  [[nodiscard]] bool submit(LogicalUnit& unit, Task& task);
  // Takes the claims that are described in task.copy. True: all are held; false: the handler is called again
  // when they are.
  [[nodiscard]] bool claim(Task& task);
  void release_claims(Task& task);  // and lets those go on who waited
  void interrupt_copy(CopyOperation& operation, CopyOperation::Interruption why);  // its handler is called
                                                                                   // soon

  // For src/scsi alone: the flush that the running command has just done on this unit failed. Every shard
  // knows before the command ends.
  void flush_failed(LogicalUnit& unit, Task& task);

  // For src/scsi alone: work on a whole medium (medium_work.cpp).
  // Ends the commands of the unit that wait, and begins what this one, which holds all of the unit, asks for.
  // True: it has begun, and may have ended. False: the handler is called again when it has; other shards are
  // told first.
  [[nodiscard]] bool begin_medium_operation(Task& task, const MediumPlan& plan);
  void wait_for_medium(Task& task);  // the handler is called again when the unit's operation has ended
  void medium_ended(LogicalUnit& unit);

  // For src/scsi alone. An operation of the unit that has ended at once. True: enough for this turn, op.done
  // is called from a later one.
  [[nodiscard]] bool put_off(const LogicalUnit& unit, block::BlockOp& op);

  // For src/scsi alone: changes of a unit (unit_changes.cpp). `task` runs, and its row is of
  // SerialClass::whole. True: the change has been made. False: the handler is called again when it has been,
  // or has failed (LogicalUnit::change_failed) and nothing has changed.
  [[nodiscard]] bool change(Task& task, UnitChange change);
  // Begins to end the commands of these nexuses on the unit of `except`, that one aside.
  void end_tasks_of(const std::vector<NexusName>& nexuses, Task& except);
  // The initiator ports of this device that are there now (`<device>,i,0x…`), on every shard.
  [[nodiscard]] std::vector<std::string> ports_of_device(std::string_view initiator_device);

 private:
  friend class Nexus;
  friend class LogicalUnit;
  friend class Shards;

  [[nodiscard]] std::uint64_t greet(const Nexus& nexus);  // that begins: its life, a number that no other
                                                          // nexus has had
  void forget(Nexus& nexus);
  void forget(std::uint64_t hash);  // of a nexus
  [[nodiscard]] LogicalUnit* put_in_map(std::unique_ptr<LogicalUnit> unit);
  [[nodiscard]] UnitAttention first_attention(const NexusNames& names) const;
  void map_changed();
  [[nodiscard]] std::vector<std::unique_ptr<LogicalUnit>>::const_iterator place_of(
      std::uint16_t number) const noexcept;

  [[nodiscard]] static ReservationAccess access_through(Nexus::Slot& slot, const Nexus& nexus) noexcept;
  void admit_on_unit(Task& task, Nexus::Slot& slot);
  void admit_without_unit(Task& task, bool well_known);
  static void note_status(const Task& task);  // of a command that ends on a unit

  void enter(Task& task);
  void leave(Task& task);  // out of the task set; what follows from it comes with after_leaving()
  void finish(Task& task);
  void after_leaving(LogicalUnit& unit);
  void wake(LogicalUnit& unit);
  void wake_released();
  void end_copy(Task& task);
  void drop_claims(Task& task);
  [[nodiscard]] static bool can_hold_claims(const CopyOperation& operation);
  static void hold_claims(CopyOperation& operation);
  void resume(Task& task);  // a copy that waited for its claims
  void resume_interrupted(LogicalUnit& unit);
  void forget_copies(const LogicalUnit& unit);
  void forget_tokens(const LogicalUnit& unit);
  [[nodiscard]] bool start(Task& task);  // nothing is in its way. True: over
  [[nodiscard]] bool drive(Task& task);  // true: over
  [[nodiscard]] bool settled(Task& task);
  void cancel(Task& task);               // that has not been executed, or waits
  [[nodiscard]] bool save_change(LogicalUnit& unit);
  void make_change(LogicalUnit& unit);
  void change_saved(LogicalUnit& unit, bool durable);
  void change_over(LogicalUnit& unit, bool durable);
  void continue_change(LogicalUnit& unit);
  void end_tasks_here(LogicalUnit& unit, const std::vector<NexusName>& nexuses, const Task* except);
  void raise_named(const LogicalUnit& unit, const NexusNotice& notice);
  void refuse_waiting(LogicalUnit& unit);  // whose medium is worked on, or has failed
  static void operation_ended(void* context, block::BlockOp& op);

  [[nodiscard]] static bool affects(const TaskManagement& request, const Task& task) noexcept;
  [[nodiscard]] static bool affects(const TaskManagement& request, const RangeClaim& claim) noexcept;
  [[nodiscard]] static bool goes_to_all_shards(TmFunction function) noexcept;
  [[nodiscard]] bool take_tasks(TaskManagement& request);  // request.sequence: of the first task that is not
                                                           // affected
  static void tell_of_end(const LogicalUnit& unit, Task& task);  // another nexus ends it
  void apply_reset(const TaskManagement& request, LogicalUnit& unit);
  void pass_reset_on(TaskManagement& request, LogicalUnit& unit);
  void settle_managements();

  std::string name_;
  std::vector<TargetPort> ports_;
  std::unique_ptr<Shards> shards_;  // nullptr when this is the only one
  std::vector<std::unique_ptr<LogicalUnit>> units_;  // sorted by number
  IntrusiveList<Nexus> nexuses_;
  IntrusiveList<TaskManagement> managements_;
  std::vector<std::uint64_t> lost_nexuses_;  // hashes of names, a ring
  std::size_t next_lost_ = 0;
  std::uint64_t sequence_ = 0;
  Delegate<std::uint64_t()> clock_;
  std::uint64_t clock_start_ms_ = ~std::uint64_t{0};
  std::uint32_t tasks_ = 0;
  std::uint64_t lives_ = 0;  // of nexuses, where there is one shard
  std::unique_ptr<RodTokens> tokens_;
  Delegate<void()> later_;
  std::uint64_t work_of_turn_bytes_ = 0;  // since the last go_on()
  IntrusiveList<block::BlockOp> put_off_;
  bool claims_released_ = false;  // some unit has claim_released_
};

}  // namespace perilune::scsi
