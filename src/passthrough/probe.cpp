// SPDX-License-Identifier: Apache-2.0
#include "passthrough/probe.hpp"

#include <fmt/format.h>

#include <array>
#include <chrono>
#include <optional>
#include <vector>

#include "passthrough/delivery.hpp"

namespace perilune::passthrough {
namespace {

constexpr std::uint16_t answer_bytes = 252;  // what devices of every age can be asked for
constexpr int most_attentions = 8;

// One question; nothing when it was not answered with GOOD.
struct Answer {
  bool delivered = false;
  bool good = false;
  std::vector<std::uint8_t> data;
  std::vector<std::uint8_t> sense;
  [[nodiscard]] bool is_attention() const noexcept {
    if (sense.size() < 3) return false;
    return (sense[(sense[0] & 0x7e) == 0x72 ? 1 : 2] & 0x0f) == 0x06;
  }
};

Answer ask(SgNode& node, Bytes cdb, std::uint32_t bytes) {
  using namespace std::chrono_literals;
  Answer answer;
  answer.data.resize(bytes);
  const iovec piece{answer.data.data(), answer.data.size()};
  scsi::PassthroughCommand command;
  command.bytes = bytes;
  command.direction = bytes == 0 ? Direction::none : Direction::in;
  judge(node.execute({.cdb = cdb,
                      .direction = command.direction,
                      .bytes = bytes,
                      .data = {&piece, 1},
                      .timeout = 30s,
                      .sense = command.sense}),
        command);
  answer.delivered = command.delivery == scsi::PassthroughCommand::Delivery::answered;
  answer.good = answer.delivered && command.status == 0;
  answer.data.resize(command.transferred_bytes);
  answer.sense.assign(command.sense.begin(), command.sense.begin() + command.sense_length);
  return answer;
}

Answer inquire(SgNode& node, bool vital, std::uint8_t page, std::uint16_t bytes) {
  const std::uint8_t cdb[] = {0x12,
                              static_cast<std::uint8_t>(vital ? 1 : 0),
                              page,
                              static_cast<std::uint8_t>(bytes >> 8),
                              static_cast<std::uint8_t>(bytes),
                              0};
  return ask(node, cdb, bytes);
}

// A device may have any number of them from its power-on and from others; each is told once.
void take_attentions(SgNode& node) {
  constexpr std::uint8_t test_unit_ready[6] = {};
  for (int i = 0; i < most_attentions && ask(node, test_unit_ready, 0).is_attention(); ++i) {
  }
}

std::string hexadecimal(Bytes bytes) {
  std::string text;
  for (const std::uint8_t byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

// The designators of the logical unit, and of nothing else (SPC-4 7.8.6); without any, its serial number.
std::string designators_of(SgNode& node) {
  const Answer page = inquire(node, true, 0x83, answer_bytes);
  std::string text;
  if (page.good && page.data.size() >= 4) {
    const std::size_t end =
        std::min<std::size_t>(page.data.size(), std::size_t{load_be16(&page.data[2])} + 4);
    for (std::size_t at = 4; at + 4 <= end; at += std::size_t{page.data[at + 3]} + 4) {
      const std::size_t length = std::size_t{page.data[at + 3]} + 4;
      if (length > end - at) break;
      if ((page.data[at + 1] & 0x30) == 0) text += ":" + hexadecimal(Bytes(page.data).subspan(at, length));
    }
  }
  if (!text.empty()) return text;
  const Answer serial = inquire(node, true, 0x80, answer_bytes);
  if (!serial.good || serial.data.size() <= 4) return {};
  return ":" + hexadecimal(Bytes(serial.data).subspan(4));
}

std::string printable(Bytes bytes) {
  std::string text;
  for (const std::uint8_t byte : bytes) text += byte >= 0x20 && byte <= 0x7e ? static_cast<char>(byte) : ' ';
  const auto last = text.find_last_not_of(' ');
  return last == std::string::npos ? std::string() : text.substr(0, last + 1);
}

bool is_disk(std::uint8_t type) noexcept {
  return type == 0x00 || type == 0x07 || type == 0x0e || type == 0x14;
}

std::uint32_t block_bytes_of(SgNode& node) {
  constexpr std::uint8_t read_capacity_10[10] = {0x25};
  const Answer answer = ask(node, read_capacity_10, 8);
  return answer.good && answer.data.size() == 8 ? load_be32(&answer.data[4]) : 0;
}

}  // namespace

Result<Probed> probe(SgNode& node) {
  Probed probed;
  Answer inquiry = inquire(node, false, 0, answer_bytes);
  if (!inquiry.delivered) return fail(Errc::io, "the device does not answer");
  if (!inquiry.good || inquiry.data.size() < 36)
    return fail(Errc::unsupported, "the device answers INQUIRY with no INQUIRY data");
  if ((inquiry.data[0] & 0xe0) != 0)
    return fail(Errc::unsupported, "there is no logical unit (peripheral qualifier)");
  probed.facts.type = inquiry.data[0] & 0x1f;
  probed.product = fmt::format("{} {} {}", printable(Bytes(inquiry.data).subspan(8, 8)),
                               printable(Bytes(inquiry.data).subspan(16, 16)),
                               printable(Bytes(inquiry.data).subspan(32, 4)));
  probed.facts.inquiry = std::move(inquiry.data);
  take_attentions(node);
  if (is_disk(probed.facts.type)) probed.facts.block_bytes = block_bytes_of(node);
  probed.designators = designators_of(node);
  return probed;
}

}  // namespace perilune::passthrough
