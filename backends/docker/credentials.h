// The credentials of this user for a registry, as `docker login` and `podman login` left them: in the file itself, or with a
// helper program, which is run without blocking. Sent to the engine with a pull and nowhere else, and never shown.
#pragma once

#include <uv.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backends/docker/endpoint.h"
#include "ir/plan.h"
#include "support/result.h"

namespace jobc::docker {

/// `docker.io`, `ghcr.io`, `localhost:5000`: the registry that an image's name means.
std::string RegistryOf(const std::string& image);

/// What is sent as X-Registry-Auth: base64url of JSON.
struct Credentials {
  std::string username, password;
  std::string identity_token;  ///< in place of both
  std::string server;
};
std::string RegistryAuth(const Credentials& credentials);

/// Where the credentials for an image are.
struct CredentialPlace {
  std::optional<Credentials> known;
  std::string helper;  ///< `docker-credential-<helper>` has them
  std::string server;  ///< what the helper is asked for
};
/// From the files of this user; the first that has an answer. Neither `known` nor a `helper`: the pull is anonymous.
CredentialPlace LookForCredentials(ir::BackendKind kind, const std::string& image, const Surroundings& surroundings);

/// A helper's answer on stdout. Nothing: it knows none for that server.
Result<std::optional<Credentials>> ParseHelperAnswer(const std::string& server, int exit_code, const std::string& output);

/// Asks helpers. Those under way are ended with it, and nothing follows.
class CredentialHelpers {
 public:
  explicit CredentialHelpers(uv_loop_t* loop) : loop_(loop) {}
  ~CredentialHelpers();
  CredentialHelpers(const CredentialHelpers&) = delete;
  CredentialHelpers& operator=(const CredentialHelpers&) = delete;

  using Answer = std::function<void(Result<std::optional<Credentials>>)>;
  /// `answer` is called from the loop, within `limit_ms`.
  void Ask(const CredentialPlace& place, Answer answer, uint64_t limit_ms = 60'000);

 private:
  struct Run;
  void Ended(Run* run);

  uv_loop_t* loop_;
  std::vector<Run*> runs_;  ///< each frees itself when its handles are closed
};

/// Standard base64; the other alphabet with `url`.
std::string Base64(std::string_view bytes, bool url = false);
std::optional<std::string> FromBase64(std::string_view text);

}  // namespace jobc::docker
