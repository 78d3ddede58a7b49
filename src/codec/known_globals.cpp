// SPDX-License-Identifier: Apache-2.0
#include "codec/known_globals.h"

#include <algorithm>

#include "codec/zip_directory.h"

namespace ckptio::detail {
namespace {

struct KnownName {
  std::string_view module, name;
  Known known;
};

constexpr KnownName kKnownNames[] = {
    {"collections", "OrderedDict", Known::ordered_dict},
    {"collections", "Counter", Known::counter},
    {"builtins", "set", Known::set},
    {"builtins", "frozenset", Known::frozen_set},
    {"builtins", "bytes", Known::bytes},
    {"builtins", "bytearray", Known::byte_array},
    {"builtins", "complex", Known::complex},
    {"_codecs", "encode", Known::codecs_encode},
    {"torch", "Size", Known::size},
    {"torch", "device", Known::device},
    {"torch", "Tensor", Known::tensor_class},
    {"torch.serialization", "_get_layout", Known::get_layout},
    {"torch.storage", "UntypedStorage", Known::untyped_storage_class},
    {"torch.nn.parameter", "Parameter", Known::parameter_class},
    {"torch.nn.parameter", "Buffer", Known::buffer_class},
    {"torch._utils", "_rebuild_tensor", Known::rebuild_tensor},
    {"torch._utils", "_rebuild_tensor_v2", Known::rebuild_tensor_v2},
    {"torch._utils", "_rebuild_tensor_v3", Known::rebuild_tensor_v3},
    {"torch._utils", "_rebuild_parameter", Known::rebuild_parameter},
    {"torch._utils", "_rebuild_parameter_with_state", Known::rebuild_parameter_with_state},
    {"torch._utils", "_rebuild_sparse_tensor", Known::rebuild_sparse_tensor},
    {"torch._utils", "_rebuild_qtensor", Known::rebuild_qtensor},
    {"torch._utils", "_rebuild_meta_tensor_no_storage", Known::rebuild_meta_tensor},
    {"torch._utils", "_rebuild_nested_tensor", Known::rebuild_nested_tensor},
    {"torch._tensor", "_rebuild_from_type_v2", Known::rebuild_from_type_v2},
};

constexpr KnownName kLibTorchNames[] = {
    {"torch.jit._pickle", "build_intlist", Known::typed_list},
    {"torch.jit._pickle", "build_doublelist", Known::typed_list},
    {"torch.jit._pickle", "build_boollist", Known::typed_list},
    {"torch.jit._pickle", "build_tensorlist", Known::typed_list},
    {"torch.jit._pickle", "restore_type_tag", Known::restore_type_tag},
};

// The old tensor classes have the names of the storage classes: FloatTensor.
bool is_old_tensor_class(std::string_view name) {
  constexpr std::string_view kTensor = "Tensor";
  if (!name.ends_with(kTensor)) return false;
  return dtype_of_storage_class(std::string(name.substr(0, name.size() - kTensor.size())) + "Storage").has_value();
}

const std::vector<Object*>& items_of(GraphBuilder& builder, const Object* args) {
  const auto* tuple = args->get<ObjectTuple>();
  if (tuple == nullptr) builder.fail("arguments that are " + describe_object(*args) + " found, a tuple expected");
  return tuple->items;
}

void require_count(GraphBuilder& builder, const std::vector<Object*>& args, std::size_t min, std::size_t max,
                   const char* function) {
  if (args.size() >= min && args.size() <= max) return;
  builder.fail(std::string(function) + " with " + std::to_string(args.size()) + " arguments found, " +
               std::to_string(min) + (max > min ? " to " + std::to_string(max) : "") + " expected");
}

[[noreturn]] void fail_argument(GraphBuilder& builder, const char* function, const Object* found,
                                const char* expected) {
  builder.fail(std::string(function) + " of " + describe_object(*found) + " found, " + expected + " expected");
}

// The items of a list, tuple or set; null for others.
const std::vector<Object*>* sequence_items(const Object* object) {
  if (const auto* list = object->get<ObjectList>()) return &list->items;
  if (const auto* tuple = object->get<ObjectTuple>()) return &tuple->items;
  if (const auto* set = object->get<ObjectSet>()) return &set->items;
  return nullptr;
}

Object* make_dict(GraphBuilder& builder, DictType type, const std::vector<Object*>& args) {
  const char* function = type == DictType::counter ? "Counter" : "OrderedDict";
  require_count(builder, args, 0, 1, function);
  Object* dict = builder.make(ObjectDict{{}, nullptr, type});
  if (args.empty()) return dict;
  if (const auto* other = args[0]->get<ObjectDict>()) {
    builder.charge_work(other->items.size());
    for (const auto& [key, value] : other->items) builder.set_item(dict, key, value);
    return dict;
  }
  const std::vector<Object*>* pairs = type == DictType::ordered_dict ? sequence_items(args[0]) : nullptr;
  if (pairs == nullptr) fail_argument(builder, function, args[0], "a dict");
  builder.charge_work(pairs->size());
  for (const Object* pair : *pairs) {
    const std::vector<Object*>* item = pair->is<ObjectSet>() ? nullptr : sequence_items(pair);
    if (item == nullptr || item->size() != 2) fail_argument(builder, function, pair, "pairs of keys and values");
    builder.set_item(dict, (*item)[0], (*item)[1]);
  }
  return dict;
}

Object* make_set(GraphBuilder& builder, bool frozen, const std::vector<Object*>& args) {
  const char* function = frozen ? "frozenset" : "set";
  require_count(builder, args, 0, 1, function);
  Object* set = builder.make(ObjectSet{{}, frozen});
  if (args.empty()) return set;
  const std::vector<Object*>* items = sequence_items(args[0]);
  if (items == nullptr) fail_argument(builder, function, args[0], "a list");
  builder.charge_work(items->size());
  for (Object* item : *items) builder.add_item(set, item);
  return set;
}

bool is_latin1(const Object* encoding) {
  const auto* name = encoding->get<ObjectString>();
  return name != nullptr && (name->utf8 == "latin1" || name->utf8 == "latin-1");
}

// A str as bytes, one for each character.
std::string encode_latin1(GraphBuilder& builder, const std::string& utf8) {
  std::string octets;
  octets.reserve(utf8.size());
  for (std::size_t i = 0; i < utf8.size(); ++i) {
    const auto byte = static_cast<unsigned char>(utf8[i]);
    if (byte < 0x80) {
      octets += utf8[i];
    } else if (byte <= 0xC3) {  // the text is valid: one more byte follows
      octets += static_cast<char>((byte & 3) << 6 | (static_cast<unsigned char>(utf8[++i]) & 0x3F));
    } else {
      builder.fail("bytes found as a string with characters that latin1 does not have");
    }
  }
  return octets;
}

Object* call_codecs_encode(GraphBuilder& builder, const std::vector<Object*>& args) {
  require_count(builder, args, 2, 2, "_codecs.encode");
  const auto* text = args[0]->get<ObjectString>();
  if (text == nullptr) fail_argument(builder, "_codecs.encode", args[0], "a string");
  if (!is_latin1(args[1])) fail_argument(builder, "_codecs.encode", args[1], "the encoding 'latin1'");
  builder.require_room(text->utf8.size());
  return builder.make_bytes(encode_latin1(builder, text->utf8));
}

// bytes(n) and bytearray(n) would take n bytes of memory: no pickler writes them.
Object* make_octets(GraphBuilder& builder, bool is_array, const std::vector<Object*>& args) {
  const char* function = is_array ? "bytearray" : "bytes";
  require_count(builder, args, 0, 2, function);
  std::string octets;
  if (args.size() == 1) {
    const auto* bytes = args[0]->get<ObjectBytes>();
    if (bytes == nullptr) fail_argument(builder, function, args[0], "bytes");
    builder.require_room(bytes->octets.size());
    octets = bytes->octets;
  } else if (args.size() == 2) {
    const auto* text = args[0]->get<ObjectString>();
    if (text == nullptr) fail_argument(builder, function, args[0], "a string");
    if (!is_latin1(args[1])) fail_argument(builder, function, args[1], "the encoding 'latin-1'");
    builder.require_room(text->utf8.size());
    octets = encode_latin1(builder, text->utf8);
  }
  return is_array ? builder.make_byte_array(std::move(octets)) : builder.make_bytes(std::move(octets));
}

double number_of(GraphBuilder& builder, const Object* object) {
  if (const auto* value = object->get<double>()) return *value;
  if (const auto* value = object->get<std::int64_t>()) return static_cast<double>(*value);
  fail_argument(builder, "complex", object, "a number");
}

Object* make_complex(GraphBuilder& builder, const std::vector<Object*>& args) {
  require_count(builder, args, 2, 2, "complex");
  return builder.make(std::complex<double>(number_of(builder, args[0]), number_of(builder, args[1])));
}

Object* make_size(GraphBuilder& builder, const std::vector<Object*>& args) {
  require_count(builder, args, 0, 1, "torch.Size");
  ObjectTuple size;
  size.is_size = true;
  if (!args.empty()) {
    const std::vector<Object*>* items = args[0]->is<ObjectSet>() ? nullptr : sequence_items(args[0]);
    if (items == nullptr) fail_argument(builder, "torch.Size", args[0], "a tuple");
    for (const Object* item : *items) {
      if (!item->is<std::int64_t>()) fail_argument(builder, "torch.Size", item, "integers");
    }
    builder.charge_items(items->size());
    size.items = *items;
  }
  return builder.make(std::move(size));
}

// torch.device("cuda:1") or torch.device("cuda", 1).
Object* make_device(GraphBuilder& builder, const std::vector<Object*>& args) {
  require_count(builder, args, 1, 2, "torch.device");
  const auto* type = args[0]->get<ObjectString>();
  if (type == nullptr) fail_argument(builder, "torch.device", args[0], "a name");
  std::string name = type->utf8;
  if (args.size() == 2) {
    const auto* index = args[1]->get<std::int64_t>();
    if (index == nullptr || *index < 0) fail_argument(builder, "torch.device", args[1], "an index");
    name += ":" + std::to_string(*index);
  }
  const auto is_of_name = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == ':' || c == '_';
  };
  if (name.empty() || name.size() > kMaxStorageNameBytes || !std::all_of(name.begin(), name.end(), is_of_name)) {
    builder.fail("torch.device of the name " + quote_name(name) + " found, one as 'cuda:0' expected");
  }
  return builder.make(ObjectDevice{std::move(name)});
}

Object* call_get_layout(GraphBuilder& builder, const std::vector<Object*>& args) {
  require_count(builder, args, 1, 1, "_get_layout");
  const auto* name = args[0]->get<ObjectString>();
  const auto layout = name == nullptr ? std::nullopt : layout_named(name->utf8);
  if (!layout) fail_argument(builder, "_get_layout", args[0], "the name of a layout");
  return builder.make(*layout);
}

Object* call_typed_list(GraphBuilder& builder, const std::vector<Object*>& args) {
  require_count(builder, args, 1, 1, "a typed list");
  if (!args[0]->is<ObjectList>()) fail_argument(builder, "a typed list", args[0], "a list");
  return args[0];
}

Object* call_restore_type_tag(GraphBuilder& builder, const std::vector<Object*>& args) {
  require_count(builder, args, 2, 2, "restore_type_tag");
  if (!args[0]->is<ObjectList>() && !args[0]->is<ObjectDict>()) {
    fail_argument(builder, "restore_type_tag", args[0], "a list or dict");
  }
  if (!args[1]->is<ObjectString>()) fail_argument(builder, "restore_type_tag", args[1], "the name of a type");
  return args[0];
}

}  // namespace

Known find_known_global(PickleDialect dialect, std::string_view module, std::string_view name) {
  for (const KnownName& known : kKnownNames) {
    if (known.module == module && known.name == name) return known.known;
  }
  if (dialect !=
      PickleDialect::legacy) {  // torch::pickle_save writes them too; in Python they give back their argument
    for (const KnownName& known : kLibTorchNames) {
      if (known.module == module && known.name == name) return known.known;
    }
  }
  if (module == "torch" || module == "torch.cuda") {
    if (dtype_of_storage_class(name)) return Known::storage_class;
    if (is_old_tensor_class(name)) return Known::old_tensor_class;
  }
  return Known::none;
}

std::optional<QSchemeKind> qscheme_named(std::string_view name) {
  if (name == "per_tensor_affine") return QSchemeKind::per_tensor_affine;
  if (name == "per_channel_affine") return QSchemeKind::per_channel_affine;
  if (name == "per_tensor_symmetric") return QSchemeKind::per_tensor_symmetric;
  if (name == "per_channel_symmetric") return QSchemeKind::per_channel_symmetric;
  if (name == "per_channel_affine_float_qparams") return QSchemeKind::per_channel_affine_float_qparams;
  return std::nullopt;
}

std::optional<LayoutKind> layout_named(std::string_view name) {
  if (name == "torch.strided") return LayoutKind::strided;
  if (name == "torch.sparse_coo") return LayoutKind::sparse_coo;
  if (name == "torch.sparse_csr") return LayoutKind::sparse_csr;
  if (name == "torch.sparse_csc") return LayoutKind::sparse_csc;
  if (name == "torch.sparse_bsr") return LayoutKind::sparse_bsr;
  if (name == "torch.sparse_bsc") return LayoutKind::sparse_bsc;
  if (name == "torch._mkldnn") return LayoutKind::mkldnn;
  return std::nullopt;
}

bool is_libtorch_class(std::string_view module) { return module == "__torch__" || module.starts_with("__torch__."); }

Object* call_known(GraphBuilder& builder, const Object* global, const Object* args_object) {
  const std::vector<Object*>& args = items_of(builder, args_object);
  switch (const Known known = builder.known(global)) {
    case Known::none:
      return nullptr;
    case Known::ordered_dict:
      return make_dict(builder, DictType::ordered_dict, args);
    case Known::counter:
      return make_dict(builder, DictType::counter, args);
    case Known::set:
    case Known::frozen_set:
      return make_set(builder, known == Known::frozen_set, args);
    case Known::bytes:
    case Known::byte_array:
      return make_octets(builder, known == Known::byte_array, args);
    case Known::complex:
      return make_complex(builder, args);
    case Known::codecs_encode:
      return call_codecs_encode(builder, args);
    case Known::size:
      return make_size(builder, args);
    case Known::device:
      return make_device(builder, args);
    case Known::get_layout:
      return call_get_layout(builder, args);
    case Known::typed_list:
      return call_typed_list(builder, args);
    case Known::restore_type_tag:
      return call_restore_type_tag(builder, args);
    case Known::storage_class:
    case Known::untyped_storage_class:
    case Known::tensor_class:
    case Known::old_tensor_class:
    case Known::buffer_class:
      // These take memory that the file does not hold.
      builder.fail("a call of " + describe_object(*global) + " found, which no checkpoint needs");
    default:
      return call_known_tensor_function(builder, known, args);
  }
}

Object* new_known(GraphBuilder& builder, const Object* global, const Object* args_object) {
  const std::vector<Object*>& args = items_of(builder, args_object);
  switch (builder.known(global)) {
    case Known::ordered_dict:
    case Known::counter:
    case Known::set:
    case Known::byte_array:
      // __new__ leaves them empty whatever it is given; picklers give nothing.
      require_count(builder, args, 0, 0, "__new__");
      return call_known(builder, global, args_object);
    case Known::none:
    case Known::frozen_set:
    case Known::bytes:
    case Known::complex:
    case Known::size:
    case Known::device:
    case Known::parameter_class:
    case Known::storage_class:
    case Known::untyped_storage_class:
    case Known::tensor_class:
    case Known::old_tensor_class:
    case Known::buffer_class:
      return call_known(builder, global, args_object);
    default:
      builder.fail(describe_object(*global) + " found, a class expected");
  }
}

Object* checked_attributes(GraphBuilder& builder, Object* state) {
  if (state->is<ObjectNone>()) return nullptr;
  std::vector<Object*> parts = {state};
  if (const auto* tuple = state->get<ObjectTuple>(); tuple != nullptr && tuple->items.size() == 2) parts = tuple->items;
  for (const Object* part : parts) {
    const auto* dict = part->get<ObjectDict>();
    if (dict == nullptr && (part == state || !part->is<ObjectNone>())) {
      builder.fail("attributes that are " + describe_object(*part) + " found, a dict expected");
    }
    if (dict == nullptr) continue;
    builder.charge_work(dict->items.size());
    for (const auto& [key, value] : dict->items) {
      const auto* name = key->get<ObjectString>();
      if (name == nullptr) builder.fail("an attribute named by " + describe_object(*key) + " found, a string expected");
      // No object's own attributes: they would change what it is.
      if (name->utf8 == "__class__" || name->utf8 == "__dict__") {
        builder.fail("an attribute named " + quote_name(name->utf8) + " found, which no object saves");
      }
    }
  }
  return state;
}

}  // namespace ckptio::detail
