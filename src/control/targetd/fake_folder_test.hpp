// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "control/targetd/state_folder.hpp"

namespace perilune::control::targetd {

// A folder of a machine that loses power: what was not synced may be there afterwards, or not, or in part.
class FakeFolder : public StateFolder {
 public:
  // What a loss of power leaves of unsynced data, and of unsynced names.
  enum class Data { lost, kept, zeroed };
  enum class Names { lost, kept };

  // The power goes when this many operations and bytes have been done; from then on all fails.
  std::size_t power = SIZE_MAX;
  // Counts operations; the one with this number fails once, halfway.
  std::size_t failing_operation = SIZE_MAX;
  std::size_t operations = 0;

  [[nodiscard]] std::unique_ptr<FakeFolder> after_power_loss(Data data, Names names) const {
    auto left = std::make_unique<FakeFolder>();
    for (const auto& [name, file] : names == Names::kept ? names_ : durable_names_) {
      auto copy = std::make_shared<File>();
      copy->data = data == Data::lost ? file->durable : file->data;
      if (data == Data::zeroed && file->data.starts_with(file->durable)) {
        for (std::size_t i = file->durable.size(); i < copy->data.size(); ++i) copy->data[i] = '\0';
      }
      copy->durable = copy->data;
      left->names_[name] = copy;
    }
    left->durable_names_ = left->names_;
    return left;
  }
  [[nodiscard]] bool has(const std::string& name) const { return names_.contains(name); }
  std::string& text(const std::string& name) { return names_.at(name)->data; }
  void put(const std::string& name, std::string text) {
    auto file = std::make_shared<File>();
    file->data = file->durable = std::move(text);
    names_[name] = durable_names_[name] = file;
  }
  void erase(const std::string& name) {
    names_.erase(name);
    durable_names_.erase(name);
  }

  Result<std::string> read(const std::string& name, std::size_t max_bytes) override {
    const auto at = names_.find(name);
    if (at == names_.end()) return fail(Errc::not_found, "no file " + name);
    if (at->second->data.size() > max_bytes) return fail(Errc::limit, "long");
    return at->second->data;
  }
  Status write(const std::string& name, std::string_view text) override {
    if (!step()) return broken();
    names_[name] = std::make_shared<File>();
    return put_bytes(*names_[name], text);
  }
  Status append(const std::string& name, std::string_view text) override {
    if (!names_.contains(name)) return fail(Errc::not_found, "no file " + name);
    if (!step()) {
      names_[name]->data += text.substr(0, text.size() / 2);
      return broken();
    }
    return put_bytes(*names_[name], text);
  }
  Status truncate(const std::string& name, std::size_t size) override {
    if (!step()) return broken();
    names_.at(name)->data.resize(size);
    return {};
  }
  Status sync(const std::string& name) override {
    if (!step()) return broken();
    names_.at(name)->durable = names_.at(name)->data;
    return {};
  }
  Status rename(const std::string& from, const std::string& to) override {
    if (!step()) return broken();
    names_[to] = names_.at(from);
    names_.erase(from);
    return {};
  }
  Status remove(const std::string& name) override {
    if (!step()) return broken();
    names_.erase(name);
    return {};
  }
  Result<std::vector<std::string>> list() override {
    std::vector<std::string> names;
    for (const auto& [name, file] : names_) names.push_back(name);
    return names;
  }
  Status sync_folder() override {
    if (!step()) return broken();
    durable_names_ = names_;
    return {};
  }

 private:
  struct File {
    std::string data;
    std::string durable;
  };
  bool step() {
    if (power > 0 && power != SIZE_MAX) --power;
    return operations++ != failing_operation && power > 0;
  }
  static tl::unexpected<Error> broken() { return fail(Errc::io, "the disk is broken"); }
  Status put_bytes(File& file, std::string_view text) {
    const std::size_t taken = std::min(text.size(), power);
    file.data += text.substr(0, taken);
    if (power != SIZE_MAX) power -= taken;
    return power > 0 ? Status{} : broken();
  }

  std::map<std::string, std::shared_ptr<File>> names_;
  std::map<std::string, std::shared_ptr<File>> durable_names_;
};

}  // namespace perilune::control::targetd
