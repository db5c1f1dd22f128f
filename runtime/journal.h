// The durable record of one run: an SQLite database in WAL mode, `journal.db` in the run's directory. The state of a
// run is a fold over its records, in order of `seq`; docs/journal.md describes every table for people and tools.
// One process writes (it holds the run's lock, state_dir.h), any number of others may read at the same time.
// Every row carries a checksum and records are numbered without gaps, so that damage is told and never read as content.
// `journal.db-mark` beside the file says how many records were durable at least: a log that was cut off or left behind in a
// copy is told too, which SQLite alone would take for the end of what was written.
// Records are appended to an open transaction and become durable together at Commit(); the engine commits before any
// effect that others can see depends on them. Where nothing waits for it, CommitBehind() leaves the slow half, the wait
// for the disk, to another thread. Otherwise used from one thread.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "support/result.h"

namespace jobc {

/// Raised when a reader of the old number could misunderstand the file. Stored as PRAGMA user_version.
/// 3: `output.files`, key parts in Intent, Key and Reused. 4: Adopted. Readers take 2 and 3, too; a writer makes 4 of them.
inline constexpr int kJournalVersion = 4;
inline constexpr int kOldestJournalVersion = 2;

/// Numbers are part of the file format.
enum class RecordType : uint8_t {
  Opened = 1,     ///< a process took the run over. a: pid, b: its start time in ticks; text: JSON {boot, host, version}
  Intent = 2,     ///< the attempt is about to be handed to its backend. text: its cache key and the parts of its own
  Started = 3,    ///< a: pid, b: start time in ticks; text: the backend's handle (may be empty)
  Verdict = 4,    ///< a: error kind, or -1 for success; b: wait status or -1; text: JSON with facts and message
  Reaped = 5,     ///< nothing of the attempt is alive any more. text: JSON with resource usage
  Final = 6,      ///< a: final state of the instance; b: 1 if its failure is tolerated; text: the reason, may be empty
  Expanded = 7,   ///< a dynamic scatter's domain is known. a: instances; text: JSON of the list
  Retry = 8,      ///< attempt: number of the next attempt; a: delay in ms; text: the rule
  Mode = 9,       ///< the run's mode grew. a: strategy; text: why
  Stop = 10,      ///< the run was told to stop. a: signal or 0; text: who
  Finished = 11,  ///< a: exit code; text: JSON {status, error}
  Note = 12,      ///< something a person should know. text: the message; a: kNoteOfProgress if it is no warning, kNoteOfStaged if it is a place
  Ahead = 13,     ///< `a` consecutive ready instances may be started from now on, their Intent records may follow later
  Key = 14,       ///< parts of the cache key that all instances of the job share, before the first use. text: JSON
  Reused = 15,    ///< a result of an earlier run stands for the instance. text: JSON of key and origin; its Final follows
  Adopted = 16,   ///< an attempt that was cut off before the last Opened was found alive, or ended by itself. a: its id
};
/// Record::a of a Note that tells what is being done and warns of nothing.
inline constexpr int64_t kNoteOfProgress = 1;
/// Of a Note that names the place where what an attempt is given and leaves is laid down (staged.h).
inline constexpr int64_t kNoteOfStaged = 2;
/// Of a Note that counts, in Record::b, answers of backends which were ignored since the last such note.
inline constexpr int64_t kNoteOfLate = 3;

std::string_view RecordName(RecordType type);

struct Record {
  int64_t seq = 0;       ///< set by the journal
  int64_t time_ms = 0;   ///< wall clock, since 1970
  RecordType type = RecordType::Note;
  int32_t job = -1;      ///< index in the plan's jobs; -1: the whole run
  int64_t ordinal = -1;  ///< instance of the job; -1: the whole job
  int32_t attempt = 0;
  int64_t a = 0;
  int64_t b = 0;
  std::string text;
};

/// What is known when a run is created and never changes.
struct RunHeader {
  std::string id;
  std::string name;           ///< `--name`, may be empty
  int64_t created_ms = 0;
  std::string version;        ///< of the jobc that created it
  std::string plan_digest;
  std::string source;         ///< the root source as given on the command line, for people
  std::string root;           ///< absolute directory that Source files are relative to
  std::string cwd;            ///< absolute directory that Cwd files are relative to
  std::string profile;
  std::string options;        ///< JSON of the run's options
};

/// What instances of the run produced.
struct StoredOutputs {
  int32_t job = 0;
  int64_t ordinal = 0;
  int32_t attempt = 0;
  std::string outputs;        ///< JSON object: declared outputs; files as paths below the run's directory
  std::string result;         ///< the JSON result as the job wrote it, canonical; empty: none
  std::string files;          ///< JSON object: SHA-256 of each file and tree of `outputs` by path; empty: none, or not known
};
/// Of an `output` row, as its journal has it.
int64_t ChecksumOf(const StoredOutputs& outputs);
/// Of the `export` row.
int64_t ChecksumOfExports(std::string_view json);

/// Instances whose intents may be journaled ahead at a time: as many attempts may have started that no record tells of.
inline constexpr uint64_t kMostAhead = 512;

enum class Durability : uint8_t {
  Full,    ///< every commit survives a power loss
  Normal,  ///< commits survive a crash of jobc; a power loss may lose the last ones, never the file's consistency
};

class Journal {
 public:
  /// Makes the file; fails if it exists. The error's code is an errno value (ENOSPC, EROFS, EACCES …).
  static Result<Journal> Create(const std::string& path, const RunHeader& header, std::string_view plan_text,
                                Durability durability);
  /// Opens an existing one for going on. Fails on files that are no journal, damaged, of another format, or not writable.
  static Result<Journal> Open(const std::string& path, Durability durability);

  Journal(Journal&&) noexcept;
  Journal& operator=(Journal&&) noexcept;
  /// What was not committed is dropped.
  ~Journal();

  /// Adds a record to the open transaction and returns its number. After a failure every later call fails the same way.
  Result<int64_t> Append(const Record& record);
  Result<void> PutOutputs(const StoredOutputs& outputs);
  /// The values of the run's exports, as one JSON object.
  Result<void> PutExports(std::string_view json);
  Result<void> Commit();
  /// Waits for the disk, on any thread, also after the Journal is gone; returns 0 or an errno value.
  using Sync = std::function<int()>;
  /// Ends the transaction without waiting for the disk: other processes see its records at once, but they are durable
  /// only after the returned function has run, or after the next Commit(). Empty: nothing is left to do.
  /// A failure of the returned function must be told with SyncFailed().
  Result<Sync> CommitBehind();
  /// Every later call fails with this.
  Error SyncFailed(int code);
  bool dirty() const;
  /// Rows written since the last Commit().
  size_t pending() const;
  /// Of records that were durable before, how many were missing when it was opened; JournalReader::Lost().
  int64_t lost() const;
  const std::string& path() const;

 private:
  struct State;
  explicit Journal(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// A consistent view of a journal, also while its run is going on in another process.
class JournalReader {
 public:
  static Result<JournalReader> Open(const std::string& path);
  JournalReader(JournalReader&&) noexcept;
  JournalReader& operator=(JournalReader&&) noexcept;
  ~JournalReader();

  const RunHeader& header() const;
  Result<std::string> PlanText();
  /// How many records were durable once and are not there: the file was cut off, replaced by an older one, copied without its
  /// log, or damaged in it; with Durability::Normal also what a power loss took. 0: nothing is known to be missing.
  Result<int64_t> Lost();
  /// Calls `visit` for each record with a number above `after`, in order, until it returns false. Fails at the first one that
  /// is missing between others, or is not as it was written.
  Result<void> Scan(int64_t after, const std::function<bool(const Record&)>& visit);
  /// The last record of a type, if there is one.
  /// Of those with a number above `after`; looks at all of these where there is none.
  Result<std::optional<Record>> Last(RecordType type, int64_t after = 0);
  /// The number of the last record; 0: there is none.
  Result<int64_t> LastNumber();
  Result<std::optional<StoredOutputs>> Outputs(int32_t job, int64_t ordinal);
  /// Of all instances, or of one job's (`job` >= 0), by job and ordinal.
  Result<void> ScanOutputs(int32_t job, const std::function<bool(const StoredOutputs&)>& visit);
  /// Empty before the exports were evaluated.
  Result<std::string> Exports();

 private:
  struct State;
  explicit JournalReader(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace jobc
