// SPDX-License-Identifier: Apache-2.0
// What the target daemon offers to those who administer it: the interpreters of targetcli and tgtadm, which
// run inside the daemon, and the operations of its socket (docs/control-protocol.md). All of it belongs to
// the daemon's control thread, may block there, and is carried out one call after the other: so all
// administrators see one order.
//
// A change is a transaction: commit() checks it, opens what it needs, puts it into force on the running
// server and makes it durable; only then it returns. Where one step fails everything is as it was before, and
// the error is one line that names the object and the reason.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/result.hpp"
#include "config/target/configuration.hpp"
#include "control/targetd/export.hpp"

namespace perilune::control::targetd {

using Json = nlohmann::json;

struct ConnectionInfo {
  std::uint16_t cid = 0;
  std::string address;  // of the initiator, numeric, without brackets
  std::uint16_t port = 0;
  std::string state;  // LIO's word: LOGGED_IN, IN_LOGOUT, CLEANUP_WAIT
};

// A normal session. Discovery sessions are not told of.
struct SessionInfo {
  config::target::PortalGroupKey group;
  std::string initiator;  // iSCSI name
  std::string alias;      // InitiatorAlias; often empty
  std::string isid;       // twelve hexadecimal digits: "00023d000001"
  std::uint16_t tsih = 0;
  std::string state;      // LIO's word: LOGGED_IN, FAILED
  std::string chap_user;  // by which it has proved itself; empty: nobody had to
  std::vector<ConnectionInfo> connections;
  // What login and renegotiation have made of the keys (RFC 7143 13), by their names; those of a connection
  // are the first's.
  std::map<std::string, std::string, std::less<>> parameters = {};
};

// What initiators have read and written, since the logical unit has been served by this daemon.
struct IoCounters {
  std::uint64_t reads = 0;
  std::uint64_t read_bytes = 0;
  std::uint64_t writes = 0;
  std::uint64_t write_bytes = 0;
  std::uint64_t errors = 0;  // of the medium
};

struct FileProbe {
  enum class Kind : std::uint8_t { none, regular, block, folder, other };
  Kind kind = Kind::none;  // of what the path leads to, symbolic links followed
  std::uint64_t size_bytes = 0;
  std::uint32_t block_size = 512;  // of a block device: logical
  bool readable = false, writable = false;
  std::string used_by;  // why it cannot be served: "mounted on /srv", "a swap area", "in use"; empty: nothing
                        // in the way
};

// A transaction that this daemon has made since it was started.
struct PastTransaction {
  std::uint64_t sequence = 0;
  std::int64_t time_ms = 0;  // since 1970, UTC
  std::string who;
  config::target::Changes changes;
  config::target::Changes inverses;  // in the order in which they undo it
};
inline constexpr std::size_t max_history = 100;

// What a folder of the configuration holds: saveconfig.json and what targetcli keeps beside it.
struct SaveOptions {
  std::string path;                     // absolute; empty: the default file, with backups
  bool overwrite_with_nothing = false;  // the administrator said so
  std::size_t max_backups = default_max_backups;
};
struct Saved {
  std::string path;
  bool backed_up = false;
  std::string backup_path;  // of this backup, where there is one
};

class Administration {
 public:
  virtual ~Administration() = default;

  [[nodiscard]] virtual const config::target::Configuration& configuration() const = 0;
  // The number of the last transaction.
  [[nodiscard]] virtual std::uint64_t sequence() const = 0;

  // `who`: the user and the command, for the journal and for events; never a secret. Gives the number of the
  // transaction. An empty list is no transaction: the number is that of the last. Fails with what
  // Configuration::apply() says, with what opening a backing says (not_found, permission, busy ...), with
  // what binding a portal says, with io (the journal).
  [[nodiscard]] virtual Result<std::uint64_t> commit(const std::string& who,
                                                     const config::target::Changes& changes) = 0;
  // What commit() would say, as far as that can be told without touching anything outside: the rules of the
  // configuration.
  [[nodiscard]] virtual Status check(const config::target::Changes& changes) = 0;
  // The oldest first, at most max_history.
  [[nodiscard]] virtual std::vector<PastTransaction> history() const = 0;

  // Of one portal group, or of all.
  [[nodiscard]] virtual Result<std::vector<SessionInfo>> sessions() const = 0;
  [[nodiscard]] virtual Result<std::vector<SessionInfo>> sessions_of(
      const config::target::PortalGroupKey& group) const = 0;

  // Of the logical unit behind the LUN; its portal groups together. not_found: there is none, or it is not
  // served.
  [[nodiscard]] virtual Result<IoCounters> io_counters(const config::target::LunKey& lun) const = 0;

  // What a storage object serves: bytes. not_found: there is no such object.
  [[nodiscard]] virtual Result<std::uint64_t> size_of(const config::target::StorageKey& key) const = 0;
  // The storage object is there and serves (its backing could be opened).
  [[nodiscard]] virtual bool healthy(const config::target::StorageKey& key) const = 0;
  // Looks at the size of its backing, and serves what has grown.
  [[nodiscard]] virtual Status resize(const config::target::StorageKey& key) = 0;
  // As SIGHUP does it: the same for all, and secrets that are kept outside are read again; what is refused is
  // in the log.
  virtual void look_again() = 0;

  // Never fails: Kind::none is what is not there, or not to be reached.
  [[nodiscard]] virtual FileProbe probe(const std::string& path) const = 0;
  // Makes a file of this size that is not there yet: sparse, or with all its space. Fails with
  // already_exists, permission, io; then there is no file.
  [[nodiscard]] virtual Status create_file(const std::string& path, std::uint64_t size_bytes,
                                           bool sparse) = 0;
  // Of a file that create_file() made for a transaction that then failed, or of an object whose file is to go
  // with it.
  [[nodiscard]] virtual Status remove_file(const std::string& path) = 0;

  [[nodiscard]] virtual Result<Saved> save(const SaveOptions& options) = 0;
  // Whether the default file holds what configuration() is.
  [[nodiscard]] virtual bool is_saved() const = 0;
  // The default file: "/etc/perilune/target/saveconfig.json".
  [[nodiscard]] virtual std::string default_save_path() const = 0;
  // The text of a file, unpacked when it is gzip. limit: longer than max_bytes.
  [[nodiscard]] virtual Result<std::string> read_file(const std::string& path,
                                                      std::size_t max_bytes) const = 0;
  // The numeric addresses of this host, without brackets: for completion and checks.
  [[nodiscard]] virtual std::vector<std::string> host_addresses() const = 0;

  // Not part of the configuration, and over with resume() or when the daemon ends. pause: nobody new may log
  // in, sessions go on. drain: that, and sessions are asked to log out; those that have not within `seconds`
  // are closed. not_found: no such portal group.
  [[nodiscard]] virtual Status pause(const config::target::PortalGroupKey& group) = 0;
  [[nodiscard]] virtual Status drain(const config::target::PortalGroupKey& group, std::uint32_t seconds) = 0;
  [[nodiscard]] virtual Status resume(const config::target::PortalGroupKey& group) = 0;

  // The initiator is told that this connection is dropped, and it is; that it comes again is not prevented.
  // not_found: there is no such session.
  [[nodiscard]] virtual Status drop_connection(std::uint16_t tsih, std::uint16_t cid) = 0;

  [[nodiscard]] virtual std::string version() const = 0;
};

// ---- front ends

// A command line of a thin client. `session` is what the interpreter keeps between the lines of one client
// (its path, its preferences, the width of its terminal, whether it wants JSON): the client holds it, sends
// it and gets it back; it means nothing to the daemon.
struct FrontEndRequest {
  std::string front_end;               // "targetcli", "tgtadm"
  std::vector<std::string> arguments;  // without the name of the program
  std::optional<std::string> input;    // standard input or the file that goes with it
  Json session = Json::object();
  std::uint32_t uid = 0;  // of the peer
  std::int32_t pid = 0;
  std::string who;  // "root (pid 42)", to begin Administration::commit's with
};

struct FrontEndAnswer {
  std::string out;
  std::string err;
  int exit_code = 0;
  Json session = Json::object();
};

// Called on the control thread. Throws nothing; what it says is at most max_answer_bytes (control/frame.hpp).
using FrontEnd = std::function<FrontEndAnswer(const FrontEndRequest&, Administration&)>;
// By name.
using FrontEnds = std::map<std::string, FrontEnd>;

}  // namespace perilune::control::targetd
