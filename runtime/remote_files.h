// Remote files (`https://…`, `s3://…`) as the engine sees them: brought to this machine before an attempt begins, and put where
// a `publish` says. Implemented by storage/, given to the engine by the driver, so that the engine knows no protocol and
// tests can have servers that never answer. Lives on the engine's loop and thread, never blocks, and calls back only from
// the loop.
#pragma once

#include <uv.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "ir/plan.h"
#include "runtime/publish.h"
#include "runtime/staged.h"
#include "support/result.h"

namespace jobc {

/// A remote file, and what is known of its content. Without etag and version any content will do.
struct RemoteFile {
  std::string uri;
  std::string etag, version;
  std::optional<uint64_t> size;
};

/// Why it is not here, or not there.
struct RemoteFailure {
  ir::ErrorKind kind = ir::ErrorKind::Staging;  ///< Network, Staging or Auth; Publish of PublishTo()
  std::string message;
  bool no_retry = false;                        ///< nothing but a person can mend it
};

class RemoteFiles {
 public:
  using Ticket = uint64_t;
  using Done = std::function<void(std::optional<RemoteFailure>)>;

  virtual ~RemoteFiles() = default;
  /// Where the content lies on this machine; empty: it has to be brought by Want() first.
  virtual std::string Find(const RemoteFile& file) = 0;
  /// Brings all of them, each once however many want it. `done` once, unless dropped.
  virtual Ticket Want(const std::vector<RemoteFile>& files, Done done) = 0;
  /// Nobody waits any more: what no one else wants ends. Without effect on what is done.
  virtual void Drop(Ticket ticket) = 0;
  /// Puts `items` below `destination` (s3://BUCKET/PREFIX): files first, the manifest last. With `prune`, what the previous
  /// manifest has and the new one has not is removed at the end.
  virtual Ticket PublishTo(const std::string& destination, std::vector<PublishItem> items, bool prune, Done done) = 0;
  /// Puts a staged attempt below its base (s3://BUCKET/PREFIX): its manifest, the files, the manifest again. Files with `at` are not sent.
  virtual Ticket StageTo(const StagedSet& set, Done done) = 0;
};

/// What it may use while it lives; everything outlives it.
struct RemoteFilesHost {
  uv_loop_t* loop = nullptr;
  std::string state_dir;
  std::string run_id;
};

/// The error says why there are none here.
using RemoteFilesFactory = std::function<Result<std::unique_ptr<RemoteFiles>>(const RemoteFilesHost& host)>;

}  // namespace jobc
