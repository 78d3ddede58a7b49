// SPDX-License-Identifier: Apache-2.0
// StatefulDataLoader: batches of a dataset, as from LibTorch's DataLoader, that goes on where it was. Named after
// torchdata's, whose rules it keeps.
//
//   auto loader = ckptio::make_stateful_data_loader(std::move(dataset), torch::data::DataLoaderOptions(32).workers(2));
//   for (auto& batch : *loader) {
//     ...
//     ckpt["loader"] = loader->state_dict();
//   }
//   ...
//   loader->load_state_dict(ckpt.at("loader").as<ckptio::Dict>());
//   for (auto& batch : *loader) {  // the rest of that epoch; then, begun again, the next one
//
// The state says which batches were *given*, not which were fetched ahead, and is as small as the sampler's. What was
// given before is not fetched again. A Trainer saves and restores the loader it trains on by itself.
//
// Random numbers that the dataset or its transforms draw from the default generator are the same after a resume if that
// generator is restored (RngState; a Trainer does it) and there are no workers. With workers they are drawn in no fixed
// order, and the training thread's between them, as LibTorch's default generator is one for all threads: then only the
// order of the samples is exact. Datasets and transforms that take a generator
// (seeded_dataset.h says how) get one per batch, seeded by the epoch and the number of the batch: their draws are the
// same after a resume, and for any number of workers.
//
// Batches come in order whatever options.enforce_ordering says. Each worker is a thread with its own copy of the
// dataset; what a worker throws comes out, as it is, where the batch would have.
// Threads: one thread uses a loader and its iterators. The destructor waits for the batches that workers are fetching.
#pragma once

#include <torch/data/dataloader_options.h>

#include <algorithm>
#include <chrono>
#include <concepts>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <exception>
#include <future>
#include <iterator>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "ckptio/error.h"
#include "ckptio/state.h"
#include "ckptio/trainer/samplers.h"
#include "ckptio/trainer/seeded_dataset.h"
#include "ckptio/value.h"

namespace ckptio {

namespace detail {

// Threads that do tasks, callables that take the dataset and throw nothing, begun in the order they were given. Each
// has a copy of the dataset.
template <class Dataset, class Task>
class LoaderWorkers {
 public:
  LoaderWorkers(const Dataset& dataset, std::size_t n_workers) {
    try {
      for (std::size_t i = 0; i < n_workers; ++i) {
        threads_.emplace_back([this, own = dataset]() mutable { work(own); });
      }
    } catch (...) {
      stop();
      throw;
    }
  }
  LoaderWorkers(const LoaderWorkers&) = delete;
  LoaderWorkers& operator=(const LoaderWorkers&) = delete;
  ~LoaderWorkers() { stop(); }

  void add(Task task) {
    {
      const std::lock_guard lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    changed_.notify_one();
  }

  // Forgets the tasks that no worker has begun.
  void drop_waiting() {
    const std::lock_guard lock(mutex_);
    tasks_.clear();
  }

 private:
  void work(Dataset& dataset) {
    for (;;) {
      Task task;
      {
        std::unique_lock lock(mutex_);
        changed_.wait(lock, [this] { return stopped_ || !tasks_.empty(); });
        if (stopped_) return;
        task = std::move(tasks_.front());
        tasks_.pop_front();
      }
      task(dataset);
    }
  }

  void stop() {
    {
      const std::lock_guard lock(mutex_);
      stopped_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  std::mutex mutex_;  // of what follows, but the threads
  std::condition_variable changed_;
  std::deque<Task> tasks_;
  bool stopped_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace detail

// Sampler: one of samplers.h; or a type of yours with reset(std::optional<size_t>), which always begins a new epoch,
// next(batch_size), state_dict() and load_state_dict(), after which next() goes on where the state was taken.
template <class Dataset, class Sampler = RandomSampler>
class StatefulDataLoader {
  static_assert(!Dataset::is_stateful, "a dataset that keeps a state of its own (ChunkDataset) can't be resumed");
  static_assert(Stateful<Sampler>,
                "the sampler needs state_dict() and load_state_dict(): take ckptio's of the same name (samplers.h)");

 public:
  using BatchType = typename Dataset::BatchType;

  // ValueError for a batch size of 0.
  StatefulDataLoader(Dataset dataset, Sampler sampler, torch::data::DataLoaderOptions options = {})
      : options_(options), sampler_(std::move(sampler)) {
    if (options_.batch_size == 0) throw ValueError("StatefulDataLoader: a batch size of 0");
    given_.sampler = sampler_.state_dict();
    if (options_.workers == 0) {
      dataset_.emplace(std::move(dataset));
    } else {
      workers_.emplace(dataset, options_.workers);
    }
  }
  StatefulDataLoader(const StatefulDataLoader&) = delete;
  StatefulDataLoader& operator=(const StatefulDataLoader&) = delete;

  // Of the batches; an input iterator. The batch it refers to lives until the next one is asked for. A batch is fetched
  // when it is looked at, or compared with end(). When that throws, the batch counts as not given: the next look
  // tries it again.
  class iterator {
   public:
    using iterator_concept = std::input_iterator_tag;
    using iterator_category = std::input_iterator_tag;
    using value_type = BatchType;
    using difference_type = std::ptrdiff_t;
    using pointer = BatchType*;
    using reference = BatchType&;

    iterator() = default;  // the end
    explicit iterator(StatefulDataLoader& loader) : loader_(&loader) {}

    BatchType& operator*() const { return *loader_->look(); }  // Requires: not the end
    BatchType* operator->() const { return &**this; }
    iterator& operator++() {
      loader_->look();
      loader_->looked_ = false;
      return *this;
    }
    void operator++(int) { ++*this; }
    bool operator==(const iterator& other) const { return at_end() == other.at_end(); }

   private:
    bool at_end() const { return loader_ == nullptr || !loader_->look(); }
    StatefulDataLoader* loader_ = nullptr;
  };

  // Begins an epoch; or, the first time after load_state_dict(), goes on in the one that the state is of. May be called
  // in the midst of an epoch, which is then left. Iterators from before are no longer valid.
  iterator begin() {
    rewind();
    if (!resumes_) begin_epoch();
    resumes_ = false;
    looked_ = false;
    if (workers_) request_batches();
    return iterator(*this);
  }
  iterator end() { return {}; }

  // Batches in an epoch.
  std::size_t size() const requires requires(const Sampler& sampler) { sampler.size(); }
  {
    const std::size_t n = sampler_.size() + (options_.drop_last ? 0 : options_.batch_size - 1);
    return n / options_.batch_size;
  }

  // {"sampler": the sampler's, "batches": how many of this epoch were given, "in_epoch": false before the first and at
  // an end that was seen, "seed": of the batches' generators, or null}.
  Dict state_dict() const {
    return {{"sampler", given_.sampler},
            {"batches", given_.n_batches},
            {"in_epoch", given_.in_epoch},
            {"seed", given_.seed ? Value(*given_.seed) : Value()}};
  }

  // The next begin() goes on behind the batches that were given; where they were all of their epoch it finds the end,
  // unless that had been seen. Errors, which leave the loader as it was: the sampler's, MismatchError for another
  // dataset; KeyError and TypeError for what is no such state.
  void load_state_dict(const Dict& state) {
    Position position{state.at("sampler").template as<Dict>(), state.at("batches").template as<std::int64_t>(),
                      state.at("in_epoch").template as<bool>(),
                      state.at("seed").template as<std::optional<std::int64_t>>()};
    if (position.in_epoch && kTakesGenerator && !position.seed) {
      throw MismatchError(
          "StatefulDataLoader: the state is that of a dataset that takes no generator for its random numbers, this one "
          "does");
    }
    sampler_.load_state_dict(position.sampler);
    given_ = std::move(position);
    forget_requests();
    resumes_ = given_.in_epoch;
    current_.reset();
    looked_ = true;
  }

  const torch::data::FullDataLoaderOptions& options() const noexcept { return options_; }

 private:
  static constexpr bool kTakesGenerator = detail::SeededDataset<Dataset>::kTakesGenerator;
  using Request = typename Sampler::BatchRequestType;

  // Where in an epoch: behind the batches that were given.
  struct Position {
    Dict sampler;
    std::int64_t n_batches = 0;
    bool in_epoch = false;
    std::optional<std::int64_t> seed;
  };

  // A batch that was drawn from the sampler, and is not given yet.
  struct Requested {
    Request request;
    Dict sampler;  // after it was drawn
    std::future<BatchType> batch;
  };

  // A worker's.
  struct Task {
    Request request;
    std::optional<std::int64_t> seed;
    std::int64_t batch_idx;
    std::promise<BatchType> result;

    void operator()(Dataset& dataset) {
      try {
        result.set_value(fetch(dataset, std::move(request), seed, batch_idx));
      } catch (...) {
        result.set_exception(std::current_exception());
      }
    }
  };

  void begin_epoch() {
    sampler_.reset(std::nullopt);
    given_ = {sampler_.state_dict(), 0, true, std::nullopt};
    if constexpr (kTakesGenerator) given_.seed = detail::draw_seed();
    forget_requests();
  }

  // The batch that is on, fetched if it is not yet; null at the end.
  BatchType* look() {
    if (!looked_) {
      current_.reset();
      current_ = next();
      looked_ = true;
    }
    return current_ ? &*current_ : nullptr;
  }

  std::optional<BatchType> next() {
    if (!given_.in_epoch) return std::nullopt;
    try {
      request_batches();
      if (requested_.empty()) {
        given_.sampler = sampler_.state_dict();
        given_.in_epoch = false;
        exhausted_ = false;
        return std::nullopt;
      }
      Requested first = std::move(requested_.front());
      requested_.pop_front();
      BatchType batch =
          workers_ ? wait_for(first.batch) : fetch(*dataset_, first.request, given_.seed, given_.n_batches);
      if (workers_) request_batches();
      given_.sampler = std::move(first.sampler);
      ++given_.n_batches;
      return batch;
    } catch (...) {
      rewind();
      throw;
    }
  }

  // Draws from the sampler, and sets workers to fetch, as many batches as may be waited for.
  void request_batches() {
    const std::size_t n = workers_ ? std::max<std::size_t>(options_.max_jobs, 1) : 1;
    while (!exhausted_ && requested_.size() < n) {
      std::optional<Request> request = sampler_.next(options_.batch_size);
      exhausted_ = !request || (options_.drop_last && request->size() < options_.batch_size);
      if (exhausted_) return;
      Requested requested{std::move(*request), sampler_.state_dict(), {}};
      if (workers_) {
        Task task{requested.request, given_.seed, n_requested_, {}};
        requested.batch = task.result.get_future();
        workers_->add(std::move(task));
      }
      requested_.push_back(std::move(requested));
      ++n_requested_;
    }
  }

  BatchType wait_for(std::future<BatchType>& batch) {
    if (options_.timeout && batch.wait_for(*options_.timeout) != std::future_status::ready) {
      throw Error("StatefulDataLoader: batch " + std::to_string(given_.n_batches) + " was not fetched within " +
                  std::to_string(options_.timeout->count()) + " ms");
    }
    return batch.get();
  }

  static BatchType fetch(Dataset& dataset, Request request, const std::optional<std::int64_t>& seed,
                         std::int64_t batch_idx) {
    if constexpr (kTakesGenerator) {
      at::Generator generator = detail::make_generator(detail::batch_seed(*seed, batch_idx));
      return detail::SeededDataset<Dataset>::get_batch(dataset, std::move(request), generator);
    } else {
      return dataset.get_batch(std::move(request));
    }
  }

  // Takes back what was drawn from the sampler and not given.
  void rewind() {
    const bool is_ahead = exhausted_ || n_requested_ != given_.n_batches;
    forget_requests();
    if (is_ahead) sampler_.load_state_dict(given_.sampler);
  }

  void forget_requests() {
    if (workers_) workers_->drop_waiting();
    requested_.clear();
    n_requested_ = given_.n_batches;
    exhausted_ = false;
  }

  using Workers = detail::LoaderWorkers<Dataset, Task>;

  const torch::data::FullDataLoaderOptions options_;
  std::optional<Dataset> dataset_;  // without workers, which have their own
  Sampler sampler_;                 // behind the batches that were requested
  Position given_{};
  bool resumes_ = false;  // the next begin() goes on from given_

  std::deque<Requested> requested_;
  std::int64_t n_requested_ = 0;  // in this epoch, those that were given included
  bool exhausted_ = false;        // the sampler is at its end

  std::optional<BatchType> current_;
  bool looked_ = true;  // at the batch after the last ++

  std::optional<Workers> workers_;
};

// A loader of `dataset` and a sampler for its size; or with a sampler of yours. ValueError for a dataset that can't
// tell its size.
template <class Sampler = RandomSampler, class Dataset>
requires std::constructible_from<Sampler, std::size_t> std::unique_ptr<StatefulDataLoader<Dataset, Sampler>>
make_stateful_data_loader(Dataset dataset, torch::data::DataLoaderOptions options = {}) {
  const std::optional<std::size_t> size = dataset.size();
  if (!size) throw ValueError("make_stateful_data_loader: the dataset can't tell its size; give a sampler");
  return std::make_unique<StatefulDataLoader<Dataset, Sampler>>(std::move(dataset), Sampler(*size), options);
}

template <class Dataset, Stateful Sampler>
std::unique_ptr<StatefulDataLoader<Dataset, Sampler>> make_stateful_data_loader(
    Dataset dataset, Sampler sampler, torch::data::DataLoaderOptions options = {}) {
  return std::make_unique<StatefulDataLoader<Dataset, Sampler>>(std::move(dataset), std::move(sampler), options);
}

}  // namespace ckptio
