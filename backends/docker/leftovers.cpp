#include "backends/docker/leftovers.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "backends/docker/engine_api.h"
#include "ir/json.h"
#include "runtime/process/os.h"

namespace jobc::docker {
namespace {

constexpr uint64_t kMostBytes = 64ULL << 20;

HttpRequest Ask(const Endpoint& endpoint, std::string method, const std::string& path) {
  // Between two questions may lie a whole run. If it does not come back, the request says so.
  if (endpoint.forward != nullptr) (void)endpoint.forward->Renew().ok();
  HttpRequest request;
  request.method = std::move(method);
  request.url = endpoint.base_url + path;
  request.unix_socket = endpoint.unix_socket;
  request.tls = endpoint.tls;
  request.connect_ms = 10'000;
  request.stall_ms = 60'000;
  return request;
}

Result<std::vector<Leftover>> List(const Endpoint& endpoint, const std::string& filters, HttpEnd& end) {
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

bool Lives(const Leftover& container) { return container.status == "running" || container.status == "paused" || container.status == "restarting"; }

std::string Text(const ir::Value& object, const char* key) {
  const ir::Value* found = object.kind() == ir::ValueKind::Map ? object.Find(key) : nullptr;
  return found != nullptr && found->kind() == ir::ValueKind::String ? found->as_string() : std::string();
}

}  // namespace

bool HasBegun(const Leftover& container) {
  return Lives(container) || container.status == "exited" || container.status == "stopped" || container.status == "stopping";
}

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
      container.state = Text(*labels, std::string(kStateLabel).c_str());
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
  return List(endpoint, filters, end);
}

/// Docker lists a container that it is making a moment before it knows it by its id: what is said to be gone may yet come.
static bool IsBeingMade(const Endpoint& endpoint, const Leftover& leftover) {
  if (leftover.status != "created") {
    return false;
  }
  HttpEnd end;
  const auto found = List(endpoint, fmt::format("{{\"id\":[\"{}\"]}}", leftover.id), end);
  return found && !found->empty();
}

Result<void> RemoveLeftover(const Endpoint& endpoint, const Leftover& leftover) {
  constexpr int kMostTries = 200;
  for (int tries = 0;; ++tries) {
    auto answer = FetchNow(Ask(endpoint, "DELETE", ApiPath("/containers/" + leftover.id, {{"force", "1"}, {"v", "1"}})), kMostBytes);
    if (!answer) {
      return answer.error();
    }
    const bool unknown = answer->head.status == 404;
    if (answer->head.status / 100 == 2 || (unknown && !IsBeingMade(endpoint, leftover))) {
      break;
    }
    // 409: its removal is under way already.
    if ((answer->head.status != 409 && !unknown) || tries >= kMostTries) {
      return Error{ErrorMessage(answer->body)};
    }
    usleep(50'000);
  }
  if (!leftover.secrets.empty() && leftover.secrets.find("jobc-" + leftover.run) != std::string::npos) {
    (void)process::RemoveTree(leftover.secrets).ok();
  }
  return {};
}

EngineName EngineOf(const ir::Plan& plan, const ir::Job& job) {
  EngineName out{job.backend.kind, "", ""};
  const ir::ExprPool& exprs = plan.program.exprs;
  for (const ir::NamedExpr& option : job.backend.options) {
    if ((option.name == "host" || option.name == "context") && exprs.IsConst(option.value) && exprs.ConstValue(option.value).kind() == ir::ValueKind::String) {
      (option.name == "host" ? out.host : out.context) = exprs.ConstValue(option.value).as_string();
    }
  }
  return out;
}

std::set<EngineName> EnginesOf(const ir::Plan& plan) {
  std::set<EngineName> out;
  for (const ir::Job& job : plan.jobs) {
    if (job.kind == ir::JobKind::Check || job.kind == ir::JobKind::Hook || (job.backend.kind != ir::BackendKind::Docker && job.backend.kind != ir::BackendKind::Podman)) {
      continue;
    }
    out.insert(EngineOf(plan, job));
  }
  return out;
}

Result<std::vector<LeftContainer>> FindContainers(Endpoints& endpoints, const std::set<EngineName>& engines, const std::set<std::string>& runs) {
  std::vector<LeftContainer> out;
  std::set<std::string> asked;
  for (const EngineName& engine : engines) {
    auto endpoint = endpoints.Open(engine.kind, engine.host, engine.context);
    if (!endpoint) {
      return endpoint.error();
    }
    if (!asked.insert(endpoint->text).second) {
      continue;
    }
    for (const std::string& run : runs) {
      HttpEnd end;
      auto found = List(*endpoint, RunFilter(run, false), end);
      if (!found) {
        return Error{end.ok() ? found.error().message : NoEngineMessage(engine.kind, *endpoint, end, endpoints.surroundings())};
      }
      for (Leftover& one : *found) {
        out.push_back({engine.kind, *endpoint, std::move(one)});
      }
    }
  }
  return out;
}

Result<void> EndContainers(const std::vector<LeftContainer>& containers, const std::function<int64_t(const Leftover&)>& grace_ms) {
  constexpr int64_t kFirstWaitMs = 20, kMostWaitMs = 200;
  struct Waiting {
    const LeftContainer* one;
    int64_t until_ms;
  };
  std::vector<Waiting> waiting;
  for (const LeftContainer& one : containers) {
    const int64_t grace = Lives(one.container) ? grace_ms(one.container) : 0;
    if (grace <= 0) {
      continue;
    }
    auto sent = FetchNow(Ask(one.endpoint, "POST", ApiPath("/containers/" + one.container.id + "/kill", {{"signal", "SIGTERM"}})), kMostBytes);
    if (sent && sent->head.status / 100 == 2) {
      waiting.push_back({&one, process::MonotonicMillis() + grace});
    }
  }
  // One list for each engine and run, however many there are.
  for (int64_t wait = kFirstWaitMs; !waiting.empty(); wait = std::min(2 * wait, kMostWaitMs)) {
    usleep(static_cast<useconds_t>(wait * 1000));
    std::set<std::pair<std::string, std::string>> asked;
    std::set<std::string> alive;
    for (const Waiting& each : waiting) {
      if (!asked.insert({each.one->endpoint.text, each.one->container.run}).second) {
        continue;
      }
      HttpEnd end;
      auto found = List(each.one->endpoint, RunFilter(each.one->container.run, false), end);
      if (!found) {
        return found.error();
      }
      for (const Leftover& now : *found) {
        if (Lives(now)) {
          alive.insert(now.id);
        }
      }
    }
    const int64_t now = process::MonotonicMillis();
    std::erase_if(waiting, [&](const Waiting& each) { return alive.count(each.one->container.id) == 0 || now >= each.until_ms; });
  }
  std::string problem;
  for (const LeftContainer& one : containers) {
    if (auto removed = RemoveLeftover(one.endpoint, one.container); !removed && problem.empty()) {
      problem = fmt::format("the container {} of {} at {} cannot be removed: {}", one.container.id.substr(0, 12), one.container.instance, one.endpoint.text, removed.error().message);
    }
  }
  return problem.empty() ? Result<void>() : Error{problem};
}

}  // namespace jobc::docker
