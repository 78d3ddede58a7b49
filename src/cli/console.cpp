// SPDX-License-Identifier: Apache-2.0
#include "cli/console.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "ckptio/error.h"
#include "cli/text.h"

namespace ckptio::cli {
namespace {

using namespace std::chrono_literals;

constexpr auto kBeforeFirst = 1s;  // short work shows nothing
constexpr auto kBetween = 200ms;

bool is_dumb() {
  const char* terminal = std::getenv("TERM");
  return terminal == nullptr || std::strcmp(terminal, "dumb") == 0;
}

bool wants_colours() {
  const char* no_colour = std::getenv("NO_COLOR");  // https://no-color.org
  return isatty(STDOUT_FILENO) == 1 && !is_dumb() && (no_colour == nullptr || *no_colour == '\0');
}

}  // namespace

Console::Console() : Console(wants_colours()) {}
Console::Console(bool colours) : colours_(colours) {}
Console::~Console() { std::fflush(stdout); }

void Console::write(std::string_view text) { std::fwrite(text.data(), 1, text.size(), stdout); }

std::string Console::paint(Style style, std::string_view text) const {
  static constexpr const char* kCodes[] = {"", "\x1b[1m", "\x1b[36m", "\x1b[2m", "\x1b[32m", "\x1b[31m"};
  if (!colours_ || style == Style::plain || text.empty()) return std::string(text);
  return kCodes[static_cast<std::size_t>(style)] + std::string(text) + "\x1b[0m";
}

void Console::flush() {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return;
  throw IoError(std::string("cannot write to standard output: ") + std::strerror(errno), errno);
}

Progress::Progress(std::string what, std::uint64_t n_bytes_in_all)
    : what_(std::move(what)),
      n_all_(n_bytes_in_all),
      on_terminal_(isatty(STDERR_FILENO) == 1 && !is_dumb()),
      next_(Clock::now() + kBeforeFirst) {}

Progress::~Progress() {
  if (is_shown_) std::fputs("\r\x1b[2K", stderr);
}

void Progress::add(std::uint64_t n_bytes) {
  n_done_ += n_bytes;
  if (!on_terminal_ || Clock::now() < next_) return;
  next_ = Clock::now() + kBetween;
  is_shown_ = true;
  const std::uint64_t percent = n_all_ == 0 ? 100 : std::min<std::uint64_t>(100, n_done_ * 100 / n_all_);
  const std::string text = "\r\x1b[2K" + what_ + ": " + size_text(std::min(n_done_, n_all_)) + " of " +
                           size_text(n_all_) + ", " + std::to_string(percent) + "%";
  std::fputs(text.c_str(), stderr);
}

}  // namespace ckptio::cli
