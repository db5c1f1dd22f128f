// How other processes talk to the jobc that executes a run: the socket `control` in the run's directory (docs/control.md).
// A request is one line of JSON, the answer is one line; after a request to watch, events follow, one a line.
// The server lives on the engine's loop and thread and never waits for anybody: whoever sends too much, too slowly or
// nonsense is cut off, whoever does not read loses events. Nothing that a client does reaches the run but what it asks for.
#pragma once

#include <uv.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/process/os.h"
#include "support/result.h"

namespace jobc {

/// What is to be cancelled: a job of the plan, or one instance of it.
struct CancelTarget {
  uint32_t job = 0;
  int64_t ordinal = -1;  ///< -1: the whole job
};

struct CancelRequest {
  bool run = false;      ///< the whole run, as by Ctrl-C; `targets` is empty then
  bool at_once = false;  ///< with `run`: as by a second Ctrl-C
  std::vector<CancelTarget> targets;
};

/// What became of a CancelRequest.
struct CancelAnswer {
  uint32_t cancelled = 0;  ///< of the targets: those that were not final
  bool stopping = false;   ///< the run was being cancelled already
  std::string error;       ///< nothing was done, and why
};

/// What the server asks of the engine. Called on the loop's thread.
class ControlHandler {
 public:
  virtual ~ControlHandler() = default;
  /// Durable when it returns. `who`: `jobc cancel (pid 71)`.
  virtual CancelAnswer Cancel(const CancelRequest& request, const std::string& who) = 0;
};

class ControlServer {
 public:
  /// Clients at a time; more are turned away.
  static constexpr size_t kMaxClients = 64;
  /// What a client may leave unread before events are dropped for it.
  static constexpr size_t kMaxUnread = size_t{4} << 20;
  static constexpr size_t kMaxRequest = size_t{64} << 10;

  /// Listens in `run_dir`, whose lock this process holds. `handler` must outlive the server.
  static Result<std::unique_ptr<ControlServer>> Listen(uv_loop_t* loop, const std::string& run_dir, ControlHandler* handler);
  /// Removes the socket. Open connections end; what was not read yet of them can still be read. The loop must run once more.
  ~ControlServer();
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

  bool watched() const { return watchers_ > 0; }
  /// A line (without its end) for all who watch.
  void Tell(std::string_view event_json);

 private:
  struct Client;
  ControlServer(uv_loop_t* loop, ControlHandler* handler);
  static void OnConnect(uv_poll_t* handle, int status, int events);
  static void OnClient(uv_poll_t* handle, int status, int events);
  void Accept();
  void Read(Client& client);
  /// False: the client is gone.
  bool Write(Client& client);
  void Answer(Client& client, std::string_view request);
  void Send(Client& client, std::string line);
  void Drop(Client& client);
  void Arm(Client& client);

  uv_loop_t* loop_;
  ControlHandler* handler_;
  process::UniqueFd directory_;
  process::UniqueFd socket_;
  uv_poll_t* poll_ = nullptr;
  uv_timer_t* pause_ = nullptr;  ///< after there were no descriptors left
  std::vector<std::unique_ptr<Client>> clients_;
  size_t watchers_ = 0;
};

/// The other side: one request and its answer, then perhaps events. Blocking.
class ControlClient {
 public:
  /// Fails with ECONNREFUSED or ENOENT where no process listens.
  static Result<ControlClient> Connect(const std::string& run_dir);

  /// Returns the answer's JSON; an answer `{"error": …}` is an error.
  Result<std::string> Ask(std::string_view request);
  Result<CancelAnswer> Cancel(const CancelRequest& request);
  /// From now on events can be read. They tell also of records that were committed before: compare their numbers.
  Result<void> Watch();
  /// The next event's line if there is one within `timeout_ms` (-1: wait); empty: not yet. ECONNRESET: the run's process is gone.
  Result<std::string> Next(int timeout_ms);
  int fd() const { return fd_.get(); }

 private:
  explicit ControlClient(process::UniqueFd fd) : fd_(std::move(fd)) {}
  process::UniqueFd fd_;
  std::string buffer_;
  size_t taken_ = 0;
};

}  // namespace jobc
