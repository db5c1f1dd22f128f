// A session with an engine that runs nothing and misbehaves when told to (fake_engine.h).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backends/docker/docker_backend.h"
#include "tests/backends/docker/fake_engine.h"
#include "tests/backends/session.h"

namespace jobc::conformance {

/// Only what a Session needs.
class FakePlace : public Place {
 public:
  FakePlace(ir::BackendKind kind, const DockerTimes& times) : kind_(kind), times_(times) {}
  Traits traits() const override { return {}; }
  Result<std::unique_ptr<Backend>> Make(const BackendHost& host) override {
    BackendHost with = host;
    with.engines = {{.host = engine_}};
    return MakeDockerBackend(kind_, with, times_);
  }
  void Fit(AttemptLaunch&, const Program&) override {}
  std::vector<std::string> Remains(const std::string&) override { return {}; }
  void At(const std::string& engine) { engine_ = engine; }

 private:
  ir::BackendKind kind_;
  DockerTimes times_;
  std::string engine_;
};

class FakeEngineTest : public ::testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(process::MakeDirectories(dir / "run").ok()); }

  Session& Open() {
    place.emplace(kind, times);
    place->At(engine.host());
    session = std::make_unique<Session>(*place, dir / "run", "silence");
    return *session;
  }

  AttemptId Submit() {
    AttemptLaunch launch;
    launch.id = ++last_id;
    launch.address = "a";
    launch.execution_id = "silence-" + std::to_string(last_id);
    launch.argv = {"true"};
    launch.image = "x:1";
    launch.options = {{"host", ir::Value::String(engine.host())}};
    launch.places = session->backend().Prepare(last_id, false).value();
    EXPECT_TRUE(process::MakeDirectories(launch.places.stage_dir).ok());
    session->Expect(last_id);
    session->backend().Submit(launch);
    return last_id;
  }
  AttemptId Start() {
    const AttemptId id = Submit();
    session->Until([&] { return session->seen[id].started; }, "the start");
    return id;
  }
  void ExpectExit(AttemptId id, int code, const std::string& out) {
    const Seen& one = session->Finish(id);
    ASSERT_TRUE(one.exit) << session->Story();
    EXPECT_EQ(one.exit->exit_code, code);
    EXPECT_EQ(session->Text(id), out);
    session->backend().Release(id, false);
    session->Until([&] { return engine.containers() == 0; }, "the removal");
  }
  testing::TempDir dir;
  testing::FakeEngine engine{dir / "engine"};
  DockerTimes times;
  ir::BackendKind kind = ir::BackendKind::Docker;
  std::optional<FakePlace> place;
  std::unique_ptr<Session> session;
  AttemptId last_id = 0;
};

}  // namespace jobc::conformance
