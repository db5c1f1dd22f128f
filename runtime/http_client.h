// HTTP for backends, storage and the driver: libcurl's multi interface on a libuv loop. All handlers are called on the loop's
// thread, never from within a call into the client. Bodies are streamed both ways with bounded memory; connections are kept
// and used again. libcurl is opened on first use: with its 38 libraries it would cost every other command more than its
// whole run time, and nothing else of jobc opens it.
#pragma once

#include <uv.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "support/result.h"

namespace jobc {

/// Files in PEM; empty: the system's authorities (or CURL_CA_BUNDLE, SSL_CERT_FILE), no certificate of our own.
struct HttpTls {
  std::string ca, cert, key;
  bool verify = true;  ///< false: any certificate is taken
};

/// What HttpRequest::read returns instead of a number of bytes.
inline constexpr size_t kHttpReadLater = static_cast<size_t>(-1);  ///< nothing yet; asked again after Resume()
inline constexpr size_t kHttpReadFailed = static_cast<size_t>(-2); ///< the request ends with HttpFailure::Cancelled

struct HttpRequest {
  std::string method = "GET";
  std::string url;                    ///< http or https; of a unix socket's only the path counts (`http://d/v1.41/…`)
  std::string unix_socket;            ///< path; empty: none
  std::vector<std::string> headers;   ///< `Name: value`
  std::string body;                   ///< not used if `read` is set
  /// A streamed body: writes at most `size` bytes and returns how many, 0 at its end, or one of the two above.
  std::function<size_t(char* into, size_t size)> read;
  std::optional<uint64_t> body_size;  ///< of a streamed body; without it the body is sent in chunks
  /// Begins a streamed body anew, for a connection that was closed before anything was answered, or a redirect. Without it that
  /// is a failure (Cut).
  std::function<bool()> rewind;
  HttpTls tls;
  int64_t connect_ms = 10'000;        ///< until connected; 0: libcurl's 5 minutes
  int64_t total_ms = 0;               ///< until the end; 0: no limit
  int64_t stall_ms = 0;               ///< without a byte in either direction; not while paused; 0: no limit
  bool follow_redirects = false;      ///< at most 5; headers like Authorization stay with the first host
  uint64_t resume_from = 0;           ///< asks for the bytes from here on: 206 if the server does that, 200 if it gives all
  bool https_only = false;            ///< also where redirects lead
};

struct HttpHead {
  int status = 0;
  std::multimap<std::string, std::string> headers;  ///< names in lower case
  /// The first of that name (lower case); empty: none.
  std::string_view Get(const std::string& name) const {
    auto found = headers.find(name);
    return found == headers.end() ? std::string_view() : std::string_view(found->second);
  }
};

enum class HttpFailure : uint8_t {
  None,
  Resolve,     ///< the host's name is not known
  Connect,     ///< nobody listens, or the socket is not there (`os_error` ENOENT, ECONNREFUSED …)
  Permission,  ///< this user may not connect to the socket
  Tls,         ///< the certificate, or the handshake
  Timeout,
  Cut,         ///< the connection ended before the answer did
  Cancelled,   ///< HttpRequest::read failed
  TooLarge,    ///< only of FetchNow()
  Other,
};
/// "resolve", "connect", …
std::string_view HttpFailureName(HttpFailure failure);

struct HttpEnd {
  HttpFailure failure = HttpFailure::None;
  std::string message;  ///< in words, lower case, no final period; without address. Empty if ok
  int os_error = 0;     ///< errno of a connection that could not be made
  bool ok() const { return failure == HttpFailure::None; }
};

struct HttpHandlers {
  /// The answer's status and headers; at most once, redirects that are followed are not told.
  std::function<void(const HttpHead&)> on_head;
  /// Bytes of the body, also of one with status 404. False: these are taken, but no more until Resume().
  std::function<bool(std::string_view)> on_data;
  /// Exactly once, the last call, unless it is cancelled. Ok with any status: the answer came whole.
  std::function<void(const HttpEnd&)> on_end;
};

class HttpClient {
 public:
  /// Error: libcurl is not there. `loop` must outlive the client and run once more after it is destroyed.
  static Result<std::unique_ptr<HttpClient>> Create(uv_loop_t* loop);
  /// Cancels everything. Not from within a handler.
  virtual ~HttpClient() = default;
  /// Returns an id above 0; nothing is called before the loop runs.
  virtual uint64_t Send(HttpRequest request, HttpHandlers handlers) = 0;
  /// After on_data returned false, or `read` kHttpReadLater. Without effect on what is not paused, or not known.
  virtual void Resume(uint64_t id) = 0;
  /// No handler of it is called any more; may be called from one. Without effect if not known.
  virtual void Cancel(uint64_t id) = 0;
};

struct HttpAnswer {
  HttpHead head;
  std::string body;
};

/// Waits for the whole answer, on a loop of its own; for the driver. At most `most_bytes` of body, more is an error. Why it
/// failed stands in `end` if that is given.
Result<HttpAnswer> FetchNow(HttpRequest request, uint64_t most_bytes, HttpEnd* end = nullptr);

}  // namespace jobc
