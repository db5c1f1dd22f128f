// What attempts write to stdout and stderr, kept in one append-only file for a whole run (`log.pack`), so that output
// costs no file per attempt and a silent attempt costs nothing. LogWriter is used on jobc's loop thread by ProcessClient
// (and by backends that fetch logs elsewhere) and writes once per loop tick; LogReader works from any process, while the
// run is live and after a crash of it.
//
// The file is a sequence of frames: a 56-byte header with a checksum, then the bytes as they came (they need not be
// UTF-8). Each frame names the one before it of the same stream, so the end of a log is read without the beginning. A
// torn last frame is ignored by readers and overwritten by a later writer. Of a stream that outgrows its limit the first
// half is in the pack and the last half in a ring file of its own beside it (`log.ATTEMPT.out`); memory stays constant.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "runtime/process/os.h"
#include "support/result.h"

namespace jobc::process {

enum class LogStream : uint8_t { kStdout = 0, kStderr = 1 };

/// Changes a stream before it is stored (masking). `raw` begins with what the last call left over. Appends the bytes to
/// store to `out` and returns how many bytes of `raw` were used; the rest comes again, with what follows it. With
/// `at_end` everything must be used.
using LogFilter = std::function<size_t(std::string_view raw, bool at_end, std::string* out)>;

/// A filter that writes `replacement` for every occurrence of a needle, also across reads. Where needles overlap the
/// longest at the earliest place wins. Holds back only what may be the beginning of a needle.
LogFilter MakeMaskingFilter(std::vector<std::string> needles, std::string replacement = "***");

struct LogOptions {
  uint64_t limit_bytes = 64ULL << 20;  ///< for each stream
};

/// Sizes of one stream.
struct LogTotals {
  uint64_t total_bytes = 0;    ///< written by the attempt (after masking)
  uint64_t dropped_bytes = 0;  ///< of these, not kept: the middle
};

class LogWriter {
 public:
  /// Opens or creates `directory/log.pack`. After a crash continues behind the last whole frame. `again`: attempts of before
  /// whose output will be appended once more from its beginning (a place outside of jobc has kept it): of that, what is there
  /// already is passed over, so that nothing is lost and nothing stands there twice.
  static Result<std::unique_ptr<LogWriter>> Open(const std::string& directory, const std::vector<uint64_t>& again = {});
  ~LogWriter();
  LogWriter(const LogWriter&) = delete;
  LogWriter& operator=(const LogWriter&) = delete;

  /// Optional, before the first byte of an attempt: another limit than the default, and filters, one per stream.
  void Configure(uint64_t attempt, const LogOptions& options, LogFilter stdout_filter, LogFilter stderr_filter);
  /// Buffers bytes; they reach the file with the next Flush(), or at once when much has come together.
  void Append(uint64_t attempt, LogStream stream, std::string_view bytes);
  /// No more bytes will come: stores what the filters held back and frees the state. Returns the sizes.
  struct Closed {
    LogTotals out;
    LogTotals err;
  };
  Closed Close(uint64_t attempt);
  /// The last line of a stream so far, for progress displays and failure messages (at most 200 bytes; not yet ended
  /// lines count). Empty once closed.
  std::string LastLine(uint64_t attempt, LogStream stream) const;

  /// One write for everything buffered. Call at the end of a loop tick and before the journal says that an attempt ended.
  void Flush();
  /// The first failure of a write (a full disk), if any; from then on new output is counted but not kept.
  const std::optional<Error>& failure() const { return failure_; }

 private:
  struct Ring;
  struct StreamState {
    uint64_t position = 0;     ///< bytes so far
    uint64_t last_frame = 0;   ///< offset of the last frame, 0 if none
    std::string held;          ///< left over by the filter
    LogFilter filter;
    std::unique_ptr<Ring> ring;
    std::string last_line;
    uint64_t lost = 0;         ///< bytes that a failed write did not keep
    uint64_t again = 0;        ///< bytes still to come that are in the file
  };
  struct AttemptState {
    uint64_t limit = LogOptions().limit_bytes;
    StreamState streams[2];
  };

  LogWriter() = default;
  void Store(uint64_t attempt, AttemptState& state, LogStream stream, std::string_view bytes);
  void AddFrame(uint64_t attempt, StreamState& state, LogStream stream, std::string_view bytes);
  LogTotals TotalsOf(const AttemptState& state, LogStream stream) const;
  void Fail(Error error);

  std::string directory_;
  UniqueFd fd_;
  uint64_t end_ = 0;      ///< of the file, without the buffer
  std::string buffer_;    ///< frames not yet written
  std::unordered_map<uint64_t, AttemptState> attempts_;
  std::string filtered_;  ///< scratch
  std::optional<Error> failure_;
};

/// Why the whole text of a stream cannot be had.
enum class LogTextProblem { kNone, kTruncated, kTooLarge, kNotUtf8 };

class LogReader {
 public:
  /// A piece of a stream. `position` counts the stream's bytes from 0; a jump is where bytes were dropped.
  struct Chunk {
    uint64_t attempt = 0;
    LogStream stream = LogStream::kStdout;
    uint64_t position = 0;
    int64_t wall_ms = 0;  ///< when it was read; 0 for the kept end of a stream over its limit
    std::string_view bytes;
  };

  /// Opens `directory/log.pack` and reads its frame headers. A directory without one has no logs; that is no error.
  static Result<LogReader> Open(const std::string& directory);

  /// Takes in what was appended since.
  Result<void> Refresh();
  /// The attempts that wrote anything, in order of their first byte.
  std::vector<uint64_t> Attempts() const;
  LogTotals Totals(uint64_t attempt, LogStream stream) const;
  /// Calls `each` for every piece of a stream from `position` on, in order, until it returns false.
  Result<void> ForEach(uint64_t attempt, LogStream stream, uint64_t position,
                       const std::function<bool(const Chunk&)>& each) const;
  /// The same for both streams, in the order in which they were read; each stream's kept end comes last.
  Result<void> ForEachInOrder(uint64_t attempt, const std::function<bool(const Chunk&)>& each) const;
  /// The last `lines` lines, at most `max_bytes` of them. Reads only the end.
  Result<std::string> Tail(uint64_t attempt, LogStream stream, size_t lines, size_t max_bytes = 1 << 20) const;
  /// Everything, for stdout(): empty with a problem if bytes were dropped, it is above `max_bytes`, or no UTF-8.
  Result<std::string> Text(uint64_t attempt, LogStream stream, uint64_t max_bytes, LogTextProblem* problem) const;

 private:
  struct FrameRef {
    uint64_t offset = 0;
    uint64_t position = 0;
    int64_t wall_ms = 0;
    uint32_t bytes = 0;
    LogStream stream = LogStream::kStdout;
  };
  struct AttemptFrames {
    std::vector<FrameRef> frames;
    uint64_t end[2] = {0, 0};  ///< stream bytes in the pack
  };
  struct RingView;

  LogReader() = default;
  Result<void> ReadFrame(const FrameRef& frame, std::string* bytes) const;
  std::optional<RingView> OpenRing(uint64_t attempt, LogStream stream) const;

  std::string directory_;
  UniqueFd fd_;
  uint64_t scanned_ = 0;
  std::vector<uint64_t> order_;
  std::unordered_map<uint64_t, AttemptFrames> attempts_;
};

/// True if `text` is well-formed UTF-8 without overlong forms and surrogates.
bool IsUtf8(std::string_view text);

}  // namespace jobc::process
