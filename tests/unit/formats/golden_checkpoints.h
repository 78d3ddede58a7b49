// SPDX-License-Identifier: Apache-2.0
// What the files in golden/ hold. Each was written once, by TorchCheckpointIO().save_checkpoint(golden_1(), path), and
// stays as it is for ever; a new version of the format gets a file of its own.
#pragma once

#include <torch/torch.h>

#include <cmath>
#include <limits>

#include "ckptio/value.h"

namespace ckptio::test {

// golden/torch_version_1.ckpt: whatever version 1 of TorchCheckpointIO's format has a form for.
inline Checkpoint golden_1() {
  const auto base = torch::arange(12, torch::kFloat);
  const auto octets = torch::arange(10, torch::kByte);
  Dict tensors{{"base", base},
               {"transposed", base.view({3, 4}).t()},
               {"words", base.view(torch::kInt).slice(0, 3, 6)},
               {"octets", octets},
               {"floats", torch::empty({0}, torch::kFloat).set_(octets.storage(), 0, {2}, {1})},
               {"scalar", torch::tensor(2.5, torch::kDouble)},
               {"empty", torch::empty({0, 4}, torch::kHalf)},
               {"conj", torch::view_as_complex(torch::arange(4, torch::kFloat).view({2, 2})).conj()},
               {"grad", torch::ones({2}, torch::requires_grad())},
               {"meta", torch::empty({2, 3}, torch::TensorOptions(torch::kMeta).dtype(torch::kBFloat16)).t()},
               {"undefined", at::Tensor()},
               {"sparse", torch::eye(3).to_sparse()},
               {"csr", torch::eye(3).to_sparse_csr()},
               {"quantized", torch::quantize_per_tensor(torch::arange(3, torch::kFloat), 0.5, 3, torch::kQInt8)}};
  for (const auto type : {torch::kBool, torch::kShort, torch::kLong, torch::kComplexDouble, torch::kUInt16,
                          torch::kUInt64, torch::kFloat8_e4m3fn, torch::kFloat8_e5m2fnuz}) {
    const auto n_bytes = static_cast<std::int64_t>(c10::elementSize(type));
    tensors[c10::toString(type)] = torch::arange(2 * n_bytes, torch::kByte).remainder(2).view(type);
  }
  return {{"epoch", 3},
          {"negative", std::numeric_limits<std::int64_t>::min()},
          {"big", std::numeric_limits<std::uint64_t>::max()},
          {"double", 0.1},
          {"inf", -std::numeric_limits<double>::infinity()},
          {"nan", std::nan("")},
          {"bool", true},
          {"none", nullptr},
          {"complex", std::complex<double>(1, -2)},
          {"string", std::string("nul\0 quote\" line\n \xc3\xa9", 20)},
          {"bytes", Bytes("\x00\xff\x80", 3)},
          {"containers", List{Dict{}, List{1, List{}}, Tuple{0.9, Tuple{}}, Tuple{"ckptio.bytes", "no tag"}}},
          {"ints", Dict{{3, "three"}, {-1, "minus one"}}},
          {"mixed", Dict{{"a", 1}, {2, "b"}, {true, 3}, {nullptr, 4}, {Tuple{1, "x"}, 5}}},
          {"state_dict", tensors}};
}

// golden/torch_version_2.ckpt: what came with version 2, within and beside what was there before.
inline Checkpoint golden_2() {
  const auto base = torch::arange(6, torch::kDouble);
  Dict state_dict{{"fc.weight", base.view({2, 3})}, {"fc.bias", base.slice(0, 1, 3)}};
  state_dict.set_type(DictType::ordered_dict);
  state_dict.attributes()["_metadata"] = Dict{{"", Dict{{"version", 1}}}, {"fc", Dict{{"version", 2}}}};
  Dict milestones{{30, 1}, {80, 2}};
  milestones.set_type(DictType::counter);
  Dict empty;
  empty.set_type(DictType::ordered_dict);
  return {{"state_dict", state_dict},
          {"lr_schedulers", List{Dict{{"milestones", milestones}}}},
          {"empty", List{empty, Set{}, Set::make_frozen({}), Tuple::make_size({}), ByteArray()}},
          {"sets", List{Set{1, "x", Tuple{2}}, Set::make_frozen({1}), Dict{{Set::make_frozen({2}), 1}}}},
          {"size", Tuple::make_size({2, 3})},
          {"bytearray", ByteArray(std::string_view("\x00\xff", 2))},
          {"torch", List{torch::kBFloat16, c10::Device("cuda:1"), c10::kSparseCsr, c10::kPerTensorAffine}},
          {"storages", List{TypedStorage{base.storage(), torch::kDouble},
                            TypedStorage{torch::arange(3, torch::kByte).storage(), {}}}},
          {"epoch", 3}};
}

}  // namespace ckptio::test
