// SPDX-License-Identifier: Apache-2.0
// Walks over object graphs that may be deep, shared and cyclic, without recursion: what an object is made of, and
// numbers for what is met twice. Threads: any number may walk one graph.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <unordered_map>
#include <vector>

#include "codec/object.h"

namespace ckptio::cli {

// The objects directly inside `object`, in the order in which they are described: of a dict keys and values in turn,
// then its attributes' values; of a tensor its parts; of an opaque object its fields. None is null.
std::vector<const detail::Object*> children_of(const detail::Object& object);

// What Python's containers are, those of which it matters that two references name one object. Not torch.Size, not the
// empty tuple, of which Python has one.
bool is_container(const detail::Object& object);

// Numbers for containers that are met more than once below `root`, for opaque objects likewise, and for storages. As
// the fixtures' describe() counts, which does not look into opaque objects; what only those share comes after.
class Numbering {
 public:
  explicit Numbering(const detail::Object& root);

  // -1 where there is one reference to it alone.
  std::int64_t id_of(const detail::Object& object);
  std::int64_t storage_number(std::uint32_t storage);

  // True if a reference to `object` stands outside all opaque objects.
  bool is_seen_outside(const detail::Object& object) const;

 private:
  struct Count {
    std::uint32_t n_outside = 0, n_all = 0;
    std::int64_t id = -1;
  };
  void count(const detail::Object& root, bool into_opaque);
  void number(const detail::Object& root);

  std::unordered_map<const detail::Object*, Count> counts_;
  std::map<std::uint32_t, std::int64_t> storages_;
  std::int64_t n_ids_ = 0;
};

}  // namespace ckptio::cli
