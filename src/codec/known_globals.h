// SPDX-License-Identifier: Apache-2.0
// The globals that PyTorch's files are made of, and what a call of each gives. Everything else stays inert.
//
// What they take and give: torch 2.13, torch/_utils.py, torch/_tensor.py, torch/_weights_only_unpickler.py, for
// LibTorch torch/csrc/jit/serialization/pickler.cpp; types of Python: Python 3.11's pickler. A call is understood when
// it is read, as Python would make it then. Errors: CorruptError for arguments that the function does not take; nothing
// is allocated because a number says so.
#pragma once

#include <optional>
#include <string_view>

#include "codec/graph_builder.h"
#include "codec/plain_tensor.h"

namespace ckptio::detail {

Known find_known_global(PickleDialect dialect, std::string_view module, std::string_view name);

// The names of dtypes and quantization schemes are objects themselves.
std::optional<QSchemeKind> qscheme_named(std::string_view name);
std::optional<LayoutKind> layout_named(std::string_view name);  // "torch.sparse_coo"

// True for the modules of TorchScript's classes, "__torch__.torch.nn.modules.linear".
bool is_libtorch_class(std::string_view module);

// What calling `global` with the tuple `args` gives, or null if we keep that as an ObjectOpaque.
Object* call_known(GraphBuilder& builder, const Object* global, const Object* args);

// The same for global.__new__(global, *args).
Object* new_known(GraphBuilder& builder, const Object* global, const Object* args);

// The part of call_known for tensors: known_tensors.cpp.
Object* call_known_tensor_function(GraphBuilder& builder, Known known, const std::vector<Object*>& args);

// What rebuild_tensor_v2 gives for these arguments, of which the storage is `storage`.
Object* rebuild_plain_tensor(GraphBuilder& builder, const PlainTensor& plain, std::uint32_t storage);

// Checks what Python code set on an object, a dict of attributes (or a tuple of that and a dict of slots, or None), and
// returns it; null where there is nothing.
Object* checked_attributes(GraphBuilder& builder, Object* state);

}  // namespace ckptio::detail
