// SPDX-License-Identifier: Apache-2.0
// verify: compares mapped tensors with their file's checksums, where that has not been done yet.
//
//   auto checkpoint = io.load_checkpoint("last.ckpt", {.mmap = true, .verify_mapped = VerifyMapped::on_use});
//   const auto& embedding = checkpoint->at("state_dict").at("embedding.weight").as<at::Tensor>();
//   ckptio::verify(embedding);        // reads and checks this one
//   use(embedding.data_ptr<float>());
//
// The functions of ckptio that take elements out of tensors do it by themselves. What code of yours or LibTorch's
// reads without it (data_ptr, operators, clone) was not checked.
// What is compared is what stands in the file: changes made to the tensors in memory do not count as damage.
// Threads: any number may verify the same or other tensors at once; what is being checked is waited for.
#pragma once

#include "ckptio/value.h"

namespace ckptio {

// Checks the storage that `tensor` is a view of, whole, if it is mapped and was not found right before; reads nothing
// otherwise. Tensors that no file is under (undefined, moved, cloned, loaded otherwise) pass.
// CorruptError naming the file, the record and both checksums where they differ, each time it is asked.
void verify(const at::Tensor& tensor);

// The same for all tensors and storages in it, those of Opaques too. Stops at the first that is damaged.
void verify(const Value& value);
void verify(const Dict& dict);

}  // namespace ckptio
