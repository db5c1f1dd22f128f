#include "backends/docker/endpoint.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "runtime/process/os.h"
#include "support/sha256.h"

namespace jobc::docker {
namespace {

using Json = nlohmann::json;

std::string Member(const Json& object, const char* name) {
  if (!object.is_object()) return "";
  auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

/// Of an address as DOCKER_HOST has it.
Result<Endpoint> FromAddress(std::string address, std::string origin, HttpTls tls, bool use_tls) {
  Endpoint out;
  out.origin = std::move(origin);
  if (address.starts_with("/")) address = "unix://" + address;
  out.text = address;
  const size_t at = address.find("://");
  const std::string scheme = at == std::string::npos ? "tcp" : address.substr(0, at);
  std::string rest = at == std::string::npos ? address : address.substr(at + 3);
  if (scheme == "unix") {
    if (!rest.starts_with("/")) return Error{fmt::format("{} names `{}`: a socket is `unix:///PATH`", out.origin, out.text)};
    if (rest.size() > 107) return Error{fmt::format("{} names `{}`: the path of a socket has at most 107 bytes", out.origin, out.text)};
    out.unix_socket = rest;
    out.base_url = "http://engine";
    return out;
  }
  if (scheme == "tcp" || scheme == "http" || scheme == "https") {
    while (rest.ends_with("/")) rest.pop_back();
    if (rest.empty()) return Error{fmt::format("{} names `{}`, which has no host", out.origin, out.text)};
    const bool secure = use_tls || scheme == "https";
    const size_t bracket = rest.rfind(']');
    if (rest.find(':', bracket == std::string::npos ? 0 : bracket) == std::string::npos && rest.find('/') == std::string::npos) rest += secure ? ":2376" : ":2375";
    out.base_url = (secure ? "https://" : "http://") + rest;
    if (secure) out.tls = std::move(tls);
    return out;
  }
  if (scheme == "ssh") {
    return Error{fmt::format("{} names `{}`: jobc does not reach an engine by ssh. Type:  ssh -nNT -L /tmp/engine.sock:/var/run/docker.sock {} &  and set DOCKER_HOST=unix:///tmp/engine.sock",
                             out.origin, out.text, rest)};
  }
  return Error{fmt::format("{} names `{}`: known are unix://, tcp://, http:// and https://", out.origin, out.text)};
}

HttpTls CertificatesIn(const std::string& dir, const Surroundings& surroundings, bool verify) {
  HttpTls tls;
  auto file = [&](const char* name) { return surroundings.read(dir + "/" + name) ? dir + "/" + name : std::string(); };
  tls.ca = file("ca.pem");
  tls.cert = file("cert.pem");
  tls.key = file("key.pem");
  tls.verify = verify;
  return tls;
}

Result<Endpoint> FromContext(const std::string& name, const std::string& origin, const Surroundings& surroundings) {
  const std::string dir = surroundings.DockerConfig() + "/contexts";
  const std::string digest = Sha256Hex(name);
  auto text = surroundings.read(dir + "/meta/" + digest + "/meta.json");
  if (!text) return Error{fmt::format("{} chooses the context `{}`, which is not there; see `docker context ls`", origin, name)};
  const Json meta = Json::parse(*text, nullptr, false);
  const Json endpoints = meta.is_object() && meta.contains("Endpoints") ? meta["Endpoints"] : Json();
  const Json engine = endpoints.is_object() && endpoints.contains("docker") ? endpoints["docker"] : Json();
  const std::string host = Member(engine, "Host");
  if (host.empty()) return Error{fmt::format("the context `{}` names no docker host; see `docker context inspect {}`", name, name)};
  const bool skip = engine.contains("SkipTLSVerify") && engine["SkipTLSVerify"].is_boolean() && engine["SkipTLSVerify"].get<bool>();
  HttpTls tls = CertificatesIn(dir + "/tls/" + digest + "/docker", surroundings, !skip);
  return FromAddress(host, fmt::format("the context `{}`", name), tls, skip || !tls.ca.empty() || !tls.cert.empty());
}

}  // namespace

Surroundings Surroundings::Real() {
  Surroundings out;
  out.env = [](const std::string& name) -> std::optional<std::string> {
    const char* value = std::getenv(name.c_str());
    return value != nullptr && *value != '\0' ? std::optional<std::string>(value) : std::nullopt;
  };
  out.read = [](const std::string& path) { return process::ReadFile(path); };
  out.uid = geteuid();
  return out;
}

std::string Surroundings::Home() const { return env("HOME").value_or(uid == 0 ? "/root" : "/"); }
std::string Surroundings::DockerConfig() const { return env("DOCKER_CONFIG").value_or(Home() + "/.docker"); }
std::string Surroundings::RuntimeDir() const { return env("XDG_RUNTIME_DIR").value_or(fmt::format("/run/user/{}", uid)); }

Result<Endpoint> FindEndpoint(ir::BackendKind kind, const std::string& host, const std::string& context, const Surroundings& surroundings) {
  auto from_docker_env = [&]() {
    const bool verify = surroundings.env("DOCKER_TLS_VERIFY").has_value();
    return CertificatesIn(surroundings.env("DOCKER_CERT_PATH").value_or(surroundings.DockerConfig()), surroundings, verify);
  };
  const bool docker_tls = surroundings.env("DOCKER_TLS_VERIFY").has_value() || surroundings.env("DOCKER_TLS").has_value();
  if (!host.empty()) return FromAddress(host, "the option `host`", from_docker_env(), docker_tls);
  if (kind == ir::BackendKind::Podman) {
    if (auto address = surroundings.env("CONTAINER_HOST")) return FromAddress(*address, "`CONTAINER_HOST`", {}, false);
    return FromAddress((surroundings.uid == 0 ? std::string("unix:///run") : "unix://" + surroundings.RuntimeDir()) + "/podman/podman.sock", "", {}, false);
  }
  if (!context.empty() && context != "default") return FromContext(context, "the option `context`", surroundings);
  if (context.empty()) {
    if (auto address = surroundings.env("DOCKER_HOST")) return FromAddress(*address, "`DOCKER_HOST`", from_docker_env(), docker_tls);
    if (auto name = surroundings.env("DOCKER_CONTEXT")) {
      if (*name != "default") return FromContext(*name, "`DOCKER_CONTEXT`", surroundings);
    } else if (auto config = surroundings.read(surroundings.DockerConfig() + "/config.json")) {
      const std::string current = Member(Json::parse(*config, nullptr, false), "currentContext");
      if (!current.empty() && current != "default") return FromContext(current, surroundings.DockerConfig() + "/config.json", surroundings);
    }
  }
  return FromAddress("unix:///var/run/docker.sock", "", {}, false);
}

std::string NoEngineMessage(ir::BackendKind kind, const Endpoint& endpoint, const HttpEnd& end, const Surroundings& surroundings) {
  const bool podman = kind == ir::BackendKind::Podman;
  const std::string_view name = ir::BackendName(kind);
  std::string out = fmt::format("no {} at {}{}: {}", podman ? "podman service" : "docker engine", endpoint.text,
                                endpoint.origin.empty() ? "" : fmt::format(" (from {})", endpoint.origin), end.message);
  if (end.failure == HttpFailure::Permission) {
    out += podman ? ". This user may not use that socket; use your own service:  systemctl --user start podman.socket"
                  : ". This user may not use the socket; type  sudo usermod -aG docker $USER  and log in again, or use `podman`";
    return out;
  }
  if (end.failure == HttpFailure::Connect && !endpoint.unix_socket.empty()) {
    if (podman) {
      out += fmt::format(". Start it with  {}  or  podman system service -t 0 {} &", surroundings.uid == 0 ? "systemctl start podman.socket" : "systemctl --user start podman.socket", endpoint.text);
    } else {
      out += fmt::format(". Start it with  {}systemctl start docker  or say in DOCKER_HOST where it is", surroundings.uid == 0 ? "" : "sudo ");
    }
  } else if (end.failure == HttpFailure::Tls || end.failure == HttpFailure::Cut) {
    out += podman ? "" : ". Certificates are taken from the context, or with DOCKER_TLS_VERIFY=1 from DOCKER_CERT_PATH";
  }
  return out + fmt::format(". `jobc doctor` shows what is there; a profile that uses `process` needs no {}", name);
}

}  // namespace jobc::docker
