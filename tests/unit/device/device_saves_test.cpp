// SPDX-License-Identifier: Apache-2.0
// Saves and loads of an accelerator's tensors.
#include <torch/torch.h>

#include <algorithm>
#include <chrono>
#include <future>

#include "ckptio/decorators/async_checkpoint_io.h"
#include "ckptio/formats/python_checkpoint_io.h"
#include "ckptio/formats/safetensors_checkpoint_io.h"
#include "ckptio/formats/torch_checkpoint_io.h"
#include "ckptio/state.h"
#include "ckptio/storage/memory_storage.h"
#include "decorators/snapshot.h"
#include "support/stand_in/stand_in_device.h"
#include "unit/decorators/gated_io.h"

namespace ckptio::test {
namespace {

constexpr std::int64_t kSize = 1000;

at::Tensor on_device(float value, c10::Device device = StandIn::device()) {
  return torch::full({kSize}, value).to(device);
}

at::Tensor on_cpu(float value) { return torch::full({kSize}, value); }

// Has the device fill a tensor, behind what its current stream has to do. No version is counted, as of a kernel.
void enqueue_fill(const at::Tensor& tensor, float value) {
  StandIn::get().current_stream(tensor.device()).enqueue([data = tensor.data_ptr<float>(), value] {
    std::fill_n(data, kSize, value);
  });
}

// Keeps a device's current stream busy until it is opened.
class Busy {
 public:
  explicit Busy(c10::Device device = StandIn::device()) {
    StandIn::get().current_stream(device).enqueue([gate = gate_] { gate->pass(); });
  }
  Busy(const Busy&) = delete;
  Busy& operator=(const Busy&) = delete;
  ~Busy() { end(); }
  void end() { gate_->open(); }

 private:
  std::shared_ptr<Gate> gate_ = std::make_shared<Gate>();
};

// What a test decided ends with it.
struct Settings {
  Settings() = default;
  Settings(const Settings&) = delete;
  Settings& operator=(const Settings&) = delete;
  ~Settings() {
    StandIn& device = StandIn::get();
    device.copies.open();
    device.has_pinned_memory = device.has_pool = true;
    device.fails_to_copy = device.pinned.is_exhausted = false;
    device.refusing_device = -1;
  }
};

// Of a call that must not wait for the device; ends the device's work where it does.
template <class Call>
SaveFuture without_waiting(Busy& busy, Call call) {
  auto save = std::async(std::launch::async, call);
  const bool returned = save.wait_for(std::chrono::seconds(20)) == std::future_status::ready;
  CHECK(returned);
  if (!returned) busy.end();
  return save.get();
}

struct Async {
  Settings settings;
  std::shared_ptr<GatedIO> inner = std::make_shared<GatedIO>();
  AsyncCheckpointIO io{inner};
  const at::Tensor& saved(const std::string& path, const Value& key = "w") const {
    return inner->saved.at(path).at(key).as<at::Tensor>();
  }
};

TEST_CASE("A background save returns while the device is busy, and has what the device was to do before", "[device]") {
  const bool hands_over = GENERATE(false, true);
  Async async;
  const auto w = on_device(0);
  Busy busy;
  enqueue_fill(w, 1);
  const SaveFuture save = without_waiting(busy, [&] {
    return hands_over ? async.io.hand_over_checkpoint({{"w", w}}, "a")
                      : async.io.async_save_checkpoint({{"w", w}}, "a");
  });
  CHECK_FALSE(save.wait_for(std::chrono::milliseconds(50), SaveStage::Staged));
  busy.end();
  save.wait(SaveStage::Staged);
  enqueue_fill(w, 2);
  save.wait();
  CHECK(async.saved("a").equal(on_cpu(1)));
  CHECK(w.cpu().equal(on_cpu(2)));
}

TEST_CASE("The device goes on with other work while it copies", "[device]") {
  Async async;
  const auto w = on_device(1), other = on_device(0);
  StandIn::get().copies.close();
  const SaveFuture save = async.io.async_save_checkpoint({{"w", w}}, "a");
  enqueue_fill(other, 5);
  CHECK(other.cpu().equal(on_cpu(5)));
  CHECK_FALSE(save.is_ready(SaveStage::Staged));
  StandIn::get().copies.open();
  save.wait();
  CHECK(async.saved("a").equal(on_cpu(1)));
}

TEST_CASE("A save is in the order of the calling thread's own streams, on every device", "[device]") {
  Async async;
  const auto w = on_device(0), v = on_device(0, StandIn::device(1)), cpu = on_cpu(3);
  std::optional<c10::StreamGuard> guards[2];
  for (const c10::DeviceIndex i : {0, 1}) {
    guards[i].emplace(c10::Stream(c10::Stream::UNSAFE, StandIn::device(i), 1));
  }
  Busy busy, busy_too(StandIn::device(1));
  enqueue_fill(w, 1);
  enqueue_fill(v, 2);
  const SaveFuture save = async.io.async_save_checkpoint({{"w", w}, {"v", v}, {"cpu", cpu}}, "a");
  busy.end();
  CHECK_FALSE(save.wait_for(std::chrono::milliseconds(50), SaveStage::Staged));
  busy_too.end();
  save.wait();
  CHECK(async.saved("a").equal(on_cpu(1)));
  CHECK(async.saved("a", "v").equal(on_cpu(2)));
  CHECK(async.saved("a", "cpu").equal(on_cpu(3)));
}

TEST_CASE("What shares a device's storage shares it in the copy, and other tensors come along", "[device]") {
  Async async;
  const auto w = on_device(1);
  const auto sparse = torch::eye(3).to_sparse();
  const auto indices = sparse._indices().to(StandIn::device()), values = sparse._values().to(StandIn::device());
  async.io.save_checkpoint({{"w", w},
                            {"row", w.view({10, 100})[3]},
                            {"again", w},
                            {"storage", TypedStorage{w.storage(), torch::kFloat}},
                            {"empty", w.narrow(0, 0, 0).clone()},
                            {"parts", List{indices, values}},
                            {"hparams", Opaque::make_object("argparse.Namespace", Dict{{"w", w}})}},
                           "a");
  async.io.teardown();
  CHECK(async.saved("a").device().is_cpu());
  CHECK(async.saved("a", "row").storage().is_alias_of(async.saved("a").storage()));
  CHECK(async.saved("a", "again").is_same(async.saved("a")));
  CHECK(async.inner->saved.at("a").at("storage").as<TypedStorage>().storage.is_alias_of(async.saved("a").storage()));
  CHECK(async.saved("a", "empty").numel() == 0);
  CHECK(async.inner->saved.at("a").at("parts") == Value(List{sparse._indices(), sparse._values()}));
}

TEST_CASE("Later saves use the pinned memory of earlier ones again", "[device]") {
  const bool reserves = GENERATE(false, true);
  Async async;
  async.inner->keeps = false;  // what still uses a copy would keep its memory
  const Checkpoint checkpoint{{"w", on_device(1)}, {"v", on_device(2, StandIn::device(1))}};
  const int n_before = StandIn::get().pinned.n_allocations;
  if (reserves) {
    async.io.reserve(checkpoint);
    async.io.remove_checkpoint("nothing");
    while (StandIn::get().pinned.n_allocations == n_before) std::this_thread::yield();
    StandIn::get().pinned.is_exhausted = true;
  }
  for (const std::string path : {"a", "b", "c"}) async.io.async_save_checkpoint(checkpoint, path).wait();
  CHECK(StandIn::get().pinned.n_allocations == n_before + 1);
  async.io.teardown();
}

TEST_CASE("Making memory ready waits for no device", "[device]") {
  Async async;
  const Checkpoint checkpoint{{"w", on_device(1)}};
  Busy busy;
  without_waiting(busy, [&] {
    async.io.reserve(checkpoint);
    return SaveFuture();
  });
}

TEST_CASE("What is copied is not given out again before, whatever becomes of the tensor", "[device]") {
  Async async;
  auto w = on_device(1);
  StandIn::get().copies.close();
  const void* const address = w.data_ptr();
  const SaveFuture save = async.io.async_save_checkpoint({{"w", w}}, "a");
  SECTION("the tensor is gone") { w = at::Tensor(); }
  SECTION("the storage has other memory") { w.storage().unsafeGetStorageImpl()->set_data_ptr({nullptr, w.device()}); }
  const auto other = on_device(9);
  CHECK(other.data_ptr() != address);
  StandIn::get().copies.open();
  save.wait();
  CHECK(async.saved("a").equal(on_cpu(1)));
}

TEST_CASE("A device's tensor that is changed before it is staged is an error that names it", "[device]") {
  Async async;
  const auto w = on_device(1);
  StandIn::get().copies.close();
  const SaveFuture save = async.io.async_save_checkpoint({{"w", w}}, "a");
  w.add_(1);
  StandIn::get().copies.open();
  CHECK_THROWS_AS(save.wait(), ValueError);
  CHECK_THROWS_WITH(save.wait(), ContainsSubstring("cannot save 'a': checkpoint['w'] was changed in place"));
  const SaveFuture next = async.io.async_save_checkpoint({{"w", w}}, "b");
  next.wait(SaveStage::Staged);
  w.add_(1);
  CHECK_NOTHROW(next.wait());
  CHECK(async.saved("b").equal(on_cpu(2)));
}

TEST_CASE("A device that fails to copy fails the save, and only that", "[device]") {
  Async async;
  StandIn& device = StandIn::get();
  device.has_pinned_memory = GENERATE(true, false);
  const auto w = on_device(1);
  const Checkpoint checkpoint{{"tensor", w}, {"storage", TypedStorage{w.storage(), torch::kFloat}}};
  device.fails_to_copy = true;
  const auto failing = [&] { async.io.async_save_checkpoint(checkpoint, "run/a.ckpt").wait(); };
  CHECK_THROWS_AS(failing(), IoError);
  CHECK_THROWS_WITH(failing(), StartsWith("cannot save 'run/a.ckpt': copying tensors from device 'stand_in:0' to the "
                                          "CPU failed: stand-in: uncorrectable error in memory"));
  CHECK(async.inner->log().empty());
  device.fails_to_copy = false;
  async.io.async_save_checkpoint(checkpoint, "b").wait();
  CHECK(async.saved("b", "tensor").equal(on_cpu(1)));
}

TEST_CASE("Where no more pinned memory is to be had, tensors are copied at the call", "[device]") {
  Async async;
  const auto w = on_device(0);
  enqueue_fill(w, 1);
  StandIn::get().pinned.is_exhausted = true;
  async.io.reserve({{"w", w}});
  async.io.async_save_checkpoint({{"w", w}}, "a").wait();
  CHECK(async.saved("a").equal(on_cpu(1)));
  const int n_before = StandIn::get().pinned.n_allocations;
  StandIn::get().pinned.is_exhausted = false;
  async.io.async_save_checkpoint({{"w", w}}, "b").wait();
  CHECK(async.saved("b").equal(on_cpu(1)));
  CHECK(StandIn::get().pinned.n_allocations == n_before + 1);
}

TEST_CASE("Where a device cannot copy beside its work, its tensors are copied at the call and may change", "[device]") {
  const Settings settings;
  StandIn& device = StandIn::get();
  (GENERATE(true, false) ? device.has_pinned_memory : device.has_pool) = false;
  const int n_before = device.pinned.n_allocations;
  const auto w = on_device(0);
  enqueue_fill(w, 1);
  detail::Snapshot snapshot({{"w", w}}, "a");
  const auto memory = std::make_shared<detail::StagingMemory>(1);
  snapshot.survey(*memory);
  w.add_(1);
  detail::WorkerPool pool(1);
  CHECK_NOTHROW(snapshot.stage(*memory, pool));
  snapshot.settle();
  CHECK(snapshot.checkpoint().at("w") == Value(on_cpu(1)));
  CHECK(detail::staging_bytes({{"w", w}}).pinned == 0);
  CHECK(device.pinned.n_allocations == n_before);
}

TEST_CASE("A call that fails returns when nothing is being copied any more", "[device]") {
  Async async;
  const auto w = on_device(1), v = on_device(1, StandIn::device(1));
  StandIn::get().copies.close();
  StandIn::get().refusing_device = 1;
  auto call = std::async(std::launch::async, [&] { async.io.async_save_checkpoint({{"w", w}, {"v", v}}, "a"); });
  CHECK(call.wait_for(std::chrono::milliseconds(100)) == std::future_status::timeout);
  StandIn::get().copies.open();
  CHECK_THROWS_AS(call.get(), IoError);
}

struct Model : torch::nn::Module {
  explicit Model(float value) {
    w = register_parameter("w", on_device(value));
    b = register_buffer("b", on_device(value, StandIn::device(1)).view({10, 100}).t());
  }
  bool holds(float value) const { return w.cpu().eq(value).all().item<bool>() && b.cpu().eq(value).all().item<bool>(); }
  at::Tensor w, b;
};

TEST_CASE("Every format saves a device's tensors and restores them in place, in the device's order", "[device]") {
  const auto storage = std::make_shared<MemoryStorage>();
  const std::vector<std::shared_ptr<CheckpointIO>> plugins{std::make_shared<PythonCheckpointIO>(storage),
                                                           std::make_shared<SafetensorsCheckpointIO>(storage),
                                                           std::make_shared<TorchCheckpointIO>(storage)};
  const auto& io = plugins[GENERATE(0, 1, 2)];
  Model model(0);
  enqueue_fill(model.w, 1);
  enqueue_fill(model.b, 1);
  State state(model);
  io->save_checkpoint(state.state_dict(), "a");
  enqueue_fill(model.w, 2);
  enqueue_fill(model.b, 2);
  CHECK(model.holds(2));
  const auto rest = io->load_checkpoint("a", {.state = &state});
  if (rest) state.load_state_dict(*rest);
  CHECK(model.holds(1));
}

TEST_CASE("A file is loaded onto a device", "[device]") {
  PythonCheckpointIO io(std::make_shared<MemoryStorage>());
  io.save_checkpoint({{"w", on_device(1)}}, "a");
  CHECK(io.load_checkpoint("a")->at("w") == Value(on_cpu(1)));
  for (const c10::DeviceIndex i : {0, 1}) {
    const auto loaded = io.load_checkpoint("a", {.map_location = StandIn::device(i)})->at("w").as<at::Tensor>();
    CHECK(loaded.device() == StandIn::device(i));
    CHECK(loaded.cpu().equal(on_cpu(1)));
  }
}

}  // namespace
}  // namespace ckptio::test
