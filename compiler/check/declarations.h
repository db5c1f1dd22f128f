// Inside Check, declaration side: layers of settings and how they merge, the parts of the work in their order.
// A job is what `defaults`, profile root, templates, the job itself and the profile's job block say together; every item
// keeps the unit whose names it sees, so that a template's text means what it meant where it was written.
#pragma once

#include <llvm/ADT/ArrayRef.h>
#include <llvm/ADT/SmallVector.h>

#include <deque>
#include <list>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "compiler/check/checker.h"
#include "compiler/lock/lock.h"
#include "compiler/check/schema.h"

namespace jobc::check {

enum class LayerKind : uint8_t { Defaults, ProfileRoot, Template, Job, ProfileJob };

/// What the template's text may call `template.x`; filled when the job that uses it is resolved.
struct TemplateUse {
  uint32_t template_index = 0;
  std::vector<TemplateArgument> arguments;
};

/// The items of one block, of one source.
struct Layer {
  Unit* unit = nullptr;
  Slice<ast::ItemId> items;
  LayerKind kind = LayerKind::Job;
  TemplateUse* use = nullptr;   ///< of LayerKind::Template
  Span span;                    ///< of the block's keyword
  bool missing = false;         ///< a template that could not be found: what it would have said is not known
};

/// Lowest first. Items refer to the layers of the Merged they are part of, which is moved but never copied.
using Layers = std::vector<Layer>;

/// One item with the layer it comes from.
struct Placed {
  const ast::Item* item = nullptr;
  ast::ItemId id;
  const Layer* layer = nullptr;

  explicit operator bool() const { return item != nullptr; }
  Unit* unit() const { return layer->unit; }
};

/// An attribute or field with all its layers, lowest first; the last one counts unless the rule says otherwise.
struct MergedItem {
  std::string_view name;
  llvm::SmallVector<Placed, 1> all;
  const Placed& last() const { return all.back(); }
};

/// A nested block with all its layers, lowest first. `label` is the text of its labels ("oom").
struct MergedBlock {
  std::string_view name;
  std::string label;
  Layers layers;
  const ast::Item* first = nullptr;
};

struct Merged {
  Merged() = default;
  Merged(Merged&&) = default;
  Merged& operator=(Merged&&) = default;

  Layers layers;
  llvm::SmallVector<MergedItem, 8> attrs;
  llvm::SmallVector<MergedItem, 4> fields;
  std::vector<MergedBlock> blocks;
  Placed for_item;
  std::vector<Placed> requires_;
  std::vector<Placed> arms;     ///< later layers first
  bool incomplete = false;      ///< a layer or an item could not be read (reported): what seems missing may not be

  const Placed* Attr(std::string_view name) const;
  const MergedItem* AttrLayers(std::string_view name) const;
  const MergedBlock* Block(std::string_view name) const;
};

struct TemplateInfo {
  Unit* unit = nullptr;
  ast::ItemId item;
  Progress progress = Progress::Untouched;
};

struct PoolInfo {
  Unit* unit = nullptr;
  ast::ItemId item;
  uint32_t plan_index = UINT32_MAX;   ///< in plan.pools, once it is there
};

struct SecretInfo {
  Unit* unit = nullptr;
  ast::ItemId item;
};

/// What an `import … as name` stands for.
struct ImportInfo {
  Unit* library = nullptr;      ///< types, functions, constants and templates of the file; nullptr where it failed
  const ast::File* file = nullptr;
  Span span;
};

/// The declaration of a job with its merged layers.
struct JobDecl {
  Merged merged;
  std::list<TemplateUse> uses;                               ///< layers point at them
  Facts when_facts;
};

struct ProfileInfo {
  Unit* unit = nullptr;
  ast::ItemId item;
};

struct Declarations {
  std::deque<ast::File> files;
  std::map<std::string, const ast::File*> file_of_path;      ///< by real path or std name
  std::map<const ast::File*, Unit*> library_of_file;
  std::vector<std::string> loading;                          ///< files being imported, for cycles
  void loading_pop() { if (!loading.empty()) loading.pop_back(); }
  std::deque<TemplateInfo> templates;
  std::deque<PoolInfo> pools;
  std::deque<SecretInfo> secrets;
  std::deque<ImportInfo> imports;
  std::deque<JobDecl> job_decls;                             ///< same order as Checker::jobs
  std::vector<std::string> resolving;                        ///< names being resolved, for cycles
  uint32_t references_inside = 0;                            ///< of `resolving`, those that are not jobs
  std::vector<uint32_t> resolving_depth;                     ///< as many: how deep is what each refers to, so far
  struct UnitBlocks {
    std::vector<Layer> defaults;
    std::vector<std::pair<ast::ItemId, uint32_t>> jobs;      ///< with Checker::jobs index
    std::vector<ast::ItemId> exports, publishes, limits, tests, params_blocks;
    std::vector<ast::ItemId> requires_;
  };
  std::deque<UnitBlocks> unit_blocks;                        ///< same order as Checker::units
  std::vector<ProfileInfo> profiles;
  /// Whether the lock beside the root names the content of an image. One that cannot be read does not; the plan says so.
  bool Locks(const Checker& c, std::string_view image);
  std::optional<Result<Lock>> lock;                          ///< of the root's directory, once a remote import or an image asked for it
  Unit* test_unit = nullptr;                                 ///< of a test file without jobs: sees the names of the file it is about
  std::set<std::pair<uint32_t, uint32_t>> shell_scripts;     ///< heredocs that Model::shell_scripts holds: source, offset
  /// What a job is under a profile: (Model::profiles, job). Only those that the profile touches.
  std::map<std::pair<size_t, uint32_t>, Merged> merged_of_profile;
};

/// Merges layers, lowest first. `block` says which attributes are known there: unknown ones are E102, the same one twice
/// in one layer E103.
Merged Merge(Checker& checker, Layers layers, uint32_t block);

/// units.cpp: declares everything of `root` and what it imports or instantiates.
void DeclareAll(Checker& checker, SourceId root);
/// jobs.cpp
void CheckJobs(Checker& checker);
/// The groups of settings that CheckSettings knows, one bit each, so that a profile re-checks only what it touches.
ir::Job CheckJobUnderProfile(Checker& checker, uint32_t job, const Layers& profile_root,
                             const Layers& profile_job);
/// dependencies.cpp: dependencies of one job from its expressions.
void CollectDependencies(Checker& checker, uint32_t job, ir::Job& out);
void FindCycles(Checker& checker);
/// implicit_inputs.cpp: hoists File values in argv, scripts and env into inputs `_1`, `_2` ….
ir::ExprId HoistFiles(Checker& checker, ir::Job& job, ir::ExprId expr);
/// The pool that `name` means in `unit`, declared in the plan on its first use; E101 at `span` where there is none.
PoolInfo* FindPool(Checker& checker, Unit& unit, std::string_view name, Span span);
/// Gives a pool its place in the plan and checks its slots. `name`: as its file calls it.
void DeclarePool(Checker& checker, PoolInfo& pool, std::string_view name);
/// Whether the template, or one that it uses itself, declares `name` in its `input`, `output`, `resources`, `matrix` or `for`.
bool TemplateDeclares(Checker& checker, const JobInfo& job, const TemplateUse& use, std::string_view block, std::string_view name);
std::string_view TemplateName(Checker& checker, const TemplateUse& use);
/// What the templates of a job may call `template.x`. `early`: those arguments that use nothing of the job itself, before
/// its domain is resolved; else the rest, when its inputs are known.
void ResolveTemplateArguments(Checker& checker, JobInfo& job, JobDecl& decl, bool early);
/// tests.cpp: `test` blocks into Model::tests; nothing of them is run here.
void CheckTests(Checker& checker);
/// retry_rules.cpp: retries that may not end, rules that can never fire, growth, limits of time (E501 E503 W502 W504).
void CheckRetryRules(Checker& checker);
/// reachability.cpp: jobs that can never run, `after` that changes nothing, keys that may collide, images by tag, budgets
/// that are exceeded whatever the parameters are (E302 W303 E304 W304 W902 W505 E605).
void CheckReachability(Checker& checker);
/// capabilities.cpp: what the backends of all profiles cannot do or see, or not so much of (E601 E602 E603).
void CheckCapabilities(Checker& checker);
/// unused.cpp: W704, in files without errors.
void CheckUnused(Checker& checker);
/// profiles.cpp
void CheckProfiles(Checker& checker);
ir::Limits CheckLimits(Checker& checker, const Layers& layers);
/// The signature of a job that is a template and nothing else.
void ResolveTemplateAlone(Checker& c, uint32_t job, uint32_t template_index);
/// The option `mounts` of a container backend as ir::MountsOf() reads it; invalid after a reported fault.
ir::ExprId CheckMounts(Checker& c, ast::ExprId value, const Scope& scope, ir::BackendKind kind);
std::optional<ir::Backend> CheckBackend(Checker& checker, const MergedItem& layers, const Scope& scope);

ir::TypeId PositiveInt(Checker& checker);
/// A name and where it stands, for messages about cycles.
std::string CyclePath(const std::vector<std::string>& names, std::string_view again);
/// Constant text of a String expression without interpolations, or nullopt.
std::optional<std::string> PlainText(const ast::File& file, ast::ExprId expr);
/// The source text of an expression.
std::string_view SourceText(const Checker& checker, const ast::File& file, ast::ExprId expr);
bool IsScopeWord(std::string_view name);

}  // namespace jobc::check
