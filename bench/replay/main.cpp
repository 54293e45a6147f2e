// SPDX-License-Identifier: Apache-2.0
// replay: a fixed sequence of PDUs through the target without its runtime: decoder, session, SCSI device over
// memory, transmit queue. tools/instructions runs it under callgrind, which counts what happens inside
// measured_*() and nothing else; without callgrind it only checks that every command ends well.
//
//   replay CASE OPERATIONS     4k-read | 4k-write | 64k-write, each also with "-digests"
//
// 4k: batches of 32 commands, a write with its data in the same PDU (ImmediateData). 64k-write: batches of 8,
// every byte asked for by R2T (InitialR2T=Yes, ImmediateData=No). The commands before the measured ones warm
// up.
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "base/event_log.hpp"
#include "block/open_backstore.hpp"
#include "iscsi/pdu/decoder.hpp"
#include "iscsi/pdu/pdus.hpp"
#include "iscsi/pdu/tx_queue.hpp"
#include "replay/still_loop.hpp"
#include "target/server.hpp"

// What callgrind counts (--toggle-collect): calls into the target, as a runtime makes them. By name, so no
// C++.
extern "C" {
[[gnu::noinline]] void measured_receive(perilune::runtime::StreamHandler& handler, int result,
                                        const perilune::Bytes& data) {
  handler.on_received(result, data);
}
[[gnu::noinline]] void measured_sent(perilune::runtime::StreamHandler& handler, int result) {
  handler.on_sent(result);
}
[[gnu::noinline]] void measured_turn(perilune::replay::StillLoop& loop) { loop.turn(); }
// Where the counters are put to zero (--zero-before).
[[gnu::noinline]] void measured_from_here() { asm volatile(""); }
}

namespace perilune::replay {
namespace {

using namespace iscsi;

[[noreturn]] void die(const std::string& why) {
  std::fprintf(stderr, "replay: %s\n", why.c_str());
  std::exit(1);
}

class Complaints final : public EventLog {
 public:
  void event(Level level, std::string_view name, std::string_view fields) override {
    if (level >= Level::warning) die(std::string(name) + " " + std::string(fields));
  }
};

struct Case {
  bool write = false;
  bool by_r2t = false;
  bool digests = false;
  std::uint32_t bytes = 4096;
  std::uint32_t batch = 32;
};

Case parse_case(std::string_view name) {
  Case out;
  constexpr std::string_view suffix = "-digests";
  if (name.ends_with(suffix)) {
    out.digests = true;
    name.remove_suffix(suffix.size());
  }
  if (name == "4k-read") return out;
  out.write = true;
  if (name == "4k-write") return out;
  if (name != "64k-write") die("unknown case");
  out.by_r2t = true;
  out.bytes = 65536;
  out.batch = 8;
  return out;
}

std::unique_ptr<target::Server> make_server(StillLoop& loop, EventLog& log) {
  target::ServerConfig config;
  config.portals.push_back(*runtime::Endpoint::parse("127.0.0.1:3260", 3260));
  config.params.first_burst_length = 262144;
  config.params.max_burst_length = 1048576;
  target::TargetSpec spec;
  spec.name = "iqn.2026-11.io.perilune:replay";
  target::UnitSpec unit;
  auto store = block::open_backstore("ram:16M", {});
  if (!store) die(store.error().message);
  unit.backstore = std::move(*store);
  unit.config.identity = scsi::UnitIdentity::from_id(1);
  spec.units.push_back(std::move(unit));
  config.targets.push_back(std::move(spec));
  auto server = target::Server::create(loop, std::move(config), log);
  if (!server) die(server.error().message);
  if (Status started = (*server)->start(); !started) die(started.error().message);
  return std::move(*server);
}

// The initiator's end, as little of one as there can be.
class Initiator {
 public:
  Initiator(StillLoop& loop, const Case& what)
      : loop_(loop),
        case_(what),
        stream_(loop.accept()),
        queue_(chunks_),
        decoder_(1 << 20),
        payload_(what.bytes, 0x5a) {
    log_in();
    test_unit_ready();  // takes the unit attention of a new nexus
    test_unit_ready();
  }

  void batch() {
    const std::uint32_t before = good_;
    for (std::uint32_t left = case_.batch; left > 0;) {
      for (; left > 0 && !cmd_sn_.after(max_cmd_sn_); --left) command();  // at first the window is small
      exchange();
    }
    if (good_ - before != case_.batch) {
      die(std::to_string(case_.batch - (good_ - before)) + " commands did not end well, status " +
          std::to_string(status_));
    }
  }

 private:
  void log_in() {
    std::string keys;
    const auto add = [&keys](std::string_view pair) { keys.append(pair).push_back('\0'); };
    add("InitiatorName=iqn.2026-11.io.perilune:replayer");
    add("TargetName=iqn.2026-11.io.perilune:replay");
    add("SessionType=Normal");
    add(case_.digests ? "HeaderDigest=CRC32C" : "HeaderDigest=None");
    add(case_.digests ? "DataDigest=CRC32C" : "DataDigest=None");
    add(case_.by_r2t ? "InitialR2T=Yes" : "InitialR2T=No");
    add(case_.by_r2t ? "ImmediateData=No" : "ImmediateData=Yes");
    add("MaxRecvDataSegmentLength=262144");
    add("MaxBurstLength=262144");
    add("FirstBurstLength=65536");
    LoginRequest login;
    login.transit = true;
    login.csg = LoginStage::operational_negotiation;
    login.nsg = LoginStage::full_feature;
    login.isid = {0x80, 1, 2, 3, 4, 5};
    login.cmd_sn = cmd_sn_;
    push(login, as_bytes(keys));
    exchange();
    if (!logged_in_) die("the login failed");
    queue_.set_digests(case_.digests, case_.digests);
    decoder_.set_digests(case_.digests, case_.digests);
  }

  void test_unit_ready() {
    ScsiCommand pdu;
    number(pdu);
    push(pdu);
    exchange();
  }

  void command() {
    ScsiCommand pdu;
    number(pdu);
    pdu.read = !case_.write;
    pdu.write = case_.write;
    pdu.expected_data_transfer_length = case_.bytes;
    const std::uint32_t blocks = case_.bytes / 512;
    position_ = (position_ + 37 * blocks) % (16 * 2048);
    pdu.cdb[0] = case_.write ? 0x2a : 0x28;  // WRITE (10), READ (10)
    store_be32(pdu.cdb.data() + 2, position_ / blocks * blocks);
    store_be16(pdu.cdb.data() + 7, static_cast<std::uint16_t>(blocks));
    if (case_.write && !case_.by_r2t)
      push(pdu, payload_);
    else
      push(pdu);
  }

  void number(ScsiCommand& pdu) {
    pdu.initiator_task_tag = ++itt_;
    pdu.cmd_sn = cmd_sn_;
    ++cmd_sn_;
    pdu.exp_stat_sn = exp_stat_sn_;
  }

  void answer(const ReadyToTransfer& r2t) {
    DataOut pdu;
    pdu.final = true;
    pdu.initiator_task_tag = r2t.initiator_task_tag;
    pdu.target_transfer_tag = r2t.target_transfer_tag;
    pdu.exp_stat_sn = exp_stat_sn_;
    pdu.buffer_offset = r2t.buffer_offset;
    push(pdu, Bytes(payload_).subspan(r2t.buffer_offset, r2t.desired_data_transfer_length));
  }

  template <class Pdu>
  void push(const Pdu& pdu, Bytes data = {}) {
    std::uint8_t bhs[bhs_bytes];
    pdu.encode(bhs);
    queue_.push(bhs, data);
  }

  // Delivers what is queued and takes what comes back, until both ends are silent.
  void exchange() {
    while (!queue_.empty()) {
      std::vector<iovec> iov(256);
      iov.resize(queue_.gather(iov));
      std::vector<std::uint8_t> wire = copy(iov);
      queue_.sent(wire.size());
      deliver(wire);
    }
  }

  static std::vector<std::uint8_t> copy(std::span<const iovec> iov) {
    std::vector<std::uint8_t> out;
    for (const iovec& part : iov) {
      const auto* from = static_cast<const std::uint8_t*>(part.iov_base);
      out.insert(out.end(), from, from + part.iov_len);
    }
    return out;
  }

  void deliver(Bytes wire) {
    while (!wire.empty()) {
      if (stream_.closed() || !stream_.receiving()) die("the target does not read");
      const std::size_t bytes =
          stream_.room().empty() ? std::min<std::size_t>(wire.size(), 256 * 1024) : fill_room(wire);
      const Bytes data = stream_.room().empty() ? wire.first(bytes) : Bytes{};
      stream_.received();
      measured_receive(stream_.handler(), static_cast<int>(bytes), data);
      wire = wire.subspan(bytes);
      measured_turn(loop_);
      take_answers();
    }
  }

  std::size_t fill_room(Bytes wire) {
    std::size_t done = 0;
    for (const iovec& part : stream_.room()) {
      const std::size_t bytes = std::min(part.iov_len, wire.size() - done);
      std::memcpy(part.iov_base, wire.data() + done, bytes);
      done += bytes;
    }
    return done;
  }

  void take_answers() {
    while (!stream_.sending().empty()) {
      const std::vector<std::uint8_t> wire = copy(stream_.sending());
      stream_.sent();
      measured_sent(stream_.handler(), static_cast<int>(wire.size()));
      measured_turn(loop_);
      read(wire);
    }
  }

  void read(Bytes input) {
    for (;;) {
      switch (decoder_.next(input)) {
        case PduDecoder::Event::need_more:
          return;
        case PduDecoder::Event::header:
          decoder_.collect();
          break;
        case PduDecoder::Event::pdu:
          handle(decoder_.bhs());
          break;
        case PduDecoder::Event::error:
          die("the target sent something that is no PDU");
      }
    }
  }

  void handle(const std::uint8_t* bhs) {
    max_cmd_sn_ = CmdSn(load_be32(bhs + 32));  // the same place in every PDU of a target
    switch (opcode(bhs)) {
      case Opcode::login_response:
        logged_in_ = bhs[36] == 0 && final_bit(bhs);
        exp_stat_sn_ = StatSn(load_be32(bhs + 24) + 1);
        break;
      case Opcode::ready_to_transfer:
        answer(ReadyToTransfer::decode(bhs));
        break;
      case Opcode::data_in:
        if (!decoder_.data_digest_ok()) die("a data digest is wrong");
        if (const DataIn pdu = DataIn::decode(bhs); pdu.has_status) ended(pdu.status, pdu.stat_sn);
        break;
      case Opcode::scsi_response: {
        const ScsiResponse pdu = ScsiResponse::decode(bhs);
        ended(pdu.status, pdu.stat_sn);
        break;
      }
      default:
        die("an unexpected PDU");
    }
  }

  void ended(std::uint8_t status, StatSn stat_sn) {
    if (status == 0)
      ++good_;
    else
      status_ = status;
    exp_stat_sn_ = StatSn(stat_sn.value() + 1);
  }

  StillLoop& loop_;
  Case case_;
  StillStream& stream_;
  TxChunkPool chunks_;
  TxQueue queue_;
  PduDecoder decoder_;
  std::vector<std::uint8_t> payload_;
  CmdSn cmd_sn_{1};
  CmdSn max_cmd_sn_{1};
  StatSn exp_stat_sn_{0};
  Itt itt_ = 0;
  std::uint32_t position_ = 0;
  std::uint32_t good_ = 0;
  std::uint8_t status_ = 0;  // the last that was not GOOD
  bool logged_in_ = false;
};

int run(const Case& what, std::uint32_t operations) {
  static Complaints log;
  static StillLoop loop;
  static const std::unique_ptr<target::Server> server = make_server(loop, log);
  Initiator initiator(loop, what);
  for (std::uint32_t done = 0; done < 1024; done += what.batch) initiator.batch();
  measured_from_here();
  for (std::uint32_t done = 0; done < operations; done += what.batch) initiator.batch();
  // The count is read here. Taking the server apart would need a peer that says goodbye.
  std::printf("%u\n", (operations + what.batch - 1) / what.batch * what.batch);
  std::fflush(stdout);
  std::_Exit(0);
}

}  // namespace
}  // namespace perilune::replay

int main(int argc, char** argv) {
  if (argc != 3 || std::atoi(argv[2]) <= 0) {
    std::fprintf(stderr, "usage: replay CASE OPERATIONS\n");
    return 2;
  }
  return perilune::replay::run(perilune::replay::parse_case(argv[1]),
                               static_cast<std::uint32_t>(std::atoi(argv[2])));
}
