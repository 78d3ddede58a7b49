// SPDX-License-Identifier: Apache-2.0
// An object is a series of steps; a step that writes another object puts that one's steps before the rest. So nothing
// recurses, however deep the objects are. Steps that lead to no further ones are done at once where nothing waits
// before them: thousands of tensors in a dict leave none behind.
//
// Cycles, as Python's pickler has them: a list is made empty, put into the memo and filled, so what it holds can refer
// to it. What is complete when made (a tuple, a call's result) comes after its parts; if one of the parts refers to it,
// it is made there, within, and what stands on the stack for the outer one is dropped in favour of that.
#include "codec/pickle_writer.h"

#include <algorithm>
#include <array>
#include <variant>

#include "ckptio/error.h"
#include "codec/object_references.h"
#include "codec/pickle_output.h"
#include "codec/tensor_output.h"

namespace ckptio::detail {
namespace {

// As many items as Python's pickler gives to one APPENDS or SETITEMS.
constexpr std::size_t kBatch = 1000;

// An object may be met again while it is made, and each time its parts are written again. Graphs of real objects need
// this rarely; one made for the purpose could take quadratic time.
constexpr std::uint64_t kMaxRepeats = 16;

struct WriteObject {
  const Object* object;
};
// The topmost `n_parts` on the stack (0: all behind the mark) become `object` by `code`.
struct Make {
  const Object* object;
  char code;
  int n_parts;
};
enum class Part : std::uint8_t { items, added, entries, state };
// What is put into `object` after it was made, from `begin` on.
struct Fill {
  const Object* object;
  Part part;
  std::size_t begin;
};
struct Code {
  char code;
};
struct Flag {
  bool value;
};
struct Integer {
  std::int64_t value;
};
struct Real {
  double value;
};
struct Integers {
  const Dims* values;
};
struct Size {
  const Dims* values;
};
struct Storage {
  std::uint32_t index;
};
struct GlobalStep {
  std::string_view module, name;
};
struct LayoutStep {
  LayoutKind layout;
};
// What stands before a dense tensor's hooks among the arguments of its function, and what stands behind them.
struct OpenArguments {
  const ObjectTensor* tensor;
  bool requires_grad;
};
struct CloseArguments {
  const ObjectTensor* tensor;
};
// A tensor's hooks: the object, or an empty OrderedDict where there is none.
struct Hooks {
  const Object* object;
};
using Step = std::variant<WriteObject, Make, Fill, Code, Flag, Integer, Real, Integers, Size, Storage, GlobalStep,
                          LayoutStep, OpenArguments, CloseArguments, Hooks>;

constexpr GlobalStep kTorchTensor{"torch", "Tensor"};

std::string_view layout_name(LayoutKind layout) {
  constexpr std::array<std::string_view, 7> kNames = {"torch.strided",    "torch.sparse_coo", "torch.sparse_csr",
                                                      "torch.sparse_csc", "torch.sparse_bsr", "torch.sparse_bsc",
                                                      "torch._mkldnn"};
  return kNames.at(static_cast<std::size_t>(layout));
}

std::string_view qscheme_name(QSchemeKind qscheme) {
  constexpr std::array<std::string_view, 5> kNames = {"per_tensor_affine", "per_channel_affine", "per_tensor_symmetric",
                                                      "per_channel_symmetric", "per_channel_affine_float_qparams"};
  return kNames.at(static_cast<std::size_t>(qscheme));
}

bool is_per_channel(QSchemeKind qscheme) {
  return qscheme != QSchemeKind::per_tensor_affine && qscheme != QSchemeKind::per_tensor_symmetric;
}

TensorOutput::Storage described(const StorageInfo& storage) {
  return {storage.dtype, storage.untyped, storage.n_bytes, storage.location};
}

TensorOutput::View view_of(const ObjectTensor& tensor) {
  return {tensor.dtype, tensor.sizes, tensor.strides, tensor.offset, tensor.conj, tensor.neg};
}

class PickleWriter {
 public:
  PickleWriter(const ObjectGraph& graph, const Object& root)
      : graph_(graph),
        references_(count_references(graph, root)),
        out_(expected_bytes(references_)),
        memo_(graph.objects.size(), kNone),
        keys_(graph.storages.size(), kNone) {
    steps_.push_back(WriteObject{&root});
  }

  WrittenPickle write() {
    while (!steps_.empty()) {
      const Step step = steps_.back();
      steps_.pop_back();
      n_waiting_ = steps_.size();
      std::visit([this](const auto& what) { run(what); }, step);
      // They were added in the order in which they shall run; the next one to run is the last.
      std::reverse(steps_.begin() + static_cast<std::ptrdiff_t>(n_waiting_), steps_.end());
    }
    return {out_.finish(), std::move(storage_order_)};
  }

 private:
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;

  // A little more than a tensor of two dimensions and a number take.
  static std::size_t expected_bytes(const ObjectReferences& references) {
    return references.n_text_bytes + 6 * references.n_references + 96 * references.n_tensors + 256;
  }

  // Those steps that write nothing but themselves.
  template <class Step>
  static bool ends_here(const Step& step) {
    if constexpr (std::is_same_v<Step, WriteObject>) return step.object != nullptr && n_children(*step.object) == 0;
    if constexpr (std::is_same_v<Step, Make>) return !step.object->template is<ObjectOpaque>();
    if constexpr (std::is_same_v<Step, Hooks>) return step.object == nullptr;
    return !std::is_same_v<Step, Fill>;
  }

  template <class... Steps>
  void then(const Steps&... steps) {
    (add(steps), ...);
  }
  template <class Step>
  void add(const Step& step) {
    if (steps_.size() == n_waiting_ && ends_here(step)) return run(step);
    steps_.emplace_back(step);
  }

  // Steps.
  void run(const WriteObject& step);
  void run(const Make& step);
  void run(const Fill& step);
  void run(const Storage& step);
  void run(const Code& step) { out_.opcode(step.code); }
  void run(const Flag& step) { out_.flag(step.value); }
  void run(const Integer& step) { out_.integer(step.value); }
  void run(const Real& step) { out_.real(step.value); }
  void run(const Integers& step) { out_.integers(*step.values); }
  void run(const GlobalStep& step) { tensors_.constant_global(step.module, step.name); }
  void run(const OpenArguments& step) {
    const ObjectTensor& tensor = *step.tensor;
    const StorageInfo& storage = storage_of(tensor.storage);
    tensors_.open_arguments(view_of(tensor), described(storage), key_of(tensor.storage), step.requires_grad);
  }
  void run(const CloseArguments& step) {
    tensors_.close_arguments(view_of(*step.tensor), described(storage_of(step.tensor->storage)));
  }
  void run(const Hooks& step) {
    if (step.object != nullptr) return then(WriteObject{step.object});
    tensors_.no_hooks();
  }
  void run(const Size& step) {
    out_.global("torch", "Size");
    out_.integers(*step.values);
    out_.opcode(op::kTuple1);
    out_.opcode(op::kReduce);
  }
  void run(const LayoutStep& step) {
    out_.global("torch.serialization", "_get_layout");
    out_.repeated_text(layout_name(step.layout));
    out_.opcode(op::kTuple1);
    out_.opcode(op::kReduce);
  }

  // Objects.
  void write(const Object&, const ObjectNone&) { out_.none(); }
  void write(const Object&, bool value) { out_.flag(value); }
  void write(const Object&, std::int64_t value) { out_.integer(value); }
  void write(const Object&, double value) { out_.real(value); }
  void write(const Object&, const std::complex<double>& value) { out_.complex(value.real(), value.imag()); }
  void write(const Object& object, const ObjectString& value);
  void write(const Object& object, const ObjectBigInt& value) {
    out_.big_integer(value.twos_complement), memoize(object);
  }
  void write(const Object& object, const ObjectBytes& value) { out_.octets(value.octets), memoize(object); }
  void write(const Object& object, const ObjectByteArray& value);
  void write(const Object& object, const ObjectList& list);
  void write(const Object& object, const ObjectTuple& tuple);
  void write(const Object& object, const ObjectDict& dict);
  void write(const Object& object, const ObjectSet& set);
  void write(const Object&, DType dtype) { out_.global("torch", dtype_name_of(dtype)); }
  void write(const Object&, const ObjectDevice& device);
  void write(const Object&, LayoutKind layout) { run(LayoutStep{layout}); }
  void write(const Object&, QSchemeKind qscheme) { out_.global("torch", qscheme_name(qscheme)); }
  void write(const Object&, const ObjectStorage& storage) { run(Storage{storage.storage}); }
  void write(const Object&, const ObjectGlobal& global) { out_.global(global.module, global.name); }
  void write(const Object& object, const ObjectTensor* tensor) { write_tensor(object, *tensor); }
  void write(const Object& object, const std::unique_ptr<ObjectOpaque>& opaque);

  // Tensors: what Python calls, with which arguments.
  void write_tensor(const Object& object, const ObjectTensor& tensor);
  GlobalStep rebuild_function(const ObjectTensor& tensor) const;
  void then_rebuild_arguments(const ObjectTensor& tensor, bool requires_grad, const Object* hooks);
  void then_quantized_arguments(const ObjectTensor& tensor, bool requires_grad, const Object* hooks);
  void then_sparse_arguments(const ObjectTensor& tensor);
  const StorageInfo& storage_of(std::uint32_t index) const;
  std::uint32_t key_of(std::uint32_t index);

  void then_batches(const Fill& step, const std::vector<Object*>& items, char one, char many);
  void then_pair_batches(const Fill& step, const std::vector<std::pair<Object*, Object*>>& entries);
  void memoize(const Object& object);

  const ObjectGraph& graph_;
  const ObjectReferences references_;
  PickleOutput out_;
  TensorOutput tensors_{out_};
  std::vector<Step> steps_;          // the next one last
  std::size_t n_waiting_ = 0;        // of steps_: those there were before the one that runs
  std::vector<std::uint32_t> memo_;  // by Object::number
  std::vector<std::uint32_t> keys_;  // of storages
  std::vector<std::uint32_t> storage_order_;
  std::uint64_t n_written_ = 0;
};

void PickleWriter::memoize(const Object& object) {
  if (references_.uses[object.number].is_used_again || references_.has_indirect_cycle) {
    memo_[object.number] = out_.put();
  }
}

void PickleWriter::run(const WriteObject& step) {
  if (step.object == nullptr)
    throw ValueError("cannot write a pickle: an object that is missing was found in its graph");
  if (++n_written_ / kMaxRepeats > references_.n_references) {
    throw UnsupportedError(
        "cannot write a pickle: its objects hold each other so that they would have to be written more than " +
        std::to_string(kMaxRepeats) + " times over");
  }
  if (const std::uint32_t known = memo_[step.object->number]; known != kNone) {
    out_.get(known);
  } else {
    std::visit([&](const auto& held) { write(*step.object, held); }, step.object->held);
  }
}

void PickleWriter::run(const Make& step) {
  if (const std::uint32_t known = memo_[step.object->number]; known != kNone) {
    // It was made, and filled, by one of its own parts.
    if (step.n_parts == 0) out_.opcode(op::kPopMark);
    for (int i = 0; i < step.n_parts; ++i) out_.opcode(op::kPop);
    out_.get(known);
    return;
  }
  out_.opcode(step.code);
  memoize(*step.object);
  if (step.object->is<ObjectOpaque>()) then(Fill{step.object, Part::items, 0});
}

// A batch of the items from step.begin on, and the step that writes the rest.
void PickleWriter::then_batches(const Fill& step, const std::vector<Object*>& items, char one, char many) {
  const std::size_t end = std::min(items.size(), step.begin + kBatch);
  if (step.begin == end) return;
  const bool is_one = end - step.begin == 1 && one != 0;
  if (!is_one) then(Code{op::kMark});
  for (std::size_t i = step.begin; i < end; ++i) then(WriteObject{items[i]});
  then(Code{is_one ? one : many});
  if (end < items.size()) then(Fill{step.object, step.part, end});
}

void PickleWriter::then_pair_batches(const Fill& step, const std::vector<std::pair<Object*, Object*>>& entries) {
  const std::size_t end = std::min(entries.size(), step.begin + kBatch);
  if (step.begin == end) return;
  const bool is_one = end - step.begin == 1;
  if (!is_one) then(Code{op::kMark});
  for (std::size_t i = step.begin; i < end; ++i) then(WriteObject{entries[i].first}, WriteObject{entries[i].second});
  then(Code{is_one ? op::kSetItem : op::kSetItems});
  if (end < entries.size()) then(Fill{step.object, step.part, end});
}

void PickleWriter::run(const Fill& step) {
  const Object& object = *step.object;
  if (const auto* list = object.get<ObjectList>()) {
    then_batches(step, list->items, op::kAppend, op::kAppends);
  } else if (const auto* set = object.get<ObjectSet>()) {
    then_batches(step, set->items, 0, op::kAddItems);
  } else if (const auto* dict = object.get<ObjectDict>()) {
    if (step.part == Part::entries) then_pair_batches(step, dict->items);
    if (step.part == Part::state && dict->attributes != nullptr) then(WriteObject{dict->attributes}, Code{op::kBuild});
  } else if (const auto* opaque = object.get<ObjectOpaque>()) {
    if (step.part == Part::items) {
      then_batches(step, opaque->items, op::kAppend, op::kAppends);
      if (step.begin == 0) then(Fill{&object, Part::added, 0}, Fill{&object, Part::entries, 0});
      if (step.begin == 0) then(Fill{&object, Part::state, 0});
    } else if (step.part == Part::added) {
      then_batches(step, opaque->added, 0, op::kAddItems);
    } else if (step.part == Part::entries) {
      then_pair_batches(step, opaque->entries);
    } else if (opaque->state != nullptr) {
      then(WriteObject{opaque->state}, Code{op::kBuild});
    }
  }
}

void PickleWriter::run(const Storage& step) {
  const StorageInfo& storage = storage_of(step.index);
  tensors_.storage(described(storage), key_of(step.index));
}

std::uint32_t PickleWriter::key_of(std::uint32_t index) {
  std::uint32_t& key = keys_[index];
  if (key == kNone) {
    key = static_cast<std::uint32_t>(storage_order_.size());
    storage_order_.push_back(index);
  }
  return key;
}

const StorageInfo& PickleWriter::storage_of(std::uint32_t index) const {
  if (index >= graph_.storages.size()) {
    throw ValueError("cannot write a pickle: storage " + std::to_string(index) + " found, " +
                     std::to_string(graph_.storages.size()) + " storages expected");
  }
  return graph_.storages[index];
}

void PickleWriter::write(const Object& object, const ObjectString& value) {
  if (references_.uses[object.number].is_used_again) {
    out_.repeated_text(value.utf8);
  } else {
    out_.text(value.utf8);
  }
}

void PickleWriter::write(const Object& object, const ObjectByteArray& value) {
  out_.global("builtins", "bytearray");
  if (!value.octets.empty()) out_.octets(value.octets);
  out_.close_tuple(value.octets.empty() ? 0 : 1);
  out_.opcode(op::kReduce);
  memoize(object);
}

void PickleWriter::write(const Object& object, const ObjectList& list) {
  out_.opcode(op::kEmptyList);
  memoize(object);
  if (!list.items.empty()) then(Fill{&object, Part::items, 0});
}

void PickleWriter::write(const Object& object, const ObjectTuple& tuple) {
  const std::size_t n = tuple.items.size();
  const char code = n == 0 ? op::kEmptyTuple : n <= 3 ? static_cast<char>(op::kTuple1 + (n - 1)) : op::kTuple;
  if (tuple.is_size) {
    out_.global("torch", "Size");
    out_.open_tuple(n);
    for (const Object* item : tuple.items) then(WriteObject{item});
    then(Code{code}, Code{op::kTuple1}, Make{&object, op::kReduce, 2});
  } else if (n == 0) {
    out_.opcode(code);
  } else {
    out_.open_tuple(n);
    for (const Object* item : tuple.items) then(WriteObject{item});
    then(Make{&object, code, n <= 3 ? static_cast<int>(n) : 0});
  }
}

void PickleWriter::write(const Object& object, const ObjectDict& dict) {
  if (dict.type == DictType::dict) {
    out_.opcode(op::kEmptyDict);
  } else {
    out_.global("collections", dict.type == DictType::counter ? "Counter" : "OrderedDict");
    out_.opcode(op::kEmptyTuple);
    out_.opcode(op::kReduce);
  }
  memoize(object);
  if (!dict.items.empty()) then(Fill{&object, Part::entries, 0});
  if (dict.attributes != nullptr) then(Fill{&object, Part::state, 0});
}

void PickleWriter::write(const Object& object, const ObjectSet& set) {
  if (!set.frozen && references_.uses[object.number].holds_itself) {
    out_.opcode(op::kEmptySet);
    memoize(object);
    then(Fill{&object, Part::items, 0});
    return;
  }
  out_.global("builtins", set.frozen ? "frozenset" : "set");
  out_.opcode(op::kEmptyList);
  for (std::size_t begin = 0; begin < set.items.size(); begin += kBatch) {
    then(Code{op::kMark});
    const std::size_t end = std::min(set.items.size(), begin + kBatch);
    for (std::size_t i = begin; i < end; ++i) then(WriteObject{set.items[i]});
    then(Code{op::kAppends});
  }
  then(Code{op::kTuple1}, Make{&object, op::kReduce, 2});
}

// "cuda:1" as Python's device("cuda", 1).
void PickleWriter::write(const Object&, const ObjectDevice& device) {
  const std::string_view name = device.name;
  const std::size_t colon = name.find(':');
  const std::string_view digits = colon == std::string_view::npos ? "" : name.substr(colon + 1);
  const bool has_index = !digits.empty() && digits.size() <= 4 &&
                         std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
  out_.global("torch", "device");
  out_.repeated_text(has_index ? name.substr(0, colon) : name);
  if (has_index) out_.integer(std::stoi(std::string(digits)));
  out_.close_tuple(has_index ? 2 : 1);
  out_.opcode(op::kReduce);
}

void PickleWriter::write(const Object& object, const std::unique_ptr<ObjectOpaque>& held) {
  const ObjectOpaque& opaque = *held;
  then(WriteObject{opaque.callable});
  if (opaque.args == nullptr) {
    then(Code{op::kEmptyTuple});
  } else {
    then(WriteObject{opaque.args});
  }
  switch (opaque.make) {
    case ObjectOpaque::Make::call:
      then(Make{&object, op::kReduce, 2});
      break;
    case ObjectOpaque::Make::new_object:
      then(Make{&object, op::kNewObject, 2});
      break;
    case ObjectOpaque::Make::new_object_ex:
      if (opaque.kwargs == nullptr) {
        then(Code{op::kEmptyDict});
      } else {
        then(WriteObject{opaque.kwargs});
      }
      then(Make{&object, op::kNewObjectEx, 3});
  }
}

// As torch/_tensor.py and torch/nn/parameter.py (2.13) reduce tensors. A parameter wraps its data, a tensor without
// gradient; attributes wrap both.
void PickleWriter::write_tensor(const Object& object, const ObjectTensor& tensor) {
  const Object* hooks = tensor.backward_hooks;
  if (tensor.is_parameter) {
    const bool has_state = tensor.attributes != nullptr;
    then(GlobalStep{"torch._utils", has_state ? "_rebuild_parameter_with_state" : "_rebuild_parameter"},
         Code{op::kMark}, rebuild_function(tensor));
    then_rebuild_arguments(tensor, false, nullptr);
    then(Code{op::kReduce}, Flag{tensor.requires_grad}, Hooks{hooks});
    if (has_state) then(WriteObject{tensor.attributes});
    then(Code{op::kTuple});
  } else if (tensor.attributes != nullptr) {
    then(GlobalStep{"torch._tensor", "_rebuild_from_type_v2"}, Code{op::kMark}, rebuild_function(tensor), kTorchTensor);
    then_rebuild_arguments(tensor, tensor.requires_grad, hooks);
    then(WriteObject{tensor.attributes}, Code{op::kTuple});
  } else {
    then(rebuild_function(tensor));
    then_rebuild_arguments(tensor, tensor.requires_grad, hooks);
  }
  then(Make{&object, op::kReduce, 2});
}

GlobalStep PickleWriter::rebuild_function(const ObjectTensor& tensor) const {
  using Form = ObjectTensor::Form;
  std::string_view name;
  switch (tensor.form) {
    case Form::dense:
      name = TensorOutput::rebuild_function(view_of(tensor), described(storage_of(tensor.storage)));
      break;
    case Form::meta:
      name = "_rebuild_meta_tensor_no_storage";
      break;
    case Form::sparse_coo:
    case Form::sparse_compressed:
      name = "_rebuild_sparse_tensor";
      break;
    case Form::quantized:
      name = "_rebuild_qtensor";
      break;
    case Form::nested:
      name = "_rebuild_nested_tensor";
      break;
  }
  return {"torch._utils", name};
}

void PickleWriter::then_rebuild_arguments(const ObjectTensor& tensor, bool requires_grad, const Object* hooks) {
  using Form = ObjectTensor::Form;
  switch (tensor.form) {
    case Form::dense:
      then(OpenArguments{&tensor, requires_grad}, Hooks{hooks}, CloseArguments{&tensor});
      return;
    case Form::quantized:
      return then_quantized_arguments(tensor, requires_grad, hooks);
    case Form::sparse_coo:
    case Form::sparse_compressed:
      return then_sparse_arguments(tensor);
    case Form::meta:
      then(Code{op::kMark}, GlobalStep{"torch", dtype_name_of(tensor.dtype)}, Integers{&tensor.sizes},
           Integers{&tensor.strides}, Flag{requires_grad}, Code{op::kTuple});
      return;
    case Form::nested:
      then(Code{op::kMark});
      for (const Object* part : tensor.parts) then(WriteObject{part});
      then(Code{op::kTuple});
  }
}

void PickleWriter::then_quantized_arguments(const ObjectTensor& tensor, bool requires_grad, const Object* hooks) {
  if (TensorOutput::needs_dtype(view_of(tensor), described(storage_of(tensor.storage)))) {
    throw UnsupportedError("cannot write a pickle: a quantized tensor of type " +
                           std::string(dtype_name_of(tensor.dtype)) +
                           " found on a storage of another type; Python takes its type from the storage");
  }
  then(Code{op::kMark}, Storage{tensor.storage}, Integer{tensor.offset}, Integers{&tensor.sizes},
       Integers{&tensor.strides}, Code{op::kMark}, GlobalStep{"torch", qscheme_name(tensor.qscheme)});
  if (is_per_channel(tensor.qscheme)) {
    for (const Object* part : tensor.parts) then(WriteObject{part});
    then(Integer{tensor.axis});
  } else {
    then(Real{tensor.scale}, Integer{tensor.zero_point});
  }
  then(Code{op::kTuple}, Flag{requires_grad}, Hooks{hooks}, Code{op::kTuple});
}

void PickleWriter::then_sparse_arguments(const ObjectTensor& tensor) {
  then(LayoutStep{tensor.layout}, Code{op::kMark});
  for (const Object* part : tensor.parts) then(WriteObject{part});
  then(Size{&tensor.sizes});
  if (tensor.form == ObjectTensor::Form::sparse_coo) then(Flag{tensor.is_coalesced});
  then(Code{op::kTuple}, Code{static_cast<char>(op::kTuple1 + 1)});
}

}  // namespace

WrittenPickle write_pickle(const ObjectGraph& graph, const Object& root) { return PickleWriter(graph, root).write(); }

}  // namespace ckptio::detail
