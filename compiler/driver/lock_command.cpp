#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "backends/docker/registry_client.h"
#include "compiler/check/check.h"
#include "compiler/check/schema.h"
#include "compiler/driver/https.h"
#include "compiler/driver/load.h"
#include "compiler/driver/report.h"
#include "compiler/lock/lock.h"
#include "compiler/lower/lower.h"
#include "compiler/parse/parse.h"
#include "support/exit_code.h"
#include "support/sha256.h"
#include "support/write_file.h"

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
  std::string address;   ///< of an import, or the name of an image
  std::string what;      ///< added, fetched, updated, removed, missing, changed, unused
  bool is_image = false;
};

/// One lock file and the sources that it is for.
class Locker {
 public:
  Locker(std::string directory, const Invocation& invocation, Terminal& terminal)
      : path_(LockPath(directory)),
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

  /// The images of a source whose imports are in the lock, under all of its profiles.
  void LockImages(SourceId root, SourceManager& sources) {
    std::vector<std::string> profiles = {"none"};
    for (size_t i = 0; i < profiles.size(); ++i) {
      Diagnostics faults;
      Model model = Check(root, sources, faults);
      if (faults.has_errors()) {
        // What is wrong is for the check to say; its images are not known.
        incomplete_ = true;
        if (!model.plan.jobs.empty()) terminal_.Err(fmt::format("note: {} has errors, so its images are left as they are; see  jobc check {}\n", sources[root].name, sources[root].name));
        return;
      }
      if (i == 0) {
        for (const Profile& profile : model.profiles) profiles.push_back(profile.name);
      }
      std::vector<PlannedImage> images;
      LowerOptions options;
      options.profile = profiles[i];
      options.missing_files_are_empty = true;
      options.images = &images;
      const std::vector<PlannedImage> written = Written(model, profiles[i]);
      (void)Lower(std::move(model), options, sources, faults);
      // Without parameters that it needs there is no plan: then what stands in the file as it is.
      for (const PlannedImage& image : images.empty() ? written : images) Image(image);
    }
  }

  void Finish(bool all) {
    if (all) {
      for (auto it = lock_.imports.begin(); it != lock_.imports.end();) {
        if (used_.count(it->first) != 0) {
          ++it;
          continue;
        }
        Tell(it->first, check_ ? "unused" : "removed");
        it = lock_.imports.erase(it);
      }
      for (auto it = lock_.images.begin(); it != lock_.images.end();) {
        if (incomplete_ || used_images_.count(it->first) != 0) {
          ++it;
          continue;
        }
        Tell(it->first, check_ ? "unused" : "removed", true);
        it = lock_.images.erase(it);
      }
    }
    for (const std::string& name : updates_) {
      if (name == "all" || updated_.count(name) != 0) continue;
      std::vector<std::string_view> names(names_.begin(), names_.end());
      const std::string_view like = DidYouMean(name, names);
      Fail(fmt::format("no import and no image is called `{}`{}", name, like.empty() ? "" : fmt::format("; did you mean `{}`?", like)));
    }
    if (!failed_) Save();
  }

  void Save() {
    if (check_ || !dirty_) return;
    dirty_ = false;
    if (Result<void> written = WriteNamedFile(path_, LockText(lock_)); !written.ok()) {
      Fail(written.error().message);
      environment_ = true;
    }
  }

  const std::vector<Change>& changes() const { return changes_; }
  const std::string& path() const { return path_; }
  size_t used() const { return used_.size() + used_images_.size(); }
  bool incomplete() const { return incomplete_; }
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

  void Tell(const std::string& address, std::string what, bool is_image = false) {
    changes_.push_back({address, std::move(what), is_image});
    dirty_ = true;
  }

  /// The images that stand in the file, with or without a profile, where they are no matter of parameters.
  static std::vector<PlannedImage> Written(const Model& model, const std::string& profile) {
    std::vector<PlannedImage> out;
    auto take = [&](const ir::Job& job) {
      if (!job.image.valid() || !check::SchemaOf(job.backend.kind).can.takes_image) return;
      const ir::ExprPool& exprs = model.plan.program.exprs;
      PlannedImage& one = out.emplace_back();
      one.backend = job.backend.kind;
      one.address = job.address;
      if (exprs.IsConst(job.image) && exprs.ConstValue(job.image).kind() == ir::ValueKind::String) one.image = exprs.ConstValue(job.image).as_string();
      else one.why = "it depends on parameters that have no default";
    };
    for (const ir::Job& job : model.plan.jobs) take(job);
    for (const Profile& each : model.profiles) {
      if (each.name != profile) continue;
      for (const ProfileJob& job : each.jobs) take(job.settings);
    }
    return out;
  }

  void Image(const PlannedImage& planned) {
    const std::string& image = planned.image;
    if (image.empty()) {
      if (unknown_.insert(planned.address).second) terminal_.Err(fmt::format("note: the image of `{}` is not locked: {}\n", planned.address, planned.why));
      return;
    }
    if (!IsLockable(image)) return;
    const bool update = WantsUpdate(image, image);
    if (!used_images_.insert(image).second) return;
    const auto locked = lock_.images.find(image);
    if (locked != lock_.images.end() && !update) return;
    if (check_) {
      if (locked == lock_.images.end()) Tell(image, "missing", true);
      return;
    }
    const docker::DigestAnswer answer = docker::FindDigest(planned.backend, image, docker::Surroundings::Real());
    if (answer.digest.empty()) {
      Fail(fmt::format("cannot lock the image `{}` of `{}`: {}", image, planned.address, answer.problem));
      return;
    }
    if (!answer.from.empty()) {
      terminal_.Err(fmt::format("note: the digest of `{}` is that of the {} engine of this machine: {}\n", image, answer.from, answer.problem));
    }
    if (locked == lock_.images.end()) Tell(image, "added", true);
    else if (locked->second != answer.digest) Tell(image, "updated", true);
    else changes_.push_back({image, "unchanged", true});
    lock_.images[image] = answer.digest;
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
    const auto locked = lock_.imports.find(address);
    std::string text;
    const Cached cached = locked == lock_.imports.end() ? Cached::Missing : ReadCachedImport(locked->second, text);
    if (check_) {
      if (locked == lock_.imports.end()) {
        Tell(address, "missing");
        return;
      }
      // Not in the cache of this machine: what it imports itself is not known, but that is no fault of the lock.
      if (cached != Cached::Found) return;
    } else if (locked == lock_.imports.end() || cached != Cached::Found || update) {
      Result<std::string> fetched = FetchHttps(address, kMaxRemoteBytes);
      if (!fetched.ok()) {
        Fail(fmt::format("cannot fetch \"{}\": {}", address, fetched.error().message));
        return;
      }
      const LockEntry entry{Sha256Hex(*fetched), fetched->size()};
      if (locked != lock_.imports.end() && locked->second.sha256 != entry.sha256 && !update) {
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
      if (locked == lock_.imports.end()) Tell(address, "added");
      else if (locked->second.sha256 != entry.sha256) Tell(address, "updated");
      else changes_.push_back({address, update ? "unchanged" : "fetched"});
      lock_.imports[address] = entry;
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
  std::set<std::string> used_, used_images_, seen_, unknown_;
  bool incomplete_ = false;  ///< not all images are known
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
      // A file is checked with the imports that were just locked, so these are written before.
      if (locker.code() == kExitOk) locker.Save();
      if (locker.code() == kExitOk || locker.code() == kExitFindings) {
        for (SourceId root : list) locker.LockImages(root, sources);
      }
      locker.Finish(all);
    }
    code = std::max(code, locker.code());
    for (const Change& change : locker.changes()) {
      changes.push_back({{"lock", locker.path()}, {change.is_image ? "image" : "import", change.address}, {"change", change.what}});
      if (!invocation.json()) terminal.Err(fmt::format("{}: {} {}\n", locker.path(), change.what, change.address));
    }
    if (locker.code() == kExitOk && locker.changes().empty() && !invocation.json()) {
      if (locker.used() != 0 || !locker.incomplete()) terminal.Err(locker.used() == 0 ? "nothing to lock: no https imports and no images\n" : fmt::format("{}: up to date\n", locker.path()));
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
