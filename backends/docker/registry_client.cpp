#include "backends/docker/registry_client.h"

#include <fmt/format.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <charconv>
#include <nlohmann/json.hpp>
#include <optional>
#include <vector>

#include "backends/docker/credentials.h"
#include "backends/docker/engine_api.h"
#include "runtime/http_client.h"
#include "support/sha256.h"

namespace jobc::docker {
namespace {

using Json = nlohmann::json;

constexpr uint64_t kMostManifest = 4 << 20;
constexpr int kTries = 3;
constexpr int64_t kMostWait = 30;  ///< seconds that a registry may ask us to wait between two tries

bool IsDigest(std::string_view text) {
  return text.size() == 71 && text.starts_with("sha256:") && text.substr(7).find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

bool IsLoopback(std::string_view host) {
  if (host.starts_with("[")) return host.starts_with("[::1]");
  host = host.substr(0, host.find(':'));
  return host == "localhost" || host.starts_with("127.");
}

std::string Member(const Json& object, const char* name) {
  if (!object.is_object()) return "";
  auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

/// `message` of the first of a registry's `errors`.
std::string RegistryMessage(const std::string& body) {
  const Json json = Json::parse(body, nullptr, false);
  if (!json.is_object() || !json.contains("errors") || !json["errors"].is_array() || json["errors"].empty()) return "";
  const Json& first = json["errors"].front();
  std::string text = Member(first, "message");
  if (text.empty()) text = Member(first, "code");
  return text.substr(0, 300);
}

/// With a helper, which runs on a loop of its own. The error is the helper's.
Result<std::optional<Credentials>> CredentialsFor(ir::BackendKind kind, const std::string& image, const Surroundings& surroundings) {
  const CredentialPlace place = LookForCredentials(kind, image, surroundings);
  if (place.helper.empty()) return place.known;
  uv_loop_t loop;
  if (const int error = uv_loop_init(&loop); error != 0) return Error{fmt::format("cannot make an event loop: {}", uv_strerror(error))};
  Result<std::optional<Credentials>> out = Error{"it did not answer"};
  {
    CredentialHelpers helpers(&loop);
    helpers.Ask(place, [&out](Result<std::optional<Credentials>> answer) { out = std::move(answer); }, 20'000);
    uv_run(&loop, UV_RUN_DEFAULT);
  }
  uv_run(&loop, UV_RUN_DEFAULT);
  uv_loop_close(&loop);
  return out;
}

struct Asked {
  HttpEnd end;
  HttpHead head;
  std::string body;
};

/// One registry, asked for one image.
class RegistryClient {
 public:
  RegistryClient(ImageName name, std::optional<Credentials> credentials, std::string_view engine)
      : name_(std::move(name)), credentials_(std::move(credentials)), engine_(engine) {}

  DigestAnswer Find() {
    // As engines do: on this machine a registry may speak plain HTTP, elsewhere never.
    std::vector<std::string> schemes = {"https"};
    if (IsLoopback(name_.host)) schemes.push_back("http");
    Asked asked;
    for (const std::string& scheme : schemes) {
      scheme_ = scheme;
      authorization_.clear();
      asked = Manifest("HEAD");
      if (asked.end.ok()) break;
    }
    if (!asked.end.ok()) return Failed(DigestFault::Network, fmt::format("{} cannot be reached: {}", name_.registry, asked.end.message));
    if (asked.head.status == 200 && asked.head.Get("docker-content-digest").empty()) asked = Manifest("GET");
    if (!asked.end.ok()) return Failed(DigestFault::Network, fmt::format("{} could not be asked: {}", name_.registry, asked.end.message));
    if (asked.head.status != 200) return Refused(asked);
    DigestAnswer out;
    out.digest = std::string(asked.head.Get("docker-content-digest"));
    if (!asked.body.empty() && out.digest.empty()) out.digest = "sha256:" + Sha256Hex(asked.body);
    if (!IsDigest(out.digest)) return Failed(DigestFault::Refused, fmt::format("{} answers without a digest, so it is no registry", name_.registry));
    return out;
  }

 private:
  static DigestAnswer Failed(DigestFault fault, std::string problem) {
    DigestAnswer out;
    out.fault = fault;
    out.problem = std::move(problem);
    return out;
  }

  DigestAnswer Refused(const Asked& asked) {
    const int status = asked.head.status;
    // HEAD has no body: the words of a registry are in the answer to GET.
    std::string said = problem_.empty() ? RegistryMessage(Manifest("GET").body) : problem_;
    if (!said.empty()) said = ": " + said;
    if (status == 401 || status == 403) {
      return Failed(DigestFault::Auth, fmt::format("{} does not let this user have it ({}{}). Log in with  {} login {}", name_.registry, status, said, engine_, name_.registry));
    }
    if (status == 404) return Failed(DigestFault::Missing, fmt::format("{} does not have it (404{})", name_.registry, said));
    if (status == 429) {
      const std::string after(asked.head.Get("retry-after"));
      return Failed(DigestFault::Busy, fmt::format("{} does not answer this often (429{}). Try again {}; who is logged in may ask more often:  {} login {}", name_.registry, said,
                                                   after.empty() ? "later" : "after " + after + (after.find_first_not_of("0123456789") == std::string::npos ? " s" : ""), engine_, name_.registry));
    }
    if (status >= 500) return Failed(DigestFault::Network, fmt::format("{} is out of order ({}{}). Try again later", name_.registry, status, said));
    return Failed(DigestFault::Refused, fmt::format("{} refused to answer ({}{})", name_.registry, status, said));
  }

  Asked Manifest(const std::string& method) {
    const std::string url = fmt::format("{}://{}/v2/{}/manifests/{}", scheme_, name_.host, name_.repository, name_.reference);
    Asked asked;
    int64_t wait = 1;
    for (int round = 1; round <= kTries; ++round) {
      asked = Send(method, url, {"Accept: application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
                                 "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"},
                   "");
      // Once with what it asks for.
      if (asked.end.ok() && asked.head.status == 401 && authorization_.empty() && LogIn(std::string(asked.head.Get("www-authenticate")))) {
        --round;
        continue;
      }
      const bool busy = asked.end.ok() && (asked.head.status == 429 || asked.head.status >= 500);
      if ((!busy && asked.end.failure != HttpFailure::Cut) || round == kTries) break;
      int64_t seconds = wait;
      const std::string_view after = asked.head.Get("retry-after");
      if (!after.empty()) {
        auto [end, error] = std::from_chars(after.data(), after.data() + after.size(), seconds);
        if (error != std::errc() || seconds < 0 || seconds > kMostWait) break;  // the person decides whether to wait that long
      }
      sleep(static_cast<unsigned>(seconds));
      wait *= 2;
    }
    return asked;
  }

  Asked Send(const std::string& method, const std::string& url, std::vector<std::string> headers, std::string body) {
    HttpRequest request;
    request.method = method;
    request.url = url;
    request.headers = std::move(headers);
    if (!authorization_.empty()) request.headers.push_back("Authorization: " + authorization_);
    request.body = std::move(body);
    request.follow_redirects = true;
    request.https_only = scheme_ == "https";
    request.total_ms = 15'000;
    Asked out;
    auto answer = FetchNow(std::move(request), kMostManifest, &out.end);
    if (answer) {
      out.head = std::move(answer->head);
      out.body = std::move(answer->body);
    }
    return out;
  }

  std::string BasicOf(const Credentials& user) const { return "Basic " + Base64(user.username + ":" + user.password); }

  /// Whether there is something new to show. The reason that there is not is in `problem_`.
  bool LogIn(const std::string& challenge) {
    const BearerChallenge bearer = ParseChallenge(challenge);
    if (bearer.realm.empty()) {
      if (!credentials_ || credentials_->username.empty()) return false;
      authorization_ = BasicOf(*credentials_);
      return true;
    }
    if (!bearer.realm.starts_with(scheme_ + "://")) {
      problem_ = fmt::format("it sends for a token to `{}`, which is not asked", bearer.realm);
      return false;
    }
    const std::string scope = bearer.scope.empty() ? fmt::format("repository:{}:pull", name_.repository) : bearer.scope;
    std::vector<std::string> headers;
    std::string url = bearer.realm, body;
    const std::vector<std::pair<std::string, std::string>> asked = {{"service", bearer.service}, {"scope", scope}};
    const bool refresh = credentials_ && !credentials_->identity_token.empty();
    if (refresh) {
      body = ApiPath("", {{"grant_type", "refresh_token"}, {"client_id", "jobc"}, {"service", bearer.service}, {"scope", scope}, {"refresh_token", credentials_->identity_token}}).substr(1);
      headers.push_back("Content-Type: application/x-www-form-urlencoded");
    } else {
      const std::string query = ApiPath("", asked);
      url += (url.find('?') == std::string::npos ? "?" : "&") + query.substr(1);
      if (credentials_ && !credentials_->username.empty()) headers.push_back("Authorization: " + BasicOf(*credentials_));
    }
    const Asked token = Send(refresh ? "POST" : "GET", url, std::move(headers), std::move(body));
    if (!token.end.ok()) {
      problem_ = fmt::format("its token service `{}` cannot be reached: {}", bearer.realm, token.end.message);
      return false;
    }
    const Json json = Json::parse(token.body, nullptr, false);
    std::string text = Member(json, "token");
    if (text.empty()) text = Member(json, "access_token");
    if (token.head.status != 200 || text.empty()) {
      problem_ = RegistryMessage(token.body);
      if (problem_.empty()) problem_ = fmt::format("its token service answered with {}", token.head.status);
      return false;
    }
    authorization_ = "Bearer " + text;
    return true;
  }

  ImageName name_;
  std::optional<Credentials> credentials_;
  std::string engine_;  ///< whose `login` there is
  std::string scheme_, authorization_, problem_;
};

/// The digest by which an engine of this machine has pulled the image; empty: it has not.
std::string FromEngine(ir::BackendKind kind, const std::string& image, const Surroundings& surroundings) {
  auto endpoint = OpenEndpoint(kind, "", "", surroundings);
  if (!endpoint) return "";
  HttpRequest request;
  request.url = endpoint->base_url + "/images/" + image + "/json";
  request.unix_socket = endpoint->unix_socket;
  request.tls = endpoint->tls;
  request.connect_ms = 2'000;
  request.total_ms = 10'000;
  auto answer = FetchNow(std::move(request), kMostManifest);
  if (!answer || answer->head.status != 200) return "";
  auto info = ParseImage(answer->body, image);
  if (!info) return "";
  const size_t at = info->digest.find('@');
  return at == std::string::npos || !IsDigest(info->digest.substr(at + 1)) ? "" : info->digest.substr(at + 1);
}

std::string_view WithoutScheme(std::string_view image) {
  constexpr std::string_view kScheme = "docker://";
  return image.starts_with(kScheme) ? image.substr(kScheme.size()) : image;
}

}  // namespace

Result<ImageName> ParseImageName(std::string_view image) {
  const std::string name(WithoutScheme(image));
  auto bad = [&](std::string_view why) { return Error{fmt::format("`{}` is no name of an image at a registry: {}", image, why)}; };
  if (name.find("://") != std::string::npos) return bad("only docker:// names can be looked up");
  ImageName out;
  out.registry = RegistryOf(name);
  out.host = out.registry == "docker.io" ? "registry-1.docker.io" : out.registry;
  std::string rest = name;
  if (rest.starts_with(out.registry + "/")) rest.erase(0, out.registry.size() + 1);
  if (rest.starts_with("index.docker.io/")) rest.erase(0, 16);
  if (const size_t at = rest.find('@'); at != std::string::npos) {
    out.reference = rest.substr(at + 1);
    rest.resize(at);
    if (!IsDigest(out.reference)) return bad("its digest is not `sha256:` and 64 hex digits");
  }
  if (const size_t colon = rest.rfind(':'); colon != std::string::npos && rest.find('/', colon) == std::string::npos) {
    if (out.reference.empty()) out.reference = rest.substr(colon + 1);
    rest.resize(colon);
  }
  if (out.reference.empty()) out.reference = "latest";
  if (rest.empty()) return bad("it is empty");
  if (rest.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789._-/") != std::string::npos) return bad("names have lower-case letters, digits and ._-/ only");
  if (!IsDigest(out.reference) && out.reference.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") != std::string::npos) {
    return bad("tags have letters, digits and ._- only");
  }
  out.repository = out.registry == "docker.io" && rest.find('/') == std::string::npos ? "library/" + rest : rest;
  return out;
}

BearerChallenge ParseChallenge(std::string_view header) {
  BearerChallenge out;
  constexpr std::string_view kScheme = "bearer ";
  if (header.size() < kScheme.size()) return out;
  for (size_t i = 0; i < kScheme.size(); ++i) {
    if ((header[i] >= 'A' && header[i] <= 'Z' ? header[i] + 32 : header[i]) != kScheme[i]) return out;
  }
  header.remove_prefix(kScheme.size());
  while (!header.empty()) {
    const size_t equals = header.find('=');
    if (equals == std::string_view::npos) break;
    std::string_view name = header.substr(0, equals);
    while (name.starts_with(' ') || name.starts_with(',')) name.remove_prefix(1);
    header.remove_prefix(equals + 1);
    std::string value;
    if (header.starts_with('"')) {
      size_t i = 1;
      for (; i < header.size() && header[i] != '"'; ++i) {
        if (header[i] == '\\' && i + 1 < header.size()) ++i;
        value += header[i];
      }
      header.remove_prefix(std::min(i + 1, header.size()));
    } else {
      const size_t end = std::min(header.find(','), header.size());
      value = header.substr(0, end);
      header.remove_prefix(end);
    }
    if (name == "realm") out.realm = value;
    if (name == "service") out.service = value;
    if (name == "scope") out.scope = value;
  }
  return out;
}

DigestAnswer FindDigest(ir::BackendKind kind, const std::string& image, const Surroundings& surroundings) {
  auto name = ParseImageName(image);
  DigestAnswer out;
  if (!name) {
    out.fault = DigestFault::Name;
    out.problem = name.error().message;
    return out;
  }
  const std::string bare(WithoutScheme(image));
  // Podman's name for what is at no registry.
  const bool nowhere = name->registry == "localhost";
  if (nowhere) {
    out.fault = DigestFault::Missing;
    out.problem = "it is at no registry, only in an engine of some machine. Push it to one, or name its content:  image = \"sha256:…\"";
  } else {
    const auto credentials = CredentialsFor(kind, bare, surroundings);
    out = RegistryClient(*name, credentials ? *credentials : std::nullopt, kind == ir::BackendKind::Podman ? "podman" : "docker").Find();
    if (out.digest.empty() && !credentials) out.problem += ". " + credentials.error().message;
  }
  if (!out.digest.empty() || (out.fault != DigestFault::Network && !nowhere)) return out;
  for (const ir::BackendKind engine : {ir::BackendKind::Docker, ir::BackendKind::Podman}) {
    if (std::string digest = FromEngine(engine, bare, surroundings); !digest.empty()) {
      out.digest = std::move(digest);
      out.from = ir::BackendName(engine);
      return out;
    }
  }
  return out;
}

}  // namespace jobc::docker
