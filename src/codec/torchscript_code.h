// SPDX-License-Identifier: Apache-2.0
// The text of a TorchScript archive's code/: its classes, and what reading it with LibTorch would execute. No Torch.
//
// torch::load compiles every class of an archive's code/ and then
//   - runs __setstate__ of each object whose class has it;
//   - runs the C++ __setstate__ of TorchBind classes (__torch__.torch.classes...);
//   - evaluates default values of arguments, of NamedTuple fields and of class constants, by running them.
// Function bodies are compiled, not run. Anything of these but literals for defaults is refused; so is text whose
// structure we might see differently than LibTorch does (tabs, ';', line continuations outside of functions).
// Threads: safe.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ckptio::detail {

// A class, as its serialized text declares it: `class Net(Module):` and the lines below.
struct TorchScriptClass {
  std::string name;                     // "Net"; the record says of which module
  std::string base;                     // "Module", "NamedTuple", "Enum", an interface's; "" without
  std::vector<std::string> parameters;  // of __parameters__
  std::vector<std::string> buffers;     // of __buffers__
  bool has_setstate = false;            // objects are restored by its own code
};

struct TorchScriptCode {
  std::vector<TorchScriptClass> classes;
  std::vector<std::string> functions;  // "Net.forward": what the text defines
  std::vector<std::string> unsafe;     // what would run when it is read, in words
};

// `name`: of the record, for messages. Never throws for what the text says.
TorchScriptCode examine_torchscript(const std::string& name, std::string_view text);

// The first TorchBind class that `pickle` names, or "".
std::string torchbind_class_in(std::string_view pickle);

}  // namespace ckptio::detail
