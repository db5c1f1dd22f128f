#include "runtime/process/log_store.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include <fmt/format.h>

namespace jobc::process {
namespace {

constexpr uint32_t kFrameMagic = 0x4c424f4a;  // "JOBL"
constexpr char kFileHead[16] = "jobc log 1\n";
constexpr size_t kFlushBytes = 1 << 20;
constexpr size_t kMaxFrameBytes = 1 << 20;
constexpr size_t kLastLineBytes = 200;
constexpr uint64_t kRingHead = 4096;
constexpr uint64_t kRingMagic = 0x31676e69724a4cULL;  // "LJring1"

/// In front of each piece of output. All numbers in host byte order: a log is read on the machine that wrote it.
struct FrameHeader {
  uint32_t magic = kFrameMagic;
  uint32_t bytes = 0;
  uint64_t attempt = 0;
  uint64_t previous = 0;  ///< offset of the stream's frame before this one, 0 if none
  uint64_t position = 0;  ///< of the first byte in its stream
  int64_t wall_ms = 0;
  uint32_t stream = 0;
  uint32_t checksum = 0;  ///< of the fields above
  uint32_t reserved[2] = {0, 0};
};
static_assert(sizeof(FrameHeader) == 56);

/// FNV-1a: finds torn and foreign headers; damage by intent is not its business.
uint32_t Checksum(const FrameHeader& header) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(&header);
  uint32_t sum = 2166136261U;
  for (size_t i = 0; i < offsetof(FrameHeader, checksum); ++i) {
    sum = (sum ^ bytes[i]) * 16777619U;
  }
  return sum;
}

/// The first page of a ring file, mapped by the writer and read with pread() by readers.
struct RingHeader {
  uint64_t magic = 0;
  uint64_t base = 0;      ///< position in the stream of the ring's first byte ever
  uint64_t capacity = 0;
  std::atomic<uint64_t> begun;  ///< bytes whose writing has begun: older ones may be overwritten already
  std::atomic<uint64_t> done;   ///< bytes that are in the file
};

std::string RingPath(const std::string& directory, uint64_t attempt, LogStream stream) {
  return fmt::format("{}/log.{}.{}", directory, attempt, stream == LogStream::kStdout ? "out" : "err");
}

/// pread() until `size` bytes are there or the file ends; -1 with errno on failure.
ssize_t ReadAt(int fd, void* buffer, size_t size, uint64_t offset) {
  size_t have = 0;
  while (have < size) {
    ssize_t n = pread(fd, static_cast<char*>(buffer) + have, size - have, static_cast<off_t>(offset + have));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n < 0) {
      return -1;
    }
    if (n == 0) {
      break;
    }
    have += static_cast<size_t>(n);
  }
  return static_cast<ssize_t>(have);
}

int WriteAt(int fd, std::string_view bytes, uint64_t offset) {
  while (!bytes.empty()) {
    ssize_t n = pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      return n < 0 ? errno : EIO;
    }
    bytes.remove_prefix(static_cast<size_t>(n));
    offset += static_cast<uint64_t>(n);
  }
  return 0;
}

/// Calls `each(offset, header)` for every whole frame from `offset` on; returns where the next one would begin.
template <typename Each>
Result<uint64_t> ScanFrames(int fd, uint64_t offset, Each each) {
  struct stat info {};
  if (fstat(fd, &info) != 0) {
    return SystemError("cannot read the log", errno);
  }
  const uint64_t size = static_cast<uint64_t>(info.st_size);
  std::vector<char> window(256 * 1024);
  uint64_t window_begin = 0;
  uint64_t window_end = 0;
  while (offset + sizeof(FrameHeader) <= size) {
    if (offset < window_begin || offset + sizeof(FrameHeader) > window_end) {
      ssize_t n = ReadAt(fd, window.data(), window.size(), offset);
      if (n < 0) {
        return SystemError("cannot read the log", errno);
      }
      window_begin = offset;
      window_end = offset + static_cast<uint64_t>(n);
      if (offset + sizeof(FrameHeader) > window_end) {
        break;
      }
    }
    FrameHeader header;
    memcpy(&header, window.data() + (offset - window_begin), sizeof header);
    if (header.magic != kFrameMagic || header.checksum != Checksum(header) || header.bytes > kMaxFrameBytes ||
        header.stream > 1 || offset + sizeof header + header.bytes > size) {
      break;
    }
    each(offset, header);
    offset += sizeof header + header.bytes;
  }
  return offset;
}

}  // namespace

/// The kept end of a stream over its limit.
struct LogWriter::Ring {
  UniqueFd fd;
  RingHeader* header = nullptr;

  ~Ring() {
    if (header) {
      munmap(header, kRingHead);
    }
  }
};

// Masking.

LogFilter MakeMaskingFilter(std::vector<std::string> needles, std::string replacement) {
  needles.erase(std::remove(needles.begin(), needles.end(), std::string()), needles.end());
  std::sort(needles.begin(), needles.end(), [](const std::string& a, const std::string& b) { return a.size() > b.size(); });
  std::vector<bool> starts(256);
  for (const std::string& needle : needles) {
    starts[static_cast<unsigned char>(needle[0])] = true;
  }
  return [needles = std::move(needles), starts = std::move(starts), replacement = std::move(replacement)](
             std::string_view raw, bool at_end, std::string* out) -> size_t {
    size_t at = 0;
    size_t plain = 0;  // from here to `at` nothing needs masking
    while (at < raw.size()) {
      if (!starts[static_cast<unsigned char>(raw[at])]) {
        ++at;
        continue;
      }
      std::string_view rest = raw.substr(at);
      size_t matched = 0;
      bool undecided = false;
      for (const std::string& needle : needles) {
        if (rest.size() >= needle.size() ? rest.compare(0, needle.size(), needle) == 0
                                         : (!at_end && needle.compare(0, rest.size(), rest) == 0)) {
          if (rest.size() < needle.size()) {
            undecided = true;  // a longer needle may still win over a shorter match
          } else {
            matched = needle.size();
          }
          break;
        }
      }
      if (undecided) {
        out->append(raw.substr(plain, at - plain));
        return at;
      }
      if (matched == 0) {
        ++at;
        continue;
      }
      out->append(raw.substr(plain, at - plain));
      out->append(replacement);
      at += matched;
      plain = at;
    }
    out->append(raw.substr(plain));
    return raw.size();
  };
}

// Writer.

Result<std::unique_ptr<LogWriter>> LogWriter::Open(const std::string& directory, const std::vector<uint64_t>& again) {
  std::unique_ptr<LogWriter> writer(new LogWriter);
  writer->directory_ = directory;
  std::string path = directory + "/log.pack";
  writer->fd_.Reset(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!writer->fd_) {
    return SystemError(fmt::format("cannot open the log `{}`", path), errno);
  }
  char head[sizeof kFileHead] = {};
  ssize_t n = ReadAt(writer->fd_.get(), head, sizeof head, 0);
  if (n < static_cast<ssize_t>(sizeof head)) {
    writer->buffer_.assign(kFileHead, sizeof kFileHead);
    return writer;
  }
  if (memcmp(head, kFileHead, sizeof head) != 0) {
    return Error{fmt::format("`{}` is no log of jobc", path)};
  }
  Result<uint64_t> end = ScanFrames(writer->fd_.get(), sizeof head, [&](uint64_t offset, const FrameHeader& header) {
    if (std::find(again.begin(), again.end(), header.attempt) == again.end()) {
      return;  // over: each new try has an id of its own
    }
    StreamState& state = writer->attempts_[header.attempt].streams[header.stream];
    state.position = state.again = header.position + header.bytes;
    state.last_frame = offset;
  });
  if (!end) {
    return end.error();
  }
  writer->end_ = *end;
  return writer;
}

LogWriter::~LogWriter() {
  if (fd_) {
    Flush();
  }
}

void LogWriter::Configure(uint64_t attempt, const LogOptions& options, LogFilter stdout_filter, LogFilter stderr_filter) {
  AttemptState& state = attempts_[attempt];
  state.limit = std::max<uint64_t>(options.limit_bytes, 2);
  state.streams[0].filter = std::move(stdout_filter);
  state.streams[1].filter = std::move(stderr_filter);
}

void LogWriter::Append(uint64_t attempt, LogStream stream, std::string_view bytes) {
  if (bytes.empty()) {
    return;
  }
  AttemptState& state = attempts_[attempt];
  StreamState& target = state.streams[static_cast<size_t>(stream)];
  if (!target.filter) {
    Store(attempt, state, stream, bytes);
    return;
  }
  std::string_view raw = bytes;
  if (!target.held.empty()) {
    target.held.append(bytes);
    raw = target.held;
  }
  filtered_.clear();
  size_t used = std::min(target.filter(raw, false, &filtered_), raw.size());
  std::string rest(raw.substr(used));
  target.held = std::move(rest);
  Store(attempt, state, stream, filtered_);
}

void LogWriter::Store(uint64_t attempt, AttemptState& state, LogStream stream, std::string_view bytes) {
  StreamState& target = state.streams[static_cast<size_t>(stream)];
  if (bytes.empty()) {
    return;
  }
  // The last line, for displays: what follows the last line break that is not the end.
  std::string_view tail = bytes.substr(bytes.size() > 2 * kLastLineBytes ? bytes.size() - 2 * kLastLineBytes : 0);
  bool ended = !target.last_line.empty() && target.last_line.back() == '\n';
  std::string_view body = tail.back() == '\n' ? tail.substr(0, tail.size() - 1) : tail;
  size_t line_break = body.rfind('\n');
  if (line_break != std::string_view::npos) {
    target.last_line.assign(tail.substr(line_break + 1));
  } else {
    if (ended) {
      target.last_line.clear();
    }
    target.last_line.append(tail);
  }
  if (target.last_line.size() > 2 * kLastLineBytes) {
    target.last_line.erase(0, target.last_line.size() - 2 * kLastLineBytes);
  }

  if (target.again > 0) {
    const uint64_t known = std::min<uint64_t>(target.again, bytes.size());
    target.again -= known;
    bytes.remove_prefix(static_cast<size_t>(known));
    if (bytes.empty()) {
      return;
    }
  }
  const uint64_t head_limit = state.limit / 2;
  if (target.position < head_limit) {
    size_t fits = static_cast<size_t>(std::min<uint64_t>(bytes.size(), head_limit - target.position));
    std::string_view now = bytes.substr(0, fits);
    while (!now.empty()) {
      AddFrame(attempt, target, stream, now.substr(0, kMaxFrameBytes));
      now.remove_prefix(std::min(now.size(), kMaxFrameBytes));
    }
    bytes.remove_prefix(fits);
  }
  if (bytes.empty()) {
    return;
  }
  if (!target.ring && !failure_) {
    auto ring = std::make_unique<Ring>();
    std::string path = RingPath(directory_, attempt, stream);
    ring->fd.Reset(open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    void* page = MAP_FAILED;
    // posix_fallocate: a store to a page of a file that has no room on the disk would be a SIGBUS.
    int error = !ring->fd ? errno : posix_fallocate(ring->fd.get(), 0, kRingHead);
    if (error == 0) {
      page = mmap(nullptr, kRingHead, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd.get(), 0);
      error = page == MAP_FAILED ? errno : 0;
    }
    if (error != 0) {
      Fail(SystemError(fmt::format("cannot write the log `{}`", path), error));
    } else {
      ring->header = static_cast<RingHeader*>(page);
      ring->header->base = target.position;
      ring->header->capacity = state.limit - head_limit;
      ring->header->begun = 0;
      ring->header->done = 0;
      ring->header->magic = kRingMagic;
      target.ring = std::move(ring);
    }
  }
  const uint64_t size = bytes.size();
  if (target.ring && !failure_) {
    RingHeader& header = *target.ring->header;
    uint64_t at = target.position - header.base;
    if (size > header.capacity) {
      at += size - header.capacity;
      bytes.remove_prefix(static_cast<size_t>(size - header.capacity));
    }
    header.begun.store(at + bytes.size(), std::memory_order_release);
    for (std::string_view rest = bytes; !rest.empty();) {
      uint64_t offset = at % header.capacity;
      size_t part = static_cast<size_t>(std::min<uint64_t>(rest.size(), header.capacity - offset));
      if (int error = WriteAt(target.ring->fd.get(), rest.substr(0, part), kRingHead + offset)) {
        Fail(SystemError(fmt::format("cannot write the log `{}`", RingPath(directory_, attempt, stream)), error));
        break;
      }
      rest.remove_prefix(part);
      at += part;
    }
    header.done.store(target.position + size - header.base, std::memory_order_release);
  } else {
    target.lost += size;
  }
  target.position += size;
}

void LogWriter::AddFrame(uint64_t attempt, StreamState& state, LogStream stream, std::string_view bytes) {
  if (failure_) {
    state.position += bytes.size();
    state.lost += bytes.size();
    return;
  }
  FrameHeader header;
  header.bytes = static_cast<uint32_t>(bytes.size());
  header.attempt = attempt;
  header.previous = state.last_frame;
  header.position = state.position;
  header.wall_ms = WallMillis();
  header.stream = static_cast<uint32_t>(stream);
  header.checksum = Checksum(header);
  state.last_frame = end_ + buffer_.size();
  state.position += bytes.size();
  buffer_.append(reinterpret_cast<const char*>(&header), sizeof header);
  buffer_.append(bytes);
  if (buffer_.size() >= kFlushBytes) {
    Flush();
  }
}

LogTotals LogWriter::TotalsOf(const AttemptState& state, LogStream stream) const {
  const StreamState& target = state.streams[static_cast<size_t>(stream)];
  LogTotals totals{target.position, target.lost};
  if (target.ring) {
    uint64_t in_ring = target.ring->header->done.load(std::memory_order_relaxed);
    uint64_t capacity = target.ring->header->capacity;
    totals.dropped_bytes += in_ring > capacity ? in_ring - capacity : 0;
  }
  return totals;
}

LogWriter::Closed LogWriter::Close(uint64_t attempt) {
  auto it = attempts_.find(attempt);
  if (it == attempts_.end()) {
    return {};
  }
  AttemptState& state = it->second;
  for (LogStream stream : {LogStream::kStdout, LogStream::kStderr}) {
    StreamState& target = state.streams[static_cast<size_t>(stream)];
    if (target.filter && !target.held.empty()) {
      std::string held = std::move(target.held);
      target.held.clear();
      filtered_.clear();
      target.filter(held, true, &filtered_);
      Store(attempt, state, stream, filtered_);
    }
  }
  Closed closed{TotalsOf(state, LogStream::kStdout), TotalsOf(state, LogStream::kStderr)};
  attempts_.erase(it);
  return closed;
}

std::string LogWriter::LastLine(uint64_t attempt, LogStream stream) const {
  auto it = attempts_.find(attempt);
  if (it == attempts_.end()) {
    return {};
  }
  std::string_view line = it->second.streams[static_cast<size_t>(stream)].last_line;
  while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) {
    line.remove_suffix(1);
  }
  if (line.size() > kLastLineBytes) {
    line.remove_suffix(line.size() - kLastLineBytes);
  }
  return std::string(line);
}

void LogWriter::Flush() {
  if (buffer_.empty()) {
    return;
  }
  if (!failure_) {
    if (int error = WriteAt(fd_.get(), buffer_, end_)) {
      Fail(SystemError(fmt::format("cannot write the log `{}/log.pack`", directory_), error));
    } else {
      end_ += buffer_.size();
    }
  }
  buffer_.clear();
}

void LogWriter::Fail(Error error) {
  if (!failure_) {
    failure_ = std::move(error);
    // A frame that is only partly there would be read as the end anyway; without it the file is clean.
    if (ftruncate(fd_.get(), static_cast<off_t>(end_)) != 0) {
      return;
    }
  }
}

// Reader.

/// An open ring file with the positions that could be read when it was opened.
struct LogReader::RingView {
  UniqueFd fd;
  uint64_t base = 0;
  uint64_t capacity = 0;
  uint64_t done = 0;

  uint64_t begin_position() const { return base + (done > capacity ? done - capacity : 0); }
  uint64_t end_position() const { return base + done; }

  /// The oldest position that is not being overwritten now.
  uint64_t SafePosition() const {
    char page[sizeof(RingHeader)];
    if (ReadAt(fd.get(), page, sizeof page, 0) != static_cast<ssize_t>(sizeof page)) {
      return end_position();
    }
    uint64_t begun = 0;
    memcpy(&begun, page + offsetof(RingHeader, begun), sizeof begun);
    return base + (begun > capacity ? begun - capacity : 0);
  }
};

std::optional<LogReader::RingView> LogReader::OpenRing(uint64_t attempt, LogStream stream) const {
  RingView view;
  view.fd.Reset(open(RingPath(directory_, attempt, stream).c_str(), O_RDONLY | O_CLOEXEC));
  char page[sizeof(RingHeader)];
  if (!view.fd || ReadAt(view.fd.get(), page, sizeof page, 0) != static_cast<ssize_t>(sizeof page)) {
    return std::nullopt;
  }
  uint64_t magic = 0;
  memcpy(&magic, page, sizeof magic);
  memcpy(&view.base, page + offsetof(RingHeader, base), sizeof view.base);
  memcpy(&view.capacity, page + offsetof(RingHeader, capacity), sizeof view.capacity);
  memcpy(&view.done, page + offsetof(RingHeader, done), sizeof view.done);
  if (magic != kRingMagic || view.capacity == 0) {
    return std::nullopt;
  }
  return view;
}

Result<LogReader> LogReader::Open(const std::string& directory) {
  LogReader reader;
  reader.directory_ = directory;
  if (Result<void> read = reader.Refresh(); !read) {
    return read.error();
  }
  return reader;
}

Result<void> LogReader::Refresh() {
  std::string path = directory_ + "/log.pack";
  if (!fd_) {
    fd_.Reset(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd_) {
      if (errno == ENOENT) {
        return {};
      }
      return SystemError(fmt::format("cannot open the log `{}`", path), errno);
    }
  }
  if (scanned_ == 0) {
    char head[sizeof kFileHead] = {};
    ssize_t n = ReadAt(fd_.get(), head, sizeof head, 0);
    if (n < static_cast<ssize_t>(sizeof head)) {
      return {};  // just being made
    }
    if (memcmp(head, kFileHead, sizeof head) != 0) {
      return Error{fmt::format("`{}` is no log of jobc", path)};
    }
    scanned_ = sizeof head;
  }
  Result<uint64_t> end = ScanFrames(fd_.get(), scanned_, [&](uint64_t offset, const FrameHeader& header) {
    auto [it, added] = attempts_.try_emplace(header.attempt);
    if (added) {
      order_.push_back(header.attempt);
    }
    LogStream stream = static_cast<LogStream>(header.stream);
    it->second.frames.push_back({offset + sizeof header, header.position, header.wall_ms, header.bytes, stream});
    it->second.end[header.stream] = header.position + header.bytes;
  });
  if (!end) {
    return end.error();
  }
  scanned_ = *end;
  return {};
}

std::vector<uint64_t> LogReader::Attempts() const { return order_; }

LogTotals LogReader::Totals(uint64_t attempt, LogStream stream) const {
  auto it = attempts_.find(attempt);
  if (it == attempts_.end()) {
    return {};
  }
  LogTotals totals{it->second.end[static_cast<size_t>(stream)], 0};
  if (std::optional<RingView> ring = OpenRing(attempt, stream)) {
    totals.dropped_bytes = ring->begin_position() - ring->base;
    totals.total_bytes = std::max(totals.total_bytes, ring->end_position());
  }
  return totals;
}

Result<void> LogReader::ReadFrame(const FrameRef& frame, std::string* bytes) const {
  bytes->resize(frame.bytes);
  ssize_t n = ReadAt(fd_.get(), bytes->data(), frame.bytes, frame.offset);
  if (n != static_cast<ssize_t>(frame.bytes)) {
    return n < 0 ? SystemError("cannot read the log", errno) : Error{"the log has become shorter while it was read"};
  }
  return {};
}

Result<void> LogReader::ForEach(uint64_t attempt, LogStream stream, uint64_t position,
                                const std::function<bool(const Chunk&)>& each) const {
  auto it = attempts_.find(attempt);
  if (it == attempts_.end()) {
    return {};
  }
  std::string bytes;
  for (const FrameRef& frame : it->second.frames) {
    if (frame.stream != stream || frame.position + frame.bytes <= position) {
      continue;
    }
    if (Result<void> read = ReadFrame(frame, &bytes); !read) {
      return read;
    }
    Chunk chunk{attempt, stream, frame.position, frame.wall_ms, bytes};
    if (position > chunk.position) {
      chunk.bytes.remove_prefix(static_cast<size_t>(position - chunk.position));
      chunk.position = position;
    }
    if (!each(chunk)) {
      return {};
    }
  }
  std::optional<RingView> ring = OpenRing(attempt, stream);
  if (!ring) {
    return {};
  }
  for (uint64_t at = std::max(position, ring->begin_position()); at < ring->end_position();) {
    uint64_t offset = (at - ring->base) % ring->capacity;
    uint64_t part = std::min({ring->end_position() - at, ring->capacity - offset, uint64_t{kMaxFrameBytes}});
    bytes.resize(static_cast<size_t>(part));
    ssize_t n = ReadAt(ring->fd.get(), bytes.data(), bytes.size(), kRingHead + offset);
    if (n <= 0) {
      return n < 0 ? SystemError("cannot read the log", errno) : Error{"the log has become shorter while it was read"};
    }
    bytes.resize(static_cast<size_t>(n));
    // What a live writer has reached in the meantime is not what we wanted: those bytes are dropped now.
    uint64_t safe = ring->SafePosition();
    std::string_view valid = bytes;
    uint64_t valid_at = at;
    if (safe > at) {
      uint64_t gone = std::min<uint64_t>(safe - at, valid.size());
      valid.remove_prefix(static_cast<size_t>(gone));
      valid_at += gone;
    }
    if (!valid.empty() && !each(Chunk{attempt, stream, valid_at, 0, valid})) {
      return {};
    }
    at = std::max(at + static_cast<uint64_t>(n), safe);
  }
  return {};
}

Result<void> LogReader::ForEachInOrder(uint64_t attempt, const std::function<bool(const Chunk&)>& each) const {
  auto it = attempts_.find(attempt);
  if (it == attempts_.end()) {
    return {};
  }
  std::string bytes;
  for (const FrameRef& frame : it->second.frames) {
    if (Result<void> read = ReadFrame(frame, &bytes); !read) {
      return read;
    }
    if (!each(Chunk{attempt, frame.stream, frame.position, frame.wall_ms, bytes})) {
      return {};
    }
  }
  bool more = true;
  for (LogStream stream : {LogStream::kStdout, LogStream::kStderr}) {
    if (!more) {
      break;
    }
    Result<void> read = ForEach(attempt, stream, it->second.end[static_cast<size_t>(stream)],
                                [&](const Chunk& chunk) { return more = each(chunk); });
    if (!read) {
      return read;
    }
  }
  return {};
}

Result<std::string> LogReader::Tail(uint64_t attempt, LogStream stream, size_t lines, size_t max_bytes) const {
  std::string tail;
  auto it = attempts_.find(attempt);
  if (it == attempts_.end() || lines == 0) {
    return tail;
  }
  auto enough = [&] {
    if (tail.size() >= max_bytes) {
      return true;
    }
    size_t breaks = static_cast<size_t>(std::count(tail.begin(), tail.end(), '\n'));
    return breaks > lines || (breaks == lines && !tail.empty() && tail.back() != '\n');
  };
  std::string bytes;
  bool gap = false;
  if (std::optional<RingView> ring = OpenRing(attempt, stream)) {
    uint64_t length = std::min<uint64_t>(ring->end_position() - ring->begin_position(), max_bytes);
    Result<void> read = ForEach(attempt, stream, ring->end_position() - length, [&](const Chunk& chunk) {
      tail.append(chunk.bytes);
      return true;
    });
    if (!read) {
      return read.error();
    }
    gap = ring->begin_position() > ring->base;
  }
  const std::vector<FrameRef>& frames = it->second.frames;
  for (size_t i = frames.size(); i > 0 && !gap && !enough(); --i) {
    if (frames[i - 1].stream != stream) {
      continue;
    }
    if (Result<void> read = ReadFrame(frames[i - 1], &bytes); !read) {
      return read.error();
    }
    tail.insert(0, bytes);
  }
  if (tail.size() > max_bytes) {
    tail.erase(0, tail.size() - max_bytes);
  }
  size_t at = tail.size();
  for (size_t found = 0; at > 0; --at) {
    if (tail[at - 1] == '\n' && at != tail.size() && ++found == lines) {
      break;
    }
  }
  return tail.substr(at);
}

Result<std::string> LogReader::Text(uint64_t attempt, LogStream stream, uint64_t max_bytes, LogTextProblem* problem) const {
  LogTotals totals = Totals(attempt, stream);
  *problem = totals.dropped_bytes > 0            ? LogTextProblem::kTruncated
             : totals.total_bytes > max_bytes ? LogTextProblem::kTooLarge
                                              : LogTextProblem::kNone;
  std::string text;
  if (*problem != LogTextProblem::kNone) {
    return text;
  }
  Result<void> read = ForEach(attempt, stream, 0, [&](const Chunk& chunk) {
    text.append(chunk.bytes);
    return true;
  });
  if (!read) {
    return read.error();
  }
  if (!IsUtf8(text)) {
    *problem = LogTextProblem::kNotUtf8;
    text.clear();
  }
  return text;
}

bool IsUtf8(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    unsigned char lead = static_cast<unsigned char>(text[i]);
    if (lead < 0x80) {
      ++i;
      continue;
    }
    size_t length = lead >= 0xc2 && lead <= 0xdf ? 2 : (lead & 0xf0) == 0xe0 ? 3 : lead >= 0xf0 && lead <= 0xf4 ? 4 : 0;
    if (length == 0 || i + length > text.size()) {
      return false;
    }
    for (size_t k = 1; k < length; ++k) {
      if ((static_cast<unsigned char>(text[i + k]) & 0xc0) != 0x80) {
        return false;
      }
    }
    unsigned char second = static_cast<unsigned char>(text[i + 1]);
    if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) || (lead == 0xf0 && second < 0x90) ||
        (lead == 0xf4 && second > 0x8f)) {
      return false;
    }
    i += length;
  }
  return true;
}

}  // namespace jobc::process
