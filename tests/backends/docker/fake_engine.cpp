#include "tests/backends/docker/fake_engine.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>

namespace jobc::testing {
namespace {

using Json = nlohmann::json;

bool Send(int fd, const std::string& bytes) {
  for (size_t sent = 0; sent < bytes.size();) {
    const ssize_t count = send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (count <= 0) return false;
    sent += static_cast<size_t>(count);
  }
  return true;
}

std::string Whole(int status, const std::string& body) {
  return "HTTP/1.1 " + std::to_string(status) + " Said\r\nContent-Type: application/json\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
}

/// Of the address; empty: it is not there.
std::string Query(const std::string& target, const std::string& name) {
  const size_t at = target.find(name + "=");
  return at == std::string::npos ? "" : target.substr(at + name.size() + 1, target.find('&', at) - at - name.size() - 1);
}

}  // namespace

FakeEngine::FakeEngine(std::string path) : path_(std::move(path)) {
  Lock lock(mutex_);
  Listen();
}

FakeEngine::~FakeEngine() {
  {
    Lock lock(mutex_);
    over_ = true;
    shutdown(listener_, SHUT_RDWR);
    for (const auto& [fd, cut] : open_) shutdown(fd, SHUT_RDWR);
  }
  changed_.notify_all();
  for (size_t i = 0;; ++i) {
    std::thread thread;
    {
      Lock lock(mutex_);
      if (i == threads_.size()) break;
      thread = std::move(threads_[i]);
    }
    thread.join();
  }
}

void FakeEngine::Listen() {
  unlink(path_.c_str());
  listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  ASSERT_LT(path_.size(), sizeof address.sun_path);
  path_.copy(address.sun_path, sizeof address.sun_path - 1);
  ASSERT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_EQ(listen(listener_, 64), 0);
  threads_.emplace_back([this, listener = listener_] { Accept(listener); });
}

void FakeEngine::Accept(int listener) {
  for (int fd; (fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC)) >= 0;) {
    Lock lock(mutex_);
    open_[fd] = over_ || gone_;
    if (open_[fd]) shutdown(fd, SHUT_RDWR);
    threads_.emplace_back([this, fd] { Serve(fd); });
  }
  close(listener);
}

void FakeEngine::Serve(int fd) {
  std::string data;
  auto more = [&] {
    char buffer[65536];
    const ssize_t count = recv(fd, buffer, sizeof buffer, 0);
    if (count > 0) data.append(buffer, static_cast<size_t>(count));
    return count > 0;
  };
  for (bool good = true; good;) {
    size_t end;
    while ((end = data.find("\r\n\r\n")) == std::string::npos && (good = more())) {
    }
    if (!good) break;
    const std::string head = data.substr(0, end);
    data.erase(0, end + 4);
    const size_t at = head.find("Content-Length: ");
    const size_t size = at == std::string::npos ? 0 : std::strtoul(head.c_str() + at + 16, nullptr, 10);
    while (data.size() < size && (good = more())) {
    }
    const std::string body = data.substr(0, size);
    data.erase(0, size);
    const size_t space = head.find(' ');
    Lock lock(mutex_);
    asked_.push_back(head.substr(0, head.find("\r\n")));
    good = good && Answer(fd, lock, head.substr(0, space), head.substr(space + 1, head.find(' ', space + 1) - space - 1), body);
  }
  Lock lock(mutex_);
  open_.erase(fd);
  close(fd);
}

bool FakeEngine::Wait(Lock& lock, int fd) {
  changed_.wait(lock);
  return !over_ && !open_[fd];
}

bool FakeEngine::Answer(int fd, Lock& lock, const std::string& method, const std::string& target, const std::string& body) {
  while (silent_) {
    if (!Wait(lock, fd)) return false;
  }
  if (over_ || open_[fd]) return false;
  std::string path = target.substr(0, target.find('?'));
  const bool swallow = !swallowed_.empty() && path.ends_with(swallowed_);
  if (path.starts_with("/v1.41")) path.erase(0, 6);
  int status = 200;
  std::string answer;
  if (path == "/_ping") {
    answer = "OK";
  } else if (path == "/version") {
    answer = R"({"Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12"})";
  } else if (path == "/info") {
    answer = R"({"MemoryLimit": true, "CpuCfsQuota": true, "PidsLimit": true})";
  } else if (path == "/events") {
    return StreamEvents(fd, lock, target);
  } else if (path == "/images/create") {
    return StreamPull(fd, lock);
  } else if (path.starts_with("/images/") && !has_image_) {
    status = 404;
    answer = R"({"message": "No such image"})";
  } else if (path.starts_with("/images/")) {
    answer = R"({"Id": "sha256:0123", "Config": {"User": ""}})";
  } else if (path == "/containers/create") {
    const std::string id = "container" + std::to_string(++next_);
    containers_[id] = {Query(target, "name"), Json::parse(body)["Labels"].dump()};
    status = 201;
    answer = R"({"Id": ")" + id + R"(", "Warnings": []})";
  } else if (path == "/containers/json") {
    Json list = Json::array();
    for (const auto& [id, one] : containers_) list.push_back(Json::parse(Describe(id, one, true)));
    answer = list.dump();
  } else {
    const size_t from = std::string("/containers/").size();
    const std::string id = path.substr(std::min(path.size(), from), path.find('/', from) - from);
    const std::string rest = path.substr(std::min(path.size(), from + id.size()));
    auto found = containers_.find(id);
    if (found == containers_.end()) {
      status = 404;
      answer = R"({"message": "No such container"})";
    } else if (method == "DELETE") {
      if (found->second.status == "running") Tell(id, "die", 137);
      containers_.erase(found);
      changed_.notify_all();
      status = 204;
    } else if (rest == "/start") {
      found->second.status = "running";
      Tell(id, "start", -1);
      status = 204;
    } else if (rest == "/kill") {
      if (Query(target, "signal") == "SIGKILL") {
        found->second.status = "exited";
        found->second.code = 137;
        Tell(id, "die", 137);
      }
      status = 204;
    } else if (rest == "/attach" || rest == "/logs") {
      return StreamOutput(fd, lock, id, rest == "/attach", rest == "/attach" || Query(target, "follow") == "1");
    } else {
      answer = Describe(id, found->second, false);
    }
  }
  if (swallow) {
    while (Wait(lock, fd)) {
    }
    return false;
  }
  return Send(fd, Whole(status, status == 204 ? "" : answer));
}

bool FakeEngine::StreamEvents(int fd, Lock& lock, const std::string& target) {
  const int number = ++streams_;
  size_t next = events_.size();
  if (const std::string since = Query(target, "since"); !since.empty()) {
    const int64_t from = std::strtoll(since.c_str(), nullptr, 10) * 1'000'000'000 + std::strtoll(since.c_str() + since.find('.') + 1, nullptr, 10);
    for (next = 0; next < events_.size() && events_[next].time_ns < from;) ++next;
  }
  if (!Send(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")) return false;
  while (true) {
    for (; !silent_ && number > forgotten_ && next < events_.size(); ++next) {
      if (!Send(fd, events_[next].line)) return false;
    }
    if (!Wait(lock, fd)) return false;
  }
}

bool FakeEngine::StreamPull(int fd, Lock& lock) {
  if (!Send(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")) return false;
  for (const std::string& line : pull_) {
    if (!Send(fd, line + "\n")) return false;
  }
  has_image_ = pull_ends_;
  while (!has_image_ && Wait(lock, fd)) {
  }
  return false;
}

bool FakeEngine::StreamOutput(int fd, Lock& lock, const std::string& id, bool attached, bool follow) {
  const int number = ++streams_;
  if (!Send(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")) return false;
  for (size_t sent = 0;;) {
    auto found = containers_.find(id);
    if (found == containers_.end()) return false;
    if (attached && attach_says_) {
      if (found->second.status == "exited") return Send(fd, *attach_says_) && false;
    } else if (!silent_ && number > forgotten_) {
      const std::string part = found->second.out.substr(sent);
      sent += part.size();
      const auto size = static_cast<uint32_t>(part.size());
      const char header[8] = {1, 0, 0, 0, static_cast<char>(size >> 24), static_cast<char>(size >> 16), static_cast<char>(size >> 8), static_cast<char>(size)};
      if (!part.empty() && !Send(fd, std::string(header, 8) + part)) return false;
      if (!follow || found->second.status == "exited") return false;
    }
    if (!Wait(lock, fd)) return false;
  }
}

void FakeEngine::Tell(const std::string& id, const std::string& action, int code) {
  const int64_t now = std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  Json event = {{"Type", "container"}, {"Action", action}, {"Actor", {{"ID", id}, {"Attributes", Json::object()}}}, {"timeNano", now}};
  if (code >= 0) event["Actor"]["Attributes"]["exitCode"] = std::to_string(code);
  events_.push_back({now, event.dump() + "\n"});
  changed_.notify_all();
}

std::string FakeEngine::Describe(const std::string& id, const Container& one, bool list) const {
  const Json labels = Json::parse(one.labels);
  if (list) return Json({{"Id", id}, {"State", one.status}, {"Labels", labels}}).dump();
  return Json({{"Id", id}, {"State", {{"Status", one.status}, {"ExitCode", one.code}}}, {"Config", {{"Labels", labels}}}}).dump();
}

void FakeEngine::Silence(bool on) {
  Lock lock(mutex_);
  silent_ = on;
  changed_.notify_all();
}

void FakeEngine::ForgetStreams() {
  Lock lock(mutex_);
  forgotten_ = streams_;
}

void FakeEngine::Swallow(const std::string& path_end) {
  Lock lock(mutex_);
  swallowed_ = path_end;
}

void FakeEngine::Pulls(std::vector<std::string> lines, bool ends) {
  Lock lock(mutex_);
  has_image_ = false;
  pull_ = std::move(lines);
  pull_ends_ = ends;
}

void FakeEngine::Gone(bool on) {
  Lock lock(mutex_);
  gone_ = on;
  if (!on) return Listen();
  shutdown(listener_, SHUT_RDWR);
  for (auto& [fd, cut] : open_) {
    cut = true;
    shutdown(fd, SHUT_RDWR);
  }
  changed_.notify_all();
}

void FakeEngine::End(int code, const std::string& out) {
  Lock lock(mutex_);
  for (auto& [id, one] : containers_) {
    if (one.status != "running") continue;
    one.out += out;
    one.status = "exited";
    one.code = code;
    Tell(id, "die", code);
  }
}

void FakeEngine::AttachSays(std::string bytes) {
  Lock lock(mutex_);
  attach_says_ = std::move(bytes);
}

size_t FakeEngine::containers() {
  Lock lock(mutex_);
  return containers_.size();
}

size_t FakeEngine::Asked(const std::string& part) {
  Lock lock(mutex_);
  size_t count = 0;
  for (const std::string& one : asked_) count += one.find(part) != std::string::npos;
  return count;
}

}  // namespace jobc::testing
