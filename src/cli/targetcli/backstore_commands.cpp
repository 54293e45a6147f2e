// SPDX-License-Identifier: Apache-2.0
// Storage objects and their ALUA groups.
#include <algorithm>
#include <cerrno>

#include <fmt/format.h>

#include "cli/targetcli/commands.hpp"
#include "config/target/plan.hpp"

namespace perilune::cli::targetcli {
namespace {

using targetd::FileProbe;

// A storage object on its way into the configuration.
struct Draft {
  model::StorageKey key;
  model::StorageObject object;
};

Outcome check_name_free(const Call& call, const model::StorageKey& key) {
  if (call.configuration().find<model::StorageObject>(key) == nullptr) return {};
  return refuse(fmt::format("Storage object {}/{} exists", model::to_string(key.plugin), key.name),
                "choose another name, or delete it first");
}

void give_serial(Call& call, Draft& draft) {
  const std::string* const wwn = call.arguments.find("wwn");
  draft.object.wwn = wwn != nullptr && !wwn->empty() ? *wwn : call.chance.unit_serial();
}

void give_model(const Call& call, Draft& draft) {
  const bool named = call.session.flag("export_backstore_name_as_model");
  (void)draft.object.attributes.set(model::storage_attributes(draft.key.plugin), "emulate_model_alias",
                                    named ? "1" : "0");
}

// The object and the default ALUA group that LIO makes with it.
void add_draft(const Draft& draft, model::Changes& changes) {
  changes.push_back(model::add<model::StorageObject>(draft.key, draft.object));
  if (draft.key.plugin != model::Plugin::pscsi) {
    changes.push_back(model::add<model::AluaGroup>({draft.key, std::string(model::default_alua_group)}, {}));
  }
}

Outcome make(Call& call, const Draft& draft, const std::vector<std::string>& lines) {
  model::Changes changes;
  add_draft(draft, changes);
  if (auto done = call.commit_and_say(changes, lines); !done) return done;
  call.enter(model::path_of(draft.key));
  return {};
}

// What stands in the way of a device that is there.
Outcome check_device_free(const Call& call, const std::string& dev, const FileProbe& probe) {
  std::string user = probe.used_by;
  if (const auto key = call.configuration().by_dev(dev)) user = "by " + model::path_of(*key);
  if (user.empty()) return {};
  return refuse("Cannot configure StorageObject because device " + dev + " is already in use", user);
}

Outcome cannot_open(const std::string& path, std::string hint) {
  return refuse("Could not open " + path, std::move(hint));
}

// ---- fileio

class FileioCreate {
 public:
  explicit FileioCreate(Call& call) : call_(call) {}

  // Fills draft() and lines(); makes no file yet.
  Outcome prepare(const std::string& name, const std::string& path) {
    draft_.key = {model::Plugin::fileio, name};
    draft_.object.dev = path;
    if (const auto key = call_.configuration().by_dev(path)) {
      return refuse("storage object for " + path + " already exists: " + key->name, "export that one");
    }
    if (auto free = check_name_free(call_, draft_.key); !free) return free;
    if (auto cache = take_switches(); !cache) return cache;
    if (auto size = take_size(); !size) return size;
    give_serial(call_, draft_);
    give_model(call_, draft_);
    return take_backing();
  }

  // Makes the file, when there is none; gone again when what follows fails.
  Outcome make_file() {
    if (!new_file_ || call_.session.dry_run) return {};
    if (!sparse_) call_.say(fmt::format("Writing {} bytes", draft_.object.size_bytes));
    const auto made = call_.administration.create_file(draft_.object.dev, draft_.object.size_bytes, sparse_);
    if (made) return {};
    if (made.error().code == Errc::no_space || made.error().os_errno == ENOSPC ||
        made.error().os_errno == EFBIG) {
      return refuse(fmt::format("Could not expand file to {} bytes", draft_.object.size_bytes),
                    made.error().message);
    }
    return cannot_open(draft_.object.dev, made.error().message);
  }
  void remove_file() {
    if (new_file_ && !call_.session.dry_run) (void)call_.administration.remove_file(draft_.object.dev);
  }

  [[nodiscard]] const Draft& draft() const { return draft_; }
  [[nodiscard]] const std::vector<std::string>& lines() const { return lines_; }

 private:
  Outcome take_switches() {
    const auto write_back = call_.boolean("write_back", true);
    if (!write_back) return tl::unexpected<Refusal>(write_back.error());
    const auto sparse = call_.boolean("sparse", true);
    if (!sparse) return tl::unexpected<Refusal>(sparse.error());
    sparse_ = *sparse;
    draft_.object.write_back = *write_back;
    (void)draft_.object.attributes.set(model::storage_attributes(model::Plugin::fileio),
                                       "emulate_write_cache", *write_back ? "1" : "0");
    return {};
  }

  Outcome take_size() {
    const std::string* const text = call_.arguments.find("size");
    if (text == nullptr || text->empty()) return {};
    size_ = parse_size(*text);
    if (!size_) return refuse("Cannot interpret size, wrong format: " + *text, "such as 512M or 10G");
    if (*size_ == 0) return refuse("The size of " + draft_.object.dev + " must not be 0");
    return {};
  }

  Outcome take_backing() {
    const std::string& path = draft_.object.dev;
    const FileProbe probe = call_.administration.probe(path);
    switch (probe.kind) {
      case FileProbe::Kind::none:
        return take_new_file();
      case FileProbe::Kind::regular:
        if (size_ && *size_ != probe.size_bytes) {
          lines_.push_back(
              fmt::format("{} exists, using its size ({} bytes) instead", path, probe.size_bytes));
        }
        break;
      case FileProbe::Kind::block:
        if (size_) return refuse("If path is a block device, size must be omitted: " + path + " has its own");
        if (auto free = check_device_free(call_, path, probe); !free) return free;
        lines_.push_back("Note: block backstore preferred for best results");
        break;
      default:
        return cannot_open(path, "it is neither a file nor a block device");
    }
    draft_.object.size_bytes = probe.size_bytes;
    return created();
  }

  Outcome take_new_file() {
    if (!size_)
      return refuse("Attempting to create file for new fileio backstore, need a size",
                    "size=1G makes " + draft_.object.dev + " of one GiB");
    new_file_ = true;
    draft_.object.size_bytes = *size_;
    return created();
  }

  Outcome created() {
    lines_.push_back(
        fmt::format("Created fileio {} with size {}", draft_.key.name, draft_.object.size_bytes));
    return {};
  }

  Call& call_;
  Draft draft_;
  std::vector<std::string> lines_;
  std::optional<std::uint64_t> size_;
  bool sparse_ = true;
  bool new_file_ = false;
};

// ---- block, pscsi

Outcome prepare_block(Call& call, Draft& draft) {
  if (auto free = check_name_free(call, draft.key); !free) return free;
  const FileProbe probe = call.administration.probe(draft.object.dev);
  if (probe.kind == FileProbe::Kind::none) return cannot_open(draft.object.dev, "there is no such device");
  if (probe.kind != FileProbe::Kind::block) {
    return cannot_open(draft.object.dev, "it is no block device; a file belongs to /backstores/fileio");
  }
  if (auto free = check_device_free(call, draft.object.dev, probe); !free) return free;
  give_serial(call, draft);
  give_model(call, draft);
  return {};
}

std::string name_for_path(std::string_view path) {
  while (path.starts_with('/')) path.remove_prefix(1);
  std::string name(path);
  for (char& c : name) {
    if (c == '/' || c == ' ') c = '-';
  }
  return name;
}

}  // namespace

std::string file_path(const Call& call, const std::string& path) {
  if (path.starts_with('/') || call.session.directory.empty()) return path;
  return call.session.directory + (call.session.directory.ends_with('/') ? "" : "/") + path;
}

Outcome run_fileio_create(Call& call) {
  FileioCreate create(call);
  if (auto ready =
          create.prepare(call.arguments.at("name"), file_path(call, call.arguments.at("file_or_dev")));
      !ready)
    return ready;
  if (auto file = create.make_file(); !file) return file;
  auto made = make(call, create.draft(), create.lines());
  if (!made) create.remove_file();
  return made;
}

Outcome run_block_create(Call& call) {
  const auto readonly = call.boolean("readonly", false);
  if (!readonly) return tl::unexpected<Refusal>(readonly.error());
  Draft draft{{model::Plugin::block, call.arguments.at("name")}, {}};
  draft.object.dev = file_path(call, call.arguments.at("dev"));
  draft.object.readonly = *readonly;
  if (auto ready = prepare_block(call, draft); !ready) return ready;
  return make(call, draft,
              {fmt::format("Created block storage object {} using {}.", draft.key.name, draft.object.dev)});
}

Outcome run_ramdisk_create(Call& call) {
  const auto nullio = call.boolean("nullio", false);
  if (!nullio) return tl::unexpected<Refusal>(nullio.error());
  Draft draft{{model::Plugin::ramdisk, call.arguments.at("name")}, {}};
  if (auto free = check_name_free(call, draft.key); !free) return free;
  const std::string& text = call.arguments.at("size");
  const auto size = parse_size(text);
  if (!size) return refuse("Cannot interpret size, wrong format: " + text, "such as 512M or 10G");
  draft.object.size_bytes = *size;
  draft.object.nullio = *nullio;
  give_serial(call, draft);
  give_model(call, draft);
  return make(call, draft, {fmt::format("Created ramdisk {} with size {}.", draft.key.name, text)});
}

Outcome run_pscsi_create(Call& call) {
  Draft draft{{model::Plugin::pscsi, call.arguments.at("name")}, {}};
  draft.object.dev = file_path(call, call.arguments.at("dev"));
  if (auto free = check_name_free(call, draft.key); !free) return free;
  if (!draft.object.dev.starts_with('/')) {
    return cannot_open(draft.object.dev,
                       "name the device by its path, such as /dev/sg1 or one in /dev/disk/by-id");
  }
  const FileProbe probe = call.administration.probe(draft.object.dev);
  if (probe.kind == FileProbe::Kind::none) return cannot_open(draft.object.dev, "there is no such device");
  if (auto free = check_device_free(call, draft.object.dev, probe); !free) return free;
  return make(call, draft,
              {"Note: block backstore recommended for SCSI block devices",
               fmt::format("Created pscsi storage object {} using {}", draft.key.name, draft.object.dev)});
}

Outcome run_storage_delete(Call& call) {
  const auto save = call.boolean("save", false);
  if (!save) return tl::unexpected<Refusal>(save.error());
  const model::StorageKey key{call.node.storage.plugin, call.arguments.at("name")};
  if (call.configuration().find<model::StorageObject>(key) == nullptr) {
    return refuse("No storage object named " + key.name + ".", "`ls " + call.node.path + " 1` lists them");
  }
  if (auto done = call.commit_and_say(model::removal_of(call.configuration(), key),
                                      {"Deleted storage object " + key.name + "."});
      !done) {
    return done;
  }
  return *save && !call.session.dry_run ? save_configuration(call, "", true) : Outcome{};
}

Outcome run_storage_info(Call& call) {
  const model::StorageKey& key = call.node.storage;
  const model::StorageObject& object = *call.configuration().find<model::StorageObject>(key);
  const auto flag = [](bool value) { return value ? "True" : "False"; };
  std::vector<std::pair<std::string, std::string>> rows{
      {"name", key.name}, {"plugin", std::string(model::to_string(key.plugin))}};
  if (!object.dev.empty()) rows.emplace_back("dev", object.dev);
  if (!object.wwn.empty()) rows.emplace_back("wwn", object.wwn);
  if (key.plugin == model::Plugin::fileio) rows.emplace_back("aio", flag(object.aio));
  if (key.plugin == model::Plugin::block) rows.emplace_back("readonly", flag(object.readonly));
  if (key.plugin == model::Plugin::fileio || key.plugin == model::Plugin::block)
    rows.emplace_back("write_back", flag(object.write_back));
  if (key.plugin == model::Plugin::ramdisk && object.nullio) rows.emplace_back("nullio", flag(true));
  if (key.plugin == model::Plugin::fileio || key.plugin == model::Plugin::ramdisk) {
    const auto size = call.administration.size_of(key);
    rows.emplace_back("size", std::to_string(size ? *size : object.size_bytes));
  }
  std::sort(rows.begin(), rows.end());
  for (const auto& [name, value] : rows) {
    call.say(name + ": " + value);
    call.data[name] = value;
  }
  return {};
}

Outcome run_storage_version(Call& call) {
  call.say(fmt::format("Backstore plugin {} v{}", model::to_string(call.node.storage.plugin),
                       call.administration.version()));
  return {};
}

Outcome run_alua_create(Call& call) {
  const std::string& name = call.arguments.at("name");
  const std::string& text = call.arguments.at("tag");
  const auto tag = parse_index(text, "");
  if (!tag || *tag == 0)
    return refuse("'" + text + "' is no tag of an ALUA group; give a number from 1 to 65535");
  const model::AluaGroupKey key{call.node.storage, name};
  model::AluaGroup group;
  group.id = *tag;
  auto done = call.commit_and_say({model::add<model::AluaGroup>(key, std::move(group))},
                                  {"Created ALUA TPG " + name + "."});
  if (done) call.enter(model::path_of(key));
  return done;
}

Outcome run_alua_delete(Call& call) {
  const model::AluaGroupKey key{call.node.storage, call.arguments.at("name")};
  if (call.configuration().find<model::AluaGroup>(key) == nullptr) {
    return refuse("There is no ALUA group " + key.name + " in " + call.node.path, "`ls` lists them");
  }
  if (key.name == model::default_alua_group) {
    return refuse("The ALUA group " + key.name + " stays as long as its storage object",
                  "delete the storage object");
  }
  return call.commit_and_say(model::removal_of(call.configuration(), key), {});
}

tl::expected<model::StorageKey, Refusal> object_for_path(Call& call, const std::string& word,
                                                         model::Changes& changes,
                                                         std::vector<std::string>& lines) {
  const std::string path = file_path(call, word);
  if (const auto key = call.configuration().by_dev(path)) return *key;
  const FileProbe probe = call.administration.probe(path);
  Draft draft;
  if (probe.kind == FileProbe::Kind::block) {
    draft = {{model::Plugin::block, name_for_path(path)}, {}};
    draft.object.dev = path;
    if (auto ready = prepare_block(call, draft); !ready) return tl::unexpected<Refusal>(ready.error());
  } else if (probe.kind == FileProbe::Kind::regular) {
    FileioCreate create(call);
    if (auto ready = create.prepare(name_for_path(path), path); !ready)
      return tl::unexpected<Refusal>(ready.error());
    draft = create.draft();
  } else {
    return refuse("storage object or path not valid",
                  word + ": name a storage object (/backstores/fileio/NAME), a file or a block device");
  }
  add_draft(draft, changes);
  lines.push_back("Created storage object " + draft.key.name + ".");
  return draft.key;
}

}  // namespace perilune::cli::targetcli
