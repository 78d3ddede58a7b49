// SPDX-License-Identifier: Apache-2.0
// Tarjan's algorithm for strongly connected components, with a stack of its own. Components come out from the inside:
// when one is complete, the depths of all that it refers to are known.
#include "codec/graph_depth.h"

#include <algorithm>
#include <unordered_map>
#include <vector>

namespace ckptio::detail {
namespace {

struct Node {
  std::uint32_t low = 0;      // the first node (by number) known to be in the same component
  std::uint32_t deepest = 0;  // depth of the deepest finished component below
  std::uint32_t depth = 0;    // of its own component, once finished
  bool is_finished = false;
};

struct Open {
  const Object* object;
  std::uint32_t node;
  std::size_t n_done;
};

class DepthWalk {
 public:
  explicit DepthWalk(GraphBuilder& builder) : builder_(builder) {}

  std::uint64_t measure(const Object* root) {
    if (n_children(*root) == 0) return 0;
    enter(root);
    while (!open_.empty()) {
      Open& top = open_.back();
      if (top.n_done == n_children(*top.object)) {
        leave();
        continue;
      }
      const Object* next = child(*top.object, top.n_done++);
      if (next == nullptr || n_children(*next) == 0) continue;
      const auto place = numbers_.find(next);
      if (place == numbers_.end()) {
        enter(next);
      } else {
        join(top.node, place->second);
      }
    }
    return nodes_[0].depth;
  }

 private:
  void enter(const Object* object) {
    builder_.charge(128);  // number, node, both stacks
    const auto number = static_cast<std::uint32_t>(nodes_.size());
    numbers_.emplace(object, number);
    nodes_.push_back({number, 0, 0, false});
    unfinished_.push_back(number);
    open_.push_back({object, number, 0});
  }

  void join(std::uint32_t parent, std::uint32_t below) {
    if (nodes_[below].is_finished) {
      nodes_[parent].deepest = std::max(nodes_[parent].deepest, nodes_[below].depth);
    } else {
      nodes_[parent].low = std::min(nodes_[parent].low, nodes_[below].low);
    }
  }

  void leave() {
    const std::uint32_t number = open_.back().node;
    open_.pop_back();
    if (nodes_[number].low == number) finish(number);
    if (open_.empty()) return;
    const std::uint32_t parent = open_.back().node;
    join(parent, number);
  }

  // The component of `number`: all nodes on the stack from it on.
  void finish(std::uint32_t number) {
    const auto begin = std::find(unfinished_.rbegin(), unfinished_.rend(), number).base() - 1;
    std::uint32_t deepest = 0;
    for (auto node = begin; node != unfinished_.end(); ++node) deepest = std::max(deepest, nodes_[*node].deepest);
    const auto n_nodes = static_cast<std::uint32_t>(unfinished_.end() - begin);
    for (auto node = begin; node != unfinished_.end(); ++node) {
      nodes_[*node].depth = deepest + n_nodes;
      nodes_[*node].is_finished = true;
    }
    unfinished_.erase(begin, unfinished_.end());
  }

  GraphBuilder& builder_;
  std::unordered_map<const Object*, std::uint32_t> numbers_;
  std::vector<Node> nodes_;
  std::vector<Open> open_;
  std::vector<std::uint32_t> unfinished_;
};

}  // namespace

std::uint64_t measure_depth(GraphBuilder& builder, const Object* root) { return DepthWalk(builder).measure(root); }

}  // namespace ckptio::detail
