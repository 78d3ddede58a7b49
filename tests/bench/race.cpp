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
#include "ckptio/formats/python_checkpoint_io.h"
#include "ckptio/formats/safetensors_checkpoint_io.h"
#include "ckptio/formats/torch_checkpoint_io.h"
#include "ckptio/state.h"
#include "ckptio/storage/local_storage.h"

namespace ckptio::bench {

namespace {

std::shared_ptr<CheckpointIO> make_plugin(const std::string& name, std::size_t n_threads, bool durable) {
  const auto storage = std::make_shared<LocalStorage>(LocalStorageOptions{.durable = durable});
  if (name == "torch") return std::make_shared<TorchCheckpointIO>(storage);
  if (name == "python") {
    return std::make_shared<PythonCheckpointIO>(PythonCheckpointIOOptions{.storage = storage, .n_threads = n_threads});
  }
  return std::make_shared<SafetensorsCheckpointIO>(
      SafetensorsCheckpointIOOptions{.storage = storage, .n_threads = n_threads});
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
    io_ = make_plugin(options.plugin, options.n_threads, options.op == "durable");
    operations().at(options.op).second(*this);
  }
  Race(const Race&) = delete;
  Race& operator=(const Race&) = delete;
  ~Race() {
    ::unlink(path_.c_str());
    ::unlink(raw_path_.c_str());
  }

  Result run(int n_repeats) {
    const std::vector<Timing> timings = time_all(contenders_, n_repeats, n_bytes_ + n_bytes_ / 2);
    std::size_t best = 1;
    for (std::size_t i = 2; i < timings.size(); ++i) {
      if (timings[i].median_s < timings[best].median_s) best = i;
    }
    return {n_bytes_, timings[0].median_s, contenders_[best].name, timings[best].median_s, timings[0].peak_rss_bytes};
  }

  using Operation = std::pair<std::string, std::function<void(Race&)>>;
  static const std::map<std::string, Operation>& operations();

 private:
  // Names of what the limits do: they stand in the output.
  void against(std::string name, std::function<void()> run, std::function<void()> before = {},
               std::function<void()> after = {}) {
    contenders_.push_back({std::move(name), std::move(run), std::move(before), std::move(after)});
  }
  void ours(std::function<void()> run, std::function<void()> before = {}, std::function<void()> after = {}) {
    against("ckptio", std::move(run), std::move(before), std::move(after));
  }

  Checkpoint checkpoint() const { return state_.state_dict(); }
  void save_file() { make_plugin(options_.plugin, options_.n_threads, false)->save_checkpoint(checkpoint(), path_); }

  void save() {
    ours([this] { io_->save_checkpoint(checkpoint(), path_); }, {}, [this] { ::unlink(path_.c_str()); });
    if (workload_.is_small()) {
      gathered_ = Memory(n_bytes_);
      against_write("write", {gathered_.bytes()}, 1, Flush::none);
      return;
    }
    against_write("pwrite", workload_.bytes(), 1, Flush::none);
    if (options_.n_threads > 1) {
      against_write("pwrite side by side", workload_.bytes(), options_.n_threads, Flush::none);
    }
  }

  void save_durably() {
    ours([this] { io_->save_checkpoint(checkpoint(), path_); }, {}, [this] { ::unlink(path_.c_str()); });
    gathered_ = Memory(workload_.is_small() ? n_bytes_ : 1);
    against_write("write + fdatasync", workload_.is_small() ? std::vector<Bytes>{gathered_.bytes()} : workload_.bytes(),
                  options_.n_threads, Flush::fdatasync);
    if (can_write_directly(options_.folder)) {
      against_write("O_DIRECT + fdatasync", workload_.bytes(), options_.n_threads, Flush::direct);
    }
  }

  void against_write(const std::string& name, const std::vector<Bytes>& content, std::size_t n_threads, Flush flush) {
    against(
        name, [=, this] { write_file(raw_path_, content, n_threads, flush); }, {},
        [this] { ::unlink(raw_path_.c_str()); });
  }

  void save_in_background(bool is_first) {
    ours(
        [this] {
          future_ = async_->async_save_checkpoint(checkpoint(), path_);
          future_.wait(SaveStage::Staged);
        },
        [this, is_first] {
          if (async_ && !is_first) return;
          async_ = std::make_unique<AsyncCheckpointIO>(
              io_, AsyncCheckpointIOOptions{.n_staging_threads = options_.n_threads});
          async_->reserve(checkpoint());
          // It is made ready in the background, by a few GB in a second.
          std::this_thread::sleep_for(std::chrono::milliseconds(200 + n_bytes_ / 1'000'000));
        },
        [this] {
          future_.wait();
          ::unlink(path_.c_str());
        });
    against(
        "memcpy into touched memory", [this] { copy(workload_.bytes(), gathered_.bytes().data, options_.n_threads); },
        [this] { gathered_ = Memory(n_bytes_); }, [this] { gathered_ = Memory(); });
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
          gathered_ = Memory(n_bytes_, false);
          read_file(path_, {gathered_.bytes()}, options_.n_threads, ReadInto::memory);
        },
        {}, [this] { gathered_ = Memory(); });
  }

  void map() {
    load({.mmap = true, .verify = false}, false);
    against("read", [this] { read_all(ReadInto::memory); });
  }

  void load_cold() {
    load({}, true);
    against(
        "read", [this] { read_all(ReadInto::memory); }, when(true));
    if (!can_write_directly(options_.folder)) return;
    against(
        "O_DIRECT read", [this] { read_direct(path_, n_bytes_, options_.n_threads); }, when(true));
  }

  void load_part() {
    const std::string wanted = "state_dict." + middle_name();
    load({.filter = [wanted](const std::string& name) { return name == wanted; }}, false);
    const Bytes bytes = workload_.bytes()[workload_.bytes().size() / 2];
    n_bytes_ = bytes.n_bytes;
    against("read of that tensor", [this, bytes] { read_file(path_, {bytes}, options_.n_threads, ReadInto::memory); });
  }

  std::string middle_name() const {
    const auto buffers = workload_.module().named_buffers();
    return buffers[buffers.size() / 2].key();
  }

  void restore(LoadOptions options) {
    save_file();
    options.state = &state_;
    ours([this, options] {
      const auto rest = io_->load_checkpoint(path_, options);
      if (rest && rest->contains("state_dict")) state_.load_state_dict(*rest);  // by plugins that cannot in place
    });
    if (workload_.is_small()) return against_reads_one_by_one();
    if (!options.verify) return against("read", [this] { read_all(ReadInto::memory); });
    if (!options.transactional) return against("read + CRC-32", [this] { read_all(ReadInto::memory_and_check); });
    against("read + CRC-32, and a second read", [this] {
      read_all(ReadInto::check_only);
      read_all(ReadInto::memory);
    });
  }

  void against_reads_one_by_one() {
    against("a read each", [this] { read_one_by_one(path_, memory_of_tensors()); });
  }

  void read_all(ReadInto into) { read_file(path_, memory_of_tensors(), options_.n_threads, into); }

  // Memory that is there, cut as the tensors are. Not theirs: limits read other bytes of the file than belong there.
  const std::vector<Bytes>& memory_of_tensors() {
    if (!tensor_memory_.empty()) return tensor_memory_;
    gathered_ = Memory(n_bytes_);
    char* at = gathered_.bytes().data;
    for (const Bytes& bytes : workload_.bytes()) {
      tensor_memory_.push_back({at, bytes.n_bytes});
      at += bytes.n_bytes;
    }
    return tensor_memory_;
  }

  const Workload& workload_;
  const RaceOptions options_;
  const std::string path_, raw_path_;
  std::uint64_t n_bytes_;
  State state_;
  std::shared_ptr<CheckpointIO> io_;
  std::unique_ptr<AsyncCheckpointIO> async_;
  SaveFuture future_;
  std::optional<Checkpoint> loaded_;
  Memory gathered_;
  std::vector<Bytes> tensor_memory_;
  std::vector<Contender> contenders_;
};

const std::map<std::string, Race::Operation>& Race::operations() {
  static const std::map<std::string, Operation> operations = {
      {"save", {"save into the page cache", [](Race& r) { r.save(); }}},
      {"durable", {"save that survives a power cut", [](Race& r) { r.save_durably(); }}},
      {"async_first",
       {"what the first save in the background keeps the caller waiting, after reserve()",
        [](Race& r) { r.save_in_background(true); }}},
      {"async",
       {"what a later save in the background keeps the caller waiting", [](Race& r) { r.save_in_background(false); }}},
      {"load", {"load into new tensors", [](Race& r) { r.load_new(); }}},
      {"map", {"map the file, unverified", [](Race& r) { r.map(); }}},
      {"inplace", {"restore in place, all checked before anything changes", [](Race& r) { r.restore({}); }}},
      {"inplace_one_pass",
       {"restore in place, checked meanwhile", [](Race& r) { r.restore({.transactional = false}); }}},
      {"inplace_unverified", {"restore in place, unchecked", [](Race& r) { r.restore({.verify = false}); }}},
      {"cold", {"load into new tensors from the disk", [](Race& r) { r.load_cold(); }}},
      {"partial", {"load one tensor", [](Race& r) { r.load_part(); }}},
  };
  return operations;
}

}  // namespace

const std::vector<std::string>& plugin_names() {
  static const std::vector<std::string> names = {"torch", "python", "safetensors"};
  return names;
}

const std::vector<std::string>& op_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const auto& [name, operation] : Race::operations()) all.push_back(name);
    return all;
  }();
  return names;
}

std::string describe_op(const std::string& op) { return Race::operations().at(op).first; }

Result race(const Workload& workload, const RaceOptions& options, int n_repeats) {
  return Race(workload, options).run(n_repeats);
}

}  // namespace ckptio::bench
