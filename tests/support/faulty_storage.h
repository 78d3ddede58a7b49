// SPDX-License-Identifier: Apache-2.0
// FaultyStorage: a StorageBackend around another one that fails as it is told to, and counts what is asked of it.
//
//   FaultyStorage storage(std::make_shared<MemoryStorage>());
//   storage.faults().fail_at_written_byte = 1000;   // a disk that is full after 1000 bytes
//   ...
//   CHECK(storage.counts().appends == 3);
//
// A fault stands until it is reset. Numbers count from 1, over all files and since construction or reset_counts().
// Threads: safe for several at once, but set the faults while no call is running.
#pragma once

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "ckptio/error.h"
#include "ckptio/storage/storage_backend.h"

namespace ckptio::test {

struct Faults {
  std::optional<std::uint64_t> fail_at_call{};    // the n-th call of any function, and all that follow
  std::optional<std::uint64_t> fail_at_create{};  // these: the n-th of their kind only
  std::optional<std::uint64_t> fail_at_append{};  // of append() and write_at() together
  std::optional<std::uint64_t> fail_at_commit{};
  std::optional<std::uint64_t> fail_at_open{};
  std::optional<std::uint64_t> fail_at_read{};
  std::optional<std::uint64_t> fail_at_remove{};
  // Bytes before this many are passed on, over all files; the append() or write_at() that goes beyond fails, as on a
  // full disk.
  std::optional<std::uint64_t> fail_at_written_byte{};
  std::optional<std::uint64_t> truncate_to{};  // files are opened with at most so many bytes
  std::optional<std::uint64_t> shrink_to{};    // size() stays, but reads beyond this byte fail: cut off while open
  std::optional<std::uint64_t> flip_bit{};     // this bit of each file is read inverted (bit 0 is the lowest of byte 0)
  std::string only_path_containing{};          // faults strike only such paths; calls are counted for all
  int error_number = ENOSPC;                   // what the IoError carries
};

struct Counts {
  std::uint64_t calls = 0, creates = 0, appends = 0, commits = 0, opens = 0, reads = 0, removes = 0;
  std::uint64_t bytes_written = 0, bytes_read = 0;
};

class FaultyStorage final : public StorageBackend {
 public:
  explicit FaultyStorage(std::shared_ptr<StorageBackend> inner)
      : inner_(std::move(inner)), state_(std::make_shared<State>()) {}

  Faults& faults() { return state_->faults; }
  Counts counts() const;
  void reset_counts();

  std::unique_ptr<WritableFile> create(const std::string& path) override {
    state_->count(state_->creates, state_->faults.fail_at_create, "create", path);
    return std::make_unique<Writer>(inner_->create(path), state_, path);
  }
  std::unique_ptr<RandomAccessFile> open(const std::string& path) const override {
    state_->count(state_->opens, state_->faults.fail_at_open, "open", path);
    return std::make_unique<Reader>(inner_->open(path), state_, path);
  }
  bool exists(const std::string& path) const override {
    state_->count(state_->others, std::nullopt, "look for", path);
    return inner_->exists(path);
  }
  void remove(const std::string& path) override {
    state_->count(state_->removes, state_->faults.fail_at_remove, "remove", path);
    inner_->remove(path);
  }
  std::vector<std::string> list(const std::string& path) const override {
    state_->count(state_->others, std::nullopt, "list", path);
    return inner_->list(path);
  }

 private:
  using Counter = std::atomic<std::uint64_t>;

  struct State {
    Faults faults;
    Counter calls{0}, creates{0}, appends{0}, commits{0}, opens{0}, reads{0}, removes{0}, others{0};
    Counter bytes_written{0}, bytes_read{0};

    bool strikes(const std::string& path) const { return path.find(faults.only_path_containing) != std::string::npos; }
    [[noreturn]] void fail(const std::string& action, const std::string& path) const {
      throw IoError("cannot " + action + " '" + path + "': " + std::generic_category().message(faults.error_number) +
                        " (injected)",
                    faults.error_number);
    }
    // Counts one call and fails it if it is the one to fail.
    void count(Counter& counter, std::optional<std::uint64_t> fail_at, const char* action, const std::string& path) {
      const std::uint64_t call = ++calls;
      const std::uint64_t number = ++counter;
      if (!strikes(path)) return;
      if ((faults.fail_at_call && call >= *faults.fail_at_call) || fail_at == number) fail(action, path);
    }
  };

  class Writer final : public WritableFile {
   public:
    Writer(std::unique_ptr<WritableFile> inner, std::shared_ptr<State> state, std::string path)
        : inner_(std::move(inner)), state_(std::move(state)), path_(std::move(path)) {}

    void append(const void* data, std::size_t n_bytes) override {
      state_->count(state_->appends, state_->faults.fail_at_append, "write", path_);
      const std::uint64_t before = state_->bytes_written.fetch_add(n_bytes);
      const std::uint64_t limit = state_->faults.fail_at_written_byte.value_or(UINT64_MAX);
      if (!state_->strikes(path_) || before + n_bytes <= limit) return inner_->append(data, n_bytes);
      if (before < limit) inner_->append(data, limit - before);
      state_->fail("write", path_);
    }
    bool can_write_at() const override { return inner_->can_write_at(); }
    void write_at(std::uint64_t offset, const void* data, std::size_t n_bytes) override {
      state_->count(state_->appends, state_->faults.fail_at_append, "write", path_);
      const std::uint64_t before = state_->bytes_written.fetch_add(n_bytes);
      const std::uint64_t limit = state_->faults.fail_at_written_byte.value_or(UINT64_MAX);
      if (!state_->strikes(path_) || before + n_bytes <= limit) return inner_->write_at(offset, data, n_bytes);
      if (before < limit) inner_->write_at(offset, data, limit - before);
      state_->fail("write", path_);
    }
    void reserve(std::uint64_t n_bytes) override { inner_->reserve(n_bytes); }
    void commit() override {
      state_->count(state_->commits, state_->faults.fail_at_commit, "write", path_);
      inner_->commit();
    }

   private:
    std::unique_ptr<WritableFile> inner_;
    std::shared_ptr<State> state_;
    std::string path_;
  };

  class Reader final : public RandomAccessFile {
   public:
    Reader(std::unique_ptr<RandomAccessFile> inner, std::shared_ptr<State> state, std::string path)
        : inner_(std::move(inner)), state_(std::move(state)), path_(std::move(path)), size_(inner_->size()) {
      if (state_->faults.truncate_to && state_->strikes(path_)) size_ = std::min(size_, *state_->faults.truncate_to);
    }

    std::uint64_t size() const override { return size_; }

    void read_at(std::uint64_t offset, void* destination, std::size_t n_bytes) const override {
      state_->count(state_->reads, state_->faults.fail_at_read, "read", path_);
      state_->bytes_read += n_bytes;
      if (!state_->strikes(path_)) return inner_->read_at(offset, destination, n_bytes);
      const std::uint64_t end = std::min(size_, state_->faults.shrink_to.value_or(size_));
      if (offset > end || n_bytes > end - offset) {
        throw IoError("cannot read '" + path_ + "': at byte " + std::to_string(offset) + " expected " +
                      std::to_string(n_bytes) + " bytes, but the file ends at " + std::to_string(end) + " (injected)");
      }
      inner_->read_at(offset, destination, n_bytes);
      const std::optional<std::uint64_t> bit = state_->faults.flip_bit;
      if (bit && *bit / 8 >= offset && *bit / 8 - offset < n_bytes) {
        static_cast<unsigned char*>(destination)[*bit / 8 - offset] ^= static_cast<unsigned char>(1u << (*bit % 8));
      }
    }

    void prefetch(std::uint64_t offset, std::size_t n_bytes) const override { inner_->prefetch(offset, n_bytes); }

    // What is touched there can be neither counted nor spoiled.
    std::shared_ptr<void> map() const override {
      const Faults& faults = state_->faults;
      const bool spoils = faults.fail_at_call || faults.fail_at_read || faults.truncate_to || faults.shrink_to ||
                          faults.flip_bit.has_value();
      return spoils ? nullptr : inner_->map();
    }

   private:
    std::unique_ptr<RandomAccessFile> inner_;
    std::shared_ptr<State> state_;
    std::string path_;
    std::uint64_t size_;
  };

  std::shared_ptr<StorageBackend> inner_;
  std::shared_ptr<State> state_;
};

inline Counts FaultyStorage::counts() const {
  const State& s = *state_;
  return {s.calls, s.creates, s.appends, s.commits, s.opens, s.reads, s.removes, s.bytes_written, s.bytes_read};
}

inline void FaultyStorage::reset_counts() {
  State& s = *state_;
  for (Counter* counter : {&s.calls, &s.creates, &s.appends, &s.commits, &s.opens, &s.reads, &s.removes, &s.others,
                           &s.bytes_written, &s.bytes_read}) {
    *counter = 0;
  }
}

}  // namespace ckptio::test
