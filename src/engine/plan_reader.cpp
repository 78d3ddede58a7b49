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
static_assert(kGatherBytes <= kPartBytes && kSmallBytes <= kGatherBytes);

}  // namespace

PlanReader::PlanReader(const RandomAccessFile& file, const ReadPlan& plan)
    : file_(file), plan_(plan), order_(plan.ranges.size()), found_(plan.ranges.size()) {
  std::iota(order_.begin(), order_.end(), std::size_t{0});
  std::stable_sort(order_.begin(), order_.end(),
                   [&](std::size_t a, std::size_t b) { return plan.ranges[a].offset < plan.ranges[b].offset; });
}

void PlanReader::run(PartRunner& runner) {
  for (const ReadRange& range : plan_.ranges) {
    // Refused before anything is read: the file says how, in its own words.
    if (range.offset > file_.size() || range.n_bytes > file_.size() - range.offset) {
      file_.read_at(range.offset, range.destination, static_cast<std::size_t>(range.n_bytes));
    }
  }
  cut();
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
    const std::uint64_t next = std::min(end, (at / kPartBytes + 1) * kPartBytes);
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
  runner.run(spans_.size(), [&](std::size_t index, PartRunner::Buffer& buffer) {
    Span& span = spans_[index];
    if (span.is_gathered) {
      read_gathered(span, buffer, check, deliver);
    } else {
      read_piece(span, buffer, check, deliver);
    }
  });
}

void PlanReader::read_piece(Span& span, PartRunner::Buffer& buffer, bool check, bool deliver) {
  const ReadRange& range = range_at(span.first);
  check = check && range.crc;
  deliver = deliver && range.destination != nullptr;
  if (!check && !deliver) return;
  // Without a CRC in one call; with one in chunks that are still in the cache when it is computed.
  const std::uint64_t n_most = check ? kChunkBytes : kPartBytes;
  for (std::uint64_t at = span.begin; at < span.end;) {
    const auto n_now = static_cast<std::size_t>(std::min(span.end - at, n_most));
    unsigned char* to = deliver ? static_cast<unsigned char*>(range.destination) + (at - range.offset) : need(buffer);
    file_.read_at(at, to, n_now);
    if (check) span.crc = crc32(span.crc, to, n_now);
    at += n_now;
  }
}

void PlanReader::read_gathered(const Span& span, PartRunner::Buffer& buffer, bool check, bool deliver) {
  const auto n_bytes = static_cast<std::size_t>(span.end - span.begin);
  if (n_bytes == 0) return;
  const auto is_wanted = [&](const ReadRange& range) {
    return (check && range.crc) || (deliver && range.destination != nullptr);
  };
  bool any = false;
  for (std::size_t i = span.first; i < span.last && !any; ++i) any = is_wanted(range_at(i));
  if (!any) return;
  const unsigned char* bytes = need(buffer);
  file_.read_at(span.begin, buffer.get(), n_bytes);
  for (std::size_t i = span.first; i < span.last; ++i) {
    const ReadRange& range = range_at(i);
    const unsigned char* from = bytes + (range.offset - span.begin);
    if (check && range.crc) found_[order_[i]] = crc32(0, from, range.n_bytes);
    if (deliver && range.destination != nullptr && range.n_bytes > 0) {
      std::memcpy(range.destination, from, range.n_bytes);
    }
  }
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
