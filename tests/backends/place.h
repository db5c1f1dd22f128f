// What the conformance suite has to know about one place where attempts run, and how it gets a backend for it. One subclass a
// backend, made anew for each case.
#pragma once

#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "runtime/backend.h"
#include "tests/backends/program.h"
#include "tests/engine/run_fixture_files.h"

namespace jobc::conformance {

/// A directory of an attempt as it sees it.
inline const std::string& SeenAs(const AttemptPlaces& places, Where where) {
  return where == Where::Output ? places.SeenOutput() : where == Where::Tmp ? places.SeenTmp() : where == Where::Stage ? places.SeenStage() : places.SeenSecrets();
}

/// The same as it lies on this machine.
inline const std::string& Here(const AttemptPlaces& places, Where where) {
  return where == Where::Output ? places.output_dir : where == Where::Tmp ? places.tmp_dir : where == Where::Stage ? places.stage_dir : places.secrets_dir;
}

/// What differs between places, as far as the interface allows it. A case that a place cannot have is skipped and says so.
struct Traits {
  bool processes = true;         ///< real processes on this machine's kernel: named pipes and files work between test and attempt
  bool survives = false;         ///< attempts go on without the jobc that submitted them, and can be attached to
  bool remembers = false;        ///< a second submission of an execution id finds the first one
  bool secret_files = true;
  bool limits_memory = false;
  bool costly = false;           ///< an attempt costs a tenth of a second and more: cases that need many take fewer
  bool far = false;              ///< it does not see this machine's files: they go in before the program begins, and come back after its end
  bool in_process = false;       ///< the place lives in this process: a dead jobc is a backend that was dropped, not a killed process
  std::vector<std::string> adds{};   ///< names of variables the place adds to every environment
};

class Place {
 public:
  virtual ~Place() = default;
  /// Why there is no such place on this machine; empty if there is.
  virtual std::string Missing() { return ""; }
  virtual Traits traits() const = 0;
  virtual Result<std::unique_ptr<Backend>> Make(const BackendHost& host) = 0;
  /// Puts `program` into `launch`, whose places are prepared. Without more: a shell script and its words.
  virtual void Fit(AttemptLaunch& launch, const Program& program) = 0;
  /// The place loses the attempt while it runs, as by a power cut of its host. False: there is no way to do that.
  virtual bool Lose(AttemptId id, int64_t pid, const std::string& handle) { return false; }
  /// Whether the program has made this file in its output directory; makes an empty one there for it.
  virtual bool Has(const AttemptLaunch& launch, const std::string& name) { return testing::Exists(launch.places.output_dir + "/" + name); }
  virtual void Put(const AttemptLaunch& launch, const std::string& name) { std::ofstream(launch.places.output_dir + "/" + name) << ""; }
  /// Backends to come are those of another jobc: the one before is dead and has said nothing to the place.
  virtual void Crash() {}
  /// What is alive or left of attempts of `run_id`, in words; empty if nothing.
  virtual std::vector<std::string> Remains(const std::string& run_id) = 0;
};

/// By name, for INSTANTIATE_TEST_SUITE_P.
struct PlaceParam {
  const char* name;
  std::unique_ptr<Place> (*make)();
};

std::unique_ptr<Place> MakeVirtualPlace();
std::unique_ptr<Place> MakeProcessPlace();
std::unique_ptr<Place> MakeDockerPlace();
std::unique_ptr<Place> MakePodmanPlace();

}  // namespace jobc::conformance
