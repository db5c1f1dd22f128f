#include "storage/storage.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <ctime>

#include "storage/s3_answer.h"

namespace jobc::storage {
namespace {

int64_t RetryAfter(const HttpHead& head) {
  const std::string_view text = head.Get("retry-after");
  int64_t seconds = 0;
  auto read = std::from_chars(text.data(), text.data() + text.size(), seconds);
  return read.ec == std::errc() && read.ptr == text.data() + text.size() && seconds > 0 ? std::min<int64_t>(seconds, 3600) * 1000 : 0;
}

/// By how much this machine's clock differs from that of the server.
std::string ClockWords(const HttpHead& head) {
  std::tm parts{};
  const std::string date(head.Get("date"));
  if (strptime(date.c_str(), "%a, %d %b %Y %H:%M:%S GMT", &parts) == nullptr) {
    return "is wrong";
  }
  const int64_t seconds = static_cast<int64_t>(std::time(nullptr)) - static_cast<int64_t>(timegm(&parts));
  const int64_t minutes = (seconds + (seconds < 0 ? -30 : 30)) / 60;
  return minutes == 0 ? "is wrong" : fmt::format("is {} minutes {} that of the server", minutes < 0 ? -minutes : minutes, minutes < 0 ? "behind" : "ahead of");
}

bool IsBusy(int status) { return status == 408 || status == 429 || status == 500 || status == 502 || status == 503 || status == 504; }

std::string ServerName(const std::string& url) {
  const size_t begin = url.find("://") + 3;
  return url.substr(begin, url.find('/', begin) - begin);
}

Failure Make(FailureKind kind, int status, std::string message) { return {kind, std::move(message), 0, status}; }

class HttpsStorage : public Storage {
 public:
  HttpRequest Request(const ObjectRequest& request, int64_t) const override {
    HttpRequest out;
    out.method = request.method;
    out.url = request.address.uri.substr(0, request.address.uri.find('#'));
    // Compressed on the way is another content, with another etag.
    out.headers.push_back("Accept-Encoding: identity");
    for (const auto& [name, value] : request.headers) {
      out.headers.push_back(name + ": " + value);
    }
    out.follow_redirects = true;
    out.https_only = true;
    return out;
  }

  Failure Explain(const Address& address, std::string_view doing, const HttpHead& head, std::string_view) const override {
    const std::string shown = ShownUri(address.uri);
    const int status = head.status;
    switch (status) {
      case 401:
      case 403: return Make(FailureKind::Auth, status, fmt::format("`{}`: the server does not allow it ({}); look at the address, a signed one may have expired", shown, status));
      case 404:
      case 410: return Make(FailureKind::Missing, status, fmt::format("`{}` is not there ({}); look at the address", shown, status));
      case 412: return Make(FailureKind::Changed, status, fmt::format("`{}` was changed since it was looked at; run `jobc plan` or `jobc run` again to take it as it is now", shown));
      default: break;
    }
    if (IsBusy(status)) {
      Failure out = Make(FailureKind::Busy, status, fmt::format("`{}`: the server cannot answer now ({}); try again later", shown, status));
      out.retry_after_ms = RetryAfter(head);
      return out;
    }
    return Make(FailureKind::Refused, status, fmt::format("`{}`: the server did not {} it (status {}); look at it with:  curl -I '{}'", shown, doing, status, shown));
  }
};

class S3Storage : public Storage {
 public:
  explicit S3Storage(S3Settings settings) : settings_(std::move(settings)) {}

  HttpRequest Request(const ObjectRequest& request, int64_t unix_seconds) const override {
    const Address& address = request.address;
    std::string base = settings_.endpoint;
    SignedRequest sign;
    sign.method = request.method;
    sign.path = "/" + UriEncode(address.key, true);
    // A bucket with a dot in its name fits no certificate of its own host.
    if (base.empty() && address.bucket.find('.') == std::string::npos) {
      base = fmt::format("https://{}.s3.{}.amazonaws.com", address.bucket, settings_.region);
    } else {
      if (base.empty()) {
        base = fmt::format("https://s3.{}.amazonaws.com", settings_.region);
      }
      sign.path = "/" + address.bucket + (address.key.empty() ? "" : sign.path);
    }
    sign.query = request.query;
    sign.payload_sha256 = request.payload_sha256;
    const std::string date = AmzDate(unix_seconds);
    sign.headers = request.headers;
    sign.headers.emplace_back("host", HostOf(base));
    sign.headers.emplace_back("x-amz-content-sha256", request.payload_sha256);
    sign.headers.emplace_back("x-amz-date", date);
    if (!settings_.credentials.session_token.empty()) {
      sign.headers.emplace_back("x-amz-security-token", settings_.credentials.session_token);
    }
    HttpRequest out;
    out.method = request.method;
    out.url = base + sign.path;
    if (!sign.query.empty()) {
      out.url += "?" + CanonicalQuery(sign.query);
    }
    for (const auto& [name, value] : sign.headers) {
      if (name != "host") {
        out.headers.push_back(name + ": " + value);
      }
    }
    out.headers.push_back("Authorization: " + Authorization(sign, settings_.credentials, settings_.region, "s3", date));
    return out;
  }

  Failure Explain(const Address& address, std::string_view doing, const HttpHead& head, std::string_view body) const override {
    const S3Error error = ReadS3Error(body);
    const std::string& uri = address.uri;
    const int status = head.status;
    const std::string said = error.code.empty() ? std::to_string(status) : fmt::format("{} {}", status, error.code);
    const std::string_view code = error.code;
    std::string region(head.Get("x-amz-bucket-region"));
    if (region.empty()) {
      region = error.region;
    }
    auto auth = [&](std::string_view why) { return Make(FailureKind::Auth, status, fmt::format("`{}`: {} ({})", uri, why, said)); };
    const bool elsewhere = status == 400 && !region.empty() && region != settings_.region;  // all that a HEAD tells
    if (elsewhere || status == 301 || status == 307 || code == "PermanentRedirect" || code == "AuthorizationHeaderMalformed" || code == "IllegalLocationConstraintException") {
      return Make(FailureKind::Refused, status, fmt::format("`{}` is not in the region `{}` ({}); set AWS_REGION{}", uri, settings_.region, said, region.empty() ? " to that of the bucket" : "=" + region));
    }
    if (code == "InvalidAccessKeyId") {
      return auth(fmt::format("{} does not know the access key `{}` (from {}); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE", Server(), settings_.credentials.access_key, settings_.credentials_from));
    }
    if (code == "SignatureDoesNotMatch") {
      return auth(fmt::format("the secret key for `{}` (from {}) is wrong; set AWS_SECRET_ACCESS_KEY", settings_.credentials.access_key, settings_.credentials_from));
    }
    if (code == "ExpiredToken" || code == "TokenRefreshRequired" || code == "InvalidToken") {
      return auth("the session token is no longer good; log in again and set AWS_SESSION_TOKEN");
    }
    if (code == "RequestTimeTooSkewed") {
      return auth(fmt::format("the clock of this machine {}, more than the 15 minutes that are allowed; set it, for example with:  timedatectl set-ntp true", ClockWords(head)));
    }
    if (status == 401 || status == 403) {
      return auth(fmt::format("{} does not let `{}` (from {}) {} it; wrong credentials, or no right to this bucket", Server(), settings_.credentials.access_key, settings_.credentials_from, doing));
    }
    if (code == "NoSuchBucket") {
      return Make(FailureKind::Refused, status, fmt::format("`{}`: {} has no bucket `{}` ({}); look at its name, and at the server (JOBC_S3_ENDPOINT, AWS_ENDPOINT_URL)", uri, Server(), address.bucket, said));
    }
    if (status == 404 || status == 410) {
      return Make(FailureKind::Missing, status, fmt::format("`{}` is not there ({}, asked {})", uri, said, Server()));
    }
    if (status == 412) {
      return Make(FailureKind::Changed, status, fmt::format("`{}` was changed since it was looked at; run `jobc plan` or `jobc run` again to take it as it is now", uri));
    }
    if (IsBusy(status) || (status == 409 && code == "ConditionalRequestConflict") || code == "SlowDown" || code == "RequestTimeout" || code == "OperationAborted") {
      Failure out = Make(FailureKind::Busy, status, fmt::format("`{}`: {} cannot answer now ({}); try again later", uri, Server(), said));
      out.retry_after_ms = RetryAfter(head);
      return out;
    }
    return Make(FailureKind::Refused, status, fmt::format("`{}`: {} did not {} it ({}{}{})", uri, Server(), doing, said, error.message.empty() ? "" : ": ", error.message));
  }

 private:
  /// As it is sent: without the port that its scheme has anyway.
  static std::string HostOf(const std::string& base) {
    std::string host = ServerName(base);
    const std::string usual = base.starts_with("https://") ? ":443" : ":80";
    if (host.ends_with(usual)) {
      host.resize(host.size() - usual.size());
    }
    return host;
  }
  std::string Server() const { return settings_.endpoint.empty() ? "AWS" : fmt::format("{} ({})", settings_.endpoint, settings_.endpoint_from); }

  S3Settings settings_;
};

}  // namespace

RemoteIdentity IdentityOf(const HttpHead& head) {
  RemoteIdentity out;
  if (const std::string_view etag = head.Get("etag"); etag.size() > 2 && etag.front() == '"' && etag.back() == '"') {
    out.etag = etag;  // a weak one (W/"…") does not promise the same bytes
  }
  if (const std::string_view version = head.Get("x-amz-version-id"); version != "null") {
    out.version = version;
  }
  uint64_t size = 0;
  std::string_view text = head.Get("content-length");
  if (head.status == 206) {
    const std::string_view range = head.Get("content-range");
    text = range.rfind('/') == std::string_view::npos ? std::string_view() : range.substr(range.rfind('/') + 1);
  }
  auto read = std::from_chars(text.data(), text.data() + text.size(), size);
  if (!text.empty() && read.ec == std::errc() && read.ptr == text.data() + text.size()) {
    out.size = size;
  }
  return out;
}

std::string Difference(const RemoteIdentity& was, const RemoteIdentity& now) {
  if (was.size && now.size && *was.size != *now.size) {
    return fmt::format("it had {} bytes and has {} now", *was.size, *now.size);
  }
  if (!was.version.empty() && was.version != now.version) {
    return fmt::format("its version was {} and is {} now", was.version, now.version.empty() ? "none" : now.version);
  }
  if (was.version.empty() && !was.etag.empty() && was.etag != now.etag) {
    return fmt::format("its etag was {} and is {} now", was.etag, now.etag.empty() ? "none" : now.etag);
  }
  return "";
}

std::unique_ptr<Storage> MakeHttpsStorage() { return std::make_unique<HttpsStorage>(); }
std::unique_ptr<Storage> MakeS3Storage(S3Settings settings) { return std::make_unique<S3Storage>(std::move(settings)); }

Failure ExplainEnd(const Address& address, std::string_view doing, const HttpEnd& end) {
  const std::string shown = ShownUri(address.uri);
  Failure out;
  out.kind = end.failure == HttpFailure::Tls ? FailureKind::Refused : FailureKind::Network;
  std::string help;
  switch (end.failure) {
    case HttpFailure::Resolve: help = "; look at the host's name and at the network"; break;
    case HttpFailure::Connect:
      help = address.scheme == Scheme::S3 ? "; look at the endpoint (JOBC_S3_ENDPOINT, AWS_ENDPOINT_URL) and at the network" : "; look at the network";
      break;
    default: break;
  }
  out.message = fmt::format("cannot {} `{}`: {}{}", doing, shown, end.message, help);
  return out;
}

}  // namespace jobc::storage
