// SPDX-License-Identifier: Apache-2.0
// What reading a TorchScript archive would execute, found in its text before LibTorch sees it. No Torch.
//
// torch::load compiles every class of an archive's code/ and then
//   - runs __setstate__ of each object whose class has it;
//   - runs the C++ __setstate__ of TorchBind classes (__torch__.torch.classes...);
//   - evaluates default values of arguments, of NamedTuple fields and of class constants, by running them.
// Function bodies are compiled, not run. Anything of these but literals for defaults is refused; so is text whose
// structure we might see differently than LibTorch does (tabs, ';', line continuations outside of functions).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ckptio::detail {

struct TorchScriptCode {
  std::vector<std::string> functions;  // "Net.forward": what the text defines
  std::vector<std::string> unsafe;     // what would run when it is read, in words
};

// `name`: of the record, for messages.
TorchScriptCode examine_torchscript(const std::string& name, std::string_view text);

// The first TorchBind class that `pickle` names, or "".
std::string torchbind_class_in(std::string_view pickle);

}  // namespace ckptio::detail
