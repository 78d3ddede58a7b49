// SPDX-License-Identifier: Apache-2.0
#include "codec/libtorch_file.h"

#include <algorithm>
#include <functional>
#include <map>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "ckptio/error.h"
#include "codec/checkpoint_encoding.h"
#include "codec/python_file.h"
#include "codec/torchscript_code.h"
#include "codec/zip_directory.h"

namespace ckptio::detail {
namespace {

// Of all records in code/ together. Examining text takes some 40 times its size in memory; that of large models has
// less than 2 MB.
constexpr std::uint64_t kMaxCodeBytes = std::uint64_t{8} << 20;

using Class = std::shared_ptr<const TorchScriptClass>;
using Classes = std::map<std::string, Class>;  // by qualified name: "__torch__.Net"

// "archive/code/__torch__/torch/nn.py" -> "__torch__.torch.nn"; empty for records that are no code.
std::string module_of(std::string_view record, const std::string& prefix) {
  const std::string folder = prefix + "code/";
  if (!record.starts_with(folder) || !record.ends_with(".py")) return "";
  std::string module(record.substr(folder.size(), record.size() - folder.size() - 3));
  std::replace(module.begin(), module.end(), '/', '.');
  return module;
}

Classes read_classes(const ZipReader& zip, const std::string& prefix) {
  Classes classes;
  std::uint64_t n_bytes = 0;
  for (const ZipRecord& record : zip.records()) {
    const std::string module = module_of(record.name, prefix);
    if (module.empty()) continue;
    n_bytes += std::min(record.size, kMaxCodeBytes + 1);
    if (n_bytes > kMaxCodeBytes) {
      throw UnsupportedError("cannot read '" + zip.source().name + "': more than " +
                             std::to_string(kMaxCodeBytes >> 20) + " MiB of TorchScript code");
    }
    const auto text = zip.read(record);
    auto code =
        examine_torchscript(std::string(record.name), {reinterpret_cast<const char*>(text.data()), text.size()});
    for (TorchScriptClass& found : code.classes) {
      // Two of one name are no class of either: LibTorch's own rule is not ours to guess.
      Class& known = classes[module + "." + found.name];
      found.has_setstate = found.has_setstate || known != nullptr;
      known = std::make_shared<const TorchScriptClass>(std::move(found));
    }
  }
  return classes;
}

bool has_string_keys(const ObjectDict& dict) {
  return std::all_of(dict.items.begin(), dict.items.end(),
                     [](const auto& item) { return item.first->template is<ObjectString>(); });
}

// The class of an object that is nothing but its attributes, or null.
Class class_of(const ObjectOpaque& opaque, const Classes& classes) {
  const auto* global = opaque.callable->get<ObjectGlobal>();
  if (global == nullptr || opaque.make != ObjectOpaque::Make::new_object) return nullptr;
  const auto place = classes.find(global->module + "." + global->name);
  if (place == classes.end() || place->second->has_setstate || place->second->base == "Enum") return nullptr;
  const auto* args = opaque.args == nullptr ? nullptr : opaque.args->get<ObjectTuple>();
  const auto* state = opaque.state == nullptr ? nullptr : opaque.state->get<ObjectDict>();
  const bool is_plain = args != nullptr && args->items.empty() && opaque.kwargs == nullptr && opaque.items.empty() &&
                        opaque.added.empty() && opaque.entries.empty();
  return is_plain && state != nullptr && has_string_keys(*state) ? place->second : nullptr;
}

// Makes objects the dicts of their attributes; returns the modules among them.
std::vector<ScriptModule> resolve_objects(ObjectGraph& graph, const Classes& classes, const ByteSource& source) {
  std::vector<ScriptModule> modules;
  std::unordered_set<const Object*> used;
  for (Object& object : graph.objects) {
    const auto* opaque = object.get<ObjectOpaque>();
    const Class type = opaque == nullptr ? nullptr : class_of(*opaque, classes);
    if (!type) continue;
    // Never so in LibTorch's files; copies of one dict could fill any memory.
    if (!used.insert(opaque->state).second) {
      throw CorruptError("cannot read '" + source.name + "': two objects of TorchScript share their attributes");
    }
    ObjectDict attributes{opaque->state->get<ObjectDict>()->items, nullptr, DictType::dict};
    object.held = std::move(attributes);
    if (type->base == "Module") modules.push_back({&object, type});
  }
  return modules;
}

// Tensors on the meta device, which LibTorch writes with an empty record, have no storage.
void resolve_meta(ObjectGraph& graph) {
  const auto is_meta = [&](std::uint32_t storage) { return graph.storages[storage].location == "meta"; };
  for (Object& object : graph.objects) {
    auto* tensor = object.get<ObjectTensor>();
    if (tensor == nullptr || tensor->form != ObjectTensor::Form::dense) continue;
    if (tensor->storage == ObjectTensor::kNoStorage || !is_meta(tensor->storage)) continue;
    tensor->form = ObjectTensor::Form::meta;
    tensor->storage = ObjectTensor::kNoStorage;
    tensor->offset = 0;
    tensor->conj = tensor->neg = false;
  }
  for (StorageInfo& storage : graph.storages) {
    if (storage.location == "meta") storage.n_bytes = 0;
  }
}

void check_constants(const ZipReader& zip, const std::string& prefix, bool is_big_endian) {
  ArchiveContents constants;
  read_pickle_record(zip, require_record(zip, prefix + "constants.pkl"), PickleDialect::libtorch, constants.graph);
  resolve_meta(constants.graph);
  find_storages(zip, prefix + "constants/", is_big_endian, 0, constants);
}

class ModuleNamer {
 public:
  explicit ModuleNamer(const Archive& archive) : archive_(archive) {
    for (const ScriptModule& module : archive.script_modules()) types_.emplace(module.object, module.type);
  }

  ModuleNames name() {
    // Recursive: the reader has bounded the depth.
    find_modules(&archive_.root(), "");
    std::unordered_set<const Object*> parameters, buffers;
    for (const auto& [prefix, module] : modules_)
      add_tensors(prefix, module, &TorchScriptClass::parameters, parameters);
    for (const auto& [prefix, module] : modules_) add_tensors(prefix, module, &TorchScriptClass::buffers, buffers);
    for (const auto& [prefix, module] : modules_) names_.modules.push_back(prefix.substr(0, prefix.find_last_of('.')));
    return std::move(names_);
  }

 private:
  void charge(const std::string& name) {
    n_bytes_ += name.size();
    if (n_bytes_ > kMaxModuleNameBytes) {
      throw CorruptError("cannot read '" + archive_.source().name + "': the names of its modules take more than " +
                         std::to_string(kMaxModuleNameBytes >> 20) + " MiB");
    }
  }

  // `prefix`: "" or "encoder.layer."
  void find_modules(const Object* object, const std::string& prefix) {
    if (types_.count(object) == 0 || !seen_.insert(object).second) return;
    charge(prefix);
    modules_.emplace_back(prefix, object);
    for (const auto& [key, value] : object->get<ObjectDict>()->items) {
      if (types_.count(value) != 0) find_modules(value, prefix + key->get<ObjectString>()->utf8 + ".");
    }
  }

  void add_tensors(const std::string& prefix, const Object* module, std::vector<std::string> TorchScriptClass::*kind,
                   std::unordered_set<const Object*>& named) {
    const std::vector<std::string>& declared = types_.at(module).get()->*kind;
    const std::unordered_set<std::string_view> names(declared.begin(), declared.end());
    for (const auto& [key, value] : module->get<ObjectDict>()->items) {
      const std::string& name = key->get<ObjectString>()->utf8;
      if (names.count(name) == 0 || !value->is<ObjectTensor>() || !named.insert(value).second) continue;
      names_.tensors.emplace_back(prefix + name, value);
      charge(names_.tensors.back().first);
    }
  }

  const Archive& archive_;
  std::unordered_map<const Object*, Class> types_;
  std::unordered_set<const Object*> seen_;
  std::vector<std::pair<std::string, const Object*>> modules_;
  ModuleNames names_;
  std::uint64_t n_bytes_ = 0;
};

}  // namespace

ArchiveContents read_libtorch_file(const ZipReader& zip) {
  const std::string prefix = zip_prefix(zip);
  check_version(zip, prefix);
  const bool is_big = is_big_endian(zip, prefix);
  ArchiveContents contents;
  {
    const Classes classes = read_classes(zip, prefix);
    read_pickle_record(zip, require_record(zip, prefix + "data.pkl"), PickleDialect::libtorch, contents.graph);
    contents.script_modules = resolve_objects(contents.graph, classes, zip.source());
  }
  resolve_meta(contents.graph);
  contents.is_checkpoint = decode_checkpoint(contents.graph, zip.source());
  find_storages(zip, prefix + "data/", is_big, 0, contents);
  check_constants(zip, prefix, is_big);
  return contents;
}

ModuleNames name_modules(const Archive& archive) { return ModuleNamer(archive).name(); }

}  // namespace ckptio::detail
