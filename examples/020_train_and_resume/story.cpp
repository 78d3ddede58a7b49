// SPDX-License-Identifier: Apache-2.0
#include "story.h"

#include <spawn.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <iostream>

#include "ckptio/load_checkpoint.h"
#include "compare.h"

extern char** environ;

namespace fs = std::filesystem;

namespace {

constexpr double kRequiredAccuracy = 0.97;

// Runs this program again, as a process of its own. Returns its exit code, or minus the signal that killed it.
int run_child(const std::string& program, const std::string& folder, const std::string& mishap = "") {
  std::vector<std::string> arguments{program, "train", folder};
  if (!mishap.empty()) arguments.push_back(mishap);
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  std::cout << std::flush;
  pid_t pid = 0;
  // /proc/self/exe: this very file, wherever the working folder and the path are.
  const char* self = fs::exists("/proc/self/exe") ? "/proc/self/exe" : argv[0];
  if (posix_spawn(&pid, self, nullptr, nullptr, argv.data(), environ) != 0)
    throw std::runtime_error("cannot start " + program);
  int status = 0;
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

void expect(int result, int expected, const std::string& what) {
  if (result != expected) {
    throw std::runtime_error(what + ": the child ended with " + std::to_string(result) + ", expected " +
                             std::to_string(expected));
  }
}

void list_files(const std::string& run) {
  std::vector<fs::directory_entry> entries;
  for (const char* folder : {"/best", "/last"}) {
    if (!fs::exists(run + folder)) continue;
    entries.insert(entries.end(), fs::directory_iterator(run + folder), {});
  }
  std::sort(entries.begin(), entries.end(),
            [](const auto& a, const auto& b) { return a.last_write_time() < b.last_write_time(); });
  for (const auto& entry : entries) {
    std::cout << "    " << entry.path().string() << "  " << entry.file_size() << " bytes\n";
  }
}

void print_comparison(const std::vector<Comparison>& comparisons) {
  std::printf("  %-18s %8s %8s %9s\n", "", "tensors", "bytes", "values");
  for (const Comparison& each : comparisons) {
    std::printf("  %-18s %8lld %8lld %9lld   %s\n", each.key.c_str(), static_cast<long long>(each.n_tensors),
                static_cast<long long>(each.n_bytes), static_cast<long long>(each.n_values),
                each.differences.empty() ? "equal" : "DIFFERENT:");
    for (const std::string& place : each.differences) std::printf("      %s\n", place.c_str());
  }
  std::fflush(stdout);
}

bool all_equal(const std::vector<Comparison>& comparisons) {
  return std::all_of(comparisons.begin(), comparisons.end(), [](const auto& each) { return each.differences.empty(); });
}

double accuracy(const ckptio::Checkpoint& checkpoint) {
  return checkpoint.at("loops")
      .at("fit_loop")
      .at("ckptio")
      .at("metrics")
      .at("callback_metrics")
      .at("val_acc")
      .as<double>();
}

}  // namespace

int tell_story(const std::string& program, const std::string& folder) {
  const std::string unbroken = folder + "/unbroken", broken = folder + "/broken";
  fs::remove_all(unbroken);
  fs::remove_all(broken);

  std::cout << "1. A run that nothing disturbs, in " << fs::absolute(unbroken).string() << "\n";
  expect(run_child(program, unbroken), 0, "the unbroken run");

  std::cout << "\n2. The same run in " << fs::absolute(broken).string()
            << ", killed in the middle of its third epoch\n";
  expect(run_child(program, broken, "step=110"), -SIGKILL, "the run to be killed in an epoch");
  std::cout << "  killed by SIGKILL after step 110. What it left:\n";
  list_files(broken);

  std::cout << "\n3. Started again, and killed in the middle of its third save\n";
  expect(run_child(program, broken, "save=3"), -SIGKILL, "the run to be killed in a save");
  std::cout << "  killed by SIGKILL half through a file. What it left:\n";
  list_files(broken);

  std::cout << "\n4. Started again, to the end\n";
  expect(run_child(program, broken), 0, "the last run");

  std::cout << "\nBoth final checkpoints, bit for bit:\n";
  const auto a = ckptio::load_checkpoint(unbroken + "/final.ckpt"), b = ckptio::load_checkpoint(broken + "/final.ckpt");
  const auto comparisons = compare(a, b);
  print_comparison(comparisons);

  std::cout << "\nThe broken run's checkpoints:\n";
  list_files(broken);
  std::printf("\nvalidation accuracy %.2f %% (unbroken) and %.2f %% (killed twice); at least %.0f %% expected\n",
              100 * accuracy(a), 100 * accuracy(b), 100 * kRequiredAccuracy);
  const bool good = all_equal(comparisons) && accuracy(b) >= kRequiredAccuracy;
  std::printf("%s\n", good ? "The runs are equal." : "FAILED");
  return good ? 0 : 1;
}
