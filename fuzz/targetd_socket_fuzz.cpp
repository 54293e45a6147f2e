// SPDX-License-Identifier: Apache-2.0
// What clients send to the target daemon's socket, against a daemon in memory: a request that is refused
// changes nothing and says so in one line, one that is not is one transaction; what was made survives a
// restart; events hold no secret.
//
// Parser: src/control/frame.cpp src/control/targetd/protocol.cpp
//
// Parser: src/control/targetd/requests.cpp
#include <cstdint>
#include <string_view>

#include "base/bytes.hpp"
#include "cli/targetcli/interpreter.hpp"
#include "cli/tgt/tgtadm.hpp"
#include "control/frame.hpp"
#include "control/targetd/protocol.hpp"
#include "control/targetd/requests.hpp"
#include "memory_daemon.hpp"

namespace {

using namespace perilune;
using namespace perilune::fuzz;

const targetd::FrontEnds& front_ends() {
  static const targetd::FrontEnds all{{"targetcli", cli::targetcli::answer_front_end},
                                      {"tgtadm", cli::tgt::answer_tgtadm},
                                      {"tgt-admin", cli::tgt::answer_tgt_admin},
                                      {"tgt-setup-lun", cli::tgt::answer_tgt_setup_lun}};
  return all;
}

void answer(const control::Request& request, MemoryDaemon& daemon) {
  const auto before = daemon.picture();
  const auto result = targetd::carry_out(request, "root (pid 42)", daemon, front_ends());
  if (!result) {
    daemon.is_as_before(before);
    require(!result.error().message.empty() && result.error().message.find('\n') == std::string::npos);
    require(targetd::error_number(result.error().code) >= 100);
    shows_no_secret(result.error().message);
    return;
  }
  require(daemon.sequence() <= before.sequence + 1);
  if (request.op == "command") {
    targetd::FrontEndAnswer said;
    said.out = result->at("out").get<std::string>();
    said.err = result->at("err").get<std::string>();
    said.exit_code = result->at("code").get<int>();
    shows_no_secret(said.out);
    shows_no_secret(said.err);
    if (said.exit_code != 0) daemon.is_as_before(before);
    require(std::count(said.err.begin(), said.err.end(), '\n') <= 1);
  } else if (request.op != "configuration") {
    shows_no_secret(result->dump(-1, ' ', false, targetd::Json::error_handler_t::replace));
  }
  // What is said can be sent, and is read as what it is.
  control::FrameReader reader(control::max_answer_bytes);
  reader.append(control::encode_frame({{"result", *result}}));
  require(reader.next().has_value());
}

// One connection, up to what ends it.
void connection(Bytes bytes, std::size_t piece, MemoryDaemon& daemon) {
  control::FrameReader reader(control::max_request_bytes);
  while (!bytes.empty()) {
    const Bytes part = bytes.first(std::min(piece, bytes.size()));
    bytes = bytes.subspan(part.size());
    reader.append(as_text(part));
    for (;;) {
      auto message = reader.next();
      if (!message) return;
      if (!*message) break;
      const auto request = control::request_of(std::move(**message));
      if (!request) return;
      answer(*request, daemon);
    }
  }
  (void)reader.empty();
}

// Each line in a frame.
std::vector<std::uint8_t> framed(Bytes text) {
  std::vector<std::uint8_t> frames;
  while (!text.empty()) {
    const auto end = std::find(text.begin(), text.end(), std::uint8_t{'\n'});
    const auto length = static_cast<std::size_t>(end - text.begin());
    frames.resize(frames.size() + 4);
    store_be32(frames.data() + frames.size() - 4, static_cast<std::uint32_t>(length));
    frames.insert(frames.end(), text.begin(), end);
    text = text.subspan(std::min(length + 1, text.size()));
  }
  return frames;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input(data, size);
  if (as_text(input.rest()).find(planted_secret) != std::string_view::npos) return 0;
  MemoryDaemon daemon;
  const std::uint8_t how = input.byte();
  const std::size_t piece = (how & 2) != 0 ? 7 : control::max_request_bytes;
  if ((how & 1) != 0)
    connection(framed(input.rest()), piece, daemon);
  else
    connection(input.rest(), piece, daemon);
  for (const auto& past : daemon.history()) {
    shows_no_secret(
        targetd::transaction_event(past).dump(-1, ' ', false, targetd::Json::error_handler_t::replace));
  }
  (void)targetd::session_event("login", std::string(as_text(input.rest())));
  daemon.survives();
  return 0;
}
