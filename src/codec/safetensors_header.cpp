// SPDX-License-Identifier: Apache-2.0
#include "codec/safetensors_header.h"

#include <algorithm>
#include <array>

#include "ckptio/error.h"
#include "codec/json_text.h"
#include "codec/zip_directory.h"
#include "hash/hash_table.h"

namespace ckptio::detail {
namespace {

constexpr std::size_t kHeaderOffset = 8;  // behind the length

// name -> field -> shape, and one more, of which the handler can say what it is not.
constexpr std::size_t kMaxDepth = 4;

struct NamedDType {
  std::string_view name;
  std::optional<DType> dtype;  // none: PyTorch has no such type
};

// In the library's order (safetensors/src/tensor.rs, `Dtype`), by which files are sorted.
constexpr std::array<NamedDType, 22> kDTypes = {{
    {"BOOL", DType::boolean},
    {"F4", DType::float4_e2m1fn_x2},
    {"F6_E2M3", std::nullopt},
    {"F6_E3M2", std::nullopt},
    {"U8", DType::uint8},
    {"I8", DType::int8},
    {"F8_E5M2", DType::float8_e5m2},
    {"F8_E4M3", DType::float8_e4m3fn},
    {"F8_E8M0", DType::float8_e8m0fnu},
    {"F8_E4M3FNUZ", DType::float8_e4m3fnuz},
    {"F8_E5M2FNUZ", DType::float8_e5m2fnuz},
    {"I16", DType::int16},
    {"U16", DType::uint16},
    {"F16", DType::float16},
    {"BF16", DType::bfloat16},
    {"I32", DType::int32},
    {"U32", DType::uint32},
    {"F32", DType::float32},
    {"C64", DType::complex64},
    {"F64", DType::float64},
    {"I64", DType::int64},
    {"U64", DType::uint64},
}};

// Follows the events through the three levels, and refuses whatever does not belong where it stands.
class HeaderHandler final : public JsonHandler {
 public:
  explicit HeaderHandler(const ByteSource& source) : source_(source) {}

  SafetensorsHeader take() && { return std::move(header_); }

  void begin(JsonContainer container) override {
    const bool is_object = container == JsonContainer::object;
    if (place_ == Place::file && is_object) {
      place_ = Place::names;
    } else if (place_ == Place::names && is_object) {
      is_metadata_ ? begin_metadata() : begin_tensor();
    } else if (place_ == Place::tensor && !is_object && (field_ == Field::shape || field_ == Field::data_offsets)) {
      place_ = Place::numbers;
    } else {
      fail_type(is_object ? "an object" : "an array");
    }
  }

  void end(JsonContainer) override {
    if (place_ == Place::numbers) {
      if (field_ == Field::data_offsets) finish_offsets();
      place_ = Place::tensor;
    } else if (place_ == Place::tensor) {
      finish_tensor();
      place_ = Place::names;
    } else if (place_ == Place::metadata) {
      place_ = Place::names;
    } else {
      place_ = Place::file;
    }
  }

  void key(std::string&& name) override {
    if (place_ == Place::names) {
      is_metadata_ = name == kSafetensorsMetadataKey;
      if (is_metadata_ && header_.metadata) fail("the key '__metadata__' comes twice");
      name_ = std::move(name);
    } else if (place_ == Place::metadata) {
      charge(safetensors_metadata_cost(name.size()));
      name_ = std::move(name);
    } else {
      begin_field(name);
    }
  }

  void scalar(JsonScalar&& value) override {
    if (place_ == Place::metadata) {
      std::string* text = std::get_if<std::string>(&value);
      if (text == nullptr) fail("the value of " + quote_name(name_) + " is no string");
      charge(safetensors_metadata_cost(text->size()));
      header_.metadata->emplace_back(std::move(name_), std::move(*text));
    } else if (place_ == Place::numbers) {
      const std::uint64_t* number = std::get_if<std::uint64_t>(&value);
      if (number == nullptr) fail(field_name() + " holds something else than integers from 0 to 2^64 - 1");
      add_number(*number);
    } else if (place_ == Place::tensor && field_ == Field::dtype && std::holds_alternative<std::string>(value)) {
      entry_.dtype = find_dtype(std::get<std::string>(value));
    } else {
      fail_type(std::holds_alternative<std::string>(value) ? "a string" : "a number, boolean or null");
    }
  }

 private:
  enum class Place : std::uint8_t { file, names, metadata, tensor, numbers };
  enum class Field : std::uint8_t { dtype = 1, shape = 2, data_offsets = 4 };

  void begin_metadata() {
    header_.metadata.emplace();
    place_ = Place::metadata;
  }

  void begin_tensor() {
    charge(safetensors_tensor_cost(name_.size()));
    entry_ = {};
    entry_.name = std::move(name_);
    fields_ = 0;
    place_ = Place::tensor;
  }

  void begin_field(const std::string& name) {
    if (name == "dtype") {
      field_ = Field::dtype;
    } else if (name == "shape") {
      field_ = Field::shape;
    } else if (name == "data_offsets") {
      field_ = Field::data_offsets;
    } else {
      fail("has the field " + quote_name(name) + "; expected dtype, shape and data_offsets alone");
    }
    if ((fields_ & static_cast<unsigned>(field_)) != 0) fail(field_name() + " comes twice");
    fields_ |= static_cast<unsigned>(field_);
    n_offsets_ = 0;
  }

  void add_number(std::uint64_t number) {
    if (field_ == Field::shape) {
      if (entry_.shape.size() == kMaxSafetensorsDimensions) {
        throw UnsupportedError("cannot read '" + source_.name + "': " + where() + ": it has more than " +
                               std::to_string(kMaxSafetensorsDimensions) + " dimensions");
      }
      charge(kSafetensorsDimensionCost);
      entry_.shape.push_back(number);
    } else {
      if (++n_offsets_ > 2) fail("data_offsets holds more than two numbers");
      (n_offsets_ == 1 ? entry_.begin : entry_.end) = number;
    }
  }

  void finish_offsets() const {
    if (n_offsets_ != 2) {
      fail("data_offsets holds " + std::to_string(n_offsets_) +
           " numbers, expected two: the first byte and the last + 1");
    }
  }

  void finish_tensor() {
    for (const Field field : {Field::dtype, Field::shape, Field::data_offsets}) {
      if ((fields_ & static_cast<unsigned>(field)) == 0) fail("has no " + field_name(field));
    }
    header_.entries.push_back(std::move(entry_));
  }

  DType find_dtype(const std::string& name) const {
    const auto found =
        std::find_if(kDTypes.begin(), kDTypes.end(), [&](const auto& item) { return item.name == name; });
    if (found != kDTypes.end() && found->dtype) return *found->dtype;
    throw UnsupportedError("cannot read '" + source_.name + "': " + where() + ": its dtype is " + quote_name(name) +
                           (found == kDTypes.end() ? ", which is not known" : ", which PyTorch does not have"));
  }

  static std::string field_name(Field field) {
    return field == Field::dtype ? "dtype" : field == Field::shape ? "shape" : "data_offsets";
  }
  std::string field_name() const { return field_name(field_); }

  std::string where() const {
    if (place_ == Place::tensor || place_ == Place::numbers) return "header, tensor " + quote_name(entry_.name);
    if (place_ == Place::metadata) return "header, '__metadata__'";
    return "header";
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw_corrupt(source_, where(), kHeaderOffset + position(), what);
  }

  // What stands there is of the wrong type.
  [[noreturn]] void fail_type(const std::string& found) const {
    std::string expected = "an object";
    if (place_ == Place::metadata || (place_ == Place::tensor && field_ == Field::dtype)) expected = "a string";
    if (place_ == Place::tensor && field_ != Field::dtype) expected = "an array";
    if (place_ == Place::numbers) expected = "an integer";
    const std::string what = place_ == Place::names    ? quote_name(name_) + " is "
                             : place_ == Place::tensor ? field_name() + " is "
                                                       : "";
    fail(what + found + ", expected " + expected);
  }

  void charge(std::uint64_t n_bytes) {
    n_object_bytes_ += n_bytes;
    if (n_object_bytes_ > kMaxSafetensorsObjectBytes) {
      throw UnsupportedError("cannot read '" + source_.name + "': its header describes more than fits into " +
                             std::to_string(kMaxSafetensorsObjectBytes >> 20) + " MiB of memory");
    }
  }

  const ByteSource& source_;
  SafetensorsHeader header_;
  Place place_ = Place::file;
  std::string name_;
  bool is_metadata_ = false;
  SafetensorsEntry entry_;
  Field field_ = Field::dtype;
  unsigned fields_ = 0;  // of the tensor, those that came
  unsigned n_offsets_ = 0;
  std::uint64_t n_object_bytes_ = 0;
};

template <class Items, class NameOf>
void refuse_repeated_names(const ByteSource& source, const std::string& where, const Items& items, NameOf name_of) {
  HashTable<std::string_view> names;
  names.reserve(items.size());
  for (const auto& item : items) {
    const std::string_view name = name_of(item);
    if (names.find_or_add(hash_of(name), name, [name](std::string_view other) { return other == name; }) == nullptr) {
      continue;
    }
    throw_corrupt(source, where, kHeaderOffset, "the key " + quote_name(name) + " comes twice");
  }
}

}  // namespace

std::optional<std::string_view> safetensors_dtype_name(DType dtype) {
  const auto found =
      std::find_if(kDTypes.begin(), kDTypes.end(), [&](const auto& item) { return item.dtype == dtype; });
  if (found == kDTypes.end()) return std::nullopt;
  return found->name;
}

int safetensors_dtype_rank(DType dtype) {
  return static_cast<int>(
      std::find_if(kDTypes.begin(), kDTypes.end(), [&](const auto& item) { return item.dtype == dtype; }) -
      kDTypes.begin());
}

SafetensorsHeader parse_safetensors_header(const ByteSource& source, std::string_view text) {
  HeaderHandler handler(source);
  try {
    read_json(text, kMaxDepth, handler);
  } catch (const JsonError& error) {
    throw_corrupt(source, "header", kHeaderOffset + error.position, error.what());
  }
  SafetensorsHeader header = std::move(handler).take();
  refuse_repeated_names(source, "header", header.entries,
                        [](const auto& entry) { return std::string_view(entry.name); });
  if (header.metadata) {
    refuse_repeated_names(source, "header, '__metadata__'", *header.metadata,
                          [](const auto& item) { return std::string_view(item.first); });
  }
  return header;
}

}  // namespace ckptio::detail
