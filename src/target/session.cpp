// SPDX-License-Identifier: Apache-2.0
#include "target/session.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <utility>

#include "base/assert.hpp"
#include "scsi/sense.hpp"
#include "target/connection.hpp"
#include "target/server.hpp"

namespace perilune::target {

namespace {

// How long an abort of many tasks waits for data that was asked for.
constexpr std::chrono::seconds abort_data_wait{1};

// Answers that are copied into the transmit queue, of the largest size.
constexpr std::uint32_t commands_per_chunk =
    iscsi::TxChunkPool::chunk_bytes / (iscsi::TxQueue::copy_limit_bytes + 64);

// RFC 7143 4.2.7.2: the SCSI port names of iSCSI.
std::string initiator_port_name(const std::string& name, const iscsi::Isid& isid) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string text = name + ",i,0x";
  for (const std::uint8_t byte : isid) {
    text += digits[byte >> 4];
    text += digits[byte & 15];
  }
  return text;
}

// RFC 7143 4.2.2.3.4: a unit attention for an abort of many tasks (a reset, CLEAR TASK SET), and the answer
// to PREEMPT AND ABORT.
bool tells_of_aborts(const scsi::Task& task) noexcept {
  if (task.sense_length == 0) return task.cdb[0] == 0x5f && (task.cdb[1] & 0x1f) == 0x05;
  const bool descriptor = (task.sense[0] & 0x7e) == 0x72;
  const std::uint8_t key = task.sense[descriptor ? 1 : 2] & 0x0f;
  const unsigned asc_ascq = load_be16(&task.sense[descriptor ? 2 : 12]);
  return key == static_cast<std::uint8_t>(scsi::SenseKey::unit_attention) &&
         (asc_ascq == 0x2902 || asc_ascq == 0x2903 || asc_ascq == 0x2f00);
}

scsi::NexusNames nexus_names(const TargetNode& node, const iscsi::TargetLoginResult& login) {
  scsi::NexusNames names;
  names.initiator_port = initiator_port_name(login.initiator_name, login.isid);
  names.target_port = target_port_name(node.name, login.target_portal_group_tag);
  names.relative_target_port = login.target_portal_group_tag;
  return names;
}

// Somebody who has lost its right while it logged in sees nothing, until its session has ended.
Access::Map map_of(const TargetNode& node, const iscsi::TargetLoginResult& login) {
  const Access::Map* map = node.access->map_of(login.target_portal_group_tag, login.initiator_name);
  return map != nullptr ? *map : Access::Map(std::in_place);
}

SessionRules rules_of(const TargetNode* node, const std::string& initiator, std::uint16_t tag) {
  const SessionRules* const rules =
      node != nullptr && node->access != nullptr ? node->access->session_rules_of(tag, initiator) : nullptr;
  return rules != nullptr ? *rules : SessionRules();
}

}  // namespace

struct Session::Management {
  scsi::TaskManagement scsi;
  iscsi::TaskManagement* request = nullptr;
};

Session::Session(Server& server, Shard& shard, TargetNode* node, const iscsi::TargetLoginResult& login,
                 std::uint32_t command_window)
    : server_(server),
      shard_(shard),
      node_(node),
      type_(login.session_type),
      initiator_name_(login.initiator_name),
      initiator_alias_(login.initiator_alias),
      user_(login.user),
      isid_(login.isid),
      portal_group_tag_(login.target_portal_group_tag),
      tsih_(login.tsih),
      rules_(rules_of(node, login.initiator_name, login.target_portal_group_tag)),
      unsolicited_pages_(BufferPool::pages_for(login.session.first_burst_length)),
      nexus_(node != nullptr ? std::make_unique<scsi::Nexus>(*node->device, nexus_names(*node, login),
                                                             map_of(*node, login))
                             : nullptr),
      engine_(*this, login.session, login.exp_cmd_sn,
              rules_.command_window != 0 ? rules_.command_window : command_window) {
  if (node == nullptr) engine_.serve_discovery_only();
  else nexus_->set_sam5_functions(login.session.protocol_level >= 2);
}

void Session::access_changed() {
  if (ending() || withdrawn_ || type_ == iscsi::SessionType::discovery) return;
  if (node_ == nullptr) return end("target removed");  // while it logged in
  const Access::Map* map = node_->access->map_of(portal_group_tag_, initiator_name_);
  if (map == nullptr) withdraw("access withdrawn");
  else if (nexus_->map() != *map) nexus_->set_map(*map);
  const std::vector<Connection*> all = connections_;
  for (Connection* connection : all) {
    if (!node_->access->admits_from(portal_group_tag_, connection->peer()))
      connection->drop_announced("access withdrawn from its address");
  }
  const SessionRules rules = rules_of(node_, initiator_name_, portal_group_tag_);
  if (rules == std::exchange(rules_, rules)) return;
  for (Connection* connection : connections_) connection->rules_changed();
}

// What it has in progress goes on until its connections have gone, with an announcement (RFC 7143 11.9.1);
// nothing begins any more.
void Session::withdraw(std::string_view reason) {
  withdrawn_ = true;
  engine_.expire_all();
  nexus_->set_map(Access::Map(std::in_place));
  if (connections_.empty()) return end(reason);
  const std::vector<Connection*> all = connections_;
  for (Connection* connection : all) connection->drop_announced(reason);
}

std::string_view Session::target_name() const noexcept {
  return node_ != nullptr ? std::string_view(node_->name) : std::string_view();
}

Session::~Session() {
  PERILUNE_ASSERT(engine_.idle() && connections_.empty());
  wait_no_longer();
}

Connection& Session::driver_of(const iscsi::TargetConnection& connection) noexcept {
  return *static_cast<Connection*>(connection.host_state);
}

Connection* Session::find_connection(std::uint16_t cid) const noexcept {
  const auto found = std::find_if(connections_.begin(), connections_.end(), [cid](Connection* connection) {
    return connection->engine()->cid() == cid;
  });
  return found == connections_.end() ? nullptr : *found;
}

Command& Session::command_of(scsi::Task& task) noexcept {
  // The task is a member of its command; offsetof on a non-standard-layout type is what every compiler we use
  // supports.
  _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Winvalid-offsetof\"")
  auto* bytes = reinterpret_cast<std::uint8_t*>(&task) - offsetof(Command, task);
  _Pragma("GCC diagnostic pop")
  return *reinterpret_cast<Command*>(bytes);
}

// ---- command objects and memory ----

iscsi::TargetCommand* Session::acquire_command(iscsi::TargetSession&) {
  Command& command = shard_.commands.acquire();
  command.owner = this;
  command.admitted = command.executing = false;
  command.reserved_pages = command.pages = 0;
  return &command;
}

void Session::release_command(iscsi::TargetCommand& base) {
  auto& command = static_cast<Command&>(base);
  const std::span<std::uint8_t* const> all(command.page.data(), command.pages);
  shard_.commands.release(command);  // first: returning pages may let a waiting command run
  if (command.reserved_pages != 0) {
    shard_.pool->release_reserved(all.first(command.reserved_pages));
    --reservations_used_;
  }
  const auto shared = all.subspan(command.reserved_pages);
  if (!shared.empty() || command.reserved_pages != 0) shard_.pool->release_shared(shared);
}

bool Session::reserve_slot(iscsi::TargetSession&) {
  if (type_ == iscsi::SessionType::discovery) return false;
  if (!shard_.pool->try_reserve(unsolicited_pages_)) return false;
  // What a command needs beside its payload is made when the window opens, not when the command comes; but
  // for the window that every session has, which most of them hardly use.
  if (++reservations_ <= limits::min_command_window) return true;
  ++shard_.window_slots;
  shard_.commands.provide(shard_.window_slots);
  shard_.chunks.provide(shard_.window_slots / commands_per_chunk + 4);
  return true;
}

void Session::release_slot(iscsi::TargetSession&) {
  if (reservations_-- > limits::min_command_window) --shard_.window_slots;
  shard_.pool->unreserve(unsolicited_pages_);
}

// Pages for data that comes unasked: from the session's reservation, or, for immediate commands and sessions
// that the pool could promise nothing, from what is free right now.
bool Session::take_unsolicited_pages(Command& command, std::uint32_t bytes) {
  const std::uint32_t count = BufferPool::pages_for(bytes);
  if (command.pages != 0) return true;
  if (count > command.page.size()) return false;
  const std::span<std::uint8_t*> out(command.page.data(), count);
  if (!command.pdu.immediate && reservations_used_ < reservations_ && count <= unsolicited_pages_) {
    shard_.pool->take_reserved(out);
    ++reservations_used_;
    command.reserved_pages = static_cast<std::uint16_t>(count);
  } else if (!shard_.pool->take_shared(out)) {
    return false;
  }
  command.pages = static_cast<std::uint16_t>(count);
  for (std::uint32_t i = 0; i < count; ++i) command.iov[i] = {command.page[i], BufferPool::page_size_bytes};
  engine_.provide_memory(command, {command.iov.data(), count});
  return true;
}

void Session::prepare_unsolicited(iscsi::TargetCommand& base, std::uint32_t bytes) {
  (void)take_unsolicited_pages(static_cast<Command&>(base), bytes);
}

// ---- the path of a command ----

AtOnce Session::transfer_at_once(iscsi::TargetSession&, const WholeTransfer& transfer) {
  return node_->device->transfer_at_once(*nexus_, transfer);
}

bool Session::read_at_once(iscsi::TargetSession&, const WholeTransfer& transfer, std::uint8_t* to) {
  return node_->device->read_at_once(*nexus_, transfer, to);
}

void Session::on_command(iscsi::TargetCommand& base) {
  auto& command = static_cast<Command&>(base);
  PERILUNE_ASSERT(nexus_ != nullptr);  // the engine of a discovery session lets none through
  const iscsi::ScsiCommand& pdu = command.pdu;
  scsi::Task& task = command.task;
  if (command.bidirectional_read_length) {
    refuse_bidirectional(command);
    return;
  }
  task.nexus = nexus_.get();
  task.lun = pdu.lun;
  task.tag = pdu.initiator_task_tag;
  task.attribute = static_cast<scsi::TaskAttribute>(pdu.attribute);
  task.priority = engine_.params().protocol_level >= 2 ? pdu.priority : 0;
  std::copy(pdu.cdb.begin(), pdu.cdb.end(), task.cdb.begin());
  task.cdb_length = static_cast<std::uint8_t>(pdu.cdb.size() + pdu.extended_cdb_bytes);
  if (pdu.extended_cdb_bytes != 0)
    std::copy(pdu.extended_cdb.begin(), pdu.extended_cdb.end(), task.cdb.begin() + 16);
  task.expected_data_out_bytes = pdu.write ? pdu.expected_data_transfer_length : 0;
  task.expected_data_in_bytes = pdu.read ? pdu.expected_data_transfer_length : 0;
  task.done = Delegate<void(scsi::Task&)>::to<&Session::on_task_done>(*this);
  task.cancelled = Delegate<void(scsi::Task&)>::to<&Session::on_task_cancelled>(*this);
  node_->device->admit(task);
  command.admitted = true;
  if (task.finished()) {
    finish(command);
  } else if (task.need.data_out_bytes != 0) {
    start_data_out(command);
  } else {
    start_data_in(command);
  }
}

// No command of ours moves data both ways.
void Session::refuse_bidirectional(Command& command) {
  scsi::Sense sense;
  sense.key = scsi::SenseKey::illegal_request;
  sense.additional = {0x0e, 0x03};  // INVALID FIELD IN COMMAND INFORMATION UNIT
  const std::size_t length = scsi::encode_sense(sense, false, command.task.sense);
  engine_.complete(command, static_cast<std::uint8_t>(scsi::ScsiStatus::check_condition),
                   {command.task.sense.data(), length}, {}, 0, 0);
}

void Session::start_data_out(Command& command) {
  scsi::Task& task = command.task;
  if (may_lend(command) && command.data().empty() && task.need.scratch_bytes == 0) {
    const MutableBytes lent = node_->device->lend(task);
    if (!lent.empty()) {
      command.iov[0] = {lent.data(), lent.size()};
      command.data_is_final = true;
      engine_.begin_data_out(command, {command.iov.data(), 1}, task.need.data_out_bytes);
      return;
    }
  }
  if (command.expects_unsolicited()) {
    // Out of order or digested commands had their chance when their data came; where it found no room, it is
    // lost.
    const std::uint32_t first =
        std::min(command.pdu.expected_data_transfer_length, engine_.params().first_burst_length);
    if (command.data_was_discarded() || !take_unsolicited_pages(command, first)) {
      fail_task_set_full(command);
      return;
    }
  }
  request_pages(command, BufferPool::pages_for(task.need.data_out_bytes) +
                             BufferPool::pages_for(task.need.scratch_bytes));
}

void Session::start_data_in(Command& command) {
  scsi::Task& task = command.task;
  if (task.need.data_in_bytes != 0 && task.need.scratch_bytes == 0 && may_lend(command)) {
    const MutableBytes lent = node_->device->lend(task);
    if (!lent.empty()) {
      command.iov[0] = {lent.data(), lent.size()};
      run(command);
      return;
    }
  }
  request_pages(command, BufferPool::pages_for(task.need.data_in_bytes) +
                             BufferPool::pages_for(task.need.scratch_bytes));
}

// The command's memory, whole or not yet: what is missing waits in the pool's queue.
void Session::request_pages(Command& command, std::uint32_t pages) {
  if (pages > Command::max_pages) {
    fail_task_set_full(command);
    return;
  }
  const std::uint32_t missing = pages > command.pages ? pages - command.pages : 0;
  if (missing == 0 || shard_.pool->take_shared({command.page.data() + command.pages, missing})) {
    command.pages = static_cast<std::uint16_t>(command.pages + missing);
    memory_ready(command);
    return;
  }
  struct Grant {
    static void ready(void* context) {
      auto& waiting = *static_cast<Command*>(context);
      Session& session = *waiting.owner;
      const std::uint32_t count = waiting.waiter.pages;
      const bool taken = session.shard_.pool->take_shared({waiting.page.data() + waiting.pages, count});
      PERILUNE_ASSERT(taken);
      waiting.pages = static_cast<std::uint16_t>(waiting.pages + count);
      session.memory_ready(waiting);
      session.shard_.retention.pages_wanted();
    }
  };
  command.waiter.ready = Delegate<void()>::raw(&command, &Grant::ready);
  shard_.pool->wait(command.waiter, missing);
  shard_.retention.pages_wanted();
}

void Session::memory_ready(Command& command) {
  scsi::Task& task = command.task;
  for (std::uint32_t i = 0; i < command.pages; ++i)
    command.iov[i] = {command.page[i], BufferPool::page_size_bytes};
  const std::uint32_t data_bytes =
      task.need.data_out_bytes != 0 ? task.need.data_out_bytes : task.need.data_in_bytes;
  const std::uint32_t data_pages = BufferPool::pages_for(data_bytes);
  const std::uint32_t scratch_pages = BufferPool::pages_for(task.need.scratch_bytes);
  // Unsolicited data may have taken more pages than the command uses; the tail is the private memory.
  task.data = {command.iov.data(), data_pages};
  task.scratch = {command.iov.data() + data_pages, scratch_pages};
  if (task.need.data_out_bytes != 0) {
    engine_.begin_data_out(command,
                           {command.iov.data(), std::max<std::size_t>(data_pages, command.data().size())},
                           task.need.data_out_bytes);
  } else {
    if (may_copy_late(command)) command.data_in_source = node_->device->lend(task).data();
    command.data_in_source_is_private = server_.shard_count() == 1;
    run(command);
  }
}

// Memory of the unit may be sent or received into directly, but a data digest, and data that may be asked for
// again, need a copy that nobody changes.
bool Session::may_lend(const Command& command) const noexcept {
  return engine_.params().error_recovery_level == 0 && command.connection != nullptr &&
         !command.connection->params().data_digest;
}

// With a data digest a read of the unit's memory is copied when it is queued, which sums it in the same pass;
// where no other thread writes to it, only if a send cannot take it at once.
bool Session::may_copy_late(const Command& command) const noexcept {
  return engine_.params().error_recovery_level == 0 && command.connection != nullptr &&
         command.connection->params().data_digest;
}

void Session::on_data_retained(iscsi::TargetCommand& command) {
  shard_.retention.keep(kept_, static_cast<Command&>(command));
}

void Session::on_data_forgotten(iscsi::TargetCommand& command) {
  shard_.retention.forget(kept_, static_cast<Command&>(command));
}

void Session::on_data_out(iscsi::TargetCommand& command) { run(static_cast<Command&>(command)); }

void Session::run(Command& command) {
  command.executing = true;
  if (node_->device->execute(command.task)) finish(command);
}

void Session::on_task_done(scsi::Task& task) { finish(command_of(task)); }

void Session::finish(Command& command) {
  scsi::Task& task = command.task;
  command.executing = false;
  if (task.aborted || command.aborted()) {
    if (task.aborted && task.ended_with_set) engine_.announce_end(command);
    end_aborted(command);
    return;
  }
  command.fenced = tells_of_aborts(task);
  std::span<const iovec> data(command.iov);
  if (!task.parameter_data.empty()) {
    command.iov[0] = {task.parameter_data.data(), task.parameter_data.size()};
    data = data.first(1);
  }
  engine_.complete(command, static_cast<std::uint8_t>(task.status), {task.sense.data(), task.sense_length},
                   data, task.data_in_length, task.data_transfer_length);
}

void Session::fail_task_set_full(Command& command) {
  node_->device->abort(command.task);
  node_->device->no_room(command.task);
  command.status_qualifier = 1;  // SAM-5 5.3.2: of this unit, in 100 ms or when another command of it ends
  engine_.complete(command, static_cast<std::uint8_t>(scsi::ScsiStatus::task_set_full), {}, {}, 0, 0);
}

// RFC 7143 7.8: CHECK CONDITION, ABORTED COMMAND, PROTOCOL SERVICE CRC ERROR.
void Session::on_data_lost(iscsi::TargetCommand& base) {
  auto& command = static_cast<Command&>(base);
  scsi::Task& task = command.task;
  const bool descriptor_format = task.unit != nullptr && task.unit->descriptor_sense();
  node_->device->abort(task);
  const scsi::Sense sense{scsi::SenseKey::aborted_command, scsi::AdditionalSense{0x47, 0x05}, {}, {}};
  task.sense_length = static_cast<std::uint8_t>(scsi::encode_sense(sense, descriptor_format, task.sense));
  engine_.complete(command, static_cast<std::uint8_t>(scsi::ScsiStatus::check_condition),
                   {task.sense.data(), task.sense_length}, {}, 0, 0);
}

// ---- task management and the end ----

void Session::abort(iscsi::TargetCommand& base) {
  auto& command = static_cast<Command&>(base);
  command.waiter.unlink();
  const bool executing = command.executing;
  if (command.admitted && nexus_ != nullptr) node_->device->abort(command.task);
  if (!executing) end_aborted(command);  // otherwise finish() does, from inside abort() or later
}

void Session::end_aborted(Command& command) {
  scsi::Task& task = command.task;
  // Once: what ends it again, while the answer waits for the end of its data, wants none.
  const bool report = std::exchange(task.report_aborted, false);
  if (command.admitted && task.aborted && report) engine_.abort_reported(command);
  else engine_.abort_finished(command);
}

void Session::on_task_cancelled(scsi::Task& task) {
  Command& command = command_of(task);
  if (task.ended_with_set) engine_.announce_end(command);
  engine_.request_abort(command);
}

// RFC 7143 4.2.3.3 a sets no limit, but open-iscsi as it comes (node.session.iscsi.FastAbort = Yes) answers
// no R2T once it has sent the request, whatever was negotiated.
void Session::on_data_wait(iscsi::TargetSession&) {
  data_wait_timer_.arm(shard_.loop.now() + abort_data_wait);
}

void Session::on_task_management(iscsi::TaskManagement& request) {
  using iscsi::TmfFunction;
  auto* management = new Management;  // control path
  management->request = &request;
  scsi::TaskManagement& tm = management->scsi;
  tm.nexus = nexus_.get();
  tm.lun = request.pdu.lun;
  tm.tag = request.pdu.referenced_task_tag;
  tm.done = Delegate<void(scsi::TaskManagement&)>::to<&Session::on_management_done>(*this);
  request.host_state = management;
  bool known = nexus_ != nullptr;
  switch (request.pdu.function) {
    case TmfFunction::abort_task: tm.function = scsi::TmFunction::abort_task; break;
    case TmfFunction::abort_task_set: tm.function = scsi::TmFunction::abort_task_set; break;
    case TmfFunction::clear_task_set: tm.function = scsi::TmFunction::clear_task_set; break;
    case TmfFunction::logical_unit_reset: tm.function = scsi::TmFunction::lun_reset; break;
    case TmfFunction::target_warm_reset: tm.function = scsi::TmFunction::target_warm_reset; break;
    case TmfFunction::target_cold_reset: tm.function = scsi::TmFunction::target_cold_reset; break;
    case TmfFunction::query_task: tm.function = scsi::TmFunction::query_task; break;
    case TmfFunction::query_task_set: tm.function = scsi::TmFunction::query_task_set; break;
    case TmfFunction::i_t_nexus_reset: tm.function = scsi::TmFunction::i_t_nexus_reset; break;
    case TmfFunction::query_asynchronous_event:
      tm.function = scsi::TmFunction::query_asynchronous_event;
      break;
    default: known = false; break;
  }
  if (!known) {
    delete management;
    engine_.finish_task_management(request, iscsi::TmfResponse::function_not_supported);
    return;
  }
  if (node_->device->manage(tm)) answer_management(*management);
}

void Session::on_management_done(scsi::TaskManagement& tm) {
  _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Winvalid-offsetof\"")
  auto* bytes = reinterpret_cast<std::uint8_t*>(&tm) - offsetof(Management, scsi);
  _Pragma("GCC diagnostic pop")
  answer_management(*reinterpret_cast<Management*>(bytes));
}

void Session::answer_management(Management& management) {
  iscsi::TaskManagement& request = *management.request;
  scsi::TmResponse outcome = management.scsi.response;
  const bool cold = request.pdu.function == iscsi::TmfFunction::target_cold_reset;
  request.additional_information = management.scsi.additional_information;
  delete &management;
  // A command may be here and not (or no longer) with the device: it waits for its turn, or for the rest of
  // its data.
  if (outcome == scsi::TmResponse::function_complete) {
    const auto& pdu = request.pdu;
    const bool here = pdu.function == iscsi::TmfFunction::query_task
                          ? engine_.holds(pdu.referenced_task_tag, pdu.lun)
                          : pdu.function == iscsi::TmfFunction::query_task_set && engine_.holds_any(pdu.lun);
    if (here) outcome = scsi::TmResponse::function_succeeded;
  }
  // A task that the device no longer has, but whose answer waits for the end of its data, is ours to end.
  if (outcome == scsi::TmResponse::task_does_not_exist && request.referenced != nullptr) {
    iscsi::TargetCommand* left = nullptr;
    engine_.for_each_command([&](iscsi::TargetCommand& command) {
      if (&command == request.referenced && command.pdu.initiator_task_tag == request.pdu.referenced_task_tag)
        left = &command;
    });
    if (left != nullptr) {
      engine_.request_abort(*left);
      outcome = scsi::TmResponse::function_complete;
    }
  }
  iscsi::TmfResponse response = iscsi::TmfResponse::function_rejected;
  switch (outcome) {
    case scsi::TmResponse::function_complete: response = iscsi::TmfResponse::function_complete; break;
    case scsi::TmResponse::function_succeeded: response = iscsi::TmfResponse::function_succeeded; break;
    case scsi::TmResponse::function_rejected: response = iscsi::TmfResponse::function_rejected; break;
    case scsi::TmResponse::not_supported: response = iscsi::TmfResponse::function_not_supported; break;
    case scsi::TmResponse::incorrect_lun: response = iscsi::TmfResponse::lun_does_not_exist; break;
    case scsi::TmResponse::task_does_not_exist: response = iscsi::TmfResponse::task_does_not_exist; break;
  }
  engine_.finish_task_management(request, response);
  if (cold) server_.cold_reset(shard_, node_->index);
}

void Session::end(std::string_view reason) {
  for (Connection* connection : connections_) connection->close(reason);
  if (!engine_.shutting_down()) engine_.shut_down();
  else if (engine_.idle()) shard_.session_idle(*this);
}

void Session::on_session_idle(iscsi::TargetSession&) { shard_.session_idle(*this); }

// ---- connection matters ----

void Session::on_output(iscsi::TargetConnection& connection) { driver_of(connection).on_output(); }

void Session::on_logged_out(iscsi::TargetConnection& connection) { driver_of(connection).schedule_flush(); }

void Session::close_connection(iscsi::TargetConnection& connection) { driver_of(connection).close({}); }

void Session::on_orphans_ended(iscsi::TargetSession&) { shard_.session_idle(*this); }

void Session::on_ping_answered(iscsi::TargetConnection& connection) { driver_of(connection).ping_answered(); }

void Session::on_text(iscsi::TargetConnection& connection, const iscsi::TextRequest& request, Bytes data) {
  Connection& driver = driver_of(connection);
  iscsi::TargetText& text = driver.text();
  auto step = text.receive(request, data);
  if (step == iscsi::TargetText::Step::ask_targets) {
    step = text.answer_targets(shard_.directory.answer(
        {driver.portal(), driver.local(), target_name(), initiator_name_, driver.peer()},
        text.send_targets()));
  }
  if (step == iscsi::TargetText::Step::respond) {
    connection.send_text_response(text.response(), text.data());
    // RFC 7143 13.12: holds for what is sent behind the end of the exchange.
    if (text.response().final && text.declared_max_xmit())
      connection.set_max_xmit_data_segment_length(*text.declared_max_xmit());
  } else {
    std::uint8_t bhs[iscsi::bhs_bytes];
    request.encode(bhs);
    connection.send_reject(text.reject_reason(), bhs);
  }
}

}  // namespace perilune::target
