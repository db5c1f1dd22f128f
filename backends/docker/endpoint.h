// Where the container engine of this user is: what the option `host` or `context`, the environment and the docker
// configuration say, as the tools `docker` and `podman` read it. Pure but for the files it is given to read.
#pragma once

#include <sys/types.h>

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "backends/docker/ssh_forward.h"
#include "ir/plan.h"
#include "runtime/http_client.h"
#include "support/result.h"

namespace jobc::docker {

/// What is looked at; replaced by tests.
struct Surroundings {
  std::function<std::optional<std::string>(const std::string& name)> env;   ///< nothing: not set, or empty
  std::function<std::optional<std::string>(const std::string& path)> read;  ///< a whole file; nothing: it cannot be read
  uid_t uid = 0;

  static Surroundings Real();
  std::string Home() const;
  /// $DOCKER_CONFIG, or ~/.docker.
  std::string DockerConfig() const;
  /// $XDG_RUNTIME_DIR, or /run/user/UID.
  std::string RuntimeDir() const;
};

struct Endpoint {
  std::string text;         ///< `unix:///run/podman/podman.sock`, for people
  std::string origin;       ///< who said so: "`DOCKER_HOST`", "the context `lab`" …; empty: nobody, it is the usual place
  std::string unix_socket;  ///< empty: it is reached by TCP
  std::string base_url;     ///< without a slash at its end
  HttpTls tls;
  std::string certificates; ///< the directory that `tls` is from; empty without TLS
  std::optional<SshTarget> ssh;         ///< `ssh://…`: reached by a forwarded socket, which OpenEndpoint() makes
  std::shared_ptr<SshForward> forward;  ///< that; null: not opened, or not of ssh

  friend bool operator==(const Endpoint& a, const Endpoint& b) {
    return a.text == b.text && a.base_url == b.base_url && a.unix_socket == b.unix_socket && a.tls.ca == b.tls.ca && a.tls.cert == b.tls.cert && a.tls.key == b.tls.key && a.ssh == b.ssh;
  }
};

/// docker: `host`, `context`, DOCKER_HOST, DOCKER_CONTEXT, the current context of config.json, /var/run/docker.sock.
/// podman: `host`, CONTAINER_HOST, the socket of this user's service. The error is one for people: exit code 14.
Result<Endpoint> FindEndpoint(ir::BackendKind kind, const std::string& host, const std::string& context, const Surroundings& surroundings);

/// FindEndpoint(), and where that names `ssh://…` the way there: blocks for up to 30 s. The error is one for people.
Result<Endpoint> OpenEndpoint(ir::BackendKind kind, const std::string& host, const std::string& context, const Surroundings& surroundings);

/// The engines that one command asks, each opened once.
class Endpoints {
 public:
  /// As OpenEndpoint(), or what that opened before.
  Result<Endpoint> Open(ir::BackendKind kind, const std::string& host, const std::string& context);
  const Surroundings& surroundings() const { return around_; }

 private:
  Surroundings around_ = Surroundings::Real();
  std::map<std::string, Endpoint> open_;  ///< those of ssh, by what names them
};

/// In words, and what to type.
struct Trouble {
  std::string what, help;
};
/// Why there is no secure connection, or none without one. Nothing: it is no matter of certificates. `end` ok: the engine answered
/// with `answer` (its message).
std::optional<Trouble> TlsTrouble(const Endpoint& endpoint, const HttpEnd& end, const std::string& answer = "");

/// Why nobody answered there, and what to type.
std::string NoEngineMessage(ir::BackendKind kind, const Endpoint& endpoint, const HttpEnd& end, const Surroundings& surroundings);

}  // namespace jobc::docker
