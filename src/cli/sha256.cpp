// SPDX-License-Identifier: Apache-2.0
#include "cli/sha256.h"

#include <openssl/evp.h>

#include <new>

#include "ckptio/error.h"
#include "cli/text.h"

namespace ckptio::cli {
namespace {

void require(int success) {
  if (success != 1) throw UnsupportedError("OpenSSL's libcrypto cannot compute SHA-256 here");
}

}  // namespace

Sha256::Sha256() : context_(EVP_MD_CTX_new()) {
  if (context_ == nullptr) throw std::bad_alloc();
  require(EVP_DigestInit_ex(context_, EVP_sha256(), nullptr));
}

Sha256::~Sha256() { EVP_MD_CTX_free(context_); }

void Sha256::update(const void* data, std::size_t n_bytes) { require(EVP_DigestUpdate(context_, data, n_bytes)); }

std::string Sha256::hex() {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned n_bytes = 0;
  require(EVP_DigestFinal_ex(context_, digest, &n_bytes));
  return hex_of({reinterpret_cast<const char*>(digest), n_bytes});
}

std::string sha256_of(std::string_view bytes) {
  Sha256 hash;
  hash.update(bytes.data(), bytes.size());
  return hash.hex();
}

}  // namespace ckptio::cli
