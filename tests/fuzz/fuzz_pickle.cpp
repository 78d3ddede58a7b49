// SPDX-License-Identifier: Apache-2.0
// Pickles: the first byte chooses the dialect, the rest is the pickle. What is read is written as Python's, and read
// and written again, which must give the same bytes.
#include <string>

#include "ckptio/error.h"
#include "codec/pickle_reader.h"
#include "codec/pickle_writer.h"
#include "fuzz/archive_checks.h"
#include "fuzz/fuzz.h"

namespace ckptio::test {
namespace {

using namespace ckptio::detail;

// False where it is refused.
bool read(ObjectGraph& graph, const ByteSource& source, PickleDialect dialect) {
  try {
    const std::uint64_t end = read_pickle(graph, source, {.where = "data.pkl", .dialect = dialect});
    require(end > 0 && end <= source.size, "a pickle that ends outside of the file");
    return true;
  } catch (const Error&) {
    return false;
  }
}

// Protocol 2 has nested classes as calls of getattr, which are not read as such again.
bool has_nested_global(const ObjectGraph& graph) {
  for (const Object& object : graph.objects) {
    const auto* global = object.get<ObjectGlobal>();
    if (global != nullptr && global->name.find('.') != std::string::npos) return true;
  }
  return false;
}

}  // namespace

void fuzz_pickle(const std::uint8_t* data, std::size_t n_bytes) {
  if (n_bytes == 0) return;
  const auto dialect = static_cast<PickleDialect>(data[0] % 3);
  ObjectGraph graph;
  if (!read(graph, fuzz_source(data + 1, n_bytes - 1), dialect)) return;
  check_graph(graph);
  std::string written;
  try {
    written = write_pickle(graph, *graph.root).bytes;
  } catch (const UnsupportedError&) {
    return;
  }
  ObjectGraph again;
  // Strings of TorchScript are octets of any kind, which only its dialect takes.
  const auto again_as = dialect == PickleDialect::libtorch ? dialect : PickleDialect::python;
  require(read(again, memory_source("written", written.data(), written.size()), again_as),
          "what was written is refused");
  if (has_nested_global(graph)) return;
  require(write_pickle(again, *again.root).bytes == written, "what was written changed when it was read");
}

}  // namespace ckptio::test
