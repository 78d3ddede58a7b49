// SPDX-License-Identifier: Apache-2.0
// A LibTorch program that knows nothing of ckptio reads a checkpoint: plain_libtorch FILE. Prints what it found.
#include <torch/torch.h>

#include <iostream>

struct Found {
  int64_t epoch = 0;
  at::Tensor weight;
  double beta = 0;
};

torch::serialize::InputArchive& operator>>(torch::serialize::InputArchive& archive, Found& found) {
  c10::IValue checkpoint;
  archive.read("checkpoint", checkpoint);
  const auto entries = checkpoint.toGenericDict();
  found.epoch = entries.at("epoch").toInt();
  found.weight = entries.at("state_dict").toGenericDict().at("fc.weight").toTensor();
  found.beta = entries.at("betas").toTupleRef().elements()[1].toDouble();
  return archive;
}

int main(int, char** argv) {
  Found found;
  torch::load(found, argv[1]);
  std::cout << "epoch " << found.epoch << ", fc.weight " << found.weight.sizes() << " sums to "
            << found.weight.sum().item<double>() << ", beta " << found.beta << "\n";
}
