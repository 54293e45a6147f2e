// SPDX-License-Identifier: Apache-2.0
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>

#include "cli/targetcli/client.hpp"

#ifdef PERILUNE_HAS_LIBEDIT
#include <histedit.h>
#endif

namespace perilune::cli::targetcli {
namespace {

class PlainLines final : public LineSource {
 public:
  std::optional<std::string> next(const std::string& prompt) override {
    std::fputs(prompt.c_str(), stdout);
    std::fflush(stdout);
    std::string line;
    if (!std::getline(std::cin, line)) return std::nullopt;
    return line;
  }
};

#ifdef PERILUNE_HAS_LIBEDIT

constexpr int kept_lines = 1000;

class EditedLines final : public LineSource {
 public:
  explicit EditedLines(std::string file)
      : file_(std::move(file)),
        history_(::history_init()),
        edit_(::el_init("targetcli", stdin, stdout, stderr)) {
    HistEvent event;
    ::history(history_, &event, H_SETSIZE, kept_lines);
    ::history(history_, &event, H_SETUNIQUE, 1);
    if (!file_.empty()) ::history(history_, &event, H_LOAD, file_.c_str());
    ::el_set(edit_, EL_CLIENTDATA, this);
    ::el_set(edit_, EL_PROMPT, &EditedLines::prompt_of);
    ::el_set(edit_, EL_EDITOR, "emacs");
    ::el_set(edit_, EL_HIST, ::history, history_);
    ::el_set(edit_, EL_SIGNAL, 1);
    ::el_set(edit_, EL_ADDFN, "complete-path", "Completes what stands before the cursor",
             &EditedLines::complete_key);
    ::el_set(edit_, EL_BIND, "^I", "complete-path", nullptr);
    ::el_set(edit_, EL_BIND, "^R", "em-inc-search-prev", nullptr);
  }
  ~EditedLines() override {
    ::el_end(edit_);
    ::history_end(history_);
  }
  EditedLines(const EditedLines&) = delete;
  EditedLines& operator=(const EditedLines&) = delete;

  std::optional<std::string> next(const std::string& prompt) override {
    prompt_ = prompt;
    int count = 0;
    const char* const text = ::el_gets(edit_, &count);
    if (text == nullptr || count <= 0) return std::nullopt;
    std::string line(text, static_cast<std::size_t>(count));
    while (line.ends_with('\n') || line.ends_with('\r')) line.pop_back();
    remember(line);
    return line;
  }
  void set_completion(Complete complete) override { complete_ = std::move(complete); }

 private:
  static EditedLines& of(EditLine* edit) {
    void* self = nullptr;
    ::el_get(edit, EL_CLIENTDATA, &self);
    return *static_cast<EditedLines*>(self);
  }
  static char* prompt_of(EditLine* edit) { return of(edit).prompt_.data(); }
  static unsigned char complete_key(EditLine* edit, int) { return of(edit).complete(); }

  // A secret does not go to a file.
  void remember(const std::string& line) {
    if (line.empty() || line.find("password=") != std::string::npos) return;
    HistEvent event;
    ::history(history_, &event, H_ENTER, line.c_str());
    if (!file_.empty()) ::history(history_, &event, H_SAVE, file_.c_str());
  }

  unsigned char complete() {
    const LineInfo* const info = ::el_line(edit_);
    const std::string before(info->buffer, static_cast<std::size_t>(info->cursor - info->buffer));
    const Completion completion = complete_ ? complete_(before) : Completion{};
    if (completion.words.empty() || completion.start > before.size()) return CC_REFRESH_BEEP;
    const std::string typed = before.substr(completion.start);
    std::string common = completion.words.front().text;
    for (const Candidate& word : completion.words) {
      const auto end = std::mismatch(common.begin(), common.end(), word.text.begin(), word.text.end()).first;
      common.erase(end, common.end());
    }
    const bool only = completion.words.size() == 1;
    if (only && !common.ends_with('/') && !common.ends_with('=')) common += ' ';
    if (common.size() > typed.size() && common.starts_with(typed)) {
      ::el_insertstr(edit_, common.substr(typed.size()).c_str());
      return CC_REFRESH;
    }
    show(completion);
    return CC_REDISPLAY;
  }

  static void show(const Completion& completion) {
    std::size_t width = 0;
    for (const Candidate& word : completion.words) width = std::max(width, word.text.size());
    std::fputs("\n", stdout);
    for (const Candidate& word : completion.words) {
      std::printf("%-*s  %s\n", static_cast<int>(width), word.text.c_str(), word.help.c_str());
    }
  }

  std::string file_;
  std::string prompt_;
  Complete complete_;
  History* history_;
  EditLine* edit_;
};

#endif

}  // namespace

std::unique_ptr<LineSource> open_line_source([[maybe_unused]] const std::string& history) {
#ifdef PERILUNE_HAS_LIBEDIT
  if (::isatty(STDIN_FILENO) != 0 && ::isatty(STDOUT_FILENO) != 0)
    return std::make_unique<EditedLines>(history);
#endif
  return std::make_unique<PlainLines>();
}

}  // namespace perilune::cli::targetcli
