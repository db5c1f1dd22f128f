#include "compiler/bounds/bounds.h"

#include <algorithm>
#include <map>
#include <set>
#include <unordered_set>

#include <fmt/format.h>

#include "ir/expand.h"

namespace jobc::bounds {
namespace {

using ir::ExprId;
using ir::Op;

/// Of more instances, those that differ are not looked at one by one.
constexpr uint64_t kMostInstances = 20'000;
/// Pools with more slots are bounded without looking for the exact sum of claims.
constexpr int64_t kMostSlots = 1'000'000;
/// So many sets of instances with different claims are compared; beyond, each pool is looked at on its own.
constexpr size_t kMostSets = 20'000;

/// What a plan says about files and instances, without looking at any disk.
class PlanContext : public ir::EvalContext {
 public:
  explicit PlanContext(const ir::Plan& plan) : plan_(plan) {}

  const ir::Instances* instances = nullptr;
  uint64_t ordinal = 0;

  bool Var(uint32_t slot, ir::Value& out, ir::Fault& fault) override {
    if (instances == nullptr) return EvalContext::Var(slot, out, fault);
    out = instances->Var(ordinal, slot);
    return true;
  }
  bool FileSize(const ir::FileValue& file, ir::Value& out, ir::Fault& fault) override {
    const ir::FileRow* row = Row(file, fault);
    if (row != nullptr) out = ir::Value::Bytes(static_cast<int64_t>(row->size));
    return row != nullptr;
  }
  bool FileSha256(const ir::FileValue& file, ir::Value& out, ir::Fault& fault) override {
    const ir::FileRow* row = Row(file, fault);
    if (row != nullptr) out = ir::Value::String(row->sha256);
    return row != nullptr;
  }
  bool FileText(const ir::FileValue& file, std::string& out, ir::Fault&) override {
    out = file.path;
    return true;
  }

 private:
  const ir::FileRow* Row(const ir::FileValue& file, ir::Fault& fault) const {
    for (const ir::FileRow& row : plan_.files) {
      if (row.base == file.base && row.is_dir == file.is_dir && row.path == file.path) return &row;
    }
    fault.kind = ir::FaultKind::Unavailable;
    return nullptr;
  }

  const ir::Plan& plan_;
};

/// What the bounds of an instance are made of.
std::vector<ExprId> Settings(const ir::Job& job) {
  std::vector<ExprId> all;
  const auto settings = [&](const ir::ResourceSpec& resources, const ir::TimeoutSpec& timeout) {
    for (size_t s = 0; s < kSettings; ++s) all.push_back(SettingOf(resources, timeout, static_cast<Setting>(s)));
  };
  const auto backoff = [&](const ir::Backoff& b) {
    all.push_back(b.base);
    all.push_back(b.max);
  };
  // Resources matter where retries may make more of them, until they cannot any more.
  settings(job.retry.rules.empty() ? ir::ResourceSpec{} : job.resources, job.timeout);
  all.push_back(job.grace);
  backoff(job.retry.backoff);
  for (const ir::RetryRule& rule : job.retry.rules) {
    settings(rule.resources, rule.timeout);
    all.push_back(rule.delay);
    if (rule.backoff) backoff(*rule.backoff);
  }
  for (const auto& [pool, slots] : job.pools) all.push_back(slots);
  all.push_back(job.submit.backoff.base);
  all.push_back(job.submit.backoff.max);
  return all;
}

/// Whether a part of what is to be evaluated has the property.
template <typename Property>
bool Uses(const ir::Program& program, std::vector<ExprId> todo, Property property) {
  std::unordered_set<uint32_t> seen;
  while (!todo.empty()) {
    const ExprId id = todo.back();
    todo.pop_back();
    if (!id.valid() || !seen.insert(id.index).second) continue;
    const ir::Expr& e = program.exprs[id];
    if (property(e)) return true;
    if (e.op == Op::Let) todo.push_back(program.lets[e.a].value);
    if (e.op == Op::Apply) todo.push_back(program.fns[e.a].body);
    for (uint32_t i = 0; i < e.args.size; ++i) todo.push_back(program.exprs.arg(e, i));
  }
  return false;
}

bool DiffersByInstance(const ir::Program& program, std::vector<ExprId> todo) {
  return Uses(program, std::move(todo), [](const ir::Expr& e) { return e.op == Op::Var || e.op == Op::Input; });
}

/// Whether a parameter without a value is used.
bool NeedsParams(const ir::Program& program, std::vector<ExprId> todo) {
  return Uses(program, std::move(todo), [&](const ir::Expr& e) { return e.op == Op::Param && !program.params[e.a].value; });
}

/// How many instances have these claims.
using Claims = std::map<std::vector<std::pair<uint32_t, int64_t>>, uint64_t>;

int64_t Count(uint64_t n) { return static_cast<int64_t>(std::min<uint64_t>(n, INT64_MAX)); }

/// The largest sum of claims on `pool` that fits into `slots`, by at most `most` instances; other pools are not looked at.
int64_t MostSlots(const Claims& claims, uint32_t pool, int64_t slots, int64_t most) {
  std::map<int64_t, uint64_t> by_size;
  for (const auto& [claim, count] : claims) {
    for (const auto& [p, n] : claim) {
      if (p == pool && n == kUnknownSlots) return most > 0 ? slots : 0;
      if (p == pool && n <= slots) by_size[n] += count;
    }
  }
  if (by_size.empty()) return 0;
  if (by_size.size() == 1) {
    const auto& [size, count] = *by_size.begin();
    return std::min({most, slots / size, Count(count)}) * size;
  }
  if (slots > kMostSlots) {
    int64_t sum = 0;
    for (const auto& [size, count] : by_size) sum = Plus(sum, Times(size, Count(count)));
    return std::min({slots, sum, Times(by_size.rbegin()->first, most)});
  }
  // fewest[s]: instances that it takes at least to claim s slots together.
  constexpr int64_t kNever = INT64_MAX;
  std::vector<int64_t> fewest(static_cast<size_t>(slots) + 1, kNever);
  fewest[0] = 0;
  for (auto [size, count] : by_size) {
    // Powers of two of one size: any number of them is a sum of these.
    uint64_t left = std::min<uint64_t>(count, static_cast<uint64_t>(slots / size));
    for (uint64_t part = 1; left > 0; part *= 2) {
      const int64_t take = static_cast<int64_t>(std::min(part, left));
      left -= static_cast<uint64_t>(take);
      for (int64_t s = slots; s >= take * size; --s) {
        const int64_t before = fewest[static_cast<size_t>(s - take * size)];
        if (before != kNever) fewest[static_cast<size_t>(s)] = std::min(fewest[static_cast<size_t>(s)], before + take);
      }
    }
  }
  for (int64_t s = slots; s > 0; --s) {
    if (fewest[static_cast<size_t>(s)] <= most) return s;
  }
  return 0;
}

/// Instances of one job at the same time, and the slots they take of each pool, at most.
struct Together {
  int64_t instances = 0;
  std::vector<int64_t> slots;  ///< by index into `pools`
};

/// `pools`: (Plan::pools, its slots), sorted by pool, as the claims are.
Together MostTogether(const Claims& claims, const std::vector<std::pair<uint32_t, int64_t>>& pools, int64_t most) {
  Together out;
  bool unknown = false;
  for (const auto& [claim, count] : claims) {
    for (const auto& [pool, n] : claim) unknown = unknown || n == kUnknownSlots;
  }
  // All sets of instances that fit, by what they take. One kind of claim needs no search.
  std::set<std::vector<int64_t>> sets;  // (instances, slots of pool 0, …)
  bool whole = !unknown;
  if (whole) sets.insert(std::vector<int64_t>(pools.size() + 1, 0));
  for (const auto& [claim, count] : claims) {
    if (!whole) break;
    std::vector<std::vector<int64_t>> found(sets.begin(), sets.end());
    for (const std::vector<int64_t>& from : found) {
      int64_t fit = std::min(Count(count), most - from[0]);
      for (size_t p = 0; p < pools.size(); ++p) {
        if (claim[p].second > 0) fit = std::min(fit, (pools[p].second - from[p + 1]) / claim[p].second);
      }
      // With one kind only the most matters; else any number of each.
      for (int64_t n = claims.size() == 1 ? std::max<int64_t>(fit, 1) : 1; n <= fit && whole; ++n) {
        std::vector<int64_t> to = from;
        to[0] += n;
        for (size_t p = 0; p < pools.size(); ++p) to[p + 1] += n * claim[p].second;
        sets.insert(std::move(to));
        whole = sets.size() <= kMostSets;
      }
    }
  }
  if (whole) {
    out.slots.assign(pools.size(), 0);
    for (const std::vector<int64_t>& set : sets) {
      out.instances = std::max(out.instances, set[0]);
      for (size_t p = 0; p < pools.size(); ++p) out.slots[p] = std::max(out.slots[p], set[p + 1]);
    }
    return out;
  }
  // Pool by pool, which is only an upper bound. The smallest claims say how many fit.
  out.instances = most;
  for (const auto& [pool, total] : pools) {
    std::map<int64_t, uint64_t> sizes;
    for (const auto& [claim, count] : claims) {
      for (const auto& [p, n] : claim) {
        if (p == pool) sizes[n == kUnknownSlots ? 1 : n] += count;
      }
    }
    int64_t left = total, fit = 0;
    for (const auto& [size, count] : sizes) {
      const int64_t take = std::min<int64_t>(size > 0 ? left / size : INT64_MAX, Count(count));
      fit = Plus(fit, take);
      left -= take * size;
      if (take < Count(count)) break;
    }
    out.instances = std::min(out.instances, fit);
  }
  for (const auto& [pool, total] : pools) out.slots.push_back(MostSlots(claims, pool, total, out.instances));
  return out;
}

/// Jobs after those they wait for.
std::vector<uint32_t> Order(const ir::Plan& plan) {
  std::vector<uint32_t> order;
  std::vector<uint8_t> state(plan.jobs.size(), 0);
  std::vector<std::pair<uint32_t, size_t>> stack;
  for (uint32_t root = 0; root < plan.jobs.size(); ++root) {
    if (state[root] != 0) continue;
    stack.emplace_back(root, 0);
    state[root] = 1;
    while (!stack.empty()) {
      auto& [j, next] = stack.back();
      if (next < plan.jobs[j].dependencies.size()) {
        const uint32_t d = plan.jobs[j].dependencies[next++].job;
        if (state[d] == 0) {
          state[d] = 1;
          stack.emplace_back(d, 0);
        }
        continue;
      }
      order.push_back(j);
      stack.pop_back();
    }
  }
  return order;
}

/// The chain of jobs and checks that wait for each other whose weights sum to the most.
int64_t LongestPath(const ir::Plan& plan, const std::vector<int64_t>& weight, std::vector<uint32_t>& path) {
  std::vector<int64_t> end(plan.jobs.size(), 0);
  std::vector<uint32_t> from(plan.jobs.size(), UINT32_MAX);
  uint32_t last = UINT32_MAX;
  for (const uint32_t j : Order(plan)) {
    if (plan.jobs[j].kind != ir::JobKind::Job && plan.jobs[j].kind != ir::JobKind::Check) continue;
    int64_t best = 0;
    for (const ir::Dependency& d : plan.jobs[j].dependencies) {
      if (from[j] == UINT32_MAX || end[d.job] > best) {
        best = std::max(best, end[d.job]);
        from[j] = d.job;
      }
    }
    end[j] = Plus(best, weight[j]);
    if (last == UINT32_MAX || end[j] > end[last]) last = j;
  }
  for (uint32_t j = last; j != UINT32_MAX; j = from[j]) path.push_back(j);
  std::reverse(path.begin(), path.end());
  return last == UINT32_MAX ? 0 : end[last];
}

class Bounder {
 public:
  explicit Bounder(const ir::Plan& plan) : plan_(plan), evaluator_(plan.program), context_(plan) {}

  PlanBounds Run() {
    out_.jobs.resize(plan_.jobs.size());
    claims_.resize(plan_.jobs.size());
    spans_.resize(plan_.jobs.size());
    if (std::optional<int64_t> places = Integer(plan_.max_parallel); places && *places > 0) {
      out_.max_parallel = *places;
      out_.max_parallel_declared = true;
    }
    for (const ir::Pool& pool : plan_.pools) slots_.push_back(Integer(pool.slots).value_or(0));
    for (uint32_t j = 0; j < plan_.jobs.size(); ++j) BoundJob(j);
    out_.time_ms = 0;
    for (uint32_t j = 0; j < plan_.jobs.size(); ++j) {
      const ir::JobKind kind = plan_.jobs[j].kind;
      const JobBounds& b = out_.jobs[j];
      if (kind == ir::JobKind::Job || kind == ir::JobKind::Check) out_.instances += b.instances;
      if (kind == ir::JobKind::Job) out_.attempts = Plus(out_.attempts, b.attempts);
      if (!b.time_ms || !b.known) out_.time_ms.reset();
    }
    PlanSlots();
    const bool ends = PlanEnd();
    if (out_.time_ms) PlanTime();
    if (ends && plan_.limits.time_ms) {
      // Then everything is cancelled, and `finally` and hooks run.
      std::optional<int64_t> grace = 0;
      for (uint32_t j = 0; j < plan_.jobs.size(); ++j) {
        if (plan_.jobs[j].kind == ir::JobKind::Check || plan_.jobs[j].kind == ir::JobKind::Finally) continue;
        const std::optional<int64_t> own = Grace(j);
        grace = grace && own ? std::optional(std::max(*grace, *own)) : std::nullopt;
      }
      const int64_t limited = Plus(Plus(*plan_.limits.time_ms, grace.value_or(INT64_MAX)), Plus(out_.finally_ms, out_.hooks_ms));
      if (grace && limited < out_.time_ms.value_or(INT64_MAX)) {
        out_.time_ms = limited;
        out_.limit_grace_ms = *grace;
        out_.by_limit = true;
      }
    }
    return std::move(out_);
  }

 private:
  /// Of its instances; nullopt: not known.
  std::optional<int64_t> Grace(uint32_t j) {
    const ir::Job& job = plan_.jobs[j];
    if (!job.grace.valid()) return kDefaultGraceMs;
    if (std::optional<int64_t> same = Integer(job.grace)) return same;
    if (job.domain.single() || job.domain.dynamic) return std::nullopt;
    Result<ir::Instances> expanded = ir::Instances::Expand(plan_, j, evaluator_, context_);
    if (!expanded.ok() || expanded->size() > kMostInstances) return std::nullopt;
    context_.instances = &*expanded;
    std::optional<int64_t> longest = 0;
    for (uint64_t i = 0; i < expanded->size() && longest; ++i) {
      context_.ordinal = i;
      const std::optional<int64_t> own = Integer(job.grace);
      longest = own ? std::optional(std::max(*longest, *own)) : std::nullopt;
    }
    context_.instances = nullptr;
    context_.ordinal = 0;
    return longest;
  }

  /// `finally` blocks and hooks wait for nothing but slots, so one after the other is the longest they can take. Only one of
  /// the hooks on success and on failure runs. False: some has no bound.
  bool PlanEnd() {
    int64_t success = 0, failure = 0;
    bool bounded = true;
    for (uint32_t j = 0; j < plan_.jobs.size(); ++j) {
      const ir::Job& job = plan_.jobs[j];
      if (job.kind != ir::JobKind::Finally && job.kind != ir::JobKind::Hook) continue;
      bounded = bounded && out_.jobs[j].time_ms;
      int64_t& sum = job.kind == ir::JobKind::Finally             ? out_.finally_ms
                     : job.hook_event == ir::HookEvent::Success ? success
                     : job.hook_event == ir::HookEvent::Failure ? failure
                                                                  : out_.hooks_ms;
      sum = Plus(sum, out_.jobs[j].time_ms.value_or(0));
    }
    out_.hooks_ms = Plus(out_.hooks_ms, std::max(success, failure));
    return bounded;
  }

  std::optional<int64_t> Integer(ExprId expr) {
    ir::Value value;
    if (!expr.valid() || !evaluator_.Evaluate(expr, context_, value) || value.is_null()) return std::nullopt;
    return value.as_int();
  }

  void Add(JobBounds& job, uint32_t j, const InstanceBounds& one, uint64_t count) {
    const int64_t n = Count(count);
    job.attempts = Plus(job.attempts, Times(one.attempts, n));
    job.attempts_of_one = std::max(job.attempts_of_one, one.attempts);
    if (!one.time_ms) {
      job.time_ms.reset();
      job.work_ms.reset();
      job.unbounded = one.unbounded;
      job.missing = one.missing;
    } else if (job.time_ms) {
      job.time_ms = std::max(*job.time_ms, *one.time_ms);
      spans_[j].emplace(*one.time_ms, one.work_ms.value_or(0));
      job.work_ms = Plus(job.work_ms.value_or(0), Times(one.work_ms.value_or(0), n));
      for (const auto& [pool, slots] : one.slots) {
        const int64_t taken = slots == kUnknownSlots ? slots_[pool] : slots;
        pool_work_[{j, pool}] = Plus(pool_work_[{j, pool}], Times(Times(one.work_ms.value_or(0), n), taken));
      }
    }
    for (const auto& [pool, slots] : one.slots) {
      int64_t& largest = largest_[{j, pool}];
      largest = std::max(largest, slots == kUnknownSlots ? slots_[pool] : slots);
      const int64_t least = slots == kUnknownSlots ? 1 : slots;
      int64_t& smallest = smallest_.try_emplace({j, pool}, least).first->second;
      smallest = std::min(smallest, least);
    }
    claims_[j][one.slots] += count;
  }

  void Unknown(JobBounds& b, std::string why) {
    b.time_ms.reset();
    b.work_ms.reset();
    b.unbounded = std::move(why);
  }

  /// Of a scatter whose list only the run knows: combinations of the axes that `exclude` leaves; nullopt: not known yet.
  std::optional<uint64_t> Combinations(const ir::Domain& domain) {
    std::vector<ir::ListValue> axes;
    uint64_t all = 1;
    for (const ir::Axis& axis : domain.axes) {
      ir::Value values;
      if (!evaluator_.Evaluate(axis.values, context_, values) || values.kind() != ir::ValueKind::List) return std::nullopt;
      axes.push_back(values.as_list());
      if (axes.back().empty()) return 0;
      if (all > kMostInstances) return std::nullopt;
      all *= axes.back().size();
    }
    std::vector<std::vector<std::pair<uint32_t, ir::Value>>> excluded;
    for (const auto& row : domain.excluded) {
      auto& values = excluded.emplace_back();
      for (const auto& [axis, expr] : row) {
        ir::Value value;
        if (!evaluator_.Evaluate(expr, context_, value)) return std::nullopt;
        values.emplace_back(axis, std::move(value));
      }
    }
    if (excluded.empty()) return all;
    if (all > kMostInstances) return std::nullopt;
    uint64_t left = 0;
    for (uint64_t i = 0; i < all; ++i) {
      std::vector<size_t> at(axes.size());
      uint64_t rest = i;
      for (size_t a = axes.size(); a-- > 0;) {
        at[a] = rest % axes[a].size();
        rest /= axes[a].size();
      }
      const bool out = std::any_of(excluded.begin(), excluded.end(), [&](const auto& row) {
        return std::all_of(row.begin(), row.end(), [&](const auto& entry) { return ir::Value::Compare(axes[entry.first][at[entry.first]], entry.second) == 0; });
      });
      left += out ? 0 : 1;
    }
    return left;
  }

  /// Whether the guard is false already now. What only the run knows may be true.
  bool NeverRuns(const ir::Job& job) {
    ir::Value value;
    return job.when.valid() && evaluator_.Evaluate(job.when, context_, value) && value.kind() == ir::ValueKind::Bool && !value.as_bool();
  }

  void BoundJob(uint32_t j) {
    const ir::Job& job = plan_.jobs[j];
    JobBounds& b = out_.jobs[j];
    b.time_ms = 0;
    b.work_ms = 0;
    context_.instances = nullptr;
    std::vector<ExprId> decide = Settings(job);
    decide.push_back(job.when);
    b.certain = !NeedsParams(plan_.program, std::move(decide));
    std::optional<ir::Instances> instances;
    if (job.domain.single()) {
      b.instances = 1;
    } else if (job.domain.dynamic) {
      std::optional<uint64_t> combinations = Combinations(job.domain);
      b.known = combinations && job.domain.max;
      if (b.known && __builtin_mul_overflow(*job.domain.max, *combinations, &b.instances)) b.instances = UINT64_MAX;
    } else if (job.domain.count && !DiffersByInstance(plan_.program, Settings(job)) && !(job.when.valid() && DiffersByInstance(plan_.program, {job.when}))) {
      b.instances = *job.domain.count;
    } else {
      Result<ir::Instances> expanded = ir::Instances::Expand(plan_, j, evaluator_, context_);
      if (expanded.ok()) {
        b.instances = expanded->size();
        instances = std::move(*expanded);
      } else {
        b.known = false;
      }
    }
    if (!b.known) {
      b.instances = 0;
      return Unknown(b, "the number of its instances is not known yet");
    }
    if (b.instances == 0) return;
    const bool settings_differ = instances && DiffersByInstance(plan_.program, Settings(job));
    const bool guards_differ = instances && job.when.valid() && DiffersByInstance(plan_.program, {job.when});
    if (!settings_differ && !guards_differ) {
      if (instances) context_.instances = &*instances;
      if (!NeverRuns(job)) Add(b, j, BoundInstance(job, evaluator_, context_), b.instances);
    } else if (b.instances > kMostInstances) {
      Unknown(b, fmt::format("its {} instances differ and are too many to look at one by one", b.instances));
      b.attempts_of_one = job.retry.max_attempts;
      b.attempts = Times(job.retry.max_attempts, Count(b.instances));
      InstanceBounds any;
      for (const auto& [pool, slots] : job.pools) any.slots.emplace_back(pool, kUnknownSlots);
      claims_[j][any.slots] += b.instances;
    } else {
      context_.instances = &*instances;
      std::optional<InstanceBounds> all;
      for (uint64_t i = 0; i < b.instances; ++i) {
        context_.ordinal = i;
        if (NeverRuns(job)) continue;
        if (settings_differ || !all) all = BoundInstance(job, evaluator_, context_);
        Add(b, j, *all, 1);
      }
    }
    context_.instances = nullptr;
    context_.ordinal = 0;
    AtOnce(j);
  }

  std::optional<int64_t> OwnPlaces(const ir::Job& job) {
    for (const ir::NamedExpr& option : job.backend.options) {
      if (option.name == "max_parallel") return Integer(option.value);
    }
    return std::nullopt;
  }

  void AtOnce(uint32_t j) {
    const ir::Job& job = plan_.jobs[j];
    JobBounds& b = out_.jobs[j];
    if (job.kind == ir::JobKind::Check) return;
    uint64_t running = 0;
    for (const auto& [claim, count] : claims_[j]) running += count;
    int64_t most = Count(running);
    if (out_.max_parallel_declared) most = std::min(most, out_.max_parallel);
    if (std::optional<int64_t> places = OwnPlaces(job)) most = std::min(most, *places);
    std::vector<std::pair<uint32_t, int64_t>> pools;
    for (const auto& [pool, expr] : job.pools) pools.emplace_back(pool, slots_[pool]);
    Together together = MostTogether(claims_[j], pools, most);
    b.at_once = together.instances;
    for (size_t p = 0; p < pools.size(); ++p) b.slots.emplace_back(pools[p].first, together.slots[p]);
  }

  void PlanSlots() {
    for (uint32_t pool = 0; pool < plan_.pools.size(); ++pool) {
      Claims all;
      int64_t most = 0;
      for (uint32_t j = 0; j < plan_.jobs.size(); ++j) {
        if (!std::any_of(plan_.jobs[j].pools.begin(), plan_.jobs[j].pools.end(), [&](const auto& p) { return p.first == pool; })) continue;
        most = Plus(most, out_.jobs[j].known ? out_.jobs[j].at_once : INT64_MAX);
        if (!out_.jobs[j].known) all[{{pool, kUnknownSlots}}] += 1;
        for (const auto& [claim, count] : claims_[j]) all[claim] += count;
      }
      if (out_.max_parallel_declared) most = std::min(most, out_.max_parallel);
      out_.slots.emplace_back(pool, MostSlots(all, pool, slots_[pool], most));
    }
  }

  /// Whatever the order of events: while the attempt that the end of the run waits for cannot start, some limit has too few
  /// free slots for it, so at least (slots - largest claim + 1) of it are taken by work that is not on that path.
  void PlanTime() {
    struct Use {
      int64_t largest = 0, smallest = 0, work_ms = 0;
    };
    std::vector<Contention> limits;
    std::map<std::string, std::vector<std::pair<uint32_t, int64_t>>> shares;  // limit -> (job, smallest claim)
    const auto limit = [&](const std::string& name, int64_t total, auto claim_of) {
      Contention c;
      c.name = name;
      int64_t largest = 0;
      for (uint32_t j = 0; j < plan_.jobs.size(); ++j) {
        if (plan_.jobs[j].kind != ir::JobKind::Job) continue;
        const Use use = claim_of(j);
        if (use.largest == 0) continue;
        largest = std::max(largest, use.largest);
        c.work_ms = Plus(c.work_ms, use.work_ms);
        shares[name].emplace_back(j, use.smallest);
      }
      c.divisor = std::max<int64_t>(1, total - largest + 1);
      if (largest > 0) limits.push_back(std::move(c));
    };
    const auto work = [&](uint32_t j) { return out_.jobs[j].work_ms.value_or(0); };
    limit("max_parallel", out_.max_parallel, [&](uint32_t j) { return Use{1, 1, work(j)}; });
    std::map<std::pair<ir::BackendKind, int64_t>, std::vector<uint32_t>> places;
    for (uint32_t j = 0; j < plan_.jobs.size(); ++j) {
      if (std::optional<int64_t> own = OwnPlaces(plan_.jobs[j]); own && !(out_.max_parallel_declared && *own == out_.max_parallel)) places[{plan_.jobs[j].backend.kind, *own}].push_back(j);
    }
    for (const auto& [key, members] : places) {
      limit(fmt::format("max_parallel = {} of {}", key.second, ir::BackendName(key.first)), key.second, [&, &members = members](uint32_t j) {
        const bool in = std::find(members.begin(), members.end(), j) != members.end();
        return in ? Use{1, 1, work(j)} : Use{};
      });
    }
    for (uint32_t pool = 0; pool < plan_.pools.size(); ++pool) {
      limit(fmt::format("pool `{}`", plan_.pools[pool].name), slots_[pool], [&](uint32_t j) {
        auto claim = largest_.find({j, pool});
        if (claim == largest_.end()) return Use{};
        return Use{claim->second, smallest_[{j, pool}], pool_work_[{j, pool}]};
      });
    }
    // All in a row: some other attempt is running whenever the path waits.
    int64_t row = 0;
    for (uint32_t j = 0; j < plan_.jobs.size(); ++j) {
      if (plan_.jobs[j].kind == ir::JobKind::Job) row = Plus(row, work(j));
    }
    const auto path_of = [&](bool in_a_row, std::vector<uint32_t>& path) {
      std::vector<double> share(plan_.jobs.size(), 0);
      if (in_a_row) {
        share.assign(plan_.jobs.size(), 1.0);
      } else {
        for (const Contention& c : limits) {
          for (const auto& [j, claim] : shares[c.name]) share[j] += static_cast<double>(claim) / static_cast<double>(c.divisor);
        }
      }
      std::vector<int64_t> weight(plan_.jobs.size(), 0);
      // A job's own work on the path is not waited for: its longest instance, or less where that is shorter.
      for (uint32_t j = 0; j < plan_.jobs.size(); ++j) {
        for (const auto& [time, work] : spans_[j]) weight[j] = std::max(weight[j], time - (share[j] >= 1 ? work : static_cast<int64_t>(share[j] * (1 - 1e-12) * static_cast<double>(work))));
      }
            for (uint32_t j = 0; j < plan_.jobs.size(); ++j) {
        if (out_.jobs[j].instances == 0) weight[j] = 0;
      }
      return LongestPath(plan_, weight, path);
    };
    std::vector<uint32_t> path, row_path;
    const int64_t length = path_of(false, path), row_length = path_of(true, row_path);
    int64_t time = length;
    for (const Contention& c : limits) time = Plus(time, (c.work_ms + c.divisor - 1) / c.divisor);
    const int64_t in_a_row = Plus(row, row_length);
    out_.one_after_the_other = in_a_row <= time;
    out_.path = out_.one_after_the_other ? row_path : path;
    out_.path_ms = out_.one_after_the_other ? row_length : length;
    out_.contentions = std::move(limits);
    if (out_.one_after_the_other) out_.contentions = {{"one after the other", row, 1}};
    out_.jobs_ms = std::min(time, in_a_row);
    out_.time_ms = Plus(*out_.jobs_ms, Plus(out_.finally_ms, out_.hooks_ms));
  }

  const ir::Plan& plan_;
  ir::Evaluator evaluator_;
  PlanContext context_;
  PlanBounds out_;
  std::vector<int64_t> slots_;
  std::vector<Claims> claims_;
  std::map<std::pair<uint32_t, uint32_t>, int64_t> pool_work_, largest_, smallest_;
  std::vector<std::set<std::pair<int64_t, int64_t>>> spans_;  // of each job: time and work of its instances
};

std::string EndFormula(const PlanBounds& b) {
  std::string text;
  if (b.finally_ms > 0) text += fmt::format(" + {} (finally)", TimeText(b.finally_ms));
  if (b.hooks_ms > 0) text += fmt::format(" + {} (hooks)", TimeText(b.hooks_ms));
  return text;
}

std::string Formula(const ir::Plan& plan, const PlanBounds& b) {
  std::string path;
  for (uint32_t j : b.path) path += (path.empty() ? "" : " → ") + plan.jobs[j].address;
  std::string text;
  for (const Contention& c : b.contentions) {
    if (c.work_ms == 0) continue;
    if (!text.empty()) text += " + ";
    text += c.divisor == 1 ? fmt::format("{} ({})", TimeText(c.work_ms), c.name) : fmt::format("{} / {} ({})", TimeText(c.work_ms), c.divisor, c.name);
  }
  if (b.path_ms > 0) text += fmt::format("{}{} (path {})", text.empty() ? "" : " + ", TimeText(b.path_ms), path);
  if (text.empty()) text = "0s";
  return text + EndFormula(b);
}

std::string SlotsText(const ir::Plan& plan, const std::vector<std::pair<uint32_t, int64_t>>& slots) {
  std::string out;
  for (const auto& [pool, n] : slots) out += fmt::format("{}{} {}", out.empty() ? "" : ", ", plan.pools[pool].name, n == kUnknownSlots ? "?" : std::to_string(n));
  return out;
}

std::string JsonString(std::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\';
    if (static_cast<unsigned char>(c) < 0x20) out += fmt::format("\\u{:04x}", static_cast<unsigned>(c));
    else out += c;
  }
  return out + "\"";
}

std::string JsonMs(const std::optional<int64_t>& ms) { return ms ? std::to_string(*ms) : "null"; }

std::string JsonSlots(const ir::Plan& plan, const std::vector<std::pair<uint32_t, int64_t>>& slots) {
  std::vector<std::pair<std::string, int64_t>> named;
  for (const auto& [pool, n] : slots) named.emplace_back(plan.pools[pool].name, n);
  std::sort(named.begin(), named.end());
  std::string out = "{";
  for (const auto& [name, n] : named) out += fmt::format("{}{}:{}", out.size() > 1 ? "," : "", JsonString(name), n == kUnknownSlots ? "null" : std::to_string(n));
  return out + "}";
}

}  // namespace

InstanceBounds BoundInstance(const ir::Job& job, ir::Evaluator& evaluator, ir::EvalContext& context) {
  InstanceBounds b;
  const Chain time = WorstChain(job, {}, evaluator, context);
  Costs work_only;
  work_only.delays = false;
  const Chain work = WorstChain(job, work_only, evaluator, context);
  b.attempts = time.attempts;
  b.time_ms = time.time_ms;
  b.unbounded = time.unbounded;
  b.missing = time.missing;
  b.work_ms = work.time_ms;
  if (b.time_ms && b.work_ms) b.work_ms = std::min(*b.work_ms, *b.time_ms);
  for (const auto& [pool, expr] : job.pools) {
    ir::Value slots;
    b.slots.emplace_back(pool, evaluator.Evaluate(expr, context, slots) ? slots.as_int() : kUnknownSlots);
  }
  return b;
}

PlanBounds Bound(const ir::Plan& plan) { return Bounder(plan).Run(); }

void Record(const PlanBounds& b, ir::Plan& plan) {
  for (size_t j = 0; j < plan.jobs.size(); ++j) {
    const JobBounds& job = b.jobs[j];
    plan.jobs[j].bounds.reset();
    if (plan.jobs[j].kind == ir::JobKind::Check || !job.known) continue;
    plan.jobs[j].bounds = ir::WorstCase{static_cast<uint64_t>(Count(job.instances)), job.attempts, job.attempts_of_one, job.time_ms, job.slots};
  }
  plan.bounds = ir::WorstCase{static_cast<uint64_t>(Count(b.instances)), b.attempts, 0, b.time_ms, b.slots};
}

std::string TimeText(const std::optional<int64_t>& ms) {
  if (!ms) return "unbounded";
  if (*ms == INT64_MAX) return "beyond 292 million years";
  // Rounded up: no bound is shown as less than it is.
  if (*ms < 60'000 && (*ms < 1000 || *ms % 1000 == 0)) return ir::DurationText(*ms);
  if (*ms < 10'000) return fmt::format("{:.1f}s", static_cast<double>((*ms + 99) / 100) / 10);
  if (*ms <= 59'000) return fmt::format("{}s", (*ms + 999) / 1000);
  const auto two = [](int64_t of_small, int64_t ratio, char large, char small) {
    return of_small % ratio > 0 ? fmt::format("{}{} {}{}", of_small / ratio, large, of_small % ratio, small) : fmt::format("{}{}", of_small / ratio, large);
  };
  const int64_t seconds = *ms / 1000 + (*ms % 1000 > 0), minutes = (seconds + 59) / 60, hours = (seconds + 3599) / 3600;
  if (seconds >= 86400) return two(hours, 24, 'd', 'h');
  if (seconds >= 3600) return two(minutes, 60, 'h', 'm');
  return two(seconds, 60, 'm', 's');
}

std::vector<uint32_t> CriticalPath(const ir::Plan& plan, const PlanBounds& b) {
  constexpr int64_t kUnbounded = int64_t{1} << 50;
  std::vector<int64_t> weight;
  for (const JobBounds& job : b.jobs) weight.push_back(std::min(job.time_ms.value_or(kUnbounded), kUnbounded));
  std::vector<uint32_t> path;
  LongestPath(plan, weight, path);
  return path;
}

std::string BoundsText(const ir::Plan& plan, const PlanBounds& b) {
  std::vector<std::vector<std::string>> rows{{"JOB", "INSTANCES", "ATTEMPTS", "OF ALL", "TIME OF ONE", "WORK OF ALL", "AT ONCE", "SLOTS"}};
  for (uint32_t j = 0; j < plan.jobs.size(); ++j) {
    const JobBounds& job = b.jobs[j];
    if (plan.jobs[j].kind == ir::JobKind::Check) continue;
    rows.push_back({plan.jobs[j].address, job.known ? fmt::format("{}{}", plan.jobs[j].domain.dynamic ? "≤ " : "", job.instances) : "?", std::to_string(job.attempts_of_one),
                    job.known ? std::to_string(job.attempts) : "?", TimeText(job.time_ms), TimeText(job.work_ms), job.known ? std::to_string(job.at_once) : "?",
                    SlotsText(plan, job.slots)});
  }
  const auto width = [](const std::string& text) {
    size_t n = 0;
    for (const char c : text) n += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    return n;
  };
  std::vector<size_t> widths(rows[0].size(), 0);
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width(row[i]));
  }
  std::string out;
  for (const auto& row : rows) {
    std::string line = "  ";
    for (size_t i = 0; i < row.size(); ++i) line += row[i] + std::string(widths[i] - width(row[i]) + 2, ' ');
    out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  const auto plural = [](int64_t n, std::string_view word) { return fmt::format("{} {}{}", n, word, n == 1 ? "" : "s"); };
  out += fmt::format("\nthe run: at most {} of {}, {}\n", plural(b.attempts, "attempt"), plural(Count(b.instances), "instance"),
                     b.time_ms ? "in at most " + TimeText(b.time_ms) : std::string("without a bound on its time"));
  if (b.by_limit) {
    out += fmt::format("  time = {} (limits)", TimeText(plan.limits.time_ms));
    if (b.limit_grace_ms > 0) out += fmt::format(" + {} (grace)", TimeText(b.limit_grace_ms));
    out += EndFormula(b) + "\n";
    if (b.jobs_ms) out += fmt::format("  without the limit: {} = {}\n", TimeText(Plus(*b.jobs_ms, Plus(b.finally_ms, b.hooks_ms))), Formula(plan, b));
  } else if (b.time_ms) {
    out += fmt::format("  time = {}\n", Formula(plan, b));
  }
  if (b.jobs_ms && !b.max_parallel_declared) out += "  assuming one attempt at a time: no profile says `max_parallel`\n";
  else if (b.jobs_ms) out += fmt::format("  assuming the machine has room for {} at a time\n", plural(b.max_parallel, "attempt"));
  for (uint32_t j = 0; j < plan.jobs.size(); ++j) {
    if (b.jobs[j].time_ms) continue;
    out += fmt::format("  `{}` has no bound: {}\n", plan.jobs[j].address, b.jobs[j].unbounded);
    const std::string& missing = b.jobs[j].missing;
    if (missing.empty()) continue;
    const ir::Position& at = plan.jobs[j].at;
    const std::string where = at.source < plan.sources.size() ? fmt::format(" at {}:{}", plan.sources[at.source].name, at.line) : "";
    out += fmt::format("    write in `{}`{}, for example:  {}\n", plan.jobs[j].address, where, missing);
  }
  return out;
}

std::string InstanceBoundsText(const ir::Plan& plan, bool json) {
  ir::Evaluator evaluator(plan.program);
  PlanContext context(plan);
  std::string out;
  for (uint32_t j = 0; j < plan.jobs.size(); ++j) {
    const ir::Job& job = plan.jobs[j];
    if (job.kind == ir::JobKind::Check) continue;
    context.instances = nullptr;
    std::optional<ir::Instances> instances;
    if (!job.domain.dynamic) {
      Result<ir::Instances> expanded = ir::Instances::Expand(plan, j, evaluator, context);
      if (!expanded.ok()) continue;
      instances = std::move(*expanded);
    }
    const uint64_t count = instances ? instances->size() : 1;
    for (uint64_t i = 0; i < count; ++i) {
      context.instances = instances ? &*instances : nullptr;
      context.ordinal = i;
      const std::string address = instances ? instances->Address(i) : job.address + "[…]";
      ir::Value guard;
      const bool never = job.when.valid() && evaluator.Evaluate(job.when, context, guard) && guard.kind() == ir::ValueKind::Bool && !guard.as_bool();
      InstanceBounds one;
      if (never) one.time_ms = one.work_ms = 0;
      else one = BoundInstance(job, evaluator, context);
      if (json) {
        out += fmt::format("{{\"address\":{},\"attempts\":{},\"slots\":{},\"time_ms\":{},\"unbounded\":{},\"work_ms\":{}}}\n", JsonString(address), one.attempts,
                           JsonSlots(plan, one.slots), JsonMs(one.time_ms), one.unbounded.empty() ? "null" : JsonString(one.unbounded), JsonMs(one.work_ms));
        continue;
      }
      if (never) {
        out += fmt::format("{}  is skipped: its `when` is false\n", address);
        continue;
      }
      out += fmt::format("{}  {} attempt{}, {}", address, one.attempts, one.attempts == 1 ? "" : "s", TimeText(one.time_ms));
      if (!one.slots.empty()) out += ", " + SlotsText(plan, one.slots);
      out += "\n";
    }
  }
  return out;
}

std::string BoundsJson(const ir::Plan& plan, const PlanBounds& b) {
  std::string out = fmt::format("{{\"attempts\":{},\"by_limit\":{},\"finally_ms\":{},\"formula\":{},\"hooks_ms\":{},\"instances\":{},\"jobs\":[", b.attempts, b.by_limit, b.finally_ms,
                                b.jobs_ms ? JsonString(Formula(plan, b)) : "null", b.hooks_ms, b.instances);
  bool first = true;
  for (uint32_t j = 0; j < plan.jobs.size(); ++j) {
    const JobBounds& job = b.jobs[j];
    if (plan.jobs[j].kind == ir::JobKind::Check) continue;
    const std::string& missing = b.jobs[j].missing;
    out += fmt::format("{}{{\"at_once\":{},\"attempts\":{},\"attempts_of_one\":{},\"instances\":{},\"job\":{},\"missing\":{},\"slots\":{},\"time_ms\":{},\"unbounded\":{},\"work_ms\":{}}}",
                       first ? "" : ",", job.at_once, job.attempts, job.attempts_of_one, job.known ? std::to_string(job.instances) : "null", JsonString(plan.jobs[j].address),
                       missing.empty() ? "null" : JsonString(missing), JsonSlots(plan, job.slots), JsonMs(job.time_ms), job.unbounded.empty() ? "null" : JsonString(job.unbounded),
                       JsonMs(job.work_ms));
    first = false;
  }
  out += fmt::format("],\"jobs_ms\":{},\"max_parallel\":{},\"max_parallel_declared\":{},\"path\":[", JsonMs(b.jobs_ms), b.max_parallel, b.max_parallel_declared);
  for (size_t i = 0; i < b.path.size(); ++i) out += (i > 0 ? "," : "") + JsonString(plan.jobs[b.path[i]].address);
  out += fmt::format("],\"schema\":\"jobc.bounds/1\",\"slots\":{},\"time_ms\":{},\"waits\":[", JsonSlots(plan, b.slots), JsonMs(b.time_ms));
  for (size_t i = 0; i < b.contentions.size(); ++i) {
    const Contention& c = b.contentions[i];
    out += fmt::format("{}{{\"divisor\":{},\"limit\":{},\"work_ms\":{}}}", i > 0 ? "," : "", c.divisor, JsonString(c.name), c.work_ms);
  }
  return out + "]}\n";
}

}  // namespace jobc::bounds
