// SPDX-License-Identifier: Apache-2.0
#include "codec/safetensors_file.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>
#include <limits>

#include "ckptio/error.h"
#include "codec/json_text.h"
#include "codec/little_endian.h"
#include "codec/safetensors_header.h"
#include "codec/zip_directory.h"

namespace ckptio::detail {
namespace {

constexpr std::uint64_t kLengthBytes = 8;
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;  // the library's limit
constexpr std::uint64_t kHeaderAlignment = 8;           // so that mapped tensors are aligned
constexpr std::uint64_t kMaxSize = std::numeric_limits<std::int64_t>::max();

// a * b, or nullopt beyond int64, in which PyTorch counts.
std::optional<std::uint64_t> multiply(std::uint64_t a, std::uint64_t b) {
  if (a != 0 && b > kMaxSize / a) return std::nullopt;
  return a * b;
}

std::uint64_t header_length(const ByteSource& source) {
  unsigned char bytes[kLengthBytes];
  source.read_at(0, bytes, sizeof bytes);
  return load_le64(bytes);
}

std::string read_header(const ByteSource& source) {
  if (source.size < kLengthBytes) {
    throw_corrupt(source, "header length", 0,
                  "the file has " + std::to_string(source.size) + " bytes, expected 8 of a length and a header");
  }
  const std::uint64_t n_bytes = header_length(source);
  const std::string found = std::to_string(n_bytes) + " found, ";
  if (n_bytes > kMaxHeaderBytes) throw_corrupt(source, "header length", 0, found + "at most 100000000 expected");
  if (n_bytes > source.size - kLengthBytes) {
    throw_corrupt(source, "header length", 0,
                  found + "but the file has " + std::to_string(source.size - kLengthBytes) + " bytes behind it");
  }
  std::string header(n_bytes, '\0');
  if (n_bytes > 0) source.read_at(kLengthBytes, header.data(), header.size());
  if (!header.starts_with('{')) throw_corrupt(source, "header", kLengthBytes, "does not begin with '{'");
  return header;
}

// The tensor that an entry describes, without a storage, and the bytes that it takes.
std::pair<ObjectTensor, std::uint64_t> make_tensor(const ByteSource& source, const SafetensorsEntry& entry) {
  const auto fail = [&](const std::string& what) {
    throw_corrupt(source, "header, tensor " + quote_name(entry.name), kLengthBytes, what);
  };
  ObjectTensor tensor;
  tensor.dtype = entry.dtype;
  // With each 0 counted as 1: so no product of some of them, such as a stride, is too large either.
  std::optional<std::uint64_t> n_elements = 1;
  for (const std::uint64_t size : entry.shape) {
    n_elements = multiply(*n_elements, std::max<std::uint64_t>(size, 1));
    if (!n_elements || size > kMaxSize) fail("its shape has more elements than 63 bits can count");
    tensor.sizes.push_back(static_cast<std::int64_t>(size));
  }
  if (entry.dtype == DType::float4_e2m1fn_x2) {
    if (tensor.sizes.empty() || tensor.sizes.back() % 2 != 0) {
      throw UnsupportedError("cannot read '" + source.name + "': tensor " + quote_name(entry.name) +
                             ": PyTorch keeps two F4 elements in a byte, and the last size is odd");
    }
    tensor.sizes.back() /= 2;
  }
  std::uint64_t stride = 1, n_items = 1;
  tensor.strides.resize(tensor.sizes.size());
  for (std::size_t i = tensor.sizes.size(); i-- > 0;) {
    tensor.strides[i] = static_cast<std::int64_t>(stride);
    stride *= static_cast<std::uint64_t>(std::max<std::int64_t>(tensor.sizes[i], 1));
    n_items *= static_cast<std::uint64_t>(tensor.sizes[i]);
  }
  const std::optional<std::uint64_t> n_bytes = multiply(n_items, item_size(tensor.dtype));
  if (!n_bytes) fail("its shape has more bytes than 63 bits can count");
  return {std::move(tensor), *n_bytes};
}

// Holds the entries against each other and the file: each begins where the one before ends.
void check_ranges(const ByteSource& source, const std::vector<SafetensorsEntry>& entries, std::uint64_t data_begin) {
  std::vector<const SafetensorsEntry*> by_offset;
  by_offset.reserve(entries.size());
  for (const SafetensorsEntry& entry : entries) by_offset.push_back(&entry);
  const auto is_before = [](const auto* a, const auto* b) {
    return std::pair(a->begin, a->end) < std::pair(b->begin, b->end);
  };
  if (!std::is_sorted(by_offset.begin(), by_offset.end(), is_before)) {
    std::sort(by_offset.begin(), by_offset.end(), is_before);
  }
  std::uint64_t expected = 0;
  for (const SafetensorsEntry* entry : by_offset) {
    if (entry->begin != expected || entry->end < entry->begin) {
      throw_corrupt(source, "header, tensor " + quote_name(entry->name), kLengthBytes,
                    "data_offsets [" + std::to_string(entry->begin) + ", " + std::to_string(entry->end) +
                        "] found, but its data must begin at " + std::to_string(expected) +
                        ", where the one before ends, and not end before it begins");
    }
    expected = entry->end;
  }
  const std::uint64_t n_data = source.size - data_begin;
  if (expected != n_data) {
    throw_corrupt(source, "data", data_begin,
                  std::to_string(n_data) + " bytes found, " + std::to_string(expected) +
                      " expected by the header: the file is " + (n_data < expected ? "truncated" : "longer than that"));
  }
}

void add_tensor(SafetensorsFile& file, ObjectDict& root, const ByteSource& source, SafetensorsEntry& entry,
                std::uint64_t data_begin) {
  auto [tensor, n_bytes] = make_tensor(source, entry);
  if (entry.end - entry.begin != n_bytes) {
    throw_corrupt(source, "header, tensor " + quote_name(entry.name), kLengthBytes,
                  "data_offsets give it " + std::to_string(entry.end - entry.begin) + " bytes, its shape and dtype " +
                      std::to_string(n_bytes));
  }
  tensor.storage = static_cast<std::uint32_t>(file.storages.size());
  StorageRecord record;
  record.name = entry.name;
  record.data_offset = data_begin + entry.begin;
  record.n_bytes = n_bytes;
  record.swap_bytes = std::endian::native == std::endian::big && dtype_info(tensor.dtype).swap_size > 1;
  file.storages.push_back(std::move(record));
  file.graph.storages.push_back({entry.name, "cpu", tensor.dtype, false, n_bytes});
  Object* name = file.graph.make(ObjectString{std::move(entry.name)});
  root.items.emplace_back(name, file.graph.make(std::move(tensor)));
}

template <class Integer>
void append_number(std::string& out, Integer number) {
  std::array<char, 20> digits;
  out.append(digits.data(), std::to_chars(digits.begin(), digits.end(), number).ptr);
}

// "[2,3]"; of F4 in elements.
void append_shape(std::string& out, const SafetensorsTensor& tensor) {
  out += '[';
  for (std::size_t i = 0; i < tensor.sizes.size(); ++i) {
    const bool is_packed = tensor.dtype == DType::float4_e2m1fn_x2 && i + 1 == tensor.sizes.size();
    if (i > 0) out += ',';
    append_number(out, tensor.sizes[i] * (is_packed ? 2 : 1));
  }
  out += ']';
}

// Its entry in the header.
void append_entry(std::string& out, const SafetensorsTensor& tensor, std::uint64_t begin, std::uint64_t end) {
  append_json_quoted(out, tensor.name);
  out.append(":{\"dtype\":\"").append(*safetensors_dtype_name(tensor.dtype)).append("\",\"shape\":");
  append_shape(out, tensor);
  out += ",\"data_offsets\":[";
  append_number(out, begin);
  out += ',';
  append_number(out, end);
  out += "]}";
}

std::uint64_t bytes_of(const SafetensorsTensor& tensor) {
  std::uint64_t n_bytes = item_size(tensor.dtype);
  for (const std::int64_t size : tensor.sizes) n_bytes *= static_cast<std::uint64_t>(size);
  return n_bytes;
}

void check_writable(const SafetensorsTensor& tensor) {
  const auto refuse = [&](const std::string& why) {
    throw ValueError("tensor " + quote_name(tensor.name) + ": " + why);
  };
  if (tensor.name == kSafetensorsMetadataKey) refuse("safetensors files use that name themselves");
  if (!safetensors_dtype_name(tensor.dtype)) {
    refuse("safetensors files have no dtype " + std::string(dtype_name_of(tensor.dtype)));
  }
  if (tensor.sizes.size() > kMaxSafetensorsDimensions) {
    refuse("more than " + std::to_string(kMaxSafetensorsDimensions) + " dimensions");
  }
  if (tensor.dtype == DType::float4_e2m1fn_x2 && tensor.sizes.empty()) {
    refuse("a float4_e2m1fn_x2 of no dimensions, of which safetensors files cannot give the shape");
  }
}

// Refuses what the reader would refuse.
void check_cost(const std::vector<SafetensorsTensor>& tensors, const std::optional<SafetensorsMetadata>& metadata) {
  std::uint64_t n_bytes = 0;
  for (const SafetensorsTensor& tensor : tensors) {
    n_bytes += safetensors_tensor_cost(tensor.name.size()) + kSafetensorsDimensionCost * tensor.sizes.size();
  }
  if (metadata) {
    for (const auto& [key, value] : *metadata) {
      n_bytes += safetensors_metadata_cost(key.size()) + safetensors_metadata_cost(value.size());
    }
  }
  if (n_bytes > kMaxSafetensorsObjectBytes) {
    throw ValueError("too many tensors (" + std::to_string(tensors.size()) +
                     "), or too much metadata, for one safetensors file: a reader would need more than " +
                     std::to_string(kMaxSafetensorsObjectBytes >> 20) + " MiB of memory beside the data");
  }
}

void append_metadata(std::string& out, const SafetensorsMetadata& metadata) {
  append_json_quoted(out, kSafetensorsMetadataKey);
  out += ":{";
  for (std::size_t i = 0; i < metadata.size(); ++i) {
    if (i > 0) out += ',';
    append_json_quoted(out, metadata[i].first);
    out += ':';
    append_json_quoted(out, metadata[i].second);
  }
  out += '}';
}

// What the names of many tensors begin with in common.
std::size_t common_prefix(const std::vector<SafetensorsTensor>& tensors) {
  std::string_view prefix = tensors.empty() ? std::string_view() : tensors.front().name;
  for (const SafetensorsTensor& tensor : tensors) {
    const auto end = std::mismatch(prefix.begin(), prefix.end(), tensor.name.begin(), tensor.name.end()).first;
    prefix = prefix.substr(0, static_cast<std::size_t>(end - prefix.begin()));
  }
  return prefix.size();
}

// By dtype, widest first, then by name. Most names differ in the eight characters behind what all have in common:
// those are compared as a number, without looking at the names again.
std::vector<std::size_t> library_order(const std::vector<SafetensorsTensor>& tensors) {
  struct Key {
    int rank;
    std::uint64_t head;
    std::size_t index;
  };
  const std::size_t n_common = common_prefix(tensors);
  std::vector<Key> keys;
  keys.reserve(tensors.size());
  for (const SafetensorsTensor& tensor : tensors) {
    Key& key = keys.emplace_back(Key{safetensors_dtype_rank(tensor.dtype), 0, keys.size()});
    for (std::size_t i = 0; i < sizeof key.head; ++i) {
      const std::size_t at = n_common + i;
      key.head = key.head << 8 | (at < tensor.name.size() ? static_cast<unsigned char>(tensor.name[at]) : 0);
    }
  }
  std::sort(keys.begin(), keys.end(), [&](const Key& a, const Key& b) {
    if (a.rank != b.rank) return a.rank > b.rank;
    return a.head != b.head ? a.head < b.head : tensors[a.index].name < tensors[b.index].name;
  });
  std::vector<std::size_t> order;
  order.reserve(keys.size());
  for (const Key& key : keys) order.push_back(key.index);
  return order;
}

}  // namespace

bool looks_like_safetensors(const ByteSource& source) {
  if (source.size <= kLengthBytes || header_length(source) > kMaxHeaderBytes) return false;
  char first = 0;
  source.read_at(kLengthBytes, &first, 1);
  return first == '{';
}

SafetensorsFile read_safetensors(const ByteSource& source) {
  SafetensorsHeader header;
  std::uint64_t data_begin = kLengthBytes;
  {
    const std::string text = read_header(source);
    data_begin += text.size();
    header = parse_safetensors_header(source, text);
  }
  check_ranges(source, header.entries, data_begin);
  SafetensorsFile file;
  file.metadata = std::move(header.metadata);
  file.graph.storages.reserve(header.entries.size());
  file.storages.reserve(header.entries.size());
  ObjectDict root;
  root.items.reserve(header.entries.size());
  for (SafetensorsEntry& entry : header.entries) add_tensor(file, root, source, entry, data_begin);
  file.graph.root = file.graph.make(std::move(root));
  return file;
}

SafetensorsLayout lay_out_safetensors(const std::vector<SafetensorsTensor>& tensors,
                                      const std::optional<SafetensorsMetadata>& metadata) {
  SafetensorsLayout layout;
  for (const SafetensorsTensor& tensor : tensors) check_writable(tensor);
  check_cost(tensors, metadata);
  layout.order = library_order(tensors);
  layout.data_offsets.resize(tensors.size());
  std::string& head = layout.head;
  head.assign(kLengthBytes, '\0');
  head += '{';
  if (metadata) append_metadata(head, *metadata);
  std::uint64_t offset = 0;
  for (const std::size_t index : layout.order) {
    const std::uint64_t end = offset + bytes_of(tensors[index]);
    if (head.back() == '}') head += ',';
    append_entry(head, tensors[index], offset, end);
    layout.data_offsets[index] = offset;
    offset = end;
  }
  head += '}';
  const std::size_t n_header =
      (head.size() - kLengthBytes + kHeaderAlignment - 1) / kHeaderAlignment * kHeaderAlignment;
  head.resize(kLengthBytes + n_header, ' ');
  if (n_header > kMaxHeaderBytes) {
    throw ValueError("the header would have " + std::to_string(n_header) +
                     " bytes, and safetensors files allow 100000000: too many tensors, or too much metadata");
  }
  for (unsigned i = 0; i < kLengthBytes; ++i) head[i] = static_cast<char>(n_header >> (8 * i) & 0xFF);
  for (std::uint64_t& data_offset : layout.data_offsets) data_offset += layout.head.size();
  layout.file_size = layout.head.size() + offset;
  return layout;
}

}  // namespace ckptio::detail
