// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <map>
#include <thread>

#include "async/save_queue.h"
#include "async/written_signal.h"
#include "ckptio/error.h"
#include "support/captured_stderr.h"
#include "support/catch.h"
#include "support/gate.h"
#include "support/random_seed.h"

namespace ckptio::test {
namespace {

using detail::SaveProgress;
using detail::SaveQueue;
using detail::SaveSteps;

class Log {
 public:
  void add(const std::string& line) {
    const std::scoped_lock lock(mutex_);
    lines_.push_back(line);
  }
  std::vector<std::string> lines() const {
    const std::scoped_lock lock(mutex_);
    return lines_;
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> lines_;
};

struct Steps : SaveSteps {
  std::function<void()> on_stage = [] {}, on_write = [] {}, on_end = [] {};
  ~Steps() override { on_end(); }
  void stage(SaveProgress&) override { on_stage(); }
  void write(SaveProgress&) override { on_write(); }
};

SaveFuture add(
    SaveQueue& queue, const std::string& path, std::function<void()> write, std::function<void()> stage = [] {}) {
  return SaveFuture(queue.add(path, [&](SaveProgress&) {
    auto steps = std::make_unique<Steps>();
    steps->on_stage = stage;
    steps->on_write = write;
    return steps;
  }));
}

SaveFuture add_failing(SaveQueue& queue, const std::string& message = "disk full") {
  return add(queue, "a", [message] { throw IoError(message, ENOSPC); });
}

TEST_CASE("Saves are written in the order in which they came, each after it was staged", "[async]") {
  SaveQueue queue({.max_pending = 3});
  Log log;
  for (const std::string name : {"a", "b", "c", "d", "e"}) {
    add(
        queue, name, [&log, name] { log.add("write " + name); }, [&log, name] { log.add("stage " + name); });
  }
  queue.wait();
  std::vector<std::string> staged, written;
  for (const std::string& line : log.lines()) (line.starts_with("stage") ? staged : written).push_back(line);
  CHECK(staged == std::vector<std::string>{"stage a", "stage b", "stage c", "stage d", "stage e"});
  CHECK(written == std::vector<std::string>{"write a", "write b", "write c", "write d", "write e"});
}

TEST_CASE("A save goes on while the caller does", "[async]") {
  SaveQueue queue({});
  Gate gate;
  const SaveFuture save = add(queue, "run/a", [&] { gate.pass(); });
  gate.await_arrivals(1);
  CHECK(save.is_ready(SaveStage::Staged));
  CHECK_FALSE(save.is_ready());
  CHECK_FALSE(save.wait_for(std::chrono::nanoseconds(0)));
  gate.open();
  save.wait();
  CHECK(save.is_ready());
  CHECK(save.path() == "run/a");
}

TEST_CASE("A save beyond max_pending waits until one is done, and tells how long", "[async]") {
  SaveQueue queue({});
  Log log;
  Gate gate;
  add(queue, "a", [&] {
    gate.pass();
    log.add("a is written");
  });
  gate.await_arrivals(1);
  std::thread caller([&] {
    const SaveFuture save(queue.add("b", [&](SaveProgress&) {
      log.add("b is prepared");
      return std::make_unique<Steps>();
    }));
    const auto stalled = save.timing().stalled;
    CHECK(stalled.count() > 0);
    save.wait();
    CHECK(save.timing().staging >= stalled);
  });
  gate.open();
  caller.join();
  CHECK(log.lines() == std::vector<std::string>{"a is written", "b is prepared"});
}

TEST_CASE("The time that a caller waits for a stage counts as stalled", "[async]") {
  const auto progress = std::make_shared<SaveProgress>("a");
  const SaveFuture save(progress);
  CHECK_FALSE(save.wait_for(std::chrono::milliseconds(1), SaveStage::Staged));
  const auto stalled = save.timing().stalled;
  CHECK(stalled >= std::chrono::milliseconds(1));
  progress->reach(SaveStage::Durable);
  save.wait();  // without waiting
  CHECK(save.timing().stalled == stalled);
}

TEST_CASE("A save is staged while another is written", "[async]") {
  SaveQueue queue({.max_pending = 2});
  Gate gate;
  add(queue, "a", [&] { gate.pass(); });
  const SaveFuture b = add(queue, "b", [] {});
  b.wait(SaveStage::Staged);
  CHECK_FALSE(b.is_ready());
  gate.open();
  b.wait();
}

TEST_CASE("What a save holds is gone when it is done", "[async]") {
  SaveQueue queue({});
  std::atomic<int> n_alive = 0;
  for (const bool fails : {false, true}) {
    const SaveFuture save(queue.add("a", [&](SaveProgress&) {
      auto steps = std::make_unique<Steps>();
      ++n_alive;
      steps->on_end = [&] { --n_alive; };
      if (fails) steps->on_write = [] { throw IoError("no"); };
      return steps;
    }));
    try {
      save.wait();
    } catch (const IoError&) {
    }
    CHECK(n_alive == 0);
  }
}

TEST_CASE("An error that the future threw surfaces nowhere else", "[async]") {
  SaveQueue queue({});
  const SaveFuture save = add_failing(queue);
  CHECK_THROWS_AS(save.wait(), IoError);
  CHECK_THROWS_WITH(save.wait(), "disk full");  // the future itself may be asked again
  CHECK_NOTHROW(queue.throw_error());
  CHECK_NOTHROW(add(queue, "b", [] {}).wait());
}

TEST_CASE("An error that no future threw surfaces in the next call, once, and that call does nothing else", "[async]") {
  SaveQueue queue({});
  add_failing(queue);
  bool was_prepared = false;
  const auto prepare = [&](SaveProgress&) {
    was_prepared = true;
    return std::make_unique<Steps>();
  };
  try {
    queue.add("b", prepare);
    FAIL("no error");
  } catch (const IoError& error) {
    CHECK(error.error_number() == ENOSPC);
  }
  CHECK_FALSE(was_prepared);
  CHECK_NOTHROW(queue.add("b", prepare));
  CHECK(was_prepared);
  CHECK_NOTHROW(queue.stop());
  CHECK_NOTHROW(queue.throw_error());
}

TEST_CASE("Every error of several surfaces, the oldest first", "[async]") {
  SaveQueue queue({.max_pending = 3});
  Gate gate;
  add(queue, "a", [&] {
    gate.pass();
    throw IoError("first");
  });
  add(queue, "b", [] { throw ValueError("second"); });
  add(queue, "c", [] { throw 3; });  // whatever a plugin throws
  gate.open();
  queue.wait();
  CHECK_THROWS_WITH(queue.throw_error(), "first");
  CHECK_THROWS_AS(queue.throw_error(), ValueError);
  CHECK_THROWS_AS(queue.throw_error(), int);
  CHECK_NOTHROW(queue.throw_error());
}

TEST_CASE("A save that fails while it is staged is not written", "[async]") {
  SaveQueue queue({});
  bool was_written = false;
  const SaveFuture save = add(
      queue, "a", [&] { was_written = true; }, [] { throw ValueError("changed"); });
  CHECK_THROWS_AS(save.wait(SaveStage::Staged), ValueError);
  queue.stop();
  CHECK_FALSE(was_written);
}

TEST_CASE("A save that cannot be prepared is not pending", "[async]") {
  SaveQueue queue({});
  for (int i = 0; i < 3; ++i) {
    CHECK_THROWS_AS(queue.add("a", [](SaveProgress&) -> std::unique_ptr<SaveSteps> { throw TypeError("no"); }),
                    TypeError);
  }
  CHECK_NOTHROW(queue.throw_error());
  CHECK_NOTHROW(add(queue, "b", [] {}).wait());
}

TEST_CASE("A queue that was stopped can be used again", "[async]") {
  SaveQueue queue({});
  std::atomic<int> n_written = 0;
  for (int i = 0; i < 3; ++i) {
    add(queue, "a", [&] { ++n_written; });
    queue.stop();
    CHECK(n_written == i + 1);
  }
}

TEST_CASE("A queue finishes what is pending when it is destroyed, and tells errors on stderr", "[async]") {
  const CapturedStderr captured;
  std::atomic<int> n_written = 0;
  {
    SaveQueue queue({.max_pending = 3});
    add(queue, "run/a", [&] { ++n_written; });
    add_failing(queue, "no space");
    add(queue, "run/b", [&] { ++n_written; });
  }
  CHECK(n_written == 2);
  CHECK(captured.text() == "ckptio: the save of 'a' failed: no space\n");
}

TEST_CASE("The destructor gives up after drain_timeout, and says what was not finished", "[async]") {
  const CapturedStderr captured;
  const auto gate = std::make_shared<Gate>(), all_gone = std::make_shared<Gate>();
  {
    SaveQueue queue({.max_pending = 2, .drain_timeout = std::chrono::nanoseconds(0)});
    queue.add("run/stuck", [&](SaveProgress&) {
      auto steps = std::make_unique<Steps>();
      steps->on_stage = [gate] { gate->pass(); };  // then it still goes to the other thread
      steps->on_end = [all_gone] { all_gone->open(); };
      return steps;
    });
    gate->await_arrivals(1);
  }
  CHECK_THAT(captured.text(), ContainsSubstring("gave up after 0 s") && ContainsSubstring("'run/stuck'"));
  gate->open();
  all_gone->pass();
}

TEST_CASE("A drain_timeout may be as long as it likes", "[async]") {
  const CapturedStderr captured;
  std::atomic<bool> was_written = false;
  {
    SaveQueue queue({.drain_timeout = std::chrono::nanoseconds::max()});
    add(queue, "a", [&was_written] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      was_written = true;
    });
  }
  CHECK(was_written);
  CHECK(captured.text() == "");
}

TEST_CASE("A queue refuses options that make no sense", "[async]") {
  CHECK_THROWS_AS(SaveQueue({.max_pending = 0}), ValueError);
  CHECK_THROWS_AS(SaveQueue({.drain_timeout = std::chrono::seconds(-1)}), ValueError);
}

TEST_CASE("Written comes before Durable where the writer tells it, and the timing has both parts", "[async]") {
  SaveQueue queue({});
  Gate gate;
  const SaveFuture save(queue.add("a", [&](SaveProgress&) {
    struct Telling : SaveSteps {
      Gate& gate;
      explicit Telling(Gate& given) : gate(given) {}
      void stage(SaveProgress&) override {}
      void write(SaveProgress& progress) override {
        detail::timed_save(progress, [this] {
          detail::signal_written();
          gate.pass();
        });
      }
    };
    return std::make_unique<Telling>(gate);
  }));
  save.wait(SaveStage::Written);
  CHECK_FALSE(save.is_ready());
  gate.open();
  save.wait();
  const SaveTiming timing = save.timing();
  CHECK(timing.staging.count() > 0);
  CHECK(timing.writing.count() > 0);
  CHECK(timing.flushing.count() > 0);
}

// The errors that surface, by their messages.
class Tally {
 public:
  template <class Action>
  void watch(Action action) {
    try {
      action();
    } catch (const ValueError& error) {
      const std::scoped_lock lock(mutex_);
      ++seen_[error.what()];
    }
  }
  const std::map<std::string, int>& seen() const { return seen_; }

 private:
  std::mutex mutex_;
  std::map<std::string, int> seen_;
};

TEST_CASE("However calls of several threads mix, nothing is lost, and no error surfaces in two calls", "[async]") {
  std::mt19937 seeds(random_seed());
  for (int round = 0; round < 30; ++round) {
    const std::size_t max_pending = 1 + seeds() % 3;
    Tally in_calls, in_futures;
    std::atomic<std::size_t> n_alive = 0, n_most = 0;
    std::atomic<int> n_written = 0, n_added = 0, n_failing = 0;
    SaveQueue queue({.max_pending = max_pending});
    const auto one_save = [&](std::mt19937& random, const std::string& name) {
      const unsigned fate = random() % 6;
      SaveFuture save(queue.add("a", [&](SaveProgress&) {
        if (fate == 5) throw TypeError("not prepared");
        auto steps = std::make_unique<Steps>();
        const std::size_t alive = ++n_alive;
        for (std::size_t most = n_most; alive > most && !n_most.compare_exchange_weak(most, alive);) {
        }
        steps->on_end = [&] { --n_alive; };
        if (fate == 0) steps->on_stage = [name] { throw ValueError(name); };
        steps->on_write = [&n_written, fate, name] {
          if (fate == 1) throw ValueError(name);
          ++n_written;
        };
        ++n_added;
        if (fate < 2) ++n_failing;
        return steps;
      }));
      if (random() % 3 == 0) in_futures.watch([&] { save.wait(static_cast<SaveStage>(random() % 3)); });
      if (random() % 8 == 0) in_futures.watch([&] { save.wait_for(std::chrono::microseconds(random() % 100)); });
    };
    std::vector<std::thread> threads;
    for (int t = 0; t < 3; ++t) {
      threads.emplace_back([&, t, seed = seeds()] {
        std::mt19937 random(seed);
        for (int i = 0; i < 20; ++i) {
          in_calls.watch([&] {
            try {
              one_save(random, std::to_string(t) + "." + std::to_string(i));
            } catch (const TypeError&) {
            }
          });
          if (random() % 10 == 0) queue.wait();
          if (random() % 10 == 0) in_calls.watch([&] { queue.throw_error(); });
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    queue.stop();
    for (int i = 0; i < 100; ++i) in_calls.watch([&] { queue.throw_error(); });
    CHECK(n_alive == 0);
    CHECK(n_most <= max_pending);
    CHECK(n_written == n_added - n_failing);
    // A future throws whenever it is asked, also what a call of another thread has thrown.
    std::map<std::string, int> seen = in_futures.seen();
    for (const auto& [name, times] : in_calls.seen()) {
      INFO(name);
      CHECK(times == 1);
      seen[name] += times;
    }
    CHECK(seen.size() == static_cast<std::size_t>(n_failing));
  }
}

}  // namespace
}  // namespace ckptio::test
