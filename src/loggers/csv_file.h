// SPDX-License-Identifier: Apache-2.0
// CsvFile: a table on the disk that grows by rows, and by columns when a row brings new ones.
//
// RFC 4180 with "\n" between lines: cells with a comma, a quote or a line's end stand in quotes, and quotes in them are
// doubled. The first line names the columns, which are sorted. A file that is there is gone on with.
//
// New rows are added at the file's end. For a new column the whole file is written anew beside it and renamed over it,
// so that a reader, and a crash, finds the old table or the new one. A line that a crash cut short is dropped when the
// file is gone on with. Not flushed to the disk: a power cut may take the latest rows.
// Threads: one at a time.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace ckptio::detail {

class CsvFile {
 public:
  // Column names and cells. Cells that a row lacks are empty.
  using Row = std::map<std::string, std::string>;

  // Nothing is read or written yet.
  explicit CsvFile(std::string path) : path_(std::move(path)) {}

  void add(Row row) { pending_.push_back(std::move(row)); }

  // Writes what was added. On IoError the file is as before and the rows are kept for the next flush.
  // CorruptError where the file that is there is no such table: a line has more cells than there are columns, a
  // column comes twice, text follows a closing quote.
  void flush();

  const std::string& path() const noexcept { return path_; }

 private:
  void read_columns();
  bool add_new_columns();
  bool append_lines();
  void rewrite();

  std::string path_;
  std::vector<std::string> columns_;  // of the file, sorted unless another program made it
  bool is_open_ = false;              // columns_ were read
  bool is_torn_ = false;              // the last line was cut short
  std::vector<Row> pending_;
};

// The cells of each line.
struct CsvText {
  std::vector<std::vector<std::string>> lines;
  bool is_torn = false;  // what stands after the last line's end, which is not among the lines
};
// `path`: for the message of a CorruptError.
CsvText parse_csv(std::string_view text, const std::string& path);

}  // namespace ckptio::detail
