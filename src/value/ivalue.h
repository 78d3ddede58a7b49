// SPDX-License-Identifier: Apache-2.0
// Values as TorchScript's IValues. TorchScript has no bytes, no integers beyond int64, no dict with other keys than
// it is declared for, and no undefined tensor; these are written as a tuple ("ckptio.<kind>", ...):
//
//   ("ckptio.bytes", str)                the octets
//   ("ckptio.int", str)                  two's complement, least significant octet first
//   ("ckptio.dict", [(key, value), ...]) keys that are not all str or all int
//   ("ckptio.undefined",)                a tensor that is not defined
//   ("ckptio.meta", dtype, sizes, strides, requires_grad)
//   ("ckptio.view", tensor, dtype, sizes, strides, storage_offset, requires_grad)
//                                        another view, of another dtype, of that tensor's storage
//   ("ckptio.tuple", tuple)              a tuple whose own first item is a str that begins with "ckptio."
//
// and since version 2 of TorchCheckpointIO's format, whose files say 2 only where one of these is in them:
//
//   ("ckptio.ordered_dict", dict, dict)  a collections.OrderedDict, and its __dict__; both in the form of a dict above
//   ("ckptio.counter", dict, dict)       a collections.Counter, likewise
//   ("ckptio.set", list)  ("ckptio.frozenset", list)
//   ("ckptio.size", tuple)               torch.Size
//   ("ckptio.bytearray", str)            the octets
//   ("ckptio.dtype", str)  ("ckptio.device", str)  ("ckptio.layout", str)  ("ckptio.qscheme", str)
//                                        "float32", "cuda:1", "sparse_coo", "per_tensor_affine"
//   ("ckptio.storage", tensor, str)      a uint8 tensor on the storage by itself, and its dtype, "" for untyped
#pragma once

#include <ATen/core/ivalue.h>

#include <functional>

#include "ckptio/value.h"

namespace ckptio::detail {

// Containers nested deeper are refused: LibTorch's pickler and every destructor on the way recurse, and no training
// state comes near it.
inline constexpr int kMaxNesting = 256;

struct EncodedValue {
  c10::IValue ivalue;
  int version = 1;  // of TorchCheckpointIO's format that knows all kinds in it
};

// `encode_tensor` gives the form of each defined tensor, in the order in which they stand.
EncodedValue to_ivalue(const Value& value, const std::function<c10::IValue(const at::Tensor&)>& encode_tensor);

// ("ckptio.meta", ...) and ("ckptio.view", ...) for `tensor`; `base` shares its storage.
c10::IValue encode_meta(const at::Tensor& tensor);
c10::IValue encode_view(const at::Tensor& tensor, const at::Tensor& base);

// How many values a file may hold through further references to containers it holds already. Each becomes a copy here,
// so a few hundred bytes of lists that refer to lists could otherwise fill any memory.
inline constexpr std::size_t kMaxSharedValues = 1'000'000;

// TypeError for what has no counterpart, or is malformed.
Value from_ivalue(const c10::IValue& ivalue);

}  // namespace ckptio::detail
