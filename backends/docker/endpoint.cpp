#include "backends/docker/endpoint.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
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

/// Of TLS: what lies in a directory.
struct Certificates {
  HttpTls tls;
  std::string dir;
};

/// Of an address as DOCKER_HOST has it.
Result<Endpoint> FromAddress(ir::BackendKind kind, std::string address, std::string origin, const Certificates& certificates, bool use_tls) {
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
    if (!secure) return out;
    out.tls = certificates.tls;
    out.certificates = certificates.dir;
    // Without them the connection would be refused with fewer words, or made to anybody.
    if (out.tls.cert.empty() != out.tls.key.empty()) {
      const bool key = out.tls.key.empty();
      return Error{fmt::format("{0} names `{1}`, and of the certificate for it only one half can be read: {2}/{3} is there, {2}/{4} is not, or this user may not read it", out.origin, out.text,
                               out.certificates, key ? "cert.pem" : "key.pem", key ? "key.pem" : "cert.pem")};
    }
    if (use_tls && out.tls.verify && out.tls.ca.empty()) {
      return Error{fmt::format("{} names `{}`, and there is no authority to check it with: {}/ca.pem cannot be read. Copy the engine's ca.pem there{}", out.origin, out.text, out.certificates,
                               out.origin.starts_with("the context") ? "" : ", or say in DOCKER_CERT_PATH where it is")};
    }
    return out;
  }
  if (scheme == "ssh") {
    // Where podman's service listens depends on who runs it.
    auto target = ParseSshTarget(rest, kind == ir::BackendKind::Podman ? "" : "/var/run/docker.sock");
    if (!target) {
      // What stands before the host may be a password.
      const size_t at_host = rest.rfind('@');
      return Error{fmt::format("{} names `ssh://{}`, {}", out.origin, at_host != std::string::npos && rest.find(':') < at_host ? "…" + rest.substr(at_host) : rest, target.error().message)};
    }
    out.ssh = *std::move(target);
    out.base_url = "http://engine";
    return out;
  }
  return Error{fmt::format("{} names `{}`: known are unix://, tcp://, http://, https:// and ssh://", out.origin, out.text)};
}

Certificates CertificatesIn(const std::string& dir, const Surroundings& surroundings, bool verify) {
  Certificates out{{}, dir};
  HttpTls& tls = out.tls;
  auto file = [&](const char* name) { return surroundings.read(dir + "/" + name) ? dir + "/" + name : std::string(); };
  tls.ca = file("ca.pem");
  tls.cert = file("cert.pem");
  tls.key = file("key.pem");
  tls.verify = verify;
  return out;
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
  const Certificates certificates = CertificatesIn(dir + "/tls/" + digest + "/docker", surroundings, !skip);
  return FromAddress(ir::BackendKind::Docker, host, fmt::format("the context `{}`", name), certificates, skip || !certificates.tls.ca.empty());
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
  if (!host.empty()) return FromAddress(kind, host, "the option `host`", from_docker_env(), docker_tls);
  if (kind == ir::BackendKind::Podman) {
    if (auto address = surroundings.env("CONTAINER_HOST")) {
      auto out = FromAddress(kind, *address, "`CONTAINER_HOST`", {}, false);
      if (out && out->ssh) out->ssh->identity = surroundings.env("CONTAINER_SSHKEY").value_or("");
      return out;
    }
    return FromAddress(kind, (surroundings.uid == 0 ? std::string("unix:///run") : "unix://" + surroundings.RuntimeDir()) + "/podman/podman.sock", "", {}, false);
  }
  if (!context.empty() && context != "default") return FromContext(context, "the option `context`", surroundings);
  if (context.empty()) {
    if (auto address = surroundings.env("DOCKER_HOST")) return FromAddress(kind, *address, "`DOCKER_HOST`", from_docker_env(), docker_tls);
    if (auto name = surroundings.env("DOCKER_CONTEXT")) {
      if (*name != "default") return FromContext(*name, "`DOCKER_CONTEXT`", surroundings);
    } else if (auto config = surroundings.read(surroundings.DockerConfig() + "/config.json")) {
      const std::string current = Member(Json::parse(*config, nullptr, false), "currentContext");
      if (!current.empty() && current != "default") return FromContext(current, surroundings.DockerConfig() + "/config.json", surroundings);
    }
  }
  return FromAddress(kind, "unix:///var/run/docker.sock", "", {}, false);
}

Result<Endpoint> OpenEndpoint(ir::BackendKind kind, const std::string& host, const std::string& context, const Surroundings& surroundings) {
  auto out = FindEndpoint(kind, host, context, surroundings);
  if (!out || !out->ssh) return out;
  auto forward = SshForward::Open(*out->ssh);
  if (!forward) return Error{fmt::format("no {} at {} (from {}): {}", kind == ir::BackendKind::Podman ? "podman service" : "docker engine", out->text, out->origin, forward.error().message)};
  out->forward = *std::move(forward);
  out->unix_socket = out->forward->socket();
  return out;
}

Result<Endpoint> Endpoints::Open(ir::BackendKind kind, const std::string& host, const std::string& context) {
  auto named = FindEndpoint(kind, host, context, around_);
  if (!named || !named->ssh) return named;
  const std::string key = fmt::format("{} {}", named->text, named->ssh->identity);
  if (auto found = open_.find(key); found != open_.end()) return found->second;
  auto opened = OpenEndpoint(kind, host, context, around_);
  if (opened) open_.emplace(key, *opened);
  return opened;
}

std::optional<Trouble> TlsTrouble(const Endpoint& endpoint, const HttpEnd& end, const std::string& answer) {
  auto has = [](const std::string& text, std::initializer_list<std::string_view> parts) {
    return std::any_of(parts.begin(), parts.end(), [&](std::string_view part) { return text.find(part) != std::string::npos; });
  };
  if (end.ok()) {
    if (!has(answer, {"HTTP request to an HTTPS server"})) return std::nullopt;
    return Trouble{"it speaks TLS only", endpoint.origin.starts_with("the context")
                                             ? "Give the context the engine's ca.pem and your cert.pem and key.pem:  docker context update"
                                             : "Put its ca.pem and your cert.pem and key.pem into a directory and type:  export DOCKER_TLS_VERIFY=1 DOCKER_CERT_PATH=DIRECTORY"};
  }
  if (!endpoint.base_url.starts_with("https://")) return std::nullopt;
  const std::string host = endpoint.base_url.substr(8);
  const std::string& dir = endpoint.certificates;
  if (end.failure == HttpFailure::Tls) {
    if (has(end.message, {"local issuer", "self-signed", "self signed", "issuer certificate"})) {
      return Trouble{"its certificate is not signed by the authority that this user knows",
                     endpoint.tls.ca.empty() ? fmt::format("Copy the engine's ca.pem to {}/ca.pem, and type:  export DOCKER_TLS_VERIFY=1", dir) : fmt::format("Copy the engine's own ca.pem to {}", endpoint.tls.ca)};
    }
    if (has(end.message, {"certificate has expired"})) return Trouble{"its certificate has expired", "Who runs the engine has to make it a new one; if `date` is wrong here, it is this machine's clock"};
    if (has(end.message, {"not yet valid"})) return Trouble{"its certificate is not valid yet", "Look whether `date` is right here and there"};
    if (has(end.message, {"subject name", "does not match"})) {
      return Trouble{"its certificate is for another name", fmt::format("Use the name it has, which says:  openssl s_client -connect {} </dev/null | openssl x509 -noout -ext subjectAltName", host)};
    }
    if (has(end.message, {"of this client cannot be used"})) {
      return Trouble{"the certificate of this user cannot be used", fmt::format("{}/cert.pem and {}/key.pem have to be PEM files, and of one pair", dir, dir)};
    }
    if (has(end.message, {"wrong version number", "packet length"})) {
      return Trouble{"what answers there does not speak TLS", endpoint.origin.starts_with("the context") ? "Take the certificates out of the context, or name the port for TLS"
                                                                                                         : "Type  unset DOCKER_TLS_VERIFY  or name the port for TLS, which is 2376 as a rule"};
    }
    if (!has(end.message, {"alert"})) return Trouble{end.message, fmt::format("Certificates are taken from {}", dir)};
  }
  // A client that it does not know is told so only after the handshake, if the connection lasts long enough.
  if (end.failure != HttpFailure::Tls && end.failure != HttpFailure::Cut && end.failure != HttpFailure::Other) return std::nullopt;
  if (endpoint.tls.cert.empty()) {
    return Trouble{"it ended the connection, as engines do that want a certificate of their client", fmt::format("Put yours into {}/cert.pem and {}/key.pem", dir, dir)};
  }
  return Trouble{"it ended the connection, as engines do that do not accept the certificate of their client",
                 fmt::format("Look who signed yours, and until when it is valid:  openssl x509 -noout -issuer -dates -in {}", endpoint.tls.cert)};
}

std::string NoEngineMessage(ir::BackendKind kind, const Endpoint& endpoint, const HttpEnd& end, const Surroundings& surroundings) {
  const bool podman = kind == ir::BackendKind::Podman;
  const std::string_view name = ir::BackendName(kind);
  const std::optional<Trouble> tls = TlsTrouble(endpoint, end);
  if (endpoint.forward != nullptr && end.failure != HttpFailure::Timeout) {
    const std::string words = endpoint.forward->LastWords();
    return fmt::format("no {} at {} (from {}): ssh reaches the host, but nobody answers at {} there{}. See what  ssh {}{} {} version  says", podman ? "podman service" : "docker engine", endpoint.text, endpoint.origin,
                       endpoint.ssh->remote_socket, words.empty() ? "" : fmt::format(" (ssh: {})", words), endpoint.ssh->port.empty() ? "" : "-p " + endpoint.ssh->port + " ", endpoint.ssh->destination, name);
  }
  std::string out = fmt::format("no {} at {}{}: {}", podman ? "podman service" : "docker engine", endpoint.text,
                                endpoint.origin.empty() ? "" : fmt::format(" (from {})", endpoint.origin), tls ? tls->what : end.message);
  if (tls) return out + ". " + tls->help;
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
  } else if (end.failure == HttpFailure::Timeout) {
    out += podman ? ". If it hangs, end it and start it again" : ". If it hangs, `journalctl -u docker` may say why; who runs it has to start it again";
  }
  return out + fmt::format(". `jobc doctor` shows what is there; a profile that uses `process` needs no {}", name);
}

}  // namespace jobc::docker
