#include "backends/apptainer/apptainer_backend.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <unordered_map>

#include "backends/apptainer/command.h"
#include "backends/container/init.h"
#include "backends/process/process_backend.h"
#include "runtime/launch_options.h"
#include "runtime/process/os.h"

namespace jobc {
namespace {

constexpr std::string_view kEnvName = "env";

class ApptainerBackend : public Backend, private BackendEvents {
 public:
  explicit ApptainerBackend(const BackendHost& host) : host_(host) {}

  Result<void> Open() {
    if (auto tool = FindApptainer(""); !tool) {
      return tool.error();
    }
    auto init = container::InstallInit(host_.state_dir);
    if (!init) {
      return init.error();
    }
    init_ = *std::move(init);
    for (char** entry = environ; *entry != nullptr; ++entry) {
      environment_.emplace_back(*entry);
    }
    environment_ = apptainer::ToolEnvironment(environment_);
    BackendHost host = host_;
    host.events = this;
    auto processes = MakeProcessBackend(host);
    if (!processes) {
      return processes.error();
    }
    processes_ = *std::move(processes);
    return {};
  }

  Result<AttemptPlaces> Prepare(AttemptId id, bool secrets) override {
    auto places = processes_->Prepare(id, secrets);
    if (places) {
      places->seen.emplace();
      places->inputs = InputStaging::Mount;
    }
    return places;
  }

  void Submit(const AttemptLaunch& launch) override {
    Attempt attempt;
    attempt.launch = launch;
    auto tool = FindApptainer(TextOption(launch, "command"));
    auto made = tool ? apptainer::MakeCommand(launch, *tool, init_, fmt::format("{}/{}", launch.places.SeenStage(), kEnvName)) : Result<apptainer::Command>(tool.error());
    AttemptLaunch process = launch;
    if (made) {
      attempt.tool = *tool;
      process.argv = std::move(made->argv);
      if (auto written = WriteEnvironment(launch.places.stage_dir, made->program_env); !written) {
        made = written.error();
      }
    }
    if (!made) {
      attempt.refused = Failed(ir::ErrorKind::Submit, made.error().message);
      attempt.refused->no_retry = true;  // it would be the same again
      process.argv = {"/bin/true"};  // its answers come in order, as those of all others
    }
    process.env = environment_;
    attempts_[launch.id] = std::move(attempt);
    processes_->Submit(process);
  }

  void Cancel(AttemptId id, int64_t grace_ms) override { processes_->Cancel(id, grace_ms); }
  bool Withdraw(AttemptId id) override { return processes_->Withdraw(id); }
  void Attach(const AttemptLaunch& launch, const std::string&) override { host_.events->OnAttached(launch.id, AttachAnswer::Gone, ""); }
  void Release(AttemptId id, bool keep) override { processes_->Release(id, keep); }
  void RemoveLater(const std::string& path) override { processes_->RemoveLater(path); }
  uint64_t LastOutput(AttemptId id) const override { return processes_->LastOutput(id); }
  void Stop() override {
    if (processes_ != nullptr) {
      processes_->Stop();
    }
  }

 private:
  struct Attempt {
    AttemptLaunch launch;
    std::string tool;
    std::optional<Verdict> refused;
  };

  /// Of this user alone: it may hold secrets.
  static Result<void> WriteEnvironment(const std::string& stage_dir, std::string_view text) {
    const std::string path = fmt::format("{}/{}", stage_dir, kEnvName);
    process::UniqueFd fd(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!fd) {
      return process::SystemError("cannot create `" + path + "`", errno);
    }
    while (!text.empty()) {
      const ssize_t count = write(fd.get(), text.data(), text.size());
      if (count < 0 && errno != EINTR) {
        return process::SystemError("cannot write `" + path + "`", errno);
      }
      text.remove_prefix(count > 0 ? static_cast<size_t>(count) : 0);
    }
    return {};
  }

  // -- What the process backend says ---------------------------------------------

  void OnSubmitted(AttemptId id, const std::string& handle) override { host_.events->OnSubmitted(id, handle); }

  void OnStarted(AttemptId id, int64_t wall_ms, int64_t pid, const std::string& handle) override {
    auto found = attempts_.find(id);
    if (found != attempts_.end() && !found->second.refused) {
      host_.events->OnStarted(id, wall_ms, pid, handle);
    }
  }

  void OnExited(AttemptId id, const AttemptExit& exit) override {
    auto found = attempts_.find(id);
    if (found == attempts_.end()) {
      return;
    }
    const Attempt& attempt = found->second;
    if (attempt.refused) {
      return host_.events->OnFailed(id, *attempt.refused);
    }
    const std::optional<container::InitEnd> end = container::ReadInitEnd(attempt.launch.places);
    if (!end) {
      if (exit.signal || exit.out_of_memory) {
        return host_.events->OnExited(id, exit);  // it was killed, with its init
      }
      return host_.events->OnFailed(id, apptainer::FailureOf(attempt.tool, exit.exit_code.value_or(-1), attempt.launch.image, host_.log->LastLine(id, process::LogStream::kStderr)));
    }
    if (end->start_error != 0) {
      const std::string program = attempt.launch.image_args ? "the image's ENTRYPOINT" : attempt.launch.argv.empty() ? std::string() : attempt.launch.argv.front();
      return host_.events->OnFailed(id, container::StartVerdict(end->start_error, program, "the image " + attempt.launch.image));
    }
    // The tool hands signals on as exit codes; init saw them.
    AttemptExit truly = exit;
    truly.exit_code = end->exit.exit_code;
    truly.signal = end->exit.signal;
    host_.events->OnExited(id, truly);
  }

  void OnFailed(AttemptId id, Verdict verdict) override { host_.events->OnFailed(id, std::move(verdict)); }

  void OnReaped(AttemptId id, AttemptId next) override {
    if (auto found = attempts_.find(id); found != attempts_.end()) {
      unlink(fmt::format("{}/{}", found->second.launch.places.stage_dir, kEnvName).c_str());
      attempts_.erase(found);
    }
    host_.events->OnReaped(id, next);
  }

  void OnRevoked(AttemptId id) override { host_.events->OnRevoked(id); }
  void OnNote(ir::BackendKind, std::string message) override { host_.events->OnNote(ir::BackendKind::Apptainer, std::move(message)); }
  void OnWarning(ir::BackendKind, std::string message) override { host_.events->OnWarning(ir::BackendKind::Apptainer, std::move(message)); }
  void OnUnavailable(ir::BackendKind, std::string message) override { host_.events->OnUnavailable(ir::BackendKind::Apptainer, std::move(message)); }

  BackendHost host_;
  std::string init_;
  std::vector<std::string> environment_;  ///< of the tool
  std::unordered_map<AttemptId, Attempt> attempts_;
  std::unique_ptr<Backend> processes_;
};

}  // namespace

Result<std::string> FindApptainer(const std::string& command) {
  const char* set = std::getenv("PATH");
  const std::string path = set != nullptr ? set : "/usr/local/bin:/usr/bin:/bin";
  for (const std::string& name : command.empty() ? std::vector<std::string>{"apptainer", "singularity"} : std::vector<std::string>{command}) {
    for (size_t begin = 0; begin <= path.size();) {
      const size_t end = std::min(path.find(':', begin), path.size());
      const std::string file = path.substr(begin, end - begin) + "/" + name;
      struct stat info;
      if (file[0] == '/' && stat(file.c_str(), &info) == 0 && S_ISREG(info.st_mode) && access(file.c_str(), X_OK) == 0) {
        return file;
      }
      begin = end + 1;
    }
  }
  return Error{fmt::format("{} found on PATH ({}); it is no package of Debian 12: see https://apptainer.org/docs/admin/main/installation.html, or run the images with docker or podman",
                           command.empty() ? "neither `apptainer` nor `singularity` was" : "`" + command + "` was not", path), ENOENT};
}

Result<std::unique_ptr<Backend>> MakeApptainerBackend(const BackendHost& host) {
  auto backend = std::make_unique<ApptainerBackend>(host);
  if (auto opened = backend->Open(); !opened) {
    return opened.error();
  }
  return std::unique_ptr<Backend>(std::move(backend));
}

}  // namespace jobc
