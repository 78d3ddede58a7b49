// SPDX-License-Identifier: Apache-2.0
// The tool as a user meets it: what it prints, where, and how it ends.
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>

#include "cli/checkpoint_file.h"
#include "cli/run_tool.h"
#include "cli/sha256.h"
#include "support/catch.h"
#include "support/temp_folder.h"

namespace ckptio::test {
namespace {

using detail::DType;

constexpr std::uint64_t kMiB = std::uint64_t{1} << 20;

// More than the tool needs, less than the files of the tests have.
#ifdef CKPTIO_SANITIZED
constexpr std::uint64_t kMaxResident = ~std::uint64_t{0};  // sanitizers keep much of what was freed
#else
constexpr std::uint64_t kMaxResident = 256 * kMiB;
#endif

std::string content_of(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_file(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// One line on standard error, and nothing of the error on standard output.
void require_one_line(const ToolResult& result) {
  INFO(result.err);
  REQUIRE(result.err.starts_with("ckptio: "));
  REQUIRE(std::count(result.err.begin(), result.err.end(), '\n') == 1);
  REQUIRE(result.err.ends_with('\n'));
}

// {"epoch": 3, "name": "run 1", "w": [1, 2, 3, 4], "b": [0.5]}
void write_sample(const std::string& path, float first = 1) {
  CheckpointFile file;
  file.write(path, file.dict({{"epoch", file.integer(3)},
                              {"name", file.string("run 1")},
                              {"w", file.floats({first, 2, 3, 4})},
                              {"b", file.floats({0.5F})}}));
}

// Where the bytes of `values` stand in the file.
std::size_t find_floats(const std::string& content, const std::vector<float>& values) {
  return content.find(std::string(reinterpret_cast<const char*>(values.data()), 4 * values.size()));
}

void write_damaged(const std::string& path) {
  write_sample(path);
  std::string content = content_of(path);
  content[find_floats(content, {1, 2, 3, 4}) + 5] ^= 1;
  write_file(path, content);
}

TEST_CASE("inspect shows the names, types, shapes and values of a checkpoint, and totals") {
  TempFolder folder;
  write_sample(folder / "a.pt");
  const ToolResult result = run_tool({"inspect", folder / "a.pt"});
  REQUIRE(result.code == 0);
  REQUIRE(result.err.empty());
  INFO(result.out);
  REQUIRE(has(result.out, "a.pt: Python's torch.save (zip)"));
  REQUIRE(has(result.out, "  epoch  int 3\n"));
  REQUIRE(has(result.out, "  name   str 'run 1'\n"));
  REQUIRE(has(result.out, "  w      float32 [4]  16 B\n"));
  REQUIRE(has(result.out, "2 tensors of 5 elements, 20 B in 2 storages, saved from cpu\n"));
  const ToolResult with_values = run_tool({"inspect", "--values", folder / "a.pt"});
  REQUIRE(has(with_values.out, "float32 [4]  16 B = [1, 2, 3, 4]\n"));
}

TEST_CASE("inspect --json prints one value that describes all of the file") {
  TempFolder folder;
  CheckpointFile file;
  file.write(folder / "a.pt", file.dict({{"n", file.integer(-7)}, {"w", file.floats({0, 0, 0, 0})}}));
  const ToolResult result = run_tool({"inspect", "--json", folder / "a.pt"});
  REQUIRE(result.code == 0);
  REQUIRE(result.out ==
          R"({"items": [[{"t": "str", "v": "n"}, {"t": "int", "v": "-7"}], [{"t": "str", "v": "w"}, )"
          R"({"dtype": "float32", "offset": 0, "requires_grad": false, )"
          R"("sha256": "374708fff7719dd5979ec875d56cd2286f6d3cf7ec317a3b25632aab28ec37bb", "shape": [4], )"
          R"("storage": 0, "storage_nbytes": 16, "stride": [1], "t": "tensor"}]], "t": "dict"})"
          "\n");
}

TEST_CASE("an object of an unknown class is shown as what it is made of, and refused where weights alone are wanted") {
  TempFolder folder;
  CheckpointFile file;
  file.write(folder / "a.pt", file.dict({{"args", file.opaque("lr", file.integer(1))}}));
  const ToolResult json = run_tool({"inspect", "--json", folder / "a.pt"});
  REQUIRE(json.code == 0);
  REQUIRE(has(json.out, R"("class": "argparse.Namespace", "global": "argparse.Namespace")"));
  REQUIRE(has(json.out, R"("state": {"items": [[{"t": "str", "v": "lr"}, {"t": "int", "v": "1"}]], "t": "dict"})"));
  REQUIRE(has(run_tool({"inspect", folder / "a.pt"}).out, ".lr  int 1\n"));
  for (const char* command : {"inspect", "verify"}) {
    const ToolResult refused = run_tool({command, "--weights-only", folder / "a.pt"});
    REQUIRE(refused.code == 5);
    require_one_line(refused);
    REQUIRE(has(refused.err, "argparse.Namespace at checkpoint['args']"));
  }
}

TEST_CASE("output has colours on a terminal alone, and not where NO_COLOR asks for none") {
  TempFolder folder;
  write_sample(folder / "a.pt");
  REQUIRE_FALSE(has(run_tool({"inspect", folder / "a.pt"}, {"TERM=xterm"}).out, "\x1b"));
  REQUIRE(has(run_tool_on_terminal({"inspect", folder / "a.pt"}, {"TERM=xterm", "NO_COLOR="}).out, "\x1b[36m"));
  REQUIRE_FALSE(has(run_tool_on_terminal({"inspect", folder / "a.pt"}, {"TERM=xterm", "NO_COLOR=1"}).out, "\x1b"));
  REQUIRE_FALSE(has(run_tool_on_terminal({"inspect", folder / "a.pt"}, {"TERM=dumb", "NO_COLOR="}).out, "\x1b"));
}

TEST_CASE("no text of a file reaches the terminal as a control sequence") {
  TempFolder folder;
  CheckpointFile file;
  const std::string evil =
      "\x1b]0;owned\x07\x1b[2J\r\xc2\x9b"
      "2J";
  file.write(folder / "a.pt", file.dict({{evil, file.string(evil)}, {"o", file.opaque(evil, file.string(evil))}}));
  CheckpointFile other;
  other.write(folder / "b.pt", other.dict({{evil, other.string("x" + evil)}}));
  for (const auto& arguments : std::vector<std::vector<std::string>>{{"inspect", folder / "a.pt"},
                                                                     {"inspect", "--values", folder / "a.pt"},
                                                                     {"inspect", "--json", folder / "a.pt"},
                                                                     {"diff", folder / "a.pt", folder / "b.pt"},
                                                                     {"inspect", "--weights-only", folder / "a.pt"}}) {
    const ToolResult result = run_tool(arguments);
    const std::string all = result.out + result.err;
    REQUIRE_FALSE(all.empty());
    REQUIRE(std::none_of(all.begin(), all.end(),
                         [](char c) { return c != '\n' && (static_cast<unsigned char>(c) < 0x20 || c == 0x7F); }));
    REQUIRE_FALSE(has(all, "\xc2\x9b"));
  }
}

TEST_CASE("verify ends with 0 where every byte is right") {
  TempFolder folder;
  write_sample(folder / "a.pt");
  const ToolResult result = run_tool({"verify", folder / "a.pt"});
  REQUIRE(result.code == 0);
  REQUIRE(has(result.out, "a.pt: whole: 8 records"));
  REQUIRE(has(result.out, "every byte of them checked against its CRC-32"));
}

TEST_CASE("verify names a damaged record, the tensors in it, and what can still be read") {
  TempFolder folder;
  write_damaged(folder / "a.pt");
  const ToolResult result = run_tool({"verify", folder / "a.pt"});
  REQUIRE(result.code == 1);
  INFO(result.out);
  REQUIRE(has(result.out, "a.pt: damaged\n"));
  REQUIRE(has(result.out, "record 'archive/data/0'"));
  REQUIRE(has(result.out, "it holds checkpoint['w']"));
  REQUIRE(has(result.out, "1 of 2 tensors"));
}

TEST_CASE("verify of a truncated file says which records of it are whole") {
  TempFolder folder;
  write_sample(folder / "a.pt");
  const std::string content = content_of(folder / "a.pt");
  write_file(folder / "a.pt", content.substr(0, find_floats(content, {0.5F}) + 2));
  const ToolResult result = run_tool({"verify", folder / "a.pt"});
  REQUIRE(result.code == 1);
  INFO(result.out);
  REQUIRE(has(result.out, "the file is truncated"));
  REQUIRE(has(result.out, "5 whole by their CRC-32: archive/data.pkl"));
  REQUIRE(has(result.out, "archive/data/0 (16 B)"));
  REQUIRE(has(result.out, "1 cut off: archive/data/1 (2 B)"));
}

TEST_CASE("verify looks at every file, and its exit code tells of the worst") {
  TempFolder folder;
  write_sample(folder / "a.pt");
  write_damaged(folder / "b.pt");
  const ToolResult missing = run_tool({"verify", folder / "none.pt", folder / "a.pt"});
  REQUIRE(missing.code == 3);
  REQUIRE(has(missing.out, "a.pt: whole"));
  require_one_line(missing);
  const ToolResult damaged = run_tool({"verify", folder / "none.pt", folder / "b.pt", folder / "a.pt"});
  REQUIRE(damaged.code == 1);
  REQUIRE(has(damaged.out, "b.pt: damaged"));
  REQUIRE(has(damaged.out, "a.pt: whole"));
}

TEST_CASE("verify says so where there was nothing to check against") {
  TempFolder folder;
  const std::string header = R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  std::string content(8, '\0');
  content[0] = static_cast<char>(header.size());
  write_file(folder / "a.safetensors", content + header + std::string(4, '\0'));
  const ToolResult result = run_tool({"verify", folder / "a.safetensors"});
  if (result.code == 6) return;  // built without nlohmann/json
  REQUIRE(result.code == 0);
  REQUIRE(has(result.out, "nothing to check against"));
}

TEST_CASE("diff of equal checkpoints ends with 0") {
  TempFolder folder;
  write_sample(folder / "a.pt");
  write_sample(folder / "b.pt");
  const ToolResult result = run_tool({"diff", folder / "a.pt", folder / "b.pt"});
  REQUIRE(result.code == 0);
  REQUIRE(result.out == "equal: 2 tensors, 2 other values\n");
}

TEST_CASE("diff lists keys, types, shapes and values that differ, and ends with 1") {
  TempFolder folder;
  write_sample(folder / "a.pt");
  CheckpointFile file;
  file.write(folder / "b.pt", file.dict({{"epoch", file.integer(4)},
                                         {"w", file.floats({1, 2, 3, 8})},
                                         {"b", file.floats({0.5F, 1})},
                                         {"new", file.string("x")}}));
  const ToolResult result = run_tool({"diff", folder / "a.pt", folder / "b.pt"});
  REQUIRE(result.code == 1);
  INFO(result.out);
  REQUIRE(has(result.out, "checkpoint['epoch']: 3 -> 4\n"));
  REQUIRE(has(result.out, "checkpoint['name']: only in the first: str 'run 1'\n"));
  REQUIRE(has(result.out, "checkpoint['new']: only in the second: str 'x'\n"));
  REQUIRE(has(result.out, "checkpoint['b']: float32 [1] -> float32 [2]\n"));
  REQUIRE(has(result.out, "checkpoint['w']: 1 of 4 elements differ, by up to 4 (relative 0.5)\n"));
  REQUIRE(has(result.out, "different in 5 places"));
}

TEST_CASE("diff takes NaN for equal to NaN, and tells of NaN on one side") {
  TempFolder folder;
  CheckpointFile a, b, c;
  const float nan = std::numeric_limits<float>::quiet_NaN();
  a.write(folder / "a.pt", a.dict({{"w", a.floats({nan, 0.0F, 1})}}));
  b.write(folder / "b.pt", b.dict({{"w", b.floats({nan, -0.0F, 1})}}));
  c.write(folder / "c.pt", c.dict({{"w", c.floats({0, 0, 1})}}));
  REQUIRE(run_tool({"diff", folder / "a.pt", folder / "b.pt"}).code == 0);
  const ToolResult result = run_tool({"diff", folder / "a.pt", folder / "c.pt"});
  REQUIRE(result.code == 1);
  REQUIRE(has(result.out, "1 of them NaN on one side"));
}

TEST_CASE("convert to Python's format keeps everything") {
  TempFolder folder;
  CheckpointFile file;
  auto* shared = file.dict({{"x", file.floats({1, 2})}});
  file.write(folder / "a.pt", file.dict({{"one", shared}, {"two", shared}, {"o", file.opaque("p", shared)}}));
  const ToolResult result = run_tool({"convert", folder / "a.pt", folder / "new/b.ckpt"});
  INFO(result.err);
  REQUIRE(result.code == 0);
  REQUIRE(has(result.out, "b.ckpt: Python's torch.save (zip), "));
  REQUIRE(run_tool({"inspect", "--json", folder / "a.pt"}).out ==
          run_tool({"inspect", "--json", folder / "new/b.ckpt"}).out);
  const ToolResult in_place = run_tool({"convert", "--to", "python", folder / "a.pt", folder / "a.pt"});
  REQUIRE(in_place.code == 0);
  REQUIRE(content_of(folder / "a.pt") == content_of(folder / "new/b.ckpt"));
}

TEST_CASE("convert of a damaged file fails, and what was there before stays") {
  TempFolder folder;
  write_damaged(folder / "a.pt");
  write_file(folder / "b.pt", "old");
  const ToolResult result = run_tool({"convert", folder / "a.pt", folder / "b.pt"});
  REQUIRE(result.code == 4);
  require_one_line(result);
  REQUIRE(content_of(folder / "b.pt") == "old");
}

TEST_CASE("an error is one line that begins with the tool's name, and has its own exit code") {
  TempFolder folder;
  write_sample(folder / "a.pt");
  write_damaged(folder / "damaged.pt");
  write_file(folder / "text.txt", "no checkpoint at all\n");
  const std::vector<std::pair<int, std::vector<std::string>>> cases = {
      {2, {}},
      {2, {"look", folder / "a.pt"}},
      {2, {"inspect"}},
      {2, {"inspect", "--yaml", folder / "a.pt"}},
      {2, {"convert", folder / "a.pt", folder / "b.xyz"}},
      {2, {"convert", "--to", "onnx", folder / "a.pt", folder / "b.pt"}},
      {3, {"inspect", folder / "none.pt"}},
      {3, {"diff", folder / "a.pt", folder / "none.pt"}},
      {4, {"inspect", "--json", folder / "damaged.pt"}},
      {4, {"diff", folder / "a.pt", folder / "damaged.pt"}},
      {6, {"inspect", folder / "text.txt"}},
      {7, {"inspect", folder.path()}},
      {7, {"convert", folder / "a.pt", folder / "a.pt/b.pt"}}};
  for (const auto& [code, arguments] : cases) {
    const ToolResult result = run_tool(arguments);
    INFO((arguments.empty() ? "" : arguments[0]) << " " << (arguments.empty() ? "" : arguments.back()) << result.err);
    REQUIRE(result.code == code);
    require_one_line(result);
  }
}

TEST_CASE("--help names every command and exit code, and --version the version") {
  const ToolResult help = run_tool({"--help"});
  REQUIRE(help.code == 0);
  for (const char* word : {"inspect", "verify", "convert", "diff", "Examples:", "Exit codes:", "not supported"}) {
    REQUIRE(has(help.out, word));
  }
  for (const char* command : {"inspect", "verify", "convert", "diff"}) {
    REQUIRE(run_tool({command, "--help"}).code == 0);
  }
  const ToolResult version = run_tool({"--version"});
  REQUIRE(version.code == 0);
  REQUIRE(version.out.starts_with("ckptio "));
}

TEST_CASE("files larger than the memory taken can be inspected, verified, compared and converted") {
  TempFolder folder;
  CheckpointFile file;
  const auto n_rows = static_cast<std::int64_t>(1024 * kMiB / 4096);
  auto* large = file.tensor(DType::float32, {n_rows, 1024}, "");
  file.write_zeros(folder / "a.pt", file.dict({{"w", large}}));
  const auto require_small = [&](const std::vector<std::string>& arguments) {
    const ToolResult result = run_tool(arguments);
    INFO(arguments[0] << ": " << result.err << result.out << result.n_resident_bytes / kMiB << " MiB");
    REQUIRE(result.code == 0);
    REQUIRE(result.n_resident_bytes < kMaxResident);
    return result.out;
  };
  REQUIRE(std::filesystem::file_size(folder / "a.pt") > 1024 * kMiB);
  require_small({"inspect", folder / "a.pt"});
  require_small({"verify", folder / "a.pt"});
  require_small({"inspect", "--json", folder / "a.pt"});
  require_small({"diff", folder / "a.pt", folder / "a.pt"});
  CheckpointFile smaller;
  auto* half = smaller.tensor(DType::float32, {static_cast<std::int64_t>(96 * kMiB)}, "");
  smaller.write_zeros(folder / "b.pt", smaller.dict({{"w", half}}));
  require_small({"convert", folder / "b.pt", folder / "c.pt"});
  require_small({"diff", folder / "b.pt", folder / "c.pt"});
}

TEST_CASE("a transposed tensor in a storage that is too large to be held is hashed by its elements in order") {
  TempFolder folder;
  constexpr std::int64_t kRows = 24 * 1024, kColumns = 1024;  // 96 MiB
  std::string bytes(4 * kRows * kColumns, '\0'), expected(bytes.size(), '\0');
  for (std::int64_t i = 0; i < kRows * kColumns; ++i) {
    const auto value = static_cast<std::uint32_t>(i * 2654435761);
    std::memcpy(&bytes[static_cast<std::size_t>(4 * i)], &value, 4);
    std::memcpy(&expected[static_cast<std::size_t>(4 * (i % kColumns * kRows + i / kColumns))], &value, 4);
  }
  CheckpointFile file;
  auto* tensor = file.tensor(DType::int32, {kRows, kColumns}, std::move(bytes));
  auto* geometry = tensor->get<detail::ObjectTensor>();
  geometry->sizes = {kColumns, kRows};
  geometry->strides = {1, kColumns};
  file.write(folder / "a.pt", tensor);
  const ToolResult result = run_tool({"inspect", "--json", folder / "a.pt"});
  REQUIRE(result.code == 0);
  REQUIRE(has(result.out, cli::sha256_of(expected)));
  REQUIRE(result.n_resident_bytes < kMaxResident);
}

}  // namespace
}  // namespace ckptio::test
