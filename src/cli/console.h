// SPDX-License-Identifier: Apache-2.0
// What the tool writes to: standard output, coloured on a terminal alone, and a counter for long work on a terminal's
// standard error. One thread at a time.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace ckptio::cli {

enum class Style { plain, name, type, faint, good, bad };

// Standard output.
class Console {
 public:
  Console();  // colours where a terminal shows them, and NO_COLOR is not set
  explicit Console(bool colours);
  ~Console();

  void write(std::string_view text);
  void line(std::string_view text) { write(text), write("\n"); }
  std::string paint(Style style, std::string_view text) const;

  // Writes out what is pending. IoError if not all of it could be written: a full disk.
  void flush();

 private:
  bool colours_;
};

// "reading model.ckpt: 1.2 GB of 4.0 GB, 30%", from the second second on.
class Progress {
 public:
  Progress(std::string what, std::uint64_t n_bytes_in_all);
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  ~Progress();

  void add(std::uint64_t n_bytes);
  std::function<void(std::uint64_t)> adder() {
    return [this](std::uint64_t n_bytes) { add(n_bytes); };
  }

 private:
  using Clock = std::chrono::steady_clock;
  std::string what_;
  std::uint64_t n_all_, n_done_ = 0;
  bool on_terminal_, is_shown_ = false;
  Clock::time_point next_;
};

}  // namespace ckptio::cli
