// SPDX-License-Identifier: Apache-2.0
// GraphBuilder: makes the objects of one pickle in an ObjectGraph, within the limits of memory, and knows what the
// reader knows about them: where the reader stands (for errors), which globals there are, when two keys are equal.
//
// The parts of the pickle reader share it: pickle_reader.cpp (opcodes), known_globals.cpp (calls), known_tensors.cpp.
// Threads: one at a time. Errors: CorruptError, UnsupportedError.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "codec/byte_source.h"
#include "codec/limits.h"
#include "codec/object.h"
#include "codec/pickle_reader.h"
#include "hash/hash_table.h"

namespace ckptio::detail {

// What a global means to us.
enum class Known : std::uint8_t {
  none,
  // Types of Python.
  ordered_dict,
  counter,
  set,
  frozen_set,
  bytes,
  byte_array,
  complex,
  codecs_encode,
  // Of torch.
  size,
  device,
  get_layout,
  storage_class,
  untyped_storage_class,
  tensor_class,      // torch.Tensor
  old_tensor_class,  // torch.FloatTensor and the like
  parameter_class,
  buffer_class,
  rebuild_tensor,
  rebuild_tensor_v2,
  rebuild_tensor_v3,
  rebuild_parameter,
  rebuild_parameter_with_state,
  rebuild_from_type_v2,
  rebuild_sparse_tensor,
  rebuild_qtensor,
  rebuild_meta_tensor,
  rebuild_nested_tensor,
  // Of LibTorch's archives.
  typed_list,        // torch.jit._pickle.build_intlist and the like
  restore_type_tag,  // torch.jit._pickle.restore_type_tag
};

class GraphBuilder {
 public:
  GraphBuilder(ObjectGraph& graph, const ByteSource& source, const PickleOptions& options);

  // Where the reader stands: what fail() reports.
  void set_place(std::uint64_t offset, const char* opcode) { offset_ = offset, opcode_ = opcode; }
  std::uint64_t place() const { return offset_; }
  [[noreturn]] void fail(const std::string& what) const;              // CorruptError
  [[noreturn]] void fail_unsupported(const std::string& what) const;  // UnsupportedError

  PickleDialect dialect() const { return options_.dialect; }
  ObjectGraph& graph() { return graph_; }

  // Counts memory against kMaxGraphBytes.
  void charge(std::uint64_t n_bytes) {
    n_charged_ += n_bytes;
    if (n_charged_ > kMaxGraphBytes) fail_memory();
  }
  // The same for `n_items` more pointers in a container: vectors may be twice as large as they must.
  void charge_items(std::uint64_t n_items) { charge(n_items * 2 * sizeof(Object*)); }
  // Fails as charge() would.
  void require_room(std::uint64_t n_bytes) const {
    if (n_bytes > kMaxGraphBytes - n_charged_) fail_memory();
  }

  // Counts what is looked at again, though it was read once: `n_items` of a container, or bytes of a text. A file could
  // ask for it with every opcode. As memory, so that one limit holds for both.
  void charge_work(std::uint64_t n_items) { charge(n_items * sizeof(Object*)); }

  template <class T>
  Object* make(T value) {
    charge(sizeof(Object) + kObjectOverhead + boxed_bytes<T>());
    return graph_.make(std::move(value));
  }
  Object* make_plain_tensor() {
    charge(sizeof(Object) + kObjectOverhead + boxed_bytes<ObjectTensor>());
    return graph_.make_tensor();
  }
  Object* make_none() { return none_ != nullptr ? none_ : none_ = make(ObjectNone{}); }
  Object* make_bool(bool value) {
    Object*& object = value ? true_ : false_;
    return object != nullptr ? object : object = make(value);
  }
  Object* make_empty_tuple() { return empty_tuple_ != nullptr ? empty_tuple_ : empty_tuple_ = make(ObjectTuple{}); }
  Object* make_int(std::int64_t value);
  // `twos_complement`: little-endian, of any length.
  Object* make_int(std::string twos_complement);
  Object* make_string(std::string utf8);  // checks it
  Object* make_bytes(std::string octets);
  Object* make_byte_array(std::string octets);
  Object* make_tuple(std::vector<Object*> items);
  Object* make_list(std::vector<Object*> items);

  // The object of a global; the same one for the same name.
  Object* make_global(std::string module, std::string name);
  Known known(const Object* global) const;
  // The same for any object, and null.
  bool is(const Object* object, Known expected) const {
    return object != nullptr && object->is<ObjectGlobal>() && known(object) == expected;
  }

  // As Python's containers do: an equal key keeps its place and its first object, and gets the new value. CorruptError
  // for keys that Python cannot hash.
  void set_item(Object* dict, Object* key, Object* value);
  void set_items(Object* dict, const std::vector<Object*>& keys_and_values);  // in turn
  void add_item(Object* set, Object* item);

  // The index of the storage that a persistent id names, a new one or one that there is; `class_object` is its class.
  std::uint32_t find_storage(const Object* class_object, std::string_view key, const std::string& location,
                             std::uint64_t n_elements);
  // The dtype that a storage was named with (an UntypedStorage: none).
  std::optional<DType> storage_dtype(const ObjectStorage& storage) const;

 private:
  static constexpr std::uint64_t kObjectOverhead = 8;  // of the memory that stands ready
  template <class T>
  static constexpr std::uint64_t boxed_bytes() {
    if constexpr (std::is_same_v<T, ObjectTensor> || std::is_same_v<T, ObjectOpaque>) {
      return sizeof(T) + 16;
    } else {
      return 0;
    }
  }
  [[noreturn]] void fail_memory() const;
  void index_storages();
  std::uint32_t first_of_key(std::string_view key);
  void add_to_key(std::uint32_t first);
  std::uint32_t key_id(const Object* key);
  std::uint32_t key_id_of_leaf(const Object* key);
  std::uint32_t key_id_of(std::string content);
  std::uint32_t key_id_of_string(std::string_view text);
  std::uint32_t key_id_of_object(const Object* key, std::uint32_t id);
  bool all_differ(const Object* dict, const std::vector<Object*>& keys_and_values);
  std::uint32_t index_items(const Object* container);
  void set_numbered_item(std::uint32_t dict_number, ObjectDict& dict, Object* key, Object* value);
  std::pair<std::uint32_t, bool> find_place(std::uint32_t container, const Object* key, std::uint32_t position);

  ObjectGraph& graph_;
  const ByteSource& source_;
  const PickleOptions& options_;
  std::uint64_t offset_ = 0;
  const char* opcode_ = "";
  std::uint64_t n_charged_ = 0;

  Object* none_ = nullptr;
  Object* true_ = nullptr;
  Object* false_ = nullptr;
  Object* empty_tuple_ = nullptr;
  std::vector<Object*> small_ints_;

  std::map<std::pair<std::string, std::string>, Object*> globals_;
  struct KnownGlobal {
    Known known = Known::none;
    DType dtype = DType::uint8;  // of a storage_class
  };
  std::unordered_map<const Object*, KnownGlobal> known_;
  static constexpr std::uint32_t kNone = 0xffffffff;
  bool are_keys_counted_ = true;                 // each storage's key is its index: nothing stands in the table yet
  HashTable<std::uint32_t> storages_by_key_;     // the first of each key
  std::vector<std::uint32_t> next_of_same_key_;  // one for each storage, or kNone

  // Equal keys have equal numbers: each is made once, of what it holds (a tuple: of its items' numbers), and looked up.
  // So a tuple that is shared is not walked again: its hash in Python takes exponential time.
  struct StringKey {
    std::string_view text;
    std::uint32_t id;
  };
  std::uint32_t n_key_ids_ = 0;
  std::vector<StringKey> string_keys_;
  HashTable<std::uint32_t> string_keys_by_text_;
  std::map<std::string, std::uint32_t> ids_of_contents_;
  std::unordered_map<const Object*, std::uint32_t> ids_of_objects_;
  // The dict that got items last whose keys have no place in the table, and the largest number of them.
  struct Filled {
    const Object* dict = nullptr;
    std::uint32_t last_id = 0;
  };
  Filled filled_;
  // Where a key stands in a container that is filled bit by bit; both as numbers.
  struct Place {
    std::uint64_t container_and_key;
    std::uint32_t position;
  };
  std::unordered_map<const Object*, std::uint32_t> container_numbers_;
  std::vector<Place> places_;
  HashTable<std::uint32_t> places_by_key_;
};

// Whether the text is UTF-8 as Python's 'surrogatepass' takes it.
bool is_utf8(const std::string& text);

}  // namespace ckptio::detail
