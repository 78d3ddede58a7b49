// SPDX-License-Identifier: Apache-2.0
#include "engine/plan_writer.h"

#include <algorithm>
#include <cstring>

#include "codec/checksum.h"

namespace ckptio::detail {

namespace {

std::size_t part_of(std::uint64_t offset) { return static_cast<std::size_t>(offset / kPartBytes); }

}  // namespace

// The bytes of one part: those gathered and not yet written end at `at`.
class PlanWriter::Run {
 public:
  Run(PlanWriter& writer, PartRunner::Buffer& buffer, std::uint64_t begin, std::uint64_t end)
      : begin(begin), end(end), writer_(writer), buffer_(buffer), at_(begin) {}

  const std::uint64_t begin, end;  // of the part

  // Room for `n_bytes` more bytes of the part, to be filled by the caller.
  unsigned char* add(std::size_t n_bytes) {
    if (n_gathered_ >= kChunkBytes) flush();
    unsigned char* room = need(buffer_) + n_gathered_;
    n_gathered_ += n_bytes;
    at_ += n_bytes;
    return room;
  }

  void add_from(const void* data, std::size_t n_bytes) {
    flush();
    writer_.put(at_, data, n_bytes);
    at_ += n_bytes;
  }

  // Bytes of the part that are written by others.
  void skip(std::size_t n_bytes) {
    flush();
    at_ += n_bytes;
  }

  void flush() {
    if (n_gathered_ > 0) writer_.put(at_ - n_gathered_, buffer_.get(), n_gathered_);
    n_gathered_ = 0;
  }

 private:
  PlanWriter& writer_;
  PartRunner::Buffer& buffer_;
  std::uint64_t at_;
  std::size_t n_gathered_ = 0;
};

PlanWriter::PlanWriter(WritableFile& file, const WritePlan& plan)
    : file_(file),
      plan_(plan),
      in_order_(!file.can_write_at()),
      records_end_(plan.records.empty() ? 0 : plan.records.back().end_offset),
      crcs_(plan.records.size()),
      n_pieces_left_(plan.records.size()) {
  for (std::size_t i = 0; i < plan.records.size(); ++i) {
    const WriteRecord& record = plan.records[i];
    if (!is_split(record)) continue;
    n_pieces_left_[i] =
        static_cast<std::uint32_t>(part_of(record.data_offset + record.n_bytes - 1) - part_of(record.data_offset) + 1);
  }
}

bool PlanWriter::is_split(const WriteRecord& record) const {
  return !in_order_ && record.n_bytes > 0 && part_of(record.data_offset) != part_of(record.end_offset - 1);
}

void PlanWriter::run(PartRunner& runner) {
  file_.reserve(plan_.file_size);
  const auto n_parts = static_cast<std::size_t>((records_end_ + kPartBytes - 1) / kPartBytes);
  results_.resize(n_parts);
  if (in_order_) {
    PartRunner::Buffer buffer;
    for (std::size_t part = 0; part < n_parts; ++part) write_part(part, buffer);
  } else {
    runner.run(n_parts, [this](std::size_t part, PartRunner::Buffer& buffer) { write_part(part, buffer); });
  }
  write_end();
}

void PlanWriter::write_part(std::size_t part, PartRunner::Buffer& buffer) {
  const std::uint64_t begin = std::uint64_t{part} * kPartBytes;
  Run run(*this, buffer, begin, std::min<std::uint64_t>(begin + kPartBytes, records_end_));
  const auto first = std::partition_point(plan_.records.begin(), plan_.records.end(),
                                          [&](const WriteRecord& record) { return record.end_offset <= begin; });
  for (auto record = first; record != plan_.records.end() && record->begin_offset < run.end; ++record) {
    const auto index = static_cast<std::size_t>(record - plan_.records.begin());
    add_head(run, index);
    add_data(run, index);
    add_tail(run, index);
  }
  run.flush();
}

void PlanWriter::add_head(Run& run, std::size_t index) const {
  const WriteRecord& record = plan_.records[index];
  const std::uint64_t from = std::max(run.begin, record.begin_offset), to = std::min(run.end, record.data_offset);
  if (from >= to) return;
  const std::string head = plan_.head(index);
  std::memcpy(run.add(to - from), head.data() + (from - record.begin_offset), to - from);
}

void PlanWriter::add_data(Run& run, std::size_t index) {
  const WriteRecord& record = plan_.records[index];
  const std::uint64_t data_end = record.data_offset + record.n_bytes;
  const std::uint64_t begin = std::max(run.begin, record.data_offset), end = std::min(run.end, data_end);
  if (begin >= end) return;
  std::uint32_t crc = in_order_ ? crcs_[index] : 0;
  const bool is_small = end - begin < kSmallBytes;
  for (std::uint64_t at = begin; at < end;) {
    const auto n_now = static_cast<std::size_t>(std::min<std::uint64_t>(end - at, kChunkBytes));
    const auto* bytes = static_cast<const unsigned char*>(record.data);
    if (bytes != nullptr) bytes += at - record.data_offset;
    if (bytes == nullptr || is_small) {
      unsigned char* room = run.add(n_now);
      if (bytes != nullptr) {
        std::memcpy(room, bytes, n_now);
      } else {
        record.fill(at - record.data_offset, room, n_now);
      }
      if (plan_.tail) crc = crc32(crc, room, n_now);
    } else {
      if (plan_.tail) crc = crc32(crc, bytes, n_now);
      run.add_from(bytes, n_now);
    }
    at += n_now;
  }
  if (!is_split(record)) {
    crcs_[index] = crc;
    return;
  }
  piece_of(index, part_of(begin)) = {crc, end - begin};
  if (n_pieces_left_[index].fetch_sub(1, std::memory_order_acq_rel) == 1) finish_split(index);
}

void PlanWriter::add_tail(Run& run, std::size_t index) const {
  const WriteRecord& record = plan_.records[index];
  const std::uint64_t tail_offset = record.data_offset + record.n_bytes;
  const std::uint64_t from = std::max(run.begin, tail_offset), to = std::min(run.end, record.end_offset);
  if (from >= to) return;
  if (is_split(record)) return run.skip(to - from);
  const std::string tail = plan_.tail(index, crcs_[index]);
  std::memcpy(run.add(to - from), tail.data() + (from - tail_offset), to - from);
}

PlanWriter::Piece& PlanWriter::piece_of(std::size_t index, std::size_t part) {
  const bool is_own = part_of(plan_.records[index].data_offset) == part;
  return is_own ? results_[part].of_own : results_[part].of_earlier;
}

void PlanWriter::finish_split(std::size_t index) {
  if (!plan_.tail) return;
  const WriteRecord& record = plan_.records[index];
  const std::uint64_t tail_offset = record.data_offset + record.n_bytes;
  for (std::size_t part = part_of(record.data_offset); part <= part_of(tail_offset - 1); ++part) {
    const Piece& piece = piece_of(index, part);
    crcs_[index] = crc32_combine(crcs_[index], piece.crc, piece.n_bytes);
  }
  const std::string tail = plan_.tail(index, crcs_[index]);
  if (!tail.empty()) put(tail_offset, tail.data(), tail.size());
}

void PlanWriter::write_end() {
  if (!plan_.end) return;
  const std::string end = plan_.end(crcs_);
  put(records_end_, end.data(), end.size());
}

void PlanWriter::put(std::uint64_t offset, const void* data, std::size_t n_bytes) {
  if (in_order_) {
    file_.append(data, n_bytes);
  } else {
    file_.write_at(offset, data, n_bytes);
  }
}

}  // namespace ckptio::detail
