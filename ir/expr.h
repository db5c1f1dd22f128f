// Typed, resolved expression trees: what the checker makes of source expressions, what the plan stores, and what the
// one evaluator (evaluate.h) runs. All names are resolved, all implicit conversions explicit; every node has its type.
// Nodes live in an ExprPool and may be shared (the trees form a DAG, always acyclic).
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "ir/type.h"
#include "ir/value.h"

namespace jobc::ir {

// OP(Name, "json name") — operands in the comment. `a`, `b` are the node's two immediate numbers, `args` its children.
#define JOBC_IR_OPS(OP)                                                                                       \
  OP(Error, "error")               /* an expression that did not check; never in a plan */                    \
  OP(Const, "const")               /* a: constant */                                                          \
  OP(Param, "param")               /* a: Program::params */                                                   \
  OP(Let, "let")                   /* a: Program::lets */                                                     \
  OP(Secret, "secret")             /* a: Program::secrets */                                                  \
  OP(Local, "local")               /* a: slot in the frame (fn parameter, comprehension variable, `it`) */    \
  OP(Var, "var")                   /* a: 0 first, 1 second name of `for`, 2+k axis k of `matrix` */           \
  OP(Input, "input")               /* a: input of the current job */                                          \
  OP(Resource, "resource")         /* a: ResourceKind: effective resource of the attempt */                   \
  OP(OutputPath, "output_path")    /* a: output of the current job; File or Dir with base Output */           \
  OP(OutputValue, "output_value")  /* a: earlier `= expr` output of the current job */                        \
  OP(JobOutput, "job_output")      /* a: job, b: output; args: all indices in domain order (none: single) */  \
  OP(JobStatus, "job_status")      /* a: job, b: StatusField; args: indices of one instance */                \
  OP(ScatterStatus, "scatter_status") /* a: job, b: StatusField, over all instances */                        \
  OP(GatherOutput, "gather_output")   /* a: job, b: output; args: leading indices, rest gathered -> List */   \
  OP(GatherStatus, "gather_status")   /* a: job, b: StatusField; args: leading indices -> List */             \
  OP(Instances, "instances")       /* a: job; args: leading indices; List<Instance> */                        \
  OP(InstanceOutput, "instance_output") /* b: output; args[0]: an Instance */                                 \
  OP(InstanceStatus, "instance_status") /* b: StatusField; args[0]: an Instance */                            \
  OP(InstanceKey, "instance_key")  /* args[0]: an Instance; JOB_KEY text */                                   \
  OP(RunField, "run_field")        /* a: RunFieldKind */                                                      \
  OP(Attempt, "attempt")           /* number of the attempt being prepared */                                 \
  OP(Prev, "prev")                 /* a: PrevKind of the failed attempt */                                    \
  OP(Field, "field")               /* a: field of struct or Pair args[0] */                                   \
  OP(OptField, "opt_field")        /* the same, null where args[0] is null */                                 \
  OP(JsonField, "json_field")      /* args[0] Json or Json?, a: constant with the key; Json? */               \
  OP(Index, "index")               /* args: list|map|Json, index */                                           \
  OP(Not, "not") OP(Negate, "negate")                                                                         \
  OP(Add, "add") OP(Sub, "sub") OP(Mul, "mul") OP(Div, "div") OP(Mod, "mod")                                  \
  OP(Eq, "eq") OP(Ne, "ne") OP(Lt, "lt") OP(Le, "le") OP(Gt, "gt") OP(Ge, "ge")                               \
  OP(In, "in")                     /* args: element, list | map key | range */                                \
  OP(And, "and") OP(Or, "or")                                                                                 \
  OP(Coalesce, "coalesce")         /* `??` and coalesce(): first that is not null */                          \
  OP(Range, "range")               /* args: low, high (inclusive) */                                          \
  OP(If, "if")                     /* args: condition, then, else */                                          \
  OP(Match, "match")               /* args: subject, then pattern, value …; an odd last value is `_` */       \
  OP(List, "list")                 /* args: elements or Splice */                                             \
  OP(Splice, "splice")             /* args[0]: List, List?, T?: only inside List, Call arguments, argv */     \
  OP(Map, "map")                   /* args: key, value, … */                                                  \
  OP(ListFor, "list_for")          /* a: first slot, b: 1 or 2 variables; args: source, body [, condition] */ \
  OP(MapFor, "map_for")            /* a, b as ListFor; args: source, key, value [, condition] */              \
  OP(Struct, "struct")             /* args: all fields in declared order; also Pair */                        \
  OP(Concat, "concat")             /* string interpolation: args are String constants or values with text */  \
  OP(ToFloat, "widen")             /* Int to Float */                                                         \
  OP(ToJson, "to_json")            /* any JSON-able value to Json */                                          \
  OP(FileLiteral, "file")          /* a: FileBase, b: constant with the directory; args[0]: String */         \
  OP(Checked, "checked")           /* args[0] must satisfy the refinements of `type`, a: constant with the name of the place */ \
  OP(Narrow, "narrow")             /* args[0], an optional proven not null here; fails if it is null after all */ \
  OP(Call, "call")                 /* a: Builtin; args; for functions of a type, b: TypeId index */           \
  OP(Apply, "apply")               /* a: Program::fns; args */                                                \
  OP(Stdout, "stdout") OP(Stderr, "stderr") OP(ExitCode, "exit_code")                                         \
  OP(ReadText, "read_text")        /* args[0]: path below $JOB_OUTPUT */                                      \
  OP(ReadJson, "read_json")        /* args[0]: path, b: TypeId index */                                       \
  OP(TemplateArgs, "args")         /* Args value: args are elements or Splice */

enum class Op : uint8_t {
#define OP(name, json) name,
  JOBC_IR_OPS(OP)
#undef OP
};

enum class StatusField : uint8_t { Ok, Done, Failed, Attempts, Duration, Result, Count, OkRatio };
enum class ResourceKind : uint8_t { Cpu, Memory, Disk, Gpu, Spot };
enum class RunFieldKind : uint8_t { Id, Status, FailedJobs };
enum class PrevKind : uint8_t { Cpu, Memory, Disk, Gpu, Spot, TimeoutQueue, TimeoutRun, TimeoutIdle };

/// Built-in functions with a plain call; builtins.def holds names, signatures and documentation.
enum class Builtin : uint8_t {
#define BUILTIN(name, ...) name,
#include "ir/builtins.def"
#undef BUILTIN
};

/// Byte range in the source file with this index (Program::sources); only filled by the compiler.
struct Place {
  uint32_t source = UINT32_MAX;
  uint32_t begin = 0;
  uint32_t end = 0;
};

struct Expr {
  Op op = Op::Error;
  TypeId type;
  uint32_t a = 0;
  uint32_t b = 0;
  Slice<ExprId> args;
};

class ExprPool {
 public:
  /// `args` must be nodes of this pool already (so a pool cannot hold a cycle) and must not point into it.
  ExprId Add(Op op, TypeId type, uint32_t a, uint32_t b, const ExprId* args, size_t count, Place place = {});
  ExprId Add(Op op, TypeId type, std::initializer_list<ExprId> args = {}, Place place = {}, uint32_t a = 0, uint32_t b = 0) {
    return Add(op, type, a, b, args.begin(), args.size(), place);
  }
  ExprId Constant(TypeId type, Value value, Place place = {});
  uint32_t AddConstant(Value value);  ///< for immediate operands
  const Expr& operator[](ExprId id) const { return nodes_[id.index]; }
  /// Retypes a node that nothing else refers to yet.
  void SetType(ExprId id, TypeId type) { nodes_[id.index].type = type; }
  ExprId arg(const Expr& e, uint32_t i) const { return lists_[e.args.begin + i]; }
  ExprId arg(ExprId id, uint32_t i) const { return arg((*this)[id], i); }
  const Value& constant(uint32_t index) const { return constants_[index]; }
  bool IsConst(ExprId id) const { return id.valid() && (*this)[id].op == Op::Const; }
  std::vector<ExprId> ArgsOf(ExprId id) const {
    const Slice<ExprId>& args = (*this)[id].args;
    return {lists_.begin() + args.begin, lists_.begin() + args.begin + args.size};
  }
  const Value& ConstValue(ExprId id) const { return constants_[(*this)[id].a]; }
  Place place(ExprId id) const { return id.index < places_.size() ? places_[id.index] : Place{}; }
  size_t size() const { return nodes_.size(); }

 private:
  std::vector<Expr> nodes_;
  std::vector<ExprId> lists_;
  std::vector<Value> constants_;
  std::vector<Place> places_;
};

std::string_view OpName(Op op);
std::string_view BuiltinName(Builtin builtin);

}  // namespace jobc::ir
