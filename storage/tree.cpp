#include "storage/tree.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <limits.h>
#include <set>

#include "support/sha256.h"

namespace jobc::storage {
namespace {

/// Empty if a file of this name can be made below a directory; else why not.
std::string WhyNoPath(std::string_view path) {
  for (const char c : path) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      return "it holds a control character";
    }
  }
  if (path.size() >= PATH_MAX / 2) {
    return "it is too long for a file";
  }
  for (std::string_view rest = path;;) {
    const size_t slash = std::min(rest.find('/'), rest.size());
    const std::string_view part = rest.substr(0, slash);
    if (part.empty()) {
      return "it has a part without a name (`//`)";
    }
    if (part == "." || part == "..") {
      return fmt::format("`{}` in it would lead somewhere else", part);
    }
    if (part.size() > NAME_MAX) {
      return "a part of it is too long for a file";
    }
    if (slash == rest.size()) {
      return "";
    }
    rest.remove_prefix(slash + 1);
  }
}

}  // namespace

bool IsTreeUri(std::string_view uri) { return uri.starts_with("s3://") && uri.ends_with('/'); }

Outcome<RemoteTree> ReadTree(const std::string& uri, const std::vector<ListPage::Object>& objects) {
  const auto refused = [&](const std::string& key, const std::string& why) { return Failure{FailureKind::Refused, fmt::format("`{}` cannot be a directory here: the object `{}`: {}", uri, key, why), 0, 200}; };
  const size_t bucket = uri.find('/', 5) + 1;
  const std::string prefix = uri.substr(bucket);
  RemoteTree out;
  for (const ListPage::Object& entry : objects) {
    if (!entry.key.starts_with(prefix)) {
      return refused(entry.key, "it was not asked for");
    }
    std::string path = entry.key.substr(prefix.size());
    const uint64_t size = entry.identity.size.value_or(0);
    if (path.empty() || path.back() == '/') {
      // Consoles make such objects, to show folders.
      if (size != 0) {
        return refused(entry.key, "a name with `/` at its end is a folder's, and it has content");
      }
      if (path.empty()) {
        continue;
      }
      path.pop_back();
      if (std::string why = WhyNoPath(path); !why.empty()) {
        return refused(entry.key, why);
      }
      out.dirs.push_back(std::move(path));
      continue;
    }
    if (std::string why = WhyNoPath(path); !why.empty()) {
      return refused(entry.key, why);
    }
    if (entry.identity.etag.empty()) {
      return refused(entry.key, "the server gives it no etag, so nothing would tell which content it has");
    }
    out.files.push_back({std::move(path), uri.substr(0, bucket) + entry.key, entry.identity.etag, size});
  }
  if (out.files.empty() && out.dirs.empty()) {
    return Failure{FailureKind::Missing, fmt::format("there is nothing below `{}`", uri), 0, 404};
  }
  std::sort(out.files.begin(), out.files.end(), [](const TreeFile& a, const TreeFile& b) { return a.path < b.path; });
  std::sort(out.dirs.begin(), out.dirs.end());
  // Where one object is a file and another one lies below it, only one of them can be there.
  std::set<std::string_view> names;
  for (const TreeFile& file : out.files) {
    names.insert(file.path);
  }
  const auto inside = [&](std::string_view path, bool itself) -> std::string_view {
    if (itself && names.count(path) != 0) {
      return path;
    }
    for (size_t slash = path.rfind('/'); slash != std::string_view::npos && slash > 0; slash = path.rfind('/', slash - 1)) {
      if (names.count(path.substr(0, slash)) != 0) {
        return path.substr(0, slash);
      }
    }
    return {};
  };
  for (const TreeFile& file : out.files) {
    if (const std::string_view other = inside(file.path, false); !other.empty()) {
      return refused(prefix + file.path, fmt::format("`{}{}` is an object too, and cannot be a file and a directory at the same time", prefix, other));
    }
  }
  for (const std::string& dir : out.dirs) {
    if (const std::string_view other = inside(dir, true); !other.empty()) {
      return refused(prefix + dir + "/", fmt::format("`{}{}` is an object too, and cannot be a file and a directory at the same time", prefix, other));
    }
  }
  Sha256 hash;
  uint64_t size = 0;
  for (const TreeFile& file : out.files) {
    hash.Update(file.path);
    hash.Update(std::string_view("\0", 1));
    hash.Update(fmt::format("{} {}\n", file.etag, file.size));
    size += file.size;
  }
  for (const std::string& dir : out.dirs) {
    hash.Update(dir);
    hash.Update(std::string_view("\0/\n", 3));
  }
  out.identity.etag = "\"tree-" + hash.HexDigest() + "\"";
  out.identity.size = size;
  return out;
}

void ListAll(Transfers& transfers, const std::string& uri, uint64_t most, std::shared_ptr<Transfers::Id> current,
             std::function<void(Outcome<std::vector<ListPage::Object>>)> done) {
  struct Pages {
    std::vector<ListPage::Object> found;
    std::function<void(std::string)> ask;
  };
  auto pages = std::make_shared<Pages>();
  pages->ask = [&transfers, uri, most, current, done = std::move(done), weak = std::weak_ptr<Pages>(pages)](std::string after) {
    auto held = weak.lock();  // by the request under way
    *current = transfers.List(uri, after, [uri, most, current, done, held](Outcome<ListPage> page) {
      *current = 0;
      if (!page) {
        return done(page.failure());
      }
      const std::string before = held->found.empty() ? std::string() : held->found.back().key;
      std::move(page->objects.begin(), page->objects.end(), std::back_inserter(held->found));
      if (held->found.size() > most) {
        return done(Failure{FailureKind::Refused, fmt::format("`{}` has more than {} objects", uri, most), 0, 200});
      }
      if (!page->more) {
        return done(std::move(held->found));
      }
      if (held->found.empty() || held->found.back().key <= before) {
        return done(Failure{FailureKind::Refused, fmt::format("`{}`: the list of its objects does not go on", uri), 0, 200});
      }
      held->ask(held->found.back().key);
    });
  };
  pages->ask("");
}

}  // namespace jobc::storage
