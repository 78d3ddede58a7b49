// SPDX-License-Identifier: Apache-2.0
#include "codec/plain_tensor.h"

#include "codec/little_endian.h"
#include "codec/pickle_opcodes.h"

namespace ckptio::detail {
namespace {

// Each takes what it finds, or makes the match fail; what it then gives is not used.
class Matcher {
 public:
  explicit Matcher(std::string_view opcodes) : bytes_(opcodes) {}

  bool is_match() const { return is_match_; }
  std::size_t position() const { return position_; }

  void expect(Op op) { is_match_ = take(op) && is_match_; }

  std::uint32_t memo_entry() {
    const Op op = next();
    if (op == Op::binget) return load_le(1);
    if (op == Op::long_binget) return load_le(4);
    return fail();
  }

  // Not negative.
  std::int64_t integer() {
    const Op op = next();
    if (op == Op::binint1) return load_le(1);
    if (op == Op::binint2) return load_le(2);
    const std::uint32_t number = op == Op::binint ? load_le(4) : fail();
    return number >> 31 == 0 ? number : fail();
  }

  std::string_view text() {
    const Op op = next();
    const std::size_t n = op == Op::binunicode ? load_le(4) : op == Op::short_binunicode ? load_le(1) : fail();
    if (n > bytes_.size() - position_) fail();
    if (!is_match_) return {};
    position_ += n;
    return bytes_.substr(position_ - n, n);
  }

  bool boolean() {
    const Op op = next();
    if (op != Op::newtrue && op != Op::newfalse) fail();
    return op == Op::newtrue;
  }

  void tuple(PlainTensor::Dims& dims) {
    if (take(Op::empty_tuple)) return;
    const bool has_mark = take(Op::mark);
    while (is_match_ && !(has_mark ? take(Op::tuple) : take_short_tuple(dims.n))) {
      const std::int64_t number = integer();
      if (dims.n == PlainTensor::kMaxDims) {
        fail();
      } else {
        dims.values[dims.n++] = number;
      }
    }
  }

 private:
  bool take_short_tuple(std::size_t n) {
    return (n == 1 && take(Op::tuple1)) || (n == 2 && take(Op::tuple2)) || (n == 3 && take(Op::tuple3));
  }

  Op peek() const { return position_ < bytes_.size() ? Op{static_cast<std::uint8_t>(bytes_[position_])} : Op::stop; }
  bool take(Op op) {
    if (peek() != op) return false;
    ++position_;
    return true;
  }
  Op next() {
    const Op op = peek();
    if (position_ < bytes_.size()) ++position_;
    return op;
  }

  std::uint32_t load_le(std::size_t n) {
    if (n > bytes_.size() - position_) return fail();
    const auto* p = reinterpret_cast<const unsigned char*>(bytes_.data() + position_);
    position_ += n;
    return n == 1 ? *p : n == 2 ? load_le16(p) : load_le32(p);
  }

  std::uint32_t fail() {
    is_match_ = false;
    return 0;
  }

  std::string_view bytes_;
  std::size_t position_ = 0;
  bool is_match_ = true;
};

}  // namespace

std::optional<PlainTensor> match_plain_tensor(std::string_view opcodes) {
  Matcher matcher(opcodes);
  std::optional<PlainTensor> found(std::in_place);
  PlainTensor& tensor = *found;
  matcher.expect(Op::mark);
  matcher.expect(Op::mark);
  tensor.storage_word = matcher.memo_entry();
  tensor.storage_class = matcher.memo_entry();
  tensor.key = matcher.text();
  tensor.location = matcher.memo_entry();
  tensor.n_elements = matcher.integer();
  matcher.expect(Op::tuple);
  tensor.persistent_id_at = matcher.position();
  matcher.expect(Op::binpersid);
  if (!matcher.is_match()) return found.reset(), found;
  tensor.offset = matcher.integer();
  matcher.tuple(tensor.sizes);
  matcher.tuple(tensor.strides);
  tensor.requires_grad = matcher.boolean();
  tensor.ordered_dict = matcher.memo_entry();
  for (const Op op : {Op::empty_tuple, Op::reduce, Op::tuple, Op::reduce}) matcher.expect(op);
  tensor.n_bytes = matcher.position();
  if (!matcher.is_match()) found.reset();
  return found;
}

}  // namespace ckptio::detail
