// SPDX-License-Identifier: Apache-2.0
// A Callback and a StorageBackend of one's own: here they kill the process.
#include <signal.h>
#include <unistd.h>

#include <stdexcept>

#include "ckptio/storage/local_storage.h"
#include "ckptio/trainer/trainer.h"
#include "story.h"

namespace {

void die() { ::kill(::getpid(), SIGKILL); }

class KillAtStep : public ckptio::Callback {
 public:
  explicit KillAtStep(int step) : step_(step) {}
  void on_train_batch_end(ckptio::Trainer& trainer, ckptio::TrainingModule&, const at::Tensor&, int64_t) override {
    if (trainer.global_step() == step_) die();
  }

 private:
  int step_;
};

constexpr std::size_t kDiesAtByte = 1'200'000;  // of some 1.7 million; LocalStorage writes a million at a time

// Takes what it is given until its time has come, then half of it, and dies.
class DyingFile : public ckptio::WritableFile {
 public:
  explicit DyingFile(std::unique_ptr<ckptio::WritableFile> file) : file_(std::move(file)) {}
  void append(const void* data, std::size_t n_bytes) override {
    n_bytes_ += n_bytes;
    if (n_bytes_ < kDiesAtByte) return file_->append(data, n_bytes);
    file_->append(data, n_bytes / 2);
    die();
  }
  void commit() override { file_->commit(); }

 private:
  std::unique_ptr<ckptio::WritableFile> file_;
  std::size_t n_bytes_ = 0;
};

// Passes everything on to another storage, but hands out a DyingFile when its time has come.
class DyingStorage : public ckptio::StorageBackend {
 public:
  DyingStorage(std::shared_ptr<ckptio::StorageBackend> base, int save) : base_(std::move(base)), saves_left_(save) {}
  std::unique_ptr<ckptio::WritableFile> create(const std::string& path) override {
    auto file = base_->create(path);
    if (--saves_left_ > 0) return file;
    return std::make_unique<DyingFile>(std::move(file));
  }
  std::unique_ptr<ckptio::RandomAccessFile> open(const std::string& path) const override { return base_->open(path); }
  bool exists(const std::string& path) const override { return base_->exists(path); }
  void remove(const std::string& path) override { base_->remove(path); }
  std::vector<std::string> list(const std::string& path) const override { return base_->list(path); }

 private:
  std::shared_ptr<ckptio::StorageBackend> base_;
  int saves_left_;
};

}  // namespace

Mishap::Mishap(const std::string& text) {
  if (text.starts_with("step=")) {
    step_ = std::stoi(text.substr(5));
  } else if (text.starts_with("save=")) {
    save_ = std::stoi(text.substr(5));
  } else if (!text.empty()) {
    throw std::invalid_argument("a mishap is step=N or save=N, not " + text);
  }
}

std::shared_ptr<ckptio::Callback> Mishap::callback() const { return std::make_shared<KillAtStep>(step_); }

std::shared_ptr<ckptio::StorageBackend> Mishap::storage() const {
  auto disk = std::make_shared<ckptio::LocalStorage>();
  if (save_ == 0) return disk;
  return std::make_shared<DyingStorage>(disk, save_);
}
