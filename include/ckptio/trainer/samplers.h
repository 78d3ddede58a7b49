// SPDX-License-Identifier: Apache-2.0
// Samplers that say where they are, counterparts of LibTorch's of the same names: RandomSampler, SequentialSampler,
// DistributedRandomSampler, DistributedSequentialSampler. For StatefulDataLoader, and torch::data::make_data_loader
// takes them too.
//
// Their state is a few numbers, however large the dataset is: a shuffle is known from its seed. After
// load_state_dict() the next next() goes on behind the samples that had been given; reset() begins a new epoch, as
// ever. A next() before the first reset() begins one.
//
// Errors of load_state_dict, which leave the sampler as it was: MismatchError for the state of a dataset of another
// size or of another number of replicas; KeyError, TypeError and ValueError for what is no such sampler's state.
// Threads: one thread uses a sampler.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>
#include <torch/data/samplers/base.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "ckptio/value.h"

namespace ckptio {

// What the four have in common.
class StatefulSampler : public torch::data::samplers::Sampler<> {
 public:
  // Begins an epoch: a new order, where there is one to draw. `new_size`: of the dataset from now on.
  void reset(std::optional<std::size_t> new_size = std::nullopt) override;
  // The next `batch_size` indices, or as many as are left; none at the end of the epoch.
  std::optional<std::vector<std::size_t>> next(std::size_t batch_size) override;

  // Samples given in this epoch.
  std::size_t index() const noexcept { return index_; }
  // Samples in an epoch; of this replica.
  std::size_t size() const noexcept;

  // {"index": ..., "size": of the dataset, ...}, all integers or null.
  Dict state_dict() const;
  void load_state_dict(const Dict& state);

  // The state as LibTorch's samplers save theirs: a tensor [] int64 per number.
  void save(torch::serialize::OutputArchive& archive) const override;
  void load(torch::serialize::InputArchive& archive) override;

 protected:
  // Of the `size` samples in this epoch's order a replica takes a run of its own, one behind the other, all of the same
  // length: where they don't divide, the last one goes on with the first samples (`allow_duplicates`), or some are left
  // out.
  struct Share {
    std::size_t num_replicas = 1;
    std::size_t rank = 0;
    bool allow_duplicates = true;
  };
  // ValueError for a rank that is not below num_replicas.
  StatefulSampler(const char* name, std::size_t size, const Share& share);
  explicit StatefulSampler(const char* name, std::size_t size) : StatefulSampler(name, size, Share{}) {}

  // Decides on the order of the epoch that begins.
  virtual void begin_order() {}
  // That order is a permutation made with this seed; none: 0, 1, 2, ...
  virtual std::optional<std::uint64_t> order_seed() const { return std::nullopt; }
  // What order_seed() needs, to be saved and restored; load_order changes all or nothing.
  virtual Dict order_state() const { return {}; }
  virtual void load_order(const Dict&) {}

 private:
  void require_fitting(const Dict& state) const;

  const char* name_;
  std::size_t size_;
  Share share_;
  std::size_t index_ = 0;
  bool begun_ = false;
  at::Tensor order_{};  // [size] int64, made when it is needed; never changed, so that copies may share it
};

// A new permutation in each epoch, as Python's torch.utils.data.RandomSampler makes it: one int64 is drawn from the
// default CPU generator (torch::manual_seed and TrainerOptions::seed decide on it), and the permutation by a generator
// with that seed.
class RandomSampler : public StatefulSampler {
 public:
  explicit RandomSampler(std::size_t size) : StatefulSampler("RandomSampler", size) {}

 private:
  void begin_order() override;
  std::optional<std::uint64_t> order_seed() const override;
  Dict order_state() const override;
  void load_order(const Dict& state) override;

  std::optional<std::int64_t> seed_{};  // of this epoch
};

// 0, 1, 2, ...
class SequentialSampler : public StatefulSampler {
 public:
  explicit SequentialSampler(std::size_t size) : StatefulSampler("SequentialSampler", size) {}
};

// Each replica's part of one shuffle that all of them know without talking: made from `seed` and the epoch's number,
// which counts up by itself (LibTorch's stays at 0 unless set_epoch is called). Of one run all ranks can load the state
// that one of them saved.
class DistributedRandomSampler : public StatefulSampler {
 public:
  explicit DistributedRandomSampler(std::size_t size, std::size_t num_replicas = 1, std::size_t rank = 0,
                                    bool allow_duplicates = true, std::int64_t seed = 0)
      : StatefulSampler("DistributedRandomSampler", size, {num_replicas, rank, allow_duplicates}), seed_(seed) {}

  // The number of the epoch that the next reset() begins.
  void set_epoch(std::size_t epoch) { next_epoch_ = static_cast<std::int64_t>(epoch); }
  // Of the epoch that is on; before the first, 0.
  std::size_t epoch() const { return static_cast<std::size_t>(epoch_.value_or(0)); }

 private:
  void begin_order() override;
  std::optional<std::uint64_t> order_seed() const override;
  Dict order_state() const override;
  void load_order(const Dict& state) override;

  std::int64_t seed_;
  std::optional<std::int64_t> epoch_{};
  std::int64_t next_epoch_ = 0;
};

class DistributedSequentialSampler : public StatefulSampler {
 public:
  explicit DistributedSequentialSampler(std::size_t size, std::size_t num_replicas = 1, std::size_t rank = 0,
                                        bool allow_duplicates = true)
      : StatefulSampler("DistributedSequentialSampler", size, {num_replicas, rank, allow_duplicates}) {}
};

namespace detail {

// From the default CPU generator; not negative.
std::int64_t draw_seed();
// A CPU generator of one's own.
at::Generator make_generator(std::uint64_t seed);
// Of the generator for one batch, from that of the epoch: near numbers give seeds far apart.
std::uint64_t batch_seed(std::int64_t epoch_seed, std::int64_t batch_idx) noexcept;

}  // namespace detail
}  // namespace ckptio
