// SPDX-License-Identifier: Apache-2.0
// Follows torch/serialization.py (_save) and caffe2/serialize/inline_container.cc of torch 2.13.
#include "codec/python_layout.h"

#include <bit>
#include <functional>
#include <unordered_set>
#include <utility>

#include "ckptio/error.h"
#include "codec/pickle_writer.h"

namespace ckptio::detail {
namespace {

constexpr std::size_t kIdDigits = 40;

// As c10::hash_combine.
std::uint64_t combine(std::uint64_t seed, std::uint64_t value) {
  return seed ^ (value + 0x9e3779b9 + (seed << 6) + (seed >> 2));
}

std::string padded(std::uint64_t number) {
  std::string digits = std::to_string(number);
  return std::string(kIdDigits / 2 - digits.size(), '0') + digits;
}

}  // namespace

PythonLayout::PythonLayout(const ObjectGraph& graph, const Object& root, const PythonLayoutOptions& options)
    : zip_(options.alignment), prefix_bytes_(options.prefix.size() + 1), serialization_id_(options.serialization_id) {
  if (options.prefix.empty() || options.prefix.find('/') != std::string::npos) {
    throw ValueError("a file's prefix '" + options.prefix + "' found, expected a name without '/'");
  }
  if (!serialization_id_.empty() && (serialization_id_.size() != kIdDigits ||
                                     serialization_id_.find_first_not_of("0123456789") != std::string::npos)) {
    throw ValueError("the serialization id '" + serialization_id_ + "' found, expected 40 decimal digits");
  }
  WrittenPickle pickle = write_pickle(graph, root);
  storage_order_ = std::move(pickle.storage_order);
  const auto add = [&](std::vector<std::string>& contents, const char* name, std::string content) {
    zip_.add(options.prefix + "/" + name, content.size());
    contents.push_back(std::move(content));
  };
  add(before_, "data.pkl", std::move(pickle.bytes));
  add(before_, ".format_version", "1");
  add(before_, ".storage_alignment", std::to_string(options.alignment));
  add(before_, "byteorder", std::endian::native == std::endian::little ? "little" : "big");
  for (std::size_t key = 0; key < storage_order_.size(); ++key) {
    zip_.add(options.prefix + "/data/" + std::to_string(key), graph.storages[storage_order_[key]].n_bytes);
  }
  add(behind_, "version", "3\n");
  zip_.add(options.prefix + "/.data/serialization_id", kIdDigits);
}

std::optional<std::uint32_t> PythonLayout::storage_of(std::size_t index) const {
  if (index < before_.size() || index - before_.size() >= storage_order_.size()) return std::nullopt;
  return storage_order_[index - before_.size()];
}

std::string PythonLayout::content_of(std::size_t index, const std::vector<std::uint32_t>& crcs) const {
  if (index < before_.size()) return before_[index];
  index -= before_.size() + storage_order_.size();
  return index < behind_.size() ? behind_[index] : serialization_id(crcs);
}

// A hash of the names and one of the CRCs (in PyTorch taken from the data descriptors: empty records have none). That
// of the names goes in the order of std::unordered_set, so it is PyTorch's where PyTorch uses the same standard
// library.
std::string PythonLayout::serialization_id(const std::vector<std::uint32_t>& crcs) const {
  if (!serialization_id_.empty()) return serialization_id_;
  std::unordered_set<std::string> names;
  std::uint64_t hash_of_crcs = 0;
  for (std::size_t i = 0; i + 1 < zip_.records().size(); ++i) {
    names.insert(zip_.records()[i].name.substr(prefix_bytes_));
    if (zip_.records()[i].size > 0) hash_of_crcs = combine(hash_of_crcs, crcs.at(i));
  }
  std::uint64_t hash_of_names = 0;
  for (const std::string& name : names) hash_of_names = combine(hash_of_names, std::hash<std::string>{}(name));
  return padded(hash_of_names) + padded(hash_of_crcs);
}

}  // namespace ckptio::detail
