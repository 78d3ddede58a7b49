// SPDX-License-Identifier: Apache-2.0
#include "cli/inspect_command.h"

#include <algorithm>
#include <map>
#include <set>

#include "cli/describe_json.h"
#include "cli/describe_text.h"
#include "cli/exit_code.h"
#include "cli/object_walk.h"
#include "cli/open_archive.h"
#include "cli/tensor_bytes.h"
#include "cli/text.h"
#include "codec/refuse_opaque.h"

namespace ckptio::cli {
namespace {

using detail::Object;
using detail::ObjectTensor;

struct Totals {
  std::uint64_t n_tensors = 0, n_elements = 0;
  std::map<std::uint32_t, std::uint64_t> uses;  // of storages by tensors
  std::set<std::string> locations;
};

Totals count(const detail::Archive& archive) {
  Totals totals;
  for_each_object(archive.root(), [&](const Object& object) {
    const auto* tensor = object.get<ObjectTensor>();
    if (tensor == nullptr) return;
    ++totals.n_tensors;
    const std::uint64_t n = n_elements(tensor->sizes);
    if (__builtin_add_overflow(totals.n_elements, n, &totals.n_elements)) totals.n_elements = ~std::uint64_t{0};
    if (tensor->storage != ObjectTensor::kNoStorage) ++totals.uses[tensor->storage];
  });
  for (const detail::StorageInfo& info : archive.graph().storages) {
    if (!info.location.empty()) totals.locations.insert(printable(info.location, 20));
  }
  return totals;
}

// Who wrote the file, as far as it says so.
std::string writer_of(const detail::Archive& archive) {
  for (const auto& [key, value] : archive.metadata()) {
    if (key == "format") return "metadata says format " + quoted(value);
  }
  const auto* dict = archive.root().get<detail::ObjectDict>();
  if (dict == nullptr) return "";
  for (const auto& [key, value] : dict->items) {
    const auto *name = key->get<detail::ObjectString>(), *version = value->get<detail::ObjectString>();
    if (name != nullptr && version != nullptr && name->utf8 == "pytorch-lightning_version") {
      return "PyTorch Lightning " + printable(version->utf8, 20);
    }
  }
  return "";
}

void print_head(const detail::Archive& archive, Console& console) {
  std::string line = console.paint(Style::name, printable(archive.source().name)) + ": " +
                     detail::describe(archive.format()) + ", " + size_text(archive.source().size);
  if (const std::string writer = writer_of(archive); !writer.empty()) line += ", " + writer;
  console.line(line);
  for (const auto& [key, value] : archive.metadata()) {
    console.line("  metadata " + quoted(key) + ": " + quoted(value, 200));
  }
}

void print_totals(const detail::Archive& archive, Console& console) {
  const Totals totals = count(archive);
  std::uint64_t n_bytes = 0, n_shared = 0;
  for (const detail::StorageInfo& info : archive.graph().storages) n_bytes += info.n_bytes;
  for (const auto& [storage, n_uses] : totals.uses) n_shared += n_uses > 1;
  std::string line = count_text(totals.n_tensors, "tensor", "tensors") + " of " +
                     count_text(totals.n_elements, "element", "elements") + ", " + size_text(n_bytes) + " in " +
                     count_text(archive.graph().storages.size(), "storage", "storages");
  if (n_shared > 0) line += " (" + std::to_string(n_shared) + " shared by several tensors)";
  std::string locations;
  for (const std::string& location : totals.locations) locations += (locations.empty() ? "" : ", ") + location;
  if (!locations.empty()) line += ", saved from " + locations;
  console.line(line);

  const std::vector<detail::OpaquePlace> places = detail::find_opaque(&archive.root());
  std::map<std::string, std::pair<std::uint64_t, std::string>> kinds;  // how many, and where the first is
  for (const auto& place : places) {
    auto& [n, where] = kinds[place.global];
    if (n++ == 0) where = place.path;
  }
  if (kinds.empty()) return;
  console.line("beyond tensors and plain values, kept as data and never executed (weights_only refuses them):");
  for (const auto& [global, kind] : kinds) {
    const std::string more = kind.first > 1 ? " and " + std::to_string(kind.first - 1) + " more" : "";
    console.line("  " + printable(global) + " at " + printable(kind.second) + more);
  }
}

}  // namespace

int inspect(const InspectOptions& options, Console& console) {
  const detail::Archive archive = open_archive(options.file);
  if (options.weights_only) detail::refuse_opaque(archive.graph(), archive.source().name);
  std::uint64_t n_all = 0;
  for (const detail::StorageRecord& record : archive.storages()) n_all += record.n_bytes;
  Progress progress("reading " + printable(options.file), n_all);
  StorageBytes bytes(archive, progress.adder());
  if (options.json) {
    describe_json(bytes, [&](std::string_view text) { console.write(text); });
  } else {
    print_head(archive, console);
    describe_text(bytes, options.values, console);
    print_totals(archive, console);
  }
  return kOk;
}

}  // namespace ckptio::cli
