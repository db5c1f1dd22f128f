#include "compiler/source/source.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace jobc {
namespace {

std::string_view DirectoryOf(std::string_view path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return {};
  return slash == 0 ? path.substr(0, 1) : path.substr(0, slash);
}

std::vector<uint32_t> LineStartsOf(std::string_view text) {
  std::vector<uint32_t> starts = {0};
  const char* const begin = text.data();
  const char* const end = begin + text.size();
  for (const char* at = begin; at < end;) {
    const void* newline = memchr(at, '\n', static_cast<size_t>(end - at));
    if (newline == nullptr) break;
    at = static_cast<const char*>(newline) + 1;
    starts.push_back(static_cast<uint32_t>(at - begin));
  }
  return starts;
}

/// A column is a scalar value: every byte that does not continue a UTF-8 sequence starts one.
uint32_t CountScalars(std::string_view text, uint32_t begin, uint32_t end) {
  uint32_t count = 0;
  for (uint32_t i = begin; i < end; ++i) count += (static_cast<unsigned char>(text[i]) & 0xC0) != 0x80;
  return count;
}

/// In constant time after the first call: a line of 64 MiB with ten thousand faults must not take hours to report.
uint32_t ScalarsBefore(const Source& source, uint32_t offset) {
  const uint32_t size = static_cast<uint32_t>(source.text.size());
  if (source.scalars_before.empty()) {
    source.scalars_before.reserve(size / kColumnBlock + 1);
    source.scalars_before.push_back(0);
    for (uint32_t block = 0; size - block >= kColumnBlock; block += kColumnBlock) {
      source.scalars_before.push_back(source.scalars_before.back() + CountScalars(source.text, block, block + kColumnBlock));
    }
  }
  const uint32_t block = offset / kColumnBlock;
  return source.scalars_before[block] + CountScalars(source.text, block * kColumnBlock, offset);
}

/// What a person should read for a failed open or read. Lower case, as all messages.
Error FileError(std::string_view path, int code) {
  switch (code) {
    case ENOENT: return {fmt::format("`{}` does not exist", path), code};
    case EISDIR: return {fmt::format("`{}` is a directory, not a file", path), code};
    case EACCES:
    case EPERM: return {fmt::format("`{}` may not be read: permission denied", path), code};
    case EFBIG:
      return {fmt::format("`{}` is larger than {} MiB, the largest source that is read", path, kMaxSourceBytes >> 20),
              code};
    default: return {fmt::format("`{}` cannot be read: {}", path, strerror(code)), code};
  }
}

class FileDescriptor {
 public:
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() {
    if (fd_ >= 0) close(fd_);
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

}  // namespace

Result<SourceId> SourceManager::Load(const std::string& path, std::string_view shown_name) {
  // O_NONBLOCK: opening a FIFO without a writer must not hang; it has no effect on regular files.
  const FileDescriptor file(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) return FileError(path, errno);
  struct stat info;
  if (fstat(file.get(), &info) != 0) return FileError(path, errno);
  if (S_ISDIR(info.st_mode)) return FileError(path, EISDIR);
  const bool regular = S_ISREG(info.st_mode);
  if (regular && static_cast<uint64_t>(info.st_size) > kMaxSourceBytes) return FileError(path, EFBIG);
  if (!regular) fcntl(file.get(), F_SETFL, 0);

  // Read to the end whatever the size was said to be: pipes and /proc files have none, and a file may be growing.
  std::string text;
  text.resize(regular ? static_cast<size_t>(info.st_size) + 1 : size_t{64} << 10);
  size_t used = 0;
  while (true) {
    if (used == text.size()) text.resize(text.size() * 2);
    const ssize_t count = read(file.get(), text.data() + used, text.size() - used);
    if (count < 0) {
      if (errno == EINTR) continue;
      return FileError(path, errno);
    }
    if (count == 0) break;
    used += static_cast<size_t>(count);
    if (used > kMaxSourceBytes) return FileError(path, EFBIG);
  }
  text.resize(used);

  const SourceId id = Add(std::string(shown_name.empty() ? std::string_view(path) : shown_name), std::move(text),
                          std::string(DirectoryOf(path)));
  sources_[id.index]->path = path;
  return id;
}

SourceId SourceManager::Add(std::string name, std::string text, std::string directory) {
  JOBC_CHECK(text.size() < UINT32_MAX);
  auto source = std::make_unique<Source>();
  source->name = std::move(name);
  source->text = std::move(text);
  source->directory = std::move(directory);
  source->line_starts = LineStartsOf(source->text);
  sources_.push_back(std::move(source));
  return SourceId{static_cast<uint32_t>(sources_.size() - 1)};
}

std::string_view SourceManager::Text(Span span) const {
  if (!span.valid()) return {};
  const std::string_view text = (*this)[span.source].text;
  const size_t begin = std::min<size_t>(span.begin, text.size());
  const size_t end = std::clamp<size_t>(span.end, begin, text.size());
  return text.substr(begin, end - begin);
}

LineColumn SourceManager::Locate(SourceId id, uint32_t offset) const {
  const Source& source = (*this)[id];
  const uint32_t at = std::min(offset, static_cast<uint32_t>(source.text.size()));
  const auto after = std::upper_bound(source.line_starts.begin(), source.line_starts.end(), at);
  const uint32_t line_start = *(after - 1);
  LineColumn result;
  result.line = static_cast<uint32_t>(after - source.line_starts.begin());
  result.column += at - line_start <= kColumnBlock ? CountScalars(source.text, line_start, at)
                                                    : ScalarsBefore(source, at) - ScalarsBefore(source, line_start);
  return result;
}

std::string_view SourceManager::Line(SourceId id, uint32_t line) const {
  const Source& source = (*this)[id];
  if (line == 0 || line > source.line_starts.size()) return {};
  const std::string_view text = source.text;
  const size_t begin = source.line_starts[line - 1];
  size_t end = line < source.line_starts.size() ? source.line_starts[line] - 1 : text.size();
  if (end > begin && text[end - 1] == '\r') --end;
  return text.substr(begin, end - begin);
}

}  // namespace jobc
