// A place that goes on without jobc, for tests: each attempt is a process of its own session that outlives the engine, and a
// directory `DIR/EXECUTION_ID` that says how it is (pid, started, out, err, exit). Found again by its execution id.
#pragma once

#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>

#include <cstdio>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <utility>

#include "backends/container/places.h"
#include "runtime/backend.h"
#include "tests/engine/run_fixture_files.h"

namespace jobc::testing {

/// What the test changes; outlives the backend.
struct KeepingPlace {
  std::string dir;
  bool reachable = true;
  std::function<void()> on_attach, on_cancel, on_release;
  std::string never_began;         ///< the execution id of an attempt that it says has not begun, and removes
  std::string answers_last;        ///< the execution id of an attempt that it is asked for in vain until all others have ended
  int64_t started_earlier_ms = 0;  ///< it says that attempts started so long ago

  std::string At(const std::string& execution_id, const std::string& name) const { return dir + "/" + execution_id + "/" + name; }
  /// Whether a process of the attempt is alive.
  bool Alive(const std::string& execution_id) const {
    // What has ended may wait for init to take note of it for a while.
    std::vector<pid_t> groups;
    for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
      const std::string stat = ReadAll(entry.path() / "stat");
      const size_t end = stat.rfind(") ");
      char state = 'Z';
      int parent = 0, group = 0;
      if (end != std::string::npos && sscanf(stat.c_str() + end + 2, "%c %d %d", &state, &parent, &group) == 3 && state != 'Z' && state != 'X') groups.push_back(group);
    }
    const std::string text = ReadAll(At(execution_id, "pid"));
    const pid_t pid = text.empty() ? 0 : std::stoi(text);
    return pid > 0 && std::any_of(groups.begin(), groups.end(), [&](pid_t group) { return group == pid; });
  }
};

class KeepingBackend : public Backend {
 public:
  KeepingBackend(const BackendHost& host, KeepingPlace* place) : host_(host), place_(place), timer_(new uv_timer_t) {
    uv_timer_init(host_.loop, timer_);
    timer_->data = this;
    uv_timer_start(timer_, [](uv_timer_t* handle) { static_cast<KeepingBackend*>(handle->data)->Look(); }, 1, 2);
  }
  ~KeepingBackend() override { CloseTimer(); }

  Result<AttemptPlaces> Prepare(AttemptId id, bool) override {
    auto places = container::MakePlaces(host_.run_dir, id);
    return places ? OnThisMachine(*places) : places;
  }
  std::optional<AttemptPlaces> FindPlaces(AttemptId id, bool) override {
    auto places = container::FindPlaces(host_.run_dir, id);
    return places ? std::optional(OnThisMachine(*places)) : std::nullopt;
  }

  std::optional<AttemptPlaces> FindPlacesOf(AttemptId id, bool, const AttemptOrigin& origin) override {
    auto places = container::FindPlaces(origin.run_dir, origin.id);
    if (places) foreign_[id] = container::AttemptDir(origin.run_dir, origin.id);
    return places ? std::optional(OnThisMachine(*places)) : std::nullopt;
  }

  void Submit(const AttemptLaunch& launch) override {
    Attempt& one = attempts_[launch.id];
    one.id = launch.execution_id;
    const std::string dir = place_->dir + "/" + one.id;
    if (mkdir(dir.c_str(), 0777) == 0) {
      // The session's leader says how the program ended, also when jobc is gone.
      std::vector<std::string> words{"setsid", "-f", "sh", "-c",
                                     "d=$1; o=$2; shift 2; echo $$ > $d/pid; date +%s%3N > $d/started.new; mv $d/started.new $d/started; cd $o; "
                                     "trap '' TERM; (trap - TERM; exec \"$@\") > $d/out 2> $d/err; echo $? > $d/exit.new; mv $d/exit.new $d/exit",
                                     "sh", dir, launch.places.output_dir};
      words.insert(words.end(), launch.argv.begin(), launch.argv.end());
      std::vector<char*> argv, env;
      for (std::string& word : words) argv.push_back(word.data());
      std::vector<std::string> variables = launch.env;
      for (std::string& entry : variables) env.push_back(entry.data());
      argv.push_back(nullptr);
      env.push_back(nullptr);
      pid_t pid = 0;
      if (posix_spawnp(&pid, argv[0], nullptr, nullptr, argv.data(), env.data()) == 0) waitpid(pid, nullptr, 0);
    }
    host_.events->OnSubmitted(launch.id, "kept " + one.id);
  }

  void Attach(const AttemptLaunch& launch, const std::string& handle) override {
    handles.push_back(handle);
    if (place_->on_attach) place_->on_attach();
    if (launch.execution_id == place_->answers_last) {
      place_->answers_last.clear();
      late_ = launch;
      return;
    }
    if (launch.execution_id == place_->never_began) {
      host_.events->OnNeverBegan(launch.id);
      kill(-std::stoi(ReadAll(place_->At(launch.execution_id, "pid"))), SIGKILL);
      (void)process::RemoveTree(place_->dir + "/" + launch.execution_id).ok();
    }
    if (!place_->reachable) return host_.events->OnAttached(launch.id, AttachAnswer::Unknown, "no answer from it");
    if (!Exists(place_->dir + "/" + launch.execution_id)) return host_.events->OnAttached(launch.id, AttachAnswer::Gone, "");
    attempts_[launch.id].id = launch.execution_id;
    host_.events->OnAttached(launch.id, AttachAnswer::Found, "");
  }

  void Cancel(AttemptId id, int64_t grace_ms) override {
    auto found = attempts_.find(id);
    if (found == attempts_.end()) return;
    if (place_->on_cancel) place_->on_cancel();
    const std::string pid = ReadAll(place_->At(found->second.id, "pid"));
    if (!pid.empty()) kill(-std::stoi(pid), grace_ms > 0 ? SIGTERM : SIGKILL);
    if (grace_ms <= 0) found->second.killed = true;
    found->second.kill_at = uv_now(host_.loop) + static_cast<uint64_t>(std::max<int64_t>(grace_ms, 0));
    found->second.cancelled = true;
  }
  bool Withdraw(AttemptId) override { return false; }
  void Release(AttemptId id, bool keep) override {
    if (place_->on_release) place_->on_release();
    auto foreign = foreign_.find(id);
    if (!keep) (void)process::RemoveTree(foreign == foreign_.end() ? container::AttemptDir(host_.run_dir, id) : foreign->second).ok();
    if (foreign != foreign_.end()) foreign_.erase(foreign);
  }
  void RemoveLater(const std::string& path) override { (void)process::RemoveTree(path).ok(); }
  uint64_t LastOutput(AttemptId) const override { return uv_now(host_.loop); }
  void Stop() override {
    for (auto& [id, one] : attempts_) {
      const std::string pid = ReadAll(place_->At(one.id, "pid"));
      if (!pid.empty()) kill(-std::stoi(pid), SIGKILL);
    }
    attempts_.clear();
    CloseTimer();
  }

  void LetGo() override {
    attempts_.clear();
    CloseTimer();
  }

  std::vector<std::string> handles;

 private:
  struct Attempt {
    std::string id;
    bool started = false, cancelled = false, killed = false;
    uint64_t kill_at = 0;
    size_t read[2] = {0, 0};
  };

  void CloseTimer() {
    if (timer_ != nullptr) {
      uv_close(reinterpret_cast<uv_handle_t*>(timer_), [](uv_handle_t* handle) { delete reinterpret_cast<uv_timer_t*>(handle); });
      timer_ = nullptr;
    }
  }

  std::optional<AttemptLaunch> late_;
  std::map<AttemptId, std::string> foreign_;  ///< directories of attempts of other runs

  static AttemptPlaces OnThisMachine(AttemptPlaces places) {
    places.seen.reset();
    places.inputs = InputStaging::Link;
    return places;
  }

  void Read(AttemptId id, Attempt& one) {
    for (int stream : {0, 1}) {
      const std::string text = ReadAll(place_->At(one.id, stream == 0 ? "out" : "err"));
      host_.log->Append(id, static_cast<process::LogStream>(stream), std::string_view(text).substr(std::min(one.read[stream], text.size())));
      one.read[stream] = text.size();
    }
  }

  void Look() {
    std::vector<AttemptId> ids;
    for (auto& [id, one] : attempts_) ids.push_back(id);
    if (ids.empty() && late_) Attach(*std::exchange(late_, std::nullopt), "");
    for (AttemptId id : ids) {
      auto found = attempts_.find(id);
      if (found == attempts_.end()) continue;
      Attempt& one = found->second;
      const std::string started = ReadAll(place_->At(one.id, "started"));
      if (!one.started && !started.empty()) {
        one.started = true;
        host_.events->OnStarted(id, std::stoll(started) - place_->started_earlier_ms, std::stoi(ReadAll(place_->At(one.id, "pid"))), "kept " + one.id);
      }
      if (one.cancelled && !one.killed && uv_now(host_.loop) >= one.kill_at) Cancel(id, 0);
      const bool ended = Exists(place_->At(one.id, "exit"));
      const bool gone = !ended && one.started && !place_->Alive(one.id) && !Exists(place_->At(one.id, "exit"));
      Read(id, one);
      if (!ended && !gone) continue;
      const std::string code = ReadAll(place_->At(one.id, "exit"));
      if (code.empty()) {
        host_.events->OnFailed(id, Failed(ir::ErrorKind::NodeLost, "it was killed"));
      } else {
        AttemptExit exit;
        exit.exit_code = std::stoi(code);
        exit.wall_ms = process::WallMillis();
        host_.events->OnExited(id, exit);
      }
      host_.log->Close(id);
      attempts_.erase(id);
      host_.events->OnReaped(id);
    }
  }

  BackendHost host_;
  KeepingPlace* place_;
  uv_timer_t* timer_;  // freed by its close callback
  std::map<AttemptId, Attempt> attempts_;
};

}  // namespace jobc::testing
