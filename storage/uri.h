// Addresses of remote files: `s3://bucket/key` and `https://host/path`. Pure.
#pragma once

#include <string>
#include <string_view>

#include "support/result.h"

namespace jobc::storage {

enum class Scheme : uint8_t { Https, S3 };

struct Address {
  Scheme scheme = Scheme::Https;
  std::string uri;     ///< as written
  std::string bucket;  ///< S3
  std::string key;     ///< S3: not encoded, may be empty (the bucket itself)
};

/// The error says what an address looks like. `http://` and `gs://` are no addresses here.
Result<Address> ParseAddress(std::string_view uri);

/// `s3://bucket/a` and `b/c` give `s3://bucket/a/b/c`.
std::string JoinUri(std::string_view prefix, std::string_view name);

/// Percent-encodes all but letters, digits and `-._~`, and `/` where `keep_slash`; as AWS signatures want it (RFC 3986).
std::string UriEncode(std::string_view text, bool keep_slash);

/// The other way round; `+` is a blank, as in the keys that S3 lists.
std::string UriDecode(std::string_view text);

/// Without user information and query, which may hold credentials (presigned addresses): for messages and events.
std::string ShownUri(std::string_view uri);

}  // namespace jobc::storage
