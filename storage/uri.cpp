#include "storage/uri.h"

#include <fmt/format.h>

#include <algorithm>

namespace jobc::storage {
namespace {

/// The rules of bucket names that matter here: what may stand in a host name and in a path.
bool IsBucketName(std::string_view name) {
  return name.size() >= 3 && name.size() <= 63 && name.front() != '.' && name.back() != '.' && name.find("..") == std::string_view::npos &&
         std::all_of(name.begin(), name.end(), [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_'; });
}

bool HasControls(std::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

}  // namespace

Result<Address> ParseAddress(std::string_view uri) {
  Address out;
  out.uri = uri;
  if (HasControls(uri)) {
    return Error{"an address must not hold control characters"};
  }
  if (uri.starts_with("s3://")) {
    out.scheme = Scheme::S3;
    std::string_view rest = uri.substr(5);
    const size_t slash = std::min(rest.find('/'), rest.size());
    out.bucket = rest.substr(0, slash);
    out.key = slash < rest.size() ? rest.substr(slash + 1) : std::string_view();
    if (!IsBucketName(out.bucket)) {
      return Error{fmt::format("`{}` does not name a bucket; an address looks like `s3://BUCKET/PATH`", uri)};
    }
    return out;
  }
  if (uri.starts_with("https://")) {
    const std::string_view rest = uri.substr(8);
    if (rest.empty() || rest.front() == '/' || uri.find(' ') != std::string_view::npos) {
      return Error{fmt::format("`{}` is no address; it looks like `https://HOST/PATH`, blanks as %20", uri)};
    }
    return out;
  }
  if (uri.starts_with("http://")) {
    return Error{fmt::format("`{}` is not fetched: without TLS anybody on the way can change it; use `https://`", ShownUri(uri))};
  }
  return Error{fmt::format("`{}` cannot be read: only `https://` and `s3://` can", ShownUri(uri))};
}

std::string JoinUri(std::string_view prefix, std::string_view name) {
  std::string out(prefix);
  while (!out.empty() && out.back() == '/') {
    out.pop_back();
  }
  return out + "/" + std::string(name);
}

std::string UriEncode(std::string_view text, bool keep_slash) {
  static constexpr char kHex[] = "0123456789ABCDEF";
  std::string out;
  out.reserve(text.size() + 16);
  for (char c : text) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~' || (keep_slash && c == '/');
    if (plain) {
      out += c;
    } else {
      const auto byte = static_cast<unsigned char>(c);
      out += '%';
      out += kHex[byte >> 4];
      out += kHex[byte & 15];
    }
  }
  return out;
}

std::string UriDecode(std::string_view text) {
  auto digit = [](char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && digit(text[i + 1]) >= 0 && digit(text[i + 2]) >= 0) {
      out += static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2]));
      i += 2;
    } else {
      out += text[i] == '+' ? ' ' : text[i];
    }
  }
  return out;
}

std::string ShownUri(std::string_view uri) {
  if (uri.starts_with("s3://")) {
    return std::string(uri);
  }
  std::string out(uri.substr(0, std::min(uri.find_first_of("?#"), uri.size())));
  const size_t host = out.find("://");
  if (host != std::string::npos) {
    const size_t path = std::min(out.find('/', host + 3), out.size());
    const size_t at = out.rfind('@', path);
    if (at != std::string::npos && at > host) {
      out.erase(host + 3, at + 1 - (host + 3));
    }
  }
  return out + (uri.find('?') != std::string_view::npos ? "?…" : "");
}

}  // namespace jobc::storage
