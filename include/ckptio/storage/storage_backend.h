// SPDX-License-Identifier: Apache-2.0
// StorageBackend: where the bytes of checkpoints live. Subclass it for a place of your own (a database, an
// object store); every format then works there. See memory_storage.h for the smallest complete example.
//
// A backend sees names and bytes, never a Checkpoint, and does not need LibTorch. "Path" is whatever string the
// user gave to save_checkpoint or load_checkpoint: a file path or a URI.
//
// Threads: a StorageBackend may be called from several threads at once. A WritableFile belongs to one thread at a
// time, but for write_at(); a RandomAccessFile may be read by many at once.
// Errors: NotFoundError for what does not exist, IoError for all that the place refuses; both name the path.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace ckptio {

// One file being written. Readers see nothing of it before commit(): until then the path holds what it held.
class WritableFile {
 public:
  WritableFile() = default;
  WritableFile(const WritableFile&) = delete;
  WritableFile& operator=(const WritableFile&) = delete;

  // Destroyed without commit(), or after one that failed: what was written is dropped, the old file stays.
  virtual ~WritableFile() = default;

  // Adds `n_bytes` bytes at `data` to the end. The bytes are copied or written before the call returns.
  // After an IoError the file can only be destroyed.
  virtual void append(const void* data, std::size_t n_bytes) = 0;

  // Makes the bytes the content of the path, all at once: a reader at any moment finds the old file or the new
  // one, whole. On return the new content survives a power cut, where the backend promises durability and it was
  // not turned off. On IoError the old file is whole; or, where only the last step failed, which makes the change
  // survive a power cut, the new one is: the message then says so. Requires: called once, after the last append() or
  // write_at() has returned.
  virtual void commit() = 0;

  // True where write_at() works: then a checkpoint is written by several threads side by side, else by one with
  // append(). A file is written with one of the two only. The default implementation says false.
  virtual bool can_write_at() const { return false; }

  // Writes the `n_bytes` bytes at `data` to the file's bytes from `offset` on, over what was written there before.
  // Bytes in between that nobody writes are zero. Safe from several threads at once, for ranges that do not overlap.
  // After an IoError of any thread the file can only be destroyed, once the calls of the others have returned; they
  // may throw too. IoError also after an append(). The default implementation throws UnsupportedError.
  virtual void write_at(std::uint64_t offset, const void* data, std::size_t n_bytes);

  // The size in bytes of the blocks in which write_direct_at() writes, a power of two of at most 64 KiB; 0: it has
  // nothing to offer. Asked after reserve(). The default implementation says 0.
  virtual std::size_t direct_block_bytes() const { return 0; }

  // As write_at(), past the caches of the system: no copy is made there, and nothing else pushed out. Requires:
  // direct_block_bytes() is not 0, and `offset`, the address `data` and `n_bytes` are multiples of it. The default
  // implementation calls write_at().
  virtual void write_direct_at(std::uint64_t offset, const void* data, std::size_t n_bytes);

  // Says that the file will have `n_bytes` bytes, so that the place can set them aside: IoError where it knows that it
  // has no room for them. Only what is written counts as the file's content. Called at most once, before the first
  // write. The default implementation does nothing.
  virtual void reserve(std::uint64_t n_bytes);
};

// One file open for reading, a fixed sequence of bytes: replacing or removing the path does not change it.
class RandomAccessFile {
 public:
  RandomAccessFile() = default;
  RandomAccessFile(const RandomAccessFile&) = delete;
  RandomAccessFile& operator=(const RandomAccessFile&) = delete;
  virtual ~RandomAccessFile() = default;

  // Size in bytes when it was opened.
  virtual std::uint64_t size() const = 0;

  // Reads exactly `n_bytes` bytes from byte `offset` on into `destination`. A range that is not inside the file
  // is an IoError, as is a file that has become shorter. Safe from several threads.
  virtual void read_at(std::uint64_t offset, void* destination, std::size_t n_bytes) const = 0;

  // Says that this range is going to be read, so that the place can fetch it meanwhile. Returns without waiting; a range
  // outside the file is no error here. Safe from several threads. The default implementation does nothing.
  virtual void prefetch(std::uint64_t offset, std::size_t n_bytes) const;

  // The size in bytes of the blocks in which read_direct_at() reads these bytes sooner than read_at() would, a power of
  // two of at most 64 KiB; 0: it would not. Safe from several threads. The default implementation says 0.
  virtual std::size_t direct_block_bytes(std::uint64_t offset, std::size_t n_bytes) const;

  // As read_at(), past the caches of the system. Requires: direct_block_bytes() is not 0, and `offset`, the address
  // `destination` and `n_bytes` are multiples of it; the range may end behind the file's end, by less than a block, and
  // what is there is left as it was. The default implementation calls read_at().
  virtual void read_direct_at(std::uint64_t offset, void* destination, std::size_t n_bytes) const;

  // The whole file as memory, size() bytes, or null where the place cannot give that. What is written there is seen
  // through this pointer and its copies alone, and never reaches the file. Lives as long as the pointers, also after
  // this object. A file that others shorten meanwhile ends the process when the missing part is touched (SIGBUS);
  // ckptio itself never changes a file that was committed. The default implementation gives null.
  virtual std::shared_ptr<void> map() const { return nullptr; }
};

class StorageBackend {
 public:
  virtual ~StorageBackend() = default;

  // Begins to write `path`, whose parent folders are made where the place has folders. `path` being a folder is
  // an IoError. Several writers of one path: the last commit() wins whole.
  virtual std::unique_ptr<WritableFile> create(const std::string& path) = 0;

  // Opens `path` for reading. NotFoundError where nothing is there, IoError where it is a folder.
  virtual std::unique_ptr<RandomAccessFile> open(const std::string& path) const = 0;

  // True where a file or a folder of that name can be seen by readers.
  virtual bool exists(const std::string& path) const = 0;

  // Removes the file, or the folder with all that is in it. Nothing there is not an error. After a power cut what was
  // removed may be there again, whole.
  virtual void remove(const std::string& path) = 0;

  // Names (not paths) of the files and folders directly inside `path`, sorted; empty where nothing is there.
  virtual std::vector<std::string> list(const std::string& path) const = 0;
};

// Where formats keep checkpoints unless told otherwise: a new LocalStorage, durable.
std::shared_ptr<StorageBackend> default_storage();

}  // namespace ckptio
