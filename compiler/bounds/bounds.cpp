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
constexpr uint64_t kMostInstances = 200'000;
/// Pools with more slots are bounded without looking for the exact sum of claims.
constexpr int64_t kMostSlots = 1'000'000;

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
  settings(job.resources, job.timeout);
  all.push_back(job.grace);
  backoff(job.retry.backoff);
  for (const ir::RetryRule& rule : job.retry.rules) {
    settings(rule.resources, rule.timeout);
    all.push_back(rule.delay);
    if (rule.backoff) backoff(*rule.backoff);
  }
  for (const auto& [pool, slots] : job.pools) all.push_back(slots);
  return all;
}

bool DiffersByInstance(const ir::Program& program, const ir::Job& job) {
  std::vector<ExprId> todo = Settings(job);
  std::unordered_set<uint32_t> seen;
  while (!todo.empty()) {
    const ExprId id = todo.back();
    todo.pop_back();
    if (!id.valid() || !seen.insert(id.index).second) continue;
    const ir::Expr& e = program.exprs[id];
    if (e.op == Op::Var || e.op == Op::Input) return true;
    if (e.op == Op::Let) todo.push_back(program.lets[e.a].value);
    for (uint32_t i = 0; i < e.args.size; ++i) todo.push_back(program.exprs.arg(e, i));
  }
  return false;
}

/// How many instances have these claims.
using Claims = std::map<std::vector<std::pair<uint32_t, int64_t>>, uint64_t>;

/// The largest sum of claims on `pool` that fits into `slots`, by at most `most` instances.
int64_t MostSlots(const Claims& claims, uint32_t pool, int64_t slots, int64_t most) {
  std::map<int64_t, uint64_t> by_size;
  for (const auto& [claim, count] : claims) {
    for (const auto& [p, n] : claim) {
      if (p == pool && n <= slots) by_size[n] += count;
    }
  }
  if (by_size.empty()) return 0;
  if (by_size.size() == 1) {
    const auto& [size, count] = *by_size.begin();
    const int64_t fit = std::min<int64_t>({most, slots / size, static_cast<int64_t>(std::min<uint64_t>(count, INT64_MAX))});
    return fit * size;
  }
  if (slots > kMostSlots) {
    int64_t sum = 0;
    for (const auto& [size, count] : by_size) sum = Plus(sum, Times(size, static_cast<int64_t>(std::min<uint64_t>(count, INT64_MAX))));
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
    if (out_.time_ms) PlanTime();
    if (out_.time_ms && plan_.limits.time_ms) {
      // Then everything is cancelled, and `finally` and hooks run.
      int64_t grace = 0;
      for (const ir::Job& job : plan_.jobs) {
        if (job.kind == ir::JobKind::Job) grace = std::max(grace, Integer(job.grace).value_or(kDefaultGraceMs));
      }
      const int64_t limited = Plus(Plus(*plan_.limits.time_ms, grace), Plus(out_.finally_ms, out_.hooks_ms));
      if (limited < *out_.time_ms) {
        out_.time_ms = limited;
        out_.by_limit = true;
      }
    }
    return std::move(out_);
  }

 private:
  std::optional<int64_t> Integer(ExprId expr) {
    ir::Value value;
    if (!expr.valid() || !evaluator_.Evaluate(expr, context_, value) || value.is_null()) return std::nullopt;
    return value.as_int();
  }

  void Add(JobBounds& job, uint32_t j, const InstanceBounds& one, uint64_t count, bool first) {
    const int64_t n = static_cast<int64_t>(std::min<uint64_t>(count, INT64_MAX));
    job.attempts = Plus(job.attempts, Times(one.attempts, n));
    if (first) {
      job.time_ms = 0;
      job.work_ms = 0;
    }
    if (!one.time_ms) {
      job.time_ms.reset();
      job.work_ms.reset();
      job.unbounded = one.unbounded;
      job.limit_missing = one.limit_missing;
    } else if (job.time_ms) {
      job.time_ms = std::max(*job.time_ms, *one.time_ms);
      spans_[j].emplace(*one.time_ms, one.work_ms.value_or(0));
      job.work_ms = Plus(job.work_ms.value_or(0), Times(one.work_ms.value_or(0), n));
      for (const auto& [pool, slots] : one.slots) pool_work_[{j, pool}] = Plus(pool_work_[{j, pool}], Times(Times(one.work_ms.value_or(0), n), slots));
    }
    for (const auto& [pool, slots] : one.slots) {
      int64_t& largest = largest_[{j, pool}];
      largest = std::max(largest, slots);
      int64_t& smallest = smallest_.try_emplace({j, pool}, slots).first->second;
      smallest = std::min(smallest, slots);
    }
    claims_[j][one.slots] += count;
  }

  void BoundJob(uint32_t j) {
    const ir::Job& job = plan_.jobs[j];
    JobBounds& b = out_.jobs[j];
    b.time_ms = 0;
    b.work_ms = 0;
    context_.instances = nullptr;
    std::optional<ir::Instances> instances;
    if (job.domain.single()) {
      b.instances = 1;
    } else if (job.domain.dynamic) {
      uint64_t combinations = 1;
      for (const ir::Axis& axis : job.domain.axes) {
        ir::Value values;
        if (!evaluator_.Evaluate(axis.values, context_, values) || values.kind() != ir::ValueKind::List) b.known = false;
        else combinations *= values.as_list().size();
      }
      if (!job.domain.max) b.known = false;
      b.instances = job.domain.max.value_or(0) * combinations;
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
      b.time_ms.reset();
      b.work_ms.reset();
      b.unbounded = "the number of its instances is not known yet";
      return;
    }
    if (b.instances == 0) return;
    if (!instances || !DiffersByInstance(plan_.program, job)) {
      if (instances) context_.instances = &*instances;
      Add(b, j, BoundInstance(job, evaluator_, context_), b.instances, true);
    } else if (b.instances > kMostInstances) {
      b.time_ms.reset();
      b.work_ms.reset();
      b.unbounded = fmt::format("its {} instances differ and are too many to look at one by one", b.instances);
      b.attempts = Times(job.retry.max_attempts, static_cast<int64_t>(b.instances));
    } else {
      context_.instances = &*instances;
      for (uint64_t i = 0; i < b.instances; ++i) {
        context_.ordinal = i;
        Add(b, j, BoundInstance(job, evaluator_, context_), 1, i == 0);
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
    int64_t most = static_cast<int64_t>(std::min<uint64_t>(b.instances, INT64_MAX));
    if (out_.max_parallel_declared) most = std::min(most, out_.max_parallel);
    if (std::optional<int64_t> places = OwnPlaces(job)) most = std::min(most, *places);
    // The smallest claims on each pool say how many fit.
    for (const auto& [pool, expr] : job.pools) {
      std::vector<std::pair<int64_t, uint64_t>> sizes;
      for (const auto& [claim, count] : claims_[j]) {
        for (const auto& [p, n] : claim) {
          if (p == pool) sizes.emplace_back(n, count);
        }
      }
      std::sort(sizes.begin(), sizes.end());
      int64_t left = slots_[pool], fit = 0;
      for (const auto& [size, count] : sizes) {
        const int64_t take = std::min<int64_t>(size > 0 ? left / size : INT64_MAX, static_cast<int64_t>(std::min<uint64_t>(count, INT64_MAX)));
        fit = Plus(fit, take);
        left -= take * size;
        if (take < static_cast<int64_t>(count)) break;
      }
      most = std::min(most, fit);
    }
    b.at_once = most;
    for (const auto& [pool, expr] : job.pools) b.slots.emplace_back(pool, MostSlots(claims_[j], pool, slots_[pool], most));
  }

  void PlanSlots() {
    for (uint32_t pool = 0; pool < plan_.pools.size(); ++pool) {
      Claims all;
      int64_t most = 0;
      for (uint32_t j = 0; j < plan_.jobs.size(); ++j) {
        if (!std::any_of(plan_.jobs[j].pools.begin(), plan_.jobs[j].pools.end(), [&](const auto& p) { return p.first == pool; })) continue;
        most = Plus(most, out_.jobs[j].at_once);
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
      std::vector<int64_t> weight(plan_.jobs.size(), 0), end(plan_.jobs.size(), 0);
      std::vector<uint32_t> from(plan_.jobs.size(), UINT32_MAX);
      // A job's own work on the path is not waited for: its longest instance, or less where that is shorter.
      for (uint32_t j = 0; j < plan_.jobs.size(); ++j) {
        for (const auto& [time, work] : spans_[j]) weight[j] = std::max(weight[j], time - static_cast<int64_t>(std::min(1.0, share[j]) * static_cast<double>(work)));
      }
      std::vector<uint32_t> order = Order();
      uint32_t last = UINT32_MAX;
      for (uint32_t j : order) {
        if (plan_.jobs[j].kind != ir::JobKind::Job && plan_.jobs[j].kind != ir::JobKind::Check) continue;
        int64_t best = 0;
        for (const ir::Dependency& d : plan_.jobs[j].dependencies) {
          if (from[j] == UINT32_MAX || end[d.job] > best) {
            best = std::max(best, end[d.job]);
            from[j] = d.job;
          }
        }
        end[j] = Plus(best, out_.jobs[j].instances > 0 ? weight[j] : 0);
        if (last == UINT32_MAX || end[j] > end[last]) last = j;
      }
      int64_t length = last == UINT32_MAX ? 0 : end[last];
      for (uint32_t j = last; j != UINT32_MAX; j = from[j]) path.insert(path.begin(), j);
      return length;
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
    // `finally` blocks wait for nothing but slots; hooks likewise, in three moments.
    for (uint32_t j = 0; j < plan_.jobs.size(); ++j) {
      const int64_t longest = out_.jobs[j].time_ms.value_or(0);
      if (plan_.jobs[j].kind == ir::JobKind::Finally) out_.finally_ms = Plus(out_.finally_ms, longest);
      if (plan_.jobs[j].kind == ir::JobKind::Hook) out_.hooks_ms = Plus(out_.hooks_ms, longest);
    }
    out_.time_ms = Plus(std::min(time, in_a_row), Plus(out_.finally_ms, out_.hooks_ms));
  }

  /// Jobs after those they wait for.
  std::vector<uint32_t> Order() const {
    std::vector<uint32_t> order;
    std::vector<uint8_t> state(plan_.jobs.size(), 0);
    std::vector<std::pair<uint32_t, size_t>> stack;
    for (uint32_t root = 0; root < plan_.jobs.size(); ++root) {
      if (state[root] != 0) continue;
      stack.emplace_back(root, 0);
      state[root] = 1;
      while (!stack.empty()) {
        auto& [j, next] = stack.back();
        if (next < plan_.jobs[j].dependencies.size()) {
          const uint32_t d = plan_.jobs[j].dependencies[next++].job;
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

  const ir::Plan& plan_;
  ir::Evaluator evaluator_;
  PlanContext context_;
  PlanBounds out_;
  std::vector<int64_t> slots_;
  std::vector<Claims> claims_;
  std::map<std::pair<uint32_t, uint32_t>, int64_t> pool_work_, largest_, smallest_;
  std::vector<std::set<std::pair<int64_t, int64_t>>> spans_;  // of each job: time and work of its instances
};

std::string Duration(const std::optional<int64_t>& ms) {
  if (!ms) return "unbounded";
  if (*ms == INT64_MAX) return "beyond 292 million years";
  if (*ms < 120'000) return ir::DurationText(*ms);
  // Two units are enough for people.
  const int64_t seconds = (*ms + 999) / 1000, days = seconds / 86400, hours = seconds / 3600 % 24, minutes = seconds / 60 % 60;
  if (days > 0) return hours > 0 ? fmt::format("{}d {}h", days, hours) : fmt::format("{}d", days);
  if (hours > 0) return minutes > 0 ? fmt::format("{}h {}m", hours, minutes) : fmt::format("{}h", hours);
  return seconds % 60 > 0 ? fmt::format("{}m {}s", minutes, seconds % 60) : fmt::format("{}m", minutes);
}

std::string Formula(const ir::Plan& plan, const PlanBounds& b) {
  std::string path;
  for (uint32_t j : b.path) path += (path.empty() ? "" : " → ") + plan.jobs[j].address;
  std::string text;
  for (const Contention& c : b.contentions) {
    if (!text.empty()) text += " + ";
    text += c.divisor == 1 ? fmt::format("{} ({})", Duration(c.work_ms), c.name) : fmt::format("{} / {} ({})", Duration(c.work_ms), c.divisor, c.name);
  }
  if (b.path_ms > 0) text += fmt::format("{}{} (path {})", text.empty() ? "" : " + ", Duration(b.path_ms), path);
  if (b.finally_ms > 0) text += fmt::format(" + {} (finally)", Duration(b.finally_ms));
  if (b.hooks_ms > 0) text += fmt::format(" + {} (hooks)", Duration(b.hooks_ms));
  return text;
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
  for (const auto& [name, n] : named) out += fmt::format("{}{}:{}", out.size() > 1 ? "," : "", JsonString(name), n);
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
  b.limit_missing = time.limit_missing;
  b.work_ms = work.time_ms;
  if (b.time_ms && b.work_ms) b.work_ms = std::min(*b.work_ms, *b.time_ms);
  for (const auto& [pool, expr] : job.pools) {
    ir::Value slots;
    if (evaluator.Evaluate(expr, context, slots)) b.slots.emplace_back(pool, slots.as_int());
  }
  return b;
}

PlanBounds Bound(const ir::Plan& plan) { return Bounder(plan).Run(); }

std::string BoundsText(const ir::Plan& plan, const PlanBounds& b) {
  std::vector<std::vector<std::string>> rows{{"job", "instances", "attempts", "time of one", "work of all", "at once", "slots"}};
  for (uint32_t j = 0; j < plan.jobs.size(); ++j) {
    const JobBounds& job = b.jobs[j];
    if (plan.jobs[j].kind == ir::JobKind::Check) continue;
    std::string slots;
    for (const auto& [pool, n] : job.slots) slots += fmt::format("{}{} {}", slots.empty() ? "" : ", ", plan.pools[pool].name, n);
    rows.push_back({plan.jobs[j].address, fmt::format("{}{}", plan.jobs[j].domain.dynamic ? "≤ " : "", job.instances), std::to_string(job.attempts), Duration(job.time_ms),
                    Duration(job.work_ms), std::to_string(job.at_once), slots});
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
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) line += row[i] + std::string(widths[i] - width(row[i]) + 2, ' ');
    out += line.substr(0, line.find_last_not_of(' ') + 1) + "\n";
  }
  out += fmt::format("\nthe run: at most {} attempts of {} instances, {}\n", b.attempts, b.instances, b.time_ms ? "in at most " + Duration(b.time_ms) : std::string("without a bound on its time"));
  if (b.time_ms) out += fmt::format("  {} = {}\n", b.by_limit ? "limits { time }; without it" : "time", Formula(plan, b));
  if (!b.max_parallel_declared) out += "  assuming one attempt at a time: the profile's backend has no `max_parallel`\n";
  else out += fmt::format("  assuming the machine has room for {} attempts at a time\n", b.max_parallel);
  for (uint32_t j = 0; j < plan.jobs.size(); ++j) {
    if (!b.jobs[j].time_ms) out += fmt::format("  {} has no bound: {}\n", plan.jobs[j].address, b.jobs[j].unbounded);
  }
  return out;
}

std::string BoundsJson(const ir::Plan& plan, const PlanBounds& b) {
  std::string out = fmt::format("{{\"attempts\":{},\"by_limit\":{},\"formula\":{},\"instances\":{},\"jobs\":[", b.attempts, b.by_limit,
                                b.time_ms ? JsonString(Formula(plan, b)) : "null", b.instances);
  bool first = true;
  for (uint32_t j = 0; j < plan.jobs.size(); ++j) {
    const JobBounds& job = b.jobs[j];
    if (plan.jobs[j].kind == ir::JobKind::Check) continue;
    out += fmt::format("{}{{\"at_once\":{},\"attempts\":{},\"instances\":{},\"job\":{},\"slots\":{},\"time_ms\":{},\"unbounded\":{},\"work_ms\":{}}}", first ? "" : ",", job.at_once,
                       job.attempts, job.instances, JsonString(plan.jobs[j].address), JsonSlots(plan, job.slots), JsonMs(job.time_ms),
                       job.unbounded.empty() ? "null" : JsonString(job.unbounded), JsonMs(job.work_ms));
    first = false;
  }
  out += fmt::format("],\"max_parallel\":{},\"max_parallel_declared\":{},\"path\":[", b.max_parallel, b.max_parallel_declared);
  for (size_t i = 0; i < b.path.size(); ++i) out += (i > 0 ? "," : "") + JsonString(plan.jobs[b.path[i]].address);
  out += fmt::format("],\"schema\":\"jobc.bounds/1\",\"slots\":{},\"time_ms\":{}}}\n", JsonSlots(plan, b.slots), JsonMs(b.time_ms));
  return out;
}

}  // namespace jobc::bounds
