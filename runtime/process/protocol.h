// The frames between jobc and the guardian, and between the guardian and its shims, over a stream socketpair of one
// machine: fixed-size headers in host byte order, then a payload. Descriptors travel beside the frame that announces
// them. Only runtime/process includes this.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace jobc::process {

enum class FrameKind : uint32_t {
  // jobc to guardian
  kBegin = 1,    ///< run id, state directory, work directory: write the record of this live run
  kSlot,         ///< with two descriptors: the write ends for stdout and stderr of what runs in `slot`
  kStart,        ///< StartBody, then directory, arguments, environment, each ended by NUL
  kSignal,       ///< SignalBody: to every process of the attempt
  kKillTree,     ///< SIGKILL to every process of the attempt
  kRegister,     ///< a path to remove if jobc dies
  kUnregister,   ///< the same path again
  kBye,          ///< end everything that runs, remove groups and record, exit
  // guardian to jobc
  kReady,        ///< ReadyBody, then the directory of the groups
  kStarted,      ///< StartedBody
  kSpawnFailed,  ///< FailedBody, then path and detail
  kExited,       ///< ExitedBody
  kReaped,       ///< ReapedBody: nothing of the attempt is alive
};

struct FrameHead {
  uint32_t bytes = 0;  ///< with this header
  FrameKind kind = FrameKind::kBye;
  uint32_t slot = 0;
  uint32_t reserved = 0;
  uint64_t attempt = 0;
};

struct StartBody {
  uint64_t memory_bytes = 0;
  uint32_t cpu_milli = 0;
  uint32_t pids = 0;
  uint32_t argc = 0;
  uint32_t envc = 0;
};

struct SignalBody {
  int32_t signal = 0;
};

struct ReadyBody {
  uint32_t by_cgroup = 0;
};

struct StartedBody {
  int32_t pid = 0;
  uint32_t cpu_milli = 0;  ///< the limits that are enforced
  uint32_t pids = 0;
  uint64_t memory_bytes = 0;
  int64_t wall_ms = 0;
};

struct FailedBody {
  uint32_t stage = 0;
  int32_t error = 0;
  uint64_t index = 0;
  uint64_t bytes = 0;
  uint64_t limit = 0;
};

struct ExitedBody {
  int32_t status = 0;  ///< as wait() gives it
  uint32_t oom = 0;
  uint32_t lost = 0;   ///< the supervising shim was killed, `status` is made up
  int64_t wall_ms = 0;
  uint64_t max_rss_bytes = 0;
  uint64_t peak_bytes = 0;
  uint64_t user_us = 0;
  uint64_t system_us = 0;
};

struct ReapedBody {
  uint32_t left = 0;  ///< processes that could not be killed (another user's)
};

/// Appends frames to a buffer.
class FrameWriter {
 public:
  explicit FrameWriter(std::string* out) : out_(out) {}

  template <typename Body>
  void Add(FrameKind kind, uint32_t slot, uint64_t attempt, const Body& body, std::string_view tail = {}) {
    static_assert(std::is_trivially_copyable_v<Body>);
    FrameHead head{static_cast<uint32_t>(sizeof head + sizeof body + tail.size()), kind, slot, 0, attempt};
    out_->append(reinterpret_cast<const char*>(&head), sizeof head);
    out_->append(reinterpret_cast<const char*>(&body), sizeof body);
    out_->append(tail);
  }
  void AddText(FrameKind kind, uint32_t slot, uint64_t attempt, std::string_view tail = {}) {
    FrameHead head{static_cast<uint32_t>(sizeof head + tail.size()), kind, slot, 0, attempt};
    out_->append(reinterpret_cast<const char*>(&head), sizeof head);
    out_->append(tail);
  }

 private:
  std::string* out_;
};

/// Collects received bytes and hands out whole frames. A frame's text is valid until the next Space() call.
class FrameReader {
 public:
  /// Room for at least `size` more bytes; call Received() with how many were written there.
  char* Space(size_t size) {
    if (begin_ > 0) {
      memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
      end_ -= begin_;
      begin_ = 0;
    }
    if (buffer_.size() < end_ + size) {
      buffer_.resize(end_ + size);
    }
    return buffer_.data() + end_;
  }
  void Received(size_t size) { end_ += size; }

  /// The next whole frame; false if there is none yet.
  bool Next(FrameHead* head, std::string_view* payload) {
    if (end_ - begin_ < sizeof(FrameHead)) {
      return false;
    }
    memcpy(head, buffer_.data() + begin_, sizeof *head);
    if (end_ - begin_ < head->bytes || head->bytes < sizeof *head) {
      return false;
    }
    *payload = std::string_view(buffer_).substr(begin_ + sizeof *head, head->bytes - sizeof *head);
    frame_ = begin_;
    begin_ += head->bytes;
    return true;
  }
  /// The frame that Next() returned last, header and all.
  std::string_view WholeFrame() const { return std::string_view(buffer_).substr(frame_, begin_ - frame_); }

 private:
  std::string buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
  size_t frame_ = 0;
};

/// Takes a fixed-size body off the front of a payload; false if it is too short.
template <typename Body>
bool TakeBody(std::string_view* payload, Body* body) {
  static_assert(std::is_trivially_copyable_v<Body>);
  if (payload->size() < sizeof *body) {
    return false;
  }
  memcpy(body, payload->data(), sizeof *body);
  payload->remove_prefix(sizeof *body);
  return true;
}

/// Takes a NUL-ended string off the front of a payload.
inline std::string_view TakeText(std::string_view* payload) {
  size_t end = payload->find('\0');
  std::string_view text = payload->substr(0, end);
  payload->remove_prefix(end == std::string_view::npos ? payload->size() : end + 1);
  return text;
}

}  // namespace jobc::process
