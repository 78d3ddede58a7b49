// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace ckptio::detail {

constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;

// Asks for huge pages for those that lie within, before they are touched: one fault then, instead of 512. A wish:
// where the system does not grant it, everything is slower only. Safe from any thread.
void ask_for_huge_pages(void* data, std::size_t n_bytes) noexcept;

}  // namespace ckptio::detail
