// The directories of attempts below a run's directory: `work/N`, which is $JOB_OUTPUT and the working directory, and
// `tmp/N`, which is $TMPDIR. Making and removing directories is the dearest part of a small job on a busy disk, so
// one that its attempt left untouched is given to the next attempt. Untouched is exact: a new directory gets a
// modification time of 1970, which any change of its entries replaces, and identity, mode, owner and change time must
// still be the same. Used on jobc's loop thread; large trees are removed by a worker thread.
#pragma once

#include <sys/types.h>
#include <time.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "runtime/process/os.h"
#include "support/result.h"

namespace jobc::process {

class AttemptDirs {
 public:
  /// An empty directory and how it looked when it was made.
  struct Dir {
    std::string path;
    dev_t device = 0;
    ino_t inode = 0;
    mode_t mode = 0;
    uid_t owner = 0;
    gid_t group = 0;
    timespec changed{};
  };
  struct Pair {
    Dir work;
    Dir tmp;
  };

  /// `run_directory` is made if missing. Directories of an earlier process on the same run are never taken again.
  static Result<std::unique_ptr<AttemptDirs>> Open(const std::string& run_directory);
  /// Removes the unused directories and waits for removals under way.
  ~AttemptDirs();
  AttemptDirs(const AttemptDirs&) = delete;
  AttemptDirs& operator=(const AttemptDirs&) = delete;

  /// Two empty directories.
  Result<Pair> Take();

  enum class Fate {
    kReused,   ///< it was untouched and goes to another attempt
    kKept,     ///< it holds something, stays, and belongs to the caller
    kRemoved,  ///< it is gone, or will be soon
  };
  /// After the attempt was reaped. `keep_work` keeps a work directory that holds anything. Temporary files never stay.
  Fate GiveBack(Pair pair, bool keep_work);

  /// Removes a tree on the worker thread.
  void RemoveLater(std::string path);

  /// Only for tests and benchmarks: how many directories were made.
  uint64_t made() const { return made_; }

 private:
  AttemptDirs() = default;
  Result<Dir> Make(const std::string& parent);
  void RemoveLoop();

  std::string work_;
  std::string tmp_;
  uint64_t next_ = 0;
  uint64_t made_ = 0;
  std::vector<Dir> free_work_;
  std::vector<Dir> free_tmp_;
  std::mutex mutex_;  // guards what follows
  std::condition_variable wake_;
  std::deque<std::string> remove_;
  bool stop_ = false;
  std::thread remover_;
};

}  // namespace jobc::process
