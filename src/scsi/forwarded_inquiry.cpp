// SPDX-License-Identifier: Apache-2.0
// INQUIRY and REQUEST SENSE of a real device: what of its answers is true here too, and what is ours to say.
#include <algorithm>

#include "scsi/device.hpp"
#include "scsi/forwarding.hpp"
#include "scsi/handlers.hpp"
#include "scsi/transfer.hpp"

namespace perilune::scsi {
namespace {

constexpr std::uint32_t page_bytes =
    1024;  // of a VPD page that is read to be changed; what is longer is cut, at a designator

bool is_vital_product_data(const Task& task) noexcept { return (task.cdb[1] & 0x01) != 0; }

bool is_changed_page(std::uint8_t page) noexcept { return page == 0x00 || page == 0x83 || page == 0xb0; }

// Of a device that is gone: its type is known, but there is none (PERIPHERAL QUALIFIER 001b, SPC-4 table
// 142).
void answer_without_device(Command& command) {
  Task& task = command.task;
  task.parameter_data = command.unit.forwarder()->facts().inquiry;
  adjust_inquiry_data(task.parameter_data);
  task.parameter_data[0] = static_cast<std::uint8_t>(0x20 | (task.parameter_data[0] & 0x1f));
  reply(task, load_be16(task.cdb.data() + 3));
}

void answer_standard(Command& command, const PassthroughCommand& done) {
  if (done.delivery == PassthroughCommand::Delivery::unreachable) return answer_without_device(command);
  // TPGS and 3PC lie in byte 5; the data goes on from where the device put it.
  if (done.transferred_bytes <= 5) return;
  const MutableBytes byte_5 = Cursor(command.task.data, 5).run();
  byte_5[0] &= static_cast<std::uint8_t>(~0x38);
}

void answer_page(Command& command, const PassthroughCommand& done) {
  if (done.delivery != PassthroughCommand::Delivery::answered) return;
  Task& task = command.task;
  std::vector<std::uint8_t> page(std::min(done.transferred_bytes, page_bytes));
  page.resize(gather(task.scratch, 0, page));
  switch (task.cdb[2]) {
    case 0x00:
      adjust_supported_pages(page);
      break;
    case 0x83: {
      std::vector<std::uint8_t> own;
      append_own_ports(own, command);
      page = merge_device_identification(page, own);
      break;
    }
    default:
      adjust_block_limits(page, command.unit.forwarder()->facts());
      break;
  }
  task.parameter_data = std::move(page);
  reply(task, load_be16(task.cdb.data() + 3));
}

// A unit attention that the device has told as data is told no more: the others have to learn of it here.
void tell_others(Command& command, const PassthroughCommand& done) {
  if (done.delivery != PassthroughCommand::Delivery::answered) return;
  std::vector<std::uint8_t> sense(std::min<std::uint32_t>(done.transferred_bytes, limits::max_sense_bytes));
  sense.resize(gather(command.task.data, 0, sense));
  if (const auto attention = attention_of_sense(sense)) {
    command.device.raise_everywhere(command.unit, command.task.nexus, *attention);
  }
}

// The page without what is not there: the shorter of what came and what the header says (SPC-4 7.8.1).
void trim(std::vector<std::uint8_t>& page) {
  page.resize(std::min<std::size_t>(page.size(), std::size_t{load_be16(&page[2])} + 4));
}

void set_length(std::vector<std::uint8_t>& page) noexcept {
  store_be16(&page[2], static_cast<std::uint16_t>(page.size() - 4));
}

void lower(std::uint8_t* field, std::uint32_t most, bool zero_is_no_limit) noexcept {
  const std::uint32_t value = load_be32(field);
  if (value > most || (value == 0 && zero_is_no_limit)) store_be32(field, most);
}

}  // namespace

void adjust_inquiry_data(MutableBytes data) noexcept {
  if (data.size() > 5) data[5] &= static_cast<std::uint8_t>(~0x38);
}

void adjust_supported_pages(std::vector<std::uint8_t>& page) {
  if (page.size() < 4) return;
  trim(page);
  page.erase(std::remove(page.begin() + 4, page.end(), std::uint8_t{0x8f}), page.end());  // third-party copy
  set_length(page);
}

void adjust_block_limits(std::vector<std::uint8_t>& page, const PassthroughFacts& facts) noexcept {
  if (page.size() < 16 || facts.block_bytes == 0) return;
  const std::uint32_t most = std::max(facts.max_transfer_bytes / facts.block_bytes, 1u);
  page[5] = static_cast<std::uint8_t>(
      std::min<std::uint32_t>(page[5], most / 2));  // COMPARE AND WRITE: twice the data
  lower(&page[8], most, true);                      // MAXIMUM TRANSFER LENGTH
  lower(&page[12], most, false);                    // OPTIMAL TRANSFER LENGTH
  if (page.size() >= 64) {
    lower(&page[44], most, false);  // MAXIMUM ATOMIC TRANSFER LENGTH, and with boundaries
    lower(&page[56], most, false);
  }
}

std::vector<std::uint8_t> merge_device_identification(Bytes page, Bytes own) {
  std::vector<std::uint8_t> merged(
      page.begin(), page.begin() + static_cast<std::ptrdiff_t>(std::min<std::size_t>(page.size(), 4)));
  if (merged.size() < 4) return merged;
  const std::size_t end = std::min<std::size_t>(page.size(), std::size_t{load_be16(&page[2])} + 4);
  for (std::size_t at = 4; at + 4 <= end;) {
    const std::size_t length = std::size_t{page[at + 3]} + 4;
    if (length > end - at) break;
    const bool of_unit = (page[at + 1] & 0x30) == 0x00;
    const Bytes designator = page.subspan(at, length);
    if (of_unit) merged.insert(merged.end(), designator.begin(), designator.end());
    at += length;
  }
  merged.insert(merged.end(), own.begin(), own.end());
  set_length(merged);
  return merged;
}

bool admit_forwarded_inquiry(Command& command) {
  Task& task = command.task;
  if (!is_vital_product_data(task)) return admit_forwarded(command);
  const std::uint8_t page = task.cdb[2];
  if (page == 0x8f) {
    invalid_field_in_cdb(task, 2, std::uint8_t{7});
    return false;
  }
  if (page == 0x88) {  // SCSI ports: those of the target, not of the device
    task.parameter_data.assign({command.unit.forwarder()->facts().type, page, 0, 0});
    append_scsi_ports(task.parameter_data, command);
    set_length(task.parameter_data);
    reply(task, load_be16(task.cdb.data() + 3));
    return false;
  }
  if (!is_changed_page(page)) return admit_forwarded(command);
  task.need.scratch_bytes = page_bytes;
  return true;
}

Progress run_forwarded_inquiry(Command& command) {
  const Task& task = command.task;
  Forwarder& forwarder = *command.unit.forwarder();
  if (task.need.scratch_bytes == 0) {
    forwarder.forward(command, is_vital_product_data(task) ? nullptr : answer_standard);
  } else {
    const std::uint8_t cdb[] = {0x12,       task.cdb[1], task.cdb[2], page_bytes >> 8, page_bytes & 0xff,
                                task.cdb[5]};
    forwarder.read_instead(command, cdb, answer_page);
  }
  return Progress::waits;
}

// A unit attention of ours, or of another nexus's answer, is told here as by every unit; else it is for the
// device to answer.
bool admit_forwarded_request_sense(Command& command) {
  if (command.device.has_attention(command.task)) {
    (void)run_request_sense(command);
    return false;
  }
  return admit_forwarded(command);
}

Progress run_forwarded_request_sense(Command& command) {
  command.unit.forwarder()->forward(command, tell_others);
  return Progress::waits;
}

}  // namespace perilune::scsi
