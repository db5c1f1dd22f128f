#include "backends/docker/engine_api.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <ctime>
#include <nlohmann/json.hpp>

#include "ir/json.h"
#include "ir/mounts.h"
#include "runtime/launch_options.h"
#include "support/sha256.h"

namespace jobc::docker {
namespace {

using Json = nlohmann::json;

Json Parse(std::string_view text) { return Json::parse(text, nullptr, false); }

const Json* Find(const Json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  auto found = object.find(name);
  return found == object.end() ? nullptr : &*found;
}
std::string Text(const Json& object, const char* name) {
  const Json* found = Find(object, name);
  return found != nullptr && found->is_string() ? found->get<std::string>() : std::string();
}
int64_t Number(const Json& object, const char* name, int64_t none = 0) {
  const Json* found = Find(object, name);
  return found != nullptr && found->is_number() ? found->get<int64_t>() : none;
}
bool Flag(const Json& object, const char* name) {
  const Json* found = Find(object, name);
  return found != nullptr && found->is_boolean() && found->get<bool>();
}
Json Member(const Json& object, const char* name) {
  const Json* found = Find(object, name);
  return found == nullptr ? Json() : *found;
}
std::vector<std::string> Texts(const Json& list) {
  std::vector<std::string> out;
  if (list.is_string()) out.push_back(list.get<std::string>());
  if (!list.is_array()) return out;
  for (const Json& one : list) {
    if (one.is_string()) out.push_back(one.get<std::string>());
  }
  return out;
}

std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

int64_t ToNumber(std::string_view text, int64_t none) {
  int64_t out = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), out);
  return error == std::errc() && end == text.data() + text.size() ? out : none;
}

/// RFC 3339 as Go writes it; `0001-01-01T00:00:00Z` is never.
int64_t ParseTime(const std::string& text) {
  tm parts{};
  const char* rest = strptime(text.c_str(), "%Y-%m-%dT%H:%M:%S", &parts);
  if (rest == nullptr || parts.tm_year < 70) return 0;
  int64_t ms = static_cast<int64_t>(timegm(&parts)) * 1000;
  if (*rest == '.') {
    int64_t unit = 100;
    for (++rest; *rest >= '0' && *rest <= '9'; ++rest, unit /= 10) ms += (*rest - '0') * unit;
  }
  if (*rest == '+' || *rest == '-') {
    const int64_t sign = *rest == '+' ? 1 : -1;
    const std::string_view zone(rest + 1);
    if (zone.size() >= 5) ms -= sign * (ToNumber(zone.substr(0, 2), 0) * 60 + ToNumber(zone.substr(3, 2), 0)) * 60'000;
  }
  return ms;
}

/// Objects member by member, lists one after the other, all else replaced.
void MergeInto(Json& into, const Json& from) {
  for (const auto& [name, value] : from.items()) {
    Json& slot = into[name];
    if (slot.is_object() && value.is_object()) {
      MergeInto(slot, value);
    } else if (slot.is_array() && value.is_array()) {
      for (const Json& one : value) slot.push_back(one);
    } else {
      slot = value;
    }
  }
}

bool Has(std::string_view text, std::initializer_list<std::string_view> parts) {
  return std::any_of(parts.begin(), parts.end(), [&](std::string_view part) { return text.find(part) != std::string_view::npos; });
}

/// What engines and registries say, in small letters, of an image that will not come however often it is asked for, and why: the first
/// that fits. Each is a part of what docker (its own pull and that by containerd) or podman writes.
struct Refusal {
  enum class Why : uint8_t { Space, Busy, Expired, Auth, Forbidden, Content, Platform, Format, Name, Plain, Trust, Missing } why;
  std::string_view part;
};
constexpr Refusal kRefusals[] = {
    {Refusal::Why::Space, "no space left on device"},
    {Refusal::Why::Space, "disk quota exceeded"},
    {Refusal::Why::Busy, "toomanyrequests"},
    {Refusal::Why::Busy, "too many requests"},
    {Refusal::Why::Busy, "pull rate limit"},
    {Refusal::Why::Expired, "token has expired"},
    {Refusal::Why::Expired, "token is expired"},
    {Refusal::Why::Expired, "invalid_token"},
    {Refusal::Why::Auth, "unauthorized"},
    {Refusal::Why::Auth, "authentication required"},
    {Refusal::Why::Auth, "no basic auth credentials"},
    {Refusal::Why::Auth, "incorrect username or password"},
    {Refusal::Why::Auth, "invalid username/password"},
    {Refusal::Why::Auth, "status: 401"},
    {Refusal::Why::Auth, "statuscode: 401"},
    {Refusal::Why::Content, "verification failed for digest"},   // docker: a layer, a manifest or a configuration
    {Refusal::Why::Content, "digest did not match"},             // podman
    {Refusal::Why::Content, "does not match digest"},            // podman: a configuration
    {Refusal::Why::Content, "unexpected commit digest"},         // containerd
    {Refusal::Why::Content, "failed size validation"},           // containerd
    {Refusal::Why::Content, "invalid checksum digest"},
    {Refusal::Why::Content, "unsupported digest"},
    {Refusal::Why::Content, "manifest digest mismatch"},
    {Refusal::Why::Content, "blob size mismatch"},
    {Refusal::Why::Content, "rootfs layers mismatch"},
    {Refusal::Why::Content, "invalid tar header"},
    {Refusal::Why::Content, "gzip: invalid"},
    {Refusal::Why::Content, "invalid rootfs in image configuration"},
    {Refusal::Why::Platform, "no matching manifest"},            // docker, of an index
    {Refusal::Why::Platform, "no match for platform"},           // containerd
    {Refusal::Why::Platform, "no image found in manifest list"}, // podman
    {Refusal::Why::Platform, "no image found in image index"},   // podman
    {Refusal::Why::Platform, "does not match the specified platform"},
    {Refusal::Why::Platform, "cannot be used on this platform"},
    {Refusal::Why::Platform, "exec format error"},
    {Refusal::Why::Format, "unsupported manifest"},
    {Refusal::Why::Format, "unsupported schema"},
    {Refusal::Why::Format, "unsupported media type"},
    {Refusal::Why::Format, "unsupported image-specific operation"},
    {Refusal::Why::Format, "unknown media type"},
    {Refusal::Why::Format, "encountered remote"},                // docker: a chart, a plugin
    {Refusal::Why::Format, "did you mean to use plugin install"},
    {Refusal::Why::Name, "invalid reference format"},
    {Refusal::Why::Name, "invalid repository name"},
    {Refusal::Why::Name, "invalid tag format"},
    {Refusal::Why::Name, "must be lowercase"},
    {Refusal::Why::Name, "did not resolve to an alias"},         // podman: no registry to look in
    {Refusal::Why::Plain, "server gave http response to https client"},
    {Refusal::Why::Plain, "first record does not look like a tls handshake"},
    {Refusal::Why::Trust, "x509:"},
    {Refusal::Why::Missing, "pull access denied"},
    {Refusal::Why::Missing, "requested access to the resource is denied"},
    {Refusal::Why::Missing, "manifest unknown"},
    {Refusal::Why::Missing, "name unknown"},
    {Refusal::Why::Missing, "repository not known"},
    {Refusal::Why::Missing, "does not exist"},
    {Refusal::Why::Missing, "image not known"},
    {Refusal::Why::Missing, "no such image"},
    {Refusal::Why::Missing, "not found"},
    {Refusal::Why::Forbidden, "403 (forbidden)"},                // podman
    {Refusal::Why::Forbidden, "statuscode: 403"},                // podman, of an answer that is no JSON
    {Refusal::Why::Forbidden, "403 forbidden"},                  // containerd
    {Refusal::Why::Forbidden, "http 403"},                       // docker, of an answer that is no JSON
    {Refusal::Why::Forbidden, "access denied"},
};

std::optional<Refusal::Why> WhyRefused(std::string_view message) {
  std::string small(message);
  std::transform(small.begin(), small.end(), small.begin(), [](unsigned char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : static_cast<char>(c); });
  for (const Refusal& one : kRefusals) {
    if (small.find(one.part) != std::string::npos) return one.why;
  }
  return std::nullopt;
}

/// Nothing but a person can mend it.
Verdict Final(Verdict verdict) {
  verdict.no_retry = true;
  return verdict;
}

/// `127.0.0.1:5000` of `127.0.0.1:5000/team/tool:1`; docker.io of names that say none.
std::string RegistryOf(const std::string& image) {
  const std::string host = image.substr(0, image.find('/'));
  const bool named = host.size() < image.size() && (host.find_first_of(".:") != std::string::npos || host == "localhost");
  return named ? host : "docker.io";
}

std::string HowToAllow(const std::string& image, std::string_view engine) {
  const std::string host = RegistryOf(image);
  if (engine == ir::BackendName(ir::BackendKind::Podman)) return fmt::format("write  [[registry]]  location = \"{}\"  insecure = true  , each on a line, into /etc/containers/registries.conf where podman runs", host);
  return fmt::format("write  \"insecure-registries\": [\"{}\"]  into /etc/docker/daemon.json where docker runs, and start it again", host);
}

Verdict PullFailure(Step step, int status, const std::string& message, const std::string& image, std::string_view name) {
  using Kind = ir::ErrorKind;
  using Why = Refusal::Why;
  std::optional<Why> why = WhyRefused(message);
  // A registry that is overloaded, or a proxy before it, says such things too.
  // Docker says no more than the code of a registry that forbids it.
  if (!why && (message == "denied" || message.ends_with(": denied"))) why = Why::Forbidden;
  // Who had the manifest was let in: what it was let in with ended on the way.
  if (why == Why::Auth && (step == Step::Layers || Has(message, {"reading blob", "parsing image configuration", "pulling image configuration"}))) why = Why::Expired;
  if (!why && status == 429) why = Why::Busy;
  if (!why && (status == 400 || (status == 404 && step != Step::Image))) why = Why::Missing;
  if (!why) {
    if (status == 0 || status >= 500) return Failed(Kind::Network, fmt::format("the image `{}` could not be pulled: {}", image, message));
    return Final(Failed(Kind::Image, fmt::format("the image `{}` cannot be used: {}", image, message)));
  }
  switch (*why) {
    case Why::Space: break;  // told before
    case Why::Busy: return Failed(Kind::Quota, fmt::format("the registry gives no more images for a while: {}. Log in with  {} login REGISTRY  for a higher limit", message, name));
    case Why::Auth: return Final(Failed(Kind::Auth, fmt::format("the registry does not let this user have the image `{}`: {}. Log in with  {} login REGISTRY", image, message, name)));
    case Why::Expired:
      return Failed(Kind::Network, fmt::format("the image `{}` could not be pulled: {}. The registry took this user's credentials first and then no more, as it does when its token ends before all has come", image, message));
    case Why::Forbidden:
      return Final(Failed(Kind::Auth, fmt::format("the registry forbids the image `{}` to this user: {}. Log in as one who may have it with  {} login {}", image, message, name, RegistryOf(image))));
    case Why::Content:
      return Final(Failed(Kind::Image, fmt::format("what the registry gives for the image `{}` is not what its digest promises: {}. Push it again, or take another one", image, message)));
    case Why::Platform: return Final(Failed(Kind::Image, fmt::format("there is no image `{}` for this machine: {}", image, message)));
    case Why::Format: return Final(Failed(Kind::Image, fmt::format("`{}` is no image that {} can run: {}", image, name, message)));
    case Why::Name: return Final(Failed(Kind::Image, fmt::format("`{}` is no name of an image: {}", image, message)));
    case Why::Plain:
      return Final(Failed(Kind::Image, fmt::format("the registry of the image `{}` speaks HTTP, without TLS: {}. If it is to be used like that, {}", image, message, HowToAllow(image, name))));
    case Why::Trust:
      return Final(Failed(Kind::Image, fmt::format("the registry of the image `{}` is not trusted: {}. Give {} its certificate, or {}", image, message, name, HowToAllow(image, name))));
    case Why::Missing: break;
  }
  return Final(Failed(Kind::Image, fmt::format("there is no image `{}`: {}", image, message)));
}

std::string Size(int64_t bytes) {
  if (bytes < 10 << 20) return fmt::format("{} KiB", (bytes + 1023) >> 10);
  return fmt::format("{} MiB", bytes >> 20);
}

std::string Escaped(std::string_view text) {
  std::string out;
  for (unsigned char c : text) {
    if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' || c == '~') {
      out += static_cast<char>(c);
    } else {
      out += fmt::format("%{:02X}", c);
    }
  }
  return out;
}

}  // namespace

std::string StateLabel(const std::string& state_dir) { return Sha256Hex(state_dir).substr(0, 16); }

std::string ContainerName(std::string_view execution_id) { return "jobc-" + std::string(execution_id); }

const Flavour& FlavourOf(ir::BackendKind kind) {
  static const Flavour docker{ir::BackendKind::Docker, "json-file", true, false, true, true, true};
  static const Flavour podman{ir::BackendKind::Podman, "k8s-file", false, true, false, false, false, "Error: read unixpacket "};
  return kind == ir::BackendKind::Podman ? podman : docker;
}

std::string LibpodInfoPath(std::string_view version) {
  for (const Json& one : Member(Parse(version), "Components")) {
    if (Text(one, "Name") != "Podman Engine") continue;
    const std::string api = Text(Member(one, "Details"), "APIVersion");
    return api.empty() ? "" : "/v" + api + "/libpod/info";
  }
  return "";
}

Result<EngineFacts> ParseFacts(std::string_view version, std::string_view info, std::string_view libpod) {
  const Json about = Parse(version);
  EngineFacts out;
  out.version = Text(about, "Version");
  std::string api = Text(about, "ApiVersion");
  const std::string least = Text(about, "MinAPIVersion");
  if (out.version.empty() || api.empty()) return Error{"what answers there is no container engine"};
  auto order = [](const std::string& text) {
    const size_t dot = std::min(text.find('.'), text.size());
    return std::pair(ToNumber(std::string_view(text).substr(0, dot), 0), dot < text.size() ? ToNumber(std::string_view(text).substr(dot + 1), 0) : 0);
  };
  constexpr const char* kWritten = "1.41";
  if (order(api) < order("1.40")) return Error{fmt::format("the engine {} speaks the API {} only; at least 1.40 (Docker 19.03) is needed", out.version, api)};
  if (order(api) > order(kWritten)) api = order(least) > order(kWritten) ? least : kWritten;
  out.api = "/v" + api;
  const Json said = Parse(info);
  for (const std::string& option : Texts(Member(said, "SecurityOptions"))) {
    out.rootless = out.rootless || option.starts_with("name=rootless");
    out.remapped = out.remapped || option.starts_with("name=userns");
  }
  auto denies = [&](const char* name) {
    const Json* found = Find(said, name);
    return found != nullptr && found->is_boolean() && !found->get<bool>();
  };
  out.limits_memory = !denies("MemoryLimit");
  out.limits_cpu = !denies("CpuCfsQuota");
  out.limits_pids = !denies("PidsLimit");
  std::string groups = Text(said, "CgroupVersion");
  if (const Json host = Member(Parse(libpod), "host"); host.is_object()) {
    out.rootless = Flag(Member(host, "security"), "rootless");
    out.keeps_ids = out.rootless;
    groups = Text(host, "cgroupVersion");
    if (groups.starts_with('v')) groups.erase(0, 1);
    if (out.rootless) {
      const std::vector<std::string> given = groups == "2" ? Texts(Member(host, "cgroupControllers")) : std::vector<std::string>();
      auto has = [&](const char* name) { return std::find(given.begin(), given.end(), name) != given.end(); };
      out.limits_memory = has("memory");
      out.limits_cpu = has("cpu");
      out.limits_pids = has("pids");
    }
  }
  if (!out.limits_memory || !out.limits_cpu || !out.limits_pids) {
    if (out.rootless && groups != "2") {
      out.no_limits = "it is rootless, and such engines have limits only where control groups are of version 2";
      out.enable_limits = "boot with  systemd.unified_cgroup_hierarchy=1  , or use an engine of root";
    } else if (out.rootless) {
      out.no_limits = "it is rootless, and the controllers of control groups are not given to its user";
      out.enable_limits = "let systemd delegate them to users: /etc/systemd/system/user@.service.d/delegate.conf with  [Service] Delegate=cpu cpuset io memory pids";
    } else {
      out.no_limits = "the kernel of its machine does not offer that to it";
      out.enable_limits = out.limits_memory ? "see the warnings of  docker info" : "boot with  cgroup_enable=memory swapaccount=1";
    }
  }
  return out;
}

Result<ImageInfo> ParseImage(std::string_view body, std::string_view name) {
  const Json image = Parse(body);
  ImageInfo out;
  out.id = Text(image, "Id");
  if (out.id.empty()) return Error{"the answer about an image has no id"};
  if (out.id.find(':') == std::string::npos) out.id = "sha256:" + out.id;
  const std::vector<std::string> digests = Texts(Member(image, "RepoDigests"));
  // One content may have several names; that of another registry says nothing about this one.
  std::string_view bare = name.substr(0, name.find('@'));
  if (size_t colon = bare.rfind(':'); colon != std::string_view::npos && bare.find('/', colon) == std::string_view::npos) bare = bare.substr(0, colon);
  out.digest = out.id;
  for (const std::string& digest : digests) {
    const std::string_view of = std::string_view(digest).substr(0, digest.find('@'));
    if (of == bare || of == "docker.io/" + std::string(bare) || of == "docker.io/library/" + std::string(bare)) out.digest = digest;
  }
  const Json config = Member(image, "Config");
  out.user = Text(config, "User");
  out.entrypoint = Texts(Member(config, "Entrypoint"));
  out.cmd = Texts(Member(config, "Cmd"));
  return out;
}

Result<std::string> CreateBody(const ContainerPlan& plan, const Flavour& flavour) {
  const AttemptLaunch& launch = *plan.launch;
  for (const auto* texts : {&launch.env, &launch.argv}) {
    for (const std::string& text : *texts) {
      if (!process::IsUtf8(text)) {
        return Error{fmt::format("`{}` is not UTF-8, which the engine's API cannot carry", text.substr(0, std::min(text.find('='), size_t{40})))};
      }
    }
  }
  Json body;
  body["Image"] = launch.image;
  body["Env"] = launch.env;
  if (!plan.command.empty()) {
    body["Entrypoint"] = plan.command;
    body["Cmd"] = Json::array();
  } else if (launch.image_args) {
    if (!launch.argv.empty()) body["Cmd"] = launch.argv;
  } else {
    body["Entrypoint"] = Json::array({launch.argv.front()});
    body["Cmd"] = std::vector<std::string>(launch.argv.begin() + 1, launch.argv.end());
  }
  const ir::Value* workdir = Option(launch, "workdir");
  body["WorkingDir"] = workdir != nullptr && workdir->kind() == ir::ValueKind::String ? workdir->as_string() : launch.places.SeenOutput();
  if (!plan.user.empty()) body["User"] = plan.user;
  body["Labels"] = {{kRunLabel, plan.run_id}, {kAttemptLabel, launch.execution_id}, {kInstanceLabel, launch.address}, {kStateLabel, plan.state}};
  if (!launch.places.secrets_dir.empty()) body["Labels"][std::string(kSecretsLabel)] = launch.places.secrets_dir;
  body["Healthcheck"]["Test"] = {"NONE"};

  Json host;
  host["Mounts"] = Json::array();
  auto mount = [&](const char* type, const std::string& source, const std::string& target, bool read_only) {
    host["Mounts"].push_back({{"Type", type}, {"Source", source}, {"Target", target}, {"ReadOnly", read_only}});
  };
  if (plan.copied) {
    body["Labels"][std::string(kCopiedLabel)] = "1";
    body["Volumes"][std::string(kPlacesRoot)] = Json::object();  // without a name: it goes with the container
  } else {
    for (const Mount& one : launch.mounts) mount("bind", one.source, one.target, one.read_only);
    for (const Mount& one : plan.mounts) mount("bind", one.source, one.target, one.read_only);
  }
  if (const ir::Value* mounts = Option(launch, "mounts")) {
    for (const ir::Mount& one : ir::MountsOf(*mounts)) mount(one.volume ? "volume" : "bind", one.source, one.target, one.read_only);
  }
  const Resources& resources = launch.resources;
  if (resources.cpu_milli && *resources.cpu_milli > 0 && !plan.no_cpu) host["NanoCpus"] = *resources.cpu_milli * 1'000'000;
  if (resources.memory && *resources.memory > 0 && !plan.no_memory) host["Memory"] = host["MemorySwap"] = *resources.memory;  // no swap on top
  if (const ir::Value* pids = Option(launch, "pids"); pids != nullptr && !plan.no_pids) host["PidsLimit"] = pids->as_int();
  if (resources.gpu && *resources.gpu > 0) {
    Json request = {{"Driver", ""}, {"Capabilities", {{"gpu"}}}};
    if (plan.gpus.empty()) {
      request["Count"] = *resources.gpu;
    } else {
      request["DeviceIDs"] = plan.gpus;
    }
    host["DeviceRequests"] = Json::array({std::move(request)});
  }
  if (const ir::Value* network = Option(launch, "network")) host["NetworkMode"] = network->as_string();
  if (!plan.groups.empty()) host["GroupAdd"] = plan.groups;
  if (!plan.userns.empty()) host["UsernsMode"] = plan.userns;
  host["LogConfig"]["Type"] = flavour.log_driver;
  // The engine's own configuration may keep only the end of a log.
  if (flavour.log_sizes) host["LogConfig"]["Config"] = {{"max-size", "1000t"}, {"max-file", "1"}, {"compress", "false"}};
  if (const ir::Value* options = Option(launch, "options")) {
    const Json more = Parse(ir::JsonText(*options));
    if (!more.is_object()) return Error{"the option `options` is no JSON object"};
    for (const char* name : {"AutoRemove", "RestartPolicy"}) {
      if (more.contains(name)) return Error{fmt::format("the option `options` has `{}`, which jobc needs for itself: it removes containers, and starts them again by the rules of `retry`", name)};
    }
    MergeInto(host, more);
  }
  body["HostConfig"] = std::move(host);
  return Dump(body);
}

std::string VolumeBody(std::string_view name, std::string_view run_id, std::string_view state) {
  return Dump({{"Name", name}, {"Driver", "local"}, {"Labels", {{kRunLabel, run_id}, {kStateLabel, state}}}});
}

std::string ApiPath(std::string path, const std::vector<std::pair<std::string, std::string>>& query) {
  char separator = '?';
  for (const auto& [name, value] : query) {
    path += separator + name + "=" + Escaped(value);
    separator = '&';
  }
  return path;
}

namespace {

std::string LabelFilter(std::string_view label, std::string_view value, bool events) {
  Json filter;
  filter["label"] = {fmt::format("{}={}", label, value)};
  if (events) filter["type"] = {"container"};
  return Dump(filter);
}

}  // namespace

std::string RunFilter(std::string_view run_id, bool events) { return LabelFilter(kRunLabel, run_id, events); }
std::string StateFilter(std::string_view label, bool events) { return LabelFilter(kStateLabel, label, events); }

std::vector<std::pair<std::string, std::string>> PullQuery(const std::string& image) {
  if (image.find('@') != std::string::npos) return {{"fromImage", image}};
  const size_t colon = image.rfind(':');
  if (colon != std::string::npos && image.find('/', colon) == std::string::npos) return {{"fromImage", image.substr(0, colon)}, {"tag", image.substr(colon + 1)}};
  return {{"fromImage", image}, {"tag", "latest"}};
}

std::optional<ContainerState> ParseContainer(std::string_view body) {
  const Json container = Parse(body);
  ContainerState out;
  out.id = Text(container, "Id");
  if (out.id.empty()) return std::nullopt;
  const Json state = Member(container, "State");
  out.status = Text(state, "Status");
  out.exit_code = static_cast<int>(Number(state, "ExitCode"));
  out.oom = Flag(state, "OOMKilled");
  out.error = Text(state, "Error");
  out.started_ms = ParseTime(Text(state, "StartedAt"));
  out.finished_ms = ParseTime(Text(state, "FinishedAt"));
  const Json config = Member(container, "Config");
  out.env = Texts(Member(config, "Env"));
  const Json labels = Member(config, "Labels");
  out.run = Text(labels, kRunLabel.data());
  out.attempt = Text(labels, kAttemptLabel.data());
  out.copied = !Text(labels, kCopiedLabel.data()).empty();
  return out;
}

std::optional<std::vector<ContainerState>> ParseContainers(std::string_view body) {
  const Json list = Parse(body);
  if (!list.is_array()) return std::nullopt;
  std::vector<ContainerState> out;
  for (const Json& container : list) {
    ContainerState one;
    one.id = Text(container, "Id");
    one.status = Text(container, "State");
    const Json labels = Member(container, "Labels");
    one.run = Text(labels, kRunLabel.data());
    one.attempt = Text(labels, kAttemptLabel.data());
    if (!one.id.empty()) out.push_back(std::move(one));
  }
  return out;
}

std::optional<Created> ParseCreated(std::string_view body) {
  const Json created = Parse(body);
  Created out{Text(created, "Id"), Texts(Member(created, "Warnings"))};
  if (out.id.empty()) return std::nullopt;
  return out;
}

std::string ErrorMessage(std::string_view body) {
  const Json error = Parse(body);
  std::string message = Text(error, "message");
  if (message.empty()) message = std::string(body.substr(0, 500));
  for (char& c : message) {
    if (c == '\n' || c == '\r' || c == '\t') c = ' ';
  }
  while (message.ends_with(' ') || message.ends_with('.')) message.pop_back();
  return message;
}

std::string MissingSource(std::string_view message) {
  // docker: "… bind source path does not exist: /srv/data"; podman: "… statfs /srv/data: no such file or directory".
  for (const auto& [before, after] : {std::pair<std::string_view, std::string_view>{"bind source path does not exist: ", ""}, {"statfs ", ": no such file or directory"}}) {
    const size_t at = message.find(before);
    if (at == std::string_view::npos) continue;
    const std::string_view path = message.substr(at + before.size());
    const size_t end = after.empty() ? path.size() : path.find(after);
    if (end != std::string_view::npos && path.starts_with('/')) return std::string(path.substr(0, end));
  }
  return "";
}

bool IsNameTaken(int status, std::string_view message) { return (status == 409 || status == 500) && message.find("already in use") != std::string_view::npos; }

Verdict UnreachableVerdict(const Flavour& flavour, const std::string& endpoint, const std::string& message) {
  return Failed(ir::ErrorKind::Network, fmt::format("{} at {} did not answer: {}", ir::BackendName(flavour.kind), endpoint, message));
}

Verdict FailureOf(Step step, int status, const std::string& message, const AttemptLaunch& launch, const Flavour& flavour) {
  using Kind = ir::ErrorKind;
  const std::string_view name = ir::BackendName(flavour.kind);
  const std::string& image = launch.image;
  if (Has(message, {"no space left on device", "disk quota exceeded"})) {
    return Failed(Kind::Staging, fmt::format("{} has no space left: {}. Free some, for example with  {} system prune", name, message, name));
  }
  switch (step) {
    case Step::Image:
    case Step::Pull:
    case Step::Layers: return PullFailure(step, status, message, image, name);
    case Step::Create:
      if (status == 404 && Has(message, {"No such image", "no such image", "image not known"})) {
        return Failed(Kind::Image, fmt::format("there is no image `{}` any more: {}", image, message));
      }
      if (WhyRefused(message) == Refusal::Why::Platform) return PullFailure(step, status, message, image, name);
      break;
    case Step::Start:
      if (Has(message, {"executable file not found", "exec format error", "OCI runtime attempted to invoke a command that was not found"}) ||
          (Has(message, {"unable to start container process: exec"}) && Has(message, {"permission denied", "no such file or directory", "is a directory"}))) {
        const std::string program = launch.argv.empty() ? "the command" : "`" + launch.argv.front() + "`";
        return Failed(Kind::Command, fmt::format("{} cannot be started in the image `{}`: {}{}", program, image, message,
                                                 Has(message, {"exec format error"}) ? ". It is no program, or the image is for another kind of processor" : ""));
      }
      if (Has(message, {"bind source path does not exist"})) break;
      if (Has(message, {"unable to find user", "no matching entries in passwd", "no matching entries in group"})) {
        return Final(Failed(Kind::Image, fmt::format("the image `{}` does not know the user: {}", image, message)));
      }
      if (Has(message, {"could not select device driver"})) {
        return Failed(Kind::Submit, fmt::format("this engine has no graphics processors for containers: {}. Install the container toolkit of their maker, or ask for none", message));
      }
      break;
  }
  if (Has(message, {"bind source path does not exist"})) return Failed(Kind::Staging, fmt::format("{}: {}", name, message));
  return Failed(Kind::Submit, fmt::format("{} refused the container ({}): {}", name, status, message));
}

std::optional<ContainerEvent> ParseEvent(std::string_view line) {
  const Json event = Parse(line);
  if (const std::string type = Text(event, "Type"); type != "container") return std::nullopt;
  const Json actor = Member(event, "Actor");
  const Json attributes = Member(actor, "Attributes");
  ContainerEvent out;
  out.action = Text(event, "Action");
  if (out.action == "died") out.action = "die";
  out.id = Text(actor, "ID");
  if (out.id.empty()) out.id = Text(event, "id");
  out.attempt = Text(attributes, kAttemptLabel.data());
  out.exit_code = static_cast<int>(ToNumber(Text(attributes, "exitCode"), -1));
  if (out.exit_code < 0 && out.action == "die") out.exit_code = static_cast<int>(ToNumber(Text(attributes, "containerExitCode"), -1));
  out.signal = static_cast<int>(ToNumber(Text(attributes, "signal"), 0));
  out.time_ns = Number(event, "timeNano");
  if (out.id.empty() || out.action.empty()) return std::nullopt;
  return out;
}

bool Lines::Feed(std::string_view bytes, const std::function<void(std::string_view)>& each, size_t most) {
  while (!bytes.empty()) {
    const size_t end = bytes.find('\n');
    if (end == std::string_view::npos) {
      rest_.append(bytes);
      return rest_.size() <= most;
    }
    if (rest_.empty()) {
      each(bytes.substr(0, end));
    } else {
      rest_.append(bytes.substr(0, end));
      std::string line;
      line.swap(rest_);
      each(line);
    }
    bytes.remove_prefix(end + 1);
  }
  return true;
}

bool LogFrames::Feed(std::string_view bytes, const std::function<void(LogStream, std::string_view)>& each) {
  while (!bytes.empty() && !broken_) {
    if (left_ > 0) {
      const size_t count = static_cast<size_t>(std::min<uint64_t>(left_, bytes.size()));
      left_ -= count;
      each(stream_, bytes.substr(0, count));
      begins_ = false;
      bytes.remove_prefix(count);
      continue;
    }
    const size_t count = std::min(sizeof header_ - have_, bytes.size());
    std::memcpy(header_ + have_, bytes.data(), count);
    have_ += count;
    bytes.remove_prefix(count);
    if (have_ < sizeof header_) break;
    have_ = 0;
    // 0 is stdin, which the API writes as stdout.
    if (header_[0] > 2 || header_[1] != 0 || header_[2] != 0 || header_[3] != 0) {
      broken_ = true;
      break;
    }
    stream_ = header_[0] == 2 ? LogStream::Stderr : LogStream::Stdout;
    begins_ = true;
    left_ = uint64_t{header_[4]} << 24 | uint64_t{header_[5]} << 16 | uint64_t{header_[6]} << 8 | header_[7];
  }
  return !broken_;
}

void PullProgress::Feed(std::string_view line) {
  const Json step = Parse(line);
  if (!step.is_object()) return;
  if (std::string error = Text(step, "error"); !error.empty()) error_ = ErrorMessage(Dump({{"message", error}}));
  if (std::string error = Text(Member(step, "errorDetail"), "message"); !error.empty()) error_ = ErrorMessage(Dump({{"message", error}}));
  const std::string id = Text(step, "id");
  const std::string status = Text(step, "status");
  if (id.empty()) return;
  const Json detail = Member(step, "progressDetail");
  auto layer = std::find_if(layers_.begin(), layers_.end(), [&](const Layer& one) { return one.id == id; });
  const bool comes = status == "Pulling fs layer" || status == "Waiting" || status == "Downloading" || status.starts_with("Retrying");
  if (comes && layer == layers_.end()) layer = layers_.insert(layers_.end(), Layer{id});
  if (layer == layers_.end()) return;
  layer->here = !comes;
  if (status == "Downloading" && Number(detail, "total") > 0) {
    layer->done = Number(detail, "current");
    layer->total = Number(detail, "total");
  } else if (status.starts_with("Download complete")) {
    layer->done = layer->total;
  }
}

bool PullProgress::HasBegun() const { return !layers_.empty(); }

bool PullProgress::IsHere() const {
  return !layers_.empty() && std::all_of(layers_.begin(), layers_.end(), [](const Layer& one) { return one.here; });
}

std::string PullProgress::Said() const {
  int64_t done = 0, total = 0;
  for (const Layer& layer : layers_) {
    done += layer.done;
    total += layer.total;
  }
  return total == 0 ? "" : fmt::format("{} of {}", Size(done), Size(total));
}

bool IsNumericUser(std::string_view user) {
  const std::string_view name = user.substr(0, user.find(':'));
  return std::all_of(name.begin(), name.end(), [](char c) { return c >= '0' && c <= '9'; });
}

std::optional<UserIds> IdsOf(std::string_view user, std::string_view passwd) {
  const size_t colon = user.find(':');
  const std::string_view name = user.substr(0, colon);
  const std::string_view group = colon == std::string_view::npos ? std::string_view() : user.substr(colon + 1);
  UserIds out;
  if (name.empty() || name == "root") return out;
  bool found = IsNumericUser(name);
  if (found) out.uid = ToNumber(name, 0);
  while (!passwd.empty()) {
    const std::string_view line = passwd.substr(0, passwd.find('\n'));
    passwd.remove_prefix(std::min(line.size() + 1, passwd.size()));
    std::string_view fields[4];
    std::string_view rest = line;
    for (std::string_view& field : fields) {
      field = rest.substr(0, rest.find(':'));
      rest.remove_prefix(std::min(field.size() + 1, rest.size()));
    }
    if (fields[0] == name || (IsNumericUser(name) && ToNumber(fields[2], -1) == out.uid)) {
      out.uid = ToNumber(fields[2], 0);
      out.gid = ToNumber(fields[3], 0);
      found = true;
      break;
    }
  }
  if (!found) return std::nullopt;
  if (!group.empty()) out.gid = ToNumber(group, out.gid);
  return out;
}

std::string FirstFileOfTar(std::string_view archive) {
  constexpr size_t kBlock = 512;
  while (archive.size() >= kBlock && archive[0] != '\0') {
    uint64_t size = 0;
    for (char c : archive.substr(124, 12)) {
      if (c >= '0' && c <= '7') size = size * 8 + static_cast<uint64_t>(c - '0');
    }
    const char type = archive[156];
    if (size > archive.size() - kBlock) return "";
    if (type == '0' || type == '\0') return std::string(archive.substr(kBlock, size));
    archive.remove_prefix(std::min<uint64_t>(kBlock + (size + kBlock - 1) / kBlock * kBlock, archive.size()));
  }
  return "";
}

}  // namespace jobc::docker
