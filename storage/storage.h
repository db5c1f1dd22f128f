// How a request for a remote file is made, and what its answer means: one Storage for `https://`, one for `s3://`. Pure, but
// for the address of the server: sending is done by transfer.h.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "runtime/http_client.h"
#include "storage/failure.h"
#include "storage/s3_settings.h"
#include "storage/uri.h"

namespace jobc::storage {

/// What tells one content of an address from another.
struct RemoteIdentity {
  std::string etag;              ///< with its quotes, never a weak one; empty: the server gives none
  std::string version;           ///< S3: of a bucket with versions; else empty
  std::optional<uint64_t> size;  ///< bytes
  bool known() const { return !etag.empty() || !version.empty(); }
  friend bool operator==(const RemoteIdentity&, const RemoteIdentity&) = default;
};

/// Of the headers of an answer.
RemoteIdentity IdentityOf(const HttpHead& head);
/// Empty if `now` may be the content that `was` names, else in words how they differ.
std::string Difference(const RemoteIdentity& was, const RemoteIdentity& now);

struct ObjectRequest {
  std::string method = "GET";
  Address address;
  Pairs query;                 ///< S3
  Pairs headers;               ///< names in lower case
  std::string payload_sha256{kEmptySha256};
};

class Storage {
 public:
  virtual ~Storage() = default;
  /// Method, url and headers. `unix_seconds`: now.
  virtual HttpRequest Request(const ObjectRequest& request, int64_t unix_seconds) const = 0;
  /// Of an answer with a status that is no success. `doing`: "read", "write" …
  virtual Failure Explain(const Address& address, std::string_view doing, const HttpHead& head, std::string_view body) const = 0;
};

std::unique_ptr<Storage> MakeHttpsStorage();
std::unique_ptr<Storage> MakeS3Storage(S3Settings settings);

/// Of a request without an answer, or with half of one.
Failure ExplainEnd(const Address& address, std::string_view doing, const HttpEnd& end);

}  // namespace jobc::storage
