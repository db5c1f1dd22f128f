#include "backends/docker/credentials.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <nlohmann/json.hpp>

namespace jobc::docker {
namespace {

using Json = nlohmann::json;

constexpr size_t kMostAnswer = 1 << 20;
constexpr const char* kHubKey = "https://index.docker.io/v1/";

std::string Member(const Json& object, const char* name) {
  if (!object.is_object()) return "";
  auto found = object.find(name);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

/// The host of a key of `auths`, which people write as host, URL, or URL with a path.
std::string HostOf(std::string_view key) {
  if (size_t at = key.find("://"); at != std::string_view::npos) key.remove_prefix(at + 3);
  return std::string(key.substr(0, key.find('/')));
}

/// The image's name without tag and digest, with its registry.
std::string FullName(const std::string& image) {
  std::string name = image.substr(0, image.find('@'));
  const std::string registry = RegistryOf(image);
  if (size_t colon = name.rfind(':'); colon != std::string::npos && name.find('/', colon) == std::string::npos) name.resize(colon);
  return name.starts_with(registry + "/") ? name : registry + "/" + name;
}

std::optional<Credentials> FromEntry(const Json& entry, const std::string& server) {
  Credentials out;
  out.server = server;
  out.identity_token = Member(entry, "identitytoken");
  out.username = Member(entry, "username");
  out.password = Member(entry, "password");
  if (auto pair = FromBase64(Member(entry, "auth")); pair && pair->find(':') != std::string::npos) {
    out.username = pair->substr(0, pair->find(':'));
    out.password = pair->substr(pair->find(':') + 1);
    while (out.password.ends_with('\0')) out.password.pop_back();
  }
  if (out.identity_token.empty() && out.username.empty()) return std::nullopt;
  return out;
}

std::optional<CredentialPlace> LookInto(const Json& config, const std::string& image) {
  const std::string registry = RegistryOf(image);
  const std::string server = registry == "docker.io" ? kHubKey : registry;
  auto object = [&](const char* name) { return config.is_object() && config.contains(name) && config[name].is_object() ? config[name] : Json::object(); };
  CredentialPlace out;
  out.server = server;
  for (const std::string& key : {server, registry}) {
    if (std::string helper = Member(object("credHelpers"), key.c_str()); !helper.empty()) {
      out.helper = std::move(helper);
      return out;
    }
  }
  const Json auths = object("auths");
  // podman: also for a part of a registry; the longest wins.
  for (std::string name = FullName(image);; name.resize(name.rfind('/'))) {
    if (auths.contains(name)) {
      if (auto known = FromEntry(auths[name], server)) {
        out.known = std::move(known);
        return out;
      }
    }
    if (name.find('/') == std::string::npos) break;
  }
  for (const auto& [key, entry] : auths.items()) {
    const std::string host = HostOf(key);
    // What names only a part of the registry was looked at above.
    if (key.find("://") == std::string::npos && key.find('/') != std::string::npos) continue;
    if (host != registry && !(registry == "docker.io" && (host == "index.docker.io" || host == "registry-1.docker.io"))) continue;
    if (auto known = FromEntry(entry, server)) {
      out.known = std::move(known);
      return out;
    }
  }
  if (std::string store = Member(config, "credsStore"); !store.empty()) {
    out.helper = std::move(store);
    return out;
  }
  return std::nullopt;
}

}  // namespace

std::string Base64(std::string_view bytes, bool url) {
  const char* alphabet = url ? "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_" : "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t left = std::min<size_t>(3, bytes.size() - i);
    uint32_t word = 0;
    for (size_t k = 0; k < 3; ++k) word = word << 8 | (k < left ? static_cast<unsigned char>(bytes[i + k]) : 0);
    for (size_t k = 0; k < 4; ++k) out += k <= left ? alphabet[word >> (18 - 6 * k) & 63] : '=';
  }
  return out;
}

std::optional<std::string> FromBase64(std::string_view text) {
  std::string out;
  uint32_t word = 0;
  int bits = 0;
  while (text.ends_with('=')) text.remove_suffix(1);
  for (char c : text) {
    int digit = c >= 'A' && c <= 'Z'   ? c - 'A'
                : c >= 'a' && c <= 'z' ? c - 'a' + 26
                : c >= '0' && c <= '9' ? c - '0' + 52
                : c == '+' || c == '-' ? 62
                : c == '/' || c == '_' ? 63
                                       : -1;
    if (digit < 0) return std::nullopt;
    word = word << 6 | static_cast<uint32_t>(digit);
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      out += static_cast<char>(word >> bits & 0xff);
    }
  }
  return out;
}

std::string RegistryOf(const std::string& image) {
  const size_t slash = image.find('/');
  if (slash == std::string::npos) return "docker.io";
  const std::string first = image.substr(0, slash);
  if (first == "index.docker.io") return "docker.io";
  const bool is_host = first == "localhost" || first.find_first_of(".:") != std::string::npos;
  return is_host ? first : "docker.io";
}

std::string RegistryAuth(const Credentials& credentials) {
  Json out;
  if (!credentials.identity_token.empty()) {
    out["identitytoken"] = credentials.identity_token;
  } else {
    out["username"] = credentials.username;
    out["password"] = credentials.password;
  }
  out["serveraddress"] = credentials.server;
  return Base64(out.dump(-1, ' ', false, Json::error_handler_t::replace), true);
}

CredentialPlace LookForCredentials(ir::BackendKind kind, const std::string& image, const Surroundings& surroundings) {
  std::vector<std::string> files;
  if (kind == ir::BackendKind::Podman) {
    if (auto file = surroundings.env("REGISTRY_AUTH_FILE")) files.push_back(*file);
    files.push_back(surroundings.RuntimeDir() + "/containers/auth.json");
    if (surroundings.uid == 0) files.push_back("/run/containers/0/auth.json");
    files.push_back(surroundings.env("XDG_CONFIG_HOME").value_or(surroundings.Home() + "/.config") + "/containers/auth.json");
  }
  files.push_back(surroundings.DockerConfig() + "/config.json");
  for (const std::string& file : files) {
    auto text = surroundings.read(file);
    if (!text) continue;
    if (auto found = LookInto(Json::parse(*text, nullptr, false), image)) return *found;
  }
  return {};
}

Result<std::optional<Credentials>> ParseHelperAnswer(const std::string& server, int exit_code, const std::string& output) {
  if (exit_code != 0) {
    // The one text by which helpers say that there is no entry, and the one for a registry they were never given.
    if (output.find("credentials not found") != std::string::npos || output.find("no credentials server URL") != std::string::npos) return std::optional<Credentials>();
    return Error{fmt::format("it ended with exit code {}", exit_code)};
  }
  const Json answer = Json::parse(output, nullptr, false);
  Credentials out;
  out.server = server;
  out.username = Member(answer, "Username");
  std::string secret = Member(answer, "Secret");
  if (out.username.empty() && secret.empty()) return Error{"its answer is not the JSON of a credential helper"};
  (out.username == "<token>" ? out.identity_token : out.password) = std::move(secret);
  return std::optional<Credentials>(std::move(out));
}

struct CredentialHelpers::Run {
  CredentialHelpers* owner = nullptr;  ///< null: nobody waits any more
  Answer answer;
  std::string helper, server, output, input;
  uv_process_t process{};
  uv_pipe_t in{}, out{};
  uv_timer_t timer{};
  uv_write_t write{};
  int open_handles = 0;
  int exit_code = -1;
  bool spawned = false, exited = false, eof = false, late = false, told = false, closing = false;

  void Close() {
    if (closing) return;
    closing = true;
    auto close = [this](auto* handle) {
      ++open_handles;
      handle->data = this;
      uv_close(reinterpret_cast<uv_handle_t*>(handle), [](uv_handle_t* closed) {
        Run* run = static_cast<Run*>(closed->data);
        if (--run->open_handles == 0) delete run;
      });
    };
    close(&in);
    close(&out);
    close(&timer);
    if (spawned) close(&process);
  }

  void Check() {
    if (told || !((exited && eof) || late)) return;
    told = true;
    Result<std::optional<Credentials>> result = late ? Error{"it gave no answer in time"} : ParseHelperAnswer(server, exit_code, output);
    if (!result.ok()) result = Error{fmt::format("`docker-credential-{}` gave no credentials for {}: {}", helper, server, result.error().message)};
    Answer tell = std::move(answer);
    if (owner != nullptr) owner->Ended(this);
    owner = nullptr;
    Close();
    tell(std::move(result));
  }
};

CredentialHelpers::~CredentialHelpers() {
  for (Run* run : runs_) {
    run->owner = nullptr;
    run->told = true;
    if (run->spawned && !run->exited) uv_process_kill(&run->process, SIGKILL);
    run->Close();
  }
}

void CredentialHelpers::Ended(Run* run) { std::erase(runs_, run); }

void CredentialHelpers::Ask(const CredentialPlace& place, Answer answer, uint64_t limit_ms) {
  Run* run = new Run;
  run->owner = this;
  run->answer = std::move(answer);
  run->helper = place.helper;
  run->server = place.server;
  run->input = place.server + "\n";
  runs_.push_back(run);
  uv_pipe_init(loop_, &run->in, 0);
  uv_pipe_init(loop_, &run->out, 0);
  uv_timer_init(loop_, &run->timer);
  run->process.data = run->in.data = run->out.data = run->timer.data = run->write.data = run;
  std::string program = "docker-credential-" + place.helper;
  std::array<char*, 3> args = {program.data(), const_cast<char*>("get"), nullptr};
  uv_stdio_container_t stdio[3] = {};
  stdio[0].flags = static_cast<uv_stdio_flags>(UV_CREATE_PIPE | UV_READABLE_PIPE);
  stdio[0].data.stream = reinterpret_cast<uv_stream_t*>(&run->in);
  stdio[1].flags = static_cast<uv_stdio_flags>(UV_CREATE_PIPE | UV_WRITABLE_PIPE);
  stdio[1].data.stream = reinterpret_cast<uv_stream_t*>(&run->out);
  stdio[2].flags = UV_IGNORE;
  uv_process_options_t options{};
  options.file = program.c_str();
  options.args = args.data();
  options.stdio = stdio;
  options.stdio_count = 3;
  options.exit_cb = [](uv_process_t* process, int64_t status, int signal) {
    Run* self = static_cast<Run*>(process->data);
    self->exited = true;
    self->exit_code = signal != 0 ? 128 + signal : static_cast<int>(status);
    self->Check();
  };
  // Told from the loop also where nothing could be started.
  auto end_soon = [](Run* self, std::string text) {
    self->output = std::move(text);
    self->exited = self->eof = true;
    uv_timer_start(&self->timer, [](uv_timer_t* timer) { static_cast<Run*>(timer->data)->Check(); }, 0, 0);
  };
  if (int error = uv_spawn(loop_, &run->process, &options); error != 0) {
    run->spawned = true;  // its handle is in the loop all the same
    run->exit_code = 127;
    end_soon(run, uv_strerror(error));
    return;
  }
  run->spawned = true;
  uv_buf_t buffer = uv_buf_init(run->input.data(), static_cast<unsigned>(run->input.size()));
  uv_write(&run->write, reinterpret_cast<uv_stream_t*>(&run->in), &buffer, 1, [](uv_write_t* write, int) {
    Run* self = static_cast<Run*>(write->data);
    if (!self->closing) uv_shutdown(new uv_shutdown_t, reinterpret_cast<uv_stream_t*>(&self->in), [](uv_shutdown_t* shutdown, int) { delete shutdown; });
  });
  uv_read_start(reinterpret_cast<uv_stream_t*>(&run->out),
                [](uv_handle_t*, size_t size, uv_buf_t* into) { *into = uv_buf_init(new char[size], static_cast<unsigned>(size)); },
                [](uv_stream_t* stream, ssize_t count, const uv_buf_t* from) {
    Run* self = static_cast<Run*>(stream->data);
    if (count > 0 && self->output.size() < kMostAnswer) self->output.append(from->base, static_cast<size_t>(count));
    if (from->base != nullptr) {
      std::memset(from->base, 0, from->len);
      delete[] from->base;
    }
    if (count < 0) {
      self->eof = true;
      uv_read_stop(stream);
      self->Check();
    }
  });
  uv_timer_start(&run->timer, [](uv_timer_t* timer) {
    Run* self = static_cast<Run*>(timer->data);
    self->late = true;
    if (!self->exited) uv_process_kill(&self->process, SIGKILL);
    self->Check();
  }, limit_ms, 0);
}

}  // namespace jobc::docker
