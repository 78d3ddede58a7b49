// SPDX-License-Identifier: Apache-2.0
// What class the object has that a call makes, for the functions that picklers use in the place of a class.
#include <algorithm>
#include <string>
#include <string_view>

#include "codec/object.h"

namespace ckptio::detail {
namespace {

const Object* argument(const ObjectOpaque& opaque, std::size_t i) {
  const auto* args = opaque.args == nullptr ? nullptr : opaque.args->get<ObjectTuple>();
  return args == nullptr || i >= args->items.size() ? nullptr : args->items[i];
}

std::string name_of_global(const Object* object) {
  return object != nullptr && object->is<ObjectGlobal>() ? global_name(*object) : std::string();
}

// NumPy's types by the kind and size that its dtypes are pickled with: 'f4'.
struct NumpyType {
  std::string_view code, scalar, dtype;
};
constexpr NumpyType kNumpyTypes[] = {
    {"b1", "bool", "Bool"},
    {"i1", "int8", "Int8"},
    {"i2", "int16", "Int16"},
    {"i4", "int32", "Int32"},
    {"i8", "int64", "Int64"},
    {"u1", "uint8", "UInt8"},
    {"u2", "uint16", "UInt16"},
    {"u4", "uint32", "UInt32"},
    {"u8", "uint64", "UInt64"},
    {"f2", "float16", "Float16"},
    {"f4", "float32", "Float32"},
    {"f8", "float64", "Float64"},
    {"f16", "longdouble", "LongDouble"},
    {"c8", "complex64", "Complex64"},
    {"c16", "complex128", "Complex128"},
    {"c32", "clongdouble", "CLongDouble"},
};
// Those of any size.
constexpr NumpyType kNumpyKinds[] = {
    {"O", "object_", "Object"}, {"S", "bytes_", "Bytes"},          {"U", "str_", "Str"},
    {"V", "void", "Void"},      {"M", "datetime64", "DateTime64"}, {"m", "timedelta64", "TimeDelta64"},
};

// Of an ObjectOpaque that calls numpy.dtype('f4', ...).
const NumpyType* numpy_type(const Object* dtype) {
  const auto* opaque = dtype == nullptr ? nullptr : dtype->get<ObjectOpaque>();
  if (opaque == nullptr || name_of_global(opaque->callable) != "numpy.dtype") return nullptr;
  const Object* first = argument(*opaque, 0);
  const auto* code = first == nullptr ? nullptr : first->get<ObjectString>();
  if (code == nullptr) return nullptr;
  for (const NumpyType& type : kNumpyTypes) {
    if (type.code == code->utf8) return &type;
  }
  for (const NumpyType& type : kNumpyKinds) {
    if (code->utf8.starts_with(type.code)) return &type;
  }
  return nullptr;
}

// The class of what a function of numpy gives, or empty. NumPy 1 has its inner modules in numpy.core, 2 in numpy._core.
std::string numpy_class(const std::string& function, const Object& object) {
  const auto& opaque = *object.get<ObjectOpaque>();
  if (!function.starts_with("numpy.")) return {};
  if (function.ends_with(".multiarray._reconstruct")) return name_of_global(argument(opaque, 0));
  if (function.ends_with(".numeric._frombuffer")) return "numpy.ndarray";
  if (function == "numpy.dtype") {
    const NumpyType* type = numpy_type(&object);
    return type == nullptr ? std::string() : "numpy.dtypes." + std::string(type->dtype) + "DType";
  }
  if (!function.ends_with(".multiarray.scalar")) return {};
  const NumpyType* type = numpy_type(argument(opaque, 0));
  if (type == nullptr) return {};
  const bool is_old_bool = type->code == "b1" && function.starts_with("numpy.core.");
  return "numpy." + std::string(type->scalar) + (is_old_bool ? "_" : "");
}

// Which argument is the class, of functions that take it.
int class_argument(std::string_view function) {
  if (function == "copyreg._reconstructor" || function == "copyreg.__newobj__" || function == "copyreg.__newobj_ex__" ||
      function == "torch._utils._rebuild_wrapper_subclass") {
    return 0;
  }
  return function == "torch._tensor._rebuild_from_type_v2" || function == "torch._tensor._rebuild_from_type" ? 1 : -1;
}

// The class of some values that are pickled by their name.
std::string class_of_global(const std::string& name) {
  constexpr std::string_view kTypes[] = {"bool",      "bytearray", "bytes", "complex", "dict",  "float",
                                         "frozenset", "int",       "list",  "object",  "range", "set",
                                         "slice",     "str",       "tuple", "type"};
  constexpr std::string_view kBuiltins = "builtins.";
  if (name == "builtins.Ellipsis") return "builtins.ellipsis";
  if (name == "builtins.NotImplemented") return "builtins.NotImplementedType";
  const bool is_type = name.starts_with(kBuiltins) && std::find(std::begin(kTypes), std::end(kTypes),
                                                                name.substr(kBuiltins.size())) != std::end(kTypes);
  return is_type ? "builtins.type" : name;
}

}  // namespace

std::string class_name(const Object& object) {
  const std::string name = global_name(object);
  const auto* opaque = object.get<ObjectOpaque>();
  if (opaque == nullptr) return class_of_global(name);
  if (opaque->make != ObjectOpaque::Make::call || !opaque->callable->is<ObjectGlobal>()) return name;
  std::string found = numpy_class(name, object);
  if (const int i = class_argument(name); i >= 0)
    found = name_of_global(argument(*opaque, static_cast<std::size_t>(i)));
  // torch's functions are methods of a class that holds nothing else.
  if (name == "builtins.getattr" && name_of_global(argument(*opaque, 0)) == "torch._C._VariableFunctionsClass") {
    found = "builtins.builtin_function_or_method";
  }
  return found.empty() ? name : found;
}

}  // namespace ckptio::detail
