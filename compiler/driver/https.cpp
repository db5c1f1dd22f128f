#include "compiler/driver/https.h"

#include <curl/curl.h>
#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdlib>
#include <memory>

#include "compiler/driver/version.h"

// The macros check types of arguments to the function itself; these calls go through pointers.
#undef curl_easy_setopt
#undef curl_easy_getinfo

namespace jobc {
namespace {

constexpr long kConnectSeconds = 10;
constexpr long kTotalSeconds = 60;
constexpr long kMostRedirects = 5;

/// The functions of libcurl that are used here; stays open.
struct Curl {
  decltype(&curl_global_init) global_init = nullptr;
  decltype(&curl_easy_init) init = nullptr;
  decltype(&curl_easy_setopt) setopt = nullptr;
  decltype(&curl_easy_perform) perform = nullptr;
  decltype(&curl_easy_getinfo) getinfo = nullptr;
  decltype(&curl_easy_cleanup) cleanup = nullptr;
  decltype(&curl_easy_strerror) strerror = nullptr;

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
    find(curl.init, "curl_easy_init");
    find(curl.setopt, "curl_easy_setopt");
    find(curl.perform, "curl_easy_perform");
    find(curl.getinfo, "curl_easy_getinfo");
    find(curl.cleanup, "curl_easy_cleanup");
    find(curl.strerror, "curl_easy_strerror");
    if (!complete || curl.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) return Error{"libcurl cannot be used"};
    return curl;
  }
};

struct Body {
  std::string text;
  uint64_t most = 0;
  bool too_large = false;
};

size_t Append(char* data, size_t size, size_t count, void* into) {
  Body& body = *static_cast<Body*>(into);
  if (body.text.size() + size * count > body.most) {
    body.too_large = true;
    return 0;
  }
  body.text.append(data, size * count);
  return size * count;
}

}  // namespace

Result<std::string> FetchHttps(const std::string& address, uint64_t most) {
  Result<Curl> opened = Curl::Open();
  if (!opened.ok()) return opened.error();
  const Curl& curl = *opened;
  std::unique_ptr<CURL, decltype(curl.cleanup)> handle(curl.init(), curl.cleanup);
  if (!handle) return Error{"libcurl cannot be used"};
  Body body;
  body.most = most;
  char detail[CURL_ERROR_SIZE] = "";
  const std::string agent = fmt::format("jobc/{}", Version());
  CURL* h = handle.get();
  curl.setopt(h, CURLOPT_URL, address.c_str());
  curl.setopt(h, CURLOPT_PROTOCOLS_STR, "https");
  curl.setopt(h, CURLOPT_REDIR_PROTOCOLS_STR, "https");
  curl.setopt(h, CURLOPT_FOLLOWLOCATION, 1L);
  curl.setopt(h, CURLOPT_MAXREDIRS, kMostRedirects);
  curl.setopt(h, CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  curl.setopt(h, CURLOPT_TIMEOUT, kTotalSeconds);
  curl.setopt(h, CURLOPT_LOW_SPEED_LIMIT, 1L);
  curl.setopt(h, CURLOPT_LOW_SPEED_TIME, 20L);
  curl.setopt(h, CURLOPT_NOSIGNAL, 1L);
  curl.setopt(h, CURLOPT_USERAGENT, agent.c_str());
  curl.setopt(h, CURLOPT_ERRORBUFFER, detail);
  curl.setopt(h, CURLOPT_WRITEFUNCTION, &Append);
  curl.setopt(h, CURLOPT_WRITEDATA, &body);
  for (const char* name : {"CURL_CA_BUNDLE", "SSL_CERT_FILE"}) {
    const char* file = std::getenv(name);
    if (file == nullptr || *file == '\0') continue;
    curl.setopt(h, CURLOPT_CAINFO, file);
    break;
  }
  const CURLcode code = curl.perform(h);
  if (body.too_large) return Error{fmt::format("it is larger than {} MiB, the largest source that is fetched", most >> 20)};
  if (code == CURLE_UNSUPPORTED_PROTOCOL) return Error{"it leads to an address that is not https"};
  if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE) {
    return Error{fmt::format("its certificate is not accepted: {} (an own authority is given in SSL_CERT_FILE)", *detail != '\0' ? detail : curl.strerror(code))};
  }
  if (code == CURLE_PARTIAL_FILE) return Error{"the connection ended before all of it had come"};
  if (code == CURLE_OPERATION_TIMEDOUT) return Error{fmt::format("no answer in time: {}", *detail != '\0' ? detail : curl.strerror(code))};
  if (code != CURLE_OK) return Error{*detail != '\0' ? detail : curl.strerror(code)};
  long status = 0;
  curl.getinfo(h, CURLINFO_RESPONSE_CODE, &status);
  if (status != 200) return Error{fmt::format("the server answered with status {}{}", status, status == 404 ? " (not found)" : status == 401 || status == 403 ? " (not allowed)" : "")};
  return std::move(body.text);
}

}  // namespace jobc
