// SPDX-License-Identifier: Apache-2.0
// The outcome numbers of iscsiadm: its exit codes, which scripts branch on, and the words that go with them.
#pragma once

#include <string_view>

namespace perilune::control {

enum IscsiError : int {
  iscsi_success = 0,
  iscsi_err = 1,
  iscsi_err_sess_not_found = 2,
  iscsi_err_nomem = 3,
  iscsi_err_trans = 4,
  iscsi_err_login = 5,
  iscsi_err_idbm = 6,
  iscsi_err_inval = 7,
  iscsi_err_trans_timeout = 8,
  iscsi_err_internal = 9,
  iscsi_err_logout = 10,
  iscsi_err_pdu_timeout = 11,
  iscsi_err_trans_not_found = 12,
  iscsi_err_access = 13,
  iscsi_err_trans_caps = 14,
  iscsi_err_sess_exists = 15,
  iscsi_err_invalid_mgmt_req = 16,
  iscsi_err_isns_unavailable = 17,
  iscsi_err_iscsid_comm = 18,
  iscsi_err_fatal_login = 19,
  iscsi_err_iscsid_notconn = 20,
  iscsi_err_no_objs_found = 21,
  iscsi_err_sysfs_lookup = 22,
  iscsi_err_host_not_found = 23,
  iscsi_err_login_auth_failed = 24,
  iscsi_err_isns_query = 25,
  iscsi_err_isns_reg_failed = 26,
  iscsi_err_op_not_supp = 27,
  iscsi_err_busy = 28,
  iscsi_err_again = 29,
  iscsi_err_unknown_discovery_type = 30,
  iscsi_err_child_terminated = 31,
  iscsi_err_session_not_connected = 32,
  iscsi_err_req_timedout = 33,
};

[[nodiscard]] std::string_view iscsi_error_text(int code) noexcept;

}  // namespace perilune::control
