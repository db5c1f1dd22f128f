// A real guardian, client and log on a loop of their own, in a directory of their own, and what they reported.
#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <grp.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/process/cgroup.h"
#include "runtime/process/os.h"
#include "runtime/process/process_client.h"
#include "runtime/process/process_tree.h"

namespace jobc::process {

class TempDir {
 public:
  TempDir() {
    char name[] = "/tmp/jobc_process_test.XXXXXX";
    path_ = mkdtemp(name);
  }
  ~TempDir() { EXPECT_TRUE(RemoveTree(path_).ok()); }
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + '/' + name; }

 private:
  std::string path_;
};

/// Runs this test binary again as another user, by executing it anew, and returns how it ended (as waitpid() tells).
inline int RunAgainAsOrdinaryUser(const char* filter) {
  pid_t child = fork();
  if (child == 0) {
    // The report of this process is not the other one's to write.
    unsetenv("GTEST_OUTPUT");
    if (setgroups(0, nullptr) != 0 || setresgid(65534, 65534, 65534) != 0 || setresuid(65534, 65534, 65534) != 0) {
      _exit(99);
    }
    execl("/proc/self/exe", "again", filter, "--gtest_brief=1", nullptr);
    _exit(98);
  }
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  return status;
}

inline void WriteText(const std::string& path, const std::string& text, mode_t mode = 0644) {
  UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode));
  ASSERT_EQ(write(fd.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  fchmod(fd.get(), mode);
}

/// A named pipe through which processes that have nothing else in common tell the test something.
class Channel {
 public:
  explicit Channel(const std::string& path) : path_(path) {
    EXPECT_EQ(mkfifo(path.c_str(), 0666), 0);
    chmod(path.c_str(), 0666);
    fd_.Reset(open(path.c_str(), O_RDWR | O_CLOEXEC | O_NONBLOCK));
  }
  const std::string& path() const { return path_; }

  /// The next line, waited for.
  std::string Line(int timeout_ms = 20000) {
    for (int64_t deadline = MonotonicMillis() + timeout_ms;;) {
      size_t end = text_.find('\n');
      if (end != std::string::npos) {
        std::string line = text_.substr(0, end);
        text_.erase(0, end + 1);
        return line;
      }
      pollfd watch{fd_.get(), POLLIN, 0};
      if (MonotonicMillis() >= deadline || poll(&watch, 1, 1000) < 0) {
        ADD_FAILURE() << "nothing came through " << path_;
        return "";
      }
      char buffer[4096];
      ssize_t n = read(fd_.get(), buffer, sizeof buffer);
      text_.append(buffer, n > 0 ? static_cast<size_t>(n) : 0);
    }
  }
  pid_t Pid() { return atoi(Line().c_str()); }

 private:
  std::string path_;
  UniqueFd fd_;
  std::string text_;
};

/// Waits for the end of a process that is not our child (a zombie has ended).
class ProcessWatch {
 public:
  explicit ProcessWatch(pid_t pid) : fd_(static_cast<int>(syscall(SYS_pidfd_open, pid, 0))) {}
  bool found() const { return fd_.get() >= 0; }
  bool EndsWithin(int ms) {
    pollfd watch{fd_.get(), POLLIN, 0};
    return fd_.get() < 0 || poll(&watch, 1, ms) == 1;
  }

 private:
  UniqueFd fd_;
};

/// Of this process only: clean-up goes by it, and several tests may run at once.
inline std::string TestRunId() { return "test" + std::to_string(getpid()); }

/// Base environment of test jobs.
inline std::vector<std::string> TestEnv() {
  return {"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "JOB_RUN_ID=" + TestRunId()};
}

class Harness : public ProcessEvents {
 public:
  struct Seen {
    std::string events;  ///< "started exited reaped"
    ProcessStarted started;
    std::optional<SpawnFailure> failure;
    ProcessExit exit;
    LogWriter::Closed output;
    uint64_t next = 0;
    bool over() const { return failure || events.find("revoked") != std::string::npos || events.find("reaped") != std::string::npos; }
  };

  explicit Harness(const GuardianOptions& options = {}) {
    GuardianHandle guardian = std::move(LaunchGuardian(options).value());
    uv_loop_init(&loop_);
    log_ = std::move(LogWriter::Open(dir_.path()).value());
    client_ = std::move(
        ProcessClient::Create(&loop_, std::move(guardian), {TestRunId(), dir_ / "state"}, log_.get(), this).value());
    uv_timer_init(&loop_, &guard_);
    guard_.data = this;
    uv_timer_start(&guard_, [](uv_timer_t* timer) { static_cast<Harness*>(timer->data)->timed_out_ = true; }, 30000, 0);
    uv_unref(reinterpret_cast<uv_handle_t*>(&guard_));
  }
  ~Harness() override {
    client_.reset();
    uv_close(reinterpret_cast<uv_handle_t*>(&guard_), nullptr);
    while (uv_run(&loop_, UV_RUN_DEFAULT) != 0) {
    }
    EXPECT_EQ(uv_loop_close(&loop_), 0);
    EXPECT_TRUE(ReadLiveRuns(dir_ / "state").empty()) << "the record of the live run must be gone";
  }

  uint64_t Start(ProcessSpec spec) {
    uint64_t attempt = ++last_;
    if (spec.directory.empty()) {
      spec.directory = dir_.path();
    }
    if (spec.env.empty()) {
      spec.env = TestEnv();
    }
    client_->Start(attempt, spec);
    return attempt;
  }
  /// 0 if it was refused.
  uint64_t StartShellAfter(const std::string& script, uint64_t before, const std::vector<std::string>& unless = {}) {
    return StartAfter({"/bin/sh", "-c", script}, before, unless);
  }
  uint64_t StartAfter(std::vector<std::string> argv, uint64_t before, const std::vector<std::string>& unless = {}) {
    ProcessSpec spec;
    spec.argv = std::move(argv);
    spec.directory = dir_.path();
    spec.env = TestEnv();
    return client_->StartAfter(last_ + 1, spec, before, unless) ? ++last_ : 0;
  }
  uint64_t StartShell(const std::string& script, ProcessLimits limits = {}) {
    ProcessSpec spec;
    spec.argv = {"/bin/sh", "-c", script};
    spec.limits = limits;
    return Start(spec);
  }
  /// Turns the loop until `done()`; a failure after 30 s.
  void Until(const std::function<bool()>& done) {
    uv_ref(reinterpret_cast<uv_handle_t*>(&guard_));
    while (!done() && !timed_out_) {
      uv_run(&loop_, UV_RUN_ONCE);
    }
    uv_unref(reinterpret_cast<uv_handle_t*>(&guard_));
    ASSERT_FALSE(timed_out_) << "it did not come to pass within 30 s";
  }
  const Seen& Finish(uint64_t attempt) {
    Until([&] { return seen[attempt].over(); });
    return seen[attempt];
  }
  const Seen& Shell(const std::string& script, ProcessLimits limits = {}) { return Finish(StartShell(script, limits)); }
  const Seen& Run(std::vector<std::string> argv) {
    ProcessSpec spec;
    spec.argv = std::move(argv);
    return Finish(Start(spec));
  }

  std::string Text(uint64_t attempt, LogStream stream = LogStream::kStdout) {
    log_->Flush();
    LogReader reader = std::move(LogReader::Open(dir_.path()).value());
    std::string text;
    EXPECT_TRUE(reader.ForEach(attempt, stream, 0, [&](const LogReader::Chunk& chunk) {
      text.append(chunk.bytes);
      return true;
    }).ok());
    return text;
  }
  std::string LastText() { return Text(last_); }
  uint64_t last() const { return last_; }

  ProcessClient& client() { return *client_; }
  LogWriter& log() { return *log_; }
  const TempDir& dir() const { return dir_; }
  uv_loop_t* loop() { return &loop_; }

  std::map<uint64_t, Seen> seen;
  std::vector<uint64_t> lost;
  std::function<void(uint64_t)> on_reaped;

  void OnStarted(uint64_t attempt, const ProcessStarted& started) override {
    seen[attempt].events += "started ";
    seen[attempt].started = started;
  }
  void OnSpawnFailed(uint64_t attempt, const SpawnFailure& failure) override {
    seen[attempt].events += "failed ";
    seen[attempt].failure = failure;
  }
  void OnExited(uint64_t attempt, const ProcessExit& exit) override {
    seen[attempt].events += "exited ";
    seen[attempt].exit = exit;
  }
  void OnReaped(uint64_t attempt, const LogWriter::Closed& output, uint32_t left, uint64_t next) override {
    EXPECT_EQ(left, 0u);
    seen[attempt].events += "reaped ";
    seen[attempt].output = output;
    seen[attempt].next = next;
    if (on_reaped) {
      on_reaped(attempt);
    }
  }
  void OnRevoked(uint64_t attempt) override { seen[attempt].events += "revoked "; }
  void OnGuardianLost(const std::vector<uint64_t>& attempts) override { lost = attempts; }

 private:
  TempDir dir_;
  uv_loop_t loop_;
  uv_timer_t guard_;
  bool timed_out_ = false;
  std::unique_ptr<LogWriter> log_;
  std::unique_ptr<ProcessClient> client_;
  uint64_t last_ = 0;
};

/// How trees are ended: the two ways of guardian.h, each forced.
enum class Mode { kGroups, kShims };

inline std::string ModeName(const ::testing::TestParamInfo<Mode>& info) {
  return info.param == Mode::kGroups ? "ByControlGroups" : "ByShims";
}

inline GuardianOptions OptionsOf(Mode mode) {
  GuardianOptions options;
  options.use_cgroups = mode == Mode::kGroups;
  return options;
}

/// True, with the reason on stdout, if this machine lets this user make no control groups.
inline bool LacksGroups(Mode mode) {
  return mode == Mode::kGroups && FindCgroupPlaces().v2.empty();
}

}  // namespace jobc::process
