#include "runtime/process/cgroup.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>
#include <string_view>

#include <fmt/format.h>

namespace jobc::process {
namespace {

std::vector<std::string_view> Split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    size_t end = text.find(separator);
    if (end != 0) {
      parts.push_back(text.substr(0, end));
    }
    if (end == std::string_view::npos) {
      break;
    }
    text.remove_prefix(end + 1);
  }
  return parts;
}

bool HasWord(std::string_view text, std::string_view word, char separator) {
  while (!text.empty() && text.back() == '\n') {
    text.remove_suffix(1);
  }
  for (std::string_view part : Split(text, separator)) {
    if (part == word) {
      return true;
    }
  }
  return false;
}

/// A mounted hierarchy: `root` is the group that is visible at `point`.
struct Mount {
  std::string type;
  std::string root;
  std::string point;
  std::string options;
};

/// mountinfo writes blanks and backslashes as \ooo.
std::string Unescape(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      out += static_cast<char>((text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0'));
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::vector<Mount> CgroupMounts() {
  std::vector<Mount> mounts;
  std::string text = ReadFile("/proc/self/mountinfo").value_or("");
  for (std::string_view line : Split(text, '\n')) {
    size_t dash = line.find(" - cgroup");
    if (dash == std::string_view::npos) {
      continue;
    }
    std::vector<std::string_view> left = Split(line.substr(0, dash), ' ');
    std::vector<std::string_view> right = Split(line.substr(dash + 3), ' ');
    if (left.size() >= 5 && right.size() >= 3) {
      mounts.push_back({std::string(right[0]), Unescape(left[3]), Unescape(left[4]), std::string(right[2])});
    }
  }
  return mounts;
}

/// The directory of the group `group` of the hierarchy mounted at `mount`. A group outside the mounted part (another
/// cgroup namespace) gives the mount point, the top of what belongs to us.
std::string DirectoryOf(const Mount& mount, std::string_view group) {
  std::string_view root = mount.root;
  if (root != "/") {
    if (group.substr(0, root.size()) == root && (group.size() == root.size() || group[root.size()] == '/')) {
      group.remove_prefix(root.size());
    } else {
      group = "";
    }
  }
  std::string path = mount.point;
  if (group != "/" && !group.empty() && group.find("/..") == std::string_view::npos) {
    path += group;
  }
  return access(path.c_str(), F_OK) == 0 ? path : mount.point;
}

bool CanMakeGroups(const std::string& dir) {
  return access(dir.c_str(), W_OK | X_OK) == 0 && access((dir + "/cgroup.procs").c_str(), W_OK) == 0;
}

uint64_t NumberAfter(std::string_view text, std::string_view key) {
  for (std::string_view line : Split(text, '\n')) {
    if (line.size() > key.size() && line.substr(0, key.size()) == key && line[key.size()] == ' ') {
      uint64_t value = 0;
      std::from_chars(line.data() + key.size() + 1, line.data() + line.size(), value);
      return value;
    }
  }
  return 0;
}

uint64_t NumberIn(const std::string& path) {
  std::string text = ReadFile(path).value_or("");
  uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

}  // namespace

CgroupPlaces FindCgroupPlaces() {
  CgroupPlaces places;
  std::string own = ReadFile("/proc/self/cgroup").value_or("");
  std::vector<Mount> mounts = CgroupMounts();
  for (std::string_view line : Split(own, '\n')) {
    size_t first = line.find(':');
    size_t second = line.find(':', first + 1);
    if (first == std::string_view::npos || second == std::string_view::npos) {
      continue;
    }
    std::string_view controllers = line.substr(first + 1, second - first - 1);
    std::string_view group = line.substr(second + 1);
    for (const Mount& mount : mounts) {
      bool v2 = mount.type == "cgroup2";
      if (v2 != controllers.empty()) {
        continue;
      }
      if (!v2) {
        if (controllers.substr(0, 5) == "name=") {
          continue;
        }
        for (auto [name, place] : {std::pair("memory", &places.v1_memory), std::pair("cpu", &places.v1_cpu),
                                   std::pair("pids", &places.v1_pids)}) {
          if (HasWord(controllers, name, ',') && HasWord(mount.options, name, ',') && place->empty()) {
            std::string dir = DirectoryOf(mount, group);
            if (CanMakeGroups(dir)) {
              *place = dir;
            }
          }
        }
        continue;
      }
      // Version 2: our own group, then its ancestors, as far as they were given to us.
      std::string dir = DirectoryOf(mount, group);
      for (bool own_group = true; dir.size() >= mount.point.size(); own_group = false) {
        if (CanMakeGroups(dir)) {
          if (places.v2.empty()) {
            places.v2 = dir;
          }
          std::string available = ReadFile(dir + "/cgroup.controllers").value_or("");
          std::string enabled = ReadFile(dir + "/cgroup.subtree_control").value_or("");
          auto has = [&](const char* name) { return HasWord(available, name, ' '); };
          bool any = has("memory") || has("cpu") || has("pids");
          bool on = HasWord(enabled, "memory", ' ') || HasWord(enabled, "pids", ' ');
          bool is_root = access((dir + "/cgroup.type").c_str(), F_OK) != 0;
          std::vector<pid_t> members = CgroupProcesses(dir, false);
          // Only jobc's own processes (this one, and its parent when this is the guardian) may be moved away.
          bool only_ours = own_group && std::all_of(members.begin(), members.end(), [](pid_t pid) {
            return pid == getpid() || pid == getppid();
          }) && access((dir + "/cgroup.subtree_control").c_str(), W_OK) == 0;
          if (any && places.v2_limits.empty()) {
            if (on || is_root || members.empty() || only_ours) {
              places.v2_limits = dir;
              places.v2_limits_needs_move = !on && !is_root && !members.empty();
              places.v2_memory = has("memory");
              places.v2_cpu = has("cpu");
              places.v2_pids = has("pids");
            } else {
              places.why_no_limits = fmt::format(
                  "other processes live in `{}`, so its controllers cannot be given to jobs; start jobc in a group of its "
                  "own: `systemd-run --user --scope -p Delegate=yes jobc run …`", dir);
            }
          }
        } else if (places.v2.empty() && places.why_no_tree.empty()) {
          places.why_no_tree = fmt::format("the control group `{}` is not writable for this user", dir);
        }
        if (dir == mount.point) {
          break;
        }
        dir.resize(dir.find_last_of('/'));
      }
    }
  }
  if (!places.v2.empty()) {
    places.why_no_tree.clear();
  } else if (places.why_no_tree.empty()) {
    places.why_no_tree = "no version 2 control groups are mounted";
  }
  bool all = (places.v2_memory || !places.v1_memory.empty()) && (places.v2_cpu || !places.v1_cpu.empty()) &&
             (places.v2_pids || !places.v1_pids.empty());
  if (all) {
    places.why_no_limits.clear();
  } else if (places.why_no_limits.empty()) {
    places.why_no_limits = mounts.empty()
                               ? "no control groups are mounted"
                               : "no control group with these controllers is writable for this user; on a machine with "
                                 "systemd start jobc by `systemd-run --user --scope -p Delegate=yes jobc run …`";
  }
  return places;
}

std::vector<std::string> GroupsBelow(const std::string& path, const std::string& prefix) {
  std::vector<std::string> paths;
  if (DIR* dir = opendir(path.c_str())) {
    while (dirent* entry = readdir(dir)) {
      if (entry->d_type == DT_DIR && entry->d_name[0] != '.' &&
          strncmp(entry->d_name, prefix.c_str(), prefix.size()) == 0) {
        paths.push_back(path + '/' + entry->d_name);
      }
    }
    closedir(dir);
  }
  return paths;
}

std::vector<pid_t> CgroupProcesses(const std::string& path, bool recursive) {
  std::vector<pid_t> pids;
  std::string text = ReadFile(path + "/cgroup.procs").value_or("");
  for (std::string_view line : Split(text, '\n')) {
    int pid = 0;
    std::from_chars(line.data(), line.data() + line.size(), pid);
    if (pid > 0) {
      pids.push_back(pid);
    }
  }
  if (recursive) {
    for (const std::string& sub : GroupsBelow(path, "")) {
      std::vector<pid_t> more = CgroupProcesses(sub, true);
      pids.insert(pids.end(), more.begin(), more.end());
    }
  }
  return pids;
}

bool CgroupPopulated(const std::string& path) {
  return NumberAfter(ReadFile(path + "/cgroup.events").value_or(""), "populated") != 0;
}

size_t SignalCgroup(const std::string& path, int signal) {
  size_t sent = 0;
  for (pid_t pid : CgroupProcesses(path, true)) {
    sent += kill(pid, signal) == 0;
  }
  return sent;
}

void KillCgroup(const std::string& path) {
  if (WriteFile(path + "/cgroup.kill", "1") == 0) {
    return;
  }
  WriteFile(path + "/cgroup.freeze", "1");
  SignalCgroup(path, SIGKILL);
  WriteFile(path + "/cgroup.freeze", "0");
  SignalCgroup(path, SIGKILL);
}

bool RemoveCgroup(const std::string& path) {
  if (rmdir(path.c_str()) == 0 || errno == ENOENT) {
    return true;
  }
  for (const std::string& sub : GroupsBelow(path, "")) {
    RemoveCgroup(sub);
  }
  return rmdir(path.c_str()) == 0 || errno == ENOENT;
}

Result<void> PrepareV2Limits(const CgroupPlaces& places, const std::string& base, const std::vector<pid_t>& ours) {
  if (mkdir(base.c_str(), 0755) != 0 && errno != EEXIST) {
    return SystemError(fmt::format("cannot make the control group `{}`", base), errno);
  }
  std::string enabled = ReadFile(places.v2_limits + "/cgroup.subtree_control").value_or("");
  std::string wanted;
  for (auto [name, usable] : {std::pair("memory", places.v2_memory), std::pair("cpu", places.v2_cpu),
                              std::pair("pids", places.v2_pids)}) {
    if (usable) {
      wanted += fmt::format("+{} ", name);
    }
  }
  if (places.v2_limits_needs_move) {
    std::string leaf = base + "/jobc";
    mkdir(leaf.c_str(), 0755);
    for (pid_t pid : ours) {
      if (int error = WriteFile(leaf + "/cgroup.procs", std::to_string(pid))) {
        return SystemError(fmt::format("cannot move jobc into the control group `{}`", leaf), error);
      }
    }
  }
  for (const std::string& dir : {places.v2_limits, base}) {
    if (int error = WriteFile(dir + "/cgroup.subtree_control", wanted)) {
      return SystemError(fmt::format("cannot enable controllers in `{}/cgroup.subtree_control`", dir), error);
    }
  }
  return {};
}

void UndoV2Limits(const CgroupPlaces& places, const std::string& base, const std::vector<pid_t>& ours) {
  if (places.v2_limits_needs_move) {
    for (const std::string& dir : {base, places.v2_limits}) {
      for (const char* controller : {"-memory", "-cpu", "-pids"}) {
        WriteFile(dir + "/cgroup.subtree_control", controller);
      }
    }
    for (pid_t pid : ours) {
      WriteFile(places.v2_limits + "/cgroup.procs", std::to_string(pid));
    }
  }
  RemoveCgroup(base);
}

LimitGroups LimitGroups::Make(const CgroupPlaces& places, const std::string& v2_base, const std::string& name,
                              const CgroupLimits& limits) {
  LimitGroups groups;
  CgroupLimits& done = groups.enforced_;
  if (!v2_base.empty()) {
    std::string dir = v2_base + '/' + name;
    if (mkdir(dir.c_str(), 0755) == 0 || errno == EEXIST) {
      groups.v2_ = dir;
      if (limits.memory_bytes && WriteFile(dir + "/memory.max", std::to_string(limits.memory_bytes)) == 0) {
        WriteFile(dir + "/memory.swap.max", "0");
        done.memory_bytes = limits.memory_bytes;
      }
      if (limits.cpu_milli &&
          WriteFile(dir + "/cpu.max", fmt::format("{} 100000", uint64_t{limits.cpu_milli} * 100)) == 0) {
        done.cpu_milli = limits.cpu_milli;
      }
      if (limits.pids && WriteFile(dir + "/pids.max", std::to_string(limits.pids)) == 0) {
        done.pids = limits.pids;
      }
    }
  }
  auto make_v1 = [&](const std::string& place, auto set) {
    std::string dir = place + '/' + name;
    if (place.empty() || (mkdir(dir.c_str(), 0755) != 0 && errno != EEXIST)) {
      return false;
    }
    UniqueFd procs;
    if (set(dir)) {
      procs.Reset(open((dir + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
    }
    if (!procs) {
      rmdir(dir.c_str());
      return false;
    }
    groups.v1_.push_back(std::move(dir));
    groups.join_.push_back(std::move(procs));
    return true;
  };
  if (limits.memory_bytes && !done.memory_bytes && make_v1(places.v1_memory, [&](const std::string& dir) {
        std::string text = std::to_string(limits.memory_bytes);
        if (WriteFile(dir + "/memory.limit_in_bytes", text) != 0) {
          return false;
        }
        WriteFile(dir + "/memory.memsw.limit_in_bytes", text);
        return true;
      })) {
    done.memory_bytes = limits.memory_bytes;
    groups.v1_memory_ = groups.v1_.back();
  }
  if (limits.cpu_milli && !done.cpu_milli && make_v1(places.v1_cpu, [&](const std::string& dir) {
        return WriteFile(dir + "/cpu.cfs_period_us", "100000") == 0 &&
               WriteFile(dir + "/cpu.cfs_quota_us", std::to_string(std::max<uint64_t>(1000, uint64_t{limits.cpu_milli} * 100))) == 0;
      })) {
    done.cpu_milli = limits.cpu_milli;
  }
  if (limits.pids && !done.pids && make_v1(places.v1_pids, [&](const std::string& dir) {
        return WriteFile(dir + "/pids.max", std::to_string(limits.pids)) == 0;
      })) {
    done.pids = limits.pids;
  }
  return groups;
}

uint64_t LimitGroups::OomKills() const {
  if (!v2_.empty() && enforced_.memory_bytes && v1_memory_.empty()) {
    return NumberAfter(ReadFile(v2_ + "/memory.events").value_or(""), "oom_kill");
  }
  return v1_memory_.empty() ? 0 : NumberAfter(ReadFile(v1_memory_ + "/memory.oom_control").value_or(""), "oom_kill");
}

uint64_t LimitGroups::PeakMemory() const {
  if (!v1_memory_.empty()) {
    return NumberIn(v1_memory_ + "/memory.max_usage_in_bytes");
  }
  return v2_.empty() ? 0 : NumberIn(v2_ + "/memory.peak");
}

std::vector<std::string> LimitGroups::paths() const {
  std::vector<std::string> all = v1_;
  if (!v2_.empty()) {
    all.push_back(v2_);
  }
  return all;
}

void LimitGroups::Remove() {
  join_.clear();
  for (const std::string& path : paths()) {
    // A version 1 group stays busy for a moment after its last process was reaped.
    for (int round = 0; round < 20 && !RemoveCgroup(path); ++round) {
      timespec wait{0, 1000 * 1000};
      nanosleep(&wait, nullptr);
    }
  }
  v1_.clear();
  v2_.clear();
  v1_memory_.clear();
}

Enforcement ProbeEnforcement() {
  CgroupPlaces places = FindCgroupPlaces();
  Enforcement found;
  std::string name = fmt::format("jobc-probe-{}", getpid());
  if (!places.v2.empty()) {
    std::string dir = places.v2 + '/' + name;
    if (mkdir(dir.c_str(), 0755) == 0) {
      found.tree_kill_by_cgroup = true;
      rmdir(dir.c_str());
    } else {
      places.why_no_tree = fmt::format("cannot make `{}`: {}", dir, strerror(errno));
    }
  }
  // A job's limits would also need the move of this process in `needs_move` places: not done for a mere question.
  bool v2_limits = !places.v2_limits.empty();
  CgroupPlaces v1_only = places;
  LimitGroups v1 = LimitGroups::Make(v1_only, "", name, {uint64_t{1} << 30, 1000, 1000});
  found.memory = (v2_limits && places.v2_memory) || v1.enforced().memory_bytes;
  found.cpu = (v2_limits && places.v2_cpu) || v1.enforced().cpu_milli;
  found.pids = (v2_limits && places.v2_pids) || v1.enforced().pids;
  bool by_v1 = v1.enforced().any() && !v2_limits;
  v1.Remove();
  found.how = found.tree_kill_by_cgroup ? fmt::format("process trees end by cgroup v2 in `{}`", places.v2)
                                        : std::string("process trees end by a subreaper for each attempt");
  if (found.memory || found.cpu || found.pids) {
    std::string what;
    for (auto [word, on] : {std::pair("memory", found.memory), std::pair("cpu", found.cpu), std::pair("pids", found.pids)}) {
      if (on) {
        what += what.empty() ? word : fmt::format(", {}", word);
      }
    }
    found.how += fmt::format("; limits ({}) by cgroup {}", what,
                             by_v1 ? std::string("v1") : fmt::format("v2 in `{}`", places.v2_limits));
  } else {
    found.how += "; limits are admission only";
  }
  if (!found.tree_kill_by_cgroup) {
    found.why_not = places.why_no_tree;
  }
  if (!(found.memory && found.cpu && found.pids)) {
    found.why_not += (found.why_not.empty() ? "" : "; ") + places.why_no_limits;
  }
  return found;
}

}  // namespace jobc::process
