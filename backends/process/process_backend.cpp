#include "backends/process/process_backend.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <uv.h>

#include <cerrno>
#include <csignal>
#include <unordered_map>
#include <utility>

#include "runtime/process/attempt_dir.h"
#include "runtime/process/process_client.h"

namespace jobc {
namespace {

class ProcessBackend : public Backend, private process::ProcessEvents {
 public:
  explicit ProcessBackend(const BackendHost& host) : host_(host) {}

  ~ProcessBackend() override {
    Stop();
    for (auto& [id, attempt] : attempts_) {
      CloseTimer(attempt);
    }
  }

  Result<void> Open() {
    auto dirs = process::AttemptDirs::Open(host_.run_dir);
    if (!dirs) {
      return dirs.error();
    }
    dirs_ = *std::move(dirs);
    process::GuardianHandle guardian;
    if (host_.guardian != nullptr && host_.guardian->pid != 0) {
      guardian = std::move(*host_.guardian);
      host_.guardian->pid = 0;
    } else {
      auto launched = process::LaunchGuardian();
      if (!launched) {
        return launched.error();
      }
      guardian = *std::move(launched);
    }
    auto client = process::ProcessClient::Create(host_.loop, std::move(guardian), {host_.run_id, host_.state_dir}, host_.log, this);
    if (!client) {
      return client.error();
    }
    client_ = *std::move(client);
    if (host_.secret_files) {
      auto made = process::MakeMemoryDirectory("jobc-" + host_.run_id);
      if (!made) {
        return Error{"secret files are kept in memory only, and there is no place for them: " + made.error().message, made.error().code};
      }
      // Still empty, and the guardian is told before anything else: whatever is put there goes when this process does.
      secrets_ = *std::move(made);
      client_->RemoveOnDeath(secrets_);
    }
    return {};
  }

  Result<AttemptPlaces> Prepare(AttemptId id, bool secrets) override {
    auto pair = dirs_->Take();
    if (!pair) {
      return pair.error();
    }
    AttemptPlaces places{pair->work.path, pair->tmp.path, host_.run_dir + "/stage/" + std::to_string(id), ""};
    prepared_.emplace(id, *std::move(pair));
    if (secrets) {
      places.secrets_dir = secrets_ + "/" + std::to_string(id);
      if (mkdir(places.secrets_dir.c_str(), 0700) != 0) {
        Error error = process::SystemError("cannot create `" + places.secrets_dir + "`", errno);
        Release(id, false);
        return error;
      }
    }
    return places;
  }

  void Submit(const AttemptLaunch& launch) override {
    client_->Start(launch.id, Take(launch));
    host_.events->OnSubmitted(launch.id, "");
  }

  bool SubmitAfter(const AttemptLaunch& launch, AttemptId before, const std::vector<std::string>& unless) override {
    if (client_->StartAfter(launch.id, Take(launch), before, unless)) {
      return true;
    }
    Forget(launch.id);
    return false;
  }

  void Revoke(AttemptId id) override { client_->Revoke(id); }

  void Cancel(AttemptId id, int64_t grace_ms) override {
    auto found = attempts_.find(id);
    if (found == attempts_.end() || found->second.exited) {
      return;
    }
    Attempt& attempt = found->second;
    if (grace_ms <= 0) {
      client_->KillTree(id);
      return;
    }
    client_->Signal(id, SIGTERM);
    if (attempt.timer == nullptr) {
      attempt.timer = new Timer{{}, this, id};
      uv_timer_init(host_.loop, &attempt.timer->handle);
      attempt.timer->handle.data = attempt.timer;
    }
    uv_timer_start(&attempt.timer->handle, [](uv_timer_t* handle) {
      auto* timer = static_cast<Timer*>(handle->data);
      timer->backend->client_->KillTree(timer->id);
    }, static_cast<uint64_t>(grace_ms), 0);
  }

  /// The guardian starts what it is given at once: nothing waits here that could be taken back.
  bool Withdraw(AttemptId) override { return false; }

  /// Processes end with the jobc that supervises them: there is never anything left to attach to.
  void Attach(const AttemptLaunch& launch, const std::string&) override { host_.events->OnAttached(launch.id, AttachAnswer::Gone, ""); }

  void Release(AttemptId id, bool keep) override {
    auto found = prepared_.find(id);
    if (found == prepared_.end()) {
      return;
    }
    dirs_->GiveBack(std::move(found->second), keep);
    prepared_.erase(found);
  }

  void RemoveLater(const std::string& path) override { dirs_->RemoveLater(path); }

  uint64_t LastOutput(AttemptId id) const override { return client_->LastOutput(id); }

  void Stop() override {
    if (client_ != nullptr) {
      client_->Stop();
    }
    if (!secrets_.empty()) {
      (void)process::RemoveTree(secrets_).ok();  // if not the guardian
      secrets_.clear();
    }
  }

 private:
  struct Timer {
    uv_timer_t handle;
    ProcessBackend* backend;
    AttemptId id;
  };
  struct Attempt {
    bool exited = false;
    std::string secrets_dir;
    Timer* timer = nullptr;  // freed by its close callback
  };

  process::ProcessSpec Take(const AttemptLaunch& launch) {
    Attempt& attempt = attempts_[launch.id];
    attempt.secrets_dir = launch.places.secrets_dir;
    if (launch.log_limit || !host_.masker->empty()) {
      process::LogOptions options;
      if (launch.log_limit) {
        options.limit_bytes = *launch.log_limit;
      }
      auto filter = [&]() { return host_.masker->empty() ? process::LogFilter() : process::MakeMaskingFilter(host_.masker->patterns(), std::string(kMask)); };
      host_.log->Configure(launch.id, options, filter(), filter());
    }
    process::ProcessSpec spec;
    spec.argv = launch.argv;
    spec.env = launch.env;
    spec.directory = launch.places.output_dir;
    spec.limits.memory_bytes = static_cast<uint64_t>(std::max<int64_t>(launch.resources.memory.value_or(0), 0));
    spec.limits.cpu_milli = static_cast<uint32_t>(std::max<int64_t>(launch.resources.cpu_milli.value_or(0), 0));
    return spec;
  }

  static void CloseTimer(Attempt& attempt) {
    if (attempt.timer != nullptr) {
      uv_timer_stop(&attempt.timer->handle);
      uv_close(reinterpret_cast<uv_handle_t*>(&attempt.timer->handle), [](uv_handle_t* handle) { delete static_cast<Timer*>(handle->data); });
      attempt.timer = nullptr;
    }
  }

  void Forget(AttemptId id) {
    auto found = attempts_.find(id);
    if (found == attempts_.end()) {
      return;
    }
    CloseTimer(found->second);
    std::string secrets = std::move(found->second.secrets_dir);
    attempts_.erase(found);
    if (!secrets.empty()) {
      (void)process::RemoveTree(secrets).ok();  // what stays goes with `secrets_`
    }
  }

  // -- process::ProcessEvents --------------------------------------------------

  void OnStarted(uint64_t id, const process::ProcessStarted& started) override {
    host_.events->OnStarted(id, started.wall_ms, started.pid, "");
  }

  void OnSpawnFailed(uint64_t id, const process::SpawnFailure& failure) override {
    Forget(id);
    host_.events->OnFailed(id, Failed(failure.of_system() ? ir::ErrorKind::Submit : ir::ErrorKind::Command, failure.Message()));
    host_.events->OnReaped(id);
  }

  void OnExited(uint64_t id, const process::ProcessExit& exit) override {
    if (auto found = attempts_.find(id); found != attempts_.end()) {
      found->second.exited = true;
      CloseTimer(found->second);
    }
    if (exit.supervisor_lost) {
      host_.events->OnFailed(id, Failed(ir::ErrorKind::NodeLost, "the process that supervised it was killed from outside, so its true end is not known"));
      return;
    }
    AttemptExit out;
    if (exit.signal != 0) {
      out.signal = exit.signal;
    } else {
      out.exit_code = exit.exit_code;
    }
    out.out_of_memory = exit.out_of_memory;
    out.wall_ms = exit.wall_ms;
    out.usage.cpu_ms = static_cast<int64_t>((exit.user_us + exit.system_us) / 1000);
    out.usage.max_memory = static_cast<int64_t>(std::max(exit.max_rss_bytes, exit.peak_memory_bytes));
    host_.events->OnExited(id, out);
  }

  void OnReaped(uint64_t id, const process::LogWriter::Closed&, uint32_t, uint64_t next) override {
    Forget(id);
    host_.events->OnReaped(id, next);
  }

  void OnRevoked(uint64_t id) override {
    Forget(id);
    host_.events->OnRevoked(id);
  }

  void OnGuardianLost(const std::vector<uint64_t>& attempts) override {
    for (uint64_t id : attempts) {
      Forget(id);
      host_.events->OnFailed(id, Failed(ir::ErrorKind::NodeLost, "the guardian of this run was killed from outside, and everything it supervised was ended"));
      host_.events->OnReaped(id);
    }
    host_.events->OnUnavailable(ir::BackendKind::Process, "the guardian of this run was killed from outside; resume the run to go on");
  }

  BackendHost host_;
  std::unique_ptr<process::AttemptDirs> dirs_;
  std::unique_ptr<process::ProcessClient> client_;
  std::string secrets_;  ///< directory in memory, one below it for each attempt with secret files; empty: none
  std::unordered_map<AttemptId, process::AttemptDirs::Pair> prepared_;
  std::unordered_map<AttemptId, Attempt> attempts_;
};

}  // namespace

Result<std::unique_ptr<Backend>> MakeProcessBackend(const BackendHost& host) {
  auto backend = std::make_unique<ProcessBackend>(host);
  if (auto opened = backend->Open(); !opened) {
    return opened.error();
  }
  return std::unique_ptr<Backend>(std::move(backend));
}

}  // namespace jobc
