// The state of one Check, shared by its parts:
//   units.cpp         sources, imports, modules, name spaces        (E101 E103 E106 E301)
//   types.cpp         type expressions, structs, enums, refinements
//   expression*.cpp   expressions: types, phases, narrowing, calls, constants
//   jobs.cpp          merging of layers, signatures and bodies of jobs
//   profiles.cpp      profiles and backends
// Declarations are resolved on demand, so their order in the file does not matter; `Progress::Running` met again is a cycle.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "compiler/check/scope.h"
#include "compiler/script/script.h"

namespace jobc::check {

struct Declarations;

class Checker {
 public:
  Checker(SourceManager& sources, Diagnostics& diags, Model& model);
  ~Checker();

  SourceManager& sources;
  Diagnostics& diags;
  Model& model;
  ir::Program& program;                       ///< model.plan.program
  ir::TypeTable& types;                       ///< program.types
  ir::ExprPool& exprs;                        ///< program.exprs
  ir::Evaluator evaluator;                    ///< for constants

  std::deque<std::unique_ptr<Unit>> units;    ///< [0] is the root
  std::deque<ParamInfo> params;
  std::deque<LetInfo> lets;
  std::deque<FnInfo> fns;
  std::deque<TypeInfo> type_infos;
  std::deque<ModuleInfo> modules;
  std::deque<JobInfo> jobs;                   ///< same order as model.plan.jobs

  // ---- declarations.cpp: on-demand resolution (each reports its own faults once) ----
  const LetInfo& ResolveLet(uint32_t index);
  const FnInfo& ResolveFn(uint32_t index);
  /// Signature only: outputs, nullability, domain.
  JobInfo& ResolveJob(uint32_t index);
  ParamInfo& ResolveParam(uint32_t index);
  /// Struct, enum or alias.
  ir::TypeId ResolveTypeSymbol(const Symbol& symbol);

  std::unique_ptr<Declarations> declarations;  ///< what only the declaration side keeps (declarations.h)

  // ---- types.cpp (expression side) ----
  /// A type as written; may be refined. Error type after a reported fault. `args_allowed`: `Args` in template params.
  ir::TypeId ResolveType(ast::TypeId type, Unit& unit, bool args_allowed = false);

  // ---- expression.cpp (expression side) ----
  /// Checks an expression. With a valid `expected` type the result is assignable to it: conversions (Int to Float,
  /// T to T?, literals to File, String? …), refinements (constants now, E203; others by Op::Checked with `place`).
  /// Everything later than scope.latest is E208. Never fails: faults are reported and give Op::Error.
  Typed CheckExpr(ast::ExprId expr, const Scope& scope, ir::TypeId expected = {});
  /// An argv list: elements with a text form or files, splices.
  Typed CheckArgv(ast::ExprId expr, const Scope& scope);
  /// A value that becomes JSON, as Json. In a literal the values of an object, and the elements of a list, may differ in type.
  Typed CheckJson(ast::ExprId expr, const Scope& scope);
  /// A Bool condition; `when_true` and `when_false` receive what it proves.
  Typed CheckCondition(ast::ExprId expr, const Scope& scope, Facts* when_true = nullptr, Facts* when_false = nullptr);
  /// A string or heredoc whose parts become text (TXT heredocs, messages). Type String (Secret where one is put in).
  Typed CheckText(ast::ExprId expr, const Scope& scope) { return CheckExpr(expr, scope, types.Basic(ir::TypeKind::String)); }
  /// One value put into a script or argv by `~{}`; `type` is kept as it is (may be List or optional with a splice).
  Typed CheckHole(const ast::Part& part, const Scope& scope);
  /// The value of a phase-C expression, or nullopt after a reported fault.
  std::optional<ir::Value> Constant(const Typed& typed, Span span);
  /// Folds phase-C expressions to Op::Const (faults: E205); others are returned as they are.
  Typed Fold(const Typed& typed, Span span);
  /// A word out of a closed set (`drain`, `oom`, …), also inside `if`/`match` over constants. Returns its index in
  /// `words`, or nullopt after E101/E201 with did-you-mean. `what`: "an error kind".
  std::optional<size_t> CheckWord(ast::ExprId expr, const Scope& scope, const std::vector<std::string_view>& words, std::string_view what);

  /// Whether a local name (loop variable, fn parameter, comprehension variable) is free: E103 where it equals a visible
  /// value name or a scope word. `_` is always free.
  bool CheckLocalName(const ast::Name& name, const Scope& scope);
  /// E201 for types that can be used but not kept (Range, Regex, instances) and for `null`, `[]`, `{}` without a type.
  /// Returns whether `typed` may be the value of a `let`, input, export …
  bool RequireStorable(const Typed& typed, Span span);
  ir::TypeId ResourceType(ir::ResourceKind kind) const;  ///< cpu: Float, gpu: Int, spot: Bool, others Bytes
  ir::TypeId RunStatusType();                            ///< the enum of `run.status`, `RunStatus` in sources
  uint32_t frame_size = 0;                               ///< slots of Locals the last CheckExpr needs: Fn::locals
  ir::TypeId run_status_type;                            ///< made by the first RunStatusType()
  /// The Field item whose value is `value`, for messages; nullptr if there is none. Indexed once a file, when first needed.
  const ast::Item* FieldOf(const ast::File& file, ast::ExprId value);
  std::map<const ast::File*, std::vector<uint32_t>> field_of_value;

  // ---- helpers ----
  const ast::File& FileOf(const Scope& scope) const { return *scope.unit->file; }
  ir::Place PlaceOf(Span span) const { return {span.source.index, span.begin, span.end}; }
  ir::ExprId ErrorExpr() { return exprs.Add(ir::Op::Error, types.Basic(ir::TypeKind::Error)); }
};

/// Structural equality of two expressions (shared nodes, constants by value).
bool SameExpr(const ir::Program& program, ir::ExprId x, ir::ExprId y);

}  // namespace jobc::check
