// SPDX-License-Identifier: Apache-2.0
// Opaque: an object of a class that ckptio does not know, kept as data. Included by value.h.
//
//   const auto& hparams = checkpoint.at("hyper_parameters").as<ckptio::Opaque>();
//   hparams.class_name();               // "argparse.Namespace"
//   hparams.fields().at("lr");          // 0.1
//
// A pickle says how Python would make an object: what to call, with which arguments, and what to put into the result.
// An Opaque holds just that; nothing of it is ever executed. PythonCheckpointIO writes it back so that Python makes
// the very same object, with every reference that was shared and every cycle in it.
// A list, dict or set that contains itself is an Opaque too, since no Value can: class "builtins.list",
// "builtins.dict", "collections.OrderedDict", ...; and so is a dict or set that holds what cannot be a key here (a
// tensor).
//
// A handle: copies refer to one object, which is never changed. It keeps the tensors that belong to it alive.
// Threads: any number may read.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace ckptio {

class Dict;
class List;
class Tuple;
class Value;

namespace detail {
struct Object;
struct OpaqueContext;  // the objects of a file, their storages, and the tensors made of them so far
struct OpaqueAccess;
}  // namespace detail

class Opaque {
 public:
  // For Python to make: an object of `class_name`, "argparse.Namespace", with these fields, without calling its
  // __init__ (as pickle does); and what `global`, "pathlib.PosixPath", returns for `args`.
  // ValueError for a name without a module; else the errors of PythonCheckpointIO::save_checkpoint.
  static Opaque make_object(const std::string& class_name, const Dict& fields);
  static Opaque make_call(const std::string& global, const Tuple& args);

  // What Python would call, "argparse.Namespace"; "numpy._core.multiarray._reconstruct" for a numpy array.
  std::string global() const;
  // The class of the object as far as the file tells, "numpy.ndarray"; else global().
  std::string class_name() const;
  // True for a class or a function itself, rather than an object that is made of it.
  bool is_global() const noexcept;

  // The arguments of the call: an Enum's value, a Path's parts, a range's bounds. Empty where there are none.
  Tuple args() const;
  Dict kwargs() const;
  // What the object is given then (`__setstate__`, or else its `__dict__`); null where nothing is.
  Value state() const;
  // The state as fields by name: that of a Namespace, a dataclass, a module; with `__slots__` both parts together.
  // Empty where the state is nothing of the kind.
  Dict fields() const;
  // What is appended or added then: the items of a deque, a set, or of a list that contains itself.
  List items() const;
  // What is then set: the entries of a defaultdict, of a subclass of dict, or of a dict that contains itself.
  std::vector<std::pair<Value, Value>> entries() const;

  // True where both are the same object: one that the file refers to twice.
  bool same_object(const Opaque& other) const noexcept { return object_ == other.object_; }

  // By what they are made of, in order. Python's own `==` may differ: it is the class's to define.
  friend bool operator==(const Opaque& a, const Opaque& b);

 private:
  Opaque(std::shared_ptr<const detail::OpaqueContext> context, const detail::Object* object) noexcept
      : context_(std::move(context)), object_(object) {}

  std::shared_ptr<const detail::OpaqueContext> context_;
  const detail::Object* object_;
  friend struct detail::OpaqueAccess;
};

}  // namespace ckptio
