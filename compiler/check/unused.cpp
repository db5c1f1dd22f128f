// W704: what is declared and never used. Only told of files without errors: where something could not be read, what uses
// the rest is not known.
#include <algorithm>
#include <fmt/format.h>
#include <map>

#include "compiler/check/declarations.h"

namespace jobc::check {
namespace {

Diagnostic& Unused(Checker& c, Span span, std::string_view what, std::string_view name, std::string help, std::vector<Edit> edits = {}) {
  return c.diags.Emit(span, diag::UnusedDeclaration, what, name).Label("nothing refers to it").AddHelp(std::move(help), std::move(edits));
}

/// The edit that takes an item out: with its doc comment, with the separator behind it, and with its lines where nothing
/// else stands on them.
std::vector<Edit> Removal(Checker& c, const ast::File& file, const ast::Item& item) {
  const std::string_view text = c.sources[file.source].text;
  auto blank = [](char ch) { return ch == ' ' || ch == '\t'; };
  uint32_t begin = item.span.begin, end = item.span.end;
  for (auto comment = file.comments.rbegin(); comment != file.comments.rend(); ++comment) {
    if (comment->span.begin >= begin) continue;
    const std::string_view between = text.substr(comment->span.end, begin - comment->span.end);
    if (!comment->is_doc || between.find_first_not_of(" \t\r\n") != std::string_view::npos || std::count(between.begin(), between.end(), '\n') > 1) break;
    begin = comment->span.begin;
  }
  while (end < text.size() && blank(text[end])) ++end;
  if (end < text.size() && (text[end] == ',' || text[end] == ';')) ++end;
  uint32_t line = begin;
  while (line > 0 && blank(text[line - 1])) --line;
  uint32_t rest = end;
  while (rest < text.size() && (blank(text[rest]) || text[rest] == '\r')) ++rest;
  if (rest < text.size() && text[rest] == '#') rest = static_cast<uint32_t>(std::min(text.find('\n', rest), text.size()));
  const bool alone = (line == 0 || text[line - 1] == '\n') && (rest == text.size() || text[rest] == '\n');
  if (alone) {
    begin = line;
    end = rest < text.size() ? rest + 1 : rest;
  } else {
    while (end < text.size() && blank(text[end])) ++end;
  }
  return {{{file.source, begin, end}, ""}};
}

/// Whether any expression of the plan is the given parameter. Defaults and `require` use parameters too.
std::vector<bool> ParamsOfPlan(Checker& c) {
  std::vector<bool> used(c.program.params.size(), false);
  for (uint32_t i = 0; i < c.exprs.size(); ++i) {
    const ir::Expr& e = c.exprs[ir::ExprId{i}];
    if (e.op == ir::Op::Param && e.a < used.size()) used[e.a] = true;
  }
  return used;
}

void CheckImportedItems(Checker& c) {
  for (const std::unique_ptr<Unit>& unit : c.units) {
    if (unit.get() == c.units.front().get() || unit.get() == c.declarations->test_unit) continue;
    const ast::File& file = *unit->file;
    for (const ast::ItemId* id = file.begin(file.root); id != file.end(file.root); ++id) {
      const ast::Item& item = file[*id];
      if (item.kind != ast::ItemKind::Block) continue;
      const std::string_view word = item.name.text;
      if (word != "publish" && word != "hook" && word != "profile" && word != "limits" && word != "test") continue;
      c.diags.Emit(item.keyword, diag::OnlyInRoot, word)
          .Label("counts only where this file itself is run")
          .AddHelp(word == "publish" ? "export the files, and publish them in the file that imports this one" : "move it to the file that is run");
    }
  }
}

/// Every name and every `base.name` of a file in the order of the text, by the syntax alone.
class Mentions {
 public:
  explicit Mentions(const ast::File& file) {
    for (const ast::Expr& e : file.exprs) {
      if (e.kind == ast::ExprKind::Name) {
        all_.push_back({e.span.begin, "", e.name.text});
      } else if (e.kind == ast::ExprKind::Member || e.kind == ast::ExprKind::OptMember) {
        const ast::ExprId child = file.child(e, 0);
        if (child.valid() && file[child].kind == ast::ExprKind::Name) all_.push_back({e.span.begin, file[child].name.text, e.name.text});
      }
    }
    std::sort(all_.begin(), all_.end(), [](const Mention& x, const Mention& y) { return x.at < y.at; });
  }

  bool Has(Span inside, std::string_view base, std::string_view name) const {
    auto it = std::lower_bound(all_.begin(), all_.end(), inside.begin, [](const Mention& m, uint32_t at) { return m.at < at; });
    for (; it != all_.end() && it->at < inside.end; ++it) {
      if (it->base == base && it->name == name) return true;
    }
    return false;
  }

 private:
  struct Mention {
    uint32_t at;
    std::string_view base, name;
  };
  std::vector<Mention> all_;
};

/// Programs can read all inputs at $JOB_INPUT without naming one: an image made for it, a program that is a source of the user's
/// own, a script that says so.
bool ReadsInputsByItself(Checker& c, const JobInfo& job) {
  const Merged& merged = c.declarations->job_decls[job.index].merged;
  const ir::Job& settings = c.model.plan.jobs[job.index];
  if (settings.action == ir::ActionKind::ImageArgs) return true;
  for (const ir::Input& input : settings.inputs) {
    const ir::Expr& e = c.exprs[input.value];
    const bool literal = e.op == ir::Op::FileLiteral || (e.op == ir::Op::Const && c.exprs.ConstValue(input.value).kind() == ir::ValueKind::File);
    if (literal && settings.action == ir::ActionKind::Run) return true;
  }
  for (std::string_view name : {"script", "prologue", "epilogue", "run"}) {
    const Placed* placed = merged.Attr(name);
    if (placed == nullptr) continue;
    const std::string_view text = c.sources.Text(placed->item->span);
    for (std::string_view word : {"JOB_INPUT", "INPUT_PATH", "inputs.json"}) {
      if (text.find(word) != std::string_view::npos) return true;
    }
  }
  return false;
}

/// Inputs that the job never looks at, and captured files that nobody takes. One text of a template may serve many jobs: it is
/// unused only where all of them leave it.
void CheckInputsAndOutputs(Checker& c) {
  struct Field {
    Span span;
    std::string_view name, job;
    bool output = false, used = false;
  };
  const SourceId root = c.units.front()->file->source;
  std::map<uint32_t, Field> fields;
  for (const JobInfo& job : c.jobs) {
    const bool all = !job.inputs.empty() && ReadsInputsByItself(c, job);
    for (const InputInfo& input : job.inputs) {
      if (input.span.source != root) continue;
      Field& field = fields.try_emplace(input.span.begin, Field{input.span, input.name, job.name.text, false, false}).first->second;
      field.used = field.used || input.used || all;
    }
    if (job.kind != ir::JobKind::Job) continue;
    for (const OutputInfo& output : job.outputs) {
      if (output.span.source != root || (output.kind != ir::OutputKind::Path && output.kind != ir::OutputKind::Glob)) continue;
      Field& field = fields.try_emplace(output.span.begin, Field{output.span, output.name, job.name.text, true, false}).first->second;
      // What the jobs of a module leave may be wanted by the file that instantiates it.
      field.used = field.used || output.used || job.unit != c.units.front().get();
    }
  }
  for (const auto& [at, field] : fields) {
    if (field.used) continue;
    if (field.output) {
      Unused(c, field.span, "the output", field.name, fmt::format("keep it after the run:  publish \"results\" {{ \"{0}/\" = {1}.{0} }}", field.name, field.job))
          .AddHelp(fmt::format("or use `{}.{}` in a job or `export`, or remove it", field.job, field.name));
    } else {
      Unused(c, field.span, "the input", field.name, fmt::format("use `input.{}` in what the job runs, or remove it", field.name));
    }
  }
}

/// Parameters of templates and functions that their own text does not use.
void CheckInnerParams(Checker& c, const ast::File& file) {
  const Mentions mentions(file);
  for (const ast::ItemId* id = file.begin(file.root); id != file.end(file.root); ++id) {
    const ast::Item& item = file[*id];
    if (item.kind == ast::ItemKind::Fn && item.value.valid()) {
      for (const ast::ItemId* p = file.begin(item.children); p != file.end(item.children); ++p) {
        const ast::Item& param = file[*p];
        if (param.kind != ast::ItemKind::Field || param.name.text == "_" || mentions.Has(file[item.value].span, "", param.name.text)) continue;
        Unused(c, param.name.span, fmt::format("in `{}`, the parameter", item.name.text), param.name.text, "use it, or remove it here and in the calls");
      }
    }
    if (item.kind != ast::ItemKind::Block || item.name.text != "template") continue;
    for (const ast::ItemId* inner = file.begin(item.children); inner != file.end(item.children); ++inner) {
      const ast::Item& params = file[*inner];
      if (params.kind != ast::ItemKind::Block || params.name.text != "params") continue;
      for (const ast::ItemId* p = file.begin(params.children); p != file.end(params.children); ++p) {
        const ast::Item& param = file[*p];
        if (param.kind != ast::ItemKind::Field || mentions.Has(item.span, "template", param.name.text)) continue;
        Unused(c, param.name.span, fmt::format("in the template `{}`, the parameter", item.labels.empty() || item.labels.front().path.empty() ? "" : item.labels.front().path.front().text), param.name.text, fmt::format("use `template.{}`, or remove it", param.name.text));
      }
    }
  }
}

/// A symbol whose declaration can be taken out without changing what the file does.
void CheckSymbols(Checker& c, const Unit& root) {
  const ast::File& file = *root.file;
  std::map<uint32_t, const ast::Item*> items;  // by the place of the declared name
  for (const ast::ItemId* id = file.begin(file.root); id != file.end(file.root); ++id) {
    const ast::Item& item = file[*id];
    if (item.name.valid()) items[item.name.span.begin] = &item;
    for (const ast::Label& label : item.labels) {
      if (!label.path.empty()) items.try_emplace(label.path.front().span.begin, &item);
    }
  }
  auto tell = [&](const Symbol& symbol, std::string_view what, std::string_view name, std::string_view other = {}) {
    if (symbol.used || symbol.span.source != file.source) return;
    const auto item = items.find(symbol.span.begin);
    auto& d = c.diags.Emit(symbol.span, diag::UnusedDeclaration, what, name).Label("nothing refers to it");
    d.AddHelp("remove it", item != items.end() ? Removal(c, file, *item->second) : std::vector<Edit>{});
    if (!other.empty()) d.AddHelp(std::string(other));
  };
  for (const auto& entry : root.values) {
    const std::string_view name(entry.first().data(), entry.first().size());
    switch (entry.second.kind) {
      case SymbolKind::Import: tell(entry.second, "the import", name); break;
      case SymbolKind::Let: tell(entry.second, "the constant", name, fmt::format("or use `{}`", name)); break;
      case SymbolKind::Secret: tell(entry.second, "the secret", name, fmt::format("or pass it to a job:  env {{ NAME = {} }}", name)); break;
      default: break;
    }
  }
  for (const auto& entry : root.fns) tell(entry.second, "the function", entry.first().str(), fmt::format("or call it:  {}(…)", entry.first().str()));
  for (const auto& entry : root.types) {
    const SymbolKind kind = entry.second.kind;
    tell(entry.second, kind == SymbolKind::Struct ? "the struct" : kind == SymbolKind::Enum ? "the enum" : "the type", entry.first().str());
  }
  for (const auto& entry : root.pools) tell(entry.second, "the pool", entry.first().str(), fmt::format("or claim it in a job:  pools = {{ {} = 1 }}", entry.first().str()));
  for (const auto& entry : root.templates) tell(entry.second, "the template", entry.first().str(), fmt::format("or use it:  job NAME uses {} {{ … }}", entry.first().str()));
}

/// A file that runs nothing is there to be imported: what it declares is for others.
bool IsLibrary(Checker& c) {
  const Declarations::UnitBlocks& blocks = c.declarations->unit_blocks[0];
  const Unit& root = *c.units.front();
  const bool runs = std::any_of(c.jobs.begin(), c.jobs.end(), [&](const JobInfo& job) { return job.unit == &root || !job.unit->prefix.empty(); });
  return !runs && blocks.exports.empty() && blocks.publishes.empty();
}

}  // namespace

void CheckUnused(Checker& c) {
  if (c.diags.has_errors()) return;
  const Unit& root = *c.units.front();
  const ast::File& file = *root.file;
  for (Span span : file.dangling_docs) {
    c.diags.Emit(span, diag::DanglingDoc).Label("no item follows it").AddHelp("write `#` for an ordinary comment, or move it above an item");
  }
  CheckImportedItems(c);
  CheckInnerParams(c, file);
  if (IsLibrary(c)) {
    for (const auto& entry : root.values) {
      if (entry.second.kind == SymbolKind::Import && !entry.second.used) Unused(c, entry.second.span, "the import", entry.first().str(), "remove it");
    }
    return;
  }
  const std::vector<bool> params = ParamsOfPlan(c);
  for (const ParamInfo& info : c.params) {
    if (info.root_index == UINT32_MAX || params[info.root_index]) continue;
    const ast::Name& name = file[info.item].name;
    Unused(c, name.span, "the parameter", name.text, fmt::format("use `params.{}`, or remove it", name.text));
  }
  CheckSymbols(c, root);
  CheckInputsAndOutputs(c);
}

}  // namespace jobc::check
