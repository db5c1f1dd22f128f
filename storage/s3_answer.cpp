#include "storage/s3_answer.h"

#include <fmt/format.h>

#include <charconv>

#include "storage/uri.h"

namespace jobc::storage {
namespace {

constexpr int kMostLevels = 16;

bool IsBlank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
bool IsNameChar(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.' || c == ':' || static_cast<unsigned char>(c) >= 0x80;
}

void AppendUtf8(uint32_t c, std::string& out) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else if (c < 0x800) {
    out += static_cast<char>(0xC0 | (c >> 6));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else if (c < 0x10000) {
    out += static_cast<char>(0xE0 | (c >> 12));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  } else {
    out += static_cast<char>(0xF0 | (c >> 18));
    out += static_cast<char>(0x80 | ((c >> 12) & 0x3F));
    out += static_cast<char>(0x80 | ((c >> 6) & 0x3F));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

class XmlParser {
 public:
  explicit XmlParser(std::string_view text) : text_(text) {}

  Result<XmlElement> Parse() {
    if (text_.starts_with("\xEF\xBB\xBF")) {
      at_ = 3;
    }
    Blanks();
    if (Take("<?xml") && !SkipPast("?>")) {
      return Bad("its declaration does not end");
    }
    if (!Misc()) {
      return Bad("a comment does not end");
    }
    XmlElement root;
    if (!Element(root, 0)) {
      return Bad(problem_);
    }
    if (!Misc() || at_ != text_.size()) {
      return Bad("something follows its end");
    }
    return root;
  }

 private:
  Error Bad(std::string_view why) { return Error{fmt::format("the answer is no XML that is understood: {} (byte {})", why, at_)}; }
  bool Fail(const char* why) {
    problem_ = why;
    return false;
  }
  void Blanks() {
    while (at_ < text_.size() && IsBlank(text_[at_])) {
      ++at_;
    }
  }
  bool Take(std::string_view what) {
    if (text_.substr(at_).starts_with(what)) {
      at_ += what.size();
      return true;
    }
    return false;
  }
  bool SkipPast(std::string_view what) {
    const size_t found = text_.find(what, at_);
    if (found == std::string_view::npos) {
      return false;
    }
    at_ = found + what.size();
    return true;
  }
  bool Misc() {
    for (Blanks(); Take("<!--"); Blanks()) {
      if (!SkipPast("-->")) {
        return false;
      }
    }
    return true;
  }
  std::string_view Name() {
    const size_t begin = at_;
    while (at_ < text_.size() && IsNameChar(text_[at_])) {
      ++at_;
    }
    return text_.substr(begin, at_ - begin);
  }

  bool Reference(std::string& out) {
    const size_t end = text_.find(';', at_);
    if (end == std::string_view::npos || end - at_ > 12) {
      return Fail("`&` begins no reference");
    }
    const std::string_view name = text_.substr(at_, end - at_);
    at_ = end + 1;
    for (const auto& [entity, c] : {std::pair<std::string_view, char>{"amp", '&'}, {"lt", '<'}, {"gt", '>'}, {"quot", '"'}, {"apos", '\''}}) {
      if (name == entity) {
        out += c;
        return true;
      }
    }
    if (name.size() < 2 || name[0] != '#') {
      return Fail("it has an entity of its own");
    }
    const bool hex = name[1] == 'x';
    const std::string_view digits = name.substr(hex ? 2 : 1);
    uint32_t code = 0;
    auto read = std::from_chars(digits.data(), digits.data() + digits.size(), code, hex ? 16 : 10);
    if (digits.empty() || read.ec != std::errc() || read.ptr != digits.data() + digits.size() || code == 0 || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
      return Fail("a character reference is wrong");
    }
    AppendUtf8(code, out);
    return true;
  }

  bool Element(XmlElement& out, int level) {
    if (level >= kMostLevels) {
      return Fail("it is nested too deeply");
    }
    if (!Take("<")) {
      return Fail("an element is expected");
    }
    const std::string_view name = Name();
    if (name.empty()) {
      return Fail("an element has no name");
    }
    out.name = name.substr(name.rfind(':') == std::string_view::npos ? 0 : name.rfind(':') + 1);
    for (;;) {
      Blanks();
      if (Take("/>")) {
        return true;
      }
      if (Take(">")) {
        break;
      }
      if (Name().empty()) {
        return Fail("an attribute is wrong");
      }
      Blanks();
      const bool equal = Take("=");
      Blanks();
      const char quote = at_ < text_.size() ? text_[at_] : '\0';
      if (!equal || (quote != '"' && quote != '\'')) {
        return Fail("an attribute has no value");
      }
      ++at_;
      if (!SkipPast(std::string_view(&quote, 1))) {
        return Fail("the value of an attribute does not end");
      }
    }
    for (;;) {
      if (at_ >= text_.size()) {
        return Fail("an element does not end");
      }
      if (Take("</")) {
        if (Name() != name) {
          return Fail("the end of another element is expected");
        }
        Blanks();
        return Take(">") || Fail("an end is wrong");
      }
      if (Take("<!--")) {
        if (!SkipPast("-->")) {
          return Fail("a comment does not end");
        }
      } else if (Take("<![CDATA[")) {
        const size_t begin = at_;
        if (!SkipPast("]]>")) {
          return Fail("a CDATA section does not end");
        }
        out.text += text_.substr(begin, at_ - 3 - begin);
      } else if (text_[at_] == '<') {
        if (!Element(out.children.emplace_back(), level + 1)) {
          return false;
        }
      } else if (text_[at_] == '&') {
        ++at_;
        if (!Reference(out.text)) {
          return false;
        }
      } else {
        out.text += text_[at_++];
      }
    }
  }

  std::string_view text_;
  size_t at_ = 0;
  const char* problem_ = "";
};

bool ReadNumber(std::string_view text, uint64_t& number) {
  auto read = std::from_chars(text.data(), text.data() + text.size(), number);
  return !text.empty() && read.ec == std::errc() && read.ptr == text.data() + text.size();
}

}  // namespace

std::string_view XmlElement::Text(std::string_view child) const {
  for (const XmlElement& one : children) {
    if (one.name == child) {
      return one.text;
    }
  }
  return {};
}

Result<XmlElement> ParseXml(std::string_view text) { return XmlParser(text).Parse(); }

std::string XmlEscape(std::string_view text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      case '"': out += "&quot;"; break;
      default: out += c;
    }
  }
  return out;
}

S3Error ReadS3Error(std::string_view body) {
  auto root = ParseXml(body);
  if (!root || root->name != "Error") {
    return {};
  }
  return {std::string(root->Text("Code")), std::string(root->Text("Message")), std::string(root->Text("Region"))};
}

Result<S3Page> ReadListing(std::string_view body) {
  auto root = ParseXml(body);
  if (!root) {
    return root.error();
  }
  if (root->name != "ListBucketResult") {
    return Error{"the answer is no list of objects"};
  }
  const bool encoded = root->Text("EncodingType") == "url";
  S3Page page;
  page.more = root->Text("IsTruncated") == "true";
  for (const XmlElement& one : root->children) {
    if (one.name != "Contents") {
      continue;
    }
    S3Listed& object = page.objects.emplace_back();
    object.key = encoded ? UriDecode(one.Text("Key")) : std::string(one.Text("Key"));
    object.etag = one.Text("ETag");
    if (object.key.empty() || !ReadNumber(one.Text("Size"), object.size)) {
      return Error{"the answer has an object without a name or a size"};
    }
  }
  return page;
}

Result<S3Parts> ReadParts(std::string_view body) {
  auto root = ParseXml(body);
  if (!root) {
    return root.error();
  }
  if (root->name != "ListPartsResult") {
    return Error{"the answer is no list of parts"};
  }
  S3Parts out;
  if (root->Text("IsTruncated") == "true") {
    out.next = root->Text("NextPartNumberMarker");
  }
  for (const XmlElement& one : root->children) {
    if (one.name != "Part") {
      continue;
    }
    S3Part& part = out.parts.emplace_back();
    part.etag = one.Text("ETag");
    if (part.etag.empty() || !ReadNumber(one.Text("PartNumber"), part.number) || !ReadNumber(one.Text("Size"), part.size)) {
      return Error{"the answer has a part without a number, a size or an etag"};
    }
  }
  return out;
}

Result<std::string> ReadUploadId(std::string_view body) {
  auto root = ParseXml(body);
  if (!root) {
    return root.error();
  }
  std::string id(root->Text("UploadId"));
  if (root->name != "InitiateMultipartUploadResult" || id.empty()) {
    return Error{"the answer has no upload id"};
  }
  return id;
}

}  // namespace jobc::storage
