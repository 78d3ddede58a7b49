// SPDX-License-Identifier: Apache-2.0
// The codec's names of PyTorch's small types, and PyTorch's own.
#pragma once

#include <c10/core/Layout.h>
#include <c10/core/QScheme.h>
#include <c10/core/ScalarType.h>

#include <optional>

#include "codec/object.h"

namespace ckptio::detail {

// DType has c10's numbers.
static_assert(static_cast<int>(DType::float32) == static_cast<int>(c10::ScalarType::Float));
static_assert(static_cast<int>(DType::uint64) == static_cast<int>(c10::ScalarType::UInt64));
static_assert(static_cast<int>(DType::float4_e2m1fn_x2) == static_cast<int>(c10::ScalarType::Float4_e2m1fn_x2));
static_assert(static_cast<int>(QSchemeKind::per_channel_affine_float_qparams) ==
              static_cast<int>(c10::kPerChannelAffineFloatQParams));

inline c10::ScalarType to_scalar_type(DType dtype) { return static_cast<c10::ScalarType>(dtype); }
inline DType to_dtype(c10::ScalarType type) { return static_cast<DType>(type); }

inline c10::Layout to_layout(LayoutKind kind) {
  switch (kind) {
    case LayoutKind::sparse_coo:
      return c10::kSparse;
    case LayoutKind::sparse_csr:
      return c10::kSparseCsr;
    case LayoutKind::sparse_csc:
      return c10::kSparseCsc;
    case LayoutKind::sparse_bsr:
      return c10::kSparseBsr;
    case LayoutKind::sparse_bsc:
      return c10::kSparseBsc;
    case LayoutKind::mkldnn:
      return c10::kMkldnn;
    default:
      return c10::kStrided;
  }
}

// Nullopt for the one that files have no name for (jagged).
inline std::optional<LayoutKind> to_layout_kind(c10::Layout layout) {
  for (int i = 0; i <= static_cast<int>(LayoutKind::mkldnn); ++i) {
    if (to_layout(static_cast<LayoutKind>(i)) == layout) return static_cast<LayoutKind>(i);
  }
  return std::nullopt;
}

}  // namespace ckptio::detail
