// SPDX-License-Identifier: Apache-2.0
#include "control/targetd/state_store.hpp"

#include <utility>

#include "base/assert.hpp"

namespace perilune::control::targetd {
namespace {

const std::string journal_name = "journal";
const std::string snapshot_name = "snapshot";
const std::string torn_name = "journal.torn";

Status named(const std::string& name, Error error) {
  return fail(error.code, "state file " + name + " " + error.message, error.os_errno);
}

}  // namespace

Result<StateStore> StateStore::open(StateFolder& folder) {
  StateStore store(folder);
  if (auto loaded = store.load(); !loaded) return tl::unexpected<Error>(std::move(loaded.error()));
  return store;
}

Status StateStore::load() {
  const auto text = folder_->read(snapshot_name, max_state_file_bytes);
  if (!text && text.error().code != Errc::not_found) return tl::unexpected<Error>(text.error());
  if (text) {
    auto snapshot = read_snapshot(*text);
    if (!snapshot) return named(snapshot_name, std::move(snapshot.error()));
    configuration_ = std::move(snapshot->configuration);
    sequence_ = snapshot->sequence;
    snapshot_bytes_ = text->size();
  }
  return load_journal(text.has_value());
}

Status StateStore::load_journal(bool have_snapshot) {
  const auto text = folder_->read(journal_name, max_state_file_bytes);
  if (!text) {
    if (text.error().code != Errc::not_found) return tl::unexpected<Error>(text.error());
    if (!have_snapshot) return begin_journal();
    return fail(Errc::not_found,
                "state file journal is missing, and with it the latest changes; put it back, or restore a "
                "saveconfig.json into an empty state folder");
  }
  const auto replay = replay_journal(*text, sequence_, configuration_);
  if (!replay) return named(journal_name, replay.error());
  sequence_ = replay->sequence;
  journal_bytes_ = replay->good_bytes;
  torn_bytes_ = text->size() - replay->good_bytes;
  journal_dirty_ = torn_bytes_ != 0;
  // Nobody was answered for them; kept for whoever wants to look. A full disk must not keep the server from
  // starting.
  if (journal_dirty_) (void)folder_->write(torn_name, std::string_view(*text).substr(replay->good_bytes));
  // What was read may be in the page cache only: a server that died before its fsync. Nobody may see it and
  // then lose it.
  folder_dirty_ = true;
  if (auto done = take_back(); !done) return done;
  return folder_->sync(journal_name);
}

Status StateStore::begin_journal() {
  const std::string header = journal_header(sequence_);
  bool renamed = false;
  auto done = replace_file(*folder_, journal_name, header, &renamed);
  if (renamed) {
    journal_bytes_ = header.size();
    journal_dirty_ = false;
    folder_dirty_ = !done;
  }
  return done;
}

Status StateStore::take_back() {
  if (folder_dirty_) {
    if (auto done = folder_->sync_folder(); !done) return done;
    folder_dirty_ = false;
  }
  if (!journal_dirty_) return {};
  if (auto done = folder_->truncate(journal_name, journal_bytes_); !done) return done;
  if (auto done = folder_->sync(journal_name); !done) return done;
  journal_dirty_ = false;
  return {};
}

Status StateStore::write_record(const std::string& record) {
  if (auto done = take_back(); !done) return done;
  journal_dirty_ = true;
  if (auto done = folder_->append(journal_name, record); !done) return done;
  if (auto done = folder_->sync(journal_name); !done) return done;
  journal_dirty_ = false;
  return {};
}

Result<config::target::Changes> StateStore::commit(const Transaction& transaction, const Prepare& prepare) {
  const std::string record = journal_record(sequence_ + 1, transaction);
  if (journal_bytes_ + record.size() > max_state_file_bytes) {
    return fail(Errc::limit, "the journal is full; compact it");
  }
  auto inverses = config::target::apply_all(configuration_, transaction.changes);
  if (!inverses) return inverses;
  Status written = prepare ? prepare(*inverses) : Status();
  const bool prepared = written.has_value();
  if (written) written = write_record(record);
  if (!written) {
    const auto undone = config::target::apply_all(configuration_, *inverses);
    PERILUNE_ASSERT(undone.has_value());
    if (prepared) (void)take_back();  // or the next commit does
    return tl::unexpected<Error>(std::move(written.error()));
  }
  ++sequence_;
  journal_bytes_ += record.size();
  return inverses;
}

Status StateStore::check(const config::target::Changes& changes) {
  const auto inverses = config::target::apply_all(configuration_, changes);
  if (!inverses) return tl::unexpected<Error>(inverses.error());
  const auto undone = config::target::apply_all(configuration_, *inverses);
  PERILUNE_ASSERT(undone.has_value());
  return {};
}

Status StateStore::compact() {
  if (auto done = take_back(); !done) return done;
  const std::string text = snapshot_text(sequence_, configuration_);
  // Without a durable snapshot the old journal must stay.
  if (auto done = replace_file(*folder_, snapshot_name, text); !done) return done;
  snapshot_bytes_ = text.size();
  return begin_journal();
}

}  // namespace perilune::control::targetd
