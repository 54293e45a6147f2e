// SPDX-License-Identifier: Apache-2.0
// The target's login, PDU after PDU, with every policy: it always ends, in bounded exchanges; nobody gets in
// whom the policy does not let in; what was negotiated lies in the ranges of RFC 7143 section 13.
#include "fuzz_input.hpp"
#include "iscsi/login/target_login.hpp"

namespace {

using namespace perilune;
using namespace perilune::iscsi;
using fuzz::Input;
using fuzz::require;
using Step = TargetLogin::Step;

TargetDecision decide(std::uint8_t policy) {
  TargetDecision decision;
  decision.allow_none = (policy & 1) != 0;
  if ((policy & 2) != 0) decision.accounts.push_back({"user", crypto::Secret("secret-secret-1")});
  if ((policy & 4) != 0)
    decision.target_account = ChapCredentials{"target", crypto::Secret("other-secret-22")};
  if ((policy & 8) != 0) decision.status = LoginStatus::not_found;
  if ((policy & 16) != 0) decision.params.header_digest = {Digest::crc32c};
  return decision;
}

void check(const TargetLoginResult& result, std::uint8_t policy) {
  require(result.tsih != 0 && (policy & 8) == 0);
  require((policy & 1) != 0 || result.user == "user");       // without allow_none only CHAP gets in
  require(result.session.first_burst_length <= result.session.max_burst_length);
  require(result.session.first_burst_length >= 512 && result.session.max_burst_length <= 16777215);
  require(result.connection.max_xmit_data_segment_length >= 512);
  require(result.session.error_recovery_level == 0 && result.session.max_connections >= 1);
  require(!result.initiator_name.empty() && result.initiator_name.size() <= limits::max_iscsi_name_bytes);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  const std::uint8_t policy = input.byte();
  fuzz::FixedRandom random;
  TargetLogin login({}, RandomFill::to<&fuzz::FixedRandom::fill>(random));
  for (unsigned exchanges = 0; !input.empty(); ++exchanges) {
    require(exchanges <= 4 * limits::max_login_exchanges);
    const std::uint8_t form = input.byte();
    auto bhs = input.exactly(48);
    if ((form & 1) == 0) {   // mostly a Login Request, so that the fuzzer need not find its opcode
      bhs[0] = 0x43;
      bhs[2] = bhs[3] = 0;
    }
    auto text = input.exactly(input.number(2) % (limits::max_data_segment_before_login_bytes + 1));
    for (auto& byte : text) byte = byte == '\n' ? std::uint8_t{0} : byte;
    store_be24(&bhs[5], static_cast<std::uint32_t>(text.size()));
    Step step = login.receive(bhs.data(), text);
    for (int question = 0; step == Step::ask_target || step == Step::ask_session; ++question) {
      require(question < 3);
      if (step == Step::ask_target) {
        require(login.target_query().initiator_name.size() <= limits::max_iscsi_name_bytes);
        step = login.answer_target(decide(policy));
      } else {
        require((policy & 1) != 0 || login.session_query().user == "user");
        step = login.answer_session({.tsih = 1});
      }
    }
    if (step != Step::close)
      require(login.response().text.size() <= limits::max_data_segment_before_login_bytes);
    if (step == Step::complete) check(login.result(), policy);
    if (step == Step::respond_and_close || step == Step::close) {
      for (const char c : login.failure().reason) require(c >= ' ' && c != '\x7f');
    }
    if (step != Step::respond) break;
  }
  return 0;
}
