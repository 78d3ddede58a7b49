// SPDX-License-Identifier: Apache-2.0
// Sha256: the hash of bytes that come piece by piece, by OpenSSL's libcrypto. One thread at a time.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

struct evp_md_ctx_st;

namespace ckptio::cli {

class Sha256 {
 public:
  Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  ~Sha256();

  void update(const void* data, std::size_t n_bytes);
  std::string hex();  // of all so far, in lower case. Requires: called once, last.

 private:
  evp_md_ctx_st* context_;
};

std::string sha256_of(std::string_view bytes);

}  // namespace ckptio::cli
