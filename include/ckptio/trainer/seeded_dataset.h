// SPDX-License-Identifier: Apache-2.0
// Datasets and transforms that draw their random numbers from a generator they are given, so that StatefulDataLoader
// makes the same batch whichever thread fetches it, and whenever. Beside LibTorch's function, with one parameter more:
//
//   dataset     get(index, at::Generator&)  or  get_batch(indices, at::Generator&)
//   transform   apply(input, at::Generator&)  or  apply_batch(batch, at::Generator&)
//
//   struct Noise : torch::data::transforms::Transform<Example, Example> {
//     Example apply(Example example) override { return example; }  // where there is no generator to be had
//     Example apply(Example example, at::Generator& generator) {
//       return {example.data + 0.1 * torch::randn({3}, generator), example.target};
//     }
//   };
//
// Any part of a dataset made with LibTorch's map() and make_shared_dataset() may be such a one; the others are called
// as ever. Nothing here is for users but that.
#pragma once

#include <ATen/core/Generator.h>
#include <torch/data/datasets/base.h>
#include <torch/data/datasets/map.h>
#include <torch/data/datasets/shared.h>

#include <cstddef>
#include <utility>

namespace ckptio::detail {

template <class Dataset>
concept BatchGenerated = requires(Dataset& dataset, typename Dataset::BatchRequestType request, at::Generator& g) {
  dataset.get_batch(request, g);
};
template <class Dataset>
concept ExampleGenerated = requires(Dataset& dataset, std::size_t index, at::Generator& g) {
  dataset.get(index, g);
};
template <class Transform>
concept BatchTransformGenerated = requires(Transform& transform, typename Transform::InputBatchType batch,
                                           at::Generator& g) {
  transform.apply_batch(std::move(batch), g);
};
template <class Transform>
concept TransformGenerated = requires(Transform& transform, typename Transform::InputType input, at::Generator& g) {
  transform.apply(std::move(input), g);
};

template <class Dataset>
struct SeededDataset {
  static constexpr bool kTakesGenerator = BatchGenerated<Dataset> || ExampleGenerated<Dataset>;

  template <class Request>
  static typename Dataset::BatchType get_batch(Dataset& dataset, Request request, at::Generator& generator) {
    if constexpr (BatchGenerated<Dataset>) {
      return dataset.get_batch(std::move(request), generator);
    } else if constexpr (ExampleGenerated<Dataset>) {
      typename Dataset::BatchType batch;
      for (const std::size_t index : request) batch.push_back(dataset.get(index, generator));
      return batch;
    } else {
      return dataset.get_batch(std::move(request));
    }
  }
};

template <class Transform, class Batch>
auto apply_seeded(Transform& transform, Batch batch, at::Generator& generator) {
  if constexpr (BatchTransformGenerated<Transform>) {
    return transform.apply_batch(std::move(batch), generator);
  } else if constexpr (TransformGenerated<Transform>) {
    typename Transform::OutputBatchType output;
    for (auto& input : batch) output.push_back(transform.apply(std::move(input), generator));
    return output;
  } else {
    return transform.apply_batch(std::move(batch));
  }
}

template <class Source, class Transform>
struct SeededDataset<torch::data::datasets::MapDataset<Source, Transform>> {
  using Dataset = torch::data::datasets::MapDataset<Source, Transform>;
  static constexpr bool kTakesGenerator =
      SeededDataset<Source>::kTakesGenerator || BatchTransformGenerated<Transform> || TransformGenerated<Transform>;

  template <class Request>
  static typename Dataset::BatchType get_batch(Dataset& dataset, Request request, at::Generator& generator) {
    // Its accessors give const references to members that are not const, as the MapDataset itself is not.
    auto& source = const_cast<Source&>(dataset.dataset());
    auto& transform = const_cast<Transform&>(dataset.transform());
    return apply_seeded(transform, SeededDataset<Source>::get_batch(source, std::move(request), generator), generator);
  }
};

template <class Shared>
struct SeededDataset<torch::data::datasets::SharedBatchDataset<Shared>> {
  using Dataset = torch::data::datasets::SharedBatchDataset<Shared>;
  static constexpr bool kTakesGenerator = SeededDataset<Shared>::kTakesGenerator;

  template <class Request>
  static typename Dataset::BatchType get_batch(Dataset& dataset, Request request, at::Generator& generator) {
    return SeededDataset<Shared>::get_batch(*dataset, std::move(request), generator);
  }
};

}  // namespace ckptio::detail
