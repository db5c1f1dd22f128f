// Why an instance runs again: cache keys compared part by part, causes found in the two plans, and the forecast of a run that
// is not made. Used by `explain run`, `plan --since` and `diff`. Reads journals, plans and files; starts nothing.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ir/plan.h"
#include "ir/structure.h"
#include "runtime/cache_key.h"
#include "runtime/reuse.h"
#include "runtime/run_reader.h"

namespace jobc {

/// What lies behind a difference between two plans or runs; the order is that in which they are told.
enum class Cause : uint8_t { Source, Param, InputFile, Upstream, Environment, Result };
std::string_view CauseName(Cause cause);   ///< "source", "param", "input_file", "upstream", "environment", "result"
std::string_view CauseTitle(Cause cause);  ///< "the source changed"

struct PartDifference {
  std::string part;         ///< as in KeyParts
  std::string before, now;  ///< canonical JSON; empty: there is no such part
  Cause cause = Cause::Environment;
  std::string cause_name;   ///< the parameter, file or job behind it; may be empty
};

/// Those parts that differ: what is a cause of others first (inputs before the command that names them).
std::vector<PartDifference> CompareParts(const KeyParts& before, const KeyParts& now);

/// Two plans of which many instances are compared.
struct PlanPair {
  /// Both must outlive it.
  PlanPair(const ir::Plan& b, const ir::Plan& n) : before(b), now(n), before_structure(b), now_structure(n) {}
  const ir::Plan& before;
  const ir::Plan& now;
  ir::Structure before_structure, now_structure;
};

/// Finds the cause of each from what the two plans say about the part. `job_*`: index in the plan.
void FindCauses(std::vector<PartDifference>& differences, PlanPair& plans, uint32_t job_before, uint32_t job_now);

/// For people: what differs in one line, and both values. Never a secret.
struct DifferenceText {
  std::string title;        ///< "input `text` has another content"
  std::string before, now;  ///< what to show of both; may be empty
};
DifferenceText Describe(const PartDifference& difference, const ir::Plan& before, uint32_t job_before, const ir::Plan& now, uint32_t job_now);

/// The text of a script as it was written, as far as the plan knows it: values as `~{…}`, without what jobc puts before it.
std::string ScriptText(const ir::Script& script);

/// `a.job:12: input { text: File = … }`: where the part stands, found in the source below `root` if it is still the one that
/// the plan was made from; else the place of the job.
struct PartPlace {
  std::string file;
  uint32_t line = 0;
  std::string text;         ///< of the line, without its indentation; empty: the source is not at hand
};
PartPlace FindPart(const ir::Plan& plan, uint32_t job, const std::string& part, const std::string& root);

// --- What a run would do ------------------------------------------------------------------------------------------------

enum class Prospect : uint8_t {
  Reused,    ///< its result is there
  Runs,      ///< it runs for certain
  May,       ///< it needs something that runs: what that gives decides
  Skipped,   ///< its guard is false
  Fails,     ///< an expression has no value, a check is false
};
std::string_view ProspectName(Prospect prospect);

struct ForecastRow {
  InstanceRef instance;     ///< ordinal kWholeJob: its instances are not known yet
  std::string address;
  Prospect prospect = Prospect::Runs;
  std::string reason;       ///< in a few words
  std::string key;          ///< Runs: its cache key
  std::vector<PartDifference> differences;  ///< Runs: against the instance of the earlier run with this address
  std::vector<std::string> needs;           ///< May: addresses of what it waits for, some of them
};

struct Forecast {
  std::vector<ForecastRow> rows;  ///< jobs only, in plan order
  bool HasWork() const;
};

/// A run of `plan` with `--resume` of `earlier`, simulated by the scheduler with what is known: instances whose results
/// can be used end at once, others never do. `cache_dir` empty: `cache = true` is not looked at.
Forecast MakeForecast(const ir::Plan& plan, const Roots& roots, EarlierRun* earlier, const std::string& cache_dir);

}  // namespace jobc
