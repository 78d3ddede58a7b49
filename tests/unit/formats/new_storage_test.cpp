// SPDX-License-Identifier: Apache-2.0
#include "formats/new_storage.h"

#include <ATen/ATen.h>

#include <cstdint>
#include <cstring>
#include <vector>

#include "support/catch.h"

using namespace ckptio::detail;

TEST_CASE("Small storages stand in shared blocks, and each is good as long as it is used") {
  std::vector<c10::Storage> storages;
  {
    StorageMaker maker;
    for (std::size_t i = 0; i < 2000; ++i) {
      storages.push_back(maker.make(i % 2100));
      if (i > 0) std::memset(storages.back().mutable_data(), static_cast<int>(i % 251), storages.back().nbytes());
    }
  }
  for (std::size_t i = 0; i < storages.size(); i += 2) storages[i] = c10::Storage();
  for (std::size_t i = 1; i < storages.size(); i += 2) {
    CHECK(reinterpret_cast<std::uintptr_t>(storages[i].data()) % c10::gAlignment == 0);
    const auto* bytes = static_cast<const unsigned char*>(storages[i].data());
    CHECK(std::vector<unsigned char>(bytes, bytes + storages[i].nbytes()) ==
          std::vector<unsigned char>(storages[i].nbytes(), static_cast<unsigned char>(i % 251)));
  }
}

TEST_CASE("A tensor over a small storage can grow, and others stay as they are") {
  StorageMaker maker;
  const c10::Storage small = maker.make(64), neighbour = maker.make(64);
  at::Tensor tensor = at::empty({0}, at::kFloat).set_(small, 0, {16}, {1});
  at::Tensor other = at::empty({0}, at::kFloat).set_(neighbour, 0, {16}, {1});
  tensor.fill_(1);
  other.fill_(2);
  tensor.resize_({100'000});
  CHECK(tensor.narrow(0, 0, 16).eq(1).all().item<bool>());
  CHECK(other.eq(2).all().item<bool>());
}
