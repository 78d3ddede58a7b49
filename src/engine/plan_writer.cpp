// SPDX-License-Identifier: Apache-2.0
#include "engine/plan_writer.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "codec/checksum.h"

namespace ckptio::detail {

namespace {

std::size_t n_tail_bytes(const WriteRecord& record) {
  return static_cast<std::size_t>(record.end_offset - record.data_offset - record.n_bytes);
}

std::size_t block_bytes_of(WritableFile& file, const WritePlan& plan) {
  file.reserve(plan.file_size);
  const std::size_t n_bytes = file.can_write_at() ? file.direct_block_bytes() : 0;
  return n_bytes <= kMaxBlockBytes ? n_bytes : 0;
}

// What `put` makes of a record, at once or, where only a part of it is wanted, by way of `scratch`.
template <class Put>
void put_some(unsigned char* to, std::uint64_t n_all, std::uint64_t from, std::uint64_t n_bytes, Put put) {
  if (n_bytes == n_all) return put(to);
  std::vector<unsigned char> all(n_all);
  put(all.data());
  std::copy_n(all.begin() + static_cast<std::ptrdiff_t>(from), n_bytes, to);
}

}  // namespace

// The bytes of one part: those gathered and not yet written end at `at`.
class PlanWriter::Run {
 public:
  struct LateTail {
    std::size_t index;            // of the record
    std::uint64_t from, n_bytes;  // of its tail
    unsigned char* room;
  };

  Run(PlanWriter& writer, PartBuffer& buffer, std::uint64_t begin, std::uint64_t end)
      : begin(begin), end(end), is_whole(writer.waits_for_disk()), writer_(writer), buffer_(buffer), at_(begin) {}

  const std::uint64_t begin, end;  // of the part
  const bool is_whole;             // all of it stays in the buffer until the end
  std::vector<LateTail> late_tails;

  // Room for `n_bytes` more bytes of the part, to be filled by the caller.
  unsigned char* add(std::size_t n_bytes) {
    if (n_gathered_ >= kChunkBytes) flush();
    unsigned char* room = buffer_.data() + n_gathered_;
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
    if (is_whole) return;
    if (n_gathered_ > 0) writer_.put(at_ - n_gathered_, buffer_.data(), n_gathered_);
    n_gathered_ = 0;
  }

  const unsigned char* bytes() const { return buffer_.data(); }

 private:
  PlanWriter& writer_;
  PartBuffer& buffer_;
  std::uint64_t at_;
  std::size_t n_gathered_ = 0;
};

PlanWriter::PlanWriter(WritableFile& file, const WritePlan& plan)
    : file_(file),
      plan_(plan),
      in_order_(!file.can_write_at()),
      block_bytes_(block_bytes_of(file, plan)),
      part_bytes_(block_bytes_ > 0 ? kDirectPartBytes : kPartBytes),
      part_shift_(std::countr_zero(part_bytes_)),
      records_end_(plan.records.empty() ? 0 : plan.records.back().end_offset),
      crcs_(plan.records.size()),
      n_pieces_left_(plan.records.size()),
      has_crc_(block_bytes_ > 0 ? plan.records.size() : 0) {
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
  const auto n_parts = static_cast<std::size_t>((records_end_ + part_bytes_ - 1) / part_bytes_);
  results_.resize(n_parts);
  if (in_order_) {
    PartBuffer buffer(part_bytes_);
    for (std::size_t part = 0; part < n_parts; ++part) write_part(part, buffer);
  } else {
    runner.run(n_parts, [this](std::size_t part, PartBuffer& buffer) { write_part(part, buffer); });
  }
  write_end();
}

void PlanWriter::write_part(std::size_t part, PartBuffer& buffer) {
  const std::uint64_t begin = std::uint64_t{part} * part_bytes_;
  Run run(*this, buffer, begin, std::min<std::uint64_t>(begin + part_bytes_, records_end_));
  if (!run.is_whole) {
    put_together(run);
    return run.flush();
  }
  try {
    put_together(run);
    if (fill_late_tails(run)) write_blocks(run);
  } catch (...) {
    fail();
    throw;
  }
}

void PlanWriter::put_together(Run& run) {
  const auto first = std::partition_point(plan_.records.begin(), plan_.records.end(),
                                          [&](const WriteRecord& record) { return record.end_offset <= run.begin; });
  for (auto record = first; record != plan_.records.end() && record->begin_offset < run.end; ++record) {
    const auto index = static_cast<std::size_t>(record - plan_.records.begin());
    add_head(run, index);
    add_data(run, index);
    add_tail(run, index);
  }
}

void PlanWriter::add_head(Run& run, std::size_t index) const {
  const WriteRecord& record = plan_.records[index];
  const std::uint64_t from = std::max(run.begin, record.begin_offset), to = std::min(run.end, record.data_offset);
  if (from >= to) return;
  put_some(run.add(to - from), record.data_offset - record.begin_offset, from - record.begin_offset, to - from,
           [&](unsigned char* room) { plan_.head(index, room); });
}

void PlanWriter::add_data(Run& run, std::size_t index) {
  const WriteRecord& record = plan_.records[index];
  const std::uint64_t data_end = record.data_offset + record.n_bytes;
  const std::uint64_t begin = std::max(run.begin, record.data_offset), end = std::min(run.end, data_end);
  if (begin >= end) return;
  std::uint32_t crc = in_order_ ? crcs_[index] : 0;
  const bool is_copied = record.data != nullptr && (run.is_whole || end - begin < kSmallBytes);
  for (std::uint64_t at = begin; at < end;) {
    const auto n_now =
        static_cast<std::size_t>(std::min<std::uint64_t>(end - at, is_copied ? kCopyBytes : kChunkBytes));
    const auto* bytes = static_cast<const unsigned char*>(record.data);
    if (bytes != nullptr) bytes += at - record.data_offset;
    if (bytes == nullptr || is_copied) {
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
  } else {
    add_piece(index, part_of(begin), {crc, end - begin});
  }
}

void PlanWriter::add_tail(Run& run, std::size_t index) const {
  const WriteRecord& record = plan_.records[index];
  const std::uint64_t tail_offset = record.data_offset + record.n_bytes;
  const std::uint64_t from = std::max(run.begin, tail_offset), to = std::min(run.end, record.end_offset);
  if (from >= to) return;
  if (is_split(record) && !run.is_whole) return run.skip(to - from);
  unsigned char* room = run.add(to - from);
  if (is_split(record)) {
    run.late_tails.push_back({index, from - tail_offset, to - from, room});
  } else {
    put_some(room, n_tail_bytes(record), from - tail_offset, to - from,
             [&](unsigned char* all) { plan_.tail(index, crcs_[index], all); });
  }
}

PlanWriter::Piece& PlanWriter::piece_of(std::size_t index, std::size_t part) {
  const bool is_own = part_of(plan_.records[index].data_offset) == part;
  return is_own ? results_[part].of_own : results_[part].of_earlier;
}

void PlanWriter::add_piece(std::size_t index, std::size_t part, Piece piece) {
  piece_of(index, part) = piece;
  if (n_pieces_left_[index].fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  const WriteRecord& record = plan_.records[index];
  for (std::size_t each = part_of(record.data_offset); each <= part_of(record.data_offset + record.n_bytes - 1);
       ++each) {
    const Piece& found = piece_of(index, each);
    crcs_[index] = crc32_combine(crcs_[index], found.crc, found.n_bytes);
  }
  if (block_bytes_ == 0) return write_split_tail(index);
  const std::scoped_lock lock(late_mutex_);
  has_crc_[index] = true;
  late_.notify_all();
}

void PlanWriter::write_split_tail(std::size_t index) {
  if (!plan_.tail) return;
  const WriteRecord& record = plan_.records[index];
  std::vector<unsigned char> tail(n_tail_bytes(record));
  if (tail.empty()) return;
  plan_.tail(index, crcs_[index], tail.data());
  put(record.data_offset + record.n_bytes, tail.data(), tail.size());
}

// False where another part failed, whose error is told.
bool PlanWriter::fill_late_tails(Run& run) {
  for (const Run::LateTail& tail : run.late_tails) {
    {
      std::unique_lock lock(late_mutex_);
      late_.wait(lock, [&] { return failed_ || has_crc_[tail.index]; });
      if (failed_) return false;
    }
    put_some(tail.room, n_tail_bytes(plan_.records[tail.index]), tail.from, tail.n_bytes,
             [&](unsigned char* all) { plan_.tail(tail.index, crcs_[tail.index], all); });
  }
  return true;
}

void PlanWriter::fail() {
  const std::scoped_lock lock(late_mutex_);
  failed_ = true;
  late_.notify_all();
}

void PlanWriter::write_blocks(const Run& run) {
  const auto n_bytes = static_cast<std::size_t>(run.end - run.begin);
  const std::size_t n_direct = n_bytes / block_bytes_ * block_bytes_;
  if (n_direct > 0) file_.write_direct_at(run.begin, run.bytes(), n_direct);
  // Of the last part alone: other threads must not so much as look at it.
  if (n_direct < n_bytes) rest_.assign(run.bytes() + n_direct, run.bytes() + n_bytes);
}

void PlanWriter::write_end() {
  const std::string end = plan_.end ? plan_.end(crcs_) : "";
  const std::uint64_t begin = records_end_ - rest_.size();
  const std::size_t n_bytes = rest_.size() + end.size();
  if (block_bytes_ == 0 || n_bytes < kSmallBytes) {
    if (!rest_.empty()) put(begin, rest_.data(), rest_.size());
    if (!end.empty()) put(records_end_, end.data(), end.size());
    return;
  }
  PartBuffer buffer(n_bytes);
  std::copy(rest_.begin(), rest_.end(), buffer.data());
  std::copy(end.begin(), end.end(), buffer.data() + rest_.size());
  const std::size_t n_direct = n_bytes / block_bytes_ * block_bytes_;
  file_.write_direct_at(begin, buffer.data(), n_direct);
  if (n_direct < n_bytes) put(begin + n_direct, buffer.data() + n_direct, n_bytes - n_direct);
}

void PlanWriter::put(std::uint64_t offset, const void* data, std::size_t n_bytes) {
  if (in_order_) {
    file_.append(data, n_bytes);
  } else {
    file_.write_at(offset, data, n_bytes);
  }
}

}  // namespace ckptio::detail
