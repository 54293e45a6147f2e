// SPDX-License-Identifier: Apache-2.0
#include "cli/front_end_client.hpp"

#include "control/client.hpp"

namespace perilune::cli {
namespace {

using control::targetd::FrontEndAnswer;
using control::targetd::Json;

tl::unexpected<Error> no_daemon(const std::string& socket_path, const Error& why) {
  if (why.code == Errc::permission) {
    return fail(Errc::permission, "may not talk to the target daemon at " + socket_path + "; try it as root");
  }
  return fail(Errc::connection, "the target daemon does not answer at " + socket_path + " (" + why.message +
                                    "); start it: systemctl start perilune-targetd, or perilune targetd");
}

}  // namespace

Result<FrontEndAnswer> ask_target_daemon(const std::string& socket_path, const FrontEndCall& call) {
  auto client = control::ControlClient::connect(socket_path);
  if (!client) return no_daemon(socket_path, client.error());
  Json args{{"front_end", call.front_end}, {"arguments", call.arguments}, {"session", call.session}};
  if (call.input) args["input"] = *call.input;
  if (const auto sent = client->send("command", args); !sent) return no_daemon(socket_path, sent.error());
  auto reply = client->wait();
  if (!reply) return no_daemon(socket_path, reply.error());
  if (reply->code != 0) return fail(Errc::protocol, reply->message);
  FrontEndAnswer answer;
  answer.out = control::text_of(reply->result, "out");
  answer.err = control::text_of(reply->result, "err");
  answer.exit_code = static_cast<int>(control::number_of(reply->result, "code"));
  if (const auto session = reply->result.find("session"); session != reply->result.end())
    answer.session = *session;
  return answer;
}

}  // namespace perilune::cli
