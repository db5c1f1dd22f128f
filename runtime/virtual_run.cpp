#include "runtime/virtual_run.h"

#include <fmt/format.h>
#include <re2/re2.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "ir/expand.h"
#include "ir/json.h"
#include "runtime/publish.h"
#include "runtime/results.h"
#include "runtime/retry.h"

namespace jobc {

namespace fs = std::filesystem;

std::string VirtualFileText(const ir::FileValue& file) {
  if (file.base == ir::FileBase::Output) {
    return "$JOB_OUTPUT/" + file.path;
  }
  if (file.base == ir::FileBase::Job && file.path.starts_with("outputs/")) {
    const size_t slash = file.path.find('/', 8);
    return slash == std::string::npos ? file.path : file.path.substr(slash + 1);
  }
  return file.path;
}

namespace {

/// More steps than any sound run takes: retries and instances are bounded, but a bug must not hang a test.
constexpr uint64_t kMostSteps = 50'000'000;

/// Files that are not there are empty: a test needs no data.
class VirtualWorld : public World {
 public:
  using World::World;

  bool FileSize(const ir::FileValue& file, ir::Value& out, ir::Fault& fault) override {
    if (Missing(file)) {
      out = ir::Value::Bytes(0);
      return true;
    }
    return World::FileSize(file, out, fault);
  }
  bool FileSha256(const ir::FileValue& file, ir::Value& out, ir::Fault& fault) override {
    if (Missing(file)) {
      out = ir::Value::String("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
      return true;
    }
    return World::FileSha256(file, out, fault);
  }
  bool FileText(const ir::FileValue& file, std::string& out, ir::Fault&) override {
    out = VirtualFileText(file);
    return true;
  }

 private:
  bool Missing(const ir::FileValue& file) const {
    std::error_code error;
    return file.row == UINT32_MAX && !fs::exists(Locate(file), error);
  }
};

class VirtualContext : public AttemptContext {
 public:
  using AttemptContext::AttemptContext;
  bool FileText(const ir::FileValue& file, std::string& out, ir::Fault&) override {
    out = VirtualFileText(file);
    return true;
  }
};

class Streams : public LogSource, public LogSearcher {
 public:
  explicit Streams(const VirtualProgram& program) : program_(program) {}
  Result<LogText> ReadAll(LogStream stream) override { return LogText{Text(stream), false}; }
  bool Search(LogStream stream, const std::string& pattern) override {
    RE2::Options options;
    options.set_log_errors(false);
    const RE2 regex(pattern, options);
    const std::string& text = Text(stream);
    for (size_t begin = 0; begin < text.size() && regex.ok();) {
      const size_t end = std::min(text.find('\n', begin), text.size());
      if (RE2::PartialMatch(re2::StringPiece(text.data() + begin, end - begin), regex)) {
        return true;
      }
      begin = end + 1;
    }
    return false;
  }

 private:
  const std::string& Text(LogStream stream) const { return stream == LogStream::Stdout ? program_.stdout_text : program_.stderr_text; }
  const VirtualProgram& program_;
};

class VirtualRun {
 public:
  explicit VirtualRun(const VirtualSetup& setup)
      : setup_(setup), plan_(*setup.plan),
        world_(plan_, setup.roots, Secrets(plan_)),
        evaluator_(plan_.program), input_evaluator_(plan_.program), path_evaluator_(plan_.program) {
    out_.state = std::make_unique<RunState>(plan_, "test");
    out_.exports.resize(plan_.exports.size());
  }

  VirtualOutcome Run() {
    Scheduler scheduler(plan_, *out_.state, SchedulerOptions{}, &world_);
    scheduler_ = &scheduler;
    scheduler.Begin(now_);
    if (setup_.plan_only) {
      EvaluateCommands();
      return std::move(out_);
    }
    uint64_t steps = 0;
    while (!scheduler.finished() && ++steps < kMostSteps) {
      std::vector<Action> actions = scheduler.TakeActions();
      for (Action& action : actions) {
        std::visit([&](auto& one) { CarryOut(one); }, action);
      }
      if (!actions.empty()) {
        continue;
      }
      if (!Advance()) {
        break;
      }
    }
    for (Action& action : scheduler.TakeActions()) {
      std::visit([&](auto& one) { CarryOut(one); }, action);
    }
    JOBC_CHECK(scheduler.finished());
    std::sort(out_.published.begin(), out_.published.end());
    return std::move(out_);
  }

 private:
  struct Pending {
    AttemptId id = 0;
    InstanceRef instance;
    int64_t started_ms = 0;
    VirtualProgram program;
    Resources resources;
    std::unique_ptr<VirtualContext> context;
    std::string output_dir;
  };

  /// Stand-ins: no test ever reads a secret.
  static std::vector<std::string> Secrets(const ir::Plan& plan) {
    std::vector<std::string> texts;
    for (const ir::Secret& secret : plan.program.secrets) {
      texts.push_back("secret:" + secret.name);
    }
    return texts;
  }

  /// To the next moment at which something happens. False: nothing ever will.
  bool Advance() {
    const std::optional<int64_t> deadline = scheduler_->NextDeadline();
    if (!ends_.empty() && (!deadline || ends_.begin()->first.first <= *deadline)) {
      auto first = ends_.begin();
      now_ = std::max(now_, first->first.first);
      Pending pending = std::move(first->second);
      ends_.erase(first);
      End(pending);
      return true;
    }
    if (!deadline) {
      return false;
    }
    now_ = std::max(now_, *deadline);
    scheduler_->Tick(now_);
    return true;
  }

  template <typename T>
  void CarryOut(T&) {}

  void CarryOut(StartAttempt& start) {
    const ir::Job& job = plan_.jobs[start.instance.job];
    Pending pending;
    pending.id = start.id;
    pending.instance = start.instance;
    pending.started_ms = now_;
    pending.resources = start.resources;
    pending.output_dir = fmt::format("{}/attempts/{}", setup_.scratch, start.id);
    pending.context = std::make_unique<VirtualContext>(*out_.state, world_, input_evaluator_, start.instance);
    VirtualContext& context = *pending.context;
    context.SetPathEvaluator(&path_evaluator_);
    context.SetAttempt(start.number);
    context.SetOutputDir(pending.output_dir);
    const std::string address = out_.state->Address(start.instance);
    Pending* placed = nullptr;
    std::optional<VirtualProgram> program = setup_.program(*out_.state, start.instance, start.number);
    if (!program) {
      out_.unanswered.push_back(address);
      program.emplace();
      program->failure = Failed(ir::ErrorKind::Internal, "no mock says what it does");
      program->failure->no_retry = true;
    }
    pending.program = std::move(*program);
    const int64_t end = now_ + pending.program.takes_ms;
    placed = &ends_.emplace(std::pair(end, start.id), std::move(pending)).first->second;
    placed->context->SetResources(&placed->resources);
    std::vector<std::string> argv;
    if (std::string problem = Launch(job, *placed->context, argv); !problem.empty()) {
      ends_.erase(std::pair(end, start.id));
      scheduler_->StartRefused(start.id, Failed(ir::ErrorKind::Expression, problem), now_);
      return;
    }
    out_.argv.try_emplace(start.instance, std::move(argv));
    scheduler_->AttemptStarted(start.id, now_);
  }

  /// Evaluates all that a real attempt would be started with. Empty, or what has no value.
  std::string Launch(const ir::Job& job, VirtualContext& context, std::vector<std::string>& argv) {
    ir::Fault fault;
    ir::Value value;
    for (uint32_t i = 0; i < job.inputs.size(); ++i) {
      if (!context.Input(i, value, fault)) {
        return fmt::format("input `{}` failed: {}", job.inputs[i].name, fault.message);
      }
    }
    ir::EnvText text;
    for (const ir::EnvEntry& entry : job.env) {
      if (!evaluator_.EvaluateEnv(entry.value, context, text)) {
        return fmt::format("`env` `{}` failed: {}", entry.name, evaluator_.fault().message);
      }
    }
    for (const ir::NamedExpr& file : job.secret_files) {
      if (!evaluator_.EvaluateEnv(file.value, context, text)) {
        return fmt::format("the secret file `{}` failed: {}", file.name, evaluator_.fault().message);
      }
    }
    if (job.run.valid() && !evaluator_.EvaluateArgv(job.run, context, argv)) {
      return fmt::format("the command failed: {}", evaluator_.fault().message);
    }
    for (const std::optional<ir::Script>* script : {&job.script, &job.prologue, &job.epilogue}) {
      if (!*script) {
        continue;
      }
      for (const ir::ScriptBinding& binding : (*script)->bindings) {
        if (!evaluator_.Evaluate(binding.value, context, value)) {
          return fmt::format("a value of the script failed: {}", evaluator_.fault().message);
        }
      }
    }
    return "";
  }

  void EvaluateCommands() {
    for (const uint32_t job : setup_.commands_of) {
      for (uint32_t i = 0; out_.state->expanded(job) && i < out_.state->size(job); ++i) {
        const InstanceRef instance{job, i};
        VirtualContext context(*out_.state, world_, input_evaluator_, instance);
        context.SetPathEvaluator(&path_evaluator_);
        context.SetOutputDir(setup_.scratch);
        context.SetAttempt(1);
        Resources resources;
        if (auto evaluated = EvaluateResources(plan_.jobs[job].resources, evaluator_, context)) {
          resources = *evaluated;
        }
        context.SetResources(&resources);
        std::vector<std::string> argv;
        if (Launch(plan_.jobs[job], context, argv).empty()) {
          out_.argv.try_emplace(instance, std::move(argv));
        }
      }
    }
  }

  void CarryOut(CancelAttempt& cancel) {
    for (auto it = ends_.begin(); it != ends_.end(); ++it) {
      if (it->second.id != cancel.id) {
        continue;
      }
      ends_.erase(it);
      scheduler_->AttemptReaped(cancel.id, now_);
      return;
    }
  }

  void End(Pending& pending) {
    AttemptResult result;
    result.started_ms = pending.started_ms;
    result.ended_ms = now_;
    if (pending.program.failure) {
      result.verdict = *pending.program.failure;
    } else {
      Streams streams(pending.program);
      AttemptFacts facts;
      facts.exit_code = pending.program.exit_code;
      facts.logs = &streams;
      result.verdict = Resolve(facts, plan_.jobs[pending.instance.job].errors);
      if (result.verdict.success) {
        scheduler_->AttemptExited(pending.id, now_);
        if (pending.program.outputs_are_free) {
          result.outputs.resize(plan_.jobs[pending.instance.job].outputs.size());
        } else {
          Collect(pending, streams, result);
        }
      }
    }
    scheduler_->AttemptEnded(pending.id, std::move(result), now_);
    scheduler_->AttemptReaped(pending.id, now_);
  }

  void Collect(Pending& pending, Streams& streams, AttemptResult& result) {
    auto misfit = [&](Verdict verdict) {
      out_.misfits[pending.instance] = verdict.message;
      verdict.no_retry = true;
      result.verdict = std::move(verdict);
    };
    CollectRequest request;
    request.output_dir = pending.output_dir;
    request.result_path = fmt::format("{}/results/{}.json", setup_.scratch, pending.id);
    request.run_dir = setup_.scratch;
    request.place = "outputs/" + ir::SafeName(out_.state->Address(pending.instance));
    if (std::string problem = WriteFiles(pending, request.result_path); !problem.empty()) {
      misfit(Failed(ir::ErrorKind::OutputMissing, problem));
      return;
    }
    pending.context->SetEnded(&streams, pending.program.exit_code);
    const Masker masker;
    Collected collected = CollectOutputs(plan_, pending.instance.job, request, evaluator_, *pending.context, masker);
    if (!collected.verdict.success) {
      misfit(std::move(collected.verdict));
      return;
    }
    if (auto kept = PublishCaptured(collected, request); !kept) {
      misfit(Failed(ir::ErrorKind::Staging, kept.error().message));
      return;
    }
    result.outputs = std::move(collected.outputs);
    result.result = std::move(collected.result);
  }

  std::string WriteFiles(Pending& pending, const std::string& result_path) {
    std::error_code error;
    fs::create_directories(pending.output_dir, error);
    auto write = [&](const std::string& path, const std::string& shown, const std::string& content) -> std::string {
      fs::create_directories(fs::path(path).parent_path(), error);
      std::ofstream file(path, std::ios::binary);
      file << content;
      file.close();
      return file ? "" : fmt::format("the file `{}` cannot be made: another one stands in its way", shown);
    };
    if (pending.program.result) {
      if (std::string problem = write(result_path, "$JOB_RESULT", ir::JsonText(*pending.program.result)); !problem.empty()) {
        return problem;
      }
    }
    for (const VirtualProgram::File& file : pending.program.files) {
      std::string path = file.path;
      if (file.output != UINT32_MAX) {
        ir::Value value;
        ir::Fault fault;
        if (!pending.context->OutputPath(file.output, value, fault)) {
          return fault.message;
        }
        path = value.as_file().path;
      }
      if (std::string problem = write(pending.output_dir + "/" + path, path, file.content); !problem.empty()) {
        return problem;
      }
    }
    return "";
  }

  void CarryOut(EvaluateExports&) {
    RunContext context(*out_.state, &world_);
    std::optional<Verdict> failure;
    for (size_t i = 0; i < plan_.exports.size(); ++i) {
      const ir::Export& one = plan_.exports[i];
      VirtualExport& given = out_.exports[i];
      if (!evaluator_.Evaluate(one.value, context, given.value) ||
          (!given.value.is_null() && !evaluator_.CheckRefinements(given.value, one.type, one.name, context))) {
        given.value = ir::Value();
        given.problem = evaluator_.fault().message;
        if (out_.state->status() == RunStatus::Succeeded && !failure) {
          failure = Failed(ir::ErrorKind::Expression, fmt::format("export `{}` failed: {}", one.name, given.problem));
        }
      }
    }
    scheduler_->ExportsDone(std::move(failure), now_);
  }

  void CarryOut(PublishOutputs&) {
    RunContext context(*out_.state, &world_);
    std::optional<Verdict> failure;
    for (const ir::Publish& publish : plan_.publishes) {
      Result<std::vector<PublishItem>> items = ItemsToPublish(publish, evaluator_, context, world_);
      if (!items) {
        failure = Failed(ir::ErrorKind::Publish, items.error().message);
        out_.published.clear();
        break;
      }
      for (const PublishItem& item : *items) {
        out_.published.push_back(publish.destination + "/" + item.path);
      }
    }
    scheduler_->PublishDone(std::move(failure), now_);
  }

  void CarryOut(RunFinished& end) { out_.end = end; }

  const VirtualSetup& setup_;
  const ir::Plan& plan_;
  VirtualWorld world_;
  ir::Evaluator evaluator_, input_evaluator_, path_evaluator_;
  Scheduler* scheduler_ = nullptr;
  int64_t now_ = 1'000'000;
  std::map<std::pair<int64_t, AttemptId>, Pending> ends_;   ///< of running attempts, by time
  VirtualOutcome out_;
};

}  // namespace

VirtualOutcome RunVirtually(const VirtualSetup& setup) { return VirtualRun(setup).Run(); }

bool SkipInstances(ir::Plan& plan, uint32_t job, const std::optional<ir::ListValue>& indices) {
  ir::Job& skipped = plan.jobs[job];
  ir::ExprPool& exprs = plan.program.exprs;
  const ir::TypeId boolean = plan.program.types.Basic(ir::TypeKind::Bool);
  if (!indices || skipped.domain.single()) {
    skipped.when = exprs.Constant(boolean, ir::Value::Bool(false));
    return true;
  }
  const ir::Domain& domain = skipped.domain;
  // Not this instance: the key or an axis differs.
  ir::ExprId differs = exprs.Constant(boolean, ir::Value::Bool(false));
  size_t next = 0;
  auto compare = [&](ir::ExprId part, ir::TypeId type, const ir::Value& value) {
    const ir::ExprId other = exprs.Add(ir::Op::Ne, boolean, {part, exprs.Constant(type, value)});
    differs = exprs.Add(ir::Op::Or, boolean, {differs, other});
  };
  if (domain.list.valid()) {
    const ir::Value& wanted = (*indices)[next++];
    if (domain.key.valid()) {
      compare(domain.key, domain.key_type, wanted);
    } else {
      // Without a key the index counts, which no expression can see: its element is looked for.
      if (domain.dynamic) {
        return false;
      }
      ir::Evaluator evaluator(plan.program);
      ir::EvalContext context;
      Result<ir::Instances> instances = ir::Instances::Expand(plan, job, evaluator, context);
      const std::vector<uint64_t> found = instances ? instances->FindAll({wanted}) : std::vector<uint64_t>();
      if (found.empty()) {
        return true;
      }
      compare(exprs.Add(ir::Op::Var, domain.type, {}, {}, 0), domain.type, instances->Var(found.front(), 0));
    }
  }
  for (uint32_t axis = 0; axis < domain.axes.size() && next < indices->size(); ++axis) {
    compare(exprs.Add(ir::Op::Var, domain.axes[axis].type, {}, {}, 2 + axis), domain.axes[axis].type, (*indices)[next++]);
  }
  skipped.when = skipped.when.valid() ? exprs.Add(ir::Op::And, boolean, {skipped.when, differs}) : differs;
  return true;
}

}  // namespace jobc
