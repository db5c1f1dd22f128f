#include "runtime/cache_key.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>

#include "ir/expand.h"
#include "ir/file_path.h"
#include "ir/json.h"
#include "runtime/expr_uses.h"
#include "runtime/retry.h"
#include "runtime/value_parts.h"
#include "support/sha256.h"

namespace jobc {
namespace {

using ir::Op;
using ir::TypeKind;
using ir::Value;

/// Stands for `$`: no value of the language that reaches a command begins a path so.
constexpr char kPlace = '\x01';

int64_t Nanos(const timespec& time) { return time.tv_sec * 1'000'000'000LL + time.tv_nsec; }

std::string_view Basename(std::string_view path) {
  if (ir::IsUri(path)) path = ir::PathBasename(path);
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  const size_t slash = path.rfind('/');
  const std::string_view name = slash == std::string_view::npos ? path : path.substr(slash + 1);
  return name.empty() || name == "." ? "dir" : name;
}

void AppendMember(std::string& out, std::string_view name, std::string_view json) {
  if (out.back() != '{') out += ',';
  out += ir::JsonQuote(name);
  out += ':';
  out += json;
}

/// Members in the order of their names: parts are compared as texts, also with those read back from a journal.
std::string Canonical(const std::string& json) {
  auto parsed = ir::ParseJson(json);
  return parsed ? ir::JsonText(*parsed) : json;
}

}  // namespace

// --- FileHashes -------------------------------------------------------------

std::optional<FileHashes::Stamp> FileHashes::StampOf(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return std::nullopt;
  return Stamp{info.st_size, Nanos(info.st_mtim), Nanos(info.st_ctim), static_cast<uint64_t>(info.st_ino), static_cast<uint64_t>(info.st_dev)};
}

void FileHashes::Put(const std::string& path, std::string sha256) {
  if (auto stamp = StampOf(path)) known_[path] = {*stamp, std::move(sha256)};
}

std::string FileHashes::Known(const std::string& path) const {
  auto known = known_.find(path);
  return known != known_.end() && StampOf(path) == known->second.stamp ? known->second.sha256 : std::string();
}

Result<std::string> FileHashes::Of(const std::string& path, bool is_dir) {
  const auto stamp = StampOf(path);
  auto known = known_.find(path);
  if (known != known_.end() && stamp && (is_dir || known->second.stamp == *stamp)) return known->second.sha256;
  auto digest = is_dir ? Sha256OfTree(path) : Sha256OfFile(path);
  if (!digest) return digest.error();
  if (stamp) known_[path] = {*stamp, digest->sha256};
  return digest->sha256;
}

// --- Keys as text -----------------------------------------------------------

std::string KeyDigest(const KeyParts& shared, const KeyParts& own) {
  std::string text = fmt::format("{{\"format\":{},\"parts\":{{", kKeyFormat);
  auto s = shared.begin();
  auto o = own.begin();
  while (s != shared.end() || o != own.end()) {
    const bool from_shared = o == own.end() || (s != shared.end() && s->first < o->first);
    const auto& [name, json] = from_shared ? *s : *o;
    AppendMember(text, name, json);
    ++(from_shared ? s : o);
  }
  return Sha256Hex(text + "}}");
}

std::string KeyJson(const CacheKey& key) {
  std::string out = "{";
  if (!key.sha256.empty()) AppendMember(out, "key", "\"" + key.sha256 + "\"");
  std::string parts = "{";
  for (const auto& [name, json] : key.own) AppendMember(parts, name, json);
  AppendMember(out, "parts", parts + "}");
  return out + "}";
}

std::optional<CacheKey> KeyFromJson(std::string_view json) {
  if (json.empty()) return std::nullopt;
  auto parsed = ir::ParseJson(json);
  if (!parsed || parsed->kind() != ir::ValueKind::Map) return std::nullopt;
  CacheKey key;
  const Value* sha256 = parsed->Find("key");
  const Value* parts = parsed->Find("parts");
  if (parts == nullptr || parts->kind() != ir::ValueKind::Map) return std::nullopt;
  if (sha256 != nullptr && sha256->kind() == ir::ValueKind::String) key.sha256 = sha256->as_string();
  for (const auto& [name, value] : parts->as_map()) key.own[name.as_string()] = ir::JsonText(value);
  return key;
}

// --- KeyMaker ---------------------------------------------------------------

/// Sees the files of a job where the job will see them, whatever machine and run that is.
class KeyMaker::Context : public AttemptContext {
 public:
  using AttemptContext::AttemptContext;

  void Place(const std::string& place, ir::FileValue original) { originals_.emplace(place, std::move(original)); }

  bool FileSize(const ir::FileValue& file, Value& out, ir::Fault& fault) override {
    auto found = originals_.find(file.location);
    return found != originals_.end() ? world().FileSize(found->second, out, fault) : AttemptContext::FileSize(file, out, fault);
  }
  bool FileSha256(const ir::FileValue& file, Value& out, ir::Fault& fault) override {
    auto found = originals_.find(file.location);
    return found != originals_.end() ? world().FileSha256(found->second, out, fault) : AttemptContext::FileSha256(file, out, fault);
  }

 private:
  std::unordered_map<std::string, ir::FileValue> originals_;
};

struct KeyMaker::JobParts {
  KeyParts shared;
  bool uses_resources = false;
  bool shared_run = false;                           ///< `run` is in `shared`
  std::vector<bool> own_env, own_output;             ///< by index: not in `shared`
  std::vector<std::pair<std::string, ir::ScriptBinding>> values;  ///< of scripts, not in `shared`
  /// For outputs that are expressions: what they use that is known before the start, by output.
  std::vector<std::vector<ir::ExprId>> leaves;
  bool own_image = false, own_salt = false;
  std::string problem;
};

KeyMaker::KeyMaker(const ir::Plan& plan, World& world, FileHashes& hashes)
    : plan_(plan), world_(world), hashes_(hashes), evaluator_(plan.program), inputs_(plan.program), paths_(plan.program), structure_(plan), jobs_(plan.jobs.size()) {
  rows_.reserve(plan.files.size());
  for (uint32_t i = 0; i < plan.files.size(); ++i) {
    ir::FileValue file;
    file.base = plan.files[i].base;
    file.path = plan.files[i].path;
    const std::string path = world_.Locate(file);
    rows_.push_back(path.empty() ? std::nullopt : StampOf(path));
    if (!path.empty()) row_of_.emplace(path + (plan.files[i].is_dir ? "/" : ""), i);
  }
}

KeyMaker::~KeyMaker() = default;

std::optional<KeyMaker::RowStamp> KeyMaker::StampOf(const std::string& path) {
  struct stat info;
  if (stat(path.c_str(), &info) != 0) return std::nullopt;
  return RowStamp{info.st_size, Nanos(info.st_mtim), Nanos(info.st_ctim), static_cast<uint64_t>(info.st_ino)};
}

Result<std::string> KeyMaker::DigestOf(const ir::FileValue& file, Made& made) {
  if (file.base == ir::FileBase::Text) return file.sha256;
  const std::string path = world_.Locate(file);
  // A path made by an expression finds its row by its place.
  uint32_t index = file.row;
  if (auto found = row_of_.find(path + (file.is_dir ? "/" : "")); index >= plan_.files.size() && file.base != ir::FileBase::Job && found != row_of_.end()) index = found->second;
  if (index >= plan_.files.size()) {
    if (path.empty()) return Error{fmt::format("the content of `{}` is not known on this machine", file.path)};
    return hashes_.Of(path, file.is_dir);
  }
  const ir::FileRow& row = plan_.files[index];
  if (path.empty() || row.sha256.empty()) return row.sha256;
  const auto now = StampOf(path);
  std::optional<RowStamp>& was = rows_[index];
  if (now && was && *now == *was) return row.sha256;
  auto digest = file.is_dir ? Sha256OfTree(path) : Sha256OfFile(path);
  if (!digest) return digest.error();
  if (digest->sha256 != row.sha256) {
    made.changed_input = fmt::format("`{}` was changed after the plan was made (sha256 {}… instead of {}…); start the run again", path,
                                     digest->sha256.substr(0, 12), row.sha256.substr(0, 12));
    return Error{made.changed_input};
  }
  was = now;  // touched only
  return row.sha256;
}

bool KeyMaker::InputPart(const Value& value, ir::TypeId type, const std::string& place, Context& context, Value& seen, std::string& json, Made& made) {
  seen = value;
  if (value.is_null()) {
    json += "null";
    return true;
  }
  const ir::TypeTable& types = plan_.program.types;
  const ir::TypeNode& node = types[types.Bare(type)];
  switch (node.kind) {
    case TypeKind::Optional: return InputPart(value, node.a, place, context, seen, json, made);
    case TypeKind::File:
    case TypeKind::Dir: {
      const ir::FileValue& file = value.as_file();
      const std::string name(Basename(file.path));
      ir::FileValue staged = file;
      staged.location = fmt::format("{}JOB_INPUT/{}/{}", kPlace, place, name);
      if (file.base == ir::FileBase::Uri) {
        // Without a name for its content nobody can say whether it is what it was: such a result is never used again.
        const ir::FileRow* row = world_.NamedRow(file.path);
        if (row == nullptr) {
          made.problem = fmt::format("the server gives the content of `{}` no name (etag)", file.path);
          return false;
        }
        json += fmt::format("{{\"etag\":{},\"uri\":{}{}}}", ir::JsonQuote(row->etag), ir::JsonQuote(file.path), row->version.empty() ? "" : ",\"version\":" + ir::JsonQuote(row->version));
        return true;
      }
      auto digest = DigestOf(file, made);
      if (!digest) {
        made.problem = digest.error().message;
        return false;
      }
      json += fmt::format("{{\"name\":{},\"{}\":\"{}\"}}", ir::JsonQuote(name), node.kind == TypeKind::Dir ? "tree" : "sha256", *digest);
      context.AddStagedPath(world_.Locate(file), staged.location);
      context.Place(staged.location, file);
      seen = Value::File(std::move(staged));
      return true;
    }
    case TypeKind::List:
    case TypeKind::Pair:
    case TypeKind::Struct:
    case TypeKind::Map: {
      const bool list = node.kind == TypeKind::List;
      json += list ? '[' : '{';
      bool first = true;
      const bool ok = MapParts(types, value, type, [&](const Value& part, ir::TypeId inner, const std::string& name, Value& changed) {
        if (!first) json += ',';
        first = false;
        if (!list) json += ir::JsonQuote(name) + ":";
        return InputPart(part, inner, place + "/" + (node.kind == TypeKind::Map ? ir::SafeName(name) : name), context, changed, json, made);
      }, seen);
      json += list ? ']' : '}';
      return ok;
    }
    default: return ValueJson(value, type, context, json, made);
  }
}

bool KeyMaker::ValueJson(const Value& value, ir::TypeId type, Context& context, std::string& json, Made& made) {
  if (value.kind() == ir::ValueKind::Secret || plan_.program.types.HasSecret(type)) {
    json += "{\"secret\":true}";  // neither the value nor anything made of it
    return true;
  }
  if (value.is_null()) {
    json += "null";
    return true;
  }
  auto encoded = ir::EncodeJson(value, type, plan_.program, context);
  if (!encoded) {
    made.problem = encoded.error().message;
    return false;
  }
  json += *encoded;
  return true;
}

KeyMaker::JobParts& KeyMaker::Of(uint32_t index) {
  std::unique_ptr<JobParts>& slot = jobs_[index];
  if (slot != nullptr) return *slot;
  slot = std::make_unique<JobParts>();
  JobParts& parts = *slot;
  const ir::Job& job = plan_.jobs[index];
  const ir::Program& program = plan_.program;
  std::vector<ir::ExprId> used{job.run, job.image, job.cache_salt};

  auto names = [](const auto& list, auto name_of) {
    std::vector<std::string> sorted;
    for (const auto& one : list) sorted.push_back(ir::JsonQuote(name_of(one)));
    std::sort(sorted.begin(), sorted.end());
    return fmt::format("[{}]", fmt::join(sorted, ","));
  };
  if (!job.inherit_env.empty()) parts.shared["inherit_env"] = names(job.inherit_env, [](const std::string& name) { return name; });
  if (!job.secret_files.empty()) parts.shared["secret_files"] = names(job.secret_files, [](const ir::NamedExpr& one) { return one.name; });

  // What all instances share is evaluated once, in a context that has nothing.
  RunState nothing(plan_, "");
  Context context(nothing, world_, inputs_, {index, 0});
  Made made;
  auto shared = [&](const std::string& name, ir::ExprId id, ir::TypeId type) {
    Value value;
    std::string json;
    if (!IsSharedByInstances(program, id) || !evaluator_.Evaluate(id, context, value) || !ValueJson(value, type, context, json, made)) return false;
    parts.shared[name] = std::move(json);
    return true;
  };
  auto script = [&](const std::optional<ir::Script>& source, const std::string& name) {
    if (!source) return;
    parts.shared[name] = fmt::format("{{\"interpreter\":{},\"sha256\":\"{}\"}}", source->interpreter, Sha256Hex(source->text));
    for (const ir::ScriptBinding& binding : source->bindings) {
      const std::string value = fmt::format("{}.{}", name, binding.hole);
      if (!shared(value, binding.value, binding.type)) parts.values.emplace_back(value, binding);
      used.push_back(binding.value);
    }
  };
  script(job.script, "script");
  script(job.prologue, "prologue");
  script(job.epilogue, "epilogue");

  for (const ir::EnvEntry& entry : job.env) {
    used.push_back(entry.value);
    parts.own_env.push_back(!shared("env." + entry.name, entry.value, entry.type));
  }
  if (job.image.valid()) parts.own_image = !shared("image", job.image, program.exprs[job.image].type);
  if (job.cache_salt.valid()) parts.own_salt = !shared("cache_salt", job.cache_salt, program.exprs[job.cache_salt].type);
  if (job.backend.kind == ir::BackendKind::Process) {
    for (const ir::NamedExpr& option : job.backend.options) {
      // Which programs a command finds.
      const bool set = std::any_of(job.env.begin(), job.env.end(), [](const ir::EnvEntry& entry) { return entry.name == "PATH"; });
      if (option.name == "path" && !set) shared("env.PATH", option.value, program.exprs[option.value].type);
    }
  }

  parts.leaves.resize(job.outputs.size());
  for (size_t i = 0; i < job.outputs.size(); ++i) {
    const ir::Output& output = job.outputs[i];
    static constexpr const char* kKinds[] = {"path", "glob", "json", "expression"};
    std::string json = fmt::format("{{\"declared\":{},\"kind\":\"{}\",\"type\":\"{}\"", ir::JsonQuote(program.types.Show(output.type)),
                                   kKinds[static_cast<size_t>(output.kind)], structure_.Of(output.type));
    if (output.glob_min) json += fmt::format(",\"min\":{}", *output.glob_min);
    if (output.glob_max) json += fmt::format(",\"max\":{}", *output.glob_max);
    if (output.fallback.valid()) json += fmt::format(",\"default\":\"{}\"", structure_.Of(output.fallback, index));
    if (output.kind == ir::OutputKind::Expr) {
      json += fmt::format(",\"expression\":\"{}\"", structure_.Of(output.value, index));
      WalkExpr(program, output.value, [&](ir::ExprId id, const ir::Expr& e) {
        switch (e.op) {
          case Op::Param:
          case Op::Var:
          case Op::Resource:
          case Op::JobOutput:
          case Op::JobStatus:
          case Op::ScatterStatus:
          case Op::GatherOutput:
          case Op::GatherStatus:
          case Op::Instances: parts.leaves[i].push_back(id); break;
          default: break;
        }
        return true;
      });
    } else if (output.value.valid()) {
      used.push_back(output.value);
    }
    parts.shared["output." + output.name] = Canonical(json + "}");
    parts.own_output.push_back(output.value.valid());
  }

  for (const ir::Input& input : job.inputs) used.push_back(input.value);
  for (const auto& leaves : parts.leaves) used.insert(used.end(), leaves.begin(), leaves.end());
  for (ir::ExprId id : used) {
    parts.uses_resources = parts.uses_resources || !WalkExpr(program, id, [](ir::ExprId, const ir::Expr& e) { return e.op != Op::Resource; });
  }
  if (job.run.valid() && IsSharedByInstances(program, job.run)) {
    std::vector<std::string> argv;
    if (evaluator_.EvaluateArgv(job.run, context, argv)) {
      std::string json = "[";
      for (const std::string& word : argv) json += (json.size() == 1 ? "" : ",") + ir::JsonQuote(word);
      parts.shared[job.action == ir::ActionKind::ImageArgs ? "image_args" : "run"] = json + "]";
      parts.shared_run = true;
    }
  }
  return parts;
}

const KeyParts& KeyMaker::Shared(uint32_t job) { return Of(job).shared; }

KeyMaker::Made KeyMaker::Make(const RunState& state, InstanceRef instance) {
  Made made;
  JobParts& parts = Of(instance.job);
  const ir::Job& job = plan_.jobs[instance.job];
  const ir::Program& program = plan_.program;
  Context context(state, world_, inputs_, instance);
  context.SetPathEvaluator(&paths_);
  context.SetAttempt(1);
  CacheKey key;
  auto failed = [&](const std::string& name) {
    if (made.problem.empty()) made.problem = fmt::format("{}: {}", name, evaluator_.fault().message);
    return std::move(made);
  };

  Resources resources;
  if (parts.uses_resources) {
    // Those of the first attempt: what a retry is given must not decide whether a result is the same.
    auto evaluated = EvaluateResources(job.resources, evaluator_, context);
    if (!evaluated) {
      made.problem = evaluated.error().message;
      return made;
    }
    resources = *evaluated;
    context.SetResources(&resources);
  }
  ir::ListValue seen;
  for (uint32_t i = 0; i < job.inputs.size(); ++i) {
    const ir::Input& input = job.inputs[i];
    Value value;
    ir::Fault fault;
    if (!context.Input(i, value, fault)) {
      made.problem = fmt::format("input `{}`: {}", input.name, fault.message);
      return made;
    }
    Value staged;
    std::string json;
    if (!InputPart(value, input.type, input.name, context, staged, json, made)) return failed("input " + input.name);
    key.own["input." + input.name] = json.find("{", 1) != std::string::npos || json[0] == '{' ? Canonical(json) : std::move(json);
    seen.push_back(std::move(staged));
  }
  context.SetStagedInputs(std::move(seen));
  context.SetOutputDir(fmt::format("{}JOB_OUTPUT", kPlace));

  auto own = [&](const std::string& name, ir::ExprId id, ir::TypeId type) {
    Value value;
    std::string json;
    if (!evaluator_.Evaluate(id, context, value) || !ValueJson(value, type, context, json, made)) return false;
    key.own[name] = std::move(json);
    return true;
  };
  for (size_t i = 0; i < job.env.size(); ++i) {
    if (parts.own_env[i] && !own("env." + job.env[i].name, job.env[i].value, job.env[i].type)) return failed("env " + job.env[i].name);
  }
  if (parts.own_image && !own("image", job.image, program.exprs[job.image].type)) return failed("image");
  if (parts.own_salt && !own("cache_salt", job.cache_salt, program.exprs[job.cache_salt].type)) return failed("cache_salt");
  if (job.run.valid() && !parts.shared_run) {
    std::vector<std::string> argv;
    if (!evaluator_.EvaluateArgv(job.run, context, argv)) return failed("run");
    std::string json = "[";
    for (const std::string& word : argv) json += (json.size() == 1 ? "" : ",") + ir::JsonQuote(word);
    key.own[job.action == ir::ActionKind::ImageArgs ? "image_args" : "run"] = json + "]";
  }
  for (const auto& [name, binding] : parts.values) {
    if (!own(name, binding.value, binding.type)) return failed(name);
  }
  for (uint32_t i = 0; i < job.outputs.size(); ++i) {
    const ir::Output& output = job.outputs[i];
    std::string json;
    if (output.kind == ir::OutputKind::Path || output.kind == ir::OutputKind::Glob) {
      Value path;
      if (!evaluator_.Evaluate(output.value, context, path)) return failed("output " + output.name);
      json = ir::JsonQuote(path.kind() == ir::ValueKind::String ? path.as_string() : std::string());
    } else if (output.kind == ir::OutputKind::Expr) {
      for (ir::ExprId leaf : parts.leaves[i]) {
        const ir::Expr& e = program.exprs[leaf];
        Value value;
        std::string text;
        Made ignored;
        if (e.op != Op::Instances && evaluator_.Evaluate(leaf, context, value) && ValueJson(value, e.type, context, text, ignored)) {
          json += (json.empty() ? "[" : ",") + text;
          continue;
        }
        // It depends on where it stands, such as an index that is the variable of a comprehension. Then all of what it could
        // give counts.
        if (e.a >= plan_.jobs.size() || e.op == Op::Param || e.op == Op::Var || e.op == Op::Resource) return failed("output " + output.name);
        std::string all = "[";
        if (state.expanded(e.a)) {
          for (uint32_t ordinal = 0; ordinal < state.size(e.a); ++ordinal) {
            const InstanceRef other{e.a, ordinal};
            all += fmt::format("{}[{}", all.size() == 1 ? "" : ",", static_cast<int>(state.state(other)));
            for (uint32_t k = 0; k < plan_.jobs[e.a].outputs.size(); ++k) {
              all += ',';
              Value placed;
              if (!InputPart(state.output(other, k), plan_.jobs[e.a].outputs[k].type, "other", context, placed, all, made)) return failed("output " + output.name);
            }
            all += ']';
          }
        }
        json += (json.empty() ? "[" : ",") + ir::JsonQuote(Sha256Hex(all));
      }
      if (!json.empty()) json += ']';
    }
    if (!json.empty()) key.own[(output.kind == ir::OutputKind::Expr ? "output_values." : "output_path.") + output.name] = std::move(json);
  }
  if (!job.domain.single()) key.own["instance"] = ir::JsonQuote(state.instances(instance.job).KeyText(instance.ordinal));
  key.sha256 = KeyDigest(parts.shared, key.own);
  made.key = std::move(key);
  return made;
}

}  // namespace jobc
