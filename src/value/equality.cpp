// SPDX-License-Identifier: Apache-2.0
// Deep equality of Values, tensors by their content.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "ckptio/value.h"
#include "ckptio/verify.h"
#include "value/tensor_storage.h"

namespace ckptio {

namespace {

bool equal_numbers(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

at::Tensor on_cpu_in_order(const at::Tensor& tensor) {
  return tensor.detach().cpu().resolve_conj().resolve_neg().contiguous();
}

bool equal_dense(const at::Tensor& given_a, const at::Tensor& given_b) {
  if (given_a.is_meta() || given_b.is_meta()) return given_a.is_meta() == given_b.is_meta();
  at::Tensor a = given_a;
  at::Tensor b = given_b;
  // What both repeat is compared once: an expanded tensor may have more elements than memory could hold.
  for (std::int64_t dim = 0; dim < a.dim(); ++dim) {
    if (a.size(dim) <= 1 || a.stride(dim) != 0 || b.stride(dim) != 0) continue;
    a = a.narrow(dim, 0, 1);
    b = b.narrow(dim, 0, 1);
  }
  const at::Tensor x = on_cpu_in_order(a);
  const at::Tensor y = on_cpu_in_order(b);
  if (x.nbytes() == 0 || std::memcmp(x.const_data_ptr(), y.const_data_ptr(), x.nbytes()) == 0) return true;
  const auto type = x.scalar_type();
  const bool has_arithmetic = type == at::kFloat || type == at::kDouble || type == at::kHalf || type == at::kBFloat16 ||
                              type == at::kComplexFloat || type == at::kComplexDouble;
  if (!has_arithmetic) return false;
  return x.eq(y).logical_or_(x.ne(x).logical_and(y.ne(y))).all().item<bool>();
}

bool equal_quantized(const at::Tensor& a, const at::Tensor& b) {
  if (a.qscheme() != b.qscheme() || !equal_dense(a.int_repr(), b.int_repr())) return false;
  if (a.qscheme() == c10::kPerTensorAffine) {
    return a.q_scale() == b.q_scale() && a.q_zero_point() == b.q_zero_point();
  }
  return a.q_per_channel_axis() == b.q_per_channel_axis() &&
         equal_dense(a.q_per_channel_scales(), b.q_per_channel_scales()) &&
         equal_dense(a.q_per_channel_zero_points(), b.q_per_channel_zero_points());
}

bool equal_sparse(const at::Tensor& a, const at::Tensor& b) {
  switch (a.layout()) {
    case c10::kSparse: {
      const at::Tensor x = a.coalesce();
      const at::Tensor y = b.coalesce();
      return x.indices().sizes() == y.indices().sizes() && equal_dense(x.indices(), y.indices()) &&
             x.values().sizes() == y.values().sizes() && equal_dense(x.values(), y.values());
    }
    case c10::kSparseCsr:
    case c10::kSparseBsr:
      return a.values().sizes() == b.values().sizes() && equal_dense(a.crow_indices(), b.crow_indices()) &&
             equal_dense(a.col_indices(), b.col_indices()) && equal_dense(a.values(), b.values());
    case c10::kSparseCsc:
    case c10::kSparseBsc:
      return a.values().sizes() == b.values().sizes() && equal_dense(a.ccol_indices(), b.ccol_indices()) &&
             equal_dense(a.row_indices(), b.row_indices()) && equal_dense(a.values(), b.values());
    default:
      return a.is_same(b);
  }
}

bool equal_tensors(const at::Tensor& a, const at::Tensor& b);

bool equal_nested(const at::Tensor& a, const at::Tensor& b) {
  if (a.layout() != c10::kStrided || b.layout() != c10::kStrided) return false;
  const std::vector<at::Tensor> x = a.unbind();
  const std::vector<at::Tensor> y = b.unbind();
  return std::equal(x.begin(), x.end(), y.begin(), y.end(), equal_tensors);
}

bool equal_tensors(const at::Tensor& a, const at::Tensor& b) {
  if (!a.defined() || !b.defined()) return a.defined() == b.defined();
  if (a.is_same(b)) return true;
  if (a.scalar_type() != b.scalar_type() || a.is_nested() != b.is_nested()) return false;
  if (a.is_nested()) return equal_nested(a, b);  // of its items, which come here
  if (a.layout() != b.layout() || a.sizes() != b.sizes()) return false;
  verify(a);
  verify(b);
  if (a.layout() != c10::kStrided) return equal_sparse(a, b);
  return a.is_quantized() ? equal_quantized(a, b) : equal_dense(a, b);
}

}  // namespace

bool operator==(const TypedStorage& a, const TypedStorage& b) {
  if (a.dtype != b.dtype || static_cast<bool>(a.storage) != static_cast<bool>(b.storage)) return false;
  if (!a.storage || a.storage.unsafeGetStorageImpl() == b.storage.unsafeGetStorageImpl()) return true;
  if (a.storage.nbytes() != b.storage.nbytes()) return false;
  verify(detail::bytes_of(a.storage));
  verify(detail::bytes_of(b.storage));
  return equal_dense(detail::bytes_of(a.storage), detail::bytes_of(b.storage));
}

bool Value::equals(const Value& other) const {
  if (held_.index() != other.held_.index()) return false;
  return std::visit(
      [&other]<class T>(const T& held) {
        const T& others = *std::get_if<T>(&other.held_);
        if constexpr (std::same_as<T, double>) {
          return equal_numbers(held, others);
        } else if constexpr (std::same_as<T, std::complex<double>>) {
          return equal_numbers(held.real(), others.real()) && equal_numbers(held.imag(), others.imag());
        } else if constexpr (std::same_as<T, at::Tensor>) {
          return equal_tensors(held, others);
        } else {
          return held == others;
        }
      },
      held_);
}

}  // namespace ckptio
