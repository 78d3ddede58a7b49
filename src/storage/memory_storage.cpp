// SPDX-License-Identifier: Apache-2.0
#include "ckptio/storage/memory_storage.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <map>
#include <mutex>

#include "ckptio/error.h"

namespace ckptio {
namespace {

using Bytes = std::vector<unsigned char>;

// One spelling for each path, so that equal paths are equal strings; empty for no path at all.
std::string normalize(const std::string& path) {
  std::string result = std::filesystem::path(path).lexically_normal().generic_string();
  while (result.size() > 1 && result.back() == '/') result.pop_back();
  return result;
}

// What the names of all files in the folder `name` begin with.
std::string folder_prefix(const std::string& name) {
  if (name == ".") return "";
  return name == "/" ? name : name + "/";
}

class MemoryRandomAccessFile final : public RandomAccessFile {
 public:
  MemoryRandomAccessFile(std::string name, std::shared_ptr<const Bytes> bytes)
      : name_(std::move(name)), bytes_(std::move(bytes)) {}

  std::uint64_t size() const override { return bytes_->size(); }

  void read_at(std::uint64_t offset, void* destination, std::size_t n_bytes) const override {
    const std::uint64_t n_found = offset < size() ? size() - offset : 0;
    if (offset > size() || n_bytes > n_found) {
      throw IoError("cannot read '" + name_ + "': at byte " + std::to_string(offset) + " expected " +
                    std::to_string(n_bytes) + " bytes, found " + std::to_string(n_found) + " (the file has " +
                    std::to_string(size()) + ")");
    }
    if (n_bytes > 0) std::memcpy(destination, bytes_->data() + offset, n_bytes);
  }

 private:
  std::string name_;
  std::shared_ptr<const Bytes> bytes_;
};

}  // namespace

struct MemoryStorage::Files {
  std::mutex mutex;
  std::map<std::string, std::shared_ptr<const Bytes>> by_name;  // guarded by `mutex`

  // The functions below require that the caller holds `mutex`.
  bool is_folder(const std::string& name) const {
    const auto first = by_name.lower_bound(folder_prefix(name));
    return first != by_name.end() && first->first.rfind(folder_prefix(name), 0) == 0;
  }

  void require_writable(const std::string& name) const {
    if (name.empty()) throw IoError("cannot write '': the path is empty", ENOENT);
    if (name == "." || name == "/" || is_folder(name))
      throw IoError("cannot write '" + name + "': is a folder", EISDIR);
    for (auto slash = name.find('/', 1); slash != std::string::npos; slash = name.find('/', slash + 1)) {
      const std::string parent = name.substr(0, slash);
      if (by_name.count(parent) != 0) {
        throw IoError("cannot write '" + name + "': '" + parent + "' is a file, not a folder", ENOTDIR);
      }
    }
  }
};

class MemoryWritableFile final : public WritableFile {
 public:
  MemoryWritableFile(std::shared_ptr<MemoryStorage::Files> files, std::string name)
      : files_(std::move(files)), name_(std::move(name)), bytes_(std::make_shared<Bytes>()) {}

  void append(const void* data, std::size_t n_bytes) override {
    require_open();
    const auto* bytes = static_cast<const unsigned char*>(data);
    bytes_->insert(bytes_->end(), bytes, bytes + n_bytes);
  }

  void commit() override {
    require_open();
    const std::lock_guard lock(files_->mutex);
    // Once more: other writers may have made a folder of this name since create().
    files_->require_writable(name_);
    files_->by_name[name_] = std::move(bytes_);
  }

 private:
  void require_open() const {
    if (!bytes_) throw IoError("cannot write '" + name_ + "': commit() was called");
  }

  std::shared_ptr<MemoryStorage::Files> files_;
  std::string name_;
  std::shared_ptr<Bytes> bytes_;  // null after commit()
};

MemoryStorage::MemoryStorage() : files_(std::make_shared<Files>()) {}

std::unique_ptr<WritableFile> MemoryStorage::create(const std::string& path) {
  const std::string name = normalize(path);
  const std::lock_guard lock(files_->mutex);
  files_->require_writable(name);
  return std::make_unique<MemoryWritableFile>(files_, name);
}

std::unique_ptr<RandomAccessFile> MemoryStorage::open(const std::string& path) const {
  const std::string name = normalize(path);
  const std::lock_guard lock(files_->mutex);
  const auto found = files_->by_name.find(name);
  if (found != files_->by_name.end()) return std::make_unique<MemoryRandomAccessFile>(name, found->second);
  if (!name.empty() && files_->is_folder(name)) throw IoError("cannot open '" + name + "': is a folder", EISDIR);
  throw NotFoundError("cannot open '" + name + "': no such file");
}

bool MemoryStorage::exists(const std::string& path) const {
  const std::string name = normalize(path);
  const std::lock_guard lock(files_->mutex);
  return !name.empty() && (files_->by_name.count(name) != 0 || files_->is_folder(name));
}

void MemoryStorage::remove(const std::string& path) {
  const std::string name = normalize(path);
  if (name.empty()) return;
  const std::lock_guard lock(files_->mutex);
  files_->by_name.erase(name);
  const std::string prefix = folder_prefix(name);
  auto first = files_->by_name.lower_bound(prefix);
  while (first != files_->by_name.end() && first->first.rfind(prefix, 0) == 0) first = files_->by_name.erase(first);
}

std::vector<std::string> MemoryStorage::list(const std::string& path) const {
  const std::string name = normalize(path);
  if (name.empty()) return {};
  const std::string prefix = folder_prefix(name);
  const std::lock_guard lock(files_->mutex);
  std::vector<std::string> names;
  for (auto file = files_->by_name.lower_bound(prefix); file != files_->by_name.end(); ++file) {
    if (file->first.rfind(prefix, 0) != 0) break;
    const std::string rest = file->first.substr(prefix.size());
    if (rest[0] != '/') names.push_back(rest.substr(0, rest.find('/')));
  }
  // A folder shows up once for each file in it.
  std::sort(names.begin(), names.end());
  names.erase(std::unique(names.begin(), names.end()), names.end());
  return names;
}

}  // namespace ckptio
