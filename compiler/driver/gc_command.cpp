// `jobc gc`: what runs left behind. Nothing of a run that a process executes is ever touched: its lock is looked at first, and
// taken while something of it is removed.
#include <dirent.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <optional>
#include <set>

#include "backends/docker/leftovers.h"
#include "compiler/driver/commands.h"
#include "compiler/driver/runs.h"
#include "ir/evaluate.h"
#include "ir/json.h"
#include "runtime/backend.h"
#include "runtime/process/guardian.h"
#include "runtime/process/os.h"
#include "runtime/reuse.h"
#include "runtime/run_reader.h"
#include "runtime/staged.h"
#include "runtime/state_dir.h"
#include "storage/remote_store.h"
#include "support/exit_code.h"

namespace jobc {
namespace {

constexpr int64_t kDayMs = 24 * 3600'000;

/// Bytes on the disk of a tree, each file with several names once; links are not followed.
uint64_t SizeOnDisk(const std::string& path, std::set<std::pair<dev_t, ino_t>>& seen) {
  struct stat info;
  if (lstat(path.c_str(), &info) != 0) return 0;
  uint64_t size = info.st_nlink > 1 && !S_ISDIR(info.st_mode) && !seen.emplace(info.st_dev, info.st_ino).second ? 0 : static_cast<uint64_t>(info.st_blocks) * 512;
  if (S_ISDIR(info.st_mode)) {
    if (DIR* dir = opendir(path.c_str())) {
      while (dirent* entry = readdir(dir)) {
        if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0) size += SizeOnDisk(path + "/" + entry->d_name, seen);
      }
      closedir(dir);
    }
  }
  return size;
}

std::vector<std::string> Entries(const std::string& path) {
  std::vector<std::string> names;
  if (DIR* dir = opendir(path.c_str())) {
    while (dirent* entry = readdir(dir)) {
      if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
    }
    closedir(dir);
  }
  std::sort(names.begin(), names.end());
  return names;
}

class Collector {
 public:
  Collector(const Invocation& invocation, Terminal& terminal, std::string state_dir)
      : terminal_(terminal), state_dir_(std::move(state_dir)), dry_(invocation.Has("--dry-run")), json_(invocation.json()),
        older_(invocation.Milliseconds("--older-than")), cache_(invocation.Has("--cache")), now_(process::WallMillis()) {}

  int Run() {
    Result<std::vector<std::string>> ids = ReadRunIds(state_dir_);
    if (!ids.ok()) return FailCommand(terminal_, StateExitCode(ids.error()), ids.error().message);
    for (const std::string& id : *ids) LookAt(id);
    // Before their runs go: a container writes into directories of its run.
    for (ir::BackendKind kind : {ir::BackendKind::Docker, ir::BackendKind::Podman}) Containers(kind);
    for (auto& [id, run] : runs_) Directories(id, run);
    Store();
    if (cache_) Cache();
    Tell();
    return failed_ ? kExitEnvironment : kExitOk;
  }

 private:
  struct RunFacts {
    bool live = false;         ///< a process executes it
    bool finished = false;
    bool unreadable = false;   ///< nobody knows what it is: left alone
    int64_t since_ms = 0;      ///< its end, or its last record
    std::optional<int64_t> keep_ms;
    std::vector<std::pair<std::string, std::string>> staged;  ///< address and base of what its attempts laid down at `staging`
  };
  struct Item {
    std::string kind, run, what;
    uint64_t bytes = 0;
  };

  void LookAt(const std::string& id) {
    RunFacts& run = runs_[id];
    const std::string dir = RunDir(state_dir_, id);
    run.live = RunLock::Holder(dir).has_value();
    struct stat info;
    if (stat((dir + "/journal.db").c_str(), &info) != 0) {
      // It never began; whoever makes a run takes its lock a moment later.
      run.finished = stat(dir.c_str(), &info) == 0 && now_ - info.st_mtime * 1000 > 3600'000;
      run.unreadable = !run.finished;
      run.since_ms = info.st_mtime * 1000;
      run.keep_ms = 0;
      return;
    }
    auto reader = RunReader::OpenUnread(state_dir_, id);
    if (!reader.ok()) {
      run.unreadable = true;
      terminal_.Err(fmt::format("warning: the run {} is left as it is: {}\n", id, reader.error().message));
      return;
    }
    if (const std::string used = UsedRun((*reader)->header()); !used.empty()) heirs_[used].push_back(id);
    const RunSummary& summary = (*reader)->summary();
    run.finished = summary.finished;
    run.keep_ms = (*reader)->plan().limits.keep_ms;
    run.since_ms = summary.finished ? summary.ended_ms : std::max<int64_t>(summary.created_ms, info.st_mtime * 1000);
    if (struct stat wal; !summary.finished && stat((dir + "/journal.db-wal").c_str(), &wal) == 0) run.since_ms = std::max<int64_t>(run.since_ms, wal.st_mtime * 1000);
    // What it laid down elsewhere goes with it, and before it: only its journal knows of that.
    if (Expired(run) && std::any_of((*reader)->plan().jobs.begin(), (*reader)->plan().jobs.end(), [](const ir::Job& job) { return job.staging.valid(); })) {
      if (auto read = (*reader)->Refresh(); !read.ok()) {
        run.unreadable = true;
        terminal_.Err(fmt::format("warning: the run {} is left as it is: {}\n", id, read.error().message));
        return;
      }
      for (const auto& [key, base] : (*reader)->staged()) {
        const bool whole = key[1] < 0 || static_cast<uint64_t>(key[1]) >= (*reader)->size(static_cast<uint32_t>(key[0]));
        run.staged.emplace_back((*reader)->Address({static_cast<uint32_t>(key[0]), whole ? kWholeJob : static_cast<uint32_t>(key[1])}), base);
      }
    }
    // Engines that its jobs name themselves.
    for (const docker::EngineName& engine : docker::EnginesOf((*reader)->plan())) engines_[engine.kind].insert({engine.host, engine.context});
  }

  int64_t Age(const RunFacts& run) const { return now_ - run.since_ms; }
  /// Whether containers of a run may be taken over: by a resume of it, or of one that used its results and took them over.
  bool MayGoOn(const std::string& id, int depth = 0) const {
    constexpr int kMostDepth = 50;
    auto run = runs_.find(id);
    if (run == runs_.end()) return false;
    if (run->second.live || run->second.unreadable) return true;
    // An heir that came to its end has ended what it was given.
    if (Age(run->second) < LeftoverAge() && (depth == 0 || !run->second.finished)) return true;
    auto heirs = heirs_.find(id);
    return heirs != heirs_.end() && depth < kMostDepth && std::any_of(heirs->second.begin(), heirs->second.end(), [&](const std::string& heir) { return MayGoOn(heir, depth + 1); });
  }
  /// Leftovers of attempts are for people to look at for a while, and resume takes containers over.
  int64_t LeftoverAge() const { return older_.value_or(kDayMs); }
  bool Expired(const RunFacts& run) const {
    if (run.live || run.unreadable || !run.finished) return false;
    return older_ ? Age(run) >= *older_ : run.keep_ms && Age(run) >= *run.keep_ms;
  }

  void Containers(ir::BackendKind kind) {
    std::set<std::pair<std::string, std::string>>& engines = engines_[kind];
    const bool named = !engines.empty();
    engines.insert({"", ""});
    std::set<std::string> asked;
    for (const auto& [host, context] : engines) {
      auto endpoint = endpoints_.Open(kind, host, context);
      if (!endpoint.ok()) {
        if (named) terminal_.Err(fmt::format("warning: containers cannot be asked for: {}\n", endpoint.error().message));
        continue;
      }
      if (!asked.insert(endpoint->text).second) continue;
      auto found = docker::ListLeftovers(*endpoint, state_dir_);
      if (!found.ok()) {
        // Only who ever had containers wants to know that nobody answers.
        if (named) terminal_.Err(fmt::format("warning: {} cannot be asked for containers: {}\n", endpoint->text, found.error().message));
        continue;
      }
      for (const docker::Leftover& one : *found) {
        auto run = runs_.find(one.run);
        // Of a run whose directory is gone nothing can be taken over.
        const bool known = run != runs_.end();
        if (known && MayGoOn(one.run)) continue;
        if (!known && RunLock::Holder(RunDir(state_dir_, one.run))) continue;
        if (!known && now_ - one.created_ms < std::min<int64_t>(LeftoverAge(), 3600'000)) continue;
        if (!dry_) {
          std::optional<class RunLock> lock;  // not the command of this name
          if (known) {
            auto taken = RunLock::Take(RunDir(state_dir_, one.run));
            if (!taken.ok()) continue;  // somebody goes on with it just now
            lock.emplace(*std::move(taken));
          }
          if (auto removed = docker::RemoveLeftover(*endpoint, one); !removed.ok()) {
            Fail(fmt::format("the container {} of the run {} cannot be removed: {}", one.id.substr(0, 12), one.run, removed.error().message));
            continue;
          }
        }
        items_.push_back({"container", one.run, fmt::format("{} {} ({})", ir::BackendName(kind), one.instance.empty() ? one.attempt : one.instance, one.status), 0});
      }
    }
  }

  void Directories(const std::string& id, const RunFacts& run) {
    if (run.live || run.unreadable) return;
    const std::string dir = RunDir(state_dir_, id);
    if (Expired(run)) {
      // Taken until it is gone: nobody resumes it meanwhile.
      std::optional<class RunLock> lock;
      if (!dry_) {
        auto taken = RunLock::Take(dir);
        if (!taken.ok()) return;  // somebody goes on with it just now
        lock.emplace(*std::move(taken));
      }
      if (Staged(id, run)) Remove({"run", id, "journal, logs, results", 0}, dir, "");
      return;
    }
    if (!run.finished || Age(run) < LeftoverAge()) return;
    for (const char* name : {"attempts", "work", "tmp", "stage", "no-input", "reproduce"}) {
      const std::string path = dir + "/" + name;
      struct stat info;
      if (lstat(path.c_str(), &info) == 0) Remove({"attempts", id, name, 0}, path, dir);
    }
  }

  /// False: something is still there, so that its journal must stay.
  bool Staged(const std::string& id, const RunFacts& run) {
    bool all = true;
    std::vector<storage::StagedRemoval> places;
    for (const auto& [address, base] : run.staged) {
      if (base.starts_with("s3://")) places.push_back({base, base.substr(base.rfind('/') + 1)});
    }
    storage::RemoveStagedObjects(places, dry_);
    size_t next = 0;
    for (const auto& [address, base] : run.staged) {
      storage::StagedRemoval one{base, base.substr(base.rfind('/') + 1)};
      if (base.starts_with("s3://")) {
        one = std::move(places[next++]);
      } else if (Result<bool> removed = RemoveStaged(base, one.execution_id, dry_, one.bytes); removed.ok()) {
        one.there = *removed;
      } else {
        one.problem = removed.error().message;
      }
      if (!one.problem.empty()) {
        Fail(fmt::format("what {} of the run {} left at its `staging` cannot be removed, so the run stays: {}", address, id, one.problem));
        all = false;
      } else if (one.there) {
        items_.push_back({"staged", id, base, one.bytes});
      }
    }
    return all;
  }

  /// What was fetched for inputs; other runs of this state directory use it again.
  void Store() {
    if (std::any_of(runs_.begin(), runs_.end(), [](const auto& run) { return run.second.live; })) return;
    const std::string store = state_dir_ + "/store";
    std::vector<std::pair<std::string, std::string>> files;  // name for people, path
    for (const std::string& part : Entries(store + "/content")) {
      for (const std::string& name : Entries(store + "/content/" + part)) files.emplace_back(name, store + "/content/" + part + "/" + name);
    }
    for (const char* kind : {"known", "part", "tree"}) {
      for (const std::string& name : Entries(store + "/" + kind)) files.emplace_back(std::string(kind) + " " + name, store + "/" + kind + "/" + name);
    }
    const int64_t limit = older_.value_or(30 * kDayMs);
    for (const auto& [name, path] : files) {
      struct stat info;
      if (lstat(path.c_str(), &info) == 0 && now_ - std::max({info.st_atime, info.st_mtime, info.st_ctime}) * 1000 >= limit) Remove({"store", "", name.substr(0, 22), 0}, path, "");
    }
  }

  /// Results of `cache = true`, of all state directories of this user.
  void Cache() {
    const std::string dir = ResultCache::DefaultDir() + "/results-1";
    const int64_t limit = older_.value_or(30 * kDayMs);
    for (const std::string& part : Entries(dir)) {
      for (const std::string& key : Entries(dir + "/" + part)) {
        const std::string path = dir + "/" + part + "/" + key;
        struct stat info;
        if (stat((path + "/entry.json").c_str(), &info) != 0) continue;
        const int64_t used = std::max<int64_t>(info.st_mtime, info.st_atime) * 1000;
        if (now_ - used >= limit) Remove({"cache", "", key.substr(0, 16), 0}, path, "");
      }
    }
  }

  void Remove(Item item, const std::string& path, const std::string& run_dir) {
    item.bytes = SizeOnDisk(path, seen_);
    if (!dry_) {
      std::optional<class RunLock> lock;  // not the command of this name
      if (!run_dir.empty()) {
        auto taken = RunLock::Take(run_dir);
        if (!taken.ok()) return;  // somebody goes on with it just now
        lock.emplace(*std::move(taken));
      }
      if (auto removed = process::RemoveTree(path); !removed.ok()) {
        Fail(removed.error().message);
        return;
      }
    }
    items_.push_back(std::move(item));
  }

  void Fail(const std::string& message) {
    failed_ = true;
    terminal_.Err(fmt::format("error: {}\n", message));
  }

  void Tell() {
    uint64_t bytes = 0;
    for (const Item& item : items_) bytes += item.bytes;
    if (json_) {
      std::string text = fmt::format("{{\"bytes\":{},\"dry_run\":{},\"removed\":[", bytes, dry_);
      for (size_t i = 0; i < items_.size(); ++i) {
        const Item& item = items_[i];
        text += fmt::format("{}{{\"bytes\":{},\"kind\":\"{}\",\"run\":{},\"what\":{}}}", i > 0 ? "," : "", item.bytes, item.kind, item.run.empty() ? "null" : ir::JsonQuote(item.run), ir::JsonQuote(item.what));
      }
      terminal_.Out(text + "],\"schema\":\"jobc.gc/1\"}\n");
      return;
    }
    for (const Item& item : items_) {
      terminal_.Out(fmt::format("{:<9}  {:<20}  {:>10}  {}\n", item.kind, item.run, item.kind == "container" ? "" : ir::BytesForPeople(static_cast<int64_t>(item.bytes)), item.what));
    }
    if (items_.empty()) {
      terminal_.Out("nothing to remove\n");
    } else {
      terminal_.Out(fmt::format("{} {}{}\n", dry_ ? "would free" : "freed", ir::BytesForPeople(static_cast<int64_t>(bytes)), dry_ ? "; nothing was touched" : ""));
    }
  }

  Terminal& terminal_;
  std::string state_dir_;
  bool dry_, json_;
  std::optional<int64_t> older_;
  bool cache_;
  int64_t now_;
  std::map<std::string, RunFacts> runs_;
  std::map<std::string, std::vector<std::string>> heirs_;  ///< runs that were begun with the results of one
  std::map<ir::BackendKind, std::set<std::pair<std::string, std::string>>> engines_;
  docker::Endpoints endpoints_;
  std::set<std::pair<dev_t, ino_t>> seen_;
  std::vector<Item> items_;
  bool failed_ = false;
};

}  // namespace

int RunGc(const Invocation& invocation, Terminal& terminal) {
  Result<std::string> state = FindStateDir(WorkingDirectory(), std::string(invocation.ValueOr("--state", "")));
  if (!state.ok()) return FailCommand(terminal, StateExitCode(state.error()), state.error().message);
  process::CleanUpStale(*state);
  return Collector(invocation, terminal, *state).Run();
}

}  // namespace jobc
