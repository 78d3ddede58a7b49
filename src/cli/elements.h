// SPDX-License-Identifier: Apache-2.0
// Elements of tensors as numbers. Threads: free functions without state.
#pragma once

#include <cstdint>
#include <string>

#include "codec/dtype.h"

namespace ckptio::cli {

// How many numbers one element is: 2 of complex types and of float4_e2m1fn_x2, else 1.
int n_parts(detail::DType dtype);

// Part `part` of the element at `bytes`. Integers beyond 2^53 are rounded; quantized ones are not scaled. NaN where the
// type is none of numbers (bits).
double part_of(detail::DType dtype, const unsigned char* bytes, int part);

// For people: "0.25", "-3", "True", "1.5-2j".
std::string element_text(detail::DType dtype, const unsigned char* bytes);

// *sum += *term, as PyTorch adds elements of `dtype`. False where it is not known how.
bool add_element(detail::DType dtype, unsigned char* sum, const unsigned char* term);

}  // namespace ckptio::cli
