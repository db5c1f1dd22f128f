// Random but well-formed plans that use every part of the format, from a seed.
#pragma once

#include <random>
#include <string>
#include <vector>

#include "ir/builtins.h"
#include "ir/file_path.h"
#include "ir/plan.h"

namespace jobc::ir::test {

class PlanMaker {
 public:
  explicit PlanMaker(uint64_t seed) : random_(seed) {}

  Plan Make() {
    MakeTypes();
    plan_.profile = Below(2) ? "" : "cloud";
    plan_.sources = {{"main.job", "aa"}, {"std/python", "bb"}};
    plan_.files = {{FileBase::Source, false, "data.csv", 12, "cc"}, {FileBase::Uri, true, "gs://b/d", 0, ""}};
    plan_.program.secrets = {{"token", SecretCarrier::Env, "TOKEN"}, {"pw", SecretCarrier::Store, "projects/x"}};
    for (int i = 0; i < 4; ++i) MakeParam(i);
    plan_.program.fns.push_back({"unused", 1, 1, Expr(Int(), 1, true)});
    plan_.program.fns.push_back({"shard", 1, 2, Expr(Int(), 2, true)});
    plan_.program.lets.push_back({"unused", Expr(Int(), 2), true});
    plan_.program.lets.push_back({"q/limit", Expr(Int(), 3), true});
    plan_.program.lets.push_back({"deep", Deep(90), Below(2) == 0});
    lets_ = 3;
    shared_ = Expr(Int(), 3);
    plan_.pools.push_back({"gpu", Expr(Int(), 1)});
    for (uint32_t i = 0, n = 1 + Below(4); i < n; ++i) plan_.jobs.push_back(MakeJob(i));
    plan_.exports.push_back({"total", Int(), Expr(Int(), 3), {0, 3, 1}});
    plan_.exports.push_back({"s", types().Struct(sample_), StructValue(), {}});
    plan_.publishes.push_back({"results", Below(2) == 0, {{Text("vcf/"), Text("x"), types().Basic(TypeKind::String), {0, 9, 9}}}});
    if (Below(2)) plan_.limits = {.time_ms = 5, .attempts = INT64_MAX, .keep_ms = 7};
    if (Below(2)) plan_.bounds = WorstCase{3, 18, 0, 5, {{0, 1}}};
    if (Below(2)) plan_.on_error = Strategy::Continue;
    if (Below(2)) plan_.max_parallel = Expr(Int(), 1);
    return std::move(plan_);
  }

 private:
  uint64_t Below(uint64_t n) { return random_() % n; }
  TypeTable& types() { return plan_.program.types; }
  ExprPool& exprs() { return plan_.program.exprs; }
  TypeId Int() { return types().Basic(TypeKind::Int); }
  TypeId String() { return types().Basic(TypeKind::String); }
  ExprId Add(Op op, TypeId type, std::vector<ExprId> args, uint32_t a = 0, uint32_t b = 0) { return exprs().Add(op, type, a, b, args.data(), args.size()); }
  ExprId Text(std::string text) { return exprs().Constant(String(), Value::String(std::move(text))); }
  ExprId Of(TypeKind kind, Value value) { return exprs().Constant(types().Basic(kind), std::move(value)); }

  void MakeTypes() {
    mode_ = types().AddEnum({"Mode", {"full", "incremental"}});
    types().AddEnum({"Unused", {"x"}});
    types().AddStruct({.name = "Unused", .fields = {{.name = "x", .type = Int()}}});
    Refinement range{.kind = RefinementKind::IntRange, .int_low = INT64_MIN, .int_high = 64, .text = "..64"};
    port_ = types().Refined(Int(), types().AddRefinement(range));
    Refinement ratio{.kind = RefinementKind::FloatRange, .float_low = 0.0, .float_high = 0.5, .text = "0.0..0.5"};
    ratio_ = types().Refined(types().Basic(TypeKind::Float), types().AddRefinement(ratio));
    Refinement day{.kind = RefinementKind::Pattern, .pattern = "\\d+\"ä", .text = "re\"…\""};
    day_ = types().Refined(String(), types().AddRefinement(day));
    ExprId it = exprs().Add(Op::Local, types().List(port_), {});
    ExprId predicate = Add(Op::Lt, types().Basic(TypeKind::Bool), {Add(Op::Call, Int(), {it}, static_cast<uint32_t>(Builtin::length)), exprs().Constant(Int(), Value::Int(500))});
    Refinement short_list{.kind = RefinementKind::Predicate, .predicate = predicate, .text = "length(it) < 500"};
    ports_ = types().Refined(types().List(port_), types().AddRefinement(short_list));
    sample_ = types().AddStruct({.name = "Sample",
                                 .fields = {{.name = "id", .type = day_, .doc = "the id"},
                                            {.name = "a", .type = types().Optional(types().Basic(TypeKind::File))},
                                            {.name = "mode", .type = types().Enum(mode_), .fallback = exprs().Constant(types().Enum(mode_), Value::Enum(1))}},
                                 .open = Below(2) == 0});
  }

  Value SampleValue() {
    FileValue file;
    file.base = FileBase::Cwd;
    file.path = "x/ä.txt";
    if (Below(2)) file.row = 1;
    std::string why;
    if (Below(3) == 0) JOBC_CHECK(MakeTextFile("ä.txt", Below(2) ? "a \"line\"\n" : "", file, why));
    return Value::List({Value::String("s\"1"), Below(2) ? Value() : Value::File(file), Value::Enum(static_cast<uint32_t>(Below(2)))});
  }
  ExprId StructValue() { return exprs().Constant(types().Struct(sample_), SampleValue()); }

  void MakeParam(int i) {
    Param param{.name = "p" + std::to_string(i), .origin = Below(2) ? "-p" : "", .doc = Below(2) ? "doc" : ""};
    switch (i) {
      case 0: param.type = port_; param.value = Value::Int(static_cast<int64_t>(random_())); break;
      case 1: {
        param.type = types().List(types().Struct(sample_));
        ListValue list;
        for (uint64_t n = Below(5); n-- > 0;) list.push_back(SampleValue());
        param.value = Value::List(std::move(list));
        break;
      }
      case 2:
        param.type = types().Map(types().Enum(mode_), types().Pair(types().Basic(TypeKind::Duration), types().Basic(TypeKind::Bytes)));
        param.value = Value::MapFrom({{Value::Enum(1), Value::List({Value::Duration(-90'000), Value::Bytes(INT64_MAX)})},
                                      {Value::Enum(0), Value::List({Value::Duration(INT64_MIN), Value::Bytes(0)})}});
        break;
      default:
        param.type = types().Map(Int(), types().Basic(TypeKind::Json));
        param.value = Value::MapFrom({{Value::Int(-5), Value::List({Value(), Value::Float(0.5), Value::Int(INT64_MIN)})},
                                      {Value::Int(40), Value::MapFrom({{Value::String("k"), Value::Bool(true)}})}});
        if (Below(2)) param.fallback = exprs().Constant(param.type, Value::Map({}));
    }
    plan_.program.params.push_back(std::move(param));
  }

  ExprId Deep(int depth) {
    ExprId e = exprs().Constant(Int(), Value::Int(1));
    for (int i = 0; i < depth; ++i) e = Add(Op::Add, Int(), {e, exprs().Constant(Int(), Value::Int(i))});
    return e;
  }

  /// A random Int expression; in functions it may use the parameter, in jobs `Var` and `Input`.
  ExprId Expr(TypeId type, int depth, bool in_fn = false, bool in_job = false) {
    if (depth <= 0) {
      switch (Below(in_job ? 5 : 3)) {
        case 0: return Add(Op::Param, port_, {}, 0);
        case 1: return in_fn ? Add(Op::Local, type, {}, static_cast<uint32_t>(Below(2))) : exprs().Constant(type, Value::Int(7));
        case 3: return Add(Op::Var, type, {}, static_cast<uint32_t>(Below(3)));
        case 4: return Add(Op::Input, type, {}, 0);
        default: return exprs().Constant(type, Value::Int(static_cast<int64_t>(random_())));
      }
    }
    auto next = [&] { return Expr(type, depth - 1, in_fn, in_job); };
    switch (Below(12)) {
      case 0: return lets_ > 0 ? Add(Op::Let, type, {}, static_cast<uint32_t>(1 + Below(lets_ - 1))) : next();
      case 1: return plan_.program.fns.size() > 1 ? Add(Op::Apply, type, {next()}, 1) : next();
      case 2: return Add(Op::If, type, {Add(Op::Lt, types().Basic(TypeKind::Bool), {next(), next()}), next(), next()});
      case 3: return Add(Op::Call, type, {Add(Op::List, types().List(type), {next(), next()})}, static_cast<uint32_t>(Builtin::sum));
      case 4: {
        ExprId list = Add(Op::ListFor, types().List(type), {Add(Op::Range, types().Basic(TypeKind::Range), {next(), next()}), next()}, 1, 1);
        return Add(Op::Index, type, {list, next()});
      }
      case 5: return Add(Op::Checked, port_, {next()}, exprs().AddConstant(Value::String("place \"x\"")));
      case 6: return Add(Op::Call, type, {Text("[1]")}, static_cast<uint32_t>(Builtin::parse_json), types().List(type).index);
      case 7: return Add(Op::Coalesce, type, {Add(Op::Field, types().Optional(types().Basic(TypeKind::File)), {StructValue()}, 1), next()});
      case 8: {
        ExprId big = exprs().Constant(String(), Value::String(std::string(100, 'y')));
        return Add(Op::Add, type, {Add(Op::Call, type, {big}, static_cast<uint32_t>(Builtin::length)), Add(Op::Call, type, {big}, static_cast<uint32_t>(Builtin::length))});
      }
      case 9: return shared_.valid() ? shared_ : next();
      case 10: {
        ExprId twice = next();
        return Add(Op::Mul, type, {twice, twice});
      }
      default: return Add(Op::Sub, type, {next(), next()});
    }
  }

  Matcher RandomMatcher() {
    Matcher matcher;
    switch (Below(3)) {
      case 0: matcher.kind = static_cast<ErrorKind>(Below(kErrorKinds)); break;
      case 1: matcher.error_class = ErrorClass::Data; break;
      default: matcher.name = "bad-input";
    }
    return matcher;
  }

  Fact RandomFact(int depth) {
    Fact fact;
    fact.kind = static_cast<Fact::Kind>(Below(depth > 0 ? 7 : 4));
    switch (fact.kind) {
      case Fact::Kind::Exit: fact.low = 1; fact.high = 137; break;
      case Fact::Kind::Signal: fact.low = 9; break;
      case Fact::Kind::Stdout: case Fact::Kind::Stderr: fact.pattern = "CUDA \"x\""; break;
      case Fact::Kind::And: case Fact::Kind::Or: fact.operands = {RandomFact(depth - 1), RandomFact(depth - 1)}; break;
      case Fact::Kind::Not: fact.operands = {RandomFact(depth - 1)}; break;
    }
    return fact;
  }

  Job MakeJob(uint32_t index) {
    Job job;
    auto maybe = [&] { return Below(2) == 0; };
    auto in_job = [&] { return Expr(Int(), 2, false, true); };
    auto duration = [&](int64_t ms) { return Of(TypeKind::Duration, Value::Duration(ms)); };
    job.address = "q/job" + std::to_string(index);
    job.kind = static_cast<JobKind>(Below(4));
    if (job.kind == JobKind::Hook) job.hook_event = static_cast<HookEvent>(Below(4));
    if (maybe()) job.doc = "## doc\nline";
    job.at = {0, 10 + index, 5};
    job.inputs.push_back({"n", port_, in_job_input(), maybe()});
    job.domain.axes.push_back({"caller", exprs().Constant(types().List(String()), Value::List({Value::String("m"), Value::String("s")})), String()});
    if (maybe()) {
      job.domain.list = Add(Op::Param, types().List(types().Struct(sample_)), {}, 1);
      job.domain.name = "s";
      job.domain.type = types().Struct(sample_);
      job.domain.key = Add(Op::Field, day_, {Add(Op::Var, types().Struct(sample_), {})}, 0);
      job.domain.key_kind = KeyKind::String;
      job.domain.key_type = day_;
      job.domain.max = 500;
      job.domain.excluded = {{{0, Text("s")}}};
      if (maybe()) job.domain.count = 7;
    }
    if (maybe()) job.when = Add(Op::Eq, types().Basic(TypeKind::Bool), {in_job(), in_job()});
    for (uint32_t j = 0; j < index; ++j) {
      if (maybe()) job.after.push_back({j, static_cast<AfterKind>(Below(3)), Mapping::Expr, {in_job(), Text("s")}});
      if (maybe()) {
        Dependency d{.job = j, .mapping = static_cast<Mapping>(Below(4)), .strong = maybe(), .order_only = maybe()};
        if (maybe()) d.condition = Of(TypeKind::Bool, Value::Bool(true));
        if (maybe()) d.indices = {Text("s")};
        job.dependencies.push_back(std::move(d));
      }
      job.outputs.push_back({.name = "from" + std::to_string(j), .type = Int(), .kind = OutputKind::Expr, .value = Add(Op::JobOutput, Int(), {Text("k")}, j, 0)});
    }
    job.nullable = maybe();
    job.env.push_back({"TOKEN", Add(Op::Secret, types().Basic(TypeKind::Secret), {}, 1), types().Basic(TypeKind::Secret)});
    if (maybe()) job.secret_files.push_back({"pw", Add(Op::Secret, types().Basic(TypeKind::Secret), {}, 0)});
    if (maybe()) job.image = Text("img@sha256:x");
    if (maybe()) job.resources = {.cpu = in_job(), .memory = Of(TypeKind::Bytes, Value::Bytes(1 << 30)), .spot = Of(TypeKind::Bool, Value::Bool(true))};
    if (maybe()) job.pools.emplace_back(0, in_job());
    if (maybe()) job.priority = in_job();
    if (maybe()) job.timeout = {.queue = duration(1), .run = duration(2), .total = duration(3), .idle = duration(4), .stage = duration(5), .collect = duration(6)};
    if (maybe()) job.grace = duration(10'000);
    if (maybe()) job.log_limit = Of(TypeKind::Bytes, Value::Bytes(64 << 20));
    for (uint64_t n = Below(3); n-- > 0;) {
      ErrorArm arm{.fact = RandomFact(2), .success = maybe(), .kind = ErrorKind::Oom};
      if (maybe()) {
        arm.name = "segfault";
        arm.title = "it crashed";
      }
      job.errors.push_back(std::move(arm));
    }
    job.retry.max_attempts = 1 + static_cast<int64_t>(Below(5));
    if (maybe()) job.retry.backoff = {.kind = Backoff::Kind::Linear, .base = duration(1000), .max = duration(9000), .factor = 1.5, .full_jitter = true};
    job.retry.has_on = maybe();
    if (job.retry.has_on && maybe()) job.retry.on = {RandomMatcher(), RandomMatcher()};
    if (maybe()) job.retry.never = {RandomMatcher()};
    if (maybe()) {
      RetryRule rule{.matchers = {RandomMatcher()}, .retries = 3};
      rule.delay = duration(0);
      rule.resources.memory = Add(Op::Call, types().Basic(TypeKind::Bytes),
                                  {Add(Op::Mul, types().Basic(TypeKind::Bytes), {Add(Op::Prev, types().Basic(TypeKind::Bytes), {}, 1), exprs().Constant(Int(), Value::Int(2))}),
                                   Of(TypeKind::Bytes, Value::Bytes(1 << 30))},
                                  static_cast<uint32_t>(Builtin::min));
      if (maybe()) rule.backoff = Backoff{.kind = Backoff::Kind::Constant, .base = duration(5)};
      job.retry.rules.push_back(std::move(rule));
    }
    job.submit.max_attempts = 5;
    job.on_error = static_cast<Strategy>(Below(4));
    job.on_error_set = maybe();
    switch (Below(3)) {
      case 0: break;
      case 1:
        job.action = ActionKind::Run;
        job.run = Add(Op::List, types().Basic(TypeKind::Args), {Text("tool"), in_job(), Add(Op::Splice, ports_, {exprs().Constant(ports_, Value::List({Value::Int(1)}))})});
        break;
      default: {
        job.action = ActionKind::Script;
        Script script{.interpreter = 2, .text = "set -eu\necho \"$X\"\n", .sha256 = "dd", .lowered = "{\"a\":1}"};
        script.bindings.push_back({in_job(), Int(), maybe(), 3});
        job.script = script;
        if (maybe()) job.prologue = script;
        if (maybe()) job.epilogue = Script{.text = "x", .sha256 = "e"};
      }
    }
    if (job.kind == JobKind::Check) job.requires_.push_back({Of(TypeKind::Bool, Value::Bool(true)), maybe() ? Text("no") : ExprId{}, "a == b", {0, 1, 1}});
    if (maybe()) job.cache = Of(TypeKind::Bool, Value::Bool(true));
    if (maybe()) job.cache_salt = Text("1");
    if (maybe()) job.labels = {{"team", Text("seq")}};
    if (maybe()) job.inherit_env = {"HOME", "X"};
    job.outputs.insert(job.outputs.begin(), {.name = "rows", .type = ratio_, .kind = OutputKind::Json, .doc = maybe() ? "d" : "", .at = {1, 2, 3}});
    job.outputs.push_back({.name = "parts", .type = types().List(types().Basic(TypeKind::File)), .kind = OutputKind::Glob, .value = Text("*.x"), .glob_min = 1, .glob_max = 64});
    job.backend = {BackendKind::Slurm, {{"account", Text("ml")}, {"options", exprs().Constant(types().List(String()), Value::List({Value::String("--x")}))}}};
    if (maybe()) job.staging = Text("gs://s");
    if (maybe()) job.bounds = WorstCase{3, INT64_MAX, 6, maybe() ? std::optional<int64_t>(60'000) : std::nullopt, {}};
    if (job.bounds && maybe()) job.bounds->slots = {{0, 2}};
    return job;
  }

  ExprId in_job_input() { return Expr(Int(), 2); }

  std::mt19937_64 random_;
  Plan plan_;
  EnumId mode_;
  StructId sample_;
  TypeId port_, ratio_, day_, ports_;
  uint32_t lets_ = 0;
  ExprId shared_;
};

}  // namespace jobc::ir::test
