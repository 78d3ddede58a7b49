// SPDX-License-Identifier: Apache-2.0
#include "loggers/csv_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>

#include "ckptio/error.h"
#include "ckptio/storage/local_storage.h"
#include "storage/posix_file.h"

namespace ckptio::detail {
namespace {

// Logs are written often: they are not worth waiting for the disk.
LocalStorage quick_storage() { return LocalStorage({.durable = false}); }

std::string quoted(const std::string& cell) {
  if (cell.find_first_of(",\"\r\n") == std::string::npos) return cell;
  std::string result = "\"";
  for (const char c : cell) result.append(c == '"' ? 2 : 1, c);
  return result + '"';
}

std::string line_of(const std::vector<std::string>& cells) {
  std::string line;
  for (const std::string& cell : cells) line += (&cell == cells.data() ? "" : ",") + quoted(cell);
  return line + '\n';
}

std::string line_of(const CsvFile::Row& row, const std::vector<std::string>& columns) {
  std::vector<std::string> cells;
  for (const std::string& column : columns) {
    const auto found = row.find(column);
    cells.push_back(found == row.end() ? "" : found->second);
  }
  return line_of(cells);
}

std::string read_all(const std::string& path) {
  const LocalStorage storage = quick_storage();
  if (!storage.exists(path)) return "";
  const auto file = storage.open(path);
  std::string text(file->size(), '\0');
  file->read_at(0, text.data(), text.size());
  return text;
}

// The file's rows. A file whose first line was cut short has none.
std::vector<CsvFile::Row> rows_of(const CsvText& text, const std::string& path) {
  std::vector<CsvFile::Row> rows;
  for (std::size_t i = 1; i < text.lines.size(); ++i) {
    const auto &names = text.lines[0], &cells = text.lines[i];
    if (cells.size() > names.size()) {
      throw CorruptError("'" + path + "', line " + std::to_string(i + 1) + ": " + std::to_string(cells.size()) +
                         " cells found, at most " + std::to_string(names.size()) + " expected");
    }
    CsvFile::Row& row = rows.emplace_back();
    for (std::size_t k = 0; k < cells.size(); ++k) row[names[k]] = cells[k];
  }
  return rows;
}

class Parser {
 public:
  Parser(std::string_view text, const std::string& path) : text_(text), path_(path) {}

  CsvText parse() {
    CsvText result;
    while (at_ < text_.size()) {
      std::vector<std::string> cells{cell()};
      while (take(',')) cells.push_back(cell());
      take('\r');
      if (!take('\n')) {
        if (at_ < text_.size()) throw_after_quote(result.lines.size() + 1);
        result.is_torn = true;
        break;
      }
      result.lines.push_back(std::move(cells));
    }
    return result;
  }

 private:
  bool take(char c) {
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  std::string cell() {
    std::string result;
    if (!take('"')) {
      const std::size_t end = std::min(text_.find_first_of(",\r\n", at_), text_.size());
      result = text_.substr(at_, end - at_);
      at_ = end;
      return result;
    }
    while (at_ < text_.size()) {
      if (!take('"')) {
        result += text_[at_++];
      } else if (take('"')) {
        result += '"';
      } else {
        break;
      }
    }
    return result;
  }

  [[noreturn]] void throw_after_quote(std::size_t line) const {
    throw CorruptError("'" + path_ + "', line " + std::to_string(line) +
                       ": a comma or the line's end expected, found '" + text_[at_] + "'");
  }

  std::string_view text_;
  const std::string& path_;
  std::size_t at_ = 0;
};

}  // namespace

CsvText parse_csv(std::string_view text, const std::string& path) { return Parser(text, path).parse(); }

void CsvFile::read_columns() {
  const CsvText text = parse_csv(read_all(path_), path_);
  rows_of(text, path_);  // a file that is no such table must not be added to
  columns_ = text.lines.empty() ? std::vector<std::string>() : text.lines[0];
  if (std::set<std::string>(columns_.begin(), columns_.end()).size() != columns_.size()) {
    throw CorruptError("'" + path_ + "', line 1: a column's name comes twice");
  }
  is_torn_ = text.is_torn;
  is_open_ = true;
}

bool CsvFile::add_new_columns() {
  std::set<std::string> all(columns_.begin(), columns_.end());
  const std::size_t n_known = all.size();
  for (const Row& row : pending_) {
    for (const auto& [name, cell] : row) all.insert(name);
  }
  if (all.size() == n_known) return false;
  columns_.assign(all.begin(), all.end());
  return true;
}

// False where there is no file.
bool CsvFile::append_lines() {
  std::string lines;
  for (const Row& row : pending_) lines += line_of(row, columns_);
  const FileDescriptor file(retry_interrupted([&] { return ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC); }));
  if (!file.is_open()) {
    if (errno == ENOENT) return false;
    throw_io_error("open", path_, errno);
  }
  struct stat before {};
  if (::fstat(file.get(), &before) != 0) throw_io_error("look at", path_, errno);
  try {
    write_fully(file.get(), lines.data(), lines.size(), path_);
  } catch (const IoError&) {
    const int ignored = ::ftruncate(file.get(), before.st_size);  // no half lines; the rows are kept
    static_cast<void>(ignored);
    throw;
  }
  return true;
}

void CsvFile::rewrite() {
  std::string text = line_of(columns_);
  for (const Row& row : rows_of(parse_csv(read_all(path_), path_), path_)) text += line_of(row, columns_);
  for (const Row& row : pending_) text += line_of(row, columns_);
  const auto file = quick_storage().create(path_);
  file->append(text.data(), text.size());
  file->commit();
}

void CsvFile::flush() {
  if (pending_.empty()) return;
  if (!is_open_) read_columns();
  const bool is_same_table = !is_torn_ && !columns_.empty() && !add_new_columns();
  if (!is_same_table || !append_lines()) {
    add_new_columns();
    is_open_ = false;  // should this fail, columns_ is not what the file has
    rewrite();
    is_open_ = true;
  }
  is_torn_ = false;
  pending_.clear();
}

}  // namespace ckptio::detail
