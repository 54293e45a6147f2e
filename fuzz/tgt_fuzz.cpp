// SPDX-License-Identifier: Apache-2.0
// Lines of tgtadm, tgt-setup-lun, tgt-admin and tgtimg against a daemon in memory: a line that is refused
// changes nothing and says so in one line, one that is not is one transaction; what was made survives a
// restart and a file; nobody sees a secret.
//
// Parser: src/cli/tgt/options.cpp src/cli/tgt/client_options.cpp
//
// Parser: src/cli/tgt/tgtadm.cpp src/cli/tgt/tgt_admin.cpp
#include <cstdint>
#include <sstream>
#include <string_view>

#include "cli/tgt/client_options.hpp"
#include "cli/tgt/options.hpp"
#include "cli/tgt/tgtadm.hpp"
#include "config/target/targets_conf.hpp"
#include "memory_daemon.hpp"

namespace {

using namespace perilune;
using namespace perilune::fuzz;
using Words = std::vector<std::string>;

constexpr std::string_view conf =
    "incomingdiscoveryuser d secretsecret2\n<target iqn.2026-11.io.perilune:two>\n  backing-store "
    "/srv/b.img\n  incominguser u "
    "secretsecret1\n</target>\n"
    "<target iqn.2026-11.io.perilune:one>\n  direct-store /srv/c.img\n  initiator-name "
    "iqn.2026-11.io.perilune:h\n</target>\n";

struct World : model::ConfWorld {
  Result<std::vector<model::ConfFile>> include(const std::string&) override {
    return std::vector<model::ConfFile>{};
  }
  bool is_block_device(const std::string& path) override { return path.starts_with("/dev"); }
};

std::string file_of(std::string_view text) {
  World world;
  const auto loaded = model::read_targets_conf({"f", std::string(text)}, world, {{"0.0.0.0", 3260}});
  return loaded ? model::write_saveconfig(loaded->configuration) : std::string();
}

class Typing {
 public:
  void line(const std::string& text) {
    std::istringstream stream(text);
    Words words;
    for (std::string word; stream >> word;) words.push_back(word);
    if (words.empty()) return;
    const std::string program = words.front();
    words.erase(words.begin());
    const auto before = daemon_.picture();
    targetd::FrontEndAnswer answer;
    if (program == "tgt-admin")
      answer = admin(words);
    else if (program == "tgt-setup-lun")
      answer = ask(cli::tgt::answer_tgt_setup_lun, words);
    else if (program == "tgtimg")
      return (void)cli::tgt::parse_image(words);
    else if (const auto parsed = cli::tgt::parse_options(words); parsed.options.has("help"))
      return shows_no_secret(cli::tgt::tgtadm_usage());  // the client's own
    else
      answer = ask(cli::tgt::answer_tgtadm, words);
    judge(answer, daemon_, before);
    for (const std::string_view option : {" --password ", " --password=", " -p "}) {
      const auto secret = given_secret(text, option);
      if (secret.empty()) continue;
      require(answer.err.find(secret) == std::string::npos && answer.out.find(secret) == std::string::npos);
      for (const auto& past : daemon_.history()) require(past.who.find(secret) == std::string::npos);
    }
  }
  void end() { daemon_.survives(); }

 private:
  using FrontEnd = targetd::FrontEndAnswer (&)(const targetd::FrontEndRequest&, targetd::Administration&);
  targetd::FrontEndAnswer ask(FrontEnd front_end, Words words,
                              std::optional<std::string> input = std::nullopt) {
    targetd::FrontEndRequest request;
    request.arguments = std::move(words);
    request.input = std::move(input);
    request.who = "root (pid 42)";
    return front_end(request, daemon_);
  }
  // As the client does it.
  targetd::FrontEndAnswer admin(const Words& words) {
    const auto options = cli::tgt::parse_admin(words);
    if (!options) {
      targetd::FrontEndAnswer refused;
      refused.err = options.error().message + "\n";
      refused.exit_code = 1;
      return refused;
    }
    if (options->action.empty() || options->action == "show" || options->help) return {};
    Words asked{options->action, options->selector};
    if (options->force) asked.push_back("force");
    if (options->pretend) asked.push_back("pretend");
    const bool reads = options->action == "execute" || options->action == "update";
    return ask(cli::tgt::answer_tgt_admin, asked, reads ? std::optional(file()) : std::nullopt);
  }
  static const std::string& file() {
    static const std::string text = file_of(conf);
    return text;
  }
  MemoryDaemon daemon_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view text(reinterpret_cast<const char*>(data), size);
  if (!is_typed(text)) return 0;
  Typing typing;
  for (int lines = 0; !text.empty() && lines < 64; ++lines) {
    const auto end = std::min(text.find('\n'), text.size());
    typing.line(std::string(text.substr(0, end)));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  typing.end();
  return 0;
}
