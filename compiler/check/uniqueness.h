// Inside Check: proofs that the keys of a scatter, or the names of the files that its instances leave, differ, whatever the
// parameters are. Sound, not complete: `true` is a proof, `false` says nothing (W304; the plan compares the values).
#pragma once

#include <vector>

#include "compiler/check/checker.h"

namespace jobc::check {

class Uniqueness {
 public:
  /// `checker` must outlive this.
  explicit Uniqueness(Checker& checker) : c_(checker) {}

  /// Distinct elements of the list have distinct keys.
  bool OfKeys(const ir::Domain& domain);
  /// Distinct instances of `job` leave files with distinct basenames at `path`, an expression over its variables.
  bool OfNames(const ir::Job& job, ir::ExprId path);
  /// Without the lets, conversions and checks around it.
  ir::ExprId Peel(ir::ExprId id) const;

 private:
  using ExprId = ir::ExprId;

  /// Whether distinct elements of the list give distinct values of `expr`. `arguments`: of the function being looked into.
  bool Unique(const ir::Domain& domain, ExprId expr, const std::vector<ExprId>& arguments = {}) const;
  ExprId Resolved(ExprId expr, const std::vector<ExprId>& arguments) const;
  bool IsInt(ExprId expr, const std::vector<ExprId>& arguments) const;
  /// One part differs, and the text can be taken apart again: between two values stands a character that cannot be part of
  /// the one before it.
  bool UniqueTemplate(const ir::Domain& domain, const ir::Expr& e, const std::vector<ExprId>& arguments) const;
  /// Whether the text of the value may hold the character.
  bool CanHold(ExprId expr, char ch, const std::vector<ExprId>& arguments) const;
  /// Only classes, plain characters, groups and counts are understood; anything else may match anything.
  static bool PatternCanHold(const std::string& pattern, char ch);
  /// The declared, possibly refined type of a field of a struct or of a parameter.
  ir::TypeId DeclaredType(ExprId id) const;
  /// Whether the elements of the list are distinct by themselves.
  bool Distinct(ExprId list) const;
  bool Covered(const ir::Domain& domain, ExprId key) const;
  /// `require unique([for s in xs : e])` with the same list and, with the loop variable put in its place, the same `e`.
  /// Without `key`: `require unique(xs)` or of the variable itself.
  bool RequiredUnique(ExprId list, ExprId key) const;
  /// `x` over the loop variable of a job is `y` over the comprehension variable in `slot`.
  bool SameWithVar(ExprId x, ExprId y, uint32_t slot) const;
  /// A piece of a text; `arguments`: of the function whose body it stands in.
  struct Part {
    ExprId expr;
    std::vector<ExprId> arguments;
  };
  /// The axis that `expr` is the value of, in a form that keeps values apart; UINT32_MAX: none.
  uint32_t AxisOf(const Part& part) const;
  /// The pieces of a text, with function calls and nested templates opened.
  void TakeApart(const Part& text, std::vector<Part>& out) const;
  /// Whether some text in a list of constants holds the character; true where the list is not constant.
  bool ValuesCanHold(ExprId list, bool keys, char ch) const;

  Checker& c_;
  const ir::Domain* domain_ = nullptr;  ///< whose variables are meant, for what they may hold
};

}  // namespace jobc::check
