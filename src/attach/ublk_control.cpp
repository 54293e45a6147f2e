// SPDX-License-Identifier: Apache-2.0
#include "attach/ublk_control.hpp"

#include <dirent.h>
#include <fcntl.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "attach/block_node.hpp"
#include "attach/ublk_abi.hpp"

namespace perilune::attach {

using runtime::posix::UniqueFd;

namespace {

constexpr std::uint16_t whole_device = 0xFFFF;  // of a command that is about no queue
constexpr std::uint32_t any_number = 0xFFFFFFFF;
constexpr std::uint64_t ioctl_numbers = 1 << 6;  // UBLK_F_CMD_IOCTL_ENCODE
constexpr std::uint32_t sector_bytes = 512;
constexpr std::uint32_t max_sectors_at_once = 0xFFFFFFFF / sector_bytes;

std::uint8_t shift_of(std::uint32_t size) noexcept {
  return static_cast<std::uint8_t>(std::countr_zero(size));
}

std::string queue_name(int number) { return "ublkc" + std::to_string(number); }

}  // namespace

Result<UblkControl> UblkControl::open() {
  make_node("ublk-control", "misc");
  auto control = runtime::uring::DeviceControl::open("/dev/ublk-control");
  if (!control)
    return fail(Errc::unsupported, "no ublk here: " + control.error().message, control.error().os_errno);
  return UblkControl(std::move(*control));
}

int UblkControl::run(std::uint32_t operation, int number, void* buffer, std::size_t size,
                     std::uint64_t data) {
  ublksrv_ctrl_cmd command{};
  command.dev_id = number < 0 ? any_number : static_cast<std::uint32_t>(number);
  command.queue_id = whole_device;
  command.len = static_cast<std::uint16_t>(size);
  command.addr = reinterpret_cast<std::uint64_t>(buffer);
  command.data[0] = data;
  return control_->run(operation, {reinterpret_cast<const std::uint8_t*>(&command), sizeof command});
}

Result<int> UblkControl::add(const UblkSettings& settings) {
  ublksrv_ctrl_dev_info info{};
  info.nr_hw_queues = 1;
  info.queue_depth = ublk::queue_depth;
  info.max_io_buf_bytes = ublk::max_request_bytes;
  info.dev_id = any_number;
  info.flags = ioctl_numbers;
  info.ublksrv_flags = label_number(settings.label);
  if (const int result = run(ublk::add_device, -1, &info, sizeof info); result < 0) {
    return fail(Errc::unsupported, std::string("ublk: no device: ") + std::strerror(-result), -result);
  }
  const int number = static_cast<int>(info.dev_id);
  if (const int result = set_parameters(number, settings); result < 0) {
    static_cast<void>(remove(number));
    return fail_errno(-result, "ublk: parameters of the device");
  }
  make_node(queue_name(number), "ublk-char");
  return number;
}

int UblkControl::set_parameters(int number, const UblkSettings& settings) {
  ublk_params parameters{};
  parameters.len = sizeof parameters;
  parameters.types = UBLK_PARAM_TYPE_BASIC;
  ublk_param_basic& basic = parameters.basic;
  if (settings.read_only) basic.attrs |= UBLK_ATTR_READ_ONLY;
  if (settings.rotational) basic.attrs |= UBLK_ATTR_ROTATIONAL;
  if (settings.write_cache) basic.attrs |= UBLK_ATTR_VOLATILE_CACHE;
  if (settings.write_cache && settings.fua) basic.attrs |= UBLK_ATTR_FUA;
  const std::uint32_t physical = std::max(settings.block_size_bytes, settings.physical_block_size_bytes);
  basic.logical_bs_shift = shift_of(settings.block_size_bytes);
  basic.physical_bs_shift = basic.io_min_shift = basic.io_opt_shift = shift_of(physical);
  basic.max_sectors = ublk::max_request_bytes / sector_bytes;
  basic.dev_sectors = settings.size_bytes / sector_bytes;
  if (!settings.read_only) {
    parameters.types |= UBLK_PARAM_TYPE_DISCARD;
    ublk_param_discard& discard = parameters.discard;
    discard.discard_granularity = std::max(settings.discard_granularity_bytes, settings.block_size_bytes);
    if (settings.discard_granularity_bytes != 0) {
      discard.max_discard_sectors = max_sectors_at_once;
      discard.max_discard_segments = 1;
    }
    discard.max_write_zeroes_sectors = max_sectors_at_once;
  }
  return run(ublk::set_parameters, number, &parameters, sizeof parameters);
}

Result<UniqueFd> UblkControl::open_queue(int number) {
  const std::string path = "/dev/" + queue_name(number);
  UniqueFd fd;
  // udev may look at the node first, and only one may have it.
  static_cast<void>(wait_patiently([&] {
    fd = UniqueFd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
    return fd.valid() || (errno != EBUSY && errno != ENOENT);
  }));
  if (!fd.valid()) return fail_errno(errno, path);
  return fd;
}

Status UblkControl::start(int number, int pid) {
  const int result = run(ublk::start_device, number, nullptr, 0, static_cast<std::uint64_t>(pid));
  if (result < 0) return fail_errno(-result, "ublk: start of the device");
  return {};
}

Status UblkControl::stop(int number) {
  const int result = run(ublk::stop_device, number, nullptr, 0);
  if (result < 0) return fail_errno(-result, "ublk: stop of the device");
  return {};
}

Status UblkControl::remove(int number) {
  const int result = run(ublk::delete_device, number, nullptr, 0);
  if (result < 0 && result != -ENODEV) return fail_errno(-result, "ublk: end of the device");
  return {};
}

std::uint64_t UblkControl::owner_of(int number) {
  ublksrv_ctrl_dev_info info{};
  return run(ublk::get_device_info, number, &info, sizeof info) < 0 ? 0 : info.ublksrv_flags;
}

std::uint64_t label_number(std::string_view label) noexcept {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : label) hash = (hash ^ static_cast<std::uint8_t>(c)) * 0x100000001b3;
  return hash == 0 ? 1 : hash;
}

std::vector<int> all_ublk_devices() {
  constexpr std::string_view prefix = "ublkc";
  std::vector<int> numbers;
  DIR* dir = ::opendir("/sys/class/ublk-char");
  if (dir == nullptr) return numbers;
  while (const dirent* entry = ::readdir(dir)) {
    const std::string_view name = entry->d_name;
    int number = -1;
    if (name.starts_with(prefix) &&
        std::from_chars(name.data() + prefix.size(), name.data() + name.size(), number).ec == std::errc{}) {
      numbers.push_back(number);
    }
  }
  ::closedir(dir);
  std::sort(numbers.begin(), numbers.end());
  return numbers;
}

std::string ublk_name(int number) { return "ublkb" + std::to_string(number); }

}  // namespace perilune::attach
