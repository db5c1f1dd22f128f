#include "runtime/environment.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>

#include "ir/expand.h"
#include "ir/file_path.h"
#include "ir/json.h"
#include "ir/mounts.h"
#include "runtime/process/os.h"
#include "runtime/state_dir.h"
#include "runtime/value_parts.h"

namespace jobc {
namespace {

using ir::TypeKind;
using ir::Value;

std::string Env(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

std::string HomeDir() {
  std::string home = Env("HOME");
  if (home.empty()) {
    if (const passwd* entry = getpwuid(getuid())) {
      home = entry->pw_dir;
    }
  }
  return home.empty() ? "/" : home;
}

std::string UserName() {
  std::string user = Env("USER");
  if (user.empty()) {
    if (const passwd* entry = getpwuid(getuid())) {
      user = entry->pw_name;
    }
  }
  return user.empty() ? std::to_string(getuid()) : user;
}

std::string_view Basename(std::string_view path) {
  if (ir::IsUri(path)) {
    path = ir::PathBasename(path);
  }
  while (path.size() > 1 && path.back() == '/') {
    path.remove_suffix(1);
  }
  size_t slash = path.rfind('/');
  std::string_view name = slash == std::string_view::npos ? path : path.substr(slash + 1);
  return name.empty() || name == "." ? "dir" : name;
}

/// For PY and R: JSON with durations in seconds and sizes as numbers; a file is the path the job sees.
bool DataJson(const Value& value, ir::TypeId type, const ir::Program& program, ir::EvalContext& context, std::string& out, std::string& problem) {
  const ir::TypeTable& types = program.types;
  if (value.is_null()) {
    out += "null";
    return true;
  }
  const ir::TypeNode& node = types[types.Bare(type)];
  switch (node.kind) {
    case TypeKind::Optional: return DataJson(value, node.a, program, context, out, problem);
    case TypeKind::Duration: {
      std::string seconds = ir::FloatText(static_cast<double>(value.as_int()) / 1000.0);
      out += seconds.find_first_of(".e") == std::string::npos ? seconds + ".0" : seconds;
      return true;
    }
    case TypeKind::Bytes: out += std::to_string(value.as_int()); return true;
    case TypeKind::List:
    case TypeKind::Pair:
    case TypeKind::Struct:
    case TypeKind::Map: {
      const bool list = node.kind == TypeKind::List;
      out += list ? '[' : '{';
      bool first = true;
      const bool ok = VisitParts(types, value, type, [&](const Value& part, ir::TypeId inner, const std::string& name) {
        if (!first) out += ',';
        first = false;
        if (!list) out += ir::JsonQuote(name) + ":";
        return DataJson(part, inner, program, context, out, problem);
      });
      out += list ? ']' : '}';
      return ok;
    }
    default: {
      auto encoded = ir::EncodeJson(value, type, program, context);
      if (!encoded) {
        problem = encoded.error().message;
        return false;
      }
      out += *encoded;
      return true;
    }
  }
}

/// The place of something below a directory, in the two ways of AttemptPlaces.
struct Place {
  std::string here;  ///< on this machine
  std::string seen;  ///< as the job sees it

  Place operator/(std::string_view name) const { return {here + "/" + std::string(name), seen + "/" + std::string(name)}; }
};

Result<void> WriteFile(const std::string& path, std::string_view text, mode_t mode) {
  process::UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode));
  if (!fd) {
    return Error{fmt::format("cannot create `{}`: {}", path, std::strerror(errno)), errno};
  }
  for (size_t done = 0; done < text.size();) {
    ssize_t count = write(fd.get(), text.data() + done, text.size() - done);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0) {
      return Error{fmt::format("cannot write `{}`: {}", path, std::strerror(errno)), errno};
    }
    done += static_cast<size_t>(count);
  }
  return {};
}

/// Puts files under $JOB_INPUT and rewrites values to the paths the job sees.
class Stager {
 public:
  /// `again`: everything is there already. `tell`: which files there are is asked for.
  Stager(const ir::TypeTable& types, AttemptContext& context, Place dir, InputStaging how, bool again, bool tell, LaunchBuilder::Prepared& out)
      : types_(types), context_(context), dir_(std::move(dir)), how_(how), again_(again), tell_(tell), out_(out) {}

  /// `place`: below $JOB_INPUT, the directory that will hold the file.
  bool Stage(const Value& value, ir::TypeId type, const std::string& place, const std::string& input, Value& staged) {
    staged = value;
    if (value.is_null()) {
      return true;
    }
    const ir::TypeNode& node = types_[types_.Bare(type)];
    switch (node.kind) {
      case TypeKind::Optional: return Stage(value, node.a, place, input, staged);
      case TypeKind::File:
      case TypeKind::Dir: return StageFile(value.as_file(), node.kind == TypeKind::Dir, place, input, staged);
      case TypeKind::List:
      case TypeKind::Pair:
      case TypeKind::Struct:
      case TypeKind::Map:
        return !HoldsFiles(types_, type) || MapParts(types_, value, type, [&](const Value& part, ir::TypeId inner, const std::string& name, Value& changed) {
          return Stage(part, inner, place + "/" + (node.kind == TypeKind::Map ? ir::SafeName(name) : name), input, changed);
        }, staged);
      default: return true;
    }
  }

  Verdict failure;

 private:
  bool Fail(std::string message, bool final = false) {
    failure = Failed(ir::ErrorKind::Staging, std::move(message));
    failure.no_retry = final;
    return false;
  }

  bool StageFile(const ir::FileValue& file, bool is_dir, const std::string& place, const std::string& input, Value& staged) {
    std::string original = context_.world().Locate(file);
    if (tell_) {
      out_.given.push_back({fmt::format("{}/{}", place, Basename(file.path)), original, is_dir, file});
    }
    if (original.empty() && again_) {
      // Brought here by the process that started it; only what the job sees is asked for now.
      ir::FileValue known = file;
      known.location = (dir_ / place / Basename(file.path)).seen;
      staged = Value::File(std::move(known));
      return true;
    }
    if (original.empty()) {
      return Fail(fmt::format("input `{}` is `{}`, which this machine cannot read; download it in a job of its own", input, file.path));
    }
    struct stat info;
    if (stat(original.c_str(), &info) != 0) {
      return Fail(fmt::format("input `{}`: cannot read `{}`: {}", input, original, std::strerror(errno)));
    }
    if (is_dir != static_cast<bool>(S_ISDIR(info.st_mode))) {
      return Fail(fmt::format("input `{}`: `{}` should be a {} but is a {}", input, original, is_dir ? "directory" : "file",
                              S_ISDIR(info.st_mode) ? "directory" : (S_ISREG(info.st_mode) ? "file" : "special file")));
    }
    if (access(original.c_str(), R_OK) != 0) {
      return Fail(fmt::format("input `{}`: cannot read `{}`: {}", input, original, std::strerror(errno)));
    }
    const Place dir = dir_ / place;
    const Place path = dir / Basename(file.path);
    auto put = [&]() { return how_ == InputStaging::Link ? symlink(original.c_str(), path.here.c_str()) == 0 : MakePlaceholder(path.here, is_dir); };
    if (!again_ && !put()) {
      int code = errno;
      if (code == ENOENT) {
        if (auto made = process::MakeDirectories(dir.here); !made) {
          return Fail(made.error().message);
        }
        code = put() ? 0 : errno;
      }
      if (code != 0) {
        return Fail(fmt::format("input `{}`: cannot create `{}`: {}", input, path.here, std::strerror(code)));
      }
    }
    if (how_ == InputStaging::Mount) {
      // What mounts it may be another program, in another directory: nothing is left for it to resolve.
      char resolved[PATH_MAX];
      if (realpath(original.c_str(), resolved) == nullptr) {
        return Fail(fmt::format("input `{}`: cannot read `{}`: {}", input, original, std::strerror(errno)));
      }
      out_.launch.mounts.push_back({resolved, path.seen, true});
    }
    out_.identities.push_back({original, input, info.st_size, info.st_mtim.tv_sec * 1'000'000'000LL + info.st_mtim.tv_nsec,
                               static_cast<uint64_t>(info.st_ino), static_cast<uint64_t>(info.st_dev)});
    context_.AddStagedPath(original, path.seen);
    ir::FileValue seen = file;
    seen.location = path.seen;
    if (seen.row == UINT32_MAX && !is_dir) {
      seen.size = static_cast<uint64_t>(info.st_size);
    }
    staged = Value::File(std::move(seen));
    return true;
  }

  static bool MakePlaceholder(const std::string& path, bool is_dir) {
    if (is_dir) {
      return mkdir(path.c_str(), 0777) == 0;
    }
    return process::UniqueFd(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666)).get() >= 0;
  }

  const ir::TypeTable& types_;
  AttemptContext& context_;
  Place dir_;
  InputStaging how_;
  bool again_, tell_;
  LaunchBuilder::Prepared& out_;
};

}  // namespace

struct LaunchBuilder::JobScripts {
  std::optional<script::Lowered> main, prologue, epilogue;
  std::string problem;
};

LaunchBuilder::LaunchBuilder(const ir::Plan& plan, std::string run_id, std::string run_dir)
    : plan_(plan), run_id_(std::move(run_id)), run_dir_(std::move(run_dir)), scripts_(plan.jobs.size()) {
  base_env_ = {"HOME=" + HomeDir(), "USER=" + UserName(), "LANG=C.UTF-8"};
}

LaunchBuilder::~LaunchBuilder() = default;

std::string LaunchBuilder::ExecutionId(AttemptId id) const { return run_id_ + "-" + std::to_string(id); }

const LaunchBuilder::JobScripts& LaunchBuilder::Scripts(uint32_t index) {
  std::unique_ptr<JobScripts>& slot = scripts_[index];
  if (slot == nullptr) {
    slot = std::make_unique<JobScripts>();
    const ir::Job& job = plan_.jobs[index];
    auto decode = [&](const std::optional<ir::Script>& source, std::optional<script::Lowered>& out) {
      if (!source) {
        return;
      }
      auto lowered = script::DecodeBindings(static_cast<script::Interpreter>(source->interpreter), source->text, source->lowered);
      if (!lowered) {
        slot->problem = lowered.error().message;
        return;
      }
      out = *std::move(lowered);
    };
    decode(job.script, slot->main);
    decode(job.prologue, slot->prologue);
    decode(job.epilogue, slot->epilogue);
  }
  return *slot;
}

LaunchBuilder::Prepared LaunchBuilder::Build(const StartAttempt& start, const AttemptPlaces& places, ir::Evaluator& evaluator, AttemptContext& context, bool again) {
  Prepared out;
  const ir::Job& job = plan_.jobs[start.instance.job];
  const ir::Program& program = plan_.program;
  const ir::TypeTable& types = program.types;
  auto refuse = [&](std::string message) {
    out.ok = false;
    out.refused = true;
    out.failure = Failed(ir::ErrorKind::Expression, std::move(message));
    return std::move(out);
  };
  auto fail = [&](Verdict verdict) {
    out.ok = false;
    out.failure = std::move(verdict);
    return std::move(out);
  };
  auto make_stage = [&]() -> Result<void> {
    if (!out.staged && !again) {
      if (auto made = process::MakeDirectories(places.stage_dir); !made) {
        return made;
      }
    }
    out.staged = true;
    return {};
  };
  auto make_directories = [&](const std::string& path) { return again ? Result<void>() : process::MakeDirectories(path); };
  auto write_file = [&](const std::string& path, std::string_view text, mode_t mode) { return again ? Result<void>() : WriteFile(path, text, mode); };

  AttemptLaunch& launch = out.launch;
  launch.id = start.id;
  launch.number = start.number;
  launch.instance = start.instance;
  launch.execution_id = ExecutionId(start.id);
  launch.places = places;
  launch.resources = start.resources;
  launch.timeouts = start.timeouts;
  launch.grace_ms = start.grace_ms;

  // -- Inputs ------------------------------------------------------------------
  const Place stage{places.stage_dir, places.SeenStage()};
  Place input_dir;
  if (places.seen) {
    launch.mounts = {{places.output_dir, places.seen->output_dir, false}, {places.tmp_dir, places.seen->tmp_dir, false}, {places.stage_dir, places.seen->stage_dir, false}};
    if (!places.secrets_dir.empty()) {
      launch.mounts.push_back({places.secrets_dir, places.seen->secrets_dir, true});
    }
    if (auto made = make_stage(); !made) {
      return fail(Failed(ir::ErrorKind::Staging, made.error().message));
    }
  }
  if (job.inputs.empty() && !places.seen) {
    if (no_input_dir_.empty()) {
      std::string dir = run_dir_ + "/no-input";
      if (mkdir(dir.c_str(), 0777) == 0) {
        if (auto written = WriteFile(dir + "/inputs.json", "{}\n", 0666); !written) {
          return fail(Failed(ir::ErrorKind::Staging, written.error().message));
        }
      } else if (errno != EEXIST) {
        return fail(Failed(ir::ErrorKind::Staging, fmt::format("cannot create `{}`: {}", dir, std::strerror(errno))));
      }
      no_input_dir_ = dir;
    }
    input_dir = {no_input_dir_, no_input_dir_};
  } else {
    if (auto made = make_stage(); !made) {
      return fail(Failed(ir::ErrorKind::Staging, made.error().message));
    }
    input_dir = stage / "in";
    if (!again && mkdir(input_dir.here.c_str(), 0777) != 0) {
      return fail(Failed(ir::ErrorKind::Staging, fmt::format("cannot create `{}`: {}", input_dir.here, std::strerror(errno))));
    }
    if (places.seen) {
      launch.mounts.push_back({input_dir.here, input_dir.seen, true});
    }
    Stager stager(types, context, input_dir, places.inputs, again, job.staging.valid(), out);
    ir::ListValue staged;
    staged.reserve(job.inputs.size());
    for (uint32_t i = 0; i < job.inputs.size(); ++i) {
      const ir::Input& input = job.inputs[i];
      Value value;
      ir::Fault fault;
      if (!context.Input(i, value, fault)) {
        return refuse(fmt::format("input `{}` of {} failed: {}", input.name, job.address, fault.message));
      }
      if (types.Bare(input.type) != input.type && !evaluator.CheckRefinements(value, input.type, input.name, context)) {
        return refuse(fmt::format("input `{}` of {}: {}", input.name, job.address, evaluator.fault().message));
      }
      Value seen;
      if (!stager.Stage(value, input.type, input.name, input.name, seen)) {
        return fail(std::move(stager.failure));
      }
      // As images made for SmartJob look for it.
      if (job.action == ir::ActionKind::ImageArgs && seen.kind() == ir::ValueKind::File && !seen.as_file().is_dir) {
        const std::string name(Basename(seen.as_file().path));
        if (symlink(fmt::format("{}/{}", input.name, name).c_str(), (input_dir.here + "/" + name).c_str()) != 0) {
          const int code = errno;
          Verdict verdict = Failed(ir::ErrorKind::Staging, code == EEXIST ? fmt::format("two inputs of {} are `{}` in $INPUT_PATH; give one of the files another name", job.address, name)
                                                                          : fmt::format("input `{}`: cannot create `{}`: {}", input.name, name, std::strerror(code)));
          verdict.no_retry = code == EEXIST;
          return fail(std::move(verdict));
        }
      }
      staged.push_back(std::move(seen));
    }
    std::string json = "{";
    for (size_t i = 0; i < staged.size(); ++i) {
      auto encoded = ir::EncodeJson(staged[i], job.inputs[i].type, program, context);
      if (!encoded) {
        return refuse(fmt::format("input `{}` has no JSON form: {}", job.inputs[i].name, encoded.error().message));
      }
      json += (i == 0 ? "" : ",") + ir::JsonQuote(job.inputs[i].name) + ":" + *encoded;
    }
    json += "}\n";
    if (auto written = write_file(input_dir.here + "/inputs.json", json, 0666); !written) {
      return fail(Failed(ir::ErrorKind::Staging, written.error().message));
    }
    context.SetStagedInputs(std::move(staged));
  }
  context.SetOutputDir(places.output_dir, places.SeenOutput());

  // -- The result and the parents of declared paths -------------------------------
  bool wants_result = false;
  for (uint32_t i = 0; i < job.outputs.size(); ++i) {
    const ir::Output& output = job.outputs[i];
    wants_result = wants_result || output.kind == ir::OutputKind::Json;
    if (output.kind != ir::OutputKind::Path) {
      continue;
    }
    Value file;
    ir::Fault fault;
    if (!context.OutputPath(i, file, fault)) {
      return refuse(fmt::format("the path of output `{}` of {} failed: {}", output.name, job.address, fault.message));
    }
    const std::string& path = file.as_file().path;
    if (size_t slash = path.rfind('/'); slash != std::string::npos) {
      if (auto made = make_directories(places.output_dir + "/" + path.substr(0, slash)); !made) {
        return fail(Failed(ir::ErrorKind::Staging, made.error().message));
      }
    }
  }
  if (wants_result) {
    if (auto made = make_stage(); !made) {
      return fail(Failed(ir::ErrorKind::Staging, made.error().message));
    }
  }
  const Place result = out.staged ? stage / "result.json" : Place{places.tmp_dir, places.SeenTmp()} / ".job-result.json";
  out.result_path = result.here;

  // -- The environment -------------------------------------------------------------
  std::vector<std::string>& env = launch.env;
  std::vector<std::string> declared;
  auto is_declared = [&](std::string_view name) {
    return std::find(declared.begin(), declared.end(), name) != declared.end();
  };
  for (const ir::EnvEntry& entry : job.env) {
    declared.push_back(entry.name);
    Value value;
    if (!evaluator.Evaluate(entry.value, context, value)) {
      return refuse(fmt::format("env `{}` of {} failed: {}", entry.name, job.address, evaluator.fault().message));
    }
    if (value.is_null()) {
      continue;
    }
    std::string text;
    if (value.kind() == ir::ValueKind::Secret) {
      text = value.as_string();
    } else if (!evaluator.ToText(value, types.NonNull(entry.type), context, text)) {
      return refuse(fmt::format("env `{}` of {}: {}", entry.name, job.address, evaluator.fault().message));
    }
    if (text.find('\0') != std::string::npos) {
      return refuse(fmt::format("env `{}` of {} holds a NUL byte, which no environment can carry", entry.name, job.address));
    }
    env.push_back(entry.name + "=" + text);
  }
  for (const std::string& name : job.inherit_env) {
    if (const char* value = std::getenv(name.c_str()); value != nullptr && !is_declared(name)) {
      env.push_back(name + "=" + value);
      declared.push_back(name);
    }
  }
  // What an image sets stays, but for the home directory: that of its user need not be there, or be writable, for this one.
  if (places.seen && !is_declared("HOME")) {
    env.push_back("HOME=" + places.SeenTmp());
  }
  if (!places.seen && !is_declared("PATH")) {
    std::string path = "/usr/local/bin:/usr/bin:/bin";
    for (const ir::NamedExpr& option : job.backend.options) {
      Value value;
      if (option.name == "path" && evaluator.Evaluate(option.value, context, value) && value.kind() == ir::ValueKind::String) {
        path = value.as_string();
      }
    }
    env.push_back("PATH=" + path);
  }
  for (const std::string& entry : base_env_) {
    if (!places.seen && !is_declared(std::string_view(entry).substr(0, entry.find('=')))) {
      env.push_back(entry);
    }
  }
  if (!is_declared("TMPDIR")) {
    env.push_back("TMPDIR=" + places.SeenTmp());
  }
  env.push_back("JOB_NAME=" + job.address);
  env.push_back("JOB_ATTEMPT=" + std::to_string(start.number));
  env.push_back("JOB_RUN_ID=" + run_id_);
  env.push_back("JOB_EXECUTION_ID=" + launch.execution_id);
  env.push_back("JOB_INPUT=" + input_dir.seen);
  env.push_back("JOB_OUTPUT=" + places.SeenOutput());
  env.push_back("JOB_RESULT=" + result.seen);
  env.push_back("INPUT_PATH=" + input_dir.seen);
  env.push_back("OUTPUT_PATH=" + places.SeenOutput());
  env.push_back("EXECUTION_ID=" + launch.execution_id);
  for (const ir::Mount& mount : ir::MountsOf(job, evaluator, context)) {
    env.push_back(fmt::format("JOB_MOUNT_{}={}", mount.name, mount.target));
  }
  if (job.domain.single()) {
    env.push_back("JOB_KEY=");  // set, so that `sh -u` takes it
  } else {
    // The text form of the key, and of each part.
    const RunState& state = context.run_state();
    const ir::Instances& instances = state.instances(start.instance.job);
    std::string key = instances.KeyText(start.instance.ordinal);
    ir::ListValue parts = instances.Indices(start.instance.ordinal);
    if (parts.size() == 1) {
      env.push_back("JOB_KEY_0=" + key);
    } else if (auto texts = ir::ParseJson(key); texts && texts->kind() == ir::ValueKind::List) {
      for (size_t i = 0; i < texts->as_list().size(); ++i) {
        env.push_back(fmt::format("JOB_KEY_{}={}", i, texts->as_list()[i].as_string()));
      }
    }
    env.push_back("JOB_KEY=" + key);
  }

  // -- Secret files -----------------------------------------------------------------
  if (!job.secret_files.empty()) {
    const std::string& dir = places.secrets_dir;
    JOBC_CHECK(again || !dir.empty());
    for (const ir::NamedExpr& secret : job.secret_files) {
      Value value;
      if (!evaluator.Evaluate(secret.value, context, value)) {
        return refuse(fmt::format("secret file `{}` of {} failed: {}", secret.name, job.address, evaluator.fault().message));
      }
      auto name = NormalRelativePath(secret.name);
      if (!name || name->empty()) {
        return refuse(fmt::format("`{}` is no file name for a secret", secret.name));
      }
      if (size_t slash = name->rfind('/'); slash != std::string::npos) {
        if (auto made = make_directories(dir + "/" + name->substr(0, slash)); !made) {
          return fail(Failed(ir::ErrorKind::Staging, made.error().message));
        }
      }
      if (auto written = write_file(dir + "/" + *name, value.as_string(), 0600); !written) {
        return fail(Failed(ir::ErrorKind::Staging, written.error().message));
      }
    }
    env.push_back("JOB_SECRETS=" + places.SeenSecrets());
  }

  // -- The program ------------------------------------------------------------------
  const JobScripts& scripts = Scripts(start.instance.job);
  if (!scripts.problem.empty()) {
    return refuse(fmt::format("the script of {} in this plan is damaged: {}", job.address, scripts.problem));
  }
  const Place private_dir = stage / "private";
  std::string problem;
  auto bind = [&](const std::optional<ir::Script>& source, const std::optional<script::Lowered>& lowered, std::vector<script::HoleValue>& values) -> script::Bound {
    if (!source || !lowered) {
      return {};
    }
    for (const ir::ScriptBinding& binding : source->bindings) {
      if (values.size() <= binding.hole) {
        values.resize(binding.hole + 1);
      }
      script::HoleValue& hole = values[binding.hole];
      Value value;
      if (!evaluator.Evaluate(binding.value, context, value)) {
        problem = evaluator.fault().message;
        return {};
      }
      hole.null = value.is_null();
      if (script::IsShell(lowered->interpreter)) {
        if (binding.splice && value.kind() == ir::ValueKind::List) {
          ir::TypeId element = types[types.NonNull(types.Bare(binding.type))].a;
          for (const Value& word : value.as_list()) {
            std::string text;
            if (word.is_null()) {
              problem = "a list spliced into a script holds null; use compact(…)";
              return {};
            }
            if (!evaluator.ToText(word, types.NonNull(element), context, text)) {
              problem = evaluator.fault().message;
              return {};
            }
            hole.words.push_back(std::move(text));
          }
        } else if (!hole.null) {
          if (!evaluator.ToText(value, types.NonNull(binding.type), context, hole.text)) {
            problem = evaluator.fault().message;
            return {};
          }
          if (binding.splice) {
            hole.words.push_back(hole.text);
          }
        }
      } else if (!DataJson(value, binding.type, program, context, hole.text, problem)) {
        return {};
      }
    }
    return {&*lowered, &values};
  };
  std::vector<script::HoleValue> main_values, prologue_values, epilogue_values;
  script::Bound prologue = bind(job.prologue, scripts.prologue, prologue_values);
  script::Bound epilogue = problem.empty() ? bind(job.epilogue, scripts.epilogue, epilogue_values) : script::Bound{};
  Result<script::Launch> bound = script::Launch{};
  if (problem.empty()) {
    if (job.action == ir::ActionKind::Script) {
      script::Bound main = bind(job.script, scripts.main, main_values);
      if (problem.empty()) {
        bound = script::Bind(main, private_dir.seen, prologue, epilogue);
      }
    } else if (job.action == ir::ActionKind::Run || (job.action == ir::ActionKind::ImageArgs && places.seen)) {
      std::vector<std::string> argv;
      launch.image_args = job.action == ir::ActionKind::ImageArgs;
      const char* attribute = launch.image_args ? "image_args" : "run";
      if (!evaluator.EvaluateArgv(job.run, context, argv)) {
        return refuse(fmt::format("`{}` of {} failed: {}", attribute, job.address, evaluator.fault().message));
      }
      if (argv.empty() && !launch.image_args) {
        return refuse(fmt::format("`run` of {} is an empty list: there is no program to start", job.address));
      }
      if (launch.image_args && !prologue && !epilogue) {
        bound->argv = std::move(argv);
      } else if (launch.image_args) {
        return refuse(fmt::format("{} has `image_args`: what the image starts by itself cannot have a `prologue` or an `epilogue`", job.address));
      } else {
        bound = script::WrapRun(std::move(argv), private_dir.seen, prologue, epilogue);
      }
    } else {
      return refuse(fmt::format("{} has no `run` and no `script` that this backend can start", job.address));
    }
  }
  if (!problem.empty()) {
    return refuse(fmt::format("a value in the script of {} failed: {}", job.address, problem));
  }
  if (!bound) {
    return refuse(fmt::format("the script of {} cannot be started: {}", job.address, bound.error().message));
  }
  launch.argv = std::move(bound->argv);
  for (auto& [name, value] : bound->env) {
    env.push_back(name + "=" + value);
  }
  if (!bound->files.empty()) {
    if (auto made = make_stage(); !made) {
      return fail(Failed(ir::ErrorKind::Staging, made.error().message));
    }
    if (!again && mkdir(private_dir.here.c_str(), 0700) != 0 && errno != EEXIST) {
      return fail(Failed(ir::ErrorKind::Staging, fmt::format("cannot create `{}`: {}", private_dir.here, std::strerror(errno))));
    }
    out.scripts_dir = private_dir.here;
    for (const auto& [name, content] : bound->files) {
      if (auto written = write_file(private_dir.here + "/" + name, content, 0600); !written) {
        return fail(Failed(ir::ErrorKind::Staging, written.error().message));
      }
    }
  }
  if (places.seen) {
    Value value;
    if (job.image.valid()) {
      if (!evaluator.Evaluate(job.image, context, value)) {
        return refuse(fmt::format("`image` of {} failed: {}", job.address, evaluator.fault().message));
      }
      launch.image = value.is_null() ? std::string() : value.as_string();
      // A file beside the source, wherever jobc was called.
      if (job.backend.kind == ir::BackendKind::Apptainer && (launch.image.starts_with("./") || launch.image.starts_with("../") || (launch.image.ends_with(".sif") && launch.image[0] != '/' && launch.image.find("://") == std::string::npos))) {
        launch.image = context.world().roots().root + "/" + launch.image.substr(launch.image.starts_with("./") ? 2 : 0);
      }
    }
    for (const ir::NamedExpr& option : job.backend.options) {
      if (!evaluator.Evaluate(option.value, context, value)) {
        return refuse(fmt::format("the option `{}` of the backend of {} failed: {}", option.name, job.address, evaluator.fault().message));
      }
      if (!value.is_null()) {
        launch.options.emplace_back(option.name, std::move(value));
      }
    }
  }
  if (job.log_limit.valid()) {
    Value limit;
    if (evaluator.Evaluate(job.log_limit, context, limit) && !limit.is_null()) {
      uint64_t bytes = static_cast<uint64_t>(std::max<int64_t>(limit.as_int(), 0));
      if (bytes != process::LogOptions().limit_bytes) {
        launch.log_limit = bytes;
      }
    }
  }
  out.ok = true;
  return out;
}

std::optional<std::string> ChangedInput(const std::vector<InputIdentity>& identities) {
  for (const InputIdentity& was : identities) {
    struct stat info;
    if (stat(was.path.c_str(), &info) != 0) {
      return fmt::format("input `{}`: `{}` vanished while the job ran", was.input, was.path);
    }
    if (info.st_size != was.size || info.st_mtim.tv_sec * 1'000'000'000LL + info.st_mtim.tv_nsec != was.mtime_ns ||
        static_cast<uint64_t>(info.st_ino) != was.inode || static_cast<uint64_t>(info.st_dev) != was.device) {
      return fmt::format("input `{}`: `{}` was changed while the job ran; its outputs are dropped, as nobody knows which content they belong to", was.input, was.path);
    }
  }
  return std::nullopt;
}

namespace {

/// Moves a variable to the heap and wipes where the kernel had put it: /proc/PID/environ of this process, and of those
/// forked from it, shows it no longer. getenv() still finds it.
void HideFromProc(const std::string& name) {
  char* before = std::getenv(name.c_str());
  if (before == nullptr) {
    return;
  }
  std::string value = before;
  if (setenv(name.c_str(), value.c_str(), 1) == 0 && std::getenv(name.c_str()) != before) {
    explicit_bzero(before, value.size());
  }
}

}  // namespace

Result<std::vector<std::string>> ReadSecrets(const ir::Plan& plan, const Roots& roots) {
  std::vector<std::string> texts;
  std::string problems;
  for (const ir::Secret& secret : plan.program.secrets) {
    std::string text;
    auto problem = [&](std::string why) { problems += (problems.empty() ? "" : "; ") + std::move(why); };
    switch (secret.carrier) {
      case ir::SecretCarrier::Env: {
        const char* value = std::getenv(secret.source.c_str());
        if (value == nullptr) {
          problem(fmt::format("secret `{}` needs the environment variable {}, which is not set", secret.name, secret.source));
        } else {
          text = value;
          HideFromProc(secret.source);
        }
        break;
      }
      case ir::SecretCarrier::File: {
        std::string path = !secret.source.empty() && secret.source[0] == '/' ? secret.source : roots.root + "/" + secret.source;
        errno = 0;
        auto content = process::ReadFile(path);
        if (!content) {
          problem(fmt::format("secret `{}` needs the file `{}`, which cannot be read: {}", secret.name, path, std::strerror(errno == 0 ? EIO : errno)));
        } else {
          text = *std::move(content);
          // Editors end files with a line break that is not part of the secret.
          if (!text.empty() && text.back() == '\n') {
            text.pop_back();
            if (!text.empty() && text.back() == '\r') {
              text.pop_back();
            }
          }
        }
        break;
      }
      case ir::SecretCarrier::Store:
        problem(fmt::format("secret `{}` is in the store `{}`, which only cloud backends can read; give this profile an env(\"…\") or file(\"…\")", secret.name, secret.source));
        break;
    }
    texts.push_back(std::move(text));
  }
  if (!problems.empty()) {
    return Error{problems, ENOENT};
  }
  return texts;
}

}  // namespace jobc
