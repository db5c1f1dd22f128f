// The place `process`: this machine.
#include <csignal>
#include <dirent.h>
#include <fstream>
#include <sstream>
#include <unistd.h>

#include "backends/process/process_backend.h"
#include "runtime/process/cgroup.h"
#include "tests/backends/place.h"

namespace jobc::conformance {
namespace {

std::string ReadProc(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

class ProcessPlace : public Place {
 public:
  Traits traits() const override { return {.limits_memory = process::ProbeEnforcement().memory}; }
  Result<std::unique_ptr<Backend>> Make(const BackendHost& host) override { return MakeProcessBackend(host); }

  void Fit(AttemptLaunch& launch, const Program& program) override {
    launch.argv = ShellCommand(program, [&](Where where) { return SeenAs(launch.places, where); });
  }

  /// Its supervisor is killed from outside.
  bool Lose(AttemptId, int64_t pid, const std::string&) override {
    const std::string stat = ReadProc("/proc/" + std::to_string(pid) + "/stat");
    const size_t end = stat.rfind(')');
    if (end == std::string::npos) {
      return false;
    }
    int parent = 0;
    char state = 0;
    std::istringstream(stat.substr(end + 1)) >> state >> parent;
    return parent > 1 && kill(parent, SIGKILL) == 0;
  }

  std::vector<std::string> Remains(const std::string& run_id) override {
    std::vector<std::string> out;
    DIR* proc = opendir("/proc");
    while (const dirent* entry = readdir(proc)) {
      const std::string name = entry->d_name;
      if (name.find_first_not_of("0123456789") != std::string::npos) {
        continue;
      }
      const std::string environment = '\0' + ReadProc("/proc/" + name + "/environ");
      if (environment.find(std::string(1, '\0') + "JOB_RUN_ID=" + run_id + '\0') != std::string::npos) {
        const std::string stat = ReadProc("/proc/" + name + "/stat");
        if (stat.find(") Z ") == std::string::npos) {
          out.push_back("process " + stat.substr(0, stat.find(") ") + 1));
        }
      }
    }
    closedir(proc);
    return out;
  }
};

}  // namespace

std::unique_ptr<Place> MakeProcessPlace() { return std::make_unique<ProcessPlace>(); }

}  // namespace jobc::conformance
