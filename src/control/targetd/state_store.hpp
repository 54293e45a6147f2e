// SPDX-License-Identifier: Apache-2.0
// The daemon's truth (DESIGN 1.11): a configuration in memory, a snapshot and a journal in a folder. A
// transaction is durable before commit() returns; a restart finds what was answered. Control path: it blocks.
// One thread at a time.
//
// Files: `snapshot` (replaced whole, by rename) and `journal` (appended to, one fsync for each transaction;
// replaced by an empty one after a new snapshot), and `journal.torn` (what the last start cut off). The
// journal's records carry consecutive numbers; those that the snapshot has are passed over.
#pragma once

#include <functional>
#include <string>

#include "control/targetd/journal_format.hpp"
#include "control/targetd/state_folder.hpp"

namespace perilune::control::targetd {

inline constexpr std::size_t max_state_file_bytes = 512U << 20;
inline constexpr std::size_t min_compaction_bytes = 1U << 20;

class StateStore {
 public:
  // Reads the state, or begins an empty one. The folder outlives this. Fails without having changed anything;
  // the message names the file and what to do.
  [[nodiscard]] static Result<StateStore> open(StateFolder& folder);

  [[nodiscard]] const config::target::Configuration& configuration() const noexcept { return configuration_; }
  [[nodiscard]] std::uint64_t sequence() const noexcept { return sequence_; }  // of the last transaction
  [[nodiscard]] std::size_t torn_bytes() const noexcept {
    return torn_bytes_;
  }  // that open() cut off, for the log

  // All of it or nothing: made and durable, and these are the changes that undo it; or an error, and neither
  // memory nor disk has it. (After an error of the disk that could not be taken back, each further call first
  // tries to, and fails while it cannot.)
  // `prepare` is called when the changes have been made in memory, with their inverses, before they are
  // written: where it fails, so does this. When it has succeeded and this fails all the same, what it did is
  // the caller's to undo.
  using Prepare = std::function<Status(const config::target::Changes& inverses)>;
  [[nodiscard]] Result<config::target::Changes> commit(const Transaction& transaction,
                                                       const Prepare& prepare = {});

  // What commit() would say of the changes by the rules of the configuration; it is as before.
  [[nodiscard]] Status check(const config::target::Changes& changes);

  // The journal is long enough, measured by the snapshot, for compact() to pay.
  [[nodiscard]] bool wants_compaction() const noexcept {
    return journal_bytes_ > min_compaction_bytes && journal_bytes_ > 2 * snapshot_bytes_;
  }
  // Writes a new snapshot and begins the journal anew. When it fails everything is as it was.
  [[nodiscard]] Status compact();

 private:
  explicit StateStore(StateFolder& folder) : folder_(&folder) {}
  [[nodiscard]] Status load();
  [[nodiscard]] Status load_journal(bool have_snapshot);
  [[nodiscard]] Status begin_journal();
  [[nodiscard]] Status write_record(const std::string& record);
  [[nodiscard]] Status take_back();

  StateFolder* folder_;
  config::target::Configuration configuration_;
  std::uint64_t sequence_ = 0;
  std::size_t journal_bytes_ = 0;  // its whole, durable records
  std::size_t snapshot_bytes_ = 0;
  std::size_t torn_bytes_ = 0;
  bool journal_dirty_ = false;  // has bytes behind journal_bytes_ that must go
  bool folder_dirty_ = false;   // the journal's own name may not be durable
};

}  // namespace perilune::control::targetd
