// SPDX-License-Identifier: Apache-2.0
// LibTorch's archives, put together by a test: pickles (support/pickle_assembler.h), code as text, storages as bytes.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "codec/archive.h"
#include "support/pickle_assembler.h"
#include "support/raw_zip.h"

namespace ckptio::test {

struct LibTorchArchive {
  std::string data;                                           // data.pkl, without protocol and STOP
  std::vector<std::pair<std::string, std::string>> code;      // {"__torch__.py", text}
  std::vector<std::pair<std::string, std::string>> storages;  // {"data/0", bytes}
  std::string constants = ")";                                // constants.pkl, likewise
  std::string byteorder = "little";

  std::string bytes() const {
    RawZip zip;
    for (const auto& [name, content] : storages) zip.add("archive/" + name, content);
    zip.add("archive/data.pkl", pickle::doc(data));
    for (const auto& [name, text] : code) zip.add("archive/code/" + name, text);
    zip.add("archive/constants.pkl", pickle::doc(constants));
    zip.add("archive/version", "3\n");
    zip.add("archive/byteorder", byteorder);
    return zip.bytes();
  }
  // Holds its bytes: storages may be read.
  detail::Archive open() const {
    const auto held = std::make_shared<const std::string>(bytes());
    return detail::Archive::open({"x.pt", held->size(), [held](std::uint64_t offset, void* to, std::size_t n_bytes) {
                                    std::copy_n(held->data() + offset, n_bytes, static_cast<char*>(to));
                                  }});
  }
};

namespace pickle {

// An object of a class as TorchScript saves it: its attributes, keys and values in turn.
inline std::string object(const std::string& class_name, const std::vector<std::string>& attributes) {
  return global("__torch__", class_name) + ")\x81" + dict(attributes) + "b";
}

// A whole float32 storage as a tensor of one dimension.
inline std::string floats(const std::string& key, std::int64_t n_elements = 4, const std::string& location = "cpu") {
  TensorParts parts;
  parts.storage = storage("FloatStorage", key, n_elements, location);
  parts.sizes = integers({n_elements});
  return tensor(parts);
}
inline std::string longs(const std::string& key, const std::vector<std::int64_t>& sizes) {
  TensorParts parts;
  std::int64_t n_elements = 1;
  std::vector<std::int64_t> strides(sizes.size());
  for (std::size_t i = sizes.size(); i-- > 0; n_elements *= sizes[i]) strides[i] = n_elements;
  parts.storage = storage("LongStorage", key, n_elements);
  parts.sizes = integers(sizes);
  parts.strides = integers(strides);
  return tensor(parts);
}

}  // namespace pickle

}  // namespace ckptio::test
