// SPDX-License-Identifier: Apache-2.0
// A gate that threads wait at until a test opens it: what happens in the background happens when the test wants it.
#pragma once

#include <condition_variable>
#include <mutex>

namespace ckptio::test {

class Gate {
 public:
  explicit Gate(bool is_open = false) : is_open_(is_open) {}
  void open() { set(true); }
  void close() { set(false); }
  void pass() {
    std::unique_lock lock(mutex_);
    ++n_arrived_;
    changed_.notify_all();
    changed_.wait(lock, [this] { return is_open_; });
  }
  // Returns when `n` came to the gate, over all time.
  void await_arrivals(int n) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return n_arrived_ >= n; });
  }

 private:
  void set(bool open) {
    {
      const std::scoped_lock lock(mutex_);
      is_open_ = open;
    }
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_open_;
  int n_arrived_ = 0;
};

}  // namespace ckptio::test
