// A directory in a bucket: what a listing of `s3://BUCKET/PREFIX/` means as a tree of files, and what names its content. Pure.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "storage/failure.h"
#include "storage/transfer.h"

namespace jobc::storage {

/// Whether an address is that of a directory: `s3://BUCKET/PREFIX/`, with the `/` at its end.
bool IsTreeUri(std::string_view uri);

struct TreeFile {
  std::string path;   ///< below the directory
  std::string uri, etag;
  uint64_t size = 0;
};

struct RemoteTree {
  std::vector<TreeFile> files;     ///< in the order of their paths' bytes
  std::vector<std::string> dirs;   ///< those that objects with a `/` at their end stand for, without it
  RemoteIdentity identity;         ///< of all of it: paths, etags and sizes, wherever it lies
};

/// Of `uri` and everything that begins with it. No objects at all: FailureKind::Missing. Keys that no file system could hold as they
/// are, and objects without an etag: FailureKind::Refused.
Outcome<RemoteTree> ReadTree(const std::string& uri, const std::vector<ListPage::Object>& objects);

/// More objects are no directory that anybody wants as one input.
inline constexpr uint64_t kMostTreeFiles = 1'000'000;

/// All objects of `s3://BUCKET/PREFIX`, page after page; more than `most` are FailureKind::Refused. `current`: the request under way,
/// for Transfers::Cancel().
void ListAll(Transfers& transfers, const std::string& uri, uint64_t most, std::shared_ptr<Transfers::Id> current,
             std::function<void(Outcome<std::vector<ListPage::Object>>)> done);

}  // namespace jobc::storage
