// SPDX-License-Identifier: Apache-2.0
#include "codec/pickle_reader.h"

#include <string>

#include "codec/limits.h"
#include "read_pickle_text.h"
#include "support/catch.h"
#include "support/pickle_assembler.h"

using namespace ckptio;
using namespace ckptio::detail;
using namespace ckptio::test;
using namespace ckptio::test::pickle;
using namespace std::string_literals;

TEST_CASE("A pickle's constants and numbers are read in every form they have") {
  CHECK(text_of(doc(tuple({"N", "\x88", "\x89", "I01\n", "I00\n"}))) == "(None, True, False, True, False)");
  CHECK(text_of(doc(tuple({"K\xff", "M\xff\xff"s, "J\xff\xff\xff\xff"s, "I-12\n", "L12L\n", "L12\n"}))) ==
        "(255, 65535, -1, -12, 12, 12)");
  CHECK(text_of(doc(tuple({number(-0.0), number(2.5), "F1e-05\n", "Finf\n", "F-inf\n", "Fnan\n", "F+1.5\n"}))) ==
        "(-0.0, 2.5, 1e-05, inf, -inf, nan, 1.5)");
}

TEST_CASE("An integer of any length is read, and has one form in memory") {
  CHECK(text_of(doc("\x8a\x00"s)) == "0");
  CHECK(text_of(doc("\x8a\x01\xff"s)) == "-1");
  CHECK(text_of(doc("\x8a\x02\xff\x00"s)) == "255");
  CHECK(text_of(doc("\x8a\x0a\x05" + std::string(9, '\0'))) == "5");
  CHECK(text_of(doc("\x8b\x03\x00\x00\x00\x00\x00\xff"s)) == "-65536");
  CHECK(text_of(doc("\x8a\x08" + std::string(7, '\0') + "\x80")) == "-9223372036854775808");
  CHECK(text_of(doc("\x8a\x09" + std::string(8, '\xff') + "\x00"s)) == "bigint.255.255.255.255.255.255.255.255.0");
  CHECK(text_of(doc("L9223372036854775807L\n")) == "9223372036854775807");
  CHECK(text_of(doc("L-9223372036854775808L\n")) == "-9223372036854775808");
  CHECK(text_of(doc("L9223372036854775808L\n")) == "bigint.0.0.0.0.0.0.0.128.0");
  CHECK(text_of(doc("L-9223372036854775809L\n")) == "bigint.255.255.255.255.255.255.255.127.255");
  CHECK(text_of(doc("L" + std::string(kMaxIntegerDigits, '9') + "\n")).substr(0, 6) == "bigint");
  CHECK_THAT(error_of(doc("L" + std::string(kMaxIntegerDigits + 1, '9') + "\n")), ContainsSubstring("4300 digits"));
}

TEST_CASE("A pickle's texts are read in every form they have") {
  const std::string expected = "'h\xc3\xa9'";
  CHECK(text_of(doc(str("h\xc3\xa9"))) == expected);
  CHECK(text_of(doc("\x8c\x03h\xc3\xa9"s, 4)) == expected);
  CHECK(text_of(doc("\x8d" + little(3, 8) + "h\xc3\xa9", 4)) == expected);
  CHECK(text_of(doc("Vh\xe9\n", 0)) == expected);
  CHECK(text_of(doc("Vh\\u00e9\n", 0)) == expected);
  CHECK(text_of(doc("V\\U0001f600\n", 0)) == "'\xf0\x9f\x98\x80'");
  CHECK(text_of(doc("T" + little(3, 4) + "h\xc3\xa9")) == expected);
  CHECK(text_of(doc("U\x03h\xc3\xa9")) == expected);
  CHECK(text_of(doc("S'a\\'\\n\\x41\\101'\n", 0)) == "'a\\'\\nAA'");
}

TEST_CASE("A lone surrogate is text, as Python's surrogatepass has it") {
  CHECK(text_of(doc(str("\xed\xa0\x80x"))) == "'\\ud800x'");
}

TEST_CASE("Text that is no UTF-8 is refused, but for Python 2's strings, which become bytes") {
  for (const std::string& bad : {"\xff"s, "\xc3"s, "\xc0\x80"s, "\xe0\x80\x80"s, "\xf0\x80\x80\x80"s,
                                 "\xf4\x90\x80\x80"s, "a\x80"s, "\xe2\x82"s}) {
    CHECK_THAT(error_of(doc(str(bad))), ContainsSubstring("is no UTF-8"));
    CHECK(text_of(doc("U" + little(bad.size(), 1) + bad)).substr(0, 2) == "b'");
  }
}

TEST_CASE("Bytes and bytearrays are read in every form they have") {
  CHECK(text_of(doc("C\x02\x01z"s, 3)) == "b'\\x01z'");
  CHECK(text_of(doc("B" + little(2, 4) + "\x01z", 3)) == "b'\\x01z'");
  CHECK(text_of(doc("\x8e" + little(2, 8) + "\x01z", 4)) == "b'\\x01z'");
  CHECK(text_of(doc("\x96" + little(2, 8) + "yz", 5)) == "bytearray'yz'");
}

TEST_CASE("Tuples are made by every opcode that does") {
  CHECK(text_of(doc(tuple({")", "N\x85", "NK\x01\x86", "NK\x01K\x02\x87", tuple({"N", "N", "N", "N"})}))) ==
        "((), (None,), (None, 1), (None, 1, 2), (None, None, None, None))");
}

TEST_CASE("Lists, dicts and sets keep the order of the file") {
  CHECK(text_of(doc("]K\x01"
                    "a(K\x02K\x03"
                    "e")) == "[1, 2, 3]");
  CHECK(text_of(doc("(K\x01K\x02l")) == "[1, 2]");
  CHECK(text_of(doc("}K\x01Ns(K\x02NK\x03Nu")) == "{1: None, 2: None, 3: None}");
  CHECK(text_of(doc("(K\x01Nd")) == "{1: None}");
  CHECK(text_of(doc("\x8f(K\x02K\x01\x90", 4)) == "set{2, 1}");
  CHECK(text_of(doc("(K\x02K\x01K\x02\x91", 4)) == "frozenset{2, 1}");
}

TEST_CASE("The stack and the memo work as Python's") {
  CHECK(text_of(doc("K\x01"
                    "2\x86")) == "(1, 1)");
  CHECK(text_of(doc("K\x01K\x02"
                    "0")) == "1");
  CHECK(text_of(doc("K\x01(K\x02K\x03"
                    "1")) == "1");
  CHECK(text_of(doc("]q\x07h\x07\x86"s)) == "(#1=[], #1)");
  CHECK(text_of(doc("]r\x00\x00\x00\x01j\x00\x00\x00\x01\x86"s)) == "(#1=[], #1)");
  CHECK(text_of(doc("]p300\ng300\n\x86")) == "(#1=[], #1)");
  CHECK(text_of(doc("\x95" + little(5, 8) + "]\x94h\x00\x86"s, 4)) == "(#1=[], #1)");
  CHECK(text_of(doc("]r\xff\xff\xff\xffj\xff\xff\xff\xff\x86")) == "(#1=[], #1)");
}

TEST_CASE("A LibTorch archive's memo counts up from 0, as LibTorch has a table of it") {
  const auto read = [](const std::string& body) { return error_of(doc(body), PickleDialect::libtorch); };
  CHECK(read("]" + memo('q', 0) + memo('q', 1) + memo('q', 0)).empty());
  CHECK_THAT(read("]" + memo('q', 1)), ContainsSubstring("memo entry 1 found, at most 0 expected"));
  CHECK_THAT(read("]" + memo('q', 0) + "r\xff\xff\xff\xff"), ContainsSubstring("memo entry 4294967295"));
}

TEST_CASE("An object that holds itself is read as such") {
  CHECK(text_of(doc("]q\x00h\x00"
                    "a"s)) == "#1=[#1]");
  CHECK(text_of(doc("}q\x00K\x01h\x00s"s)) == "#1={1: #1}");
  // A tuple in a list in itself: the pickler finds out late, drops the parts, and takes the tuple from the memo.
  CHECK(text_of(doc("]q\x00h\x00\x85q\x01"
                    "a0h\x01"s)) == "#1=([#1],)");
}

TEST_CASE("An equal key keeps its place and gets the new value") {
  const auto last = [](const std::string& a, const std::string& b) {
    return text_of(doc(dict({a, integer(1), str("x"), integer(2), b, integer(3)})));
  };
  CHECK(last(str("k"), str("k")) == "{'k': 3, 'x': 2}");
  CHECK(last(integer(1), number(1)) == "{1: 3, 'x': 2}");
  CHECK(last(integer(1), kTrue) == "{1: 3, 'x': 2}");
  CHECK(last(number(0), number(-0.0)) == "{0.0: 3, 'x': 2}");
  CHECK(last(number(0x1p64), "\x8a\x09" + std::string(8, '\0') + "\x01") == "{18446744073709551616.0: 3, 'x': 2}");
  CHECK(last(number(-0x1p70), "\x8a\x09" + std::string(8, '\0') + "\xc0") == "{-1180591620717411303424.0: 3, 'x': 2}");
  CHECK(last(call("builtins", "complex", {number(2), number(0)}), integer(2)) ==
        "{complex(2.000000, 0.000000): 3, 'x': 2}");
  CHECK(last(integers({1, 2}), tuple({number(1), integer(2)})) == "{(1, 2): 3, 'x': 2}");
  CHECK(last(integers({1, 2}), call("torch", "Size", {integers({1, 2})})) == "{(1, 2): 3, 'x': 2}");
  CHECK(last("(K\x01K\x02\x91", "(K\x02K\x01\x91") == "{frozenset{1, 2}: 3, 'x': 2}");
}

TEST_CASE("An equal key is found in whichever batch it comes") {
  const auto batch = [](std::initializer_list<std::pair<std::string, int>> items) {
    std::string all = "(";
    for (const auto& [key, value] : items) all += str(key) + integer(value);
    return all + "u";
  };
  const auto text = [](const std::string& body) { return GraphText()(*read_graph(doc(body)).root); };
  CHECK(text("}" + batch({{"a", 1}, {"b", 2}}) + batch({{"c", 3}}) + batch({{"d", 4}, {"e", 5}})) ==
        "{'a': 1, 'b': 2, 'c': 3, 'd': 4, 'e': 5}");
  CHECK(text("}" + batch({{"a", 1}, {"b", 2}}) + batch({{"c", 3}, {"a", 4}}) + batch({{"d", 5}, {"c", 6}})) ==
        "{'a': 4, 'b': 2, 'c': 6, 'd': 5}");
  CHECK(text("}" + batch({{"a", 1}}) + batch({{"b", 2}, {"b", 3}}) + batch({{"a", 4}})) == "{'a': 4, 'b': 3}");
  // Keys that another dict had before, in another order.
  CHECK(text("](" + dict({str("x"), integer(1), str("y"), integer(2)}) + "}" + batch({{"y", 3}}) + batch({{"x", 4}}) +
             batch({{"y", 5}, {"z", 6}}) + "e") == "[{'x': 1, 'y': 2}, {'y': 5, 'x': 4, 'z': 6}]");
  // One that is filled, left for another, and filled again.
  CHECK(text("}" + memo('q', 0) + batch({{"a", 1}}) + "0" + dict({str("b"), integer(2)}) + "0" + memo('h', 0) +
             batch({{"b", 3}, {"a", 4}}) + batch({{"c", 5}, {"b", 6}})) == "{'a': 4, 'b': 6, 'c': 5}");
}

TEST_CASE("An equal key is found whenever it comes") {
  CHECK(text_of(doc("}K\x01NsK\x01K\x05s")) == "{1: 5}");
  CHECK(text_of(doc("}(K\x01NK\x02Nu(K\x03NK\x01K\x05u")) == "{1: 5, 2: None, 3: None}");
  CHECK(text_of(doc("}(K\x01NK\x01K\x07u(K\x03Nu(K\x01K\x05u")) == "{1: 5, 3: None}");
  CHECK(text_of(doc("\x8f(K\x02K\x01\x90(K\x03K\x02\x90", 4)) == "set{2, 1, 3}");
}

TEST_CASE("Keys that Python keeps apart stay apart") {
  CHECK(text_of(doc(dict({integer(1), "N", str("1"), "N", latin1_bytes("1"), "N", "N", "N", tuple({integer(1)}), "N",
                          "(K\x01\x91", "N"}))) ==
        "{1: None, '1': None, b'1': None, None: None, (1,): None, frozenset{1}: None}");
  CHECK(text_of(doc(dict({number(0.5), "N", number(-0.5), "N", integer(0), "N"}))) ==
        "{0.5: None, -0.5: None, 0: None}");
  // NaN is not equal to itself, but a container finds the very object again.
  CHECK(text_of(doc(dict({"Fnan\n", "K\x01", "Fnan\n", "K\x02"}))) == "{nan: 1, nan: 2}");
  CHECK(text_of(doc(dict({"Fnan\nq\x01", "K\x01", "h\x01", "K\x02"}))) == "{nan: 2}");
  CHECK(text_of(doc(dict({tensor(), "K\x01", tensor(), "K\x02"}))) == "{a tensor: 1, a tensor: 2}");
}

TEST_CASE("What Python cannot hash is no key") {
  for (const std::string& key : {"]"s, "}"s, "\x8f"s, "\x96" + little(0, 8), "]\x85"s}) {
    CHECK_THAT(error_of(doc("}" + key + "Ns", 5)), ContainsSubstring("could not hash"));
    CHECK_THAT(error_of(doc("\x8f(" + key + "\x90", 5)), ContainsSubstring("could not hash"));
  }
}

TEST_CASE("A shared tuple as a key takes no exponential time") {
  std::string body = ")q" + little(0, 1) + "0";
  for (unsigned char i = 0; i < 200; ++i) {
    body += "h" + little(i, 1) + "h" + little(i, 1) + "\x86q" + little(i + 1u, 1) + "0";
  }
  CHECK(read_graph(doc(body + "}h\xc8Ns")).root->is<ObjectDict>());
}

TEST_CASE("Python 2's names are Python 3's up to protocol 2, and stay as they are from 3 on") {
  CHECK(text_of(doc(global("__builtin__", "xrange"))) == "builtins.range");
  CHECK(text_of(doc(global("copy_reg", "_reconstructor"))) == "copyreg._reconstructor");
  CHECK(text_of(doc(global("__builtin__", "xrange"), 4)) == "__builtin__.xrange");
  CHECK(text_of(doc("\x8c\x02os\x8c\x06system\x93", 4)) == "os.system");
}

TEST_CASE("What calls an unknown global becomes an inert object by every opcode that does") {
  const std::string name = global("m", "C");
  CHECK(text_of(doc(name + "K\x01\x85R")) == "m.C(1,)");
  CHECK(text_of(doc("(K\x01im\nC\n")) == "m.C(1,)");
  CHECK(text_of(doc("(" + name + "K\x01o")) == "m.C(1,)");
  CHECK(text_of(doc(name + ")\x81")) == "new m.C()");
  CHECK(text_of(doc(name + ")}\x92", 4)) == "new_ex m.C()**{}");
  CHECK(text_of(doc(name + ")R)R")) == "m.C()()");
  CHECK(text_of(doc(name + ")R(K\x01K\x02"
                           "e(K\x03Nu(K\x04\x90}b",
                    4)) == "m.C()+[1, 2]+set{4}+{3: None}<-{}");
}

TEST_CASE("Every unknown global is recorded once, wherever it stands") {
  const ObjectGraph graph =
      read_graph(doc(global("m", "A") + "0" + global("m", "B") + ")R" + global("m", "A") + "\x86"));
  REQUIRE(graph.unknown_globals.size() == 2);
  CHECK(graph.unknown_globals[0].name == "m.A");
  CHECK(graph.unknown_globals[0].offset == 2);
  CHECK(graph.unknown_globals[1].name == "m.B");
}

TEST_CASE("The result of an unknown call cannot be dropped, unless the memo has it") {
  const std::string made = global("os", "system") + tuple({str("x")}) + "R";
  CHECK_THAT(error_of(doc(made + "0}")), ContainsSubstring("drops the result of a call of 'os.system'"));
  CHECK_THAT(error_of(doc("(" + made + "1}")), ContainsSubstring("drops the result"));
  CHECK_THAT(error_of(doc(made + "}")), ContainsSubstring("left on the stack"));
  CHECK(text_of(doc(made + "q\x01"
                           "0h\x01")) == "os.system('x',)");
}

TEST_CASE("Reading begins where it is told and says where it ended") {
  const std::string two = "junk" + doc("K\x01") + doc("K\x02") + "behind";
  const ByteSource source = memory_source("f", two.data(), two.size());
  ObjectGraph graph;
  std::uint64_t end = read_pickle(graph, source, {"", PickleDialect::python, 4});
  CHECK(end == 9);
  end = read_pickle(graph, source, {"", PickleDialect::python, end});
  CHECK(end == 14);
  CHECK(*graph.root->get<std::int64_t>() == 2);
}

TEST_CASE("A pickle is read through a window, not loaded with what follows it") {
  std::uint64_t n_read = 0;
  const std::string bytes = doc(str(std::string(300000, 'a')) + str("b") + "\x86");
  const ByteSource source = {"f", std::uint64_t{1} << 40, [&](std::uint64_t offset, void* to, std::size_t n_bytes) {
                               n_read += n_bytes;
                               for (std::size_t i = 0; i < n_bytes; ++i) {
                                 static_cast<char*>(to)[i] = offset + i < bytes.size() ? bytes[offset + i] : '\0';
                               }
                             }};
  ObjectGraph graph;
  CHECK(read_pickle(graph, source, {}) == bytes.size());
  CHECK(n_read < 2000000);
}

TEST_CASE("Objects keep their addresses when the graph moves") {
  ObjectGraph graph = read_graph(doc(list({str("a"), str("b")})));
  const Object* root = graph.root;
  const ObjectGraph moved = std::move(graph);
  CHECK(moved.root == root);
  CHECK(GraphText{}(*moved.root) == "['a', 'b']");
}
