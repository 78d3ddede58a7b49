// SPDX-License-Identifier: Apache-2.0
#include "engine/plan_reader.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "codec/checksum.h"

namespace ckptio::detail {

namespace {

// Between small ranges, so much is read and thrown away rather than asking the kernel once more: about as long as a
// call takes, and more than what stands between the records of torch.save's files.
constexpr std::uint64_t kMaxGapBytes = 4096;
// Small ranges are read together up to this size, so that they are copied out of the cache.
constexpr std::uint64_t kGatherBytes = kChunkBytes;
static_assert(kGatherBytes + 2 * kMaxBlockBytes <= kDirectPartBytes && kSmallBytes <= kGatherBytes);
// So many ranges tell whether a file is in the system's caches.
constexpr std::size_t kSamples = 16;

// The CRC, where it is wanted, of `bytes`, which go to `to` unless that is null.
std::uint32_t check_and_copy(const unsigned char* bytes, unsigned char* to, std::size_t n_bytes, bool check) {
  std::uint32_t crc = 0;
  for (std::size_t at = 0; at < n_bytes; at += kCopyBytes) {
    const std::size_t n_now = std::min(kCopyBytes, n_bytes - at);
    if (check) crc = crc32(crc, bytes + at, n_now);
    if (to != nullptr) std::memcpy(to + at, bytes + at, n_now);
  }
  return crc;
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
    pass(runner, true, false);
    judge();
  }
  pass(runner, plan_.check == ReadCheck::while_reading, true);
  if (plan_.check == ReadCheck::while_reading) judge();
}

void PlanReader::cut() {
  for (std::size_t position = 0; position < order_.size();) {
    if (range_at(position).n_bytes < kSmallBytes) {
      position = gather(position);
    } else {
      cut_large(position++);
    }
  }
}

void PlanReader::cut_large(std::size_t position) {
  const ReadRange& range = range_at(position);
  const std::uint64_t end = range.offset + range.n_bytes;
  for (std::uint64_t at = range.offset; at < end; at = spans_.back().end) {
    const std::uint64_t next = std::min(end, (at / part_bytes_ + 1) * part_bytes_);
    spans_.push_back({at, next, position, position + 1});
  }
}

std::size_t PlanReader::gather(std::size_t position) {
  Span span{range_at(position).offset, range_at(position).offset, position, position, true};
  for (; span.last < order_.size(); ++span.last) {
    const ReadRange& range = range_at(span.last);
    const std::uint64_t end = std::max(span.end, range.offset + range.n_bytes);
    if (range.n_bytes >= kSmallBytes || range.offset > span.end + kMaxGapBytes || end - span.begin > kGatherBytes)
      break;
    span.end = end;
  }
  spans_.push_back(span);
  return span.last;
}

void PlanReader::pass(PartRunner& runner, bool check, bool deliver) {
  runner.run(spans_.size(), [&](std::size_t index, PartBuffer& buffer) {
    Span& span = spans_[index];
    if (span.is_gathered) {
      read_gathered(span, buffer, check, deliver);
    } else {
      read_piece(span, buffer, check, deliver);
    }
  });
}

void PlanReader::read_piece(Span& span, PartBuffer& buffer, bool check, bool deliver) {
  const ReadRange& range = range_at(span.first);
  check = check && range.crc;
  deliver = deliver && range.destination != nullptr;
  if (!check && !deliver) return;
  if (const std::size_t block_bytes = direct_block_bytes(span.begin, span.end); block_bytes > 0) {
    const unsigned char* bytes = read_span(span, block_bytes, buffer);
    unsigned char* to =
        deliver ? static_cast<unsigned char*>(range.destination) + (span.begin - range.offset) : nullptr;
    const auto n_bytes = static_cast<std::size_t>(span.end - span.begin);
    span.crc = check_and_copy(bytes, to, n_bytes, check);
    return;
  }
  // Without a CRC in one call; with one in chunks that are still in the cache when it is computed.
  const std::uint64_t n_most = check ? kChunkBytes : part_bytes_;
  for (std::uint64_t at = span.begin; at < span.end;) {
    const auto n_now = static_cast<std::size_t>(std::min(span.end - at, n_most));
    unsigned char* to = deliver ? static_cast<unsigned char*>(range.destination) + (at - range.offset) : buffer.data();
    file_.read_at(at, to, n_now);
    if (check) span.crc = crc32(span.crc, to, n_now);
    at += n_now;
  }
}

void PlanReader::read_gathered(const Span& span, PartBuffer& buffer, bool check, bool deliver) {
  if (span.begin == span.end) return;
  const auto is_wanted = [&](const ReadRange& range) {
    return (check && range.crc) || (deliver && range.destination != nullptr);
  };
  bool any = false;
  for (std::size_t i = span.first; i < span.last && !any; ++i) any = is_wanted(range_at(i));
  if (!any) return;
  const unsigned char* bytes = read_span(span, direct_block_bytes(span.begin, span.end), buffer);
  for (std::size_t i = span.first; i < span.last; ++i) {
    const ReadRange& range = range_at(i);
    const unsigned char* from = bytes + (range.offset - span.begin);
    if (check && range.crc) found_[order_[i]] = crc32(0, from, range.n_bytes);
    if (deliver && range.destination != nullptr && range.n_bytes > 0) {
      std::memcpy(range.destination, from, range.n_bytes);
    }
  }
}

// Two passes go through the caches: the second one finds the bytes there.
std::size_t PlanReader::direct_block_bytes(std::uint64_t begin, std::uint64_t end) const {
  if (plan_.check == ReadCheck::before_reading) return 0;
  const std::size_t n_bytes = file_.direct_block_bytes(begin, static_cast<std::size_t>(end - begin));
  return n_bytes <= kMaxBlockBytes ? n_bytes : 0;
}

bool PlanReader::is_mostly_direct() const {
  std::size_t n_asked = 0, n_direct = 0;
  for (std::size_t i = 0; i < order_.size(); i += order_.size() / kSamples + 1, ++n_asked) {
    const std::uint64_t begin = range_at(i).offset;
    const std::uint64_t end = std::min(std::max(begin + range_at(i).n_bytes, begin + kGatherBytes), file_.size());
    n_direct += direct_block_bytes(begin, end) > 0;
  }
  return 2 * n_direct > n_asked;
}

const unsigned char* PlanReader::read_span(const Span& span, std::size_t block_bytes, PartBuffer& buffer) const {
  unsigned char* const bytes = buffer.data();
  if (block_bytes == 0) {
    file_.read_at(span.begin, bytes, static_cast<std::size_t>(span.end - span.begin));
    return bytes;
  }
  const std::uint64_t begin = span.begin / block_bytes * block_bytes;
  const std::uint64_t end = (span.end + block_bytes - 1) / block_bytes * block_bytes;
  file_.read_direct_at(begin, bytes, static_cast<std::size_t>(end - begin));
  return bytes + (span.begin - begin);
}

void PlanReader::judge() {
  for (const Span& span : spans_) {
    if (span.is_gathered) continue;
    std::uint32_t& found = found_[order_[span.first]];
    found = crc32_combine(found, span.crc, span.end - span.begin);
  }
  for (const std::size_t index : order_) {
    const ReadRange& range = plan_.ranges[index];
    if (range.crc && *range.crc != found_[index]) plan_.report_damage(index, found_[index]);
  }
}

}  // namespace ckptio::detail
