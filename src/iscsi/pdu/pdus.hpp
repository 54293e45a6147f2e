// SPDX-License-Identifier: Apache-2.0
// One plain struct per PDU of RFC 7143 section 11, with `decode` from and `encode` to the 48-byte Basic
// Header Segment.
//
// decode() never fails: it reads the fields where the RFC puts them, reserved bits are ignored, and enum
// fields may hold values that no enumerator names. Whether the PDU is legal here and now is for the session
// to judge. encode() writes all 48 bytes, reserved ones as zero. Neither allocates; both run per I/O and are
// inline.
//
// Units: data_segment_length and total_ahs_length in bytes; LUN is the 8-byte field of RFC 7143 11.2.1.6 read
// as one big-endian number. ISID is 6 wire bytes.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>

#include "base/bytes.hpp"
#include "base/limits.hpp"
#include "base/units.hpp"
#include "iscsi/pdu/ahs.hpp"
#include "iscsi/pdu/constants.hpp"

namespace perilune::iscsi {

using Isid = std::array<std::uint8_t, 6>;
using Lun = std::uint64_t;

// Fields that stand at the same place in every BHS.
[[nodiscard]] inline Opcode opcode(const std::uint8_t* bhs) noexcept {
  return static_cast<Opcode>(bhs[0] & 0x3f);
}
[[nodiscard]] inline bool immediate(const std::uint8_t* bhs) noexcept { return (bhs[0] & 0x40) != 0; }
[[nodiscard]] inline bool final_bit(const std::uint8_t* bhs) noexcept { return (bhs[1] & 0x80) != 0; }
[[nodiscard]] inline std::uint32_t total_ahs_length(const std::uint8_t* bhs) noexcept { return bhs[4] * 4u; }
[[nodiscard]] inline std::uint32_t data_segment_length(const std::uint8_t* bhs) noexcept {
  return load_be24(bhs + 5);
}
[[nodiscard]] inline Itt initiator_task_tag(const std::uint8_t* bhs) noexcept { return load_be32(bhs + 16); }
[[nodiscard]] constexpr std::uint32_t pad4(std::uint32_t length_bytes) noexcept {
  return (length_bytes + 3u) & ~3u;
}

inline constexpr std::uint8_t flag_immediate = 0x40;  // byte 0
inline constexpr std::uint8_t flag_final = 0x80;      // byte 1, also T of Login
inline constexpr std::uint8_t flag_continue = 0x40;   // byte 1 of Text and Login

namespace detail {
// Reserved bytes zero, byte 0, byte 1 and the data segment length.
inline void begin_bhs(std::uint8_t* bhs, Opcode op, bool immediate_bit, unsigned byte1,
                      std::uint32_t dsl) noexcept {
  std::memset(bhs, 0, bhs_bytes);
  bhs[0] = static_cast<std::uint8_t>(static_cast<unsigned>(op) | (immediate_bit ? flag_immediate : 0u));
  bhs[1] = static_cast<std::uint8_t>(byte1);
  store_be24(bhs + 5, dsl);
}
[[nodiscard]] constexpr unsigned bit_if(bool on, unsigned mask) noexcept { return on ? mask : 0u; }
}  // namespace detail

// RFC 7143 11.3
struct ScsiCommand {
  bool immediate = false;
  bool final = true;
  bool read = false;
  bool write = false;
  TaskAttribute attribute = TaskAttribute::simple;
  std::uint8_t priority = 0;  // PRI (RFC 7144), 0 to 15: bits 7 to 4 of byte 2; reserved below
                              // iSCSIProtocolLevel 2
  std::uint32_t total_ahs_length = 0;
  std::uint32_t data_segment_length = 0;
  Lun lun = 0;
  Itt initiator_task_tag = 0;
  std::uint32_t expected_data_transfer_length = 0;
  CmdSn cmd_sn;
  StatSn exp_stat_sn;
  std::array<std::uint8_t, 16> cdb{};
  // Bytes 16 and up of the CDB, as far as we serve any, from the AHS; no part of the header.
  std::array<std::uint8_t, limits::max_cdb_bytes - 16> extended_cdb{};
  std::uint8_t extended_cdb_bytes = 0;

  [[nodiscard]] static ScsiCommand decode(const std::uint8_t* bhs) noexcept {
    ScsiCommand p;
    p.immediate = iscsi::immediate(bhs);
    p.final = (bhs[1] & 0x80) != 0;
    p.read = (bhs[1] & 0x40) != 0;
    p.write = (bhs[1] & 0x20) != 0;
    p.attribute = static_cast<TaskAttribute>(bhs[1] & 0x07);
    p.priority = bhs[2] >> 4;
    p.total_ahs_length = iscsi::total_ahs_length(bhs);
    p.data_segment_length = iscsi::data_segment_length(bhs);
    p.lun = load_be64(bhs + 8);
    p.initiator_task_tag = load_be32(bhs + 16);
    p.expected_data_transfer_length = load_be32(bhs + 20);
    p.cmd_sn = CmdSn(load_be32(bhs + 24));
    p.exp_stat_sn = StatSn(load_be32(bhs + 28));
    std::memcpy(p.cdb.data(), bhs + 32, 16);
    return p;
  }
  // total_ahs_length is a multiple of four and at most 1020.
  void encode(std::uint8_t* bhs) const noexcept {
    detail::begin_bhs(bhs, Opcode::scsi_command, immediate,
                      detail::bit_if(final, 0x80) | detail::bit_if(read, 0x40) | detail::bit_if(write, 0x20) |
                          static_cast<unsigned>(attribute),
                      data_segment_length);
    bhs[2] = static_cast<std::uint8_t>(priority << 4);
    bhs[4] = static_cast<std::uint8_t>(total_ahs_length / 4);
    store_be64(bhs + 8, lun);
    store_be32(bhs + 16, initiator_task_tag);
    store_be32(bhs + 20, expected_data_transfer_length);
    store_be32(bhs + 24, cmd_sn.value());
    store_be32(bhs + 28, exp_stat_sn.value());
    std::memcpy(bhs + 32, cdb.data(), 16);
  }
};

// RFC 7143 11.4
struct ScsiResponse {
  bool bidirectional_read_overflow = false;   // o
  bool bidirectional_read_underflow = false;  // u
  bool overflow = false;                      // O
  bool underflow = false;                     // U
  ScsiResponseCode response = ScsiResponseCode::completed_at_target;
  std::uint8_t status = 0;             // SAM status
  std::uint16_t status_qualifier = 0;  // RFC 7144, SAM-5 5.3.2: bytes 8 and 9; zero below iSCSIProtocolLevel
                                       // 2
  std::uint32_t data_segment_length = 0;
  Itt initiator_task_tag = 0;
  std::uint32_t snack_tag = 0;
  StatSn stat_sn;
  CmdSn exp_cmd_sn;
  CmdSn max_cmd_sn;
  DataSn exp_data_sn;  // number of Data-In and R2T sent for the command
  std::uint32_t bidirectional_read_residual_count = 0;
  std::uint32_t residual_count = 0;

  [[nodiscard]] static ScsiResponse decode(const std::uint8_t* bhs) noexcept {
    ScsiResponse p;
    p.bidirectional_read_overflow = (bhs[1] & 0x10) != 0;
    p.bidirectional_read_underflow = (bhs[1] & 0x08) != 0;
    p.overflow = (bhs[1] & 0x04) != 0;
    p.underflow = (bhs[1] & 0x02) != 0;
    p.response = static_cast<ScsiResponseCode>(bhs[2]);
    p.status = bhs[3];
    p.status_qualifier = load_be16(bhs + 8);
    p.data_segment_length = iscsi::data_segment_length(bhs);
    p.initiator_task_tag = load_be32(bhs + 16);
    p.snack_tag = load_be32(bhs + 20);
    p.stat_sn = StatSn(load_be32(bhs + 24));
    p.exp_cmd_sn = CmdSn(load_be32(bhs + 28));
    p.max_cmd_sn = CmdSn(load_be32(bhs + 32));
    p.exp_data_sn = DataSn(load_be32(bhs + 36));
    p.bidirectional_read_residual_count = load_be32(bhs + 40);
    p.residual_count = load_be32(bhs + 44);
    return p;
  }
  void encode(std::uint8_t* bhs) const noexcept {
    detail::begin_bhs(bhs, Opcode::scsi_response, false,
                      0x80u | detail::bit_if(bidirectional_read_overflow, 0x10) |
                          detail::bit_if(bidirectional_read_underflow, 0x08) |
                          detail::bit_if(overflow, 0x04) | detail::bit_if(underflow, 0x02),
                      data_segment_length);
    bhs[2] = static_cast<std::uint8_t>(response);
    bhs[3] = status;
    store_be16(bhs + 8, status_qualifier);
    store_be32(bhs + 16, initiator_task_tag);
    store_be32(bhs + 20, snack_tag);
    store_be32(bhs + 24, stat_sn.value());
    store_be32(bhs + 28, exp_cmd_sn.value());
    store_be32(bhs + 32, max_cmd_sn.value());
    store_be32(bhs + 36, exp_data_sn.value());
    store_be32(bhs + 40, bidirectional_read_residual_count);
    store_be32(bhs + 44, residual_count);
  }
};

// RFC 7143 11.5
struct TaskManagementRequest {
  bool immediate = false;
  TmfFunction function = TmfFunction::abort_task;
  std::uint32_t data_segment_length = 0;
  Lun lun = 0;
  Itt initiator_task_tag = 0;
  Itt referenced_task_tag = reserved_tag;
  CmdSn cmd_sn;
  StatSn exp_stat_sn;
  CmdSn ref_cmd_sn;
  DataSn exp_data_sn;

  [[nodiscard]] static TaskManagementRequest decode(const std::uint8_t* bhs) noexcept {
    TaskManagementRequest p;
    p.immediate = iscsi::immediate(bhs);
    p.function = static_cast<TmfFunction>(bhs[1] & 0x7f);
    p.data_segment_length = iscsi::data_segment_length(bhs);
    p.lun = load_be64(bhs + 8);
    p.initiator_task_tag = load_be32(bhs + 16);
    p.referenced_task_tag = load_be32(bhs + 20);
    p.cmd_sn = CmdSn(load_be32(bhs + 24));
    p.exp_stat_sn = StatSn(load_be32(bhs + 28));
    p.ref_cmd_sn = CmdSn(load_be32(bhs + 32));
    p.exp_data_sn = DataSn(load_be32(bhs + 36));
    return p;
  }
  void encode(std::uint8_t* bhs) const noexcept {
    detail::begin_bhs(bhs, Opcode::task_management_request, immediate,
                      0x80u | static_cast<unsigned>(function), data_segment_length);
    store_be64(bhs + 8, lun);
    store_be32(bhs + 16, initiator_task_tag);
    store_be32(bhs + 20, referenced_task_tag);
    store_be32(bhs + 24, cmd_sn.value());
    store_be32(bhs + 28, exp_stat_sn.value());
    store_be32(bhs + 32, ref_cmd_sn.value());
    store_be32(bhs + 36, exp_data_sn.value());
  }
};

// RFC 7143 11.6
struct TaskManagementResponse {
  TmfResponse response = TmfResponse::function_complete;
  // Additional Response Information (RFC 7144, SAM-5 7.10): bytes 8 to 10; zero below iSCSIProtocolLevel 2.
  std::uint32_t additional_information = 0;
  std::uint32_t data_segment_length = 0;
  Itt initiator_task_tag = 0;
  StatSn stat_sn;
  CmdSn exp_cmd_sn;
  CmdSn max_cmd_sn;

  [[nodiscard]] static TaskManagementResponse decode(const std::uint8_t* bhs) noexcept {
    TaskManagementResponse p;
    p.response = static_cast<TmfResponse>(bhs[2]);
    p.additional_information = load_be24(bhs + 8);
    p.data_segment_length = iscsi::data_segment_length(bhs);
    p.initiator_task_tag = load_be32(bhs + 16);
    p.stat_sn = StatSn(load_be32(bhs + 24));
    p.exp_cmd_sn = CmdSn(load_be32(bhs + 28));
    p.max_cmd_sn = CmdSn(load_be32(bhs + 32));
    return p;
  }
  void encode(std::uint8_t* bhs) const noexcept {
    detail::begin_bhs(bhs, Opcode::task_management_response, false, 0x80u, data_segment_length);
    bhs[2] = static_cast<std::uint8_t>(response);
    store_be24(bhs + 8, additional_information);
    store_be32(bhs + 16, initiator_task_tag);
    store_be32(bhs + 24, stat_sn.value());
    store_be32(bhs + 28, exp_cmd_sn.value());
    store_be32(bhs + 32, max_cmd_sn.value());
  }
};

// RFC 7143 11.7
struct DataOut {
  bool final = false;
  std::uint32_t data_segment_length = 0;
  Lun lun = 0;
  Itt initiator_task_tag = 0;
  Ttt target_transfer_tag = reserved_tag;  // reserved_tag: unsolicited
  StatSn exp_stat_sn;
  DataSn data_sn;
  std::uint32_t buffer_offset = 0;

  [[nodiscard]] static DataOut decode(const std::uint8_t* bhs) noexcept {
    DataOut p;
    p.final = (bhs[1] & 0x80) != 0;
    p.data_segment_length = iscsi::data_segment_length(bhs);
    p.lun = load_be64(bhs + 8);
    p.initiator_task_tag = load_be32(bhs + 16);
    p.target_transfer_tag = load_be32(bhs + 20);
    p.exp_stat_sn = StatSn(load_be32(bhs + 28));
    p.data_sn = DataSn(load_be32(bhs + 36));
    p.buffer_offset = load_be32(bhs + 40);
    return p;
  }
  void encode(std::uint8_t* bhs) const noexcept {
    detail::begin_bhs(bhs, Opcode::data_out, false, detail::bit_if(final, 0x80), data_segment_length);
    store_be64(bhs + 8, lun);
    store_be32(bhs + 16, initiator_task_tag);
    store_be32(bhs + 20, target_transfer_tag);
    store_be32(bhs + 28, exp_stat_sn.value());
    store_be32(bhs + 36, data_sn.value());
    store_be32(bhs + 40, buffer_offset);
  }
};

// RFC 7143 11.7. O, U, status, StatSN and the residual count are meaningful only with has_status (S).
struct DataIn {
  bool final = false;
  bool acknowledge = false;  // A: only at ErrorRecoveryLevel 1 and above
  bool overflow = false;
  bool underflow = false;
  bool has_status = false;  // S; implies final
  std::uint8_t status = 0;
  std::uint32_t data_segment_length = 0;
  Lun lun = 0;
  Itt initiator_task_tag = 0;
  Ttt target_transfer_tag = reserved_tag;
  StatSn stat_sn;
  CmdSn exp_cmd_sn;
  CmdSn max_cmd_sn;
  DataSn data_sn;
  std::uint32_t buffer_offset = 0;
  std::uint32_t residual_count = 0;

  [[nodiscard]] static DataIn decode(const std::uint8_t* bhs) noexcept {
    DataIn p;
    p.final = (bhs[1] & 0x80) != 0;
    p.acknowledge = (bhs[1] & 0x40) != 0;
    p.overflow = (bhs[1] & 0x04) != 0;
    p.underflow = (bhs[1] & 0x02) != 0;
    p.has_status = (bhs[1] & 0x01) != 0;
    p.status = bhs[3];
    p.data_segment_length = iscsi::data_segment_length(bhs);
    p.lun = load_be64(bhs + 8);
    p.initiator_task_tag = load_be32(bhs + 16);
    p.target_transfer_tag = load_be32(bhs + 20);
    p.stat_sn = StatSn(load_be32(bhs + 24));
    p.exp_cmd_sn = CmdSn(load_be32(bhs + 28));
    p.max_cmd_sn = CmdSn(load_be32(bhs + 32));
    p.data_sn = DataSn(load_be32(bhs + 36));
    p.buffer_offset = load_be32(bhs + 40);
    p.residual_count = load_be32(bhs + 44);
    return p;
  }
  void encode(std::uint8_t* bhs) const noexcept {
    detail::begin_bhs(bhs, Opcode::data_in, false,
                      detail::bit_if(final, 0x80) | detail::bit_if(acknowledge, 0x40) |
                          detail::bit_if(overflow, 0x04) | detail::bit_if(underflow, 0x02) |
                          detail::bit_if(has_status, 0x01),
                      data_segment_length);
    bhs[3] = status;
    store_be64(bhs + 8, lun);
    store_be32(bhs + 16, initiator_task_tag);
    store_be32(bhs + 20, target_transfer_tag);
    store_be32(bhs + 24, stat_sn.value());
    store_be32(bhs + 28, exp_cmd_sn.value());
    store_be32(bhs + 32, max_cmd_sn.value());
    store_be32(bhs + 36, data_sn.value());
    store_be32(bhs + 40, buffer_offset);
    store_be32(bhs + 44, residual_count);
  }
};

// RFC 7143 11.8. StatSN is the next one and is not consumed.
struct ReadyToTransfer {
  std::uint32_t data_segment_length = 0;  // must be zero
  Lun lun = 0;
  Itt initiator_task_tag = 0;
  Ttt target_transfer_tag = 0;
  StatSn stat_sn;
  CmdSn exp_cmd_sn;
  CmdSn max_cmd_sn;
  DataSn r2t_sn;
  std::uint32_t buffer_offset = 0;
  std::uint32_t desired_data_transfer_length = 0;

  [[nodiscard]] static ReadyToTransfer decode(const std::uint8_t* bhs) noexcept {
    ReadyToTransfer p;
    p.data_segment_length = iscsi::data_segment_length(bhs);
    p.lun = load_be64(bhs + 8);
    p.initiator_task_tag = load_be32(bhs + 16);
    p.target_transfer_tag = load_be32(bhs + 20);
    p.stat_sn = StatSn(load_be32(bhs + 24));
    p.exp_cmd_sn = CmdSn(load_be32(bhs + 28));
    p.max_cmd_sn = CmdSn(load_be32(bhs + 32));
    p.r2t_sn = DataSn(load_be32(bhs + 36));
    p.buffer_offset = load_be32(bhs + 40);
    p.desired_data_transfer_length = load_be32(bhs + 44);
    return p;
  }
  void encode(std::uint8_t* bhs) const noexcept {
    detail::begin_bhs(bhs, Opcode::ready_to_transfer, false, 0x80u, data_segment_length);
    store_be64(bhs + 8, lun);
    store_be32(bhs + 16, initiator_task_tag);
    store_be32(bhs + 20, target_transfer_tag);
    store_be32(bhs + 24, stat_sn.value());
    store_be32(bhs + 28, exp_cmd_sn.value());
    store_be32(bhs + 32, max_cmd_sn.value());
    store_be32(bhs + 36, r2t_sn.value());
    store_be32(bhs + 40, buffer_offset);
    store_be32(bhs + 44, desired_data_transfer_length);
  }
};

// RFC 7143 11.9
struct AsyncMessage {
  std::uint32_t data_segment_length = 0;
  Lun lun = 0;
  StatSn stat_sn;
  CmdSn exp_cmd_sn;
  CmdSn max_cmd_sn;
  AsyncEvent async_event = AsyncEvent::scsi_event;
  std::uint8_t async_vcode = 0;
  std::uint16_t parameter1 = 0;
  std::uint16_t parameter2 = 0;
  std::uint16_t parameter3 = 0;

  [[nodiscard]] static AsyncMessage decode(const std::uint8_t* bhs) noexcept {
    AsyncMessage p;
    p.data_segment_length = iscsi::data_segment_length(bhs);
    p.lun = load_be64(bhs + 8);
    p.stat_sn = StatSn(load_be32(bhs + 24));
    p.exp_cmd_sn = CmdSn(load_be32(bhs + 28));
    p.max_cmd_sn = CmdSn(load_be32(bhs + 32));
    p.async_event = static_cast<AsyncEvent>(bhs[36]);
    p.async_vcode = bhs[37];
    p.parameter1 = load_be16(bhs + 38);
    p.parameter2 = load_be16(bhs + 40);
    p.parameter3 = load_be16(bhs + 42);
    return p;
  }
  void encode(std::uint8_t* bhs) const noexcept {
    detail::begin_bhs(bhs, Opcode::async_message, false, 0x80u, data_segment_length);
    store_be64(bhs + 8, lun);
    store_be32(bhs + 16, reserved_tag);
    store_be32(bhs + 24, stat_sn.value());
    store_be32(bhs + 28, exp_cmd_sn.value());
    store_be32(bhs + 32, max_cmd_sn.value());
    bhs[36] = static_cast<std::uint8_t>(async_event);
    bhs[37] = async_vcode;
    store_be16(bhs + 38, parameter1);
    store_be16(bhs + 40, parameter2);
    store_be16(bhs + 42, parameter3);
  }
};

// RFC 7143 11.10
struct TextRequest {
  bool immediate = false;
  bool final = true;
  bool continues = false;  // C
  std::uint32_t data_segment_length = 0;
  Lun lun = 0;
  Itt initiator_task_tag = 0;
  Ttt target_transfer_tag = reserved_tag;
  CmdSn cmd_sn;
  StatSn exp_stat_sn;

  [[nodiscard]] static TextRequest decode(const std::uint8_t* bhs) noexcept {
    TextRequest p;
    p.immediate = iscsi::immediate(bhs);
    p.final = (bhs[1] & 0x80) != 0;
    p.continues = (bhs[1] & 0x40) != 0;
    p.data_segment_length = iscsi::data_segment_length(bhs);
    p.lun = load_be64(bhs + 8);
    p.initiator_task_tag = load_be32(bhs + 16);
    p.target_transfer_tag = load_be32(bhs + 20);
    p.cmd_sn = CmdSn(load_be32(bhs + 24));
    p.exp_stat_sn = StatSn(load_be32(bhs + 28));
    return p;
  }
  void encode(std::uint8_t* bhs) const noexcept {
    detail::begin_bhs(bhs, Opcode::text_request, immediate,
                      detail::bit_if(final, 0x80) | detail::bit_if(continues, 0x40), data_segment_length);
    store_be64(bhs + 8, lun);
    store_be32(bhs + 16, initiator_task_tag);
    store_be32(bhs + 20, target_transfer_tag);
    store_be32(bhs + 24, cmd_sn.value());
    store_be32(bhs + 28, exp_stat_sn.value());
  }
};

// RFC 7143 11.11
struct TextResponse {
  bool final = true;
  bool continues = false;  // C
  std::uint32_t data_segment_length = 0;
  Lun lun = 0;
  Itt initiator_task_tag = 0;
  Ttt target_transfer_tag = reserved_tag;
  StatSn stat_sn;
  CmdSn exp_cmd_sn;
  CmdSn max_cmd_sn;

  [[nodiscard]] static TextResponse decode(const std::uint8_t* bhs) noexcept {
    TextResponse p;
    p.final = (bhs[1] & 0x80) != 0;
    p.continues = (bhs[1] & 0x40) != 0;
    p.data_segment_length = iscsi::data_segment_length(bhs);
    p.lun = load_be64(bhs + 8);
    p.initiator_task_tag = load_be32(bhs + 16);
    p.target_transfer_tag = load_be32(bhs + 20);
    p.stat_sn = StatSn(load_be32(bhs + 24));
    p.exp_cmd_sn = CmdSn(load_be32(bhs + 28));
    p.max_cmd_sn = CmdSn(load_be32(bhs + 32));
    return p;
  }
  void encode(std::uint8_t* bhs) const noexcept {
    detail::begin_bhs(bhs, Opcode::text_response, false,
                      detail::bit_if(final, 0x80) | detail::bit_if(continues, 0x40), data_segment_length);
    store_be64(bhs + 8, lun);
    store_be32(bhs + 16, initiator_task_tag);
    store_be32(bhs + 20, target_transfer_tag);
    store_be32(bhs + 24, stat_sn.value());
    store_be32(bhs + 28, exp_cmd_sn.value());
    store_be32(bhs + 32, max_cmd_sn.value());
  }
};

// RFC 7143 11.12. Always immediate; `immediate` tells whether the peer set the bit as it must.
struct LoginRequest {
  bool immediate = true;
  bool transit = false;    // T
  bool continues = false;  // C
  LoginStage csg = LoginStage::security_negotiation;
  LoginStage nsg = LoginStage::security_negotiation;
  std::uint8_t version_max = 0;
  std::uint8_t version_min = 0;
  std::uint32_t total_ahs_length = 0;
  std::uint32_t data_segment_length = 0;
  Isid isid{};
  std::uint16_t tsih = 0;
  Itt initiator_task_tag = 0;
  std::uint16_t cid = 0;
  CmdSn cmd_sn;
  StatSn exp_stat_sn;

  [[nodiscard]] static LoginRequest decode(const std::uint8_t* bhs) noexcept {
    LoginRequest p;
    p.immediate = iscsi::immediate(bhs);
    p.transit = (bhs[1] & 0x80) != 0;
    p.continues = (bhs[1] & 0x40) != 0;
    p.csg = static_cast<LoginStage>((bhs[1] >> 2) & 0x03);
    p.nsg = static_cast<LoginStage>(bhs[1] & 0x03);
    p.version_max = bhs[2];
    p.version_min = bhs[3];
    p.total_ahs_length = iscsi::total_ahs_length(bhs);
    p.data_segment_length = iscsi::data_segment_length(bhs);
    std::memcpy(p.isid.data(), bhs + 8, 6);
    p.tsih = load_be16(bhs + 14);
    p.initiator_task_tag = load_be32(bhs + 16);
    p.cid = load_be16(bhs + 20);
    p.cmd_sn = CmdSn(load_be32(bhs + 24));
    p.exp_stat_sn = StatSn(load_be32(bhs + 28));
    return p;
  }
  void encode(std::uint8_t* bhs) const noexcept {
    detail::begin_bhs(bhs, Opcode::login_request, immediate,
                      detail::bit_if(transit, 0x80) | detail::bit_if(continues, 0x40) |
                          (static_cast<unsigned>(csg) << 2) | static_cast<unsigned>(nsg),
                      data_segment_length);
    bhs[2] = version_max;
    bhs[3] = version_min;
    bhs[4] = static_cast<std::uint8_t>(total_ahs_length / 4);
    std::memcpy(bhs + 8, isid.data(), 6);
    store_be16(bhs + 14, tsih);
    store_be32(bhs + 16, initiator_task_tag);
    store_be16(bhs + 20, cid);
    store_be32(bhs + 24, cmd_sn.value());
    store_be32(bhs + 28, exp_stat_sn.value());
  }
};

// RFC 7143 11.13
struct LoginResponse {
  bool transit = false;
  bool continues = false;
  LoginStage csg = LoginStage::security_negotiation;
  LoginStage nsg = LoginStage::security_negotiation;
  std::uint8_t version_max = 0;
  std::uint8_t version_active = 0;
  std::uint32_t data_segment_length = 0;
  Isid isid{};
  std::uint16_t tsih = 0;
  Itt initiator_task_tag = 0;
  StatSn stat_sn;
  CmdSn exp_cmd_sn;
  CmdSn max_cmd_sn;
  LoginStatus status = LoginStatus::success;  // class in the high byte, detail in the low one

  [[nodiscard]] static LoginResponse decode(const std::uint8_t* bhs) noexcept {
    LoginResponse p;
    p.transit = (bhs[1] & 0x80) != 0;
    p.continues = (bhs[1] & 0x40) != 0;
    p.csg = static_cast<LoginStage>((bhs[1] >> 2) & 0x03);
    p.nsg = static_cast<LoginStage>(bhs[1] & 0x03);
    p.version_max = bhs[2];
    p.version_active = bhs[3];
    p.data_segment_length = iscsi::data_segment_length(bhs);
    std::memcpy(p.isid.data(), bhs + 8, 6);
    p.tsih = load_be16(bhs + 14);
    p.initiator_task_tag = load_be32(bhs + 16);
    p.stat_sn = StatSn(load_be32(bhs + 24));
    p.exp_cmd_sn = CmdSn(load_be32(bhs + 28));
    p.max_cmd_sn = CmdSn(load_be32(bhs + 32));
    p.status = static_cast<LoginStatus>(load_be16(bhs + 36));
    return p;
  }
  void encode(std::uint8_t* bhs) const noexcept {
    detail::begin_bhs(bhs, Opcode::login_response, false,
                      detail::bit_if(transit, 0x80) | detail::bit_if(continues, 0x40) |
                          (static_cast<unsigned>(csg) << 2) | static_cast<unsigned>(nsg),
                      data_segment_length);
    bhs[2] = version_max;
    bhs[3] = version_active;
    std::memcpy(bhs + 8, isid.data(), 6);
    store_be16(bhs + 14, tsih);
    store_be32(bhs + 16, initiator_task_tag);
    store_be32(bhs + 24, stat_sn.value());
    store_be32(bhs + 28, exp_cmd_sn.value());
    store_be32(bhs + 32, max_cmd_sn.value());
    store_be16(bhs + 36, static_cast<std::uint16_t>(status));
  }
};

// RFC 7143 11.14
struct LogoutRequest {
  bool immediate = false;
  LogoutReason reason = LogoutReason::close_session;
  std::uint32_t data_segment_length = 0;
  Itt initiator_task_tag = 0;
  std::uint16_t cid = 0;  // reserved when the reason is close_session
  CmdSn cmd_sn;
  StatSn exp_stat_sn;

  [[nodiscard]] static LogoutRequest decode(const std::uint8_t* bhs) noexcept {
    LogoutRequest p;
    p.immediate = iscsi::immediate(bhs);
    p.reason = static_cast<LogoutReason>(bhs[1] & 0x7f);
    p.data_segment_length = iscsi::data_segment_length(bhs);
    p.initiator_task_tag = load_be32(bhs + 16);
    p.cid = load_be16(bhs + 20);
    p.cmd_sn = CmdSn(load_be32(bhs + 24));
    p.exp_stat_sn = StatSn(load_be32(bhs + 28));
    return p;
  }
  void encode(std::uint8_t* bhs) const noexcept {
    detail::begin_bhs(bhs, Opcode::logout_request, immediate, 0x80u | static_cast<unsigned>(reason),
                      data_segment_length);
    store_be32(bhs + 16, initiator_task_tag);
    store_be16(bhs + 20, cid);
    store_be32(bhs + 24, cmd_sn.value());
    store_be32(bhs + 28, exp_stat_sn.value());
  }
};

// RFC 7143 11.15. Times in seconds.
struct LogoutResponse {
  LogoutResponseCode response = LogoutResponseCode::closed_successfully;
  std::uint32_t data_segment_length = 0;
  Itt initiator_task_tag = 0;
  StatSn stat_sn;
  CmdSn exp_cmd_sn;
  CmdSn max_cmd_sn;
  std::uint16_t time2wait = 0;
  std::uint16_t time2retain = 0;

  [[nodiscard]] static LogoutResponse decode(const std::uint8_t* bhs) noexcept {
    LogoutResponse p;
    p.response = static_cast<LogoutResponseCode>(bhs[2]);
    p.data_segment_length = iscsi::data_segment_length(bhs);
    p.initiator_task_tag = load_be32(bhs + 16);
    p.stat_sn = StatSn(load_be32(bhs + 24));
    p.exp_cmd_sn = CmdSn(load_be32(bhs + 28));
    p.max_cmd_sn = CmdSn(load_be32(bhs + 32));
    p.time2wait = load_be16(bhs + 40);
    p.time2retain = load_be16(bhs + 42);
    return p;
  }
  void encode(std::uint8_t* bhs) const noexcept {
    detail::begin_bhs(bhs, Opcode::logout_response, false, 0x80u, data_segment_length);
    bhs[2] = static_cast<std::uint8_t>(response);
    store_be32(bhs + 16, initiator_task_tag);
    store_be32(bhs + 24, stat_sn.value());
    store_be32(bhs + 28, exp_cmd_sn.value());
    store_be32(bhs + 32, max_cmd_sn.value());
    store_be16(bhs + 40, time2wait);
    store_be16(bhs + 42, time2retain);
  }
};

// RFC 7143 11.16
struct SnackRequest {
  SnackType type = SnackType::data_or_r2t;
  std::uint32_t data_segment_length = 0;
  Lun lun = 0;
  Itt initiator_task_tag = reserved_tag;
  std::uint32_t target_transfer_or_snack_tag = reserved_tag;
  StatSn exp_stat_sn;
  std::uint32_t beg_run = 0;
  std::uint32_t run_length = 0;

  [[nodiscard]] static SnackRequest decode(const std::uint8_t* bhs) noexcept {
    SnackRequest p;
    p.type = static_cast<SnackType>(bhs[1] & 0x0f);
    p.data_segment_length = iscsi::data_segment_length(bhs);
    p.lun = load_be64(bhs + 8);
    p.initiator_task_tag = load_be32(bhs + 16);
    p.target_transfer_or_snack_tag = load_be32(bhs + 20);
    p.exp_stat_sn = StatSn(load_be32(bhs + 28));
    p.beg_run = load_be32(bhs + 40);
    p.run_length = load_be32(bhs + 44);
    return p;
  }
  void encode(std::uint8_t* bhs) const noexcept {
    detail::begin_bhs(bhs, Opcode::snack_request, false, 0x80u | static_cast<unsigned>(type),
                      data_segment_length);
    store_be64(bhs + 8, lun);
    store_be32(bhs + 16, initiator_task_tag);
    store_be32(bhs + 20, target_transfer_or_snack_tag);
    store_be32(bhs + 28, exp_stat_sn.value());
    store_be32(bhs + 40, beg_run);
    store_be32(bhs + 44, run_length);
  }
};

// RFC 7143 11.17. The data segment is the BHS (or whole header) of the rejected PDU.
struct RejectPdu {
  RejectReason reason = RejectReason::protocol_error;
  std::uint32_t data_segment_length = 0;
  StatSn stat_sn;
  CmdSn exp_cmd_sn;
  CmdSn max_cmd_sn;
  DataSn data_sn;  // DataSN/R2TSN: only for a rejected Data/R2T SNACK

  [[nodiscard]] static RejectPdu decode(const std::uint8_t* bhs) noexcept {
    RejectPdu p;
    p.reason = static_cast<RejectReason>(bhs[2]);
    p.data_segment_length = iscsi::data_segment_length(bhs);
    p.stat_sn = StatSn(load_be32(bhs + 24));
    p.exp_cmd_sn = CmdSn(load_be32(bhs + 28));
    p.max_cmd_sn = CmdSn(load_be32(bhs + 32));
    p.data_sn = DataSn(load_be32(bhs + 36));
    return p;
  }
  void encode(std::uint8_t* bhs) const noexcept {
    detail::begin_bhs(bhs, Opcode::reject, false, 0x80u, data_segment_length);
    bhs[2] = static_cast<std::uint8_t>(reason);
    store_be32(bhs + 16, reserved_tag);
    store_be32(bhs + 24, stat_sn.value());
    store_be32(bhs + 28, exp_cmd_sn.value());
    store_be32(bhs + 32, max_cmd_sn.value());
    store_be32(bhs + 36, data_sn.value());
  }
};

// RFC 7143 11.18. ITT reserved_tag: no answer wanted (then immediate). TTT: copied from the NOP-In that it
// answers.
struct NopOut {
  bool immediate = false;
  std::uint32_t data_segment_length = 0;
  Lun lun = 0;
  Itt initiator_task_tag = reserved_tag;
  Ttt target_transfer_tag = reserved_tag;
  CmdSn cmd_sn;
  StatSn exp_stat_sn;

  [[nodiscard]] static NopOut decode(const std::uint8_t* bhs) noexcept {
    NopOut p;
    p.immediate = iscsi::immediate(bhs);
    p.data_segment_length = iscsi::data_segment_length(bhs);
    p.lun = load_be64(bhs + 8);
    p.initiator_task_tag = load_be32(bhs + 16);
    p.target_transfer_tag = load_be32(bhs + 20);
    p.cmd_sn = CmdSn(load_be32(bhs + 24));
    p.exp_stat_sn = StatSn(load_be32(bhs + 28));
    return p;
  }
  void encode(std::uint8_t* bhs) const noexcept {
    detail::begin_bhs(bhs, Opcode::nop_out, immediate, 0x80u, data_segment_length);
    store_be64(bhs + 8, lun);
    store_be32(bhs + 16, initiator_task_tag);
    store_be32(bhs + 20, target_transfer_tag);
    store_be32(bhs + 24, cmd_sn.value());
    store_be32(bhs + 28, exp_stat_sn.value());
  }
};

// RFC 7143 11.19. With ITT reserved_tag StatSN is the next one and is not consumed.
struct NopIn {
  std::uint32_t data_segment_length = 0;
  Lun lun = 0;
  Itt initiator_task_tag = reserved_tag;
  Ttt target_transfer_tag = reserved_tag;
  StatSn stat_sn;
  CmdSn exp_cmd_sn;
  CmdSn max_cmd_sn;

  [[nodiscard]] static NopIn decode(const std::uint8_t* bhs) noexcept {
    NopIn p;
    p.data_segment_length = iscsi::data_segment_length(bhs);
    p.lun = load_be64(bhs + 8);
    p.initiator_task_tag = load_be32(bhs + 16);
    p.target_transfer_tag = load_be32(bhs + 20);
    p.stat_sn = StatSn(load_be32(bhs + 24));
    p.exp_cmd_sn = CmdSn(load_be32(bhs + 28));
    p.max_cmd_sn = CmdSn(load_be32(bhs + 32));
    return p;
  }
  void encode(std::uint8_t* bhs) const noexcept {
    detail::begin_bhs(bhs, Opcode::nop_in, false, 0x80u, data_segment_length);
    store_be64(bhs + 8, lun);
    store_be32(bhs + 16, initiator_task_tag);
    store_be32(bhs + 20, target_transfer_tag);
    store_be32(bhs + 24, stat_sn.value());
    store_be32(bhs + 28, exp_cmd_sn.value());
    store_be32(bhs + 32, max_cmd_sn.value());
  }
};

}  // namespace perilune::iscsi
