// Stage 3 of 4: what Check makes of the ASTs. All names are resolved, all expressions typed, templates and defaults
// merged; every profile is checked and kept, none is selected and no parameter has a value yet. Lower() (compiler/lower)
// turns a Model and the choices of one command line into an ir::Plan.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "compiler/ast/ast.h"
#include "compiler/check/test_case.h"
#include "compiler/diagnostics/diagnostics.h"
#include "compiler/source/source.h"
#include "ir/plan.h"

namespace jobc {

/// The latest moment a leaf of an expression becomes known. Ordered; an expression has the latest phase of its leaves.
///   C literals, `let` and `fn` over them · P params, variables of static scatters, size() of plan-time files ·
///   S outputs and status of jobs, variables of dynamic scatters · A `attempt`, `prev` · E stdout() … · R `run.*`
enum class Phase : uint8_t { C, P, S, A, E, R };

/// One layer of a job's settings as a profile changes them: the job as it is under that profile.
struct ProfileJob {
  uint32_t job = 0;
  ir::Job settings;
};

struct Profile {
  std::string name;
  Span span;
  bool is_default = false;
  std::vector<ProfileJob> jobs;      ///< only jobs that differ from Model::plan.jobs
  std::vector<ir::Pool> pools;       ///< all pools, with this profile's slots
  ir::Limits limits;
  std::optional<ir::Strategy> on_error;
  ir::ExprId max_parallel;
};

/// A fact that the plan stage checks on values and that needs a place to point at.
struct ParamRequire {
  ir::ExprId condition, message;
  std::string text;                  ///< source text of the condition
  Span span;
};

/// A File or Dir literal in the sources: must exist at plan time (E703).
struct FileLiteral {
  ir::ExprId expr;                   ///< Op::FileLiteral
  Span span;
};

/// A shell script as it will be run, for tools that read scripts. One for each heredoc, however many jobs use it.
struct ShellScript {
  /// From `text` on, the script is a copy of the source from `source` on, up to the next anchor; where not `copied`, jobc
  /// wrote it (a reference to a value) in place of what stands at `source`.
  struct Anchor {
    uint32_t text = 0;
    uint32_t source = 0;
    bool copied = true;
  };
  std::string text;
  bool bash = false;                 ///< else POSIX sh
  bool main = true;                  ///< false: prologue or epilogue, which share their shell with the script
  SourceId source;
  std::vector<Anchor> positions;     ///< by `text`
};

struct Model {
  ir::Plan plan;                     ///< under no profile; params without values, sources without hashes
  std::vector<Profile> profiles;
  std::vector<ParamRequire> requires_;
  std::vector<FileLiteral> files;
  std::vector<ShellScript> shell_scripts;
  std::vector<Span> param_spans;     ///< of plan.program.params
  std::vector<Span> job_spans;       ///< names of plan.jobs
  Span limits_span;                  ///< keyword of the root's `limits`
  Diagnostics without_profile;       ///< what `process` cannot do, in a file with profiles: told where none of them is taken
  std::vector<SourceId> sources;     ///< of plan.sources and ir::Place::source
  SourceId root;
  std::vector<TestCase> tests;       ///< in source order; complete only without errors
};

}  // namespace jobc
