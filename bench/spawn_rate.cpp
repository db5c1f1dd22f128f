// What each part of the run contract costs: many jobs of /bin/true, first by a loop that only starts and waits, then with one
// part of the contract more each time, up to a whole run; every step is the code that `jobc run` uses. For each step it
// prints jobs a second and the cpu time of a job, that of /bin/true included, and what the step adds to the one before.
//   spawn_rate [JOBS [PARALLEL [ROUNDS]]]
// The steps take turns, each in a process of its own whose whole tree is counted; medians of ROUNDS. What is written lies
// below the current directory, and is removed. One line of tab-separated fields a step, after a line of their names.
#include <fcntl.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "backends/registry.h"
#include "ir/plan_json.h"
#include "runtime/engine.h"
#include "runtime/journal.h"
#include "runtime/process/attempt_dir.h"
#include "runtime/process/process_client.h"
#include "tests/support/plan_builder.h"

extern char** environ;

namespace jobc::process {
namespace {

[[noreturn]] void Fail(const std::string& what) {
  fprintf(stderr, "spawn_rate: %s\n", what.c_str());
  _exit(1);
}

/// posix_spawn() and wait(), `parallel` at a time; with `capture` into two pipes that are emptied after each end.
void Bare(int jobs, int parallel, bool capture) {
  char program[] = "/bin/true";
  char* argv[] = {program, nullptr};
  struct Place {
    pid_t pid = 0;
    int pipes[2][2] = {{-1, -1}, {-1, -1}};
    posix_spawn_file_actions_t actions;
  };
  std::vector<Place> places(static_cast<size_t>(parallel));
  for (Place& place : places) {
    posix_spawn_file_actions_init(&place.actions);
    for (int stream = 0; capture && stream < 2; ++stream) {
      if (pipe2(place.pipes[stream], O_CLOEXEC | O_NONBLOCK) != 0) {
        Fail("cannot make a pipe");
      }
      posix_spawn_file_actions_adddup2(&place.actions, place.pipes[stream][1], stream + 1);
    }
  }
  for (int started = 0, running = 0; started < jobs || running > 0;) {
    auto free = std::find_if(places.begin(), places.end(), [](const Place& place) { return place.pid == 0; });
    if (started < jobs && free != places.end()) {
      if (posix_spawn(&free->pid, program, &free->actions, nullptr, argv, environ) != 0) {
        Fail("cannot start /bin/true");
      }
      ++started;
      ++running;
      continue;
    }
    const pid_t ended = wait(nullptr);
    --running;
    for (Place& place : places) {
      if (place.pid != ended) {
        continue;
      }
      place.pid = 0;
      char rest[4096];
      for (int stream = 0; capture && stream < 2; ++stream) {
        while (read(place.pipes[stream][0], rest, sizeof rest) > 0) {
        }
      }
    }
  }
}

/// Keeps the process layer busy as the engine does: attempts that run, and a few that are handed over ahead of time.
class Feeder : public ProcessEvents {
 public:
  Feeder(int jobs, int parallel, bool dirs, const std::string& state) : left_(jobs), lanes_(static_cast<size_t>(parallel)) {
    spec_.argv = {"/bin/true"};
    spec_.env = {"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/root", "USER=root", "LANG=C.UTF-8", "TMPDIR=/tmp",
                 "JOB_OUTPUT=" + state + "/out/1", "JOB_INPUT=" + state + "/in/1", "JOB_RESULT=" + state + "/out/1/result",
                 "JOB_NAME=noop", "JOB_KEY=17", "JOB_ATTEMPT=1", "JOB_RUN_ID=bench", "JOB_EXECUTION_ID=bench-17"};
    spec_.directory = "/tmp";
    if (dirs) {
      dirs_ = std::move(AttemptDirs::Open(state).value());
    }
  }
  void Begin(ProcessClient* client) {
    client_ = client;
    for (size_t lane = 0; lane < lanes_.size(); ++lane) {
      Fill(lane);
    }
  }
  void OnStarted(uint64_t, const ProcessStarted&) override {}
  void OnSpawnFailed(uint64_t, const SpawnFailure& failure) override { Fail(failure.Message()); }
  void OnExited(uint64_t, const ProcessExit&) override {}
  void OnReaped(uint64_t attempt, const LogWriter::Closed&, uint32_t, uint64_t) override {
    const size_t lane = lane_of_[attempt];
    lanes_[lane].pop_front();
    GiveBack(attempt);
    Fill(lane);
  }
  void OnRevoked(uint64_t attempt) override {  // it came too late
    lanes_[lane_of_[attempt]].pop_back();
    GiveBack(attempt);
    ++left_;
  }
  void OnGuardianLost(const std::vector<uint64_t>&) override { Fail("the guardian was lost"); }

 private:
  static constexpr size_t kInLane = 4;

  void Fill(size_t lane) {
    while (left_ > 0 && lanes_[lane].size() < kInLane) {
      const uint64_t attempt = ++last_;
      lane_of_.resize(attempt + 1);
      lane_of_[attempt] = lane;
      pairs_.resize(attempt + 1);
      if (dirs_) {
        pairs_[attempt] = dirs_->Take().value();
        spec_.directory = pairs_[attempt].work.path;
      }
      if (lanes_[lane].empty()) {
        client_->Start(attempt, spec_);
      } else if (!client_->StartAfter(attempt, spec_, lanes_[lane].back(), {spec_.directory + "/result", spec_.directory + "/smartjob.json"})) {
        GiveBack(attempt);
        return;
      }
      lanes_[lane].push_back(attempt);
      --left_;
    }
  }
  void GiveBack(uint64_t attempt) {
    if (dirs_) {
      dirs_->GiveBack(std::move(pairs_[attempt]), true);
    }
  }

  ProcessClient* client_ = nullptr;
  ProcessSpec spec_;
  int left_;
  uint64_t last_ = 0;
  std::vector<std::deque<uint64_t>> lanes_;  ///< what runs in each place, and what follows it
  std::vector<size_t> lane_of_;
  std::unique_ptr<AttemptDirs> dirs_;
  std::vector<AttemptDirs::Pair> pairs_;
};

void Supervised(int jobs, int parallel, bool cgroups, bool dirs, const std::string& state) {
  GuardianOptions options;
  options.use_cgroups = cgroups;
  GuardianHandle guardian = std::move(LaunchGuardian(options).value());
  uv_loop_t loop;
  uv_loop_init(&loop);
  std::unique_ptr<LogWriter> log = std::move(LogWriter::Open(state).value());
  {
    Feeder feeder(jobs, parallel, dirs, state);
    auto client = std::move(ProcessClient::Create(&loop, std::move(guardian), {"bench", state}, log.get(), &feeder).value());
    feeder.Begin(client.get());
    uv_run(&loop, UV_RUN_DEFAULT);
    client->Stop();
  }
  uv_run(&loop, UV_RUN_DEFAULT);
  uv_loop_close(&loop);
}

/// The records of that many attempts, a transaction for each fifty, which is about what a run does; nobody waits.
void JournalAlone(int jobs, const std::string& state) {
  RunHeader header;
  header.id = "bench";
  auto journal = Journal::Create(state + "/journal.db", header, "{}", Durability::Normal);
  if (!journal) {
    Fail(journal.error().message);
  }
  const std::string key = "{\"key\":\"" + std::string(64, 'a') + "\",\"parts\":{\"run\":\"" + std::string(64, 'b') + "\"}}";
  for (int i = 0; i < jobs; ++i) {
    const int64_t ordinal = i;
    for (Record record : {Record{.type = RecordType::Intent, .job = 0, .ordinal = ordinal, .attempt = 1, .a = i + 1, .text = key},
                          Record{.type = RecordType::Started, .job = 0, .ordinal = ordinal, .attempt = 1, .a = 1000 + i, .b = 1},
                          Record{.type = RecordType::Verdict, .job = 0, .ordinal = ordinal, .attempt = 1, .a = -1},
                          Record{.type = RecordType::Reaped, .job = 0, .ordinal = ordinal, .attempt = 1, .a = 1, .b = 1 << 20, .text = "1700000000000"},
                          Record{.type = RecordType::Final, .job = 0, .ordinal = ordinal, .attempt = 1}}) {
      record.time_ms = WallMillis();
      if (!journal->Append(record)) {
        Fail("cannot write a record");
      }
    }
    if (i % 50 == 49 && !journal->Commit()) {
      Fail("cannot commit");
    }
  }
}

void WholeRun(int jobs, int parallel, Durability durability, const std::string& state) {
  testing::PlanBuilder b;
  const uint32_t many = b.Scatter("noop", jobs);
  b[many].run = b.exprs().Constant(b.types().List(b.Type(ir::TypeKind::String)), ir::Value::List({ir::Value::String("/bin/true")}));
  EngineSetup setup;
  setup.plan = &b.plan;
  setup.plan_text = ir::WritePlan(b.plan);
  setup.roots = {state, state};
  setup.state_dir = state;
  setup.options.max_parallel = static_cast<uint32_t>(parallel);
  setup.options.durability = durability;
  setup.options.handle_signals = false;
  setup.backends = MakeBackend;
  StartFailure failure;
  auto engine = Engine::Start(std::move(setup), failure);
  if (engine == nullptr) {
    Fail(failure.message);
  }
  if (engine->Run().exit_code != 0) {
    Fail("the run failed");
  }
}

struct Measured {
  double seconds = 0, cpu = 0;
};

/// In a process of its own, which waits for all that it starts.
Measured Apart(const std::function<void()>& work) {
  fflush(stdout);
  timespec begin{}, end{};
  clock_gettime(CLOCK_MONOTONIC, &begin);
  const pid_t child = fork();
  if (child == 0) {
    work();
    _exit(0);
  }
  int status = 0;
  rusage usage{};
  if (child < 0 || wait4(child, &status, 0, &usage) != child || status != 0) {
    fprintf(stderr, "spawn_rate: a step failed\n");
    exit(1);
  }
  clock_gettime(CLOCK_MONOTONIC, &end);
  auto of = [](const timeval& time) { return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6; };
  return {static_cast<double>(end.tv_sec - begin.tv_sec) + static_cast<double>(end.tv_nsec - begin.tv_nsec) / 1e9,
          of(usage.ru_utime) + of(usage.ru_stime)};
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

int Measure(int jobs, int parallel, int rounds) {
  char path[] = "./spawn_rate.XXXXXX";
  if (!mkdtemp(path)) {
    perror("mkdtemp");
    return 1;
  }
  char* full = realpath(path, nullptr);
  const std::string top = full;
  free(full);
  struct Step {
    const char* name;
    int before;  ///< the step that it adds to; -1: none
    std::function<void(const std::string& state)> work;
    std::vector<double> seconds{}, cpu{};
  };
  std::vector<Step> steps = {
      {"posix_spawn and wait", -1, [&](const std::string&) { Bare(jobs, parallel, false); }},
      {"stdout and stderr captured", 0, [&](const std::string&) { Bare(jobs, parallel, true); }},
      {"whole-tree kill and kill -9 safety, by shims", 1, [&](const std::string& state) { Supervised(jobs, parallel, false, false, state); }},
      {"the same by control groups as well", 2, [&](const std::string& state) { Supervised(jobs, parallel, true, false, state); }},
      {"fresh working and temporary directories", 3, [&](const std::string& state) { Supervised(jobs, parallel, true, true, state); }},
      {"schedule, environment, cache key, result, journal", 4, [&](const std::string& state) { WholeRun(jobs, parallel, Durability::Normal, state); }},
      {"the journal waits for the disk", 5, [&](const std::string& state) { WholeRun(jobs, parallel, Durability::Full, state); }},
      {"the records of the journal alone", -1, [&](const std::string& state) { JournalAlone(jobs, state); }},
  };
  int count = 0;
  for (int round = 0; round < rounds; ++round) {
    for (Step& step : steps) {
      const std::string state = top + "/" + std::to_string(++count);
      (void)MakeDirectories(state).ok();
      const Measured one = Apart([&] { step.work(state); });
      step.seconds.push_back(one.seconds);
      step.cpu.push_back(one.cpu);
      (void)RemoveTree(state).ok();
    }
  }
  (void)RemoveTree(top).ok();
  printf("step\tadds_to\tjobs_per_second\tcpu_us\tadded_cpu_us\n");
  for (const Step& step : steps) {
    const double cpu = Median(step.cpu) * 1e6 / jobs;
    const double before = step.before < 0 ? 0 : Median(steps[static_cast<size_t>(step.before)].cpu) * 1e6 / jobs;
    printf("%s\t%d\t%.1f\t%.2f\t%.2f\n", step.name, step.before, jobs / Median(step.seconds), cpu, cpu - before);
  }
  return 0;
}

}  // namespace
}  // namespace jobc::process

int main(int argc, char** argv) {
  return jobc::process::Measure(argc > 1 ? atoi(argv[1]) : 5000, argc > 2 ? atoi(argv[2]) : 2, argc > 3 ? atoi(argv[3]) : 3);
}
