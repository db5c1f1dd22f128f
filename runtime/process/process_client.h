// jobc's side of the guardian: starts, signals and ends attempts, and feeds their output to a LogWriter. Lives on one
// uv_loop_t and its thread; nothing in here blocks except Create() (not at all in practice) and Stop() (until the
// guardian has ended everything). Each slot, a place for one attempt at a time, has a shim, made by the guardian, with
// which this talks over a socket of its own, and pipes, kept from attempt to attempt. That is safe because an attempt is
// reaped, and its pipes are drained, before they are used again; after a kill shim and pipes are replaced.
//
// An attempt can be handed over ahead of time (StartAfter): its shim then starts it the moment the one before it has
// ended with exit code 0 and its tree is reaped, without asking, so that nobody waits for the way to jobc and back; and so one
// after the other, so that jobc hears of several ends at once.
#pragma once

#include <uv.h>

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "runtime/process/guardian.h"
#include "runtime/process/log_store.h"
#include "runtime/process/os.h"
#include "runtime/process/spawn.h"
#include "support/result.h"

namespace jobc::process {

/// Limits of one attempt; 0 is none. They are enforced where the machine can (Enforcement), else admission only.
struct ProcessLimits {
  uint64_t memory_bytes = 0;
  uint32_t cpu_milli = 0;
  uint32_t pids = 0;
};

/// What one attempt is started with.
struct ProcessSpec {
  std::vector<std::string> argv;
  std::vector<std::string> env;  ///< NAME=value, complete: nothing is added
  std::string directory;         ///< absolute
  ProcessLimits limits;
};

struct ProcessStarted {
  int32_t pid = 0;
  int64_t wall_ms = 0;
  ProcessLimits enforced;  ///< those limits that the kernel enforces
};

struct ProcessExit {
  int exit_code = 0;           ///< if `signal` is 0
  int signal = 0;
  bool out_of_memory = false;  ///< the kernel killed a process of it at its memory limit
  bool supervisor_lost = false;  ///< its supervising shim was killed from outside; the true end is not known
  int64_t wall_ms = 0;
  uint64_t max_rss_bytes = 0;      ///< of its largest process
  uint64_t peak_memory_bytes = 0;  ///< of the whole tree, if it has a memory limit; else 0
  uint64_t user_us = 0;            ///< of the processes that were waited for
  uint64_t system_us = 0;
};

/// Called from the loop. For each attempt either OnSpawnFailed alone, or OnStarted, OnExited, OnReaped in this order;
/// after StartAfter() also OnRevoked alone. All of them may call the client.
class ProcessEvents {
 public:
  virtual ~ProcessEvents() = default;
  virtual void OnStarted(uint64_t attempt, const ProcessStarted& started) = 0;
  /// The program could not be started. Nothing else follows.
  virtual void OnSpawnFailed(uint64_t attempt, const SpawnFailure& failure) = 0;
  /// The leader has ended; others of its tree are being killed.
  virtual void OnExited(uint64_t attempt, const ProcessExit& exit) = 0;
  /// Nothing of the attempt is alive, and all its output is with the LogWriter. `left` processes of another user could
  /// not be killed (0 as good as always). `next`: the attempt that waited for this one and starts now; 0: none does.
  virtual void OnReaped(uint64_t attempt, const LogWriter::Closed& output, uint32_t left, uint64_t next) = 0;
  /// An attempt of StartAfter() has not started and will not. Comes after that of what waits for it, and before the OnReaped
  /// of the one it was to follow.
  virtual void OnRevoked(uint64_t) {}
  /// The guardian was killed. All trees have been ended by now; no further events follow for `attempts`, and the client
  /// takes no new ones.
  virtual void OnGuardianLost(const std::vector<uint64_t>& attempts) = 0;
};

class FrameReader;

class ProcessClient {
 public:
  struct Options {
    std::string run_id;     ///< the value of JOB_RUN_ID, by which leftovers are found
    std::string state_dir;  ///< where the record of the live run goes; empty for none (no clean-up after a double kill)
  };

  /// `loop`, `log` and `events` must outlive the client. Attempts are started from the next loop tick on.
  static Result<std::unique_ptr<ProcessClient>> Create(uv_loop_t* loop, GuardianHandle guardian, const Options& options,
                                                       LogWriter* log, ProcessEvents* events);
  /// Stop(), if it was not called.
  ~ProcessClient();
  ProcessClient(const ProcessClient&) = delete;
  ProcessClient& operator=(const ProcessClient&) = delete;

  /// What the descriptors that this process and its guardian may open suffice for. Raises this process's own soft limit
  /// to the hard one first, as Create() does; programs get theirs back.
  struct Files {
    uint64_t limit = 0;
    uint64_t open = 0;
    bool suffice = false;   ///< for a run at all
    uint32_t attempts = 1;  ///< at a time, at least 1
  };
  /// Best called before the loop is made: libuv ends the process where that fails.
  static Files CountFiles();

  /// Attempt ids are the caller's: above 0, and unique within the run, also over resumes, as they name the logs.
  void Start(uint64_t attempt, const ProcessSpec& spec);
  /// Starts it when `before`, which runs or waits itself, has ended with exit code 0, undisturbed, with none of the paths
  /// `unless` there, and is reaped; else never, and OnRevoked is called. False: that is not possible here (OnRevoked is not
  /// called), say because one waits for `before` already, or too many wait. While several wait, the end of what runs is
  /// told up to two milliseconds late, so that several are told at once.
  bool StartAfter(uint64_t attempt, const ProcessSpec& spec, uint64_t before, const std::vector<std::string>& unless = {});
  /// For an attempt of StartAfter(): it shall not start, nor what waits for it. OnRevoked follows, of the last one first, or
  /// the events of an attempt that was faster.
  void Revoke(uint64_t attempt);
  /// Sends `signal` to every process of the attempt's tree.
  void Signal(uint64_t attempt, int signal);
  /// SIGKILL to every process of the tree; OnExited and OnReaped follow. Timers for a `grace` are the caller's.
  void KillTree(uint64_t attempt);
  /// Registers a path that the guardian removes if this process dies, and with Stop().
  void RemoveOnDeath(const std::string& path);
  /// The path is gone or shall stay.
  void KeepOnDeath(const std::string& path);

  /// uv_now() at the attempt's last output byte, or at its start if there was none; for idle timeouts.
  uint64_t LastOutput(uint64_t attempt) const;
  size_t running() const { return running_.size(); }
  bool lost() const { return lost_; }
  pid_t guardian_pid() const { return guardian_.pid; }
  /// True if trees are ended by control groups; known soon after Create(), true until then.
  bool by_cgroup() const { return by_cgroup_; }
  /// Sends what Start() and the others have collected and flushes the log: done by itself before each wait of the loop.
  void Flush();

  /// Ends everything that still runs, without events, and the guardian. Returns when both are gone; the loop needs
  /// another turn to forget the closed handles.
  void Stop();

 private:
  struct Slot;
  struct Outgoing {
    std::string bytes;
    std::vector<UniqueFd> fds;
  };

  ProcessClient(uv_loop_t* loop, GuardianHandle guardian, LogWriter* log, ProcessEvents* events);
  /// 0, or an errno value.
  int OpenSlot(Slot& slot);
  void CloseSlot(Slot& slot);
  /// What StartAfter() adds to a start.
  struct After {
    uint64_t attempt = 0;  ///< 0: nothing, it starts at once
    uint32_t token = 0;
    int pair = 0;
  };
  void WriteStart(Slot& slot, uint64_t attempt, const ProcessSpec& spec, const After& after,
                  const std::vector<std::string>& unless);
  std::string* OutTo(Slot& slot);
  void SendTo(Slot& slot);
  void ReceiveFrom(Slot& slot);
  void AnsweredBy(Slot& slot, uint64_t attempt, uint32_t token, uint32_t kind, std::string_view payload);
  void LoseSlot(Slot& slot, int error, uint32_t left);
  /// What waits at that place and behind it does not start.
  void RevokeFrom(Slot& slot, size_t place);
  void Reaped(Slot& slot, uint32_t left, bool next_starts);
  void SpawnFailed(Slot& slot, const SpawnFailure& failure);
  std::string* Out();
  void SendAll();
  void Receive();
  void Answered(uint32_t slot, uint64_t generation, uint32_t kind, std::string_view payload);
  bool ReadPipe(Slot& slot, int pair, int stream, int rounds);
  void DrainPair(Slot& slot, int pair);
  void Lost();
  void UpdateReference();

  static void OnSocketEvent(uv_poll_t* handle, int status, int events);
  static void OnSlotEvent(uv_poll_t* handle, int status, int events);
  static void OnPipeEvent(uv_poll_t* handle, int status, int events);
  static void OnPrepare(uv_prepare_t* handle);
  static void OnCheck(uv_check_t* handle);
  void FailLater(uint64_t attempt, SpawnFailure failure);

  uv_loop_t* loop_;
  GuardianHandle guardian_;
  LogWriter* log_;
  ProcessEvents* events_;
  Options options_;
  uv_poll_t* socket_poll_ = nullptr;  // handles outlive this until the loop has closed them
  uv_prepare_t* prepare_ = nullptr;
  uv_check_t* check_ = nullptr;
  uv_idle_t* idle_ = nullptr;  // runs while `failed_` is not empty, so that the loop does not wait
  bool waiting_for_room_ = false;
  bool lost_ = false;
  bool stopped_ = false;
  bool by_cgroup_ = true;
  bool second_pairs_ = false;     ///< descriptors suffice for them
  bool limits_asked_ = false;
  std::optional<bool> v2_limits_; ///< the guardian's answer
  std::vector<uint32_t> waiting_for_limits_;  ///< slots whose start is written once that is known
  uint32_t last_token_ = 0;
  std::vector<uint32_t> unsent_;  ///< slots with something to send
  std::vector<std::unique_ptr<Slot>> slots_;
  std::vector<uint32_t> free_slots_;
  std::unordered_map<uint64_t, uint32_t> running_;  // attempt to slot
  std::deque<Outgoing> outgoing_;
  std::vector<std::pair<uint64_t, SpawnFailure>> failed_;  // found before they were sent
  std::unique_ptr<FrameReader> received_;
  std::unique_ptr<char[]> pipe_buffer_;
};

}  // namespace jobc::process
