// What the retries of one instance can come to, before anything runs: which rule answers which failure, what each retry
// grants, how many attempts there can be and how long they can take. The same rules as runtime/retry.cpp, which decides
// about real failures; tests/bounds holds the two together. Pure: everything unknown comes through an EvalContext, and
// what that calls unavailable is treated as "may be anything".
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "ir/evaluate.h"
#include "ir/plan.h"

namespace jobc::bounds {

/// A failure as rules see it. `name`: of a named error.
struct Failure {
  ir::ErrorKind kind = ir::ErrorKind::Exit;
  ir::ErrorClass error_class = ir::ErrorClass::Algorithm;
  std::string name;
};

/// Every failure that a rule could be asked about: all kinds that are ever tried again, and the named errors of `arms`.
std::vector<Failure> AllFailures(const std::vector<ir::ErrorArm>& arms);

/// 3 name, 2 kind, 1 class, 0 no match.
int Specificity(const ir::Matcher& matcher, const Failure& failure);
int Specificity(const std::vector<ir::Matcher>& matchers, const Failure& failure);

/// Index into retry.rules, rules.size() for `on = […]` or the default, -1: not tried again. The most specific matcher
/// wins, an earlier rule before a later one, rules before the short form, `never` before all.
int GoverningRule(const Failure& failure, const ir::Retry& retry);

/// What a retry may change, in the order in which it is evaluated.
enum class Setting : uint8_t { Cpu, Memory, Disk, Gpu, Spot, Queue, Run, Total, Idle };
inline constexpr size_t kSettings = 9;
std::string_view SettingName(Setting setting);  ///< "memory", "timeout.run"
/// A value of it as it is written in a source: 16GiB, 90s.
std::string SettingText(Setting setting, const ir::Value& value);
ir::ExprId SettingOf(const ir::ResourceSpec& resources, const ir::TimeoutSpec& timeout, Setting setting);

/// The settings of one attempt.
struct Effective {
  enum class State : uint8_t { None, Known, Unknown };
  std::array<State, kSettings> state{};
  std::array<ir::Value, kSettings> value;

  bool known(Setting s) const { return state[static_cast<size_t>(s)] == State::Known; }
  /// nullopt: not given, or not known.
  std::optional<int64_t> Ms(Setting s) const;
  bool operator==(const Effective&) const = default;
};

/// As the job declares them.
Effective Declared(const ir::Job& job, ir::Evaluator& evaluator, ir::EvalContext& context);

/// Whether the expression uses `prev`: then it is a growth step. `attempt` alone: a schedule of its own.
bool UsesPrev(const ir::Program& program, ir::ExprId expr);
bool UsesAttempt(const ir::Program& program, ir::ExprId expr);
/// `min(e, cap)` with a cap that uses neither `prev` nor `attempt`.
bool IsCapped(const ir::Program& program, ir::ExprId expr);

/// Whether another rule that may grant retries sets something that `rule`, one of retry.rules, sets too: then it does not
/// grow from its own values alone.
bool OthersSet(const ir::Retry& retry, const ir::RetryRule& rule);

struct Step {
  enum class Outcome : uint8_t {
    Changed,    ///< granted: some setting differs, or the rule changes none, or sets some anew
    CapReached, ///< refused: all that it changes only grows, and nothing does any more
    Fault,      ///< refused: an expression has no value, for example `prev.memory` of a job without `memory`
    Unknown,    ///< depends on what is not known yet; taken as granted
  };
  Outcome outcome = Outcome::Changed;
  Effective next;
  Setting at = Setting::Cpu;  ///< Fault: the setting that failed
  std::string why;
};

/// What `rule` makes of the attempt before, which was number `attempt` - 1. Rules without an overlay change nothing.
Step Apply(const ir::RetryRule& rule, const Effective& before, int64_t attempt, ir::Evaluator& evaluator,
           ir::EvalContext& context);

/// The longest wait before the k-th retry (from 1) granted by `rule` (nullptr: the short form); nullopt: not known.
std::optional<int64_t> LongestDelay(const ir::Retry& retry, const ir::RetryRule* rule, int64_t k,
                                    ir::Evaluator& evaluator, ir::EvalContext& context);

/// What counts towards the time of a chain of attempts.
struct Costs {
  bool queue = true;     ///< until the backend starts it
  bool grace = true;     ///< between TERM and the end
  bool delays = true;    ///< between attempts
  bool total = true;     ///< `timeout.total` ends it
};

struct Chain {
  int64_t attempts = 1;
  std::optional<int64_t> time_ms;  ///< nullopt: without bound
  std::string unbounded;           ///< why, for people
  std::string missing;             ///< what to type where only a limit is missing: `timeout { run = 2h }`
  bool exact = true;               ///< some order of failures takes so long; else only an upper bound: there are too many orders
};

/// The most attempts of one instance, and the longest they can take together.
Chain WorstChain(const ir::Job& job, const Costs& costs, ir::Evaluator& evaluator, ir::EvalContext& context);

/// Whether attempts wait in a queue that is not jobc's own.
bool HasQueue(ir::BackendKind kind);

inline constexpr int64_t kDefaultGraceMs = 10'000;
inline constexpr int64_t kFinallyRunMs = 10 * 60'000;

/// Sums and products of times and counts that stay at the largest Int instead of overflowing.
int64_t Plus(int64_t x, int64_t y);
int64_t Times(int64_t x, int64_t y);

}  // namespace jobc::bounds
