#include "runtime/control.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "ir/json.h"

namespace jobc {
namespace {

constexpr const char* kName = "control";
constexpr uint64_t kPauseMs = 1000;
/// How long an answer may take: the engine may be publishing.
constexpr int kAnswerMs = 30'000;

/// The socket's address through a descriptor of its directory: the path of a run is often longer than an address may be.
sockaddr_un Address(int directory) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::snprintf(address.sun_path, sizeof address.sun_path, "/proc/self/fd/%d/%s", directory, kName);
  return address;
}

const ir::Value* Find(const ir::Value& json, const char* key, ir::ValueKind kind) {
  const ir::Value* found = json.kind() == ir::ValueKind::Map ? json.Find(key) : nullptr;
  return found != nullptr && found->kind() == kind ? found : nullptr;
}

bool Flag(const ir::Value& json, const char* key) {
  const ir::Value* found = Find(json, key, ir::ValueKind::Bool);
  return found != nullptr && found->as_bool();
}

std::string ErrorLine(std::string_view message) { return "{\"error\":" + ir::JsonQuote(message) + "}"; }

std::optional<CancelRequest> ParseCancel(const ir::Value& json) {
  CancelRequest out;
  out.run = Flag(json, "run");
  out.at_once = Flag(json, "at_once");
  if (const ir::Value* targets = Find(json, "targets", ir::ValueKind::List)) {
    for (const ir::Value& one : targets->as_list()) {
      const ir::Value* job = Find(one, "job", ir::ValueKind::Int);
      const ir::Value* ordinal = Find(one, "ordinal", ir::ValueKind::Int);
      if (job == nullptr || job->as_int() < 0 || job->as_int() > UINT32_MAX || (ordinal != nullptr && (ordinal->as_int() < -1 || ordinal->as_int() > UINT32_MAX))) {
        return std::nullopt;
      }
      out.targets.push_back({static_cast<uint32_t>(job->as_int()), ordinal == nullptr ? -1 : ordinal->as_int()});
    }
  }
  if (out.run != out.targets.empty() || (out.at_once && !out.run)) {
    return std::nullopt;
  }
  return out;
}

}  // namespace

// -- The server ----------------------------------------------------------------------------------------------------

struct ControlServer::Client {
  ControlServer* server = nullptr;
  int fd = -1;
  uv_poll_t* poll = nullptr;
  std::string who;
  std::string in;
  std::string out;
  size_t written = 0;    ///< of `out`
  uint64_t lost = 0;     ///< events that did not fit
  bool watching = false;
  bool closing = false;  ///< gone once `out` is written
  bool dead = false;     ///< to be taken from the list
};

ControlServer::ControlServer(uv_loop_t* loop, ControlHandler* handler) : loop_(loop), handler_(handler) {}

Result<std::unique_ptr<ControlServer>> ControlServer::Listen(uv_loop_t* loop, const std::string& run_dir, ControlHandler* handler) {
  std::unique_ptr<ControlServer> server(new ControlServer(loop, handler));
  server->directory_.Reset(open(run_dir.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!server->directory_) {
    return process::SystemError(run_dir, errno);
  }
  server->socket_.Reset(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!server->socket_) {
    return process::SystemError("a socket", errno);
  }
  const int fd = server->socket_.get();
  // What a killed process left behind: this one holds the run's lock.
  unlinkat(server->directory_.get(), kName, 0);
  sockaddr_un address = Address(server->directory_.get());
  // The file is made with the mode of the socket itself, so that there is no moment at which others could connect.
  if (fchmod(fd, 0600) != 0 || bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
      fchmodat(server->directory_.get(), kName, 0600, 0) != 0 || listen(fd, 16) != 0) {
    return process::SystemError(run_dir + "/" + kName, errno);
  }
  server->poll_ = new uv_poll_t;
  if (int error = uv_poll_init(loop, server->poll_, fd); error != 0) {
    delete server->poll_;
    server->poll_ = nullptr;
    return process::SystemError(run_dir + "/" + kName, -error);
  }
  server->poll_->data = server.get();
  server->pause_ = new uv_timer_t;
  uv_timer_init(loop, server->pause_);
  server->pause_->data = server.get();
  // Neither keeps the loop alive: they are only there for as long as the run is.
  uv_unref(reinterpret_cast<uv_handle_t*>(server->poll_));
  uv_unref(reinterpret_cast<uv_handle_t*>(server->pause_));
  uv_poll_start(server->poll_, UV_READABLE, OnConnect);
  return server;
}

ControlServer::~ControlServer() {
  if (directory_ && poll_ != nullptr) {
    unlinkat(directory_.get(), kName, 0);
  }
  for (const std::unique_ptr<Client>& client : clients_) {
    if (!client->dead) {
      (void)Write(*client);
    }
    if (!client->dead) {
      Drop(*client);
    }
  }
  auto close = [](auto* handle) {
    if (handle != nullptr) {
      uv_close(reinterpret_cast<uv_handle_t*>(handle), [](uv_handle_t* closed) { delete reinterpret_cast<std::remove_pointer_t<decltype(handle)>*>(closed); });
    }
  };
  close(poll_);
  close(pause_);
}

void ControlServer::OnConnect(uv_poll_t* handle, int, int) { static_cast<ControlServer*>(handle->data)->Accept(); }

void ControlServer::Accept() {
  std::erase_if(clients_, [](const std::unique_ptr<Client>& client) { return client->dead; });
  for (;;) {
    int fd = accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0) {
      if (errno == EINTR || errno == ECONNABORTED) {
        continue;
      }
      if (errno != EAGAIN && errno != EWOULDBLOCK) {
        // No descriptors or memory: asking again at once would only burn time.
        uv_poll_stop(poll_);
        uv_timer_start(pause_, [](uv_timer_t* timer) {
          auto* self = static_cast<ControlServer*>(timer->data);
          uv_poll_start(self->poll_, UV_READABLE, OnConnect);
        }, kPauseMs, 0);
      }
      return;
    }
    ucred peer{};
    socklen_t size = sizeof peer;
    const bool known = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0;
    if (!known || (peer.uid != geteuid() && peer.uid != 0) || clients_.size() >= kMaxClients) {
      const std::string line = ErrorLine(clients_.size() >= kMaxClients ? "there are too many others already" : "this run belongs to another user") + "\n";
      [[maybe_unused]] ssize_t sent = send(fd, line.data(), line.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      close(fd);
      continue;
    }
    auto client = std::make_unique<Client>();
    client->server = this;
    client->fd = fd;
    client->who = fmt::format("pid {}", peer.pid);
    client->poll = new uv_poll_t;
    if (uv_poll_init(loop_, client->poll, fd) != 0) {
      delete client->poll;
      close(fd);
      continue;
    }
    client->poll->data = client.get();
    uv_unref(reinterpret_cast<uv_handle_t*>(client->poll));
    Arm(*client);
    clients_.push_back(std::move(client));
  }
}

void ControlServer::Arm(Client& client) {
  if (client.dead) {
    return;
  }
  const int events = (client.closing ? 0 : UV_READABLE) | UV_DISCONNECT | (client.written < client.out.size() ? UV_WRITABLE : 0);
  uv_poll_start(client.poll, events, OnClient);
}

void ControlServer::OnClient(uv_poll_t* handle, int status, int events) {
  Client& client = *static_cast<Client*>(handle->data);
  ControlServer& self = *client.server;
  if (status < 0) {
    self.Drop(client);
    return;
  }
  if ((events & UV_READABLE) != 0) {
    self.Read(client);
  }
  if (!client.dead && (events & UV_WRITABLE) != 0 && !self.Write(client)) {
    return;
  }
  // Whoever closed its side after a request is still told the answer, as far as it can be written at once.
  if (!client.dead && (events & UV_DISCONNECT) != 0) {
    self.Drop(client);
  }
}

void ControlServer::Read(Client& client) {
  char bytes[16 << 10];
  for (int turns = 0; turns < 8 && !client.dead && !client.closing; ++turns) {
    ssize_t count = recv(client.fd, bytes, sizeof bytes, 0);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
      break;
    }
    if (count <= 0) {
      Drop(client);
      return;
    }
    client.in.append(bytes, static_cast<size_t>(count));
    for (size_t end = client.in.find('\n'); end != std::string::npos && !client.closing && !client.dead; end = client.in.find('\n')) {
      std::string request = client.in.substr(0, end);
      client.in.erase(0, end + 1);
      Answer(client, request);
    }
    if (!client.dead && client.in.size() > kMaxRequest) {
      client.closing = true;
      Send(client, ErrorLine("the request is too long"));
      return;
    }
  }
}

void ControlServer::Answer(Client& client, std::string_view request) {
  auto refuse = [&](std::string_view why) {
    client.closing = true;
    Send(client, ErrorLine(why));
  };
  if (request.size() > kMaxRequest) {
    refuse("the request is too long");
    return;
  }
  auto json = ir::ParseJson(request);
  if (!json || json->kind() != ir::ValueKind::Map) {
    refuse("the request is not a JSON object");
    return;
  }
  const ir::Value* what = Find(*json, "do", ir::ValueKind::String);
  if (what != nullptr && what->as_string() == "watch") {
    if (!client.watching) {
      client.watching = true;
      ++watchers_;
    }
    Send(client, "{\"watching\":true}");
  } else if (what != nullptr && what->as_string() == "cancel") {
    auto cancel = ParseCancel(*json);
    if (!cancel) {
      refuse("the request to cancel names nothing that can be cancelled");
      return;
    }
    CancelAnswer answer = handler_->Cancel(*cancel, fmt::format("jobc cancel ({})", client.who));
    Send(client, answer.error.empty() ? fmt::format("{{\"cancelled\":{},\"stopping\":{}}}", answer.cancelled, answer.stopping) : ErrorLine(answer.error));
  } else {
    refuse("this version of jobc knows `watch` and `cancel` only");
  }
}

void ControlServer::Send(Client& client, std::string line) {
  client.out += line;
  client.out += '\n';
  if (Write(client)) {
    Arm(client);
  }
}

bool ControlServer::Write(Client& client) {
  for (;;) {
    while (client.written < client.out.size()) {
      ssize_t count = send(client.fd, client.out.data() + client.written, client.out.size() - client.written, MSG_NOSIGNAL | MSG_DONTWAIT);
      if (count < 0 && errno == EINTR) {
        continue;
      }
      if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
        if (client.written > (size_t{256} << 10)) {
          client.out.erase(0, client.written);
          client.written = 0;
        }
        return true;
      }
      if (count <= 0) {
        Drop(client);
        return false;
      }
      client.written += static_cast<size_t>(count);
    }
    client.out.clear();
    client.written = 0;
    if (client.lost == 0) {
      break;
    }
    client.out = fmt::format("{{\"event\":\"lost\",\"time_ms\":{},\"count\":{}}}\n", process::WallMillis(), client.lost);
    client.lost = 0;
  }
  if (client.closing) {
    Drop(client);
    return false;
  }
  Arm(client);
  return true;
}

void ControlServer::Tell(std::string_view event_json) {
  for (const std::unique_ptr<Client>& client : clients_) {
    if (client->dead || !client->watching || client->closing) {
      continue;
    }
    if (client->lost != 0 || client->out.size() - client->written + event_json.size() > kMaxUnread) {
      ++client->lost;
      continue;
    }
    Send(*client, std::string(event_json));
  }
}

void ControlServer::Drop(Client& client) {
  if (client.dead) {
    return;
  }
  client.dead = true;
  watchers_ -= client.watching ? 1 : 0;
  uv_poll_stop(client.poll);
  uv_close(reinterpret_cast<uv_handle_t*>(client.poll), [](uv_handle_t* closed) { delete reinterpret_cast<uv_poll_t*>(closed); });
  close(client.fd);
  client.fd = -1;
}

// -- The client ----------------------------------------------------------------------------------------------------

Result<ControlClient> ControlClient::Connect(const std::string& run_dir) {
  process::UniqueFd directory(open(run_dir.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!directory) {
    return process::SystemError(run_dir, errno);
  }
  process::UniqueFd fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) {
    return process::SystemError("a socket", errno);
  }
  sockaddr_un address = Address(directory.get());
  if (connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    return process::SystemError(run_dir + "/" + kName, errno);
  }
  return ControlClient(std::move(fd));
}

Result<std::string> ControlClient::Next(int timeout_ms) {
  const int64_t deadline = timeout_ms < 0 ? INT64_MAX : process::MonotonicMillis() + timeout_ms;
  for (;;) {
    if (size_t end = buffer_.find('\n', taken_); end != std::string::npos) {
      std::string line = buffer_.substr(taken_, end - taken_);
      taken_ = end + 1;
      if (taken_ > (size_t{64} << 10)) {
        buffer_.erase(0, taken_);
        taken_ = 0;
      }
      return line;
    }
    const int64_t left = timeout_ms < 0 ? -1 : std::max<int64_t>(0, deadline - process::MonotonicMillis());
    pollfd one{fd_.get(), POLLIN, 0};
    const int ready = poll(&one, 1, static_cast<int>(left));
    if (ready == 0 || (ready < 0 && errno == EINTR)) {
      return std::string();  // also after a signal: the caller may want to look at it
    }
    char bytes[64 << 10];
    ssize_t count = ready < 0 ? -1 : recv(fd_.get(), bytes, sizeof bytes, 0);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count <= 0) {
      return Error{"the process that executes the run is gone", ECONNRESET};
    }
    buffer_.append(bytes, static_cast<size_t>(count));
  }
}

Result<std::string> ControlClient::Ask(std::string_view request) {
  std::string line = std::string(request) + "\n";
  for (size_t sent = 0; sent < line.size();) {
    ssize_t count = send(fd_.get(), line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) {
      continue;
    }
    if (count <= 0) {
      break;  // it may have said why before it closed
    }
    sent += static_cast<size_t>(count);
  }
  const int64_t deadline = process::MonotonicMillis() + kAnswerMs;
  std::string answer;
  while (answer.empty()) {
    auto next = Next(static_cast<int>(std::max<int64_t>(0, deadline - process::MonotonicMillis())));
    if (!next) {
      return next.error();
    }
    answer = *std::move(next);
    if (answer.empty() && process::MonotonicMillis() >= deadline) {
      return Error{"the process that executes the run does not answer; is it stopped?", ETIMEDOUT};
    }
  }
  auto json = ir::ParseJson(answer);
  if (!json || json->kind() != ir::ValueKind::Map) {
    return Error{"the process that executes the run gave an answer that is not understood: is it of another version?", EPROTO};
  }
  if (const ir::Value* error = Find(*json, "error", ir::ValueKind::String)) {
    return Error{error->as_string(), EINVAL};
  }
  return answer;
}

Result<CancelAnswer> ControlClient::Cancel(const CancelRequest& request) {
  std::string text = "{\"do\":\"cancel\"";
  if (request.run) {
    text += fmt::format(",\"run\":true,\"at_once\":{}", request.at_once);
  } else {
    text += ",\"targets\":[";
    for (size_t i = 0; i < request.targets.size(); ++i) {
      text += fmt::format("{}{{\"job\":{},\"ordinal\":{}}}", i == 0 ? "" : ",", request.targets[i].job, request.targets[i].ordinal);
    }
    text += "]";
  }
  auto answer = Ask(text + "}");
  if (!answer) {
    return answer.error();
  }
  auto json = ir::ParseJson(*answer);
  CancelAnswer out;
  if (const ir::Value* count = Find(*json, "cancelled", ir::ValueKind::Int)) {
    out.cancelled = static_cast<uint32_t>(count->as_int());
  }
  out.stopping = Flag(*json, "stopping");
  return out;
}

Result<void> ControlClient::Watch() {
  auto answer = Ask("{\"do\":\"watch\"}");
  if (!answer) {
    return answer.error();
  }
  return {};
}

}  // namespace jobc
