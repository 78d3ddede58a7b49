// SPDX-License-Identifier: Apache-2.0
// ckptio_bench: what saves and loads take, beside what the machine's own limit is, measured in the same run.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ckptio/error.h"
#include "engine/io_engine.h"
#include "plugins.h"
#include "race.h"

namespace {

using namespace ckptio::bench;

struct Options {
  std::vector<std::string> workloads{"big", "adam", "small"};
  std::vector<std::string> plugins{"python"};
  std::vector<std::string> ops = op_names();
  int n_repeats = 5;
  double scale = 1;
  std::string folder = std::filesystem::temp_directory_path().string();
  std::size_t n_threads = ckptio::detail::default_io_threads();
  bool json = false;
  bool lockstep = false;
};

std::string operations_text() {
  std::string text = "Operations:\n";
  for (const std::string& op : op_names())
    text += "  " + op + std::string(23 - op.size(), ' ') + describe_op(op) + "\n";
  return text +
         "\nEach is run in turns with its limit, on tensors of the CPU. The ratio is ours / the limit's, the peak"
         " the state and the\nmost memory that ours held beside it.";
}

void print_row(const std::string& workload, const RaceOptions& race, const Result& result) {
  std::printf("%-14s %-22s %-12s %7zu %9.1f %10.2f   %-44s %10.2f %7.2f %9.1f\n", workload.c_str(), race.op.c_str(),
              race.plugin.c_str(), race.n_threads, static_cast<double>(result.n_bytes) / 1e6, result.median_s * 1e3,
              result.limit.c_str(), result.limit_median_s * 1e3, result.median_s / result.limit_median_s,
              static_cast<double>(result.peak_rss_bytes) / 1e6);
}

void print_json(const std::string& workload, const RaceOptions& race, const Result& result) {
  const nlohmann::ordered_json line = {{"workload", workload},
                                       {"op", race.op},
                                       {"plugin", race.plugin},
                                       {"threads", race.n_threads},
                                       {"n_bytes", result.n_bytes},
                                       {"median_s", result.median_s},
                                       {"limit", result.limit},
                                       {"limit_median_s", result.limit_median_s},
                                       {"ratio", result.median_s / result.limit_median_s},
                                       {"peak_rss_bytes", result.peak_rss_bytes}};
  std::printf("%s\n", line.dump().c_str());
}

void wait_for_turn() {
  std::printf("ready\n");
  std::fflush(stdout);
  for (int c = std::getchar(); c != '\n'; c = std::getchar()) {
    if (c == EOF) throw ckptio::IoError("--lockstep: no more lines on stdin");
  }
}

void run(const Options& options) {
  std::filesystem::create_directories(options.folder);
  if (!options.json) {
    std::printf("%-14s %-22s %-12s %7s %9s %10s   %-44s %10s %7s %9s\n", "workload", "op", "plugin", "threads", "MB",
                "median ms", "limit", "limit ms", "ratio", "peak MB");
  }
  for (const std::string& name : options.workloads) {
    const Workload workload(name, options.scale);
    for (const std::string& plugin : options.plugins) {
      for (const std::string& op : options.ops) {
        const RaceOptions race_options{plugin, op, options.folder, options.n_threads};
        ContestOptions contest{.n_repeats = options.n_repeats};
        if (options.lockstep) contest.before_round = wait_for_turn;
        const Result result = race(workload, race_options, contest);
        (options.json ? print_json : print_row)(name, race_options, result);
        std::fflush(stdout);
      }
    }
  }
}

}  // namespace

int main(int n_arguments, char** arguments) {
  Options options;
  CLI::App app("Measures saves and loads of checkpoints against the limits of this machine, in one run",
               "ckptio_bench");
  app.footer(operations_text());
  app.add_option("--workload", options.workloads,
                 "big: 64 tensors of 16 MiB; adam: GPT-2 small with Adam's moments, 1.5 GB; small: 20,000 tensors of "
                 "1 KiB; COUNTxBYTES")
      ->capture_default_str();
  app.add_option("--plugin", options.plugins)->check(CLI::IsMember(plugin_names()))->capture_default_str();
  app.add_option("--op", options.ops, "See below; all of them if none is named")->check(CLI::IsMember(op_names()));
  app.add_option("--repeat", options.n_repeats, "Runs of each; the median counts")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--scale", options.scale, "So many times as many tensors")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_option("--dir", options.folder, "Where the files are made, and removed")->capture_default_str();
  app.add_option("--threads", options.n_threads, "Of the plugin, and of the limits")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  app.add_flag("--json", options.json, "A line of JSON for each measurement");
  app.add_flag("--lockstep", options.lockstep, "Before each round says `ready` and waits for a line on stdin");
  CLI11_PARSE(app, n_arguments, arguments);
  try {
    run(options);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "ckptio_bench: %s\n", error.what());
    return 1;
  }
  return 0;
}
