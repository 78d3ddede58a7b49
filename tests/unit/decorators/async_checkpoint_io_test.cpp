// SPDX-License-Identifier: Apache-2.0
#include "ckptio/decorators/async_checkpoint_io.h"

#include <torch/torch.h>

#include <algorithm>
#include <numeric>
#include <set>
#include <thread>

#include "ckptio/formats/python_checkpoint_io.h"
#include "ckptio/formats/torch_checkpoint_io.h"
#include "ckptio/storage/memory_storage.h"
#include "gated_io.h"
#include "support/captured_stderr.h"
#include "support/random_seed.h"
#include "support/temp_folder.h"

namespace ckptio::test {
namespace {

using Lines = std::vector<std::string>;

struct Async {
  std::shared_ptr<GatedIO> inner = std::make_shared<GatedIO>();
  AsyncCheckpointIO io;
  explicit Async(AsyncCheckpointIOOptions options = {}) : io(inner, options) {}

  // A save that fails in the background before the next call.
  void save_failing(std::function<void()> failure) {
    io.remove_checkpoint("nothing");  // waits for what is pending
    inner->on_save = std::move(failure);
    const SaveFuture save = io.async_save_checkpoint({}, "failing");
    while (!save.is_ready()) std::this_thread::yield();
    inner->on_save = nullptr;
  }
};

[[noreturn]] void fail_full() { throw IoError("disk full", ENOSPC); }

struct OwnError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

TEST_CASE("What is saved is what was there when the save was called", "[decorators]") {
  const TempFolder folder;
  auto w = torch::zeros({3});
  AsyncCheckpointIO io(std::make_shared<TorchCheckpointIO>());
  io.save_checkpoint({{"w", w}}, folder / "a.ckpt");
  w += 1;
  io.teardown();
  CHECK(TorchCheckpointIO().load_checkpoint(folder / "a.ckpt")->at("w").as<at::Tensor>().equal(torch::zeros({3})));
}

TEST_CASE("Nothing done after a save to tensors, aliases or containers is seen in it", "[decorators]") {
  const std::size_t n_staging_threads = GENERATE(1, 3);
  Async async({.n_staging_threads = n_staging_threads});
  async.inner->gate.close();
  auto base = torch::arange(6, torch::kFloat);
  auto grown = torch::ones({2}), turned = torch::ones({2, 3}), swapped = torch::ones({2}),
       large = torch::ones({3 << 20});
  Checkpoint checkpoint{{"base", base},           {"row", base.view({2, 3})[1]},
                        {"grown", grown},         {"turned", turned},
                        {"swapped", swapped},     {"large", large},
                        {"list", List{1, base}},  {"tuple", Tuple{base, "x"}},
                        {"dict", Dict{{"x", 1}}}, {"storage", TypedStorage{base.storage(), torch::kFloat}}};
  async.io.save_checkpoint(checkpoint, "a");
  base.add_(100);
  base.data_ptr<float>()[0] = -1;
  grown.resize_({5});
  turned.t_();
  swapped.set_data(torch::zeros({7}));
  large.zero_();
  checkpoint["list"].mutable_as<List>().push_back(2);
  checkpoint["dict"]["x"] = 2;
  checkpoint["more"] = true;
  checkpoint.erase("tuple");
  async.inner->gate.open();
  async.io.teardown();
  const Checkpoint& saved = async.inner->saved.at("a");
  const auto expected = torch::arange(6, torch::kFloat);
  CHECK(saved.at("base") == Value(expected));
  CHECK(saved.at("row") == Value(expected.view({2, 3})[1]));
  CHECK(saved.at("grown") == Value(torch::ones({2})));
  CHECK(saved.at("turned") == Value(torch::ones({2, 3})));
  CHECK(saved.at("swapped") == Value(torch::ones({2})));
  CHECK(saved.at("large") == Value(torch::ones({3 << 20})));
  CHECK(saved.at("list") == Value(List{1, expected}));
  CHECK(saved.at("tuple") == Value(Tuple{expected, "x"}));
  CHECK(saved.at("dict") == Value(Dict{{"x", 1}}));
  CHECK(saved.at("storage") == Value(TypedStorage{expected.storage(), torch::kFloat}));
  CHECK(saved.size() == 10);
}

// All kinds of values, with tensors that share storages in many ways.
Checkpoint everything() {
  const auto base = torch::arange(24, torch::kFloat).view({4, 6});
  const auto weight = torch::randn({3, 2}).set_requires_grad(true);
  const auto complex = torch::randn({4}, torch::kComplexFloat);
  const auto dense = torch::eye(3);
  Dict ordered{{"fc.weight", weight}, {"fc.same", weight}, {"fc.detached", weight.detach()}};
  ordered.set_type(DictType::ordered_dict);
  ordered.attributes() = Dict{{"_metadata", Dict{{"mean", base.select(0, 1)}}}};
  Checkpoint checkpoint{
      {"state_dict", ordered},
      {"views", List{base, base.t(), base.slice(1, 1, 5, 2), base.view(torch::kInt), base.expand({2, 4, 6})}},
      {"tuple", Tuple{base.select(1, 2), Tuple{List{base}}, Tuple::make_size({2, 3})}},
      {"storages", List{TypedStorage{base.storage(), torch::kFloat}, TypedStorage{base.storage(), std::nullopt}}},
      {"conj", List{complex, complex.conj(), torch::imag(complex.conj())}},
      {"dtypes", List{torch::ones({3}, torch::kBFloat16), torch::ones({3}, torch::kBool), torch::tensor(7)}},
      {"empty", List{torch::empty({0}), torch::empty({3, 0}), List{}, Dict{}, Tuple{}}},
      {"meta", torch::empty({2, 3}, torch::TensorOptions().device(torch::kMeta))},
      {"sparse", List{dense.to_sparse(), dense.to_sparse_csr(), dense}},
      {"quantized", at::quantize_per_tensor(dense, 0.1, 3, torch::kQInt8)},
      {"channels", at::quantize_per_channel(dense, torch::ones({3}), torch::zeros({3}), 0, torch::kQInt8)},
      {"nested", at::_nested_tensor_from_tensor_list({torch::ones({2, 2}), torch::zeros({3, 2})})},
      {"plain", List{1, 2.5, "text", Bytes("bytes"), nullptr, true, Set{1, 2}, BigInt("123456789012345678901")}},
      {"hparams", Opaque::make_object("argparse.Namespace", Dict{{"lr", 0.1}, {"first", base[0]}, {"w", weight}})},
      {"again", Opaque::make_call("collections.deque", Tuple{List{base, 1}})},
      {"plain_hparams", Opaque::make_object("argparse.Namespace", Dict{{"lr", 0.1}})}};
  return checkpoint;
}

std::string bytes_of(const StorageBackend& storage, const std::string& path) {
  const auto file = storage.open(path);
  std::string bytes(file->size(), '\0');
  file->read_at(0, bytes.data(), bytes.size());
  return bytes;
}

TEST_CASE("A file saved in the background is the very file that is saved at once", "[decorators]") {
  const Checkpoint checkpoint = everything();
  const auto storage = std::make_shared<MemoryStorage>();
  const auto python = std::make_shared<PythonCheckpointIO>(storage);
  python->save_checkpoint(checkpoint, "at_once");
  AsyncCheckpointIO io(python);
  for (const std::string path : {"a", "b"}) {
    io.save_checkpoint(checkpoint, path);
    io.async_save_checkpoint(checkpoint, path + ".2").wait();
    CHECK(bytes_of(*storage, path) == bytes_of(*storage, "at_once"));
    CHECK(bytes_of(*storage, path + ".2") == bytes_of(*storage, "at_once"));
  }
}

TEST_CASE("A file that was loaded, with objects that nobody knows, is saved as it was", "[decorators]") {
  const auto storage = std::make_shared<MemoryStorage>();
  const auto python = std::make_shared<PythonCheckpointIO>(storage);
  python->save_checkpoint(everything(), "first");
  AsyncCheckpointIO io(python);
  Checkpoint loaded = *io.load_checkpoint("first");
  // From now on one tensor, within an unknown object and outside of it.
  loaded["w"] = loaded.at("hparams").as<Opaque>().fields().at("w");
  python->save_checkpoint(loaded, "at_once");
  io.save_checkpoint(loaded, "async");
  io.teardown();
  CHECK(bytes_of(*storage, "async") == bytes_of(*storage, "at_once"));
}

TEST_CASE("Tensors in unknown objects are part of the snapshot too", "[decorators]") {
  Async async;
  async.inner->gate.close();
  auto w = torch::zeros({3});
  const auto sparse = torch::eye(2).to_sparse();
  async.io.save_checkpoint(
      {{"w", w}, {"args", Opaque::make_object("argparse.Namespace", Dict{{"w", w}})}, {"s", sparse}}, "a");
  w.add_(1);
  sparse._values().add_(1);
  async.inner->gate.open();
  async.io.teardown();
  const Checkpoint& saved = async.inner->saved.at("a");
  const auto inside = saved.at("args").as<Opaque>().fields().at("w").as<at::Tensor>();
  CHECK(inside.equal(torch::zeros({3})));
  CHECK(inside.is_alias_of(saved.at("w").as<at::Tensor>()));
  CHECK(saved.at("s").as<at::Tensor>().to_dense().equal(torch::eye(2)));
}

TEST_CASE("What tensors share in a checkpoint they share in its snapshot, and nothing with the original",
          "[decorators]") {
  Async async;
  const auto base = torch::zeros({4, 4}), other = torch::zeros({4});
  async.io.save_checkpoint({{"base", base}, {"same", base}, {"view", base.t()[1]}, {"other", other}}, "a");
  async.io.teardown();
  const Checkpoint& saved = async.inner->saved.at("a");
  const auto tensor = [&](const char* key) { return saved.at(key).as<at::Tensor>(); };
  CHECK(tensor("base").is_same(tensor("same")));
  CHECK(tensor("view").is_alias_of(tensor("base")));
  CHECK(tensor("view").strides() == base.t()[1].strides());
  CHECK_FALSE(tensor("other").is_alias_of(tensor("base")));
  CHECK_FALSE(tensor("base").is_alias_of(base));
}

TEST_CASE("Tensors of a kind that no file of ours has are cloned for plugins that know them", "[decorators]") {
  if (!at::hasMKLDNN()) return;
  Async async;
  async.io.save_checkpoint({{"w", torch::ones({2, 2}).to_mkldnn()}}, "a");
  async.io.teardown();
  CHECK(async.inner->saved.at("a").at("w").as<at::Tensor>().to_dense().equal(torch::ones({2, 2})));
}

TEST_CASE("Tensors made in inference mode are saved", "[decorators]") {
  Async async;
  {
    const c10::InferenceMode inference;
    async.io.save_checkpoint({{"w", torch::ones({2})}}, "a");
    async.io.save_checkpoint({}, "empty");
  }
  async.io.teardown();
  CHECK(async.inner->saved.at("a").at("w") == Value(torch::ones({2})));
  CHECK(async.inner->saved.at("empty").empty());
}

TEST_CASE("async_save_checkpoint returns while the save goes on", "[decorators]") {
  Async async;
  async.inner->gate.close();
  auto w = torch::zeros({3});
  Checkpoint checkpoint{{"w", w}, {"epoch", 1}};
  const SaveFuture save = async.io.async_save_checkpoint(checkpoint, "a");
  checkpoint["epoch"] = 2;
  save.wait(SaveStage::Staged);
  CHECK_FALSE(save.is_ready());
  w.add_(1);
  async.inner->gate.open();
  save.wait();
  CHECK(async.inner->saved.at("a").at("w") == Value(torch::zeros({3})));
  CHECK(async.inner->saved.at("a").at("epoch") == 1);
  CHECK(async.io.saves_asynchronously());
}

TEST_CASE("A checkpoint that is handed over is saved as it was", "[decorators]") {
  Async async;
  async.inner->gate.close();
  auto w = torch::zeros({3});
  const auto sparse = torch::eye(2).to_sparse();
  Checkpoint checkpoint{{"w", w}, {"view", List{w[1], w}}, {"sparse", sparse}, {"epoch", 1}};
  const Checkpoint expected{{"w", torch::zeros({3})},
                            {"view", List{torch::tensor(0.0F), torch::zeros({3})}},
                            {"sparse", sparse.clone()},
                            {"epoch", 1}};
  const SaveFuture save = async.io.hand_over_checkpoint(std::move(checkpoint), "a");
  save.wait(SaveStage::Staged);
  w.add_(1);
  async.inner->gate.open();
  save.wait();
  CHECK(save.timing().n_bytes >= 12);
  CHECK(async.inner->saved.at("a") == expected);
  const auto& saved = async.inner->saved.at("a");
  CHECK(saved.at("w").as<at::Tensor>().is_same(saved.at("view").at(1).as<at::Tensor>()));
}

TEST_CASE("What cannot be saved of a checkpoint that is handed over, its future tells", "[decorators]") {
  Async async;
  const auto w = torch::ones({3});
  const SaveFuture save = async.io.hand_over_checkpoint({{"w", w}}, "a");
  save.wait();
  async.inner->on_save = fail_full;
  CHECK_THROWS_AS(async.io.hand_over_checkpoint({{"w", w}}, "b").wait(), IoError);
  async.inner->on_save = nullptr;
  async.io.hand_over_checkpoint({{"w", w}}, "c").wait();
  CHECK(async.inner->log() == Lines{"save a", "save c"});
}

TEST_CASE("A tensor whose elements are not all in memory is refused in the background too", "[decorators]") {
  const auto freed = torch::rand({1000});
  freed.storage().set_nbytes(0);
  Async async;
  for (const at::Tensor& tensor : {freed, torch::from_blob(nullptr, {1000})}) {
    const Checkpoint checkpoint{{"w", tensor}};
    CHECK_THROWS_WITH(async.io.async_save_checkpoint(checkpoint, "x"),
                      ContainsSubstring("cannot save 'x': checkpoint['w']: a tensor of 4000 bytes"));
    const SaveFuture save = async.io.hand_over_checkpoint(Checkpoint(checkpoint), "x");
    CHECK_THROWS_AS(save.wait(), ValueError);
    const Checkpoint bare{{"s", TypedStorage{tensor.storage(), torch::kFloat}}};
    if (tensor.storage().nbytes() > 0) CHECK_THROWS_AS(async.io.async_save_checkpoint(bare, "x"), ValueError);
  }
  AsyncCheckpointIO python(std::make_shared<PythonCheckpointIO>(std::make_shared<MemoryStorage>()));
  python.async_save_checkpoint({{"w", torch::_efficientzerotensor({1000})}}, "x").wait();  // its copy has memory
  CHECK(python.load_checkpoint("x")->at("w").as<at::Tensor>().equal(torch::zeros({1000})));
}

TEST_CASE("A save beyond max_pending waits until one is done", "[decorators]") {
  Async async({.max_pending = 2});
  async.inner->gate.close();
  const SaveFuture first = async.io.async_save_checkpoint({{"n", 1}}, "1");
  async.io.save_checkpoint({{"n", 2}}, "2");  // is staged, though the first is not written
  CHECK_FALSE(first.is_ready());
  std::thread opener([&] { async.inner->gate.open(); });
  async.io.save_checkpoint({{"n", 3}}, "3");
  CHECK(first.is_ready());
  opener.join();
  async.io.teardown();
  CHECK(async.inner->log() == Lines{"save 1", "save 2", "save 3", "teardown"});
}

TEST_CASE("Staging memory is used again, never more of it than max_pending allows", "[decorators]") {
  const std::size_t max_pending = GENERATE(1u, 2u, 3u);
  Async async({.max_pending = max_pending});
  async.inner->keeps = false;
  std::set<const void*> addresses;
  class Noting : public WrappingCheckpointIO {
   public:
    Noting(std::shared_ptr<CheckpointIO> io, std::set<const void*>& seen)
        : WrappingCheckpointIO(std::move(io)), seen_(seen) {}
    void save_checkpoint(const Checkpoint& checkpoint, const std::string& path,
                         const std::optional<Dict>& storage_options) override {
      seen_.insert(checkpoint.at("w").as<at::Tensor>().const_data_ptr());
      WrappingCheckpointIO::save_checkpoint(checkpoint, path, storage_options);
    }

   private:
    std::set<const void*>& seen_;
  };
  AsyncCheckpointIO io(std::make_shared<Noting>(async.inner, addresses), {.max_pending = max_pending});
  const auto w = torch::ones({100'000});
  for (int i = 0; i < 20; ++i) io.save_checkpoint({{"w", w}}, "a");
  io.teardown();
  CHECK(addresses.size() <= max_pending);
}

TEST_CASE("A snapshot shares no page with what is allocated after it", "[decorators]") {
  constexpr std::uintptr_t kPageBytes = 4096;
  std::set<std::uintptr_t> pages;
  const auto for_pages_of = [](const at::Tensor& tensor, const auto& use) {
    const auto begin = reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr());
    for (auto page = begin / kPageBytes; page <= (begin + tensor.nbytes() - 1) / kPageBytes; ++page) use(page);
  };
  const std::vector<std::int64_t> sizes{1, 7, 100, 1000, 1024, 30'000, 100'000};
  Async async({.max_pending = 2});  // two snapshots, which are kept
  for (const std::string path : {"a", "b"}) {
    Dict weights;
    for (const auto n : sizes) weights[std::to_string(n)] = torch::ones({n});
    async.io.save_checkpoint(weights, path);
  }
  async.io.teardown();
  // By this thread, and by others, which take over the heaps of those that have ended.
  std::vector<std::vector<at::Tensor>> allocated(4);
  std::vector<std::thread> threads;
  const auto allocate = [&sizes](std::vector<at::Tensor>& tensors) {
    for (int i = 0; i < 100; ++i) {
      for (const auto n : sizes) tensors.push_back(torch::ones({n}));
    }
  };
  allocate(allocated[0]);
  for (std::size_t i = 1; i < allocated.size(); ++i) threads.emplace_back(allocate, std::ref(allocated[i]));
  for (std::thread& thread : threads) thread.join();
  for (const std::string path : {"a", "b"}) {
    for (const auto& [name, weight] : async.inner->saved.at(path)) {
      for_pages_of(weight.as<at::Tensor>(), [&](std::uintptr_t page) { pages.insert(page); });
    }
  }
  bool is_shared = false;
  for (const auto& tensors : allocated) {
    for (const at::Tensor& each : tensors) {
      for_pages_of(each, [&](std::uintptr_t page) { is_shared |= pages.contains(page); });
    }
  }
  CHECK_FALSE(is_shared);
}

TEST_CASE("A plugin that keeps a snapshot does not see it change with the next save", "[decorators]") {
  Async async;
  for (int i = 0; i < 4; ++i) async.io.save_checkpoint({{"w", torch::full({1000}, i)}}, std::to_string(i));
  async.io.teardown();
  for (int i = 0; i < 4; ++i) {
    CHECK(async.inner->saved.at(std::to_string(i)).at("w") == Value(torch::full({1000}, i)));
  }
}

TEST_CASE("A load waits for the saves that are pending", "[decorators]") {
  Async async({.max_pending = 3});
  async.inner->gate.close();
  async.io.async_save_checkpoint({{"n", 1}}, "a");
  async.io.async_save_checkpoint({{"n", 2}}, "a");
  std::thread opener([&] { async.inner->gate.open(); });
  CHECK(async.io.load_checkpoint("a")->at("n") == 2);
  opener.join();
  CHECK(async.inner->log() == Lines{"save a", "save a", "load a"});
}

TEST_CASE("A removal does not overtake a save", "[decorators]") {
  Async async({.max_pending = 3});
  async.inner->gate.close();
  async.io.async_save_checkpoint({}, "new");
  std::thread opener([&] { async.inner->gate.open(); });
  async.io.remove_checkpoint("old");
  async.io.save_checkpoint({}, "a");
  async.io.remove_checkpoint("a");
  opener.join();
  CHECK(async.inner->log() == Lines{"save new", "remove old", "save a", "remove a"});
}

TEST_CASE("Nothing is removed when the save before it failed", "[decorators]") {
  Async async;
  async.io.save_checkpoint({}, "old");
  async.save_failing(fail_full);
  CHECK_THROWS_AS(async.io.remove_checkpoint("old"), IoError);
  CHECK(async.inner->saved.contains("old"));
  CHECK_NOTHROW(async.io.remove_checkpoint("old"));
  CHECK(async.inner->saved.empty());
}

TEST_CASE("A background error surfaces in the next call, once, as its own type, and then the plugin works again",
          "[decorators]") {
  Async async;
  const auto next = GENERATE("save", "async_save", "load", "remove", "teardown");
  const auto call = [&, name = std::string(next)] {
    if (name == "save") async.io.save_checkpoint({}, "a");
    if (name == "async_save") async.io.async_save_checkpoint({}, "a");
    if (name == "load") async.io.load_checkpoint("there");
    if (name == "remove") async.io.remove_checkpoint("b");
    if (name == "teardown") async.io.teardown();
  };
  async.io.save_checkpoint({}, "there");
  for (int i = 0; i < 2; ++i) {
    async.save_failing([] { throw OwnError("mine"); });
    CHECK_THROWS_AS(call(), OwnError);
    CHECK_NOTHROW(call());
    async.save_failing(fail_full);
    CHECK_THROWS_AS(call(), IoError);
  }
  CHECK_NOTHROW(async.io.teardown());
  CHECK_FALSE(async.inner->saved.contains("failing"));
}

TEST_CASE("A background error that a future threw surfaces nowhere else", "[decorators]") {
  Async async;
  async.inner->on_save = fail_full;
  const SaveFuture save = async.io.async_save_checkpoint({}, "a");
  CHECK_THROWS_AS(save.wait(), IoError);
  async.inner->on_save = nullptr;
  CHECK_NOTHROW(async.io.save_checkpoint({}, "a"));
  CHECK_NOTHROW(async.io.teardown());
}

TEST_CASE("teardown finishes what is pending, tears the plugin down, and everything works again", "[decorators]") {
  Async async({.max_pending = 2});
  for (int i = 0; i < 2; ++i) {
    async.io.save_checkpoint({}, "a");
    async.io.save_checkpoint({}, "b");
    async.io.teardown();
  }
  const Lines once{"save a", "save b", "teardown"};
  Lines twice = once;
  twice.insert(twice.end(), once.begin(), once.end());
  CHECK(async.inner->log() == twice);
}

TEST_CASE("teardown tears the plugin down even where a save failed, and no error is lost", "[decorators]") {
  Async async;
  async.save_failing(fail_full);
  async.inner->on_teardown = [] { throw OwnError("mine"); };
  CHECK_THROWS_AS(async.io.teardown(), IoError);
  CHECK(async.inner->log() == Lines{"remove nothing", "teardown"});
  async.inner->on_teardown = nullptr;
  CHECK_THROWS_AS(async.io.save_checkpoint({}, "a"), OwnError);
  CHECK_NOTHROW(async.io.save_checkpoint({}, "a"));
}

TEST_CASE("The destructor finishes what is pending, and tells errors on stderr", "[decorators]") {
  const CapturedStderr captured;
  const auto inner = std::make_shared<GatedIO>();
  inner->gate.close();
  {
    AsyncCheckpointIO io(inner, {.max_pending = 2});
    io.save_checkpoint({}, "a");
    io.save_checkpoint({}, "b");
    inner->on_save = [&] {
      if (!inner->saved.empty()) fail_full();
    };
    inner->gate.open();
  }
  CHECK(inner->log() == Lines{"save a"});
  CHECK(captured.text() == "ckptio: the save of 'b' failed: disk full\n");
}

TEST_CASE("Asynchronous saves of asynchronous saves end where the innermost does", "[decorators]") {
  const TempFolder folder;
  const auto torch_io = std::make_shared<TorchCheckpointIO>();
  AsyncCheckpointIO io(std::make_shared<AsyncCheckpointIO>(torch_io));
  auto w = torch::zeros({3});
  io.save_checkpoint({{"w", w}}, folder / "a.ckpt");
  w += 1;
  const SaveFuture save = io.async_save_checkpoint({{"w", w}}, folder / "b.ckpt");
  save.wait(SaveStage::Staged);
  w += 1;
  save.wait();
  CHECK(torch_io->load_checkpoint(folder / "a.ckpt")->at("w") == Value(torch::zeros({3})));
  CHECK(torch_io->load_checkpoint(folder / "b.ckpt")->at("w") == Value(torch::ones({3})));
  CHECK(save.timing().writing.count() > 0);
  io.save_checkpoint({{"w", w}}, folder.path());  // a folder is in the way
  CHECK_THROWS_AS(io.teardown(), IoError);
  CHECK_NOTHROW(io.teardown());
}

TEST_CASE("A future tells what its save cost", "[decorators]") {
  const TempFolder folder;
  AsyncCheckpointIO io(std::make_shared<TorchCheckpointIO>());
  const auto w = torch::zeros({1000});
  const SaveFuture save = io.async_save_checkpoint({{"w", w}, {"view", w[1]}}, folder / "a");
  save.wait(SaveStage::Written);
  save.wait();
  const SaveTiming timing = save.timing();
  CHECK(timing.n_bytes == 4000);
  CHECK(timing.stalled.count() > 0);
  CHECK(timing.staging.count() > 0);
  CHECK(timing.writing.count() > 0);
  CHECK(timing.flushing.count() > 0);
}

TEST_CASE("Memory can be reserved before the first save", "[decorators]") {
  Async async;
  Checkpoint checkpoint{{"w", torch::ones({100'000})}, {"list", List{Tuple{torch::ones({3})}}}};
  async.io.reserve(checkpoint);
  async.io.save_checkpoint(checkpoint, "a");
  async.io.reserve(0);
  async.io.reserve(std::size_t{1} << 60);  // more than there is: nothing, until a save needs it
  async.io.save_checkpoint(checkpoint, "b");
  async.io.teardown();
  CHECK(async.inner->saved.at("b") == checkpoint);
}

TEST_CASE("Options that make no sense are refused", "[decorators]") {
  CHECK_THROWS_AS(AsyncCheckpointIO({.max_pending = 0}), ValueError);
  CHECK_THROWS_AS(AsyncCheckpointIO({.drain_timeout = std::chrono::seconds(-1)}), ValueError);
}

// One plugin called at random must do what another does at once.
TEST_CASE("Whatever is called in whatever order, a load gives what was saved last", "[decorators]") {
  std::mt19937 random(random_seed());
  for (int round = 0; round < 10; ++round) {
    const auto inner = std::make_shared<PythonCheckpointIO>(std::make_shared<MemoryStorage>());
    AsyncCheckpointIO io(inner, {.max_pending = 1 + random() % 3, .n_staging_threads = 1 + random() % 2});
    std::map<std::string, float> expected;
    auto w = torch::zeros({5000});
    SaveFuture last;
    for (int step = 0; step < 60; ++step) {
      const std::string path(1, static_cast<char>('a' + random() % 3));
      switch (random() % 6) {
        case 0:
          io.save_checkpoint({{"w", w}}, path);
          expected[path] = w[0].item<float>();
          break;
        case 1:
          last = io.async_save_checkpoint({{"w", w}, {"view", w[1]}}, path);
          expected[path] = w[0].item<float>();
          break;
        case 2:
          last.wait(SaveStage::Staged);
          w.add_(1);
          break;
        case 3:
          io.remove_checkpoint(path);
          expected.erase(path);
          break;
        case 4:
          if (random() % 4 == 0) io.teardown();
          break;
        default:
          if (expected.contains(path)) {
            CHECK(io.load_checkpoint(path)->at("w") == Value(torch::full({5000}, expected.at(path))));
          } else {
            CHECK_THROWS_AS(io.load_checkpoint(path), NotFoundError);
          }
      }
    }
  }
}

}  // namespace
}  // namespace ckptio::test
