// AWS Signature Version 4 (docs.aws.amazon.com, "Signature Version 4 signing process"): what makes a request to an S3
// server the caller's. Pure: the time is an argument. Own code and not libcurl's CURLOPT_AWS_SIGV4, because that of
// Debian 12 (7.88) signs neither a session token's nor a query's special cases, and cannot sign a streamed body by its
// hash.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace jobc::storage {

using Pairs = std::vector<std::pair<std::string, std::string>>;

/// The hash of no bytes.
inline constexpr std::string_view kEmptySha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

struct Credentials {
  std::string access_key, secret_key;
  std::string session_token;  ///< may be empty
};

struct SignedRequest {
  std::string method;
  std::string path;            ///< as sent: encoded once, begins with `/`
  Pairs query;                 ///< not encoded
  Pairs headers;               ///< all that are to be signed, `host` and `x-amz-date` among them; lower-case names
  std::string payload_sha256;  ///< hex, or UNSIGNED-PAYLOAD
};

/// `20130524T000000Z` of seconds since 1970.
std::string AmzDate(int64_t unix_seconds);
/// Sorted and encoded, as it stands in the signature and in the address: `max-keys=2&prefix=J`.
std::string CanonicalQuery(const Pairs& query);
std::string CanonicalRequest(const SignedRequest& request);
/// The value of the `authorization` header. `amz_date` as in the headers.
std::string Authorization(const SignedRequest& request, const Credentials& credentials, std::string_view region, std::string_view service, std::string_view amz_date);

/// 32 bytes.
std::string HmacSha256(std::string_view key, std::string_view text);

}  // namespace jobc::storage
