// SPDX-License-Identifier: Apache-2.0
#include "ckptio/trainer/plugin_registry.h"

#include <thread>

#include "small_run.h"
#include "support/catch.h"

namespace ckptio::test {
namespace {

TEST_CASE("A plugin registered by name can be made by name", "[trainer]") {
  register_plugin("registry_test.mine", [] { return std::make_shared<CountingIO>(); });
  CHECK(dynamic_cast<CountingIO*>(make_plugin("registry_test.mine").get()) != nullptr);
  CHECK(make_plugin("registry_test.mine") != make_plugin("registry_test.mine"));
  const Trainer trainer({.plugins = {"registry_test.mine"}});
  CHECK(dynamic_cast<CountingIO*>(&trainer.checkpoint_io()) != nullptr);
}

TEST_CASE("The plugin named torch is built in", "[trainer]") {
  const Trainer trainer({.plugins = {"torch"}});
  CHECK(dynamic_cast<TorchCheckpointIO*>(&trainer.checkpoint_io()) != nullptr);
}

TEST_CASE("An unknown plugin name is an error that lists the known ones", "[trainer]") {
  CHECK_THROWS_AS(make_plugin("tensorflow"), NotFoundError);
  CHECK_THROWS_WITH(Trainer({.plugins = {"tensorflow"}}),
                    ContainsSubstring("'tensorflow'") && ContainsSubstring("torch"));
}

TEST_CASE("A plugin name is given once", "[trainer]") {
  CHECK_THROWS_AS(register_plugin("torch", [] { return std::make_shared<CountingIO>(); }), ValueError);
  CHECK_THROWS_AS(register_plugin("", [] { return std::make_shared<CountingIO>(); }), ValueError);
  CHECK_THROWS_AS(register_plugin("registry_test.empty", nullptr), ValueError);
}

TEST_CASE("A null pointer is no plugin", "[trainer]") {
  CHECK_THROWS_WITH(Plugin(std::shared_ptr<CountingIO>()), ContainsSubstring("null pointer"));
  CHECK_THROWS_AS(Trainer({.plugins = {nullptr}}), TypeError);
  register_plugin("registry_test.null", []() -> std::shared_ptr<CheckpointIO> { return nullptr; });
  CHECK_THROWS_AS(make_plugin("registry_test.null"), TypeError);
}

TEST_CASE("Two plugins are one too many", "[trainer]") {
  const auto io = std::make_shared<CountingIO>();
  const std::string message =
      "Received multiple values for CheckpointIO flags in `plugins`. Expected one value for each type at most.";
  CHECK_THROWS_AS(Trainer({.plugins = {io, io}}), MisconfigurationError);
  CHECK_THROWS_WITH(Trainer({.plugins = {io, std::make_shared<InPlaceIO>()}}), message);
  CHECK_THROWS_WITH(Trainer({.plugins = {"torch", "torch"}}), message);
}

TEST_CASE("Plugins can be registered and made from several threads", "[trainer]") {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([i] {
      for (int j = 0; j < 50; ++j) {
        const std::string name = "registry_test." + std::to_string(i) + "." + std::to_string(j);
        register_plugin(name, [] { return std::make_shared<TorchCheckpointIO>(); });
        make_plugin(name);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(plugin_names().size() >= 200);
}

}  // namespace
}  // namespace ckptio::test
