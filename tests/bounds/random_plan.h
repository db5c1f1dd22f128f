// Random plans for the tests of the worst-case bounds: all that can make a run longer, each with some probability.
#pragma once

#include <random>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "ir/plan.h"
#include "tests/support/plan_builder.h"

namespace jobc::testing {

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}
  int64_t Below(int64_t n) { return n <= 0 ? 0 : static_cast<int64_t>(engine_() % static_cast<uint64_t>(n)); }
  /// Both included.
  int64_t Between(int64_t low, int64_t high) { return low + Below(high - low + 1); }
  bool OneIn(int64_t n) { return Below(n) == 0; }
  template <typename T>
  const T& Pick(const std::vector<T>& from) {
    return from[static_cast<size_t>(Below(static_cast<int64_t>(from.size())))];
  }

 private:
  std::mt19937_64 engine_;
};

/// `reachable`: without what makes two instances exclude each other, so that a schedule can bring each of them to its worst.
class RandomPlan {
 public:
  PlanBuilder b;
  bool max_parallel_declared = false;

  RandomPlan(Random& random, bool reachable) : r_(random), reachable_(reachable) {
    list_ = b.types().List(b.Type(ir::TypeKind::Int));
    for (int64_t i = r_.Below(3); i > 0; --i) pools_.push_back(b.Pool(fmt::format("pool{}", i), r_.Between(1, 5)));
    if (r_.OneIn(2)) {
      b.plan.max_parallel = b.Int(r_.Between(1, 4));
      max_parallel_declared = true;
    }
    const int64_t count = r_.Between(1, 6);
    for (int64_t i = 0; i < count; ++i) Job(static_cast<uint32_t>(i));
    if (r_.OneIn(4)) Settings(b.Job("clean", ir::JobKind::Finally));
    if (r_.OneIn(8)) Settings(b.Job("tell", ir::JobKind::Finally));
    if (r_.OneIn(6)) Settings(b.Hook("start", ir::HookEvent::Start));
    if (!reachable_ && r_.OneIn(6)) Settings(b.Hook("bad", ir::HookEvent::Failure));
    if (r_.OneIn(6)) Settings(b.Hook("good", ir::HookEvent::Success));
    if (r_.OneIn(6)) Settings(b.Hook("over", ir::HookEvent::Finish));
    if (!reachable_ && r_.OneIn(6)) b.plan.limits.time_ms = r_.Between(1, 4000);
  }

 private:
  using ErrorKind = ir::ErrorKind;
  using Kind = ir::TypeKind;

  void Job(uint32_t i) {
    const std::string name = fmt::format("j{}", i);
    uint32_t job;
    int source = -1;
    for (uint32_t p = 0; p < i; ++p) {
      if (b[p].kind == ir::JobKind::Job && b[p].domain.single() && !b[p].nullable && r_.OneIn(3)) source = static_cast<int>(p);
    }
    if (source >= 0 && r_.OneIn(3)) {
      job = b.Scatter(name, b.Output(static_cast<uint32_t>(source), 0, list_), true);
      b[job].domain.max = 3;
      b.Needs(job, static_cast<uint32_t>(source));
    } else if (r_.OneIn(10)) {
      job = b.Check(name, b.Bool(reachable_ || !r_.OneIn(4)), "no");
    } else if (r_.OneIn(2)) {
      job = b.Scatter(name, r_.Between(0, 4));
    } else {
      job = b.Job(name);
    }
    if (!b[job].domain.single() && r_.OneIn(3)) {
      b[job].domain.axes.push_back({"m", b.Ints({0, 1}), b.Type(Kind::Int)});
      if (r_.OneIn(3)) b[job].domain.excluded.push_back({{0, b.Int(1)}});
    }
    if (b[job].kind == ir::JobKind::Job) b.AddOutput(job, "xs", list_);
    for (uint32_t p = 0; p < i; ++p) {
      if (r_.OneIn(3)) Dependency(job, p);
    }
    if (b[job].kind == ir::JobKind::Job && r_.OneIn(6) && !(reachable_ && b[job].domain.dynamic)) {
      b.When(job, b[job].domain.single() ? b.Bool(!r_.OneIn(3)) : b.Binary(ir::Op::Gt, Kind::Bool, b.Var(), b.Int(0)));
    }
    if (!reachable_ && r_.OneIn(2)) {
      const auto s = static_cast<ir::Strategy>(r_.Below(4));
      if (b[job].kind == ir::JobKind::Job || s != ir::Strategy::Ignore) b.OnError(job, s);
    }
    if (b[job].kind == ir::JobKind::Job) Settings(job);
  }

  void Dependency(uint32_t job, uint32_t p) {
    if (reachable_) return b.Needs(job, p, b[p].domain.single() ? ir::Mapping::Single : ir::Mapping::All, false);
    const bool strong = !b[p].nullable && !r_.OneIn(4);
    if (r_.OneIn(3)) return b.After(job, p, static_cast<ir::AfterKind>(r_.Below(3)));
    if (b[p].domain.single()) return b.Needs(job, p, ir::Mapping::Single, strong);
    if (b[job].domain.single() || r_.OneIn(2)) return b.Needs(job, p, ir::Mapping::All, strong);
    b.Needs(job, p, ir::Mapping::Same, strong);
  }

  /// A constant, or different for each instance.
  ir::ExprId Duration(uint32_t job, int64_t low, int64_t high) {
    const ir::ExprId constant = b.Ms(r_.Between(low, high));
    if (b[job].domain.single() || b[job].domain.dynamic || !r_.OneIn(4)) return constant;
    return b.Binary(ir::Op::Mul, Kind::Duration, constant, b.Binary(ir::Op::Add, Kind::Int, b.Var(), b.Int(1)));
  }

  void Settings(uint32_t job) {
    ir::Job& j = b[job];
    const bool hook = j.kind == ir::JobKind::Hook;
    if (!hook) {
      for (uint32_t pool : pools_) {
        if (!r_.OneIn(2)) continue;
        const int64_t slots = b.exprs().ConstValue(b.plan.pools[pool].slots).as_int();
        // (i % slots) + 1 differs by instance and always fits.
        const ir::ExprId differs = b.Binary(ir::Op::Add, Kind::Int, b.Binary(ir::Op::Mod, Kind::Int, b.Var(), b.Int(slots)), b.Int(1));
        j.pools.emplace_back(pool, !j.domain.single() && r_.OneIn(3) ? differs : b.Int(r_.Between(1, slots)));
      }
      if (r_.OneIn(4)) j.backend.kind = r_.Pick<ir::BackendKind>({ir::BackendKind::Docker, ir::BackendKind::Ssh, ir::BackendKind::Slurm});
      if (r_.OneIn(6)) j.backend.options.push_back({"max_parallel", b.Int(r_.Between(1, 3))});
      if (r_.OneIn(3)) j.priority = b.Int(r_.Between(-2, 2));
      if (r_.OneIn(6)) j.submit.max_attempts = r_.Between(1, 3);
      if (r_.OneIn(6)) j.submit.backoff = {ir::Backoff::Kind::Constant, b.Ms(r_.Between(1, 90)), {}, 2.0, false};
    }
    const bool has_total = r_.OneIn(4), has_run = !has_total || !r_.OneIn(4);
    if (has_run) j.timeout.run = Duration(job, 50, 2000);
    if (has_total) j.timeout.total = Duration(job, 50, 5000);
    if (r_.OneIn(5) || j.backend.kind == ir::BackendKind::Slurm) j.timeout.queue = Duration(job, 20, 800);
    if (r_.OneIn(4)) j.timeout.idle = Duration(job, 10, 1500);
    if (r_.OneIn(2)) j.grace = Duration(job, 1, 300);
    if (r_.OneIn(4)) {
      ir::ErrorArm arm;
      arm.fact.low = arm.fact.high = 3;
      const int64_t which = r_.Below(3);
      arm.kind = which == 0 ? ErrorKind::InvalidInput : which == 1 ? ErrorKind::Timeout : ErrorKind::Oom;
      arm.error_class = ir::ClassOf(arm.kind);
      if (r_.OneIn(2)) arm.name = "bad-luck";
      j.errors.push_back(arm);
    }
    if (!r_.OneIn(3)) Retry(job);
  }

  ir::Matcher Matcher() {
    static const std::vector<ErrorKind> kinds = {ErrorKind::Exit, ErrorKind::NodeLost, ErrorKind::Oom, ErrorKind::Timeout, ErrorKind::IdleTimeout,
                                                 ErrorKind::QueueTimeout, ErrorKind::Signal, ErrorKind::InvalidInput, ErrorKind::Submit};
    static const std::vector<ir::ErrorClass> classes = {ir::ErrorClass::System, ir::ErrorClass::Algorithm, ir::ErrorClass::Data};
    if (r_.OneIn(8)) return OnName("bad-luck");
    return r_.OneIn(3) ? OnClass(r_.Pick(classes)) : OnKind(r_.Pick(kinds));
  }

  ir::Backoff Backoff(uint32_t job) {
    ir::Backoff backoff;
    backoff.kind = static_cast<ir::Backoff::Kind>(r_.Below(3));
    backoff.base = Duration(job, 0, 400);
    if (backoff.kind != ir::Backoff::Kind::Constant || r_.OneIn(3)) backoff.max = b.Ms(r_.Between(100, 2000));
    backoff.factor = r_.Pick<double>({1.0, 1.5, 2.0, 3.0});
    // A draw decides how long the wait is, and `total` whether there is one more: no schedule decides both.
    backoff.full_jitter = r_.OneIn(4) && !(reachable_ && (b[job].timeout.total.valid() || b[job].retry.max_attempts > 3));
    return backoff;
  }

  void Retry(uint32_t job) {
    ir::Retry& retry = b[job].retry;
    retry.max_attempts = r_.Between(1, reachable_ ? 4 : 6);
    if (r_.OneIn(2)) retry.backoff = Backoff(job);
    if (r_.OneIn(2)) {
      retry.has_on = true;
      for (int64_t i = r_.Between(1, 2); i > 0; --i) retry.on.push_back(Matcher());
    }
    if (r_.OneIn(4)) retry.never.push_back(Matcher());
    for (int64_t i = r_.Below(4); i > 0; --i) Rule(job);
  }

  void Rule(uint32_t job) {
    ir::RetryRule& rule = b.Rule(job, Matcher());
    if (r_.OneIn(4)) rule.matchers.push_back(Matcher());
    if (r_.OneIn(2)) rule.retries = r_.Between(0, 3);
    if (r_.OneIn(4)) rule.delay = Duration(job, 0, 600);
    else if (r_.OneIn(4)) rule.backoff = Backoff(job);
    if (r_.OneIn(3) && b[job].timeout.run.valid()) {
      rule.timeout.run = r_.OneIn(4) ? b.Binary(ir::Op::Mul, Kind::Duration, b.Ms(r_.Between(50, 500)), b.exprs().Add(ir::Op::Attempt, b.Type(Kind::Int), {}))
                                     : b.Doubled(ir::PrevKind::TimeoutRun, Kind::Duration, b.Ms(r_.Between(100, 4000)));
    }
    if (r_.OneIn(6) && b[job].timeout.queue.valid()) rule.timeout.queue = b.Doubled(ir::PrevKind::TimeoutQueue, Kind::Duration, b.Ms(r_.Between(100, 1500)));
    if (r_.OneIn(8) && (!reachable_ || b[job].timeout.total.valid())) rule.timeout.total = b.Ms(r_.Between(100, 6000));
    if (r_.OneIn(8)) rule.timeout.idle = b.Ms(r_.Between(10, 1500));
    if (r_.OneIn(4)) {
      if (!b[job].resources.memory.valid() && !r_.OneIn(4)) b[job].resources.memory = b.Bytes(int64_t{1} << 30);
      rule.resources.memory = b.Doubled(ir::PrevKind::Memory, Kind::Bytes, b.Bytes(r_.Between(1, 8) << 30));
    }
    if (r_.OneIn(8)) {
      if (!b[job].resources.cpu.valid()) b[job].resources.cpu = b.Float(1.0 / 3);
      rule.resources.cpu = b.Doubled(ir::PrevKind::Cpu, Kind::Float, b.Float(static_cast<double>(r_.Between(1, 40)) / 15));
    }
  }

  Random& r_;
  bool reachable_;
  ir::TypeId list_;
  std::vector<uint32_t> pools_;
};

}  // namespace jobc::testing
