// SPDX-License-Identifier: Apache-2.0
// ckptio_crash_child FOLDER [MISHAP]: trains in FOLDER, or goes on with what is there, and saves FOLDER/final.ckpt.
//   step=N   SIGKILL after step N
//   inside=N SIGKILL within step N, counted from 0
//   append=N, commit=N, remove=N
//            SIGKILL at the N-th such call to the storage; commits and removals count twice, before and after
//   slow     sleeps 10 ms in each step
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "ckptio/storage/local_storage.h"
#include "ckptio/trainer/model_checkpoint.h"
#include "unit/trainer/small_run.h"

namespace ckptio::test {
namespace {

void die() { ::kill(::getpid(), SIGKILL); }

std::string fatal_call;  // which call kills, and how many of them are left to go
int calls_left = 0;

void count(const std::string& call) {
  if (call == fatal_call && --calls_left == 0) die();
}

class CountingFile : public WritableFile {
 public:
  explicit CountingFile(std::unique_ptr<WritableFile> file) : file_(std::move(file)) {}
  void append(const void* data, std::size_t n_bytes) override {
    count("append");
    file_->append(data, n_bytes);
  }
  void commit() override {
    count("commit");
    file_->commit();
    count("commit");
  }

 private:
  std::unique_ptr<WritableFile> file_;
};

class CountingStorage : public StorageBackend {
 public:
  std::unique_ptr<WritableFile> create(const std::string& path) override {
    return std::make_unique<CountingFile>(disk_.create(path));
  }
  std::unique_ptr<RandomAccessFile> open(const std::string& path) const override { return disk_.open(path); }
  bool exists(const std::string& path) const override { return disk_.exists(path); }
  void remove(const std::string& path) override {
    count("remove");
    disk_.remove(path);
    count("remove");
  }
  std::vector<std::string> list(const std::string& path) const override { return disk_.list(path); }

 private:
  LocalStorage disk_;
};

int train(const std::string& folder, const std::string& mishap) {
  const auto number = [&](const std::string& name) {
    return mishap.starts_with(name) ? std::stoi(mishap.substr(name.size())) : -1;
  };
  if (const auto equals = mishap.find('='); equals != std::string::npos) {
    fatal_call = mishap.substr(0, equals);
    calls_left = std::stoi(mishap.substr(equals + 1));
  }
  auto net = make_net();
  net->on_step = [&, net = net.get()](std::int64_t) {
    if (net->global_step() == number("inside=")) die();
    if (mishap == "slow") std::this_thread::sleep_for(std::chrono::milliseconds(10));
  };
  const auto killer = std::make_shared<AfterStep>([&](Trainer& trainer) {
    if (trainer.global_step() == number("step=")) die();
  });
  // What a killed save left is of this run, and may be saved over.
  const auto saver = std::make_shared<ModelCheckpoint>(ModelCheckpointOptions{.dirpath = folder + "/checkpoints",
                                                                              .filename = "{step}",
                                                                              .monitor = "step",
                                                                              .save_last = "link",
                                                                              .save_top_k = 2,
                                                                              .mode = "max",
                                                                              .every_n_train_steps = 2,
                                                                              .enable_version_counter = false});
  Trainer trainer(quiet(2, std::make_shared<TorchCheckpointIO>(std::make_shared<CountingStorage>()), {saver, killer}));
  trainer.fit(net, make_loader(), make_loader(8), "last");
  trainer.save_checkpoint(folder + "/final.ckpt");
  return 0;
}

}  // namespace
}  // namespace ckptio::test

int main(int argc, char* argv[]) {
  if (argc < 2) return 2;
  return ckptio::test::train(argv[1], argc > 2 ? argv[2] : "");
}
