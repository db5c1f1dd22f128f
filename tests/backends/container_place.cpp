// The places `docker` and `podman`: engines that the tests have started (tests/services/daemons.py), named in the file of
// JOBC_SERVICES; `far=…` there says that they do not see this machine's files. What the suite itself wants to know of them it asks over their API.
#include <cstdlib>
#include <fstream>
#include <map>

#include "backends/docker/docker_backend.h"
#include "backends/docker/endpoint.h"
#include "backends/docker/engine_api.h"
#include "backends/docker/tar.h"
#include "ir/json.h"
#include "runtime/http_client.h"
#include "runtime/process/os.h"
#include "tests/backends/place.h"

namespace jobc::conformance {
namespace {

/// `name=value` lines; empty where there is no file.
std::map<std::string, std::string> Services() {
  std::map<std::string, std::string> out;
  const char* path = std::getenv("JOBC_SERVICES");
  std::ifstream file(path != nullptr ? path : "");
  for (std::string line; std::getline(file, line);) {
    if (const size_t equals = line.find('='); equals != std::string::npos) {
      out[line.substr(0, equals)] = line.substr(equals + 1);
    }
  }
  return out;
}

class ContainerPlace : public Place {
 public:
  explicit ContainerPlace(ir::BackendKind kind) : kind_(kind), services_(Services()) {
    if (Missing().empty()) {
      const std::string name(ir::BackendName(kind_));
      setenv(kind_ == ir::BackendKind::Docker ? "DOCKER_HOST" : "CONTAINER_HOST", services_[name].c_str(), 1);
      endpoint_ = docker::FindEndpoint(kind_, services_[name], "", docker::Surroundings::Real()).value();
    }
  }

  std::string Missing() override {
    const std::string name(ir::BackendName(kind_));
    if (services_.contains(name)) {
      return "";
    }
    const auto why = services_.find(name + "-missing");
    return why != services_.end() ? why->second : "no engine was started: python3 tests/services/daemons.py start FILE, and JOBC_SERVICES=FILE";
  }

  Traits traits() const override {
    Traits out;
    out.survives = true;
    out.remembers = true;
    out.costly = true;
    out.far = IsFar();
    out.processes = out.secret_files = !out.far;  // no pipe between here and there; and secret files are not copied
    const std::string version = Ask("GET", "/version"), libpod = docker::LibpodInfoPath(version);
    out.limits_memory = docker::ParseFacts(version, Ask("GET", "/info"), libpod.empty() ? "" : Ask("GET", libpod, "")).value().limits_memory;
    out.adds = {"PATH", "HOSTNAME", "HOME", "TERM", "container"};
    return out;
  }

  Result<std::unique_ptr<Backend>> Make(const BackendHost& host) override { return MakeDockerBackend(kind_, host); }

  void Fit(AttemptLaunch& launch, const Program& program) override {
    launch.argv = ShellCommand(program, [&](Where where) { return SeenAs(launch.places, where); });
    launch.image = services_["image-busybox"];
    launch.options = {{"network", ir::Value::String("none")}};
  }

  bool Has(const AttemptLaunch& launch, const std::string& name) override {
    if (!IsFar() || Place::Has(launch, name)) return Place::Has(launch, name);
    return Status("HEAD", Archive(launch, SeenPlaces().output_dir + "/" + name)) == 200;
  }
  void Put(const AttemptLaunch& launch, const std::string& name) override {
    Place::Put(launch, name);  // it goes there with the others if it is early enough
    if (!IsFar()) return;
    docker::TarMaker maker({{launch.places.output_dir + "/" + name, name}}, 0, 0);
    std::string archive(1 << 16, '\0');
    archive.resize(maker.Read(archive.data(), archive.size()).value());
    Status("PUT", Archive(launch, SeenPlaces().output_dir), archive);
  }

  /// Somebody removes the container.
  bool Lose(AttemptId, int64_t, const std::string& handle) override {
    Ask("DELETE", "/containers/" + handle.substr(0, handle.find(' ')) + "?force=1&v=1");
    return true;
  }

  /// Containers; those that the engine is removing are waited for.
  std::vector<std::string> Remains(const std::string& run_id) override {
    for (int64_t end = process::MonotonicMillis() + 10'000;;) {
      std::vector<std::string> out;
      bool removing = true;
      const std::string answer = Ask("GET", docker::ApiPath("/containers/json", {{"all", "1"}, {"filters", docker::RunFilter(run_id, false)}}));
      for (const docker::ContainerState& one : docker::ParseContainers(answer).value_or(std::vector<docker::ContainerState>())) {
        out.push_back("container " + one.attempt + " (" + one.status + ")");
        removing = removing && one.status == "removing";
      }
      if (out.empty() || !removing || process::MonotonicMillis() > end) return out;
    }
  }

 private:
  bool IsFar() const { return services_.contains("far"); }

  static std::string Archive(const AttemptLaunch& launch, const std::string& path) {
    return docker::ApiPath("/containers/" + docker::ContainerName(launch.execution_id) + "/archive", {{"path", path}});
  }

  /// 0: no answer.
  int Status(const std::string& method, const std::string& path, const std::string& archive = "") const {
    HttpRequest request;
    request.method = method;
    request.url = endpoint_.base_url + "/v1.41" + path;
    request.unix_socket = endpoint_.unix_socket;
    request.total_ms = 30'000;
    request.body = archive;
    request.headers = {"Content-Type: application/x-tar"};
    auto answer = FetchNow(std::move(request), 8 << 20);
    return answer ? answer->head.status : 0;
  }

  std::string Ask(const std::string& method, const std::string& path, const std::string& api = "/v1.41") const {
    HttpRequest request;
    request.method = method;
    request.url = endpoint_.base_url + api + path;
    request.unix_socket = endpoint_.unix_socket;
    request.total_ms = 30'000;
    auto answer = FetchNow(std::move(request), 8 << 20);
    return answer ? answer->body : "";
  }

  ir::BackendKind kind_;
  std::map<std::string, std::string> services_;
  docker::Endpoint endpoint_;
};

}  // namespace

std::unique_ptr<Place> MakeDockerPlace() { return std::make_unique<ContainerPlace>(ir::BackendKind::Docker); }
std::unique_ptr<Place> MakePodmanPlace() { return std::make_unique<ContainerPlace>(ir::BackendKind::Podman); }

}  // namespace jobc::conformance
