// SPDX-License-Identifier: Apache-2.0
// The file that is planned is the one that the safetensors library 0.8.0 writes. Headers in these tests are its.
#include <numeric>
#include <random>
#include <string>

#include "ckptio/error.h"
#include "codec/safetensors_file.h"
#include "support/catch.h"
#include "support/random_seed.h"
#include "support/raw_zip.h"

using namespace ckptio;
using namespace ckptio::detail;
using namespace ckptio::test;

namespace {

std::string header_of(const SafetensorsLayout& layout) {
  REQUIRE(layout.head.size() >= 8);
  CHECK(layout.head.substr(0, 8) == le(layout.head.size() - 8, 8));
  return layout.head.substr(8);
}

}  // namespace

TEST_CASE("Tensors are written by dtype, in the library's order, then by name") {
  std::vector<SafetensorsTensor> tensors;
  for (const DType dtype : {DType::boolean,         DType::uint8,           DType::int8,
                            DType::int16,           DType::uint16,          DType::int32,
                            DType::uint32,          DType::int64,           DType::uint64,
                            DType::float16,         DType::bfloat16,        DType::float32,
                            DType::float64,         DType::complex64,       DType::float8_e4m3fn,
                            DType::float8_e5m2,     DType::float8_e8m0fnu,  DType::float8_e4m3fnuz,
                            DType::float8_e5m2fnuz, DType::float4_e2m1fn_x2}) {
    const auto n_items = static_cast<std::int64_t>(8 / item_size(dtype));
    tensors.push_back({std::string(dtype_name_of(dtype)), dtype, {1, n_items}});
  }
  const auto layout = lay_out_safetensors(tensors, std::nullopt);
  CHECK(header_of(layout) == R"({"uint64":{"dtype":"U64","shape":[1,1],"data_offsets":[0,8]},)"
                             R"("int64":{"dtype":"I64","shape":[1,1],"data_offsets":[8,16]},)"
                             R"("float64":{"dtype":"F64","shape":[1,1],"data_offsets":[16,24]},)"
                             R"("complex64":{"dtype":"C64","shape":[1,1],"data_offsets":[24,32]},)"
                             R"("float32":{"dtype":"F32","shape":[1,2],"data_offsets":[32,40]},)"
                             R"("uint32":{"dtype":"U32","shape":[1,2],"data_offsets":[40,48]},)"
                             R"("int32":{"dtype":"I32","shape":[1,2],"data_offsets":[48,56]},)"
                             R"("bfloat16":{"dtype":"BF16","shape":[1,4],"data_offsets":[56,64]},)"
                             R"("float16":{"dtype":"F16","shape":[1,4],"data_offsets":[64,72]},)"
                             R"("uint16":{"dtype":"U16","shape":[1,4],"data_offsets":[72,80]},)"
                             R"("int16":{"dtype":"I16","shape":[1,4],"data_offsets":[80,88]},)"
                             R"("float8_e5m2fnuz":{"dtype":"F8_E5M2FNUZ","shape":[1,8],"data_offsets":[88,96]},)"
                             R"("float8_e4m3fnuz":{"dtype":"F8_E4M3FNUZ","shape":[1,8],"data_offsets":[96,104]},)"
                             R"("float8_e8m0fnu":{"dtype":"F8_E8M0","shape":[1,8],"data_offsets":[104,112]},)"
                             R"("float8_e4m3fn":{"dtype":"F8_E4M3","shape":[1,8],"data_offsets":[112,120]},)"
                             R"("float8_e5m2":{"dtype":"F8_E5M2","shape":[1,8],"data_offsets":[120,128]},)"
                             R"("int8":{"dtype":"I8","shape":[1,8],"data_offsets":[128,136]},)"
                             R"("uint8":{"dtype":"U8","shape":[1,8],"data_offsets":[136,144]},)"
                             R"("float4_e2m1fn_x2":{"dtype":"F4","shape":[1,16],"data_offsets":[144,152]},)"
                             R"("bool":{"dtype":"BOOL","shape":[1,8],"data_offsets":[152,160]}}       )");
  CHECK(layout.file_size == layout.head.size() + 160);
  CHECK(layout.order.front() == 8);
  CHECK(layout.data_offsets[8] == layout.head.size());
  CHECK(layout.data_offsets[0] == layout.head.size() + 152);
}

TEST_CASE("Names are sorted by their bytes and escaped as the library does") {
  std::vector<SafetensorsTensor> tensors;
  for (const std::string& name :
       {std::string("\0", 1), std::string("\x1f"), std::string("\x7f"), std::string("\"\\/"),
        std::string("\xe2\x80\xa8"), std::string("\xc3\xa9\xf0\x9f\x98\x80"), std::string("\b\t\n\f\r")}) {
    tensors.push_back({name, DType::uint8, {0}});
  }
  const std::string rest = R"(:{"dtype":"U8","shape":[0],"data_offsets":[0,0]})";
  CHECK(header_of(lay_out_safetensors(tensors, std::nullopt)) ==
        R"({"\u0000")" + rest + R"(,"\b\t\n\f\r")" + rest + R"(,"\u001f")" + rest + R"(,"\"\\/")" + rest + ",\"\x7f\"" +
            rest + ",\"\xc3\xa9\xf0\x9f\x98\x80\"" + rest + ",\"\xe2\x80\xa8\"" + rest + "}     ");
}

TEST_CASE("Metadata come first, and the header is padded with blanks to 8 bytes") {
  const std::vector<SafetensorsTensor> x = {{"x", DType::uint8, {1}}};
  CHECK(header_of(lay_out_safetensors(x, SafetensorsMetadata{})) ==
        R"({"__metadata__":{},"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}} )");
  CHECK(header_of(lay_out_safetensors(x, SafetensorsMetadata{{"format", "pt"}})) ==
        R"({"__metadata__":{"format":"pt"},"x":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}    )");
  CHECK(header_of(lay_out_safetensors({}, std::nullopt)) == "{}      ");
  CHECK(header_of(lay_out_safetensors({{"s", DType::float32, {}}}, std::nullopt)) ==
        R"({"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]}}   )");
}

TEST_CASE("What a safetensors file cannot hold is not planned") {
  CHECK_THROWS_AS(lay_out_safetensors({{"__metadata__", DType::uint8, {1}}}, std::nullopt), ValueError);
  CHECK_THROWS_AS(lay_out_safetensors({{"\xed\xa0\x80", DType::uint8, {1}}}, std::nullopt), ValueError);
  CHECK_THROWS_AS(lay_out_safetensors({{"x", DType::complex128, {1}}}, std::nullopt), ValueError);
  CHECK_THROWS_AS(lay_out_safetensors({{"x", DType::float4_e2m1fn_x2, {}}}, std::nullopt), ValueError);
  CHECK_THROWS_AS(lay_out_safetensors({}, SafetensorsMetadata{{"a", "\xff"}}), ValueError);
  CHECK_THROWS_WITH(lay_out_safetensors({}, SafetensorsMetadata{{"a", std::string(100'000'000, 'a')}}),
                    ContainsSubstring("100000032 bytes, and safetensors files allow 100000000"));
}

TEST_CASE("A file that our reader would refuse for its many objects is not planned") {
  std::vector<SafetensorsTensor> tensors(520'000);
  for (std::size_t i = 0; i < tensors.size(); ++i) tensors[i] = {std::to_string(i), DType::uint8, {0}};
  CHECK_THROWS_WITH(lay_out_safetensors(tensors, std::nullopt), ContainsSubstring("too many tensors (520000)"));
  tensors.resize(480'000);
  const std::string bytes = lay_out_safetensors(tensors, std::nullopt).head;
  CHECK(read_safetensors(memory_source("many", bytes.data(), bytes.size())).storages.size() == 480'000);
  CHECK_THROWS_AS(lay_out_safetensors({{"x", DType::uint8, std::vector<std::int64_t>(65, 1)}}, std::nullopt),
                  ValueError);
}

TEST_CASE("What is planned is read back, whatever the tensors") {
  std::mt19937 random(random_seed());
  const auto below = [&](std::uint32_t n) { return static_cast<std::int64_t>(random() % n); };
  for (int run = 0; run < 200; ++run) {
    std::vector<SafetensorsTensor> tensors;
    for (std::int64_t i = below(8); i > 0; --i) {
      SafetensorsTensor tensor;
      tensor.name = std::to_string(i);
      for (std::int64_t j = below(5); j > 0; --j) tensor.name += static_cast<char>(below(128));
      do tensor.dtype = static_cast<DType>(below(46));
      while (!safetensors_dtype_name(tensor.dtype));
      for (std::int64_t j = 1 + below(3); j > 0; --j) tensor.sizes.push_back(below(4));
      tensors.push_back(std::move(tensor));
    }
    SafetensorsMetadata metadata = {{"run", std::to_string(run)}};
    const auto layout = lay_out_safetensors(tensors, metadata);
    const std::string bytes = layout.head + std::string(layout.file_size - layout.head.size(), 'x');
    const SafetensorsFile file = read_safetensors(memory_source("planned", bytes.data(), bytes.size()));
    CHECK(file.metadata == metadata);
    const auto& items = file.graph.root->get<ObjectDict>()->items;
    REQUIRE(items.size() == tensors.size());
    for (std::size_t i = 0; i < items.size(); ++i) {  // in the file's order
      const SafetensorsTensor& expected = tensors[layout.order[i]];
      const ObjectTensor& found = *items[i].second->get<ObjectTensor>();
      CHECK(items[i].first->get<ObjectString>()->utf8 == expected.name);
      CHECK(found.dtype == expected.dtype);
      CHECK(found.sizes == expected.sizes);
      CHECK(file.storages[found.storage].data_offset == layout.data_offsets[layout.order[i]]);
    }
  }
}
