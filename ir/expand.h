// Instances of a declared job: a pure function of the plan (for dynamic domains: of the plan and the value of `for … in`).
// Used by the plan's static checks, `--expand`, and the runtime, so that all three agree.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "ir/evaluate.h"
#include "ir/plan.h"
#include "support/result.h"

namespace jobc::ir {

/// All instances of one job, compactly: elements and axes are stored once, an instance is its ordinal.
class Instances {
 public:
  /// Evaluates list, keys, axes and exclusions. For dynamic domains `list` is the value of the `for` expression.
  /// Fails on duplicate or impossible keys and on more than `max` elements, naming both.
  static Result<Instances> Expand(const Plan& plan, uint32_t job, Evaluator& evaluator, EvalContext& context,
                                  const Value* list = nullptr);

  uint64_t size() const;
  /// Value of Var `slot` (0, 1: names of `for`; 2+k: axis k) in an instance.
  Value Var(uint64_t ordinal, uint32_t slot) const;
  /// Key, then axes: what indices are compared with. Empty for a single instance.
  ListValue Indices(uint64_t ordinal) const;
  /// -1 where there is no such instance.
  int64_t Find(const ListValue& indices) const;
  /// Ordinals whose leading indices equal `leading`, ascending.
  std::vector<uint64_t> FindAll(const ListValue& leading) const;
  /// `somatic["s1","m","2"]`; the job's own address for a single instance.
  std::string Address(uint64_t ordinal) const;
  /// JOB_KEY: the single key's text, for several parts a JSON array of texts, empty without a domain.
  std::string KeyText(uint64_t ordinal) const;

 private:
  Instances() = default;
  struct State;
  std::shared_ptr<const State> state_;
};

/// `name` or `name["k","2"]`; key texts with JSON escapes.
std::string FormatAddress(const std::string& job, const std::vector<std::string>& key_texts);
/// For files and backends: [A-Za-z0-9._-] kept, others %XX, never starting with `.`, unique ignoring case, at most
/// `limit` bytes (then cut and ended by 10 hex digits of SHA-256 of the address).
std::string SafeName(std::string_view address, size_t limit = 200);

}  // namespace jobc::ir
