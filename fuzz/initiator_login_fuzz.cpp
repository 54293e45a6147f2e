// SPDX-License-Identifier: Apache-2.0
// The initiator's login against a hostile target: it always ends, in bounded exchanges; a target that has to
// prove itself is not believed without; what was negotiated lies in its ranges.
#include "fuzz_input.hpp"
#include "iscsi/login/initiator_login.hpp"

namespace {

using namespace perilune;
using namespace perilune::iscsi;
using fuzz::Input;
using fuzz::require;
using Step = InitiatorLogin::Step;

InitiatorLoginConfig configuration(std::uint8_t policy) {
  InitiatorLoginConfig config;
  config.session_type = (policy & 1) != 0 ? SessionType::discovery : SessionType::normal;
  config.initiator_name = "iqn.2026-11.io.perilune:fuzz";
  config.target_name = "iqn.2026-11.io.perilune:target";
  if ((policy & 6) != 0) config.account = ChapCredentials{"user", crypto::Secret("secret-secret-1")};
  if ((policy & 4) != 0) config.target_account = ChapCredentials{"target", crypto::Secret("other-secret-22")};
  config.require_chap = (policy & 6) != 0 && (policy & 8) != 0;
  return config;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  const std::uint8_t policy = input.byte();
  fuzz::FixedRandom random;
  InitiatorLogin login(configuration(policy), RandomFill::to<&fuzz::FixedRandom::fill>(random));
  Step step = login.start();
  require(step == Step::send);
  std::uint32_t stat_sn = 0;
  for (unsigned exchanges = 0; step == Step::send && !input.empty(); ++exchanges) {
    require(exchanges <= 4 * limits::max_login_exchanges);
    const std::uint8_t form = input.byte();
    auto bhs = input.exactly(48);
    if ((form & 1) == 0) {   // mostly a response that fits the request, so that the text is what matters
      const auto& request = login.request().bhs;
      bhs[0] = 0x23;
      bhs[2] = bhs[3] = 0;
      std::copy_n(&request[8], 6, &bhs[8]);
      std::copy_n(&request[16], 4, &bhs[16]);
      store_be32(&bhs[24], stat_sn++);
      store_be32(&bhs[28], load_be32(&request[24]));
      store_be32(&bhs[32], load_be32(&request[24]) + 32);
      if ((form & 2) == 0) bhs[36] = bhs[37] = 0;
    }
    auto text = input.exactly(input.number(2) % (limits::max_data_segment_before_login_bytes + 1));
    for (auto& byte : text) byte = byte == '\n' ? std::uint8_t{0} : byte;
    store_be24(&bhs[5], static_cast<std::uint32_t>(text.size()));
    step = login.receive(bhs.data(), text);
  }
  if (step == Step::complete) {
    const auto& result = login.result();
    require((policy & 4) == 0 || result.mutual_chap);
    require((policy & 8) == 0 || (policy & 6) == 0 || result.chap);
    require(result.session.first_burst_length <= result.session.max_burst_length);
    require(result.connection.max_xmit_data_segment_length >= 512);
  }
  if (step == Step::failed) require(!login.failure().error.message.empty());
  return 0;
}
