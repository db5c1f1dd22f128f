// Runs hand-made plans for real: a temporary directory, the process backend, and what the run left behind.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "backends/registry.h"
#include "ir/plan_json.h"
#include "runtime/engine.h"
#include "tests/engine/run_fixture_files.h"
#include "tests/support/plan_builder.h"

namespace jobc::testing {

class Watcher : public RunObserver {
 public:
  void OnEvent(const RunEvent& event) override {
    events.push_back(event);
    if (on_event) {
      on_event(event);
    }
  }
  void OnFailure(const FailureReport& report) override { failures.push_back(report); }
  void OnBatchEnd() override { batches.push_back(events.size()); }
  std::vector<std::string> Lines(RunEventKind kind) const {
    std::vector<std::string> out;
    for (const RunEvent& event : events) {
      if (event.kind == kind) {
        out.push_back(event.address);
      }
    }
    return out;
  }
  std::function<void(const RunEvent&)> on_event;
  std::vector<RunEvent> events;
  std::vector<FailureReport> failures;
  std::vector<size_t> batches;  ///< how many of `events` there were at the end of each batch
};

class RunTest : public ::testing::Test {
 protected:
  RunTest() {
    (void)process::MakeDirectories(dir / "src").ok();
    setenv("XDG_STATE_HOME", (dir / "user").c_str(), 1);
    unsetenv("JOBC_HOME");
  }

  ir::ExprId Words(const std::vector<std::string>& words) {
    ir::ListValue list;
    for (const std::string& word : words) {
      list.push_back(ir::Value::String(word));
    }
    return b.exprs().Constant(b.types().List(b.Type(ir::TypeKind::String)), ir::Value::List(std::move(list)));
  }
  uint32_t Sh(const std::string& name, const std::string& script, ir::JobKind kind = ir::JobKind::Job) {
    uint32_t job = b.Job(name, kind);
    b[job].run = Words({"sh", "-eu", "-c", script});
    return job;
  }
  uint32_t Output(uint32_t job, const std::string& name, ir::TypeId type, ir::OutputKind kind, ir::ExprId value = {}) {
    uint32_t index = b.AddOutput(job, name, type);
    b[job].outputs[index].kind = kind;
    b[job].outputs[index].value = value;
    return index;
  }
  ir::TypeId Int() { return b.Type(ir::TypeKind::Int); }
  ir::TypeId String() { return b.Type(ir::TypeKind::String); }
  ir::TypeId File() { return b.Type(ir::TypeKind::File); }
  void Export(const std::string& name, ir::TypeId type, ir::ExprId value) { b.plan.exports.push_back({name, type, value, {}}); }

  EngineSetup Configure() {
    EngineSetup setup;
    setup.plan = &b.plan;
    setup.plan_text = ir::WritePlan(b.plan);
    setup.roots = {dir / "src", dir / "src"};
    setup.state_dir = dir / "state";
    setup.options = options;
    setup.backends = backends;
    setup.remote_files = remote_files;
    setup.observer = &watcher;
    setup.adopt = adopt;
    setup.origins = origins;
    return setup;
  }
  RunOutcome Run() {
    StartFailure failure;
    engine = Engine::Start(Configure(), failure);
    if (engine == nullptr) {
      RunOutcome out;
      out.exit_code = failure.exit_code;
      out.message = failure.message;
      return out;
    }
    return engine->Run();
  }

  TempDir dir;
  PlanBuilder b;
  RunOptions options;
  BackendFactory backends = MakeBackend;
  RemoteFilesFactory remote_files;
  std::vector<Adoptable> adopt;
  std::vector<std::string> origins;
  Watcher watcher;
  std::unique_ptr<Engine> engine;
};

}  // namespace jobc::testing
