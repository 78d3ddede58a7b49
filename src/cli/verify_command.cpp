// SPDX-License-Identifier: Apache-2.0
#include "cli/verify_command.h"

#include <algorithm>
#include <map>
#include <set>

#include "ckptio/error.h"
#include "cli/exit_code.h"
#include "cli/open_archive.h"
#include "cli/salvage.h"
#include "cli/tensor_paths.h"
#include "cli/text.h"
#include "codec/index_values.h"
#include "codec/refuse_opaque.h"

namespace ckptio::cli {
namespace {

using detail::Archive;
using detail::ObjectTensor;

constexpr std::size_t kMaxListed = 20;

// What one file's check found.
struct Findings {
  std::vector<std::string> problems;   // each in a line
  std::set<std::size_t> bad_storages;  // indices
  std::uint64_t n_bad_records = 0;     // that are no storages
  std::uint64_t n_unchecked = 0;       // records or storages without a checksum
};

// Without what the line begins with anyway.
std::string reason(const Archive& archive, const std::exception& error) {
  const std::string text = error.what(), prefix = "cannot read '" + archive.source().name + "': ";
  return printable(text.starts_with(prefix) ? text.substr(prefix.size()) : text, 2000);
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (std::size_t i = 0; i < names.size() && i < kMaxListed; ++i) text += (i > 0 ? ", " : "") + printable(names[i]);
  if (names.size() > kMaxListed) text += ", and " + std::to_string(names.size() - kMaxListed) + " more";
  return text;
}

std::vector<std::string> users_of(const Archive& archive, std::size_t storage) {
  std::vector<std::string> paths;
  for (const auto& [path, tensor] : tensor_paths(archive.root())) {
    if (tensor->storage == storage) paths.push_back(path);
  }
  return paths;
}

void check_records(const Archive& archive, Progress& progress, Findings& findings) {
  std::map<std::size_t, std::vector<std::size_t>> storages_of;  // by record
  for (std::size_t i = 0; i < archive.storages().size(); ++i) {
    const std::int64_t record = archive.storages()[i].zip_record;
    if (record >= 0) storages_of[static_cast<std::size_t>(record)].push_back(i);
  }
  const auto& records = archive.zip()->records();
  for (std::size_t i = 0; i < records.size(); ++i) {
    try {
      findings.n_unchecked += !archive.zip()->verify(records[i]);
    } catch (const CorruptError& error) {
      findings.problems.push_back(reason(archive, error));
      findings.n_bad_records += storages_of[i].empty();
      for (const std::size_t storage : storages_of[i]) {
        findings.bad_storages.insert(storage);
        const std::vector<std::string> users = users_of(archive, storage);
        findings.problems.push_back("  it holds " + (users.empty() ? "nothing that is used" : listed(users)));
      }
    }
    progress.add(records[i].compressed_size);
  }
}

// Reads them: the disk may be damaged where the format cannot tell.
void read_storages(const Archive& archive, Progress& progress, Findings& findings) {
  for (std::size_t i = 0; i < archive.storages().size(); ++i) {
    archive.read_storage_pieces(i, [&](const void*, std::size_t n_bytes) { progress.add(n_bytes); });
    ++findings.n_unchecked;
  }
}

bool is_readable(const ObjectTensor& tensor, const Findings& findings) {
  if (findings.bad_storages.count(tensor.storage) > 0) return false;
  return std::all_of(tensor.parts.begin(), tensor.parts.end(), [&](const detail::Object* part) {
    return findings.bad_storages.count(part->get<ObjectTensor>()->storage) == 0;
  });
}

// Sparse and nested tensors: whether what their storages say of places holds. Not asked of damaged storages.
void check_indices(const Archive& archive, Findings& findings) {
  if (!findings.bad_storages.empty()) return;
  try {
    detail::check_index_values(archive);
  } catch (const CorruptError& error) {
    findings.problems.push_back(reason(archive, error));
  }
}

std::string checked_text(const Archive& archive, const Findings& findings) {
  const bool is_zip = archive.zip() != nullptr;
  const std::size_t n = is_zip ? archive.zip()->records().size() : archive.storages().size();
  const std::string what = is_zip ? count_text(n, "record", "records") : count_text(n, "tensor", "tensors");
  const std::string size = what + ", " + size_text(archive.source().size);
  if (!is_zip) return size + "; all bounds hold, the format has no checksums, so there was nothing to check against";
  if (findings.n_unchecked == 0) return size + ", every byte of them checked against its CRC-32";
  return size + "; all bounds hold, " + std::to_string(findings.n_unchecked) +
         " of the records have no checksum, so there was nothing to check them against";
}

int check(const Archive& archive, Console& console) {
  const std::string name = printable(archive.source().name);
  Findings findings;
  {
    Progress progress("checking " + name, archive.source().size);
    archive.zip() != nullptr ? check_records(archive, progress, findings) : read_storages(archive, progress, findings);
    check_indices(archive, findings);
  }
  if (findings.problems.empty()) {
    console.line(name + ": " + console.paint(Style::good, "whole") + ": " + checked_text(archive, findings));
    return kOk;
  }
  console.line(name + ": " + console.paint(Style::bad, "damaged"));
  for (const std::string& problem : findings.problems) console.line("  " + problem);
  const auto tensors = tensor_paths(archive.root());
  const auto n_good =
      std::count_if(tensors.begin(), tensors.end(), [&](const auto& t) { return is_readable(*t.second, findings); });
  console.line("  can still be read: all that is no tensor, and " + std::to_string(n_good) + " of " +
               count_text(tensors.size(), "tensor", "tensors"));
  return kDifferent;
}

// The file has no structure to go by: says what a search for records finds.
void print_salvage(const detail::ByteSource& source, Console& console) {
  using State = SalvagedRecord::State;
  const std::vector<SalvagedRecord> records = salvage_records(source);
  if (records.empty()) return;
  std::map<State, std::vector<std::string>> names;
  for (const SalvagedRecord& record : records) {
    names[record.state].push_back(record.name + " (" + size_text(record.n_bytes) + ")");
  }
  const auto print = [&](State state, const char* what) {
    if (!names[state].empty()) {
      console.line("  " + std::to_string(names[state].size()) + what + listed(names[state]));
    }
  };
  print(State::whole, " whole by their CRC-32: ");
  print(State::unchecked, " with nothing to check against: ");
  print(State::damaged, " damaged: ");
  print(State::cut_off, " cut off: ");
  const bool has_pickle = std::any_of(records.begin(), records.end(), [](const SalvagedRecord& record) {
    return record.name.ends_with("data.pkl") && record.state == State::whole;
  });
  console.line(has_pickle
                   ? "  data.pkl is whole: names and shapes are known, and the tensors in whole records could be "
                     "brought back"
                   : "  data.pkl is not whole: which tensor is in which record is not known");
}

int verify_file(const std::string& path, bool weights_only, Console& console) {
  const detail::ByteSource source = open_file(path);
  try {
    const Archive archive = Archive::open(source);
    if (weights_only) detail::refuse_opaque(archive.graph(), archive.source().name);
    return check(archive, console);
  } catch (const CorruptError& error) {
    console.line(printable(path) + ": " + console.paint(Style::bad, "damaged"));
    const std::string text = error.what(), prefix = "cannot read '" + path + "': ";
    console.line("  " + printable(text.starts_with(prefix) ? text.substr(prefix.size()) : text, 2000));
    print_salvage(source, console);
    return kDifferent;
  }
}

}  // namespace

int verify(const VerifyOptions& options, Console& console) {
  int unreadable = kOk, damaged = kOk;
  for (const std::string& path : options.files) {
    try {
      damaged = std::max(damaged, verify_file(path, options.weights_only, console));
    } catch (const std::exception& error) {
      console.flush();
      const int code = report(error);
      if (unreadable == kOk) unreadable = code;
    }
  }
  return damaged != kOk ? damaged : unreadable;
}

}  // namespace ckptio::cli
