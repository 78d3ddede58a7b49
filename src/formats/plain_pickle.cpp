// SPDX-License-Identifier: Apache-2.0
// Two walks of the Values in the same order: the first finds what stands in several places, and of which types the
// storages are seen; the second writes. What the first notes of each string and tensor, the second takes in turn.
#include "formats/plain_pickle.h"

#include <algorithm>

#include "codec/limits.h"
#include "codec/pickle_output.h"
#include "codec/tensor_output.h"
#include "formats/torch_types.h"
#include "formats/value_to_object.h"
#include "hash/hash_table.h"
#include "value/tensor_storage.h"

namespace ckptio::detail {

namespace {

constexpr std::uint32_t kNone = 0xFFFFFFFF;

// As many items as Python's pickler gives to one APPENDS or SETITEMS.
constexpr std::size_t kBatch = 1000;

// Something that may stand in several places, and its place in the memo once it was written.
struct Shared {
  bool is_used_again = false;
  std::uint32_t memo = kNone;
};
struct SharedText : Shared {
  const std::string* text = nullptr;
};
struct SharedTensor : Shared {
  const at::Tensor* tensor = nullptr;
  std::uint32_t storage = kNone;
};
// As which type a storage is seen.
struct StorageType {
  DType dtype = DType::uint8;
  bool untyped = false;
  c10::Device device;
};

// What the first walk found. `text_uses` and `tensor_uses`: which each is that the walk meets.
struct Survey {
  std::vector<SharedText> texts;
  std::vector<std::uint32_t> text_uses;
  std::vector<SharedTensor> tensors;
  std::vector<std::uint32_t> tensor_uses;
  std::vector<SavedStorage> storages;
  std::vector<StorageType> storage_types;
  std::size_t n_text_bytes = 0, n_values = 0;
};

// Its functions are false where something is not plain.
class Surveyor {
 public:
  bool add(const Dict& dict) {
    if (++depth_ > kMaxDepth) return false;
    for (const auto& [key, value] : dict) {
      if (!add(key) || !add(value)) return false;
    }
    for (const auto& [key, value] : dict.attributes()) {
      if (!can_name_attribute(key)) return false;
    }
    if (!dict.attributes().empty() && !add(dict.attributes())) return false;
    --depth_;
    return true;
  }

  bool add(const Value& value) {
    ++found_.n_values;
    if (const auto* tensor = value.get_if<at::Tensor>()) return add_tensor(*tensor);
    if (const auto* text = value.get_if<std::string>()) return add_text(*text);
    if (const auto* dict = value.get_if<Dict>()) return add(*dict);
    if (const auto* list = value.get_if<List>()) return add_items(*list);
    if (const auto* tuple = value.get_if<Tuple>()) return add_items(*tuple);
    return value.is_null() || value.is<bool>() || value.is<std::int64_t>() || value.is<double>() ||
           value.is<std::complex<double>>() || value.is<Bytes>();
  }

  Survey take() { return std::move(found_); }

 private:
  template <class Items>
  bool add_items(const Items& items) {
    if (++depth_ > kMaxDepth) return false;
    if (!std::all_of(items.begin(), items.end(), [this](const Value& item) { return add(item); })) return false;
    --depth_;
    return true;
  }

  bool add_text(const std::string& text) {
    const auto number = static_cast<std::uint32_t>(found_.texts.size());
    const std::uint32_t known = text_numbers_.get_or_add(
        hash_of(text), number, [&](std::uint32_t other) { return *found_.texts[other].text == text; });
    found_.text_uses.push_back(known);
    found_.n_text_bytes += text.size();
    if (known == number) {
      found_.texts.push_back({{}, &text});
    } else {
      found_.texts[known].is_used_again = true;
    }
    return true;
  }

  bool add_tensor(const at::Tensor& tensor) {
    if (!tensor.defined() || !has_plain_storage(tensor) || tensor.is_meta()) return false;
    if (!why_no_memory(tensor).empty()) return false;
    const c10::TensorImpl* impl = tensor.unsafeGetTensorImpl();
    const auto number = static_cast<std::uint32_t>(found_.tensors.size());
    const std::uint32_t known = tensor_numbers_.get_or_add(hash_of_address(impl), number, [&](std::uint32_t other) {
      return found_.tensors[other].tensor->unsafeGetTensorImpl() == impl;
    });
    found_.tensor_uses.push_back(known);
    if (known != number) {
      found_.tensors[known].is_used_again = true;
    } else {
      found_.tensors.push_back({{}, &tensor, add_storage(tensor.storage(), to_dtype(tensor.scalar_type()))});
    }
    return true;
  }

  // See ObjectBuilder::add_storage.
  std::uint32_t add_storage(const c10::Storage& storage, DType dtype) {
    const c10::StorageImpl* impl = storage.unsafeGetStorageImpl();
    const auto number = static_cast<std::uint32_t>(found_.storages.size());
    const std::uint32_t known = storage_numbers_.get_or_add(hash_of_address(impl), number, [&](std::uint32_t other) {
      return found_.storages[other].storage->unsafeGetStorageImpl() == impl;
    });
    if (known == number) {
      const SavedStorage& saved = found_.storages.emplace_back(storage);
      const DTypeInfo& info = dtype_info(dtype);
      const bool untyped = info.storage_class.empty() || saved.n_bytes % info.item_size != 0;
      found_.storage_types.push_back({untyped ? DType::uint8 : dtype, untyped, storage.device()});
    }
    StorageType& type = found_.storage_types[known];
    if (!type.untyped && dtype != type.dtype) {
      type.untyped = true;
      type.dtype = DType::uint8;
    }
    return known;
  }

  Survey found_;
  HashTable<std::uint32_t> text_numbers_, tensor_numbers_, storage_numbers_;
  std::uint32_t depth_ = 0;
};

class PlainWriter {
 public:
  explicit PlainWriter(Survey survey)
      : survey_(std::move(survey)),
        out_(survey_.n_text_bytes + 5 * survey_.text_uses.size() + 96 * survey_.tensor_uses.size() + 256) {}

  template <class Content>
  PlainPickle write(const Content& content) {
    add(content);
    return {out_.finish(), std::move(survey_.storages), survey_.n_values};
  }

 private:
  void add(const Value& value) {
    if (value.is<at::Tensor>()) return add_tensor(survey_.tensors[survey_.tensor_uses[next_tensor_++]]);
    if (value.is<std::string>()) return add_text(survey_.texts[survey_.text_uses[next_text_++]]);
    if (const auto* dict = value.get_if<Dict>()) return add(*dict);
    if (const auto* list = value.get_if<List>()) return add_list(*list);
    if (const auto* tuple = value.get_if<Tuple>()) return add_tuple(*tuple);
    if (const auto* flag = value.get_if<bool>()) return out_.flag(*flag);
    if (const auto* number = value.get_if<std::int64_t>()) return out_.integer(*number);
    if (const auto* real = value.get_if<double>()) return out_.real(*real);
    if (const auto* number = value.get_if<std::complex<double>>()) return out_.complex(number->real(), number->imag());
    if (const auto* bytes = value.get_if<Bytes>()) return out_.octets(bytes->view());
    out_.none();
  }

  void add(const Dict& dict) {
    if (dict.type() == DictType::dict) {
      out_.opcode(op::kEmptyDict);
    } else {
      out_.global("collections", dict.type() == DictType::counter ? "Counter" : "OrderedDict");
      out_.opcode(op::kEmptyTuple);
      out_.opcode(op::kReduce);
    }
    const auto add_entry = [this](const Dict::value_type& entry) {
      add(entry.first);
      add(entry.second);
    };
    add_batches(dict.begin(), dict.size(), add_entry, op::kSetItem, op::kSetItems);
    if (dict.attributes().empty()) return;
    add(dict.attributes());
    out_.opcode(op::kBuild);
  }

  void add_list(const List& list) {
    out_.opcode(op::kEmptyList);
    add_batches(
        list.begin(), list.size(), [this](const Value& item) { add(item); }, op::kAppend, op::kAppends);
  }

  template <class Iterator, class Add>
  void add_batches(Iterator next, std::size_t n_left, Add add_one, char one, char many) {
    while (n_left > 0) {
      const std::size_t n_now = std::min(n_left, kBatch);
      if (n_now > 1) out_.opcode(op::kMark);
      for (std::size_t i = 0; i < n_now; ++i) add_one(*next++);
      out_.opcode(n_now > 1 ? many : one);
      n_left -= n_now;
    }
  }

  void add_tuple(const Tuple& tuple) {
    if (tuple.is_size()) out_.global("torch", "Size");
    out_.open_tuple(tuple.size());
    for (const Value& item : tuple) add(item);
    out_.close_tuple(tuple.size());
    if (!tuple.is_size()) return;
    out_.close_tuple(1);
    out_.opcode(op::kReduce);
  }

  void add_text(SharedText& text) {
    if (!text.is_used_again) return out_.text(*text.text);
    if (text.memo != kNone) return out_.get(text.memo);
    text.memo = out_.repeated_text(*text.text);
  }

  void add_tensor(SharedTensor& shared) {
    if (shared.memo != kNone) return out_.get(shared.memo);
    const at::Tensor& tensor = *shared.tensor;
    const StorageType& type = survey_.storage_types[shared.storage];
    const std::string location = type.device.is_cpu() ? "cpu" : type.device.str();
    const TensorOutput::Storage storage{type.dtype, type.untyped, survey_.storages[shared.storage].n_bytes, location};
    const TensorOutput::View view{.dtype = to_dtype(tensor.scalar_type()),
                                  .sizes = tensor.sizes(),
                                  .strides = tensor.strides(),
                                  .offset = tensor.storage_offset(),
                                  .conj = tensor.is_conj(),
                                  .neg = tensor.is_neg()};
    tensors_.constant_global("torch._utils", TensorOutput::rebuild_function(view, storage));
    tensors_.open_arguments(view, storage, shared.storage, tensor.requires_grad());
    tensors_.no_hooks();
    tensors_.close_arguments(view, storage);
    out_.opcode(op::kReduce);
    if (shared.is_used_again) shared.memo = out_.put();
  }

  Survey survey_;
  PickleOutput out_;
  TensorOutput tensors_{out_};
  std::size_t next_text_ = 0, next_tensor_ = 0;
};

template <class Content>
std::optional<PlainPickle> write_plain(const Content& content) {
  try {
    Surveyor surveyor;
    if (!surveyor.add(content)) return std::nullopt;
    return PlainWriter(surveyor.take()).write(content);
  } catch (const c10::Error&) {  // a tensor that does not tell what it is
    return std::nullopt;
  }
}

}  // namespace

std::optional<PlainPickle> write_plain_pickle(const Value& value) { return write_plain(value); }
std::optional<PlainPickle> write_plain_pickle(const Dict& dict) { return write_plain(dict); }

}  // namespace ckptio::detail
