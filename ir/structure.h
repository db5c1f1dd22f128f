// What an expression or a type is, as a digest that does not depend on ids, on the order of declarations or on what else
// the program holds: the same text in two plans has the same digest. Names of parameters, jobs, outputs and inputs count,
// the values of parameters do not. Used for cache keys and for comparing plans.
#pragma once

#include <string>
#include <unordered_map>

#include "ir/plan.h"

namespace jobc::ir {

class Structure {
 public:
  /// `plan` must outlive it.
  explicit Structure(const Plan& plan) : plan_(plan) {}

  /// 64 hex digits; of an invalid id: empty. `job` gives `for`, `matrix`, `input` and `output` their names.
  const std::string& Of(ExprId id, uint32_t job);
  /// Name, fields, cases and refinements at every depth.
  const std::string& Of(TypeId id);

 private:
  std::string Immediate(const Expr& e, uint32_t job);

  const Plan& plan_;
  std::unordered_map<uint64_t, std::string> exprs_;  ///< by job and id
  std::unordered_map<uint32_t, std::string> types_;
  std::string empty_;
};

}  // namespace jobc::ir
