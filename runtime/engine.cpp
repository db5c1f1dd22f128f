#include "runtime/engine.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <re2/re2.h>
#include <sched.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <iterator>
#include <map>
#include <unordered_map>
#include <unordered_set>

#include "ir/expand.h"
#include "ir/json.h"
#include "runtime/cache_key.h"
#include "runtime/control.h"
#include "runtime/environment.h"
#include "runtime/process/os.h"
#include "runtime/process/process_client.h"
#include "runtime/process/process_tree.h"
#include "runtime/publish.h"
#include "runtime/reproduce.h"
#include "runtime/results.h"
#include "runtime/retry.h"
#include "runtime/reuse.h"
#include "runtime/run_reader.h"
#include "runtime/run_reserve.h"
#include "runtime/staged.h"
#include "runtime/state_dir.h"
#include "support/sha256.h"
#include "support/text_width.h"

namespace jobc {
namespace {

/// Between a record that nothing waits for and its commit: long enough to take many together, and no more work than that can
/// be lost with a slot. The longer one holds while a run is busy with attempts that are shorter still.
constexpr int64_t kCommitIntervalMs = 20, kBusyCommitIntervalMs = 100;
/// Ends of attempts in one commit that make a run busy.
constexpr uint32_t kBusyEnds = 16;
constexpr size_t kStderrLines = 20;
constexpr int64_t kLookUpSliceMs = 10;
/// Files up to this size in all are hashed in the loop, larger ones by a thread.
constexpr uint64_t kHashInLoop = 1 << 20;
/// Attempts of a job whose last one ran for less are given a next one ahead of time; which is taken back when that turns out
/// to be wrong, so that nobody waits long behind an attempt that is not short while another place is free.
constexpr int64_t kShortMs = 50;
/// While so much waits at a place, no more is handed over to it, and never more attempts than that.
constexpr int64_t kWaitingMs = 8;
constexpr size_t kMostWaiting = 7;

int64_t Number(std::string_view text) { return std::strtoll(std::string(text).c_str(), nullptr, 10); }

/// `quota period` of cgroup v2 or two files of v1, as whole cpus; 0: no quota.
uint32_t QuotaCpus() {
  auto own = process::ReadFile("/proc/self/cgroup");
  if (!own) {
    return 0;
  }
  uint32_t best = 0;
  auto consider = [&](int64_t quota, int64_t period) {
    if (quota > 0 && period > 0) {
      uint32_t cpus = static_cast<uint32_t>(std::max<int64_t>(1, (quota + period - 1) / period));
      best = best == 0 ? cpus : std::min(best, cpus);
    }
  };
  std::string_view text = *own;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = std::min(text.find('\n', begin), text.size());
    std::string_view line = text.substr(begin, end - begin);
    begin = end + 1;
    if (line.substr(0, 3) == "0::") {
      std::string path(line.substr(3));
      for (;;) {
        if (auto max = process::ReadFile("/sys/fs/cgroup" + path + (path == "/" ? "" : "/") + "cpu.max"); max && max->substr(0, 3) != "max") {
          size_t blank = max->find(' ');
          if (blank != std::string::npos) {
            consider(Number(max->substr(0, blank)), Number(max->substr(blank + 1)));
          }
        }
        if (path.size() <= 1) {
          break;
        }
        path.resize(std::max<size_t>(path.rfind('/'), 1));
      }
    }
  }
  auto quota = process::ReadFile("/sys/fs/cgroup/cpu/cpu.cfs_quota_us");
  auto period = process::ReadFile("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  if (quota && period) {
    consider(Number(*quota), Number(*period));
  }
  return best;
}

int64_t MachineMemory() {
  int64_t pages = sysconf(_SC_PHYS_PAGES);
  int64_t memory = pages > 0 ? pages * sysconf(_SC_PAGESIZE) : 0;
  for (const char* path : {"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"}) {
    if (auto text = process::ReadFile(path); text && !text->empty() && (*text)[0] >= '0' && (*text)[0] <= '9') {
      int64_t limit = Number(*text);
      if (limit > 0) {
        memory = memory == 0 ? limit : std::min(memory, limit);
      }
    }
  }
  return memory;
}

int64_t CountGpus() {
  int64_t count = 0;
  DIR* dir = opendir("/proc/driver/nvidia/gpus");
  if (dir == nullptr) {
    return 0;
  }
  while (dirent* entry = readdir(dir)) {
    count += entry->d_name[0] != '.' ? 1 : 0;
  }
  closedir(dir);
  return count;
}

/// Searches a stream that comes in pieces for a pattern, line by line.
class LineSearch {
 public:
  explicit LineSearch(const std::string& pattern) : pattern_(pattern, Options()) {}
  /// True once a line matched.
  bool Add(std::string_view bytes) {
    while (!found_ && !bytes.empty()) {
      size_t end = bytes.find('\n');
      if (end == std::string_view::npos) {
        // A line without end is searched in pieces: memory stays bounded.
        line_.append(bytes);
        if (line_.size() > kLongestLine) {
          EndLine();
        }
        return found_;
      }
      line_.append(bytes.substr(0, end));
      EndLine();
      bytes.remove_prefix(end + 1);
    }
    return found_;
  }
  bool Finish() {
    if (!line_.empty()) {
      EndLine();
    }
    return found_;
  }

 private:
  static constexpr size_t kLongestLine = 1 << 20;
  static RE2::Options Options() {
    RE2::Options options;
    options.set_log_errors(false);
    return options;
  }
  void EndLine() {
    found_ = found_ || (pattern_.ok() && RE2::PartialMatch(line_, pattern_));
    line_.clear();
  }
  RE2 pattern_;
  std::string line_;
  bool found_ = false;
};

}  // namespace

Capacity MachineCapacity() {
  Capacity capacity;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    capacity.cpus = static_cast<uint32_t>(std::max(1, CPU_COUNT(&set)));
  } else {
    capacity.cpus = static_cast<uint32_t>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN)));
  }
  if (uint32_t quota = QuotaCpus(); quota != 0) {
    capacity.cpus = std::min(capacity.cpus, quota);
  }
  capacity.memory = MachineMemory();
  capacity.gpus = CountGpus();
  return capacity;
}

std::vector<std::string> ChangedPlanFiles(const ir::Plan& plan, const Roots& roots) {
  std::vector<std::string> problems;
  for (const ir::FileRow& row : plan.files) {
    std::string path;
    switch (row.base) {
      case ir::FileBase::Source: path = roots.root + "/" + row.path; break;
      case ir::FileBase::Cwd: path = roots.cwd + "/" + row.path; break;
      case ir::FileBase::Absolute: path = row.path; break;
      default: continue;
    }
    struct stat info;
    if (stat(path.c_str(), &info) != 0) {
      problems.push_back(fmt::format("`{}` cannot be read: {}", path, std::strerror(errno)));
      continue;
    }
    if (static_cast<bool>(S_ISDIR(info.st_mode)) != row.is_dir) {
      problems.push_back(fmt::format("`{}` was a {} when the plan was made and is none now", path, row.is_dir ? "directory" : "file"));
      continue;
    }
    if (row.sha256.empty()) {
      continue;
    }
    if (row.is_dir) {
      auto tree = Sha256OfTree(path);
      if (!tree) {
        problems.push_back(tree.error().message);
      } else if (tree->sha256 != row.sha256) {
        problems.push_back(fmt::format("the directory `{}` has another content than when the plan was made", path));
      }
      continue;
    }
    if (static_cast<uint64_t>(info.st_size) != row.size) {
      problems.push_back(fmt::format("`{}` had {} bytes when the plan was made and has {} now", path, row.size, info.st_size));
      continue;
    }
    auto digest = Sha256OfFile(path);
    if (!digest) {
      problems.push_back(digest.error().message);
    } else if (digest->sha256 != row.sha256) {
      problems.push_back(fmt::format("`{}` has another content than when the plan was made (sha256 {}… instead of {}…)", path, digest->sha256.substr(0, 12), row.sha256.substr(0, 12)));
    }
  }
  return problems;
}

std::string VerdictJson(const Verdict& verdict) {
  if (verdict.success) {
    return "";
  }
  std::string out = fmt::format("{{\"class\":\"{}\"", ir::ClassName(verdict.error_class));
  if (!verdict.code.empty()) {
    out += ",\"code\":" + ir::JsonQuote(verdict.code);
  }
  out += fmt::format(",\"kind\":\"{}\",\"message\":{}", ir::KindName(verdict.kind), ir::JsonQuote(verdict.message));
  if (!verdict.name.empty()) {
    out += ",\"name\":" + ir::JsonQuote(verdict.name);
  }
  if (verdict.signal) {
    out += fmt::format(",\"signal\":{}", *verdict.signal);
  }
  if (!verdict.title.empty()) {
    out += ",\"title\":" + ir::JsonQuote(verdict.title);
  }
  return out + "}";
}

Verdict VerdictFromRecord(const Record& record) {
  Verdict verdict;
  verdict.success = record.a < 0;
  if (verdict.success) {
    verdict.exit_code = record.b >= 0 ? std::optional<int>(static_cast<int>(record.b)) : std::nullopt;
    return verdict;
  }
  verdict.kind = static_cast<ir::ErrorKind>(std::min<int64_t>(record.a, ir::kErrorKinds - 1));
  verdict.error_class = ir::ClassOf(verdict.kind);
  if (record.b >= 0) {
    verdict.exit_code = static_cast<int>(record.b);
  }
  auto json = ir::ParseJson(record.text);
  if (json && json->kind() == ir::ValueKind::Map) {
    auto text = [&](const char* key) {
      const ir::Value* found = json->Find(key);
      return found != nullptr && found->kind() == ir::ValueKind::String ? found->as_string() : std::string();
    };
    verdict.message = text("message");
    verdict.name = text("name");
    verdict.title = text("title");
    verdict.code = text("code");
    if (auto error_class = ir::ClassFromName(text("class"))) {
      verdict.error_class = *error_class;
    } else if (text("class") == ir::ClassName(ir::ErrorClass::None)) {
      verdict.error_class = ir::ErrorClass::None;
    }
    if (const ir::Value* signal = json->Find("signal"); signal != nullptr && signal->kind() == ir::ValueKind::Int) {
      verdict.signal = static_cast<int>(signal->as_int());
    }
  }
  return verdict;
}

struct Engine::Impl : public BackendEvents, public ControlHandler {
  struct LayDown;
  /// An attempt between its start and its reaping.
  struct Live {
    InstanceRef instance;
    uint32_t number = 1;
    Backend* backend = nullptr;
    AttemptLaunch launch;
    std::string result_path;
    bool staged = false;
    std::vector<InputIdentity> identities;
    std::unique_ptr<AttemptContext> context;
    std::optional<AttemptExit> exit;
    std::optional<Verdict> failed;    ///< by the backend
    std::string cache_key;            ///< where the result is kept for other runs
    std::vector<ResultFile> captured; ///< published, not hashed yet
    StoredOutputs stored;             ///< of a success, to be journaled once `captured` is hashed
    bool has_outputs = false;
    bool judged = false;              ///< the scheduler has its verdict, or was told to cancel it
    bool adopted = false;             ///< an earlier process submitted it
    bool parked = false;              ///< its backend does not have it: it waits to be submitted again
    bool holds_secret = false;        ///< what it left must not be kept
    int64_t started_ms = 0;
    uint64_t last_output = 0;
    bool results_block_next = false;  ///< what was handed over to follow it begins only if it wrote no result
    AttemptId began_next = 0;         ///< what has begun in its place; 0: nothing
    bool prepared = false;            ///< its backend has made places for it
    RemoteFiles::Ticket ticket = 0;   ///< its remote inputs are being brought; 0: they are not
    std::shared_ptr<Collected> collected;  ///< of a success: to be moved to the run's outputs
    CollectRequest collect;
    bool no_result = false;           ///< the backend has looked, and none was written
    int64_t planned_ms = -1;          ///< since when it waits for the one before it to end; -1: it does not
    AttemptId before = 0;             ///< that one
    AttemptId next = 0;               ///< what waits for this one to end; 0: nothing
    std::string staging;              ///< where what it is given and leaves is laid down; empty: nowhere
    std::vector<GivenFile> given;
    std::string scripts_dir;
    std::shared_ptr<const Verdict> verdict;  ///< of the scheduler, before the attempt was reaped
    std::shared_ptr<LayDown> laying;  ///< it is being done
  };

  /// What an attempt was given and left on its way to its `staging`. Its end is waited for as long as `timeout.collect` says.
  struct LayDown {
    ~LayDown() {
      if (!scratch_dir.empty()) {
        (void)process::RemoveTree(scratch_dir).ok();
      }
    }
    AttemptId attempt = 0;
    std::optional<AttemptResult> result;      ///< not told yet
    StagingRequest request;
    StagedSet set;
    std::string scratch_dir;
    std::string problem;
    std::atomic<bool> stop{false};
    RemoteFiles::Ticket ticket = 0;
    bool late = false;                        ///< `timeout.collect` ended
    int64_t limit_ms = 0;
    uv_timer_t* timer = nullptr;
  };

  /// An attempt that an earlier process left behind at a place that goes on without jobc.
  struct LeftBehind {
    std::string staging;
    AttemptId id = 0;
    InstanceRef instance;
    uint32_t number = 1;
    std::string handle;
    std::shared_ptr<const AttemptOrigin> origin;  ///< another run submitted it; null: this one did
    int64_t started_ms = 0;           ///< 0: not known to have started
    bool wanted = false;              ///< it goes on if it is found; else it is ended
    bool judged = false;              ///< the journal has a verdict of it
    bool asked = false;
    AttachAnswer answer = AttachAnswer::Gone;
    std::string why;
    StartAttempt start;
  };

  /// An attempt of another run that an instance of this one takes over instead of starting one, until its place has answered.
  struct Taking {
    Adoptable from;
    StartAttempt start;
    int64_t intent = 0;
    std::string cache_key;
    bool not_taken = false;           ///< the journal says that it is submitted after all
  };

  /// What a place that goes on without jobc still has of an attempt: it goes once its end is durable. Who was killed before that finds it
  /// again, and nothing of it is about to vanish.
  struct Settling {
    AttemptId attempt = 0;
    Backend* backend = nullptr;
    bool keep = false;
    std::string stage_dir;            ///< empty: it stays
  };

  /// An attempt of which nothing is alive, to be told after its verdict.
  struct ReapedAttempt {
    AttemptId attempt = 0;
    int64_t duration_ms = -1;  ///< of a program that began and ended
    Record record;
    std::optional<RunEvent> event;
    std::optional<Settling> settling;
  };

  /// Files that a thread hashes or brings into the run.
  struct FileWork {
    uv_work_t work{};
    Impl* engine = nullptr;
    AttemptId attempt = 0;                    ///< outputs of this attempt, or
    InstanceRef instance;                     ///< a result for this instance
    AttemptResult result;
    std::vector<ResultFile> files;
    std::shared_ptr<Collected> collected;     ///< to be moved before `files` are hashed
    CollectRequest collect;
    std::string problem;
    std::optional<TakenResult> taken;
    StoredResult origin;
    CacheKey key;
    bool from_cache = false;
  };

  /// What a failure report needs after its attempt is gone.
  struct FailureTrace {
    AttemptId id = 0;
    std::string script;       ///< runs it again by hand (reproduce.h)
    std::string stderr_tail;
    std::string staged;
    int64_t elapsed_ms = -1;
  };

  class Logs : public LogSource, public LogSearcher {
   public:
    Logs(Impl& impl, AttemptId id) : impl_(impl), id_(id) {}
    Result<LogText> ReadAll(LogStream stream) override {
      const process::LogReader* reader = impl_.Reader();
      if (reader == nullptr) {
        return Error{"the log of this run cannot be read", EIO};
      }
      process::LogTextProblem problem = process::LogTextProblem::kNone;
      auto text = reader->Text(id_, Stream(stream), ir::kMaxResultBytes, &problem);
      if (!text) {
        return text.error();
      }
      LogText out;
      out.text = *std::move(text);
      out.truncated = problem == process::LogTextProblem::kTruncated;
      if (problem == process::LogTextProblem::kTooLarge) {
        return Error{fmt::format("it is more than {}; write to a file and declare it as output", ir::BytesForPeople(ir::kMaxResultBytes)), EFBIG};
      }
      if (problem == process::LogTextProblem::kNotUtf8) {
        return Error{"it is not UTF-8 text", EILSEQ};
      }
      return out;
    }
    bool Search(LogStream stream, const std::string& pattern) override { return impl_.SearchLog(id_, Stream(stream), pattern); }

   private:
    static process::LogStream Stream(LogStream stream) { return stream == LogStream::Stdout ? process::LogStream::kStdout : process::LogStream::kStderr; }
    Impl& impl_;
    AttemptId id_;
  };

  explicit Impl(EngineSetup s) : setup(std::move(s)), plan(*setup.plan), evaluator(plan.program), input_evaluator(plan.program), path_evaluator(plan.program) {}

  ~Impl() override {
    control.reset();
    for (auto& backend : backends) {
      backend.reset();
    }
    remote.reset();
    CloseLoop();
  }

  // -- Set-up --------------------------------------------------------------------

  bool Open(StartFailure& failure) {
    auto secrets = ReadSecrets(plan, setup.roots);
    if (!secrets) {
      failure = {3, secrets.error().message};
      return false;
    }
    masker = Masker(*secrets);
    world = std::make_unique<World>(plan, setup.roots, *std::move(secrets));
    if (!OpenEarlier(failure)) {
      return false;
    }
    created_ms = process::WallMillis();
    id = NewRunId(created_ms);
    auto dir = CreateRunDir(setup.state_dir, id);
    if (!dir) {
      failure = {15, dir.error().message};
      return false;
    }
    run_dir = *std::move(dir);
    world->SetTextsDir(run_dir + "/texts");
    auto taken = RunLock::Take(run_dir);
    if (!taken) {
      failure = {15, taken.error().message};
      return false;
    }
    lock.emplace(*std::move(taken));
    if (auto kept = KeepReserve(run_dir); !kept) {
      failure = {15, kept.error().message};
      return false;
    }
    RunHeader header;
    header.id = id;
    header.name = setup.options.name;
    header.created_ms = created_ms;
    header.version = setup.options.version;
    header.plan_digest = setup.plan_digest;
    header.source = setup.options.source;
    header.root = setup.roots.root;
    header.cwd = setup.roots.cwd;
    header.profile = plan.profile;
    header.options = OptionsJson();
    auto made = Journal::Create(run_dir + "/journal.db", header, setup.plan_text, setup.options.durability);
    if (!made) {
      failure = {15, made.error().message};
      return false;
    }
    journal.emplace(*std::move(made));
    auto log_writer = process::LogWriter::Open(run_dir);
    if (!log_writer) {
      failure = {15, log_writer.error().message};
      return false;
    }
    log = *std::move(log_writer);
    state = std::make_unique<RunState>(plan, id);
    builder = std::make_unique<LaunchBuilder>(plan, id, run_dir);
    return Finish(failure) && WriteOpened(failure);
  }

  bool IsOrigin(const std::string& run) const { return std::find(setup.origins.begin(), setup.origins.end(), run) != setup.origins.end(); }

  /// `run --resume`: before anything of the new run is made.
  bool OpenEarlier(StartFailure& failure) {
    if (setup.options.reuse_from.empty()) {
      return true;
    }
    auto opened = EarlierRun::Open(setup.state_dir, setup.options.reuse_from, IsOrigin(setup.options.reuse_from));
    if (!opened) {
      failure = {15, opened.error().message + (opened.error().code == EBUSY ? "; wait for its end, or end it with `jobc cancel " + setup.options.reuse_from + "`" : "")};
      return false;
    }
    earlier = *std::move(opened);
    return true;
  }

  /// A run that had been told to use results goes on to use them: it may have ended before it came to some. The earlier run may be
  /// going on itself by now; what it has is as good.
  void OpenEarlierOf(const RunHeader& header) {
    const std::string used = UsedRun(header);
    if (used.empty()) {
      return;
    }
    auto opened = EarlierRun::Open(setup.state_dir, used, true);
    if (opened) {
      earlier = *std::move(opened);
    } else {
      notes.push_back(fmt::format("results of the run {} are not used any more: {}", used, opened.error().message));
    }
  }

  bool OpenAgain(const std::string& run, const ResumeOptions& resume, StartFailure& failure) {
    auto secrets = ReadSecrets(plan, setup.roots);
    if (!secrets) {
      failure = {3, secrets.error().message};
      return false;
    }
    masker = Masker(*secrets);
    world = std::make_unique<World>(plan, setup.roots, *std::move(secrets));
    id = run;
    run_dir = RunDir(setup.state_dir, id);
    world->SetTextsDir(run_dir + "/texts");
    auto taken = RunLock::Take(run_dir);
    if (!taken) {
      failure = {15, taken.error().message};
      return false;
    }
    lock.emplace(*std::move(taken));
    state = std::make_unique<RunState>(plan, id);
    std::vector<std::string> lost;
    {
      auto reader = RunReader::Open(setup.state_dir, id);
      if (!reader) {
        failure = {15, reader.error().message};
        return false;
      }
      if (!CheckLoss(**reader, resume, lost, failure)) {
        return false;
      }
      created_ms = (*reader)->header().created_ms;
      setup.options.name = (*reader)->header().name;
      OpenEarlierOf((*reader)->header());
      if (auto restored = Restore(**reader, resume, lost); !restored) {
        failure = {restored.error().code == EINVAL ? 2 : 15, restored.error().message};
        return false;
      }
    }
    auto opened = Journal::Open(run_dir + "/journal.db", setup.options.durability);
    if (!opened) {
      failure = {15, opened.error().message};
      return false;
    }
    journal.emplace(*std::move(opened));
    std::vector<uint64_t> again;
    for (const auto& [attempt, one] : left_behind) {
      if (one.wanted) {
        again.push_back(attempt);
      }
    }
    auto log_writer = process::LogWriter::Open(run_dir, again);
    if (!log_writer) {
      failure = {15, log_writer.error().message};
      return false;
    }
    log = *std::move(log_writer);
    // Directories of attempts that were cut off.
    for (const char* name : {"stage", "work", "tmp"}) {
      (void)process::RemoveTree(run_dir + "/" + name).ok();
    }
    builder = std::make_unique<LaunchBuilder>(plan, id, run_dir);
    if (!Finish(failure)) {
      return false;
    }
    for (std::string& text : lost) {
      notes.push_back(std::move(text));
    }
    if (auto kept = KeepReserve(run_dir); !kept) {
      failure = {15, kept.error().message};
      return false;
    }
    // Known to others before they are told that the run goes on: else it looks ended, as it was before.
    if (!WriteOpened(failure)) {
      return false;
    }
    if (auto done = journal->Commit(); !done) {
      failure = {15, done.error().message};
      return false;
    }
    return true;
  }

  bool WriteOpened(StartFailure& failure) {
    auto self = process::ReadProcess(getpid());
    auto written = journal->Append({.time_ms = process::WallMillis(), .type = RecordType::Opened, .a = getpid(), .b = static_cast<int64_t>(self ? self->start_ticks : 0),
           .text = fmt::format("{{\"boot\":\"{}\",\"host\":{},\"version\":{}}}", process::BootId(), ir::JsonQuote(HostName()), ir::JsonQuote(setup.options.version))});
    if (!written) {
      failure = {15, written.error().message};
      return false;
    }
    opened_record = *written;
    return true;
  }

  /// Records that are known to be gone: only a run that never promised to survive a power loss goes on without being told to.
  bool CheckLoss(const RunReader& reader, const ResumeOptions& resume, std::vector<std::string>& warnings, StartFailure& failure) const {
    const int64_t count = reader.summary().lost;
    if (count == 0) {
      return true;
    }
    const std::string what = fmt::format("the journal `{}/journal.db` lacks its last {} of {} records", run_dir, count, reader.last_record() + count);
    if (setup.options.durability == Durability::Normal) {
      warnings.push_back(what + ", as a power loss may cause with `--durability normal`; what they said is decided again");
      return true;
    }
    if (resume.accept_loss) {
      warnings.push_back(what + "; what they said is decided again, so instances that had finished may run a second time");
      return true;
    }
    failure = {15, what + ", which had been safe on the disk: it was cut off, damaged in `journal.db-wal`, replaced by an older copy or copied without that file",
               {"if there is a copy, put journal.db and journal.db-wal back together, and type this again",
                fmt::format("else go on without them:  jobc resume {} --accept-loss   (instances that had finished may run a second time)", id)}};
    return false;
  }

  Result<void> Restore(RunReader& reader, const ResumeOptions& resume, std::vector<std::string>& lost) {
    RunContext context(*state, world.get());
    std::unordered_set<uint64_t> named;
    for (const std::string& address : resume.only) {
      auto found = reader.Find(address);
      if (!found) {
        return Error{found.error().message, EINVAL};
      }
      for (InstanceRef instance : *found) {
        named.insert(Pack(instance));
      }
    }
    // Outputs are not synced: after a power loss their content is as doubtful as that of files somebody may have edited.
    const bool rebooted = reader.boot() != process::BootId();
    for (uint32_t job = 0; job < plan.jobs.size(); ++job) {
      if (reader.domain(job)) {
        if (auto done = state->RestoreExpansion(job, *reader.domain(job), evaluator, context); !done) {
          return done;
        }
      }
      if (plan.jobs[job].kind != ir::JobKind::Job) {
        continue;
      }
      for (uint32_t ordinal = 0; ordinal < reader.size(job); ++ordinal) {
        RestoredInstance one;
        one.instance = {job, ordinal};
        one.state = reader.state(one.instance);
        const InstanceState before = one.state;
        const AttemptView* last = reader.LastAttempt(one.instance);
        if (last != nullptr) {
          one.attempts = last->number;
          one.times = {last->started_ms, last->exited_ms != 0 ? last->exited_ms : last->judged_ms};
        } else if (reader.reused(one.instance)) {
          const InstanceView view = reader.View(one.instance);
          one.attempts = view.reused->attempts;
          one.times = {view.reused->started_ms, view.reused->ended_ms};
        } else if (!IsFinal(before)) {
          continue;
        }
        if (before == InstanceState::Failed) {
          if (resume.retry_failed && (named.empty() || named.count(Pack(one.instance)) != 0)) {
            one.state = InstanceState::Waiting;
            one.attempts = 0;
          } else if (InstanceView view = reader.View(one.instance); view.verdict) {
            one.verdict = std::make_shared<const Verdict>(*view.verdict);
          }
        }
        if (!IsFinal(before) && resume.retry_failed && named.count(Pack(one.instance)) != 0) {
          // What goes on of it is ended first: it is not what is asked for.
          one.state = InstanceState::Waiting;
          one.attempts = 0;
        }
        // Nothing is looked for where the attempt said that it left nothing.
        const bool left_nothing = last != nullptr && last->verdict != nullptr && last->verdict->success && last->outputs_sum < 0 && plan.jobs[job].outputs.empty();
        if (before == InstanceState::Succeeded && !left_nothing) {
          auto stored = reader.Outputs(one.instance);
          if (!stored) {
            return stored.error();
          }
          one.outputs.resize(plan.jobs[job].outputs.size());
          if (*stored) {
            auto outputs = DecodeOutputs(plan, job, (*stored)->outputs, run_dir, evaluator, context);
            if (!outputs) {
              return outputs.error();
            }
            one.outputs = *std::move(outputs);
            if (!(*stored)->result.empty()) {
              if (auto json = ir::ParseJson((*stored)->result)) {
                one.result = *std::move(json);
              }
            }
          }
          std::string problem;
          if (std::string missing = VerifyOutputs(one.outputs); !missing.empty()) {
            problem = fmt::format("its output `{}` is gone", missing);
          } else if (*stored && !(*stored)->files.empty()) {
            const int64_t since = rebooted || last == nullptr ? 0 : last->judged_ms;
            problem = VerifyFiles(DoubtfulFiles(FilesOf(one.outputs), (*stored)->files, since));
          }
          if (problem.empty()) {
            if (*stored) {
              RememberHashes((*stored)->files);
            }
          } else {
            lost.push_back(fmt::format("{} runs again: {}", reader.Address(one.instance), problem));
            one.state = InstanceState::Waiting;
            one.outputs.clear();
            one.result = ir::Value();
            if (reader.reused(one.instance)) {
              one.attempts = 0;
            }
          }
        }
        if (one.state != InstanceState::Failed && one.state != InstanceState::Succeeded && one.attempts > 0) {
          one.history = HistoryFromJson(reader.RetryHistoryJson(one.instance));
        }
        if (auto done = state->Restore(std::move(one), evaluator, context); !done) {
          return done;
        }
      }
      if (reader.size(job) == 0 && IsFinal(reader.whole(job))) {
        RestoredInstance one;
        one.instance = {job, kWholeJob};
        one.state = reader.whole(job);
        if (auto done = state->Restore(std::move(one), evaluator, context); !done) {
          return done;
        }
      }
    }
    state->RestoreNextAttempt(reader.next_attempt());
    FindLeftBehind(reader);
    return {};
  }

  /// Attempts of places that go on without jobc, of which nothing says that they are gone.
  void FindLeftBehind(RunReader& reader) {
    reader.ForEachInstance([&](InstanceRef instance, const std::vector<AttemptView>& attempts) {
      const ir::Job& job = plan.jobs[instance.job];
      if (!OutlivesJobc(KindOf(job))) {
        return;
      }
      for (const AttemptView& view : attempts) {
        if (view.reaped_ms != 0 || view.id == 0) {
          continue;
        }
        LeftBehind one;
        one.id = view.id;
        one.instance = instance;
        one.number = view.number;
        one.handle = view.handle;
        one.origin = view.origin;
        one.started_ms = view.started_ms;
        one.staging = reader.StagedAt(instance, view.number);
        one.judged = view.verdict != nullptr && !view.cut_off;
        one.wanted = &view == &attempts.back() && (view.verdict == nullptr || view.cut_off) && job.kind == ir::JobKind::Job && instance.ordinal != kWholeJob &&
                     state->expanded(instance.job) && instance.ordinal < state->size(instance.job) && !IsFinal(state->state(instance)) &&
                     state->attempts(instance) == view.number;
        left_behind.emplace(view.id, std::move(one));
      }
    });
  }

  /// Where attempts of a job run.
  static ir::BackendKind KindOf(const ir::Job& job) { return job.kind == ir::JobKind::Hook ? ir::BackendKind::Process : job.backend.kind; }

  static std::optional<RetryHistory> HistoryFromJson(const std::string& text) {
    auto json = ir::ParseJson(text);
    if (!json || json->kind() != ir::ValueKind::Map) {
      return std::nullopt;
    }
    RetryHistory out;
    auto number = [&](const char* key) -> std::optional<int64_t> {
      const ir::Value* found = json->Find(key);
      return found != nullptr && found->kind() == ir::ValueKind::Int ? std::optional<int64_t>(found->as_int()) : std::nullopt;
    };
    if (const ir::Value* granted = json->Find("granted"); granted != nullptr && granted->kind() == ir::ValueKind::List) {
      for (const ir::Value& count : granted->as_list()) {
        out.granted.push_back(count.kind() == ir::ValueKind::Int ? static_cast<uint32_t>(count.as_int()) : 0);
      }
    }
    out.total_used_ms = number("total_used_ms").value_or(0);
    out.resources = {number("cpu_milli"), number("memory"), number("disk"), number("gpu"), std::nullopt};
    if (const ir::Value* spot = json->Find("spot"); spot != nullptr && spot->kind() == ir::ValueKind::Bool) {
      out.resources.spot = spot->as_bool();
    }
    out.timeouts = {number("timeout_queue"), number("timeout_run"), number("timeout_total"), number("timeout_idle"), number("timeout_stage"), number("timeout_collect")};
    const ir::Value* next = json->Find("has_next");
    out.has_next = next != nullptr && next->kind() == ir::ValueKind::Bool && next->as_bool();
    return out;
  }

  bool Finish(StartFailure& failure) {
    capacity = MachineCapacity();
    SchedulerOptions options;
    options.max_parallel = setup.options.max_parallel;
    options.local_parallel = capacity.cpus;
    options.cpu_milli = int64_t{capacity.cpus} * 1000;
    options.memory = capacity.memory;
    options.gpu = capacity.gpus;
    options.on_error = setup.options.on_error;
    RunContext context(*state, world.get());
    if (setup.options.max_parallel != 0) {
      options.local_parallel = setup.options.max_parallel;
    } else if (plan.max_parallel.valid()) {
      ir::Value value;
      if (!evaluator.Evaluate(plan.max_parallel, context, value)) {
        failure = {3, "max_parallel: " + evaluator.fault().message};
        return false;
      }
      if (value.kind() == ir::ValueKind::Int && value.as_int() > 0) {
        options.local_parallel = static_cast<uint32_t>(std::min<int64_t>(value.as_int(), 100'000));
      }
    }
    for (const ir::Job& job : plan.jobs) {
      for (const ir::NamedExpr& option : job.backend.options) {
        ir::Value value;
        if (option.name == "oversubscribe" && evaluator.Evaluate(option.value, context, value) && value.kind() == ir::ValueKind::Bool) {
          options.oversubscribe = options.oversubscribe || value.as_bool();
        }
      }
    }
    options.look_up.resize(plan.jobs.size());
    for (size_t i = 0; i < plan.jobs.size(); ++i) {
      const ir::Job& job = plan.jobs[i];
      const bool cached = job.cache.valid() && !setup.options.cache_dir.empty() &&
                          !(plan.program.exprs.IsConst(job.cache) && !plan.program.exprs.ConstValue(job.cache).as_bool());
      options.look_up[i] = job.kind == ir::JobKind::Job && (earlier != nullptr || cached);
    }
    keys = std::make_unique<KeyMaker>(plan, *world, hashes);
    shared_parts_written.resize(plan.jobs.size());
    const process::ProcessClient::Files files = process::ProcessClient::CountFiles();
    if (!files.suffice) {
      failure = {15, fmt::format("jobc may have {} files open and has {} already, which is too few for a run: raise the limit (`ulimit -Hn`)", files.limit, files.open)};
      return false;
    }
    if (options.local_parallel > files.attempts) {
      notes.push_back(fmt::format("at most {} job{} at a time instead of {}: jobc may have only {} files open (see `ulimit -Hn`)", files.attempts, files.attempts == 1 ? "" : "s", options.local_parallel, files.limit));
      options.local_parallel = files.attempts;
    }
    if (int error = uv_loop_init(&loop); error != 0) {
      failure = {15, fmt::format("cannot make an event loop: {}", uv_strerror(error))};
      return false;
    }
    loop_open = true;
    scheduler = std::make_unique<Scheduler>(plan, *state, options, world.get());
    last_ms.assign(plan.jobs.size(), -1);
    needs_more.assign(plan.jobs.size(), 0);
    for (size_t i = 0; i < plan.jobs.size(); ++i) {
      needs_more[i] = plan.jobs[i].staging.valid() ? 1 : 0;
    }
    return true;
  }

  std::string OptionsJson() const {
    std::string out = "{";
    if (setup.options.max_parallel != 0) {
      out += fmt::format("\"max_parallel\":{},", setup.options.max_parallel);
    }
    if (setup.options.on_error) {
      out += fmt::format("\"on_error\":\"{}\",", ir::StrategyName(*setup.options.on_error));
    }
    if (setup.options.durability == Durability::Normal) {
      out += "\"durability\":\"normal\",";
    }
    if (!setup.options.reuse_from.empty()) {
      out += "\"resume\":" + ir::JsonQuote(setup.options.reuse_from) + ",";
    }
    if (!setup.options.publish_to.empty()) {
      out += "\"publish_to\":" + ir::JsonQuote(setup.options.publish_to) + ",";
    }
    return out + fmt::format("\"strict\":{}}}", setup.options.strict ? "true" : "false");
  }

  /// What the jobs of a kind say of where their engine is, and what they need there.
  std::vector<BackendHost::Engine> EnginesOf(ir::BackendKind kind) {
    std::vector<BackendHost::Engine> out;
    RunContext context(*state, world.get());
    for (const ir::Job& job : plan.jobs) {
      if (job.backend.kind != kind || job.kind == ir::JobKind::Check || job.kind == ir::JobKind::Hook) {
        continue;
      }
      BackendHost::Engine one;
      std::string limits;
      bool pids = false;
      for (const ir::NamedExpr& option : job.backend.options) {
        pids = pids || option.name == "pids";
        std::string* into = option.name == "host" ? &one.host : option.name == "context" ? &one.context : option.name == "limits" ? &limits : nullptr;
        ir::Value value;
        if (into != nullptr && evaluator.Evaluate(option.value, context, value) && value.kind() == ir::ValueKind::String) {
          *into = value.as_string();
        }
      }
      auto same = std::find_if(out.begin(), out.end(), [&](const BackendHost::Engine& other) { return other.host == one.host && other.context == one.context; });
      if (same == out.end()) same = out.insert(out.end(), std::move(one));
      if (limits == "available") {
        continue;
      }
      // One that is not known before the run is needed by all that is known.
      auto asked = [&](ir::ExprId id) { return id.valid() && !(plan.program.exprs.IsConst(id) && plan.program.exprs.ConstValue(id).kind() == ir::ValueKind::Null); };
      if (asked(job.resources.memory) && same->memory.empty()) same->memory = job.address;
      if (asked(job.resources.cpu) && same->cpu.empty()) same->cpu = job.address;
      if (pids && same->pids.empty()) same->pids = job.address;
    }
    return out;
  }

  Backend* BackendOf(ir::BackendKind kind, std::string& problem) {
    auto& slot = backends[static_cast<size_t>(kind)];
    if (slot == nullptr) {
      if (!setup.backends) {
        problem = "this program was built without backends";
        return nullptr;
      }
      BackendHost host;
      host.loop = &loop;
      host.events = this;
      host.log = log.get();
      host.masker = &masker;
      host.guardian = setup.guardian;
      host.run_id = id;
      host.run_dir = run_dir;
      host.state_dir = setup.state_dir;
      host.takes_over = !setup.origins.empty();
      host.secret_files = std::any_of(plan.jobs.begin(), plan.jobs.end(), [](const ir::Job& job) { return !job.secret_files.empty(); });
      host.engines = EnginesOf(kind);
      auto made = setup.backends(kind, host);
      if (!made) {
        problem = made.error().message;
        return nullptr;
      }
      slot = *std::move(made);
    }
    return slot.get();
  }

  // -- The loop ------------------------------------------------------------------

  RunOutcome Run() {
    uv_update_time(&loop);
    begin_ms = process::MonotonicMillis();
    uv_timer_init(&loop, &deadline);
    uv_timer_init(&loop, &commit_timer);
    uv_timer_init(&loop, &next_timer);
    uv_timer_init(&loop, &tick_timer);
    uv_timer_init(&loop, &look_timer);
    uv_check_init(&loop, &check);
    uv_prepare_init(&loop, &prepare);
    deadline.data = commit_timer.data = next_timer.data = tick_timer.data = look_timer.data = check.data = this;
    handles_open = true;
    uv_check_start(&check, [](uv_check_t* handle) { static_cast<Impl*>(handle->data)->Pump(); });
    // What a backend said from a timer: the loop would wait for the next event before the check.
    prepare.data = this;
    uv_prepare_start(&prepare, [](uv_prepare_t* handle) {
      auto* self = static_cast<Impl*>(handle->data);
      if (self->answered) {
        self->PumpBeforePoll();
      }
    });
    if (setup.options.handle_signals) {
      for (size_t i = 0; i < signals.size(); ++i) {
        static constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP};
        struct sigaction before = {};
        if (kSignals[i] == SIGHUP && sigaction(SIGHUP, nullptr, &before) == 0 && before.sa_handler == SIG_IGN) {
          continue;  // started by nohup: the end of the terminal means nothing
        }
        uv_signal_init(&loop, &signals[i]);
        signals[i].data = this;
        uv_signal_start(&signals[i], [](uv_signal_t* handle, int number) {
          auto* self = static_cast<Impl*>(handle->data);
          self->Interrupt(fmt::format("SIG{}", sigabbrev_np(number)));
        }, kSignals[i]);
      }
    }
    if (setup.observer != nullptr && setup.observer->interval_ms > 0) {
      uv_timer_start(&tick_timer, [](uv_timer_t* handle) { static_cast<Impl*>(handle->data)->TickObserver(); }, 0, 0);
    }

    RunEvent started = Event(RunEventKind::RunStarted);
    started.run = id;
    started.record = opened_record;
    pending_events.push_back(std::move(started));
    for (std::string& text : notes) {
      const int64_t record = Write({.type = RecordType::Note, .text = text});
      Warn(std::move(text), record);
    }
    notes.clear();
    RememberLastRun(setup.state_dir, id);
    if (auto listening = ControlServer::Listen(&loop, run_dir, this); listening) {
      control = *std::move(listening);
    } else {
      Warn("`jobc cancel` cannot reach this run, and `jobc watch` lags behind: " + listening.error().message);
    }

    std::string unavailable;
    for (const ir::Job& job : plan.jobs) {
      if (job.kind != ir::JobKind::Check && unavailable.empty() && BackendOf(job.backend.kind, unavailable) == nullptr) {
        unavailable = fmt::format("{}: {}", job.address, unavailable);
      }
    }
    for (const ir::Job& job : plan.jobs) {
      if (unavailable.empty() && job.kind != ir::JobKind::Check && job.staging.valid() && plan.program.exprs.IsConst(job.staging)) {
        if (auto place = StagingPlace(plan.program.exprs.ConstValue(job.staging).as_string(), setup.roots.root); !place) {
          unavailable = fmt::format("{}: `staging = \"{}\"`: {}", job.address, plan.program.exprs.ConstValue(job.staging).as_string(), place.error().message);
        }
      }
    }
    if (!unavailable.empty() || left_behind.empty()) {
      BeginJobs(unavailable);
    } else {
      AskForLeftBehind();
    }
    while (!finished && !killed) {
      uv_run(&loop, UV_RUN_ONCE);
    }
    return End();
  }

  void BeginJobs(const std::string& unavailable) {
    begun = true;
    if (!unavailable.empty()) {
      scheduler->BackendUnavailable(unavailable, Now());
    }
    scheduler->Begin(Now(), interrupts > 0 ? "interrupted while attempts were taken over" : "");
    Pump();
  }

  // -- Attempts that were left behind ----------------------------------------------

  /// Every place is asked for all of them before anything else is decided: what goes on is not started a second time, and
  /// what must not go on has ended before something else takes its place.
  void AskForLeftBehind() {
    std::vector<AttemptId> asked;
    for (auto& [attempt, one] : left_behind) {
      const ir::Job& job = plan.jobs[one.instance.job];
      std::string problem;
      Backend* backend = BackendOf(KindOf(job), problem);
      std::optional<AttemptPlaces> places;
      if (backend != nullptr && one.origin == nullptr) {
        places = backend->FindPlaces(attempt, !job.secret_files.empty());
      } else if (backend != nullptr && IsOrigin(one.origin->run)) {  // else somebody goes on with that run, and has taken it back
        places = backend->FindPlacesOf(attempt, !job.secret_files.empty(), *one.origin);
      }
      if (!places) {
        continue;  // gone
      }
      std::optional<StartAttempt> start = scheduler->Again(attempt, one.instance, one.number);
      one.wanted = one.wanted && start;
      one.start = start.value_or(StartAttempt{attempt, one.instance, one.number, 0, {}, {}, {}});
      if (const std::vector<RemoteFile> files = RemoteInputs(one.instance); !files.empty() && OpenRemote()) {
        (void)TakeFetched(files);  // what it was given is still here; else it is not taken over
      }
      LaunchBuilder::Prepared prepared;
      Live& found = MakeLive(one.start, backend, *places, prepared, true);
      // Its inputs may be gone by now, or it had ended and its outputs were about to be kept: nobody knows which of them were.
      struct stat info;
      if (!prepared.ok || lstat((run_dir + "/outputs/" + ir::SafeName(found.launch.address)).c_str(), &info) == 0) {
        one.wanted = false;
      }
      if (one.origin != nullptr) {
        found.launch.execution_id = one.origin->ExecutionId();
        found.launch.run = one.origin->run;
      }
      found.staged = true;
      if (!one.staging.empty()) {
        found.staging = one.staging;  // as it was told when it began
      } else if (!found.staging.empty()) {
        NoteStaging(found);
      }
      found.result_path = std::move(prepared.result_path);
      found.identities = std::move(prepared.identities);
      found.started_ms = one.started_ms;
      found.adopted = true;
      one.asked = true;
      asked.push_back(attempt);
    }
    unanswered = asked.size() + 1;
    taking_over = true;
    for (AttemptId attempt : asked) {
      Live& found = live.at(attempt);
      found.backend->Attach(found.launch, left_behind.at(attempt).handle);
    }
    Answered();
  }

  void OnFormerSecrets(AttemptId attempt, const std::vector<std::string>& values) override {
    masker.Add(values);
    const bool hidden = std::all_of(values.begin(), values.end(), [](const std::string& one) { return one.size() >= kMinMasked; });
    WarnAndRecord(fmt::format("a secret that it was given when it began has another value now: it goes on with the former one, which is {}",
                              hidden ? "masked as well" : fmt::format("below {} bytes and so not masked", kMinMasked)), attempt);
  }

  void OnAttached(AttemptId attempt, AttachAnswer answer, const std::string& why) override {
    if (auto found = taking.find(attempt); found != taking.end()) {
      Taking one = std::move(found->second);
      taking.erase(found);
      return EndTaking(std::move(one), answer, why);
    }
    auto found = left_behind.find(attempt);
    if (!taking_over || found == left_behind.end() || !found->second.asked) {
      return;
    }
    found->second.asked = false;
    found->second.answer = answer;
    found->second.why = why;
    Answered();
  }

  void Answered() {
    if (--unanswered > 0) {
      return;
    }
    uv_update_time(&loop);
    for (auto& [attempt, one] : left_behind) {
      if (one.answer == AttachAnswer::Unknown) {
        // Nothing may be decided without knowing whether it runs: another time.
        unreachable = fmt::format("{}: attempt {} of {} may still run, and cannot be asked for: {}", ir::BackendName(plan.jobs[one.instance.job].backend.kind), one.number,
                                  state->Address(one.instance), masker.Mask(one.why));
        taking_over = false;
        deferred.clear();
        live.clear();
        return BeginJobs(unreachable);
      }
    }
    // The verdicts of those that must not go on come before anything is done to them: who is killed here leaves nothing that could be
    // taken for the end of a program.
    bool judged = false;
    for (auto& [attempt, one] : left_behind) {
      if (one.answer == AttachAnswer::Found && !one.wanted && !one.judged && live.count(attempt) != 0) {
        JudgeLeftBehind(one, "jobc ended while it ran, and it could not be taken over");
        judged = true;
      }
    }
    if (judged) {
      Commit();
    }
    uint64_t taken = 0;
    std::vector<AttemptId> to_end;
    for (auto& [attempt, one] : left_behind) {
      auto found = live.find(attempt);
      if (one.answer == AttachAnswer::Gone) {
        Forget(one);
      } else if (one.wanted) {
        ++taken;
        const int64_t record = Write({.type = RecordType::Adopted, .job = static_cast<int32_t>(one.instance.job), .ordinal = Ordinal(one.instance), .attempt = static_cast<int32_t>(one.number), .a = static_cast<int64_t>(attempt)});
        const int64_t ran_ms = one.started_ms == 0 ? 0 : std::max<int64_t>(0, process::WallMillis() - one.started_ms);
        scheduler->Adopt(attempt, one.instance, one.number, one.start.resources, one.start.timeouts, one.started_ms != 0, Now(), ran_ms);
        if (Observed() && one.started_ms != 0) {
          RunEvent event = Event(RunEventKind::Started, one.instance);
          event.record = record;
          event.attempt = one.number;
          event.attempt_id = attempt;
          pending_events.push_back(std::move(event));
        }
      } else if (found != live.end()) {  // else it ended by itself while others were asked for
        ++ending;
        found->second.judged = true;
        to_end.push_back(attempt);
      }
    }
    if (taken > 0) {
      RunEvent event = Event(RunEventKind::Note);
      event.text = fmt::format("{} attempt{} that had gone on without jobc {} taken over", taken, taken == 1 ? "" : "s", taken == 1 ? "is" : "are");
      event.record = Write({.type = RecordType::Note, .a = kNoteOfProgress, .text = event.text});
      pending_events.push_back(std::move(event));
    }
    TellOrigins(to_end);
    for (AttemptId attempt : to_end) {
      if (auto found = live.find(attempt); found != live.end()) {
        found->second.backend->Cancel(attempt, 0);
      }
    }
    EndTakingOver();
  }

  void JudgeLeftBehind(LeftBehind& one, std::string why) {
    one.judged = true;
    Write({.type = RecordType::Verdict, .job = static_cast<int32_t>(one.instance.job), .ordinal = Ordinal(one.instance), .attempt = static_cast<int32_t>(one.number),
           .a = static_cast<int64_t>(ir::ErrorKind::NodeLost), .b = -1, .text = VerdictJson(Failed(ir::ErrorKind::NodeLost, std::move(why)))});
  }

  void OnNeverBegan(AttemptId attempt) override {
    if (auto found = taking.find(attempt); found != taking.end()) {
      NotTaken(found->second);
    } else if (auto left = left_behind.find(attempt); left != left_behind.end() && !left->second.judged) {
      JudgeLeftBehind(left->second, "jobc ended before it began");
      Commit();
    }
  }

  void EndTakingOver() {
    if (ending > 0 || !taking_over || unanswered > 0) {
      return;
    }
    taking_over = false;
    left_behind.clear();
    Commit();
    EmitPending(false);
    BeginJobs("");
    std::vector<std::function<void()>> events;
    events.swap(deferred);
    for (auto& event : events) {
      event();
    }
    Pump();
  }

  /// Nothing of it is alive: said once, so that nobody asks for it again.
  void Forget(const LeftBehind& one) {
    Write({.type = RecordType::Reaped, .job = static_cast<int32_t>(one.instance.job), .ordinal = Ordinal(one.instance), .attempt = static_cast<int32_t>(one.number)});
    if (auto found = live.find(one.id); found != live.end()) {
      CleanUp(one.id, found->second, false);
      live.erase(found);
    }
  }

  /// While attempts are taken over nothing else has begun: what is said of them waits until then. True: it does.
  bool Deferred(AttemptId attempt, std::function<void()> event) {
    if (!taking_over) {
      return false;
    }
    auto found = left_behind.find(attempt);
    if (found != left_behind.end() && found->second.wanted) {
      deferred.push_back(std::move(event));
    }
    return true;
  }

  RunOutcome End() {
    Settle(settling.size());
    for (size_t kind = 0; kind < backends.size(); ++kind) {
      if (backends[kind] == nullptr) {
        continue;
      }
      if (!unreachable.empty() && OutlivesJobc(static_cast<ir::BackendKind>(kind))) {
        backends[kind]->LetGo();  // what could not be taken over is left as it is
      } else {
        backends[kind]->Stop();
      }
    }
    end_ms = process::MonotonicMillis();
    log->Flush();
    RunOutcome out;
    out.run_id = id;
    out.run_dir = run_dir;
    if (killed && !finished) {
      RunFinished done;
      done.exit_code = 130;
      done.status = RunStatus::Interrupted;
      done.cause = RunCause::Interrupt;
      done.message = "ended at once by " + killed_by;
      finished_record = WriteFinished(done.exit_code, done.status, done.message);
      Commit();
      CarryOut(done);
    }
    out.exit_code = finish.exit_code;
    out.status = finish.status;
    out.message = finish.message;
    if (out.exit_code == 0 && setup.options.strict && finish.tolerated_failures) {
      out.exit_code = 11;
    }
    if (environment_failed) {
      out.exit_code = out.exit_code == 130 ? 130 : 15;
      out.status = out.exit_code == 130 ? RunStatus::Interrupted : RunStatus::Failed;
      out.message = environment_message + "; what was recorded before is kept, go on with `jobc resume " + id + "` once that is mended";
      RecordEnvironmentFailure(out);
    }
    out.exports = exports_json;
    EmitPending(true);
    control.reset();
    for (auto& [attempt, live_attempt] : live) {
      live_attempt.context.reset();
      if (live_attempt.laying != nullptr) {
        live_attempt.laying->stop = true;
        if (live_attempt.laying->timer != nullptr) {
          uv_close(reinterpret_cast<uv_handle_t*>(std::exchange(live_attempt.laying->timer, nullptr)), FreeTimer);
        }
      }
    }
    for (auto& backend : backends) {
      backend.reset();
    }
    remote.reset();
    journal.reset();
    log.reset();
    FreeReserve(run_dir);
    CloseLoop();
    lock.reset();
    return out;
  }

  /// Why the run ends where its journal or log could no longer be written: nothing of it is alive any more that could take the
  /// room which the reserve gives back. What the open transaction holds is dropped, as resume expects. Where even this fails
  /// nothing more can be done; stderr and the exit code say it in any case.
  void RecordEnvironmentFailure(const RunOutcome& out) {
    // After an error of the device, or in a file that is damaged, nothing more is written.
    if (environment_code == EIO || environment_code == EILSEQ) {
      return;
    }
    // The new connection comes before the old one goes: the last one to close would write to the file what is in its log, and
    // take the room for that.
    auto again = Journal::Open(run_dir + "/journal.db", setup.options.durability);
    if (!again) {
      return;
    }
    journal.emplace(*std::move(again));
    FreeReserve(run_dir);
    auto written = journal->Append({.time_ms = process::WallMillis(), .type = RecordType::Finished, .a = out.exit_code,
                                    .text = fmt::format("{{\"message\":{},\"status\":\"{}\"}}", ir::JsonQuote(out.message), RunStatusName(out.status))});
    if (!written || !journal->Commit()) {
      return;
    }
    for (RunEvent& event : pending_events) {
      if (event.kind == RunEventKind::RunFinished) {
        event.record = *written;
        event.exit_code = out.exit_code;
        event.status = RunStatusName(out.status);
        event.text = masker.Mask(out.message);
      }
    }
  }

  /// Of a plan with many jobs the picture is made less often: no more than a fifth of the time goes into it.
  void TickObserver() {
    const int64_t begin = process::MonotonicMillis();
    setup.observer->OnTick(Progress());
    const int64_t took = process::MonotonicMillis() - begin;
    uv_timer_start(&tick_timer, [](uv_timer_t* handle) { static_cast<Impl*>(handle->data)->TickObserver(); },
                   static_cast<uint64_t>(std::max(setup.observer->interval_ms, 4 * took)), 0);
  }

  void CloseLoop() {
    if (!loop_open) {
      return;
    }
    auto close = [](uv_handle_t* handle) {
      if (!uv_is_closing(handle)) {
        uv_close(handle, nullptr);
      }
    };
    if (handles_open) {
      close(reinterpret_cast<uv_handle_t*>(&deadline));
      close(reinterpret_cast<uv_handle_t*>(&commit_timer));
      close(reinterpret_cast<uv_handle_t*>(&next_timer));
      close(reinterpret_cast<uv_handle_t*>(&tick_timer));
      close(reinterpret_cast<uv_handle_t*>(&look_timer));
      close(reinterpret_cast<uv_handle_t*>(&check));
      close(reinterpret_cast<uv_handle_t*>(&prepare));
    }
    for (uv_signal_t& handle : signals) {
      if (handle.loop != nullptr) {
        close(reinterpret_cast<uv_handle_t*>(&handle));
      }
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    uv_loop_close(&loop);
    loop_open = false;
  }

  int64_t Now() { return static_cast<int64_t>(uv_now(&loop)); }

  RunEvent Event(RunEventKind kind) {
    RunEvent event;
    event.kind = kind;
    event.time_ms = process::WallMillis();
    event.at_ms = process::MonotonicMillis() - begin_ms;
    return event;
  }

  RunEvent Event(RunEventKind kind, InstanceRef instance) {
    RunEvent event = Event(kind);
    event.address = state->Address(instance);
    event.max_attempts = static_cast<uint32_t>(plan.jobs[instance.job].retry.max_attempts);
    return event;
  }

  bool Observed() const { return setup.observer != nullptr || Watched(); }
  bool Watched() const { return control != nullptr && control->watched(); }

  // -- The journal ---------------------------------------------------------------

  /// Its number; 0 if it could not be written.
  int64_t Write(Record record) {
    if (environment_failed) {
      return 0;
    }
    if (record.time_ms == 0) {
      record.time_ms = process::WallMillis();
    }
    auto written = journal->Append(record);
    if (!written) {
      CannotWrite(written.error());
      return 0;
    }
    return *written;
  }

  /// What was ignored of the answers of backends since the last time, for whoever wonders about a place.
  void WriteLate() {
    const uint64_t late = scheduler->counters().late + late_answers;
    if (late > late_written) {
      const uint64_t count = late - std::exchange(late_written, late);
      Write({.type = RecordType::Note, .a = kNoteOfLate, .b = static_cast<int64_t>(count),
             .text = fmt::format("{} answer{} of backends came late, {} stale or came twice, and {} ignored", count, count == 1 ? "" : "s", count == 1 ? "was" : "were", count == 1 ? "was" : "were")});
    }
  }

  void WriteReaped() {
    for (ReapedAttempt& one : reaped) {
      const int64_t record = Write(std::move(one.record));
      if (one.event) {
        one.event->record = record;
        pending_events.push_back(*std::move(one.event));
      }
      if (one.settling) {
        settling.push_back(*std::move(one.settling));
      }
    }
    reaped.clear();
  }

  int64_t WriteFinished(int exit_code, RunStatus status, const std::string& message) {
    std::string exports;
    if (exports_sum) {
      exports = fmt::format("\"exports\":{},", *exports_sum);
    }
    return Write({.type = RecordType::Finished, .a = exit_code,
                  .text = fmt::format("{{{}\"message\":{},\"status\":\"{}\"}}", exports, ir::JsonQuote(message), RunStatusName(status))});
  }

  void Commit() {
    if (environment_failed || !journal) {
      return;
    }
    WriteLate();
    std::vector<uint64_t> next = WriteAhead();
    if (auto done = journal->Commit(); !done) {
      CannotWrite(done.error());
      return;
    }
    ahead.insert(next.begin(), next.end());
  }

  /// Commits without holding up the loop: the wait for the disk is done by a thread. What depends on it waits for
  /// EndSync(): events, and the right to start what was journaled ahead.
  void CommitInBackground() {
    if (environment_failed || !journal || syncing) {
      return;
    }
    WriteLate();
    std::vector<uint64_t> next = WriteAhead();
    auto left = journal->CommitBehind();
    if (!left) {
      CannotWrite(left.error());
      return;
    }
    if (!*left) {
      ahead.insert(next.begin(), next.end());
      Settle(settling.size());
      return;
    }
    syncing = true;
    sync = *std::move(left);
    sync_ahead = std::move(next);
    sync_events = pending_events.size();
    sync_reports = pending_reports.size();
    sync_settling = settling.size();
    sync_work.data = this;
    JOBC_CHECK(uv_queue_work(&loop, &sync_work, [](uv_work_t* work) {
      auto* self = static_cast<Impl*>(work->data);
      self->sync_result = self->sync();
    }, [](uv_work_t* work, int) { static_cast<Impl*>(work->data)->EndSync(); }) == 0);
  }

  void EndSync() {
    syncing = false;
    if (!journal || finished || killed) {
      return;
    }
    if (sync_result != 0) {
      CannotWrite(journal->SyncFailed(sync_result));
    } else {
      ahead.insert(sync_ahead.begin(), sync_ahead.end());
      Settle(sync_settling);
      Emit(sync_events, sync_reports);
    }
    Pump();
  }

  static uint64_t Pack(InstanceRef instance) { return uint64_t{instance.job} << 32 | instance.ordinal; }

  /// Intents of those that will start soon, so that their start needs no commit of its own. Only for backends whose
  /// attempts cannot outlive this process.
  std::vector<uint64_t> WriteAhead() {
    std::vector<uint64_t> out;
    std::vector<InstanceRef> next = scheduler->LikelyNext(kMostAhead);
    // Half of them not among what was written before: worth a few rows again.
    const auto known = std::count_if(next.begin(), next.end(), [this](InstanceRef instance) { return ahead.count(Pack(instance)) != 0; });
    if (next.size() < 2 || static_cast<size_t>(known) * 2 > next.size()) {
      return out;
    }
    std::sort(next.begin(), next.end());
    for (size_t i = 0; i < next.size();) {
      if (plan.jobs[next[i].job].backend.kind != ir::BackendKind::Process || ahead.count(Pack(next[i])) != 0) {
        ++i;
        continue;
      }
      size_t end = i;
      do {
        out.push_back(Pack(next[end]));
        ++end;
      } while (end < next.size() && next[end].job == next[i].job && next[end].ordinal == next[end - 1].ordinal + 1 && ahead.count(Pack(next[end])) == 0);
      Write({.type = RecordType::Ahead, .job = static_cast<int32_t>(next[i].job), .ordinal = next[i].ordinal, .a = static_cast<int64_t>(end - i)});
      i = end;
    }
    return out;
  }

  /// The journal or the log: what happens from now on could be lost, so nothing more does.
  void CannotWrite(const Error& error) {
    if (!environment_failed) {
      environment_failed = true;
      environment_message = error.message;
      environment_code = error.code;
      scheduler->EnvironmentFailed(error.message, Now());
    }
  }

  /// Before a commit that says of the log's bytes that they are there.
  void FlushLog() {
    log->Flush();
    LookAtLog();
  }

  void LookAtLog() {
    if (log->failure()) {
      CannotWrite(*log->failure());
    }
  }

  void EmitPending(bool all) {
    if (!all && journal && journal->dirty() && !environment_failed) {
      return;
    }
    Settle(settling.size());
    Emit(pending_events.size(), pending_reports.size());
  }

  /// The first ones of those whose end waits for a commit.
  void Settle(size_t count) {
    const auto end = settling.begin() + static_cast<std::ptrdiff_t>(count);
    const std::vector<Settling> now(std::make_move_iterator(settling.begin()), std::make_move_iterator(end));
    settling.erase(settling.begin(), end);
    sync_settling -= std::min(sync_settling, count);
    for (const Settling& one : now) {
      if (!one.stage_dir.empty()) {
        one.backend->RemoveLater(one.stage_dir);
      }
      one.backend->Release(one.attempt, one.keep);
    }
  }

  /// The first ones of those that wait for a commit.
  void Emit(size_t event_count, size_t report_count) {
    if (event_count == 0 && report_count == 0) {
      return;
    }
    auto take = [](auto& from, size_t count) {
      const auto end = from.begin() + static_cast<std::ptrdiff_t>(count);
      std::remove_reference_t<decltype(from)> taken(std::make_move_iterator(from.begin()), std::make_move_iterator(end));
      from.erase(from.begin(), end);
      return taken;
    };
    std::vector<RunEvent> events = take(pending_events, event_count);
    std::vector<FailureReport> reports = take(pending_reports, report_count);
    sync_events -= std::min(sync_events, event_count);
    sync_reports -= std::min(sync_reports, report_count);
    if (setup.observer != nullptr) {
      for (const RunEvent& event : events) {
        setup.observer->OnEvent(event);
      }
      for (const FailureReport& report : reports) {
        setup.observer->OnFailure(report);
      }
      setup.observer->OnBatchEnd();
    }
    for (size_t i = 0; i < events.size() && Watched(); ++i) {
      control->Tell(EventJson(events[i]));
    }
  }

  // -- Actions -------------------------------------------------------------------

  /// From a timer: if that was the end of the run, the loop must not wait for another event.
  void PumpBeforePoll() {
    Pump();
    if (finished) {
      uv_stop(&loop);
    }
  }

  void Pump() {
    if (pumping || finished || !begun) {
      return;
    }
    answered = false;
    pumping = true;
    LookAtLog();
    for (;;) {
      std::vector<Action> actions = scheduler->TakeActions();
      if (actions.empty() && reaped.empty()) {
        PlanNext();
        actions = scheduler->TakeActions();
        if (actions.empty()) {
          break;
        }
      }
      bool has_effects = false;
      for (Action& action : actions) {
        std::visit([&](auto& typed) { Journalize(typed); }, action);
        has_effects = has_effects || HasEffect(action);
      }
      WriteReaped();
      if (has_effects) {
        // Intents, verdicts and final states are durable before anything that depends on them begins. An instance
        // became ready after what it depends on was recorded, so an intent that was journaled ahead is enough.
        if (NeedsCommit(actions)) {
          FlushLog();
          Commit();
          EmitPending(false);
        }
        TellOrigins(actions);
        for (Action& action : actions) {
          std::visit([&](auto& typed) { CarryOut(typed); }, action);
        }
      }
      if (finished) {
        break;
      }
    }
    pumping = false;
    if (!finished) {
      ArmTimers();
    }
  }

  bool NeedsCommit(const std::vector<Action>& actions) {
    bool needed = false;
    for (const Action& action : actions) {
      if (const auto* start = std::get_if<StartAttempt>(&action)) {
        needed = ahead.erase(Pack(start->instance)) == 0 || needed;
      } else if (std::holds_alternative<RevokeNext>(action)) {
        // Nothing depends on a record.
      } else if (std::holds_alternative<EvaluateExports>(action) || std::holds_alternative<LookUp>(action)) {
        // Seen by nobody before the commit of the run's end; a result that is used again changes nothing outside the run.
      } else {
        needed = needed || HasEffect(action);
      }
    }
    return needed;
  }

  static bool HasEffect(const Action& action) {
    return std::holds_alternative<StartAttempt>(action) || std::holds_alternative<CancelAttempt>(action) || std::holds_alternative<RevokeNext>(action) ||
           std::holds_alternative<WithdrawAttempt>(action) || std::holds_alternative<SubmitAgain>(action) || std::holds_alternative<EvaluateExports>(action) || std::holds_alternative<jobc::PublishOutputs>(action) ||
           std::holds_alternative<LookUp>(action) || std::holds_alternative<RunFinished>(action);
  }

  void StartCommitTimer(int64_t wait_ms) {
    uv_timer_start(&commit_timer, [](uv_timer_t* handle) {
      auto* self = static_cast<Impl*>(handle->data);
      self->busy = self->ends >= kBusyEnds;
      self->ends = 0;
      self->FlushLog();
      self->CommitInBackground();
      self->PumpBeforePoll();
    }, static_cast<uint64_t>(wait_ms), 0);
  }

  /// An attempt ended that took `took_ms`; its verdict is to be committed.
  void CountEnd(int64_t took_ms) {
    if (took_ms < kBusyCommitIntervalMs) {
      ++ends;
      return;
    }
    ends = 0;
    busy = false;
    if (uv_is_active(reinterpret_cast<uv_handle_t*>(&commit_timer)) && uv_timer_get_due_in(&commit_timer) > kCommitIntervalMs) {
      StartCommitTimer(kCommitIntervalMs);
    }
  }

  void ArmTimers() {
    if (journal && journal->dirty() && !environment_failed) {
      if (!uv_is_active(reinterpret_cast<uv_handle_t*>(&commit_timer))) {
        StartCommitTimer(busy ? kBusyCommitIntervalMs : kCommitIntervalMs);
      }
    } else {
      uv_timer_stop(&commit_timer);
      if (!syncing) {
        EmitPending(true);
      }
    }
    if (auto next = scheduler->NextDeadline()) {
      uv_timer_start(&deadline, [](uv_timer_t* handle) {
        auto* self = static_cast<Impl*>(handle->data);
        self->Tick();
        self->PumpBeforePoll();
      }, static_cast<uint64_t>(std::max<int64_t>(0, *next - Now())), 0);
    } else {
      uv_timer_stop(&deadline);
    }
  }

  void Tick() {
    for (auto& [attempt, one] : live) {
      if (one.launch.timeouts.idle && one.started_ms != 0 && !one.exit && !one.judged) {
        uint64_t last = one.backend->LastOutput(attempt);
        if (last > one.last_output) {
          one.last_output = last;
          scheduler->AttemptOutput(attempt, static_cast<int64_t>(last));
        }
      }
    }
    scheduler->Tick(Now());
  }

  /// Since when an instance that starts now was ready, wall clock; 0: not known.
  int64_t TakeReady(InstanceRef instance) {
    const uint64_t key = Pack(instance);
    if (auto alone = ready_alone.find(key); alone != ready_alone.end()) {
      const int64_t since = alone->second;
      ready_alone.erase(alone);
      return since;
    }
    auto together = ready_together.upper_bound(key);
    if (together == ready_together.begin() || (--together)->first + together->second.count <= key) {
      return 0;
    }
    const int64_t since = together->second.since_ms;
    if (together->first + together->second.count == key + 1) {
      ready_together.erase(together);  // the last of them; nearly always they start in order
    }
    return since;
  }

  /// An attempt with this key goes on already: it is the one that starts now.
  void TakeAdoptable(const StartAttempt& start, const std::string& key) {
    const ir::BackendKind kind = KindOf(plan.jobs[start.instance.job]);
    if (setup.adopt.empty() || start.began || !OutlivesJobc(kind)) {
      return;
    }
    const std::string address = state->Address(start.instance);
    auto best = setup.adopt.end();
    for (auto it = setup.adopt.begin(); it != setup.adopt.end(); ++it) {
      if (it->key == key && (best == setup.adopt.end() || it->address == address)) {
        best = it;
      }
    }
    if (best != setup.adopt.end()) {
      taking[start.id] = {std::move(*best), start, 0, ""};
      setup.adopt.erase(best);
    }
  }

  // First pass: what becomes a record.

  void Journalize(StartAttempt& start) {
    std::string text;
    if (plan.jobs[start.instance.job].kind == ir::JobKind::Job) {
      KeyMaker::Made made = keys->Make(*state, start.instance);
      if (made.key) {
        WriteSharedParts(start.instance.job);
        text = KeyJson(*made.key);
        TakeAdoptable(start, made.key->sha256);
        if (IsCached(start.instance)) {
          cache_keys[start.id] = made.key->sha256;
        }
      } else if (!made.changed_input.empty()) {
        changed_inputs[start.id] = std::move(made.changed_input);
      }
      // Any other problem is found again when the attempt is prepared, with a message of its own.
    }
    intent_records[start.id] = Write({.type = RecordType::Intent, .job = static_cast<int32_t>(start.instance.job), .ordinal = start.instance.ordinal,
           .attempt = static_cast<int32_t>(start.number), .a = static_cast<int64_t>(start.id), .b = TakeReady(start.instance), .text = std::move(text)});
    if (auto found = taking.find(start.id); found != taking.end()) {
      const AttemptOrigin& origin = found->second.from.origin;
      Write({.type = RecordType::Adopted, .job = static_cast<int32_t>(start.instance.job), .ordinal = start.instance.ordinal, .attempt = static_cast<int32_t>(start.number),
             .a = static_cast<int64_t>(start.id), .text = fmt::format("{{\"attempt\":{},\"run\":{}}}", origin.id, ir::JsonQuote(origin.run))});
    }
  }
  void Journalize(LookUp&) {}

  /// Once for each job, before the first key that leaves them out.
  void WriteSharedParts(uint32_t job) {
    if (!shared_parts_written[job]) {
      shared_parts_written[job] = true;
      CacheKey shared;
      shared.own = keys->Shared(job);
      Write({.type = RecordType::Key, .job = static_cast<int32_t>(job), .text = KeyJson(shared)});
    }
  }

  /// Whether the result of this instance may be used by other runs, and those of others by this one.
  bool IsCached(InstanceRef instance) {
    const ir::Job& job = plan.jobs[instance.job];
    if (!job.cache.valid() || setup.options.cache_dir.empty()) {
      return false;
    }
    InstanceContext context(*state, world.get(), input_evaluator, instance);
    ir::Value value;
    return evaluator.Evaluate(job.cache, context, value) && value.kind() == ir::ValueKind::Bool && value.as_bool();
  }
  void Journalize(CancelAttempt&) {}
  void Journalize(WithdrawAttempt&) {}
  void Journalize(RevokeNext&) {}
  void Journalize(SubmitAgain&) {}
  void Journalize(SubmissionRetry& retry) {
    std::string why = masker.Mask(retry.verdict.message);
    if (why.empty()) why = ErrorName(retry.verdict);
    const std::string text = fmt::format("{} could not be submitted: {}; submission {} follows in {}", state->Address(retry.instance), why, retry.submission, ir::DurationText(retry.delay_ms));
    Warn(text, Write({.type = RecordType::Note, .job = static_cast<int32_t>(retry.instance.job), .ordinal = Ordinal(retry.instance), .text = text}));
  }
  void Journalize(Starving& starving) {
    Warn(starving.text, Write({.type = RecordType::Note, .job = static_cast<int32_t>(starving.instance.job), .ordinal = Ordinal(starving.instance), .text = starving.text}));
  }
  void Journalize(EvaluateExports&) {}
  void Journalize(PublishOutputs&) {}
  void Journalize(RunFinished& done) {
    WriteReaped();
    WriteLate();
    int exit_code = done.exit_code == 0 && setup.options.strict && done.tolerated_failures ? 11 : done.exit_code;
    finished_record = WriteFinished(exit_code, done.status, done.message);
  }
  void Journalize(InstanceChanged& change) {
    int64_t record = 0;
    if (change.to == InstanceState::Ready && change.first.ordinal != kWholeJob) {
      if (change.count == 1) {
        ready_alone[Pack(change.first)] = process::WallMillis();
      } else {
        ready_together.insert_or_assign(Pack(change.first), Ready{change.count, process::WallMillis()});
      }
    }
    if (IsFinal(change.to)) {
      std::string text;
      // What the attempt's own record does not say: there was none, or why no other one followed.
      if (change.verdict != nullptr && (change.to != InstanceState::Failed || change.verdict != last_judged)) {
        text = VerdictJson(*change.verdict);
      }
      record = Write({.type = RecordType::Final, .job = static_cast<int32_t>(change.first.job), .ordinal = Ordinal(change.first), .attempt = 0,
             .a = static_cast<int64_t>(change.to), .b = change.count, .text = std::move(text)});
    }
    Notify(change, record);
  }
  void Journalize(AttemptJudged& judged) {
    const Verdict& verdict = *judged.verdict;
    last_judged = judged.verdict;
    std::string text = VerdictJson(verdict);
    if (auto sum = outputs_sums.find(judged.id); sum != outputs_sums.end()) {
      if (verdict.success) {
        text = fmt::format("{{\"outputs\":{}}}", sum->second);
      }
      outputs_sums.erase(sum);
    }
    const int64_t record = Write({.type = RecordType::Verdict, .job = static_cast<int32_t>(judged.instance.job), .ordinal = Ordinal(judged.instance),
           .attempt = static_cast<int32_t>(judged.number), .a = verdict.success ? -1 : static_cast<int64_t>(verdict.kind),
           .b = verdict.exit_code ? *verdict.exit_code : -1, .text = std::move(text)});
    auto found = live.find(judged.id);
    if (found != live.end()) {
      found->second.verdict = judged.verdict;
      if (!judged.from_backend) {
        found->second.judged = true;
      }
      if (!verdict.success) {
        Trace(judged.id, found->second);
      }
    }
    if (Observed()) {
      RunEvent event = Event(RunEventKind::AttemptEnded, judged.instance);
      event.record = record;
      event.attempt = judged.number;
      event.attempt_id = judged.id;
      event.verdict = judged.verdict;
      if (found != live.end() && found->second.started_ms != 0) {
        event.duration_ms = (found->second.exit ? found->second.exit->wall_ms : event.time_ms) - found->second.started_ms;
      }
      for (const ReapedAttempt& gone : reaped) {
        if (gone.attempt == judged.id) {
          event.duration_ms = gone.duration_ms;
        }
      }
      pending_events.push_back(std::move(event));
    }
  }
  void Journalize(RetryScheduled& retry) {
    const int64_t record = Write({.type = RecordType::Retry, .job = static_cast<int32_t>(retry.instance.job), .ordinal = Ordinal(retry.instance),
           .attempt = static_cast<int32_t>(retry.next_number), .a = retry.delay_ms, .b = retry.rule, .text = HistoryJson(retry.instance)});
    if (Observed()) {
      RunEvent event = Event(RunEventKind::Retrying, retry.instance);
      event.record = record;
      event.attempt = retry.next_number;
      event.duration_ms = retry.delay_ms;
      if (auto trace = traces.find(retry.failed); trace != traces.end()) {
        traces.erase(trace);
      }
      pending_events.push_back(std::move(event));
    }
  }
  void Journalize(JobExpanded& expanded) {
    int64_t record = 0;
    if (!expanded.list.is_null()) {
      const ir::Job& job = plan.jobs[expanded.job];
      ir::TypeId type = plan.program.exprs[job.domain.list].type;
      auto json = StoredJson(expanded.list, type);
      record = Write({.type = RecordType::Expanded, .job = static_cast<int32_t>(expanded.job), .a = expanded.count, .text = json ? *json : std::string()});
    }
    if (Observed() && !expanded.list.is_null()) {
      RunEvent event = Event(RunEventKind::Expanded);
      event.record = record;
      event.address = plan.jobs[expanded.job].address;
      event.count = expanded.count;
      pending_events.push_back(std::move(event));
    }
  }
  void Journalize(ModeChanged& mode) {
    std::string cause = mode.cause.job < plan.jobs.size() ? state->Address(mode.cause) : "";
    const int64_t record = Write({.type = RecordType::Mode, .a = static_cast<int64_t>(mode.mode), .text = cause});
    if (Observed() && mode.mode >= ir::Strategy::Drain) {
      RunEvent event = Event(RunEventKind::ModeChanged);
      event.record = record;
      event.text = ModeText(mode.mode);
      pending_events.push_back(std::move(event));
    }
  }
  void Journalize(PhaseChanged& phase) {
    current_phase = phase.phase;
    if (Observed()) {
      RunEvent event = Event(RunEventKind::Phase);
      event.text = PhaseName(phase.phase);
      pending_events.push_back(std::move(event));
    }
  }
  void Journalize(HookFailed& hook) {
    const std::string_view more = MessageBesideEnd(*hook.verdict);
    std::string text = fmt::format("{} failed, which the run does not mind: {}{}{}", state->Address(hook.hook), ReasonText(*hook.verdict), more.empty() ? "" : ": ", more);
    const int64_t record = Write({.type = RecordType::Note, .job = static_cast<int32_t>(hook.hook.job), .ordinal = Ordinal(hook.hook), .text = masker.Mask(text)});
    Warn(masker.Mask(text), record);
  }

  static int64_t Ordinal(InstanceRef instance) { return instance.ordinal == kWholeJob ? -1 : static_cast<int64_t>(instance.ordinal); }

  void Warn(std::string text, int64_t record = 0) {
    RunEvent event = Event(RunEventKind::Warning);
    event.record = record;
    event.text = std::move(text);
    pending_events.push_back(std::move(event));
  }

  Result<std::string> StoredJson(const ir::Value& value, ir::TypeId type) {
    class Context : public ir::EvalContext {
     public:
      explicit Context(World& world) : world_(world) {}
      bool FileText(const ir::FileValue& file, std::string& out, ir::Fault&) override {
        out = file.base == ir::FileBase::Job ? file.path : world_.Locate(file);
        return true;
      }
      World& world_;
    } context(*world);
    return ir::EncodeJson(value, type, plan.program, context);
  }

  /// What retries must remember, for resume.
  std::string HistoryJson(InstanceRef instance) const {
    const RetryHistory* history = state->history(instance);
    if (history == nullptr) {
      return "";
    }
    std::string out = "{\"granted\":[";
    for (size_t i = 0; i < history->granted.size(); ++i) {
      out += (i == 0 ? "" : ",") + std::to_string(history->granted[i]);
    }
    out += fmt::format("],\"total_used_ms\":{}", history->total_used_ms);
    if (history->has_next) {
      out += ",\"has_next\":true";
      auto number = [&](const char* name, const std::optional<int64_t>& value) {
        if (value) {
          out += fmt::format(",\"{}\":{}", name, *value);
        }
      };
      number("cpu_milli", history->resources.cpu_milli);
      number("memory", history->resources.memory);
      number("disk", history->resources.disk);
      number("gpu", history->resources.gpu);
      if (history->resources.spot) {
        out += fmt::format(",\"spot\":{}", *history->resources.spot);
      }
      number("timeout_queue", history->timeouts.queue);
      number("timeout_run", history->timeouts.run);
      number("timeout_total", history->timeouts.total);
      number("timeout_idle", history->timeouts.idle);
      number("timeout_stage", history->timeouts.stage);
      number("timeout_collect", history->timeouts.collect);
    }
    return out + "}";
  }

  // -- Effects -------------------------------------------------------------------

  template <typename T>
  void CarryOut(T&) {}

  void CarryOut(StartAttempt& start) {
    const int64_t intent = intent_records[start.id];
    intent_records.erase(start.id);
    if (start.began) {
      if (auto found = live.find(start.id); found != live.end()) {
        found->second.planned_ms = -1;
        found->second.before = 0;
        if (auto key = cache_keys.find(start.id); key != cache_keys.end()) {
          found->second.cache_key = std::move(key->second);
        }
        Submitting(start, intent);
        TellAttempt(RunEventKind::Submitted, start.id, "");
      }
      cache_keys.erase(start.id);
      changed_inputs.erase(start.id);
      return;
    }
    if (environment_failed || killed) {
      LeaveAlone(start.id);
      scheduler->AttemptEnded(start.id, Answer(Failed(ir::ErrorKind::Cancelled, "the run cannot go on")), Now());
      scheduler->AttemptReaped(start.id, Now());
      return;
    }
    const ir::Job& job = plan.jobs[start.instance.job];
    std::string cache_key;
    if (auto found = cache_keys.find(start.id); found != cache_keys.end()) {
      cache_key = std::move(found->second);
      cache_keys.erase(found);
    }
    if (auto found = changed_inputs.find(start.id); found != changed_inputs.end()) {
      Verdict verdict = Failed(ir::ErrorKind::Staging, std::move(found->second));
      verdict.no_retry = true;
      changed_inputs.erase(found);
      scheduler->AttemptEnded(start.id, Answer(std::move(verdict)), Now());
      scheduler->AttemptReaped(start.id, Now());
      return;
    }
    std::string problem;
    Backend* backend = BackendOf(KindOf(job), problem);
    if (backend == nullptr) {
      FailStart(start.id, Failed(ir::ErrorKind::Submit, problem));
      return;
    }
    if (taking.count(start.id) != 0) {
      TakeFromOther(start, intent, backend, std::move(cache_key));
    } else if (!StageRemote(start, intent, backend, cache_key)) {
      Launch(start, intent, backend, std::move(cache_key));
    }
  }

  // -- Attempts of other runs --------------------------------------------------------

  void TellOrigins(const std::vector<Action>& actions) {
    if (setup.origins.empty()) {
      return;
    }
    std::vector<AttemptId> ending;
    for (const Action& action : actions) {
      if (const auto* cancel = std::get_if<CancelAttempt>(&action)) {
        ending.push_back(cancel->id);
      }
    }
    TellOrigins(ending);
  }

  /// Before these attempts are told to end: the journals of the runs that had submitted some of them.
  void TellOrigins(const std::vector<AttemptId>& ending) {
    std::set<std::string> executions;
    for (AttemptId attempt : ending) {
      if (auto found = live.find(attempt); found != live.end() && found->second.launch.run != id) {
        executions.insert(found->second.launch.execution_id);
      }
    }
    if (executions.empty() || !setup.before_ending) {
      return;
    }
    if (auto told = setup.before_ending(id, executions); !told) {
      // They are ended all the same: this run is whole, and what is asked of it goes before what may be asked of the other.
      const std::string text = fmt::format("the run that had begun what is ended now could not be told: {}", told.error().message);
      Warn(text, Write({.type = RecordType::Note, .text = text}));
    }
  }

  /// It is not taken over after all; whoever gave it to this run ends it.
  void LeaveAlone(AttemptId attempt) {
    if (auto found = taking.find(attempt); found != taking.end()) {
      setup.adopt.push_back(std::move(found->second.from));
      setup.adopt.back().key.clear();  // by nobody else either
      taking.erase(found);
    }
  }

  /// Instead of a submission: its place is asked for the attempt that goes on there.
  void TakeFromOther(const StartAttempt& start, int64_t intent, Backend* backend, std::string cache_key) {
    Taking& one = taking.at(start.id);
    one.start = start;
    one.intent = intent;
    one.cache_key = std::move(cache_key);
    const AttemptOrigin origin = one.from.origin;
    const std::vector<RemoteFile> files = RemoteInputs(start.instance);
    if (!files.empty() && OpenRemote()) {
      (void)TakeFetched(files);  // what it was given is still here, or it alone has it
    }
    auto places = backend->FindPlacesOf(start.id, !plan.jobs[start.instance.job].secret_files.empty(), origin);
    LaunchBuilder::Prepared prepared;
    if (places) {
      (void)MakeLive(start, backend, *places, prepared, true);
    }
    if (!places || !prepared.ok) {
      // What the attempt was given cannot be found again, so what it leaves could not be read: it must not run beside another one.
      const std::string why = places ? prepared.failure.message : "its directories are gone";
      live.erase(start.id);
      LeaveAlone(start.id);
      Verdict verdict = Failed(ir::ErrorKind::Staging, masker.Mask(fmt::format("an attempt of run {} with the same key goes on, and cannot be taken over: {}; end it with  jobc cancel {}",
                                                                               origin.run, why, origin.run)));
      verdict.no_retry = true;
      return FailStart(start.id, std::move(verdict));
    }
    Live& found = live.at(start.id);
    found.launch.execution_id = origin.ExecutionId();
    found.launch.run = origin.run;
    found.cache_key = one.cache_key;
    found.staged = true;
    found.adopted = true;
    found.result_path = std::move(prepared.result_path);
    found.identities = std::move(prepared.identities);
    Submitting(start, intent);
    const std::string handle = one.from.handle;
    backend->Attach(found.launch, handle);
  }

  /// It is not there any more, or never began: it is submitted after all, under its own name.
  void NotTaken(Taking& one) {
    if (std::exchange(one.not_taken, true)) {
      return;
    }
    Write({.type = RecordType::Adopted, .job = static_cast<int32_t>(one.start.instance.job), .ordinal = Ordinal(one.start.instance), .attempt = static_cast<int32_t>(one.start.number),
           .a = static_cast<int64_t>(one.start.id), .text = fmt::format("{{\"attempt\":{},\"run\":{}}}", one.start.id, ir::JsonQuote(id))});
    Commit();
  }

  void EndTaking(Taking one, AttachAnswer answer, const std::string& why) {
    uv_update_time(&loop);
    answered = true;
    auto found = live.find(one.start.id);
    if (found == live.end()) {
      return;
    }
    const std::string address = found->second.launch.address;
    if (answer == AttachAnswer::Found) {
      RunEvent event = Event(RunEventKind::Note);
      event.text = fmt::format("{} goes on: an attempt of run {} is taken over", address, one.from.origin.run);
      event.record = Write({.type = RecordType::Note, .job = static_cast<int32_t>(one.start.instance.job), .ordinal = Ordinal(one.start.instance), .a = kNoteOfProgress, .text = event.text});
      pending_events.push_back(std::move(event));
      return;
    }
    if (found->second.judged) {  // cancelled meanwhile
      return OnReaped(one.start.id, 0);
    }
    Backend* backend = found->second.backend;
    if (answer == AttachAnswer::Unknown) {
      setup.adopt.push_back(std::move(one.from));
      setup.adopt.back().key.clear();
      live.erase(found);
      Verdict verdict = Failed(ir::ErrorKind::Network, masker.Mask(fmt::format("an attempt of run {} with the same key may go on, and cannot be asked for: {}", setup.adopt.back().origin.run, why)));
      verdict.no_retry = true;
      FailStart(one.start.id, std::move(verdict));
    } else {
      CleanUp(one.start.id, found->second, false);
      live.erase(found);
      NotTaken(one);
      if (environment_failed) {
        FailStart(one.start.id, Failed(ir::ErrorKind::Cancelled, "the run cannot go on"));
      } else if (!StageRemote(one.start, one.intent, backend, one.cache_key)) {
        Launch(one.start, one.intent, backend, one.cache_key);
      }
    }
    Pump();
  }

  /// An attempt that does not come to its backend.
  void FailStart(AttemptId attempt, Verdict verdict) {
    scheduler->AttemptEnded(attempt, Answer(std::move(verdict)), Now());
    scheduler->AttemptReaped(attempt, Now());
  }

  // -- Remote inputs ---------------------------------------------------------------

  static void CollectUris(const ir::Value& value, std::vector<std::string>& out) {
    switch (value.kind()) {
      case ir::ValueKind::File:
        if (value.as_file().base == ir::FileBase::Uri) {
          out.push_back(value.as_file().path);
        }
        break;
      case ir::ValueKind::List:
        for (const ir::Value& element : value.as_list()) {
          CollectUris(element, out);
        }
        break;
      case ir::ValueKind::Map:
        for (const auto& [key, element] : value.as_map()) {
          CollectUris(element, out);
        }
        break;
      default: break;
    }
  }

  /// What is remote among the inputs of an instance and not known to be here.
  std::vector<RemoteFile> RemoteInputs(InstanceRef instance) {
    std::vector<RemoteFile> out;
    const ir::Job& job = plan.jobs[instance.job];
    if (job.inputs.empty()) {
      return out;
    }
    AttemptContext context(*state, *world, input_evaluator, instance);
    std::vector<std::string> uris;
    for (uint32_t i = 0; i < job.inputs.size(); ++i) {
      ir::Value value;
      ir::Fault fault;
      if (context.Input(i, value, fault)) {  // else it is told when the attempt is made
        CollectUris(value, uris);
      }
    }
    std::sort(uris.begin(), uris.end());
    uris.erase(std::unique(uris.begin(), uris.end()), uris.end());
    for (std::string& uri : uris) {
      RemoteFile file;
      if (const ir::FileRow* row = world->NamedRow(uri)) {
        file.etag = row->etag;
        file.version = row->version;
        file.size = row->size;
      }
      file.uri = std::move(uri);
      out.push_back(std::move(file));
    }
    return out;
  }

  Result<void> OpenRemote() {
    if (remote == nullptr) {
      Result<std::unique_ptr<RemoteFiles>> made = setup.remote_files ? setup.remote_files({&loop, setup.state_dir, id}) : Error{"this program knows no remote files"};
      if (!made) {
        return made.error();
      }
      remote = *std::move(made);
    }
    return {};
  }

  /// Those that are here are known to expressions and attempts from now on; gives the others.
  std::vector<RemoteFile> TakeFetched(const std::vector<RemoteFile>& files) {
    std::vector<RemoteFile> missing;
    for (const RemoteFile& file : files) {
      if (std::string path = remote->Find(file); !path.empty()) {
        world->SetFetched(file.uri, std::move(path));
      } else {
        missing.push_back(file);
      }
    }
    return missing;
  }

  /// True: the attempt goes on when everything is here, or has failed.
  bool StageRemote(const StartAttempt& start, int64_t intent, Backend* backend, const std::string& cache_key) {
    std::vector<RemoteFile> files = RemoteInputs(start.instance);
    if (files.empty()) {
      return false;
    }
    if (auto opened = OpenRemote(); !opened) {
      Verdict verdict = Failed(ir::ErrorKind::Staging, fmt::format("`{}` cannot be fetched: {}", files.front().uri, opened.error().message));
      verdict.no_retry = true;
      FailStart(start.id, std::move(verdict));
      return true;
    }
    const std::vector<RemoteFile> missing = TakeFetched(files);
    if (missing.empty()) {
      return false;
    }
    Live& one = live[start.id];
    one.instance = start.instance;
    one.number = start.number;
    one.backend = backend;
    one.launch.timeouts = start.timeouts;
    one.launch.address = state->Address(start.instance);
    // What follows a question mark may be a signature, which is as good as a password.
    std::string first = missing.front().uri;
    if (size_t question = first.find('?'); question != std::string::npos && !first.starts_with("s3://")) {
      first = first.substr(0, question) + "?…";
    }
    const std::string shown = masker.Mask(missing.size() == 1 ? fmt::format("`{}`", first) : fmt::format("`{}` and {} more", first, missing.size() - 1));
    scheduler->AttemptStaging(start.id, fmt::format("{}{} {}", missing.size() == 1 ? "the input " : "the inputs ", shown, missing.size() == 1 ? "is" : "are"), Now());
    if (Observed()) {
      RunEvent event = Event(RunEventKind::Staging, start.instance);
      event.attempt = start.number;
      event.attempt_id = start.id;
      event.text = shown;
      pending_events.push_back(std::move(event));
    }
    one.ticket = remote->Want(missing, [this, start, intent, backend, cache_key, files](std::optional<RemoteFailure> failure) {
      answered = true;
      uv_update_time(&loop);
      auto found = live.find(start.id);
      if (found == live.end() || found->second.judged || finished || killed) {
        return;
      }
      live.erase(found);
      if (failure) {
        Verdict verdict = Failed(failure->kind, std::move(failure->message));
        verdict.no_retry = failure->no_retry;
        FailStart(start.id, std::move(verdict));
      } else if (environment_failed) {
        FailStart(start.id, Failed(ir::ErrorKind::Cancelled, "the run cannot go on"));
      } else if (!TakeFetched(files).empty()) {
        FailStart(start.id, Failed(ir::ErrorKind::Staging, fmt::format("`{}` was removed from the state directory while it was needed", files.front().uri)));
      } else {
        scheduler->AttemptStaged(start.id, Now());
        Launch(start, intent, backend, cache_key);
      }
      Pump();
    });
    return true;
  }

  /// Everything it needs is on this machine.
  void Launch(const StartAttempt& start, int64_t intent, Backend* backend, std::string cache_key) {
    const ir::Job& job = plan.jobs[start.instance.job];
    auto places = backend->Prepare(start.id, !job.secret_files.empty());
    if (!places) {
      FailStart(start.id, Failed(ir::ErrorKind::Staging, places.error().message));
      return;
    }
    LaunchBuilder::Prepared prepared;
    Live& one = MakeLive(start, backend, *places, prepared);
    one.cache_key = std::move(cache_key);
    if (!prepared.ok) {
      prepared.failure.message = masker.Mask(prepared.failure.message);
      if (!places->secrets_dir.empty()) {
        (void)process::RemoveTree(places->secrets_dir).ok();
      }
      CleanUp(start.id, one, false);
      live.erase(start.id);
      if (prepared.refused) {
        scheduler->StartRefused(start.id, std::move(prepared.failure), Now());
      } else {
        FailStart(start.id, std::move(prepared.failure));
      }
      return;
    }
    one.result_path = std::move(prepared.result_path);
    one.identities = std::move(prepared.identities);
    if (!one.staging.empty()) {
      NoteStaging(one);
    }
    Submitting(start, intent);
    backend->Submit(one.launch);
  }

  Live& MakeLive(const StartAttempt& start, Backend* backend, const AttemptPlaces& places, LaunchBuilder::Prepared& prepared, bool again = false) {
    Live& one = live[start.id];
    one.instance = start.instance;
    one.number = start.number;
    one.backend = backend;
    one.prepared = true;
    one.launch.places = places;
    one.launch.timeouts = start.timeouts;
    one.launch.resources = start.resources;
    one.context = std::make_unique<AttemptContext>(*state, *world, input_evaluator, start.instance);
    one.context->SetPathEvaluator(&path_evaluator);
    one.context->SetResources(&one.launch.resources);
    one.context->SetAttempt(start.number);
    prepared = builder->Build(start, places, evaluator, *one.context, again);
    one.launch = std::move(prepared.launch);
    one.staged = prepared.staged;
    one.launch.address = state->Address(start.instance);
    one.given = std::move(prepared.given);
    one.scripts_dir = std::move(prepared.scripts_dir);
    if (prepared.ok && plan.jobs[start.instance.job].staging.valid()) {
      FindStaging(start, one, prepared);
    }
    return one;
  }

  /// Long before anything is there: whoever finds the journal finds what to remove.
  void NoteStaging(const Live& one) {
    Write({.type = RecordType::Note, .job = static_cast<int32_t>(one.instance.job), .ordinal = Ordinal(one.instance), .attempt = static_cast<int32_t>(one.number), .a = kNoteOfStaged, .text = one.staging});
  }

  /// Where what the attempt is given and leaves is to lie.
  void FindStaging(const StartAttempt& start, Live& one, LaunchBuilder::Prepared& prepared) {
    const ir::Job& job = plan.jobs[start.instance.job];
    ir::Value value;
    if (!evaluator.Evaluate(job.staging, *one.context, value)) {
      prepared.ok = false;
      prepared.refused = true;
      prepared.failure = Failed(ir::ErrorKind::Expression, fmt::format("`staging` of {} failed: {}", job.address, evaluator.fault().message));
      return;
    }
    if (value.kind() != ir::ValueKind::String) {
      return;
    }
    auto place = StagingPlace(value.as_string(), setup.roots.root);
    if (!place) {
      prepared.ok = false;
      prepared.failure = Failed(ir::ErrorKind::Staging, fmt::format("`staging = \"{}\"` of {}: {}", value.as_string(), job.address, place.error().message));
      prepared.failure.no_retry = true;
      return;
    }
    one.staging = StagedBase(*place, StagingNamespace(plan.sources.empty() ? std::string_view() : std::string_view(plan.sources.front().name)), job.address, process::WallMillis(), one.launch.execution_id);
    one.launch.env.push_back("JOB_STAGING=" + one.staging);
  }

  void Submitting(const StartAttempt& start, int64_t intent) {
    if (Observed()) {
      RunEvent event = Event(RunEventKind::Submitting, start.instance);
      event.record = intent;
      event.attempt = start.number;
      event.attempt_id = start.id;
      pending_events.push_back(std::move(event));
    }
    without_next.push_back(start.id);
  }

  // -- What begins by itself -------------------------------------------------------

  /// Gives short attempts that run the next ones of their place ahead of time, so that no time passes between them, and so
  /// that this process need not wake up for each. Only those whose start is in the journal already, and that need nothing but
  /// their two directories. One after the other to each place, so that they begin about in their order.
  void PlanNext() {
    if (environment_failed || killed || finished) {
      return;
    }
    std::vector<AttemptId> asking;
    asking.swap(without_next);
    for (size_t asked = 0; asked < asking.size(); ++asked) {
      const AttemptId runs = asking[asked];
      auto found = live.find(runs);
      if (found == live.end() || found->second.exit || found->second.judged || !found->second.staging.empty()) {
        continue;
      }
      const int64_t last = last_ms[found->second.instance.job];
      if (last < 0 || last >= kShortMs) {
        continue;
      }
      AttemptId before = runs;
      size_t waiting = 0;
      for (; found->second.next != 0; ++waiting) {
        before = found->second.next;
        found = live.find(before);
      }
      if (waiting > 0 && (waiting >= most_waiting || static_cast<int64_t>(waiting + 1) * (last + 1) > kWaitingMs)) {
        continue;
      }
      bool not_yet = false;
      auto next = scheduler->PlanNext(before, [&](InstanceRef instance) {
        const ir::Job& job = plan.jobs[instance.job];
        if (needs_more[instance.job] || !job.inputs.empty() || !job.secret_files.empty()) {
          return false;
        }
        not_yet = ahead.count(Pack(instance)) == 0;
        return !not_yet;
      }, Now());
      if (!next) {
        if (not_yet) {
          without_next.push_back(runs);  // until its start is in the journal
        }
        continue;
      }
      if (HandOver(*next, before, found->second)) {
        asking.push_back(runs);
        continue;
      }
      if (waiting > 0) {
        most_waiting = waiting;  // there is no place for more
      } else {
        needs_more[next->start.instance.job] = true;
      }
      scheduler->NextRevoked(next->start.id, Now());
    }
  }

  bool HandOver(const Scheduler::Next& next, AttemptId before, Live& one_before) {
    const StartAttempt& start = next.start;
    Backend* backend = one_before.backend;
    std::vector<std::string> unless;
    if (next.blocked_by_results) {
      unless = {one_before.result_path, one_before.launch.places.output_dir + "/smartjob.json"};
    }
    auto places = backend->Prepare(start.id, false);
    if (!places) {
      return false;
    }
    LaunchBuilder::Prepared prepared;
    Live& one = MakeLive(start, backend, *places, prepared);
    if (!prepared.ok || prepared.staged || !backend->SubmitAfter(one.launch, before, unless)) {
      CleanUp(start.id, one, false);
      live.erase(start.id);
      return false;
    }
    one.result_path = std::move(prepared.result_path);
    one.planned_ms = Now();
    one.before = before;
    Live& last = live.at(before);
    last.next = start.id;
    last.results_block_next = next.blocked_by_results;
    if (!uv_is_active(reinterpret_cast<uv_handle_t*>(&next_timer))) {
      uv_timer_start(&next_timer, [](uv_timer_t* handle) { static_cast<Impl*>(handle->data)->TakeBackLate(); }, kShortMs, 0);
    }
    return true;
  }

  void TakeBackLate() {
    bool waiting = false;
    for (auto& [attempt, one] : live) {
      if (one.planned_ms >= 0 && Now() - one.planned_ms >= kShortMs) {
        one.backend->Revoke(attempt);
      }
      waiting = waiting || one.planned_ms >= 0;
    }
    if (waiting) {
      uv_timer_start(&next_timer, [](uv_timer_t* handle) { static_cast<Impl*>(handle->data)->TakeBackLate(); }, kShortMs, 0);
    }
  }

  void CarryOut(RevokeNext& revoke) {
    if (auto found = live.find(revoke.id); found != live.end()) {
      found->second.backend->Revoke(revoke.id);
    }
  }

  void OnRevoked(AttemptId attempt) override {
    auto found = live.find(attempt);
    if (found == live.end()) {
      return;
    }
    if (auto before = live.find(found->second.before); before != live.end()) {
      before->second.next = 0;
    }
    CleanUp(attempt, found->second, false);
    live.erase(found);
    scheduler->NextRevoked(attempt, Now());
  }

  void CarryOut(CancelAttempt& cancel) {
    auto found = live.find(cancel.id);
    if (found == live.end()) {
      return;
    }
    found->second.judged = true;
    if (found->second.laying != nullptr) {
      GiveUpLayingDown(cancel.id, found->second);
      return;
    }
    if (Observed()) {
      RunEvent event = Event(RunEventKind::KillSent, found->second.instance);
      event.attempt = found->second.number;
      event.attempt_id = cancel.id;
      event.text = CancelWhyText(cancel.why);
      pending_events.push_back(std::move(event));
    }
    if (found->second.ticket != 0) {
      remote->Drop(found->second.ticket);
      found->second.ticket = 0;
      OnReaped(cancel.id, 0);
      return;
    }
    if (found->second.parked) {
      OnReaped(cancel.id, 0);
      return;
    }
    found->second.backend->Cancel(cancel.id, cancel.grace_ms);
  }

  void CarryOut(SubmitAgain& again) {
    auto found = live.find(again.id);
    if (found == live.end()) {
      return;
    }
    Live& one = found->second;
    one.parked = false;
    one.launch.submission = again.submission;
    if (Observed()) {
      RunEvent event = Event(RunEventKind::Submitting, one.instance);
      event.attempt = one.number;
      event.attempt_id = again.id;
      pending_events.push_back(std::move(event));
    }
    one.backend->Submit(one.launch);
  }

  void CarryOut(WithdrawAttempt& withdraw) {
    auto found = live.find(withdraw.id);
    if (found == live.end()) {
      return;
    }
    if (found->second.ticket != 0) {
      remote->Drop(found->second.ticket);
    } else if (!found->second.parked && !found->second.backend->Withdraw(withdraw.id)) {
      return;
    }
    scheduler->AttemptWithdrawn(withdraw.id, Now());
    CleanUp(withdraw.id, found->second, false);
    live.erase(found);
  }

  // -- Results that can be used again -------------------------------------------------

  void CarryOut(LookUp& look) {
    if (look_ups.empty()) {
      uv_timer_start(&look_timer, [](uv_timer_t* handle) { static_cast<Impl*>(handle->data)->LookUpSome(); }, 0, 0);
    }
    look_ups.push_back(look.instance);
  }

  /// A slice of what waits, so that a hundred thousand results do not keep the loop from everything else.
  void LookUpSome() {
    const int64_t until = process::MonotonicMillis() + kLookUpSliceMs;
    while (!look_ups.empty() && !finished && !killed) {
      const InstanceRef next = look_ups.front();
      look_ups.pop_front();
      LookUpOne(next);
      if (process::MonotonicMillis() >= until) {
        break;
      }
    }
    Pump();
    if (!look_ups.empty() && !finished && !killed) {
      uv_timer_start(&look_timer, [](uv_timer_t* handle) { static_cast<Impl*>(handle->data)->LookUpSome(); }, 0, 0);
    }
  }

  void LookUpOne(InstanceRef ref) {
    auto no = [&] { scheduler->NotReused(ref, Now()); };
    if (environment_failed || state->state(ref) != InstanceState::Waiting) {
      return no();
    }
    const bool cached = IsCached(ref);
    if (earlier == nullptr && !cached) {
      return no();
    }
    KeyMaker::Made made = keys->Make(*state, ref);
    if (!made.key) {
      return no();
    }
    const std::string address = state->Address(ref);
    std::optional<StoredResult> stored;
    if (earlier != nullptr) {
      stored = earlier->Find(made.key->sha256, address);
    }
    bool from_cache = false;
    if (!stored && cached) {
      stored = ResultCache(setup.options.cache_dir).Find(made.key->sha256);
      from_cache = stored.has_value();
    }
    if (!stored) {
      return no();
    }
    auto work = std::make_unique<FileWork>();
    work->engine = this;
    work->instance = ref;
    work->from_cache = from_cache;
    work->key = *std::move(made.key);
    RunContext context(*state, world.get());
    auto taken = ReadResult(plan, ref.job, *stored, run_dir, "outputs/" + ir::SafeName(address), evaluator, context);
    work->origin = *std::move(stored);
    if (!taken) {
      work->problem = taken.error().message;
      return EndTake(std::move(work));
    }
    work->taken = *std::move(taken);
    if (work->taken->size <= kHashInLoop && !work->taken->has_dirs) {
      work->problem = TakeFiles(work->taken->files, work->taken->target);
      return EndTake(std::move(work));
    }
    FileWork* raw = work.release();
    raw->work.data = raw;
    JOBC_CHECK(uv_queue_work(&loop, &raw->work, [](uv_work_t* request) {
      auto* self = static_cast<FileWork*>(request->data);
      self->problem = TakeFiles(self->taken->files, self->taken->target);
    }, [](uv_work_t* request, int) {
      std::unique_ptr<FileWork> self(static_cast<FileWork*>(request->data));
      Impl* engine = self->engine;
      engine->EndTake(std::move(self));
      engine->Pump();
    }) == 0);
  }

  void EndTake(std::unique_ptr<FileWork> work) {
    if (!journal || finished || killed) {
      return;
    }
    uv_update_time(&loop);
    const InstanceRef ref = work->instance;
    if (!work->problem.empty()) {
      // Of the result cache: nobody asked for this very result. Of a run that was named: why this one runs again is worth a word.
      if (work->from_cache) {
        ResultCache(setup.options.cache_dir).Remove(work->key.sha256);
      } else {
        const std::string text = masker.Mask(fmt::format("{} runs again: {}", state->Address(ref), work->problem));
        const int64_t record = Write({.type = RecordType::Note, .job = static_cast<int32_t>(ref.job), .ordinal = Ordinal(ref), .text = text});
        Warn(text, record);
      }
      scheduler->NotReused(ref, Now());
      return;
    }
    if (state->state(ref) != InstanceState::Waiting) {
      (void)process::RemoveTree(work->taken->target).ok();  // cancelled meanwhile
      scheduler->NotReused(ref, Now());
      return;
    }
    const StoredResult& origin = work->origin;
    WriteSharedParts(ref.job);
    std::string text = KeyJson(work->key);
    text.pop_back();
    text += fmt::format(",\"run\":{},\"address\":{},\"by\":\"{}\"}}", ir::JsonQuote(origin.run), ir::JsonQuote(origin.address), work->from_cache ? "cache" : "resume");
    Write({.type = RecordType::Reused, .job = static_cast<int32_t>(ref.job), .ordinal = Ordinal(ref), .attempt = static_cast<int32_t>(origin.attempts),
           .a = origin.started_ms, .b = origin.ended_ms, .text = std::move(text)});
    TakenResult& taken = *work->taken;
    if (!taken.outputs.empty() || !taken.result.is_null()) {
      StoredOutputs stored{static_cast<int32_t>(ref.job), ref.ordinal, static_cast<int32_t>(origin.attempts), taken.outputs_json.empty() ? "{}" : taken.outputs_json, origin.result, taken.files_json};
      Put(stored);
    }
    for (const ResultFile& file : taken.files) {
      hashes.Put(taken.target + "/" + file.path, file.sha256);
    }
    AttemptResult result;
    result.verdict = Succeeded();
    result.outputs = std::move(taken.outputs);
    result.result = std::move(taken.result);
    result.started_ms = origin.started_ms;
    result.ended_ms = origin.ended_ms;
    ++reused_of[ref.job];
    if (Observed()) {
      origins[Pack(ref)] = origin.run;
    }
    scheduler->Reused(ref, std::move(result), origin.attempts, Now());
  }

  void Put(const StoredOutputs& stored) {
    if (!environment_failed) {
      if (auto put = journal->PutOutputs(stored); !put) {
        CannotWrite(put.error());
      }
    }
  }

  /// Digests of published files, from the journal.
  void RememberHashes(const std::string& files) {
    if (files.empty()) {
      return;
    }
    if (auto json = ir::ParseJson(files); json && json->kind() == ir::ValueKind::Map) {
      for (const auto& [name, sha256] : json->as_map()) {
        std::string path = name.as_string();
        while (path.ends_with('/')) {
          path.pop_back();
        }
        if (sha256.kind() == ir::ValueKind::String) {
          hashes.Put(run_dir + "/" + path, sha256.as_string());
        }
      }
    }
  }

  void CarryOut(EvaluateExports&) {
    RunContext context(*state, world.get());
    std::string json = "{";
    std::optional<Verdict> failure;
    for (size_t i = 0; i < plan.exports.size(); ++i) {
      const ir::Export& one = plan.exports[i];
      std::string text = "null";
      ir::Value value;
      std::string problem;
      if (!evaluator.Evaluate(one.value, context, value)) {
        problem = evaluator.fault().message;
      } else if (plan.program.types.Bare(one.type) != one.type && !value.is_null() && !evaluator.CheckRefinements(value, one.type, one.name, context)) {
        problem = evaluator.fault().message;
      } else if (auto encoded = ir::EncodeJson(value, one.type, plan.program, context)) {
        text = masker.Mask(*encoded);
      } else {
        problem = encoded.error().message;
      }
      if (!problem.empty() && state->status() == RunStatus::Succeeded && !failure) {
        failure = Failed(ir::ErrorKind::Expression, fmt::format("export `{}` failed: {}", one.name, masker.Mask(problem)));
      }
      json += (i == 0 ? "" : ",") + ir::JsonQuote(one.name) + ":" + text;
    }
    json += "}";
    exports_json = json;
    if (!environment_failed && !plan.exports.empty()) {
      if (auto put = journal->PutExports(json); !put) {
        CannotWrite(put.error());
      }
      exports_sum = ChecksumOfExports(json);
    }
    scheduler->ExportsDone(std::move(failure), Now());
  }

  // -- Publishing --------------------------------------------------------------------

  struct PublishSet {
    std::string name;         ///< as the source says
    std::string destination;  ///< absolute, or a URI
    std::vector<PublishItem> items;
    bool prune = false;
  };

  void CarryOut(PublishOutputs&) {
    RunContext context(*state, world.get());
    // Everything is checked before anything is touched.
    auto sets = std::make_shared<std::deque<PublishSet>>();
    const std::string& override = setup.options.publish_to;
    for (const ir::Publish& publish : plan.publishes) {
      PublishSet set{publish.destination, "", {}, publish.prune};
      const std::string& wanted = !override.empty() ? override : publish.destination;
      const bool is_uri = wanted.find("://") != std::string::npos;
      if (is_uri && !wanted.starts_with("s3://")) {
        return scheduler->PublishDone(Failed(ir::ErrorKind::Publish, fmt::format("cannot publish to `{}`: this version of jobc can publish to directories and to `s3://BUCKET/…`; use `--publish-to DIR`", wanted)), Now());
      }
      set.destination = is_uri || wanted.starts_with("/") ? wanted : setup.roots.root + "/" + wanted;
      Result<std::vector<PublishItem>> items = ItemsToPublish(publish, evaluator, context, *world);
      if (!items) {
        return scheduler->PublishDone(Failed(ir::ErrorKind::Publish, items.error().message), Now());
      }
      set.items = *std::move(items);
      for (PublishItem& item : set.items) {
        item.sha256 = item.is_dir ? std::string() : hashes.Known(item.source);
      }
      sets->push_back(std::move(set));
    }
    PublishNext(std::move(sets));
  }

  /// One after the other, and none in the loop: copying and syncing takes as long as the files are large.
  void PublishNext(std::shared_ptr<std::deque<PublishSet>> sets) {
    if (sets->empty()) {
      return scheduler->PublishDone(std::nullopt, Now());
    }
    PublishSet set = std::move(sets->front());
    sets->pop_front();
    auto failed = [this, name = set.name](const std::string& why) {
      scheduler->PublishDone(Failed(ir::ErrorKind::Publish, masker.Mask(fmt::format("publish \"{}\": {}", name, why))), Now());
      Pump();
    };
    auto next = [this, sets] {
      PublishNext(sets);
      Pump();
    };
    if (set.destination.starts_with("s3://")) {
      if (auto opened = OpenRemote(); !opened) {
        return scheduler->PublishDone(Failed(ir::ErrorKind::Publish, fmt::format("publish \"{}\": {}", set.name, opened.error().message)), Now());
      }
      publishing = remote->PublishTo(set.destination, std::move(set.items), set.prune, [this, failed, next](std::optional<RemoteFailure> failure) {
        publishing = 0;
        if (finished || killed) {
          return;
        }
        uv_update_time(&loop);
        failure ? failed(failure->message) : next();
      });
      return;
    }
    struct LocalPublish {
      uv_work_t work{};
      Impl* engine = nullptr;
      PublishSet set;
      std::string run_id;
      Result<void> done;
      std::function<void(const std::string&)> failed;
      std::function<void()> next;
    };
    auto* local = new LocalPublish{{}, this, std::move(set), id, {}, failed, next};
    local->work.data = local;
    JOBC_CHECK(uv_queue_work(&loop, &local->work, [](uv_work_t* work) {
      auto* self = static_cast<LocalPublish*>(work->data);
      self->done = PublishFiles(self->set.destination, self->run_id, std::move(self->set.items), self->set.prune);
    }, [](uv_work_t* work, int) {
      std::unique_ptr<LocalPublish> self(static_cast<LocalPublish*>(work->data));
      Impl* engine = self->engine;
      if (!engine->journal || engine->finished || engine->killed) {
        return;
      }
      uv_update_time(&engine->loop);
      self->done ? self->next() : self->failed(self->done.error().message);
    }) == 0);
  }

  void CarryOut(RunFinished& done) {
    finish = done;
    finished = true;
    RunEvent event = Event(RunEventKind::RunFinished);
    event.run = id;
    event.exit_code = done.exit_code == 0 && setup.options.strict && done.tolerated_failures ? 11 : done.exit_code;
    event.status = RunStatusName(done.status);
    event.record = finished_record;
    event.text = masker.Mask(done.message);
    pending_events.push_back(std::move(event));
    if (!environment_failed) {  // else End() has a last record to write
      EmitPending(true);
    }
  }

  // -- Answers of backends ---------------------------------------------------------

  AttemptResult Answer(Verdict verdict) {
    AttemptResult result;
    verdict.message = masker.Mask(verdict.message);
    result.verdict = std::move(verdict);
    return result;
  }

  void OnSubmitted(AttemptId attempt, const std::string& handle) override {
    if (!Deferred(attempt, [this, attempt, handle] { OnSubmitted(attempt, handle); })) {
      TellAttempt(RunEventKind::Submitted, attempt, masker.Mask(handle));
    }
  }
  void OnPolling(AttemptId attempt) override {
    if (!taking_over) {
      TellAttempt(RunEventKind::Polling, attempt, "");
    }
  }

  void TellAttempt(RunEventKind kind, AttemptId attempt, std::string text) {
    auto found = live.find(attempt);
    if (found == live.end() || !Observed()) {
      return;
    }
    RunEvent event = Event(kind, found->second.instance);
    event.attempt = found->second.number;
    event.attempt_id = attempt;
    event.text = std::move(text);
    pending_events.push_back(std::move(event));
  }

  void OnStarted(AttemptId attempt, int64_t wall_ms, int64_t pid, const std::string& handle) override {
    answered = true;
    auto found = live.find(attempt);
    if (found == live.end() || Deferred(attempt, [=, this] { OnStarted(attempt, wall_ms, pid, handle); })) {
      late_answers += found == live.end() ? 1 : 0;
      return;
    }
    Live& one = found->second;
    if (one.adopted && one.started_ms != 0) {
      return;  // known from before
    }
    one.started_ms = wall_ms;
    JobSpan& span = spans[one.instance.job];
    span.began_ms = span.began_ms == 0 ? wall_ms : std::min(span.began_ms, wall_ms);
    const int64_t record = Write({.type = RecordType::Started, .job = static_cast<int32_t>(one.instance.job), .ordinal = Ordinal(one.instance), .attempt = static_cast<int32_t>(one.number),
           .a = pid, .b = wall_ms, .text = handle});
    scheduler->AttemptStarted(attempt, Now(), one.adopted ? std::max<int64_t>(0, process::WallMillis() - wall_ms) : 0);
    if (Observed()) {
      RunEvent event = Event(RunEventKind::Started, one.instance);
      event.record = record;
      event.attempt = one.number;
      event.attempt_id = attempt;
      event.pid = pid;
      pending_events.push_back(std::move(event));
    }
  }

  void OnCollecting(AttemptId attempt) override {
    answered = true;
    if (live.contains(attempt) && !Deferred(attempt, [=, this] { OnCollecting(attempt); })) scheduler->AttemptExited(attempt, Now());
  }

  void OnExited(AttemptId attempt, const AttemptExit& exit) override {
    answered = true;
    auto found = live.find(attempt);
    if (found == live.end() || Deferred(attempt, [=, this] { OnExited(attempt, exit); })) {
      late_answers += found == live.end() ? 1 : 0;
      return;
    }
    found->second.exit = exit;
    int64_t& ended_ms = spans[found->second.instance.job].ended_ms;
    ended_ms = std::max(ended_ms, exit.wall_ms);
    last_ms[found->second.instance.job] = exit.wall_ms - found->second.started_ms;
    scheduler->AttemptExited(attempt, Now());
  }

  void OnFailed(AttemptId attempt, Verdict verdict) override {
    auto found = live.find(attempt);
    late_answers += found == live.end() ? 1 : 0;
    if (found != live.end() && !Deferred(attempt, [=, this] { OnFailed(attempt, verdict); })) {
      found->second.failed = std::move(verdict);
    }
  }

  void OnReaped(AttemptId attempt, AttemptId next) override {
    answered = true;
    auto found = live.find(attempt);
    if (found == live.end()) {
      ++late_answers;
      return;
    }
    Live& one = found->second;
    if (taking_over) {
      if (auto left = left_behind.find(attempt); left != left_behind.end() && !left->second.wanted) {
        if (!left->second.judged) {  // before its place forgets it
          JudgeLeftBehind(left->second, "jobc ended while it ran, and it could not be taken over");
          Commit();
        }
        Forget(left->second);
        ending -= ending > 0 ? 1 : 0;
        EndTakingOver();
      } else {
        deferred.push_back([this, attempt, next] { OnReaped(attempt, next); });
      }
      return;
    }
    if (!one.judged && one.failed && one.started_ms == 0) {
      one.failed->message = masker.Mask(one.failed->message);
      if (scheduler->SubmitFailed(attempt, *one.failed, Now())) {
        one.failed.reset();
        one.parked = true;
        return;
      }
    }
    one.no_result = next != 0 && one.results_block_next;
    one.began_next = next;
    EndOne(attempt, one);  // at once: only attempts without outputs have a next one
    if (next != 0) {
      Pump();  // what begins now has its intent in the journal before it says that it has started
    }
  }

  void EndOne(AttemptId attempt, Live& one) {
    if (one.judged) {
      // What people ended is over at once; of what was too slow they want to see how far it came.
      const bool slow = one.verdict != nullptr && (one.verdict->kind == ir::ErrorKind::Timeout || one.verdict->kind == ir::ErrorKind::IdleTimeout);
      return slow ? LayDownAndEnd(attempt, one, std::nullopt) : EndReaped(attempt, one, false);
    }
    AttemptResult result = Judge(attempt, one);
    if (!result.verdict.success) {
      Trace(attempt, one);
    }
    uint64_t size = 0;
    bool has_dirs = false;
    for (const ResultFile& file : one.captured) {
      size += file.size;
      has_dirs = has_dirs || file.is_dir;
    }
    if (one.collected != nullptr) {
      for (const CapturedFile& file : one.collected->files) {
        has_dirs = has_dirs || file.is_dir || file.copy;
      }
    }
    if (!result.verdict.success || (size <= kHashInLoop && !has_dirs)) {
      if (result.verdict.success && one.collected != nullptr) {
        if (auto published = PublishCaptured(*one.collected, one.collect); !published) {
          NotKept(attempt, one, result, published.error().message);
        }
      }
      HashFiles(one.captured);
      return LayDownAndEnd(attempt, one, std::move(result));
    }
    // Large outputs: the loop goes on meanwhile; whatever needs this instance waits.
    scheduler->AttemptCollecting(attempt, Now());
    auto work = std::make_unique<FileWork>();
    work->engine = this;
    work->attempt = attempt;
    work->files = std::move(one.captured);
    work->collected = std::move(one.collected);
    work->collect = one.collect;
    work->result = std::move(result);
    FileWork* raw = work.release();
    raw->work.data = raw;
    JOBC_CHECK(uv_queue_work(&loop, &raw->work, [](uv_work_t* request) {
      auto* self = static_cast<FileWork*>(request->data);
      if (self->collected != nullptr) {
        if (auto published = PublishCaptured(*self->collected, self->collect); !published) {
          self->problem = published.error().message;
          return;
        }
      }
      HashFiles(self->files);
    }, [](uv_work_t* request, int) {
      std::unique_ptr<FileWork> self(static_cast<FileWork*>(request->data));
      Impl* engine = self->engine;
      auto live_attempt = engine->live.find(self->attempt);
      if (!engine->journal || engine->finished || engine->killed || live_attempt == engine->live.end()) {
        return;
      }
      uv_update_time(&engine->loop);
      Live& hashed = live_attempt->second;
      if (hashed.judged) {
        engine->EndReaped(self->attempt, hashed, false);  // cancelled meanwhile
      } else {
        hashed.captured = std::move(self->files);
        if (!self->problem.empty()) {
          engine->NotKept(self->attempt, hashed, self->result, self->problem);
        }
        engine->LayDownAndEnd(self->attempt, hashed, std::move(self->result));
      }
      engine->Pump();
    }) == 0);
  }

  void NotKept(AttemptId attempt, Live& one, AttemptResult& result, const std::string& why, ir::ErrorKind kind = ir::ErrorKind::Staging, bool no_retry = false) {
    Verdict verdict = Failed(kind, masker.Mask("the outputs could not be kept: " + why));
    verdict.no_retry = no_retry;
    verdict.exit_code = one.exit->exit_code;
    verdict.signal = one.exit->signal;
    result.verdict = std::move(verdict);
    result.outputs.clear();
    result.result = ir::Value();
    one.captured.clear();
    Trace(attempt, one);
  }

  static void HashFiles(std::vector<ResultFile>& files) {
    for (ResultFile& file : files) {
      auto digest = file.is_dir ? Sha256OfTree(file.source) : Sha256OfFile(file.source);
      if (digest) {
        file.sha256 = digest->sha256;
      }
    }
  }

  // -- What stays at `staging` --------------------------------------------------------

  /// Runs `work` beside the loop, then `then` in it, if the run goes on.
  void Beside(std::function<void()> work, std::function<void()> then) {
    struct Request {
      uv_work_t request{};
      Impl* engine = nullptr;
      std::function<void()> work, then;
    };
    auto* request = new Request{{}, this, std::move(work), std::move(then)};
    request->request.data = request;
    JOBC_CHECK(uv_queue_work(&loop, &request->request, [](uv_work_t* raw) { static_cast<Request*>(raw->data)->work(); }, [](uv_work_t* raw, int) {
      std::unique_ptr<Request> self(static_cast<Request*>(raw->data));
      Impl* engine = self->engine;
      if (!engine->journal || engine->finished || engine->killed) {
        return;
      }
      uv_update_time(&engine->loop);
      self->then();
      engine->Pump();
    }) == 0);
  }

  static std::string UtcText(int64_t wall_ms) {
    const time_t seconds = static_cast<time_t>(wall_ms / 1000);
    tm parts{};
    gmtime_r(&seconds, &parts);
    char text[40];
    return std::string(text, std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts)) + fmt::format(".{:03}Z", wall_ms % 1000);
  }

  /// Everything that lies here now, as the manifest will name it. `result`: nothing where the scheduler has judged already.
  StagingRequest WhatToStage(AttemptId attempt, Live& one, const AttemptResult* result) {
    StagingRequest request;
    request.base = one.staging;
    const ir::Job& job = plan.jobs[one.instance.job];
    auto about = [&](const char* name, std::string json) { request.about.emplace_back(name, std::move(json)); };
    auto text = [&](std::string_view value) { return ir::JsonQuote(masker.Mask(value)); };
    about("run", ir::JsonQuote(id));
    about("execution_id", ir::JsonQuote(one.launch.execution_id));
    about("address", text(one.launch.address));
    about("attempt", std::to_string(one.number));
    about("backend", ir::JsonQuote(ir::BackendName(job.backend.kind)));
    if (!one.launch.image.empty()) {
      about("image", text(one.launch.image));
    }
    std::string command = "[";
    for (const std::string& word : one.launch.argv) {
      command += (command.size() > 1 ? "," : "") + text(word);
    }
    about("command", command + "]");
    about("started", ir::JsonQuote(UtcText(one.started_ms)));
    if (one.exit) {
      about("ended", ir::JsonQuote(UtcText(one.exit->wall_ms)));
    }
    const Verdict* verdict = result != nullptr ? &result->verdict : one.verdict.get();
    if (verdict != nullptr) {
      about("success", verdict->success ? "true" : "false");
      if (!verdict->success) {
        about("kind", ir::JsonQuote(ir::KindName(verdict->kind)));
        about("message", text(verdict->message));
      }
      if (verdict->exit_code) {
        about("exit_code", std::to_string(*verdict->exit_code));
      }
      if (verdict->signal) {
        about("signal", std::to_string(*verdict->signal));
      }
    }
    const AttemptPlaces& places = one.launch.places;
    auto inputs = job.inputs.empty() && !places.seen ? std::optional<std::string>("{}\n") : process::ReadFile(places.stage_dir + "/in/inputs.json");
    if (inputs) {
      request.texts.emplace_back("input/inputs.json", *std::move(inputs));
    }
    request.scripts_dir = one.scripts_dir;
    for (const GivenFile& given : one.given) {
      StagedSource source;
      source.path = "input/files/" + given.place;
      source.source = given.original;
      source.is_dir = given.is_dir;
      if (given.file.base == ir::FileBase::Uri) {
        // What follows a question mark may be a signature, which is as good as a password.
        const std::string& uri = given.file.path;
        source.uri = uri.starts_with("s3://") ? uri : uri.substr(0, uri.find('?'));
        if (const ir::FileRow* row = world->NamedRow(uri)) {
          source.etag = row->etag;
          source.version = row->version;
        }
      } else if (!given.is_dir) {
        source.sha256 = hashes.Known(given.original);
      }
      request.sources.push_back(std::move(source));
    }
    if (result != nullptr && result->verdict.success) {
      const std::string below = one.collect.place + "/";
      ir::ListValue outputs = result->outputs;
      for (size_t i = 0; i < outputs.size() && i < job.outputs.size(); ++i) {
        outputs[i] = MapOutputFiles(plan, outputs[i], job.outputs[i].type, [&](ir::FileValue& file) {
          if (file.base == ir::FileBase::Job && file.path.starts_with(below)) {
            file.path = "files/" + file.path.substr(below.size());
          }
        });
      }
      if (auto encoded = outputs.empty() ? Result<std::string>("{}") : EncodeOutputs(plan, one.instance.job, outputs)) {
        request.texts.emplace_back("output/outputs.json", *encoded + "\n");
      }
      if (!one.stored.result.empty()) {
        request.texts.emplace_back("output/result.json", one.stored.result + "\n");
      }
      for (const ResultFile& file : one.captured) {
        request.sources.push_back({"output/files/" + file.path, file.source, file.is_dir, file.is_dir ? std::string() : file.sha256, "", "", ""});
      }
    }
    request.attempt = attempt;
    const process::LogReader* reader = Reader();
    uint64_t logged = 0;
    for (process::LogStream stream : {process::LogStream::kStdout, process::LogStream::kStderr}) {
      logged += reader != nullptr ? reader->Totals(attempt, stream).total_bytes : 0;
    }
    if (logged > kHashInLoop) {
      request.logs_dir = run_dir;
      request.scratch_dir = fmt::format("{}/laying/{}", run_dir, one.launch.execution_id);
    } else {
      for (process::LogStream stream : {process::LogStream::kStdout, process::LogStream::kStderr}) {
        std::string kept;
        if (reader != nullptr) {
          (void)reader->ForEach(attempt, stream, 0, [&](const process::LogReader::Chunk& chunk) {
            kept.append(chunk.bytes);
            return true;
          }).ok();
        }
        request.texts.emplace_back(stream == process::LogStream::kStdout ? "output/stdout.log" : "output/stderr.log", std::move(kept));
      }
    }
    return request;
  }

  /// Before the verdict `result` is told, or, without one, before an attempt that was judged is reaped.
  void LayDownAndEnd(AttemptId attempt, Live& one, std::optional<AttemptResult> result) {
    if (one.staging.empty() || one.started_ms == 0) {
      return result ? EndJudged(attempt, one, *std::move(result)) : EndReaped(attempt, one, false);
    }
    auto laying = std::make_shared<LayDown>();
    laying->attempt = attempt;
    laying->request = WhatToStage(attempt, one, result ? &*result : nullptr);
    laying->scratch_dir = laying->request.scratch_dir;
    laying->limit_ms = one.launch.timeouts.collect.value_or(kDefaultPhaseMs);
    one.laying = laying;
    if (result && result->verdict.success) {
      scheduler->AttemptCollecting(attempt, Now());
    } else {
      // Its verdict stands: too late is no other failure then.
      laying->timer = new uv_timer_t;
      uv_timer_init(&loop, laying->timer);
      laying->timer->data = new std::function<void()>([this, weak = std::weak_ptr<LayDown>(laying)] {
        auto found = weak.lock();
        if (found == nullptr || finished || killed) {
          return;
        }
        found->late = true;
        found->stop = true;
        if (found->ticket != 0) {
          remote->Drop(found->ticket);
          EndLayingDown(found, Failed(ir::ErrorKind::Staging, ""));
          Pump();
        }
      });
      uv_timer_start(laying->timer, [](uv_timer_t* timer) { (*static_cast<std::function<void()>*>(timer->data))(); }, static_cast<uint64_t>(laying->limit_ms), 0);
    }
    laying->result = std::move(result);
    Beside([laying, shown = masker] {
      auto set = GatherStaged(laying->request, shown, laying->stop);
      if (set) {
        laying->set = *std::move(set);
      } else {
        laying->problem = set.error().message;
      }
    }, [this, laying] { Gathered(laying); });
  }

  /// What an earlier attempt of the run has laid down at the same place is not brought there again.
  static std::string ContentKey(std::string_view base, const StagedFile& file) {
    for (int above = 0; above < 4; ++above) {
      base = base.substr(0, base.rfind('/'));  // execution id, time, date, name
    }
    return fmt::format("{} {}{}", base, file.sha256, file.executable ? "x" : "");
  }

  void Gathered(std::shared_ptr<LayDown> laying) {
    if (!laying->problem.empty() || laying->stop) {
      return EndLayingDown(laying, Failed(ir::ErrorKind::Staging, laying->problem));
    }
    for (StagedFile& file : laying->set.files) {
      if (!file.withheld.empty() && file.withheld.find("secret") != std::string::npos) {
        WarnAndRecord(fmt::format("`{}` is not staged: it holds a secret", file.path), laying->attempt);
      }
      if (auto found = !file.source.empty() && file.size > 0 ? laid_down.find(ContentKey(laying->set.base, file)) : laid_down.end(); found != laid_down.end()) {
        file.at = found->second;
      }
    }
    if (!laying->set.base.starts_with("s3://")) {
      return Beside([laying] {
        if (auto done = LayDownStaged(laying->set, laying->stop); !done) {
          laying->problem = done.error().message;
        }
      }, [this, laying] { EndLayingDown(laying, laying->problem.empty() ? std::optional<Verdict>() : Failed(ir::ErrorKind::Staging, laying->problem)); });
    }
    if (auto opened = OpenRemote(); !opened) {
      return EndLayingDown(laying, Failed(ir::ErrorKind::Staging, opened.error().message));
    }
    laying->ticket = remote->StageTo(laying->set, [this, laying](std::optional<RemoteFailure> failure) {
      if (finished || killed || laying->stop) {
        return;
      }
      uv_update_time(&loop);
      std::optional<Verdict> verdict;
      if (failure) {
        verdict = Failed(failure->kind, failure->message);
        verdict->no_retry = failure->no_retry;
      }
      EndLayingDown(laying, std::move(verdict));
      Pump();
    });
  }

  void EndLayingDown(std::shared_ptr<LayDown> laying, std::optional<Verdict> failure) {
    if (laying->timer != nullptr) {
      uv_close(reinterpret_cast<uv_handle_t*>(std::exchange(laying->timer, nullptr)), FreeTimer);
    }
    auto found = live.find(laying->attempt);
    if (found == live.end() || found->second.laying != laying) {
      return;
    }
    Live& one = found->second;
    one.laying.reset();
    if (!failure) {
      for (const StagedFile& file : laying->set.files) {
        if (!file.source.empty() && file.size > 0) {
          laid_down.try_emplace(ContentKey(laying->set.base, file), laying->set.base + "/" + file.path);
        }
      }
    } else if (laying->late || !laying->stop) {
      const std::string why = masker.Mask(laying->late ? fmt::format("it was not done after {}; give it longer with `timeout {{ collect = … }}`", ir::DurationText(laying->limit_ms)) : failure->message);
      if (!one.judged && laying->result && laying->result->verdict.success) {
        NotKept(laying->attempt, one, *laying->result, fmt::format("`{}`: {}", one.staging, why), failure->kind, failure->no_retry);
      } else {
        WarnAndRecord(fmt::format("what it left is not at its `staging`: {}", why), laying->attempt);
      }
    }
    if (one.judged) {
      return EndReaped(laying->attempt, one, false);
    }
    EndJudged(laying->attempt, one, *std::move(laying->result));
  }

  static void FreeTimer(uv_handle_t* handle) {
    delete static_cast<std::function<void()>*>(handle->data);
    delete reinterpret_cast<uv_timer_t*>(handle);
  }

  /// It was cancelled, or `timeout.collect` ended: the scheduler has its verdict.
  void GiveUpLayingDown(AttemptId attempt, Live& one) {
    std::shared_ptr<LayDown> laying = one.laying;
    laying->stop = true;
    if (laying->ticket != 0) {
      remote->Drop(laying->ticket);
      one.judged = true;
      EndLayingDown(laying, Failed(ir::ErrorKind::Cancelled, "it was given up"));
    }  // else the thread ends soon
  }

  void WarnAndRecord(const std::string& text, AttemptId attempt) {
    auto found = live.find(attempt);
    const std::string whole = masker.Mask(found == live.end() ? text : fmt::format("{}: {}", found->second.launch.address, text));
    const int64_t record = Write({.type = RecordType::Note, .text = whole});
    Warn(whole, record);
  }

  /// The verdict is known, and so is what was captured: journaled, and kept for other runs.
  void EndJudged(AttemptId attempt, Live& one, AttemptResult result) {
    const bool success = result.verdict.success;
    if (success && one.has_outputs) {
      // What could not be read has no digest and is never used again.
      std::erase_if(one.captured, [](const ResultFile& file) { return file.sha256.empty(); });
      for (const ResultFile& file : one.captured) {
        hashes.Put(file.source, file.sha256);
      }
      one.stored.files = FilesJson(one.captured, "outputs/" + ir::SafeName(one.launch.address));
      Put(one.stored);
      outputs_sums[attempt] = ChecksumOf(one.stored);
    }
    if (success && !one.cache_key.empty()) {
      StoredResult kept;
      kept.base_dir = run_dir;
      kept.outputs = one.stored.outputs;
      kept.result = one.stored.result;
      kept.files = one.stored.files;
      kept.run = id;
      kept.address = one.launch.address;
      kept.attempts = one.number;
      kept.started_ms = result.started_ms;
      kept.ended_ms = result.ended_ms;
      if (auto put = ResultCache(setup.options.cache_dir).Put(one.cache_key, kept); !put && !cache_failed) {
        cache_failed = true;
        Warn("results of `cache = true` cannot be kept for other runs: " + put.error().message);
      }
      // Linking changed the times of the files.
      for (const ResultFile& file : one.captured) {
        hashes.Put(file.source, file.sha256);
      }
    }
    scheduler->AttemptEnded(attempt, std::move(result), Now());
    EndReaped(attempt, one, success);
  }

  void EndReaped(AttemptId attempt, Live& one, bool success) {
    ReapedAttempt gone;
    gone.attempt = attempt;
    Record& record = gone.record;
    record = {.type = RecordType::Reaped, .job = static_cast<int32_t>(one.instance.job), .ordinal = Ordinal(one.instance), .attempt = static_cast<int32_t>(one.number)};
    record.time_ms = process::WallMillis();
    if (one.exit) {
      record.a = one.exit->usage.cpu_ms;
      record.b = one.exit->usage.max_memory;
      record.text = std::to_string(one.exit->wall_ms);
      gone.duration_ms = one.exit->wall_ms - one.started_ms;
      CountEnd(gone.duration_ms);
    }
    if (Observed()) {
      RunEvent event = Event(RunEventKind::Reaped, one.instance);
      event.attempt = one.number;
      event.attempt_id = attempt;
      gone.event = std::move(event);
    }
    const bool keep = !success && !one.holds_secret;
    const bool later = one.prepared && OutlivesJobc(KindOf(plan.jobs[one.instance.job]));
    if (later) {
      gone.settling = Settling{attempt, one.backend, keep, one.staged && !keep ? one.launch.places.stage_dir : ""};
    }
    reaped.push_back(std::move(gone));  // written after the verdict, which Pump() writes
    scheduler->AttemptReaped(attempt, Now(), one.began_next);
    if (!success) {
      DropSecretResult(one);
    }
    if (!later) {
      CleanUp(attempt, one, keep);
    }
    live.erase(attempt);
  }

  void OnNote(ir::BackendKind kind, std::string message) override {
    answered = true;
    message = masker.Mask(fmt::format("{}: {}", ir::BackendName(kind), message));
    RunEvent event = Event(RunEventKind::Note);
    event.record = Write({.type = RecordType::Note, .a = kNoteOfProgress, .text = message});
    event.text = std::move(message);
    pending_events.push_back(std::move(event));
  }

  void OnWarning(ir::BackendKind kind, std::string message) override {
    answered = true;
    message = masker.Mask(fmt::format("{}: {}", ir::BackendName(kind), message));
    const int64_t record = Write({.type = RecordType::Note, .text = message});
    Warn(std::move(message), record);
  }

  void OnUnavailable(ir::BackendKind kind, std::string message) override {
    answered = true;
    Warn(fmt::format("backend {}: {}", ir::BackendName(kind), message));
    scheduler->BackendUnavailable(std::move(message), Now());
  }

  /// The result of a failed attempt is kept to be looked at, but not if a secret was written there.
  void DropSecretResult(Live& one) {
    if (masker.empty() || one.holds_secret || one.result_path.empty()) {
      return;
    }
    for (const std::string& path : {one.result_path, one.launch.places.output_dir + "/smartjob.json"}) {
      struct stat info;
      if (lstat(path.c_str(), &info) != 0 || !S_ISREG(info.st_mode)) {
        continue;
      }
      auto text = info.st_size <= static_cast<int64_t>(ir::kMaxResultBytes) ? process::ReadFile(path) : std::nullopt;
      if ((!text || masker.Contains(*text)) && unlink(path.c_str()) == 0) {
        Warn(fmt::format("{}: its JSON result is not kept: it {}", one.launch.address, text ? "contains a secret" : "is too large to be searched for secrets"));
      }
    }
  }

  void CleanUp(AttemptId attempt, Live& one, bool keep) {
    if (!one.prepared) {
      return;
    }
    if (one.staged && !keep) {
      one.backend->RemoveLater(one.launch.places.stage_dir);
    }
    one.backend->Release(attempt, keep);
  }

  /// What an attempt that is over means: its outputs if it succeeded.
  AttemptResult Judge(AttemptId attempt, Live& one) {
    AttemptResult result;
    result.started_ms = one.started_ms;
    if (one.exit) {
      result.ended_ms = one.exit->wall_ms;
      result.usage = one.exit->usage;
    }
    if (one.failed) {
      result.verdict = *one.failed;
    } else if (!one.exit) {
      result.verdict = Failed(ir::ErrorKind::Internal, "the backend gave no answer");
    } else if (one.exit->out_of_memory) {
      result.verdict = Failed(ir::ErrorKind::Oom, one.launch.resources.memory
                                                      ? fmt::format("the kernel killed it at its memory limit of {}", ir::BytesForPeople(*one.launch.resources.memory))
                                                      : std::string("the kernel killed it because memory ran out"));
      result.verdict.exit_code = one.exit->exit_code;
      result.verdict.signal = one.exit->signal;
    } else {
      Logs logs(*this, attempt);
      AttemptFacts facts;
      facts.exit_code = one.exit->exit_code;
      facts.signal = one.exit->signal;
      facts.logs = &logs;
      const ir::Job& job = plan.jobs[one.instance.job];
      result.verdict = Resolve(facts, job.errors);
      if (result.verdict.success) {
        Collect(attempt, one, logs, result);
      }
    }
    result.verdict.message = masker.Mask(result.verdict.message);
    return result;
  }

  void Collect(AttemptId attempt, Live& one, Logs& logs, AttemptResult& result) {
    std::optional<int> exit_code = one.exit->exit_code;
    if (!exit_code && one.exit->signal) {
      exit_code = 128 + *one.exit->signal;
    }
    auto fail = [&](Verdict verdict) {
      verdict.exit_code = one.exit->exit_code;
      verdict.signal = one.exit->signal;
      result.verdict = std::move(verdict);
    };
    if (auto changed = ChangedInput(one.identities)) {
      Verdict verdict = Failed(ir::ErrorKind::Staging, *changed);
      verdict.no_retry = true;
      fail(std::move(verdict));
      return;
    }
    one.context->SetEnded(&logs, exit_code);
    CollectRequest request;
    request.output_dir = one.launch.places.output_dir;
    request.seen_dir = one.launch.places.seen ? one.launch.places.seen->output_dir : "";
    request.result_path = one.result_path;
    request.no_result = one.no_result;
    request.run_dir = run_dir;
    request.place = "outputs/" + ir::SafeName(one.launch.address);
    Collected collected = CollectOutputs(plan, one.instance.job, request, evaluator, *one.context, masker);
    for (const std::string& note : collected.notes) {
      Warn(masker.Mask(one.launch.address + ": " + note));
    }
    if (!collected.verdict.success) {
      one.holds_secret = collected.holds_secret;
      fail(std::move(collected.verdict));
      return;
    }
    if (!collected.outputs.empty() || !collected.result.is_null()) {
      StoredOutputs& stored = one.stored;
      stored.job = static_cast<int32_t>(one.instance.job);
      stored.ordinal = one.instance.ordinal;
      stored.attempt = static_cast<int32_t>(one.number);
      auto encoded = EncodeOutputs(plan, one.instance.job, collected.outputs);
      if (!encoded) {
        fail(Failed(ir::ErrorKind::Schema, encoded.error().message));
        return;
      }
      stored.outputs = *std::move(encoded);
      if (!collected.result.is_null()) {
        stored.result = ir::JsonText(collected.result);
      }
      one.has_outputs = true;
      one.captured = FilesOf(collected.outputs);
    }
    result.verdict = Succeeded();
    result.verdict.exit_code = one.exit->exit_code;
    result.outputs = std::move(collected.outputs);
    result.result = std::move(collected.result);
    one.collect = std::move(request);
    one.collected = std::make_shared<Collected>(std::move(collected));
  }

  // -- Logs ----------------------------------------------------------------------

  /// Everything that was written so far; null if it cannot be read.
  const process::LogReader* Reader() {
    log->Flush();
    if (!log_reader) {
      auto opened = process::LogReader::Open(run_dir);
      if (!opened) {
        return nullptr;
      }
      log_reader.emplace(*std::move(opened));
    } else if (!log_reader->Refresh().ok()) {
      return nullptr;
    }
    return &*log_reader;
  }

  bool SearchLog(AttemptId attempt, process::LogStream stream, const std::string& pattern) {
    const process::LogReader* reader = Reader();
    if (reader == nullptr) {
      return false;
    }
    LineSearch search(pattern);
    (void)reader->ForEach(attempt, stream, 0, [&](const process::LogReader::Chunk& chunk) { return !search.Add(chunk.bytes); }).ok();
    return search.Finish();
  }

  void Trace(AttemptId attempt, Live& one) {
    if (!Observed() || traces.count(attempt) != 0) {
      return;
    }
    FailureTrace trace;
    trace.id = attempt;
    trace.staged = one.started_ms != 0 ? one.staging : std::string();
    trace.script = ReproduceScript(one.launch, plan.jobs[one.instance.job], plan.program.types, masker);
    if (const process::LogReader* reader = Reader()) {
      if (auto tail = reader->Tail(attempt, process::LogStream::kStderr, kStderrLines, 64 << 10)) {
        trace.stderr_tail = *std::move(tail);
      }
    }
    if (one.started_ms != 0) {
      trace.elapsed_ms = (one.exit ? one.exit->wall_ms : process::WallMillis()) - one.started_ms;
    }
    traces.emplace(attempt, std::move(trace));
  }

  // -- For people ------------------------------------------------------------------

  void Notify(const InstanceChanged& change, int64_t record) {
    if (!Observed()) {
      return;
    }
    RunEventKind kind;
    switch (change.to) {
      case InstanceState::Ready:
        if (change.from != InstanceState::Waiting) {
          return;
        }
        kind = RunEventKind::Queued;
        break;
      case InstanceState::Succeeded: kind = RunEventKind::Succeeded; break;
      case InstanceState::Failed: kind = RunEventKind::Failed; break;
      case InstanceState::Skipped: kind = RunEventKind::Skipped; break;
      case InstanceState::Blocked: kind = RunEventKind::Blocked; break;
      case InstanceState::Cancelled: kind = RunEventKind::Cancelled; break;
      default: return;
    }
    RunEvent event = Event(kind, change.first);
    event.record = record;
    event.count = change.count;
    event.attempt_id = change.attempt;
    event.verdict = change.verdict;
    if (change.first.ordinal != kWholeJob && change.count == 1) {
      event.attempt = state->attempts(change.first);
      InstanceTimes times = state->times(change.first);
      if (times.started_ms != 0 && times.ended_ms >= times.started_ms && IsFinal(change.to)) {
        event.duration_ms = times.ended_ms - times.started_ms;
      } else if (auto one = live.find(change.attempt); IsFinal(change.to) && one != live.end() && one->second.started_ms != 0) {
        // Judged by jobc while it ran: as long as `attempt_ended` says.
        event.duration_ms = (one->second.exit ? one->second.exit->wall_ms : event.time_ms) - one->second.started_ms;
      }
    }
    if (change.verdict != nullptr && change.to != InstanceState::Failed) {
      event.text = masker.Mask(change.verdict->message);
    }
    if (auto origin = origins.find(Pack(change.first)); origin != origins.end() && change.first.ordinal != kWholeJob) {
      event.reused_from = std::move(origin->second);
      for (uint32_t i = 0; i < change.count; ++i) {
        origins.erase(Pack({change.first.job, change.first.ordinal + i}));
      }
    }
    const ir::Job& job = plan.jobs[change.first.job];
    event.tolerated = change.to == InstanceState::Failed && (job.kind == ir::JobKind::Hook || (job.on_error == ir::Strategy::Ignore && job.kind == ir::JobKind::Job));
    if (change.to == InstanceState::Failed && change.verdict != nullptr) {
      pending_reports.push_back(Report(change, event));
    }
    pending_events.push_back(std::move(event));
  }

  /// The command that runs it; empty if it cannot be written, which is no harm.
  std::string WriteScript(AttemptId attempt, const std::string& text) {
    constexpr uint32_t kMostScripts = 1000;  // nobody looks at more of them
    const std::string path = fmt::format("{}/reproduce/{}.sh", run_dir, attempt);
    if (scripts_written >= kMostScripts || !process::MakeDirectories(run_dir + "/reproduce")) {
      return "";
    }
    process::UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700));
    if (!fd || write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
      return "";
    }
    ++scripts_written;
    return "sh " + ShellQuote(path);
  }

  FailureReport Report(const InstanceChanged& change, const RunEvent& event) {
    const ir::Job& job = plan.jobs[change.first.job];
    FailureReport report;
    report.address = event.address;
    report.kind = ir::KindName(change.verdict->kind);
    report.error_name = change.verdict->name;
    report.code = change.verdict->code;
    const std::string& title = change.verdict->title;
    const std::string& message = change.verdict->message;
    report.message = masker.Mask(title.empty() || message.starts_with(title) ? message : message.empty() ? title : title + "\n" + message);
    report.exit_code = change.verdict->exit_code;
    report.signal = change.verdict->signal;
    report.attempts = event.attempt;
    report.max_attempts = static_cast<uint32_t>(job.retry.max_attempts);
    report.tolerated = event.tolerated;
    report.backend = job.kind == ir::JobKind::Check ? "" : std::string(ir::BackendName(job.backend.kind));
    if (job.at.source < plan.sources.size()) {
      report.declared_at = fmt::format("{}:{}:{}", plan.sources[job.at.source].name, job.at.line, job.at.column);
    }
    if (auto trace = traces.find(change.attempt); trace != traces.end()) {
      report.elapsed_ms = trace->second.elapsed_ms;
      report.reproduce_command = trace->second.script.empty() ? std::string() : WriteScript(trace->second.id, trace->second.script);
      report.staged = std::move(trace->second.staged);
      std::string_view tail = trace->second.stderr_tail;
      while (!tail.empty()) {
        size_t end = std::min(tail.find('\n'), tail.size());
        report.stderr_lines.emplace_back(tail.substr(0, end));
        tail.remove_prefix(std::min(end + 1, tail.size()));
      }
      report.stderr_total_lines = report.stderr_lines.size();
      report.logs_command = fmt::format("jobc logs {} {}", id, ShellQuote(event.address));
      failing_lines[change.first.job] = report.stderr_lines;
      traces.erase(trace);
    }
    return report;
  }

  RunProgress Progress() const {
    RunProgress out;
    out.name = setup.options.name.empty() ? id : setup.options.name;
    switch (current_phase) {
      case RunPhase::Publish: out.state = "publishing"; break;
      case RunPhase::Finally: out.state = "finally"; break;
      default:
        out.state = scheduler->mode() == ir::Strategy::Halt ? "halting" : scheduler->mode() == ir::Strategy::Drain ? "draining" : "running";
        break;
    }
    if (finished) {
      out.state = RunStatusName(finish.status);
    }
    out.elapsed_ms = (end_ms != 0 ? end_ms : process::MonotonicMillis()) - begin_ms;
    std::vector<size_t> shown(plan.jobs.size());  // place of its row, from 1 on
    for (uint32_t i = 0; i < plan.jobs.size(); ++i) {
      const ir::Job& job = plan.jobs[i];
      if (job.kind == ir::JobKind::Hook) {
        continue;
      }
      JobProgress row;
      row.name = job.address;
      row.waiting = state->count(i, InstanceState::Waiting);
      row.queued = state->count(i, InstanceState::Ready);
      row.running = state->count(i, InstanceState::Running);
      row.retrying = state->count(i, InstanceState::Backoff);
      row.succeeded = state->count(i, InstanceState::Succeeded);
      if (auto reused = reused_of.find(i); reused != reused_of.end()) {
        row.cached = reused->second;
      }
      row.failed = state->count(i, InstanceState::Failed);
      row.tolerated = job.on_error == ir::Strategy::Ignore ? row.failed : 0;
      row.skipped = state->count(i, InstanceState::Skipped);
      row.blocked = state->count(i, InstanceState::Blocked);
      row.cancelled = state->count(i, InstanceState::Cancelled);
      row.scatter = !job.domain.single();
      row.expanded = state->expanded(i);
      if (auto lines = failing_lines.find(i); lines != failing_lines.end() && row.tolerated == 0) {
        row.failing_lines = lines->second;
      }
      if (const JobSpan& span = spans[i]; span.began_ms != 0) {
        const int64_t until = row.running > 0 || row.retrying > 0 ? process::WallMillis() : span.ended_ms;
        row.elapsed_ms = std::max<int64_t>(0, until - span.began_ms);
      }
      out.jobs.push_back(std::move(row));
      shown[i] = out.jobs.size();
    }
    for (const auto& [attempt, one] : live) {
      const uint32_t job = one.instance.job;
      if (one.number > 1 && one.started_ms != 0 && shown[job] != 0 && !out.jobs[shown[job] - 1].scatter) {
        const int64_t most = plan.jobs[job].retry.max_attempts;
        out.jobs[shown[job] - 1].note = fmt::format("attempt {}{}", one.number, one.number <= most ? fmt::format(" of {}", most) : "");
      }
    }
    return out;
  }

  void Interrupt(const std::string& who) {
    ++interrupts;
    uv_update_time(&loop);
    bool at_once = interrupts > 1;
    const int64_t record = Write({.type = RecordType::Stop, .a = interrupts, .text = who});
    if (begun) {
      scheduler->CancelRun(at_once, fmt::format("interrupted by {}", who), Now());
    }
    if (at_once) {
      killed = true;
      killed_by = who;
      uv_stop(&loop);
      return;
    }
    Warn(StopText(who), record);
    std::vector<AttemptId> laid;
    for (const auto& [attempt, one] : live) {
      if (one.laying != nullptr && one.judged) {
        laid.push_back(attempt);
      }
    }
    for (AttemptId attempt : laid) {
      if (auto found = live.find(attempt); found != live.end() && found->second.laying != nullptr) {
        GiveUpLayingDown(attempt, found->second);
      }
    }
    if (publishing != 0) {
      remote->Drop(publishing);
      publishing = 0;
      scheduler->PublishDone(Failed(ir::ErrorKind::Publish, "interrupted; what was written stays, the manifest there is still the old one"), Now());
    }
    Pump();
  }

  // -- Other processes ---------------------------------------------------------------

  CancelAnswer Cancel(const CancelRequest& request, const std::string& who) override {
    CancelAnswer answer;
    if (finished || killed) {
      answer.error = "the run is at its end";
      return answer;
    }
    if (!begun && !request.run) {
      answer.error = "the run is being taken over; try again in a moment";
      return answer;
    }
    uv_update_time(&loop);
    if (request.run) {
      answer.stopping = interrupts > 0;
      answer.cancelled = 1;
      if (request.at_once) {
        interrupts = std::max(interrupts, 1);
        Interrupt(who);
      } else if (interrupts == 0) {
        Interrupt(who);
      }
      Commit();
      return answer;
    }
    for (const CancelTarget& target : request.targets) {
      if (target.job >= plan.jobs.size() || plan.jobs[target.job].kind == ir::JobKind::Hook) {
        answer.error = "only jobs of the run and their instances can be cancelled, hooks cannot";
        return answer;
      }
      if (target.ordinal >= 0 && (!state->expanded(target.job) || target.ordinal >= static_cast<int64_t>(state->size(target.job)))) {
        answer.error = fmt::format("{} has no such instance", plan.jobs[target.job].address);
        return answer;
      }
    }
    for (const CancelTarget& target : request.targets) {
      const std::string reason = "cancelled by " + who;
      if (target.ordinal < 0) {
        answer.cancelled += state->all_final(target.job) ? 0 : 1;
        scheduler->CancelJob(target.job, reason, Now());
      } else {
        const InstanceRef instance{target.job, static_cast<uint32_t>(target.ordinal)};
        answer.cancelled += IsFinal(state->state(instance)) ? 0 : 1;
        scheduler->CancelInstance(instance, reason, Now());
      }
    }
    Pump();
    FlushLog();
    Commit();
    return answer;
  }

  EngineSetup setup;
  const ir::Plan& plan;
  std::string id;
  std::string run_dir;
  int64_t created_ms = 0;
  int64_t begin_ms = 0;
  int64_t end_ms = 0;
  Capacity capacity;
  std::optional<RunLock> lock;
  std::optional<Journal> journal;
  std::unique_ptr<process::LogWriter> log;
  std::optional<process::LogReader> log_reader;
  Masker masker;
  std::unique_ptr<World> world;
  std::unique_ptr<RunState> state;
  ir::Evaluator evaluator;
  ir::Evaluator input_evaluator;
  ir::Evaluator path_evaluator;
  std::unique_ptr<LaunchBuilder> builder;
  FileHashes hashes;
  std::unique_ptr<KeyMaker> keys;
  std::vector<bool> shared_parts_written;                     ///< by job: its Key record
  std::unordered_map<AttemptId, std::string> cache_keys;      ///< of attempts about to start whose results are kept
  std::unordered_map<AttemptId, std::string> changed_inputs;  ///< why they cannot start
  std::unique_ptr<EarlierRun> earlier;                        ///< null without `--resume`
  std::unordered_map<uint32_t, uint64_t> reused_of;           ///< by job: instances that did not run
  std::unordered_map<uint64_t, std::string> origins;          ///< packed instances to the run of their result, until it is told
  bool cache_failed = false;
  std::unique_ptr<Scheduler> scheduler;
  std::unique_ptr<ControlServer> control;  ///< null before Run() and where there can be none

  uv_loop_t loop{};
  bool loop_open = false;
  bool handles_open = false;
  uv_timer_t deadline{};
  uv_timer_t commit_timer{};
  uint32_t ends = 0;   ///< of short attempts since the timer of commits last went off
  bool busy = false;   ///< many before that
  uv_timer_t next_timer{};             ///< for attempts that wait in vain for the one before them
  uv_work_t sync_work{};
  bool syncing = false;                ///< a thread waits for the disk
  Journal::Sync sync;
  int sync_result = 0;
  std::vector<uint64_t> sync_ahead;    ///< may start once that is done
  size_t sync_events = 0;              ///< of the pending ones, those that it makes durable
  size_t sync_settling = 0;            ///< of those that settle
  size_t sync_reports = 0;
  uv_timer_t tick_timer{};
  uv_timer_t look_timer{};
  std::deque<InstanceRef> look_ups;    ///< whether there is a result already
  uv_check_t check{};
  uv_prepare_t prepare{};
  bool answered = false;               ///< a backend said something since the last Pump()
  std::array<uv_signal_t, 3> signals{};

  std::array<std::unique_ptr<Backend>, ir::kBackendKinds> backends;
  std::unique_ptr<RemoteFiles> remote;  ///< null until something remote is needed
  RemoteFiles::Ticket publishing = 0;   ///< what PublishTo() is under way; 0: none
  std::unordered_map<AttemptId, Live> live;
  std::unordered_map<AttemptId, FailureTrace> traces;
  std::unordered_map<uint32_t, std::vector<std::string>> failing_lines;
  std::unordered_set<uint64_t> ahead;  ///< packed instances that may start without a commit
  std::vector<AttemptId> without_next; ///< begun since, to be given a next one
  uint32_t scripts_written = 0;        ///< to reproduce failures
  uint64_t late_answers = 0;           ///< about attempts that are gone; those about others the scheduler counts
  uint64_t late_written = 0;           ///< of both, those that are in the journal
  size_t most_waiting = kMostWaiting;  ///< attempts that are handed over to one place ahead of time
  std::vector<int64_t> last_ms;        ///< by job: how long its last attempt ran; -1: not known
  std::unordered_map<std::string, std::string> laid_down;  ///< where a content was laid down by this process, by ContentKey()
  std::vector<char> needs_more;        ///< by job: its attempts cannot be handed over ahead of time
  std::vector<RunEvent> pending_events;
  std::vector<FailureReport> pending_reports;
  std::shared_ptr<const Verdict> last_judged;  ///< of the last AttemptJudged; the change it causes comes right after
  std::vector<ReapedAttempt> reaped;
  std::vector<Settling> settling;      ///< their records are written, and not known to be durable
  /// Instances that became ready together and may not have started yet, by the first one (Pack()).
  struct Ready {
    uint64_t count = 1;
    int64_t since_ms = 0;
  };
  std::map<uint64_t, Ready> ready_together;
  /// From the first program of a job that started to the last that ended in this process, wall clock; 0: none.
  struct JobSpan {
    int64_t began_ms = 0, ended_ms = 0;
  };
  std::vector<JobSpan> spans{std::vector<JobSpan>(plan.jobs.size())};
  std::unordered_map<uint64_t, int64_t> ready_alone;  ///< wall clock
  std::unordered_map<AttemptId, int64_t> intent_records;  ///< numbers of the records of what is about to be carried out
  int64_t opened_record = 0;
  int64_t finished_record = 0;
  std::unordered_map<AttemptId, int64_t> outputs_sums;  ///< of rows whose verdict is not journaled yet
  std::optional<int64_t> exports_sum;
  std::vector<std::string> notes;      ///< of the time before the run went on
  std::unordered_map<AttemptId, Taking> taking;
  std::map<AttemptId, LeftBehind> left_behind;  ///< until all of them are taken over or gone
  size_t unanswered = 0;               ///< places that were asked for one of them
  size_t ending = 0;                   ///< of them, those that must not go on and are not reaped
  std::vector<std::function<void()>> deferred;  ///< what backends said of them meanwhile
  std::string unreachable;             ///< why they could not be asked for
  bool taking_over = false;
  bool begun = false;                  ///< the scheduler has
  std::string exports_json;
  RunPhase current_phase = RunPhase::New;
  RunFinished finish;
  int interrupts = 0;
  bool pumping = false;
  bool finished = false;
  bool killed = false;
  std::string killed_by;               ///< who asked for that
  bool environment_failed = false;
  std::string environment_message;
  int environment_code = 0;            ///< an errno value
};

Engine::Engine(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Engine::~Engine() = default;

std::unique_ptr<Engine> Engine::Start(EngineSetup setup, StartFailure& failure) {
  auto impl = std::make_unique<Impl>(std::move(setup));
  if (!impl->Open(failure)) {
    // A run that never began leaves nothing behind.
    std::string run_dir = impl->run_dir;
    impl.reset();
    if (!run_dir.empty()) {
      (void)process::RemoveTree(run_dir).ok();
    }
    return nullptr;
  }
  return std::unique_ptr<Engine>(new Engine(std::move(impl)));
}

std::unique_ptr<Engine> Engine::Resume(EngineSetup setup, const std::string& id, const ResumeOptions& resume, StartFailure& failure) {
  auto impl = std::make_unique<Impl>(std::move(setup));
  if (!impl->OpenAgain(id, resume, failure)) {
    return nullptr;
  }
  return std::unique_ptr<Engine>(new Engine(std::move(impl)));
}

RunOutcome Engine::Run() { return impl_->Run(); }
const std::string& Engine::run_id() const { return impl_->id; }
const std::string& Engine::run_dir() const { return impl_->run_dir; }
RunProgress Engine::Progress() const { return impl_->Progress(); }
std::vector<std::string> Engine::NotAdopted() const {
  std::vector<std::string> out;
  for (const Adoptable& one : impl_->setup.adopt) {
    out.push_back(one.origin.ExecutionId());
  }
  return out;
}
void Engine::Interrupt(const std::string& who) { impl_->Interrupt(who); }
const RunState& Engine::state() const { return *impl_->state; }
Scheduler::Counters Engine::counters() const { return impl_->scheduler->counters(); }

}  // namespace jobc
