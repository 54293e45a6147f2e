// SPDX-License-Identifier: Apache-2.0
// The named limits of the product. Every pool, queue, text, retry and list is bounded by one of these (or by
// a configuration value whose own bounds stand here).
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>

namespace perilune::limits {

// Wire
inline constexpr std::uint32_t max_data_segment_before_login_bytes = 8192;  // RFC 7143 13.12: the default
                                                                            // until declared
inline constexpr std::uint32_t max_recv_data_segment_bytes = 262144;        // what we declare
inline constexpr std::uint32_t max_ahs_bytes = 255 * 4;  // TotalAHSLength is 8 bits of words
inline constexpr std::uint32_t max_extended_cdb_bytes = 260;
inline constexpr std::uint32_t max_text_total_bytes = 65536;  // one negotiation over all its C-bit PDUs
inline constexpr std::uint32_t max_text_pdus_per_exchange = 64;
inline constexpr std::uint32_t max_text_keys = 256;
inline constexpr std::uint32_t max_login_exchanges = 32;  // request/response pairs before we give up
inline constexpr std::uint32_t max_iscsi_name_bytes = 223;                   // RFC 7143 4.2.7.1
inline constexpr std::uint32_t min_chap_secret_bytes = 12;                   // RFC 7143 9.2.1 (96 bits)
inline constexpr std::uint32_t max_chap_secret_bytes = 255;
inline constexpr std::uint32_t max_chap_challenge_bytes = 1024;

// Sessions
inline constexpr std::uint32_t max_half_open_logins = 256;  // unauthenticated, per process: beyond, the
                                                            // oldest goes
inline constexpr std::chrono::seconds login_timeout{15};
inline constexpr std::uint32_t max_sessions = 4096;
inline constexpr std::uint16_t max_session_connections = 16;  // the most that MaxConnections may become
inline constexpr std::uint16_t default_session_connections = 4;
inline constexpr std::uint32_t default_command_window = 128;                 // commands per session
inline constexpr std::uint32_t min_command_window = 2;
inline constexpr std::uint32_t max_immediate_commands = 16;   // in progress beside the window
inline constexpr std::uint32_t max_task_management = 32;      // requests in progress per session
inline constexpr std::uint32_t max_deferred_bytes = 1048576;  // PDUs of a session that wait for an earlier
                                                              // CmdSN
inline constexpr std::uint32_t max_outstanding_r2t = 16;
inline constexpr std::size_t max_retained_status = 4096;          // of a connection above recovery level 0
inline constexpr std::uint64_t max_retained_bytes = 67108864;     // with the data that may be asked for again
inline constexpr std::uint64_t max_resend_queue_bytes = 2097152;  // with more to send, SNACKs are passed over
inline constexpr std::uint8_t max_data_recoveries = 8;                       // recovery R2Ts of one command

// SCSI
inline constexpr std::uint32_t max_transfer_bytes = 1048576;                 // VPD B0 MAXIMUM TRANSFER LENGTH
inline constexpr std::uint32_t max_cdb_bytes = 32;  // of the commands we serve; what is over 16 comes by AHS
inline constexpr std::uint32_t max_port_groups = 64;        // target port groups of a logical unit (ALUA)
inline constexpr std::uint32_t max_ports_of_a_group = 255;  // SPC-4 table 307: TARGET PORT COUNT is a byte
inline constexpr std::uint32_t max_sense_bytes = 252;
inline constexpr std::uint32_t max_parameter_bytes = 65536;                  // MODE SELECT, UNMAP … lists

// Reservations (SPC-4 5.13)
inline constexpr std::size_t max_registrations = 1024;   // I_T nexuses that a logical unit knows keys of
inline constexpr std::size_t max_port_name_bytes = 256;  // of an initiator port: an iSCSI name, ",i,0x" and
                                                         // the ISID

}  // namespace perilune::limits
