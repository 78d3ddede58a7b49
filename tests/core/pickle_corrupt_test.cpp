// SPDX-License-Identifier: Apache-2.0
// Pickles that are damaged, or made to do harm: each is an error, soon and with little memory.
#include <random>
#include <string>

#include "codec/limits.h"
#include "read_pickle_text.h"
#include "support/catch.h"
#include "support/pickle_assembler.h"
#include "support/random_seed.h"

using namespace ckptio;
using namespace ckptio::detail;
using namespace ckptio::test;
using namespace ckptio::test::pickle;
using namespace std::string_literals;

namespace {

std::string repeated(const std::string& part, std::size_t n) {
  std::string all;
  for (std::size_t i = 0; i < n; ++i) all += part;
  return all;
}

std::string nested_lists(std::size_t depth) { return doc(repeated("]", depth + 1) + repeated("a", depth)); }

}  // namespace

TEST_CASE("An error names the file, the record, the byte and the opcode") {
  CHECK(error_of(doc("Ns")) ==
        "cannot read 'file.pt': record 'archive/data.pkl' at byte 3: SETITEM: no object on the stack found, one "
        "expected");
}

TEST_CASE("Opcodes that find too little on the stack are refused") {
  for (const char* body : {"",  "t", "e",     "a", "u", "s", "R",    "b",    "N\x87", "\x81", "Na",  "\x92", "0",
                           "1", "2", "q\x00", "o", "l", "d", "\x90", "\x91", "Q",     "N(s",  "N(R", "](a",  "\x93"}) {
    INFO(body);
    CHECK_THAT(error_of(doc(body, 4)), ContainsSubstring("on the stack found"));
  }
}

TEST_CASE("Items for what takes none are refused") {
  for (const std::string& body : {"N(Ne"s, "(NNtNa"s, "}Na"s, "](NNu"s, "N(NNu"s, "](N\x90"s, "(\x91(N\x90"s, "}(Nu"s,
                                  "Nb"s, "N}b"s, "}}b"s, "]}b"s, tensor() + "(NNu"}) {
    INFO(body);
    CHECK_THAT(error_of(doc(body, 4)), ContainsSubstring("expected") || ContainsSubstring("takes none"));
  }
}

TEST_CASE("Calls of what cannot be called are refused") {
  for (const std::string& callable : {"N"s, "K\x01"s, "]"s, str("f"), global("torch", "float32"), tensor()}) {
    CHECK_THAT(error_of(doc(callable + ")R")), ContainsSubstring("Python could not call"));
    CHECK_THAT(error_of(doc(callable + ")\x81")), ContainsSubstring("Python could not call"));
  }
  CHECK_THAT(error_of(doc(global("m", "f") + "]R")), ContainsSubstring("a tuple expected"));
  CHECK_THAT(error_of(doc("cm\n\n")), ContainsSubstring("empty name"));
}

TEST_CASE("A second state, and items behind the state, are refused") {
  const std::string made = global("m", "C") + ")\x81}b";
  CHECK_THAT(error_of(doc(made + "}b")), ContainsSubstring("which has one"));
  CHECK_THAT(error_of(doc(made + "Na")), ContainsSubstring("a list expected"));
  CHECK_THAT(error_of(doc(made + "NNs")), ContainsSubstring("a dict expected"));
}

TEST_CASE("The extension registry, other buffers and later protocols are not supported") {
  for (const std::string& body : {"\x82\x01"s, "\x83\x01\x01"s, "\x84\x01\x01\x01\x01"s, "\x97"s, "N\x98"s}) {
    CHECK_THROWS_AS(read_graph(doc(body, 5)), UnsupportedError);
  }
  CHECK_THROWS_AS(read_graph(doc("N", 6)), UnsupportedError);
  CHECK_THAT(error_of(doc("N", 6)), ContainsSubstring("protocol 6 found, at most 5"));
}

TEST_CASE("Lengths beyond the end of the file are refused before memory is taken") {
  for (const std::string& body :
       {"X\xff\xff\xff\xff"s, "\x8d" + little(std::uint64_t{1} << 63, 8), "\x8e" + little(std::uint64_t{1} << 62, 8),
        "B\xff\xff\xff\x7f"s, "\x96" + little(std::uint64_t{1} << 62, 8), "\x8b\xff\xff\xff\x7f"s, "\x8c\xff"s,
        "\x95" + little(std::uint64_t{1} << 62, 8)}) {
    CHECK_THAT(error_of(doc(body, 5)), ContainsSubstring("announced"));
  }
  CHECK_THAT(error_of(doc("\x8b\xff\xff\xff\xff"s)), ContainsSubstring("an integer of -1 bytes"));
  CHECK_THAT(error_of(doc("T\xff\xff\xff\xff"s)), ContainsSubstring("a string of -1 bytes"));
}

TEST_CASE("Damaged lines of text are refused") {
  for (const char* body :
       {"Inot\n", "I\n", "I1 2\n", "L\n", "L0x10\n", "Fnot\n", "F\n", "F1.5x\n", "S'a\n", "Sa\n", "S'\\x4'\n",
        "S'\\z'\n", "V\\u12\n", "V\\U00110000\n", "Np-1\n", "g-1\n", "Np99999999999999999999\n"}) {
    INFO(body);
    CHECK_FALSE(error_of(doc(body)).empty());
  }
  CHECK_THAT(error_of("cos"), ContainsSubstring("a line without an end"));
  CHECK_THAT(error_of(doc("c" + std::string(kMaxLineBytes + 1, 'a') + "\nb\n")), ContainsSubstring("65536 bytes"));
}

TEST_CASE("Memo entries that were never stored are refused") {
  for (const std::string& body : {"h\x07"s, "j\xff\xff\xff\xff"s, "g12\n"s, "Nq\x01h\x00"s}) {
    CHECK_THAT(error_of(doc(body)), ContainsSubstring("never stored"));
  }
}

TEST_CASE("A pickle cut anywhere, or without its STOP, is refused") {
  const std::string whole = doc(dict({str("w"), tensor(), str("n"), call("m", "f", {integer(-5)})}));
  for (std::size_t n = 0; n < whole.size(); ++n) {
    INFO(n);
    REQUIRE_FALSE(error_of(whole.substr(0, n)).empty());
  }
  CHECK(error_of(whole).empty());
}

TEST_CASE("Nesting is refused beyond the limit, and costs no stack") {
  CHECK(error_of(nested_lists(kMaxDepth)).empty());
  CHECK_THAT(error_of(nested_lists(kMaxDepth + 1)), ContainsSubstring("nested 1001 deep"));
  CHECK_THAT(error_of(nested_lists(300000)), ContainsSubstring("nested 300000 deep"));
  CHECK_THAT(error_of(doc(")" + repeated("\x85", 300000))), ContainsSubstring("nested 300000 deep"));
  CHECK_THAT(error_of(doc(repeated("}K\x01", 300000) + "N" + repeated("s", 300000))), ContainsSubstring("300000 deep"));
  // The same as a key: its number is found from the inside.
  CHECK_THAT(error_of(doc("})" + repeated("\x85", 300000) + "Ns")), ContainsSubstring("deep"));
  // A chain of calls.
  CHECK_THAT(error_of(doc(global("m", "f") + repeated(")R", 300000))), ContainsSubstring("deep"));
}

TEST_CASE("A cycle is no endless depth, and counts as many levels as it has containers") {
  CHECK(error_of(doc("]q\x00h\x00"
                     "a"s))
            .empty());
  const auto ring = [](std::size_t n) {
    // Lists that hold the next one, and the last the first; the first is the root.
    return doc("]q" + little(0, 1) + repeated("]", n - 1) + "h" + little(0, 1) + repeated("a", n));
  };
  CHECK(error_of(ring(1000)).empty());
  CHECK_THAT(error_of(ring(1001)), ContainsSubstring("nested 1001 deep"));
}

TEST_CASE("What is shared is not counted again") {
  std::string body = "]q" + little(0, 1) + "0";
  for (unsigned char i = 0; i < 60; ++i) {
    body += "](" + repeated("h" + little(i, 1), 10) + "eq" + little(i + 1u, 1) + "0";
  }
  CHECK(error_of(doc(body + "h\x3c")).empty());
  CHECK(find_opaque(read_graph(doc(body + "h\x3c")).root).empty());
}

TEST_CASE("Objects beyond the limit of memory are refused") {
  CHECK_THAT(error_of(doc("(" + repeated("]", 6000000) + "l")), ContainsSubstring("512 MiB"));
}

TEST_CASE("What is copied again and again counts again") {
  const std::string many = "](" + repeated("N", 100000) + "eq" + little(0, 1);
  CHECK_THAT(error_of(doc(many + global("builtins", "set") + "q" + little(1, 1) + "(" +
                          repeated("h\x01h" + little(0, 1) + "\x85R", 100000) + "l")),
             ContainsSubstring("512 MiB"));
  const std::string name = str(std::string(60000, 'm')) + "q" + little(0, 1);
  CHECK_THAT(error_of(doc(name + "(" + repeated("h" + little(0, 1) + "h" + little(0, 1) + "\x93", 100000) + "l", 4)),
             ContainsSubstring("512 MiB"));
}

TEST_CASE("Whatever bytes follow each other, reading ends with an error or a value") {
  std::mt19937 random(random_seed());
  const std::string valid =
      doc(dict({str("w"), tensor(), str("o"), call("m", "f", {integer(-5)}), "N", list({kTrue, number(1.5)}), str("d"),
                call("collections", "OrderedDict", {}) + dict({str("_metadata"), kNone}) + "b"}));
  const std::string opcodes =
      "(.012FIJKLMNPQRSTUVXabcd}eghijl]opqrst)uGBC\x80\x81\x85\x86\x87\x88\x89\x8a\x8c\x8f\x90\x91\x93\x94";
  for (int round = 0; round < 20000; ++round) {
    std::string bytes = valid;
    for (unsigned n = random() % 4 + 1; n-- > 0;) {
      const std::size_t at = random() % bytes.size();
      switch (random() % 4) {
        case 0:
          bytes[at] = static_cast<char>(random());
          break;
        case 1:
          bytes[at] = opcodes[random() % opcodes.size()];
          break;
        case 2:
          bytes.insert(at, 1, opcodes[random() % opcodes.size()]);
          break;
        default:
          bytes.erase(at, random() % 3);
      }
      if (bytes.empty()) bytes = "N";
    }
    try {
      const ObjectGraph graph = read_graph(bytes);
      find_opaque(graph.root);
    } catch (const Error&) {
    }
  }
  SUCCEED();
}
