// SPDX-License-Identifier: Apache-2.0
#include "ckptio/rng_state.h"

#include <torch/torch.h>

#include "state_helpers.h"
#include "support/catch.h"

using namespace ckptio;
using state_test::clone;

TEST_CASE("A restored RNG state gives the same numbers again", "[state][rng]") {
  torch::manual_seed(3);
  torch::randn({7});  // leaves half of a pair of normal numbers behind
  RngState rng;
  const Dict state = rng.state_dict();
  const torch::Tensor first = torch::randn({100});
  const torch::Tensor second = torch::randperm(50);
  torch::manual_seed(4);
  rng.load_state_dict(state);
  CHECK(torch::equal(torch::randn({100}), first));
  CHECK(torch::equal(torch::randperm(50), second));
}

TEST_CASE("Saving the RNG state does not advance it", "[state][rng]") {
  RngState rng;
  torch::manual_seed(5);
  const torch::Tensor expected = torch::rand({3});
  torch::manual_seed(5);
  const Dict state = rng.state_dict();
  CHECK(Value(rng.state_dict()) == Value(state));
  CHECK(torch::equal(torch::rand({3}), expected));
  CHECK(state.at("cpu").as<at::Tensor>().scalar_type() == torch::kByte);
  CHECK(state.at("cpu").as<at::Tensor>().sizes() == at::IntArrayRef{5056});
  CHECK(state.contains("cuda") == torch::cuda::is_available());
}

TEST_CASE("An RNG state that does not fit is refused and changes nothing", "[state][rng]") {
  RngState rng;
  torch::manual_seed(6);
  const Dict before = rng.state_dict();
  const at::Tensor good = before.at("cpu").as<at::Tensor>();
  const at::Tensor garbage = torch::full({5056}, 255, torch::kByte);
  for (const Value& bad : {Value(torch::zeros({16}, torch::kByte)), Value(good.to(torch::kInt)), Value("seed"),
                           Value(at::Tensor()), Value(good.view({2, -1})), Value(garbage)}) {
    INFO(bad);
    CHECK_THROWS_AS(rng.load_state_dict({{"cpu", bad}}), MismatchError);
  }
  CHECK_THROWS_AS(rng.load_state_dict(Dict{}), MismatchError);
  CHECK_THROWS_AS(rng.load_state_dict({{"cpu", good}, {"cuda", 1}}), MismatchError);
  CHECK_THROWS_AS(rng.load_state_dict({{"cpu", good}, {"numpy", 1}}), MismatchError);
  CHECK(Value(rng.state_dict()) == Value(before));
}

TEST_CASE("An RNG state may be non-contiguous, and hold CUDA devices that are not here", "[state][rng]") {
  if (torch::cuda::is_available()) return;
  RngState rng;
  torch::manual_seed(7);
  const Dict before = clone(rng.state_dict());
  torch::manual_seed(8);
  const at::Tensor strided = torch::stack({before.at("cpu").as<at::Tensor>(), torch::zeros({5056}, torch::kByte)}, 1);
  rng.load_state_dict({{"cpu", strided.select(1, 0)}, {"cuda", List{torch::zeros({16}, torch::kByte)}}});
  CHECK(Value(rng.state_dict()) == Value(before));
}
