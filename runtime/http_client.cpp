#include "runtime/http_client.h"

#include <curl/curl.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <set>
#include <type_traits>
#include <unordered_map>
#include <utility>

// The macros check types of arguments to the functions themselves; these calls go through pointers.
#undef curl_easy_setopt
#undef curl_easy_getinfo
#undef curl_multi_setopt

namespace jobc {
namespace {

constexpr long kKeepAliveSeconds = 30;
constexpr long kMostRedirects = 5;

/// The functions of libcurl that are used; it stays open.
struct Curl {
  decltype(&curl_global_init) global_init = nullptr;
  decltype(&curl_easy_init) easy_init = nullptr;
  decltype(&curl_easy_setopt) setopt = nullptr;
  decltype(&curl_easy_getinfo) getinfo = nullptr;
  decltype(&curl_easy_pause) pause = nullptr;
  decltype(&curl_easy_cleanup) easy_cleanup = nullptr;
  decltype(&curl_easy_strerror) strerror = nullptr;
  decltype(&curl_slist_append) slist_append = nullptr;
  decltype(&curl_slist_free_all) slist_free = nullptr;
  decltype(&curl_multi_init) multi_init = nullptr;
  decltype(&curl_multi_setopt) multi_setopt = nullptr;
  decltype(&curl_multi_add_handle) add = nullptr;
  decltype(&curl_multi_remove_handle) remove = nullptr;
  decltype(&curl_multi_socket_action) socket_action = nullptr;
  decltype(&curl_multi_info_read) info_read = nullptr;
  decltype(&curl_multi_assign) assign = nullptr;
  decltype(&curl_multi_cleanup) multi_cleanup = nullptr;

  static Result<Curl> Open() {
    void* library = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return Error{"libcurl is not installed (Debian: apt install libcurl4)"};
    Curl curl;
    bool complete = true;
    auto find = [&](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
      complete = complete && function != nullptr;
    };
    find(curl.global_init, "curl_global_init");
    find(curl.easy_init, "curl_easy_init");
    find(curl.setopt, "curl_easy_setopt");
    find(curl.getinfo, "curl_easy_getinfo");
    find(curl.pause, "curl_easy_pause");
    find(curl.easy_cleanup, "curl_easy_cleanup");
    find(curl.strerror, "curl_easy_strerror");
    find(curl.slist_append, "curl_slist_append");
    find(curl.slist_free, "curl_slist_free_all");
    find(curl.multi_init, "curl_multi_init");
    find(curl.multi_setopt, "curl_multi_setopt");
    find(curl.add, "curl_multi_add_handle");
    find(curl.remove, "curl_multi_remove_handle");
    find(curl.socket_action, "curl_multi_socket_action");
    find(curl.info_read, "curl_multi_info_read");
    find(curl.assign, "curl_multi_assign");
    find(curl.multi_cleanup, "curl_multi_cleanup");
    if (!complete || curl.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) return Error{"libcurl cannot be used"};
    return curl;
  }
};

/// A socket that libcurl wants to be told about; frees itself once its handle is closed.
struct Watch {
  uv_poll_t poll;
  curl_socket_t socket;
  class CurlClient* client;
  int events = 0;  ///< what libcurl waits for
};

struct Transfer {
  class CurlClient* client = nullptr;
  uint64_t id = 0;
  HttpRequest request;
  HttpHandlers handlers;
  CURL* easy = nullptr;
  curl_slist* headers = nullptr;
  char detail[CURL_ERROR_SIZE] = "";
  HttpHead head;
  bool told_head = false;
  bool hold = false;       ///< on_data wants no more
  bool read_later = false;
  bool read_failed = false;
  bool cancelled = false;
  bool started = false;    ///< libcurl has it
  bool again = false;      ///< Resume() was called
  uint64_t moved_at = 0;   ///< uv_now() of the last byte in either direction, or of the end of a pause
};

std::string Lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

std::string_view Trim(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t' || text.back() == '\r' || text.back() == '\n')) text.remove_suffix(1);
  return text;
}

bool HasHeader(const std::vector<std::string>& headers, std::string_view name) {
  return std::any_of(headers.begin(), headers.end(), [&](const std::string& header) {
    return header.size() > name.size() && header[name.size()] == ':' && strncasecmp(header.data(), name.data(), name.size()) == 0;
  });
}

HttpFailure KindOf(CURLcode code, long os_error) {
  switch (code) {
    case CURLE_OK: return HttpFailure::None;
    case CURLE_COULDNT_RESOLVE_HOST: case CURLE_COULDNT_RESOLVE_PROXY: return HttpFailure::Resolve;
    case CURLE_COULDNT_CONNECT: return os_error == EACCES || os_error == EPERM ? HttpFailure::Permission : HttpFailure::Connect;
    case CURLE_SSL_CONNECT_ERROR: case CURLE_PEER_FAILED_VERIFICATION: case CURLE_SSL_CERTPROBLEM: case CURLE_SSL_CIPHER:
    case CURLE_SSL_CACERT_BADFILE: case CURLE_SSL_ISSUER_ERROR: case CURLE_SSL_CRL_BADFILE: case CURLE_SSL_INVALIDCERTSTATUS:
      return HttpFailure::Tls;
    case CURLE_OPERATION_TIMEDOUT: return HttpFailure::Timeout;
    case CURLE_PARTIAL_FILE: case CURLE_GOT_NOTHING: case CURLE_SEND_ERROR: case CURLE_RECV_ERROR: case CURLE_SEND_FAIL_REWIND:
      return HttpFailure::Cut;
    default: return HttpFailure::Other;
  }
}

class CurlClient : public HttpClient {
 public:
  CurlClient(const Curl& curl, uv_loop_t* loop) : curl_(curl), loop_(loop) {}

  bool Open() {
    multi_ = curl_.multi_init();
    if (multi_ == nullptr) return false;
    curl_.multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, &CurlClient::OnSocket);
    curl_.multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
    curl_.multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, &CurlClient::OnTimer);
    curl_.multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
    for (uv_timer_t** timer : {&timer_, &wake_, &stall_}) {
      *timer = new uv_timer_t;
      uv_timer_init(loop_, *timer);
      (*timer)->data = this;
    }
    return true;
  }

  ~CurlClient() override {
    for (auto& [id, transfer] : transfers_) {
      transfer->cancelled = true;
      Drop(*transfer);
    }
    transfers_.clear();
    if (multi_ != nullptr) curl_.multi_cleanup(multi_);  // tells of the sockets of kept connections
    for (uv_timer_t* timer : {timer_, wake_, stall_}) {
      if (timer == nullptr) continue;
      uv_timer_stop(timer);
      uv_close(reinterpret_cast<uv_handle_t*>(timer), [](uv_handle_t* handle) { delete reinterpret_cast<uv_timer_t*>(handle); });
    }
  }

  uint64_t Send(HttpRequest request, HttpHandlers handlers) override {
    auto transfer = std::make_unique<Transfer>();
    const uint64_t id = ++last_id_;
    transfer->client = this;
    transfer->id = id;
    transfer->request = std::move(request);
    transfer->handlers = std::move(handlers);
    transfers_.emplace(id, std::move(transfer));
    Later(id);
    return id;
  }

  void Resume(uint64_t id) override {
    auto found = transfers_.find(id);
    if (found == transfers_.end() || found->second->cancelled || !(found->second->hold || found->second->read_later)) return;
    found->second->hold = found->second->read_later = false;
    found->second->again = true;
    Later(id);
  }

  void Cancel(uint64_t id) override {
    auto found = transfers_.find(id);
    if (found == transfers_.end()) return;
    found->second->cancelled = true;
    Later(id);  // a handler of it may be running, and libcurl must not be called from within its own calls
  }

 private:
  // What is asked of libcurl is done when the loop comes by, outside of all handlers.
  void Later(uint64_t id) {
    later_.push_back(id);
    if (later_.size() == 1) {
      uv_timer_start(wake_, [](uv_timer_t* timer) { static_cast<CurlClient*>(timer->data)->DoLater(); }, 0, 0);
    }
  }

  void DoLater() {
    std::vector<uint64_t> ids;
    ids.swap(later_);
    for (uint64_t id : ids) {
      auto found = transfers_.find(id);
      if (found == transfers_.end()) continue;
      Transfer& transfer = *found->second;
      if (transfer.cancelled) {
        Drop(transfer);
        transfers_.erase(found);
      } else if (!transfer.started) {
        Begin(transfer);
      } else if (transfer.again) {
        transfer.again = false;
        transfer.moved_at = uv_now(loop_);
        curl_.pause(transfer.easy, CURLPAUSE_CONT);
      }
    }
    Collect();
  }

  void Begin(Transfer& transfer) {
    transfer.started = true;
    transfer.easy = curl_.easy_init();
    if (transfer.easy == nullptr) {
      End(transfer.id, {HttpFailure::Other, "libcurl cannot be used", ENOMEM});
      return;
    }
    const HttpRequest& request = transfer.request;
    CURL* easy = transfer.easy;
    auto set = [&](CURLoption option, auto value) { curl_.setopt(easy, option, value); };
    auto header = [&](const std::string& line) { transfer.headers = curl_.slist_append(transfer.headers, line.c_str()); };
    set(CURLOPT_PRIVATE, &transfer);
    set(CURLOPT_URL, request.url.c_str());
    set(CURLOPT_PROTOCOLS_STR, request.https_only ? "https" : "http,https");
    set(CURLOPT_REDIR_PROTOCOLS_STR, request.https_only ? "https" : "http,https");
    set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));  // one connection each: a paused body holds nobody up
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_BUFFERSIZE, 128L << 10);  // fewer reads of large bodies; pages that are not used cost nothing
    set(CURLOPT_ERRORBUFFER, transfer.detail);
    // Streams may be quiet for hours: what lies between is not to forget them, and a machine that is gone without a word is found out.
    set(CURLOPT_TCP_KEEPALIVE, 1L);
    set(CURLOPT_TCP_KEEPIDLE, kKeepAliveSeconds);
    set(CURLOPT_TCP_KEEPINTVL, kKeepAliveSeconds);
    if (!request.unix_socket.empty()) {
      set(CURLOPT_UNIX_SOCKET_PATH, request.unix_socket.c_str());
      set(CURLOPT_PROXY, "");
    }
    if (request.follow_redirects) {
      set(CURLOPT_FOLLOWLOCATION, 1L);
      set(CURLOPT_MAXREDIRS, kMostRedirects);
    }
    if (request.connect_ms > 0) set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(request.connect_ms));
    if (request.total_ms > 0) set(CURLOPT_TIMEOUT_MS, static_cast<long>(request.total_ms));
    if (request.stall_ms > 0) {
      // libcurl's own limit is an average over five seconds, so it comes late.
      transfer.moved_at = uv_now(loop_);
      stall_checks_.insert(transfer.id);
      CheckStalls();
    }
    const std::string range = request.resume_from > 0 ? fmt::format("{}-", request.resume_from) : "";
    if (!range.empty()) set(CURLOPT_RANGE, range.c_str());
    SetTls(transfer);
    SetBody(transfer);
    for (const std::string& line : request.headers) header(line);
    if (!HasHeader(request.headers, "Expect")) header("Expect:");
    if (!HasHeader(request.headers, "User-Agent")) header("User-Agent: jobc");
    set(CURLOPT_HTTPHEADER, transfer.headers);
    set(CURLOPT_HEADERFUNCTION, &CurlClient::OnHeader);
    set(CURLOPT_HEADERDATA, &transfer);
    set(CURLOPT_WRITEFUNCTION, &CurlClient::OnWrite);
    set(CURLOPT_WRITEDATA, &transfer);
    if (curl_.add(multi_, easy) != CURLM_OK) {
      End(transfer.id, {HttpFailure::Other, "libcurl cannot be used", 0});
    }
  }

  void SetTls(Transfer& transfer) {
    const HttpTls& tls = transfer.request.tls;
    CURL* easy = transfer.easy;
    if (!tls.ca.empty()) {
      curl_.setopt(easy, CURLOPT_CAINFO, tls.ca.c_str());
    } else {
      for (const char* name : {"CURL_CA_BUNDLE", "SSL_CERT_FILE"}) {
        const char* file = std::getenv(name);
        if (file == nullptr || *file == '\0') continue;
        curl_.setopt(easy, CURLOPT_CAINFO, file);
        break;
      }
    }
    if (!tls.cert.empty()) curl_.setopt(easy, CURLOPT_SSLCERT, tls.cert.c_str());
    if (!tls.key.empty()) curl_.setopt(easy, CURLOPT_SSLKEY, tls.key.c_str());
    if (!tls.verify) {
      curl_.setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
      curl_.setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
    }
  }

  void SetBody(Transfer& transfer) {
    const HttpRequest& request = transfer.request;
    CURL* easy = transfer.easy;
    const std::string& method = request.method;
    if (request.read) {
      curl_.setopt(easy, CURLOPT_UPLOAD, 1L);
      curl_.setopt(easy, CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(request.body_size ? static_cast<int64_t>(*request.body_size) : -1));
      curl_.setopt(easy, CURLOPT_READFUNCTION, &CurlClient::OnRead);
      curl_.setopt(easy, CURLOPT_READDATA, &transfer);
      curl_.setopt(easy, CURLOPT_SEEKFUNCTION, &CurlClient::OnSeek);
      curl_.setopt(easy, CURLOPT_SEEKDATA, &transfer);
      if (method != "PUT") curl_.setopt(easy, CURLOPT_CUSTOMREQUEST, method.c_str());
    } else if (!request.body.empty() || method == "POST" || method == "PUT" || method == "PATCH") {
      curl_.setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
      curl_.setopt(easy, CURLOPT_POSTFIELDS, request.body.c_str());
      if (!HasHeader(request.headers, "Content-Type")) transfer.headers = curl_.slist_append(transfer.headers, "Content-Type:");
      if (method != "POST") curl_.setopt(easy, CURLOPT_CUSTOMREQUEST, method.c_str());
    } else if (method == "HEAD") {
      curl_.setopt(easy, CURLOPT_NOBODY, 1L);
    } else if (method != "GET") {
      curl_.setopt(easy, CURLOPT_CUSTOMREQUEST, method.c_str());
    }
  }

  // -- called by libcurl -----------------------------------------------------------

  static size_t OnHeader(char* data, size_t size, size_t count, void* of) {
    Transfer& transfer = *static_cast<Transfer*>(of);
    transfer.moved_at = uv_now(transfer.client->loop_);
    const std::string_view line = Trim({data, size * count});
    if (transfer.cancelled) return 0;
    if (transfer.told_head) return size * count;  // trailers
    if (line.starts_with("HTTP/")) {
      transfer.head = {};
      if (size_t space = line.find(' '); space != std::string_view::npos) transfer.head.status = std::atoi(std::string(line.substr(space + 1, 3)).c_str());
    } else if (line.empty()) {
      const bool redirected = transfer.request.follow_redirects && transfer.head.status / 100 == 3 && !transfer.head.Get("location").empty();
      if (transfer.head.status >= 200 && !redirected) {
        transfer.told_head = true;
        if (transfer.handlers.on_head) transfer.handlers.on_head(transfer.head);
        if (transfer.cancelled) return 0;
      }
    } else if (size_t colon = line.find(':'); colon != std::string_view::npos) {
      transfer.head.headers.emplace(Lower(Trim(line.substr(0, colon))), Trim(line.substr(colon + 1)));
    }
    return size * count;
  }

  static size_t OnWrite(char* data, size_t size, size_t count, void* of) {
    Transfer& transfer = *static_cast<Transfer*>(of);
    transfer.moved_at = uv_now(transfer.client->loop_);
    if (transfer.cancelled) return 0;
    if (transfer.hold) return CURL_WRITEFUNC_PAUSE;  // libcurl keeps these
    if (transfer.handlers.on_data && !transfer.handlers.on_data({data, size * count})) transfer.hold = true;
    return transfer.cancelled ? 0 : size * count;
  }

  static size_t OnRead(char* into, size_t size, size_t count, void* of) {
    Transfer& transfer = *static_cast<Transfer*>(of);
    transfer.moved_at = uv_now(transfer.client->loop_);
    if (transfer.cancelled) return CURL_READFUNC_ABORT;
    const size_t got = transfer.request.read(into, size * count);
    if (got == kHttpReadLater) {
      transfer.read_later = true;
      return CURL_READFUNC_PAUSE;
    }
    if (got == kHttpReadFailed) {
      transfer.read_failed = true;
      return CURL_READFUNC_ABORT;
    }
    return transfer.cancelled ? CURL_READFUNC_ABORT : got;
  }

  static int OnSeek(void* of, curl_off_t offset, int origin) {
    Transfer& transfer = *static_cast<Transfer*>(of);
    if (offset != 0 || origin != SEEK_SET || transfer.cancelled || !transfer.request.rewind) return CURL_SEEKFUNC_FAIL;
    return transfer.request.rewind() ? CURL_SEEKFUNC_OK : CURL_SEEKFUNC_FAIL;
  }

  static int OnSocket(CURL*, curl_socket_t socket, int what, void* of, void* known) {
    auto& self = *static_cast<CurlClient*>(of);
    auto* watch = static_cast<Watch*>(known);
    if (what == CURL_POLL_REMOVE) {
      if (watch != nullptr) {
        self.curl_.assign(self.multi_, socket, nullptr);
        uv_poll_stop(&watch->poll);
        uv_close(reinterpret_cast<uv_handle_t*>(&watch->poll), [](uv_handle_t* handle) { delete static_cast<Watch*>(handle->data); });
      }
      return 0;
    }
    if (watch == nullptr) {
      watch = new Watch{{}, socket, &self};
      if (uv_poll_init_socket(self.loop_, &watch->poll, socket) != 0) {
        delete watch;
        return -1;
      }
      watch->poll.data = watch;
      self.curl_.assign(self.multi_, socket, watch);
    }
    watch->events = ((what & CURL_POLL_IN) != 0 ? UV_READABLE : 0) | ((what & CURL_POLL_OUT) != 0 ? UV_WRITABLE : 0);
    uv_poll_start(&watch->poll, watch->events, &CurlClient::OnPoll);
    return 0;
  }

  static int OnTimer(CURLM*, long timeout_ms, void* of) {
    auto& self = *static_cast<CurlClient*>(of);
    if (timeout_ms < 0) {
      uv_timer_stop(self.timer_);
    } else {
      uv_update_time(self.loop_);
      uv_timer_start(self.timer_, [](uv_timer_t* timer) { static_cast<CurlClient*>(timer->data)->Act(CURL_SOCKET_TIMEOUT, 0); }, static_cast<uint64_t>(timeout_ms), 0);
    }
    return 0;
  }

  // -- called by the loop ----------------------------------------------------------

  static void OnPoll(uv_poll_t* poll, int status, int events) {
    const Watch& watch = *static_cast<Watch*>(poll->data);
    int flags = 0;
    if (status < 0 || (events & UV_READABLE) != 0) flags |= CURL_CSELECT_IN;
    if (status < 0 || (events & UV_WRITABLE) != 0) flags |= CURL_CSELECT_OUT;
    // A status is that of a connection that was reset. Told of it, libcurl would give up at once; when it reads and writes, it takes what
    // came before, finds what happened, and asks anew where a kept connection was closed just now.
    watch.client->Act(watch.socket, flags);
    // libuv has stopped in that case.
    if (status < 0 && watch.events != 0 && uv_is_closing(reinterpret_cast<uv_handle_t*>(poll)) == 0) uv_poll_start(poll, watch.events, &CurlClient::OnPoll);
  }

  void Act(curl_socket_t socket, int flags) {
    int running = 0;
    curl_.socket_action(multi_, socket, flags, &running);
    Collect();
  }

  /// Ends what has not moved for too long, and looks again when the next one may be due.
  void CheckStalls() {
    const uint64_t now = uv_now(loop_);
    uint64_t next = UINT64_MAX;
    std::vector<uint64_t> stalled;
    for (uint64_t id : stall_checks_) {
      const Transfer& transfer = *transfers_.at(id);
      const auto limit = static_cast<uint64_t>(transfer.request.stall_ms);
      const uint64_t due = transfer.hold || transfer.read_later ? now + limit : transfer.moved_at + limit;
      if (due <= now) {
        stalled.push_back(id);
      } else {
        next = std::min(next, due - now);
      }
    }
    for (uint64_t id : stalled) {
      End(id, {HttpFailure::Timeout, fmt::format("no answer in time: nothing moved for {} ms", transfers_.at(id)->request.stall_ms), 0});
    }
    if (next == UINT64_MAX) {
      uv_timer_stop(stall_);
    } else {
      uv_timer_start(stall_, [](uv_timer_t* timer) { static_cast<CurlClient*>(timer->data)->CheckStalls(); }, next, 0);
    }
  }

  /// Takes what ended from libcurl, then tells of it.
  void Collect() {
    std::vector<std::pair<uint64_t, HttpEnd>> ended;
    int left = 0;
    while (CURLMsg* message = curl_.info_read(multi_, &left)) {
      if (message->msg != CURLMSG_DONE) continue;
      Transfer* transfer = nullptr;
      curl_.getinfo(message->easy_handle, CURLINFO_PRIVATE, &transfer);
      ended.emplace_back(transfer->id, Describe(*transfer, message->data.result));
    }
    for (auto& [id, end] : ended) End(id, std::move(end));
  }

  HttpEnd Describe(Transfer& transfer, CURLcode code) {
    if (code == CURLE_OK) return {};
    if (transfer.read_failed) return {HttpFailure::Cancelled, "what was to be sent could not be read", 0};
    long os_error = 0;
    curl_.getinfo(transfer.easy, CURLINFO_OS_ERRNO, &os_error);
    HttpEnd end{KindOf(code, os_error), "", static_cast<int>(os_error)};
    std::string detail = *transfer.detail != '\0' ? transfer.detail : curl_.strerror(code);
    if (detail.size() > 1 && std::islower(static_cast<unsigned char>(detail[1])) != 0) detail.replace(0, 1, Lower(detail.substr(0, 1)));  // not that of `SSL`
    switch (end.failure) {
      case HttpFailure::Resolve: end.message = "the host's name is not known"; break;
      case HttpFailure::Connect: case HttpFailure::Permission:
        end.message = os_error != 0 ? std::string(std::strerror(static_cast<int>(os_error))) : detail;
        end.message[0] = static_cast<char>(std::tolower(static_cast<unsigned char>(end.message[0])));
        break;
      case HttpFailure::Tls:
        end.message = code == CURLE_SSL_CERTPROBLEM ? "the certificate of this client cannot be used: " + detail
                      : code == CURLE_SSL_CONNECT_ERROR
                          ? "no secure connection: " + detail
                          : "its certificate is not accepted: " + detail + (transfer.request.tls.ca.empty() ? " (an own authority is given in SSL_CERT_FILE)" : "");
        break;
      case HttpFailure::Timeout: end.message = "no answer in time: " + detail; break;
      case HttpFailure::Cut: end.message = code == CURLE_PARTIAL_FILE ? "the connection ended before all of it had come" : "the connection was cut: " + detail; break;
      default: end.message = code == CURLE_UNSUPPORTED_PROTOCOL ? (transfer.request.https_only ? "it leads to an address that is not https" : "its scheme is neither http nor https") : detail;
    }
    return end;
  }

  void End(uint64_t id, HttpEnd end) {
    auto found = transfers_.find(id);
    if (found == transfers_.end()) return;
    std::unique_ptr<Transfer> transfer = std::move(found->second);
    transfers_.erase(found);
    Drop(*transfer);
    if (!transfer->cancelled && transfer->handlers.on_end) transfer->handlers.on_end(end);
  }

  /// Takes it from libcurl, which closes its connection if it is not at its end.
  void Drop(Transfer& transfer) {
    if (transfer.easy != nullptr) {
      curl_.remove(multi_, transfer.easy);
      curl_.easy_cleanup(transfer.easy);
      transfer.easy = nullptr;
    }
    curl_.slist_free(transfer.headers);
    transfer.headers = nullptr;
    if (stall_checks_.erase(transfer.id) != 0 && stall_checks_.empty()) uv_timer_stop(stall_);
  }

  Curl curl_;
  uv_loop_t* loop_;
  CURLM* multi_ = nullptr;
  uv_timer_t* timer_ = nullptr;  ///< libcurl's
  uv_timer_t* wake_ = nullptr;   ///< for later_
  uv_timer_t* stall_ = nullptr;  ///< for stall_checks_
  std::set<uint64_t> stall_checks_;  ///< transfers with a `stall_ms`
  uint64_t last_id_ = 0;
  std::unordered_map<uint64_t, std::unique_ptr<Transfer>> transfers_;
  std::vector<uint64_t> later_;  ///< to begin, to go on, or to drop
};

}  // namespace

std::string_view HttpFailureName(HttpFailure failure) {
  switch (failure) {
    case HttpFailure::None: return "none";
    case HttpFailure::Resolve: return "resolve";
    case HttpFailure::Connect: return "connect";
    case HttpFailure::Permission: return "permission";
    case HttpFailure::Tls: return "tls";
    case HttpFailure::Timeout: return "timeout";
    case HttpFailure::Cut: return "cut";
    case HttpFailure::Cancelled: return "cancelled";
    case HttpFailure::TooLarge: return "too_large";
    case HttpFailure::Other: return "other";
  }
  return "other";
}

Result<std::unique_ptr<HttpClient>> HttpClient::Create(uv_loop_t* loop) {
  Result<Curl> curl = Curl::Open();
  if (!curl.ok()) return curl.error();
  auto client = std::make_unique<CurlClient>(*curl, loop);
  if (!client->Open()) return Error{"libcurl cannot be used"};
  return std::unique_ptr<HttpClient>(std::move(client));
}

Result<HttpAnswer> FetchNow(HttpRequest request, uint64_t most_bytes, HttpEnd* end) {
  HttpEnd own;
  HttpEnd& ended = end != nullptr ? *end : own;
  ended = {HttpFailure::Other, "libcurl cannot be used", 0};
  uv_loop_t loop;
  if (uv_loop_init(&loop) != 0) return Error{"no event loop could be made"};
  HttpAnswer answer;
  {
    auto client = HttpClient::Create(&loop);
    if (!client) {
      uv_loop_close(&loop);
      ended.message = client.error().message;
      return client.error();
    }
    uint64_t id = 0;
    HttpHandlers handlers;
    handlers.on_head = [&](const HttpHead& head) { answer.head = head; };
    handlers.on_data = [&](std::string_view bytes) {
      if (answer.body.size() + bytes.size() > most_bytes) {
        (*client)->Cancel(id);
        ended = {HttpFailure::TooLarge, fmt::format("it is larger than {} bytes", most_bytes), 0};
        return true;
      }
      answer.body.append(bytes);
      return true;
    };
    handlers.on_end = [&](const HttpEnd& result) { ended = result; };
    id = (*client)->Send(std::move(request), std::move(handlers));
    uv_run(&loop, UV_RUN_DEFAULT);
  }
  uv_run(&loop, UV_RUN_DEFAULT);
  uv_loop_close(&loop);
  if (!ended.ok()) return Error{ended.message, ended.os_error};
  return answer;
}

}  // namespace jobc
