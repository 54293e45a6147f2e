// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "sim/machines.hpp"
#include "sim/pdu_client.hpp"

namespace perilune::sim {

// An initiator that sends one command after the other.
class Client final : public PduClient::Observer {
 public:
  Client(World& world, const char* name, std::uint8_t isid, const char* user = nullptr,
         const char* secret = nullptr, const std::string& target = target_name,
         const char* portal = "10.0.0.1:3260")
      : world_(world),
        host_(world.add_host(name + std::to_string(isid), {"10.0.2." + std::to_string(isid)})),
        client_(host_.add_loop(), *runtime::Endpoint::parse(portal, 0),
                config(name, isid, user, secret, target), *this) {
    world_.run_until([this] { return client_.logged_in() || over_; }, std::chrono::seconds(60));
  }
  ~Client() override { host_.crash(Crash::process); }
  [[nodiscard]] bool logged_in() const { return client_.logged_in(); }
  [[nodiscard]] bool over() const { return over_; }
  [[nodiscard]] std::uint16_t status() const { return status_; }  // of the login: class and detail

  // The status, and the sense as key, ASC, ASCQ.
  std::uint32_t run(std::vector<std::uint8_t> cdb, std::uint8_t lun, std::uint32_t in = 0,
                    std::vector<std::uint8_t> out = {}) {
    begin(std::move(cdb), lun, in, out, out);
    world_.run_until([this] { return ended_ || over_; }, std::chrono::seconds(60));
    return over_ ? ~0u : outcome_;
  }
  // A write whose data never comes.
  void hang(std::vector<std::uint8_t> cdb, std::uint8_t lun) {
    begin(std::move(cdb), lun, 0, std::vector<std::uint8_t>(512), {});
  }
  void drop() { client_.drop(); }

  void begin(std::vector<std::uint8_t> cdb, std::uint8_t lun, std::uint32_t in,
             const std::vector<std::uint8_t>& out, const std::vector<std::uint8_t>& sent) {
    iscsi::ScsiCommand command;
    command.read = in != 0;
    command.write = !out.empty();
    command.lun = std::uint64_t{lun} << 48;
    command.initiator_task_tag = ++tag_;
    command.expected_data_transfer_length = in != 0 ? in : static_cast<std::uint32_t>(out.size());
    command.cmd_sn = cmd_sn_;
    command.exp_stat_sn = exp_stat_sn_;
    ++cmd_sn_;
    cdb.resize(16);
    std::copy(cdb.begin(), cdb.end(), command.cdb.begin());
    data.clear();
    ended_ = false;
    client_.send(command, sent);
  }

  void on_login(PduClient&) override {
    exp_stat_sn_ = client_.login().exp_stat_sn;
    cmd_sn_ = client_.login().next_cmd_sn;
  }
  void on_pdu(PduClient&, const std::uint8_t* bhs, Bytes payload) override {
    const bool data_in = iscsi::opcode(bhs) == iscsi::Opcode::data_in;
    if (data_in) data.insert(data.end(), payload.begin(), payload.end());
    if (data_in ? (bhs[1] & 1) == 0 : iscsi::opcode(bhs) != iscsi::Opcode::scsi_response)
      return;  // a ping is left unanswered: no test lasts so long
    ++exp_stat_sn_;
    outcome_ = bhs[3];
    if (!data_in && payload.size() > 2 + 13) {
      outcome_ =
          static_cast<std::uint32_t>((payload[2 + 2] & 0xf) << 16 | payload[2 + 12] << 8 | payload[2 + 13]);
    }
    ended_ = true;
  }
  void on_end(PduClient& client) override {
    over_ = true;
    if (exp_stat_sn_ == StatSn())
      status_ =
          static_cast<std::uint16_t>(client.login_failure().status.value_or(iscsi::LoginStatus::success));
  }

  std::vector<std::uint8_t> data;

 private:
  static iscsi::InitiatorLoginConfig config(const char* name, std::uint8_t isid, const char* user,
                                            const char* secret, const std::string& target) {
    iscsi::InitiatorLoginConfig login;
    login.initiator_name = name;
    login.target_name = target;
    login.isid = {0x80, 0, 0, 0, 0, isid};
    if (user != nullptr) login.account = iscsi::ChapCredentials{user, crypto::Secret(secret)};
    return login;
  }
  World& world_;
  SimHost& host_;
  PduClient client_;
  StatSn exp_stat_sn_;
  CmdSn cmd_sn_;
  std::uint32_t tag_ = 0;
  std::uint32_t outcome_ = 0;
  std::uint16_t status_ = 0;
  bool ended_ = false;
  bool over_ = false;
};

inline const std::vector<std::uint8_t> test_unit_ready(6), report_luns{0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0};
inline const std::vector<std::uint8_t> read_10{0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0},
    write_10{0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0};

}  // namespace perilune::sim
