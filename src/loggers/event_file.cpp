// SPDX-License-Identifier: Apache-2.0
#include "loggers/event_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <vector>

#include "ckptio/error.h"

namespace ckptio::detail {
namespace {

constexpr std::array<std::uint32_t, 256> make_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82F63B78u : 0u);
    table[i] = crc;
  }
  return table;
}
constexpr auto kTable = make_table();

template <class T>
std::string little_endian(T value) {
  std::string bytes;
  for (std::size_t i = 0; i < sizeof(T); ++i) bytes += static_cast<char>(value >> 8 * i & 0xFF);
  return bytes;
}

// A CRC stored beside what it covers makes that of the whole a constant: hence the mask.
std::string masked_crc(const std::string& data) {
  const std::uint32_t crc = crc32c(data.data(), data.size());
  return little_endian<std::uint32_t>((crc >> 15 | crc << 17) + 0xa282ead8u);
}

std::string record(const std::string& data) {
  const std::string length = little_endian<std::uint64_t>(data.size());
  return length + masked_crc(length) + data + masked_crc(data);
}

// A protocol buffer, field by field.
class Message {
 public:
  Message& integer(int field, std::int64_t value) {
    tag(field, 0);
    return varint(static_cast<std::uint64_t>(value));
  }
  Message& real(int field, double value) {
    tag(field, 1);
    bytes_ += little_endian(std::bit_cast<std::uint64_t>(value));
    return *this;
  }
  Message& real32(int field, float value) {
    tag(field, 5);
    bytes_ += little_endian(std::bit_cast<std::uint32_t>(value));
    return *this;
  }
  Message& text(int field, std::string_view value) {
    tag(field, 2).varint(value.size());
    bytes_ += value;
    return *this;
  }
  Message& message(int field, const Message& value) { return text(field, value.bytes_); }
  const std::string& bytes() const { return bytes_; }

 private:
  Message& tag(int field, int wire_type) { return varint(static_cast<std::uint64_t>(field << 3 | wire_type)); }
  Message& varint(std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) bytes_ += static_cast<char>(value | 0x80);
    bytes_ += static_cast<char>(value);
    return *this;
  }

  std::string bytes_;
};

double now_seconds() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

Message event(std::int64_t step) { return Message().real(1, now_seconds()).integer(2, step); }

// Of the HParams plugin: all is in the metadata, the value itself is an empty tensor.
Message hparams_value(const std::string& tag, const Message& content) {
  const Message plugin = Message().text(1, "hparams").text(2, content.bytes());
  const Message null_tensor = Message().integer(1, /*DT_FLOAT*/ 1).message(2, Message().message(2, Message()));
  constexpr int kDataClassTensor = 2;
  return Message()
      .text(1, tag)
      .message(9, Message().message(1, plugin).integer(4, kDataClassTensor))
      .message(8, null_tensor);
}

struct DataType {
  int operator()(bool) const { return 2; }
  int operator()(double) const { return 3; }
  int operator()(const std::string&) const { return 1; }
};

// google.protobuf.Value
struct StructValue {
  Message operator()(bool value) const { return Message().integer(4, value ? 1 : 0); }
  Message operator()(double value) const { return Message().real(2, value); }
  Message operator()(const std::string& value) const { return Message().text(3, value); }
};

constexpr const char* kPrefix = "events.out.tfevents.";

// Writers of ours hold a lock on their file for as long as they live. False where that can't be told.
bool all_are_done(const std::string& folder) {
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(folder, none)) {
    if (!entry.path().filename().string().starts_with(kPrefix)) continue;
    const FileDescriptor file(::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!file.is_open() || ::flock(file.get(), LOCK_SH | LOCK_NB) != 0) return false;
  }
  return true;
}

std::string new_name() {
  static std::atomic<int> n_made{0};  // several runs may begin in one second
  char host[256] = "localhost";
  if (::gethostname(host, sizeof host - 1) != 0) host[0] = '\0';
  char name[400];
  std::snprintf(name, sizeof name, "%s%010lld.%.255s.%ld.%d", kPrefix, static_cast<long long>(now_seconds()), host,
                static_cast<long>(::getpid()), n_made++);
  return name;
}

}  // namespace

std::uint32_t crc32c(const void* data, std::size_t n_bytes) {
  std::uint32_t crc = ~0u;
  for (const char c : std::string_view(static_cast<const char*>(data), n_bytes)) {
    crc = kTable[(crc ^ static_cast<unsigned char>(c)) & 0xFF] ^ crc >> 8;
  }
  return ~crc;
}

EventFile::EventFile(const std::string& folder) : follows_others_(all_are_done(folder)) {
  do {
    path_ = folder + "/" + new_name();
    constexpr int kFlags = O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC;
    file_ = FileDescriptor(retry_interrupted([&] { return ::open(path_.c_str(), kFlags, 0666); }));
  } while (!file_.is_open() && errno == EEXIST);
  if (!file_.is_open()) throw_io_error("create", path_, errno);
  ::flock(file_.get(), LOCK_EX | LOCK_NB);  // see all_are_done()
  write(Message().real(1, now_seconds()).text(3, "brain.Event:2").bytes());
}

void EventFile::write(const std::string& event) {
  const std::string bytes = record(event);
  try {
    write_fully(file_.get(), bytes.data(), bytes.size(), path_);
  } catch (const IoError&) {
    const int ignored = ::ftruncate(file_.get(), static_cast<off_t>(size_));  // readers stop at half a record
    static_cast<void>(ignored);
    throw;
  }
  size_ += bytes.size();
}

void EventFile::add_scalars(const std::map<std::string, double>& values, std::int64_t step) {
  if (values.empty()) return;
  Message summary;
  for (const auto& [tag, value] : values) {
    summary.message(1, Message().text(1, tag).real32(2, static_cast<float>(value)));
  }
  write(event(step).message(5, summary).bytes());
}

void EventFile::add_hyper_parameters(const std::map<std::string, HyperParameter>& parameters,
                                     const std::vector<std::string>& metrics) {
  Message experiment, session;
  for (const auto& [name, value] : parameters) {
    experiment.message(4, Message().text(1, name).integer(4, std::visit(DataType(), value)));
    session.message(1, Message().text(1, name).message(2, std::visit(StructValue(), value)));
  }
  for (const std::string& metric : metrics) {
    experiment.message(5, Message().message(1, Message().text(2, metric)));
  }
  session.real(5, now_seconds());
  const Message summary = Message()
                              .message(1, hparams_value("_hparams_/experiment", Message().message(2, experiment)))
                              .message(1, hparams_value("_hparams_/session_start_info", Message().message(3, session)));
  write(event(0).message(5, summary).bytes());
}

void EventFile::add_end(bool is_success) {
  const Message end = Message().integer(1, is_success ? 1 : 2).real(2, now_seconds());
  const Message value = hparams_value("_hparams_/session_end_info", Message().message(4, end));
  write(event(0).message(5, Message().message(1, value)).bytes());
}

void EventFile::add_start(std::int64_t step) {
  if (!follows_others_) return;
  constexpr int kStart = 1;
  write(event(step).message(7, Message().integer(1, kStart)).bytes());
}

}  // namespace ckptio::detail
