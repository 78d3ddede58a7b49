// SPDX-License-Identifier: Apache-2.0
#include "engine/plan_reader.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "async/huge_pages.h"
#include "codec/checksum.h"

namespace ckptio::detail {

namespace {

// Between small ranges, so much is read and thrown away rather than asking the kernel once more: about as long as a
// call takes, and more than what stands between the records of torch.save's files.
constexpr std::uint64_t kMaxGapBytes = 4096;
// Small ranges are read together up to this size, so that they are copied out of the cache.
constexpr std::uint64_t kGatherBytes = kChunkBytes;
static_assert(kGatherBytes <= kDirectPartBytes && kSmallBytes <= kGatherBytes);
// So many places tell whether a file is in the system's caches.
constexpr std::size_t kSamples = 16;

// The CRC, where it is wanted, of `bytes` behind those of `crc`; they go to `to` unless that is null.
std::uint32_t check_and_copy(std::uint32_t crc, const unsigned char* bytes, unsigned char* to, std::size_t n_bytes,
                             bool check) {
  if (to == nullptr) return check ? crc32(crc, bytes, n_bytes) : crc;
  for (std::size_t at = 0; at < n_bytes; at += kCopyBytes) {
    const std::size_t n_now = std::min(kCopyBytes, n_bytes - at);
    if (check) crc = crc32(crc, bytes + at, n_now);
    std::memcpy(to + at, bytes + at, n_now);
  }
  return crc;
}

std::uint64_t end_of(const ReadRange& range) { return range.offset + range.n_bytes; }

bool is_in(const ReadWindow& window, const ReadRange& range) {
  return range.offset >= window.offset && end_of(range) <= window.offset + window.n_bytes;
}

std::uint64_t next_multiple(std::uint64_t number, std::uint64_t unit) { return (number / unit + 1) * unit; }

// What has to be added to an offset in the file for its address.
std::uintptr_t address_ahead(const ReadWindow& window) {
  return reinterpret_cast<std::uintptr_t>(window.memory) - window.offset;
}

}  // namespace

PlanReader::PlanReader(const RandomAccessFile& file, const ReadPlan& plan)
    : file_(file), plan_(plan), order_(plan.ranges.size()), found_(plan.ranges.size()) {
  std::iota(order_.begin(), order_.end(), std::size_t{0});
  const auto is_before = [&](std::size_t a, std::size_t b) { return plan.ranges[a].offset < plan.ranges[b].offset; };
  if (!std::is_sorted(order_.begin(), order_.end(), is_before)) {  // as formats hand them over, mostly
    std::stable_sort(order_.begin(), order_.end(), is_before);
  }
  check_bounds();
  waits_for_disk_ = is_mostly_direct();
  part_bytes_ = waits_for_disk_ ? kDirectPartBytes : kPartBytes;
  cut();
}

void PlanReader::check_bounds() const {
  for (const ReadRange& range : plan_.ranges) {
    // Refused before anything is read: the file says how, in its own words.
    if (range.offset > file_.size() || range.n_bytes > file_.size() - range.offset) {
      file_.read_at(range.offset, range.destination, static_cast<std::size_t>(range.n_bytes));
    }
  }
}

void PlanReader::run(PartRunner& runner) {
  if (plan_.check == ReadCheck::before_reading) {
    run(runner, {.check = true, .deliver = false});
    judge();
  }
  const auto has_crc = [](const ReadRange& range) { return range.crc.has_value(); };
  const bool check =
      plan_.check == ReadCheck::while_reading && std::any_of(plan_.ranges.begin(), plan_.ranges.end(), has_crc);
  run(runner, {.check = check, .deliver = true});
  if (plan_.check == ReadCheck::while_reading) judge();
}

void PlanReader::cut() {
  auto window = plan_.windows.begin();
  for (std::size_t position = 0; position < order_.size();) {
    const ReadRange& range = range_at(position);
    while (window != plan_.windows.end() && window->offset + window->n_bytes <= range.offset) ++window;
    if (window != plan_.windows.end() && is_in(*window, range)) {
      position = cut_window(position, *window++);
    } else if (waits_for_disk_) {
      position = cut_run(position, window == plan_.windows.end() ? file_.size() : window->offset);
    } else if (range.n_bytes < kSmallBytes) {
      position = gather(position);
    } else {
      position = cut_large(position);
    }
  }
}

std::size_t PlanReader::cut_window(std::size_t position, const ReadWindow& window) {
  const std::size_t first = position;
  std::uint64_t end = range_at(first).offset;
  for (; position < order_.size(); ++position) {
    const ReadRange& range = range_at(position);
    if (!is_in(window, range) || range.offset < end) break;
    end = end_of(range);
  }
  Span form;
  form.window = &window;
  cut_parts(first, position, end, std::max(part_bytes_, kHugePageBytes), address_ahead(window), form);
  return position;
}

// Of ranges that stand one behind the other: what is read past the caches comes into a buffer anyway, and a small read
// for each end of a range would wait for all the large ones that are under way.
std::size_t PlanReader::cut_run(std::size_t position, std::uint64_t limit) {
  const std::size_t first = position;
  std::uint64_t end = range_at(first).offset;
  for (; position < order_.size(); ++position) {
    const ReadRange& range = range_at(position);
    const bool goes_on = range.offset >= end && range.offset - end <= kMaxGapBytes && range.offset < limit;
    if (position > first && !goes_on) break;
    end = end_of(range);
  }
  Span form;
  form.is_gathered = true;
  cut_parts(first, position, end, part_bytes_, 0, form);
  return position;
}

// The ranges from `first` to before `last`, which end at `end`, in parts that end at multiples of `part_bytes` when
// `ahead` is added. `form`: of the spans.
void PlanReader::cut_parts(std::size_t first, std::size_t last, std::uint64_t end, std::uint64_t part_bytes,
                           std::uint64_t ahead, const Span& form) {
  for (std::uint64_t at = range_at(first).offset; at < end; at = spans_.back().end) {
    Span span = form;
    span.begin = at;
    span.end = std::min(end, next_multiple(at + ahead, part_bytes) - ahead);
    span.first = span.last = first;
    while (span.last < last && range_at(span.last).offset < span.end) ++span.last;
    first = span.last > span.first && end_of(range_at(span.last - 1)) > span.end ? span.last - 1 : span.last;
    spans_.push_back(span);
  }
}

std::size_t PlanReader::cut_large(std::size_t position) {
  const ReadRange& range = range_at(position);
  const std::uint64_t end = end_of(range);
  for (std::uint64_t at = range.offset; at < end; at = spans_.back().end) {
    spans_.push_back({at, std::min(end, next_multiple(at, part_bytes_)), position, position + 1});
  }
  return position + 1;
}

std::size_t PlanReader::gather(std::size_t position) {
  Span span{range_at(position).offset, range_at(position).offset, position, position, true};
  for (; span.last < order_.size(); ++span.last) {
    const ReadRange& range = range_at(span.last);
    const std::uint64_t end = std::max(span.end, end_of(range));
    if (range.n_bytes >= kSmallBytes || range.offset > span.end + kMaxGapBytes || end - span.begin > kGatherBytes)
      break;
    span.end = end;
  }
  spans_.push_back(span);
  return span.last;
}

void PlanReader::run(PartRunner& runner, Pass pass) {
  runner.run(spans_.size(), [&](std::size_t index, PartBuffer& buffer) { read(spans_[index], buffer, pass); });
}

bool PlanReader::is_wanted(const Span& span, Pass pass) const {
  for (std::size_t i = span.first; i < span.last; ++i) {
    const ReadRange& range = range_at(i);
    if (range.n_bytes > 0 && ((pass.check && range.crc) || (pass.deliver && range.destination != nullptr))) return true;
  }
  return false;
}

unsigned char* PlanReader::memory_of(const Span& span, const ReadRange& first) {
  if (span.window != nullptr) {
    return static_cast<unsigned char*>(span.window->memory) + (span.begin - span.window->offset);
  }
  if (span.is_gathered || first.destination == nullptr) return nullptr;
  return static_cast<unsigned char*>(first.destination) + (span.begin - first.offset);
}

void PlanReader::read(Span& span, PartBuffer& buffer, Pass pass) {
  if (!is_wanted(span, pass)) return;
  unsigned char* const memory = pass.deliver ? memory_of(span, range_at(span.first)) : nullptr;
  // With CRCs in chunks that are still in the cache when these are computed.
  const std::uint64_t n_most = waits_for_disk_ ? kDirectPartBytes : pass.check ? kChunkBytes : kPartBytes;
  const std::uint64_t ahead = span.window == nullptr ? 0 : address_ahead(*span.window);
  std::size_t position = span.first;
  for (std::uint64_t at = span.begin, next = 0; at < span.end; at = next) {
    next = span.is_gathered ? span.end : std::min(span.end, next_multiple(at + ahead, n_most) - ahead);
    const unsigned char* bytes = read_chunk(at, next, memory == nullptr ? nullptr : memory + (at - span.begin), buffer);
    position = take_pieces(span, position, at, next, bytes, pass);
  }
}

const unsigned char* PlanReader::read_chunk(std::uint64_t begin, std::uint64_t end, unsigned char* memory,
                                            PartBuffer& buffer) const {
  if (const std::size_t block_bytes = direct_block_bytes(begin, end); block_bytes > 0) {
    const std::uint64_t first = begin / block_bytes * block_bytes;
    const std::uint64_t last = (end + block_bytes - 1) / block_bytes * block_bytes;
    if (last - first <= buffer.size()) {
      file_.read_direct_at(first, buffer.data(), static_cast<std::size_t>(last - first));
      return buffer.data() + (begin - first);
    }
  }
  unsigned char* const to = memory == nullptr ? buffer.data() : memory;
  file_.read_at(begin, to, static_cast<std::size_t>(end - begin));
  return to;
}

std::size_t PlanReader::take_pieces(Span& span, std::size_t position, std::uint64_t begin, std::uint64_t end,
                                    const unsigned char* bytes, Pass pass) {
  for (; position < span.last; ++position) {
    const ReadRange& range = range_at(position);
    const std::uint64_t piece_begin = std::max(range.offset, begin), piece_end = std::min(end_of(range), end);
    if (piece_begin >= piece_end) {
      if (range.offset < end) continue;  // it has no bytes
      break;
    }
    const unsigned char* const from = bytes + (piece_begin - begin);
    const bool check = pass.check && range.crc, deliver = pass.deliver && range.destination != nullptr;
    unsigned char* to =
        deliver ? static_cast<unsigned char*>(range.destination) + (piece_begin - range.offset) : nullptr;
    if (to == from) to = nullptr;
    if (check || to != nullptr) {
      std::uint32_t& crc = crc_in(span, position);
      crc = check_and_copy(crc, from, to, static_cast<std::size_t>(piece_end - piece_begin), check);
    }
    if (end_of(range) > end) break;
  }
  return position;
}

std::uint32_t& PlanReader::crc_in(Span& span, std::size_t position) {
  const ReadRange& range = range_at(position);
  if (range.offset >= span.begin && end_of(range) <= span.end) return found_[order_[position]];
  return position == span.first ? span.crc_of_first : span.crc_of_last;
}

// Two passes go through the caches: the second one finds the bytes there.
std::size_t PlanReader::direct_block_bytes(std::uint64_t begin, std::uint64_t end) const {
  if (plan_.check == ReadCheck::before_reading) return 0;
  const std::size_t n_bytes = file_.direct_block_bytes(begin, static_cast<std::size_t>(end - begin));
  return n_bytes <= kMaxBlockBytes ? n_bytes : 0;
}

// Of the bytes, not of the ranges: many small ones may be cached, and few large ones not.
bool PlanReader::is_mostly_direct() const {
  std::uint64_t n_bytes = 0;
  for (const ReadRange& range : plan_.ranges) n_bytes += range.n_bytes;
  const std::uint64_t step = n_bytes / kSamples + 1;
  std::size_t n_asked = 0, n_direct = 0;
  std::uint64_t before = 0;  // bytes of the ranges before this one
  for (std::size_t i = 0; i < order_.size(); before += range_at(i++).n_bytes) {
    for (std::uint64_t next = n_asked * step + step / 2; next < before + range_at(i).n_bytes; next += step, ++n_asked) {
      const std::uint64_t begin = range_at(i).offset + (next - before);
      n_direct += direct_block_bytes(begin, std::min(begin + kGatherBytes, file_.size())) > 0;
    }
  }
  return 2 * n_direct > n_asked;
}

void PlanReader::join_pieces(const Span& span) {
  const auto join = [&](std::size_t position, std::uint32_t crc) {
    const ReadRange& range = range_at(position);
    if (range.offset >= span.begin && end_of(range) <= span.end) return;
    std::uint32_t& found = found_[order_[position]];
    found = crc32_combine(found, crc, std::min(end_of(range), span.end) - std::max(range.offset, span.begin));
  };
  if (span.first == span.last) return;
  join(span.first, span.crc_of_first);
  if (span.last - span.first > 1) join(span.last - 1, span.crc_of_last);
}

void PlanReader::judge() {
  for (const Span& span : spans_) join_pieces(span);
  for (const std::size_t index : order_) {
    const ReadRange& range = plan_.ranges[index];
    if (range.crc && *range.crc != found_[index]) plan_.report_damage(index, found_[index]);
  }
}

}  // namespace ckptio::detail
