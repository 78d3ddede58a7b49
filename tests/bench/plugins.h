// SPDX-License-Identifier: Apache-2.0
// The plugins that can be measured: ours, and what LibTorch has by itself.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "ckptio/checkpoint_io.h"

namespace ckptio::bench {

// torch, python, safetensors; libtorch, libtorch_pickle.
const std::vector<std::string>& plugin_names();

// Unless `durable`, what is saved may be in the page cache only.
std::shared_ptr<CheckpointIO> make_plugin(const std::string& name, std::size_t n_threads, bool durable);

}  // namespace ckptio::bench
