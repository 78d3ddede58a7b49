// SPDX-License-Identifier: Apache-2.0
// DType: the element types of tensors, with the names that files give them. No Torch.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace ckptio::detail {

// The numbers are those of c10::ScalarType (LibTorch 2.13, torch/headeronly/core/ScalarType.h): formats convert by a
// cast, and assert that they may.
enum class DType : std::int8_t {
  uint8 = 0,
  int8 = 1,
  int16 = 2,
  int32 = 3,
  int64 = 4,
  float16 = 5,
  float32 = 6,
  float64 = 7,
  complex32 = 8,
  complex64 = 9,
  complex128 = 10,
  boolean = 11,
  qint8 = 12,
  quint8 = 13,
  qint32 = 14,
  bfloat16 = 15,
  quint4x2 = 16,
  quint2x4 = 17,
  bits1x8 = 18,
  bits2x4 = 19,
  bits4x2 = 20,
  bits8 = 21,
  bits16 = 22,
  float8_e5m2 = 23,
  float8_e4m3fn = 24,
  float8_e5m2fnuz = 25,
  float8_e4m3fnuz = 26,
  uint16 = 27,
  uint32 = 28,
  uint64 = 29,
  uint1 = 30,
  uint2 = 31,
  uint3 = 32,
  uint4 = 33,
  uint5 = 34,
  uint6 = 35,
  uint7 = 36,
  int1 = 37,
  int2 = 38,
  int3 = 39,
  int4 = 40,
  int5 = 41,
  int6 = 42,
  int7 = 43,
  float8_e8m0fnu = 44,
  float4_e2m1fn_x2 = 45,
};

struct DTypeInfo {
  DType dtype;
  std::string_view name;           // PyTorch's, without "torch.": "float32"
  std::string_view storage_class;  // of package torch, "FloatStorage"; empty: kept in an UntypedStorage
  std::uint8_t item_size;        // bytes per element of a tensor's shape; of packed sub-byte types those of their unit
  std::uint8_t swap_size;        // bytes that change places between byte orders: half of item_size for complex types
  std::string_view scalar_type;  // c10's: "Float"; LibTorch names every storage after it, "UInt16Storage"
};

const DTypeInfo& dtype_info(DType dtype);
std::optional<DType> dtype_named(std::string_view name);                   // "float32", also aliases such as "float"
std::optional<DType> dtype_of_storage_class(std::string_view class_name);  // "FloatStorage", also "UInt16Storage"

inline std::uint64_t item_size(DType dtype) { return dtype_info(dtype).item_size; }
inline std::string_view dtype_name_of(DType dtype) { return dtype_info(dtype).name; }

}  // namespace ckptio::detail
