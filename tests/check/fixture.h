// What the checker's tests share: a file of one of each type, checked with one expression put into a `let`.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "compiler/check/check.h"
#include "compiler/diagnostics/diagnostics.h"
#include "compiler/diagnostics/render.h"
#include "ir/type.h"

namespace jobc {

struct Outcome {
  Model model;
  std::vector<std::string> codes;   ///< sorted by position
  std::string rendered;
  std::vector<Diagnostic> diagnostics;
  std::string text;

  std::string Codes() const {
    std::string all;
    for (const std::string& code : codes) all += (all.empty() ? "" : " ") + code;
    return all;
  }
  /// The type of a `let`, as people write it.
  std::string TypeOfLet(std::string_view name) const {
    const ir::Program& program = model.plan.program;
    for (const ir::Let& let : program.lets) {
      if (let.name == name) return program.types.Show(program.exprs[let.value].type);
    }
    return "(no such let)";
  }
  /// The constant a `let` was folded to, as JSON-like text; "" where it was not.
  const ir::Value* ValueOfLet(std::string_view name) const {
    const ir::Program& program = model.plan.program;
    for (const ir::Let& let : program.lets) {
      if (let.name == name && program.exprs.IsConst(let.value)) return &program.exprs.ConstValue(let.value);
    }
    return nullptr;
  }
  /// The text with every help of every diagnostic applied that has edits.
  std::string Fixed() const {
    std::vector<Edit> edits;
    for (const Diagnostic& d : diagnostics) {
      for (const Help& help : d.helps) {
        if (!help.edits.empty()) {
          edits.insert(edits.end(), help.edits.begin(), help.edits.end());
          break;  // the first one: others are alternatives
        }
      }
    }
    std::stable_sort(edits.begin(), edits.end(), [](const Edit& x, const Edit& y) { return x.span.begin > y.span.begin; });
    std::string fixed = text;
    for (const Edit& edit : edits) fixed.replace(edit.span.begin, edit.span.end - edit.span.begin, edit.text);
    return fixed;
  }
};

inline Outcome CheckText(std::string text) {
  Outcome outcome;
  SourceManager sources;
  outcome.text = text;
  SourceId root = sources.Add("test.job", std::move(text));
  Diagnostics diags;
  outcome.model = Check(root, sources, diags);
  diags.Sort();
  for (const Diagnostic& d : diags.all()) {
    outcome.codes.emplace_back(d.kind->code);
    outcome.diagnostics.push_back(d);
  }
  outcome.rendered = RenderText(diags, sources, {});
  return outcome;
}

/// One value of each type, as `params.x`.
inline constexpr std::string_view kPrelude = R"(edition = 1
enum Mode { full, incremental }
enum Other { full }
struct Sample { id: String, n: Int?, next: Json = json(1) }
params {
  b: Bool
  i: Int
  f: Float
  s: String
  d: Duration
  y: Bytes
  e: Mode
  file: File
  dir: Dir
  j: Json
  li: List<Int>
  lf: List<Float>
  ls: List<String>
  lo: List<Int?>
  ll: List<List<Int>>
  lb: List<Bool>
  m: Map<String, Int>
  me: Map<Mode, Float>
  st: Sample
  p: Pair<String, Int>
  ob: Bool?
  oi: Int?
  of: Float?
  os: String?
  ol: List<Int>?
  ost: Sample?
  ofile: File?
}
)";

/// Checks `let x = EXPR` after the prelude. Unused parameters are not this test's matter.
inline Outcome CheckLet(std::string_view expression, std::string_view before = "") {
  Outcome outcome = CheckText(std::string(kPrelude) + std::string(before) + "let x = " + std::string(expression) + "\n");
  for (size_t i = outcome.codes.size(); i-- > 0;) {
    if (outcome.codes[i] == "W704") {
      outcome.codes.erase(outcome.codes.begin() + static_cast<std::ptrdiff_t>(i));
      outcome.diagnostics.erase(outcome.diagnostics.begin() + static_cast<std::ptrdiff_t>(i));
    }
  }
  return outcome;
}

/// The type, or the codes where there are faults.
inline std::string TypeOrCodes(std::string_view expression, std::string_view before = "") {
  Outcome outcome = CheckLet(expression, before);
  return outcome.codes.empty() ? outcome.TypeOfLet("x") : outcome.Codes();
}

}  // namespace jobc
