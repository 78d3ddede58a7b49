// SPDX-License-Identifier: Apache-2.0
#include "cli/script_modules.h"

#include <algorithm>
#include <map>
#include <set>

#include "ckptio/error.h"
#include "codec/torchscript_code.h"

namespace ckptio::cli {
namespace {

using detail::Object;

// Code of a large model has some hundred kB.
constexpr std::uint64_t kMaxCodeBytes = std::uint64_t{64} << 20;

using Classes = std::map<std::string, detail::TorchScriptClass>;  // by qualified name: "__torch__.Net"

// The class's record says its module: archive/code/__torch__/nn.py has __torch__.nn.Name.
Classes classes_of(const detail::ZipReader& zip) {
  constexpr std::string_view kFolder = "/code/", kExtension = ".py";
  Classes classes;
  std::uint64_t n_bytes = 0;
  for (const detail::ZipRecord& record : zip.records()) {
    const std::size_t begin = record.name.find('/');
    if (begin == std::string::npos || record.name.compare(begin, kFolder.size(), kFolder) != 0) continue;
    if (!record.name.ends_with(kExtension)) continue;
    n_bytes += std::min(record.size, kMaxCodeBytes + 1);
    if (n_bytes > kMaxCodeBytes) {
      throw UnsupportedError("cannot read '" + zip.source().name + "': more than " + std::to_string(kMaxCodeBytes) +
                             " bytes of code");
    }
    std::string module = record.name.substr(begin + kFolder.size());
    module.resize(module.size() - kExtension.size());
    std::replace(module.begin(), module.end(), '/', '.');
    const std::vector<unsigned char> text = zip.read(record);
    const auto code =
        detail::examine_torchscript(record.name, {reinterpret_cast<const char*>(text.data()), text.size()});
    for (const detail::TorchScriptClass& found : code.classes) classes.emplace(module + "." + found.name, found);
  }
  return classes;
}

struct Module {
  std::string name;
  const detail::ObjectDict* attributes;
  const detail::TorchScriptClass* declaration;
};

const detail::TorchScriptClass* module_class(const Object& object, const Classes& classes) {
  if (!object.is<detail::ObjectOpaque>()) return nullptr;
  const auto found = classes.find(detail::global_name(object));
  return found == classes.end() || found->second.base != "Module" ? nullptr : &found->second;
}

std::vector<Module> modules_of(const Object& root, const Classes& classes) {
  std::vector<Module> modules;
  std::set<const Object*> met;
  std::vector<std::pair<std::string, const Object*>> stack = {{"", &root}};
  while (!stack.empty()) {
    const auto [name, object] = std::move(stack.back());
    stack.pop_back();
    const auto* declaration = module_class(*object, classes);
    if (declaration == nullptr || !met.insert(object).second) continue;
    const Object* state = object->get<detail::ObjectOpaque>()->state;
    const auto* attributes = state == nullptr ? nullptr : state->get<detail::ObjectDict>();
    modules.push_back({name, attributes, declaration});
    if (attributes == nullptr) continue;
    for (auto entry = attributes->items.rbegin(); entry != attributes->items.rend(); ++entry) {
      const auto* key = entry->first->get<detail::ObjectString>();
      if (key != nullptr) stack.emplace_back(name.empty() ? key->utf8 : name + "." + key->utf8, entry->second);
    }
  }
  return modules;
}

}  // namespace

ScriptModules script_modules(const detail::Archive& archive) {
  const Classes classes = classes_of(*archive.zip());
  ScriptModules result;
  const std::vector<Module> modules = modules_of(archive.root(), classes);
  std::set<const Object*> met;
  const auto add_tensors = [&](std::vector<std::string> detail::TorchScriptClass::*names) {
    for (const Module& module : modules) {
      if (module.attributes == nullptr) continue;
      const std::set<std::string> wanted((module.declaration->*names).begin(), (module.declaration->*names).end());
      for (const auto& [key, value] : module.attributes->items) {
        const auto* name = key->get<detail::ObjectString>();
        if (name == nullptr || wanted.count(name->utf8) == 0 || !value->is<detail::ObjectTensor>()) continue;
        if (!met.insert(value).second) continue;
        result.tensors.emplace_back(module.name.empty() ? name->utf8 : module.name + "." + name->utf8, value);
      }
    }
  };
  for (const Module& module : modules) result.names.push_back(module.name);
  add_tensors(&detail::TorchScriptClass::parameters);
  add_tensors(&detail::TorchScriptClass::buffers);
  return result;
}

}  // namespace ckptio::cli
