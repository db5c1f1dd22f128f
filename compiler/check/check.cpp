#include "compiler/check/check.h"

#include <algorithm>
#include <filesystem>
#include <fmt/format.h>

#include "compiler/check/declarations.h"
#include "support/stack_room.h"

namespace jobc::check {

Checker::Checker(SourceManager& sources, Diagnostics& diags, Model& model)
    : sources(sources), diags(diags), model(model), program(model.plan.program), types(program.types), exprs(program.exprs),
      evaluator(program, uint64_t{1} << 22), declarations(std::make_unique<Declarations>()) {}

Checker::~Checker() = default;

void DeclarePool(Checker& c, PoolInfo& info, std::string_view name) {
  const ast::Item& item = (*info.unit->file)[info.item];
  std::string prefix = info.unit->prefix;
  if (!info.unit->is_module && info.unit != c.units.front().get()) {
    prefix = std::filesystem::path(c.sources[info.unit->file->source].name).stem().string() + "/";
  }
  info.plan_index = static_cast<uint32_t>(c.model.plan.pools.size());
  c.model.plan.pools.push_back({prefix + std::string(name), c.ErrorExpr()});
  Layers layers;
  Layer layer;
  layer.unit = info.unit;
  layer.items = item.children;
  layer.span = item.keyword;
  layers.push_back(layer);
  Merged merged = Merge(c, layers, kPool);
  auto unknown = [&](std::string_view word, Span span) {
    auto& d = c.diags.Emit(span, diag::UnknownAttribute, "a pool", word).Label("unknown");
    if (!DidYouMean(word, {"slots"}).empty()) d.AddHelp("did you mean `slots`?", {{span, "slots"}});
  };
  for (const MergedItem& attr : merged.attrs) {
    if (attr.name != "slots") unknown(attr.name, attr.last().item->keyword);
  }
  for (const MergedBlock& block : merged.blocks) unknown(block.name, block.layers.back().span);
  for (const MergedItem& field : merged.fields) {
    c.diags.Emit(field.last().item->keyword, diag::WrongShape, field.name, fmt::format("{} = …", field.name)).Label("this is set, not declared");
  }
  const Placed* slots = merged.Attr("slots");
  if (slots == nullptr) {
    if (!merged.incomplete && merged.attrs.empty()) c.diags.Emit(item.keyword, diag::MissingAttribute, "a pool", "`slots`").Label("how many at the same time?").AddHelp("write `slots = 2`");
    return;
  }
  Scope scope;
  scope.unit = info.unit;
  scope.latest = Phase::P;
  scope.place = "`slots`";
  c.model.plan.pools[info.plan_index].slots = c.CheckExpr(slots->item->value, scope, PositiveInt(c)).expr;
}

ir::TypeId PositiveInt(Checker& c) {
  ir::Refinement positive;
  positive.kind = ir::RefinementKind::IntRange;
  positive.int_low = 1;
  positive.text = "1..";
  return c.types.Refined(c.types.Basic(ir::TypeKind::Int), c.types.AddRefinement(std::move(positive)));
}

namespace {

ir::Position At(Checker& c, Span span) {
  LineColumn at = c.sources.Locate(span.source, span.begin);
  for (uint32_t i = 0; i < c.model.sources.size(); ++i) {
    if (c.model.sources[i] == span.source) return {i, at.line, at.column};
  }
  return {UINT32_MAX, at.line, at.column};
}

void CheckParams(Checker& c) {
  Declarations& d = *c.declarations;
  for (uint32_t i = 0; i < c.params.size(); ++i) {
    if (c.params[i].unit == c.units.front().get() || c.params[i].unit->is_module) c.ResolveParam(i);
  }
  for (const std::unique_ptr<Unit>& unit : c.units) {
    if (unit.get() != c.units.front().get() && !unit->is_module) continue;
    Facts known;
    for (ast::ItemId id : d.unit_blocks[unit->index].requires_) {
      const ast::Item& item = (*unit->file)[id];
      if (!item.value.valid()) continue;
      Scope scope;
      scope.unit = unit.get();
      scope.words = kBareParams;
      // Also in a module: requirements are looked at before anything runs.
      scope.latest = Phase::P;
      scope.place = "`require`";
      scope.facts = known;
      Facts proven;
      ParamRequire require;
      require.condition = c.CheckCondition(item.value, scope, &proven).expr;
      require.text = std::string(SourceText(c, *unit->file, item.value));
      require.span = (*unit->file)[item.value].span;
      if (item.value2.valid()) require.message = c.CheckText(item.value2, scope).expr;
      known.Add(proven);
      c.model.requires_.push_back(std::move(require));
    }
  }
}

/// Everything that is declared is checked, also what nothing uses.
void CheckDeclarations(Checker& c) {
  auto whole = [&](const Unit* unit) { return unit == c.units.front().get() || unit->is_module; };
  for (const std::unique_ptr<Unit>& unit : c.units) {
    // In source order, so that the type table never depends on the order of a hash table.
    std::vector<const Symbol*> symbols;
    for (auto& entry : unit->types) symbols.push_back(&entry.second);
    std::sort(symbols.begin(), symbols.end(), [](const Symbol* x, const Symbol* y) { return x->span < y->span; });
    for (const Symbol* symbol : symbols) c.ResolveTypeSymbol(*symbol);
  }
  for (uint32_t i = 0; i < c.fns.size(); ++i) {
    if (whole(c.fns[i].unit)) c.ResolveFn(i);
  }
  for (uint32_t i = 0; i < c.lets.size(); ++i) {
    if (whole(c.lets[i].unit)) c.ResolveLet(i);
  }
  for (const ModuleInfo& module : c.modules) {
    if (module.inner == nullptr) continue;
    // Arguments that the file does not take.
    const ast::File& outer = *module.outer->file;
    const ast::Item& item = outer[module.item];
    std::vector<std::string_view> names;
    for (const auto& entry : module.inner->params) names.push_back({entry.first().data(), entry.first().size()});
    std::sort(names.begin(), names.end());
    for (const ast::ItemId* id = outer.begin(item.children); id != outer.end(item.children); ++id) {
      const ast::Item& argument = outer[*id];
      if (argument.kind == ast::ItemKind::Error) continue;
      if (argument.kind != ast::ItemKind::Attr) {
        c.diags.Emit(argument.keyword, diag::MisplacedItem, "this item", "a module").Label("a module sets parameters: `name = value`");
        continue;
      }
      for (const ast::ItemId* earlier = outer.begin(item.children); earlier != id; ++earlier) {
        if (outer[*earlier].kind != ast::ItemKind::Attr || outer[*earlier].name.text != argument.name.text) continue;
        c.diags.Emit(argument.name.span, diag::SetTwice, argument.name.text).Label("set again").Secondary(outer[*earlier].name.span, "first set here").AddHelp("keep one of them");
        break;
      }
      if (module.inner->params.count(llvm::StringRef(argument.name.text.data(), argument.name.text.size())) != 0) continue;
      if (argument.name.text == "pools") continue;
      if (FindAttribute(argument.name.text, kJob) != nullptr) {
        c.diags.Emit(argument.name.span, diag::UnknownAttribute, "a module", argument.name.text)
            .Label("a module only sets the parameters of its file")
            .AddHelp("set it in the jobs of that file, perhaps by a parameter");
        continue;
      }
      auto& d = c.diags.Emit(argument.name.span, diag::UnknownParam, fmt::format("`{}`", item.path.empty() ? std::string_view() : item.path.front().text), argument.name.text).Label("not a parameter of that file");
      std::string_view like = DidYouMean(argument.name.text, names);
      if (!like.empty()) d.AddHelp(fmt::format("did you mean `{}`?", like), {{argument.name.span, std::string(like)}});
    }
  }
}

/// `pools = { inner = outer }` of a module: the file's pool is one of the file around it.
void BindModulePools(Checker& c) {
  Declarations& d = *c.declarations;
  for (const ModuleInfo& module : c.modules) {
    if (module.inner == nullptr) continue;
    const ast::File& file = *module.outer->file;
    const ast::Item& item = file[module.item];
    for (const ast::ItemId* id = file.begin(item.children); id != file.end(item.children); ++id) {
      if (file[*id].kind != ast::ItemKind::Attr || file[*id].name.text != "pools" || module.inner->params.count("pools") != 0) continue;
      const ast::Expr& map = file[file[*id].value];
      if (map.kind != ast::ExprKind::Map) {
        if (map.kind != ast::ExprKind::Error) c.diags.Emit(map.span, diag::NotA, "a map such as { gpu = gpu }", "something else").Label("pools of this file by pools of that one");
        continue;
      }
      for (uint32_t i = 0; i < map.entries.size; ++i) {
        const ast::Entry& entry = file.entries[map.entries.begin + i];
        std::optional<std::string> name = PlainText(file, entry.key);
        if (!name || !entry.value.valid()) continue;
        auto inner = module.inner->pools.find(*name);
        if (inner == module.inner->pools.end()) {
          std::vector<std::string_view> names;
          for (const auto& pool : module.inner->pools) names.push_back({pool.first().data(), pool.first().size()});
          auto& unknown = c.diags.Emit(file[entry.key].span, diag::UnknownPool, *name).Label("not a pool of that file");
          std::string_view like = DidYouMean(*name, names);
          if (!like.empty()) unknown.AddHelp(fmt::format("did you mean `{}`?", like), {{file[entry.key].span, std::string(like)}});
          continue;
        }
        const ast::Expr& value = file[entry.value];
        if (value.kind != ast::ExprKind::Name) {
          c.diags.Emit(value.span, diag::NotA, "the name of a pool", "another expression").Label("a pool of this file");
          continue;
        }
        if (const PoolInfo* outer = FindPool(c, *module.outer, value.name.text, value.span)) d.pools[inner->second.index].plan_index = outer->plan_index;
      }
    }
  }
}

void CheckPools(Checker& c) {
  Declarations& d = *c.declarations;
  BindModulePools(c);
  for (PoolInfo& info : d.pools) {
    // Those of a file that is only imported are declared by the templates that claim them.
    const bool whole = info.unit == c.units.front().get() || info.unit->is_module;
    if (!whole || info.plan_index != UINT32_MAX) continue;
    const ast::Item& item = (*info.unit->file)[info.item];
    for (const ast::Label& label : item.labels) {
      if (label.is_string || label.path.empty()) continue;
      DeclarePool(c, info, label.path.front().text);
      break;
    }
  }
}

void CheckExports(Checker& c) {
  const Unit& root = *c.units.front();
  const ast::File& file = *root.file;
  llvm::StringMap<Span> seen;
  for (ast::ItemId block : c.declarations->unit_blocks[0].exports) {
    for (const ast::ItemId* id = file.begin(file[block].children); id != file.end(file[block].children); ++id) {
      const ast::Item& item = file[*id];
      if (item.kind == ast::ItemKind::Error) continue;
      if (item.kind != ast::ItemKind::Field || !item.value.valid()) {
        c.diags.Emit(item.keyword, diag::MisplacedItem, "this item", "`export`").Label("an export has a name, a type and a value").AddHelp("write `name: Type = expression`");
        continue;
      }
      if (auto [first, fresh] = seen.try_emplace(item.name.text, item.name.span); !fresh) {
        c.diags.Emit(item.name.span, diag::DeclaredTwice, item.name.text).Label("second export of this name").Secondary(first->second, "the first one").AddHelp("give one of them another name");
      }
      Scope scope;
      scope.unit = c.units.front().get();
      scope.latest = Phase::S;
      scope.place = "an export";
      ir::Export entry;
      entry.name = std::string(item.name.text);
      entry.type = item.type.valid() ? c.ResolveType(item.type, *c.units.front()) : c.types.Basic(ir::TypeKind::Error);
      if (c.types.HasSecret(entry.type)) c.diags.Emit(item.name.span, diag::SecretOutput, item.name.text).Label("exports are stored and shown");
      entry.value = c.CheckExpr(item.value, scope, entry.type).expr;
      entry.at = At(c, item.span);
      c.model.plan.exports.push_back(std::move(entry));
    }
  }
}

std::optional<std::string> WhyNotPublishPath(const std::string& text) {
  if (text.empty()) return "is empty";
  if (text[0] == '/') return "is absolute";
  std::string_view rest = text;
  if (rest.back() == '/') rest.remove_suffix(1);
  size_t begin = 0;
  for (;;) {
    size_t end = rest.find('/', begin);
    std::string_view part = rest.substr(begin, end == std::string_view::npos ? end : end - begin);
    if (part.empty()) return "has an empty part";
    if (part == "." || part == "..") return "has a part `" + std::string(part) + "`";
    for (unsigned char ch : part) {
      if (ch < 0x20 || ch == 0x7f) return "has a control character";
    }
    if (end == std::string_view::npos) return std::nullopt;
    begin = end + 1;
  }
}

void CheckPublishes(Checker& c) {
  const Unit& root = *c.units.front();
  const ast::File& file = *root.file;
  llvm::StringMap<Span> published;  ///< by destination and path; of a template, by its text
  for (ast::ItemId block : c.declarations->unit_blocks[0].publishes) {
    const ast::Item& item = file[block];
    ir::Publish publish;
    if (item.labels.empty() || !item.labels.front().is_string || item.labels.front().text.empty()) {
      c.diags.Emit(item.keyword, diag::MissingAttribute, "`publish`", "a destination").Label("publish to where?").AddHelp("write `publish \"results\" { … }`");
    } else {
      publish.destination = item.labels.front().text;
    }
    for (const ast::ItemId* id = file.begin(item.children); id != file.end(item.children); ++id) {
      const ast::Item& entry = file[*id];
      if (entry.kind == ast::ItemKind::Error) continue;
      Scope scope;
      scope.unit = c.units.front().get();
      scope.latest = Phase::C;
      scope.place = "`publish`";
      if (entry.kind == ast::ItemKind::Attr && entry.name.valid() && entry.name.text == "prune") {
        Typed typed = c.CheckExpr(entry.value, scope, c.types.Basic(ir::TypeKind::Bool));
        if (std::optional<ir::Value> value = c.Constant(typed, file[entry.value].span); value && value->kind() == ir::ValueKind::Bool) publish.prune = value->as_bool();
        continue;
      }
      if (entry.kind != ast::ItemKind::Attr || !entry.name_expr.valid()) {
        c.diags.Emit(entry.keyword, diag::MisplacedItem, "this item", "`publish`").Label("expected \"path\" = file").AddHelp("write `\"report.html\" = job.output`");
        continue;
      }
      scope.latest = Phase::P;
      ir::PublishEntry out;
      out.path = c.CheckText(entry.name_expr, scope).expr;
      bool into_directory = false;
      Span key_span = file[entry.name_expr].span;
      if (c.exprs.IsConst(out.path) && c.exprs.ConstValue(out.path).kind() == ir::ValueKind::String) {
        const std::string& text = c.exprs.ConstValue(out.path).as_string();
        into_directory = !text.empty() && text.back() == '/';
        if (std::optional<std::string> why = WhyNotPublishPath(text)) {
          c.diags.Emit(key_span, diag::PathEscapes, text, *why).Label("must be a relative path below the destination").AddHelp("name a file, \"report.html\", or a directory, \"vcf/\"; where they all go is said after `publish`");
        }
      } else {
        // The last part of a template decides what it names.
        const ast::Expr& key = file[entry.name_expr];
        if (key.parts.size > 0) {
          const ast::Part& last = file.parts[key.parts.begin + key.parts.size - 1];
          into_directory = !last.expr.valid() && !last.text.empty() && last.text.back() == '/';
        }
      }
      if (!into_directory && c.exprs[out.path].op != ir::Op::Error) {
        std::string_view text = c.sources.Text(key_span);
        if (text.size() >= 2 && text.front() == '"') text = text.substr(1, text.size() - 2);
        auto [first, fresh] = published.try_emplace(fmt::format("{}\n{}", publish.destination, text), key_span);
        if (!fresh) c.diags.Emit(key_span, diag::PublishedTwice, text).Label("second source for this path").Secondary(first->second, "the first one").AddHelp("publish one of them under another name");
      }
      scope.latest = Phase::S;
      // A literal is a file beside the source, as everywhere where a file is wanted.
      const bool literal = entry.value.valid() && file[entry.value].kind == ast::ExprKind::String;
      Typed value = c.CheckExpr(entry.value, scope, literal ? c.types.Basic(ir::TypeKind::File) : ir::TypeId{});
      Span value_span = file[entry.value].span;
      ir::TypeId plain = c.types.NonNull(value.type);
      ir::TypeKind kind = c.types.kind(plain);
      if (kind == ir::TypeKind::List) {
        ir::TypeId element = c.types[plain].a;
        if (c.types.IsOptional(element)) {
          c.diags.Emit(value_span, diag::PublishNull, c.types.Show(value.type))
              .Label("some of these may be null")
              .AddHelp(fmt::format("write `compact({})`", c.sources.Text(value_span)), {{value_span, fmt::format("compact({})", c.sources.Text(value_span))}});
        } else if (c.types.kind(element) != ir::TypeKind::File && c.types.kind(element) != ir::TypeKind::Dir && c.types.kind(element) != ir::TypeKind::Error) {
          c.diags.Emit(value_span, diag::NotA, "files to publish", fmt::format("`{}`", c.types.Show(value.type))).Label("not files");
        } else if (!into_directory) {
          c.diags.Emit(key_span, diag::NotA, "a path ending in `/` for a list of files", "a path of one file").Label("many files cannot have one name").AddHelp("end the path with `/`");
        }
      } else if (kind != ir::TypeKind::File && kind != ir::TypeKind::Dir && kind != ir::TypeKind::Error) {
        c.diags.Emit(value_span, diag::NotA, "a File, Dir or List<File>", fmt::format("`{}`", c.types.Show(value.type))).Label("not a file");
      } else if (c.types.IsOptional(value.type)) {
        c.diags.Emit(value_span, diag::PublishNull, c.types.Show(value.type)).Label("may be null").AddHelp("publish it only where it exists, for example through `compact([…])` into a directory");
      }
      out.value = value.expr;
      out.type = value.type;
      out.at = At(c, entry.span);
      publish.entries.push_back(std::move(out));
    }
    c.model.plan.publishes.push_back(std::move(publish));
  }
}

void CheckRest(Checker& c) {
  const Unit& root = *c.units.front();
  const ast::File& file = *root.file;
  Layers limits;
  for (ast::ItemId id : c.declarations->unit_blocks[0].limits) {
    Layer layer;
    layer.unit = c.units.front().get();
    layer.items = file[id].children;
    layer.span = file[id].keyword;
    limits.push_back(layer);
  }
  if (!limits.empty()) c.model.plan.limits = CheckLimits(c, limits);
  // The run-wide strategy is that of the root file's defaults.
  for (const Layer& layer : c.declarations->unit_blocks[0].defaults) {
    Layers one{layer};
    Merged merged = Merge(c, one, kDefaults);
    const Placed* placed = merged.Attr("on_error");
    if (placed == nullptr) continue;
    Scope scope;
    scope.unit = c.units.front().get();
    scope.latest = Phase::C;
    scope.place = "`on_error`";
    if (std::optional<size_t> word = c.CheckWord(placed->item->value, scope, {"ignore", "continue", "drain", "halt"}, "a strategy"); word && *word > 0) {
      c.model.plan.on_error = static_cast<ir::Strategy>(*word);
    }
  }
}

void NameSources(Checker& c) {
  const std::string root = c.sources[c.model.root].directory;
  for (SourceId id : c.model.sources) {
    std::string name = c.sources[id].path.empty() ? c.sources[id].name : c.sources[id].path;
    // Relative to the root source's directory, so that the plan is the same wherever the tree lies.
    if (!root.empty() && name.compare(0, root.size() + 1, root + "/") == 0) name = name.substr(root.size() + 1);
    c.model.plan.sources.push_back({name, ""});
  }
}

}  // namespace
}  // namespace jobc::check

namespace jobc {

Model Check(SourceId root, SourceManager& sources, Diagnostics& diags) {
  const StackRoom room(size_t{100} << 20);
  Model model;
  {
    check::Checker checker(sources, diags, model);
    check::DeclareAll(checker, root);
    model.plan.jobs.resize(checker.jobs.size());
    model.job_spans.resize(checker.jobs.size());
    check::CheckParams(checker);
    check::CheckDeclarations(checker);
    check::CheckPools(checker);
    check::CheckJobs(checker);
    check::CheckProfiles(checker);
    check::CheckExports(checker);
    check::CheckPublishes(checker);
    check::CheckRest(checker);
    check::CheckTests(checker);
    check::CheckRetryRules(checker);
    check::CheckReachability(checker);
    check::CheckCapabilities(checker);
    check::CheckUnused(checker);
    check::NameSources(checker);
  }
  diags.Sort();
  return model;
}

}  // namespace jobc
