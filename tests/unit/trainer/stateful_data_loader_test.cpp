// SPDX-License-Identifier: Apache-2.0
// Samplers and loaders that say where they are, and go on there.
#include "ckptio/trainer/stateful_data_loader.h"

#include <torch/torch.h>

#include <atomic>
#include <set>
#include <sstream>

#include "ckptio/rng_state.h"
#include "support/catch.h"
#include "support/same_bits.h"

namespace ckptio::test {
namespace {

using Indices = std::vector<std::size_t>;
using torch::data::DataLoaderOptions;
namespace samplers = torch::data::samplers;

// All that is left of an epoch.
template <class Sampler>
Indices drain(Sampler& sampler, std::size_t batch_size = 3) {
  Indices all;
  while (const auto batch = sampler.next(batch_size)) all.insert(all.end(), batch->begin(), batch->end());
  return all;
}

template <class Sampler>
Indices epoch(Sampler& sampler) {
  sampler.reset();
  return drain(sampler);
}

Indices sorted(Indices indices) {
  std::sort(indices.begin(), indices.end());
  return indices;
}

Indices first_n(std::size_t n) {
  Indices all(n);
  for (std::size_t i = 0; i < n; ++i) all[i] = i;
  return all;
}

bool is_count(const Value& value) { return value.is_null() || value.as<std::int64_t>() >= 0; }

// ----------------------------------------------------------------------------------------------------------- samplers

template <class Sampler>
void check_goes_on(const Sampler& fresh) {
  torch::manual_seed(1);
  Sampler unbroken = fresh;
  epoch(unbroken);
  unbroken.reset();
  for (;;) {
    const Dict state = unbroken.state_dict();
    for (const auto& [key, value] : state) CHECK(is_count(value));
    Sampler resumed = fresh;
    drain(resumed);
    resumed.load_state_dict(state);
    CHECK(resumed.state_dict() == state);
    CHECK(resumed.index() == unbroken.index());

    std::stringstream bytes;
    torch::serialize::OutputArchive saved;
    unbroken.save(saved);
    saved.save_to(bytes);
    torch::serialize::InputArchive archive;
    archive.load_from(bytes);
    Sampler read = fresh;
    read.load(archive);
    CHECK(read.state_dict() == state);

    // The rest of this epoch, and all of the next one.
    Sampler rest = unbroken;
    const RngState rng;
    const Dict generators = rng.state_dict();
    Indices expected = drain(rest);
    for (const std::size_t index : epoch(rest)) expected.push_back(index);
    RngState().load_state_dict(generators);
    Indices found = drain(resumed);
    for (const std::size_t index : epoch(resumed)) found.push_back(index);
    CHECK(found == expected);
    if (!unbroken.next(4)) return;
  }
}

TEST_CASE("A sampler goes on behind the samples that were given, and so do its next epochs", "[loader]") {
  check_goes_on(RandomSampler(11));
  check_goes_on(SequentialSampler(11));
  check_goes_on(DistributedRandomSampler(11, 3, 1));
  check_goes_on(DistributedSequentialSampler(11, 3, 2, false));
}

TEST_CASE("A RandomSampler shuffles all samples anew in each epoch, as the default generator has it", "[loader]") {
  torch::manual_seed(5);
  RandomSampler sampler(50);
  const Indices first = epoch(sampler), second = epoch(sampler);
  CHECK(sorted(first) == first_n(50));
  CHECK(sorted(second) == first_n(50));
  CHECK(first != second);
  CHECK(first != first_n(50));

  torch::manual_seed(5);
  RandomSampler again(50);
  CHECK(drain(again, 7) == first);  // without a reset, the first epoch
  CHECK(again.size() == 50);
  again.reset(8);
  CHECK(sorted(drain(again)) == first_n(8));

  // What Python's list(torch.utils.data.RandomSampler(range(10))) gives after torch.manual_seed(0), twice.
  torch::manual_seed(0);
  RandomSampler like_python(10);
  CHECK(epoch(like_python) == Indices{6, 9, 0, 7, 3, 5, 4, 2, 1, 8});
  CHECK(epoch(like_python) == Indices{6, 7, 1, 4, 2, 0, 9, 8, 3, 5});
}

TEST_CASE("Distributed samplers share the samples out as LibTorch's do", "[loader]") {
  const bool duplicates = GENERATE(false, true);
  for (const std::size_t n_replicas : {1, 2, 3, 4}) {
    Indices shuffled;
    std::set<std::size_t> seen;
    for (std::size_t rank = 0; rank < n_replicas; ++rank) {
      INFO(rank << " of " << n_replicas << ", duplicates: " << duplicates);
      DistributedSequentialSampler ours(10, n_replicas, rank, duplicates);
      samplers::DistributedSequentialSampler theirs(10, n_replicas, rank, duplicates);
      CHECK(epoch(ours) == epoch(theirs));
      DistributedRandomSampler random(10, n_replicas, rank, duplicates);
      const Indices part = epoch(random);
      CHECK(part.size() == ours.size());
      seen.insert(part.begin(), part.end());
    }
    CHECK(seen.size() == (duplicates ? 10 : 10 / n_replicas * n_replicas));
  }
  CHECK_THROWS_AS(DistributedRandomSampler(10, 2, 2), ValueError);
}

TEST_CASE("A DistributedRandomSampler counts its epochs, and set_epoch chooses one", "[loader]") {
  DistributedRandomSampler sampler(40);
  const Indices zero = epoch(sampler), one = epoch(sampler);
  CHECK(zero != one);
  CHECK(sampler.epoch() == 1);
  sampler.set_epoch(0);
  CHECK(epoch(sampler) == zero);
  CHECK(epoch(sampler) == one);
  DistributedRandomSampler other_seed(40, 1, 0, true, 7);
  CHECK(epoch(other_seed) != zero);
}

TEST_CASE("A sampler refuses the state of another dataset, and stays as it was", "[loader]") {
  RandomSampler sampler(11);
  sampler.reset();
  sampler.next(4);
  const Dict before = sampler.state_dict();
  CHECK_THROWS_AS(sampler.load_state_dict(RandomSampler(12).state_dict()), MismatchError);
  CHECK_THROWS_AS(sampler.load_state_dict(DistributedSequentialSampler(11, 2).state_dict()), MismatchError);
  CHECK_THROWS_AS(sampler.load_state_dict(SequentialSampler(11).state_dict()), KeyError);
  CHECK_THROWS_AS(sampler.load_state_dict({}), KeyError);
  Dict wrong = before;
  wrong["index"] = 12;
  CHECK_THROWS_AS(sampler.load_state_dict(wrong), ValueError);
  wrong["index"] = "4";
  CHECK_THROWS_AS(sampler.load_state_dict(wrong), TypeError);
  CHECK(sampler.state_dict() == before);
}

TEST_CASE("A sampler saved before its first epoch draws that when it begins", "[loader]") {
  const Dict state = RandomSampler(11).state_dict();
  RandomSampler sampler(11);
  epoch(sampler);
  sampler.load_state_dict(state);
  CHECK(sorted(drain(sampler)) == first_n(11));
}

// ------------------------------------------------------------------------------------------------------------- loader

// What the copies of a dataset have in common.
struct Log {
  std::mutex mutex;
  std::vector<std::size_t> fetched;
  std::atomic<std::int64_t> failures{0};  // so many gets of `bad` throw
  std::size_t bad = 1000;

  Indices take() {
    const std::lock_guard lock(mutex);
    return std::exchange(fetched, {});
  }
};

class OutOfDisk : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

// 22 numbers.
class Numbers : public torch::data::datasets::Dataset<Numbers, torch::Tensor> {
 public:
  explicit Numbers(std::shared_ptr<Log> log = std::make_shared<Log>(), std::size_t size = 22)
      : log_(std::move(log)), size_(size) {}
  torch::Tensor get(std::size_t index) override {
    {
      const std::lock_guard lock(log_->mutex);
      log_->fetched.push_back(index);
    }
    if (index == log_->bad && log_->failures-- > 0) throw OutOfDisk("no sample " + std::to_string(index));
    return torch::tensor(static_cast<float>(index));
  }
  std::optional<std::size_t> size() const override { return size_; }

 private:
  std::shared_ptr<Log> log_;
  std::size_t size_;
};

// The same with noise, from the generator it is given.
class NoisyNumbers : public torch::data::datasets::Dataset<NoisyNumbers, torch::Tensor> {
 public:
  torch::Tensor get(std::size_t index) override { return torch::tensor(static_cast<float>(index)); }
  torch::Tensor get(std::size_t index, at::Generator& generator) { return get(index) + torch::rand({}, generator); }
  std::optional<std::size_t> size() const override { return 22; }
};

struct Scale : torch::data::transforms::Transform<torch::Tensor, torch::Tensor> {
  torch::Tensor apply(torch::Tensor x) override { return x; }
  torch::Tensor apply(torch::Tensor x, at::Generator& generator) { return x * torch::rand({}, generator); }
};

auto stacked() {
  return torch::data::transforms::BatchLambda<std::vector<torch::Tensor>, torch::Tensor>(
      [](const std::vector<torch::Tensor>& batch) { return torch::stack(batch); });
}

template <class Sampler = RandomSampler>
auto make_numbers(std::size_t workers, std::shared_ptr<Log> log = std::make_shared<Log>()) {
  return make_stateful_data_loader<Sampler>(Numbers(std::move(log)).map(stacked()),
                                            DataLoaderOptions(4).workers(workers));
}

template <class Loader>
std::vector<torch::Tensor> batches(Loader& loader) {
  std::vector<torch::Tensor> all;
  for (auto& batch : loader) all.push_back(batch);
  return all;
}

// The Trainer asks such a range for its length, and algorithms take it.
static_assert(std::ranges::input_range<StatefulDataLoader<Numbers>>);
static_assert(std::ranges::sized_range<StatefulDataLoader<Numbers>>);

void check_same(const std::vector<torch::Tensor>& found, const std::vector<torch::Tensor>& expected) {
  REQUIRE(found.size() == expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) CHECK(same_bits(found[i], expected[i]));
}

TEST_CASE("A StatefulDataLoader gives the batches that LibTorch's gives", "[loader]") {
  const std::size_t workers = GENERATE(0, 1, 3);
  const bool drop_last = GENERATE(false, true);
  for (const std::size_t batch_size : {1, 4, 22, 30}) {
    INFO(workers << " workers, batches of " << batch_size << ", drop_last: " << drop_last);
    const auto options = DataLoaderOptions(batch_size).workers(workers).drop_last(drop_last).enforce_ordering(true);
    const auto ours = make_stateful_data_loader<SequentialSampler>(Numbers().map(stacked()), options);
    const auto theirs = torch::data::make_data_loader<samplers::SequentialSampler>(Numbers().map(stacked()), options);
    const auto expected = batches(*theirs);
    CHECK(ours->size() == expected.size());
    check_same(batches(*ours), expected);
    check_same(batches(*ours), expected);  // and again in the next epoch
  }
}

TEST_CASE("LibTorch's DataLoader takes our samplers", "[loader]") {
  const auto loader = torch::data::make_data_loader<RandomSampler>(Numbers().map(stacked()), DataLoaderOptions(4));
  CHECK(batches(*loader).size() == 6);
}

TEST_CASE("A loader goes on behind the batches that were given, and fetches none of those again", "[loader]") {
  const std::size_t workers = GENERATE(0, 2);
  for (std::size_t n_given = 0; n_given <= 6; ++n_given) {
    INFO(workers << " workers, after " << n_given << " batches");
    torch::manual_seed(1);
    const auto loader = make_numbers(workers);
    std::vector<torch::Tensor> given, rest;
    Dict state;
    auto it = loader->begin();
    for (std::size_t i = 0; i < n_given; ++i, ++it) given.push_back(*it);
    state = loader->state_dict();
    CHECK(state.at("batches").as<std::int64_t>() == static_cast<std::int64_t>(n_given));
    for (; it != loader->end(); ++it) rest.push_back(*it);
    CHECK(given.size() + rest.size() == 6);

    torch::manual_seed(2);
    const auto log = std::make_shared<Log>();
    const auto resumed = make_numbers(workers, log);
    if (n_given % 2 == 1) ++resumed->begin();  // in the midst of another epoch
    log->take();
    resumed->load_state_dict(state);
    CHECK(resumed->state_dict() == state);
    check_same(batches(*resumed), rest);
    if (workers == 0 || n_given % 2 == 0) {
      Indices expected;
      for (const auto& batch : rest) {
        for (std::int64_t i = 0; i < batch.numel(); ++i)
          expected.push_back(static_cast<std::size_t>(batch[i].item<float>()));
      }
      CHECK(sorted(log->take()) == sorted(expected));
    }
    CHECK(batches(*resumed).size() == 6);  // the next epoch is whole
  }
}

TEST_CASE("A state from an epoch's end, once that was seen, begins the next epoch", "[loader]") {
  const auto loader = make_numbers(2);
  batches(*loader);
  const Dict state = loader->state_dict();
  CHECK_FALSE(state.at("in_epoch").as<bool>());
  const auto resumed = make_numbers(0);
  resumed->load_state_dict(state);
  CHECK(batches(*resumed).size() == 6);
}

TEST_CASE("A loader can be begun again in the midst of an epoch, and nothing is lost", "[loader]") {
  const std::size_t workers = GENERATE(0, 2);
  const auto loader = make_numbers<SequentialSampler>(workers);
  const auto whole = batches(*loader);
  for (int i = 0; i < 20; ++i) {
    auto it = loader->begin();
    for (int n = 0; n < i % 7; ++n) ++it;
    if (i % 2 == 1) check_same(batches(*loader), whole);
  }
  // Back to a batch of the epoch that is on: what workers have fetched ahead is not given twice, nor left out.
  auto it = loader->begin();
  ++it;
  const Dict state = loader->state_dict();
  ++it, ++it;
  CHECK(loader->state_dict().at("batches").as<std::int64_t>() == 3);
  loader->load_state_dict(state);
  check_same(batches(*loader), {whole.begin() + 1, whole.end()});
}

TEST_CASE("What a fetch throws comes out as it is where the batch would have, and the batch can be had again",
          "[loader]") {
  const std::size_t workers = GENERATE(0, 2);
  const auto expected = batches(*make_numbers<SequentialSampler>(0));
  const auto log = std::make_shared<Log>();
  log->bad = 9;  // in the third batch
  log->failures = 2;
  const auto loader = make_numbers<SequentialSampler>(workers, log);
  auto it = loader->begin();
  ++it, ++it;
  CHECK_THROWS_AS(*it, OutOfDisk);
  CHECK(loader->state_dict().at("batches").as<std::int64_t>() == 2);
  CHECK_THROWS_WITH(*it, "no sample 9");
  std::vector<torch::Tensor> rest;
  for (; it != loader->end(); ++it) rest.push_back(*it);
  check_same(rest, {expected.begin() + 2, expected.end()});
}

TEST_CASE("A loader with workers can go at any time", "[loader]") {
  for (int i = 0; i < 20; ++i) {
    const auto loader = make_numbers(3);
    if (i % 4 == 0) continue;
    auto it = loader->begin();
    for (int n = 0; n < i % 4; ++n) ++it;
  }
}

TEST_CASE("Numbers drawn from the batch's generator are the same for any number of workers, and after a resume",
          "[loader]") {
  const auto make = [](std::size_t workers) {
    return make_stateful_data_loader(NoisyNumbers().map(Scale()).map(stacked()), DataLoaderOptions(4).workers(workers));
  };
  const auto two_epochs = [&](std::size_t workers) {
    torch::manual_seed(3);
    const auto loader = make(workers);
    auto all = batches(*loader);
    for (auto& batch : batches(*loader)) all.push_back(batch);
    return all;
  };
  const auto expected = two_epochs(0);
  check_same(two_epochs(1), expected);
  check_same(two_epochs(3), expected);
  std::set<float> fractions;
  for (const auto& batch : expected) {
    for (std::int64_t i = 0; i < batch.numel(); ++i) fractions.insert(batch[i].item<float>());
  }
  CHECK(fractions.size() == 44);

  torch::manual_seed(3);
  const auto loader = make(2);
  auto it = loader->begin();
  for (int i = 0; i < 4; ++i) {
    const auto resumed = make(i % 3);
    resumed->load_state_dict(loader->state_dict());
    check_same(batches(*resumed), {expected.begin() + i, expected.begin() + 6});
    *it;
    ++it;
  }
}

// A part of a mapped or shared dataset that takes no generator is called as ever.
TEST_CASE("A transform alone may take the generator, of a dataset that is shared", "[loader]") {
  const auto make = [](std::size_t workers) {
    torch::manual_seed(3);
    return make_stateful_data_loader<SequentialSampler>(
        torch::data::datasets::make_shared_dataset<Numbers>().map(Scale()).map(stacked()),
        DataLoaderOptions(4).workers(workers));
  };
  const auto found = batches(*make(2));
  check_same(found, batches(*make(0)));
  CHECK_FALSE(same_bits(found.back(), torch::tensor({20.0f, 21.0f})));
}

TEST_CASE("A loader refuses what is not its state, and stays as it was", "[loader]") {
  const auto loader = make_numbers(0);
  ++loader->begin();
  const Dict before = loader->state_dict();
  const auto other = make_stateful_data_loader(Numbers(std::make_shared<Log>(), 23).map(stacked()));
  other->begin();
  CHECK_THROWS_AS(loader->load_state_dict(other->state_dict()), MismatchError);
  CHECK_THROWS_AS(loader->load_state_dict({}), KeyError);
  const auto seeded = make_stateful_data_loader(NoisyNumbers().map(stacked()));
  CHECK_THROWS_AS(seeded->load_state_dict(before), MismatchError);
  CHECK(loader->state_dict() == before);
  CHECK_THROWS_AS(make_stateful_data_loader(Numbers(), DataLoaderOptions(0)), ValueError);
}

TEST_CASE("A batch that takes longer than the timeout is an error, and can be waited for again", "[loader]") {
  struct Gate : torch::data::datasets::Dataset<Gate, torch::Tensor> {
    std::shared_future<void> open;
    explicit Gate(std::shared_future<void> when) : open(std::move(when)) {}
    torch::Tensor get(std::size_t) override { return open.wait(), torch::ones({}); }
    std::optional<std::size_t> size() const override { return 2; }
  };
  std::promise<void> open;
  auto options = DataLoaderOptions(1).workers(1).timeout(std::chrono::milliseconds(1));
  const auto loader = make_stateful_data_loader(Gate(open.get_future().share()), options);
  auto it = loader->begin();
  CHECK_THROWS_WITH(*it, "StatefulDataLoader: batch 0 was not fetched within 1 ms");
  open.set_value();
  CHECK(loader->state_dict().at("batches").as<std::int64_t>() == 0);
}

TEST_CASE("A State names a loader", "[loader]") {
  const auto loader = make_numbers(0);
  ++loader->begin();
  State state;
  state.add("loader", *loader);
  const Dict saved = state.state_dict();
  const auto rest = batches(*loader);
  state.load_state_dict(saved);
  CHECK(batches(*loader).size() == 5);
}

}  // namespace
}  // namespace ckptio::test
