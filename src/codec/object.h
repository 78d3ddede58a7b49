// SPDX-License-Identifier: Apache-2.0
// ObjectGraph: what a checkpoint file holds, as inert data, before any tensor is made. No Torch.
//
// Readers (pickle_reader.h, safetensors_file.h) make the graph, formats map it to Values, writers (pickle_writer.h) and
// the command line work on it as it is. Python objects of known types are what they mean (a tensor is a TensorObject);
// any other is an OpaqueObject that says how Python would make it. Two references to one object are two pointers to one
// Object, and cycles are possible; so nothing here may recurse without a bound.
//
// Memory: an Object belongs to its graph and lives as long; pointers stay valid when the graph is moved.
// Threads: any number may read one graph.
#pragma once

#include <complex>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "ckptio/dict_type.h"
#include "codec/dims.h"
#include "codec/dtype.h"
#include "codec/stable_vector.h"

namespace ckptio::detail {

struct Object;

struct ObjectNone {};
struct ObjectBigInt {
  std::string twos_complement;  // outside int64; shortest form, least significant byte first
};
struct ObjectString {
  std::string utf8;  // Python's utf-8 'surrogatepass': may hold encoded lone surrogates; LibTorch's: any octets
};
struct ObjectBytes {
  std::string octets;
};
struct ObjectByteArray {
  std::string octets;
};
struct ObjectList {
  std::vector<Object*> items;
};
struct ObjectTuple {
  std::vector<Object*> items;
  bool is_size = false;  // torch.Size: all items are integers
};
struct ObjectDict {
  std::vector<std::pair<Object*, Object*>> items;  // keys differ
  Object* attributes = nullptr;                    // its __dict__, an ObjectDict, or null: a state_dict's `_metadata`
  DictType type = DictType::dict;
};
struct ObjectSet {
  std::vector<Object*> items;  // differ
  bool frozen = false;
};
struct ObjectDevice {
  std::string name;  // "cuda:1"
};
enum class LayoutKind : std::uint8_t { strided, sparse_coo, sparse_csr, sparse_csc, sparse_bsr, sparse_bsc, mkldnn };
enum class QSchemeKind : std::uint8_t {  // the numbers are c10::QScheme's
  per_tensor_affine = 0,
  per_channel_affine = 1,
  per_tensor_symmetric = 2,
  per_channel_symmetric = 3,
  per_channel_affine_float_qparams = 4,
};

// A storage that stands by itself (torch.FloatStorage, torch.UntypedStorage). Tensors name theirs by the same number.
struct ObjectStorage {
  std::uint32_t storage = 0;  // index into ObjectGraph::storages
};

// A tensor of any kind. Everything in it has been checked: dense geometry is inside its storage, sizes multiply without
// overflow. (The *values* of sparse indices are data, and checked by whoever reads them.)
struct ObjectTensor {
  static constexpr std::uint32_t kNoStorage = 0xffffffff;
  enum class Form : std::uint8_t { dense, meta, sparse_coo, sparse_compressed, quantized, nested };

  Form form = Form::dense;
  DType dtype = DType::float32;
  LayoutKind layout = LayoutKind::strided;
  bool requires_grad = false;
  bool conj = false;
  bool neg = false;
  bool is_parameter = false;           // torch.nn.Parameter
  Dims sizes;                          // of nested: empty
  Dims strides;                        // dense, meta, quantized; in elements
  std::int64_t offset = 0;             // dense, quantized; in elements
  std::uint32_t storage = kNoStorage;  // dense, quantized: index into ObjectGraph::storages
  // Parts that are tensors themselves.
  // sparse_coo: indices, values. sparse_compressed: compressed (crow or ccol), plain (col or row), values.
  // per-channel quantized: scales, zero points. nested: buffer, sizes, strides, offsets.
  std::vector<Object*> parts;
  bool is_coalesced = false;  // sparse_coo
  QSchemeKind qscheme = QSchemeKind::per_tensor_affine;
  double scale = 1;              // per-tensor quantized
  std::int64_t zero_point = 0;   // per-tensor quantized
  std::int64_t axis = 0;         // per-channel quantized
  Object* attributes = nullptr;  // what Python code set on it (a dict, or a tuple with slots), or null
  // Backward hooks, as saved: an empty OrderedDict but for exotic files; null stands for that.
  Object* backward_hooks = nullptr;
};

// A module-level name used as a value: a class or a function.
struct ObjectGlobal {
  std::string module;
  std::string name;  // may hold dots: "Outer.Inner"
};

// An object of a type we don't know, as the steps by which Python would make it. Nothing of it is ever executed.
struct ObjectOpaque {
  enum class Make : std::uint8_t { call, new_object, new_object_ex };  // REDUCE (also INST, OBJ), NEWOBJ, NEWOBJ_EX

  Make make = Make::call;
  Object* callable = nullptr;                        // an ObjectGlobal, rarely another ObjectOpaque
  Object* args = nullptr;                            // an ObjectTuple
  Object* kwargs = nullptr;                          // an ObjectDict, of new_object_ex alone
  std::vector<Object*> items;                        // then appended (APPEND, APPENDS)
  std::vector<Object*> added;                        // then added (ADDITEMS)
  std::vector<std::pair<Object*, Object*>> entries;  // then set (SETITEM, SETITEMS)
  Object* state = nullptr;                           // then given to __setstate__ or put into __dict__ (BUILD)
};

struct Object {
  std::variant<ObjectNone, bool, std::int64_t, ObjectBigInt, double, std::complex<double>, ObjectString, ObjectBytes,
               ObjectByteArray, ObjectList, ObjectTuple, ObjectDict, ObjectSet, DType, ObjectDevice, LayoutKind,
               QSchemeKind, ObjectStorage, ObjectTensor*, ObjectGlobal, std::unique_ptr<ObjectOpaque>>
      held;                  // a tensor stands in the graph, beside the objects
  std::uint32_t number = 0;  // its place in the graph's objects

  template <class T>
  bool is() const noexcept {
    return get<T>() != nullptr;
  }
  // The held T, or null. T may be ObjectTensor and ObjectOpaque too.
  template <class T>
  const T* get() const noexcept {
    if constexpr (std::is_same_v<T, ObjectTensor>) {
      const auto* place = std::get_if<T*>(&held);
      return place == nullptr ? nullptr : *place;
    } else if constexpr (std::is_same_v<T, ObjectOpaque>) {
      const auto* box = std::get_if<std::unique_ptr<T>>(&held);
      return box == nullptr ? nullptr : box->get();
    } else {
      return std::get_if<T>(&held);
    }
  }
  template <class T>
  T* get() noexcept {
    return const_cast<T*>(std::as_const(*this).template get<T>());
  }
};

// A storage that tensors of the file use.
struct StorageInfo {
  std::string key;             // its name in the file: "0" for record data/0
  std::string location;        // the device it was saved from: "cpu", "cuda:0"
  DType dtype = DType::uint8;  // how its bytes are to be seen; uint8 where untyped
  bool untyped = false;
  std::uint64_t n_bytes = 0;
};

// An unknown global that a pickle names, wherever it is used.
struct UnknownGlobal {
  std::string name;          // "os.system"
  std::uint64_t offset = 0;  // of the opcode, in the pickle
};

struct ObjectGraph {
  StableVector<Object> objects;
  StableVector<ObjectTensor> tensors;          // those of the objects
  std::vector<StorageInfo> storages;           // in the order of first reference
  std::vector<UnknownGlobal> unknown_globals;  // in the order of the file, each (name) once
  Object* root = nullptr;

  template <class T>
  Object* make(T value) {
    Object& object = objects.emplace_back();
    object.number = static_cast<std::uint32_t>(objects.size() - 1);
    put(object, std::move(value));
    return &object;
  }
  // One that is to be described.
  Object* make_tensor() {
    Object* object = make(ObjectNone{});
    object->held.emplace<ObjectTensor*>(&tensors.emplace_back());
    return object;
  }
  // Gives an object of this graph what it holds.
  template <class T>
  void put(Object& object, T value) {
    if constexpr (std::is_same_v<T, ObjectTensor>) {
      object.held.template emplace<T*>(&tensors.emplace_back(std::move(value)));
    } else if constexpr (std::is_same_v<T, ObjectOpaque>) {
      object.held = std::make_unique<T>(std::move(value));
    } else {
      object.held.template emplace<T>(std::move(value));
    }
  }
  ObjectGraph() = default;
  ObjectGraph(ObjectGraph&&) = default;
  ObjectGraph& operator=(ObjectGraph&&) = default;
  ObjectGraph(const ObjectGraph&) = delete;
  ObjectGraph& operator=(const ObjectGraph&) = delete;
};

// The objects that `object` refers to, in the order of the tree: of a dict key, value, key, value, ..., then its
// attributes. For walks with a stack of their own. child() may be null.
std::size_t n_children(const Object& object);
const Object* child(const Object& object, std::size_t index);

// "a list", "an integer", "the global 'os.system'": for messages.
std::string describe_object(const Object& object);

// Where a global or an object of an unknown type stands, for messages.
struct OpaquePlace {
  std::string global;  // "argparse.Namespace"
  std::string path;    // "checkpoint['hyper_parameters']"
};

// Every ObjectGlobal and ObjectOpaque that can be reached from `root`, each object once, in the order of the tree; at
// most the first kMaxOpaquePlaces (limits.h). Left out: the globals within an ObjectOpaque that this codec knows.
std::vector<OpaquePlace> find_opaque(const Object* root);

// "argparse.Namespace": of an ObjectGlobal, or of what makes an ObjectOpaque.
std::string global_name(const Object& object);

// The class of the object that an ObjectOpaque makes, as far as its steps tell ("numpy.ndarray" for
// numpy._core.multiarray._reconstruct(numpy.ndarray, ...)); else global_name().
std::string class_name(const Object& object);

// One step of a path: path + "['name']" for strings, "[3]" for integers, a short form of other keys.
std::string path_step(const std::string& path, const Object& key);

}  // namespace ckptio::detail
