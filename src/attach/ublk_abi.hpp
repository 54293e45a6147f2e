// SPDX-License-Identifier: Apache-2.0
// <linux/ublk_cmd.h> and what came into it after the headers of Debian 12: commands numbered as ioctls are
// (Linux 6.4), which newer kernels may be built to take alone.
#pragma once

#include <linux/ioctl.h>
#include <linux/ublk_cmd.h>

#include <cstdint>

namespace perilune::attach::ublk {

inline constexpr std::uint32_t add_device = _IOWR('u', UBLK_CMD_ADD_DEV, ublksrv_ctrl_cmd);
inline constexpr std::uint32_t delete_device = _IOWR('u', UBLK_CMD_DEL_DEV, ublksrv_ctrl_cmd);
inline constexpr std::uint32_t start_device = _IOWR('u', UBLK_CMD_START_DEV, ublksrv_ctrl_cmd);
inline constexpr std::uint32_t stop_device = _IOWR('u', UBLK_CMD_STOP_DEV, ublksrv_ctrl_cmd);
inline constexpr std::uint32_t set_parameters = _IOWR('u', UBLK_CMD_SET_PARAMS, ublksrv_ctrl_cmd);
inline constexpr std::uint32_t get_device_info = _IOR('u', UBLK_CMD_GET_DEV_INFO, ublksrv_ctrl_cmd);

inline constexpr std::uint32_t fetch = _IOWR('u', UBLK_IO_FETCH_REQ, ublksrv_io_cmd);
inline constexpr std::uint32_t commit_and_fetch = _IOWR('u', UBLK_IO_COMMIT_AND_FETCH_REQ, ublksrv_io_cmd);

inline constexpr std::uint16_t queue_depth = 128;
inline constexpr std::uint32_t max_request_bytes = 512 * 1024;

static_assert(sizeof(ublksrv_ctrl_cmd) == 32 && sizeof(ublksrv_ctrl_dev_info) == 64 &&
              sizeof(ublksrv_io_cmd) == 16 && sizeof(ublksrv_io_desc) == 24);

}  // namespace perilune::attach::ublk
