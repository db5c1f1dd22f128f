// The reference: a place in this process's memory, with a queue, remote identities and answers that come late, and its backend.
// It does what runtime/backend.h says in the plainest way, so that a case which it fails is wrong about the interface.
#include <csignal>
#include <fcntl.h>
#include <fstream>
#include <map>
#include <sstream>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "runtime/process/os.h"
#include "tests/backends/place.h"

namespace jobc::conformance {
namespace {

using process::LogStream;

std::string ReadFileText(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

/// One program at the place. Output is kept here until a backend has fetched it, as a remote service would.
struct RemoteJob {
  std::string run_id;
  AttemptLaunch launch;
  Program program;
  int age = 0;                  ///< turns since it was submitted; it begins a few turns later
  bool started = false;
  bool ended = false;
  bool lost = false;
  std::string problem;          ///< it could not be started
  AttemptExit exit;
  int64_t started_ms = 0;
  size_t step = 0;
  int64_t done_of_step = 0;
  bool ignores_term = false;
  const Step* on_term = nullptr;
  bool term = false;
  std::string output[2];        ///< all of it, but for Do::Fill, which is fetched and forgotten
  uint64_t forgotten = 0;       ///< bytes of stdout before output[0]
};

/// The service. Outlives the backends that talk to it.
class World {
 public:
  std::map<std::string, RemoteJob> jobs;  ///< by execution id, which is also the handle
  std::map<AttemptId, Program> programs;  ///< of launches to come

  void Advance(RemoteJob& job) {
    if (job.ended || job.lost || ++job.age < 3) {
      return;
    }
    if (!job.started) {
      job.started = true;
      job.started_ms = process::WallMillis();
      if (!job.program.path.empty()) {
        job.started = false;
        job.ended = true;
        job.problem = "`" + job.program.path + "` cannot be started";
        return;
      }
    }
    if (job.term && !job.ignores_term) {  // also of one that has not begun: it is told at its start
      job.term = false;
      if (job.on_term != nullptr) {
        job.output[0] += job.on_term->text;
        return End(job, static_cast<int>(job.on_term->number), 0);
      }
      return End(job, 0, SIGTERM);
    }
    for (int round = 0; round < 64; ++round) {
      if (job.step == job.program.steps.size()) {
        return End(job, 0, 0);
      }
      if (!Take(job, job.program.steps[job.step])) {
        return;
      }
      if (job.ended) {
        return;
      }
      ++job.step;
      job.done_of_step = 0;
    }
  }

  static void End(RemoteJob& job, int code, int signal) {
    job.ended = true;
    if (signal != 0) {
      job.exit.signal = signal;
    } else {
      job.exit.exit_code = code;
    }
    job.exit.wall_ms = process::WallMillis();
  }

 private:
  /// False: the step needs more time.
  static bool Take(RemoteJob& job, const Step& step) {
    const std::string file = Here(job.launch.places, step.where) + "/" + step.name;
    const std::string mark = job.launch.places.output_dir + "/" + step.text;
    switch (step.what) {
      case Do::Out: job.output[0] += step.text; return true;
      case Do::Err: job.output[1] += step.text; return true;
      case Do::Fill: {
        if (job.output[0].size() > (1 << 20)) {
          return false;  // as a pipe that nobody reads
        }
        const auto now = std::min<int64_t>(step.number - job.done_of_step, 1 << 20);
        static const std::string line = FillLine() + "\n";
        std::string text;
        for (int64_t at = job.done_of_step; static_cast<int64_t>(text.size()) < now;) {
          const size_t from = static_cast<size_t>(at) % line.size();
          const std::string piece = line.substr(from, static_cast<size_t>(now) - text.size());
          text += piece;
          at += static_cast<int64_t>(piece.size());
        }
        job.output[0] += text;
        job.done_of_step += now;
        return job.done_of_step == step.number;
      }
      case Do::Numbers:
        for (int64_t i = 1; i <= step.number; ++i) {
          job.output[i % 2 == 0] += std::to_string(i) + "\n";
        }
        return true;
      case Do::Touch: std::ofstream(mark, std::ios::binary); return true;
      case Do::Await: return access(mark.c_str(), F_OK) == 0;
      case Do::Write: std::ofstream(file, std::ios::binary) << step.text; return true;
      case Do::Append: std::ofstream(file, std::ios::binary | std::ios::app) << step.text; return true;
      case Do::Read: job.output[0] += ReadFileText(file); return true;
      case Do::Arguments:
        for (const std::string& word : job.program.arguments) {
          job.output[0] += "[" + word + "]";
        }
        return true;
      case Do::Environment:
        for (const std::string& entry : job.launch.env) {
          job.output[0] += entry + '\0';
        }
        return true;
      case Do::Directory: job.output[0] += job.launch.places.output_dir + "\n"; return true;
      case Do::ReadInput: job.output[0] += "0\n"; return true;
      case Do::IgnoreTerm: job.ignores_term = true; return true;
      case Do::ExitOnTerm: job.on_term = &step; return true;
      case Do::Hold: return true;
      case Do::Allocate:
        if (job.launch.resources.memory && step.number > *job.launch.resources.memory) {
          job.exit.out_of_memory = true;
          End(job, 0, SIGKILL);
        }
        return true;
      case Do::Forever: return false;
      case Do::Exit: End(job, static_cast<int>(step.number), 0); return true;
      case Do::Raise: End(job, 0, static_cast<int>(step.number)); return true;
    }
    return true;
  }
};

class VirtualBackend : public Backend {
 public:
  VirtualBackend(World& world, const bool& crashed, const BackendHost& host) : world_(world), crashed_(crashed), host_(host) {
    timer_ = new uv_timer_t;
    uv_timer_init(host_.loop, timer_);
    timer_->data = this;
    // The round trips of a remote service; no case waits for this time to pass.
    uv_timer_start(timer_, [](uv_timer_t* timer) { static_cast<VirtualBackend*>(timer->data)->Turn(); }, 1, 1);
  }
  ~VirtualBackend() override {
    Stop();
    uv_close(reinterpret_cast<uv_handle_t*>(timer_), [](uv_handle_t* handle) { delete reinterpret_cast<uv_timer_t*>(handle); });
  }

  Result<AttemptPlaces> Prepare(AttemptId id, bool secrets) override {
    AttemptPlaces places = Places(id, secrets);
    for (const std::string& path : {places.output_dir, places.tmp_dir, places.secrets_dir}) {
      if (!path.empty()) {
        if (auto made = process::MakeDirectories(path); !made) {
          return made.error();
        }
      }
    }
    if (secrets) {
      chmod(places.secrets_dir.c_str(), 0700);
    }
    return places;
  }

  void Submit(const AttemptLaunch& launch) override {
    auto found = world_.jobs.find(launch.execution_id);
    if (found == world_.jobs.end() || launch.submission == 1) {
      RemoteJob job;
      job.run_id = host_.run_id;
      job.launch = launch;
      job.program = world_.programs[launch.id];
      found = world_.jobs.insert_or_assign(launch.execution_id, std::move(job)).first;
    }
    Configure(launch);
    mine_[launch.id] = Attempt{launch.execution_id};
  }

  void Cancel(AttemptId id, int64_t grace_ms) override {
    auto found = mine_.find(id);
    if (found == mine_.end() || found->second.exited) {
      return;
    }
    RemoteJob& job = world_.jobs[found->second.handle];
    job.term = grace_ms > 0;
    const uint64_t kill_at = uv_now(host_.loop) + static_cast<uint64_t>(std::max<int64_t>(grace_ms, 0));
    found->second.kill_at = found->second.kill_at ? std::min(*found->second.kill_at, kill_at) : kill_at;
  }

  bool Withdraw(AttemptId id) override {
    auto found = mine_.find(id);
    if (found == mine_.end() || world_.jobs[found->second.handle].started || world_.jobs[found->second.handle].ended) {
      return false;
    }
    Forget(found);
    return true;
  }

  std::optional<AttemptPlaces> FindPlaces(AttemptId id, bool secrets) override {
    AttemptPlaces places = Places(id, secrets);
    return access(places.output_dir.c_str(), F_OK) == 0 ? std::optional(places) : std::nullopt;
  }

  void Attach(const AttemptLaunch& launch, const std::string&) override {
    Configure(launch);
    Attempt attempt{launch.execution_id};
    attempt.attaching = true;
    mine_[launch.id] = attempt;
  }

  void Release(AttemptId id, bool keep) override {
    if (!keep) {
      (void)process::RemoveTree(host_.run_dir + "/attempts/" + std::to_string(id)).ok();
    }
  }
  void RemoveLater(const std::string& path) override { (void)process::RemoveTree(path).ok(); }

  uint64_t LastOutput(AttemptId id) const override {
    auto found = mine_.find(id);
    return found == mine_.end() ? 0 : found->second.last_output;
  }

  void Stop() override {
    uv_timer_stop(timer_);
    for (auto& [id, attempt] : mine_) {
      if (!crashed_) {
        RemoveSecrets(id);
        world_.jobs.erase(attempt.handle);
      }
    }
    mine_.clear();
  }

 private:
  struct Attempt {
    std::string handle;
    bool attaching = false, submitted = false, started = false, exited = false;
    std::optional<uint64_t> kill_at{};
    uint64_t fetched[2] = {0, 0};
    uint64_t last_output = 0;
  };

  AttemptPlaces Places(AttemptId id, bool secrets) const {
    const std::string base = host_.run_dir + "/attempts/" + std::to_string(id);
    return {base + "/out", base + "/tmp", base + "/stage", secrets ? base + "/secrets" : ""};
  }

  void Configure(const AttemptLaunch& launch) {
    process::LogOptions options;
    options.limit_bytes = launch.log_limit.value_or(options.limit_bytes);
    auto filter = [&]() { return host_.masker->empty() ? process::LogFilter() : process::MakeMaskingFilter(host_.masker->patterns(), std::string(kMask)); };
    host_.log->Configure(launch.id, options, filter(), filter());
  }

  void RemoveSecrets(AttemptId id) { (void)process::RemoveTree(host_.run_dir + "/attempts/" + std::to_string(id) + "/secrets").ok(); }

  void Forget(std::map<AttemptId, Attempt>::iterator found) {
    RemoveSecrets(found->first);
    world_.jobs.erase(found->second.handle);
    mine_.erase(found);
  }

  void Turn() {
    std::vector<AttemptId> ids;
    for (const auto& [id, attempt] : mine_) {
      ids.push_back(id);
    }
    for (AttemptId id : ids) {
      if (mine_.contains(id) && !crashed_) {
        Look(id);
      }
    }
  }

  /// One step of one attempt; an event may change all of them, so each one is the last thing done.
  void Look(AttemptId id) {
    Attempt& attempt = mine_[id];
    if (attempt.attaching) {
      attempt.attaching = false;
      attempt.submitted = true;
      const bool found = world_.jobs.contains(attempt.handle);
      if (!found) {
        mine_.erase(id);
      }
      return host_.events->OnAttached(id, found ? AttachAnswer::Found : AttachAnswer::Gone, "");
    }
    if (!attempt.submitted) {
      attempt.submitted = true;
      return host_.events->OnSubmitted(id, attempt.handle);
    }
    RemoteJob& job = world_.jobs[attempt.handle];
    world_.Advance(job);
    if (attempt.kill_at && uv_now(host_.loop) >= *attempt.kill_at && !job.ended) {
      World::End(job, 0, SIGKILL);
      if (!job.started) {
        job.problem = "it was cancelled before its program began";
      }
    }
    Fetch(id, attempt, job);
    if ((job.started || job.lost) && !attempt.started && job.problem.empty()) {
      attempt.started = true;
      attempt.last_output = uv_now(host_.loop);
      return host_.events->OnStarted(id, job.started_ms, 0, attempt.handle);
    }
    if (!attempt.exited && (job.ended || job.lost)) {
      attempt.exited = true;
      if (job.lost) {
        return host_.events->OnFailed(id, Failed(ir::ErrorKind::NodeLost, "its node is gone"));
      }
      if (!job.problem.empty()) {
        return host_.events->OnFailed(id, Failed(attempt.kill_at ? ir::ErrorKind::Cancelled : ir::ErrorKind::Command, job.problem));
      }
      return host_.events->OnExited(id, job.exit);
    }
    if (attempt.exited) {
      host_.log->Close(id);
      Forget(mine_.find(id));
      host_.events->OnReaped(id);
    }
  }

  void Fetch(AttemptId id, Attempt& attempt, RemoteJob& job) {
    for (int stream : {0, 1}) {
      const uint64_t before = stream == 0 ? job.forgotten : 0;
      const size_t from = static_cast<size_t>(attempt.fetched[stream] - before);
      if (from < job.output[stream].size()) {
        const std::string_view news = std::string_view(job.output[stream]).substr(from);
        host_.log->Append(id, static_cast<LogStream>(stream), news);
        attempt.fetched[stream] += news.size();
        attempt.last_output = uv_now(host_.loop);
      }
    }
    if (job.output[0].size() > (1 << 18)) {
      job.forgotten += job.output[0].size();
      job.output[0].clear();
    }
  }

  World& world_;
  const bool& crashed_;
  BackendHost host_;
  uv_timer_t* timer_;  // freed by its close callback
  std::map<AttemptId, Attempt> mine_;
};

class VirtualPlace : public Place {
 public:
  Traits traits() const override { return {.processes = false, .survives = true, .remembers = true, .limits_memory = true, .in_process = true}; }
  Result<std::unique_ptr<Backend>> Make(const BackendHost& host) override {
    crashed_ = false;
    return std::unique_ptr<Backend>(std::make_unique<VirtualBackend>(world_, crashed_, host));
  }
  void Fit(AttemptLaunch& launch, const Program& program) override { world_.programs[launch.id] = program; }
  bool Lose(AttemptId, int64_t, const std::string& handle) override {
    world_.jobs[handle].lost = true;
    return true;
  }
  void Crash() override { crashed_ = true; }
  std::vector<std::string> Remains(const std::string& run_id) override {
    std::vector<std::string> out;
    for (const auto& [id, job] : world_.jobs) {
      if (job.run_id == run_id) {
        out.push_back("job " + id);
      }
    }
    return out;
  }

 private:
  World world_;
  bool crashed_ = false;
};

}  // namespace

std::unique_ptr<Place> MakeVirtualPlace() { return std::make_unique<VirtualPlace>(); }

}  // namespace jobc::conformance
