// SPDX-License-Identifier: Apache-2.0
// The limit that no target on this machine can pass: minimal responders that move the bytes of each I/O over
// TCP and do nothing else, and the requester that measures them (see wire.hpp for what is on the wire).
//
//   ceiling serve    answers on a port, and prints `listening PORT`
//   ceiling ask      measures it, and prints one line of JSON
//   ceiling distance prints the nanoseconds that a word takes to another processor and back
//
// --help has their options. serve --disk 0 (the default) answers from one warm buffer and forgets what is
// written; --disk N moves payloads from and to their places in N bytes of memory, --file from and to those of
// a file. The disks of both ends must agree when it is not 0.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

#include "ceiling/ask.hpp"
#include "ceiling/distance.hpp"
#include "ceiling/responder.hpp"
#include "ceiling/serve.hpp"
#include "ceiling/tcp.hpp"
#include "ceiling/wire.hpp"

int main(int argc, char** argv) {
  using namespace ceiling;
  CLI::App app("Minimal responders and their requester: what TCP on this machine can do.", "ceiling");
  app.require_subcommand(1);

  std::size_t disk_bytes = 0;
  std::string engine = "epoll", file;
  std::uint16_t port = 0;
  bool serve_spins = false;
  CLI::App* serve = app.add_subcommand("serve", "answer until the process is ended");
  serve->add_option("--engine", engine, "epoll or uring")->check(CLI::IsMember({"epoll", "uring"}));
  serve->add_option("--port", port, "0: any");
  serve->add_option("--disk", disk_bytes, "bytes of memory to serve; 0: one warm buffer");
  serve->add_option("--file", file, "a file to serve past the page cache, by io_uring; without digests")
      ->check(CLI::ExistingFile)
      ->excludes("--disk", "--engine");
  serve->add_flag("--spin", serve_spins, "never sleep");

  AskOptions ask_options;
  std::string rw = "randread";
  bool ask_spins = false;
  CLI::App* ask_command = app.add_subcommand("ask", "measure a responder");
  ask_command->add_option("--port", ask_options.port)->required();
  ask_command->add_option("--rw", rw)->check(CLI::IsMember({"randread", "randwrite", "read", "write"}));
  ask_command->add_option("--bs", ask_options.block_bytes)->check(CLI::Range(512u, max_payload_bytes));
  ask_command->add_option("--disk", ask_options.disk_bytes);
  ask_command->add_option("--depth", ask_options.depth)->check(CLI::Range(1, 4096));
  ask_command->add_option("--sessions", ask_options.sessions)->check(CLI::Range(1, 4096));
  ask_command->add_option("--seconds", ask_options.seconds)->check(CLI::Range(0.001, 1e6));
  ask_command->add_option("--warm-up", ask_options.warm_up)->check(CLI::Range(0.0, 1e6));
  ask_command->add_option("--ios", ask_options.ios, "end after so many, without a warm-up");
  ask_command->add_flag("--digests", ask_options.digests);
  ask_command->add_flag("--probe", ask_options.probe, "one more connection at depth 1, told apart");
  ask_command->add_flag("--logins", ask_options.logins, "connections made, used for a login, and ended");
  ask_command->add_option("--cpu-of", ask_options.server, "tell the processor time of this process too");
  ask_command->add_flag("--spin", ask_spins, "never sleep");

  int one = 0, other = 1;
  CLI::App* distance = app.add_subcommand("distance", "measure how far apart two processors are");
  distance->add_option("one", one)->required()->check(CLI::Range(0, 1023));
  distance->add_option("other", other)->required()->check(CLI::Range(0, 1023));
  CLI11_PARSE(app, argc, argv);

  if (distance->parsed()) {
    const double nanoseconds = one == other ? -1 : round_trip_ns(one, other);
    if (nanoseconds < 0) {
      std::fprintf(stderr, "ceiling: two processors are needed that this process may run on\n");
      return 2;
    }
    std::printf("%.0f\n", nanoseconds);
    return 0;
  }

  reserve_descriptors();
  if (ask_command->parsed()) {
    if (ask_options.disk_bytes / ask_options.block_bytes < ask_options.sessions) {
      std::fprintf(stderr, "ceiling: the disk is smaller than a block for each session\n");
      return 2;
    }
    ask_options.writes = rw == "write" || rw == "randwrite";
    ask_options.random = rw == "randread" || rw == "randwrite";
    ask_options.waiting = ask_spins ? Waiting::spin : Waiting::sleep;
    return ask(ask_options);
  }
  const Waiting waiting = serve_spins ? Waiting::spin : Waiting::sleep;
  const int listener = listen_on_loopback(port);
  const auto listening = [listener] {
    std::printf("listening %u\n", local_port(listener));
    std::fflush(stdout);
  };
  if (!file.empty()) {
    listening();
    serve_file(listener, file.c_str(), waiting);
  }
  Disk disk(disk_bytes);
  listening();
  if (engine == "uring") serve_uring(listener, disk, waiting);
  serve_epoll(listener, disk, waiting);
}
