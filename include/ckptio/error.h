// SPDX-License-Identifier: Apache-2.0
// The errors users of ckptio meet: one root class, one derived class per cause.
//
// Every message names what was attempted, where (a path, a key, a byte offset), what was found and what was
// expected. Nothing else escapes the public API: exceptions of LibTorch (`c10::Error`) and of the standard
// library are translated. Destructors never throw.
// Threads: the classes are values; distinct objects may be used from any thread.
#pragma once

#include <stdexcept>
#include <string>

namespace ckptio {

// Root of all errors thrown by ckptio. Catch this to keep a training process alive whatever a save or load met.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A checkpoint, a file or a registered name does not exist.
class NotFoundError : public Error {
 public:
  using Error::Error;
};

// Bytes are not what they claim to be: bad structure, failed checksum, truncation, not a checkpoint at all.
// The message names the file, the record and the byte offset.
class CorruptError : public Error {
 public:
  using Error::Error;
};

// Loading the file as asked would need to execute code it carries, or `weights_only` was asked and the file
// holds more than tensors and primitive values. The message lists what was found.
class UnsafeError : public Error {
 public:
  using Error::Error;
};

// A well-formed file that this version cannot read, or a request that this object does not support. For a file
// written by a newer version the message names both versions.
class UnsupportedError : public Error {
 public:
  using Error::Error;
};

// Saved state and live objects do not fit: the message lists every missing, unexpected and mismatched entry.
// Nothing was changed.
class MismatchError : public Error {
 public:
  using Error::Error;
};

// A key that is absent was read. The message gives the path to the container and the keys there are, near names
// first.
class KeyError : public Error {
 public:
  using Error::Error;
};

// A position outside a List or Tuple was read.
class IndexError : public KeyError {
 public:
  using KeyError::KeyError;
};

// A value has another type than the one asked for, or an argument is of a kind that the callee refuses.
class TypeError : public Error {
 public:
  using Error::Error;
};

// An argument or a value has the right type but is out of range or contradicts another.
class ValueError : public Error {
 public:
  using Error::Error;
};

// Options of a Trainer, a callback or a plugin that do not go together (Lightning's MisconfigurationException).
class MisconfigurationError : public Error {
 public:
  using Error::Error;
};

// The operating system or a storage service refused an operation: full disk, no permission, lost connection.
class IoError : public Error {
 public:
  // `error_number`: the errno of the failed call, 0 where there was none. The message already spells it out.
  explicit IoError(const std::string& message, int error_number = 0) : Error(message), error_number_(error_number) {}
  int error_number() const noexcept { return error_number_; }

 private:
  int error_number_;
};

}  // namespace ckptio
