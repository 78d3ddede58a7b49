// SPDX-License-Identifier: Apache-2.0
// A stack machine, as Python's unpickler is one: an opcode takes objects from the stack, from behind the last mark or
// from the memo, and puts one there. Nothing here recurses, whatever the depth of what a file describes.
#include "codec/pickle_reader.h"

#include <algorithm>
#include <bit>
#include <map>
#include <unordered_set>

#include "codec/graph_builder.h"
#include "codec/graph_depth.h"
#include "codec/known_globals.h"
#include "codec/little_endian.h"
#include "codec/pickle_input.h"
#include "codec/pickle_opcodes.h"
#include "codec/pickle_text.h"
#include "codec/python2_names.h"
#include "codec/zip_directory.h"

namespace ckptio::detail {
namespace {

constexpr unsigned kMaxProtocol = 5;

// The memo's entries by number. Picklers count up from 0, so they stand in a vector; a number far from that (a file may
// say 2^32-1) goes to a tree.
class Memo {
 public:
  void put(GraphBuilder& builder, std::uint64_t number, Object* object) {
    ++n_puts_;
    if (number < dense_.size() || number <= 2 * n_puts_ + 1024) {
      if (number >= dense_.size()) {
        builder.charge((number + 1 - dense_.size()) * 2 * sizeof(Object*));
        dense_.resize(number + 1);
      }
      dense_[number] = object;
    } else {
      builder.charge(64);
      sparse_[number] = object;
    }
    if (object->is<ObjectOpaque>()) stored_.insert(object);
  }
  Object* get(std::uint64_t number) const {
    if (number < dense_.size() && dense_[number] != nullptr) return dense_[number];
    const auto place = sparse_.find(number);
    return place == sparse_.end() ? nullptr : place->second;
  }
  // Whether the memo ever held this ObjectOpaque.
  bool has_held(const Object* object) const { return stored_.count(object) > 0; }

  std::uint64_t next() const { return n_puts_; }  // of MEMOIZE

 private:
  std::uint64_t n_puts_ = 0;
  std::vector<Object*> dense_;
  std::map<std::uint64_t, Object*> sparse_;
  std::unordered_set<const Object*> stored_;
};

// The name of a record.
bool is_storage_key(std::string_view key) {
  const auto is_plain = [](unsigned char c) { return c > 0x20 && c < 0x7F && c != '\\'; };
  return !key.empty() && key.size() <= kMaxStorageNameBytes && std::all_of(key.begin(), key.end(), is_plain) &&
         key.front() != '/' && key.find("..") == key.npos;
}

class PickleMachine {
 public:
  PickleMachine(ObjectGraph& graph, const ByteSource& source, const PickleOptions& options)
      : graph_(graph), input_(source, options.begin), builder_(graph, source, options), begin_(options.begin) {}

  std::uint64_t run() {
    while (!is_done_) {
      builder_.set_place(input_.offset(), "the next opcode");
      if (input_.offset() - begin_ > kMaxPickleBytes) {
        builder_.fail("a pickle of more than " + std::to_string(kMaxPickleBytes >> 20) + " MiB found");
      }
      const unsigned char opcode = take(1)[0];
      const char* name = opcode_name(opcode);
      if (name == nullptr) builder_.fail("the byte " + std::to_string(opcode) + " found, which is no opcode");
      builder_.set_place(builder_.place(), name);
      step(static_cast<Op>(opcode));
    }
    if (const auto depth = measure_depth(builder_, graph_.root); depth > kMaxDepth) {
      builder_.fail("objects nested " + std::to_string(depth) + " deep found, at most " + std::to_string(kMaxDepth) +
                    " expected");
    }
    return input_.offset();
  }

 private:
  // The input.
  const unsigned char* take(std::size_t n_bytes) {
    const unsigned char* bytes = input_.take(n_bytes);
    if (bytes == nullptr) {
      builder_.fail("the pickle ends here, " + std::to_string(n_bytes) + " more bytes expected");
    }
    return bytes;
  }
  std::string take_string(std::uint64_t n_bytes) {
    if (n_bytes > input_.n_left()) {
      builder_.fail(std::to_string(n_bytes) + " bytes announced, " + std::to_string(input_.n_left()) + " are left");
    }
    builder_.require_room(n_bytes);  // what keeps them counts them
    return input_.take_string(n_bytes);
  }
  std::string take_line() {
    std::string line;
    if (!input_.take_line(line)) {
      builder_.fail("a line without an end found, at most " + std::to_string(kMaxLineBytes) + " bytes expected");
    }
    return line;
  }

  // The stack.
  void push(Object* object) {
    stack_.push_back(object);
    if (stack_.size() > highest_) {
      highest_ = stack_.size();
      builder_.charge_items(1);
    }
  }
  // How many objects stand above the last mark, or on the whole stack.
  std::size_t n_above() const { return stack_.size() - (marks_.empty() ? 0 : marks_.back()); }
  Object* top() {
    if (n_above() == 0) builder_.fail("no object on the stack found, one expected");
    return stack_.back();
  }
  Object* pop() {
    Object* object = top();
    stack_.pop_back();
    return object;
  }
  void push_mark() {
    marks_.push_back(stack_.size());
    if (marks_.size() > highest_mark_) {
      highest_mark_ = marks_.size();
      builder_.charge_items(1);
    }
  }
  std::vector<Object*> pop_mark() {
    if (marks_.empty()) builder_.fail("no mark on the stack found, one expected");
    const auto begin = stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back());
    std::vector<Object*> items(begin, stack_.end());
    stack_.erase(begin, stack_.end());
    marks_.pop_back();
    return items;
  }
  void push_tuple(std::size_t n_items) {
    if (n_above() < n_items) {
      builder_.fail(std::to_string(n_above()) + " objects on the stack found, " + std::to_string(n_items) +
                    " expected");
    }
    const auto begin = stack_.end() - static_cast<std::ptrdiff_t>(n_items);
    std::vector<Object*> items(begin, stack_.end());
    stack_.erase(begin, stack_.end());
    push(builder_.make_tuple(std::move(items)));
  }

  void step(Op op);
  bool step_constant(Op op);
  bool step_number(Op op);
  bool step_text(Op op);
  bool step_container(Op op);
  bool step_memo(Op op);
  bool step_object(Op op);
  void stop();

  void set_protocol(unsigned protocol);
  void push_big_integer(std::int64_t n_bytes);
  void push_old_string(std::string octets);
  void discard(const Object* object);
  void append(std::vector<Object*> items);
  void set_items(std::vector<Object*> items);
  void add_items(std::vector<Object*> items);
  void build(Object* state);
  void push_global(const std::string& module, const std::string& name);
  void push_stack_global();
  void require_callable(const Object* callable);
  void call(Object* callable, Object* args);
  void new_object(Object* callable, Object* args, Object* kwargs);
  void push_opaque(ObjectOpaque::Make make, Object* callable, Object* args, Object* kwargs);
  void push_persistent(const Object* id);
  void take_plain_tensor();

  ObjectGraph& graph_;
  PickleInput input_;
  GraphBuilder builder_;
  std::uint64_t begin_;
  unsigned protocol_ = 0;
  bool is_done_ = false;
  std::vector<Object*> stack_;
  std::vector<std::size_t> marks_;
  std::size_t highest_ = 0, highest_mark_ = 0;  // sizes that have been counted
  Memo memo_;
};

void PickleMachine::step(Op op) {
  const bool known =
      step_memo(op) || step_constant(op) || step_number(op) || step_text(op) || step_container(op) || step_object(op);
  if (!known) builder_.fail_unsupported("found, an opcode that no checkpoint holds");
}

bool PickleMachine::step_memo(Op op) {
  const auto put = [&](std::uint64_t number) {
    // LibTorch's pickler counts up from 0, and its unpickler has a table of as many entries as the highest says.
    if (builder_.dialect() == PickleDialect::libtorch && number > memo_.next()) {
      builder_.fail("memo entry " + std::to_string(number) + " found, at most " + std::to_string(memo_.next()) +
                    " expected");
    }
    memo_.put(builder_, number, top());
  };
  const auto get = [&](std::uint64_t number) {
    Object* object = memo_.get(number);
    if (object == nullptr) builder_.fail("memo entry " + std::to_string(number) + " found, which was never stored");
    push(object);
    if (builder_.is(object, Known::rebuild_tensor_v2)) take_plain_tensor();
  };
  const auto take_number = [&] {
    const auto number = parse_unsigned(take_line());
    if (!number) builder_.fail("a line that is no number found");
    return *number;
  };
  switch (op) {
    case Op::binput:
      return put(take(1)[0]), true;
    case Op::long_binput:
      return put(load_le32(take(4))), true;
    case Op::put:
      return put(take_number()), true;
    case Op::memoize:
      return put(memo_.next()), true;
    case Op::binget:
      return get(take(1)[0]), true;
    case Op::long_binget:
      return get(load_le32(take(4))), true;
    case Op::get:
      return get(take_number()), true;
    default:
      return false;
  }
}

bool PickleMachine::step_constant(Op op) {
  switch (op) {
    case Op::proto:
      return set_protocol(take(1)[0]), true;
    case Op::frame:
      if (const std::uint64_t n_bytes = load_le64(take(8)); n_bytes > input_.n_left()) {
        builder_.fail("a frame of " + std::to_string(n_bytes) + " bytes announced, " + std::to_string(input_.n_left()) +
                      " are left");
      }
      return true;
    case Op::stop:
      return stop(), true;
    case Op::none:
      return push(builder_.make_none()), true;
    case Op::newtrue:
      return push(builder_.make_bool(true)), true;
    case Op::newfalse:
      return push(builder_.make_bool(false)), true;
    case Op::mark:
      return push_mark(), true;
    case Op::pop:
      // Python lets it remove a mark, too.
      if (n_above() == 0 && !marks_.empty()) return marks_.pop_back(), true;
      return discard(pop()), true;
    case Op::pop_mark:
      for (const Object* object : pop_mark()) discard(object);
      return true;
    case Op::dup:
      return push(top()), true;
    default:
      return false;
  }
}

bool PickleMachine::step_number(Op op) {
  switch (op) {
    case Op::binint1:
      return push(builder_.make_int(take(1)[0])), true;
    case Op::binint2:
      return push(builder_.make_int(load_le16(take(2)))), true;
    case Op::binint:
      return push(builder_.make_int(static_cast<std::int32_t>(load_le32(take(4))))), true;
    case Op::long1:
      return push_big_integer(take(1)[0]), true;
    case Op::long4:
      return push_big_integer(static_cast<std::int32_t>(load_le32(take(4)))), true;
    case Op::binfloat: {
      std::uint64_t bits = 0;
      const unsigned char* bytes = take(8);
      for (int i = 0; i < 8; ++i) bits = bits << 8 | bytes[i];
      return push(builder_.make(std::bit_cast<double>(bits))), true;
    }
    case Op::int_:
    case Op::long_: {
      std::string line = take_line();
      if (op == Op::int_ && (line == "00" || line == "01")) return push(builder_.make_bool(line == "01")), true;
      if (!line.empty() && line.back() == 'L') line.pop_back();
      auto digits = parse_integer(line);
      if (!digits) {
        builder_.fail("a line that is no integer of at most " + std::to_string(kMaxIntegerDigits) + " digits found");
      }
      return push(builder_.make_int(std::move(*digits))), true;
    }
    case Op::float_: {
      const auto value = parse_float(take_line());
      if (!value) builder_.fail("a line that is no number found");
      return push(builder_.make(*value)), true;
    }
    default:
      return false;
  }
}

bool PickleMachine::step_text(Op op) {
  switch (op) {
    case Op::short_binunicode:
      return push(builder_.make_string(take_string(take(1)[0]))), true;
    case Op::binunicode:
      return push(builder_.make_string(take_string(load_le32(take(4))))), true;
    case Op::binunicode8:
      return push(builder_.make_string(take_string(load_le64(take(8))))), true;
    case Op::short_binbytes:
      return push(builder_.make_bytes(take_string(take(1)[0]))), true;
    case Op::binbytes:
      return push(builder_.make_bytes(take_string(load_le32(take(4))))), true;
    case Op::binbytes8:
      return push(builder_.make_bytes(take_string(load_le64(take(8))))), true;
    case Op::bytearray8:
      return push(builder_.make_byte_array(take_string(load_le64(take(8))))), true;
    case Op::short_binstring:
      return push_old_string(take_string(take(1)[0])), true;
    case Op::binstring: {
      const auto n_bytes = static_cast<std::int32_t>(load_le32(take(4)));
      if (n_bytes < 0) builder_.fail("a string of " + std::to_string(n_bytes) + " bytes found");
      return push_old_string(take_string(static_cast<std::uint64_t>(n_bytes))), true;
    }
    case Op::string: {
      auto octets = parse_quoted(take_line());
      if (!octets) builder_.fail("a line that is no quoted string found");
      return push_old_string(std::move(*octets)), true;
    }
    case Op::unicode: {
      auto utf8 = parse_raw_unicode(take_line());
      if (!utf8) builder_.fail("a line with a bad escape found");
      return push(builder_.make_string(std::move(*utf8))), true;
    }
    default:
      return false;
  }
}

bool PickleMachine::step_container(Op op) {
  switch (op) {
    case Op::empty_tuple:
      return push(builder_.make_empty_tuple()), true;
    case Op::tuple1:
      return push_tuple(1), true;
    case Op::tuple2:
      return push_tuple(2), true;
    case Op::tuple3:
      return push_tuple(3), true;
    case Op::tuple:
      return push(builder_.make_tuple(pop_mark())), true;
    case Op::empty_list:
      return push(builder_.make(ObjectList{})), true;
    case Op::list:
      return push(builder_.make_list(pop_mark())), true;
    case Op::append:
      return append({pop()}), true;
    case Op::appends:
      return append(pop_mark()), true;
    case Op::empty_dict:
      return push(builder_.make(ObjectDict{})), true;
    case Op::dict: {
      std::vector<Object*> items = pop_mark();
      push(builder_.make(ObjectDict{}));
      return set_items(std::move(items)), true;
    }
    case Op::setitem: {
      Object* value = pop();
      Object* key = pop();
      return set_items({key, value}), true;
    }
    case Op::setitems:
      return set_items(pop_mark()), true;
    case Op::empty_set:
      return push(builder_.make(ObjectSet{})), true;
    case Op::additems:
      return add_items(pop_mark()), true;
    case Op::frozenset: {
      const std::vector<Object*> items = pop_mark();
      Object* set = builder_.make(ObjectSet{{}, true});
      for (Object* item : items) builder_.add_item(set, item);
      return push(set), true;
    }
    default:
      return false;
  }
}

bool PickleMachine::step_object(Op op) {
  switch (op) {
    case Op::global: {
      std::string module = take_line();
      return push_global(std::move(module), take_line()), true;
    }
    case Op::stack_global:
      return push_stack_global(), true;
    case Op::reduce: {
      Object* args = pop();
      return call(pop(), args), true;
    }
    case Op::inst: {
      std::string module = take_line();
      std::string name = take_line();
      Object* args = builder_.make_tuple(pop_mark());
      push_global(std::move(module), std::move(name));
      return call(pop(), args), true;
    }
    case Op::obj: {
      std::vector<Object*> items = pop_mark();
      if (items.empty()) builder_.fail("nothing to call found");
      Object* callable = items.front();
      items.erase(items.begin());
      return call(callable, builder_.make_tuple(std::move(items))), true;
    }
    case Op::newobj: {
      Object* args = pop();
      return new_object(pop(), args, nullptr), true;
    }
    case Op::newobj_ex: {
      Object* kwargs = pop();
      Object* args = pop();
      return new_object(pop(), args, kwargs), true;
    }
    case Op::build:
      return build(pop()), true;
    case Op::binpersid:
      return push_persistent(pop()), true;
    case Op::persid:
      return push_persistent(builder_.make_string(take_line())), true;
    default:
      return false;
  }
}

void PickleMachine::set_protocol(unsigned protocol) {
  if (protocol > kMaxProtocol) {
    builder_.fail_unsupported("pickle protocol " + std::to_string(protocol) + " found, at most " +
                              std::to_string(kMaxProtocol) + " is supported");
  }
  protocol_ = protocol;
}

void PickleMachine::stop() {
  Object* root = pop();
  if (!stack_.empty() || !marks_.empty()) {
    builder_.fail(std::to_string(stack_.size()) + " objects and " + std::to_string(marks_.size()) +
                  " marks left on the stack found, none expected");
  }
  graph_.root = root;
  is_done_ = true;
}

void PickleMachine::push_big_integer(std::int64_t n_bytes) {
  if (n_bytes < 0) builder_.fail("an integer of " + std::to_string(n_bytes) + " bytes found");
  push(builder_.make_int(take_string(static_cast<std::uint64_t>(n_bytes))));
}

// A str of Python 2: text where it can be (torch.load decodes it as UTF-8), bytes otherwise.
void PickleMachine::push_old_string(std::string octets) {
  push(is_utf8(octets) ? builder_.make_string(std::move(octets)) : builder_.make_bytes(std::move(octets)));
}

// A pickler drops what it made where it finds out that a tuple holds itself: what stands in the memo. The result of a
// call that nothing else knows it never drops; for us it is the sign of a call made for its effect.
void PickleMachine::discard(const Object* object) {
  if (!object->is<ObjectOpaque>() || memo_.has_held(object)) return;
  builder_.fail("drops the result of a call of '" + global_name(*object) + "', which no pickler does");
}

void PickleMachine::append(std::vector<Object*> items) {
  Object* target = top();
  auto* list = target->get<ObjectList>();
  auto* opaque = target->get<ObjectOpaque>();
  if (list == nullptr && (opaque == nullptr || opaque->state != nullptr)) {
    builder_.fail("items for " + describe_object(*target) + " found, a list expected");
  }
  std::vector<Object*>& to = list != nullptr ? list->items : opaque->items;
  builder_.charge_items(items.size());
  to.insert(to.end(), items.begin(), items.end());
}

void PickleMachine::set_items(std::vector<Object*> items) {
  Object* target = top();
  if (items.size() % 2 != 0) {
    builder_.fail(std::to_string(items.size()) + " keys and values found, an even number expected");
  }
  auto* opaque = target->get<ObjectOpaque>();
  if (!target->is<ObjectDict>() && (opaque == nullptr || opaque->state != nullptr)) {
    builder_.fail("keys and values for " + describe_object(*target) + " found, a dict expected");
  }
  if (opaque == nullptr) return builder_.set_items(target, items);
  builder_.charge_items(items.size());
  for (std::size_t i = 0; i < items.size(); i += 2) opaque->entries.emplace_back(items[i], items[i + 1]);
}

void PickleMachine::add_items(std::vector<Object*> items) {
  Object* target = top();
  const auto* set = target->get<ObjectSet>();
  auto* opaque = target->get<ObjectOpaque>();
  if (opaque != nullptr && opaque->state == nullptr) {
    builder_.charge_items(items.size());
    opaque->added.insert(opaque->added.end(), items.begin(), items.end());
  } else if (set != nullptr && !set->frozen) {
    for (Object* item : items) builder_.add_item(target, item);
  } else {
    builder_.fail("items for " + describe_object(*target) + " found, a set expected");
  }
}

void PickleMachine::build(Object* state) {
  Object* target = top();
  auto* opaque = target->get<ObjectOpaque>();
  auto* dict = target->get<ObjectDict>();
  auto* tensor = target->get<ObjectTensor>();
  if (opaque != nullptr && opaque->state == nullptr) {
    opaque->state = state;
  } else if (dict != nullptr && dict->type != DictType::dict && dict->attributes == nullptr) {
    Object* attributes = checked_attributes(builder_, state);
    if (attributes != nullptr && !attributes->is<ObjectDict>()) {
      builder_.fail("attributes that are " + describe_object(*attributes) + " found, a dict expected");
    }
    dict->attributes = attributes;
  } else if (tensor != nullptr && tensor->attributes == nullptr) {
    tensor->attributes = checked_attributes(builder_, state);
  } else {
    builder_.fail("a state for " + describe_object(*target) + " found, which has one or takes none");
  }
}

void PickleMachine::push_global(const std::string& module, const std::string& name) {
  // "Outer.Inner" is a class within a class.
  const bool has_empty_part = name.empty() || name.front() == '.' || name.back() == '.' || name.find("..") != name.npos;
  if (module.empty() || has_empty_part) builder_.fail("an empty name found");
  if (!is_utf8(module) || !is_utf8(name)) builder_.fail("a name that is no UTF-8 found");
  const GlobalName global = protocol_ < 3 ? python3_name({module, name}) : GlobalName{module, name};
  push(builder_.make_global(std::string(global.module), std::string(global.name)));
}

void PickleMachine::push_stack_global() {
  const Object* name = pop();
  const Object* module = pop();
  if (!name->is<ObjectString>() || !module->is<ObjectString>()) {
    builder_.fail(describe_object(*module) + " and " + describe_object(*name) + " found, two strings expected");
  }
  const std::string& text = name->get<ObjectString>()->utf8;
  if (std::max(text.size(), module->get<ObjectString>()->utf8.size()) > kMaxLineBytes) {
    builder_.fail("a name of more than " + std::to_string(kMaxLineBytes) + " bytes found");
  }
  builder_.charge_work(text.size() + module->get<ObjectString>()->utf8.size());
  push_global(module->get<ObjectString>()->utf8, text);
}

void PickleMachine::require_callable(const Object* callable) {
  if (callable->is<ObjectGlobal>() || callable->is<ObjectOpaque>()) return;
  builder_.fail("a call of " + describe_object(*callable) + " found, which Python could not call");
}

void PickleMachine::push_opaque(ObjectOpaque::Make make, Object* callable, Object* args, Object* kwargs) {
  ObjectOpaque opaque;
  opaque.make = make;
  opaque.callable = callable;
  opaque.args = args;
  opaque.kwargs = kwargs;
  push(builder_.make(std::move(opaque)));
}

void PickleMachine::call(Object* callable, Object* args) {
  require_callable(callable);
  // LibTorch gives the class of an enum its value as it is.
  const auto* global = callable->get<ObjectGlobal>();
  if (global != nullptr && builder_.dialect() == PickleDialect::libtorch && is_libtorch_class(global->module) &&
      !args->is<ObjectTuple>()) {
    args = builder_.make_tuple({args});
  }
  if (!args->is<ObjectTuple>()) {
    builder_.fail("arguments that are " + describe_object(*args) + " found, a tuple expected");
  }
  if (Object* object = call_known(builder_, callable, args)) return push(object);
  push_opaque(ObjectOpaque::Make::call, callable, args, nullptr);
}

void PickleMachine::new_object(Object* callable, Object* args, Object* kwargs) {
  require_callable(callable);
  if (!args->is<ObjectTuple>() || (kwargs != nullptr && !kwargs->is<ObjectDict>())) {
    builder_.fail("arguments that are no tuple, or keyword arguments that are no dict, found");
  }
  if (kwargs != nullptr) {
    if (builder_.known(callable) != Known::none) {
      builder_.fail("keyword arguments for " + describe_object(*callable) + " found, which takes none");
    }
    return push_opaque(ObjectOpaque::Make::new_object_ex, callable, args, kwargs);
  }
  if (Object* object = new_known(builder_, callable, args)) return push(object);
  push_opaque(ObjectOpaque::Make::new_object, callable, args, nullptr);
}

// ("storage", class, key, location, number of elements[, view]). The sixth item is the old format's.
void PickleMachine::push_persistent(const Object* id) {
  const auto* tuple = id->get<ObjectTuple>();
  const auto text_at = [&](std::size_t i) -> const std::string* {
    const auto* text = tuple->items[i]->get<ObjectString>();
    return text == nullptr ? nullptr : &text->utf8;
  };
  const bool is_legacy = builder_.dialect() == PickleDialect::legacy;
  if (tuple == nullptr || tuple->items.empty() || text_at(0) == nullptr) {
    builder_.fail(describe_object(*id) + " found as a persistent id, a tuple ('storage', ...) expected");
  }
  // A class with its source code, which torch.load compares with the class it has.
  if (is_legacy && *text_at(0) == "module" && tuple->items.size() == 4) return push(tuple->items[1]);
  if (*text_at(0) != "storage" || tuple->items.size() != (is_legacy ? 6u : 5u)) {
    builder_.fail("a persistent id " + path_step("", *id) + " found, ('storage', class, key, location, size" +
                  (is_legacy ? ", view)" : ")") + " expected");
  }
  const std::string* key = text_at(2);
  const std::string* location = text_at(3);
  if (key == nullptr || !is_storage_key(*key)) {
    builder_.fail(describe_object(*tuple->items[2]) + " found as a storage's key, the name of a record expected");
  }
  if (location == nullptr || location->size() > kMaxStorageNameBytes) {
    builder_.fail(describe_object(*tuple->items[3]) + " found as a storage's location, a device expected");
  }
  const auto* n_elements = tuple->items[4]->get<std::int64_t>();
  if (n_elements == nullptr || *n_elements < 0) {
    builder_.fail(describe_object(*tuple->items[4]) + " found as a storage's size, an integer from 0 on expected");
  }
  const std::uint32_t storage =
      builder_.find_storage(tuple->items[1], *key, *location, static_cast<std::uint64_t>(*n_elements));
  if (is_legacy && !tuple->items[5]->is<ObjectNone>()) {
    builder_.fail_unsupported("a view of a storage found, as PyTorch wrote them before version 0.4");
  }
  push(builder_.make(ObjectStorage{storage}));
}

// At a call of rebuild_tensor_v2: makes the tensor at once where the opcodes are those that picklers write. Errors are
// those of the opcodes where they would come up one by one.
void PickleMachine::take_plain_tensor() {
  const auto plain = match_plain_tensor(input_.peek(PlainTensor::kMaxBytes));
  if (!plain || builder_.dialect() == PickleDialect::legacy || !is_storage_key(plain->key)) return;
  const Object* word = memo_.get(plain->storage_word);
  const Object* storage_class = memo_.get(plain->storage_class);
  const Object* location = memo_.get(plain->location);
  const Object* ordered_dict = memo_.get(plain->ordered_dict);
  const auto is_text = [](const Object* object) { return object != nullptr && object->is<ObjectString>(); };
  const bool is_right = is_text(word) && word->get<ObjectString>()->utf8 == "storage" && storage_class != nullptr &&
                        is_text(location) && location->get<ObjectString>()->utf8.size() <= kMaxStorageNameBytes &&
                        builder_.is(ordered_dict, Known::ordered_dict);
  if (!is_right) return;
  const std::uint64_t begin = input_.offset();
  builder_.set_place(begin + plain->persistent_id_at, opcode_name(static_cast<std::uint8_t>(Op::binpersid)));
  const std::uint32_t storage = builder_.find_storage(storage_class, plain->key, location->get<ObjectString>()->utf8,
                                                      static_cast<std::uint64_t>(plain->n_elements));
  builder_.set_place(begin + plain->n_bytes - 1, opcode_name(static_cast<std::uint8_t>(Op::reduce)));
  Object* tensor = rebuild_plain_tensor(builder_, *plain, storage);
  input_.take(plain->n_bytes);
  stack_.back() = tensor;
}

}  // namespace

std::uint64_t read_pickle(ObjectGraph& graph, const ByteSource& source, const PickleOptions& options) {
  if (options.begin > source.size) throw_corrupt(source, "pickle", options.begin, "begins behind the end");
  return PickleMachine(graph, source, options).run();
}

}  // namespace ckptio::detail
