// What of an expression is decided by parameters alone, and could fail: the part of stage 4 that finds `1 / params.z` with
// z = 0 before anything runs. Pure: it looks at the shape of expressions only; Lower() evaluates what it names.
#pragma once

#include <set>
#include <unordered_map>
#include <vector>

#include "ir/plan.h"

namespace jobc {

class EarlyParts {
 public:
  /// `program` must outlive this. `static_domain`: variables of the job's scatter are known when it is planned.
  EarlyParts(const ir::Program& program, bool static_domain) : program_(program), static_domain_(static_domain) {}

  /// The largest parts of `root` that only parameters, constants and variables of a static scatter decide, that are evaluated
  /// whatever else has which value, and that may have no value. In the order in which they are evaluated.
  std::vector<ir::ExprId> Of(ir::ExprId root);
  /// Whether the value differs from instance to instance.
  bool DependsOnInstance(ir::ExprId expr);
  /// Whether the whole expression is decided by parameters.
  bool IsEarly(ir::ExprId expr) { return LookAt(expr).early; }

 private:
  struct Facts {
    bool early = true;      ///< known when planned
    bool faults = false;    ///< may have no value
    bool instance = false;  ///< depends on a variable of the scatter
  };
  const Facts& LookAt(ir::ExprId expr);
  void Collect(ir::ExprId expr, std::vector<ir::ExprId>& out);

  const ir::Program& program_;
  bool static_domain_;
  std::unordered_map<uint32_t, Facts> facts_;
  std::set<uint32_t> collected_;
};

}  // namespace jobc
