// SPDX-License-Identifier: Apache-2.0
#include "codec/graph_builder.h"

#include <algorithm>
#include <charconv>

#include "ckptio/error.h"
#include "codec/known_globals.h"
#include "codec/zip_directory.h"

namespace ckptio::detail {
namespace {

// Python keeps one object for each of these integers too.
constexpr std::int64_t kSmallestShared = -5, kLargestShared = 256;

// What a string takes beside its object, if it is too long to stand in it.
std::uint64_t heap_bytes(std::string_view text) { return text.size() < sizeof(std::string) / 2 ? 0 : text.size() + 16; }

// Length of the UTF-8 sequence at `p` ("surrogatepass": also of a lone surrogate), 0 if there is none.
std::size_t sequence_length(const unsigned char* p, std::size_t n_left) {
  const auto continues = [&](std::size_t n) {
    if (n > n_left) return false;
    for (std::size_t i = 1; i < n; ++i) {
      if ((p[i] & 0xC0) != 0x80) return false;
    }
    return true;
  };
  if (p[0] < 0x80) return 1;
  if (p[0] >= 0xC2 && p[0] <= 0xDF) return continues(2) ? 2 : 0;
  if (p[0] >= 0xE0 && p[0] <= 0xEF) return continues(3) && (p[0] != 0xE0 || p[1] >= 0xA0) ? 3 : 0;
  if (p[0] < 0xF0 || p[0] > 0xF4 || !continues(4)) return 0;
  return (p[0] != 0xF0 || p[1] >= 0x90) && (p[0] != 0xF4 || p[1] < 0x90) ? 4 : 0;
}

// "0", "1", ...: as writers count.
std::optional<std::uint32_t> plain_number(std::string_view digits) {
  std::uint32_t number = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), number);
  const bool is_plain = error == std::errc() && end == digits.data() + digits.size();
  return is_plain && (digits.size() == 1 || digits[0] != '0') ? std::optional(number) : std::nullopt;
}

// The first byte that is no UTF-8, or the size.
std::size_t valid_prefix(const std::string& text) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = sequence_length(bytes + i, text.size() - i);
    if (length == 0) return i;
    i += length;
  }
  return text.size();
}

}  // namespace

bool is_utf8(const std::string& text) { return valid_prefix(text) == text.size(); }

GraphBuilder::GraphBuilder(ObjectGraph& graph, const ByteSource& source, const PickleOptions& options)
    : graph_(graph), source_(source), options_(options), small_ints_(kLargestShared - kSmallestShared + 1) {
  for (const StorageInfo& storage : graph.storages) add_to_key(first_of_key(storage.key));
}

void GraphBuilder::fail(const std::string& what) const {
  throw_corrupt(source_, options_.where.empty() ? "pickle" : "record " + quote_name(options_.where), offset_,
                std::string(opcode_) + ": " + what);
}

void GraphBuilder::fail_unsupported(const std::string& what) const {
  try {
    fail(what);
  } catch (const CorruptError& error) {
    throw UnsupportedError(error.what());
  }
}

void GraphBuilder::fail_memory() const {
  fail("more objects than " + std::to_string(kMaxGraphBytes >> 20) + " MiB of memory hold found");
}

Object* GraphBuilder::make_int(std::int64_t value) {
  if (value < kSmallestShared || value > kLargestShared) return make(value);
  Object*& shared = small_ints_[static_cast<std::size_t>(value - kSmallestShared)];
  return shared != nullptr ? shared : shared = make(value);
}

Object* GraphBuilder::make_int(std::string twos_complement) {
  // The shortest form: the last byte only where the one before has not the same sign.
  std::string& digits = twos_complement;
  const auto sign = [](char byte) { return (byte & 0x80) != 0 ? '\xFF' : '\0'; };
  while (digits.size() > 1 && digits.back() == sign(digits[digits.size() - 2])) digits.pop_back();
  if (digits.size() > 8) {
    charge(heap_bytes(digits));
    return make(ObjectBigInt{std::move(digits)});
  }
  std::uint64_t bits = digits.empty() || sign(digits.back()) == '\0' ? 0 : ~std::uint64_t{0};
  for (std::size_t i = digits.size(); i-- > 0;) bits = bits << 8 | static_cast<unsigned char>(digits[i]);
  return make_int(static_cast<std::int64_t>(bits));
}

Object* GraphBuilder::make_string(std::string utf8) {
  // TorchScript's strings are octets of any kind.
  const bool is_any = dialect() == PickleDialect::libtorch;
  if (const std::size_t n_valid = is_any ? utf8.size() : valid_prefix(utf8); n_valid != utf8.size()) {
    fail("byte " + std::to_string(n_valid) + " of the string is no UTF-8");
  }
  charge(heap_bytes(utf8));
  return make(ObjectString{std::move(utf8)});
}

Object* GraphBuilder::make_bytes(std::string octets) {
  charge(heap_bytes(octets));
  return make(ObjectBytes{std::move(octets)});
}

Object* GraphBuilder::make_byte_array(std::string octets) {
  charge(heap_bytes(octets));
  return make(ObjectByteArray{std::move(octets)});
}

Object* GraphBuilder::make_tuple(std::vector<Object*> items) {
  if (items.empty()) return make_empty_tuple();
  charge_items(items.size() + 1);
  return make(ObjectTuple{std::move(items)});
}

Object* GraphBuilder::make_list(std::vector<Object*> items) {
  charge_items(items.size() + 1);
  return make(ObjectList{std::move(items)});
}

Object* GraphBuilder::make_global(std::string module, std::string name) {
  Object*& object = globals_[{module, name}];
  if (object != nullptr) return object;
  charge(2 * (heap_bytes(module) + heap_bytes(name)) + sizeof(*globals_.begin()) + 64);
  if (module == "torch") {
    if (const auto dtype = dtype_named(name)) return object = make(*dtype);
    if (const auto qscheme = qscheme_named(name)) return object = make(*qscheme);
  }
  const Known known = find_known_global(dialect(), module, name);
  const bool is_script_class = dialect() == PickleDialect::libtorch && is_libtorch_class(module);
  if (known == Known::none && !is_script_class) {
    const std::string full_name = module + "." + name;
    const auto same = [&](const UnknownGlobal& other) { return other.name == full_name; };
    // A graph of several pickles: few names, and each pickle asks once.
    if (graph_.unknown_globals.size() > 100 ||
        std::none_of(graph_.unknown_globals.begin(), graph_.unknown_globals.end(), same)) {
      charge(heap_bytes(full_name) + sizeof(UnknownGlobal));
      graph_.unknown_globals.push_back({full_name, offset_});
    }
  }
  object = make(ObjectGlobal{std::move(module), std::move(name)});
  if (known == Known::none) return object;
  const auto dtype =
      known == Known::storage_class ? dtype_of_storage_class(object->get<ObjectGlobal>()->name) : std::nullopt;
  known_.emplace(object, KnownGlobal{known, dtype.value_or(DType::uint8)});
  return object;
}

Known GraphBuilder::known(const Object* global) const {
  const auto place = known_.find(global);
  return place == known_.end() ? Known::none : place->second.known;
}

std::optional<DType> GraphBuilder::storage_dtype(const ObjectStorage& storage) const {
  const StorageInfo& info = graph_.storages[storage.storage];
  return info.untyped ? std::nullopt : std::optional(info.dtype);
}

// Until then each one's key is its index, and there is no table of them.
void GraphBuilder::index_storages() {
  are_keys_counted_ = false;
  storages_by_key_.reserve(graph_.storages.capacity());
  for (std::uint32_t i = 0; i < next_of_same_key_.size(); ++i) {
    storages_by_key_.find_or_add(hash_of(graph_.storages[i].key), i, [](std::uint32_t) { return false; });
  }
}

// The first storage of this key; if there is none, the next one is.
std::uint32_t GraphBuilder::first_of_key(std::string_view key) {
  const auto next = static_cast<std::uint32_t>(next_of_same_key_.size());
  if (are_keys_counted_) {
    if (const auto number = plain_number(key); number && *number <= next) return *number;
    index_storages();
  }
  const std::uint32_t* first = storages_by_key_.find_or_add(
      hash_of(key), next, [&](std::uint32_t known) { return graph_.storages[known].key == key; });
  return first == nullptr ? next : *first;
}

// The next one is of the same key as `first`, if it isn't the first itself.
void GraphBuilder::add_to_key(std::uint32_t first) {
  const auto next = static_cast<std::uint32_t>(next_of_same_key_.size());
  if (are_keys_counted_ && first != next) index_storages();
  next_of_same_key_.push_back(kNone);
  if (first == next) return;
  std::uint32_t last = first;
  while (next_of_same_key_[last] != kNone) last = next_of_same_key_[last];
  next_of_same_key_[last] = next;
}

std::uint32_t GraphBuilder::find_storage(const Object* class_object, std::string_view key, const std::string& location,
                                         std::uint64_t n_elements) {
  const auto known_class = known_.find(class_object);
  const Known known = known_class == known_.end() ? Known::none : known_class->second.known;
  if (known != Known::storage_class && known != Known::untyped_storage_class) {
    fail("a storage of the class " + describe_object(*class_object) + " found, one of torch's expected");
  }
  const bool is_untyped = known == Known::untyped_storage_class;
  const DType dtype = known_class->second.dtype;
  const std::uint64_t n_item = item_size(dtype);
  if (n_elements > static_cast<std::uint64_t>(INT64_MAX) / n_item) {
    fail("a storage of " + std::to_string(n_elements) + " elements found, more than memory can have");
  }
  const std::uint64_t n_bytes = n_elements * n_item;
  const auto index = static_cast<std::uint32_t>(graph_.storages.size());
  const std::uint32_t first = first_of_key(key);
  for (std::uint32_t i = first; i != index && i != kNone; i = next_of_same_key_[i]) {
    const StorageInfo& other = graph_.storages[i];
    if (other.dtype == dtype && other.untyped == is_untyped && other.n_bytes == n_bytes) return i;
    // Python gives tensors of several types that share an empty storage one key.
    if (other.n_bytes == 0 && n_bytes == 0) continue;
    fail("storage " + quote_name(key) + " of " + std::to_string(n_bytes) + " bytes of " +
         (is_untyped ? "no type" : std::string(dtype_name_of(dtype))) + " found, before it had " +
         std::to_string(other.n_bytes) + " of " +
         (other.untyped ? "no type" : std::string(dtype_name_of(other.dtype))));
  }
  charge(sizeof(StorageInfo) + 2 * heap_bytes(key) + heap_bytes(location) + 96);
  graph_.storages.push_back({std::string(key), location, dtype, is_untyped, n_bytes});
  add_to_key(first);
  return index;
}

}  // namespace ckptio::detail
