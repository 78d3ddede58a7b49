// SPDX-License-Identifier: Apache-2.0
// Tensors as picklers write them are read as a whole (codec/plain_tensor.h); with one opcode more, that changes
// nothing, they are read opcode by opcode. Both must give the same, errors too.
#include <string>
#include <utility>
#include <vector>

#include "read_pickle_text.h"
#include "support/catch.h"
#include "support/pickle_assembler.h"

using namespace ckptio;
using namespace ckptio::detail;
using namespace ckptio::test;
using namespace ckptio::test::pickle;

namespace {

struct Call {
  std::string key = "1";
  std::string n_elements = integer(4);
  std::string offset = integer(0);
  std::string sizes = integer(4) + "\x85";
  std::string strides = integer(1) + "\x85";
  std::string requires_grad = kFalse;
  std::string location = "cpu";
  std::string storage_class = global("torch", "FloatStorage");
  std::string hooks_class = global("collections", "OrderedDict");
};

// A list of what is used again, then the tensor. `more` stands behind the storage's key.
std::string document(const Call& call, const std::string& more) {
  const std::string used_again = global("torch._utils", "_rebuild_tensor_v2") + memo('q', 0) + str("storage") +
                                 memo('q', 1) + call.storage_class + memo('q', 2) + str(call.location) + memo('q', 3) +
                                 call.hooks_class + memo('q', 4) + storage("FloatStorage", "0", 4);
  const std::string tensor = memo('h', 0) + "((" + memo('h', 1) + memo('h', 2) + str(call.key) + more + memo('h', 3) +
                             call.n_elements + "tQ" + call.offset + call.sizes + call.strides + call.requires_grad +
                             memo('h', 4) + ")RtR";
  return doc("](" + used_again + tensor + "e");
}

const std::string kNothing, kPutAndForget = memo('q', 9);

const ObjectTensor& tensor_in(const ObjectGraph& graph) {
  const Object* last = graph.root->get<ObjectList>()->items.back();
  REQUIRE(last->is<ObjectTensor>());
  return *last->get<ObjectTensor>();
}

// What an error says behind the byte, and which byte.
std::pair<std::string, int> told(const std::string& error) {
  const std::size_t at = error.find(" at byte ") + 9;
  return {error.substr(error.find(':', at)), std::stoi(error.substr(at))};
}

}  // namespace

TEST_CASE("A tensor read as a whole is the one read opcode by opcode") {
  Call call;
  SECTION("of one dimension") {}
  SECTION("of none") { call.sizes = call.strides = ")"; }
  SECTION("of two") {
    call.sizes = integer(2) + integer(2) + "\x86";
    call.strides = integer(1) + integer(2) + "\x86";
  }
  SECTION("of three") {
    call.sizes = integer(1) + integer(2) + integer(2) + "\x87";
    call.strides = integer(4) + integer(2) + integer(1) + "\x87";
  }
  SECTION("of four") {
    call.sizes = integers({1, 1, 2, 2});
    call.strides = integers({4, 4, 2, 1});
  }
  SECTION("of more than are read so") {
    call.sizes = integers({1, 1, 1, 1, 1, 1, 1, 1, 4});
    call.strides = integers({4, 4, 4, 4, 4, 4, 4, 4, 1});
  }
  SECTION("without elements") { call.sizes = integer(0) + "\x85"; }
  SECTION("a view that needs a gradient") {
    call.offset = integer(1);
    call.sizes = integer(2) + "\x85";
    call.requires_grad = kTrue;
  }
  SECTION("numbers of other sizes") {
    call.n_elements = "M" + little(700, 2);
    call.offset = "J" + little(600, 4);
  }
  SECTION("of a storage that is known") { call.key = "0"; }
  SECTION("saved elsewhere") { call.location = "cuda:3"; }

  const ObjectGraph whole = read_graph(document(call, kNothing));
  const ObjectGraph by_opcode = read_graph(document(call, kPutAndForget));
  const ObjectTensor& a = tensor_in(whole);
  const ObjectTensor& b = tensor_in(by_opcode);
  CHECK(a.form == b.form);
  CHECK(a.dtype == b.dtype);
  CHECK(a.sizes == b.sizes);
  CHECK(a.strides == b.strides);
  CHECK(a.offset == b.offset);
  CHECK(a.storage == b.storage);
  CHECK(a.requires_grad == b.requires_grad);
  CHECK(a.backward_hooks == nullptr);
  REQUIRE(whole.storages.size() == by_opcode.storages.size());
  for (std::size_t i = 0; i < whole.storages.size(); ++i) {
    CHECK(whole.storages[i].key == by_opcode.storages[i].key);
    CHECK(whole.storages[i].location == by_opcode.storages[i].location);
    CHECK(whole.storages[i].n_bytes == by_opcode.storages[i].n_bytes);
  }
}

TEST_CASE("A tensor read as a whole makes fewer objects") {
  CHECK(read_graph(document({}, kNothing)).objects.size() + 5 < read_graph(document({}, kPutAndForget)).objects.size());
}

TEST_CASE("What is wrong with a tensor is told in the same words however it is read") {
  Call call;
  SECTION("a storage too small") { call.n_elements = integer(3); }
  SECTION("a storage that is known otherwise") {
    call.key = "0";
    call.n_elements = integer(5);
  }
  SECTION("strides for fewer dimensions") { call.strides = ")"; }
  SECTION("a tuple of other length") { call.sizes = integer(2) + integer(2) + "\x85"; }
  SECTION("a negative size") { call.sizes = "J" + little(0xFFFFFFFF, 4) + "\x85"; }
  SECTION("a key with a folder above") { call.key = "../0"; }
  SECTION("no key") { call.key = ""; }
  SECTION("a location of any length") { call.location = std::string(300, 'c'); }
  SECTION("a class that is none of a storage") { call.storage_class = global("torch", "Size"); }
  SECTION("an untyped storage") { call.storage_class = global("torch.storage", "UntypedStorage"); }
  SECTION("a quantized type without a scale") { call.storage_class = global("torch", "QInt8Storage"); }
  SECTION("other hooks") { call.hooks_class = global("torch", "Size"); }

  const auto [whole, whole_at] = told(error_of(document(call, kNothing)));
  const auto [by_opcode, by_opcode_at] = told(error_of(document(call, kPutAndForget)));
  CHECK(whole == by_opcode);
  CHECK(whole_at + static_cast<int>(kPutAndForget.size()) == by_opcode_at);
}

TEST_CASE("A tensor that ends early is damaged however it is read") {
  const std::string all = document({}, kNothing);
  for (std::size_t n = all.size() - 60; n < all.size(); ++n) CHECK_FALSE(error_of(all.substr(0, n)).empty());
}
