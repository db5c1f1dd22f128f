#include "backends/docker/leftovers.h"

#include <fmt/format.h>

#include "backends/docker/engine_api.h"
#include "ir/json.h"

namespace jobc::docker {
namespace {

constexpr uint64_t kMostBytes = 64ULL << 20;

HttpRequest Ask(const Endpoint& endpoint, std::string method, const std::string& path) {
  HttpRequest request;
  request.method = std::move(method);
  request.url = endpoint.base_url + path;
  request.unix_socket = endpoint.unix_socket;
  request.tls = endpoint.tls;
  request.stall_ms = 60'000;
  return request;
}

std::string Text(const ir::Value& object, const char* key) {
  const ir::Value* found = object.kind() == ir::ValueKind::Map ? object.Find(key) : nullptr;
  return found != nullptr && found->kind() == ir::ValueKind::String ? found->as_string() : std::string();
}

}  // namespace

std::optional<std::vector<Leftover>> ParseLeftovers(std::string_view body) {
  auto json = ir::ParseJson(body);
  if (!json || json->kind() != ir::ValueKind::List) {
    return std::nullopt;
  }
  std::vector<Leftover> out;
  for (const ir::Value& one : json->as_list()) {
    Leftover container;
    container.id = Text(one, "Id");
    container.status = Text(one, "State");
    const ir::Value* created = one.kind() == ir::ValueKind::Map ? one.Find("Created") : nullptr;
    container.created_ms = created != nullptr && created->kind() == ir::ValueKind::Int ? created->as_int() * 1000 : 0;
    if (const ir::Value* labels = one.kind() == ir::ValueKind::Map ? one.Find("Labels") : nullptr) {
      container.run = Text(*labels, std::string(kRunLabel).c_str());
      container.attempt = Text(*labels, std::string(kAttemptLabel).c_str());
      container.instance = Text(*labels, std::string(kInstanceLabel).c_str());
      container.secrets = Text(*labels, std::string(kSecretsLabel).c_str());
    }
    if (!container.id.empty() && !container.run.empty()) {
      out.push_back(std::move(container));
    }
  }
  return out;
}

Result<std::vector<Leftover>> ListLeftovers(const Endpoint& endpoint, const std::string& state_dir) {
  const std::string filters = fmt::format("{{\"label\":[\"{}={}\"]}}", kStateLabel, StateLabel(state_dir));
  HttpEnd end;
  auto answer = FetchNow(Ask(endpoint, "GET", ApiPath("/containers/json", {{"all", "1"}, {"filters", filters}})), kMostBytes, &end);
  if (auto tls = TlsTrouble(endpoint, end, answer ? answer->body : "")) {
    return Error{tls->what + ". " + tls->help};
  }
  if (!answer) {
    return answer.error();
  }
  if (answer->head.status != 200) {
    return Error{fmt::format("{} answered with status {}: {}", endpoint.text, answer->head.status, ErrorMessage(answer->body))};
  }
  auto parsed = ParseLeftovers(answer->body);
  if (!parsed) {
    return Error{fmt::format("{} gave no list of containers", endpoint.text)};
  }
  return *std::move(parsed);
}

Result<void> RemoveLeftover(const Endpoint& endpoint, const Leftover& leftover) {
  HttpEnd end;
  auto answer = FetchNow(Ask(endpoint, "DELETE", ApiPath("/containers/" + leftover.id, {{"force", "1"}, {"v", "1"}})), kMostBytes, &end);
  if (!answer) {
    return answer.error();
  }
  // 409: its removal is under way already.
  if (answer->head.status / 100 != 2 && answer->head.status != 404 && answer->head.status != 409) {
    return Error{ErrorMessage(answer->body)};
  }
  return {};
}

}  // namespace jobc::docker
