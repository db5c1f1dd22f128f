// Inside Check: what a name can mean and where an expression stands. The declaration side (declarations.cpp, jobs.cpp)
// fills Units and JobInfos; the expression side (expression.cpp) reads them. Everything lives as long as the Checker.
#pragma once

#include <llvm/ADT/StringMap.h>

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "compiler/ast/ast.h"
#include "compiler/check/model.h"
#include "compiler/diagnostics/diagnostics.h"
#include "ir/evaluate.h"

namespace jobc::check {

class Checker;
struct TemplateUse;
struct Unit;

enum class SymbolKind : uint8_t { Param, Let, Fn, Job, Check, Module, Import, Secret, Pool, Template, Struct, Enum, Alias };

/// What a name of a file stands for. `index` into the Checker's vector of that kind.
struct Symbol {
  SymbolKind kind = SymbolKind::Let;
  uint32_t index = UINT32_MAX;
  Span span;       ///< of the declared name
  bool used = false;
};

/// One instantiation of a source file: the root, an imported file used for its types and functions, or a module.
struct Unit {
  uint32_t index = 0;
  const ast::File* file = nullptr;
  std::string prefix;                      ///< "" in the root, "q/" in module q
  Unit* parent = nullptr;                  ///< of a module: where it is instantiated
  bool is_module = false;
  llvm::StringMap<Symbol> values;          ///< lets, jobs, checks, modules, imports, secrets: one value name space
  llvm::StringMap<Symbol> types;           ///< structs, enums, aliases
  llvm::StringMap<Symbol> fns;
  llvm::StringMap<Symbol> params;          ///< visible as `params.x`, bare only inside the params block
  llvm::StringMap<Symbol> pools, templates;
};

enum class Progress : uint8_t { Untouched, Running, Done };

struct ParamInfo {
  Unit* unit = nullptr;
  ast::ItemId item;
  Progress progress = Progress::Untouched;
  ir::TypeId type;                 ///< may be refined
  uint32_t root_index = UINT32_MAX;  ///< in Program::params, for the root file
  ir::ExprId bound;                ///< of a module param: a Let of its argument
  Phase phase = Phase::P;          ///< of a module param: that of the argument
  Span leaf;
};

struct LetInfo {
  Unit* unit = nullptr;
  ast::ItemId item;
  Progress progress = Progress::Untouched;
  uint32_t program_index = UINT32_MAX;  ///< in Program::lets
  ir::TypeId type;
  Phase phase = Phase::C;
  Span leaf;
  uint32_t depth = 0;                   ///< 1: refers to no other constant or function
};

struct FnInfo {
  Unit* unit = nullptr;
  ast::ItemId item;
  Progress progress = Progress::Untouched;
  uint32_t program_index = UINT32_MAX;  ///< in Program::fns
  std::vector<std::string_view> param_names;
  std::vector<ir::TypeId> param_types;  ///< may be refined
  ir::TypeId result;
  Phase phase = Phase::C;               ///< of the body with parameters of phase C
  Span leaf;
  uint32_t depth = 0;                   ///< as LetInfo::depth
};

struct TypeInfo {  // struct, enum or alias
  Unit* unit = nullptr;
  ast::ItemId item;
  Progress progress = Progress::Untouched;
  ir::TypeId type;
};

struct ModuleInfo {
  Unit* outer = nullptr;   ///< where `module q = …` stands
  Unit* inner = nullptr;   ///< its instantiation; nullptr where the import failed
  ast::ItemId item;
  /// Exports of the inner unit, as lets (evaluated in the context of the use).
  llvm::StringMap<uint32_t> exports;  ///< name -> Checker::lets
};

struct OutputInfo {
  std::string_view name;
  ir::TypeId type;                 ///< declared; may be refined
  ir::OutputKind kind = ir::OutputKind::Json;
  Span span;
  Span type_span;
  bool used = false;
};

struct InputInfo {
  std::string_view name;
  ir::TypeId type;                 ///< declared; may be refined
  Phase phase = Phase::P;
  Span leaf;
  Span span;
  bool used = false;
};

struct AxisInfo {
  std::string_view name;
  ir::TypeId type;
  Span span;
};

/// A job, check, finally or hook, as other items see it (its signature) and as its own expressions see it.
struct JobInfo {
  uint32_t index = 0;              ///< in Model::plan.jobs
  ast::Name name;
  Unit* unit = nullptr;
  ast::ItemId item;
  ir::JobKind kind = ir::JobKind::Job;
  Progress progress = Progress::Untouched;
  std::string address;             ///< with module prefix

  std::vector<OutputInfo> outputs;
  std::vector<InputInfo> inputs;   ///< filled before env, run, script … are checked
  bool nullable = false;           ///< consumers see T?
  Span nullable_span;              ///< what makes it so
  std::string nullable_label;      ///< "because of this, a failed `align` leaves its outputs null"

  bool has_for = false;
  bool dynamic = false;
  ast::Name for_name, for_name2;
  ir::TypeId for_type, for_type2;
  Phase for_phase = Phase::P;      ///< phase of the loop variables
  Span for_leaf;
  ir::TypeId key_type;             ///< Int without `key`
  std::vector<AxisInfo> axes;

  /// What is known of `resources.x`, by ir::ResourceKind; filled before run, script … are checked.
  struct ResourceInfo {
    Phase phase = Phase::P;        ///< of its initialiser
    Span leaf;
  };
  ResourceInfo resources[5];

  bool template_alone = false;     ///< a template that no job uses, checked as far as it goes: what is missing is no fault

  bool single() const { return !has_for && axes.empty(); }
  /// Number of indices of one instance: one for `for`, one an axis.
  uint32_t dimensions() const { return (has_for ? 1 : 0) + static_cast<uint32_t>(axes.size()); }
};

/// Which words an expression may use besides the names of its file.
enum ScopeWord : uint32_t {
  kInput = 1, kOutputPaths = 2, kResources = 4, kLoop = 8 /* loop variables and matrix */, kPrev = 16 /* attempt, prev */,
  kRun = 32, kCapture = 64 /* stdout() … in output */, kIt = 128, kBareParams = 256 /* inside params */,
  kEarlierOutputs = 512 /* `= expr` outputs of the same job */, kJobsAreNull = 1024 /* finally, hooks: all outputs T? */,
};

/// What is known not to be null at a place (language reference, "Narrowing"). Keys are made by the expression side.
struct Facts {
  std::vector<std::string> known;
  bool Has(std::string_view key) const;
  void Add(const Facts& more);
};

struct LocalName {
  ast::Name name;
  ir::TypeId type;
  uint32_t slot = 0;
  Phase phase = Phase::C;
  Span leaf;
};

struct Typed {
  ir::ExprId expr;                 ///< always valid; Op::Error after a reported fault
  ir::TypeId type;                 ///< bare
  Phase phase = Phase::C;
  Span leaf;                       ///< the leaf that makes it so late
};

/// A parameter of the template whose text an expression belongs to: what `template.name` means there.
struct TemplateArgument {
  std::string_view name;
  Typed value;                     ///< of type Args for argv lists: then only `...template.name` may use it
};

/// Where an expression stands. Copied and extended for inner scopes by the expression side.
struct Scope {
  Unit* unit = nullptr;
  JobInfo* job = nullptr;          ///< whose `input`, loop variables … are meant; may be null
  uint32_t words = 0;              ///< ScopeWord bits
  Phase latest = Phase::S;         ///< later leaves are E208
  std::string_view place;          ///< for messages: "`when`", "`image`", "a label"
  ir::TypeId it_type;              ///< with kIt
  std::vector<LocalName> locals;
  uint32_t next_slot = 0;
  Facts facts;
  const std::vector<TemplateArgument>* template_arguments = nullptr;  ///< inside a template: `template.x`
  const TemplateUse* template_use = nullptr;  ///< of text that stands in a template: it sees only what the template declares
  bool allow_secret = false;       ///< env values, secret files, module and fn arguments of type Secret
  bool allow_per_run = true;       ///< `.duration`, `.attempts`, `run.id`; else E901
  uint32_t output_index = UINT32_MAX;  ///< with kEarlierOutputs: only outputs before this one
};

}  // namespace jobc::check
