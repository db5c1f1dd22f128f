// The HTTP client against a server of the test's own: a thread that accepts connections and answers each request with what the
// test says, byte by byte where that matters.
#include "runtime/http_client.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <mutex>
#include <set>
#include <sstream>
#include <thread>

namespace jobc {
namespace {

using ::testing::HasSubstr;

/// What a connection of the server asked, and the way to answer.
struct Exchange {
  int fd = -1;
  int connection = 0;  ///< number of the connection, from 0
  std::string head;    ///< request line and headers
  std::string body;
  bool keep = true;    ///< the connection is used for the next request

  bool Send(std::string_view bytes) const {
    while (!bytes.empty()) {
      const ssize_t n = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0) return false;
      bytes.remove_prefix(static_cast<size_t>(n));
    }
    return true;
  }
  /// Ends the connection as the kernel of a machine does whose program has died.
  void Reset() {
    const linger at_once{1, 0};
    EXPECT_EQ(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once), 0);
    keep = false;
  }
  void Answer(std::string_view status, std::string_view body, const std::string& headers = "") const {
    Send("HTTP/1.1 " + std::string(status) + "\r\n" + headers + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + std::string(body));
  }
};

class Server {
 public:
  /// `path`: of a unix socket; empty: a port on loopback.
  explicit Server(std::function<void(Exchange&)> handler, const std::string& path = "") : handler_(std::move(handler)) {
    if (path.empty()) {
      listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      sockaddr_in address{};
      address.sin_family = AF_INET;
      address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
      socklen_t size = sizeof address;
      getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
      port_ = ntohs(address.sin_port);
    } else {
      listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
      sockaddr_un address{};
      address.sun_family = AF_UNIX;
      path.copy(address.sun_path, sizeof address.sun_path - 1);
      EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    }
    EXPECT_EQ(listen(listener_, 64), 0);
    EXPECT_EQ(pipe(stop_), 0);
    accepting_ = std::thread([this] { Accept(); });
  }
  ~Server() {
    close(stop_[1]);
    accepting_.join();
    for (std::thread& thread : serving_) thread.join();
    close(stop_[0]);
    close(listener_);
  }

  std::string Url(const std::string& path = "/") const { return "http://127.0.0.1:" + std::to_string(port_) + path; }
  int connections() const { return connections_; }
  /// Readable from the end of the test on.
  int stopped() const { return stop_[0]; }

 private:
  bool Wait(int fd) const {
    pollfd polled[2] = {{fd, POLLIN, 0}, {stop_[0], POLLIN, 0}};
    poll(polled, 2, -1);
    return (polled[1].revents == 0) && polled[0].revents != 0;
  }
  void Accept() {
    while (Wait(listener_)) {
      const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) continue;
      serving_.emplace_back([this, fd, number = connections_++] { Serve(fd, number); });
    }
  }
  void Serve(int fd, int number) {
    std::string data;
    bool open = true;
    auto more = [&] {
      if (data.starts_with('\x16')) {  // a TLS handshake; this server speaks none
        send(fd, "HTTP/1.1 400 Bad Request\r\n\r\n", 28, MSG_NOSIGNAL);
        return false;
      }
      char buffer[65536];
      const ssize_t n = Wait(fd) ? recv(fd, buffer, sizeof buffer, 0) : 0;
      if (n > 0) data.append(buffer, static_cast<size_t>(n));
      return n > 0;
    };
    while (open) {
      size_t end;
      while ((end = data.find("\r\n\r\n")) == std::string::npos && (open = more())) {
      }
      if (!open) break;
      Exchange exchange{fd, number, data.substr(0, end + 2), "", true};
      data.erase(0, end + 4);
      if (size_t at = exchange.head.find("Content-Length: "); at != std::string::npos) {
        const size_t size = std::strtoul(exchange.head.c_str() + at + 16, nullptr, 10);
        while (data.size() < size && (open = more())) {
        }
        exchange.body = data.substr(0, size);
        data.erase(0, size);
      } else if (exchange.head.find("Transfer-Encoding: chunked") != std::string::npos) {
        while (open) {
          size_t line;
          while ((line = data.find("\r\n")) == std::string::npos && (open = more())) {
          }
          const size_t size = std::strtoul(data.c_str(), nullptr, 16);
          while (data.size() < line + 4 + size && (open = more())) {
          }
          exchange.body += data.substr(line + 2, size);
          data.erase(0, line + 4 + size);
          if (size == 0) break;
        }
      }
      if (!open) break;
      handler_(exchange);
      open = exchange.keep;
    }
    close(fd);
  }

  std::function<void(Exchange&)> handler_;
  int listener_ = -1;
  int port_ = 0;
  int stop_[2];
  std::atomic<int> connections_ = 0;
  std::thread accepting_;
  std::vector<std::thread> serving_;
};

/// All that came of a request.
struct Seen {
  HttpHead head;
  int heads = 0;
  std::string body;
  std::optional<HttpEnd> end;
  int ends = 0;
};

class HttpClientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_EQ(uv_loop_init(&loop_), 0);
    auto client = HttpClient::Create(&loop_);
    ASSERT_TRUE(client.ok()) << client.error().message;
    client_ = *std::move(client);
    char name[] = "/tmp/jobc-http-XXXXXX";
    directory_ = mkdtemp(name);
  }
  void TearDown() override {
    client_.reset();
    uv_run(&loop_, UV_RUN_DEFAULT);
    EXPECT_EQ(uv_loop_close(&loop_), 0) << "a handle is left";
    std::system(("rm -rf " + directory_).c_str());
  }

  static HttpRequest Get(std::string url) {
    HttpRequest request;
    request.url = std::move(url);
    return request;
  }
  HttpHandlers Into(Seen& seen) {
    return {[&](const HttpHead& head) { seen.head = head, ++seen.heads; },
            [&](std::string_view bytes) { seen.body += bytes; return true; },
            [&](const HttpEnd& end) { seen.end = end, ++seen.ends; }};
  }
  Seen Run(HttpRequest request) {
    Seen seen;
    client_->Send(std::move(request), Into(seen));
    uv_run(&loop_, UV_RUN_DEFAULT);
    EXPECT_EQ(seen.ends, 1);
    return seen;
  }

  uv_loop_t loop_;
  std::unique_ptr<HttpClient> client_;
  std::string directory_;
};

TEST_F(HttpClientTest, GivesStatusHeadersAndBody) {
  Server server([](Exchange& exchange) { exchange.Answer("404 Not Found", "{\"message\":\"no\"}", "X-Two: a\r\nx-two: b\r\nETag:  \"abc\" \r\n"); });
  Seen seen = Run(Get(server.Url("/x?y=1")));
  EXPECT_TRUE(seen.end->ok()) << seen.end->message;
  EXPECT_EQ(seen.heads, 1);
  EXPECT_EQ(seen.head.status, 404);
  EXPECT_EQ(seen.head.Get("etag"), "\"abc\"");
  EXPECT_EQ(seen.head.headers.count("x-two"), 2u);
  EXPECT_EQ(seen.head.Get("not-there"), "");
  EXPECT_EQ(seen.body, "{\"message\":\"no\"}");
}

TEST_F(HttpClientTest, KeepsQuietConnectionsAlive) {
  char port[8];
  std::set<std::string> timers;
  Server server([&](Exchange& exchange) {
    // Of the client's end, while it waits. The kernel says which timer runs: 02 is that of keep-alive, once what was sent is acknowledged.
    for (int i = 0; i < 500 && !timers.contains("02"); ++i) {
      std::ifstream table("/proc/net/tcp");
      for (std::string line; std::getline(table, line);) {
        std::istringstream words(line);
        std::string number, local, remote, state, queues, timer;
        words >> number >> local >> remote >> state >> queues >> timer;
        if (remote == std::string("0100007F:") + port && state == "01") timers.insert(timer.substr(0, 2));
      }
      usleep(10'000);
    }
    exchange.Answer("200 OK", "ok");
  });
  const std::string url = server.Url("");
  std::snprintf(port, sizeof port, "%04X", std::stoi(url.substr(url.rfind(':') + 1)));
  EXPECT_TRUE(Run(Get(server.Url())).end->ok());
  EXPECT_TRUE(timers.contains("02"));
}

TEST_F(HttpClientTest, SendsMethodHeadersAndBody) {
  std::vector<std::string> asked;
  std::mutex mutex;
  Server server([&](Exchange& exchange) {
    {
      std::lock_guard lock(mutex);
      asked.push_back(exchange.head + "\n" + exchange.body);
    }
    exchange.Answer("200 OK", exchange.head.starts_with("HEAD") ? "" : "ok");
  });
  for (const char* method : {"GET", "HEAD", "POST", "PUT", "DELETE"}) {
    HttpRequest request = Get(server.Url("/a"));
    request.method = method;
    request.headers = {"X-Own: 1"};
    if (std::string(method) == "POST" || std::string(method) == "PUT") request.body = "the body";
    EXPECT_EQ(Run(std::move(request)).head.status, 200) << method;
  }
  HttpRequest empty = Get(server.Url("/start"));
  empty.method = "POST";
  Run(std::move(empty));
  ASSERT_EQ(asked.size(), 6u);
  const char* methods[] = {"GET /a HTTP/1.1", "HEAD /a HTTP/1.1", "POST /a HTTP/1.1", "PUT /a HTTP/1.1", "DELETE /a HTTP/1.1", "POST /start HTTP/1.1"};
  for (size_t i = 0; i < 6; ++i) EXPECT_THAT(asked[i], ::testing::StartsWith(methods[i]));
  EXPECT_THAT(asked[2], ::testing::AllOf(HasSubstr("X-Own: 1"), HasSubstr("the body"), ::testing::Not(HasSubstr("Content-Type")), ::testing::Not(HasSubstr("Expect"))));
  EXPECT_THAT(asked[3], HasSubstr("the body"));
  EXPECT_THAT(asked[5], HasSubstr("Content-Length: 0"));
}

TEST_F(HttpClientTest, UsesAConnectionAgain) {
  Server server([](Exchange& exchange) { exchange.Answer("200 OK", "x"); });
  for (int i = 0; i < 5; ++i) Run(Get(server.Url()));
  EXPECT_EQ(server.connections(), 1);
}

TEST_F(HttpClientTest, AsksAnewWhereAKeptConnectionWasClosed) {
  Server server([](Exchange& exchange) {
    exchange.Answer("200 OK", "x");
    exchange.keep = false;  // without saying so
  });
  for (int i = 0; i < 3; ++i) {
    HttpRequest request = Get(server.Url());
    request.method = "POST";
    request.body = "again";
    const Seen seen = Run(std::move(request));
    EXPECT_TRUE(seen.end->ok()) << seen.end->message;
  }
}

TEST_F(HttpClientTest, AsksAnewWhereAKeptConnectionWasReset) {
  Server server([](Exchange& exchange) {
    if (exchange.head.starts_with("GET /second") && exchange.connection == 0) return exchange.Reset();
    exchange.Answer("200 OK", "x");
  });
  EXPECT_TRUE(Run(Get(server.Url("/first"))).end->ok());
  const Seen seen = Run(Get(server.Url("/second")));
  EXPECT_TRUE(seen.end->ok()) << seen.end->message;
  EXPECT_EQ(server.connections(), 2);
}

TEST_F(HttpClientTest, TellsHowAConnectionEnded) {
  Server server([](Exchange& exchange) {
    exchange.Send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    exchange.Reset();
  });
  const Seen seen = Run(Get(server.Url()));
  EXPECT_EQ(seen.end->failure, HttpFailure::Cut);
  EXPECT_THAT(seen.end->message, HasSubstr("reset by peer"));
}

TEST_F(HttpClientTest, ManyAtOnce) {
  Server server([](Exchange& exchange) { exchange.Answer("200 OK", exchange.head.substr(4, exchange.head.find(' ', 4) - 4)); });
  std::vector<Seen> seen(50);
  for (size_t i = 0; i < seen.size(); ++i) client_->Send(Get(server.Url("/" + std::to_string(i))), Into(seen[i]));
  uv_run(&loop_, UV_RUN_DEFAULT);
  for (size_t i = 0; i < seen.size(); ++i) EXPECT_EQ(seen[i].body, "/" + std::to_string(i));
}

TEST_F(HttpClientTest, HoldsTheBodyBackWhilePaused) {
  std::atomic<uint64_t> sent = 0;
  constexpr uint64_t kTotal = 64ULL << 20;
  Server server([&](Exchange& exchange) {
    exchange.Send("HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(kTotal) + "\r\n\r\n");
    const std::string block(1 << 16, 'x');
    while (sent < kTotal && exchange.Send(block)) sent += block.size();
  });
  uint64_t got = 0, id = 0;
  int pauses = 0, while_paused = 0;
  bool paused = false, ended = false;
  HttpHandlers handlers;
  handlers.on_data = [&](std::string_view bytes) {
    while_paused += paused;
    got += bytes.size();
    if (pauses == 0 || got / (16 << 20) > static_cast<uint64_t>(pauses)) {
      ++pauses;
      paused = true;
      return false;
    }
    return true;
  };
  handlers.on_end = [&](const HttpEnd& end) {
    EXPECT_TRUE(end.ok()) << end.message;
    ended = true;
  };
  id = client_->Send(Get(server.Url()), std::move(handlers));
  while (!ended) {
    while (!paused && !ended) uv_run(&loop_, UV_RUN_ONCE);
    if (ended) break;
    for (int i = 0; i < 20; ++i) uv_run(&loop_, UV_RUN_NOWAIT);
    EXPECT_LE(sent, got + (16 << 20)) << "all of it was taken though nobody wanted it";
    paused = false;
    client_->Resume(id);
  }
  EXPECT_EQ(got, kTotal);
  EXPECT_GE(pauses, 4);
  EXPECT_EQ(while_paused, 0);
}

TEST_F(HttpClientTest, StreamsABodyUp) {
  std::string arrived, head;
  Server server([&](Exchange& exchange) {
    arrived = exchange.body;
    head = exchange.head;
    exchange.Answer("201 Created", "");
  });
  for (bool sized : {true, false}) {
    std::string all;
    for (int i = 0; i < 200'000; ++i) all += std::to_string(i) + " ";
    size_t at = 0;
    uint64_t id = 0;
    int later = 0;
    uv_timer_t timer;
    uv_timer_init(&loop_, &timer);
    auto resume = [&] { client_->Resume(id); };
    timer.data = &resume;
    HttpRequest request = Get(server.Url());
    request.method = "PUT";
    if (sized) request.body_size = all.size();
    request.read = [&](char* into, size_t size) -> size_t {
      if (at > all.size() / 2 && later < 3) {
        ++later;
        uv_timer_start(&timer, [](uv_timer_t* t) { (*static_cast<decltype(resume)*>(t->data))(); }, 1, 0);
        return kHttpReadLater;
      }
      const size_t n = std::min(size, all.size() - at);
      all.copy(into, n, at);
      at += n;
      return n;
    };
    Seen seen;
    id = client_->Send(std::move(request), Into(seen));
    uv_run(&loop_, UV_RUN_DEFAULT);
    ASSERT_TRUE(seen.end && seen.end->ok());
    EXPECT_EQ(seen.head.status, 201);
    EXPECT_TRUE(arrived == all);
    EXPECT_EQ(later, 3);
    EXPECT_EQ(head.find("chunked") == std::string::npos, sized);
    uv_close(reinterpret_cast<uv_handle_t*>(&timer), nullptr);
    uv_run(&loop_, UV_RUN_DEFAULT);
  }
}

TEST_F(HttpClientTest, EndsWhenWhatIsSentCannotBeRead) {
  Server server([](Exchange& exchange) { exchange.Answer("200 OK", ""); });
  HttpRequest request = Get(server.Url());
  request.method = "PUT";
  request.body_size = 10;
  request.read = [](char*, size_t) { return kHttpReadFailed; };
  EXPECT_EQ(Run(std::move(request)).end->failure, HttpFailure::Cancelled);
}

TEST_F(HttpClientTest, ResumesWhereItWasCut) {
  const std::string all = "0123456789";
  Server server([&](Exchange& exchange) {
    if (size_t at = exchange.head.find("Range: bytes="); at != std::string::npos) {
      const size_t from = std::strtoul(exchange.head.c_str() + at + 13, nullptr, 10);
      exchange.Answer("206 Partial Content", all.substr(from), "Content-Range: bytes " + std::to_string(from) + "-9/10\r\n");
      return;
    }
    exchange.Send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123");
    exchange.keep = false;
  });
  Seen cut = Run(Get(server.Url()));
  EXPECT_EQ(cut.end->failure, HttpFailure::Cut);
  EXPECT_EQ(cut.end->message, "the connection ended before all of it had come");
  EXPECT_EQ(cut.body, "0123");
  HttpRequest rest = Get(server.Url());
  rest.resume_from = cut.body.size();
  Seen seen = Run(std::move(rest));
  EXPECT_EQ(seen.head.status, 206);
  EXPECT_EQ(cut.body + seen.body, all);
}

TEST_F(HttpClientTest, TellsOfAllWhereTheServerIgnoresTheRange) {
  Server server([](Exchange& exchange) { exchange.Answer("200 OK", "0123456789"); });
  HttpRequest rest = Get(server.Url());
  rest.resume_from = 4;
  Seen seen = Run(std::move(rest));
  EXPECT_TRUE(seen.end->ok());
  EXPECT_EQ(seen.head.status, 200);
  EXPECT_EQ(seen.body, "0123456789");
}

TEST_F(HttpClientTest, CutInTheMiddleOfAChunk) {
  Server server([](Exchange& exchange) {
    exchange.Send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nabcd\r\n40\r\nxyz");
    exchange.keep = false;
  });
  Seen seen = Run(Get(server.Url()));
  EXPECT_EQ(seen.end->failure, HttpFailure::Cut);
  EXPECT_EQ(seen.body.substr(0, 4), "abcd");
}

TEST_F(HttpClientTest, CutBeforeAnyAnswer) {
  Server server([](Exchange& exchange) { exchange.keep = false; });
  EXPECT_EQ(Run(Get(server.Url())).end->failure, HttpFailure::Cut);
}

TEST_F(HttpClientTest, ReachesAUnixSocket) {
  const std::string path = directory_ + "/engine.sock";
  Server server([](Exchange& exchange) { exchange.Answer("200 OK", exchange.head.substr(0, exchange.head.find('\r'))); }, path);
  HttpRequest request = Get("http://d/v1.41/_ping");
  request.unix_socket = path;
  setenv("http_proxy", "http://127.0.0.1:9", 1);
  EXPECT_EQ(Run(std::move(request)).body, "GET /v1.41/_ping HTTP/1.1");
  unsetenv("http_proxy");
}

TEST_F(HttpClientTest, SaysWhyASocketCannotBeReached) {
  HttpRequest request = Get("http://d/_ping");
  request.unix_socket = directory_ + "/none.sock";
  HttpEnd end = *Run(request).end;
  EXPECT_EQ(end.failure, HttpFailure::Connect);
  EXPECT_EQ(end.os_error, ENOENT);
  EXPECT_EQ(end.message, "no such file or directory");

  const std::string path = directory_ + "/dead.sock";
  { Server server([](Exchange&) {}, path); }
  request.unix_socket = path;
  end = *Run(request).end;
  EXPECT_EQ(end.failure, HttpFailure::Connect);
  EXPECT_EQ(end.os_error, ECONNREFUSED);
}

TEST_F(HttpClientTest, SaysThatASocketIsForbidden) {
  if (geteuid() != 0) GTEST_SKIP() << "needs root, to become a user without the right";
  const std::string path = directory_ + "/root.sock";
  Server server([](Exchange& exchange) { exchange.Answer("200 OK", "x"); }, path);
  chmod(directory_.c_str(), 0755);
  chmod(path.c_str(), 0600);
  HttpRequest request = Get("http://d/_ping");
  request.unix_socket = path;
  ASSERT_EQ(seteuid(65534), 0);
  HttpEnd end = *Run(request).end;
  ASSERT_EQ(seteuid(0), 0);
  EXPECT_EQ(end.failure, HttpFailure::Permission);
  EXPECT_EQ(end.os_error, EACCES);
}

TEST_F(HttpClientTest, SaysThatNobodyListens) {
  std::string url;
  {
    Server server([](Exchange&) {});
    url = server.Url();
  }
  HttpEnd end = *Run(Get(url)).end;
  EXPECT_EQ(end.failure, HttpFailure::Connect);
  EXPECT_EQ(end.os_error, ECONNREFUSED);
  EXPECT_EQ(end.message, "connection refused");
}

TEST_F(HttpClientTest, SaysThatAHostIsNotKnown) {
  HttpEnd end = *Run(Get("http://no-such-host.invalid/")).end;
  EXPECT_EQ(end.failure, HttpFailure::Resolve);
  EXPECT_FALSE(Run(Get("ftp://127.0.0.1/")).end->ok());
}

TEST_F(HttpClientTest, EndsAtItsTimeLimits) {
  Server server([&](Exchange& exchange) {
    if (exchange.head.find("/half") != std::string::npos) exchange.Send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123");
    pollfd polled{server.stopped(), POLLIN, 0};
    poll(&polled, 1, -1);
    exchange.keep = false;
  });
  HttpRequest request = Get(server.Url());
  request.total_ms = 100;
  EXPECT_EQ(Run(request).end->failure, HttpFailure::Timeout);
  request = Get(server.Url("/half"));
  request.stall_ms = 100;
  Seen seen = Run(request);
  EXPECT_EQ(seen.end->failure, HttpFailure::Timeout);
  EXPECT_EQ(seen.body, "0123");
}

TEST_F(HttpClientTest, NothingFollowsACancel) {
  Server server([](Exchange& exchange) {
    exchange.Send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
    while (exchange.Send(std::string(1 << 16, 'x'))) {
    }
    exchange.keep = false;
  });
  Seen before;  // before it began
  client_->Cancel(client_->Send(Get(server.Url()), Into(before)));
  uv_run(&loop_, UV_RUN_DEFAULT);
  EXPECT_EQ(before.heads + before.ends, 0);

  for (bool in_head : {true, false}) {
    uint64_t id = 0;
    int after = 0;
    bool cancelled = false;
    auto cancel = [&] {
      after += cancelled;
      client_->Cancel(id);
      cancelled = true;
    };
    HttpHandlers handlers;
    handlers.on_head = [&](const HttpHead&) { if (in_head) cancel(); };
    handlers.on_data = [&](std::string_view) { cancel(); return true; };
    handlers.on_end = [&](const HttpEnd&) { ++after; };
    id = client_->Send(Get(server.Url()), std::move(handlers));
    uv_run(&loop_, UV_RUN_DEFAULT);
    EXPECT_TRUE(cancelled);
    EXPECT_EQ(after, 0) << (in_head ? "head" : "data");
  }
  client_->Cancel(4711);
  client_->Resume(4711);
}

TEST_F(HttpClientTest, CancelsWhatIsPaused) {
  Server server([](Exchange& exchange) {
    exchange.Send("HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n");
    while (exchange.Send(std::string(1 << 16, 'x'))) {
    }
    exchange.keep = false;
  });
  int calls = 0;
  HttpHandlers handlers;
  handlers.on_data = [&](std::string_view) { ++calls; return false; };
  handlers.on_end = [&](const HttpEnd&) { ++calls; };
  const uint64_t id = client_->Send(Get(server.Url()), std::move(handlers));
  while (calls == 0) uv_run(&loop_, UV_RUN_ONCE);
  client_->Cancel(id);
  client_->Resume(id);
  uv_run(&loop_, UV_RUN_DEFAULT);
  EXPECT_EQ(calls, 1);
}

TEST_F(HttpClientTest, HandlersMaySendMore) {
  Server server([](Exchange& exchange) { exchange.Answer("200 OK", "x"); });
  Seen second, third;
  HttpHandlers handlers;
  handlers.on_data = [&](std::string_view) { client_->Send(Get(server.Url()), Into(second)); return true; };
  handlers.on_end = [&](const HttpEnd&) { client_->Send(Get(server.Url()), Into(third)); };
  client_->Send(Get(server.Url()), std::move(handlers));
  uv_run(&loop_, UV_RUN_DEFAULT);
  EXPECT_EQ(second.body, "x");
  EXPECT_EQ(third.body, "x");
}

TEST_F(HttpClientTest, FollowsRedirectsOnlyIfAsked) {
  Server server([](Exchange& exchange) {
    if (exchange.head.find("/here") != std::string::npos) return exchange.Answer("200 OK", "found");
    if (exchange.head.find("/loop") != std::string::npos) return exchange.Answer("302 Found", "moved", "Location: /loop\r\n");
    exchange.Answer("302 Found", "moved", "Location: /here\r\n");
  });
  HttpRequest request = Get(server.Url("/there"));
  Seen seen = Run(request);
  EXPECT_EQ(seen.head.status, 302);
  EXPECT_EQ(seen.body, "moved");
  request.follow_redirects = true;
  seen = Run(request);
  EXPECT_EQ(seen.heads, 1);
  EXPECT_EQ(seen.head.status, 200);
  EXPECT_EQ(seen.body, "found");
  request.url = server.Url("/loop");
  EXPECT_FALSE(Run(request).end->ok());
}

TEST_F(HttpClientTest, TakesNothingButHttpsWhereThatIsAsked) {
  Server server([](Exchange& exchange) { exchange.Answer("200 OK", "x"); });
  HttpRequest request = Get(server.Url());
  request.https_only = true;
  HttpEnd end = *Run(request).end;
  EXPECT_EQ(end.message, "it leads to an address that is not https");
  EXPECT_EQ(server.connections(), 0);
}

TEST_F(HttpClientTest, SaysThatThereIsNoTls) {
  Server server([](Exchange& exchange) { exchange.keep = false; });
  HttpRequest request = Get("https" + server.Url().substr(4));
  HttpEnd end = *Run(request).end;
  EXPECT_EQ(end.failure, HttpFailure::Tls);
  EXPECT_THAT(end.message, HasSubstr("no secure connection"));
}

TEST_F(HttpClientTest, GoesWithRequestsUnderWay) {
  Server server([&](Exchange& exchange) {
    pollfd polled{server.stopped(), POLLIN, 0};
    poll(&polled, 1, -1);
    exchange.keep = false;
  });
  Seen seen;
  client_->Send(Get(server.Url()), Into(seen));
  for (int i = 0; i < 5; ++i) uv_run(&loop_, UV_RUN_NOWAIT);
  client_.reset();
  uv_run(&loop_, UV_RUN_DEFAULT);
  EXPECT_EQ(seen.heads + seen.ends, 0);
}

TEST(FetchNow, GivesAnAnswerOrSaysWhyNot) {
  Server server([](Exchange& exchange) { exchange.Answer("200 OK", "0123456789"); });
  HttpRequest request;
  request.url = server.Url();
  auto answer = FetchNow(request, 10);
  ASSERT_TRUE(answer.ok()) << answer.error().message;
  EXPECT_EQ(answer->head.status, 200);
  EXPECT_EQ(answer->body, "0123456789");
  HttpEnd end;
  EXPECT_FALSE(FetchNow(request, 9, &end).ok());
  EXPECT_EQ(end.failure, HttpFailure::TooLarge);
  request.unix_socket = "/nonexistent/socket";
  EXPECT_FALSE(FetchNow(request, 9, &end).ok());
  EXPECT_EQ(end.failure, HttpFailure::Connect);
}

}  // namespace
}  // namespace jobc
