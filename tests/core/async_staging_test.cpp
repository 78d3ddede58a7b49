// SPDX-License-Identifier: Apache-2.0
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <set>
#include <thread>

#include "async/staging_memory.h"
#include "async/task_thread.h"
#include "ckptio/error.h"
#include "support/catch.h"
#include "support/gate.h"
#include "support/random_seed.h"

namespace ckptio::test {
namespace {

using detail::StagingBuffer;
using detail::StagingCopy;
using detail::StagingMemory;
using detail::TaskThread;
using detail::WorkerPool;

TEST_CASE("A pool does every part once, with as many threads as it was told, and again after a stop", "[async]") {
  for (const std::size_t n_threads : {0, 1, 2, 5}) {
    WorkerPool pool(n_threads);
    for (const std::size_t n_parts : {0, 1, 2, 3, 100}) {
      std::vector<std::atomic<int>> done(n_parts);
      pool.run(n_parts, [&](std::size_t i) { ++done[i]; });
      CHECK(std::all_of(done.begin(), done.end(), [](const auto& times) { return times == 1; }));
    }
    pool.stop();
    std::atomic<int> n_done = 0;
    pool.run(10, [&](std::size_t) { ++n_done; });
    CHECK(n_done == 10);
  }
}

TEST_CASE("The threads of a pool work at once", "[async]") {
  WorkerPool pool(3);
  Gate gate;
  pool.run(3, [&](std::size_t i) {  // would never end if one thread did all
    if (i == 0) {
      gate.await_arrivals(2);
      gate.open();
    } else {
      gate.pass();
    }
  });
}

TEST_CASE("Copies of every size arrive, whatever the number of threads", "[async]") {
  std::mt19937 random(random_seed());
  constexpr std::size_t kMiB = 1 << 20;
  const std::size_t sizes[] = {0, 1, 63, 64, 65, 4096, 4 * kMiB - 1, 4 * kMiB, 9 * kMiB + 5, 0, 7};
  const auto memory = std::make_shared<StagingMemory>(1);
  for (const std::size_t n_threads : {1, 2, 4}) {
    WorkerPool pool(n_threads);
    std::vector<std::string> sources;
    for (const std::size_t size : sizes) {
      sources.push_back(std::string(size, '\0'));
      std::generate(sources.back().begin(), sources.back().end(), [&] { return static_cast<char>(random()); });
    }
    std::shuffle(sources.begin(), sources.end(), random);
    std::vector<StagingCopy> copies;
    std::size_t end = 0;
    for (const std::string& source : sources) {
      copies.push_back({source.empty() ? nullptr : source.data(), source.size(), end});
      end = detail::align_staging(end + source.size());
    }
    const auto buffer = memory->acquire(end);
    detail::copy_to(*buffer, copies, pool);
    for (std::size_t i = 0; i < copies.size(); ++i) {
      CHECK(std::memcmp(buffer->data() + copies[i].offset, sources[i].data(), sources[i].size()) == 0);
    }
  }
}

TEST_CASE("Staging memory is used again", "[async]") {
  const auto memory = std::make_shared<StagingMemory>(1);
  const char* first = memory->acquire(10'000'000)->data();
  CHECK(memory->n_kept() == 1);
  CHECK(memory->acquire(10'000'000)->data() == first);
  CHECK(memory->acquire(5)->data() == first);
  memory->free_kept();
  CHECK(memory->n_kept() == 0);
  CHECK(memory->acquire(5)->capacity() < 10'000);
}

TEST_CASE("Staging memory that someone still refers to is not used again", "[async]") {
  const auto memory = std::make_shared<StagingMemory>(1);
  const auto held = memory->acquire(4096);
  const auto other = memory->acquire(4096);
  CHECK(held->data() != other->data());
}

TEST_CASE("No more buffers are kept than asked for", "[async]") {
  const auto memory = std::make_shared<StagingMemory>(2);
  { const auto a = memory->acquire(1), b = memory->acquire(1), c = memory->acquire(1); }
  CHECK(memory->n_kept() == 2);
}

TEST_CASE("The buffer that fits is taken, else the largest grows", "[async]") {
  for (const bool small_first : {false, true}) {
    const auto memory = std::make_shared<StagingMemory>(2);
    {
      const auto a = memory->acquire(small_first ? 4096 : 100'000'000);
      const auto b = memory->acquire(small_first ? 100'000'000 : 4096);
    }
    CHECK(memory->acquire(5000)->capacity() >= 100'000'000);
    CHECK(memory->acquire(4000)->capacity() == 4096);
    CHECK(memory->acquire(200'000'000)->capacity() >= 200'000'000);
    CHECK(memory->acquire(4000)->capacity() == 4096);
  }
}

TEST_CASE("A buffer may outlive the staging memory", "[async]") {
  auto memory = std::make_shared<StagingMemory>(1);
  const auto buffer = memory->acquire(4096);
  memory.reset();
  buffer->data()[4095] = 1;
}

TEST_CASE("Memory that cannot be had is an IoError", "[async]") {
  const auto memory = std::make_shared<StagingMemory>(1);
  CHECK_THROWS_AS(memory->acquire(std::size_t{1} << 60), IoError);
  CHECK_THROWS_AS(memory->acquire(SIZE_MAX), IoError);
  CHECK_NOTHROW(memory->acquire(4096));
}

#ifdef __linux__
TEST_CASE("Memory that was prefaulted is there", "[async]") {
  constexpr std::size_t kBytes = 9'000'000;
  const auto memory = std::make_shared<StagingMemory>(1);
  const auto buffer = memory->acquire(kBytes);
  WorkerPool pool(2);
  detail::prefault(*buffer, kBytes, pool);
  std::vector<unsigned char> is_there((kBytes + 4095) / 4096);
  REQUIRE(::mincore(buffer->data(), kBytes, is_there.data()) == 0);
  CHECK(std::all_of(is_there.begin(), is_there.end(), [](unsigned char page) { return (page & 1) != 0; }));
}
#endif

TEST_CASE("Tasks run in order on one thread, which stops and starts", "[async]") {
  TaskThread thread("test");
  thread.stop();
  std::vector<int> numbers;
  std::set<std::thread::id> ids;
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 50; ++i) {
      thread.post([&, i] {
        numbers.push_back(i);
        ids.insert(std::this_thread::get_id());
      });
    }
    thread.stop();
    CHECK(numbers.size() == 50u * static_cast<unsigned>(round + 1));
    CHECK(std::is_sorted(numbers.end() - 50, numbers.end()));
  }
  CHECK_FALSE(ids.contains(std::this_thread::get_id()));
}

TEST_CASE("What a task holds is gone before the next task runs", "[async]") {
  TaskThread thread("test");
  const auto held = std::make_shared<int>(1);
  long n_owners = 0;
  thread.post([held] {});
  thread.post([&] { n_owners = held.use_count(); });
  thread.stop();
  CHECK(n_owners == 1);
}

}  // namespace
}  // namespace ckptio::test
