// What S3 servers answer, in XML: a strict parser of the small part of XML they use, and the answers read here. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "support/result.h"

namespace jobc::storage {

struct XmlElement {
  std::string name;  ///< without prefix
  std::string text;  ///< of itself, not of its children
  std::vector<XmlElement> children;
  /// The text of the first child of that name; empty: none.
  std::string_view Text(std::string_view child) const;
};

/// Elements, text, the five entities and character references; attributes, comments and the declaration are passed over.
/// No document types, no processing instructions: at most 16 levels.
Result<XmlElement> ParseXml(std::string_view text);

/// For texts inside elements that are sent.
std::string XmlEscape(std::string_view text);

struct S3Error {
  std::string code, message, region;
};
/// Nothing if it is none: an answer of a proxy, or no body at all (HEAD).
S3Error ReadS3Error(std::string_view body);

struct S3Listed {
  std::string key, etag;
  uint64_t size = 0;
};
struct S3Page {
  std::vector<S3Listed> objects;  ///< by key, in byte order
  bool more = false;
};
/// Of ListObjectsV2.
Result<S3Page> ReadListing(std::string_view body);

struct S3Part {
  uint64_t number = 0, size = 0;
  std::string etag;
};
struct S3Parts {
  std::vector<S3Part> parts;
  std::string next;  ///< the marker of the next page; empty: there is none
};
/// Of ListParts.
Result<S3Parts> ReadParts(std::string_view body);

/// The id of a multipart upload that began.
Result<std::string> ReadUploadId(std::string_view body);

}  // namespace jobc::storage
