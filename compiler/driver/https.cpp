#include "compiler/driver/https.h"

#include <fmt/format.h>

#include "compiler/driver/version.h"
#include "runtime/http_client.h"

namespace jobc {

Result<std::string> FetchHttps(const std::string& address, uint64_t most) {
  HttpRequest request;
  request.url = address;
  request.headers.push_back(fmt::format("User-Agent: jobc/{}", Version()));
  request.total_ms = 60'000;
  request.stall_ms = 20'000;
  request.follow_redirects = true;
  request.https_only = true;
  HttpEnd end;
  Result<HttpAnswer> answer = FetchNow(std::move(request), most, &end);
  if (end.failure == HttpFailure::TooLarge) return Error{fmt::format("it is larger than {} MiB, the largest source that is fetched", most >> 20)};
  if (!answer.ok()) return answer.error();
  const int status = answer->head.status;
  if (status != 200) return Error{fmt::format("the server answered with status {}{}", status, status == 404 ? " (not found)" : status == 401 || status == 403 ? " (not allowed)" : "")};
  return std::move(answer->body);
}

}  // namespace jobc
