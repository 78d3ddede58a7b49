// SPDX-License-Identifier: Apache-2.0
#include "race.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "ckptio/decorators/async_checkpoint_io.h"
#include "ckptio/state.h"
#include "plugins.h"
#include "raw_io.h"

namespace ckptio::bench {

namespace {

// A step of a training loop lasts so many times what copying its state does.
constexpr double kStepsCopies = 3;

void compute_for(double seconds) {
  volatile double sum = 0;
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (std::chrono::steady_clock::now() < end) {
    for (int i = 0; i < 1000; ++i) sum = sum * 0.5 + i;
  }
}

// One operation of one plugin beside its limits. Its files are removed with it.
class Race {
 public:
  Race(const Workload& workload, const RaceOptions& options)
      : workload_(workload),
        options_(options),
        path_(options.folder + "/ckptio_bench.ckpt"),
        raw_path_(options.folder + "/ckptio_bench.raw"),
        n_bytes_(workload.n_bytes()) {
    state_.add("state_dict", workload.module());
    checkpoint_ = state_.state_dict();
    io_ = make_plugin(options.plugin, options.n_threads, options.op == "durable");
    operations().at(options.op).second(*this);
  }
  Race(const Race&) = delete;
  Race& operator=(const Race&) = delete;
  ~Race() {
    ::unlink(path_.c_str());
    ::unlink(raw_path_.c_str());
  }

  Result run(ContestOptions options) {
    options.settle_bytes = n_bytes_ + n_bytes_ / 2;
    const Outcome outcome = hold(contenders_, options);
    const std::vector<double>& times = outcome.median_s;
    const auto best = std::min_element(times.begin() + 1, times.end());
    const std::uint64_t growth = outcome.peak_growth_bytes;
    return {n_bytes_, times.front(), contenders_[static_cast<std::size_t>(best - times.begin())].name, *best,
            growth > 0 ? workload_.n_bytes() + growth : 0};
  }

  using Operation = std::pair<std::string, std::function<void(Race&)>>;
  static const std::map<std::string, Operation>& operations();

 private:
  void ours(std::function<void()> run, std::function<void()> before = {}, std::function<void()> after = {}) {
    against("ckptio", std::move(run), std::move(before), std::move(after));
  }
  // Names of what the limits do: they stand in the output.
  void against(std::string name, std::function<void()> run, std::function<void()> before = {},
               std::function<void()> after = {}) {
    contenders_.push_back(
        {std::move(name), [run = std::move(run)] { return seconds_of(run); }, std::move(before), std::move(after)});
  }
  // With memory_, which is there only meanwhile: it must not count as ours.
  void against_in_memory(std::string name, std::function<void()> run, std::function<void()> before = {}) {
    const auto take_memory = [this, before = std::move(before)] {
      memory_ = Memory(n_bytes_);
      cut_memory();
      if (before) before();
    };
    against(std::move(name), std::move(run), take_memory, [this] { drop_memory(); });
  }
  void drop_memory() { memory_ = Memory(); }

  void save_file() { make_plugin(options_.plugin, options_.n_threads, false)->save_checkpoint(checkpoint_, path_); }

  void save() {
    ours([this] { io_->save_checkpoint(checkpoint_, path_); }, {}, [this] { ::unlink(path_.c_str()); });
    if (workload_.is_small()) return against_one_write("write", Flush::none);
    against_write("pwrite", 1, Flush::none);
    if (options_.n_threads > 1) against_write("pwrite side by side", options_.n_threads, Flush::none);
  }

  void save_durably() {
    ours([this] { io_->save_checkpoint(checkpoint_, path_); }, {}, [this] { ::unlink(path_.c_str()); });
    if (workload_.is_small()) {
      against_one_write("write + fdatasync", Flush::fdatasync);
    } else {
      against_write("write + fdatasync", options_.n_threads, Flush::fdatasync);
    }
    if (!can_write_directly(options_.folder)) return;
    for (const DirectWay way : direct_ways()) {
      against(
          "O_DIRECT + fdatasync" + describe(way), [this, way] { write_direct(raw_path_, n_bytes_, way); }, {},
          [this] { ::unlink(raw_path_.c_str()); });
    }
  }

  // Large parts by the threads asked for, and smaller ones by as many as keep any disk busy.
  std::vector<DirectWay> direct_ways() const {
    return {{std::size_t{4} << 20, options_.n_threads}, {std::size_t{1} << 20, 12}};
  }
  static std::string describe(DirectWay way) {
    return ", " + std::to_string(way.n_threads) + " x " + std::to_string(way.part_bytes >> 20) + " MiB";
  }

  void against_write(const std::string& name, std::size_t n_threads, Flush flush) {
    against(
        name, [=, this] { write_file(raw_path_, workload_.bytes(), n_threads, flush); }, {},
        [this] { ::unlink(raw_path_.c_str()); });
  }
  // Of all tensors, gathered.
  void against_one_write(const std::string& name, Flush flush) {
    against(
        name, [=, this] { write_file(raw_path_, {memory_.bytes()}, 1, flush); }, [this] { memory_ = Memory(n_bytes_); },
        [this] {
          drop_memory();
          ::unlink(raw_path_.c_str());
        });
  }

  enum class Stall : std::uint8_t { first, later, overlapped };

  void save_in_background(Stall stall) {
    const auto make_ready = [this, stall] {
      if (stall == Stall::overlapped) given_away_ = checkpoint_;
      if (async_ && stall != Stall::first) return;
      async_ =
          std::make_unique<AsyncCheckpointIO>(io_, AsyncCheckpointIOOptions{.n_staging_threads = options_.n_threads});
      async_->reserve(checkpoint_);
      // It is made ready in the background, by a few GB in a second.
      std::this_thread::sleep_for(std::chrono::milliseconds(200 + n_bytes_ / 1'000'000));
    };
    const auto finish = [this] {
      future_.wait();
      ::unlink(path_.c_str());
    };
    contenders_.push_back({"ckptio", [this, stall] { return stalled(stall); }, make_ready, finish});
    against_in_memory("memcpy into touched memory", [this] { time_memcpy(); });
  }

  // As in the Trainer: the checkpoint is made for the save, and handed over; the next batch is computed while the state
  // is copied, and before the optimizer changes it, the loop waits for what is left to copy.
  double stalled(Stall stall) {
    const double calling = seconds_of([this, stall] {
      future_ = stall == Stall::overlapped ? async_->hand_over_checkpoint(std::move(given_away_), path_)
                                           : async_->async_save_checkpoint(checkpoint_, path_);
    });
    if (stall == Stall::overlapped) compute_for(kStepsCopies * memcpy_s_);
    return calling + seconds_of([this] { future_.wait(SaveStage::Staged); });
  }

  void time_memcpy() {
    memcpy_s_ = seconds_of([this] { copy(workload_.bytes(), memory_.bytes().data, options_.n_threads); });
  }

  void load(LoadOptions options, bool is_cold) {
    save_file();
    ours([this, options] { loaded_ = io_->load_checkpoint(path_, options); }, when(is_cold),
         [this] { loaded_.reset(); });
  }

  std::function<void()> when(bool is_cold) const {
    if (!is_cold) return {};
    return [this] { evict(path_); };
  }

  void load_new() {
    load({}, false);
    if (workload_.is_small()) return against_reads_one_by_one();
    against(
        "read into new huge pages",
        [this] {
          memory_ = Memory(n_bytes_, false);
          read_file(path_, {memory_.bytes()}, options_.n_threads, ReadInto::memory);
        },
        {}, [this] { drop_memory(); });
  }

  void map() {
    load({.mmap = true, .verify = false}, false);
    against_in_memory("read", [this] { read_all(ReadInto::memory); });
  }

  void load_cold() {
    load({}, true);
    against_cold_reads(1);
  }

  // One read of the file, or two.
  void against_cold_reads(int n_passes) {
    const std::string again = n_passes == 1 ? "" : ", and a second one";
    const auto each_pass = [n_passes](auto read) {
      return [n_passes, read] {
        for (int pass = 0; pass < n_passes; ++pass) read();
      };
    };
    against_in_memory("read" + again, each_pass([this] { read_all(ReadInto::memory); }), when(true));
    if (!can_write_directly(options_.folder)) return;
    for (const DirectWay way : direct_ways()) {
      against("O_DIRECT read" + describe(way) + again, each_pass([this, way] { read_direct(path_, n_bytes_, way); }),
              when(true));
    }
  }

  void load_part() {
    const std::string wanted = "state_dict." + middle_name();
    load({.filter = [wanted](const std::string& name) { return name == wanted; }}, false);
    n_bytes_ = workload_.bytes()[workload_.bytes().size() / 2].n_bytes;
    against_in_memory("read of that tensor",
                      [this] { read_file(path_, {memory_.bytes()}, options_.n_threads, ReadInto::memory); });
  }

  std::string middle_name() const {
    const auto parameters = workload_.module().named_parameters();
    return parameters[parameters.size() / 2].key();
  }

  void restore_cold(LoadOptions options) {
    restore(options, true);
    against_cold_reads(options.transactional ? 2 : 1);
  }

  void restore(LoadOptions options, bool is_cold) {
    save_file();
    options.state = &state_;
    const auto load = [this, options] {
      const auto rest = io_->load_checkpoint(path_, options);
      if (rest && rest->contains("state_dict")) state_.load_state_dict(*rest);  // by plugins that cannot in place
    };
    ours(load, when(is_cold));
  }

  void restore_warm(LoadOptions options) {
    restore(options, false);
    if (workload_.is_small()) return against_reads_one_by_one();
    if (!options.verify) return against_in_memory("read", [this] { read_all(ReadInto::memory); });
    if (!options.transactional) {
      return against_in_memory("read + CRC-32", [this] { read_all(ReadInto::memory_and_check); });
    }
    against_in_memory("read + CRC-32, and a second read", [this] {
      read_all(ReadInto::check_only);
      read_all(ReadInto::memory);
    });
  }

  void against_reads_one_by_one() {
    against_in_memory("a read each", [this] { read_one_by_one(path_, pieces_); });
  }

  void read_all(ReadInto into) { read_file(path_, pieces_, options_.n_threads, into); }

  // As the tensors are. Not theirs: limits read other bytes of the file than belong there.
  void cut_memory() {
    pieces_.clear();
    char* at = memory_.bytes().data;
    for (const Bytes& bytes : workload_.bytes()) {
      pieces_.push_back({at, bytes.n_bytes});
      at += bytes.n_bytes;
    }
  }

  const Workload& workload_;
  const RaceOptions options_;
  const std::string path_, raw_path_;
  std::uint64_t n_bytes_;
  State state_;
  Checkpoint checkpoint_;  // made once, as other libraries are given theirs
  std::shared_ptr<CheckpointIO> io_;
  Checkpoint given_away_;  // a copy for each save
  std::unique_ptr<AsyncCheckpointIO> async_;
  SaveFuture future_;
  std::optional<Checkpoint> loaded_;
  double memcpy_s_ = 0;
  Memory memory_;
  std::vector<Bytes> pieces_;
  std::vector<Contender> contenders_;
};

const std::map<std::string, Race::Operation>& Race::operations() {
  static const std::map<std::string, Operation> operations = {
      {"save", {"save into the page cache", [](Race& r) { r.save(); }}},
      {"durable", {"save that survives a power cut", [](Race& r) { r.save_durably(); }}},
      {"async_first",
       {"what the first save in the background keeps the caller waiting, after reserve()",
        [](Race& r) { r.save_in_background(Stall::first); }}},
      {"async",
       {"what a later save in the background keeps the caller waiting",
        [](Race& r) { r.save_in_background(Stall::later); }}},
      {"async_overlap",
       {"the same where a batch is computed meanwhile, as in the Trainer",
        [](Race& r) { r.save_in_background(Stall::overlapped); }}},
      {"load", {"load into new tensors", [](Race& r) { r.load_new(); }}},
      {"map", {"map the file, unverified", [](Race& r) { r.map(); }}},
      {"inplace", {"restore in place, all checked before anything changes", [](Race& r) { r.restore_warm({}); }}},
      {"inplace_one_pass",
       {"restore in place, checked meanwhile", [](Race& r) { r.restore_warm({.transactional = false}); }}},
      {"inplace_unverified", {"restore in place, unchecked", [](Race& r) { r.restore_warm({.verify = false}); }}},
      {"cold", {"load into new tensors from the disk", [](Race& r) { r.load_cold(); }}},
      {"cold_inplace",
       {"restore in place from the disk, all checked before anything changes", [](Race& r) { r.restore_cold({}); }}},
      {"cold_inplace_one_pass",
       {"restore in place from the disk, checked meanwhile",
        [](Race& r) { r.restore_cold({.transactional = false}); }}},
      {"partial", {"load one tensor", [](Race& r) { r.load_part(); }}},
  };
  return operations;
}

}  // namespace

const std::vector<std::string>& op_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const auto& [name, operation] : Race::operations()) all.push_back(name);
    return all;
  }();
  return names;
}

std::string describe_op(const std::string& op) { return Race::operations().at(op).first; }

Result race(const Workload& workload, const RaceOptions& options, const ContestOptions& contest) {
  return Race(workload, options).run(contest);
}

}  // namespace ckptio::bench
