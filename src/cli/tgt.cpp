// SPDX-License-Identifier: Apache-2.0
// tgtadm, tgt-admin, tgt-setup-lun and tgtimg: the clients.
#include <fcntl.h>
#include <fmt/format.h>
#include <glob.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>

#include "cli/front_end_client.hpp"
#include "cli/tgt/client_options.hpp"
#include "cli/tgt/options.hpp"
#include "cli/verbs.hpp"
#include "config/target/saveconfig.hpp"
#include "config/target/targets_conf.hpp"
#include "control/files.hpp"
#include "control/server.hpp"

namespace perilune::cli {
namespace {

namespace model = config::target;

constexpr int no_daemon_code = 107;  // ENOTCONN, as tgtadm

// Asks the daemon, prints, gives the exit code.
int ask(std::string_view name, FrontEndCall call) {
  const auto answer = ask_target_daemon(control::ControlServer::default_path("targetd"), call);
  if (!answer) {
    fmt::print(stderr, "{}: {}\n", name, answer.error().message);
    return no_daemon_code;
  }
  fmt::print("{}", answer->out);
  std::fflush(stdout);
  fmt::print(stderr, "{}", answer->err);
  return answer->exit_code;
}

std::vector<std::string> words_of(int argc, char** argv) { return {argv + 1, argv + argc}; }

std::string host_name() {
  char name[256] = {};
  if (::gethostname(name, sizeof name - 1) != 0) return "localhost";
  return name;
}

// ---- targets.conf

Result<std::string> read_whole(const std::string& path) {
  const auto slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
  const control::Fd fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd.valid()) return fail_errno(errno, folder);
  auto text = control::read_file(fd.get(), path.substr(slash + 1), model::max_targets_conf_bytes);
  if (!text) return fail(text.error().code, path + ": " + text.error().message);
  return text;
}

class HostWorld final : public model::ConfWorld {
 public:
  Result<std::vector<model::ConfFile>> include(const std::string& pattern) override {
    glob_t found{};
    const int error = ::glob(pattern.c_str(), 0, nullptr, &found);
    std::vector<std::string> paths;
    if (error == 0) paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
    ::globfree(&found);
    if (error != 0 && error != GLOB_NOMATCH) return fail(Errc::io, "cannot look for " + pattern);
    std::vector<model::ConfFile> files;
    for (const std::string& path : paths) {
      auto text = read_whole(path);
      if (!text) return tl::unexpected<Error>(text.error());
      files.push_back({path, std::move(*text)});
    }
    return files;
  }
  bool is_block_device(const std::string& path) override {
    struct stat status {};
    return ::stat(path.c_str(), &status) == 0 && S_ISBLK(status.st_mode);
  }
};

void print_admin_usage() {
  fmt::print(
      "Usage: tgt-admin [OPTION...]\n\n"
      "Makes the target daemon (perilune targetd) serve what a targets.conf says, used as tgt's "
      "tgt-admin.\n\n"
      "  -e, --execute            make the targets of the file that are not there; remove those of tgt that "
      "it does not have\n"
      "      --update WHICH       make targets as the file says now; what is in use is left, unless with -f\n"
      "      --delete WHICH       remove targets\n"
      "      --offline WHICH, --ready WHICH\n"
      "  -s, --show               show all targets\n"
      "      --dump               show all targets as a targets.conf, without secrets\n"
      "  -c, --conf FILE          another file than /etc/tgt/targets.conf\n"
      "  -f, --force              also what is in use\n"
      "  -p, --pretend            only say what would change\n"
      "  -v, --ignore-errors, -C  no effect\n\n"
      "WHICH is ALL, tid=N or the name of a target.\n");
}

// What the file says, as the daemon takes it.
Result<std::string> read_conf(const std::string& path) {
  auto text = read_whole(path);
  if (!text) return tl::unexpected<Error>(text.error());
  HostWorld world;
  const auto loaded =
      model::read_targets_conf({path, std::move(*text)}, world, {{"0.0.0.0", std::uint16_t{3260}}});
  if (!loaded) return tl::unexpected<Error>(loaded.error());
  for (const std::string& warning : loaded->warnings) fmt::print(stderr, "tgt-admin: {}\n", warning);
  return model::write_saveconfig(loaded->configuration);
}

// ---- tgtimg

// A new file of this many bytes: sparse, or with all its space. Nothing is left when it fails.
Status make_image(const std::string& path, off_t bytes, bool sparse) {
  const control::Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640));
  if (!file.valid()) return fail_errno(errno, path);
  const int error = bytes == 0 ? 0
                    : sparse   ? (::ftruncate(file.get(), bytes) == 0 ? 0 : errno)
                               : ::posix_fallocate(file.get(), 0, bytes);
  if (error == 0) return {};
  ::unlink(path.c_str());
  return fail_errno(error, path);
}

Status new_image(const tgt::ImageOptions& options) {
  const std::string device = options.get("device-type"), type = options.get("type"),
                    path = options.get("file");
  if (path.empty()) return fail(Errc::invalid_argument, "the file is missing; give --file PATH");
  if (device == "cd") {
    if (type != "dvd+r")
      return fail(Errc::invalid_argument, "the type of a cd image is dvd+r, not '" + type + "'");
    if (const auto made = make_image(path, 0, true); !made) return made;
    fmt::print("Created blank DVD+R image file : {}\n", path);
    return {};
  }
  if (device != "disk")
    return fail(Errc::unsupported, "there are no images of type '" + device + "' here; disk and cd are");
  if (type != "disk")
    return fail(Errc::invalid_argument, "the type of a disk image is disk, not '" + type + "'");
  const std::string size = options.get("size");
  std::uint32_t megabytes = 0;
  const auto [at, error] = std::from_chars(size.data(), size.data() + size.size(), megabytes);
  if (error != std::errc{} || at != size.data() + size.size() || megabytes == 0) {
    return fail(Errc::invalid_argument, "the size '" + size + "' is no number of megabytes");
  }
  const bool sparse = !options.get("thin").empty();
  if (const auto made = make_image(path, static_cast<off_t>(megabytes) << 20, sparse); !made) return made;
  fmt::print("Created blank DISK image file : {}\n", path);
  return {};
}

}  // namespace

int run_tgtadm(int argc, char** argv) {
  const std::vector<std::string> words = words_of(argc, argv);
  const auto parsed = tgt::parse_options(words);
  if (parsed.options.has("help")) {
    fmt::print("{}", tgt::tgtadm_usage());
    return 0;
  }
  if (parsed.options.has("version")) {
    fmt::print("{}\n", PERILUNE_VERSION);
    return 0;
  }
  return ask("tgtadm", {"tgtadm", words, std::nullopt, {}});
}

int run_tgt_admin(int argc, char** argv) {
  const auto options = tgt::parse_admin(words_of(argc, argv));
  if (!options) {
    fmt::print(stderr, "tgt-admin: {}\n", options.error().message);
    return 1;
  }
  if (options->help || options->action.empty()) {
    print_admin_usage();
    return options->help ? 0 : 1;
  }
  if (options->action == "show")
    return ask("tgt-admin", {"tgtadm", {"--op", "show", "--mode", "target"}, std::nullopt, {}});
  FrontEndCall call{"tgt-admin", {options->action, options->selector}, std::nullopt, {}};
  if (options->force) call.arguments.push_back("force");
  if (options->pretend) call.arguments.push_back("pretend");
  if (options->action == "execute" || options->action == "update") {
    const auto file = read_conf(options->conf);
    if (!file) {
      fmt::print(stderr, "tgt-admin: {}\n", file.error().message);
      return file.error().code == Errc::not_found ? 2 : 1;
    }
    call.input = *file;
  }
  return ask("tgt-admin", std::move(call));
}

int run_tgt_setup_lun(int argc, char** argv) {
  std::vector<std::string> words = words_of(argc, argv);
  const bool help = std::any_of(words.begin(), words.end(),
                                [](const std::string& word) { return word == "-h" || word == "--help"; });
  if (help) {
    fmt::print(
        "Usage: tgt-setup-lun -n NAME -d DEVICE [-b rdwr|aio|sg] [-B BLOCK_SIZE] [-t iscsi] [-C PORT] "
        "[INITIATOR_NAME...]\n\n"
        "Makes a target iqn.2001-04.com.HOST-NAME with a file or block device as LUN 1, for all initiators "
        "or for those named.\n");
    return 0;
  }
  words.insert(words.begin(), {"-H", host_name()});
  return ask("tgt-setup-lun", {"tgt-setup-lun", std::move(words), std::nullopt, {}});
}

int run_tgtimg(int argc, char** argv) {
  const std::vector<std::string> words = words_of(argc, argv);
  const bool help = std::find(words.begin(), words.end(), "--help") != words.end() ||
                    std::find(words.begin(), words.end(), "-h") != words.end();
  if (help) {
    fmt::print(
        "Usage: tgtimg --op new --device-type disk --type disk --size MEGABYTES --file PATH "
        "[--thin-provisioning]\n"
        "       tgtimg --op new --device-type cd --type dvd+r --file PATH\n\n"
        "Makes an image file for a disk or a blank disc.\n");
    return 0;
  }
  const auto options = tgt::parse_image(words);
  Status made;
  if (!options)
    made = tl::unexpected<Error>(options.error());
  else if (options->get("op") != "new")
    made = fail(Errc::invalid_argument, "the operation is new: --op new");
  else
    made = new_image(*options);
  if (made) return 0;
  fmt::print(stderr, "tgtimg: {}\n", made.error().message);
  return 22;
}

}  // namespace perilune::cli
