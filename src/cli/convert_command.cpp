// SPDX-License-Identifier: Apache-2.0
#include "cli/convert_command.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <utility>

#include "ckptio/error.h"
#include "ckptio/storage/local_storage.h"
#include "cli/exit_code.h"
#include "cli/open_archive.h"
#include "cli/text.h"
#include "codec/checksum.h"
#include "codec/python_layout.h"

namespace ckptio::cli {
namespace {

using detail::ArchiveFormat;

// From this program's folder; the build folder has the same layout as an installation.
constexpr const char* kHelper = CKPTIO_CONVERT_HELPER;

// Writes the file record by record, each behind the other.
void write_python_file(const detail::Archive& archive, const detail::PythonLayout& layout, WritableFile& file,
                       Progress& progress) {
  std::vector<std::uint32_t> crcs;
  const auto append = [&](const std::string& bytes) { file.append(bytes.data(), bytes.size()); };
  for (std::size_t i = 0; i < layout.zip().records().size(); ++i) {
    append(layout.zip().header(i));
    std::uint32_t crc = 0;
    if (const auto storage = layout.storage_of(i)) {
      archive.read_storage_pieces(*storage, [&](const void* data, std::size_t n_bytes) {
        crc = detail::crc32(crc, data, n_bytes);
        file.append(data, n_bytes);
        progress.add(n_bytes);
      });
    } else {
      const std::string content = layout.content_of(i, crcs);
      crc = detail::crc32(0, content.data(), content.size());
      append(content);
    }
    crcs.push_back(crc);
    append(layout.zip().descriptor(i, crc));
  }
  append(layout.zip().directory(crcs));
}

void to_python(const detail::Archive& archive, const std::string& path) {
  const detail::PythonLayout layout(archive.graph(), archive.root());
  Progress progress("writing " + printable(path), layout.zip().file_size());
  LocalStorage storage;
  const auto file = storage.create(path);
  write_python_file(archive, layout, *file, progress);
  file->commit();
}

std::string helper_path() {
  std::error_code error;
  const std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  return (self.parent_path() / kHelper).lexically_normal().string();
}

// Runs the helper, which reports its own errors. Returns its exit code.
int run_helper(const ConvertOptions& options, const std::string& to) {
  std::string program = helper_path(), in = options.in, out = options.out, format = to;
  if (::access(program.c_str(), X_OK) != 0) {
    throw UnsupportedError("converting '" + in + "' to the format " + to + " needs LibTorch and the program " +
                           program + ", which is not there: this ckptio was built without it");
  }
  const pid_t child = ::fork();
  if (child < 0) throw IoError(std::string("cannot start a process: ") + std::strerror(errno), errno);
  if (child == 0) {
    std::array<char*, 5> arguments = {program.data(), in.data(), out.data(), format.data(), nullptr};
    ::execv(program.c_str(), arguments.data());
    ::_exit(127);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) <= kOther) return WEXITSTATUS(status);
  throw Error("cannot convert '" + in + "': " + program + " ended unexpectedly" +
              (WIFSIGNALED(status) ? " by signal " + std::to_string(WTERMSIG(status)) : ""));
}

// The helper maps the file, without checking it against its checksums.
void check(const detail::Archive& archive) {
  std::uint64_t n_all = 0;
  for (const detail::StorageRecord& record : archive.storages()) n_all += record.n_bytes;
  Progress progress("checking " + printable(archive.source().name), n_all);
  for (std::size_t i = 0; i < archive.storages().size(); ++i) {
    archive.verify_storage(i);
    progress.add(archive.storages()[i].n_bytes);
  }
}

std::string wanted_format(const ConvertOptions& options) {
  const std::string to = options.to.empty() ? format_of_extension(options.out) : options.to;
  if (!to.empty()) return to;
  throw UsageError("cannot tell the format from the name '" + options.out +
                   "': name one with --to torch, --to python or --to safetensors");
}

}  // namespace

std::string format_of_extension(const std::string& path) {
  static constexpr std::array<std::pair<const char*, const char*>, 6> kFormats = {{{".pt", "python"},
                                                                                   {".pth", "python"},
                                                                                   {".ckpt", "python"},
                                                                                   {".bin", "python"},
                                                                                   {".safetensors", "safetensors"},
                                                                                   {".torch", "torch"}}};
  const std::string extension = std::filesystem::path(path).extension().string();
  const auto found =
      std::find_if(kFormats.begin(), kFormats.end(), [&](const auto& f) { return extension == f.first; });
  return found == kFormats.end() ? "" : found->second;
}

int convert(const ConvertOptions& options, Console& console) {
  const std::string to = wanted_format(options);
  const detail::Archive archive = open_archive(options.in);
  const bool is_python = archive.format() == ArchiveFormat::python || archive.format() == ArchiveFormat::python_legacy;
  if (to != "python" || !is_python) {
    check(archive);
    const int code = run_helper(options, to);
    if (code != kOk) return code;
  } else {
    to_python(archive, options.out);
  }
  console.line(printable(options.out) + ": " + detail::describe(open_archive(options.out).format()) + ", " +
               size_text(open_file(options.out).size));
  return kOk;
}

}  // namespace ckptio::cli
