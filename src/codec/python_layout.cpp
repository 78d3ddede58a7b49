// SPDX-License-Identifier: Apache-2.0
// Follows torch/serialization.py (_save) and caffe2/serialize/inline_container.cc of torch 2.13.
#include "codec/python_layout.h"

#include <bit>
#include <functional>
#include <memory_resource>
#include <numeric>
#include <unordered_set>
#include <utility>

#include "ckptio/error.h"

namespace ckptio::detail {
namespace {

constexpr std::size_t kIdDigits = 40;

// As c10::hash_combine.
std::uint64_t combine(std::uint64_t seed, std::uint64_t value) {
  return seed ^ (value + 0x9e3779b9 + (seed << 6) + (seed >> 2));
}

// Names of records differ, so their numbers tell them apart.
struct HashedName {
  std::size_t hash, number;
  bool operator==(const HashedName& other) const { return number == other.number; }
  struct Hash {
    std::size_t operator()(const HashedName& name) const noexcept { return name.hash; }
  };
};

std::string padded(std::uint64_t number) {
  std::string digits = std::to_string(number);
  return std::string(kIdDigits / 2 - digits.size(), '0') + digits;
}

std::vector<std::uint64_t> bytes_in_order(const ObjectGraph& graph, const std::vector<std::uint32_t>& order) {
  std::vector<std::uint64_t> n_bytes;
  for (const std::uint32_t storage : order) n_bytes.push_back(graph.storages[storage].n_bytes);
  return n_bytes;
}

std::vector<std::uint32_t> numbers_to(std::size_t n) {
  std::vector<std::uint32_t> numbers(n);
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

}  // namespace

PythonLayout::PythonLayout(const ObjectGraph& graph, const Object& root, const PythonLayoutOptions& options)
    : PythonLayout(write_pickle(graph, root), graph, options) {}

PythonLayout::PythonLayout(WrittenPickle pickle, const ObjectGraph& graph, const PythonLayoutOptions& options)
    : PythonLayout(std::move(pickle.bytes), bytes_in_order(graph, pickle.storage_order), options) {
  storage_order_ = std::move(pickle.storage_order);
}

PythonLayout::PythonLayout(std::string pickle, const std::vector<std::uint64_t>& storage_bytes,
                           const PythonLayoutOptions& options)
    : zip_(options.alignment),
      prefix_bytes_(options.prefix.size() + 1),
      storage_order_(numbers_to(storage_bytes.size())),
      serialization_id_(options.serialization_id) {
  if (options.prefix.empty() || options.prefix.find('/') != std::string::npos) {
    throw ValueError("a file's prefix '" + options.prefix + "' found, expected a name without '/'");
  }
  if (!serialization_id_.empty() && (serialization_id_.size() != kIdDigits ||
                                     serialization_id_.find_first_not_of("0123456789") != std::string::npos)) {
    throw ValueError("the serialization id '" + serialization_id_ + "' found, expected 40 decimal digits");
  }
  lay_out(std::move(pickle), storage_bytes, options.prefix);
}

void PythonLayout::lay_out(std::string pickle, const std::vector<std::uint64_t>& storage_bytes,
                           const std::string& prefix) {
  const auto add = [&](std::vector<std::string>& contents, const char* name, std::string content) {
    zip_.add(prefix + "/" + name, content.size());
    contents.push_back(std::move(content));
  };
  zip_.reserve(storage_bytes.size() + 6);
  add(before_, "data.pkl", std::move(pickle));
  add(before_, ".format_version", "1");
  add(before_, ".storage_alignment", std::to_string(zip_.alignment()));
  add(before_, "byteorder", std::endian::native == std::endian::little ? "little" : "big");
  std::string name = prefix + "/data/";
  const std::size_t n_folder_bytes = name.size();
  for (std::size_t key = 0; key < storage_bytes.size(); ++key) {
    name.replace(n_folder_bytes, name.npos, std::to_string(key));
    zip_.add(name, storage_bytes[key]);
  }
  add(behind_, "version", "3\n");
  zip_.add(prefix + "/.data/serialization_id", kIdDigits);
}

std::optional<std::uint32_t> PythonLayout::storage_of(std::size_t index) const {
  if (index < before_.size() || index - before_.size() >= storage_order_.size()) return std::nullopt;
  return storage_order_[index - before_.size()];
}

std::string PythonLayout::content_of(std::size_t index, const std::vector<std::uint32_t>& crcs) const {
  const bool is_last = index + 1 == zip_.records().size();
  return is_last ? serialization_id(crcs) : std::string(fixed_content_of(index));
}

std::string_view PythonLayout::fixed_content_of(std::size_t index) const {
  return index < before_.size() ? before_[index] : behind_.at(index - before_.size() - storage_order_.size());
}

// A hash of the names and one of the CRCs (in PyTorch taken from the data descriptors: empty records have none).
std::string PythonLayout::serialization_id(const std::vector<std::uint32_t>& crcs) const {
  if (!serialization_id_.empty()) return serialization_id_;
  std::uint64_t hash_of_crcs = 0;
  for (std::size_t i = 0; i + 1 < zip_.records().size(); ++i) {
    if (zip_.records()[i].size > 0) hash_of_crcs = combine(hash_of_crcs, crcs.at(i));
  }
  return padded(hash_of_names()) + padded(hash_of_crcs);
}

// Goes in the order of std::unordered_set<std::string>, so it is PyTorch's where PyTorch uses the same standard
// library. That order follows from the hashes alone: no name is kept, and where the nodes are does not matter.
std::uint64_t PythonLayout::hash_of_names() const {
  const std::vector<ZipLayout::Record>& records = zip_.records();
  std::pmr::monotonic_buffer_resource memory;
  std::pmr::unordered_set<HashedName, HashedName::Hash> names(&memory);
  for (std::size_t i = 0; i + 1 < records.size(); ++i) {
    names.insert({std::hash<std::string_view>{}(records[i].name.substr(prefix_bytes_)), i});
  }
  std::uint64_t hash_of_names = 0;
  for (const HashedName& name : names) hash_of_names = combine(hash_of_names, name.hash);
  return hash_of_names;
}

}  // namespace ckptio::detail
