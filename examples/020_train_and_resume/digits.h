// SPDX-License-Identifier: Apache-2.0
// The handwritten digits of examples/data as a dataset of LibTorch.
#pragma once

#include <torch/torch.h>

#include <fstream>
#include <stdexcept>
#include <string>
#include <vector>

// 8x8 images, float32 [1, 8, 8] from 0 to 1, and their labels, int64 from 0 to 9. Every sixth is for validation.
class Digits : public torch::data::datasets::Dataset<Digits> {
 public:
  enum class Part { kTraining, kValidation };

  explicit Digits(Part part) {
    const std::string path = std::string(CKPTIO_EXAMPLE_DATA_DIR) + "/digits.csv";
    std::ifstream file(path);
    if (!file) throw std::runtime_error("cannot open " + path);
    std::string line;
    for (int i = 0; std::getline(file, line); ++i) {
      if ((i % 6 == 0) == (part == Part::kValidation)) add(line);
    }
  }

  torch::data::Example<> get(size_t index) override { return examples_.at(index); }
  torch::optional<size_t> size() const override { return examples_.size(); }

 private:
  void add(const std::string& line) {
    std::stringstream numbers(line);
    std::vector<float> pixels;
    for (std::string number; std::getline(numbers, number, ',');) pixels.push_back(std::stof(number));
    if (pixels.size() != 65) throw std::runtime_error("a line of digits.csv has not 65 numbers");
    const auto label = static_cast<int64_t>(pixels.back());
    examples_.push_back({torch::tensor(pixels).slice(0, 0, 64).reshape({1, 8, 8}) / 16, torch::tensor(label)});
  }

  std::vector<torch::data::Example<>> examples_;
};
