// SPDX-License-Identifier: Apache-2.0
#include "formats/safetensors_sharing.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <optional>

namespace ckptio::detail {

namespace {

// The bytes from a tensor's first element to its last. None for those that are written by themselves: a conjugated or
// negated view, whose values are others than those in memory, and an expanded one, with more elements than that.
struct Span {
  std::size_t index;  // of the tensor
  c10::Device device;
  std::uintptr_t begin, end;
};

std::optional<Span> span_of(const at::Tensor& tensor, std::size_t index) {
  if (tensor.numel() == 0 || tensor.is_conj() || tensor.is_neg()) return std::nullopt;
  std::int64_t last = 0;
  for (std::int64_t i = 0; i < tensor.dim(); ++i) last += (tensor.size(i) - 1) * tensor.stride(i);
  if (tensor.numel() > last + 1) return std::nullopt;
  const auto begin = reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr());
  return Span{index, tensor.device(), begin, begin + static_cast<std::uintptr_t>(last + 1) * tensor.element_size()};
}

class Finder {
 public:
  Finder(const std::vector<NamedTensor>& tensors, Problems& problems) : tensors_(tensors), problems_(problems) {
    sharing_.views.resize(tensors.size());
  }

  TensorSharing find() && {
    std::vector<Span> spans;
    for (std::size_t i = 0; i < tensors_.size(); ++i) {
      const auto span = span_of(tensors_[i].tensor, i);
      span ? spans.push_back(*span) : keep(i);
    }
    std::sort(spans.begin(), spans.end(), [](const Span& a, const Span& b) {
      if (a.device != b.device)
        return std::pair(a.device.type(), a.device.index()) < std::pair(b.device.type(), b.device.index());
      return a.begin != b.begin ? a.begin < b.begin : a.index < b.index;
    });
    for (auto group = spans.begin(); group != spans.end();) {
      std::uintptr_t end = group->end;
      auto next = group + 1;
      for (; next != spans.end() && next->device == group->device && next->begin < end; ++next)
        end = std::max(end, next->end);
      next - group == 1 ? keep(group->index) : add_group({group, next}, end);
      group = next;
    }
    std::sort(sharing_.kept.begin(), sharing_.kept.end());
    return std::move(sharing_);
  }

 private:
  void keep(std::size_t index) {
    sharing_.kept.push_back(index);
    sharing_.views[index].name = tensors_[index].name;
  }

  const at::Tensor& tensor(const Span& span) const { return tensors_[span.index].tensor; }
  const std::string& name(const Span& span) const { return tensors_[span.index].name; }

  static bool same_geometry(const at::Tensor& a, const at::Tensor& b) {
    return a.scalar_type() == b.scalar_type() && a.sizes() == b.sizes() && a.strides() == b.strides();
  }

  // `spans` overlap, from the first one's begin to `end`.
  void add_group(std::vector<Span> spans, std::uintptr_t end) {
    const std::uintptr_t begin = spans.front().begin;
    std::sort(spans.begin(), spans.end(), [&](const Span& a, const Span& b) { return name(a) < name(b); });
    const bool are_same = std::all_of(spans.begin(), spans.end(), [&](const Span& span) {
      return span.begin == begin && same_geometry(tensor(span), tensor(spans.front()));
    });
    const auto covers = [&](const Span& span) {
      return span.begin == begin && span.end == end && tensor(span).is_contiguous() && fits_all(span, spans);
    };
    const auto kept = are_same ? spans.begin() : std::find_if(spans.begin(), spans.end(), covers);
    if (kept == spans.end()) return refuse(spans);
    for (const Span& span : spans) {
      if (span.index == kept->index) {
        keep(span.index);
      } else {
        sharing_.views[span.index] = view(span, *kept, are_same);
      }
    }
  }

  // True if every other tensor begins at a whole number of its elements.
  bool fits_all(const Span& whole, const std::vector<Span>& spans) const {
    return std::all_of(spans.begin(), spans.end(), [&](const Span& span) {
      return (span.begin - whole.begin) % static_cast<std::uintptr_t>(tensor(span).element_size()) == 0;
    });
  }

  ViewOf view(const Span& part, const Span& whole, bool is_same) const {
    const at::Tensor& tensor = this->tensor(part);
    ViewOf view;
    view.name = name(whole);
    view.is_same = is_same || (part.begin == whole.begin && same_geometry(tensor, this->tensor(whole)));
    view.dtype = tensor.scalar_type();
    view.offset =
        static_cast<std::int64_t>((part.begin - whole.begin) / static_cast<std::uintptr_t>(tensor.element_size()));
    view.sizes = tensor.sizes().vec();
    view.strides = tensor.strides().vec();
    return view;
  }

  void refuse(const std::vector<Span>& spans) {
    std::string text;
    for (const Span& span : spans) text += (text.empty() ? "" : ", ") + tensors_[span.index].value->path();
    problems_.of_value.push_back(text + " (they share memory, and none of them is contiguous and covers the others)");
  }

  const std::vector<NamedTensor>& tensors_;
  Problems& problems_;
  TensorSharing sharing_;
};

}  // namespace

TensorSharing find_sharing(const std::vector<NamedTensor>& tensors, Problems& problems) {
  return Finder(tensors, problems).find();
}

}  // namespace ckptio::detail
