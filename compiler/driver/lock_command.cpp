#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "compiler/check/check.h"
#include "compiler/driver/https.h"
#include "compiler/driver/load.h"
#include "compiler/driver/report.h"
#include "compiler/lock/lock.h"
#include "compiler/parse/parse.h"
#include "support/exit_code.h"
#include "support/sha256.h"

namespace jobc {
namespace {

namespace fs = std::filesystem;

/// The text of a string without interpolations.
std::optional<std::string> Plain(const ast::File& file, ast::ExprId id) {
  if (!id.valid() || file[id].kind != ast::ExprKind::String) return std::nullopt;
  std::string text;
  for (uint32_t i = 0; i < file[id].parts.size; ++i) {
    const ast::Part& part = file.parts[file[id].parts.begin + i];
    if (part.expr.valid()) return std::nullopt;
    text += part.text;
  }
  return text;
}

struct Change {
  std::string address;
  std::string what;   ///< added, fetched, updated, removed, missing, changed, unused
};

/// One lock file and the sources that it is for.
class Locker {
 public:
  Locker(std::string directory, const Invocation& invocation, Terminal& terminal)
      : path_(directory.empty() ? std::string(kLockName) : directory + "/" + std::string(kLockName)),
        check_(invocation.Has("--check")), terminal_(terminal) {
    for (std::string_view name : invocation.Values("--update")) updates_.insert(std::string(name));
  }

  /// Follows the imports of a source. `root`: their faults have been told by the check.
  void Follow(SourceId source, SourceManager& sources, const std::string& address) {
    Diagnostics faults;
    const ast::File file = Parse(source, sources, faults);
    for (const ast::ItemId* id = file.begin(file.root); id != file.end(file.root); ++id) {
      const ast::Item& item = file[*id];
      if (item.kind != ast::ItemKind::Import) continue;
      std::optional<std::string> path = Plain(file, item.value);
      if (!path || path->starts_with("std/")) continue;
      if (!address.empty() || IsRemote(*path)) {
        std::optional<std::string> remote = address.empty() ? ResolveRemote(*path, *path) : ResolveRemote(address, *path);
        if (!remote) {
          Fail(fmt::format("cannot import \"{}\"{}: only https addresses can be locked", *path, address.empty() ? "" : fmt::format(" in \"{}\"", address)));
          continue;
        }
        Remote(*remote, std::string(item.name.text), sources);
        continue;
      }
      const fs::path full = (*path)[0] == '/' ? fs::path(*path) : fs::path(sources[source].directory) / *path;
      std::error_code error;
      if (!seen_.insert(fs::weakly_canonical(full, error).string()).second) continue;
      // What is wrong with a local file is for the check to say.
      if (Result<SourceId> local = sources.Load(full.string()); local.ok()) Follow(*local, sources, "");
    }
  }

  bool Open() {
    Result<Lock> lock = ReadLock(path_);
    if (!lock.ok()) {
      Fail(lock.error().message);
      return false;
    }
    lock_ = *lock;
    return true;
  }

  void Finish(bool all) {
    if (all) {
      for (auto it = lock_.begin(); it != lock_.end();) {
        if (used_.count(it->first) != 0) {
          ++it;
          continue;
        }
        Tell(it->first, check_ ? "unused" : "removed");
        it = lock_.erase(it);
      }
    }
    for (const std::string& name : updates_) {
      if (name == "all" || updated_.count(name) != 0) continue;
      std::vector<std::string_view> names(names_.begin(), names_.end());
      const std::string_view like = DidYouMean(name, names);
      Fail(fmt::format("nothing imports `{}`{}", name, like.empty() ? "" : fmt::format("; did you mean `{}`?", like)));
    }
    if (failed_ || check_ || !dirty_) return;
    if (Result<void> written = WriteFileAtomically(path_, LockText(lock_)); !written.ok()) {
      Fail(written.error().message);
      environment_ = true;
    }
  }

  const std::vector<Change>& changes() const { return changes_; }
  const std::string& path() const { return path_; }
  size_t used() const { return used_.size(); }
  int code() const { return environment_ ? kExitEnvironment : failed_ ? kExitDiagnostics : check_ && !changes_.empty() ? kExitFindings : kExitOk; }

 private:
  /// `code`: of the diagnostic that it is, if it is one.
  void Fail(const std::string& message, std::string_view code = "") {
    failed_ = true;
    if (code.empty()) {
      terminal_.Err(fmt::format("error: {}\n", message));
    } else {
      terminal_.Err(fmt::format("error[{}]: {}\n  note: `jobc explain {}`\n", code, message, code));
    }
  }

  void Tell(const std::string& address, std::string what) {
    changes_.push_back({address, std::move(what)});
    dirty_ = true;
  }

  bool WantsUpdate(const std::string& address, const std::string& name) {
    names_.insert(address);
    names_.insert(name);
    bool wanted = updates_.count("all") != 0;
    for (const std::string& each : {address, name}) {
      if (updates_.count(each) == 0) continue;
      updated_.insert(each);
      wanted = true;
    }
    return wanted;
  }

  void Remote(const std::string& address, const std::string& name, SourceManager& sources) {
    const bool update = WantsUpdate(address, name);
    if (!used_.insert(address).second) return;
    const auto locked = lock_.find(address);
    std::string text;
    const Cached cached = locked == lock_.end() ? Cached::Missing : ReadCachedImport(locked->second, text);
    if (check_) {
      if (locked == lock_.end()) {
        Tell(address, "missing");
        return;
      }
      // Not in the cache of this machine: what it imports itself is not known, but that is no fault of the lock.
      if (cached != Cached::Found) return;
    } else if (locked == lock_.end() || cached != Cached::Found || update) {
      Result<std::string> fetched = FetchHttps(address, kMaxRemoteBytes);
      if (!fetched.ok()) {
        Fail(fmt::format("cannot fetch \"{}\": {}", address, fetched.error().message));
        return;
      }
      const LockEntry entry{Sha256Hex(*fetched), fetched->size()};
      if (locked != lock_.end() && locked->second.sha256 != entry.sha256 && !update) {
        Fail(fmt::format("\"{}\" is no longer what is locked\n  locked: sha256 {}, {} bytes\n  there:  sha256 {}, {} bytes\n"
                         "  help: look at what has changed; if it is meant, type:  jobc lock --update {}",
                         address, locked->second.sha256, locked->second.size, entry.sha256, entry.size, name),
             diag::LockDiffers.kind.code);
        return;
      }
      Diagnostics faults;
      (void)Parse(sources.Add(address, *fetched, address), sources, faults);
      if (faults.has_errors()) {
        const Diagnostic& first = faults.all().front();
        const LineColumn at = sources.Locate(first.primary.span.source, first.primary.span.begin);
        Fail(fmt::format("what \"{}\" gives is no .job file: line {}: {}", address, at.line, first.message));
        return;
      }
      if (Result<void> kept = WriteCachedImport(entry, *fetched); !kept.ok()) {
        Fail(kept.error().message);
        environment_ = true;
        return;
      }
      if (locked == lock_.end()) Tell(address, "added");
      else if (locked->second.sha256 != entry.sha256) Tell(address, "updated");
      else changes_.push_back({address, update ? "unchanged" : "fetched"});
      lock_[address] = entry;
      text = std::move(*fetched);
    }
    const SourceId source = sources.Add(address, std::move(text), address);
    Follow(source, sources, address);
  }

  std::string path_;
  bool check_;
  Terminal& terminal_;
  std::set<std::string> updates_, updated_, names_;
  Lock lock_;
  std::set<std::string> used_, seen_;
  std::vector<Change> changes_;
  bool dirty_ = false;
  bool failed_ = false;
  bool environment_ = false;
};

}  // namespace

int RunLock(const Invocation& invocation, Terminal& terminal) {
  std::vector<std::string> files = invocation.arguments();
  const bool all = files.empty();
  if (all) files = FilesIn(".", ".job");
  if (files.empty()) {
    terminal.Err(RenderUsageError({"there is no .job file in the working directory", {"name a file:  jobc lock FILE"}}, terminal.err_color()));
    return kExitUsage;
  }
  // A lock lies beside the roots it is for.
  std::map<std::string, std::vector<SourceId>> roots;
  SourceManager sources;
  for (const std::string& file : files) {
    LoadedRoot root = LoadRoot(file, sources);
    if (root.error) {
      terminal.Err(RenderUsageError(*root.error, terminal.err_color()));
      return kExitUsage;
    }
    Diagnostics faults;
    (void)Parse(*root.source, sources, faults);
    if (faults.has_errors()) return ReportDiagnostics(invocation, terminal, sources, faults);
    roots[sources[*root.source].directory].push_back(*root.source);
  }
  int code = kExitOk;
  nlohmann::ordered_json changes = nlohmann::ordered_json::array();
  for (const auto& [directory, list] : roots) {
    Locker locker(directory, invocation, terminal);
    if (locker.Open()) {
      for (SourceId root : list) locker.Follow(root, sources, "");
      locker.Finish(all);
    }
    code = std::max(code, locker.code());
    for (const Change& change : locker.changes()) {
      changes.push_back({{"lock", locker.path()}, {"import", change.address}, {"change", change.what}});
      if (!invocation.json()) terminal.Err(fmt::format("{}: {} {}\n", locker.path(), change.what, change.address));
    }
    if (locker.code() == kExitOk && locker.changes().empty() && !invocation.json()) {
      terminal.Err(locker.used() == 0 ? "nothing to lock: no https imports\n" : fmt::format("{}: up to date\n", locker.path()));
    }
    if (locker.code() == kExitFindings) terminal.Err(fmt::format("{}: not up to date; type:  jobc lock\n", locker.path()));
  }
  if (invocation.json()) {
    nlohmann::ordered_json json = {{"schema", "jobc.lock-changes/1"}, {"changes", std::move(changes)}};
    terminal.Out(json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
  }
  return code;
}

}  // namespace jobc
