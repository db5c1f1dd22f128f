#include "runtime/process/attempt_dir.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include <fmt/format.h>

namespace jobc::process {
namespace {

constexpr time_t kUntouched = 1;  // 1970-01-01 00:00:01

bool Untouched(const AttemptDirs::Dir& dir) {
  struct stat now {};
  return lstat(dir.path.c_str(), &now) == 0 && S_ISDIR(now.st_mode) && now.st_dev == dir.device &&
         now.st_ino == dir.inode && now.st_mode == dir.mode && now.st_uid == dir.owner && now.st_gid == dir.group &&
         now.st_mtim.tv_sec == kUntouched && now.st_mtim.tv_nsec == 0 && now.st_ctim.tv_sec == dir.changed.tv_sec &&
         now.st_ctim.tv_nsec == dir.changed.tv_nsec;
}

/// One more than the highest number that names an entry.
uint64_t NextNumber(const std::string& path) {
  uint64_t next = 0;
  if (DIR* dir = opendir(path.c_str())) {
    while (dirent* entry = readdir(dir)) {
      uint64_t number = 0;
      const char* end = entry->d_name + strlen(entry->d_name);
      if (std::from_chars(entry->d_name, end, number).ptr == end) {
        next = std::max(next, number + 1);
      }
    }
    closedir(dir);
  }
  return next;
}

}  // namespace

Result<std::unique_ptr<AttemptDirs>> AttemptDirs::Open(const std::string& run_directory) {
  std::unique_ptr<AttemptDirs> dirs(new AttemptDirs);
  dirs->work_ = run_directory + "/work";
  dirs->tmp_ = run_directory + "/tmp";
  for (const std::string& path : {dirs->work_, dirs->tmp_}) {
    if (mkdir(path.c_str(), 0777) == 0) {
      continue;
    }
    if (Result<void> made = MakeDirectories(path); !made) {
      return made.error();
    }
    dirs->next_ = std::max(dirs->next_, NextNumber(path));
  }
  return dirs;
}

AttemptDirs::~AttemptDirs() {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
  }
  wake_.notify_one();
  if (remover_.joinable()) {
    remover_.join();
  }
  for (const std::vector<Dir>* free : {&free_work_, &free_tmp_}) {
    for (const Dir& dir : *free) {
      rmdir(dir.path.c_str());
    }
  }
  rmdir(tmp_.c_str());  // stays if something is in there
  rmdir(work_.c_str());
}

Result<AttemptDirs::Dir> AttemptDirs::Make(const std::string& parent) {
  Dir dir;
  for (;;) {
    dir.path = fmt::format("{}/{}", parent, next_++);
    if (mkdir(dir.path.c_str(), 0777) == 0) {
      break;
    }
    if (errno != EEXIST) {
      return SystemError(fmt::format("cannot create the directory `{}`", dir.path), errno);
    }
  }
  ++made_;
  timespec times[2] = {{0, UTIME_OMIT}, {kUntouched, 0}};
  struct stat info {};
  if (utimensat(AT_FDCWD, dir.path.c_str(), times, 0) != 0 || lstat(dir.path.c_str(), &info) != 0) {
    return SystemError(fmt::format("cannot prepare the directory `{}`", dir.path), errno);
  }
  dir.device = info.st_dev;
  dir.inode = info.st_ino;
  dir.mode = info.st_mode;
  dir.owner = info.st_uid;
  dir.group = info.st_gid;
  dir.changed = info.st_ctim;
  return dir;
}

Result<AttemptDirs::Pair> AttemptDirs::Take() {
  Pair pair;
  for (auto [free, parent, dir] : {std::tuple(&free_work_, &work_, &pair.work), std::tuple(&free_tmp_, &tmp_, &pair.tmp)}) {
    while (!free->empty() && dir->path.empty()) {
      Dir reused = std::move(free->back());
      free->pop_back();
      *dir = std::move(reused);
    }
    if (dir->path.empty()) {
      Result<Dir> made = Make(*parent);
      if (!made) {
        return made.error();
      }
      *dir = std::move(*made);
    }
  }
  return pair;
}

AttemptDirs::Fate AttemptDirs::GiveBack(Pair pair, bool keep_work) {
  if (Untouched(pair.tmp)) {
    free_tmp_.push_back(std::move(pair.tmp));
  } else if (rmdir(pair.tmp.path.c_str()) != 0) {
    RemoveLater(std::move(pair.tmp.path));
  }
  if (Untouched(pair.work)) {
    free_work_.push_back(std::move(pair.work));
    return Fate::kReused;
  }
  if (rmdir(pair.work.path.c_str()) == 0 || errno == ENOENT) {
    return Fate::kRemoved;
  }
  if (keep_work) {
    return Fate::kKept;
  }
  RemoveLater(std::move(pair.work.path));
  return Fate::kRemoved;
}

void AttemptDirs::RemoveLater(std::string path) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    remove_.push_back(std::move(path));
    if (!remover_.joinable()) {
      // The worker must not take signals away from the loop thread.
      sigset_t all;
      sigset_t before;
      sigfillset(&all);
      pthread_sigmask(SIG_SETMASK, &all, &before);
      remover_ = std::thread([this] { RemoveLoop(); });
      pthread_sigmask(SIG_SETMASK, &before, nullptr);
    }
  }
  wake_.notify_one();
}

void AttemptDirs::RemoveLoop() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stop_ || !remove_.empty(); });
    if (remove_.empty()) {
      return;
    }
    std::string path = std::move(remove_.front());
    remove_.pop_front();
    lock.unlock();
    (void)RemoveTree(path).ok();  // what cannot be removed stays for `gc`
    lock.lock();
  }
}

}  // namespace jobc::process
