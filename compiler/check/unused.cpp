// W704: what is declared and never used. Only told of files without errors: where something could not be read, what uses
// the rest is not known.
#include <algorithm>
#include <fmt/format.h>

#include "compiler/check/declarations.h"

namespace jobc::check {
namespace {

void Unused(Checker& c, Span span, std::string_view what, std::string_view name, std::string help) {
  c.diags.Emit(span, diag::UnusedDeclaration, what, name).Label("nothing refers to it").AddHelp(std::move(help));
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

}  // namespace

void CheckUnused(Checker& c) {
  if (c.diags.has_errors()) return;
  const Unit& root = *c.units.front();
  const ast::File& file = *root.file;
  for (Span span : file.dangling_docs) {
    c.diags.Emit(span, diag::DanglingDoc).Label("no item follows it").AddHelp("write `#` for an ordinary comment, or move it above an item");
  }
  CheckImportedItems(c);
  const std::vector<bool> params = ParamsOfPlan(c);
  for (const ParamInfo& info : c.params) {
    if (info.root_index == UINT32_MAX || params[info.root_index]) continue;
    const ast::Name& name = file[info.item].name;
    Unused(c, name.span, "the parameter", name.text, fmt::format("use `params.{}`, or remove it", name.text));
  }
  for (const auto& entry : root.values) {
    if (entry.second.kind != SymbolKind::Import || entry.second.used) continue;
    Unused(c, entry.second.span, "the import", entry.first().str(), "remove it");
  }
  for (const auto& entry : root.pools) {
    if (entry.second.used) continue;
    Unused(c, entry.second.span, "the pool", entry.first().str(), fmt::format("claim it in a job:  pools = {{ {} = 1 }}", entry.first().str()));
  }
  for (const auto& entry : root.templates) {
    if (entry.second.used) continue;
    Unused(c, entry.second.span, "the template", entry.first().str(), fmt::format("use it:  job NAME uses {} {{ … }}", entry.first().str()));
  }
}

}  // namespace jobc::check
