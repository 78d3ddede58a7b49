// SPDX-License-Identifier: Apache-2.0
#include "formats/safetensors_structure.h"

#include <ATen/ATen.h>

#include <limits>

#include "codec/json_text.h"
#include "codec/safetensors_file.h"
#include "codec/zip_directory.h"

namespace ckptio::detail {

namespace {

// Levels of JSON: the text's own, and up to five for each container: {"$ordered_dict": [{"$dict": [[key, value], ...
constexpr std::size_t kMaxJsonDepth = 1 + 5 * kMaxStructureDepth;

std::string from_hex(std::string_view text) {
  std::string octets;
  if (text.size() % 2 != 0) throw ValueError("an odd number of hexadecimal digits");
  for (std::size_t i = 0; i < text.size(); i += 2) {
    const std::size_t high = kHexDigits.find(text[i]), low = kHexDigits.find(text[i + 1]);
    if (high == std::string_view::npos || low == std::string_view::npos) throw ValueError("no hexadecimal digit");
    octets += static_cast<char>(high << 4 | low);
  }
  return octets;
}

// Builds values from the inside out.
class StructureHandler final : public JsonHandler {
 public:
  StructureHandler(const std::string& file, TensorMaker& maker) : file_(file), maker_(maker) {}

  Checkpoint take() && {
    if (!checkpoint_) fail("it is no object with the keys version and checkpoint");
    for (const std::string& key : taken_) checkpoint_->erase(key);
    return std::move(*checkpoint_);
  }

  void key(std::string&& name) override { frames_.back().key = std::move(name); }

  void scalar(JsonScalar&& scalar) override {
    std::visit(
        [this](auto&& held) {
          if constexpr (std::is_same_v<std::decay_t<decltype(held)>, std::nullptr_t>) {
            add(Value());
          } else {
            add(Value(std::move(held)));
          }
        },
        std::move(scalar));
  }

  void begin(JsonContainer container) override {
    frames_.emplace_back();
    frames_.back().is_object = container == JsonContainer::object;
  }

  void end(JsonContainer) override {
    Frame frame = std::move(frames_.back());
    frames_.pop_back();
    if (frames_.empty()) return finish(frame);
    try {
      add(frame.is_object ? object(frame.entries) : Value(std::move(frame.items)));
    } catch (const UnsupportedError&) {
      throw;
    } catch (const CorruptError&) {
      throw;
    } catch (const Error& error) {  // values refuse what is put into them
      fail(error.what());
    } catch (const c10::Error& error) {  // as c10::Device does
      fail(error.what_without_backtrace());
    }
  }

 private:
  using Entries = std::vector<std::pair<std::string, Value>>;
  struct Frame {
    bool is_object = false;
    std::string key;
    Entries entries;
    List items;
  };

  void add(Value&& value) {
    if (++n_values_ > kMaxStructureValues) {
      throw UnsupportedError("'" + file_ + "': metadata " + quote_name(kStructureKey) + " has more than " +
                             std::to_string(kMaxStructureValues) + " values");
    }
    if (frames_.empty()) fail("it is no object");
    Frame& frame = frames_.back();
    if (!frame.is_object) return frame.items.push_back(std::move(value));
    if (frames_.size() == 1 && frame.key == "version") check_version(value);
    frame.entries.emplace_back(std::move(frame.key), std::move(value));
  }

  void check_version(const Value& value) const {
    const auto* version = value.get_if<std::int64_t>();
    if (version == nullptr || *version < 1) fail("its version is " + to_string(value));
    if (*version > kStructureVersion) {
      throw UnsupportedError("'" + file_ + "': metadata " + quote_name(kStructureKey) + " is of version " +
                             std::to_string(*version) + ", written by a newer ckptio; this one reads version " +
                             std::to_string(kStructureVersion));
    }
  }

  void finish(Frame& frame) {
    Entries& entries = frame.entries;
    const bool is_right = frame.is_object && entries.size() == 2 && entries[0].first == "version" &&
                          entries[1].first == "checkpoint" && entries[1].second.is<Dict>();
    if (is_right) checkpoint_ = std::move(entries[1].second.mutable_as<Dict>());
  }

  Value object(Entries& entries) {
    if (entries.size() == 1 && entries[0].first.starts_with('$')) return special(entries[0].first, entries[0].second);
    Dict dict;
    for (auto& [key, value] : entries) {
      if (key.starts_with('$')) fail("the key " + quote_name(key) + " among others");
      insert(dict, key, std::move(value));
    }
    return dict;
  }

  void insert(Dict& dict, const Value& key, Value&& value) const {
    const std::size_t n_before = dict.size();
    Value& place = dict[key];
    if (dict.size() == n_before) fail("the key " + quote_name(to_string(key)) + " comes twice");
    place = std::move(value);
  }

  // What {tag: held} stands for. TypeError, ValueError and IndexError where `held` is not of its form.
  Value special(const std::string& tag, Value& held) {
    if (tag == "$tensor") return held.is_null() ? at::Tensor() : maker_.make({held.as<std::string>()});
    if (tag == "$tensors") return tensors(held.mutable_as<List>());
    if (tag == "$view") return maker_.make(view(held.as<List>()));
    if (tag == "$tuple") {
      List& items = held.mutable_as<List>();
      return Tuple(std::make_move_iterator(items.begin()), std::make_move_iterator(items.end()));
    }
    if (tag == "$dict") return dict(held.mutable_as<List>());
    if (tag == "$ordered_dict") return typed_dict(held.mutable_as<List>(), ckptio::DictType::ordered_dict);
    if (tag == "$counter") return typed_dict(held.mutable_as<List>(), ckptio::DictType::counter);
    if (tag == "$size") return Tuple::make_size(held.as<std::vector<std::int64_t>>());
    if (tag == "$set") return set(held.as<List>());
    if (tag == "$frozenset") return Set::make_frozen(set(held.as<List>()));
    if (tag == "$bytearray") return ByteArray(from_hex(held.as<std::string>()));
    if (tag == "$dtype") return dtype(held.as<std::string>());
    if (tag == "$device") return c10::Device(held.as<std::string>());
    if (tag == "$bytes") return Bytes(from_hex(held.as<std::string>()));
    if (tag == "$int") return integer(held.as<std::string>());
    if (tag == "$float") return not_finite(held.as<std::string>());
    if (tag == "$complex")
      return std::complex<double>(held.as<List>().at(0).as<double>(), held.as<List>().at(1).as<double>());
    fail("the unknown key " + quote_name(tag));
  }

  Value tensors(List& parts) {
    if (parts.size() != 2) fail("$tensors is no pair of a name and keys");
    TensorDict dict{std::move(parts.at(0).mutable_as<std::string>()), {}};
    for (Value& key : parts.at(1).mutable_as<List>()) dict.keys.push_back(std::move(key.mutable_as<std::string>()));
    const bool is_entry = frames_.size() == 2 && frames_[0].key == "checkpoint" && frames_[1].is_object;
    if (is_entry && maker_.take(frames_[1].key, dict)) {
      taken_.push_back(frames_[1].key);
      return {};
    }
    Dict tensors;
    for (const std::string& key : dict.keys) insert(tensors, key, maker_.make({child_name(dict.name, key)}));
    return tensors;
  }

  Dict dict(List& pairs) const {
    Dict dict;
    for (Value& pair : pairs) {
      List& items = pair.mutable_as<List>();
      if (items.size() != 2) fail("an entry of $dict is no pair");
      insert(dict, items.at(0), std::move(items.at(1)));
    }
    return dict;
  }

  Dict typed_dict(List& parts, ckptio::DictType type) const {
    if (parts.size() != 2) fail("a dictionary is no pair of entries and attributes");
    Dict dict = std::move(parts.at(0).mutable_as<Dict>());
    dict.set_type(type);
    Dict& attributes = parts.at(1).mutable_as<Dict>();
    if (!attributes.empty()) dict.attributes() = std::move(attributes);
    return dict;
  }

  Set set(const List& items) const {
    Set set;
    for (const Value& item : items) {
      if (!set.insert(item)) fail("the item " + quote_name(to_string(item)) + " comes twice");
    }
    return set;
  }

  Value dtype(const std::string& name) const {
    const auto found = dtype_named(name);
    if (!found) fail("the dtype " + quote_name(name));
    return static_cast<c10::ScalarType>(*found);
  }

  static Value integer(const std::string& digits) {
    if (digits.size() > kMaxIntegerDigits) throw ValueError("an integer of too many digits");
    const BigInt number(digits);
    if (const auto small = number.to_int64()) return *small;
    return number;
  }

  Value not_finite(const std::string& name) const {
    if (name == "nan") return std::numeric_limits<double>::quiet_NaN();
    if (name == "inf") return std::numeric_limits<double>::infinity();
    if (name == "-inf") return -std::numeric_limits<double>::infinity();
    fail("the float " + quote_name(name));
  }

  ViewOf view(const List& parts) const {
    ViewOf view;
    view.is_same = false;
    view.name = parts.at(0).as<std::string>();
    const auto dtype = dtype_named(parts.at(1).as<std::string>());
    if (!dtype || !safetensors_dtype_name(*dtype))
      fail("a view of the dtype " + quote_name(parts.at(1).as<std::string>()));
    view.dtype = static_cast<c10::ScalarType>(*dtype);
    view.offset = parts.at(2).as<std::int64_t>();
    view.sizes = parts.at(3).as<std::vector<std::int64_t>>();
    view.strides = parts.at(4).as<std::vector<std::int64_t>>();
    return view;
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw CorruptError("cannot read '" + file_ + "': metadata " + quote_name(kStructureKey) + " at byte " +
                       std::to_string(position()) + " of it: " + what);
  }

  const std::string& file_;
  TensorMaker& maker_;
  std::vector<std::string> taken_;  // keys of the checkpoint that the maker has
  std::vector<Frame> frames_;
  std::size_t n_values_ = 0;
  std::optional<Checkpoint> checkpoint_;
};

}  // namespace

Checkpoint read_structure(const std::string& file, std::string_view text, TensorMaker& maker) {
  StructureHandler handler(file, maker);
  try {
    read_json(text, kMaxJsonDepth, handler);
  } catch (const JsonError& error) {
    throw CorruptError("cannot read '" + file + "': metadata " + quote_name(kStructureKey) + " at byte " +
                       std::to_string(error.position) + " of it: " + error.what());
  }
  return std::move(handler).take();
}

}  // namespace ckptio::detail
