// SPDX-License-Identifier: Apache-2.0
// ckptio_exit_child FILE HOW: ends while a save is pending that appends "saved" to FILE, once main is through.
//   return  main returns            exit    std::exit         thread  another thread calls std::exit
//   worker  the save calls std::exit                          fork    std::exit after a fork, in both processes
//   late    main returns; the save needs a static object that it makes itself
//   error   main returns; the save fails                      stuck   main returns; the save never ends
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <thread>

#include "async/save_queue.h"

namespace {

using namespace ckptio::detail;

std::atomic<bool> main_is_through = false;
std::atomic<bool> late_is_made = false, late_is_alive = true;

struct Late {
  Late() { late_is_made = true; }
  ~Late() { late_is_alive = false; }
};

void need_late() { static const Late late; }

struct Save : SaveSteps {
  std::string file, how;
  void stage(SaveProgress&) override {}
  void write(SaveProgress&) override {
    if (how == "late") need_late();
    if (how == "worker") std::exit(7);
    while (!main_is_through || how == "stuck") std::this_thread::sleep_for(std::chrono::milliseconds(1));
    std::this_thread::sleep_for(std::chrono::milliseconds(50));  // time for a process that does not wait to be gone
    if (how == "error") throw std::runtime_error("no space left");
    std::FILE* out = std::fopen(file.c_str(), "a");
    std::fputs(late_is_alive ? "saved" : "too late", out);
    std::fclose(out);
  }
};

int run(const std::string& file, const std::string& how) {
  SaveQueueOptions options;
  if (how == "stuck") options.drain_timeout = std::chrono::milliseconds(20);
  static SaveQueue& queue = *new SaveQueue(options);  // nobody destroys it, yet it is no leak
  queue.add("run/last.ckpt", [&](SaveProgress&) {
    auto save = std::make_unique<Save>();
    save->file = file;
    save->how = how;
    return save;
  });
  if (how == "worker") std::this_thread::sleep_for(std::chrono::hours(1));
  while (how == "late" && !late_is_made) std::this_thread::yield();
  int result = 7;
  if (how == "fork") {
    const pid_t child = ::fork();
    if (child == 0) std::exit(3);
    int status = 0;
    ::waitpid(child, &status, 0);
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 3) result = 1;
  }
  main_is_through = true;
  if (how == "exit" || how == "fork") std::exit(result);
  if (how == "thread") std::thread([result] { std::exit(result); }).join();
  return result;
}

}  // namespace

int main(int argc, char* argv[]) {
  if (argc != 3) return 2;
  return run(argv[1], argv[2]);
}
