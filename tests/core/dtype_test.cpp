// SPDX-License-Identifier: Apache-2.0
#include "codec/dtype.h"

#include <string>

#include "support/catch.h"

using namespace ckptio::detail;

TEST_CASE("Every dtype is found by its name and by the storage class of its scalar type") {
  for (int i = 0; i <= static_cast<int>(DType::float4_e2m1fn_x2); ++i) {
    const DTypeInfo& info = dtype_info(static_cast<DType>(i));
    INFO(info.name);
    CHECK(dtype_named(info.name) == info.dtype);
    CHECK(dtype_of_storage_class(std::string(info.scalar_type) + "Storage") == info.dtype);
    if (!info.storage_class.empty()) CHECK(dtype_of_storage_class(info.storage_class) == info.dtype);
    CHECK(info.item_size % info.swap_size == 0);
  }
}

TEST_CASE("torch's other names of dtypes are known") {
  CHECK(dtype_named("float") == DType::float32);
  CHECK(dtype_named("long") == DType::int64);
  CHECK(dtype_named("chalf") == DType::complex32);
  CHECK(dtype_named("half") == DType::float16);
}

TEST_CASE("What is no dtype is none") {
  for (const char* name : {"", "evil", "float31", "Float", "torch.float32"}) CHECK_FALSE(dtype_named(name));
  for (const char* name : {"", "Storage", "EvilStorage", "Float", "floatStorage", "FloatTensor"}) {
    CHECK_FALSE(dtype_of_storage_class(name));
  }
}

TEST_CASE("Parts of complex numbers change bytes on their own") {
  CHECK(dtype_info(DType::complex128).item_size == 16);
  CHECK(dtype_info(DType::complex128).swap_size == 8);
  CHECK(dtype_info(DType::complex32).swap_size == 2);
}
