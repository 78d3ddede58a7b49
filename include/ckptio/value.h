// SPDX-License-Identifier: Apache-2.0
// Value, Dict, List, Tuple, Set and Checkpoint: what a checkpoint holds, as Python's plain objects.
//
//   ckptio::Checkpoint ckpt{{"epoch", 3}, {"loss", 0.25}, {"state_dict", ckptio::state_dict(*model)}};
//   ckpt["optimizer_states"] = ckptio::List{ckptio::state_dict(optimizer)};
//   auto epoch = ckpt.at("epoch").as<int64_t>();
//
// All are values: copying a Dict copies every container in it. Tensors are handles, as everywhere in PyTorch:
// a copied Dict refers to the same tensors. Nested containers are spelled with their type: List{1, 2},
// Tuple{0.9, 0.999}, Dict{{"lr", 0.1}}.
//
// Errors: TypeError and KeyError name the place, from the outermost Dict on, which is called `checkpoint`:
//   checkpoint['optimizer_states'][0]['lr']: is int, asked for str
// Threads: any number may read one object; a writer needs it for itself.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>
#include <c10/core/Layout.h>
#include <c10/core/QScheme.h>
#include <c10/core/ScalarType.h>
#include <c10/core/Storage.h>

#include <complex>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iosfwd>
#include <iterator>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "ckptio/dict_type.h"
#include "ckptio/error.h"
#include "ckptio/opaque.h"

namespace c10 {
struct IValue;
}

namespace ckptio {

class Value;

namespace detail {
struct Node;          // a container's contents, and the container it stands in
struct SequenceNode;  // of a List or Tuple
struct DictNode;      // of a Dict or Set
struct ValueAccess;
}  // namespace detail

// Python's `bytes`: raw octets, in no encoding.
class Bytes : public std::vector<std::uint8_t> {
 public:
  using std::vector<std::uint8_t>::vector;
  explicit Bytes(std::string_view octets) : vector(octets.begin(), octets.end()) {}
  Bytes(const char* data, std::size_t n_bytes) : Bytes(std::string_view(data, n_bytes)) {}
  std::string_view view() const noexcept { return {reinterpret_cast<const char*>(data()), size()}; }
};

// Python's `bytearray`.
class ByteArray : public std::vector<std::uint8_t> {
 public:
  using std::vector<std::uint8_t>::vector;
  explicit ByteArray(std::string_view octets) : vector(octets.begin(), octets.end()) {}
  std::string_view view() const noexcept { return {reinterpret_cast<const char*>(data()), size()}; }
};

// A tensor's memory by itself: torch.FloatStorage and the like, or torch.UntypedStorage. A handle.
struct TypedStorage {
  c10::Storage storage;
  std::optional<c10::ScalarType> dtype;  // of its items; none: untyped

  // True where type and bytes are equal, on whatever device.
  friend bool operator==(const TypedStorage& a, const TypedStorage& b);
};

// An integer outside int64's range, as Python has them. Kept in the shortest two's complement form, least
// significant byte first (the form of pickle's LONG opcodes).
class BigInt {
 public:
  explicit BigInt(std::uint64_t value);
  // "-123...": decimal digits with an optional sign; anything else is a ValueError. Cost is quadratic in the digits.
  explicit BigInt(std::string_view decimal);
  static BigInt from_twos_complement(std::vector<std::uint8_t> little_endian);

  const std::vector<std::uint8_t>& twos_complement() const noexcept { return bytes_; }
  std::string to_string() const;
  std::optional<std::int64_t> to_int64() const noexcept;    // nullopt where it does not fit
  std::optional<std::uint64_t> to_uint64() const noexcept;  // nullopt where it does not fit
  bool operator==(const BigInt&) const = default;

 private:
  BigInt() = default;
  std::vector<std::uint8_t> bytes_;
};

namespace detail {

// What List and Tuple share: an ordered run of Values.
class Sequence {
 public:
  Sequence() noexcept;
  Sequence(std::initializer_list<Value> items);
  Sequence(const Sequence& other);
  Sequence(Sequence&& other) noexcept;
  Sequence& operator=(const Sequence& other);
  Sequence& operator=(Sequence&& other) noexcept;
  ~Sequence();

  std::size_t size() const noexcept;
  bool empty() const noexcept { return size() == 0; }
  // The item at `index`; a negative one counts from the end, as in Python. IndexError where there is none.
  const Value& at(std::int64_t index) const;
  const Value& operator[](std::int64_t index) const { return at(index); }
  const Value* begin() const noexcept;
  const Value* end() const noexcept;

 protected:
  SequenceNode& node();
  std::unique_ptr<SequenceNode> node_;  // null: empty
  friend struct ValueAccess;
};

}  // namespace detail

// Python's `list`.
class List : public detail::Sequence {
 public:
  List() noexcept = default;
  List(std::initializer_list<Value> items) : Sequence(items) {}
  template <std::input_iterator Iterator>
  List(Iterator first, Iterator last);

  using Sequence::at;
  using Sequence::begin;
  using Sequence::end;
  using Sequence::operator[];
  Value& at(std::int64_t index);
  Value& operator[](std::int64_t index) { return at(index); }
  Value* begin() noexcept;
  Value* end() noexcept;
  void push_back(Value value);  // references to items become invalid
  void reserve(std::size_t n_items);
  void clear() noexcept;

  friend bool operator==(const List& a, const List& b);
  friend std::ostream& operator<<(std::ostream& out, const List& list);
};

// Python's `tuple`: items are given when it is made. Differs from a List of the same items.
class Tuple : public detail::Sequence {
 public:
  Tuple() noexcept = default;
  Tuple(std::initializer_list<Value> items) : Sequence(items) {}
  template <std::input_iterator Iterator>
  Tuple(Iterator first, Iterator last);

  // Python's `torch.Size`, a tuple of integers that remembers its type; == sees no difference, as in Python.
  static Tuple make_size(c10::IntArrayRef sizes);
  bool is_size() const noexcept;

  friend bool operator==(const Tuple& a, const Tuple& b);
  friend std::ostream& operator<<(std::ostream& out, const Tuple& tuple);
};

// Python's `dict`: keeps the order in which keys were first inserted. Keys are strings, integers, or any other
// plain Value that Python can hash: null, bool, float, complex, bytes, a Tuple or frozen Set of such, a dtype, device,
// layout or qscheme, an Opaque (as itself: another one that is equal is another key); a List, Dict or Tensor as key
// is a TypeError. Keys of different types differ (1, 1.0 and true are three keys).
// References to values stay valid until their entry is erased.
class Dict {
 public:
  using value_type = std::pair<const Value, Value>;
  using iterator = std::list<value_type>::iterator;
  using const_iterator = std::list<value_type>::const_iterator;

  Dict() noexcept;
  // {{"epoch", 3}, {"lr", 0.1}}. A key given twice takes its last value, as in Python.
  Dict(std::initializer_list<std::pair<Value, Value>> items);
  Dict(const Dict& other);
  Dict(Dict&& other) noexcept;
  Dict& operator=(const Dict& other);
  Dict& operator=(Dict&& other) noexcept;
  ~Dict();

  std::size_t size() const noexcept;
  bool empty() const noexcept { return size() == 0; }
  bool contains(const Value& key) const { return find(key) != nullptr; }

  // The value at `key`. KeyError, which lists the keys there are with near names first, where there is none.
  const Value& at(const Value& key) const;
  Value& at(const Value& key);
  const Value& operator[](const Value& key) const { return at(key); }
  // The value at `key`, inserted as null at the end where there was none.
  Value& operator[](const Value& key);
  // The value at `key`, or nullptr.
  const Value* find(const Value& key) const;
  Value* find(const Value& key);
  // The value at `key`, or `fallback`.
  Value get(const Value& key, const Value& fallback) const;

  // True where there was such an entry.
  bool erase(const Value& key);
  void clear() noexcept;

  // Its type in Python, DictType::dict unless set or loaded. Formats that can keep it do; == sees no difference.
  DictType type() const noexcept;
  void set_type(DictType type);
  // What stands in the dictionary's own `__dict__`: a state_dict's `_metadata`. Not seen by ==. Only an OrderedDict
  // and a Counter have one: to change that of a plain dict is a TypeError.
  const Dict& attributes() const noexcept;
  Dict& attributes();

  // In insertion order; an item is a pair (key, value): for (auto& [key, value] : dict).
  iterator begin() noexcept;
  iterator end() noexcept;
  const_iterator begin() const noexcept;
  const_iterator end() const noexcept;

  // As in Python, order does not count.
  friend bool operator==(const Dict& a, const Dict& b);
  friend std::ostream& operator<<(std::ostream& out, const Dict& dict);

 private:
  detail::DictNode& node();
  std::unique_ptr<detail::DictNode> node_;  // null: empty
  friend struct detail::ValueAccess;
};

// Python's `set` or `frozenset`: items that can be keys of a Dict, each once. Keeps the order in which they were
// inserted, so that equal sets are written as equal bytes; == ignores it.
class Set {
 public:
  class const_iterator;
  using iterator = const_iterator;

  Set() noexcept = default;
  Set(std::initializer_list<Value> items);
  template <std::input_iterator Iterator>
  Set(Iterator first, Iterator last);
  // The same as a frozenset, which is another type in Python, and not equal.
  static Set make_frozen(Set items) noexcept;
  bool is_frozen() const noexcept { return frozen_; }

  std::size_t size() const noexcept { return items_.size(); }
  bool empty() const noexcept { return items_.empty(); }
  bool contains(const Value& item) const { return items_.contains(item); }
  bool insert(const Value& item);  // false where it is in already; TypeError for what cannot be a key
  bool erase(const Value& item) { return items_.erase(item); }
  const_iterator begin() const noexcept;
  const_iterator end() const noexcept;

  friend bool operator==(const Set& a, const Set& b);
  friend std::ostream& operator<<(std::ostream& out, const Set& set);

 private:
  Dict items_;  // the keys
  bool frozen_ = false;
  friend struct detail::ValueAccess;
};

class Set::const_iterator {
 public:
  using iterator_category = std::bidirectional_iterator_tag;
  using value_type = Value;
  using difference_type = std::ptrdiff_t;
  using pointer = const Value*;
  using reference = const Value&;

  const_iterator() = default;
  explicit const_iterator(Dict::const_iterator at) : at_(at) {}
  reference operator*() const;
  pointer operator->() const { return &**this; }
  const_iterator& operator++();
  const_iterator& operator--();
  const_iterator operator++(int);
  const_iterator operator--(int);
  bool operator==(const const_iterator& other) const;

 private:
  Dict::const_iterator at_{};
};

// A checkpoint: a Dict whose keys are strings, by custom Lightning's: epoch, global_step, state_dict,
// optimizer_states, lr_schedulers, ...
using Checkpoint = Dict;

namespace detail {

template <class T>
concept CharacterType = std::same_as<T, char> || std::same_as<T, wchar_t> || std::same_as<T, char8_t> ||
    std::same_as<T, char16_t> || std::same_as<T, char32_t>;
template <class T>
concept Integer = std::integral<T> && !std::same_as<T, bool> && !CharacterType<T>;

template <class T>
inline constexpr bool is_optional = false;
template <class T>
inline constexpr bool is_optional<std::optional<T>> = true;
template <class T>
inline constexpr bool is_vector = false;
template <class T>
inline constexpr bool is_vector<std::vector<T>> = true;

// T is held by Value as such.
template <class T>
concept HeldType = std::same_as<T, bool> || std::same_as<T, std::int64_t> || std::same_as<T, double> ||
    std::same_as<T, std::complex<double>> || std::same_as<T, std::string> || std::same_as<T, Bytes> ||
    std::same_as<T, BigInt> || std::same_as<T, at::Tensor> || std::same_as<T, List> || std::same_as<T, Tuple> ||
    std::same_as<T, Dict> || std::same_as<T, Set> || std::same_as<T, ByteArray> || std::same_as<T, c10::ScalarType> ||
    std::same_as<T, c10::Device> || std::same_as<T, c10::Layout> || std::same_as<T, c10::QScheme> ||
    std::same_as<T, TypedStorage> || std::same_as<T, Opaque>;

template <class T>
constexpr const char* python_name() {
  if constexpr (std::same_as<T, bool>)
    return "bool";
  else if constexpr (std::integral<T> || std::same_as<T, BigInt>)
    return "int";
  else if constexpr (std::floating_point<T>)
    return "float";
  else if constexpr (std::same_as<T, std::complex<double>>)
    return "complex";
  else if constexpr (std::same_as<T, std::string> || std::same_as<T, std::string_view>)
    return "str";
  else if constexpr (std::same_as<T, Bytes>)
    return "bytes";
  else if constexpr (std::same_as<T, at::Tensor>)
    return "Tensor";
  else if constexpr (std::same_as<T, List>)
    return "list";
  else if constexpr (std::same_as<T, Tuple>)
    return "tuple";
  else if constexpr (std::same_as<T, Dict>)
    return "dict";
  else if constexpr (std::same_as<T, Set>)
    return "set";
  else if constexpr (std::same_as<T, ByteArray>)
    return "bytearray";
  else if constexpr (std::same_as<T, c10::ScalarType>)
    return "dtype";
  else if constexpr (std::same_as<T, c10::Device>)
    return "device";
  else if constexpr (std::same_as<T, c10::Layout>)
    return "layout";
  else if constexpr (std::same_as<T, c10::QScheme>)
    return "qscheme";
  else if constexpr (std::same_as<T, TypedStorage>)
    return "storage";
  else
    return "Opaque";
}

}  // namespace detail

// One of Python's plain objects: None (null), bool, int, float, complex, str, bytes, bytearray, a Tensor, list, tuple,
// dict or set; one of PyTorch's: a dtype, device, layout, qscheme or storage; or an Opaque.
class Value {
 public:
  Value() noexcept = default;  // null, Python's None
  Value(std::nullptr_t) noexcept {}
  Value(std::nullopt_t) noexcept {}
  Value(std::same_as<bool> auto value) noexcept : held_(value) {}
  Value(detail::Integer auto value) {
    if (std::in_range<std::int64_t>(value)) {
      held_ = static_cast<std::int64_t>(value);
    } else {
      held_ = BigInt(static_cast<std::uint64_t>(value));
    }
  }
  Value(detail::CharacterType auto value) = delete;  // a string or a number?
  Value(std::floating_point auto value) noexcept : held_(static_cast<double>(value)) {}
  Value(std::complex<double> value) noexcept : held_(value) {}
  Value(const char* value) : held_(std::string(value)) {}
  Value(std::string_view value) : held_(std::string(value)) {}
  Value(std::string value) noexcept : held_(std::move(value)) {}
  Value(Bytes value) noexcept : held_(std::move(value)) {}
  Value(BigInt value);  // held as int64 where it fits
  Value(at::Tensor value) noexcept : held_(std::move(value)) {}
  Value(List value) noexcept : held_(std::move(value)) { link(); }
  Value(Tuple value) noexcept : held_(std::move(value)) { link(); }
  Value(Dict value) noexcept : held_(std::move(value)) { link(); }
  Value(Set value) noexcept : held_(std::move(value)) { link(); }
  Value(std::same_as<ByteArray> auto value) noexcept : held_(std::move(value)) {}
  Value(std::same_as<c10::ScalarType> auto value) noexcept : held_(value) {}
  Value(std::same_as<c10::Device> auto value) noexcept : held_(value) {}
  Value(std::same_as<c10::Layout> auto value) noexcept : held_(value) {}
  Value(std::same_as<c10::QScheme> auto value) noexcept : held_(value) {}
  Value(std::same_as<TypedStorage> auto value) noexcept : held_(std::move(value)) {}
  Value(Opaque value) noexcept : held_(std::move(value)) {}

  Value(const Value& other) : held_(other.held_) {}
  Value(Value&& other) noexcept : held_(std::move(other.held_)) { link(); }
  Value& operator=(const Value& other) { return *this = Value(other); }
  Value& operator=(Value&& other) noexcept;
  ~Value() = default;

  bool is_null() const noexcept { return std::holds_alternative<std::monostate>(held_); }
  template <detail::HeldType T>
  bool is() const noexcept {
    return std::holds_alternative<T>(held_);
  }
  // The held T, or nullptr where it is something else.
  template <detail::HeldType T>
  const T* get_if() const noexcept {
    return std::get_if<T>(&held_);
  }
  // Python's name of the held type: NoneType, bool, int, float, complex, str, bytes, bytearray, Tensor, list, tuple,
  // Size, dict, OrderedDict, Counter, set, frozenset, dtype, device, layout, qscheme, storage; or Opaque.
  const char* type_name() const noexcept;

  // The value as a T.
  //   std::string, Bytes, at::Tensor, List, Tuple, Dict, ...    const reference, valid as long as this Value is
  //   bool, integer types, floating types, std::complex         by value
  //   std::optional<T>                                          nullopt for null
  //   std::vector<T>                                            from a List or Tuple, item by item
  // An int can be asked for as float, as in Python; nothing else is converted.
  // TypeError where it is something else; ValueError where an integer is out of T's range. Both name the path.
  template <class T>
  decltype(auto) as() const;

  // The held T itself, to change it in place: value.mutable_as<List>().push_back(1). TypeError as above.
  template <detail::HeldType T>
  T& mutable_as();

  // An entry of the Dict, or an item of the List or Tuple held (integer key). TypeError where it is no container.
  const Value& at(const Value& key) const;
  Value& at(const Value& key);
  const Value& operator[](const Value& key) const { return at(key); }
  // As Dict's: inserts a missing key. Null becomes an empty Dict first.
  Value& operator[](const Value& key);
  bool contains(const Value& key) const;  // of a Dict or Set
  std::size_t size() const;               // of a Dict, Set, List or Tuple

  // Where this value stands: "checkpoint['optimizer_states'][0]['lr']"; "value" where it is in no container.
  std::string path() const;

  // To and from TorchScript's dynamic value. What TorchScript has, maps naturally: None, bool, int, float, complex,
  // str, Tensor, List[Any], Tuple, Dict[str, Any] and Dict[int, Any]; the rest becomes a tuple whose first item is
  // a string "ckptio.<kind>" and comes back equal. from_ivalue takes typed lists and dictionaries too, and an
  // object as a Dict of its attributes; anything else is a TypeError. An Opaque has no such form: a TypeError lists
  // each there is.
  c10::IValue to_ivalue() const;
  static Value from_ivalue(const c10::IValue& ivalue);

  // Deep. Types must agree (1 != 1.0); a float NaN equals itself. Tensors are equal if they have the same dtype,
  // layout and shape and bit-equal elements (but +0 equals -0 and NaN equals NaN), on whatever device and with
  // whatever strides.
  friend bool operator==(const Value& a, const Value& b) { return a.equals(b); }
  // As Python prints it, tensors in short: {'epoch': 3, 'weight': Tensor(float32 [2, 3])}.
  friend std::ostream& operator<<(std::ostream& out, const Value& value) { return value.print(out); }

 private:
  using Held = std::variant<std::monostate, bool, std::int64_t, double, std::complex<double>, std::string, Bytes,
                            BigInt, at::Tensor, List, Tuple, Dict, Set, ByteArray, c10::ScalarType, c10::Device,
                            c10::Layout, c10::QScheme, TypedStorage, Opaque>;

  void link() noexcept;  // tells a held container where it stands
  bool equals(const Value& other) const;
  std::ostream& print(std::ostream& out) const;
  [[noreturn]] void throw_type(const char* asked) const;
  [[noreturn]] void throw_range() const;
  void materialize();  // gives a held container its contents, so that items learn where they stand
  template <class T>
  T as_integer() const;
  template <class T>
  T as_vector() const;

  Held held_;
  // The contents this value is an item of. A property of the place, not of what is held: assignment keeps it,
  // copies and moved-to values start without.
  const detail::Node* parent_ = nullptr;
  friend struct detail::ValueAccess;
};

// Python's repr, as operator<< prints it.
std::string to_string(const Value& value);

// ---------------------------------------------------------------------------------------------------------------
// Below: bodies of templates.

template <std::input_iterator Iterator>
List::List(Iterator first, Iterator last) {
  for (; first != last; ++first) push_back(Value(*first));
}

template <std::input_iterator Iterator>
Tuple::Tuple(Iterator first, Iterator last) {
  Sequence::operator=(List(first, last));
}

template <std::input_iterator Iterator>
Set::Set(Iterator first, Iterator last) {
  for (; first != last; ++first) insert(Value(*first));
}

inline const Value& Set::const_iterator::operator*() const { return at_->first; }
inline Set::const_iterator& Set::const_iterator::operator++() {
  ++at_;
  return *this;
}
inline Set::const_iterator& Set::const_iterator::operator--() {
  --at_;
  return *this;
}
inline Set::const_iterator Set::const_iterator::operator++(int) { return const_iterator(at_++); }
inline Set::const_iterator Set::const_iterator::operator--(int) { return const_iterator(at_--); }
inline bool Set::const_iterator::operator==(const const_iterator& other) const { return at_ == other.at_; }

template <class T>
decltype(auto) Value::as() const {
  if constexpr (detail::is_optional<T>) {
    return is_null() ? T() : T(as<typename T::value_type>());
  } else if constexpr (detail::is_vector<T> && !detail::HeldType<T>) {
    return as_vector<T>();
  } else if constexpr (std::same_as<T, bool> || std::same_as<T, std::complex<double>>) {
    if (const T* held = get_if<T>()) return T(*held);
    throw_type(detail::python_name<T>());
  } else if constexpr (detail::Integer<T>) {
    return as_integer<T>();
  } else if constexpr (std::floating_point<T>) {
    if (const double* held = get_if<double>()) return static_cast<T>(*held);
    if (const std::int64_t* held = get_if<std::int64_t>()) return static_cast<T>(*held);
    throw_type(detail::python_name<T>());
  } else if constexpr (std::same_as<T, std::string_view>) {
    return std::string_view(as<std::string>());
  } else {
    static_assert(detail::HeldType<T>, "a Value holds no such type");
    const T* held = get_if<T>();
    if (held == nullptr) throw_type(detail::python_name<T>());
    return (*held);
  }
}

template <class T>
T Value::as_integer() const {
  if (const std::int64_t* held = get_if<std::int64_t>()) {
    if (std::in_range<T>(*held)) return static_cast<T>(*held);
    throw_range();
  }
  if (const BigInt* held = get_if<BigInt>()) {
    const std::optional<std::uint64_t> value = held->to_uint64();
    if (value && std::in_range<T>(*value)) return static_cast<T>(*value);
    throw_range();
  }
  throw_type("int");
}

template <class T>
T Value::as_vector() const {
  const detail::Sequence* items = get_if<List>();
  if (items == nullptr) items = get_if<Tuple>();
  if (items == nullptr) throw_type("list or tuple");
  T result;
  result.reserve(items->size());
  for (const Value& item : *items) result.push_back(item.as<typename T::value_type>());
  return result;
}

template <detail::HeldType T>
T& Value::mutable_as() {
  if (!is<T>()) throw_type(detail::python_name<T>());
  materialize();
  return *std::get_if<T>(&held_);
}

}  // namespace ckptio
