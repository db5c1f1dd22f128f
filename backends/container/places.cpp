#include "backends/container/places.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>

#include "runtime/process/os.h"

namespace jobc::container {
namespace {

AttemptPlaces PlacesIn(const std::string& dir) {
  AttemptPlaces places{dir + "/out", dir + "/tmp", dir + "/stage", ""};
  places.seen.emplace();
  places.inputs = InputStaging::Mount;
  return places;
}

bool IsDirectory(const std::string& path) {
  struct stat info;
  return lstat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode);
}

}  // namespace

std::string AttemptDir(const std::string& run_dir, AttemptId id) { return fmt::format("{}/attempts/{}", run_dir, id); }

Result<AttemptPlaces> MakePlaces(const std::string& run_dir, AttemptId id) {
  const std::string dir = AttemptDir(run_dir, id);
  const AttemptPlaces places = PlacesIn(dir);
  auto make = [](const std::string& path) { return mkdir(path.c_str(), 0777) == 0; };
  if (!make(dir)) {
    if (errno == ENOENT) {
      if (auto made = process::MakeDirectories(run_dir + "/attempts"); !made) {
        return made.error();
      }
      errno = make(dir) ? 0 : errno;
    }
    if (errno != 0) {
      return process::SystemError("cannot create `" + dir + "`", errno);
    }
  }
  for (const std::string& path : {places.output_dir, places.tmp_dir}) {
    if (!make(path)) {
      return process::SystemError("cannot create `" + path + "`", errno);
    }
  }
  return places;
}

std::optional<AttemptPlaces> FindPlaces(const std::string& run_dir, AttemptId id) {
  AttemptPlaces places = PlacesIn(AttemptDir(run_dir, id));
  // Made last, and before anything was submitted.
  if (!IsDirectory(places.tmp_dir) || !IsDirectory(places.output_dir)) {
    return std::nullopt;
  }
  return places;
}

}  // namespace jobc::container
