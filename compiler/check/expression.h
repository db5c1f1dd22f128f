// Inside Check, expression side: one ExpressionChecker checks one expression tree of the AST and makes its typed nodes.
// It lives for one Checker::CheckExpr call, keeps the locals and facts of inner scopes on a stack, and reports every
// fault where it is seen; a faulty part becomes a Val with `error` set, which nothing complains about again.
//   expression.cpp  literals, text, operators, control        references.cpp  names, fields, jobs, modules
//   calls.cpp       functions, constructors                    convert.cpp     expected types, constants, nulls
//   narrowing.cpp   facts                                      types.cpp       type expressions
#pragma once

#include <llvm/ADT/ArrayRef.h>
#include <llvm/ADT/SmallVector.h>

#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "compiler/check/checker.h"
#include "ir/builtins.h"

namespace jobc::check {

/// A checked expression on its way up the tree.
struct Val {
  ir::ExprId expr;
  ir::TypeId type;                  ///< bare
  Phase phase = Phase::C;
  Span leaf;                        ///< what makes it so late
  uint32_t low_slot = UINT32_MAX;   ///< the smallest Local inside; UINT32_MAX: can be evaluated on its own
  bool error = false;               ///< a fault inside was reported; `type` still says what it would have been
};

/// What takes the text of a value, for messages and for what is allowed there.
enum class TextUse : uint8_t { String, Argv, Script };

class ExpressionChecker {
 public:
  ExpressionChecker(Checker& checker, const Scope& scope);
  ~ExpressionChecker();

  Val Check(ast::ExprId id, ir::TypeId expected = {}, bool secret_ok = false);
  Val CheckArgv(ast::ExprId id);
  Val CheckJson(ast::ExprId id);
  Val CheckHole(const ast::Part& part);
  std::optional<size_t> CheckWord(ast::ExprId id, const std::vector<std::string_view>& words, std::string_view what);
  /// What a condition proves when it is `truth`.
  void CollectFacts(ir::ExprId condition, bool truth, std::vector<std::string>& out) const;
  bool CheckLocalName(const ast::Name& name);
  Typed Finish(const Val& value) const;
  Val Fold(Val value, Span span);

 private:
  using Kind = ast::ExprKind;
  using Op = ir::Op;
  using TK = ir::TypeKind;

  struct JobRef {
    JobInfo* job = nullptr;
    ast::ExprId base;                     ///< `align` or `align[…]`
    llvm::SmallVector<Val, 2> indices;
    bool star = false;
    bool error = false;
  };
  struct Given {                          // one argument of a call
    const ast::Entry* entry = nullptr;
    Val value;
    ir::TypeId type_argument;
  };
  enum class WordKind : uint8_t { None, Params, Input, Output, Resources, Matrix, Run, Prev, Attempt, It, Env, Template };

  // expression.cpp
  Val Dispatch(ast::ExprId id, const ast::Expr& e, ir::TypeId expected, bool secret_ok, bool& coerced);
  Val CheckString(const ast::Expr& e, bool secret_ok);
  Val CheckUnary(const ast::Expr& e, ir::TypeId expected);
  Val CheckBinary(const ast::Expr& e, ir::TypeId expected);
  Val CheckArithmetic(const ast::Expr& e);
  Val CheckEquality(const ast::Expr& e);
  Val CheckOrder(const ast::Expr& e);
  Val CheckIn(const ast::Expr& e);
  Val CheckLogic(const ast::Expr& e);
  Val CheckCoalesce(const ast::Expr& e, ir::TypeId expected);
  Val CheckIf(const ast::Expr& e, ir::TypeId expected);
  Val CheckMatch(const ast::Expr& e, ir::TypeId expected);
  Val CheckList(const ast::Expr& e, ir::TypeId expected);
  Val CheckMap(const ast::Expr& e, ir::TypeId expected);
  bool DistinctKeys(std::vector<std::pair<ir::Value, Span>> keys);
  Val CheckComprehension(const ast::Expr& e, ir::TypeId expected);
  Val CheckIndex(ast::ExprId id, const ast::Expr& e);
  Val CheckIteration(ast::ExprId source);
  Val AsText(Val value, ast::ExprId at, TextUse use, bool secret_ok);
  Val AsWords(Val value, ast::ExprId at, Span dots, TextUse use);
  Val Logic(const Val& value, ast::ExprId at);
  void WarnForeign(const ast::Part& part);
  bool CheckPattern(const ast::Expr& e);

  // references.cpp
  Val CheckName(ast::ExprId id, const ast::Expr& e, bool secret_ok);
  Val CheckMember(ast::ExprId id, const ast::Expr& e, bool secret_ok);
  Val MemberOfValue(ast::ExprId id, const ast::Expr& e, Val base);
  Val MemberOfWord(WordKind word, ast::ExprId id, const ast::Expr& e, bool secret_ok);
  Val MemberOfJob(ast::ExprId id, const ast::Expr& e, const JobRef& ref);
  Val MemberOfInstance(ast::ExprId id, const ast::Expr& e, const Val& instance);
  Val MemberOfModule(ast::ExprId id, const ast::Expr& e, Symbol& symbol, bool secret_ok);
  Val CaseOf(const ast::Expr& e, ir::TypeId enum_type);
  Val OutputOf(JobInfo& job, const ast::Expr& e, uint32_t output);
  Val ParamValue(Symbol& symbol, Span span, bool secret_ok);
  Val LetValue(uint32_t index, Span span, bool secret_ok);
  bool ResolveJobRef(ast::ExprId base, JobRef& ref);
  JobInfo* JobNamed(ast::ExprId name);
  const LocalName* FindLocal(std::string_view name) const;
  Symbol* FindValue(std::string_view name) const;
  Unit* LibraryOf(const Symbol& import) const;
  /// The enum that `Mode` or `qc.Mode` names, invalid if it names none.
  ir::TypeId EnumNamed(ast::ExprId path);
  WordKind WordOf(std::string_view name) const;
  Val LoopVariable(std::string_view name, Span span);
  /// In the text of a template: whether the template declares what it names; else reports E101.
  bool TemplateSees(std::string_view block, std::string_view name, Span span, Span declared, std::string_view help);
  Val Leaf(ir::ExprId expr, ir::TypeId type, Phase phase, Span span, Span leaf);
  std::vector<std::string_view> VisibleNames() const;
  Val UnknownName(const ast::Expr& e);
  std::optional<ir::StatusField> StatusOf(std::string_view name) const;
  ir::TypeId StatusType(ir::StatusField field);
  void NotePerRun(Span span);

  // calls.cpp
  Val CheckCall(ast::ExprId id, const ast::Expr& e, ir::TypeId expected, bool secret_ok);
  Val CheckApply(const ast::Expr& e, uint32_t fn, std::string_view name, bool secret_ok);
  Val CheckBuiltin(const ast::Expr& e, ir::Builtin builtin);
  Val CheckFileCall(const ast::Expr& e, bool dir);
  Val CheckTextFile(const ast::Expr& e, bool json);
  /// A part of `id` that becomes the path of a file, which differs between the places where it runs; invalid if there is none.
  ir::ExprId PathInText(ir::ExprId id, std::set<uint32_t>& seen) const;
  Val CheckCoalesceCall(const ast::Expr& e, ir::TypeId expected);
  Val CheckCapture(const ast::Expr& e);
  Val CheckStruct(const ast::Expr& e, ir::TypeId expected);
  Val CheckPair(const ast::Expr& e);
  void ReportBadCall(const ast::Expr& e, ir::Builtin builtin, llvm::ArrayRef<Given> given);
  bool OnlyPositional(const ast::Expr& e, std::string_view name);
  void CheckRest(const ast::Expr& e);

  // convert.cpp
  Val Coerce(Val value, ir::TypeId expected, ast::ExprId at);
  Val Refine(Val value, ir::TypeId expected, Span span);
  bool Covariant(ir::TypeId from, ir::TypeId to) const;
  bool Convertible(ir::TypeId from, ir::TypeId to) const;
  /// The type both can be seen as; invalid if there is none. `direct`: Int may become Float.
  ir::TypeId Unify(ir::TypeId x, ir::TypeId y, bool direct);
  Val FileOf(Val text, bool dir, Span span);
  Val NotNull(Val value, ast::ExprId at, ir::TypeId wanted);
  void ExplainNull(Diagnostic& d, const Val& value, ast::ExprId at, ir::TypeId wanted);
  Val Mismatch(const Val& value, ir::TypeId expected, ast::ExprId at);
  Val SecretFault(Span span);
  bool HasUnknown(ir::TypeId type) const;

  // narrowing.cpp
  Val Narrow(Val value) const;
  Val NarrowOutput(Val value, const std::string& ok_key) const;
  bool Known(const std::string& key) const;
  bool AnyFacts() const { return !facts_.empty() || !scope_.facts.known.empty(); }
  bool StableKey(ir::ExprId expr, std::string& out) const;
  bool NormalKey(ir::ExprId expr, std::string& out) const;
  bool InstanceKeyOf(uint32_t job, llvm::ArrayRef<ir::ExprId> indices, std::string& out) const;

  // helpers
  const ast::Expr& Ast(ast::ExprId id) const { return file_[id]; }
  ast::ExprId Bare(ast::ExprId id) const;  ///< without parentheses
  Span SpanOf(ast::ExprId id) const { return id.valid() ? file_[id].span : Span{}; }
  /// A value of the type as it could be typed, for helps: `"…"`, `1`, `Mode.full`.
  std::string Example(ir::TypeId type) const;
  std::string TextOf(Span span) const;     ///< source text for messages, shortened
  std::string_view Place() const { return scope_.place.empty() ? std::string_view("this place") : scope_.place; }
  std::string Show(ir::TypeId type) const { return types_.Show(type); }
  ir::TypeId Basic(TK kind) const { return types_.Basic(kind); }
  TK KindOf(const Val& v) const { return types_.kind(v.type); }
  bool IsNumber(TK kind) const { return kind == TK::Int || kind == TK::Float; }
  bool IsQuantity(TK kind) const { return kind == TK::Duration || kind == TK::Bytes; }
  Val Error(ir::TypeId type = {}) const;
  Val ConstantOf(ir::TypeId type, ir::Value value, Span span);
  Val Make(Op op, ir::TypeId type, std::initializer_list<const Val*> args, Span span, uint32_t a = 0, uint32_t b = 0);
  Val Make(Op op, ir::TypeId type, llvm::ArrayRef<Val> args, Span span, uint32_t a = 0, uint32_t b = 0);
  static void Join(Val& into, const Val& from);
  void Suggest(Diagnostic& d, std::string_view name, std::vector<std::string_view> candidates, Span span);
  void PushLocal(const ast::Name& name, ir::TypeId type, uint32_t slot, const Val& from);
  /// Facts of `condition` hold until the returned mark is given to PopFacts.
  size_t PushFacts(const Val& condition, bool truth);
  void PopFacts(size_t mark) { facts_.resize(mark); }

  Checker& c_;
  const Scope& scope_;
  const ast::File& file_;
  ir::TypeTable& types_;
  ir::ExprPool& exprs_;
  llvm::SmallVector<LocalName, 2> locals_;
  std::vector<std::string> facts_;
  uint32_t next_slot_;
  uint32_t frame_;
  unsigned conditional_ = 0;   ///< inside a part that may not be evaluated: constant faults there are not faults yet
  unsigned depth_ = 0;
  bool too_deep_ = false;      ///< reported
  std::string_view refine_place_;   ///< the place named by a failed refinement, where it is not the scope's
};

}  // namespace jobc::check
