#include "compiler/driver/doctor_backends.h"

#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fmt/format.h>
#include <fstream>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backends/docker/endpoint.h"
#include "backends/docker/engine_api.h"
#include "backends/registry.h"
#include "compiler/check/schema.h"
#include "ir/json.h"
#include "runtime/http_client.h"
#include "runtime/process/os.h"

extern char** environ;

namespace jobc {
namespace {

/// The first line that a program prints within three seconds; empty if there is none.
std::string FirstLine(std::vector<std::string> words) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    return "";
  }
  process::UniqueFd in(ends[0]), out(ends[1]);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out.get(), 1);
  posix_spawn_file_actions_adddup2(&actions, out.get(), 2);
  std::vector<char*> argv;
  for (std::string& word : words) {
    argv.push_back(word.data());
  }
  argv.push_back(nullptr);
  pid_t pid = 0;
  const int failed = posix_spawn(&pid, words[0].c_str(), &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  out.Reset();
  if (failed != 0) {
    return "";
  }
  std::string text;
  for (const int64_t deadline = process::MonotonicMillis() + 3000;;) {
    pollfd watch{in.get(), POLLIN, 0};
    const int64_t left = deadline - process::MonotonicMillis();
    char buffer[4096];
    if (left <= 0 || text.size() > (1 << 16) || poll(&watch, 1, static_cast<int>(left)) <= 0) {
      break;
    }
    const ssize_t n = read(in.get(), buffer, sizeof buffer);
    if (n <= 0) {
      break;
    }
    text.append(buffer, static_cast<size_t>(n));
  }
  kill(pid, SIGKILL);
  int status = 0;
  waitpid(pid, &status, 0);
  return text.substr(0, text.find('\n'));
}

/// `20.10.24` out of `Docker version 20.10.24, build 297e128`.
std::string VersionIn(const std::string& line) {
  for (size_t at = 0; at < line.size(); ++at) {
    if (line[at] >= '0' && line[at] <= '9') {
      const size_t end = line.find_first_of(" ,\t", at);
      return line.substr(at, end - at);
    }
  }
  return "";
}

// ---- container engines ----

const ir::Value* At(const ir::Value& object, std::string_view name) { return object.kind() == ir::ValueKind::Map ? object.Find(name) : nullptr; }

std::string TextAt(const ir::Value& object, std::string_view name) {
  const ir::Value* value = At(object, name);
  return value != nullptr && value->kind() == ir::ValueKind::String ? value->as_string() : "";
}

bool TrueAt(const ir::Value& object, std::string_view name) {
  const ir::Value* value = At(object, name);
  return value != nullptr && value->kind() == ir::ValueKind::Bool && value->as_bool();
}

/// Whether /etc/subuid and /etc/subgid have a range for this user, which rootless containers need.
std::string MissingSubordinateIds() {
  const passwd* user = getpwuid(geteuid());
  const std::string name = user != nullptr ? user->pw_name : std::to_string(geteuid());
  for (const char* path : {"/etc/subuid", "/etc/subgid"}) {
    std::ifstream file(path);
    bool found = false;
    for (std::string line; std::getline(file, line);) {
      found |= line.rfind(name + ":", 0) == 0 || line.rfind(std::to_string(geteuid()) + ":", 0) == 0;
    }
    if (!found) {
      return fmt::format("{} has no range for {}", path, name);
    }
  }
  return "";
}

Result<ir::Value> Ask(const docker::Endpoint& endpoint, const std::string& path, HttpEnd* end, std::string* text = nullptr) {
  HttpRequest request;
  request.url = endpoint.base_url + path;
  request.unix_socket = endpoint.unix_socket;
  request.tls = endpoint.tls;
  request.connect_ms = 3000;
  request.total_ms = 10'000;
  auto answer = FetchNow(std::move(request), 8 << 20, end);
  if (!answer) {
    return answer.error();
  }
  if (answer->head.status != 200) {
    if (auto tls = docker::TlsTrouble(endpoint, *end, answer->body)) {
      *end = {HttpFailure::Tls, tls->what, 0};
      return Error{tls->help};
    }
    return Error{fmt::format("GET {} was answered with {}", path, answer->head.status)};
  }
  if (text != nullptr) {
    *text = answer->body;
  }
  return ir::ParseJson(answer->body);
}

BackendReport ExamineEngine(ir::BackendKind kind) {
  const bool podman = kind == ir::BackendKind::Podman;
  const std::string area(ir::BackendName(kind));
  BackendReport out;
  out.kind = kind;
  out.built = IsBuilt(kind);
  const std::string program = FindProgram(podman ? "podman" : "dockerd");
  const std::string install = podman ? "apt-get install --no-install-recommends podman" : "apt-get install --no-install-recommends docker.io";
  const docker::Surroundings surroundings = docker::Surroundings::Real();
  const auto missing = [&](const std::string& text, const std::string& help) {
    out.summary = text;
    out.help = help;
    out.details.push_back({area, "engine", false, true, text, help});
    return out;
  };
  const auto endpoint = docker::OpenEndpoint(kind, "", "", surroundings);
  if (!endpoint) {
    return missing(endpoint.error().message, "");
  }
  HttpEnd end;
  std::string version_text, info_text, libpod_text;
  const auto version = Ask(*endpoint, "/version", &end, &version_text);
  if (!version) {
    const std::string where = endpoint->text + (endpoint->origin.empty() ? "" : fmt::format(" (from {})", endpoint->origin));
    // Nobody said where it is, and the program is not here either: it is not installed.
    if (endpoint->origin.empty() && program.empty() && end.failure == HttpFailure::Connect) {
      return missing(fmt::format("{} is not installed, and nobody answers at {}", podman ? "podman" : "the docker engine", where), install);
    }
    if (const auto tls = docker::TlsTrouble(*endpoint, end)) {
      return missing(fmt::format("no answer at {}: {}", where, tls->what), tls->help);
    }
    if (end.failure == HttpFailure::Tls) {
      return missing(fmt::format("no answer at {}: {}", where, end.message), version.error().message);
    }
    if (end.ok()) {
      return missing(fmt::format("what answers at {} is no container engine: {}", where, version.error().message), "");
    }
    const bool root = geteuid() == 0, systemd = access("/run/systemd/system", F_OK) == 0;
    std::string help;
    if (end.failure == HttpFailure::Permission) {
      help = podman ? "use your own service:  systemctl --user start podman.socket" : "sudo usermod -aG docker $USER, then log in again; or use `podman`, which needs no rights";
    } else if (!endpoint->origin.empty()) {
      help = fmt::format("{} says where it is; without that jobc looks at the usual place", endpoint->origin);
    } else if (podman) {
      help = systemd ? (root ? "systemctl start podman.socket" : "systemctl --user start podman.socket") : fmt::format("podman system service -t 0 {} &", endpoint->text);
    } else {
      help = fmt::format("{}{}, or say in DOCKER_HOST where it is", root ? "" : "sudo ", systemd ? "systemctl start docker" : "dockerd &");
    }
    return missing(fmt::format("no answer at {}: {}", where, end.message.empty() ? version.error().message : end.message), help);
  }
  const auto info = Ask(*endpoint, "/info", &end, &info_text);
  if (const std::string path = docker::LibpodInfoPath(version_text); !path.empty()) {
    (void)Ask(*endpoint, path, &end, &libpod_text);
  }
  const auto able = docker::ParseFacts(version_text, info_text, libpod_text);
  const docker::EngineFacts limits = able ? *able : docker::EngineFacts();
  const ir::Value none;
  const ir::Value& facts = info ? *info : none;
  out.version = TextAt(*version, "Version");
  out.usable = out.built;
  const bool rootless = limits.rootless;
  out.details.push_back({area, "engine", true, true, fmt::format("{} (API {}) at {}{}", out.version, TextAt(*version, "ApiVersion"), endpoint->text, endpoint->origin.empty() ? "" : fmt::format(", from {}", endpoint->origin)), ""});
  if (!info) {
    out.details.push_back({area, "facts", false, true, "it does not say what it can: " + info.error().message, ""});
  }
  std::string enforced, open;
  for (const auto& [name, holds] : {std::pair<const char*, bool>{"memory", limits.limits_memory}, {"cpu", limits.limits_cpu}, {"process", limits.limits_pids}}) {
    const bool is = holds && info;
    const bool memory = std::string_view(name) == "memory";
    out.details.push_back({area, fmt::format("{} limit", name), is, false,
                           is ? (memory ? "enforced, `oom` is detected" : "enforced") : !info ? "not known" : fmt::format("not enforced: {}. A run that asks for it is refused, unless its backend says `limits = available`", limits.no_limits),
                           is || !info ? "" : limits.enable_limits});
    (is ? enforced : open) += std::string((is ? enforced : open).empty() ? "" : ", ") + name;
  }
  out.details.push_back({area, "user", true, true, rootless ? "rootless: root in a container is the user of the engine" : limits.remapped ? "userns-remap: jobc asks for containers without it, so that outputs belong to the caller" : "root in a container is root of its machine, unless `user` says otherwise", ""});
  if (podman && geteuid() != 0) {
    const std::string lacks = MissingSubordinateIds();
    out.details.push_back({area, "subordinate ids", lacks.empty(), false, lacks.empty() ? "there" : lacks + ": only images of one user can be run", lacks.empty() ? "" : "sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 $USER"});
  }
  if (const std::string driver = TextAt(facts, "Driver"); !driver.empty()) {
    out.details.push_back({area, "storage", true, true, fmt::format("{}{}", driver, driver == "vfs" ? ": each container copies its whole image" : ""), ""});
  }
  if (podman) {
    out.details.push_back({area, "gpu", false, false, "not given by podman's service: a job that asks for them fails", "use `docker`, or name the device:  options = { Devices = [{ PathOnHost = \"/dev/nvidia0\" }] }"});
  } else if (info) {
    const ir::Value* runtimes = At(facts, "Runtimes");
    const bool there = runtimes != nullptr && At(*runtimes, "nvidia") != nullptr;
    out.details.push_back({area, "gpu", there, false, there ? "the runtime `nvidia` is there" : "no runtime `nvidia`: a job that asks for them fails", there ? "" : "install nvidia-container-toolkit, then  nvidia-ctk runtime configure --runtime=docker"});
  }
  if (!podman && info) {
    const bool live = TrueAt(facts, "LiveRestoreEnabled");
    out.details.push_back({area, "restart of the engine", live, false, live ? "containers go on (live-restore)" : "ends all containers: such attempts are `node_lost`", live ? "" : "\"live-restore\": true in /etc/docker/daemon.json"});
  }
  out.summary = fmt::format("{} at {}{}{}{}", out.version, endpoint->text, rootless ? ", rootless" : "", enforced.empty() ? "" : "; enforces limits of " + enforced, open.empty() ? "" : (info ? "; not of " + open : ""));
  if (!out.built) {
    out.summary += "; this version of jobc only checks and plans for it";
  }
  return out;
}

// ---- what is a program, or an account ----

struct Tool {
  std::vector<const char*> programs;   ///< all are needed, unless `any`
  bool any;                            ///< one of them is enough
  const char* option;                  ///< prints the version; empty: none does
  const char* how;                     ///< to get them
};

Tool ToolOf(ir::BackendKind kind) {
  switch (kind) {
    case ir::BackendKind::Apptainer: return {{"apptainer", "singularity"}, true, "--version", "Debian 12 has no package: https://apptainer.org/docs/admin/latest/installation.html"};
    case ir::BackendKind::Ssh: return {{"ssh"}, false, "-V", "apt-get install --no-install-recommends openssh-client"};
    case ir::BackendKind::Slurm: return {{"sbatch", "squeue", "scancel"}, false, "--version", "apt-get install --no-install-recommends slurm-client"};
    case ir::BackendKind::Sge: return {{"qsub", "qstat", "qdel"}, false, "-help", "apt-get install --no-install-recommends gridengine-client"};
    case ir::BackendKind::Flux: return {{"flux"}, false, "--version", "Debian 12 has no package: https://flux-framework.readthedocs.io"};
    default: return {{}, false, "", ""};
  }
}

std::string WhereCredentialsAre() {
  const char* named = getenv("GOOGLE_APPLICATION_CREDENTIALS");
  if (named != nullptr && *named != 0) {
    return access(named, R_OK) == 0 ? named : "";
  }
  const char* home = getenv("HOME");
  const std::string usual = std::string(home != nullptr ? home : "") + "/.config/gcloud/application_default_credentials.json";
  return access(usual.c_str(), R_OK) == 0 ? usual : "";
}

BackendReport ExamineTool(ir::BackendKind kind) {
  const std::string area(ir::BackendName(kind));
  BackendReport out;
  out.kind = kind;
  out.built = IsBuilt(kind);
  bool there = true;
  std::string text;
  const Tool tool = ToolOf(kind);
  if (tool.programs.empty()) {
    const std::string credentials = WhereCredentialsAre();
    there = !credentials.empty();
    const char* named = getenv("GOOGLE_APPLICATION_CREDENTIALS");
    text = there ? "credentials in " + credentials : named != nullptr && *named != 0 ? fmt::format("GOOGLE_APPLICATION_CREDENTIALS names `{}`, which cannot be read", named) : "no credentials of this user";
    out.help = there ? "" : "gcloud auth application-default login, or GOOGLE_APPLICATION_CREDENTIALS=FILE.json";
    out.details.push_back({area, "credentials", there, true, text, out.help});
  } else {
    std::string first, lacks;
    for (const char* program : tool.programs) {
      const std::string path = FindProgram(program);
      if (path.empty()) {
        lacks += fmt::format("{}`{}`", lacks.empty() ? "" : tool.any ? " nor " : ", ", program);
      } else if (first.empty()) {
        first = path;
      }
    }
    there = tool.any ? !first.empty() : lacks.empty();
    if (there) {
      out.version = VersionIn(FirstLine({first, tool.option}));
      text = (out.version.empty() ? "" : out.version + ", ") + first;
    } else {
      text = tool.any ? "neither " + lacks + " is installed" : fmt::format("{} {} not installed", lacks, lacks.find(',') == std::string::npos ? "is" : "are");
      out.help = tool.how;
    }
    out.details.push_back({area, "programs", there, true, text, out.help});
  }
  out.usable = out.built && there;
  if (!out.built) {
    // How to get the tool would not help: what is missing is in jobc.
    out.details.insert(out.details.begin(), {area, "jobc", false, true, "this version of jobc checks files and makes plans for it, but cannot run on it", "choose a profile that uses another backend"});
    out.summary = fmt::format("not in this version of jobc, which only checks and plans for it ({})", text);
    out.help.clear();
  } else {
    out.summary = text;
  }
  return out;
}

}  // namespace

std::string FindProgram(const std::string& name) {
  std::string path = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
  if (const char* own = getenv("PATH")) {
    path += std::string(":") + own;
  }
  for (size_t at = 0; at <= path.size();) {
    const size_t end = std::min(path.find(':', at), path.size());
    const std::string file = path.substr(at, end - at) + "/" + name;
    if (end > at && access(file.c_str(), X_OK) == 0) {
      return file;
    }
    at = end + 1;
  }
  return "";
}

BackendReport ExamineBackend(ir::BackendKind kind) {
  return kind == ir::BackendKind::Docker || kind == ir::BackendKind::Podman ? ExamineEngine(kind) : ExamineTool(kind);
}

}  // namespace jobc
