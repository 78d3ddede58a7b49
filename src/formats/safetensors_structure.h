// SPDX-License-Identifier: Apache-2.0
// The shape of a checkpoint apart from its tensors' bytes: as text in a safetensors file's metadata, and back.
// ckptio/formats/safetensors_checkpoint_io.h says how the text looks.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ckptio/formats/safetensors_checkpoint_io.h"
#include "ckptio/value.h"

namespace ckptio::detail {

inline constexpr std::string_view kStructureKey = "ckptio.structure";
inline constexpr std::int64_t kStructureVersion = 2;  // 1 had no $tensors

// How deep lists, tuples and dictionaries may stand in each other. Code that walks values recurses.
inline constexpr std::size_t kMaxStructureDepth = 500;

// A few bytes of text can make a value of some hundred. Real checkpoints have a few for each parameter.
inline constexpr std::size_t kMaxStructureValues = 1'000'000;

// Integers beyond 64 bits are decimal digits, whose reading takes time with the square of their number: a file of such
// must be read in seconds. 2^990 has fewer.
inline constexpr std::size_t kMaxIntegerDigits = 300;
inline constexpr std::size_t kMaxIntegerBytes = 124;

inline constexpr std::string_view kHexDigits = "0123456789abcdef";

// A tensor of the checkpoint under the name that it has in the file.
struct NamedTensor {
  std::string name;
  at::Tensor tensor;
  const Value* value;  // that holds it: its path() is for messages
};

// How a view stands in the memory of the tensor that is in the file.
struct ViewOf {
  std::string name;     // of that tensor
  bool is_same = true;  // the same dtype and shape from the first byte on: what follows says nothing more
  c10::ScalarType dtype = c10::ScalarType::Undefined;
  std::int64_t offset = 0;  // in its own elements
  std::vector<std::int64_t> sizes{}, strides{};
};

// What of a checkpoint cannot be kept, and where.
struct Problems {
  std::vector<std::string> of_type, of_value;
  // TypeError or ValueError "cannot save 'PATH': ...", with all of them; nothing where there are none.
  void raise(const std::string& path) const;
};

// The text of a checkpoint, before it is known in which tensors' memory its tensors are kept.
class StructureDraft {
 public:
  StructureDraft(const Checkpoint& checkpoint, PlainValues plain_values, Problems& problems);

  // In the order of the tree; all of kinds and dtypes that the format has, or else told to `problems`.
  const std::vector<NamedTensor>& tensors() const { return tensors_; }
  std::vector<NamedTensor> take_tensors() { return std::move(tensors_); }
  // True for a Dict of tensors whose names are its keys: it needs no text.
  bool is_flat() const { return is_flat_; }
  // `views`: for each of tensors(). ValueError for more values than read_structure takes.
  std::string text(const std::vector<ViewOf>& views) const;

 private:
  class Writer;
  friend class Writer;
  // What stands between pieces of the text: a tensor, or those of a dict in which every one has the dict's name and its
  // key for a name.
  struct Part {
    std::size_t first = 0, last = 0;  // in tensors_, the last exclusive
    std::optional<std::string> dict{};
  };
  void append(std::string& out, const Part& part, const std::vector<ViewOf>& views) const;

  std::vector<NamedTensor> tensors_;
  std::vector<Part> parts_;
  std::vector<std::string> pieces_;  // of the text: one more than there are parts
  bool is_flat_ = true;
};

// What stands under `key` in what is called `name`; "" is the checkpoint.
std::string child_name(const std::string& name, const std::string& key);

// A dict of tensors, each of which has for its name that of the dict with its key.
struct TensorDict {
  std::string name;
  std::vector<std::string> keys;
};

// What makes tensors for a checkpoint; throws what it likes where the file has none of that name, or the view is not
// inside it.
class TensorMaker {
 public:
  virtual ~TensorMaker() = default;
  virtual at::Tensor make(const ViewOf& view) = 0;
  // Of an entry of the checkpoint. True: it is taken care of, and is left out.
  virtual bool take(const std::string& /*key*/, const TensorDict& /*dict*/) { return false; }
};

// The checkpoint that the text says. CorruptError, UnsupportedError: begin with `file`'s name.
Checkpoint read_structure(const std::string& file, std::string_view text, TensorMaker& maker);

}  // namespace ckptio::detail
