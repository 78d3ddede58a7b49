// SPDX-License-Identifier: Apache-2.0
// EventFile: a file of TensorBoard's events.
//
// Sources: records as in TFRecord files (tensorflow.org/tutorials/load_data/tfrecord: length, masked CRC-32C of the
// length, data, masked CRC-32C of the data, all little-endian), each a protocol buffer `Event`; field numbers from
// tensorboard 2.21's compat/proto/{event,summary,tensor}.proto and plugins/hparams/{plugin_data,api}.proto.
//
// Each function writes whole records with one system call: a killed process leaves nothing half written, and a reader
// that follows the file sees at once what was logged. Not flushed to the disk.
// Threads: one at a time.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <variant>
#include <vector>

#include "storage/posix_file.h"

namespace ckptio::detail {

class EventFile {
 public:
  using HyperParameter = std::variant<bool, double, std::string>;

  // Makes a new file `events.out.tfevents.<seconds>.<host>.<pid>.<n>` in the folder, beside others that may be there:
  // TensorBoard reads all of them, in the order of their names. IoError where it can't.
  explicit EventFile(const std::string& folder);

  // As add_scalar of torch.utils.tensorboard: values are kept as float32.
  void add_scalars(const std::map<std::string, double>& values, std::int64_t step);

  // What TensorBoard's HParams page shows: the parameters of this run and the names of the metrics that judge it.
  void add_hyper_parameters(const std::map<std::string, HyperParameter>& parameters,
                            const std::vector<std::string>& metrics);

  // The HParams page shows how the run with those parameters ended.
  void add_end(bool is_success);

  // A run begins, or goes on, whose first scalars are of this step: what earlier files of the folder have from there on
  // was undone, and TensorBoard shows it no more. Writes nothing if another logger was writing to the folder when this
  // file was made.
  void add_start(std::int64_t step);

  const std::string& path() const noexcept { return path_; }

 private:
  void write(const std::string& event);

  std::string path_;
  const bool follows_others_;
  FileDescriptor file_;
  std::uint64_t size_ = 0;
};

// Castagnoli's CRC, as in RFC 3720; slow, for small records.
std::uint32_t crc32c(const void* data, std::size_t n_bytes);

}  // namespace ckptio::detail
