// How the pure core scales: n instances through the scheduler with a virtual backend that answers at once.
//   scheduler_scale [SHAPE] [INSTANCES] …
// prints one JSON line for each: seconds, microseconds an instance, peak resident memory of the process. Shapes:
// `scatter` (independent), `pairs` (one to one between two scatters), `gather` (a scatter into one job), `pool` (behind
// a pool of 8), `retry` (each fails once), `chain` (depends on the one before by an index expression).
#include <sys/resource.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <string>

#include <fmt/format.h>

#include "runtime/scheduler.h"
#include "tests/support/plan_builder.h"

namespace jobc {
namespace {

testing::PlanBuilder Build(const std::string& shape, int64_t n) {
  testing::PlanBuilder b;
  const ir::TypeId integer = b.Type(ir::TypeKind::Int);
  if (shape == "pairs") {
    uint32_t p = b.Scatter("p", n / 2), c = b.Scatter("c", n / 2);
    b.AddOutput(p, "n", integer);
    b.AddOutput(c, "n", integer);
    b.Needs(c, p, ir::Mapping::Same);
    return b;
  }
  uint32_t a = b.Scatter("a", n);
  b.AddOutput(a, "n", integer);
  if (shape == "gather") {
    uint32_t g = b.Job("g");
    b.Needs(g, a, ir::Mapping::All);
  } else if (shape == "pool") {
    b[a].pools = {{b.Pool("slots", 8), b.Int(1)}};
  } else if (shape == "retry") {
    b.Retry(a, 2);
  } else if (shape == "chain") {
    uint32_t c = b.Scatter("c", n);
    b.AddOutput(c, "n", integer);
    b.Needs(c, a, ir::Mapping::Expr, true, {b.Var()});
  }
  return b;
}

/// Processor time of this process so far: unlike wall time, not what others on the machine take.
double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

int Measure(const std::string& shape, int64_t n) {
  const double cpu_begin = CpuSeconds();
  const auto begin = std::chrono::steady_clock::now();
  testing::PlanBuilder b = Build(shape, n);
  RunState state(b.plan, "bench");
  SchedulerOptions options;
  options.max_parallel = 64;
  Scheduler scheduler(b.plan, state, options, nullptr);
  std::deque<std::pair<AttemptId, uint32_t>> running;
  uint64_t started = 0, changes = 0;
  bool finished = false;
  int exit_code = -1;
  int64_t now = 0;
  auto take = [&] {
    for (Action& action : scheduler.TakeActions()) {
      if (auto* start = std::get_if<StartAttempt>(&action)) {
        ++started;
        running.emplace_back(start->id, (start->instance.job << 1) | (shape == "retry" && start->number == 1));
      } else if (auto* changed = std::get_if<InstanceChanged>(&action)) {
        changes += changed->count;
      } else if (auto* end = std::get_if<RunFinished>(&action)) {
        finished = true;
        exit_code = end->exit_code;
      }
    }
  };
  scheduler.Begin(now);
  take();
  while (!finished) {
    ++now;
    if (running.empty()) {
      scheduler.Tick(now);
      take();
      continue;
    }
    auto [id, what] = running.front();
    running.pop_front();
    scheduler.AttemptStarted(id, now);
    AttemptResult result;
    if (what & 1) {
      result.verdict = Failed(ir::ErrorKind::NodeLost, "the node went away");
    } else {
      result.verdict = Succeeded();
      if (!b.plan.jobs[what >> 1].outputs.empty()) result.outputs.push_back(ir::Value::Int(now));
    }
    result.started_ms = result.ended_ms = now;
    scheduler.AttemptEnded(id, std::move(result), now);
    scheduler.AttemptReaped(id, now);
    scheduler.Tick(now);
    take();
  }
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const double cpu = CpuSeconds() - cpu_begin;
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  fmt::print(
      "{{\"shape\":\"{}\",\"instances\":{},\"attempts\":{},\"changes\":{},\"exit_code\":{},\"seconds\":{:.3f},"
      "\"us_per_attempt\":{:.3f},\"cpu_us_per_attempt\":{:.3f},\"peak_mib\":{}}}\n",
      shape, n, started, changes, exit_code, seconds, seconds * 1e6 / static_cast<double>(started), cpu * 1e6 / static_cast<double>(started),
      usage.ru_maxrss / 1024);
  std::fflush(stdout);
  return exit_code;
}

}  // namespace
}  // namespace jobc

int main(int argc, char** argv) {
  const std::string shape = argc > 1 ? argv[1] : "scatter";
  int worst = 0;
  if (argc <= 2) worst = jobc::Measure(shape, 1'000'000);
  for (int i = 2; i < argc; ++i) worst = std::max(worst, jobc::Measure(shape, std::atoll(argv[i])));
  return worst;
}
