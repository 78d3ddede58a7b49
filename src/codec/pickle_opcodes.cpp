// SPDX-License-Identifier: Apache-2.0
#include "codec/pickle_opcodes.h"

#include <array>

namespace ckptio::detail {
namespace {

struct OpcodeName {
  Op op;
  const char* name;
};

constexpr OpcodeName kNames[] = {
    {Op::mark, "MARK"},
    {Op::stop, "STOP"},
    {Op::pop, "POP"},
    {Op::pop_mark, "POP_MARK"},
    {Op::dup, "DUP"},
    {Op::float_, "FLOAT"},
    {Op::int_, "INT"},
    {Op::binint, "BININT"},
    {Op::binint1, "BININT1"},
    {Op::long_, "LONG"},
    {Op::binint2, "BININT2"},
    {Op::none, "NONE"},
    {Op::persid, "PERSID"},
    {Op::binpersid, "BINPERSID"},
    {Op::reduce, "REDUCE"},
    {Op::string, "STRING"},
    {Op::binstring, "BINSTRING"},
    {Op::short_binstring, "SHORT_BINSTRING"},
    {Op::unicode, "UNICODE"},
    {Op::binunicode, "BINUNICODE"},
    {Op::append, "APPEND"},
    {Op::build, "BUILD"},
    {Op::global, "GLOBAL"},
    {Op::dict, "DICT"},
    {Op::empty_dict, "EMPTY_DICT"},
    {Op::appends, "APPENDS"},
    {Op::get, "GET"},
    {Op::binget, "BINGET"},
    {Op::inst, "INST"},
    {Op::long_binget, "LONG_BINGET"},
    {Op::list, "LIST"},
    {Op::empty_list, "EMPTY_LIST"},
    {Op::obj, "OBJ"},
    {Op::put, "PUT"},
    {Op::binput, "BINPUT"},
    {Op::long_binput, "LONG_BINPUT"},
    {Op::setitem, "SETITEM"},
    {Op::tuple, "TUPLE"},
    {Op::empty_tuple, "EMPTY_TUPLE"},
    {Op::setitems, "SETITEMS"},
    {Op::binfloat, "BINFLOAT"},
    {Op::binbytes, "BINBYTES"},
    {Op::short_binbytes, "SHORT_BINBYTES"},
    {Op::proto, "PROTO"},
    {Op::newobj, "NEWOBJ"},
    {Op::ext1, "EXT1"},
    {Op::ext2, "EXT2"},
    {Op::ext4, "EXT4"},
    {Op::tuple1, "TUPLE1"},
    {Op::tuple2, "TUPLE2"},
    {Op::tuple3, "TUPLE3"},
    {Op::newtrue, "NEWTRUE"},
    {Op::newfalse, "NEWFALSE"},
    {Op::long1, "LONG1"},
    {Op::long4, "LONG4"},
    {Op::short_binunicode, "SHORT_BINUNICODE"},
    {Op::binunicode8, "BINUNICODE8"},
    {Op::binbytes8, "BINBYTES8"},
    {Op::empty_set, "EMPTY_SET"},
    {Op::additems, "ADDITEMS"},
    {Op::frozenset, "FROZENSET"},
    {Op::newobj_ex, "NEWOBJ_EX"},
    {Op::stack_global, "STACK_GLOBAL"},
    {Op::memoize, "MEMOIZE"},
    {Op::frame, "FRAME"},
    {Op::bytearray8, "BYTEARRAY8"},
    {Op::next_buffer, "NEXT_BUFFER"},
    {Op::readonly_buffer, "READONLY_BUFFER"},
};

constexpr std::array<const char*, 256> make_table() {
  std::array<const char*, 256> table{};
  for (const OpcodeName& entry : kNames) table[static_cast<std::uint8_t>(entry.op)] = entry.name;
  return table;
}
constexpr std::array<const char*, 256> kTable = make_table();

}  // namespace

const char* opcode_name(std::uint8_t opcode) { return kTable[opcode]; }

}  // namespace ckptio::detail
