#include "compiler/lower/lower.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fmt/format.h>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <sys/stat.h>
#include <unordered_map>

#include "compiler/bounds/bounds.h"
#include "compiler/check/budget.h"
#include "compiler/check/schema.h"
#include "compiler/check/staged_names.h"
#include "compiler/lock/lock.h"
#include "compiler/lower/early.h"
#include "compiler/lower/retries.h"
#include "ir/evaluate.h"
#include "ir/expand.h"
#include "ir/file_path.h"
#include "ir/json.h"
#include "ir/mounts.h"
#include "support/sha256.h"

namespace jobc {

namespace fs = std::filesystem;

std::string LocateFile(const ir::FileValue& file, const std::string& root_directory) {
  if (file.base != ir::FileBase::Source || root_directory.empty()) return file.path;
  return root_directory + "/" + file.path;
}

Result<ir::FileRow> DescribeFile(const std::string& path, bool is_dir) {
  ir::FileRow row;
  row.is_dir = is_dir;
  if (!is_dir) {
    Result<FileDigest> digest = Sha256OfFile(path);
    if (!digest.ok()) return digest.error();
    row.size = digest->size;
    row.sha256 = digest->sha256;
    return row;
  }
  Result<FileDigest> digest = Sha256OfTree(path);
  if (!digest.ok()) return digest.error();
  row.size = digest->size;
  row.sha256 = digest->sha256;
  return row;
}

namespace {

using ir::ExprId;
using ir::Op;

/// More instances than this are not looked at one by one where a proof is not found; the run checks them as they start.
constexpr uint64_t kMostPathsLookedAt = 2'000'000;
/// Of other expressions, which are many more.
constexpr uint64_t kMostValuesLookedAt = 100'000;

class PlanContext : public ir::EvalContext {
 public:
  PlanContext(const std::string& root_directory, const LowerOptions& options)
      : root_directory_(root_directory), missing_files_are_empty_(options.missing_files_are_empty), describe_remote_(options.describe_remote) {}

  bool Var(uint32_t slot, ir::Value& out, ir::Fault& fault) override {
    if (instances == nullptr) return EvalContext::Var(slot, out, fault);
    out = instances->Var(ordinal, slot);
    return true;
  }

  bool FileSize(const ir::FileValue& file, ir::Value& out, ir::Fault& fault) override {
    const ir::FileRow* row = Describe(file, fault);
    if (row == nullptr) return false;
    if (file.base == ir::FileBase::Uri) {
      auto remote = remote_.find(file.path);
      if (remote == remote_.end() || !remote->second.size) return LaterKnown("size", file, fault);
    }
    out = ir::Value::Bytes(static_cast<int64_t>(row->size));
    return true;
  }

  bool FileSha256(const ir::FileValue& file, ir::Value& out, ir::Fault& fault) override {
    const ir::FileRow* row = Describe(file, fault);
    if (row == nullptr) return false;
    if (file.base == ir::FileBase::Uri) return LaterKnown("content", file, fault);
    out = ir::Value::String(row->sha256);
    return true;
  }

  bool FileText(const ir::FileValue& file, std::string& out, ir::Fault&) override {
    out = file.path;
    return true;
  }

  /// The row of a file, made and remembered on first use.
  const ir::FileRow* Describe(const ir::FileValue& file, ir::Fault& fault) {
    auto key = std::make_tuple(file.base, file.is_dir, file.path);
    auto it = rows_.find(key);
    if (it == rows_.end()) {
      ir::FileRow row;
      if (file.base == ir::FileBase::Uri) {
        Ask({file.path});
        if (auto remote = remote_.find(file.path); remote != remote_.end()) {
          if (!remote->second.problem.empty()) {
            fault = {ir::FaultKind::BadArgument, remote->second.problem, {}};
            return nullptr;
          }
          row.etag = remote->second.etag;
          row.version = remote->second.version;
          row.size = Named(remote->second) ? remote->second.size.value_or(0) : 0;
        }
      } else {
        Result<ir::FileRow> described = DescribeFile(LocateFile(file, root_directory_), file.is_dir);
        if (!described.ok() && missing_files_are_empty_ && described.error().code == ENOENT) {
          described = ir::FileRow{};
          described->sha256 = Sha256Hex("");
        }
        if (!described.ok()) {
          fault = {ir::FaultKind::BadArgument, described.error().message, {}};
          return nullptr;
        }
        row = *described;
      }
      row.base = file.base;
      row.is_dir = file.is_dir;
      row.path = file.path;
      it = rows_.emplace(key, std::move(row)).first;
    }
    return &it->second;
  }

  /// Asks about those that have not been asked about, all at once.
  void Ask(const std::vector<std::string>& uris) {
    if (!describe_remote_) return;
    std::vector<std::string> open;
    for (const std::string& uri : uris) {
      if (remote_.count(uri) == 0 && std::find(open.begin(), open.end(), uri) == open.end()) open.push_back(uri);
    }
    if (open.empty()) return;
    std::vector<RemoteDescription> answers = describe_remote_(open);
    for (size_t i = 0; i < open.size() && i < answers.size(); ++i) remote_.emplace(open[i], std::move(answers[i]));
  }

  /// What its server said; nullptr if it was not asked.
  const RemoteDescription* Remote(const std::string& uri) const {
    auto it = remote_.find(uri);
    return it == remote_.end() ? nullptr : &it->second;
  }
  static bool Named(const RemoteDescription& remote) { return !remote.etag.empty() || !remote.version.empty(); }

  /// All files met, sorted: by base, kind and path.
  std::vector<ir::FileRow> Rows() const {
    std::vector<ir::FileRow> rows;
    for (const auto& [key, row] : rows_) rows.push_back(row);
    return rows;
  }

  const ir::Instances* instances = nullptr;
  uint64_t ordinal = 0;

 private:
  static bool LaterKnown(std::string_view what, const ir::FileValue& file, ir::Fault& fault) {
    fault = {ir::FaultKind::Unavailable, fmt::format("the {} of `{}` is known when it has been fetched", what, file.path), {}};
    return false;
  }

  const std::string& root_directory_;
  const bool missing_files_are_empty_;
  const std::function<std::vector<RemoteDescription>(const std::vector<std::string>&)>& describe_remote_;
  std::map<std::string, RemoteDescription> remote_;
  std::map<std::tuple<ir::FileBase, bool, std::string>, ir::FileRow> rows_;
};

class Lowerer {
 public:
  Lowerer(Model&& model, const LowerOptions& options, const SourceManager& sources, Diagnostics& diags)
      : model_(std::move(model)), plan_(model_.plan), options_(options), sources_(sources), diags_(diags),
        root_directory_(sources[model_.root].directory), context_(root_directory_, options), evaluator_(plan_.program) {}

  std::optional<ir::Plan> Run() {
    SelectProfile();
    // `--profile none` says itself that plain processes are meant.
    if (options_.profile.empty() && plan_.profile.empty()) {
      for (const Diagnostic& d : model_.without_profile.all()) diags_.Append(d);
    }
    const size_t before = diags_.error_count();
    GiveParams();
    // What depends on a value that could not be had is passed over, the rest is looked at all the same.
    CheckRequires();
    CheckFiles();
    if (diags_.error_count() == before) {
      CheckDomains();
      CheckSettings();
    }
    if (diags_.has_errors()) return std::nullopt;
    plan_.files = context_.Rows();
    CheckWorstCase();
    if (diags_.has_errors()) return std::nullopt;
    for (size_t i = 0; i < plan_.sources.size(); ++i) plan_.sources[i].sha256 = Sha256Hex(sources_[model_.sources[i]].text);
    plan_.files = context_.Rows();
    SetRows();
    return std::move(plan_);
  }

 private:
  void SelectProfile() {
    if (options_.profile == "none") return;
    const Profile* chosen = nullptr;
    std::vector<std::string_view> names;
    for (const Profile& profile : model_.profiles) {
      names.push_back(profile.name);
      if (options_.profile.empty() ? profile.is_default : profile.name == options_.profile) chosen = &profile;
    }
    if (chosen == nullptr) {
      if (options_.profile.empty()) return;
      auto& d = diags_.Emit({}, diag::UnknownProfile, options_.profile);
      std::string_view like = DidYouMean(options_.profile, names);
      if (!like.empty()) {
        d.AddHelp(fmt::format("did you mean `--profile {}`?", like));
      } else if (names.empty()) {
        d.Note("this file declares no profiles");
      } else {
        std::string all;
        for (std::string_view n : names) all += (all.empty() ? "" : ", ") + std::string(n);
        d.Note("the profiles of this file are " + all);
      }
      return;
    }
    plan_.profile = chosen->name;
    for (const ProfileJob& job : chosen->jobs) plan_.jobs[job.job] = job.settings;
    if (!chosen->pools.empty()) plan_.pools = chosen->pools;
    if (chosen->limits.time_ms) plan_.limits.time_ms = chosen->limits.time_ms;
    if (chosen->limits.attempts) plan_.limits.attempts = chosen->limits.attempts;
    if (chosen->limits.keep_ms) plan_.limits.keep_ms = chosen->limits.keep_ms;
    if (chosen->limits.instances) plan_.limits.instances = chosen->limits.instances;
    if (chosen->on_error) plan_.on_error = chosen->on_error;
    plan_.max_parallel = chosen->max_parallel;
  }

  // ---- parameters ----

  struct Given {
    bool is_json = false;
    ir::Value json;
    std::string text;
    std::string origin;
  };

  ir::Param* FindParam(std::string_view name) {
    for (ir::Param& param : plan_.program.params) {
      if (param.name == name) return &param;
    }
    return nullptr;
  }

  void UnknownName(std::string_view name, const std::string& where) {
    std::vector<std::string_view> names;
    for (const ir::Param& param : plan_.program.params) names.push_back(param.name);
    auto& d = diags_.Emit({}, diag::UnknownRootParam, name, where);
    std::string_view like = DidYouMean(name, names);
    if (!like.empty()) {
      d.AddHelp(fmt::format("did you mean `{}`?", like));
    } else if (names.empty()) {
      d.Note("this file has no parameters");
    } else {
      std::string all;
      for (std::string_view n : names) all += (all.empty() ? "" : ", ") + std::string(n);
      d.Note("its parameters are " + all);
    }
  }

  void GiveParams() {
    std::map<std::string, Given> given;
    for (const auto& [name, text] : options_.environment) {
      if (FindParam(name) == nullptr) {
        diags_.Emit({}, diag::UnusedParamVariable, name).Note("the file has no parameter of that name");
        continue;
      }
      given[name] = {false, {}, text, "JOB_PARAM_" + name};
    }
    for (const ParamOption& option : options_.params) {
      if (option.is_file) ReadParamFile(option.text, given);
    }
    for (const ParamOption& option : options_.params) {
      if (option.is_file) continue;
      if (FindParam(option.name) == nullptr) {
        UnknownName(option.name, fmt::format("`-p {}=…`", option.name));
        continue;
      }
      given[option.name] = {false, {}, option.text, "-p"};
    }
    std::vector<size_t> defaults;
    for (size_t i = 0; i < plan_.program.params.size(); ++i) {
      ir::Param& param = plan_.program.params[i];
      Span span = model_.param_spans[i];
      auto value_of_test = std::find_if(options_.values.begin(), options_.values.end(), [&](const auto& each) { return each.first == i; });
      if (value_of_test != options_.values.end()) {
        param.value = value_of_test->second;
        param.origin = "test";
        continue;
      }
      auto it = given.find(param.name);
      if (it == given.end()) {
        if (param.fallback.valid()) {
          defaults.push_back(i);
        } else {
          if (plan_.program.types.IsOptional(param.type)) {
            param.value = ir::Value();
            param.origin = "default";
            continue;
          }
          diags_.Emit(span, diag::MissingParam, param.name)
              .Label(fmt::format("`{}`, without a default", plan_.program.types.Show(param.type)))
              .AddHelp(fmt::format("give it on the command line:  -p {}=…", param.name))
              .AddHelp(fmt::format("or in a file:  -p @params.json  with  {{\"{}\": …}}", param.name));
        }
        continue;
      }
      const Given& g = it->second;
      Result<ir::Value> value = g.is_json ? ir::DecodeJson(g.json, param.type, evaluator_, context_) : ir::DecodeParamText(g.text, param.type, evaluator_, context_);
      if (!value.ok()) {
        auto& d = diags_.Emit(span, diag::BadParam, param.name, value.error().message)
                      .Label(fmt::format("declared as `{}`", plan_.program.types.Show(param.type)));
        const ir::TypeId plain = plan_.program.types.NonNull(param.type);
        if (!g.is_json && plan_.program.types.kind(plain) == ir::TypeKind::Enum) {
          const ir::EnumDef& def = plan_.program.types[ir::EnumId{plan_.program.types[plain].def}];
          const std::string_view like = DidYouMean(g.text, std::vector<std::string_view>(def.cases.begin(), def.cases.end()));
          if (!like.empty()) d.AddHelp(fmt::format("did you mean `{}`?", like));
        }
        d.Note(g.is_json ? fmt::format("the value comes from {}", g.origin) : fmt::format("the value `{}` comes from {}", g.text.size() > 200 ? g.text.substr(0, 200) + "…" : g.text, g.origin));
        continue;
      }
      param.value = std::move(*value);
      param.origin = g.origin;
    }
    GiveDefaults(std::move(defaults));
  }

  /// A default may use any other parameter, also a later one, so they are tried until none becomes known any more. What is
  /// left then depends on a parameter that has no value, which has been told.
  void GiveDefaults(std::vector<size_t> waiting) {
    for (size_t before = waiting.size() + 1; waiting.size() < before;) {
      before = waiting.size();
      std::erase_if(waiting, [&](size_t i) {
        ir::Param& param = plan_.program.params[i];
        ir::Value value;
        if (evaluator_.Evaluate(param.fallback, context_, value)) {
          param.value = std::move(value);
          param.origin = "default";
          return true;
        }
        if (evaluator_.fault().kind == ir::FaultKind::Unavailable) return false;
        diags_.Emit(model_.param_spans[i], diag::BadParam, param.name, evaluator_.fault().message).Label("its default");
        return true;
      });
    }
  }

  void ReadParamFile(const std::string& path, std::map<std::string, Given>& given) {
    std::error_code error;
    if (fs::is_directory(path, error)) {
      diags_.Emit({}, diag::BadParamFile, path, "it is a directory").AddHelp("give a JSON file:  -p @params.json");
      return;
    }
    std::ifstream in(path, std::ios::binary);
    if (!in) {
      diags_.Emit({}, diag::BadParamFile, path, std::strerror(errno)).AddHelp("a relative path starts at the working directory");
      return;
    }
    std::ostringstream text;
    text << in.rdbuf();
    Result<ir::Value> json = ir::ParseJson(std::move(text).str());
    if (!json.ok()) {
      diags_.Emit({}, diag::BadParamFile, path, json.error().message);
      return;
    }
    if (json->kind() != ir::ValueKind::Map) {
      diags_.Emit({}, diag::BadParamFile, path, "expected an object such as {\"name\": value}");
      return;
    }
    for (const auto& [key, value] : json->as_map()) {
      if (FindParam(key.as_string()) == nullptr) {
        UnknownName(key.as_string(), path);
        continue;
      }
      given[key.as_string()] = {true, value, "", fs::path(path).filename().string()};
    }
  }

  void CheckRequires() {
    for (const ParamRequire& require : model_.requires_) {
      ir::Value value;
      if (!evaluator_.Evaluate(require.condition, context_, value)) {
        if (evaluator_.fault().kind != ir::FaultKind::Unavailable) diags_.Emit(require.span, diag::EvaluationFailed, evaluator_.fault().message).Label("cannot be evaluated");
        continue;
      }
      if (value.as_bool()) continue;
      std::string message;
      ir::Value text;
      if (require.message.valid() && evaluator_.Evaluate(require.message, context_, text)) message = text.as_string();
      diags_.Emit(require.span, diag::RequireFailed, message.empty() ? fmt::format("`{}` does not hold", require.text) : message).Label("required here");
    }
  }

  // ---- files ----

  static void UrisIn(const ir::Value& value, std::vector<std::string>& out) {
    if (value.kind() == ir::ValueKind::File) {
      if (value.as_file().base == ir::FileBase::Uri) out.push_back(value.as_file().path);
    } else if (value.kind() == ir::ValueKind::List) {
      for (const ir::Value& element : value.as_list()) UrisIn(element, out);
    } else if (value.kind() == ir::ValueKind::Map) {
      for (const auto& [key, element] : value.as_map()) UrisIn(element, out);
    }
  }

  void CheckFiles() {
    std::vector<std::string> uris;
    for (const ir::Param& param : plan_.program.params) {
      if (param.value && HoldsFile(param.type)) UrisIn(*param.value, uris);
    }
    for (const FileLiteral& literal : model_.files) {
      ir::Value value;
      if (!InDefault(literal.span) && evaluator_.Evaluate(literal.expr, context_, value)) UrisIn(value, uris);
    }
    context_.Ask(uris);
    for (size_t i = 0; i < plan_.program.params.size(); ++i) {
      const ir::Param& param = plan_.program.params[i];
      if (param.value) FilesIn(*param.value, param.type, model_.param_spans[i], param.name + " (" + param.origin + ")");
    }
    for (const FileLiteral& literal : model_.files) {
      if (InDefault(literal.span)) continue;  // looked at as the value of its parameter, where it is that
      ir::Value value;
      if (!evaluator_.Evaluate(literal.expr, context_, value)) {
        // Unavailable: depends on an instance, looked at when that starts.
        if (evaluator_.fault().kind != ir::FaultKind::Unavailable) diags_.Emit(literal.span, diag::EvaluationFailed, evaluator_.fault().message).Label("has no value");
        continue;
      }
      if (value.kind() == ir::ValueKind::File) CheckFile(value.as_file(), literal.span, "");
    }
  }

  bool InDefault(Span span) {
    for (const ir::Param& param : plan_.program.params) {
      if (!param.fallback.valid()) continue;
      const Span whole = PlaceSpan(param.fallback);
      if (whole.valid() && whole.source == span.source && whole.begin <= span.begin && span.end <= whole.end) return true;
    }
    return false;
  }

  void FilesIn(const ir::Value& value, ir::TypeId type, Span span, const std::string& from) {
    switch (value.kind()) {
      case ir::ValueKind::File: CheckFile(value.as_file(), span, from); break;
      case ir::ValueKind::List:
        if (!HoldsFile(type)) return;
        for (const ir::Value& element : value.as_list()) FilesIn(element, {}, span, from);
        break;
      case ir::ValueKind::Map:
        if (!HoldsFile(type)) return;
        for (const auto& [key, element] : value.as_map()) FilesIn(element, {}, span, from);
        break;
      default: break;
    }
  }

  /// An invalid type: not known, looked at in any case.
  bool HoldsFile(ir::TypeId type) const { return !type.valid() || plan_.program.types.HasFile(type); }

  void CheckFile(const ir::FileValue& file, Span span, const std::string& from) {
    if (file.base == ir::FileBase::Text) return;  // made, not read
    ir::Fault fault;
    const bool described = context_.Describe(file, fault) != nullptr;
    if (file.base == ir::FileBase::Uri) {
      CheckRemote(file, span, from);
      return;
    }
    if (described) return;
    const std::string path = LocateFile(file, root_directory_);
    auto& d = diags_.Emit(span, diag::FileMissing, file.is_dir ? "directory" : "file", file.path, Reason(path, file.is_dir, fault.message))
                  .Label(from.empty() ? "needed before anything runs" : "the value of this parameter");
    if (!from.empty()) d.Note("the value comes from " + from);
    std::error_code error;
    fs::path parent = fs::path(path).parent_path();
    std::vector<std::string> names;
    for (fs::directory_iterator it(parent.empty() ? "." : parent, error), end; !error && it != end && names.size() < 10'000; it.increment(error)) {
      if (it->is_directory(error) == file.is_dir) names.push_back(it->path().filename().string());
    }
    std::sort(names.begin(), names.end());
    std::vector<std::string_view> views(names.begin(), names.end());
    std::string wanted = fs::path(path).filename().string();
    std::string_view like = DidYouMean(wanted, views);
    if (!like.empty() && like != wanted) {
      d.AddHelp(fmt::format("did you mean `{}`?", (fs::path(file.path).parent_path() / std::string(like)).string()));
    } else if (file.base == ir::FileBase::Source) {
      d.Note("a relative path in a source starts at the directory of that source");
    } else if (file.base == ir::FileBase::Cwd) {
      d.Note("a relative path on the command line starts at the working directory");
    }
  }

  /// A remote file whose server was asked: is it there, and is its content named?
  void CheckRemote(const ir::FileValue& file, Span span, const std::string& from) {
    const RemoteDescription* const remote = context_.Remote(file.path);
    if (remote == nullptr || !told_remote_.insert(file.path).second) return;
    const auto origin = [&](Diagnostic& d) {
      if (!from.empty()) d.Note("the value comes from " + from);
    };
    if (!remote->problem.empty()) {
      auto& d = diags_.Emit(span, diag::FileMissing, file.is_dir ? "directory" : "file", file.path, remote->missing ? "does not exist" : file.is_dir ? "cannot be used" : "cannot be asked for")
                    .Label(from.empty() ? "needed before anything runs" : "the value of this parameter");
      if (!remote->missing) d.Note(remote->problem);
      origin(d);
      return;
    }
    if (PlanContext::Named(*remote)) return;
    auto& d = diags_.Emit(span, diag::RemoteUnnamed, file.path).Label("its server gives no ETag");
    d.Note("it is fetched anew in each run, no result that used it is used again, and `jobc run plan.json` refuses it");
    d.AddHelp("keep a copy where contents have names: beside the source, or in a bucket (s3://…)")
        .AddHelp("or fetch it in a job of its own, which can check its hash:  import \"std/fetch@1\" as fetch");
    origin(d);
  }

  static std::string Reason(const std::string& path, bool is_dir, const std::string& fallback) {
    struct stat info;
    if (stat(path.c_str(), &info) != 0) return errno == ENOENT ? "does not exist" : std::strerror(errno);
    if (!is_dir && S_ISDIR(info.st_mode)) return "is a directory";
    if (is_dir && !S_ISDIR(info.st_mode)) return "is not a directory";
    size_t colon = fallback.rfind(": ");
    return colon == std::string::npos ? fallback : "cannot be read: " + fallback.substr(colon + 2);
  }

  /// Files of parameter values know their row, so that the run finds hash and size without looking for the path.
  void SetRows() {
    std::map<std::tuple<ir::FileBase, bool, std::string>, uint32_t> rows;
    for (uint32_t i = 0; i < plan_.files.size(); ++i) rows[{plan_.files[i].base, plan_.files[i].is_dir, plan_.files[i].path}] = i;
    for (ir::Param& param : plan_.program.params) {
      if (param.value && HoldsFile(param.type)) param.value = WithRows(*param.value, rows);
    }
  }

  ir::Value WithRows(const ir::Value& value, const std::map<std::tuple<ir::FileBase, bool, std::string>, uint32_t>& rows) {
    switch (value.kind()) {
      case ir::ValueKind::File: {
        ir::FileValue file = value.as_file();
        auto it = rows.find({file.base, file.is_dir, file.path});
        if (it != rows.end()) file.row = it->second;
        return ir::Value::File(std::move(file));
      }
      case ir::ValueKind::List: {
        ir::ListValue list;
        for (const ir::Value& element : value.as_list()) list.push_back(WithRows(element, rows));
        return ir::Value::List(std::move(list));
      }
      case ir::ValueKind::Map: {
        ir::MapValue map;
        for (const auto& [key, element] : value.as_map()) map.emplace_back(key, WithRows(element, rows));
        return ir::Value::Map(std::move(map));
      }
      default: return value;
    }
  }

  // ---- instances ----

  void CheckDomains() {
    std::vector<std::optional<ir::Instances>>& all = instances_;
    all.resize(plan_.jobs.size());
    for (uint32_t j = 0; j < plan_.jobs.size(); ++j) {
      ir::Job& job = plan_.jobs[j];
      if (job.domain.dynamic) continue;
      context_.instances = nullptr;
      Result<ir::Instances> instances = ir::Instances::Expand(plan_, j, evaluator_, context_);
      if (!instances.ok()) {
        diags_.Emit(model_.job_spans[j], diag::KeysCollide, instances.error().message).Label("its instances cannot be told apart").AddHelp("correct the values, or leave `key` out: then the instances are numbered");
        continue;
      }
      job.domain.count = instances->size();
      if (job.domain.count == 0u && !job.domain.excluded.empty() && job.domain.axes.size() > 0 && !job.domain.list.valid()) {
        diags_.Emit(model_.job_spans[j], diag::NothingLeft, job.address).Label("`exclude` removes every combination");
      }
      all[j] = std::move(*instances);
    }
    for (uint32_t j = 0; j < plan_.jobs.size(); ++j) {
      if (!all[j]) continue;
      CheckPaths(j, *all[j]);
      CheckIndices(j, *all[j], all);
    }
    context_.instances = nullptr;
  }

  /// A part of a path that can hold neither `/` nor `.`.
  bool Harmless(ExprId expr) {
    const ir::Expr& e = plan_.program.exprs[expr];
    if (e.op == Op::Const) {
      const ir::Value& value = plan_.program.exprs.ConstValue(expr);
      return value.kind() == ir::ValueKind::String ? value.as_string().find("..") == std::string::npos : true;
    }
    ir::TypeKind kind = plan_.program.types.kind(e.type);
    if (kind == ir::TypeKind::Int || kind == ir::TypeKind::Bool || kind == ir::TypeKind::Enum) return true;
    if (e.op == Op::Call && static_cast<ir::Builtin>(e.a) == ir::Builtin::pad) {
      return plan_.program.types.kind(plan_.program.exprs[plan_.program.exprs.arg(e, 0)].type) == ir::TypeKind::Int;
    }
    if (e.op == Op::Apply) return Harmless(plan_.program.fns[e.a].body);
    if (e.op == Op::Concat) {
      // Two harmless parts must not make `..` together, nor an absolute path.
      bool dot_before = false;
      for (uint32_t i = 0; i < e.args.size; ++i) {
        ExprId arg = plan_.program.exprs.arg(e, i);
        if (!Harmless(arg)) return false;
        if (plan_.program.exprs.IsConst(arg) && plan_.program.exprs.ConstValue(arg).kind() == ir::ValueKind::String) {
          const std::string& text = plan_.program.exprs.ConstValue(arg).as_string();
          if (i == 0 && !text.empty() && text[0] == '/') return false;
          if (dot_before && !text.empty() && text[0] == '.') return false;
          dot_before = !text.empty() && text.back() == '.';
        } else {
          dot_before = false;
        }
      }
      return true;
    }
    return false;
  }

  void CheckPaths(uint32_t j, const ir::Instances& instances) {
    const ir::Job& job = plan_.jobs[j];
    CheckPathsApart(j, instances);
    for (const ir::Output& output : job.outputs) {
      if (output.kind != ir::OutputKind::Path && output.kind != ir::OutputKind::Glob) continue;
      if (!output.value.valid() || Harmless(output.value) || instances.size() > kMostPathsLookedAt) continue;
      for (uint64_t i = 0; i < instances.size(); ++i) {
        context_.instances = &instances;
        context_.ordinal = i;
        ir::Value value;
        if (!evaluator_.Evaluate(output.value, context_, value)) {
          if (evaluator_.fault().kind == ir::FaultKind::Unavailable) break;
          diags_.Emit(model_.job_spans[j], diag::EvaluationFailed, fmt::format("the path of `{}.{}`: {}", instances.Address(i), output.name, evaluator_.fault().message)).Label("in this job");
          break;
        }
        const std::string& path = value.as_string();
        if (path.empty() || path[0] == '/' || path == ".." || path.rfind("../", 0) == 0 || path.find("/../") != std::string::npos || (path.size() >= 3 && path.compare(path.size() - 3, 3, "/..") == 0)) {
          diags_.Emit(model_.job_spans[j], diag::PathEscapes, path, "leaves the job's own directory")
              .Label("in this job")
              .Note(fmt::format("it is the path of `{}` of {}", output.name, instances.Address(i)));
          break;
        }
      }
    }
  }

  /// Two outputs of one instance: the same path, or one inside the other. Constant ones have been told by the check.
  void CheckPathsApart(uint32_t j, const ir::Instances& instances) {
    const ir::Job& job = plan_.jobs[j];
    std::vector<const ir::Output*> paths;
    bool computed = false;
    for (const ir::Output& output : job.outputs) {
      if (output.kind != ir::OutputKind::Path || !output.value.valid()) continue;
      paths.push_back(&output);
      computed = computed || !plan_.program.exprs.IsConst(output.value);
    }
    if (!computed || paths.size() < 2) return;
    for (uint64_t i = 0; i < std::min(instances.size(), kMostValuesLookedAt); ++i) {
      context_.instances = &instances;
      context_.ordinal = i;
      std::vector<std::string> texts;
      for (const ir::Output* output : paths) {
        ir::Value value;
        texts.push_back(evaluator_.Evaluate(output->value, context_, value) ? ir::NormalPath(value.as_string()) : "");
      }
      for (size_t x = 0; x < texts.size(); ++x) {
        for (size_t y = 0; y < texts.size(); ++y) {
          if (x == y || texts[x].empty() || texts[y].empty()) continue;
          const bool same = x < y && texts[x] == texts[y];
          if (!same && !ir::IsInside(texts[y], texts[x])) continue;
          if (plan_.program.exprs.IsConst(paths[x]->value) && plan_.program.exprs.IsConst(paths[y]->value)) continue;
          const Span span = PlaceSpan(paths[y]->value).valid() ? PlaceSpan(paths[y]->value) : model_.job_spans[j];
          auto& d = same ? diags_.Emit(span, diag::OneOutputPath, instances.Address(i), texts[x]) : diags_.Emit(span, diag::PathInside, texts[y], texts[x]);
          d.Label(fmt::format("the output `{}` of {}", paths[y]->name, instances.Address(i))).Secondary(PlaceSpan(paths[x]->value), fmt::format("the output `{}`", paths[x]->name));
          return;
        }
      }
    }
  }

  /// Every instance that is referred to by known indices exists (E205).
  void CheckIndices(uint32_t j, const ir::Instances& instances, const std::vector<std::optional<ir::Instances>>& all) {
    const ir::Job& job = plan_.jobs[j];
    for (const ir::Dependency& dependency : job.dependencies) {
      if (dependency.mapping != ir::Mapping::Expr || !all[dependency.job]) continue;
      for (uint64_t i = 0; i < instances.size(); ++i) {
        context_.instances = &instances;
        context_.ordinal = i;
        if (dependency.condition.valid()) {
          ir::Value condition;
          if (!evaluator_.Evaluate(dependency.condition, context_, condition) || !condition.as_bool()) continue;
        }
        ir::ListValue indices;
        bool known = true;
        for (ExprId index : dependency.indices) {
          ir::Value value;
          if (!evaluator_.Evaluate(index, context_, value)) {
            known = false;
            break;
          }
          indices.push_back(std::move(value));
        }
        if (!known) break;
        if (all[dependency.job]->Find(indices) >= 0) continue;
        const ir::Job& other = plan_.jobs[dependency.job];
        Span span = IndexSpan(dependency);
        auto& d = diags_.Emit(span.valid() ? span : model_.job_spans[j], diag::NoSuchInstance, other.address, IndexText(indices, other))
                      .Label(fmt::format("{} refers to it", instances.Address(i)))
                      .Secondary(model_.job_spans[dependency.job], fmt::format("has {} instances", all[dependency.job]->size()));
        if (all[dependency.job]->size() > 0) d.Note(fmt::format("the first is {}", all[dependency.job]->Address(0)));
        break;
      }
    }
  }

  Span IndexSpan(const ir::Dependency& dependency) {
    if (dependency.indices.empty()) return {};
    ir::Place place = plan_.program.exprs.place(dependency.indices.front());
    if (place.source == UINT32_MAX) return {};
    return {SourceId{place.source}, place.begin, place.end};
  }

  std::string IndexText(const ir::ListValue& indices, const ir::Job& job) {
    std::vector<std::string> texts;
    size_t k = 0;
    for (const ir::Value& index : indices) {
      ir::TypeId type = job.domain.list.valid() ? (k == 0 ? job.domain.key_type : job.domain.axes[k - 1].type) : job.domain.axes[k].type;
      std::string text;
      if (!evaluator_.ToText(index, type, context_, text)) text = "?";
      texts.push_back(std::move(text));
      ++k;
    }
    return ir::FormatAddress(job.address, texts);
  }

  /// Calls `test(value, instance)` with the value of `expr` for each instance of a job until it returns false. One that is
  /// the same for all is looked at once.
  template <typename Test>
  void ForEachValue(uint32_t j, ExprId expr, Test test) {
    if (!expr.valid()) return;
    context_.instances = nullptr;
    ir::Value value;
    if (plan_.program.exprs.IsConst(expr) || !instances_[j]) {
      if (evaluator_.Evaluate(expr, context_, value)) test(value, plan_.jobs[j].address);
      return;
    }
    const ir::Instances& instances = *instances_[j];
    if (evaluator_.Evaluate(expr, context_, value)) {
      if (instances.size() > 0) test(value, plan_.jobs[j].address);
      return;
    }
    context_.instances = &instances;
    for (uint64_t i = 0; i < std::min(instances.size(), kMostPathsLookedAt); ++i) {
      context_.ordinal = i;
      if (!evaluator_.Evaluate(expr, context_, value)) {
        if (evaluator_.fault().kind == ir::FaultKind::Unavailable) return;
        diags_.Emit(model_.job_spans[j], diag::EvaluationFailed, fmt::format("{}: {}", instances.Address(i), evaluator_.fault().message)).Label("in this job");
        return;
      }
      if (!test(value, instances.Address(i))) return;
    }
  }

  void CheckPoolClaims(uint32_t j) {
    for (const auto& [pool, claim] : plan_.jobs[j].pools) {
      ir::Value slots;
      context_.instances = nullptr;
      if (!plan_.pools[pool].slots.valid() || !evaluator_.Evaluate(plan_.pools[pool].slots, context_, slots)) continue;
      // Both constant: told by the check, under every profile.
      if (plan_.program.exprs.IsConst(plan_.pools[pool].slots) && plan_.program.exprs.IsConst(claim)) continue;
      const std::string& name = plan_.pools[pool].name;
      ForEachValue(j, claim, [&](const ir::Value& value, const std::string& address) {
        if (value.as_int() <= slots.as_int()) return true;
        diags_.Emit(model_.job_spans[j], diag::NeverAdmitted, address, name)
            .Label(fmt::format("takes {} slots of `{}`", value.as_int(), name))
            .Note(fmt::format("the pool has {}", slots.as_int()))
            .AddHelp(fmt::format("claim at most {}, or give the pool more slots", slots.as_int()));
        return false;
      });
    }
  }

  /// Time limits that no attempt could keep; constant ones have been told by the check.
  void CheckLimits(uint32_t j) {
    const ir::TimeoutSpec& timeout = plan_.jobs[j].timeout;
    for (const auto& limit : {std::pair("queue", timeout.queue), std::pair("run", timeout.run), std::pair("total", timeout.total), std::pair("idle", timeout.idle),
                              std::pair("stage", timeout.stage), std::pair("collect", timeout.collect)}) {
      const char* name = limit.first;
      const ir::ExprId expr = limit.second;
      if (!expr.valid() || plan_.program.exprs.IsConst(expr)) continue;
      ForEachValue(j, expr, [&](const ir::Value& value, const std::string& address) {
        if (value.kind() != ir::ValueKind::Duration || value.as_int() > 0) return true;
        diags_.Emit(PlaceSpan(expr).valid() ? PlaceSpan(expr) : model_.job_spans[j], diag::LimitNotPositive, name)
            .Label("would end every attempt at once")
            .Note(fmt::format("it is {} for {}", ir::DurationText(value.as_int()), address))
            .AddHelp("leave it out for no limit");
        return false;
      });
    }
  }

  /// What has no value with these parameters, wherever the job uses it. An instance that its guard skips uses nothing.
  void CheckFaults(uint32_t j) {
    const ir::Job& job = plan_.jobs[j];
    EarlyParts early(plan_.program, instances_[j].has_value());
    std::vector<ExprId> parts;
    auto add = [&](ExprId expr) {
      if (!expr.valid()) return;
      for (ExprId part : early.Of(expr)) parts.push_back(part);
    };
    for (const ir::Input& input : job.inputs) add(input.value);
    for (const ir::EnvEntry& entry : job.env) add(entry.value);
    for (ExprId expr : {job.image, job.resources.cpu, job.resources.memory, job.resources.disk, job.resources.gpu, job.resources.spot, job.priority, job.grace,
                        job.log_limit, job.timeout.queue, job.timeout.run, job.timeout.total, job.timeout.idle, job.timeout.stage, job.timeout.collect, job.retry.backoff.base, job.retry.backoff.max, job.run,
                        job.cache, job.cache_salt, job.staging}) {
      add(expr);
    }
    for (const auto* script : {&job.script, &job.prologue, &job.epilogue}) {
      if (!*script) continue;
      for (const ir::ScriptBinding& binding : (*script)->bindings) add(binding.value);
    }
    for (const ir::NamedExpr& label : job.labels) add(label.value);
    for (const ir::NamedExpr& option : job.backend.options) add(option.value);
    for (const ir::Output& output : job.outputs) {
      if (output.kind == ir::OutputKind::Path || output.kind == ir::OutputKind::Glob) add(output.value);
    }
    for (const ir::Require& require : job.requires_) add(require.condition);
    if (job.when.valid() && !early.IsEarly(job.when)) add(job.when);
    const ir::Instances* instances = instances_[j] ? &*instances_[j] : nullptr;
    const bool guarded = job.when.valid() && early.IsEarly(job.when);
    for (ExprId part : parts) {
      const bool each = instances != nullptr && (early.DependsOnInstance(part) || (guarded && early.DependsOnInstance(job.when)));
      const uint64_t count = instances == nullptr ? 1 : each ? std::min(instances->size(), kMostValuesLookedAt) : std::min<uint64_t>(instances->size(), 1);
      for (uint64_t i = 0; i < count; ++i) {
        context_.instances = instances;
        context_.ordinal = i;
        ir::Value value;
        if (guarded && evaluator_.Evaluate(job.when, context_, value) && !value.as_bool()) continue;
        if (evaluator_.Evaluate(part, context_, value)) continue;
        const ir::Fault& fault = evaluator_.fault();
        if (fault.kind == ir::FaultKind::Unavailable) break;
        const Span span = fault.at.valid() && PlaceSpan(fault.at).valid() ? PlaceSpan(fault.at) : PlaceSpan(part).valid() ? PlaceSpan(part) : model_.job_spans[j];
        auto& d = diags_.Emit(span, diag::EvaluationFailed, fault.message).Label("has no value with these parameters");
        d.Secondary(model_.job_spans[j], fmt::format("needed by {}", instances != nullptr ? instances->Address(i) : job.address));
        d.AddHelp("give other parameters, or skip the job where it has no value:  when = …");
        break;
      }
    }
    if (guarded) {
      for (uint64_t i = 0; i < (instances == nullptr ? 1 : std::min(instances->size(), kMostValuesLookedAt)); ++i) {
        context_.instances = instances;
        context_.ordinal = i;
        ir::Value value;
        if (evaluator_.Evaluate(job.when, context_, value) || evaluator_.fault().kind == ir::FaultKind::Unavailable) continue;
        const ir::Fault& fault = evaluator_.fault();
        diags_.Emit(fault.at.valid() && PlaceSpan(fault.at).valid() ? PlaceSpan(fault.at) : model_.job_spans[j], diag::EvaluationFailed, fault.message)
            .Label("has no value with these parameters")
            .Secondary(model_.job_spans[j], fmt::format("decides about {}", instances != nullptr ? instances->Address(i) : job.address));
        break;
      }
    }
    context_.instances = nullptr;
  }

  /// The rule of `cache`, for images and switches that only parameters decide.
  void CheckCacheKey(uint32_t j) {
    const ir::Job& job = plan_.jobs[j];
    const ir::ExprPool& exprs = plan_.program.exprs;
    if (!job.cache.valid() || job.cache_salt.valid() || (exprs.IsConst(job.cache) && (!job.image.valid() || exprs.IsConst(job.image)))) return;
    bool cached = false;
    ForEachValue(j, job.cache, [&](const ir::Value& value, const std::string&) {
      cached = value.as_bool();
      return !cached;
    });
    if (!cached) return;
    const Span span = PlaceSpan(job.cache).valid() ? PlaceSpan(job.cache) : model_.job_spans[j];
    auto tell = [&](std::string_view needs, std::string note) {
      diags_.Emit(span, diag::MissingAttribute, "`cache = true`", needs)
          .Label("such a result may not be used by another run")
          .Note(std::move(note))
          .AddHelp("add, and change when the programs change:  cache_salt = \"1\"");
    };
    if (!job.image.valid()) return tell("`cache_salt`", "no image says which versions of programs made the result");
    ForEachValue(j, job.image, [&](const ir::Value& value, const std::string& address) {
      if (check::NamesImageContent(value.as_string())) return true;
      tell("an image with its digest, or `cache_salt`", fmt::format("the image of {} is `{}`", address, value.as_string()));
      return false;
    });
  }

  /// Inputs whose path depends on the variables of a static scatter: as much a part of the plan as any other file.
  void CheckInputFiles(uint32_t j) {
    const ir::Job& job = plan_.jobs[j];
    if (!instances_[j] || job.domain.single()) return;
    const ir::Instances& instances = *instances_[j];
    for (const ir::Input& input : job.inputs) {
      ir::Value value;
      context_.instances = nullptr;
      // The same for all instances: looked at already, as a literal or as the value of a parameter.
      if (!HoldsFile(input.type) || evaluator_.Evaluate(input.value, context_, value)) continue;
      context_.instances = &instances;
      std::vector<std::string> uris;
      for (uint64_t i = 0; options_.describe_remote && i < std::min(instances.size(), kMostPathsLookedAt); ++i) {
        context_.ordinal = i;
        ir::Value guard;
        if (job.when.valid() && evaluator_.Evaluate(job.when, context_, guard) && !guard.as_bool()) continue;
        if (!evaluator_.Evaluate(input.value, context_, value)) break;
        UrisIn(value, uris);
      }
      context_.Ask(uris);
      const Span span = PlaceSpan(input.value).valid() ? PlaceSpan(input.value) : model_.job_spans[j];
      const size_t before = diags_.error_count();
      for (uint64_t i = 0; i < std::min(instances.size(), kMostPathsLookedAt) && diags_.error_count() < before + 3; ++i) {
        context_.ordinal = i;
        ir::Value guard;
        const bool guarded = job.when.valid();
        const bool decided = guarded && evaluator_.Evaluate(job.when, context_, guard);
        if (decided && !guard.as_bool()) continue;  // never reads it
        if (!evaluator_.Evaluate(input.value, context_, value)) break;  // of another job, or told when it starts
        if (!guarded || decided) {
          FilesIn(value, input.type, span, "");
        } else {
          // Whether it is needed is known only in the run; what is there belongs to the plan all the same.
          DescribeIn(value);
        }
      }
      context_.instances = nullptr;
    }
  }

  void DescribeIn(const ir::Value& value) {
    ir::Fault ignored;
    if (value.kind() == ir::ValueKind::File) {
      if (value.as_file().base == ir::FileBase::Text) return;
      (void)context_.Describe(value.as_file(), ignored);
    } else if (value.kind() == ir::ValueKind::List) {
      for (const ir::Value& element : value.as_list()) DescribeIn(element);
    } else if (value.kind() == ir::ValueKind::Map) {
      for (const auto& [key, element] : value.as_map()) DescribeIn(element);
    }
  }

  /// What the backend lacks or limits, for values that only parameters decide; constant ones have been told by the check.
  void CheckBackend(uint32_t j) {
    const ir::Job& job = plan_.jobs[j];
    if (job.kind == ir::JobKind::Check || job.kind == ir::JobKind::Hook) return;
    const check::Capabilities& can = check::SchemaOf(job.backend.kind).can;
    const std::string_view name = ir::BackendName(job.backend.kind);
    auto at = [&](ExprId expr) { return PlaceSpan(expr).valid() ? PlaceSpan(expr) : model_.job_spans[j]; };
    auto open = [&](ExprId expr) { return expr.valid() && !plan_.program.exprs.IsConst(expr); };
    auto lacks = [&](ExprId expr, bool has, std::string_view what, auto wanted) {
      if (has || !open(expr)) return;
      ForEachValue(j, expr, [&](const ir::Value& value, const std::string& address) {
        if (!wanted(value)) return true;
        diags_.Emit(at(expr), diag::BackendLacks, name, what).Label(fmt::format("asked for by {}", address)).AddHelp("choose another backend for this job in the profile, or do not ask for it");
        return false;
      });
    };
    auto above = [&](std::string_view setting, ExprId expr, double most, auto text) {
      if (most <= 0 || !open(expr)) return;
      ForEachValue(j, expr, [&](const ir::Value& value, const std::string& address) {
        const double number = value.kind() == ir::ValueKind::Float ? value.as_float() : static_cast<double>(value.as_int());
        if (number <= most) return true;
        const std::string limit = text(most);
        diags_.Emit(at(expr), diag::AboveLimit, setting, text(number), name, limit).Label(fmt::format("of {}", address)).AddHelp(fmt::format("give the most it can be:  min(…, {})", limit));
        return false;
      });
    };
    auto bytes = [](double n) { return ir::BytesText(static_cast<int64_t>(n)); };
    auto count = [](double n) { return ir::FloatText(n); };
    auto time = [](double n) { return ir::DurationText(static_cast<int64_t>(n)); };
    lacks(job.resources.gpu, can.gpu, "cannot be asked for graphics processors", [](const ir::Value& v) { return v.as_int() > 0; });
    lacks(job.resources.spot, can.spot, "has no machines that can be taken away", [](const ir::Value& v) { return v.as_bool(); });
    above("cpu", job.resources.cpu, can.max_cpu, count);
    above("memory", job.resources.memory, static_cast<double>(can.max_memory), bytes);
    above("gpu", job.resources.gpu, static_cast<double>(can.max_gpu), count);
    above("timeout.run", job.timeout.run, static_cast<double>(can.max_run_ms), time);
    if (job.action == ir::ActionKind::ImageArgs && instances_[j]) CheckNames(j);
    for (const ir::NamedExpr& option : job.backend.options) {
      if (!open(option.value)) continue;
      if (option.name == "mounts") {
        ForEachValue(j, option.value, [&](const ir::Value& value, const std::string& address) {
          const std::vector<ir::Mount> mounts = ir::MountsOf(value);
          const std::vector<ir::MountFault> faults = ir::FaultsOf(mounts, job.backend.kind);
          for (const ir::MountFault& fault : faults) {
            const ir::Mount& mount = mounts[fault.mount];
            diags_.Emit(at(option.value), diag::BadMount, fmt::format("mount `{}`", mount.name), fault.message)
                .Label(fmt::format("`{}` at `{}`, for {}", mount.source, mount.target, address))
                .AddHelp(fault.help);
          }
          return faults.empty();
        });
      } else if (option.name == "workdir" && (job.backend.kind == ir::BackendKind::Docker || job.backend.kind == ir::BackendKind::Podman || job.backend.kind == ir::BackendKind::Apptainer)) {
        ForEachValue(j, option.value, [&](const ir::Value& value, const std::string& address) {
          const std::string fault = ir::WorkdirFault(value.as_string());
          if (fault.empty()) return true;
          diags_.Emit(at(option.value), diag::BadMount, "working directory", fmt::format("`{}` {}", value.as_string(), fault))
              .Label(fmt::format("of {}", address))
              .AddHelp("name a directory of the image or of a mount:  workdir = \"/mnt/data\"");
          return false;
        });
      }
    }
    for (const ir::Input& input : job.inputs) {
      if (!HoldsFile(input.type) || !open(input.value)) continue;
      ForEachValue(j, input.value, [&](const ir::Value& value, const std::string& address) {
        const std::string uri = HiddenUri(value, can);
        if (uri.empty()) return true;
        diags_.Emit(at(input.value), diag::NotVisible, name, fmt::format("`{}`", uri)).Label(fmt::format("an input of {}", address))
            .Note(can.schemes.empty() ? "it sees local paths only" : fmt::format("beside local paths it reads {} URIs", can.schemes));
        return false;
      });
    }
    if (can.needs_staging && open(job.staging)) {
      ForEachValue(j, job.staging, [&](const ir::Value& value, const std::string&) {
        if (ir::IsUri(value.as_string()) && check::CanStage(can, value.as_string())) return true;
        diags_.Emit(at(job.staging), diag::NotVisible, name, fmt::format("`{}`", value.as_string())).Label("its machines cannot reach this place").AddHelp("name a bucket:  gs://BUCKET/FOLDER");
        return false;
      });
    }
  }

  /// Where attempts of this machine are laid down.
  void CheckStaging(uint32_t j) {
    const ir::Job& job = plan_.jobs[j];
    if (job.kind == ir::JobKind::Check || !job.staging.valid() || check::SchemaOf(job.backend.kind).can.needs_staging) return;
    ForEachValue(j, job.staging, [&](const ir::Value& value, const std::string& address) {
      const std::string why = value.kind() == ir::ValueKind::String ? WhyNotStaged(value.as_string()) : std::string();
      if (why.empty()) return true;
      diags_.Emit(PlaceSpan(job.staging).valid() ? PlaceSpan(job.staging) : model_.job_spans[j], diag::NoStaging, value.as_string(), why)
          .Label(fmt::format("of {}", address))
          .AddHelp("name a folder that you can write to, or a bucket:  staging = \"s3://BUCKET/FOLDER\"");
      return false;
    });
  }

  std::string WhyNotStaged(const std::string& text) {
    if (auto known = staging_.find(text); known != staging_.end()) return known->second;
    std::string why = ir::StagingFault(text);
    if (why.empty() && !ir::IsUri(text)) {
      const auto normal = [](const std::string& path) {
        std::string out = fs::absolute(path).lexically_normal().string();
        return out.ends_with('/') ? out : out + "/";
      };
      const std::string place = normal(text[0] == '/' || root_directory_.empty() ? text : root_directory_ + "/" + text);
      for (const ir::FileRow& row : context_.Rows()) {
        if (!why.empty() || !row.is_dir || row.base == ir::FileBase::Uri) continue;
        ir::FileValue file;
        file.base = row.base;
        file.path = row.path;
        if (place.starts_with(normal(LocateFile(file, root_directory_)))) why = fmt::format("it lies in the directory `{}`, which the run reads", row.path);
      }
    }
    if (why.empty() && options_.staging_problem) why = options_.staging_problem(text);
    staging_[text] = why;
    return why;
  }

  /// The names of inputs that only parameters decide; what expressions alone tell has been compared by the check.
  void CheckNames(uint32_t j) {
    const ir::Job& job = plan_.jobs[j];
    bool open = false;
    for (const ir::Input& input : job.inputs) open = open || !check::StagedName(plan_, input.value);
    if (!open) return;
    const auto name_of = [&](size_t i) -> std::optional<std::string> {
      ir::Value value;
      if (!evaluator_.Evaluate(job.inputs[i].value, context_, value)) return check::StagedName(plan_, job.inputs[i].value);
      return value.kind() == ir::ValueKind::File ? std::optional<std::string>(ir::PathBasename(value.as_file().path)) : std::nullopt;
    };
    const auto span_of = [&](size_t i) { return PlaceSpan(job.inputs[i].value).valid() ? PlaceSpan(job.inputs[i].value) : model_.job_spans[j]; };
    context_.instances = &*instances_[j];
    for (uint64_t i = 0; i < std::min(instances_[j]->size(), kMostPathsLookedAt); ++i) {
      context_.ordinal = i;
      if (check::CheckInputNames(plan_, job, name_of, span_of, diags_)) break;
    }
    context_.instances = nullptr;
  }

  /// The first URI inside a value that the backend cannot stage, or "".
  std::string HiddenUri(const ir::Value& value, const check::Capabilities& can) {
    std::string found;
    switch (value.kind()) {
      case ir::ValueKind::File:
        if (value.as_file().base == ir::FileBase::Uri && !check::CanStage(can, value.as_file().path, value.as_file().is_dir)) return value.as_file().path;
        break;
      case ir::ValueKind::List:
        for (const ir::Value& element : value.as_list()) {
          if (found = HiddenUri(element, can); !found.empty()) return found;
        }
        break;
      case ir::ValueKind::Map:
        for (const auto& [key, element] : value.as_map()) {
          if (found = HiddenUri(element, can); !found.empty()) return found;
        }
        break;
      default: break;
    }
    return found;
  }

  void CheckRetries(uint32_t j) {
    const ir::Job& job = plan_.jobs[j];
    if (job.kind == ir::JobKind::Check) return;
    const ir::Instances* instances = instances_[j] ? &*instances_[j] : nullptr;
    const PlannedJob planned{plan_, job, model_.job_spans[j], instances != nullptr ? instances->size() : 1,
                             [&](uint64_t ordinal) {
                               context_.instances = instances;
                               context_.ordinal = ordinal;
                             },
                             [&](uint64_t ordinal) { return instances != nullptr ? instances->Address(ordinal) : job.address; }};
    jobc::CheckRetries(planned, evaluator_, context_, diags_);
    context_.instances = nullptr;
  }

  /// The proven bounds against `limits`, now that all values are known.
  void CheckWorstCase() {
    const ir::Limits& limits = plan_.limits;
    const bounds::PlanBounds bounds = bounds::Bound(plan_);
    bounds::Record(bounds, plan_);
    if (!options_.bounds && !limits.time_ms && !limits.attempts && !limits.instances) return;
    Span span = model_.limits_span;
    for (const Profile& profile : model_.profiles) {
      if (!span.valid() && profile.name == plan_.profile) span = profile.span;
    }
    const check::BudgetPlaces places{model_.job_spans, span, plan_.profile.empty() ? "" : fmt::format("under the profile `{}`", plan_.profile)};
    context_.instances = nullptr;
    const bool instances = limits.instances && bounds.instances > static_cast<uint64_t>(*limits.instances);
    std::string why;
    if (!plan_.jobs.empty()) {
      const ir::Job& largest = plan_.jobs[check::LargestPart(bounds, instances)];
      std::vector<ExprId> exprs{largest.domain.list, largest.when, largest.timeout.total, largest.timeout.run};
      for (const ir::Axis& axis : largest.domain.axes) exprs.push_back(axis.values);
      why = ParamsText(plan_, exprs, evaluator_, context_);
    }
    check::ReportBudget(plan_, bounds, places, diags_, why);
    if (options_.bounds || limits.time_ms) check::ReportUnbounded(plan_, bounds, places, options_.bounds, diags_);
  }

  /// Puts the digest that the lock has for it in place of an image's tag, so that the plan names contents.
  void PinImage(uint32_t j) {
    ir::Job& job = plan_.jobs[j];
    if (!job.image.valid() || !check::SchemaOf(job.backend.kind).can.takes_image) return;
    std::string image, why;
    ForEachValue(j, job.image, [&](const ir::Value& value, const std::string& address) {
      if (value.kind() != ir::ValueKind::String) return true;
      if (image.empty()) image = value.as_string();
      if (image == value.as_string()) return true;
      why = fmt::format("it is not the same for all instances: `{}` for {}", value.as_string(), address);
      return false;
    });
    if (image.empty()) why = "it is known only while the run goes on";
    if (options_.images != nullptr) options_.images->push_back({why.empty() ? image : "", job.backend.kind, job.address, why});
    if (!why.empty() || !IsLockable(image)) return;
    if (!lock_) {
      lock_ = ReadLock(LockPath(root_directory_));
      if (!lock_->ok()) {
        diags_.Emit(PlaceSpan(job.image).valid() ? PlaceSpan(job.image) : model_.job_spans[j], diag::LockBroken, lock_->error().message)
            .Label("the digest of this image may be in it")
            .AddHelp("repair it, or remove it and type:  jobc lock");
      }
    }
    if (!lock_->ok()) return;
    if (auto found = (*lock_)->images.find(image); found != (*lock_)->images.end()) {
      const ir::TypeId type = plan_.program.exprs[job.image].type;
      const ir::Place place = plan_.program.exprs.place(job.image);
      job.image = plan_.program.exprs.Constant(type, ir::Value::String(PinnedImage(image, found->second)), place);
    }
  }

  void CheckSettings() {
    for (uint32_t j = 0; j < plan_.jobs.size(); ++j) {
      PinImage(j);
      CheckInputFiles(j);
      CheckFaults(j);
      CheckBackend(j);
      CheckPoolClaims(j);
      CheckLimits(j);
      CheckCacheKey(j);
      CheckRetries(j);
    }
    for (uint32_t j = 0; j < plan_.jobs.size(); ++j) CheckStaging(j);
    context_.instances = nullptr;
    for (const ir::Publish& publish : plan_.publishes) {
      for (const ir::PublishEntry& entry : publish.entries) {
        ir::Value path;
        if (!entry.path.valid() || !evaluator_.Evaluate(entry.path, context_, path)) continue;
        const std::string& text = path.as_string();
        const bool constant = plan_.program.exprs.IsConst(entry.path);
        if (constant) {
          // Looked at by the check already.
        } else if (text.empty() || text[0] == '/' || text.find("//") != std::string::npos || ("/" + text + "/").find("/../") != std::string::npos || ("/" + text + "/").find("/./") != std::string::npos) {
          Span span = PlaceSpan(entry.path);
          diags_.Emit(span, diag::PathEscapes, text, "is no relative path below the destination").Label("published here");
        }
      }
    }
    CheckPublished();
  }

  // ---- what is published (E701) ----

  /// One file that will be published, as far as it is known which.
  struct Published {
    Span span;                ///< of the key
    std::string from;         ///< `report.html`, `align["s1"].bam`, a file
    bool certain = true;      ///< false: an instance that a guard may still skip
  };

  /// Calls `found(basename, from, certain)` for each file of `value` whose name is known before the run.
  template <typename Found>
  void NamesOf(ExprId value, Found found) {
    const ir::ExprPool& exprs = plan_.program.exprs;
    const ir::Expr e = exprs[value];
    switch (e.op) {
      case Op::Let: return NamesOf(plan_.program.lets[e.a].value, found);
      case Op::Narrow: case Op::Checked: case Op::Splice: return NamesOf(exprs.arg(e, 0), found);
      case Op::List:
        for (uint32_t i = 0; i < e.args.size; ++i) NamesOf(exprs.arg(e, i), found);
        return;
      case Op::Call:
        if (static_cast<ir::Builtin>(e.a) == ir::Builtin::compact || static_cast<ir::Builtin>(e.a) == ir::Builtin::flatten) NamesOf(exprs.arg(e, 0), found);
        return;
      case Op::JobOutput: case Op::GatherOutput: return NamesOfOutput(e, found);
      case Op::Const: case Op::Param: case Op::FileLiteral: {
        ir::Value file;
        context_.instances = nullptr;
        if (evaluator_.Evaluate(value, context_, file)) NamesOfValue(file, found);
        return;
      }
      default: return;
    }
  }

  template <typename Found>
  void NamesOfValue(const ir::Value& value, Found found) {
    if (value.kind() == ir::ValueKind::File) found(std::string(ir::PathBasename(value.as_file().path)), fmt::format("the file `{}`", value.as_file().path), true);
    if (value.kind() != ir::ValueKind::List) return;
    for (const ir::Value& element : value.as_list()) NamesOfValue(element, found);
  }

  template <typename Found>
  void NamesOfOutput(const ir::Expr& e, Found found) {
    const ir::Job& job = plan_.jobs[e.a];
    if (!instances_[e.a] || e.b >= job.outputs.size()) return;
    const ir::Output& output = job.outputs[e.b];
    if (output.kind != ir::OutputKind::Path || !output.value.valid()) return;
    const ir::Instances& instances = *instances_[e.a];
    ir::ListValue leading;
    context_.instances = nullptr;
    for (uint32_t i = 0; i < e.args.size; ++i) {
      ir::Value index;
      if (!evaluator_.Evaluate(plan_.program.exprs.arg(e, i), context_, index)) return;
      leading.push_back(std::move(index));
    }
    const std::vector<uint64_t> some = e.args.size > 0 ? instances.FindAll(leading) : std::vector<uint64_t>();
    const uint64_t count = e.args.size > 0 ? some.size() : instances.size();
    const bool may_skip = std::any_of(job.after.begin(), job.after.end(), [](const ir::After& after) { return after.kind == ir::AfterKind::Failed; });
    for (uint64_t i = 0; i < std::min(count, kMostPathsLookedAt); ++i) {
      const uint64_t ordinal = e.args.size > 0 ? some[i] : i;
      context_.instances = &instances;
      context_.ordinal = ordinal;
      ir::Value value;
      bool certain = !may_skip;
      if (job.when.valid()) {
        if (!evaluator_.Evaluate(job.when, context_, value)) certain = false;
        else if (!value.as_bool()) continue;
      }
      if (!evaluator_.Evaluate(output.value, context_, value)) break;
      found(std::string(ir::PathBasename(ir::NormalPath(value.as_string()))), instances.Address(ordinal) + "." + output.name, certain);
    }
    context_.instances = nullptr;
  }

  void CheckPublished() {
    std::map<std::pair<std::string, std::string>, Published> all;  // by destination and path
    uint64_t looked_at = 0;
    for (const ir::Publish& publish : plan_.publishes) {
      const std::string destination = ir::IsUri(publish.destination) ? publish.destination : ir::NormalPath(publish.destination);
      for (const ir::PublishEntry& entry : publish.entries) {
        ir::Value path;
        context_.instances = nullptr;
        if (!entry.path.valid() || !evaluator_.Evaluate(entry.path, context_, path) || path.as_string().empty()) continue;
        const std::string key = path.as_string();
        const Span span = PlaceSpan(entry.path);
        bool told = false;
        auto add = [&](const std::string& target, const std::string& from, bool certain) {
          if (told || ++looked_at > kMostPathsLookedAt) return;
          const auto [first, fresh] = all.try_emplace({destination, target}, Published{span, from, certain});
          if (fresh || !certain || !first->second.certain) return;
          told = true;
          auto& d = diags_.Emit(span, diag::PublishedTwice, target).Label(from.empty() ? "second source for this path" : fmt::format("from {}", from));
          if (first->second.span == span) d.Note(fmt::format("the other one is {}", first->second.from)).AddHelp("put what tells them apart into the name of the file");
          else d.Secondary(first->second.span, first->second.from.empty() ? "the first one" : fmt::format("from {}", first->second.from));
        };
        if (key.back() != '/') {
          add(ir::NormalPath(key), "", true);
        } else {
          NamesOf(entry.value, [&](const std::string& name, const std::string& from, bool certain) { add(ir::NormalPath(key + name), from, certain); });
        }
      }
    }
    context_.instances = nullptr;
    // Sorted, what lies inside a path comes behind it, with nothing between that does not begin with it.
    for (auto it = all.begin(); it != all.end(); ++it) {
      const auto& [destination, path] = it->first;
      for (auto other = std::next(it); other != all.end() && other->first.first == destination && other->first.second.compare(0, path.size(), path) == 0; ++other) {
        if (!ir::IsInside(other->first.second, path) || !it->second.certain || !other->second.certain) continue;
        diags_.Emit(other->second.span, diag::PathInside, other->first.second, path).Label("would be written into what is published there").Secondary(it->second.span, "published here");
        break;
      }
    }
    CheckPublishedOverInputs(all);
  }

  /// A run that changes what it reads is another one the next time.
  void CheckPublishedOverInputs(const std::map<std::pair<std::string, std::string>, Published>& all) {
    std::map<std::string, std::string> read;  // path -> what it is
    for (const ir::FileRow& row : context_.Rows()) {
      if (row.base == ir::FileBase::Source) read.emplace(row.path, row.is_dir ? "directory" : "file");
    }
    for (const ir::SourceRow& source : plan_.sources) {
      if (source.name.rfind("std/", 0) != 0) read.emplace(ir::NormalPath(source.name), "source");
    }
    for (const auto& [where, published] : all) {
      if (ir::IsUri(where.first)) continue;
      const std::string target = ir::NormalPath(where.first + "/" + where.second);
      auto it = read.find(target);
      for (std::string parent = target; it == read.end() && parent != ".";) {
        const size_t slash = parent.rfind('/');
        parent = slash == std::string::npos ? "." : parent.substr(0, slash);
        it = read.find(parent);
        if (it != read.end() && it->second != "directory") it = read.end();
      }
      if (it == read.end()) {
        it = read.lower_bound(target + "/");
        if (it != read.end() && !ir::IsInside(it->first, target)) it = read.end();
      }
      if (it != read.end()) {
        diags_.Emit(published.span, diag::PublishOverInput, target)
            .Label(fmt::format("the {} `{}` is read by this run", it->second, it->first))
            .Note("a run that changes what it reads is another one the next time")
            .AddHelp("publish to another place");
      }
    }
  }

  Span PlaceSpan(ExprId expr) {
    ir::Place place = plan_.program.exprs.place(expr);
    if (place.source == UINT32_MAX) return {};
    return {SourceId{place.source}, place.begin, place.end};
  }

  Model model_;
  ir::Plan& plan_;
  const LowerOptions& options_;
  const SourceManager& sources_;
  Diagnostics& diags_;
  std::string root_directory_;
  std::optional<Result<Lock>> lock_;  ///< of the root's directory, once an image asked for it
  PlanContext context_;
  std::set<std::string> told_remote_;
  std::map<std::string, std::string> staging_;  ///< what is wrong with a place of `staging`, by text
  ir::Evaluator evaluator_;
  std::vector<std::optional<ir::Instances>> instances_;  ///< by job; not of dynamic scatters
};

}  // namespace

std::optional<ir::Plan> Lower(Model&& model, const LowerOptions& options, const SourceManager& sources, Diagnostics& diags) {
  return Lowerer(std::move(model), options, sources, diags).Run();
}

}  // namespace jobc
