// SPDX-License-Identifier: Apache-2.0
// BatchSource: a loader and the step to run on its batches, behind one small interface, so that the Trainer's loops
// are compiled once. Nothing here is for users.
#pragma once

#include <torch/data/example.h>
#include <torch/types.h>

#include <concepts>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <ranges>
#include <type_traits>
#include <utility>
#include <vector>

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
