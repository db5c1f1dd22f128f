// On-demand resolution of declarations: constants, functions, parameters, types, and the signatures of jobs.
// Each may need others first; meeting one that is being resolved is a cycle (E301).
#include <algorithm>
#include <fmt/format.h>

#include "compiler/check/declarations.h"

namespace jobc::check {
namespace {

/// One more than the highest frame slot that `expr` uses.
uint32_t FrameSize(const ir::ExprPool& pool, ir::ExprId expr, uint32_t least) {
  const ir::Expr& e = pool[expr];
  uint32_t size = least;
  if (e.op == ir::Op::Local) size = std::max(size, e.a + 1);
  if (e.op == ir::Op::ListFor || e.op == ir::Op::MapFor) size = std::max(size, e.a + e.b);
  for (uint32_t i = 0; i < e.args.size; ++i) size = std::max(size, FrameSize(pool, pool.arg(e, i), least));
  return size;
}

/// Marks a declaration as being resolved for as long as it lives.
class Resolving {
 public:
  Resolving(Checker& checker, std::string name, bool is_job = false) : d_(*checker.declarations), is_job_(is_job) {
    if (!is_job_) ++d_.references_inside;
    d_.resolving.push_back(std::move(name));
    d_.resolving_depth.push_back(0);
  }
  ~Resolving() {
    if (!is_job_) --d_.references_inside;
    d_.resolving.pop_back();
    d_.resolving_depth.pop_back();
  }
  /// What is being resolved around it, if anything.
  uint32_t* around() const { return d_.resolving_depth.size() > 1 ? &d_.resolving_depth[d_.resolving_depth.size() - 2] : nullptr; }
  /// One more than the deepest of what it refers to.
  uint32_t depth() const { return d_.resolving_depth.back() + 1; }

 private:
  Declarations& d_;
  const bool is_job_;
};

/// Far more than people need, and little enough for the stack of everything that follows references.
constexpr unsigned kMaxReferenceDepth = 400;
/// Jobs that are declared above what they need are resolved inside each other.
constexpr unsigned kMaxJobDepth = 20'000;

/// Whatever is being resolved refers to something so deep.
void NoteDepth(Checker& checker, uint32_t depth) {
  std::vector<uint32_t>& depths = checker.declarations->resolving_depth;
  if (!depths.empty()) depths.back() = std::max(depths.back(), depth);
}

/// Constants and functions may build on each other, but everything that follows them recurses.
bool TooDeep(Checker& checker, const Resolving& resolving, Span span) {
  if (resolving.depth() <= kMaxReferenceDepth && checker.declarations->references_inside <= kMaxReferenceDepth) return false;
  checker.diags.Emit(span, diag::ReferencesTooDeep, kMaxReferenceDepth)
      .Label("builds on so many others, one after the other")
      .AddHelp("use fewer steps: a list or map with a comprehension, a struct instead of a chain of types");
  return true;
}

void ReportCycle(Checker& checker, Span span, const std::string& name) {
  checker.diags.Emit(span, diag::DefinedByItself, name, CyclePath(checker.declarations->resolving, name))
      .Label("needs its own value")
      .AddHelp("break the circle: give one of them a value that does not use the others");
}

std::string_view Text(const ast::Name& name) { return name.text; }

}  // namespace

const LetInfo& Checker::ResolveLet(uint32_t index) {
  LetInfo& info = lets[index];
  if (info.progress == Progress::Done) {
    NoteDepth(*this, info.depth);
    return info;
  }
  const ast::Item& item = (*info.unit->file)[info.item];
  std::string name = info.unit->prefix + std::string(Text(item.name));
  if (info.progress == Progress::Running) {
    ReportCycle(*this, item.name.span, name);
    info.type = types.Basic(ir::TypeKind::Error);
    if (info.program_index == UINT32_MAX) {
      info.program_index = static_cast<uint32_t>(program.lets.size());
      program.lets.push_back({name, ErrorExpr(), false});
    }
    info.progress = Progress::Done;
    return info;
  }
  info.progress = Progress::Running;
  Resolving resolving(*this, name);
  if (TooDeep(*this, resolving, item.name.span)) {
    info.type = types.Basic(ir::TypeKind::Error);
    info.program_index = static_cast<uint32_t>(program.lets.size());
    program.lets.push_back({name, ErrorExpr(), false});
    info.progress = Progress::Done;
    return info;
  }
  Scope scope;
  scope.unit = info.unit;
  scope.place = "a constant";
  // Anything may use a constant, so what differs from run to run must be said where it is used.
  scope.allow_per_run = false;
  scope.latest = Phase::S;
  ir::TypeId declared;
  if (item.type.valid()) declared = ResolveType(item.type, *info.unit);
  Typed value{ErrorExpr(), types.Basic(ir::TypeKind::Error), Phase::C, {}};
  if (item.value.valid()) {
    value = CheckExpr(item.value, scope, declared);
    if (!declared.valid() && types.kind(value.type) == ir::TypeKind::Null) {
      diags.Emit((*info.unit->file)[item.value].span, diag::NotA, "a value whose type is known", "`null`")
          .Label("null of which type?")
          .AddHelp(fmt::format("write the type:  let {}: String? = null", Text(item.name)));
    } else if (!declared.valid()) {
      RequireStorable(value, (*info.unit->file)[item.value].span);
    }
  }
  if (lets[index].progress == Progress::Done) return lets[index];  // a cycle was found below
  LetInfo& done = lets[index];
  done.program_index = static_cast<uint32_t>(program.lets.size());
  program.lets.push_back({name, value.expr, value.phase <= Phase::P});
  done.type = declared.valid() ? types.Bare(declared) : value.type;
  done.phase = value.phase;
  done.leaf = value.leaf;
  done.progress = Progress::Done;
  done.depth = resolving.depth();
  if (TooDeep(*this, resolving, item.name.span)) {
    program.lets[done.program_index].value = ErrorExpr();
    done.type = types.Basic(ir::TypeKind::Error);
    done.depth = 0;
  }
  if (uint32_t* around = resolving.around()) *around = std::max(*around, done.depth);
  return done;
}

const FnInfo& Checker::ResolveFn(uint32_t index) {
  FnInfo& info = fns[index];
  if (info.progress == Progress::Done) {
    NoteDepth(*this, info.depth);
    return info;
  }
  const ast::File& file = *info.unit->file;
  const ast::Item& item = file[info.item];
  std::string name = info.unit->prefix + std::string(Text(item.name));
  if (info.progress == Progress::Running) {
    ReportCycle(*this, item.name.span, name);
    info.progress = Progress::Done;
    return info;
  }
  info.progress = Progress::Running;
  Resolving resolving(*this, name);
  Scope scope;
  scope.unit = info.unit;
  scope.place = "a function";
  scope.latest = Phase::P;
  scope.allow_secret = true;
  for (const ast::ItemId* id = file.begin(item.children); id != file.end(item.children); ++id) {
    const ast::Item& param = file[*id];
    if (param.kind != ast::ItemKind::Field) continue;
    if (IsScopeWord(Text(param.name)) || info.unit->values.count(llvm::StringRef(Text(param.name).data(), Text(param.name).size())) != 0) {
      diags.Emit(param.name.span, diag::ReservedName, Text(param.name))
          .Label("already means something in this file")
          .AddHelp("there is no shadowing: use another name");
    }
    for (std::string_view earlier : info.param_names) {
      if (earlier == Text(param.name)) diags.Emit(param.name.span, diag::DeclaredTwice, Text(param.name)).Label("second parameter of this name").AddHelp("give one of them another name");
    }
    ir::TypeId type = param.type.valid() ? ResolveType(param.type, *info.unit) : types.Basic(ir::TypeKind::Error);
    info.param_names.push_back(Text(param.name));
    info.param_types.push_back(type);
    LocalName local;
    local.name = param.name;
    local.type = types.Bare(type);
    local.slot = scope.next_slot++;
    scope.locals.push_back(local);
  }
  info.result = item.type.valid() ? ResolveType(item.type, *info.unit) : types.Basic(ir::TypeKind::Error);
  info.program_index = static_cast<uint32_t>(program.fns.size());
  program.fns.push_back({name, static_cast<uint32_t>(info.param_names.size()), 0, ErrorExpr()});
  if (TooDeep(*this, resolving, item.name.span)) {
    info.result = types.Basic(ir::TypeKind::Error);
    info.progress = Progress::Done;
    return info;
  }
  if (item.value.valid()) {
    Typed body = CheckExpr(item.value, scope, info.result);
    FnInfo& done = fns[index];
    done.phase = body.phase;
    done.leaf = body.leaf;
    program.fns[done.program_index].body = body.expr;
    program.fns[done.program_index].locals = FrameSize(exprs, body.expr, static_cast<uint32_t>(done.param_names.size()));
  }
  FnInfo& done = fns[index];
  done.progress = Progress::Done;
  done.depth = resolving.depth();
  if (TooDeep(*this, resolving, item.name.span)) {
    program.fns[done.program_index].body = ErrorExpr();
    done.result = types.Basic(ir::TypeKind::Error);
    done.depth = 0;
  }
  if (uint32_t* around = resolving.around()) *around = std::max(*around, done.depth);
  return done;
}

ParamInfo& Checker::ResolveParam(uint32_t index) {
  ParamInfo& info = params[index];
  if (info.progress == Progress::Done) return info;
  const ast::File& file = *info.unit->file;
  const ast::Item& item = file[info.item];
  const std::string name = info.unit->prefix + "params." + std::string(Text(item.name));
  if (info.progress == Progress::Running) {
    ReportCycle(*this, item.name.span, name);
    return info;
  }
  info.progress = Progress::Running;
  Resolving resolving(*this, name);
  struct Finish {
    Checker& checker;
    uint32_t index;
    ~Finish() { checker.params[index].progress = Progress::Done; }
  } finish{*this, index};
  info.type = item.type.valid() ? ResolveType(item.type, *info.unit) : types.Basic(ir::TypeKind::Error);
  const ir::TypeId type = info.type;
  Scope scope;
  scope.unit = info.unit;
  scope.words = kBareParams;
  scope.latest = Phase::P;
  scope.place = "the default of a parameter";
  if (info.unit == units.front().get()) {
    if (types.HasSecret(type)) {
      diags.Emit(item.name.span, diag::SecretParam, Text(item.name))
          .Label("the command line and its history are no place for a secret")
          .AddHelp(fmt::format("read it from the environment:  secret {} = env(\"NAME\")", Text(item.name)));
    }
    info.root_index = static_cast<uint32_t>(program.params.size());
    ir::Param param;
    param.name = std::string(Text(item.name));
    param.type = type;
    param.doc = item.doc;
    program.params.push_back(std::move(param));
    model.param_spans.push_back(item.name.span);
    if (item.value.valid()) {
      Typed fallback = CheckExpr(item.value, scope, type);
      program.params[params[index].root_index].fallback = fallback.expr;
    }
    return params[index];
  }
  const ModuleInfo* module = nullptr;
  for (const ModuleInfo& candidate : modules) {
    if (candidate.inner == info.unit) module = &candidate;
  }
  if (module == nullptr) {
    diags.Emit(item.name.span, diag::ModuleParamUnset, Text(item.name))
        .Label("used by something that is imported without instantiating the file")
        .AddHelp("instantiate the file:  module NAME = IMPORT { … }");
    info.phase = Phase::C;
    info.bound = ErrorExpr();
    return info;
  }
  const ast::File& outer = *module->outer->file;
  const ast::Item& module_item = outer[module->item];
  const ast::Item* argument = nullptr;
  for (const ast::ItemId* id = outer.begin(module_item.children); id != outer.end(module_item.children); ++id) {
    if (outer[*id].kind == ast::ItemKind::Attr && outer[*id].name.text == Text(item.name)) argument = &outer[*id];
  }
  Typed value{ErrorExpr(), types.Basic(ir::TypeKind::Error), Phase::C, {}};
  if (argument != nullptr) {
    Scope at;
    at.unit = module->outer;
    at.latest = Phase::S;
    at.place = "the argument of a module";
    at.allow_secret = true;
    value = CheckExpr(argument->value, at, type);
  } else if (item.value.valid()) {
    value = CheckExpr(item.value, scope, type);
  } else {
    diags.Emit(module_item.name.span, diag::MissingArgument, Text(item.name))
        .Label("instantiated without it")
        .Secondary(item.name.span, "declared here")
        .AddHelp(fmt::format("add:  {} = …", Text(item.name)));
  }
  ParamInfo& done = params[index];
  done.phase = value.phase;
  done.leaf = value.leaf;
  program.lets.push_back({done.unit->prefix + "params." + std::string(Text(item.name)), value.expr, value.phase <= Phase::P});
  done.bound = exprs.Add(ir::Op::Let, types.Bare(type), static_cast<uint32_t>(program.lets.size() - 1), 0, nullptr, 0, PlaceOf(item.name.span));
  return done;
}

ir::TypeId Checker::ResolveTypeSymbol(const Symbol& symbol) {
  TypeInfo& info = type_infos[symbol.index];
  if (info.progress == Progress::Done) return info.type;
  const ast::File& file = *info.unit->file;
  const ast::Item& item = file[info.item];
  ast::Name name = item.name;
  if (symbol.kind == SymbolKind::Struct) {
    for (const ast::Label& label : item.labels) {
      if (!label.path.empty()) {
        name = label.path.front();
        break;
      }
    }
  }
  if (info.progress == Progress::Running) {
    ReportCycle(*this, name.span, std::string(Text(name)));
    info.type = types.Basic(ir::TypeKind::Error);
    info.progress = Progress::Done;
    return info.type;
  }
  info.progress = Progress::Running;
  Resolving resolving(*this, std::string(Text(name)));
  ir::TypeId result = types.Basic(ir::TypeKind::Error);
  if (TooDeep(*this, resolving, name.span)) {
    info.type = result;
    info.progress = Progress::Done;
    return info.type;
  }
  if (symbol.kind == SymbolKind::Alias) {
    if (item.type.valid()) result = ResolveType(item.type, *info.unit);
  } else if (symbol.kind == SymbolKind::Enum) {
    ir::EnumDef def;
    def.name = std::string(Text(name));
    std::vector<Span> spans;
    for (const ast::ItemId* id = file.begin(item.children); id != file.end(item.children); ++id) {
      if (file[*id].kind != ast::ItemKind::Case) continue;
      std::string text(Text(file[*id].name));
      auto known = std::find(def.cases.begin(), def.cases.end(), text);
      if (known != def.cases.end()) {
        diags.Emit(file[*id].name.span, diag::DeclaredTwice, text).Label("second case of this name").Secondary(spans[known - def.cases.begin()], "the first one").AddHelp("give one of them another name");
        continue;
      }
      def.cases.push_back(std::move(text));
      spans.push_back(file[*id].name.span);
    }
    if (def.cases.empty()) {
      diags.Emit(item.keyword, diag::MissingAttribute, fmt::format("`enum {}`", Text(name)), "a case").Label("an enum has at least one case");
      def.cases.push_back("_");
    }
    result = types.Enum(types.AddEnum(std::move(def)));
  } else {
    ir::StructDef def;
    def.name = std::string(Text(name));
    def.open = item.open;
    std::vector<Span> spans;
    for (const ast::ItemId* id = file.begin(item.children); id != file.end(item.children); ++id) {
      const ast::Item& field_item = file[*id];
      if (field_item.kind == ast::ItemKind::Error) continue;
      if (field_item.kind != ast::ItemKind::Field) {
        diags.Emit(field_item.keyword, diag::MisplacedItem, "this item", "a struct").Label("a field is written `name: Type`");
        continue;
      }
      std::string text(Text(field_item.name));
      bool twice = false;
      for (size_t i = 0; i < def.fields.size(); ++i) {
        if (def.fields[i].name != text) continue;
        diags.Emit(field_item.name.span, diag::DeclaredTwice, text).Label("second field of this name").Secondary(spans[i], "the first one").AddHelp("give one of them another name");
        twice = true;
      }
      if (twice) continue;
      ir::Field field;
      field.name = std::move(text);
      field.doc = field_item.doc;
      field.type = field_item.type.valid() ? ResolveType(field_item.type, *info.unit) : types.Basic(ir::TypeKind::Error);
      if (field_item.value.valid()) {
        Scope scope;
        scope.unit = info.unit;
        scope.latest = Phase::C;
        scope.place = "the default of a field";
        field.fallback = Fold(CheckExpr(field_item.value, scope, field.type), file[field_item.value].span).expr;
      }
      spans.push_back(field_item.name.span);
      def.fields.push_back(std::move(field));
    }
    result = types.Struct(types.AddStruct(std::move(def)));
  }
  TypeInfo& done = type_infos[symbol.index];
  if (done.progress != Progress::Done) done.type = result;  // not where a cycle was reported
  done.progress = Progress::Done;
  return done.type;
}

// ---- signatures of jobs ----

namespace {

const TemplateInfo* FindTemplate(Checker& c, Unit& unit, const ast::Label& label) {
  Declarations& d = *c.declarations;
  Unit* where = &unit;
  if (label.path.size() == 2) {
    const ast::Name& import = label.path[0];
    auto found = unit.values.find(llvm::StringRef(import.text.data(), import.text.size()));
    if (found == unit.values.end() || found->second.kind != SymbolKind::Import) {
      std::vector<std::string_view> names;
      for (const auto& entry : unit.values) {
        if (entry.second.kind == SymbolKind::Import) names.push_back({entry.first().data(), entry.first().size()});
      }
      auto& diagnostic = c.diags.Emit(import.span, diag::UnknownImport, import.text).Label("not imported");
      std::string_view like = DidYouMean(import.text, names);
      if (!like.empty()) diagnostic.AddHelp(fmt::format("did you mean `{}`?", like), {{import.span, std::string(like)}});
      return nullptr;
    }
    found->second.used = true;
    where = d.imports[found->second.index].library;
    if (where == nullptr) return nullptr;
  } else if (label.path.size() != 1) {
    c.diags.Emit(label.span, diag::NotA, "the name of a template", "something else").Label("write `uses NAME` or `uses IMPORT.NAME`");
    return nullptr;
  }
  const ast::Name& name = label.path.back();
  auto found = where->templates.find(llvm::StringRef(name.text.data(), name.text.size()));
  if (found == where->templates.end()) {
    std::vector<std::string_view> names;
    for (const auto& entry : where->templates) names.push_back({entry.first().data(), entry.first().size()});
    std::sort(names.begin(), names.end());
    auto& diagnostic = c.diags.Emit(name.span, diag::UnknownTemplate, name.text).Label("not declared");
    std::string_view like = DidYouMean(name.text, names);
    if (!like.empty()) diagnostic.AddHelp(fmt::format("did you mean `{}`?", like), {{name.span, std::string(like)}});
    else diagnostic.AddHelp(fmt::format("declare it:  template {} {{ … }}", name.text));
    return nullptr;
  }
  found->second.used = true;
  return &d.templates[found->second.index];
}

const ast::Label* UsesLabel(const ast::Item& item) {
  for (size_t i = 0; i + 1 < item.labels.size(); ++i) {
    if (!item.labels[i].is_string && item.labels[i].path.size() == 1 && item.labels[i].path[0].text == "uses") return &item.labels[i + 1];
  }
  return nullptr;
}

/// `job NAME`, `job NAME uses TEMPLATE`, the same with `finally NAME` and `hook on EVENT`; a check has a name only.
void CheckLabels(Checker& c, const ast::Item& item, ir::JobKind kind) {
  const size_t head = kind == ir::JobKind::Hook ? 2 : 1;
  const bool takes_template = kind != ir::JobKind::Check;
  if (item.labels.size() <= head) return;
  const ast::Label& second = item.labels[head];
  const bool uses = !second.is_string && second.path.size() == 1 && second.path[0].text == "uses";
  if (!uses || (takes_template && item.labels.size() > head + 2)) {
    const ast::Label& extra = uses ? item.labels[head + 2] : second;
    auto& d = c.diags.Emit(extra.span, diag::MisplacedItem, fmt::format("`{}`", c.sources.Text(extra.span)), fmt::format("the head of `{}`", item.name.text));
    d.Label(uses ? "`uses` takes one template" : "expected `{`");
    if (uses) d.AddHelp("a template may itself use another one");
    else if (takes_template) d.AddHelp(fmt::format("to use a template write:  uses {}", c.sources.Text(extra.span)));
    return;
  }
  if (!takes_template) {
    c.diags.Emit(second.span, diag::MisplacedItem, "`uses`", fmt::format("the head of `{}`", item.name.text)).Label("a check has nothing that a template could say");
  } else if (item.labels.size() == head + 1) {
    c.diags.Emit(second.span, diag::MissingAttribute, "`uses`", "the name of a template").Label("uses which template?").AddHelp("for example:  job align uses base { … }");
  }
}

void AddTemplateLayers(Checker& c, JobDecl& decl, Unit& unit, const ast::Label& label, Layers& layers);

/// Appends the layers of the template and of those it uses itself, base first. `span`: where it is named.
void AddLayersOf(Checker& c, JobDecl& decl, uint32_t index, Span span, const std::string& name, Layers& layers) {
  TemplateInfo& info = c.declarations->templates[index];
  const ast::Item& item = (*info.unit->file)[info.item];
  if (info.progress == Progress::Running) {
    ReportCycle(c, span, name);
    return;
  }
  info.progress = Progress::Running;
  {
    Resolving resolving(c, name);
    if (TooDeep(c, resolving, item.name.span)) {
      info.progress = Progress::Untouched;
      return;
    }
    if (const ast::Label* uses = UsesLabel(item)) AddTemplateLayers(c, decl, *info.unit, *uses, layers);
  }
  info.progress = Progress::Untouched;
  decl.uses.push_back({index, {}});
  Layer layer;
  layer.unit = info.unit;
  layer.items = item.children;
  layer.kind = LayerKind::Template;
  layer.use = &decl.uses.back();
  layer.span = item.keyword;
  layers.push_back(layer);
}

void AddTemplateLayers(Checker& c, JobDecl& decl, Unit& unit, const ast::Label& label, Layers& layers) {
  const TemplateInfo* found = FindTemplate(c, unit, label);
  if (found == nullptr) {
    Layer missing;
    missing.unit = &unit;
    missing.kind = LayerKind::Template;
    missing.missing = true;
    layers.push_back(missing);
    return;
  }
  auto index = static_cast<uint32_t>(0);
  for (uint32_t i = 0; i < c.declarations->templates.size(); ++i) {
    if (&c.declarations->templates[i] == found) index = i;
  }
  AddLayersOf(c, decl, index, label.path.back().span, std::string(label.path.back().text), layers);
}

bool IsGlob(const ast::File& file, ast::ExprId expr) {
  return expr.valid() && file[expr].kind == ast::ExprKind::Call && file[expr].name.text == "glob";
}

void ResolveOutputs(Checker& c, JobInfo& job, const Merged& merged) {
  static constexpr std::string_view kTaken[] = {"ok", "done", "failed", "attempts", "duration", "result", "count", "ok_ratio", "key"};
  const MergedBlock* block = merged.Block("output");
  if (block == nullptr) return;
  Merged fields = Merge(c, block->layers, 0);
  for (const MergedBlock& inner : fields.blocks) {
    c.diags.Emit(inner.layers.back().span, diag::MisplacedItem, fmt::format("the block `{}`", inner.name), "`output`").Label("expected name: Type");
  }
  for (const MergedItem& attr : fields.attrs) {
    c.diags.Emit(attr.last().item->keyword, diag::MisplacedItem, fmt::format("`{} = …`", attr.name), "`output`")
        .Label("an output needs its type")
        .AddHelp(fmt::format("write `{}: File = …`, `{}: Int` or another type", attr.name, attr.name));
  }
  for (const MergedItem& field : fields.fields) {
    const Placed& placed = field.last();
    const ast::Item& item = *placed.item;
    const ast::File& file = *placed.unit()->file;
    if (std::find(std::begin(kTaken), std::end(kTaken), field.name) != std::end(kTaken)) {
      c.diags.Emit(item.name.span, diag::ReservedName, field.name)
          .Label(fmt::format("`{}.{}` is the status of the job", job.name.text, field.name))
          .AddHelp("use another name for the output");
    }
    OutputInfo info;
    info.name = field.name;
    info.span = item.name.span;
    info.type = item.type.valid() ? c.ResolveType(item.type, *placed.unit()) : c.types.Basic(ir::TypeKind::Error);
    if (item.type.valid()) info.type_span = file[item.type].span;
    ir::TypeId plain = c.types.NonNull(info.type);
    ir::TypeKind kind = c.types.kind(plain);
    const bool is_file = kind == ir::TypeKind::File || kind == ir::TypeKind::Dir;
    const bool is_files = kind == ir::TypeKind::List && (c.types.kind(c.types[plain].a) == ir::TypeKind::File || c.types.kind(c.types[plain].a) == ir::TypeKind::Dir);
    if (!item.value.valid()) {
      info.kind = ir::OutputKind::Json;
    } else if (IsGlob(file, item.value)) {
      info.kind = ir::OutputKind::Glob;
      if (!is_files && kind != ir::TypeKind::Error) {
        c.diags.Emit(info.type_span, diag::NotA, "`List<File>` or `List<Dir>` for `glob`", fmt::format("`{}`", c.types.Show(info.type)))
            .Label("a glob gives a list of files")
            .AddHelp("write `List<File>`", {{info.type_span, "List<File>"}});
      }
    } else if (is_file) {
      info.kind = ir::OutputKind::Path;
    } else if (is_files) {
      info.kind = ir::OutputKind::Glob;
      c.diags.Emit(file[item.value].span, diag::NotA, "`glob(\"…\")`", "a value")
          .Label("files of an output are captured from the working directory")
          .AddHelp("write `glob(\"pattern\")`");
    } else {
      info.kind = ir::OutputKind::Expr;
    }
    if (c.types.HasSecret(info.type)) {
      c.diags.Emit(info.type_span, diag::SecretOutput, field.name)
          .Label("outputs are stored and shown")
          .AddHelp("a secret can only be passed on through `env` or `secret_files`");
    }
    job.outputs.push_back(info);
  }
}

/// What makes outputs null without failing the run: `when`, `ignore`, `after` with `.failed` or on such a job.
void ResolveNullability(Checker& c, JobInfo& job, const Merged& merged) {
  if (const Placed* strategy = merged.Attr("on_error")) {
    const ast::File& file = *strategy->unit()->file;
    const ast::Expr& value = file[strategy->item->value];
    if (value.kind == ast::ExprKind::Name && value.name.text == "ignore") {
      job.nullable = true;
      job.nullable_span = strategy->item->span;
      job.nullable_label = fmt::format("because of this, a failed `{}` leaves its outputs null", job.name.text);
    }
  }
  if (const Placed* when = merged.Attr("when")) {
    job.nullable = true;
    job.nullable_span = when->item->span;
    job.nullable_label = fmt::format("because of this, a skipped `{}` leaves its outputs null", job.name.text);
  }
  const Placed* after = merged.Attr("after");
  if (after == nullptr) return;
  const ast::File& file = *after->unit()->file;
  const ast::Expr& list = file[after->item->value];
  if (list.kind != ast::ExprKind::List) return;
  for (uint32_t i = 0; i < list.entries.size; ++i) {
    const ast::ExprId id = file.entries[list.entries.begin + i].value;
    if (!id.valid()) continue;
    const ast::Expr* e = &file[id];
    std::string_view status;
    if (e->kind == ast::ExprKind::Member) {
      status = e->name.text;
      ast::ExprId base = file.child(*e, 0);
      if (base.valid()) e = &file[base];
    }
    if (status == "failed") {
      job.nullable = true;
      job.nullable_span = file[id].span;
      job.nullable_label = fmt::format("because of this, `{}` may be skipped and leave its outputs null", job.name.text);
      return;
    }
    if (!status.empty()) continue;
    if (e->kind == ast::ExprKind::Index && file.child(*e, 0).valid()) e = &file[file.child(*e, 0)];
    if (e->kind != ast::ExprKind::Name) continue;
    auto found = after->unit()->values.find(llvm::StringRef(e->name.text.data(), e->name.text.size()));
    if (found == after->unit()->values.end()) continue;
    std::vector<uint32_t> upstreams;
    if (found->second.kind == SymbolKind::Job || found->second.kind == SymbolKind::Check) {
      upstreams.push_back(found->second.index);
    } else if (found->second.kind == SymbolKind::Module) {
      const Unit* inner = c.modules[found->second.index].inner;
      for (const JobInfo& candidate : c.jobs) {
        for (const Unit* u = candidate.unit; u != nullptr; u = u->parent) {
          if (u == inner && inner != nullptr) upstreams.push_back(candidate.index);
        }
      }
    }
    for (uint32_t index : upstreams) {
      if (c.jobs[index].progress == Progress::Running) continue;  // the cycle is reported with the dependencies
      const JobInfo& upstream = c.ResolveJob(index);
      if (!upstream.nullable) continue;
      job.nullable = true;
      job.nullable_span = file[id].span;
      job.nullable_label = fmt::format("`{}` may be skipped, then `{}` is too and its outputs are null", upstream.address, job.name.text);
      return;
    }
  }
}

void ResolveDomain(Checker& c, JobInfo& job, JobDecl& decl, ir::Domain& domain) {
  if (decl.merged.for_item) {
    const Placed& placed = decl.merged.for_item;
    const ast::Item& item = *placed.item;
    const ast::File& file = *placed.unit()->file;
    job.has_for = true;
    job.for_name = item.name;
    job.for_name2 = item.name2;
    domain.name = std::string(item.name.text);
    domain.two_names = item.name2.valid();
    if (domain.two_names) domain.name2 = std::string(item.name2.text);
    for (const ast::Name& name : {item.name, item.name2}) {
      if (!name.valid()) continue;
      auto found = placed.unit()->values.find(llvm::StringRef(name.text.data(), name.text.size()));
      if (IsScopeWord(name.text) || found != placed.unit()->values.end()) {
        auto& d = c.diags.Emit(name.span, diag::ReservedName, name.text)
                      .Label("already means something here")
                      .AddHelp("there is no shadowing: use another name for the loop variable");
        if (found != placed.unit()->values.end()) d.Secondary(found->second.span, "declared here");
      }
    }
    Scope scope;
    scope.unit = placed.unit();
    scope.place = "`for`";
    scope.allow_per_run = false;
    if (placed.layer->use != nullptr) scope.template_arguments = &placed.layer->use->arguments;
    scope.latest = Phase::S;
    Typed list = c.CheckExpr(item.value, scope);
    domain.list = list.expr;
    job.for_phase = list.phase;
    job.for_leaf = list.leaf;
    domain.dynamic = list.phase > Phase::P;
    job.dynamic = domain.dynamic;
    const ir::TypeNode& node = c.types[list.type];
    const ir::TypeId error = c.types.Basic(ir::TypeKind::Error);
    const ir::TypeId integer = c.types.Basic(ir::TypeKind::Int);
    job.for_type = job.for_type2 = error;
    switch (node.kind) {
      case ir::TypeKind::List:
        if (domain.two_names && c.types.kind(node.a) == ir::TypeKind::Pair) {
          job.for_type = c.types[node.a].a;
          job.for_type2 = c.types[node.a].b;
        } else if (domain.two_names) {
          job.for_type = integer;
          job.for_type2 = node.a;
        } else {
          job.for_type = node.a;
        }
        break;
      case ir::TypeKind::Map:
        if (domain.two_names) {
          job.for_type = node.a;
          job.for_type2 = node.b;
        } else {
          c.diags.Emit(item.name.span, diag::NotA, "two names for the key and the value", "one name")
              .Label("a map has keys and values")
              .AddHelp(fmt::format("write `for k, {} in …`", item.name.text));
        }
        break;
      case ir::TypeKind::Range: job.for_type = integer; break;
      case ir::TypeKind::Error: break;
      default:
        c.diags.Emit(file[item.value].span, diag::NotA, "a list, a map or a range", fmt::format("`{}`", c.types.Show(list.type))).Label("cannot be iterated");
        break;
    }
    domain.type = job.for_type;
    domain.type2 = job.for_type2;
    if (item.value3.valid()) {
      Scope constant;
      constant.unit = placed.unit();
      constant.place = "`max`";
      constant.latest = Phase::C;
      Typed max = c.CheckExpr(item.value3, constant, integer);
      if (std::optional<ir::Value> value = c.Constant(max, file[item.value3].span); value && value->kind() == ir::ValueKind::Int) {
        if (value->as_int() < 1) {
          c.diags.Emit(file[item.value3].span, diag::OutOfRange, "max", "at least 1", std::to_string(value->as_int())).Label("nothing could ever run");
        } else {
          domain.max = static_cast<uint64_t>(value->as_int());
        }
      }
    } else if (domain.dynamic) {
      Span end{item.span.source, item.span.end, item.span.end};
      c.diags.Emit(file[item.value].span, diag::UnboundedScatter)
          .Label("how many instances there will be is not known before the run")
          .Secondary(list.leaf, "known only when this job has ended")
          .AddHelp("say how many there can be at most:  for … in … max 100", {{end, " max 100"}});
    }
    job.key_type = integer;
    domain.key_kind = ir::KeyKind::Index;
    if (item.value2.valid()) {
      Scope key;
      key.unit = placed.unit();
      key.job = &job;
      key.words = kLoop;
      key.place = "`key`";
      if (placed.layer->use != nullptr) key.template_arguments = &placed.layer->use->arguments;
      key.latest = Phase::P;
      Phase real = job.for_phase;
      if (job.dynamic) job.for_phase = Phase::P;  // repeated when the scatter is expanded
      Typed checked = c.CheckExpr(item.value2, key);
      job.for_phase = real;
      domain.key = checked.expr;
      job.key_type = checked.type;
      switch (c.types.kind(checked.type)) {
        case ir::TypeKind::String: domain.key_kind = ir::KeyKind::String; break;
        case ir::TypeKind::Int: domain.key_kind = ir::KeyKind::Int; break;
        case ir::TypeKind::Enum: domain.key_kind = ir::KeyKind::Enum; break;
        case ir::TypeKind::Error: break;
        case ir::TypeKind::File:
        case ir::TypeKind::Dir:
          c.diags.Emit(file[item.value2].span, diag::NotA, "a String, Int or enum as key", fmt::format("`{}`", c.types.Show(checked.type)))
              .Label("a path is no key: it may differ from machine to machine")
              .AddHelp(fmt::format("use the name without its extension:  key stem({})", c.sources.Text(file[item.value2].span)));
          job.key_type = error;
          break;
        default:
          c.diags.Emit(file[item.value2].span, diag::NotA, "a String, Int or enum as key", fmt::format("`{}`", c.types.Show(checked.type)))
              .Label("cannot be a key");
          job.key_type = error;
          break;
      }
    }
    domain.key_type = job.key_type;
  }
  const MergedBlock* matrix = decl.merged.Block("matrix");
  if (matrix == nullptr) return;
  // `matrix` replaces as a whole: only the highest layer counts.
  Layers top{matrix->layers.back()};
  Merged axes = Merge(c, top, kMatrix);
  for (const MergedBlock& inner : axes.blocks) {
    c.diags.Emit(inner.layers.back().span, diag::MisplacedItem, fmt::format("the block `{}`", inner.name), "`matrix`").Label("expected axis = [values]");
  }
  for (const MergedItem& field : axes.fields) {
    c.diags.Emit(field.last().item->keyword, diag::WrongShape, field.name, fmt::format("{} = […]", field.name)).Label("an axis is set, not declared");
  }
  const Placed* exclude = nullptr;
  for (const MergedItem& attr : axes.attrs) {
    const Placed& placed = attr.last();
    if (attr.name == "exclude") {
      exclude = &placed;
      continue;
    }
    const ast::File& file = *placed.unit()->file;
    Scope scope;
    scope.unit = placed.unit();
    scope.place = "an axis of `matrix`";
    if (placed.layer->use != nullptr) scope.template_arguments = &placed.layer->use->arguments;
    scope.latest = Phase::P;
    Typed values = c.CheckExpr(placed.item->value, scope);
    ir::TypeId element = c.types.Basic(ir::TypeKind::Error);
    Span span = file[placed.item->value].span;
    if (c.types.kind(values.type) == ir::TypeKind::List) {
      element = c.types[values.type].a;
      switch (c.types.kind(element)) {
        case ir::TypeKind::String: case ir::TypeKind::Int: case ir::TypeKind::Bool: case ir::TypeKind::Enum: case ir::TypeKind::Error: break;
        default:
          c.diags.Emit(span, diag::NotA, "a list of String, Int, Bool or enum values", fmt::format("`{}`", c.types.Show(values.type))).Label("cannot be an axis");
          element = c.types.Basic(ir::TypeKind::Error);
      }
    } else if (c.types.kind(values.type) == ir::TypeKind::Range) {
      element = c.types.Basic(ir::TypeKind::Int);
    } else if (c.types.kind(values.type) != ir::TypeKind::Error) {
      c.diags.Emit(span, diag::NotA, "a list", fmt::format("`{}`", c.types.Show(values.type)))
          .Label("an axis is a list of values")
          .AddHelp(fmt::format("write `{} = [{}]`", attr.name, c.sources.Text(span)), {{span, fmt::format("[{}]", c.sources.Text(span))}});
    }
    if (values.phase == Phase::C && c.exprs[values.expr].op != ir::Op::Error) {
      if (std::optional<ir::Value> constant = c.Constant(values, span); constant && constant->kind() == ir::ValueKind::List) {
        const ir::ListValue& list = constant->as_list();
        if (list.empty()) c.diags.Emit(span, diag::OutOfRange, attr.name, "a list that is not empty", "[]").Label("no instance would ever exist");
        for (size_t i = 0; i < list.size(); ++i) {
          for (size_t j = 0; j < i; ++j) {
            if (list[i] == list[j]) {
              c.diags.Emit(span, diag::OutOfRange, attr.name, "a list of distinct values", fmt::format("one whose elements {} and {} are equal", j, i)).Label("two instances would have one address");
              j = i;
            }
          }
        }
      }
    }
    job.axes.push_back({attr.name, element, placed.item->keyword});
    domain.axes.push_back({std::string(attr.name), values.expr, element});
  }
  if (exclude == nullptr) return;
  const ast::File& file = *exclude->unit()->file;
  const ast::Expr& rows = file[exclude->item->value];
  if (rows.kind != ast::ExprKind::List) {
    if (rows.kind != ast::ExprKind::Error) c.diags.Emit(rows.span, diag::NotA, "a list of rows such as [{ axis = value }]", "something else").Label("which combinations are excluded?");
    return;
  }
  for (uint32_t i = 0; i < rows.entries.size; ++i) {
    const ast::Entry& row_entry = file.entries[rows.entries.begin + i];
    if (!row_entry.value.valid()) continue;
    const ast::Expr& row = file[row_entry.value];
    if (row.kind != ast::ExprKind::Map || row_entry.splice) {
      if (row.kind != ast::ExprKind::Error) c.diags.Emit(row.span, diag::NotA, "a row such as { axis = value }", "something else").Label("not a row");
      continue;
    }
    std::vector<std::pair<uint32_t, ir::ExprId>> cells;
    for (uint32_t k = 0; k < row.entries.size; ++k) {
      const ast::Entry& cell = file.entries[row.entries.begin + k];
      std::optional<std::string> axis = PlainText(file, cell.key);
      if (!axis || !cell.value.valid()) continue;
      uint32_t found = UINT32_MAX;
      std::vector<std::string_view> names;
      for (uint32_t a = 0; a < job.axes.size(); ++a) {
        names.push_back(job.axes[a].name);
        if (job.axes[a].name == *axis) found = a;
      }
      if (found == UINT32_MAX) {
        auto& d = c.diags.Emit(file[cell.key].span, diag::UnknownAxis, *axis).Label("not an axis of this matrix");
        std::string_view like = DidYouMean(*axis, names);
        if (!like.empty()) d.AddHelp(fmt::format("did you mean `{}`?", like), {{file[cell.key].span, std::string(like)}});
        continue;
      }
      Scope scope;
      scope.unit = exclude->unit();
      scope.place = "`exclude`";
      if (exclude->layer->use != nullptr) scope.template_arguments = &exclude->layer->use->arguments;
      scope.latest = Phase::P;
      cells.emplace_back(found, c.CheckExpr(cell.value, scope, job.axes[found].type).expr);
    }
    if (!cells.empty()) domain.excluded.push_back(std::move(cells));
  }
}

}  // namespace

JobInfo& Checker::ResolveJob(uint32_t index) {
  JobInfo& job = jobs[index];
  if (job.progress == Progress::Done) return job;
  if (job.progress == Progress::Running) {
    diags.Emit(job.name.span, diag::JobCycle, CyclePath(declarations->resolving, job.address))
        .Label("its instances depend on themselves");
    job.progress = Progress::Done;
    return job;
  }
  job.progress = Progress::Running;
  Resolving resolving(*this, job.address, true);
  if (declarations->resolving.size() > kMaxJobDepth) {
    diags.Emit(job.name.span, diag::JobsTooDeep, kMaxJobDepth)
        .Label("the end of a longer chain")
        .AddHelp("declare jobs above those that need them: then the length of a chain does not matter");
    job.progress = Progress::Done;
    return job;
  }
  JobDecl& decl = declarations->job_decls[index];
  const ast::File& file = *job.unit->file;
  const ast::Item& item = file[job.item];
  Layers layers;
  const Declarations::UnitBlocks& blocks = declarations->unit_blocks[job.unit->index];
  if (job.kind == ir::JobKind::Job || job.kind == ir::JobKind::Finally) {
    for (const Layer& layer : blocks.defaults) layers.push_back(layer);
  }
  CheckLabels(*this, item, job.kind);
  if (job.kind != ir::JobKind::Check) {
    if (const ast::Label* uses = UsesLabel(item)) AddTemplateLayers(*this, decl, *job.unit, *uses, layers);
  }
  Layer own;
  own.unit = job.unit;
  own.items = item.children;
  own.kind = LayerKind::Job;
  own.span = item.keyword;
  layers.push_back(own);
  uint32_t block = job.kind == ir::JobKind::Job ? kJob : job.kind == ir::JobKind::Check ? kCheck : job.kind == ir::JobKind::Finally ? kFinally : kHook;
  decl.merged = Merge(*this, std::move(layers), block);
  ResolveTemplateArguments(*this, job, decl, true);
  ResolveOutputs(*this, job, decl.merged);
  ResolveNullability(*this, job, decl.merged);
  if (job.kind == ir::JobKind::Job) ResolveDomain(*this, job, decl, model.plan.jobs[index].domain);
  job.progress = Progress::Done;
  return job;
}

void ResolveTemplateAlone(Checker& c, uint32_t job_index, uint32_t template_index) {
  JobInfo& job = c.jobs[job_index];
  JobDecl& decl = c.declarations->job_decls[job_index];
  job.progress = Progress::Running;
  Layers layers;
  AddLayersOf(c, decl, template_index, job.name.span, std::string(job.name.text), layers);
  decl.merged = Merge(c, std::move(layers), kJob);
  decl.merged.incomplete = true;   // what is missing may come from the job
  ResolveTemplateArguments(c, job, decl, true);
  ResolveOutputs(c, job, decl.merged);
  ResolveNullability(c, job, decl.merged);
  ResolveDomain(c, job, decl, c.model.plan.jobs[job_index].domain);
  job.progress = Progress::Done;
}

}  // namespace jobc::check
