// Failures as data: Resolve() says what an end of a program means, Decide() whether the instance gets another attempt.
// Pure functions of the core; the delays they give are deterministic for a run id, an address and an attempt.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "ir/evaluate.h"
#include "ir/plan.h"
#include "runtime/attempt.h"
#include "support/result.h"

namespace jobc {

/// The verdict of a program that ended by itself. The first arm whose facts hold wins; else exit 0 is success, 126 and
/// 127 are `command`, a signal is `signal`, anything else `exit`. An end by signal s also counts as exit(128 + s), and
/// exit(128 + s) also as signal(s). Exit 0 is looked at only by arms that name exit(0).
/// Must not be used for ends decided by jobc or a backend (timeouts, cancels, lost nodes): those are not remapped.
Verdict Resolve(const AttemptFacts& facts, const std::vector<ir::ErrorArm>& arms);

/// Retries granted so far, by rule: Retry::rules, then one more for `on = […]` or the default. Missing ones are 0.
using GrantedRetries = std::vector<uint32_t>;

/// The failed attempt that Decide() looks at.
struct FailedAttempt {
  uint32_t number = 1;  ///< attempts made so far, this one included
  Resources resources;  ///< effective
  Timeouts timeouts;
};

struct Decision {
  bool retry = false;
  uint32_t rule = 0;     ///< that granted it
  int64_t delay_ms = 0;  ///< between verdict and next attempt
  Resources resources;   ///< effective ones of the next attempt: the failed attempt's with the rule's overlay
  Timeouts timeouts;
  bool cap_reached = false;  ///< not retried because growth has ended
  std::string why_not;       ///< for people, if not retried although the job asks for retries; else empty
};

/// Which rule of `retry` governs `verdict`: index into rules, rules.size() for the short form or default, -1: none.
/// The most specific matcher wins (name, kind, class), a rule before the short form; `never` wins over all.
int GoverningRule(const Verdict& verdict, const ir::Retry& retry);

/// Evaluates delay and overlay of the governing rule. `context` must give what phase P needs; `attempt` and `prev` are
/// supplied by Decide(). `seed`: see JitterSeed().
Decision Decide(const Verdict& verdict, const FailedAttempt& failed, const GrantedRetries& granted,
                const ir::Retry& retry, const ir::Program& program, ir::Evaluator& evaluator, ir::EvalContext& context,
                uint64_t seed);

/// Milliseconds before the `k`th retry (from 1) granted by one rule: min(max, base * factor^(k-1)) for exponential,
/// base * k for linear. `seed` chooses the point in [0, that] with full jitter. Fails if an expression fails.
bool BackoffDelay(const ir::Backoff& backoff, uint32_t k, uint64_t seed, ir::Evaluator& evaluator,
                  ir::EvalContext& context, int64_t& delay_ms);

/// Whether a submission that failed so is sent again: of kind `submit`, `quota` or `network`, and not named by `never`.
bool MayResubmit(const Verdict& verdict, const ir::Retry& retry);

/// Milliseconds before the submission after the `k`th failed one (from 1); where nothing is declared,
/// exponential(1s, factor = 2.0, max = 300s). Fails if an expression fails.
bool SubmitDelay(const ir::Submit& submit, uint32_t k, uint64_t seed, ir::Evaluator& evaluator,
                 ir::EvalContext& context, int64_t& delay_ms);

uint64_t JitterSeed(std::string_view run_id, std::string_view address, uint32_t attempt);

/// Evaluates resources and timeouts as declared. The error names the attribute and what is wrong with it.
Result<Resources> EvaluateResources(const ir::ResourceSpec& spec, ir::Evaluator& evaluator, ir::EvalContext& context);
Result<Timeouts> EvaluateTimeouts(const ir::TimeoutSpec& spec, ir::Evaluator& evaluator, ir::EvalContext& context);

/// A resource as expressions see it: cpu Int where whole else Float, memory and disk Bytes, gpu Int, spot Bool; null:
/// not given.
ir::Value ResourceValue(const Resources& resources, ir::ResourceKind kind);

}  // namespace jobc
