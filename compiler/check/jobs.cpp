// Bodies of jobs, checks, finally blocks and hooks: each attribute with the type, phase and scope the schema gives it.
#include <algorithm>
#include <csignal>
#include <fmt/format.h>
#include <list>
#include <set>

#include "compiler/check/declarations.h"
#include "compiler/check/staged_names.h"
#include "compiler/check/synonyms.h"
#include "ir/file_path.h"
#include "support/sha256.h"

namespace jobc::check {
namespace {

using Words = std::vector<std::string_view>;

const Words& StrategyWords() {
  static const Words words = {"ignore", "continue", "drain", "halt"};
  return words;
}

const Words& MatcherWords() {
  static const Words words = [] {
    Words w;
    for (int i = 0; i < ir::kErrorKinds; ++i) w.push_back(ir::KindName(static_cast<ir::ErrorKind>(i)));
    for (std::string_view c : {"system", "algorithm", "data"}) w.push_back(c);
    return w;
  }();
  return words;
}

struct SignalName {
  std::string_view name;
  int number;
};
constexpr SignalName kSignals[] = {
    {"SIGHUP", SIGHUP}, {"SIGINT", SIGINT}, {"SIGQUIT", SIGQUIT}, {"SIGILL", SIGILL}, {"SIGTRAP", SIGTRAP}, {"SIGABRT", SIGABRT},
    {"SIGBUS", SIGBUS}, {"SIGFPE", SIGFPE}, {"SIGKILL", SIGKILL}, {"SIGUSR1", SIGUSR1}, {"SIGSEGV", SIGSEGV}, {"SIGUSR2", SIGUSR2},
    {"SIGPIPE", SIGPIPE}, {"SIGALRM", SIGALRM}, {"SIGTERM", SIGTERM}, {"SIGXCPU", SIGXCPU}, {"SIGXFSZ", SIGXFSZ}, {"SIGSYS", SIGSYS},
};

constexpr std::string_view kContract[] = {"INPUT_PATH", "OUTPUT_PATH", "EXECUTION_ID"};

bool IsVariableName(std::string_view name) {
  return !name.empty() && !std::isdigit(static_cast<unsigned char>(name[0])) &&
         std::all_of(name.begin(), name.end(), [](unsigned char ch) { return std::isalnum(ch) || ch == '_'; });
}

bool IsContractVariable(std::string_view name) {
  return name.rfind("JOB_", 0) == 0 || std::find(std::begin(kContract), std::end(kContract), name) != std::end(kContract);
}

std::string ToLower(std::string text) {
  for (char& ch : text) ch = static_cast<char>(std::tolower(static_cast<unsigned char>(ch)));
  return text;
}

/// Checks the attributes of one job (or of one job under one profile) into an ir::Job.
class Body {
 public:
  Body(Checker& checker, uint32_t index, const Merged& merged, const Facts& facts, std::list<TemplateUse>& uses, ir::Job& out)
      : c_(checker), index_(index), job_(checker.jobs[index]), merged_(merged), facts_(facts), uses_(uses), out_(out) {}

  /// Everything, for the base settings.
  void All() {
    const ast::Item& item = (*job_.unit->file)[job_.item];
    out_.address = job_.address;
    out_.kind = job_.kind;
    out_.doc = item.doc;
    out_.nullable = job_.nullable;
    if (job_.kind == ir::JobKind::Hook) {
      out_.hook_event = job_.name.text == "start" ? ir::HookEvent::Start : job_.name.text == "success" ? ir::HookEvent::Success
                        : job_.name.text == "failure" ? ir::HookEvent::Failure : ir::HookEvent::Finish;
    }
    KnownNames();
    After();
    if (job_.kind == ir::JobKind::Check) {
      Requires();
      OnError();
      return;
    }
    Inputs();
    ResolveTemplateArguments(c_, job_, c_.declarations->job_decls[index_], false);
    Settings(nullptr);
    Outputs();
    Action();
    Cache();
  }

  /// The settings that profiles may change; with `touched` only those named there.
  void Settings(const std::vector<std::string_view>* touched) {
    auto wanted = [&](std::string_view name) { return touched == nullptr || std::find(touched->begin(), touched->end(), name) != touched->end(); };
    if (wanted("image")) out_.image = Attr("image", String(), kLoopWord(), "`image`");
    if (wanted("resources")) ResourcesOf(merged_, out_.resources, kLoopWord() | kInput, Phase::S);
    if (wanted("env")) Env();
    if (wanted("secret_files")) SecretFiles();
    if (wanted("pools")) Pools();
    if (wanted("priority")) out_.priority = Attr("priority", IntRange(-100, 100, "-100..100"), kLoopWord(), "`priority`");
    if (wanted("timeout")) TimeoutOf(merged_, out_.timeout, kLoopWord(), Phase::P);
    if (wanted("errors")) Errors();
    if (wanted("retry")) Retry();
    if (wanted("submit")) Submit();
    if (wanted("on_error")) OnError();
    if (wanted("prologue")) out_.prologue = ProEpilogue("prologue", script::Part::Prologue);
    if (wanted("epilogue")) out_.epilogue = ProEpilogue("epilogue", script::Part::Epilogue);
    if (wanted("labels")) Labels();
    if (wanted("staging")) out_.staging = Attr("staging", String(), kLoopWord(), "`staging`");
    if (wanted("log_limit")) out_.log_limit = Attr("log_limit", c_.types.Basic(ir::TypeKind::Bytes), kLoopWord(), "`log_limit`");
    if (wanted("grace")) out_.grace = Attr("grace", c_.types.Basic(ir::TypeKind::Duration), kLoopWord(), "`grace`");
    if (wanted("inherit_env")) InheritEnv();
    if (wanted("backend")) BackendOf();
    if (touched != nullptr && (wanted("image") || wanted("inherit_env"))) CacheKey();
  }

  void KnownNames() {
    uint32_t block = job_.kind == ir::JobKind::Job ? kJob : job_.kind == ir::JobKind::Check ? kCheck : job_.kind == ir::JobKind::Finally ? kFinally : kHook;
    for (const MergedItem& item : merged_.attrs) {
      for (const Placed& placed : item.all) Known(item.name, placed.item->keyword, placed.layer->kind, block, Shape::Attr);
    }
    for (const MergedBlock& item : merged_.blocks) {
      for (const Layer& layer : item.layers) Known(item.name, layer.span, layer.kind, block, Shape::Block);
    }
    for (const MergedItem& item : merged_.fields) {
      for (const Placed& placed : item.all) {
        c_.diags.Emit(placed.item->keyword, diag::MisplacedItem, fmt::format("`{}: …`", item.name), BlockTitle(block))
            .Label("a typed field belongs into `input` or `output`")
            .AddHelp(fmt::format("write `input {{ {0}: … }}` or `output {{ {0}: … }}`", item.name));
      }
    }
    for (const Placed& arm : merged_.arms) {
      c_.diags.Emit(arm.item->keyword, diag::MisplacedItem, "`… => …`", BlockTitle(block)).Label("arms belong into `errors { … }`");
    }
  }

 private:
  static uint32_t kLoopWord() { return kLoop; }
  ir::TypeId String() { return c_.types.Basic(ir::TypeKind::String); }
  ir::TypeId IntRange(int64_t low, std::optional<int64_t> high, std::string text) {
    ir::Refinement refinement;
    refinement.kind = ir::RefinementKind::IntRange;
    refinement.int_low = low;
    refinement.int_high = high;
    refinement.text = std::move(text);
    return c_.types.Refined(c_.types.Basic(ir::TypeKind::Int), c_.types.AddRefinement(std::move(refinement)));
  }

  bool IsTemplateParam(std::string_view name) {
    for (const TemplateUse& use : uses_) {
      const TemplateInfo& info = c_.declarations->templates[use.template_index];
      const ast::File& file = *info.unit->file;
      const ast::Item& item = file[info.item];
      for (const ast::ItemId* id = file.begin(item.children); id != file.end(item.children); ++id) {
        if (file[*id].kind != ast::ItemKind::Block || file[*id].name.text != "params") continue;
        for (const ast::ItemId* field = file.begin(file[*id].children); field != file.end(file[*id].children); ++field) {
          if (file[*field].kind == ast::ItemKind::Field && file[*field].name.text == name) return true;
        }
      }
    }
    return false;
  }

  void Known(std::string_view name, Span span, LayerKind layer, uint32_t own_block, Shape shape) {
    uint32_t block = layer == LayerKind::Defaults ? kDefaults : layer == LayerKind::Template ? kTemplate
                     : layer == LayerKind::ProfileRoot ? kProfile : layer == LayerKind::ProfileJob ? kProfileJob : own_block;
    const Attribute* found = nullptr;
    for (const Attribute& attribute : Attributes()) {
      if (attribute.name != name || (attribute.blocks & block) == 0) continue;
      found = &attribute;
      if (attribute.shape == shape) return;
    }
    if (shape == Shape::Attr && IsTemplateParam(name)) return;
    if (found != nullptr) {
      std::string form = found->shape == Shape::Block ? fmt::format("{} {{ … }}", name) : found->shape == Shape::Attr ? fmt::format("{} = …", name) : fmt::format("{} …", name);
      c_.diags.Emit(span, diag::WrongShape, name, form).Label(found->shape == Shape::Block ? "this is a block" : "this is an attribute");
      return;
    }
    if (block == kProfile || block == kProfileJob) {
      for (const Attribute& attribute : Attributes()) {
        if (attribute.name == name && (attribute.blocks & kJob)) {
          c_.diags.Emit(span, diag::NotForProfiles, name)
              .Label("a profile says where and how a job runs, never what it is")
              .AddHelp("set it in the job, or use a parameter");
          return;
        }
      }
    }
    std::vector<std::string_view> names = AttributeNames(block);
    auto& d = c_.diags.Emit(span, diag::UnknownAttribute, BlockTitle(block), name).Label("unknown");
    std::string_view like = DidYouMean(name, names);
    if (!like.empty()) {
      d.AddHelp(fmt::format("did you mean `{}`?", like), {{span, std::string(like)}});
      return;
    }
    // A word that belongs one level deeper is the most likely slip.
    for (auto [inner, title] : {std::pair<uint32_t, std::string_view>{kResourcesBlock, "resources"}, {kTimeout, "timeout"}, {kRetry, "retry"}}) {
      if (FindAttribute(name, inner) != nullptr) {
        d.AddHelp(fmt::format("it belongs into a block:  {} {{ {} = … }}", title, name));
        return;
      }
    }
    if (own_block == kJob) {
      if (std::string_view here = FindSynonym(AttributeSynonyms(), name); !here.empty()) {
        d.AddHelp(fmt::format("here that is:  {}", here));
        return;
      }
    }
    std::string all;
    for (std::string_view n : names) {
      if (all.find(fmt::format("`{}`", n)) == std::string::npos) all += fmt::format("{}`{}`", all.empty() ? "" : ", ", n);
    }
    d.Note(fmt::format("{} has {}", BlockTitle(block), all));
  }

  Scope ScopeOf(const Placed& placed, uint32_t words, Phase latest, std::string_view place) {
    Scope scope;
    scope.unit = placed.unit();
    scope.job = &job_;
    scope.words = words;
    if (job_.kind == ir::JobKind::Finally || job_.kind == ir::JobKind::Hook) scope.words |= kRun | kJobsAreNull;
    scope.latest = latest;
    if (scope.words & kRun && latest == Phase::S) scope.latest = Phase::R;
    scope.place = place;
    scope.facts = facts_;
    // What differs from run to run may decide whether something runs, never what it computes.
    scope.allow_per_run = job_.kind != ir::JobKind::Job || place == "`when`";
    if (placed.layer->use != nullptr) scope.template_arguments = &placed.layer->use->arguments;
    scope.template_use = placed.layer->use;
    return scope;
  }

  /// Loop variables of a dynamic scatter count as P in settings: what they give is checked again at expansion.
  Typed CheckAt(const Placed& placed, ast::ExprId expr, const Scope& scope, ir::TypeId expected) {
    Phase real = job_.for_phase;
    if (job_.dynamic && scope.latest == Phase::P) job_.for_phase = Phase::P;
    Typed typed = c_.CheckExpr(expr, scope, expected);
    job_.for_phase = real;
    return typed;
  }

  ir::ExprId Attr(std::string_view name, ir::TypeId type, uint32_t words, std::string_view place) {
    const Placed* placed = merged_.Attr(name);
    if (placed == nullptr || !placed->item->value.valid()) return {};
    const Attribute* schema = FindAttribute(name, kSettings | kJobLike);
    Scope scope = ScopeOf(*placed, words, schema != nullptr ? schema->latest : Phase::P, place);
    return CheckAt(*placed, placed->item->value, scope, type).expr;
  }

  void After() {
    if (const Placed* when = merged_.Attr("when")) {
      Scope scope = ScopeOf(*when, kLoop, Phase::S, "`when`");
      scope.facts = {};
      out_.when = c_.CheckCondition(when->item->value, scope, &c_.declarations->job_decls[index_].when_facts).expr;
      CheckFailuresSeen(out_.when);
    }
    const Placed* after = merged_.Attr("after");
    if (after == nullptr) return;
    const ast::File& file = *after->unit()->file;
    const ast::Expr& list = file[after->item->value];
    if (list.kind != ast::ExprKind::List) {
      if (list.kind != ast::ExprKind::Error) {
        std::string_view text = c_.sources.Text(list.span);
        c_.diags.Emit(list.span, diag::NotA, "a list of jobs", "something else")
            .Label("`after` takes a list")
            .AddHelp(fmt::format("write `after = [{}]`", text), {{list.span, fmt::format("[{}]", text)}});
      }
      return;
    }
    for (uint32_t i = 0; i < list.entries.size; ++i) AfterElement(*after, file, file.entries[list.entries.begin + i].value);
  }

  void AfterElement(const Placed& placed, const ast::File& file, ast::ExprId id) {
    if (!id.valid() || file[id].kind == ast::ExprKind::Error) return;
    const ast::Expr* e = &file[id];
    ir::AfterKind kind = ir::AfterKind::Succeeded;
    Unit* unit = placed.unit();
    if (e->kind == ast::ExprKind::Member && (e->name.text == "done" || e->name.text == "failed" || e->name.text == "ok")) {
      ast::ExprId base = file.child(*e, 0);
      if (e->name.text == "ok") {
        std::string_view text = c_.sources.Text(file[base].span);
        c_.diags.Emit(e->span, diag::NotA, "a job, `job.done` or `job.failed`", fmt::format("`{}`", c_.sources.Text(e->span)))
            .Label("a bare name already means that it succeeded")
            .AddHelp(fmt::format("write `{}`", text), {{e->span, std::string(text)}});
      } else {
        kind = e->name.text == "done" ? ir::AfterKind::Done : ir::AfterKind::Failed;
      }
      e = &file[base];
    }
    const ast::Expr* index = nullptr;
    if (e->kind == ast::ExprKind::Index) {
      index = e;
      e = &file[file.child(*e, 0)];
    }
    if (e->kind != ast::ExprKind::Name) {
      c_.diags.Emit(file[id].span, diag::NotA, "a job, `job.done` or `job.failed`", "another expression").Label("not a job");
      return;
    }
    auto found = unit->values.find(llvm::StringRef(e->name.text.data(), e->name.text.size()));
    if (found == unit->values.end() || (found->second.kind != SymbolKind::Job && found->second.kind != SymbolKind::Check && found->second.kind != SymbolKind::Module)) {
      std::vector<std::string_view> names;
      for (const auto& entry : unit->values) {
        if (entry.second.kind == SymbolKind::Job || entry.second.kind == SymbolKind::Check || entry.second.kind == SymbolKind::Module) names.push_back({entry.first().data(), entry.first().size()});
      }
      std::sort(names.begin(), names.end());
      auto& d = c_.diags.Emit(e->name.span, diag::UnknownJob, e->name.text).Label("not declared");
      std::string_view like = DidYouMean(e->name.text, names);
      if (!like.empty()) d.AddHelp(fmt::format("did you mean `{}`?", like), {{e->name.span, std::string(like)}});
      return;
    }
    found->second.used = true;
    if (found->second.kind == SymbolKind::Module) {
      Unit* inner = c_.modules[found->second.index].inner;
      if (inner == nullptr) return;
      for (const JobInfo& job : c_.jobs) {
        bool inside = false;
        for (Unit* u = job.unit; u != nullptr; u = u->parent) inside = inside || u == inner;
        if (inside && (job.kind == ir::JobKind::Job || job.kind == ir::JobKind::Check)) {
          out_.after.push_back({job.index, kind, job.single() ? ir::Mapping::Single : ir::Mapping::All, {}});
        }
      }
      return;
    }
    JobInfo& target = c_.ResolveJob(found->second.index);
    if (target.kind == ir::JobKind::Finally || target.kind == ir::JobKind::Hook) {
      c_.diags.Emit(e->name.span, diag::NotA, "a job or check", "a `finally` block").Label("it runs after everything else ended");
      return;
    }
    if (kind == ir::AfterKind::Failed) CheckFailureSeen(target, file[id].span);
    ir::After entry{target.index, kind, ir::Mapping::Single, {}};
    if (index == nullptr) {
      entry.mapping = target.single() ? ir::Mapping::Single : ir::Mapping::All;
    } else {
      Scope scope = ScopeOf(placed, kLoop, Phase::S, "`after`");
      scope.facts = {};
      uint32_t given = index->children.size - 1;
      if (given > target.dimensions()) {
        c_.diags.Emit(index->op_span, diag::NotA, fmt::format("at most {} indices", target.dimensions()), std::to_string(given)).Label("too many");
        return;
      }
      for (uint32_t k = 0; k < given; ++k) {
        ast::ExprId child = file.child(*index, k + 1);
        if (!child.valid() || file[child].kind == ast::ExprKind::Star) break;
        ir::TypeId type = target.has_for ? (k == 0 ? target.key_type : target.axes[k - 1].type) : target.axes[k].type;
        entry.indices.push_back(c_.CheckExpr(child, scope, type).expr);
      }
      entry.mapping = entry.indices.size() == target.dimensions() ? ir::Mapping::Expr : ir::Mapping::All;
    }
    out_.after.push_back(std::move(entry));
  }

  /// Only a job whose failure lets the run go on can be waited for to fail.
  void CheckFailureSeen(const JobInfo& target, Span span) {
    const Merged& upstream = c_.declarations->job_decls[target.index].merged;
    if (const Placed* on_error = upstream.Attr("on_error")) {
      const ast::Expr& value = (*on_error->unit()->file)[on_error->item->value];
      if (value.kind != ast::ExprKind::Name || value.name.text == "continue" || value.name.text == "ignore") return;
    }
    std::string_view what = target.kind == ir::JobKind::Check ? "check" : "job";
    auto& d = c_.diags.Emit(span, diag::FailedNeverSeen, target.name.text, target.name.text)
                  .Label("never true while the run goes on");
    d.Secondary(target.name.span, what == "check" ? "this check's `on_error` is not `continue`" : "this job's `on_error` is neither `continue` nor `ignore`");
    d.AddHelp(fmt::format("set in `{}`:  on_error = continue", target.name.text));
  }

  /// `x.failed` inside `when`, with the same condition as in `after`.
  void CheckFailuresSeen(ir::ExprId id) {
    const ir::Expr e = c_.exprs[id];
    if ((e.op == ir::Op::JobStatus || e.op == ir::Op::ScatterStatus) && static_cast<ir::StatusField>(e.b) == ir::StatusField::Failed) {
      const ir::Place place = c_.exprs.place(id);
      CheckFailureSeen(c_.jobs[e.a], {SourceId{place.source}, place.begin, place.end});
    }
    for (uint32_t i = 0; i < e.args.size; ++i) CheckFailuresSeen(c_.exprs.arg(e, i));
  }

  void Requires() {
    Facts known;
    for (const Placed& placed : merged_.requires_) {
      Scope scope = ScopeOf(placed, 0, Phase::S, "`require`");
      scope.facts = known;
      Facts proven;
      ir::Require entry;
      entry.condition = c_.CheckCondition(placed.item->value, scope, &proven).expr;
      entry.text = std::string(SourceText(c_, *placed.unit()->file, placed.item->value));
      if (placed.item->value2.valid()) entry.message = c_.CheckText(placed.item->value2, scope).expr;
      known.Add(proven);
      entry.at = At(placed.item->span);
      out_.requires_.push_back(std::move(entry));
    }
    if (merged_.requires_.empty()) {
      c_.diags.Emit(job_.name.span, diag::MissingAttribute, fmt::format("`check {}`", job_.name.text), "`require`")
          .Label("checks nothing")
          .AddHelp("add:  require CONDITION else \"what is wrong\"");
    }
  }

  void Inputs() {
    const MergedBlock* block = merged_.Block("input");
    if (block == nullptr) return;
    inputs_ = Merge(c_, block->layers, 0);
    OtherItems(inputs_, "`input`", "expected name: Type = value");
    for (const MergedItem& attr : inputs_.attrs) {
      c_.diags.Emit(attr.last().item->keyword, diag::MisplacedItem, fmt::format("`{} = …`", attr.name), "`input`")
          .Label("an input needs its type")
          .AddHelp(fmt::format("write `{}: File = …` or another type", attr.name));
    }
    for (const MergedItem& field : inputs_.fields) {
      const Placed& placed = field.last();
      const ast::Item& item = *placed.item;
      InputInfo info;
      info.name = field.name;
      info.span = item.name.span;
      if (field.name.size() > 1 && field.name[0] == '_' && std::all_of(field.name.begin() + 1, field.name.end(), [](unsigned char ch) { return std::isdigit(ch); })) {
        c_.diags.Emit(item.name.span, diag::ReservedName, field.name)
            .Label("files that are used without being declared are called `_1`, `_2` …")
            .AddHelp("use another name for the input");
      }
      info.type = item.type.valid() ? c_.ResolveType(item.type, *placed.unit()) : c_.types.Basic(ir::TypeKind::Error);
      ir::Input input;
      input.name = std::string(field.name);
      input.type = info.type;
      if (c_.types.HasSecret(info.type)) {
        c_.diags.Emit(item.name.span, diag::SecretInput, field.name)
            .Label("inputs are written to inputs.json")
            .AddHelp(fmt::format("pass it in the environment:  env {{ {} = … }}", field.name));
      }
      if (item.value.valid()) {
        Scope scope = ScopeOf(placed, kLoop | kInput, Phase::S, "an input");
        Typed value = c_.CheckExpr(item.value, scope, info.type);
        info.phase = value.phase;
        info.leaf = value.leaf;
        input.value = value.expr;
      } else if (job_.template_alone) {
        input.value = c_.ErrorExpr();
      } else {
        c_.diags.Emit(item.name.span, diag::MissingArgument, field.name)
            .Label(placed.layer->kind == LayerKind::Template ? "the template leaves this input to the job" : "has no value")
            .Secondary(job_.name.span, "in this job")
            .AddHelp(fmt::format("write `input {{ {}: {} = … }}`", field.name, c_.types.Show(info.type)));
        input.value = c_.ErrorExpr();
      }
      job_.inputs.push_back(info);
      out_.inputs.push_back(std::move(input));
    }
  }

  void Env() {
    out_.env.clear();
    const MergedBlock* block = merged_.Block("env");
    if (block == nullptr) return;
    Merged entries = Merge(c_, block->layers, 0);
    OnlyAttrs(entries, "`env`", "expected NAME = value");
    for (const MergedItem& entry : entries.attrs) {
      const Placed& placed = entry.last();
      std::string name(entry.name);
      Span span = KeySpan(placed);
      if (name.size() >= 2 && name.front() == '"') name = name.substr(1, name.size() - 2);
      if (!IsVariableName(name)) {
        c_.diags.Emit(span, diag::NotA, "a name of an environment variable", fmt::format("`{}`", name)).Label("letters, digits and `_`, no digit first");
        continue;
      }
      if (IsContractVariable(name)) {
        c_.diags.Emit(span, diag::ReservedVariable, name).Label("set by jobc for every attempt").AddHelp("use another name");
        continue;
      }
      Scope scope = ScopeOf(placed, kLoop | kInput | kOutputPaths | kResources, Phase::S, "an environment variable");
      scope.allow_secret = true;
      Typed value = c_.CheckExpr(placed.item->value, scope);
      ir::TypeId plain = c_.types.NonNull(value.type);
      ir::TypeKind kind = c_.types.kind(plain);
      if (kind != ir::TypeKind::Secret && kind != ir::TypeKind::Error && kind != ir::TypeKind::Null && !c_.types.HasText(plain)) {
        c_.diags.Emit((*placed.unit()->file)[placed.item->value].span, diag::NotA, "a value with a text form", fmt::format("`{}`", c_.types.Show(value.type)))
            .Label("cannot be put into an environment variable")
            .AddHelp(kind == ir::TypeKind::List ? "join it:  join(…, \",\")" : "make it a text:  to_string(json(…))");
        continue;
      }
      out_.env.push_back({std::move(name), value.expr, value.type});
    }
    for (ir::EnvEntry& entry : out_.env) entry.value = HoistFiles(c_, out_, entry.value);
    std::sort(out_.env.begin(), out_.env.end(), [](const ir::EnvEntry& x, const ir::EnvEntry& y) { return x.name < y.name; });
  }

  void SecretFiles() {
    out_.secret_files.clear();
    const MergedBlock* block = merged_.Block("secret_files");
    if (block == nullptr) return;
    Merged entries = Merge(c_, block->layers, 0);
    OnlyAttrs(entries, "`secret_files`", "expected \"file name\" = secret");
    for (const MergedItem& entry : entries.attrs) {
      const Placed& placed = entry.last();
      std::string name(entry.name);
      if (name.size() >= 2 && name.front() == '"') name = name.substr(1, name.size() - 2);
      if (name.empty() || name.find('/') != std::string::npos || name == "." || name == "..") {
        c_.diags.Emit(KeySpan(placed), diag::PathEscapes, name, "must be a plain file name").Label("not a file name").AddHelp("for example:  secret_files { \"password\" = … }, which the job finds at $JOB_SECRETS/password");
        continue;
      }
      Scope scope = ScopeOf(placed, 0, Phase::S, "a secret file");
      scope.allow_secret = true;
      out_.secret_files.push_back({std::move(name), c_.CheckExpr(placed.item->value, scope, c_.types.Basic(ir::TypeKind::Secret)).expr});
    }
    std::sort(out_.secret_files.begin(), out_.secret_files.end(), [](const ir::NamedExpr& x, const ir::NamedExpr& y) { return x.name < y.name; });
  }

  /// Blocks whose entries have free names take one form of item only.
  void OnlyAttrs(const Merged& merged, std::string_view block, std::string_view example) {
    for (const MergedItem& field : merged.fields) {
      c_.diags.Emit(field.last().item->keyword, diag::WrongShape, field.name, fmt::format("{} = …", field.name)).Label("this is set, not declared");
    }
    OtherItems(merged, block, example);
  }

  void OtherItems(const Merged& merged, std::string_view block, std::string_view example) {
    for (const MergedBlock& inner : merged.blocks) {
      c_.diags.Emit(inner.layers.back().span, diag::MisplacedItem, fmt::format("the block `{}`", inner.name), block).Label(std::string(example));
    }
    for (const Placed& arm : merged.arms) {
      c_.diags.Emit((*arm.unit()->file)[arm.item->value].span, diag::MisplacedItem, "`… => …`", block).Label("arms belong into `errors { … }`");
    }
  }

  void UnknownIn(const Merged& merged, uint32_t block) {
    for (const MergedItem& item : merged.attrs) Known(item.name, item.last().item->keyword, LayerKind::Job, block, Shape::Attr);
    for (const MergedBlock& item : merged.blocks) Known(item.name, item.layers.back().span, LayerKind::Job, block, Shape::Block);
    for (const MergedItem& item : merged.fields) {
      c_.diags.Emit(item.last().item->keyword, diag::WrongShape, item.name, fmt::format("{} = …", item.name)).Label("this is set, not declared");
    }
    for (const Placed& arm : merged.arms) c_.diags.Emit(arm.item->keyword, diag::MisplacedItem, "`… => …`", BlockTitle(block)).Label("arms belong into `errors { … }`");
  }

  ir::ExprId Inner(const Merged& merged, std::string_view name, ir::TypeId type, uint32_t words, Phase latest, std::string_view place, Typed* checked = nullptr) {
    const Placed* placed = merged.Attr(name);
    if (placed == nullptr || !placed->item->value.valid()) return {};
    Scope scope = ScopeOf(*placed, words, latest, place);
    Typed typed = CheckAt(*placed, placed->item->value, scope, type);
    if (checked != nullptr) *checked = typed;
    return typed.expr;
  }

  void ResourcesOf(const Merged& from, ir::ResourceSpec& out, uint32_t words, Phase latest) {
    out = {};
    const MergedBlock* block = from.Block("resources");
    if (block == nullptr) return;
    Merged r = Merge(c_, block->layers, kResourcesBlock);
    UnknownIn(r, kResourcesBlock);
    ir::Refinement positive;
    positive.kind = ir::RefinementKind::FloatRange;
    positive.float_low = 0.0;
    positive.text = "0.0..";
    ir::TypeId cpu = c_.types.Refined(c_.types.Basic(ir::TypeKind::Float), c_.types.AddRefinement(positive));
    ir::TypeId bytes = c_.types.Basic(ir::TypeKind::Bytes);
    auto claim = [&](std::string_view name, ir::TypeId type, std::string_view place, ir::ResourceKind kind) {
      Typed typed;
      ir::ExprId expr = Inner(r, name, type, words, latest, place, &typed);
      // What `resources.x` is known to be, for those that use it.
      if (expr.valid() && latest == Phase::S) job_.resources[static_cast<size_t>(kind)] = {typed.phase, typed.leaf};
      // A dynamic scatter's variables count as known; the rest needs a bound for the proofs of what a run may take.
      if (expr.valid() && typed.phase == Phase::S && kind != ir::ResourceKind::Spot && !IsCapped(expr)) {
        const Placed* placed = r.Attr(name);
        const Span span = (*placed->unit()->file)[placed->item->value].span;
        std::string_view text = c_.sources.Text(span);
        c_.diags.Emit(span, diag::NoUpperBound, name)
            .Label("may turn out to be anything")
            .Secondary(typed.leaf, "known only then")
            .AddHelp(fmt::format("give the most it can be:  {} = min({}, {})", name, text, kind == ir::ResourceKind::Cpu || kind == ir::ResourceKind::Gpu ? "8" : "64GiB"));
      }
      return expr;
    };
    out.cpu = claim("cpu", cpu, "`cpu`", ir::ResourceKind::Cpu);
    out.memory = claim("memory", bytes, "`memory`", ir::ResourceKind::Memory);
    out.disk = claim("disk", bytes, "`disk`", ir::ResourceKind::Disk);
    out.gpu = claim("gpu", IntRange(0, std::nullopt, "0.."), "`gpu`", ir::ResourceKind::Gpu);
    out.spot = claim("spot", c_.types.Basic(ir::TypeKind::Bool), "`spot`", ir::ResourceKind::Spot);
  }

  /// `min(e, cap)` with a cap known before the run, also behind a conversion or inside both branches of an `if`.
  bool IsCapped(ir::ExprId id) {
    const ir::Expr e = c_.exprs[id];
    if (e.op == ir::Op::Error || BeforeRun(id)) return true;
    if (e.op == ir::Op::If) return IsCapped(c_.exprs.arg(e, 1)) && IsCapped(c_.exprs.arg(e, 2));
    if (e.op == ir::Op::Checked || e.op == ir::Op::ToFloat || e.op == ir::Op::Narrow) return IsCapped(c_.exprs.arg(e, 0));
    if (e.op != ir::Op::Call || static_cast<ir::Builtin>(e.a) != ir::Builtin::min) return false;
    for (uint32_t i = 0; i < e.args.size; ++i) {
      if (IsCapped(c_.exprs.arg(e, i))) return true;
    }
    // min of a list literal
    const ir::Expr first = c_.exprs[c_.exprs.arg(e, 0)];
    for (uint32_t i = 0; e.args.size == 1 && first.op == ir::Op::List && i < first.args.size; ++i) {
      if (IsCapped(c_.exprs.arg(first, i))) return true;
    }
    return false;
  }

  bool BeforeRun(ir::ExprId id) {
    const ir::Expr e = c_.exprs[id];
    switch (e.op) {
      case ir::Op::JobOutput: case ir::Op::JobStatus: case ir::Op::ScatterStatus: case ir::Op::GatherOutput: case ir::Op::GatherStatus:
      case ir::Op::Instances: case ir::Op::InstanceOutput: case ir::Op::InstanceStatus: case ir::Op::InstanceKey: case ir::Op::Attempt: case ir::Op::Prev:
      case ir::Op::RunField: case ir::Op::Local: return false;
      case ir::Op::Var: return !(job_.dynamic && e.a < 2);
      case ir::Op::Let: return BeforeRun(c_.program.lets[e.a].value);
      case ir::Op::Input: return e.a < job_.inputs.size() && job_.inputs[e.a].phase <= Phase::P;
      case ir::Op::Resource: return e.a < std::size(job_.resources) && job_.resources[e.a].phase <= Phase::P;
      default: break;
    }
    for (uint32_t i = 0; i < e.args.size; ++i) {
      if (!BeforeRun(c_.exprs.arg(e, i))) return false;
    }
    return true;
  }

  ir::ExprId Limit(const Merged& from, std::string_view name, uint32_t words, Phase latest) {
    places_.push_back(fmt::format("`timeout.{}`", name));
    ir::ExprId expr = Inner(from, name, c_.types.Basic(ir::TypeKind::Duration), words, latest, places_.back());
    if (expr.valid() && c_.exprs.IsConst(expr) && c_.exprs.ConstValue(expr).kind() == ir::ValueKind::Duration && c_.exprs.ConstValue(expr).as_int() <= 0) {
      const Placed* placed = from.Attr(name);
      c_.diags.Emit((*placed->unit()->file)[placed->item->value].span, diag::LimitNotPositive, name).Label("would end every attempt at once").AddHelp("leave it out for no limit");
    }
    return expr;
  }

  void TimeoutOf(const Merged& from, ir::TimeoutSpec& out, uint32_t words, Phase latest) {
    out = {};
    const MergedBlock* block = from.Block("timeout");
    if (block == nullptr) return;
    Merged t = Merge(c_, block->layers, kTimeout);
    UnknownIn(t, kTimeout);
    out.queue = Limit(t, "queue", words, latest);
    out.run = Limit(t, "run", words, latest);
    out.total = Limit(t, "total", words, latest);
    out.idle = Limit(t, "idle", words, latest);
    out.stage = Limit(t, "stage", words, latest);
    out.collect = Limit(t, "collect", words, latest);
  }

  void Pools() {
    out_.pools.clear();
    const MergedItem* layers = merged_.AttrLayers("pools");
    if (layers == nullptr) return;
    // In a profile's root `pools` sets the slots of the pools themselves: what jobs claim is said by the other layers.
    const Placed* placed = nullptr;
    for (const Placed& layer : layers->all) {
      if (layer.layer->kind != LayerKind::ProfileRoot) placed = &layer;
    }
    if (placed == nullptr) return;
    const ast::File& file = *placed->unit()->file;
    const ast::Expr& map = file[placed->item->value];
    if (map.kind != ast::ExprKind::Map) {
      if (map.kind != ast::ExprKind::Error) c_.diags.Emit(map.span, diag::NotA, "a map such as { gpu = 1 }", "something else").Label("slots by pool");
      return;
    }
    for (uint32_t i = 0; i < map.entries.size; ++i) {
      const ast::Entry& entry = file.entries[map.entries.begin + i];
      std::optional<std::string> name = PlainText(file, entry.key);
      if (!name || !entry.value.valid()) continue;
      for (uint32_t k = 0; k < i; ++k) {
        const ast::Entry& earlier = file.entries[map.entries.begin + k];
        if (PlainText(file, earlier.key) != name) continue;
        c_.diags.Emit(file[entry.key].span, diag::SetTwice, *name).Label("claimed again").Secondary(file[earlier.key].span, "first claimed here").AddHelp("keep one of them");
      }
      const PoolInfo* pool = FindPool(c_, *placed->unit(), *name, file[entry.key].span);
      Scope scope = ScopeOf(*placed, kLoop, Phase::P, "slots of a pool");
      Typed slots = CheckAt(*placed, entry.value, scope, IntRange(1, std::nullopt, "1.."));
      if (pool != nullptr) out_.pools.emplace_back(pool->plan_index, slots.expr);
    }
    std::sort(out_.pools.begin(), out_.pools.end(), [](const auto& x, const auto& y) { return x.first < y.first; });
  }

  // ---- errors, retry ----

  void Errors() {
    out_.errors.clear();
    const MergedBlock* block = merged_.Block("errors");
    if (block == nullptr) return;
    Merged arms = Merge(c_, block->layers, 0);
    for (const MergedBlock& inner : arms.blocks) {
      c_.diags.Emit(inner.layers.back().span, diag::MisplacedItem, fmt::format("the block `{}`", inner.name), "`errors`").Label("an arm is written `fact => kind`");
    }
    for (const MergedItem& field : arms.fields) {
      c_.diags.Emit(field.last().item->keyword, diag::MisplacedItem, fmt::format("`{}: …`", field.name), "`errors`").Label("an arm is written `fact => kind`");
    }
    for (const MergedItem& item : arms.attrs) {
      c_.diags.Emit(item.last().item->keyword, diag::MisplacedItem, fmt::format("`{} = …`", item.name), "`errors`")
          .Label("an arm is written `fact => kind`")
          .AddHelp("write for example:  exit(137) => oom");
    }
    for (const Placed& placed : arms.arms) {
      const ast::File& file = *placed.unit()->file;
      ir::ErrorArm arm;
      std::optional<ir::Fact> fact = FactOf(placed, file, placed.item->value);
      bool outcome = OutcomeOf(placed, file, placed.item->value2, arm);
      if (!fact || !outcome) continue;
      arm.fact = std::move(*fact);
      out_.errors.push_back(std::move(arm));
    }
  }

  std::optional<ir::Fact> FactOf(const Placed& placed, const ast::File& file, ast::ExprId id) {
    if (!id.valid()) return std::nullopt;
    const ast::Expr& e = file[id];
    auto wrong = [&](Span span) -> std::optional<ir::Fact> {
      c_.diags.Emit(span, diag::NotA, "a fact: exit(n), exit(a..b), signal(NAME), stdout(re\"…\") or stderr(re\"…\")", "another expression")
          .Label("not a fact about how the program ended");
      return std::nullopt;
    };
    ir::Fact fact;
    switch (e.kind) {
      case ast::ExprKind::Error: return std::nullopt;
      case ast::ExprKind::Paren: return FactOf(placed, file, file.child(e, 0));
      case ast::ExprKind::Unary: {
        if (e.unary != ast::UnaryOp::Not) return wrong(e.span);
        std::optional<ir::Fact> inner = FactOf(placed, file, file.child(e, 0));
        if (!inner) return std::nullopt;
        fact.kind = ir::Fact::Kind::Not;
        fact.operands.push_back(std::move(*inner));
        return fact;
      }
      case ast::ExprKind::Binary: {
        if (e.binary != ast::BinaryOp::And && e.binary != ast::BinaryOp::Or) return wrong(e.span);
        std::optional<ir::Fact> left = FactOf(placed, file, file.child(e, 0));
        std::optional<ir::Fact> right = FactOf(placed, file, file.child(e, 1));
        if (!left || !right) return std::nullopt;
        fact.kind = e.binary == ast::BinaryOp::And ? ir::Fact::Kind::And : ir::Fact::Kind::Or;
        fact.operands.push_back(std::move(*left));
        fact.operands.push_back(std::move(*right));
        return fact;
      }
      case ast::ExprKind::Call: break;
      default: return wrong(e.span);
    }
    std::string_view name = e.name.text;
    if (e.entries.size != 1 || !file.entries[e.entries.begin].value.valid()) return wrong(e.span);
    ast::ExprId argument = file.entries[e.entries.begin].value;
    const ast::Expr& a = file[argument];
    if (name == "stdout" || name == "stderr") {
      if (a.kind != ast::ExprKind::Regex) {
        c_.diags.Emit(a.span, diag::NotA, "a regular expression re\"…\"", "something else").Label("searched line by line in the log");
        return std::nullopt;
      }
      c_.CheckExpr(argument, ScopeOf(placed, 0, Phase::C, "a fact"), c_.types.Basic(ir::TypeKind::Regex));
      fact.kind = name == "stdout" ? ir::Fact::Kind::Stdout : ir::Fact::Kind::Stderr;
      const ast::Part* part = a.parts.size > 0 ? &file.parts[a.parts.begin] : nullptr;
      fact.pattern = part != nullptr ? part->text : std::string();
      return fact;
    }
    if (name == "signal") {
      fact.kind = ir::Fact::Kind::Signal;
      if (a.kind == ast::ExprKind::Int) {
        fact.low = fact.high = static_cast<int>(a.int_value);
        if (a.int_value < 1 || a.int_value > 64) {
          c_.diags.Emit(a.span, diag::OutOfRange, "signal", "1..64", std::to_string(a.int_value)).Label("no such signal");
          return std::nullopt;
        }
        return fact;
      }
      if (a.kind != ast::ExprKind::Name) return wrong(a.span);
      Words names;
      for (const SignalName& signal : kSignals) {
        names.push_back(signal.name);
        if (signal.name == a.name.text) fact.low = fact.high = signal.number;
      }
      if (fact.low != 0) return fact;
      auto& d = c_.diags.Emit(a.span, diag::UnknownSignal, a.name.text).Label("unknown");
      std::string_view like = DidYouMean(a.name.text, names);
      if (!like.empty()) d.AddHelp(fmt::format("did you mean `{}`?", like), {{a.span, std::string(like)}});
      return std::nullopt;
    }
    if (name == "exit") {
      fact.kind = ir::Fact::Kind::Exit;
      int64_t low = 0, high = 255;
      auto constant = [&](ast::ExprId bound, int64_t& out) {
        if (!bound.valid()) return true;
        Typed typed = c_.CheckExpr(bound, ScopeOf(placed, 0, Phase::C, "an exit code"), c_.types.Basic(ir::TypeKind::Int));
        std::optional<ir::Value> value = c_.Constant(typed, file[bound].span);
        if (!value || value->kind() != ir::ValueKind::Int) return false;
        out = value->as_int();
        return true;
      };
      if (a.kind == ast::ExprKind::Binary && a.binary == ast::BinaryOp::Range) {
        if (!constant(file.child(a, 0), low) || !constant(file.child(a, 1), high)) return std::nullopt;
      } else {
        if (!constant(argument, low)) return std::nullopt;
        high = low;
      }
      if (low < 0 || high > 255 || low > high) {
        c_.diags.Emit(a.span, diag::OutOfRange, "exit", "within 0..255", low == high ? std::to_string(low) : fmt::format("{}..{}", low, high)).Label("no such exit code");
        return std::nullopt;
      }
      fact.low = static_cast<int>(low);
      fact.high = static_cast<int>(high);
      return fact;
    }
    return wrong(e.span);
  }

  bool OutcomeOf(const Placed& placed, const ast::File& file, ast::ExprId id, ir::ErrorArm& arm) {
    if (!id.valid()) return false;
    const ast::Expr& e = file[id];
    if (e.kind == ast::ExprKind::Error) return false;
    if (e.kind == ast::ExprKind::Call) {
      std::optional<ir::ErrorClass> named = ir::ClassFromName(e.name.text);
      std::optional<std::string> name, title;
      if (e.entries.size >= 1) name = PlainText(file, file.entries[e.entries.begin].value);
      if (e.entries.size >= 2) title = PlainText(file, file.entries[e.entries.begin + 1].value);
      if (!named || *named == ir::ErrorClass::None || !name || e.entries.size > 2 || (e.entries.size == 2 && !title)) {
        c_.diags.Emit(e.span, diag::NotA, "a kind, `success`, or a named error such as data(\"bad-input\", \"what it means\")", "something else").Label("not an outcome");
        return false;
      }
      bool valid = !name->empty() && (*name)[0] >= 'a' && (*name)[0] <= 'z' &&
                   std::all_of(name->begin(), name->end(), [](char ch) { return (ch >= 'a' && ch <= 'z') || (ch >= '0' && ch <= '9') || ch == '-'; });
      if (!valid || ir::KindFromName(*name)) {
        c_.diags.Emit(file[file.entries[e.entries.begin].value].span, diag::NotA, "a name of lower-case letters, digits and `-` that is no kind", fmt::format("\"{}\"", *name)).Label("cannot name an error");
        return false;
      }
      arm.error_class = *named;
      arm.kind = *named == ir::ErrorClass::System ? ir::ErrorKind::Internal : *named == ir::ErrorClass::Data ? ir::ErrorKind::InvalidInput : ir::ErrorKind::Exit;
      arm.name = *name;
      arm.title = title.value_or("");
      named_errors_.push_back(*name);
      return true;
    }
    static const Words words = [] {
      Words w{"success"};
      for (int i = 0; i < ir::kErrorKinds; ++i) w.push_back(ir::KindName(static_cast<ir::ErrorKind>(i)));
      return w;
    }();
    std::optional<size_t> word = c_.CheckWord(id, ScopeOf(placed, 0, Phase::C, "`errors`"), words, "an error kind");
    if (!word) return false;
    if (*word == 0) {
      arm.success = true;
      return true;
    }
    arm.kind = static_cast<ir::ErrorKind>(*word - 1);
    arm.error_class = ir::ClassOf(arm.kind);
    return true;
  }

  std::optional<ir::Matcher> MatcherOf(std::string_view text, bool is_name, Span span) {
    ir::Matcher matcher;
    if (is_name) {
      matcher.name = std::string(text);
      if (std::find(named_errors_.begin(), named_errors_.end(), text) == named_errors_.end()) {
        auto& d = c_.diags.Emit(span, diag::UnknownError, text).Label("no arm of `errors` gives this name");
        Words names(named_errors_.begin(), named_errors_.end());
        std::string_view like = DidYouMean(text, names);
        if (!like.empty()) d.AddHelp(fmt::format("did you mean \"{}\"?", like));
        return std::nullopt;
      }
      return matcher;
    }
    if (std::optional<ir::ErrorKind> kind = ir::KindFromName(text)) {
      if (*kind == ir::ErrorKind::Cancelled || *kind == ir::ErrorKind::Check || *kind == ir::ErrorKind::Expression) {
        c_.diags.Emit(span, diag::NotRetryable, text).Label("would come out the same again");
        return std::nullopt;
      }
      matcher.kind = *kind;
      return matcher;
    }
    if (std::optional<ir::ErrorClass> error_class = ir::ClassFromName(text); error_class && *error_class != ir::ErrorClass::None) {
      matcher.error_class = *error_class;
      return matcher;
    }
    auto& d = c_.diags.Emit(span, diag::UnknownError, text).Label("not an error kind or class");
    std::string_view like = DidYouMean(text, MatcherWords());
    if (!like.empty()) d.AddHelp(fmt::format("did you mean `{}`?", like), {{span, std::string(like)}});
    return std::nullopt;
  }

  std::vector<ir::Matcher> MatchersOf(const Placed& placed) {
    std::vector<ir::Matcher> matchers;
    const ast::File& file = *placed.unit()->file;
    const ast::Expr& list = file[placed.item->value];
    if (list.kind != ast::ExprKind::List) {
      if (list.kind != ast::ExprKind::Error) {
        c_.diags.Emit(list.span, diag::NotA, "a list of error kinds such as [network, preempted]", "something else").Label("not a list");
      }
      return matchers;
    }
    for (uint32_t i = 0; i < list.entries.size; ++i) {
      ast::ExprId id = file.entries[list.entries.begin + i].value;
      if (!id.valid()) continue;
      const ast::Expr& e = file[id];
      std::optional<ir::Matcher> matcher;
      if (e.kind == ast::ExprKind::Name) {
        matcher = MatcherOf(e.name.text, false, e.span);
      } else if (std::optional<std::string> text = PlainText(file, id)) {
        matcher = MatcherOf(*text, true, e.span);
      } else if (e.kind != ast::ExprKind::Error) {
        c_.diags.Emit(e.span, diag::NotA, "an error kind, class or name", "another expression").Label("not an error");
      }
      if (matcher) matchers.push_back(std::move(*matcher));
    }
    return matchers;
  }

  std::optional<ir::Backoff> BackoffOf(const Placed& placed) {
    const ast::File& file = *placed.unit()->file;
    const ast::Expr& call = file[placed.item->value];
    if (call.kind == ast::ExprKind::Error) return std::nullopt;
    ir::Backoff backoff;
    if (call.kind == ast::ExprKind::Call && call.name.text == "constant") backoff.kind = ir::Backoff::Kind::Constant;
    else if (call.kind == ast::ExprKind::Call && call.name.text == "linear") backoff.kind = ir::Backoff::Kind::Linear;
    else if (call.kind == ast::ExprKind::Call && call.name.text == "exponential") backoff.kind = ir::Backoff::Kind::Exponential;
    else {
      c_.diags.Emit(call.span, diag::NotA, "a back-off", "another expression")
          .Label("how long to wait before a retry?")
          .AddHelp("write `constant(10s)`, `linear(10s, max = 5m)` or `exponential(5s, factor = 2.0, max = 10m, jitter = full)`");
      return std::nullopt;
    }
    Scope scope = ScopeOf(placed, kLoop, Phase::P, "`backoff`");
    ir::TypeId duration = c_.types.Basic(ir::TypeKind::Duration);
    for (uint32_t i = 0; i < call.entries.size; ++i) {
      const ast::Entry& entry = file.entries[call.entries.begin + i];
      if (!entry.value.valid()) continue;
      std::string_view name = entry.name.valid() ? entry.name.text : (i == 0 ? "base" : "");
      if (name == "base") {
        backoff.base = CheckAt(placed, entry.value, scope, duration).expr;
      } else if (name == "max" && backoff.kind != ir::Backoff::Kind::Constant) {
        backoff.max = CheckAt(placed, entry.value, scope, duration).expr;
      } else if (name == "factor" && backoff.kind == ir::Backoff::Kind::Exponential) {
        Scope constant = ScopeOf(placed, 0, Phase::C, "`factor`");
        Typed typed = c_.CheckExpr(entry.value, constant, c_.types.Basic(ir::TypeKind::Float));
        if (std::optional<ir::Value> value = c_.Constant(typed, file[entry.value].span); value && value->kind() == ir::ValueKind::Float) {
          backoff.factor = value->as_float();
          if (backoff.factor < 1.0) c_.diags.Emit(file[entry.value].span, diag::OutOfRange, "factor", "at least 1.0", ir::FloatText(backoff.factor)).Label("the delay would shrink");
        }
      } else if (name == "jitter") {
        std::optional<size_t> word = c_.CheckWord(entry.value, ScopeOf(placed, 0, Phase::C, "`jitter`"), {"none", "full"}, "a jitter");
        backoff.full_jitter = word && *word == 1;
      } else {
        c_.diags.Emit(entry.span, diag::UnknownArgument, call.name.text, name.empty() ? std::string_view("a second argument without a name") : name)
            .Label("unknown argument")
            .Note("constant(d), linear(d, max = d), exponential(d, factor = 2.0, max = d, jitter = full)");
      }
    }
    if (!backoff.base.valid()) {
      c_.diags.Emit(call.span, diag::MissingAttribute, fmt::format("`{}`", call.name.text), "a first delay").Label("expected a duration such as 10s").AddHelp(call.name.text == "exponential" ? "for example:  exponential(10s, factor = 2.0, max = 10m)" : fmt::format("for example:  {}(10s)", call.name.text));
      return std::nullopt;
    }
    return backoff;
  }

  std::optional<int64_t> ConstantInt(const Merged& from, std::string_view name, int64_t low) {
    const Placed* placed = from.Attr(name);
    if (placed == nullptr || !placed->item->value.valid()) return std::nullopt;
    places_.push_back(fmt::format("`{}`", name));
    Scope scope = ScopeOf(*placed, 0, Phase::C, places_.back());
    Typed typed = c_.CheckExpr(placed->item->value, scope, IntRange(low, std::nullopt, fmt::format("{}..", low)));
    std::optional<ir::Value> value = c_.Constant(typed, (*placed->unit()->file)[placed->item->value].span);
    if (!value || value->kind() != ir::ValueKind::Int) return std::nullopt;
    return value->as_int();
  }

  void CollectNamedErrors() {
    if (!named_errors_.empty() || out_.errors.empty()) return;
    for (const ir::ErrorArm& arm : out_.errors) {
      if (!arm.name.empty()) named_errors_.push_back(arm.name);
    }
  }

  void Retry() {
    out_.retry = {};
    const MergedBlock* block = merged_.Block("retry");
    if (block == nullptr) return;
    CollectNamedErrors();
    Merged r = Merge(c_, block->layers, kRetry);
    UnknownIn(r, kRetry);
    // A misspelt one has its error, whose help is the same.
    const bool misspelt = std::any_of(r.attrs.begin(), r.attrs.end(),
                                      [](const MergedItem& item) { return item.name != "max_attempts" && !DidYouMean(item.name, {"max_attempts"}).empty(); });
    if (r.Attr("max_attempts") == nullptr && !misspelt) {
      Span span = block->layers.back().span;
      c_.diags.Emit(span, diag::RetryHasNoLimit)
          .Label("how often at most?")
          .AddHelp("write `max_attempts = 3`; it counts the first try");
    }
    out_.retry.max_attempts = ConstantInt(r, "max_attempts", 1).value_or(1);
    if (const Placed* backoff = r.Attr("backoff")) {
      if (std::optional<ir::Backoff> value = BackoffOf(*backoff)) out_.retry.backoff = *value;
    }
    if (const Placed* on = r.Attr("on")) {
      out_.retry.has_on = true;
      out_.retry.on = MatchersOf(*on);
    }
    if (const Placed* never = r.Attr("never")) out_.retry.never = MatchersOf(*never);
    for (const MergedBlock& rule_block : r.blocks) {
      if (rule_block.name != "on") continue;
      ir::RetryRule rule;
      for (const ast::Label& label : rule_block.first->labels) {
        std::optional<ir::Matcher> matcher;
        if (label.is_string) matcher = MatcherOf(label.text, true, label.span);
        else if (!label.path.empty()) matcher = MatcherOf(label.path.front().text, false, label.span);
        if (matcher) rule.matchers.push_back(std::move(*matcher));
      }
      if (rule_block.first->labels.empty()) {
        c_.diags.Emit(rule_block.first->keyword, diag::MissingAttribute, "a rule `on … { }`", "an error kind").Label("for which errors?").AddHelp("for example:  on oom { retries = 2 }");
      }
      Merged inner = Merge(c_, rule_block.layers, kRetryOn);
      UnknownIn(inner, kRetryOn);
      rule.retries = ConstantInt(inner, "retries", 0);
      rule.delay = Inner(inner, "delay", c_.types.Basic(ir::TypeKind::Duration), kLoop, Phase::P, "`delay`");
      if (const Placed* backoff = inner.Attr("backoff")) rule.backoff = BackoffOf(*backoff);
      ResourcesOf(inner, rule.resources, kLoop | kInput | kPrev, Phase::A);
      TimeoutOf(inner, rule.timeout, kLoop | kPrev, Phase::A);
      out_.retry.rules.push_back(std::move(rule));
    }
  }

  void Submit() {
    out_.submit = {};
    const MergedBlock* block = merged_.Block("submit");
    if (block == nullptr) return;
    Merged s = Merge(c_, block->layers, kSubmit);
    UnknownIn(s, kSubmit);
    out_.submit.max_attempts = ConstantInt(s, "max_attempts", 1).value_or(5);
    if (const Placed* backoff = s.Attr("backoff")) {
      if (std::optional<ir::Backoff> value = BackoffOf(*backoff)) out_.submit.backoff = *value;
    }
  }

  void OnError() {
    const Placed* placed = merged_.Attr("on_error");
    out_.on_error_set = placed != nullptr;
    out_.on_error = ir::Strategy::Drain;
    if (placed == nullptr) return;
    std::optional<size_t> word = c_.CheckWord(placed->item->value, ScopeOf(*placed, 0, Phase::C, "`on_error`"), StrategyWords(), "a strategy");
    if (!word) return;
    out_.on_error = static_cast<ir::Strategy>(*word);
    Span span = (*placed->unit()->file)[placed->item->value].span;
    if (out_.on_error == ir::Strategy::Ignore && job_.kind == ir::JobKind::Check) {
      c_.diags.Emit(span, diag::CheckCannotIgnore).Label("use drain, halt or continue").AddHelp("write `continue`", {{span, "continue"}});
    }
    if (out_.on_error == ir::Strategy::Ignore && (placed->layer->kind == LayerKind::ProfileRoot || placed->layer->kind == LayerKind::ProfileJob)) {
      c_.diags.Emit(span, diag::IgnoreInProfile).Label("use drain, halt or continue").AddHelp("set it in the job itself");
    }
    // A job that tolerates its failure keeps doing so under every profile.
    if (job_.kind == ir::JobKind::Job && base_ignores_ && out_.on_error != ir::Strategy::Ignore) {
      if (placed->layer->kind == LayerKind::ProfileJob) {
        c_.diags.Emit(span, diag::NotForProfiles, "on_error = ignore").Label("this job is tolerated: its consumers handle null");
      }
      out_.on_error = ir::Strategy::Ignore;
    }
  }

 public:
  void set_base_ignores(bool value) { base_ignores_ = value; }

 private:
  // ---- what runs ----

  void Action() {
    Command();
    CheckInputNames(
        c_.model.plan, out_, [&](size_t i) { return StagedName(c_.model.plan, out_.inputs[i].value); }, [&](size_t i) { return InputSpan(i); }, c_.diags);
  }

  Span InputSpan(size_t input) const {
    for (const InputInfo& info : job_.inputs) {
      if (info.name == out_.inputs[input].name) return info.span;
    }
    const ir::Place place = c_.exprs.place(out_.inputs[input].value);
    return place.source != UINT32_MAX ? Span{SourceId{place.source}, place.begin, place.end} : job_.name.span;
  }

  void Command() {
    out_.action = ir::ActionKind::None;
    const uint32_t words = kLoop | kInput | kOutputPaths | kResources;
    if (const Placed* run = merged_.Attr("run")) {
      out_.action = ir::ActionKind::Run;
      out_.run = Argv(*run, words, "`run`");
    } else if (const Placed* script = merged_.Attr("script")) {
      out_.action = ir::ActionKind::Script;
      out_.script = ScriptOf(*script, words, "`script`", script::Part::Script);
    } else if (const Placed* args = merged_.Attr("image_args")) {
      out_.action = ir::ActionKind::ImageArgs;
      out_.run = Argv(*args, words, "`image_args`");
      if (!out_.image.valid() && !merged_.incomplete && !ImageInSomeProfile()) {
        c_.diags.Emit(args->item->keyword, diag::MissingAttribute, "`image_args`", "`image`")
            .Label("these are arguments of an image's ENTRYPOINT")
            .AddHelp("add `image = \"…\"`, or write the whole command as `run = […]`");
      }
    } else if (!merged_.incomplete && !HasForeignCommand()) {
      std::string what = job_.kind == ir::JobKind::Finally ? fmt::format("`finally {}`", job_.name.text) : job_.kind == ir::JobKind::Hook ? fmt::format("the hook on `{}`", job_.name.text) : fmt::format("the job `{}`", job_.name.text);
      c_.diags.Emit(job_.name.span, diag::NothingToRun, what)
          .Label("has neither `run` nor `script`")
          .AddHelp("add a command:  run = [\"program\", \"argument\"]")
          .AddHelp("or a script:  script = <<~SH … SH");
    }
  }

  /// An attribute of another system that says what to run: it has its error, whose help is the same.
  bool HasForeignCommand() const {
    return std::any_of(merged_.attrs.begin(), merged_.attrs.end(), [](const MergedItem& item) { return MeansCommand(item.name); });
  }

  ir::ExprId Argv(const Placed& placed, uint32_t words, std::string_view place) {
    Scope scope = ScopeOf(placed, words, Phase::S, place);
    return HoistFiles(c_, out_, c_.CheckArgv(placed.item->value, scope).expr);
  }

  std::optional<ir::Script> ProEpilogue(std::string_view name, script::Part part) {
    const Placed* placed = merged_.Attr(name);
    if (placed == nullptr) return std::nullopt;
    places_.push_back(fmt::format("`{}`", name));
    std::optional<ir::Script> script = ScriptOf(*placed, kLoop | kInput | kOutputPaths | kResources, places_.back(), part);
    if (script && !script::IsShell(static_cast<script::Interpreter>(script->interpreter))) {
      c_.diags.Emit((*placed->unit()->file)[placed->item->value].span, diag::NotA, "a shell script (`<<~SH` or `<<~BASH`)", "another language").Label("it runs in the job's shell");
    }
    return script;
  }

  std::optional<ir::Script> ScriptOf(const Placed& placed, uint32_t words, std::string_view place, script::Part part_kind) {
    const ast::File& file = *placed.unit()->file;
    ast::ExprId id = placed.item->value;
    if (!id.valid()) return std::nullopt;
    const ast::Expr& heredoc = file[id];
    if (heredoc.kind == ast::ExprKind::Error) return std::nullopt;
    if (heredoc.kind != ast::ExprKind::Heredoc || heredoc.tag == ast::HeredocTag::Txt) {
      c_.diags.Emit(heredoc.span, diag::NotA, "a script `<<~SH`, `<<~BASH`, `<<~PY` or `<<~R`", heredoc.kind == ast::ExprKind::Heredoc ? "plain text" : "another expression")
          .Label("the tag says which interpreter runs it")
          .AddHelp("write  script = <<~BASH  … on lines of its own …  BASH");
      return std::nullopt;
    }
    script::Template source;
    source.interpreter = heredoc.tag == ast::HeredocTag::Sh ? script::Interpreter::Sh : heredoc.tag == ast::HeredocTag::Bash ? script::Interpreter::Bash
                         : heredoc.tag == ast::HeredocTag::Py ? script::Interpreter::Python : script::Interpreter::R;
    Scope scope = ScopeOf(placed, words, Phase::S, place);
    ir::Script out;
    out.interpreter = static_cast<uint8_t>(source.interpreter);
    std::vector<Span> spans;
    struct TextPart {
      uint32_t begin;
      const ast::Part* part;
    };
    std::vector<TextPart> texts;
    for (uint32_t i = 0; i < heredoc.parts.size; ++i) {
      const ast::Part& part = file.parts[heredoc.parts.begin + i];
      if (!part.expr.valid()) {
        texts.push_back({static_cast<uint32_t>(source.text.size()), &part});
        source.text += part.text;
        continue;
      }
      // Python and R take any value as data; a shell only what has a text form.
      Typed value = part.splice || script::IsShell(source.interpreter) ? c_.CheckHole(part, scope) : c_.CheckExpr(part.expr, scope);
      script::Hole hole;
      hole.offset = static_cast<uint32_t>(source.text.size());
      hole.spliced = part.splice;
      hole.source = std::string(c_.sources.Text(file[part.expr].span));
      ir::TypeId plain = c_.types.NonNull(value.type);
      hole.optional = c_.types.IsOptional(value.type);
      switch (c_.types.kind(plain)) {
        case ir::TypeKind::Bool: case ir::TypeKind::Int: case ir::TypeKind::Float: hole.kind = script::HoleKind::Number; break;
        case ir::TypeKind::File: case ir::TypeKind::Dir: hole.kind = script::HoleKind::File; break;
        case ir::TypeKind::Json: hole.kind = script::HoleKind::Json; break;
        case ir::TypeKind::List: case ir::TypeKind::Args: hole.kind = script::HoleKind::List; break;
        case ir::TypeKind::Map: hole.kind = script::HoleKind::Map; break;
        case ir::TypeKind::Struct: case ir::TypeKind::Pair: hole.kind = script::HoleKind::Struct; break;
        case ir::TypeKind::Null: hole.kind = script::HoleKind::Null; break;
        case ir::TypeKind::Secret:
          c_.diags.Emit(part.span, diag::SecretInScript)
              .Label("the script is stored and shown")
              .AddHelp("pass it in the environment:  env { TOKEN = … }, then use \"$TOKEN\"");
          break;
        default: hole.kind = script::HoleKind::Text; break;
      }
      ir::ScriptBinding binding;
      binding.value = HoistFiles(c_, out_, value.expr);
      binding.type = value.type;
      binding.splice = part.splice;
      binding.hole = static_cast<uint32_t>(source.holes.size());
      out.bindings.push_back(binding);
      spans.push_back(part.span);
      source.holes.push_back(std::move(hole));
    }
    script::Lowered lowered = script::Lower(source, part_kind);
    for (const script::Finding& finding : lowered.findings) {
      Span span = heredoc.span;
      // A value that is wrong in itself has been told.
      if (finding.hole < out.bindings.size() && c_.exprs[out.bindings[finding.hole].value].op == ir::Op::Error) continue;
      if (finding.hole < spans.size()) {
        span = spans[finding.hole];
      } else {
        for (const TextPart& text : texts) {
          if (text.begin > finding.offset) break;
          uint32_t local = finding.offset - text.begin;
          uint32_t source_offset = text.part->span.begin;
          for (const auto& [from, to] : text.part->positions) {
            if (from > local) break;
            source_offset = to + (local - from);
          }
          span = {heredoc.span.source, source_offset, source_offset + 1};
        }
      }
      Diagnostic* d = nullptr;
      switch (finding.code) {
        case script::Code::E401: d = &c_.diags.Emit(span, diag::CommandWord, finding.message); break;
        case script::Code::E403: d = &c_.diags.Emit(span, diag::ScriptContext, finding.message); break;
        case script::Code::E404: d = &c_.diags.Emit(span, diag::ScriptList, finding.message); break;
        case script::Code::W491: d = &c_.diags.Emit(span, diag::OtherLanguage, finding.message); break;
      }
      d->Label(finding.label);
      if (!finding.help.empty()) d->AddHelp(finding.help);
    }
    if (script::IsShell(source.interpreter) && lowered.findings.empty() && c_.declarations->shell_scripts.emplace(heredoc.span.source.index, heredoc.span.begin).second) {
      ShellScript shell;
      shell.text = lowered.text;
      shell.bash = source.interpreter == script::Interpreter::Bash;
      shell.main = part_kind == script::Part::Script;
      shell.source = heredoc.span.source;
      for (size_t i = 0; i < lowered.positions.size(); ++i) {
        const script::Anchor& anchor = lowered.positions[i];
        const auto end = i + 1 < lowered.positions.size() ? lowered.positions[i + 1].lowered : static_cast<uint32_t>(lowered.text.size());
        if (!anchor.copied) {
          shell.positions.push_back({anchor.lowered, heredoc.span.begin, false});
          continue;
        }
        // The template's text is itself made of pieces of the source: dedented, without escapes.
        const uint32_t length = end - anchor.lowered;
        for (const TextPart& text : texts) {
          for (size_t k = 0; k < text.part->positions.size(); ++k) {
            const uint32_t from = text.begin + text.part->positions[k].first;
            const uint32_t to = k + 1 < text.part->positions.size() ? text.begin + text.part->positions[k + 1].first : text.begin + static_cast<uint32_t>(text.part->text.size());
            const uint32_t low = std::max(from, anchor.original), high = std::min(to, anchor.original + length);
            if (low < high) shell.positions.push_back({anchor.lowered + (low - anchor.original), text.part->positions[k].second + (low - from), true});
          }
        }
      }
      c_.model.shell_scripts.push_back(std::move(shell));
    }
    out.text = lowered.text;
    out.sha256 = Sha256Hex(out.text);
    out.lowered = script::EncodeBindings(lowered);
    return out;
  }

  /// A profile may give the image that the job itself leaves out.
  bool ImageInSomeProfile() {
    for (const ProfileInfo& info : c_.declarations->profiles) {
      const ast::File& file = *info.unit->file;
      for (const ast::ItemId* id = file.begin(file[info.item].children); id != file.end(file[info.item].children); ++id) {
        const ast::Item& item = file[*id];
        if (item.kind == ast::ItemKind::Attr && item.name.text == "image") return true;
        if (item.kind != ast::ItemKind::Block || item.name.text != "job") continue;
        for (const ast::ItemId* inner = file.begin(item.children); inner != file.end(item.children); ++inner) {
          if (file[*inner].kind == ast::ItemKind::Attr && file[*inner].name.text == "image") return true;
        }
      }
    }
    return false;
  }

  /// A result may be used by other runs only if its key says which programs made it.
  void CacheKey() {
    const Placed* cache = merged_.Attr("cache");
    if (cache == nullptr || !out_.cache.valid() || !c_.exprs.IsConst(out_.cache)) return;
    const ir::Value& value = c_.exprs.ConstValue(out_.cache);
    if (value.kind() != ir::ValueKind::Bool || !value.as_bool()) return;
    if (!out_.inherit_env.empty()) {
      const Placed* inherits = merged_.Attr("inherit_env");
      auto& d = c_.diags.Emit(cache->item->span, diag::CacheWithInheritedEnv).Label("such a result may not be used by another run");
      if (inherits != nullptr) d.Secondary(inherits->item->span, "values of these variables are not in the cache key");
      d.AddHelp("set what the job needs in `env { … }`");
    }
    if (out_.cache_salt.valid()) return;
    if (out_.image.valid()) {
      if (!c_.exprs.IsConst(out_.image) || c_.exprs.ConstValue(out_.image).kind() != ir::ValueKind::String) return;  // looked at by the plan
      const std::string& image = c_.exprs.ConstValue(out_.image).as_string();
      if (NamesImageContent(image) || c_.declarations->Locks(c_, image)) return;
    }
    auto& d = c_.diags.Emit(cache->item->span, diag::MissingAttribute, "`cache = true`", out_.image.valid() ? "an image with its digest, or `cache_salt`" : "`cache_salt`");
    d.Label(out_.image.valid() ? "a tag may name another image tomorrow" : "no image says which versions of programs made the result");
    if (const Placed* image = merged_.Attr("image"); image != nullptr && out_.image.valid()) {
      d.Secondary(image->item->span, "this image has no digest");
      d.AddHelp("pin what its tag means now:  jobc lock");
    }
    d.AddHelp("add, and change when the programs change:  cache_salt = \"1\"");
  }

  void Cache() {
    // `cache` of `defaults` is about jobs.
    if (job_.kind != ir::JobKind::Job) return;
    out_.cache = Attr("cache", c_.types.Basic(ir::TypeKind::Bool), kLoop, "`cache`");
    out_.cache_salt = Attr("cache_salt", String(), kLoop, "`cache_salt`");
    CacheKey();
  }

  void Labels() {
    out_.labels.clear();
    const MergedBlock* block = merged_.Block("labels");
    if (block == nullptr) return;
    Merged labels = Merge(c_, block->layers, 0);
    OnlyAttrs(labels, "`labels`", "expected name = \"text\"");
    for (const MergedItem& entry : labels.attrs) {
      const Placed& placed = entry.last();
      std::string name(entry.name);
      if (name.size() >= 2 && name.front() == '"') name = name.substr(1, name.size() - 2);
      Scope scope = ScopeOf(placed, kLoop, Phase::P, "a label");
      out_.labels.push_back({std::move(name), CheckAt(placed, placed.item->value, scope, String()).expr});
    }
    std::sort(out_.labels.begin(), out_.labels.end(), [](const ir::NamedExpr& x, const ir::NamedExpr& y) { return x.name < y.name; });
  }

  /// Of the element of a list that is written out, else of the whole expression.
  static Span ElementSpan(const ast::File& file, ast::ExprId list, uint32_t index) {
    const ast::Expr& e = file[list];
    if (e.kind != ast::ExprKind::List || index >= e.entries.size || !file.entries[e.entries.begin + index].value.valid()) return e.span;
    for (uint32_t i = 0; i < e.entries.size; ++i) {
      if (file.entries[e.entries.begin + i].splice) return e.span;
    }
    return file[file.entries[e.entries.begin + index].value].span;
  }

  /// Of `"a name" = …` or `name = …`.
  static Span KeySpan(const Placed& placed) {
    const ast::Item& item = *placed.item;
    return item.name_expr.valid() ? (*placed.unit()->file)[item.name_expr].span : item.keyword;
  }

  void InheritEnv() {
    out_.inherit_env.clear();
    const Placed* placed = merged_.Attr("inherit_env");
    if (placed == nullptr) return;
    Scope scope = ScopeOf(*placed, 0, Phase::C, "`inherit_env`");
    Typed list = c_.CheckExpr(placed->item->value, scope, c_.types.List(String()));
    std::optional<ir::Value> value = c_.Constant(list, (*placed->unit()->file)[placed->item->value].span);
    if (!value || value->kind() != ir::ValueKind::List) return;
    for (const ir::Value& name : value->as_list()) {
      const std::string& text = name.as_string();
      const Span span = ElementSpan(*placed->unit()->file, placed->item->value, static_cast<uint32_t>(&name - value->as_list().data()));
      if (!IsVariableName(text)) {
        c_.diags.Emit(span, diag::NotA, "a name of an environment variable", fmt::format("`{}`", text)).Label("letters, digits and `_`, no digit first");
        continue;
      }
      if (IsContractVariable(text)) {
        c_.diags.Emit(span, diag::ReservedVariable, text).Label("set by jobc for every attempt");
        continue;
      }
      std::string upper = text;
      for (char& ch : upper) ch = static_cast<char>(std::toupper(static_cast<unsigned char>(ch)));
      const bool secret = upper.find("TOKEN") != std::string::npos || upper.find("SECRET") != std::string::npos || upper.find("PASSW") != std::string::npos ||
                          (upper.size() >= 4 && upper.compare(upper.size() - 4, 4, "_KEY") == 0);
      if (secret) {
        c_.diags.Emit(span, diag::SecretInherited, text)
            .Label("would not be masked in logs")
            .AddHelp(fmt::format("declare it:  secret {} = env(\"{}\")  and pass it by  env {{ {} = {} }}", ToLower(text), text, text, ToLower(text)));
      }
      out_.inherit_env.push_back(text);
    }
  }

  void Outputs() {
    const MergedBlock* block = merged_.Block("output");
    if (block == nullptr) return;
    Merged fields = Merge(c_, block->layers, 0);
    for (size_t i = 0; i < job_.outputs.size(); ++i) {
      OutputInfo& info = job_.outputs[i];
      const Placed* placed = nullptr;
      for (const MergedItem& field : fields.fields) {
        if (field.name == info.name) placed = &field.last();
      }
      if (placed == nullptr) continue;
      const ast::File& file = *placed->unit()->file;
      ir::Output output;
      output.name = std::string(info.name);
      output.type = info.type;
      output.kind = info.kind;
      output.doc = placed->item->doc;
      output.at = At(placed->item->span);
      ast::ExprId value = placed->item->value;
      if (info.kind == ir::OutputKind::Path) {
        Scope scope = ScopeOf(*placed, kLoop | kInput, Phase::P, "the path of an output");
        // File and Dir outputs take a path, so the literal is a text here, not a file of the source.
        output.value = CheckAt(*placed, value, scope, String()).expr;
        CheckOutputPath(file[value].span, output.value);
      } else if (info.kind == ir::OutputKind::Glob) {
        Glob(*placed, file, value, output);
      } else if (info.kind == ir::OutputKind::Expr) {
        Scope scope = ScopeOf(*placed, kLoop | kInput | kCapture | kEarlierOutputs, Phase::E, "an output");
        scope.output_index = static_cast<uint32_t>(i);
        output.value = c_.CheckExpr(value, scope, info.type).expr;
      }
      out_.outputs.push_back(std::move(output));
    }
  }

  std::string PathText(ir::ExprId path, Span span) {
    if (c_.exprs.IsConst(path)) return c_.exprs.ConstValue(path).as_string();
    std::string_view text = c_.sources.Text(span);
    if (text.size() >= 2 && text.front() == '"') text = text.substr(1, text.size() - 2);
    return std::string(text);
  }

  void CheckOutputPath(Span span, ir::ExprId path) {
    if (!path.valid() || c_.exprs[path].op == ir::Op::Error) return;
    for (const auto& [other, other_span] : paths_) {
      if (SameExpr(c_.program, other, path)) {
        c_.diags.Emit(span, diag::OneOutputPath, job_.name.text, PathText(path, span)).Label("second output with this path").Secondary(other_span, "the first one").AddHelp("give each output a path of its own");
        break;
      }
      // `a` and `a/b`, as far as constants tell; the others are compared when the run is planned.
      if (!c_.exprs.IsConst(path) || !c_.exprs.IsConst(other)) continue;
      if (WhyNotRelative(c_.exprs.ConstValue(path).as_string()) || WhyNotRelative(c_.exprs.ConstValue(other).as_string())) continue;
      const std::string mine = ir::NormalPath(c_.exprs.ConstValue(path).as_string()), others = ir::NormalPath(c_.exprs.ConstValue(other).as_string());
      if (mine == others) {
        c_.diags.Emit(span, diag::OneOutputPath, job_.name.text, PathText(path, span)).Label("second output with this path").Secondary(other_span, "the first one").AddHelp("give each output a path of its own");
      } else if (ir::IsInside(mine, others) || ir::IsInside(others, mine)) {
        const bool inside = ir::IsInside(mine, others);
        c_.diags.Emit(inside ? span : other_span, diag::PathInside, inside ? mine : others, inside ? others : mine)
            .Label("one path cannot be captured twice")
            .Secondary(inside ? other_span : span, "this output is around it")
            .AddHelp("give each output a path of its own, or take the file out of the Dir where it is used");
      } else {
        continue;
      }
      break;
    }
    paths_.emplace_back(path, span);
    if (!c_.exprs.IsConst(path) || c_.exprs.ConstValue(path).kind() != ir::ValueKind::String) return;
    const std::string& text = c_.exprs.ConstValue(path).as_string();
    if (std::optional<std::string> why = WhyNotRelative(text)) {
      c_.diags.Emit(span, diag::PathEscapes, text, *why)
          .Label("outputs lie below the job's own directory")
          .AddHelp("write a relative path such as \"report.html\"");
      return;
    }
  }

  void Glob(const Placed& placed, const ast::File& file, ast::ExprId id, ir::Output& output) {
    const ast::Expr& call = file[id];
    if (call.kind != ast::ExprKind::Call || call.name.text != "glob") {
      output.value = c_.ErrorExpr();
      return;
    }
    for (uint32_t i = 0; i < call.entries.size; ++i) {
      const ast::Entry& entry = file.entries[call.entries.begin + i];
      if (!entry.value.valid()) continue;
      if (!entry.name.valid() && i == 0) {
        Scope scope = ScopeOf(placed, kLoop | kInput, Phase::P, "the pattern of a glob");
        output.value = CheckAt(placed, entry.value, scope, String()).expr;
        if (c_.exprs.IsConst(output.value) && c_.exprs.ConstValue(output.value).kind() == ir::ValueKind::String) {
          if (std::optional<std::string> why = WhyNotRelative(c_.exprs.ConstValue(output.value).as_string())) {
            c_.diags.Emit(file[entry.value].span, diag::PathEscapes, c_.exprs.ConstValue(output.value).as_string(), *why).Label("outputs lie below the job's own directory").AddHelp("write a relative pattern such as glob(\"parts/*.csv\")");
          }
        }
        continue;
      }
      if (entry.name.text != "min" && entry.name.text != "max") {
        c_.diags.Emit(entry.span, diag::UnknownArgument, "glob", entry.name.valid() ? entry.name.text : std::string_view("a second argument without a name"))
            .Label("unknown argument")
            .Note("glob(\"pattern\", min = 1, max = 64)");
        continue;
      }
      Scope scope = ScopeOf(placed, 0, Phase::C, entry.name.text == "min" ? "`min`" : "`max`");
      Typed typed = c_.CheckExpr(entry.value, scope, IntRange(0, std::nullopt, "0.."));
      std::optional<ir::Value> value = c_.Constant(typed, file[entry.value].span);
      if (!value || value->kind() != ir::ValueKind::Int) continue;
      (entry.name.text == "min" ? output.glob_min : output.glob_max) = value->as_int();
    }
    if (!output.value.valid()) {
      c_.diags.Emit(call.span, diag::MissingAttribute, "`glob`", "a pattern").Label("expected glob(\"pattern\")");
      output.value = c_.ErrorExpr();
    }
  }

  void BackendOf() {
    out_.backend = {};
    const MergedItem* layers = merged_.AttrLayers("backend");
    if (layers == nullptr) return;
    Scope scope = ScopeOf(layers->last(), kLoop, Phase::P, "a backend option");
    if (std::optional<ir::Backend> backend = CheckBackend(c_, *layers, scope)) out_.backend = std::move(*backend);
  }

  ir::Position At(Span span) {
    LineColumn at = c_.sources.Locate(span.source, span.begin);
    for (uint32_t i = 0; i < c_.model.sources.size(); ++i) {
      if (c_.model.sources[i] == span.source) return {i, at.line, at.column};
    }
    return {UINT32_MAX, at.line, at.column};
  }

 public:
  static std::optional<std::string> WhyNotRelative(const std::string& text) {
    if (text.empty()) return "is empty";
    if (text == "." || text == "./") return "is the directory itself";
    if (text[0] == '/') return "is absolute";
    if (text.find('\0') != std::string::npos) return "holds a NUL byte";
    size_t begin = 0;
    while (begin <= text.size()) {
      size_t end = text.find('/', begin);
      if (end == std::string::npos) end = text.size();
      std::string_view part(text.data() + begin, end - begin);
      if (part == "..") return "leaves the directory with `..`";
      begin = end + 1;
    }
    return std::nullopt;
  }

 private:
  Checker& c_;
  uint32_t index_;
  JobInfo& job_;
  const Merged& merged_;
  const Facts& facts_;
  std::list<TemplateUse>& uses_;
  ir::Job& out_;
  Merged inputs_;
  std::vector<std::string> named_errors_;
  std::list<std::string> places_;  // Scope::place views point here
  std::vector<std::pair<ir::ExprId, Span>> paths_;
  bool base_ignores_ = false;
};

}  // namespace

namespace {

/// Whether an expression uses a name of the job around it, so that it can only be checked once those are known.
bool UsesJob(const ast::File& file, ast::ExprId expr, const JobInfo& job) {
  const Span whole = file[expr].span;
  for (const ast::Expr& e : file.exprs) {
    if (e.kind != ast::ExprKind::Name || e.span.begin < whole.begin || e.span.end > whole.end) continue;
    const std::string_view name = e.name.text;
    if (name == "input" || name == "output" || name == "resources" || name == "matrix" || name == "template") return true;
    if (job.has_for && (name == job.for_name.text || (job.for_name2.valid() && name == job.for_name2.text))) return true;
  }
  return false;
}

}  // namespace

bool TemplateDeclares(Checker& c, const JobInfo& job, const TemplateUse& use, std::string_view block, std::string_view name) {
  // A template also sees what those that it uses itself declare: they come before it.
  for (const TemplateUse& each : c.declarations->job_decls[job.index].uses) {
    const TemplateInfo& info = c.declarations->templates[each.template_index];
    const ast::File& file = *info.unit->file;
    const ast::Item& item = file[info.item];
    for (const ast::ItemId* id = file.begin(item.children); id != file.end(item.children); ++id) {
      const ast::Item& child = file[*id];
      if (child.kind == ast::ItemKind::For && block == "for" && (child.name.text == name || (child.name2.valid() && child.name2.text == name))) return true;
      if (child.kind != ast::ItemKind::Block || child.name.text != block) continue;
      for (const ast::ItemId* field = file.begin(child.children); field != file.end(child.children); ++field) {
        if ((file[*field].kind == ast::ItemKind::Field || file[*field].kind == ast::ItemKind::Attr) && file[*field].name.text == name) return true;
      }
    }
    if (&each == &use) break;
  }
  return false;
}

std::string_view TemplateName(Checker& c, const TemplateUse& use) {
  const TemplateInfo& info = c.declarations->templates[use.template_index];
  const ast::Item& item = (*info.unit->file)[info.item];
  return item.labels.empty() || item.labels.front().path.empty() ? std::string_view() : item.labels.front().path.front().text;
}

void ResolveTemplateArguments(Checker& c, JobInfo& job, JobDecl& decl, bool early) {
  // The template that uses another one comes later and may be used in its arguments.
  for (auto use = decl.uses.rbegin(); use != decl.uses.rend(); ++use) {
    const TemplateInfo& info = c.declarations->templates[use->template_index];
    const ast::File& file = *info.unit->file;
    const ast::Item& item = file[info.item];
    for (const ast::ItemId* id = file.begin(item.children); id != file.end(item.children); ++id) {
      if (file[*id].kind != ast::ItemKind::Block || file[*id].name.text != "params") continue;
      const ast::Item& params = file[*id];
      for (const ast::ItemId* field = file.begin(params.children); field != file.end(params.children); ++field) {
        const ast::Item& param = file[*field];
        if (param.kind == ast::ItemKind::Error) continue;
        if (param.kind != ast::ItemKind::Field) {
          if (early) {
            c.diags.Emit(param.keyword, diag::MisplacedItem, "this item", "`params` of a template")
                .Label("a parameter is declared with its type")
                .AddHelp("write `name: Type` or `name: Type = default`");
          }
          continue;
        }
        if (early && FindAttribute(param.name.text, kJob) != nullptr) {
          c.diags.Emit(param.name.span, diag::ReservedName, param.name.text)
              .Label("jobs have an attribute of this name, so they could not set the parameter")
              .AddHelp("use another name for the parameter");
          continue;
        }
        const std::string_view name = param.name.text;
        if (std::any_of(use->arguments.begin(), use->arguments.end(), [&](const TemplateArgument& a) { return a.name == name; })) continue;
        const Placed* given = decl.merged.Attr(name);
        const ast::ExprId value = given != nullptr ? given->item->value : param.value;
        if (early && value.valid() && UsesJob(given != nullptr ? *given->unit()->file : file, value, job)) continue;
        TemplateArgument argument;
        argument.name = name;
        Scope scope;
        scope.unit = given != nullptr ? given->unit() : info.unit;
        scope.job = &job;
        scope.words = early ? 0 : kLoop | kInput | kOutputPaths | kResources;
        scope.latest = Phase::S;
        scope.place = given != nullptr ? "an argument of a template" : "the default of a template's parameter";
        scope.allow_per_run = job.kind != ir::JobKind::Job;
        if (job.kind == ir::JobKind::Finally || job.kind == ir::JobKind::Hook) {
          scope.words |= kRun | kJobsAreNull;
          scope.latest = Phase::R;
        }
        if (!early) scope.facts = decl.when_facts;
        if (given != nullptr && given->layer->use != nullptr) scope.template_arguments = &given->layer->use->arguments;
        scope.template_use = given != nullptr ? given->layer->use : &*use;
        const ir::TypeId type = param.type.valid() ? c.ResolveType(param.type, *info.unit, true) : c.types.Basic(ir::TypeKind::Error);
        if (!value.valid() && job.template_alone) {
          argument.value = {c.exprs.Add(ir::Op::Input, type), type, Phase::C, {}};   // of this type, and never evaluated
        } else if (!value.valid()) {
          c.diags.Emit(job.name.span, diag::MissingArgument, name)
              .Label("uses the template without it")
              .Secondary(param.name.span, "declared here")
              .AddHelp(fmt::format("add to the job:  {} = …", name));
          argument.value = {c.ErrorExpr(), c.types.Basic(ir::TypeKind::Error), Phase::C, {}};
        } else if (c.types.kind(type) == ir::TypeKind::Args) {
          argument.value = c.CheckArgv(value, scope);
        } else {
          argument.value = c.CheckExpr(value, scope, type);
        }
        use->arguments.push_back(argument);
      }
    }
  }
}

PoolInfo* FindPool(Checker& c, Unit& unit, std::string_view name, Span span) {
  auto found = unit.pools.find(llvm::StringRef(name.data(), name.size()));
  if (found != unit.pools.end()) {
    found->second.used = true;
    PoolInfo& pool = c.declarations->pools[found->second.index];
    if (pool.plan_index == UINT32_MAX) DeclarePool(c, pool, name);
    return &pool;
  }
  std::vector<std::string_view> names;
  for (const auto& entry : unit.pools) names.push_back({entry.first().data(), entry.first().size()});
  auto& d = c.diags.Emit(span, diag::UnknownPool, name).Label("not declared");
  std::string_view like = DidYouMean(name, names);
  if (!like.empty()) {
    d.AddHelp(fmt::format("did you mean `{}`?", like), {{span, std::string(like)}});
  } else {
    d.AddHelp(fmt::format("declare it:  pool {} {{ slots = 1 }}", name));
  }
  return nullptr;
}

/// Templates of the root that no job uses, as the ones of a library: each as a job for as long as it is looked at. What only a
/// job that uses it can complete is not missed.
void CheckTemplatesAlone(Checker& c) {
  Declarations& d = *c.declarations;
  std::set<uint32_t> used;
  for (const JobDecl& decl : d.job_decls) {
    for (const TemplateUse& use : decl.uses) used.insert(use.template_index);
  }
  // One that others use is looked at as a part of those: in a long chain once, not once for each link.
  std::set<std::string_view> bases;
  for (const TemplateInfo& info : d.templates) {
    const ast::Item& item = (*info.unit->file)[info.item];
    for (size_t l = 1; info.unit == c.units.front().get() && l < item.labels.size(); ++l) {
      if (item.labels[l].path.size() == 1) bases.insert(item.labels[l].path.front().text);
    }
  }
  const Diagnostics before = std::move(c.diags);
  c.diags = {};
  for (uint32_t t = 0; t < d.templates.size(); ++t) {
    Unit* const unit = d.templates[t].unit;
    const ast::Item& item = (*unit->file)[d.templates[t].item];
    if (unit != c.units.front().get() || used.count(t) != 0 || item.labels.empty() || item.labels.front().path.empty()) continue;
    if (bases.count(item.labels.front().path.front().text) != 0) continue;
    const size_t files = c.model.files.size();
    const auto index = static_cast<uint32_t>(c.jobs.size());
    JobInfo info;
    info.index = index;
    info.name = item.labels.front().path.front();
    info.unit = unit;
    info.item = d.templates[t].item;
    info.kind = ir::JobKind::Job;
    info.address = std::string(info.name.text);
    info.template_alone = true;
    c.jobs.push_back(std::move(info));
    d.job_decls.emplace_back();
    c.model.plan.jobs.emplace_back();
    ResolveTemplateAlone(c, index, t);
    JobDecl& decl = d.job_decls[index];
    Body(c, index, decl.merged, decl.when_facts, decl.uses, c.model.plan.jobs[index]).All();
    c.model.plan.jobs.pop_back();
    d.job_decls.pop_back();
    c.jobs.pop_back();
    c.model.files.resize(files);
  }
  const Diagnostics found = std::move(c.diags);
  c.diags = before;
  for (const Diagnostic& each : found.all()) {
    // The job may say what is needed, how often is tried, and what its errors are called.
    const bool completed = each.kind->code == "E104" || each.kind->code == "E501" || each.kind == &diag::UnknownError.kind;
    if (!completed) c.diags.Append(each);
  }
}

void CheckJobs(Checker& checker) {
  Model& model = checker.model;
  for (uint32_t i = 0; i < checker.jobs.size(); ++i) checker.ResolveJob(i);
  for (uint32_t i = 0; i < checker.jobs.size(); ++i) {
    JobInfo& job = checker.jobs[i];
    JobDecl& decl = checker.declarations->job_decls[i];
    ir::Job& out = model.plan.jobs[i];
    LineColumn at = checker.sources.Locate(job.name.span.source, job.name.span.begin);
    uint32_t source = UINT32_MAX;
    for (uint32_t s = 0; s < model.sources.size(); ++s) {
      if (model.sources[s] == job.name.span.source) source = s;
    }
    out.at = {source, at.line, at.column};
    model.job_spans[i] = job.name.span;
    Body(checker, i, decl.merged, decl.when_facts, decl.uses, out).All();
  }
  for (uint32_t i = 0; i < checker.jobs.size(); ++i) CollectDependencies(checker, i, model.plan.jobs[i]);
  FindCycles(checker);
  CheckTemplatesAlone(checker);
}

ir::Job CheckJobUnderProfile(Checker& checker, uint32_t index, const Layers& profile_root, const Layers& profile_job) {
  JobDecl& decl = checker.declarations->job_decls[index];
  Layers layers;
  // defaults < profile root < template < job < profile job
  for (const Layer& layer : decl.merged.layers) {
    if (layer.kind == LayerKind::Defaults) layers.push_back(layer);
  }
  for (const Layer& layer : profile_root) layers.push_back(layer);
  for (const Layer& layer : decl.merged.layers) {
    if (layer.kind != LayerKind::Defaults) layers.push_back(layer);
  }
  for (const Layer& layer : profile_job) layers.push_back(layer);
  Merged merged = Merge(checker, std::move(layers), kJob);
  std::vector<std::string_view> touched;
  for (const Layers* group : {&profile_root, &profile_job}) {
    for (const Layer& layer : *group) {
      const ast::File& file = *layer.unit->file;
      for (const ast::ItemId* id = file.begin(layer.items); id != file.end(layer.items); ++id) {
        if (file[*id].kind == ast::ItemKind::Attr || file[*id].kind == ast::ItemKind::Block) touched.push_back(file[*id].name.text);
      }
    }
  }
  if (std::find(touched.begin(), touched.end(), "errors") != touched.end()) touched.push_back("retry");
  ir::Job settings = checker.model.plan.jobs[index];
  Body body(checker, index, merged, decl.when_facts, decl.uses, settings);
  body.set_base_ignores(settings.on_error == ir::Strategy::Ignore);
  body.Settings(&touched);
  CollectDependencies(checker, index, settings);
  checker.declarations->merged_of_profile[{checker.model.profiles.size(), index}] = std::move(merged);
  return settings;
}

}  // namespace jobc::check
