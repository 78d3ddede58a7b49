// SPDX-License-Identifier: Apache-2.0
#include "decorators/snapshot.h"

#include <torch/torch.h>

#include "support/catch.h"

namespace ckptio::test {
namespace {

using detail::Snapshot;

struct Stager {
  std::shared_ptr<detail::StagingMemory> memory = std::make_shared<detail::StagingMemory>(1);
  std::shared_ptr<detail::StagingMemory> pinned = std::make_shared<detail::StagingMemory>(1);
  detail::WorkerPool pool{1};
  void survey(Snapshot& snapshot) { snapshot.survey(*pinned); }
  void operator()(Snapshot& snapshot) { snapshot.stage(*memory, pool); }
};

TEST_CASE("A tensor that is changed before it is staged is an error that names it", "[decorators]") {
  auto a = torch::zeros({3}), b = torch::zeros({3}), sparse = torch::eye(2).to_sparse();
  const Checkpoint checkpoint{{"state_dict", Dict{{"a", a}, {"b", List{1, b.detach()}}}}, {"sparse", sparse}};
  const std::string expected = GENERATE(as<std::string>(), "", "checkpoint['state_dict']['a']",
                                        "checkpoint['state_dict']['b'][1]", "checkpoint['sparse']");
  Snapshot snapshot(checkpoint, "run/last.ckpt");
  Stager stage;
  stage.survey(snapshot);
  const at::NoGradGuard no_grad;  // as optimizers step
  if (expected.ends_with("['a']")) a.add_(1);
  if (expected.ends_with("[1]")) b.copy_(a);
  if (expected.ends_with("['sparse']")) sparse.mul_(2);
  if (expected.empty()) {
    CHECK_NOTHROW(stage(snapshot));
  } else {
    CHECK_THROWS_AS(stage(snapshot), ValueError);
    CHECK_THROWS_WITH(stage(snapshot), ContainsSubstring("cannot save 'run/last.ckpt': " + expected + " was changed"));
  }
}

TEST_CASE("A tensor may change once it is staged, before the copies are put together", "[decorators]") {
  auto w = torch::zeros({3});
  Snapshot snapshot({{"w", w}}, "a");
  Stager stage;
  stage.survey(snapshot);
  stage(snapshot);
  w.add_(1);
  w.resize_({7});
  snapshot.settle();
  CHECK(snapshot.checkpoint().at("w") == Value(torch::zeros({3})));
  CHECK(snapshot.n_bytes() == 12);
}

TEST_CASE("A snapshot lets go of what it was made of", "[decorators]") {
  auto w = torch::zeros({3});
  Snapshot snapshot({{"w", w}, {"view", w[0]}}, "a");
  Stager stage;
  stage.survey(snapshot);
  stage(snapshot);
  snapshot.settle();
  CHECK(w.use_count() == 1);
  CHECK(w.storage().use_count() == 1);
}

TEST_CASE("The memory for a snapshot counts each storage once", "[decorators]") {
  const auto w = torch::zeros({1000});
  CHECK(detail::staging_bytes({{"w", w}, {"view", List{w[0]}}, {"other", Tuple{torch::zeros({16})}}}).mapped ==
        4032 + 64);
  CHECK(detail::staging_bytes({}).mapped == 0);
}

}  // namespace
}  // namespace ckptio::test
