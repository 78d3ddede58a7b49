// SPDX-License-Identifier: Apache-2.0
#include "ckptio/decorators/wrapping_checkpoint_io.h"

#include <torch/torch.h>

#include "ckptio/decorators/async_checkpoint_io.h"
#include "ckptio/formats/torch_checkpoint_io.h"
#include "ckptio/state.h"
#include "gated_io.h"

namespace ckptio::test {
namespace {

using Lines = std::vector<std::string>;

// A plugin that tells that async_save_checkpoint was what it was asked for.
class OwnAsyncIO : public GatedIO {
 public:
  SaveFuture async_save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                                   const std::optional<Dict>& storage_options) override {
    ++n_async;
    return GatedIO::async_save_checkpoint(checkpoint, path, storage_options);
  }
  bool saves_asynchronously() const override { return true; }
  int n_async = 0;
};

TEST_CASE("A wrapper passes on every call, with all that is given", "[decorators]") {
  const auto inner = std::make_shared<GatedIO>();
  WrappingCheckpointIO io(inner);
  io.save_checkpoint({{"epoch", 1}}, "a", Dict{{"level", 9}});
  State state;
  CHECK(io.load_checkpoint("a", {.state = &state})->at("epoch") == 1);
  io.remove_checkpoint("a");
  CHECK_THROWS_AS(io.load_checkpoint("a"), NotFoundError);
  const auto w = torch::zeros({4});
  const SaveFuture save = io.async_save_checkpoint({{"w", List{w, w[1]}}}, "b", Dict{{"level", 8}});
  CHECK(save.is_ready());
  CHECK(save.path() == "b");
  CHECK(save.timing().n_bytes == 16);
  io.teardown();
  CHECK(inner->log() == Lines{"save a with {'level': 9}", "load a with state", "remove a", "load a",
                              "save b with {'level': 8}", "teardown"});
}

TEST_CASE("A wrapper has the capabilities of what it wraps", "[decorators]") {
  const auto inner = std::make_shared<OwnAsyncIO>();
  const WrappingCheckpointIO io(std::make_shared<WrappingCheckpointIO>(inner));
  CHECK_FALSE(io.requires_state_on_load());
  CHECK(io.saves_asynchronously());
  inner->needs_state = true;
  CHECK(io.requires_state_on_load());
  CHECK_FALSE(WrappingCheckpointIO(std::make_shared<GatedIO>()).saves_asynchronously());
  CHECK(AsyncCheckpointIO(inner).requires_state_on_load());
}

TEST_CASE("A wrapper without a plugin says so, whatever is called", "[decorators]") {
  WrappingCheckpointIO io;
  CHECK_FALSE(io.is_configured());
  CHECK(io.checkpoint_io() == nullptr);
  CHECK_THROWS_AS(io.save_checkpoint({}, "a"), MisconfigurationError);
  CHECK_THROWS_AS(io.async_save_checkpoint({}, "a"), MisconfigurationError);
  CHECK_THROWS_AS(io.load_checkpoint("a"), MisconfigurationError);
  CHECK_THROWS_AS(io.remove_checkpoint("a"), MisconfigurationError);
  CHECK_THROWS_AS(io.requires_state_on_load(), MisconfigurationError);
  CHECK_THROWS_AS(io.saves_asynchronously(), MisconfigurationError);
  CHECK_NOTHROW(io.teardown());
  AsyncCheckpointIO async;
  CHECK_THROWS_WITH(async.save_checkpoint({}, "a"), ContainsSubstring("AsyncCheckpointIO wraps no CheckpointIO"));
  CHECK_THROWS_AS(async.load_checkpoint("a"), MisconfigurationError);
  CHECK_THROWS_AS(async.remove_checkpoint("a"), MisconfigurationError);
  CHECK_NOTHROW(async.teardown());
}

TEST_CASE("A wrapper that has a plugin keeps it, however deep it is", "[decorators]") {
  const auto torch = std::make_shared<TorchCheckpointIO>();
  const auto inner = std::make_shared<AsyncCheckpointIO>(torch);
  AsyncCheckpointIO outer(inner);
  CHECK(outer.is_configured());
  outer.set_checkpoint_io(std::make_shared<GatedIO>());
  CHECK(outer.checkpoint_io() == inner);
  CHECK(inner->checkpoint_io() == torch);
}

TEST_CASE("A wrapper around a wrapper without a plugin gives that one its own", "[decorators]") {
  const auto inner = std::make_shared<AsyncCheckpointIO>();
  AsyncCheckpointIO outer(inner);
  CHECK_FALSE(outer.is_configured());
  const auto torch = std::make_shared<TorchCheckpointIO>();
  outer.set_checkpoint_io(torch);
  CHECK(outer.checkpoint_io() == inner);
  CHECK(inner->checkpoint_io() == torch);
  CHECK(outer.is_configured());
  CHECK(inner->is_configured());
}

TEST_CASE("A wrapper is not given another wrapper, nor nothing", "[decorators]") {
  WrappingCheckpointIO io;
  CHECK_THROWS_AS(io.set_checkpoint_io(std::make_shared<AsyncCheckpointIO>()), TypeError);
  CHECK_THROWS_AS(io.set_checkpoint_io(nullptr), ValueError);
  CHECK_THROWS_AS(WrappingCheckpointIO(nullptr), ValueError);
  CHECK_THROWS_AS(AsyncCheckpointIO(nullptr), ValueError);
  CHECK_FALSE(io.is_configured());
}

class Doubling : public WrappingCheckpointIO {
 public:
  using WrappingCheckpointIO::WrappingCheckpointIO;
  void save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                       const std::optional<Dict>& storage_options) override {
    Checkpoint more = checkpoint;
    more["by"] = "Doubling";
    WrappingCheckpointIO::save_checkpoint(more, path, storage_options);
    WrappingCheckpointIO::save_checkpoint(more, path + ".copy", storage_options);
  }
};

TEST_CASE("A subclass that overrides save_checkpoint alone sees asynchronous saves too", "[decorators]") {
  const auto plain = std::make_shared<GatedIO>();
  Doubling(plain).async_save_checkpoint({}, "a").wait();
  CHECK(plain->log() == Lines{"save a", "save a.copy"});
  CHECK(plain->saved.at("a").at("by") == "Doubling");

  const auto asynchronous = std::make_shared<OwnAsyncIO>();
  Doubling io(std::make_shared<WrappingCheckpointIO>(asynchronous));
  const SaveFuture save = io.async_save_checkpoint({}, "a");
  CHECK(save.path() == "a.copy");
  CHECK(asynchronous->n_async == 2);
  io.save_checkpoint({}, "b", std::nullopt);
  CHECK(asynchronous->n_async == 2);
}

TEST_CASE("Errors come through a wrapper as they are", "[decorators]") {
  const auto inner = std::make_shared<GatedIO>();
  WrappingCheckpointIO io(std::make_shared<WrappingCheckpointIO>(inner));
  inner->on_save = [] { throw IoError("no space", ENOSPC); };
  CHECK_THROWS_AS(io.save_checkpoint({}, "a"), IoError);
  CHECK_THROWS_AS(io.async_save_checkpoint({}, "a"), IoError);
  inner->on_save = nullptr;
  CHECK_NOTHROW(io.async_save_checkpoint({}, "a").wait());
  CHECK_NOTHROW(io.hand_over_checkpoint({}, "a").wait());
}

}  // namespace
}  // namespace ckptio::test
