// SPDX-License-Identifier: Apache-2.0
// Values as Python prints them.
#include <charconv>
#include <cmath>
#include <ostream>
#include <sstream>

#include "value/dtype_name.h"
#include "value/nodes.h"

namespace ckptio {

namespace detail {

std::string dtype_name(c10::ScalarType type) {
  const auto names = c10::getDtypeNames(type);  // ("float32", "float"), ("bool", ""), ...
  return names.first.empty() ? c10::toString(type) : std::string(names.first);
}

std::string layout_name(c10::Layout layout) {
  switch (layout) {
    case c10::kStrided:
      return "strided";
    case c10::kSparse:
      return "sparse_coo";
    case c10::kSparseCsr:
      return "sparse_csr";
    case c10::kSparseCsc:
      return "sparse_csc";
    case c10::kSparseBsr:
      return "sparse_bsr";
    case c10::kSparseBsc:
      return "sparse_bsc";
    case c10::kMkldnn:
      return "_mkldnn";
    default:
      return "jagged";
  }
}

namespace {

std::string hex_octet(unsigned char octet) {
  constexpr char kDigits[] = "0123456789abcdef";
  return {'\\', 'x', kDigits[octet >> 4], kDigits[octet & 15]};
}

// Python's repr of a str; octets of UTF-8 beyond ASCII are printed as they are unless `is_bytes`.
std::string quoted(std::string_view text, bool is_bytes) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
  std::string out = is_bytes ? "b" : "";
  out += quote;
  for (const char c : text) {
    const auto octet = static_cast<unsigned char>(c);
    if (c == quote || c == '\\') {
      out += {'\\', c};
    } else if (c == '\n') {
      out += "\\n";
    } else if (c == '\r') {
      out += "\\r";
    } else if (c == '\t') {
      out += "\\t";
    } else if (octet < 0x20 || octet == 0x7f || (is_bytes && octet >= 0x80)) {
      out += hex_octet(octet);
    } else {
      out += c;
    }
  }
  return out + quote;
}

std::string real(double value) {
  if (std::isnan(value)) return "nan";
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  std::string text(digits, end);
  if (text.find_first_of(".en") == std::string::npos) text += ".0";  // "n" of "inf"
  return text;
}

std::string tensor(const at::Tensor& value) {
  if (!value.defined()) return "Tensor(undefined)";
  std::ostringstream out;
  out << "Tensor(" << dtype_name(value.scalar_type()) << " ";
  if (value.is_nested()) {
    out << "nested";
  } else {
    out << value.sizes();
  }
  if (!value.device().is_cpu()) out << " " << value.device();
  if (value.layout() != c10::kStrided) out << " " << value.layout();
  out << ")";
  return out.str();
}

std::string device_repr(const c10::Device& value) {
  std::string text = "device(type='" + c10::DeviceTypeName(value.type(), true) + "'";
  if (value.has_index()) text += ", index=" + std::to_string(value.index());
  return text + ")";
}

std::string storage_repr(const TypedStorage& value) {
  const std::string n_bytes = std::to_string(value.storage ? value.storage.nbytes() : 0) + " bytes)";
  return value.dtype ? "TypedStorage(" + dtype_name(*value.dtype) + ", " + n_bytes : "UntypedStorage(" + n_bytes;
}

template <class Items>
void print_items(std::ostream& out, const Items& items) {
  const char* separator = "";
  for (const Value& item : items) {
    out << separator << item;
    separator = ", ";
  }
}

struct Printer {
  std::ostream& out;

  void operator()(std::monostate) const { out << "None"; }
  void operator()(bool value) const { out << (value ? "True" : "False"); }
  void operator()(std::int64_t value) const { out << std::to_string(value); }
  void operator()(double value) const { out << real(value); }
  void operator()(const std::complex<double>& value) const {
    out << "(" << real(value.real()) << (std::signbit(value.imag()) ? "" : "+") << real(value.imag()) << "j)";
  }
  void operator()(const std::string& value) const { out << quoted(value, false); }
  void operator()(const Bytes& value) const { out << quoted(value.view(), true); }
  void operator()(const BigInt& value) const { out << value.to_string(); }
  void operator()(const at::Tensor& value) const { out << tensor(value); }
  void operator()(const List& value) const { out << value; }
  void operator()(const Tuple& value) const { out << value; }
  void operator()(const Dict& value) const { out << value; }
  void operator()(const Set& value) const { out << value; }
  void operator()(const ByteArray& value) const { out << "bytearray(" << quoted(value.view(), true) << ")"; }
  void operator()(c10::ScalarType value) const { out << "torch." << dtype_name(value); }
  void operator()(const c10::Device& value) const { out << device_repr(value); }
  void operator()(c10::Layout value) const { out << "torch." << layout_name(value); }
  void operator()(c10::QScheme value) const { out << "torch." << c10::toString(value); }
  void operator()(const TypedStorage& value) const { out << storage_repr(value); }
  void operator()(const Opaque& value) const { out << "Opaque(" << value.class_name() << ")"; }
};

}  // namespace
}  // namespace detail

std::ostream& operator<<(std::ostream& out, const List& list) {
  out << "[";
  detail::print_items(out, list);
  return out << "]";
}

std::ostream& operator<<(std::ostream& out, const Tuple& tuple) {
  if (tuple.is_size()) {
    out << "torch.Size([";
    detail::print_items(out, tuple);
    return out << "])";
  }
  out << "(";
  detail::print_items(out, tuple);
  return out << (tuple.size() == 1 ? ",)" : ")");
}

std::ostream& operator<<(std::ostream& out, const Dict& dict) {
  const bool is_plain = dict.type() == DictType::dict;
  if (!is_plain) out << detail::python_name(dict.type()) << "(";
  out << "{";
  const char* separator = "";
  for (const auto& [key, value] : dict) {
    out << separator << key << ": " << value;
    separator = ", ";
  }
  return out << (is_plain ? "}" : "})");
}

std::ostream& operator<<(std::ostream& out, const Set& set) {
  if (set.is_frozen()) out << "frozenset(";
  if (!set.empty()) {
    out << "{";
    detail::print_items(out, set);
    out << "}";
  } else if (!set.is_frozen()) {
    out << "set()";
  }
  return out << (set.is_frozen() ? ")" : "");
}

std::ostream& Value::print(std::ostream& out) const {
  std::visit(detail::Printer{out}, held_);
  return out;
}

std::string to_string(const Value& value) {
  std::ostringstream out;
  out << value;
  return out.str();
}

}  // namespace ckptio
