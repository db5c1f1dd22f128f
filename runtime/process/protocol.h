// The frames between jobc and its guardian, and between jobc and the shim of each slot, over stream socketpairs of one
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
  // jobc to guardian; FrameHead::attempt is the slot's generation
  kBegin = 1,    ///< run id, state directory: write the record of this live run
  kSlot,         ///< SlotBody, with its descriptors: a new shim for `slot`; the one before is let go
  kDropSlot,     ///< the shim of `slot` cannot be heard any more: end it
  kLimits,       ///< an attempt with limits is about to start: get ready for that
  kRegister,     ///< a path to remove if jobc dies
  kUnregister,   ///< the same path again
  kBye,          ///< end everything that runs, remove groups and record, exit
  // guardian to jobc
  kReady,        ///< ReadyBody, then the directory of the groups
  kLimitsReady,  ///< LimitsBody; the answer to kLimits
  kSlotLost,     ///< LostBody: the shim of this generation is no more, or never was; nothing of its attempt is alive
  // jobc to a shim
  kStart,        ///< StartBody, then directory, arguments, environment, paths, each ended by NUL
  kRevoke,       ///< an attempt that waits for the one before it (kAfter), and what waits for it, shall not start
  kSignal,       ///< SignalBody: to every process of the attempt
  kKillTree,     ///< SIGKILL to every process of the attempt
  // a shim to jobc
  kStarted,      ///< StartedBody
  kSpawnFailed,  ///< FailedBody, then path and detail
  kExited,       ///< ExitedBody
  kReaped,       ///< ReapedBody: nothing of the attempt is alive
  kRevoked,      ///< the answer to kRevoke, if the attempt had not started; first of what waits for it
};

struct FrameHead {
  uint32_t bytes = 0;  ///< with this header
  FrameKind kind = FrameKind::kBye;
  uint32_t slot = 0;
  uint32_t token = 0;  ///< kStart with kAfter, kRevoked: tells several starts of one attempt apart
  uint64_t attempt = 0;
};

/// With kSlot travel: the shim's end of its socket, then for each pair the write ends for stdout and stderr.
struct SlotBody {
  uint32_t pairs = 1;
};

struct LimitsBody {
  uint32_t v2_ready = 0;  ///< attempts can get version 2 limits
};

struct LostBody {
  int32_t error = 0;  ///< errno: why the shim could not be made; 0: it was killed
  uint32_t left = 0;  ///< processes that could not be killed (another user's)
};

/// StartBody::flags
constexpr uint32_t kV2LimitsReady = 1;  ///< kLimitsReady said so
constexpr uint32_t kAfter = 2;          ///< starts when `after` has ended with success and is reaped, else never

/// The most pairs of pipes that a slot has: one for what runs, one for each of those that wait for it.
constexpr uint32_t kMostPairs = 8;

struct StartBody {
  uint64_t memory_bytes = 0;
  uint32_t cpu_milli = 0;
  uint32_t pids = 0;
  uint32_t flags = 0;
  uint32_t pair = 0;  ///< of the slot's pipes
  uint32_t argc = 0;
  uint32_t envc = 0;
  uint32_t unless = 0;  ///< paths: with kAfter it does not start if one of them is there
  uint64_t after = 0;   ///< with kAfter: the attempt that runs, or the last of those that wait
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
  int64_t wall_ms = 0;
  uint64_t max_rss_bytes = 0;
  uint64_t peak_bytes = 0;
  uint64_t user_us = 0;
  uint64_t system_us = 0;
};

struct ReapedBody {
  uint32_t left = 0;  ///< processes that could not be killed (another user's)
  uint32_t next = 0;  ///< 1: the attempt that waited for this one starts now; 0: none of those that wait ever will
};

/// Appends frames to a buffer.
class FrameWriter {
 public:
  explicit FrameWriter(std::string* out) : out_(out) {}

  template <typename Body>
  void Add(FrameKind kind, uint32_t slot, uint64_t attempt, const Body& body, std::string_view tail = {},
           uint32_t token = 0) {
    static_assert(std::is_trivially_copyable_v<Body>);
    FrameHead head{static_cast<uint32_t>(sizeof head + sizeof body + tail.size()), kind, slot, token, attempt};
    out_->append(reinterpret_cast<const char*>(&head), sizeof head);
    out_->append(reinterpret_cast<const char*>(&body), sizeof body);
    out_->append(tail);
  }
  void AddText(FrameKind kind, uint32_t slot, uint64_t attempt, std::string_view tail = {}, uint32_t token = 0) {
    FrameHead head{static_cast<uint32_t>(sizeof head + tail.size()), kind, slot, token, attempt};
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
    begin_ += head->bytes;
    return true;
  }
 private:
  std::string buffer_;
  size_t begin_ = 0;
  size_t end_ = 0;
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
