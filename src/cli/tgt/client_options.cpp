// SPDX-License-Identifier: Apache-2.0
#include "cli/tgt/client_options.hpp"

#include <algorithm>
#include <iterator>

namespace perilune::cli::tgt {
namespace {

// The value of an option: behind '=', or the next word.
bool take_value(const std::vector<std::string>& words, std::size_t& at, std::string_view rest,
                std::string& value) {
  if (!rest.empty()) {
    value = rest.substr(rest.front() == '=' ? 1 : 0);
    return true;
  }
  if (at + 1 == words.size()) return false;
  value = words[++at];
  return true;
}

}  // namespace

Result<AdminOptions> parse_admin(const std::vector<std::string>& words) {
  AdminOptions options;
  std::string ignored;
  for (std::size_t at = 0; at < words.size(); ++at) {
    const std::string_view word = words[at];
    const auto is = [&](std::string_view name) {
      return word == name || word.starts_with(std::string(name) + "=");
    };
    const auto value = [&](std::string_view name, std::string& out) {
      return take_value(words, at, word.substr(std::min(name.size(), word.size())), out);
    };
    bool whole = true;
    if (word == "-e" || word == "--execute")
      options.action = "execute";
    else if (word == "-s" || word == "--show")
      options.action = "show";
    else if (word == "--dump")
      options.action = "dump";
    else if (word == "-f" || word == "--force")
      options.force = true;
    else if (word == "-p" || word == "--pretend")
      options.pretend = true;
    else if (word == "-h" || word == "--help")
      options.help = true;
    else if (word == "-v" || word == "--verbose" || word == "--ignore-errors")
      continue;
    else if (is("--conf"))
      whole = value("--conf", options.conf);
    else if (word.starts_with("-c"))
      whole = value("-c", options.conf);
    else if (is("--control-port"))
      whole = value("--control-port", ignored);
    else if (word.starts_with("-C"))
      whole = value("-C", ignored);
    else {
      bool known = false;
      for (const std::string_view name : {"--delete", "--offline", "--ready", "--update"}) {
        if (!is(name)) continue;
        known = true;
        options.action = name.substr(2);
        whole = value(name, options.selector);
      }
      if (!known)
        return fail(Errc::invalid_argument,
                    "there is no option " + words[at] + "; `tgt-admin --help` lists them");
    }
    if (!whole) return fail(Errc::invalid_argument, "option " + words[at] + " requires a value");
  }
  return options;
}

Result<ImageOptions> parse_image(const std::vector<std::string>& words) {
  struct Name {
    std::string_view letter, name;
  };
  constexpr Name names[] = {{"-o", "--op"},   {"-Y", "--device-type"}, {"-b", "--barcode"},
                            {"-s", "--size"}, {"-t", "--type"},        {"-f", "--file"}};
  ImageOptions options;
  for (std::size_t at = 0; at < words.size(); ++at) {
    const std::string_view word = words[at];
    if (word == "--thin-provisioning" || word == "-T") {
      options.values["thin"] = "1";
      continue;
    }
    const auto row = std::find_if(std::begin(names), std::end(names), [&](const Name& name) {
      return word == name.letter || word == name.name || word.starts_with(std::string(name.name) + "=");
    });
    if (row == std::end(names))
      return fail(Errc::invalid_argument, "unrecognized option '" + words[at] + "'");
    const std::string_view rest = word == row->letter ? std::string_view{} : word.substr(row->name.size());
    if (!take_value(words, at, rest, options.values[std::string(row->name.substr(2))])) {
      return fail(Errc::invalid_argument, "option '" + words[at] + "' requires an argument");
    }
  }
  return options;
}

}  // namespace perilune::cli::tgt
