// SPDX-License-Identifier: Apache-2.0
// The process's resident memory while it saves and restores: ckptio_memory_tests, an executable of its own so that
// what other tests leave behind does not count. Linux alone tells the peak.
#include <torch/torch.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include <algorithm>
#include <chrono>
#include <future>
#include <string>
#include <vector>

#include "ckptio/decorators/async_checkpoint_io.h"
#include "ckptio/formats/python_checkpoint_io.h"
#include "ckptio/formats/safetensors_checkpoint_io.h"
#include "ckptio/state.h"
#include "ckptio/storage/storage_backend.h"
#include "support/catch.h"
#include "support/gate.h"
#include "support/peak_memory.h"
#include "support/temp_folder.h"

namespace ckptio::test {
namespace {

constexpr std::int64_t kMiB = 1 << 20;
constexpr std::int64_t kStateBytes = 256 * kMiB;
constexpr std::int64_t kAllowedBytes = 64 * kMiB;  // for all that is no copy of the state

// What is written is gone, once the gate is open.
class SlowStorage : public StorageBackend {
 public:
  std::unique_ptr<WritableFile> create(const std::string&) override { return std::make_unique<File>(gate); }
  std::unique_ptr<RandomAccessFile> open(const std::string& path) const override { throw NotFoundError(path); }
  bool exists(const std::string&) const override { return false; }
  void remove(const std::string&) override {}
  std::vector<std::string> list(const std::string&) const override { return {}; }

  Gate gate;

 private:
  struct File : WritableFile {
    explicit File(Gate& of) : gate(of) {}
    void append(const void*, std::size_t) override { gate.pass(); }
    void commit() override {}
    bool can_write_at() const override { return true; }
    void write_at(std::uint64_t, const void*, std::size_t) override { gate.pass(); }
    Gate& gate;
  };
};

// Of 40 buffers of very different sizes, some 256 MiB of them.
struct Model : torch::nn::Module {
  explicit Model(at::ScalarType dtype, double value = 0) {
    const auto item = static_cast<std::int64_t>(c10::elementSize(dtype));
    std::int64_t left = kStateBytes / 4;
    for (int i = 0; i < 39; ++i) {
      const std::int64_t n = i < 7 ? kStateBytes / 4 / 8 : 1000 + i;
      register_buffer("b" + std::to_string(i), torch::full({n}, value, dtype));
      left -= n;
    }
    register_buffer("last", torch::full({left}, value, dtype));
    n_bytes = kStateBytes / 4 * item;
  }
  bool holds(double value) const {
    const auto all = buffers();
    return std::all_of(all.begin(), all.end(),
                       [value](const at::Tensor& each) { return each.eq(value).all().item<bool>(); });
  }
  std::int64_t n_bytes = 0;
};

// What LibTorch and the plugins make once. What is freed goes back to the system from now on, and does not hide what is
// allocated next.
void warm_up(const std::string& path) {
#ifdef __GLIBC__
  ::mallopt(M_MMAP_THRESHOLD, kMiB);
#endif
  Model model(at::kByte, 1);
  State state(model);
  PythonCheckpointIO io;
  io.save_checkpoint(state.state_dict(), path);
  io.load_checkpoint(path, {.state = &state});
}

TEST_CASE("Asynchronous saves hold one copy of the state for each that may be pending, and no more", "[memory]") {
  if (!can_measure_memory()) return;
  const std::size_t max_pending = GENERATE(1, 2, 3);
  const TempFolder folder;
  warm_up(folder / "a.ckpt");
  const PeakMemory peak;
  const Model model(at::kFloat);
  const Checkpoint checkpoint = state_dict(model);
  const auto storage = std::make_shared<SlowStorage>();
  AsyncCheckpointIO io(std::make_shared<PythonCheckpointIO>(storage), {.max_pending = max_pending});
  for (std::size_t i = 0; i < max_pending; ++i) io.save_checkpoint(checkpoint, "pending");
  // Those wait for room, while nothing is written.
  auto more = std::async(std::launch::async, [&] {
    for (int i = 0; i < 3; ++i) io.save_checkpoint(checkpoint, "more");
  });
  CHECK(more.wait_for(std::chrono::milliseconds(300)) == std::future_status::timeout);
  const auto n_copies = static_cast<std::int64_t>(1 + max_pending);
  CHECK(peak.bytes() >= n_copies * kStateBytes - kMiB);  // what is pending was copied
  storage->gate.open();
  more.get();
  io.teardown();
  CHECK(peak.bytes() <= n_copies * kStateBytes + kAllowedBytes);
}

TEST_CASE("A save at once and a restore in place hold no copy of the state", "[memory]") {
  if (!can_measure_memory()) return;
  const TempFolder folder;
  warm_up(folder / "a.ckpt");
  const std::vector<std::shared_ptr<CheckpointIO>> plugins{std::make_shared<PythonCheckpointIO>(),
                                                           std::make_shared<SafetensorsCheckpointIO>()};
  for (const auto& io : plugins) {
    const PeakMemory peak;
    Model model(at::kFloat, 1);
    State state(model);
    io->save_checkpoint(state.state_dict(), folder / "a.ckpt");
    for (const bool transactional : {true, false}) {
      for (at::Tensor& each : model.buffers()) each.zero_();
      CHECK(io->load_checkpoint(folder / "a.ckpt", {.state = &state, .transactional = transactional}) == std::nullopt);
      CHECK(model.holds(1));
    }
    CHECK(peak.bytes() <= kStateBytes + kAllowedBytes);
  }
}

TEST_CASE("A restore in place into another dtype holds no copy of the state", "[memory]") {
  if (!can_measure_memory()) return;
  const TempFolder folder;
  warm_up(folder / "a.ckpt");
  PythonCheckpointIO io;
  {
    const Model saved(at::kFloat, 1);
    io.save_checkpoint(state_dict(saved), folder / "a.ckpt");
  }
  for (const auto dtype : {at::kHalf, at::kDouble}) {
    const PeakMemory peak;
    Model model(dtype);
    State state(model);
    CHECK(io.load_checkpoint(folder / "a.ckpt", {.state = &state, .convert_dtypes = true}) == std::nullopt);
    CHECK(peak.bytes() <= model.n_bytes + kAllowedBytes);
    CHECK(model.holds(1));
  }
}

}  // namespace
}  // namespace ckptio::test
