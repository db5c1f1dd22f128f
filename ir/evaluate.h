// The only evaluator of expressions, used by the compiler (constants), the plan, the run, `test` and `--expand`.
// Pure: everything outside the Program comes through an EvalContext. Always terminates: there is no recursion, and a
// budget bounds the work (nested calls can otherwise take exponential time). Exact: Int, Duration and Bytes arithmetic
// is 64-bit and overflow is a fault. Not thread-safe; make one Evaluator per thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ir/program.h"
#include "ir/value.h"

namespace jobc::ir {

enum class FaultKind : uint8_t {
  Overflow, DivisionByZero, BadIndex, BadArgument, Refinement, Null, NotText, TooLarge,
  Unavailable,  ///< the context cannot give it in this phase (not a fault of the user)
};

/// Why an expression has no value. `message` names operation and operands, lower case, no final period.
struct Fault {
  FaultKind kind = FaultKind::BadArgument;
  std::string message;
  ExprId at;  ///< the smallest expression that failed
};

/// Supplies what is not in the Program. Each function returns false with `fault` filled (kind Unavailable by default).
class EvalContext {
 public:
  virtual ~EvalContext() = default;
  virtual bool Var(uint32_t slot, Value& out, Fault& fault);
  virtual bool Input(uint32_t index, Value& out, Fault& fault);
  virtual bool Resource(ResourceKind kind, Value& out, Fault& fault);
  virtual bool OutputPath(uint32_t output, Value& out, Fault& fault);
  virtual bool OutputValue(uint32_t output, Value& out, Fault& fault);
  /// `indices` in domain order; all of them: one instance.
  virtual bool JobOutput(uint32_t job, uint32_t output, const ListValue& indices, Value& out, Fault& fault);
  virtual bool JobStatus(uint32_t job, StatusField field, const ListValue& indices, Value& out, Fault& fault);
  virtual bool ScatterStatus(uint32_t job, StatusField field, Value& out, Fault& fault);
  /// The instances whose leading indices are `indices`, in instance order, as a list of Instance values.
  virtual bool Instances(uint32_t job, const ListValue& indices, Value& out, Fault& fault);
  virtual bool InstanceOutput(const Value& instance, uint32_t output, Value& out, Fault& fault);
  virtual bool InstanceStatus(const Value& instance, StatusField field, Value& out, Fault& fault);
  virtual bool InstanceKey(const Value& instance, Value& out, Fault& fault);
  virtual bool RunField(RunFieldKind kind, Value& out, Fault& fault);
  virtual bool Attempt(Value& out, Fault& fault);
  virtual bool Prev(PrevKind kind, Value& out, Fault& fault);
  virtual bool Secret(uint32_t index, Value& out, Fault& fault);
  virtual bool Stdout(Value& out, Fault& fault);
  virtual bool Stderr(Value& out, Fault& fault);
  virtual bool ExitCode(Value& out, Fault& fault);
  virtual bool ReadText(const std::string& path, Value& out, Fault& fault);
  /// The parsed JSON file as a Json value; the evaluator decodes it into the type.
  virtual bool ReadJson(const std::string& path, Value& out, Fault& fault);
  /// size(f), sha256(f). At plan time from Plan::files or the disk, in a run from the staged file.
  virtual bool FileSize(const FileValue& file, Value& out, Fault& fault);
  virtual bool FileSha256(const FileValue& file, Value& out, Fault& fault);
  /// The text of a File or Dir in argv, scripts, env and `~{}`: the path the job sees.
  virtual bool FileText(const FileValue& file, std::string& out, Fault& fault);
};

/// What one `env` entry or secret file becomes.
struct EnvText {
  bool unset = false;   ///< null: the variable is not set
  bool secret = false;  ///< must be masked and must never reach a place others can read
  std::string text;
};

class Evaluator {
 public:
  /// Both must outlive the Evaluator. `budget`: steps for one Evaluate call (FaultKind::TooLarge beyond).
  explicit Evaluator(const Program& program, uint64_t budget = uint64_t{2} << 30);
  ~Evaluator();
  const Program& program() const { return program_; }

  /// On failure `fault()` says why. `locals` are the initial frame (for predicates: `it`).
  bool Evaluate(ExprId expr, EvalContext& context, Value& out);
  bool EvaluateWithLocals(ExprId expr, EvalContext& context, ListValue locals, Value& out);
  /// Evaluates a List, Args or splice-holding list as argv words with their text forms. A null element is a fault.
  bool EvaluateArgv(ExprId expr, EvalContext& context, std::vector<std::string>& out);
  /// The value of an `env` entry or secret file. This and nothing else turns a Secret into text.
  bool EvaluateEnv(ExprId expr, EvalContext& context, EnvText& out);
  const Fault& fault() const { return fault_; }

  /// Whether `value` satisfies every refinement inside `type`; on failure fault() says "`place` must be 1..64, but is 80",
  /// for a part of it "`place` at `/rows/3` must be …", and without a place "/rows/3: must be …".
  bool CheckRefinements(const Value& value, TypeId type, std::string_view place, EvalContext& context);

  /// The one text form (language reference, "Text and JSON forms"). Fails on types without one, on NUL bytes, and on
  /// every Secret, whatever `type` says: only EvaluateEnv() reveals those.
  bool ToText(const Value& value, TypeId type, EvalContext& context, std::string& out);
  /// Drops memoized lets (needed when params change).
  void Reset();

 private:
  struct State;
  const Program& program_;
  Fault fault_;
  std::unique_ptr<State> state_;
  friend class Machine;
};

/// Largest unit that divides: `90s`, `2h`, `0s`.
std::string DurationText(int64_t milliseconds);
/// As in a source, by the largest binary unit that divides: `16GiB`, `1500B`.
std::string BytesText(int64_t bytes);
/// For people: `16 GiB`, `1.5 MB`.
std::string BytesForPeople(int64_t bytes);
/// Shortest text that reads back as the same double, in ECMAScript form: `1`, `0.05`, `1e+21`.
std::string FloatText(double value);
bool ParseDuration(std::string_view text, int64_t& milliseconds);
bool ParseBytes(std::string_view text, int64_t& bytes);

}  // namespace jobc::ir
