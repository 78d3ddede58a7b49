// SPDX-License-Identifier: Apache-2.0
// BatchSource: a loader and the step to run on its batches, behind one small interface, so that the Trainer's loops
// are compiled once. Nothing here is for users.
#pragma once

#include <torch/data/dataloader/stateless.h>
#include <torch/data/example.h>
#include <torch/data/samplers/distributed.h>
#include <torch/data/samplers/random.h>
#include <torch/data/samplers/sequential.h>
#include <torch/types.h>

#include <concepts>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <ranges>
#include <string>
#include <type_traits>
#include <typeinfo>
#include <utility>
#include <vector>

#include "ckptio/state.h"
#include "ckptio/trainer/samplers.h"
#include "ckptio/value.h"

namespace ckptio::detail {

class BatchSource {
 public:
  BatchSource() = default;
  BatchSource(const BatchSource&) = delete;
  BatchSource& operator=(const BatchSource&) = delete;
  virtual ~BatchSource() = default;

  // Starts again at the first batch. Draws the shuffle, if there is one, from the default generator.
  virtual void begin() = 0;
  // Fetches the next batch; false where there is none. Requires: begin().
  virtual bool next() = 0;
  // Runs the step on the batch that next() fetched.
  virtual torch::Tensor step(std::int64_t batch_idx) = 0;
  // Of the batch that next() fetched; 1 where it can't be told.
  virtual std::int64_t batch_size() const = 0;
  // How many batches an epoch has, where the loader can tell.
  virtual std::optional<std::int64_t> n_batches() const = 0;

  // The loader's type, as a user would write it, without namespaces.
  virtual std::string name() const = 0;
  // The loader has state_dict() and load_state_dict(): after the latter begin() goes on where the state was taken.
  virtual bool is_stateful() const = 0;
  // Requires: is_stateful().
  virtual Dict state_dict() const = 0;
  virtual void load_state_dict(const Dict& state) = 0;
  // Why a begin() with the generators of an earlier one may not give the same batches again; empty where it will.
  virtual std::string replay_doubt() const = 0;
};

template <class Batch>
std::int64_t batch_size_of(const Batch& batch) {
  if constexpr (std::convertible_to<const Batch&, const at::Tensor&>) {
    const at::Tensor& tensor = batch;
    return tensor.defined() && tensor.dim() > 0 ? tensor.size(0) : 1;
  } else if constexpr (requires { batch_size_of(batch.data); }) {
    return batch_size_of(batch.data);
  } else if constexpr (requires { batch_size_of(batch.first); }) {
    return batch_size_of(batch.first);
  } else if constexpr (std::ranges::sized_range<const Batch>) {
    return static_cast<std::int64_t>(std::ranges::size(batch));
  } else {
    return 1;
  }
}

// Loaders are anything with begin() and end(); LibTorch's are no std::ranges.
namespace range_access {
using std::begin;
using std::end;
template <class Loader>
auto begin_of(Loader& loader) -> decltype(begin(loader)) {
  return begin(loader);
}
template <class Loader>
auto end_of(Loader& loader) -> decltype(end(loader)) {
  return end(loader);
}
}  // namespace range_access
using range_access::begin_of;
using range_access::end_of;

template <class Loader>
concept BatchRange = requires(Loader& loader) {
  *begin_of(loader);
  end_of(loader);
};

template <class Loader>
using BatchReference = decltype(*std::declval<decltype(begin_of(std::declval<Loader&>()))&>());

// `type.name()`, readable and without namespaces.
std::string short_type_name(const std::type_info& type);

template <class Loader>
inline constexpr bool is_torch_loader = false;
template <class Dataset, class Sampler>
inline constexpr bool is_torch_loader<torch::data::StatelessDataLoader<Dataset, Sampler>> = true;

// Every epoch's order is drawn from the default generator when it begins, or fixed.
template <class Loader>
inline constexpr bool has_plain_sampler = false;
template <class Dataset, class Sampler>
inline constexpr bool has_plain_sampler<torch::data::StatelessDataLoader<Dataset, Sampler>> =
    std::same_as<Sampler, torch::data::samplers::RandomSampler> ||
    std::same_as<Sampler, torch::data::samplers::SequentialSampler> ||
    std::same_as<Sampler, torch::data::samplers::DistributedSequentialSampler> ||
    std::same_as<Sampler, RandomSampler> || std::same_as<Sampler, SequentialSampler> ||
    std::same_as<Sampler, DistributedSequentialSampler>;

template <class Loader>
std::string replay_doubt_of(const Loader& loader) {
  if constexpr (is_torch_loader<Loader>) {
    if (!has_plain_sampler<Loader>) return "its sampler may keep a state from epoch to epoch";
    if (loader.options().workers == 0) return "";
    if (!loader.options().enforce_ordering) return "its workers give batches in no fixed order";
    return "its workers draw random numbers in no fixed order";
  } else if constexpr (std::ranges::forward_range<Loader>) {
    return "";
  } else {
    return "it may keep a state, or pass over its batches only once";
  }
}

template <BatchRange Loader, class Step>
class LoaderSource final : public BatchSource {
 public:
  LoaderSource(Loader& loader, Step step) : loader_(loader), step_(std::move(step)) {}

  void begin() override {
    current_ = {};
    iterator_.reset();  // a DataLoader wants the old one gone first
    end_.reset();
    iterator_.emplace(begin_of(loader_));
    end_.emplace(end_of(loader_));
    started_ = false;
  }

  bool next() override {
    current_ = {};
    if (started_) ++*iterator_;
    started_ = true;
    if (!(*iterator_ != *end_)) {
      started_ = false;  // the end stays the end, however often it is asked for
      return false;
    }
    if constexpr (kHeldByLoader) {
      current_ = &**iterator_;
    } else {
      current_.emplace(**iterator_);
    }
    return true;
  }

  torch::Tensor step(std::int64_t batch_idx) override {
    if constexpr (std::is_void_v<decltype(step_(*current_, batch_idx))>) {
      step_(*current_, batch_idx);
      return {};
    } else {
      return step_(*current_, batch_idx);
    }
  }

  std::int64_t batch_size() const override { return batch_size_of(*current_); }

  std::optional<std::int64_t> n_batches() const override {
    if constexpr (std::ranges::sized_range<Loader>) return static_cast<std::int64_t>(std::ranges::size(loader_));
    return std::nullopt;
  }

  std::string name() const override { return short_type_name(typeid(Loader)); }
  bool is_stateful() const override { return Stateful<Loader>; }
  Dict state_dict() const override {
    if constexpr (Stateful<Loader>) return loader_.state_dict();
    return {};
  }
  void load_state_dict([[maybe_unused]] const Dict& state) override {
    if constexpr (Stateful<Loader>) loader_.load_state_dict(state);
  }
  std::string replay_doubt() const override { return replay_doubt_of(loader_); }

 private:
  using Reference = BatchReference<Loader>;
  static constexpr bool kHeldByLoader = std::is_lvalue_reference_v<Reference>;
  using Current = std::conditional_t<kHeldByLoader, std::remove_reference_t<Reference>*,
                                     std::optional<std::remove_cvref_t<Reference>>>;

  Loader& loader_;
  Step step_;
  std::optional<decltype(begin_of(std::declval<Loader&>()))> iterator_;
  std::optional<decltype(end_of(std::declval<Loader&>()))> end_;
  Current current_{};
  bool started_ = false;
};

}  // namespace ckptio::detail
