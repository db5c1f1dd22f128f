// Where attempts run: the interface between the engine and backends/. A backend never blocks; it lives on the engine's
// loop and thread. For each Submit() or Attach() it calls, in this order: OnSubmitted and OnStarted at most once each, OnExited or OnFailed
// exactly once, OnReaped exactly once, also after a cancel and when the place is lost. What a backend can do is data
// (Capabilities), read by the compiler too.
#pragma once

#include <uv.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ir/plan.h"
#include "ir/value.h"
#include "runtime/attempt.h"
#include "runtime/masking.h"
#include "runtime/process/guardian.h"
#include "runtime/process/log_store.h"
#include "support/result.h"

namespace jobc {

/// How files of this machine come to stand under $JOB_INPUT.
enum class InputStaging : uint8_t {
  Link,   ///< a symbolic link to the original: the job sees this machine's files
  Mount,  ///< an empty file or directory as the place for it, and an entry in AttemptLaunch::mounts: the backend mounts it there
};

/// The directories of one attempt as the job sees them, where that is not as they lie on this machine; all absolute.
struct SeenPlaces {
  std::string output_dir = "/jobc/out";
  std::string tmp_dir = "/jobc/tmp";
  std::string stage_dir = "/jobc/stage";
  std::string secrets_dir = "/jobc/secrets";
};

/// The directories of one attempt on this machine; all absolute.
struct AttemptPlaces {
  std::string output_dir;  ///< $JOB_OUTPUT and the working directory: exists, empty
  std::string tmp_dir;     ///< $TMPDIR: exists, empty
  std::string stage_dir;   ///< for inputs, private files and the result; made by who needs it, removed with the attempt
  std::string secrets_dir; ///< for secret files: in memory, of this user alone, exists; empty: it has none
  /// The job runs in an image: it sees its directories there, and the environment begins with what the image sets. Nothing:
  /// it sees this machine, and the environment is this machine's.
  std::optional<SeenPlaces> seen = std::nullopt;
  InputStaging inputs = InputStaging::Link;

  const std::string& SeenOutput() const { return seen ? seen->output_dir : output_dir; }
  const std::string& SeenTmp() const { return seen ? seen->tmp_dir : tmp_dir; }
  const std::string& SeenStage() const { return seen ? seen->stage_dir : stage_dir; }
  const std::string& SeenSecrets() const { return seen ? seen->secrets_dir : secrets_dir; }
};

/// A file or directory of this machine that the job is to see somewhere else.
struct Mount {
  std::string source;      ///< absolute, on this machine, without links
  std::string target;      ///< absolute, as the job sees it
  bool read_only = true;

  friend bool operator==(const Mount&, const Mount&) = default;
};

/// An attempt that another run of the same state directory submitted; it keeps the name and the places that it got there.
struct AttemptOrigin {
  std::string run;         ///< its id
  std::string run_dir;
  AttemptId id = 0;        ///< in that run

  std::string ExecutionId() const { return run + "-" + std::to_string(id); }
};

/// What a backend is given to run one attempt.
struct AttemptLaunch {
  AttemptId id = 0;
  uint32_t number = 1;
  InstanceRef instance;
  std::string address;
  std::string execution_id;
  std::string run;                ///< the run that submitted it, for Attach(); empty: this one
  std::vector<std::string> argv;
  std::vector<std::string> env;   ///< NAME=value, complete
  AttemptPlaces places;
  Resources resources;
  Timeouts timeouts;
  int64_t grace_ms = 10'000;
  std::optional<uint64_t> log_limit;
  /// With `places.seen` only. Parents come before what lies below them: to be mounted in this order. The directories of
  /// `places` come first, then the inputs.
  std::vector<Mount> mounts;
  std::string image;              ///< as written; empty: the job has none
  bool image_args = false;        ///< `argv` are arguments of the image's ENTRYPOINT; empty: the image's CMD stands
  std::vector<std::pair<std::string, ir::Value>> options;  ///< of the job's backend block, by name; none is null
  uint32_t submission = 1;        ///< above 1: it may have arrived before. Look for `execution_id` there, send only if it is not found
};

/// How a program ended by itself or by a signal.
struct AttemptExit {
  std::optional<int> exit_code, signal;
  bool out_of_memory = false;     ///< the backend or the kernel says so
  int64_t wall_ms = 0;
  Usage usage;
};

/// Whether attempts of a kind of backend can go on when their jobc is gone.
inline bool OutlivesJobc(ir::BackendKind kind) { return kind != ir::BackendKind::Process && kind != ir::BackendKind::Apptainer; }

/// What has become of an attempt of an earlier process.
enum class AttachAnswer : uint8_t {
  Found,    ///< it runs, or has ended and can still be asked how
  Gone,     ///< nothing of it is alive, and nobody knows how it ended, or it never began and was removed
  Unknown,  ///< the place cannot be asked: it may be running
};

/// Called on the loop's thread; may call the backend.
class BackendEvents {
 public:
  virtual ~BackendEvents() = default;
  /// The place has taken the attempt, before OnStarted; `handle` as there. At most once.
  virtual void OnSubmitted(AttemptId id, const std::string& handle) {}
  /// The place is asked how the attempt is; only from backends that have to ask.
  virtual void OnPolling(AttemptId id) {}
  /// `handle`: how the backend finds it again (container id, job number); may be empty. `pid` 0: not on this machine.
  virtual void OnStarted(AttemptId id, int64_t wall_ms, int64_t pid, const std::string& handle) = 0;
  /// The program has ended, and its outputs are on their way: limits of its time count no longer. At most once, before OnExited.
  virtual void OnCollecting(AttemptId) {}
  /// The program has ended; its outputs are in place.
  virtual void OnExited(AttemptId id, const AttemptExit& exit) = 0;
  /// It ended otherwise: could not be started, was lost, preempted …
  virtual void OnFailed(AttemptId id, Verdict verdict) = 0;
  /// Nothing of it is alive any more, and all its output is in the log.
  /// `next`: the attempt of SubmitAfter() that begins now in its place; 0: none does.
  virtual void OnReaped(AttemptId id, AttemptId next = 0) = 0;
  /// An attempt of SubmitAfter() has not begun and never will; nothing else follows for it. Comes before the OnReaped of the
  /// one it was to follow.
  virtual void OnRevoked(AttemptId id) = 0;
  /// The answer to Attach(), exactly one. After Found everything else follows as after Submit(). `why`: of Unknown, for people.
  virtual void OnAttached(AttemptId, AttachAnswer, const std::string& /*why*/) {}
  /// Before that answer: the place has it, but its program has not begun, so the backend is about to remove it. When this returns the
  /// journal says so: what is on its way there, a start or the removal, is not taken for its end by whoever comes next.
  virtual void OnNeverBegan(AttemptId) {}
  /// An attempt that was found had been given other values of secrets than it would be given now, as far as that can be seen; before
  /// OnAttached(). From now on they are hidden as well.
  virtual void OnFormerSecrets(AttemptId, const std::vector<std::string>& /*values*/) {}
  /// What the backend is busy with for a while: an image is being pulled.
  virtual void OnNote(ir::BackendKind /*kind*/, std::string /*message*/) {}
  /// Something that is not as a person would expect, and ends nothing: credentials that cannot be read, a container that could not be removed.
  virtual void OnWarning(ir::BackendKind /*kind*/, std::string /*message*/) {}
  /// Nothing of this kind can run any more. Attempts under way are answered one by one as well.
  virtual void OnUnavailable(ir::BackendKind kind, std::string message) = 0;
};

class Backend {
 public:
  /// Gives its handles of the loop back.
  virtual ~Backend() = default;
  /// Directories for an attempt, with one for secret files if it has `secrets`. Error: `staging`, or the machine's state
  /// (exit 15) if `code` is ENOSPC, EROFS or EDQUOT.
  virtual Result<AttemptPlaces> Prepare(AttemptId id, bool secrets) = 0;
  virtual void Submit(const AttemptLaunch& launch) = 0;
  /// To begin without being asked again when `before` has ended with exit code 0, undisturbed, with none of the paths
  /// `unless` there, and is reaped. False: that cannot be, and nothing follows for it. Answered by OnReaped of `before`
  /// with it as `next`, or by OnRevoked.
  virtual bool SubmitAfter(const AttemptLaunch&, AttemptId, const std::vector<std::string>&) { return false; }
  /// What SubmitAfter() took shall not begin. Answered as that is.
  virtual void Revoke(AttemptId) {}
  /// TERM, after `grace_ms` KILL. Without effect on attempts it does not know.
  virtual void Cancel(AttemptId id, int64_t grace_ms) = 0;
  /// Gives up an attempt whose program has not begun. True: it never begins, and no event about it follows. False: it has
  /// begun or begins at once, or is not known; it goes on as if nothing had been asked.
  virtual bool Withdraw(AttemptId id) = 0;
  /// The directories that Prepare() of an earlier process of this run made for an attempt, with nothing in them touched.
  /// Nothing: attempts end with their jobc here, or the directories are gone; either way the attempt is lost.
  virtual std::optional<AttemptPlaces> FindPlaces(AttemptId, bool /*secrets*/) { return std::nullopt; }
  /// The same for an attempt that another run submitted, whose process is gone and whose lock this one holds; here it is `id`.
  virtual std::optional<AttemptPlaces> FindPlacesOf(AttemptId /*id*/, bool /*secrets*/, const AttemptOrigin&) { return std::nullopt; }
  /// Looks for an attempt of an earlier process of this run by what Submit() makes of its execution id; only those that
  /// FindPlaces() knows are asked for. `launch`: as it was submitted. `handle`: as OnStarted told it, empty if it did not
  /// come so far. Answered by OnAttached(). If it is found, its output is sent to the log once more from the beginning: the
  /// log drops what it has. Starts nothing.
  virtual void Attach(const AttemptLaunch& launch, const std::string& /*handle*/) = 0;
  /// The engine has taken what it wants from the directories, those of FindPlaces() as well. `keep`: what is left of them is
  /// for people to look at. Of a place that goes on without jobc: its end is durable, so it need not be found there any more.
  virtual void Release(AttemptId id, bool keep) = 0;
  /// Removes a tree of the run without blocking.
  virtual void RemoveLater(const std::string& path) = 0;
  /// uv_now() of the last byte of output; for idle timeouts.
  virtual uint64_t LastOutput(AttemptId id) const = 0;
  /// Ends everything that was submitted or found at once and returns when nothing of it is alive. No events follow, and its
  /// handles no longer keep the loop alive.
  virtual void Stop() = 0;
  /// Instead of Stop(), where nothing was submitted yet: what was found, or may be there, goes on without jobc.
  virtual void LetGo() { Stop(); }
};

/// What a backend may use while it lives; everything outlives it.
struct BackendHost {
  uv_loop_t* loop = nullptr;
  BackendEvents* events = nullptr;
  process::LogWriter* log = nullptr;
  const Masker* masker = nullptr;
  process::GuardianHandle* guardian = nullptr;  ///< taken by the process backend
  std::string run_id;
  std::string run_dir;
  std::string state_dir;
  bool secret_files = false;      ///< some job of the run has them
  bool takes_over = false;        ///< attempts of other runs of the state directory may be attached
  /// The options `host` and `context` of the jobs of this kind, each pair once; empty where they say nothing. The others: the first job
  /// there that needs such a limit, so that an engine which cannot enforce it is found out before anything runs; empty: none.
  struct Engine {
    std::string host, context;
    std::string memory, cpu, pids;
  };
  std::vector<Engine> engines;
};

/// Makes the backend of a kind. The error says why it is not available here (exit 14).
using BackendFactory = std::function<Result<std::unique_ptr<Backend>>(ir::BackendKind kind, const BackendHost& host)>;

}  // namespace jobc
