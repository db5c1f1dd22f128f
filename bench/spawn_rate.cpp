// How many jobs of /bin/true a second the process layer starts, captures, reaps and supervises, against the least that is
// possible: a bare posix_spawn()+wait() loop. Both run in one process, alternately, and the medians are printed.
// One job alone (`spawn_rate 1 1 31`) shows what the supervision of a short command costs, start and stop of the guardian
// included.
//   spawn_rate [JOBS [PARALLEL [ROUNDS]]]
#include <spawn.h>
#include <sys/wait.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "runtime/process/attempt_dir.h"
#include "runtime/process/process_client.h"

extern char** environ;

namespace jobc::process {
namespace {

double Now() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

double Bare(int jobs, int parallel) {
  char program[] = "/bin/true";
  char* argv[] = {program, nullptr};
  double begin = Now();
  for (int started = 0, running = 0; started < jobs || running > 0;) {
    if (started < jobs && running < parallel) {
      pid_t pid = 0;
      if (posix_spawn(&pid, program, nullptr, nullptr, argv, environ) != 0) {
        abort();
      }
      ++started;
      ++running;
    } else {
      wait(nullptr);
      --running;
    }
  }
  return jobs / (Now() - begin);
}

/// Starts the next attempt whenever one is reaped.
class Feeder : public ProcessEvents {
 public:
  Feeder(int jobs, bool dirs, const std::string& state) : jobs_(jobs) {
    spec_.argv = {"/bin/true"};
    spec_.env = {"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/root", "USER=root", "LANG=C.UTF-8", "TMPDIR=/tmp",
                 "JOB_OUTPUT=" + state + "/out/1", "JOB_INPUT=" + state + "/in/1", "JOB_RESULT=" + state + "/out/1/result",
                 "JOB_NAME=noop", "JOB_KEY=17", "JOB_ATTEMPT=1", "JOB_RUN_ID=bench", "JOB_EXECUTION_ID=bench-17"};
    spec_.directory = "/tmp";
    if (dirs) {
      dirs_ = std::move(AttemptDirs::Open(state).value());
    }
  }
  void Begin(ProcessClient* client, int parallel) {
    client_ = client;
    for (int i = 0; i < parallel; ++i) {
      Next();
    }
  }
  void OnStarted(uint64_t, const ProcessStarted&) override {}
  void OnSpawnFailed(uint64_t, const SpawnFailure& failure) override {
    fprintf(stderr, "%s\n", failure.Message().c_str());
    abort();
  }
  void OnExited(uint64_t, const ProcessExit&) override {}
  void OnReaped(uint64_t attempt, const LogWriter::Closed&, uint32_t, uint64_t) override {
    if (dirs_) {
      dirs_->GiveBack(std::move(pairs_[attempt]), true);
    }
    Next();
  }
  void OnGuardianLost(const std::vector<uint64_t>&) override { abort(); }

 private:
  void Next() {
    if (started_ == jobs_) {
      return;
    }
    uint64_t attempt = static_cast<uint64_t>(++started_);
    if (dirs_) {
      pairs_.resize(static_cast<size_t>(jobs_) + 1);
      pairs_[attempt] = dirs_->Take().value();
      spec_.directory = pairs_[attempt].work.path;
    }
    client_->Start(attempt, spec_);
  }

  ProcessClient* client_ = nullptr;
  ProcessSpec spec_;
  int jobs_;
  int started_ = 0;
  std::unique_ptr<AttemptDirs> dirs_;
  std::vector<AttemptDirs::Pair> pairs_;
};

double Supervised(int jobs, int parallel, bool cgroups, bool dirs, const std::string& state) {
  GuardianOptions options;
  options.use_cgroups = cgroups;
  double begin = Now();
  GuardianHandle guardian = std::move(LaunchGuardian(options).value());
  uv_loop_t loop;
  uv_loop_init(&loop);
  std::unique_ptr<LogWriter> log = std::move(LogWriter::Open(state).value());
  double end = 0;
  {
    Feeder feeder(jobs, dirs, state);
    auto client = std::move(
        ProcessClient::Create(&loop, std::move(guardian), {"bench", state}, log.get(), &feeder).value());
    feeder.Begin(client.get(), parallel);
    uv_run(&loop, UV_RUN_DEFAULT);
    client->Stop();
    end = Now();
  }
  uv_run(&loop, UV_RUN_DEFAULT);
  uv_loop_close(&loop);
  return jobs / (end - begin);
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

}  // namespace
}  // namespace jobc::process

int main(int argc, char** argv) {
  using namespace jobc::process;
  int jobs = argc > 1 ? atoi(argv[1]) : 5000;
  int parallel = argc > 2 ? atoi(argv[2]) : 2;
  int rounds = argc > 3 ? atoi(argv[3]) : 3;
  char state[] = "./spawn_rate.XXXXXX";
  if (!mkdtemp(state)) {
    perror("mkdtemp");
    return 1;
  }
  char* full = realpath(state, nullptr);
  std::string dir = full;
  free(full);
  std::vector<double> bare, groups, groups_dirs, shims;
  for (int round = 0; round < rounds; ++round) {
    bare.push_back(Bare(jobs, parallel));
    groups.push_back(Supervised(jobs, parallel, true, false, dir));
    groups_dirs.push_back(Supervised(jobs, parallel, true, true, dir));
    shims.push_back(Supervised(jobs, parallel, false, false, dir));
  }
  printf("%d jobs of /bin/true, %d at once, %d rounds; jobs a second\n", jobs, parallel, rounds);
  printf("%-42s %8s %8s %8s\n", "", "median", "best", "of bare");
  for (auto [name, values] : {std::pair("bare posix_spawn and wait loop", &bare), std::pair("guardian, control groups, capture", &groups),
                              std::pair("  the same with fresh directories", &groups_dirs),
                              std::pair("guardian, shims, capture", &shims)}) {
    printf("%-42s %8.0f %8.0f %8.2f\n", name, Median(*values), *std::max_element(values->begin(), values->end()),
           Median(*values) / Median(bare));
  }
  (void)RemoveTree(dir).ok();
  return 0;
}
