// Calls: built-in and declared functions, what only outputs may call, struct constructors.
#include <fmt/format.h>

#include <algorithm>

#include "compiler/check/declarations.h"
#include "compiler/check/synonyms.h"
#include "compiler/check/expression.h"
#include "ir/file_path.h"

namespace jobc::check {
namespace {

llvm::StringRef Ref(std::string_view text) { return {text.data(), text.size()}; }
std::string_view View(llvm::StringRef text) { return {text.data(), text.size()}; }

std::string Count(size_t n, std::string_view noun) {
  if (n == 0) return fmt::format("no {}s", noun);
  return fmt::format("{} {}{}", n, noun, n == 1 ? "" : "s");
}

std::string List(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) text += fmt::format("{}`{}`", i == 0 ? "" : i + 1 == names.size() ? " and " : ", ", names[i]);
  return text;
}

/// Functions that are not in the table of built-in functions.
constexpr std::string_view kOtherFunctions[] = {"coalesce", "stdout", "stderr", "exit_code", "read_text", "read_json", "glob", "env", "store"};

std::string ShowSig(const ir::TypeTable& types, const ir::Signature& signature, const ir::SigType& type) {
  using Kind = ir::SigType::Kind;
  switch (type.kind) {
    case Kind::Basic: return types.Show(types.Basic(type.basic));
    case Kind::Var: return signature.variables[type.var].name;
    case Kind::List: return "List<" + ShowSig(types, signature, type.args[0]) + ">";
    case Kind::Optional: return ShowSig(types, signature, type.args[0]) + "?";
    case Kind::Map: return "Map<" + ShowSig(types, signature, type.args[0]) + ", " + ShowSig(types, signature, type.args[1]) + ">";
    case Kind::Pair: return "Pair<" + ShowSig(types, signature, type.args[0]) + ", " + ShowSig(types, signature, type.args[1]) + ">";
    case Kind::Type: return "a type";
  }
  JOBC_UNREACHABLE();
}

bool TakesCount(const ir::Signature& s, size_t n) { return s.variadic ? n >= s.params.size() : n == s.params.size(); }

const ir::SigType& ParamAt(const ir::Signature& s, size_t i) { return s.params[std::min(i, s.params.size() - 1)]; }

}  // namespace

void ExpressionChecker::CheckRest(const ast::Expr& e) {
  for (uint32_t i = 0; i < e.entries.size; ++i) {
    const ast::Entry& entry = file_.entries[e.entries.begin + i];
    if (entry.value.valid() && Ast(entry.value).kind != Kind::TypeArgument) Check(entry.value, {}, true);
  }
}

bool ExpressionChecker::OnlyPositional(const ast::Expr& e, std::string_view name) {
  bool fine = true;
  for (uint32_t i = 0; i < e.entries.size; ++i) {
    const ast::Entry& entry = file_.entries[e.entries.begin + i];
    if (!entry.name.valid()) continue;
    c_.diags.Emit(entry.name.span, diag::UnknownArgument, name, entry.name.text)
        .Label("its arguments have no names")
        .AddHelp("give the value alone", {{{entry.name.span.source, entry.name.span.begin, SpanOf(entry.value).begin}, ""}});
    fine = false;
  }
  if (!fine) CheckRest(e);
  return fine;
}

Val ExpressionChecker::CheckCall(ast::ExprId id, const ast::Expr& e, ir::TypeId expected, bool secret_ok) {
  Unit* unit = scope_.unit;
  std::string_view name = e.name.text;
  Span name_span = e.name.valid() ? e.name.span : e.span;
  if (!e.name.valid()) {
    ast::ExprId callee_id = Bare(file_.child(e, 0));
    if (!callee_id.valid()) return Error();
    const ast::Expr& callee = Ast(callee_id);
    if (callee.kind == Kind::Error) return Error();
    ast::ExprId root = callee.kind == Kind::Member ? file_.child(callee, 0) : ast::ExprId{};
    Symbol* symbol = root.valid() && Ast(root).kind == Kind::Name && FindLocal(Ast(root).name.text) == nullptr ? FindValue(Ast(root).name.text) : nullptr;
    if (symbol != nullptr && symbol->kind == SymbolKind::Import) {
      symbol->used = true;
      Unit* library = LibraryOf(*symbol);
      if (library == nullptr) {
        CheckRest(e);
        return Error();
      }
      auto it = library->fns.find(Ref(callee.name.text));
      if (it != library->fns.end()) {
        it->second.used = true;
        return CheckApply(e, it->second.index, callee.name.text, secret_ok);
      }
      std::vector<std::string_view> names;
      for (const auto& entry : library->fns) names.push_back(View(entry.first()));
      Span at = callee.name.span.valid() ? callee.name.span : callee.span;
      auto& d = c_.diags.Emit(at, diag::UnknownFunction, c_.sources.Text(callee.span)).Label("not declared in that file");
      Suggest(d, callee.name.text, names, at);
      CheckRest(e);
      return Error();
    }
    auto& d = c_.diags.Emit(callee.span, diag::NoSuchCallHere, TextOf(callee.span)).Label("not a function");
    if (callee.kind == Kind::Member && (ir::BuiltinFromName(callee.name.text).has_value() || unit->fns.count(Ref(callee.name.text)) != 0)) {
      d.AddHelp(fmt::format("functions stand before their arguments:  {}({}{}…)", callee.name.text, TextOf(SpanOf(root)), e.entries.size > 0 ? ", " : ""));
    }
    CheckRest(e);
    return Error();
  }
  auto fn = unit->fns.find(Ref(name));
  if (fn != unit->fns.end()) {
    fn->second.used = true;
    return CheckApply(e, fn->second.index, name, secret_ok);
  }
  if (name == "file" || name == "dir") return CheckFileCall(e, name == "dir");
  if (name == "text_file" || name == "json_file") return CheckTextFile(e, name == "json_file");
  if (name == "coalesce") return CheckCoalesceCall(e, expected);
  if (name == "stdout" || name == "stderr" || name == "exit_code" || name == "read_text" || name == "read_json") return CheckCapture(e);
  if (name == "glob") {
    c_.diags.Emit(e.span, diag::NoSuchCallHere, "glob").Label("only an output can be a glob").AddHelp("write  output { parts: List<File> = glob(\"…\") }  and use `output` of that job");
    CheckRest(e);
    return Error();
  }
  if (name == "env" || name == "store") {
    auto& d = c_.diags.Emit(e.span, diag::NoSuchCallHere, name).Label("only a secret is read from there").AddHelp(fmt::format("declare it:  secret name = {}", TextOf(e.span)));
    if (name == "env") d.AddHelp("values of the environment come in by parameters: JOB_PARAM_name sets `params.name`");
    CheckRest(e);
    return Error();
  }
  if (std::optional<ir::Builtin> builtin = ir::BuiltinFromName(name)) return CheckBuiltin(e, *builtin);

  std::vector<std::string_view> names(std::begin(kOtherFunctions), std::end(kOtherFunctions));
  for (size_t i = 0; i < ir::kBuiltinCount; ++i) names.push_back(ir::InfoOf(static_cast<ir::Builtin>(i)).name);
  for (const auto& entry : unit->fns) names.push_back(View(entry.first()));
  auto& d = c_.diags.Emit(name_span, diag::UnknownFunction, name).Label("not known");
  if (FindValue(name) != nullptr || FindLocal(name) != nullptr) d.Label("this is a value, not a function");
  else if (std::string_view here = FindSynonym(FunctionSynonyms(), name); here.starts_with('[')) d.AddHelp(fmt::format("here that is:  {}", here));
  else if (!here.empty()) d.AddHelp(fmt::format("here it is called `{}`", here), {{name_span, std::string(here)}});
  else Suggest(d, name, names, name_span);
  CheckRest(e);
  return Error();
}

Val ExpressionChecker::CheckApply(const ast::Expr& e, uint32_t fn, std::string_view name, bool secret_ok) {
  const FnInfo& info = c_.ResolveFn(fn);
  if (info.progress != Progress::Done) {
    CheckRest(e);
    return Error();
  }
  size_t count = info.param_types.size();
  llvm::SmallVector<const ast::Entry*, 8> given(count, nullptr);
  bool failed = false, spliced = false, misnamed = false;
  size_t positional = 0;
  size_t too_many = 0;
  for (uint32_t i = 0; i < e.entries.size; ++i) {
    const ast::Entry& entry = file_.entries[e.entries.begin + i];
    if (entry.splice) {
      c_.diags.Emit(entry.span, diag::NotSpliced, "list").Label("a declared function takes its arguments one by one");
      failed = spliced = true;
    } else if (entry.name.valid()) {
      auto found = std::find(info.param_names.begin(), info.param_names.end(), entry.name.text);
      if (found == info.param_names.end()) {
        auto& d = c_.diags.Emit(entry.name.span, diag::UnknownArgument, name, entry.name.text).Label("not one of its parameters");
        Suggest(d, entry.name.text, info.param_names, entry.name.span);
        failed = misnamed = true;
        Check(entry.value, {}, true);
        continue;
      }
      size_t index = static_cast<size_t>(found - info.param_names.begin());
      if (given[index] != nullptr) {
        c_.diags.Emit(entry.span, diag::GivenTwice, fmt::format("`{}`", entry.name.text)).Label("second value").Secondary(given[index]->span, "first value").AddHelp("keep one of them");
        failed = true;
      } else {
        given[index] = &entry;
      }
    } else if (positional < count) {
      if (given[positional] != nullptr) {
        c_.diags.Emit(entry.span, diag::GivenTwice, fmt::format("`{}`", info.param_names[positional])).Label("second value").Secondary(given[positional]->span, "first value").AddHelp("keep one of them");
        failed = true;
      }
      given[positional++] = &entry;
    } else {
      ++too_many;
      Check(entry.value, {}, true);
    }
  }
  if (too_many > 0) {
    std::string shape;
    for (size_t i = 0; i < count; ++i) shape += fmt::format("{}{}: {}", i == 0 ? "" : ", ", info.param_names[i], Show(info.param_types[i]));
    c_.diags.Emit(e.span, diag::ArgumentCount, name, Count(count, "argument"), fmt::format("{}", count + too_many))
        .Label(fmt::format("declared as {}({})", name, shape));
    failed = true;
  }
  llvm::SmallVector<Val, 8> args;
  std::vector<std::string> missing;
  std::string_view outer = refine_place_;
  // Where some are missing, it is not certain which parameters the others are for: their types say nothing then.
  if (too_many == 0 && !spliced && !misnamed && std::count(given.begin(), given.end(), nullptr) > 0 && positional == e.entries.size) {
    std::vector<std::pair<ir::TypeId, std::string>> have;
    for (uint32_t i = 0; i < e.entries.size; ++i) {
      const ast::ExprId value = file_.entries[e.entries.begin + i].value;
      const Val v = Check(value, {}, true);
      have.emplace_back(v.type, std::string(c_.sources.Text(SpanOf(value))));
    }
    std::string call, shape;
    size_t used = 0;
    for (size_t i = 0; i < count; ++i) {
      const bool takes = used < have.size() && (count - i == have.size() - used || Convertible(have[used].first, types_.Bare(info.param_types[i])));
      call += fmt::format("{}{}", i == 0 ? "" : ", ", takes ? have[used++].second : Example(info.param_types[i]));
      shape += fmt::format("{}{}: {}", i == 0 ? "" : ", ", info.param_names[i], Show(info.param_types[i]));
      if (!takes) missing.push_back(std::string(info.param_names[i]));
    }
    if (missing.empty()) missing.push_back(std::string(info.param_names.back()));
    c_.diags.Emit(e.span, diag::MissingArguments, name, List(missing))
        .Label(fmt::format("declared as {}({})", name, shape))
        .AddHelp(fmt::format("give all of them:  {}({})", name, call));
    return Error(info.result.valid() ? types_.Bare(info.result) : Basic(TK::Error));
  }
  for (size_t i = 0; i < count; ++i) {
    if (given[i] == nullptr) {
      missing.push_back(std::string(info.param_names[i]));
      continue;
    }
    std::string place = fmt::format("parameter `{}` of `{}`", info.param_names[i], name);
    refine_place_ = place;
    Val v = Check(given[i]->value, info.param_types[i], types_.kind(info.param_types[i]) == TK::Secret);
    refine_place_ = outer;
    failed |= v.error;
    args.push_back(std::move(v));
  }
  if (!missing.empty() && too_many == 0 && !spliced && !misnamed) {
    c_.diags.Emit(e.span, diag::MissingArguments, name, List(missing)).Label(fmt::format("takes {}", Count(count, "argument")));
    failed = true;
  }
  ir::TypeId result = info.result.valid() ? types_.Bare(info.result) : Basic(TK::Error);
  if (failed) return Error(result);
  if (types_.kind(result) == TK::Error) return Error();
  if (types_.kind(result) == TK::Secret && !secret_ok) return SecretFault(e.span);
  ir::ExprId body = c_.program.fns[info.program_index].body;
  if (body.valid() && exprs_[body].op == Op::Error) return Error(result);
  // A function may read parameters: it is as late as its body, too.
  Val v;
  v.type = result;
  llvm::SmallVector<ir::ExprId, 8> ids;
  for (const Val& arg : args) {
    Join(v, arg);
    ids.push_back(arg.expr);
  }
  v.expr = exprs_.Add(Op::Apply, result, info.program_index, 0, ids.data(), ids.size(), c_.PlaceOf(e.span));
  if (info.phase > v.phase) {
    Val leaf = Leaf(v.expr, result, info.phase, e.span, info.leaf);
    leaf.low_slot = v.low_slot;
    return leaf;
  }
  return Fold(std::move(v), e.span);
}

Val ExpressionChecker::CheckBuiltin(const ast::Expr& e, ir::Builtin builtin) {
  const ir::BuiltinInfo& info = ir::InfoOf(builtin);
  if (!OnlyPositional(e, info.name)) return Error();
  bool variadic = std::any_of(info.signatures.begin(), info.signatures.end(), [](const ir::Signature& s) { return s.variadic; });
  llvm::SmallVector<Given, 4> given;
  bool failed = false;
  int type_argument = -1;
  for (uint32_t i = 0; i < e.entries.size; ++i) {
    const ast::Entry& entry = file_.entries[e.entries.begin + i];
    Given g;
    g.entry = &entry;
    if (entry.value.valid() && Ast(entry.value).kind == Kind::TypeArgument) {
      g.type_argument = c_.ResolveType(Ast(entry.value).type, *scope_.unit);
      g.value.type = types_.Bare(g.type_argument);
      if (types_.kind(g.type_argument) == TK::Error) failed = true;
      type_argument = static_cast<int>(i);
      given.push_back(std::move(g));
      continue;
    }
    g.value = Check(entry.value);
    if (entry.splice && !g.value.error) {
      ir::TypeId inner = types_.NonNull(g.value.type);
      if (!variadic || types_.kind(inner) != TK::List) {
        auto& d = c_.diags.Emit(entry.span, diag::NotSpliced, Show(g.value.type)).Label(variadic ? "expected a list" : fmt::format("`{}` takes its arguments one by one", info.name));
        if (types_.kind(inner) == TK::List && !variadic) d.AddHelp("leave out the `...`", {{{entry.span.source, entry.span.begin, SpanOf(entry.value).begin}, ""}});
        g.value = Error();
      }
    }
    failed |= g.value.error;
    given.push_back(std::move(g));
  }
  auto types_of = [&]() {
    std::vector<ir::TypeId> all;
    for (const Given& g : given) {
      bool splice = g.entry->splice && !g.value.error && types_.kind(types_.NonNull(g.value.type)) == TK::List;
      all.push_back(splice ? types_[types_.NonNull(g.value.type)].a : g.value.type);
    }
    return all;
  };
  ir::SignatureMatch match = ir::ResolveCall(types_, builtin, types_of(), type_argument);
  if (match.signature == nullptr && !failed) {
    // A literal where only a path fits is a path.
    std::vector<ir::TypeId> as_files = types_of();
    bool any = false;
    for (size_t i = 0; i < given.size(); ++i) {
      ast::ExprId literal = Bare(given[i].entry->value);
      if (literal.valid() && Ast(literal).kind == Kind::String && KindOf(given[i].value) == TK::String && given[i].value.phase <= Phase::P) {
        as_files[i] = Basic(TK::File);
        any = true;
      }
    }
    ir::SignatureMatch file_match = any ? ir::ResolveCall(types_, builtin, as_files, type_argument) : ir::SignatureMatch{};
    if (file_match.signature != nullptr) {
      for (size_t i = 0; i < given.size(); ++i) {
        if (types_.kind(as_files[i]) == TK::File && KindOf(given[i].value) == TK::String) given[i].value = FileOf(given[i].value, false, SpanOf(given[i].entry->value));
      }
      match = std::move(file_match);
    }
  }
  if (match.signature == nullptr) {
    if (!failed) ReportBadCall(e, builtin, given);
    return Error();
  }
  ir::TypeId result = match.result;
  if (failed) return Error(result);
  llvm::SmallVector<Val, 4> args;
  uint32_t of_type = 0;
  for (size_t i = 0; i < given.size(); ++i) {
    if (given[i].type_argument.valid()) {
      of_type = given[i].type_argument.index;
      continue;
    }
    Val v = std::move(given[i].value);
    ast::ExprId at = given[i].entry->value;
    if (given[i].entry->splice) {
      v = Make(Op::Splice, v.type, {&v}, given[i].entry->span);
    } else if (match.expected[i].valid()) {
      v = Coerce(std::move(v), types_.Bare(match.expected[i]), at);
    }
    if (!v.error && HasUnknown(v.type) && types_.kind(v.type) == TK::List) v = Coerce(std::move(v), types_.List(Basic(TK::String)), at);
    args.push_back(std::move(v));
  }
  TK kind = types_.kind(result);
  if (kind == TK::Error) result = Basic(TK::Int);  // `sum([])`: nothing says of what
  result = types_.Bare(result);
  Val v = Make(Op::Call, result, args, e.span, static_cast<uint32_t>(builtin), of_type);
  bool reads = builtin == ir::Builtin::size || (builtin == ir::Builtin::sha256 && !args.empty() && KindOf(args[0]) == TK::File);
  if (reads && !v.error && v.phase < Phase::P) {
    Val leaf = Leaf(v.expr, v.type, Phase::P, e.span, e.span);
    leaf.low_slot = v.low_slot;
    return leaf;
  }
  return v;
}

void ExpressionChecker::ReportBadCall(const ast::Expr& e, ir::Builtin builtin, llvm::ArrayRef<Given> given) {
  const ir::BuiltinInfo& info = ir::InfoOf(builtin);
  std::string shapes;
  for (const ir::Signature& s : info.signatures) shapes += fmt::format("{}{}{}", shapes.empty() ? "" : "; ", info.name, s.text);
  size_t n = given.size();
  bool count_fits = std::any_of(info.signatures.begin(), info.signatures.end(), [&](const ir::Signature& s) { return TakesCount(s, n); });
  if (!count_fits) {
    std::vector<size_t> counts;
    bool variadic = false;
    for (const ir::Signature& s : info.signatures) {
      counts.push_back(s.params.size());
      variadic |= s.variadic;
    }
    std::sort(counts.begin(), counts.end());
    counts.erase(std::unique(counts.begin(), counts.end()), counts.end());
    std::string text;
    for (size_t i = 0; i < counts.size(); ++i) text += fmt::format("{}{}", i == 0 ? "" : i + 1 == counts.size() ? " or " : ", ", counts[i]);
    text = variadic ? fmt::format("{} or more arguments", counts.front()) : fmt::format("{} argument{}", text, counts.size() == 1 && counts[0] == 1 ? "" : "s");
    c_.diags.Emit(e.span, diag::ArgumentCount, info.name, text, fmt::format("{}", n)).Label("wrong number of arguments").Note(shapes);
    return;
  }
  // The first argument that fits nowhere, alone or beside the ones before it.
  std::vector<ir::TypeId> all;
  for (const Given& g : given) {
    bool splice = g.entry->splice && types_.kind(types_.NonNull(g.value.type)) == TK::List;
    all.push_back(splice ? types_[types_.NonNull(g.value.type)].a : g.value.type);
  }
  int type_argument = -1;
  for (size_t i = 0; i < n; ++i) {
    if (given[i].type_argument.valid()) type_argument = static_cast<int>(i);
  }
  ir::TypeId any = Basic(TK::Error);
  size_t culprit = n;
  for (size_t i = 0; i < n && culprit == n; ++i) {
    std::vector<ir::TypeId> some(n, any);
    for (size_t k = 0; k <= i; ++k) some[k] = all[k];
    if (ir::ResolveCall(types_, builtin, some, type_argument).signature == nullptr) culprit = i;
  }
  if (culprit == n) culprit = 0;
  std::vector<ir::TypeId> before(n, any);
  for (size_t k = 0; k < culprit; ++k) before[k] = all[k];
  std::vector<std::string> wanted;
  for (const ir::Signature& s : info.signatures) {
    if (!TakesCount(s, n) || s.params.empty()) continue;
    // Only what the arguments before it leave open.
    bool open = culprit == 0;
    if (!open) {
      ir::SignatureMatch m = ir::ResolveCall(types_, builtin, before, type_argument);
      open = m.signature == nullptr || m.signature == &s;
      if (!open) {
        const ir::SigType& first = ParamAt(s, 0);
        open = m.signature != nullptr && ShowSig(types_, s, first) == ShowSig(types_, *m.signature, ParamAt(*m.signature, 0));
      }
    }
    if (!open) continue;
    std::string text = ShowSig(types_, s, ParamAt(s, culprit));
    if (std::find(wanted.begin(), wanted.end(), text) == wanted.end()) wanted.push_back(text);
  }
  const Given& bad = given[culprit];
  // A variable bound by the arguments before: say the type it stands for.
  if (wanted.size() == 1 && culprit > 0) {
    ir::SignatureMatch m = ir::ResolveCall(types_, builtin, before, type_argument);
    if (m.signature != nullptr && culprit < m.expected.size() && m.expected[culprit].valid() && !HasUnknown(m.expected[culprit])) wanted[0] = Show(m.expected[culprit]);
  }
  if (types_.IsOptional(all[culprit])) {
    std::vector<ir::TypeId> some = before;
    some[culprit] = types_.NonNull(all[culprit]);
    if (ir::ResolveCall(types_, builtin, some, type_argument).signature != nullptr) {
      NotNull(bad.value, bad.entry->value, {});
      return;
    }
  }
  std::string expected;
  for (const std::string& w : wanted) expected += (expected.empty() ? "" : "` or `") + w;
  Span span = SpanOf(bad.entry->value);
  if (bad.type_argument.valid()) {
    c_.diags.Emit(span, diag::NotAValue, "a type").Label("expected a value").Note(shapes);
    return;
  }
  auto& d = c_.diags.Emit(span, diag::TypeMismatch, expected.empty() ? "another type" : expected, Show(bad.value.type)).Label(fmt::format("`{}`", Show(bad.value.type)));
  d.Note(shapes);
  std::string text = TextOf(span);
  TK kind = KindOf(bad.value);
  if (kind == TK::Json) {
    d.AddHelp(fmt::format("give the JSON value a type:  decode({}, …)", text));
  } else if (wanted.size() == 1 && wanted[0] == "String" && types_.HasText(bad.value.type)) {
    d.AddHelp(fmt::format("for its text:  to_string({})", text), {{span, fmt::format("to_string({})", c_.sources.Text(span))}});
  } else if (wanted.size() == 1 && wanted[0] == "Regex" && kind == TK::String && Ast(Bare(bad.entry->value)).kind == Kind::String) {
    d.AddHelp(fmt::format("a regular expression is written re{}", text), {{{span.source, span.begin, span.begin}, "re"}});
  } else if (kind == TK::List && types_.IsOptional(types_[bad.value.type].a)) {
    d.AddHelp(fmt::format("leave the nulls out:  compact({})", text), {{span, fmt::format("compact({})", c_.sources.Text(span))}});
  } else if (kind == TK::Range) {
    d.AddHelp("make a list:  range(from, to), without the end");
  }
}

Val ExpressionChecker::CheckFileCall(const ast::Expr& e, bool dir) {
  std::string_view name = dir ? "dir" : "file";
  ir::TypeId type = Basic(dir ? TK::Dir : TK::File);
  if (!OnlyPositional(e, name)) return Error(type);
  if (e.entries.size != 1) {
    c_.diags.Emit(e.span, diag::ArgumentCount, name, "1 argument", fmt::format("{}", e.entries.size)).Label("wrong number of arguments").AddHelp(fmt::format("write `{}(\"path\")`", name));
    CheckRest(e);
    return Error(type);
  }
  const ast::Entry& entry = file_.entries[e.entries.begin];
  if (entry.splice) {
    c_.diags.Emit(entry.span, diag::NotSpliced, "list").Label("takes one path");
    return Error(type);
  }
  Val v = Check(entry.value, Basic(TK::String));
  return FileOf(std::move(v), dir, e.span);
}

ir::ExprId ExpressionChecker::PathInText(ir::ExprId id, std::set<uint32_t>& seen) const {
  if (!id.valid() || !seen.insert(id.index).second) return {};
  const ir::Expr e = exprs_[id];
  bool makes_text = e.op == Op::Concat || e.op == Op::ToJson;
  if (e.op == Op::Call) {
    switch (static_cast<ir::Builtin>(e.a)) {
      case ir::Builtin::to_string: case ir::Builtin::join: case ir::Builtin::format: case ir::Builtin::json: makes_text = true; break;
      default: break;
    }
  }
  for (uint32_t i = 0; i < e.args.size; ++i) {
    const ir::ExprId arg = exprs_.arg(e, i);
    if (makes_text && types_.HasFile(exprs_[arg].type)) return arg;
    if (const ir::ExprId found = PathInText(arg, seen); found.valid()) return found;
  }
  if (e.op == Op::Let) return PathInText(c_.program.lets[e.a].value, seen);
  if (e.op == Op::Apply) return PathInText(c_.program.fns[e.a].body, seen);
  return {};
}

Val ExpressionChecker::CheckTextFile(const ast::Expr& e, bool json) {
  const std::string_view name = json ? "json_file" : "text_file";
  const ir::TypeId type = Basic(TK::File);
  if (!OnlyPositional(e, name)) return Error(type);
  if (e.entries.size != 2) {
    c_.diags.Emit(e.span, diag::ArgumentCount, name, "2 arguments", fmt::format("{}", e.entries.size))
        .Label("its name, and what is in it")
        .AddHelp(json ? "for example:  json_file(\"config.json\", { threads = 4 })" : "for example:  text_file(\"hosts.txt\", \"…\")");
    CheckRest(e);
    return Error(type);
  }
  const ast::Entry& first = file_.entries[e.entries.begin];
  const ast::Entry& second = file_.entries[e.entries.begin + 1];
  for (const ast::Entry* entry : {&first, &second}) {
    if (!entry->splice) continue;
    c_.diags.Emit(entry->span, diag::NotSpliced, "list").Label("takes a name and a content");
    return Error(type);
  }
  Val title = Check(first.value, Basic(TK::String));
  Val content = json ? CheckJson(second.value) : Check(second.value, Basic(TK::String));
  if (title.error || content.error) return Error(type);
  if (exprs_.IsConst(title.expr)) {
    const std::string& text = exprs_.ConstValue(title.expr).as_string();
    if (const std::string fault = ir::FileNameFault(text); !fault.empty()) {
      auto& d = c_.diags.Emit(SpanOf(first.value), diag::NotA, "the name of a file", TextOf(SpanOf(first.value))).Label(fault);
      const std::string_view last = ir::PathBasename(text);
      if (text.find('/') != std::string::npos && ir::FileNameFault(last).empty()) {
        d.AddHelp(fmt::format("the job finds it at `input.x`, in a directory of its own:  {}(\"{}\", …)", name, last), {{SpanOf(first.value), fmt::format("\"{}\"", last)}});
      }
      return Error(type);
    }
  }
  std::set<uint32_t> seen;
  if (const ir::ExprId path = PathInText(content.expr, seen); path.valid()) {
    const ir::Place place = exprs_.place(path);
    const Span span = place.source == file_.source.index ? Span{SourceId{place.source}, place.begin, place.end} : SpanOf(second.value);
    auto& d = c_.diags.Emit(span, diag::PathInContent, name).Label(fmt::format("`{}`", Show(exprs_[path].type)));
    if (span.begin < e.span.begin || span.end > e.span.end) d.Secondary(e.span, "this content");
    d.Note("where a file lies is known only where an attempt runs; the content is the same everywhere")
        .AddHelp("declare the file as an input of its own: `$JOB_INPUT/inputs.json` has the paths of all inputs")
        .AddHelp(fmt::format("or write its name alone:  basename({})", TextOf(span)));
    return Error(type);
  }
  return Make(Op::Call, type, {&title, &content}, e.span, static_cast<uint32_t>(json ? ir::Builtin::json_file : ir::Builtin::text_file));
}

Val ExpressionChecker::CheckCoalesceCall(const ast::Expr& e, ir::TypeId expected) {
  if (!OnlyPositional(e, "coalesce")) return Error();
  if (e.entries.size < 2) {
    c_.diags.Emit(e.span, diag::ArgumentCount, "coalesce", "2 or more arguments", fmt::format("{}", e.entries.size)).Label("the first that is not null is taken");
    CheckRest(e);
    return Error();
  }
  llvm::SmallVector<Val, 4> args;
  ir::TypeId inner;
  bool failed = false;
  for (uint32_t i = 0; i < e.entries.size; ++i) {
    const ast::Entry& entry = file_.entries[e.entries.begin + i];
    if (entry.splice) {
      c_.diags.Emit(entry.span, diag::NotSpliced, "list").Label("give the values one by one");
      failed = true;
      continue;
    }
    if (i > 0) ++conditional_;
    Val v = Check(entry.value);
    if (i > 0) --conditional_;
    if (v.error || KindOf(v) == TK::Error) {
      failed = true;
      continue;
    }
    bool last = i + 1 == e.entries.size;
    bool null = types_.IsOptional(v.type) || KindOf(v) == TK::Null;
    if (!last && !null && KindOf(v) != TK::Json) {
      c_.diags.Emit(SpanOf(entry.value), diag::NeverNull).Label("what comes after it is never used");
    }
    if (!inner.valid() && KindOf(v) != TK::Null) {
      inner = types_.NonNull(v.type);
    } else if (inner.valid()) {
      v = Coerce(std::move(v), null ? types_.Optional(inner) : inner, entry.value);
      failed |= v.error;
    }
    args.push_back(std::move(v));
  }
  if (failed || !inner.valid()) return Error(inner);
  bool null = types_.IsOptional(args.back().type) || KindOf(args.back()) == TK::Null;
  for (Val& v : args) {
    if (!v.error && KindOf(v) == TK::Null) v = ConstantOf(types_.Optional(inner), {}, e.span);
  }
  return Make(Op::Coalesce, null ? types_.Optional(inner) : inner, args, e.span);
}

Val ExpressionChecker::CheckCapture(const ast::Expr& e) {
  std::string_view name = e.name.text;
  ir::TypeId string = Basic(TK::String);
  bool json = name == "read_json", text = name == "read_text";
  ir::TypeId type = name == "exit_code" ? Basic(TK::Int) : json ? Basic(TK::Error) : string;
  if (!OnlyPositional(e, name)) return Error(type);
  size_t want = json ? 2 : text ? 1 : 0;
  if (e.entries.size != want) {
    c_.diags.Emit(e.span, diag::ArgumentCount, name, Count(want, "argument"), fmt::format("{}", e.entries.size))
        .Label("wrong number of arguments")
        .AddHelp(json ? "write `read_json(\"path\", Type)`" : text ? "write `read_text(\"path\")`" : fmt::format("write `{}()`", name));
    CheckRest(e);
    return Error(type);
  }
  Val path;
  uint32_t of_type = 0;
  if (want > 0) {
    ast::ExprId path_id = file_.entries[e.entries.begin].value;
    path = Check(path_id, string);
    if (!path.error && path.phase > Phase::P) {
      c_.diags.Emit(path.leaf.valid() ? path.leaf : SpanOf(path_id), diag::KnownTooLate, TextOf(path.leaf.valid() ? path.leaf : SpanOf(path_id)), "a path")
          .Label("paths of outputs are known when the plan is made");
      path.error = true;
    }
  }
  if (json) {
    ast::ExprId type_id = file_.entries[e.entries.begin + 1].value;
    if (!type_id.valid() || Ast(type_id).kind != Kind::TypeArgument) {
      if (type_id.valid()) c_.diags.Emit(SpanOf(type_id), diag::NotA, "a type", "a value").Label("the type the file is decoded into").AddHelp("write `read_json(\"path\", Type)`");
      return Error();
    }
    ir::TypeId decoded = c_.ResolveType(Ast(type_id).type, *scope_.unit);
    if (types_.kind(decoded) == TK::Error) return Error();
    of_type = decoded.index;
    type = types_.Bare(decoded);
  }
  if ((scope_.words & kCapture) == 0) {
    c_.diags.Emit(e.span, diag::KnownTooLate, TextOf(e.span), Place())
        .Label("known only when an attempt has ended")
        .AddHelp(fmt::format("declare an output for it and use that:  output {{ x: {} = {} }}", Show(type), TextOf(e.span)));
    return Error(type);
  }
  if (path.error) return Error(type);
  Op op = name == "stdout" ? Op::Stdout : name == "stderr" ? Op::Stderr : name == "exit_code" ? Op::ExitCode : text ? Op::ReadText : Op::ReadJson;
  Val v = want > 0 ? Make(op, type, {&path}, e.span, 0, json ? of_type : 0) : Val{};
  ir::ExprId expr = want > 0 ? v.expr : exprs_.Add(op, type, {}, c_.PlaceOf(e.span));
  Val leaf = Leaf(expr, type, Phase::E, e.span, e.span);
  if (want > 0) leaf.low_slot = v.low_slot;
  return leaf;
}

// ---- constructors ----

Val ExpressionChecker::CheckPair(const ast::Expr& e) {
  Val parts[2];
  bool given[2] = {false, false};
  bool failed = false;
  for (uint32_t i = 0; i < e.entries.size; ++i) {
    const ast::Entry& entry = file_.entries[e.entries.begin + i];
    Val v = Check(entry.value);
    int at = entry.name.text == "first" ? 0 : entry.name.text == "second" ? 1 : -1;
    if (at < 0) {
      auto& d = c_.diags.Emit(entry.name.valid() ? entry.name.span : entry.span, diag::UnknownField, "Pair", entry.name.text).Label("a pair has `first` and `second`");
      Suggest(d, entry.name.text, {"first", "second"}, entry.name.span);
      failed = true;
      continue;
    }
    if (given[at]) {
      c_.diags.Emit(entry.span, diag::GivenTwice, fmt::format("`{}`", entry.name.text)).Label("second value").AddHelp("keep one of them");
      failed = true;
    }
    given[at] = true;
    failed |= v.error;
    parts[at] = std::move(v);
  }
  if (!failed && (!given[0] || !given[1])) {
    c_.diags.Emit(e.span, diag::MissingFields, "Pair", given[0] ? "`second`" : given[1] ? "`first`" : "`first` and `second`").Label("incomplete");
    failed = true;
  }
  if (failed) return Error();
  return Make(Op::Struct, types_.Pair(parts[0].type, parts[1].type), {&parts[0], &parts[1]}, e.span);
}

Val ExpressionChecker::CheckStruct(const ast::Expr& e, ir::TypeId expected) {
  ast::ExprId path_id = file_.child(e, 0);
  if (!path_id.valid()) return Error();
  const ast::Expr& path = Ast(path_id);
  Unit* unit = scope_.unit;
  std::string_view name = path.name.text;
  auto rest = [&] {
    for (uint32_t i = 0; i < e.entries.size; ++i) Check(file_.entries[e.entries.begin + i].value);
    return Error();
  };
  if (path.kind == Kind::Member) {
    ast::ExprId root = file_.child(path, 0);
    Symbol* symbol = root.valid() && Ast(root).kind == Kind::Name ? FindValue(Ast(root).name.text) : nullptr;
    if (symbol == nullptr || symbol->kind != SymbolKind::Import) {
      c_.diags.Emit(path.span, diag::UnknownType, TextOf(path.span)).Label("not a type");
      return rest();
    }
    symbol->used = true;
    unit = LibraryOf(*symbol);
    if (unit == nullptr) return rest();
  } else if (path.kind != Kind::Name) {
    return rest();
  }
  auto it = unit->types.find(Ref(name));
  if (it == unit->types.end()) {
    if (path.kind == Kind::Name && name == "Pair") return CheckPair(e);
    std::vector<std::string_view> names;
    for (const auto& entry : unit->types) {
      if (entry.second.kind != SymbolKind::Enum) names.push_back(View(entry.first()));
    }
    auto& d = c_.diags.Emit(path.span, diag::UnknownType, TextOf(path.span)).Label("no struct has this name");
    Suggest(d, name, names, path.name.span.valid() ? path.name.span : path.span);
    return rest();
  }
  it->second.used = true;
  ir::TypeId type = c_.ResolveTypeSymbol(it->second);
  if (!type.valid() || types_.kind(type) == TK::Error) return rest();
  ir::TypeId declared = type;
  type = types_.Bare(type);
  if (types_.kind(type) != TK::Struct) {
    c_.diags.Emit(path.span, diag::NotA, "a struct", fmt::format("`{}`", Show(type))).Label("only a struct is written with fields");
    return rest();
  }
  ir::StructId id{types_[type].def};
  size_t count = types_[id].fields.size();
  std::string title = types_[id].name;
  llvm::SmallVector<const ast::Entry*, 16> given(count, nullptr);
  bool failed = false;
  for (uint32_t i = 0; i < e.entries.size; ++i) {
    const ast::Entry& entry = file_.entries[e.entries.begin + i];
    if (!entry.name.valid()) {
      failed = true;
      continue;
    }
    size_t field = 0;
    while (field < count && types_[id].fields[field].name != entry.name.text) ++field;
    if (field == count) {
      std::vector<std::string> names;
      for (const ir::Field& f : types_[id].fields) names.push_back(f.name);
      std::vector<std::string_view> views(names.begin(), names.end());
      auto& d = c_.diags.Emit(entry.name.span, diag::UnknownField, title, entry.name.text).Label("not one of its fields");
      Suggest(d, entry.name.text, views, entry.name.span);
      d.Secondary(it->second.span, "declared here");
      Check(entry.value);
      failed = true;
    } else if (given[field] != nullptr) {
      c_.diags.Emit(entry.name.span, diag::GivenTwice, fmt::format("`{}`", entry.name.text)).Label("second value").Secondary(given[field]->name.span, "first value").AddHelp("keep one of them");
      Check(entry.value);
      failed = true;
    } else {
      given[field] = &entry;
    }
  }
  llvm::SmallVector<Val, 16> args;
  std::vector<std::string> missing;
  std::string_view outer = refine_place_;
  for (size_t i = 0; i < count; ++i) {
    ir::TypeId field_type = types_[id].fields[i].type;
    ir::ExprId fallback = types_[id].fields[i].fallback;
    if (given[i] != nullptr) {
      std::string place = fmt::format("field `{}` of `{}`", types_[id].fields[i].name, title);
      refine_place_ = place;
      Val v = Check(given[i]->value, field_type);
      refine_place_ = outer;
      failed |= v.error;
      args.push_back(std::move(v));
    } else if (fallback.valid()) {
      Val v;
      v.expr = fallback;
      v.type = types_.Bare(field_type);
      if (exprs_[fallback].op == Op::Error) v.error = true;
      args.push_back(v);
    } else if (types_.IsOptional(field_type)) {
      args.push_back(ConstantOf(types_.Bare(field_type), {}, e.span));
    } else if (field_type.valid() && types_.kind(field_type) == TK::Error) {
      failed = true;
    } else {
      missing.push_back(types_[id].fields[i].name);
    }
  }
  if (!missing.empty()) {
    std::string fields;
    for (const std::string& m : missing) {
      std::string example = "…";
      for (const ir::Field& field : types_[id].fields) {
        if (field.name == m && field.type.valid()) example = Example(field.type);
      }
      fields += fmt::format("{}{} = {}", fields.empty() ? "" : ", ", m, example);
    }
    c_.diags.Emit(path.span, diag::MissingFields, title, List(missing))
        .Label(missing.size() == 1 ? "a field is missing" : fmt::format("{} fields are missing", missing.size()))
        .Secondary(it->second.span, "declared here")
        .AddHelp(fmt::format("add:  {}", fields));
    failed = true;
  }
  if (failed) return Error(type);
  Val v = Make(Op::Struct, type, args, e.span);
  return declared == type ? v : Refine(std::move(v), declared, e.span);
}

}  // namespace jobc::check
