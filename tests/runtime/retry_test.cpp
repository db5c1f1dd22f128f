// What an end of a program means, and whether there is another attempt: tables over every kind and form of rule.
#include "runtime/retry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/plan_builder.h"

namespace jobc {
namespace {

using ir::ErrorClass;
using ir::ErrorKind;
using ir::Fact;
using ::testing::HasSubstr;
using testing::OnClass;
using testing::OnKind;
using testing::OnName;
using testing::PlanBuilder;

Fact Exit(int low, int high) { return {Fact::Kind::Exit, low, high, "", {}}; }
Fact Signal(int n) { return {Fact::Kind::Signal, n, 0, "", {}}; }
Fact Log(LogStream stream, std::string pattern) {
  return {stream == LogStream::Stdout ? Fact::Kind::Stdout : Fact::Kind::Stderr, 0, 0, std::move(pattern), {}};
}
Fact Join(Fact::Kind kind, std::vector<Fact> operands) { return {kind, 0, 0, "", std::move(operands)}; }
ir::ErrorArm To(Fact fact, ErrorKind kind) { return {std::move(fact), false, kind, ir::ClassOf(kind), "", ""}; }
AttemptFacts Exited(int code) { return {code, std::nullopt, nullptr}; }
AttemptFacts Killed(int signal) { return {std::nullopt, signal, nullptr}; }

class FakeLogs : public LogSearcher {
 public:
  explicit FakeLogs(std::string err) : err_(std::move(err)) {}
  bool Search(LogStream stream, const std::string& pattern) override {
    ++searches;
    return stream == LogStream::Stderr && err_.find(pattern) != std::string::npos;
  }
  int searches = 0;

 private:
  std::string err_;
};

TEST(Resolve, MapsEndsWithoutArmsByTheBuiltInTable) {
  EXPECT_TRUE(Resolve(Exited(0), {}).success);
  for (int code = 1; code < 256; ++code) {
    Verdict verdict = Resolve(Exited(code), {});
    EXPECT_FALSE(verdict.success);
    EXPECT_EQ(verdict.kind, code == 126 || code == 127 ? ErrorKind::Command : ErrorKind::Exit) << code;
    EXPECT_EQ(verdict.error_class, ErrorClass::Algorithm);
    EXPECT_EQ(verdict.exit_code, code);
  }
  for (int signal : {1, 6, 9, 11, 15}) {
    Verdict verdict = Resolve(Killed(signal), {});
    EXPECT_EQ(verdict.kind, ErrorKind::Signal);
    EXPECT_EQ(verdict.signal, signal);
    EXPECT_FALSE(verdict.exit_code.has_value());
  }
}

TEST(Resolve, NeverGuessesOomFrom137) {
  EXPECT_EQ(Resolve(Exited(137), {}).kind, ErrorKind::Exit);
  EXPECT_EQ(Resolve(Killed(9), {}).kind, ErrorKind::Signal);
}

TEST(Resolve, CountsAnEndBySignalAlsoAsExit128PlusAndTheOtherWayRound) {
  const std::vector<ir::ErrorArm> by_exit = {To(Exit(137, 137), ErrorKind::Oom)};
  EXPECT_EQ(Resolve(Exited(137), by_exit).kind, ErrorKind::Oom);
  EXPECT_EQ(Resolve(Killed(9), by_exit).kind, ErrorKind::Oom);
  EXPECT_EQ(Resolve(Killed(8), by_exit).kind, ErrorKind::Signal);
  const std::vector<ir::ErrorArm> by_signal = {To(Signal(11), ErrorKind::Oom)};
  EXPECT_EQ(Resolve(Killed(11), by_signal).kind, ErrorKind::Oom);
  EXPECT_EQ(Resolve(Exited(139), by_signal).kind, ErrorKind::Oom);
  EXPECT_EQ(Resolve(Exited(11), by_signal).kind, ErrorKind::Exit);
}

TEST(Resolve, TakesTheFirstArmThatHolds) {
  const std::vector<ir::ErrorArm> arms = {To(Exit(64, 78), ErrorKind::InvalidInput), To(Exit(70, 70), ErrorKind::Oom)};
  EXPECT_EQ(Resolve(Exited(70), arms).kind, ErrorKind::InvalidInput);
  EXPECT_EQ(Resolve(Exited(70), arms).error_class, ErrorClass::Data);
  EXPECT_EQ(Resolve(Exited(63), arms).kind, ErrorKind::Exit);
  EXPECT_EQ(Resolve(Exited(79), arms).kind, ErrorKind::Exit);
}

TEST(Resolve, LooksAtExitZeroOnlyInArmsThatNameIt) {
  FakeLogs logs("CUDA out of memory");
  AttemptFacts zero{0, std::nullopt, &logs};
  std::vector<ir::ErrorArm> arms = {To(Log(LogStream::Stderr, "CUDA"), ErrorKind::Oom)};
  EXPECT_TRUE(Resolve(zero, arms).success);
  EXPECT_EQ(logs.searches, 0);
  arms.push_back(To(Join(Fact::Kind::And, {Exit(0, 0), Log(LogStream::Stderr, "CUDA")}), ErrorKind::Oom));
  EXPECT_EQ(Resolve(zero, arms).kind, ErrorKind::Oom);
  EXPECT_TRUE(Resolve({0, std::nullopt, nullptr}, arms).success);
}

TEST(Resolve, JoinsFacts) {
  FakeLogs logs("no space left");
  AttemptFacts facts{2, std::nullopt, &logs};
  auto kind = [&](Fact fact) { return Resolve(facts, {To(std::move(fact), ErrorKind::Oom)}).kind; };
  EXPECT_EQ(kind(Join(Fact::Kind::And, {Exit(2, 2), Log(LogStream::Stderr, "space")})), ErrorKind::Oom);
  EXPECT_EQ(kind(Join(Fact::Kind::And, {Exit(2, 2), Log(LogStream::Stdout, "space")})), ErrorKind::Exit);
  EXPECT_EQ(kind(Join(Fact::Kind::Or, {Exit(3, 3), Log(LogStream::Stderr, "space")})), ErrorKind::Oom);
  EXPECT_EQ(kind(Join(Fact::Kind::Or, {Exit(3, 3), Log(LogStream::Stderr, "time")})), ErrorKind::Exit);
  EXPECT_EQ(kind(Join(Fact::Kind::Not, {Exit(3, 3)})), ErrorKind::Oom);
  EXPECT_EQ(kind(Join(Fact::Kind::Not, {Exit(2, 2)})), ErrorKind::Exit);
}

TEST(Resolve, AnArmMayCallAnEndASuccess) {
  ir::ErrorArm arm;
  arm.fact = Exit(1, 1);
  arm.success = true;
  Verdict verdict = Resolve(Exited(1), {arm});
  EXPECT_TRUE(verdict.success);
  EXPECT_EQ(verdict.exit_code, 1);
}

TEST(Resolve, GivesANamedErrorItsNameClassAndTitle) {
  ir::ErrorArm arm{Exit(65, 65),     false,       ErrorKind::InvalidInput,
                   ErrorClass::Data, "bad-input", "the input is malformed"};
  Verdict verdict = Resolve(Exited(65), {arm});
  EXPECT_EQ(verdict.name, "bad-input");
  EXPECT_EQ(ErrorName(verdict), "bad-input");
  EXPECT_EQ(verdict.error_class, ErrorClass::Data);
  EXPECT_EQ(verdict.title, "the input is malformed");
  EXPECT_THAT(verdict.message, HasSubstr("exit code 65"));
}

TEST(Resolve, EveryEndByEveryListOfUpToThreeArms) {
  // What each fact means, said again in plain words: of the code (an end by a signal counts as 128 + signal), the signal
  // (128 + n counts as signal n) and whether stderr says `disk`.
  struct Form {
    const char* name;
    Fact fact;
    bool names_zero;
    bool (*holds)(int code, int signal, bool says_disk);
  };
  const Fact disk = Log(LogStream::Stderr, "disk");
  const std::vector<Form> forms = {
      {"exit(0)", Exit(0, 0), true, [](int code, int, bool) { return code == 0; }},
      {"exit(1)", Exit(1, 1), false, [](int code, int, bool) { return code == 1; }},
      {"exit(0..255)", Exit(0, 255), true, [](int, int, bool) { return true; }},
      {"exit(2..140)", Exit(2, 140), false, [](int code, int, bool) { return code >= 2 && code <= 140; }},
      {"signal(9)", Signal(9), false, [](int, int signal, bool) { return signal == 9; }},
      {"stderr", disk, false, [](int, int, bool says) { return says; }},
      {"stdout", Log(LogStream::Stdout, "disk"), false, [](int, int, bool) { return false; }},
      {"!exit(1)", Join(Fact::Kind::Not, {Exit(1, 1)}), false, [](int code, int, bool) { return code != 1; }},
      {"exit(0) && stderr", Join(Fact::Kind::And, {Exit(0, 0), disk}), true, [](int code, int, bool says) { return code == 0 && says; }},
      {"signal(9) || stderr", Join(Fact::Kind::Or, {Signal(9), disk}), false, [](int, int signal, bool says) { return signal == 9 || says; }},
  };
  struct End {
    std::optional<int> exit_code, signal;
  };
  std::vector<End> ends;
  for (int code : {0, 1, 2, 65, 126, 127, 137, 139, 255}) ends.push_back({code, std::nullopt});
  for (int signal : {1, 9, 11, 15}) ends.push_back({std::nullopt, signal});
  // The outcome says which arm it was.
  auto arm = [](const Form& form, int place) {
    ir::ErrorArm out;
    out.fact = form.fact;
    out.success = place == 1;
    out.kind = place == 0 ? ErrorKind::Oom : ErrorKind::InvalidInput;
    out.error_class = place == 0 ? ErrorClass::System : ErrorClass::Data;
    if (place == 2) out.name = "third", out.title = "the third arm";
    return out;
  };
  size_t tried = 0;
  const size_t n = forms.size();
  for (const End& end : ends) {
    const int code = end.exit_code ? *end.exit_code : 128 + *end.signal;
    const int signal = end.signal ? *end.signal : code > 128 ? code - 128 : 0;
    for (bool says : {false, true}) {
      for (size_t list = 0; list < 1 + n + n * n + n * n * n; ++list) {
        std::vector<const Form*> chosen;
        if (list >= 1 + n + n * n) {
          const size_t i = list - 1 - n - n * n;
          chosen = {&forms[i / n / n], &forms[i / n % n], &forms[i % n]};
        } else if (list >= 1 + n) {
          chosen = {&forms[(list - 1 - n) / n], &forms[(list - 1 - n) % n]};
        } else if (list >= 1) {
          chosen = {&forms[list - 1]};
        }
        int hit = -1;
        std::vector<ir::ErrorArm> arms;
        for (size_t i = 0; i < chosen.size(); ++i) {
          arms.push_back(arm(*chosen[i], static_cast<int>(i)));
          const bool asked = code != 0 || chosen[i]->names_zero;
          if (hit < 0 && asked && chosen[i]->holds(code, signal, says)) hit = static_cast<int>(i);
        }
        FakeLogs logs(says ? "the disk is full" : "all is well");
        const Verdict verdict = Resolve({end.exit_code, end.signal, &logs}, arms);
        ++tried;
        const bool success = hit == 1 || (hit < 0 && code == 0);
        const ErrorKind kind = hit == 0   ? ErrorKind::Oom
                               : hit == 2 ? ErrorKind::InvalidInput
                               : end.signal ? ErrorKind::Signal
                               : code == 126 || code == 127 ? ErrorKind::Command
                                                            : ErrorKind::Exit;
        ASSERT_EQ(verdict.success, success) << code << " " << list;
        ASSERT_EQ(verdict.exit_code, end.exit_code);
        ASSERT_EQ(verdict.signal, end.signal);
        if (success) continue;
        ASSERT_EQ(verdict.kind, kind) << code << " " << list;
        ASSERT_EQ(verdict.error_class, hit == 2 ? ErrorClass::Data : hit == 0 ? ErrorClass::System : ErrorClass::Algorithm);
        ASSERT_EQ(verdict.name, hit == 2 ? "third" : "");
        ASSERT_FALSE(verdict.message.empty());
        ASSERT_FALSE(verdict.no_retry);
      }
    }
  }
  EXPECT_EQ(tried, 13u * 2 * 1111);
}

// -- Which rule governs
// ------------------------------------------------------------------------------------------------

bool NeverRetryable(ErrorKind kind) {
  return kind == ErrorKind::Cancelled || kind == ErrorKind::Check || kind == ErrorKind::Expression;
}

std::vector<ErrorKind> AllKinds() {
  std::vector<ErrorKind> kinds;
  for (int i = 0; i < ir::kErrorKinds; ++i) kinds.push_back(static_cast<ErrorKind>(i));
  return kinds;
}

TEST(GoverningRule, WithoutOnGovernsTheSystemClass) {
  ir::Retry retry;
  for (ErrorKind kind : AllKinds()) {
    EXPECT_EQ(GoverningRule(Failed(kind, ""), retry), ir::ClassOf(kind) == ErrorClass::System ? 0 : -1)
        << ir::KindName(kind);
  }
  EXPECT_EQ(GoverningRule(Succeeded(), retry), -1);
}

TEST(GoverningRule, EveryKindByEveryFormOfRuleOnAndNever) {
  // A reference in words: the most specific of (rule, short form) wins, the rule at equal strength; `never` beats both.
  enum Form { kAbsent, kByClass, kByKind, kByName };
  for (ErrorKind kind : AllKinds()) {
    for (Form rule : {kAbsent, kByClass, kByKind, kByName}) {
      for (Form on : {kAbsent, kByClass, kByKind, kByName}) {
        for (Form never : {kAbsent, kByClass, kByKind, kByName}) {
          auto matcher = [&](Form form) {
            return form == kByClass ? OnClass(ir::ClassOf(kind)) : form == kByKind ? OnKind(kind) : OnName("flaky");
          };
          ir::Retry retry;
          if (rule != kAbsent) {
            ir::RetryRule r;
            r.matchers.push_back(matcher(rule));
            retry.rules.push_back(r);
          }
          if (on != kAbsent) {
            retry.has_on = true;
            retry.on.push_back(matcher(on));
          }
          if (never != kAbsent) retry.never.push_back(matcher(never));
          Verdict verdict = Failed(kind, "");
          verdict.name = "flaky";
          int by_on = on != kAbsent ? on : ir::ClassOf(kind) == ErrorClass::System ? kByClass : kAbsent;
          int short_form = static_cast<int>(retry.rules.size());
          int expected = -1;
          if (never == kAbsent && !NeverRetryable(kind)) {
            if (rule != kAbsent && rule >= by_on)
              expected = 0;
            else if (by_on != kAbsent)
              expected = short_form;
          }
          EXPECT_EQ(GoverningRule(verdict, retry), expected) << ir::KindName(kind) << " " << rule << on << never;
          verdict.no_retry = true;
          EXPECT_EQ(GoverningRule(verdict, retry), -1);
        }
      }
    }
  }
}

TEST(GoverningRule, OtherNamesAndKindsDoNotMatch) {
  ir::Retry retry;
  retry.has_on = true;
  retry.on = {OnKind(ErrorKind::Oom), OnName("segfault")};
  EXPECT_EQ(GoverningRule(Failed(ErrorKind::Exit, ""), retry), -1);
  EXPECT_EQ(GoverningRule(Failed(ErrorKind::NodeLost, ""), retry), -1) << "`on` replaces the default class";
  EXPECT_EQ(GoverningRule(Failed(ErrorKind::Oom, ""), retry), 0);
}

// -- Decide
// ------------------------------------------------------------------------------------------------------------

class DecideTest : public ::testing::Test {
 protected:
  Decision Of(ErrorKind kind, FailedAttempt failed, GrantedRetries granted = {}) {
    return Of(Failed(kind, "it broke"), failed, granted);
  }
  Decision Of(const Verdict& verdict, FailedAttempt failed, GrantedRetries granted) {
    ir::Evaluator evaluator(b.plan.program);
    ir::EvalContext context;
    return Decide(verdict, failed, granted, retry, b.plan.program, evaluator, context, seed);
  }
  PlanBuilder b;
  ir::Retry retry;
  uint64_t seed = 1;
};

TEST_F(DecideTest, OneAttemptWithoutARetryBlock) {
  Decision d = Of(ErrorKind::NodeLost, {1, {}, {}});
  EXPECT_FALSE(d.retry);
  EXPECT_EQ(d.why_not, "");
}

TEST_F(DecideTest, SaysWhyARetryBlockDoesNotHelp) {
  retry.max_attempts = 3;
  EXPECT_EQ(Of(ErrorKind::Exit, {1, {}, {}}).why_not, "not retried: without `on`, `retry` is for errors of class `system`; `on = [exit]` is for this one");
  retry.has_on = true;
  retry.on = {OnKind(ErrorKind::Network)};
  EXPECT_EQ(Of(ErrorKind::Exit, {1, {}, {}}).why_not, "not retried: nothing in its `retry` names `exit`");
  EXPECT_EQ(Of(ErrorKind::Cancelled, {1, {}, {}}).why_not, "") << "nobody expects that";
  retry.never = {OnKind(ErrorKind::Exit)};
  EXPECT_EQ(Of(ErrorKind::Exit, {1, {}, {}}).why_not, "not retried: `never` names `exit`");
  EXPECT_TRUE(Of(ErrorKind::Network, {1, {}, {}}).retry);
}

TEST_F(DecideTest, RetriesWhileBothLimitsAllow) {
  for (int64_t max_attempts = 1; max_attempts <= 4; ++max_attempts) {
    for (uint32_t number = 1; number <= 5; ++number) {
      for (uint32_t granted = 0; granted <= 3; ++granted) {
        for (int retries = -1; retries <= 3; ++retries) {
          retry = {};
          retry.max_attempts = max_attempts;
          ir::RetryRule rule;
          rule.matchers = {OnKind(ErrorKind::Oom)};
          if (retries >= 0) rule.retries = retries;
          retry.rules = {rule};
          Decision d = Of(ErrorKind::Oom, {number, {}, {}}, {granted});
          const bool expected = number < max_attempts && (retries < 0 || granted < static_cast<uint32_t>(retries));
          EXPECT_EQ(d.retry, expected) << max_attempts << " " << number << " " << granted << " " << retries;
          if (!d.retry && max_attempts > 1) {
            EXPECT_NE(d.why_not, "");
          }
        }
      }
    }
  }
}

TEST_F(DecideTest, EveryCombinationKeepsThePromises) {
  // error x rule x short form x never x max_attempts x attempts x retries x granted x overlay: about 200,000 decisions
  // against the promise in words, each made twice.
  enum Form { kAbsent, kByClass, kByKind, kByName };
  enum Overlay { kNone, kGrows, kAtItsCap, kSets };
  ir::Evaluator evaluator(b.plan.program);
  ir::EvalContext context;
  const ir::ExprId base = b.Ms(100), doubled = b.Doubled(ir::PrevKind::Memory, ir::TypeKind::Bytes, b.Bytes(64)), fixed = b.Bytes(64);
  size_t tried = 0, granted_ones = 0;
  for (int k = 0; k < ir::kErrorKinds; ++k) {
    const ErrorKind kind = static_cast<ErrorKind>(k);
    auto matcher = [&](Form form) { return form == kByClass ? OnClass(ir::ClassOf(kind)) : form == kByKind ? OnKind(kind) : OnName("flaky"); };
    for (Form rule_form : {kAbsent, kByClass, kByKind, kByName}) {
      for (Form on : {kAbsent, kByKind}) {
        for (bool never : {false, true}) {
          for (Overlay overlay : {kNone, kGrows, kAtItsCap, kSets}) {
            if (rule_form == kAbsent && overlay != kNone) continue;
            for (int64_t max_attempts : {1, 2, 4}) {
              for (uint32_t number : {1u, 2u, 4u, 5u}) {
                for (int retries : {-1, 0, 1}) {
                  for (uint32_t granted : {0u, 1u, 3u}) {
                    ir::Retry r;
                    r.max_attempts = max_attempts;
                    r.backoff.kind = ir::Backoff::Kind::Linear;
                    r.backoff.base = base;
                    if (rule_form != kAbsent) {
                      ir::RetryRule rule;
                      rule.matchers = {matcher(rule_form)};
                      if (retries >= 0) rule.retries = retries;
                      if (overlay == kGrows || overlay == kAtItsCap) rule.resources.memory = doubled;
                      if (overlay == kSets) rule.resources.memory = fixed;
                      r.rules = {rule};
                    }
                    if (on != kAbsent) r.has_on = true, r.on = {matcher(on)};
                    if (never) r.never = {OnKind(kind)};
                    Verdict verdict = Failed(kind, "it broke");
                    verdict.name = "flaky";
                    FailedAttempt failed{number, {}, {}};
                    failed.resources.memory = overlay == kAtItsCap ? 64 : 16;
                    const uint32_t index = static_cast<uint32_t>(r.rules.size());
                    GrantedRetries counts(index + 1, granted);
                    const Decision d = Decide(verdict, failed, counts, r, b.plan.program, evaluator, context, 7);
                    const Decision again = Decide(verdict, failed, counts, r, b.plan.program, evaluator, context, 7);
                    ++tried;
                    ASSERT_TRUE(d.retry == again.retry && d.rule == again.rule && d.delay_ms == again.delay_ms && d.why_not == again.why_not);
                    // In words.
                    const int by_on = on != kAbsent ? on : ir::ClassOf(kind) == ErrorClass::System ? kByClass : kAbsent;
                    const bool by_rule = rule_form != kAbsent && rule_form >= by_on;
                    const bool governed = !never && !NeverRetryable(kind) && (by_rule || by_on != kAbsent);
                    const bool left = number < max_attempts && (!by_rule || retries < 0 || static_cast<int>(granted) < retries);
                    const bool capped = by_rule && overlay == kAtItsCap;
                    ASSERT_EQ(d.retry, governed && left && !capped)
                        << ir::KindName(kind) << " rule " << rule_form << " on " << on << " never " << never << " overlay " << overlay << " max " << max_attempts
                        << " number " << number << " retries " << retries << " granted " << granted;
                    ASSERT_EQ(d.cap_reached, governed && left && capped);
                    ASSERT_EQ(d.why_not.empty(), d.retry || max_attempts == 1 || NeverRetryable(kind)) << d.why_not;
                    if (!d.retry) {
                      ASSERT_EQ(d.delay_ms, 0);
                      continue;
                    }
                    ++granted_ones;
                    ASSERT_EQ(d.rule, by_rule ? 0u : index);
                    ASSERT_EQ(d.delay_ms, 100 * (static_cast<int64_t>(granted) + 1));
                    ASSERT_EQ(*d.resources.memory, !by_rule || overlay == kNone ? *failed.resources.memory : overlay == kGrows ? 32 : 64);
                    ASSERT_EQ(d.timeouts, failed.timeouts);
                  }
                }
              }
            }
          }
        }
      }
    }
  }
  EXPECT_GT(tried, 100'000u);
  EXPECT_GT(granted_ones, 1'000u);
}

TEST_F(DecideTest, TheGoverningRuleAloneDecidesEvenIfItsRetriesAreUsedUp) {
  retry.max_attempts = 10;
  ir::RetryRule specific, wide;
  specific.matchers = {OnKind(ErrorKind::Preempted)};
  specific.retries = 1;
  wide.matchers = {OnClass(ErrorClass::System)};
  retry.rules = {wide, specific};
  EXPECT_EQ(Of(ErrorKind::Preempted, {1, {}, {}}).rule, 1u);
  Decision d = Of(ErrorKind::Preempted, {2, {}, {}}, {0, 1});
  EXPECT_FALSE(d.retry);
  EXPECT_THAT(d.why_not, HasSubstr("all 1 retries of `on preempted`"));
  EXPECT_TRUE(Of(ErrorKind::NodeLost, {2, {}, {}}, {0, 1}).retry);
}

TEST_F(DecideTest, BackoffFormulasAreExact) {
  ir::Evaluator evaluator(b.plan.program);
  ir::EvalContext context;
  auto delay = [&](ir::Backoff::Kind kind, uint32_t k, int64_t base, int64_t max, double factor) {
    ir::Backoff backoff;
    backoff.kind = kind;
    backoff.base = b.Ms(base);
    if (max > 0) backoff.max = b.Ms(max);
    backoff.factor = factor;
    int64_t out = -1;
    EXPECT_TRUE(BackoffDelay(backoff, k, 7, evaluator, context, out));
    return out;
  };
  using Kind = ir::Backoff::Kind;
  EXPECT_EQ(delay(Kind::Constant, 1, 500, 0, 2), 500);
  EXPECT_EQ(delay(Kind::Constant, 9, 500, 0, 2), 500);
  EXPECT_EQ(delay(Kind::Linear, 1, 500, 0, 2), 500);
  EXPECT_EQ(delay(Kind::Linear, 3, 500, 0, 2), 1500);
  EXPECT_EQ(delay(Kind::Linear, 3, 500, 1200, 2), 1200);
  EXPECT_EQ(delay(Kind::Exponential, 1, 30'000, 600'000, 2), 30'000);
  EXPECT_EQ(delay(Kind::Exponential, 2, 30'000, 600'000, 2), 60'000);
  EXPECT_EQ(delay(Kind::Exponential, 5, 30'000, 600'000, 2), 480'000);
  EXPECT_EQ(delay(Kind::Exponential, 6, 30'000, 600'000, 2), 600'000);
  EXPECT_EQ(delay(Kind::Exponential, 4000, 30'000, 600'000, 2), 600'000) << "no overflow";
  EXPECT_EQ(delay(Kind::Exponential, 3, 1000, 0, 1.5), 2250);
}

TEST_F(DecideTest, SubmissionsAreRepeatedAsDeclaredOrByDefault) {
  ir::Evaluator evaluator(b.plan.program);
  ir::EvalContext context;
  ir::Submit submit;
  const int64_t expected[] = {1000, 2000, 4000, 8000, 16'000, 32'000, 64'000, 128'000, 256'000, 300'000, 300'000};
  for (uint32_t k = 1; k <= 11; ++k) {
    int64_t delay = -1;
    ASSERT_TRUE(SubmitDelay(submit, k, 3, evaluator, context, delay));
    EXPECT_EQ(delay, expected[k - 1]) << k;
  }
  int64_t delay = -1;
  ASSERT_TRUE(SubmitDelay(submit, 4'000'000'000u, 3, evaluator, context, delay));
  EXPECT_EQ(delay, 300'000) << "no overflow";
  submit.backoff.kind = ir::Backoff::Kind::Linear;
  submit.backoff.base = b.Ms(70);
  ASSERT_TRUE(SubmitDelay(submit, 3, 3, evaluator, context, delay));
  EXPECT_EQ(delay, 210);
}

TEST_F(DecideTest, FullJitterIsUniformRepeatableAndWithinBounds) {
  ir::Evaluator evaluator(b.plan.program);
  ir::EvalContext context;
  ir::Backoff backoff;
  backoff.kind = ir::Backoff::Kind::Constant;
  backoff.base = b.Ms(999);
  backoff.full_jitter = true;
  double sum = 0;
  int64_t low = 1000, high = -1;
  for (uint32_t attempt = 1; attempt <= 4000; ++attempt) {
    const uint64_t s = JitterSeed("run", "align[\"s1\"]", attempt);
    int64_t first = 0, again = 0;
    ASSERT_TRUE(BackoffDelay(backoff, 1, s, evaluator, context, first));
    ASSERT_TRUE(BackoffDelay(backoff, 1, s, evaluator, context, again));
    EXPECT_EQ(first, again);
    sum += static_cast<double>(first);
    low = std::min(low, first);
    high = std::max(high, first);
  }
  EXPECT_GE(low, 0);
  EXPECT_LE(high, 999);
  EXPECT_LT(low, 10);
  EXPECT_GT(high, 989);
  EXPECT_NEAR(sum / 4000, 499.5, 25);
  EXPECT_NE(JitterSeed("run", "a", 1), JitterSeed("run", "a", 2));
  EXPECT_NE(JitterSeed("run", "a", 1), JitterSeed("run", "b", 1));
  EXPECT_NE(JitterSeed("runa", "", 1), JitterSeed("run", "a", 1));
}

TEST_F(DecideTest, CountsTheDelayByRetriesOfTheSameRule) {
  retry.max_attempts = 10;
  retry.backoff.base = b.Ms(100);
  ir::RetryRule oom, lost;
  oom.matchers = {OnKind(ErrorKind::Oom)};
  lost.matchers = {OnKind(ErrorKind::NodeLost)};
  lost.delay = b.Ms(7);
  retry.rules = {oom, lost};
  EXPECT_EQ(Of(ErrorKind::Oom, {4, {}, {}}, {2, 1}).delay_ms, 400);
  EXPECT_EQ(Of(ErrorKind::NodeLost, {4, {}, {}}, {2, 1}).delay_ms, 7);
  EXPECT_EQ(Of(ErrorKind::Network, {4, {}, {}}, {2, 1}).delay_ms, 100) << "the default has a count of its own";
}

TEST_F(DecideTest, GrowsResourcesAndTimeoutsFromThePreviousAttemptUntilTheCap) {
  retry.max_attempts = 10;
  ir::RetryRule oom;
  oom.matchers = {OnKind(ErrorKind::Oom)};
  oom.resources.memory = b.Doubled(ir::PrevKind::Memory, ir::TypeKind::Bytes, b.Bytes(48));
  ir::RetryRule slow;
  slow.matchers = {OnKind(ErrorKind::Timeout)};
  slow.timeout.run = b.Doubled(ir::PrevKind::TimeoutRun, ir::TypeKind::Duration, b.Ms(12'000));
  retry.rules = {oom, slow};
  Resources r;
  r.memory = 16;
  r.cpu_milli = 2000;
  Timeouts t;
  t.run = 6000;
  Decision d = Of(ErrorKind::Oom, {1, r, t});
  ASSERT_TRUE(d.retry);
  EXPECT_EQ(d.resources.memory, 32);
  EXPECT_EQ(d.resources.cpu_milli, 2000);
  EXPECT_EQ(d.timeouts, t);
  d = Of(ErrorKind::Timeout, {2, d.resources, d.timeouts}, {1});
  ASSERT_TRUE(d.retry);
  EXPECT_EQ(d.resources.memory, 32) << "an overlay stays in force";
  EXPECT_EQ(d.timeouts.run, 12'000);
  d = Of(ErrorKind::Oom, {3, d.resources, d.timeouts}, {1, 1});
  ASSERT_TRUE(d.retry);
  EXPECT_EQ(d.resources.memory, 48);
  d = Of(ErrorKind::Oom, {4, d.resources, d.timeouts}, {2, 1});
  EXPECT_FALSE(d.retry);
  EXPECT_TRUE(d.cap_reached);
  EXPECT_THAT(d.why_not, HasSubstr("cap reached"));
}

TEST_F(DecideTest, AnOverlayThatDoesNotGrowNeverReachesACap) {
  retry.max_attempts = 10;
  ir::RetryRule rule;
  rule.matchers = {OnKind(ErrorKind::Preempted)};
  ir::ExprId attempt = b.exprs().Add(ir::Op::Attempt, b.Type(ir::TypeKind::Int));
  rule.resources.spot = b.Binary(ir::Op::Lt, ir::TypeKind::Bool, attempt, b.Int(4));  // spot = attempt < 4
  retry.rules = {rule};
  Resources r;
  r.spot = true;
  for (uint32_t number = 1; number < 6; ++number) {
    Decision d = Of(ErrorKind::Preempted, {number, r, {}});
    ASSERT_TRUE(d.retry);
    EXPECT_EQ(d.resources.spot, number + 1 < 4);
  }
}

TEST_F(DecideTest, SaysWhyGrowthFromNothingIsImpossible) {
  retry.max_attempts = 3;
  ir::RetryRule rule;
  rule.matchers = {OnKind(ErrorKind::Oom)};
  rule.resources.memory = b.Doubled(ir::PrevKind::Memory, ir::TypeKind::Bytes, b.Bytes(48));
  retry.rules = {rule};
  Decision d = Of(ErrorKind::Oom, {1, {}, {}});
  EXPECT_FALSE(d.retry);
  EXPECT_THAT(d.why_not, HasSubstr("`prev.memory` has no value"));
}

TEST(Resources, AreSeenByExpressionsInTheirTypes) {
  Resources r;
  EXPECT_TRUE(ResourceValue(r, ir::ResourceKind::Cpu).is_null());
  r.cpu_milli = 2000;
  EXPECT_EQ(ResourceValue(r, ir::ResourceKind::Cpu), ir::Value::Int(2));
  r.cpu_milli = 500;
  EXPECT_EQ(ResourceValue(r, ir::ResourceKind::Cpu), ir::Value::Float(0.5));
  r.memory = 7;
  EXPECT_EQ(ResourceValue(r, ir::ResourceKind::Memory), ir::Value::Bytes(7));
}

TEST(Timeouts, OfZeroAreRefused) {
  PlanBuilder b;
  ir::Evaluator evaluator(b.plan.program);
  ir::EvalContext context;
  ir::TimeoutSpec spec;
  spec.run = b.Ms(0);
  Result<Timeouts> result = EvaluateTimeouts(spec, evaluator, context);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().message, "`timeout.run` is 0s, it must be longer than 0s");
}

}  // namespace
}  // namespace jobc
