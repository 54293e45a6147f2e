// SPDX-License-Identifier: Apache-2.0
// Every PDU against 48 bytes written by hand from the figures of RFC 7143 section 11.
#include "iscsi/pdu/pdus.hpp"

#include <gtest/gtest.h>

#include <initializer_list>
#include <vector>

namespace perilune::iscsi {
namespace {

using Raw = std::vector<std::uint8_t>;

Raw bytes(std::initializer_list<unsigned> values) {
  Raw out;
  for (const unsigned v : values) out.push_back(static_cast<std::uint8_t>(v));
  out.resize(bhs_bytes);
  return out;
}

template <class Pdu>
Raw encoded(const Pdu& pdu) {
  Raw out(bhs_bytes, 0xee);  // encode() must clear what it does not write
  pdu.encode(out.data());
  return out;
}

// Decoding the hand-written bytes and encoding again must give them back; with all reserved bits set, too.
template <class Pdu>
void expect_round_trip(const Raw& wire) {
  EXPECT_EQ(encoded(Pdu::decode(wire.data())), wire);
}

TEST(Pdus, CommonFields) {
  const Raw wire = bytes({0x41, 0x80, 0, 0, 0xff, 0x01, 0x02, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0xde, 0xad, 0xbe, 0xef});
  EXPECT_EQ(opcode(wire.data()), Opcode::scsi_command);
  EXPECT_TRUE(immediate(wire.data()));
  EXPECT_TRUE(final_bit(wire.data()));
  EXPECT_EQ(total_ahs_length(wire.data()), 1020u);
  EXPECT_EQ(data_segment_length(wire.data()), 0x010203u);
  EXPECT_EQ(initiator_task_tag(wire.data()), 0xdeadbeefu);
  EXPECT_EQ(pad4(0), 0u);
  EXPECT_EQ(pad4(1), 4u);
  EXPECT_EQ(pad4(0xffffff), 0x1000000u);
}

TEST(Pdus, ScsiCommand) {
  const Raw wire = bytes({0x41, 0xe1, 0,    0,    0x03, 0x00, 0x02, 0x00,  // I; F R W, simple; AHS 3 words;
                                                                           // 512 bytes
                          0x00, 0x05, 0,    0,    0,    0,    0,    0,     // LUN 5
                          0x11, 0x22, 0x33, 0x44,                          // ITT
                          0x00, 0x00, 0x10, 0x00,                          // EDTL
                          0x00, 0x00, 0x00, 0x2a, 0x00, 0x00, 0x00, 0x2b, 0x2a, 0x08, 1,  2,
                          3,    4,    5,    6,    7,    8,    9,    10,   11,   12,   13, 14});
  Raw urgent = wire;
  urgent[2] = 0x70;  // RFC 7144: PRI
  EXPECT_EQ(ScsiCommand::decode(urgent.data()).priority, 7);
  expect_round_trip<ScsiCommand>(urgent);
  const auto p = ScsiCommand::decode(wire.data());
  EXPECT_TRUE(p.immediate && p.final && p.read && p.write);
  EXPECT_EQ(p.priority, 0);
  EXPECT_EQ(p.attribute, TaskAttribute::simple);
  EXPECT_EQ(p.total_ahs_length, 12u);
  EXPECT_EQ(p.data_segment_length, 512u);
  EXPECT_EQ(p.lun, 0x0005000000000000u);
  EXPECT_EQ(p.initiator_task_tag, 0x11223344u);
  EXPECT_EQ(p.expected_data_transfer_length, 4096u);
  EXPECT_EQ(p.cmd_sn, CmdSn(0x2a));
  EXPECT_EQ(p.exp_stat_sn, StatSn(0x2b));
  EXPECT_EQ(p.cdb[0], 0x2a);
  EXPECT_EQ(p.cdb[15], 14);
  EXPECT_EQ(encoded(p), wire);
}

TEST(Pdus, ScsiResponse) {
  const Raw wire = bytes({0x21, 0x92, 0x00, 0x02, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0,  // o and U; CHECK CONDITION
                          0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 7, 0, 0, 0, 8});
  const auto p = ScsiResponse::decode(wire.data());
  EXPECT_TRUE(p.bidirectional_read_overflow && p.underflow);
  EXPECT_FALSE(p.bidirectional_read_underflow || p.overflow);
  EXPECT_EQ(p.status, 2);
  EXPECT_EQ(p.snack_tag, 2u);
  EXPECT_EQ(p.stat_sn, StatSn(3));
  EXPECT_EQ(p.exp_cmd_sn, CmdSn(4));
  EXPECT_EQ(p.max_cmd_sn, CmdSn(5));
  EXPECT_EQ(p.exp_data_sn, DataSn(6));
  EXPECT_EQ(p.bidirectional_read_residual_count, 7u);
  EXPECT_EQ(p.residual_count, 8u);
  EXPECT_EQ(encoded(p), wire);
  Raw other = wire;
  other[8] = 0x01;  // RFC 7144: Status Qualifier
  other[9] = 0x02;
  EXPECT_EQ(ScsiResponse::decode(other.data()).status_qualifier, 0x0102);
  expect_round_trip<ScsiResponse>(other);
  other[1] = 0x8c;  // u and O
  EXPECT_TRUE(ScsiResponse::decode(other.data()).bidirectional_read_underflow);
  EXPECT_TRUE(ScsiResponse::decode(other.data()).overflow);
  expect_round_trip<ScsiResponse>(other);
}

TEST(Pdus, TaskManagement) {
  const Raw wire = bytes({0x42, 0x81, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 8,
                          0, 0, 0, 7, 0, 0, 0, 6, 0, 0, 0, 5, 0, 0, 0, 4});
  const auto p = TaskManagementRequest::decode(wire.data());
  EXPECT_TRUE(p.immediate);
  EXPECT_EQ(p.function, TmfFunction::abort_task);
  EXPECT_EQ(p.lun, 0x0001000000000000u);
  EXPECT_EQ(p.initiator_task_tag, 9u);
  EXPECT_EQ(p.referenced_task_tag, 8u);
  EXPECT_EQ(p.cmd_sn, CmdSn(7));
  EXPECT_EQ(p.exp_stat_sn, StatSn(6));
  EXPECT_EQ(p.ref_cmd_sn, CmdSn(5));
  EXPECT_EQ(p.exp_data_sn, DataSn(4));
  EXPECT_EQ(encoded(p), wire);
  const Raw answer = bytes({0x22, 0x80, 0x05, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0,
                            0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5});
  EXPECT_EQ(TaskManagementResponse::decode(answer.data()).response, TmfResponse::function_not_supported);
  EXPECT_EQ(TaskManagementResponse::decode(answer.data()).max_cmd_sn, CmdSn(5));
  expect_round_trip<TaskManagementResponse>(answer);
  Raw informed = answer;
  informed[2] = 0x07;
  informed[8] = 0x16;  // RFC 7144: Additional Response Information
  informed[9] = 0x29;
  informed[10] = 0x03;
  EXPECT_EQ(TaskManagementResponse::decode(informed.data()).response, TmfResponse::function_succeeded);
  EXPECT_EQ(TaskManagementResponse::decode(informed.data()).additional_information, 0x162903u);
  expect_round_trip<TaskManagementResponse>(informed);
}

TEST(Pdus, DataOut) {
  const Raw wire = bytes({0x05, 0x80, 0, 0, 0, 0, 0x20, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 8,
                          0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0});
  const auto p = DataOut::decode(wire.data());
  EXPECT_TRUE(p.final);
  EXPECT_EQ(p.data_segment_length, 0x2000u);
  EXPECT_EQ(p.lun, 0x0002000000000000u);
  EXPECT_EQ(p.target_transfer_tag, 8u);
  EXPECT_EQ(p.exp_stat_sn, StatSn(6));
  EXPECT_EQ(p.data_sn, DataSn(4));
  EXPECT_EQ(p.buffer_offset, 0x10000u);
  EXPECT_EQ(encoded(p), wire);
}

TEST(Pdus, DataIn) {
  const Raw wire = bytes({0x25, 0xc3, 0, 0x08, 0, 0, 0x20, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 8,
                          0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6, 0, 1, 0, 0, 0, 0, 2, 0});
  const auto p = DataIn::decode(wire.data());
  EXPECT_TRUE(p.final && p.acknowledge && p.underflow && p.has_status);
  EXPECT_FALSE(p.overflow);
  EXPECT_EQ(p.status, 8);
  EXPECT_EQ(p.stat_sn, StatSn(3));
  EXPECT_EQ(p.data_sn, DataSn(6));
  EXPECT_EQ(p.buffer_offset, 0x10000u);
  EXPECT_EQ(p.residual_count, 512u);
  EXPECT_EQ(encoded(p), wire);
}

TEST(Pdus, ReadyToTransfer) {
  const Raw wire = bytes({0x31, 0x80, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 8,
                          0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6, 0, 1, 0, 0, 0, 4, 0, 0});
  const auto p = ReadyToTransfer::decode(wire.data());
  EXPECT_EQ(p.r2t_sn, DataSn(6));
  EXPECT_EQ(p.target_transfer_tag, 8u);
  EXPECT_EQ(p.buffer_offset, 0x10000u);
  EXPECT_EQ(p.desired_data_transfer_length, 0x40000u);
  EXPECT_EQ(encoded(p), wire);
}

TEST(Pdus, AsyncMessage) {
  const Raw wire = bytes({0x32, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0,
                          0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0x02, 0x07, 0, 1, 0, 2, 0, 3});
  const auto p = AsyncMessage::decode(wire.data());
  EXPECT_EQ(p.async_event, AsyncEvent::connection_dropped);
  EXPECT_EQ(p.async_vcode, 7);
  EXPECT_EQ(p.parameter1, 1);
  EXPECT_EQ(p.parameter2, 2);
  EXPECT_EQ(p.parameter3, 3);
  EXPECT_EQ(encoded(p), wire);
}

TEST(Pdus, Text) {
  const Raw wire = bytes({0x44, 0x40, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0xff, 0xff, 0xff, 0xff,
                          0, 0, 0, 3, 0, 0, 0, 4});
  const auto p = TextRequest::decode(wire.data());
  EXPECT_TRUE(p.immediate && p.continues);
  EXPECT_FALSE(p.final);
  EXPECT_EQ(p.target_transfer_tag, reserved_tag);
  EXPECT_EQ(encoded(p), wire);
  const Raw answer = bytes({0x24, 0x80, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1,
                            0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5});
  EXPECT_TRUE(TextResponse::decode(answer.data()).final);
  EXPECT_EQ(TextResponse::decode(answer.data()).target_transfer_tag, 1u);
  expect_round_trip<TextResponse>(answer);
}

TEST(Pdus, Login) {
  const Raw wire = bytes({0x43, 0x87, 0x01, 0x02, 0, 0, 1, 0, 0x80, 1, 2, 3, 4, 5, 0x12, 0x34, 0, 0, 0, 9, 0, 7, 0, 0,
                          0, 0, 0, 3, 0, 0, 0, 4});
  const auto p = LoginRequest::decode(wire.data());
  EXPECT_TRUE(p.immediate && p.transit);
  EXPECT_FALSE(p.continues);
  EXPECT_EQ(p.csg, LoginStage::operational_negotiation);
  EXPECT_EQ(p.nsg, LoginStage::full_feature);
  EXPECT_EQ(p.version_max, 1);
  EXPECT_EQ(p.version_min, 2);
  EXPECT_EQ(p.isid, (Isid{0x80, 1, 2, 3, 4, 5}));
  EXPECT_EQ(p.tsih, 0x1234);
  EXPECT_EQ(p.cid, 7);
  EXPECT_EQ(encoded(p), wire);
  const Raw answer = bytes({0x23, 0x44, 0, 0, 0, 0, 0, 0, 0x80, 1, 2, 3, 4, 5, 0x12, 0x34, 0, 0, 0, 9, 0, 0, 0, 0,
                            0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0x02, 0x07});
  const auto a = LoginResponse::decode(answer.data());
  EXPECT_TRUE(a.continues);
  EXPECT_EQ(a.status, LoginStatus::missing_parameter);
  EXPECT_EQ(status_class(a.status), 2);
  EXPECT_EQ(status_detail(a.status), 7);
  EXPECT_EQ(encoded(a), answer);
}

TEST(Pdus, Logout) {
  const Raw wire = bytes({0x46, 0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 7, 0, 0,
                          0, 0, 0, 3, 0, 0, 0, 4});
  EXPECT_EQ(LogoutRequest::decode(wire.data()).reason, LogoutReason::close_connection);
  EXPECT_EQ(LogoutRequest::decode(wire.data()).cid, 7);
  expect_round_trip<LogoutRequest>(wire);
  const Raw answer = bytes({0x26, 0x80, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0,
                            0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 0, 0, 2, 0, 20});
  const auto a = LogoutResponse::decode(answer.data());
  EXPECT_EQ(a.response, LogoutResponseCode::cid_not_found);
  EXPECT_EQ(a.time2wait, 2);
  EXPECT_EQ(a.time2retain, 20);
  EXPECT_EQ(encoded(a), answer);
}

TEST(Pdus, SnackAndReject) {
  const Raw wire = bytes({0x10, 0x83, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 8,
                          0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 6});
  const auto p = SnackRequest::decode(wire.data());
  EXPECT_EQ(p.type, SnackType::r_data);
  EXPECT_EQ(p.target_transfer_or_snack_tag, 8u);
  EXPECT_EQ(p.beg_run, 5u);
  EXPECT_EQ(p.run_length, 6u);
  EXPECT_EQ(encoded(p), wire);
  const Raw reject = bytes({0x3f, 0x80, 0x09, 0, 0, 0, 0, 48, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0,
                            0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5, 0, 0, 0, 6});
  EXPECT_EQ(RejectPdu::decode(reject.data()).reason, RejectReason::invalid_pdu_field);
  EXPECT_EQ(RejectPdu::decode(reject.data()).data_sn, DataSn(6));
  expect_round_trip<RejectPdu>(reject);
}

TEST(Pdus, Nop) {
  const Raw out = bytes({0x40, 0x80, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 8,
                         0, 0, 0, 3, 0, 0, 0, 4});
  EXPECT_EQ(NopOut::decode(out.data()).initiator_task_tag, reserved_tag);
  EXPECT_EQ(NopOut::decode(out.data()).target_transfer_tag, 8u);
  expect_round_trip<NopOut>(out);
  const Raw in = bytes({0x20, 0x80, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0xff, 0xff, 0xff, 0xff,
                        0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5});
  EXPECT_EQ(NopIn::decode(in.data()).stat_sn, StatSn(3));
  expect_round_trip<NopIn>(in);
}

}  // namespace
}  // namespace perilune::iscsi
