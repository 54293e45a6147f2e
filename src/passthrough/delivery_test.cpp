// SPDX-License-Identifier: Apache-2.0
#include "passthrough/delivery.hpp"

#include <gtest/gtest.h>

#include <cerrno>

namespace perilune::passthrough {
namespace {

using Delivery = scsi::PassthroughCommand::Delivery;

struct Judged {
  explicit Judged(const SgResult& result, std::uint32_t bytes = 512) {
    command.bytes = bytes;
    judge(result, command);
  }
  scsi::PassthroughCommand command;
};

TEST(Delivery, StatusSenseAndResidualAreTheDevices) {
  const Judged good({.status = 0, .residual = 100});
  EXPECT_EQ(good.command.delivery, Delivery::answered);
  EXPECT_EQ(good.command.status, 0);
  EXPECT_EQ(good.command.transferred_bytes, 412u);
  const Judged check({.status = 2, .driver_status = 8, .sense_bytes = 18, .residual = 512});
  EXPECT_EQ(check.command.delivery, Delivery::answered);
  EXPECT_EQ(check.command.status, 2);
  EXPECT_EQ(check.command.sense_length, 18);
  EXPECT_EQ(check.command.transferred_bytes, 0u);
  EXPECT_EQ(Judged({.status = 0x18}).command.status, 0x18);
  EXPECT_EQ(Judged({.status = 0x81}).command.status, 0x00) << "reserved bits of the status";
}

TEST(Delivery, ResidualThatCannotBeIsTakenForTheNearestThatCan) {
  EXPECT_EQ(Judged({.residual = 513}).command.transferred_bytes, 0u);
  EXPECT_EQ(Judged({.residual = INT64_MAX}).command.transferred_bytes, 0u);
  EXPECT_EQ(Judged({.residual = -1}).command.transferred_bytes, 512u);
  EXPECT_EQ(Judged({.residual = INT64_MIN}).command.transferred_bytes, 512u);
}

TEST(Delivery, MoreSenseThanThereIsRoomForIsCut) {
  EXPECT_EQ(Judged({.status = 2, .sense_bytes = 100000}).command.sense_length, 252);
}

TEST(Delivery, CallThatFailed) {
  const auto of = [](int error) { return Judged({.os_errno = error}).command.delivery; };
  EXPECT_EQ(of(ENODEV), Delivery::unreachable);
  EXPECT_EQ(of(ENXIO), Delivery::unreachable);
  EXPECT_EQ(of(ENOMEM), Delivery::busy);
  EXPECT_EQ(of(EBUSY), Delivery::busy);
  EXPECT_EQ(of(EDOM), Delivery::busy);
  EXPECT_EQ(of(ETIMEDOUT), Delivery::timed_out);
  EXPECT_EQ(of(EINVAL), Delivery::failed);
  EXPECT_EQ(of(EPERM), Delivery::failed);
}

TEST(Delivery, WhatTheHostsAdapterSays) {
  const auto of = [](std::uint16_t host) { return Judged({.host_status = host}).command.delivery; };
  EXPECT_EQ(of(0x01), Delivery::unreachable);  // DID_NO_CONNECT
  EXPECT_EQ(of(0x04), Delivery::unreachable);  // DID_BAD_TARGET
  EXPECT_EQ(of(0x0f), Delivery::unreachable);  // DID_TRANSPORT_FAILFAST
  EXPECT_EQ(of(0x02), Delivery::busy);         // DID_BUS_BUSY
  EXPECT_EQ(of(0x0d), Delivery::busy);         // DID_REQUEUE
  EXPECT_EQ(of(0x0e), Delivery::busy);         // DID_TRANSPORT_DISRUPTED
  EXPECT_EQ(of(0x03), Delivery::timed_out);    // DID_TIME_OUT
  EXPECT_EQ(of(0x05), Delivery::aborted);      // DID_ABORT
  EXPECT_EQ(of(0x08), Delivery::aborted);      // DID_RESET
  EXPECT_EQ(of(0x06), Delivery::damaged);      // DID_PARITY
  EXPECT_EQ(of(0x11), Delivery::conflict);     // DID_NEXUS_FAILURE
  EXPECT_EQ(of(0x07), Delivery::failed);       // DID_ERROR
  EXPECT_EQ(of(0x10), Delivery::failed);       // DID_TARGET_FAILURE
  EXPECT_EQ(of(0x77), Delivery::failed);
  EXPECT_EQ(Judged({.driver_status = 0x06}).command.delivery, Delivery::timed_out);  // DRIVER_TIMEOUT
}

TEST(Delivery, NothingOfAFailedTransferIsSent) {
  EXPECT_EQ(Judged({.host_status = 0x07, .residual = 0}).command.transferred_bytes, 0u);
  EXPECT_EQ(Judged({.os_errno = EIO}).command.transferred_bytes, 0u);
}

TEST(Delivery, SenseOfTheDeviceCountsMoreThanTheAdaptersOpinion) {
  const Judged judged({.status = 2, .host_status = 0x10, .driver_status = 8, .sense_bytes = 18});
  EXPECT_EQ(judged.command.delivery, Delivery::answered);
  EXPECT_EQ(judged.command.sense_length, 18);
}

TEST(Timeouts, AreOfTheDevicesKind) {
  using namespace std::chrono_literals;
  constexpr std::uint8_t read[] = {0x28}, rewind[] = {0x01}, format[] = {0x04}, flush[] = {0x35};
  EXPECT_EQ(timeout_of(0x00, read), 60s);
  EXPECT_EQ(timeout_of(0x00, flush), 300s);
  EXPECT_EQ(timeout_of(0x00, format), 24h);
  EXPECT_EQ(timeout_of(0x01, rewind), 14'000s);
  EXPECT_EQ(timeout_of(0x01, format), 14'000s);
  EXPECT_EQ(timeout_of(0x08, read), 900s);
  EXPECT_EQ(timeout_of(0x00, {}), 60s);
}

}  // namespace
}  // namespace perilune::passthrough
