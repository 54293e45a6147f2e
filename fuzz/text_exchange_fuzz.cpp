// SPDX-License-Identifier: Apache-2.0
// Text Requests at a target and Text Responses at an initiator, PDU after PDU: bounded, whatever the tags,
// bits and text.
#include "fuzz_input.hpp"
#include "iscsi/login/text_exchange.hpp"

namespace {

using namespace perilune;
using namespace perilune::iscsi;
using fuzz::Input;
using fuzz::require;

std::vector<SendTargetsRecord> many_targets(unsigned count) {
  std::vector<SendTargetsRecord> targets;
  for (unsigned i = 0; i < count; ++i) {
    targets.push_back(
        {"iqn.2026-11.io.perilune:fuzz" + std::to_string(i), {"192.0.2.1:3260,1", "[2001:db8::1]:3260,1"}});
  }
  return targets;
}

void at_target(Input& input) {
  const auto type = (input.byte() & 1) != 0 ? SessionType::discovery : SessionType::normal;
  const std::uint32_t max_xmit = 512 + input.number(2);
  const unsigned count = input.byte();
  TargetText text(type, max_xmit, 0x1234);
  while (!input.empty()) {
    const auto bhs = input.exactly(48);
    const auto data = input.exactly(input.byte());
    auto step = text.receive(TextRequest::decode(bhs.data()), data);
    if (step == TargetText::Step::ask_targets) step = text.answer_targets(many_targets(count));
    require(step != TargetText::Step::ask_targets);
    if (step == TargetText::Step::respond) require(text.data().size() <= max_xmit);
  }
}

void at_initiator(Input& input) {
  constexpr std::size_t max_answer = 4096;
  InitiatorText text("All", 7, max_answer);
  auto step = InitiatorText::Step::send;
  while (step == InitiatorText::Step::send && !input.empty()) {
    const auto bhs = input.exactly(48);
    const auto data = input.exactly(input.number(2) % 1024);
    step = text.receive(TextResponse::decode(bhs.data()), data);
  }
  if (step == InitiatorText::Step::complete) {
    require(text.answer().size() <= max_answer);
    (void)parse_send_targets_answer(text.answer(), 16, 4);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  if ((input.byte() & 1) != 0) at_target(input);
  else at_initiator(input);
  return 0;
}
