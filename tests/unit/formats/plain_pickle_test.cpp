// SPDX-License-Identifier: Apache-2.0
#include "formats/plain_pickle.h"

#include <torch/torch.h>

#include <random>

#include "codec/pickle_writer.h"
#include "formats/value_to_object.h"
#include "support/catch.h"
#include "support/random_seed.h"

namespace ckptio::test {
namespace {

using detail::PlainPickle;
using detail::write_plain_pickle;

// The pickle by way of objects, and the storages in the order of its keys.
struct ByObjects {
  std::string bytes;
  std::vector<const c10::StorageImpl*> storages;
};

ByObjects by_objects(const Value& value) {
  detail::ObjectBuilder builder;
  const detail::Object* root = builder.add(value);
  builder.finish();
  detail::WrittenPickle pickle = detail::write_pickle(builder.graph(), *root);
  ByObjects result{std::move(pickle.bytes), {}};
  for (const std::uint32_t i : pickle.storage_order) {
    result.storages.push_back(builder.storages()[i].unsafeGetStorageImpl());
  }
  return result;
}

void check_same(const Value& value) {
  const ByObjects expected = by_objects(value);
  const std::optional<PlainPickle> found = write_plain_pickle(value);
  REQUIRE(found);
  CHECK((found->bytes == expected.bytes));
  std::vector<const c10::StorageImpl*> storages;
  for (const auto& saved : found->storages) {
    storages.push_back(saved.storage->unsafeGetStorageImpl());
    CHECK(saved.n_bytes == saved.storage->nbytes());
    CHECK(saved.data == saved.storage->data());
  }
  CHECK(storages == expected.storages);
}

List numbers(std::int64_t n) {
  List list;
  for (std::int64_t i = 0; i < n; ++i) list.push_back(i * i * i * i - 5);
  return list;
}

TEST_CASE("Plain values are pickled as by way of objects", "[python]") {
  check_same(nullptr);
  check_same(Dict{});
  check_same(List{true, false, 0, 255, 256, 65536, -1, INT64_MIN, INT64_MAX, 0.5, std::complex<double>(1, -2)});
  check_same(List{"", "a", "größe", std::string(300, 'x'), Bytes("\x00\xff"), Bytes()});
  check_same(Tuple{});
  check_same(List{Tuple{1}, Tuple{1, 2}, Tuple{1, 2, 3}, Tuple{1, 2, 3, 4}, Tuple::make_size({}),
                  Tuple::make_size({2, 3}), Tuple::make_size({1, 2, 3, 4, 5})});
  const std::int64_t n = GENERATE(0, 1, 2, 999, 1000, 1001, 2000, 2001);
  check_same(numbers(n));
  Dict dict;
  for (std::int64_t i = 0; i < n; ++i) dict[i % 2 == 0 ? Value(i) : Value(std::to_string(i))] = numbers(i % 3);
  check_same(dict);
}

TEST_CASE("Dictionaries of other types are pickled as by way of objects", "[python]") {
  Dict ordered{{"a", 1}};
  ordered.set_type(DictType::ordered_dict);
  check_same(ordered);
  ordered.attributes()["_metadata"] = Dict{{"", Dict{{"version", 1}}}, {"a", Dict{{"version", 1}}}};
  Dict counter{{"x", 3}};
  counter.set_type(DictType::counter);
  check_same(List{ordered, counter, ordered});
}

TEST_CASE("Text that comes again is pickled as by way of objects", "[python]") {
  check_same(List{"a", "a", "storage", "cpu", "storage", torch::ones({2}), "cpu", "OrderedDict"});
  check_same(Dict{{"storage", torch::ones({2})}, {"cpu", Dict{{"storage", "cpu"}}}});
}

TEST_CASE("Tensors are pickled as by way of objects", "[python]") {
  const auto w = torch::rand({4, 5, 6});
  const auto grad = torch::ones({3}).requires_grad_();
  const auto complex = torch::ones({3}, torch::kComplexFloat);
  check_same(Dict{{"w", w}, {"view", w[1].t()}, {"again", w}, {"alias", w.detach()}, {"grad", grad}});
  check_same(List{torch::tensor(1), torch::empty({0}), torch::empty({2, 0}), complex, complex.conj()});
  check_same(List{torch::imag(complex.conj()), torch::ones({1}, torch::kBFloat16), torch::ones({2}, torch::kBool)});
  check_same(List{torch::ones({3}, torch::kUInt16), torch::ones({3}, torch::kFloat8_e4m3fn)});
  check_same(List{w, w.view(torch::kInt), torch::ones({8}, torch::kByte).slice(0, 0, 4).view(torch::kFloat)});
  check_same(List{w.view(torch::kInt), torch::ones({4}, torch::kUInt16), w});
}

TEST_CASE("What is not plain goes by way of objects", "[python]") {
  CHECK_FALSE(write_plain_pickle(Value(Set{1})));
  CHECK_FALSE(write_plain_pickle(List{1, torch::eye(2).to_sparse()}));
  CHECK_FALSE(write_plain_pickle(torch::ones({2}, torch::kMeta)));
  CHECK_FALSE(write_plain_pickle(Dict{{"type", torch::kFloat}}));
  Value deep;
  for (int i = 0; i < 1001; ++i) deep = List{std::move(deep)};
  CHECK_FALSE(write_plain_pickle(deep));
}

Value random_value(std::mt19937& random, const std::vector<at::Tensor>& tensors, int depth) {
  const auto below = [&](unsigned n) { return random() % n; };
  const auto text = [&] { return std::string(below(3), 'a') + std::to_string(below(5)); };
  switch (below(depth > 0 ? 9 : 5)) {
    case 0:
      return static_cast<std::int64_t>(random()) - (std::int64_t{1} << 31);
    case 1:
      return text();
    case 2:
      return below(2) == 0;
    case 3:
    case 4:
      return tensors[below(static_cast<unsigned>(tensors.size()))];
    case 5:
    case 6: {
      List list;
      for (unsigned n = below(6); n > 0; --n) list.push_back(random_value(random, tensors, depth - 1));
      if (below(2) == 0) return list;
      return Tuple(list.begin(), list.end());
    }
    default: {
      Dict dict;
      for (unsigned n = below(6); n > 0; --n) dict[text()] = random_value(random, tensors, depth - 1);
      if (below(3) == 0) dict.set_type(DictType::ordered_dict);
      return dict;
    }
  }
}

TEST_CASE("Whatever is plain is pickled as by way of objects", "[python]") {
  std::mt19937 random(random_seed());
  const auto a = torch::rand({6}), b = torch::ones({2, 3}, torch::kLong);
  const std::vector<at::Tensor> tensors = {a, a[1], a.view(torch::kInt), b, b.t(), torch::ones({2}), torch::zeros({2})};
  for (int i = 0; i < 300; ++i) check_same(random_value(random, tensors, 5));
}

}  // namespace
}  // namespace ckptio::test
