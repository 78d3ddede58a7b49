// SPDX-License-Identifier: Apache-2.0
// Runs that are resumed within an epoch, by the loader they train on: those that keep a state go on in it, and those
// that may not give the same batches again are named.
#include <atomic>

#include "ckptio/trainer/stateful_data_loader.h"
#include "small_run.h"
#include "support/catch.h"
#include "support/same_bits.h"

namespace ckptio::test {
namespace {

using torch::data::DataLoaderOptions;
using torch::data::transforms::Stack;
namespace samplers = torch::data::samplers;

constexpr std::int64_t kEpochs = 2;
constexpr std::int64_t kStepsPerEpoch = 6;  // 22 points in batches of 4
constexpr std::int64_t kSteps = kEpochs * kStepsPerEpoch;

// How many samples the copies of a dataset have fetched.
using Counter = std::shared_ptr<std::atomic<std::int64_t>>;

class CountedPoints : public torch::data::datasets::Dataset<CountedPoints> {
 public:
  CountedPoints(Counter counter, double noise) : counter_(std::move(counter)), points_(noise) {}
  Example get(size_t index) override {
    ++*counter_;
    return points_.get(index);
  }
  torch::optional<size_t> size() const override { return points_.size(); }

 private:
  Counter counter_;
  NoisyPoints points_;
};

struct Noise : torch::data::transforms::Transform<Example, Example> {
  Example apply(Example example) override { return example; }
  Example apply(Example example, at::Generator& generator) {
    return {example.data + 0.1 * torch::randn({2}, generator), example.target};
  }
};

// Noise from the default generator.
struct DefaultNoise {
  template <class Sampler = RandomSampler>
  static auto make(const Counter& counter, std::size_t workers) {
    return make_stateful_data_loader<Sampler>(CountedPoints(counter, 0.1).map(Stack<>()),
                                              DataLoaderOptions(4).workers(workers));
  }
};

// Noise from the batch's generator.
struct SeededNoise {
  template <class Sampler = RandomSampler>
  static auto make(const Counter& counter, std::size_t workers) {
    return make_stateful_data_loader<Sampler>(CountedPoints(counter, 0).map(Noise()).map(Stack<>()),
                                              DataLoaderOptions(4).workers(workers));
  }
};

struct Finished {
  std::shared_ptr<SmallNet> net;
  Checkpoint checkpoint;
  std::map<std::string, double> metrics;
  std::int64_t n_fetched = 0;
};

template <class Noise, class Sampler = RandomSampler>
Finished train(TrainerOptions options, std::size_t workers, const std::optional<std::string>& ckpt_path = {}) {
  const auto net = make_net();
  torch::manual_seed(ckpt_path ? 12345 : 2);
  const Counter counter = std::make_shared<std::atomic<std::int64_t>>(0);
  auto loader = Noise::template make<Sampler>(counter, workers);
  auto val_loader = make_loader(8);
  Trainer trainer(std::move(options));
  trainer.fit(net, loader, val_loader, ckpt_path);
  CHECK(trainer.n_train_batches().has_value());
  return {net, trainer.dump_checkpoint(), trainer.callback_metrics(), counter->load()};
}

// Keeps the warnings among what a Trainer prints.
auto keep_warnings(std::vector<std::string>& warnings) {
  return [&warnings](std::string_view line) {
    if (line.starts_with("You're resuming")) warnings.emplace_back(line);
  };
}

std::string step_path(std::int64_t step) { return "step=" + std::to_string(step); }

std::shared_ptr<Callback> save_each_step() {
  return std::make_shared<AfterStep>(
      [step = 0](Trainer& trainer) mutable { trainer.save_checkpoint(step_path(++step)); });
}

void check_same(const Finished& resumed, const Finished& unbroken, std::int64_t n_left) {
  CHECK(first_difference(resumed.checkpoint, unbroken.checkpoint) == "");
  CHECK(resumed.metrics == unbroken.metrics);
  const auto& seen = resumed.net->seen;
  const auto& all = unbroken.net->seen;
  REQUIRE(std::ssize(seen) == n_left);
  for (std::size_t i = 0; i < seen.size(); ++i) CHECK(same_bits(seen[i], all[all.size() - seen.size() + i]));
}

// At each step of `n_steps`; the batches that were done are not fetched again.
template <class Noise, class Sampler = RandomSampler>
void check_resumes(std::size_t workers, std::int64_t n_steps = kSteps, BatchLimit limit = {}) {
  const auto io = std::make_shared<CountingIO>();
  std::vector<std::string> printed;
  const auto options = [&](std::vector<std::shared_ptr<Callback>> callbacks) {
    TrainerOptions result = quiet(kEpochs, io, std::move(callbacks));
    result.limit_train_batches = limit;
    result.print = keep_warnings(printed);
    return result;
  };
  const Finished unbroken = train<Noise, Sampler>(options({save_each_step()}), workers);
  REQUIRE(io->n_saves == n_steps);
  for (std::int64_t step = 1; step <= n_steps; ++step) {
    INFO("resumed after step " << step << ", " << workers << " workers");
    const Finished resumed = train<Noise, Sampler>(options({}), workers, step_path(step));
    check_same(resumed, unbroken, n_steps - step);
    std::int64_t n_samples = 0;
    for (const auto& batch : resumed.net->seen) n_samples += batch.size(0);
    if (limit.is_fraction() || workers == 0) CHECK(resumed.n_fetched == n_samples);
  }
  CHECK(printed.empty());
}

TEST_CASE("With a StatefulDataLoader a run resumes bit for bit after any step, and fetches no batch twice",
          "[trainer][resume][loader]") {
  check_resumes<DefaultNoise>(0);
  check_resumes<SeededNoise>(0);
}

TEST_CASE("With workers too, where transforms take the generator", "[trainer][resume][loader]") {
  check_resumes<SeededNoise>(2);
}

TEST_CASE("Samplers that keep a state from epoch to epoch resume bit for bit", "[trainer][resume][loader]") {
  check_resumes<SeededNoise, DistributedRandomSampler>(2);
  check_resumes<SeededNoise, SequentialSampler>(0);
}

TEST_CASE("With a StatefulDataLoader a run whose epochs are limited resumes bit for bit", "[trainer][resume][loader]") {
  const std::size_t workers = GENERATE(0, 2);
  check_resumes<SeededNoise, DistributedRandomSampler>(workers, 8, 4);
}

class SaveAround : public Callback {
 public:
  void on_train_epoch_start(Trainer& t, TrainingModule&) override { save(t, "epoch_start"); }
  void on_train_batch_start(Trainer& t, TrainingModule&, std::int64_t) override { save(t, "batch_start"); }
  void on_validation_end(Trainer& t, TrainingModule&) override { save(t, "validation_end"); }
  void on_train_epoch_end(Trainer& t, TrainingModule&) override { save(t, "epoch_end"); }
  void on_train_end(Trainer& t, TrainingModule&) override { save(t, "train_end"); }

  std::vector<std::string> paths;

 private:
  void save(Trainer& trainer, const std::string& hook) {
    paths.push_back(std::to_string(paths.size()) + " " + hook);
    trainer.save_checkpoint(paths.back());
  }
};

TEST_CASE("A loader's state saved in any hook resumes bit for bit", "[trainer][resume][loader]") {
  const BatchLimit limit = GENERATE(BatchLimit(), BatchLimit(3));
  const auto io = std::make_shared<CountingIO>();
  const auto saver = std::make_shared<SaveAround>();
  const auto options = [&](std::vector<std::shared_ptr<Callback>> callbacks) {
    TrainerOptions result = quiet(3, io, std::move(callbacks));
    result.limit_train_batches = limit;
    return result;
  };
  const Finished unbroken = train<SeededNoise, DistributedRandomSampler>(options({saver}), 1);
  REQUIRE(saver->paths.size() >= 19);
  for (const std::string& path : saver->paths) {
    INFO("saved as " << path);
    const Finished resumed = train<SeededNoise, DistributedRandomSampler>(options({}), 1, path);
    check_same(resumed, unbroken, std::ssize(resumed.net->seen));
  }
}

TEST_CASE("A checkpoint saved when a fetch threw resumes with that batch", "[trainer][resume][loader]") {
  struct Failing : torch::data::datasets::Dataset<Failing> {
    Counter left;
    explicit Failing(Counter n) : left(std::move(n)) {}
    Example get(size_t index) override {
      if (--*left == 0) throw std::runtime_error("lost the network");
      return NoisyPoints(0).get(index);
    }
    torch::optional<size_t> size() const override { return 22; }
  };
  class SaveOnException : public Callback {
    void on_exception(Trainer& trainer, TrainingModule&, const std::exception_ptr&) override {
      trainer.save_checkpoint("exception");
    }
  };
  const std::size_t workers = GENERATE(0, 1);
  const auto run = [&](std::int64_t fails_at, const std::shared_ptr<CountingIO>& io,
                       const std::optional<std::string>& path) {
    const auto net = make_net();
    torch::manual_seed(path ? 8 : 9);
    auto loader =
        make_stateful_data_loader(Failing(std::make_shared<std::atomic<std::int64_t>>(fails_at)).map(Stack<>()),
                                  DataLoaderOptions(4).workers(workers));
    Trainer trainer(quiet(kEpochs, io, {std::make_shared<SaveOnException>()}));
    trainer.fit(net, loader, std::nullopt, path);
    return Finished{net, trainer.dump_checkpoint(), trainer.callback_metrics()};
  };
  const Finished unbroken = run(-1, nullptr, std::nullopt);
  for (std::int64_t sample = 1; sample <= 44; sample += 3) {
    INFO("sample " << sample << " failed, " << workers << " workers");
    const auto io = std::make_shared<CountingIO>();
    CHECK_THROWS_WITH(run(sample, io, std::nullopt), "lost the network");
    const Finished resumed = run(-1, io, "exception");
    check_same(resumed, unbroken, std::ssize(resumed.net->seen));
  }
}

TEST_CASE("A loader whose dataset has another size is refused", "[trainer][resume][loader]") {
  const auto io = std::make_shared<CountingIO>();
  train<DefaultNoise>(quiet(1, io, {save_each_step()}), 0);
  auto loader = make_stateful_data_loader<DistributedRandomSampler>(NoisyPoints().map(Stack<>()));
  const auto net = make_net();
  Trainer trainer(quiet(1, io));
  CHECK_THROWS_AS(trainer.fit(net, loader, std::nullopt, step_path(3)), Error);
}

// ------------------------------------------------------------------------------------------------ the user's own
// loader

// Gives batches from a stream that goes on from epoch to epoch, five in each.
class Stream {
 public:
  struct Iterator {
    Stream* stream;
    Example operator*() const { return stream->next(); }
    Iterator& operator++() { return *this; }
    bool operator!=(const Iterator&) const { return stream->n_of_epoch_ < 5; }
  };
  Iterator begin() {
    if (!std::exchange(resumes_, false)) n_of_epoch_ = 0;
    return {this};
  }
  Iterator end() { return {this}; }

 protected:
  Example next() {
    ++n_of_epoch_;
    const auto n = static_cast<double>(++n_given_);
    return {torch::tensor({{n, 1.0}, {1.0, -n}, {0.0, n}}, torch::kFloat32), torch::ones({3, 1})};
  }

  std::int64_t n_given_ = 0, n_of_epoch_ = 0;
  bool resumes_ = false;
};

class ResumableStream : public Stream {
 public:
  Dict state_dict() const { return {{"given", n_given_}, {"of_epoch", n_of_epoch_}}; }
  void load_state_dict(const Dict& state) {
    n_given_ = state.at("given").as<std::int64_t>();
    n_of_epoch_ = state.at("of_epoch").as<std::int64_t>();
    resumes_ = true;
  }
};

TEST_CASE("A loader of one's own that keeps a state resumes bit for bit", "[trainer][resume][loader]") {
  const auto io = std::make_shared<CountingIO>();
  const auto run = [&](std::vector<std::shared_ptr<Callback>> callbacks, const std::optional<std::string>& path) {
    const auto net = make_net();
    torch::manual_seed(path ? 8 : 9);
    ResumableStream stream;
    Trainer trainer(quiet(3, io, std::move(callbacks)));
    trainer.fit(net, stream, std::nullopt, path);
    return Finished{net, trainer.dump_checkpoint(), trainer.callback_metrics()};
  };
  const Finished unbroken = run({save_each_step()}, std::nullopt);
  REQUIRE(unbroken.net->seen.size() == 15);
  for (std::int64_t step = 1; step <= 15; ++step) {
    INFO("resumed after step " << step);
    check_same(run({}, step_path(step)), unbroken, 15 - step);
  }
}

// -------------------------------------------------------------------------------------------------------------
// warnings

// What a resume after step 3 of an epoch prints, of the loader that `make` makes; saved with that of `make_first`.
template <class MakeFirst, class Make>
std::vector<std::string> warnings(MakeFirst make_first, Make make, std::int64_t step = 3) {
  const auto io = std::make_shared<CountingIO>();
  std::vector<std::string> lines;
  {
    auto loader = make_first();
    Trainer trainer(quiet(1, io, {save_each_step()}));
    trainer.fit(make_net(), loader, std::nullopt);
  }
  auto loader = make();
  TrainerOptions options = quiet(2, io);
  options.print = keep_warnings(lines);
  Trainer trainer(std::move(options));
  trainer.fit(make_net(), loader, std::nullopt, step_path(step));
  return lines;
}

template <class Make>
std::vector<std::string> warnings(Make make) {
  return warnings(make, make);
}

template <class Sampler>
auto torch_loader(DataLoaderOptions options) {
  return torch::data::make_data_loader<Sampler>(NoisyPoints(0).map(Stack<>()), options.batch_size(4));
}

std::string warning_of(const std::string& loader, const std::string& why) {
  return "You're resuming from a checkpoint that ended before the epoch ended and your dataloader is not resumable: " +
         loader + " is not known to resume exactly: " + why +
         ". The batches that were done are fetched again and passed over. HINT: use "
         "`ckptio::make_stateful_data_loader`, or a loader with `state_dict()` and `load_state_dict()`.";
}

using Lines = std::vector<std::string>;

TEST_CASE("A loader that is known to resume exactly is not warned of", "[trainer][resume][loader]") {
  const auto plain = [] { return torch_loader<samplers::RandomSampler>({}); };
  CHECK(warnings(plain).empty());
  CHECK(warnings([] { return torch_loader<samplers::SequentialSampler>({}); }).empty());
  CHECK(warnings([] { return torch_loader<RandomSampler>({}); }).empty());
  const auto batches = [] { return std::vector<Example>(5, Example(torch::ones({4, 2}), torch::ones({4, 1}))); };
  CHECK(warnings(batches).empty());
  CHECK(warnings([] { return make_stateful_data_loader(NoisyPoints().map(Stack<>()), DataLoaderOptions(4)); }).empty());
}

TEST_CASE("A loader that is not known to resume exactly is named in one warning", "[trainer][resume][loader]") {
  const std::string name = "StatelessDataLoader<MapDataset<NoisyPoints, Stack<Example<Tensor, Tensor>>>, ";
  CHECK(warnings([] { return torch_loader<samplers::RandomSampler>(DataLoaderOptions().workers(2)); }) ==
        Lines{warning_of(name + "RandomSampler>", "its workers draw random numbers in no fixed order")});
  CHECK(warnings([] { return torch_loader<samplers::DistributedRandomSampler>({}); }) ==
        Lines{warning_of(name + "DistributedRandomSampler>", "its sampler may keep a state from epoch to epoch")});
  CHECK(warnings([] { return Stream(); }) ==
        Lines{warning_of("Stream", "it may keep a state, or pass over its batches only once")});
}

TEST_CASE("At the end of an epoch nothing is passed over, and nothing is warned of", "[trainer][resume][loader]") {
  const auto make = [] { return Stream(); };
  CHECK(warnings(make, make, 5).size() == 1);  // saved in the last batch's hook
  const auto io = std::make_shared<CountingIO>();
  Stream stream;
  Trainer first(quiet(1, io));
  const auto net = make_net();
  first.fit(net, stream);
  first.save_checkpoint("end");
  TrainerOptions options = quiet(2, io);
  std::vector<std::string> lines;
  options.print = keep_warnings(lines);
  Trainer second(std::move(options));
  second.fit(make_net(), stream, std::nullopt, "end");
  CHECK(lines.empty());
}

TEST_CASE("A loader whose state the checkpoint lacks, and one that can't take it, are named",
          "[trainer][resume][loader]") {
  const auto plain = [] { return torch_loader<samplers::RandomSampler>({}); };
  const auto stateful = [] { return make_stateful_data_loader(NoisyPoints(0).map(Stack<>()), DataLoaderOptions(4)); };
  const std::string dataset = "<MapDataset<NoisyPoints, Stack<Example<Tensor, Tensor>>>, RandomSampler>";
  CHECK(warnings(plain, stateful) ==
        Lines{warning_of("StatefulDataLoader" + dataset, "the checkpoint holds no state of it")});
  CHECK(warnings(stateful, plain) ==
        Lines{warning_of("StatelessDataLoader" + dataset,
                         "the checkpoint holds the state of a loader, and this one can't take it")});
}

}  // namespace
}  // namespace ckptio::test
