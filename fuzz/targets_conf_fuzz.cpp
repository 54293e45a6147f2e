// SPDX-License-Identifier: Apache-2.0
// targets.conf: no text crashes its reader, an error is one line that names the place, and what was read is
// written as saveconfig.json and read back the same.
//
// Parser: src/config/target/targets_conf.cpp src/config/target/conf_syntax.cpp
#include <cstdint>
#include <string_view>

#include "config/target/saveconfig.hpp"
#include "config/target/targets_conf.hpp"
#include "fuzz_input.hpp"

namespace {

using namespace perilune;
using namespace perilune::config::target;

// Files that include themselves and each other.
struct World : ConfWorld {
  std::string_view text;
  Result<std::vector<ConfFile>> include(const std::string& pattern) override {
    if (pattern.size() > 4) return fail(Errc::not_found, "no such file");
    return std::vector<ConfFile>(pattern.size() % 3,
                                 ConfFile{pattern, std::string(text.substr(text.size() / 2))});
  }
  bool is_block_device(const std::string& path) override { return path.starts_with("/dev"); }
};

void targets_conf(std::string_view text) {
  World world;
  world.text = text;
  const auto loaded = read_targets_conf({"f", std::string(text)}, world, {{"0.0.0.0", 3260}});
  if (!loaded) {
    const std::string& why = loaded.error().message;
    return fuzz::require(!why.empty() && why.find('\n') == std::string::npos);
  }
  const auto again = read_saveconfig(write_saveconfig(loaded->configuration));
  fuzz::require(again.has_value() && again->configuration == loaded->configuration);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  targets_conf({reinterpret_cast<const char*>(data), size});
  return 0;
}
