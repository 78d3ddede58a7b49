// SPDX-License-Identifier: Apache-2.0
#include "async/exit_drain.h"

#include <unistd.h>

#ifdef __linux__
#include <sys/syscall.h>
#else
#include <pthread.h>
#endif

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <vector>

namespace ckptio::detail {

namespace {

// For a process that another thread ends. Each takes memory: enough for what the first saves of a process make.
constexpr int kMaxRegistrations = 64;

struct Registry {
  std::mutex mutex;
  std::vector<std::weak_ptr<Drainable>> works;
  int n_registrations = 0;
};

// Never destroyed: it is used while the process ends.
Registry& registry() {
  static Registry& instance = *new Registry;
  return instance;
}

void drain_all() {
  std::vector<std::weak_ptr<Drainable>> works;
  {
    Registry& all = registry();
    const std::scoped_lock lock(all.mutex);
    works = all.works;
  }
  for (const auto& each : works) {
    if (const auto work = each.lock()) work->drain();
  }
}

bool is_main_thread() {
#ifdef __linux__
  return ::syscall(SYS_gettid) == ::getpid();
#else
  return ::pthread_main_np() != 0;
#endif
}

// A process that ends first destroys what is local to the thread that ends it, which is nearly always the main one, and
// then all else that is static, latest first, as functions of atexit() are called. So a drain here comes before
// anything that a save may use is gone, however late it was made.
struct MainThreadEnd {
  bool is_used = false;
  ~MainThreadEnd() {
    if (is_used) drain_all();
  }
};
thread_local MainThreadEnd main_thread_end;

}  // namespace

void drain_at_exit(const std::shared_ptr<Drainable>& work) {
  if (is_main_thread()) main_thread_end.is_used = true;
  Registry& all = registry();
  const std::scoped_lock lock(all.mutex);
  std::erase_if(all.works, [](const auto& each) { return each.expired(); });
  const bool is_known = std::any_of(all.works.begin(), all.works.end(), [&](const auto& each) {
    return !each.owner_before(work) && !work.owner_before(each);
  });
  if (!is_known) all.works.push_back(work);
  if (all.n_registrations < kMaxRegistrations && std::atexit(drain_all) == 0) ++all.n_registrations;
}

}  // namespace ckptio::detail
