// How a whole run scales: n instances through engine, scheduler and journal, with a virtual backend that runs nothing and
// answers at once; then the same run resumed from its journal, and read for `jobc status`.
//   engine_scale [--durability full|normal] DIRECTORY INSTANCES …
// prints one JSON line for each number: seconds of the run, of the resume and of the reading, microseconds an attempt, bytes of
// the journal, peak resident memory of the process. Everything is left in DIRECTORY/INSTANCES.
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "ir/plan_json.h"
#include "runtime/engine.h"
#include "runtime/metrics.h"
#include "runtime/process/os.h"
#include "runtime/run_reader.h"
#include "tests/support/plan_builder.h"

namespace jobc {
namespace {

/// Every attempt starts, ends and is gone in the next turn of the loop. The jobs of `failing` end with exit code 1.
class VirtualBackend : public Backend {
 public:
  VirtualBackend(const BackendHost& host, uint32_t failing) : host_(host), failing_(failing) {
    uv_prepare_init(host_.loop, &prepare_);
    prepare_.data = this;
    uv_prepare_start(&prepare_, [](uv_prepare_t* handle) { static_cast<VirtualBackend*>(handle->data)->Answer(); });
    uv_idle_init(host_.loop, &idle_);
  }
  ~VirtualBackend() override {
    uv_close(reinterpret_cast<uv_handle_t*>(&prepare_), nullptr);
    uv_close(reinterpret_cast<uv_handle_t*>(&idle_), nullptr);
    uv_run(host_.loop, UV_RUN_NOWAIT);
  }

  Result<AttemptPlaces> Prepare(AttemptId, bool) override { return AttemptPlaces{"/nowhere/output", "/nowhere/tmp", "/nowhere/stage"}; }
  void Submit(const AttemptLaunch& launch) override {
    submitted_.push_back({launch.id, launch.instance.job == failing_});
    // An idle handle keeps the loop from waiting for descriptors.
    if (submitted_.size() == 1) uv_idle_start(&idle_, [](uv_idle_t*) {});
  }
  bool Withdraw(AttemptId) override { return false; }
  void Cancel(AttemptId, int64_t) override {}
  void Attach(const AttemptLaunch&, const std::string&) override {}
  void Release(AttemptId, bool) override {}
  void RemoveLater(const std::string&) override {}
  uint64_t LastOutput(AttemptId) const override { return 0; }
  void Stop() override { submitted_.clear(); }

 private:
  struct Submitted {
    AttemptId id;
    bool fails;
  };

  void Answer() {
    std::vector<Submitted> now;
    now.swap(submitted_);
    const int64_t wall_ms = process::WallMillis();
    for (const Submitted& one : now) {
      host_.events->OnStarted(one.id, wall_ms, 1, "");
      AttemptExit exit;
      exit.exit_code = one.fails ? 1 : 0;
      exit.wall_ms = wall_ms;
      exit.usage = {1, 1 << 20};
      host_.events->OnExited(one.id, exit);
      host_.events->OnReaped(one.id);
    }
    if (submitted_.empty()) uv_idle_stop(&idle_);
  }

  BackendHost host_;
  uint32_t failing_;
  uv_prepare_t prepare_{};
  uv_idle_t idle_{};
  std::vector<Submitted> submitted_;
};

double Since(std::chrono::steady_clock::time_point begin) { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(); }

/// Processor time of this process so far: unlike wall time, not what others on the machine take.
double CpuSeconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) + static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

int64_t PeakMiB() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss / 1024;
}

/// A child process for each figure, so that peak memory is its own.
template <typename Work>
bool Apart(Work work) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    const bool good = work();
    std::fflush(stdout);
    _exit(good ? 0 : 1);
  }
  int status = 0;
  return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

bool Measure(const std::string& directory, int64_t n, Durability durability) {
  testing::PlanBuilder b;
  const auto words = [&] { return b.exprs().Constant(b.types().List(b.Type(ir::TypeKind::String)), ir::Value::List({ir::Value::String("true")})); };
  const uint32_t many = b.Scatter("many", n);
  const uint32_t last = b.Job("last");
  b[many].run = words();
  b[last].run = words();
  b.Needs(last, many, ir::Mapping::All);
  const std::string state_dir = fmt::format("{}/{}", directory, n);
  if (!process::MakeDirectories(state_dir).ok()) return false;
  const auto setup = [&] {
    EngineSetup out;
    out.plan = &b.plan;
    out.plan_text = ir::WritePlan(b.plan);
    out.roots = {state_dir, state_dir};
    out.state_dir = state_dir;
    out.options.max_parallel = 64;
    out.options.durability = durability;
    out.options.handle_signals = false;
    out.backends = [last](ir::BackendKind, const BackendHost& host) -> Result<std::unique_ptr<Backend>> { return std::unique_ptr<Backend>(new VirtualBackend(host, last)); };
    return out;
  };
  const std::string mode = durability == Durability::Full ? "full" : "normal";
  bool good = Apart([&] {
    StartFailure failure;
    const auto begin = std::chrono::steady_clock::now();
    auto engine = Engine::Start(setup(), failure);
    if (engine == nullptr) {
      std::fprintf(stderr, "%s\n", failure.message.c_str());
      return false;
    }
    const RunOutcome outcome = engine->Run();
    const double seconds = Since(begin);
    struct stat info {};
    stat((outcome.run_dir + "/journal.db").c_str(), &info);
    fmt::print("{{\"figure\":\"run\",\"instances\":{},\"durability\":\"{}\",\"exit_code\":{},\"seconds\":{:.3f},\"us_per_attempt\":{:.3f},\"cpu_us_per_attempt\":{:.3f},\"journal_bytes\":{},\"peak_mib\":{}}}\n", n, mode, outcome.exit_code, seconds,
               seconds * 1e6 / static_cast<double>(n), CpuSeconds() * 1e6 / static_cast<double>(n), info.st_size, PeakMiB());
    return outcome.exit_code == 10;
  });
  const std::vector<std::string> ids = ListRunIds(state_dir);
  good = good && ids.size() == 1;
  good = good && Apart([&] {
    const auto begin = std::chrono::steady_clock::now();
    auto reader = RunReader::Open(state_dir, ids[0]);
    if (!reader.ok()) return false;
    const double read = Since(begin);
    const RunMetrics metrics = CollectMetrics(**reader, {});
    fmt::print("{{\"figure\":\"status\",\"instances\":{},\"seconds\":{:.3f},\"read_seconds\":{:.3f},\"peak_mib\":{}}}\n", n, Since(begin), read, PeakMiB());
    return metrics.attempts.completed == static_cast<uint64_t>(n) && metrics.attempts.all_failed() == 1;
  });
  return good && Apart([&] {
    StartFailure failure;
    const auto begin = std::chrono::steady_clock::now();
    auto engine = Engine::Resume(setup(), ids[0], {}, failure);
    if (engine == nullptr) {
      std::fprintf(stderr, "%s\n", failure.message.c_str());
      return false;
    }
    const RunOutcome outcome = engine->Run();
    fmt::print("{{\"figure\":\"resume\",\"instances\":{},\"exit_code\":{},\"started_again\":{},\"seconds\":{:.3f},\"cpu_seconds\":{:.3f},\"peak_mib\":{}}}\n", n, outcome.exit_code, engine->counters().attempts, Since(begin), CpuSeconds(),
               PeakMiB());
    return outcome.exit_code == 10 && engine->counters().attempts == 0;
  });
}

}  // namespace
}  // namespace jobc

int main(int argc, char** argv) {
  jobc::Durability durability = jobc::Durability::Full;
  int at = 1;
  if (argc > 2 && std::strcmp(argv[1], "--durability") == 0) {
    durability = std::strcmp(argv[2], "normal") == 0 ? jobc::Durability::Normal : jobc::Durability::Full;
    at = 3;
  }
  if (at >= argc) {
    std::fprintf(stderr, "usage: engine_scale [--durability full|normal] DIRECTORY INSTANCES …\n");
    return 2;
  }
  const std::string directory = argv[at];
  for (++at; at < argc; ++at) {
    if (!jobc::Measure(directory, std::atoll(argv[at]), durability)) return 1;
  }
  return 0;
}
