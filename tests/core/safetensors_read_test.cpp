// SPDX-License-Identifier: Apache-2.0
// Each rule of the safetensors format: a file that keeps it is read, one that breaks it is refused and told why.
#include <cstdlib>
#include <string>

#include "ckptio/error.h"
#include "codec/json_text.h"
#include "codec/safetensors_file.h"
#include "support/catch.h"
#include "support/raw_zip.h"

using namespace ckptio;
using namespace ckptio::detail;
using namespace ckptio::test;

namespace {

// A file of this header, its right length before it.
std::string file_of(const std::string& header, const std::string& data = "") {
  return le(header.size(), 8) + header + data;
}

SafetensorsFile read(const std::string& bytes) {
  const std::vector<char> exact(bytes.begin(), bytes.end());  // so that a sanitizer sees reads beyond the end
  return read_safetensors({"bad.safetensors", exact.size(), [&](std::uint64_t offset, void* to, std::size_t n_bytes) {
                             if (offset > exact.size() || n_bytes > exact.size() - offset) std::abort();
                             std::copy_n(exact.begin() + static_cast<std::ptrdiff_t>(offset), n_bytes,
                                         static_cast<char*>(to));
                           }});
}

// The message of the CorruptError; it must name the file.
std::string error_of(const std::string& bytes) {
  try {
    read(bytes);
  } catch (const CorruptError& error) {
    CHECK_THAT(error.what(), StartsWith("cannot read 'bad.safetensors': "));
    return error.what();
  }
  return "no error";
}

std::string unsupported_error_of(const std::string& bytes) {
  try {
    read(bytes);
  } catch (const UnsupportedError& error) {
    CHECK_THAT(error.what(), StartsWith("cannot read 'bad.safetensors': "));
    return error.what();
  }
  return "no error";
}

// The entry of a tensor in a header.
std::string entry(const std::string& name, const std::string& dtype, const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape + ",\"data_offsets\":" + offsets + "}";
}

// A file whose one tensor "w" is described so.
std::string one(const std::string& dtype, const std::string& shape, const std::string& offsets,
                const std::string& data) {
  return file_of("{" + entry("w", dtype, shape, offsets) + "}", data);
}

const std::string kFour = "abcd";

const ObjectDict& root_of(const SafetensorsFile& file) { return *file.graph.root->get<ObjectDict>(); }

}  // namespace

TEST_CASE("A safetensors file is read into tensors of one storage each") {
  const auto file =
      read(file_of("{" + entry("b", "F32", "[2,3]", "[2,26]") + "," + entry("a", "I8", "[2]", "[0,2]") + "}   ",
                   std::string(26, 'x')));
  CHECK_FALSE(file.metadata.has_value());
  const auto& items = root_of(file).items;
  REQUIRE(items.size() == 2);
  CHECK(items[0].first->get<ObjectString>()->utf8 == "b");
  const ObjectTensor& b = *items[0].second->get<ObjectTensor>();
  CHECK(b.form == ObjectTensor::Form::dense);
  CHECK(b.dtype == DType::float32);
  CHECK(b.sizes == std::vector<std::int64_t>{2, 3});
  CHECK(b.strides == std::vector<std::int64_t>{3, 1});
  CHECK(b.offset == 0);
  CHECK(b.storage == 0);
  CHECK_FALSE(b.requires_grad);
  CHECK(items[1].second->get<ObjectTensor>()->storage == 1);
  REQUIRE(file.storages.size() == 2);
  REQUIRE(file.graph.storages.size() == 2);
  const std::uint64_t data = 8 + (file.storages[1].data_offset - 8);
  CHECK(file.storages[0].data_offset == data + 2);
  CHECK(file.storages[0].n_bytes == 24);
  CHECK(file.storages[0].name == "b");
  CHECK(file.storages[0].is_stored);
  CHECK_FALSE(file.storages[0].crc.has_value());
  CHECK(file.graph.storages[1].key == "a");
  CHECK(file.graph.storages[1].location == "cpu");
  CHECK(file.graph.storages[1].dtype == DType::int8);
  CHECK(file.graph.storages[1].n_bytes == 2);
}

TEST_CASE("Metadata of a safetensors file are strings by name, in the file's order") {
  const auto file = read(file_of(R"({"__metadata__":{"format":"pt","a":"\u00e9\n"}})"));
  CHECK(file.metadata == SafetensorsMetadata{{"format", "pt"}, {"a", "\xc3\xa9\n"}});
  CHECK(read(file_of(R"({"__metadata__":{}})")).metadata == SafetensorsMetadata{});
  CHECK(root_of(file).items.empty());
}

TEST_CASE("A safetensors file may hold no tensor, scalars, tensors of no elements, and any name") {
  CHECK(root_of(read(file_of("{}"))).items.empty());
  CHECK(read(one("F32", "[]", "[0,4]", kFour)).storages[0].n_bytes == 4);
  CHECK(read(one("F32", "[0,5]", "[0,0]", "")).storages[0].n_bytes == 0);
  const auto file =
      read(file_of("{" + entry("", "U8", "[4]", "[0,4]") + "," + entry("a\\u0000b", "U8", "[0]", "[4,4]") + "," +
                       entry("c", "U8", "[0]", "[0,0]") + "}",
                   kFour));
  CHECK(root_of(file).items[1].first->get<ObjectString>()->utf8 == std::string("a\0b", 3));
}

TEST_CASE("Every dtype of safetensors that PyTorch has is read") {
  const auto [name, dtype, n_bytes] =
      GENERATE(table<const char*, DType, std::uint64_t>({{"BOOL", DType::boolean, 6},
                                                         {"U8", DType::uint8, 6},
                                                         {"I8", DType::int8, 6},
                                                         {"F8_E5M2", DType::float8_e5m2, 6},
                                                         {"F8_E4M3", DType::float8_e4m3fn, 6},
                                                         {"F8_E8M0", DType::float8_e8m0fnu, 6},
                                                         {"F8_E4M3FNUZ", DType::float8_e4m3fnuz, 6},
                                                         {"F8_E5M2FNUZ", DType::float8_e5m2fnuz, 6},
                                                         {"I16", DType::int16, 12},
                                                         {"U16", DType::uint16, 12},
                                                         {"F16", DType::float16, 12},
                                                         {"BF16", DType::bfloat16, 12},
                                                         {"I32", DType::int32, 24},
                                                         {"U32", DType::uint32, 24},
                                                         {"F32", DType::float32, 24},
                                                         {"C64", DType::complex64, 48},
                                                         {"F64", DType::float64, 48},
                                                         {"I64", DType::int64, 48},
                                                         {"U64", DType::uint64, 48}}));
  INFO(name);
  const auto file = read(one(name, "[3,2]", "[0," + std::to_string(n_bytes) + "]", std::string(n_bytes, 'x')));
  CHECK(root_of(file).items[0].second->get<ObjectTensor>()->dtype == dtype);
  CHECK(safetensors_dtype_name(dtype) == name);
}

TEST_CASE("The shape of F4 counts elements, two of which PyTorch keeps in a byte") {
  const auto file = read(one("F4", "[2,8]", "[0,8]", "12345678"));
  const ObjectTensor& tensor = *root_of(file).items[0].second->get<ObjectTensor>();
  CHECK(tensor.dtype == DType::float4_e2m1fn_x2);
  CHECK(tensor.sizes == std::vector<std::int64_t>{2, 4});
  CHECK(tensor.strides == std::vector<std::int64_t>{4, 1});
  CHECK(file.storages[0].n_bytes == 8);
  CHECK_THAT(unsupported_error_of(one("F4", "[2,3]", "[0,3]", "123")), ContainsSubstring("the last size is odd"));
  CHECK_THAT(unsupported_error_of(one("F4", "[]", "[0,1]", "1")), ContainsSubstring("two F4 elements in a byte"));
}

TEST_CASE("A dtype that PyTorch does not have is unsupported, and named") {
  CHECK_THAT(unsupported_error_of(one("F6_E2M3", "[4]", "[0,3]", "123")),
             ContainsSubstring("tensor 'w': its dtype is 'F6_E2M3', which PyTorch does not have"));
  CHECK_THAT(unsupported_error_of(one("F6_E3M2", "[4]", "[0,3]", "123")), ContainsSubstring("'F6_E3M2'"));
  CHECK_THAT(unsupported_error_of(one("F128", "[1]", "[0,16]", std::string(16, 'x'))),
             ContainsSubstring("its dtype is 'F128', which is not known"));
  CHECK_THAT(unsupported_error_of(one("f32", "[1]", "[0,4]", kFour)), ContainsSubstring("'f32', which is not known"));
}

TEST_CASE("A safetensors header must have a length that fits the file and the format") {
  CHECK_THAT(error_of(""), ContainsSubstring("header length at byte 0: the file has 0 bytes"));
  CHECK_THAT(error_of("1234567"), ContainsSubstring("the file has 7 bytes, expected 8"));
  CHECK_THAT(error_of(le(0, 8)), ContainsSubstring("header at byte 8: does not begin with '{'"));
  CHECK_THAT(error_of(le(3, 8) + "{}"),
             ContainsSubstring("header length at byte 0: 3 found, but the file has 2 bytes behind it"));
  CHECK_THAT(error_of(le(UINT64_MAX, 8) + "{}"), ContainsSubstring("18446744073709551615 found, at most 100000000"));
}

TEST_CASE("A safetensors header may have 100,000,000 bytes and no more") {
  const auto padded = [](std::size_t n_bytes) {
    std::string header = "{}";
    header.resize(n_bytes, ' ');
    return file_of(header);
  };
  CHECK(root_of(read(padded(100'000'000))).items.empty());
  CHECK_THAT(error_of(padded(100'000'001)), ContainsSubstring("100000001 found, at most 100000000 expected"));
}

TEST_CASE("A safetensors header begins with its object, and nothing but blanks is behind it") {
  CHECK_THAT(error_of(file_of(" {}")), ContainsSubstring("does not begin with '{'"));
  CHECK_THAT(error_of(file_of("\xef\xbb\xbf{}")), ContainsSubstring("does not begin with '{'"));
  CHECK_THAT(error_of(file_of("[1,2]")), ContainsSubstring("does not begin with '{'"));
  CHECK(root_of(read(file_of("{}      "))).items.empty());
  CHECK_THAT(error_of(file_of("{}{}")), ContainsSubstring("header at byte 10"));
  CHECK_THAT(error_of(file_of(std::string("{}\0\0", 4))), ContainsSubstring("header at byte 10: a NUL byte"));
}

TEST_CASE("A safetensors header must be JSON in UTF-8") {
  CHECK_THAT(error_of(file_of("{\"w\":")), ContainsSubstring("unexpected end of input"));
  CHECK_THAT(error_of(file_of("{\"\xff\":1}")), ContainsSubstring("ill-formed UTF-8"));
  CHECK_THAT(error_of(file_of("{\"\xed\xa0\x80\":1}")), ContainsSubstring("ill-formed UTF-8"));
  CHECK_THAT(error_of(file_of("{\"\\ud800\":1}")), ContainsSubstring("surrogate"));
  CHECK_THAT(error_of(file_of("{\"a\nb\":1}")), ContainsSubstring("control character"));
  CHECK_THAT(error_of(file_of("{/**/}")), ContainsSubstring("header at byte 9"));
  CHECK_THAT(error_of(file_of("{'w':1}")), ContainsSubstring("header at byte 9"));
}

TEST_CASE("A safetensors header nests no deeper than the format does") {
  const std::string bomb(200'000, '[');
  CHECK_THAT(error_of(file_of("{\"w\":" + bomb)), ContainsSubstring("'w' is an array, expected an object"));
  CHECK_THAT(error_of(one("F32", bomb, "[0,4]", kFour)), ContainsSubstring("expected an integer"));
  CHECK_THAT(error_of(file_of("{\"w\":{\"dtype\":" + bomb)), ContainsSubstring("dtype is an array, expected a string"));
  CHECK_THAT(error_of(file_of("{\"__metadata__\":{\"a\":" + bomb)), ContainsSubstring("an array, expected a string"));
}

TEST_CASE("A name in a safetensors header comes once") {
  const std::string w = entry("w", "F32", "[1]", "[0,4]");
  CHECK_THAT(error_of(file_of("{" + w + "," + entry("w", "F32", "[1]", "[4,8]") + "}", kFour + kFour)),
             ContainsSubstring("header at byte 8: the key 'w' comes twice"));
  CHECK_THAT(error_of(file_of("{" + w + "," + entry("\\u0077", "F32", "[1]", "[4,8]") + "}", kFour + kFour)),
             ContainsSubstring("the key 'w' comes twice"));
  CHECK_THAT(error_of(file_of(R"({"__metadata__":{},"__metadata__":{}})")),
             ContainsSubstring("the key '__metadata__' comes twice"));
  CHECK_THAT(error_of(file_of(R"({"__metadata__":{"x":"1","x":"2"}})")), ContainsSubstring("the key 'x' comes twice"));
  CHECK_THAT(error_of(file_of(R"({"w":{"dtype":"F32","dtype":"F32","shape":[1],"data_offsets":[0,4]}})", kFour)),
             ContainsSubstring("tensor 'w' at byte 34: dtype comes twice"));
}

TEST_CASE("A tensor of a safetensors header has dtype, shape and data_offsets, and nothing else") {
  CHECK_THAT(error_of(file_of(R"({"w":{"shape":[1],"data_offsets":[0,4]}})", kFour)),
             ContainsSubstring("has no dtype"));
  CHECK_THAT(error_of(file_of(R"({"w":{"dtype":"F32","data_offsets":[0,4]}})", kFour)),
             ContainsSubstring("has no shape"));
  CHECK_THAT(error_of(file_of(R"({"w":{"dtype":"F32","shape":[1]}})", kFour)),
             ContainsSubstring("has no data_offsets"));
  CHECK_THAT(error_of(file_of(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}})", kFour)),
             ContainsSubstring("has the field 'x'; expected dtype, shape and data_offsets alone"));
  CHECK_THAT(error_of(file_of(R"({"w":["F32",[1],[0,4]]})", kFour)),
             ContainsSubstring("'w' is an array, expected an object"));
  CHECK_THAT(error_of(file_of(R"({"w":null})")),
             ContainsSubstring("'w' is a number, boolean or null, expected an object"));
  CHECK_THAT(error_of(file_of(R"({"w":{"dtype":1,"shape":[1],"data_offsets":[0,4]}})", kFour)),
             ContainsSubstring("dtype is a number, boolean or null, expected a string"));
  CHECK_THAT(error_of(one("F32", "1", "[0,4]", kFour)), ContainsSubstring("shape is a number"));
  CHECK_THAT(error_of(one("F32", "\"1\"", "[0,4]", kFour)), ContainsSubstring("shape is a string, expected an array"));
}

TEST_CASE("Sizes and offsets of a safetensors header are whole numbers from 0 on") {
  const auto number = GENERATE("-1", "-0", "1.0", "1e0", "18446744073709551616", "\"1\"", "true", "null", "{}", "[]");
  INFO(number);
  CHECK_THAT(error_of(one("U8", "[" + std::string(number) + "]", "[0,1]", "a")), ContainsSubstring("tensor 'w'"));
  CHECK_THAT(error_of(one("U8", "[1]", "[0," + std::string(number) + "]", "a")), ContainsSubstring("tensor 'w'"));
}

TEST_CASE("data_offsets are two numbers") {
  CHECK_THAT(error_of(one("F32", "[1]", "[]", kFour)), ContainsSubstring("data_offsets holds 0 numbers, expected two"));
  CHECK_THAT(error_of(one("F32", "[1]", "[0]", kFour)), ContainsSubstring("data_offsets holds 1 numbers"));
  CHECK_THAT(error_of(one("F32", "[1]", "[0,4,4]", kFour)), ContainsSubstring("holds more than two numbers"));
}

TEST_CASE("The data of a safetensors file has no holes, no overlap, and nothing behind it") {
  const auto two = [](const std::string& a, const std::string& b, std::size_t n_bytes) {
    return file_of("{" + entry("a", "U8", "[2]", a) + "," + entry("b", "U8", "[2]", b) + "}",
                   std::string(n_bytes, 'x'));
  };
  CHECK(error_of(two("[0,2]", "[2,4]", 4)) == "no error");
  CHECK(error_of(two("[2,4]", "[0,2]", 4)) == "no error");
  CHECK_THAT(error_of(two("[0,2]", "[3,5]", 5)),
             ContainsSubstring("tensor 'b' at byte 8: data_offsets [3, 5] found, but its data must begin at 2"));
  CHECK_THAT(error_of(two("[1,3]", "[3,5]", 5)), ContainsSubstring("data must begin at 0"));
  CHECK_THAT(error_of(two("[0,2]", "[1,3]", 3)), ContainsSubstring("data must begin at 2"));
  CHECK_THAT(error_of(two("[0,2]", "[0,2]", 2)), ContainsSubstring("data must begin at 2"));
  CHECK_THAT(error_of(two("[0,2]", "[2,0]", 4)), ContainsSubstring("not end before it begins"));
  CHECK_THAT(error_of(two("[0,2]", "[2,4]", 5)), ContainsSubstring("5 bytes found, 4 expected by the header"));
  CHECK_THAT(error_of(two("[0,2]", "[2,4]", 3)), ContainsSubstring("the file is truncated"));
  CHECK_THAT(error_of(file_of("{}", "x")), ContainsSubstring("1 bytes found, 0 expected"));
  // A tensor of no bytes has a place too.
  CHECK_THAT(
      error_of(file_of("{" + entry("a", "U8", "[2]", "[0,2]") + "," + entry("e", "U8", "[0]", "[1,1]") + "}", "xx")),
      ContainsSubstring("tensor 'e'"));
}

TEST_CASE("The bytes of a tensor are those of its shape and dtype, counted without overflow") {
  CHECK_THAT(error_of(one("F32", "[2]", "[0,4]", kFour)),
             ContainsSubstring("data_offsets give it 4 bytes, its shape and dtype 8"));
  CHECK_THAT(error_of(one("F32", "[4611686018427387904,4]", "[0,0]", "")),
             ContainsSubstring("more elements than 63 bits"));
  CHECK_THAT(error_of(one("F32", "[4611686018427387904]", "[0,0]", "")), ContainsSubstring("more bytes than 63 bits"));
  CHECK_THAT(error_of(one("F32", "[0,4611686018427387904,4]", "[0,0]", "")), ContainsSubstring("more elements"));
  CHECK_THAT(error_of(one("F32", "[0,9223372036854775808]", "[0,0]", "")), ContainsSubstring("more elements"));
  CHECK(error_of(one("F32", "[0,4611686018427387904]", "[0,0]", "")) == "no error");
}

TEST_CASE("Metadata of a safetensors file that are no strings are refused") {
  CHECK_THAT(error_of(file_of(R"({"__metadata__":{"a":1}})")),
             ContainsSubstring("'__metadata__' at byte 30: the value of 'a' is no string"));
  CHECK_THAT(error_of(file_of(R"({"__metadata__":{"a":null}})")), ContainsSubstring("is no string"));
  CHECK_THAT(error_of(file_of(R"({"__metadata__":{"a":{}}})")), ContainsSubstring("expected a string"));
  CHECK_THAT(error_of(file_of(R"({"__metadata__":null})")),
             ContainsSubstring("'__metadata__' is a number, boolean or null, expected an object"));
  CHECK_THAT(error_of(file_of(R"({"__metadata__":[]})")), ContainsSubstring("is an array, expected an object"));
}

TEST_CASE("A header that describes more objects than memory should hold is refused") {
  std::string header = "{";
  for (int i = 0; header.size() < 60'000'000; ++i) {
    header += (i == 0 ? "" : ",") + entry(std::to_string(i), "U8", "[0]", "[0,0]");
  }
  CHECK_THAT(unsupported_error_of(file_of(header + "}")), ContainsSubstring("more than fits into 512 MiB"));
}

TEST_CASE("A tensor of a safetensors file has at most 64 dimensions") {
  std::string shape = "0";
  for (int i = 1; i < 64; ++i) shape += ",1";
  CHECK(error_of(one("U8", "[" + shape + "]", "[0,0]", "")) == "no error");
  CHECK_THAT(unsupported_error_of(one("U8", "[" + shape + ",1]", "[0,0]", "")),
             ContainsSubstring("more than 64 dimensions"));
}

TEST_CASE("What begins as a safetensors file is told from the rest by its first nine bytes") {
  const auto looks = [](const std::string& bytes) {
    return looks_like_safetensors(memory_source("x", bytes.data(), bytes.size()));
  };
  CHECK(looks(file_of("{}")));
  CHECK(looks(le(100'000'000, 8) + "{"));
  CHECK_FALSE(looks(le(100'000'001, 8) + "{"));
  CHECK_FALSE(looks(le(2, 8)));
  CHECK_FALSE(looks("PK\3\4 and more"));
  CHECK_FALSE(looks(file_of(" {}")));
  CHECK_FALSE(looks(""));
}
