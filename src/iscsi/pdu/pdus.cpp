// SPDX-License-Identifier: Apache-2.0
#include "iscsi/pdu/pdus.hpp"

namespace perilune::iscsi {

std::string_view to_string(Opcode opcode) noexcept {
  switch (opcode) {
    case Opcode::nop_out: return "NOP-Out";
    case Opcode::scsi_command: return "SCSI Command";
    case Opcode::task_management_request: return "Task Management Function Request";
    case Opcode::login_request: return "Login Request";
    case Opcode::text_request: return "Text Request";
    case Opcode::data_out: return "SCSI Data-Out";
    case Opcode::logout_request: return "Logout Request";
    case Opcode::snack_request: return "SNACK Request";
    case Opcode::nop_in: return "NOP-In";
    case Opcode::scsi_response: return "SCSI Response";
    case Opcode::task_management_response: return "Task Management Function Response";
    case Opcode::login_response: return "Login Response";
    case Opcode::text_response: return "Text Response";
    case Opcode::data_in: return "SCSI Data-In";
    case Opcode::logout_response: return "Logout Response";
    case Opcode::ready_to_transfer: return "Ready To Transfer";
    case Opcode::async_message: return "Asynchronous Message";
    case Opcode::reject: return "Reject";
  }
  return "unknown";
}

std::string_view to_string(TmfFunction function) noexcept {
  switch (function) {
    case TmfFunction::abort_task: return "ABORT TASK";
    case TmfFunction::abort_task_set: return "ABORT TASK SET";
    case TmfFunction::clear_aca: return "CLEAR ACA";
    case TmfFunction::clear_task_set: return "CLEAR TASK SET";
    case TmfFunction::logical_unit_reset: return "LOGICAL UNIT RESET";
    case TmfFunction::target_warm_reset: return "TARGET WARM RESET";
    case TmfFunction::target_cold_reset: return "TARGET COLD RESET";
    case TmfFunction::task_reassign: return "TASK REASSIGN";
    case TmfFunction::query_task: return "QUERY TASK";
    case TmfFunction::query_task_set: return "QUERY TASK SET";
    case TmfFunction::i_t_nexus_reset: return "I_T NEXUS RESET";
    case TmfFunction::query_asynchronous_event: return "QUERY ASYNCHRONOUS EVENT";
  }
  return "unknown";
}

std::string_view to_string(LoginStatus status) noexcept {
  switch (status) {
    case LoginStatus::success: return "success";
    case LoginStatus::target_moved_temporarily: return "target moved temporarily";
    case LoginStatus::target_moved_permanently: return "target moved permanently";
    case LoginStatus::initiator_error: return "initiator error";
    case LoginStatus::authentication_failure: return "authentication failure";
    case LoginStatus::authorization_failure: return "authorization failure";
    case LoginStatus::not_found: return "target not found";
    case LoginStatus::target_removed: return "target removed";
    case LoginStatus::unsupported_version: return "unsupported version";
    case LoginStatus::too_many_connections: return "too many connections";
    case LoginStatus::missing_parameter: return "missing parameter";
    case LoginStatus::cannot_include_in_session: return "cannot include in session";
    case LoginStatus::session_type_not_supported: return "session type not supported";
    case LoginStatus::session_does_not_exist: return "session does not exist";
    case LoginStatus::invalid_during_login: return "invalid request during login";
    case LoginStatus::target_error: return "target error";
    case LoginStatus::service_unavailable: return "service unavailable";
    case LoginStatus::out_of_resources: return "out of resources";
  }
  return "unknown login status";
}

}  // namespace perilune::iscsi
