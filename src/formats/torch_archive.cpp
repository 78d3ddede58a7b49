// SPDX-License-Identifier: Apache-2.0
// A Checkpoint as the attributes of a LibTorch archive; formats/torch_checkpoint_io.h describes them.
#include <ATen/ATen.h>

#include <unordered_map>

#include "ckptio/formats/torch_checkpoint_io.h"
#include "ckptio/verify.h"
#include "formats/torch_archive.h"
#include "value/ivalue.h"
#include "value/tensor_storage.h"

namespace ckptio {

namespace {

constexpr const char* kVersionKey = "ckptio_format_version";
constexpr const char* kCheckpointKey = "checkpoint";
constexpr const char* kLocationsKey = "ckptio_locations";
constexpr std::int64_t kFormatVersion = 2;  // the newest that is read

// Gives tensors the form in which TorchScript's pickler keeps what it would lose: it writes a storage once, under the
// dtype in which it met it first, and cannot write meta tensors.
class TensorEncoder {
 public:
  c10::IValue operator()(const at::Tensor& tensor) {
    if (tensor.is_meta()) return detail::encode_meta(tensor);
    if (!detail::has_plain_storage(tensor)) return tensor;
    if (const std::string why = detail::why_no_memory(tensor); !why.empty()) throw ValueError(why);
    const auto [seen, is_new] = bases_.try_emplace(tensor.storage().unsafeGetStorageImpl());
    if (is_new) {
      seen->second = base_of(tensor);
      locations_.push_back(tensor.device().str());
      n_off_cpu_ += tensor.device().is_cpu() ? 0 : 1;
    }
    const at::Tensor& base = seen->second;
    if (base.scalar_type() == tensor.scalar_type()) return tensor;
    if (tensor.is_conj() || tensor.is_neg()) return tensor.resolve_conj().resolve_neg();
    return detail::encode_view(tensor, base);
  }

  bool all_on_cpu() const { return n_off_cpu_ == 0; }
  const std::vector<std::string>& locations() const { return locations_; }

 private:
  // The tensor itself; its bytes, where they are no whole number of items, of which the pickler would lose the rest.
  static at::Tensor base_of(const at::Tensor& tensor) {
    const auto n_bytes = tensor.storage().nbytes();
    if (n_bytes % tensor.itemsize() == 0) return tensor;
    return detail::bytes_of(tensor.storage());
  }

  std::unordered_map<const c10::StorageImpl*, at::Tensor> bases_;
  std::vector<std::string> locations_;
  std::size_t n_off_cpu_ = 0;
};

void check_version(torch::serialize::InputArchive& archive) {
  c10::IValue version;
  archive.read(kVersionKey, version);
  if (!version.isInt() || version.toInt() < 1) throw CorruptError("its format version is no positive integer");
  if (version.toInt() > kFormatVersion) {
    throw UnsupportedError("its format version is " + std::to_string(version.toInt()) +
                           ", this ckptio reads versions up to " + std::to_string(kFormatVersion));
  }
}

Dict attributes_of(torch::serialize::InputArchive& archive) {
  Dict attributes;
  for (const std::string& key : archive.keys()) {
    c10::IValue value;
    archive.read(key, value);
    attributes[key] = detail::from_ivalue(value);
  }
  return attributes;
}

}  // namespace

namespace detail {

torch::serialize::InputArchive& operator>>(torch::serialize::InputArchive& archive, TorchArchive& result) {
  c10::IValue ivalue;
  if (!archive.try_read(kVersionKey, ivalue)) {
    result.checkpoint = attributes_of(archive);
    return archive;
  }
  check_version(archive);
  archive.read(kCheckpointKey, ivalue);
  result.checkpoint = from_ivalue(ivalue).as<Dict>();
  if (archive.try_read(kLocationsKey, ivalue)) {
    result.locations = from_ivalue(ivalue).as<std::vector<std::string>>();
  }
  return archive;
}

}  // namespace detail

torch::serialize::OutputArchive& operator<<(torch::serialize::OutputArchive& archive, const Checkpoint& checkpoint) {
  verify(checkpoint);
  TensorEncoder encoder;
  const detail::EncodedValue encoded =
      detail::to_ivalue(Value(checkpoint), [&encoder](const at::Tensor& t) { return encoder(t); });
  archive.write(kVersionKey, c10::IValue(encoded.version));
  archive.write(kCheckpointKey, encoded.ivalue);
  if (!encoder.all_on_cpu()) archive.write(kLocationsKey, c10::IValue(encoder.locations()));
  return archive;
}

torch::serialize::InputArchive& operator>>(torch::serialize::InputArchive& archive, Checkpoint& checkpoint) {
  detail::TorchArchive result;
  archive >> result;
  checkpoint = std::move(result.checkpoint);
  return archive;
}

}  // namespace ckptio
