// SPDX-License-Identifier: Apache-2.0
#include "ckptio/trainer/samplers.h"

#include <ATen/CPUGeneratorImpl.h>
#include <torch/serialize/archive.h>
#include <torch/types.h>

#include <algorithm>
#include <string>

#include "ckptio/error.h"

namespace ckptio {
namespace {

Value value_or_null(const std::optional<std::int64_t>& number) { return number ? Value(*number) : Value(); }

std::int64_t count(const Value& value) {
  const auto n = value.as<std::int64_t>();
  if (n < 0) throw ValueError(value.path() + ": a count expected, found " + std::to_string(n));
  return n;
}

}  // namespace

namespace detail {

std::int64_t draw_seed() { return torch::empty({}, torch::kInt64).random_().item<std::int64_t>(); }

at::Generator make_generator(std::uint64_t seed) { return at::detail::createCPUGenerator(seed); }

// The finalizer of SplitMix64 (Steele, Lea, Flood 2014) on its sequence's batch_idx-th number.
std::uint64_t batch_seed(std::int64_t epoch_seed, std::int64_t batch_idx) noexcept {
  std::uint64_t z = static_cast<std::uint64_t>(epoch_seed) +
                    (static_cast<std::uint64_t>(batch_idx) + 1) * std::uint64_t{0x9E3779B97F4A7C15};
  z = (z ^ (z >> 30)) * std::uint64_t{0xBF58476D1CE4E5B9};
  z = (z ^ (z >> 27)) * std::uint64_t{0x94D049BB133111EB};
  return z ^ (z >> 31);
}

}  // namespace detail

StatefulSampler::StatefulSampler(const char* name, std::size_t size, const Share& share)
    : name_(name), size_(size), share_(share) {
  if (share.rank < share.num_replicas) return;
  throw ValueError(std::string(name) + ": rank " + std::to_string(share.rank) + " of " +
                   std::to_string(share.num_replicas) + " replicas");
}

std::size_t StatefulSampler::size() const noexcept {
  return (size_ + (share_.allow_duplicates ? share_.num_replicas - 1 : 0)) / share_.num_replicas;
}

void StatefulSampler::reset(std::optional<std::size_t> new_size) {
  begin_order();
  size_ = new_size.value_or(size_);
  index_ = 0;
  order_ = at::Tensor();
  begun_ = true;
}

std::optional<std::vector<std::size_t>> StatefulSampler::next(std::size_t batch_size) {
  if (!begun_) reset();
  const std::size_t n = std::min(batch_size, size() - index_);
  if (n == 0) return std::nullopt;
  const std::optional<std::uint64_t> seed = order_seed();
  if (seed && !order_.defined()) {
    order_ = torch::randperm(static_cast<std::int64_t>(size_), detail::make_generator(*seed), torch::kInt64);
  }
  const std::int64_t* order = seed ? order_.const_data_ptr<std::int64_t>() : nullptr;
  std::vector<std::size_t> indices(n);
  std::size_t place = share_.rank * size() + index_;
  for (std::size_t& index : indices) {
    const std::size_t wrapped = place++ % size_;
    index = order != nullptr ? static_cast<std::size_t>(order[wrapped]) : wrapped;
  }
  index_ += n;
  return indices;
}

Dict StatefulSampler::state_dict() const {
  Dict state{{"index", index_}, {"size", size_}, {"num_replicas", share_.num_replicas}};
  for (auto& [key, value] : order_state()) state[key] = value;
  return state;
}

void StatefulSampler::require_fitting(const Dict& state) const {
  const auto require = [&](const char* key, std::size_t here, const std::string& of) {
    const auto saved = static_cast<std::size_t>(count(state.at(key)));
    if (saved == here) return;
    throw MismatchError(std::string(name_) + ": the state is that of " + of + std::to_string(saved) +
                        ", here there are " + std::to_string(here));
  };
  require("size", size_, "a dataset with another number of samples: ");
  require("num_replicas", share_.num_replicas, "a run with another number of replicas: ");
}

void StatefulSampler::load_state_dict(const Dict& state) {
  require_fitting(state);
  const auto index = static_cast<std::size_t>(count(state.at("index")));
  if (index > size()) {
    throw ValueError(state.at("index").path() + ": " + std::to_string(index) + " samples were given, of " +
                     std::to_string(size()));
  }
  load_order(state);
  index_ = index;
  order_ = at::Tensor();
  // A state from before the first epoch has no order to go on in.
  begun_ = index > 0 || order_state().empty() || order_seed();
}

void StatefulSampler::save(torch::serialize::OutputArchive& archive) const {
  for (const auto& [key, value] : state_dict()) {
    if (value.is_null()) continue;
    archive.write(key.as<std::string>(), torch::tensor(value.as<std::int64_t>(), torch::kInt64), /*is_buffer=*/true);
  }
}

void StatefulSampler::load(torch::serialize::InputArchive& archive) {
  Dict state;
  for (const auto& [key, value] : state_dict()) {
    torch::Tensor number;
    const bool found = archive.try_read(key.as<std::string>(), number, /*is_buffer=*/true);
    state[key] = found ? Value(number.item<std::int64_t>()) : Value();
  }
  load_state_dict(state);
}

// ------------------------------------------------------------------------------------------------------------- orders

void RandomSampler::begin_order() { seed_ = detail::draw_seed(); }

std::optional<std::uint64_t> RandomSampler::order_seed() const {
  return seed_ ? std::optional(static_cast<std::uint64_t>(*seed_)) : std::nullopt;
}

Dict RandomSampler::order_state() const { return {{"seed", value_or_null(seed_)}}; }

void RandomSampler::load_order(const Dict& state) { seed_ = state.at("seed").as<std::optional<std::int64_t>>(); }

void DistributedRandomSampler::begin_order() { epoch_ = next_epoch_++; }

std::optional<std::uint64_t> DistributedRandomSampler::order_seed() const {
  if (!epoch_) return std::nullopt;
  return static_cast<std::uint64_t>(seed_) + static_cast<std::uint64_t>(*epoch_);
}

Dict DistributedRandomSampler::order_state() const {
  return {{"seed", seed_}, {"epoch", value_or_null(epoch_)}, {"next_epoch", next_epoch_}};
}

void DistributedRandomSampler::load_order(const Dict& state) {
  const auto seed = state.at("seed").as<std::int64_t>();
  const auto epoch = state.at("epoch").as<std::optional<std::int64_t>>();
  next_epoch_ = count(state.at("next_epoch"));
  seed_ = seed;
  epoch_ = epoch;
}

}  // namespace ckptio
