// What names and dotted names mean: locals, words of the scope, parameters, constants, jobs, instances, modules, enums.
#include <fmt/format.h>

#include <algorithm>

#include "compiler/check/declarations.h"
#include "compiler/check/expression.h"
#include "ir/op_shape.h"

namespace jobc::check {
namespace {

llvm::StringRef Ref(std::string_view text) { return {text.data(), text.size()}; }
std::string_view View(llvm::StringRef text) { return {text.data(), text.size()}; }

std::string_view WhenKnown(Phase phase) {
  switch (phase) {
    case Phase::C: return "when the file is read";
    case Phase::P: return "when the plan is made";
    case Phase::S: return "when an instance starts";
    case Phase::A: return "when an attempt is tried again";
    case Phase::E: return "when an attempt has ended";
    case Phase::R: return "when the run ends";
  }
  JOBC_UNREACHABLE();
}

}  // namespace

ExpressionChecker::WordKind ExpressionChecker::WordOf(std::string_view name) const {
  static constexpr std::pair<std::string_view, WordKind> kWords[] = {
      {"params", WordKind::Params}, {"input", WordKind::Input}, {"output", WordKind::Output}, {"resources", WordKind::Resources},
      {"matrix", WordKind::Matrix}, {"run", WordKind::Run}, {"prev", WordKind::Prev}, {"attempt", WordKind::Attempt},
      {"it", WordKind::It}, {"env", WordKind::Env}};
  for (const auto& [word, kind] : kWords) {
    if (word == name) return kind;
  }
  if (name == "template" && scope_.template_arguments != nullptr) return WordKind::Template;
  return WordKind::None;
}

const LocalName* ExpressionChecker::FindLocal(std::string_view name) const {
  for (size_t i = locals_.size(); i-- > 0;) {
    if (locals_[i].name.text == name) return &locals_[i];
  }
  for (size_t i = scope_.locals.size(); i-- > 0;) {
    if (scope_.locals[i].name.text == name) return &scope_.locals[i];
  }
  return nullptr;
}

Symbol* ExpressionChecker::FindValue(std::string_view name) const {
  auto it = scope_.unit->values.find(Ref(name));
  return it == scope_.unit->values.end() ? nullptr : &it->second;
}

Unit* ExpressionChecker::LibraryOf(const Symbol& import) const {
  if (import.kind != SymbolKind::Import || c_.declarations == nullptr) return nullptr;
  return import.index < c_.declarations->imports.size() ? c_.declarations->imports[import.index].library : nullptr;
}

Val ExpressionChecker::Leaf(ir::ExprId expr, ir::TypeId type, Phase phase, Span span, Span leaf) {
  Val v;
  v.expr = expr;
  v.type = types_.Bare(type);
  v.phase = phase;
  v.leaf = span;
  if (phase <= scope_.latest) return v;
  if (types_.kind(v.type) == TK::Secret) return SecretFault(span);  // knowing it in time would not help
  auto& d = c_.diags.Emit(span, diag::KnownTooLate, TextOf(span), Place())
                .Label(fmt::format("known only {}", WhenKnown(phase)));
  if (leaf.valid() && leaf != span) d.Secondary(leaf, "because of this");
  d.Note(fmt::format("{} must be known {}", Place(), WhenKnown(scope_.latest)));
  if (phase == Phase::S && scope_.latest == Phase::P && types_.kind(type) != TK::Error) {
    const std::string text = TextOf(span);
    const std::string name = text.substr(text.rfind('.') + 1);
    if (!name.empty() && std::all_of(name.begin(), name.end(), [](unsigned char ch) { return std::isalnum(ch) || ch == '_'; })) {
      d.AddHelp(fmt::format("what is decided before the run comes from a parameter:  params {{ {0}: {1} }}  used as  params.{0}", name, Show(types_.NonNull(types_.Bare(type)))));
    }
  }
  if (scope_.latest == Phase::C) d.AddHelp("write a constant, or a `let` of constants");
  return Error(type);
}

bool ExpressionChecker::TemplateSees(std::string_view block, std::string_view name, Span span, Span declared, std::string_view help) {
  if (scope_.template_use == nullptr || TemplateDeclares(c_, *scope_.job, *scope_.template_use, block, name)) return true;
  const std::string_view of = TemplateName(c_, *scope_.template_use);
  c_.diags.Emit(span, diag::NotHere, TextOf(span), fmt::format("the template `{}`", of))
      .Label("a template sees only what it declares itself")
      .Secondary(declared, fmt::format("declared in `{}`, which the template does not see", scope_.job->name.text))
      .AddHelp(fmt::format("declare it in `{}` too, for every job that uses it:  {}", of, help));
  return false;
}

Val ExpressionChecker::LoopVariable(std::string_view name, Span span) {
  const JobInfo* job = scope_.job;
  if (job == nullptr || (scope_.words & kLoop) == 0 || !job->has_for) return Val{};
  bool first = job->for_name.valid() && job->for_name.text == name;
  bool second = job->for_name2.valid() && job->for_name2.text == name;
  if (!first && !second) return Val{};
  ir::TypeId type = first ? job->for_type : job->for_type2;
  if (!TemplateSees("for", name, span, first ? job->for_name.span : job->for_name2.span, fmt::format("for {} in …", name))) return Error(type);
  if (!type.valid() || types_.kind(type) == TK::Error) return Error();
  // The elements of a dynamic scatter count as known where its instances are made.
  Phase phase = scope_.latest == Phase::P ? std::min(job->for_phase, Phase::P) : job->for_phase;
  ir::ExprId expr = exprs_.Add(Op::Var, types_.Bare(type), {}, c_.PlaceOf(span), first ? 0 : 1);
  return Narrow(Leaf(expr, type, phase, span, job->for_leaf));
}

// ---- names ----

Val ExpressionChecker::CheckName(ast::ExprId id, const ast::Expr& e, bool secret_ok) {
  std::string_view name = e.name.text;
  if (const LocalName* local = FindLocal(name)) {
    if (!local->type.valid() || types_.kind(local->type) == TK::Error) return Error();
    if (types_.kind(local->type) == TK::Instance) {
      c_.diags.Emit(e.span, diag::NotAValue, "an instance of a job")
          .Label("name one of its outputs")
          .AddHelp(fmt::format("write `{}.ok`, `{}.key` or one of its outputs", name, name));
      return Error();
    }
    if (types_.kind(local->type) == TK::Secret && !secret_ok) return SecretFault(e.span);
    ir::ExprId expr = exprs_.Add(Op::Local, types_.Bare(local->type), {}, c_.PlaceOf(e.span), local->slot);
    Val v = Leaf(expr, local->type, local->phase, e.span, local->leaf);
    v.low_slot = local->slot;
    return Narrow(std::move(v));
  }
  Val loop = LoopVariable(name, e.span);
  if (loop.expr.valid()) return loop;
  WordKind word = WordOf(name);
  if (word == WordKind::It && (scope_.words & kIt) != 0) {
    if (!scope_.it_type.valid() || types_.kind(scope_.it_type) == TK::Error) return Error();
    Val v = Leaf(exprs_.Add(Op::Local, types_.Bare(scope_.it_type), {}, c_.PlaceOf(e.span), 0), scope_.it_type, Phase::C, e.span, e.span);
    v.low_slot = 0;
    return Narrow(std::move(v));
  }
  if (word == WordKind::Attempt && (scope_.words & kPrev) != 0) {
    return Leaf(exprs_.Add(Op::Attempt, Basic(TK::Int), {}, c_.PlaceOf(e.span)), Basic(TK::Int), Phase::A, e.span, e.span);
  }
  if ((scope_.words & kBareParams) != 0) {
    auto it = scope_.unit->params.find(Ref(name));
    if (it != scope_.unit->params.end()) return ParamValue(it->second, e.span, secret_ok);
  }
  if (Symbol* symbol = FindValue(name)) {
    symbol->used = true;
    switch (symbol->kind) {
      case SymbolKind::Let: return LetValue(symbol->index, e.span, secret_ok);
      case SymbolKind::Secret:
        if (!secret_ok) return SecretFault(e.span);
        return Leaf(exprs_.Add(Op::Secret, Basic(TK::Secret), {}, c_.PlaceOf(e.span), symbol->index), Basic(TK::Secret), Phase::S, e.span, e.span);
      case SymbolKind::Job:
      case SymbolKind::Check: {
        JobRef ref;
        ResolveJobRef(id, ref);
        if (ref.error || ref.job == nullptr) return Error();
        auto& d = c_.diags.Emit(e.span, diag::NotAValue, symbol->kind == SymbolKind::Job ? "a job" : "a check").Label("name one of its outputs");
        std::string_view field = ref.job->outputs.empty() ? std::string_view("ok") : ref.job->outputs.front().name;
        d.AddHelp(fmt::format("write `{}{}.{}`", name, ref.job->single() ? "" : "[*]", field));
        return Error();
      }
      case SymbolKind::Module:
      case SymbolKind::Import:
        c_.diags.Emit(e.span, diag::NotAValue, symbol->kind == SymbolKind::Module ? "a module" : "an import")
            .Label(symbol->kind == SymbolKind::Module ? "name one of its exports" : "name something in it")
            .AddHelp(fmt::format("write `{}.…`", name));
        return Error();
      default: return Error();
    }
  }
  if (word == WordKind::It || word == WordKind::Attempt || word == WordKind::Env) {
    auto& d = c_.diags.Emit(e.span, diag::NotHere, name, Place());
    if (word == WordKind::It) d.Label("only a refinement, such as `String(length(it) > 0)`, has `it`");
    if (word == WordKind::Attempt) d.Label("only the rules of `retry` have `attempt`");
    if (word == WordKind::Env) d.Label("an expression cannot read the environment").AddHelp("give the value by a parameter, or declare `secret x = env(\"X\")`");
    return Error();
  }
  if (word != WordKind::None) {
    c_.diags.Emit(e.span, diag::NotAValue, fmt::format("`{}`", name)).Label("name something in it").AddHelp(fmt::format("write `{}.…`", name));
    return Error();
  }
  return UnknownName(e);
}

std::vector<std::string_view> ExpressionChecker::VisibleNames() const {
  std::vector<std::string_view> names;
  for (const LocalName& local : locals_) names.push_back(local.name.text);
  for (const LocalName& local : scope_.locals) names.push_back(local.name.text);
  if (scope_.job != nullptr && (scope_.words & kLoop) != 0) {
    if (scope_.job->for_name.valid()) names.push_back(scope_.job->for_name.text);
    if (scope_.job->for_name2.valid()) names.push_back(scope_.job->for_name2.text);
  }
  if ((scope_.words & kBareParams) != 0) {
    for (const auto& entry : scope_.unit->params) names.push_back(View(entry.first()));
  }
  for (const auto& entry : scope_.unit->values) names.push_back(View(entry.first()));
  names.push_back("params");
  if ((scope_.words & kInput) != 0) names.push_back("input");
  if ((scope_.words & (kOutputPaths | kEarlierOutputs)) != 0) names.push_back("output");
  if ((scope_.words & kResources) != 0) names.push_back("resources");
  if ((scope_.words & kLoop) != 0) names.push_back("matrix");
  if ((scope_.words & kPrev) != 0) names.insert(names.end(), {"prev", "attempt"});
  if ((scope_.words & kRun) != 0) names.push_back("run");
  if ((scope_.words & kIt) != 0) names.push_back("it");
  return names;
}

Val ExpressionChecker::UnknownName(const ast::Expr& e) {
  std::string_view name = e.name.text;
  auto& d = c_.diags.Emit(e.span, diag::UnknownName, name).Label("not known here");
  auto fix = [&](std::string text, std::string_view why) {
    d.AddHelp(fmt::format("{}:  {}", why, text), {{e.span, text}});
  };
  if (scope_.unit->params.count(Ref(name)) != 0) {
    fix(fmt::format("params.{}", name), "a parameter is written with `params`");
  } else if (scope_.job != nullptr && (scope_.words & kInput) != 0 &&
             std::any_of(scope_.job->inputs.begin(), scope_.job->inputs.end(), [&](const InputInfo& i) { return i.name == name; })) {
    fix(fmt::format("input.{}", name), "an input is written with `input`");
  } else if (scope_.job != nullptr && (scope_.words & kLoop) != 0 &&
             std::any_of(scope_.job->axes.begin(), scope_.job->axes.end(), [&](const AxisInfo& a) { return a.name == name; })) {
    fix(fmt::format("matrix.{}", name), "an axis is written with `matrix`");
  } else if (scope_.job != nullptr && (scope_.words & kOutputPaths) != 0 &&
             std::any_of(scope_.job->outputs.begin(), scope_.job->outputs.end(), [&](const OutputInfo& o) { return o.name == name; })) {
    fix(fmt::format("output.{}", name), "an output is written with `output`");
  } else if (scope_.unit->types.count(Ref(name)) != 0) {
    d.Label("this is a type, not a value");
  } else if (scope_.unit->fns.count(Ref(name)) != 0 || ir::BuiltinFromName(name).has_value()) {
    d.Label("this is a function").AddHelp(fmt::format("call it:  {}(…)", name));
  } else {
    Suggest(d, name, VisibleNames(), e.span);
  }
  return Error();
}

bool ExpressionChecker::CheckLocalName(const ast::Name& name) {
  if (!name.valid() || name.text == "_") return true;
  Span earlier;
  std::string_view what;
  if (const LocalName* local = FindLocal(name.text)) {
    if (local->name.span == name.span) return true;
    earlier = local->name.span;
  } else if (scope_.job != nullptr && (scope_.words & kLoop) != 0 && scope_.job->for_name.valid() && scope_.job->for_name.text == name.text) {
    earlier = scope_.job->for_name.span;
  } else if (scope_.job != nullptr && (scope_.words & kLoop) != 0 && scope_.job->for_name2.valid() && scope_.job->for_name2.text == name.text) {
    earlier = scope_.job->for_name2.span;
  } else if (Symbol* symbol = FindValue(name.text)) {
    earlier = symbol->span;
  } else if ((scope_.words & kBareParams) != 0 && scope_.unit->params.count(Ref(name.text)) != 0) {
    earlier = scope_.unit->params.find(Ref(name.text))->second.span;
  } else if (WordOf(name.text) != WordKind::None && name.text != "template") {
    what = "a word of the language in expressions";
  } else {
    return true;
  }
  if (earlier == name.span && earlier.valid()) return true;
  auto& d = c_.diags.Emit(name.span, diag::NameTaken, name.text).Label(what.empty() ? "a local name hides nothing" : std::string(what));
  d.Secondary(earlier, "declared here");
  d.AddHelp(fmt::format("use another name, such as `{}_`", name.text));
  return false;
}

// ---- parameters, constants, modules ----

Val ExpressionChecker::ParamValue(Symbol& symbol, Span span, bool secret_ok) {
  symbol.used = true;
  ParamInfo& info = c_.ResolveParam(symbol.index);
  if (!info.type.valid() || types_.kind(info.type) == TK::Error) return Error();
  if (types_.kind(info.type) == TK::Secret && !secret_ok) return SecretFault(span);
  if (info.root_index != UINT32_MAX) {
    ir::ExprId expr = exprs_.Add(Op::Param, types_.Bare(info.type), {}, c_.PlaceOf(span), info.root_index);
    return Narrow(Leaf(expr, info.type, info.phase, span, info.leaf));
  }
  if (!info.bound.valid() || exprs_[info.bound].op == Op::Error) return Error(info.type);
  return Narrow(Leaf(info.bound, info.type, info.phase, span, info.leaf));
}

Val ExpressionChecker::LetValue(uint32_t index, Span span, bool secret_ok) {
  const LetInfo& info = c_.ResolveLet(index);
  if (info.progress != Progress::Done || !info.type.valid() || types_.kind(info.type) == TK::Error) return Error(info.type);
  if (types_.kind(info.type) == TK::Secret && !secret_ok) return SecretFault(span);
  ir::TypeId type = types_.Bare(info.type);
  ir::ExprId value = c_.program.lets[info.program_index].value;
  if (value.valid() && exprs_[value].op == Op::Error) return Error(type);
  if (exprs_.IsConst(value) && !types_.IsOptional(type)) return ConstantOf(type, exprs_.ConstValue(value), span);
  ir::ExprId expr = exprs_.Add(Op::Let, type, {}, c_.PlaceOf(span), info.program_index);
  return Narrow(Leaf(expr, type, info.phase, span, info.leaf));
}

Val ExpressionChecker::MemberOfModule(ast::ExprId id, const ast::Expr& e, Symbol& symbol, bool secret_ok) {
  symbol.used = true;
  std::string_view base = c_.sources.Text(SpanOf(file_.child(e, 0)));
  Span name_span = e.name.span.valid() ? e.name.span : e.op_span;
  std::vector<std::string_view> names;
  if (symbol.kind == SymbolKind::Module) {
    ModuleInfo& module = c_.modules[symbol.index];
    if (module.inner == nullptr) return Error();
    auto it = module.exports.find(Ref(e.name.text));
    if (it != module.exports.end()) return LetValue(it->second, e.span, secret_ok);
    for (const auto& entry : module.exports) names.push_back(View(entry.first()));
    auto& d = c_.diags.Emit(name_span, diag::UnknownMember, fmt::format("module `{}`", base), e.name.text).Label("not exported");
    if (module.inner->values.count(Ref(e.name.text)) != 0) d.AddHelp(fmt::format("export it from the module's file:  export {{ {}: … = … }}", e.name.text));
    else Suggest(d, e.name.text, names, name_span);
    return Error();
  }
  Unit* library = LibraryOf(symbol);
  if (library == nullptr) return Error();
  auto it = library->values.find(Ref(e.name.text));
  if (it != library->values.end() && it->second.kind == SymbolKind::Let) {
    it->second.used = true;
    return LetValue(it->second.index, e.span, secret_ok);
  }
  for (const auto& entry : library->values) {
    if (entry.second.kind == SymbolKind::Let) names.push_back(View(entry.first()));
  }
  auto& d = c_.diags.Emit(name_span, diag::UnknownMember, fmt::format("import `{}`", base), e.name.text).Label("not a constant of that file");
  if (it != library->values.end() && (it->second.kind == SymbolKind::Job || it->second.kind == SymbolKind::Check)) {
    d.AddHelp(fmt::format("jobs of a file exist where it is instantiated:  module m = {} {{ … }}", base));
  } else {
    Suggest(d, e.name.text, names, name_span);
  }
  return Error();
}

// ---- enums ----

ir::TypeId ExpressionChecker::EnumNamed(ast::ExprId path) {
  path = Bare(path);
  if (!path.valid()) return {};
  const ast::Expr& e = Ast(path);
  Unit* unit = scope_.unit;
  std::string_view name = e.name.text;
  if (e.kind == Kind::Member) {
    ast::ExprId base = file_.child(e, 0);
    if (!base.valid() || Ast(base).kind != Kind::Name || FindLocal(Ast(base).name.text) != nullptr) return {};
    Symbol* symbol = FindValue(Ast(base).name.text);
    if (symbol == nullptr || symbol->kind != SymbolKind::Import) return {};
    unit = LibraryOf(*symbol);
    if (unit == nullptr) return {};
    if (unit->types.count(Ref(name)) != 0) symbol->used = true;
  } else if (e.kind != Kind::Name) {
    return {};
  }
  auto it = unit->types.find(Ref(name));
  if (it == unit->types.end()) return e.kind == Kind::Name && name == "RunStatus" ? c_.RunStatusType() : ir::TypeId{};
  if (it->second.kind == SymbolKind::Struct) return {};
  ir::TypeId type = c_.ResolveTypeSymbol(it->second);
  if (!type.valid()) return {};
  it->second.used = true;
  TK kind = types_.kind(type);
  return kind == TK::Enum || kind == TK::Error ? types_.Bare(type) : ir::TypeId{};
}

Val ExpressionChecker::CaseOf(const ast::Expr& e, ir::TypeId enum_type) {
  if (types_.kind(enum_type) == TK::Error) return Error();
  const ir::EnumDef& def = types_[ir::EnumId{types_[enum_type].def}];
  for (uint32_t i = 0; i < def.cases.size(); ++i) {
    if (def.cases[i] == e.name.text) return ConstantOf(enum_type, ir::Value::Enum(i), e.span);
  }
  std::vector<std::string_view> names(def.cases.begin(), def.cases.end());
  Span span = e.name.span.valid() ? e.name.span : e.op_span;
  auto& d = c_.diags.Emit(span, diag::UnknownCase, def.name, e.name.text).Label("not one of its cases");
  Suggest(d, e.name.text, names, span);
  return Error(enum_type);
}

// ---- jobs ----

JobInfo* ExpressionChecker::JobNamed(ast::ExprId id) {
  if (!id.valid()) return nullptr;
  const ast::Expr& e = Ast(id);
  if (e.kind != Kind::Name || FindLocal(e.name.text) != nullptr) return nullptr;
  Symbol* symbol = FindValue(e.name.text);
  if (symbol == nullptr || (symbol->kind != SymbolKind::Job && symbol->kind != SymbolKind::Check)) return nullptr;
  symbol->used = true;
  return &c_.jobs[symbol->index];
}

bool ExpressionChecker::ResolveJobRef(ast::ExprId base, JobRef& ref) {
  base = Bare(base);
  if (!base.valid()) return false;
  const ast::Expr& e = Ast(base);
  ast::ExprId name_id = e.kind == Kind::Index ? file_.child(e, 0) : base;
  JobInfo* job = JobNamed(name_id);
  if (job == nullptr) return false;
  ref.base = base;
  std::string_view name = Ast(name_id).name.text;
  if (scope_.job != nullptr && scope_.job->index == job->index) {
    c_.diags.Emit(SpanOf(name_id), diag::OwnInstance, name)
        .Label("a job cannot wait for its own instances")
        .AddHelp("move what is needed into a job of its own, and let both refer to that one");
    ref.error = true;
    return true;
  }
  job = &c_.ResolveJob(job->index);
  ref.job = job;
  if (job->progress != Progress::Done) {  // a cycle, reported where it was found
    ref.error = true;
    return true;
  }
  if (e.kind != Kind::Index) return true;
  uint32_t count = e.children.size - 1;
  Span brackets{e.span.source, SpanOf(name_id).end, e.span.end};
  if (job->single()) {
    c_.diags.Emit(brackets, diag::OneInstance, name)
        .Label("not scattered by `for` or `matrix`")
        .Secondary(job->name.span, "declared here")
        .AddHelp("leave out the index", {{brackets, ""}});
    ref.error = true;
  }
  for (uint32_t i = 0; i < count; ++i) {
    ast::ExprId index = file_.child(e, i + 1);
    if (!index.valid()) {
      ref.error = true;
      continue;
    }
    if (Ast(index).kind == Kind::Star) {
      if (count == 1) {
        ref.star = true;
      } else if (!ref.error) {
        c_.diags.Emit(SpanOf(index), diag::IndexCount, fmt::format("{}[*]", name), "no other index", fmt::format("{}", count - 1))
            .AddHelp("leave out what is to be gathered: missing indices at the end stand for all");
        ref.error = true;
      }
      continue;
    }
    ir::TypeId type;
    if (job->has_for && i == 0) {
      type = job->key_type;
    } else {
      uint32_t axis = i - (job->has_for ? 1 : 0);
      if (axis < job->axes.size()) type = job->axes[axis].type;
    }
    Val v = Check(index, type);
    ref.error |= v.error;
    ref.indices.push_back(std::move(v));
  }
  if (!job->single() && count > job->dimensions()) {
    c_.diags.Emit(brackets, diag::IndexCount, name, fmt::format("at most {} {}", job->dimensions(), job->dimensions() == 1 ? "index" : "indices"), fmt::format("{}", count))
        .Label(job->has_for ? "the key of `for`, then the axes of `matrix`" : "the axes of `matrix` in their order")
        .Secondary(job->name.span, "declared here");
    ref.error = true;
  }
  return true;
}

std::optional<ir::StatusField> ExpressionChecker::StatusOf(std::string_view name) const {
  for (uint32_t i = 0; i < ir::kStatusFields; ++i) {
    auto field = static_cast<ir::StatusField>(i);
    if (ir::StatusFieldName(field) == name) return field;
  }
  return std::nullopt;
}

ir::TypeId ExpressionChecker::StatusType(ir::StatusField field) {
  switch (field) {
    case ir::StatusField::Ok: case ir::StatusField::Done: case ir::StatusField::Failed: return Basic(TK::Bool);
    case ir::StatusField::Attempts: case ir::StatusField::Count: return Basic(TK::Int);
    case ir::StatusField::Duration: return Basic(TK::Duration);
    case ir::StatusField::Result: return types_.Optional(Basic(TK::Json));
    case ir::StatusField::OkRatio: return Basic(TK::Float);
  }
  JOBC_UNREACHABLE();
}

void ExpressionChecker::NotePerRun(Span span) {
  if (scope_.allow_per_run) return;
  c_.diags.Emit(span, diag::DiffersPerRun, TextOf(span))
      .Label("not the same in every run")
      .Note("it may be used in `check`, in `when` of jobs that are not cached, in `finally`, hooks and exports");
}

Val ExpressionChecker::MemberOfJob(ast::ExprId id, const ast::Expr& e, const JobRef& ref) {
  if (ref.error || ref.job == nullptr) return Error();
  JobInfo& job = *ref.job;
  std::string_view name = e.name.text;
  Span name_span = e.name.span.valid() ? e.name.span : e.op_span;
  std::string base = TextOf(SpanOf(ref.base));
  std::string_view title = job.kind == ir::JobKind::Check ? "check" : "job";
  if (e.kind == Kind::OptMember) {
    c_.diags.Emit(e.op_span.valid() ? e.op_span : e.span, diag::NotForThisType, title)
        .Label("a job is always there; its outputs may be null")
        .AddHelp(fmt::format("write `{}.{}`", base, name), {{e.span, fmt::format("{}.{}", base, name)}});
    return Error();
  }
  bool whole = ref.indices.size() == job.dimensions();   // one instance
  bool gather = !whole && (ref.star || !ref.indices.empty());
  auto make = [&](Op op, ir::TypeId type, uint32_t b) {
    Val v = Make(op, type, ref.indices, e.span, job.index, b);
    if (v.error) return v;
    Val leaf = Leaf(v.expr, type, Phase::S, e.span, e.span);
    leaf.low_slot = v.low_slot;
    if (v.phase > leaf.phase) {
      leaf.phase = v.phase;
      leaf.leaf = v.leaf;
    }
    return leaf;
  };

  if (std::optional<ir::StatusField> status = StatusOf(name)) {
    bool of_all = *status == ir::StatusField::Count || *status == ir::StatusField::OkRatio;
    bool of_one = *status == ir::StatusField::Attempts || *status == ir::StatusField::Duration || *status == ir::StatusField::Result;
    if ((whole || gather) && (*status == ir::StatusField::Attempts || *status == ir::StatusField::Duration)) NotePerRun(e.span);
    if (of_all && (job.single() || whole || gather)) {
      auto& d = c_.diags.Emit(name_span, diag::UnknownMember, job.single() ? fmt::format("{} `{}`", title, job.name.text) : fmt::format("`{}`", base), name);
      if (job.single()) d.Label("only a job with `for` or `matrix` has it");
      else d.Label("belongs to the job as a whole").AddHelp(fmt::format("write `{}.{}`", job.name.text, name), {{e.span, fmt::format("{}.{}", job.name.text, name)}});
      return Error(StatusType(*status));
    }
    if (whole) return Narrow(make(Op::JobStatus, StatusType(*status), static_cast<uint32_t>(*status)));
    if (gather) return make(Op::GatherStatus, types_.List(StatusType(*status)), static_cast<uint32_t>(*status));
    if (of_one) {
      c_.diags.Emit(e.span, diag::ManyInstances, job.name.text)
          .Label(fmt::format("each of them has its own `{}`", name))
          .Secondary(job.name.span, "scattered here")
          .AddHelp(fmt::format("for all of them:  {}[*].{}", job.name.text, name), {{e.span, fmt::format("{}[*].{}", job.name.text, name)}});
      return Error(StatusType(*status));
    }
    return make(Op::ScatterStatus, StatusType(*status), static_cast<uint32_t>(*status));
  }

  uint32_t output = UINT32_MAX;
  for (uint32_t i = 0; i < job.outputs.size(); ++i) {
    if (job.outputs[i].name == name) output = i;
  }
  if (output == UINT32_MAX) {
    std::vector<std::string_view> names;
    for (const OutputInfo& o : job.outputs) names.push_back(o.name);
    auto& d = c_.diags.Emit(name_span, diag::UnknownMember, fmt::format("{} `{}`", title, job.name.text), name).Label(job.outputs.empty() ? "it has no outputs" : "not one of its outputs");
    if (name == "key") {
      d.Label("only the variable of a `for` over instances has it");
    } else {
      std::vector<std::string_view> all = names;
      for (uint32_t i = 0; i < ir::kStatusFields; ++i) all.push_back(ir::StatusFieldName(static_cast<ir::StatusField>(i)));
      Suggest(d, name, DidYouMean(name, names).empty() && !DidYouMean(name, all).empty() ? all : names, name_span);
    }
    d.Secondary(job.name.span, "declared here");
    return Error();
  }
  OutputInfo& info = job.outputs[output];
  info.used = true;
  if (!info.type.valid() || types_.kind(info.type) == TK::Error) return Error();
  ir::TypeId declared = types_.Bare(info.type);
  bool null = job.nullable || (scope_.words & kJobsAreNull) != 0;
  ir::TypeId type = null ? types_.Optional(declared) : declared;
  if (gather) return make(Op::GatherOutput, types_.List(type), output);
  if (!whole) {
    auto& d = c_.diags.Emit(e.span, diag::ManyInstances, job.name.text)
                  .Label(fmt::format("each of them has its own `{}`", name))
                  .Secondary(job.name.span, "scattered here")
                  .AddHelp(fmt::format("for all of them, as a `List<{}>`:  {}[*].{}", Show(type), job.name.text, name),
                           {{e.span, fmt::format("{}[*].{}", job.name.text, name)}});
    std::string key = job.has_for ? (job.for_name.valid() ? std::string(job.for_name.text) : "key") : "…";
    d.AddHelp(fmt::format("for one of them:  {}[{}].{}", job.name.text, key, name));
    return Error(types_.List(type));
  }
  Val v = make(Op::JobOutput, type, output);
  if (v.error || !types_.IsOptional(v.type) || !AnyFacts()) return v;
  std::string key;
  llvm::SmallVector<ir::ExprId, 2> indices;
  for (const Val& index : ref.indices) indices.push_back(index.expr);
  if (null && !types_.IsOptional(declared) && InstanceKeyOf(job.index, indices, key)) v = NarrowOutput(std::move(v), "ok:" + key);
  return Narrow(std::move(v));
}

Val ExpressionChecker::MemberOfInstance(ast::ExprId id, const ast::Expr& e, const Val& instance) {
  std::string_view name = e.name.text;
  Span name_span = e.name.span.valid() ? e.name.span : e.op_span;
  JobInfo& job = c_.jobs[types_[instance.type].def];
  if (name == "key") return Make(Op::InstanceKey, Basic(TK::String), {&instance}, e.span);
  if (std::optional<ir::StatusField> status = StatusOf(name)) {
    if (*status == ir::StatusField::Attempts || *status == ir::StatusField::Duration) NotePerRun(e.span);
    if (*status == ir::StatusField::Count || *status == ir::StatusField::OkRatio) {
      c_.diags.Emit(name_span, diag::UnknownMember, fmt::format("one instance of `{}`", job.name.text), name)
          .Label("belongs to the job as a whole")
          .AddHelp(fmt::format("write `{}.{}`", job.name.text, name), {{e.span, fmt::format("{}.{}", job.name.text, name)}});
      return Error(StatusType(*status));
    }
    return Narrow(Make(Op::InstanceStatus, StatusType(*status), {&instance}, e.span, 0, static_cast<uint32_t>(*status)));
  }
  for (uint32_t i = 0; i < job.outputs.size(); ++i) {
    OutputInfo& info = job.outputs[i];
    if (info.name != name) continue;
    info.used = true;
    if (!info.type.valid() || types_.kind(info.type) == TK::Error) return Error();
    ir::TypeId declared = types_.Bare(info.type);
    bool null = job.nullable || (scope_.words & kJobsAreNull) != 0;
    Val v = Make(Op::InstanceOutput, null ? types_.Optional(declared) : declared, {&instance}, e.span, 0, i);
    if (v.error || !types_.IsOptional(v.type) || !AnyFacts()) return v;
    std::string key;
    if (null && !types_.IsOptional(declared) && StableKey(instance.expr, key)) v = NarrowOutput(std::move(v), "ok:" + key);
    return Narrow(std::move(v));
  }
  std::vector<std::string_view> names{"key"};
  for (const OutputInfo& o : job.outputs) names.push_back(o.name);
  auto& d = c_.diags.Emit(name_span, diag::UnknownMember, fmt::format("job `{}`", job.name.text), name).Label("not one of its outputs").Secondary(job.name.span, "declared here");
  Suggest(d, name, names, name_span);
  return Error();
}

// ---- members ----

Val ExpressionChecker::CheckMember(ast::ExprId id, const ast::Expr& e, bool secret_ok) {
  ast::ExprId base_id = file_.child(e, 0);
  if (!base_id.valid()) return Error();
  const ast::Expr& base = Ast(base_id);
  if (base.kind == Kind::Name) {
    std::string_view name = base.name.text;
    if (const LocalName* local = FindLocal(name)) {
      if (local->type.valid() && types_.kind(local->type) == TK::Instance) {
        Val instance;
        instance.expr = exprs_.Add(Op::Local, local->type, {}, c_.PlaceOf(base.span), local->slot);
        instance.type = local->type;
        instance.phase = local->phase;
        instance.leaf = e.span;
        instance.low_slot = local->slot;
        return MemberOfInstance(id, e, instance);
      }
      return MemberOfValue(id, e, Check(base_id));
    }
    bool loop = scope_.job != nullptr && (scope_.words & kLoop) != 0 && scope_.job->has_for &&
                ((scope_.job->for_name.valid() && scope_.job->for_name.text == name) || (scope_.job->for_name2.valid() && scope_.job->for_name2.text == name));
    if (loop) return MemberOfValue(id, e, Check(base_id));
    WordKind word = WordOf(name);
    if (word == WordKind::It || word == WordKind::Attempt || word == WordKind::Env) return MemberOfValue(id, e, Check(base_id));
    if (word != WordKind::None) return MemberOfWord(word, id, e, secret_ok);
    bool bare_param = (scope_.words & kBareParams) != 0 && scope_.unit->params.count(Ref(name)) != 0;
    Symbol* symbol = bare_param ? nullptr : FindValue(name);
    if (symbol != nullptr && (symbol->kind == SymbolKind::Job || symbol->kind == SymbolKind::Check)) {
      JobRef ref;
      ResolveJobRef(base_id, ref);
      return MemberOfJob(id, e, ref);
    }
    if (symbol != nullptr && (symbol->kind == SymbolKind::Module || symbol->kind == SymbolKind::Import)) return MemberOfModule(id, e, *symbol, secret_ok);
    if (symbol == nullptr && !bare_param) {
      ir::TypeId enum_type = EnumNamed(base_id);
      if (enum_type.valid()) return CaseOf(e, enum_type);
      if (auto it = scope_.unit->types.find(Ref(name)); it != scope_.unit->types.end()) {
        c_.diags.Emit(base.span, diag::NotAValue, "a type").Label("only an enum has values of its own");
        return Error();
      }
    }
  } else if (base.kind == Kind::Index) {
    JobRef ref;
    if (ResolveJobRef(base_id, ref)) return MemberOfJob(id, e, ref);
  } else if (base.kind == Kind::Member) {
    ast::ExprId root = file_.child(base, 0);
    if (root.valid() && Ast(root).kind == Kind::Name && FindLocal(Ast(root).name.text) == nullptr) {
      if (WordOf(Ast(root).name.text) == WordKind::Prev && base.name.text == "timeout") return MemberOfWord(WordKind::Prev, id, e, secret_ok);
      ir::TypeId enum_type = EnumNamed(base_id);
      if (enum_type.valid()) return CaseOf(e, enum_type);
    }
  }
  return MemberOfValue(id, e, Check(base_id));
}

Val ExpressionChecker::MemberOfWord(WordKind word, ast::ExprId id, const ast::Expr& e, bool secret_ok) {
  std::string_view name = e.name.text;
  Span name_span = e.name.span.valid() ? e.name.span : e.op_span;
  ir::Place place = c_.PlaceOf(e.span);
  auto not_here = [&](uint32_t words, std::string_view text, std::string_view why) {
    if (scope_.job != nullptr && (scope_.words & words) != 0) return false;
    c_.diags.Emit(SpanOf(file_.child(e, 0)), diag::NotHere, text, Place()).Label(std::string(why));
    return true;
  };
  auto unknown = [&](std::string_view of, std::vector<std::string_view> names) {
    auto& d = c_.diags.Emit(name_span, diag::UnknownMember, of, name).Label("not known");
    Suggest(d, name, std::move(names), name_span);
    return Error();
  };
  if (e.kind == Kind::OptMember) {
    c_.diags.Emit(e.op_span.valid() ? e.op_span : e.span, diag::NotForThisType, c_.sources.Text(SpanOf(file_.child(e, 0))))
        .Label("write `.`");
    return Error();
  }
  switch (word) {
    case WordKind::Params: {
      auto it = scope_.unit->params.find(Ref(name));
      if (it != scope_.unit->params.end()) return ParamValue(it->second, e.span, secret_ok);
      std::vector<std::string_view> names;
      for (const auto& entry : scope_.unit->params) names.push_back(View(entry.first()));
      auto& d = c_.diags.Emit(name_span, diag::UnknownParam, "this file", name).Label("not declared in `params`");
      Suggest(d, name, names, name_span);
      return Error();
    }
    case WordKind::Input: {
      if (not_here(kInput, "input", "only the parts of a job that run after its inputs are known have `input`")) return Error();
      std::vector<std::string_view> names;
      for (uint32_t i = 0; i < scope_.job->inputs.size(); ++i) {
        InputInfo& info = scope_.job->inputs[i];
        if (info.name == name) {
          info.used = true;
          if (!TemplateSees("input", name, e.span, info.span, fmt::format("input {{ {}: {} }}", name, Show(info.type)))) return Error(info.type);
          if (!info.type.valid() || types_.kind(info.type) == TK::Error) return Error();
          ir::ExprId expr = exprs_.Add(Op::Input, types_.Bare(info.type), {}, place, i);
          return Narrow(Leaf(expr, info.type, info.phase, e.span, info.leaf));
        }
        names.push_back(info.name);
      }
      return unknown("`input`", names);
    }
    case WordKind::Output: {
      if (not_here(kOutputPaths | kEarlierOutputs, "output", "only what runs the job has `output`")) return Error();
      std::vector<std::string_view> names;
      for (uint32_t i = 0; i < scope_.job->outputs.size(); ++i) {
        OutputInfo& info = scope_.job->outputs[i];
        names.push_back(info.name);
        if (info.name != name) continue;
        if (!TemplateSees("output", name, e.span, info.span, fmt::format("output {{ {}: {} = \"…\" }}", name, Show(info.type)))) return Error(info.type);
        if (!info.type.valid() || types_.kind(info.type) == TK::Error) return Error();
        if (info.kind == ir::OutputKind::Path && (scope_.words & kOutputPaths) != 0) {
          ir::TypeId type = types_.NonNull(types_.Bare(info.type));
          return Leaf(exprs_.Add(Op::OutputPath, type, {}, place, i), type, Phase::S, e.span, e.span);
        }
        if (info.kind == ir::OutputKind::Expr && (scope_.words & kEarlierOutputs) != 0 && i < scope_.output_index) {
          return Narrow(Leaf(exprs_.Add(Op::OutputValue, types_.Bare(info.type), {}, place, i), info.type, Phase::E, e.span, e.span));
        }
        auto& d = c_.diags.Emit(e.span, diag::KnownTooLate, TextOf(e.span), Place()).Secondary(info.span, "declared here");
        if (info.kind == ir::OutputKind::Expr && (scope_.words & kEarlierOutputs) != 0) {
          d.Label("known only after this one").AddHelp(fmt::format("declare `{}` before it", name));
        } else {
          d.Label("known only when the attempt has ended").Note("`output.x` is the path of a File or Dir output declared with `= \"path\"`");
        }
        return Error(info.type);
      }
      return unknown("`output`", names);
    }
    case WordKind::Resources: {
      if (not_here(kResources, "resources", "only a job has `resources`")) return Error();
      std::vector<std::string_view> names;
      for (uint32_t i = 0; i < ir::kResourceKinds; ++i) {
        auto kind = static_cast<ir::ResourceKind>(i);
        names.push_back(ir::ResourceName(kind));
        if (names.back() != name) continue;
        ir::TypeId type = c_.ResourceType(kind);
        if (!TemplateSees("resources", name, e.span, {}, fmt::format("resources {{ {} = … }}", name))) return Error(type);
        ir::ExprId expr = exprs_.Add(Op::Resource, type, {}, place, i);
        const JobInfo::ResourceInfo& info = scope_.job->resources[i];
        return Leaf(expr, type, std::max(info.phase, Phase::P), e.span, info.leaf);
      }
      return unknown("`resources`", names);
    }
    case WordKind::Matrix: {
      if (not_here(kLoop, "matrix", "only a job with `matrix` has its axes")) return Error();
      std::vector<std::string_view> names;
      for (uint32_t i = 0; i < scope_.job->axes.size(); ++i) {
        const AxisInfo& axis = scope_.job->axes[i];
        names.push_back(axis.name);
        if (axis.name != name) continue;
        if (!TemplateSees("matrix", name, e.span, axis.span, fmt::format("matrix {{ {} = […] }}", name))) return Error(axis.type);
        if (!axis.type.valid() || types_.kind(axis.type) == TK::Error) return Error();
        return Leaf(exprs_.Add(Op::Var, types_.Bare(axis.type), {}, place, 2 + i), axis.type, Phase::P, e.span, axis.span);
      }
      auto& d = c_.diags.Emit(name_span, diag::UnknownAxis, name).Label(names.empty() ? "the job has no `matrix`" : "not one of its axes");
      Suggest(d, name, names, name_span);
      return Error();
    }
    case WordKind::Run: {
      if ((scope_.words & kRun) == 0) {
        c_.diags.Emit(SpanOf(file_.child(e, 0)), diag::NotHere, "run", Place()).Label("only `finally`, hooks and exports see the run");
        return Error();
      }
      if (name == "id") {
        NotePerRun(e.span);
        return Leaf(exprs_.Add(Op::RunField, Basic(TK::String), {}, place, static_cast<uint32_t>(ir::RunFieldKind::Id)), Basic(TK::String), Phase::R, e.span, e.span);
      }
      if (name == "status") {
        ir::TypeId type = c_.RunStatusType();
        return Leaf(exprs_.Add(Op::RunField, type, {}, place, static_cast<uint32_t>(ir::RunFieldKind::Status)), type, Phase::R, e.span, e.span);
      }
      if (name == "failed_jobs") {
        ir::TypeId type = types_.List(Basic(TK::String));
        return Leaf(exprs_.Add(Op::RunField, type, {}, place, static_cast<uint32_t>(ir::RunFieldKind::FailedJobs)), type, Phase::R, e.span, e.span);
      }
      return unknown("`run`", {"id", "status", "failed_jobs"});
    }
    case WordKind::Prev: {
      if ((scope_.words & kPrev) == 0) {
        c_.diags.Emit(SpanOf(file_.child(e, 0)), diag::NotHere, "prev", Place()).Label("only the rules of `retry` have `prev`");
        return Error();
      }
      const ast::Expr& base = Ast(file_.child(e, 0));
      bool timeout = base.kind == Kind::Member;
      static constexpr std::pair<std::string_view, ir::PrevKind> kResources[] = {
          {"cpu", ir::PrevKind::Cpu}, {"memory", ir::PrevKind::Memory}, {"disk", ir::PrevKind::Disk}, {"gpu", ir::PrevKind::Gpu}, {"spot", ir::PrevKind::Spot}};
      static constexpr std::pair<std::string_view, ir::PrevKind> kTimeouts[] = {
          {"queue", ir::PrevKind::TimeoutQueue}, {"run", ir::PrevKind::TimeoutRun}, {"idle", ir::PrevKind::TimeoutIdle}};
      std::vector<std::string_view> names;
      if (timeout) {
        for (const auto& [text, kind] : kTimeouts) {
          names.push_back(text);
          if (text == name) return Leaf(exprs_.Add(Op::Prev, Basic(TK::Duration), {}, place, static_cast<uint32_t>(kind)), Basic(TK::Duration), Phase::A, e.span, e.span);
        }
        return unknown("`prev.timeout`", names);
      }
      for (uint32_t i = 0; i < std::size(kResources); ++i) {
        names.push_back(kResources[i].first);
        if (kResources[i].first != name) continue;
        ir::TypeId type = c_.ResourceType(static_cast<ir::ResourceKind>(i));
        return Leaf(exprs_.Add(Op::Prev, type, {}, place, static_cast<uint32_t>(kResources[i].second)), type, Phase::A, e.span, e.span);
      }
      if (name == "timeout") {
        c_.diags.Emit(e.span, diag::NotAValue, "`prev.timeout`").Label("name one of its limits").AddHelp("write `prev.timeout.run`");
        return Error();
      }
      names.push_back("timeout");
      return unknown("`prev`", names);
    }
    case WordKind::Template: {
      std::vector<std::string_view> names;
      for (const TemplateArgument& argument : *scope_.template_arguments) {
        names.push_back(argument.name);
        if (argument.name != name) continue;
        const Typed& value = argument.value;
        if (!value.type.valid() || types_.kind(value.type) == TK::Error || exprs_[value.expr].op == Op::Error) return Error(value.type);
        if (types_.kind(value.type) == TK::Secret && !secret_ok) return SecretFault(e.span);
        return Narrow(Leaf(value.expr, value.type, value.phase, e.span, value.leaf));
      }
      return unknown("`template`", names);
    }
    default: return Error();
  }
}

Val ExpressionChecker::MemberOfValue(ast::ExprId id, const ast::Expr& e, Val base) {
  if (base.error || KindOf(base) == TK::Error) return Error();
  ast::ExprId base_id = file_.child(e, 0);
  std::string_view name = e.name.text;
  Span name_span = e.name.span.valid() ? e.name.span : e.op_span;
  bool optional_access = e.kind == Kind::OptMember;
  ir::TypeId inner = types_.NonNull(base.type);
  TK kind = types_.kind(inner);
  bool base_optional = types_.IsOptional(base.type);

  if (kind == TK::Json) {
    uint32_t key = exprs_.AddConstant(ir::Value::String(std::string(name)));
    return Narrow(Make(Op::JsonField, types_.Optional(Basic(TK::Json)), {&base}, e.span, key));
  }
  uint32_t field = UINT32_MAX;
  ir::TypeId type;
  std::vector<std::string_view> names;
  if (kind == TK::Struct) {
    const ir::StructDef& def = types_[ir::StructId{types_[inner].def}];
    for (uint32_t i = 0; i < def.fields.size(); ++i) {
      names.push_back(def.fields[i].name);
      if (def.fields[i].name == name) {
        field = i;
        type = def.fields[i].type;
      }
    }
  } else if (kind == TK::Pair) {
    names = {"first", "second"};
    if (name == "first") field = 0, type = types_[inner].a;
    if (name == "second") field = 1, type = types_[inner].b;
  } else {
    std::string text = TextOf(SpanOf(base_id));
    auto& d = c_.diags.Emit(name_span, diag::NoFields, Show(base.type)).Secondary(SpanOf(base_id), fmt::format("`{}`", Show(base.type)));
    if (kind == TK::Map && types_.kind(types_[inner].a) == TK::String) {
      std::string fixed = fmt::format("{}[\"{}\"]", text, name);
      d.AddHelp(fmt::format("take the value of a key:  {}", fixed), {{e.span, fixed}});
    } else if (ir::BuiltinFromName(name).has_value()) {
      std::string fixed = fmt::format("{}({})", name, text);
      d.AddHelp(fmt::format("it is a function:  {}", fixed), {{e.span, fixed}});
    } else if (kind == TK::List && types_.kind(types_[inner].a) == TK::Struct) {
      std::string fixed = fmt::format("[for x in {} : x.{}]", text, name);
      d.AddHelp(fmt::format("take it of each element:  {}", fixed), {{e.span, fixed}});
    } else if (kind == TK::List) {
      d.AddHelp("take an element first:  xs[0]");
    }
    return Error();
  }
  if (field == UINT32_MAX) {
    auto& d = c_.diags.Emit(name_span, diag::UnknownMember, fmt::format("`{}`", Show(inner)), name).Label("not one of its fields");
    Suggest(d, name, names, name_span);
    return Error();
  }
  if (!type.valid() || types_.kind(type) == TK::Error) return Error();
  type = types_.Bare(type);
  if (optional_access && base_optional) {
    return Narrow(Make(Op::OptField, types_.Optional(type), {&base}, e.span, field));
  }
  if (optional_access) {
    Span dot = e.op_span.valid() ? e.op_span : e.span;
    std::string fixed = fmt::format("{}.{}", c_.sources.Text(SpanOf(base_id)), name);
    if (exprs_[base.expr].op == Op::Narrow) {
      c_.diags.Emit(e.span, diag::NeverNull).Label("proven not null here").AddHelp("write `.`", {{e.span, fixed}});
    } else {
      c_.diags.Emit(dot, diag::NotForThisType, Show(base.type))
          .Label("`?.` is for values that may be null").AddHelp(fmt::format("write `{}`", fixed), {{e.span, fixed}});
      return Error(type);
    }
  } else if (base_optional) {
    auto& d = c_.diags.Emit(SpanOf(base_id), diag::MayBeNull).Label(fmt::format("`{}`", Show(base.type)));
    std::string fixed = fmt::format("{}?.{}", c_.sources.Text(SpanOf(base_id)), name);
    d.AddHelp(fmt::format("take the field if there is one:  {}", fixed), {{e.span, fixed}});
    ExplainNull(d, base, base_id, {});
    return Error(type);
  }
  return Narrow(Make(Op::Field, type, {&base}, e.span, field));
}

ir::TypeId Checker::ResourceType(ir::ResourceKind kind) const {
  switch (kind) {
    case ir::ResourceKind::Cpu: return types.Basic(ir::TypeKind::Float);
    case ir::ResourceKind::Memory: case ir::ResourceKind::Disk: return types.Basic(ir::TypeKind::Bytes);
    case ir::ResourceKind::Gpu: return types.Basic(ir::TypeKind::Int);
    case ir::ResourceKind::Spot: return types.Basic(ir::TypeKind::Bool);
  }
  JOBC_UNREACHABLE();
}

ir::TypeId Checker::RunStatusType() {
  if (!run_status_type.valid()) {
    run_status_type = types.Enum(types.AddEnum({.name = "RunStatus", .cases = {"succeeded", "failed", "interrupted", "timed_out"}}));
  }
  return run_status_type;
}

}  // namespace jobc::check
