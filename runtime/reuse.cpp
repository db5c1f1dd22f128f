#include "runtime/reuse.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <map>

#include "ir/expand.h"
#include "ir/json.h"
#include "runtime/cache_key.h"
#include "runtime/process/os.h"
#include "runtime/results.h"
#include "support/sha256.h"

namespace jobc {
namespace {

constexpr std::string_view kEntrySchema = "jobc.cache/1";

std::string Member(const ir::Value& json, const char* name) {
  const ir::Value* found = json.kind() == ir::ValueKind::Map ? json.Find(name) : nullptr;
  return found == nullptr || found->is_null() ? std::string() : found->kind() == ir::ValueKind::String ? found->as_string() : ir::JsonText(*found);
}

int64_t NumberMember(const ir::Value& json, const char* name) {
  const ir::Value* found = json.kind() == ir::ValueKind::Map ? json.Find(name) : nullptr;
  return found != nullptr && found->kind() == ir::ValueKind::Int ? found->as_int() : 0;
}

/// Path below the place of an instance's outputs: `outputs/NAME/rest`.
std::optional<std::string> BelowPlace(const std::string& path) {
  if (path.rfind("outputs/", 0) != 0) return std::nullopt;
  const size_t slash = path.find('/', 8);
  if (slash == std::string::npos || slash + 1 >= path.size()) return std::nullopt;
  return path.substr(slash + 1);
}

void ForEachFile(const ir::Value& value, const std::function<void(const ir::FileValue&)>& visit) {
  switch (value.kind()) {
    case ir::ValueKind::File: visit(value.as_file()); break;
    case ir::ValueKind::List:
      for (const ir::Value& element : value.as_list()) ForEachFile(element, visit);
      break;
    case ir::ValueKind::Map:
      for (const auto& [key, element] : value.as_map()) ForEachFile(element, visit);
      break;
    default: break;
  }
}

}  // namespace

// --- An earlier run ---------------------------------------------------------

std::string UsedRun(const RunHeader& header) {
  auto options = ir::ParseJson(header.options);
  return options ? Member(*options, "resume") : std::string();
}

Result<std::unique_ptr<EarlierRun>> EarlierRun::Open(const std::string& state_dir, const std::string& id, bool held) {
  if (std::optional<LockHolder> holder = held ? std::nullopt : RunLock::Holder(RunDir(state_dir, id))) {
    return Error{fmt::format("the run {} is still being executed by pid {} on {}", id, holder->pid, holder->host), EBUSY};
  }
  auto reader = RunReader::Open(state_dir, id);
  if (!reader) return reader.error();
  auto run = std::make_unique<EarlierRun>();
  run->reader_ = *std::move(reader);
  run->Index();
  constexpr int kMostBefore = 8;
  EarlierRun* last = run.get();
  for (int i = 0; i < kMostBefore; ++i) {
    const std::string used = UsedRun(last->reader_->header());
    if (used.empty()) break;
    auto older = RunReader::Open(state_dir, used);
    if (!older) break;  // removed since
    last->before_ = std::make_unique<EarlierRun>();
    last = last->before_.get();
    last->reader_ = *std::move(older);
    last->Index();
  }
  return run;
}

void EarlierRun::Index() {
  const RunReader& read = *reader_;
  for (uint32_t job = 0; job < read.plan().jobs.size(); ++job) {
    if (read.plan().jobs[job].kind != ir::JobKind::Job) continue;
    for (uint32_t ordinal = 0; ordinal < read.size(job); ++ordinal) {
      const InstanceRef ref{job, ordinal};
      if (read.state(ref) != InstanceState::Succeeded) continue;
      if (std::string key = read.KeyOf(ref); !key.empty()) by_key_.emplace(std::move(key), ref);
    }
  }
}

std::optional<StoredResult> EarlierRun::Find(const std::string& key, const std::string& address) {
  auto [first, last] = by_key_.equal_range(key);
  if (first == last) return before_ != nullptr ? before_->Find(key, address) : std::nullopt;
  InstanceRef best = first->second;
  std::string best_address = reader_->Address(best);
  for (auto it = first; it != last && best_address != address; ++it) {
    const std::string other = reader_->Address(it->second);
    // The same of several whatever order they are found in.
    if (other == address || other < best_address) {
      best = it->second;
      best_address = other;
    }
  }
  StoredResult out;
  out.base_dir = reader_->run_dir();
  out.run = reader_->header().id;
  out.address = best_address;
  auto stored = reader_->Outputs(best);
  if (!stored) return std::nullopt;
  if (*stored) {
    out.outputs = (*stored)->outputs;
    out.result = (*stored)->result;
    out.files = (*stored)->files;
  }
  const InstanceView view = reader_->View(best);
  if (view.reused) {
    out.attempts = view.reused->attempts;
    out.started_ms = view.reused->started_ms;
    out.ended_ms = view.reused->ended_ms;
  } else if (!view.attempts.empty()) {
    const AttemptView& attempt = view.attempts.back();
    out.attempts = attempt.number;
    out.started_ms = attempt.started_ms;
    out.ended_ms = attempt.exited_ms != 0 ? attempt.exited_ms : attempt.judged_ms;
  }
  return out;
}

// --- The result cache -------------------------------------------------------

std::string ResultCache::DefaultDir() {
  auto env = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  if (std::string dir = env("JOBC_CACHE"); !dir.empty()) return dir;
  if (std::string dir = env("XDG_CACHE_HOME"); !dir.empty() && dir[0] == '/') return dir + "/jobc";
  std::string home = env("HOME");
  if (home.empty()) {
    if (const passwd* entry = getpwuid(getuid())) home = entry->pw_dir;
  }
  return home + "/.cache/jobc";
}

std::string ResultCache::Place(const std::string& key) const { return fmt::format("{}/results-1/{}/{}", dir_, key.substr(0, 2), key); }

std::optional<StoredResult> ResultCache::Find(const std::string& key) const {
  const std::string place = Place(key);
  auto text = process::ReadFile(place + "/entry.json");
  if (!text) return std::nullopt;
  auto json = ir::ParseJson(*text);
  if (!json || Member(*json, "schema") != kEntrySchema || Member(*json, "key") != key) return std::nullopt;
  StoredResult out;
  out.base_dir = place;
  out.outputs = Member(*json, "outputs");
  if (const ir::Value* result = json->Find("result"); result != nullptr) out.result = ir::JsonText(*result);
  out.files = Member(*json, "files");
  out.run = Member(*json, "run");
  out.address = Member(*json, "address");
  out.attempts = static_cast<uint32_t>(std::clamp<int64_t>(NumberMember(*json, "attempts"), 1, UINT32_MAX));
  out.started_ms = NumberMember(*json, "started_ms");
  out.ended_ms = NumberMember(*json, "ended_ms");
  return out;
}

Result<void> ResultCache::Put(const std::string& key, const StoredResult& stored) const {
  const std::string place = Place(key);
  if (Find(key)) return {};
  // What is there and cannot be read, or was written by another version, would be in the way for ever.
  Remove(key);
  const std::string unfinished = fmt::format("{}/results-1/.new-{}-{}", dir_, getpid(), key.substr(0, 20));
  if (auto removed = process::RemoveTree(unfinished); !removed) return removed;
  for (const std::string& dir : {place.substr(0, place.rfind('/')), unfinished}) {
    if (auto made = process::MakeDirectories(dir); !made) return made;
  }
  auto fail = [&](Error error) -> Result<void> {
    (void)process::RemoveTree(unfinished).ok();
    return error;
  };
  if (!stored.files.empty()) {
    auto files = ir::ParseJson(stored.files);
    if (!files || files->kind() != ir::ValueKind::Map) return fail(Error{"the list of its files is damaged"});
    for (const auto& [name, sha256] : files->as_map()) {
      std::string path = name.as_string();
      while (path.ends_with('/')) path.pop_back();
      const std::string target = unfinished + "/" + path;
      if (auto made = process::MakeDirectories(target.substr(0, target.rfind('/'))); !made) return fail(made.error());
      if (auto linked = LinkTree(stored.base_dir + "/" + path, target); !linked) return fail(linked.error());
    }
  }
  std::string entry = fmt::format("{{\"address\":{},\"attempts\":{},\"ended_ms\":{}", ir::JsonQuote(stored.address), stored.attempts, stored.ended_ms);
  if (!stored.files.empty()) entry += ",\"files\":" + stored.files;
  entry += fmt::format(",\"key\":\"{}\"", key);
  if (!stored.outputs.empty()) entry += ",\"outputs\":" + stored.outputs;
  if (!stored.result.empty()) entry += ",\"result\":" + stored.result;
  entry += fmt::format(",\"run\":{},\"schema\":\"{}\",\"started_ms\":{}}}\n", ir::JsonQuote(stored.run), kEntrySchema, stored.started_ms);
  {
    const std::string path = unfinished + "/entry.json";
    process::UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0444));
    if (!fd) return fail(Error{fmt::format("cannot create `{}`: {}", path, std::strerror(errno)), errno});
    for (size_t done = 0; done < entry.size();) {
      const ssize_t count = write(fd.get(), entry.data() + done, entry.size() - done);
      if (count < 0 && errno == EINTR) continue;
      if (count < 0) return fail(Error{fmt::format("cannot write `{}`: {}", path, std::strerror(errno)), errno});
      done += static_cast<size_t>(count);
    }
  }
  if (rename(unfinished.c_str(), place.c_str()) != 0) {
    const int code = errno;
    (void)process::RemoveTree(unfinished).ok();
    if (code != EEXIST && code != ENOTEMPTY) return Error{fmt::format("cannot create `{}`: {}", place, std::strerror(code)), code};
  }
  return {};
}

void ResultCache::Remove(const std::string& key) const { (void)process::RemoveTree(Place(key)).ok(); }

// --- Files ------------------------------------------------------------------

std::vector<ResultFile> FilesOf(const ir::ListValue& outputs) {
  std::map<std::string, ResultFile> by_path;
  for (const ir::Value& output : outputs) {
    ForEachFile(output, [&](const ir::FileValue& file) {
      if (file.base != ir::FileBase::Job) return;
      auto path = BelowPlace(file.path);
      if (!path) return;
      ResultFile& one = by_path[*path];
      one.source = file.location;
      one.path = *path;
      one.is_dir = file.is_dir;
      one.size = file.size;
    });
  }
  std::vector<ResultFile> out;
  for (auto& [path, file] : by_path) out.push_back(std::move(file));
  return out;
}

std::string FilesJson(const std::vector<ResultFile>& files, const std::string& place) {
  if (files.empty()) return "";
  std::map<std::string, std::string> sorted;
  for (const ResultFile& file : files) sorted[place + "/" + file.path + (file.is_dir ? "/" : "")] = file.sha256;
  std::string out = "{";
  for (const auto& [path, sha256] : sorted) out += fmt::format("{}{}:\"{}\"", out.size() == 1 ? "" : ",", ir::JsonQuote(path), sha256);
  return out + "}";
}

Result<void> LinkTree(const std::string& source, const std::string& target) {
  struct stat info;
  if (lstat(source.c_str(), &info) != 0) return Error{fmt::format("cannot read `{}`: {}", source, std::strerror(errno)), errno};
  if (S_ISDIR(info.st_mode)) {
    if (mkdir(target.c_str(), 0777) != 0) return Error{fmt::format("cannot create `{}`: {}", target, std::strerror(errno)), errno};
    DIR* dir = opendir(source.c_str());
    if (dir == nullptr) return Error{fmt::format("cannot read `{}`: {}", source, std::strerror(errno)), errno};
    std::vector<std::string> names;
    while (const dirent* entry = readdir(dir)) {
      if (std::strcmp(entry->d_name, ".") != 0 && std::strcmp(entry->d_name, "..") != 0) names.emplace_back(entry->d_name);
    }
    closedir(dir);
    for (const std::string& name : names) {
      if (auto done = LinkTree(source + "/" + name, target + "/" + name); !done) return done;
    }
    return {};
  }
  if (!S_ISREG(info.st_mode)) return Error{fmt::format("`{}` is no regular file", source), EINVAL};
  if (link(source.c_str(), target.c_str()) != 0) {
    // Another file system, no rights on somebody else's file, too many links.
    return CopyTree(source, target, false);
  }
  // Two runs share it from now on. Who may not change its mode does not own it, and cannot write it by that either.
  if ((info.st_mode & 0222) != 0) (void)chmod(target.c_str(), info.st_mode & 07555);
  return {};
}

std::string VerifyFiles(const std::vector<ResultFile>& files) {
  for (const ResultFile& file : files) {
    auto digest = file.is_dir ? Sha256OfTree(file.source) : Sha256OfFile(file.source);
    if (!digest) {
      return access(file.source.c_str(), F_OK) != 0 && errno == ENOENT ? fmt::format("its output `{}` is gone", file.path)
                                                                        : fmt::format("its output `{}` cannot be read: {}", file.path, digest.error().message);
    }
    if (digest->sha256 != file.sha256) return fmt::format("its output `{}` was changed since", file.path);
  }
  return "";
}

std::vector<ResultFile> DoubtfulFiles(std::vector<ResultFile> files, const std::string& files_json, int64_t since_ms) {
  std::vector<ResultFile> out;
  auto digests = ir::ParseJson(files_json);
  if (!digests || digests->kind() != ir::ValueKind::Map) return out;
  for (const auto& [name, sha256] : digests->as_map()) {
    std::string path = name.as_string();
    const bool is_dir = path.ends_with('/');
    while (path.ends_with('/')) path.pop_back();
    const auto below = BelowPlace(path);
    auto file = std::find_if(files.begin(), files.end(), [&](const ResultFile& one) { return below && one.path == *below; });
    if (file == files.end() || sha256.kind() != ir::ValueKind::String) continue;
    struct stat info;
    // Nobody can set the time of a change back; a directory does not tell of what is below it.
    const bool untouched = !is_dir && stat(file->source.c_str(), &info) == 0 && info.st_ctim.tv_sec * 1000LL + info.st_ctim.tv_nsec / 1'000'000 < since_ms;
    if (untouched) continue;
    file->sha256 = sha256.as_string();
    file->is_dir = is_dir;
    out.push_back(*file);
  }
  return out;
}

std::string TakeFiles(const std::vector<ResultFile>& files, const std::string& target) {
  if (files.empty()) return "";
  if (std::string problem = VerifyFiles(files); !problem.empty()) return problem;
  const size_t slash = target.rfind('/');
  const std::string unfinished = target.substr(0, slash + 1) + "." + target.substr(slash + 1);
  auto fail = [&](const Error& error) {
    (void)process::RemoveTree(unfinished).ok();
    return "its outputs cannot be used again: " + error.message;
  };
  if (auto removed = process::RemoveTree(unfinished); !removed) return fail(removed.error());
  for (const ResultFile& file : files) {
    const std::string place = unfinished + "/" + file.path;
    if (auto made = process::MakeDirectories(place.substr(0, place.rfind('/'))); !made) return fail(made.error());
    if (access(place.c_str(), F_OK) == 0) continue;  // below a directory that was taken
    if (auto linked = LinkTree(file.source, place); !linked) return fail(linked.error());
  }
  if (auto removed = process::RemoveTree(target); !removed) return fail(removed.error());
  if (rename(unfinished.c_str(), target.c_str()) != 0) return fail(Error{fmt::format("cannot create `{}`: {}", target, std::strerror(errno)), errno});
  return "";
}

Result<TakenResult> ReadResult(const ir::Plan& plan, uint32_t job, const StoredResult& stored, const std::string& run_dir, const std::string& place,
                               ir::Evaluator& evaluator, ir::EvalContext& context) {
  TakenResult out;
  out.target = run_dir + "/" + place;
  out.outputs.resize(plan.jobs[job].outputs.size());
  if (!stored.result.empty()) {
    auto result = ir::ParseJson(stored.result);
    if (!result) return Error{"its stored result is damaged"};
    out.result = *std::move(result);
  }
  if (stored.outputs.empty()) return out;
  auto outputs = DecodeOutputs(plan, job, stored.outputs, stored.base_dir, evaluator, context);
  if (!outputs) return Error{outputs.error().message};
  std::map<std::string, std::string> digests;
  if (!stored.files.empty()) {
    auto files = ir::ParseJson(stored.files);
    if (!files || files->kind() != ir::ValueKind::Map) return Error{"the list of its files is damaged"};
    for (const auto& [name, sha256] : files->as_map()) {
      if (sha256.kind() == ir::ValueKind::String) digests[name.as_string()] = sha256.as_string();
    }
  }
  // Their places in the new run, with the paths as they were below the place.
  std::string problem;
  ir::ListValue moved;
  for (size_t i = 0; i < outputs->size(); ++i) {
    moved.push_back(MapOutputFiles(plan, (*outputs)[i], plan.jobs[job].outputs[i].type, [&](ir::FileValue& file) {
      if (file.base != ir::FileBase::Job) return;
      auto path = BelowPlace(file.path);
      auto digest = digests.find(file.path + (file.is_dir ? "/" : ""));
      if (digest == digests.end() && path) digest = digests.find(file.path + (file.is_dir ? "" : "/"));
      if (!path || digest == digests.end()) {
        if (problem.empty()) problem = fmt::format("nothing is known of the content of its output `{}`", file.path);
        return;
      }
      if (std::none_of(out.files.begin(), out.files.end(), [&](const ResultFile& one) { return one.path == *path; })) {
        out.files.push_back({file.location, *path, digest->second, digest->first.ends_with('/'), file.size});
        out.size += file.size;
        out.has_dirs = out.has_dirs || out.files.back().is_dir;
      }
      file.path = place + "/" + *path;
      file.location = out.target + "/" + *path;
    }));
  }
  if (!problem.empty()) return Error{problem};
  std::sort(out.files.begin(), out.files.end(), [](const ResultFile& x, const ResultFile& y) { return x.path < y.path; });
  auto json = EncodeOutputs(plan, job, moved);
  if (!json) return json.error();
  out.outputs_json = *std::move(json);
  out.files_json = FilesJson(out.files, place);
  out.outputs = std::move(moved);
  return out;
}

}  // namespace jobc
