// SPDX-License-Identifier: Apache-2.0
// at::Tensors of the tensor descriptions that files hold (ObjectTensor), and back.
//
// Dense tensors are views of their storages; sparse, quantized and nested ones are put together of others.
// Threads: safe.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <vector>

#include "codec/object.h"

namespace ckptio::detail {

// `part` gives the tensor that one of description.parts is. What the readers could not check, since it is data, is
// checked here: indices of sparse tensors, scales, and the sizes of nested tensors.
// CorruptError, or c10::Error, for what fits nothing.
at::Tensor make_tensor(const ObjectTensor& description, const std::vector<c10::Storage>& storages,
                       const std::function<at::Tensor(const Object& part)>& part);

// Fills `to`, made and empty. `storage_of` gives the number of a storage of which items of that type are used, `part`
// the object for a tensor that is a part of this one. TypeError for tensors that have no form in a file, such as those
// of MKL-DNN.
void describe_tensor(const at::Tensor& tensor, ObjectTensor& to,
                     const std::function<std::uint32_t(const c10::Storage& storage, DType dtype)>& storage_of,
                     const std::function<Object*(const at::Tensor& part)>& part);

}  // namespace ckptio::detail
