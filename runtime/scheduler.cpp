#include "runtime/scheduler.h"

#include <algorithm>
#include <array>
#include <deque>
#include <map>
#include <unordered_map>
#include <unordered_set>

#include <fmt/format.h>

#include "runtime/admission.h"
#include "runtime/expr_uses.h"

namespace jobc {
namespace {

using ir::ErrorKind;
using State = InstanceState;

constexpr uint32_t kNone = UINT32_MAX;
constexpr int64_t kDefaultGraceMs = 10'000;
constexpr int64_t kFinallyRunMs = 10 * 60'000;
constexpr size_t kPhases = static_cast<size_t>(RunPhase::Ended) + 1;

uint64_t Pack(InstanceRef ref) { return uint64_t{ref.job} << 32 | ref.ordinal; }
InstanceRef Unpack(uint64_t key) { return {static_cast<uint32_t>(key >> 32), static_cast<uint32_t>(key)}; }

bool IsLocal(ir::BackendKind kind) {
  return kind == ir::BackendKind::Process || kind == ir::BackendKind::Docker || kind == ir::BackendKind::Podman ||
         kind == ir::BackendKind::Apptainer;
}

RunPhase PhaseOf(const ir::Job& job) {
  switch (job.kind) {
    case ir::JobKind::Job:
    case ir::JobKind::Check: return RunPhase::Jobs;
    case ir::JobKind::Finally: return RunPhase::Finally;
    case ir::JobKind::Hook: break;
  }
  switch (job.hook_event) {
    case ir::HookEvent::Start: return RunPhase::StartHooks;
    case ir::HookEvent::Success:
    case ir::HookEvent::Failure: return RunPhase::ResultHooks;
    case ir::HookEvent::Finish: return RunPhase::FinishHooks;
  }
  JOBC_UNREACHABLE();
}

std::string BytesOrCount(int64_t amount, bool bytes) {
  return bytes ? ir::BytesForPeople(amount) : fmt::format("{}", amount);
}

struct ListLess {
  bool operator()(const ir::ListValue& x, const ir::ListValue& y) const {
    return std::lexicographical_compare(
        x.begin(), x.end(), y.begin(), y.end(),
        [](const ir::Value& a, const ir::Value& b) { return ir::Value::Compare(a, b) < 0; });
  }
};

}  // namespace

std::string_view PhaseName(RunPhase phase) {
  constexpr std::array<std::string_view, kPhases> names = {
      "new", "start hooks", "jobs", "exports", "publish", "finally", "result hooks", "finish hooks", "ended"};
  return names[static_cast<size_t>(phase)];
}

std::string_view CancelWhyText(CancelWhy why) {
  switch (why) {
    case CancelWhy::Halt: return "a job with `on_error = halt` failed";
    case CancelWhy::Drain: return "a job failed and nothing new is started";
    case CancelWhy::User: return "cancelled by the user";
    case CancelWhy::Interrupt: return "the run was interrupted";
    case CancelWhy::TimeLimit: return "the run's `limits.time` ended";
    case CancelWhy::QueueTimeout: return "`timeout.queue` ended";
    case CancelWhy::StageTimeout: return "`timeout.stage` ended";
    case CancelWhy::CollectTimeout: return "`timeout.collect` ended";
    case CancelWhy::RunTimeout: return "`timeout.run` ended";
    case CancelWhy::TotalTimeout: return "`timeout.total` ended";
    case CancelWhy::IdleTimeout: return "`timeout.idle` ended";
    case CancelWhy::Environment: return "the state of the run cannot be written";
  }
  JOBC_UNREACHABLE();
}

struct Scheduler::Core {
  // -- What is known of a job while the run lasts ---------------------------------------------------------------------

  /// One dependency of a job. How its producer's instances are matched decides what an end costs:
  ///   Whole  all instances wait for the whole producer: one counter for the job
  ///   Same   instance i waits for instance i
  ///   Group  groups of producer instances, each with the consumers that wait for all of it
  ///   Some   those instances whose condition holds wait for the whole producer
  ///   List   needed by the list of the `for` alone: instances do not wait
  enum class Shape : uint8_t { Whole, Same, Group, Some, List };
  struct Dep {
    const ir::Dependency* plan = nullptr;
    Shape shape = Shape::Whole;
    std::vector<uint32_t> group_of;   ///< Group: by producer ordinal, kNone: nobody waits for it
    std::vector<uint32_t> remaining;  ///< Group: producers not final
    std::vector<uint32_t> begin;      ///< Group: members of group g are [begin[g], begin[g+1])
    std::vector<uint32_t> members;    ///< Group, Some: ordinals of consumers
  };

  struct JobRun {
    const ir::Job* job = nullptr;
    RunPhase phase = RunPhase::Jobs;
    ir::Strategy strategy = ir::Strategy::Drain;
    bool active = false;  ///< its phase has begun
    bool linked = false;  ///< deps are matched to instances, `pending` counts
    bool done = false;    ///< every instance is final and its dependents know
    bool broken = false;  ///< a Whole strong dependency did not succeed
    bool link_queued = false;
    uint32_t whole_pending = 0;
    uint64_t unsettled = 1;  ///< instances whose dependents do not know an end yet
    std::shared_ptr<const Verdict> broken_why, when_why;
    std::vector<std::shared_ptr<const Verdict>> after_why;  ///< by index of Job::after
    std::vector<Dep> deps;
    std::vector<std::pair<uint32_t, uint32_t>> dependents;  ///< (job, index of its dep)
    std::vector<uint32_t> domain_waiters;                   ///< jobs that need its domain to be linked or expanded
    std::vector<uint32_t> end_waiters;                      ///< dynamic jobs whose list needs its end
    std::map<uint32_t, Needs> list_needs;
    std::vector<uint32_t> pending;  ///< by ordinal; empty: nothing to wait for beyond whole_pending
    // Where all instances agree:
    std::optional<uint32_t> claim_class;
    std::optional<Resources> resources;
    std::optional<Timeouts> timeouts;
    std::optional<int64_t> grace_ms;
    bool resources_shared = false, claims_shared = false, timeouts_shared = false;
    uint32_t backend_places = kNone;  ///< resource of its backend's own max_parallel
  };

  enum class Stage : uint8_t { Submitted, Started, Exited };
  struct Live {
    InstanceRef instance;
    uint32_t number = 1;
    uint32_t claim_class = 0;
    Stage stage = Stage::Submitted;
    bool judged = false;
    std::shared_ptr<const Verdict> withdrawn;  ///< asked to be given back, and why
    int64_t submitted = 0, started = 0, last_output = 0;
    int64_t queued = 0;        ///< since when `timeout.queue` counts
    std::string staging;       ///< inputs that are being brought; empty: none are
    uint32_t submissions = 1;
    int64_t resubmit_at = -1;  ///< it waits to be submitted again
    Resources resources;
    Timeouts timeouts;
    AttemptId next = 0;  ///< begins when this one is reaped
  };

  /// What PlanNext() gave and has no answer yet. Its instance is ready, but not among those that wait for admission.
  struct Planned {
    AttemptId before = 0;  ///< alive, or planned itself
    AttemptId next = 0;    ///< planned to follow it
    uint32_t claim_class = 0;
    StartAttempt start;
    bool revoking = false;
    // It is to be cancelled once its answer is there:
    std::shared_ptr<const Verdict> cancel;
    CancelWhy why = CancelWhy::Halt;
    bool only_unstarted = false;
  };

  struct Backoff {
    int64_t since = 0, retry_at = 0, total_at = 0;
    AttemptId attempt = 0;
    bool reaped = false, due = false;
  };

  enum class DeadlineKind : uint8_t { Queue, Stage, Run, Idle, Collect, Total, Resubmit, Backoff, TotalInBackoff, Limit };
  struct Deadline {
    int64_t at;
    uint64_t order;  ///< equal times: first armed, first served
    uint64_t key;    ///< attempt, or packed instance
    DeadlineKind kind;
    bool operator>(const Deadline& other) const { return std::tie(at, order) > std::tie(other.at, other.order); }
  };

  struct Work {
    enum Kind : uint8_t { Final, Done, Domain } kind;
    InstanceRef instance;
  };

  Core(const ir::Plan& plan, RunState& state, SchedulerOptions options, ir::EvalContext* world)
      : plan(plan),
        state(state),
        options(options),
        evaluator(plan.program),
        input_evaluator(plan.program),
        context(state, world, input_evaluator, {}),
        admission(kMaxPasses, kMaxLookahead),
        jobs(plan.jobs.size()) {}

  const ir::Plan& plan;
  RunState& state;
  SchedulerOptions options;
  ir::Evaluator evaluator, input_evaluator;
  InstanceContext context;
  Admission admission;
  std::vector<JobRun> jobs;
  std::vector<Action> actions;
  Counters counters;

  int64_t now = 0;
  RunPhase phase = RunPhase::New;
  bool awaiting = false;  ///< the engine's answer to exports or publish
  bool ending = false;    ///< no further phases
  bool interrupted = false;
  bool tolerated_failures = false;
  bool adopted = false;
  RunCause cause = RunCause::None;
  std::string message;
  std::string unavailable;  ///< said by the engine before Begin()
  RunMode mode = ir::Strategy::Ignore, swept = ir::Strategy::Ignore;
  bool backoffs_swept = false;
  CancelWhy halt_why = CancelWhy::Halt;
  std::shared_ptr<const Verdict> mode_why;

  std::deque<Work> work;
  std::deque<uint32_t> links;
  std::array<uint64_t, kPhases> remaining{};  ///< instances of the phase's jobs that are not final
  std::array<uint32_t, kPhases> live_in{};
  std::unordered_map<AttemptId, Live> live;
  std::unordered_map<uint64_t, AttemptId> current;  ///< instance to its attempt without verdict
  std::unordered_map<AttemptId, Planned> planned;
  std::unordered_map<uint64_t, AttemptId> planned_of;  ///< by instance
  bool one_priority = true;  ///< of all jobs
  std::unordered_map<uint64_t, Backoff> backoffs;
  std::unordered_set<uint64_t> looking;  ///< waiting ones whose LookUp has no answer yet
  std::vector<Deadline> deadlines;  ///< min-heap; some are stale
  uint64_t deadline_order = 0;

  /// Of a class of claims in which somebody waits.
  struct Patience {
    int64_t since = 0;   ///< the last start in it, or when somebody came to wait
    bool armed = false;  ///< it has an entry in `patience_ends`
  };
  std::vector<Patience> patience;                              ///< by class
  std::vector<std::pair<int64_t, uint32_t>> patience_ends;     ///< (time, class), min-heap, at most one for each class

  // Resources of `admission`; kNone: unlimited.
  uint32_t run_places = kNone, local_places = kNone, cpu = kNone, memory = kNone, gpu = kNone;
  std::vector<uint32_t> pool_resource;

  // -- Small things ---------------------------------------------------------------------------------------------------

  void SetNow(int64_t t) { now = std::max(now, t); }
  JobRun& RunOf(InstanceRef ref) { return jobs[ref.job]; }
  std::string Address(InstanceRef ref) const { return state.Address(ref); }
  bool Stopped(const JobRun& j) const {
    return ending || (j.phase == RunPhase::Jobs && mode >= ir::Strategy::Drain) ||
           (j.phase == RunPhase::StartHooks && mode >= ir::Strategy::Halt);
  }

  static std::shared_ptr<const Verdict> Why(std::string text) {
    return std::make_shared<const Verdict>(Failed(ErrorKind::Cancelled, std::move(text)));
  }
  std::shared_ptr<const Verdict> ExpressionFailed(std::string_view where) const {
    return std::make_shared<const Verdict>(
        Failed(ErrorKind::Expression, fmt::format("`{}` has no value: {}", where, evaluator.fault().message)));
  }

  void Changed(InstanceRef ref, State from, State to, std::shared_ptr<const Verdict> verdict, AttemptId attempt) {
    if (!actions.empty() && attempt == 0) {
      if (auto* last = std::get_if<InstanceChanged>(&actions.back());
          last && last->attempt == 0 && last->first.job == ref.job && last->first.ordinal != kWholeJob &&
          last->first.ordinal + last->count == ref.ordinal && last->from == from && last->to == to &&
          last->verdict == verdict) {
        ++last->count;
        return;
      }
    }
    actions.push_back(InstanceChanged{ref, 1, from, to, attempt, std::move(verdict)});
  }

  void Change(InstanceRef ref, State to, std::shared_ptr<const Verdict> verdict = nullptr, AttemptId attempt = 0) {
    const State from = state.state(ref);
    state.ApplyState(ref, to, verdict);
    Changed(ref, from, to, std::move(verdict), attempt);
  }

  void Arm(int64_t at, DeadlineKind kind, uint64_t key) {
    deadlines.push_back({at, deadline_order++, key, kind});
    std::push_heap(deadlines.begin(), deadlines.end(), std::greater<>());
    if (deadlines.size() > 1024 && deadlines.size() > 8 * (live.size() + 2 * backoffs.size())) {
      std::erase_if(deadlines, [&](const Deadline& d) { return !IsArmed(d); });
      std::make_heap(deadlines.begin(), deadlines.end(), std::greater<>());
    }
  }

  bool IsArmed(const Deadline& d) const {
    switch (d.kind) {
      case DeadlineKind::Limit: return phase <= RunPhase::Jobs && !ending;
      case DeadlineKind::Backoff: {
        auto it = backoffs.find(d.key);
        return it != backoffs.end() && !it->second.due && it->second.retry_at == d.at;
      }
      case DeadlineKind::TotalInBackoff: {
        auto it = backoffs.find(d.key);
        return it != backoffs.end() && it->second.total_at == d.at;
      }
      default: break;
    }
    auto it = live.find(d.key);
    if (it == live.end() || it->second.judged) return false;
    if (d.kind == DeadlineKind::Queue) return it->second.stage == Stage::Submitted && it->second.staging.empty() && d.at == it->second.queued + *it->second.timeouts.queue;
    if (d.kind == DeadlineKind::Stage) return !it->second.staging.empty();
    if (d.kind == DeadlineKind::Collect) return it->second.stage == Stage::Exited;
    if (d.kind == DeadlineKind::Resubmit) return it->second.stage == Stage::Submitted && it->second.resubmit_at == d.at;
    if (d.kind == DeadlineKind::Run || d.kind == DeadlineKind::Idle) return it->second.stage == Stage::Started;
    return true;  // Total
  }

  void FailRun(RunCause why, std::string text) {
    if (cause != RunCause::None) return;
    cause = why;
    if (!interrupted) message = std::move(text);  // else why it was interrupted stays what people are told
  }

  void Raise(RunMode to, InstanceRef by, CancelWhy why, std::string text) {
    if (to <= mode) return;
    mode = to;
    if (to == ir::Strategy::Halt) halt_why = why;
    mode_why = Why(std::move(text));
    actions.push_back(ModeChanged{to, by});
  }

  // -- Ends of instances ----------------------------------------------------------------------------------------------

  std::string FailureText(InstanceRef ref, const Verdict& verdict) {
    const bool says_kind = verdict.kind == ErrorKind::Exit || verdict.kind == ErrorKind::Signal;
    if (says_kind && verdict.name.empty() && verdict.code.empty() && MessageBesideEnd(verdict) != verdict.message) {
      return fmt::format("`{}` failed: {}", Address(ref), verdict.message);
    }
    return fmt::format("`{}` failed: {}{}{}{}", Address(ref), ErrorName(verdict), verdict.code.empty() ? "" : fmt::format(" [{}]", verdict.code),
                       verdict.message.empty() ? "" : ": ", verdict.message);
  }

  void CountFailure(InstanceRef ref, const Verdict& verdict) {
    JobRun& j = RunOf(ref);
    if (j.job->kind == ir::JobKind::Hook) return;
    if (j.phase == RunPhase::Jobs && j.strategy == ir::Strategy::Ignore) {
      tolerated_failures = true;
      return;
    }
    FailRun(verdict.kind == ErrorKind::Check ? RunCause::Check : RunCause::Job, FailureText(ref, verdict));
    if (j.phase == RunPhase::Jobs && j.strategy > mode) {
      Raise(j.strategy, ref, CancelWhy::Halt,
            fmt::format("`{}` failed and its `on_error` is `{}`", Address(ref), ir::StrategyName(j.strategy)));
    }
  }

  /// `ref` is final now. Its dependents learn it in Settle().
  void Finish(InstanceRef ref, State to, std::shared_ptr<const Verdict> verdict = nullptr, AttemptId attempt = 0) {
    JobRun& j = RunOf(ref);
    if (ref.ordinal == kWholeJob) {
      state.ApplyWhole(ref.job, to, verdict);
      Changed(ref, State::Waiting, to, verdict, 0);
    } else {
      Change(ref, to, verdict, attempt);
    }
    --remaining[static_cast<size_t>(j.phase)];
    work.push_back({Work::Final, ref});
    if (to != State::Failed) return;
    if (j.job->kind == ir::JobKind::Hook) actions.push_back(HookFailed{ref, verdict});
    CountFailure(ref, *verdict);
  }

  void FinishIfWaiting(InstanceRef ref, State to, const std::shared_ptr<const Verdict>& verdict) {
    if (state.state(ref) == State::Waiting) Finish(ref, to, verdict);
  }

  // -- Domains and dependencies ---------------------------------------------------------------------------------------

  bool DomainKnown(uint32_t job) const { return state.expanded(job) || IsFinal(state.whole(job)); }

  bool AllSucceeded(uint32_t job) const {
    return state.expanded(job) && state.count(job, State::Succeeded) == state.size(job);
  }

  void Classify(uint32_t index) {
    JobRun& j = jobs[index];
    const ir::Job& job = *j.job;
    if (job.kind == ir::JobKind::Finally || job.kind == ir::JobKind::Hook)
      return;  // references are no dependencies there
    if (job.domain.dynamic) {
      j.list_needs = JobsNeeded(plan.program, job.domain.list);
      for (auto [producer, needs] : j.list_needs) {
        (needs == Needs::Domain ? jobs[producer].domain_waiters : jobs[producer].end_waiters).push_back(index);
      }
    }
    for (const ir::Dependency& d : job.dependencies) {
      Dep dep;
      dep.plan = &d;
      const bool whole = d.mapping == ir::Mapping::Single || (d.mapping == ir::Mapping::All && d.indices.empty());
      if (whole && job.domain.dynamic && OnlyListNeedsAll(plan, job, d.job)) {
        dep.shape = Shape::List;
      } else if (whole) {
        dep.shape = d.condition.valid() ? Shape::Some : Shape::Whole;
      } else if (d.mapping == ir::Mapping::Same && !d.condition.valid()) {
        dep.shape = Shape::Same;
      } else {
        dep.shape = Shape::Group;
      }
      if (dep.shape == Shape::Same || dep.shape == Shape::Group) jobs[d.job].domain_waiters.push_back(index);
      jobs[d.job].dependents.emplace_back(index, static_cast<uint32_t>(j.deps.size()));
      j.deps.push_back(std::move(dep));
    }
  }

  void QueueLink(uint32_t index) {
    JobRun& j = jobs[index];
    if (j.linked || j.link_queued || !state.expanded(index)) return;
    for (const Dep& dep : j.deps) {
      if ((dep.shape == Shape::Same || dep.shape == Shape::Group) && !DomainKnown(dep.plan->job)) return;
    }
    j.link_queued = true;
    links.push_back(index);
  }

  std::shared_ptr<const Verdict> NeedsWhy(InstanceRef producer) const {
    return Why(fmt::format("it needs `{}`, which is {}", Address(producer), StateName(state.state(producer))));
  }

  std::shared_ptr<const Verdict> NeedsWhole(uint32_t producer) const {
    for (State s : {State::Failed, State::Blocked, State::Cancelled, State::Skipped}) {
      if (state.count(producer, s) == 0) continue;
      return Why(fmt::format("it needs `{}`, of which {} {} {}", plan.jobs[producer].address, state.count(producer, s),
                             state.count(producer, s) == 1 ? "instance is" : "instances are", StateName(s)));
    }
    return Why(fmt::format("it needs `{}`", plan.jobs[producer].address));
  }

  /// Matches the instances of a job with those they wait for. Only called while no end is unknown to dependents, so
  /// that every final producer is already accounted for.
  void Link(uint32_t index) {
    JobRun& j = jobs[index];
    const uint32_t n = state.size(index);
    auto pend = [&](uint32_t ordinal) {
      if (j.pending.empty()) j.pending.assign(n, 0);
      ++j.pending[ordinal];
    };
    for (Dep& dep : j.deps) {
      const ir::Dependency& d = *dep.plan;
      if (dep.shape == Shape::Whole || dep.shape == Shape::List) continue;
      const uint32_t producers = state.size(d.job);
      const bool no_instances = dep.shape != Shape::Some && !state.expanded(d.job);
      std::shared_ptr<const Verdict> whole_why;
      std::vector<std::pair<uint32_t, uint32_t>> pairs;  // (group, consumer)
      std::map<ir::ListValue, uint32_t, ListLess> tuples;
      std::vector<std::shared_ptr<const Verdict>> broken;  // by group
      if (dep.shape == Shape::Group) dep.group_of.assign(producers, kNone);
      for (uint32_t i = 0; i < n; ++i) {
        const InstanceRef ref{index, i};
        if (IsFinal(state.state(ref))) continue;
        if (dep.shape != Shape::Same) context.SetInstance(ref);
        ir::Value value;
        if (d.condition.valid()) {
          if (!evaluator.Evaluate(d.condition, context, value)) {
            FinishIfWaiting(ref, State::Failed, ExpressionFailed("condition of a dependency"));
            continue;
          }
          if (!value.as_bool()) continue;
        }
        if (no_instances || dep.shape == Shape::Some) {
          if (!jobs[d.job].done) {
            dep.members.push_back(i);
            pend(i);
          } else if (d.strong && !AllSucceeded(d.job)) {
            if (!whole_why) whole_why = NeedsWhole(d.job);
            FinishIfWaiting(ref, State::Blocked, whole_why);
          }
          continue;
        }
        if (dep.shape == Shape::Same) {
          const InstanceRef producer{d.job, i};
          if (i >= producers) {
            FinishIfWaiting(
                ref, State::Failed,
                std::make_shared<const Verdict>(
                    Failed(ErrorKind::Expression, fmt::format("`{}` has no instance for `{}`: it has {}",
                                                              plan.jobs[d.job].address, Address(ref), producers))));
          } else if (!IsFinal(state.state(producer))) {
            pend(i);
          } else if (d.strong && state.state(producer) != State::Succeeded) {
            FinishIfWaiting(ref, State::Blocked, NeedsWhy(producer));
          }
          continue;
        }
        ir::ListValue indices;
        bool ok = true;
        for (ir::ExprId id : d.indices) {
          ok = evaluator.Evaluate(id, context, value);
          if (!ok) break;
          indices.push_back(value);
        }
        if (!ok) {
          FinishIfWaiting(ref, State::Failed, ExpressionFailed(fmt::format("index of `{}`", plan.jobs[d.job].address)));
          continue;
        }
        uint32_t group = kNone;
        auto add_producer = [&](uint32_t p) {
          dep.group_of[p] = group;
          const InstanceRef producer{d.job, p};
          if (!IsFinal(state.state(producer))) {
            ++dep.remaining[group];
          } else if (d.strong && state.state(producer) != State::Succeeded && !broken[group]) {
            broken[group] = NeedsWhy(producer);
          }
        };
        auto add_group = [&] {
          group = static_cast<uint32_t>(dep.remaining.size());
          dep.remaining.push_back(0);
          broken.emplace_back();
        };
        if (d.mapping == ir::Mapping::All) {
          auto [it, added] = tuples.try_emplace(indices, 0);
          if (added) {
            add_group();
            it->second = group;
            for (uint64_t p : state.instances(d.job).FindAll(indices)) add_producer(static_cast<uint32_t>(p));
          }
          group = it->second;
        } else {
          const int64_t p =
              d.mapping == ir::Mapping::Same ? (i < producers ? int64_t{i} : -1) : state.instances(d.job).Find(indices);
          if (p < 0) {
            ir::Fault fault;
            RunContext run(state, nullptr);
            ir::Value unused;
            run.JobStatus(d.job, ir::StatusField::Ok, indices, unused, fault);
            FinishIfWaiting(ref, State::Failed,
                            std::make_shared<const Verdict>(
                                Failed(ErrorKind::Expression,
                                       fmt::format("it needs an instance that does not exist: {}", fault.message))));
            continue;
          }
          group = dep.group_of[static_cast<size_t>(p)];
          if (group == kNone) {
            add_group();
            add_producer(static_cast<uint32_t>(p));
          }
        }
        if (broken[group]) {
          FinishIfWaiting(ref, State::Blocked, broken[group]);
        } else if (dep.remaining[group] > 0) {
          pairs.emplace_back(group, i);
          pend(i);
        }
      }
      if (dep.shape == Shape::Group) {
        std::sort(pairs.begin(), pairs.end());
        dep.begin.assign(dep.remaining.size() + 1, 0);
        dep.members.reserve(dep.members.size() + pairs.size());
        if (!no_instances) dep.members.clear();
        for (auto [group, consumer] : pairs) {
          ++dep.begin[group + 1];
          dep.members.push_back(consumer);
        }
        for (size_t g = 1; g < dep.begin.size(); ++g) dep.begin[g] += dep.begin[g - 1];
      }
    }
    j.linked = true;
    if (j.broken) BlockAll(index);
    WakeAll(index);
  }

  void BlockAll(uint32_t index) {
    const JobRun& j = jobs[index];
    if (!state.expanded(index)) {
      if (!IsFinal(state.whole(index))) Finish({index, kWholeJob}, State::Blocked, j.broken_why);
      return;
    }
    for (uint32_t i = 0; i < state.size(index); ++i) FinishIfWaiting({index, i}, State::Blocked, j.broken_why);
  }

  /// Everything that nothing is missing for any more.
  void WakeAll(uint32_t index) {
    const JobRun& j = jobs[index];
    if (!j.active || !j.linked || j.whole_pending > 0) return;
    for (uint32_t i = 0; i < state.size(index); ++i) {
      if (j.pending.empty() || j.pending[i] == 0) Wake({index, i});
    }
  }

  void Satisfied(InstanceRef ref) {
    JobRun& j = RunOf(ref);
    JOBC_CHECK(j.pending[ref.ordinal] > 0);
    if (--j.pending[ref.ordinal] == 0 && j.whole_pending == 0) Wake(ref);
  }

  static bool NeedsEnd(const JobRun& consumer, uint32_t producer) {
    auto it = consumer.list_needs.find(producer);
    return it != consumer.list_needs.end() && it->second == Needs::End;
  }

  /// Tells the dependents of a final instance.
  void Propagate(InstanceRef ref) {
    JobRun& j = RunOf(ref);
    const bool ok = state.state(ref) == State::Succeeded;
    std::shared_ptr<const Verdict> why;
    auto needs_why = [&] { return why ? why : why = NeedsWhy(ref); };
    for (auto [consumer, index] : j.dependents) {
      JobRun& c = jobs[consumer];
      Dep& dep = c.deps[index];
      const bool breaks = dep.plan->strong && !ok;
      if (ref.ordinal == kWholeJob) {
        const bool all = dep.shape == Shape::Whole ||
                         (!DomainKnown(consumer) &&
                          (dep.shape == Shape::List ? NeedsEnd(c, ref.job) : !dep.plan->condition.valid()));
        if (breaks && all && !c.broken) {
          c.broken = true;
          c.broken_why = needs_why();
          BlockAll(consumer);
        }
        continue;  // the rest follows with JobDone() and Link()
      }
      switch (dep.shape) {
        case Shape::List:
          if (!breaks || !NeedsEnd(c, dep.plan->job) || DomainKnown(consumer)) break;
          [[fallthrough]];
        case Shape::Whole:
          if (breaks && !c.broken) {
            c.broken = true;
            c.broken_why = needs_why();
            BlockAll(consumer);
          }
          break;
        case Shape::Some:
          if (breaks && c.linked) {
            for (uint32_t i : dep.members) FinishIfWaiting({consumer, i}, State::Blocked, needs_why());
          }
          break;
        case Shape::Same:
          if (!c.linked || ref.ordinal >= state.size(consumer)) break;
          if (breaks) {
            FinishIfWaiting({consumer, ref.ordinal}, State::Blocked, needs_why());
          }
          if (!c.pending.empty() && c.pending[ref.ordinal] > 0) Satisfied({consumer, ref.ordinal});
          break;
        case Shape::Group: {
          if (!c.linked) break;
          const uint32_t group = dep.group_of[ref.ordinal];
          if (group == kNone) break;
          if (breaks) {
            for (uint32_t m = dep.begin[group]; m < dep.begin[group + 1]; ++m) {
              FinishIfWaiting({consumer, dep.members[m]}, State::Blocked, needs_why());
            }
          }
          JOBC_CHECK(dep.remaining[group] > 0);
          if (--dep.remaining[group] > 0) break;
          for (uint32_t m = dep.begin[group]; m < dep.begin[group + 1]; ++m) Satisfied({consumer, dep.members[m]});
          break;
        }
      }
    }
    JOBC_CHECK(j.unsettled > 0);
    if (--j.unsettled == 0) JobDone(ref.job);
  }

  void JobDone(uint32_t index) {
    JobRun& j = jobs[index];
    JOBC_CHECK(!j.done);
    j.done = true;
    const bool no_instances = !state.expanded(index);
    for (auto [consumer, d] : j.dependents) {
      JobRun& c = jobs[consumer];
      Dep& dep = c.deps[d];
      if (dep.shape == Shape::Whole) {
        JOBC_CHECK(c.whole_pending > 0);
        if (--c.whole_pending == 0) WakeAll(consumer);
      } else if (c.linked && (dep.shape == Shape::Some || (no_instances && dep.shape != Shape::List))) {
        const bool breaks = dep.plan->strong && no_instances;
        for (uint32_t i : dep.members) {
          if (breaks) FinishIfWaiting({consumer, i}, State::Blocked, NeedsWhole(index));
          Satisfied({consumer, i});
        }
      }
    }
    if (no_instances) {
      for (uint32_t waiter : j.domain_waiters) {
        TryExpand(waiter);
        QueueLink(waiter);
      }
    }
    for (uint32_t waiter : j.end_waiters) TryExpand(waiter);
  }

  void TryExpand(uint32_t index) {
    JobRun& j = jobs[index];
    if (!j.active || Stopped(j) || !j.job->domain.dynamic || DomainKnown(index)) return;
    for (auto [producer, needs] : j.list_needs) {
      if (needs == Needs::Domain ? !DomainKnown(producer) : !jobs[producer].done) return;
    }
    const InstanceRef whole{index, kWholeJob};
    context.SetInstance({index, 0});
    ir::Value list;
    if (!evaluator.Evaluate(j.job->domain.list, context, list)) {
      Finish(whole, State::Failed, ExpressionFailed("for"));
      return;
    }
    if (Result<void> done = state.Expand(index, evaluator, context, &list); !done) {
      Finish(whole, State::Failed,
             std::make_shared<const Verdict>(Failed(ErrorKind::Expression, done.error().message)));
      return;
    }
    const uint32_t n = state.size(index);
    remaining[static_cast<size_t>(j.phase)] += n;
    --remaining[static_cast<size_t>(j.phase)];
    j.unsettled = n;
    actions.push_back(JobExpanded{index, n, std::move(list)});
    work.push_back({Work::Domain, whole});
    if (n == 0) work.push_back({Work::Done, whole});
  }

  // -- From waiting to ready ------------------------------------------------------------------------------------------

  /// Whether `after` lets the instance run; false: it is skipped. nullopt: an expression failed.
  std::optional<bool> AfterHolds(InstanceRef ref, const ir::After& after) {
    if (after.kind == ir::AfterKind::Done) return true;
    const State want = after.kind == ir::AfterKind::Failed ? State::Failed : State::Succeeded;
    const uint32_t p = after.job;
    if (!state.expanded(p)) return state.whole(p) == want;
    std::vector<uint64_t> of;
    if (after.mapping == ir::Mapping::Same) {
      of.push_back(ref.ordinal);
    } else if (after.mapping == ir::Mapping::Single || after.indices.empty()) {
      if (want == State::Failed) return state.count(p, State::Failed) > 0;
      if (plan.jobs[p].domain.single()) return state.count(p, State::Succeeded) == 1;
      return state.count(p, State::Succeeded) + state.count(p, State::Skipped) == state.size(p);
    } else {
      ir::ListValue indices;
      for (ir::ExprId id : after.indices) {
        ir::Value value;
        if (!evaluator.Evaluate(id, context, value)) return std::nullopt;
        indices.push_back(std::move(value));
      }
      of = state.instances(p).FindAll(indices);
    }
    for (uint64_t i : of) {
      const bool is = i < state.size(p) && state.state({p, static_cast<uint32_t>(i)}) == want;
      if (is && want == State::Failed) return true;
      if (!is && want == State::Succeeded) return false;
    }
    return want == State::Succeeded;
  }

  /// All dependencies are resolved: skip, fail, check, or make it ready.
  void Wake(InstanceRef ref) {
    JobRun& j = RunOf(ref);
    if (!j.active || !j.linked || Stopped(j) || state.state(ref) != State::Waiting) return;
    const ir::Job& job = *j.job;
    context.SetInstance(ref);
    const bool ordered = job.kind == ir::JobKind::Job || job.kind == ir::JobKind::Check;
    for (size_t i = 0; ordered && i < job.after.size(); ++i) {
      const ir::After& after = job.after[i];
      std::optional<bool> holds = AfterHolds(ref, after);
      if (!holds) return Finish(ref, State::Failed, ExpressionFailed("after"));
      if (!*holds) {
        j.after_why.resize(job.after.size());
        if (!j.after_why[i]) {
          j.after_why[i] = Why(fmt::format("`after`: `{}` {}", plan.jobs[after.job].address,
                                           after.kind == ir::AfterKind::Failed ? "did not fail" : "did not succeed"));
        }
        return Finish(ref, State::Skipped, j.after_why[i]);
      }
    }
    if (job.when.valid()) {
      ir::Value value;
      if (!evaluator.Evaluate(job.when, context, value)) return Finish(ref, State::Failed, ExpressionFailed("when"));
      if (!value.as_bool()) {
        if (!j.when_why) j.when_why = Why("its `when` is false");
        return Finish(ref, State::Skipped, j.when_why);
      }
    }
    if (job.kind == ir::JobKind::Check) return EvaluateCheck(ref, job);
    if (ref.job < options.look_up.size() && options.look_up[ref.job] && job.kind == ir::JobKind::Job && state.attempts(ref) == 0) {
      if (looking.insert(Pack(ref)).second) actions.push_back(LookUp{ref});
      return;
    }
    MakeReady(ref);
  }

  void EvaluateCheck(InstanceRef ref, const ir::Job& job) {
    std::string failures;
    for (const ir::Require& require : job.requires_) {
      ir::Value value;
      if (!evaluator.Evaluate(require.condition, context, value))
        return Finish(ref, State::Failed, ExpressionFailed(require.text));
      if (value.as_bool()) continue;
      std::string text = require.text;
      if (require.message.valid()) {
        if (!evaluator.Evaluate(require.message, context, value))
          return Finish(ref, State::Failed, ExpressionFailed(require.text));
        text = value.as_string();
      }
      failures += (failures.empty() ? "" : "; ") + text;
    }
    if (failures.empty()) return Finish(ref, State::Succeeded);
    Finish(ref, State::Failed, std::make_shared<const Verdict>(Failed(ErrorKind::Check, std::move(failures))));
  }

  /// What an attempt with these resources takes. False: it can never be admitted, or an expression failed; `why` says
  /// so.
  bool ClaimsOf(InstanceRef ref, const Resources& resources, Admission::Claims& claims, std::string& why,
                ErrorKind& kind) {
    const JobRun& j = RunOf(ref);
    std::map<uint32_t, int64_t> sum;
    auto need = [&](uint32_t resource, int64_t amount, bool can_clip, std::string_view what, bool bytes, int64_t unit) {
      if (resource == kNone || amount <= 0) return true;
      int64_t total = admission.total(resource);
      if (sum[resource] + amount > total && can_clip && options.oversubscribe) amount = total - sum[resource];
      sum[resource] += amount;
      if (sum[resource] <= total) return true;
      kind = ErrorKind::Quota;
      auto show = [&](int64_t value) {
        return unit == 1 ? BytesOrCount(value, bytes)
                         : fmt::format("{:g}", static_cast<double>(value) / static_cast<double>(unit));
      };
      why = fmt::format(
          "`{}` needs {} {}, {} {}; {}", Address(ref), show(amount), what,
          can_clip ? "this machine has" : "there are only", show(total),
          can_clip ? (j.job->backend.kind == ir::BackendKind::Process
                          ? "lower its `resources`, or set `oversubscribe = true` in the backend to run it all the same"
                          : "lower its `resources`")
                   : "raise the pool's `slots` or lower the claim");
      return false;
    };
    need(run_places, 1, false, "place", false, 1);
    need(j.backend_places, 1, false, "place", false, 1);
    if (IsLocal(j.job->backend.kind) || j.job->kind == ir::JobKind::Hook) {  // hooks run on this machine
      need(local_places, 1, false, "place", false, 1);
      if (!need(cpu, resources.cpu_milli.value_or(0), true, "cpus", false, 1000)) return false;
      if (!need(memory, resources.memory.value_or(0), true, "of memory", true, 1)) return false;
      if (!need(gpu, resources.gpu.value_or(0), true, "gpus", false, 1)) return false;
    }
    for (auto [pool, slots] : j.job->pools) {
      ir::Value value;
      if (!evaluator.Evaluate(slots, context, value)) {
        kind = ErrorKind::Expression;
        why = fmt::format("`pools` of `{}` has no value: {}", Address(ref), evaluator.fault().message);
        return false;
      }
      if (!need(pool_resource[pool], value.as_int(), false, fmt::format("slots of pool `{}`", plan.pools[pool].name),
                false, 1))
        return false;
    }
    claims.clear();
    for (auto [resource, amount] : sum) {
      if (amount > 0) claims.emplace_back(resource, amount);
    }
    return true;
  }

  std::optional<Resources> BaseResources(InstanceRef ref, std::string& why) {
    JobRun& j = RunOf(ref);
    if (j.resources) return j.resources;
    Result<Resources> resources = EvaluateResources(j.job->resources, evaluator, context);
    if (!resources) {
      why = resources.error().message;
      return std::nullopt;
    }
    if (j.resources_shared) j.resources = *resources;
    return *resources;
  }

  /// `context` must stand at `ref`.
  void MakeReady(InstanceRef ref) {
    JobRun& j = RunOf(ref);
    const RetryHistory* history = state.history(ref);
    std::optional<uint32_t> claim_class;
    if (history && history->has_next) {
      Admission::Claims claims;
      std::string why;
      ErrorKind kind = ErrorKind::Quota;
      int priority = 0;
      if (!PriorityOf(ref, priority)) return Finish(ref, State::Failed, ExpressionFailed("priority"));
      if (!ClaimsOf(ref, history->resources, claims, why, kind)) {
        return Finish(ref, State::Failed, std::make_shared<const Verdict>(Failed(kind, std::move(why))));
      }
      claim_class = admission.Intern(ref.job, priority, std::move(claims));
    } else if (j.claim_class) {
      claim_class = j.claim_class;
    } else {
      std::string why;
      int priority = 0;
      if (!PriorityOf(ref, priority)) return Finish(ref, State::Failed, ExpressionFailed("priority"));
      std::optional<Resources> resources = BaseResources(ref, why);
      ErrorKind kind = ErrorKind::Expression;
      Admission::Claims claims;
      if (!resources || !ClaimsOf(ref, *resources, claims, why, kind)) {
        return Finish(ref, State::Failed, std::make_shared<const Verdict>(Failed(kind, std::move(why))));
      }
      claim_class = admission.Intern(ref.job, priority, std::move(claims));
      if (j.claims_shared) j.claim_class = claim_class;
    }
    Change(ref, State::Ready);
    Wait(*claim_class, ref.ordinal);
  }

  void Wait(uint32_t claim_class, uint32_t ordinal) {
    admission.Push(claim_class, ordinal);
    if (patience.size() <= claim_class) patience.resize(claim_class + 1);
    if (!patience[claim_class].armed) {
      patience[claim_class].since = now;
      ArmPatience(claim_class);
    }
  }

  // -- Starvation -----------------------------------------------------------------------------------------------------

  void ArmPatience(uint32_t claim_class) {
    patience[claim_class].armed = true;
    patience_ends.emplace_back(patience[claim_class].since + kStarvation + 1, claim_class);
    std::push_heap(patience_ends.begin(), patience_ends.end(), std::greater<>());
  }

  void PopPatience() {
    std::pop_heap(patience_ends.begin(), patience_ends.end(), std::greater<>());
    patience[patience_ends.back().second].armed = false;
    patience_ends.pop_back();
  }

  std::optional<int64_t> FirstPatience() {
    while (!patience_ends.empty() && (ending || !admission.HasWaiting(patience_ends.front().second))) PopPatience();
    return patience_ends.empty() ? std::nullopt : std::optional(patience_ends.front().first);
  }

  /// The first class of which the patience has ended: reports it, unless something of it was started meanwhile.
  void PatienceDue() {
    const uint32_t claim_class = patience_ends.front().second;
    PopPatience();
    auto [count, next] = admission.Ready(claim_class, [&](InstanceRef ref) { return state.state(ref) == State::Ready; });
    if (count == 0) return;
    const int64_t waited = now - patience[claim_class].since;
    if (waited <= kStarvation) return ArmPatience(claim_class);
    Starving starving{next, count, waited, ""};
    const std::string who = count == 1 ? fmt::format("`{}` has waited", Address(next))
                                       : fmt::format("`{}` and {} more have waited", Address(next), count - 1);
    starving.text = fmt::format("{} {} for {}", who, ir::DurationText(waited / 60'000 * 60'000), WaitsFor(claim_class));
    actions.push_back(std::move(starving));
    // Said once; again only after something of it has been started.
  }

  std::string WaitsFor(uint32_t claim_class) {
    auto lacking = admission.Lacking(claim_class);
    if (!lacking) return "what is reserved for others that have waited longer";
    auto [resource, amount] = *lacking;
    const int64_t total = admission.total(resource), used = admission.used(resource);
    std::string text;
    if (resource == memory) {
      text = fmt::format("{} of memory: {} of {} are in use", ir::BytesForPeople(amount), ir::BytesForPeople(used), ir::BytesForPeople(total));
    } else if (resource == cpu) {
      text = fmt::format("{:g} cpu{}: {:g} of {:g} are in use", static_cast<double>(amount) / 1000, amount == 1000 ? "" : "s", static_cast<double>(used) / 1000, static_cast<double>(total) / 1000);
    } else {
      const std::string_view plural = amount == 1 ? "" : "s";
      std::string what = fmt::format("{}{}", resource == gpu ? "gpu" : "place", plural);
      for (uint32_t pool = 0; pool < pool_resource.size(); ++pool) {
        if (pool_resource[pool] == resource) what = fmt::format("slot{} of pool `{}`", plural, plan.pools[pool].name);
      }
      text = fmt::format("{} {}: {} of {} {} in use", amount, what, used, total, total == 1 ? "is" : "are");
    }
    std::vector<AttemptId> holders;
    for (const auto& [id, attempt] : live) {
      for (auto [claimed, by] : admission.claims(attempt.claim_class)) {
        if (claimed == resource) holders.push_back(id);
      }
    }
    std::sort(holders.begin(), holders.end());
    for (size_t i = 0; i < holders.size() && i < 3; ++i) text += fmt::format("{}`{}`", i == 0 ? " by " : ", ", Address(live.at(holders[i]).instance));
    return text + (holders.size() > 3 ? fmt::format(" and {} more", holders.size() - 3) : "");
  }

  bool PriorityOf(InstanceRef ref, int& out) {
    out = 0;
    const JobRun& j = RunOf(ref);
    if (!j.job->priority.valid()) return true;
    ir::Value value;
    if (!evaluator.Evaluate(j.job->priority, context, value)) return false;
    out = static_cast<int>(std::clamp<int64_t>(value.as_int(), -100, 100));
    return true;
  }

  // -- Attempts -------------------------------------------------------------------------------------------------------

  /// Resources, limits and grace of an attempt that begins.
  bool Measure(Live& attempt, std::optional<int64_t>& grace, std::string& why) {
    const InstanceRef ref = attempt.instance;
    JobRun& j = RunOf(ref);
    const RetryHistory* history = state.history(ref);
    const bool prepared = history && history->has_next;
    const bool shared = (prepared || (j.resources && j.timeouts)) && j.grace_ms;
    if (!shared) {
      context.SetInstance(ref);
      context.SetAttempt(attempt.number);
    }
    if (prepared) {
      attempt.resources = history->resources;
      attempt.timeouts = history->timeouts;
    } else {
      std::optional<Resources> resources = BaseResources(ref, why);
      if (!resources) return false;
      attempt.resources = *resources;
      if (j.timeouts) {
        attempt.timeouts = *j.timeouts;
      } else {
        context.SetResources(&attempt.resources);
        Result<Timeouts> timeouts = EvaluateTimeouts(j.job->timeout, evaluator, context);
        context.SetResources(nullptr);
        if (!timeouts) {
          why = timeouts.error().message;
          return false;
        }
        // Nobody waits for a program that hangs after all else has ended, or before anything began.
        if ((j.job->kind == ir::JobKind::Finally || j.job->kind == ir::JobKind::Hook) && !timeouts->run) timeouts->run = kFinallyRunMs;
        attempt.timeouts = *timeouts;
        if (j.timeouts_shared) j.timeouts = *timeouts;
      }
    }
    grace = GraceOf(ref);
    if (!grace) why = fmt::format("`grace` has no value: {}", evaluator.fault().message);
    return grace.has_value();
  }

  bool Start(InstanceRef ref, uint32_t claim_class) {
    Live attempt;
    attempt.instance = ref;
    attempt.claim_class = claim_class;
    attempt.number = state.attempts(ref) + 1;
    std::optional<int64_t> grace;
    if (std::string why; !Measure(attempt, grace, why)) {
      Finish(ref, State::Failed, std::make_shared<const Verdict>(Failed(ErrorKind::Expression, std::move(why))));
      return false;
    }
    StartAttempt action = ActionFor(state.ApplyAttempt(ref), attempt, *grace);
    Launch(std::move(attempt), std::move(action));
    return true;
  }

  StartAttempt ActionFor(AttemptId id, const Live& attempt, int64_t grace_ms) {
    const JobRun& j = RunOf(attempt.instance);
    StartAttempt action;
    action.id = id;
    action.instance = attempt.instance;
    action.number = attempt.number;
    action.grace_ms = grace_ms;
    action.resources = attempt.resources;
    action.timeouts = attempt.timeouts;
    for (auto [resource, amount] : admission.claims(attempt.claim_class)) {
      for (uint32_t pool = 0; pool < pool_resource.size() && !j.job->pools.empty(); ++pool) {
        if (pool_resource[pool] == resource) action.pools.emplace_back(pool, static_cast<uint32_t>(amount));
      }
    }
    return action;
  }

  /// Its claims are taken.
  void Launch(Live attempt, StartAttempt action) {
    const InstanceRef ref = attempt.instance;
    const AttemptId id = action.id;
    const RetryHistory* history = state.history(ref);
    Change(ref, State::Running, nullptr, id);
    ++counters.attempts;
    if (attempt.number > 1) ++counters.retries;
    attempt.submitted = attempt.queued = now;
    if (attempt.timeouts.queue) Arm(now + *attempt.timeouts.queue, DeadlineKind::Queue, id);
    if (attempt.timeouts.total) {
      Arm(now + std::max<int64_t>(0, *attempt.timeouts.total - (history ? history->total_used_ms : 0)),
          DeadlineKind::Total, id);
    }
    actions.push_back(std::move(action));
    current[Pack(ref)] = id;
    ++live_in[static_cast<size_t>(RunOf(ref).phase)];
    const uint32_t claim_class = attempt.claim_class;
    live.emplace(id, std::move(attempt));
    patience[claim_class].since = now;
    if (!patience[claim_class].armed && admission.HasWaiting(claim_class)) ArmPatience(claim_class);
  }

  // -- What begins by itself ------------------------------------------------------------------------------------------

  static bool IsReady(const RunState& state, InstanceRef ref) { return state.state(ref) == State::Ready; }

  /// Whether exit code 0 without a result makes an attempt of this job succeed, whatever it did.
  static bool ExitDecides(const ir::Job& job) { return job.outputs.empty() && job.inputs.empty() && job.errors.empty(); }

  std::optional<Scheduler::Next> PlanNext(AttemptId before, const std::function<bool(InstanceRef)>& may) {
    InstanceRef instance;
    uint32_t same_claims = 0;
    AttemptId* follower = nullptr;
    if (auto it = live.find(before); it != live.end()) {
      if (it->second.judged || it->second.stage == Stage::Exited) return std::nullopt;
      instance = it->second.instance;
      same_claims = it->second.claim_class;
      follower = &it->second.next;
    } else if (auto waiting = planned.find(before); waiting != planned.end()) {
      if (waiting->second.revoking) return std::nullopt;
      instance = waiting->second.start.instance;
      same_claims = waiting->second.claim_class;
      follower = &waiting->second.next;
    }
    if (follower == nullptr || *follower != 0) return std::nullopt;
    // Where priorities differ, the end of `before` could make one ready that has more of it.
    if (phase != RunPhase::Jobs || mode >= ir::Strategy::Drain || ending || interrupted || !one_priority)
      return std::nullopt;
    const JobRun& b = RunOf(instance);
    const bool stops = b.strategy >= ir::Strategy::Drain;
    if (b.phase != RunPhase::Jobs || !ExitDecides(*b.job)) return std::nullopt;
    const auto first = admission.First([&](InstanceRef ref) { return IsReady(state, ref); });
    if (!first) return std::nullopt;
    const auto [ref, claim_class] = *first;
    const JobRun& j = RunOf(ref);
    if (j.phase != RunPhase::Jobs || j.job->kind != ir::JobKind::Job || j.job->backend.kind != b.job->backend.kind ||
        admission.claims(claim_class) != admission.claims(same_claims) || state.history(ref) ||
        !j.resources || !j.timeouts || !j.grace_ms || !may(ref)) {
      return std::nullopt;
    }
    admission.Pop(claim_class);
    const Live attempt = Fresh(ref, claim_class);
    Planned next;
    next.before = before;
    next.claim_class = claim_class;
    next.start = ActionFor(state.ApplyAttempt(ref), attempt, *j.grace_ms);
    const AttemptId id = next.start.id;
    *follower = id;
    Scheduler::Next out{next.start, stops};
    planned_of[Pack(ref)] = id;
    planned.emplace(id, std::move(next));
    return out;
  }

  /// Of an instance whose job has resources and timeouts for all, at its first attempt.
  Live Fresh(InstanceRef ref, uint32_t claim_class) {
    const JobRun& j = RunOf(ref);
    Live attempt;
    attempt.instance = ref;
    attempt.claim_class = claim_class;
    attempt.number = state.attempts(ref) + (planned_of.count(Pack(ref)) ? 0 : 1);
    attempt.resources = *j.resources;
    attempt.timeouts = *j.timeouts;
    return attempt;
  }

  std::optional<Planned> TakePlanned(AttemptId id) {
    auto it = planned.find(id);
    if (it == planned.end()) return std::nullopt;
    Planned next = std::move(it->second);
    planned.erase(it);
    if (auto before = live.find(next.before); before != live.end()) before->second.next = 0;
    if (auto before = planned.find(next.before); before != planned.end()) before->second.next = 0;
    return next;
  }

  /// It has begun in the place of the one before, which is released.
  void BeginPlanned(Planned next) {
    const InstanceRef ref = next.start.instance;
    Live attempt = Fresh(ref, next.claim_class);
    attempt.next = next.next;
    planned_of.erase(Pack(ref));
    admission.Take(next.claim_class);
    next.start.began = true;
    Launch(std::move(attempt), std::move(next.start));
    if (next.cancel && !next.only_unstarted) CancelNow(ref, next.why, next.cancel, false);
  }

  /// It never begins, and so does not what was to follow it.
  void DropPlanned(AttemptId id) {
    std::vector<AttemptId> chain;
    for (auto it = planned.find(id); it != planned.end(); it = planned.find(it->second.next)) chain.push_back(it->first);
    for (; !chain.empty(); chain.pop_back()) DropLast(*TakePlanned(chain.back()));
  }

  void DropLast(Planned next) {
    const InstanceRef ref = next.start.instance;
    planned_of.erase(Pack(ref));
    state.RetractAttempt(ref);
    if (next.cancel) {
      Finish(ref, State::Cancelled, next.cancel);
    } else {
      Wait(next.claim_class, ref.ordinal);
    }
  }

  /// nullopt: its expression failed. Cached where all instances agree.
  std::optional<int64_t> GraceOf(InstanceRef ref) {
    JobRun& j = RunOf(ref);
    if (j.grace_ms) return j.grace_ms;
    ir::Value value;
    if (!evaluator.Evaluate(j.job->grace, context, value)) return std::nullopt;
    if (IsSharedByInstances(plan.program, j.job->grace)) j.grace_ms = value.as_int();
    return value.as_int();
  }

  int64_t GraceForCancel(InstanceRef ref) {
    context.SetInstance(ref);
    return GraceOf(ref).value_or(kDefaultGraceMs);
  }

  /// The first verdict of an attempt. `cancel`: jobc itself decided it, and the attempt must be ended.
  void Judge(AttemptId id, AttemptResult result, std::optional<CancelWhy> cancel, bool as_cancelled) {
    Live& attempt = live.at(id);
    JOBC_CHECK(!attempt.judged);
    attempt.judged = true;
    const InstanceRef ref = attempt.instance;
    JobRun& j = RunOf(ref);
    current.erase(Pack(ref));
    auto verdict = std::make_shared<const Verdict>(std::move(result.verdict));
    result.verdict.success = verdict->success;
    actions.push_back(AttemptJudged{id, ref, attempt.number, verdict, !cancel});
    if (cancel) actions.push_back(CancelAttempt{id, *cancel, GraceForCancel(ref)});
    state.ApplyResult(ref, std::move(result));
    if (verdict->success) return Finish(ref, State::Succeeded, nullptr, id);
    if (as_cancelled) return Finish(ref, State::Cancelled, verdict, id);
    if (Stopped(j)) {
      if (attempt.number < j.job->retry.max_attempts && GoverningRule(*verdict, j.job->retry) >= 0) {
        Verdict last = *verdict;
        last.message += last.message.empty() ? "" : "; ";
        last.message += "not retried: the run starts nothing new";
        verdict = std::make_shared<const Verdict>(std::move(last));
      }
      return Finish(ref, State::Failed, verdict, id);
    }

    static const GrantedRetries kNoneGranted;
    const RetryHistory* old = state.history(ref);
    context.SetInstance(ref);
    context.SetResources(&attempt.resources);
    Decision decision = Decide(*verdict, {attempt.number, attempt.resources, attempt.timeouts},
                               old ? old->granted : kNoneGranted, j.job->retry, plan.program, evaluator, context,
                               JitterSeed(state.run_id(), Address(ref), attempt.number));
    context.SetResources(nullptr);
    if (decision.retry) {
      Admission::Claims claims;
      std::string why;
      ErrorKind kind;
      if (!ClaimsOf(ref, decision.resources, claims, why, kind)) {
        decision.retry = false;
        decision.cap_reached = true;
        decision.why_not = fmt::format("cap reached: the next attempt could never start: {}", why);
      }
    }
    if (!decision.retry) {
      if (!decision.why_not.empty()) {
        Verdict last = *verdict;
        last.message += (last.message.empty() ? "" : "; ") + decision.why_not;
        verdict = std::make_shared<const Verdict>(std::move(last));
      }
      return Finish(ref, State::Failed, verdict, id);
    }
    RetryHistory& history = state.MutableHistory(ref);
    if (history.granted.size() <= decision.rule) history.granted.resize(decision.rule + 1);
    ++history.granted[decision.rule];
    history.has_next = true;
    history.resources = decision.resources;
    history.timeouts = decision.timeouts;
    history.total_used_ms += now - attempt.submitted;
    Backoff backoff;
    backoff.since = now;
    backoff.retry_at = now + decision.delay_ms;
    backoff.attempt = id;
    const std::optional<int64_t> total = history.timeouts.total;
    if (total) backoff.total_at = now + std::max<int64_t>(0, *total - history.total_used_ms);
    Change(ref, State::Backoff, verdict, id);
    actions.push_back(RetryScheduled{ref, id, attempt.number + 1, decision.rule, decision.delay_ms});
    backoffs[Pack(ref)] = backoff;
    Arm(backoff.retry_at, DeadlineKind::Backoff, Pack(ref));
    if (total) Arm(backoff.total_at, DeadlineKind::TotalInBackoff, Pack(ref));
  }

  void JudgeHere(AttemptId id, ErrorKind kind, std::string text, CancelWhy why, bool as_cancelled,
                 bool no_retry = false) {
    AttemptResult result;
    result.verdict = Failed(kind, std::move(text));
    result.verdict.no_retry = no_retry;
    Judge(id, std::move(result), why, as_cancelled);
  }

  void Reap(AttemptId id) {
    auto it = live.find(id);
    const InstanceRef ref = it->second.instance;
    admission.Release(it->second.claim_class);
    --live_in[static_cast<size_t>(RunOf(ref).phase)];
    live.erase(it);
    auto backoff = backoffs.find(Pack(ref));
    if (backoff == backoffs.end() || backoff->second.attempt != id) return;
    backoff->second.reaped = true;
    if (backoff->second.due) EndBackoff(ref);
  }

  /// Delay over and previous attempt reaped: it waits for admission again.
  void EndBackoff(InstanceRef ref) {
    auto it = backoffs.find(Pack(ref));
    state.MutableHistory(ref).total_used_ms += now - it->second.since;
    backoffs.erase(it);
    context.SetInstance(ref);
    MakeReady(ref);
  }

  void DropBackoff(InstanceRef ref, State to, std::shared_ptr<const Verdict> verdict) {
    backoffs.erase(Pack(ref));
    Finish(ref, to, std::move(verdict));
  }

  // -- Stopping -------------------------------------------------------------------------------------------------------

  /// Ends everything of a job that is not final. `only_unstarted`: programs that run may finish (drain).
  void CancelJobNow(uint32_t index, CancelWhy why, const std::shared_ptr<const Verdict>& verdict, bool only_unstarted) {
    if (!state.expanded(index)) {
      if (!IsFinal(state.whole(index))) Finish({index, kWholeJob}, State::Cancelled, verdict);
      return;
    }
    for (uint32_t i = 0; i < state.size(index); ++i) CancelNow({index, i}, why, verdict, only_unstarted);
  }

  void CancelNow(InstanceRef ref, CancelWhy why, const std::shared_ptr<const Verdict>& verdict, bool only_unstarted) {
    switch (state.state(ref)) {
      case State::Ready:
        if (auto it = planned_of.find(Pack(ref)); it != planned_of.end()) {
          Planned& next = planned.at(it->second);
          if (!next.cancel || (next.only_unstarted && !only_unstarted)) {
            next.cancel = verdict;
            next.why = why;
            next.only_unstarted = only_unstarted;
          }
          if (!std::exchange(next.revoking, true)) actions.push_back(RevokeNext{it->second});
          break;
        }
        [[fallthrough]];
      case State::Waiting: Finish(ref, State::Cancelled, verdict); break;
      case State::Backoff: DropBackoff(ref, State::Cancelled, verdict); break;
      case State::Running: {
        const AttemptId id = current.at(Pack(ref));
        if (only_unstarted) {
          // Only the place where it runs knows whether its program has begun.
          Live& attempt = live.at(id);
          if (attempt.stage == Stage::Submitted && !attempt.withdrawn) {
            attempt.withdrawn = verdict;
            actions.push_back(WithdrawAttempt{id});
          }
          break;
        }
        JudgeHere(id, ErrorKind::Cancelled, verdict->message, why, true);
        break;
      }
      default: break;
    }
  }

  /// Carries out a mode that was raised.
  void Sweep() {
    if (mode == ir::Strategy::Drain && !backoffs_swept) {
      backoffs_swept = true;
      std::vector<uint64_t> keys;
      for (const auto& [key, backoff] : backoffs) {
        if (RunOf(Unpack(key)).phase == RunPhase::Jobs) keys.push_back(key);
      }
      std::sort(keys.begin(), keys.end());
      for (uint64_t key : keys) {
        const InstanceRef ref = Unpack(key);
        DropBackoff(ref, State::Failed, state.verdict(ref));
      }
      if (!keys.empty()) return;  // dependents first: they are blocked, not cancelled
    }
    swept = mode;
    if (mode < ir::Strategy::Drain) return;
    const bool drain = mode == ir::Strategy::Drain;
    for (uint32_t index = 0; index < jobs.size(); ++index) {
      if (jobs[index].phase != RunPhase::Jobs && jobs[index].phase != RunPhase::StartHooks) continue;
      if (drain && jobs[index].phase == RunPhase::StartHooks) continue;
      CancelJobNow(index, drain ? CancelWhy::Drain : halt_why, mode_why, drain);
    }
  }

  /// No further phases: everything is cancelled, the run ends when all is reaped.
  void EndNow(CancelWhy why, const std::string& text, bool at_once) {
    ending = true;
    awaiting = false;
    auto verdict = Why(text);
    std::vector<AttemptId> already;
    for (const auto& [id, attempt] : live) {
      if (attempt.judged) already.push_back(id);
    }
    for (uint32_t index = 0; index < jobs.size(); ++index) CancelJobNow(index, why, verdict, false);
    if (!at_once) return;
    for (Action& action : actions) {
      if (auto* cancel = std::get_if<CancelAttempt>(&action)) cancel->grace_ms = 0;
    }
    std::sort(already.begin(), already.end());
    for (AttemptId id : already) actions.push_back(CancelAttempt{id, why, 0});
  }

  // -- The loop -------------------------------------------------------------------------------------------------------

  void Settle() {
    for (;;) {
      if (!work.empty()) {
        const Work item = work.front();
        work.pop_front();
        switch (item.kind) {
          case Work::Final: Propagate(item.instance); break;
          case Work::Done: JobDone(item.instance.job); break;
          case Work::Domain:
            QueueLink(item.instance.job);
            for (uint32_t waiter : jobs[item.instance.job].domain_waiters) {
              TryExpand(waiter);
              QueueLink(waiter);
            }
            break;
        }
      } else if (!links.empty()) {
        const uint32_t index = links.front();
        links.pop_front();
        Link(index);
      } else if (swept < mode) {
        Sweep();
      } else {
        return;
      }
    }
  }

  void Pump() {
    do {
      Settle();
      admission.Admit([&](InstanceRef ref) { return IsReady(state, ref); },
                      [&](InstanceRef ref, uint32_t claim_class) { return Start(ref, claim_class); });
    } while (!work.empty() || swept < mode || Advance());
  }

  bool Advance() {
    if (phase == RunPhase::New || phase == RunPhase::Ended) return false;
    if (ending) {
      if (!live.empty()) return false;
      Enter(RunPhase::Ended);
      return true;
    }
    if (awaiting || remaining[static_cast<size_t>(phase)] > 0 || live_in[static_cast<size_t>(phase)] > 0) return false;
    Enter(static_cast<RunPhase>(static_cast<uint8_t>(phase) + 1));
    return true;
  }

  void Activate(RunPhase which) {
    for (uint32_t index = 0; index < jobs.size(); ++index) {
      if (jobs[index].phase != which) continue;
      jobs[index].active = true;
    }
    for (uint32_t index = 0; index < jobs.size(); ++index) {
      if (jobs[index].phase != which) continue;
      TryExpand(index);
      WakeAll(index);
    }
  }

  void FixStatus() {
    state.ApplyStatus(interrupted                ? RunStatus::Interrupted
                      : cause == RunCause::Limit ? RunStatus::TimedOut
                      : cause != RunCause::None  ? RunStatus::Failed
                                                 : RunStatus::Succeeded);
  }

  void Enter(RunPhase next) {
    phase = next;
    switch (phase) {
      case RunPhase::Exports:
        if (plan.exports.empty()) return;
        awaiting = true;
        actions.push_back(PhaseChanged{phase});
        actions.push_back(EvaluateExports{});
        return;
      case RunPhase::Publish:
        if (plan.publishes.empty() || cause != RunCause::None || interrupted) return;
        awaiting = true;
        actions.push_back(PhaseChanged{phase});
        actions.push_back(PublishOutputs{});
        return;
      case RunPhase::Ended: {
        FixStatus();
        actions.push_back(PhaseChanged{phase});
        RunFinished finished;
        finished.status = state.status();
        finished.cause = interrupted ? RunCause::Interrupt : cause;
        finished.tolerated_failures = tolerated_failures;
        finished.message = message;
        constexpr std::array<int, 7> codes = {0, 10, 12, 13, 14, 15, 130};
        finished.exit_code = codes[static_cast<size_t>(finished.cause)];
        actions.push_back(std::move(finished));
        return;
      }
      case RunPhase::Finally:
      case RunPhase::ResultHooks: FixStatus(); break;
      default: break;
    }
    if (phase != RunPhase::Jobs && remaining[static_cast<size_t>(phase)] == 0) return;
    actions.push_back(PhaseChanged{phase});
    if (phase == RunPhase::ResultHooks) {
      const ir::HookEvent other =
          state.status() == RunStatus::Succeeded ? ir::HookEvent::Failure : ir::HookEvent::Success;
      for (uint32_t index = 0; index < jobs.size(); ++index) {
        if (jobs[index].phase != phase || jobs[index].job->hook_event != other) continue;
        auto why = Why(fmt::format("the run has {}", RunStatusName(state.status())));
        for (uint32_t i = 0; i < state.size(index); ++i) FinishIfWaiting({index, i}, State::Skipped, why);
      }
    }
    Activate(phase);
  }

  // -- The start of a run ---------------------------------------------------------------------------------------------

  void SetUpResources() {
    auto integer = [&](ir::ExprId id) -> std::optional<int64_t> {
      ir::Value value;
      if (!id.valid() || !evaluator.Evaluate(id, context, value) || value.is_null()) return std::nullopt;
      return value.as_int();
    };
    const std::optional<int64_t> plan_places = integer(plan.max_parallel);
    if (options.max_parallel > 0) {
      run_places = admission.AddResource(options.max_parallel);
    } else if (plan_places && *plan_places > 0) {
      run_places = admission.AddResource(*plan_places);
    }
    if (options.local_parallel > 0) local_places = admission.AddResource(options.local_parallel);
    if (options.cpu_milli > 0) cpu = admission.AddResource(options.cpu_milli);
    if (options.memory > 0) memory = admission.AddResource(options.memory);
    if (options.gpu >= 0) gpu = admission.AddResource(options.gpu);
    for (const ir::Pool& pool : plan.pools)
      pool_resource.push_back(admission.AddResource(integer(pool.slots).value_or(1)));
    std::map<std::pair<ir::BackendKind, int64_t>, uint32_t> places;
    for (JobRun& j : jobs) {
      for (const ir::NamedExpr& option : j.job->backend.options) {
        if (option.name != "max_parallel") continue;
        const std::optional<int64_t> limit = integer(option.value);
        if (!limit || *limit <= 0 || limit == plan_places) continue;  // the profile's own limit is the run's
        auto [it, added] = places.try_emplace({j.job->backend.kind, *limit}, 0);
        if (added) it->second = admission.AddResource(*limit);
        j.backend_places = it->second;
      }
    }
  }

  void SetUpJob(uint32_t index) {
    JobRun& j = jobs[index];
    const ir::Job& job = plan.jobs[index];
    j.job = &job;
    j.phase = PhaseOf(job);
    if (job.on_error_set) {
      j.strategy = job.on_error;
    } else {
      j.strategy = job.kind == ir::JobKind::Check ? ir::Strategy::Drain : plan.on_error.value_or(ir::Strategy::Drain);
    }
    if (options.on_error && j.strategy != ir::Strategy::Ignore) j.strategy = *options.on_error;
    one_priority = one_priority && !job.priority.valid();
    state.set_tolerated(index, j.strategy == ir::Strategy::Ignore);
    auto shared = [&](std::initializer_list<ir::ExprId> ids) {
      return std::all_of(ids.begin(), ids.end(), [&](ir::ExprId id) { return IsSharedByInstances(plan.program, id); });
    };
    const ir::ResourceSpec& r = job.resources;
    const ir::TimeoutSpec& t = job.timeout;
    j.resources_shared = shared({r.cpu, r.memory, r.disk, r.gpu, r.spot});
    j.timeouts_shared = shared({t.queue, t.run, t.total, t.idle, t.stage, t.collect});
    j.claims_shared =
        shared({r.cpu, r.memory, r.gpu, job.priority}) && j.resources_shared &&
        std::all_of(job.pools.begin(), job.pools.end(), [&](const auto& pool) { return shared({pool.second}); });
    if (!job.grace.valid()) j.grace_ms = kDefaultGraceMs;
  }

  /// Claims that this machine can never satisfy, as far as they are known before anything runs.
  bool FitsMachine(std::string& why) {
    for (uint32_t index = 0; index < jobs.size(); ++index) {
      const JobRun& j = jobs[index];
      const ir::Job& job = *j.job;
      if (job.kind == ir::JobKind::Check) continue;
      auto known = [&](ir::ExprId id) { return IsKnownAtPlan(plan.program, job, id); };
      if (!known(job.resources.cpu) || !known(job.resources.memory) || !known(job.resources.gpu)) continue;
      if (!std::all_of(job.pools.begin(), job.pools.end(), [&](const auto& pool) { return known(pool.second); }))
        continue;
      if (!j.claims_shared && !state.expanded(index)) continue;
      const uint32_t count =
          j.claims_shared ? std::min<uint32_t>(1, state.expanded(index) ? state.size(index) : 1) : state.size(index);
      ir::ResourceSpec spec = job.resources;
      spec.disk = spec.spot = ir::ExprId{};  // no claims
      for (uint32_t i = 0; i < count; ++i) {
        const InstanceRef ref{index, i};
        context.SetInstance(ref);
        Result<Resources> resources = EvaluateResources(spec, evaluator, context);
        if (!resources) continue;  // reported by the instance itself
        Admission::Claims claims;
        ErrorKind kind = ErrorKind::Quota;
        if (!ClaimsOf(ref, *resources, claims, why, kind) && kind == ErrorKind::Quota) return false;
      }
    }
    return true;
  }

  void Begin() {
    JOBC_CHECK(phase == RunPhase::New);
    std::vector<std::pair<uint32_t, std::shared_ptr<const Verdict>>> impossible;
    for (uint32_t index = 0; index < jobs.size(); ++index) {
      if (state.expanded(index) || jobs[index].job->domain.dynamic || IsFinal(state.whole(index))) continue;
      if (Result<void> done = state.Expand(index, evaluator, context); !done) {
        impossible.emplace_back(index,
                                std::make_shared<const Verdict>(Failed(ErrorKind::Expression, done.error().message)));
      }
    }
    for (uint32_t index = 0; index < jobs.size(); ++index) {
      JobRun& j = jobs[index];
      uint64_t open = 0;
      if (state.expanded(index)) {
        for (State s : {State::Waiting, State::Ready, State::Running, State::Backoff}) open += state.count(index, s);
      } else {
        open = IsFinal(state.whole(index)) ? 0 : 1;
      }
      j.unsettled = open;
      j.done = open == 0;
      remaining[static_cast<size_t>(j.phase)] += open;
    }
    for (uint32_t index = 0; index < jobs.size(); ++index) Classify(index);
    for (uint32_t index = 0; index < jobs.size(); ++index) {
      JobRun& j = jobs[index];
      for (const Dep& dep : j.deps) {
        const uint32_t producer = dep.plan->job;
        if (dep.shape == Shape::Whole) {
          if (!jobs[producer].done) ++j.whole_pending;
        } else if (dep.shape != Shape::List || !NeedsEnd(j, producer) || DomainKnown(index)) {
          continue;
        }
        bool lost = !state.expanded(producer) && IsFinal(state.whole(producer));
        for (State s : {State::Failed, State::Skipped}) lost = lost || state.count(producer, s) > 0;
        if (dep.plan->strong && lost && !j.broken) {
          j.broken = true;
          j.broken_why = NeedsWhole(producer);
        }
      }
    }
    for (InstanceRef ref : state.failed()) {  // of an earlier process: the run fails, but goes on with what it can
      if (RunOf(ref).strategy == ir::Strategy::Ignore) {
        tolerated_failures = true;
      } else {
        const auto verdict = state.verdict(ref);
        FailRun(verdict && verdict->kind == ErrorKind::Check ? RunCause::Check : RunCause::Job,
                verdict ? FailureText(ref, *verdict) : fmt::format("`{}` failed", Address(ref)));
      }
    }
    phase = RunPhase::StartHooks;
    if (plan.limits.time_ms) Arm(now + *plan.limits.time_ms, DeadlineKind::Limit, 0);
    std::string why;
    why = unavailable;
    if (!adopted && (!why.empty() || !FitsMachine(why))) {
      FailRun(RunCause::Backend, why);
      EndNow(CancelWhy::Halt, why, false);
      return;
    }
    for (auto& [index, verdict] : impossible) Finish({index, kWholeJob}, State::Failed, std::move(verdict));
    for (uint32_t index = 0; index < jobs.size(); ++index) {
      if (jobs[index].broken && !state.expanded(index)) BlockAll(index);
      QueueLink(index);
    }
    Settle();
    Enter(RunPhase::StartHooks);
  }

  // -- Deadlines ------------------------------------------------------------------------------------------------------

  void PopDeadline() {
    std::pop_heap(deadlines.begin(), deadlines.end(), std::greater<>());
    deadlines.pop_back();
  }

  /// Drops stale ones and moves idle ones on, so that the first is real.
  std::optional<int64_t> FirstDeadline() {
    while (!deadlines.empty()) {
      const Deadline d = deadlines.front();
      if (!IsArmed(d)) {
        PopDeadline();
        continue;
      }
      if (d.kind == DeadlineKind::Idle) {
        const Live& attempt = live.at(d.key);
        const int64_t at = attempt.last_output + *attempt.timeouts.idle;
        if (at > d.at) {
          PopDeadline();
          Arm(at, DeadlineKind::Idle, d.key);
          continue;
        }
      }
      return d.at;
    }
    return std::nullopt;
  }

  void Due(const Deadline& d) {
    switch (d.kind) {
      case DeadlineKind::Queue:
        JudgeHere(d.key, ErrorKind::QueueTimeout,
                  fmt::format("it was not started within {}", ir::DurationText(*live.at(d.key).timeouts.queue)),
                  CancelWhy::QueueTimeout, false);
        break;
      case DeadlineKind::Stage: {
        const Live& attempt = live.at(d.key);
        JudgeHere(d.key, ErrorKind::Staging,
                  fmt::format("{} not here after {}; give it longer with `timeout {{ stage = … }}`", attempt.staging,
                              ir::DurationText(attempt.timeouts.stage.value_or(kDefaultPhaseMs))),
                  CancelWhy::StageTimeout, false);
        break;
      }
      case DeadlineKind::Collect:
        JudgeHere(d.key, ErrorKind::Staging,
                  fmt::format("its outputs were not kept {} after its end; give it longer with `timeout {{ collect = … }}`",
                              ir::DurationText(live.at(d.key).timeouts.collect.value_or(kDefaultPhaseMs))),
                  CancelWhy::CollectTimeout, false);
        break;
      case DeadlineKind::Run:
        JudgeHere(d.key, ErrorKind::Timeout,
                  fmt::format("it ran longer than {}", ir::DurationText(*live.at(d.key).timeouts.run)),
                  CancelWhy::RunTimeout, false);
        break;
      case DeadlineKind::Idle:
        JudgeHere(
            d.key, ErrorKind::IdleTimeout,
            fmt::format("it wrote nothing to stdout or stderr for {}", ir::DurationText(*live.at(d.key).timeouts.idle)),
            CancelWhy::IdleTimeout, false);
        break;
      case DeadlineKind::Total:
        JudgeHere(d.key, ErrorKind::Timeout,
                  fmt::format("all its attempts together took longer than {}",
                              ir::DurationText(*live.at(d.key).timeouts.total)),
                  CancelWhy::TotalTimeout, false, true);
        break;
      case DeadlineKind::Resubmit: {
        Live& attempt = live.at(d.key);
        attempt.resubmit_at = -1;
        ++attempt.submissions;
        ++counters.resubmissions;
        actions.push_back(SubmitAgain{d.key, attempt.submissions});
        break;
      }
      case DeadlineKind::Backoff: {
        Backoff& backoff = backoffs.at(d.key);
        backoff.due = true;
        if (backoff.reaped) EndBackoff(Unpack(d.key));
        break;
      }
      case DeadlineKind::TotalInBackoff: {
        const InstanceRef ref = Unpack(d.key);
        std::shared_ptr<const Verdict> last = state.verdict(ref);
        Verdict verdict =
            Failed(ErrorKind::Timeout, fmt::format("all its attempts together took longer than {} (last failure: {})",
                                                   ir::DurationText(*state.history(ref)->timeouts.total),
                                                   last ? ErrorName(*last) : "unknown"));
        verdict.no_retry = true;
        DropBackoff(ref, State::Failed, std::make_shared<const Verdict>(std::move(verdict)));
        break;
      }
      case DeadlineKind::Limit: {
        std::string text =
            fmt::format("the run took longer than its `limits.time` of {}", ir::DurationText(*plan.limits.time_ms));
        FailRun(RunCause::Limit, text);
        Raise(ir::Strategy::Halt, {kNone, kNone}, CancelWhy::TimeLimit, std::move(text));
        break;
      }
    }
  }

  std::string CheckInvariants() const;
};

// -- Events
// ------------------------------------------------------------------------------------------------------------

Scheduler::Scheduler(const ir::Plan& plan, RunState& state, SchedulerOptions options, ir::EvalContext* world)
    : core_(std::make_unique<Core>(plan, state, options, world)) {
  for (uint32_t index = 0; index < plan.jobs.size(); ++index) core_->SetUpJob(index);
  core_->SetUpResources();
}

Scheduler::~Scheduler() = default;

void Scheduler::Adopt(AttemptId id, InstanceRef instance, uint32_t number, Resources resources, Timeouts timeouts,
                      bool started, int64_t now, int64_t ran_ms) {
  Core& c = *core_;
  JOBC_CHECK(c.phase == RunPhase::New && !IsFinal(c.state.state(instance)) && !c.live.count(id));
  c.SetNow(now);
  c.adopted = true;
  c.context.SetInstance(instance);
  Admission::Claims claims;
  std::string why;
  ErrorKind kind;
  int priority = 0;
  if (!c.ClaimsOf(instance, resources, claims, why, kind))
    claims.clear();  // it runs already, whatever the machine is now
  c.PriorityOf(instance, priority);
  Core::Live attempt;
  attempt.instance = instance;
  attempt.number = number;
  attempt.claim_class = c.admission.Intern(instance.job, priority, std::move(claims));
  attempt.submitted = attempt.queued = attempt.last_output = c.now;
  attempt.started = c.now - ran_ms;
  attempt.resources = resources;
  attempt.timeouts = timeouts;
  if (started) attempt.stage = Core::Stage::Started;
  c.admission.Take(attempt.claim_class);
  c.state.ApplyState(instance, State::Ready);
  c.state.ApplyState(instance, State::Running);
  if (started) {
    if (timeouts.run) c.Arm(c.now - ran_ms + *timeouts.run, Core::DeadlineKind::Run, id);
    if (timeouts.idle) c.Arm(c.now + *timeouts.idle, Core::DeadlineKind::Idle, id);
  } else if (timeouts.queue) {
    c.Arm(c.now + *timeouts.queue, Core::DeadlineKind::Queue, id);
  }
  if (timeouts.total) {
    const RetryHistory* history = c.state.history(instance);
    c.Arm(c.now - ran_ms + std::max<int64_t>(0, *timeouts.total - (history ? history->total_used_ms : 0)),
          Core::DeadlineKind::Total, id);
  }
  c.current[Pack(instance)] = id;
  ++c.live_in[static_cast<size_t>(c.jobs[instance.job].phase)];
  c.live.emplace(id, std::move(attempt));
}

void Scheduler::Begin(int64_t now, std::string interrupted) {
  core_->SetNow(now);
  core_->Begin();
  if (!interrupted.empty() && core_->phase <= RunPhase::Jobs) {
    core_->interrupted = true;
    if (core_->message.empty()) core_->message = interrupted;
    core_->Raise(ir::Strategy::Halt, {kNone, kNone}, CancelWhy::Interrupt, std::move(interrupted));
  }
  core_->Pump();
}

std::optional<StartAttempt> Scheduler::Again(AttemptId id, InstanceRef instance, uint32_t number) {
  Core& c = *core_;
  JOBC_CHECK(c.phase == RunPhase::New);
  Core::Live attempt;
  attempt.instance = instance;
  attempt.number = number;
  std::string why;
  std::optional<int64_t> grace;
  if (!c.Measure(attempt, grace, why)) return std::nullopt;
  StartAttempt action;
  action.id = id;
  action.instance = instance;
  action.number = number;
  action.grace_ms = *grace;
  action.resources = attempt.resources;
  action.timeouts = attempt.timeouts;
  return action;
}

void Scheduler::AttemptStaging(AttemptId id, std::string what, int64_t now) {
  Core& c = *core_;
  c.SetNow(now);
  auto it = c.live.find(id);
  if (it == c.live.end() || it->second.judged || it->second.stage != Core::Stage::Submitted) {
    ++c.counters.late;
    return;
  }
  it->second.staging = std::move(what);
  c.Arm(c.now + it->second.timeouts.stage.value_or(kDefaultPhaseMs), Core::DeadlineKind::Stage, id);
}

void Scheduler::AttemptStaged(AttemptId id, int64_t now) {
  Core& c = *core_;
  c.SetNow(now);
  auto it = c.live.find(id);
  if (it == c.live.end() || it->second.judged || it->second.staging.empty()) {
    ++c.counters.late;
    return;
  }
  it->second.staging.clear();
  it->second.queued = c.now;
  if (it->second.timeouts.queue) c.Arm(c.now + *it->second.timeouts.queue, Core::DeadlineKind::Queue, id);
}

void Scheduler::AttemptCollecting(AttemptId id, int64_t now) {
  Core& c = *core_;
  c.SetNow(now);
  auto it = c.live.find(id);
  if (it != c.live.end() && !it->second.judged && it->second.stage == Core::Stage::Exited) {
    c.Arm(c.now + it->second.timeouts.collect.value_or(kDefaultPhaseMs), Core::DeadlineKind::Collect, id);
  }
}

void Scheduler::AttemptStarted(AttemptId id, int64_t now, int64_t ran_ms) {
  Core& c = *core_;
  c.SetNow(now);
  auto it = c.live.find(id);
  if (it == c.live.end() || it->second.judged || it->second.stage != Core::Stage::Submitted) {
    ++c.counters.late;
    return;
  }
  Core::Live& attempt = it->second;
  attempt.stage = Core::Stage::Started;
  attempt.resubmit_at = -1;  // it had arrived all the same
  attempt.last_output = c.now;
  attempt.started = c.now - ran_ms;
  if (attempt.timeouts.run) c.Arm(c.now - ran_ms + *attempt.timeouts.run, Core::DeadlineKind::Run, id);
  if (attempt.timeouts.idle) c.Arm(c.now + *attempt.timeouts.idle, Core::DeadlineKind::Idle, id);
}

void Scheduler::AttemptOutput(AttemptId id, int64_t now) {
  core_->SetNow(now);
  auto it = core_->live.find(id);
  if (it != core_->live.end()) it->second.last_output = core_->now;
}

void Scheduler::AttemptExited(AttemptId id, int64_t now) {
  core_->SetNow(now);
  auto it = core_->live.find(id);
  if (it != core_->live.end() && !it->second.judged) it->second.stage = Core::Stage::Exited;
}

void Scheduler::AttemptEnded(AttemptId id, AttemptResult result, int64_t now) {
  Core& c = *core_;
  c.SetNow(now);
  auto it = c.live.find(id);
  if (it == c.live.end() || it->second.judged) {
    ++c.counters.late;
    return;
  }
  if (it->second.submissions > 1 && it->second.stage == Core::Stage::Submitted && !result.verdict.success) {
    result.verdict.message += fmt::format("{}submitted {} times", result.verdict.message.empty() ? "" : "; ", it->second.submissions);
  }
  c.Judge(id, std::move(result), std::nullopt, false);
  c.Pump();
}

bool Scheduler::SubmitFailed(AttemptId id, const Verdict& verdict, int64_t now) {
  Core& c = *core_;
  c.SetNow(now);
  auto it = c.live.find(id);
  if (it == c.live.end() || it->second.judged || it->second.stage != Core::Stage::Submitted) return false;
  Core::Live& attempt = it->second;
  const Core::JobRun& j = c.RunOf(attempt.instance);
  if (attempt.resubmit_at >= 0) {  // told twice
    ++c.counters.late;
    return true;
  }
  if (c.Stopped(j) || attempt.withdrawn || !MayResubmit(verdict, j.job->retry) || attempt.submissions >= j.job->submit.max_attempts) return false;
  int64_t delay = 0;
  c.context.SetInstance(attempt.instance);
  // Its own draw for each submission, and not that of the attempt's retry.
  const uint64_t seed = JitterSeed(c.state.run_id(), fmt::format("{} submission {}", c.Address(attempt.instance), attempt.submissions), attempt.number);
  if (!SubmitDelay(j.job->submit, attempt.submissions, seed, c.evaluator, c.context, delay)) return false;
  attempt.resubmit_at = c.now + delay;
  c.actions.push_back(SubmissionRetry{id, attempt.instance, attempt.submissions + 1, delay, verdict});
  c.Arm(attempt.resubmit_at, Core::DeadlineKind::Resubmit, id);
  return true;
}

void Scheduler::AttemptReaped(AttemptId id, int64_t now, AttemptId next) {
  Core& c = *core_;
  c.SetNow(now);
  auto it = c.live.find(id);
  if (it == c.live.end()) {
    ++c.counters.late;
    return;
  }
  if (!it->second.judged) {
    AttemptResult result;
    result.verdict = Failed(ErrorKind::NodeLost, "it ended without an answer");
    c.Judge(id, std::move(result), std::nullopt, false);
  }
  const AttemptId follower = it->second.next;
  JOBC_CHECK(next == 0 || next == follower);
  if (next == 0) c.DropPlanned(follower);
  std::optional<Core::Planned> planned = c.TakePlanned(next);
  c.Reap(id);
  if (planned) c.BeginPlanned(std::move(*planned));
  c.Pump();
}

std::optional<Scheduler::Next> Scheduler::PlanNext(AttemptId before, const std::function<bool(InstanceRef)>& may,
                                                   int64_t now) {
  core_->SetNow(now);
  return core_->PlanNext(before, may);
}

void Scheduler::NextRevoked(AttemptId id, int64_t now) {
  Core& c = *core_;
  c.SetNow(now);
  if (c.planned.count(id) == 0) {
    ++c.counters.late;
    return;
  }
  c.DropPlanned(id);
  c.Pump();
}

void Scheduler::AttemptLost(AttemptId id, std::string message, int64_t now) {
  Core& c = *core_;
  c.SetNow(now);
  auto it = c.live.find(id);
  if (it == c.live.end()) {
    ++c.counters.late;
    return;
  }
  if (!it->second.judged) {
    AttemptResult result;
    result.verdict = Failed(ErrorKind::NodeLost, std::move(message));
    c.Judge(id, std::move(result), std::nullopt, false);
  }
  c.DropPlanned(it->second.next);
  c.Reap(id);
  c.Pump();
}

void Scheduler::StartRefused(AttemptId id, Verdict verdict, int64_t now) {
  Core& c = *core_;
  c.SetNow(now);
  auto it = c.live.find(id);
  if (it == c.live.end()) {
    ++c.counters.late;
    return;
  }
  JOBC_CHECK(it->second.stage == Core::Stage::Submitted);
  if (!it->second.judged) {
    const InstanceRef ref = it->second.instance;
    it->second.judged = true;
    c.current.erase(Pack(ref));
    c.state.RetractAttempt(ref);
    --c.counters.attempts;
    c.Finish(ref, State::Failed, std::make_shared<const Verdict>(std::move(verdict)), id);
  }
  c.DropPlanned(it->second.next);
  c.Reap(id);
  c.Pump();
}

void Scheduler::AttemptWithdrawn(AttemptId id, int64_t now) {
  Core& c = *core_;
  c.SetNow(now);
  auto it = c.live.find(id);
  if (it == c.live.end() || it->second.stage != Core::Stage::Submitted || (!it->second.judged && !it->second.withdrawn)) {
    ++c.counters.late;
    return;
  }
  if (!it->second.judged) {
    AttemptResult result;
    result.verdict = *it->second.withdrawn;
    c.Judge(id, std::move(result), std::nullopt, true);
  }
  c.DropPlanned(it->second.next);
  c.Reap(id);
  c.Pump();
}

void Scheduler::BackendUnavailable(std::string message, int64_t now) {
  Core& c = *core_;
  c.SetNow(now);
  if (c.phase == RunPhase::New) {
    c.unavailable = std::move(message);
    return;
  }
  if (c.phase > RunPhase::Jobs || c.ending) return;
  for (const auto& [id, attempt] : c.live) {
    if (attempt.stage != Core::Stage::Submitted) return;
  }
  if (c.counters.attempts > c.live.size()) return;  // some attempt has come and gone
  c.FailRun(RunCause::Backend, message);
  c.EndNow(CancelWhy::Halt, message, false);
  c.Pump();
}

void Scheduler::EnvironmentFailed(std::string message, int64_t now) {
  Core& c = *core_;
  c.SetNow(now);
  if (c.phase == RunPhase::Ended) return;
  c.cause = RunCause::Environment;
  c.message = message;
  c.EndNow(CancelWhy::Environment, message, false);
  c.Pump();
}

void Scheduler::Reused(InstanceRef instance, AttemptResult result, uint32_t attempts, int64_t now) {
  Core& c = *core_;
  c.SetNow(now);
  JOBC_CHECK(result.verdict.success);
  if (c.looking.erase(Pack(instance)) == 0 || c.state.state(instance) != State::Waiting) {
    ++c.counters.late;
    return;
  }
  c.state.ApplyReused(instance, std::move(result), attempts);
  c.Finish(instance, State::Succeeded);
  c.Pump();
}

void Scheduler::NotReused(InstanceRef instance, int64_t now) {
  Core& c = *core_;
  c.SetNow(now);
  if (c.looking.erase(Pack(instance)) == 0 || c.state.state(instance) != State::Waiting) {
    ++c.counters.late;
    return;
  }
  c.context.SetInstance(instance);
  c.MakeReady(instance);
  c.Pump();
}

void Scheduler::ExportsDone(std::optional<Verdict> failure, int64_t now) {
  Core& c = *core_;
  c.SetNow(now);
  if (c.phase != RunPhase::Exports || !c.awaiting) return;
  c.awaiting = false;
  // What was cancelled has no value, and that is no news.
  if (failure && !c.interrupted) c.FailRun(RunCause::Job, fmt::format("the exports have no value: {}", failure->message));
  c.Pump();
}

void Scheduler::PublishDone(std::optional<Verdict> failure, int64_t now) {
  Core& c = *core_;
  c.SetNow(now);
  if (c.phase != RunPhase::Publish || !c.awaiting) return;
  c.awaiting = false;
  if (failure) c.FailRun(RunCause::Job, fmt::format("publishing failed: {}", failure->message));
  c.Pump();
}

void Scheduler::Tick(int64_t now) {
  Core& c = *core_;
  c.SetNow(now);
  for (std::optional<int64_t> at = c.FirstDeadline(); at && *at <= c.now; at = c.FirstDeadline()) {
    const Core::Deadline due = c.deadlines.front();
    c.PopDeadline();
    c.Due(due);
  }
  for (std::optional<int64_t> at = c.FirstPatience(); at && *at <= c.now; at = c.FirstPatience()) c.PatienceDue();
  c.Pump();
}

void Scheduler::CancelInstance(InstanceRef instance, std::string reason, int64_t now) {
  if (instance.ordinal == kWholeJob) return CancelJob(instance.job, std::move(reason), now);
  Core& c = *core_;
  c.SetNow(now);
  Core::JobRun& j = c.jobs[instance.job];
  if (!j.active || instance.ordinal >= c.state.size(instance.job) || IsFinal(c.state.state(instance))) return;
  const auto verdict = Core::Why(std::move(reason));
  c.CancelNow(instance, CancelWhy::User, verdict, false);
  const auto known = c.state.verdict(instance);  // not yet, if it is to be taken back from where it was handed over to
  c.CountFailure(instance, known ? *known : *verdict);
  c.Pump();
}

void Scheduler::CancelJob(uint32_t job, std::string reason, int64_t now) {
  Core& c = *core_;
  c.SetNow(now);
  if (!c.jobs[job].active || c.state.all_final(job)) return;
  auto verdict = Core::Why(std::move(reason));
  c.CancelJobNow(job, CancelWhy::User, verdict, false);
  c.CountFailure({job, kWholeJob}, *verdict);
  c.Pump();
}

void Scheduler::CancelRun(bool at_once, std::string reason, int64_t now) {
  Core& c = *core_;
  c.SetNow(now);
  if (c.phase == RunPhase::New || c.phase == RunPhase::Ended) return;
  c.interrupted = true;
  if (c.message.empty()) c.message = reason;
  if (at_once) {
    c.EndNow(CancelWhy::Interrupt, reason, true);
  } else if (c.phase <= RunPhase::Jobs) {
    c.Raise(ir::Strategy::Halt, {kNone, kNone}, CancelWhy::Interrupt, std::move(reason));
  }
  c.Pump();
}

std::vector<Action> Scheduler::TakeActions() {
  std::vector<Action> out;
  out.swap(core_->actions);
  return out;
}

std::optional<int64_t> Scheduler::NextDeadline() {
  const std::optional<int64_t> deadline = core_->FirstDeadline(), patience = core_->FirstPatience();
  return deadline && patience ? std::min(*deadline, *patience) : deadline ? deadline : patience;
}

RunPhase Scheduler::phase() const { return core_->phase; }
RunMode Scheduler::mode() const { return core_->mode; }
const Scheduler::Counters& Scheduler::counters() const { return core_->counters; }
uint32_t Scheduler::live_attempts() const { return static_cast<uint32_t>(core_->live.size()); }
std::vector<InstanceRef> Scheduler::LikelyNext(size_t limit) const { return core_->admission.Peek(limit); }
uint32_t Scheduler::PoolUsed(uint32_t pool) const {
  return static_cast<uint32_t>(core_->admission.used(core_->pool_resource[pool]));
}
uint32_t Scheduler::PoolSlots(uint32_t pool) const {
  return static_cast<uint32_t>(core_->admission.total(core_->pool_resource[pool]));
}

std::optional<InstanceRef> Scheduler::InstanceOf(AttemptId id) const {
  auto it = core_->live.find(id);
  if (it == core_->live.end()) return std::nullopt;
  return it->second.instance;
}

std::string Scheduler::CheckInvariants() const { return core_->CheckInvariants(); }

std::string Scheduler::Core::CheckInvariants() const {
  if (!work.empty() || !links.empty() || swept < mode) return "an event was not settled";
  // Limits: what live attempts claim is what is used, and within the total.
  std::vector<int64_t> used(admission.resources(), 0);
  std::array<uint32_t, kPhases> live_by_phase{};
  size_t unjudged = 0;
  for (const auto& [id, attempt] : live) {
    for (auto [resource, amount] : admission.claims(attempt.claim_class)) used[resource] += amount;
    ++live_by_phase[static_cast<size_t>(jobs[attempt.instance.job].phase)];
    if (attempt.judged) continue;
    ++unjudged;
    if (state.state(attempt.instance) != State::Running)
      return fmt::format("attempt {} has no verdict but `{}` does not run", id, Address(attempt.instance));
    auto it = current.find(Pack(attempt.instance));
    if (it == current.end() || it->second != id)
      return fmt::format("attempt {} is not the current one of `{}`", id, Address(attempt.instance));
  }
  if (current.size() != unjudged) return "an instance has a current attempt that is not alive";
  if (live_by_phase != live_in) return "live attempts are miscounted";
  for (uint32_t r = 0; r < used.size(); ++r) {
    if (used[r] != admission.used(r))
      return fmt::format("resource {}: {} used, live attempts claim {}", r, admission.used(r), used[r]);
    if (used[r] > admission.total(r) && !adopted)
      return fmt::format("resource {}: {} used of {}", r, used[r], admission.total(r));
  }
  if (planned.size() != planned_of.size()) return "planned attempts are miscounted";
  for (const auto& [id, next] : planned) {
    auto alive = live.find(next.before);
    auto waits = planned.find(next.before);
    if (alive == live.end() && waits == planned.end())
      return fmt::format("attempt {} is planned after one that is neither alive nor planned", id);
    if ((alive != live.end() ? alive->second.next : waits->second.next) != id)
      return fmt::format("attempt {} is planned after one that does not know it", id);
    const uint32_t claim_class = alive != live.end() ? alive->second.claim_class : waits->second.claim_class;
    if (admission.claims(next.claim_class) != admission.claims(claim_class))
      return fmt::format("attempt {} is planned with other claims than those of the one before", id);
    if (Stopped(jobs[next.start.instance.job]) && !next.cancel)
      return fmt::format("attempt {} is planned although the run is stopped", id);
  }
  // States: counts, who waits where.
  std::array<uint64_t, kPhases> open{};
  std::unordered_map<uint64_t, int> waiting;
  for (InstanceRef ref : admission.Waiting()) {
    if (state.state(ref) == State::Ready && ++waiting[Pack(ref)] > 1)
      return fmt::format("`{}` waits twice", Address(ref));
  }
  uint64_t in_backoff = 0, running = 0, ready = 0;
  for (uint32_t index = 0; index < jobs.size(); ++index) {
    const JobRun& j = jobs[index];
    if (!state.expanded(index)) {
      if (!IsFinal(state.whole(index))) ++open[static_cast<size_t>(j.phase)];
      continue;
    }
    std::array<uint64_t, kInstanceStates> counts{};
    for (uint32_t i = 0; i < state.size(index); ++i) {
      const InstanceRef ref{index, i};
      const State s = state.state(ref);
      ++counts[static_cast<size_t>(s)];
      if (!IsFinal(s)) ++open[static_cast<size_t>(j.phase)];
      if (s == State::Running && !current.count(Pack(ref)))
        return fmt::format("`{}` runs without an attempt", Address(ref));
      if (s == State::Backoff && !backoffs.count(Pack(ref)))
        return fmt::format("`{}` is in backoff without a time", Address(ref));
      if (planned_of.count(Pack(ref)) && (s != State::Ready || waiting.count(Pack(ref))))
        return fmt::format("`{}` is planned as the next but is {} or waits as well", Address(ref), StateName(s));
      if (s == State::Ready && !waiting.count(Pack(ref)) && !planned_of.count(Pack(ref)))
        return fmt::format("`{}` is ready but does not wait for admission", Address(ref));
      if (s == State::Waiting && j.active && j.linked && !Stopped(j) && !j.broken && j.whole_pending == 0 &&
          (j.pending.empty() || j.pending[i] == 0) && !looking.count(Pack(ref))) {
        return fmt::format("`{}` was forgotten", Address(ref));
      }
      if ((s == State::Waiting || s == State::Ready || s == State::Backoff) && j.phase == RunPhase::Jobs &&
          Stopped(j) && !planned_of.count(Pack(ref))) {
        return fmt::format("`{}` is {} although the run is stopped", Address(ref), StateName(s));
      }
      in_backoff += s == State::Backoff;
      running += s == State::Running;
      ready += s == State::Ready;
    }
    for (int s = 0; s < kInstanceStates; ++s) {
      if (counts[static_cast<size_t>(s)] != state.count(index, static_cast<State>(s)))
        return fmt::format("states of `{}` are miscounted", j.job->address);
    }
  }
  if (open != remaining) return "instances that are not final are miscounted";
  if (in_backoff != backoffs.size()) return "an instance has a backoff time but is not in backoff";
  if (running != current.size()) return "running instances are miscounted";
  if (phase == RunPhase::Ended) {
    for (uint64_t n : open) {
      if (n > 0) return "the run has ended but not every instance is final";
    }
    if (!live.empty()) return "the run has ended but attempts are alive";
  }
  // Nothing can ever happen again, and the run has not ended.
  if (phase != RunPhase::New && phase != RunPhase::Ended && live.empty() && backoffs.empty() && looking.empty() && !awaiting) {
    for (uint32_t index = 0; index < jobs.size(); ++index) {
      const JobRun& j = jobs[index];
      if (state.all_final(index)) continue;
      return fmt::format("the run is stuck in {}: `{}` is not final: {}, {}, waits for {} whole jobs, {} not settled",
                         PhaseName(phase), j.job->address, state.expanded(index) ? "expanded" : "not expanded",
                         j.linked ? "linked" : "not linked", j.whole_pending, j.unsettled);
    }
    return fmt::format("the run is stuck in {}", PhaseName(phase));
  }
  return "";
}

}  // namespace jobc
