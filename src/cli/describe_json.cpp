// SPDX-License-Identifier: Apache-2.0
// An object becomes pieces: text, and the objects that stand between. The pieces of those that are open lie on a stack
// of our own, so that depth costs no machine stack. Keys come in alphabetical order, as the items of sets are sorted by
// their text in Python (json.dumps with sort_keys).
#include "cli/describe_json.h"

#include <algorithm>
#include <unordered_map>
#include <utility>
#include <vector>

#include "ckptio/error.h"
#include "cli/object_walk.h"
#include "cli/sha256.h"
#include "cli/sparse_tensors.h"
#include "cli/tensor_hash.h"
#include "cli/text.h"
#include "codec/index_values.h"
#include "codec/libtorch_file.h"

namespace ckptio::cli {
namespace {

using detail::Object;
using detail::ObjectTensor;

constexpr std::size_t kLongString = 2000;  // characters, from which on a hash stands for it
constexpr std::size_t kFlushBytes = std::size_t{1} << 20;

// A pickle may name one string a million times. The text is some 10 times a file without its storages.
constexpr std::uint64_t kMaxTextBytes = std::uint64_t{256} << 20;
constexpr std::uint64_t kMaxTextPerFileByte = 64;

// Sparse tensors of more bytes are not made dense.
constexpr std::uint64_t kMaxDenseBytes = std::uint64_t{128} << 20;

std::string bool_text(bool value) { return value ? "true" : "false"; }

std::string text_of(std::string_view type, const std::string& value) {  // {"t": "int", "v": "1"}
  return "{\"t\": \"" + std::string(type) + "\", \"v\": " + value + "}";
}

std::string layout_text(detail::LayoutKind layout) {
  static constexpr const char* kNames[] = {"strided",    "sparse_coo", "sparse_csr", "sparse_csc",
                                           "sparse_bsr", "sparse_bsc", "_mkldnn"};
  return kNames[static_cast<std::size_t>(layout)];
}

std::string qscheme_text(detail::QSchemeKind scheme) {
  static constexpr const char* kNames[] = {"per_tensor_affine", "per_channel_affine", "per_tensor_symmetric",
                                           "per_channel_symmetric", "per_channel_affine_float_qparams"};
  return kNames[static_cast<std::size_t>(scheme)];
}

// A piece of a description: text, an object, or many objects with what stands between them.
struct Piece {
  std::string text{};
  const Object* child = nullptr;
  const std::vector<Object*>* items = nullptr;                        // [a, b]
  const std::vector<std::pair<Object*, Object*>>* entries = nullptr;  // [[k, v], [k, v]]
};

class Pieces {
 public:
  Pieces& operator<<(const std::string& text) {
    if (pieces_.empty() || pieces_.back().child != nullptr || pieces_.back().items != nullptr ||
        pieces_.back().entries != nullptr) {
      pieces_.push_back({});
    }
    pieces_.back().text += text;
    return *this;
  }
  Pieces& operator<<(const Object* child) { return pieces_.push_back({{}, child}), *this; }
  Pieces& operator<<(const std::vector<Object*>& items) { return pieces_.push_back({{}, nullptr, &items}), *this; }
  Pieces& operator<<(const std::vector<std::pair<Object*, Object*>>& entries) {
    return pieces_.push_back({{}, nullptr, nullptr, &entries}), *this;
  }
  std::vector<Piece> take() { return std::move(pieces_); }

 private:
  std::vector<Piece> pieces_;
};

class Describer {
 public:
  Describer(StorageBytes& bytes, TensorHash& hash, const Object& root,
            const std::function<void(std::string_view)>& write)
      : bytes_(bytes), graph_(bytes.archive().graph()), numbers_(root), hash_(hash), write_(write) {}

  void run(const Object& root) {
    open(root, false);
    while (!frames_.empty()) step();
    flush();
  }

 private:
  struct Frame {
    std::vector<Piece> pieces;
    std::size_t next = 0, within = 0;  // the piece, and how many of its objects are done
    bool in_opaque = false;
    bool sort = false;                  // a set: its items are to be sorted
    std::string tail{};                 // behind the sorted items
    std::vector<std::size_t> begins{};  // of the items in out_
  };

  void step() {
    Frame& frame = frames_.back();
    if (frame.next == frame.pieces.size()) {
      if (frame.sort) close_set(frame);
      frames_.pop_back();
      return;
    }
    Piece& piece = frame.pieces[frame.next];
    if (piece.items != nullptr) return step_items(frame, *piece.items);
    if (piece.entries != nullptr) return step_entries(frame, *piece.entries);
    ++frame.next;
    if (piece.child != nullptr) {
      open(*piece.child, frame.in_opaque);
    } else {
      put(piece.text);
    }
  }

  void step_items(Frame& frame, const std::vector<Object*>& items) {
    const std::size_t i = frame.within++;
    if (!frame.sort && (i == 0 || i < items.size())) put(i == 0 ? "[" : ", ");
    if (i < items.size()) {
      if (frame.sort) frame.begins.push_back(out_.size());
      return open(*items[i], frame.in_opaque);
    }
    if (!frame.sort) put("]");
    frame.within = 0, ++frame.next;
  }

  void step_entries(Frame& frame, const std::vector<std::pair<Object*, Object*>>& entries) {
    const std::size_t i = frame.within++ / 2;
    const bool is_key = frame.within % 2 == 1;
    if (i < entries.size()) {
      put(!is_key ? ", " : i == 0 ? "[[" : "], [");
      return open(is_key ? *entries[i].first : *entries[i].second, frame.in_opaque);
    }
    put(entries.empty() ? "[]" : "]]");
    frame.within = 0, ++frame.next;
  }

  void put(std::string_view text) {
    out_ += text;
    n_written_ += text.size();
    if (n_written_ > kMaxTextBytes && n_written_ / kMaxTextPerFileByte > bytes_.archive().source().size) {
      throw UnsupportedError("cannot describe '" + bytes_.archive().source().name +
                             "': it repeats its values so often that the text would be larger than " +
                             size_text(kMaxTextBytes));
    }
    if (n_sets_ == 0 && out_.size() > kFlushBytes) flush();
  }

  void flush() {
    write_(out_);
    out_.clear();
  }

  void close_set(Frame& frame) {
    --n_sets_;
    frame.begins.push_back(out_.size());
    std::vector<std::string> items;
    for (std::size_t i = 0; i + 1 < frame.begins.size(); ++i) {
      items.push_back(out_.substr(frame.begins[i], frame.begins[i + 1] - frame.begins[i]));
    }
    std::sort(items.begin(), items.end());
    out_.resize(frame.begins[0]);  // of an empty set nothing
    for (std::size_t i = 0; i < items.size(); ++i) out_ += (i > 0 ? ", " : "") + items[i];
    put(frame.tail);
  }

  // Begins to describe `object`.
  void open(const Object& object, bool in_opaque) {
    const bool is_opaque = object.is<detail::ObjectOpaque>();
    if (is_container(object) || is_opaque) {
      const std::int64_t id = numbers_.id_of(object);
      // What stands outside of opaque objects too is described there.
      const bool is_elsewhere = in_opaque && numbers_.is_shared_outside_too(object);
      if (id >= 0 && (is_elsewhere || !described_.emplace(&object, true).second)) {
        return put(reference_text(object, id));
      }
      return open_container(object, id, in_opaque || is_opaque);
    }
    if (const auto* tensor = object.get<ObjectTensor>()) {
      frames_.push_back({tensor_pieces(*tensor).take(), 0, 0, in_opaque});
    } else {
      put(plain_text(object));
    }
  }

  static std::string reference_text(const Object& object, std::int64_t id) {
    if (!object.is<detail::ObjectOpaque>()) return "{\"id\": " + std::to_string(id) + ", \"t\": \"ref\"}";
    return "{\"class\": " + json_string(detail::class_name(object)) + ", \"ref\": " + std::to_string(id) +
           ", \"t\": \"object\"}";
  }

  void open_container(const Object& object, std::int64_t id, bool in_opaque) {
    Pieces pieces;
    const std::string id_text = id < 0 ? "" : "\"id\": " + std::to_string(id) + ", ";
    if (const auto* set = object.get<detail::ObjectSet>()) {
      put("{" + id_text + "\"items\": [");
      ++n_sets_;
      const std::string tail = std::string("], \"t\": \"") + (set->frozen ? "frozenset\"}" : "set\"}");
      frames_.push_back({(pieces << set->items).take(), 0, 0, in_opaque, true, tail});
      return;
    }
    if (const auto* list = object.get<detail::ObjectList>()) {
      pieces << "{" + id_text + "\"items\": " << list->items << ", \"t\": \"list\"}";
    } else if (const auto* tuple = object.get<detail::ObjectTuple>()) {
      pieces << "{" + id_text + "\"items\": " << tuple->items << ", \"t\": \"tuple\"}";
    } else if (const auto* octets = object.get<detail::ObjectByteArray>()) {
      const std::string id_behind = id < 0 ? "" : ", \"id\": " + std::to_string(id);
      pieces << "{\"hex\": \"" + hex_of(octets->octets) + "\"" + id_behind + ", \"t\": \"bytearray\"}";
    } else if (const auto* dict = object.get<detail::ObjectDict>()) {
      add_dict(pieces, *dict, id_text);
    } else {
      add_opaque(pieces, object, *object.get<detail::ObjectOpaque>(), id_text);
    }
    frames_.push_back({pieces.take(), 0, 0, in_opaque});
  }

  static void add_dict(Pieces& pieces, const detail::ObjectDict& dict, const std::string& id_text) {
    static constexpr const char* kNames[] = {"dict", "odict", "counter"};
    pieces << "{";
    const auto* attributes = dict.attributes == nullptr ? nullptr : dict.attributes->get<detail::ObjectDict>();
    if (attributes != nullptr && !attributes->items.empty()) {
      pieces << "\"attrs\": {";
      bool first = true;
      for (const auto& [key, value] : attributes->items) {
        const auto* name = key->get<detail::ObjectString>();
        pieces << (first ? "" : ", ") + json_string(name == nullptr ? "" : name->utf8) + ": " << value;
        first = false;
      }
      pieces << "}, ";
    }
    pieces << id_text + "\"items\": " << dict.items
           << std::string(", \"t\": \"") + kNames[static_cast<std::size_t>(dict.type)] + "\"}";
  }

  static void add_opaque(Pieces& pieces, const Object& object, const detail::ObjectOpaque& opaque,
                         const std::string& id_text) {
    if (add_defaultdict(pieces, object, opaque, id_text)) return;
    using Make = detail::ObjectOpaque::Make;
    pieces << "{";
    if (!opaque.added.empty()) pieces << "\"added\": " << opaque.added << ", ";
    if (opaque.args != nullptr) pieces << "\"args\": " << opaque.args << ", ";
    const bool is_global = opaque.callable != nullptr && opaque.callable->is<detail::ObjectGlobal>();
    if (opaque.callable != nullptr && !is_global) pieces << "\"callable\": " << opaque.callable << ", ";
    pieces << "\"class\": " + json_string(detail::class_name(object)) + ", ";
    if (!opaque.entries.empty()) pieces << "\"entries\": " << opaque.entries << ", ";
    pieces << "\"global\": " + json_string(detail::global_name(object)) + ", " + id_text;
    if (!opaque.items.empty()) pieces << "\"items\": " << opaque.items << ", ";
    if (opaque.kwargs != nullptr) pieces << "\"kwargs\": " << opaque.kwargs << ", ";
    pieces << std::string("\"make\": \"") + (opaque.make == Make::call ? "call" : "new") + "\", ";
    if (opaque.state != nullptr) pieces << "\"state\": " << opaque.state << ", ";
    pieces << "\"t\": \"object\"}";
  }

  // collections.defaultdict(factory), which is data but for its factory.
  static bool add_defaultdict(Pieces& pieces, const Object& object, const detail::ObjectOpaque& opaque,
                              const std::string& id_text) {
    if (detail::global_name(object) != "collections.defaultdict" || !opaque.items.empty() || !opaque.added.empty() ||
        opaque.kwargs != nullptr || opaque.state != nullptr) {
      return false;
    }
    const auto* args = opaque.args == nullptr ? nullptr : opaque.args->get<detail::ObjectTuple>();
    if (args == nullptr || args->items.size() > 1) return false;
    std::string factory = "null";
    if (args->items.size() == 1 && !args->items[0]->is<detail::ObjectNone>()) {
      const auto* global = args->items[0]->get<detail::ObjectGlobal>();
      if (global == nullptr) return false;
      factory = json_string(global->name);
    }
    pieces << "{\"factory\": " + factory + ", " + id_text + "\"items\": " << opaque.entries
           << ", \"t\": \"defaultdict\"}";
    return true;
  }

  std::string plain_text(const Object& object) {
    if (object.is<detail::ObjectNone>()) return "{\"t\": \"none\"}";
    if (const auto* flag = object.get<bool>()) return text_of("bool", bool_text(*flag));
    if (const auto* number = object.get<std::int64_t>()) return text_of("int", "\"" + std::to_string(*number) + "\"");
    if (const auto* big = object.get<detail::ObjectBigInt>()) {
      return text_of("int", "\"" + integer_text(big->twos_complement) + "\"");
    }
    if (const auto* real = object.get<double>()) return "{\"bits\": \"" + hex_of_bits(*real) + "\", \"t\": \"float\"}";
    if (const auto* complex = object.get<std::complex<double>>()) {
      return "{\"im\": \"" + hex_of_bits(complex->imag()) + "\", \"re\": \"" + hex_of_bits(complex->real()) +
             "\", \"t\": \"complex\"}";
    }
    if (const auto* string = object.get<detail::ObjectString>()) return string_text(object, string->utf8);
    if (const auto* octets = object.get<detail::ObjectBytes>()) {
      return "{\"hex\": \"" + hex_of(octets->octets) + "\", \"t\": \"bytes\"}";
    }
    if (const auto* tuple = object.get<detail::ObjectTuple>()) return tuple_text(*tuple);
    if (const auto* dtype = object.get<detail::DType>()) {
      return text_of("dtype", json_string(detail::dtype_name_of(*dtype)));
    }
    if (const auto* device = object.get<detail::ObjectDevice>()) return text_of("device", json_string(device->name));
    if (const auto* layout = object.get<detail::LayoutKind>()) {
      return text_of("layout", json_string(layout_text(*layout)));
    }
    if (const auto* scheme = object.get<detail::QSchemeKind>()) {
      return "{\"class\": \"torch.qscheme\", \"t\": \"object\", \"v\": " + json_string(qscheme_text(*scheme)) + "}";
    }
    if (const auto* storage = object.get<detail::ObjectStorage>()) return storage_text(storage->storage);
    return "{\"global\": " + json_string(detail::global_name(object)) + ", \"t\": \"object\"}";  // a class, a function
  }

  // torch.Size, and the empty tuple.
  static std::string tuple_text(const detail::ObjectTuple& tuple) {
    if (!tuple.is_size) return "{\"items\": [], \"t\": \"tuple\"}";
    std::vector<std::int64_t> sizes;
    for (const Object* item : tuple.items) sizes.push_back(item->is<std::int64_t>() ? *item->get<std::int64_t>() : 0);
    return text_of("size", json_integers(sizes));
  }

  std::string string_text(const Object& object, const std::string& utf8) {
    const std::size_t n_points = utf8.size() < kLongString ? 0 : n_code_points(utf8);
    if (n_points < kLongString) {
      if (is_ascii(utf8)) return text_of("str", json_string(utf8));
      return "{\"t\": \"str\", \"utf8\": \"" + hex_of(utf8) + "\"}";
    }
    std::string& text = long_strings_[&object];  // one string may be met many times
    if (text.empty()) {
      text =
          "{\"nbytes\": " + std::to_string(utf8.size()) + ", \"sha256\": \"" + sha256_of(utf8) + "\", \"t\": \"str\"}";
    }
    return text;
  }

  std::string storage_text(std::uint32_t storage) {
    const detail::StorageInfo& info = graph_.storages[storage];
    std::string text = "{\"dtype\": ";
    text += json_string(info.untyped ? "untyped" : detail::dtype_name_of(info.dtype));
    text += ", \"nbytes\": " + std::to_string(info.n_bytes);
    if (info.untyped) {
      const TensorView all{detail::DType::uint8, {static_cast<std::int64_t>(info.n_bytes)}, {1}, 0, storage};
      text += ", \"sha256\": " + hash_text(all);
    }
    return text + ", \"t\": \"storage\"}";
  }

  std::string hash_text(const std::optional<TensorView>& view) {
    const auto hash = view ? hash_.of(*view) : std::nullopt;
    return hash ? "\"" + *hash + "\"" : "null";
  }

  std::string stored_text(std::uint32_t storage) {
    return "\"storage\": " + std::to_string(numbers_.storage_number(storage)) +
           ", \"storage_nbytes\": " + std::to_string(graph_.storages[storage].n_bytes) + ", ";
  }

  Pieces tensor_pieces(const ObjectTensor& tensor) {
    Pieces pieces;
    const std::string dtype = "\"dtype\": " + json_string(detail::dtype_name_of(tensor.dtype)) + ", ";
    const std::string param = tensor.is_parameter ? "\"param\": true, " : "";
    const std::string requires_grad = "\"requires_grad\": " + bool_text(tensor.requires_grad) + ", ";
    const std::string shape = "\"shape\": " + json_integers(tensor.sizes) + ", ";
    const std::string stride = "\"stride\": " + json_integers(tensor.strides) + ", ";
    switch (tensor.form) {
      case ObjectTensor::Form::meta:
        pieces << "{\"device\": \"meta\", " + dtype + param + requires_grad + shape + stride + "\"t\": \"tensor\"}";
        break;
      case ObjectTensor::Form::sparse_coo:
        add_coo(pieces, tensor, dtype, param + requires_grad, shape);
        break;
      case ObjectTensor::Form::sparse_compressed:
        pieces << "{\"compressed\": " << tensor.parts[0]
               << ", " + dtype + "\"layout\": \"" + layout_text(tensor.layout).substr(7) + "\", " + param +
                      "\"plain\": "
               << tensor.parts[1] << ", " + requires_grad + shape + "\"t\": \"sparse\", \"values\": " << tensor.parts[2]
               << "}";
        break;
      case ObjectTensor::Form::nested:
        add_nested(pieces, tensor, dtype);
        break;
      case ObjectTensor::Form::quantized:
        add_quantized(pieces, tensor, dtype, param, requires_grad, shape, stride);
        break;
      case ObjectTensor::Form::dense:
        pieces << std::string("{") + (tensor.conj ? "\"conj\": true, " : "") + dtype +
                      (tensor.neg ? "\"neg\": true, " : "") + "\"offset\": " + std::to_string(tensor.offset) + ", " +
                      param + requires_grad + "\"sha256\": " + hash_text(view_of(tensor)) + ", " + shape +
                      stored_text(tensor.storage) + stride + "\"t\": \"tensor\"}";
        break;
    }
    return pieces;
  }

  void add_coo(Pieces& pieces, const ObjectTensor& tensor, const std::string& dtype, const std::string& flags,
               const std::string& shape) {
    const std::uint64_t n_dense = n_elements(tensor.sizes);
    std::string hash = "null";
    if (n_dense <= kMaxDenseBytes && hash_.afford(n_dense * detail::item_size(tensor.dtype))) {
      const auto dense = dense_bytes(bytes_, tensor, kMaxDenseBytes);
      if (dense) {
        hash = "\"" + sha256_of({reinterpret_cast<const char*>(dense->data()), dense->size()}) + "\"";
      }
    }
    pieces << "{\"coalesced\": " + bool_text(tensor.is_coalesced) + ", \"dense_sha256\": " + hash + ", " + dtype +
                  "\"indices\": "
           << tensor.parts[0]
           << ", \"layout\": \"coo\", " + flags + shape + "\"t\": \"sparse\", \"values\": " << tensor.parts[1] << "}";
  }

  void add_nested(Pieces& pieces, const ObjectTensor& tensor, const std::string& dtype) {
    pieces << "{" + dtype + "\"items\": [";
    bool first = true;
    for (const TensorView& view : nested_items(bytes_, tensor)) {
      pieces << std::string(first ? "" : ", ") + "{" + dtype + "\"offset\": " + std::to_string(view.offset) +
                    ", \"requires_grad\": " + bool_text(tensor.requires_grad) + ", \"sha256\": " + hash_text(view) +
                    ", \"shape\": " + json_integers(view.sizes) + ", " + stored_text(view.storage) +
                    "\"stride\": " + json_integers(view.strides) + ", \"t\": \"tensor\"}";
      first = false;
    }
    pieces << "], \"t\": \"nested\"}";
  }

  void add_quantized(Pieces& pieces, const ObjectTensor& tensor, const std::string& dtype, const std::string& param,
                     const std::string& requires_grad, const std::string& shape, const std::string& stride) {
    const bool per_tensor = tensor.parts.empty();
    const std::string scheme = "\"qscheme\": " + json_string(qscheme_text(tensor.qscheme)) + ", " + requires_grad;
    const std::string offset = "\"offset\": " + std::to_string(tensor.offset) + ", " + param;
    const std::string hash = "\"sha256\": " + hash_text(view_of(tensor)) + ", ";
    const std::string rest = shape + stored_text(tensor.storage) + stride + "\"t\": \"quant\"";
    if (per_tensor) {
      pieces << "{" + dtype + offset + scheme + "\"scale\": \"" + hex_of_bits(tensor.scale) + "\", " + hash + rest +
                    ", \"zero_point\": " + std::to_string(tensor.zero_point) + "}";
    } else {
      pieces << "{\"axis\": " + std::to_string(tensor.axis) + ", " + dtype + offset + scheme + "\"scales\": "
             << tensor.parts[0] << ", " + hash + rest + ", \"zero_points\": " << tensor.parts[1] << "}";
    }
  }

  StorageBytes& bytes_;
  const detail::ObjectGraph& graph_;
  Numbering numbers_;
  TensorHash& hash_;
  const std::function<void(std::string_view)>& write_;
  std::string out_;
  std::uint64_t n_written_ = 0;
  std::size_t n_sets_ = 0;
  std::vector<Frame> frames_;
  std::unordered_map<const Object*, bool> described_;
  std::unordered_map<const Object*, std::string> long_strings_;
};

// As torch.jit.load names them; each tensor is described by itself.
void describe_modules(StorageBytes& bytes, TensorHash& hash, const detail::ModuleNames& modules,
                      const std::function<void(std::string_view)>& write) {
  std::string names;
  for (const std::string& name : modules.modules) names += (names.empty() ? "" : ", ") + json_string(name);
  write("{\"modules\": [" + names + "], \"t\": \"jit_archive\", \"tensors\": {");
  bool first = true;
  for (const auto& [name, tensor] : modules.tensors) {
    write((first ? "" : ", ") + json_string(name) + ": ");
    Describer(bytes, hash, *tensor, write).run(*tensor);
    first = false;
  }
  write("}}");
}

}  // namespace

void describe_json(StorageBytes& bytes, const std::function<void(std::string_view)>& write) {
  const detail::Archive& archive = bytes.archive();
  detail::check_index_values(archive);
  TensorHash hash(bytes);
  detail::ModuleNames modules;
  if (!archive.is_checkpoint() && !archive.script_modules().empty()) modules = detail::name_modules(archive);
  if (modules.modules.empty()) {
    Describer(bytes, hash, archive.root(), write).run(archive.root());
  } else {
    describe_modules(bytes, hash, modules, write);
  }
  write("\n");
}

}  // namespace ckptio::cli
