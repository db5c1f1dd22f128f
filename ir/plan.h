// The execution plan IR, `jobc.plan/1`: all that the compiler and the runtime share. Lower() makes it, plan_json.h
// writes and reads it, the runtime interprets it. Nodes are declared jobs with their symbolic domain: a scatter over a
// million values is one Job. Contains no clock, host, user, absolute path (unless written by the user) or secret value.
// Every ExprId belongs to Plan::program.exprs; an invalid id means "not given".
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "ir/program.h"

namespace jobc::ir {

inline constexpr int kPlanMajor = 1;
inline constexpr int kPlanMinor = 1;
/// Raised whenever the meaning of an operation or built-in function changes.
inline constexpr int kFunctionsVersion = 1;

/// Where something stands in the sources: one-based line and column.
struct Position {
  uint32_t source = UINT32_MAX;  ///< Plan::sources
  uint32_t line = 0;
  uint32_t column = 0;
};

struct SourceRow {
  std::string name;    ///< relative to the root source's directory, or `std/python`
  std::string sha256;
};

/// One row for each distinct file known at plan time.
struct FileRow {
  FileBase base = FileBase::Source;
  bool is_dir = false;
  std::string path;
  uint64_t size = 0;
  std::string sha256;   ///< of a Dir: of its canonical listing. Empty for URIs.
  std::string etag, version;  ///< of URIs (of a Dir: of the list of its objects, their etags and sizes), as the server named the content; both empty: it gives it no name, nor a size here
};

enum class ErrorKind : uint8_t {
  Submit, QueueTimeout, NodeLost, Preempted, Network, Image, Staging, Quota, Auth, Publish, Internal,     // system
  Exit, Signal, Oom, Timeout, IdleTimeout, Command, Schema, OutputMissing, Expression,                     // algorithm
  InvalidInput,                                                                                            // data
  Cancelled, Check,                                                                                        // neither
};
inline constexpr int kErrorKinds = 23;
enum class ErrorClass : uint8_t { System, Algorithm, Data, None };
ErrorClass ClassOf(ErrorKind kind);
std::string_view KindName(ErrorKind kind);    ///< "idle_timeout"
std::string_view ClassName(ErrorClass c);     ///< "system"
std::optional<ErrorKind> KindFromName(std::string_view name);
std::optional<ErrorClass> ClassFromName(std::string_view name);

enum class Strategy : uint8_t { Ignore, Continue, Drain, Halt };
std::string_view StrategyName(Strategy strategy);

/// Facts of an `errors` arm, as a tree in prefix order.
struct Fact {
  enum class Kind : uint8_t { Exit, Signal, Stdout, Stderr, And, Or, Not } kind = Kind::Exit;
  int low = 0, high = 0;   ///< Exit: inclusive range; Signal: low
  std::string pattern;     ///< Stdout, Stderr: RE2, searched line by line
  std::vector<Fact> operands;
};

struct ErrorArm {
  Fact fact;
  bool success = false;
  ErrorKind kind = ErrorKind::Exit;  ///< for named errors: Exit for algorithm, Internal for system, InvalidInput for data
  ErrorClass error_class = ErrorClass::Algorithm;
  std::string name;                  ///< of a named error, else empty
  std::string title;
};

struct Backoff {
  enum class Kind : uint8_t { Constant, Linear, Exponential } kind = Kind::Exponential;
  ExprId base;      ///< Duration, phase P
  ExprId max;       ///< Duration, may be invalid for Constant
  double factor = 2.0;
  bool full_jitter = false;
};

/// What a rule names: exactly one of kind, class, name.
struct Matcher {
  std::optional<ErrorKind> kind;
  std::optional<ErrorClass> error_class;
  std::string name;
};

struct ResourceSpec { ExprId cpu, memory, disk, gpu, spot; };
struct TimeoutSpec { ExprId queue, run, total, idle, stage, collect; };

struct RetryRule {
  std::vector<Matcher> matchers;   ///< labels of `on X, Y { … }`
  std::optional<int64_t> retries;
  ExprId delay;
  std::optional<Backoff> backoff;
  ResourceSpec resources;          ///< overlay
  TimeoutSpec timeout;             ///< overlay
};

struct Retry {
  int64_t max_attempts = 1;
  Backoff backoff;                 ///< base invalid: no delay
  bool has_on = false;             ///< `on` given; else class system
  std::vector<Matcher> on;
  std::vector<RetryRule> rules;
  std::vector<Matcher> never;
};

struct Submit {
  int64_t max_attempts = 5;
  Backoff backoff;                 ///< base invalid: exponential(1s, factor = 2.0, max = 300s)
};

enum class BackendKind : uint8_t { Process, Docker, Podman, Apptainer, Ssh, Slurm, Sge, Flux, CloudRun, CloudBatch, Vertex };
inline constexpr int kBackendKinds = 11;
std::string_view BackendName(BackendKind kind);
std::optional<BackendKind> BackendFromName(std::string_view name);

struct NamedExpr {
  std::string name;
  ExprId value;
};

struct Backend {
  BackendKind kind = BackendKind::Process;
  std::vector<NamedExpr> options;  ///< sorted by name; phase P
};

enum class KeyKind : uint8_t { None, Index, String, Int, Enum };

struct Axis {
  std::string name;
  ExprId values;        ///< non-empty list of distinct scalars, phase P
  TypeId type;          ///< of one value
};

/// What `for` and `matrix` span. Instances: elements of `list` in order, then axes, last fastest, without `exclude`d.
struct Domain {
  ExprId list;                   ///< List, Map or Range; invalid: no `for`
  bool dynamic = false;          ///< `list` is of phase S
  bool two_names = false;
  std::string name, name2;
  TypeId type, type2;            ///< of the variables
  ExprId key;                    ///< over Var 0/1; invalid: the index
  KeyKind key_kind = KeyKind::None;
  TypeId key_type;
  std::optional<uint64_t> max;
  std::vector<Axis> axes;
  /// Rows of `exclude`: each a list of (axis, value expression).
  std::vector<std::vector<std::pair<uint32_t, ExprId>>> excluded;
  std::optional<uint64_t> count; ///< instances, set at plan time for static domains
  bool single() const { return !list.valid() && axes.empty(); }
};

/// How an instance depends on another job's instances.
enum class Mapping : uint8_t {
  Single,  ///< the other job has one instance
  Same,    ///< own ordinal: same domain, indexed by the own key
  Expr,    ///< `indices` evaluated (phase P) name exactly one instance
  All,     ///< every instance
};

struct Dependency {
  uint32_t job = 0;
  Mapping mapping = Mapping::Single;
  std::vector<ExprId> indices;   ///< Expr: all; All: leading ones given (the rest gathered), may be empty
  bool strong = true;            ///< needs success; else only the end
  ExprId condition;              ///< phase P; valid: the dependency exists only where it is true
  bool order_only = false;       ///< from `after` only
};

enum class AfterKind : uint8_t { Succeeded, Done, Failed };

struct After {
  uint32_t job = 0;
  AfterKind kind = AfterKind::Succeeded;
  Mapping mapping = Mapping::Single;
  std::vector<ExprId> indices;
};

struct Input {
  std::string name;              ///< `_1`, `_2` … for files found in argv, script or env
  TypeId type;                   ///< may be refined
  ExprId value;
  bool implicit = false;
};

enum class OutputKind : uint8_t { Path, Glob, Json, Expr };

struct Output {
  std::string name;
  TypeId type;                   ///< declared, may be refined; of a nullable job the consumer sees T?
  OutputKind kind = OutputKind::Json;
  ExprId value;                  ///< Path: String; Glob: String pattern; Expr: the expression
  std::optional<int64_t> glob_min, glob_max;
  ExprId fallback;               ///< Json outputs with a default
  std::string doc;
  Position at;
};

struct EnvEntry {
  std::string name;
  ExprId value;                  ///< text-able, T? (null: unset) or Secret
  TypeId type;
};

/// A script after lowering (compiler/script): constant text, values bound at the start of an attempt.
struct ScriptBinding {
  ExprId value;
  TypeId type;
  bool splice = false;
  uint32_t hole = 0;
};

struct Script {
  uint8_t interpreter = 0;       ///< script::Interpreter
  std::string text;              ///< lowered, constant
  std::string sha256;
  std::vector<ScriptBinding> bindings;
  std::string lowered;           ///< canonical JSON of what script::Bind needs beside the text
};

enum class ActionKind : uint8_t { None, Run, Script, ImageArgs };
enum class JobKind : uint8_t { Job, Check, Finally, Hook };
enum class HookEvent : uint8_t { Start, Success, Failure, Finish };

struct Require {
  ExprId condition;
  ExprId message;                ///< String; invalid: the source text of the condition is shown
  std::string text;              ///< source text of the condition
  Position at;
};

/// The proven worst case (compiler/bounds, docs/bounds.md), for those who read plans; the runtime does not use it.
struct WorstCase {
  uint64_t instances = 0;        ///< at most
  int64_t attempts = 0;          ///< of all instances
  int64_t attempts_of_one = 0;   ///< of a job: of the instance with the most; of the run 0
  std::optional<int64_t> time_ms;  ///< of the longest instance, or of the run; nullopt: without bound
  std::vector<std::pair<uint32_t, int64_t>> slots;  ///< Plan::pools, at the same time
};

struct Job {
  std::string address;           ///< `align`, inside a module `q/count`
  JobKind kind = JobKind::Job;
  HookEvent hook_event = HookEvent::Start;
  std::string doc;
  Position at;
  Domain domain;
  ExprId when;
  std::vector<After> after;
  std::vector<Dependency> dependencies;  ///< of all references and `after`, merged, sorted by job
  bool nullable = false;                 ///< outputs are T? for consumers
  std::vector<Input> inputs;
  std::vector<EnvEntry> env;             ///< sorted by name
  std::vector<NamedExpr> secret_files;
  ExprId image;
  ResourceSpec resources;
  std::vector<std::pair<uint32_t, ExprId>> pools;  ///< Plan::pools, slots
  ExprId priority;
  TimeoutSpec timeout;
  ExprId grace;                          ///< Duration, default 10s
  ExprId log_limit;                      ///< Bytes a stream, default 64 MiB
  std::vector<ErrorArm> errors;
  Retry retry;
  Submit submit;
  Strategy on_error = Strategy::Drain;
  bool on_error_set = false;             ///< by job, template or defaults; else the run's default
  ActionKind action = ActionKind::None;
  ExprId run;                            ///< Run, ImageArgs: list of argv words
  std::optional<Script> script, prologue, epilogue;
  std::vector<Require> requires_;        ///< of a check
  ExprId cache;                          ///< Bool
  ExprId cache_salt;
  std::vector<NamedExpr> labels;
  std::vector<std::string> inherit_env;
  std::vector<Output> outputs;
  Backend backend;
  ExprId staging;
  std::optional<WorstCase> bounds;
};

struct Pool {
  std::string name;
  ExprId slots;                          ///< Int, phase P
};

struct Export {
  std::string name;
  TypeId type;
  ExprId value;
  Position at;
};

struct PublishEntry {
  ExprId path;                           ///< String, phase P; ends in `/`: a directory of basenames
  ExprId value;                          ///< File, Dir, List<File>, optional ones
  TypeId type;
  Position at;
};

struct Publish {
  std::string destination;               ///< relative to the root source, or a URI
  bool prune = false;
  std::vector<PublishEntry> entries;
};

struct Limits {
  std::optional<int64_t> time_ms, attempts, instances;
  std::optional<int64_t> keep_ms;        ///< how long a run that ended is kept
};

struct Plan {
  int minor = kPlanMinor;
  int functions = kFunctionsVersion;
  std::string profile;                   ///< "" : none
  Program program;
  std::vector<SourceRow> sources;        ///< [0] is the root
  std::vector<FileRow> files;
  std::vector<Pool> pools;
  std::vector<Job> jobs;                 ///< jobs and checks in dependency order of declaration, then finally, then hooks
  std::vector<Export> exports;
  std::vector<Publish> publishes;
  Limits limits;
  std::optional<Strategy> on_error;      ///< of `defaults`
  ExprId max_parallel;                   ///< of the profile's backend
  std::optional<WorstCase> bounds;
};

}  // namespace jobc::ir
