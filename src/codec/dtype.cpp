// SPDX-License-Identifier: Apache-2.0
#include "codec/dtype.h"

#include <array>
#include <utility>

namespace ckptio::detail {
namespace {

// In the order of the numbers. Names, sizes and storage classes: torch 2.13, c10::ScalarType and torch/storage.py.
constexpr std::array<DTypeInfo, 46> kDTypes = {{
    {DType::uint8, "uint8", "ByteStorage", 1, 1, "Byte"},
    {DType::int8, "int8", "CharStorage", 1, 1, "Char"},
    {DType::int16, "int16", "ShortStorage", 2, 2, "Short"},
    {DType::int32, "int32", "IntStorage", 4, 4, "Int"},
    {DType::int64, "int64", "LongStorage", 8, 8, "Long"},
    {DType::float16, "float16", "HalfStorage", 2, 2, "Half"},
    {DType::float32, "float32", "FloatStorage", 4, 4, "Float"},
    {DType::float64, "float64", "DoubleStorage", 8, 8, "Double"},
    {DType::complex32, "complex32", "", 4, 2, "ComplexHalf"},
    {DType::complex64, "complex64", "ComplexFloatStorage", 8, 4, "ComplexFloat"},
    {DType::complex128, "complex128", "ComplexDoubleStorage", 16, 8, "ComplexDouble"},
    {DType::boolean, "bool", "BoolStorage", 1, 1, "Bool"},
    {DType::qint8, "qint8", "QInt8Storage", 1, 1, "QInt8"},
    {DType::quint8, "quint8", "QUInt8Storage", 1, 1, "QUInt8"},
    {DType::qint32, "qint32", "QInt32Storage", 4, 4, "QInt32"},
    {DType::bfloat16, "bfloat16", "BFloat16Storage", 2, 2, "BFloat16"},
    {DType::quint4x2, "quint4x2", "QUInt4x2Storage", 1, 1, "QUInt4x2"},
    {DType::quint2x4, "quint2x4", "QUInt2x4Storage", 1, 1, "QUInt2x4"},
    {DType::bits1x8, "bits1x8", "", 1, 1, "Bits1x8"},
    {DType::bits2x4, "bits2x4", "", 1, 1, "Bits2x4"},
    {DType::bits4x2, "bits4x2", "", 1, 1, "Bits4x2"},
    {DType::bits8, "bits8", "", 1, 1, "Bits8"},
    {DType::bits16, "bits16", "", 2, 2, "Bits16"},
    {DType::float8_e5m2, "float8_e5m2", "", 1, 1, "Float8_e5m2"},
    {DType::float8_e4m3fn, "float8_e4m3fn", "", 1, 1, "Float8_e4m3fn"},
    {DType::float8_e5m2fnuz, "float8_e5m2fnuz", "", 1, 1, "Float8_e5m2fnuz"},
    {DType::float8_e4m3fnuz, "float8_e4m3fnuz", "", 1, 1, "Float8_e4m3fnuz"},
    {DType::uint16, "uint16", "", 2, 2, "UInt16"},
    {DType::uint32, "uint32", "", 4, 4, "UInt32"},
    {DType::uint64, "uint64", "", 8, 8, "UInt64"},
    {DType::uint1, "uint1", "", 1, 1, "UInt1"},
    {DType::uint2, "uint2", "", 1, 1, "UInt2"},
    {DType::uint3, "uint3", "", 1, 1, "UInt3"},
    {DType::uint4, "uint4", "", 1, 1, "UInt4"},
    {DType::uint5, "uint5", "", 1, 1, "UInt5"},
    {DType::uint6, "uint6", "", 1, 1, "UInt6"},
    {DType::uint7, "uint7", "", 1, 1, "UInt7"},
    {DType::int1, "int1", "", 1, 1, "Int1"},
    {DType::int2, "int2", "", 1, 1, "Int2"},
    {DType::int3, "int3", "", 1, 1, "Int3"},
    {DType::int4, "int4", "", 1, 1, "Int4"},
    {DType::int5, "int5", "", 1, 1, "Int5"},
    {DType::int6, "int6", "", 1, 1, "Int6"},
    {DType::int7, "int7", "", 1, 1, "Int7"},
    {DType::float8_e8m0fnu, "float8_e8m0fnu", "", 1, 1, "Float8_e8m0fnu"},
    {DType::float4_e2m1fn_x2, "float4_e2m1fn_x2", "", 1, 1, "Float4_e2m1fn_x2"},
}};

constexpr bool is_in_order() {
  for (std::size_t i = 0; i < kDTypes.size(); ++i) {
    if (static_cast<std::size_t>(kDTypes[i].dtype) != i) return false;
  }
  return true;
}
static_assert(is_in_order());

// Other names that module torch has for the same types.
constexpr std::pair<std::string_view, DType> kAliases[] = {
    {"float", DType::float32},    {"double", DType::float64},     {"half", DType::float16},
    {"long", DType::int64},       {"int", DType::int32},          {"short", DType::int16},
    {"cfloat", DType::complex64}, {"cdouble", DType::complex128}, {"chalf", DType::complex32},
    {"bit", DType::uint1},
};

constexpr std::string_view kStorage = "Storage";

}  // namespace

const DTypeInfo& dtype_info(DType dtype) { return kDTypes[static_cast<std::size_t>(dtype)]; }

std::optional<DType> dtype_named(std::string_view name) {
  for (const DTypeInfo& info : kDTypes) {
    if (info.name == name) return info.dtype;
  }
  for (const auto& [alias, dtype] : kAliases) {
    if (alias == name) return dtype;
  }
  return std::nullopt;
}

std::optional<DType> dtype_of_storage_class(std::string_view class_name) {
  if (class_name.size() <= kStorage.size() || !class_name.ends_with(kStorage)) return std::nullopt;
  const std::string_view scalar_type = class_name.substr(0, class_name.size() - kStorage.size());
  for (const DTypeInfo& info : kDTypes) {
    if (info.scalar_type == scalar_type) return info.dtype;
  }
  return std::nullopt;
}

}  // namespace ckptio::detail
