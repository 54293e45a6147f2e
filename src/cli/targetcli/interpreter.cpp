// SPDX-License-Identifier: Apache-2.0
#include "cli/targetcli/interpreter.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "cli/targetcli/command_line.hpp"
#include "cli/targetcli/commands.hpp"
#include "cli/targetcli/completion.hpp"
#include "config/target/json_text.hpp"
#include "control/frame.hpp"

namespace perilune::cli::targetcli {
namespace {

std::string syntax_of(const Command& command) {
  return std::string(command.name) + (command.parameters.empty() ? "" : " ") +
         std::string(command.parameters);
}

// Puts what was typed under the names of the parameters.
class Binding {
 public:
  Binding(const Command& command, CommandLine& line) : command_(command), line_(line) {}

  tl::expected<Arguments, Refusal> run() {
    for (auto step : {&Binding::positional, &Binding::by_name, &Binding::complete}) {
      if (auto bound = (this->*step)(); !bound) return tl::unexpected<Refusal>(bound.error());
    }
    return std::move(arguments_);
  }

 private:
  bool takes_settings() const { return command_.parameters.find('=') != std::string_view::npos; }
  auto wrong(const std::string& what) const { return refuse(what, "the syntax is: " + syntax_of(command_)); }

  Outcome positional() {
    std::size_t at = 0;
    for (const Parameter& parameter : parameters_) {
      if (parameter.many) {
        if (takes_settings()) break;
        while (at < line_.values.size()) arguments_.values.push_back(std::move(line_.values[at++]));
      } else if (at < line_.values.size()) {
        arguments_.by_name.emplace(parameter.name, std::move(line_.values[at++]));
      }
    }
    if (at == line_.values.size()) return {};
    if (takes_settings()) return wrong("'" + line_.values[at] + "' is not of the form parameter=value");
    return wrong("Unexpected parameter '" + line_.values[at] + "'");
  }

  Outcome by_name() {
    for (auto& [name, value] : line_.named) {
      if (takes_settings() && (arguments_.find("group") != nullptr || name != "group")) {
        arguments_.settings.emplace_back(std::move(name), std::move(value));
        continue;
      }
      if (!has_parameter(name)) return wrong("Unexpected keyword parameter '" + name + "'");
      if (!arguments_.by_name.emplace(name, std::move(value)).second) {
        return wrong("Parameter '" + name + "' is given twice");
      }
    }
    return {};
  }

  Outcome complete() {
    for (const Parameter& parameter : parameters_) {
      if (parameter.required && arguments_.find(parameter.name) == nullptr) {
        return wrong("Missing required parameter '" + std::string(parameter.name) + "'");
      }
    }
    return {};
  }

  bool has_parameter(std::string_view name) const {
    for (const Parameter& parameter : parameters_) {
      if (parameter.name == name && !parameter.many) return true;
    }
    return false;
  }

  const Command& command_;
  CommandLine& line_;
  std::vector<Parameter> parameters_ = parameters_of(command_);
  Arguments arguments_;
};

// The line for the journal: with its path, without secrets.
std::string describe_line(const std::string& path, const CommandLine& line) {
  std::string text = path + " " + line.command;
  for (const std::string& value : line.values) text += " " + value;
  for (const auto& [name, value] : line.named) {
    const bool secret = name.find("password") != std::string::npos;
    text += " " + name + "=" + (secret && !value.empty() ? std::string(masked_secret) : value);
  }
  constexpr std::size_t max_described = 512;
  if (text.size() > max_described) text.resize(max_described);
  return text;
}

Json lines_of(std::string_view text) {
  Json lines = Json::array();
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    lines.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return lines;
}

std::string as_json(const Call& call, const Answer& answer) {
  if (!answer.error.empty()) {
    Json error{{"message", answer.error}};
    if (!answer.hint.empty()) error["hint"] = answer.hint;
    return model::write_json(Json{{"error", error}}, 2) + "\n";
  }
  const Json shown = call.data.is_null() ? Json{{"messages", lines_of(call.out)}} : call.data;
  return model::write_json(shown, 2) + "\n";
}

}  // namespace

tl::expected<std::string, Refusal> resolve(const Session& session, std::string_view word) {
  if (!word.starts_with('@')) return absolute_path(session.path, word);
  const auto slash = std::min(word.find('/'), word.size());
  const std::string_view name = word.substr(1, slash - 1);
  const std::string* const path = session.bookmark(name);
  if (path == nullptr) {
    return refuse("No such bookmark " + std::string(name), "`bookmarks show` lists them");
  }
  return absolute_path(*path, slash < word.size() ? word.substr(slash + 1) : std::string_view("."));
}

tl::expected<Node, Refusal> node_at(const Call& call, std::string_view word) {
  auto path = resolve(call.session, word);
  if (!path) return tl::unexpected<Refusal>(std::move(path.error()));
  auto node = find_node(call.configuration(), *path);
  if (node) return std::move(*node);
  if (path->starts_with("/backstores/user:")) {
    return refuse(*path +
                  " is not served: Perilune has no such backstore; use block, fileio, ramdisk or pscsi");
  }
  return refuse("No such path " + *path);
}

Outcome Interpreter::carry_out(std::string_view line, Call& call) {
  auto parsed = parse_command_line(line);
  if (!parsed) return refuse(parsed.error());
  if (parsed->command.empty()) {
    if (!parsed->path) return {};
    parsed->command = "cd";
    parsed->values = {*parsed->path};
    parsed->path.reset();
  }
  auto node = node_at(call, parsed->path.value_or("."));
  if (!node) return tl::unexpected<Refusal>(std::move(node.error()));
  call.node = std::move(*node);
  const Command* const command = find_command(call.node, parsed->command);
  if (command == nullptr)
    return refuse("Command not found " + parsed->command, "`help` lists the commands of " + call.node.path);
  call.who = who_ + ": " + describe_line(call.node.path, *parsed);
  auto arguments = Binding(*command, *parsed).run();
  if (!arguments) return tl::unexpected<Refusal>(std::move(arguments.error()));
  call.arguments = std::move(*arguments);
  return command->run(call);
}

Answer Interpreter::run(std::string_view line, Session& session) {
  Call call(administration_, session, chance_, who_);
  Answer answer;
  const Outcome outcome = carry_out(line, call);
  // The node that one stood at may be gone: by this line, or by somebody else's.
  while (!find_node(administration_.configuration(), session.path)) {
    session.path = absolute_path(session.path, "..");
  }
  if (!outcome) {
    answer.error = outcome.error().message;
    answer.hint = outcome.error().hint;
    answer.exit_code = 1;
  }
  answer.out = session.json ? as_json(call, answer) : std::move(call.out);
  return answer;
}

namespace {

// What is left of a frame for the output, beside the session.
constexpr std::size_t max_output_bytes = control::max_answer_bytes - 1024 * 1024;

// As a JSON string in the frame.
std::size_t encoded_bytes(std::string_view text) {
  return text.size() + static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) {
           return c == '"' || c == '\\' || c == '\n' || c == '\t';
         }));
}

targetd::FrontEndAnswer answer_line(Interpreter& interpreter, const std::string& line, Session& session) {
  Answer answer = interpreter.run(line, session);
  targetd::FrontEndAnswer reply;
  if (encoded_bytes(answer.out) > max_output_bytes) {
    answer.out.clear();
    answer.error = "The answer is longer than 15 MiB";
    answer.hint = "ask for a part of it, as `ls PATH DEPTH` does";
    answer.exit_code = 1;
  }
  reply.out = answer.out;
  reply.exit_code = answer.exit_code;
  if (!answer.error.empty() && (!session.json || answer.out.empty())) {
    reply.err = answer.error + (answer.hint.empty() ? "" : " (" + answer.hint + ")") + "\n";
  }
  return reply;
}

std::string greeting(const targetd::Administration& administration) {
  return fmt::format("targetcli shell version {}\nPerilune: for help on commands, type 'help'.\n\n",
                     administration.version());
}

}  // namespace

targetd::FrontEndAnswer answer_front_end(const targetd::FrontEndRequest& request,
                                         targetd::Administration& administration) {
  const auto& arguments = request.arguments;
  Session session = session_from_json(request.session);
  Interpreter interpreter(administration, system_chance(), request.who);
  targetd::FrontEndAnswer reply;
  if (arguments.size() == 2 && arguments[0] == "line") {
    reply = answer_line(interpreter, arguments[1], session);
  } else if (arguments.size() == 2 && arguments[0] == "complete") {
    reply.out = to_json(complete(administration, session, arguments[1]))
                    .dump(-1, ' ', true, Json::error_handler_t::replace);
  } else if (arguments.size() == 1 && arguments[0] == "hello") {
    reply.out = greeting(administration);
  } else {
    reply.err =
        "targetcli: the daemon does not know this request; client and daemon are of different versions\n";
    reply.exit_code = 1;
  }
  reply.session = to_json(session);
  reply.session["prompt"] = prompt_of(session.path, session.number("prompt_length"));
  return reply;
}

}  // namespace perilune::cli::targetcli
